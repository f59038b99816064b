package domain

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Policy is what an organisation may choose about its rooms. That bookings never overlap is not up to it.
type Policy struct {
	// LongestBooking bounds a slot's length; 0 is no bound. Whole days in it may also be calendar days of the zone, which have 23 to 25
	// hours when clocks change.
	LongestBooking time.Duration
	// Zone is the time zone of those days. Nil is UTC.
	Zone *time.Location
	// RefusePast refuses to book a slot that starts in the past, and to move the start of a booking there.
	RefusePast bool
	// ConfirmBeforeUse refuses to start the use of a room while the administrator's answer is pending.
	ConfirmBeforeUse bool
	// EarlyUse bounds how long before its booking's slot starts a use may start, and how long after the slot ends; 0 is no bound.
	EarlyUse time.Duration
	// RegisteredRooms refuses to book a room that is not registered.
	RegisteredRooms bool
}

// DefaultPolicy allows up to 24 hours, the past, use before confirmation, and use at any time.
func DefaultPolicy() Policy { return Policy{LongestBooking: 24 * time.Hour} }

// CheckSlot lists everything that is wrong with a slot requested at now; nil if nothing is.
func (p Policy) CheckSlot(s Slot, now time.Time) []Fault {
	var faults []Fault
	if !s.Start.Before(s.End) {
		faults = append(faults, Fault{FieldEnd, "must be after the start"})
	}
	if p.tooLong(s) {
		faults = append(faults, Fault{FieldEnd, fmt.Sprintf("a booking may be at most %s long, this one is %s", inWords(p.LongestBooking), inWords(s.Length()))})
	}
	if p.RefusePast && s.Start.Before(now) {
		faults = append(faults, Fault{FieldStart, "must not be in the past"})
	}
	return faults
}

// ForChange is the policy for a change of a booking. It does not object to what the change leaves as it is: that was allowed when it was
// booked, and only time has passed since.
func (p Policy) ForChange(b Booking, c Change) Policy {
	_, _, slot := b.Target(c)
	if slot.Start.Equal(b.Slot.Start) {
		p.RefusePast = false
	}
	if slot.Equal(b.Slot) {
		p.LongestBooking = 0
	}
	return p
}

// checkUse returns an error if a use of the booking starts too long before or after its slot. The rules of its room go before the policy.
func (p Policy) checkUse(b Booking, startedAt time.Time) error {
	var earliest, latest time.Time
	if p.EarlyUse > 0 {
		earliest, latest = b.Slot.Start.Add(-p.EarlyUse), b.Slot.End.Add(p.EarlyUse)
	}
	if !b.UseFrom.IsZero() {
		earliest = b.UseFrom
	}
	if startedAt.Before(earliest) || !latest.IsZero() && startedAt.After(latest) {
		return &UseOffSlot{Booking: b.ID, StartedAt: startedAt, Earliest: earliest, Latest: latest}
	}
	return nil
}

func (p Policy) tooLong(s Slot) bool {
	if p.LongestBooking <= 0 || s.Length() <= p.LongestBooking {
		return false
	}
	const day = 24 * time.Hour
	zone := p.Zone
	if zone == nil {
		zone = time.UTC
	}
	days, rest := int(p.LongestBooking/day), p.LongestBooking%day
	return s.End.After(s.Start.In(zone).AddDate(0, 0, days).Add(rest))
}

// inWords spells a duration out: 25 hours, or 1 hour 30 minutes.
func inWords(d time.Duration) string {
	if d == math.MaxInt64 {
		return "more than 292 years"
	}
	var words []string
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{{"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}, {"millisecond", time.Millisecond}, {"nanosecond", 1}} {
		switch n := d / unit.length; n {
		case 0:
		case 1:
			words = append(words, "1 "+unit.name)
		default:
			words = append(words, fmt.Sprintf("%d %ss", n, unit.name))
		}
		d %= unit.length
	}
	return strings.Join(words, " ")
}
