package eventstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/domain"
)

var (
	// ErrUnavailable means that the event store did not answer in time, and that nothing was asked of it that could have
	// changed it: a read, a subscription, or an append that was never sent.
	ErrUnavailable = errors.New("the event store is not available")
	// ErrOutcomeUnknown means that an append was sent and its answer was not heard: it may have been done or not, or be done
	// a little later. Another append at the same expected revision may safely be tried: only one of them can be done.
	ErrOutcomeUnknown = errors.New("the event store did not answer an append: its outcome is unknown")
	// ErrTooLarge means that the append is larger than the event store accepts.
	ErrTooLarge = errors.New("the append is larger than the event store accepts")
	// ErrClosed means that the store was closed by this program.
	ErrClosed = errors.New("the event store's connections are closed")
)

// WrongRevision means that an append lost a race: the stream is not at the revision it expected. Nothing was written.
type WrongRevision struct {
	Stream   string
	Expected domain.Revision // or NoStream
	Actual   domain.Revision // or NoStream
}

func (e *WrongRevision) Error() string {
	return fmt.Sprintf("stream %s is at %s, not at %s", e.Stream, revisionName(e.Actual), revisionName(e.Expected))
}

func revisionName(r domain.Revision) string {
	switch r {
	case NoStream:
		return "no revision"
	case Any:
		return "any revision"
	default:
		return fmt.Sprintf("revision %d", r)
	}
}

// refusal is the event store's answer that it will not do what was asked, now or when asked again. Its error is opaque: the
// library's own is gone.
type refusal struct{ err error }

func (e *refusal) Error() string { return e.err.Error() }

// failed turns an error that the call has met in the library into one of this package's own, a [*refusal] if the event store
// has spoken. It retires the connection if that is broken.
func (c *call) failed(err error) error {
	code := status.Code(err) // looks into wrapped errors
	var e *esdb.Error
	if errors.As(err, &e) {
		switch e.Code() {
		case esdb.ErrorCodeStreamDeleted:
			code = codes.FailedPrecondition
		case esdb.ErrorCodeNotLeader, esdb.ErrorCodeConnectionClosed:
			code = codes.Unavailable
		}
	}
	text := err.Error()
	switch code {
	case codes.Unavailable:
		// The library looks for a node again after some calls that end like this, see [connection.log], and not after others.
		c.enter() // a call does not wait for itself
		c.conn.retire()
	case codes.InvalidArgument:
		if strings.Contains(strings.ToLower(text), "maximum append") {
			return &refusal{fmt.Errorf("%w: %s", ErrTooLarge, text)}
		}
		return &refusal{errors.New(text)}
	case codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.NotFound, codes.AlreadyExists,
		codes.OutOfRange, codes.ResourceExhausted, codes.Unimplemented:
		return &refusal{errors.New(text)}
	}
	return errors.New(text)
}
