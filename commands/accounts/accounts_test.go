package accounts

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/directory/sqlite"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const (
	good  = "correct horse battery"
	other = "another staple entirely"
)

// counted are streams whose reads and appends are counted.
type counted struct {
	Streams
	reads, appends atomic.Int64
}

func (c *counted) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	c.appends.Add(1)
	return c.Streams.Append(ctx, stream, expected, events...)
}

func (c *counted) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	c.reads.Add(1)
	return c.Streams.ReadStream(ctx, stream, from)
}

// world is an event store, a directory and accounts over them.
type world struct {
	*Accounts
	log       *eventstore.Store
	counted   *counted
	directory directory.Store
}

func newWorld(t *testing.T) *world {
	t.Helper()
	store := eventstoretest.Open(t)
	d, err := sqlite.Open(filepath.Join(t.TempDir(), "accounts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &counted{Streams: store}
	return &world{New(c, d, Options{}), store, c, d}
}

// another are the accounts of another process.
func (w *world) another() *world {
	c := &counted{Streams: w.log}
	return &world{New(c, w.directory, Options{}), w.log, c, w.directory}
}

func by(user domain.UserID, roles ...domain.Role) Request {
	return Request{Actor: domain.Actor{User: user, Roles: domain.NewRoles(roles...), Rooms: domain.AllRooms}, At: noon}
}

var admin = by("boss", domain.RoleAdmin)

// add adds a user who signs in with good.
func (w *world) add(t *testing.T, name string, roles ...domain.Role) domain.UserID {
	t.Helper()
	if roles == nil {
		roles = []domain.Role{domain.RoleUser}
	}
	id, err := w.AddUser(t.Context(), admin, NewUser{Name: name, Password: good, Roles: domain.NewRoles(roles...)})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) signIn(t *testing.T, name, password string) string {
	t.Helper()
	secret, _, err := w.SignIn(t.Context(), SignIn{Name: name, Password: password, Client: "192.0.2.1", At: noon})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func (w *world) types(t *testing.T, stream string) (types []string) {
	t.Helper()
	for r, err := range w.log.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, r.Type)
	}
	return types
}

func TestAUsersLife(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.add(t, "Ann", domain.RoleUser, domain.RoleApprover)
	here, there := w.signIn(t, "ann", good), w.signIn(t, " ANN ", good)
	for _, secret := range []string{here, there} {
		if actor, err := w.BySession(ctx, secret, noon); err != nil || actor.User != id || actor.Roles != "user approver" {
			t.Fatalf("actor %+v, %v", actor, err)
		}
	}
	if err := w.SignOut(ctx, there); err != nil {
		t.Fatal(err)
	}
	_, err := w.BySession(ctx, there, noon)
	wantErr(t, "after signing out", err, ErrWrongCredentials)

	if err := w.GiveRoles(ctx, admin, id, "user", ""); err != nil {
		t.Fatal(err)
	}
	if actor, err := w.BySession(ctx, here, noon); err != nil || actor.Roles != "user" {
		t.Errorf("a session with other roles: %+v, %v", actor, err)
	}

	own := by(id, domain.RoleUser)
	wantErr(t, "without the old password", w.SetPassword(ctx, own, id, other, other), ErrWrongCredentials)
	if err := w.SetPassword(ctx, own, id, good, other); err != nil {
		t.Fatal(err)
	}
	_, err = w.BySession(ctx, here, noon)
	wantErr(t, "a session from before the password was changed", err, ErrWrongCredentials)
	renewed, err := w.Renew(ctx, own)
	if err != nil {
		t.Fatal(err)
	}
	if actor, err := w.BySession(ctx, renewed, noon); err != nil || actor.User != id {
		t.Errorf("the session in its place: %+v, %v", actor, err)
	}
	_, _, err = w.SignIn(ctx, SignIn{Name: "ann", Password: good, At: noon})
	wantErr(t, "the old password", err, ErrWrongCredentials)
	here = w.signIn(t, "ann", other)

	if err := w.SignOutEverywhere(ctx, own, id); err != nil {
		t.Fatal(err)
	}
	_, err = w.BySession(ctx, here, noon)
	wantErr(t, "signed out everywhere", err, ErrWrongCredentials)

	here = w.signIn(t, "ann", other)
	if err := w.Disable(ctx, admin, id, true); err != nil {
		t.Fatal(err)
	}
	_, err = w.BySession(ctx, here, noon)
	wantErr(t, "disabled", err, ErrWrongCredentials)
	_, _, err = w.SignIn(ctx, SignIn{Name: "ann", Password: other, At: noon})
	wantErr(t, "a disabled user signs in", err, ErrWrongCredentials)
	if err := w.Disable(ctx, admin, id, false); err != nil {
		t.Fatal(err)
	}
	_, err = w.BySession(ctx, here, noon)
	wantErr(t, "a session from before", err, ErrWrongCredentials)
	w.signIn(t, "ann", other)

	if err := w.Erase(ctx, admin, id); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.SignIn(ctx, SignIn{Name: "ann", Password: other, At: noon})
	wantErr(t, "an erased user signs in", err, ErrWrongCredentials)
	_, err = w.User(ctx, admin, id)
	wantErr(t, "an erased user", err, domain.ErrUserNotFound)
	want := []string{"UserAdded", "RolesGiven", "PasswordChanged", "SignedOutEverywhere", "UserDisabled", "UserEnabled", "UserErased"}
	if got := w.types(t, id.Stream()); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if w.add(t, "ann") == id { // somebody else
		t.Error("an id is used again")
	}
}

// The log never has anything by which a person can be told, before they are erased or after; and it is the log that lists, exports and
// backups are made of.
func TestTheLogKnowsNobody(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	from, err := w.log.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.AddUser(ctx, admin, NewUser{Name: "annabella", FullName: "Annabella Zeppelin", Address: "zeppelin@rooms.example", Password: good, Roles: "user"})
	if err != nil {
		t.Fatal(err)
	}
	secret, token, err := w.CreateToken(ctx, by(id, domain.RoleUser), NewToken{User: id, Label: "on the Zeppelin laptop", ExpiresAt: noon.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	session := w.signIn(t, "annabella", good)
	if err := w.SetPassword(ctx, admin, id, "", other); err != nil {
		t.Fatal(err)
	}
	p, err := w.directory.Person(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Erase(ctx, admin, id); err != nil {
		t.Fatal(err)
	}
	events := 0
	for e, err := range w.log.StoredAfter(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Stream != id.Stream() && e.Stream != token.ID.Stream() {
			continue
		}
		events++
		text := strings.ToLower(e.Stream + string(e.Data) + string(e.Metadata))
		for _, personal := range []string{"annabella", "zeppelin", "rooms.example", "laptop", good, other, "argon2", p.Password, secret, session} {
			if strings.Contains(text, strings.ToLower(personal)) {
				t.Errorf("%s of %s has %q: %s %s", e.Type, e.Stream, personal, e.Data, e.Metadata)
			}
		}
	}
	if events != 4 {
		t.Errorf("%d events, want 4", events)
	}
}

// Whoever creates a token for a user whom another process erases meanwhile leaves nothing of them in the directory, whichever comes first.
func TestATokenForWhoIsBeingErased(t *testing.T) {
	for _, when := range []string{"before the token is added", "after the directory has forgotten them"} {
		w := newWorld(t)
		ctx := t.Context()
		id := w.add(t, "ann")
		if _, err := w.user(ctx, id); err != nil { // cached
			t.Fatal(err)
		}
		create := func() error {
			_, _, err := w.CreateToken(ctx, admin, NewToken{User: id, Label: "Zeppelin", ExpiresAt: noon.Add(time.Hour)})
			return err
		}
		other := w.another()
		erase := func() {
			if err := other.Erase(ctx, admin, id); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if when == "before the token is added" {
			w.Accounts.directory = &interrupted{Store: w.directory, addToken: erase}
			err = create()
		} else {
			other.Accounts.directory = &interrupted{Store: w.directory, forgotten: func() { err = create() }}
			erase()
		}
		wantErr(t, when, err, domain.ErrUserNotFound)
		if rows, err := w.directory.Tokens(ctx, id, "", 0); err != nil || len(rows) > 0 {
			t.Errorf("%s: the directory has %+v, %v", when, rows, err)
		}
	}
}

// A directory that was restored from a copy has whom it had forgotten. They can do nothing, and are forgotten again.
func TestErasedInARestoredDirectory(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.add(t, "ann")
	copied, err := w.directory.Person(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	for name, look := range map[string]func() error{
		"list": func() error {
			users, _, err := w.Users(ctx, admin, "", 0)
			if len(users) > 0 {
				t.Errorf("users %+v", users)
			}
			return err
		},
		"look up": func() error {
			_, err := w.Named(ctx, admin, "ann")
			wantErr(t, "look up", err, domain.ErrUserNotFound)
			return nil
		},
		"erase": func() error { return w.Erase(ctx, admin, id) },
	} {
		if err := w.Erase(ctx, admin, id); err != nil {
			t.Fatal(err)
		}
		if err := w.directory.AddPerson(ctx, copied); err != nil {
			t.Fatal(err)
		}
		_, _, err := w.SignIn(ctx, SignIn{Name: "ann", Password: good, At: noon})
		wantErr(t, name+": sign in", err, ErrWrongCredentials)
		if err := look(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err = w.directory.Person(ctx, id)
		wantErr(t, name+": in the directory afterwards", err, directory.ErrUnknown)
	}
}

func TestWhatUsersMayBe(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.add(t, "ann")
	for name, c := range map[string]struct {
		user  NewUser
		fault domain.Field // or else the name is taken
	}{
		"taken":              {NewUser{Name: "ANN", Roles: "user"}, ""},
		"no name":            {NewUser{Roles: "user"}, FieldName},
		"a name of two":      {NewUser{Name: "a b", Roles: "user"}, FieldName},
		"a long name":        {NewUser{Name: strings.Repeat("a", 65), Roles: "user"}, FieldName},
		"not UTF-8":          {NewUser{Name: "a\xff", Roles: "user"}, FieldName},
		"no roles":           {NewUser{Name: "eve"}, FieldRoles},
		"an unknown role":    {NewUser{Name: "eve", Roles: "pilot"}, FieldRoles},
		"a short password":   {NewUser{Name: "eve", Password: "short", Roles: "user"}, FieldPassword},
		"a long password":    {NewUser{Name: "eve", Password: strings.Repeat("a", 1025), Roles: "user"}, FieldPassword},
		"the name":           {NewUser{Name: "evelyn-the-first", Password: "Evelyn-the-First", Roles: "user"}, FieldPassword},
		"no address":         {NewUser{Name: "eve", Address: "eve", Roles: "user"}, FieldAddress},
		"a name and address": {NewUser{Name: "eve", Address: "Eve <eve@rooms.example>", Roles: "user"}, FieldAddress},
		"two lines":          {NewUser{Name: "eve", FullName: "Eve\nof two lines", Roles: "user"}, FieldFullName},
	} {
		_, err := w.AddUser(ctx, admin, c.user)
		wrong, is := errors.AsType[*domain.Invalid](err)
		if c.fault == "" {
			wantErr(t, name, err, directory.ErrNameTaken)
		} else if !is || len(wrong.Faults) != 1 || wrong.Faults[0].Field != c.fault {
			t.Errorf("%s: %v, want a fault of %s", name, err, c.fault)
		}
	}
	if _, err := w.AddUser(ctx, admin, NewUser{Name: "김철수@회의실", FullName: "김 철수", Roles: "user"}); err != nil {
		t.Error(err)
	}
	if _, _, err := w.SignIn(ctx, SignIn{Name: "김철수@회의실", Password: "", At: noon}); !errors.Is(err, ErrWrongCredentials) {
		t.Errorf("one without a password signs in without one: %v", err)
	}
}

// Of many who are added with one name at the same moment, in two processes, one is, and the others leave no user who can do anything.
func TestOneNameForOne(t *testing.T) {
	w := newWorld(t)
	processes := []*world{w, w.another()}
	var all sync.WaitGroup
	var added atomic.Int64
	for i := range 8 {
		all.Go(func() {
			_, err := processes[i%2].AddUser(t.Context(), admin, NewUser{Name: "ann", Roles: "user"})
			if err == nil {
				added.Add(1)
			} else if !errors.Is(err, directory.ErrNameTaken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	users, _, err := w.Users(t.Context(), admin, "", 0)
	if err != nil || added.Load() != 1 || len(users) != 1 {
		t.Errorf("%d were added, %d are there, %v", added.Load(), len(users), err)
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.add(t, "ann")
	idle, used := w.signIn(t, "ann", good), w.signIn(t, "ann", good)
	end := noon.Add(DefaultLife)
	for at := noon; at.Before(end); at = at.Add(DefaultIdle - time.Minute) {
		if _, err := w.BySession(ctx, used, at); err != nil {
			t.Fatalf("a session that is used, after %s: %v", at.Sub(noon), err)
		}
	}
	_, err := w.BySession(ctx, used, end)
	wantErr(t, "a session that has lasted long enough", err, ErrWrongCredentials)
	if _, err = w.BySession(ctx, idle, noon.Add(DefaultIdle-1)); err != nil {
		t.Errorf("a session that was idle for almost too long: %v", err)
	}
	idle = w.signIn(t, "ann", good)
	_, err = w.BySession(ctx, idle, noon.Add(DefaultIdle))
	wantErr(t, "a session that was idle for too long", err, ErrWrongCredentials)
	for _, secret := range []string{"", "x", used + "x", strings.ToUpper(used)} {
		_, err := w.BySession(ctx, secret, noon)
		wantErr(t, fmt.Sprintf("session %q", secret), err, ErrWrongCredentials)
	}
	if _, err := w.directory.Session(ctx, used); !errors.Is(err, directory.ErrUnknown) {
		t.Error("the directory has the secret of a session, not a hash of it")
	}
	// Signing in removes the sessions that are over.
	if _, _, err := w.SignIn(ctx, SignIn{Name: "ann", Password: good, At: end.Add(DefaultLife)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.directory.Session(ctx, hashOf(idle)); !errors.Is(err, directory.ErrUnknown) {
		t.Errorf("a session that is over: %v", err)
	}
}

// A change takes effect at once in the process that makes it, and in another once that asks again.
func TestAnotherProcessDisablesAUser(t *testing.T) {
	w := newWorld(t)
	elsewhere := w.another()
	id := w.add(t, "ann")
	secret := w.signIn(t, "ann", good)
	if _, err := w.BySession(t.Context(), secret, noon); err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Disable(t.Context(), admin, id, true); err != nil {
		t.Fatal(err)
	}
	_, err := elsewhere.BySession(t.Context(), secret, noon)
	wantErr(t, "where it was done", err, ErrWrongCredentials)
	for {
		if _, err := w.BySession(t.Context(), secret, noon); err != nil {
			wantErr(t, "elsewhere", err, ErrWrongCredentials)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A name that is nobody's costs what somebody's costs: a hash and a read of a stream.
func TestUnknownNamesTakeAsLong(t *testing.T) {
	w := newWorld(t)
	w.add(t, "ann")
	if _, err := w.AddUser(t.Context(), admin, NewUser{Name: "bob", Roles: "user"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ann", "bob", "nobody", "eve", ""} {
		before := w.counted.reads.Load()
		_, _, err := w.SignIn(t.Context(), SignIn{Name: name, Password: other, At: noon})
		wantErr(t, name, err, ErrWrongCredentials)
		if reads := w.counted.reads.Load() - before; reads != 1 {
			t.Errorf("%q: %d reads", name, reads)
		}
	}
	// While nothing can be hashed, nobody can be refused either.
	w.hasher.running <- struct{}{}
	w.hasher.running <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"bob", "eve"} {
		if ok, err := w.hasher.matches(ctx, other, ""); ok || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
}

func TestHashes(t *testing.T) {
	h := newHasher()
	ctx := t.Context()
	one, err := h.hash(ctx, good)
	if err != nil || !strings.HasPrefix(one, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(one, err)
	}
	two, err := h.hash(ctx, good)
	if err != nil || one == two {
		t.Error("two hashes have one salt")
	}
	for password, want := range map[string]bool{good: true, other: false, "": false, good + " ": false} {
		if ok, err := h.matches(ctx, password, one); ok != want || err != nil {
			t.Errorf("%q: %t, %v", password, ok, err)
		}
	}
	for _, hash := range []string{"x", "$argon2i$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", strings.Replace(one, "m=19456", "m=99999999", 1),
		strings.Replace(one, "t=2", "t=0", 1), strings.Replace(one, "p=1", "p=0", 1), strings.Replace(one, "v=19", "v=16", 1), one[:len(one)-40]} {
		if ok, err := h.matches(ctx, good, hash); ok || err == nil {
			t.Errorf("hash %q: %t, %v", hash, ok, err)
		}
	}
	if ok, err := h.matches(ctx, "", ""); ok || err != nil {
		t.Errorf("no password for no hash: %t, %v", ok, err)
	}
}

// At most two passwords are hashed at a time, and a bounded number wait.
func TestHashesAreBounded(t *testing.T) {
	h := newHasher()
	begun, end := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if err := h.run(t.Context(), func() { begun <- struct{}{}; <-end }); err != nil {
				t.Error(err)
			}
		})
	}
	<-begun
	<-begun
	select {
	case h.running <- struct{}{}:
		t.Error("there is room for a third one")
	default:
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "a third one, whose caller has gone", h.run(gone, func() { t.Error("three are hashed at a time") }), context.Canceled)
	close(end)
	all.Wait()
	for range maxWaiting {
		h.waiting <- struct{}{}
	}
	wantErr(t, "one too many", h.run(t.Context(), func() { t.Error("was run") }), ErrBusy)
}

func TestThrottle(t *testing.T) {
	th := newThrottle(3, 4*time.Second)
	wait := func(at time.Duration) time.Duration {
		if late, ok := errors.AsType[*TooManyTries](th.try("ann", noon.Add(at))); ok {
			return late.Wait
		}
		return 0
	}
	for _, step := range []struct{ at, wait time.Duration }{
		{0, 0}, {0, 0}, {0, 0}, // free
		{0, time.Second}, {500 * time.Millisecond, 500 * time.Millisecond}, // tries that are refused do not count
		{time.Second, 0}, {time.Second, 2 * time.Second},
		{3 * time.Second, 0}, {3 * time.Second, 4 * time.Second},
		{7 * time.Second, 0}, {7 * time.Second, 4 * time.Second}, // not more than the maximum
		{7*time.Second + forgetAfter + 1, 0}, {7*time.Second + forgetAfter + 1, 0}, // forgotten
	} {
		if got := wait(step.at); got != step.wait {
			t.Errorf("after %s: wait %s, want %s", step.at, got, step.wait)
		}
	}
	for range 3 {
		_ = th.try("office", noon)
	}
	for at := time.Minute; at < time.Hour; at += time.Minute { // others sign in there
		if err := th.try("office", noon.Add(at)); err != nil {
			t.Fatalf("after %s: %v", at, err)
		}
		th.takeBack("office", noon.Add(at))
	}
	for range 3 {
		if err := th.try("office", noon.Add(time.Hour)); err != nil {
			t.Errorf("failures are kept by the tries of others: %v", err)
		}
	}
	if err := th.try("bob", noon); err != nil {
		t.Errorf("another: %v", err)
	}
	for range 10 {
		if err := th.try("eve", noon); err != nil {
			t.Fatal(err)
		}
		th.succeed("eve")
	}
}

// Tries at the same moment count too, for names that are nobody's as well.
func TestGuessesAreDelayed(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.SignIn(t.Context(), SignIn{Name: strings.Repeat("x", 2000), Password: good, Client: "192.0.2.9", At: noon})
	wantErr(t, "a name that nobody can have", err, ErrWrongCredentials)
	for _, name := range w.byName.tries.Keys() {
		if len(name) > 4*maxName {
			t.Errorf("%d bytes are remembered of a name", len(name))
		}
	}
	w.add(t, "ann")
	for _, name := range []string{"ann", "eve"} {
		var all sync.WaitGroup
		var tried, refused atomic.Int64
		for range 12 {
			all.Go(func() {
				_, _, err := w.SignIn(t.Context(), SignIn{Name: name, Password: other, Client: name, At: noon})
				if _, late := errors.AsType[*TooManyTries](err); late {
					refused.Add(1)
				} else if errors.Is(err, ErrWrongCredentials) {
					tried.Add(1)
				} else {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if tried.Load() != 5 || refused.Load() != 7 {
			t.Errorf("%s: %d were tried, %d refused", name, tried.Load(), refused.Load())
		}
	}
	if _, _, err := w.SignIn(t.Context(), SignIn{Name: "ann", Password: good, Client: "elsewhere", At: noon}); err == nil {
		t.Error("signed in during the delay")
	}
	if _, _, err := w.SignIn(t.Context(), SignIn{Name: "ann", Password: good, Client: "elsewhere", At: noon.Add(time.Minute)}); err != nil {
		t.Errorf("after the delay: %v", err)
	}
	w.add(t, "sprayer")
	_, code, _ := w.codeFor(t, "sprayer")
	for i := range 20 {
		_, _, err := w.SignIn(t.Context(), SignIn{Name: fmt.Sprint("name", i), Password: other, Client: "sprayer", At: noon.Add(time.Duration(i))})
		wantErr(t, "one of many names", err, ErrWrongCredentials)
		if i != 18 {
			continue
		}
		// Whoever has an account and a link of their own still has failed as often as before, and no more often.
		if _, _, err := w.SignIn(t.Context(), SignIn{Name: "sprayer", Password: good, Client: "sprayer", At: noon.Add(time.Second)}); err != nil {
			t.Error(err)
		}
		if _, invalid := errors.AsType[*domain.Invalid](w.ChoosePassword(t.Context(), code, "short", "sprayer", noon.Add(time.Second))); !invalid {
			t.Error("the link cannot be used")
		}
	}
	if _, _, err := w.SignIn(t.Context(), SignIn{Name: "ann", Password: good, Client: "sprayer", At: noon}); err == nil {
		t.Error("who tries many names is not delayed")
	}
}

func TestSetUp(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	first := NewUser{Name: "boss", Password: good, Roles: "user"}
	_, err := w.SetUp(ctx, "", first, noon)
	wantErr(t, "no code", err, ErrWrongCredentials)
	code, err := w.SetUpCode(ctx)
	if err != nil || code == "" {
		t.Fatal(code, err)
	}
	_, err = w.SetUp(ctx, code+"x", first, noon)
	wantErr(t, "another code", err, ErrWrongCredentials)
	for _, password := range []string{"", "short"} {
		if _, err = w.SetUp(ctx, code, NewUser{Name: "boss", Password: password}, noon); !errors.As(err, new(*domain.Invalid)) {
			t.Errorf("password %q: %v", password, err)
		}
	}
	id, err := w.SetUp(ctx, code, first, noon)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := w.User(ctx, admin, id); err != nil || !u.Roles.Has(domain.RoleAdmin) || u.Rooms != domain.AllRooms {
		t.Errorf("the first user: %+v, %v", u, err)
	}
	_, err = w.SetUp(ctx, code, NewUser{Name: "eve", Password: good}, noon)
	wantErr(t, "the code again", err, ErrWrongCredentials)
	if code, err := w.SetUpCode(ctx); code != "" || err != nil {
		t.Errorf("a code where there are users: %q, %v", code, err)
	}

	// A user who was added otherwise meanwhile ends it.
	w = newWorld(t)
	if code, err = w.SetUpCode(ctx); err != nil {
		t.Fatal(err)
	}
	w.add(t, "ann")
	_, err = w.SetUp(ctx, code, first, noon)
	wantErr(t, "the code of a system that has users", err, ErrWrongCredentials)
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id, err := w.AddUser(ctx, admin, NewUser{Name: "ann", Roles: "user approver", Rooms: "blue red"})
	if err != nil {
		t.Fatal(err)
	}
	own := Request{Actor: domain.Actor{User: id, Roles: "user approver", Rooms: "blue red"}, At: noon}
	secret, token, err := w.CreateToken(ctx, own, NewToken{User: id, Label: "cron", Roles: "approver", Rooms: "red", ExpiresAt: noon.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if !wellFormed(secret) || len(secret) != 55 {
		t.Errorf("token %q", secret)
	}
	want := domain.Actor{User: id, Roles: "approver", Rooms: "red", ByToken: true}
	if actor, err := w.ByToken(ctx, secret, noon.Add(time.Minute)); err != nil || actor != want {
		t.Errorf("actor %+v, %v", actor, err)
	}
	tokens, err := w.Tokens(ctx, own, id)
	if err != nil || len(tokens) != 1 || tokens[0].Label != "cron" || !tokens[0].UsedAt.Equal(noon.Add(time.Minute)) || tokens[0].ID != token.ID {
		t.Errorf("tokens %+v, %v", tokens, err)
	}

	// One that cannot be a token is refused without a look, so also while the directory is away.
	closed, err := sqlite.Open(filepath.Join(t.TempDir(), "accounts.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	away := New(w.log, closed, Options{})
	_, err = away.ByToken(ctx, secret, noon)
	wantErr(t, "a token while the directory is away", err, directory.ErrUnavailable)
	before := w.counted.reads.Load()
	for _, wrong := range []string{"", "rbk_", secret[:54], secret + "0", "RBK_" + secret[4:], secret[:20] + "x" + secret[21:], newSecret()} {
		if wrong == secret {
			continue
		}
		_, err := away.ByToken(ctx, wrong, noon)
		wantErr(t, wrong, err, ErrWrongCredentials)
	}
	_, err = w.ByToken(ctx, newToken(), noon) // well-formed, and nobody's
	wantErr(t, "an unknown token", err, ErrWrongCredentials)
	if reads := w.counted.reads.Load(); reads != before {
		t.Errorf("%d reads for tokens that are none", reads-before)
	}
	_, err = w.ByToken(ctx, secret, noon.Add(time.Hour))
	wantErr(t, "an expired token", err, ErrWrongCredentials)

	// A token makes nothing that outlives it, also one of an administrator for others.
	for _, roles := range []domain.Roles{want.Roles, "admin"} {
		byToken := Request{Actor: domain.Actor{User: id, Roles: roles, ByToken: true}, At: noon}
		_, _, err = w.CreateToken(ctx, byToken, NewToken{User: id, ExpiresAt: noon.Add(time.Minute)})
		wantErr(t, "a token of a token", err, ErrByToken)
	}
	byAdmin := Request{Actor: domain.Actor{User: id, Roles: "admin", ByToken: true}, At: noon}
	_, err = w.PairDisplay(ctx, byAdmin, "BBBB-BBBB")
	wantErr(t, "a display of a token", err, ErrByToken)
	_, _, err = w.PasswordCode(ctx, byAdmin, id)
	wantErr(t, "a password of a token", err, ErrByToken)
	_, _, err = w.CreateToken(ctx, own, NewToken{User: id, Roles: "admin", ExpiresAt: noon.Add(time.Hour)})
	wantErr(t, "a role that the user lacks", err, domain.ErrBeyondUser)
	_, _, err = w.CreateToken(ctx, own, NewToken{User: id, ExpiresAt: noon})
	wantErr(t, "an expired token", err, domain.ErrTokenLife)

	wantErr(t, "somebody else revokes it", w.RevokeToken(ctx, by("eve", domain.RoleUser), token.ID), domain.ErrTokenNotFound)
	wantErr(t, "an unknown one is revoked", w.RevokeToken(ctx, own, "none"), domain.ErrTokenNotFound)
	for range 2 {
		if err := w.RevokeToken(ctx, own, token.ID); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.ByToken(ctx, secret, noon)
	wantErr(t, "a revoked token", err, ErrWrongCredentials)
	if tokens, err := w.Tokens(ctx, own, id); err != nil || len(tokens) != 0 {
		t.Errorf("tokens %+v, %v", tokens, err)
	}
	if got, want := w.types(t, token.ID.Stream()), []string{"TokenIssued", "TokenRevoked"}; !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}

	// Tokens end with what their user can do.
	secret, _, err = w.CreateToken(ctx, admin, NewToken{User: id, ExpiresAt: noon.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.GiveRoles(ctx, admin, id, "user", ""); err != nil {
		t.Fatal(err)
	}
	if actor, err := w.ByToken(ctx, secret, noon); err != nil || actor.Roles != "user" || actor.Rooms != "" {
		t.Errorf("actor %+v, %v", actor, err)
	}
	if err := w.Erase(ctx, admin, id); err != nil {
		t.Fatal(err)
	}
	_, err = w.ByToken(ctx, secret, noon)
	wantErr(t, "the token of an erased user", err, ErrWrongCredentials)
}

// Every method that takes a request asks the table, and every other one is among those that need not.
func TestEveryCommandIsDecided(t *testing.T) {
	w := newWorld(t)
	id := w.add(t, "ann")
	withoutActor := []string{"ByFeedToken", "ByIdentity", "BySession", "ByToken", "ChoosePassword", "IDToken", "Name", "SetUp", "SetUpCode", "ShowCode", "SignIn", "SignInAs", "SignOut", "SignOutAtProvider"} // or with another than the request's
	methods := reflect.TypeFor[*Accounts]()
	for i := range methods.NumMethod() {
		m := methods.Method(i)
		if slices.Contains(withoutActor, m.Name) || m.Name == "Renew" { // of the actor's own session
			continue
		}
		args := []reflect.Value{reflect.ValueOf(w.Accounts), reflect.ValueOf(t.Context())}
		if m.Type.NumIn() < 3 || m.Type.In(2) != reflect.TypeFor[Request]() {
			t.Errorf("%s takes no request", m.Name)
			continue
		}
		for j := 2; j < m.Type.NumIn(); j++ {
			arg := reflect.New(m.Type.In(j)).Elem()
			switch v := arg.Addr().Interface().(type) {
			case *Request:
				*v = Request{Actor: domain.Actor{User: "eve"}, At: noon} // who has no role
			case *domain.UserID:
				*v = id
			case *NewToken:
				v.User = id
			}
			args = append(args, arg)
		}
		before := w.counted.appends.Load()
		results := m.Func.Call(args)
		err, _ := results[len(results)-1].Interface().(error)
		if _, forbidden := errors.AsType[*domain.Forbidden](err); !forbidden && !(m.Name == "RevokeToken" && errors.Is(err, domain.ErrTokenNotFound)) {
			t.Errorf("%s by nobody in particular: %v", m.Name, err)
		}
		if w.counted.appends.Load() != before {
			t.Errorf("%s by nobody in particular has changed something", m.Name)
		}
	}
}

// A display's code holds for ten minutes and is used once; neither asking for codes nor guessing them can be done quickly.
func TestDisplayCodes(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	secret, code, err := w.ShowCode(ctx, "blue", "", "client", noon)
	if err != nil || !wellFormed(secret) || len(code) != 9 {
		t.Fatal(secret, code, err)
	}
	for what, c := range map[string]struct {
		room   domain.RoomID
		secret string
		at     time.Time
		same   bool
	}{
		"again": {"blue", secret, noon.Add(displayCodeLife - 1), true}, "too late": {"blue", secret, noon.Add(displayCodeLife), false},
		"at another door": {"red", secret, noon, false}, "another's": {"blue", newToken(), noon, false}, "nonsense": {"blue", "rbk_", noon, false},
	} {
		if got, shown, err := w.ShowCode(ctx, c.room, c.secret, what, c.at); err != nil || (shown == code) != c.same || (got == secret) != c.same {
			t.Errorf("%s: %s, %v", what, shown, err)
		}
	}
	late := admin
	late.At = noon.Add(displayCodeLife)
	_, err = w.PairDisplay(ctx, late, code)
	wantErr(t, "an expired code", err, ErrNoDisplay)
	w.add(t, "ann")
	_, password, _ := w.codeFor(t, "ann")
	_, err = w.PairDisplay(ctx, admin, password)
	wantErr(t, "the code of a password", err, ErrNoDisplay)
	wantErr(t, "the code of a display", w.ChoosePassword(ctx, code, "correct horse battery", "client", noon), ErrWrongCredentials)

	var all sync.WaitGroup
	var paired atomic.Int64
	for range 4 {
		all.Go(func() {
			if _, err := w.PairDisplay(ctx, admin, code); err == nil {
				paired.Add(1)
			} else if !errors.Is(err, ErrNoDisplay) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if paired.Load() != 1 {
		t.Errorf("a code was used %d times", paired.Load())
	}
	if actor, err := w.ByToken(ctx, secret, noon); err != nil || actor.Roles != "door" || actor.Rooms != "blue" {
		t.Errorf("the display acts as %+v, %v", actor, err)
	}

	// The name of a door is a door's.
	w.add(t, "door-red")
	_, code, err = w.ShowCode(ctx, "red", "", "client", noon)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.PairDisplay(ctx, admin, code)
	wantErr(t, "somebody has the door's name", err, directory.ErrNameTaken)

	tooMany := func(do func() error) (n int) {
		for n = range 100 {
			if _, ok := errors.AsType[*TooManyTries](do()); ok {
				return n
			}
		}
		return 100
	}
	if n := tooMany(func() error { _, _, err := w.ShowCode(ctx, "blue", "", "greedy", noon); return err }); n > 20 {
		t.Errorf("%d codes at once", n)
	}
	guesser := by("guesser", domain.RoleAdmin)
	if n := tooMany(func() error { _, err := w.PairDisplay(ctx, guesser, "BBBB-BBBB"); return err }); n > 20 {
		t.Errorf("%d guesses at once", n)
	}
	_, err = w.PairDisplay(ctx, guesser, code)
	if _, ok := errors.AsType[*TooManyTries](err); !ok {
		t.Errorf("the right code after too many wrong ones: %v", err)
	}
}

// A user has no more than maxTokens, also if the last one is issued by another process at the same moment.
func TestTooManyTokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.add(t, "ann")
	for i := range maxTokens - 1 {
		if err := w.directory.AddToken(ctx, directory.Token{ID: domain.TokenID(fmt.Sprint("t", i)), User: id}); err != nil {
			t.Fatal(err)
		}
	}
	create := func(a *Accounts) error {
		_, _, err := a.CreateToken(ctx, admin, NewToken{User: id, ExpiresAt: noon.Add(time.Hour)})
		return err
	}
	slow := New(w.counted, &interrupted{Store: w.directory, addToken: func() { wantErr(t, "the last one", create(w.Accounts), nil) }}, Options{})
	wantErr(t, "one more at the same moment", create(slow), ErrTooManyTokens)
	wantErr(t, "one more", create(w.Accounts), ErrTooManyTokens)
	if tokens, err := w.directory.Tokens(ctx, id, "", 0); err != nil || len(tokens) != maxTokens {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
}

// Two administrators who change a user at the same moment, in two processes, each change what they wanted to and nothing else.
func TestTwoChangesOfAUser(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.add(t, "ann")
	other := w.another()
	change := func(a *Accounts, c Change) {
		if err := a.ChangeUser(ctx, admin, id, c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.user(ctx, id); err != nil { // cached, with the role that is taken in the other process
		t.Fatal(err)
	}
	change(other.Accounts, Change{Roles: new(domain.NewRoles(domain.RoleMachine))})
	w.Accounts.directory = &interrupted{Store: w.directory, changePerson: func() { change(other.Accounts, Change{Address: new("ann@rooms.example")}) }}
	change(w.Accounts, Change{FullName: new("Ann"), Rooms: new(domain.NewRooms("red"))})
	u, err := w.another().User(ctx, admin, id)
	if err != nil || u.Roles != "machine" || u.Rooms != "red" || u.FullName != "Ann" || u.Address != "ann@rooms.example" {
		t.Errorf("%+v, %v", u, err)
	}
}

// interrupted is a directory where something else happens after a name is looked up or a user is forgotten, or before a password or a
// person is changed, or a token or a session is added.
type interrupted struct {
	directory.Store
	named, setPassword, changePerson, addToken, addSession, forgotten func()
}

func (d *interrupted) AddToken(ctx context.Context, t directory.Token) error {
	if d.addToken != nil {
		d.addToken()
	}
	return d.Store.AddToken(ctx, t)
}

func (d *interrupted) ChangePerson(ctx context.Context, were, p directory.Person) error {
	if d.changePerson != nil {
		d.changePerson()
	}
	return d.Store.ChangePerson(ctx, were, p)
}

func (d *interrupted) AddSession(ctx context.Context, s directory.Session) error {
	if d.addSession != nil {
		d.addSession()
	}
	return d.Store.AddSession(ctx, s)
}

func (d *interrupted) Forget(ctx context.Context, id domain.UserID) error {
	err := d.Store.Forget(ctx, id)
	if d.forgotten != nil {
		d.forgotten()
	}
	return err
}

func (d *interrupted) Named(ctx context.Context, name string) (directory.Person, error) {
	p, err := d.Store.Named(ctx, name)
	if d.named != nil {
		d.named()
	}
	return p, err
}

func (d *interrupted) SetPassword(ctx context.Context, user domain.UserID, former, hash string) error {
	if d.setPassword != nil {
		d.setPassword()
	}
	return d.Store.SetPassword(ctx, user, former, hash)
}

// Whoever signs in with a password while it is replaced is not signed in after that.
func TestSignInWhileThePasswordChanges(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.add(t, "ann")
	change := func(a *Accounts, password string) {
		if err := a.SetPassword(ctx, admin, id, "", password); err != nil {
			t.Error(err)
		}
	}
	slow := New(w.counted, &interrupted{Store: w.directory, named: func() { change(w.Accounts, other) }}, Options{})
	_, _, err := slow.SignIn(ctx, SignIn{Name: "ann", Password: good, Client: "client", At: noon})
	wantErr(t, "a sign-in that began before", err, ErrWrongCredentials)
	if left, err := w.another().Sessions(ctx, admin, id); err != nil || len(left) != 0 {
		t.Errorf("sessions %v, %v", left, err)
	}

	var secret string
	change(New(w.counted, &interrupted{Store: w.directory, setPassword: func() { secret = w.signIn(t, "ann", other) }}, Options{}), good)
	_, err = w.another().BySession(ctx, secret, noon)
	wantErr(t, "a sign-in in between", err, ErrWrongCredentials)
	w.signIn(t, "ann", good)

	// What an administrator decides is not undone by who knew the password before.
	slow = New(w.counted, &interrupted{Store: w.directory, setPassword: func() { change(w.Accounts, other) }}, Options{})
	wantErr(t, "a change that began before", slow.SetPassword(ctx, by(id, domain.RoleUser), id, good, "a third one, stolen"), ErrWrongCredentials)
	w.signIn(t, "ann", other)
}

// codeFor returns a user and a code with which they choose a password.
func (w *world) codeFor(t *testing.T, name string) (domain.UserID, string, time.Time) {
	t.Helper()
	u, err := w.Named(t.Context(), admin, name)
	if err != nil {
		t.Fatal(err)
	}
	code, expires, err := w.PasswordCode(t.Context(), admin, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	return u.ID, code, expires
}

func TestPasswordCodes(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	const password = "correct horse battery"
	id := w.add(t, "ann")
	_, code, expires := w.codeFor(t, "ann")
	wantErr(t, "an expired code", w.ChoosePassword(ctx, code, password, "client", expires), ErrWrongCredentials)
	var all sync.WaitGroup
	var chosen atomic.Int64
	for range 3 {
		all.Go(func() {
			if w.ChoosePassword(ctx, code, password, "client", noon) == nil {
				chosen.Add(1)
			}
		})
	}
	all.Wait()
	if chosen.Load() != 1 {
		t.Errorf("a code was used %d times", chosen.Load())
	}
	if got := w.types(t, id.Stream()); got[len(got)-1] != "PasswordChanged" {
		t.Errorf("events %v", got)
	}
	_, first, _ := w.codeFor(t, "ann")
	_, second, _ := w.codeFor(t, "ann")
	wantErr(t, "the second code", w.ChoosePassword(ctx, second, password, "client", noon), nil)
	wantErr(t, "the first code, after that", w.ChoosePassword(ctx, first, other, "client", noon), ErrWrongCredentials)
	for n := 0; ; n++ {
		if _, ok := errors.AsType[*TooManyTries](w.ChoosePassword(ctx, "guess", password, "guesser", noon)); ok {
			break
		}
		if n > 50 {
			t.Fatal("codes can be guessed quickly")
		}
	}
}

// A change is made as a whole or not at all, and what is left out stays.
func TestChangeUser(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := w.add(t, "ann")
	w.add(t, "bob")
	before, err := w.User(ctx, admin, id)
	if err != nil {
		t.Fatal(err)
	}
	roles, none := domain.Roles("approver"), domain.Roles("")
	for what, c := range map[string]Change{
		"no name": {Name: new(""), Roles: &roles}, "no roles": {FullName: new("Ann"), Roles: &none}, "another's name": {Name: new("BOB"), Roles: &roles},
		"no address": {Address: new("x"), Disabled: new(true)}, "no language": {Language: new("_")},
	} {
		if err := w.ChangeUser(ctx, admin, id, c); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if after, err := w.User(ctx, admin, id); err != nil || after != before {
		t.Errorf("after what was refused %+v, %v; before %+v", after, err, before)
	}
	for range 2 {
		if err := w.ChangeUser(ctx, admin, id, Change{Name: new(" Anna "), Roles: &roles, Disabled: new(true)}); err != nil {
			t.Fatal(err)
		}
	}
	after, err := w.User(ctx, admin, id)
	if err != nil || after.Name != "anna" || after.Roles != roles || after.Rooms != before.Rooms || after.Phase != domain.UserPhaseDisabled {
		t.Errorf("%+v, %v", after, err)
	}
	if got := w.types(t, id.Stream()); !slices.Equal(got[len(got)-2:], []string{"RolesGiven", "UserDisabled"}) {
		t.Errorf("events %v", got)
	}
}

// A user is called by their full name, or else by the one that they sign in with. A former user has none; nor does an id that is no user's,
// or anybody while the directory or the log fails, which is tried once and not for every name.
func TestNames(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	want := func(what string, a *Accounts, id domain.UserID, name string, known bool) {
		t.Helper()
		if got, is := a.Name(ctx, id); got != name || is != known {
			t.Errorf("%s: %q, %t, want %q, %t", what, got, is, name, known)
		}
	}
	ann, err := w.AddUser(ctx, admin, NewUser{Name: "ann", FullName: "Ann O'Hara", Roles: domain.NewRoles(domain.RoleUser)})
	if err != nil {
		t.Fatal(err)
	}
	bob := w.add(t, "bob")
	want("a full name", w.Accounts, ann, "Ann O'Hara", true)
	want("a name", w.Accounts, bob, "bob", true)
	reads := w.counted.reads.Load()
	for _, id := range []domain.UserID{"", "ann", "boss", "operator ann", "roombook", "u", "uvzakidlvh2apczxudun1", ann} {
		want(string(id), w.Accounts, id, map[domain.UserID]string{ann: "Ann O'Hara"}[id], id == ann)
	}
	if w.counted.reads.Load() != reads {
		t.Error("what is no user's, or is remembered, was looked up")
	}

	copied, err := w.directory.Person(ctx, ann)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Erase(ctx, admin, ann); err != nil {
		t.Fatal(err)
	}
	want("erased", w.Accounts, ann, "", true)
	if err := w.directory.AddPerson(ctx, copied); err != nil {
		t.Fatal(err)
	}
	want("erased, in a directory that was restored", w.another().Accounts, ann, "", true)
	if _, err := w.directory.Person(ctx, ann); !errors.Is(err, directory.ErrUnknown) {
		t.Errorf("in the directory afterwards: %v", err)
	}

	other := w.another()
	if err := w.directory.Close(); err != nil {
		t.Fatal(err)
	}
	want("remembered", w.Accounts, bob, "bob", true)
	want("no directory", other.Accounts, bob, "", false)
	if failed := other.nameless.Load(); failed == 0 {
		t.Error("it is asked for every name")
	}
	other.nameless.Store(time.Now().Add(time.Hour).UnixNano())
	reads = other.counted.reads.Load()
	want("no directory, soon after", other.Accounts, bob, "", false)
	if other.counted.reads.Load() != reads {
		t.Error("looked up")
	}
}
