package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/mux"
)

// route is one line of a noun's routes.
type route struct {
	method string
	path   string
	handle handler
	// params is the struct that documents the query parameters; a route without one refuses them.
	params any
	// query marks a route that reads what is stored, and so counts among the queries that are carried out. A command counts from when
	// its body has come, see [exchange.request].
	query bool
	// raw marks a route that does not speak HAL: its handler writes what it writes, whatever the caller accepts.
	raw bool
}

// handler answers a request: it makes the reply in x, or returns the error that becomes a problem.
type handler func(x *exchange) error

// endpoint is a path and the operations on it.
type endpoint struct {
	template string
	allow    string
	byMethod map[string]*operation
	// otherwise answers a method that is not among them.
	otherwise *operation
}

// routes builds the router. It matches line by line, so the paths that are asked for most come first. Each path is one entry,
// whatever its methods, so that a wrong method is known to be one.
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
		)
		for i := range routes {
			routes[i].query = routes[i].method == http.MethodGet
		}
		routes = append(routes, s.documentRoutes()...)
	}
	router := mux.NewRouter().SkipClean(true)
	endpoints := make(map[string]*endpoint)
	for _, r := range append(routes, s.operationsRoutes()...) {
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

// anywhere answers requests whose path is none of the routes.
func (s *Server) anywhere(h handler) *endpoint {
	return &endpoint{template: "none", otherwise: s.operation(route{method: "any", path: "none", raw: true, handle: h})}
}

// complete adds what follows from an endpoint's methods: HEAD from GET, OPTIONS, and the refusal of all others.
func (s *Server) complete(e *endpoint) {
	if get := e.byMethod[http.MethodGet]; get != nil {
		e.byMethod[http.MethodHead] = s.operation(route{method: http.MethodHead, path: e.template, handle: get.handle, params: get.params, query: get.query, raw: get.raw})
	}
	methods := []string{http.MethodOptions}
	for m := range e.byMethod {
		methods = append(methods, m)
	}
	slices.Sort(methods)
	e.allow = strings.Join(methods, ", ")
	e.byMethod[http.MethodOptions] = s.operation(route{
		method: http.MethodOptions, path: e.template, raw: true,
		handle: func(x *exchange) error {
			x.header("Allow", e.allow)
			x.status = http.StatusNoContent
			return nil
		},
	})
	e.otherwise = s.operation(route{
		method: "other", path: e.template, raw: true,
		handle: func(x *exchange) error { return &methodNotAllowed{allow: e.allow} },
	})
}

// on is the operation for a method.
func (e *endpoint) on(method string) *operation {
	if o := e.byMethod[method]; o != nil {
		return o
	}
	return e.otherwise
}

// ServeHTTP finds the operation that was asked for. It asks the router itself instead of letting it serve, which would copy
// the request twice to hand on the path's variables.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := s.nowhere
	var match mux.RouteMatch
	switch {
	case !s.expected(r):
		e = s.misdirected
	case s.router.Match(r, &match):
		e = match.Handler.(*endpoint)
	case s.slashed(r):
		e = s.redirect
	}
	e.on(r.Method).serve(w, r, match.Vars)
}

// slashed reports whether there is something at the request's path without the slash at its end.
func (s *Server) slashed(r *http.Request) bool {
	path, ok := strings.CutSuffix(r.URL.Path, "/")
	if !ok {
		return false
	}
	without := *r
	without.URL = &url.URL{Path: path}
	return s.router.Match(&without, new(mux.RouteMatch))
}

// withoutSlash sends a request on to its path without the slash at its end, whatever its method.
func withoutSlash(x *exchange) error {
	path := strings.TrimSuffix(x.r.URL.EscapedPath(), "/")
	if x.r.URL.RawQuery != "" {
		path += "?" + x.r.URL.RawQuery
	}
	x.header("Location", x.base+path)
	x.status = http.StatusPermanentRedirect
	return nil
}

// ServeHTTP makes an endpoint something that a router takes.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.on(r.Method).serve(w, r, mux.Vars(r))
}
