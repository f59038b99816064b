package commands

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"roombook/domain"
)

// maxConflicts is how many bookings a refusal names at most: one is reason enough.
const maxConflicts = 10

// blocker is a reservation because of which another is refused.
type blocker struct {
	*domain.Reservation
	// settled says that, if the reservation backs its booking, the room's calendar from since on shows no step of it that is open.
	settled bool
	since   time.Time
}

// blockersIn returns the first maxConflicts of the reservations, which are the calendar's.
func blockersIn(c domain.Calendar, by []*domain.Reservation) []blocker {
	blockers := make([]blocker, min(len(by), maxConflicts))
	about := c.About()
	for i := range blockers {
		r := by[i]
		_, cancelled := about.Cancels(r.Slot)
		others := slices.ContainsFunc(c.Of(r.BookingID), func(other *domain.Reservation) bool {
			return !other.Used && other.ReservationID != r.ReservationID
		})
		blockers[i] = blocker{r, !cancelled && !others && c.CompleteFrom(r.Slot.Start), c.Since()}
	}
	return blockers
}

// holding reduces blockers to those that still hold their slots once their bookings are settled.
func (h *Handler) holding(ctx context.Context, blockers []blocker) (held []*domain.Reservation, err error) {
	for _, b := range blockers {
		holds, err := h.holds(ctx, b)
		if err != nil {
			return nil, err
		}
		if holds {
			held = append(held, b.Reservation)
		}
	}
	return held, nil
}

// holds settles the booking of a blocker, and reports whether it then holds the slot. Most bookings have nothing to be settled, which takes
// one read to see.
func (h *Handler) holds(ctx context.Context, b blocker) (bool, error) {
	if b.Used {
		return true, nil // for good: its booking is over
	}
	if b.settled {
		now, err := h.glances.look(ctx, h, b.BookingID)
		if err != nil {
			return false, err
		}
		if s := now.state; now.unreadable == nil && s.BackedBy(b.ReservationID) && s.Use == nil && len(s.Rooms()) == 1 && !s.Earliest.Before(b.since) {
			return true, nil
		}
	}
	settled, err := h.settle(ctx, b.BookingID, place{b.RoomID, b.Slot.Start})
	if _, unreadable := errors.AsType[*Unreadable](err); unreadable {
		return true, nil // it may well hold it
	}
	return err == nil && settled.state.BackedBy(b.ReservationID), err
}

// glances are reads of bookings that commands share: of many that one slot is refused to at a time, one reads the booking that has it.
type glances struct {
	mu sync.Mutex
	of map[domain.BookingID]*glance // the latest that was asked for, of each booking
}

// glance is a read of a booking.
type glance struct {
	begun bool // it may miss what is appended from now on
	done  chan struct{}
	found loaded[domain.Booking] // unread if it failed
	late  bool                   // the time of the command that was to read has ended
}

// look reads a booking as it is stored, by a read that begins after the call. Another's that is to begin will do; if that fails, nothing is
// found.
func (g *glances) look(ctx context.Context, h *Handler, id domain.BookingID) (loaded[domain.Booking], error) {
	own := &glance{done: make(chan struct{}), found: unread[domain.Booking]()}
	for {
		before, leads := g.join(id, own)
		if leads {
			return g.lead(ctx, h, id, own, before)
		}
		select {
		case <-before.done:
			if !before.late {
				return before.found, nil
			}
		case <-ctx.Done():
			return own.found, ctx.Err()
		}
	}
}

// join returns the latest glance of the booking, if there is one, and makes own the latest unless that one has not begun.
func (g *glances) join(id domain.BookingID, own *glance) (before *glance, leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before = g.of[id]
	if before != nil && !before.begun {
		return before, false
	}
	g.of[id] = own
	return before, true
}

// lead reads the booking for all who have joined, once the glance before has ended.
func (g *glances) lead(ctx context.Context, h *Handler, id domain.BookingID, own, before *glance) (loaded[domain.Booking], error) {
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.of[id] == own {
			delete(g.of, id)
		}
		close(own.done)
	}()
	detached, cancel := detach(ctx)
	defer cancel()
	if before != nil {
		select {
		case <-before.done:
		case <-detached.Done():
		}
	}
	g.mu.Lock()
	own.begun = true
	g.mu.Unlock()
	found, err := current[domain.Booking](detached, h, id.Stream())
	if err != nil {
		own.late = detached.Err() != nil
		return found, err
	}
	own.found = found
	return found, nil
}
