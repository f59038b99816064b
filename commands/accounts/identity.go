package accounts

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// Identity is a person as authenticated by an identity provider.
type Identity struct {
	directory.Identity
	Name     string // to be listed by; not used if it is empty, not a valid name, or another user's
	FullName string // may be empty
	Address  string // of mail, may be empty
	Roles    domain.Roles
	Rooms    domain.Rooms
	// SessionID is what the provider calls the session (sid), and IDToken says all this; both may be empty.
	SessionID, IDToken string
}

// ErrDisabled means that the provider has authenticated a user who is disabled here.
var ErrDisabled = errors.New("the user is disabled")

// provider is the actor of changes that follow from an identity provider's claims.
var provider = domain.Actor{User: "provider"}

// SignInAs begins a session of somebody whom a provider has authenticated, and returns its secret. Whoever signs in for the first time is
// added as a user. Name, full name and address become those of the identity, and so do roles and rooms, unless it has no roles: then a new
// user is a [domain.RoleUser], and another one keeps what they have. The request's actor does not matter. The error is [ErrDisabled], or
// [domain.ErrUserNotFound] for one who is erased meanwhile.
func (a *Accounts) SignInAs(ctx context.Context, r Request, i Identity) (secret string, _ domain.UserID, err error) {
	r.Actor = provider
	u, p, err := a.identify(ctx, r, i)
	if err != nil {
		return "", "", err
	}
	if u, _, err = load[domain.User](ctx, a.streams, u.ID.Stream()); err != nil {
		return "", "", err
	}
	if _, active := u.Actor(); !active {
		return "", "", ErrDisabled
	}
	claimed, now := i.person(u.ID), p
	now.Name, now.FullName, now.Address = cmp.Or(claimed.Name, p.Name), claimed.FullName, claimed.Address
	if now != p {
		if err := named(now, p.Name, func(now directory.Person) error { return a.changePerson(ctx, p, now) }); err != nil {
			return "", "", err
		}
	}
	if i.Roles != "" {
		if err := a.change(ctx, r, u.ID, func(u domain.User) ([]domain.Event, error) { return domain.DecideGiveRoles(u, i.Roles, i.Rooms, r.At) }); err != nil {
			return "", "", err
		}
	}
	if secret, err = a.begin(ctx, u, r.At, directory.ProviderSession{Identity: i.Identity, ID: i.SessionID, IDToken: i.IDToken}); err != nil {
		return "", "", err
	}
	// No session of a user who has been erased meanwhile may stay: it says who they are.
	if _, err := a.person(ctx, u.ID); err != nil {
		return "", "", errors.Join(err, a.SignOut(ctx, secret))
	}
	return secret, u.ID, nil
}

// IDToken returns the ID token by which a session began at a provider; empty if there is none, or no such session.
func (a *Accounts) IDToken(ctx context.Context, secret string) (string, error) {
	s, err := a.directory.Session(ctx, hashOf(secret))
	if errors.Is(err, directory.ErrUnknown) {
		err = nil
	}
	return s.Provider.IDToken, err
}

// ProviderLogout is what a provider says when somebody has signed out there.
type ProviderLogout struct {
	directory.Identity        // the subject may be empty
	SessionID          string // as in [Identity]; may be empty if the subject is not
	TokenID            string // of the issuer's tokens no other one has it
	ExpiresAt          time.Time
}

// ErrLogoutUsed means that a provider's word that somebody has signed out was used before.
var ErrLogoutUsed = errors.New("the logout token was used before")

// SignOutAtProvider ends the sessions of which a provider says that they are over, once: another session that begins later is not ended by what
// was said before. The error is [ErrLogoutUsed]. After a failure of the directory the call can be repeated.
func (a *Accounts) SignOutAtProvider(ctx context.Context, l ProviderLogout, at time.Time) error {
	used := directory.Code{ID: hashOf("logout " + l.Issuer + " " + l.TokenID), ExpiresAt: l.ExpiresAt}
	if _, err := a.directory.Code(ctx, used.ID); err == nil {
		return ErrLogoutUsed
	} else if !errors.Is(err, directory.ErrUnknown) {
		return err
	}
	if err := a.directory.EndProviderSessions(ctx, l.Identity, l.SessionID); err != nil {
		return err
	}
	return a.addCode(ctx, at, used)
}

// ByIdentity returns who acts with a provider's access token: the user with the identity, in the identity's roles, or in the user's own if it
// has none. An unknown identity becomes a user, as with [Accounts.SignInAs], because programs have access tokens and never sign in. Names,
// addresses and stored roles of a known user stay as they are, because access tokens say less of a person than ID tokens. The error is
// [ErrWrongCredentials].
func (a *Accounts) ByIdentity(ctx context.Context, r Request, i Identity) (domain.Actor, error) {
	r.Actor = provider
	u, _, err := a.identify(ctx, r, i)
	if err != nil {
		return domain.Actor{}, err
	}
	actor, active := u.Actor()
	if !active {
		return domain.Actor{}, ErrWrongCredentials
	}
	if actor.ByToken = true; i.Roles != "" {
		actor.Roles, actor.Rooms = i.Roles, i.Rooms
	}
	return actor, nil
}

// identify returns the user with an identity, who is added if they are new. Every step can be repeated, and concurrent callers get the same
// user, so a call may fail at any step.
func (a *Accounts) identify(ctx context.Context, r Request, i Identity) (u domain.User, p directory.Person, err error) {
	id, err := a.directory.Identify(ctx, i.Identity, newUserID())
	if err != nil {
		return u, p, err
	}
	if u, err = a.user(ctx, id); err != nil {
		return u, p, err
	}
	switch u.Phase {
	case domain.UserPhaseErased: // an older copy of the directory was put back
		if err := a.directory.Forget(ctx, id); err != nil {
			return u, p, err
		}
		return a.identify(ctx, r, i)
	case domain.UserPhaseNone:
		roles := cmp.Or(i.Roles, domain.NewRoles(domain.RoleUser))
		u, err = transact(ctx, a, r, id.Stream(), func(u domain.User) ([]domain.Event, error) {
			return domain.DecideAddUser(u, id, roles, i.Rooms, r.At)
		})
		a.users.forget(id)
		if err != nil {
			return u, p, err
		}
	}
	if p, err = a.directory.Person(ctx, id); !errors.Is(err, directory.ErrUnknown) {
		return u, p, err
	}
	p = i.person(id)
	p.Name = cmp.Or(p.Name, string(id))
	failed := named(p, string(id), func(p directory.Person) error { return a.directory.AddPerson(ctx, p) })
	if p, err = a.directory.Person(ctx, id); err != nil {
		return u, p, cmp.Or(failed, err)
	}
	return u, p, nil // if it failed, it was because another caller had added them
}

// named calls write with a person and, while their name is taken, again with another name.
func named(p directory.Person, other string, write func(directory.Person) error) error {
	err := write(p)
	if errors.Is(err, directory.ErrNameTaken) {
		p.Name = other
		err = write(p)
	}
	return err
}

// person is the directory's entry for an identity, without values that are not valid.
func (i Identity) person(id domain.UserID) directory.Person {
	p := directory.Person{User: id, Name: nameOf(i.Name), FullName: strings.TrimSpace(i.FullName), Address: i.Address}
	if checkName(p.Name) != nil {
		p.Name = ""
	}
	if checkText(FieldFullName, p.FullName) != nil {
		p.FullName = ""
	}
	if checkAddress(p.Address) != nil {
		p.Address = ""
	}
	return p
}
