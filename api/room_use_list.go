package api

import (
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) roomUseListRoutes() []route {
	l := s.roomUseLists()
	return []route{
		// What was booked against what was really used.
		{method: "GET", path: "/roomUseLists", handle: l.page, params: listParams{}},
		// One booking and its use.
		{method: "GET", path: "/roomUseLists/{id}", handle: s.roomUseList},
		// The same as a search.
		{method: "GET", path: "/roomUseLists/search/findByBookingId", handle: l.findByBookingID, params: searchParams{}},
	}
}

func (s *Server) roomUseLists() *list[projections.RoomUseList] {
	return &list[projections.RoomUseList]{
		server:   s,
		name:     "roomUseLists",
		sorts:    []string{"bookedUseStartDtm", "bookingDtm", "roomId", "bookingUserId", "status"},
		statuses: bookingStatuses(),
		query:    s.lists.RoomUseLists,
		write:    (*document).roomUseList,
	}
}

// realUses is the collection of the uses that have started.
func (s *Server) realUses() *list[projections.RoomUseList] {
	l := s.roomUseLists()
	l.name = "realuses"
	l.statuses = words(projections.StatusInUse, projections.StatusEnded)
	l.used, l.usual = true, []string{projections.StatusAll}
	l.write = func(d *document, u *projections.RoomUseList) {
		d.realUse(&domain.RealUse{
			ID: u.RealUse, Booking: u.Booking, Room: u.Room, User: u.User, StartedAt: u.StartedAt, EndedAt: u.EndedAt, RoomStillInUseBy: u.RoomStillInUseBy,
		})
	}
	return l
}

func (s *Server) roomUseList(x *exchange) error {
	id, min, err := listed[domain.BookingID](x)
	if err != nil {
		return err
	}
	u, err := s.lists.RoomUseList(x.ctx, id, min)
	if err != nil {
		return err
	}
	x.document.roomUseList(&u)
	return nil
}

func (d *document) roomUseList(u *projections.RoomUseList) {
	id := string(u.Booking)
	d.beginObject()
	d.text("bookingId", id)
	d.text("roomId", string(u.Room))
	d.text("bookingUserId", string(u.User))
	d.time("bookedUseStartDtm", u.Start)
	d.time("bookedUseEndDtm", u.End)
	d.text("status", string(u.Status))
	d.textOrNull("realUseId", string(u.RealUse))
	d.time("realUseStartDtm", u.StartedAt)
	d.time("realUseEndDtm", u.EndedAt)
	d.stillInUseBy(u.RoomStillInUseBy)
	d.number("bookedMinutes", int64(u.BookedMinutes))
	if u.EndedAt.IsZero() {
		d.null("usedMinutes")
	} else {
		d.number("usedMinutes", int64(u.UsedMinutes))
	}
	d.beginLinks()
	d.link("self", "/roomUseLists/", id)
	d.link("roomUseList", "/roomUseLists/", id)
	d.endObject()
	d.endObject()
}
