package web

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

func (p *Pages) bookingRoutes() []Route {
	return []Route{
		// A booking: its state, what can be done with it, and its history.
		{"GET", "/bookings/{id}/page", false, p.bookingPage},
		// Does something with it.
		{"POST", "/bookings/{id}/page", false, p.actOnBooking},
	}
}

// bookingPage is the data of a booking's page.
type bookingPage struct {
	Booking commands.Booking
	AsOf    string // when, if the booking is shown as it was then
	// What can be done.
	CanChange, CanCancel, CanStart, CanEnd, CanExtend, CanAnswer bool

	History []historyLine
	Reason  string // as it was typed
	Problem *problem
}

// historyLine is an event in words.
type historyLine struct {
	When     string
	Who      string
	Text     string
	Position uint64
}

func (p *Pages) bookingPage(v *view) error { return v.showBooking(nil) }

// showBooking shows the booking in the path, with why a command was refused, if one was.
func (v *view) showBooking(why *problem) error {
	id := v.r.PathValue("id")
	if !validID(id) {
		return domain.ErrBookingNotFound
	}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	ctx := v.r.Context()
	events, private, err := v.p.bookings.History(ctx, domain.BookingID(id))
	if err != nil {
		return err
	}
	last := events[len(events)-1].Position
	data := &bookingPage{Problem: why, Reason: v.r.FormValue("reason")}
	asked, _ := strconv.ParseUint(v.r.URL.Query().Get("asOf"), 10, 64) // anything else is now
	moment := eventstore.Position(asked)
	if moment == 0 || moment >= last {
		moment = last
	}
	if data.Booking, err = v.p.bookings.BookingAsOf(ctx, domain.BookingID(id), commands.AsOf{Position: moment}); err != nil {
		return err
	}
	b := &data.Booking
	for i := range events {
		if line, ok := v.historyLine(&events[i], b.Room); ok && !private {
			data.History = append(data.History, line)
		}
		if events[i].Position == moment && moment != last {
			data.AsOf = v.At(events[i].Metadata.OccurredAt, b.Room)
		}
	}
	if data.AsOf == "" && b.Live() {
		data.CanChange = b.Use == nil && v.may(domain.ChangeBooked, b.User, b.Room)
		data.CanCancel = b.Use == nil && v.may(domain.CancelBooked, b.User, b.Room)
		data.CanStart = b.Use == nil && v.mayStart(b.Slot, b.Room) && v.may(domain.UseRoom, b.User, b.Room)
		data.CanEnd = b.Use != nil && v.may(domain.UseRoom, b.User, b.Room)
		data.CanExtend = data.CanChange || data.CanEnd
		data.CanAnswer = b.Confirm.Answer == domain.AnswerPending && v.may(domain.AnswerBooked, b.User, b.Room)
	}
	return v.show("booking", v.T("title.booking", "room", v.RoomName(b.Room)), data)
}

// Phase is the state of a booking in words.
func (v *view) Phase(b commands.Booking) string {
	if b.Cancellation != nil && b.Cancellation.Reason == domain.CancelledByUseEnd {
		return v.T("state.ENDED")
	}
	return v.T("state." + string(b.Phase()))
}

// PhaseClass is the class of the state of a booking in style sheets.
func (v *view) PhaseClass(b commands.Booking) string {
	switch b.Phase() {
	case domain.PhaseConfirmed:
		return "confirmed"
	case domain.PhaseInUse:
		return "in-use"
	case domain.PhaseCancelled:
		return "ended"
	}
	return "waiting"
}

// historyLine describes an event in words. It reports false for events that only serve the program.
func (v *view) historyLine(e *eventstore.Recorded, room domain.RoomID) (historyLine, bool) {
	line := historyLine{When: v.At(e.Metadata.OccurredAt, room), Position: uint64(e.Position)}
	if e.Metadata.Actor != string(anonymous) {
		line.Who = v.Person(domain.UserID(e.Metadata.Actor))
	}
	say := func(key string, values ...any) { line.Text = v.T("history."+key, values...) }
	switch e := e.Event.(type) {
	case domain.BookingCreated:
		say("booked", "who", v.Person(e.UserID), "room", v.RoomName(e.RoomID), "when", v.When(e.Slot, e.RoomID))
	case domain.BookingChanged:
		say("changed", "who", v.Person(e.UserID), "room", v.RoomName(e.RoomID), "when", v.When(e.Slot, e.RoomID))
	case domain.BookingHandedOver:
		say("handed-over", "who", v.Person(e.UserID), "former", v.Person(e.FormerUserID))
	case domain.ConfirmRequested:
		say("asked")
	case domain.ConfirmCompleted:
		say("confirmed", "who", v.Person(e.ConfirmUserID))
	case domain.ConfirmDenied:
		say("denied", "who", v.Person(e.ConfirmUserID))
		if e.Reason != "" {
			line.Text += ": " + e.Reason
		}
	case domain.UseStarted:
		say("started", "when", v.At(e.StartedAt, e.RoomID))
	case domain.UseEnded:
		say("ended", "when", v.At(e.EndedAt, e.RoomID))
	case domain.BookingUnblocked:
		say("unblocked", "reason", e.Reason)
	case domain.BookingCancelled:
		if e.Reason == domain.CancelledByDenial || e.Reason == domain.CancelledByUseEnd {
			return line, false // the event before says so
		}
		say("cancelled", "why", v.T("reason."+string(e.Reason)))
		if e.Detail != "" {
			line.Text += ": " + e.Detail
		}
	case domain.BookingCheckedIn:
		return line, false // UseStarted says so
	case nil:
		say("unreadable")
	default:
		return line, false
	}
	return line, true
}

// What a booking's forms ask for.
const (
	actCancel  = "cancel"
	actStart   = "start"
	actEnd     = "end"
	actConfirm = "confirm"
	actDeny    = "deny"
)

func (p *Pages) actOnBooking(v *view) error {
	id := v.r.PathValue("id")
	if !validID(id) {
		return domain.ErrBookingNotFound
	}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	e, err := v.act(domain.BookingID(id), v.r.PostFormValue("do"))
	if err != nil {
		if p := v.problemOf(err); p.shown() {
			v.status = p.status
			return v.showBooking(&p)
		}
		return err
	}
	return v.done(e.position, "/bookings/"+string(e.booking)+"/page", e.text)
}

// effect is the result of a form: its position in the log, its text, and the booking that shows it.
type effect struct {
	position eventstore.Position
	text     string
	booking  domain.BookingID
}

// act carries out what a form asks for.
func (v *view) act(id domain.BookingID, do string) (effect, error) {
	request, err := v.request()
	if err != nil {
		return effect{}, err
	}
	ctx, h := v.r.Context(), v.p.commands
	switch do {
	case actCancel:
		b, err := h.CancelBooking(ctx, commands.CancelBooking{Request: request, Booking: id})
		return effect{b.Position, "cancelled", id}, err
	case actStart:
		u, err := h.StartUse(ctx, commands.StartUse{Request: request, Booking: id, StartedAt: v.Now})
		return effect{u.Position, "started", id}, err
	case actEnd:
		u, err := h.EndUse(ctx, commands.EndUse{Request: request, RealUse: domain.RealUseOf(id), EndedAt: v.Now})
		return effect{u.Position, "ended", id}, err
	case actConfirm:
		return v.answer(request, id, domain.Confirmed, "")
	case actDeny:
		return v.answer(request, id, domain.Denied, v.r.PostFormValue("reason"))
	}
	if minutes := extensions[do]; minutes > 0 {
		return v.extend(request, id, minutes)
	}
	return effect{}, errForm
}

// extensions are the minutes by which a booking can be extended, by what a form asks for.
var extensions = map[string]int{"extend-15": 15, "extend-30": 30, "extend-60": 60}

// extend lets a booking last longer. One whose use has started cannot change any more: then its user gets the time after it as well.
func (v *view) extend(request commands.Request, id domain.BookingID, minutes int) (effect, error) {
	ctx, h := v.r.Context(), v.p.commands
	b, err := h.Booking(ctx, id)
	if err != nil {
		return effect{}, err
	}
	end := b.Slot.End.Add(time.Duration(minutes) * time.Minute)
	if b.Use != nil {
		b, err = h.CreateBooking(ctx, commands.CreateBooking{Request: request, Room: b.Room, User: b.User, Slot: domain.Slot{Start: b.Slot.End, End: end}})
		return effect{b.Position, "extended-after", b.ID}, err
	}
	request.IfRevisions = []domain.Revision{b.Revision}
	b, err = h.ChangeBooking(ctx, commands.ChangeBooking{Request: request, Booking: id, End: &end})
	return effect{b.Position, "extended", id}, err
}

var errNoReason = errors.New("a denial needs a reason")

// answer answers a request for confirmation. A denial needs a reason.
func (v *view) answer(request commands.Request, id domain.BookingID, answer domain.Answer, reason string) (effect, error) {
	done := "confirmed"
	if answer == domain.Denied {
		if done = "denied"; strings.TrimSpace(reason) == "" {
			return effect{}, errNoReason
		}
	}
	if shown := v.r.PostFormValue(answersField + string(id)); shown != "" { // what was shown is what is answered
		b, err := v.p.commands.Booking(v.r.Context(), id)
		if err != nil {
			return effect{}, err
		}
		if shown != v.Answered(b.Room, b.Slot) {
			return effect{}, &commands.ConditionFailed{Revision: b.Revision}
		}
		request.IfRevisions = []domain.Revision{b.Revision}
	}
	b, err := v.p.commands.AnswerConfirm(v.r.Context(), commands.AnswerConfirm{
		Request: request, Booking: id, Answer: answer, By: v.Reader, Reason: reason, AnsweredAt: v.Now,
	})
	return effect{b.Position, done, id}, err
}

// answersField is the prefix of the name of the field with the state of a booking that is being answered.
const answersField = "answers-"

// Answered is the room and the time of a booking, to which an answer applies.
func (v *view) Answered(room domain.RoomID, s domain.Slot) string {
	return string(room) + " " + s.Start.UTC().Format(time.RFC3339Nano) + " " + s.End.UTC().Format(time.RFC3339Nano)
}
