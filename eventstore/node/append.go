package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
)

// head is the end of a stream, synced or not.
type head struct {
	revision    int64  // of the last event, -1 if there is none
	position    uint64 // of the last event
	softDeleted bool   // its metadata says so
}

// decision says what became of an append.
type decision int

const (
	appended decision = iota
	repeated          // the same append was made before
	wrongRevision
	streamDeleted
)

// appendResult is the outcome of an append.
type appendResult struct {
	decision decision
	revision int64  // appended, repeated: of the append's last event; wrongRevision: the stream's last; -1 if there is none
	position uint64 // of the event with that revision; 0: cannot be told
	settled  uint64 // position that has to be durable before anyone may hear of this
}

// append adds the events to the stream if it is as expected, all or none, and returns when the outcome is on disk. The events
// are the log's from then on. It fails with errStopped, or with ctx's cause if that ends while the outcome of others is awaited.
//
// Appends are ordered by l.mu. Each is a batch of its own in Pebble's log, applied in that order without waiting for the disk,
// and Pebble syncs all that have gathered while its last sync ran in one go: a group commit without a goroutine of ours between
// a caller and the disk. Since the log is one sequence, the sync of a batch covers all before it.
func (l *eventLog) append(ctx context.Context, stream string, expected expectation, events []*event) (appendResult, error) {
	l.mu.Lock()
	if l.hasFailed() {
		l.mu.Unlock()
		return appendResult{}, errStopped
	}
	h, err := l.head(stream)
	if err != nil {
		l.mu.Unlock()
		return appendResult{}, err
	}
	result, err := l.decide(stream, h, expected, events)
	if err != nil || result.decision != appended || len(events) == 0 {
		l.mu.Unlock()
		if err != nil {
			return appendResult{}, err
		}
		return result, l.wait(ctx, result.settled)
	}
	p, err := l.write(stream, h, events)
	l.mu.Unlock()
	if err != nil {
		return appendResult{}, err
	}
	if err := l.sync(p); err != nil {
		return appendResult{}, err
	}
	last := events[len(events)-1]
	return appendResult{decision: appended, revision: last.revision(), position: last.position}, nil
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
	if _, isMetastream := originalOf(stream); !isMetastream {
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
func (l *eventLog) decide(stream string, h head, expected expectation, events []*event) (appendResult, error) {
	wrong := appendResult{decision: wrongRevision, revision: h.revision, settled: h.position}
	accepted := appendResult{decision: appended, revision: h.revision, position: l.last, settled: l.last}
	if expected == expectStreamExists {
		if h.softDeleted {
			return appendResult{decision: streamDeleted, settled: l.last}, nil
		}
		if h.revision < 0 {
			metadata, err := l.head(metastreamOf(stream))
			if err != nil {
				return appendResult{}, err
			}
			if metadata.revision < 0 {
				return wrong, nil
			}
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
	r, err := l.lastRecord(metastreamOf(stream), l.last)
	if err != nil || r == nil {
		return result, err
	}
	m := parseStreamMetadata(r)
	if m.softDeleted() || last.revision() < m.first(h.revision) || last.created() < m.notBefore(time.Now()) {
		result.position = 0
	}
	return result, nil
}

// pending is an append that the database has and the disk may not.
type pending struct {
	batch *pebble.Batch
	last  uint64 // position of its last event
	// describes is the stream whose metadata it changes, if any.
	describes string
}

// write puts the events at the end of stream, which is h, and hands them to the database without waiting for the disk. An error
// leaves memory and database apart and stops the log. l.mu must be held.
func (l *eventLog) write(stream string, h head, events []*event) (pending, error) {
	p := pending{batch: l.db.NewBatch()}
	created := ticks(time.Now())
	var err error
	if original, ok := originalOf(stream); ok {
		p.describes = original
		err = l.addMetadata(p.batch, original, h, events, created)
	} else {
		firstNew := h.revision + 1
		err = l.add(p.batch, stream, &h, events, created)
		if err == nil && h.softDeleted {
			p.describes = stream
			err = l.revive(p.batch, stream, firstNew, created)
			h.softDeleted = false
		}
		l.heads.Add(stream, h)
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

// sync waits for the disk.
func (l *eventLog) sync(p pending) error {
	err := p.batch.SyncWait()
	l.syncing.Add(-1)
	if err != nil {
		l.fail(err)
		return errStopped
	}
	l.advance(p.last)
	if p.describes != "" {
		l.metadata.forget(p.describes)
	}
	return p.batch.Close()
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

// addMetadata adds events to the metadata stream of original, which ends at h. New metadata brings a soft-deleted stream back,
// empty: a copy that hides the former events follows (Services/Storage/StorageWriterService.cs, SoftUndeleteMetastream).
func (l *eventLog) addMetadata(batch *pebble.Batch, original string, h head, events []*event, created int64) error {
	end, err := l.head(original)
	if err != nil {
		return err
	}
	metastream := metastreamOf(original)
	if err := l.add(batch, metastream, &h, events, created); err != nil {
		return err
	}
	latest := events[len(events)-1]
	if end.softDeleted {
		if truncated := truncatedMetadata(latest.record, end.revision+1); truncated != nil {
			latest = metadataEvent(metastream, truncated)
			if err := l.add(batch, metastream, &h, []*event{latest}, created); err != nil {
				return err
			}
		}
	}
	l.heads.Add(metastream, h)
	end.softDeleted = parseStreamMetadata(latest.record).softDeleted()
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
	if err := l.add(batch, metastream, &end, []*event{metadataEvent(metastream, truncatedMetadata(latest.record, first))}, created); err != nil {
		return err
	}
	l.heads.Add(metastream, end)
	return nil
}

// truncatedMetadata is the stream metadata in r with $tb set to first and all else kept, or nil if r has none.
func truncatedMetadata(r record, first int64) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(r.data(), &all) != nil || all == nil {
		return nil
	}
	all["$tb"] = strconv.AppendInt(nil, first, 10)
	data, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return data
}

// metadataEvent is one that the store itself writes.
func metadataEvent(metastream string, data []byte) *event {
	return &event{record: newRecord(metastream, eventID(uuid.New()), []byte(metadataEventType), true, nil, data)}
}
