package commands

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// roomQueue is where commands of this process that use the same room's calendar wait for each other. Whatever is decided while an append
// is in flight goes into one batch, for the next append: a busy room costs one append per round trip to the event store, not one per
// command. Commands that need to know what is stored share reads. Correctness does not depend on any of this: an append is done at the
// revision that its batch was decided on, or not at all.
type roomQueue struct {
	calendars *calendars
	room      domain.RoomID
	users     int // guarded by calendars.mu

	writer chan struct{}   // the writer lock, held by whoever appends or reads; it holds a value then
	reads  atomic.Int64    // begun so far; only the holder of the writer lock begins one
	latest int64           // the number of the last read that succeeded; guarded by the writer lock
	named  domain.Revision // by the event store when an append lost a race; guarded by the writer lock

	mu     sync.Mutex
	stored *calendar // as far as known, or nil; only the holder of the writer lock changes it
	next   *calendar // stored, plus everything that is decided but not stored yet
	open   *batch    // the batch that can be joined, whose decisions are the last in next; or nil
}

// batch collects decisions for one append, each made on the calendar that the previous one leaves. Only its leader, the member that opened
// it, appends it, on behalf of all.
type batch struct {
	on     *calendar
	events []eventstore.Proposed
	leaves *calendar

	begun chan struct{} // closed when it is being appended, and cannot be joined any more
	done  chan struct{} // closed when err is the outcome for all members
	err   error
}

// maxBatch keeps an append far below the size that the event store accepts, 1 MiB: the longest event of a booking is about 4 KiB.
const maxBatch = 128

// full reports whether nothing more is to be added. What is known of a room can be some 100 KiB, so such an event is the last of its batch.
func (b *batch) full() bool {
	return len(b.events) >= maxBatch || slices.Contains(roomEvents, b.events[len(b.events)-1].Event.EventType())
}

// errSuperseded is the outcome of a batch that was not appended and whose decisions have to be made again: the append before it failed,
// something new was read, or its leader ran out of time.
var errSuperseded = errors.New("superseded before the append")

// read calls look with the room's calendar, complete from a time on, with everything that was committed before the call. Look is not to
// keep the calendar, which can be large.
func (c *calendars) read(ctx context.Context, room domain.RoomID, from time.Time, look func(domain.Calendar)) error {
	q := c.enter(room)
	defer q.leave()
	cal, err := q.readOn(ctx)
	if err != nil {
		return err
	}
	if !cal.CompleteFrom(from) {
		return q.onAll(ctx, cal.Revision(), func(all *calendar) error { look(all.Calendar); return nil })
	}
	look(cal.Calendar)
	return nil
}

// maxEarlier is how many earlier bookings are examined for one whose use of the room has not ended. So many stay in a cached calendar,
// and a few more, however long ago they were.
const maxEarlier = 10

// begun lists the reservations, of the last maxEarlier of the room whose slots started by a time, whose bookings may not be over, latest
// first. Those of one booking are left out.
func (c *calendars) begun(ctx context.Context, room domain.RoomID, by time.Time, except domain.BookingID) (begun []*domain.Reservation, err error) {
	complete := false
	look := func(cal domain.Calendar) { begun, complete = lastBegun(cal, by, except) }
	if err = c.read(ctx, room, by, look); err == nil && !complete {
		err = c.read(ctx, room, time.Time{}, look)
	}
	return begun, err
}

// lastBegun is begun in a calendar. It is not complete if a reservation that the calendar does not have any more could be among them.
func lastBegun(c domain.Calendar, by time.Time, except domain.BookingID) (begun []*domain.Reservation, complete bool) {
	left := maxEarlier
	for r := range c.Begun(by) {
		if left == 0 || r.Slot.Start.Before(c.Since()) {
			break
		}
		if r.BookingID == except {
			continue
		}
		if left--; !r.Used {
			begun = append(begun, r)
		}
	}
	return begun, left == 0 || c.Since().IsZero()
}

// transact appends what decide returns for the room's calendar, which may be nothing. Decide looks no further back than a decision on a slot
// that starts at the given time. It decides on what is known in memory first; that there is nothing to append, and what to do after a lost
// race, is decided on what is stored.
func (c *calendars) transact(ctx context.Context, room domain.RoomID, from time.Time, decide func(domain.Calendar) []eventstore.Proposed) error {
	q := c.enter(room)
	defer q.leave()
	for races := newRaces(c.metrics); ; {
		b, leads, err := q.join(ctx, from, decide)
		switch {
		case err != nil:
			return err
		case b == nil:
			err = errSuperseded
		case leads:
			err = q.append(ctx, b)
		default:
			err = b.wait(ctx)
		}
		if err == nil {
			return nil
		}
		if err != errSuperseded {
			if err := races.again(ctx, err); err != nil {
				return err
			}
		}
		stored, err := q.readOn(ctx)
		if err != nil {
			return err
		}
		if !stored.Decides(from, c.zone) {
			return q.transactOnAll(ctx, stored.Revision(), decide)
		}
		if len(decide(stored.Calendar)) == 0 {
			return nil
		}
	}
}

// transactOnAll is transact for a decision on more than is remembered. The other commands of this process wait while it appends, not while
// it reads the whole stream.
func (q *roomQueue) transactOnAll(ctx context.Context, known domain.Revision, decide func(domain.Calendar) []eventstore.Proposed) error {
	return q.onAll(ctx, known, func(all *calendar) (err error) {
		for races := newRaces(q.calendars.metrics); ; {
			if all, err = q.appendOn(ctx, all, decide); err == nil {
				return nil
			}
			if err := races.again(ctx, err); err != nil {
				return err
			}
		}
	})
}

// wholePatience is how long a command waits until it may read a whole stream.
const wholePatience = 2 * time.Second

// onAll calls use with the calendar that the whole stream makes, up to a revision that is known to be there at least. A long one takes
// seconds and much memory, so few are read and used at a time, and who waits too long for that gets [ErrHistoryBusy].
func (q *roomQueue) onAll(ctx context.Context, known domain.Revision, use func(*calendar) error) error {
	done, err := q.calendars.beginWhole(ctx)
	if err != nil {
		return err
	}
	defer done()
	all := newCalendar()
	err = readUntil(ctx, known, func() (_ domain.Revision, err error) {
		all, err = q.evolve(ctx, all)
		return all.Revision(), err
	})
	if err != nil {
		return err
	}
	return use(all)
}

// beginWhole waits until a whole stream may be read. The caller calls done when it has no more use for it.
func (c *calendars) beginWhole(ctx context.Context) (done func(), err error) {
	patience := time.NewTimer(wholePatience)
	defer patience.Stop()
	select {
	case c.whole <- struct{}{}:
		return func() { <-c.whole }, nil
	case <-patience.C:
		return nil, ErrHistoryBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// appendOn reads on, decides, and appends, and returns the calendar that it decided on.
func (q *roomQueue) appendOn(ctx context.Context, cal *calendar, decide func(domain.Calendar) []eventstore.Proposed) (*calendar, error) {
	if err := q.lock(ctx); err != nil {
		return cal, err
	}
	defer q.unlock()
	err := readUntil(ctx, q.named, func() (_ domain.Revision, err error) {
		cal, err = q.evolve(ctx, cal)
		return cal.Revision(), err
	})
	if err != nil {
		return cal, err
	}
	events := decide(cal.Calendar)
	if len(events) == 0 {
		return cal, nil
	}
	_, err = q.calendars.store.Append(context.WithoutCancel(ctx), q.room.Stream(), cal.Revision(), events...)
	if stored := q.known(); err == nil && stored.Revision() == cal.Revision() {
		q.wrote(q.calendars.after(stored, events))
	}
	if wrong, ok := errors.AsType[*eventstore.WrongRevision](err); ok {
		if q.named = wrong.Actual; wrong.Actual < cal.Revision() { // the stream was deleted
			cal = newCalendar()
		}
	}
	return cal, err
}

// after returns the calendar as the events leave it, without what ended too long ago.
func (c *calendars) after(cal *calendar, events []eventstore.Proposed) *calendar {
	after := *cal
	for _, e := range events {
		after.Calendar = after.Evolve(e.Event)
	}
	after.Calendar = c.remembered(after.Calendar)
	return &after
}

func (c *calendars) enter(room domain.RoomID) *roomQueue {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[room]
	if q == nil {
		q = &roomQueue{calendars: c, room: room, writer: make(chan struct{}, 1), named: eventstore.NoStream}
		if q.stored = c.cached(room); q.stored != nil && c.forgotTooMuch(q.stored.Calendar) {
			q.stored = nil
		}
		q.next = q.stored
		c.queues[room] = q
	}
	q.users++
	return q
}

func (q *roomQueue) leave() {
	q.calendars.mu.Lock()
	defer q.calendars.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(q.calendars.queues, q.room)
	}
}

// join decides on what is known and adds the decision to the open batch, or opens one and leads it. There is no batch if nothing is known
// or not enough, or there is nothing to append, which has to be decided on what is stored.
func (q *roomQueue) join(ctx context.Context, from time.Time, decide func(domain.Calendar) []eventstore.Proposed) (b *batch, leads bool, err error) {
	for {
		b, leads, full := q.tryJoin(from, decide)
		if full == nil {
			return b, leads, nil
		}
		select {
		case <-full.begun:
		case <-full.done:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// tryJoin returns the open batch as full if nothing more can be added.
func (q *roomQueue) tryJoin(from time.Time, decide func(domain.Calendar) []eventstore.Proposed) (b *batch, leads bool, full *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil || !q.next.Decides(from, q.calendars.zone) {
		return nil, false, nil
	}
	events := decide(q.next.Calendar)
	if len(events) == 0 {
		return nil, false, nil
	}
	if q.open != nil && q.open.full() {
		return nil, false, q.open
	}
	next := q.calendars.after(q.next, events)
	if leads = q.open == nil; leads {
		q.open = &batch{on: q.next, begun: make(chan struct{}), done: make(chan struct{})}
	}
	q.open.events = append(q.open.events, events...)
	q.next, q.open.leaves = next, next
	return q.open, leads, nil
}

// append appends a batch and caches the resulting calendar. Only the leader calls it. Once begun, it is subject to the event store's
// time-out alone: the leader's deadline is not the others'.
func (q *roomQueue) append(ctx context.Context, b *batch) (err error) {
	waiting, cancel := detach(ctx)
	defer cancel()
	if err := q.lock(waiting); err != nil {
		q.giveUp(b)
		return err
	}
	defer q.unlock()
	if !q.begin(b) {
		return errSuperseded
	}
	err = fmt.Errorf("%w: the command that was to append it failed", eventstore.ErrOutcomeUnknown) // unless it returns
	defer func() { q.end(b, err) }()
	if _, err := q.calendars.store.Append(context.WithoutCancel(ctx), q.room.Stream(), b.on.Revision(), b.events...); err != nil {
		return err
	}
	q.calendars.keep(q.room, b.leaves)
	q.calendars.snapshots.consider(ctx, q.room, b.leaves)
	return nil
}

// lock acquires the writer lock.
func (q *roomQueue) lock(ctx context.Context) error {
	select {
	case q.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *roomQueue) unlock() { <-q.writer }

// begin closes the batch, so that the holder of the writer lock can append it. It reports false if the batch was superseded.
func (q *roomQueue) begin(b *batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open != b {
		return false
	}
	q.open = nil
	close(b.begun)
	return true
}

// end records the outcome of a batch's append. If that failed, whatever was decided since is superseded.
func (q *roomQueue) end(b *batch, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.stored = b.leaves
	} else {
		q.restart(q.stored)
	}
	if wrong, ok := errors.AsType[*eventstore.WrongRevision](err); ok {
		q.named = wrong.Actual
		if q.stored != nil && wrong.Actual < q.stored.Revision() { // the stream was deleted
			q.stored = nil
			q.restart(nil)
		}
	}
	b.end(err)
}

// giveUp withdraws a batch that was not begun.
func (q *roomQueue) giveUp(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == b {
		q.restart(b.on)
	}
}

// restart makes the calendar the one to decide on next, which supersedes the open batch. q.mu must be held.
func (q *roomQueue) restart(c *calendar) {
	q.next = c
	if q.open != nil {
		q.open.end(errSuperseded)
		q.open = nil
	}
}

func (b *batch) end(err error) {
	b.err = err
	close(b.done)
}

// wait waits for the leader. It goes on waiting if its caller goes away, since what was decided may have been done.
func (b *batch) wait(ctx context.Context) error {
	ctx, cancel := detach(ctx)
	defer cancel()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
	}
	select {
	case <-b.done:
		return b.err
	default:
		return fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, ctx.Err())
	}
}

// readOn reads what was appended to the room's calendar since, and caches it. A read that someone else has begun after the call will do.
func (q *roomQueue) readOn(ctx context.Context) (*calendar, error) {
	before := q.reads.Load()
	if err := q.lock(ctx); err != nil {
		return nil, err
	}
	defer q.unlock()
	cal := q.known()
	if q.latest > before {
		return cal, nil
	}
	number := q.reads.Add(1)
	err := readUntil(ctx, q.named, func() (_ domain.Revision, err error) {
		cal, err = q.fold(ctx, cal)
		return cal.Revision(), err
	})
	if err != nil {
		return nil, err
	}
	q.learn(cal)
	q.latest = number
	q.calendars.keep(q.room, cal)
	q.calendars.snapshots.consider(ctx, q.room, cal)
	return cal, nil
}

// evolve reads what was appended to the room's calendar since, and returns the resulting calendar: the same one if there was nothing, and
// with an error.
func (q *roomQueue) evolve(ctx context.Context, cal *calendar) (*calendar, error) {
	return q.evolveTo(ctx, cal, math.MaxInt64)
}

// evolveTo is evolve that reads up to a revision.
func (q *roomQueue) evolveTo(ctx context.Context, cal *calendar, last domain.Revision) (_ *calendar, failed error) {
	evolved := cal.EvolveAll(func(yield func(domain.Revision, domain.Event) bool) {
		for r, err := range q.calendars.store.ReadStream(ctx, q.room.Stream(), cal.Revision()+1) {
			if err == nil {
				err = readable(r)
			}
			if err != nil {
				failed = err
				return
			}
			if !yield(r.Revision, r.Event) || r.Revision >= last {
				return
			}
		}
	})
	if failed != nil || evolved.Revision() == cal.Revision() {
		return cal, failed
	}
	return &calendar{evolved, cal.snapshot}, nil
}

// fold is evolve for a calendar to be remembered. If nothing is known and the stream turns out to be long, it begins with the snapshot.
func (q *roomQueue) fold(ctx context.Context, cal *calendar) (*calendar, error) {
	last := domain.Revision(math.MaxInt64)
	if cal.Revision() == eventstore.NoStream {
		last = domain.Revision(q.calendars.snapshots.peek) - 1
	}
	folded, err := q.evolveTo(ctx, cal, last)
	if err == nil && folded.Revision() >= last {
		var fromSnapshot *calendar
		fromSnapshot, err = q.calendars.snapshots.load(ctx, q.room)
		switch {
		case err != nil:
		case fromSnapshot != nil && !q.calendars.forgotTooMuch(fromSnapshot.Calendar):
			folded = fromSnapshot
		default:
			folded, err = q.evolve(ctx, folded)
		}
	}
	if err != nil || folded == cal {
		return cal, err
	}
	return &calendar{q.calendars.remembered(folded.Calendar), folded.snapshot}, nil
}

// known returns the calendar as far as it is known.
func (q *roomQueue) known() *calendar {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stored == nil {
		return newCalendar()
	}
	return q.stored
}

// learn records what was read. If that is news, whatever was decided without it is superseded.
func (q *roomQueue) learn(read *calendar) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if read != q.stored {
		if q.stored != nil { // this process has not written it
			q.calendars.shared.Store(true)
		}
		q.stored = read
		q.restart(read)
	}
}

// wrote records what was appended without a batch, which supersedes the open one.
func (q *roomQueue) wrote(written *calendar) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stored = written
	q.restart(written)
	q.calendars.keep(q.room, written)
}
