package domain

import (
	"errors"
	"time"
)

// TokenID names a token for the API. It is the beginning of the hash of its secret.
type TokenID string

// Stream is the name of the token's stream.
func (id TokenID) Stream() string { return TokenCategory + "-" + string(id) }

// The events of a token's stream. They are stored forever.
type (
	// TokenIssued says that whoever has the secret acts for the user, in some of their roles and for some of their rooms.
	TokenIssued struct {
		TokenID TokenID `json:"tokenId"`
		Hash    string  `json:"hash"` // SHA-256 of the secret, in hexadecimal
		UserID  UserID  `json:"userId"`
		Roles   Roles   `json:"roles"`
		Rooms   Rooms   `json:"rooms,omitempty"`
		// Feeds says that it opens calendar feeds and nothing else: calendar programs keep it as a password.
		Feeds     bool      `json:"feeds,omitzero"`
		ExpiresAt time.Time `json:"expiresAt"`
		At        time.Time `json:"at"`
	}

	// TokenRevoked says that the token is over. Nothing follows it.
	TokenRevoked struct {
		TokenID TokenID   `json:"tokenId"`
		At      time.Time `json:"at"`
	}
)

func (TokenIssued) EventType() string  { return "TokenIssued" }
func (TokenRevoked) EventType() string { return "TokenRevoked" }

// MaxTokenLife is the longest time for which a token is issued.
const MaxTokenLife = 2 * 366 * 24 * time.Hour

var (
	// ErrTokenNotFound means that no token has this id.
	ErrTokenNotFound = errors.New("there is no such token")
	// ErrTokenLife means that a token would expire in the past, or later than [MaxTokenLife] from now.
	ErrTokenLife = errors.New("a token expires in the future, within two years")
	// ErrBeyondUser means that a token would have roles or rooms that its user does not have.
	ErrBeyondUser = errors.New("a token has no more roles and rooms than its user")
)

// Token is the state of one token. The zero value is a token that does not exist.
type Token struct {
	ID        TokenID
	Hash      string
	User      UserID
	Roles     Roles
	Rooms     Rooms
	Feeds     bool // opens calendar feeds and nothing else
	IssuedAt  time.Time
	ExpiresAt time.Time
	RevokedAt time.Time // zero until it is revoked
}

// Evolve folds one event of the token's stream.
func (t Token) Evolve(event Event) Token {
	switch e := event.(type) {
	case TokenIssued:
		return Token{ID: e.TokenID, Hash: e.Hash, User: e.UserID, Roles: e.Roles, Rooms: e.Rooms, Feeds: e.Feeds, IssuedAt: e.At, ExpiresAt: e.ExpiresAt}
	case TokenRevoked:
		t.RevokedAt = e.At
	}
	return t
}

// Actor returns who the token acts as at a time; false if it or its user can do nothing then. The token has no more roles and rooms than
// its user has at that time.
func (t Token) Actor(u User, now time.Time) (Actor, bool) {
	a, active := u.Actor()
	a.Roles, a.Rooms, a.ByToken = a.Roles.And(t.Roles), a.Rooms.And(t.Rooms), true
	return a, active && t.ID != "" && t.User == u.ID && t.RevokedAt.IsZero() && now.Before(t.ExpiresAt)
}

// DecideIssue issues a token.
//
//	given the user has its roles and rooms, and it expires in time  then TokenIssued
//	given the token exists                                          then nothing: a repeat
//	given no such user                                              then ErrUserNotFound
//	given no role                                                   then ErrNoRoles
//	given the user lacks a role or room                             then ErrBeyondUser
//	given it expires too early or too late                          then ErrTokenLife
func DecideIssue(t Token, u User, issue TokenIssued) ([]Event, error) {
	switch err := u.exists(); {
	case err != nil:
		return nil, err
	case issue.Roles == "":
		return nil, ErrNoRoles
	case u.Roles.And(issue.Roles) != issue.Roles, u.Rooms.And(issue.Rooms) != issue.Rooms:
		return nil, ErrBeyondUser
	case !issue.ExpiresAt.After(issue.At) || issue.ExpiresAt.Sub(issue.At) > MaxTokenLife:
		return nil, ErrTokenLife
	case t.ID != "":
		return nil, nil
	}
	return []Event{issue}, nil
}

// DecideRevoke revokes a token.
//
//	given it is not revoked  then TokenRevoked
//	given it is              then nothing: a repeat
//	given no such token      then ErrTokenNotFound
func DecideRevoke(t Token, at time.Time) ([]Event, error) {
	switch {
	case t.ID == "":
		return nil, ErrTokenNotFound
	case !t.RevokedAt.IsZero():
		return nil, nil
	}
	return []Event{TokenRevoked{TokenID: t.ID, At: at}}, nil
}
