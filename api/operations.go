package api

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"roombook/domain"
)

// operationsRoutes are the routes for operators.
func (s *Server) operationsRoutes() []route {
	metrics := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry})
	routes := []route{
		// Whether the process is alive.
		{method: "GET", path: "/healthz", handle: s.liveness, raw: true, public: true},
		// Whether it is ready to do its work.
		{method: "GET", path: "/readyz", handle: s.readiness, raw: true, public: true},
		// The same in the format of Spring Boot.
		{method: "GET", path: "/actuator/health", handle: s.actuatorHealth, raw: true, public: true},
		// Spring's liveness group.
		{method: "GET", path: "/actuator/health/liveness", handle: s.liveness, raw: true, public: true},
		// Spring's readiness group.
		{method: "GET", path: "/actuator/health/readiness", handle: s.readiness, raw: true, public: true},
		// Which version runs.
		{method: "GET", path: "/version", handle: s.versionOf, raw: true, public: true},
	}
	if !s.withoutMetrics {
		// Metrics in the format of Prometheus.
		routes = append(routes, route{method: "GET", path: "/metrics", handle: func(x *exchange) error { return x.delegate(metrics) }, raw: true, needs: domain.ReadMetrics})
	}
	return routes
}

// Version describes the running program.
type Version struct {
	Version  string // release or module version
	Revision string // VCS revision, may be empty
	Time     string // time of the revision, may be empty
}

func (s *Server) versionOf(x *exchange) error {
	x.plain()
	return x.reply(&versionReply{s.version.Version, orNull(s.version.Revision), orNull(s.version.Time), runtime.Version()})
}

// versionReply describes the running program.
type versionReply struct {
	Version  string  `json:"version"`
	Revision *string `json:"revision"`
	Time     *string `json:"time"`
	Go       string  `json:"go"`
}

// plain makes the reply plain JSON that caches must not store.
func (x *exchange) plain() {
	x.mediaType = mediaJSON
	x.header("Cache-Control", "no-store")
}
