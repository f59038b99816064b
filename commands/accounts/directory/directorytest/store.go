// Package directorytest checks implementations of [directory.Store].
package directorytest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 123_000_000, time.UTC)

// Run checks a store. Open opens one that is empty.
func Run(t *testing.T, open func(*testing.T) directory.Store) {
	t.Run("People", func(t *testing.T) { people(t, open(t)) })
	t.Run("Favourites", func(t *testing.T) { favourites(t, open(t)) })
	t.Run("OneNameForOne", func(t *testing.T) { oneName(t, open(t)) })
	t.Run("Identities", func(t *testing.T) { identities(t, open(t)) })
	t.Run("Sessions", func(t *testing.T) { sessions(t, open(t)) })
	t.Run("ProviderSessions", func(t *testing.T) { providerSessions(t, open(t)) })
	t.Run("Tokens", func(t *testing.T) { tokens(t, open(t)) })
	t.Run("Codes", func(t *testing.T) { codes(t, open(t)) })
	t.Run("Forget", func(t *testing.T) { forget(t, open(t)) })
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func unknown(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, directory.ErrUnknown) {
		t.Errorf("error %v, want %v", err, directory.ErrUnknown)
	}
}

func want[T comparable](t *testing.T, got T, err error, want T) {
	t.Helper()
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

var (
	ann = directory.Person{User: "u1", Name: "ann", FullName: "Ann “会議” O'Hara", Address: "ann@rooms.example", Language: "ko", Password: "$argon2id$"}
	bob = directory.Person{User: "u2", Name: "bob"}
)

func people(t *testing.T, s directory.Store) {
	ctx := t.Context()
	check(t, s.Ping(ctx))
	if all, err := s.People(ctx, "", 0); err != nil || len(all) != 0 {
		t.Errorf("people of an empty directory: %v, %v", all, err)
	}
	_, err := s.Person(ctx, "u1")
	unknown(t, err)
	_, err = s.Named(ctx, "ann")
	unknown(t, err)
	unknown(t, s.SetPassword(ctx, "u1", "", "x"))

	check(t, s.AddPerson(ctx, bob))
	check(t, s.AddPerson(ctx, ann))
	p, err := s.Person(ctx, "u1")
	want(t, p, err, ann)
	p, err = s.Named(ctx, "bob")
	want(t, p, err, bob)
	_, err = s.Named(ctx, "Bob")
	unknown(t, err)
	for _, c := range []struct {
		after string
		limit int
		want  []directory.Person
	}{{"", 0, []directory.Person{ann, bob}}, {"", 1, []directory.Person{ann}}, {"ann", 1, []directory.Person{bob}}, {"anna", 0, []directory.Person{bob}}, {"bob", 0, nil}} {
		if all, err := s.People(ctx, c.after, c.limit); err != nil || !slices.Equal(all, c.want) {
			t.Errorf("%d people after %q: %v, %v", c.limit, c.after, all, err)
		}
	}
	if err := s.AddPerson(ctx, directory.Person{User: "u3", Name: "ann"}); !errors.Is(err, directory.ErrNameTaken) {
		t.Errorf("the same name: %v", err)
	}
	if err := s.AddPerson(ctx, directory.Person{User: "u1", Name: "eve"}); err == nil || errors.Is(err, directory.ErrNameTaken) {
		t.Errorf("the same user: %v", err)
	}
	check(t, s.SetPassword(ctx, "u2", "", "hash"))
	p, err = s.Person(ctx, "u2")
	changed := bob
	changed.Password = "hash"
	want(t, p, err, changed)
	check(t, s.SetPassword(ctx, "u2", "hash", "hash")) // again
	unknown(t, s.SetPassword(ctx, "u2", "former", "x"))

	unknown(t, s.ChangePerson(ctx, directory.Person{User: "u7"}, directory.Person{User: "u7", Name: "eve"}))
	changed.Name = "ann"
	if err := s.ChangePerson(ctx, bob, changed); !errors.Is(err, directory.ErrNameTaken) {
		t.Errorf("another's name: %v", err)
	}
	changed = directory.Person{User: "u2", Name: "rob", FullName: "Robert", Address: "rob@rooms.example", Language: "en", Password: "another"}
	for range 2 { // again
		check(t, s.ChangePerson(ctx, bob, changed))
	}
	check(t, s.ChangePerson(ctx, bob, directory.Person{User: "u2", Name: bob.Name, FullName: bob.FullName, Address: bob.Address, Language: "ko"}))
	changed.Language = "ko"   // and nothing else, as others have changed it
	changed.Password = "hash" // which stays
	p, err = s.Named(ctx, "rob")
	want(t, p, err, changed)
	_, err = s.Named(ctx, "bob")
	unknown(t, err)
}

// Rooms that a person adds at the same moment are all kept, and nothing is kept of somebody who is not there.
func favourites(t *testing.T, s directory.Store) {
	ctx := t.Context()
	check(t, s.AddPerson(ctx, ann))
	check(t, s.AddPerson(ctx, bob))
	check(t, s.SetFavourite(ctx, "u1", "none", false))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := s.SetFavourite(ctx, "u1", domain.RoomID(fmt.Sprint("r", i%4)), true); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	check(t, s.SetFavourite(ctx, "u2", "r1", true))
	check(t, s.SetFavourite(ctx, "u7", "r1", true))
	check(t, s.ChangePerson(ctx, directory.Person{User: "u1"}, ann)) // does not change them
	for range 2 {
		check(t, s.SetFavourite(ctx, "u1", "r2", false))
	}
	kept := func(user domain.UserID, rooms domain.Rooms) {
		t.Helper()
		got, err := s.Favourites(ctx, user)
		want(t, got, err, rooms)
	}
	kept("u1", "r0 r1 r3")
	kept("u2", "r1")
	kept("u7", "")
	check(t, s.Forget(ctx, "u1"))
	kept("u1", "")
	kept("u2", "r1")
	check(t, s.AddPerson(ctx, ann))
	kept("u1", "")
}

// Of many who say at the same moment whose an identity is, all are told the same.
func identities(t *testing.T, s directory.Store) {
	ctx := t.Context()
	ofAnn := directory.Identity{Issuer: "https://id.example", Subject: "7 “é”"}
	got := make([]domain.UserID, 16)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = s.Identify(ctx, ofAnn, domain.UserID(fmt.Sprint("u", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(slices.Compact(slices.Clone(got))) != 1 || got[0] == "" {
		t.Errorf("one identity of %v", got)
	}
	for _, other := range []directory.Identity{{Issuer: "https://other.example", Subject: ofAnn.Subject}, {Issuer: ofAnn.Issuer, Subject: "7 “É”"}} {
		user, err := s.Identify(ctx, other, "another")
		want(t, user, err, "another")
	}
	check(t, s.Forget(ctx, got[0]))
	user, err := s.Identify(ctx, ofAnn, "new")
	want(t, user, err, "new")
	check(t, s.Forget(ctx, "another"))
}

// Of many who take one name at the same moment one gets it.
func oneName(t *testing.T, s directory.Store) {
	var all sync.WaitGroup
	var mu sync.Mutex
	got, taken := 0, 0
	const n = 16
	for i := range n {
		all.Go(func() {
			err := s.AddPerson(t.Context(), directory.Person{User: domain.UserID(fmt.Sprint("u", i)), Name: "ann"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got++
			case errors.Is(err, directory.ErrNameTaken):
				taken++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got != 1 || taken != n-1 {
		t.Errorf("%d got the name, %d were refused", got, taken)
	}
}

func sessions(t *testing.T, s directory.Store) {
	ctx := t.Context()
	_, err := s.Session(ctx, "s1")
	unknown(t, err)
	check(t, s.EndSession(ctx, "s1"))
	one := directory.Session{ID: "s1", User: "u1", Epoch: 3, CreatedAt: noon, SeenAt: noon}
	check(t, s.AddSession(ctx, one))
	if s.AddSession(ctx, one) == nil {
		t.Error("one id for two sessions")
	}
	got, err := s.Session(ctx, "s1")
	want(t, got, err, one)

	check(t, s.SeeSession(ctx, "s1", noon.Add(time.Minute)))
	check(t, s.SeeSession(ctx, "s1", noon)) // another process, whose news is older
	one.SeenAt = noon.Add(time.Minute)
	got, err = s.Session(ctx, "s1")
	want(t, got, err, one)

	check(t, s.EndSession(ctx, "s1"))
	check(t, s.SeeSession(ctx, "s1", noon.Add(time.Hour)))
	_, err = s.Session(ctx, "s1") // which is not there again for that it was seen
	unknown(t, err)

	for id, at := range map[string][2]time.Time{
		"old":    {noon.Add(-2 * time.Hour), noon},
		"idle":   {noon, noon.Add(-2 * time.Hour)},
		"recent": {noon.Add(-time.Hour), noon.Add(-time.Hour)},
	} {
		check(t, s.AddSession(ctx, directory.Session{ID: id, User: "u1", CreatedAt: at[0], SeenAt: at[1]}))
	}
	check(t, s.PruneSessions(ctx, noon.Add(-time.Hour), noon.Add(-time.Hour)))
	if all, err := s.Sessions(ctx, "u1"); err != nil || len(all) != 1 || all[0].ID != "recent" {
		t.Errorf("sessions: %v, %v", all, err)
	}
	newer := directory.Session{ID: "newer", User: "u1", CreatedAt: noon, SeenAt: noon}
	check(t, s.AddSession(ctx, newer))
	check(t, s.AddSession(ctx, directory.Session{ID: "other's", User: "u2", CreatedAt: noon, SeenAt: noon}))
	if all, err := s.Sessions(ctx, "u1"); err != nil || len(all) != 2 || all[0] != newer {
		t.Errorf("sessions, the newest first: %v, %v", all, err)
	}
	for id, there := range map[string]bool{"old": false, "idle": false, "recent": true} {
		if _, err := s.Session(ctx, id); (err == nil) != there {
			t.Errorf("session %s after pruning: %v", id, err)
		}
	}
}

// Sessions that began at a provider end by its subject, its id of the session, or both; those of others and of other providers do not.
func providerSessions(t *testing.T, s directory.Store) {
	ctx := t.Context()
	at := func(issuer, subject, id string) directory.ProviderSession {
		return directory.ProviderSession{Identity: directory.Identity{Issuer: issuer, Subject: subject}, ID: id, IDToken: "header.claims.signature"}
	}
	const here, elsewhere = "https://id.example", "https://other.example"
	begun := map[string]directory.ProviderSession{
		"ann1": at(here, "7", "s1"), "ann2": at(here, "7", "s2"), "annNoID": at(here, "7", ""), "bob": at(here, "8", "s3"), "other": at(elsewhere, "7", "s1"), "password": {},
	}
	for _, c := range []struct {
		identity directory.Identity
		id       string
		ended    []string
	}{
		{directory.Identity{Issuer: here, Subject: "7"}, "", []string{"ann1", "ann2", "annNoID"}},
		{directory.Identity{Issuer: here, Subject: "7"}, "s1", []string{"ann1"}},
		{directory.Identity{Issuer: here}, "s1", []string{"ann1"}},
		{directory.Identity{Issuer: here, Subject: "8"}, "s1", nil},
		{directory.Identity{Issuer: here, Subject: "9"}, "", nil},
	} {
		for name, provider := range begun {
			one := directory.Session{ID: name, User: "u1", CreatedAt: noon, SeenAt: noon, Provider: provider}
			check(t, s.AddSession(ctx, one))
			got, err := s.Session(ctx, name)
			want(t, got, err, one)
		}
		for range 2 { // again
			check(t, s.EndProviderSessions(ctx, c.identity, c.id))
		}
		for name := range begun {
			if _, err := s.Session(ctx, name); (err != nil) != slices.Contains(c.ended, name) {
				t.Errorf("%s after %v %q: %v", name, c.identity, c.id, err)
			}
			check(t, s.EndSession(ctx, name))
		}
	}
}

func tokens(t *testing.T, s directory.Store) {
	ctx := t.Context()
	_, err := s.Token(ctx, "t1")
	unknown(t, err)
	check(t, s.SeeToken(ctx, "t1", noon))
	_, err = s.Token(ctx, "t1")
	unknown(t, err)
	two := directory.Token{ID: "t2", User: "u1", Label: "cron"}
	one := directory.Token{ID: "t1", User: "u1", UsedAt: noon}
	other := directory.Token{ID: "t0", User: "u2"}
	for _, token := range []directory.Token{two, one, other} {
		check(t, s.AddToken(ctx, token))
	}
	got, err := s.Token(ctx, "t2")
	want(t, got, err, two)
	check(t, s.SeeToken(ctx, "t2", noon))
	check(t, s.SeeToken(ctx, "t2", noon.Add(-time.Hour)))
	two.UsedAt = noon
	for user, want := range map[domain.UserID][]directory.Token{"u1": {one, two}, "u2": {other}, "u3": nil, "": {other, one, two}} {
		if all, err := s.Tokens(ctx, user, "", 0); err != nil || !slices.Equal(all, want) {
			t.Errorf("tokens of %q: %v, %v, want %v", user, all, err, want)
		}
	}
	if all, err := s.Tokens(ctx, "", "t0", 1); err != nil || !slices.Equal(all, []directory.Token{one}) {
		t.Errorf("the next token: %v, %v", all, err)
	}
	for range 2 { // again
		check(t, s.RemoveToken(ctx, "t1"))
	}
	if all, err := s.Tokens(ctx, "u1", "", 0); err != nil || !slices.Equal(all, []directory.Token{two}) {
		t.Errorf("tokens after one was removed: %v, %v", all, err)
	}
}

func codes(t *testing.T, s directory.Store) {
	ctx := t.Context()
	_, err := s.Code(ctx, "c1")
	unknown(t, err)
	unknown(t, s.TakeCode(ctx, "c1"))
	c := directory.Code{ID: "c1", Room: "blue", Token: "hash", ExpiresAt: noon}
	check(t, s.AddCode(ctx, c))
	if s.AddCode(ctx, c) == nil {
		t.Error("one id for two codes")
	}
	got, err := s.Code(ctx, "c1")
	want(t, got, err, c)
	var all sync.WaitGroup
	var taken atomic.Int64
	for range 8 {
		all.Go(func() {
			if s.TakeCode(ctx, "c1") == nil {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 {
		t.Errorf("a code was taken %d times", taken.Load())
	}
	check(t, s.AddCode(ctx, c))
	check(t, s.AddCode(ctx, directory.Code{ID: "c2", User: "u1", ExpiresAt: noon.Add(time.Hour)}))
	check(t, s.PruneCodes(ctx, noon.Add(time.Minute)))
	_, err = s.Code(ctx, "c1")
	unknown(t, err)
	_, err = s.Code(ctx, "c2")
	check(t, err)
	check(t, s.AddPerson(ctx, ann))
	check(t, s.AddPerson(ctx, bob))
	check(t, s.SetPassword(ctx, bob.User, "", "hash")) // another's
	_, err = s.Code(ctx, "c2")
	check(t, err)
	check(t, s.AddSession(ctx, directory.Session{ID: "s1", User: ann.User, CreatedAt: noon, SeenAt: noon}))
	check(t, s.AddSession(ctx, directory.Session{ID: "s2", User: bob.User, CreatedAt: noon, SeenAt: noon}))
	check(t, s.SetPassword(ctx, ann.User, ann.Password, "hash"))
	_, err = s.Code(ctx, "c2")
	unknown(t, err)
	_, err = s.Session(ctx, "s1")
	unknown(t, err)
	_, err = s.Session(ctx, "s2")
	check(t, err)
}

func forget(t *testing.T, s directory.Store) {
	ctx := t.Context()
	for _, p := range []directory.Person{ann, bob} {
		check(t, s.AddPerson(ctx, p))
		check(t, s.AddSession(ctx, directory.Session{ID: "s" + string(p.User), User: p.User, CreatedAt: noon, SeenAt: noon}))
		check(t, s.AddToken(ctx, directory.Token{ID: domain.TokenID("t" + p.User), User: p.User, Label: p.Name}))
		check(t, s.AddCode(ctx, directory.Code{ID: "c" + string(p.User), User: p.User, ExpiresAt: noon}))
	}
	for range 2 { // again
		check(t, s.Forget(ctx, "u1"))
		_, err := s.Person(ctx, "u1")
		unknown(t, err)
		_, err = s.Named(ctx, "ann")
		unknown(t, err)
		_, err = s.Session(ctx, "su1")
		unknown(t, err)
		_, err = s.Token(ctx, "tu1")
		unknown(t, err)
		_, err = s.Code(ctx, "cu1")
		unknown(t, err)
	}
	if _, err := s.Session(ctx, "su2"); err != nil {
		t.Errorf("another's session: %v", err)
	}
	if _, err := s.Token(ctx, "tu2"); err != nil {
		t.Errorf("another's token: %v", err)
	}
	again := ann
	again.User = "u9" // somebody else of that name
	check(t, s.AddPerson(ctx, again))
}
