package api

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands"
	"roombook/domain"
)

func (s *Server) faultRoutes() []route {
	return []route{
		// The faults of a room.
		{method: "GET", path: "/rooms/{id}/faults", handle: s.faults},
		// Reports that something in the room is broken.
		{method: "POST", path: "/rooms/{id}/faults", handle: s.reportFault},
		// A fault of a room.
		{method: "GET", path: "/rooms/{id}/faults/{faultId}", handle: s.fault},
		// Settles the fault.
		{method: "PATCH", path: "/rooms/{id}/faults/{faultId}", handle: s.settleFault},
	}
}

// Whether a fault is settled.
const (
	faultOpen    = "OPEN"
	faultSettled = "SETTLED"
)

// faultReply is a fault of a room. Private is set if the caller may not see who reported or settled it.
type faultReply struct {
	FaultID        domain.FaultID `json:"faultId"`
	Status         string         `json:"status"`
	Equipment      *string        `json:"equipment"`
	Text           string         `json:"text,omitzero"`
	ReportDtm      timestamp      `json:"reportDtm"`
	ReportUserID   domain.UserID  `json:"reportUserId,omitzero"`
	ReportUserName **string       `json:"reportUserName,omitzero"`
	SettleDtm      *timestamp     `json:"settleDtm"`
	SettleUserID   domain.UserID  `json:"settleUserId,omitzero"`
	SettleUserName **string       `json:"settleUserName,omitzero"`
	Note           string         `json:"note,omitzero"`
	Private        bool           `json:"private,omitzero"`
	Links          struct {
		Self  link `json:"self"`
		Fault link `json:"fault"`
		Room  link `json:"room"`
	} `json:"_links"`
}

func (x *exchange) faultReply(room domain.RoomID, f domain.RoomFault) (r faultReply) {
	r.FaultID, r.Status, r.Equipment, r.Text, r.ReportDtm = f.ID, faultOpen, orNull(f.Equipment), f.Text, x.time(f.At)
	r.ReportUserID, r.ReportUserName, r.Private = f.By, x.userName(f.By), f.By == ""
	if s := f.Settlement; s != nil {
		r.Status, r.SettleDtm, r.Note = faultSettled, x.timeOrNull(s.At), s.Note
		r.SettleUserID, r.SettleUserName = s.By, x.userName(s.By)
		r.Private = r.Private || s.By == ""
	}
	r.Links.Self = x.link("/rooms/", string(room)+"/faults/"+string(f.ID))
	r.Links.Fault = r.Links.Self
	r.Links.Room = x.link("/rooms/", string(room))
	return r
}

// faultsReply lists the faults of a room.
type faultsReply struct {
	Embedded struct {
		Faults []faultReply `json:"faults"`
	} `json:"_embedded"`
	Links struct {
		Self   link `json:"self"`
		Faults link `json:"faults"`
		Room   link `json:"room"`
	} `json:"_links"`
}

// roomFaults reads the faults of the room in the path.
func (x *exchange) roomFaults() (domain.RoomID, commands.Faults, error) {
	id, err := x.roomID()
	if err != nil {
		return "", commands.Faults{}, err
	}
	f, err := x.server.lists.Faults(x.ctx, id)
	return id, f, err
}

func (s *Server) faults(x *exchange) error {
	room, faults, err := x.roomFaults()
	if err != nil {
		return err
	}
	x.setValidators(faults.Revision, faults.Position)
	r := faultsReply{}
	r.Embedded.Faults = []faultReply{}
	for _, f := range faults.Open {
		r.Embedded.Faults = append(r.Embedded.Faults, x.faultReply(room, f))
	}
	for _, f := range slices.Backward(faults.Settled) {
		r.Embedded.Faults = append(r.Embedded.Faults, x.faultReply(room, f))
	}
	r.Links.Room = x.link("/rooms/", string(room))
	r.Links.Self = x.link("/rooms/", string(room)+"/faults")
	r.Links.Faults = r.Links.Self
	return x.reply(&r)
}

func (s *Server) fault(x *exchange) error {
	room, faults, err := x.roomFaults()
	if err != nil {
		return err
	}
	f, found := faults.Find(domain.FaultID(x.vars["faultId"]))
	if !found {
		return domain.ErrFaultNotFound
	}
	return x.replyFault(room, commands.Fault{RoomFault: f, Revision: faults.Revision, Position: faults.Position})
}

// replyFault replies with a fault as a command or a read of its stream has it.
func (x *exchange) replyFault(room domain.RoomID, f commands.Fault) error {
	x.setValidators(f.Revision, f.Position)
	return x.reply(new(x.faultReply(room, x.server.lists.fault(x.ctx, room, f.RoomFault))))
}

// faultRequest is the body that reports a fault.
type faultRequest struct {
	Equipment field          `json:"equipment"`
	Text      field          `json:"text"`
	Others    jsontext.Value `json:",embed"`
}

func (s *Server) reportFault(x *exchange) error {
	var in faultRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	var c commands.ReportFault
	b.value(&in.Equipment, &c.Equipment)
	b.value(&in.Text, &c.Text)
	if err := b.check(in.Others); err != nil {
		return err
	}
	if c.Room, c.Request, err = x.roomRequest(); err != nil {
		return err
	}
	f, err := s.commands.ReportFault(x.ctx, c)
	if err != nil {
		return x.inBody(err, nil)
	}
	if f.ID == domain.FaultID(c.ID.String()) {
		x.created("/rooms/", string(c.Room)+"/faults/"+string(f.ID))
	}
	return x.replyFault(c.Room, f)
}

// faultSettlementRequest is the body that settles a fault.
type faultSettlementRequest struct {
	Status field          `json:"status"`
	Note   field          `json:"note"`
	Others jsontext.Value `json:",embed"`
}

func (s *Server) settleFault(x *exchange) error {
	var in faultSettlementRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.SettleFault{Fault: domain.FaultID(x.vars["faultId"])}
	b.oneOf(&in.Status, faultSettled)
	b.value(&in.Note, &c.Note)
	if err := b.check(in.Others); err != nil {
		return err
	}
	if c.Room, c.Request, err = x.roomRequest(); err != nil {
		return err
	}
	f, err := s.commands.SettleFault(x.ctx, c)
	if err != nil {
		return x.inBody(err, nil)
	}
	return x.replyFault(c.Room, f)
}
