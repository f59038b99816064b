package node

import (
	"errors"
	"math"
	"time"
)

// streamView is what one stream shows at one moment.
type streamView struct {
	name        string
	durable     uint64 // events beyond this position are not shown
	exists      bool
	first, last int64 // revisions shown; none if first > last
	notBefore   int64 // events created earlier have expired, in 100 ns since the Unix epoch
}

// view looks at stream as of position durable.
func (l *eventLog) view(stream string, durable uint64) (streamView, error) {
	v := streamView{name: stream, durable: durable, last: -1, notBefore: math.MinInt64}
	if l.streams.lacks(stream) {
		return v, nil
	}
	it, err := l.streamIterator(stream, durable)
	if err != nil {
		return v, err
	}
	ok, err := it.last()
	if ok {
		v.last = it.revision()
	}
	if err := errors.Join(err, it.Close()); err != nil || !ok {
		return v, err
	}
	m, err := l.streamMetadata(stream, durable)
	if err != nil {
		return v, err
	}
	v.exists = !m.softDeleted()
	v.first = m.first(v.last)
	v.notBefore = m.notBefore(time.Now())
	return v, nil
}

// readStreamForward fills p with events of v from revision from on, at most limit. It returns the revision to go on from, which
// is beyond v.last at the end.
func (l *eventLog) readStreamForward(p *page, v streamView, from int64, limit uint64) (next int64, err error) {
	p.reset()
	next = max(from, v.first)
	if next > v.last {
		return next, nil
	}
	it, err := l.streamIterator(v.name, v.durable)
	if err != nil {
		return next, err
	}
	events := lookup{log: l}
	whole := true
	for ok := it.SeekGE(appendStreamKey(nil, v.name, next)); next <= v.last && !p.full() && uint64(len(p.events)) < limit; ok = it.Next() {
		if whole = ok && it.revision() == next; !whole {
			break
		}
		next++
		if err = events.takeUnexpired(p, it, v); err != nil {
			break
		}
	}
	if err := errors.Join(err, events.close(), it.Close()); err != nil || whole {
		return next, err
	}
	return next, l.failDamaged(missingRevision(v.name, next))
}

// readStreamBackward fills p with events of v from revision from downwards, at most limit. It returns the revision to go on
// from, which is before v.first at the end.
func (l *eventLog) readStreamBackward(p *page, v streamView, from int64, limit uint64) (next int64, err error) {
	p.reset()
	next = min(from, v.last)
	if next < v.first {
		return next, nil
	}
	it, err := l.streamIterator(v.name, v.durable)
	if err != nil {
		return next, err
	}
	events := lookup{log: l}
	whole := true
	for ok := it.SeekLT(appendStreamKey(nil, v.name, next+1)); next >= v.first && !p.full() && uint64(len(p.events)) < limit; ok = it.Prev() {
		if whole = ok && it.revision() == next; !whole {
			break
		}
		next--
		if err = events.takeUnexpired(p, it, v); err != nil {
			break
		}
	}
	if err := errors.Join(err, events.close(), it.Close()); err != nil || whole {
		return next, err
	}
	return next, l.failDamaged(missingRevision(v.name, next))
}

// takeUnexpired adds the event that it stands on, unless it is too old.
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

// beginsLater tells a reader that asks for limit events from revision from on, and finds none of them, where the next one is
// or will be.
func (v streamView) beginsLater(from int64, limit uint64) (begin int64, ok bool) {
	asked := from + int64(min(limit, firstPage)) - 1
	if asked < from {
		asked = math.MaxInt64
	}
	switch {
	case asked < v.first:
		return v.first, true
	case from > v.last+1:
		return v.last + 1, true
	}
	return 0, false
}
