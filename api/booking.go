package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

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
		// A booking as it is, or as it was.
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

// bookingFields are the members of a booking's body that the domain validates.
var bookingFields = names{domain.FieldStart: "useStartDtm", domain.FieldEnd: "useEndDtm"}

// newBookingRequest is the body that creates a booking.
type newBookingRequest struct {
	RoomID        field          `json:"roomId"`
	BookingUserID field          `json:"bookingUserId"`
	UseStartDtm   field          `json:"useStartDtm"`
	UseEndDtm     field          `json:"useEndDtm"`
	Override      field          `json:"override"`
	Others        jsontext.Value `json:",embed"`
}

// bookingChangeRequest is the body that changes or replaces a booking; a replacement must have the first four members. The others are
// read-only: they are accepted so that a reply can be sent back as it is.
type bookingChangeRequest struct {
	RoomID          field          `json:"roomId"`
	BookingUserID   field          `json:"bookingUserId"`
	UseStartDtm     field          `json:"useStartDtm"`
	UseEndDtm       field          `json:"useEndDtm"`
	Override        field          `json:"override"`
	BookingID       field          `json:"bookingId"`
	BookingUserName field          `json:"bookingUserName"`
	Status          field          `json:"status"`
	Links           field          `json:"_links"`
	Others          jsontext.Value `json:",embed"`
}

func (s *Server) createBooking(x *exchange) error {
	var in newBookingRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.CreateBooking{
		Room: domain.RoomID(b.id(&in.RoomID)),
		User: domain.UserID(b.id(&in.BookingUserID)),
		Slot: domain.Slot{Start: b.time(&in.UseStartDtm), End: b.end(&in.UseEndDtm)},
	}
	b.value(&in.Override, &c.Override)
	if err := b.check(in.Others, policyFaults(s.policy, c.Slot, x.now())...); err != nil {
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
	return x.booking(booking)
}

// policyFaults returns the faults that a policy finds in a slot. The command checks the policy itself, because only it knows whether it
// repeats one that was carried out. So these are only reported along with other faults.
func policyFaults(p domain.Policy, slot domain.Slot, now time.Time) []fault {
	if slot.Start.IsZero() || slot.End.IsZero() {
		return nil
	}
	return faultsAt(p.CheckSlot(slot, now), bookingFields)
}

func (s *Server) changeBooking(x *exchange) error { return s.change(x, false) }

func (s *Server) replaceBooking(x *exchange) error { return s.change(x, true) }

// change sets those values of a booking that the body has; to replace the booking it must have all of them.
func (s *Server) change(x *exchange, replace bool) error {
	var in bookingChangeRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	c := commands.ChangeBooking{Booking: domain.BookingID(x.vars["id"])}
	var slot domain.Slot
	var user domain.UserID
	if replace || in.RoomID.present() {
		c.Room = new(domain.RoomID(b.id(&in.RoomID)))
	}
	if replace || in.BookingUserID.present() {
		user = domain.UserID(b.id(&in.BookingUserID))
		c.User = &user
	}
	if replace || in.UseStartDtm.present() {
		slot.Start = b.time(&in.UseStartDtm)
		c.Start = &slot.Start
	}
	if replace || in.UseEndDtm.present() {
		slot.End = b.end(&in.UseEndDtm)
		c.End = &slot.End
	}
	b.value(&in.Override, &c.Override)
	b.pathID(&in.BookingID, string(c.Booking))
	if in.Status.given() {
		c.Phase = domain.Phase(b.oneOf(&in.Status, liveStatuses()...))
	}
	policy := s.policy
	policy.RefusePast = false // the start may be the booking's present one
	if err := b.check(in.Others, policyFaults(policy, slot, x.now())...); err != nil {
		return err
	}
	if !validID(string(c.Booking)) {
		return domain.ErrBookingNotFound
	}
	if c.Request, err = x.request(user); err != nil {
		return err
	}
	booking, err := s.commands.ChangeBooking(x.ctx, c)
	if other, ok := errors.AsType[*commands.OtherPhase](err); ok {
		detail := "must be " + string(other.Phase) + ", as it is, or left out: it follows from what happens to the booking"
		return &invalidBody{faults: []fault{{Pointer: pointerTo("status"), Detail: detail}}}
	}
	if err != nil {
		return x.inBody(err, bookingFields)
	}
	return x.booking(booking)
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
		return x.booking(booking)
	}
	booking, err := s.commands.BookingAsOf(x.ctx, id, *asOf)
	if err != nil {
		return err
	}
	if over := booking.Cancellation; over != nil {
		return &domain.AlreadyCancelled{Booking: id, Reason: over.Reason, At: over.At}
	}
	return x.booking(booking)
}

// moment parses a time or, failing that, a position that the log has already reached.
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

// created sets the status and the Location of a reply that has created a resource.
func (x *exchange) created(path, id string) {
	x.status = http.StatusCreated
	x.header("Location", x.base+path+id)
}

// bookingReply is a booking.
type bookingReply struct {
	BookingID   domain.BookingID `json:"bookingId"`
	RoomID      domain.RoomID    `json:"roomId"`
	UseStartDtm timestamp        `json:"useStartDtm"`
	UseEndDtm   timestamp        `json:"useEndDtm"`
	bookedFor
	Status domain.Phase `json:"status"`
	Links  struct {
		Self        link `json:"self"`
		Booking     link `json:"booking"`
		Confirm     link `json:"confirm"`
		RealUse     link `json:"realUse,omitzero"`
		History     link `json:"history"`
		BookingList link `json:"bookingList"`
	} `json:"_links"`
}

// booking replies with a booking.
func (x *exchange) booking(b commands.Booking) error {
	x.setValidators(b.Revision, b.Position)
	b = x.server.lists.booking(x.ctx, b)
	r := bookingReply{
		BookingID: b.ID, RoomID: b.Room, bookedFor: x.bookedFor(b.User), Status: b.Phase(),
		UseStartDtm: x.time(b.Slot.Start), UseEndDtm: x.time(b.Slot.End),
	}
	id := string(b.ID)
	r.Links.Self = x.link("/bookings/", id)
	r.Links.Booking = r.Links.Self
	r.Links.Confirm = x.link("/confirms/", id)
	if b.Use != nil {
		r.Links.RealUse = x.link("/realuses/", string(b.Use.RealUse))
	}
	r.Links.History = x.link("/bookings/", id+"/history")
	r.Links.BookingList = x.link("/bookingLists/", id)
	return x.reply(&r)
}
