package projections_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
	"roombook/projections/sqlite"
)

// bookings returns the two events of each of n created bookings, in 50 rooms and by 1,000 users.
func bookings(n int, after eventstore.Position) []eventstore.Recorded {
	random := rand.New(rand.NewPCG(1, uint64(after)))
	began := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	events := make([]eventstore.Recorded, 0, 2*n)
	for i := range n {
		at := began.Add(time.Duration(int(after)+i) * time.Second)
		id, _ := uuid.NewV7()
		booking := domain.BookingID(id.String())
		room := domain.RoomID(fmt.Sprint(i % 50))
		user := domain.UserID(fmt.Sprintf("user-%d", random.IntN(1000)))
		start := began.Add(time.Duration((int(after)+i)/50+random.IntN(100)) * time.Hour)
		for j, e := range []domain.Event{
			domain.BookingCreated{BookingID: booking, ReservationID: "r", RoomID: room, UserID: user, Slot: domain.Slot{Start: start, End: start.Add(time.Hour)}, At: at},
			domain.ConfirmRequested{BookingID: booking, RoomID: room, UserID: user, At: at},
		} {
			events = append(events, eventstore.Recorded{
				ID: uuid.NewSHA1(id, []byte{byte(j)}), Stream: booking.Stream(), Revision: domain.Revision(j),
				Position: after + eventstore.Position(3*i+j+1), Type: e.EventType(), Event: e,
				Metadata: eventstore.Metadata{OccurredAt: at},
			})
		}
	}
	return events
}

func none(context.Context, []string) ([]projections.Row, error) { return nil, nil }

// filled returns a store with n bookings in every list.
func filled(b *testing.B, n int) *sqlite.Store {
	b.Helper()
	store, err := sqlite.Open(filepath.Join(b.TempDir(), "views.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	for _, p := range projections.All() {
		g, err := store.Begin(b.Context(), p.Name, p.Version, p.Schema)
		if err != nil {
			b.Fatal(err)
		}
		if err := store.Activate(b.Context(), p.Name, 0, g.Number); err != nil {
			b.Fatal(err)
		}
		for at := 0; at < n; at += 1000 {
			write(b, store, p, g.Ref, bookings(1000, eventstore.Position(3*at)))
		}
	}
	return store
}

func write(b *testing.B, store projections.Store, p projections.Projection, ref projections.Ref, events []eventstore.Recorded) {
	b.Helper()
	rows, longest, err := p.Fold(b.Context(), none, events)
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Write(b.Context(), ref, p.Schema, rows, projections.Checkpoint{Position: events[len(events)-1].Position, Longest: longest}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPage reads pages of 20, and one of 100, of 100,000 bookings.
func BenchmarkPage(b *testing.B) {
	queries := projections.NewQueries(filled(b, 100_000), projections.QueryOptions{})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for _, bench := range []struct {
		name string
		projections.Query
	}{
		{"first", projections.Query{}},
		{"hundred", projections.Query{Size: 100}},
		{"latest", projections.Query{Descending: true}},
		{"room", projections.Query{Room: "7"}},
		{"user", projections.Query{User: "user-7"}},
		{"status", projections.Query{Statuses: []string{"BOOKED"}}},
		{"day", projections.Query{From: time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 12, 25, 0, 0, 0, 0, time.UTC)}},
		{"total", projections.Query{Total: true}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				page, err := queries.BookingLists(ctx, bench.Query)
				if err != nil || len(page.Items) != cmp.Or(bench.Size, 20) {
					b.Fatal(len(page.Items), err)
				}
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := queries.BookingLists(ctx, projections.Query{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkWrite folds and writes batches of new bookings. The time is per booking and list.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{50, 500, 2000} {
		for _, p := range projections.All() {
			b.Run(fmt.Sprintf("%s/%d", p.Name, size), func(b *testing.B) {
				store := filled(b, 0)
				ref := projections.Ref{Projection: p.Name, Number: 1}
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n += size {
					b.StopTimer()
					events := bookings(size, eventstore.Position(3*n))
					b.StartTimer()
					write(b, store, p, ref, events)
				}
			})
		}
	}
}
