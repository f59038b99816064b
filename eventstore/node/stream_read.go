package node

import (
	"errors"
	"math"
	"time"
)

// streamView is what readers see of one stream at one moment.
type streamView struct {
	name        string
	durable     uint64 // events beyond this position are not shown
	exists      bool
	tombstoned  bool
	first, last int64 // revisions shown; none if first > last
	notBefore   int64 // events created earlier have expired, in 100 ns since the Unix epoch
}

// view returns what stream shows as of position durable.
func (l *eventLog) view(stream string, durable uint64) (streamView, error) {
	v := streamView{name: stream, durable: durable, last: -1, notBefore: math.MinInt64}
	if l.streams.lacks(stream) {
		var err error
		v.tombstoned, err = l.tombstoned(stream, v.last, durable)
		return v, err
	}
	it, err := l.streamIterator(stream, durable)
	if err != nil {
		return v, err
	}
	ok, err := it.last()
	if ok {
		v.last = it.revision()
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return v, err
	}
	if v.tombstoned, err = l.tombstoned(stream, v.last, durable); err != nil || v.tombstoned || !ok {
		return v, err
	}
	m, err := l.streamMetadata(stream)
	if err != nil {
		return v, err
	}
	v.exists = !m.softDeleted()
	v.first = m.first(v.last)
	v.notBefore = m.notBefore(time.Now())
	return v, nil
}

// tombstoned reports whether stream, which ends with revision last as of position durable, is deleted for good. A metadata stream
// goes with the stream that it describes.
func (l *eventLog) tombstoned(stream string, last int64, durable uint64) (bool, error) {
	if last == tombstoneRevision {
		return true, nil
	}
	original, ok := originalOf(stream)
	if !ok || l.streams.lacks(original) {
		return false, nil
	}
	it, err := l.streamIterator(original, durable)
	if err != nil {
		return false, err
	}
	ok, err = it.last()
	deleted := ok && it.revision() == tombstoneRevision
	return deleted, errors.Join(err, it.Close())
}

// readStream fills p with events of v from revision from on, or backwards, at most limit. It returns the revision to go on from,
// and whether v has one there.
func (l *eventLog) readStream(p *page, v streamView, from int64, backward bool, limit uint64) (next int64, more bool, err error) {
	p.reset()
	next = max(from, v.first)
	step := int64(1)
	if backward {
		next, step = min(from, v.last), -1
	}
	if !v.shows(next) {
		return next, false, nil
	}
	it, err := l.streamIterator(v.name, v.durable)
	if err != nil {
		return next, false, err
	}
	ok, move := it.SeekGE(appendStreamKey(nil, v.name, next)), it.Next
	if backward {
		ok, move = it.SeekLT(appendStreamKey(nil, v.name, next+1)), it.Prev
	}
	events := lookup{log: l}
	whole := true
	for ; v.shows(next) && !p.full(limit); ok = move() {
		if whole = ok && it.revision() == next; !whole {
			break
		}
		next += step
		if err = events.takeUnexpired(p, it, v); err != nil {
			break
		}
	}
	if err := errors.Join(err, events.close(), it.Close()); err != nil || whole {
		return next, v.shows(next), err
	}
	return next, false, l.failDamaged(missingRevision(v.name, next))
}

// shows reports whether v has the revision.
func (v streamView) shows(revision int64) bool { return v.first <= revision && revision <= v.last }

// takeUnexpired adds the event at the iterator unless it has expired.
func (u *lookup) takeUnexpired(p *page, it streamIterator, v streamView) error {
	position, err := it.position()
	if err != nil {
		return err
	}
	if err := u.take(p, position); err != nil {
		return err
	}
	if last := len(p.events) - 1; p.events[last].created() < v.notBefore {
		p.events = p.events[:last]
	}
	return nil
}

// begins returns the first revisions to report to a reader that asks for limit events from revision from on. EventStoreDB reports
// one if its first page is empty, and another one if the next page is empty too.
func (l *eventLog) begins(v streamView, from int64, limit uint64) (begins []int64, err error) {
	if pageEnd(from, limit) < v.first {
		from = v.first
		begins = append(begins, from)
	}
	begin := v.last + 1
	if max(from, v.first) <= v.last {
		if begin, err = l.firstUnexpired(v, from); err != nil || begin <= min(pageEnd(from, limit), v.last) {
			return begins, err
		}
	}
	if begin != from {
		begins = append(begins, begin)
	}
	return begins, nil
}

// pageEnd is the last revision that EventStoreDB looks at in its first page.
func pageEnd(from int64, limit uint64) int64 {
	if end := from + int64(min(limit, firstPage)) - 1; end >= from {
		return end
	}
	return math.MaxInt64
}

// firstUnexpired returns the first revision of v at or after from that is shown, or the one after its last.
func (l *eventLog) firstUnexpired(v streamView, from int64) (int64, error) {
	next := max(from, v.first)
	if v.notBefore == math.MinInt64 {
		return next, nil
	}
	var p page
	for next <= v.last {
		var err error
		if next, _, err = l.readStream(&p, v, next, false, 1); err != nil {
			return next, err
		}
		if len(p.events) > 0 {
			return p.events[0].revision(), nil
		}
	}
	return next, nil
}
