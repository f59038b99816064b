package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/eventstore/eventstoretest"
)

// BenchmarkChangesReachBoards measures how long after its command was sent a booking is on each of 200 open boards: the stream tells a board
// that the room has changed (told), and the board asks what takes it (shown). What the command itself took is apart (replied). Several clients
// book, five times a second together; -benchtime 100x is 100 bookings. In "two processes" boards and clients have different servers, with lists of their own, of one event store.
func BenchmarkChangesReachBoards(b *testing.B) {
	b.Run("one process", func(b *testing.B) {
		l := listenWhole(b)
		benchmarkBoards(b, l, l)
	})
	b.Run("two processes", func(b *testing.B) {
		store := eventstoretest.Open(b)
		benchmarkBoards(b, listen(b, wholeOn(b, store)), listen(b, wholeOn(b, store)))
	})
}

func benchmarkBoards(b *testing.B, clients, shown *listening) {
	const boards, bookers, perSecond = 200, 4, 5
	clients.book(b, morning) // so that the log has begun before the first stream does
	rooms := make([]string, bookers)
	for i := range rooms {
		rooms[i] = "r-" + uuid.NewString()
	}
	streams := make([]<-chan sse, boards)
	for i := range streams {
		streams[i] = shown.stream(b, "")
		until(b, streams[i], named("ready"))
	}
	var mu sync.Mutex
	sent := make(map[string]time.Time) // by booking
	told, shownAt, replied := map[string][]time.Time{}, map[string][]time.Time{}, map[string][]time.Time{}
	record := func(in map[string][]time.Time, id string) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		in[id] = append(in[id], now)
	}
	var work sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: boards}}
	defer client.CloseIdleConnections()
	board := func(events <-chan sse) {
		for n := 0; n < b.N; {
			var c struct {
				RoomID, BookingID, StartDtm string
				Position                    uint64
			}
			e, ok := <-events
			if !ok {
				b.Error("a stream has ended")
				return
			}
			if json.Unmarshal([]byte(e.data), &c) != nil || c.StartDtm == "" || !slices.Contains(rooms, c.RoomID) {
				continue
			}
			n++
			record(told, c.BookingID)
			r, err := http.NewRequest("GET", shown.url+"/occupancy?from=20261101&to=20261130&roomId="+c.RoomID, nil)
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Roombook-Position", fmt.Sprint(c.Position))
			reply, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			body, err := io.ReadAll(reply.Body)
			reply.Body.Close()
			if err != nil || !strings.Contains(string(body), c.BookingID) {
				b.Errorf("the booking that was told is not there: %s %s %v", reply.Status, body, err)
				return
			}
			record(shownAt, c.BookingID)
		}
	}
	for _, events := range streams {
		work.Go(func() { board(events) })
	}
	next := make(chan int)
	for i := range bookers {
		work.Go(func() {
			for n := range next {
				start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * 5 * time.Minute)
				body := fmt.Sprintf(`{"roomId":%q,"useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"ann"}`, rooms[i], start.Format(time.RFC3339), start.Add(5*time.Minute).Format(time.RFC3339))
				began := time.Now()
				reply, err := client.Post(clients.url+"/bookings", "application/json", strings.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				var booked struct{ BookingID string }
				err = json.NewDecoder(reply.Body).Decode(&booked)
				reply.Body.Close()
				if err != nil || reply.StatusCode != 201 {
					b.Error(reply.Status, err)
					return
				}
				record(replied, booked.BookingID)
				mu.Lock()
				sent[booked.BookingID] = began
				mu.Unlock()
			}
		})
	}
	b.ResetTimer()
	pace := time.NewTicker(time.Second / perSecond)
	defer pace.Stop()
	for n := range b.N {
		<-pace.C
		next <- n
	}
	close(next)
	work.Wait()
	if b.Failed() {
		return
	}
	for name, times := range map[string]map[string][]time.Time{"replied": replied, "told": told, "shown": shownAt} {
		var all []float64
		for id, at := range times {
			for _, t := range at {
				all = append(all, float64(t.Sub(sent[id]))/1e6)
			}
		}
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name+"-p50-ms")
		b.ReportMetric(all[len(all)*99/100], name+"-p99-ms")
		b.ReportMetric(all[len(all)-1], name+"-max-ms")
	}
}
