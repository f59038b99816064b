package projections_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// bookedIn is a booking of a room for some hours of the day.
func bookedIn(room domain.RoomID, id domain.BookingID, from, to time.Time) domain.BookingCreated {
	return domain.BookingCreated{BookingID: id, ReservationID: "r", RoomID: room, UserID: "kim", Slot: domain.Slot{Start: from, End: to}, At: nine}
}

// spans are the spans of each room in short, with the hours of the day.
func spans(o projections.Occupancy) string {
	clock := func(t time.Time) string { return t.UTC().Format("02T15:04") }
	var b strings.Builder
	for _, room := range o.Rooms {
		fmt.Fprintf(&b, "%s:", room.Room)
		for _, s := range room.Spans {
			fmt.Fprintf(&b, " %s %s-%s", s.Kind, clock(s.Slot.Start), clock(s.Slot.End))
			if s.Booking != nil {
				fmt.Fprintf(&b, " %s %s", s.Booking.Booking, s.Booking.Status)
			}
			if s.Closure != nil {
				fmt.Fprintf(&b, " %s", s.Closure.ID)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestOccupancy(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2026, 11, 24, hour, minute, 0, 0, time.UTC) } // a Tuesday
	day := projections.OccupancyQuery{From: at(8, 0), To: at(20, 0), Rooms: []domain.RoomID{"1"}}
	rules := func(r domain.Rules) domain.Event { return domain.RulesSet{RoomID: "1", Rules: r, At: nine} }
	room := registered("1", domain.Details{Name: "Blue", Building: "West"})
	used := func(until time.Time) []domain.Event {
		return []domain.Event{
			bookedIn("1", b1, at(10, 0), at(12, 0)), checkedIn(), started(),
			domain.UseEnded{RealUseID: u1, BookingID: b1, RoomID: "1", UserID: "kim", EndedAt: until, At: noon}, cancelled(domain.CancelledByUseEnd),
		}
	}
	for name, test := range map[string]struct {
		given []domain.Event
		query projections.OccupancyQuery
		then  string
	}{
		"nothing":                {nil, day, "1:"},
		"a room not registered":  {[]domain.Event{bookedIn("1", "b", at(10, 0), at(11, 0))}, day, "1: booking 24T10:00-24T11:00 b BOOKED"},
		"others and elsewhere":   {[]domain.Event{bookedIn("2", "b", at(10, 0), at(11, 0)), bookedIn("1", "c", at(20, 0), at(21, 0)), bookedIn("1", "d", at(7, 0), at(8, 0))}, day, "1:"},
		"into and out of it":     {[]domain.Event{bookedIn("1", "b", at(19, 0), at(21, 0)), bookedIn("1", "c", at(7, 0), at(9, 0))}, day, "1: booking 24T07:00-24T09:00 c BOOKED booking 24T19:00-24T21:00 b BOOKED"},
		"cancelled":              {[]domain.Event{created(), cancelled(domain.CancelledByUser)}, day, "1:"},
		"in use":                 {[]domain.Event{created(), checkedIn(), started()}, day, "1: booking 24T10:00-24T11:00 b1 IN_USE"},
		"left early":             {used(at(10, 45)), day, "1: booking 24T10:00-24T10:45 b1 ENDED"},
		"left late":              {used(at(12, 45)), day, "1: booking 24T10:00-24T12:00 b1 ENDED"},
		"left before it began":   {used(at(9, 45)), day, "1:"},
		"left before the window": {used(at(10, 45)), projections.OccupancyQuery{From: at(11, 0), To: at(12, 0), Rooms: day.Rooms}, "1:"},
		"gaps": {
			[]domain.Event{room, rules(domain.Rules{GapMinutes: 15}), bookedIn("1", "b", at(10, 0), at(11, 0)), bookedIn("1", "c", at(11, 20), at(12, 0)), bookedIn("1", "d", at(13, 0), at(14, 0)),
				bookedIn("1", "e", at(7, 0), at(7, 50)), bookedIn("1", "f", at(20, 10), at(21, 0))},
			day, "1: gap 24T08:00-24T08:05 gap 24T09:45-24T10:00 booking 24T10:00-24T11:00 b BOOKED gap 24T11:00-24T11:15 gap 24T11:15-24T11:20 booking 24T11:20-24T12:00 c BOOKED " +
				"gap 24T12:00-24T12:15 gap 24T12:45-24T13:00 booking 24T13:00-24T14:00 d BOOKED gap 24T14:00-24T14:15 gap 24T19:55-24T20:00",
		},
		"hours": {
			[]domain.Event{room, rules(domain.Rules{Hours: &domain.WeekHours{Tuesday: []domain.Hours{{From: "09:00", To: "12:00"}, {From: "13:00", To: "24:00"}}, Wednesday: []domain.Hours{{From: "00:00", To: "10:00"}}}})},
			projections.OccupancyQuery{From: at(8, 0), To: at(36, 0), Rooms: day.Rooms}, "1: hours 24T08:00-24T09:00 hours 24T12:00-24T13:00 hours 25T10:00-25T12:00",
		},
		"hours in the room's zone": {
			[]domain.Event{registered("1", domain.Details{Name: "Blue", Zone: "Asia/Seoul"}), rules(domain.Rules{Hours: &domain.WeekHours{Tuesday: []domain.Hours{{From: "18:00", To: "20:00"}}}})},
			day, "1: hours 24T08:00-24T09:00 hours 24T11:00-24T20:00",
		},
		"closed all week":          {[]domain.Event{room, rules(domain.Rules{Hours: &domain.WeekHours{}})}, day, "1: hours 24T08:00-24T20:00"},
		"closed":                   {[]domain.Event{room, closedFrom("x", at(7, 30), nine), closedFrom("y", at(7, 0), nine)}, day, "1: closed 24T07:30-24T08:30 x"},
		"retired":                  {[]domain.Event{room, domain.RoomRetired{RoomID: "1", From: at(15, 0), At: nine}}, day, "1: retired 24T15:00-24T20:00"},
		"a building":               {[]domain.Event{registered("3", domain.Details{Name: "C", Building: "west"}), room, registered("2", domain.Details{Name: "A", Building: "East"})}, projections.OccupancyQuery{From: day.From, To: day.To, Building: "WEST"}, "1:\n3:"},
		"rooms in the order asked": {[]domain.Event{room}, projections.OccupancyQuery{From: day.From, To: day.To, Rooms: []domain.RoomID{"9", "1", "5"}}, "9:\n1:\n5:"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := queries(t, log(test.given...)).Occupancy(t.Context(), test.query)
			if got := spans(o); err != nil || got != test.then+"\n" {
				t.Errorf("got  %s, %v\nwant %s", got, err, test.then)
			}
		})
	}
}

func TestOccupancyIsBounded(t *testing.T) {
	q := queries(t, nil)
	rooms := make([]domain.RoomID, projections.MaxOccupancyRooms+1)
	for i := range rooms {
		rooms[i] = domain.RoomID(fmt.Sprint(i))
	}
	for parameter, query := range map[projections.Parameter]projections.OccupancyQuery{
		projections.ParameterRoom: {From: nine, To: ten, Rooms: rooms},
		projections.ParameterTo:   {From: nine, To: nine.Add(projections.MaxOccupancyWindow + 1), Rooms: rooms[1:]},
	} {
		_, err := q.Occupancy(t.Context(), query)
		if invalid, ok := errors.AsType[*projections.InvalidQuery](err); !ok || invalid.Parameter != parameter {
			t.Errorf("%v, want it to name %s", err, parameter)
		}
	}
	if _, err := q.Occupancy(t.Context(), projections.OccupancyQuery{From: nine, To: nine.Add(projections.MaxOccupancyWindow), Rooms: rooms[1:]}); err != nil {
		t.Errorf("as much as is allowed: %v", err)
	}
}

// bookedHouse returns a store with n rooms, and every room booked twelve times a day, for 30 minutes of each hour from 8 on, for some days.
func bookedHouse(b *testing.B, n, days int, rules domain.Rules) (store projections.Store, monday time.Time) {
	b.Helper()
	s := openSQLite(b)
	monday = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	at := eventstore.Position(0)
	record := func(events ...domain.Event) []eventstore.Recorded {
		recorded := make([]eventstore.Recorded, len(events))
		for i, e := range events {
			at++
			recorded[i] = eventstore.Recorded{Position: at, Event: e, Type: e.EventType(), Metadata: eventstore.Metadata{OccurredAt: monday}}
		}
		return recorded
	}
	byName := map[string]projections.Ref{}
	for _, p := range projections.All() {
		byName[p.Name] = begun(b, s, p)
	}
	into := func(name string, events []eventstore.Recorded) {
		p, _ := projections.Named(name)
		rows, longest, err := p.Fold(b.Context(), none, events)
		if err == nil {
			err = s.Write(b.Context(), byName[name], p.Schema, rows, projections.Checkpoint{Position: at, Changed: at, Longest: longest})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	room := func(i int) domain.RoomID { return domain.RoomID(fmt.Sprintf("room-%d", i)) }
	var rooms []domain.Event
	for i := range n {
		rooms = append(rooms, domain.RoomRegistered{RoomID: room(i), At: monday, Details: domain.Details{
			Name: fmt.Sprint("Room ", i), Building: fmt.Sprint("Building ", i%5), Capacity: 2 + i%30, Equipment: []string{"beamer", "board"}[:i%3],
		}}, domain.RulesSet{RoomID: room(i), Rules: rules, At: monday})
	}
	into(projections.RoomListName, record(rooms...))
	for day := range days {
		var events []domain.Event
		for i := range n {
			for hour := range 12 {
				start := monday.AddDate(0, 0, day).Add(time.Duration(8+hour) * time.Hour)
				id := domain.BookingID(fmt.Sprintf("00000000-0000-7000-8000-%012d", (day*n+i)*12+hour))
				events = append(events, domain.BookingCreated{BookingID: id, ReservationID: "r", RoomID: room(i), UserID: domain.UserID(fmt.Sprint("user-", i*hour%97)),
					Slot: domain.Slot{Start: start, End: start.Add(30 * time.Minute)}, At: monday})
			}
		}
		into(projections.BookingListName, record(events...))
	}
	return s, monday
}

// BenchmarkOccupancy reads a week of 200 rooms with twelve bookings a day.
func BenchmarkOccupancy(b *testing.B) {
	const rooms = 200
	store, monday := bookedHouse(b, rooms, 21, domain.Rules{Hours: &domain.WeekHours{Monday: []domain.Hours{{From: "08:00", To: "20:00"}}}, GapMinutes: 10})
	q := projections.NewQueries(store, projections.QueryOptions{})
	query := projections.OccupancyQuery{From: monday.AddDate(0, 0, 7), To: monday.AddDate(0, 0, 14)}
	for i := range rooms {
		query.Rooms = append(query.Rooms, domain.RoomID(fmt.Sprintf("room-%d", i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		o, err := q.Occupancy(b.Context(), query)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for _, r := range o.Rooms {
			for _, s := range r.Spans {
				if s.Booking != nil {
					n++
				}
			}
		}
		if n != rooms*12*7 {
			b.Fatalf("%d bookings", n)
		}
	}
}

// BenchmarkRoomNames asks for the names of rooms as a page of a list does, while no room changes.
func BenchmarkRoomNames(b *testing.B) {
	store, _ := bookedHouse(b, 1000, 0, domain.Rules{})
	q := projections.NewQueries(store, projections.QueryOptions{})
	b.ReportAllocs()
	for b.Loop() {
		name, err := q.RoomNames(b.Context(), 0)
		if err != nil || name("room-7") != "Room 7" {
			b.Fatal(err)
		}
	}
}
