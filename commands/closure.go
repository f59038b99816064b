package commands

import (
	"context"
	"errors"

	"roombook/domain"
	"roombook/eventstore"
)

// clear cancels the bookings of a room that its closures and its retirement cancel, in the given periods of it at least, and returns the
// position of the last cancellation. Each is settled by itself: one that is in use stays, and one that cannot be settled holds up no other.
// Nothing can be booked there any more, so that one look at the calendar finds all of them.
func (h *Handler) clear(ctx context.Context, room domain.RoomID, periods []place) (last eventstore.Position, err error) {
	from := periods[0].from
	for _, p := range periods {
		if p.from.Before(from) {
			from = p.from
		}
	}
	var reservations []*domain.Reservation
	err = h.calendars.read(ctx, room, from, func(c domain.Calendar) {
		about := c.About()
		for r := range c.All {
			if _, cancels := about.Cancels(r.Slot); cancels && !r.Used {
				reservations = append(reservations, r)
			}
		}
	})
	if err != nil {
		return 0, err
	}
	for _, r := range reservations {
		b, failed := h.settle(ctx, r.BookingID, place{room, r.Slot.Start})
		if last, err = max(last, b.position), errors.Join(err, failed); ctx.Err() != nil {
			break
		}
	}
	return last, err
}
