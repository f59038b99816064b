package accounts

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

func identity(subject, name string) Identity {
	return Identity{Identity: directory.Identity{Issuer: "https://id.example", Subject: subject}, Name: name}
}

// signInAs begins a session, and returns who acts by it.
func (w *world) signInAs(t *testing.T, i Identity) domain.Actor {
	t.Helper()
	secret, id, err := w.SignInAs(t.Context(), Request{At: noon}, i)
	if err != nil {
		t.Fatal(err)
	}
	actor, err := w.BySession(t.Context(), secret, noon)
	if err != nil || actor.User != id {
		t.Fatalf("%+v, %v, want %s", actor, err, id)
	}
	return actor
}

func (w *world) wantPerson(t *testing.T, id domain.UserID, name, fullName, address string) {
	t.Helper()
	p, err := w.directory.Person(t.Context(), id)
	if want := (directory.Person{User: id, Name: name, FullName: fullName, Address: address}); err != nil || p != want {
		t.Errorf("%+v, %v, want %+v", p, err, want)
	}
}

// Whoever comes for the first time is added, and found again by issuer and subject, whatever else is said of them.
func TestSignInAs(t *testing.T) {
	w := newWorld(t)
	local := w.add(t, "ann")
	first := identity("7", "Ann")
	first.FullName, first.Address = " Ann O'Hara ", "ann@rooms.example"
	actor := w.signInAs(t, first)
	if actor.User == local || actor.Roles != "user" || actor.Rooms != "" {
		t.Errorf("%+v", actor)
	}
	w.wantPerson(t, actor.User, string(actor.User), "Ann O'Hara", "ann@rooms.example") // the name is that of another user, who is not taken over

	changed := identity("7", "annabella")
	changed.FullName, changed.Address, changed.Roles, changed.Rooms = "A\x00", "no address", "approver", "1"
	if again := w.signInAs(t, changed); again != (domain.Actor{User: actor.User, Roles: "approver", Rooms: "1"}) {
		t.Errorf("%+v", again)
	}
	w.wantPerson(t, actor.User, "annabella", "", "")

	kept := identity("7", "no name")
	if again := w.signInAs(t, kept); again != (domain.Actor{User: actor.User, Roles: "approver", Rooms: "1"}) {
		t.Errorf("without roles: %+v", again)
	}
	w.wantPerson(t, actor.User, "annabella", "", "")

	for _, name := range []string{"anna", "annabella"} { // each is what they are called from then on
		w.signInAs(t, identity("7", name))
		if called, _ := w.Name(t.Context(), actor.User); called != name {
			t.Errorf("called %q, want %q", called, name)
		}
	}

	another := identity("7", "annabella")
	another.Issuer = "https://other.example"
	if other := w.signInAs(t, another); other.User == actor.User {
		t.Error("the subject of another issuer is the same user")
	}

	// The log has their id, and who said so, and nothing else of them.
	for r, err := range w.log.ReadStream(t.Context(), actor.User.Stream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintf("%+v", r); r.Metadata.Actor != "provider" || strings.Contains(text, "nnabella") || strings.Contains(text, "Hara") || strings.Contains(text, "example") {
			t.Errorf("the log has %s", text)
		}
	}
}

// A browser and programs that come at the same moment, to several processes, are one user.
func TestOneUserForAnIdentity(t *testing.T) {
	w := newWorld(t)
	processes := []*world{w, w.another()}
	ids := make([]domain.UserID, 12)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			p := processes[i%2]
			if i%3 == 0 {
				actor, err := p.ByIdentity(t.Context(), Request{At: noon}, identity("7", ""))
				if ids[i] = actor.User; err != nil {
					t.Error(err)
				}
				return
			}
			_, id, err := p.SignInAs(t.Context(), Request{At: noon}, identity("7", "ann"))
			if ids[i] = id; err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	users, _, err := w.Users(t.Context(), admin, "", 0)
	if err != nil || len(users) != 1 {
		t.Fatalf("users %v, %v", users, err)
	}
	for _, id := range ids {
		if id != users[0].ID {
			t.Errorf("%s, want %s", id, users[0].ID)
		}
	}
}

// A provider says which of somebody's sessions is over, once.
func TestSignOutAtProvider(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	begin := func(session string) (secret string) {
		t.Helper()
		i := identity("7", "ann")
		i.SessionID, i.IDToken = session, "the token of "+session
		secret, _, err := w.SignInAs(ctx, Request{At: noon}, i)
		if err != nil {
			t.Fatal(err)
		}
		if token, err := w.IDToken(ctx, secret); err != nil || token != i.IDToken {
			t.Errorf("%q, %v", token, err)
		}
		return secret
	}
	wantThere := func(secret string, there bool) {
		t.Helper()
		if _, err := w.another().BySession(ctx, secret, noon); (err == nil) != there {
			t.Errorf("%v, there: %t", err, there)
		}
	}
	first, second := begin("s1"), begin("s2")
	said := ProviderLogout{Identity: directory.Identity{Issuer: identity("7", "").Issuer, Subject: "7"}, SessionID: "s1", TokenID: "1", ExpiresAt: noon.Add(time.Minute)}
	if err := w.SignOutAtProvider(ctx, said, noon); err != nil {
		t.Fatal(err)
	}
	wantThere(first, false)
	wantThere(second, true)
	if token, err := w.IDToken(ctx, first); err != nil || token != "" {
		t.Errorf("%q, %v", token, err)
	}
	wantErr(t, "again", w.SignOutAtProvider(ctx, said, noon), ErrLogoutUsed)
	said.SessionID, said.TokenID = "", "2"
	if err := w.SignOutAtProvider(ctx, said, noon); err != nil {
		t.Fatal(err)
	}
	wantThere(second, false)
}

// An access token says who, and may say in which roles; what is known of the user stays.
func TestByIdentity(t *testing.T) {
	w := newWorld(t)
	full := identity("7", "ann")
	full.FullName, full.Address = "Ann", "ann@rooms.example"
	user := w.signInAs(t, full).User
	events := w.counted.reads.Load()
	for range 3 {
		actor, err := w.ByIdentity(t.Context(), Request{At: noon}, identity("7", ""))
		if err != nil || actor != (domain.Actor{User: user, Roles: "user", ByToken: true}) {
			t.Errorf("%+v, %v", actor, err)
		}
	}
	if reads := w.counted.reads.Load() - events; reads > 1 {
		t.Errorf("%d reads of the log", reads)
	}
	w.wantPerson(t, user, "ann", "Ann", "ann@rooms.example")
	as := identity("7", "")
	as.Roles, as.Rooms = "machine", "1"
	if actor, err := w.ByIdentity(t.Context(), Request{At: noon}, as); err != nil || actor != (domain.Actor{User: user, Roles: "machine", Rooms: "1", ByToken: true}) {
		t.Errorf("%+v, %v", actor, err)
	}
	if u, err := w.User(t.Context(), admin, user); err != nil || u.Roles != "user" {
		t.Errorf("%+v, %v", u, err)
	}
	program, err := w.ByIdentity(t.Context(), Request{At: noon}, identity("client", ""))
	if err != nil || program.Roles != "user" {
		t.Errorf("a program: %+v, %v", program, err)
	}
	w.wantPerson(t, program.User, string(program.User), "", "")
}

func TestDisabledAndErasedIdentities(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	user := w.signInAs(t, identity("7", "ann")).User
	if err := w.Disable(ctx, admin, user, true); err != nil {
		t.Fatal(err)
	}
	as := identity("7", "ann")
	as.Roles = "admin"
	_, _, err := w.SignInAs(ctx, Request{At: noon}, as)
	wantErr(t, "a disabled user signs in", err, ErrDisabled)
	_, err = w.ByIdentity(ctx, Request{At: noon}, as)
	wantErr(t, "a disabled user's access token", err, ErrWrongCredentials)
	if u, err := w.User(ctx, admin, user); err != nil || u.Roles != "user" {
		t.Errorf("a disabled user has other roles: %+v, %v", u, err)
	}

	if err := w.Erase(ctx, admin, user); err != nil {
		t.Fatal(err)
	}
	again := w.signInAs(t, identity("7", "ann")).User
	if again == user {
		t.Error("an erased user is back")
	}
	third := w.signInAs(t, identity("8", "eve")).User
	slow := New(w.counted, &interrupted{Store: w.directory, addSession: func() {
		if err := w.Erase(ctx, admin, third); err != nil {
			t.Error(err)
		}
	}}, Options{})
	_, _, err = slow.SignInAs(ctx, Request{At: noon}, identity("8", "eve"))
	wantErr(t, "erased while they sign in", err, domain.ErrUserNotFound)
	if left, err := w.directory.Sessions(ctx, third); err != nil || len(left) > 0 {
		t.Errorf("sessions of an erased user: %+v, %v", left, err)
	}
	// So they are where an older copy of the directory is put back.
	if err := w.directory.Forget(ctx, again); err != nil {
		t.Fatal(err)
	}
	if id, err := w.directory.Identify(ctx, as.Identity, user); err != nil || id != user {
		t.Fatal(id, err)
	}
	if err := w.directory.AddPerson(ctx, directory.Person{User: user, Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	if restored := w.signInAs(t, identity("7", "ann")).User; restored == user {
		t.Error("an erased user is back, from a copy")
	}
	if _, err := w.directory.Person(ctx, user); !errors.Is(err, directory.ErrUnknown) {
		t.Errorf("the directory still has them: %v", err)
	}
}

// Whatever step the addition of a user ended at, the next one goes on from there.
func TestHalfAddedIdentities(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.directory.Identify(ctx, identity("7", "").Identity, "u7"); err != nil {
		t.Fatal(err)
	}
	if user := w.signInAs(t, identity("7", "ann")).User; user != "u7" {
		t.Errorf("%s", user)
	}
	w.wantPerson(t, "u7", "ann", "", "")
	if _, err := w.directory.Identify(ctx, identity("8", "").Identity, "u8"); err != nil {
		t.Fatal(err)
	}
	if _, err := transact(ctx, w.Accounts, admin, domain.UserID("u8").Stream(), func(u domain.User) ([]domain.Event, error) {
		return domain.DecideAddUser(u, "u8", "user", "", noon)
	}); err != nil {
		t.Fatal(err)
	}
	if user := w.signInAs(t, identity("8", "bob")).User; user != "u8" {
		t.Errorf("%s", user)
	}
	w.wantPerson(t, "u8", "bob", "", "")
}
