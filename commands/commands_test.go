package commands

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func slot(from, to int) domain.Slot {
	return domain.Slot{Start: noon.Add(time.Duration(from) * time.Hour), End: noon.Add(time.Duration(to) * time.Hour)}
}

func request() Request { return Request{ID: uuid.New(), Actor: domain.Anyone("ann"), At: noon} }

// newRoom is a room that no other test uses, even on a shared store.
func newRoom() domain.RoomID { return domain.RoomID("r" + uuid.NewString()) }

func newHandler(store Store) *Handler { return New(store, Options{Policy: domain.DefaultPolicy()}) }

func book(t *testing.T, h *Handler, room domain.RoomID, s domain.Slot) Booking {
	t.Helper()
	b, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: s})
	if err != nil {
		t.Fatalf("book %s %s: %v", room, s, err)
	}
	return b
}

// everywhere are the rooms, whenever it is.
func everywhere(rooms ...domain.RoomID) (places []place) {
	for _, room := range rooms {
		places = append(places, place{room: room})
	}
	return places
}

// eventTypes lists the types of a stream's events.
func eventTypes(t *testing.T, store Store, stream string) []string {
	t.Helper()
	var types []string
	for r, err := range store.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, r.Type)
	}
	return types
}

func wantTypes(t *testing.T, store Store, stream string, want ...string) {
	t.Helper()
	if got := eventTypes(t, store, stream); !slices.Equal(got, want) {
		t.Errorf("stream %s has %v, want %v", stream, got, want)
	}
}

func TestABookingsLife(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRoom()
	b := book(t, h, room, slot(0, 1))
	if b.Phase() != domain.PhaseBooked || b.Revision != 1 || b.Position == 0 {
		t.Errorf("booked: %+v", b)
	}

	confirmed, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: b.ID, Answer: domain.Confirmed, By: "admin", AnsweredAt: noon})
	if err != nil || confirmed.Phase() != domain.PhaseConfirmed || confirmed.Confirm.By != "admin" {
		t.Fatalf("confirmed: %+v, %v", confirmed, err)
	}
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil || use.Phase() != domain.UsePhaseStarted || use.Booking.Stream() != b.ID.Stream() {
		t.Fatalf("started: %+v, %v", use, err)
	}
	if got, err := h.Booking(t.Context(), b.ID); err != nil || got.Phase() != domain.PhaseInUse {
		t.Fatalf("in use: %+v, %v", got, err)
	}
	ended, err := h.EndUse(t.Context(), EndUse{Request: request(), RealUse: use.ID, EndedAt: noon.Add(time.Hour)})
	if err != nil || ended.Phase() != domain.UsePhaseEnded {
		t.Fatalf("ended: %+v, %v", ended, err)
	}
	var over *domain.AlreadyCancelled
	if _, err := h.Booking(t.Context(), b.ID); !errors.As(err, &over) || over.Reason != domain.CancelledByUseEnd {
		t.Fatalf("after the end: %v", err)
	}

	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmRequested", "ConfirmCompleted", "BookingCheckedIn", "BookingCancelled")
	wantTypes(t, store, use.ID.Stream(), "UseStarted", "UseEnded")
	wantTypes(t, store, room.Stream(), "SlotReserved", "SlotUsed")

	history, err := h.History(t.Context(), b.ID)
	if err != nil || len(history) != 7 || !slices.IsSortedFunc(history, func(a, b eventstore.Recorded) int { return int(a.Position) - int(b.Position) }) {
		t.Errorf("history: %d events, %v", len(history), err)
	}
	if last := history[len(history)-1]; last.Type != "BookingCancelled" || ended.Position != last.Position {
		t.Errorf("the end of the use is told to be at position %d, and %s is at %d", ended.Position, last.Type, last.Position)
	}
}

// The part of a slot that was used stays taken and the rest is free, whenever the use ended and whichever replica is asked; and the audit
// agrees.
func TestWhatWasUsedStaysTaken(t *testing.T) {
	store := eventstoretest.Open(t)
	from, err := store.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	minutes := func(start, end int) domain.Slot {
		return domain.Slot{Start: noon.Add(time.Duration(start) * time.Minute), End: noon.Add(time.Duration(end) * time.Minute)}
	}
	booked := minutes(60, 120)
	var rooms []domain.RoomID
	var bookings []domain.BookingID
	for _, c := range []struct {
		name       string
		start, end int         // of the use, in minutes
		want       domain.Slot // what stays taken
		last       string      // in the calendar
	}{
		{"within", 60, 90, minutes(60, 90), "SlotUsed"},
		{"a moment", 60, 61, minutes(60, 61), "SlotUsed"},
		{"begun early", 30, 70, minutes(60, 70), "SlotUsed"},
		{"begun late", 80, 90, minutes(60, 90), "SlotUsed"},
		{"to the end", 60, 120, booked, "SlotUsed"},
		{"beyond the end", 60, 200, booked, "SlotUsed"},
		{"days later", 9 * 24 * 60, 9*24*60 + 5, booked, "SlotUsed"},
		{"before", 0, 30, domain.Slot{}, "SlotReleased"},
		{"until the start", 0, 60, domain.Slot{}, "SlotReleased"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, other := newHandler(store), newHandler(store)
			room := newRoom()
			rooms = append(rooms, room)
			b := book(t, h, room, booked)
			bookings = append(bookings, b.ID)
			use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: minutes(c.start, 0).Start})
			if err != nil {
				t.Fatal(err)
			}
			create := func(s domain.Slot) error {
				_, err := other.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "eve", Slot: s})
				return err
			}
			var taken *domain.SlotTaken
			if err := create(booked); !errors.As(err, &taken) { // so that the other replica has cached the room
				t.Fatalf("while it was in use: %v", err)
			}
			if _, err := h.EndUse(t.Context(), EndUse{Request: request(), RealUse: use.ID, EndedAt: minutes(0, c.end).End}); err != nil {
				t.Fatal(err)
			}
			wantTypes(t, store, room.Stream(), "SlotReserved", c.last)
			if c.want != (domain.Slot{}) {
				for _, s := range []domain.Slot{c.want, minutes(0, 61), {Start: c.want.End.Add(-time.Second), End: booked.End.Add(time.Hour)}} {
					if err := create(s); !errors.As(err, &taken) || len(taken.By) != 1 || taken.By[0].BookingID != b.ID || !taken.By[0].Slot.Equal(c.want) {
						t.Errorf("%s: %v, want it refused for %s by %s", s, err, c.want, b.ID)
					}
				}
				if moved, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: book(t, h, newRoom(), c.want).ID, Room: &room}); !errors.As(err, &taken) {
					t.Errorf("a move there: %+v, %v", moved, err)
				}
				book(t, other, room, domain.Slot{Start: c.want.End, End: booked.End.Add(time.Hour)})
				book(t, other, room, minutes(0, 60))
			} else {
				book(t, other, room, booked)
			}
			for range 2 { // once settled it stays as it is
				if _, err := newHandler(store).settle(t.Context(), b.ID, everywhere(room)...); err != nil {
					t.Fatal(err)
				}
			}
			if types := eventTypes(t, store, room.Stream()); slices.Index(types, c.last) != 1 || slices.Contains(types[2:], "SlotReleased") || slices.Contains(types[2:], "SlotUsed") {
				t.Errorf("the calendar has %v", types)
			}
		})
	}
	wantSound(t, store, from, rooms...)
	open, err := OpenBookings(t.Context(), store)
	if err != nil || slices.ContainsFunc(open, func(b OpenBooking) bool { return slices.Contains(bookings, b.Booking) }) {
		t.Errorf("open are %+v, %v", open, err)
	}
}

// A use that an older version ended, which did not record when, is settled as that version would have: its slot is released. A
// slot that such a version released although it was used stays free.
func TestUsesOfAnOlderVersion(t *testing.T) {
	store := eventstoretest.Open(t)
	from, err := store.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := func(room domain.RoomID, until time.Time) (Booking, domain.BookingCancelled) {
		h := newHandler(store)
		b := book(t, h, room, slot(0, 1))
		use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
		if err != nil {
			t.Fatal(err)
		}
		end := domain.UseEnded{RealUseID: use.ID, BookingID: b.ID, RoomID: room, UserID: b.User, EndedAt: noon.Add(30 * time.Minute), At: noon}
		over := domain.BookingCancelled{BookingID: b.ID, ReservationID: b.Reservation, RoomID: room, UserID: b.User, Reason: domain.CancelledByUseEnd, At: noon, UsedUntil: until}
		for _, e := range []domain.Event{end, over} {
			stream, at := use.ID.Stream(), domain.Revision(0)
			if e == domain.Event(over) {
				stream, at = b.ID.Stream(), 2
			}
			if _, err := store.Append(t.Context(), stream, at, eventstore.Proposed{Event: e, Metadata: request().metadata()}); err != nil {
				t.Fatal(err)
			}
		}
		return b, over
	}
	half, back := newRoom(), newRoom()
	ended(half, time.Time{})
	book(t, newHandler(store), half, slot(0, 1)) // whose way it is in settles it
	wantTypes(t, store, half.Stream(), "SlotReserved", "SlotReleased", "SlotReserved")

	b, over := ended(back, noon.Add(30*time.Minute))
	if _, err := newHandler(store).settle(t.Context(), b.ID, everywhere(back)...); err != nil {
		t.Fatal(err)
	}
	released := domain.SlotReleased{ReservationID: over.ReservationID, BookingID: b.ID, RoomID: back}
	if _, err := store.Append(t.Context(), back.Stream(), 1, eventstore.Proposed{Event: released, Metadata: request().metadata()}); err != nil {
		t.Fatal(err)
	}
	book(t, newHandler(store), back, slot(0, 1))
	wantTypes(t, store, back.Stream(), "SlotReserved", "SlotUsed", "SlotReleased", "SlotReserved")
	wantSound(t, store, from, half, back)
}

// The audit finds a calendar in which the part of a slot that is kept as used is not the part that was.
func TestTheAuditFindsWhatWasNotUsed(t *testing.T) {
	const booking, room = domain.BookingID("b"), domain.RoomID("r")
	reserved := domain.SlotReserved{ReservationID: "1", BookingID: booking, RoomID: room, Slot: slot(0, 2)}
	created := domain.BookingCreated{ReservationID: "1", BookingID: booking, RoomID: room, Slot: slot(0, 2)}
	over := func(reason domain.CancelReason, until time.Time) domain.Event {
		return domain.BookingCancelled{BookingID: booking, ReservationID: "1", RoomID: room, Reason: reason, UsedUntil: until}
	}
	used := func(end time.Time) domain.Event {
		return domain.SlotUsed{ReservationID: "1", BookingID: booking, RoomID: room, End: end}
	}
	hour := noon.Add(time.Hour)
	for _, c := range []struct {
		name  string
		given []domain.Event
		wrong bool
	}{
		{"what was used", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), used(hour)}, false},
		{"all of it", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, slot(0, 9).End), used(slot(0, 2).End)}, false},
		{"more than was used", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), used(hour.Add(1))}, true},
		{"less than was used", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), used(hour.Add(-1))}, true},
		{"used before its slot", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, noon), used(hour)}, true},
		{"never used", []domain.Event{reserved, created, over(domain.CancelledByUser, time.Time{}), used(hour)}, true},
		{"while it is live", []domain.Event{reserved, created, used(hour)}, true},
		{"twice", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), used(hour), used(hour)}, true},
		{"after it was given back", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), domain.SlotReleased{ReservationID: "1", BookingID: booking, RoomID: room}, used(hour)}, true},
		{"and booked again", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), used(hour),
			domain.SlotReserved{ReservationID: "2", BookingID: "c", RoomID: room, Slot: slot(0, 1)}, domain.BookingCreated{ReservationID: "2", BookingID: "c", RoomID: room, Slot: slot(0, 1)}}, true},
		{"and the rest is booked", []domain.Event{reserved, created, over(domain.CancelledByUseEnd, hour), used(hour),
			domain.SlotReserved{ReservationID: "2", BookingID: "c", RoomID: room, Slot: slot(1, 2)}, domain.BookingCreated{ReservationID: "2", BookingID: "c", RoomID: room, Slot: slot(1, 2)}}, false},
	} {
		a := NewAudit()
		for i, e := range c.given {
			a.Add(eventstore.Recorded{Position: eventstore.Position(i + 1), Type: e.EventType(), Event: e})
		}
		if findings := a.Findings(); (len(findings) > 0) != c.wrong {
			t.Errorf("%s: it found %v", c.name, findings)
		}
	}
}

func TestDenialAndCancelReleaseTheSlot(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRoom()

	b := book(t, h, room, slot(0, 1))
	for range 2 { // a repeat gets the same answer
		denied, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: b.ID, Answer: domain.Denied, Reason: "cleaning", AnsweredAt: noon})
		if err != nil || denied.Confirm.Answer != domain.Denied || denied.Confirm.Reason != "cleaning" {
			t.Fatalf("denied: %+v, %v", denied, err)
		}
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmRequested", "ConfirmDenied", "BookingCancelled")

	b = book(t, h, room, slot(0, 1))
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID}); err != nil {
		t.Fatal(err)
	}
	var over *domain.AlreadyCancelled
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID}); !errors.As(err, &over) {
		t.Errorf("cancelled twice: %v", err)
	}
	book(t, h, room, slot(0, 1))
}

func TestAChangeTakesTheNewSlotBeforeItGivesTheOldOneBack(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	from, to := newRoom(), newRoom()
	b := book(t, h, from, slot(0, 2))
	taken := book(t, h, to, slot(0, 1))

	start, user := noon.Add(time.Hour), domain.UserID("bob")
	_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &to})
	var conflict *domain.SlotTaken
	if !errors.As(err, &conflict) || len(conflict.By) != 1 || conflict.By[0].BookingID != taken.ID {
		t.Fatalf("change to a taken slot: %v", err)
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmRequested")

	changed, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &to, Start: &start})
	if err != nil || changed.Room != to || !changed.Slot.Equal(slot(1, 2)) || changed.User != "ann" {
		t.Fatalf("changed: %+v, %v", changed, err)
	}
	changed, err = h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user})
	if err != nil || changed.User != user {
		t.Fatalf("other user: %+v, %v", changed, err)
	}
	again, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &to, User: &user, Start: &start})
	if err != nil || again.Revision != changed.Revision {
		t.Fatalf("the same values again: %+v, %v", again, err)
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmRequested", "BookingChanged", "ConfirmRequested", "BookingChanged", "BookingHandedOver")
	wantTypes(t, store, from.Stream(), "SlotReserved", "SlotReleased")

	// A booking's own slot is not in its way when it moves by half its length.
	later := noon.Add(90 * time.Minute)
	if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Start: &later}); err != nil {
		t.Errorf("shortened: %v", err)
	}
}

func TestAnInvalidSlotIsRefusedWithEveryFault(t *testing.T) {
	h := New(eventstoretest.Open(t), Options{Policy: domain.Policy{LongestBooking: time.Hour, RefusePast: true}})
	_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: newRoom(), User: "ann", Slot: slot(-3, -1)})
	var invalid *domain.Invalid
	if !errors.As(err, &invalid) || len(invalid.Faults) != 2 {
		t.Errorf("got %v, want two faults", err)
	}
}

// A policy that refuses the past only applies to a start that a command sets: not to one that a change leaves as it is, nor to one that was
// set before it was past.
func TestThePastIsRefusedToAStartThatIsSet(t *testing.T) {
	store := eventstoretest.Open(t)
	h := New(store, Options{Policy: domain.Policy{LongestBooking: 24 * time.Hour, RefusePast: true}})
	at := func(hours float64) time.Time { return noon.Add(time.Duration(hours * float64(time.Hour))) }
	start, end := at(1), at(3)
	later, earlier, soon, half := at(5), at(2.25), at(2.5), at(1.5)
	before, begun := at(0.5), at(2)
	for _, c := range []struct {
		name   string
		now    time.Time
		change func(c *ChangeBooking)
		past   bool
	}{
		{"a later end, before", before, func(c *ChangeBooking) { c.End = &later }, false},
		{"a later end, begun", begun, func(c *ChangeBooking) { c.End = &later }, false},
		{"an earlier end, begun", begun, func(c *ChangeBooking) { c.End = &earlier }, false},
		{"an end that is past, begun", begun, func(c *ChangeBooking) { c.End = &half }, false},
		{"the room, before", before, func(c *ChangeBooking) { c.Room = new(newRoom()) }, false},
		{"the room, begun", begun, func(c *ChangeBooking) { c.Room = new(newRoom()) }, false},
		{"the room, over", at(4), func(c *ChangeBooking) { c.Room = new(newRoom()) }, false},
		{"the room and the end, begun, with the same start", begun, func(c *ChangeBooking) { c.Room, c.Start, c.End = new(newRoom()), &start, &later }, false},
		{"the user, begun", begun, func(c *ChangeBooking) { c.User = new(domain.UserID("bob")) }, false},
		{"the start, before", before, func(c *ChangeBooking) { c.Start = &half }, false},
		{"the start, begun", begun, func(c *ChangeBooking) { c.Start = &soon }, false},
		{"the start to now, begun", begun, func(c *ChangeBooking) { c.Start = &begun }, false},
		{"a past start, begun", begun, func(c *ChangeBooking) { c.Start = &half }, true},
		{"a past start and another room, begun", begun, func(c *ChangeBooking) { c.Room, c.Start = new(newRoom()), &half }, true},
		{"all, with a past start, begun", begun, func(c *ChangeBooking) { c.Start, c.End = &half, &later }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := book(t, h, newRoom(), domain.Slot{Start: start, End: end})
			change := ChangeBooking{Request: keyed("d")(), Booking: b.ID}
			change.At = c.now
			c.change(&change)
			changed, err := h.ChangeBooking(t.Context(), change)
			var invalid *domain.Invalid
			if c.past {
				if !errors.As(err, &invalid) || len(invalid.Faults) != 1 || invalid.Faults[0].Field != domain.FieldStart {
					t.Fatalf("got %+v, %v, want a fault of the start", changed, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			change.At = at(1000)
			if again, err := New(store, Options{Policy: h.policy}).ChangeBooking(t.Context(), change); err != nil || !sameAnswer(again, changed) {
				t.Errorf("asked again much later: %+v, %v, want %+v", again, err, changed)
			}
		})
	}
}

// A command that was interrupted after it took its slot goes forward even when the slot is long past: by settling, and by its own retry.
func TestThePastIsNotRefusedToWhatWasDecided(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	policy := domain.Policy{LongestBooking: 24 * time.Hour, RefusePast: true}
	future := noon.Add(30 * time.Minute)
	own := func(id string) domain.RoomID { return domain.RoomID("r" + id) }
	type command func(h *Handler, b domain.BookingID, r Request) (Booking, error)
	for name, when := range map[string]command{
		"create": func(h *Handler, _ domain.BookingID, r Request) (Booking, error) {
			return h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: own(r.ID.String()), User: "ann", Slot: domain.Slot{Start: future, End: slot(0, 1).End}})
		},
		"change of start": func(h *Handler, b domain.BookingID, r Request) (Booking, error) {
			return h.ChangeBooking(t.Context(), ChangeBooking{Request: r, Booking: b, Start: &future})
		},
		"change of room and start": func(h *Handler, b domain.BookingID, r Request) (Booking, error) {
			other := own(string(b))
			return h.ChangeBooking(t.Context(), ChangeBooking{Request: r, Booking: b, Room: &other, Start: &future})
		},
	} {
		for _, p := range []point{{n: 2, done: true}, {n: 3}, {n: 3, done: true}} { // the first append claims the key, the second takes the slot
			for _, settled := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, settled %t", name, p, settled), func(t *testing.T) {
					var b Booking
					var r Request
					n.dies(t, p, func(h *Handler) error {
						b, r = book(t, newHandler(n.store), newRoom(), slot(0, 1)), keyed("d")()
						h.policy = policy
						_, err := when(h, b.ID, r)
						return err
					})
					asked := r.At
					r.At = noon.Add(10_000 * time.Hour)
					h := New(n.store, Options{Policy: policy})
					if settled {
						id := b.ID
						if name == "create" {
							id = domain.BookingID(r.ID.String())
						}
						if _, err := h.settle(t.Context(), id, everywhere(own(string(id)))...); err != nil {
							t.Fatal(err)
						}
					}
					got, err := when(h, b.ID, r)
					if err != nil || !got.Live() || !got.Slot.Start.Equal(future) {
						t.Errorf("asked again much later: %+v, %v", got, err)
					}
					if name == "create" && !got.CreatedAt.Equal(asked) {
						t.Errorf("it was created at %s, and its slot was taken at %s", got.CreatedAt, asked)
					}
				})
			}
		}
	}
}

// A use that starts while another use of the room has not ended says so, forever.
func TestARoomThatIsStillInUse(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	start := func(b Booking, at int) RealUse {
		t.Helper()
		use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: slot(at, at).Start})
		if err != nil {
			t.Fatal(err)
		}
		return use
	}
	end := func(use RealUse, at int) {
		t.Helper()
		if _, err := h.EndUse(t.Context(), EndUse{Request: request(), RealUse: use.ID, EndedAt: slot(at, at).End}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, use RealUse, by domain.BookingID) {
		t.Helper()
		read, err := h.RealUse(t.Context(), use.ID)
		if err != nil || use.RoomStillInUseBy != by || read.RoomStillInUseBy != by {
			t.Errorf("%s: still in use by %q, read %q, %v, want %q", what, use.RoomStillInUseBy, read.RoomStillInUseBy, err, by)
		}
	}
	room := newRoom()
	first, unused, second, third := book(t, h, room, slot(0, 1)), book(t, h, room, slot(1, 2)), book(t, h, room, slot(2, 3)), book(t, h, room, slot(3, 4))
	elsewhere := book(t, h, newRoom(), slot(0, 9))
	want("the only one of its room", start(elsewhere, 0), "")
	one := start(first, 0)
	want("the first", one, "")
	want("the next, after one that was not used", start(second, 2), first.ID)
	end(one, 2)
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: unused.ID}); err != nil {
		t.Fatal(err)
	}
	want("the one after", start(third, 3), second.ID)
	end(RealUse{RealUse: domain.RealUse{ID: domain.RealUseOf(second.ID)}}, 3)
	end(RealUse{RealUse: domain.RealUse{ID: domain.RealUseOf(third.ID)}}, 4)
	want("when all have ended", start(book(t, h, room, slot(4, 5)), 4), "")
	late, early := book(t, h, room, slot(-3, -2)), book(t, h, room, slot(-2, -1))
	start(late, -1)
	want("when that of another starts later", start(early, -2), "")

	// A use whose end cannot be decoded counts for nothing, and is in nobody's way.
	n := openNode(t)
	h = newHandler(n.store)
	id, room := blocked(t, n, "used")
	use := start(book(t, h, room, slot(1, 2)), 1)
	want("after a use that cannot be read: "+string(id), use, "")
}

// A use may start near its slot, and stays started when the command is repeated far from it.
func TestAUseFarOffItsSlot(t *testing.T) {
	store := eventstoretest.Open(t)
	h := New(store, Options{Policy: domain.Policy{EarlyUse: 15 * time.Minute}})
	b := book(t, h, newRoom(), slot(1, 2))
	start := StartUse{Request: keyed("d")(), Booking: b.ID, StartedAt: noon.Add(44 * time.Minute)}
	var off *domain.UseOffSlot
	if _, err := h.StartUse(t.Context(), start); !errors.As(err, &off) || !off.Earliest.Equal(noon.Add(45*time.Minute)) || !off.Latest.Equal(noon.Add(135*time.Minute)) {
		t.Fatalf("too early: %v", err)
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmRequested")
	start.Request, start.StartedAt = keyed("d")(), noon.Add(45*time.Minute)
	first, err := h.StartUse(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	start.At, start.StartedAt = noon.Add(1000*time.Hour), noon.Add(1000*time.Hour)
	if again, err := h.StartUse(t.Context(), start); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("again, with a start that is now: %+v, %v, want %+v", again, err, first)
	}
}

func TestAsOf(t *testing.T) {
	h := newHandler(eventstoretest.Open(t))
	room := newRoom()
	b := book(t, h, room, slot(0, 1))
	cancel := request()
	cancel.At = noon.Add(time.Minute)
	over, err := h.CancelBooking(t.Context(), CancelBooking{Request: cancel, Booking: b.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		moment AsOf
		want   domain.Phase
	}{
		{AsOf{Time: noon.Add(-time.Second)}, domain.PhaseNone},
		{AsOf{Time: noon}, domain.PhaseBooked},
		{AsOf{Time: noon.Add(59 * time.Second)}, domain.PhaseBooked},
		{AsOf{Time: noon.Add(time.Hour)}, domain.PhaseCancelled},
		{AsOf{Position: 1}, domain.PhaseNone},
		{AsOf{Position: b.Position}, domain.PhaseBooked},
		{AsOf{Position: over.Position}, domain.PhaseCancelled},
	} {
		got, err := h.BookingAsOf(t.Context(), b.ID, c.moment)
		if c.want == domain.PhaseNone {
			if !errors.Is(err, domain.ErrBookingNotFound) {
				t.Errorf("%+v: %v, want not found", c.moment, err)
			}
		} else if err != nil || got.Phase() != c.want {
			t.Errorf("%+v: %s, %v, want %s", c.moment, got.Phase(), err, c.want)
		}
	}
}

func TestManyReplicasOneSlotOneBooking(t *testing.T) {
	store := eventstoretest.Open(t)
	room := newRoom()
	var handlers []*Handler
	for range 3 {
		handlers = append(handlers, newHandler(store))
	}
	type outcome struct {
		b   Booking
		err error
	}
	outcomes := make([]outcome, 48)
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() {
			// Three hours from 0, from 1 or from 2: they share the hour from 2 to 3.
			b, err := handlers[i%3].CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(i%3, i%3+3)})
			outcomes[i] = outcome{b, err}
		})
	}
	wg.Wait()
	var won []Booking
	for _, o := range outcomes {
		if o.err == nil {
			won = append(won, o.b)
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d bookings of one slot, want 1", len(won))
	}
	for _, o := range outcomes {
		var taken *domain.SlotTaken
		if o.err != nil && (!errors.As(o.err, &taken) || len(taken.By) != 1 || taken.By[0].BookingID != won[0].ID) {
			t.Errorf("a loser was told %v, want a conflict with booking %s", o.err, won[0].ID)
		}
	}
	wantTypes(t, store, room.Stream(), "SlotReserved")
}

// TestRandomCommandsByReplicas lets many clients of three replicas change a few rooms at the same time, and then audits the log.
func TestRandomCommandsByReplicas(t *testing.T) {
	store := eventstoretest.Open(t)
	var handlers []*Handler
	for range 3 {
		handlers = append(handlers, newHandler(store))
	}
	rooms := []domain.RoomID{newRoom(), newRoom()}
	from, err := store.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	var bookings []domain.BookingID
	any := func(r *rand.Rand) domain.BookingID {
		mu.Lock()
		defer mu.Unlock()
		if len(bookings) == 0 {
			return ""
		}
		return bookings[max(0, len(bookings)-1-r.IntN(8))]
	}
	counts := make([]map[string]int, 12)
	var wg sync.WaitGroup
	for client := range counts {
		counts[client] = map[string]int{}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(client)))
			h := handlers[client%len(handlers)]
			for range 60 {
				id := any(r)
				room, start := rooms[r.IntN(2)], r.IntN(6)
				name, err := "create", error(nil)
				switch choice := r.IntN(10); {
				case choice < 3 || id == "":
					var b Booking
					b, err = h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(start, start+1+r.IntN(3))})
					if err == nil {
						mu.Lock()
						bookings = append(bookings, b.ID)
						mu.Unlock()
					}
				case choice < 6:
					name = "change"
					from, to := slot(start, start+1+r.IntN(2)).Start, slot(start, start+1+r.IntN(2)).End
					_, err = h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: id, Room: &room, Start: &from, End: &to})
				case choice < 7:
					name = "cancel"
					_, err = h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: id})
				case choice < 8:
					name = "confirm"
					answer := []domain.Answer{domain.Confirmed, domain.Denied}[r.IntN(2)]
					_, err = h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: id, Answer: answer, AnsweredAt: noon})
				case choice < 9:
					name = "start"
					_, err = h.StartUse(t.Context(), StartUse{Request: request(), Booking: id, StartedAt: noon})
				default:
					name = "end"
					_, err = h.EndUse(t.Context(), EndUse{Request: request(), RealUse: domain.RealUseOf(id), EndedAt: noon.Add(time.Hour)})
				}
				if errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", name, err)
				}
				if err == nil {
					counts[client][name]++
				}
			}
		})
	}
	wg.Wait()

	done := map[string]int{}
	for _, c := range counts {
		for name, n := range c {
			done[name] += n
		}
	}
	t.Logf("done: %v", done)
	for _, name := range []string{"create", "change", "cancel", "confirm", "start", "end"} {
		if done[name] == 0 {
			t.Errorf("no %s succeeded", name)
		}
	}
	wantSound(t, store, from, rooms...)
}

// wantSound audits the log from a position to its present end. Findings in other rooms are those of other tests.
func wantSound(t *testing.T, store *eventstore.Store, after eventstore.Position, rooms ...domain.RoomID) {
	t.Helper()
	a := NewAudit()
	if err := a.AddLog(t.Context(), store, after); err != nil {
		t.Fatal(err)
	}
	if a.Bookings() == 0 {
		t.Error("the audit saw no booking")
	}
	for _, f := range a.Findings() {
		if slices.Contains(rooms, f.Room) {
			t.Error(f)
		}
	}
}

// TestCalendarsAreBoundedInBytes uses many rooms once and one room often.
func TestCalendarsAreBoundedInBytes(t *testing.T) {
	store := eventstoretest.Open(t)
	const limit = 20 * (calendarBytes + reservationBytes)
	h := New(store, Options{Policy: domain.DefaultPolicy(), CacheBytes: limit})
	often := newRoom()
	book(t, h, often, slot(0, 1))
	for i := range 200 {
		book(t, h, newRoom(), slot(0, 1))
		if _, err := h.calendars.complete(t.Context(), often, noon); err != nil {
			t.Fatal(err)
		}
		if h.cache.bytes > limit {
			t.Fatalf("after %d rooms %d bytes are kept, of %d", i, h.cache.bytes, limit)
		}
	}
	if kept := h.cache.lru.Len(); kept < 10 || kept > 40 {
		t.Errorf("%d streams are kept", kept)
	}
	if !h.cache.lru.Contains(often.Stream()) {
		t.Error("the calendar that is used most was let go")
	}
	if sum := h.cache.sum(); sum != h.cache.bytes {
		t.Errorf("%d bytes are counted, %d are there", h.cache.bytes, sum)
	}
}

// TestTenThousandRoomsTouchedOnce lets many clients book once in each of many more rooms than the cache holds, and weighs what remains in
// memory: calendars weigh about what is counted for them, and nothing else is kept per room.
func TestTenThousandRoomsTouchedOnce(t *testing.T) {
	rooms, kept, reservations := eventstoretest.Rounds(10_000, 2_000), eventstoretest.Rounds(2_000, 400), eventstoretest.Rounds(2_000, 400)
	limit := kept * (calendarBytes + reservationBytes)
	// Calendars get into the cache in two ways: with what the handler has written, and with what it has read.
	var booking, reading, full *Handler

	t.Run("the bound holds", func(t *testing.T) {
		store := eventstoretest.Open(t) // it ends with this part, and is not weighed
		open := func() *Handler {
			return New(store, Options{Policy: domain.DefaultPolicy(), CacheBytes: limit})
		}
		booking, reading, full = open(), open(), open()
		touch := func(h *Handler, n int, once func(i int) error) {
			t.Helper()
			const clients = 64
			var work sync.WaitGroup
			for client := range clients {
				work.Go(func() {
					for i := client; i < n; i += clients {
						if err := once(i); err != nil {
							t.Error(err)
							return
						}
						if bytes := h.cache.counted(); bytes > limit {
							t.Errorf("%d bytes are kept, of %d", bytes, limit)
							return
						}
					}
				})
			}
			work.Wait()
			sum, largest := h.cache.sum(), calendarBytes+reservationBytes
			if sum != h.cache.counted() || sum > limit || sum <= limit-largest {
				t.Errorf("%d bytes are kept and counted as %d, want %d, or less by not even %d", sum, h.cache.counted(), limit, largest)
			}
			if shown := gauge(t, h, "roombook_calendar_cache_bytes"); shown != float64(sum) {
				t.Errorf("the metric shows %v bytes, want %d", shown, sum)
			}
		}

		touched := make([]Booking, rooms)
		touch(booking, rooms, func(i int) (err error) {
			touched[i], err = booking.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: newRoom(), User: "ann", Slot: slot(0, 1)})
			return err
		})
		touch(reading, 2*kept, func(i int) error {
			_, err := reading.calendars.complete(t.Context(), touched[i].Room, noon)
			return err
		})
		old := newRoom()
		age(t, store, old, reservations)
		if c, err := full.calendars.complete(t.Context(), old, noon); err != nil || c.Len() != reservations {
			t.Errorf("the calendar has %d reservations, want %d: %v", c.Len(), reservations, err)
		}

		// A calendar that was evicted is read again, and knows who has the slot.
		const sample = 100
		refused := 0
		for _, b := range touched[:rooms/2] {
			if booking.cache.lru.Contains(b.Room.Stream()) {
				continue
			}
			_, err := booking.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: b.Room, User: "bob", Slot: slot(0, 1)})
			taken, ok := errors.AsType[*domain.SlotTaken](err)
			if !ok || len(taken.By) != 1 || taken.By[0].BookingID != b.ID {
				t.Fatalf("the slot that is taken by %s: %v", b.ID, err)
			}
			wantTypes(t, store, b.Room.Stream(), "SlotReserved")
			if refused++; refused == sample {
				break
			}
		}
		if refused < sample {
			t.Errorf("of the first half of the rooms only %d were let go", refused)
		}
	})

	freed := func(drop func()) int {
		before := heap()
		drop()
		return before - heap()
	}
	for _, c := range []struct {
		name    string
		h       *Handler
		counted int
	}{
		{"calendars that were booked in", booking, limit},
		{"calendars that were read", reading, limit},
		{"a calendar with many reservations", full, calendarBytes + reservations*reservationBytes},
	} {
		weight := freed(func() { c.h.cache.lru = nil })
		t.Logf("%s: counted %d bytes, weighed %d", c.name, c.counted, weight)
		if weight < c.counted/3 || weight > c.counted*5/4 {
			t.Errorf("%s are counted as %d bytes and weigh %d", c.name, c.counted, weight)
		}
	}
	// The names of the rooms alone would weigh more than this.
	otherwise := rooms * 48
	weight := freed(func() { booking, reading = nil, nil })
	t.Logf("two handlers without calendars: %d bytes", weight)
	if weight > otherwise {
		t.Errorf("two handlers without calendars weigh %d bytes after %d rooms", weight, rooms)
	}
	runtime.KeepAlive(full)
}

// gauge is the value of one of the handler's metrics.
func gauge(t *testing.T, h *Handler, name string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// sum adds up the bytes of what is cached.
func (c *cache) sum() (bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kept := range c.lru.Values() {
		bytes += kept.bytes()
	}
	return bytes
}

// counted is the number of bytes that the cache counts.
func (c *cache) counted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// A calendar that is larger than the whole cache is used, but not cached.
func TestACalendarLargerThanTheCache(t *testing.T) {
	store := eventstoretest.Open(t)
	h := New(store, Options{Policy: domain.DefaultPolicy(), CacheBytes: calendarBytes + reservationBytes + 2*aggregateBytes})
	small, room := newRoom(), newRoom()
	const more = 2 + 2*aggregateBytes/reservationBytes // than the cache holds
	for i := range more {
		book(t, h, room, slot(i, i+1))
	}
	book(t, h, small, slot(0, 1))
	book(t, h, room, slot(more, more+1))
	if _, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(0, 1)}); err == nil {
		t.Error("a taken slot was given away")
	}
	if h.calendars.cached(small) == nil || h.calendars.cached(room) != nil {
		t.Errorf("%v are kept, want the small room %s and not the large one", h.cache.lru.Keys(), small)
	}
	if counted, sum := h.cache.counted(), h.cache.sum(); counted != sum {
		t.Errorf("%d bytes are counted, and %d kept", counted, sum)
	}
}

// Of several changes that were left half-done, the one that reserved its slot first goes forward, in whatever order the rooms are looked
// at.
func TestTheFirstOfSeveralChangesGoesForward(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	for range 4 {
		b := book(t, h, newRoom(), slot(0, 1))
		rooms := []domain.RoomID{newRoom(), newRoom(), newRoom()}
		for _, room := range rooms {
			ask := request().reservation(b.Revision)
			ask.BookingID, ask.RoomID, ask.Slot, ask.Replaces = b.ID, room, slot(0, 1), b.Reservation
			if _, err := store.Append(t.Context(), room.Stream(), eventstore.NoStream, eventstore.Proposed{Event: ask}); err != nil {
				t.Fatal(err)
			}
		}
		shuffled := slices.Clone(rooms)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if shuffled[0] == rooms[0] {
			slices.Reverse(shuffled)
		}
		settled, err := newHandler(store).settle(t.Context(), b.ID, everywhere(shuffled...)...)
		if err != nil || settled.state.Room != rooms[0] {
			t.Errorf("it went to room %s, %v, want %s of %v", settled.state.Room, err, rooms[0], rooms)
		}
		wantTypes(t, store, rooms[1].Stream(), "SlotReserved", "SlotReleased")
		wantTypes(t, store, rooms[2].Stream(), "SlotReserved", "SlotReleased")
	}
}
