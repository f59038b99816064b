package eventstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"roombook/domain"
)

// maxAppendBytes is EventStoreDB's default limit on the size of an append: the data, metadata and type of all its events. Source:
// EventStoreDB v24.10, MaxAppendSize.
const maxAppendBytes = 1 << 20

// Append writes the events to the stream, in order and all or none, if the stream is at the expected revision: that of its last
// event, or [NoStream], or [Any].
//
// The events get random ids, which are the same for all tries of this call and for no other call: EventStoreDB drops an append whose
// ids are still in flight in another one, and that caller waits for seconds (KurrentDB issue 1915). So only the expected revision
// keeps two callers from doing the same thing twice.
//
// The outcome is one of
//
//   - nil: the events are in the stream, and [Appended] says where the last one is.
//   - [*WrongRevision]: the stream is at another revision. Nothing was written, nor will be.
//   - [ErrUnavailable]: nothing could be sent within the time-out. Nothing was written, nor will be.
//   - [ErrOutcomeUnknown]: something was sent, and no answer came before the time-out or the end of ctx. The events may be in the
//     stream, or not, or get there later. Another append at the same revision succeeds only if this one has not been done and never
//     will be.
//   - ctx's error, if ctx ended before anything was sent. If something was sent, the error is both that and [ErrOutcomeUnknown].
//   - [*Refused], [ErrTooLarge], [ErrDeleted], [ErrClosed], or another error if the event store refuses the append or the append is invalid: no
//     events, a type that cannot be stored, an impossible revision or stream name. Nothing was written.
//
// When no answer comes, Append looks for the ids in the stream, and if they are not there sends the same again, until the time-out.
// The event store, too, compares the ids with those stored from the expected revision on, so that nothing is written twice and
// nothing that was written goes unnoticed. With [Any] both compare with the stream's last events only.
func (s *Store) Append(ctx context.Context, stream string, expected domain.Revision, events ...Proposed) (at Appended, err error) {
	start := time.Now()
	ctx, span := StartSpan(ctx, "append", stream)
	defer func() { span.End(err) }()
	proposed, err := s.propose(stream, expected, events)
	if err != nil {
		return Appended{}, fmt.Errorf("append to %q: %w", stream, err)
	}
	appended, err := s.append(ctx, stream, expected, proposed)
	if err != nil {
		if errors.Is(err, ErrOutcomeUnknown) {
			s.metrics.unknown.Inc()
		}
		return Appended{}, fmt.Errorf("append to %q: %w", stream, err)
	}
	s.metrics.appends.Observe(time.Since(start).Seconds())
	appended.IDs = make([]uuid.UUID, len(proposed))
	for i, e := range proposed {
		appended.IDs[i] = e.id
	}
	return appended, nil
}

// propose validates an append and encodes its events.
func (s *Store) propose(stream string, expected domain.Revision, events []Proposed) ([]proposed, error) {
	switch {
	case !validStream(stream):
		return nil, errNoStreamName
	case expected < Any:
		return nil, fmt.Errorf("there is no revision %d", expected)
	case len(events) == 0:
		return nil, errors.New("no events")
	}
	all := make([]proposed, len(events))
	size := 0
	for i, e := range events {
		data, metadata, err := s.codec.encode(e)
		if err != nil {
			return nil, err
		}
		all[i] = newProposed(e.Event.EventType(), data, metadata)
		size += len(data) + len(metadata) + 2*len(e.Event.EventType())
	}
	if size > maxAppendBytes {
		return nil, fmt.Errorf("%w: %d bytes, of %d", ErrTooLarge, size, maxAppendBytes)
	}
	return all, nil
}

// proposed is an event ready to be sent.
type proposed struct {
	id      uuid.UUID
	message *streams.BatchAppendReq_ProposedMessage
}

// The content types that an event store knows.
const (
	contentJSON   = "application/json"
	contentBinary = "application/octet-stream"
)

// newProposed makes an event with a new id from its JSON.
func newProposed(eventType string, data, metadata []byte) proposed {
	id := uuid.New()
	return proposed{id, &streams.BatchAppendReq_ProposedMessage{
		Id:             structuredID(binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])),
		Metadata:       map[string]string{"type": eventType, "content-type": contentJSON},
		CustomMetadata: metadata,
		Data:           data,
	}}
}

func structuredID(most, least uint64) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: int64(most), LeastSignificantBits: int64(least),
	}}}
}

var errNoStreamName = errors.New("not a stream name")

// validStream reports whether the event store accepts the name for a stream.
func validStream(name string) bool {
	return name != "" && name != "$$" && name != "$all" && utf8.ValidString(name)
}

// append tries until there is an answer or the time-out has passed.
func (s *Store) append(ctx context.Context, stream string, expected domain.Revision, events []proposed) (Appended, error) {
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pauses, answerWaits := newPauses(), NewBackOff(firstAnswerWait, s.timeout)
	unanswered := false            // it was sent, and no answer came
	answerWait := time.Duration(0) // for the next try; 0 is until the time-out
	var failure error
	for try := 0; ; try++ {
		if try > 0 {
			s.metrics.appendRetry.Inc()
		}
		at, sent, err := s.send(timed, answerWait, stream, expected, events)
		if err == nil {
			return at, nil
		}
		if sent {
			unanswered, answerWait = true, answerWaits.NextBackOff()
		}
		failure = reason(timed, failure, err)
		var lost *WrongRevision
		var refused *refusal
		switch {
		case errors.As(err, &lost), errors.As(err, &refused), errors.Is(err, ErrClosed):
		case unanswered:
			var done bool
			if at, done, err = s.findAppended(timed, stream, expected, events); done {
				return at, nil
			} else if err == nil {
				continue
			}
			failure = reason(timed, failure, err)
		case pause(timed, pauses):
			continue
		}
		switch {
		case errors.As(err, &lost):
			// This settles an unanswered earlier try as well: the ids after the expected revision are not ours, so it has not been
			// done; and the stream never goes back to that revision, so it never will be. With Any, that holds only as far back as the
			// server compares ids.
			s.metrics.conflicts.Inc()
			if lost.Actual < expected {
				if err := s.connections.leader.check(timed); err != nil {
					return Appended{}, s.gaveUp(ctx, unanswered, err)
				}
			}
			return Appended{}, &WrongRevision{Stream: stream, Expected: expected, Actual: lost.Actual}
		case errors.As(err, &refused) && !unanswered:
			return Appended{}, refused.err
		case errors.As(err, &refused):
			return Appended{}, fmt.Errorf("%w (tried again, it was refused: %w)", ErrOutcomeUnknown, refused.err)
		}
		return Appended{}, s.gaveUp(ctx, unanswered, failure)
	}
}

// gaveUp is the error of an append that ran out of time, for which failure is the reason.
func (s *Store) gaveUp(ctx context.Context, unanswered bool, failure error) error {
	ended := ctx.Err()
	switch {
	case unanswered && ended != nil:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ended)
	case unanswered:
		return fmt.Errorf("%w: %v", ErrOutcomeUnknown, failure)
	case ended != nil:
		return ended
	case errors.Is(failure, ErrClosed):
		return ErrClosed
	case errors.Is(failure, ErrReplaced):
		return ErrReplaced
	default:
		return fmt.Errorf("%w: %v", ErrUnavailable, failure)
	}
}

// firstAnswerWait is about how long an append that is sent again waits for its answer before the stream is looked at again: it may have
// been dropped, see [Store.Append]. It doubles with each try.
const firstAnswerWait = 250 * time.Millisecond

// send sends an append once. An answerWait above 0 bounds the wait for the answer. With an error, sent reports whether the event store
// may do the append all the same.
func (s *Store) send(ctx context.Context, answerWait time.Duration, stream string, expected domain.Revision, events []proposed) (at Appended, sent bool, err error) {
	m, err := s.connections.leader.acquire(ctx)
	if err != nil {
		return Appended{}, false, err
	}
	defer m.release()
	batches, err := m.batchCall(ctx)
	if err != nil {
		return Appended{}, false, err
	}
	if answerWait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWait)
		defer cancel()
	}
	if batches != nil {
		at, sent, err = batches.append(ctx, s.timeout/2, stream, expected, events)
	} else {
		at, sent, err = sendSingly(s.connections.leader.call(ctx, m), stream, expected, events)
	}
	// An append at any revision is a checkpoint, which the next one replaces: it does not stay in the log.
	if err == nil && at.Position > 0 && expected != Any && stays(stream) {
		s.connections.log.saw(m.incarnation, at.Position, events[len(events)-1].id)
	}
	return at, sent, err
}

// sendSingly sends an append as a call of its own.
func sendSingly(c *call, stream string, expected domain.Revision, events []proposed) (at Appended, sent bool, err error) {
	defer c.end()
	request, err := c.Append(c, c.trailers())
	if err != nil {
		return Appended{}, false, c.failed(err)
	}
	// The event store can do the append only once all of it has been sent. A call that ends early makes Send return EOF; the reason then
	// comes in place of the answer.
	err = request.Send(appendHeader(stream, expected))
	for i := 0; err == nil && i < len(events); i++ {
		e := events[i].message
		err = request.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
			Id: e.Id, Metadata: e.Metadata, CustomMetadata: e.CustomMetadata, Data: e.Data,
		}}})
	}
	sent = err == nil
	if err != nil && !errors.Is(err, io.EOF) {
		return Appended{}, false, c.failed(err)
	}
	answer, err := request.CloseAndRecv()
	if err != nil {
		err = c.failed(err)
		var refused *refusal
		return Appended{}, sent && !errors.Is(err, errNotLeader) && !errors.As(err, &refused), err
	}
	c.member.answered()
	if wrong := answer.GetWrongExpectedVersion(); wrong != nil {
		actual := NoStream
		if _, ok := wrong.GetCurrentRevisionOption().(*streams.AppendResp_WrongExpectedVersion_CurrentRevision); ok {
			actual = domain.Revision(wrong.GetCurrentRevision())
		}
		return Appended{}, false, &WrongRevision{Actual: actual}
	}
	success := answer.GetSuccess()
	return Appended{
		Revision: domain.Revision(success.GetCurrentRevision()),
		Position: Position(success.GetPosition().GetCommitPosition()),
	}, false, nil
}

func appendHeader(stream string, expected domain.Revision) *streams.AppendReq {
	options := &streams.AppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}}
	switch expected {
	case NoStream:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
	case Any:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_Any{Any: &shared.Empty{}}
	default:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: uint64(expected)}
	}
	return &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: options}}
}

// lookupDelays are the waits before each look for an append that was sent and not answered. An event store shows what it has accepted
// some milliseconds later, in a cluster some tens.
var lookupDelays = [...]time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond}

// findAppended looks whether an append that was sent has been done. If done is false and the error nil it is not there, but may
// still come. A [*WrongRevision] says that it has not been done and never will be.
func (s *Store) findAppended(ctx context.Context, stream string, expected domain.Revision, events []proposed) (at Appended, done bool, err error) {
	for _, wait := range lookupDelays {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return Appended{}, false, context.Cause(ctx)
		}
		if expected == Any {
			at, done, err = s.findAmongLast(ctx, stream, events)
		} else {
			at, done, err = s.findAfter(ctx, stream, expected, events)
		}
		if done || err != nil {
			break
		}
	}
	return at, done, err
}

// findAfter looks for the events after the expected revision.
func (s *Store) findAfter(ctx context.Context, stream string, expected domain.Revision, events []proposed) (at Appended, done bool, err error) {
	found, others := 0, false
	err = s.read(ctx, s.connections.leader, readStream(stream, expected+1, uint64(len(events))), func(e *recordedEvent) bool {
		// A stream with a maximum count may have dropped ours.
		if revision := expected + 1 + domain.Revision(found); domain.Revision(e.GetStreamRevision()) != revision {
			return false
		}
		if others = eventID(e) != events[found].id; others {
			return false
		}
		found++
		at = Appended{Revision: domain.Revision(e.GetStreamRevision()), Position: Position(e.GetCommitPosition())}
		return found < len(events)
	})
	switch {
	case err != nil:
		return Appended{}, false, err
	case others:
		last, err := s.lastEvent(ctx, s.connections.leader, stream)
		if err != nil || last == nil {
			return Appended{}, false, err
		}
		return Appended{}, false, &WrongRevision{Actual: domain.Revision(last.GetStreamRevision())}
	}
	return at, found == len(events), nil
}

// findAmongLast looks for the events among the stream's last.
func (s *Store) findAmongLast(ctx context.Context, stream string, events []proposed) (at Appended, done bool, err error) {
	const maxLookBack = 256
	left := len(events) // still to be found; the stream is read from its end
	err = s.read(ctx, s.connections.leader, readStreamBack(stream, uint64(maxLookBack+len(events))), func(e *recordedEvent) bool {
		if eventID(e) != events[left-1].id {
			return left == len(events)
		}
		if left == len(events) {
			at = Appended{Revision: domain.Revision(e.GetStreamRevision()), Position: Position(e.GetCommitPosition())}
		}
		left--
		return left > 0
	})
	return at, err == nil && left == 0, err
}
