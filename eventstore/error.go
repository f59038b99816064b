package eventstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"roombook/domain"
)

var (
	// ErrUnavailable means that the event store did not answer in time, and that nothing has changed there: the call was a read, a
	// subscription, or an append that was never sent.
	ErrUnavailable = errors.New("the event store is not available")
	// ErrOutcomeUnknown means that an append was sent and no answer came: it may have been done or not, or be done a little later.
	// To append again at the same expected revision is safe: only one of the appends can be done.
	ErrOutcomeUnknown = errors.New("the event store did not answer an append: its outcome is unknown")
	// ErrTooLarge means that the append is larger than the event store accepts.
	ErrTooLarge = errors.New("the append is larger than the event store accepts")
	// ErrDeleted means that the stream was deleted for good: it cannot be read or appended to any more. Nothing was written.
	ErrDeleted = errors.New("the stream was deleted for good")
	// ErrClosed means that [Store.Close] was called.
	ErrClosed = errors.New("the event store's connections are closed")
)

// WrongRevision means that an append lost a race: the stream is not at the revision it expected. Nothing was written.
//
// The stream has reached revision Actual, but that cannot always be read yet: EventStoreDB refuses by what it has accepted, and shows it
// some milliseconds later. Whoever needs the events in between reads again until the stream is at Actual.
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

// Refused means that the event store does not accept the user or the password, or that the user lacks a right. Nothing was written.
// It lasts until an operator changes the connection string, or the user's rights. For callers who only want to know whether they can use
// the event store it is an [ErrUnavailable].
type Refused struct {
	User   string // empty if the connection string has none
	Denied bool   // the user is known and lacks a right
	Reason string // Unauthenticated, or PermissionDenied and what the event store said
}

func (e *Refused) Error() string {
	if e.User == "" {
		return "the event store refuses a caller without a user: " + e.Reason
	}
	return fmt.Sprintf("the event store refuses the user %s: %s", e.User, e.Reason)
}

// Is reports whether the target is [ErrUnavailable].
func (e *Refused) Is(target error) bool { return target == ErrUnavailable }

// refusal is the event store's answer that it will not do what was asked, however often. It wraps an error of this package, or one
// that is only a text.
type refusal struct{ err error }

func (e *refusal) Error() string { return e.err.Error() }

// errNotLeader means that the call reached a member of a cluster other than the leader, and did nothing there.
var errNotLeader = errors.New("the member of the event store's cluster that was called is not its leader")

// ErrNoPosition means that the log has no event at the position to read from: the position belongs to another log.
var ErrNoPosition = errors.New("the log has no event at that position")

// failed translates the error of a call, which had the trailers, into one of this package, a [*refusal] if the event store will not do
// what was asked. If the call should have gone to another member, later calls do.
func (m *member) failed(err error, trailer metadata.MD) error {
	s, isStatus := status.FromError(err)
	if !isStatus {
		return err
	}
	text := s.Code().String()
	if s.Message() != "" {
		text += ": " + s.Message()
	}
	switch s.Code() {
	case codes.NotFound:
		if address, ok := leaderOf(trailer); ok {
			m.route.drop(m, address)
			return errNotLeader
		}
		return &refusal{errors.New(text)}
	case codes.Unavailable:
		failure := errors.New(text)
		m.route.outage.Failed(failure)
		if m.route.clustered() || m.address != m.route.config.Address {
			m.route.drop(m, "")
		}
		return failure
	case codes.Unauthenticated, codes.PermissionDenied:
		refused := &Refused{User: m.route.config.Username, Reason: s.Code().String()}
		if s.Code() == codes.PermissionDenied {
			refused.Denied, refused.Reason = true, text
		}
		m.route.refused.Failed(refused)
		return &refusal{refused}
	case codes.Unknown:
		if isNoPosition(text) {
			return &refusal{ErrNoPosition}
		}
	case codes.InvalidArgument:
		if strings.Contains(strings.ReplaceAll(strings.ToLower(text), " ", ""), "maximumappend") { // of a call or, in one word, of a batch
			return &refusal{fmt.Errorf("%w: %s", ErrTooLarge, text)}
		}
		return &refusal{errors.New(text)}
	case codes.FailedPrecondition:
		if firstOf(trailer, "exception") == "stream-deleted" {
			return &refusal{fmt.Errorf("%w: %s", ErrDeleted, text)}
		}
		return &refusal{errors.New(text)}
	case codes.AlreadyExists, codes.OutOfRange, codes.ResourceExhausted, codes.Unimplemented:
		return &refusal{errors.New(text)}
	}
	return errors.New(text)
}

// isNoPosition reports whether the text of an Unknown error says that the log has no event at a position. Before 24.10 it said "Error".
func isNoPosition(text string) bool {
	return strings.Contains(text, "ReadAllResult: InvalidPosition") || strings.Contains(text, "ReadAllResult: Error")
}

// endsRead reports whether a read of the log ended because it has no event at the position, or none from there on.
func endsRead(err error) bool {
	return errors.Is(err, io.EOF) || status.Code(err) == codes.Unknown && isNoPosition(status.Convert(err).Message())
}

// leaderOf is the leader's address according to the trailers of a member that refused a call because it does not lead; empty if they do
// not name one. ok is false for any other trailers.
func leaderOf(trailer metadata.MD) (address string, ok bool) {
	if firstOf(trailer, "exception") != "not-leader" {
		return "", false
	}
	host, port := firstOf(trailer, "leader-endpoint-host"), firstOf(trailer, "leader-endpoint-port")
	if host == "" || port == "" {
		return "", true
	}
	return net.JoinHostPort(host, port), true
}

// firstOf is the value of a trailer, empty if there is none.
func firstOf(trailer metadata.MD, key string) string {
	if values := trailer.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}
