package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Probe asks whether a part that the server needs is there.
type Probe struct {
	// Name is the part's name, in camel case: eventStore, readStore.
	Name string
	// Check returns nil if the part is there. Its context ends after a second.
	Check func(context.Context) error
	// Advisory is set for a part whose failure is told without making the server unready: requests that do not need the part are still
	// answered.
	Advisory bool
}

// probeTimeout bounds the wait for a probe. Probes run at the same time.
const probeTimeout = time.Second

// finding is what a probe found.
type finding struct {
	Probe
	err error
}

// probe asks all parts. It reports whether the server is ready: up, not shutting down, and all that it needs there.
func (s *Server) probe(ctx context.Context) (findings []finding, ready bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	findings = make([]finding, len(s.probes))
	var wait sync.WaitGroup
	for i, p := range s.probes {
		wait.Go(func() { findings[i] = finding{p, p.Check(ctx)} })
	}
	wait.Wait()
	ready = !s.draining.Load()
	for _, f := range findings {
		ready = ready && (f.err == nil || f.Advisory)
	}
	return findings, ready
}

// readiness answers in Spring's shape: a status, and that of the components.
func (s *Server) readiness(x *exchange) error {
	findings, ready := s.probe(x.ctx)
	x.plain()
	x.beginObject()
	x.healthStatus(ready)
	x.components(findings)
	x.endObject()
	return nil
}

func (s *Server) liveness(x *exchange) error {
	x.plain()
	x.beginObject()
	x.healthStatus(true)
	x.endObject()
	return nil
}

// actuatorHealth is the probe that the first version's deployment asks.
func (s *Server) actuatorHealth(x *exchange) error {
	findings, ready := s.probe(x.ctx)
	x.plain()
	x.beginObject()
	x.healthStatus(ready)
	x.components(append(findings, finding{Probe: Probe{Name: "livenessState"}}, finding{Probe: Probe{Name: "readinessState"}, err: s.accepting()}))
	x.name("groups")
	x.out = append(x.out, `["liveness","readiness"]`...)
	x.endObject()
	return nil
}

// errShuttingDown is what readiness says while requests drain.
var errShuttingDown = errors.New("the server is shutting down")

func (s *Server) accepting() error {
	if s.draining.Load() {
		return errShuttingDown
	}
	return nil
}

func (x *exchange) healthStatus(up bool) {
	if up {
		x.text("status", "UP")
		return
	}
	x.status = http.StatusServiceUnavailable
	x.text("status", "DOWN")
}

func (d *document) components(findings []finding) {
	d.name("components")
	d.beginObject()
	for _, f := range findings {
		d.name(f.Name)
		d.beginObject()
		if f.err == nil {
			d.text("status", "UP")
		} else {
			d.text("status", "DOWN")
			d.name("details")
			d.beginObject()
			d.text("error", f.err.Error())
			d.endObject()
		}
		d.endObject()
	}
	d.endObject()
}
