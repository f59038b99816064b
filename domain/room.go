package domain

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The events of a room, in its calendar stream. They are stored forever. A room that has none of them can be booked all the same, unless
// only registered rooms can.
type (
	// RoomRegistered says that the room exists, and what is known of it.
	RoomRegistered struct {
		RoomID  RoomID    `json:"roomId"`
		Details Details   `json:"details"`
		At      time.Time `json:"at"`
	}

	// RoomChanged says all that is known of the room from now on.
	RoomChanged struct {
		RoomID  RoomID    `json:"roomId"`
		Details Details   `json:"details"`
		At      time.Time `json:"at"`
	}

	// RoomRetired says that the room cannot be booked for any time after From, and what becomes of the bookings that end after it.
	RoomRetired struct {
		RoomID   RoomID           `json:"roomId"`
		From     time.Time        `json:"from"`
		Bookings AffectedBookings `json:"bookings"`
		At       time.Time        `json:"at"`
	}

	// RoomReinstated says that the room is not retired any more.
	RoomReinstated struct {
		RoomID RoomID    `json:"roomId"`
		At     time.Time `json:"at"`
	}

	// RulesSet says the rules of the room from now on, all of them. Existing bookings stay as they are.
	RulesSet struct {
		RoomID RoomID    `json:"roomId"`
		Rules  Rules     `json:"rules"`
		At     time.Time `json:"at"`
	}

	// PeriodClosed says that the room cannot be booked for any part of the slot, and what becomes of the bookings that overlap it.
	PeriodClosed struct {
		ClosureID ClosureID        `json:"closureId"`
		RoomID    RoomID           `json:"roomId"`
		Slot      Slot             `json:"slot"`
		Reason    string           `json:"reason,omitempty"`
		Bookings  AffectedBookings `json:"bookings"`
		At        time.Time        `json:"at"`
	}

	// PeriodReopened says that the closure is over.
	PeriodReopened struct {
		ClosureID ClosureID `json:"closureId"`
		RoomID    RoomID    `json:"roomId"`
		At        time.Time `json:"at"`
	}
)

func (RoomRegistered) EventType() string { return "RoomRegistered" }
func (RoomChanged) EventType() string    { return "RoomChanged" }
func (RoomRetired) EventType() string    { return "RoomRetired" }
func (RoomReinstated) EventType() string { return "RoomReinstated" }
func (RulesSet) EventType() string       { return "RulesSet" }
func (PeriodClosed) EventType() string   { return "PeriodClosed" }
func (PeriodReopened) EventType() string { return "PeriodReopened" }

// RoomOf returns the room of an event that is one of a room itself, and whether the event is.
func RoomOf(event Event) (RoomID, bool) {
	switch e := event.(type) {
	case RoomRegistered:
		return e.RoomID, true
	case RoomChanged:
		return e.RoomID, true
	case RoomRetired:
		return e.RoomID, true
	case RoomReinstated:
		return e.RoomID, true
	case RulesSet:
		return e.RoomID, true
	case PeriodClosed:
		return e.RoomID, true
	case PeriodReopened:
		return e.RoomID, true
	case RoomPhotoChanged:
		return e.RoomID, true
	}
	return "", false
}

// ClosureID names a closed period of a room; the text form of a UUID.
type ClosureID string

// AffectedBookings says what becomes of the live bookings in a period that is closed.
type AffectedBookings string

const (
	KeepBookings   AffectedBookings = "keep"
	CancelBookings AffectedBookings = "cancel"
)

// Details is what is known of a registered room. Texts are Unicode in normalization form C.
type Details struct {
	Name      string   `json:"name"`
	Building  string   `json:"building,omitempty"`
	Floor     string   `json:"floor,omitempty"`
	Capacity  int      `json:"capacity,omitempty"` // persons; 0 is not known
	Equipment []string `json:"equipment,omitempty"`
	Zone      string   `json:"zone,omitempty"`   // IANA name of the time zone; empty is the program's
	Colour    string   `json:"colour,omitempty"` // #rrggbb
	Note      string   `json:"note,omitempty"`
	Approvers []UserID `json:"approvers,omitempty"`
}

// Bounds of what is known of a room. Texts are counted in characters.
const (
	maxName     = 200
	maxNote     = 2000
	maxList     = 100 // of equipment, and of approvers
	maxCapacity = 100_000
)

var colour = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)

// Normal returns the details with their texts in normalization form C and without space around them, and everything that is wrong with them.
func (d Details) Normal() (Details, []Fault) {
	var faults []Fault
	text := func(field Field, text string, most int, lines bool) string {
		text, fault := normalText(text, most, lines)
		if fault != "" {
			faults = append(faults, Fault{field, fault})
		}
		return text
	}
	d.Name = text("name", d.Name, maxName, false)
	if d.Name == "" {
		faults = append(faults, Fault{"name", "must not be empty"})
	}
	d.Building = text("building", d.Building, maxName, false)
	d.Floor = text("floor", d.Floor, maxName, false)
	if d.Capacity < 0 || d.Capacity > maxCapacity {
		faults = append(faults, Fault{"capacity", fmt.Sprintf("must be from 0, which is unknown, to %d", maxCapacity)})
	}
	var equipment []string
	for i, what := range d.Equipment {
		field := Field(fmt.Sprint("equipment/", i))
		what = text(field, what, maxName, false)
		switch {
		case what == "":
			faults = append(faults, Fault{field, "must not be empty"})
		case slices.Contains(equipment, what):
			faults = append(faults, Fault{field, "is there twice"})
		}
		equipment = append(equipment, what)
	}
	d.Equipment = equipment
	if _, err := time.LoadLocation(d.Zone); err != nil || d.Zone == "Local" {
		faults = append(faults, Fault{"zone", "must be the IANA name of a time zone, such as Europe/Berlin"})
	}
	if d.Colour != "" && !colour.MatchString(d.Colour) {
		faults = append(faults, Fault{"colour", "must be # and six hexadecimal digits"})
	}
	d.Note = text("note", d.Note, maxNote, true)
	for i, user := range d.Approvers {
		field := Field(fmt.Sprint("approvers/", i))
		switch {
		case user == "":
			faults = append(faults, Fault{field, "must not be empty"})
		case slices.Contains(d.Approvers[:i], user):
			faults = append(faults, Fault{field, "is there twice"})
		}
	}
	for _, list := range []struct {
		field Field
		n     int
	}{{"equipment", len(d.Equipment)}, {"approvers", len(d.Approvers)}} {
		if list.n > maxList {
			faults = append(faults, Fault{list.field, fmt.Sprintf("may have at most %d entries", maxList)})
		}
	}
	d.Approvers = append([]UserID(nil), d.Approvers...)
	return d, faults
}

// normalText returns the text in normalization form C and without space around it, and what is wrong with it, if anything.
func normalText(text string, most int, lines bool) (normal, fault string) {
	normal = strings.TrimSpace(norm.NFC.String(text))
	switch {
	case !utf8.ValidString(text):
		return normal, "must be valid UTF-8"
	case utf8.RuneCountInString(normal) > most:
		return normal, fmt.Sprintf("may have at most %d characters", most)
	case strings.ContainsFunc(normal, func(r rune) bool { return unicode.IsControl(r) && !(lines && r == '\n') }):
		return normal, "must have no control characters"
	}
	return normal, ""
}

// Room is the state of a room apart from its reservations. The zero value, but for Revision, is a room that is not registered. A Room is a
// value, as a [Booking] is.
type Room struct {
	ID         RoomID      `json:"roomId"` // empty if it is not registered
	Details    Details     `json:"details"`
	Rules      Rules       `json:"rules,omitzero"`
	Photo      Photo       `json:"photo,omitzero"`
	Retirement *Retirement `json:"retirement,omitempty"` // nil while it is not retired
	Closures   []Closure   `json:"closures,omitempty"`   // those that are not reopened, by start
	// Since is when the last closure ended that Closures leaves out because it ended long ago; zero if none is left out.
	Since time.Time `json:"since,omitzero"`
	// Revision is that of the last event of the room itself, or -1. Bookings do not change it.
	Revision Revision `json:"revision"`

	zone *time.Location // of Details; nil is the program's
}

// Retirement is how a room was retired.
type Retirement struct {
	From     time.Time        `json:"from"`
	Bookings AffectedBookings `json:"bookings"`
	At       time.Time        `json:"at"`
	Revision Revision         `json:"revision"` // of its RoomRetired
}

// Closure is a period in which a room is closed.
type Closure struct {
	ID       ClosureID        `json:"closureId"`
	Slot     Slot             `json:"slot"`
	Reason   string           `json:"reason,omitempty"`
	Bookings AffectedBookings `json:"bookings"`
	At       time.Time        `json:"at"`
	Revision Revision         `json:"revision"` // of its PeriodClosed
}

// Evolve folds an event of the calendar's stream, at its revision. Those that are not of the room itself change nothing.
func (r Room) Evolve(revision Revision, event Event) Room {
	switch e := event.(type) {
	case RoomRegistered:
		r.ID, r.Details = e.RoomID, e.Details
		r.zone = r.location()
	case RoomChanged:
		r.ID, r.Details = e.RoomID, e.Details
		r.zone = r.location()
	case RoomRetired:
		r.ID = e.RoomID
		r.Retirement = &Retirement{From: instant(e.From), Bookings: e.Bookings, At: instant(e.At), Revision: revision}
	case RoomReinstated:
		r.ID, r.Retirement = e.RoomID, nil
	case RulesSet:
		r.ID, r.Rules = e.RoomID, e.Rules
	case PeriodClosed:
		r.ID = e.RoomID
		closure := Closure{ID: e.ClosureID, Slot: Slot{instant(e.Slot.Start), instant(e.Slot.End)}, Reason: e.Reason, Bookings: e.Bookings, At: instant(e.At), Revision: revision}
		r.Closures = append(slices.Clone(r.Closures), closure)
		slices.SortStableFunc(r.Closures, func(a, b Closure) int { return a.Slot.Start.Compare(b.Slot.Start) })
	case PeriodReopened:
		r.ID = e.RoomID
		r.Closures = slices.DeleteFunc(slices.Clone(r.Closures), func(c Closure) bool { return c.ID == e.ClosureID })
	case RoomPhotoChanged:
		r.ID, r.Photo = e.RoomID, e.Photo
	default:
		return r
	}
	r.Revision = revision
	return r
}

// instant is the time in UTC, as it is read from where it was stored.
func instant(t time.Time) time.Time { return t.Round(0).UTC() }

// location is the room's own time zone, or nil if it has none, or one that this machine does not know.
func (r Room) location() *time.Location {
	if r.Details.Zone == "" {
		return nil
	}
	zone, err := time.LoadLocation(r.Details.Zone)
	if err != nil {
		return nil
	}
	return zone
}

// in is the time zone of the room, given the program's, of which nil is UTC.
func (r Room) in(zone *time.Location) *time.Location { return cmp.Or(r.zone, zone, time.UTC) }

// CompleteFrom reports whether the room has all closures that end after the given time.
func (r Room) CompleteFrom(t time.Time) bool { return !t.Before(r.Since) }

// forget returns the room without the closures that ended by the given time.
func (r Room) forget(ended time.Time) Room {
	open := slices.DeleteFunc(slices.Clone(r.Closures), func(c Closure) bool { return !c.Slot.End.After(ended) })
	for _, c := range r.Closures {
		if !c.Slot.End.After(ended) && c.Slot.End.After(r.Since) {
			r.Since = c.Slot.End
		}
	}
	r.Closures = open
	return r
}

// closed lists the closures that overlap the slot.
func (r Room) closed(s Slot) (by []Closure) {
	for _, c := range r.Closures {
		if c.Slot.Overlaps(s) {
			by = append(by, c)
		}
	}
	return by
}

// retired reports whether the slot is not over when the room is retired.
func (r Room) retired(s Slot) bool { return r.Retirement != nil && s.End.After(r.Retirement.From) }

// Cancels is the revision of the event of the room because of which a booking of the slot is to be cancelled, unless its use has started.
func (r Room) Cancels(s Slot) (because Revision, cancels bool) {
	if r.retired(s) && r.Retirement.Bookings == CancelBookings {
		return r.Retirement.Revision, true
	}
	for _, c := range r.Closures {
		if c.Bookings == CancelBookings && c.Slot.Overlaps(s) {
			return c.Revision, true
		}
	}
	return 0, false
}

// CancelsAny reports whether there are slots for which bookings are to be cancelled, see [Room.Cancels].
func (r Room) CancelsAny() bool {
	return r.Retirement != nil && r.Retirement.Bookings == CancelBookings ||
		slices.ContainsFunc(r.Closures, func(c Closure) bool { return c.Bookings == CancelBookings })
}

// text says all of the room, the same for the same room.
func (r Room) text() string {
	if r.ID == "" {
		return ""
	}
	hours, early, retirement := WeekHours{}, -1, Retirement{}
	if r.Rules.Hours != nil {
		hours = *r.Rules.Hours
	}
	if r.Rules.EarlyUseMinutes != nil {
		early = *r.Rules.EarlyUseMinutes
	}
	if r.Retirement != nil {
		retirement = *r.Retirement
	}
	rules := r.Rules
	always := rules.Hours == nil
	rules.Hours, rules.EarlyUseMinutes = nil, nil
	return fmt.Sprintf("%q %#v %+v %t %+v %d %#v %+v %+v %s %d", r.ID, r.Details, rules, always, hours, early, r.Photo, retirement, r.Closures, instant(r.Since), r.Revision)
}

// Same reports whether two rooms are the same in all but the closures that one of them has left out.
func (r Room) Same(o Room) bool {
	ended := latest(r.Since, o.Since)
	r, o = r.forget(ended), o.forget(ended)
	r.Since, o.Since = ended, ended
	return r.text() == o.text()
}

// bytes is about how much memory the room takes.
func (r Room) bytes() int {
	d := r.Details
	n := 800 + len(r.ID) + len(r.Photo.Alt) + len(d.Name) + len(d.Building) + len(d.Floor) + len(d.Zone) + len(d.Colour) + len(d.Note)
	for _, what := range d.Equipment {
		n += 16 + len(what)
	}
	for _, user := range d.Approvers {
		n += 16 + len(user)
	}
	if r.Rules.Hours != nil {
		for day := range time.Saturday + 1 {
			n += 24 + 48*len(r.Rules.Hours.on(day))
		}
	}
	for _, c := range r.Closures {
		n += 160 + len(c.ID) + len(c.Reason) + len(c.Bookings)
	}
	return n
}

// DecideRegister registers a room.
//
//	given it is not registered            then RoomRegistered
//	given it is, with these details       then nothing: a repeat
//	given it is, with other details       then *RoomExists
//	given details that cannot be          then *Invalid
func DecideRegister(r Room, id RoomID, d Details, at time.Time) ([]Event, error) {
	d, faults := d.Normal()
	switch {
	case faults != nil:
		return nil, &Invalid{faults}
	case r.ID == "":
		return []Event{RoomRegistered{RoomID: id, Details: d, At: at}}, nil
	case !d.equal(r.Details):
		return nil, &RoomExists{Room: id, Details: r.Details}
	}
	return nil, nil
}

func (d Details) equal(o Details) bool { return fmt.Sprintf("%#v", d) == fmt.Sprintf("%#v", o) }

// DecideChangeRoom changes what is known of a room.
//
//	given it has other details     then RoomChanged
//	given it has these             then nothing: a repeat
//	given details that cannot be   then *Invalid
//	given it is not registered     then ErrRoomNotFound
func DecideChangeRoom(r Room, d Details, at time.Time) ([]Event, error) {
	d, faults := d.Normal()
	switch {
	case r.ID == "":
		return nil, ErrRoomNotFound
	case faults != nil:
		return nil, &Invalid{faults}
	case d.equal(r.Details):
		return nil, nil
	}
	return []Event{RoomChanged{RoomID: r.ID, Details: d, At: at}}, nil
}

// DecideRetire retires a room from a time on; zero is now.
//
//	given it is not retired, or from another time, or with other bookings  then RoomRetired
//	given it is, from that time or from now                                then nothing: a repeat
//	given other words for what becomes of bookings                         then *Invalid
//	given it is not registered                                             then ErrRoomNotFound
func DecideRetire(r Room, from time.Time, bookings AffectedBookings, at time.Time) ([]Event, error) {
	bookings = cmp.Or(bookings, KeepBookings)
	already := r.Retirement != nil && r.Retirement.Bookings == bookings
	switch {
	case r.ID == "":
		return nil, ErrRoomNotFound
	case !bookings.known():
		return nil, &Invalid{[]Fault{{"bookings", affectedWords}}}
	case already && (from.Equal(r.Retirement.From) || from.IsZero() && !r.Retirement.From.After(at)):
		return nil, nil
	}
	if from.IsZero() {
		from = at
	}
	return []Event{RoomRetired{RoomID: r.ID, From: from, Bookings: bookings, At: at}}, nil
}

const affectedWords = "must be " + string(KeepBookings) + " or " + string(CancelBookings)

func (b AffectedBookings) known() bool { return b == KeepBookings || b == CancelBookings }

// DecideReinstate ends the retirement of a room.
//
//	given it is retired         then RoomReinstated
//	given it is not             then nothing: a repeat
//	given it is not registered  then ErrRoomNotFound
func DecideReinstate(r Room, at time.Time) ([]Event, error) {
	switch {
	case r.ID == "":
		return nil, ErrRoomNotFound
	case r.Retirement == nil:
		return nil, nil
	}
	return []Event{RoomReinstated{RoomID: r.ID, At: at}}, nil
}

// DecideSetRules sets the rules of a room.
//
//	given it has other rules     then RulesSet
//	given it has these           then nothing: a repeat
//	given rules that cannot be   then *Invalid
//	given it is not registered   then ErrRoomNotFound
func DecideSetRules(r Room, rules Rules, at time.Time) ([]Event, error) {
	same := r
	same.Rules = rules
	switch {
	case r.ID == "":
		return nil, ErrRoomNotFound
	case rules.Check() != nil:
		return nil, &Invalid{rules.Check()}
	case same.text() == r.text():
		return nil, nil
	}
	return []Event{RulesSet{RoomID: r.ID, Rules: rules, At: at}}, nil
}

// DecideClose closes a room for a period.
//
//	given no closure has the id                                           then PeriodClosed
//	given one has                                                         then nothing: a repeat
//	given an empty slot, other words for what becomes of bookings, or a
//	reason that is too long                                               then *Invalid
//	given it is not registered                                            then ErrRoomNotFound
func DecideClose(r Room, c PeriodClosed) ([]Event, error) {
	if r.ID == "" {
		return nil, ErrRoomNotFound
	}
	c.RoomID, c.Bookings = r.ID, cmp.Or(c.Bookings, KeepBookings)
	var faults []Fault
	if !c.Slot.Start.Before(c.Slot.End) {
		faults = append(faults, Fault{"slot/end", "must be after the start"})
	}
	reason, fault := normalText(c.Reason, maxName, false)
	if c.Reason = reason; fault != "" {
		faults = append(faults, Fault{"reason", fault})
	}
	if !c.Bookings.known() {
		faults = append(faults, Fault{"bookings", affectedWords})
	}
	switch {
	case faults != nil:
		return nil, &Invalid{faults}
	case slices.ContainsFunc(r.Closures, func(o Closure) bool { return o.ID == c.ClosureID }):
		return nil, nil
	}
	return []Event{c}, nil
}

// DecideReopen ends a closure.
//
//	given the closure            then PeriodReopened
//	given no such closure        then ErrClosureNotFound: it may have been reopened
//	given it is not registered   then ErrRoomNotFound
func DecideReopen(r Room, id ClosureID, at time.Time) ([]Event, error) {
	switch {
	case r.ID == "":
		return nil, ErrRoomNotFound
	case !slices.ContainsFunc(r.Closures, func(c Closure) bool { return c.ID == id }):
		return nil, ErrClosureNotFound
	}
	return []Event{PeriodReopened{ClosureID: id, RoomID: r.ID, At: at}}, nil
}
