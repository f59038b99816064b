package notify

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"roombook/domain"
)

// channel delivers messages to a destination: a server or the log. It is safe for concurrent use.
type channel interface {
	name() domain.Channel
	// destination names the destination in metrics and logs: a host, without secrets.
	destination() string
	// send delivers a message. It returns nil if the destination has accepted the message, and a [*failure] if it has not, or if that is
	// unknown.
	send(ctx context.Context, m Message) error
	// pause returns how long to wait after the n-th failed attempt, counted from 1. It returns false after the last one.
	pause(n int64) (time.Duration, bool)
}

// failure is the error of an attempt.
type failure struct {
	err error
	// permanent means that another attempt would fail as well.
	permanent bool
	// unsent means that the destination was not asked, so that the failure says nothing of it.
	unsent bool
	// unwanted means that the recipient gets no such message any more.
	unwanted bool
	// unknown means that it cannot be told for now who the recipient is. It does not count as an attempt.
	unknown bool
	// down means that the failure is not specific to the message: the destination cannot be reached, does not answer, or reports an error
	// of its own.
	down bool
	// refused is the recipient that was refused for now, if it may be that the destination refuses everybody for now.
	refused string
	// after is the least time until the next attempt, as the destination requested; 0 if it did not.
	after time.Duration
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

// unsendable returns the failure of a message that no destination was asked to take.
func unsendable(err error) error { return &failure{err: err, permanent: true, unsent: true} }

// failureOf returns err as a failure. An unclassified error counts as a failure of the destination.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{err: err, down: true}
}

// logChannel logs messages, one line each.
type logChannel struct {
	log   *slog.Logger
	texts *texts
	who   *directory
}

func (c *logChannel) name() domain.Channel { return domain.ChannelLog }
func (c *logChannel) destination() string  { return "log" }

func (c *logChannel) pause(int64) (time.Duration, bool) { return 0, false }

func (c *logChannel) send(ctx context.Context, m Message) error {
	p, err := c.who.find(ctx, m.To)
	if err != nil {
		return &failure{err: err, unsent: true, unknown: true}
	}
	subject, err := c.texts.subject(p.Language, c.texts.view(m))
	if err != nil {
		return unsendable(err)
	}
	c.log.InfoContext(ctx, "notification", "to", m.To, "kind", m.Kind, "subject", subject, "text", m.Sentence(),
		"booking", m.Booking, "notification", m.ID, "correlation", m.CorrelationID)
	return nil
}
