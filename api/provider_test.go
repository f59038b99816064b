package api

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/oauth2-proxy/mockoidc"

	"roombook/api/web"
	"roombook/commands/accounts"
	"roombook/commands/accounts/oidc"
	"roombook/domain"
)

// providerService is a service where people sign in at a provider.
type providerService struct {
	*accountService
	provider *mockoidc.MockOIDC
	log      *logLines
}

// logLines is a log that may be read while it is written.
type logLines struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

const endSession = "https://id.example/end"

func newProviderService(t testing.TB, rolesClaim string) *providerService {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddMiddleware(withEndSession); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(l, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Server.Close() })
	lines := new(logLines)
	s := newAccountService(t, func(o *Options) {
		o.Provider = oidc.New(oidc.Options{Issuer: m.Issuer(), ClientID: m.ClientID, ClientSecret: m.ClientSecret, Scopes: []string{"profile", "email", "groups"}, RolesClaim: rolesClaim, Audience: "rooms"})
		o.Logger, o.AccessLog = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})), true
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	return &providerService{s, m, lines}
}

// withEndSession lets the provider have an address for signing out, which the mock has not.
func withEndSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mockoidc.DiscoveryEndpoint {
			w = &firstMember{w, `"end_session_endpoint":"` + endSession + `",`}
		}
		next.ServeHTTP(w, r)
	})
}

// firstMember puts a member at the beginning of an object.
type firstMember struct {
	http.ResponseWriter
	member string
}

func (w *firstMember) Write(b []byte) (int, error) {
	_, err := fmt.Fprintf(w.ResponseWriter, "{%s%s", w.member, b[1:])
	return len(b), err
}

func groups(subject string, groups ...string) *mockoidc.MockUser {
	return &mockoidc.MockUser{Subject: subject, PreferredUsername: "user" + subject, Email: "user" + subject + "@rooms.example", EmailVerified: true, Groups: groups}
}

// begin lets a browser begin a sign-in, and returns the path with which the provider sends it back once a user has signed in there.
func (s *providerService) begin(t testing.TB, b *reader, back string, user *mockoidc.MockUser, headers ...string) string {
	t.Helper()
	there := b.ask(t, "GET", "/signin/oidc?back="+url.QueryEscape(back), nil, headers...).want(t, 303).header.Get("Location")
	s.provider.QueueUser(user)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	r, err := client.Get(there)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	address, err := r.Location()
	if err != nil || address.Path != web.ReturnPath {
		t.Fatalf("%s: %v, %v", r.Status, address, err)
	}
	return address.RequestURI()
}

// signed returns a token that the provider's key has signed.
func (s *providerService) signed(t testing.TB, kind, claims string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: s.provider.Keypair.PrivateKey}, new(jose.SignerOptions).WithType(jose.ContentType(kind)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// accessToken returns the header with a token that the provider's key has signed.
func (s *providerService) accessToken(t testing.TB, kind, audience, subject string, groups ...string) string {
	t.Helper()
	token := s.signed(t, kind, fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":%q,"exp":%d,"groups":%q}`, s.provider.Issuer(), audience, subject, time.Now().Add(time.Hour).Unix(), strings.Join(groups, " ")))
	return "Authorization: Bearer " + token
}

func TestSignInAtAProvider(t *testing.T) {
	s := newProviderService(t, "groups")
	b := newReader(s.service, "", "en")
	b.ask(t, "GET", "/my", nil).want(t, 303)
	page := b.get(t, "/signin?back=%2Fmy%3Fx%3D1%26y").want(t, 200).has(t, "Sign in with your organisation's account")
	if !strings.Contains(page.body, `href="/signin/oidc?back=%2fmy%3fx%3d1%26y"`) || strings.Contains(page.body, "password") {
		t.Error(page.body)
	}
	newReader(s.service, "", "ko").get(t, "/signin").has(t, "조직 계정으로 로그인")

	callback := s.begin(t, b, "/my?x=1&y", groups("7", "roombook-approver:1", "user"))
	b.cookies["roombook"] = "planted"
	in := b.ask(t, "GET", callback, nil).want(t, 303)
	if in.header.Get("Location") != "/my?x=1&y" || !strings.Contains(in.header.Get("Cache-Control"), "no-store") {
		t.Errorf("%v", in.header)
	}
	if set := strings.Join(in.header["Set-Cookie"], "\n"); strings.Contains(set, "planted") || !strings.Contains(set, "roombook-signin=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax") {
		t.Errorf("cookies %s", set)
	}
	session := "Cookie: roombook=" + b.cookies["roombook"]
	me := s.do(t, "GET", "/me", "", session).want(t, 200)
	if me.at(t, "name") != "user7" || me.at(t, "address") != "user7@rooms.example" || fmt.Sprint(me.at(t, "roles"), me.at(t, "rooms")) != "[user approver] [1]" {
		t.Error(me.body)
	}
	b.get(t, "/my").want(t, 200)
	for r, err := range s.service.log.ReadStream(t.Context(), domain.UserID(me.at(t, "userId").(string)).Stream(), 0) {
		if err != nil || r.Metadata.Client == "" {
			t.Errorf("%s has no network: %v", r.Type, err)
		}
	}

	// The callback is for once, and for the browser that began: another one is not signed in by it.
	twice := b.ask(t, "GET", callback, nil).want(t, 400)
	twice.has(t, "This sign-in was not begun in this browser, or it is over.")
	newReader(s.service, "", "ko").ask(t, "GET", callback, nil).want(t, 400).has(t, "다시 로그인하세요")
	mallory := newReader(s.service, "", "en")
	s.begin(t, mallory, "/", groups("7", "user"))
	mallory.ask(t, "GET", s.begin(t, newReader(s.service, "", "en"), "/", groups("8", "user")), nil).want(t, 400)
	if mallory.cookies["roombook"] != "" || mallory.cookies["roombook-signin"] == "" {
		t.Errorf("%v", mallory.cookies)
	}

	// Who signs in again gets another session; the one before is over.
	again := s.begin(t, b, "", groups("7", "user", "admin"))
	if r := b.ask(t, "GET", again, nil).want(t, 303); r.header.Get("Location") != "/" {
		t.Errorf("%v", r.header)
	}
	wantProblem(t, "the session before", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")
	session = "Cookie: roombook=" + b.cookies["roombook"]
	if second := s.do(t, "GET", "/me", "", session).want(t, 200); second.at(t, "userId") != me.at(t, "userId") || fmt.Sprint(second.at(t, "roles")) != "[user admin]" {
		t.Error(second.body)
	}

	// Signing out ends the session here, and leads to where one signs out at the provider.
	out := b.ask(t, "POST", "/signout", url.Values{}).want(t, 200)
	wantProblem(t, "signed out", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")
	address := endSession + "?client_id=" + url.QueryEscape(s.provider.ClientID) + "&id_token_hint="
	_, hint, _ := strings.Cut(out.header.Get("Refresh"), "0; url="+address)
	hint, back, _ := strings.Cut(hint, "&")
	if strings.Count(hint, ".") != 2 || back != "post_logout_redirect_uri=http%3A%2F%2Fexample.com%2Fsignin" || !strings.Contains(out.header.Get("Cache-Control"), "no-store") {
		t.Errorf("%v", out.header)
	}
	out.has(t, "Sign out of your organisation's account too")
	if !strings.Contains(out.body, " data-signed-out>") {
		t.Error("what was typed is not removed")
	}
	if out := b.ask(t, "POST", "/signout", url.Values{}).want(t, 200); strings.Contains(out.header.Get("Refresh"), "hint") { // again
		t.Errorf("%v", out.header)
	}
	if again := b.get(t, "/signin"); again.header.Get("Refresh") != "" {
		t.Errorf("%v", again.header)
	}

	// Passwords are nobody's.
	s.user(t, "local", domain.RoleUser)
	wantProblem(t, "a password", s.do(t, "POST", "/session", `{"name":"local","password":"`+good+`"}`), 403, "sign-in-at-provider")
	b.ask(t, "POST", "/signin", url.Values{"name": {"local"}, "password": {good}}).want(t, 404)
}

// Who signs out at the provider is signed out here, in every browser, and nobody else is; each token of the provider does that once.
func TestSignedOutAtTheProvider(t *testing.T) {
	s := newProviderService(t, "")
	signedIn := func(subject string) *reader {
		b := newReader(s.service, "", "en")
		b.ask(t, "GET", s.begin(t, b, "/my", groups(subject)), nil).want(t, 303)
		b.get(t, "/my").want(t, 200)
		return b
	}
	first, second, other := signedIn("7"), signedIn("7"), signedIn("8")
	claims := fmt.Sprintf(`"iss":%q,"aud":%q,"iat":%d,"exp":%d,"events":{"http://schemas.openid.net/event/backchannel-logout":{}}`, s.provider.Issuer(), s.provider.ClientID, time.Now().Unix(), time.Now().Add(2*time.Minute).Unix())
	tell := func(token string) reply {
		return s.do(t, "POST", "/signin/oidc/logout", url.Values{"logout_token": {token}}.Encode(), "Content-Type: application/x-www-form-urlencoded")
	}
	for name, token := range map[string]string{"nothing": "", "no token": "x", "no event": s.signed(t, "logout+jwt", `{`+strings.Replace(claims, "backchannel", "other", 1)+`,"jti":"0","sub":"7"}`)} {
		if got := tell(token); got.status != 400 || !strings.Contains(got.header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
	}
	tell(s.signed(t, "logout+jwt", `{`+claims+`,"jti":"1","sub":"7","sid":"another"}`)).want(t, 200)
	for _, b := range []*reader{first, second, other} {
		b.get(t, "/my").want(t, 200)
	}
	token := s.signed(t, "logout+jwt", `{`+claims+`,"jti":"2","sub":"7"}`)
	if got := tell(token).want(t, 200); got.body != "" || !strings.Contains(got.header.Get("Cache-Control"), "no-store") {
		t.Errorf("%q %v", got.body, got.header)
	}
	for _, b := range []*reader{first, second} {
		b.ask(t, "GET", "/my", nil).want(t, 303)
	}
	other.get(t, "/my").want(t, 200)
	again := signedIn("7")
	tell(token).want(t, 400)
	again.get(t, "/my").want(t, 200)
}

// The provider cannot be made to send anybody to another site.
func TestNoOpenRedirectAfterSignIn(t *testing.T) {
	s := newProviderService(t, "")
	for _, back := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)", "evil", "\x00", "/\r\nX: y", ""} {
		b := newReader(s.service, "", "en")
		if r := b.ask(t, "GET", s.begin(t, b, back, groups("7")), nil).want(t, 303); r.header.Get("Location") != "/" {
			t.Errorf("%q: %v", back, r.header)
		}
	}
	b := newReader(s.service, "", "en")
	callback := s.begin(t, b, "/my", groups("7"))
	kept := b.cookies["roombook-signin"]
	b.cookies["roombook-signin"] = kept[:strings.LastIndex(kept, ".")+1] + "Ly9ldmlsLmV4YW1wbGU" // a cookie that was made by hand
	if r := b.ask(t, "GET", callback, nil).want(t, 303); r.header.Get("Location") != "/" {
		t.Errorf("%v", r.header)
	}
	for _, cookie := range []string{"", "...", "a.b.c.d.e", "a.b", ".....", strings.Repeat("x", 5000)} {
		b.cookies["roombook-signin"] = cookie
		b.ask(t, "GET", web.ReturnPath+"?state=&code=x", nil).want(t, 400)
	}
}

// Over https the cookies are for this host alone, and the provider sends the browser back by https.
func TestSignInAtAProviderByHTTPS(t *testing.T) {
	s := newProviderService(t, "")
	b := newReader(s.service, "", "en")
	https := []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: rooms.example", "X-Forwarded-Prefix: /rooms"}
	begun := b.ask(t, "GET", "/signin/oidc", nil, https...).want(t, 303)
	to, err := url.Parse(begun.header.Get("Location"))
	if err != nil || to.Query().Get("redirect_uri") != "https://rooms.example/rooms"+web.ReturnPath || to.Query().Get("code_challenge_method") != "S256" {
		t.Errorf("%v, %v", to, err)
	}
	if set := begun.header.Get("Set-Cookie"); !strings.HasPrefix(set, "__Host-roombook-signin=") || !strings.HasSuffix(set, "; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("cookie %q", set)
	}
}

func TestWhoIsNotSignedInAtAProvider(t *testing.T) {
	s := newProviderService(t, "groups")
	try := func(user *mockoidc.MockUser, change func(*reader, string) string) reply {
		t.Helper()
		b := newReader(s.service, "", "en")
		callback := s.begin(t, b, "/", user)
		if change != nil {
			callback = change(b, callback)
		}
		r := b.ask(t, "GET", callback, nil)
		if b.cookies["roombook"] != "" {
			t.Errorf("%s: signed in", callback)
		}
		return r
	}
	try(groups("9", "it"), nil).want(t, 403).has(t, "Your organisation's account has no role here.")
	try(groups("9", "user"), func(_ *reader, callback string) string { return callback + "&error=access_denied" }).want(t, 403).has(t, "did not confirm who you are")
	try(groups("9", "user"), func(b *reader, callback string) string { // a nonce that was not the browser's
		parts := strings.Split(b.cookies["roombook-signin"], ".")
		parts[1] = "x"
		b.cookies["roombook-signin"] = strings.Join(parts, ".")
		return callback
	}).want(t, 403).has(t, "did not confirm who you are")

	b := newReader(s.service, "", "en")
	b.ask(t, "GET", s.begin(t, b, "/", groups("9", "user")), nil).want(t, 303)
	session := "Cookie: roombook=" + b.cookies["roombook"]
	id := domain.UserID(s.do(t, "GET", "/me", "", session).want(t, 200).at(t, "userId").(string))
	if err := s.accounts.Disable(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, id, true); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, "a disabled user's session", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")
	try(groups("9", "user"), nil).want(t, 403).has(t, "Your account is disabled.")
	wantProblem(t, "a disabled user's access token", s.do(t, "GET", "/me", "", s.accessToken(t, "at+jwt", "rooms", "9", "user")), 401, "unauthenticated")

	// What failed because of the server is for its operator to read, and no secret is.
	s.provider.ClientSecret = "another"
	away := try(groups("9", "user"), nil).want(t, 503)
	away.has(t, "Your organisation's sign-in does not answer.")
	if away.header.Get("Retry-After") == "" || !strings.Contains(s.log.String(), "look after the client's id and secret") {
		t.Errorf("%v\n%s", away.header, s.log)
	}
}

func TestAccessTokensOfAProvider(t *testing.T) {
	s := newProviderService(t, "groups")
	program := s.accessToken(t, "at+jwt", "rooms", "client", "machine")
	me := s.do(t, "GET", "/me", "", program).want(t, 200)
	if fmt.Sprint(me.at(t, "roles")) != "[machine]" {
		t.Error(me.body)
	}
	s.do(t, "GET", "/metrics", "", program).want(t, 200)
	if again := s.do(t, "GET", "/me", "", program).want(t, 200); again.at(t, "userId") != me.at(t, "userId") {
		t.Error(again.body)
	}
	user := s.accessToken(t, "at+jwt", "rooms", "8", "user")
	id := s.do(t, "GET", "/me", "", user).want(t, 200).at(t, "userId").(string)
	s.do(t, "POST", "/bookings", strings.Replace(morning, `"ann"`, `"`+id+`"`, 1), user).want(t, 201)
	wantProblem(t, "for somebody else", s.do(t, "POST", "/bookings", morning, user), 403, "forbidden")
	for what, header := range map[string]string{
		"an ID token":      s.accessToken(t, "JWT", s.provider.ClientID, "8", "user"),
		"another audience": s.accessToken(t, "at+jwt", s.provider.ClientID, "8", "user"),
		"what is no token": "Authorization: Bearer x.y.z",
		"a mistyped token": "Authorization: Bearer rbk_x",
	} {
		wantProblem(t, what, s.do(t, "GET", "/me", "", header), 401, "unauthenticated")
	}
	wantProblem(t, "no role", s.do(t, "GET", "/me", "", s.accessToken(t, "at+jwt", "rooms", "8", "it")), 403, "no-role")
	s.do(t, "GET", "/me", "", s.token(t, s.user(t, "local", domain.RoleUser))).want(t, 200) // tokens of this server are valid too
}

// While the provider is away whoever is signed in goes on, and whoever signs in is told so.
func TestTheProviderIsAway(t *testing.T) {
	s := newProviderService(t, "")
	b := newReader(s.service, "", "en")
	b.ask(t, "GET", s.begin(t, b, "/", groups("7")), nil).want(t, 303)
	token := s.accessToken(t, "at+jwt", "rooms", "7")
	waiting := newReader(s.service, "", "en")
	callback := s.begin(t, waiting, "/", groups("8"))
	if err := s.provider.Server.Close(); err != nil {
		t.Fatal(err)
	}
	s.do(t, "GET", "/me", "", "Cookie: roombook="+b.cookies["roombook"]).want(t, 200)
	s.do(t, "GET", "/me", "", token).want(t, 200)
	waiting.ask(t, "GET", callback, nil).want(t, 503).has(t, "does not answer")

	// And if it was never there.
	o := oidc.Options{Issuer: s.provider.Issuer(), ClientID: "x", Audience: "rooms"}
	never := newAccountService(t, func(to *Options) { to.Provider = oidc.New(o) })
	if r := newReader(never.service, "", "en").ask(t, "GET", "/signin/oidc", nil).want(t, 503); r.header.Get("Retry-After") == "" || r.header.Get("Set-Cookie") != "" {
		t.Errorf("%v", r.header)
	}
	wantProblem(t, "an access token", never.do(t, "GET", "/me", "", token), 503, "provider-unavailable")
	never.do(t, "GET", "/me", "", never.token(t, never.user(t, "local", domain.RoleUser))).want(t, 200)

	// Without a provider there are no such addresses.
	none := newReader(newAccountService(t).service, "", "en")
	none.ask(t, "GET", "/signin/oidc", nil).want(t, 404)
	none.ask(t, "GET", web.ReturnPath, nil).want(t, 404)
}

// Neither what signs in nor what is signed in by is in the log, whatever comes of it.
func TestSecretsOfAProviderAreNotLogged(t *testing.T) {
	s := newProviderService(t, "groups")
	token := s.accessToken(t, "at+jwt", "rooms", "7", "user")
	s.do(t, "GET", "/me", "", token).want(t, 200)
	forged := token[:len(token)-20]
	s.do(t, "GET", "/me", "", forged).want(t, 401)
	secrets := []string{s.provider.ClientSecret, strings.TrimPrefix(forged, "Authorization: Bearer ")}
	b := newReader(s.service, "", "en")
	for _, user := range []*mockoidc.MockUser{groups("7", "user"), groups("7")} {
		callback := s.begin(t, b, "/", user)
		query, err := url.ParseQuery(callback[strings.Index(callback, "?")+1:])
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(append(secrets, query.Get("code")), strings.Split(b.cookies["roombook-signin"], ".")[:3]...)
		kept := b.cookies["roombook-signin"]
		b.ask(t, "GET", callback, nil)
		b.cookies["roombook-signin"] = kept
		b.ask(t, "GET", callback, nil).want(t, 403) // the code was used
		b.ask(t, "GET", callback+"x", nil).want(t, 400)
	}
	secrets = append(secrets, b.cookies["roombook"])
	logged := s.log.String()
	for _, want := range []string{"route=" + web.ReturnPath, "sign-in at the identity provider failed", "invalid_grant", "no role"} {
		if !strings.Contains(logged, want) {
			t.Errorf("%s is not in the log:\n%s", want, logged)
		}
	}
	for _, secret := range secrets {
		if secret == "" || strings.Contains(logged, secret) {
			t.Errorf("%q is in the log:\n%s", secret, logged)
		}
	}
}
