package domain

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(zone *time.Location, text string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
	if err != nil {
		panic(err)
	}
	return t
}

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// daily are the same hours on each day.
func daily(hours ...Hours) *WeekHours {
	return &WeekHours{Monday: hours, Tuesday: hours, Wednesday: hours, Thursday: hours, Friday: hours, Saturday: hours, Sunday: hours}
}

// registered is the red room, in a zone and with rules.
func registered(zone string, r Rules) []Event {
	return []Event{
		RoomRegistered{RoomID: "red", Details: Details{Name: "Red", Zone: zone}, At: noon},
		RulesSet{RoomID: "red", Rules: r, At: noon},
	}
}

func wantBroken(t *testing.T, err error, earliest time.Time, rules ...RuleName) {
	t.Helper()
	broken, ok := err.(*RuleBroken)
	if !ok {
		if len(rules) > 0 || err != nil {
			t.Errorf("%v, want that it breaks %s", err, rules)
		}
		return
	}
	var got []RuleName
	for _, b := range broken.Broken {
		got = append(got, b.Rule)
		if !b.Earliest.Equal(earliest) {
			t.Errorf("%s: the earliest is %s, want %s", b.Rule, b.Earliest, earliest)
		}
		if b.Detail == "" || b.Limit == nil {
			t.Errorf("%s says %q, %v", b.Rule, b.Detail, b.Limit)
		}
	}
	if !slices.Equal(got, rules) {
		t.Errorf("it breaks %s, want %s: %v", got, rules, err)
	}
}

// TestRules books in a room with one rule, or several. What can be booked can be booked under an id that is free, and the same again is a
// repeat; what the earliest time promises holds.
func TestRules(t *testing.T) {
	const office = "Europe/Berlin"
	berlin := location(t, office)
	tuesday := func(text string) time.Time { return at(berlin, "2026-11-24 "+text) } // it is 13:00 there
	slot := func(from, to string) Slot { return Slot{tuesday(from), tuesday(to)} }
	taken := func(booking BookingID, s Slot, user UserID) SlotReserved {
		r := reservation(ReservationID("r"+booking), booking, s)
		r.UserID = user
		return r
	}
	hours := func(from, to string) *WeekHours { return daily(Hours{from, to}) }
	weekdays := daily(Hours{"08:00", "18:00"})
	weekdays.Saturday, weekdays.Sunday = nil, nil
	for _, row := range []struct {
		name     string
		rules    Rules
		given    []Event
		slot     Slot
		earliest time.Time
		broken   []RuleName
	}{
		{"none", Rules{}, nil, slot("03:17", "04:00"), time.Time{}, nil},

		{"hours: within", Rules{Hours: weekdays}, nil, slot("14:00", "18:00"), time.Time{}, nil},
		{"hours: beyond the end", Rules{Hours: weekdays}, nil, slot("17:30", "18:30"), at(berlin, "2026-11-25 08:00"), []RuleName{RuleHours}},
		{"hours: before the start", Rules{Hours: weekdays}, nil, slot("07:59", "09:00"), tuesday("08:00"), []RuleName{RuleHours}},
		{"hours: a day without any", Rules{Hours: weekdays}, nil, Slot{at(berlin, "2026-11-28 10:00"), at(berlin, "2026-11-28 11:00")}, at(berlin, "2026-11-30 08:00"), []RuleName{RuleHours}},
		{"hours: over a break", Rules{Hours: daily(Hours{"08:00", "12:00"}, Hours{"13:00", "18:00"})}, nil, slot("11:30", "12:30"), tuesday("13:00"), []RuleName{RuleHours}},
		{"hours: parts that touch", Rules{Hours: daily(Hours{"08:00", "12:00"}, Hours{"12:00", "18:00"})}, nil, slot("11:30", "12:30"), time.Time{}, nil},
		{"hours: over midnight", Rules{Hours: hours("00:00", "24:00")}, nil, Slot{tuesday("23:00"), at(berlin, "2026-11-25 01:00")}, time.Time{}, nil},
		{"hours: longer than they last", Rules{Hours: hours("08:00", "10:00")}, nil, slot("08:00", "11:00"), time.Time{}, []RuleName{RuleHours}},

		{"step: on it", Rules{StepMinutes: 15}, nil, slot("14:15", "15:00"), time.Time{}, nil},
		{"step: the start is off", Rules{StepMinutes: 15}, nil, slot("14:10", "14:40"), tuesday("14:15"), []RuleName{RuleStep}},
		{"step: the end is off", Rules{StepMinutes: 30}, nil, slot("14:00", "14:40"), tuesday("14:00"), []RuleName{RuleStep}},
		{"step: by a second", Rules{StepMinutes: 15}, nil, Slot{tuesday("14:15").Add(time.Second), tuesday("14:45")}, tuesday("14:30"), []RuleName{RuleStep}},

		{"shortest", Rules{ShortestMinutes: 30}, nil, slot("14:00", "14:29"), tuesday("14:00"), []RuleName{RuleShortest}},
		{"longest", Rules{LongestMinutes: 60}, nil, slot("14:00", "15:01"), tuesday("14:00"), []RuleName{RuleLongest}},
		{"shortest and longest, as long", Rules{ShortestMinutes: 60, LongestMinutes: 60}, nil, slot("14:00", "15:00"), time.Time{}, nil},

		{"gap: kept", Rules{GapMinutes: 15}, []Event{taken("b", slot("15:00", "16:00"), "bob")}, slot("16:15", "17:00"), time.Time{}, nil},
		{"gap: not kept before", Rules{GapMinutes: 15}, []Event{taken("b", slot("15:00", "16:00"), "bob")}, slot("14:00", "14:46"), tuesday("16:15"), []RuleName{RuleGap}},
		{"gap: not kept after", Rules{GapMinutes: 15}, []Event{taken("b", slot("15:00", "16:00"), "bob")}, slot("16:00", "17:00"), tuesday("16:15"), []RuleName{RuleGap}},
		{"gap: between two", Rules{GapMinutes: 15}, []Event{taken("b", slot("15:00", "16:00"), "bob"), taken("c", slot("17:00", "18:00"), "bob")}, slot("16:10", "16:50"), tuesday("18:15"), []RuleName{RuleGap}},
		{"gap: what was used", Rules{GapMinutes: 15}, []Event{taken("b", slot("15:00", "16:00"), "bob"), used("rb", "b", tuesday("15:30"))}, slot("15:40", "16:00"), tuesday("15:45"), []RuleName{RuleGap}},
		{"gap: what was released", Rules{GapMinutes: 15}, []Event{taken("b", slot("15:00", "16:00"), "bob"), released("rb", "b")}, slot("16:00", "17:00"), time.Time{}, nil},

		{"notice", Rules{NoticeMinutes: 60}, nil, slot("13:59", "15:00"), tuesday("14:00"), []RuleName{RuleNotice}},
		{"notice: just in time", Rules{NoticeMinutes: 60}, nil, slot("14:00", "15:00"), time.Time{}, nil},
		{"horizon: the last", Rules{HorizonDays: 7}, nil, Slot{at(berlin, "2026-12-01 13:00"), at(berlin, "2026-12-01 14:00")}, time.Time{}, nil},
		{"horizon: beyond", Rules{HorizonDays: 7}, nil, Slot{at(berlin, "2026-12-01 13:01"), at(berlin, "2026-12-01 14:00")}, time.Time{}, []RuleName{RuleHorizon}},

		{"upcoming: one less", Rules{UpcomingPerUser: 2}, []Event{taken("b", slot("15:00", "16:00"), "ann"), taken("c", slot("16:00", "17:00"), "bob")}, slot("18:00", "19:00"), time.Time{}, nil},
		{"upcoming", Rules{UpcomingPerUser: 1}, []Event{taken("b", slot("15:00", "16:00"), "ann")}, slot("18:00", "19:00"), time.Time{}, []RuleName{RuleUpcoming}},
		{"upcoming: one that has ended", Rules{UpcomingPerUser: 1}, []Event{taken("b", slot("11:00", "13:00"), "ann")}, slot("18:00", "19:00"), time.Time{}, nil},
		{"upcoming: one that is running", Rules{UpcomingPerUser: 1}, []Event{taken("b", slot("11:00", "13:01"), "ann")}, slot("18:00", "19:00"), time.Time{}, []RuleName{RuleUpcoming}},
		{"upcoming: one that is over, and was used", Rules{UpcomingPerUser: 1}, []Event{taken("b", slot("11:00", "16:00"), "ann"), used("rb", "b", tuesday("15:00"))}, slot("18:00", "19:00"), time.Time{}, nil},
		{"upcoming: a slot in the past", Rules{UpcomingPerUser: 1}, []Event{taken("b", slot("15:00", "16:00"), "ann")}, slot("08:00", "09:00"), time.Time{}, nil},
		{"weekly: as much as may be", Rules{WeeklyMinutesPerUser: 120}, []Event{taken("b", slot("08:00", "09:00"), "ann")}, slot("18:00", "19:00"), time.Time{}, nil},
		{"weekly: a minute more", Rules{WeeklyMinutesPerUser: 120}, []Event{taken("b", slot("08:00", "09:00"), "ann")}, slot("18:00", "19:01"), at(berlin, "2026-11-29 23:00"), []RuleName{RuleWeekly}},
		{"weekly: another user", Rules{WeeklyMinutesPerUser: 120}, []Event{taken("b", slot("08:00", "09:00"), "bob")}, slot("18:00", "20:00"), time.Time{}, nil},
		{"weekly: last week", Rules{WeeklyMinutesPerUser: 120}, []Event{taken("b", Slot{at(berlin, "2026-11-22 22:00"), at(berlin, "2026-11-23 00:00")}, "ann")}, slot("18:00", "20:00"), time.Time{}, nil},
		{"weekly: a part of last week's", Rules{WeeklyMinutesPerUser: 120}, []Event{taken("b", Slot{at(berlin, "2026-11-22 22:00"), at(berlin, "2026-11-23 00:01")}, "ann")}, slot("18:00", "20:00"), at(berlin, "2026-11-29 22:01"), []RuleName{RuleWeekly}},
		{"weekly: a slot in two weeks", Rules{WeeklyMinutesPerUser: 120}, nil, Slot{at(berlin, "2026-11-29 22:00"), at(berlin, "2026-11-30 02:00")}, time.Time{}, nil},
		{"weekly: more than a week", Rules{WeeklyMinutesPerUser: 120}, nil, Slot{at(berlin, "2026-11-24 22:00"), at(berlin, "2026-11-25 02:00")}, at(berlin, "2026-11-29 22:00"), []RuleName{RuleWeekly}},

		{"all at once", Rules{Hours: weekdays, StepMinutes: 15, ShortestMinutes: 30, GapMinutes: 10, NoticeMinutes: 600, UpcomingPerUser: 1, WeeklyMinutesPerUser: 60},
			[]Event{taken("b", slot("19:00", "20:00"), "ann")}, slot("20:05", "20:20"), time.Time{},
			[]RuleName{RuleHours, RuleStep, RuleShortest, RuleGap, RuleUpcoming, RuleWeekly, RuleNotice}},
		{"one after another", Rules{Hours: weekdays, StepMinutes: 60, GapMinutes: 30}, []Event{taken("b", Slot{at(berlin, "2026-11-25 08:00"), at(berlin, "2026-11-25 09:00")}, "bob")}, slot("20:00", "21:00"), at(berlin, "2026-11-25 10:00"), []RuleName{RuleHours}},
		{"a closure after that", Rules{Hours: weekdays}, []Event{PeriodClosed{ClosureID: "c", RoomID: "red", Slot: Slot{at(berlin, "2026-11-25 00:00"), at(berlin, "2026-11-26 00:00")}, Bookings: KeepBookings}}, slot("20:00", "21:00"), at(berlin, "2026-11-26 08:00"), []RuleName{RuleHours}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Fold(Calendar{}, slices.Concat(registered(office, row.rules), row.given)...)
			ask := reservation("r9", "x", row.slot)
			events, err := DecideReserve(c, ask, DefaultPolicy())
			wantBroken(t, err, row.earliest, row.broken...)
			if row.broken == nil && !reflect.DeepEqual(events, []Event{ask}) {
				t.Errorf("events %+v, want %+v", events, ask)
			}
			override := ask
			override.Override = true
			if events, err = DecideReserve(c, override, DefaultPolicy()); err != nil || len(events) != 1 || events[0].(SlotReserved).Override != (row.broken != nil) {
				t.Errorf("overridden: %+v, %v", events, err)
			}
			if events, err := DecideReserve(Fold(c, events...), override, DefaultPolicy()); events != nil || err != nil {
				t.Errorf("again: %+v, %v", events, err)
			}
			if !row.earliest.IsZero() {
				a := c.admission(ask, DefaultPolicy())
				fits, ok := a.fit()
				ask.Slot = Slot{row.earliest, row.earliest.Add(fits.Length())}
				if _, err := DecideReserve(c, ask, DefaultPolicy()); err != nil || !ok {
					t.Errorf("at the earliest: %v", err)
				}
			}
		})
	}
}

// TestHoursWhenClocksChange asks for slots around changes of the clocks: on days of 23, 24 and 25 hours, where midnight or a whole day does
// not exist, and where it exists twice.
func TestHoursWhenClocksChange(t *testing.T) {
	utc := func(text string) time.Time { return at(time.UTC, text) }
	for _, row := range []struct {
		name, zone string
		hours      []Hours
		slot       Slot // in UTC
		want       bool
	}{
		{"the whole day of 23 hours", "Europe/Berlin", []Hours{{"00:00", "24:00"}}, Slot{utc("2026-03-28 23:00"), utc("2026-03-29 22:00")}, true},
		{"the whole day of 25 hours", "Europe/Berlin", []Hours{{"00:00", "24:00"}}, Slot{utc("2026-10-24 22:00"), utc("2026-10-25 23:00")}, true},
		{"an hour that is left out", "Europe/Berlin", []Hours{{"01:00", "02:30"}}, Slot{utc("2026-03-29 00:00"), utc("2026-03-29 01:00")}, true},
		{"the end is left out", "Europe/Berlin", []Hours{{"01:00", "02:30"}}, Slot{utc("2026-03-29 00:00"), utc("2026-03-29 01:01")}, false},
		{"the start is left out", "Europe/Berlin", []Hours{{"02:30", "05:00"}}, Slot{utc("2026-03-29 01:00"), utc("2026-03-29 03:00")}, true},
		{"the start is left out, earlier", "Europe/Berlin", []Hours{{"02:30", "05:00"}}, Slot{utc("2026-03-29 00:59"), utc("2026-03-29 03:00")}, false},
		{"an hour that is there twice", "Europe/Berlin", []Hours{{"02:00", "03:00"}}, Slot{utc("2026-10-25 00:00"), utc("2026-10-25 02:00")}, true},
		{"half an hour that is there twice", "Europe/Berlin", []Hours{{"02:00", "02:30"}}, Slot{utc("2026-10-25 01:00"), utc("2026-10-25 01:30")}, true},
		{"over what is between them", "Europe/Berlin", []Hours{{"02:00", "02:30"}}, Slot{utc("2026-10-25 00:00"), utc("2026-10-25 01:30")}, false},
		{"midnight does not exist", "Africa/Cairo", []Hours{{"00:00", "08:00"}}, Slot{utc("2026-04-23 22:00"), utc("2026-04-24 05:00")}, true},
		{"midnight does not exist, earlier", "Africa/Cairo", []Hours{{"00:00", "08:00"}}, Slot{utc("2026-04-23 21:59"), utc("2026-04-24 05:00")}, false},
		{"up to a midnight that does not exist", "Africa/Cairo", []Hours{{"08:00", "24:00"}}, Slot{utc("2026-04-23 06:00"), utc("2026-04-23 22:00")}, true},
		{"clocks go back at midnight, the first of two", "Africa/Cairo", []Hours{{"23:00", "24:00"}}, Slot{utc("2026-10-29 20:00"), utc("2026-10-29 22:00")}, true},
		{"by half an hour", "Australia/Lord_Howe", []Hours{{"00:00", "24:00"}}, Slot{utc("2026-10-03 13:30"), utc("2026-10-04 13:00")}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			room := Fold(Calendar{}, registered(row.zone, Rules{Hours: daily(row.hours...)})...).About()
			if got := room.Bookable(row.slot, nil); got != row.want {
				t.Errorf("%s to %s: %t", row.slot.Start.In(room.zone), row.slot.End.In(room.zone), got)
			}
		})
	}
}

// TestWallClocks holds the arithmetic of wall clocks to their definition, minute by minute, around the changes of clocks of several zones.
func TestWallClocks(t *testing.T) {
	for _, of := range []struct{ zone, day string }{
		{"Europe/Berlin", "2026-03-28"}, {"Europe/Berlin", "2026-10-24"}, {"Africa/Cairo", "2026-04-23"}, {"Africa/Cairo", "2026-10-28"},
		{"America/Havana", "2026-03-07"}, {"America/Havana", "2026-10-31"}, {"Australia/Lord_Howe", "2026-10-03"}, {"Australia/Lord_Howe", "2027-04-03"},
		{"America/Sao_Paulo", "2018-11-03"}, {"America/Sao_Paulo", "2018-02-17"}, {"Asia/Beirut", "2026-03-28"}, {"Pacific/Apia", "2011-12-29"}, {"Asia/Seoul", "2026-05-05"},
	} {
		zone := location(t, of.zone)
		hours := daily(Hours{"00:00", "01:15"}, Hours{"01:30", "02:10"}, Hours{"22:45", "24:00"})
		open := func(t time.Time) bool {
			wall := sinceMidnight(t)
			for _, h := range hours.on(t.Weekday()) {
				if from, to := h.span(); from <= wall && wall < to {
					return true
				}
			}
			return false
		}
		first := at(zone, of.day+" 12:00")
		for m := 0; m < 2*dayMinutes; m += 3 {
			from := first.Add(time.Duration(m) * time.Minute)
			want := true
			for length := 1; length < 200; length += 13 {
				to := from.Add(time.Duration(length) * time.Minute)
				for u := to.Add(-13 * time.Minute); want && u.Before(to); u = u.Add(time.Minute) {
					want = u.Before(from) || open(u)
				}
				if got := hours.cover(Slot{from.UTC(), to.UTC()}, zone); got != want {
					t.Fatalf("%s to %s: covered %t, want %t", from, to, got, want)
				}
			}
			opens := hours.openAfter(from)
			for u := from.Add(time.Minute); u.Before(opens); u = u.Add(time.Minute) {
				if open(u) && !open(u.Add(-time.Minute)) {
					t.Fatalf("after %s it opens at %s and not at %s only", from, u, opens)
				}
			}
			if !open(opens) {
				t.Fatalf("after %s it does not open at %s", from, opens)
			}
			next := from.Add(time.Minute)
			for next.In(zone).Minute()%20 != 0 {
				next = next.Add(time.Minute)
			}
			if got := nextOnGrid(from, 20*time.Minute); !got.Equal(next) {
				t.Fatalf("the next 20 minutes after %s are at %s, want %s", from, got, next)
			}
			week := weekOf(from)
			if from.Before(week.Start) || !from.Before(week.End) || week.Start.Weekday() != time.Monday || week.Start.Add(-time.Second).Weekday() == time.Monday {
				t.Fatalf("%s is in the week %s to %s", from, week.Start, week.End)
			}
			if midnight := Midnight(from.Year(), from.Month(), from.Day(), zone); midnight.Day() != from.Day() || midnight.Add(-time.Second).Day() == from.Day() && from.Sub(midnight) < day+2*time.Hour && midnight.Add(-time.Second).YearDay() == from.YearDay() {
				t.Fatalf("the day of %s begins at %s", from, midnight)
			}
		}
	}
}

// TestRulesForAChange moves a booking: what the change leaves as it is breaks no rule, whenever that was set.
func TestRulesForAChange(t *testing.T) {
	early := 30
	rules := Rules{Hours: daily(Hours{"14:00", "20:00"}), NoticeMinutes: 180, HorizonDays: 1, GapMinutes: 60, UpcomingPerUser: 1, Approval: ApprovalNone, EarlyUseMinutes: &early}
	own, next := reservation("r1", "b", hours(1, 2)), reservation("r2", "c", hours(2, 3))
	next.UserID = "bob"
	given := append([]Event{own, next}, registered("", rules)...)
	ask := func(s Slot, user, heldFor UserID) SlotReserved {
		r := reservation("r9", "b", s)
		r.UserID, r.HeldFor, r.Replaces = user, heldFor, "r1"
		return r
	}
	closed := func(b AffectedBookings) Event {
		return PeriodClosed{ClosureID: "c", RoomID: "red", Slot: hours(0, 2), Bookings: b, At: noon}
	}
	for _, row := range []struct {
		name   string
		more   []Event
		ask    SlotReserved
		closed bool
		broken []RuleName
	}{
		{"another user", nil, ask(hours(1, 2), "eve", ""), false, nil},
		{"another user, who has one", nil, ask(hours(1, 2), "bob", ""), false, []RuleName{RuleUpcoming}},
		{"the end", nil, ask(Slot{hours(1, 2).Start, hours(1, 2).End.Add(-time.Minute)}, "", "ann"), false, []RuleName{RuleHours, RuleGap}},
		{"the start", nil, ask(hours(3, 4), "", "ann"), false, []RuleName{RuleGap}},
		{"start and user", nil, ask(hours(4, 5), "bob", ""), false, []RuleName{RuleUpcoming}},
		{"another user in a period that is closed", []Event{closed(KeepBookings)}, ask(hours(1, 2), "eve", ""), false, nil},
		{"another user in a period that is cleared", []Event{closed(CancelBookings)}, ask(hours(1, 2), "eve", ""), true, nil},
		{"another end in a period that is closed", []Event{closed(KeepBookings)}, ask(hours(1, 5), "", "ann"), true, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Fold(Calendar{}, slices.Concat(given, row.more)...)
			events, err := DecideReserve(c, row.ask, DefaultPolicy())
			if _, ok := err.(*RoomClosed); ok != row.closed {
				t.Fatalf("closed: %v", err)
			} else if ok {
				return
			}
			if b, ok := err.(*RuleBroken); ok {
				for i := range b.Broken {
					b.Broken[i].Earliest = time.Time{}
				}
			}
			wantBroken(t, err, time.Time{}, row.broken...)
			if row.broken == nil {
				made := events[0].(SlotReserved)
				if made.Approval != ApprovalNone || !made.UseFrom.Equal(made.Slot.Start.Add(-30*time.Minute)) {
					t.Errorf("made %+v", made)
				}
			}
		})
	}
}

// TestEarliestIsTheFirstThatWouldDo compares with what trying all minutes finds.
func TestEarliestIsTheFirstThatWouldDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, of ...int) int { return rapid.SampledFrom(of).Draw(t, name) }
		rules := Rules{
			StepMinutes: pick("step", 0, 5, 15, 30), GapMinutes: pick("gap", 0, 0, 5, 20), NoticeMinutes: pick("notice", 0, 0, 60),
			HorizonDays: pick("horizon", 0, 1), WeeklyMinutesPerUser: pick("weekly", 0, 0, 200),
		}
		if rapid.Bool().Draw(t, "hours") {
			rules.Hours = daily(Hours{"09:00", "12:30"}, Hours{"13:30", "17:00"})
		}
		given := registered("Europe/Berlin", rules)
		for i := range rapid.IntRange(0, 6).Draw(t, "bookings") {
			from := noon.Add(time.Duration(rapid.IntRange(-60, 2000).Draw(t, "from")) * time.Minute)
			s := Slot{from, from.Add(time.Duration(rapid.IntRange(5, 120).Draw(t, "minutes")) * time.Minute)}
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				given = append(given, PeriodClosed{ClosureID: ClosureID(fmt.Sprint(i)), RoomID: "red", Slot: s, Bookings: KeepBookings})
			} else {
				given = append(given, reservation(ReservationID(fmt.Sprint(i)), uuidText(i), s))
			}
		}
		c := Fold(Calendar{}, given...)
		start := noon.Add(time.Duration(rapid.IntRange(-100, 1500).Draw(t, "start")) * time.Minute)
		length := time.Duration(pick("length", 15, 30, 60)) * time.Minute
		ask := reservation("r9", "x", Slot{start, start.Add(length)})
		_, err := DecideReserve(c, ask, DefaultPolicy())
		var earliest time.Time
		switch e := err.(type) {
		case *RuleBroken:
			earliest = e.Broken[0].Earliest
		case *RoomClosed:
			earliest = e.Earliest
		default:
			return
		}
		fits, _ := c.admission(ask, DefaultPolicy()).fit()
		var want time.Time
		for from := start; from.Before(start.Add(9 * day)); from = from.Add(time.Minute) {
			try := ask
			try.Slot = Slot{from, from.Add(fits.Length())}
			if _, err := DecideReserve(c, try, DefaultPolicy()); err == nil {
				want = from
				break
			}
		}
		if !earliest.Equal(want) {
			t.Fatalf("%v: the earliest is %s, want %s", err, earliest, want)
		}
	})
}

// TestForgettingChangesNoDecision decides on a calendar that forgot and on one that did not: wherever the short one says that it can be decided
// on, both decide the same.
func TestForgettingChangesNoDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var whole, short Calendar
		both := func(e Event) { whole, short = whole.Evolve(e), short.Evolve(e) }
		n := 0
		slot := rapid.Custom(func(t *rapid.T) Slot {
			from := noon.Add(time.Duration(rapid.IntRange(-12*24, 3*24).Draw(t, "from")) * time.Hour)
			return Slot{from, from.Add(time.Duration(rapid.IntRange(1, 6).Draw(t, "half hours")) * 30 * time.Minute)}
		})
		ask := func(t *rapid.T) SlotReserved {
			n++
			r := reservation(ReservationID(fmt.Sprint("r", n)), uuidText(n%251), slot.Draw(t, "slot"))
			r.UserID = rapid.SampledFrom([]UserID{"ann", "bob"}).Draw(t, "user")
			return r
		}
		both(RoomRegistered{RoomID: "red", Details: Details{Name: "Red"}})
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) { both(ask(t)) },
			"use": func(t *rapid.T) {
				if whole.Len() == 0 {
					t.Skip("nothing is held")
				}
				r := slices.Collect(whole.All)[rapid.IntRange(0, whole.Len()-1).Draw(t, "which")]
				both(used(r.ReservationID, r.BookingID, r.Slot.Start.Add(r.Slot.Length()/2)))
			},
			"close": func(t *rapid.T) {
				n++
				both(PeriodClosed{ClosureID: ClosureID(fmt.Sprint(n)), RoomID: "red", Slot: slot.Draw(t, "slot"), Bookings: KeepBookings})
			},
			"reopen": func(t *rapid.T) {
				both(PeriodReopened{ClosureID: ClosureID(fmt.Sprint(rapid.IntRange(0, n).Draw(t, "which"))), RoomID: "red"})
			},
			"rules": func(t *rapid.T) {
				pick := func(name string, of ...int) int { return rapid.SampledFrom(of).Draw(t, name) }
				both(RulesSet{RoomID: "red", Rules: Rules{GapMinutes: pick("gap", 0, 30, 240), WeeklyMinutesPerUser: pick("weekly", 0, 60, 300), UpcomingPerUser: pick("upcoming", 0, 1, 3)}})
			},
			"forget": func(t *rapid.T) {
				short = short.Forget(noon.Add(-time.Duration(rapid.IntRange(0, 12*24).Draw(t, "hours ago"))*time.Hour), rapid.IntRange(0, 2).Draw(t, "few"))
			},
			"": func(t *rapid.T) {
				ask := ask(t)
				if !short.Decides(ask.Slot.Start, nil) {
					return
				}
				events, err := DecideReserve(short, ask, DefaultPolicy())
				want, wantErr := DecideReserve(whole, ask, DefaultPolicy())
				if !reflect.DeepEqual(events, want) || !reflect.DeepEqual(err, wantErr) {
					t.Fatalf("%s: %+v, %v; without forgetting %+v, %v", ask.Slot, events, err, want, wantErr)
				}
			},
		})
	})
}

func TestCheckRules(t *testing.T) {
	good := Rules{
		Hours: &WeekHours{Monday: []Hours{{"00:00", "24:00"}}}, StepMinutes: 15, ShortestMinutes: 15, LongestMinutes: 60, GapMinutes: 10, NoticeMinutes: 60, HorizonDays: 30,
		Approval: ApprovalNone, EarlyUseMinutes: ptr(0), UpcomingPerUser: 3, WeeklyMinutesPerUser: 600,
	}
	bad := Rules{
		Hours:       &WeekHours{Monday: []Hours{{"8:00", "12:00"}, {"14:00", "13:00"}, {"24:01", ""}}, Sunday: make([]Hours, maxIntervals+1)},
		StepMinutes: 7, ShortestMinutes: 60, LongestMinutes: 30, GapMinutes: -1, NoticeMinutes: 3 * dayMinutes, HorizonDays: 2,
		Approval: "sometimes", EarlyUseMinutes: ptr(-1), UpcomingPerUser: maxUpcoming + 1, WeeklyMinutesPerUser: weekMinutes,
	}
	fields := func(faults []Fault) (all []Field) {
		for _, f := range faults {
			all = append(all, f.Field)
		}
		return all
	}
	for _, row := range []struct {
		rules Rules
		want  []Field
	}{
		{Rules{}, nil},
		{good, nil},
		{Rules{Hours: &WeekHours{}}, []Field{"hours"}},
		{Rules{StepMinutes: 2000}, []Field{"stepMinutes", "stepMinutes"}},
		{bad, []Field{
			"hours/monday/0/from", "hours/monday/1/to", "hours/monday/2/from", "hours/monday/2/to", "hours/sunday", "stepMinutes", "longestMinutes", "gapMinutes", "horizonDays",
			"approval", "earlyUseMinutes", "upcomingPerUser", "weeklyMinutesPerUser",
		}},
	} {
		if got := fields(row.rules.Check()); !slices.Equal(got, row.want) {
			t.Errorf("%+v: %q, want %q", row.rules, got, row.want)
		}
	}
}
