package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Probe asks whether a part that the server needs is there.
type Probe struct {
	// Name is the part's name, in camel case: eventStore, readStore. It is all that callers are told of a part.
	Name string
	// Check returns nil if the part is there, else why not, for the log. Its context ends after a second.
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

// reasonsEvery is how often the log is told again why a part is away, while probes ask.
const reasonsEvery = time.Minute

// reasons are why parts are away, as the log was told. Goroutines may share them.
type reasons struct {
	mu   sync.Mutex
	told map[string]time.Time // by part that is away
}

// tell writes to the log why a part is away, when that begins and every so often, and when it is back. Callers are told only which part
// it is: the reason may name addresses and files.
func (r *reasons) tell(log *slog.Logger, f finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, away := r.told[f.Name]
	switch {
	case f.err == nil && away:
		delete(r.told, f.Name)
		log.Info("a part is there again", "part", f.Name)
	case f.err != nil && time.Since(last) > reasonsEvery:
		if r.told == nil {
			r.told = make(map[string]time.Time)
		}
		r.told[f.Name] = time.Now()
		log.Warn("a part is away", "part", f.Name, "error", f.err)
	}
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
		s.reasons.tell(s.log, f)
		ready = ready && (f.err == nil || f.Advisory)
	}
	return findings, ready
}

// readiness answers in Spring's shape: a status, and that of the components.
func (s *Server) readiness(x *exchange) error {
	findings, ready := s.probe(x.ctx)
	return x.health(&healthReply{Status: status(ready), Components: components(findings)})
}

func (s *Server) liveness(x *exchange) error {
	return x.health(&healthReply{Status: "UP"})
}

// actuatorHealth is the probe that the first version's deployment asks.
func (s *Server) actuatorHealth(x *exchange) error {
	findings, ready := s.probe(x.ctx)
	findings = append(findings, finding{Probe: Probe{Name: "livenessState"}}, finding{Probe: Probe{Name: "readinessState"}, err: s.accepting()})
	return x.health(&healthReply{Status: status(ready), Components: components(findings), Groups: []string{"liveness", "readiness"}})
}

// errShuttingDown is what readiness says while requests drain.
var errShuttingDown = errors.New("the server is shutting down")

func (s *Server) accepting() error {
	if s.draining.Load() {
		return errShuttingDown
	}
	return nil
}

// healthReply has Spring's shape.
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

func components(findings []finding) object[componentHealth] {
	c := make(object[componentHealth], len(findings))
	for i, f := range findings {
		c[i] = member[componentHealth]{f.Name, componentHealth{status(f.err == nil)}}
	}
	return c
}

func status(up bool) string {
	if up {
		return "UP"
	}
	return "DOWN"
}
