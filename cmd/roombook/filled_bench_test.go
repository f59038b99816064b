package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

var (
	fillReservations = flag.Int("fill.reservations", 20_000, "reservations in the store that BenchmarkAFilledStore books in")
	fillRooms        = flag.String("fill.rooms", "20,200", "in how many rooms they are, each a run of its own")
	fillPast         = flag.Bool("fill.past", false, "they are over, by 30 days and more")
)

// BenchmarkAFilledStore lets 64 clients book at random in rooms that hold many reservations, right after the start of "roombook serve" and
// with its default flags, and first of all the same in an empty store. It reports the memory of the process too, and the time of the first
// booking of all. For a million reservations:
//
//	go test ./cmd/roombook -run - -bench AFilledStore -benchtime 100000x -fill.reservations 1000000 -fill.rooms 1000,10000
//	go test ./cmd/roombook -run - -bench AFilledStore -benchtime 1x -fill.reservations 100000 -fill.rooms 1 -fill.past
//
// The second shows a room with many past bookings: as it is read the first time, and then with its snapshot.
func BenchmarkAFilledStore(b *testing.B) {
	var booked atomic.Int64
	book := func(b *testing.B, data string, rooms int) {
		p := startServe(b, data, "--log-level", "error")
		defer p.stop(b)
		booking := func() string {
			n := booked.Add(1)
			start := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
			return request("POST", "/bookings", fmt.Sprintf(`{"roomId":"fill-%d","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"bench"}`,
				n*7919%int64(rooms), start.Format(time.RFC3339), start.Add(time.Second).Format(time.RFC3339)))
		}
		answers := load(b, p, 64, booking)
		if answers[http.StatusCreated] != b.N {
			b.Errorf("%d bookings of free slots were answered %v", b.N, answers)
		}
		b.ReportMetric(residentMB(b, p, "RssAnon"), "MB")
		b.ReportMetric(residentMB(b, p, "RssFile"), "MB-of-files")
	}
	for _, text := range strings.Split(*fillRooms, ",") {
		rooms, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		data := filepath.Join(b.TempDir(), "data")
		b.Run(fmt.Sprintf("rooms=%d/empty", rooms), func(b *testing.B) { book(b, filepath.Join(b.TempDir(), "data"), rooms) })
		fill(b, data, rooms)
		catchUp(b, data)
		b.Run(fmt.Sprintf("rooms=%d/filled", rooms), func(b *testing.B) { book(b, data, rooms) })
		b.Run(fmt.Sprintf("rooms=%d/again", rooms), func(b *testing.B) { book(b, data, rooms) })
	}
}

// fill writes bookings straight into the event store.
func fill(b *testing.B, data string, rooms int) {
	b.Helper()
	began := time.Now()
	p := startServe(b, data, "--roles", "api,projections", "--log-level", "error")
	defer p.stop(b)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: nodeOf(b, data)})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	first := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if *fillPast {
		first = time.Now().AddDate(0, 0, -30).Add(-time.Duration(*fillReservations/rooms) * time.Hour).Truncate(time.Hour)
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for n := int(next.Add(1)) - 1; n < rooms; n = int(next.Add(1)) - 1 {
				if err := fillRoom(b, store, domain.RoomID(fmt.Sprint("fill-", n)), first, *fillReservations/rooms); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.Logf("filled %d rooms in %s", rooms, time.Since(began).Round(time.Second))
}

// catchUp lets recovery and the lists get to the end of the log.
func catchUp(b *testing.B, data string) {
	b.Helper()
	p := startServe(b, data, "--log-level", "error", "--read-wait", "9s")
	defer p.stop(b)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: nodeOf(b, data)})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for recovered := eventstore.Position(0); recovered == 0; time.Sleep(100 * time.Millisecond) {
		if recovered, err = store.LoadCheckpoint(b.Context(), "recovery-checkpoint"); err != nil {
			b.Fatal(err)
		}
	}
	c := newCaller(b, p)
	_, position, err := c.call("POST", "/bookings", `{"roomId":"end","useStartDtm":"2030-01-01T00:00:00Z","useEndDtm":"2030-01-01T01:00:00Z","bookingUserId":"bench"}`, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, list := range []string{"bookingLists", "roomUseLists", "notifications"} {
		for status := 0; status != http.StatusOK; {
			if status, _, err = c.call("GET", "/"+list+"?size=1", "", http.Header{"Roombook-Position": {position}}, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func fillRoom(b *testing.B, store *eventstore.Store, room domain.RoomID, first time.Time, reservations int) error {
	const row = 256
	at := eventstore.Appended{Revision: eventstore.NoStream}
	proposed := func(events ...domain.Event) (all []eventstore.Proposed) {
		for _, e := range events {
			all = append(all, eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{OccurredAt: first}})
		}
		return all
	}
	for n := 0; n < reservations; n += row {
		var reserved []domain.Event
		for i := n; i < min(n+row, reservations); i++ {
			start := first.Add(time.Duration(i) * time.Hour)
			reserved = append(reserved, domain.SlotReserved{
				ReservationID: domain.ReservationID(uuid.NewString()), BookingID: domain.BookingID(uuid.NewString()), RoomID: room,
				UserID: "bench", Slot: domain.Slot{Start: start, End: start.Add(time.Hour)}, At: first, Actor: "bench", CorrelationID: uuid.NewString(),
			})
		}
		var err error
		if at, err = store.Append(b.Context(), room.Stream(), at.Revision, proposed(reserved...)...); err != nil {
			return err
		}
		// Recovery would make the bookings that are not there.
		for _, e := range reserved {
			r := e.(domain.SlotReserved)
			if _, err := store.Append(b.Context(), r.BookingID.Stream(), eventstore.NoStream, proposed(domain.DecideCreate(domain.Booking{}, r)...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// residentMB is how much of a kind of memory of a process is in the machine's: RssAnon is its own, RssFile shows files, here above all that
// of the lists, once for each connection that reads it. The kernel takes the latter away when it needs it.
func residentMB(b *testing.B, p *process, kind string) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), kind+":")
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kB) / 1024
}
