package api

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// journal keeps the log readable under load: of requests that are alike, within a second, it has one line written, and then one line a
// second that says how many more there were. Goroutines may share it.
type journal struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[alike]*repetition
}

// alike is what requests have in common that are alike.
type alike struct {
	level         slog.Level
	method, route string
	status        int
	problem       string // the type of problem, empty for none
	error         string // where each error is news: that of a fault of this program
}

// repetition counts the requests of a kind since its last line.
type repetition struct{ times int }

// journalTime is how long requests are counted before that is told.
const journalTime = time.Second

// again reports whether a request like this one has just had a line. If so, it is counted.
func (j *journal) again(k alike) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.kinds[k]; r != nil {
		r.times++
		return true
	}
	if j.kinds == nil {
		j.kinds = make(map[alike]*repetition)
	}
	j.kinds[k] = new(repetition)
	time.AfterFunc(journalTime, func() { j.tell(k) })
	return false
}

// tell writes how often a kind was repeated. As long as it is, that goes on; then it is forgotten.
func (j *journal) tell(k alike) {
	j.mu.Lock()
	r := j.kinds[k]
	if r == nil {
		j.mu.Unlock()
		return
	}
	times := r.times
	r.times = 0
	if times == 0 {
		delete(j.kinds, k)
	} else {
		time.AfterFunc(journalTime, func() { j.tell(k) })
	}
	j.mu.Unlock()
	if times > 0 {
		j.write(k, times)
	}
}

// flush tells what has not been told yet, and forgets it.
func (j *journal) flush() {
	j.mu.Lock()
	kinds := j.kinds
	j.kinds = nil
	j.mu.Unlock()
	for k, r := range kinds {
		if r.times > 0 {
			j.write(k, r.times)
		}
	}
}

func (j *journal) write(k alike, times int) {
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
	j.log.LogAttrs(context.Background(), k.level, "more requests like that", attrs...)
}
