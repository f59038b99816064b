package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"roombook/api/web"
	"roombook/commands/accounts"
	"roombook/domain"
)

// pageRoutes builds the router of the page. Its addresses are no part of the API, and not in its description.
func (s *Server) pageRoutes(operationsOnly bool) *mux.Router {
	var routes []route
	if !operationsOnly {
		for _, r := range s.pages.Routes() {
			routes = append(routes, route{method: r.Method, path: r.Path, handle: s.screen(r), query: r.Method == http.MethodGet, raw: true, public: true, upload: r.Method == http.MethodPost && r.Path == web.HouseRoomPath})
		}
	}
	return s.newRouter(routes)
}

// screen lets the page reply. It authenticates the visitor itself: one who is not signed in is led to where that is done.
func (s *Server) screen(of web.Route) handler {
	needs := &route{path: of.Path, public: of.Public, needs: domain.ReadBookings} // for forms too: one that is refused shows its screen again
	return func(x *exchange) error {
		of, err := of, x.authenticate(needs)
		if of.Path == web.DoorPath && x.r.Method != http.MethodPost && errors.Is(err, errUnauthenticated) {
			of, err = s.pages.Pair(), nil // a display that has no token; the code of another door's would replace its token
			x.actor = domain.Actor{}
		}
		if errors.Is(err, errUnauthenticated) {
			var to string
			if of.Path == web.DoorPath {
				to = x.r.URL.RequestURI() // where a display that is no longer paired shows its code
			} else {
				to = web.SignInPath(x.r)
			}
			x.header("Location", prefixOf(x.base)+to)
			x.status = http.StatusSeeOther
			return nil
		}
		if errors.Is(err, errCrossOrigin) {
			return err
		}
		if of.Public && of.Path != web.AssetPath {
			x.recognise()
		}
		if of.Path == web.DoorPath && x.display() != "" && x.actor.Roles == domain.NewRoles(domain.RoleDoor) {
			x.setDisplay(x.display()) // for as long as it is used
		}
		upload := false
		if x.r.Method == http.MethodPost {
			if err := x.admit(s.commandLimit); err != nil {
				return err
			}
			upload = of.Path == web.HouseRoomPath && strings.HasPrefix(x.r.Header.Get("Content-Type"), "multipart/") && x.actor.May(domain.ManageRooms, domain.SomebodyElse) == nil
			if upload {
				if err := x.allowUpload(); err != nil {
					return err
				}
			}
		}
		r := x.r.WithContext(x.ctx)
		for name, value := range x.vars {
			r.SetPathValue(name, value)
		}
		visitor := x.visitor()
		visitor.Refused, visitor.Upload = err, upload
		err = s.pages.Serve(&delegatedWriter{x.w, x}, r, of, visitor, x.base)
		x.sent, x.whole = true, true
		return err
	}
}

// visitor is who the request is from.
func (x *exchange) visitor() web.Visitor {
	s := x.server
	return web.Visitor{Actor: x.actor, Accounts: s.accounts != nil, Provider: s.provider != nil, Client: x.keptNetwork(), Session: visitorSession{x}}
}

// recognise finds out who reads a page that anybody may see. Where that cannot be told it is nobody.
func (x *exchange) recognise() {
	switch {
	case x.server.accounts == nil:
		x.actor = domain.Anyone("")
	case x.session() != "":
		x.actor, _ = x.server.accounts.BySession(x.ctx, x.session(), x.now())
	}
}

// failPage replies with a page in place of a problem, to clients that prefer one: their reader can do nothing with JSON.
func (x *exchange) failPage(err error) {
	s := x.server
	if x.sent || s.operationsOnly || !prefersHTML(x.r.Header["Accept"]) {
		return
	}
	if x.actor.User == "" && !errors.Is(err, errMisdirected) {
		x.recognise()
	}
	if s.pages.Fail(&delegatedWriter{x.w, x}, x.r.WithContext(x.ctx), x.visitor(), x.base, x.status, err) == nil {
		x.sent, x.whole = true, true
	}
}

// visitorSession is the session of whoever a request is from.
type visitorSession struct{ x *exchange }

func (v visitorSession) SignIn(name, password string) error {
	x := v.x
	if x.server.accounts == nil {
		return errNoAccounts
	}
	secret, _, err := x.server.accounts.SignIn(x.ctx, accounts.SignIn{Name: name, Password: password, Client: x.clientNetwork(), At: x.now()})
	if err != nil {
		return err
	}
	return x.beginSession(secret)
}

func (v visitorSession) Renew() error {
	secret, err := v.x.server.accounts.Renew(v.x.ctx, accounts.Request{Actor: v.x.actor, At: v.x.now()})
	if err != nil {
		return err
	}
	v.x.setSession(secret)
	return nil
}

func (v visitorSession) ID() string { return accounts.SessionID(v.x.session()) }

func (v visitorSession) ChoosePassword(code, password string) error {
	return v.x.server.accounts.ChoosePassword(v.x.ctx, code, password, v.x.clientNetwork(), v.x.now())
}

func (v visitorSession) ShowCode(room domain.RoomID) (string, error) {
	x := v.x
	secret, code, err := x.server.accounts.ShowCode(x.ctx, room, x.display(), x.clientNetwork(), x.now())
	if err != nil {
		return "", err
	}
	x.setDisplay(secret)
	return code, nil
}

func (v visitorSession) SignOut() error {
	x := v.x
	if secret := x.session(); secret != "" && x.server.accounts != nil {
		if err := x.server.accounts.SignOut(x.ctx, secret); err != nil {
			return err
		}
	}
	x.setSession("")
	return nil
}
