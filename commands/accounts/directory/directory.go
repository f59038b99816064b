// Package directory stores who users are: their names, addresses and passwords, their favourite rooms, their sessions, the labels of their
// tokens, and one-time codes.
//
// Two ideas:
//
//   - The log of events is kept for ever, so it knows users only by random ids. Only the directory tells which person has an id, and a person
//     who is to be forgotten is removed here. Neither the log nor an export, a backup or a list has to be changed for that: they never had
//     more than the id.
//   - Unlike a list it cannot be rebuilt from events. It is not part of the store of the lists, whose file is set aside when it is damaged,
//     and it has to be backed up separately.
//
// The alternative, encrypting fields of events with a key for each user that is destroyed to forget them, would need such a store for the keys
// all the same, and the keys wherever events are folded, exported or verified.
package directory

import (
	"context"
	"errors"
	"time"

	"roombook/domain"
)

// Person is who a user is.
type Person struct {
	User     domain.UserID
	Name     string // to sign in with; of two people never the same
	FullName string // may be empty
	Address  string // of mail, may be empty
	Language string // of mail, may be empty
	Password string // a hash; empty for one who cannot sign in by password
}

// Identity is the permanent identifier of a person at an identity provider.
type Identity struct {
	Issuer  string
	Subject string // one person of the issuer's; never given to another one
}

// Session is a signed-in browser. Its id is the hash of a secret; whoever has the secret acts as the user.
type Session struct {
	ID        string
	User      domain.UserID
	Epoch     int64 // of the user, when the session began
	CreatedAt time.Time
	SeenAt    time.Time // when it was last used, to some minutes
	Provider  ProviderSession
}

// ProviderSession is what an identity provider has said of a session that began there; zero for one that began by a password.
type ProviderSession struct {
	Identity
	ID      string // what the provider calls the session (sid), may be empty
	IDToken string // by which it began, may be empty
}

// Token is the part of a token for the API that is not in its events.
type Token struct {
	ID     domain.TokenID
	User   domain.UserID
	Label  string    // what the user calls it, may be empty
	UsedAt time.Time // when it was last used, to some minutes; zero if it never was
}

// Code is a one-time secret: for choosing a user's password, or for issuing a token to a display beside a door. One with neither user nor room
// was used already.
type Code struct {
	ID        string        // a hash of the secret
	User      domain.UserID // whose password it sets; empty for a display
	Room      domain.RoomID // where the display is; empty for a user
	Token     string        // the hash of the token that the display is to have
	ExpiresAt time.Time
}

var (
	// ErrUnknown means that the directory has no such person, session, token or code.
	ErrUnknown = errors.New("the directory does not have it")
	// ErrNameTaken means that another person signs in with the name.
	ErrNameTaken = errors.New("the name is taken")
	// ErrUnavailable means that the store failed or did not answer.
	ErrUnavailable = errors.New("the directory is not available")
)

// Store keeps the directory. Package directorytest checks every implementation against this contract. Methods may be called from any
// number of goroutines and processes. Once a method that writes has returned, its effect is on disk, and visible to every process. Times
// are kept to the millisecond. Besides the errors named below there are the context's, and ErrUnavailable, after which a write may have
// been done; every write may be repeated, except that AddPerson, AddSession, AddToken, AddCode and TakeCode then fail.
type Store interface {
	// AddPerson returns ErrNameTaken if another person has the name, or an error if the user is there already.
	AddPerson(ctx context.Context, p Person) error
	// Person returns ErrUnknown if the user is not there.
	Person(ctx context.Context, user domain.UserID) (Person, error)
	// Named returns ErrUnknown if nobody has exactly this name.
	Named(ctx context.Context, name string) (Person, error)
	// People returns those whose names come after a name, in the order of their names, and no more than limit of them; 0 is no limit.
	People(ctx context.Context, after string, limit int) ([]Person, error)
	// ChangePerson writes the values of a person that differ from what they were, except for the password, and so leaves the others as
	// somebody else may have changed them meanwhile. It returns ErrUnknown if the user is not there, and ErrNameTaken if another
	// person has the name.
	ChangePerson(ctx context.Context, were, p Person) error
	// SetPassword removes the codes for choosing a person's password, replaces its hash, and then removes the person's sessions. It returns
	// ErrUnknown if the user is not there, or has another hash than former, unless that is empty.
	SetPassword(ctx context.Context, user domain.UserID, former, hash string) error
	// Identify returns the user who has an identity. If nobody has it, it is given to the named user. Concurrent callers all get the same
	// user.
	Identify(ctx context.Context, i Identity, user domain.UserID) (domain.UserID, error)
	// SetFavourite adds a room to a person's favourites, or removes it. It does nothing if the user is not there.
	SetFavourite(ctx context.Context, user domain.UserID, room domain.RoomID, favourite bool) error
	// Favourites returns the favourite rooms of a user, of whom there need not be a person.
	Favourites(ctx context.Context, user domain.UserID) (domain.Rooms, error)
	// Forget removes a person with their favourites, identities, sessions, tokens and codes, so that nothing of them is left in the store's files. It returns nil if
	// nothing is there.
	Forget(ctx context.Context, user domain.UserID) error

	AddSession(ctx context.Context, s Session) error
	// Session returns ErrUnknown if the session is not there.
	Session(ctx context.Context, id string) (Session, error)
	// Sessions returns the sessions of a user, the newest first.
	Sessions(ctx context.Context, user domain.UserID) ([]Session, error)
	// SeeSession sets the time of a session's last use, if the session is there.
	SeeSession(ctx context.Context, id string, at time.Time) error
	// EndSession removes a session. It returns nil if it is not there.
	EndSession(ctx context.Context, id string) error
	// EndProviderSessions removes the sessions of an issuer that have the subject and the provider's id of a session that are given. One of the
	// two may be empty, which is for any. It returns nil if there are none.
	EndProviderSessions(ctx context.Context, i Identity, id string) error
	// PruneSessions removes the sessions that began before a time, or were last used before another.
	PruneSessions(ctx context.Context, begunBefore, seenBefore time.Time) error

	AddToken(ctx context.Context, t Token) error
	// Token returns ErrUnknown if the token is not there.
	Token(ctx context.Context, id domain.TokenID) (Token, error)
	// Tokens returns the tokens of a user, or of all users if it is empty, whose ids come after an id, in the order of their ids, and no
	// more than limit of them; 0 is no limit.
	Tokens(ctx context.Context, user domain.UserID, after domain.TokenID, limit int) ([]Token, error)
	// SeeToken sets the time of a token's last use, if the token is there.
	SeeToken(ctx context.Context, id domain.TokenID, at time.Time) error

	// RemoveToken removes a token. It returns nil if it is not there.
	RemoveToken(ctx context.Context, id domain.TokenID) error

	AddCode(ctx context.Context, c Code) error
	// Code returns ErrUnknown if the code is not there.
	Code(ctx context.Context, id string) (Code, error)
	// TakeCode removes a code. It returns ErrUnknown if it is not there: of concurrent callers one succeeds.
	TakeCode(ctx context.Context, id string) error
	// PruneCodes removes the codes that expired before a time.
	PruneCodes(ctx context.Context, before time.Time) error

	// Ping returns an error unless the store responds.
	Ping(ctx context.Context) error
	// Close releases all resources.
	Close() error
}
