package eventstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/domain"
)

// Stored is an event as it is stored, for moving a log from one event store to another.
type Stored struct {
	ID       uuid.UUID
	Stream   string
	Revision domain.Revision
	// Position is that in the log it was read from; the event has another one elsewhere.
	Position Position
	Type     string
	// Created is when the event store wrote the event. Elsewhere it is another time; when the event was decided is in its metadata.
	Created time.Time
	// JSON is whether the data is marked as JSON.
	JSON           bool
	Data, Metadata []byte
}

// snapshotType is the type of snapshots' events.
var snapshotType = domain.CalendarSnapshot{}.EventType()

// movedStreams matches the streams that [Store.StoredAfter] yields: all but the event store's own, and the metadata of those.
const movedStreams = `^([^$]|\$\$[^$])`

// StoredAfter yields the events of the log after a position, 0 for all of it, in order, up to the end of the log as it was when the read
// began, or later. It leaves out what means nothing in another event store or is made anew there: the streams of the event store itself,
// checkpoints, which are positions, and snapshots. Of both, older ones may be gone, and a stream cannot be made again without them. In a cluster the leader is read. The last thing yielded may be an error, one of [Store.ReadStream]'s.
func (s *Store) StoredAfter(ctx context.Context, after Position) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		request := readMoved(math.MaxUint64)
		all := request.Options.GetAll()
		from := func(p Position) {
			all.AllOption = &streams.ReadReq_Options_AllOptions_Position{
				Position: &streams.ReadReq_Options_Position{CommitPosition: uint64(p), PreparePosition: uint64(p)},
			}
		}
		if after > 0 {
			from(after)
		}
		err := s.read(ctx, s.connections.leader, request, func(e *recordedEvent) bool {
			if p := Position(e.GetCommitPosition()); p > after {
				after = p
				from(p) // for a retry, which yields nothing twice
				if stored := storedEvent(e); stored.Type != checkpointType && stored.Type != snapshotType {
					return yield(stored, nil)
				}
			}
			return true
		})
		if err != nil {
			yield(Stored{}, fmt.Errorf("read the log after position %d: %w", after, err))
		}
	}
}

// LastStored is the last of the events that [Store.StoredAfter] would yield or would leave out as a checkpoint, or nil. Its errors are those
// of [Store.ReadStream].
func (s *Store) LastStored(ctx context.Context) (last *Stored, err error) {
	request := readMoved(1)
	request.Options.ReadDirection = streams.ReadReq_Options_Backwards
	request.Options.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}}
	err = s.read(ctx, s.connections.leader, request, func(e *recordedEvent) bool {
		stored := storedEvent(e)
		last = &stored
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("read the last event of the log: %w", err)
	}
	return last, nil
}

// readMoved reads the log from its start.
func readMoved(count uint64) *streams.ReadReq {
	request := newRead(count)
	request.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
	}}
	request.Options.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: movedStreams},
		},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: 32},
		CheckpointIntervalMultiplier: 1,
	}}
	return request
}

func storedEvent(e *recordedEvent) Stored {
	const tick = 100 * time.Nanosecond // of .NET
	created, _ := strconv.ParseInt(e.GetMetadata()["created"], 10, 64)
	return Stored{
		ID:       eventID(e),
		Stream:   string(e.GetStreamIdentifier().GetStreamName()),
		Revision: domain.Revision(e.GetStreamRevision()),
		Position: Position(e.GetCommitPosition()),
		Type:     e.GetMetadata()["type"],
		Created:  time.Unix(created/int64(time.Second/tick), created%int64(time.Second/tick)*int64(tick)).UTC(),
		JSON:     e.GetMetadata()["content-type"] == contentJSON,
		Data:     e.GetData(),
		Metadata: e.GetCustomMetadata(),
	}
}

// AppendStored appends events as they were stored elsewhere, in order, each at the revision that it had. An event that is there already is
// not written again, so that a call may be repeated. The events are sent without waiting for one another's answers; with an error, one of
// [Store.Append]'s, an unknown number of them has been written, from the beginning, and the call is to be repeated before any other.
//
// Nobody else may append meanwhile.
func (s *Store) AppendStored(ctx context.Context, events []Stored) error {
	w, stop := s.newIdleContext(ctx)
	defer stop()
	pauses := newPauses()
	var failure error
	for len(events) > 0 {
		done, err := s.appendStoredOnce(w, events)
		events = events[done:]
		if done > 0 { // progress
			w.resume()
			pauses.Reset()
		}
		var refused *refusal
		var lost *WrongRevision
		switch {
		case err == nil:
			continue
		case errors.As(err, &refused):
			return fmt.Errorf("append to %q: %w", events[0].Stream, refused.err)
		case errors.As(err, &lost):
			return &WrongRevision{Stream: events[0].Stream, Expected: events[0].Revision - 1, Actual: lost.Actual}
		}
		failure = reason(w, failure, err)
		if !pause(w, pauses) {
			return fmt.Errorf("append to %q: %w", events[0].Stream, w.ended(failure))
		}
	}
	return nil
}

// appendStoredOnce makes one call that carries the events, and returns how many of them, from the first on, have been written.
func (s *Store) appendStoredOnce(ctx context.Context, events []Stored) (done int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := s.connections.leader.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer c.done()
	call, err := c.BatchAppend(c)
	if status.Code(err) == codes.Unimplemented {
		return 0, &refusal{errors.New("the event store has no BatchAppend: it must be version 21.10 or newer")}
	}
	if err != nil {
		return 0, c.failed(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i, e := range events {
			request := newBatch(e.Stream, e.Revision-1, []proposed{e.proposed()})
			request.CorrelationId = structuredID(0, uint64(i))
			if call.Send(request) != nil {
				return // the answer says why
			}
		}
	}()
	defer func() {
		cancel()
		<-sent
	}()
	// The answers come in any order.
	written := make([]bool, len(events))
	for answers := 0; answers < len(events); answers++ {
		answer, err := call.Recv()
		if err != nil {
			return done, c.member.failed(err, call.Trailer())
		}
		at := answer.GetCorrelationId().GetStructured().GetLeastSignificantBits()
		if at < 0 || at >= int64(len(events)) {
			return done, fmt.Errorf("an answer to an append that was not sent: %d", at)
		}
		if failed, ok := answer.GetResult().(*streams.BatchAppendResp_Error); ok {
			// Of several failures the first one is the cause: the others are of its stream.
			if int(at) == done {
				_, err := c.member.batchFailed(events[at].Stream, failed.Error)
				return done, err
			}
			continue
		}
		written[at] = true
		for done < len(events) && written[done] {
			done++
		}
	}
	if done < len(events) {
		return done, errors.New("the event store refused some appends and did others")
	}
	return done, nil
}

// proposed is the event to send again, under its id.
func (e Stored) proposed() proposed {
	contentType := contentJSON
	if !e.JSON {
		contentType = contentBinary
	}
	return proposed{e.ID, &streams.BatchAppendReq_ProposedMessage{
		Id:             structuredID(binary.BigEndian.Uint64(e.ID[:8]), binary.BigEndian.Uint64(e.ID[8:])),
		Metadata:       map[string]string{"type": e.Type, "content-type": contentType},
		CustomMetadata: e.Metadata,
		Data:           e.Data,
	}}
}
