package api

import (
	"errors"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands/accounts"
	"roombook/domain"
)

func (s *Server) sessionRoutes() []route {
	return []route{
		// Signs in: the reply has the session's cookie.
		{method: "POST", path: "/session", handle: s.signIn, public: true},
		// Signs out.
		{method: "DELETE", path: "/session", handle: s.signOut, public: true},
		// Who is signed in.
		{method: "GET", path: "/me", handle: s.me, query: true},
		// Changes one's own password.
		{method: "PUT", path: "/me/password", handle: s.setPassword},
		// One's own sessions.
		{method: "GET", path: "/me/sessions", handle: s.sessions, query: true},
		// Ends one of them.
		{method: "DELETE", path: "/me/sessions/{id}", handle: s.endSession},
		// Signs out everywhere.
		{method: "DELETE", path: "/me/sessions", handle: s.signOutEverywhere},
		// The page for adding the first user.
		{method: "GET", path: "/setup", handle: s.setUpPage, public: true, raw: true},
		// Adds the first user.
		{method: "POST", path: "/setup", handle: s.setUp, public: true},
	}
}

// accountFields are the members of bodies that package accounts validates.
var accountFields = names{
	accounts.FieldName: "name", accounts.FieldFullName: "fullName", accounts.FieldAddress: "address", accounts.FieldLanguage: "language", accounts.FieldPassword: "password",
	accounts.FieldRoles: "roles", accounts.FieldRooms: "rooms", accounts.FieldExpires: "expiresAt", accounts.FieldLabel: "label",
}

// signInRequest is the body that signs in.
type signInRequest struct {
	Name     field          `json:"name"`
	Password field          `json:"password"`
	Others   jsontext.Value `json:",embed"`
}

// maxCredential is the upper bound of names and passwords in bodies, in characters. Package accounts validates them further.
const maxCredential = 2000

func (s *Server) signIn(x *exchange) error {
	var in signInRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	try := accounts.SignIn{Name: b.text(&in.Name, maxCredential), Password: b.text(&in.Password, maxCredential), Client: x.clientNetwork(), At: x.now()}
	if err := b.check(in.Others); err != nil {
		return err
	}
	if s.provider != nil {
		return errSignInAtProvider
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	secret, user, err := s.accounts.SignIn(x.ctx, try)
	if err != nil {
		return err
	}
	if err := x.beginSession(secret); err != nil {
		return err
	}
	r.Actor.User = user
	x.header("Cache-Control", "no-store")
	x.status = http.StatusCreated
	x.header("Location", x.base+"/me")
	return x.whoIs(r, user)
}

func (s *Server) signOut(x *exchange) error {
	if _, err := x.account(); err != nil {
		return err
	}
	if secret := x.session(); secret != "" {
		if err := s.accounts.SignOut(x.ctx, secret); err != nil {
			return err
		}
	}
	x.setSession("")
	x.status = http.StatusNoContent
	return nil
}

// whoIs replies with a user.
func (x *exchange) whoIs(r accounts.Request, id domain.UserID) error {
	u, err := x.server.accounts.User(x.ctx, r, id)
	if err != nil {
		return err
	}
	reply := x.userReply(&u)
	reply.Links.Self = x.link("/me", "")
	return x.reply(&reply)
}

func (s *Server) me(x *exchange) error {
	if s.accounts == nil {
		return errNoAccounts
	}
	return x.whoIs(accounts.Request{Actor: x.actor, At: x.now()}, x.actor.User)
}

// passwordRequest is the body that changes a password.
type passwordRequest struct {
	Password    field          `json:"password"`
	NewPassword field          `json:"newPassword"`
	Others      jsontext.Value `json:",embed"`
}

// setPassword changes the caller's password. All their sessions end, and a browser gets a new one.
func (s *Server) setPassword(x *exchange) error {
	var in passwordRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	old, password := b.text(&in.Password, maxCredential), b.text(&in.NewPassword, maxCredential)
	if err := b.check(in.Others); err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	if err := s.accounts.SetPassword(x.ctx, r, x.actor.User, old, password); err != nil {
		return x.inBody(err, names{accounts.FieldPassword: "newPassword"})
	}
	x.status = http.StatusNoContent
	if x.session() == "" {
		return nil
	}
	secret, err := s.accounts.Renew(x.ctx, r)
	if err != nil {
		return err
	}
	x.setSession(secret)
	return nil
}

// sessionReply is a session of the caller.
type sessionReply struct {
	SessionID string    `json:"sessionId"`
	CreatedAt timestamp `json:"createdAt"`
	SeenAt    timestamp `json:"seenAt"`
	Current   bool      `json:"current"` // the one that the request came by
	Links     struct {
		Self    link `json:"self"`
		Session link `json:"session"`
	} `json:"_links"`
}

// sessionsReply are the caller's sessions.
type sessionsReply struct {
	Embedded struct {
		Sessions []sessionReply `json:"sessions"`
	} `json:"_embedded"`
	Links struct {
		Self     link `json:"self"`
		Sessions link `json:"sessions"`
	} `json:"_links"`
}

func (s *Server) sessions(x *exchange) error {
	if s.accounts == nil {
		return errNoAccounts
	}
	sessions, err := s.accounts.Sessions(x.ctx, accounts.Request{Actor: x.actor, At: x.now()}, x.actor.User)
	if err != nil {
		return err
	}
	r := sessionsReply{}
	r.Embedded.Sessions = make([]sessionReply, len(sessions))
	for i, session := range sessions {
		reply := &r.Embedded.Sessions[i]
		reply.SessionID, reply.CreatedAt, reply.SeenAt = session.ID, x.time(session.CreatedAt), x.time(session.SeenAt)
		reply.Current = accounts.SessionID(x.session()) == session.ID
		reply.Links.Self = x.link("/me/sessions/", session.ID)
		reply.Links.Session = reply.Links.Self
	}
	r.Links.Self = x.link("/me/sessions", "")
	r.Links.Sessions = r.Links.Self
	return x.reply(&r)
}

func (s *Server) endSession(x *exchange) error {
	r, err := x.account()
	if err != nil {
		return err
	}
	x.status = http.StatusNoContent
	return s.accounts.EndSession(x.ctx, r, x.actor.User, x.vars["id"])
}

func (s *Server) signOutEverywhere(x *exchange) error {
	r, err := x.account()
	if err != nil {
		return err
	}
	if err := s.accounts.SignOutEverywhere(x.ctx, r, x.actor.User); err != nil {
		return err
	}
	if x.session() != "" {
		x.setSession("")
	}
	x.status = http.StatusNoContent
	return nil
}

func (s *Server) setUpPage(x *exchange) error {
	if s.accounts == nil {
		return errNoAccounts
	}
	return s.screen(s.pages.SetUp(http.MethodGet))(x)
}

// setUpRequest is the body that adds the first user.
type setUpRequest struct {
	Code     field          `json:"code"`
	Name     field          `json:"name"`
	Password field          `json:"password"`
	FullName field          `json:"fullName"`
	Address  field          `json:"address"`
	Others   jsontext.Value `json:",embed"`
}

// setUp adds the first user. The page sends a form, and is answered with a page.
func (s *Server) setUp(x *exchange) error {
	if media, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type")); media == mediaForm {
		return s.screen(s.pages.SetUp(http.MethodPost))(x)
	}
	var in setUpRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	code := b.text(&in.Code, maxCredential)
	n := accounts.NewUser{Name: b.text(&in.Name, maxCredential), Password: b.text(&in.Password, maxCredential)}
	if in.FullName.given() {
		n.FullName = b.text(&in.FullName, maxCredential)
	}
	if in.Address.given() {
		n.Address = b.text(&in.Address, maxCredential)
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	id, err := s.accounts.SetUp(x.ctx, code, n, r.At)
	if err != nil {
		return x.inBody(err, accountFields)
	}
	r.Actor.User = id
	x.header("Cache-Control", "no-store")
	x.status = http.StatusCreated
	x.header("Location", x.base+"/me")
	return x.whoIs(r, id)
}

// tooManyTries matches [accounts.TooManyTries], and sets how long to wait.
func tooManyTries(err error, p *problem) bool {
	e, ok := errors.AsType[*accounts.TooManyTries](err)
	if ok {
		p.retryAfter = seconds(e.Wait)
		p.Detail = "Too many tries have failed; the next one is looked at in " + count(p.retryAfter, "second") + "."
	}
	return ok
}
