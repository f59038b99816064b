package api

import (
	"errors"
	"net/http"

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
			routes = append(routes, route{method: r.Method, path: r.Path, handle: s.screen(r), query: r.Method == http.MethodGet, raw: true, public: true})
		}
	}
	return s.newRouter(routes)
}

// screen lets the page reply. It authenticates the visitor itself: one who is not signed in is led to where that is done.
func (s *Server) screen(of web.Route) handler {
	needs := &route{path: of.Path, public: of.Public}
	if of.Method == http.MethodGet {
		needs.needs = domain.ReadBookings
	}
	return func(x *exchange) error {
		err := x.authenticate(needs)
		if errors.Is(err, errUnauthenticated) {
			x.header("Location", prefixOf(x.base)+web.SignInPath(x.r))
			x.status = http.StatusSeeOther
			return nil
		}
		_, forbidden := errors.AsType[*domain.Forbidden](err)
		if err != nil && !forbidden {
			return err
		}
		if x.r.Method == http.MethodPost {
			if err := x.admit(s.commandLimit); err != nil {
				return err
			}
		}
		r := x.r.WithContext(x.ctx)
		for name, value := range x.vars {
			r.SetPathValue(name, value)
		}
		visitor := web.Visitor{Actor: x.actor, Accounts: s.accounts != nil, Client: x.keptNetwork(), Refused: err, Session: visitorSession{x}}
		err = s.pages.Serve(&delegatedWriter{x.w, x}, r, of, visitor, x.base)
		x.sent, x.whole = true, true
		return err
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
	if former := x.session(); former != "" {
		if err := x.server.accounts.SignOut(x.ctx, former); err != nil {
			return err
		}
	}
	x.setSession(secret)
	return nil
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
