package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands"
	"roombook/domain"
)

func (s *Server) confirmRoutes() []route {
	return []route{
		// The administrator's answer to a booking, which may be pending.
		{method: "GET", path: "/confirms/{bookingId}", handle: s.confirm},
		// Confirms or denies a booking.
		{method: "PATCH", path: "/confirms/{bookingId}", handle: s.answerConfirm},
		// The administrator's answers, from the booking list.
		{method: "GET", path: "/confirms", handle: s.confirms().page, params: listParams{}},
	}
}

// maxReasonLength is the upper bound of an answer's reason, in characters.
const maxReasonLength = 1000

// confirmAnswerRequest is the body of the administrator's answer.
type confirmAnswerRequest struct {
	Status        field          `json:"status"`
	Reason        field          `json:"reason"`
	ConfirmUserID field          `json:"confirmUserId"`
	ConfirmDtm    field          `json:"confirmDtm"`
	Others        jsontext.Value `json:",embed"`
}

// confirmFields are the members of an answer's body that the domain validates.
var confirmFields = names{domain.FieldAnswer: "status"}

func (s *Server) confirm(x *exchange) error {
	id := domain.BookingID(x.vars["bookingId"])
	if !validID(string(id)) {
		return domain.ErrBookingNotFound
	}
	booking, err := s.commands.Booking(x.ctx, id)
	if err != nil {
		return err
	}
	return x.confirmOf(booking)
}

func (s *Server) answerConfirm(x *exchange) error {
	var in confirmAnswerRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.AnswerConfirm{
		Booking:    domain.BookingID(x.vars["bookingId"]),
		Answer:     domain.Answer(b.oneOf(&in.Status, string(domain.Confirmed), string(domain.Denied))),
		AnsweredAt: x.now(),
	}
	if in.ConfirmUserID.given() {
		c.By = domain.UserID(b.id(&in.ConfirmUserID))
	}
	if c.By == "" && s.accounts != nil {
		c.By = x.actor.User
	}
	if in.ConfirmDtm.given() {
		c.AnsweredAt = b.time(&in.ConfirmDtm)
	}
	if in.Reason.given() {
		c.Reason = b.text(&in.Reason, maxReasonLength)
	}
	if err := b.check(in.Others); err != nil {
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
	return x.confirmOf(booking)
}

// confirmReply is the administrator's answer to a booking, as a single resource and in the collection.
type confirmReply struct {
	BookingID domain.BookingID `json:"bookingId"`
	concernedUser
	Status          domain.Answer  `json:"status"`
	ConfirmDtm      *timestamp     `json:"confirmDtm"`
	ConfirmUserID   *domain.UserID `json:"confirmUserId"`
	ConfirmUserName **string       `json:"confirmUserName,omitzero"`
	Reason          string         `json:"reason,omitzero"`
	Links           struct {
		Self    link `json:"self"`
		Confirm link `json:"confirm"`
		Booking link `json:"booking"`
	} `json:"_links"`
}

func (x *exchange) confirmReply(booking domain.BookingID, user domain.UserID, c domain.Confirm) (r confirmReply) {
	r.BookingID, r.concernedUser, r.Status = booking, x.concernedUser(user), c.Answer
	r.ConfirmDtm, r.ConfirmUserID, r.ConfirmUserName, r.Reason = x.timeOrNull(c.At), orNull(c.By), x.userName(c.By), c.Reason
	r.Links.Self = x.link("/confirms/", string(booking))
	r.Links.Confirm = r.Links.Self
	r.Links.Booking = x.link("/bookings/", string(booking))
	return r
}

// confirmOf replies with the administrator's answer to a booking, which is part of the booking's stream and shares its revision.
func (x *exchange) confirmOf(b commands.Booking) error {
	x.setValidators(b.Revision, b.Position)
	b = x.server.lists.booking(x.ctx, b)
	return x.reply(new(x.confirmReply(b.ID, b.User, b.Confirm)))
}
