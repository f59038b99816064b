package oidc

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/oauth2-proxy/mockoidc"
	"go.uber.org/goleak"

	"roombook/commands/accounts"
	"roombook/commands/accounts/directory"
	"roombook/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const redirect = "https://rooms.example/signin/oidc/callback"

// world is a provider, as it is and as this package knows it.
type world struct {
	*Provider
	mock *mockoidc.MockOIDC
	// change changes an answer of the mock; nil leaves all as they are.
	change atomic.Pointer[func(path string, answer map[string]any)]
	asked  atomic.Int32 // how often for the keys
}

// newWorld starts a provider, at an address or, if that is empty, at any.
func newWorld(t *testing.T, address string, o Options) *world {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{mock: m}
	if err := m.AddMiddleware(w.middleware); err != nil {
		t.Fatal(err)
	}
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(l, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Server.Close() })
	o.Issuer, o.ClientID, o.ClientSecret = m.Issuer(), m.ClientID, m.ClientSecret
	if o.Scopes == nil {
		o.Scopes = []string{"profile", "email", "groups"}
	}
	w.Provider = New(o)
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

func (w *world) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mockoidc.JWKSEndpoint {
			w.asked.Add(1)
		}
		kept := httptest.NewRecorder()
		next.ServeHTTP(kept, r)
		body := kept.Body.Bytes()
		if change := w.change.Load(); change != nil && kept.Code == http.StatusOK {
			answer := map[string]any{}
			if json.Unmarshal(body, &answer) == nil {
				(*change)(r.URL.Path, answer)
				body, _ = json.Marshal(answer)
			}
		}
		for name, values := range kept.Header() {
			out.Header()[name] = values
		}
		out.WriteHeader(kept.Code)
		_, _ = out.Write(body)
	})
}

// signIn lets a user sign in at the provider, and returns what the browser brings back and has kept.
func (w *world) signIn(t *testing.T, user *mockoidc.MockUser) (url.Values, Flow) {
	t.Helper()
	address, f, err := w.Begin(t.Context(), redirect)
	if err != nil {
		t.Fatal(err)
	}
	w.mock.QueueUser(user)
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer browser.CloseIdleConnections()
	r, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	back, err := r.Location()
	if err != nil {
		t.Fatal(r.Status, err)
	}
	if got := back.Scheme + "://" + back.Host + back.Path; got != redirect {
		t.Fatalf("sent to %s", got)
	}
	return back.Query(), f
}

func ann() *mockoidc.MockUser {
	return &mockoidc.MockUser{Subject: "7", PreferredUsername: "Ann", Email: "ann@rooms.example", EmailVerified: true, Groups: []string{"it", "roombook-user", "approver:1", "approver:2"}}
}

// sign returns a token with claims besides or in place of those that are right for an audience.
func (w *world) sign(t *testing.T, key any, algorithm jose.SignatureAlgorithm, kind, audience string, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": w.mock.Issuer(), "sub": "7", "aud": audience, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, new(jose.SignerOptions).WithType(jose.ContentType(kind)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// unsigned is a token without a signature, which says so.
func unsigned(token, kind string) string {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"` + kind + `"}`))
	return header + "." + strings.Split(token, ".")[1] + "."
}

var otherKey = sync.OnceValue(func() *rsa.PrivateKey {
	pair, err := mockoidc.RandomKeypair(2048)
	if err != nil {
		panic(err)
	}
	return pair.PrivateKey
})

func TestSignIn(t *testing.T) {
	w := newWorld(t, "", Options{RolesClaim: "groups"})
	answer, f := w.signIn(t, ann())
	got, err := w.Finish(t.Context(), redirect, answer, f, time.Now())
	want := accounts.Identity{Identity: directory.Identity{Issuer: w.mock.Issuer(), Subject: "7"}, Name: "Ann", Address: "ann@rooms.example", Roles: domain.NewRoles(domain.RoleUser, domain.RoleApprover), Rooms: domain.NewRooms("1", "2"), IDToken: got.IDToken}
	if err != nil || got != want || strings.Count(got.IDToken, ".") != 2 {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := w.Finish(t.Context(), redirect, answer, f, time.Now()); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), answer.Get("code")) {
		t.Errorf("the same code again: %v", err)
	}
	_, other, err := w.Begin(t.Context(), redirect)
	if err != nil || other.State == f.State || other.Nonce == f.Nonce || other.Verifier == f.Verifier {
		t.Errorf("another sign-in has the secrets of the one before: %v", err)
	}
}

// The claims may be where the standard has them, and not in the ID token.
func TestClaimsOfUserInfo(t *testing.T) {
	w := newWorld(t, "", Options{RolesClaim: "groups"})
	for _, subject := range []string{"7", "8"} {
		answer, f := w.signIn(t, ann())
		change := func(path string, answer map[string]any) {
			switch path {
			case mockoidc.TokenEndpoint:
				answer["id_token"] = w.sign(t, w.mock.Keypair.PrivateKey, jose.RS256, "JWT", w.mock.ClientID, map[string]any{"nonce": f.Nonce, "sid": "a session"})
			case mockoidc.UserinfoEndpoint:
				answer["sub"], answer["name"], answer["sid"] = subject, "Ann O'Hara", "none"
			}
		}
		w.change.Store(&change)
		got, err := w.Finish(t.Context(), redirect, answer, f, time.Now())
		if subject == "7" && (err != nil || got.FullName != "Ann O'Hara" || got.Roles == "" || got.SessionID != "a session") {
			t.Errorf("%+v, %v", got, err)
		}
		if subject == "8" && !errors.Is(err, ErrRefused) {
			t.Errorf("the claims of another: %v", err)
		}
	}
}

func TestSignInIsRefused(t *testing.T) {
	w := newWorld(t, "", Options{RolesClaim: "groups"})
	key := w.mock.Keypair.PrivateKey
	id := func(change map[string]any) func(*testing.T, string) string { // the ID token with other claims
		return func(t *testing.T, nonce string) string {
			claims := map[string]any{"nonce": nonce, "groups": []string{"user"}}
			for name, value := range change {
				claims[name] = value
			}
			return w.sign(t, key, jose.RS256, "JWT", w.mock.ClientID, claims)
		}
	}
	for name, c := range map[string]struct {
		answer  func(url.Values)
		flow    func(*Flow)
		idToken func(t *testing.T, nonce string) string
		at      time.Duration // from now
		user    *mockoidc.MockUser
		want    error
	}{
		"as it should be":      {idToken: id(nil), want: nil},
		"another state":        {answer: func(v url.Values) { v.Set("state", "x") }, want: ErrNotBegun},
		"no state":             {answer: func(v url.Values) { v.Del("state") }, want: ErrNotBegun},
		"nothing was kept":     {flow: func(f *Flow) { *f = Flow{} }, answer: func(v url.Values) { v.Set("state", "") }, want: ErrNotBegun},
		"the provider refuses": {answer: func(v url.Values) { v.Set("error", "access_denied") }, want: ErrRefused},
		"another code":         {answer: func(v url.Values) { v.Set("code", "x") }, want: ErrRefused},
		"no code":              {answer: func(v url.Values) { v.Del("code") }, want: ErrRefused},
		"another verifier":     {flow: func(f *Flow) { f.Verifier += "x" }, want: ErrRefused},
		"another nonce":        {flow: func(f *Flow) { f.Nonce += "x" }, want: ErrRefused},
		"no ID token":          {idToken: func(*testing.T, string) string { return "" }, want: ErrRefused},
		"no nonce":             {idToken: id(map[string]any{"nonce": nil}), want: ErrRefused},
		"expired":              {at: time.Hour, want: ErrRefused},
		"another issuer":       {idToken: id(map[string]any{"iss": "https://evil.example"}), want: ErrRefused},
		"another audience":     {idToken: id(map[string]any{"aud": "another"}), want: ErrRefused},
		"for another client":   {idToken: id(map[string]any{"aud": []string{"another", w.mock.ClientID}, "azp": "another"}), want: ErrRefused},
		"no subject":           {idToken: id(map[string]any{"sub": nil}), want: ErrRefused},
		"no signature":         {idToken: func(t *testing.T, nonce string) string { return unsigned(id(nil)(t, nonce), "JWT") }, want: ErrRefused},
		"signed by the secret": {idToken: func(t *testing.T, nonce string) string {
			return w.sign(t, []byte(w.mock.ClientSecret+w.mock.ClientSecret), jose.HS256, "JWT", w.mock.ClientID, map[string]any{"nonce": nonce, "groups": []string{"user"}})
		}, want: ErrRefused},
		"signed by another key": {idToken: func(t *testing.T, nonce string) string {
			return w.sign(t, otherKey(), jose.RS256, "JWT", w.mock.ClientID, map[string]any{"nonce": nonce, "groups": []string{"user"}})
		}, want: ErrRefused},
		"no roles": {user: &mockoidc.MockUser{Subject: "7"}, want: ErrNoRole},
		"no role":  {user: &mockoidc.MockUser{Subject: "7", Groups: []string{"it", "administrators", "user:1", "approver:", "approver:a b"}}, want: ErrNoRole},
	} {
		t.Run(name, func(t *testing.T) {
			w.change.Store(nil)
			if c.user == nil {
				c.user = ann()
			}
			answer, f := w.signIn(t, c.user)
			if c.idToken != nil {
				token := c.idToken(t, f.Nonce)
				change := func(path string, answer map[string]any) {
					if path == mockoidc.TokenEndpoint {
						answer["id_token"] = token
					}
				}
				w.change.Store(&change)
			}
			if c.flow != nil {
				c.flow(&f)
			}
			if c.answer != nil {
				c.answer(answer)
			}
			i, err := w.Finish(t.Context(), redirect, answer, f, time.Now().Add(c.at))
			if !errors.Is(err, c.want) {
				t.Errorf("%+v, %v, want %v", i, err, c.want)
			}
		})
	}
}

func TestAccessTokens(t *testing.T) {
	w := newWorld(t, "", Options{RolesClaim: "realm.roles", Audience: "rooms"})
	key := w.mock.Keypair.PrivateKey
	roles := map[string]any{"realm": map[string]any{"roles": "machine openid"}}
	good := w.sign(t, key, jose.RS256, "at+jwt", "rooms", roles)
	with := func(name string, value any) map[string]any {
		return map[string]any{"realm": roles["realm"], name: value}
	}
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"good":                   {good, nil},
		"good, by its long name": {w.sign(t, key, jose.RS256, "application/AT+JWT", "rooms", roles), nil},
		"of several audiences":   {w.sign(t, key, jose.RS256, "at+jwt", "rooms", with("aud", []string{"other", "rooms"})), nil},
		"an ID token":            {w.sign(t, key, jose.RS256, "JWT", "rooms", roles), ErrRefused},
		"of no type":             {w.sign(t, key, jose.RS256, "", "rooms", roles), ErrRefused},
		"another audience":       {w.sign(t, key, jose.RS256, "at+jwt", w.mock.ClientID, roles), ErrRefused},
		"another issuer":         {w.sign(t, key, jose.RS256, "at+jwt", "rooms", with("iss", "https://evil.example")), ErrRefused},
		"expired":                {w.sign(t, key, jose.RS256, "at+jwt", "rooms", with("exp", time.Now().Add(-time.Second).Unix())), ErrRefused},
		"without expiry":         {w.sign(t, key, jose.RS256, "at+jwt", "rooms", with("exp", nil)), ErrRefused},
		"without subject":        {w.sign(t, key, jose.RS256, "at+jwt", "rooms", with("sub", nil)), ErrRefused},
		"another key":            {w.sign(t, otherKey(), jose.RS256, "at+jwt", "rooms", roles), ErrRefused},
		"HS256":                  {w.sign(t, []byte(w.mock.ClientSecret+w.mock.ClientSecret), jose.HS256, "at+jwt", "rooms", roles), ErrRefused},
		"no signature":           {unsigned(good, "at+jwt"), ErrRefused},
		"cut off":                {good[:len(good)-5], ErrRefused},
		"no token":               {"x", ErrRefused},
		"no role":                {w.sign(t, key, jose.RS256, "at+jwt", "rooms", nil), ErrNoRole},
	} {
		i, err := w.AccessToken(t.Context(), c.token, time.Now())
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v, want %v", name, i, err, c.want)
		}
		if err == nil && (i.Subject != "7" || i.Issuer != w.mock.Issuer() || i.Roles != domain.NewRoles(domain.RoleMachine)) {
			t.Errorf("%s: %+v", name, i)
		}
	}
	if _, err := newWorld(t, "", Options{}).AccessToken(t.Context(), good, time.Now()); !errors.Is(err, ErrRefused) {
		t.Errorf("where no audience is: %v", err)
	}
}

// A new key is read when a token is signed by it, and forgeries cannot make the program ask all the time.
func TestKeyRotation(t *testing.T) {
	w := newWorld(t, "", Options{Audience: "rooms"})
	first := w.sign(t, w.mock.Keypair.PrivateKey, jose.RS256, "at+jwt", "rooms", nil)
	if _, err := w.AccessToken(t.Context(), first, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := mockoidc.NewKeypair(otherKey())
	if err != nil {
		t.Fatal(err)
	}
	w.mock.Keypair = pair
	w.pause = 0
	if _, err := w.AccessToken(t.Context(), w.sign(t, pair.PrivateKey, jose.RS256, "at+jwt", "rooms", nil), time.Now()); err != nil {
		t.Errorf("by the new key: %v", err)
	}
	if _, err := w.AccessToken(t.Context(), first, time.Now()); !errors.Is(err, ErrRefused) {
		t.Errorf("by the former key: %v", err)
	}
	w.pause = time.Hour
	before := w.asked.Load()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := w.AccessToken(t.Context(), first, time.Now()); !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if asked := w.asked.Load() - before; asked != 0 {
		t.Errorf("asked for the keys %d times within the pause", asked)
	}
}

// Keys of other kinds and for other uses are no reason to have none, and are none.
func TestOtherKeys(t *testing.T) {
	w := newWorld(t, "", Options{Audience: "rooms"})
	change := func(path string, answer map[string]any) {
		if path == mockoidc.JWKSEndpoint {
			encryption := jose.JSONWebKey{Key: &otherKey().PublicKey, Use: "enc"}
			answer["keys"] = append(answer["keys"].([]any), encryption, map[string]any{"kty": "NEW"}, map[string]any{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"})
		}
	}
	w.change.Store(&change)
	for key, want := range map[any]error{w.mock.Keypair.PrivateKey: nil, otherKey(): ErrRefused} {
		if _, err := w.AccessToken(t.Context(), w.sign(t, key, jose.RS256, "at+jwt", "rooms", nil), time.Now()); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// The provider may be away when the program starts and at any time after; what it said before goes on being true.
func TestProviderAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := New(Options{Issuer: "http://" + address + mockoidc.IssuerBase, Audience: "rooms"})
	t.Cleanup(p.client.CloseIdleConnections)
	p.pause = 0
	for range 2 {
		if _, _, err := p.Begin(t.Context(), redirect); !errors.Is(err, ErrUnavailable) {
			t.Errorf("begin: %v", err)
		}
		if _, err := p.AccessToken(t.Context(), "x", time.Now()); !errors.Is(err, ErrRefused) {
			t.Errorf("what is no token: %v", err)
		}
	}
	if p.EndSession("https://rooms.example/signin", "") != "" {
		t.Error("signs out at a provider that was never there")
	}
	w := newWorld(t, address, Options{})
	token := w.sign(t, w.mock.Keypair.PrivateKey, jose.RS256, "at+jwt", "rooms", nil)
	if _, err := p.AccessToken(t.Context(), token, time.Now()); err != nil {
		t.Errorf("once it is there: %v", err)
	}
	if err := p.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	answer, f := w.signIn(t, ann())
	w.mock.Server.Close()
	if _, err := w.Finish(t.Context(), redirect, answer, f, time.Now()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("finish: %v", err)
	}
	p.known.readAt = time.Now().Add(-24 * time.Hour)
	if _, err := p.AccessToken(t.Context(), token, time.Now()); err != nil {
		t.Errorf("by keys of before: %v", err)
	}
	unknown := w.sign(t, otherKey(), jose.RS256, "at+jwt", "rooms", nil)
	if _, err := p.AccessToken(t.Context(), unknown, time.Now()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("by a key that may be new: %v", err)
	}
	if err := p.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	newWorld(t, address, Options{})
	if err := p.Ping(t.Context()); err != nil {
		t.Errorf("once it is back: %v", err)
	}
}

// What an operator has to mend is no fault of who signs in; and the log gets no secret.
func TestErrorsHaveNoSecrets(t *testing.T) {
	w := newWorld(t, "", Options{})
	answer, f := w.signIn(t, ann())
	w.mock.ClientSecret = "another"
	_, refused := w.Finish(t.Context(), redirect, answer, f, time.Now())
	if !errors.Is(refused, ErrUnavailable) || !strings.Contains(refused.Error(), "id and secret") {
		t.Errorf("another secret: %v", refused)
	}
	wrongIssuer := New(Options{Issuer: w.mock.Issuer() + "/"})
	defer wrongIssuer.client.CloseIdleConnections()
	_, _, mismatch := wrongIssuer.Begin(t.Context(), redirect)
	if !errors.Is(mismatch, ErrUnavailable) || !strings.Contains(mismatch.Error(), w.mock.Issuer()+`"`) {
		t.Errorf("another issuer: %v", mismatch)
	}
	_, state := w.Finish(t.Context(), redirect, url.Values{"state": {"x"}}, f, time.Now())
	text := []byte(errors.Join(refused, mismatch, state).Error())
	for _, secret := range []string{w.options.ClientSecret, f.State, f.Nonce, f.Verifier, answer.Get("code")} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
}

func TestEndSession(t *testing.T) {
	w := newWorld(t, "", Options{})
	var end any = "https://id.example/end?tenant=1"
	change := func(path string, answer map[string]any) {
		if path == mockoidc.DiscoveryEndpoint {
			answer["end_session_endpoint"] = end
		}
	}
	w.change.Store(&change)
	w.pause = 0
	for address, want := range map[any]string{
		"https://id.example/end?tenant=1": "https://id.example/end?client_id=" + w.mock.ClientID + "&post_logout_redirect_uri=https%3A%2F%2Frooms.example%2Fsignin&tenant=1",
		"javascript:alert(1)":             "",
		nil:                               "",
	} {
		end = address
		if _, err := w.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.EndSession("https://rooms.example/signin", ""); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := w.EndSession("https://rooms.example/signin", "a.b.c"); got != strings.Replace(want, "&post", "&id_token_hint=a.b.c&post", 1) {
			t.Errorf("with an ID token: %s", got)
		}
	}
}

// A logout token is one of the provider's, for this client, about a logout that has been, and no other token.
func TestLogoutTokens(t *testing.T) {
	w := newWorld(t, "", Options{Audience: "rooms"})
	now := time.Now()
	events := map[string]any{logoutEvent: map[string]any{}}
	sign := func(key any, algorithm jose.SignatureAlgorithm, kind, audience string, claims map[string]any) string {
		all := map[string]any{"events": events, "jti": "1", "sid": "s"}
		for name, value := range claims {
			all[name] = value
		}
		return w.sign(t, key, algorithm, kind, audience, all)
	}
	valid := func(claims map[string]any) string {
		return sign(w.mock.Keypair.PrivateKey, jose.RS256, "logout+jwt", w.mock.ClientID, claims)
	}
	for name, c := range map[string]struct {
		claims       map[string]any
		subject, sid string
	}{"both": {nil, "7", "s"}, "a subject": {map[string]any{"sid": nil}, "7", ""}, "a session": {map[string]any{"sub": nil}, "", "s"}} {
		l, err := w.Logout(t.Context(), valid(c.claims), now)
		if err != nil || l.Subject != c.subject || l.SessionID != c.sid || l.Issuer != w.mock.Issuer() || l.TokenID != "1" || !l.ExpiresAt.After(now) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for name, token := range map[string]string{
		"nothing": "", "no token": "x", "an ID token": w.sign(t, w.mock.Keypair.PrivateKey, jose.RS256, "JWT", w.mock.ClientID, map[string]any{"nonce": "n"}),
		"another's key": sign(otherKey(), jose.RS256, "logout+jwt", w.mock.ClientID, nil), "not signed": unsigned(valid(nil), "logout+jwt"),
		"signed with the secret": sign([]byte(w.mock.ClientSecret+strings.Repeat("0", 32)), jose.HS256, "logout+jwt", w.mock.ClientID, nil),
		"another client":         sign(w.mock.Keypair.PrivateKey, jose.RS256, "logout+jwt", "another", nil), "for the API": sign(w.mock.Keypair.PrivateKey, jose.RS256, "logout+jwt", "rooms", nil),
		"another issuer": valid(map[string]any{"iss": "https://other.example"}),
		"expired":        valid(map[string]any{"exp": now.Add(-time.Second).Unix()}), "no expiry": valid(map[string]any{"exp": nil}),
		"to come": valid(map[string]any{"iat": now.Add(time.Hour).Unix()}), "no time": valid(map[string]any{"iat": nil}),
		"no events": valid(map[string]any{"events": nil}), "another event": valid(map[string]any{"events": map[string]any{"https://id.example/event": map[string]any{}}}),
		"an event of nothing": valid(map[string]any{"events": map[string]any{logoutEvent: nil}}), "an event that is a text": valid(map[string]any{"events": map[string]any{logoutEvent: "x"}}),
		"a nonce": valid(map[string]any{"nonce": "n"}), "no id": valid(map[string]any{"jti": nil}), "nobody": valid(map[string]any{"sub": nil, "sid": nil}),
	} {
		if l, err := w.Logout(t.Context(), token, now); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

// A mail address counts unless the provider says that it was not verified.
func TestUnverifiedAddresses(t *testing.T) {
	p := New(Options{})
	for verified, want := range map[any]string{nil: "ann@rooms.example", true: "ann@rooms.example", "true": "ann@rooms.example", false: "", "false": ""} {
		c := claims{"email": "ann@rooms.example"}
		if verified != nil {
			c["email_verified"] = verified
		}
		if i, err := p.identity("7", c); err != nil || i.Address != want {
			t.Errorf("%v: %+v, %v", verified, i, err)
		}
	}
}

func TestRights(t *testing.T) {
	for text, want := range map[string]struct {
		roles domain.Roles
		rooms domain.Rooms
	}{
		"":                      {"", ""},
		"user":                  {"user", ""},
		"roombook-admin it":     {"admin", ""},
		"admin user":            {"user admin", ""},
		"approver":              {"approver", "*"},
		"approver:2 approver:1": {"approver", "1 2"},
		"approver:1 door":       {"approver door", "1"},
		"approver:1 door:2":     {"approver door", "1"},
		"approver door:2":       {"approver door", "*"},
		"roombook-door:1":       {"door", "1"},
		"Admin ADMIN administrator roombook-roombook-admin approver:* user:1": {"", ""},
	} {
		if roles, rooms := rights(strings.Fields(text)); roles != want.roles || rooms != want.rooms {
			t.Errorf("%s: %q, %q", text, roles, rooms)
		}
	}
}

func TestClaimNames(t *testing.T) {
	var c claims
	if err := json.Unmarshal([]byte(`{"roles":["user",1,"admin"],"realm":{"roles":"user"},"https://rooms.example/roles":["door"],"n":7}`), &c); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"roles": "user admin", "realm.roles": "user", "https://rooms.example/roles": "door", "n": "", "n.m": "", "none": "", "realm.none.x": ""} {
		if got := strings.Join(c.words(name), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
