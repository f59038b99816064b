package api

import (
	"crypto/sha256"
	"encoding/base64"

	"roombook/domain"
	"roombook/projections"
)

func (s *Server) occupancyRoutes() []route {
	return []route{
		// What takes rooms, and why.
		{method: "GET", path: "/occupancy", handle: s.occupancy, params: occupancyParams{}},
	}
}

// occupancyParams are the query parameters of the occupancy of rooms.
type occupancyParams struct {
	// The beginning of the time that is asked about (RFC 3339, the compact local forms, or a date alone, from its beginning).
	From string `param:"from"`
	// Its end, at most 35 days later (RFC 3339, the compact local forms, or a date alone, to its end).
	To string `param:"to"`
	// A room, registered or not. It may be given several times, for up to 500 rooms.
	RoomID string `param:"roomId"`
	// All registered rooms in this building, whatever its case and accents, instead of rooms by their ids.
	Building string `param:"building"`
}

// occupancyReply says what takes rooms.
type occupancyReply struct {
	FromDtm  timestamp `json:"fromDtm"`
	ToDtm    timestamp `json:"toDtm"`
	Embedded struct {
		Rooms []roomOccupancy `json:"rooms"`
	} `json:"_embedded"`
	Links struct {
		Self      link `json:"self"`
		Occupancy link `json:"occupancy"`
	} `json:"_links"`
}

// roomOccupancy says what takes a room. A room that is not registered has no name.
type roomOccupancy struct {
	RoomID domain.RoomID `json:"roomId"`
	Name   string        `json:"name,omitzero"`
	Zone   string        `json:"zone"`
	Faults []openFault   `json:"faults,omitzero"`
	Spans  []spanReply   `json:"spans"`
}

// openFault is a fault of a room that is not settled; see [faultReply].
type openFault struct {
	FaultID   domain.FaultID `json:"faultId"`
	Equipment *string        `json:"equipment"`
	Text      string         `json:"text,omitzero"`
}

// spanReply is a time for which a room cannot be booked.
type spanReply struct {
	Kind      projections.SpanKind `json:"kind"`
	StartDtm  timestamp            `json:"startDtm"`
	EndDtm    timestamp            `json:"endDtm"`
	BookingID domain.BookingID     `json:"bookingId,omitzero"`
	bookedFor
	Status    projections.Status `json:"status,omitzero"`
	ClosureID domain.ClosureID   `json:"closureId,omitzero"`
	Reason    string             `json:"reason,omitzero"`
}

func (s *Server) occupancy(x *exchange) error {
	var q projections.OccupancyQuery
	err := x.listParams(&q.MinPosition, func(name, value string) (err error) {
		switch name {
		case "from":
			q.From, err = parseBound(value, s.zone, false)
		case "to":
			q.To, err = parseBound(value, s.zone, true)
		case "roomId":
			var id domain.RoomID
			if id, err = parseID[domain.RoomID](value); err == nil && len(q.Rooms) <= projections.MaxOccupancyRooms {
				q.Rooms = append(q.Rooms, id)
			}
		case "building":
			q.Building, err = parseText(value)
		default:
			err = errUnknownParameter
		}
		return err
	}, "roomId")
	err = faultIf(err, q.From.IsZero(), "from", "must be given")
	err = faultIf(err, q.To.IsZero(), "to", "must be given")
	err = faultIf(err, !q.To.IsZero() && !q.From.Before(q.To), "to", "must be after from")
	err = faultIf(err, (q.Rooms == nil) == (q.Building == ""), "roomId", "must be given, or building, and not both")
	if err != nil {
		return err
	}
	o, err := s.lists.Occupancy(x.ctx, q)
	if err != nil {
		return asParameters(err)
	}
	r := occupancyReply{FromDtm: x.time(q.From), ToDtm: x.time(q.To)}
	r.Embedded.Rooms = make([]roomOccupancy, len(o.Rooms))
	for i, room := range o.Rooms {
		of := roomOccupancy{RoomID: room.Room, Zone: room.Zone.String(), Spans: make([]spanReply, len(room.Spans))}
		if room.Known != nil {
			of.Name = room.Known.Name
			for _, f := range room.Known.Faults {
				of.Faults = append(of.Faults, openFault{f.ID, orNull(f.Equipment), f.Text})
			}
		}
		for j, span := range room.Spans {
			reply := spanReply{Kind: span.Kind, StartDtm: x.time(span.Slot.Start), EndDtm: x.time(span.Slot.End)}
			if b := span.Booking; b != nil {
				reply.BookingID, reply.bookedFor, reply.Status = b.Booking, x.bookedFor(b.User), b.Status
			}
			if c := span.Closure; c != nil {
				reply.ClosureID, reply.Reason = c.ID, c.Reason
			}
			of.Spans[j] = reply
		}
		r.Embedded.Rooms[i] = of
	}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	r.Links.Occupancy = r.Links.Self
	if err := x.reply(&r); err != nil {
		return err
	}
	x.position(o.Position)
	digest := sha256.Sum256(x.out.Bytes())
	x.header("Etag", `"`+base64.RawURLEncoding.EncodeToString(digest[:16])+`"`)
	return nil
}
