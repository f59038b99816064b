package api

import (
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands"
	"roombook/domain"
)

func (s *Server) closureRoutes() []route {
	return []route{
		// The closed periods of a room.
		{method: "GET", path: "/rooms/{id}/closures", handle: s.closures},
		// Closes the room for a period.
		{method: "POST", path: "/rooms/{id}/closures", handle: s.closePeriod},
		// A closed period.
		{method: "GET", path: "/rooms/{id}/closures/{closureId}", handle: s.closure},
		// Reopens the room for the period.
		{method: "DELETE", path: "/rooms/{id}/closures/{closureId}", handle: s.reopenPeriod},
	}
}

// closureReply is a closed period of a room.
type closureReply struct {
	ClosureID domain.ClosureID        `json:"closureId"`
	StartDtm  timestamp               `json:"startDtm"`
	EndDtm    timestamp               `json:"endDtm"`
	Reason    string                  `json:"reason,omitzero"`
	Bookings  domain.AffectedBookings `json:"bookings"`
	Links     struct {
		Self    link `json:"self"`
		Closure link `json:"closure"`
		Room    link `json:"room"`
	} `json:"_links"`
}

func (x *exchange) closureReply(room domain.RoomID, c *domain.Closure) (r closureReply) {
	r.ClosureID, r.StartDtm, r.EndDtm, r.Reason, r.Bookings = c.ID, x.time(c.Slot.Start), x.time(c.Slot.End), c.Reason, c.Bookings
	r.Links.Self = x.link("/rooms/", string(room)+"/closures/"+string(c.ID))
	r.Links.Closure = r.Links.Self
	r.Links.Room = x.link("/rooms/", string(room))
	return r
}

func (x *exchange) closureReplies(room domain.RoomID, closures []domain.Closure) []closureReply {
	replies := make([]closureReply, len(closures))
	for i := range closures {
		replies[i] = x.closureReply(room, &closures[i])
	}
	return replies
}

// closuresReply lists the closed periods of a room.
type closuresReply struct {
	Embedded struct {
		Closures []closureReply `json:"closures"`
	} `json:"_embedded"`
	Links struct {
		Self     link `json:"self"`
		Closures link `json:"closures"`
		Room     link `json:"room"`
	} `json:"_links"`
}

func (s *Server) closures(x *exchange) error {
	room, err := x.room()
	if err != nil {
		return err
	}
	x.setValidators(room.Revision, room.Position)
	var r closuresReply
	r.Embedded.Closures = x.closureReplies(room.ID, room.Closures)
	r.Links.Room = x.link("/rooms/", string(room.ID))
	r.Links.Self = x.link("/rooms/", string(room.ID)+"/closures")
	r.Links.Closures = r.Links.Self
	return x.reply(&r)
}

// replyClosure replies with a closure of a room.
func (x *exchange) replyClosure(room commands.Room, id domain.ClosureID) error {
	i := slices.IndexFunc(room.Closures, func(c domain.Closure) bool { return c.ID == id })
	if i < 0 {
		return domain.ErrClosureNotFound
	}
	x.setValidators(room.Revision, room.Position)
	return x.reply(new(x.closureReply(room.ID, &room.Closures[i])))
}

func (s *Server) closure(x *exchange) error {
	room, err := x.room()
	if err != nil {
		return err
	}
	return x.replyClosure(room, domain.ClosureID(x.vars["closureId"]))
}

// closureRequest is the body that closes a room for a period.
type closureRequest struct {
	StartDtm field          `json:"startDtm"`
	EndDtm   field          `json:"endDtm"`
	Reason   field          `json:"reason"`
	Bookings field          `json:"bookings"`
	Others   jsontext.Value `json:",embed"`
}

// closureFields are the members of a closure's body that the domain validates.
var closureFields = names{"slot/end": "endDtm"}

func (s *Server) closePeriod(x *exchange) error {
	var in closureRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.ClosePeriod{Slot: domain.Slot{Start: b.time(&in.StartDtm), End: b.end(&in.EndDtm)}}
	if in.Reason.given() {
		c.Reason = b.text(&in.Reason, maxReasonLength)
	}
	if in.Bookings.given() {
		c.Bookings = domain.AffectedBookings(b.oneOf(&in.Bookings, stringsOf(domain.KeepBookings, domain.CancelBookings)...))
	}
	if err := b.check(in.Others); err != nil {
		return err
	}
	if c.Room, c.Request, err = x.roomRequest(); err != nil {
		return err
	}
	room, err := s.commands.ClosePeriod(x.ctx, c)
	if err != nil {
		return x.inBody(err, closureFields)
	}
	id := domain.ClosureID(c.ID.String())
	x.created("/rooms/", string(c.Room)+"/closures/"+string(id))
	return x.replyClosure(room, id)
}

func (s *Server) reopenPeriod(x *exchange) error {
	id, request, err := x.roomRequest()
	if err != nil {
		return err
	}
	room, err := s.commands.ReopenPeriod(x.ctx, commands.ReopenPeriod{Request: request, Room: id, Closure: domain.ClosureID(x.vars["closureId"])})
	if err != nil {
		return err
	}
	x.status = http.StatusNoContent
	x.position(room.Position)
	return nil
}
