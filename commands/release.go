package commands

import (
	"context"
	"fmt"
	"slices"

	"roombook/domain"
	"roombook/eventstore"
)

// ReleaseBooking ends a booking that no other command can, since an event of it or of its use cannot be decoded, and gives its slots
// back. What was decided before is in its history as it was.
type ReleaseBooking struct {
	Request
	Booking domain.BookingID
	Reason  string          // for whoever reads the history
	Rooms   []domain.RoomID // in whose calendars it has reservations, see [ReservedRooms]
}

// Readable means that a booking is not released because all its events can be decoded: it can be cancelled, or its use be ended.
type Readable struct{ Booking domain.BookingID }

func (e *Readable) Error() string {
	return fmt.Sprintf("every event of booking %s can be decoded: cancel it with DELETE /bookings/%[1]s, or end its use", e.Booking)
}

// ReservedRooms reads the whole log for the rooms in whose calendars the booking ever had a reservation.
func ReservedRooms(ctx context.Context, log Log, id domain.BookingID) ([]domain.RoomID, error) {
	var rooms []domain.RoomID
	err := toEnd(ctx, log, 0, func(batch eventstore.Batch) {
		for _, r := range batch.Events {
			if e, ok := r.Event.(domain.SlotReserved); ok && e.BookingID == id && !slices.Contains(rooms, e.RoomID) {
				rooms = append(rooms, e.RoomID)
			}
		}
	})
	return rooms, err
}

// ReleaseBooking ends the booking, which decides, and releases its slots. A booking that is over, but not released, is brought to rest; one
// that has no event at all is domain.ErrBookingNotFound.
func (h *Handler) ReleaseBooking(ctx context.Context, c ReleaseBooking) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	races := h.races()
	for {
		b := loaded[domain.Booking]{revision: eventstore.NoStream}
		err := b.readOn(ctx, h.store, c.Booking.Stream())
		if err != nil && err != b.unreadable {
			return Booking{}, err
		}
		if b.revision == eventstore.NoStream {
			return Booking{}, domain.ErrBookingNotFound
		}
		if b.state.Phase() == domain.PhaseCancelled {
			return h.released(ctx, b, c.Rooms...)
		}
		if b.unreadable == nil {
			use, err := load[domain.RealUse](ctx, h.store, domain.RealUseOf(c.Booking).Stream())
			if err == nil {
				return Booking{}, &Readable{c.Booking}
			}
			if err != use.unreadable {
				return Booking{}, err
			}
		}
		err = b.append(ctx, h, c.Booking.Stream(), c.propose(domain.DecideUnblock(b.state, c.Booking, c.Reason, c.At)))
		if err == nil {
			return h.released(ctx, b, c.Rooms...)
		}
		if err := races.again(ctx, err); err != nil {
			return Booking{}, err
		}
	}
}
