package domain

import (
	"slices"
	"testing"
	"time"
)

func TestCheckSlot(t *testing.T) {
	seoul := time.FixedZone("KST", 9*60*60)
	inSeoul := func(s Slot) Slot { return Slot{s.Start.In(seoul), s.End.In(seoul)} }
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	backwards := Fault{FieldEnd, "must be after the start"}
	tooLong := func(length string) Fault {
		return Fault{FieldEnd, "a booking may be at most 24 hours long, this one is " + length}
	}
	past := Fault{FieldStart, "must not be in the past"}
	noBound := Policy{}
	future := Policy{LongestBooking: 24 * time.Hour, RefusePast: true}

	for _, row := range []struct {
		name   string
		policy Policy
		slot   Slot
		want   []Fault
	}{
		{"an hour", DefaultPolicy(), hours(1, 2), nil},
		{"a nanosecond", DefaultPolicy(), Slot{noon, noon.Add(1)}, nil},
		{"the past", DefaultPolicy(), hours(-48, -47), nil},
		{"empty", DefaultPolicy(), hours(1, 1), []Fault{backwards}},
		{"backwards", DefaultPolicy(), hours(2, 1), []Fault{backwards}},
		{"backwards by years", DefaultPolicy(), Slot{year(9999), year(1)}, []Fault{backwards}},
		{"the longest", DefaultPolicy(), hours(0, 24), nil},
		{"the longest in two zones", DefaultPolicy(), Slot{hours(0, 24).Start.In(seoul), hours(0, 24).End}, nil},
		{"a nanosecond longer", DefaultPolicy(), Slot{noon, noon.Add(24*time.Hour + 1)}, []Fault{tooLong("24 hours 1 nanosecond")}},
		{"longer", DefaultPolicy(), hours(0, 25), []Fault{tooLong("25 hours")}},
		{"much longer than can be said", DefaultPolicy(), Slot{year(1), year(9999)}, []Fault{tooLong("more than 292 years")}},
		{"no times", DefaultPolicy(), Slot{}, []Fault{backwards}},
		{"no start", DefaultPolicy(), Slot{End: noon}, []Fault{tooLong("more than 292 years")}},
		{"no end", DefaultPolicy(), Slot{Start: noon}, []Fault{backwards}},
		{"no bound", noBound, Slot{year(1), year(9999)}, nil},
		{"no bound, backwards", noBound, Slot{year(9999), year(1)}, []Fault{backwards}},
		{"starts now", future, hours(0, 1), nil},
		{"starts now in another zone", future, inSeoul(hours(0, 1)), nil},
		{"started a nanosecond ago", future, Slot{noon.Add(-1), noon.Add(time.Hour)}, []Fault{past}},
		{"started an hour ago in another zone", future, inSeoul(hours(-1, 1)), []Fault{past}},
		{"in the past and backwards", future, hours(-1, -2), []Fault{backwards, past}},
		{"in the past and too long", future, hours(-1, 24), []Fault{tooLong("25 hours"), past}},
	} {
		if got := row.policy.CheckSlot(row.slot, noon); !slices.Equal(got, row.want) {
			t.Errorf("%s: faults %q, want %q", row.name, got, row.want)
		}
		if got := row.policy.CheckSlot(row.slot, noon.In(seoul)); !slices.Equal(got, row.want) {
			t.Errorf("%s, told in Seoul: faults %q, want %q", row.name, got, row.want)
		}
	}
}

// A bound of whole days is one of the zone's days, which have 25 hours where clocks are put back, and of 24 hours wherever that is more.
func TestTheLongestBookingInDays(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2026, month, day, hour, minute, 0, 0, berlin)
	}
	day, dayAndHalf := Policy{LongestBooking: 24 * time.Hour, Zone: berlin}, Policy{LongestBooking: 36 * time.Hour, Zone: berlin}
	for _, row := range []struct {
		name   string
		policy Policy
		slot   Slot
		long   bool
	}{
		{"the day of 25 hours", day, Slot{at(10, 25, 0, 0), at(10, 26, 0, 0)}, false},
		{"told in UTC", day, Slot{at(10, 25, 0, 0).UTC(), at(10, 26, 0, 0).UTC()}, false},
		{"a minute more", day, Slot{at(10, 25, 0, 0), at(10, 26, 0, 1)}, true},
		{"25 hours of another day", day, Slot{at(10, 20, 0, 0), at(10, 21, 1, 0)}, true},
		{"the day of 23 hours", day, Slot{at(3, 29, 0, 0), at(3, 30, 0, 0)}, false},
		{"24 hours of it", day, Slot{at(3, 29, 0, 0), at(3, 30, 1, 0)}, false},
		{"a minute more of it", day, Slot{at(3, 29, 0, 0), at(3, 30, 1, 1)}, true},
		{"a day and a half", dayAndHalf, Slot{at(10, 25, 0, 0), at(10, 26, 12, 0)}, false},
		{"25 hours in UTC", Policy{LongestBooking: 24 * time.Hour}, Slot{at(10, 25, 0, 0), at(10, 26, 0, 0)}, true},
		{"an hour", Policy{LongestBooking: time.Hour, Zone: berlin}, Slot{at(10, 25, 0, 0), at(10, 25, 1, 1)}, true},
	} {
		if faults := row.policy.CheckSlot(row.slot, noon); (faults != nil) != row.long {
			t.Errorf("%s: %q", row.name, faults)
		}
	}
}

// A change is judged by what it sets: what it leaves as it is was allowed before.
func TestThePolicyForAChange(t *testing.T) {
	b := Booking{Room: "red", User: "ann", Slot: hours(-1, 9)}
	p := Policy{LongestBooking: 8 * time.Hour, RefusePast: true, ConfirmBeforeUse: true, EarlyUse: time.Minute}
	with := func(longest time.Duration, past bool) Policy {
		p := p
		p.LongestBooking, p.RefusePast = longest, past
		return p
	}
	for _, row := range []struct {
		name   string
		change Change
		want   Policy
	}{
		{"the room", Change{Room: ptr(RoomID("blue"))}, with(0, false)},
		{"the same slot", Change{Room: ptr(RoomID("blue")), Start: ptr(b.Slot.Start.In(time.FixedZone("KST", 9*60*60))), End: &b.Slot.End}, with(0, false)},
		{"the end", Change{End: ptr(hours(0, 8).End)}, with(8*time.Hour, false)},
		{"the end, with the same start", Change{Start: &b.Slot.Start, End: ptr(hours(0, 8).End)}, with(8*time.Hour, false)},
		{"the start", Change{Start: ptr(hours(0, 1).Start)}, p},
		{"both", Change{Start: ptr(hours(0, 1).Start), End: ptr(hours(0, 1).End)}, p},
	} {
		if got := p.ForChange(b, row.change); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		25 * time.Hour: "25 hours", time.Hour: "1 hour", 90 * time.Minute: "1 hour 30 minutes", 61 * time.Second: "1 minute 1 second", 1500 * time.Millisecond: "1 second 500 milliseconds",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestDefaultPolicy(t *testing.T) {
	if got, want := DefaultPolicy(), (Policy{LongestBooking: 24 * time.Hour}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
