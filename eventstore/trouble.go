package eventstore

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// troubleEvery is the shortest time between two log lines about the same trouble.
const troubleEvery = time.Minute

// Trouble logs a failure that repeats: when it first occurs, then once a minute with a count for as long as it goes on, and when it is
// over. One that comes and goes within the minute is counted but not logged again. Goroutines may share it.
type Trouble struct {
	logger  *slog.Logger
	level   slog.Level
	message string
	over    string

	present atomic.Bool // failures > 0

	mu       sync.Mutex
	failures int  // since it was last over
	logged   bool // since it was last over
	since    time.Time
	last     time.Time // when a line was last logged
}

// NewTrouble returns a trouble that has not occurred yet. message is logged when it fails, over when it no longer does, unless it is
// empty.
func NewTrouble(logger *slog.Logger, level slog.Level, message, over string) *Trouble {
	return &Trouble{logger: logger, level: level, message: message, over: over}
}

// Failed counts a failure, and logs it if nothing was logged for a minute. args are those of [slog.Logger.Log].
func (t *Trouble) Failed(err error, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.failures == 0 {
		t.since = now
		t.present.Store(true)
	}
	t.failures++
	if !t.last.IsZero() && now.Sub(t.last) < troubleEvery {
		return
	}
	t.last = now
	message := t.message
	args = append(args, "error", err)
	if t.logged {
		message = "still: " + message
	}
	if t.failures > 1 {
		args = append(args, "times", t.failures, "since", t.since)
	}
	t.logged = true
	t.logger.Log(context.Background(), t.level, message, args...)
}

// Over logs that the trouble is over, if it was logged. Without a trouble it costs next to nothing.
func (t *Trouble) Over(args ...any) {
	if !t.present.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.logged && t.over != "" {
		t.logger.Info(t.over, append(args, "failures", t.failures, "after", time.Since(t.since).Round(time.Millisecond))...)
	}
	t.failures, t.logged = 0, false
	t.present.Store(false)
}
