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

// Fields of commands that can be invalid.
const (
	FieldName     domain.Field = "name"
	FieldFullName domain.Field = "fullName"
	FieldAddress  domain.Field = "address"
	FieldLanguage domain.Field = "language"
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
	Language string // of mail, may be empty
	Password string // empty for one who cannot sign in by password
	Roles    domain.Roles
	Rooms    domain.Rooms
}

// User is a user, with the person from the directory.
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

// nameOf is the form in which a name is stored.
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

func checkAddress(address string) []domain.Fault {
	if address == "" {
		return nil
	}
	if at, err := mail.ParseAddress(address); err != nil || at.Address != address || len(address) > maxText {
		return []domain.Fault{{Field: FieldAddress, Detail: "must be a mail address like ann@rooms.example"}}
	}
	return nil
}

func checkLanguage(language string) []domain.Fault {
	if len(language) > 16 || strings.ContainsFunc(language, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' }) {
		return []domain.Fault{{Field: FieldLanguage, Detail: "must be a language like en or ko"}}
	}
	return nil
}

// checkPerson returns the faults of a person's details.
func checkPerson(p directory.Person) []domain.Fault {
	return slices.Concat(checkName(p.Name), checkText(FieldFullName, p.FullName), checkAddress(p.Address), checkLanguage(p.Language))
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

// checkRoles returns the faults of roles and rooms.
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

// newUserID returns a random id, which reveals nothing about the user.
func newUserID() domain.UserID {
	return domain.UserID(userIDPrefix + strings.ToLower(rand.Text()[:userIDLength]))
}

const (
	userIDPrefix = "u"
	userIDLength = 20 // of what is drawn: letters and the digits from 2 to 7
)

// drawn reports whether the id may come from newUserID.
func drawn(id domain.UserID) bool {
	text, ok := strings.CutPrefix(string(id), userIDPrefix)
	return ok && len(text) == userIDLength && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

const (
	nameFresh = time.Minute            // for how long a user is called what they were called
	nameWait  = 500 * time.Millisecond // for how long a name is waited for
	namePause = time.Second            // until names are looked up again after that failed
)

// Name returns the name of a user for people to read: the full name or, without one, the name that they sign in with. It is empty for a former
// user, whom the directory has forgotten. It is not known for ids of nobody, nor while the directory or the event store fails, which is noticed
// soon; callers then show the id. A change takes effect at once in this process, and within a minute in others. The caller decides who may see
// the name.
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
	p := directory.Person{User: newUserID(), Name: nameOf(n.Name), FullName: strings.TrimSpace(n.FullName), Address: n.Address, Language: n.Language}
	faults := append(checkPerson(p), checkRoles(n.Roles)...)
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

// changePerson changes what the directory knows of a person. The errors are those of the directory.
func (a *Accounts) changePerson(ctx context.Context, were, p directory.Person) error {
	err := a.directory.ChangePerson(ctx, were, p)
	a.names.forget(p.User)
	return err
}

// change carries out a command on a user.
func (a *Accounts) change(ctx context.Context, r Request, id domain.UserID, decide func(domain.User) ([]domain.Event, error)) error {
	_, err := transact(ctx, a, r, id.Stream(), decide)
	a.users.forget(id)
	a.names.forget(id)
	return err
}

// Change is a change of a user; nil leaves a value as it is.
type Change struct {
	Name, FullName, Address, Language *string
	Roles                             *domain.Roles
	Rooms                             *domain.Rooms
	WithoutMail                       *domain.Kinds // of notifications
	Disabled                          *bool
}

// ChangeUser changes a user's details and roles. Users who do not manage others may only change their own language, and which notifications they
// are mailed. Everything is validated before anything is changed; after a failure of a store the call can be repeated. The error is
// [domain.ErrUserNotFound], [directory.ErrNameTaken] or *[domain.Invalid].
func (a *Accounts) ChangeUser(ctx context.Context, r Request, id domain.UserID, c Change) error {
	if id != r.Actor.User || c != (Change{Language: c.Language, WithoutMail: c.WithoutMail}) {
		if err := r.Actor.May(domain.ManageUsers, r.Actor.To(id, "")); err != nil {
			return err
		}
	}
	u, err := a.User(ctx, r, id)
	if err != nil {
		return err
	}
	p := u.Person
	for _, text := range []struct{ to, from *string }{{&p.Name, c.Name}, {&p.FullName, c.FullName}, {&p.Address, c.Address}, {&p.Language, c.Language}} {
		if text.from != nil {
			*text.to = strings.TrimSpace(*text.from)
		}
	}
	p.Name = nameOf(p.Name)
	faults := checkPerson(p)
	if c.Roles != nil {
		faults = append(faults, checkRoles(*c.Roles)...)
	}
	if err := invalid(faults); err != nil {
		return err
	}
	if p != u.Person {
		if err := a.changePerson(ctx, u.Person, p); errors.Is(err, directory.ErrUnknown) {
			return domain.ErrUserNotFound
		} else if err != nil {
			return err
		}
	}
	return a.change(ctx, r, id, func(u domain.User) (events []domain.Event, err error) {
		roles, rooms := u.Roles, u.Rooms // which may be others than those that are cached
		if c.Roles != nil {
			roles = *c.Roles
		}
		if c.Rooms != nil {
			rooms = *c.Rooms
		}
		if events, err = domain.DecideGiveRoles(u, roles, rooms, r.At); err != nil {
			return nil, err
		}
		if c.WithoutMail != nil {
			chosen, err := domain.DecideMail(u, *c.WithoutMail, r.At)
			if err != nil {
				return nil, err
			}
			events = append(events, chosen...)
		}
		if c.Disabled == nil {
			return events, nil
		}
		disabled, err := domain.DecideDisable(u, *c.Disabled, r.At)
		return append(events, disabled...), err
	})
}

// GiveRoles replaces the roles of a user. The error is [domain.ErrUserNotFound] or *[domain.Invalid].
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

// SetPassword changes a password, which ends all sessions of the user. Users who change their own must give the current one as old.
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
	former := "" // whatever it is
	if relation == domain.Own {
		former = p.Password
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
	return a.setPassword(ctx, r, id, former, hash)
}

// setPassword ends the user's sessions and then replaces their password. If it fails in between, the old password is still valid. Former is the
// hash of the password that the caller knew, if that is what permits it: the error is [ErrWrongCredentials] if there is another by now.
func (a *Accounts) setPassword(ctx context.Context, r Request, id domain.UserID, former, hash string) error {
	if err := a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecidePassword(u, r.At) }); err != nil {
		return err
	}
	err := a.directory.SetPassword(ctx, id, former, hash)
	if errors.Is(err, directory.ErrUnknown) {
		if err = domain.ErrUserNotFound; former != "" {
			err = ErrWrongCredentials
		}
	}
	return err
}

// passwordCodeLife is how long a code for choosing a password is valid.
const passwordCodeLife = 3 * 24 * time.Hour

// PasswordCode returns a code with which the user can choose a password once, and when it expires. The error is [ErrByToken], or
// [domain.ErrUserNotFound].
func (a *Accounts) PasswordCode(ctx context.Context, r Request, id domain.UserID) (code string, expires time.Time, err error) {
	if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return "", time.Time{}, err
	}
	if r.Actor.ByToken && id == r.Actor.User {
		return "", time.Time{}, ErrByToken
	}
	if _, err := a.User(ctx, r, id); err != nil {
		return "", time.Time{}, err
	}
	code, expires = newSecret(), r.At.Add(passwordCodeLife)
	return code, expires, a.addCode(ctx, r.At, directory.Code{ID: hashOf(code), User: id, ExpiresAt: expires})
}

// addCode adds a code, and removes those that have expired.
func (a *Accounts) addCode(ctx context.Context, at time.Time, c directory.Code) error {
	if err := a.directory.PruneCodes(ctx, at); err != nil {
		return err
	}
	return a.directory.AddCode(ctx, c)
}

// ChoosePassword sets the password of the user for whom the code was made, and uses the code up; client is the caller's address. The error is
// [ErrWrongCredentials], *[TooManyTries], [ErrBusy] or *[domain.Invalid], after which the code can still be used.
func (a *Accounts) ChoosePassword(ctx context.Context, code, password, client string, at time.Time) error {
	if err := a.byClient.try(client, at); err != nil {
		return err
	}
	c, err := a.directory.Code(ctx, hashOf(code))
	if errors.Is(err, directory.ErrUnknown) || err == nil && (c.User == "" || !at.Before(c.ExpiresAt)) {
		return ErrWrongCredentials
	}
	if err != nil {
		return err
	}
	a.byClient.takeBack(client, at)
	r := Request{Actor: domain.Actor{User: c.User}, At: at}
	u, err := a.User(ctx, r, c.User)
	if errors.Is(err, domain.ErrUserNotFound) || err == nil && u.Phase != domain.UserPhaseActive {
		return ErrWrongCredentials
	}
	if err != nil {
		return err
	}
	if err := invalid(checkPassword(password, u.Name)); err != nil {
		return err
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	if err := a.directory.TakeCode(ctx, c.ID); errors.Is(err, directory.ErrUnknown) {
		return ErrWrongCredentials
	} else if err != nil {
		return err
	}
	return a.setPassword(ctx, r, c.User, u.Password, hash)
}

// person returns who a user is, or [domain.ErrUserNotFound].
func (a *Accounts) person(ctx context.Context, id domain.UserID) (directory.Person, error) {
	p, err := a.directory.Person(ctx, id)
	if errors.Is(err, directory.ErrUnknown) {
		err = domain.ErrUserNotFound
	}
	return p, err
}

// Erase permanently removes a user from the directory, with their sessions and the labels of their tokens, and ends all their rights. The log
// keeps the id, which no longer identifies anybody. An erased user can be erased again, in case the directory has been restored from an older
// copy. The error is [domain.ErrUserNotFound].
func (a *Accounts) Erase(ctx context.Context, r Request, id domain.UserID) error {
	if err := r.Actor.May(domain.ManageUsers, r.Actor.To(id, "")); err != nil {
		return err
	}
	// The event comes first: what others add for the user from then on they remove again, and what they added before is forgotten.
	err := a.change(ctx, r, id, func(u domain.User) ([]domain.Event, error) { return domain.DecideErase(u, r.At) })
	if err != nil && !errors.Is(err, domain.ErrUserNotFound) {
		return err
	}
	if failed := a.directory.Forget(ctx, id); failed != nil {
		return fmt.Errorf("forget user %s: %w", id, failed)
	}
	return err
}

// user returns a user's state, which may be cached; the zero User if they were never added.
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

// Users returns the users whose names come after that of a user, or from the first one on if that is empty, in the order of their names:
// at most n of them, or all if n is 0. Next is the user after whom the following ones come; empty if there are none. The error is
// [domain.ErrUserNotFound] if the directory does not have the user after whom they are to come.
func (a *Accounts) Users(ctx context.Context, r Request, after domain.UserID, n int) (users []User, next domain.UserID, err error) {
	if err := r.Actor.May(domain.ManageUsers, domain.SomebodyElse); err != nil {
		return nil, "", err
	}
	var last directory.Person
	if after != "" {
		if last, err = a.person(ctx, after); err != nil {
			return nil, "", err
		}
	}
	limit := 0
	if n > 0 {
		limit = n + 1
	}
	people, err := a.directory.People(ctx, last.Name, limit)
	if err != nil {
		return nil, "", err
	}
	if n > 0 && len(people) > n {
		people = people[:n]
		next = people[n-1].User
	}
	for _, p := range people {
		switch u, err := a.known(ctx, p); {
		case errors.Is(err, domain.ErrUserNotFound):
		case err != nil:
			return nil, "", err
		default:
			users = append(users, u)
		}
	}
	return users, next, nil
}
