package commands

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// Whatever a replica remembers of a booking, its answer is that of one that knows nothing: it neither refuses a command, nor takes it to be
// done, because of what another replica has changed since.
func TestNothingIsRefusedFromMemory(t *testing.T) {
	store := eventstoretest.Open(t)
	policy := domain.DefaultPolicy()
	policy.ConfirmBeforeUse = true
	ann, bob, eve, end := domain.UserID("ann"), domain.UserID("bob"), domain.UserID("eve"), slot(0, 2).End
	change := func(c ChangeBooking) func(*Handler, domain.BookingID, Request) error {
		return func(h *Handler, id domain.BookingID, r Request) error {
			c.Request, c.Booking = r, id
			_, err := h.ChangeBooking(t.Context(), c)
			return err
		}
	}
	answer := func(a domain.Answer) func(*Handler, domain.BookingID, Request) error {
		return func(h *Handler, id domain.BookingID, r Request) error {
			_, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: r, Booking: id, Answer: a, AnsweredAt: noon})
			return err
		}
	}
	start := func(h *Handler, id domain.BookingID, r Request) error {
		_, err := h.StartUse(t.Context(), StartUse{Request: r, Booking: id, StartedAt: noon})
		return err
	}
	for _, c := range []struct {
		name                        string
		remembered, meanwhile, when func(*Handler, domain.BookingID, Request) error
		at                          []domain.Revision
		last                        string // in the stream of the booking
	}{
		{"a condition", change(ChangeBooking{User: &eve}), change(ChangeBooking{User: &ann}), change(ChangeBooking{User: &bob}), []domain.Revision{5}, "BookingHandedOver"},
		{"no change", change(ChangeBooking{User: &eve}), change(ChangeBooking{User: &ann}), change(ChangeBooking{User: &eve}), nil, "BookingHandedOver"},
		{"confirmed already", answer(domain.Confirmed), change(ChangeBooking{End: &end}), answer(domain.Confirmed), nil, "ConfirmCompleted"},
		{"not to be denied", answer(domain.Confirmed), change(ChangeBooking{End: &end}), answer(domain.Denied), nil, "BookingCancelled"},
		{"not confirmed yet", change(ChangeBooking{User: &eve}), answer(domain.Confirmed), start, nil, "BookingCheckedIn"},
	} {
		for _, digest := range []string{"", "digest"} {
			t.Run(c.name+" "+digest, func(t *testing.T) {
				h, other := New(store, Options{Policy: policy}), New(store, Options{Policy: policy})
				b := book(t, h, newRoom(), slot(0, 1))
				if err := c.remembered(h, b.ID, request()); err != nil {
					t.Fatal(err)
				}
				if recall[domain.Booking](h, b.ID.Stream()).revision == eventstore.NoStream {
					t.Fatal("the booking is not remembered")
				}
				if err := c.meanwhile(other, b.ID, request()); err != nil {
					t.Fatal(err)
				}
				r := request()
				r.Digest, r.IfRevisions = digest, c.at
				if err := c.when(h, b.ID, r); err != nil {
					t.Error(err)
				}
				if types := eventTypes(t, store, b.ID.Stream()); types[len(types)-1] != c.last {
					t.Errorf("the booking has %v, want %s at the end", types, c.last)
				}
			})
		}
	}
}

// The same holds for a real use, and for a booking that an event has been added to which cannot be decoded.
func TestNothingOfAUseOrABlockedBookingIsRefusedFromMemory(t *testing.T) {
	n := openNode(t)
	h, other := newHandler(n.store), newHandler(n.store)
	b := book(t, h, newRoom(), slot(0, 1))
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	end := EndUse{Request: request(), RealUse: use.ID, EndedAt: slot(0, 1).End}
	ended, err := other.EndUse(t.Context(), end)
	if err != nil {
		t.Fatal(err)
	}
	end.Request = request()
	end.IfRevisions = []domain.Revision{ended.Revision}
	if again, err := h.EndUse(t.Context(), end); err != nil || !again.EndedAt().Equal(end.EndedAt) {
		t.Errorf("a use that has ended so: %+v, %v", again, err)
	}

	b = book(t, h, newRoom(), slot(0, 1))
	eventstoretest.AppendRaw(t, n.address, b.ID.Stream(), "BookingChanged", `{"bookingId": 17}`, "")
	if _, err := h.ReleaseBooking(t.Context(), ReleaseBooking{Request: request(), Booking: b.ID, Rooms: []domain.RoomID{b.Room}}); err != nil {
		t.Errorf("a booking with an event that cannot be decoded: %v", err)
	}
}

// A try of a command finds what an earlier one has done, even if its process remembers the booking from before that, or as others have left it
// since.
func TestARepeatIsNotDecidedFromMemory(t *testing.T) {
	store := eventstoretest.Open(t)
	for _, c := range keyedCommands() {
		t.Run(c.name, func(t *testing.T) {
			h, other := newHandler(store), newHandler(store)
			w, r := &world{store: store, handler: newHandler, from: newRoom(), to: newRoom()}, keyed("digest")
			c.given(t, h, w)
			first, err := c.when(t.Context(), other, w, r())
			if err != nil {
				t.Fatal(err)
			}
			again := func(h *Handler) {
				before := w.end(t)
				if again, err := c.when(t.Context(), h, w, r()); err != nil || !sameAnswer(again, first) {
					t.Errorf("%+v, %v; the first answer was %+v", again, err, first)
				}
				w.wantEnd(t, before)
			}
			again(h)
			for _, later := range c.later {
				if err := later(t.Context(), other, w); err != nil {
					t.Fatal(err)
				}
				again(other)
			}
		})
	}
}

// outrun is a store that has something else happen before its answer to the first append to a key.
type outrun struct {
	Store
	once      sync.Once
	meanwhile func()
}

func (o *outrun) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	at, err := o.Store.Append(ctx, stream, expected, events...)
	if _, claims := events[0].Event.(domain.KeyUsed); claims {
		o.once.Do(o.meanwhile)
	}
	return at, err
}

// Between the claim of a key and the decision, another process may carry out the command, and this one learn of the booking as others have
// left it after that. The command is not done a second time.
func TestATryWhoseCommandIsDoneMeanwhile(t *testing.T) {
	store := &outrun{Store: eventstoretest.Open(t)}
	h, other := newHandler(store), newHandler(store.Store)
	b, r := book(t, h, newRoom(), slot(0, 1)), keyed("digest")
	change := func(h *Handler, r Request, user domain.UserID) Booking {
		t.Helper()
		b, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: r, Booking: b.ID, User: &user})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var first Booking
	store.meanwhile = func() {
		first = change(other, r(), "bob")
		change(h, request(), "eve")
	}
	if second := change(h, r(), "bob"); !sameAnswer(second, first) {
		t.Errorf("the tries are answered %+v and %+v", first, second)
	}
	if now, err := h.Booking(t.Context(), b.ID); err != nil || now.User != "eve" {
		t.Errorf("the booking is %+v, %v, want it left to eve", now.Booking, err)
	}
}

// watching is a store that notes what its handler remembers of a stream at each append to it.
type watching struct {
	Store
	of   func() *Handler
	mu   sync.Mutex
	seen []*folded[domain.Booking]
	was  []folded[domain.Booking]
}

func (w *watching) look(stream string) {
	kept, ok := w.of().cache.get(stream).(*folded[domain.Booking])
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	was := *kept
	was.state.Former = slices.Clone(whole(kept.state.Former))
	w.seen, w.was = append(w.seen, kept), append(w.was, was)
}

// whole includes what a slice has room for.
func whole(former []domain.RoomReservation) []domain.RoomReservation { return former[:cap(former)] }

func (w *watching) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	w.look(stream)
	defer w.look(stream)
	return w.Store.Append(ctx, stream, expected, events...)
}

// What is remembered is shared by commands: none of them writes to it, not even to the room that a slice has left, whether it wins or loses
// its race.
func TestWhatIsRememberedIsNotWrittenTo(t *testing.T) {
	store := eventstoretest.Open(t)
	var h *Handler
	watched := &watching{Store: store, of: func() *Handler { return h }}
	h = newHandler(watched)
	other := newHandler(store)
	b := book(t, h, newRoom(), slot(0, 1))
	for i := range 12 {
		room, user := newRoom(), domain.UserID("user "+string(rune('a'+i)))
		if i%3 == 0 { // then h loses a race
			if _, err := other.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user}); err != nil {
				t.Fatal(err)
			}
		}
		c := ChangeBooking{Request: request(), Booking: b.ID, Room: &room}
		if i%2 == 1 {
			c.Room, c.User = nil, &b.User
		}
		if _, err := h.ChangeBooking(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if len(watched.seen) < 20 {
		t.Errorf("only %d looks", len(watched.seen))
	}
	for i, kept := range watched.seen {
		now := *kept
		now.state.Former = whole(kept.state.Former)
		if !reflect.DeepEqual(now, watched.was[i]) {
			t.Errorf("look %d: it is %+v, was %+v", i, now, watched.was[i])
		}
	}
	if counted, sum := h.cache.counted(), h.cache.sum(); counted != sum {
		t.Errorf("%d bytes are counted, %d are kept", counted, sum)
	}
}

// What is remembered of a log that is gone decides nothing in the one that has taken its place, where the same streams are at the same
// revisions.
func TestAggregatesOfALogThatIsGone(t *testing.T) {
	r := newRestored(t)
	h := newHandler(r.store)
	room, user := newRoom(), domain.UserID("bob")
	given := func(h *Handler, room domain.RoomID, id Request) (Booking, RealUse) {
		b, err := h.CreateBooking(t.Context(), CreateBooking{Request: id, Room: room, User: "ann", Slot: slot(0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: book(t, h, room, slot(1, 2)).ID, StartedAt: noon})
		if err != nil {
			t.Fatal(err)
		}
		return b, use
	}
	id, there := request(), newHandler(r.node.store)
	b, use := given(h, newRoom(), id)
	given(there, room, id)
	if recall[domain.Booking](h, b.ID.Stream()).revision != b.Revision || recall[domain.RealUse](h, use.ID.Stream()).revision != use.Revision {
		t.Fatal("they are not remembered")
	}
	r.put()
	for {
		now, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user})
		if err == nil && (now.Room != room || now.User != user) {
			t.Errorf("the booking is %+v, want it in room %s", now.Booking, room)
		}
		if !isAway(err) {
			if err != nil {
				t.Error(err)
			}
			break
		}
	}
	if _, err := h.EndUse(t.Context(), EndUse{Request: request(), RealUse: use.ID, EndedAt: slot(1, 2).End}); !errors.Is(err, domain.ErrRealUseNotFound) {
		t.Errorf("a use that is in the former log only: %v", err)
	}
	if stored, err := there.Booking(t.Context(), b.ID); err != nil || stored.Room != room || stored.User != user {
		t.Errorf("stored is %+v, %v", stored, err)
	}
}

// A replica that has come across another one's bookings sees that a room is still in use by one, even if it remembers the room from before.
func TestARoomThatAnotherReplicasBookingUses(t *testing.T) {
	store := eventstoretest.Open(t)
	h, other := newHandler(store), newHandler(store)
	room, somewhere := newRoom(), newRoom()
	book(t, h, somewhere, slot(0, 1))
	b := book(t, h, room, slot(1, 2))
	earlier := book(t, other, room, slot(0, 1))
	if _, err := other.StartUse(t.Context(), StartUse{Request: request(), Booking: earlier.ID, StartedAt: noon}); err != nil {
		t.Fatal(err)
	}
	book(t, other, somewhere, slot(1, 2))
	book(t, h, somewhere, slot(2, 3)) // loses a race
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: slot(1, 2).Start})
	if err != nil || use.RoomStillInUseBy != earlier.ID {
		t.Errorf("still in use by %q, %v, want %q", use.RoomStillInUseBy, err, earlier.ID)
	}
}

// What is remembered from before a stream was deleted does not keep commands from what is there now, which has fewer events.
func TestAStreamThatHasBecomeShorter(t *testing.T) {
	h := newHandler(eventstoretest.Open(t))
	b := book(t, h, newRoom(), slot(0, 1))
	deleted := recall[domain.Booking](h, b.ID.Stream())
	deleted.revision, deleted.state.Confirm.Answer = 9, domain.Confirmed
	for what, command := range map[string]func() (Booking, error){
		"confirm": func() (Booking, error) {
			return h.AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: b.ID, Answer: domain.Confirmed, AnsweredAt: noon})
		},
		"change": func() (Booking, error) {
			user := domain.UserID(request().ID.String())
			return h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user})
		},
	} {
		deleted.remember(h, b.ID.Stream())
		if b, err := command(); err != nil || b.Revision > 5 || recall[domain.Booking](h, b.ID.Stream()).revision != b.Revision {
			t.Errorf("%s: %+v, %v", what, b, err)
		}
	}
}
