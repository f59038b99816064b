package api

import (
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) bookingListRoutes() []route {
	l := s.bookingLists()
	return []route{
		// What is booked and what was.
		{method: "GET", path: "/bookingLists", handle: l.page, params: listParams{}},
		// One booking, whatever became of it.
		{method: "GET", path: "/bookingLists/{id}", handle: s.bookingList},
		// The same as a search.
		{method: "GET", path: "/bookingLists/search/findByBookingId", handle: l.findByBookingID, params: searchParams{}},
	}
}

func (s *Server) bookingLists() *list[projections.BookingList] {
	return &list[projections.BookingList]{
		server:   s,
		name:     "bookingLists",
		sorts:    []string{"useStartDtm", "bookingDtm", "roomId", "bookingUserId", "status"},
		statuses: bookingStatuses(),
		query:    s.lists.BookingLists,
		write:    (*document).bookingList,
	}
}

// bookings is the collection of the live bookings.
func (s *Server) bookings() *list[projections.BookingList] {
	l := s.bookingLists()
	l.name, l.usual = "bookings", live()
	l.write = func(d *document, b *projections.BookingList) {
		id := string(b.Booking)
		d.beginObject()
		d.text("bookingId", id)
		d.text("roomId", string(b.Room))
		d.slot(domain.Slot{Start: b.Start, End: b.End})
		d.text("bookingUserId", string(b.User))
		d.text("status", string(b.Status))
		d.beginLinks()
		d.link("self", "/bookings/", id)
		d.link("booking", "/bookings/", id)
		d.endObject()
		d.endObject()
	}
	return l
}

// confirms is the collection of the answers to the live bookings, and of the denials.
func (s *Server) confirms() *list[projections.BookingList] {
	l := s.bookingLists()
	l.name, l.answers = "confirms", true
	l.statuses = words(domain.AnswerPending, domain.Confirmed, domain.Denied)
	l.usual = words(domain.AnswerPending, domain.Confirmed)
	l.write = func(d *document, b *projections.BookingList) {
		d.confirm(b.Booking, b.User, domain.Confirm{Answer: b.ConfirmStatus, By: b.ConfirmUser, Reason: b.ConfirmReason, At: b.ConfirmedAt})
	}
	return l
}

func (s *Server) bookingList(x *exchange) error {
	id, min, err := listed[domain.BookingID](x)
	if err != nil {
		return err
	}
	b, err := s.lists.BookingList(x.ctx, id, min)
	if err != nil {
		return err
	}
	x.document.bookingList(&b)
	return nil
}

func (d *document) bookingList(b *projections.BookingList) {
	id := string(b.Booking)
	d.beginObject()
	d.text("bookingId", id)
	d.text("roomId", string(b.Room))
	d.text("bookingUserId", string(b.User))
	d.slot(domain.Slot{Start: b.Start, End: b.End})
	d.time("bookingDtm", b.BookedAt)
	d.text("status", string(b.Status))
	d.text("confirmStatus", string(b.ConfirmStatus))
	d.time("confirmDtm", b.ConfirmedAt)
	d.textOrNull("confirmUserId", string(b.ConfirmUser))
	d.textOrNull("confirmReason", b.ConfirmReason)
	d.textOrNull("cancelReason", string(b.CancelReason))
	d.time("cancelDtm", b.CancelledAt)
	d.beginLinks()
	d.link("self", "/bookingLists/", id)
	d.link("bookingList", "/bookingLists/", id)
	d.endObject()
	d.endObject()
}
