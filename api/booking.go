package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

func (s *Server) bookingRoutes() []route {
	return []route{
		// Books a room.
		{method: "POST", path: "/bookings", handle: s.createBooking},
		// The live bookings, from the booking list.
		{method: "GET", path: "/bookings", handle: s.bookings().page, params: listParams{}},
		// A booking as it stands, or as it was.
		{method: "GET", path: "/bookings/{id}", handle: s.booking, params: bookingParams{}},
		// Changes some of the booking's values.
		{method: "PATCH", path: "/bookings/{id}", handle: s.changeBooking},
		// Changes the booking to these values.
		{method: "PUT", path: "/bookings/{id}", handle: s.replaceBooking},
		// Cancels the booking.
		{method: "DELETE", path: "/bookings/{id}", handle: s.cancelBooking},
		// Everything that happened to the booking.
		{method: "GET", path: "/bookings/{id}/history", handle: s.history, params: historyParams{}},
	}
}

// bookingFields are the names under which a booking's body has what the domain may find fault with.
var bookingFields = fields{domain.FieldStart: "useStartDtm", domain.FieldEnd: "useEndDtm"}

func (s *Server) createBooking(x *exchange) error {
	b, err := x.decode()
	if err != nil {
		return err
	}
	c := commands.CreateBooking{
		Room: domain.RoomID(b.id("roomId")),
		User: domain.UserID(b.id("bookingUserId")),
		Slot: domain.Slot{Start: b.time("useStartDtm"), End: b.end("useEndDtm")},
	}
	if err := b.check(doubtful(s.policy, c.Slot, x.now())...); err != nil {
		return err
	}
	if c.Request, err = x.request(c.User); err != nil {
		return err
	}
	booking, err := s.commands.CreateBooking(x.ctx, c)
	if err != nil {
		return x.inBody(err, bookingFields)
	}
	x.created("/bookings/", string(booking.ID))
	x.booking(booking)
	return nil
}

// doubtful is what a policy has against a slot. A command says it itself, and knows whether it is a repeat of one that was
// carried out; here it is only told along with what the body is refused for anyway.
func doubtful(p domain.Policy, slot domain.Slot, now time.Time) []fault {
	if slot.Start.IsZero() || slot.End.IsZero() {
		return nil
	}
	return faultsAt(p.CheckSlot(slot, now), bookingFields)
}

func (s *Server) changeBooking(x *exchange) error {
	b, err := x.decode()
	if err != nil {
		return err
	}
	return s.change(x, b, b.has)
}

func (s *Server) replaceBooking(x *exchange) error {
	b, err := x.decode()
	if err != nil {
		return err
	}
	return s.change(x, b, func(string) bool { return true })
}

// change changes the values of a booking that the body must have.
func (s *Server) change(x *exchange, b *body, must func(name string) bool) error {
	c := commands.ChangeBooking{Booking: domain.BookingID(x.vars["id"])}
	var slot domain.Slot
	var user domain.UserID
	if must("roomId") {
		room := domain.RoomID(b.id("roomId"))
		c.Room = &room
	}
	if must("bookingUserId") {
		user = domain.UserID(b.id("bookingUserId"))
		c.User = &user
	}
	if must("useStartDtm") {
		slot.Start = b.time("useStartDtm")
		c.Start = &slot.Start
	}
	if must("useEndDtm") {
		slot.End = b.end("useEndDtm")
		c.End = &slot.End
	}
	c.Phase = b.readOnly(c.Booking)
	policy := s.policy
	policy.RefusePast = false // the start may be the one that the booking has
	if err := b.check(doubtful(policy, slot, x.now())...); err != nil {
		return err
	}
	if !validID(string(c.Booking)) {
		return domain.ErrBookingNotFound
	}
	var err error
	if c.Request, err = x.request(user); err != nil {
		return err
	}
	booking, err := s.commands.ChangeBooking(x.ctx, c)
	if other, ok := errors.AsType[*commands.OtherPhase](err); ok {
		detail := "must be " + string(other.Phase) + ", as it is, or left out: it follows from what happens to the booking"
		return &invalidBody{faults: []fault{{pointerTo("status"), detail}}}
	}
	if err != nil {
		return x.inBody(err, bookingFields)
	}
	x.booking(booking)
	return nil
}

// readOnly takes the members of a booking that its answers have and that follow from others: what was answered may be sent back. It
// returns the status, which is empty if it is not among them.
func (b *body) readOnly(id domain.BookingID) (status domain.Phase) {
	b.find("_links")
	if b.given("bookingId") {
		if given := b.id("bookingId"); given != "" && given != string(id) {
			b.fault("bookingId", "must be the id in the path, or left out")
		}
	}
	if b.given("status") {
		status = domain.Phase(b.oneOf("status", live()...))
	}
	return status
}

func (s *Server) cancelBooking(x *exchange) error {
	id := domain.BookingID(x.vars["id"])
	if !validID(string(id)) {
		return domain.ErrBookingNotFound
	}
	request, err := x.request("")
	if err != nil {
		return err
	}
	booking, err := s.commands.CancelBooking(x.ctx, commands.CancelBooking{Request: request, Booking: id})
	if err != nil {
		return err
	}
	x.status = http.StatusNoContent
	x.position(booking.Position)
	return nil
}

// bookingParams are the query parameters of a booking.
type bookingParams struct {
	// Answer as at this time (RFC 3339, or the compact local forms) or at this position in the log. A number that is a time in the compact
	// form is a time.
	AsOf string `param:"asOf"`
}

func (s *Server) booking(x *exchange) error {
	var asOf *commands.AsOf
	var failed error
	err := x.params(func(name, value string) error {
		if name != "asOf" {
			return errUnknownParameter
		}
		moment, err := s.moment(x.ctx, value)
		asOf = &moment
		if fault, ok := errors.AsType[timeFault](err); ok {
			return fault
		}
		failed = err
		return nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	id := domain.BookingID(x.vars["id"])
	if !validID(string(id)) {
		return domain.ErrBookingNotFound
	}
	if asOf == nil {
		booking, err := s.commands.Booking(x.ctx, id)
		if err != nil {
			return err
		}
		x.booking(booking)
		return nil
	}
	booking, err := s.commands.BookingAsOf(x.ctx, id, *asOf)
	if err != nil {
		return err
	}
	if over := booking.Cancellation; over != nil {
		return &domain.AlreadyCancelled{Booking: id, Reason: over.Reason, At: over.At}
	}
	x.booking(booking)
	return nil
}

// moment reads a time or, where it is none, a position, which must be one that the log has reached.
func (s *Server) moment(ctx context.Context, value string) (commands.AsOf, error) {
	t, err := parseTime(queryTime(value), s.zone)
	if err == nil {
		return commands.AsOf{Time: t}, nil
	}
	position, notANumber := strconv.ParseUint(value, 10, 64)
	switch {
	case notANumber != nil && strings.ContainsAny(value, "-:"):
		return commands.AsOf{}, err
	case notANumber != nil || position == 0:
		return commands.AsOf{}, timeFault("must be a time (RFC 3339, or yyyyMMddHHmm or yyyyMMddHHmmss) or a position, a positive whole number")
	}
	end, err := s.end(ctx)
	if err == nil && eventstore.Position(position) > end {
		err = timeFault(fmt.Sprintf("must be a position that the log has reached; it ends at %d", end))
	}
	return commands.AsOf{Position: eventstore.Position(position)}, err
}

// created is the answer to what made a resource.
func (x *exchange) created(path, id string) {
	x.status = http.StatusCreated
	x.header("Location", x.base+path+id)
}

// booking answers with a booking.
func (x *exchange) booking(b commands.Booking) {
	x.stands(b.Revision, b.Position)
	id := string(b.ID)
	x.beginObject()
	x.text("bookingId", id)
	x.text("roomId", string(b.Room))
	x.slot(b.Slot)
	x.text("bookingUserId", string(b.User))
	x.text("status", string(b.Phase()))
	x.beginLinks()
	x.link("self", "/bookings/", id)
	x.link("booking", "/bookings/", id)
	x.link("confirm", "/confirms/", id)
	if b.Use != nil {
		x.link("realUse", "/realuses/", string(b.Use.RealUse))
	}
	x.link("history", "/bookings/", id, "/history")
	x.link("bookingList", "/bookingLists/", id)
	x.endObject()
	x.endObject()
}
