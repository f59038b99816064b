package api

import (
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) roomUseListRoutes() []route {
	l := s.roomUseLists()
	return []route{
		// Booked time against time actually used.
		{method: "GET", path: "/roomUseLists", handle: l.page, params: listParams{}},
		// One booking and its use.
		{method: "GET", path: "/roomUseLists/{id}", handle: listEntry(false, s.lists.RoomUseList, (*exchange).roomUseListReply)},
		// The same as a search.
		{method: "GET", path: "/roomUseLists/search/findByBookingId", handle: l.findByBookingID, params: searchParams{}},
	}
}

// roomUseListReply is an entry of the room-use list.
type roomUseListReply struct {
	BookingID domain.BookingID `json:"bookingId"`
	RoomID    domain.RoomID    `json:"roomId"`
	bookedFor
	BookedUseStartDtm timestamp          `json:"bookedUseStartDtm"`
	BookedUseEndDtm   timestamp          `json:"bookedUseEndDtm"`
	Status            projections.Status `json:"status"`
	RealUseID         *domain.RealUseID  `json:"realUseId"`
	RealUseStartDtm   *timestamp         `json:"realUseStartDtm"`
	RealUseEndDtm     *timestamp         `json:"realUseEndDtm"`
	RoomStillInUseBy  domain.BookingID   `json:"roomStillInUseBy,omitzero"`
	BookedMinutes     int                `json:"bookedMinutes"`
	UsedMinutes       *int               `json:"usedMinutes"`
	Links             struct {
		Self        link `json:"self"`
		RoomUseList link `json:"roomUseList"`
	} `json:"_links"`
}

func (x *exchange) roomUseListReply(u *projections.RoomUseList) (r roomUseListReply) {
	r.BookingID, r.RoomID, r.bookedFor, r.Status = u.Booking, u.Room, x.bookedFor(u.User), u.Status
	r.BookedUseStartDtm, r.BookedUseEndDtm, r.BookedMinutes = x.time(u.Start), x.time(u.End), u.BookedMinutes
	r.RealUseID, r.RoomStillInUseBy = orNull(u.RealUse), u.RoomStillInUseBy
	r.RealUseStartDtm, r.RealUseEndDtm = x.timeOrNull(u.StartedAt), x.timeOrNull(u.EndedAt)
	if r.RealUseEndDtm != nil {
		r.UsedMinutes = new(u.UsedMinutes)
	}
	r.Links.Self = x.link("/roomUseLists/", string(u.Booking))
	r.Links.RoomUseList = r.Links.Self
	return r
}

func (s *Server) roomUseLists() *list[projections.RoomUseList, roomUseListReply] {
	return &list[projections.RoomUseList, roomUseListReply]{
		server:   s,
		name:     "roomUseLists",
		link:     func(l *pageLinks) *link { return &l.RoomUseLists },
		sorts:    roomUseListSorts(),
		statuses: bookingStatuses(),
		query:    s.lists.RoomUseLists,
		reply:    (*exchange).roomUseListReply,
	}
}

func roomUseListSorts() []string {
	return []string{"bookedUseStartDtm", "bookingDtm", "roomId", "bookingUserId", "status"}
}

// realUses is the collection of the uses that have started.
func (s *Server) realUses() *list[projections.RoomUseList, realUseReply] {
	return &list[projections.RoomUseList, realUseReply]{
		server:   s,
		name:     "realuses",
		link:     func(l *pageLinks) *link { return &l.Realuses },
		sorts:    roomUseListSorts(),
		statuses: stringsOf(projections.StatusInUse, projections.StatusEnded),
		defaults: []string{projections.StatusAll},
		used:     true,
		query:    s.lists.RoomUseLists,
		reply: func(x *exchange, u *projections.RoomUseList) realUseReply {
			use := domain.RealUse{ID: u.RealUse, Booking: u.Booking, Room: u.Room, User: u.User, StartedAt: u.StartedAt, RoomStillInUseBy: u.RoomStillInUseBy}
			if !u.EndedAt.IsZero() {
				use.End = &domain.UseEnd{At: u.EndedAt}
			}
			return x.realUseReply(&use)
		},
	}
}
