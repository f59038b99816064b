package web

import (
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"time"

	"roombook/commands"
	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) doorRoutes() []Route {
	return []Route{
		// The display beside a room's door.
		{"GET", DoorPath, false, p.door},
		// What is tapped on it.
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
	code, err := v.visitor.Session.ShowCode(id)
	if err != nil {
		return err
	}
	return v.show("pair", v.T("title.pair"), &pairPage{id, code})
}

// doorPage is the data of a door display.
type doorPage struct {
	ID       domain.RoomID
	Name     string
	Zone     *time.Location
	Now      *projections.BookingList // the booking of the present; nil if the room is free
	State    string                   // free, waiting, confirmed, in-use or closed
	Until    time.Time                // when that ends
	Reason   string                   // why it is closed
	Next     []projections.BookingList
	Soon     *projections.BookingList // a booking that may start already
	Lengths  []int                    // minutes for which it can be booked from now on
	QR       template.HTML
	Problem  *problem
	CanStart bool
	CanEnd   bool
	CanAdd   bool // the booking of the present can be made longer
}

// doorLengths are the minutes for which a room can be booked at its door.
var doorLengths = []int{15, 30, 45, 60}

// soonMinutes is how long before its time a booking can be started at the door.
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
	data := &doorPage{ID: id, Name: v.RoomName(id), Zone: v.zoneOf(id), Problem: why}
	now := v.Now.In(data.Zone)
	day := dayFrom(now)
	o, err := v.p.lists.Occupancy(v.r.Context(), projections.OccupancyQuery{From: now, To: day.End, Rooms: []domain.RoomID{id}, MinPosition: v.seen()})
	if err != nil {
		return err
	}
	data.State, data.Until = "free", day.End
	for _, r := range o.Rooms {
		for _, s := range r.Spans {
			present := !s.Slot.Start.After(now) && s.Slot.End.After(now)
			switch {
			case s.Kind == projections.SpanBooking && present && data.Now == nil:
				data.Now = s.Booking
			case s.Kind == projections.SpanBooking && s.Slot.Start.After(now):
				data.Next = append(data.Next, *s.Booking)
				if s.Booking.Status != projections.StatusInUse && s.Slot.Start.Sub(now) <= soonMinutes*time.Minute && data.Soon == nil {
					data.Soon = s.Booking
				}
			case s.Kind == projections.SpanBooking || s.Kind == projections.SpanGap:
			case present && data.State == "free":
				data.State, data.Until = "closed", s.Slot.End
				data.Reason = v.T("cell." + string(s.Kind))
				if s.Closure != nil && s.Closure.Reason != "" {
					data.Reason = s.Closure.Reason
				}
			}
			if s.Slot.Start.After(now) && s.Slot.Start.Before(data.Until) && data.State == "free" {
				data.Until = s.Slot.Start
			}
		}
	}
	switch b := data.Now; {
	case b != nil:
		data.State, data.Until = StateClass(b.Status), b.End
		data.CanEnd = b.Status == projections.StatusInUse
		data.CanStart = b.Status == projections.StatusBooked || b.Status == projections.StatusConfirmed
		data.CanAdd = v.actor.May(domain.ChangeBooked, v.actor.To(b.User, id)) == nil
		data.Soon = nil
	case data.State == "free" && v.actor.May(domain.Book, v.actor.To(cmp.Or(v.Reader, doorUser), id)) == nil:
		for _, minutes := range doorLengths {
			if !v.doorSlot(rooms[id], minutes).End.After(data.Until) {
				data.Lengths = append(data.Lengths, minutes)
			}
		}
	}
	data.Next = data.Next[:min(3, len(data.Next))]
	if data.QR, err = qrCode(v.Address("/rooms/" + string(id) + "/page")); err != nil {
		return err
	}
	return v.show("door", data.Name, data)
}

// Until is when the state of a door ends: a time of the day, or the day's end.
func (v *view) Until(t time.Time, zone *time.Location) string {
	if t = t.In(zone); t.Equal(dayFrom(v.Now.In(zone)).End) {
		return "24:00"
	}
	if !t.Before(dayFrom(v.Now.In(zone)).End) {
		return v.ShortDate(t) + " " + v.Clock(t)
	}
	return v.Clock(t)
}

// doorSlot is the time that is booked at the door: from now, or the step of the room's rules before, for some minutes.
func (v *view) doorSlot(r *projections.RoomList, minutes int) domain.Slot {
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
	return domain.Slot{Start: start, End: start.Add(time.Duration(minutes) * time.Minute)}
}

// doorUser is the user of what is booked at a door by nobody in particular.
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
		b, err := p.commands.CreateBooking(v.r.Context(), commands.CreateBooking{Request: request, Room: id, User: v.Reader, Slot: v.doorSlot(rooms[id], minutes)})
		if err != nil {
			return v.refusedAtDoor(err)
		}
		return v.done(b.Position, path, "")
	}
	booking := v.r.PostFormValue("booking")
	if !validID(booking) || do != actStart && do != actEnd && do != actExtend {
		return errForm
	}
	e, err := v.act(domain.BookingID(booking), do)
	if err != nil {
		return v.refusedAtDoor(err)
	}
	return v.done(e.position, path, "")
}

// refusedAtDoor shows the display with why something was not done.
func (v *view) refusedAtDoor(err error) error {
	p := v.problemOf(err)
	if p.status >= http.StatusInternalServerError {
		return err
	}
	v.status = p.status
	return v.showDoor(&p)
}
