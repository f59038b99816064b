package eventstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"roombook/domain"
)

// ReadStream yields the stream's events from a revision on, in their order, up to the last one that was there when it was
// asked for or later. A stream without events, or without any from there, yields nothing.
//
// An error is the last thing yielded, with a zero event: [ErrUnavailable] if the event store did not answer within the
// time-out, ctx's error, [ErrClosed], or what the event store refused the read with. A connection that breaks on the way is
// not one: the read goes on where it was. The time that the loop's body takes does not count.
func (s *Store) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		if err := s.readStream(ctx, stream, from, func(r Recorded) bool { return yield(r, nil) }); err != nil {
			yield(Recorded{}, fmt.Errorf("read %q: %w", stream, err))
		}
	}
}

func (s *Store) readStream(ctx context.Context, stream string, from domain.Revision, yield func(Recorded) bool) error {
	switch {
	case !validStream(stream):
		return errNoStreamName
	case from < 0:
		return fmt.Errorf("there is no revision %d", from)
	}
	next := from
	return s.read(ctx, func(c *call) (*esdb.ReadStream, error) {
		return c.conn.client.ReadStream(c, stream, esdb.ReadStreamOptions{From: esdb.Revision(uint64(next))}, math.MaxUint64)
	}, func(e *esdb.RecordedEvent) bool {
		next = domain.Revision(e.EventNumber) + 1
		return yield(s.recorded(e))
	})
}

// Last is the last event of the stream, if it has one. Its errors are those of [Store.ReadStream].
func (s *Store) Last(ctx context.Context, stream string) (last Recorded, found bool, err error) {
	last, found, err = s.last(ctx, stream)
	if err != nil {
		return Recorded{}, false, fmt.Errorf("read the end of %q: %w", stream, err)
	}
	return last, found, nil
}

func (s *Store) last(ctx context.Context, stream string) (last Recorded, found bool, err error) {
	e, err := s.lastStored(ctx, stream)
	if err != nil || e == nil {
		return Recorded{}, false, err
	}
	return s.recorded(e), true, nil
}

// lastStored is the last event of the stream as it is stored, or nil.
func (s *Store) lastStored(ctx context.Context, stream string) (last *esdb.RecordedEvent, err error) {
	if !validStream(stream) {
		return nil, errNoStreamName
	}
	err = s.read(ctx, func(c *call) (*esdb.ReadStream, error) {
		return c.conn.client.ReadStream(c, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
	}, func(e *esdb.RecordedEvent) bool {
		last = e
		return false
	})
	return last, err
}

// End is the position of the last event of the log, of whatever stream; 0 if there is none. Its errors are those of
// [Store.ReadStream].
func (s *Store) End(ctx context.Context) (Position, error) {
	end, err := s.end(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return end, nil
}

func (s *Store) end(ctx context.Context) (end Position, err error) {
	err = s.read(ctx, func(c *call) (*esdb.ReadStream, error) {
		return c.conn.client.ReadAll(c, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
	}, func(e *esdb.RecordedEvent) bool {
		end = Position(e.Position.Commit)
		return false
	})
	return end, err
}

// EventAt is the id of the event at a position of the log, if the log has one exactly there, and so tells whether a log that was
// seen before is still the same. In a cluster the leader is asked, which has everything that was ever acknowledged. Its errors
// are those of [Store.ReadStream].
func (s *Store) EventAt(ctx context.Context, p Position) (id uuid.UUID, found bool, err error) {
	id, found, err = s.eventAt(ctx, p)
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("read the event at position %d: %w", p, err)
	}
	return id, found, nil
}

func (s *Store) eventAt(ctx context.Context, p Position) (id uuid.UUID, found bool, err error) {
	from := esdb.Position{Commit: uint64(p), Prepare: uint64(p)}
	err = s.read(ctx, func(c *call) (*esdb.ReadStream, error) {
		// The library never sends what its option of that name says.
		asked := metadata.AppendToOutgoingContext(c, "requires-leader", "true")
		return c.conn.client.ReadAll(asked, esdb.ReadAllOptions{From: from}, 1)
	}, func(e *esdb.RecordedEvent) bool {
		if Position(e.Position.Commit) == p {
			id, found = e.EventID, true
		}
		return false
	})
	return id, found, err
}

// errNoAnswer is the cause of a context whose time to wait for the event store is over.
var errNoAnswer = errors.New("no answer in time")

// opener opens a read.
type opener func(*call) (*esdb.ReadStream, error)

// read opens a read and yields what it has, and does so again if the connection breaks: open continues after what was
// yielded last.
func (s *Store) read(ctx context.Context, open opener, yield func(*esdb.RecordedEvent) bool) error {
	w, stop := s.watch(ctx)
	defer stop()
	for try := 0; ; try++ {
		if try > 0 {
			s.metrics.readRetry.Inc()
		}
		progress, err := s.readOnce(w, open, yield)
		if err == nil {
			return nil
		}
		var refused *refusal
		if errors.As(err, &refused) {
			return refused.err
		}
		if progress {
			try = 0
		}
		if !pause(w, try) {
			return w.ended(err)
		}
	}
}

// readOnce reports whether anything was yielded. Its error is nil at the end, and when yield wants no more.
func (s *Store) readOnce(w *watched, open opener, yield func(*esdb.RecordedEvent) bool) (progress bool, err error) {
	c, err := s.connections.begin(w)
	if err != nil {
		return false, err
	}
	defer c.done()
	stream, err := open(c)
	if isNoPosition(err) {
		return false, nil
	}
	if err != nil {
		return false, c.failed(err)
	}
	defer stream.Close()
	for {
		resolved, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) || isMissingStream(err) || isNoPosition(err):
			return progress, nil
		case err != nil:
			return progress, c.failed(err)
		case resolved.Event == nil: // a link to nothing
			continue
		}
		progress = true
		w.rest()
		if !yield(resolved.Event) {
			return progress, nil
		}
		w.wait()
	}
}

// isMissingStream reports whether the answer was that the stream has no events, which is no gRPC status.
func isMissingStream(err error) bool {
	var e *esdb.Error
	return errors.As(err, &e) && e.Code() == esdb.ErrorCodeResourceNotFound && status.Code(err) == codes.Unknown
}

// isNoPosition reports whether the answer was that no event begins at the position of the log to read from: the position is that
// of another log. Before 24.10 it was "Error".
func isNoPosition(err error) bool {
	return status.Code(err) == codes.Unknown &&
		(strings.Contains(err.Error(), "ReadAllResult: InvalidPosition") || strings.Contains(err.Error(), "ReadAllResult: Error"))
}

// recorded decodes an event.
func (s *Store) recorded(e *esdb.RecordedEvent) Recorded {
	r := Recorded{
		ID:       e.EventID,
		Stream:   e.StreamID,
		Revision: domain.Revision(e.EventNumber),
		Position: Position(e.Position.Commit),
		Type:     e.EventType,
		Data:     e.Data,
	}
	var err error
	if r.Event, r.Metadata, err = s.codec.decode(e.EventType, e.Data, e.UserMetadata); err != nil {
		s.metrics.cannotDecode(s.logger, &r, err)
	}
	return r
}

// watched is the context of a read or a subscription. It ends with the caller's, with the store, and when the event store
// has been waited for too long.
type watched struct {
	context.Context
	parent   context.Context
	timeout  time.Duration
	patience *time.Timer
}

// watch starts to wait.
func (s *Store) watch(parent context.Context) (w *watched, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	unlink := context.AfterFunc(s.connections.closing, func() { cancel(ErrClosed) })
	patience := time.AfterFunc(s.timeout, func() { cancel(errNoAnswer) })
	return &watched{ctx, parent, s.timeout, patience}, func() {
		patience.Stop()
		unlink()
		cancel(nil)
	}
}

// wait starts the time anew.
func (w *watched) wait() { w.patience.Reset(w.timeout) }

// rest stops the time.
func (w *watched) rest() { w.patience.Stop() }

// ended is the error of what the context ended, given what failed last.
func (w *watched) ended(failure error) error {
	switch cause := context.Cause(w); {
	case w.parent.Err() != nil:
		return w.parent.Err()
	case errors.Is(cause, ErrClosed) || errors.Is(failure, ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("%w: %v", ErrUnavailable, failure)
	}
}
