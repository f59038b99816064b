package web

import (
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"time"

	"roombook/commands"
	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) doorRoutes() []Route {
	return []Route{
		// The display beside a room's door.
		{"GET", DoorPath, false, p.door},
		// The buttons of it.
		{"POST", DoorPath, false, p.actAtDoor},
	}
}

// DoorPath is the path of the display beside a room's door.
const DoorPath = "/rooms/{id}/door"

// Pair is what the display shows to a visitor who is not signed in, until somebody has typed its code in.
func (p *Pages) Pair() Route { return Route{"GET", DoorPath, true, p.pair} }

// pairPage is the data of a display that is to be paired.
type pairPage struct {
	Room domain.RoomID
	Code string
}

func (p *Pages) pair(v *view) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	// While the names of rooms cannot be read the id has to do.
	_, _ = v.readRooms()
	code, err := v.visitor.Session.ShowCode(id)
	if err != nil {
		return err
	}
	return v.show("pair", v.T("title.pair"), &pairPage{id, code})
}

// doorPage is the data of a door display.
type doorPage struct {
	presence
	ID       domain.RoomID
	Name     string
	Zone     *time.Location
	Soon     *projections.BookingList // one that may start although its time has not come; nil if there is none
	Lengths  []int                    // minutes for which it can be booked from now on
	ToNext   int                      // minutes to the next booking, if it can be booked until then
	QR       template.HTML
	Faults   []string // what is broken
	Whole    []string // the equipment of which that is not known
	Reports  bool     // whether a fault can be reported
	Problem  *problem
	CanStart bool
	CanEnd   bool
	Longer   bool // whether the room is free after the booking of the present
	EInk     bool // for a display that draws slowly, in black and white
}

// presence is the current state of a room.
type presence struct {
	State  string                   // free, waiting, confirmed, in-use or closed
	Until  time.Time                // when that ends, at the latest at the end of the day
	Now    *projections.BookingList // the booking of the present; nil if there is none
	Reason string                   // why it is closed
	Later  []projections.BookingList
	next   time.Time // when it is not free, after the present; zero if it is free for the rest of the day
	since  time.Time // when the last booking before the present ended; zero if there was none
}

// readPresence reads the current state of a room.
func (v *view) readPresence(id domain.RoomID) (presence, error) {
	day := dayFrom(v.Now.In(v.zoneOf(id)))
	o, err := v.p.lists.Occupancy(v.r.Context(), projections.OccupancyQuery{From: day.Start, To: midnight(day.Start, 2), Rooms: []domain.RoomID{id}, MinPosition: v.seen()})
	if err != nil {
		return presence{}, err
	}
	v.Position = min(v.roomsAt, o.Position)
	return v.presence(&o.Rooms[0]), nil
}

// presence is the current state of a room, and what follows on the same day.
func (v *view) presence(o *projections.RoomOccupancy) presence {
	now := v.Now.In(o.Zone)
	day := dayFrom(now)
	p := presence{State: "free", Until: day.End}
	for _, s := range o.Spans {
		present, comes := !s.Slot.Start.After(now) && s.Slot.End.After(now), s.Slot.Start.After(now) && s.Slot.Start.Before(day.End)
		if comes && p.next.IsZero() && (p.Now == nil || s.Kind != projections.SpanGap) {
			p.next = s.Slot.Start
		}
		switch {
		case s.Kind == projections.SpanBooking && !s.Slot.End.After(now):
			p.since = later(p.since, s.Slot.End)
		case s.Kind == projections.SpanBooking && present && p.Now == nil:
			p.Now = s.Booking
			p.State, p.Until = StateClass(p.Now.Status), p.Now.End
		case s.Kind == projections.SpanBooking && comes:
			p.Later = append(p.Later, *s.Booking)
		case s.Kind == projections.SpanBooking || s.Kind == projections.SpanGap:
		case present && p.State == "free":
			p.State, p.Until = "closed", s.Slot.End
			p.Reason = v.T("cell." + string(s.Kind))
			if s.Closure != nil && s.Closure.Reason != "" {
				p.Reason = s.Closure.Reason
			}
		}
	}
	if p.State == "free" && !p.next.IsZero() {
		p.Until = p.next
	}
	return p
}

// doorLengths are the minutes for which a room can be booked at its door.
var doorLengths = []int{15, 30, 45, 60}

const (
	eInkSeconds = 60  // after which a display of electronic paper is drawn anew
	doorLonger  = 15  // minutes by which a booking is extended at the door
	maxToNext   = 240 // minutes until the next booking for which the room can be booked at the door
)

// soonMinutes is how long before its time the start of a booking is offered, unless the rules of its room say otherwise.
const soonMinutes = 15

func (p *Pages) door(v *view) error { return v.showDoor(nil) }

func (v *view) showDoor(why *problem) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	rooms, err := v.readRooms()
	if err != nil {
		return err
	}
	data := &doorPage{ID: id, Name: v.RoomName(id), Zone: v.zoneOf(id), Problem: why, EInk: v.r.URL.Query().Get("display") == "e-ink"}
	if data.presence, err = v.readPresence(id); err != nil {
		return err
	}
	if data.EInk {
		v.w.Header().Set("Refresh", strconv.Itoa(eInkSeconds)) // it has no scripts
	}
	var rules domain.Rules
	if r := rooms[id]; r != nil && r.Rules != nil {
		rules = *r.Rules
	}
	switch b := data.Now; {
	case b != nil:
		data.CanEnd = b.Status == projections.StatusInUse
		data.CanStart = b.Status == projections.StatusBooked || b.Status == projections.StatusConfirmed
		data.Longer = v.actor.May(domain.ChangeBooked, v.actor.To(b.User, id)) == nil &&
			(data.next.IsZero() || !b.End.Add(time.Duration(doorLonger+rules.GapMinutes)*time.Minute).After(data.next))
	case data.State == "free" && v.actor.May(domain.Book, v.actor.To(cmp.Or(v.Reader, doorUser), id)) == nil:
		allowed := func(minutes int) bool {
			return minutes >= max(1, rules.ShortestMinutes) && (rules.LongestMinutes == 0 || minutes <= rules.LongestMinutes) && !v.doorSlot(rooms[id], data.presence, minutes).End.After(data.Until)
		}
		for _, minutes := range doorLengths {
			if allowed(minutes) {
				data.Lengths = append(data.Lengths, minutes)
			}
		}
		if to := int(data.next.Sub(v.doorSlot(rooms[id], data.presence, 0).Start) / time.Minute); to <= maxToNext && allowed(to) && !slices.Contains(data.Lengths, to) {
			data.ToNext = to
		}
	}
	if data.Now == nil && len(data.Later) > 0 {
		if b := &data.Later[0]; b.Status != projections.StatusInUse && v.mayStart(v.Slot(b.Start, b.End), id) {
			data.Soon = b
		}
	}
	data.Later = data.Later[:min(3, len(data.Later))]
	if r := rooms[id]; r != nil {
		data.Faults, data.Whole = v.faults(r)
		data.Reports = v.actor.May(domain.ReportFault, v.actor.To("", id)) == nil
	}
	if data.QR, err = qrCode(v.Address("/rooms/" + string(id) + "/page")); err != nil {
		return err
	}
	return v.show("door", data.Name, data)
}

// Until is when the state of a door ends: a time of the day, or the day's end.
func (v *view) Until(t time.Time, zone *time.Location) string {
	if t = t.In(zone); t.Equal(dayFrom(v.Now.In(zone)).End) {
		return v.endOfDay()
	}
	if !t.Before(dayFrom(v.Now.In(zone)).End) {
		return v.ShortDate(t) + " " + v.Clock(t)
	}
	return v.Clock(t)
}

// doorSlot is the time that is booked at the door: from now, or the step of the room's rules before, for some minutes. If the room was in use
// then, it is from the step after.
func (v *view) doorSlot(r *projections.RoomList, p presence, minutes int) domain.Slot {
	step := time.Minute
	zone := v.p.zone
	if r != nil {
		zone = v.zoneOf(r.Room)
		if r.Rules != nil && r.Rules.StepMinutes > 0 {
			step = time.Duration(r.Rules.StepMinutes) * time.Minute
		}
	}
	now := v.Now.In(zone)
	wall := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	start := now.Truncate(time.Minute).Add(-(wall % step))
	if start.Before(p.since) {
		start = start.Add(step)
	}
	return domain.Slot{Start: start, End: start.Add(time.Duration(minutes) * time.Minute)}
}

// mayStart reports whether it is time to start the use of a booking: by the rules of its room, at least as early as the door offers it.
func (v *view) mayStart(s domain.Slot, room domain.RoomID) bool {
	early := soonMinutes
	if r := v.rooms[room]; r != nil && r.Rules != nil && r.Rules.EarlyUseMinutes != nil {
		early = *r.Rules.EarlyUseMinutes
	}
	return !s.Start.After(v.Now.Add(time.Duration(early)*time.Minute)) && s.End.After(v.Now)
}

// doorUser is the user of bookings that are made at a door without a name.
const doorUser domain.UserID = "door"

var errNumber = errors.New("not a number that is offered")

func (p *Pages) actAtDoor(v *view) error {
	id, err := v.roomID()
	if err != nil {
		return err
	}
	rooms, err := v.readRooms()
	if err != nil {
		return err
	}
	path := "/rooms/" + string(id) + "/door"
	if v.r.URL.RawQuery != "" {
		path += "?" + v.r.URL.RawQuery // what kind of display it is
	}
	if v.Reader == "" {
		v.Reader = doorUser
	}
	do := v.r.PostFormValue("do")
	if do == "book" {
		minutes, ok := number(v.r.PostFormValue("minutes"))
		if !ok || minutes == 0 || minutes > 24*60 {
			return errNumber
		}
		request, err := v.request()
		if err != nil {
			return err
		}
		present, err := v.readPresence(id)
		if err != nil {
			return err
		}
		b, err := p.commands.CreateBooking(v.r.Context(), commands.CreateBooking{Request: request, Room: id, User: v.Reader, Slot: v.doorSlot(rooms[id], present, minutes)})
		if err != nil {
			return v.refusedAtDoor(err)
		}
		return v.done(b.Position, path, "")
	}
	if do == "fault" {
		f, err := v.reportFault(id)
		if err != nil {
			return v.refusedAtDoor(err)
		}
		return v.done(f.Position, path, "")
	}
	booking := v.r.PostFormValue("booking")
	if !validID(booking) || do != actStart && do != actEnd && extensions[do] == 0 {
		return errForm
	}
	e, err := v.act(domain.BookingID(booking), do)
	if err != nil {
		return v.refusedAtDoor(err)
	}
	return v.done(e.position, path, "")
}

// refusedAtDoor shows the display with why a command was refused.
func (v *view) refusedAtDoor(err error) error {
	p := v.problemOf(err)
	if p.status >= http.StatusInternalServerError {
		return err
	}
	v.status = p.status
	return v.showDoor(&p)
}
