package accounts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"
	"unicode/utf8"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// ErrWrongCredentials means that a name and password, session or token is not valid, or no longer. It does not tell which, so that nothing can
// be learned from it.
var ErrWrongCredentials = errors.New("the name and password, the session or the token are not valid")

// SignIn is an attempt to sign in.
type SignIn struct {
	Name     string
	Password string
	Client   string // the address of who tries
	At       time.Time
}

// noUser is read if nobody has a name, so that it takes as long as if somebody had.
const noUser domain.UserID = "nobody"

// SignIn begins a session and returns its secret. The error is [ErrWrongCredentials], *[TooManyTries] or [ErrBusy]. It takes as long for a name
// that nobody has.
func (a *Accounts) SignIn(ctx context.Context, c SignIn) (secret string, _ domain.UserID, err error) {
	name := nameOf(c.Name)
	tried := name[:min(len(name), utf8.UTFMax*maxName)] // the part that is remembered, whatever is sent: no user has a longer name
	if err := a.byClient.try(c.Client, c.At); err != nil {
		return "", "", err
	}
	if err := a.byName.try(tried, c.At); err != nil {
		return "", "", err
	}
	p, err := a.directory.Named(ctx, name)
	if errors.Is(err, directory.ErrUnknown) {
		p, err = directory.Person{User: noUser}, nil
	}
	if err != nil {
		return "", "", err
	}
	ok, err := a.hasher.matches(ctx, c.Password[:min(len(c.Password), maxPassword+1)], p.Password)
	if err != nil {
		return "", "", err
	}
	u, _, err := load[domain.User](ctx, a.streams, p.User.Stream())
	if err != nil {
		return "", "", err
	}
	if _, active := u.Actor(); !ok || !active {
		return "", "", ErrWrongCredentials
	}
	a.byName.succeed(tried)
	a.byClient.takeBack(c.Client, c.At)
	if secret, err = a.begin(ctx, u, c.At, directory.ProviderSession{}); err != nil {
		return "", "", err
	}
	// Sessions are removed once a password is replaced, so this one goes then, or the password is another one by now.
	now, err := a.directory.Person(ctx, p.User)
	if errors.Is(err, directory.ErrUnknown) || err == nil && now.Password != p.Password {
		err = errors.Join(ErrWrongCredentials, a.SignOut(ctx, secret))
	}
	if err != nil {
		return "", "", err
	}
	return secret, u.ID, nil
}

// begin begins a session, at a provider if one has said so. Those that are over are removed meanwhile.
func (a *Accounts) begin(ctx context.Context, u domain.User, at time.Time, p directory.ProviderSession) (secret string, err error) {
	if err := a.directory.PruneSessions(ctx, at.Add(-a.life), at.Add(-a.idle)); err != nil {
		return "", err
	}
	secret = newSecret()
	return secret, a.directory.AddSession(ctx, directory.Session{ID: hashOf(secret), User: u.ID, Epoch: u.Epoch, CreatedAt: at, SeenAt: at, Provider: p})
}

// Renew begins another session in place of one whose user has just changed their password.
func (a *Accounts) Renew(ctx context.Context, r Request) (secret string, err error) {
	u, _, err := load[domain.User](ctx, a.streams, r.Actor.User.Stream())
	if err != nil {
		return "", err
	}
	if _, active := u.Actor(); !active {
		return "", ErrWrongCredentials
	}
	return a.begin(ctx, u, r.At, directory.ProviderSession{})
}

// SignOut ends a session.
func (a *Accounts) SignOut(ctx context.Context, secret string) error {
	return a.directory.EndSession(ctx, hashOf(secret))
}

// seenEvery is how often the last use of a session or token is written.
const seenEvery = 5 * time.Minute

// BySession returns who a session acts as. The error is [ErrWrongCredentials].
func (a *Accounts) BySession(ctx context.Context, secret string, at time.Time) (domain.Actor, error) {
	s, err := a.directory.Session(ctx, hashOf(secret))
	if errors.Is(err, directory.ErrUnknown) {
		return domain.Actor{}, ErrWrongCredentials
	}
	if err != nil {
		return domain.Actor{}, err
	}
	u, err := a.user(ctx, s.User)
	if err != nil {
		return domain.Actor{}, err
	}
	actor, active := u.Actor()
	if !active || !a.lasts(s, u, at) {
		return domain.Actor{}, ErrWrongCredentials
	}
	if at.Sub(s.SeenAt) >= min(seenEvery, a.idle/4) {
		if err := a.directory.SeeSession(ctx, s.ID, at); err != nil {
			return domain.Actor{}, err
		}
	}
	return actor, nil
}

// Session is a signed-in browser of a user.
type Session struct {
	ID        string // the beginning of the hash of its secret
	CreatedAt time.Time
	SeenAt    time.Time // when it was last used, to some minutes
}

// ErrSessionNotFound means that the user has no session with this id.
var ErrSessionNotFound = errors.New("there is no such session")

// sessionIDLength is the length of a session's id for its user, which is the beginning of that in the directory.
const sessionIDLength = 24

// SessionID is the id of the session with a secret.
func SessionID(secret string) string { return hashOf(secret)[:sessionIDLength] }

// Sessions returns the sessions of a user, the newest first. The error is [domain.ErrUserNotFound].
func (a *Accounts) Sessions(ctx context.Context, r Request, id domain.UserID) (sessions []Session, err error) {
	if err := r.Actor.May(domain.EndSessions, r.Actor.To(id, "")); err != nil {
		return nil, err
	}
	u, err := a.user(ctx, id)
	if err != nil {
		return nil, err
	}
	if u.Phase == domain.UserPhaseNone || u.Phase == domain.UserPhaseErased {
		return nil, domain.ErrUserNotFound
	}
	all, err := a.directory.Sessions(ctx, id)
	for _, s := range all {
		if a.lasts(s, u, r.At) {
			sessions = append(sessions, Session{s.ID[:sessionIDLength], s.CreatedAt, s.SeenAt})
		}
	}
	return sessions, err
}

// lasts reports whether a session of a user is still valid.
func (a *Accounts) lasts(s directory.Session, u domain.User, at time.Time) bool {
	return s.Epoch == u.Epoch && at.Sub(s.CreatedAt) < a.life && at.Sub(s.SeenAt) < a.idle
}

// EndSession ends a session of a user by its id. The error is [ErrSessionNotFound].
func (a *Accounts) EndSession(ctx context.Context, r Request, user domain.UserID, id string) error {
	if err := r.Actor.May(domain.EndSessions, r.Actor.To(user, "")); err != nil {
		return err
	}
	all, err := a.directory.Sessions(ctx, user)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.ID[:sessionIDLength] == id {
			return a.directory.EndSession(ctx, s.ID)
		}
	}
	return ErrSessionNotFound
}

// SetUpCode returns a code with which the first user can be added, an administrator. It is empty if there are users. The code holds until
// it is used, a user is added otherwise, or the process ends.
func (a *Accounts) SetUpCode(ctx context.Context) (code string, err error) {
	people, err := a.directory.People(ctx, "", 1)
	if err != nil || len(people) > 0 {
		return "", err
	}
	code = newSecret()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setUp = sha256.Sum256([]byte(code))
	return code, nil
}

// SetUp adds the first user, whatever roles n has as an administrator for all rooms. The error is [ErrWrongCredentials] or one of
// [Accounts.AddUser]; the code holds on after those.
func (a *Accounts) SetUp(ctx context.Context, code string, n NewUser, at time.Time) (domain.UserID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	given := sha256.Sum256([]byte(code))
	if a.setUp == [32]byte{} || subtle.ConstantTimeCompare(given[:], a.setUp[:]) != 1 {
		return "", ErrWrongCredentials
	}
	if people, err := a.directory.People(ctx, "", 1); err != nil {
		return "", err
	} else if len(people) > 0 {
		a.setUp = [32]byte{}
		return "", ErrWrongCredentials
	}
	n.Roles, n.Rooms = domain.NewRoles(domain.RoleUser, domain.RoleApprover, domain.RoleAdmin), domain.AllRooms
	if n.Password == "" {
		return "", invalid(checkPassword("", ""))
	}
	id, err := a.AddUser(ctx, Request{Actor: domain.Actor{User: "setup", Roles: domain.NewRoles(domain.RoleAdmin)}, At: at}, n)
	if err == nil {
		a.setUp = [32]byte{}
	}
	return id, err
}

// newSecret returns 32 random bytes.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// hashOf is the hash of a secret, which is stored in its place.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
