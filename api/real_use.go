package api

import (
	"errors"

	"roombook/commands"
	"roombook/domain"
)

func (s *Server) realUseRoutes() []route {
	return []route{
		// Starts the use of a booked room.
		{method: "POST", path: "/realuses", handle: s.startUse},
		// The uses that have started, from the room-use list.
		{method: "GET", path: "/realuses", handle: s.realUses().page, params: listParams{}},
		// A real use as it stands.
		{method: "GET", path: "/realuses/{id}", handle: s.realUse},
		// Ends a real use, and with it its booking.
		{method: "PATCH", path: "/realuses/{id}", handle: s.endUse},
	}
}

// useOfCancelled is the start of the use of a booking that is over: a conflict, while other requests merely do not find it.
type useOfCancelled struct{ *domain.AlreadyCancelled }

func (s *Server) startUse(x *exchange) error {
	b, err := x.decode()
	if err != nil {
		return err
	}
	c := commands.StartUse{Booking: domain.BookingID(b.id("bookingId")), StartedAt: x.now()}
	if b.given("realUseStartDtm") {
		c.StartedAt = b.time("realUseStartDtm")
	}
	if err := b.check(); err != nil {
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
	x.realUse(use)
	return nil
}

// realUseFields are the names under which a real use's body has what the domain may find fault with.
var realUseFields = fields{domain.FieldStart: "realUseStartDtm", domain.FieldEnd: "realUseEndDtm"}

func (s *Server) endUse(x *exchange) error {
	b, err := x.decodeOptional()
	if err != nil {
		return err
	}
	c := commands.EndUse{RealUse: domain.RealUseID(x.vars["id"]), EndedAt: x.now()}
	if b.given("realUseEndDtm") {
		c.EndedAt = b.end("realUseEndDtm")
	}
	if err := b.check(); err != nil {
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
	x.realUse(use)
	return nil
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
	x.realUse(use)
	return nil
}

// realUse answers with a real use.
func (x *exchange) realUse(u commands.RealUse) {
	x.stands(u.Revision, u.Position)
	x.document.realUse(&u.RealUse)
}

// realUse writes a real use as single resource and in the collection alike.
func (d *document) realUse(u *domain.RealUse) {
	id := string(u.ID)
	d.beginObject()
	d.text("realUseId", id)
	d.text("bookingId", string(u.Booking))
	d.text("roomId", string(u.Room))
	d.text("bookingUserId", string(u.User))
	d.time("realUseStartDtm", u.StartedAt)
	d.time("realUseEndDtm", u.EndedAt())
	d.stillInUseBy(u.RoomStillInUseBy)
	d.beginLinks()
	d.link("self", "/realuses/", id)
	d.link("realUse", "/realuses/", id)
	d.link("booking", "/bookings/", string(u.Booking))
	d.link("roomUseList", "/roomUseLists/", string(u.Booking))
	d.endObject()
	d.endObject()
}

// stillInUseBy writes whose use of the room had not ended when a use started, which is there only if there was one.
func (d *document) stillInUseBy(id domain.BookingID) {
	if id != "" {
		d.text("roomStillInUseBy", string(id))
	}
}
