package api

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands"
	"roombook/domain"
)

func (s *Server) realUseRoutes() []route {
	return []route{
		// Starts the use of a booked room.
		{method: "POST", path: "/realuses", handle: s.startUse},
		// The uses that have started, from the room-use list.
		{method: "GET", path: "/realuses", handle: s.realUses().page, params: listParams{}},
		// A real use.
		{method: "GET", path: "/realuses/{id}", handle: s.realUse},
		// Ends a real use, and with it its booking.
		{method: "PATCH", path: "/realuses/{id}", handle: s.endUse},
	}
}

// newRealUseRequest is the body that starts a use.
type newRealUseRequest struct {
	BookingID       field          `json:"bookingId"`
	RealUseStartDtm field          `json:"realUseStartDtm"`
	Others          jsontext.Value `json:",embed"`
}

// realUseEndRequest is the body that ends a use.
type realUseEndRequest struct {
	RealUseEndDtm field          `json:"realUseEndDtm"`
	Others        jsontext.Value `json:",embed"`
}

// useOfCancelled reports that the use of a cancelled booking cannot start. That is a conflict, whereas other requests do not find the booking.
type useOfCancelled struct{ *domain.AlreadyCancelled }

func (s *Server) startUse(x *exchange) error {
	var in newRealUseRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.StartUse{Booking: domain.BookingID(b.id(&in.BookingID)), StartedAt: x.now()}
	if in.RealUseStartDtm.given() {
		c.StartedAt = b.time(&in.RealUseStartDtm)
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	if c.Request, err = x.request(""); err != nil {
		return err
	}
	use, err := s.commands.StartUse(x.ctx, c)
	if cancelled, ok := errors.AsType[*domain.AlreadyCancelled](err); ok {
		return &useOfCancelled{cancelled}
	}
	if err != nil {
		return x.inBody(err, realUseFields)
	}
	x.created("/realuses/", string(use.ID))
	return x.realUse(use)
}

// realUseFields are the members of a real use's body that the domain validates.
var realUseFields = names{domain.FieldStart: "realUseStartDtm", domain.FieldEnd: "realUseEndDtm"}

func (s *Server) endUse(x *exchange) error {
	var in realUseEndRequest
	b, err := x.decodeOptional(&in)
	if err != nil {
		return err
	}
	c := commands.EndUse{RealUse: domain.RealUseID(x.vars["id"]), EndedAt: x.now()}
	if in.RealUseEndDtm.given() {
		c.EndedAt = b.end(&in.RealUseEndDtm)
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	if !validID(string(c.RealUse)) {
		return domain.ErrRealUseNotFound
	}
	if c.Request, err = x.request(""); err != nil {
		return err
	}
	use, err := s.commands.EndUse(x.ctx, c)
	if err != nil {
		return x.inBody(err, realUseFields)
	}
	return x.realUse(use)
}

func (s *Server) realUse(x *exchange) error {
	id := domain.RealUseID(x.vars["id"])
	if !validID(string(id)) {
		return domain.ErrRealUseNotFound
	}
	use, err := s.commands.RealUse(x.ctx, id)
	if err != nil {
		return err
	}
	return x.realUse(use)
}

// realUseReply is a real use, as a single resource and in the collection.
type realUseReply struct {
	RealUseID domain.RealUseID `json:"realUseId"`
	BookingID domain.BookingID `json:"bookingId"`
	RoomID    domain.RoomID    `json:"roomId"`
	bookedFor
	RealUseStartDtm  timestamp        `json:"realUseStartDtm"`
	RealUseEndDtm    *timestamp       `json:"realUseEndDtm"`
	RoomStillInUseBy domain.BookingID `json:"roomStillInUseBy,omitzero"`
	Links            struct {
		Self        link `json:"self"`
		RealUse     link `json:"realUse"`
		Booking     link `json:"booking"`
		RoomUseList link `json:"roomUseList"`
	} `json:"_links"`
}

func (x *exchange) realUseReply(u *domain.RealUse) (r realUseReply) {
	r.RealUseID, r.BookingID, r.RoomID, r.bookedFor = u.ID, u.Booking, u.Room, x.bookedFor(u.User)
	r.RealUseStartDtm, r.RealUseEndDtm, r.RoomStillInUseBy = x.time(u.StartedAt), x.timeOrNull(u.EndedAt()), u.RoomStillInUseBy
	r.Links.Self = x.link("/realuses/", string(u.ID))
	r.Links.RealUse = r.Links.Self
	r.Links.Booking = x.link("/bookings/", string(u.Booking))
	r.Links.RoomUseList = x.link("/roomUseLists/", string(u.Booking))
	return r
}

// realUse replies with a real use.
func (x *exchange) realUse(u commands.RealUse) error {
	x.setValidators(u.Revision, u.Position)
	return x.reply(new(x.realUseReply(new(x.server.lists.realUse(x.ctx, u.RealUse)))))
}
