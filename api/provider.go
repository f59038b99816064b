package api

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"roombook/api/web"
	"roombook/commands/accounts"
	"roombook/commands/accounts/oidc"
	"roombook/domain"
)

// errSignInAtProvider means that nobody signs in by a password here.
var errSignInAtProvider = errors.New("people sign in at the identity provider")

// byToken returns who a token acts as: one of this server's, or an access token of the provider.
func (x *exchange) byToken(token string) (domain.Actor, error) {
	s := x.server
	if s.provider == nil || strings.HasPrefix(token, accounts.TokenPrefix) {
		return s.accounts.ByToken(x.ctx, token, x.now())
	}
	i, err := s.provider.AccessToken(x.ctx, token, x.now())
	if errors.Is(err, oidc.ErrRefused) {
		return domain.Actor{}, accounts.ErrWrongCredentials
	}
	if err != nil {
		return domain.Actor{}, err
	}
	return s.accounts.ByIdentity(x.ctx, x.signInRequest(), i)
}

// signInRequest is the metadata of changes that follow from what the provider says about a user.
func (x *exchange) signInRequest() accounts.Request {
	return accounts.Request{Client: x.keptNetwork(), At: x.now(), CorrelationID: x.correlation()}
}

// flowSeconds is how long signing in at the provider may take.
const flowSeconds = 600

// flowCookie is the cookie that keeps the state of a sign-in while the browser is at the provider, and where it goes afterwards. It is Lax
// because the browser comes back by a link from another site.
func (x *exchange) flowCookie(value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: x.cookieName() + "-signin", Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, Secure: x.secure(), SameSite: http.SameSiteLaxMode}
}

// redirectAddress is where the provider sends the browser.
func (x *exchange) redirectAddress() string { return x.base + web.ReturnPath }

// Begin implements [web.Session].
func (v visitorSession) Begin(back string) (address string, err error) {
	x := v.x
	address, f, err := x.server.provider.Begin(x.ctx, x.redirectAddress())
	if err != nil {
		x.logSignIn(err)
		return "", err
	}
	x.header("Cache-Control", "no-store")
	value := strings.Join([]string{f.State, f.Nonce, f.Verifier, base64.RawURLEncoding.EncodeToString([]byte(back))}, ".")
	http.SetCookie(x.w, x.flowCookie(value, flowSeconds))
	return address, nil
}

// Finish implements [web.Session].
func (v visitorSession) Finish(answer url.Values) (back string, err error) {
	x := v.x
	x.header("Cache-Control", "no-store")
	defer func() {
		if err != nil {
			x.logSignIn(err)
		}
	}()
	var f oidc.Flow
	if kept := x.r.CookiesNamed(x.flowCookie("", 0).Name); len(kept) == 1 {
		if parts := strings.Split(kept[0].Value, "."); len(parts) == 4 {
			f = oidc.Flow{State: parts[0], Nonce: parts[1], Verifier: parts[2]}
			to, _ := base64.RawURLEncoding.DecodeString(parts[3]) // empty is the board
			back = string(to)
		}
	}
	i, err := x.server.provider.Finish(x.ctx, x.redirectAddress(), answer, f, x.now())
	if !errors.Is(err, oidc.ErrNotBegun) { // which may be about another sign-in than the one that the cookie is for
		http.SetCookie(x.w, x.flowCookie("", -1))
	}
	if err != nil {
		return "", err
	}
	secret, _, err := x.server.accounts.SignInAs(x.ctx, x.signInRequest(), i)
	if err != nil {
		return "", err
	}
	return back, x.beginSession(secret)
}

// EndSession implements [web.Session].
func (v visitorSession) EndSession() (address string, err error) {
	x, idToken := v.x, ""
	if secret := x.session(); secret != "" {
		if idToken, err = x.server.accounts.IDToken(x.ctx, secret); err != nil {
			return "", err
		}
	}
	x.header("Cache-Control", "no-store")
	return x.server.provider.EndSession(x.base+"/signin", idToken), nil
}

// EndedAtProvider implements [web.Session].
func (v visitorSession) EndedAtProvider(token string) error {
	x := v.x
	x.header("Cache-Control", "no-store")
	l, err := x.server.provider.Logout(x.ctx, token, x.now())
	if err == nil {
		err = x.server.accounts.SignOutAtProvider(x.ctx, l, x.now())
	}
	if err != nil {
		x.logSignIn(err)
	}
	return err
}

// logSignIn logs why a sign-in failed; the visitor is told less. Similar failures are sampled.
func (x *exchange) logSignIn(err error) {
	kind := requestKind{level: slog.LevelInfo, method: x.r.Method, route: "sign-in at the identity provider", error: err.Error()}
	if errors.Is(err, oidc.ErrUnavailable) {
		kind.level = slog.LevelWarn
	}
	if !x.server.logSampler.suppress(kind) {
		x.server.log.Log(x.ctx, kind.level, "sign-in at the identity provider failed", "error", err, "request", x.id)
	}
}
