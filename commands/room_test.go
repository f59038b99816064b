package commands

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// register returns what registers a room.
func register(t *testing.T) func(h *Handler, room domain.RoomID) (Room, error) {
	return func(h *Handler, room domain.RoomID) (Room, error) {
		return h.RegisterRoom(t.Context(), RegisterRoom{Request: request(), Room: room, Details: domain.Details{Name: "Room"}})
	}
}

// newRuledRoom registers a room with rules.
func newRuledRoom(t *testing.T, h *Handler, rules domain.Rules) domain.RoomID {
	t.Helper()
	room := newRoom()
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetRules(t.Context(), SetRules{Request: request(), Room: room, Rules: rules}); err != nil {
		t.Fatal(err)
	}
	return room
}

func createErr(t *testing.T, h *Handler, room domain.RoomID, user domain.UserID, s domain.Slot) error {
	t.Helper()
	_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: user, Slot: s})
	return err
}

func wantRule(t *testing.T, err error, rule domain.RuleName) {
	t.Helper()
	broken, ok := errors.AsType[*domain.RuleBroken](err)
	if !ok || len(broken.Broken) != 1 || broken.Broken[0].Rule != rule {
		t.Errorf("%v, want that it breaks the rule %s", err, rule)
	}
}

// TestARoomsLife carries out each command on a room twice, by two replicas: once it has an event, and the second time none.
func TestARoomsLife(t *testing.T) {
	store := eventstoretest.Open(t)
	handlers := []*Handler{newHandler(store), newHandler(store)}
	room := newRoom()
	book(t, handlers[0], room, slot(30, 31))
	closed := Request{ID: uuid.New(), Actor: domain.Anyone("ann"), At: noon}
	var types []string
	for _, c := range []struct {
		event string
		ask   func(h *Handler) (Room, error)
		again error
		check func(r Room) bool
	}{
		{"RoomRegistered", func(h *Handler) (Room, error) { return register(t)(h, room) }, nil, func(r Room) bool { return r.ID == room && r.Details.Name == "Room" }},
		{"RoomChanged", func(h *Handler) (Room, error) {
			return h.ChangeRoom(t.Context(), ChangeRoom{Request: request(), Room: room, Details: domain.Details{Name: "Red", Zone: "Asia/Seoul"}})
		}, nil, func(r Room) bool { return r.Details.Name == "Red" }},
		{"RulesSet", func(h *Handler) (Room, error) {
			return h.SetRules(t.Context(), SetRules{Request: request(), Room: room, Rules: domain.Rules{GapMinutes: 5}})
		}, nil, func(r Room) bool { return r.Rules.GapMinutes == 5 }},
		{"PeriodClosed", func(h *Handler) (Room, error) {
			return h.ClosePeriod(t.Context(), ClosePeriod{Request: closed, Room: room, Slot: slot(0, 5), Reason: "paint"})
		}, nil, func(r Room) bool {
			return len(r.Closures) == 1 && r.Closures[0].Reason == "paint" && r.Closures[0].Bookings == domain.KeepBookings
		}},
		{"PeriodReopened", func(h *Handler) (Room, error) {
			return h.ReopenPeriod(t.Context(), ReopenPeriod{Request: request(), Room: room, Closure: domain.ClosureID(closed.ID.String())})
		}, domain.ErrClosureNotFound, func(r Room) bool { return len(r.Closures) == 0 }},
		{"RoomPhotoChanged", func(h *Handler) (Room, error) {
			return h.SetPhoto(t.Context(), SetPhoto{Request: request(), Room: room, Upload: aPicture(room), Alt: "a wall"})
		}, nil, func(r Room) bool { return r.Photo.Alt == "a wall" && r.Photo.Width == 4 && r.Photo.Height == 3 }},
		{"RoomRetired", func(h *Handler) (Room, error) {
			return h.RetireRoom(t.Context(), RetireRoom{Request: request(), Room: room, From: slot(50, 51).Start})
		}, nil, func(r Room) bool { return r.Retirement != nil && r.Retirement.From.Equal(slot(50, 51).Start) }},
		{"RoomReinstated", func(h *Handler) (Room, error) {
			return h.ReinstateRoom(t.Context(), ReinstateRoom{Request: request(), Room: room})
		}, nil, func(r Room) bool { return r.Retirement == nil }},
	} {
		if len(types) == 0 {
			if _, err := handlers[1].Room(t.Context(), room); !errors.Is(err, domain.ErrRoomNotFound) {
				t.Errorf("before it is registered: %v", err)
			}
			if _, err := handlers[1].RoomHistory(t.Context(), room); !errors.Is(err, domain.ErrRoomNotFound) {
				t.Errorf("its history before it is registered: %v", err)
			}
		}
		first, err := c.ask(handlers[0])
		if err != nil || !c.check(first) || first.Position == 0 {
			t.Fatalf("%s: %+v, %v", c.event, first, err)
		}
		book(t, handlers[0], room, slot(33+2*len(types), 34+2*len(types))) // which leaves the room's revision as it is
		second, err := c.ask(handlers[1])
		if !errors.Is(err, c.again) || err == nil && !sameAnswer(second, first) {
			t.Errorf("%s again: %+v, %v, first it was %+v", c.event, second, err, first)
		}
		if read, err := handlers[1].Room(t.Context(), room); err != nil || !reflect.DeepEqual(read, first) {
			t.Errorf("%s is read as %+v, %v, want %+v", c.event, read, err, first)
		}
		types = append(types, c.event)
		history, err := handlers[1].RoomHistory(t.Context(), room)
		var got []string
		for _, r := range history {
			got = append(got, r.Type)
		}
		if err != nil || !slices.Equal(got, types) || history[len(history)-1].Revision != first.Revision || history[len(history)-1].Position != first.Position {
			t.Errorf("its history is %v, %v, want %v", got, err, types)
		}
	}
	_, err := handlers[0].RegisterRoom(t.Context(), RegisterRoom{Request: request(), Room: room, Details: domain.Details{Name: "Blue"}})
	if exists, ok := errors.AsType[*domain.RoomExists](err); !ok || exists.Details.Name != "Red" {
		t.Errorf("registered once more: %v", err)
	}
}

// The approvers whom a room names are as of a booking at least, also where another replica has changed the room and booked it, and what is
// cached here is older.
func TestApproversOfARoom(t *testing.T) {
	store := eventstoretest.Open(t)
	here, other := newHandler(store), newHandler(store)
	room := newRoom()
	if named, err := here.Approvers(t.Context(), room, book(t, here, room, slot(0, 1)).ID); err != nil || len(named) > 0 {
		t.Errorf("a room that is not registered: %s, %v", named, err)
	}
	if _, err := other.RegisterRoom(t.Context(), RegisterRoom{Request: request(), Room: room, Details: domain.Details{Name: "Red", Approvers: []domain.UserID{"ann", "bob"}}}); err != nil {
		t.Fatal(err)
	}
	booking := book(t, other, room, slot(1, 2))
	for range 2 {
		if named, err := here.Approvers(t.Context(), room, booking.ID); err != nil || !slices.Equal(named, []domain.UserID{"ann", "bob"}) {
			t.Errorf("%s, %v", named, err)
		}
	}
}

// A condition is on the revision of the room, whatever was booked since.
func TestAConditionOnARoom(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRoom()
	set := func(minutes int, r ...domain.Revision) error {
		ask := request()
		ask.IfRevisions = r
		_, err := h.SetRules(t.Context(), SetRules{Request: ask, Room: room, Rules: domain.Rules{NoticeMinutes: minutes}})
		return err
	}
	known, err := register(t)(h, room)
	if err != nil || known.Revision != 0 {
		t.Fatal(known, err)
	}
	for hour := range 3 {
		book(t, h, room, slot(hour, hour+1))
	}
	if failed, ok := errors.AsType[*ConditionFailed](set(1, 3)); !ok || failed.Revision != 0 {
		t.Errorf("at the revision of a booking: %v", failed)
	}
	if err := set(1, 0); err != nil {
		t.Error(err)
	}
	if failed, ok := errors.AsType[*ConditionFailed](set(2, 0)); !ok || failed.Revision != 4 {
		t.Errorf("at a former revision: %v", failed)
	}
	ask := request()
	ask.UnlessRevisions = []domain.Revision{4}
	if _, err := h.ReinstateRoom(t.Context(), ReinstateRoom{Request: ask, Room: room}); err == nil {
		t.Error("nothing to do at a revision that is excluded")
	}
}

func TestOnlyRegisteredRooms(t *testing.T) {
	store := eventstoretest.Open(t)
	policy := domain.DefaultPolicy()
	policy.RegisteredRooms = true
	open, closed := newHandler(store), New(store, Options{Policy: policy})
	room, other := newRoom(), newRoom()
	b := book(t, open, room, slot(0, 1))
	if err := createErr(t, closed, room, "ann", slot(1, 2)); !errors.Is(err, domain.ErrRoomNotFound) {
		t.Errorf("an unknown room: %v", err)
	}
	if _, err := register(t)(open, other); err != nil {
		t.Fatal(err)
	}
	if _, err := closed.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &other}); err != nil {
		t.Errorf("to a known room: %v", err)
	}
	if _, err := closed.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &room}); !errors.Is(err, domain.ErrRoomNotFound) {
		t.Errorf("to an unknown room: %v", err)
	}
	if _, err := register(t)(open, room); err != nil { // which the other has cached
		t.Fatal(err)
	}
	book(t, closed, room, slot(1, 2))
}

// TestClosingCancels closes a period over bookings of every kind, and retires the room.
func TestClosingCancels(t *testing.T) {
	store := eventstoretest.Open(t)
	from, err := store.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler(store)
	room, other := newRoom(), newRoom()
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	before, inUse, within, confirmed, after := book(t, h, room, slot(0, 1)), book(t, h, room, slot(1, 2)), book(t, h, room, slot(2, 3)), book(t, h, room, slot(3, 4)), book(t, h, room, slot(5, 6))
	elsewhere := book(t, h, other, slot(2, 3))
	if _, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: confirmed.ID, Answer: domain.Confirmed, AnsweredAt: noon}); err != nil {
		t.Fatal(err)
	}
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: inUse.ID, StartedAt: noon.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	left := reservation(room, slot(4, 5)) // its command died
	if _, err := store.Append(t.Context(), room.Stream(), 5, left); err != nil {
		t.Fatal(err)
	}
	closed, err := h.ClosePeriod(t.Context(), ClosePeriod{Request: request(), Room: room, Slot: slot(1, 5), Reason: "paint", Bookings: domain.CancelBookings})
	if err != nil {
		t.Fatal(err)
	}
	wantOver := func(id domain.BookingID, h *Handler) {
		t.Helper()
		b, err := load[domain.Booking](t.Context(), store, id.Stream())
		over, _ := cause[domain.BookingCancelled](b)
		if err != nil || b.state.Phase() != domain.PhaseCancelled || b.state.Cancellation.Reason != domain.CancelledByClosure || over.Position > closed.Position {
			t.Errorf("%s is %s, %v; the answer is of position %d", id, b.state.Phase(), err, closed.Position)
		}
	}
	for _, id := range []domain.BookingID{within.ID, confirmed.ID, left.Event.(domain.SlotReserved).BookingID} {
		wantOver(id, h)
		b, _ := load[domain.Booking](t.Context(), store, id.Stream())
		if e, over := cause[domain.BookingCancelled](b); over.Detail != "paint" || e.Metadata.CausationID == "" || e.Metadata.Actor != "ann" {
			t.Errorf("%s: %+v, %+v", id, over, e.Metadata)
		}
	}
	for _, b := range []Booking{before, inUse, after, elsewhere} {
		if _, err := h.Booking(t.Context(), b.ID); err != nil {
			t.Errorf("%s: %v", b.Slot, err)
		}
	}
	for _, s := range []domain.Slot{slot(2, 3), slot(4, 5), slot(4, 6)} {
		if refused, ok := errors.AsType[*domain.RoomClosed](createErr(t, newHandler(store), room, "bob", s)); !ok || refused.By[0].Reason != "paint" {
			t.Errorf("%s can be booked: %v", s, refused)
		}
	}
	if _, err := h.EndUse(t.Context(), EndUse{Request: request(), RealUse: use.ID, EndedAt: noon.Add(90 * time.Minute)}); err != nil {
		t.Error(err)
	}
	conflicts, more, err := h.RoomConflicts(t.Context(), room, noon)
	if err != nil || more != 0 || len(conflicts) != 0 {
		t.Errorf("conflicts: %+v, %d, %v", conflicts, more, err)
	}

	closed, err = h.RetireRoom(t.Context(), RetireRoom{Request: request(), Room: room, From: slot(5, 6).Start, Bookings: domain.CancelBookings})
	if err != nil {
		t.Fatal(err)
	}
	wantOver(after.ID, h)
	if _, err := h.Booking(t.Context(), before.ID); err != nil {
		t.Errorf("before it is retired: %v", err)
	}
	if retired, ok := errors.AsType[*domain.Retired](createErr(t, h, room, "bob", slot(9, 10))); !ok || !retired.From.Equal(slot(5, 6).Start) {
		t.Errorf("after it is retired: %v", retired)
	}
	wantSound(t, store, from, room, other)
}

// TestManyBookAgainstAClosingRoom books in a room by many callers of two replicas while it is closed by one of them, and reopened by the
// other: what is booked in the period when it is closed is over when that is answered, and nothing is booked there until it is reopened.
func TestManyBookAgainstAClosingRoom(t *testing.T) {
	handlers, server := replicas(t, 2)
	store := server.Open(t, eventstore.Options{})
	const clients, rounds = 8, 6
	room := newRoom()
	if _, err := register(t)(handlers[0], room); err != nil {
		t.Fatal(err)
	}
	from := eventstore.Position(0)
	period := slot(0, 8)
	for round := range rounds {
		var booked, refused atomic.Int64
		var stop atomic.Bool
		var all sync.WaitGroup
		for client := range clients {
			h := handlers[client%2]
			all.Go(func() {
				for n := 0; !stop.Load() || n < 2; n++ {
					s := slot((client+n)%10, (client+n)%10+1)
					b, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: s})
					_, closed := errors.AsType[*domain.RoomClosed](err)
					_, taken := errors.AsType[*domain.SlotTaken](err)
					switch {
					case err == nil:
						booked.Add(1)
						if n%3 == 0 {
							to := slot(n%8, n%8+1)
							_, _ = h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Start: &to.Start, End: &to.End})
						} else if n%3 == 1 {
							_, _ = h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID})
						}
					case closed || taken:
						refused.Add(1)
					default:
						t.Error(err)
						return
					}
				}
			})
		}
		for booked.Load() < 3 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		closing := Request{ID: uuid.New(), Actor: domain.Anyone("eve"), At: noon}
		if _, err := handlers[round%2].ClosePeriod(t.Context(), ClosePeriod{Request: closing, Room: room, Slot: period, Bookings: domain.CancelBookings}); err != nil {
			t.Error(err)
		}
		check := func(when string) {
			c, err := newHandler(store).calendars.complete(t.Context(), room, time.Time{})
			if err != nil {
				t.Error(err)
			}
			for _, r := range c.Overlapping(period, "") {
				if b, err := load[domain.Booking](t.Context(), store, r.BookingID.Stream()); err != nil || b.state.BackedBy(r.ReservationID) {
					t.Errorf("%s, %s is booked by %s: %v", when, r.Slot, r.BookingID, err)
				}
			}
		}
		check("when the closing is answered")
		stop.Store(true)
		all.Wait()
		check("at the end")
		if _, err := handlers[1-round%2].ReopenPeriod(t.Context(), ReopenPeriod{Request: request(), Room: room, Closure: domain.ClosureID(closing.ID.String())}); err != nil {
			t.Error(err)
		}
		t.Logf("%d booked, %d refused", booked.Load(), refused.Load())
	}
	wantSound(t, store, from, room)
}

// TestAClosingThatDies lets the process of a closing die in the middle of several bookings: recovery does the rest.
func TestAClosingThatDies(t *testing.T) {
	n := openNode(t)
	h := newHandler(n.store)
	for _, at := range []int{2, 4, 5} {
		t.Run(fmt.Sprintf("after %d appends", at), func(t *testing.T) {
			var room domain.RoomID
			var bookings []Booking
			n.dies(t, point{at, true}, func(dying *Handler) error {
				room, bookings = newRoom(), nil
				if _, err := register(t)(h, room); err != nil {
					t.Fatal(err)
				}
				for hour := range 5 {
					bookings = append(bookings, book(t, h, room, slot(hour, hour+1)))
				}
				_, err := dying.ClosePeriod(t.Context(), ClosePeriod{Request: request(), Room: room, Slot: slot(1, 4), Bookings: domain.CancelBookings})
				return err
			})
			of := eventstoretest.Naming(room)
			log := eventstoretest.PartOf(n.store, of)
			open, err := OpenBookings(t.Context(), log)
			if err != nil || !slices.ContainsFunc(open, func(b OpenBooking) bool { return b.Room == room && b.Booking == "" }) {
				t.Errorf("open are %+v, %v", open, err)
			}
			recovering(t, n.store, log, 2, 10*time.Millisecond)
			waitCleared(t, log)
			for i, b := range bookings {
				if now, err := load[domain.Booking](t.Context(), n.store, b.ID.Stream()); err != nil || now.state.Live() != (i == 0 || i == 4) {
					t.Errorf("booking %d: %s, %v", i, now.state.Phase(), err)
				}
			}
		})
	}
}

// TestLimitsOfAUser counts what users have, through changes of the user, moves and ends.
func TestLimitsOfAUser(t *testing.T) {
	store := eventstoretest.Open(t)
	h, other := newHandler(store), newHandler(store)
	room, elsewhere := newRuledRoom(t, h, domain.Rules{UpcomingPerUser: 1, WeeklyMinutesPerUser: 180}), newRoom()
	b := book(t, h, room, slot(1, 2))
	wantRule(t, createErr(t, h, room, "ann", slot(5, 6)), domain.RuleUpcoming)
	wantRule(t, createErr(t, other, room, "ann", slot(5, 6)), domain.RuleUpcoming)
	bob, ann := domain.UserID("bob"), domain.UserID("ann")
	give := func(h *Handler, id domain.BookingID, to *domain.UserID) error {
		_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: id, User: to})
		return err
	}
	confirmed, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: b.ID, Answer: domain.Confirmed, AnsweredAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	if err := give(other, b.ID, &bob); err != nil {
		t.Fatal(err)
	}
	if now, err := h.Booking(t.Context(), b.ID); err != nil || now.User != "bob" || now.Phase() != domain.PhaseConfirmed || !now.Slot.Equal(confirmed.Slot) || now.Reservation == b.Reservation {
		t.Errorf("handed over: %+v, %v", now, err)
	}
	c := book(t, h, room, slot(5, 6))
	wantRule(t, createErr(t, h, room, "bob", slot(7, 8)), domain.RuleUpcoming)
	wantRule(t, give(h, b.ID, &ann), domain.RuleUpcoming)
	moved := book(t, h, elsewhere, slot(9, 10))
	_, err = h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: moved.ID, Room: &room})
	wantRule(t, err, domain.RuleUpcoming)
	if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: c.ID, Room: &elsewhere}); err != nil {
		t.Error(err)
	}
	if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: moved.ID, Room: &room}); err != nil {
		t.Error(err)
	}
	wantRule(t, createErr(t, other, room, "ann", slot(11, 12)), domain.RuleUpcoming)
	if _, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(11, 12), Override: true}); err != nil {
		t.Errorf("overridden: %v", err)
	}
}

// A limit that one process has set holds in another that knew the room before and has not come across anything of that process since.
func TestALimitThatAnotherProcessSets(t *testing.T) {
	store := eventstoretest.Open(t)
	h, other := newHandler(store), newHandler(store)
	room := newRuledRoom(t, h, domain.Rules{GapMinutes: 1})
	b := book(t, h, room, slot(1, 2))
	if _, err := other.SetRules(t.Context(), SetRules{Request: request(), Room: room, Rules: domain.Rules{UpcomingPerUser: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "bob", Slot: slot(3, 4)}); err != nil {
		t.Fatal(err)
	}
	bob := domain.UserID("bob")
	_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &bob})
	wantRule(t, err, domain.RuleUpcoming)
}

// A booking that is handed over while it moves to a room that counts what users have counts there for the user who has it then.
func TestAMoveAndAnotherUserWhereUsersAreCounted(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRuledRoom(t, h, domain.Rules{UpcomingPerUser: 1})
	b := book(t, h, newRoom(), slot(0, 1))
	raced := &raced{Store: store, stream: b.ID.Stream(), by: func() {
		bob := domain.UserID("bob")
		if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &bob}); err != nil {
			t.Error(err)
		}
	}}
	moved, err := newHandler(raced).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &room})
	if err != nil || moved.Room != room || moved.User != "bob" {
		t.Fatalf("moved: %+v, %v", moved, err)
	}
	wantRule(t, createErr(t, h, room, "bob", slot(5, 6)), domain.RuleUpcoming)
	book(t, h, room, slot(5, 6)) // for ann
}

// A week's time is counted on the whole stream where the calendar in memory does not have all of the week.
func TestAWeekThatIsForgotten(t *testing.T) {
	store := eventstoretest.Open(t)
	h := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour})
	h.calendars.keepFew = 0
	room := newRuledRoom(t, h, domain.Rules{WeeklyMinutesPerUser: 120})
	at := func(hour int, user domain.UserID, s domain.Slot) error {
		r := request()
		r.At = slot(hour, hour).Start
		_, err := h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: room, User: user, Slot: s})
		return err
	}
	for hour := range 2 {
		if err := at(hour, "ann", slot(hour, hour+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := at(30, "bob", slot(30, 31)); err != nil {
		t.Fatal(err)
	}
	if n := h.calendars.cached(room).Len(); n != 1 {
		t.Fatalf("%d reservations are remembered", n)
	}
	wantRule(t, at(31, "ann", slot(40, 41)), domain.RuleWeekly)
	if err := at(31, "ann", slot(24*6, 24*6+1)); err != nil { // the next week
		t.Error(err)
	}
}

// A closure that ended long ago is reopened whatever a process remembers.
func TestReopeningWhatIsForgotten(t *testing.T) {
	store := eventstoretest.Open(t)
	h := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour})
	room := newRuledRoom(t, h, domain.Rules{})
	closing := ClosePeriod{Request: request(), Room: room, Slot: slot(0, 1)}
	if _, err := h.ClosePeriod(t.Context(), closing); err != nil {
		t.Fatal(err)
	}
	later := func() Request { r := request(); r.At = slot(100, 101).Start; return r }
	if _, err := h.CreateBooking(t.Context(), CreateBooking{Request: later(), Room: room, User: "ann", Slot: slot(100, 101)}); err != nil {
		t.Fatal(err)
	}
	if n := len(h.calendars.cached(room).About().Closures); n != 0 {
		t.Fatalf("%d closures are remembered", n)
	}
	reopening := ReopenPeriod{Request: later(), Room: room, Closure: domain.ClosureID(closing.ID.String())}
	reopening.Digest = "reopen"
	for range 2 {
		if _, err := h.ReopenPeriod(t.Context(), reopening); err != nil {
			t.Error(err)
		}
	}
	reopening.Request = later()
	if _, err := h.ReopenPeriod(t.Context(), reopening); !errors.Is(err, domain.ErrClosureNotFound) {
		t.Errorf("reopened again: %v", err)
	}
}

// Nobody is refused because of a booking that is over: what its command left half-done is finished first.
func TestARuleIsNotBrokenByWhatIsOver(t *testing.T) {
	n := openNode(t)
	h := newHandler(n.store)
	for name, rules := range map[string]domain.Rules{"gap": {GapMinutes: 30}, "upcoming": {UpcomingPerUser: 1}, "weekly": {WeeklyMinutesPerUser: 60}} {
		t.Run(name, func(t *testing.T) {
			var room domain.RoomID
			n.dies(t, point{1, true}, func(dying *Handler) error {
				room = newRuledRoom(t, h, rules)
				_, err := dying.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: book(t, h, room, slot(0, 1)).ID})
				return err
			})
			book(t, newHandler(n.store), room, slot(1, 2))
		})
	}
}

// TestRulesOfABooking carries what the rules said when a slot was taken through the life of its booking.
func TestRulesOfABooking(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	early := 10
	room := newRuledRoom(t, h, domain.Rules{Approval: domain.ApprovalNone, EarlyUseMinutes: &early})
	b := book(t, h, room, slot(1, 2))
	if b.Phase() != domain.PhaseConfirmed || b.Confirm.By != domain.ConfirmedByRules {
		t.Errorf("booked: %+v", b)
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmCompleted")
	if _, err := h.SetRules(t.Context(), SetRules{Request: request(), Room: room}); err != nil {
		t.Fatal(err)
	}
	_, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon.Add(49 * time.Minute)})
	if off, ok := errors.AsType[*domain.UseOffSlot](err); !ok || !off.Earliest.Equal(noon.Add(50*time.Minute)) || !off.Latest.IsZero() {
		t.Errorf("too early: %v", err)
	}
	end := slot(1, 3).End
	moved, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, End: &end})
	if err != nil || moved.Phase() != domain.PhaseBooked || !moved.UseFrom.IsZero() {
		t.Errorf("moved without rules: %+v, %v", moved, err)
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmCompleted", "BookingChanged", "ConfirmRequested")
	if _, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon}); err != nil {
		t.Error(err)
	}
}

// TestRoomConflicts lists what today's rules would not allow.
func TestRoomConflicts(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRoom()
	if _, _, err := h.RoomConflicts(t.Context(), room, noon); !errors.Is(err, domain.ErrRoomNotFound) {
		t.Errorf("an unknown room: %v", err)
	}
	over, one, two, three := book(t, h, room, slot(-2, -1)), book(t, h, room, slot(0, 1)), book(t, h, room, slot(1, 2)), book(t, h, room, slot(20, 22))
	cancelled := book(t, h, room, slot(2, 3))
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: cancelled.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetRules(t.Context(), SetRules{Request: request(), Room: room, Rules: domain.Rules{GapMinutes: 15, LongestMinutes: 60, NoticeMinutes: 600}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ClosePeriod(t.Context(), ClosePeriod{Request: request(), Room: room, Slot: slot(21, 30)}); err != nil {
		t.Fatal(err)
	}
	conflicts, more, err := newHandler(store).RoomConflicts(t.Context(), room, noon)
	if err != nil || more != 0 {
		t.Fatal(more, err)
	}
	type broken struct {
		id       domain.BookingID
		rules    string
		closures int
	}
	var got []broken
	for _, c := range conflicts {
		var rules []domain.RuleName
		for _, b := range c.Broken {
			rules = append(rules, b.Rule)
		}
		got = append(got, broken{c.Booking.ID, fmt.Sprint(rules), len(c.Closures)})
	}
	want := []broken{{one.ID, "[gapMinutes]", 0}, {two.ID, "[gapMinutes]", 0}, {three.ID, "[longestMinutes]", 1}}
	if !slices.Equal(got, want) {
		t.Errorf("conflicts are %v, want %v; %s is over", got, want, over.ID)
	}
}

// TestASnapshotOfARoom decides on what a snapshot says of a room's rules and closures, and lets the audit compare.
func TestASnapshotOfARoom(t *testing.T) {
	store := eventstoretest.Open(t)
	room := newRoom()
	age(t, store, room, 250)
	h := snapshotting(store)
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetRules(t.Context(), SetRules{Request: request(), Room: room, Rules: domain.Rules{GapMinutes: 30}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ClosePeriod(t.Context(), ClosePeriod{Request: request(), Room: room, Slot: slot(500, 600)}); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		book(t, h, room, slot(2*i+1, 2*i+2))
		h.idle()
	}
	for i := range 60 {
		book(t, h, room, slot(200+2*i, 201+2*i))
		h.idle()
	}
	s, _ := lastSnapshot(t, store, room)
	if s.Room.ID != room || s.Room.Rules.GapMinutes != 30 || len(s.Room.Closures) != 1 {
		t.Fatalf("the snapshot says %+v", s.Room)
	}
	counted := &measured{Store: store, stream: room.Stream()}
	cold := snapshotting(counted)
	wantRule(t, createErr(t, cold, room, "ann", slot(2, 3)), domain.RuleGap)
	if _, ok := errors.AsType[*domain.RoomClosed](createErr(t, cold, room, "ann", slot(550, 551))); !ok || counted.read > 150 {
		t.Errorf("closed: %t, after %d events were read", ok, counted.read)
	}
	if found := snapshotFindings(t, store, room); found != nil {
		t.Error(found)
	}
	s.Room.Rules.GapMinutes = 0 // and its hash no longer fits
	if _, err := store.Append(t.Context(), room.SnapshotStream(), eventstore.Any, eventstore.Proposed{Event: s, Metadata: eventstore.Metadata{OccurredAt: noon}}); err != nil {
		t.Fatal(err)
	}
	if found := snapshotFindings(t, store, room); len(found) != 1 {
		t.Errorf("found %v", found)
	}
	wantRule(t, createErr(t, snapshotting(store), room, "ann", slot(2, 3)), domain.RuleGap)
}

// TestTheAuditFindsWhatRoomsForbid audits logs in which a gap is not kept, and a closed period is booked.
func TestTheAuditFindsWhatRoomsForbid(t *testing.T) {
	room := domain.RoomID("red")
	reserved := func(n byte, s domain.Slot, override bool) []domain.Event {
		id := domain.BookingID(uuid.UUID{15: n}.String())
		r := domain.SlotReserved{ReservationID: domain.ReservationID(uuid.UUID{15: n, 0: 1}.String()), BookingID: id, RoomID: room, UserID: "ann", Slot: s, Override: override}
		return append([]domain.Event{r}, domain.DecideCreate(domain.Booking{}, r)...)
	}
	known := domain.RoomRegistered{RoomID: room, Details: domain.Details{Name: "Red"}}
	gap := domain.RulesSet{RoomID: room, Rules: domain.Rules{GapMinutes: 30}}
	closed := func(b domain.AffectedBookings) domain.Event {
		return domain.PeriodClosed{ClosureID: "c", RoomID: room, Slot: slot(0, 2), Bookings: b}
	}
	for name, c := range map[string]struct {
		events   []domain.Event
		findings int
	}{
		"a gap that is kept":             {slices.Concat([]domain.Event{known, gap}, reserved(1, slot(0, 1), false), reserved(2, slot(2, 3), false)), 0},
		"a gap that is not":              {slices.Concat([]domain.Event{known, gap}, reserved(1, slot(0, 1), false), reserved(2, slot(1, 3), false)), 1},
		"a gap that is overridden":       {slices.Concat([]domain.Event{known, gap}, reserved(1, slot(0, 1), false), reserved(2, slot(1, 3), true)), 0},
		"a gap that was not a rule then": {slices.Concat(reserved(1, slot(0, 1), false), reserved(2, slot(1, 3), false), []domain.Event{known, gap}), 0},
		"booked while closed":            {slices.Concat([]domain.Event{known, closed(domain.CancelBookings)}, reserved(1, slot(0, 1), false)), 2},
		"not cancelled":                  {slices.Concat(reserved(1, slot(0, 1), false), []domain.Event{known, closed(domain.CancelBookings)}), 1},
		"kept":                           {slices.Concat(reserved(1, slot(0, 1), false), []domain.Event{known, closed(domain.KeepBookings)}), 0},
		"reopened":                       {slices.Concat(reserved(1, slot(0, 1), false), []domain.Event{known, closed(domain.CancelBookings), domain.PeriodReopened{ClosureID: "c", RoomID: room}}), 0},
	} {
		a := NewAudit()
		revisions := map[string]domain.Revision{}
		for i, e := range c.events {
			stream := "booking"
			switch e.(type) {
			case domain.SlotReserved, domain.RoomRegistered, domain.RulesSet, domain.PeriodClosed, domain.PeriodReopened:
				stream = "calendar"
			}
			a.Add(eventstore.Recorded{Position: eventstore.Position(i + 1), Stream: stream, Revision: revisions[stream], Type: e.EventType(), Event: e})
			revisions[stream]++
		}
		if found := a.Findings(); len(found) != c.findings {
			t.Errorf("%s: found %v, want %d", name, found, c.findings)
		}
	}
}

// TestATryOfARoomsCommandThatIsDoneMeanwhile is TestATryWhoseCommandIsDoneMeanwhile for rooms.
func TestATryOfARoomsCommandThatIsDoneMeanwhile(t *testing.T) {
	store := &outrun{Store: eventstoretest.Open(t)}
	h, other := newHandler(store), newHandler(store.Store)
	room, r := newRoom(), keyed("digest")
	if _, err := register(t)(h, room); err != nil {
		t.Fatal(err)
	}
	set := func(h *Handler, r Request, minutes int) Room {
		t.Helper()
		room, err := h.SetRules(t.Context(), SetRules{Request: r, Room: room, Rules: domain.Rules{GapMinutes: minutes}})
		if err != nil {
			t.Fatal(err)
		}
		return room
	}
	var first Room
	store.meanwhile = func() {
		first = set(other, r(), 10)
		set(h, request(), 20)
	}
	if second := set(h, r(), 10); !sameAnswer(second, first) {
		t.Errorf("the tries are answered %+v and %+v", first, second)
	}
	if now, err := h.Room(t.Context(), room); err != nil || now.Rules.GapMinutes != 20 {
		t.Errorf("the room is %+v, %v, want the later rules", now, err)
	}
}
