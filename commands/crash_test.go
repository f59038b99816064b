package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// crash is a store whose connection is lost at the n-th append: from there on nothing is heard any more. The n-th append
// itself was done if heardTooLate.
type crash struct {
	*eventstore.Store
	n           int
	doneUnheard bool

	mu   sync.Mutex
	done int
}

var errCrash = fmt.Errorf("%w: the process died", eventstore.ErrOutcomeUnknown)

func (c *crash) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done > c.n || c.done == c.n && !c.doneUnheard {
		c.done = c.n + 1
		return eventstore.Appended{}, errCrash
	}
	at, err := c.Store.Append(ctx, stream, expected, events...)
	if c.done++; c.done > c.n {
		return eventstore.Appended{}, errCrash
	}
	return at, err
}

func (c *crash) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done > c.n {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, errCrash) }
	}
	return c.Store.ReadStream(ctx, stream, from)
}

// world is a place for one command: two rooms, a booking in the first.
type world struct {
	store    *eventstore.Store
	from, to domain.RoomID
	booking  domain.BookingID
}

// end is where a world came to rest: everything but ids, which differ from world to world.
type end struct {
	booking, use []string
	held         [2][]domain.Slot
}

func (w world) end(t *testing.T) end {
	t.Helper()
	h := newHandler(w.store)
	var e end
	e.booking = eventTypes(t, w.store, w.booking.Stream())
	e.use = eventTypes(t, w.store, domain.RealUseOf(w.booking).Stream())
	for i, room := range []domain.RoomID{w.from, w.to} {
		calendar, err := h.calendars.read(t.Context(), room)
		if err != nil {
			t.Fatal(err)
		}
		for r := range calendar.All {
			e.held[i] = append(e.held[i], r.Slot)
		}
	}
	return e
}

// breakable is a command that is broken at each of its appends.
type breakable struct {
	name  string
	given func(t *testing.T, h *Handler, w *world)
	// when is the command, under one id however often it is tried. It tells the error.
	when func(ctx context.Context, h *Handler, w *world, r Request) error
	// other is a command that meets what was left half-way.
	other func(ctx context.Context, h *Handler, w *world) error
	// repeat reports whether the error tells the caller that the command had been done.
	repeat func(err error) bool
}

// world makes a world for the command.
func (c breakable) world(t *testing.T, store *eventstore.Store) *world {
	w := &world{store: store, from: newRoom(), to: newRoom()}
	c.given(t, newHandler(store), w)
	return w
}

// whole carries the command out. It tells where its world was before and came to rest, and the number of its appends.
func (c breakable) whole(t *testing.T, store *eventstore.Store) (before, after end, appends int) {
	w := c.world(t, store)
	before = w.end(t)
	count := &crash{Store: store, n: 1 << 30}
	if err := c.when(t.Context(), newHandler(count), w, request()); err != nil {
		t.Fatal(err)
	}
	return before, w.end(t), count.done
}

// broken carries the command out until append n, which is done or not, and never heard of.
func (c breakable) broken(t *testing.T, store *eventstore.Store, n int, doneUnheard bool) (*world, Request) {
	w, r := c.world(t, store), request()
	err := c.when(t.Context(), newHandler(&crash{Store: store, n: n, doneUnheard: doneUnheard}), w, r)
	if !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("the broken command answered %v, want an unknown outcome", err)
	}
	return w, r
}

// breakables are all commands.
func breakables() []breakable {
	given := func(t *testing.T, h *Handler, w *world) { w.booking = book(t, h, w.from, slot(0, 1)).ID }
	inUse := func(t *testing.T, h *Handler, w *world) {
		given(t, h, w)
		if _, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: w.booking, StartedAt: noon}); err != nil {
			t.Fatal(err)
		}
	}
	wantSlot := func(room func(w *world) domain.RoomID) func(ctx context.Context, h *Handler, w *world) error {
		return func(ctx context.Context, h *Handler, w *world) error {
			// A slot that ends an hour after the one in question and shares an hour with it.
			_, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: room(w), User: "eve", Slot: slot(0, 2)})
			return err
		}
	}
	return []breakable{
		{
			name:  "create",
			given: func(*testing.T, *Handler, *world) {},
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				w.booking = domain.BookingID(r.ID.String())
				_, err := h.CreateBooking(ctx, CreateBooking{Request: r, Room: w.from, User: "ann", Slot: slot(0, 1)})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name:  "change of room",
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: w.booking, Room: &w.to})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.to }),
		},
		{
			name:  "change of time",
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				end := noon.Add(90 * time.Minute)
				_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: w.booking, End: &end})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name:  "cancel",
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.CancelBooking(ctx, CancelBooking{Request: r, Booking: w.booking})
				return err
			},
			other: func(ctx context.Context, h *Handler, w *world) error {
				b, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: w.from, User: "eve", Slot: slot(0, 2)})
				if err == nil {
					_, err = h.CancelBooking(ctx, CancelBooking{Request: request(), Booking: b.ID})
				}
				return err
			},
			repeat: func(err error) bool { _, ok := errors.AsType[*domain.AlreadyCancelled](err); return ok },
		},
		{
			name:  "deny",
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: w.booking, Answer: domain.Denied, AnsweredAt: noon})
				return err
			},
			other: func(ctx context.Context, h *Handler, w *world) error {
				b, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: w.from, User: "eve", Slot: slot(0, 2)})
				if err == nil {
					_, err = h.CancelBooking(ctx, CancelBooking{Request: request(), Booking: b.ID})
				}
				return err
			},
		},
		{
			name:  "start use",
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.StartUse(ctx, StartUse{Request: r, Booking: w.booking, StartedAt: noon})
				return err
			},
			other: func(ctx context.Context, h *Handler, w *world) error {
				_, err := h.CancelBooking(ctx, CancelBooking{Request: request(), Booking: w.booking})
				return err
			},
			repeat: func(err error) bool { _, ok := errors.AsType[*domain.AlreadyInUse](err); return ok },
		},
		{
			name:  "end use",
			given: inUse,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.EndUse(ctx, EndUse{Request: r, RealUse: domain.RealUseOf(w.booking), EndedAt: noon.Add(time.Hour)})
				return err
			},
			other: func(ctx context.Context, h *Handler, w *world) error {
				b, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: w.from, User: "eve", Slot: slot(0, 2)})
				if err == nil {
					_, err = h.CancelBooking(ctx, CancelBooking{Request: request(), Booking: b.ID})
				}
				return err
			},
		},
	}
}

// TestACrashBetweenAnyTwoAppends breaks each command at each of its appends, not done and done but not heard, and shows that settling
// alone, the caller's retry alone, another command in the way, and all of them at once reach what the whole command would have.
func TestACrashBetweenAnyTwoAppends(t *testing.T) {
	store := eventstoretest.Open(t)
	for _, c := range breakables() {
		t.Run(c.name, func(t *testing.T) {
			before, want, appends := c.whole(t, store)
			for n := range appends {
				for _, doneUnheard := range []bool{false, true} {
					nothingDone := n == 0 && !doneUnheard
					name := fmt.Sprintf("append %d, done %t", n, doneUnheard)
					t.Run(name+", settle", func(t *testing.T) {
						w, _ := c.broken(t, store, n, doneUnheard)
						if _, err := newHandler(store).settle(t.Context(), w.booking, w.from, w.to); err != nil {
							t.Fatal(err)
						}
						want := want
						if nothingDone {
							want = before
						}
						w.wantEnd(t, want)
					})
					t.Run(name+", retry", func(t *testing.T) {
						w, r := c.broken(t, store, n, doneUnheard)
						for range 2 {
							if err := c.when(t.Context(), newHandler(store), w, r); err != nil && (c.repeat == nil || !c.repeat(err)) {
								t.Fatal(err)
							}
						}
						w.wantEnd(t, want)
					})
					if nothingDone {
						continue
					}
					t.Run(name+", all at once", func(t *testing.T) {
						w, r := c.broken(t, store, n, doneUnheard)
						var all sync.WaitGroup
						retried := *w
						all.Go(func() {
							if _, err := newHandler(store).settle(t.Context(), w.booking, w.from, w.to); err != nil {
								t.Error(err)
							}
						})
						all.Go(func() {
							if err := c.when(t.Context(), newHandler(store), &retried, r); err != nil && (c.repeat == nil || !c.repeat(err)) {
								t.Error(err)
							}
						})
						all.Go(func() {
							if err := c.other(t.Context(), newHandler(store), w); errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, ErrContended) {
								t.Error(err)
							}
						})
						all.Wait()
						w.wantEnd(t, want)
					})
					t.Run(name+", another command in the way", func(t *testing.T) {
						w, _ := c.broken(t, store, n, doneUnheard)
						if err := c.other(t.Context(), newHandler(store), w); errors.Is(err, eventstore.ErrOutcomeUnknown) {
							t.Fatal(err)
						}
						w.wantEnd(t, want)
					})
				}
			}
		})
	}
}

func (w world) wantEnd(t *testing.T, want end) {
	t.Helper()
	if got := w.end(t); !equalEnds(got, want) {
		t.Errorf("it came to rest at\n%+v, want\n%+v", got, want)
	}
}

func equalEnds(a, b end) bool {
	equalSlots := func(a, b []domain.Slot) bool { return slices.EqualFunc(a, b, domain.Slot.Equal) }
	return slices.Equal(a.booking, b.booking) && slices.Equal(a.use, b.use) && equalSlots(a.held[0], b.held[0]) && equalSlots(a.held[1], b.held[1])
}
