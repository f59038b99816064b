package commands

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// Streams are those that commands write.
func Streams() eventstore.Filter {
	return eventstore.Filter{StreamPrefixes: []string{domain.BookingCategory + "-", domain.CalendarCategory + "-", domain.RealUseCategory + "-"}}
}

// Audit walks a log and finds where it breaks the rules that the write side keeps:
//
//   - at no position do two live bookings of one room overlap,
//   - a booking is backed only by a reservation that its room's calendar holds, and no reservation is released while it backs a booking,
//   - a reservation keeps the gap that its room wants between bookings, unless an administrator has overridden that, and is not in a closed
//     period, nor is a live booking at the end, if bookings in it are cancelled,
//   - the part of a slot that a calendar keeps as used is the part that the booking's use took,
//   - at the end every calendar holds the reservations that back live bookings, the slots that were used, and nothing else,
//   - every real use belongs to a booking that was checked in, and at the end no booking is live whose use has ended.
//
// Add every event in the order of the log, then ask for the findings. The zero value is not ready for use; goroutines must not share
// an Audit.
type Audit struct {
	bookings  map[domain.BookingID]domain.Booking
	calendars map[domain.RoomID]domain.Calendar
	live      map[domain.RoomID]domain.Calendar // live bookings, in the form of reservations
	uses      map[domain.RealUseID]domain.RealUse
	snapshots map[domain.RoomID]eventstore.Recorded // the last of each calendar
	// unreadable has, by stream, the first event that this program cannot decode and must not pass over.
	unreadable map[string]eventstore.Recorded
	findings   []Finding
	events     int
	last       eventstore.Position
}

// Finding is one breach of one rule.
type Finding struct {
	Position eventstore.Position // where in the log it shows
	Booking  domain.BookingID
	Room     domain.RoomID
	Detail   string
	// AtEnd is set if the breach shows in the state at the end of the log, and not in an event: the cause may be a command that is still
	// running, or one that was left half-done and will be finished, if the booking is among [OpenBookings].
	AtEnd bool
}

func (f Finding) String() string {
	if f.Booking == "" {
		return fmt.Sprintf("position %d, room %s: %s", f.Position, f.Room, f.Detail)
	}
	return fmt.Sprintf("position %d, room %s, booking %s: %s", f.Position, f.Room, f.Booking, f.Detail)
}

// NewAudit returns an audit of an empty log.
func NewAudit() *Audit {
	return &Audit{
		bookings:   make(map[domain.BookingID]domain.Booking),
		calendars:  make(map[domain.RoomID]domain.Calendar),
		live:       make(map[domain.RoomID]domain.Calendar),
		uses:       make(map[domain.RealUseID]domain.RealUse),
		snapshots:  make(map[domain.RoomID]eventstore.Recorded),
		unreadable: make(map[string]eventstore.Recorded),
	}
}

// Events is the number of events about rooms that were added.
func (a *Audit) Events() int { return a.events }

// Bookings is the number of bookings that were found.
func (a *Audit) Bookings() int { return len(a.bookings) }

// Last is the position of the last event that was added; 0 if none was.
func (a *Audit) Last() eventstore.Position { return a.last }

// Unreadable has the first event of each stream that this program cannot decode and must not pass over, by position. There is nothing to
// be decided about a booking that is over.
func (a *Audit) Unreadable() []eventstore.Recorded {
	return slices.SortedFunc(maps.Values(a.unreadable), func(x, y eventstore.Recorded) int { return cmp.Compare(x.Position, y.Position) })
}

// Audited are the streams whose events an Audit is to be given.
func Audited() eventstore.Filter {
	f := Streams()
	f.StreamPrefixes = append(f.StreamPrefixes, domain.SnapshotCategory+"-", domain.FaultsCategory+"-")
	return f
}

// AddLog adds the events of the log after a position, up to its present end.
func (a *Audit) AddLog(ctx context.Context, log Log, after eventstore.Position) error {
	return toEnd(ctx, log, after, Audited(), func(batch eventstore.Batch) { a.AddAll(batch.Events) })
}

// AddAll adds the next events of the log.
func (a *Audit) AddAll(events []eventstore.Recorded) {
	for _, r := range events {
		a.Add(r)
	}
}

// Add adds the next event of the log.
func (a *Audit) Add(r eventstore.Recorded) {
	a.last = r.Position
	if _, known := a.unreadable[r.Stream]; !known && readable(r) != nil {
		a.unreadable[r.Stream] = r
	}
	if s, ok := r.Event.(domain.CalendarSnapshot); ok {
		a.snapshots[s.RoomID] = r
		return
	}
	if room, ok := domain.RoomOf(r.Event); ok {
		a.calendars[room] = evolveAt(a.calendars[room], r.Revision, r.Event)
		a.events++
		return
	}
	switch e := r.Event.(type) {
	case domain.SlotReserved:
		c := a.calendars[e.RoomID]
		for _, other := range c.Overlapping(e.Slot, e.BookingID) {
			a.found(e.BookingID, e.RoomID, "reservation %s overlaps reservation %s of booking %s", e.ReservationID, other.ReservationID, other.BookingID)
		}
		a.reserved(c, e)
		a.calendars[e.RoomID] = evolveAt(c, r.Revision, e)
	case domain.SlotReleased:
		if a.bookings[e.BookingID].BackedBy(e.ReservationID) {
			a.found(e.BookingID, e.RoomID, "reservation %s is released while it backs its booking", e.ReservationID)
		}
		a.calendars[e.RoomID] = evolveAt(a.calendars[e.RoomID], r.Revision, e)
	case domain.SlotUsed:
		a.used(e, r.Revision)
	case domain.BookingCreated:
		a.booking(e.BookingID, r)
	case domain.ConfirmRequested:
		a.booking(e.BookingID, r)
	case domain.BookingChanged:
		a.booking(e.BookingID, r)
	case domain.BookingHandedOver:
		a.booking(e.BookingID, r)
	case domain.ConfirmCompleted:
		a.booking(e.BookingID, r)
	case domain.ConfirmDenied:
		a.booking(e.BookingID, r)
	case domain.BookingCheckedIn:
		a.booking(e.BookingID, r)
	case domain.BookingCancelled:
		delete(a.unreadable, r.Stream)
		a.booking(e.BookingID, r)
	case domain.UseStarted:
		if b := a.bookings[e.BookingID]; b.Use == nil || b.Use.RealUse != e.RealUseID {
			a.found(e.BookingID, e.RoomID, "real use %s belongs to no booking that was checked in for it", e.RealUseID)
		}
		a.uses[e.RealUseID] = a.uses[e.RealUseID].Evolve(e)
	case domain.UseEnded:
		a.uses[e.RealUseID] = a.uses[e.RealUseID].Evolve(e)
	default:
		return
	}
	a.events++
}

// evolveAt folds an event of a calendar's stream; events before it that no calendar depends on may have been left out.
func evolveAt(c domain.Calendar, revision domain.Revision, e domain.Event) domain.Calendar {
	return c.EvolveAll(func(yield func(domain.Revision, domain.Event) bool) { yield(revision, e) })
}

// reserved checks a reservation against the closures and the gap of its room as they were when it was made. One of the same slot as the
// reservation that it replaces hands a booking over.
func (a *Audit) reserved(c domain.Calendar, e domain.SlotReserved) {
	if former := c.Held(e.BookingID, e.Replaces); former != nil && former.Slot.Equal(e.Slot) {
		return
	}
	if _, cancels := c.About().Cancels(e.Slot); cancels {
		a.found(e.BookingID, e.RoomID, "reservation %s is in a time for which the room is closed", e.ReservationID)
	}
	if e.Override {
		return
	}
	for _, other := range c.WithinGap(e.BookingID, e.Slot) {
		a.found(e.BookingID, e.RoomID, "reservation %s is less than the room's gap from reservation %s of booking %s", e.ReservationID, other.ReservationID, other.BookingID)
	}
}

// used folds a SlotUsed and checks it against the reservation and the end of the booking's use.
func (a *Audit) used(e domain.SlotUsed, revision domain.Revision) {
	c, b := a.calendars[e.RoomID], a.bookings[e.BookingID]
	a.calendars[e.RoomID] = evolveAt(c, revision, e)
	want := domain.DecideRelease(c, e.BookingID, e.ReservationID, b.UsedOn(e.ReservationID))
	if len(want) == 0 {
		a.found(e.BookingID, e.RoomID, "of reservation %s a part is said to be used, and it is not held", e.ReservationID)
		return
	}
	if used, ok := want[0].(domain.SlotUsed); !ok || !used.End.Equal(e.End) {
		a.found(e.BookingID, e.RoomID, "reservation %s is kept as used until %s, and its booking (%s) was used until %s", e.ReservationID, e.End.UTC().Format(time.RFC3339Nano), phase(b), b.UsedOn(e.ReservationID).UTC().Format(time.RFC3339Nano))
	}
}

// booking folds an event of a booking, and checks the booking against its reservation and against other bookings.
func (a *Audit) booking(id domain.BookingID, r eventstore.Recorded) {
	before := a.bookings[id]
	if before.Phase() == domain.PhaseCancelled {
		a.found(id, before.Room, "%s after it was cancelled", r.Type)
	}
	after := before.Evolve(r.Event)
	a.bookings[id] = after

	same := before.Live() && after.Live() && after.Reservation == before.Reservation && after.Room == before.Room && after.Slot.Equal(before.Slot)
	if same {
		return
	}
	if before.Live() {
		a.live[before.Room] = a.live[before.Room].Evolve(domain.SlotReleased{ReservationID: before.Reservation, BookingID: id, RoomID: before.Room})
	}
	if !after.Live() {
		return
	}
	held := a.calendars[after.Room].Held(id, after.Reservation)
	switch {
	case held == nil:
		a.found(id, after.Room, "reservation %s, which backs it, is not held", after.Reservation)
	case !held.Slot.Equal(after.Slot):
		a.found(id, after.Room, "it is booked for %s and its reservation %s is for %s", after.Slot, after.Reservation, held.Slot)
	}
	live := a.live[after.Room]
	for _, other := range live.Overlapping(after.Slot, id) {
		a.found(id, after.Room, "it overlaps booking %s, both live: %s and %s", other.BookingID, after.Slot, other.Slot)
	}
	a.live[after.Room] = live.Evolve(domain.SlotReserved{ReservationID: after.Reservation, BookingID: id, RoomID: after.Room, Slot: after.Slot})
}

// Findings lists all findings by position, including those that only show at the present end of the log. A command that is still running
// then shows as a finding.
func (a *Audit) Findings() []Finding {
	soFar := a.findings
	defer func() { a.findings = soFar }()
	a.findings = slices.Clone(soFar)
	for _, room := range slices.Sorted(maps.Keys(a.calendars)) {
		for r := range a.calendars[room].All {
			if b := a.bookings[r.BookingID]; !r.Used && (!b.BackedBy(r.ReservationID) || b.Room != room) {
				a.found(r.BookingID, room, "reservation %s is held at the end and does not back its booking (%s)", r.ReservationID, phase(b))
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(a.live)) {
		for r := range a.live[room].All {
			if a.calendars[room].Held(r.BookingID, r.ReservationID) == nil {
				a.found(r.BookingID, room, "it is live at the end and its reservation %s is not held", r.ReservationID)
			}
			if _, cancels := a.calendars[room].About().Cancels(r.Slot); cancels && a.bookings[r.BookingID].Use == nil {
				a.found(r.BookingID, room, "it is live at the end, for %s, when the room is closed and bookings are cancelled", r.Slot)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.bookings)) {
		b := a.bookings[id]
		if b.Phase() != domain.PhaseInUse {
			continue
		}
		switch a.uses[b.Use.RealUse].Phase() {
		case domain.UsePhaseNone:
			a.found(id, b.Room, "it is in use at the end and real use %s has not started", b.Use.RealUse)
		case domain.UsePhaseEnded:
			a.found(id, b.Room, "it is live at the end and real use %s has ended", b.Use.RealUse)
		}
	}
	for i := len(soFar); i < len(a.findings); i++ {
		a.findings[i].AtEnd = true
	}
	slices.SortStableFunc(a.findings, func(x, y Finding) int { return cmp.Compare(x.Position, y.Position) })
	return a.findings
}

// Snapshots lists the calendars' snapshots that do not say what the calendars' streams say: with the events after it, each has to make the
// calendar that all events make. For those events it reads the streams.
func (a *Audit) Snapshots(ctx context.Context, store Store) ([]Finding, error) {
	var findings []Finding
	for _, room := range slices.Sorted(maps.Keys(a.snapshots)) {
		r := a.snapshots[room]
		s := r.Event.(domain.CalendarSnapshot)
		if s.Foreign() {
			continue
		}
		found := func(detail string) {
			findings = append(findings, Finding{Position: r.Position, Room: room, Detail: fmt.Sprintf("snapshot of its calendar at revision %d in %s: %s; delete that stream", s.Revision, r.Stream, detail)})
		}
		c, ok := s.Calendar(room)
		if !ok {
			found("it is damaged, and ignored")
			continue
		}
		whole := a.calendars[room]
		c, fits, err := (&snapshots{store: store}).goOn(ctx, c, s.EventID, whole.Revision())
		switch {
		case err != nil:
			return nil, err
		case !fits:
			found("it is of another log, and ignored")
		case !sameSince(c, whole):
			found("it does not hold what the calendar held")
		}
	}
	return findings, nil
}

// sameSince reports whether a calendar that may have forgotten something has nothing that the whole one does not have, and all that it says
// it has.
func sameSince(short, whole domain.Calendar) bool {
	for r := range short.All {
		if held := whole.Held(r.BookingID, r.ReservationID); held == nil || *held != *r {
			return false
		}
	}
	for r := range whole.All {
		if r.Slot.End.After(short.Since()) && short.Held(r.BookingID, r.ReservationID) == nil {
			return false
		}
	}
	return short.About().Same(whole.About())
}

func phase(b domain.Booking) domain.Phase {
	return cmp.Or(b.Phase(), "not created")
}

func (a *Audit) found(id domain.BookingID, room domain.RoomID, format string, args ...any) {
	a.findings = append(a.findings, Finding{Position: a.last, Booking: id, Room: room, Detail: fmt.Sprintf(format, args...)})
}
