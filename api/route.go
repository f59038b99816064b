package api

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"roombook/domain"
)

// route is an operation of the API and its handler.
type route struct {
	method string
	path   string
	handle handler
	// params is a struct that documents the query parameters; a route without one refuses all parameters.
	params any
	// query marks a route that counts towards the limit of concurrent queries. Commands have their own limit, which applies once their body
	// has been read; see [exchange.request].
	query bool
	// public marks a route that needs no credentials, because it reveals nothing about anybody.
	public bool
	// needs is the action that the caller must be permitted, on whatever; empty if the command decides.
	needs domain.Action
	// feed marks a calendar feed, for which tokens for feeds are accepted.
	feed bool
	// upload marks a route whose requests may bring a picture, and take longer for it; see [exchange.allowUpload].
	upload bool
	// raw marks a route without content negotiation: its handler chooses the media type.
	raw bool
}

// handler handles a request: it makes the reply in x, or returns an error, which becomes a problem.
type handler func(x *exchange) error

// endpoint is a path and the operations on it.
type endpoint struct {
	template string
	allow    string
	byMethod map[string]*operation
	// otherwise serves all other methods.
	otherwise *operation
}

// routes builds the router. It tries paths in order, so the most frequent ones come first. A path is registered once for all methods, so that
// a wrong method can be told from a wrong path.
func (s *Server) routes(operationsOnly bool) *mux.Router {
	var routes []route
	if !operationsOnly {
		routes = slices.Concat(
			s.bookingRoutes(),
			s.bookingListRoutes(),
			s.confirmRoutes(),
			s.realUseRoutes(),
			s.roomUseListRoutes(),
			s.notificationRoutes(),
			s.calendarRoutes(),
			s.roomRoutes(),
			s.photoRoutes(),
			s.ruleRoutes(),
			s.closureRoutes(),
			s.faultRoutes(),
			s.occupancyRoutes(),
			s.availabilityRoutes(),
		)
		for i := range routes {
			if routes[i].method == http.MethodGet {
				routes[i].query, routes[i].needs = true, cmp.Or(routes[i].needs, domain.ReadBookings)
			}
		}
		routes = slices.Concat(routes, s.sessionRoutes(), s.userRoutes(), s.tokenRoutes(), s.displayRoutes(), s.auditRoutes(), s.eventRoutes(), s.documentRoutes())
	}
	return s.newRouter(append(routes, s.operationsRoutes()...))
}

// newRouter builds a router of routes.
func (s *Server) newRouter(routes []route) *mux.Router {
	router := mux.NewRouter().SkipClean(true)
	endpoints := make(map[string]*endpoint)
	for _, r := range routes {
		e := endpoints[r.path]
		if e == nil {
			e = &endpoint{template: r.path, byMethod: make(map[string]*operation)}
			endpoints[r.path] = e
			router.Path(r.path).Handler(e)
		}
		e.byMethod[r.method] = s.operation(r)
	}
	for _, e := range endpoints {
		s.complete(e)
	}
	return router
}

// noPath stands for the path of requests that match no route.
const noPath = "none"

// unrouted returns an endpoint for requests that match no route.
func (s *Server) unrouted(h handler) *endpoint {
	return &endpoint{template: noPath, otherwise: s.operation(route{method: "any", path: noPath, raw: true, handle: h})}
}

// complete adds the operations that an endpoint's methods imply: HEAD for GET, OPTIONS, and the refusal of all other methods.
func (s *Server) complete(e *endpoint) {
	if get := e.byMethod[http.MethodGet]; get != nil {
		head := get.route
		head.method = http.MethodHead
		e.byMethod[http.MethodHead] = s.operation(head)
	}
	methods := []string{http.MethodOptions}
	for m := range e.byMethod {
		methods = append(methods, m)
	}
	slices.Sort(methods)
	e.allow = strings.Join(methods, ", ")
	e.byMethod[http.MethodOptions] = s.operation(route{
		method: http.MethodOptions, path: e.template, raw: true, public: true,
		handle: func(x *exchange) error {
			x.header("Allow", e.allow)
			x.status = http.StatusNoContent
			return nil
		},
	})
	e.otherwise = s.operation(route{
		method: "other", path: e.template, raw: true, public: true,
		handle: func(x *exchange) error { return &methodNotAllowed{allow: e.allow} },
	})
}

// on returns the operation for a method.
func (e *endpoint) on(method string) *operation {
	if o := e.byMethod[method]; o != nil {
		return o
	}
	return e.otherwise
}

// ServeHTTP implements [http.Handler]. It only lets the router match: if the router served the request it would copy it twice to pass the
// path variables on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := s.notFound
	var match mux.RouteMatch
	switch {
	case !s.allowedHost(r):
		e = s.misdirected
	case s.router.Match(r, &match):
		e = match.Handler.(*endpoint)
	case s.pageRouter.Match(r, &match):
		e = match.Handler.(*endpoint)
	case s.hasTrailingSlash(r):
		e = s.redirect
	}
	e.on(r.Method).serve(w, r, match.Vars)
}

// hasTrailingSlash reports whether the request's path is that of a route followed by a slash.
func (s *Server) hasTrailingSlash(r *http.Request) bool {
	path, ok := strings.CutSuffix(r.URL.Path, "/")
	if !ok {
		return false
	}
	without := *r
	without.URL = &url.URL{Path: path}
	return s.router.Match(&without, new(mux.RouteMatch)) || s.pageRouter.Match(&without, new(mux.RouteMatch))
}

// redirectWithoutSlash redirects a request to its path without the trailing slash. The method stays the same.
func redirectWithoutSlash(x *exchange) error {
	path := strings.TrimSuffix(x.r.URL.EscapedPath(), "/")
	if x.r.URL.RawQuery != "" {
		path += "?" + x.r.URL.RawQuery
	}
	x.header("Location", x.base+path)
	x.status = http.StatusPermanentRedirect
	return nil
}

// ServeHTTP makes an endpoint an [http.Handler], as the router wants it.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.on(r.Method).serve(w, r, mux.Vars(r))
}
