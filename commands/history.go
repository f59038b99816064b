package commands

import (
	"cmp"
	"context"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// AsOf is a moment in the past: a position in the log, or a time if that is 0.
type AsOf struct {
	Time     time.Time
	Position eventstore.Position
}

// has reports whether the event had been written by then.
func (a AsOf) has(r eventstore.Recorded) bool {
	if a.Position != 0 {
		return r.Position <= a.Position
	}
	return !r.Metadata.OccurredAt.After(a.Time)
}

// BookingAsOf reads the booking as it was at a moment, cancelled or not. Before its first event it is domain.ErrBookingNotFound.
// The order of a stream counts, and not the clocks: whatever follows the first event after the moment is after it as well.
func (h *Handler) BookingAsOf(ctx context.Context, id domain.BookingID, moment AsOf) (Booking, error) {
	b := unread[domain.Booking]()
	if err := b.readOn(ctx, h.store, id.Stream()); err != nil {
		return Booking{}, err
	}
	then := b.while(moment.has)
	switch {
	case then.unreadable != nil:
		return Booking{}, then.unreadable
	case then.state.Phase() == domain.PhaseNone:
		return Booking{}, domain.ErrBookingNotFound
	}
	booking, _, err := h.withUse(ctx, then, moment.has)
	return booking, err
}

// History lists every event of the booking and of its real use in the order of the log, including those that this version cannot
// decode: nothing depends on them here.
func (h *Handler) History(ctx context.Context, id domain.BookingID) ([]eventstore.Recorded, error) {
	var history []eventstore.Recorded
	for _, stream := range []string{id.Stream(), domain.RealUseOf(id).Stream()} {
		for r, err := range h.store.ReadStream(ctx, stream, 0) {
			if err != nil {
				return nil, err
			}
			history = append(history, r)
		}
		if len(history) == 0 {
			return nil, domain.ErrBookingNotFound
		}
	}
	slices.SortStableFunc(history, func(a, b eventstore.Recorded) int { return cmp.Compare(a.Position, b.Position) })
	return history, nil
}
