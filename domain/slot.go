package domain

import (
	"fmt"
	"time"
)

// Slot is a half-open interval of time, [Start, End): a booking that starts when another ends does not collide with it.
type Slot struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// The first and the last year of a time in a command. In earlier years zones had offsets that RFC 3339 cannot express, and later years do not fit.
const (
	FirstYear = 1970
	LastYear  = 9998
)

// Overlaps reports whether the two slots share an instant. An empty slot overlaps nothing.
func (s Slot) Overlaps(o Slot) bool {
	return s.Start.Before(o.End) && o.Start.Before(s.End) && s.Start.Before(s.End) && o.Start.Before(o.End)
}

// Equal reports whether the two slots start and end at the same instants, whatever their time zones.
func (s Slot) Equal(o Slot) bool { return s.Start.Equal(o.Start) && s.End.Equal(o.End) }

// Length is the time from start to end, capped at the longest [time.Duration], 292 years.
func (s Slot) Length() time.Duration { return s.End.Sub(s.Start) }

func (s Slot) String() string {
	return fmt.Sprintf("[%s, %s)", s.Start.UTC().Format(time.RFC3339), s.End.UTC().Format(time.RFC3339))
}

// Midnight returns the first moment of a day in a zone, which is later than 00:00 where clocks are put forward from midnight. As for [time.Date], the
// date may be outside its month.
func Midnight(year int, month time.Month, date int, zone *time.Location) time.Time {
	noon := time.Date(year, month, date, 12, 0, 0, 0, zone)
	t := time.Date(year, month, date, 0, 0, 0, 0, zone)
	start, end := t.ZoneBounds()
	switch {
	case t.Day() != noon.Day(): // the day before
		return end
	case !start.IsZero():
		// Clocks that are put back after midnight, or to it, may have shown this day before.
		if before := start.Add(-1); before.Day() == noon.Day() && noon.Sub(before) < day {
			return before.Add(-sinceMidnight(before))
		}
	}
	return t
}
