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

// reservation starts the SlotReserved of a command that decides on a booking at a revision. A reservation belongs to one attempt of
// the command; the booking's revision is what tells attempts apart.
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

// reserve makes the reservation that the decision asks for, and completes the decision: with the events that follow from the reservation
// as it is stored, or with a refusal. Bookings in the way are settled first, so that nobody is refused because of a slot that no booking
// holds or has used, and every booking that a *domain.SlotTaken names can be read, or is known to be over.
func (h *Handler) reserve(ctx context.Context, r Request, d *decision) error {
	ask := *d.ask
	proposed := []eventstore.Proposed{{Event: ask, Metadata: r.metadata()}}
	h.calendars.tick(r.At)
	for range attempts {
		var before *domain.Reservation // made by an earlier try of the same attempt
		err := h.calendars.transact(ctx, ask.RoomID, ask.Slot.Start, func(c domain.Calendar) []eventstore.Proposed {
			var events []domain.Event
			events, d.refused = domain.DecideReserve(c, ask, d.policy)
			before = nil
			if len(events) > 0 {
				return proposed
			}
			if d.refused == nil {
				before = c.Held(ask.BookingID, ask.ReservationID)
			}
			return nil
		})
		reserved := ask
		if err == nil && before != nil {
			reserved, _, err = h.made(ctx, before)
		}
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

// maxConflicts is how many bookings a refusal names at most: one is reason enough.
const maxConflicts = 10

// holding reduces the refusal to reservations that still hold a part of the slot once their bookings are settled.
func (h *Handler) holding(ctx context.Context, taken *domain.SlotTaken) error {
	others := taken.By[:min(len(taken.By), maxConflicts)]
	taken.By, taken.More = nil, len(taken.By)-len(others)
	for _, other := range others {
		if other.Used {
			taken.By = append(taken.By, other) // for good: its booking is over
			continue
		}
		b, err := h.settle(ctx, other.BookingID, place{other.RoomID, other.Slot.Start})
		_, unreadable := errors.AsType[*Unreadable](err)
		if err != nil && !unreadable {
			return err
		}
		if unreadable || b.state.BackedBy(other.ReservationID) { // if it cannot be read, it may well be
			taken.By = append(taken.By, other)
		}
	}
	return nil
}

// made reads the event that made the reservation, and where it is in the log.
func (h *Handler) made(ctx context.Context, r *domain.Reservation) (made domain.SlotReserved, at eventstore.Position, err error) {
	err = readUntil(ctx, r.Revision, func() (domain.Revision, error) {
		for e, err := range h.store.ReadStream(ctx, r.RoomID.Stream(), r.Revision) {
			made, _ = e.Event.(domain.SlotReserved)
			at = e.Position
			return e.Revision, err
		}
		return eventstore.NoStream, nil
	})
	return made, at, err
}

// release releases a reservation of a booking, whose slot starts at a time or later, except for the part of it that was used. The booking's
// event that it follows from is the cause.
func (h *Handler) release(ctx context.Context, id domain.BookingID, r domain.RoomReservation, from, usedUntil time.Time, because eventstore.Recorded) error {
	return h.calendars.transact(ctx, r.Room, from, func(c domain.Calendar) []eventstore.Proposed {
		return follow(because, domain.DecideRelease(c, id, r.Reservation, usedUntil))
	})
}
