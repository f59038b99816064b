// Package oidc authenticates people at an OpenID Connect provider.
//
// Two ideas:
//
//   - A browser signs in by the authorization code flow with PKCE ([Provider.Begin], [Provider.Finish]); a program sends an access token
//     that the provider issued ([Provider.AccessToken]). Either yields an [accounts.Identity], by which package accounts knows the user.
//   - The provider's endpoints and keys are read when they are first needed and again later, so that it may be away when the program
//     starts, and change its keys.
//
// # Roles
//
// If Options.RolesClaim names a claim, what a user may do is what the provider says: the claim is a string, of words separated by spaces,
// or an array of strings. A value counts if it is the name of a role, with or without the prefix "roombook-": user, approver, admin, door
// or machine. The roles approver and door may be followed by a colon and the id of a room, to which they are then limited; otherwise they
// apply to all rooms. A user with both has both for the rooms of approver. So "approver:1 approver:2" answers for two rooms, and
// "roombook-admin" is an administrator. Other values are ignored. A person without a role is refused. Without a claim, the administrators of
// this program assign the roles.
package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"roombook/commands/accounts"
	"roombook/commands/accounts/directory"
)

var (
	// ErrUnavailable means that the provider does not answer, or not as it should. The request can be repeated.
	ErrUnavailable = errors.New("the identity provider is not available")
	// ErrNotBegun means that a browser came back from the provider without having been sent there, or for a second time.
	ErrNotBegun = errors.New("the sign-in was not begun by this browser")
	// ErrRefused means that the provider refuses a sign-in, or that a token is not valid.
	ErrRefused = errors.New("the identity provider does not confirm it")
	// ErrNoRole means that the provider gives somebody no role.
	ErrNoRole = errors.New("the identity provider gives them no role")
)

// Options configure a [Provider].
type Options struct {
	// Issuer is the provider's address, exactly as it calls itself.
	Issuer string
	// ClientID and ClientSecret identify this program to the provider. A public client has no secret.
	ClientID, ClientSecret string
	// Scopes are asked for besides openid.
	Scopes []string
	// RolesClaim is the name of the claim that has the roles; dots lead into objects. Without one the provider does not say roles.
	RolesClaim string
	// Audience is the audience of access tokens for this program. Without it no access token is accepted.
	Audience string
}

// Provider is an OpenID Connect provider. Goroutines may share it. Its methods return the errors named at them, and the context's.
type Provider struct {
	options Options
	client  *http.Client
	pause   time.Duration // the least time between two readings of the metadata

	reading singleflight.Group
	mu      sync.Mutex
	known   *metadata // nil until it was read
	readAt  time.Time // when it was last tried to read it
	failure error     // of that, if it failed
}

const (
	// timeout bounds a request to the provider. To sign in takes up to four.
	timeout = 4 * time.Second
	// fresh is how long metadata is cached.
	fresh = 15 * time.Minute
	// pause bounds how often an invalid signature makes the program read the keys again: it may be by a new key, or it may be forged.
	pause = 10 * time.Second
	// maxKeys is the upper bound of the keys' document, in bytes.
	maxKeys = 1 << 20
)

// New returns a provider, which it does not ask for anything yet.
func New(o Options) *Provider {
	return &Provider{options: o, client: &http.Client{Timeout: timeout}, pause: pause}
}

// metadata is the provider's configuration, from its discovery document.
type metadata struct {
	provider   *oidc.Provider
	client     *oauth2.Config
	keys       oidc.StaticKeySet
	endSession string // the address for signing out there; may be empty
	readAt     time.Time
}

// metadata returns the provider's metadata, which may be cached. The error is [ErrUnavailable].
func (p *Provider) metadata(ctx context.Context) (*metadata, error) {
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	if known == nil {
		return p.read(ctx)
	}
	if time.Since(known.readAt) > fresh {
		p.startReading() // which nobody has to wait for
	}
	return known, nil
}

// read reads the metadata, or returns what was read, or why it could not be, within the pause before. The error is [ErrUnavailable].
func (p *Provider) read(ctx context.Context) (*metadata, error) {
	select {
	case r := <-p.startReading():
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*metadata), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *Provider) startReading() <-chan singleflight.Result {
	return p.reading.DoChan("", func() (any, error) {
		p.mu.Lock()
		known, failure, readAt := p.known, p.failure, p.readAt
		p.mu.Unlock()
		if time.Since(readAt) < p.pause && (known != nil || time.Since(readAt) < time.Second) {
			return known, failure
		}
		m, err := p.discover()
		if err != nil {
			err = fmt.Errorf("%w: %.300s", ErrUnavailable, err) // which may have a whole page of a gateway in it
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.readAt, p.failure = time.Now(), err
		if err == nil {
			p.known = m
		}
		return m, err
	})
}

// context lets the libraries use the provider's client.
func (p *Provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// discover asks the provider for its metadata and its keys.
func (p *Provider) discover() (*metadata, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
	defer cancel()
	m := &metadata{readAt: time.Now()}
	var err error
	if m.provider, err = oidc.NewProvider(p.context(ctx), p.options.Issuer); err != nil {
		return nil, err
	}
	var more struct {
		Keys       string `json:"jwks_uri"`
		EndSession string `json:"end_session_endpoint"`
	}
	if err := m.provider.Claims(&more); err != nil {
		return nil, err
	}
	m.endSession = more.EndSession
	m.client = &oauth2.Config{ClientID: p.options.ClientID, ClientSecret: p.options.ClientSecret, Endpoint: m.provider.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID}, p.options.Scopes...)}
	if p.options.ClientSecret == "" {
		m.client.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, more.Keys, nil)
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %s", more.Keys, response.Status)
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.UnmarshalRead(io.LimitReader(response.Body, maxKeys), &set); err != nil {
		return nil, fmt.Errorf("%s: %w", more.Keys, err)
	}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || key.Use != "" && key.Use != "sig" {
			continue // of a kind that is not known here, or for something else
		}
		switch key.Key.(type) {
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			m.keys.PublicKeys = append(m.keys.PublicKeys, key.Key)
		}
	}
	return m, nil
}

// Ping returns [ErrUnavailable] if the provider's metadata cannot be read, now or when that was last tried within the pause.
func (p *Provider) Ping(ctx context.Context) error {
	p.mu.Lock()
	failed := p.failure != nil
	p.mu.Unlock()
	ask := p.metadata
	if failed {
		ask = p.read
	}
	_, err := ask(ctx)
	return err
}

// algorithms are the accepted signature algorithms: the asymmetric ones.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// keySet verifies signatures with the provider's keys. It reads the keys again if none of the known ones fits.
type keySet struct {
	provider *Provider
	metadata *metadata
	failure  error // of reading them again, which the caller would not be told
}

// VerifySignature implements [oidc.KeySet].
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, invalid := k.metadata.keys.VerifySignature(ctx, token)
	if invalid == nil {
		return payload, nil
	}
	m, err := k.provider.read(ctx)
	if err != nil {
		k.failure = err
		return nil, err
	}
	if m == k.metadata {
		return nil, invalid
	}
	return m.keys.VerifySignature(ctx, token)
}

// verifier verifies tokens that the provider issued to an audience. If it returns an error, that may be because of the keys' failure. The error is
// [ErrUnavailable].
func (p *Provider) verifier(ctx context.Context, audience string, at time.Time) (*oidc.IDTokenVerifier, *keySet, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys := &keySet{provider: p, metadata: m}
	config := &oidc.Config{ClientID: audience, SupportedSigningAlgs: algorithms, Now: func() time.Time { return at }}
	return oidc.NewVerifier(p.options.Issuer, keys, config), keys, nil
}

// verify returns what a token says that the provider issued to an audience and that has not expired. The error is [ErrRefused] or
// [ErrUnavailable].
func (p *Provider) verify(ctx context.Context, token, audience string, at time.Time) (*oidc.IDToken, claims, error) {
	verifier, keys, err := p.verifier(ctx, audience, at)
	if err != nil {
		return nil, nil, err
	}
	t, err := verifier.Verify(ctx, token)
	switch {
	case keys.failure != nil:
		return nil, nil, keys.failure
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	case t.Subject == "":
		return nil, nil, fmt.Errorf("%w: the token has no subject", ErrRefused)
	}
	var c claims
	if err := t.Claims(&c); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return t, c, nil
}

// logoutEvent is what a logout token is about, and no other token.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// maxAhead is by how much the provider's clock may be ahead of this one.
const maxAhead = time.Minute

// Logout returns what a logout token says (OpenID Connect Back-Channel Logout 1.0), with which the provider says that somebody has signed out
// there. Whether it was used before is for the caller to know. The error is [ErrRefused] or [ErrUnavailable].
func (p *Provider) Logout(ctx context.Context, token string, at time.Time) (l accounts.ProviderLogout, err error) {
	verifier, keys, err := p.verifier(ctx, p.options.ClientID, at)
	if err != nil {
		return l, err
	}
	t, err := verifier.VerifyLogout(ctx, token)
	if keys.failure != nil {
		return l, keys.failure
	}
	var c claims
	if err == nil {
		err = t.Claims(&c)
	}
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	events, _ := c["events"].(map[string]any)
	if _, ok := events[logoutEvent].(map[string]any); !ok {
		return l, fmt.Errorf("%w: the token is not about a logout", ErrRefused)
	}
	if t.IssuedAt.IsZero() || t.IssuedAt.After(at.Add(maxAhead)) {
		return l, fmt.Errorf("%w: the logout token was not issued at a time before now", ErrRefused)
	}
	return accounts.ProviderLogout{Identity: directory.Identity{Issuer: t.Issuer, Subject: t.Subject}, SessionID: t.SessionID, TokenID: t.TokenID, ExpiresAt: t.Expiry}, nil
}

// Flow is the state of a sign-in, which the browser keeps while it is at the provider. It ties the provider's answer to that browser.
type Flow struct{ State, Nonce, Verifier string }

// Begin returns the provider's address for signing in, and what the browser has to keep until it comes back to the redirect address.
// The error is [ErrUnavailable].
func (p *Provider) Begin(ctx context.Context, redirect string) (address string, f Flow, err error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return "", f, err
	}
	f = Flow{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	return m.client.AuthCodeURL(f.State, redirectTo(redirect), oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), f, nil
}

// redirectTo says where the provider sends the browser, which differs by the address that the browser has for this program.
func redirectTo(address string) oauth2.AuthCodeOption {
	return oauth2.SetAuthURLParam("redirect_uri", address)
}

// Finish returns who the provider says has signed in. The answer is the query with which the browser comes back to the redirect address.
// The error is [ErrNotBegun], [ErrRefused], [ErrNoRole] or [ErrUnavailable].
func (p *Provider) Finish(ctx context.Context, redirect string, answer url.Values, f Flow, at time.Time) (i accounts.Identity, err error) {
	if f.State == "" || f.Nonce == "" || f.Verifier == "" || !equal(answer.Get("state"), f.State) {
		return i, ErrNotBegun
	}
	if code := answer.Get("error"); code != "" {
		return i, fmt.Errorf("%w: %.60q", ErrRefused, code)
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return i, err
	}
	token, err := m.client.Exchange(p.context(ctx), answer.Get("code"), redirectTo(redirect), oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return i, exchangeError(err)
	}
	raw, _ := token.Extra("id_token").(string)
	idToken, c, err := p.verify(ctx, raw, p.options.ClientID, at)
	if err != nil {
		return i, err
	}
	switch {
	case !equal(idToken.Nonce, f.Nonce):
		return i, fmt.Errorf("%w: the ID token has another nonce", ErrRefused)
	case c["azp"] != nil && c["azp"] != p.options.ClientID:
		return i, fmt.Errorf("%w: the ID token was issued to another client", ErrRefused)
	}
	session := c.text("sid")                 // of the ID token: the provider's answers about users are not about sessions
	if m.provider.UserInfoEndpoint() != "" { // by the standard it is where the claims of scopes are, though many providers have them in the token
		info, err := m.provider.UserInfo(p.context(ctx), oauth2.StaticTokenSource(token))
		if err != nil {
			return i, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		var more claims
		if err := info.Claims(&more); err != nil || info.Subject != idToken.Subject {
			return i, fmt.Errorf("%w: the claims of the user are another's", ErrRefused)
		}
		for name, value := range more {
			if _, there := c[name]; !there {
				c[name] = value
			}
		}
	}
	if i, err = p.identity(idToken.Subject, c); err != nil {
		return i, err
	}
	if i.SessionID = session; len(raw) <= maxHint {
		i.IDToken = raw
	}
	return i, nil
}

// maxHint is the upper bound of the ID tokens that are kept to sign out with, in bytes: they are sent back in an address in
// a header of a response, of which reverse proxies may take no more than 4 KiB in all.
const maxHint = 2 << 10

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// exchangeError is the error of a failed exchange of a code for tokens. It contains neither the code nor the provider's text.
func exchangeError(err error) error {
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !ok:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case answer.ErrorCode == "invalid_client" || answer.ErrorCode == "unauthorized_client":
		return fmt.Errorf("%w: it refuses this client (%s): look after the client's id and secret", ErrUnavailable, answer.ErrorCode)
	case answer.Response.StatusCode >= http.StatusInternalServerError || answer.Response.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: status %s for a code", ErrUnavailable, answer.Response.Status)
	default:
		return fmt.Errorf("%w: %.60q for a code", ErrRefused, answer.ErrorCode)
	}
}

// AccessToken returns who has an access token: a JWT as of RFC 9068, which is a type of its own, so that none can be used that says who
// has signed in elsewhere. The error is [ErrRefused], [ErrNoRole] or [ErrUnavailable].
func (p *Provider) AccessToken(ctx context.Context, token string, at time.Time) (i accounts.Identity, err error) {
	if p.options.Audience == "" {
		return i, ErrRefused
	}
	parsed, err := jose.ParseSignedCompact(token, signatureAlgorithms)
	if err != nil {
		return i, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	kind, _ := parsed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType].(string)
	if kind = strings.ToLower(kind); kind != "at+jwt" && kind != "application/at+jwt" {
		return i, fmt.Errorf("%w: it is no access token", ErrRefused)
	}
	t, c, err := p.verify(ctx, token, p.options.Audience, at)
	if err != nil {
		return i, err
	}
	return p.identity(t.Subject, c)
}

var signatureAlgorithms = func() []jose.SignatureAlgorithm {
	all := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		all[i] = jose.SignatureAlgorithm(a)
	}
	return all
}()

// EndSession is the address at which a browser signs out at the provider too, which then sends it back. The ID token by which it had signed in,
// if there is one, saves the provider from asking who it is. The address is empty if the provider has none, or was never reached.
func (p *Provider) EndSession(back, idToken string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || p.known.endSession == "" {
		return ""
	}
	address, err := url.Parse(p.known.endSession)
	if err != nil || !slices.Contains([]string{"https", "http"}, address.Scheme) {
		return ""
	}
	query := address.Query()
	query.Set("client_id", p.options.ClientID)
	query.Set("post_logout_redirect_uri", back)
	if idToken != "" {
		query.Set("id_token_hint", idToken)
	}
	address.RawQuery = query.Encode()
	return address.String()
}

// identity is the identity that claims describe.
func (p *Provider) identity(subject string, c claims) (accounts.Identity, error) {
	i := accounts.Identity{
		Identity: directory.Identity{Issuer: p.options.Issuer, Subject: subject},
		Name:     c.text("preferred_username"), FullName: c.text("name"), Address: c.text("email"),
	}
	if verified := c["email_verified"]; verified == false || verified == "false" {
		i.Address = ""
	}
	if p.options.RolesClaim == "" {
		return i, nil
	}
	i.Roles, i.Rooms = rights(c.words(p.options.RolesClaim))
	if i.Roles == "" {
		return i, ErrNoRole
	}
	return i, nil
}
