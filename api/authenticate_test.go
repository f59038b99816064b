package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/commands/accounts"
	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/directory/sqlite"
	"roombook/domain"
)

const (
	good  = "correct horse battery"
	other = "another staple entirely"
)

// accountService is a service that has accounts.
type accountService struct {
	*service
	accounts *accounts.Accounts
	people   *sqlite.Store
}

func newAccountService(t testing.TB, change ...func(*Options)) *accountService {
	t.Helper()
	s := &accountService{}
	s.service = newService(t, append(change, s.withAccounts(t))...)
	return s
}

// withAccounts adds accounts to a service.
func (s *accountService) withAccounts(t testing.TB) func(*Options) {
	t.Helper()
	var err error
	if s.people, err = sqlite.Open(filepath.Join(t.TempDir(), "accounts.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.people.Close() })
	return func(o *Options) {
		s.accounts = accounts.New(o.Streams.(accounts.Streams), s.people, accounts.Options{})
		o.Accounts = s.accounts
	}
}

var boss = domain.Actor{User: "boss", Roles: domain.NewRoles(domain.RoleAdmin)}

// user adds a user who signs in with good.
func (s *accountService) user(t testing.TB, name string, roles ...domain.Role) domain.UserID {
	t.Helper()
	return s.userOf(t, accounts.NewUser{Name: name, Password: good, Roles: domain.NewRoles(roles...), Rooms: domain.AllRooms})
}

func (s *accountService) userOf(t testing.TB, n accounts.NewUser) domain.UserID {
	t.Helper()
	id, err := s.accounts.AddUser(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, n)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// token returns the header with a token of a user.
func (s *accountService) token(t testing.TB, user domain.UserID) string {
	t.Helper()
	secret, _, err := s.accounts.CreateToken(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, accounts.NewToken{User: user, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + secret
}

// signIn returns the header with the cookie of a new session.
func (s *accountService) signIn(t testing.TB, name, password string, headers ...string) string {
	t.Helper()
	r := s.do(t, "POST", "/session", fmt.Sprintf(`{"name":%q,"password":%q}`, name, password), headers...).want(t, 201)
	return "Cookie: " + cookie(t, r)
}

// cookie returns the name and value of the cookie that a reply sets.
func cookie(t testing.TB, r reply) string {
	t.Helper()
	set := r.header["Set-Cookie"]
	if len(set) != 1 {
		t.Fatalf("cookies %q", set)
	}
	pair, _, _ := strings.Cut(set[0], ";")
	return pair
}

func wantProblem(t testing.TB, what string, r reply, status int, problem string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, `"/problems/`+problem+`"`) {
		t.Errorf("%s: %d %s, want %d %s", what, r.status, r.body, status, problem)
	}
}

// Every route, with every kind of credentials: who has none that are valid is told nothing but that, and who has is let through to the
// route, if the table permits it.
func TestEveryRouteWithEveryCredentials(t *testing.T) {
	s := newAccountService(t)
	all := s.user(t, "all", domain.AllRoles...)
	door := s.user(t, "door", domain.RoleDoor)
	request := accounts.Request{Actor: boss, At: time.Now()}
	if err := s.accounts.GiveRoles(t.Context(), request, door, domain.NewRoles(domain.RoleDoor), domain.NewRooms("elsewhere")); err != nil {
		t.Fatal(err)
	}
	expired, _, err := s.accounts.CreateToken(t.Context(), accounts.Request{Actor: boss, At: time.Now().Add(-2 * time.Hour)}, accounts.NewToken{User: all, ExpiresAt: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	revoked, token, err := s.accounts.CreateToken(t.Context(), request, accounts.NewToken{User: all, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.accounts.RevokeToken(t.Context(), request, token.ID); err != nil {
		t.Fatal(err)
	}
	gone := s.user(t, "gone", domain.AllRoles...)
	ofGone := s.token(t, gone)
	sessionOfGone := s.signIn(t, "gone", good)
	if err := s.accounts.Disable(t.Context(), request, gone, true); err != nil {
		t.Fatal(err)
	}
	valid, session := s.token(t, all), s.signIn(t, "all", good)
	ofDoor := s.token(t, door)
	secret := strings.TrimPrefix(valid, "Authorization: Bearer ")

	refused := map[string][]string{
		"none":                        nil,
		"no scheme":                   {"Authorization: " + secret},
		"another scheme":              {"Authorization: Basic " + secret},
		"a mistyped token":            {valid + "x"},
		"an expired token":            {"Authorization: Bearer " + expired},
		"a revoked token":             {"Authorization: Bearer " + revoked},
		"the token of a disabled":     {ofGone},
		"the session of a disabled":   {sessionOfGone},
		"an empty cookie":             {"Cookie: roombook="},
		"another cookie":              {"Cookie: roombook=x"},
		"the cookie of https":         {"Cookie: __Host-" + strings.TrimPrefix(session, "Cookie: ")},
		"two cookies":                 {session + "; " + strings.TrimPrefix(session, "Cookie: ")},
		"a token as a cookie":         {"Cookie: roombook=" + secret},
		"a session as a token":        {"Authorization: Bearer " + strings.TrimPrefix(session, "Cookie: roombook=")},
		"a wrong token and a session": {valid + "x", session}, // the cookie does not help
	}
	routes := 0
	for _, name := range slices.Sorted(maps.Keys(s.operations(t))) {
		o := s.operations(t)[name]
		method, path, _ := strings.Cut(name, " ")
		path = strings.NewReplacer("{id}", "none", "{bookingId}", "none", "{type}", "forbidden", "{file}", "start.js").Replace(path)
		if o.public {
			if got := s.do(t, method, path, ""); got.status == 401 || got.status == 403 {
				t.Errorf("%s is public: %d %s", name, got.status, got.body)
			}
			continue
		}
		routes++
		for what, headers := range refused {
			got := s.do(t, method, path, "", headers...)
			wantProblem(t, name+" with "+what, got, 401, "unauthenticated")
			if got.header.Get("Www-Authenticate") != "Bearer" {
				t.Errorf("%s with %s: no challenge", name, what)
			}
		}
		admitted := method
		if path == "/events" {
			admitted = http.MethodHead // which does not stream
		}
		for what, header := range map[string]string{"a token": valid, "a session": session} {
			if name == "DELETE /me/sessions" {
				continue // ends the session
			}
			got := s.do(t, admitted, path, "", header)
			if got.status == 401 || got.status == 403 {
				t.Errorf("%s with %s: %d %s", name, what, got.status, got.body)
			}
			if control := got.header.Get("Cache-Control"); !strings.Contains(control, "private") && !strings.Contains(control, "no-store") {
				t.Errorf("%s with %s: Cache-Control %q", name, what, control)
			}
		}
		if o.needs != "" {
			wantProblem(t, name+" by a door", s.do(t, method, path, "", ofDoor), 403, "forbidden")
		}
		for _, parameter := range []string{"access_token", "token", "authorization"} {
			wantProblem(t, name+" with a token in the address", s.do(t, method, path+"?"+parameter+"="+secret, ""), 401, "unauthenticated")
		}
	}
	if routes < 20 {
		t.Errorf("only %d routes need credentials", routes)
	}
}

// What needs no credentials is listed here, so that none becomes public by mistake.
func TestPublicRoutes(t *testing.T) {
	want := []string{
		"DELETE /session", "GET /", "GET /actuator/health", "GET /actuator/health/liveness", "GET /actuator/health/readiness", "GET /docs", "GET /docs/{file}",
		"GET /healthz", "GET /openapi.json", "GET /problems", "GET /problems/{type}", "GET /readyz", "GET /setup", "GET /version", "POST /session", "POST /setup",
	}
	var public []string
	for name, o := range newService(t).operations(t) {
		if o.public {
			public = append(public, name)
		}
		method, path, _ := strings.Cut(name, " ")
		security := loadContract(t).Paths.Value(path).GetOperation(method).Security
		if documented := security != nil && len(*security) == 0; documented != o.public {
			t.Errorf("%s is public: %t, documented: %t", name, o.public, documented)
		}
	}
	slices.Sort(public)
	if !slices.Equal(public, want) {
		t.Errorf("public are\n%s\nwant\n%s", strings.Join(public, "\n"), strings.Join(want, "\n"))
	}
}

// The actor that is kept with events is who is signed in, whatever the body says.
func TestTheActorOfEvents(t *testing.T) {
	s := newAccountService(t)
	ann := s.user(t, "ann", domain.RoleApprover)
	id := s.do(t, "POST", "/bookings", strings.Replace(morning, `"ann"`, `"bob"`, 1), s.token(t, ann)).want(t, 201).at(t, "bookingId").(string)
	if by := s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`, s.token(t, ann)).want(t, 200).at(t, "confirmUserId"); by != string(ann) {
		t.Errorf("confirmed by %s", by)
	}
	for r, err := range s.log.ReadStream(t.Context(), "booking-"+id, 0) {
		if err != nil || r.Metadata.Actor != string(ann) {
			t.Errorf("%s: actor %q, %v", r.Type, r.Metadata.Actor, err)
		}
	}
}

// Whoever asks for what they may not do is told who may, and what they may do instead.
func TestForbidden(t *testing.T) {
	s := newAccountService(t)
	ann, bob := s.user(t, "ann", domain.RoleUser), s.user(t, "bob", domain.RoleUser)
	admin, ofAnn, ofBob := s.token(t, s.user(t, "root", domain.RoleAdmin)), s.token(t, ann), s.token(t, bob)
	body := strings.Replace(morning, `"ann"`, `"`+string(ann)+`"`, 1)
	for what, body := range map[string]string{"for somebody else": morning, "against the rules": strings.Replace(body, "{", `{"override":true,`, 1)} {
		refused := s.do(t, "POST", "/bookings", body, ofAnn)
		wantProblem(t, what, refused, 403, "forbidden")
		if detail := refused.at(t, "detail").(string); !strings.Contains(detail, "admin") {
			t.Errorf("%s: %s", what, detail)
		}
	}
	if detail := s.do(t, "POST", "/bookings", morning, ofAnn).at(t, "detail"); detail != "The caller may not book: what is somebody else's or the system's. It takes the role admin. The caller may do so with what is the caller's own or what is in rooms that the caller answers for." {
		t.Errorf("detail %q", detail)
	}
	id := s.do(t, "POST", "/bookings", body, ofAnn).want(t, 201).at(t, "bookingId").(string)
	for _, c := range []call{{"PATCH", "/bookings/" + id, `{"useEndDtm":"202611241100"}`}, {"DELETE", "/bookings/" + id, ""}, {"PATCH", "/confirms/" + id, `{"status":"CONFIRMED"}`},
		{"POST", "/realuses", `{"bookingId":"` + id + `"}`}, {"POST", "/rooms", `{"roomId":"2","name":"Two"}`}, {"PUT", "/rooms/1/rules", `{}`}} {
		wantProblem(t, c.method+" "+c.path+" by another", s.do(t, c.method, c.path, c.body, ofBob), 403, "forbidden")
	}
	wantProblem(t, "one's own is confirmed", s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`, ofAnn), 403, "forbidden")
	s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`, admin).want(t, 200)
	s.do(t, "DELETE", "/bookings/"+id, "", ofAnn).want(t, 204)
	free := "/availability?from=202611240930&to=202611241030"
	for path, want := range map[string]domain.UserID{free: ann, free + "&bookingUserId=" + string(ann): ann} {
		if s.do(t, "GET", path, "", ofAnn).want(t, 200); s.lists.askedFree.User != want {
			t.Errorf("%s is asked for %q", path, s.lists.askedFree.User)
		}
	}
	wantProblem(t, "whether somebody else may book", s.do(t, "GET", free+"&bookingUserId="+string(ann), "", ofBob), 403, "forbidden")
	wantProblem(t, "somebody else's that is over", s.do(t, "DELETE", "/bookings/"+id, "", ofBob), 403, "forbidden")
}

// The key of one caller is not that of another, who is not answered what the one was.
func TestKeysAreTheCallers(t *testing.T) {
	s := newAccountService(t)
	ann, bob := s.token(t, s.user(t, "ann", domain.RoleAdmin)), s.token(t, s.user(t, "bob", domain.RoleAdmin))
	first := s.do(t, "POST", "/bookings", morning, ann, "Idempotency-Key: k").want(t, 201)
	if again := s.do(t, "POST", "/bookings", morning, ann, "Idempotency-Key: k").want(t, 201); again.at(t, "bookingId") != first.at(t, "bookingId") {
		t.Error("a repeat is another booking")
	}
	eve := s.user(t, "eve", domain.RoleUser)
	later := strings.NewReplacer("202611240930", "202611241030", "202611241030", "202611241130").Replace(morning)
	wantProblem(t, "before it is permitted", s.do(t, "POST", "/bookings", later, s.token(t, eve), "Idempotency-Key: k"), 403, "forbidden")
	if err := s.accounts.GiveRoles(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, eve, domain.NewRoles(domain.RoleAdmin), ""); err != nil {
		t.Fatal(err)
	}
	s.do(t, "POST", "/bookings", later, s.token(t, eve), "Idempotency-Key: k").want(t, 201)
	wantProblem(t, "another's key", s.do(t, "POST", "/bookings", morning, bob, "Idempotency-Key: k"), 409, "slot-taken")
}

func TestASession(t *testing.T) {
	s := newAccountService(t)
	id := s.user(t, "ann", domain.RoleUser)
	r := s.do(t, "POST", "/session", `{"name":"Ann","password":"`+good+`"}`).want(t, 201)
	if set := r.header.Get("Set-Cookie"); !strings.HasPrefix(set, "roombook=") || !strings.HasSuffix(set, "; Path=/; HttpOnly; SameSite=Lax") {
		t.Errorf("cookie %q", set)
	}
	session := "Cookie: " + cookie(t, r)
	if me := s.do(t, "GET", "/me", "", session).want(t, 200); me.at(t, "userId") != string(id) || me.at(t, "name") != "ann" {
		t.Error(me.body)
	}
	// Over https the cookie is for this host alone.
	secure := newAccountService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	secure.user(t, "ann", domain.RoleUser)
	r = secure.do(t, "POST", "/session", `{"name":"ann","password":"`+good+`"}`, "X-Forwarded-Proto: https").want(t, 201)
	if set := r.header.Get("Set-Cookie"); !strings.HasPrefix(set, "__Host-roombook=") || !strings.HasSuffix(set, "; Path=/; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("cookie %q", set)
	}
	secure.do(t, "GET", "/me", "", "Cookie: "+cookie(t, r), "X-Forwarded-Proto: https").want(t, 200)
	secure.do(t, "GET", "/me", "", "Cookie: "+cookie(t, r)).want(t, 401)

	// Whoever signs in gets another session, and the one that the browser had before is over: nobody can set it beforehand.
	planted := "Cookie: roombook=planted"
	if again := s.signIn(t, "ann", good, planted); again == planted || again == session {
		t.Error("a session that was there before")
	}
	wantProblem(t, "the planted session", s.do(t, "GET", "/me", "", planted), 401, "unauthenticated")
	again := s.signIn(t, "ann", good, session)
	wantProblem(t, "the session before", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")

	// A change of password ends all sessions, and renews the one that it came by.
	elsewhere := s.signIn(t, "ann", good)
	wantProblem(t, "without the password", s.do(t, "PUT", "/me/password", `{"password":"`+other+`","newPassword":"`+other+`"}`, again), 403, "wrong-credentials")
	wantProblem(t, "a short one", s.do(t, "PUT", "/me/password", `{"password":"`+good+`","newPassword":"short"}`, again), 422, "invalid-body")
	changed := s.do(t, "PUT", "/me/password", `{"password":"`+good+`","newPassword":"`+other+`"}`, again).want(t, 204)
	for _, former := range []string{again, elsewhere} {
		wantProblem(t, "a former session", s.do(t, "GET", "/me", "", former), 401, "unauthenticated")
	}
	renewed := "Cookie: " + cookie(t, changed)
	s.do(t, "GET", "/me", "", renewed).want(t, 200)
	wantProblem(t, "the former password", s.do(t, "POST", "/session", `{"name":"ann","password":"`+good+`"}`), 403, "wrong-credentials")

	elsewhere = s.signIn(t, "ann", other)
	out := s.do(t, "DELETE", "/session", "", elsewhere).want(t, 204)
	if set := out.header.Get("Set-Cookie"); !strings.HasPrefix(set, "roombook=; ") || !strings.Contains(set, "Max-Age=0") {
		t.Errorf("cookie %q", set)
	}
	wantProblem(t, "signed out", s.do(t, "GET", "/me", "", elsewhere), 401, "unauthenticated")
	s.do(t, "DELETE", "/session", "", elsewhere).want(t, 204)
	s.do(t, "DELETE", "/me/sessions", "", renewed).want(t, 204)
	wantProblem(t, "signed out everywhere", s.do(t, "GET", "/me", "", renewed), 401, "unauthenticated")
}

func TestSignInIsRefused(t *testing.T) {
	s := newAccountService(t)
	s.user(t, "ann", domain.RoleUser)
	in := func(name, password string) reply {
		return s.do(t, "POST", "/session", fmt.Sprintf(`{"name":%q,"password":%q}`, name, password))
	}
	known, unknown := in("ann", other), in("eve", other)
	wantProblem(t, "a wrong password", known, 403, "wrong-credentials")
	strip := func(r reply) string { return strings.ReplaceAll(r.body, r.at(t, "requestId").(string), "") }
	if strip(known) != strip(unknown) {
		t.Errorf("one can tell names that are nobody's:\n%s\n%s", known.body, unknown.body)
	}
	if len(known.header["Set-Cookie"]) > 0 {
		t.Error("a cookie")
	}
	for range 4 {
		wantProblem(t, "again", in("ann", other), 403, "wrong-credentials")
	}
	late := in("ann", good)
	wantProblem(t, "too often", late, 429, "too-many-tries")
	if late.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", late.header.Get("Retry-After"))
	}
	wantProblem(t, "an idempotency key", s.do(t, "POST", "/session", `{"name":"ann","password":"x"}`, "Idempotency-Key: k"), 400, "invalid-parameters")
}

// Nothing that a browser sends for the page of another site changes anything, with accounts and without; a program need not say where it
// comes from, and a token does not come by itself.
func TestCrossOrigin(t *testing.T) {
	accounts := newAccountService(t, func(o *Options) { o.PublicURLs = []string{"https://rooms.example/base"} })
	user := accounts.user(t, "ann", domain.RoleAdmin)
	session, token := accounts.signIn(t, "ann", good), accounts.token(t, user)
	for name, s := range map[string]*service{"none": newService(t), "accounts": accounts.service} {
		for what, c := range map[string]struct {
			headers []string
			refused bool
		}{
			"a program":                            {nil, false},
			"this page":                            {[]string{"Sec-Fetch-Site: same-origin"}, false},
			"the address bar":                      {[]string{"Sec-Fetch-Site: none"}, false},
			"another site":                         {[]string{"Sec-Fetch-Site: cross-site"}, true},
			"another host of the site":             {[]string{"Sec-Fetch-Site: same-site"}, true},
			"an old browser, this page":            {[]string{"Origin: http://example.com"}, false},
			"an old browser, another site":         {[]string{"Origin: http://evil.example"}, true},
			"an old browser, no origin":            {[]string{"Origin: null"}, true},
			"another site with a token":            {[]string{"Sec-Fetch-Site: cross-site", token}, false},
			"this site behind a proxy":             {[]string{"Origin: https://rooms.example", "Sec-Fetch-Site: cross-site"}, name == "none"},
			"another site with simple content":     {[]string{"Sec-Fetch-Site: cross-site", "Content-Type: text/plain"}, true},
			"another site with a form":             {[]string{"Origin: http://evil.example", "Content-Type: application/x-www-form-urlencoded"}, true},
			"another site that overrides a method": {[]string{"Origin: http://evil.example", "X-Http-Method-Override: GET"}, true},
		} {
			headers := append([]string{session}, c.headers...)
			before := len(s.log.all())
			got := s.do(t, "POST", "/bookings", strings.Replace(morning, `"1"`, fmt.Sprintf(`"%s-%d"`, name, before), 1), headers...)
			if c.refused {
				wantProblem(t, name+", "+what, got, 403, "cross-origin")
				if len(s.log.all()) != before {
					t.Errorf("%s, %s: something has happened", name, what)
				}
			} else if got.status != 201 {
				t.Errorf("%s, %s: %d %s", name, what, got.status, got.body)
			}
			if got := s.do(t, "GET", "/bookings", "", headers...); got.status != 200 {
				t.Errorf("%s, %s: a link: %d %s", name, what, got.status, got.body)
			}
		}
	}
	odd := httptest.NewRequest("POST", "/session", strings.NewReader(`{"name":"ann","password":"`+good+`"}`))
	odd.Host = "a!b.localhost" // is this server to browsers, and cannot be in an address
	odd.Header.Set("Sec-Fetch-Site", "cross-site")
	odd.Header.Set("Content-Type", "application/json")
	wantProblem(t, "another site, without an origin, by an odd name", accounts.serve(odd), 403, "cross-origin")
	proxied := newService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	for origin, status := range map[string]int{"https://rooms.lan:8443": 201, "http://rooms.lan:8443": 403, "https://rooms.lan": 403, "https://rooms.lan:8443/base": 403} {
		proxied.do(t, "POST", "/bookings", strings.Replace(morning, `"1"`, fmt.Sprintf("%d", status+len(origin)), 1), "Origin: "+origin,
			"X-Forwarded-Host: rooms.lan:8443", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /base").want(t, status)
	}
	// The password that a proxy asks for comes by itself.
	wantProblem(t, "another site, behind such a proxy", proxied.do(t, "POST", "/bookings", morning, "Origin: http://evil.example", "Authorization: Basic YW5uOnBhc3N3b3Jk"), 403, "cross-origin")
	wantProblem(t, "sign in for another site", accounts.do(t, "POST", "/session", `{"name":"ann","password":"`+good+`"}`, "Origin: http://evil.example"), 403, "cross-origin")
	wantProblem(t, "sign out for another site", accounts.do(t, "DELETE", "/session", "", session, "Sec-Fetch-Site: cross-site"), 403, "cross-origin")
}

func TestTokenRoutes(t *testing.T) {
	s := newAccountService(t)
	ann := s.user(t, "ann", domain.RoleUser, domain.RoleApprover)
	eve := s.user(t, "eve", domain.RoleUser)
	session, ofEve := s.signIn(t, "ann", good), s.token(t, eve)
	in := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	made := s.do(t, "POST", "/tokens", `{"label":"cron","roles":["user"],"rooms":["1","2"],"expiresAt":"`+in+`"}`, session).want(t, 201)
	secret, id := made.at(t, "token").(string), made.at(t, "tokenId").(string)
	if made.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(secret, "rbk_") || made.header.Get("Location") != "http://example.com/tokens/"+id {
		t.Error(made)
	}
	bearer := "Authorization: bearer " + secret
	if me := s.do(t, "GET", "/me", "", bearer).want(t, 200); me.at(t, "userId") != string(ann) {
		t.Error(me.body)
	}
	list := s.do(t, "GET", "/tokens", "", session).want(t, 200)
	if strings.Contains(list.body, secret) || !strings.Contains(list.body, id) || !strings.Contains(list.body, `"label":"cron"`) || strings.Contains(list.body, `"usedAt":null`) {
		t.Error(list.body)
	}
	if others := s.do(t, "GET", "/tokens", "", ofEve).want(t, 200); strings.Contains(others.body, id) {
		t.Error(others.body)
	}
	wantProblem(t, "another's token", s.do(t, "DELETE", "/tokens/"+id, "", ofEve), 404, "token-not-found")
	wantProblem(t, "a token for another", s.do(t, "POST", "/tokens", `{"userId":"`+string(ann)+`","expiresAt":"`+in+`"}`, s.signIn(t, "eve", good)), 403, "forbidden")
	for what, body := range map[string]string{
		"a role that the user lacks": `{"roles":["admin"],"expiresAt":"` + in + `"}`,
		"no such role":               `{"roles":["pilot"],"expiresAt":"` + in + `"}`, "a role twice": `{"roles":["user","user"],"expiresAt":"` + in + `"}`,
		"no such room": `{"rooms":["a b"],"expiresAt":"` + in + `"}`, "expired": `{"expiresAt":"2020-01-01T00:00:00Z"}`, "never": `{"expiresAt":"2999-01-01T00:00:00Z"}`,
		"no date": `{}`, "a long label": `{"label":"` + strings.Repeat("a", 201) + `","expiresAt":"` + in + `"}`, "roles that are none": `{"roles":"user","expiresAt":"` + in + `"}`,
	} {
		wantProblem(t, what, s.do(t, "POST", "/tokens", body, session), 422, "invalid-body")
	}
	wantProblem(t, "by a token", s.do(t, "POST", "/tokens", `{"expiresAt":"`+in+`"}`, bearer), 403, "needs-session")
	for range 2 {
		s.do(t, "DELETE", "/tokens/"+id, "", session).want(t, 204)
	}
	wantProblem(t, "a revoked token", s.do(t, "GET", "/me", "", bearer), 401, "unauthenticated")
}

func TestEraseRoute(t *testing.T) {
	s := newAccountService(t)
	admin, ann := s.token(t, s.user(t, "root", domain.RoleAdmin)), s.user(t, "ann", domain.RoleUser)
	session := s.signIn(t, "ann", good)
	_, token, err := s.accounts.CreateToken(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, accounts.NewToken{User: ann, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	refused := s.do(t, "DELETE", "/users/"+string(ann), "", session)
	wantProblem(t, "by a user", refused, 403, "forbidden")
	if detail := refused.at(t, "detail").(string); !strings.Contains(detail, "the role admin") {
		t.Error(detail)
	}
	for range 2 {
		s.do(t, "DELETE", "/users/"+string(ann), "", admin).want(t, 204)
	}
	wantProblem(t, "the session of an erased", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")
	if err := s.people.AddToken(t.Context(), directory.Token{ID: token.ID, User: ann}); err != nil { // as an older copy of the directory may have it
		t.Fatal(err)
	}
	s.do(t, "GET", "/people/tokens", "", admin).want(t, 200).has(t, string(token.ID), "former user")
	wantProblem(t, "nobody", s.do(t, "DELETE", "/users/none", "", admin), 404, "user-not-found")
	wantProblem(t, "not an id", s.do(t, "DELETE", "/users/a%20b", "", admin), 404, "user-not-found")
}

func TestSetUpRoute(t *testing.T) {
	s := newAccountService(t)
	code, err := s.accounts.SetUpCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body := func(code, password string) string {
		return fmt.Sprintf(`{"code":%q,"name":"root","password":%q}`, code, password)
	}
	wantProblem(t, "another code", s.do(t, "POST", "/setup", body("x", good)), 403, "wrong-credentials")
	wantProblem(t, "a short password", s.do(t, "POST", "/setup", body(code, "short")), 422, "invalid-body")
	if made := s.do(t, "POST", "/setup", body(code, good)).want(t, 201); !strings.Contains(made.body, `"admin"`) {
		t.Error(made.body)
	}
	wantProblem(t, "again", s.do(t, "POST", "/setup", body(code, good)), 403, "wrong-credentials")
	s.signIn(t, "root", good)
}

// The first user can be added without scripts, with the code of the link, in either language; what was typed stays until it has been done.
func TestSetUpWithoutScripts(t *testing.T) {
	s := newAccountService(t)
	code, err := s.accounts.SetUpCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := newReader(s.service, "", "ko")
	form := b.get(t, "/setup").want(t, 200).has(t, "첫 사용자 추가").fields(t, "code")
	form.Set("code", "x")
	form.Set("name", "root")
	form.Set("password", good)
	form.Set("fullName", "Root Kim")
	again := b.submit(t, "/setup", form).want(t, 403).has(t, "코드가 올바르지 않거나 이미 사용자가 있습니다.").fields(t, "code")
	if again.Get("name") != "root" || again.Get("fullName") != "Root Kim" || again.Get("password") != "" {
		t.Errorf("%v", again)
	}
	form.Set("code", code)
	form.Set("password", "short")
	b.submit(t, "/setup", form).want(t, 422).has(t, "비밀번호는 12자 이상이어야 하며")
	form.Set("password", good)
	b.submit(t, "/setup", form).has(t, "첫 사용자를 추가했습니다.")
	s.signIn(t, "root", good)
	b.submit(t, "/setup", form).want(t, 403)
	newReader(newService(t), "", "en").ask(t, "POST", "/setup", form).want(t, 404)
}

func TestNoAccounts(t *testing.T) {
	s := newService(t)
	for _, c := range []call{{"POST", "/session", `{"name":"ann","password":"x"}`}, {"DELETE", "/session", ""}, {"GET", "/me", ""}, {"PUT", "/me/password", `{"password":"x","newPassword":"x"}`},
		{"DELETE", "/me/sessions", ""}, {"GET", "/setup", ""}, {"POST", "/setup", `{"code":"x","name":"x","password":"x"}`}, {"DELETE", "/users/x", ""},
		{"GET", "/users", ""}, {"POST", "/users", `{"name":"x"}`}, {"GET", "/users/x", ""}, {"PATCH", "/users/x", `{}`}, {"PUT", "/users/x/password", `{"newPassword":"x"}`},
		{"POST", "/users/x/passwordLink", ""}, {"DELETE", "/users/x/sessions", ""}, {"GET", "/me/sessions", ""}, {"DELETE", "/me/sessions/x", ""}, {"POST", "/displays", `{"code":"x"}`},
		{"GET", "/tokens", ""}, {"POST", "/tokens", `{"expiresAt":"2030-01-01T00:00:00Z"}`}, {"DELETE", "/tokens/x", ""}} {
		wantProblem(t, c.method+" "+c.path, s.do(t, c.method, c.path, c.body), 404, "no-accounts")
	}
}

// While accounts cannot be looked up nobody is let in.
func TestAccountsAway(t *testing.T) {
	s := newAccountService(t)
	ann := s.user(t, "ann", domain.RoleUser)
	token, session := s.token(t, ann), s.signIn(t, "ann", good)
	if err := s.people.Close(); err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{token, session} {
		wantProblem(t, header, s.do(t, "GET", "/me", "", header), 503, "accounts-unavailable")
	}
	wantProblem(t, "sign in", s.do(t, "POST", "/session", `{"name":"ann","password":"x"}`), 503, "accounts-unavailable")

	s = newAccountService(t)
	ann = s.user(t, "ann", domain.RoleUser)
	token = s.token(t, ann)
	s.log.setFail(func(context.Context) error { return directory.ErrUnavailable })
	wantProblem(t, "a token whose events cannot be read", s.do(t, "GET", "/me", "", token), 503, "accounts-unavailable")
}

// Secrets are in no log.
func TestSecretsAreNotLogged(t *testing.T) {
	var lines strings.Builder
	s := newAccountService(t, func(o *Options) {
		o.Logger, o.AccessLog = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})), true
	})
	ann := s.user(t, "ann", domain.RoleUser)
	token, session := s.token(t, ann), s.signIn(t, "ann", good)
	made := s.do(t, "POST", "/tokens", `{"expiresAt":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`, session).want(t, 201)
	s.do(t, "GET", "/me", "", token).want(t, 200)
	s.do(t, "POST", "/session", `{"name":"ann","password":"`+other+`"}`).want(t, 403)
	s.do(t, "PUT", "/me/password", `{"password":"`+good+`","newPassword":"`+other+`"}`, session).want(t, 204)
	if !strings.Contains(lines.String(), "route=/session") {
		t.Fatal(lines.String())
	}
	code, _, err := s.accounts.PasswordCode(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, ann)
	if err != nil {
		t.Fatal(err)
	}
	display := newReader(s.service, "", "en")
	display.ask(t, "POST", "/password", url.Values{"code": {code}, "password": {good}}).want(t, 303)
	display.ask(t, "GET", "/rooms/blue/door", nil).want(t, 200)
	feed := httptest.NewRequest("GET", "/rooms/blue/calendar.ics", nil)
	feed.SetBasicAuth("ann", "rbk_password")
	s.serve(feed)
	for _, secret := range []string{code, display.cookies["roombook-door"], "rbk_password", base64.StdEncoding.EncodeToString([]byte("ann:rbk_password")), good, other, strings.TrimPrefix(token, "Authorization: Bearer "), strings.TrimPrefix(session, "Cookie: roombook="), made.at(t, "token").(string)} {
		if strings.Contains(lines.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, &lines)
		}
	}
}

// Every reply says what browsers may do with it.
func TestSecurityHeaders(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	for _, c := range []call{{"GET", "/bookings/" + id, ""}, {"GET", "/nothing", ""}, {"OPTIONS", "/bookings", ""}, {"BREW", "/bookings", ""}, {"POST", "/bookings", "{}"}, {"GET", "/docs", ""},
		{"GET", "/docs/swagger-ui.css", ""}, {"GET", "/problems", ""}, {"GET", "/metrics", ""}, {"GET", "/readyz", ""}, {"GET", "/rooms/1/calendar.ics", ""}, {"GET", "/bookings/", ""}} {
		h := s.do(t, c.method, c.path, c.body).header
		policy, referrer := h.Get("Content-Security-Policy"), "no-referrer"
		if strings.HasPrefix(h.Get("Content-Type"), "text/html") { // a page, whose forms tell where they come from
			referrer = "same-origin"
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != referrer || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s %s: %v", c.method, c.path, h)
		}
	}
}

func TestClientNetwork(t *testing.T) {
	s := newService(t)
	for remote, want := range map[string]string{
		"192.0.2.7:1234": "192.0.2.7", "[2001:db8:1:2:3::4]:99": "2001:db8:1:2::/64", "[::ffff:192.0.2.7]:1": "192.0.2.7", "[fe80::1%eth0]:1": "fe80::/64", "@": "@",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		if got := (&exchange{server: s.Server, r: r}).clientNetwork(); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// Whatever cookies and headers say, the answer is a refusal.
func FuzzCredentials(f *testing.F) {
	s := newAccountService(f)
	for _, seed := range []string{"", "Bearer ", "Bearer rbk_", "roombook=", "roombook=\x00", "roombook=a; roombook=b", "Bearer rbk_" + strings.Repeat("a", 51), "bearer\trbk_", "Bearer Bearer x"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, authorization, cookies string) {
		r := httptest.NewRequest(http.MethodGet, "/me", nil)
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		r.Header["Cookie"] = []string{cookies}
		if got := s.serve(r); got.status != 401 {
			t.Errorf("%q, %q: %d %s", authorization, cookies, got.status, got.body)
		}
	})
}
