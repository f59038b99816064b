package projections_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// several are the events of bookings with different statuses, a day apart, in rooms 1 and 2.
func several() []eventstore.Recorded {
	lives := [][]domain.Event{
		{created(), requested()},
		{created(), requested(), confirmed()},
		{created(), requested(), checkedIn(), started()},
		{created(), requested(), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)},
		{created(), requested(), cancelled(domain.CancelledByUser)},
	}
	var all []eventstore.Recorded
	for i, life := range lives {
		id := domain.BookingID(fmt.Sprint("b", i+1))
		room := domain.RoomID(fmt.Sprint(i%2 + 1))
		for _, e := range life {
			switch event := e.(type) {
			case domain.BookingCreated:
				event.BookingID, event.RoomID = id, room
				event.Slot.Start, event.Slot.End = event.Slot.Start.AddDate(0, 0, i), event.Slot.End.AddDate(0, 0, i)
				e = event
			case domain.ConfirmRequested:
				event.BookingID = id
				e = event
			case domain.ConfirmCompleted:
				event.BookingID = id
				e = event
			case domain.BookingCheckedIn:
				event.BookingID = id
				e = event
			case domain.UseStarted:
				event.BookingID = id
				e = event
			case domain.UseEnded:
				event.BookingID = id
				e = event
			case domain.BookingCancelled:
				event.BookingID = id
				e = event
			}
			r := log(e)[0]
			r.ID, r.Position = eventID(len(all)), eventstore.Position(len(all)+1)
			r.Metadata.OccurredAt = nine.Add(time.Duration(len(all)) * time.Minute)
			all = append(all, r)
		}
	}
	return all
}

func TestQueries(t *testing.T) {
	q := queries(t, several())
	tests := []struct {
		name string
		projections.Query
		want string // the bookings in order
	}{
		{"all that is live or done", projections.Query{}, "b1 b2 b3 b4"},
		{"everything", projections.Query{Statuses: []string{projections.StatusAll}}, "b1 b2 b3 b4 b5"},
		{"the cancelled", projections.Query{Statuses: []string{"CANCELLED"}}, "b5"},
		{"in use or ended", projections.Query{Statuses: []string{"IN_USE", "ENDED"}}, "b3 b4"},
		{"the latest first", projections.Query{Descending: true}, "b4 b3 b2 b1"},
		{"a room", projections.Query{Room: "1"}, "b1 b3"},
		{"a booking", projections.Query{Booking: "b3"}, "b3"},
		{"a cancelled booking, by default", projections.Query{Booking: "b5"}, ""},
		{"a user", projections.Query{User: "kim"}, "b1 b2 b3 b4"},
		{"nobody", projections.Query{User: "nobody"}, ""},
		{"by room", projections.Query{Sort: "roomId"}, "b1 b3 b2 b4"},
		{"by status", projections.Query{Sort: "status"}, "b1 b2 b4 b3"},
		{"as they were booked, the last first", projections.Query{Sort: "bookingDtm", Descending: true}, "b4 b3 b2 b1"},
		{"from a time", projections.Query{From: eleven.AddDate(0, 0, 1)}, "b3 b4"},
		{"to a time", projections.Query{To: ten.AddDate(0, 0, 1)}, "b1"},
		{"within a time", projections.Query{From: ten.AddDate(0, 0, 1).Add(time.Minute), To: ten.AddDate(0, 0, 1).Add(time.Hour)}, "b2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			query := test.Query
			query.Total = true
			bookings, err := q.BookingLists(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, b := range bookings.Items {
				got = append(got, string(b.Booking))
			}
			if strings.Join(got, " ") != test.want || *bookings.Total != int64(len(got)) || bookings.Next != "" || bookings.Position != 1000 {
				t.Errorf("got %v of %d, next %q, at %d; want %v", got, *bookings.Total, bookings.Next, bookings.Position, test.want)
			}
			uses, err := q.RoomUseLists(t.Context(), query)
			if test.Sort == "" {
				got = nil
				for _, u := range uses.Items {
					got = append(got, string(u.Booking))
				}
				if err != nil || strings.Join(got, " ") != test.want {
					t.Errorf("uses: got %v, %v, want %v", got, err, test.want)
				}
			}
		})
	}
	t.Run("notifications", func(t *testing.T) {
		page, err := q.Notifications(t.Context(), projections.Query{Booking: "b4", Statuses: []string{"PENDING"}, From: nine.Add(time.Minute), Descending: true})
		if err != nil {
			t.Fatal(err)
		}
		var kinds []domain.NotificationKind
		for _, n := range page.Items {
			kinds = append(kinds, n.Kind)
		}
		if want := []domain.NotificationKind{domain.KindUseEnded, domain.KindUseStarted, domain.KindBooked}; !slices.Equal(kinds, want) {
			t.Errorf("got %v, want %v", kinds, want)
		}
		if page, err := q.Notifications(t.Context(), projections.Query{Statuses: []string{"FAILED"}}); err != nil || len(page.Items) != 0 {
			t.Errorf("failed: %v, %v", page, err)
		}
	})
	t.Run("real uses", func(t *testing.T) {
		for want, query := range map[string]projections.Query{
			"b3 b4": {}, "b3": {Statuses: []string{"IN_USE", "IN_USE"}}, "b4 b3": {Sort: "status", Statuses: []string{"ENDED", "IN_USE"}}, "b4": {Room: "2", User: "kim"},
		} {
			query.Used, query.Total = true, true
			page, err := q.RoomUseLists(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range page.Items {
				got = append(got, string(u.Booking))
			}
			if strings.Join(got, " ") != want || *page.Total != int64(len(got)) {
				t.Errorf("%+v: %v of %d, want %s", query, got, *page.Total, want)
			}
		}
		if _, err := q.BookingLists(t.Context(), projections.Query{Used: true}); err == nil {
			t.Error("bookings have real uses")
		}
	})
	t.Run("not there", func(t *testing.T) {
		if _, err := q.BookingList(t.Context(), "b9", 0); !errors.Is(err, projections.ErrNotFound) {
			t.Error(err)
		}
		if b, err := q.BookingList(t.Context(), "b5", 0); err != nil || b.Status != projections.StatusCancelled {
			t.Errorf("a cancelled booking by its id: %+v, %v", b, err)
		}
	})
}

func TestCursors(t *testing.T) {
	q := queries(t, several())
	for _, sort := range []string{"", "bookingDtm", "roomId", "bookingUserId", "status"} {
		for _, descending := range []bool{false, true} {
			query := projections.Query{Sort: sort, Descending: descending, Statuses: []string{projections.StatusAll}}
			whole, err := q.BookingLists(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			query.Size = 2
			var paged []projections.BookingList
			for {
				page, err := q.BookingLists(t.Context(), query)
				if err != nil {
					t.Fatal(err)
				}
				paged = append(paged, page.Items...)
				if query.Cursor = page.Next; page.Next == "" {
					break
				}
			}
			if !slices.Equal(paged, whole.Items) {
				t.Errorf("by %q: pages %v, whole %v", sort, paged, whole.Items)
			}
		}
	}
	exact, err := q.BookingLists(t.Context(), projections.Query{Size: 4})
	if err != nil || len(exact.Items) != 4 || exact.Next != "" {
		t.Errorf("a page that is full and the last has next %q, %v", exact.Next, err)
	}
}

func TestInvalidQueries(t *testing.T) {
	q := queries(t, several())
	page, err := q.BookingLists(t.Context(), projections.Query{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := q.Notifications(t.Context(), projections.Query{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		projections.Query
		want projections.Parameter
	}{
		{"a sort that is not there", projections.Query{Sort: "colour"}, projections.ParameterSort},
		{"a sort of another list", projections.Query{Sort: "sendDtm"}, projections.ParameterSort},
		{"a status that is not there", projections.Query{Statuses: []string{"BOOKED", "LOST"}}, projections.ParameterStatus},
		{"a status of another list", projections.Query{Statuses: []string{"PENDING"}}, projections.ParameterStatus},
		{"a page too large", projections.Query{Size: projections.MaxSize + 1}, projections.ParameterSize},
		{"a page of less than nothing", projections.Query{Size: -1}, projections.ParameterSize},
		{"a damaged cursor", projections.Query{Cursor: page.Next[1:]}, projections.ParameterCursor},
		{"a cursor that is none", projections.Query{Cursor: "%"}, projections.ParameterCursor},
		{"a cursor of another list", projections.Query{Cursor: foreign.Next}, projections.ParameterCursor},
		{"a cursor of another order", projections.Query{Cursor: page.Next, Sort: "roomId"}, projections.ParameterCursor},
		{"a cursor of the other direction", projections.Query{Cursor: page.Next, Descending: true}, projections.ParameterCursor},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var invalid *projections.InvalidQuery
			if _, err := q.BookingLists(t.Context(), test.Query); !errors.As(err, &invalid) || invalid.Parameter != test.want || invalid.Detail == "" {
				t.Errorf("got %v, want something about %s", err, test.want)
			}
		})
	}
}

// A booking has a real use from UseStarted on, not from the check-in, and keeps it if an operator cancels the booking.
func TestRealUses(t *testing.T) {
	for name, test := range map[string]struct {
		events []domain.Event
		used   bool
	}{
		"checked in":   {[]domain.Event{created(), requested(), checkedIn()}, false},
		"started":      {[]domain.Event{created(), requested(), checkedIn(), started()}, true},
		"ended":        {[]domain.Event{created(), requested(), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)}, true},
		"unblocked":    {[]domain.Event{created(), requested(), checkedIn(), started(), cancelled(domain.CancelledByAdmin)}, true},
		"never used":   {[]domain.Event{created(), requested(), cancelled(domain.CancelledByUser)}, false},
		"not yet used": {[]domain.Event{created(), requested(), confirmed()}, false},
	} {
		q := queries(t, log(test.events...))
		page, err := q.RoomUseLists(t.Context(), projections.Query{Used: true})
		if err != nil || len(page.Items) == 1 != test.used {
			t.Errorf("%s: %+v, %v", name, page.Items, err)
		}
		page, err = q.RoomUseLists(t.Context(), projections.Query{Statuses: []string{projections.StatusAll}})
		if err != nil || len(page.Items) != 1 {
			t.Errorf("%s, with all others: %+v, %v", name, page.Items, err)
		}
	}
}

// Documents are counted up to a maximum, and the page says whether there are more.
func TestTotals(t *testing.T) {
	store := openSQLite(t)
	p, _ := projections.Named(projections.NotificationName)
	ref := begun(t, store, p)
	position := eventstore.Position(0)
	for _, add := range []int{projections.MaxTotal - 1, 1, 1} {
		rows := make([]projections.Row, add)
		for i := range rows {
			position++
			n := projections.Notification{ID: domain.NotificationID(fmt.Sprint(position)), Booking: "b", Delivery: domain.DeliveryPending}
			rows[i] = projections.Row{ID: string(n.ID), Created: position, Position: position, Status: string(n.Delivery), Document: &n}
		}
		if err := store.Write(t.Context(), ref, p.Schema, rows, projections.Checkpoint{Position: position}); err != nil {
			t.Fatal(err)
		}
		for _, query := range []projections.Query{{}, {Booking: "b"}, {Sort: "userId", Booking: "b"}} {
			query.Total = true
			page, err := projections.NewQueries(store, projections.QueryOptions{}).Notifications(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			if *page.Total != min(int64(position), projections.MaxTotal) || page.More != (position > projections.MaxTotal) {
				t.Errorf("%+v of %d: %d, more %t", query, position, *page.Total, page.More)
			}
		}
	}
}

// A cursor may be used with other filters than those of the page that it is from, and selects what follows it among the other documents.
func TestCursorsOfOtherFilters(t *testing.T) {
	q := queries(t, several()) // by room: b1 b3 in 1, b2 b4 in 2
	for _, test := range []struct {
		descending bool
		size       int // of the first page
		room       domain.RoomID
		want       string
	}{
		{false, 1, "1", "b3"}, {false, 1, "2", "b2 b4"}, {false, 3, "1", ""}, {false, 3, "2", "b4"},
		{true, 1, "2", "b2"}, {true, 1, "1", "b3 b1"}, {true, 3, "2", ""}, {true, 3, "1", "b1"},
	} {
		first, err := q.BookingLists(t.Context(), projections.Query{Sort: "roomId", Descending: test.descending, Size: test.size})
		if err != nil {
			t.Fatal(err)
		}
		page, err := q.BookingLists(t.Context(), projections.Query{Sort: "roomId", Descending: test.descending, Cursor: first.Next, Room: test.room})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range page.Items {
			got = append(got, string(b.Booking))
		}
		if strings.Join(got, " ") != test.want || page.Next != "" || page.Position != 1000 {
			t.Errorf("%+v: %v, next %q, at %d", test, got, page.Next, page.Position)
		}
	}
}
