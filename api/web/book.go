package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) bookRoutes() []Route {
	return []Route{
		// The form that books a room.
		{"GET", "/book", false, p.bookForm},
		// Books a room.
		{"POST", "/book", false, p.book},
		// The form that changes a booking.
		{"GET", "/bookings/{id}/change", false, p.changeForm},
		// Changes a booking.
		{"POST", "/bookings/{id}/change", false, p.change},
	}
}

// bookingForm is the data of the form that makes or changes a booking.
type bookingForm struct {
	ID         string // of the command that the form asks for
	Booking    domain.BookingID
	Revision   domain.Revision
	Room       domain.RoomID
	Start, End string
	User       string
	Rooms      []projections.RoomList
	Zone       *time.Location
	Approval   bool // whether somebody has to confirm bookings of the room
	Problem    *problem
	Choices    []choice
}

// resume fills in what was typed before the reader had to sign in; see [SignInPath].
func (f *bookingForm) resume(typed url.Values) {
	for field, value := range map[string]*string{"start": &f.Start, "end": &f.End} {
		if _, err := time.Parse(formTime, typed.Get(field)); err == nil {
			*value = typed.Get(field)
		}
	}
	f.Room = domain.RoomID(cmp.Or(typed.Get("room"), string(f.Room)))
}

// choice is an alternative: a room and a time that could be booked instead.
type choice struct {
	Room       domain.RoomID
	Start, End string // as the form has them
	Slot       domain.Slot
	Kind       string
}

func (p *Pages) bookForm(v *view) error {
	q := v.r.URL.Query()
	f := &bookingForm{ID: uuid.NewString(), Room: domain.RoomID(q.Get("room")), User: string(v.Reader)}
	if err := v.prepare(f); err != nil {
		return err
	}
	start, err := time.Parse(time.RFC3339, q.Get("start"))
	if err != nil {
		start = v.Now.Truncate(15 * time.Minute).Add(15 * time.Minute)
	}
	end, err := time.Parse(time.RFC3339, q.Get("end"))
	if err != nil || !end.After(start) {
		end = start.Add(time.Hour)
	}
	f.Start, f.End = v.FormTime(start, f.Room), v.FormTime(end, f.Room)
	f.resume(q)
	return v.show("book", v.T("title.book"), f)
}

// prepare adds what the form shows of rooms.
func (v *view) prepare(f *bookingForm) (err error) {
	if err = v.readFavourites(); err != nil {
		return err
	}
	if f.Rooms, err = v.findRooms(projections.RoomFilter{Now: v.Now}); err != nil {
		return err
	}
	v.favouritesFirst(f.Rooms)
	if f.Room == "" && len(f.Rooms) > 0 {
		f.Room = f.Rooms[0].Room
	}
	f.Zone = v.zoneOf(f.Room)
	room := v.rooms[f.Room]
	f.Approval = room == nil || room.Rules == nil || room.Rules.Approval != domain.ApprovalNone
	return nil
}

// Listed reports whether the form's room is one that it lists. Others can be booked too, where rooms need not be registered.
func (f *bookingForm) Listed() bool {
	for i := range f.Rooms {
		if f.Rooms[i].Room == f.Room {
			return true
		}
	}
	return false
}

// readForm reads the form. What is wrong with it is a problem in the form.
func (v *view) readForm() (f *bookingForm, slot domain.Slot, err error) {
	r := v.r
	f = &bookingForm{ID: r.PostFormValue("id"), Room: domain.RoomID(r.PostFormValue("room")), Start: r.PostFormValue("start"), End: r.PostFormValue("end"), User: r.PostFormValue("user")}
	if err := v.prepare(f); err != nil {
		return nil, slot, err
	}
	var faults problem
	if !validID(string(f.Room)) {
		faults.Sentences = append(faults.Sentences, v.T("fault.room"))
	}
	if !validID(f.User) {
		faults.Sentences = append(faults.Sentences, v.T("problem.no-name"))
	}
	if slot.Start, err = parseTime(f.Start, f.Zone); err != nil {
		faults.Sentences = append(faults.Sentences, v.T("form.start")+": "+v.problemOf(err).Sentences[0])
	}
	if slot.End, err = parseTime(f.End, f.Zone); err != nil {
		faults.Sentences = append(faults.Sentences, v.T("form.end")+": "+v.problemOf(err).Sentences[0])
	}
	if faults.Sentences != nil {
		faults.status = http.StatusUnprocessableEntity
		f.Problem = &faults
	}
	return f, slot, nil
}

// once makes the command of a form idempotent, so that it is carried out once however often its actor sends the form.
func (f *bookingForm) once(r *commands.Request) {
	id, err := uuid.Parse(f.ID)
	if err != nil {
		return
	}
	r.ID = uuid.NewSHA1(formSpace, append(id[:], r.Actor.User...))
	sum := sha256.New()
	for _, value := range []string{string(f.Booking), string(f.Room), f.Start, f.End, f.User} {
		sum.Write([]byte(value))
		sum.Write([]byte{0})
	}
	r.Digest = hex.EncodeToString(sum.Sum(nil))
}

// formSpace is the UUIDv5 namespace of the commands of forms.
var formSpace = uuid.MustParse("5b0c8f2e-6a4d-5f57-9c0e-2d0f1a7be3c4")

func (p *Pages) book(v *view) error {
	f, slot, err := v.readForm()
	if err != nil {
		return err
	}
	if f.Problem != nil {
		return v.again("book", "title.book", f)
	}
	c := commands.CreateBooking{Room: f.Room, User: domain.UserID(f.User), Slot: slot}
	if v.Reader == "" { // who books says who the reader is
		v.Reader = c.User
		v.remember(cookieName, f.User, aYear)
	}
	if c.Request, err = v.request(); err != nil {
		return err
	}
	f.once(&c.Request)
	b, err := p.commands.CreateBooking(v.r.Context(), c)
	if err != nil {
		return v.refused("book", "title.book", f, slot, err)
	}
	done := "booked"
	if b.Confirm.Answer == domain.AnswerPending {
		done = "asked"
	}
	return v.done(b.Position, "/bookings/"+string(b.ID)+"/page", done)
}

// refused shows the form again, with why it was refused and with alternatives.
func (v *view) refused(name, title string, f *bookingForm, slot domain.Slot, err error) error {
	p := v.problemOf(err)
	if !p.shown() && p.status != http.StatusNotFound {
		return err
	}
	f.Problem = &p
	switch p.status {
	case http.StatusConflict:
		var user domain.UserID // whose limits count; in a change they do not, as the booking itself is one of the user's
		if f.Booking == "" {
			user = domain.UserID(f.User)
		}
		f.Choices, _ = v.choices(f.Room, user, slot, freeFrom(err, slot)) // none, if the lists cannot be read now
	case http.StatusServiceUnavailable: // it may have been done: the same form asks for the same command
		v.status = p.status
		return v.show(name, v.T(title), f)
	}
	return v.again(name, title, f)
}

// again shows the form again, as one of a new command.
func (v *view) again(name, title string, f *bookingForm) error {
	f.ID = uuid.NewString()
	v.status = f.Problem.status
	return v.show(name, v.T(title), f)
}

// freeFrom is the earliest time at which a room may be free, according to the refusal of a slot. Lists may lag behind that.
func freeFrom(err error, slot domain.Slot) time.Time {
	from := slot.Start
	if taken, ok := errors.AsType[*domain.SlotTaken](err); ok {
		for _, r := range taken.By {
			from = later(from, r.Slot.End)
		}
	}
	if broken, ok := errors.AsType[*domain.RuleBroken](err); ok {
		for _, b := range broken.Broken {
			from = later(from, b.Earliest)
		}
	}
	if closed, ok := errors.AsType[*domain.RoomClosed](err); ok {
		from = later(from, closed.Earliest)
	}
	return from
}

// choices are alternatives to a slot: the same room at a time after from, and other rooms at the time of the slot.
func (v *view) choices(room domain.RoomID, user domain.UserID, slot domain.Slot, from time.Time) ([]choice, error) {
	if slot.Length() <= 0 || slot.Length() > 24*time.Hour {
		return nil, nil
	}
	filter := projections.RoomFilter{Now: v.Now}
	if r := v.rooms[room]; r != nil {
		filter.Capacity = r.Capacity / 2 // a much smaller room is no other choice
	}
	var choices []choice
	add := func(kind string, a projections.Available) {
		choices = append(choices, choice{Room: a.Room.Room, Slot: a.Slot, Kind: kind, Start: v.FormTime(a.Slot.Start, a.Room.Room), End: v.FormTime(a.Slot.End, a.Room.Room)})
	}
	if r := v.rooms[room]; r != nil {
		// The room itself: the first time of this length, within a day.
		within := domain.Slot{Start: from, End: from.Add(24*time.Hour + slot.Length())}
		only := projections.RoomFilter{Now: v.Now, Text: string(room)}
		a, err := v.p.lists.Availability(v.r.Context(), projections.AvailabilityQuery{RoomFilter: only, User: user, Within: within, Length: slot.Length(), Size: projections.MaxSize, MinPosition: v.seen()})
		if err != nil {
			return nil, err
		}
		for _, free := range a.Rooms {
			if free.Room.Room == room {
				add("later", free)
			}
		}
	}
	a, err := v.p.lists.Availability(v.r.Context(), projections.AvailabilityQuery{RoomFilter: filter, User: user, Within: slot, Length: slot.Length(), Size: 4, MinPosition: v.seen()})
	if err != nil {
		return nil, err
	}
	for _, free := range a.Rooms {
		if free.Room.Room != room {
			add("elsewhere", free)
		}
	}
	for _, s := range a.Suggestions {
		if s.Room.Room != room || !s.Slot.Start.Before(from) {
			add(string(s.Kind), s.Available)
		}
	}
	return choices, nil
}

func (p *Pages) changeForm(v *view) error {
	b, err := v.booking()
	if err != nil {
		return err
	}
	f := &bookingForm{ID: uuid.NewString(), Booking: b.ID, Revision: b.Revision, Room: b.Room, User: string(b.User)}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	if err := v.permit(domain.ChangeBooked, b.User, b.Room); err != nil {
		return err
	}
	f.Start, f.End = v.FormTime(b.Slot.Start, b.Room), v.FormTime(b.Slot.End, b.Room)
	f.resume(v.r.URL.Query())
	if err := v.prepare(f); err != nil {
		return err
	}
	return v.show("book", v.T("title.change"), f)
}

// booking reads the live booking in the path.
func (v *view) booking() (commands.Booking, error) {
	id := v.r.PathValue("id")
	if !validID(id) {
		return commands.Booking{}, domain.ErrBookingNotFound
	}
	return v.p.bookings.Booking(v.r.Context(), domain.BookingID(id))
}

func (p *Pages) change(v *view) error {
	before, err := v.booking()
	if err != nil {
		return err
	}
	f, slot, err := v.readForm()
	if err != nil {
		return err
	}
	revision, ok := number(v.r.PostFormValue("revision"))
	if !ok {
		return errForm
	}
	f.Booking, f.Revision = before.ID, domain.Revision(revision)
	if f.Problem != nil {
		return v.again("book", "title.change", f)
	}
	user := domain.UserID(f.User)
	c := commands.ChangeBooking{Booking: f.Booking, Room: &f.Room, User: &user, Start: &slot.Start, End: &slot.End}
	if c.Request, err = v.request(); err != nil {
		return err
	}
	f.once(&c.Request)
	c.IfRevisions = []domain.Revision{f.Revision}
	b, err := p.commands.ChangeBooking(v.r.Context(), c)
	if err != nil {
		if now, read := v.booking(); read == nil {
			f.Revision = now.Revision // what the reader is told of, the next try is about
		}
		return v.refused("book", "title.change", f, slot, err)
	}
	return v.done(b.Position, "/bookings/"+string(b.ID)+"/page", "changed")
}
