package api

import (
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) bookingListRoutes() []route {
	l := s.bookingLists()
	return []route{
		// The bookings, past ones included.
		{method: "GET", path: "/bookingLists", handle: l.page, params: listParams{}},
		// One booking, whatever its status.
		{method: "GET", path: "/bookingLists/{id}", handle: listEntry(true, s.lists.BookingList, (*exchange).bookingListReply)},
		// The same as a search.
		{method: "GET", path: "/bookingLists/search/findByBookingId", handle: l.findByBookingID, params: searchParams{}},
	}
}

// bookingListReply is an entry of the booking list.
type bookingListReply struct {
	BookingID domain.BookingID `json:"bookingId"`
	RoomID    domain.RoomID    `json:"roomId"`
	RoomName  string           `json:"roomName,omitzero"`
	bookedFor
	UseStartDtm     timestamp            `json:"useStartDtm"`
	UseEndDtm       timestamp            `json:"useEndDtm"`
	BookingDtm      timestamp            `json:"bookingDtm"`
	Status          projections.Status   `json:"status"`
	ConfirmStatus   domain.Answer        `json:"confirmStatus"`
	ConfirmDtm      *timestamp           `json:"confirmDtm"`
	ConfirmUserID   *domain.UserID       `json:"confirmUserId"`
	ConfirmUserName **string             `json:"confirmUserName,omitzero"`
	ConfirmReason   *string              `json:"confirmReason"`
	CancelReason    *domain.CancelReason `json:"cancelReason"`
	CancelDetail    string               `json:"cancelDetail,omitzero"`
	CancelDtm       *timestamp           `json:"cancelDtm"`
	Links           struct {
		Self        link `json:"self"`
		BookingList link `json:"bookingList"`
	} `json:"_links"`
}

func (x *exchange) bookingListReply(b *projections.BookingList) (r bookingListReply) {
	r.BookingID, r.RoomID, r.RoomName, r.bookedFor = b.Booking, b.Room, x.roomName(b.Room), x.bookedFor(b.User)
	r.UseStartDtm, r.UseEndDtm, r.BookingDtm = x.time(b.Start), x.time(b.End), x.time(b.BookedAt)
	r.Status = b.Status
	r.ConfirmStatus, r.ConfirmDtm = b.ConfirmStatus, x.timeOrNull(b.ConfirmedAt)
	r.ConfirmUserID, r.ConfirmUserName, r.ConfirmReason = orNull(b.ConfirmUser), x.userName(b.ConfirmUser), orNull(b.ConfirmReason)
	r.CancelDetail = b.CancelDetail
	r.CancelReason, r.CancelDtm = orNull(b.CancelReason), x.timeOrNull(b.CancelledAt)
	r.Links.Self = x.link("/bookingLists/", string(b.Booking))
	r.Links.BookingList = r.Links.Self
	return r
}

func (s *Server) bookingLists() *list[projections.BookingList, bookingListReply] {
	return &list[projections.BookingList, bookingListReply]{
		server:   s,
		name:     "bookingLists",
		link:     func(l *pageLinks) *link { return &l.BookingLists },
		named:    true,
		sorts:    bookingListSorts(),
		statuses: bookingStatuses(),
		query:    s.lists.BookingLists,
		reply:    (*exchange).bookingListReply,
	}
}

func bookingListSorts() []string {
	return []string{"useStartDtm", "bookingDtm", "roomId", "bookingUserId", "status"}
}

// bookingItem is a booking in the collection of live bookings.
type bookingItem struct {
	BookingID   domain.BookingID `json:"bookingId"`
	RoomID      domain.RoomID    `json:"roomId"`
	UseStartDtm timestamp        `json:"useStartDtm"`
	UseEndDtm   timestamp        `json:"useEndDtm"`
	bookedFor
	Status projections.Status `json:"status"`
	Links  struct {
		Self    link `json:"self"`
		Booking link `json:"booking"`
	} `json:"_links"`
}

func (x *exchange) bookingItem(b *projections.BookingList) (r bookingItem) {
	r.BookingID, r.RoomID, r.bookedFor, r.Status = b.Booking, b.Room, x.bookedFor(b.User), b.Status
	r.UseStartDtm, r.UseEndDtm = x.time(b.Start), x.time(b.End)
	r.Links.Self = x.link("/bookings/", string(b.Booking))
	r.Links.Booking = r.Links.Self
	return r
}

// bookings is the collection of the live bookings.
func (s *Server) bookings() *list[projections.BookingList, bookingItem] {
	return &list[projections.BookingList, bookingItem]{
		server:   s,
		name:     "bookings",
		link:     func(l *pageLinks) *link { return &l.Bookings },
		sorts:    bookingListSorts(),
		statuses: bookingStatuses(),
		defaults: liveStatuses(),
		query:    s.lists.BookingLists,
		reply:    (*exchange).bookingItem,
	}
}

// confirms is the collection of the administrator's answers: those to live bookings, and denials.
func (s *Server) confirms() *list[projections.BookingList, confirmReply] {
	return &list[projections.BookingList, confirmReply]{
		server:   s,
		name:     "confirms",
		link:     func(l *pageLinks) *link { return &l.Confirms },
		sorts:    bookingListSorts(),
		statuses: stringsOf(domain.AnswerPending, domain.Confirmed, domain.Denied),
		defaults: stringsOf(domain.AnswerPending, domain.Confirmed),
		byAnswer: true,
		query:    s.lists.BookingLists,
		reply: func(x *exchange, b *projections.BookingList) confirmReply {
			return x.confirmReply(b.Booking, b.User, domain.Confirm{Answer: b.ConfirmStatus, By: b.ConfirmUser, Reason: b.ConfirmReason, At: b.ConfirmedAt})
		},
	}
}
