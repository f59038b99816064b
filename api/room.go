package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

func (s *Server) roomRoutes() []route {
	return []route{
		// The registered rooms.
		{method: "GET", path: "/rooms", handle: s.rooms, params: roomsParams{}},
		// Registers a room.
		{method: "POST", path: "/rooms", handle: s.registerRoom},
		// A room as it is.
		{method: "GET", path: "/rooms/{id}", handle: s.room},
		// Replaces the room's details.
		{method: "PUT", path: "/rooms/{id}", handle: s.changeRoom},
		// Retires the room.
		{method: "DELETE", path: "/rooms/{id}", handle: s.retireRoom, params: retireParams{}},
		// Ends the room's retirement.
		{method: "POST", path: "/rooms/{id}/reinstate", handle: s.reinstateRoom},
		// Everything that happened to the room itself.
		{method: "GET", path: "/rooms/{id}/history", handle: s.roomHistory, params: historyParams{}},
		// The live bookings that the room's present rules would not allow.
		{method: "GET", path: "/rooms/{id}/conflicts", handle: s.roomConflicts},
	}
}

// roomFilterParams are the query parameters that select rooms.
type roomFilterParams struct {
	// Only rooms for at least so many persons.
	Capacity string `param:"capacity"`
	// Only rooms that have this, whatever its case and accents. Several are separated by commas; a room then has all of them. What has a comma in its name is found by its name.
	Equipment string `param:"equipment"`
	// Only rooms in this building, whatever its case and accents.
	Building string `param:"building"`
	// Only rooms on this floor, whatever its case and accents.
	Floor string `param:"floor"`
}

// roomsParams are the query parameters of the directory of rooms.
type roomsParams struct {
	roomFilterParams
	// Only rooms with this in their name, id or note, whatever its case and accents.
	Text string `param:"text"`
	// Whether to show rooms that have been retired by now: true or false.
	Retired string `param:"retired"`
	// The order, and after a comma asc or desc: capacity,desc. The order of building is by building, floor and name.
	Sort string `param:"sort"`
	// The most items on the page.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
	// Whether to count the items of all pages (page.totalElements): true or false.
	Total string `param:"total"`
}

// rooms replies with a page of the directory.
func (s *Server) rooms(x *exchange) error {
	q := projections.RoomQuery{RoomFilter: projections.RoomFilter{Now: x.now()}}
	err := x.listParams(&q.MinPosition, func(name, value string) (err error) {
		switch name {
		case "text":
			q.Text, err = parseText(value)
		case "retired":
			var retired bool
			if retired, err = parseBool(value); retired {
				q.Now = time.Time{}
			}
		case "sort":
			q.Sort, q.Descending, err = parseSort(value, projections.RoomSorts)
		case "size":
			q.Size, err = parseSize(value)
		case "cursor":
			q.Cursor = value
		case "total":
			q.Total, err = parseBool(value)
		default:
			err = parseRoomFilter(&q.RoomFilter, name, value)
		}
		return err
	})
	if err != nil {
		return err
	}
	page, err := s.lists.Rooms(x.ctx, q)
	if err != nil {
		return asParameters(err)
	}
	items := make([]roomReply, len(page.Items))
	for i := range page.Items {
		items[i] = x.roomListReply(&page.Items[i])
	}
	return replyPage(x, "rooms", func(l *pageLinks) *link { return &l.Rooms }, q.Size, &page, items)
}

// parseRoomFilter parses a parameter of roomFilterParams.
func parseRoomFilter(f *projections.RoomFilter, name, value string) (err error) {
	switch name {
	case "capacity":
		f.Capacity, err = strconv.Atoi(value)
		if err != nil || f.Capacity < 1 {
			err = errors.New("must be a whole number from 1 on")
		}
	case "equipment":
		f.Equipment, err = parseNames(value)
	case "building":
		f.Building, err = parseText(value)
	case "floor":
		f.Floor, err = parseText(value)
	default:
		err = errUnknownParameter
	}
	return err
}

// roomReply is a room.
type roomReply struct {
	RoomID         domain.RoomID          `json:"roomId"`
	Name           string                 `json:"name"`
	Building       string                 `json:"building,omitzero"`
	Floor          string                 `json:"floor,omitzero"`
	Capacity       int                    `json:"capacity,omitzero"`
	Equipment      []string               `json:"equipment,omitzero"`
	Zone           string                 `json:"zone,omitzero"`
	Colour         string                 `json:"colour,omitzero"`
	Note           string                 `json:"note,omitzero"`
	Approvers      []domain.UserID        `json:"approvers,omitzero"`
	Photo          domain.Photo           `json:"photo,omitzero"`
	Status         projections.RoomStatus `json:"status"`
	RetiredFromDtm *timestamp             `json:"retiredFromDtm"`
	Links          roomLinks              `json:"_links"`
}

type roomLinks struct {
	Self      link `json:"self"`
	Room      link `json:"room"`
	Rules     link `json:"rules"`
	Closures  link `json:"closures"`
	Photo     link `json:"photo"`
	Calendar  link `json:"calendar"`
	Occupancy link `json:"occupancy"`
	History   link `json:"history"`
	Conflicts link `json:"conflicts"`
}

func (x *exchange) roomReply(id domain.RoomID, d domain.Details, photo domain.Photo, retiredFrom time.Time) roomReply {
	r := roomReply{
		RoomID: id, Name: d.Name, Building: d.Building, Floor: d.Floor, Capacity: d.Capacity, Equipment: d.Equipment, Zone: d.Zone, Colour: d.Colour, Note: d.Note,
		Approvers: d.Approvers, Photo: photo, Status: projections.RoomRegistered,
	}
	if !retiredFrom.IsZero() {
		r.Status, r.RetiredFromDtm = projections.RoomRetired, x.timeOrNull(retiredFrom)
	}
	of := func(what string) link { return x.link("/rooms/", string(id)+what) }
	picture := of("/photo")
	if photo.Hash != "" {
		picture = of("/photo?hash=" + string(photo.Hash))
	}
	r.Links = roomLinks{
		Self: of(""), Room: of(""), Rules: of("/rules"), Closures: of("/closures"), Photo: picture, Calendar: of("/calendar.ics"),
		Occupancy: link{Href: href{x.base, "/occupancy?roomId=", string(id) + "{&from,to}"}, Templated: true}, History: of("/history"), Conflicts: of("/conflicts"),
	}
	return r
}

func (x *exchange) roomListReply(l *projections.RoomList) roomReply {
	var photo domain.Photo
	if l.Photo != nil {
		photo = *l.Photo
	}
	return x.roomReply(l.Room, l.Details(), photo, l.RetiredFrom)
}

// replyRoom replies with a room that a command or a read of its stream returned.
func (x *exchange) replyRoom(r commands.Room) error {
	x.setValidators(r.Revision, r.Position)
	var retiredFrom time.Time
	if r.Retirement != nil {
		retiredFrom = r.Retirement.From
	}
	return x.reply(new(x.roomReply(r.ID, r.Details, r.Photo, retiredFrom)))
}

// roomID returns the room in the path.
func (x *exchange) roomID() (domain.RoomID, error) {
	id := x.vars["id"]
	if !validID(id) {
		return "", domain.ErrRoomNotFound
	}
	return domain.RoomID(id), nil
}

// roomRequest returns the room in the path and the request of a command on it.
func (x *exchange) roomRequest() (room domain.RoomID, r commands.Request, err error) {
	if room, err = x.roomID(); err == nil {
		r, err = x.request("")
	}
	return room, r, err
}

// room reads the room in the path.
func (x *exchange) room() (commands.Room, error) {
	id, err := x.roomID()
	if err != nil {
		return commands.Room{}, err
	}
	return x.server.commands.Room(x.ctx, id)
}

// roomHandler returns the handler of a command on the room in the path, which replies with the room.
func roomHandler(do func(x *exchange, id domain.RoomID) (commands.Room, error)) handler {
	return func(x *exchange) error {
		id, err := x.roomID()
		if err != nil {
			return err
		}
		r, err := do(x, id)
		if err != nil {
			return err
		}
		return x.replyRoom(r)
	}
}

func (s *Server) room(x *exchange) error {
	r, err := x.room()
	if err != nil {
		return err
	}
	return x.replyRoom(r)
}

// detailsRequest is the body that replaces a room's details. The last members are read-only: they are accepted so that a reply can be
// sent back as it is.
type detailsRequest struct {
	Name           field          `json:"name"`
	Building       field          `json:"building"`
	Floor          field          `json:"floor"`
	Capacity       field          `json:"capacity"`
	Equipment      field          `json:"equipment"`
	Zone           field          `json:"zone"`
	Colour         field          `json:"colour"`
	Note           field          `json:"note"`
	Approvers      field          `json:"approvers"`
	RoomID         field          `json:"roomId"`
	Photo          field          `json:"photo"`
	Status         field          `json:"status"`
	RetiredFromDtm field          `json:"retiredFromDtm"`
	Links          field          `json:"_links"`
	Others         jsontext.Value `json:",embed"`
}

// details returns what the body says of a room, and adds what the domain finds wrong with it to the faults.
func (b *body) details(in *detailsRequest) domain.Details {
	var d domain.Details
	b.require(&in.Name)
	b.value(&in.Name, &d.Name)
	b.value(&in.Building, &d.Building)
	b.value(&in.Floor, &d.Floor)
	b.value(&in.Capacity, &d.Capacity)
	b.value(&in.Equipment, &d.Equipment)
	b.value(&in.Zone, &d.Zone)
	b.value(&in.Colour, &d.Colour)
	b.value(&in.Note, &d.Note)
	for _, user := range b.ids(&in.Approvers) {
		d.Approvers = append(d.Approvers, domain.UserID(user))
	}
	_, faults := d.Normal()
	b.domainFaults(faults)
	return d
}

func (s *Server) registerRoom(x *exchange) error {
	var in detailsRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.RegisterRoom{Room: domain.RoomID(b.id(&in.RoomID)), Details: b.details(&in)}
	if err := b.check(in.Others); err != nil {
		return err
	}
	if c.Request, err = x.request(""); err != nil {
		return err
	}
	r, err := s.commands.RegisterRoom(x.ctx, c)
	if err != nil {
		return x.inBody(err, nil)
	}
	x.created("/rooms/", string(r.ID))
	return x.replyRoom(r)
}

func (s *Server) changeRoom(x *exchange) error {
	var in detailsRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.ChangeRoom{Details: b.details(&in)}
	b.pathID(&in.RoomID, x.vars["id"])
	if err := b.check(in.Others); err != nil {
		return err
	}
	return roomHandler(func(x *exchange, id domain.RoomID) (_ commands.Room, err error) {
		c.Room = id
		if c.Request, err = x.request(""); err != nil {
			return commands.Room{}, err
		}
		r, err := s.commands.ChangeRoom(x.ctx, c)
		return r, x.inBody(err, nil)
	})(x)
}

// retireParams are the query parameters of a retirement.
type retireParams struct {
	// When it begins (RFC 3339, the compact local forms, or a date alone, from its beginning); now if it is left out.
	From string `param:"from"`
	// What becomes of the bookings that end later: keep, which is usual, or cancel.
	Bookings string `param:"bookings"`
}

func (s *Server) retireRoom(x *exchange) error {
	var c commands.RetireRoom
	err := x.params(func(name, value string) (err error) {
		switch name {
		case "from":
			c.From, err = parseBound(value, s.zone, false)
		case "bookings":
			if c.Bookings = domain.AffectedBookings(value); c.Bookings != domain.KeepBookings && c.Bookings != domain.CancelBookings {
				err = errors.New("must be keep or cancel")
			}
		default:
			err = errUnknownParameter
		}
		return err
	})
	if err != nil {
		return err
	}
	return roomHandler(func(x *exchange, id domain.RoomID) (_ commands.Room, err error) {
		c.Room = id
		if c.Request, err = x.request(""); err != nil {
			return commands.Room{}, err
		}
		return s.commands.RetireRoom(x.ctx, c)
	})(x)
}

func (s *Server) reinstateRoom(x *exchange) error {
	return roomHandler(func(x *exchange, id domain.RoomID) (commands.Room, error) {
		request, err := x.request("")
		if err != nil {
			return commands.Room{}, err
		}
		return s.commands.ReinstateRoom(x.ctx, commands.ReinstateRoom{Request: request, Room: id})
	})(x)
}

func (s *Server) roomHistory(x *exchange) error {
	r, err := x.history("/rooms/", domain.ErrRoomNotFound, func(id string) ([]eventstore.Recorded, error) {
		return s.lists.RoomHistory(x.ctx, domain.RoomID(id))
	})
	if err != nil {
		return err
	}
	r.Links.Room = x.link("/rooms/", x.vars["id"])
	return x.reply(r)
}

// conflictsReply lists the live bookings of a room that its present rules, closures or retirement would not allow.
type conflictsReply struct {
	Embedded struct {
		Conflicts []roomConflictReply `json:"conflicts"`
	} `json:"_embedded"`
	MoreConflicts int `json:"moreConflicts"`
	Links         struct {
		Self      link `json:"self"`
		Conflicts link `json:"conflicts"`
		Room      link `json:"room"`
	} `json:"_links"`
}

// roomConflictReply is a booking, and why it would not be allowed.
type roomConflictReply struct {
	BookingID domain.BookingID `json:"bookingId"`
	bookedFor
	UseStartDtm timestamp      `json:"useStartDtm"`
	UseEndDtm   timestamp      `json:"useEndDtm"`
	Status      domain.Phase   `json:"status"`
	Broken      []brokenRule   `json:"broken"`
	Closures    []closureReply `json:"closures"`
	Retired     bool           `json:"retired"`
	Links       struct {
		Booking link `json:"booking"`
	} `json:"_links"`
}

func (s *Server) roomConflicts(x *exchange) error {
	id, err := x.roomID()
	if err != nil {
		return err
	}
	conflicts, more, err := s.lists.RoomConflicts(x.ctx, id, x.now())
	if err != nil {
		return err
	}
	r := conflictsReply{MoreConflicts: more}
	r.Embedded.Conflicts = make([]roomConflictReply, len(conflicts))
	for i, c := range conflicts {
		of := roomConflictReply{
			BookingID: c.Booking.ID, bookedFor: x.bookedFor(c.Booking.User), UseStartDtm: x.time(c.Booking.Slot.Start), UseEndDtm: x.time(c.Booking.Slot.End), Status: c.Booking.Phase(),
			Broken: brokenRules(c.Broken, s.zone), Closures: x.closureReplies(id, c.Closures), Retired: c.Retired,
		}
		of.Links.Booking = x.link("/bookings/", string(c.Booking.ID))
		r.Embedded.Conflicts[i] = of
	}
	r.Links.Self = x.link("/rooms/", string(id)+"/conflicts")
	r.Links.Conflicts = r.Links.Self
	r.Links.Room = x.link("/rooms/", string(id))
	return x.reply(&r)
}
