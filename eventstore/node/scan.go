package node

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

const (
	pageEvents = 256
	pageBytes  = 256 << 10

	firstPageEvents = 32 // of a read of a stream
)

// page is a run of events that is read at once, so that no database iterator is open while a slow client is being served. It is
// reused; its events are valid until it is filled again.
type page struct {
	events []event
	arena  []byte
}

func (p *page) reset() { p.events, p.arena = p.events[:0], p.arena[:0] }

// full reports whether the page has what it can take, or limit events.
func (p *page) full(limit uint64) bool {
	return uint64(len(p.events)) >= min(limit, pageEvents) || len(p.arena) >= pageBytes
}

// store adds an event whose bytes belong to the database.
func (p *page) store(position uint64, stored []byte) error {
	r, err := parseRecord(stored)
	if err != nil {
		return fmt.Errorf("event at position %d: %w", position, err)
	}
	at := len(p.arena)
	p.arena = append(p.arena, r...)
	p.events = append(p.events, event{position, record(p.arena[at:len(p.arena):len(p.arena)])})
	return nil
}

// read fills p with the events from position from to position to, both durable: backwards if to is the lower. It stops early at
// limit, and may do so before, but not before the first. It reports whether all came from memory.
func (l *eventLog) read(p *page, from, to, limit uint64) (fromMemory bool, err error) {
	p.reset()
	step := uint64(1)
	if to < from {
		step = math.MaxUint64 // -1
	}
	for at := from; at != to+step && !p.full(limit); at += step {
		e := l.recent.get(at)
		if e == nil {
			break
		}
		p.events = append(p.events, *e)
	}
	if len(p.events) > 0 {
		return true, nil
	}
	it, err := l.db.NewIter(&pebble.IterOptions{
		LowerBound: appendEventKey(nil, min(from, to)),
		UpperBound: appendEventKey(nil, max(from, to)+1),
	})
	if err != nil {
		return false, err
	}
	first, next := it.First, it.Next
	if to < from {
		first, next = it.Last, it.Prev
	}
	for ok := first(); ok && !p.full(limit) && err == nil; ok = next() {
		err = p.take(it)
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return false, err
	}
	return false, l.dense(p, from, step)
}

// dense checks that p begins with the event at position from, which must be durable, and that no event is missing. Otherwise a
// reader would loop, or skip an event.
func (l *eventLog) dense(p *page, from, step uint64) error {
	for i := range max(len(p.events), 1) {
		if i == len(p.events) || p.events[i].position != from {
			return l.failDamaged(missingEvent(from))
		}
		from += step
	}
	return nil
}

// take adds the event at the iterator.
func (p *page) take(it *pebble.Iterator) error {
	position, err := parseEventKey(it.Key())
	if err != nil {
		return err
	}
	stored, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	return p.store(position, stored)
}

// event returns the event at position, synced or not.
func (l *eventLog) event(position uint64) (*event, error) {
	if e := l.recent.get(position); e != nil {
		return e, nil
	}
	var key [eventKeySize]byte
	stored, closer, err := l.db.Get(appendEventKey(key[:0], position))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, l.failDamaged(missingEvent(position))
	}
	if err != nil {
		return nil, fmt.Errorf("event at position %d: %w", position, err)
	}
	var p page
	if err := errors.Join(p.store(position, stored), closer.Close()); err != nil {
		return nil, err
	}
	return &p.events[0], nil
}

// lookup reads events by position. The events of one page are often close together in the log and share blocks of the database,
// which an iterator keeps loaded; Get would search from the top each time.
type lookup struct {
	log *eventLog
	it  *pebble.Iterator // nil before the first event that is not in memory
}

// take adds the event at position.
func (u *lookup) take(p *page, position uint64) error {
	if e := u.log.recent.get(position); e != nil {
		p.events = append(p.events, *e)
		return nil
	}
	if u.it == nil {
		it, err := u.log.db.NewIter(&pebble.IterOptions{LowerBound: []byte{eventPrefix}, UpperBound: []byte{eventPrefix + 1}})
		if err != nil {
			return err
		}
		u.it = it
	}
	var key [eventKeySize]byte
	if k := appendEventKey(key[:0], position); !u.it.SeekGE(k) || !bytes.Equal(u.it.Key(), k) {
		if err := u.it.Error(); err != nil {
			return err
		}
		return u.log.failDamaged(missingEvent(position))
	}
	return p.take(u.it)
}

func (u *lookup) close() error {
	if u.it == nil {
		return nil
	}
	return u.it.Close()
}

// streamIterator walks the index of one stream within the durable part of the log.
type streamIterator struct {
	*pebble.Iterator
	durable uint64
}

func (l *eventLog) streamIterator(stream string, durable uint64) (streamIterator, error) {
	bounds := make([]byte, 0, 2*streamKeySize(stream))
	lower := appendStreamKey(bounds, stream, 0)
	upper := appendStreamKey(lower, stream, -1)[len(lower):] // above every revision
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	return streamIterator{it, durable}, err
}

// last moves to the stream's last durable event and reports whether there is one.
func (s streamIterator) last() (bool, error) {
	for ok := s.Last(); ok; ok = s.Prev() {
		position, err := s.position()
		if err != nil {
			return false, err
		}
		if position <= s.durable {
			return true, nil
		}
	}
	return false, s.Error()
}

func (s streamIterator) revision() int64 { return streamKeyRevision(s.Key()) }

func (s streamIterator) position() (uint64, error) {
	value, err := s.ValueAndErr()
	if err != nil {
		return 0, err
	}
	return parsePosition(value)
}
