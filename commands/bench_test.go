package commands

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// BenchmarkBookAsARoomAges books in an empty room, and in one with 100,000 bookings that are over: whose calendar is in memory (warm), is
// read to the last event or from its snapshot on (cold), or has to be read for a slot of long ago (past).
func BenchmarkBookAsARoomAges(b *testing.B) {
	store := eventstoretest.Open(b)
	old := newRoom()
	age(b, store, old, 100_000)
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
		h.cache.limit = 1 << 30
		bookIn(b, h, old)
		for b.Loop() {
			bookIn(b, h, old)
		}
	})
	for _, snapshot := range []bool{false, true} {
		b.Run(fmt.Sprintf("old, cold, snapshot=%t", snapshot), func(b *testing.B) {
			for b.Loop() {
				h := newHandler(store)
				if !snapshot {
					h.calendars.snapshots.peek = 1 << 40
				}
				bookIn(b, h, old)
				h.idle()
			}
		})
	}
	b.Run("old, past", func(b *testing.B) {
		h, hour := newHandler(store), -200_000
		bookIn(b, h, old)
		for b.Loop() {
			hour--
			c := CreateBooking{Request: request(), Room: old, User: "ann", Slot: slot(hour, hour+1)}
			if _, err := h.CreateBooking(b.Context(), c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBookAtOnce lets 64 callers of one process book at the same time, each in a room of its own or all in the same one.
func BenchmarkBookAtOnce(b *testing.B) {
	const callers = 64
	store := eventstoretest.Open(b)
	for _, rooms := range []int{callers, 1} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			h := newHandler(store)
			var in []domain.RoomID
			for range rooms {
				in = append(in, newRoom())
			}
			var next atomic.Int64
			var all sync.WaitGroup
			for caller := range callers {
				all.Go(func() {
					for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
						c := CreateBooking{Request: request(), Room: in[caller%rooms], User: "ann", Slot: slot(n, n+1)}
						if _, err := h.CreateBooking(b.Context(), c); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// BenchmarkLivesOfBookings lets callers of one process, each in a room of its own, book, confirm, start and end, one booking after another.
func BenchmarkLivesOfBookings(b *testing.B) {
	store := eventstoretest.Open(b)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			h := newHandler(store)
			var next atomic.Int64
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					room := newRoom()
					for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
						if err := live(b.Context(), h, room, slot(n, n+1)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lives/s")
		})
	}
}

// live takes a booking through its whole life.
func live(ctx context.Context, h *Handler, room domain.RoomID, s domain.Slot) error {
	booked, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: room, User: "ann", Slot: s})
	if err != nil {
		return err
	}
	if _, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: request(), Booking: booked.ID, Answer: domain.Confirmed, AnsweredAt: noon}); err != nil {
		return err
	}
	use, err := h.StartUse(ctx, StartUse{Request: request(), Booking: booked.ID, StartedAt: s.Start})
	if err != nil {
		return err
	}
	_, err = h.EndUse(ctx, EndUse{Request: request(), RealUse: use.ID, EndedAt: s.End})
	return err
}

// age fills a room with reservations in the past, one per hour.
func age(t testing.TB, store Store, room domain.RoomID, reservations int) {
	t.Helper()
	hours := make([]eventstore.Proposed, reservations)
	for i := range hours {
		hours[i] = reservation(room, slot(-i-1, -i))
	}
	at := eventstore.Appended{Revision: eventstore.NoStream}
	for row := range slices.Chunk(hours, 500) {
		var err error
		if at, err = store.Append(t.Context(), room.Stream(), at.Revision, row...); err != nil {
			t.Fatal(err)
		}
	}
}

// reservation is a reservation for a booking that does not exist yet.
func reservation(room domain.RoomID, s domain.Slot) eventstore.Proposed {
	ask := request().reservation(eventstore.NoStream)
	ask.BookingID, ask.RoomID, ask.UserID, ask.Slot = domain.BookingID(uuid.NewString()), room, "ann", s
	return eventstore.Proposed{Event: ask, Metadata: eventstore.Metadata{OccurredAt: noon}}
}
