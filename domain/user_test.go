package domain

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

var (
	added    = UserAdded{UserID: "u1", Roles: "user approver", Rooms: "red", At: noon}
	disabled = UserDisabled{UserID: "u1", At: noon}
	erased   = UserErased{UserID: "u1", At: noon}
)

// Given these events, when this, then these events or this error.
func TestUserDecisions(t *testing.T) {
	add := func(u User) ([]Event, error) { return DecideAddUser(u, "u1", "user approver", "red", noon) }
	roles := func(r Roles, in Rooms) func(User) ([]Event, error) {
		return func(u User) ([]Event, error) { return DecideGiveRoles(u, r, in, noon) }
	}
	password := func(u User) ([]Event, error) { return DecidePassword(u, noon) }
	mail := func(without Kinds) func(User) ([]Event, error) {
		return func(u User) ([]Event, error) { return DecideMail(u, without, noon) }
	}
	chosen := MailChosen{UserID: "u1", Without: NewKinds(KindUseEnded, "nonsense", KindBooked), At: noon}
	signOut := func(u User) ([]Event, error) { return DecideSignOut(u, noon) }
	disable := func(u User) ([]Event, error) { return DecideDisable(u, true, noon) }
	enable := func(u User) ([]Event, error) { return DecideDisable(u, false, noon) }
	erase := func(u User) ([]Event, error) { return DecideErase(u, noon) }
	for name, c := range map[string]struct {
		given []Event
		when  func(User) ([]Event, error)
		then  []Event
		err   error
	}{
		"add":                   {nil, add, []Event{added}, nil},
		"add again":             {[]Event{added}, add, nil, nil},
		"add an erased one":     {[]Event{added, erased}, add, nil, nil},
		"add without roles":     {nil, func(u User) ([]Event, error) { return DecideAddUser(u, "u1", "", "", noon) }, nil, ErrNoRoles},
		"roles":                 {[]Event{added}, roles("admin", ""), []Event{RolesGiven{UserID: "u1", Roles: "admin", At: noon}}, nil},
		"other rooms":           {[]Event{added}, roles("user approver", AllRooms), []Event{RolesGiven{UserID: "u1", Roles: "user approver", Rooms: AllRooms, At: noon}}, nil},
		"the same roles":        {[]Event{added}, roles("user approver", "red"), nil, nil},
		"no roles":              {[]Event{added}, roles("", ""), nil, ErrNoRoles},
		"roles of nobody":       {nil, roles("user", ""), nil, ErrUserNotFound},
		"password":              {[]Event{added}, password, []Event{PasswordChanged{UserID: "u1", At: noon}}, nil},
		"password of nobody":    {nil, password, nil, ErrUserNotFound},
		"password of an erased": {[]Event{added, erased}, password, nil, ErrUserNotFound},
		"without mail":          {[]Event{added}, mail("booked use-ended"), []Event{chosen}, nil},
		"without mail again":    {[]Event{added, chosen}, mail("booked use-ended"), nil, nil},
		"with mail":             {[]Event{added, chosen}, mail(""), []Event{MailChosen{UserID: "u1", At: noon}}, nil},
		"without mail, nobody":  {nil, mail("booked"), nil, ErrUserNotFound},
		"without mail, erased":  {[]Event{added, chosen, erased}, mail(""), nil, ErrUserNotFound},
		"sign out":              {[]Event{added}, signOut, []Event{SignedOutEverywhere{UserID: "u1", At: noon}}, nil},
		"sign out nobody":       {nil, signOut, nil, ErrUserNotFound},
		"disable":               {[]Event{added}, disable, []Event{disabled}, nil},
		"disable again":         {[]Event{added, disabled}, disable, nil, nil},
		"disable an erased":     {[]Event{added, erased}, disable, nil, ErrUserNotFound},
		"enable":                {[]Event{added, disabled}, enable, []Event{UserEnabled{UserID: "u1", At: noon}}, nil},
		"enable an enabled":     {[]Event{added}, enable, nil, nil},
		"erase":                 {[]Event{added}, erase, []Event{erased}, nil},
		"erase a disabled":      {[]Event{added, disabled}, erase, []Event{erased}, nil},
		"erase again":           {[]Event{added, erased}, erase, nil, nil},
		"erase nobody":          {nil, erase, nil, ErrUserNotFound},
	} {
		events, err := c.when(Fold(User{}, c.given...))
		if !reflect.DeepEqual(events, c.then) || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, events, err, c.then, c.err)
		}
	}
}

// Nothing of what an erased user chose is left.
func TestErasedUser(t *testing.T) {
	u := Fold(User{}, added, MailChosen{UserID: "u1", Without: "booked", At: noon})
	if !u.WithoutMail.Has(KindBooked) || u.WithoutMail.Has(KindChanged) {
		t.Errorf("%+v", u)
	}
	if u = u.Evolve(erased); u != (User{ID: "u1", Phase: UserPhaseErased, Epoch: 1}) {
		t.Errorf("erased: %+v", u)
	}
}

// A session is over as soon as its user's epoch is another.
func TestWhatEndsSessions(t *testing.T) {
	for name, c := range map[string]struct {
		event Event
		ends  bool
	}{
		"password": {PasswordChanged{UserID: "u1", At: noon}, true},
		"sign out": {SignedOutEverywhere{UserID: "u1", At: noon}, true},
		"disable":  {disabled, true},
		"erase":    {erased, true},
		"roles":    {RolesGiven{UserID: "u1", Roles: "user", At: noon}, false}, // which count at once
	} {
		before := Fold(User{}, added)
		if ends := before.Evolve(c.event).Epoch != before.Epoch; ends != c.ends {
			t.Errorf("%s ends sessions: %t", name, ends)
		}
	}
	if u := Fold(User{}, added, disabled, UserEnabled{UserID: "u1", At: noon}); u.Epoch == Fold(User{}, added).Epoch {
		t.Error("a session from before the user was disabled is valid again")
	}
}

func TestTokenDecisions(t *testing.T) {
	issued := TokenIssued{TokenID: "t", Hash: "h", UserID: "u1", Roles: "approver", Rooms: "red", ExpiresAt: noon.Add(time.Hour), At: noon}
	with := func(change func(*TokenIssued)) TokenIssued {
		other := issued
		change(&other)
		return other
	}
	user := Fold(User{}, added)
	for name, c := range map[string]struct {
		given Token
		user  User
		issue TokenIssued
		then  []Event
		err   error
	}{
		"issue":          {Token{}, user, issued, []Event{issued}, nil},
		"again":          {Fold(Token{}, issued), user, issued, nil, nil},
		"for nobody":     {Token{}, User{}, issued, nil, ErrUserNotFound},
		"for an erased":  {Token{}, Fold(user, erased), issued, nil, ErrUserNotFound},
		"no role":        {Token{}, user, with(func(e *TokenIssued) { e.Roles = "" }), nil, ErrNoRoles},
		"another role":   {Token{}, user, with(func(e *TokenIssued) { e.Roles = "approver admin" }), nil, ErrBeyondUser},
		"another room":   {Token{}, user, with(func(e *TokenIssued) { e.Rooms = "blue red" }), nil, ErrBeyondUser},
		"all rooms":      {Token{}, user, with(func(e *TokenIssued) { e.Rooms = AllRooms }), nil, ErrBeyondUser},
		"expired":        {Token{}, user, with(func(e *TokenIssued) { e.ExpiresAt = noon }), nil, ErrTokenLife},
		"for ever":       {Token{}, user, with(func(e *TokenIssued) { e.ExpiresAt = noon.Add(MaxTokenLife + 1) }), nil, ErrTokenLife},
		"for two years":  {Token{}, user, with(func(e *TokenIssued) { e.ExpiresAt = noon.Add(MaxTokenLife) }), []Event{with(func(e *TokenIssued) { e.ExpiresAt = noon.Add(MaxTokenLife) })}, nil},
		"without a room": {Token{}, user, with(func(e *TokenIssued) { e.Rooms = "" }), []Event{with(func(e *TokenIssued) { e.Rooms = "" })}, nil},
	} {
		events, err := DecideIssue(c.given, c.user, c.issue)
		if !reflect.DeepEqual(events, c.then) || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, events, err, c.then, c.err)
		}
	}

	revoked := TokenRevoked{TokenID: "t", At: noon}
	if events, err := DecideRevoke(Fold(Token{}, issued), noon); err != nil || !reflect.DeepEqual(events, []Event{revoked}) {
		t.Errorf("revoke: %v, %v", events, err)
	}
	if events, err := DecideRevoke(Fold(Token{}, issued, revoked), noon); err != nil || events != nil {
		t.Errorf("revoke again: %v, %v", events, err)
	}
	if _, err := DecideRevoke(Token{}, noon); !errors.Is(err, ErrTokenNotFound) {
		t.Errorf("revoke none: %v", err)
	}
}

// A token never permits more than its user has at that moment.
func TestWhoATokenActsAs(t *testing.T) {
	issued := TokenIssued{TokenID: "t", Hash: "h", UserID: "u1", Roles: "user approver", Rooms: "red", ExpiresAt: noon.Add(time.Hour), At: noon}
	token, user := Fold(Token{}, issued), Fold(User{}, added)
	for name, c := range map[string]struct {
		token Token
		user  User
		now   time.Time
		want  Actor
		ok    bool
	}{
		"valid":          {token, user, noon, Actor{"u1", "user approver", "red", true}, true},
		"a role less":    {token, user.Evolve(RolesGiven{UserID: "u1", Roles: "user", Rooms: "red"}), noon, Actor{"u1", "user", "red", true}, true},
		"a room less":    {token, user.Evolve(RolesGiven{UserID: "u1", Roles: "user approver", Rooms: "blue"}), noon, Actor{"u1", "user approver", "", true}, true},
		"more of both":   {token, user.Evolve(RolesGiven{UserID: "u1", Roles: "user approver admin", Rooms: AllRooms}), noon, Actor{"u1", "user approver", "red", true}, true},
		"expired":        {token, user, noon.Add(time.Hour), Actor{"u1", "user approver", "red", true}, false},
		"revoked":        {token.Evolve(TokenRevoked{At: noon}), user, noon, Actor{"u1", "user approver", "red", true}, false},
		"user disabled":  {token, user.Evolve(disabled), noon, Actor{"u1", "user approver", "red", true}, false},
		"user erased":    {token, user.Evolve(erased), noon, Actor{"u1", "", "", true}, false},
		"another's user": {token, Fold(User{}, UserAdded{UserID: "u2", Roles: "user approver"}), noon, Actor{"u2", "user approver", "", true}, false},
		"no token":       {Token{}, user, noon, Actor{"u1", "", "", true}, false},
	} {
		if got, ok := c.token.Actor(c.user, c.now); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %t; want %+v, %t", name, got, ok, c.want, c.ok)
		}
	}
}
