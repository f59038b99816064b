package commands

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// keyed is a command that its caller may repeat. What callers do not choose differs between tries.
func keyed(digest string) func() Request {
	id := uuid.New()
	var tries int
	var mu sync.Mutex
	return func() Request {
		mu.Lock()
		defer mu.Unlock()
		tries++
		return Request{ID: id, Digest: digest, Actor: domain.Anyone("ann"), At: noon.Add(time.Duration(tries) * time.Second), CorrelationID: fmt.Sprint("try ", tries)}
	}
}

// keyedCommand is a command as its caller asks it, and what may happen to its booking afterwards.
type keyedCommand struct {
	name  string
	given func(t *testing.T, h *Handler, w *world)
	// when returns the answer. Times that callers may leave out are those of the request.
	when func(ctx context.Context, h *Handler, w *world, r Request) (any, error)
	// later lists the commands of others after it.
	later []func(ctx context.Context, h *Handler, w *world) error
}

func keyedCommands() []keyedCommand {
	booked := func(t *testing.T, h *Handler, w *world) { w.booking = book(t, h, w.from, slot(0, 1)).ID }
	confirm := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: request(), Booking: w.booking, Answer: domain.Confirmed, By: "eve", AnsweredAt: noon.Add(time.Minute)})
		return err
	}
	move := func(ctx context.Context, h *Handler, w *world) error {
		end := noon.Add(150 * time.Minute)
		_, err := h.ChangeBooking(ctx, ChangeBooking{Request: request(), Booking: w.booking, End: &end})
		return err
	}
	give := func(ctx context.Context, h *Handler, w *world) error {
		user := domain.UserID("eve")
		_, err := h.ChangeBooking(ctx, ChangeBooking{Request: request(), Booking: w.booking, User: &user})
		return err
	}
	cancel := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.CancelBooking(ctx, CancelBooking{Request: request(), Booking: w.booking})
		return err
	}
	start := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.StartUse(ctx, StartUse{Request: request(), Booking: w.booking, StartedAt: noon})
		return err
	}
	end := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.EndUse(ctx, EndUse{Request: request(), RealUse: domain.RealUseOf(w.booking), EndedAt: noon.Add(time.Hour)})
		return err
	}
	takeItsSlot := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: w.from, User: "eve", Slot: slot(0, 3)})
		return err
	}
	takeTheRest := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: w.from, User: "eve", Slot: slot(1, 3)})
		return err
	}
	type later = []func(ctx context.Context, h *Handler, w *world) error

	change := func(what func(w *world, c *ChangeBooking)) func(context.Context, *Handler, *world, Request) (any, error) {
		return func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
			c := ChangeBooking{Request: r, Booking: w.booking}
			what(w, &c)
			return h.ChangeBooking(ctx, c)
		}
	}
	answer := func(a domain.Answer) func(context.Context, *Handler, *world, Request) (any, error) {
		return func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
			return h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: w.booking, Answer: a, AnsweredAt: r.At})
		}
	}
	known := func(t *testing.T, h *Handler, w *world) {
		booked(t, h, w)
		if _, err := register(t)(h, w.from); err != nil {
			t.Fatal(err)
		}
	}
	details := func(name string) func(ctx context.Context, h *Handler, w *world) error {
		return func(ctx context.Context, h *Handler, w *world) error {
			_, err := h.ChangeRoom(ctx, ChangeRoom{Request: request(), Room: w.from, Details: domain.Details{Name: name}})
			return err
		}
	}
	rules := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.SetRules(ctx, SetRules{Request: request(), Room: w.from, Rules: domain.Rules{StepMinutes: 30}})
		return err
	}
	// reopen ends the closure that a command of the test has made.
	reopen := func(ctx context.Context, h *Handler, w *world) error {
		r, err := h.Room(ctx, w.from)
		for _, c := range r.Closures {
			if err == nil {
				_, err = h.ReopenPeriod(ctx, ReopenPeriod{Request: request(), Room: w.from, Closure: c.ID})
			}
		}
		return err
	}
	report := func(text string) func(ctx context.Context, h *Handler, w *world) error {
		return func(ctx context.Context, h *Handler, w *world) error {
			_, err := h.ReportFault(ctx, ReportFault{Request: request(), Room: w.from, Text: text})
			return err
		}
	}
	// settle settles every fault of the room.
	settle := func(ctx context.Context, h *Handler, w *world) error {
		f, err := h.Faults(ctx, w.from)
		for _, open := range f.Open {
			if err == nil {
				_, err = h.SettleFault(ctx, SettleFault{Request: request(), Room: w.from, Fault: open.ID})
			}
		}
		return err
	}
	reinstate := func(ctx context.Context, h *Handler, w *world) error {
		_, err := h.ReinstateRoom(ctx, ReinstateRoom{Request: request(), Room: w.from})
		return err
	}
	return []keyedCommand{
		{
			name: "register", given: booked,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.RegisterRoom(ctx, RegisterRoom{Request: r, Room: w.from, Details: domain.Details{Name: "Red"}})
			},
			later: later{details("Blue"), rules, takeTheRest},
		},
		{
			name: "change of a room", given: known,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.ChangeRoom(ctx, ChangeRoom{Request: r, Room: w.from, Details: domain.Details{Name: "Green"}})
			},
			later: later{details("Blue"), rules, takeTheRest},
		},
		{
			name: "rules", given: known,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.SetRules(ctx, SetRules{Request: r, Room: w.from, Rules: domain.Rules{StepMinutes: 60}})
			},
			later: later{rules, details("Blue")},
		},
		{
			name: "close", given: known,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.ClosePeriod(ctx, ClosePeriod{Request: r, Room: w.from, Slot: slot(0, 2), Bookings: domain.CancelBookings})
			},
			later: later{details("Blue"), reopen, takeItsSlot},
		},
		{
			name: "retire", given: known,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.RetireRoom(ctx, RetireRoom{Request: r, Room: w.from, Bookings: domain.CancelBookings})
			},
			later: later{rules, reinstate, takeTheRest},
		},
		{
			name: "reinstate",
			given: func(t *testing.T, h *Handler, w *world) {
				known(t, h, w)
				if _, err := h.RetireRoom(t.Context(), RetireRoom{Request: request(), Room: w.from}); err != nil {
					t.Fatal(err)
				}
			},
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.ReinstateRoom(ctx, ReinstateRoom{Request: r, Room: w.from})
			},
			later: later{rules, takeTheRest},
		},
		{
			name: "reopen",
			given: func(t *testing.T, h *Handler, w *world) {
				known(t, h, w)
				closed := ClosePeriod{Request: Request{ID: uuid.NewSHA1(uuid.Nil, []byte(w.from)), Actor: domain.Anyone("ann"), At: noon}, Room: w.from, Slot: slot(5, 6)}
				if _, err := h.ClosePeriod(t.Context(), closed); err != nil {
					t.Fatal(err)
				}
			},
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.ReopenPeriod(ctx, ReopenPeriod{Request: r, Room: w.from, Closure: domain.ClosureID(uuid.NewSHA1(uuid.Nil, []byte(w.from)).String())})
			},
			later: later{rules, takeTheRest},
		},
		{
			name: "report of a fault", given: known,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.ReportFault(ctx, ReportFault{Request: r, Room: w.from, Text: "a draught"})
			},
			later: later{report("a smell"), settle, report("a draught"), rules},
		},
		{
			name: "settle a fault",
			given: func(t *testing.T, h *Handler, w *world) {
				known(t, h, w)
				reported(t, h, w)
			},
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.SettleFault(ctx, SettleFault{Request: r, Room: w.from, Fault: faultOf(w), Note: "shut"})
			},
			later: later{report("a hole"), settle, rules},
		},
		{
			name:  "create",
			given: func(*testing.T, *Handler, *world) {},
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				w.booking = domain.BookingID(r.ID.String())
				return h.CreateBooking(ctx, CreateBooking{Request: r, Room: w.from, User: "ann", Slot: slot(0, 1)})
			},
			later: later{confirm, move, start, end, takeTheRest},
		},
		{
			name: "change of room", given: booked,
			when:  change(func(w *world, c *ChangeBooking) { c.Room = &w.to }),
			later: later{confirm, move, give, cancel},
		},
		{
			name: "change of time", given: booked,
			when: change(func(w *world, c *ChangeBooking) {
				end := noon.Add(90 * time.Minute)
				c.End = &end
			}),
			later: later{confirm, move, start, end, takeTheRest},
		},
		{
			name: "change of user", given: booked,
			when: change(func(w *world, c *ChangeBooking) {
				user := domain.UserID("bob")
				c.User = &user
			}),
			later: later{give, confirm, cancel},
		},
		{
			name: "cancel", given: booked,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.CancelBooking(ctx, CancelBooking{Request: r, Booking: w.booking})
			},
			later: later{takeItsSlot},
		},
		{name: "confirm", given: booked, when: answer(domain.Confirmed), later: later{move, confirm, start, end}},
		{name: "deny", given: booked, when: answer(domain.Denied), later: later{takeItsSlot}},
		{
			name: "start use", given: booked,
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.StartUse(ctx, StartUse{Request: r, Booking: w.booking, StartedAt: r.At})
			},
			later: later{confirm, end, takeTheRest},
		},
		{
			name: "end use",
			given: func(t *testing.T, h *Handler, w *world) {
				booked(t, h, w)
				if err := start(t.Context(), h, w); err != nil {
					t.Fatal(err)
				}
			},
			when: func(ctx context.Context, h *Handler, w *world, r Request) (any, error) {
				return h.EndUse(ctx, EndUse{Request: r, RealUse: domain.RealUseOf(w.booking), EndedAt: r.At.Add(time.Hour)})
			},
			later: later{takeTheRest},
		},
	}
}

func (c keyedCommand) world(t *testing.T, store *eventstore.Store) *world {
	w := &world{store: store, handler: newHandler, from: newRoom(), to: newRoom()}
	c.given(t, newHandler(store), w)
	return w
}

// sameAnswer compares everything that callers are told, which does not include when the booking was made: only lists tell that, and it may
// be the time of another try. Of a room, closures that ended long ago may be left out, and the position depends on what a try cancelled.
func sameAnswer(a, b any) bool {
	if room, ok := a.(Room); ok {
		other, ok := b.(Room)
		return ok && room.Same(other.Room)
	}
	told := func(answer any) any {
		if b, ok := answer.(Booking); ok {
			b.CreatedAt = time.Time{}
			return b
		}
		return answer
	}
	return reflect.DeepEqual(told(a), told(b))
}

// again asks another replica, and wants the first answer and nothing written.
func (c keyedCommand) again(t *testing.T, w *world, r func() Request, first any) {
	t.Helper()
	before := w.end(t)
	got, err := c.when(t.Context(), newHandler(w.store), w, r())
	if err != nil || !sameAnswer(got, first) {
		t.Errorf("again: %+v, %v; the first answer was %+v", got, err, first)
	}
	w.wantEnd(t, before)
}

func TestAKeyedCommandIsAnsweredAsTheFirstTime(t *testing.T) {
	store := eventstoretest.Open(t)
	for _, c := range keyedCommands() {
		t.Run(c.name, func(t *testing.T) {
			w, r := c.world(t, store), keyed("digest")
			first, err := c.when(t.Context(), newHandler(store), w, r())
			if err != nil {
				t.Fatal(err)
			}
			c.again(t, w, r, first)
			for i, later := range c.later {
				if err := later(t.Context(), newHandler(store), w); err != nil {
					t.Fatalf("later command %d: %v", i, err)
				}
				c.again(t, w, r, first)
			}
		})
	}
}

// Concurrent tries of one command, on several replicas with different clocks, get the same answer.
func TestAKeyedCommandAskedByManyAtOnce(t *testing.T) {
	store := eventstoretest.Open(t)
	handlers := []*Handler{newHandler(store), newHandler(store)}
	for _, c := range keyedCommands() {
		t.Run(c.name, func(t *testing.T) {
			alone := c.world(t, store)
			if _, err := c.when(t.Context(), handlers[0], alone, keyed("digest")()); err != nil {
				t.Fatal(err)
			}
			want := alone.end(t)

			for range 2 {
				w, r := c.world(t, store), keyed("digest")
				booking := w.booking
				type outcome struct {
					answer any
					err    error
				}
				outcomes := make([]outcome, 8)
				var tries sync.WaitGroup
				for i := range outcomes {
					tries.Go(func() {
						own := &world{store: store, handler: newHandler, from: w.from, to: w.to, booking: booking}
						o := &outcomes[i]
						o.answer, o.err = c.when(t.Context(), handlers[i%2], own, r())
					})
				}
				tries.Wait()
				w.booking = booking
				if booking == "" {
					w.booking = domain.BookingID(r().ID.String())
				}
				for _, o := range outcomes {
					if o.err != nil || !sameAnswer(o.answer, outcomes[0].answer) {
						t.Fatalf("one was answered %+v, %v, another one %+v", o.answer, o.err, outcomes[0].answer)
					}
				}
				w.wantEnd(t, want)
				c.again(t, w, r, outcomes[0].answer)
			}
		})
	}
}

// TestAKeyedCommandThatWasBroken lets the process of each command die at each of its appends, and repeats the command: at once, or after it
// was settled, or after others changed what they could.
func TestAKeyedCommandThatWasBroken(t *testing.T) {
	n := openNode(t)
	n.claims = 1
	for _, c := range keyedCommands() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole, r := c.world(t, n.store), keyed("digest")
			network := eventstoretest.BeforeStore(t, n.address)
			if _, err := c.when(t.Context(), newHandler(network.Open(t, eventstore.Options{})), whole, r()); err != nil {
				t.Fatal(err)
			}
			want := whole.end(t)
			broken := func(t *testing.T, p point) (w *world, r func() Request) {
				n.dies(t, p, func(h *Handler) error {
					w, r = c.world(t, n.store), keyed("digest")
					_, err := c.when(t.Context(), h, w, r())
					return err
				})
				return w, r
			}
			settle := func(t *testing.T, w *world) {
				if err := w.settle(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			again := func(t *testing.T, w *world, r func() Request, want end) {
				first, err := c.when(t.Context(), newHandler(n.store), w, r())
				if err != nil {
					t.Fatal(err)
				}
				w.wantEnd(t, want)
				c.again(t, w, r, first)
			}
			for _, p := range points(network.Calls(eventstoretest.Append)) {
				t.Run(p.String(), func(t *testing.T) {
					w, r := broken(t, p)
					again(t, w, r, want)
				})
				t.Run(p.String()+", settled", func(t *testing.T) {
					w, r := broken(t, p)
					settle(t, w)
					again(t, w, r, want)
				})
				if p.n == 1 || p == (point{n: 2}) {
					continue // there is nothing to be settled: its first append claims the key
				}
				t.Run(p.String()+", settled and others later", func(t *testing.T) {
					w, r := broken(t, p)
					settle(t, w)
					for i, later := range c.later {
						if err := later(t.Context(), newHandler(n.store), w); err != nil {
							t.Fatalf("later command %d: %v", i, err)
						}
					}
					again(t, w, r, w.end(t))
				})
			}
		})
	}
}

// A key belongs to one request: another request with it is refused, whatever became of the first.
func TestAKeyForAnotherRequest(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	for _, c := range keyedCommands() {
		t.Run(c.name, func(t *testing.T) {
			w, r := c.world(t, store), keyed("digest")
			if _, err := c.when(t.Context(), h, w, r()); err != nil {
				t.Fatal(err)
			}
			other := func() Request {
				r := r()
				r.Digest = "another"
				return r
			}
			for i := range len(c.later) + 1 {
				before := w.end(t)
				if got, err := c.when(t.Context(), h, w, other()); !errors.Is(err, ErrKeyReused) {
					t.Errorf("%+v, %v, want that the key is used", got, err)
				}
				w.wantEnd(t, before)
				if i < len(c.later) {
					if err := c.later[i](t.Context(), h, w); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// Of two concurrent requests that share a key, one is carried out and the other refused.
func TestAKeyForTwoRequestsAtOnce(t *testing.T) {
	store := eventstoretest.Open(t)
	handlers := []*Handler{newHandler(store), newHandler(store)}
	for range 10 {
		room, id := newRoom(), uuid.New()
		errs := make([]error, 8)
		var tries sync.WaitGroup
		for i := range errs {
			tries.Go(func() {
				r := Request{ID: id, Digest: fmt.Sprint("digest ", i%2), Actor: domain.Anyone("ann"), At: noon}
				_, errs[i] = handlers[i/2%2].CreateBooking(t.Context(), CreateBooking{Request: r, Room: room, User: "ann", Slot: slot(2*(i%2), 2*(i%2)+1)})
			})
		}
		tries.Wait()
		booking := domain.BookingID(id.String())
		b, err := handlers[0].settle(t.Context(), booking, everywhere(room)...)
		if err != nil {
			t.Fatal(err)
		}
		won := 0
		if !b.state.Slot.Equal(slot(0, 1)) {
			won = 1
		}
		for i, err := range errs {
			if i%2 == won && err != nil || i%2 != won && !errors.Is(err, ErrKeyReused) {
				t.Errorf("request %d: %v, and request %d was carried out", i%2, err, won)
			}
		}
		wantTypes(t, store, booking.Stream(), "BookingCreated", "ConfirmRequested")
		calendar, err := handlers[1].calendars.complete(t.Context(), room, noon)
		if err != nil || calendar.Len() != 1 {
			t.Errorf("%d slots are held, %v", calendar.Len(), err)
		}
	}
}

// A key belongs to one target too: the same request for another booking is refused, and nothing of it is done.
func TestAKeyForAnotherTarget(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	user := domain.UserID("eve")
	for name, ask := range map[string]func(h *Handler, b domain.BookingID, r Request) error{
		"change": func(h *Handler, b domain.BookingID, r Request) error {
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: r, Booking: b, User: &user})
			return err
		},
		"start use": func(h *Handler, b domain.BookingID, r Request) error {
			_, err := h.StartUse(t.Context(), StartUse{Request: r, Booking: b, StartedAt: noon})
			return err
		},
		"confirm": func(h *Handler, b domain.BookingID, r Request) error {
			_, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: r, Booking: b, Answer: domain.Confirmed, AnsweredAt: noon})
			return err
		},
		"cancel": func(h *Handler, b domain.BookingID, r Request) error {
			_, err := h.CancelBooking(t.Context(), CancelBooking{Request: r, Booking: b})
			return err
		},
		"end use": func(h *Handler, b domain.BookingID, r Request) error {
			if _, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b, StartedAt: noon}); err != nil {
				return err
			}
			_, err := h.EndUse(t.Context(), EndUse{Request: r, RealUse: domain.RealUseOf(b), EndedAt: noon.Add(time.Hour)})
			return err
		},
		"create": func(h *Handler, b domain.BookingID, r Request) error {
			_, err := h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: domain.RoomID("r" + b), User: user, Slot: slot(0, 1)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			requests := func() [2]Request {
				id := uuid.New()
				return [2]Request{{ID: id, Digest: "one", Actor: domain.Anyone("ann"), At: noon}, {ID: id, Digest: "two", Actor: domain.Anyone("ann"), At: noon}}
			}
			one, two, r := book(t, h, newRoom(), slot(0, 1)).ID, book(t, h, newRoom(), slot(0, 1)).ID, requests()
			if err := ask(h, one, r[0]); err != nil {
				t.Fatal(err)
			}
			if err := ask(h, two, r[1]); !errors.Is(err, ErrKeyReused) {
				t.Errorf("another target: %v", err)
			}

			for range 5 { // at once, in two replicas
				r := requests()
				replicas := [2]*Handler{newHandler(store), newHandler(store)}
				bookings := [2]domain.BookingID{book(t, h, newRoom(), slot(0, 1)).ID, book(t, h, newRoom(), slot(0, 1)).ID}
				var errs [2]error
				var asking sync.WaitGroup
				for i := range 2 {
					asking.Go(func() { errs[i] = ask(replicas[i], bookings[i], r[i]) })
				}
				asking.Wait()
				if lost := slices.IndexFunc(errs[:], func(err error) bool { return errors.Is(err, ErrKeyReused) }); lost < 0 || errs[1-lost] != nil {
					t.Errorf("two targets at once: %v", errs)
				}
			}
		})
	}
}

// A command that had nothing to do gets the same answer again, and does not touch what was changed since.
func TestNothingToDoIsAnsweredAgain(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	b := book(t, h, newRoom(), slot(0, 2))
	r, ann, eve, end := keyed("digest"), domain.UserID("ann"), domain.UserID("eve"), noon.Add(2*time.Hour)
	ask := func() (Booking, error) {
		return newHandler(store).ChangeBooking(t.Context(), ChangeBooking{Request: r(), Booking: b.ID, User: &ann, End: &end})
	}
	first, err := ask()
	if err != nil || first.Revision != b.Revision {
		t.Fatalf("%+v, %v", first, err)
	}
	earlier := noon.Add(time.Hour)
	if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &eve, End: &earlier}); err != nil {
		t.Fatal(err)
	}
	if again, err := ask(); err != nil || !sameAnswer(again, first) {
		t.Errorf("again: %+v, %v; the first answer was %+v", again, err, first)
	}
	if now, err := h.Booking(t.Context(), b.ID); err != nil || now.User != eve || !now.Slot.End.Equal(earlier) {
		t.Errorf("now it is %+v, %v", now, err)
	}

	confirm, r := keyed("confirm"), keyed("end")
	answer := func(r Request) (Booking, error) {
		return newHandler(store).AnswerConfirm(t.Context(), AnswerConfirm{Request: r, Booking: b.ID, Answer: domain.Confirmed, AnsweredAt: r.At})
	}
	if _, err := answer(request()); err != nil {
		t.Fatal(err)
	}
	confirmed, err := answer(confirm())
	if err != nil {
		t.Fatal(err)
	}
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := answer(confirm()); err != nil || !sameAnswer(again, confirmed) {
		t.Errorf("confirmed again: %+v, %v; the first answer was %+v", again, err, confirmed)
	}
	over := func(r Request) (RealUse, error) {
		return newHandler(store).EndUse(t.Context(), EndUse{Request: r, RealUse: use.ID, EndedAt: noon.Add(time.Hour)})
	}
	if _, err := over(request()); err != nil {
		t.Fatal(err)
	}
	ended, err := over(r())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := over(r()); err != nil || !sameAnswer(again, ended) {
		t.Errorf("ended again: %+v, %v; the first answer was %+v", again, err, ended)
	}
}

// Concurrent tries that find at different revisions that there is nothing to do get the answer of the first.
func TestTriesThatFindNothingToDoAtDifferentRevisions(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	b, r := book(t, h, newRoom(), slot(0, 1)), keyed("digest")
	give := func(h *Handler, r Request, user domain.UserID) Booking {
		t.Helper()
		given, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: r, Booking: b.ID, User: &user})
		if err != nil {
			t.Fatal(err)
		}
		return given
	}
	var first Booking
	slow := newHandler(&meddled{Store: store, stream: b.ID.Stream(), n: 1, before: func() { // it has claimed the key by then
		first = give(h, r(), "ann")
		give(h, request(), "eve")
		give(h, request(), "ann")
	}})
	if second := give(slow, r(), "ann"); first.Revision != b.Revision || !sameAnswer(second, first) {
		t.Errorf("one was answered %+v, the other one %+v", first, second)
	}
}

// A caller who was refused is refused again, whatever has become possible since; of several refusals the first is final.
func TestARefusalIsToldAgain(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRoom()
	b, r := book(t, h, room, slot(0, 1)), keyed("digest")
	ask := func() error {
		_, err := newHandler(store).CreateBooking(t.Context(), CreateBooking{Request: r(), Room: room, User: "eve", Slot: slot(0, 1)})
		return err
	}
	if _, taken := errors.AsType[*domain.SlotTaken](ask()); !taken {
		t.Fatal("the slot is not taken")
	}
	for _, answer := range []string{"no", "never"} {
		if kept, err := newHandler(store).Refused(t.Context(), r(), answer); err != nil || kept != "no" {
			t.Errorf("%q is kept, %v", kept, err)
		}
	}
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID}); err != nil {
		t.Fatal(err)
	}
	if before, ok := errors.AsType[*RefusedBefore](ask()); !ok || before.Answer != "no" {
		t.Errorf("asked again: %v", ask())
	}
	wantTypes(t, store, room.Stream(), "SlotReserved", "SlotReleased")
}

// An interrupted change that was to be made at one revision only is subject to the same condition when someone else finishes it.
func TestAConditionHoldsForWhoeverFinishes(t *testing.T) {
	n := openNode(t)
	h := newHandler(n.store)
	for _, meanwhile := range []bool{false, true} {
		t.Run(fmt.Sprintf("changed meanwhile %t", meanwhile), func(t *testing.T) {
			var b Booking
			var r func() Request
			end := noon.Add(2 * time.Hour)
			change := func(h *Handler) (Booking, error) {
				c := ChangeBooking{Request: r(), Booking: b.ID, End: &end}
				c.IfRevisions = []domain.Revision{b.Revision}
				return h.ChangeBooking(t.Context(), c)
			}
			n.dies(t, point{2, true}, func(dying *Handler) error {
				b, r = book(t, h, newRoom(), slot(0, 1)), keyed("digest")
				_, err := change(dying)
				return err
			})
			if meanwhile {
				// Directly to the stream: any command of this package would first finish what it finds.
				user := domain.BookingChanged{BookingID: b.ID, ReservationID: b.Reservation, RoomID: b.Room, UserID: "eve", Slot: b.Slot, At: noon}
				if _, err := n.store.Append(t.Context(), b.ID.Stream(), b.Revision, request().propose([]domain.Event{user})...); err != nil {
					t.Fatal(err)
				}
			}
			settled, err := h.settle(t.Context(), b.ID)
			if err != nil {
				t.Fatal(err)
			}
			if moved := settled.state.Slot.End.Equal(end); moved == meanwhile {
				t.Errorf("settled: moved %t", moved)
			}
			got, err := change(h)
			if failed, refused := errors.AsType[*ConditionFailed](err); refused != meanwhile || refused && failed.Revision != settled.revision {
				t.Errorf("asked again: %v", err)
			}
			if !meanwhile && (!got.Slot.End.Equal(end) || got.Revision != settled.revision) {
				t.Errorf("asked again: %+v", got)
			}
		})
	}
}

// A change that takes the booking to be in another phase is refused, unless it is refused anyway, and reserves nothing.
func TestAChangeOfABookingInAnotherPhase(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	b, to, user := book(t, h, newRoom(), slot(0, 1)), newRoom(), domain.UserID("eve")
	for name, c := range map[string]ChangeBooking{"room": {Room: &to}, "user": {User: &user}, "nothing": {}} {
		c.Request, c.Booking, c.Phase = request(), b.ID, domain.PhaseConfirmed
		if other, ok := errors.AsType[*OtherPhase](changeErr(t, h, c)); !ok || other.Phase != domain.PhaseBooked {
			t.Errorf("%s: %+v", name, other)
		}
	}
	wantTypes(t, store, to.Stream())
	c := ChangeBooking{Request: request(), Booking: b.ID, Room: &to, Phase: domain.PhaseBooked}
	if err := changeErr(t, h, c); err != nil {
		t.Error(err)
	}
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID}); err != nil {
		t.Fatal(err)
	}
	if _, over := errors.AsType[*domain.AlreadyCancelled](changeErr(t, h, c)); !over {
		t.Error("it is not told that the booking is over")
	}
}

func changeErr(t *testing.T, h *Handler, c ChangeBooking) error {
	_, err := h.ChangeBooking(t.Context(), c)
	return err
}

// A refusal goes before a failed condition (RFC 9110, section 13.2.1).
func TestARefusalGoesBeforeACondition(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	stale := func() Request { r := request(); r.IfRevisions = []domain.Revision{77}; return r }
	room := newRoom()
	b := book(t, h, room, slot(0, 1))
	user, end := domain.UserID("eve"), noon.Add(2*time.Hour)
	commands := map[string]func() error{
		"change of user": func() error {
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: stale(), Booking: b.ID, User: &user})
			return err
		},
		"change of time": func() error {
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: stale(), Booking: b.ID, End: &end})
			return err
		},
		"no change": func() error {
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: stale(), Booking: b.ID})
			return err
		},
		"cancel": func() error {
			_, err := h.CancelBooking(t.Context(), CancelBooking{Request: stale(), Booking: b.ID})
			return err
		},
		"confirm": func() error {
			_, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: stale(), Booking: b.ID, Answer: domain.Confirmed, AnsweredAt: noon})
			return err
		},
	}
	for name, command := range commands {
		if failed, ok := errors.AsType[*ConditionFailed](command()); !ok || failed.Revision != b.Revision {
			t.Errorf("%s: %v, want a condition that failed at revision %d", name, command(), b.Revision)
		}
	}
	wantTypes(t, store, b.ID.Stream(), "BookingCreated", "ConfirmRequested")
	wantTypes(t, store, room.Stream(), "SlotReserved")

	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"change of user", "change of time", "no change", "cancel"} {
		if _, ok := errors.AsType[*domain.AlreadyInUse](commands[name]()); !ok {
			t.Errorf("%s in use: %v", name, commands[name]())
		}
	}
	endUse := func(r Request) error {
		_, err := h.EndUse(t.Context(), EndUse{Request: r, RealUse: use.ID, EndedAt: end})
		return err
	}
	if failed, ok := errors.AsType[*ConditionFailed](endUse(stale())); !ok || failed.Revision != use.Revision {
		t.Errorf("end of use: %v", err)
	}
	if err := endUse(request()); err != nil {
		t.Fatal(err)
	}
	for name, command := range commands {
		if _, ok := errors.AsType[*domain.AlreadyCancelled](command()); !ok {
			t.Errorf("%s of a cancelled booking: %v", name, command())
		}
	}
	if !slices.Equal(eventTypes(t, store, b.ID.Stream()), []string{"BookingCreated", "ConfirmRequested", "BookingCheckedIn", "BookingCancelled"}) {
		t.Error(eventTypes(t, store, b.ID.Stream()))
	}
}
