package eventstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"roombook/domain"
)

// ReadStream yields the stream's events in order, from a revision to the end of the stream as it was when the read began, or later. A
// stream without events, or without any from there, yields nothing. In a cluster the leader is read: every append that was
// acknowledged is there.
//
// An error is the last thing yielded, with a zero event: [ErrUnavailable] if the event store did not answer within the
// time-out, ctx's error, [*Refused], [ErrClosed], or the reason why the event store refused the read. A broken connection is no error:
// the read resumes after the last event. Time spent in the loop's body does not count towards the time-out.
func (s *Store) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		if err := s.readStream(ctx, stream, from, func(e *recordedEvent) bool { return yield(s.recorded(e), nil) }); err != nil {
			yield(Recorded{}, fmt.Errorf("read %q: %w", stream, err))
		}
	}
}

// ReadBack yields the events of all streams, the event store's own included, that are before a position of the log, or all of them if that is
// 0: the newest first, and at most count. In a cluster a follower may be read, which can be a little behind. Its errors are those of
// [Store.ReadStream], and [ErrNoPosition], which a server may return for a position that no event has.
func (s *Store) ReadBack(ctx context.Context, before Position, count uint64) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		request := readAllFrom(before)
		request.Options.ReadDirection = streams.ReadReq_Options_Backwards
		request.Options.CountOption = &streams.ReadReq_Options_Count{Count: count}
		if before == 0 {
			request.Options.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}}
		}
		err := s.read(ctx, s.connections.lists, request, func(e *recordedEvent) bool {
			// For a retry, which yields nothing twice.
			count--
			request.Options.CountOption = &streams.ReadReq_Options_Count{Count: count}
			request.Options.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_Position{
				Position: &streams.ReadReq_Options_Position{CommitPosition: e.GetCommitPosition(), PreparePosition: e.GetPreparePosition()},
			}
			return yield(s.recorded(e), nil) && count > 0
		})
		if err != nil {
			yield(Recorded{}, fmt.Errorf("read the log back from position %d: %w", before, err))
		}
	}
}

func (s *Store) readStream(ctx context.Context, stream string, from domain.Revision, yield func(*recordedEvent) bool) error {
	switch {
	case !validStream(stream):
		return errNoStreamName
	case from < 0:
		return fmt.Errorf("there is no revision %d", from)
	}
	request := readStream(stream, from, math.MaxUint64)
	return s.read(ctx, s.connections.leader, request, func(e *recordedEvent) bool {
		request.Options.GetStream().RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: e.GetStreamRevision() + 1}
		return yield(e)
	})
}

// lastEvent is the stream's last event, undecoded, or nil.
func (s *Store) lastEvent(ctx context.Context, to endpoint, stream string) (last *recordedEvent, err error) {
	if !validStream(stream) {
		return nil, errNoStreamName
	}
	err = s.read(ctx, to, readStreamBack(stream, 1), func(e *recordedEvent) bool {
		last = e
		return false
	})
	return last, err
}

// End is the position of the log's last event, whatever its stream; 0 if the log is empty. In a cluster the answer may come from a
// follower and be a little behind. Its errors are those of [Store.ReadStream].
func (s *Store) End(ctx context.Context) (Position, error) {
	end, err := s.end(ctx, s.connections.lists)
	if err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return end, nil
}

func (s *Store) end(ctx context.Context, to endpoint) (end Position, err error) {
	request := newRead(1)
	request.Options.ReadDirection = streams.ReadReq_Options_Backwards
	request.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
	}}
	err = s.read(ctx, to, request, func(e *recordedEvent) bool {
		end = Position(e.GetCommitPosition())
		return false
	})
	return end, err
}

// EventAt is the id of the event at exactly that position of the log, if there is one. So it tells whether the log is still the one that
// was seen before. In a cluster the leader is asked. Its errors are those of [Store.ReadStream].
func (s *Store) EventAt(ctx context.Context, p Position) (id uuid.UUID, found bool, err error) {
	err = s.read(ctx, s.connections.leader, readAllFrom(p), func(e *recordedEvent) bool {
		if Position(e.GetCommitPosition()) == p {
			id, found = eventID(e), true
		}
		return false
	})
	if err != nil && !errors.Is(err, ErrNoPosition) {
		return uuid.Nil, false, fmt.Errorf("read the event at position %d: %w", p, err)
	}
	return id, found, nil
}

// readAllFrom reads the first event of the log at a position or after it.
func readAllFrom(p Position) *streams.ReadReq {
	request := newRead(1)
	request.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_Position{
			Position: &streams.ReadReq_Options_Position{CommitPosition: uint64(p), PreparePosition: uint64(p)},
		},
	}}
	return request
}

// recordedEvent is an event as received.
type recordedEvent = streams.ReadResp_ReadEvent_RecordedEvent

// newRead is a read of at most count events. What is read, and from where, is for the caller to set.
func newRead(count uint64) *streams.ReadReq {
	return &streams.ReadReq{Options: &streams.ReadReq_Options{
		CountOption:  &streams.ReadReq_Options_Count{Count: count},
		FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
		UuidOption:   structuredIDs,
	}}
}

var structuredIDs = &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}}}

// readStream reads a stream forwards from a revision.
func readStream(stream string, from domain.Revision, count uint64) *streams.ReadReq {
	request := newRead(count)
	request.Options.StreamOption = &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
		RevisionOption:   &streams.ReadReq_Options_StreamOptions_Revision{Revision: uint64(from)},
	}}
	return request
}

// readStreamBack reads a stream backwards from its end.
func readStreamBack(stream string, count uint64) *streams.ReadReq {
	request := newRead(count)
	request.Options.ReadDirection = streams.ReadReq_Options_Backwards
	request.Options.StreamOption = &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
		RevisionOption:   &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}},
	}}
	return request
}

// errNoAnswer is the cause that ends an [idleContext].
var errNoAnswer = errors.New("no answer in time")

// read sends the request and yields the events, and retries if the connection breaks. For that, yield updates the request to begin after
// the last event yielded.
func (s *Store) read(ctx context.Context, to endpoint, request *streams.ReadReq, yield func(*recordedEvent) bool) error {
	w, stop := s.newIdleContext(ctx)
	defer stop()
	pauses := newPauses()
	var failure error
	for {
		progress, err := s.readOnce(w, to, request, yield)
		if err == nil {
			return nil
		}
		var refused *refusal
		if errors.As(err, &refused) {
			return refused.err
		}
		if progress {
			pauses.Reset()
		}
		failure = reason(w, failure, err)
		if !pause(w, pauses) {
			return w.ended(failure)
		}
		s.metrics.readRetry.Inc()
	}
}

// reason is the failure to report of a call that is retried: the latest, unless that is only the end of ctx.
func reason(ctx context.Context, before, latest error) error {
	switch {
	case ctx.Err() == nil:
		return latest
	case before != nil:
		return before
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return errNoAnswer
	default:
		return latest
	}
}

// readOnce is one try of a read. Its error is nil at the end, or when yield returns false; progress reports whether anything was yielded.
func (s *Store) readOnce(w *idleContext, to endpoint, request *streams.ReadReq, yield func(*recordedEvent) bool) (progress bool, err error) {
	c, err := to.begin(w)
	if err != nil {
		return false, err
	}
	defer c.done()
	stream, err := c.Read(c, request, c.trailers())
	if err != nil {
		return false, c.failed(err)
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			c.member.answered()
			return progress, nil
		}
		if err != nil {
			return progress, c.failed(err)
		}
		if answer.GetStreamNotFound() != nil {
			c.member.answered()
			return progress, nil
		}
		e := answer.GetEvent().GetEvent()
		if e == nil { // a link to a missing event, or a message that is not an event
			continue
		}
		if name := string(e.GetStreamIdentifier().GetStreamName()); to.leads && forwards(request) && stays(name) {
			s.connections.log.saw(c.member.incarnation, Position(e.GetCommitPosition()), eventID(e))
		}
		progress = true
		w.suspend()
		if !yield(e) {
			c.member.answered()
			return progress, nil
		}
		w.resume()
	}
}

// forwards reports whether the request reads a stream forwards.
func forwards(request *streams.ReadReq) bool {
	return request.GetOptions().GetStream() != nil && request.GetOptions().GetReadDirection() == streams.ReadReq_Options_Forwards
}

// received is an event as received from a stream, the log or a group.
type received interface {
	GetId() *shared.UUID
	GetStreamIdentifier() *shared.StreamIdentifier
	GetStreamRevision() uint64
	GetCommitPosition() uint64
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

// recorded decodes an event.
func (s *Store) recorded(e received) Recorded {
	r := Recorded{
		ID:       eventID(e),
		Stream:   string(e.GetStreamIdentifier().GetStreamName()),
		Revision: domain.Revision(e.GetStreamRevision()),
		Position: Position(e.GetCommitPosition()),
		Type:     e.GetMetadata()["type"],
		Data:     e.GetData(),
	}
	var err error
	if r.Event, r.Metadata, err = s.codec.decode(r.Type, r.Data, e.GetCustomMetadata()); err != nil {
		s.metrics.cannotDecode(s.logger, &r, err)
	}
	return r
}

// eventID is the event's id.
func eventID(e received) uuid.UUID { return structured(e.GetId()) }

// structured is an id in the form that was asked for.
func structured(m *shared.UUID) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(m.GetStructured().GetMostSignificantBits()))
	binary.BigEndian.PutUint64(id[8:], uint64(m.GetStructured().GetLeastSignificantBits()))
	return id
}

// idleContext is the context of a read or a subscription. It ends with the caller's context, with the store, or when the event store
// has not answered for the time-out.
type idleContext struct {
	context.Context
	parent  context.Context
	timeout time.Duration
	timer   *time.Timer
}

// newIdleContext starts the time-out.
func (s *Store) newIdleContext(parent context.Context) (w *idleContext, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	unlink := context.AfterFunc(s.connections.closing, func() { cancel(ErrClosed) })
	timer := time.AfterFunc(s.timeout, func() { cancel(errNoAnswer) })
	return &idleContext{ctx, parent, s.timeout, timer}, func() {
		timer.Stop()
		unlink()
		cancel(nil)
	}
}

// resume starts the time-out anew.
func (w *idleContext) resume() { w.timer.Reset(w.timeout) }

// suspend stops the time-out while the event store is not waited for.
func (w *idleContext) suspend() { w.timer.Stop() }

// ended is the error to return once the context has ended, after the given failure.
func (w *idleContext) ended(failure error) error {
	switch cause := context.Cause(w); {
	case w.parent.Err() != nil:
		return w.parent.Err()
	case errors.Is(cause, ErrClosed) || errors.Is(failure, ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("%w: %v", ErrUnavailable, failure)
	}
}
