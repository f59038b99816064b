package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roombook/domain"
	"roombook/projections"
)

// discard is a response writer that drops everything, so that benchmarks only measure the server's own work.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// BenchmarkCreateBooking measures POST /bookings from the parsed header to the reply, with an in-memory log.
func BenchmarkCreateBooking(b *testing.B) {
	s := newService(b)
	bodies := make([]string, b.N)
	for i := range bodies {
		bodies[i] = newBooking(i)
	}
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"*/*"}}
	r, err := http.NewRequest("POST", "http://127.0.0.1:8080/bookings", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header = header
	b.ReportAllocs()
	b.ResetTimer()
	for _, body := range bodies {
		w := &discard{header: make(http.Header, 8)}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		s.ServeHTTP(w, r)
		if w.status != 201 {
			b.Fatal(w.status)
		}
	}
}

// newBooking returns the body of the i-th of many bookings that do not overlap.
func newBooking(i int) string {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i/100) * time.Hour)
	return fmt.Sprintf(`{"roomId":"room-%d","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"user-%d"}`,
		i%100, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339), i%1000)
}

// twenty fills the booking list with a page of entries.
func twenty(s *service) {
	start := time.Date(2026, 11, 24, 0, 30, 0, 0, time.UTC)
	for i := range 20 {
		s.lists.bookings = append(s.lists.bookings, projections.BookingList{
			Booking: domain.BookingID(fmt.Sprintf("01965b7a-0000-7000-8000-%012d", i)), Room: "room-1", User: "user-1",
			Start: start.Add(time.Duration(i) * time.Hour), End: start.Add(time.Duration(i+1) * time.Hour),
			BookedAt: start, Status: projections.StatusBooked, ConfirmStatus: domain.AnswerPending,
		})
	}
	s.lists.next = "eyJhIjoxfQ"
}

// BenchmarkBookingLists measures a page of 20 entries from the parsed header to the reply.
func BenchmarkBookingLists(b *testing.B) {
	s := newService(b)
	twenty(s)
	r, err := http.NewRequest("GET", "http://127.0.0.1:8080/bookingLists?roomId=room-1&size=20", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: make(http.Header, 8)}
		s.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

// BenchmarkOverTheWire includes net/http, with 64 keep-alive clients in the same process.
func BenchmarkOverTheWire(b *testing.B) {
	for _, bm := range []struct {
		name, method, path string
		body               func(i int) string
		status             int
	}{
		{"CreateBooking", "POST", "/bookings", newBooking, 201},
		{"BookingLists", "GET", "/bookingLists?roomId=room-1&size=20", func(int) string { return "" }, 200},
	} {
		b.Run(bm.name, func(b *testing.B) {
			s := newService(b)
			twenty(s)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			served := make(chan error, 1)
			go func() { served <- s.Run(ctx, l) }()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			var next atomic.Int64
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, err := http.NewRequest(bm.method, "http://"+l.Addr().String()+bm.path, strings.NewReader(bm.body(int(next.Add(1)))))
					if err != nil {
						b.Error(err)
						return
					}
					r.Header.Set("Content-Type", "application/json")
					res, err := client.Do(r)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode != bm.status {
						b.Error(res.Status)
						return
					}
				}
			})
			client.CloseIdleConnections()
			cancel()
			if err := <-served; err != nil {
				b.Error(err)
			}
		})
	}
}
