package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"roombook/domain"
)

// channel delivers messages to one destination, a server or the log. Goroutines may share it.
type channel interface {
	name() domain.Channel
	// destination names what the breaker is for: a host, without secrets.
	destination() string
	// send delivers a message within the context. It returns nil once the destination has accepted it, a [*failure] if it has not, or may
	// not have.
	send(ctx context.Context, m Message) error
	// pause is how long to wait after the n-th attempt that failed, counted from 1; false after the last.
	pause(n int64) (time.Duration, bool)
}

// failure is why a message was not delivered.
type failure struct {
	err error
	// permanent means that it would fail again, however often.
	permanent bool
	// down means that the destination as a whole does not work: it cannot be reached, does not answer, or says so.
	down bool
	// after is how long the destination asks to be left alone; 0 if it does not.
	after time.Duration
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

func permanent(format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), permanent: true}
}

// failureOf is err as a failure. What a channel does not classify is the destination's.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{err: err, down: true}
}

// logChannel writes messages to the log, a line each.
type logChannel struct {
	log   *slog.Logger
	texts *texts
	who   *directory
}

func (c *logChannel) name() domain.Channel { return domain.ChannelLog }
func (c *logChannel) destination() string  { return "log" }

func (c *logChannel) pause(int64) (time.Duration, bool) { return 0, false }

func (c *logChannel) send(ctx context.Context, m Message) error {
	w, err := c.texts.words(c.who.person(m.To).Language, m)
	if err != nil {
		return permanent("%w", err)
	}
	c.log.InfoContext(ctx, "notification", "to", m.To, "kind", m.Kind, "subject", w.subject, "text", m.Sentence(),
		"booking", m.Booking, "notification", m.ID, "correlation", m.CorrelationID)
	return nil
}
