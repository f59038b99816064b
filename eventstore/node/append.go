package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
)

// head is the end of a stream, synced or not.
type head struct {
	revision    int64  // of the last event, -1 if there is none
	position    uint64 // of the last event
	softDeleted bool   // its metadata says so, and there is no tombstone
}

// A tombstone is the last event of a stream for ever.
const (
	tombstoneRevision = math.MaxInt64
	tombstoneType     = "$streamDeleted"
)

func (h head) tombstoned() bool { return h.revision == tombstoneRevision }

// change is a write to a stream: events at its end, or its deletion.
type change struct {
	stream   string
	expected expectation
	events   []*event // the log's from the moment that it is given to begin
	deletion deletion
}

type deletion int

const (
	noDeletion deletion = iota
	softDeletion
	hardDeletion
)

// newDeletion returns the change that deletes stream, for good or until something is appended to it.
func newDeletion(stream string, expected expectation, kind deletion) change {
	c := change{stream: stream, expected: expected, deletion: kind}
	if kind == hardDeletion {
		c.events = []*event{{record: newRecord(stream, eventID(uuid.New()), []byte(tombstoneType), false, nil, nil)}}
	} else {
		data := fmt.Appendf(nil, `{"$tb":%d}`, softDeleted)
		c.events = []*event{metadataEvent(metastreamOf(stream), data)}
	}
	return c
}

// decision is the kind of outcome of a change.
type decision int

const (
	appended decision = iota
	repeated          // the same append was made before
	wrongRevision
	streamDeleted
)

// appendResult is the outcome of a change.
type appendResult struct {
	decision decision
	revision int64  // appended, repeated: of the append's last event; wrongRevision: the stream's last; -1 if there is none
	position uint64 // appended, repeated: of the last event written; 0: cannot be told
	settled  uint64 // position that has to be durable before the outcome may be told
}

// append makes the change if the stream is as expected, as a whole or not at all, and returns when the outcome is on disk. It
// fails with errStopped, or with ctx's cause if that ends while the outcome of others is awaited.
//
// Changes are ordered by l.mu. Each is a batch of its own in Pebble's log, applied in that order without waiting for the disk,
// and Pebble syncs all that have gathered while its last sync ran in one go: a group commit without a goroutine of ours between
// a caller and the disk. Since the log is one sequence, the sync of a batch covers all before it.
func (l *eventLog) append(ctx context.Context, c change) (appendResult, error) {
	p, err := l.begin(c)
	if err != nil {
		return appendResult{}, err
	}
	return l.finish(ctx, p)
}

// pending is a change whose outcome is decided, and which may not be on disk.
type pending struct {
	result appendResult
	batch  *pebble.Batch // nil: nothing is written
	last   uint64        // position of its last event
	// describes is the stream whose metadata it changes, if any.
	describes string
}

// begin decides on a change and hands what it writes to the database. The outcome must not be told before finish has returned.
func (l *eventLog) begin(c change) (pending, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hasFailed() {
		return pending{}, errStopped
	}
	h, err := l.head(c.stream)
	if err != nil {
		return pending{}, err
	}
	result, err := l.decide(c, h)
	if err != nil || result.decision != appended {
		return pending{result: result}, err
	}
	return l.write(c, h)
}

// finish waits until the outcome of a change is on disk.
func (l *eventLog) finish(ctx context.Context, p pending) (appendResult, error) {
	if p.batch == nil {
		return p.result, l.wait(ctx, p.result.settled)
	}
	err := p.batch.SyncWait()
	l.syncing.Add(-1)
	if err != nil {
		l.fail(err)
		return appendResult{}, errStopped
	}
	l.advance(p.last)
	if p.describes != "" {
		l.metadata.forget(p.describes)
	}
	return p.result, p.batch.Close()
}

// head returns the end of stream. l.mu must be held.
func (l *eventLog) head(stream string) (head, error) {
	if h, ok := l.heads.Get(stream); ok {
		return h, nil
	}
	h := head{revision: -1}
	if !l.streams.lacks(stream) {
		it, err := l.streamIterator(stream, l.last)
		if err != nil {
			return h, err
		}
		ok, err := it.last()
		if ok {
			h.revision = it.revision()
			h.position, err = it.position()
		}
		if err := errors.Join(err, it.Close()); err != nil {
			return h, err
		}
	}
	if _, isMetastream := originalOf(stream); !isMetastream && !h.tombstoned() {
		r, err := l.lastRecord(metastreamOf(stream), l.last)
		if err != nil {
			return h, err
		}
		h.softDeleted = r != nil && parseStreamMetadata(r).softDeleted()
	}
	if h.revision >= 0 || h.softDeleted {
		l.heads.Add(stream, h)
	}
	return h, nil
}

// decide applies the rules of expected revisions and of idempotency (Services/Storage/ReaderIndex/IndexWriter.cs, CheckCommit).
// Only event ids are compared. l.mu must be held.
func (l *eventLog) decide(c change, h head) (appendResult, error) {
	stream, expected, events := c.stream, c.expected, c.events
	wrong := appendResult{decision: wrongRevision, revision: h.revision, settled: h.position}
	accepted := appendResult{decision: appended}
	if h.tombstoned() || expected == expectStreamExists && h.softDeleted {
		return appendResult{decision: streamDeleted, settled: l.last}, nil
	}
	if h.revision < 0 && (expected == expectStreamExists || c.deletion == softDeletion) {
		metadata, err := l.head(metastreamOf(stream))
		if err != nil {
			return appendResult{}, err
		}
		if metadata.revision < 0 {
			return wrong, nil
		}
	}
	if original, ok := originalOf(stream); ok && c.deletion == softDeletion {
		described, err := l.head(original)
		if err != nil {
			return appendResult{}, err
		}
		if described.tombstoned() {
			return appendResult{}, invalidArgument("the metadata of a tombstoned stream cannot be deleted")
		}
	}
	if expected == expectAny || expected == expectStreamExists {
		last, all, err := l.recall(stream, events)
		switch {
		case err != nil:
			return appendResult{}, err
		case last == nil:
			return accepted, nil
		case !all:
			return wrong, nil
		}
		return l.repeat(stream, h, last)
	}
	if int64(expected) >= h.revision {
		if int64(expected) > h.revision {
			return wrong, nil
		}
		return accepted, nil
	}
	last, matching, err := l.compare(stream, int64(expected)+1, events)
	switch {
	case err != nil:
		return appendResult{}, err
	case matching == len(events) && matching > 0:
		return l.repeat(stream, h, last)
	case matching == 0 && expected == expectNoStream && h.softDeleted && len(events) > 0:
		return accepted, nil
	}
	return wrong, nil
}

// recall looks the events' ids up in memory, for an append that expects no particular revision. Nil: the first is not known to
// be in the stream. Otherwise it returns the last event that is, and whether all are.
func (l *eventLog) recall(stream string, events []*event) (last *event, all bool, err error) {
	for _, e := range events {
		position := l.ids.position(e.id())
		if position == 0 {
			return last, false, nil
		}
		known, err := l.event(position)
		if err != nil {
			return nil, false, err
		}
		if string(known.stream()) != stream {
			return last, false, nil
		}
		last = known
	}
	return last, true, nil
}

// compare counts how many of the events' ids the stream has from revision first on, in order, and returns the last of them.
func (l *eventLog) compare(stream string, first int64, events []*event) (last *event, matching int, err error) {
	if len(events) == 0 {
		return nil, 0, nil
	}
	it, err := l.streamIterator(stream, l.last)
	if err != nil {
		return nil, 0, err
	}
	ok := it.SeekGE(appendStreamKey(nil, stream, first))
	for ; ok && matching < len(events); ok = it.Next() {
		position, err := it.position()
		if err != nil {
			return nil, 0, errors.Join(err, it.Close())
		}
		stored, err := l.event(position)
		if err != nil {
			return nil, 0, errors.Join(err, it.Close())
		}
		if stored.id() != events[matching].id() {
			break
		}
		last = stored
		matching++
	}
	return last, matching, it.Close()
}

// repeat is the outcome of an append that was made before and ended with last: what it was then. The position is withheld if
// readers can no longer see the event.
func (l *eventLog) repeat(stream string, h head, last *event) (appendResult, error) {
	result := appendResult{decision: repeated, revision: last.revision(), position: last.position, settled: h.position}
	m := metastreamMetadata
	if _, ok := originalOf(stream); !ok {
		r, err := l.lastRecord(metastreamOf(stream), l.last)
		if err != nil || r == nil {
			return result, err
		}
		m = parseStreamMetadata(r)
	}
	if m.softDeleted() || last.revision() < m.first(h.revision) || last.created() < m.notBefore(time.Now()) {
		result.position = 0
	}
	return result, nil
}

// write puts the change behind h, the end of its stream, and hands it to the database without waiting for the disk. An error
// leaves memory and database apart and stops the log. l.mu must be held.
func (l *eventLog) write(c change, h head) (pending, error) {
	p := pending{batch: l.db.NewBatch(), result: appendResult{decision: appended, revision: h.revision}}
	created := ticks(time.Now())
	var err error
	switch original, describes := describedBy(c.stream); {
	case len(c.events) == 0:
		p.result.position, err = l.addNothing(p.batch, created)
	case c.deletion == softDeletion:
		_, isMetastream := originalOf(c.stream)
		h.softDeleted = !isMetastream
		p.describes = c.stream
		err = l.addTo(p.batch, metastreamOf(c.stream), c.events, created)
	case c.deletion == hardDeletion:
		l.streams.add(c.stream)
		h = head{revision: tombstoneRevision - 1}
		err = l.add(p.batch, c.stream, &h, c.events, created)
	case describes:
		p.describes = original
		err = l.addMetadata(p.batch, original, &h, c.events, created)
	default:
		err = l.add(p.batch, c.stream, &h, c.events, created)
	}
	if len(c.events) > 0 {
		last := c.events[len(c.events)-1]
		p.result.revision, p.result.position = last.revision(), last.position
	}
	if err == nil && h.softDeleted && c.deletion == noDeletion {
		p.describes = c.stream
		err = l.revive(p.batch, c.stream, p.result.revision+1-int64(len(c.events)), created)
		h.softDeleted = false
	}
	if h.revision >= 0 || h.softDeleted {
		l.heads.Add(c.stream, h)
	}
	p.last = l.last
	if err == nil {
		l.syncing.Add(1)
		err = recovered(func() error { return l.db.ApplyNoSyncWait(p.batch, pebble.Sync) })
	}
	if err != nil {
		l.fail(err)
		return p, errStopped
	}
	return p, nil
}

// noStream is the name, which no client can use, of the stream of what appends of no events leave behind: each has a position of
// its own, as in EventStoreDB.
const noStream = ""

// addNothing adds an event that is never shown, and returns its position.
func (l *eventLog) addNothing(batch *pebble.Batch, created int64) (position uint64, err error) {
	nothing := &event{record: newRecord(noStream, eventID(uuid.New()), nil, false, nil, nil)}
	err = l.addTo(batch, noStream, []*event{nothing}, created)
	return nothing.position, err
}

// addTo adds the events to a stream other than the one that is appended to.
func (l *eventLog) addTo(batch *pebble.Batch, stream string, events []*event, created int64) error {
	h, err := l.head(stream)
	if err != nil {
		return err
	}
	err = l.add(batch, stream, &h, events, created)
	l.heads.Add(stream, h)
	return err
}

// add gives the events their places behind h, the end of stream, which it moves, and puts them into batch and memory.
func (l *eventLog) add(batch *pebble.Batch, stream string, h *head, events []*event, created int64) error {
	if h.revision < 0 {
		l.streams.add(stream)
	}
	for _, e := range events {
		l.last++
		h.revision++
		h.position = l.last
		e.position = l.last
		e.place(h.revision, created)

		entry := batch.SetDeferred(eventKeySize, len(e.record))
		appendEventKey(entry.Key[:0], e.position)
		copy(entry.Value, e.record)
		if err := entry.Finish(); err != nil {
			return err
		}
		entry = batch.SetDeferred(streamKeySize(stream), 8)
		appendStreamKey(entry.Key[:0], stream, h.revision)
		binary.BigEndian.PutUint64(entry.Value, e.position)
		if err := entry.Finish(); err != nil {
			return err
		}
		l.recent.add(e)
		l.ids.add(e.id(), e.position)
	}
	return nil
}

// addMetadata adds events behind h, the end of the metadata stream of original. New metadata brings a soft-deleted stream back,
// empty: a copy that hides the former events follows (Services/Storage/StorageWriterService.cs, SoftUndeleteMetastream).
func (l *eventLog) addMetadata(batch *pebble.Batch, original string, h *head, events []*event, created int64) error {
	end, err := l.head(original)
	if err != nil {
		return err
	}
	metastream := metastreamOf(original)
	if err := l.add(batch, metastream, h, events, created); err != nil {
		return err
	}
	latest := events[len(events)-1]
	if end.softDeleted {
		if truncated := truncatedMetadata(latest.record, end.revision+1); truncated != nil {
			latest = metadataEvent(metastream, truncated)
			if err := l.add(batch, metastream, h, []*event{latest}, created); err != nil {
				return err
			}
		}
	}
	end.softDeleted = !end.tombstoned() && parseStreamMetadata(latest.record).softDeleted()
	l.heads.Add(original, end)
	return nil
}

// revive follows an append to a soft-deleted stream: its metadata is repeated so that it hides all before revision first.
func (l *eventLog) revive(batch *pebble.Batch, stream string, first int64, created int64) error {
	metastream := metastreamOf(stream)
	end, err := l.head(metastream)
	if err != nil {
		return err
	}
	latest, err := l.event(end.position)
	if err != nil {
		return err
	}
	return l.addTo(batch, metastream, []*event{metadataEvent(metastream, truncatedMetadata(latest.record, first))}, created)
}

// truncatedMetadata is the stream metadata in r with $tb set to first and all else kept as it stands, or nil if r has none.
func truncatedMetadata(r record, first int64) []byte {
	if _, err := decodeMetadata(r.data()); err != nil {
		return nil
	}
	fields := json.NewDecoder(bytes.NewReader(r.data()))
	_, err := fields.Token() // of the object, which was decoded before
	truncated := []byte("{")
	add := func(key string, value json.RawMessage) {
		if len(truncated) > 1 {
			truncated = append(truncated, ',')
		}
		name, _ := json.Marshal(key) // a string is always encoded
		truncated = append(append(append(truncated, name...), ':'), value...)
	}
	replaced := false
	for err == nil && fields.More() {
		var key json.Token
		var value json.RawMessage
		if key, err = fields.Token(); err == nil {
			err = fields.Decode(&value)
		}
		if name, ok := key.(string); ok && err == nil {
			if name == "$tb" {
				value, replaced = strconv.AppendInt(nil, first, 10), true
			}
			add(name, value)
		}
	}
	if !replaced {
		add("$tb", strconv.AppendInt(nil, first, 10))
	}
	var compact bytes.Buffer
	if err != nil || json.Compact(&compact, append(truncated, '}')) != nil {
		return nil
	}
	return compact.Bytes()
}

// metadataEvent is one that the store itself writes.
func metadataEvent(metastream string, data []byte) *event {
	return &event{record: newRecord(metastream, eventID(uuid.New()), []byte(metadataEventType), true, nil, data)}
}
