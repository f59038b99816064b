package api

import (
	"net/http"

	"github.com/gorilla/mux"

	"roombook/api/web"
	"roombook/domain"
)

// pageRoutes builds the router of the page. Its addresses are no part of the API, and not in its description.
func (s *Server) pageRoutes(operationsOnly bool) *mux.Router {
	var routes []route
	if !operationsOnly {
		for _, r := range s.pages.Routes() {
			screen := route{method: r.Method, path: r.Path, handle: s.screen(r), raw: true, public: r.Public}
			if r.Method == http.MethodGet {
				screen.query, screen.needs = true, domain.ReadBookings
			}
			routes = append(routes, screen)
		}
	}
	return s.newRouter(routes)
}

// screen lets the page reply.
func (s *Server) screen(route web.Route) handler {
	return func(x *exchange) error {
		r := x.r.WithContext(x.ctx)
		for name, value := range x.vars {
			r.SetPathValue(name, value)
		}
		if r.Method == http.MethodPost {
			if err := x.admit(s.commandLimit); err != nil {
				return err
			}
		}
		err := s.pages.Serve(&delegatedWriter{x.w, x}, r, route, x.actor, x.base)
		x.sent, x.whole = true, true
		return err
	}
}
