package eventstore

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// troubleEvery is the least time between two lines about the same trouble.
const troubleEvery = time.Minute

// Trouble logs a failure that repeats: once when it occurs, then once a minute for as long as it goes on, with how often it
// has occurred, and once when it is over. A trouble that comes and goes within the minute is not said again, only counted.
// Goroutines may share it.
type Trouble struct {
	logger  *slog.Logger
	level   slog.Level
	message string
	over    string

	present atomic.Bool // failures has become more than 0

	mu       sync.Mutex
	failures int  // since it was last over
	said     bool // since it was last over
	since    time.Time
	last     time.Time // when a line was last logged
}

// NewTrouble makes a trouble that has not occurred yet: message says what fails, over that it does no longer,
// or nothing if that is not to be said.
func NewTrouble(logger *slog.Logger, level slog.Level, message, over string) *Trouble {
	return &Trouble{logger: logger, level: level, message: message, over: over}
}

// Failed counts one failure and logs it if it is the first, or the first for a minute. args are those of [slog.Logger.Log].
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
	if t.said {
		message = "still: " + message
	}
	if t.failures > 1 {
		args = append(args, "times", t.failures, "since", t.since)
	}
	t.said = true
	t.logger.Log(context.Background(), t.level, message, args...)
}

// Over says that what failed works, if a failure was logged. It costs next to nothing where none was.
func (t *Trouble) Over(args ...any) {
	if !t.present.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.said && t.over != "" {
		t.logger.Info(t.over, append(args, "failures", t.failures, "after", time.Since(t.since).Round(time.Millisecond))...)
	}
	t.failures, t.said = 0, false
	t.present.Store(false)
}
