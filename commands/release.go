package commands

import (
	"context"
	"fmt"
	"slices"

	"roombook/domain"
	"roombook/eventstore"
)

// ReleaseBooking ends a booking that no other command can end, because an event of the booking or of its use cannot be decoded, and
// releases its slots. Its history stays as it was.
type ReleaseBooking struct {
	Request
	Booking domain.BookingID
	Reason  string          // for those who read the history
	Rooms   []domain.RoomID // in whose calendars it has reservations, see [ReservedRooms]
}

// Readable means that a booking is not released because all its events can be decoded: it can be cancelled, or its use ended.
type Readable struct{ Booking domain.BookingID }

func (e *Readable) Error() string {
	return fmt.Sprintf("every event of booking %s can be decoded: cancel it with DELETE /bookings/%[1]s, or end its use", e.Booking)
}

// ReservedRooms reads the whole log for the rooms in whose calendars the booking ever had a reservation.
func ReservedRooms(ctx context.Context, log Log, id domain.BookingID) ([]domain.RoomID, error) {
	var rooms []domain.RoomID
	err := toEnd(ctx, log, 0, Streams(), func(batch eventstore.Batch) {
		for _, r := range batch.Events {
			if e, ok := r.Event.(domain.SlotReserved); ok && e.BookingID == id && !slices.Contains(rooms, e.RoomID) {
				rooms = append(rooms, e.RoomID)
			}
		}
	})
	return rooms, err
}

// ReleaseBooking ends the booking, which decides, and releases its slots. A booking that is over is settled; one that has no events at
// all is domain.ErrBookingNotFound.
func (h *Handler) ReleaseBooking(ctx context.Context, c ReleaseBooking) (Booking, error) {
	var places []place // from the beginning: when its slots were is not known
	for _, room := range c.Rooms {
		places = append(places, place{room: room})
	}
	blocked := h.booking(c.Booking, permitAnything[domain.Booking](domain.RepairSystem), places...)
	blocked.unreadable = true
	blocked.finish = func(ctx context.Context, _ domain.Booking, now loaded[domain.Booking]) error {
		_, err := blocked.settle(ctx, now) // what it gave up cannot be told
		return err
	}
	return h.onBooking(ctx, c.Request, blocked, func(ctx context.Context, b loaded[domain.Booking]) (decision, error) {
		if b.revision == eventstore.NoStream {
			return decision{refused: domain.ErrBookingNotFound}, nil
		}
		if b.unreadable == nil && b.state.Cancellation == nil {
			use, err := load[domain.RealUse](ctx, h.store, domain.RealUseOf(c.Booking).Stream())
			if err == nil {
				return decision{refused: &Readable{c.Booking}}, nil
			}
			if err != use.unreadable {
				return decision{}, err
			}
		}
		return c.decided(domain.DecideUnblock(b.state, c.Booking, c.Reason, c.At), nil)
	})
}
