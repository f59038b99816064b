package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/domain"
)

// Errors of requests that are refused before they reach a handler.
var (
	// errUnauthenticated means that the request has no valid credentials.
	errUnauthenticated = errors.New("the request is not authenticated")
	// errFeedUnauthenticated is errUnauthenticated where a calendar program may send a name and a password.
	errFeedUnauthenticated = fmt.Errorf("%w, nor by a password for calendar programs", errUnauthenticated)
	// errCrossOrigin means that the page of another site made the browser send the request.
	errCrossOrigin = errors.New("the request comes from another site")
	// errNoAccounts means that this server authenticates nobody.
	errNoAccounts = errors.New("this server has no accounts")
)

// authenticate finds out who the request is by, and whether they may use the route at all. Whether they may do what they ask for is decided
// by the command. It is the only place where credentials are looked at.
//
// A request has a token in its Authorization header, or else a session in a cookie: where there is a header the cookie is not looked at.
// The display beside a door has a token in a cookie, which permits what doors may do; it counts where no session does, so a display goes on
// after somebody has been signed in on it. Calendar programs, which can send no header of their choice, send a token for feeds as the
// password of HTTP Basic. Browsers send cookies, and reach servers that others do not, whichever page made them; so whatever changes
// something and has no bearer token must come from a page of this server, or from a program that is no browser (see
// [http.CrossOriginProtection]). Any other Authorization header says nothing: browsers add the name and password that a proxy in front of
// the server has asked for. That a page is this server's is also known by the address that a trusted proxy says the client used.
func (x *exchange) authenticate(r *route) error {
	s := x.server
	if r.path == noPath {
		return nil
	}
	credentials := x.r.Header["Authorization"]
	if _, given := bearerToken(credentials); !given && s.crossOrigin.Check(x.r) != nil {
		// The base of a request whose Host cannot be in an address is empty, as is an origin that is not given.
		if origin := x.r.Header.Get("Origin"); origin == "" || origin != strings.TrimSuffix(x.base, prefixOf(x.base)) {
			return errCrossOrigin
		}
	}
	if s.accounts == nil {
		x.actor = domain.Anyone("")
		return nil
	}
	if r.public {
		return nil
	}
	x.header("Cache-Control", "private, no-cache")
	var err error
	x.actor, err = x.identify(r, credentials)
	if errors.Is(err, accounts.ErrWrongCredentials) {
		if r.feed {
			return errFeedUnauthenticated
		}
		return errUnauthenticated
	}
	if err != nil {
		return err
	}
	x.ctx = withActor(x.ctx, x.actor)
	if r.needs == "" {
		return nil
	}
	room := domain.RoomID("")
	if strings.HasPrefix(r.path, "/rooms/{id}") {
		room = domain.RoomID(x.vars["id"])
	}
	return x.actor.May(r.needs, x.actor.To("", room))
}

// identify returns who the request is by. The error is [accounts.ErrWrongCredentials] if that cannot be told.
func (x *exchange) identify(r *route, credentials []string) (domain.Actor, error) {
	all, now := x.server.accounts, x.now()
	if token, ok := bearerToken(credentials); ok {
		return x.byToken(token)
	}
	if len(credentials) > 0 {
		if _, password, ok := x.r.BasicAuth(); ok && r.feed && len(credentials) == 1 {
			return all.ByFeedToken(x.ctx, password, now)
		}
		return domain.Actor{}, accounts.ErrWrongCredentials
	}
	actor, err := domain.Actor{}, accounts.ErrWrongCredentials
	if x.session() != "" {
		actor, err = all.BySession(x.ctx, x.session(), now)
	}
	if x.display() != "" && errors.Is(err, accounts.ErrWrongCredentials) {
		if actor, err = all.ByToken(x.ctx, x.display(), now); err == nil && actor.Roles != domain.NewRoles(domain.RoleDoor) {
			err = accounts.ErrWrongCredentials
		}
	}
	return actor, err
}

// bearerToken returns the token of an Authorization header, if there is one such header and it has a token.
func bearerToken(credentials []string) (token string, ok bool) {
	if len(credentials) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(credentials[0], " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

// newCrossOrigin lets through what pages of the server's own addresses send, also where a proxy changes the Host header.
func newCrossOrigin(publicURLs []string) *http.CrossOriginProtection {
	p := http.NewCrossOriginProtection()
	for _, address := range publicURLs {
		if u, err := url.Parse(address); err == nil {
			_ = p.AddTrustedOrigin(u.Scheme + "://" + u.Host) // fails only for what is no origin, which no browser sends
		}
	}
	return p
}

// secure reports whether the client reached the server by https.
func (x *exchange) secure() bool { return strings.HasPrefix(x.base, "https://") }

// cookieName is the name of the session's cookie. Browsers keep one with the prefix __Host- for this host alone, and only by https.
func (x *exchange) cookieName() string {
	if x.secure() {
		return "__Host-roombook"
	}
	return "roombook"
}

// session returns the secret of the request's session; empty if there is none, or more than one.
func (x *exchange) session() string { return x.secret(x.cookieName()) }

// display returns the secret of the display beside a door; empty if the request does not come from one.
func (x *exchange) display() string { return x.secret(x.cookieName() + displayCookie) }

// displayCookie is the suffix that turns the name of the session's cookie into that of a display's.
const displayCookie = "-door"

func (x *exchange) secret(name string) string {
	cookies := x.r.CookiesNamed(name)
	if len(cookies) != 1 {
		return ""
	}
	return cookies[0].Value
}

// displayLife is how long a browser keeps a display's secret after its last use, in seconds: none keeps a cookie for longer than 400 days.
const displayLife = 400 * 24 * 60 * 60

// setDisplay makes the browser of a display keep its secret.
func (x *exchange) setDisplay(secret string) {
	http.SetCookie(x.w, &http.Cookie{
		Name: x.cookieName() + displayCookie, Value: secret, Path: "/", MaxAge: displayLife, HttpOnly: true, Secure: x.secure(), SameSite: http.SameSiteLaxMode,
	})
}

// setSession makes the browser keep the secret of a session until it is closed; or forget it, if it is empty.
func (x *exchange) setSession(secret string) {
	c := &http.Cookie{Name: x.cookieName(), Value: secret, Path: "/", HttpOnly: true, Secure: x.secure(), SameSite: http.SameSiteLaxMode}
	if secret == "" {
		c.MaxAge = -1
	}
	http.SetCookie(x.w, c)
}

// beginSession makes the browser keep the secret of a new session, and ends the one that it had, so that nobody can have a browser sign in to a
// session whose secret they know.
func (x *exchange) beginSession(secret string) error {
	if former := x.session(); former != "" {
		if err := x.server.accounts.SignOut(x.ctx, former); err != nil {
			return err
		}
	}
	x.setSession(secret)
	return nil
}

// clientNetwork is what failed sign-ins are counted by: the client's address without its port or, for IPv6, its /64 network, since a client
// usually has all addresses of one.
func (x *exchange) clientNetwork() string {
	client := x.clientHost()
	address, err := netip.ParseAddr(client)
	if err != nil {
		return client
	}
	if address = address.Unmap().WithZone(""); address.Is6() {
		return networkOf(address, 64)
	}
	return address.String()
}

// keptNetwork is the network that is stored with the events of commands. It identifies an office, a home or a provider but no device, because
// events are kept for ever. It is empty where nobody is authenticated.
func (x *exchange) keptNetwork() string {
	address, err := netip.ParseAddr(x.clientHost())
	if err != nil || x.server.accounts == nil {
		return ""
	}
	if address = address.Unmap().WithZone(""); address.Is6() {
		return networkOf(address, 48)
	}
	return networkOf(address, 24)
}

// clientHost is the client's address without its port.
func (x *exchange) clientHost() string {
	client := x.server.client(x.r)
	if host, _, err := net.SplitHostPort(client); err == nil {
		return host
	}
	return client
}

// networkOf returns the network of an address with a prefix of that many bits.
func networkOf(address netip.Addr, bits int) string {
	network, _ := address.Prefix(bits) // fails for more bits than an address has
	return network.String()
}

// account returns the metadata of a command on accounts. Like [exchange.request] it counts the request towards the limit of concurrent
// commands. Replies with secrets are not stored, so a repeated request cannot get the same reply.
func (x *exchange) account() (accounts.Request, error) {
	if x.server.accounts == nil {
		return accounts.Request{}, errNoAccounts
	}
	if len(x.r.Header["Idempotency-Key"]) > 0 {
		return accounts.Request{}, invalidParameter("Idempotency-Key", errors.New("is not a header of this request: what it does cannot be answered again"))
	}
	if err := x.admit(x.server.commandLimit); err != nil {
		return accounts.Request{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return accounts.Request{}, err
	}
	x.command = commands.Request{ID: id}
	return accounts.Request{Actor: x.actor, Client: x.keptNetwork(), At: x.now(), CorrelationID: x.correlation()}, nil
}
