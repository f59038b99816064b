package accounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// A display beside a door is paired like a television (RFC 8628). It gets a random secret, which only its browser keeps, and shows a short
// code derived from it. When an administrator types in the code, a token with that secret is issued to the user who stands for the door.

// The codes that displays show: eight letters in two groups, without vowels, so that they spell no words.
const (
	displayLetters  = "BCDFGHJKLMNPQRSTVWXZ"
	displayCodeLife = 10 * time.Minute
)

// ErrNoDisplay means that no display has shown the code recently.
var ErrNoDisplay = errors.New("no display shows this code")

// codeOf is the code that a display with a secret shows.
func codeOf(secret string) string {
	sum := sha256.Sum256([]byte("display " + secret))
	var b strings.Builder
	for i := range 8 {
		if i == 4 {
			b.WriteByte('-')
		}
		b.WriteByte(displayLetters[int(sum[i])%len(displayLetters)])
	}
	return b.String()
}

// typedCode normalizes a code that was typed in.
func typedCode(code string) string {
	code = strings.Map(func(r rune) rune {
		if !strings.ContainsRune(displayLetters, r) {
			return -1
		}
		return r
	}, strings.ToUpper(code))
	if len(code) != 8 {
		return ""
	}
	return code[:4] + "-" + code[4:]
}

// ShowCode returns the code that a display at the door of a room shows until it is paired, and the secret that it must keep: the given one, or
// a new one if that has expired or was never issued. client is the display's address. The error is *[TooManyTries] if it has asked for too many.
func (a *Accounts) ShowCode(ctx context.Context, room domain.RoomID, secret, client string, at time.Time) (kept, code string, err error) {
	if wellFormed(secret) {
		code = codeOf(secret)
		c, err := a.directory.Code(ctx, hashOf(code))
		if err == nil && c.Room == room && c.Token == hashOf(secret) && at.Before(c.ExpiresAt) {
			return secret, code, nil
		}
		if err != nil && !errors.Is(err, directory.ErrUnknown) {
			return "", "", err
		}
	}
	if err := a.byDisplay.try(client, at); err != nil {
		return "", "", err
	}
	secret = newToken()
	code = codeOf(secret)
	return secret, code, a.addCode(ctx, at, directory.Code{ID: hashOf(code), Room: room, Token: hashOf(secret), ExpiresAt: at.Add(displayCodeLife)})
}

// PairDisplay issues a token to the display that shows a code, for the longest time for which a token is valid. The error is
// [ErrByToken], [ErrNoDisplay], *[TooManyTries], or [directory.ErrNameTaken] if a user who is no door has the name of the room's door.
func (a *Accounts) PairDisplay(ctx context.Context, r Request, code string) (Token, error) {
	if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return Token{}, err
	}
	if r.Actor.ByToken {
		return Token{}, ErrByToken
	}
	if err := a.byDisplay.try("user "+string(r.Actor.User), r.At); err != nil {
		return Token{}, err
	}
	c, err := a.directory.Code(ctx, hashOf(typedCode(code)))
	if errors.Is(err, directory.ErrUnknown) || err == nil && (c.Room == "" || !r.At.Before(c.ExpiresAt)) {
		return Token{}, ErrNoDisplay
	}
	if err != nil {
		return Token{}, err
	}
	a.byDisplay.succeed("user " + string(r.Actor.User))
	u, err := a.door(ctx, r, c.Room)
	if err != nil {
		return Token{}, err
	}
	if err := a.directory.TakeCode(ctx, c.ID); errors.Is(err, directory.ErrUnknown) {
		return Token{}, ErrNoDisplay
	} else if err != nil {
		return Token{}, err
	}
	return a.issue(ctx, r, u, c.Token, NewToken{User: u.ID, Label: "display", Roles: domain.NewRoles(domain.RoleDoor), Rooms: domain.NewRooms(c.Room), ExpiresAt: r.At.Add(domain.MaxTokenLife)})
}

// door returns the user who is the door of a room, and adds them if necessary.
func (a *Accounts) door(ctx context.Context, r Request, room domain.RoomID) (domain.User, error) {
	name, role := "door-"+string(room), domain.NewRoles(domain.RoleDoor)
	name = name[:min(len(name), maxName)]
	id, err := a.AddUser(ctx, r, NewUser{Name: name, Roles: role, Rooms: domain.NewRooms(room)})
	if errors.Is(err, directory.ErrNameTaken) {
		known, err := a.Named(ctx, r, name)
		if err != nil {
			return domain.User{}, err
		}
		if known.Roles != role {
			return domain.User{}, directory.ErrNameTaken
		}
		if !known.Rooms.Has(room) { // whose id differs only in case, or after the end of a long name
			if err := a.GiveRoles(ctx, r, known.ID, role, domain.NewRooms(append(known.Rooms.List(), room)...)); err != nil {
				return domain.User{}, err
			}
		}
		id = known.ID
	} else if err != nil {
		return domain.User{}, err
	}
	return a.user(ctx, id)
}
