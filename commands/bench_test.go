package commands

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// BenchmarkBookAsARoomAges books in an empty room, and in one with 100,000 bookings whose calendar is in memory (warm) or
// has to be read (cold).
func BenchmarkBookAsARoomAges(b *testing.B) {
	store := eventstoretest.Open(b)
	old := newRoom()
	const bookings, row = 100_000, 500
	for i := 0; i < bookings; i += row {
		events := make([]eventstore.Proposed, row)
		for j := range events {
			ask := request().reservation(eventstore.NoStream)
			ask.BookingID, ask.RoomID, ask.UserID, ask.Slot = domain.BookingID(uuid.NewString()), old, "ann", slot(-i-j-1, -i-j)
			events[j] = eventstore.Proposed{ID: space(ask.ReservationID), Event: ask, Metadata: eventstore.Metadata{OccurredAt: noon}}
		}
		if _, err := store.Append(b.Context(), old.Stream(), domain.Revision(i)-1, events...); err != nil {
			b.Fatal(err)
		}
	}
	next := 0
	bookIn := func(b *testing.B, h *Handler, room domain.RoomID) {
		next++
		c := CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(next, next+1)}
		if _, err := h.CreateBooking(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("empty", func(b *testing.B) {
		h, room := newHandler(store), newRoom()
		for b.Loop() {
			bookIn(b, h, room)
		}
	})
	b.Run("old, warm", func(b *testing.B) {
		h := newHandler(store)
		h.calendars.limit = 1 << 30
		bookIn(b, h, old)
		for b.Loop() {
			bookIn(b, h, old)
		}
	})
	b.Run("old, cold", func(b *testing.B) {
		for b.Loop() {
			h := newHandler(store)
			start := time.Now()
			bookIn(b, h, old)
			b.ReportMetric(time.Since(start).Seconds(), "s/cold")
		}
	})
}
