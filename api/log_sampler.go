package api

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// logSampler keeps the request log readable under load. Of requests of the same kind it logs the first in full, and after that one line per
// second with the number of others. It is safe for concurrent use.
type logSampler struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[requestKind]*suppressed
}

// requestKind is what requests that are sampled together have in common.
type requestKind struct {
	level         slog.Level
	method, route string
	status        int
	problem       string // problem type, empty for none
	error         string // only of internal errors, each of which is worth a line
}

// suppressed counts the requests of a kind since the last line about it.
type suppressed struct{ times int }

// sampleInterval is the time between two lines about requests of a kind.
const sampleInterval = time.Second

// suppress reports whether a request of this kind should not be logged because the sampler will log the number of them.
func (s *logSampler) suppress(k requestKind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.kinds[k]; n != nil {
		n.times++
		return true
	}
	if s.kinds == nil {
		s.kinds = make(map[requestKind]*suppressed)
	}
	s.kinds[k] = new(suppressed)
	time.AfterFunc(sampleInterval, func() { s.report(k) })
	return false
}

// report logs the number of suppressed requests of a kind, and does so again after the interval, until there were none.
func (s *logSampler) report(k requestKind) {
	s.mu.Lock()
	n := s.kinds[k]
	if n == nil {
		s.mu.Unlock()
		return
	}
	times := n.times
	n.times = 0
	if times == 0 {
		delete(s.kinds, k)
	} else {
		time.AfterFunc(sampleInterval, func() { s.report(k) })
	}
	s.mu.Unlock()
	if times > 0 {
		s.write(k, times)
	}
}

// flush logs all counts that are still pending and resets the sampler.
func (s *logSampler) flush() {
	s.mu.Lock()
	kinds := s.kinds
	s.kinds = nil
	s.mu.Unlock()
	for k, n := range kinds {
		if n.times > 0 {
			s.write(k, n.times)
		}
	}
}

func (s *logSampler) write(k requestKind, times int) {
	attrs := []slog.Attr{
		slog.String("method", k.method),
		slog.String("route", k.route),
		slog.Int("status", k.status),
		slog.Int("times", times),
	}
	if k.problem != "" {
		attrs = append(attrs, slog.String("problem", k.problem))
	}
	if k.error != "" {
		attrs = append(attrs, slog.String("error", k.error))
	}
	s.log.LogAttrs(context.Background(), k.level, "more requests like that", attrs...)
}
