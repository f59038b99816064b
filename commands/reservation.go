package commands

import (
	"context"
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
		Actor:         string(r.Actor.User),
		Client:        r.Client,
		CorrelationID: r.correlation(),
		TraceParent:   r.TraceParent,
		Command:       r.command(),
	}
}

// reserve makes the reservation that the decision asks for, and completes the decision: with the events that follow from the reservation
// as it is stored, or with a refusal. Bookings in the way are settled first, so that nobody is refused because of a slot that no booking
// holds or has used, and every booking that a *domain.SlotTaken names can be read, or is known to be over. Of many bookings because of which
// a slot breaks a rule, some are settled.
func (h *Handler) reserve(ctx context.Context, r Request, d *decision) error {
	ask := *d.ask
	proposed := []eventstore.Proposed{{Metadata: r.metadata()}} // which is copied by whoever keeps it
	h.calendars.tick(r.At)
	for range attempts {
		var before *domain.Reservation // made by an earlier try of the same attempt
		var blockers []blocker
		err := h.calendars.transact(ctx, ask.RoomID, ask.Slot.Start, func(c domain.Calendar) []eventstore.Proposed {
			var events []domain.Event
			events, d.refused = domain.DecideReserve(c, ask, d.policy)
			before = nil
			if len(events) > 0 {
				if ask.HeldFor != "" && c.About().Rules.LimitUsers() {
					made := events[0].(domain.SlotReserved)
					made.IfRevision = d.revision
					events[0] = made
				}
				proposed[0].Event = events[0]
				return proposed
			}
			switch refused := d.refused.(type) {
			case nil:
				before = c.Held(ask.BookingID, ask.ReservationID)
			case *domain.SlotTaken:
				blockers = blockersIn(c, refused.By)
			case *domain.RuleBroken:
				blockers = blockersIn(c, refused.By)
			}
			return nil
		})
		reserved, _ := proposed[0].Event.(domain.SlotReserved)
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
		switch refused := d.refused.(type) {
		case *domain.SlotTaken:
			refused.More = len(refused.By) - len(blockers)
			if refused.By, err = h.holding(ctx, blockers); err != nil {
				return undecided(err)
			}
			if len(refused.By) > 0 {
				return nil
			}
		case *domain.RuleBroken:
			held, err := h.holding(ctx, blockers)
			if err != nil {
				return undecided(err)
			}
			if len(held) == len(blockers) {
				return nil
			}
		default:
			return nil
		}
	}
	return ErrContended
}

// made reads the event that made the reservation, and where it is in the log.
func (h *Handler) made(ctx context.Context, r *domain.Reservation) (made domain.SlotReserved, at eventstore.Position, err error) {
	e, err := h.calendars.event(ctx, r.RoomID, r.Revision)
	made, _ = e.Event.(domain.SlotReserved)
	return made, e.Position, err
}

// event reads the event of the room's calendar that is known to be at the revision.
func (c *calendars) event(ctx context.Context, room domain.RoomID, revision domain.Revision) (e eventstore.Recorded, err error) {
	err = readUntil(ctx, revision, func() (domain.Revision, error) {
		for r, err := range c.store.ReadStream(ctx, room.Stream(), revision) {
			e = r
			return r.Revision, err
		}
		return eventstore.NoStream, nil
	})
	return e, err
}

// release releases a reservation of a booking, whose slot starts at a time or later, except for the part of it that was used. The booking's
// event that it follows from is the cause.
func (h *Handler) release(ctx context.Context, id domain.BookingID, r domain.RoomReservation, from, usedUntil time.Time, because eventstore.Recorded) error {
	return h.calendars.transact(ctx, r.Room, from, func(c domain.Calendar) []eventstore.Proposed {
		return follow(because, domain.DecideRelease(c, id, r.Reservation, usedUntil))
	})
}
