package eventstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

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

// Filters by the stream's name: all but the event store's own and metadata, and the same with the metadata of those.
const (
	movedStreams     = `^[^$]`
	describedStreams = `^([^$]|\$\$[^$])`
)

// StoredAfter yields the events of the log after a position, 0 for all of it, in order, up to the end of the log as it was when the read
// began, or later. It leaves out what means nothing in another event store or is made anew there: the streams of the event store itself,
// metadata, checkpoints, which are positions, and snapshots. Of these, all but the last may have been removed, and a stream cannot be made
// again without its first events. In a cluster the leader is read. The last thing yielded may be an error, one of [Store.ReadStream]'s.
func (s *Store) StoredAfter(ctx context.Context, after Position) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		request := readLog(math.MaxUint64, movedStreams)
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

// LastStored is the last event of the log that is not of the event store's own streams, or nil: of those that [Store.StoredAfter] yields, or
// that it leaves out though somebody has made them. Its errors are those of [Store.ReadStream].
func (s *Store) LastStored(ctx context.Context) (last *Stored, err error) {
	request := readLog(1, describedStreams)
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

// readLog reads events of the streams whose names match, from the start of the log.
func readLog(count uint64, names string) *streams.ReadReq {
	request := newRead(count)
	request.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
	}}
	request.Options.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: names},
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

// AppendStored appends an event as it was stored elsewhere, at the revision that it had. If it is there already it is not written again, so
// that a call may be repeated. Events that are appended one after the other are in the log in that order. The errors are those of
// [Store.Append].
func (s *Store) AppendStored(ctx context.Context, e Stored) error {
	if !validStream(e.Stream) || e.Revision < 0 {
		return fmt.Errorf("append event %d of %q: %w", e.Revision, e.Stream, errNoStreamName)
	}
	if _, err := s.append(ctx, e.Stream, e.Revision-1, []proposed{e.proposed()}); err != nil {
		return fmt.Errorf("append event %d of %q: %w", e.Revision, e.Stream, err)
	}
	return nil
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
