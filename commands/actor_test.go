package commands

import (
	"errors"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// wantActor fails the test unless all events of a stream from a revision on are by an actor, from their network.
func wantActor(t *testing.T, what string, store *eventstore.Store, stream string, from domain.Revision, r Request) {
	t.Helper()
	n := 0
	for e, err := range store.ReadStream(t.Context(), stream, from) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if e.Metadata.Actor != string(r.Actor.User) || e.Metadata.Client != r.Client {
			t.Errorf("%s: %s of %s is by %q from %q, want %q from %q", what, e.Type, stream, e.Metadata.Actor, e.Metadata.Client, r.Actor.User, r.Client)
		}
	}
	if n == 0 {
		t.Errorf("%s: no event in %s", what, stream)
	}
}

// Every event says who gave the command that it came of, whoever the booking is for and whatever else followed from it, and from where.
func TestEventsNameTheActor(t *testing.T) {
	store := eventstoretest.Open(t)
	h, ctx := newHandler(store), t.Context()
	room := newRoom()
	from := func(user domain.UserID, client string, roles ...domain.Role) func() Request {
		return func() Request {
			r := as(user, domain.Rooms(room), roles...)
			r.Client = client
			return r
		}
	}
	ann, boss := from("ann", "192.0.2.0/24", domain.RoleUser), from("boss", "198.51.100.0/24", domain.RoleAdmin)
	approver, door := from("eve", "2001:db8::/48", domain.RoleUser, domain.RoleApprover), from("door", "203.0.113.0/24", domain.RoleDoor)
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	create := func(r Request, hour int) Booking {
		t.Helper()
		b, err := h.CreateBooking(ctx, CreateBooking{Request: r, Room: room, User: "ann", Slot: slot(hour, hour+1)})
		do("create", err)
		return b
	}
	_, err := h.RegisterRoom(ctx, RegisterRoom{Request: boss(), Room: room, Details: domain.Details{Name: "Red"}})
	do("register", err)
	b := create(boss(), 0)
	start, end, carl := slot(2, 3).Start, slot(2, 3).End, domain.UserID("carl")
	_, err = h.ChangeBooking(ctx, ChangeBooking{Request: boss(), Booking: b.ID, Start: &start, End: &end})
	do("change", err)
	_, err = h.ChangeBooking(ctx, ChangeBooking{Request: boss(), Booking: b.ID, User: &carl})
	do("hand over", err)
	wantActor(t, "for somebody else", store, b.ID.Stream(), 0, boss())
	wantActor(t, "the room", store, room.Stream(), 0, boss())

	at := b.Revision
	for what, c := range map[string]struct {
		by Request
		do func(r Request, b Booking) error
	}{
		"confirm": {approver(), func(r Request, b Booking) error {
			_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: b.ID, Answer: domain.Confirmed, AnsweredAt: noon})
			return err
		}},
		"confirm in another's name": {boss(), func(r Request, b Booking) error {
			_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: b.ID, Answer: domain.Confirmed, By: "eve", AnsweredAt: noon})
			return err
		}},
		"deny": {approver(), func(r Request, b Booking) error {
			_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: b.ID, Answer: domain.Denied, AnsweredAt: noon})
			return err
		}},
		"cancel": {boss(), func(r Request, b Booking) error {
			_, err := h.CancelBooking(ctx, CancelBooking{Request: r, Booking: b.ID})
			return err
		}},
		"use": {door(), func(r Request, b Booking) error {
			use, err := h.StartUse(ctx, StartUse{Request: r, Booking: b.ID, StartedAt: noon})
			if err != nil {
				return err
			}
			_, err = h.EndUse(ctx, EndUse{Request: r, RealUse: use.ID, EndedAt: noon.Add(time.Minute)})
			wantActor(t, "use", store, use.ID.Stream(), 0, r)
			return err
		}},
		"close": {boss(), func(r Request, b Booking) error {
			_, err := h.ClosePeriod(ctx, ClosePeriod{Request: r, Room: room, Slot: b.Slot, Bookings: domain.CancelBookings})
			return err
		}},
	} {
		at += 10
		made := create(ann(), int(at))
		wantActor(t, what+": before", store, made.ID.Stream(), 0, ann())
		do(what, c.do(c.by, made))
		wantActor(t, what, store, made.ID.Stream(), made.Revision+1, c.by)
	}
}

// Nobody but an administrator answers in the name of somebody else.
func TestAnswersInAnothersName(t *testing.T) {
	h := newHandler(eventstoretest.Open(t))
	room := newRoom()
	b := book(t, h, room, slot(0, 1))
	answer := func(r Request, by domain.UserID) error {
		_, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: r, Booking: b.ID, Answer: domain.Confirmed, By: by, AnsweredAt: noon})
		return err
	}
	approver := as("eve", domain.Rooms(room), domain.RoleApprover)
	if err := answer(approver, "lee"); !errors.As(err, new(*domain.Forbidden)) {
		t.Errorf("an approver in another's name: %v", err)
	}
	if err := answer(approver, "eve"); err != nil {
		t.Errorf("an approver: %v", err)
	}
}

// What others finish of a command is still by who gave it: another command that finds it half-done, and the recovery worker.
func TestFinishedByOthers(t *testing.T) {
	store := eventstoretest.Open(t)
	for what, finish := range map[string]func(b domain.BookingID, room domain.RoomID){
		"a command": func(b domain.BookingID, room domain.RoomID) {
			if _, err := newHandler(store).CreateBooking(t.Context(), CreateBooking{Request: as("eve", "", domain.RoleUser), Room: room, User: "eve", Slot: slot(0, 1)}); err == nil {
				t.Error("the slot was free")
			}
		},
		"recovery": func(b domain.BookingID, room domain.RoomID) {
			half := map[domain.BookingID]bool{b: true}
			log := only(store, half)
			recovering(t, store, log, 1, time.Millisecond)
			waitSettled(t, log, half)
		},
	} {
		room, r := newRoom(), as("ann", "", domain.RoleUser)
		r.Client = "192.0.2.0/24"
		ask := r.reservation(eventstore.NoStream)
		ask.BookingID, ask.RoomID, ask.UserID, ask.Slot = domain.BookingID(r.ID.String()), room, "ann", slot(0, 1)
		if _, err := store.Append(t.Context(), room.Stream(), eventstore.NoStream, eventstore.Proposed{Event: ask, Metadata: r.metadata()}); err != nil {
			t.Fatal(err)
		}
		finish(ask.BookingID, room)
		wantActor(t, what, store, ask.BookingID.Stream(), 0, r)
	}
}
