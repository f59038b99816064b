package projections_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"roombook/domain"
	"roombook/projections"
)

// inShort is an answer in short, with the hours of the day.
func inShort(a projections.Availability) string {
	var words []string
	add := func(kind any, a projections.Available) {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%v %s %s-%s", kind, a.Room.Room, a.Slot.Start.UTC().Format("02T15:04"), a.Slot.End.UTC().Format("15:04"))))
	}
	for _, r := range a.Rooms {
		add("", r)
	}
	for _, s := range a.Suggestions {
		add(s.Kind, s.Available)
	}
	return strings.Join(words, ", ")
}

func TestAvailability(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2026, 11, 24, hour, minute, 0, 0, time.UTC) } // a Tuesday
	ask := func(from, to time.Time) projections.AvailabilityQuery {
		return projections.AvailabilityQuery{RoomFilter: projections.RoomFilter{Now: at(6, 0)}, Within: domain.Slot{Start: from, End: to}, Length: to.Sub(from)}
	}
	hour := ask(at(10, 0), at(11, 0))
	with := func(q projections.AvailabilityQuery, change func(*projections.AvailabilityQuery)) projections.AvailabilityQuery {
		change(&q)
		return q
	}
	minutes := func(n int, from, to time.Time) projections.AvailabilityQuery {
		return with(ask(from, to), func(q *projections.AvailabilityQuery) { q.Length = time.Duration(n) * time.Minute })
	}
	room := func(id domain.RoomID, capacity int) domain.Event {
		return registered(id, domain.Details{Name: string(id), Building: "West", Capacity: capacity})
	}
	rules := func(r domain.Rules) domain.Event { return domain.RulesSet{RoomID: "1", Rules: r, At: nine} }
	for name, test := range map[string]struct {
		given []domain.Event
		query projections.AvailabilityQuery
		then  string
	}{
		"no room is registered": {[]domain.Event{created()}, hour, ""},
		"the smallest first":    {[]domain.Event{room("a", 20), room("b", 0), room("c", 4), room("d", 8)}, hour, "c 24T10:00-11:00, d 24T10:00-11:00, a 24T10:00-11:00, b 24T10:00-11:00"},
		"the smallest that suffices": {[]domain.Event{room("a", 20), room("b", 0), room("c", 4), room("d", 8)},
			with(hour, func(q *projections.AvailabilityQuery) { q.Capacity, q.Size = 5, 1 }), "d 24T10:00-11:00"},
		"one is taken":             {[]domain.Event{room("1", 4), room("2", 4), bookedIn("1", "b", at(9, 30), at(10, 1))}, hour, "2 24T10:00-11:00"},
		"back to back":             {[]domain.Event{room("1", 4), bookedIn("1", "b", at(9, 0), at(10, 0)), bookedIn("1", "c", at(11, 0), at(12, 0))}, hour, "1 24T10:00-11:00"},
		"what was left early":      {[]domain.Event{room("1", 4), bookedIn("1", b1, at(10, 0), at(12, 0)), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)}, ask(at(11, 0), at(12, 0)), "1 24T11:00-12:00"},
		"within, around bookings":  {[]domain.Event{room("1", 4), room("2", 4), bookedIn("1", "b", at(10, 0), at(10, 30)), bookedIn("2", "c", at(10, 30), at(11, 30))}, minutes(45, at(10, 0), at(12, 0)), "1 24T10:30-11:15"},
		"within, just enough":      {[]domain.Event{room("1", 4), bookedIn("1", "b", at(10, 45), at(12, 0))}, minutes(45, at(10, 0), at(12, 0)), "1 24T10:00-10:45"},
		"none within":              {[]domain.Event{room("1", 4), bookedIn("1", "b", at(10, 20), at(10, 40))}, minutes(45, at(10, 0), at(11, 0)), "other-time 1 24T09:30-10:15, other-time 1 24T10:40-11:25"},
		"another time and shorter": {[]domain.Event{room("1", 4), bookedIn("1", "b", at(10, 0), at(10, 20))}, hour, "other-time 1 24T10:20-11:20, other-time 1 24T09:00-10:00, shorter 1 24T10:20-10:50"},
		"elsewhere": {[]domain.Event{room("1", 4), registered("2", domain.Details{Name: "B", Building: "East"}), bookedIn("1", "b", at(2, 0), at(23, 0))},
			with(hour, func(q *projections.AvailabilityQuery) { q.Building = "west" }), "elsewhere 2 24T10:00-11:00, other-time 1 24T23:00-00:00"},
		"a gap":            {[]domain.Event{room("1", 4), rules(domain.Rules{GapMinutes: 10}), bookedIn("1", "b", at(9, 0), at(9, 55))}, hour, "other-time 1 24T10:05-11:05, other-time 1 24T07:45-08:45, shorter 1 24T10:05-10:50"},
		"a step":           {[]domain.Event{room("1", 4), rules(domain.Rules{StepMinutes: 30})}, minutes(30, at(10, 10), at(11, 10)), "1 24T10:30-11:00"},
		"hours":            {[]domain.Event{room("1", 4), rules(domain.Rules{Hours: &domain.WeekHours{Tuesday: []domain.Hours{{From: "10:30", To: "12:00"}}}})}, hour, "other-time 1 24T10:30-11:30, shorter 1 24T10:30-11:00"},
		"at least so long": {[]domain.Event{room("1", 4), rules(domain.Rules{ShortestMinutes: 90})}, hour, ""},
		"notice":           {[]domain.Event{room("1", 4), rules(domain.Rules{NoticeMinutes: 300})}, hour, "other-time 1 24T11:00-12:00"},
		"horizon":          {[]domain.Event{room("1", 4), rules(domain.Rules{HorizonDays: 1})}, ask(at(34, 0), at(35, 0)), "other-time 1 25T06:00-07:00"},
		"closed":           {[]domain.Event{room("1", 4), closedFrom("x", at(10, 30), nine)}, hour, "other-time 1 24T09:30-10:30, other-time 1 24T11:30-12:30, shorter 1 24T10:00-10:30"},
		"retired later":    {[]domain.Event{room("1", 4), domain.RoomRetired{RoomID: "1", From: at(10, 30), At: nine}}, hour, "other-time 1 24T09:30-10:30, shorter 1 24T10:00-10:30"},
		"the user has enough": {[]domain.Event{room("1", 4), rules(domain.Rules{UpcomingPerUser: 1}), room("2", 8), bookedIn("1", "b", at(24*30, 0), at(24*30+1, 0))},
			with(hour, func(q *projections.AvailabilityQuery) { q.User = "kim" }), "2 24T10:00-11:00"},
		"another user has": {[]domain.Event{room("1", 4), rules(domain.Rules{UpcomingPerUser: 1}), bookedIn("1", "b", at(24*30, 0), at(24*30+1, 0))},
			with(hour, func(q *projections.AvailabilityQuery) { q.User = "lee" }), "1 24T10:00-11:00"},
		"nobody is named": {[]domain.Event{room("1", 4), rules(domain.Rules{UpcomingPerUser: 1}), bookedIn("1", "b", at(24*30, 0), at(24*30+1, 0))}, hour, "1 24T10:00-11:00"},
		"the week is used up": {[]domain.Event{room("1", 4), rules(domain.Rules{WeeklyMinutesPerUser: 90}), bookedIn("1", b1, at(-20, 0), at(-19, 0)), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)},
			with(hour, func(q *projections.AvailabilityQuery) { q.User = "kim" }), "other-time 1 29T23:30-00:30, shorter 1 24T10:00-10:30"},
		"what has ended is not upcoming": {[]domain.Event{room("1", 4), rules(domain.Rules{UpcomingPerUser: 1}), bookedIn("1", b1, at(9, 0), at(12, 0)), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)},
			with(ask(at(11, 0), at(12, 0)), func(q *projections.AvailabilityQuery) { q.User = "kim" }), "1 24T11:00-12:00"},
		"retired": {[]domain.Event{room("1", 4), domain.RoomRetired{RoomID: "1", From: at(5, 0), At: nine}}, hour, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := queries(t, log(test.given...)).Availability(t.Context(), test.query)
			if got := inShort(a); err != nil || got != test.then {
				t.Errorf("got  %s, %v\nwant %s", got, err, test.then)
			}
		})
	}
	for parameter, query := range map[projections.Parameter]projections.AvailabilityQuery{
		projections.ParameterTo:   ask(nine, nine.Add(projections.MaxAvailabilityWindow+1)),
		projections.ParameterSize: with(hour, func(q *projections.AvailabilityQuery) { q.Size = projections.MaxSize + 1 }),
	} {
		_, err := queries(t, nil).Availability(t.Context(), query)
		if invalid, ok := errors.AsType[*projections.InvalidQuery](err); !ok || invalid.Parameter != parameter {
			t.Errorf("%v, want it to name %s", err, parameter)
		}
	}
}

// A room is available exactly if it can be booked by what is decided on its calendar, and what is said against it are the very words of that
// decision.
func TestAvailabilityIsWhatIsDecided(t *testing.T) {
	store := openSQLite(t)
	rapid.Check(t, func(rt *rapid.T) {
		minute := func(label string, from, to int) time.Time {
			return nine.Add(time.Duration(rapid.IntRange(from/5, to/5).Draw(rt, label)) * 5 * time.Minute)
		}
		some := func(label string, values ...int) int { return rapid.SampledFrom(values).Draw(rt, label) }
		events := []domain.Event{
			registered("1", domain.Details{Name: "Blue", Zone: rapid.SampledFrom([]string{"", "Asia/Seoul", "America/New_York"}).Draw(rt, "zone")}),
			domain.RulesSet{RoomID: "1", At: nine, Rules: domain.Rules{
				StepMinutes: some("step", 0, 0, 15), ShortestMinutes: some("shortest", 0, 0, 30), LongestMinutes: some("longest", 0, 0, 60), GapMinutes: some("gap", 0, 10),
				NoticeMinutes: some("notice", 0, 0, 60), HorizonDays: some("horizon", 0, 0, 1),
				UpcomingPerUser: some("upcoming", 0, 0, 1, 2), WeeklyMinutesPerUser: some("weekly", 0, 0, 60),
				Hours: rapid.SampledFrom([]*domain.WeekHours{nil, nil, {Tuesday: []domain.Hours{{From: "09:00", To: "20:00"}}}}).Draw(rt, "hours"),
			}},
		}
		if rapid.Bool().Draw(rt, "closed") {
			events = append(events, closedFrom("x", minute("closed from", 0, 600), nine))
		}
		if rapid.Bool().Draw(rt, "retired") {
			events = append(events, domain.RoomRetired{RoomID: "1", From: minute("retired from", 0, 600), At: nine})
		}
		stored := events
		var calendar domain.Calendar
		calendar = domain.Fold(calendar, events...)
		for i := range rapid.IntRange(0, 6).Draw(rt, "bookings") {
			start := minute("start", -60, 600)
			end := start.Add(time.Duration(rapid.IntRange(1, 12).Draw(rt, "length")) * 5 * time.Minute)
			id := domain.BookingID(fmt.Sprintf("00000000-0000-7000-8000-%012d", i))
			ask := domain.SlotReserved{ReservationID: domain.ReservationID(id), BookingID: id, RoomID: "1", UserID: "kim", Slot: domain.Slot{Start: start, End: end}, At: nine, Override: true}
			if decided, err := domain.DecideReserve(calendar, ask, domain.DefaultPolicy()); err == nil {
				calendar = domain.Fold(calendar, decided...)
				stored = append(stored, bookedIn("1", id, start, end))
			}
		}
		for _, name := range []string{projections.BookingListName, projections.RoomListName} {
			p, _ := projections.Named(name)
			ref := begun(t, store, p)
			rows, longest, err := p.Fold(rt.Context(), none, log(stored...))
			if err == nil {
				err = store.Write(rt.Context(), ref, p.Schema, rows, projections.Checkpoint{Position: 1000, Changed: 1000, Longest: longest})
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		user := rapid.SampledFrom([]domain.UserID{"kim", "lee"}).Draw(rt, "user")
		start := minute("from", 0, 600)
		slot := domain.Slot{Start: start, End: start.Add(time.Duration(rapid.IntRange(1, 20).Draw(rt, "for")) * 5 * time.Minute)}
		_, refusal := domain.DecideReserve(calendar, domain.SlotReserved{ReservationID: "r", BookingID: "b", RoomID: "1", UserID: user, Slot: slot, At: nine}, domain.DefaultPolicy())
		a, err := projections.NewQueries(store, projections.QueryOptions{Policy: domain.DefaultPolicy()}).Availability(rt.Context(),
			projections.AvailabilityQuery{RoomFilter: projections.RoomFilter{Now: nine}, User: user, Within: slot, Length: slot.Length()})
		if err != nil {
			rt.Fatal(err)
		}
		if available := len(a.Rooms) == 1 && a.Rooms[0].Slot.Equal(slot); available != (refusal == nil) {
			rt.Errorf("%s available, but the decision is %v", inShort(a), refusal)
		}
		for _, s := range a.Suggestions {
			if refusal == nil || fmt.Sprint(s.Because) != refusal.Error() {
				rt.Errorf("because %v, but the decision is %v", s.Because, refusal)
			}
			if broken, ok := errors.AsType[*domain.RuleBroken](refusal); ok && !reflect.DeepEqual(broken.Broken, s.Because.(*domain.RuleBroken).Broken) {
				rt.Errorf("because %+v, but the decision is %+v", s.Because, broken)
			}
			if _, err := domain.DecideReserve(calendar, domain.SlotReserved{ReservationID: "r", BookingID: "b", RoomID: "1", UserID: user, Slot: s.Slot, At: nine}, domain.DefaultPolicy()); err != nil {
				rt.Errorf("%s is suggested for %s, but cannot be booked: %v", s.Kind, s.Slot, err)
			}
		}
	})
}

// BenchmarkAvailability asks for rooms of 1,000 with 1,008,000 bookings, each hour's first half from 8 to 20 in 84 days. It reports the
// processor time of the process, on average and for the slowest of 100 queries.
func BenchmarkAvailability(b *testing.B) {
	store, monday := bookedHouse(b, 1000, 84, domain.Rules{StepMinutes: 15, GapMinutes: 0, LongestMinutes: 240})
	q := projections.NewQueries(store, projections.QueryOptions{Policy: domain.DefaultPolicy()})
	for _, bench := range []struct {
		name         string
		within       func(day time.Time, i int) domain.Slot
		length       time.Duration
		capacity     int
		rooms, other bool // what is found
	}{
		{"free", func(day time.Time, i int) domain.Slot {
			start := day.Add(time.Duration(8+i%12)*time.Hour + 30*time.Minute)
			return domain.Slot{Start: start, End: start.Add(30 * time.Minute)}
		}, 30 * time.Minute, 6, true, false},
		{"none-free", func(day time.Time, i int) domain.Slot {
			start := day.Add(time.Duration(8+i%12) * time.Hour)
			return domain.Slot{Start: start, End: start.Add(time.Hour)}
		}, time.Hour, 0, false, true},
		{"within-a-day", func(day time.Time, _ int) domain.Slot {
			return domain.Slot{Start: day.Add(8 * time.Hour), End: day.Add(20 * time.Hour)}
		}, 30 * time.Minute, 10, true, false},
		{"none-within-a-day", func(day time.Time, _ int) domain.Slot {
			return domain.Slot{Start: day.Add(8 * time.Hour), End: day.Add(20 * time.Hour)}
		}, 45 * time.Minute, 20, false, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				day := monday.AddDate(0, 0, 7*len(took)%84)
				query := projections.AvailabilityQuery{Within: bench.within(day, len(took)), Length: bench.length, RoomFilter: projections.RoomFilter{Now: monday.Add(-time.Hour), Capacity: bench.capacity}}
				before := processorTime(b)
				a, err := q.Availability(b.Context(), query)
				took = append(took, processorTime(b)-before)
				if err != nil || len(a.Rooms) > 0 != bench.rooms || len(a.Suggestions) > 0 != bench.other {
					b.Fatalf("%d rooms, %d suggestions, %v", len(a.Rooms), len(a.Suggestions), err)
				}
			}
			slices.Sort(took)
			sum := time.Duration(0)
			for _, t := range took {
				sum += t
			}
			b.ReportMetric(float64(sum.Microseconds())/float64(len(took))/1000, "cpu-ms/op")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "cpu-ms-p99")
		})
	}
}

// processorTime is what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
