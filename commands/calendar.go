package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roombook/domain"
	"roombook/eventstore"
)

// calendars keeps folded calendars in memory, so that a free slot is taken without a read. What is kept may be behind the
// stream; an append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics

	mu    sync.Mutex
	lines map[domain.RoomID]*line // of the rooms that somebody is busy with
	cache *simplelru.LRU[domain.RoomID, *calendar]
	bytes int
	limit int
}

// calendar is a folded calendar and the revision it was folded to. It is never written.
type calendar struct {
	domain.Calendar
	revision domain.Revision
}

// Sizes of what the cache keeps, about, measured on a heap with 100,000 reservations.
const (
	calendarBytes    = 1024
	reservationBytes = 640
)

func (c *calendar) bytes() int { return calendarBytes + c.Len()*reservationBytes }

func newCalendars(store Store, limit int, m *metrics) *calendars {
	c := &calendars{store: store, metrics: m, lines: make(map[domain.RoomID]*line), limit: limit}
	// The LRU is bounded by bytes, in keep; its own bound is on entries and only has to be out of the way.
	c.cache, _ = simplelru.NewLRU[domain.RoomID, *calendar](limit/calendarBytes+1, nil)
	return c
}

// decision is the event to append to a calendar, none if there is nothing to do, or the error that refuses.
type decision func(domain.Calendar) ([]eventstore.Proposed, error)

// read is the room's calendar with everything that was committed before the call.
func (c *calendars) read(ctx context.Context, room domain.RoomID) (domain.Calendar, error) {
	l := c.enter(room)
	defer c.leave(l)
	cal, err := c.readOn(ctx, l)
	if err != nil {
		return domain.Calendar{}, err
	}
	return cal.Calendar, nil
}

// transact decides on the room's calendar and appends what was decided. It decides first on what is known in memory; a decision
// against the caller (an error, or nothing to do) and a lost race are decided anew on what is stored.
func (c *calendars) transact(ctx context.Context, room domain.RoomID, decide decision) error {
	l := c.enter(room)
	defer c.leave(l)
	races := races{metrics: c.metrics}
	for {
		g, first, err := l.join(ctx, decide)
		if err != nil {
			return err
		}
		if g != nil {
			if first {
				err = c.append(ctx, l, g)
			} else {
				err = g.wait(ctx)
			}
			if err == nil {
				return nil
			}
			if err != errOvertaken {
				if err := races.again(ctx, err); err != nil {
					return err
				}
			}
		}
		cal, err := c.readOn(ctx, l)
		if err != nil {
			return err
		}
		if events, err := decide(cal.Calendar); err != nil || len(events) == 0 {
			return err
		}
	}
}

// append appends what a group has decided, and keeps the calendar that results. The group's first calls it, for all. Once begun it
// has the event store's time limit alone: how much time the first has left does not concern the others.
func (c *calendars) append(ctx context.Context, l *line, g *group) (err error) {
	waiting, cancel := decided(ctx)
	defer cancel()
	if err := l.take(waiting); err != nil {
		l.giveUp(g)
		return err
	}
	defer l.give()
	if !l.begin(g) {
		return errOvertaken
	}
	err = fmt.Errorf("%w: the command that was to append it failed", eventstore.ErrOutcomeUnknown) // until more is known
	defer func() { l.end(g, err) }()
	if _, err := c.store.Append(context.WithoutCancel(ctx), l.room.Stream(), g.on.revision, g.events...); err != nil {
		return err
	}
	c.keep(l.room, g.leaves)
	return nil
}

// readOn reads what was appended to the room's calendar since, and keeps it. A read that somebody else has begun since the call will do.
func (c *calendars) readOn(ctx context.Context, l *line) (*calendar, error) {
	before := l.reads.Load()
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer l.give()
	cal := l.known()
	if l.latest > before {
		return cal, nil
	}
	number := l.reads.Add(1)
	err := readUntil(ctx, l.named, func() (_ domain.Revision, err error) {
		cal, err = c.fold(ctx, l.room, cal)
		return cal.revision, err
	})
	if err != nil {
		return nil, err
	}
	l.learn(cal)
	l.latest = number
	c.keep(l.room, cal)
	return cal, nil
}

// fold reads what was appended to the room's calendar since, and returns the calendar with it; the same one if there is nothing, or
// with an error.
func (c *calendars) fold(ctx context.Context, room domain.RoomID, cal *calendar) (_ *calendar, failed error) {
	revision := cal.revision
	folded := cal.EvolveAll(func(yield func(domain.Event) bool) {
		for r, err := range c.store.ReadStream(ctx, room.Stream(), cal.revision+1) {
			if err == nil {
				err = readable(r)
			}
			if err != nil {
				failed = err
				return
			}
			revision = r.Revision
			if r.Event != nil && !yield(r.Event) {
				return
			}
		}
	})
	if failed != nil || revision == cal.revision {
		return cal, failed
	}
	return &calendar{folded, revision}, nil
}

// forget forgets all calendars. Nobody may be using them.
func (c *calendars) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.Purge()
	c.bytes = 0
	c.metrics.cacheBytes.Set(0)
}

// keep keeps the room's calendar in place of the one that was kept, if it fits at all: one that does not would take the place of all
// others in vain.
func (c *calendars) keep(room domain.RoomID, cal *calendar) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.cache.Peek(room); ok {
		c.cache.Remove(room)
		c.bytes -= old.bytes()
	}
	if cal.bytes() <= c.limit {
		c.cache.Add(room, cal)
		c.bytes += cal.bytes()
	}
	for c.bytes > c.limit {
		_, old, _ := c.cache.RemoveOldest()
		c.bytes -= old.bytes()
	}
	c.metrics.cacheBytes.Set(float64(c.bytes))
}

// reserve takes a slot for a command, and returns the reservation as it is stored. Others in the way are first brought to rest, so that
// nobody is refused by a slot that no booking holds or has used, and every booking that a *domain.SlotTaken names can be read, or told
// to be over.
func (h *Handler) reserve(ctx context.Context, r Request, ask domain.SlotReserved, policy domain.Policy) (domain.SlotReserved, error) {
	proposed := []eventstore.Proposed{{Event: ask, Metadata: r.metadata()}}
	for range attempts {
		var reserved domain.SlotReserved
		err := h.calendars.transact(ctx, ask.RoomID, func(c domain.Calendar) ([]eventstore.Proposed, error) {
			events, err := domain.DecideReserve(c, ask, policy)
			if err != nil {
				return nil, err
			}
			if len(events) == 0 { // an earlier try of the same attempt had it done
				reserved = c.Held(ask.BookingID, ask.ReservationID).SlotReserved
				return nil, nil
			}
			reserved = ask
			return proposed, nil
		})
		taken, ok := err.(*domain.SlotTaken)
		if !ok {
			return reserved, err
		}
		taken.More = len(taken.By) - min(len(taken.By), mostConflicts)
		var holding []*domain.Reservation
		for _, other := range taken.By[:min(len(taken.By), mostConflicts)] {
			if other.Used {
				holding = append(holding, other) // whatever becomes of its booking, which is over
				continue
			}
			b, err := h.settle(ctx, other.BookingID, other.RoomID)
			if _, unreadable := errors.AsType[*Unreadable](err); unreadable {
				holding = append(holding, other) // nobody can tell that it does not
				continue
			}
			if err != nil {
				return domain.SlotReserved{}, undecided(err)
			}
			if b.state.StandsOn(other.ReservationID) {
				holding = append(holding, other)
			}
		}
		if len(holding) > 0 {
			taken.By = holding
			return domain.SlotReserved{}, taken
		}
	}
	return domain.SlotReserved{}, ErrContended
}

// mostConflicts bounds how many bookings a refusal names: one is reason enough.
const mostConflicts = 10

// release gives a reservation back, except for what was used of its slot, for the reason that its booking's event tells.
func (h *Handler) release(ctx context.Context, r *domain.Reservation, usedUntil time.Time, because eventstore.Recorded) error {
	return h.calendars.transact(ctx, r.RoomID, func(c domain.Calendar) ([]eventstore.Proposed, error) {
		return follow(because, domain.DecideRelease(c, r.BookingID, r.ReservationID, usedUntil)), nil
	})
}
