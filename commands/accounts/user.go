package accounts

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// The values of commands that may be invalid.
const (
	FieldName     domain.Field = "name"
	FieldFullName domain.Field = "fullName"
	FieldAddress  domain.Field = "address"
	FieldPassword domain.Field = "password"
	FieldRoles    domain.Field = "roles"
	FieldRooms    domain.Field = "rooms"
	FieldExpires  domain.Field = "expires"
	FieldLabel    domain.Field = "label"
)

// NewUser is a user to be added.
type NewUser struct {
	Name     string // to sign in with; upper and lower case are the same
	FullName string // may be empty
	Address  string // of mail, may be empty
	Password string // empty for one who cannot sign in by password
	Roles    domain.Roles
	Rooms    domain.Rooms
}

// User is a user and who they are.
type User struct {
	domain.User
	directory.Person
}

// The bounds of names and passwords, in characters and bytes.
const (
	maxName     = 64
	maxText     = 200
	minPassword = 12
	maxPassword = 1024
)

// nameOf is the form in which a name is kept.
func nameOf(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

func checkName(name string) (faults []domain.Fault) {
	bad := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-+@", r)
	}
	if n := utf8.RuneCountInString(name); n < 1 || n > maxName || strings.ContainsFunc(name, bad) || !utf8.ValidString(name) {
		return []domain.Fault{{Field: FieldName, Detail: "must be 1 to 64 letters, digits, '.', '_', '-', '+' or '@'"}}
	}
	return nil
}

func checkText(field domain.Field, text string) []domain.Fault {
	if utf8.RuneCountInString(text) > maxText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return []domain.Fault{{Field: field, Detail: "must be at most 200 characters, none of them a control character"}}
	}
	return nil
}

func checkPassword(password, name string) []domain.Fault {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return []domain.Fault{{Field: FieldPassword, Detail: "must have at least 12 characters"}}
	case len(password) > maxPassword:
		return []domain.Fault{{Field: FieldPassword, Detail: "must have at most 1024 bytes"}}
	case strings.EqualFold(strings.TrimSpace(password), name):
		return []domain.Fault{{Field: FieldPassword, Detail: "must not be the name"}}
	}
	return nil
}

// checkRoles finds faults in the roles and rooms that somebody is given.
func checkRoles(roles domain.Roles) []domain.Fault {
	if roles == "" || slices.ContainsFunc(roles.List(), func(r domain.Role) bool { return !slices.Contains(domain.AllRoles, r) }) {
		return []domain.Fault{{Field: FieldRoles, Detail: "must be one or more of user, approver, admin, door and machine"}}
	}
	return nil
}

func invalid(faults []domain.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return &domain.Invalid{Faults: faults}
}

// newUserID draws the id of a user. It says nothing about them.
func newUserID() domain.UserID {
	return domain.UserID(userIDPrefix + strings.ToLower(rand.Text()[:userIDLength]))
}

const (
	userIDPrefix = "u"
	userIDLength = 20 // of what is drawn: letters and the digits from 2 to 7
)

// drawn reports whether newUserID may have drawn the id.
func drawn(id domain.UserID) bool {
	text, ok := strings.CutPrefix(string(id), userIDPrefix)
	return ok && len(text) == userIDLength && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

const (
	nameFresh = time.Minute            // for how long a user is called what they were called
	nameWait  = 500 * time.Millisecond // for how long a name is waited for
	namePause = time.Second            // until names are looked up again after that failed
)

// Name returns what a user is called where people look: their full name, or else the one that they sign in with. It is empty for a former
// user, whom the directory has forgotten. There is none for an id that is no user's, nor while the directory or the event store fails, which
// is soon noticed: whoever wants it shows the id then. A change takes effect as in [Accounts.Disable], within a minute elsewhere. Who may see
// it is for the caller to know.
func (a *Accounts) Name(ctx context.Context, id domain.UserID) (name string, known bool) {
	if !drawn(id) {
		return "", false
	}
	name, err := a.names.get(id, func() (string, error) {
		if time.Now().UnixNano() < a.nameless.Load() {
			return "", directory.ErrUnavailable
		}
		within, cancel := context.WithTimeout(ctx, nameWait)
		defer cancel()
		p, err := a.person(within, id)
		if err == nil {
			_, err = a.known(within, p)
		}
		switch {
		case errors.Is(err, domain.ErrUserNotFound):
			return "", nil
		case err != nil:
			if ctx.Err() == nil {
				a.nameless.Store(time.Now().Add(namePause).UnixNano())
			}
			return "", err
		}
		return cmp.Or(p.FullName, p.Name), nil
	})
	return name, err == nil
}

// AddUser adds a user. The error is *[domain.Invalid], or [directory.ErrNameTaken].
func (a *Accounts) AddUser(ctx context.Context, r Request, n NewUser) (domain.UserID, error) {
	if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return "", err
	}
	p := directory.Person{User: newUserID(), Name: nameOf(n.Name), FullName: strings.TrimSpace(n.FullName), Address: n.Address}
	faults := slices.Concat(checkName(p.Name), checkText(FieldFullName, p.FullName), checkRoles(n.Roles))
	if p.Address != "" {
		if at, err := mail.ParseAddress(p.Address); err != nil || at.Address != p.Address || len(p.Address) > maxText {
			faults = append(faults, domain.Fault{Field: FieldAddress, Detail: "must be a mail address like ann@rooms.example"})
		}
	}
	if n.Password != "" {
		faults = append(faults, checkPassword(n.Password, p.Name)...)
	}
	if err := invalid(faults); err != nil {
		return "", err
	}
	if _, err := a.directory.Named(ctx, p.Name); err == nil {
		return "", directory.ErrNameTaken
	} else if !errors.Is(err, directory.ErrUnknown) {
		return "", err
	}
	if n.Password != "" {
		var err error
		if p.Password, err = a.hasher.hash(ctx, n.Password); err != nil {
			return "", err
		}
	}
	// A user whom the directory does not have can do nothing, so nothing is lost if this ends in between.
	if _, err := transact(ctx, a, r, p.User.Stream(), func(u domain.User) ([]domain.Event, error) {
		return domain.DecideAddUser(u, p.User, n.Roles, n.Rooms, r.At)
	}); err != nil {
		return "", err
	}
	if err := a.directory.AddPerson(ctx, p); err != nil {
		return "", errors.Join(err, a.change(ctx, r, p.User, func(u domain.User) ([]domain.Event, error) { return domain.DecideErase(u, r.At) }))
	}
	return p.User, nil
}

// change carries out a command on a user.
func (a *Accounts) change(ctx context.Context, r Request, id domain.UserID, decide func(domain.User) ([]domain.Event, error)) error {
	_, err := transact(ctx, a, r, id.Stream(), decide)
	a.users.forget(id)
	a.names.forget(id)
	return err
}

// GiveRoles says what a user is from now on. The error is [domain.ErrUserNotFound] or *[domain.Invalid].
func (a *Accounts) GiveRoles(ctx context.Context, r Request, id domain.UserID, roles domain.Roles, rooms domain.Rooms) error {
	if err := r.Actor.May(domain.ManageUsers, r.Actor.To(id, "")); err != nil {
		return err
	}
	if err := invalid(checkRoles(roles)); err != nil {
		return err
	}
	return a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecideGiveRoles(u, roles, rooms, r.At) })
}

// Disable disables a user, which ends their sessions and suspends their tokens, or enables them again. The error is
// [domain.ErrUserNotFound].
func (a *Accounts) Disable(ctx context.Context, r Request, id domain.UserID, disabled bool) error {
	if err := r.Actor.May(domain.ManageUsers, r.Actor.To(id, "")); err != nil {
		return err
	}
	return a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecideDisable(u, disabled, r.At) })
}

// SignOutEverywhere ends all sessions of a user. The error is [domain.ErrUserNotFound].
func (a *Accounts) SignOutEverywhere(ctx context.Context, r Request, id domain.UserID) error {
	if err := r.Actor.May(domain.EndSessions, r.Actor.To(id, "")); err != nil {
		return err
	}
	return a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecideSignOut(u, r.At) })
}

// SetPassword changes a password, which ends all sessions of the user. Who changes their own has to know it: old must be their password.
// The error is [ErrWrongCredentials], *[TooManyTries], [domain.ErrUserNotFound] or *[domain.Invalid].
func (a *Accounts) SetPassword(ctx context.Context, r Request, id domain.UserID, old, password string) error {
	relation := r.Actor.To(id, "")
	if err := r.Actor.May(domain.SetPassword, relation); err != nil {
		return err
	}
	p, err := a.person(ctx, id)
	if err != nil {
		return err
	}
	if relation == domain.Own {
		if err := a.byName.try(p.Name, r.At); err != nil {
			return err
		}
		ok, err := a.hasher.matches(ctx, old, p.Password)
		if err != nil {
			return err
		}
		if !ok {
			return ErrWrongCredentials
		}
		a.byName.succeed(p.Name)
	}
	if err := invalid(checkPassword(password, p.Name)); err != nil {
		return err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	// The sessions end first: if this ends in between, the caller knows no more than that it failed, and the password is the old one.
	if err := a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecidePassword(u, r.At) }); err != nil {
		return err
	}
	return a.directory.SetPassword(ctx, id, hash)
}

// person returns who a user is, or [domain.ErrUserNotFound].
func (a *Accounts) person(ctx context.Context, id domain.UserID) (directory.Person, error) {
	p, err := a.directory.Person(ctx, id)
	if errors.Is(err, directory.ErrUnknown) {
		err = domain.ErrUserNotFound
	}
	return p, err
}

// Erase makes the directory forget a user for good, with their sessions and what they call their tokens, and ends everything that they can
// do. What the log has is their id, which then says nothing about anybody. A user who was erased may be erased again, for a directory that
// was restored from an older copy. The error is [domain.ErrUserNotFound].
func (a *Accounts) Erase(ctx context.Context, r Request, id domain.UserID) error {
	if err := r.Actor.May(domain.ManageUsers, r.Actor.To(id, "")); err != nil {
		return err
	}
	if err := a.directory.Forget(ctx, id); err != nil {
		return fmt.Errorf("forget user %s: %w", id, err)
	}
	return a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecideErase(u, r.At) })
}

// user returns what a user is, as of a moment ago; the zero User if they were never added.
func (a *Accounts) user(ctx context.Context, id domain.UserID) (domain.User, error) {
	return a.users.get(id, func() (domain.User, error) {
		u, _, err := load[domain.User](ctx, a.streams, id.Stream())
		return u, err
	})
}

// User returns a user. Everybody may ask for themselves. The error is [domain.ErrUserNotFound].
func (a *Accounts) User(ctx context.Context, r Request, id domain.UserID) (User, error) {
	if id != r.Actor.User {
		if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
			return User{}, err
		}
	}
	p, err := a.person(ctx, id)
	if err != nil {
		return User{}, err
	}
	return a.known(ctx, p)
}

// known returns the user of a person. One whom the log says was erased is in a directory that was restored from an older copy, and is
// forgotten again: then, and for one who was never added, the error is [domain.ErrUserNotFound].
func (a *Accounts) known(ctx context.Context, p directory.Person) (User, error) {
	u, err := a.user(ctx, p.User)
	switch {
	case err != nil:
		return User{}, err
	case u.Phase == domain.UserPhaseErased:
		return User{}, errors.Join(domain.ErrUserNotFound, a.directory.Forget(ctx, p.User))
	case u.Phase == domain.UserPhaseNone:
		return User{}, domain.ErrUserNotFound
	}
	return User{u, p}, nil
}

// Named returns the user who signs in with a name. The error is [domain.ErrUserNotFound].
func (a *Accounts) Named(ctx context.Context, r Request, name string) (User, error) {
	if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return User{}, err
	}
	p, err := a.directory.Named(ctx, nameOf(name))
	if errors.Is(err, directory.ErrUnknown) {
		return User{}, domain.ErrUserNotFound
	}
	if err != nil {
		return User{}, err
	}
	return a.known(ctx, p)
}

// Users returns all users in the order of their names.
func (a *Accounts) Users(ctx context.Context, r Request) (users []User, err error) {
	if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return nil, err
	}
	people, err := a.directory.People(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range people {
		switch u, err := a.known(ctx, p); {
		case errors.Is(err, domain.ErrUserNotFound):
		case err != nil:
			return nil, err
		default:
			users = append(users, u)
		}
	}
	return users, nil
}
