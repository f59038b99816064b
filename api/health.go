package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Probe checks whether a component that the server depends on is available.
type Probe struct {
	// Name is the component's name in camel case: eventStore, readStore. Clients are told nothing else about a component.
	Name string
	// Check returns nil if the component is available, else the reason, which is only logged. Its context ends after a second.
	Check func(context.Context) error
	// Advisory marks a component whose failure is reported but does not make the server unready, because requests that do not need it are
	// still answered.
	Advisory bool
}

// probeTimeout bounds all probes, which run concurrently.
const probeTimeout = time.Second

// probeResult is the result of a probe.
type probeResult struct {
	Probe
	err error
}

// outageLogInterval is how often a lasting outage is logged again while probes are asked for.
const outageLogInterval = time.Minute

// outages logs which components are unavailable. It is safe for concurrent use.
type outages struct {
	mu     sync.Mutex
	logged map[string]time.Time // when each unavailable component was last logged
}

// log logs the start of an outage with its reason, again at intervals, and its end. Clients only learn which component it is: the reason
// may name addresses and files.
func (r *outages) log(log *slog.Logger, f probeResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, unavailable := r.logged[f.Name]
	switch {
	case f.err == nil && unavailable:
		delete(r.logged, f.Name)
		log.Info("a part is there again", "part", f.Name)
	case f.err != nil && time.Since(last) > outageLogInterval:
		if r.logged == nil {
			r.logged = make(map[string]time.Time)
		}
		r.logged[f.Name] = time.Now()
		log.Warn("a part is away", "part", f.Name, "error", f.err)
	}
}

// probe runs all probes. It also reports whether the server is ready: not shutting down, and all components that it needs available.
func (s *Server) probe(ctx context.Context) (results []probeResult, ready bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	results = make([]probeResult, len(s.probes))
	var wait sync.WaitGroup
	for i, p := range s.probes {
		wait.Go(func() { results[i] = probeResult{p, p.Check(ctx)} })
	}
	wait.Wait()
	ready = !s.draining.Load()
	for _, r := range results {
		s.outages.log(s.log, r)
		ready = ready && (r.err == nil || r.Advisory)
	}
	return results, ready
}

// readiness replies whether the server can do its work.
func (s *Server) readiness(x *exchange) error {
	results, ready := s.probe(x.ctx)
	return x.health(&healthReply{Status: status(ready), Components: components(results)})
}

func (s *Server) liveness(x *exchange) error {
	return x.health(&healthReply{Status: "UP"})
}

// actuatorHealth is the probe that the deployment of the first version uses.
func (s *Server) actuatorHealth(x *exchange) error {
	results, ready := s.probe(x.ctx)
	results = append(results, probeResult{Probe: Probe{Name: "livenessState"}}, probeResult{Probe: Probe{Name: "readinessState"}, err: s.accepting()})
	return x.health(&healthReply{Status: status(ready), Components: components(results), Groups: []string{"liveness", "readiness"}})
}

// errShuttingDown makes the server unready while requests drain.
var errShuttingDown = errors.New("the server is shutting down")

// accepting returns an error if the server is shutting down.
func (s *Server) accepting() error {
	if s.draining.Load() {
		return errShuttingDown
	}
	return nil
}

// healthReply is the health of the server and of its components, in the format of Spring Boot.
type healthReply struct {
	Status     string                  `json:"status"`
	Components object[componentHealth] `json:"components,omitzero"`
	Groups     []string                `json:"groups,omitzero"`
}

type componentHealth struct {
	Status string `json:"status"`
}

func (x *exchange) health(r *healthReply) error {
	x.plain()
	if r.Status != "UP" {
		x.status = http.StatusServiceUnavailable
	}
	return x.reply(r)
}

func components(results []probeResult) object[componentHealth] {
	c := make(object[componentHealth], len(results))
	for i, r := range results {
		c[i] = member[componentHealth]{r.Name, componentHealth{status(r.err == nil)}}
	}
	return c
}

func status(up bool) string {
	if up {
		return "UP"
	}
	return "DOWN"
}
