package eventstore_test

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// connections is the number of connections that benchmarks use, from the environment; 0 is the default.
func connections(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("BENCH_CONNECTIONS"))
	if err != nil && os.Getenv("BENCH_CONNECTIONS") != "" {
		b.Fatal(err)
	}
	return n
}

// cpu is the processor time that this process has used, for client and node.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reservation(booking domain.BookingID) eventstore.Proposed {
	at := time.Now()
	return eventstore.Proposed{
		Event: domain.SlotReserved{
			ReservationID: domain.ReservationID(uuid.NewString()), BookingID: booking, RoomID: "room-1", UserID: "user-1",
			Slot: domain.Slot{Start: at, End: at.Add(time.Hour)}, At: at, Actor: "user-1", CorrelationID: string(booking),
		},
		Metadata: eventstore.Metadata{CorrelationID: string(booking), CausationID: string(booking), Actor: "user-1", OccurredAt: at},
	}
}

// BenchmarkAppend has goroutines append to a stream of their own each, one event at a time at an explicit revision. The node is in this
// process and in memory, unless the environment names an event store.
func BenchmarkAppend(b *testing.B) {
	for _, goroutines := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint("batches/", goroutines), func(b *testing.B) { benchmarkAppend(b, goroutines, false) })
		b.Run(fmt.Sprint("singly/", goroutines), func(b *testing.B) { benchmarkAppend(b, goroutines, true) })
	}
}

func benchmarkAppend(b *testing.B, goroutines int, singly bool) {
	s, err := eventstore.Open(eventstore.Options{ConnectionString: eventstoretest.Backend(b), Connections: connections(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(b.Context()); err != nil {
		b.Fatal(err)
	}
	if singly {
		s.AppendSingly(b.Context())
	}
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error)
	for range goroutines {
		go func() {
			done <- func() error {
				stream, revision := newStream(), eventstore.NoStream
				for left.Add(-1) >= 0 {
					at, err := s.Append(b.Context(), stream, revision, reservation("0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c01"))
					if err != nil {
						return err
					}
					revision = at.Revision
				}
				return nil
			}()
		}()
	}
	for range goroutines {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
	b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkRead reads a stream of five events, about the length of a booking's.
func BenchmarkRead(b *testing.B) {
	s := eventstoretest.Open(b)
	stream := newStream()
	for i := range 5 {
		if _, err := s.Append(b.Context(), stream, domain.Revision(i-1), reservation("b")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			for _, err := range s.ReadStream(b.Context(), stream, 0) {
				if err != nil {
					b.Error(err)
				}
			}
		}
	})
}

// BenchmarkSubscribe catches up on a log.
func BenchmarkSubscribe(b *testing.B) {
	s := eventstoretest.Open(b)
	after, err := s.End(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	stream := newStream()
	proposed := make([]eventstore.Proposed, 100)
	for n := 0; n < b.N; n += len(proposed) {
		for i := range proposed {
			proposed[i] = reservation("b")
		}
		if _, err := s.Append(b.Context(), stream, domain.Revision(n-1), proposed...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	n, batches := 0, 0
	for batch, err := range s.Subscribe(b.Context(), after, eventstore.Filter{StreamPrefixes: []string{stream}}) {
		if err != nil {
			b.Fatal(err)
		}
		batches++
		if n += len(batch.Events); batch.CaughtUp {
			break
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(n)/float64(batches), "events/batch")
}
