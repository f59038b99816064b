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
		return Fault{FieldEnd, "a booking may be at most 24h0m0s long, this one is " + length}
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
		{"a nanosecond longer", DefaultPolicy(), Slot{noon, noon.Add(24*time.Hour + 1)}, []Fault{tooLong("24h0m0.000000001s")}},
		{"longer", DefaultPolicy(), hours(0, 25), []Fault{tooLong("25h0m0s")}},
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
		{"in the past and too long", future, hours(-1, 24), []Fault{tooLong("25h0m0s"), past}},
	} {
		if got := row.policy.CheckSlot(row.slot, noon); !slices.Equal(got, row.want) {
			t.Errorf("%s: faults %q, want %q", row.name, got, row.want)
		}
		if got := row.policy.CheckSlot(row.slot, noon.In(seoul)); !slices.Equal(got, row.want) {
			t.Errorf("%s, told in Seoul: faults %q, want %q", row.name, got, row.want)
		}
	}
}

func TestDefaultPolicy(t *testing.T) {
	if got, want := DefaultPolicy(), (Policy{LongestBooking: 24 * time.Hour}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
