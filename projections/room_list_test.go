package projections_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

func registered(id domain.RoomID, d domain.Details) domain.RoomRegistered {
	return domain.RoomRegistered{RoomID: id, Details: d, At: nine.In(seoul)}
}

// closedFrom is a closure of an hour.
func closedFrom(id domain.ClosureID, start, at time.Time) domain.PeriodClosed {
	return domain.PeriodClosed{ClosureID: id, RoomID: "1", Slot: domain.Slot{Start: start.In(seoul), End: start.Add(time.Hour)}, Reason: "works", Bookings: domain.KeepBookings, At: at}
}

func TestRoomList(t *testing.T) {
	blue := domain.Details{
		Name: "Blue", Building: "West", Floor: "3", Capacity: 8, Equipment: []string{"beamer"}, Zone: "Asia/Seoul", Colour: "#0000ff", Note: "n", Approvers: []domain.UserID{"kim"},
	}
	room := projections.RoomList{
		Room: "1", Name: "Blue", Building: "West", Floor: "3", Capacity: 8, Equipment: []string{"beamer"}, Zone: "Asia/Seoul", Colour: "#0000ff", Note: "n", Approvers: []domain.UserID{"kim"},
		Status: projections.RoomRegistered, RegisteredAt: nine,
	}
	with := func(change func(*projections.RoomList)) projections.RoomList {
		r := room
		change(&r)
		return r
	}
	closure := func(id domain.ClosureID, start time.Time) projections.Closure {
		return projections.Closure{ID: id, Start: start, End: start.Add(time.Hour), Reason: "works"}
	}
	rules, photo := domain.Rules{GapMinutes: 10}, domain.Photo{Hash: "9f86", Alt: "six chairs", Width: 1280, Height: 960}
	for name, test := range map[string]struct {
		given []domain.Event
		then  projections.RoomList
	}{
		"registered": {nil, room},
		"changed":    {[]domain.Event{domain.RoomChanged{RoomID: "1", Details: domain.Details{Name: "Red"}, At: ten}}, projections.RoomList{Room: "1", Name: "Red", Status: projections.RoomRegistered, RegisteredAt: nine}},
		"retired": {[]domain.Event{domain.RoomRetired{RoomID: "1", From: noon, Bookings: domain.CancelBookings, At: ten}}, with(func(r *projections.RoomList) {
			r.Status, r.RetiredFrom = projections.RoomRetired, noon
		})},
		"reinstated":    {[]domain.Event{domain.RoomRetired{RoomID: "1", From: noon, At: ten}, domain.RoomReinstated{RoomID: "1", At: eleven}}, room},
		"rules":         {[]domain.Event{domain.RulesSet{RoomID: "1", Rules: rules, At: ten}}, with(func(r *projections.RoomList) { r.Rules = &rules })},
		"rules no more": {[]domain.Event{domain.RulesSet{RoomID: "1", Rules: rules, At: ten}, domain.RulesSet{RoomID: "1", At: ten}}, room},
		"photo":         {[]domain.Event{domain.RoomPhotoChanged{RoomID: "1", Photo: photo, At: ten}}, with(func(r *projections.RoomList) { r.Photo = &photo })},
		"photo no more": {[]domain.Event{domain.RoomPhotoChanged{RoomID: "1", Photo: photo, At: ten}, domain.RoomPhotoChanged{RoomID: "1", At: ten}}, room},
		"closed, and one of the periods is reopened": {
			[]domain.Event{closedFrom("a", noon, ten), closedFrom("b", eleven, ten), closedFrom("c", ten, ten), domain.PeriodReopened{ClosureID: "b", RoomID: "1", At: ten}},
			with(func(r *projections.RoomList) {
				r.Closures = []projections.Closure{closure("a", noon), closure("c", ten)}
			}),
		},
		"faults, of which one is settled": {
			[]domain.Event{
				domain.RoomFaultReported{FaultID: "a", RoomID: "1", Equipment: "beamer", Text: "dark", By: "ann", At: ten}, domain.RoomFaultReported{FaultID: "b", RoomID: "1", At: eleven},
				domain.RoomFaultSettled{FaultID: "a", RoomID: "1", By: "kim", At: noon},
			},
			with(func(r *projections.RoomList) { r.Faults = []projections.Fault{{ID: "b", At: eleven}} }),
		},
		"every fault settled": {
			[]domain.Event{domain.RoomFaultReported{FaultID: "a", RoomID: "1", At: ten}, domain.RoomFaultSettled{FaultID: "a", RoomID: "1", At: noon}}, room,
		},
		"all reopened": {[]domain.Event{closedFrom("a", noon, ten), domain.PeriodReopened{ClosureID: "a", RoomID: "1", At: ten}}, room},
		"closures of long ago": {
			[]domain.Event{closedFrom("a", noon.AddDate(-3, 0, 0), ten), closedFrom("b", noon.AddDate(-1, 0, 0), ten), closedFrom("c", noon, ten)},
			with(func(r *projections.RoomList) {
				r.Closures = []projections.Closure{closure("b", noon.AddDate(-1, 0, 0)), closure("c", noon)}
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			given := append([]domain.Event{registered("1", blue)}, test.given...)
			page, err := queries(t, log(given...)).Rooms(t.Context(), projections.RoomQuery{})
			if err != nil || len(page.Items) != 1 || !reflect.DeepEqual(page.Items[0], test.then) {
				t.Errorf("got  %+v, %v\nwant %+v", page.Items, err, test.then)
			}
		})
	}
}

// house is a directory of some rooms.
func house() []eventstore.Recorded {
	return log(
		registered("1", domain.Details{Name: "Forêt", Building: "West", Floor: "1", Capacity: 8, Equipment: []string{"Beamer", "board"}}),
		registered("2", domain.Details{Name: "aurora", Building: "west", Floor: "2", Capacity: 4, Equipment: []string{"board"}}),
		registered("3", domain.Details{Name: "회의실", Building: "East", Floor: "1", Capacity: 20, Equipment: []string{"Board, white"}, Note: "The old FORÊT"}),
		registered("old", domain.Details{Name: "Zoo", Building: "East", Floor: "1", Capacity: 4}),
		domain.RoomRetired{RoomID: "old", From: ten, At: nine},
	)
}

func TestRooms(t *testing.T) {
	q := queries(t, house())
	for _, test := range []struct {
		query projections.RoomQuery
		want  string
	}{
		{projections.RoomQuery{}, "[2 1 old 3]"},
		{projections.RoomQuery{Descending: true}, "[3 old 1 2]"},
		{projections.RoomQuery{Sort: "roomId"}, "[1 2 3 old]"},
		{projections.RoomQuery{Sort: "capacity"}, "[2 old 1 3]"},
		{projections.RoomQuery{Sort: "capacity", Descending: true}, "[3 1 old 2]"},
		{projections.RoomQuery{Sort: "building"}, "[old 3 1 2]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Capacity: 5}}, "[1 3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Equipment: []string{"BOARD"}}}, "[2 1 3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Equipment: []string{"board", "beamer"}}}, "[1]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Equipment: []string{"board", " White"}}}, "[3]"}, // as the API splits its name
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Equipment: []string{"Board, White"}}}, "[3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Building: "WEST", Floor: "2"}}, "[2]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Text: "foret"}}, "[1 3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Text: "회"}}, "[3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Text: "OL"}}, "[old 3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Now: nine}}, "[2 1 old 3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Only: new(domain.NewRooms("3", "1", "gone"))}}, "[1 3]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Only: new(domain.Rooms)}}, "[]"},
		{projections.RoomQuery{RoomFilter: projections.RoomFilter{Now: ten}}, "[2 1 3]"},
	} {
		for size := range 4 {
			var ids []domain.RoomID
			for query := test.query; len(ids) < 10; {
				query.Size, query.Total = size, true
				page, err := q.Rooms(t.Context(), query)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page.Items {
					ids = append(ids, r.Room)
				}
				if query.Cursor = page.Next; page.Next == "" {
					if *page.Total != int64(len(ids)) {
						t.Errorf("%+v: %d in total, not %d", test.query, *page.Total, len(ids))
					}
					break
				}
			}
			if got := fmt.Sprint(ids); got != test.want {
				t.Errorf("%+v: %s, want %s", test.query, got, test.want)
			}
		}
	}
	first, err := q.Rooms(t.Context(), projections.RoomQuery{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []projections.RoomQuery{{Sort: "size"}, {Size: -1}, {Size: 201}, {Cursor: "x"}, {Cursor: first.Next, Descending: true}, {Cursor: first.Next, Sort: "roomId"}} {
		if _, err := q.Rooms(t.Context(), query); !errors.As(err, new(*projections.InvalidQuery)) {
			t.Errorf("%+v: %v", query, err)
		}
	}
}

// The directory has what a room's last event says as soon as a query asks for its position, however many events of bookings come between, and
// what the bookings say does not make it be read again.
func TestDirectoryFollows(t *testing.T) {
	eventLog, store := eventstoretest.OpenAlone(t), openSQLite(t) // where nobody else changes rooms
	counted := &finds{Store: store, of: map[string]int{}}
	positions := projections.NewPositions()
	run(t, projections.NewWorkers(store, eventLog, projections.All(), projections.WorkerOptions{Gather: time.Nanosecond, Positions: positions}))
	q := projections.NewQueries(counted, projections.QueryOptions{ReadWait: patience, Positions: positions})
	before := happen(t, eventLog, history(21), 10)
	id := domain.RoomID(fmt.Sprint("directory-", time.Now().UnixNano()))
	append := func(expected domain.Revision, e domain.Event) eventstore.Position {
		t.Helper()
		appended, err := eventLog.Append(t.Context(), id.Stream(), expected, eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{OccurredAt: nine}})
		if err != nil {
			t.Fatal(err)
		}
		return appended.Position
	}
	wantName := func(want string, at eventstore.Position) {
		t.Helper()
		d, err := q.Directory(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if d.Name(id) != want || d.Position < at {
			t.Errorf("%q at %d; want %q at %d", d.Name(id), d.Position, want, at)
		}
	}
	wantName("", before)
	wantName("Blue", append(eventstore.NoStream, registered(id, domain.Details{Name: "Blue"})))
	wantName("Red", append(0, domain.RoomChanged{RoomID: id, Details: domain.Details{Name: "Red"}, At: nine}))
	read := counted.of[projections.RoomListName]
	slot := domain.Slot{Start: ten, End: eleven}
	append(1, domain.SlotReserved{ReservationID: "r", BookingID: b1, RoomID: id, UserID: "kim", Slot: slot, At: nine})
	booking := domain.BookingID(fmt.Sprint(id))
	appended, err := eventLog.Append(t.Context(), booking.Stream(), eventstore.NoStream, eventstore.Proposed{
		Event: domain.BookingCreated{BookingID: booking, ReservationID: "r", RoomID: id, UserID: "kim", Slot: slot, At: nine}, Metadata: eventstore.Metadata{OccurredAt: nine},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantName("Red", appended.Position)
	if n := counted.of[projections.RoomListName]; n != read {
		t.Errorf("the directory was read %d times after %d, though no room had changed", n, read)
	}
	// Lists of bookings reach the positions of rooms as well.
	renamed := append(2, domain.RoomChanged{RoomID: id, Details: domain.Details{Name: "Green"}, At: nine})
	if page, err := q.BookingLists(t.Context(), projections.Query{Room: id, MinPosition: renamed}); err != nil || page.Position < renamed || len(page.Items) != 1 {
		t.Errorf("at the position of a room: %+v, %v", page, err)
	}
	wantName("Green", renamed)
	for _, p := range projections.All() {
		if verdict, err := projections.Verify(t.Context(), store, eventLog, p); err != nil || verdict.Faults() > 0 {
			t.Errorf("%+v, %v", verdict, err)
		}
	}
}

// A directory whose list a worker of this process keeps is read only if a room has changed, and then always: also if a worker of another
// process has written the change before.
func TestDirectoryOfTwoProcesses(t *testing.T) {
	eventLog, store := eventstoretest.OpenAlone(t), openSQLite(t) // where nobody else changes rooms
	counted := &finds{Store: store, of: map[string]int{}, looks: map[string]int{}}
	positions := projections.NewPositions()
	workers := projections.NewWorkers(store, eventLog, projections.All(), projections.WorkerOptions{Gather: 20 * time.Millisecond, Positions: positions})
	run(t, workers)
	here := projections.NewQueries(counted, projections.QueryOptions{ReadWait: patience, Positions: positions})
	there := projections.NewQueries(store, projections.QueryOptions{ReadWait: patience})
	id := domain.RoomID(fmt.Sprint("directory-", time.Now().UnixNano()))
	revision := eventstore.NoStream
	rename := func(name string) eventstore.Position {
		t.Helper()
		var e domain.Event = domain.RoomChanged{RoomID: id, Details: domain.Details{Name: name}, At: nine}
		if revision == eventstore.NoStream {
			e = registered(id, domain.Details{Name: name})
		}
		appended, err := eventLog.Append(t.Context(), id.Stream(), revision, eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{OccurredAt: nine}})
		if err != nil {
			t.Fatal(err)
		}
		revision = appended.Revision
		return appended.Position
	}
	want := func(q *projections.Queries, name string, at eventstore.Position) {
		t.Helper()
		d, err := q.Directory(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if d.Name(id) != name {
			t.Errorf("%q, want %q", d.Name(id), name)
		}
	}
	for i := range 2 {
		name := fmt.Sprint("alone ", i)
		want(here, name, rename(name))
	}
	until(t, "the worker keeps the list, so that the store is not asked whether a room has changed", func() bool {
		looks := counted.looks[projections.RoomListName]
		want(here, "alone 1", 0)
		return counted.looks[projections.RoomListName] == looks
	})
	run(t, projections.NewWorkers(store, eventLog, projections.All(), projections.WorkerOptions{Gather: time.Nanosecond}))
	for i := range 3 {
		name := fmt.Sprint("together ", i)
		at := rename(name)
		want(there, name, at)
		until(t, "the list is kept here as well", func() bool {
			return all(workers, func(h projections.Health) bool { return h.Position >= at && h.Gathered == 0 })
		})
		want(here, name, 0)
	}
}

// finds counts the searches for documents of each list, and of those that only look at its checkpoint.
type finds struct {
	projections.Store
	of, looks map[string]int
}

func (f *finds) Find(ctx context.Context, projection string, schema projections.Schema, s projections.Selection) (projections.Found, error) {
	if s.Limit > 0 {
		f.of[projection]++
	} else if f.looks != nil {
		f.looks[projection]++
	}
	return f.Store.Find(ctx, projection, schema, s)
}
