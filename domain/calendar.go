package domain

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
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
		// Actor, Client, CorrelationID, TraceParent and Command are those of the command; what follows from the reservation repeats them.
		Actor         string `json:"actor"`
		Client        string `json:"client,omitempty"`
		CorrelationID string `json:"correlationId"`
		TraceParent   string `json:"traceparent,omitempty"`
		Command       string `json:"command,omitempty"`
		// Replaces is the reservation that the booking gives up for this one. Empty for a new booking.
		Replaces ReservationID `json:"replaces,omitempty"`
		// IfRevision is the only revision of the booking at which the change may be made; 0 for any: a booking's first append
		// has two events, so no change is ever made at revision 0. Where users are counted, a change that leaves the user as it is has it, so
		// that nobody else gets what was counted for one.
		IfRevision Revision `json:"ifRevision,omitempty"`
		// HeldFor is the user of the booking if UserID is empty: who it counts for.
		HeldFor UserID `json:"heldFor,omitempty"`
		// Approval is [ApprovalNone] if the room's rules say that nobody has to confirm the booking; otherwise empty.
		Approval Approval `json:"approval,omitempty"`
		// UseFrom is when the use may start at the earliest by the rules of the room; zero is as the policy says.
		UseFrom time.Time `json:"useFrom,omitzero"`
		// Override says that an administrator has booked though the slot breaks rules of the room.
		Override bool `json:"override,omitempty"`
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

// Reservation is a slot that is held for a booking. The rest of what its SlotReserved says is only needed to finish what its command
// began, and is in the stream, at Revision.
type Reservation struct {
	ReservationID ReservationID
	BookingID     BookingID
	RoomID        RoomID
	Slot          Slot     // in UTC
	Revision      Revision // of its SlotReserved
	// Used is set if the booking is over and Slot is the part of its slot that was used: it is held forever.
	Used bool
}

// entry is a [Reservation] as a calendar keeps it, in 80 bytes and without a pointer: a program remembers a million of them, and its
// garbage collector has nothing to look for in them.
type entry struct {
	booking, reservation uuid.UUID // the ids, or what [asUUID] makes of them
	start, end           int64     // seconds, as of [time.Time.Unix]
	startNano, endNano   uint32
	revision             Revision
	user                 uint64 // see [userKey]
	used                 bool
	text                 bool // the ids are not both UUIDs in their canonical form, and are in the calendar's texts
}

// entryText has the ids of the reservation that was made at a revision.
type entryText struct {
	revision    Revision
	booking     BookingID
	reservation ReservationID
}

func (t *entryText) bytes() int { return 80 + len(t.booking) + len(t.reservation) }

func newEntry(r SlotReserved, revision Revision) *entry {
	e := entryFrom(r.Slot.Start, revision)
	var canonical [2]bool
	e.booking, canonical[0] = asUUID(string(r.BookingID))
	e.reservation, canonical[1] = asUUID(string(r.ReservationID))
	e.text = !canonical[0] || !canonical[1]
	e.user = userKey(r)
	e.setEnd(r.Slot.End)
	return e
}

// userKey stands for the user whom a reservation counts for: 8 bytes of the SHA-256 of the id, or 0 if that is not known.
func userKey(r SlotReserved) uint64 {
	user := cmp.Or(r.UserID, r.HeldFor)
	if user == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(user))
	return binary.BigEndian.Uint64(sum[:])
}

// entryOf sorts before every reservation of the booking.
func entryOf(booking BookingID) *entry {
	e := &entry{revision: -1}
	e.booking, _ = asUUID(string(booking))
	return e
}

// entryFrom has the place among slots of one that starts then and was reserved at the revision.
func entryFrom(start time.Time, revision Revision) *entry {
	return &entry{start: start.Unix(), startNano: uint32(start.Nanosecond()), revision: revision}
}

// textSpace is the UUIDv5 namespace of ids that are not UUIDs.
var textSpace = uuid.MustParse("5f0c9b0e-7a39-4b53-9d0c-6f1f3f1d2e58")

// asUUID is the UUID whose canonical text form id is, or one that no other id has.
func asUUID(id string) (u uuid.UUID, canonical bool) {
	if len(id) == 36 && strings.ToLower(id) == id {
		if u, err := uuid.Parse(id); err == nil {
			return u, true
		}
	}
	return uuid.NewSHA1(textSpace, []byte(id)), false
}

func (e *entry) setEnd(end time.Time) { e.end, e.endNano = end.Unix(), uint32(end.Nanosecond()) }

func (e *entry) slot() Slot {
	return Slot{time.Unix(e.start, int64(e.startNano)).UTC(), time.Unix(e.end, int64(e.endNano)).UTC()}
}

// endsBy reports whether the slot ends at the given time or before.
func (e *entry) endsBy(t time.Time) bool {
	return cmp.Or(cmp.Compare(e.end, t.Unix()), cmp.Compare(int(e.endNano), t.Nanosecond())) <= 0
}

func byBooking(a, b *entry) bool {
	return cmp.Or(bytes.Compare(a.booking[:], b.booking[:]), cmp.Compare(a.revision, b.revision)) < 0
}

func bySlot(a, b *entry) bool {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.startNano, b.startNano), cmp.Compare(a.revision, b.revision)) < 0
}

func byRevision(a, b *entryText) bool { return a.revision < b.revision }

// Calendar is the state of one room: what its own events say, and the reservations that are held, or those that are held and have not ended
// long ago, see [Calendar.Forget]. The zero value is the calendar of a room that was never booked nor registered. A Calendar is a value:
// Evolve does not change the calendar it is called on.
type Calendar struct {
	bySlot    *btree.BTreeG[*entry]     // by start
	byBooking *btree.BTreeG[*entry]     // by booking, then in the order of the stream
	texts     *btree.BTreeG[*entryText] // of the entries that say so
	textBytes int
	room      RoomID
	about     *Room         // nil if the room has no events of its own
	next      Revision      // of the event to be folded next
	longest   time.Duration // the longest slot ever held, capped as [Slot.Length] is
	since     time.Time     // no reservation that ended later was forgotten; zero if none was
}

// Room is the room of the calendar; empty if it has no events.
func (c Calendar) Room() RoomID { return c.room }

// About is the state of the room apart from its reservations.
func (c Calendar) About() Room {
	if c.about == nil {
		return Room{Revision: -1}
	}
	return *c.about
}

// Revision is that of the last event that was folded, or -1.
func (c Calendar) Revision() Revision { return c.next - 1 }

// Evolve folds the next event of the calendar's stream.
func (c Calendar) Evolve(event Event) Calendar {
	return c.EvolveAll(func(yield func(Revision, Event) bool) { yield(c.next, event) })
}

// EvolveAll folds events with their revisions, in the order of the calendar's stream; nil stands for an event that is to be skipped. It is
// cheaper than folding them one by one, since c is copied only once.
func (c Calendar) EvolveAll(events iter.Seq2[Revision, Event]) Calendar {
	c.detach()
	for revision, event := range events {
		switch e := event.(type) {
		case SlotReserved:
			c.room = e.RoomID
			reserved := newEntry(e, revision)
			if reserved.user == 0 { // older programs did not say it of a change that leaves the user as it is
				if former := c.held(e.BookingID, e.Replaces); former != nil {
					reserved.user = former.user
				}
			}
			c.add(reserved)
			if reserved.text {
				text := &entryText{revision, e.BookingID, e.ReservationID}
				c.texts.Set(text)
				c.textBytes += text.bytes()
			}
		case SlotReleased:
			if r := c.held(e.BookingID, e.ReservationID); r != nil {
				c.remove(r)
			}
		case SlotUsed:
			if r := c.held(e.BookingID, e.ReservationID); r != nil {
				used := *r // r is shared with other calendars
				used.used = true
				used.setEnd(e.End)
				c.bySlot.Set(&used)
				c.byBooking.Set(&used)
			}
		case RoomRegistered, RoomChanged, RoomRetired, RoomReinstated, RulesSet, PeriodClosed, PeriodReopened, RoomPhotoChanged:
			about := c.About().Evolve(revision, e)
			c.room, c.about = about.ID, &about
		}
		c.next = revision + 1
	}
	return c
}

// detach gives c trees of its own; nodes stay shared until they are written.
func (c *Calendar) detach() {
	if c.bySlot == nil {
		c.bySlot = btree.NewBTreeG(bySlot)
		c.byBooking = btree.NewBTreeG(byBooking)
		c.texts = btree.NewBTreeG(byRevision)
		return
	}
	c.bySlot = c.bySlot.Copy()
	c.byBooking = c.byBooking.Copy()
	c.texts = c.texts.Copy()
}

func (c *Calendar) add(e *entry) {
	c.bySlot.Set(e)
	c.byBooking.Set(e)
	c.longest = max(c.longest, e.slot().Length())
}

func (c *Calendar) remove(e *entry) {
	c.bySlot.Delete(e)
	c.byBooking.Delete(e)
	if text, ok := c.texts.Delete(&entryText{revision: e.revision}); ok {
		c.textBytes -= text.bytes()
	}
}

// Forget returns the calendar without the reservations and closures that ended by the given time, except for the last few of the
// reservations, by start. What is left is complete from the end of the last one that was forgotten.
func (c Calendar) Forget(ended time.Time, few int) Calendar {
	if c.bySlot == nil {
		return c
	}
	if c.about != nil && slices.ContainsFunc(c.about.Closures, func(closure Closure) bool { return !closure.Slot.End.After(ended) }) {
		about := c.about.forget(ended)
		c.about = &about
	}
	var over []*entry
	c.bySlot.Copy().Scan(func(e *entry) bool {
		if e.start >= ended.Unix() {
			return false
		}
		if e.endsBy(ended) {
			over = append(over, e)
		}
		return true
	})
	if len(over) <= few {
		return c
	}
	c.detach()
	for _, e := range over[:len(over)-few] {
		c.remove(e)
		if !e.endsBy(c.since) {
			c.since = e.slot().End
		}
	}
	return c
}

// Since is when the last reservation that was forgotten ended; zero if none was.
func (c Calendar) Since() time.Time { return c.since }

// CompleteFrom reports whether the calendar has all reservations and closures that end after the given time.
func (c Calendar) CompleteFrom(t time.Time) bool {
	return !t.Before(c.since) && (c.about == nil || c.about.CompleteFrom(t))
}

// Decides reports whether whatever is decided on a slot that starts at the given time, or later, can be decided on the calendar, given the
// program's time zone.
func (c Calendar) Decides(t time.Time, zone *time.Location) bool {
	if c.about != nil {
		t = c.about.reach(t, zone)
	}
	return c.CompleteFrom(t)
}

// Len is the number of reservations in the calendar.
func (c Calendar) Len() int {
	if c.bySlot == nil {
		return 0
	}
	return c.bySlot.Len()
}

// MoreBytes is the memory that ids take which are not UUIDs, and what the room's own events say.
func (c Calendar) MoreBytes() int {
	if c.about == nil {
		return c.textBytes
	}
	return c.textBytes + c.about.bytes()
}

func (c Calendar) reservation(e *entry) *Reservation {
	r := &Reservation{RoomID: c.room, Slot: e.slot(), Revision: e.revision, Used: e.used}
	if e.text {
		text, _ := c.texts.Get(&entryText{revision: e.revision})
		r.BookingID, r.ReservationID = text.booking, text.reservation
	} else {
		r.BookingID, r.ReservationID = BookingID(e.booking.String()), ReservationID(e.reservation.String())
	}
	return r
}

// All yields the reservations, by start.
func (c Calendar) All(yield func(*Reservation) bool) {
	if c.bySlot != nil {
		// A scan locks its tree, which must not block what the caller does with c meanwhile.
		c.bySlot.Copy().Scan(func(e *entry) bool { return yield(c.reservation(e)) })
	}
}

// Of lists the reservations that are held for the booking, in the order in which they were made.
func (c Calendar) Of(id BookingID) []*Reservation {
	var of []*Reservation
	c.scan(id, func(e *entry) bool {
		of = append(of, c.reservation(e))
		return true
	})
	return of
}

// scan calls visit with the entries of the booking, in the order in which they were made, until that returns false.
func (c Calendar) scan(id BookingID, visit func(*entry) bool) {
	if c.byBooking == nil {
		return
	}
	from := entryOf(id)
	c.byBooking.Ascend(from, func(e *entry) bool { return e.booking == from.booking && visit(e) })
}

// Held returns the reservation, or nil if it is not held (any more).
func (c Calendar) Held(id BookingID, reservation ReservationID) *Reservation {
	if e := c.held(id, reservation); e != nil {
		return c.reservation(e)
	}
	return nil
}

func (c Calendar) held(id BookingID, reservation ReservationID) (found *entry) {
	u, _ := asUUID(string(reservation))
	c.scan(id, func(e *entry) bool {
		if e.reservation == u {
			found = e
		}
		return found == nil
	})
	return found
}

// Overlapping lists the reservations of other bookings that overlap the slot, by start.
func (c Calendar) Overlapping(slot Slot, except BookingID) []*Reservation {
	if c.bySlot == nil {
		return nil
	}
	var found []*Reservation
	own, _ := asUUID(string(except))
	c.overlapping(slot, func(e *entry) {
		if e.booking != own {
			found = append(found, c.reservation(e))
		}
	})
	return found
}

// overlapping calls visit with the entries that overlap the slot, by start.
func (c Calendar) overlapping(slot Slot, visit func(*entry)) {
	if c.bySlot == nil {
		return
	}
	look := func(e *entry) bool {
		s := e.slot()
		if !s.Start.Before(slot.End) {
			return false
		}
		if s.Overlaps(slot) {
			visit(e)
		}
		return true
	}
	if c.longest == math.MaxInt64 { // or longer
		c.bySlot.Scan(look)
		return
	}
	// A reservation that starts earlier than this has ended by the start of the slot, however long it is.
	c.bySlot.Ascend(entryFrom(slot.Start.Add(-c.longest), -1), look)
}

// Begun yields the reservations whose slots start at the given time or before, latest first.
func (c Calendar) Begun(by time.Time) iter.Seq[*Reservation] {
	return func(yield func(*Reservation) bool) {
		if c.bySlot != nil {
			c.bySlot.Copy().Descend(entryFrom(by, math.MaxInt64), func(e *entry) bool { return yield(c.reservation(e)) })
		}
	}
}

// DecideReserve takes a slot of the room for a booking.
//
//	given the slot is free, or held by the same booking  then SlotReserved, with what the room's rules say of the booking
//	given this very reservation is held                  then nothing: a repeat
//	given the room is not registered and has to be       then ErrRoomNotFound
//	given the slot breaks the policy                     then *Invalid
//	given the room is retired before the slot ends       then *Retired
//	given the room is closed in a part of the slot       then *RoomClosed
//	given the slot breaks rules, without override        then *RuleBroken
//	given other bookings hold or used a part of it       then *SlotTaken
func DecideReserve(c Calendar, ask SlotReserved, p Policy) ([]Event, error) {
	if c.held(ask.BookingID, ask.ReservationID) != nil {
		return nil, nil
	}
	if p.RegisteredRooms && c.about == nil {
		return nil, ErrRoomNotFound
	}
	if faults := p.CheckSlot(ask.Slot, ask.At); faults != nil {
		return nil, &Invalid{faults}
	}
	if ask.Override = ask.Override && c.about != nil; c.about != nil {
		var err error
		if ask, err = c.admission(ask, p).decide(); err != nil {
			return nil, err
		}
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
