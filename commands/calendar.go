package commands

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roombook/domain"
	"roombook/eventstore"
)

// calendars keeps folded calendars in memory, so that a free slot is taken without a read. What is kept may be behind the
// stream; an append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics
	seed    maphash.Seed
	// turns are taken by room: contenders of one process wait for each other rather than waste appends.
	turns [1024]chan struct{}

	mu    sync.Mutex
	cache *simplelru.LRU[domain.RoomID, calendar]
	bytes int
	limit int
}

// calendar is a folded calendar and the revision it was folded to. It is a value that is never written.
type calendar struct {
	domain.Calendar
	revision domain.Revision
}

// Sizes of what the cache keeps, about, measured on a heap with 100,000 reservations.
const (
	calendarBytes    = 1024
	reservationBytes = 640
)

func (c calendar) bytes() int { return calendarBytes + c.Len()*reservationBytes }

func newCalendars(store Store, limit int, m *metrics) *calendars {
	c := &calendars{store: store, metrics: m, seed: maphash.MakeSeed(), limit: limit}
	for i := range c.turns {
		c.turns[i] = make(chan struct{}, 1)
	}
	// The LRU is bounded by bytes, in keep; its own bound is on entries and only has to be out of the way.
	c.cache, _ = simplelru.NewLRU[domain.RoomID, calendar](limit/calendarBytes+1, nil)
	return c
}

// turn waits for the room's turn. Call the function it returns to give it on.
func (c *calendars) turn(ctx context.Context, room domain.RoomID) (func(), error) {
	turn := c.turns[maphash.String(c.seed, string(room))%uint64(len(c.turns))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read is the room's calendar with everything that was committed before the call.
func (c *calendars) read(ctx context.Context, room domain.RoomID) (domain.Calendar, error) {
	done, err := c.turn(ctx, room)
	if err != nil {
		return domain.Calendar{}, err
	}
	defer done()
	cal, _ := c.kept(room)
	cal, err = c.readOn(ctx, room, cal)
	return cal.Calendar, err
}

// transact decides on the room's calendar and appends what was decided, at most one event. It decides first on what is kept
// in memory; a decision against the caller (an error, or nothing to do) and a lost race are decided anew on what is new.
func (c *calendars) transact(ctx context.Context, room domain.RoomID, decide func(domain.Calendar) ([]eventstore.Proposed, error)) error {
	done, err := c.turn(ctx, room)
	if err != nil {
		return err
	}
	defer done()
	cal, known := c.kept(room)
	current := false // whether cal has been read on since the call began
	if !known {
		if cal, err = c.readOn(ctx, room, cal); err != nil {
			return err
		}
		current = true
	}
	for attempt := range attempts {
		events, err := decide(cal.Calendar)
		if err == nil && len(events) > 0 {
			err = c.append(ctx, room, cal, events)
			if !lost(err) {
				return err
			}
			c.metrics.races.Inc()
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		} else if current {
			return err
		}
		if cal, err = c.readOn(ctx, room, cal); err != nil {
			return err
		}
		current = true
	}
	return ErrContended
}

// append appends at the calendar's revision and keeps the calendar that results.
func (c *calendars) append(ctx context.Context, room domain.RoomID, cal calendar, events []eventstore.Proposed) error {
	ctx, cancel := decided(ctx)
	defer cancel()
	at, err := c.store.Append(ctx, room.Stream(), cal.revision, events...)
	if err != nil {
		return err
	}
	// A retry of an append that had been done already may answer with an older revision than the stream's present one; what is
	// kept is then merely behind.
	for _, e := range events {
		cal.Calendar = cal.Evolve(e.Event)
	}
	cal.revision = at.Revision
	c.keep(room, cal)
	return nil
}

// readOn reads what was appended to the room's calendar since, and keeps it.
func (c *calendars) readOn(ctx context.Context, room domain.RoomID, cal calendar) (calendar, error) {
	var failed error
	cal.Calendar = cal.EvolveAll(func(yield func(domain.Event) bool) {
		for r, err := range c.store.ReadStream(ctx, room.Stream(), cal.revision+1) {
			if err == nil {
				err = readable(r)
			}
			if err != nil {
				failed = err
				return
			}
			cal.revision = r.Revision
			if r.Event != nil && !yield(r.Event) {
				return
			}
		}
	})
	if failed != nil {
		return cal, failed
	}
	c.keep(room, cal)
	return cal, nil
}

func (c *calendars) kept(room domain.RoomID) (calendar, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cal, ok := c.cache.Get(room); ok {
		return cal, true
	}
	return calendar{revision: eventstore.NoStream}, false
}

// keep keeps the room's calendar in place of the one that was kept, if it fits at all: one that does not would take the place of all
// others in vain.
func (c *calendars) keep(room domain.RoomID, cal calendar) {
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
// nobody is refused by a slot that no booking holds, and every booking that a *domain.SlotTaken names can be read.
func (h *Handler) reserve(ctx context.Context, r Request, ask domain.SlotReserved) (domain.SlotReserved, error) {
	proposed := []eventstore.Proposed{{ID: space(ask.ReservationID), Event: ask, Metadata: r.metadata()}}
	for range attempts {
		var reserved domain.SlotReserved
		err := h.calendars.transact(ctx, ask.RoomID, func(c domain.Calendar) ([]eventstore.Proposed, error) {
			events, err := domain.DecideReserve(c, ask, h.policy)
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
		var holding []*domain.Reservation
		for _, other := range taken.By[:min(len(taken.By), mostConflicts)] {
			b, err := h.settle(ctx, other.BookingID, other.RoomID)
			if _, unreadable := errors.AsType[*Unreadable](err); unreadable {
				holding = append(holding, other) // nobody can tell that it does not
				continue
			}
			if err != nil {
				return domain.SlotReserved{}, err
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

// release gives a reservation back, for the reason that its booking's event tells.
func (h *Handler) release(ctx context.Context, r *domain.Reservation, because eventstore.Recorded) error {
	return h.calendars.transact(ctx, r.RoomID, func(c domain.Calendar) ([]eventstore.Proposed, error) {
		events := domain.DecideRelease(c, r.BookingID, r.ReservationID)
		proposed := follow(because, events)
		for i := range proposed {
			proposed[i].ID = eventstore.EventID(space(r.ReservationID), "released")
		}
		return proposed, nil
	})
}
