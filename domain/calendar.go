package domain

import (
	"cmp"
	"iter"
	"math"
	"time"

	"github.com/tidwall/btree"
)

// The events of a calendar stream. They are stored forever.
type (
	// SlotReserved says that a slot of the room is held for a booking. It carries everything the booking will say, so that
	// whoever finds it can finish what its command began.
	SlotReserved struct {
		// ReservationID belongs to one attempt of one command to take one slot.
		ReservationID ReservationID `json:"reservationId"`
		BookingID     BookingID     `json:"bookingId"`
		RoomID        RoomID        `json:"roomId"`
		// UserID is the user the booking is for. Empty in a change that leaves the user as it is.
		UserID UserID    `json:"userId,omitempty"`
		Slot   Slot      `json:"slot"`
		At     time.Time `json:"at"`
		// Actor, CorrelationID, TraceParent and Command are those of the command; what follows from the reservation repeats them.
		Actor         string `json:"actor"`
		CorrelationID string `json:"correlationId"`
		TraceParent   string `json:"traceparent,omitempty"`
		Command       string `json:"command,omitempty"`
		// Replaces is the reservation that the booking gives up for this one. Empty for a new booking.
		Replaces ReservationID `json:"replaces,omitempty"`
		// IfRevision is the only revision of the booking at which the change may be made; 0 for any: a booking's first append
		// has two events, so no change is ever made at revision 0.
		IfRevision Revision `json:"ifRevision,omitempty"`
	}

	// SlotReleased says that the reservation no longer holds its slot.
	SlotReleased struct {
		ReservationID ReservationID `json:"reservationId"`
		BookingID     BookingID     `json:"bookingId"`
		RoomID        RoomID        `json:"roomId"`
	}

	// SlotUsed says that the booking is over and that its slot was used. The reservation holds the part up to End forever, so that
	// time that was used is not booked again, and no longer the rest. It takes the place of SlotReleased.
	SlotUsed struct {
		ReservationID ReservationID `json:"reservationId"`
		BookingID     BookingID     `json:"bookingId"`
		RoomID        RoomID        `json:"roomId"`
		End           time.Time     `json:"end"` // after the start of the slot, and not after its end
	}
)

func (SlotReserved) EventType() string { return "SlotReserved" }
func (SlotReleased) EventType() string { return "SlotReleased" }
func (SlotUsed) EventType() string     { return "SlotUsed" }

// Reservation is a slot that is held for a booking.
type Reservation struct {
	SlotReserved
	// Used is set if the booking is over and Slot is the part of its slot that was used: it is held forever.
	Used  bool
	order uint64
}

// Calendar is the state of one room: the reservations that are held. The zero value is the calendar of a room that was never
// booked. A Calendar is a value: Evolve does not change the calendar it is called on.
type Calendar struct {
	bySlot    *btree.BTreeG[*Reservation] // by start
	byBooking *btree.BTreeG[*Reservation] // by booking, then in the order of the stream
	reserved  uint64                      // SlotReserved events so far
	longest   time.Duration               // the longest slot ever held, capped as [Slot.Length] is
}

// Evolve folds one event of the calendar's stream.
func (c Calendar) Evolve(event Event) Calendar {
	return c.EvolveAll(func(yield func(Event) bool) { yield(event) })
}

// EvolveAll folds events in the order of the calendar's stream. It is cheaper than folding them one by one, since c is copied
// only once.
func (c Calendar) EvolveAll(events iter.Seq[Event]) Calendar {
	c.detach()
	for event := range events {
		switch e := event.(type) {
		case SlotReserved:
			r := &Reservation{SlotReserved: e, order: c.reserved}
			c.bySlot.Set(r)
			c.byBooking.Set(r)
			c.reserved++
			c.longest = max(c.longest, e.Slot.Length())
		case SlotReleased:
			if r := c.Held(e.BookingID, e.ReservationID); r != nil {
				c.bySlot.Delete(r)
				c.byBooking.Delete(r)
			}
		case SlotUsed:
			if r := c.Held(e.BookingID, e.ReservationID); r != nil {
				used := *r // r is shared with other calendars
				used.Slot.End, used.Used = e.End, true
				c.bySlot.Set(&used)
				c.byBooking.Set(&used)
			}
		}
	}
	return c
}

// detach gives c trees of its own; nodes stay shared until they are written.
func (c *Calendar) detach() {
	if c.bySlot == nil {
		c.bySlot = btree.NewBTreeG(bySlot)
		c.byBooking = btree.NewBTreeG(byBooking)
		return
	}
	c.bySlot = c.bySlot.Copy()
	c.byBooking = c.byBooking.Copy()
}

func bySlot(a, b *Reservation) bool {
	return cmp.Or(a.Slot.Start.Compare(b.Slot.Start), cmp.Compare(a.order, b.order)) < 0
}

func byBooking(a, b *Reservation) bool {
	return cmp.Or(cmp.Compare(a.BookingID, b.BookingID), cmp.Compare(a.order, b.order)) < 0
}

// Len is the number of reservations that are held.
func (c Calendar) Len() int {
	if c.bySlot == nil {
		return 0
	}
	return c.bySlot.Len()
}

// All yields the reservations that are held, by start.
func (c Calendar) All(yield func(*Reservation) bool) {
	if c.bySlot != nil {
		// A scan locks its tree, which must not block what the caller does with c meanwhile.
		c.bySlot.Copy().Scan(yield)
	}
}

// Of lists the reservations that are held for the booking, in the order in which they were made.
func (c Calendar) Of(id BookingID) []*Reservation {
	if c.byBooking == nil {
		return nil
	}
	var of []*Reservation
	from := &Reservation{SlotReserved: SlotReserved{BookingID: id}}
	c.byBooking.Ascend(from, func(r *Reservation) bool {
		if r.BookingID != id {
			return false
		}
		of = append(of, r)
		return true
	})
	return of
}

// Held returns the reservation, or nil if it is not held (any more).
func (c Calendar) Held(id BookingID, reservation ReservationID) *Reservation {
	for _, r := range c.Of(id) {
		if r.ReservationID == reservation {
			return r
		}
	}
	return nil
}

// Overlapping lists the reservations of other bookings that overlap the slot, by start.
func (c Calendar) Overlapping(slot Slot, except BookingID) []*Reservation {
	if c.bySlot == nil {
		return nil
	}
	var found []*Reservation
	look := func(r *Reservation) bool {
		if !r.Slot.Start.Before(slot.End) {
			return false
		}
		if r.BookingID != except && r.Slot.Overlaps(slot) {
			found = append(found, r)
		}
		return true
	}
	if c.longest == math.MaxInt64 { // or longer
		c.bySlot.Scan(look)
		return found
	}
	// A reservation that starts earlier than this has ended by the start of the slot, however long it is.
	from := &Reservation{SlotReserved: SlotReserved{Slot: Slot{Start: slot.Start.Add(-c.longest)}}}
	c.bySlot.Ascend(from, look)
	return found
}

// Begun yields the reservations that are held and whose slots start at the given time or before, latest first.
func (c Calendar) Begun(by time.Time) iter.Seq[*Reservation] {
	return func(yield func(*Reservation) bool) {
		if c.bySlot != nil {
			last := &Reservation{SlotReserved: SlotReserved{Slot: Slot{Start: by}}, order: math.MaxUint64}
			c.bySlot.Copy().Descend(last, yield)
		}
	}
}

// DecideReserve takes a slot of the room for a booking.
//
//	given the slot is free, or held by the same booking  then SlotReserved
//	given this very reservation is held                  then nothing: a repeat
//	given the slot breaks the policy                     then *Invalid
//	given other bookings hold or used a part of it       then *SlotTaken
func DecideReserve(c Calendar, ask SlotReserved, p Policy) ([]Event, error) {
	if c.Held(ask.BookingID, ask.ReservationID) != nil {
		return nil, nil
	}
	if faults := p.CheckSlot(ask.Slot, ask.At); faults != nil {
		return nil, &Invalid{faults}
	}
	if by := c.Overlapping(ask.Slot, ask.BookingID); by != nil {
		return nil, &SlotTaken{Room: ask.RoomID, Slot: ask.Slot, By: by}
	}
	return []Event{ask}, nil
}

// DecideRelease releases the reservation, or the part of its slot that was not used. usedUntil is zero if there was no use.
//
//	given it is held, and the use ended after the slot's start  then SlotUsed, up to the slot's end at most
//	given it is held otherwise                                  then SlotReleased
//	given it is not held, or only what was used is              then nothing: a repeat
func DecideRelease(c Calendar, id BookingID, reservation ReservationID, usedUntil time.Time) []Event {
	r := c.Held(id, reservation)
	if r == nil || r.Used {
		return nil
	}
	if usedUntil.After(r.Slot.Start) {
		end := r.Slot.End
		if usedUntil.Before(end) {
			end = usedUntil
		}
		return []Event{SlotUsed{ReservationID: r.ReservationID, BookingID: r.BookingID, RoomID: r.RoomID, End: end}}
	}
	return []Event{SlotReleased{ReservationID: r.ReservationID, BookingID: r.BookingID, RoomID: r.RoomID}}
}
