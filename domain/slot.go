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
