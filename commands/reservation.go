package commands

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

// reservation begins the SlotReserved of a command that decides on a booking at a revision. A reservation belongs to one
// attempt of the command, which is what the booking's revision tells apart.
func (r Request) reservation(at domain.Revision) domain.SlotReserved {
	id := uuid.NewSHA1(r.ID, []byte("reserve at "+strconv.FormatInt(int64(at), 10)+" "+r.Digest))
	return domain.SlotReserved{
		ReservationID: domain.ReservationID(id.String()),
		At:            r.At,
		Actor:         r.Actor,
		CorrelationID: r.correlation(),
		TraceParent:   r.TraceParent,
		Command:       r.command(),
	}
}

// reserve makes the reservation that the decision asks for, and decides on: the events are then those that follow from it as it is
// stored, or the decision is a refusal. Others in the way are settled first, so that nobody is refused by a slot that no booking
// holds or has used, and every booking that a *domain.SlotTaken names can be read, or told to be over.
func (h *Handler) reserve(ctx context.Context, r Request, d *decision) error {
	ask := *d.ask
	proposed := []eventstore.Proposed{{Event: ask, Metadata: r.metadata()}}
	for range attempts {
		var reserved domain.SlotReserved
		err := h.calendars.transact(ctx, ask.RoomID, func(c domain.Calendar) []eventstore.Proposed {
			var events []domain.Event
			events, d.refused = domain.DecideReserve(c, ask, d.policy)
			if d.refused == nil && len(events) == 0 { // an earlier try of the same attempt had it done
				reserved = c.Held(ask.BookingID, ask.ReservationID).SlotReserved
			}
			if len(events) == 0 {
				return nil
			}
			reserved = ask
			return proposed
		})
		if err != nil {
			return err
		}
		if d.refused == nil {
			d.ask, d.events = &reserved, followReservation(reserved, d.then(reserved))
			return nil
		}
		taken, ok := d.refused.(*domain.SlotTaken)
		if !ok {
			return nil
		}
		if err := h.holding(ctx, taken); err != nil {
			return undecided(err)
		}
		if len(taken.By) > 0 {
			return nil
		}
	}
	return ErrContended
}

// maxConflicts bounds how many bookings a refusal names: one is reason enough.
const maxConflicts = 10

// holding leaves those reservations in the refusal that really hold a part of the slot, once their bookings are settled.
func (h *Handler) holding(ctx context.Context, taken *domain.SlotTaken) error {
	others := taken.By[:min(len(taken.By), maxConflicts)]
	taken.By, taken.More = nil, len(taken.By)-len(others)
	for _, other := range others {
		if other.Used {
			taken.By = append(taken.By, other) // whatever becomes of its booking, which is over
			continue
		}
		b, err := h.settle(ctx, other.BookingID, other.RoomID)
		_, unreadable := errors.AsType[*Unreadable](err)
		if err != nil && !unreadable {
			return err
		}
		if unreadable || b.state.BackedBy(other.ReservationID) { // of one that is unreadable nobody can tell that it does not
			taken.By = append(taken.By, other)
		}
	}
	return nil
}

// release gives a reservation back, except for what was used of its slot, for the reason that its booking's event tells.
func (h *Handler) release(ctx context.Context, r *domain.Reservation, usedUntil time.Time, because eventstore.Recorded) error {
	return h.calendars.transact(ctx, r.RoomID, func(c domain.Calendar) []eventstore.Proposed {
		return follow(because, domain.DecideRelease(c, r.BookingID, r.ReservationID, usedUntil))
	})
}
