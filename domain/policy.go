package domain

import (
	"fmt"
	"math"
	"time"
)

// Policy is what an organisation may choose about its rooms. That two bookings never overlap is not a choice.
type Policy struct {
	// LongestBooking bounds a slot's length; 0 is no bound.
	LongestBooking time.Duration
	// RefusePast refuses to book or to move to a slot that starts before now.
	RefusePast bool
	// ConfirmBeforeUse refuses to start the use of a room while the administrator's answer is pending.
	ConfirmBeforeUse bool
}

// DefaultPolicy allows up to 24 hours, the past, and use before confirmation.
func DefaultPolicy() Policy { return Policy{LongestBooking: 24 * time.Hour} }

// CheckSlot lists everything that is wrong with a slot asked for at now. Nil is nothing.
func (p Policy) CheckSlot(s Slot, now time.Time) []Fault {
	var faults []Fault
	if !s.Start.Before(s.End) {
		faults = append(faults, Fault{FieldEnd, "must be after the start"})
	}
	if length := s.Length(); p.LongestBooking > 0 && length > p.LongestBooking {
		is := length.String()
		if length == math.MaxInt64 {
			is = "more than 292 years"
		}
		faults = append(faults, Fault{FieldEnd, fmt.Sprintf("a booking may be at most %s long, this one is %s", p.LongestBooking, is)})
	}
	if p.RefusePast && s.Start.Before(now) {
		faults = append(faults, Fault{FieldStart, "must not be in the past"})
	}
	return faults
}
