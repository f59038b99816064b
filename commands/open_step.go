package commands

import (
	"context"
	"slices"
	"strings"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// openSteps folds the log into the steps of commands that have been decided but not done yet. It keeps nothing but what is open.
// Goroutines must not share it.
//
// A step is opened by the event that decides it and closed by the event that does it:
//
//	SlotReserved      opens "it backs the booking", closed by the BookingCreated, BookingChanged or SlotReleased that names it
//	BookingChanged    opens "the former reservation is released", closed by its SlotReleased
//	BookingCancelled  opens "the reservation is released", closed by its SlotReleased or, after a use, SlotUsed
//	BookingCheckedIn  opens "the use starts", closed by UseStarted
//	UseEnded          opens "the booking is cancelled", closed by BookingCancelled
//	PeriodClosed      opens "the bookings in it are cancelled" of the room, if they are to be, closed by PeriodReopened
//	RoomRetired       likewise, closed by RoomReinstated and the next RoomRetired
//
// That all bookings of a closed period are cancelled is said by no event. So the step of a room stays open until it has been settled once.
//
// An event that this version cannot decode may be any of these. The checkpoint stays before it, so that a version that can decode it will
// fold it, until its booking is cancelled. If an operator releases a booking with such an event, a step may stay open although it is done:
// hence settling a booking closes all steps that were open when it began.
type openSteps struct {
	bookings  map[subject]*openBooking
	undecoded map[string]eventstore.Position // by stream: a position before its first event that cannot be decoded
	last      eventstore.Position            // of the last event that was folded
	now       time.Time                      // of the event that is being folded
	at        eventstore.Position            // of the event that is being folded
	changes   int                            // events folded and bookings settled so far
}

// subject is what can be settled: a booking, or the closures and the retirement of a room.
type subject struct {
	booking domain.BookingID
	room    domain.RoomID // empty for a booking
}

func (s subject) String() string {
	if s.room != "" {
		return "room " + string(s.room)
	}
	return "booking " + string(s.booking)
}

// openBooking is a booking, or a room, with open steps.
type openBooking struct {
	id    subject
	steps map[openStep]opened
}

// openStep is a step that a booking or a room waits for.
type openStep struct {
	kind stepKind
	of   string // the reservation of stepStand and stepRelease, the closure of stepClear, which is empty for a retirement
}

type stepKind string

const (
	stepStand   stepKind = "stand"
	stepRelease stepKind = "release"
	stepStart   stepKind = "start use"
	stepOver    stepKind = "use over"
	stepClear   stepKind = "cancel bookings"
)

// opened is how a step was opened.
type opened struct {
	// after is a position before the event that opened it: folding the log from there opens it again.
	after eventstore.Position
	at    eventstore.Position // of the event that opened it
	since time.Time           // when that occurred
	// room, start and replaces are those of a reservation that does not back its booking yet; room and start also those of a closed period.
	room     domain.RoomID
	start    time.Time
	replaces domain.ReservationID
}

func newOpenSteps(after eventstore.Position) *openSteps {
	return &openSteps{bookings: make(map[subject]*openBooking), undecoded: make(map[string]eventstore.Position), last: after}
}

// catchUp folds the log up to its present end.
func (o *openSteps) catchUp(ctx context.Context, log Log) error {
	return toEnd(ctx, log, o.last, Streams(), o.addAll)
}

// addAll folds the next events of the log.
func (o *openSteps) addAll(batch eventstore.Batch) {
	for _, r := range batch.Events {
		o.add(r)
	}
}

// add folds the next event of the log, of whatever stream.
func (o *openSteps) add(r eventstore.Recorded) {
	o.now = r.Metadata.OccurredAt
	o.at = r.Position
	o.changes++
	if readable(r) != nil {
		if _, known := o.undecoded[r.Stream]; !known {
			o.undecoded[r.Stream] = o.last
		}
	}
	switch e := r.Event.(type) {
	case domain.SlotReserved:
		o.open(e.BookingID, openStep{stepStand, string(e.ReservationID)}, opened{room: e.RoomID, start: e.Slot.Start, replaces: e.Replaces})
	case domain.SlotReleased:
		o.released(e.BookingID, e.ReservationID)
	case domain.SlotUsed:
		o.released(e.BookingID, e.ReservationID)
	case domain.BookingCreated:
		o.close(e.BookingID, openStep{stepStand, string(e.ReservationID)})
	case domain.BookingChanged:
		if how, ok := o.close(e.BookingID, openStep{stepStand, string(e.ReservationID)}); ok {
			// Only the reservation says what it replaced, so folding has to begin before that.
			o.openSince(subject{booking: e.BookingID}, openStep{stepRelease, string(how.replaces)}, opened{after: how.after, since: how.since})
		}
	case domain.BookingCancelled:
		delete(o.undecoded, r.Stream)
		delete(o.undecoded, domain.RealUseOf(e.BookingID).Stream())
		o.close(e.BookingID, openStep{kind: stepOver})
		if e.ReservationID != "" { // otherwise it is not known; if it was seen, its own step is open
			o.open(e.BookingID, openStep{stepRelease, string(e.ReservationID)}, opened{})
		}
	case domain.BookingCheckedIn:
		o.open(e.BookingID, openStep{kind: stepStart}, opened{})
	case domain.UseStarted:
		o.close(e.BookingID, openStep{kind: stepStart})
	case domain.UseEnded:
		o.open(e.BookingID, openStep{kind: stepOver}, opened{})
	case domain.PeriodClosed:
		if e.Bookings == domain.CancelBookings {
			o.openSince(subject{room: e.RoomID}, openStep{stepClear, string(e.ClosureID)}, opened{after: o.last, since: o.now, room: e.RoomID, start: e.Slot.Start})
		}
	case domain.PeriodReopened:
		o.closeOf(subject{room: e.RoomID}, openStep{stepClear, string(e.ClosureID)})
	case domain.RoomRetired:
		o.closeOf(subject{room: e.RoomID}, openStep{kind: stepClear})
		if e.Bookings == domain.CancelBookings {
			o.openSince(subject{room: e.RoomID}, openStep{kind: stepClear}, opened{after: o.last, since: o.now, room: e.RoomID, start: e.From})
		}
	case domain.RoomReinstated:
		o.closeOf(subject{room: e.RoomID}, openStep{kind: stepClear})
	}
	o.last = r.Position
}

// open opens a step that is decided by the event being folded.
func (o *openSteps) open(id domain.BookingID, s openStep, how opened) {
	how.after, how.since = o.last, o.now
	o.openSince(subject{booking: id}, s, how)
}

func (o *openSteps) openSince(id subject, s openStep, how opened) {
	b := o.bookings[id]
	if b == nil {
		b = &openBooking{id: id, steps: make(map[openStep]opened, 1)}
		o.bookings[id] = b
	}
	how.at = o.at
	b.steps[s] = how
}

// settled closes the steps that were opened up to a position, because they have been settled since.
func (o *openSteps) settled(id subject, upTo eventstore.Position) {
	b := o.bookings[id]
	if b == nil {
		return
	}
	for s, how := range b.steps {
		if how.at <= upTo {
			o.closeOf(id, s)
		}
	}
	o.changes++
}

func (o *openSteps) close(id domain.BookingID, s openStep) (how opened, wasOpen bool) {
	return o.closeOf(subject{booking: id}, s)
}

func (o *openSteps) closeOf(id subject, s openStep) (how opened, wasOpen bool) {
	b := o.bookings[id]
	if b == nil {
		return opened{}, false
	}
	how, wasOpen = b.steps[s]
	delete(b.steps, s)
	if len(b.steps) == 0 {
		delete(o.bookings, id)
	}
	return how, wasOpen
}

// released closes the steps that a release of the reservation does, or makes pointless.
func (o *openSteps) released(id domain.BookingID, reservation domain.ReservationID) {
	o.close(id, openStep{stepStand, string(reservation)})
	o.close(id, openStep{stepRelease, string(reservation)})
}

// checkpoint is the position from which the log has to be folded again to find the steps that are open now.
func (o *openSteps) checkpoint() eventstore.Position {
	p := o.last
	for _, before := range o.undecoded {
		p = min(p, before)
	}
	for _, b := range o.bookings {
		for _, how := range b.steps {
			p = min(p, how.after)
		}
	}
	return p
}

// places lists where the booking has a reservation that does not back it yet, or the periods in which the room is closed.
func (b *openBooking) places() (places []place) {
	for _, how := range b.steps {
		if how.room != "" {
			places = append(places, place{how.room, how.start})
		}
	}
	return places
}

// since is when the oldest open step was decided.
func (b *openBooking) since() time.Time {
	var oldest time.Time
	for _, how := range b.steps {
		if oldest.IsZero() || how.since.Before(oldest) {
			oldest = how.since
		}
	}
	return oldest
}

// names describes the open steps, in a fixed order.
func (b *openBooking) names() []string {
	var names []string
	for s := range b.steps {
		names = append(names, strings.TrimSpace(string(s.kind)+" "+s.of))
	}
	slices.Sort(names)
	return names
}
