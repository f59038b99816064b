package projections_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/storetest"
)

// crowded is a store in which every count reaches its cap.
type crowded struct{ projections.Store }

func (c crowded) Find(ctx context.Context, projection string, schema projections.Schema, s projections.Selection) (projections.Found, error) {
	found, err := c.Store.Find(ctx, projection, schema, s)
	found.Count = s.Count
	return found, err
}

// A query is wide only if it filters by more than one of booking, user and room, or if it is not sorted by time and filters by one of them
// or by time; and only if there are many documents for each filter. All others have no budget to exceed.
func TestWhichQueriesAreWide(t *testing.T) {
	store := openSQLite(t)
	for _, p := range projections.All() {
		begun(t, store, p)
	}
	// Any wide query exceeds this budget.
	few := projections.NewQueries(store, projections.QueryOptions{Budget: time.Nanosecond})
	many := projections.NewQueries(crowded{store}, projections.QueryOptions{Budget: time.Nanosecond})
	for _, p := range storetest.Queried() {
		wide := 0
		for _, q := range storetest.EveryQuery(t, p) {
			if q.Cursor != "" || q.Descending || q.Statuses != nil || q.Answers != nil || q.Used {
				continue // as these are irrelevant
			}
			ask := func(queries *projections.Queries) (err error) {
				switch p.Name {
				case projections.BookingListName:
					_, err = queries.BookingLists(t.Context(), q)
				case projections.RoomUseListName:
					_, err = queries.RoomUseLists(t.Context(), q)
				default:
					_, err = queries.Notifications(t.Context(), q)
				}
				return err
			}
			if err := ask(few); err != nil {
				t.Errorf("of few documents, %+v: %v", q, err)
			}
			keys := 0
			for _, named := range []bool{q.Room != "", q.User != "", q.Booking != "" && p.Name == projections.NotificationName} {
				if named {
					keys++
				}
			}
			inTime := q.Sort == p.Sorts[0] || q.Sort == "status" || q.Sort == "roomId" && q.Room != "" || q.Sort != "roomId" && q.Sort != "bookingDtm" && q.User != ""
			want := keys > 1 || !inTime && (keys > 0 || !q.From.IsZero() || !q.To.IsZero())
			if q.Booking != "" && p.Name != projections.NotificationName {
				want = false // the id of the document
			}
			err := ask(many)
			if want {
				wide++
			}
			if got := errors.Is(err, projections.ErrTooWide); got != want || err != nil && !got {
				t.Errorf("of many documents, %s: %+v: %v; wide should be %v", p.Name, q, err, want)
			}
		}
		t.Logf("%s: %d wide", p.Name, wide)
	}
}

// slow blocks wide queries and counts them.
type slow struct {
	projections.Store
	arrived chan struct{} // receives a token for each wide query
	release chan struct{} // closed to let them continue

	mu        sync.Mutex
	now, most int
}

func (s *slow) Find(ctx context.Context, projection string, schema projections.Schema, sel projections.Selection) (projections.Found, error) {
	if sel.Room == "" || sel.User == "" {
		return s.Store.Find(ctx, projection, schema, sel)
	}
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	s.arrived <- struct{}{}
	<-s.release
	return s.Store.Find(ctx, projection, schema, sel)
}

// Of many concurrent queries that would each read half of the documents only a few run at a time, so that all other queries are answered; and
// they are answered one after the other if they wait long enough.
func TestAFloodOfWideQueries(t *testing.T) {
	const places, cheap = 2, 200
	documents, clients := eventstoretest.Rounds(50_000, 24_000), eventstoretest.Rounds(32, 8)
	store := openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	ref := begun(t, store, p)
	rows := make([]projections.Row, documents)
	for i := range rows {
		at := eventstore.Position(i + 1)
		start := time.UnixMilli(int64(i)).UTC()
		b := projections.BookingList{Booking: domain.BookingID(fmt.Sprint("b", i)), Room: domain.RoomID(fmt.Sprint("room-", i%2)),
			User: domain.UserID(fmt.Sprint("user-", i%2)), Start: start, End: start.Add(time.Millisecond)}
		rows[i] = projections.Row{ID: string(b.Booking), Created: at, Position: at, Status: "BOOKED", Document: &b}
	}
	if err := store.Write(t.Context(), ref, p.Schema, rows, projections.Checkpoint{Position: eventstore.Position(documents), Longest: time.Millisecond.Microseconds()}); err != nil {
		t.Fatal(err)
	}
	worst := projections.Query{Room: "room-0", User: "user-1"} // who never books it

	held := &slow{Store: store, arrived: make(chan struct{}, clients), release: make(chan struct{})}
	impatient := projections.NewQueries(held, projections.QueryOptions{Wide: places, Budget: 3 * time.Second})
	var flood sync.WaitGroup
	ended := make(chan struct{}, clients)
	for range clients {
		flood.Go(func() {
			defer func() { ended <- struct{}{} }()
			if _, err := impatient.BookingLists(t.Context(), worst); !errors.Is(err, projections.ErrTooWide) {
				t.Errorf("a wide query that has no time ended with %v", err)
			}
		})
	}
	for range places {
		<-held.arrived
	}
	for i := range cheap {
		page, err := impatient.BookingLists(t.Context(), []projections.Query{{}, {Room: "room-1"}, {Sort: "bookingDtm", Descending: true, Total: true}, {User: "user-0"}}[i%4])
		if err != nil || len(page.Items) != projections.DefaultSize {
			t.Fatalf("while the places are taken: %v, %d items", err, len(page.Items))
		}
	}
	for range clients - places { // which do not run
		<-ended
	}
	close(held.release)
	flood.Wait()
	if held.most > places {
		t.Errorf("the store was asked for %d wide queries at a time", held.most)
	}

	free := &slow{Store: store, arrived: make(chan struct{}, clients), release: held.release}
	patient := projections.NewQueries(free, projections.QueryOptions{Wide: places, Budget: 5 * time.Minute})
	for range clients {
		flood.Go(func() {
			if page, err := patient.BookingLists(t.Context(), worst); err != nil || len(page.Items) != 0 {
				t.Errorf("a wide query is answered with %d items, %v", len(page.Items), err)
			}
		})
	}
	for range cheap {
		if page, err := patient.BookingLists(t.Context(), projections.Query{Room: "room-1"}); err != nil || len(page.Items) == 0 {
			t.Fatalf("beside a flood: %v, %d items", err, len(page.Items))
		}
	}
	flood.Wait()
	if free.most > places {
		t.Errorf("the store was asked for %d wide queries at a time", free.most)
	}
}
