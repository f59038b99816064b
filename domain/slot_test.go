package domain

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestOverlaps(t *testing.T) {
	seoul := time.FixedZone("KST", 9*60*60)
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, row := range []struct {
		name string
		a, b Slot
		want bool
	}{
		{"the same", hours(1, 2), hours(1, 2), true},
		{"back to back", hours(1, 2), hours(2, 3), false},
		{"apart", hours(1, 2), hours(3, 4), false},
		{"by a nanosecond", hours(1, 2), Slot{hours(2, 3).Start.Add(-1), hours(2, 3).End}, true},
		{"one at the other's start", hours(1, 3), hours(1, 2), true},
		{"one at the other's end", hours(1, 3), hours(2, 3), true},
		{"one within the other", hours(1, 4), hours(2, 3), true},
		{"partly", hours(1, 3), hours(2, 4), true},
		{"the same clock time in two zones", hours(0, 1), Slot{time.Date(2026, 11, 24, 12, 0, 0, 0, seoul), time.Date(2026, 11, 24, 13, 0, 0, 0, seoul)}, false},
		{"the same instants in two zones", hours(0, 1), Slot{hours(0, 1).Start.In(seoul), hours(0, 1).End.In(seoul)}, true},
		{"empty, within the other", hours(1, 4), hours(2, 2), false},
		{"empty, the same", hours(2, 2), hours(2, 2), false},
		{"backwards", hours(1, 4), hours(3, 2), false},
		{"zero times", Slot{}, hours(1, 4), false},
		{"from the zero time on", Slot{End: hours(1, 2).End}, hours(1, 4), true},
		{"thousands of years", Slot{year(1), year(9999)}, hours(1, 2), true},
		{"thousands of years apart", Slot{year(1), year(2)}, Slot{year(9998), year(9999)}, false},
		{"thousands of years back to back", Slot{year(1), year(5000)}, Slot{year(5000), year(9999)}, false},
	} {
		if got := row.a.Overlaps(row.b); got != row.want {
			t.Errorf("%s: %s overlaps %s: %t, want %t", row.name, row.a, row.b, got, row.want)
		}
		if got := row.b.Overlaps(row.a); got != row.want {
			t.Errorf("%s, the other way round: %t, want %t", row.name, got, row.want)
		}
	}
}

// TestOverlapsMeansASharedInstant compares with looking at every instant there is.
func TestOverlapsMeansASharedInstant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instant := rapid.IntRange(0, 8)
		a, b := hours(instant.Draw(t, "start"), instant.Draw(t, "end")), hours(instant.Draw(t, "other start"), instant.Draw(t, "other end"))
		shared := false
		for h := range 9 {
			i := hours(h, h).Start
			shared = shared || !i.Before(a.Start) && i.Before(a.End) && !i.Before(b.Start) && i.Before(b.End)
		}
		if a.Overlaps(b) != shared {
			t.Fatalf("%s overlaps %s: %t, they share an instant: %t", a, b, !shared, shared)
		}
	})
}

func TestSlotEqual(t *testing.T) {
	seoul := time.FixedZone("KST", 9*60*60)
	for _, row := range []struct {
		name string
		a, b Slot
		want bool
	}{
		{"the same", hours(1, 2), hours(1, 2), true},
		{"in another zone", hours(1, 2), Slot{hours(1, 2).Start.In(seoul), hours(1, 2).End.In(seoul)}, true},
		{"another start", hours(1, 2), hours(0, 2), false},
		{"another end", hours(1, 2), hours(1, 3), false},
		{"zero", Slot{}, Slot{}, true},
	} {
		if got := row.a.Equal(row.b); got != row.want {
			t.Errorf("%s: %t, want %t", row.name, got, row.want)
		}
	}
}

func TestSlotLength(t *testing.T) {
	for _, row := range []struct {
		slot Slot
		want time.Duration
		text string
	}{
		{hours(1, 3), 2 * time.Hour, "[2026-11-24T13:00:00Z, 2026-11-24T15:00:00Z)"},
		{hours(3, 1), -2 * time.Hour, "[2026-11-24T15:00:00Z, 2026-11-24T13:00:00Z)"},
		{Slot{}, 0, "[0001-01-01T00:00:00Z, 0001-01-01T00:00:00Z)"},
		{Slot{End: noon.In(time.FixedZone("KST", 9*60*60))}, math.MaxInt64, "[0001-01-01T00:00:00Z, 2026-11-24T12:00:00Z)"},
		{Slot{Start: noon}, math.MinInt64, "[2026-11-24T12:00:00Z, 0001-01-01T00:00:00Z)"},
	} {
		if got := row.slot.Length(); got != row.want {
			t.Errorf("%s is %s long, want %s", row.slot, got, row.want)
		}
		if got := row.slot.String(); got != row.text {
			t.Errorf("reads %s, want %s", got, row.text)
		}
	}
}
