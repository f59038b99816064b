package api

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// operationsRoutes are for those who run the server.
func (s *Server) operationsRoutes() []route {
	metrics := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry})
	return []route{
		// Whether the process answers.
		{method: "GET", path: "/healthz", handle: s.liveness, raw: true},
		// Whether it can do its work.
		{method: "GET", path: "/readyz", handle: s.readiness, raw: true},
		// The same in Spring's shape.
		{method: "GET", path: "/actuator/health", handle: s.actuatorHealth, raw: true},
		// Spring's liveness group.
		{method: "GET", path: "/actuator/health/liveness", handle: s.liveness, raw: true},
		// Spring's readiness group.
		{method: "GET", path: "/actuator/health/readiness", handle: s.readiness, raw: true},
		// Prometheus.
		{method: "GET", path: "/metrics", handle: func(x *exchange) error { return x.pass(metrics) }, raw: true},
		// Which version runs.
		{method: "GET", path: "/version", handle: s.versionOf, raw: true},
	}
}

// Version says which program answers.
type Version struct {
	Version  string // a release, or the module's version
	Revision string // of the source, may be empty
	Time     string // of the revision, may be empty
}

func (s *Server) versionOf(x *exchange) error {
	x.plain()
	return x.reply(&versionReply{s.version.Version, orNull(s.version.Revision), orNull(s.version.Time), runtime.Version()})
}

// versionReply says which program answers.
type versionReply struct {
	Version  string  `json:"version"`
	Revision *string `json:"revision"`
	Time     *string `json:"time"`
	Go       string  `json:"go"`
}

// plain makes the reply plain JSON that is not to be kept by caches.
func (x *exchange) plain() {
	x.mediaType = mediaJSON
	x.header("Cache-Control", "no-store")
}
