package api

import (
	"roombook/commands"
	"roombook/domain"
)

func (s *Server) confirmRoutes() []route {
	return []route{
		// The administrator's answer to a booking, or that it is awaited.
		{method: "GET", path: "/confirms/{bookingId}", handle: s.confirm},
		// Confirms or denies a booking.
		{method: "PATCH", path: "/confirms/{bookingId}", handle: s.answerConfirm},
		// The answers to the live bookings, from the booking list.
		{method: "GET", path: "/confirms", handle: s.confirms().page, params: listParams{}},
	}
}

// longestReason bounds the reason of an answer, in characters.
const longestReason = 1000

// confirmFields are the names under which an answer's body has what the domain may find fault with.
var confirmFields = fields{domain.FieldAnswer: "status"}

func (s *Server) confirm(x *exchange) error {
	id := domain.BookingID(x.vars["bookingId"])
	if !validID(string(id)) {
		return domain.ErrBookingNotFound
	}
	booking, err := s.commands.Booking(x.ctx, id)
	if err != nil {
		return err
	}
	x.confirm(booking)
	return nil
}

func (s *Server) answerConfirm(x *exchange) error {
	b, err := x.decode()
	if err != nil {
		return err
	}
	c := commands.AnswerConfirm{
		Booking:    domain.BookingID(x.vars["bookingId"]),
		Answer:     domain.Answer(b.oneOf("status", string(domain.Confirmed), string(domain.Denied))),
		AnsweredAt: x.now(),
	}
	if b.given("confirmUserId") {
		c.By = domain.UserID(b.id("confirmUserId"))
	}
	if b.given("confirmDtm") {
		c.AnsweredAt = b.time("confirmDtm")
	}
	if b.given("reason") {
		c.Reason = b.text("reason", longestReason)
	}
	if err := b.check(); err != nil {
		return err
	}
	if !validID(string(c.Booking)) {
		return domain.ErrBookingNotFound
	}
	if c.Request, err = x.request(c.By); err != nil {
		return err
	}
	booking, err := s.commands.AnswerConfirm(x.ctx, c)
	if err != nil {
		return x.inBody(err, confirmFields)
	}
	x.confirm(booking)
	return nil
}

// confirm answers with the administrator's answer to a booking. It is a part of the booking's stream and has its revision.
func (x *exchange) confirm(b commands.Booking) {
	x.stands(b.Revision, b.Position)
	x.document.confirm(b.ID, b.User, b.Confirm)
}

// confirm writes a confirm as single resource and in the collection alike.
func (d *document) confirm(booking domain.BookingID, user domain.UserID, c domain.Confirm) {
	id := string(booking)
	d.beginObject()
	d.text("bookingId", id)
	d.text("userId", string(user))
	d.text("status", string(c.Answer))
	d.time("confirmDtm", c.At)
	d.textOrNull("confirmUserId", string(c.By))
	if c.Reason != "" {
		d.text("reason", c.Reason)
	}
	d.beginLinks()
	d.link("self", "/confirms/", id)
	d.link("confirm", "/confirms/", id)
	d.link("booking", "/bookings/", id)
	d.endObject()
	d.endObject()
}
