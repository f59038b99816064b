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
//
// Actual is a revision that the stream has, and not always one that can be read already: a real EventStoreDB refuses by what it has
// taken, and shows that some milliseconds later. Who has to see what came between reads on until the stream is at Actual.
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

// Refused means that the event store does not know the user or the password, or that the user lacks a right. Nothing was written. It
// stays so until an operator changes the connection string, or the user there. To those who only ask whether the event store is there for
// them it is an [ErrUnavailable].
type Refused struct {
	User   string // empty if the connection string has none
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

// refusal is the event store's answer that it will not do what was asked, now or when asked again. Its error is one of this
// package or has none below it.
type refusal struct{ err error }

func (e *refusal) Error() string { return e.err.Error() }

// errNotLeader means that the call reached a member of a cluster that is not its leader, and did nothing there.
var errNotLeader = errors.New("the member of the event store's cluster that was called is not its leader")

// errNoPosition means that no event begins at the position of the log to read from: the position is that of another log.
var errNoPosition = errors.New("the log has no event at that position")

// failed turns the error that a call has ended with into one of this package's own, a [*refusal] if the event store has
// spoken. If the call should have gone to another member, the next one does.
func (c *call) failed(err error) error {
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
		if address, ok := leaderOf(c.trailer); ok {
			c.route.leave(c.member, address)
			return errNotLeader
		}
		return &refusal{errors.New(text)}
	case codes.Unavailable:
		failure := errors.New(text)
		c.route.away.Failed(failure)
		if c.route.clustered() || c.member.address != c.route.config.Address {
			c.route.leave(c.member, "")
		}
		return failure
	case codes.Unauthenticated, codes.PermissionDenied:
		refused := &Refused{User: c.route.config.Username, Reason: s.Code().String()}
		if s.Code() == codes.PermissionDenied {
			refused.Reason = text
		}
		c.route.refused.Failed(refused)
		return &refusal{refused}
	case codes.Unknown:
		if isNoPosition(text) {
			return &refusal{errNoPosition}
		}
	case codes.InvalidArgument:
		if strings.Contains(strings.ToLower(text), "maximum append") {
			return &refusal{fmt.Errorf("%w: %s", ErrTooLarge, text)}
		}
		return &refusal{errors.New(text)}
	case codes.FailedPrecondition, codes.AlreadyExists, codes.OutOfRange, codes.ResourceExhausted, codes.Unimplemented:
		return &refusal{errors.New(text)}
	}
	return errors.New(text)
}

// isNoPosition reports whether the text of an Unknown error says that no event begins at a position of the log. Before 24.10 it was "Error".
func isNoPosition(text string) bool {
	return strings.Contains(text, "ReadAllResult: InvalidPosition") || strings.Contains(text, "ReadAllResult: Error")
}

// endsRead reports whether a read of the log ended because there is nothing at its position or after it.
func endsRead(err error) bool {
	return errors.Is(err, io.EOF) || status.Code(err) == codes.Unknown && isNoPosition(status.Convert(err).Message())
}

// leaderOf is where the leader is by the trailers of a member that is not, if they are that. The address is empty if they do not
// say.
func leaderOf(trailer metadata.MD) (address string, ok bool) {
	value := func(key string) string {
		if values := trailer.Get(key); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	if value("exception") != "not-leader" {
		return "", false
	}
	host, port := value("leader-endpoint-host"), value("leader-endpoint-port")
	if host == "" || port == "" {
		return "", true
	}
	return net.JoinHostPort(host, port), true
}
