package commands

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// blocked is a booking that nothing can be decided on, because an event cannot be decoded: its first one, one of a later change, or one of
// its use.
func blocked(t *testing.T, n node, kind string) (domain.BookingID, domain.RoomID) {
	t.Helper()
	h, room := newHandler(n.store), newRoom()
	if kind == "created" {
		id := domain.BookingID(uuid.NewString())
		ask := request().reservation(eventstore.NoStream)
		ask.BookingID, ask.RoomID, ask.UserID, ask.Slot = id, room, "ann", slot(0, 1)
		if _, err := n.store.Append(t.Context(), room.Stream(), eventstore.NoStream, eventstore.Proposed{Event: ask}); err != nil {
			t.Fatal(err)
		}
		eventstoretest.AppendRaw(t, n.address, id.Stream(), "BookingCreated", `{"bookingId": 17}`, "")
		return id, room
	}
	b := book(t, h, room, slot(0, 1))
	if kind == "changed" {
		eventstoretest.AppendRaw(t, n.address, b.ID.Stream(), "BookingChanged", `{"bookingId": 17}`, "")
		return b.ID, room
	}
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	eventstoretest.AppendRaw(t, n.address, use.ID.Stream(), "UseEnded", `{"bookingId": 17}`, "")
	return b.ID, room
}

// A booking with an event that cannot be decoded holds its slot until an operator ends it. Its history tells that; for everyone else it is
// like any cancelled booking.
func TestABlockedBookingIsReleased(t *testing.T) {
	n := openNode(t)
	h := newHandler(n.store)
	for _, kind := range []string{"created", "changed", "used"} {
		t.Run(kind, func(t *testing.T) {
			id, room := blocked(t, n, kind)
			var unreadable *Unreadable
			if _, err := h.Booking(t.Context(), id); !errors.As(err, &unreadable) {
				t.Errorf("read: %v", err)
			}
			wantNothingDecided(t, n, id, room)
			rooms, err := ReservedRooms(t.Context(), n.store, id)
			if err != nil || !slices.Equal(rooms, []domain.RoomID{room}) {
				t.Fatalf("it has reservations in %v, %v", rooms, err)
			}
			for range 2 {
				b, err := newHandler(n.store).ReleaseBooking(t.Context(), ReleaseBooking{Request: request(), Booking: id, Reason: "a bad disk", Rooms: rooms})
				if err != nil || b.Phase() != domain.PhaseCancelled {
					t.Fatalf("released: %+v, %v", b, err)
				}
			}
			wantTypes(t, n.store, room.Stream(), "SlotReserved", "SlotReleased")
			var over *domain.AlreadyCancelled
			if _, err := h.Booking(t.Context(), id); !errors.As(err, &over) || over.Reason != domain.CancelledByAdmin || over.Booking != id {
				t.Errorf("read: %v", err)
			}
			if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: id}); !errors.As(err, &over) {
				t.Errorf("cancelled: %v", err)
			}
			book(t, h, room, slot(0, 1))
			history, err := h.History(t.Context(), id)
			if err != nil || !slices.ContainsFunc(history, func(r eventstore.Recorded) bool {
				e, ok := r.Event.(domain.BookingUnblocked)
				return ok && e.Reason == "a bad disk" && r.Metadata.Actor == "ann"
			}) {
				t.Errorf("the history is %+v, %v", history, err)
			}
			// As of that event it cannot be read later either, as of before it still can.
			for _, r := range history {
				if readable(r) == nil {
					continue
				}
				if then, err := h.BookingAsOf(t.Context(), id, AsOf{Position: r.Position}); !errors.As(err, &unreadable) {
					t.Errorf("as of position %d, where it cannot be decoded: %+v, %v", r.Position, then, err)
				}
				if _, err := h.BookingAsOf(t.Context(), id, AsOf{Position: r.Position - 1}); kind != "created" && err != nil {
					t.Errorf("as of position %d, before that: %v", r.Position-1, err)
				}
			}
			wantSound(t, n.store, 0, room)
			open, err := OpenBookings(t.Context(), only(n.store, map[domain.BookingID]bool{id: true}))
			if err != nil || slices.ContainsFunc(open, func(b OpenBooking) bool { return b.Booking == id }) {
				t.Errorf("open are %+v, %v", open, err)
			}
		})
	}

	b := book(t, h, newRoom(), slot(0, 1))
	var readable *Readable
	if _, err := h.ReleaseBooking(t.Context(), ReleaseBooking{Request: request(), Booking: b.ID}); !errors.As(err, &readable) {
		t.Errorf("one that can be read: %v", err)
	}
	if _, err := h.ReleaseBooking(t.Context(), ReleaseBooking{Request: request(), Booking: domain.BookingID(uuid.NewString())}); err != domain.ErrBookingNotFound {
		t.Errorf("one that does not exist: %v", err)
	}
}

// wantNothingDecided asks all commands on a blocked booking, and wants that they write nothing and say why; and that nobody gets its slot.
func wantNothingDecided(t *testing.T, n node, id domain.BookingID, room domain.RoomID) {
	t.Helper()
	h, user, end := newHandler(n.store), domain.UserID("eve"), slot(0, 2).End
	streams := func() []string {
		return slices.Concat(eventTypes(t, n.store, id.Stream()), eventTypes(t, n.store, domain.RealUseOf(id).Stream()))
	}
	before := streams()
	for name, command := range map[string]func() error{
		"change of user": func() error {
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: id, User: &user})
			return err
		},
		"change of time": func() error {
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: id, End: &end})
			return err
		},
		"cancel": func() error {
			_, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: id})
			return err
		},
		"confirm": func() error {
			_, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: id, Answer: domain.Confirmed, AnsweredAt: noon})
			return err
		},
		"start use": func() error {
			_, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: id, StartedAt: noon})
			return err
		},
		"end use": func() error {
			_, err := h.EndUse(t.Context(), EndUse{Request: request(), RealUse: domain.RealUseOf(id), EndedAt: end})
			return err
		},
	} {
		err := command()
		if _, unreadable := errors.AsType[*Unreadable](err); !unreadable && !errors.Is(err, domain.ErrRealUseNotFound) {
			t.Errorf("%s: %v, want that an event cannot be decoded", name, err)
		}
	}
	_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: user, Slot: slot(0, 1)})
	if taken, ok := errors.AsType[*domain.SlotTaken](err); !ok || len(taken.By) != 1 || taken.By[0].BookingID != id {
		t.Errorf("its slot: %v, want that it is taken", err)
	}
	if after := streams(); !slices.Equal(after, before) {
		t.Errorf("its streams had %v, and have %v", before, after)
	}
}

// A release that is interrupted is finished by the next one.
func TestAReleaseIsBroken(t *testing.T) {
	n := openNode(t)
	for _, p := range points(2) {
		t.Run(p.String(), func(t *testing.T) {
			var c ReleaseBooking
			var room domain.RoomID
			n.dies(t, p, func(dying *Handler) error {
				c = ReleaseBooking{Request: request(), Reason: "a bad disk"}
				c.Booking, room = blocked(t, n, "changed")
				c.Rooms = []domain.RoomID{room}
				_, err := dying.ReleaseBooking(t.Context(), c)
				return err
			})
			if _, err := newHandler(n.store).ReleaseBooking(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			wantTypes(t, n.store, room.Stream(), "SlotReserved", "SlotReleased")
			wantTypes(t, n.store, c.Booking.Stream(), "BookingCreated", "ConfirmRequested", "BookingChanged", "BookingUnblocked", "BookingCancelled")
		})
	}
}

// Recovery is done with a booking that was released, even if steps of it stay open that nobody will close: a use that never started as far as
// can be read, a former reservation that was released before, a use that ended later. And its checkpoint passes all of them.
func TestRecoveryIsDoneWithABookingThatWasReleased(t *testing.T) {
	n := openNode(t)
	released := map[domain.BookingID]bool{}
	release := func(id domain.BookingID) {
		t.Helper()
		rooms, err := ReservedRooms(t.Context(), n.store, id)
		if err != nil {
			t.Fatal(err)
		}
		c := ReleaseBooking{Request: request(), Booking: id, Reason: "a bad disk", Rooms: rooms}
		c.At = time.Now()
		if _, err := newHandler(n.store).ReleaseBooking(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		released[id] = true
	}
	add := func(stream string, expected domain.Revision, e domain.Event) {
		t.Helper()
		if _, err := n.store.Append(t.Context(), stream, expected, request().propose([]domain.Event{e})...); err != nil {
			t.Fatal(err)
		}
	}

	used := book(t, newHandler(n.store), newRoom(), slot(0, 1))
	use := domain.RealUseOf(used.ID)
	add(used.ID.Stream(), used.Revision, domain.BookingCheckedIn{BookingID: used.ID, RealUseID: use, RoomID: used.Room, UserID: "ann", StartedAt: noon})
	eventstoretest.AppendRaw(t, n.address, use.Stream(), "UseStarted", `{"bookingId": 17}`, "")
	release(used.ID)
	add(use.Stream(), 0, domain.UseEnded{RealUseID: use, BookingID: used.ID, RoomID: used.Room, UserID: "ann", EndedAt: noon, At: noon})

	moved := book(t, newHandler(n.store), newRoom(), slot(0, 1))
	ask := request().reservation(moved.Revision)
	ask.BookingID, ask.RoomID, ask.Slot, ask.Replaces = moved.ID, newRoom(), slot(0, 1), moved.Reservation
	add(ask.RoomID.Stream(), eventstore.NoStream, ask)
	eventstoretest.AppendRaw(t, n.address, moved.ID.Stream(), "BookingChanged", `{"bookingId": 17}`, "")
	add(moved.Room.Stream(), 0, domain.SlotReleased{ReservationID: moved.Reservation, BookingID: moved.ID, RoomID: moved.Room})
	release(moved.ID)

	log := only(n.store, released)
	recovery := recovering(t, n.store, log, 1, 20*time.Millisecond)[0]
	waitSettled(t, log, released)
	open, err := recovery.Status()
	if err != nil || slices.ContainsFunc(open, func(b OpenBooking) bool { return released[b.Booking] }) {
		t.Errorf("open are %+v, %v", open, err)
	}
	steps := newOpenSteps(0)
	if err := steps.catchUp(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{use.Stream(), moved.ID.Stream()} {
		if at, held := steps.undecoded[stream]; held {
			t.Errorf("the checkpoint stays at %d, before an event of %s that cannot be decoded", at, stream)
		}
	}
}
