package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// node is an event store on which commands are interrupted: its connection string, and a store on it that works.
type node struct {
	address string
	store   *eventstore.Store
	handler func(Store) *Handler // of those that interrupt, repeat and settle
	claims  int                  // appends of a command before the one that decides: of one with a key, that of the key
}

func openNode(t *testing.T) node {
	t.Helper()
	address := eventstoretest.ConnectionString(t)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return node{address: address, store: store, handler: newHandler}
}

// point is where a process dies: at its n-th append, counted from 1, just before that is done or, if done is set, just before its
// answer arrives.
type point struct {
	n    int
	done bool
}

func (p point) String() string {
	if p.done {
		return fmt.Sprintf("append %d done and not heard", p.n)
	}
	return fmt.Sprintf("append %d not done", p.n)
}

// process is a replica that dies at a point: from then on nothing it does reaches the event store.
type process struct {
	*Handler
	store *eventstore.Store
	at    point
	early bool // the point is before anything can be decided
	dead  <-chan struct{}
}

// process starts a process whose appends are subject to the time-out.
func (n node) process(t *testing.T, p point, timeout time.Duration) process {
	t.Helper()
	network := eventstoretest.BeforeStore(t, n.address)
	store, err := eventstore.Open(eventstore.Options{
		// In milliseconds: for how long the library cannot be closed once it has failed to find the node.
		ConnectionString: network.ConnectionString() + "&discoveryInterval=10",
		Connections:      1,
		Timeout:          timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	dieAt := network.DieAtRequest
	if p.done {
		dieAt = network.DieAtAnswer
	}
	return process{n.handler(store), store, p, p.n <= n.claims || !p.done && p.n == n.claims+1, dieAt(eventstoretest.Append, p.n)}
}

// died reports whether the process died where it was supposed to, and judges the error of its command. If it did not, the machine was slow
// and an earlier call took longer than the time-out.
func (p process) died(t *testing.T, err error) bool {
	t.Helper()
	unknown, unavailable := errors.Is(err, eventstore.ErrOutcomeUnknown), errors.Is(err, eventstore.ErrUnavailable)
	select {
	case <-p.dead:
		if !unknown && (!unavailable || !p.early) {
			t.Fatalf("%s: the command answered %v, want an unknown outcome", p.at, err)
		}
		return true
	default:
		if !unknown && !unavailable {
			t.Fatalf("%s: the command answered %v, and its process is alive", p.at, err)
		}
		return false
	}
}

// dies carries out a command until its process dies at the point. If that was too slow to get there, another process carries it out again,
// for which the command has to make a new world.
func (n node) dies(t *testing.T, p point, command func(h *Handler) error) {
	t.Helper()
	for timeout := 100 * time.Millisecond; ; timeout *= 2 {
		dying := n.process(t, p, timeout)
		if dying.died(t, command(dying.Handler)) {
			return
		}
	}
}

// world is where one command happens: two rooms, with a booking in the first.
type world struct {
	store    *eventstore.Store
	handler  func(Store) *Handler
	from, to domain.RoomID
	booking  domain.BookingID
	since    eventstore.Position // of the last event before the command
}

// appended lists the appends to the world's streams since the command began, in order, each as the types of its events. No command appends
// to the same stream twice in a row.
func (w world) appended(t *testing.T) []string {
	t.Helper()
	var events []eventstore.Recorded
	for _, stream := range []string{w.booking.Stream(), domain.RealUseOf(w.booking).Stream(), w.from.Stream(), w.to.Stream(), w.from.FaultsStream()} {
		for r, err := range w.store.ReadStream(t.Context(), stream, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Position > w.since {
				events = append(events, r)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b eventstore.Recorded) int { return cmp.Compare(a.Position, b.Position) })
	var appends []string
	for i, r := range events {
		if i > 0 && events[i-1].Stream == r.Stream {
			appends[len(appends)-1] += " + " + r.Type
		} else {
			appends = append(appends, r.Type)
		}
	}
	return appends
}

// end is what a world settled as: everything but ids, which differ from world to world.
type end struct {
	booking, use []string
	held         [2][]domain.Slot
	rooms        [2][]string // events of the rooms themselves
	faults       []string
}

func (w world) end(t *testing.T) end {
	t.Helper()
	h := newHandler(w.store)
	var e end
	e.booking = eventTypes(t, w.store, w.booking.Stream())
	e.use = eventTypes(t, w.store, domain.RealUseOf(w.booking).Stream())
	e.faults = eventTypes(t, w.store, w.from.FaultsStream())
	for i, room := range []domain.RoomID{w.from, w.to} {
		calendar, err := h.calendars.complete(t.Context(), room, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for r := range calendar.All {
			e.held[i] = append(e.held[i], r.Slot)
		}
		for _, name := range eventTypes(t, w.store, room.Stream()) {
			if slices.Contains(roomEvents, name) {
				e.rooms[i] = append(e.rooms[i], name)
			}
		}
	}
	return e
}

// breakable is a command that is interrupted at each of its appends.
type breakable struct {
	name  string
	is    any // the type of command
	given func(t *testing.T, h *Handler, w *world)
	// when carries out the command, with the same id however often it is tried.
	when func(ctx context.Context, h *Handler, w *world, r Request) error
	// other is a command that comes across what was left half-done.
	other func(ctx context.Context, h *Handler, w *world) error
	// repeat reports whether the error says that the command has already been done.
	repeat func(err error) bool
}

// world makes a world for the command.
func (c breakable) world(t *testing.T, n node) *world {
	t.Helper()
	return c.worldBy(t, n, newHandler(n.store))
}

// worldBy lets a handler make the world, which remembers it then.
func (c breakable) worldBy(t *testing.T, n node, h *Handler) *world {
	t.Helper()
	w := &world{store: n.store, handler: n.handler, from: newRoom(), to: newRoom()}
	c.given(t, h, w)
	var err error
	if w.since, err = n.store.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// again asks another replica for the same command.
func (c breakable) again(ctx context.Context, w *world, r Request) error {
	err := c.when(ctx, w.handler(w.store), w, r)
	if err != nil && c.repeat != nil && c.repeat(err) {
		return nil
	}
	return err
}

// course is what becomes of a world if nothing interrupts the command.
type course struct {
	before, after end
	appends       []string // as world.appended lists them
}

// whole carries out the command. The network counts its appends, which give the points where it can be interrupted.
func (c breakable) whole(t *testing.T, n node) course {
	t.Helper()
	w := c.world(t, n)
	before := w.end(t)
	network := eventstoretest.BeforeStore(t, n.address)
	if err := c.when(t.Context(), newHandler(network.Open(t, eventstore.Options{})), w, request()); err != nil {
		t.Fatal(err)
	}
	whole := course{before, w.end(t), w.appended(t)}
	if passed := network.Calls(eventstoretest.Append); passed != len(whole.appends) || passed == 0 {
		t.Fatalf("%d appends passed, and those found are %q", passed, whole.appends)
	}
	return whole
}

// points lists where the command can be interrupted.
func (c course) points() []point { return points(len(c.appends)) }

// points lists all points of a number of appends.
func points(appends int) (all []point) {
	for i := range appends {
		all = append(all, point{i + 1, false}, point{i + 1, true})
	}
	return all
}

// halfway lists the points at which something has been appended that others can come across.
func (c course) halfway() []point {
	return slices.DeleteFunc(c.points(), func(p point) bool { return len(c.until(p)) == 0 })
}

// until lists the appends that are done if the command is interrupted at the point.
func (c course) until(p point) []string {
	if p.done {
		return c.appends[:p.n]
	}
	return c.appends[:p.n-1]
}

// settled is what a world settles as if the command was interrupted at the point and not repeated.
func (c course) settled(p point) end {
	if len(c.until(p)) == 0 {
		return c.before
	}
	return c.after
}

// left is a world as an interrupted command left it.
type left struct {
	*world
	at      point
	request Request // of the caller, who may ask again
}

// broken carries out the command in a separate world for each point, all at once, until it dies there, and checks that it did.
func (c breakable) broken(t *testing.T, n node, whole course, points ...point) []left {
	t.Helper()
	var all []left
	for timeout := 100 * time.Millisecond; len(points) > 0; timeout *= 2 {
		worlds := make([]left, len(points))
		processes := make([]process, len(points))
		errs := make([]error, len(points))
		for i, p := range points {
			worlds[i] = left{c.world(t, n), p, request()}
			processes[i] = n.process(t, p, timeout)
		}
		var running sync.WaitGroup
		for i, w := range worlds {
			running.Go(func() {
				defer processes[i].store.Close()
				errs[i] = c.when(t.Context(), processes[i].Handler, w.world, w.request)
			})
		}
		running.Wait()
		var alive []point
		for i, w := range worlds {
			if !processes[i].died(t, errs[i]) {
				alive = append(alive, w.at)
				continue
			}
			if got, want := w.appended(t), whole.until(w.at); !slices.Equal(got, want) {
				t.Fatalf("%s: %q is in the streams, want %q", w.at, got, want)
			}
			all = append(all, w)
		}
		points = alive
	}
	return all
}

// breakables lists all commands.
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
	// registered is the first room, with rules, and a booking in it.
	registered := func(more ...func(h *Handler, room domain.RoomID) (Room, error)) func(t *testing.T, h *Handler, w *world) {
		return func(t *testing.T, h *Handler, w *world) {
			given(t, h, w)
			for _, do := range append([]func(h *Handler, room domain.RoomID) (Room, error){register(t)}, more...) {
				if _, err := do(h, w.from); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// unanswered asks for nothing of the booking, which has to be settled for that.
	unanswered := func(ctx context.Context, h *Handler, w *world) error {
		user := domain.UserID("ann")
		_, err := h.ChangeBooking(ctx, ChangeBooking{Request: request(), Booking: w.booking, User: &user})
		return err
	}
	noApproval := func(t *testing.T, h *Handler, w *world) {
		for _, room := range []domain.RoomID{w.from, w.to} {
			rules := domain.Rules{Approval: domain.ApprovalNone, UpcomingPerUser: 2}
			if _, err := register(t)(h, room); err != nil {
				t.Fatal(err)
			}
			if _, err := h.SetRules(t.Context(), SetRules{Request: request(), Room: room, Rules: rules}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []breakable{
		{
			name:  "create without approval",
			is:    CreateBooking{},
			given: noApproval,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				w.booking = domain.BookingID(r.ID.String())
				_, err := h.CreateBooking(ctx, CreateBooking{Request: r, Room: w.from, User: "ann", Slot: slot(0, 1)})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name: "change of user where users are counted",
			is:   ChangeBooking{},
			given: func(t *testing.T, h *Handler, w *world) {
				noApproval(t, h, w)
				given(t, h, w)
			},
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				user := domain.UserID("bob")
				_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: w.booking, User: &user})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name:  "register",
			is:    RegisterRoom{},
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.RegisterRoom(ctx, RegisterRoom{Request: r, Room: w.from, Details: domain.Details{Name: "Red"}})
				return err
			},
			other: unanswered,
		},
		{
			name:  "change of a room",
			is:    ChangeRoom{},
			given: registered(),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ChangeRoom(ctx, ChangeRoom{Request: r, Room: w.from, Details: domain.Details{Name: "Blue"}})
				return err
			},
			other: unanswered,
		},
		{
			name:  "rules",
			is:    SetRules{},
			given: registered(),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.SetRules(ctx, SetRules{Request: r, Room: w.from, Rules: domain.Rules{StepMinutes: 30}})
				return err
			},
			other: unanswered,
		},
		{
			name:  "close",
			is:    ClosePeriod{},
			given: registered(),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ClosePeriod(ctx, ClosePeriod{Request: r, Room: w.from, Slot: slot(0, 2), Reason: "paint", Bookings: domain.CancelBookings})
				return err
			},
			other: unanswered,
		},
		{
			name: "reopen",
			is:   ReopenPeriod{},
			given: registered(func(h *Handler, room domain.RoomID) (Room, error) {
				return h.ClosePeriod(context.Background(), ClosePeriod{Request: Request{ID: uuid.NewSHA1(uuid.Nil, []byte(room)), Actor: domain.Anyone("ann"), At: noon}, Room: room, Slot: slot(0, 2)})
			}),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ReopenPeriod(ctx, ReopenPeriod{Request: r, Room: w.from, Closure: domain.ClosureID(uuid.NewSHA1(uuid.Nil, []byte(w.from)).String())})
				return err
			},
			other:  unanswered,
			repeat: func(err error) bool { return errors.Is(err, domain.ErrClosureNotFound) },
		},
		{
			name:  "retire",
			is:    RetireRoom{},
			given: registered(),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.RetireRoom(ctx, RetireRoom{Request: r, Room: w.from, Bookings: domain.CancelBookings})
				return err
			},
			other: unanswered,
		},
		{
			name: "reinstate",
			is:   ReinstateRoom{},
			given: registered(func(h *Handler, room domain.RoomID) (Room, error) {
				return h.RetireRoom(context.Background(), RetireRoom{Request: request(), Room: room})
			}),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ReinstateRoom(ctx, ReinstateRoom{Request: r, Room: w.from})
				return err
			},
			other: unanswered,
		},
		{
			name:  "report of a fault",
			is:    ReportFault{},
			given: registered(),
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ReportFault(ctx, ReportFault{Request: r, Room: w.from, Text: "a draught"})
				return err
			},
			other: unanswered,
		},
		{
			name: "settle a fault",
			is:   SettleFault{},
			given: func(t *testing.T, h *Handler, w *world) {
				registered()(t, h, w)
				reported(t, h, w)
			},
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.SettleFault(ctx, SettleFault{Request: r, Room: w.from, Fault: faultOf(w), Note: "shut"})
				return err
			},
			other: unanswered,
		},
		{
			name:  "create",
			is:    CreateBooking{},
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
			is:    ChangeBooking{},
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: w.booking, Room: &w.to})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.to }),
		},
		{
			name:  "change of time",
			is:    ChangeBooking{},
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				end := noon.Add(90 * time.Minute)
				_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: w.booking, End: &end})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name:  "change of user",
			is:    ChangeBooking{},
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				user := domain.UserID("bob")
				_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: w.booking, User: &user})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name:  "cancel",
			is:    CancelBooking{},
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
			name:  "confirm",
			is:    AnswerConfirm{},
			given: given,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: w.booking, Answer: domain.Confirmed, AnsweredAt: noon})
				return err
			},
			other: wantSlot(func(w *world) domain.RoomID { return w.from }),
		},
		{
			name:  "deny",
			is:    AnswerConfirm{},
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
			is:    StartUse{},
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
			is:    EndUse{},
			given: inUse,
			when: func(ctx context.Context, h *Handler, w *world, r Request) error {
				_, err := h.EndUse(ctx, EndUse{Request: r, RealUse: domain.RealUseOf(w.booking), EndedAt: noon.Add(30 * time.Minute)})
				return err
			},
			other: func(ctx context.Context, h *Handler, w *world) error {
				rest := domain.Slot{Start: noon.Add(30 * time.Minute), End: noon.Add(2 * time.Hour)}
				b, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: w.from, User: "eve", Slot: rest})
				if err == nil {
					_, err = h.CancelBooking(ctx, CancelBooking{Request: request(), Booking: b.ID})
				}
				return err
			},
		},
	}
}

// TestEveryCommandIsBroken checks that each method of a Handler that takes a command is among the breakables.
func TestEveryCommandIsBroken(t *testing.T) {
	broken := map[reflect.Type]bool{reflect.TypeFor[ReleaseBooking](): true} // by TestAReleaseIsBroken
	for _, c := range breakables() {
		broken[reflect.TypeOf(c.is)] = true
	}
	commands := 0
	for method := range reflect.TypeFor[*Handler]().Methods() {
		for parameter := range method.Type.Ins() {
			if parameter.Kind() != reflect.Struct {
				continue
			}
			if field, ok := parameter.FieldByName("Request"); !ok || !field.Anonymous {
				continue
			}
			commands++
			if !broken[parameter] {
				t.Errorf("%s is not broken", method.Name)
			}
		}
	}
	if commands != len(broken) {
		t.Errorf("%d commands are broken, and a handler has %d", len(broken), commands)
	}
}

// newForgetful returns a handler that caches nothing, and whose calendars have forgotten whatever a command asks about.
func newForgetful(store Store) *Handler {
	h := New(store, Options{Policy: domain.DefaultPolicy(), CacheBytes: 1})
	h.calendars.keepFor, h.calendars.keepFew = -1_000*time.Hour, 0
	h.calendars.tick(noon)
	return h
}

// TestACrashBetweenAnyTwoAppends lets the process of each command die at each of its appends, either before it is done or before its
// answer arrives, and shows that settling alone, the caller's retry alone, and another command in the way lead to the same result as the
// uninterrupted command, whether the rooms are remembered or have to be read whole. Other tests show that for recovery, and for all at once: a
// recovery would leave nothing to find here.
func TestACrashBetweenAnyTwoAppends(t *testing.T) {
	remembering := openNode(t)
	forgetful := remembering
	forgetful.handler = newForgetful
	for memory, n := range map[string]node{"remembered": remembering, "forgotten": forgetful} {
		for _, c := range breakables() {
			t.Run(c.name+", "+memory, func(t *testing.T) {
				t.Parallel()
				whole := c.whole(t, n)
				t.Logf("appends: %s", strings.Join(whole.appends, " · "))
				eachBroken := func(name string, points []point, check func(t *testing.T, w left)) {
					t.Run(name, func(t *testing.T) {
						for _, w := range c.broken(t, n, whole, points...) {
							t.Run(w.at.String(), func(t *testing.T) { check(t, w) })
						}
					})
				}
				eachBroken("settle", whole.points(), func(t *testing.T, w left) {
					if err := w.settle(t.Context()); err != nil {
						t.Fatal(err)
					}
					w.wantEnd(t, whole.settled(w.at))
				})
				eachBroken("retry", whole.points(), func(t *testing.T, w left) {
					for range 2 {
						if err := c.again(t.Context(), w.world, w.request); err != nil {
							t.Fatal(err)
						}
					}
					w.wantEnd(t, whole.after)
				})
				eachBroken("another command in the way", whole.halfway(), func(t *testing.T, w left) {
					if err := c.other(t.Context(), n.handler(n.store), w.world); errors.Is(err, eventstore.ErrOutcomeUnknown) {
						t.Fatal(err)
					}
					w.wantEnd(t, whole.after)
				})
			})
		}
	}
}

// TestACrashMetByAllAtOnce interrupts each command as above, and lets recovery, settling, the caller's retry and another command come across
// what it left at the same time. If it left nothing, the retry and the other command race as any two do, and either may win.
func TestACrashMetByAllAtOnce(t *testing.T) {
	n := openNode(t)
	for _, c := range breakables() {
		t.Run(c.name, func(t *testing.T) {
			whole := c.whole(t, n)
			worlds := c.broken(t, n, whole, whole.halfway()...)
			bookings := map[domain.BookingID]bool{}
			for _, w := range worlds {
				bookings[w.booking] = true
			}
			log := only(n.store, bookings)
			recovering(t, n.store, log, 1, time.Nanosecond)
			var all sync.WaitGroup
			for _, w := range worlds {
				all.Go(func() {
					if err := w.settle(t.Context()); err != nil {
						t.Errorf("%s, settle: %v", w.at, err)
					}
				})
				retried := *w.world
				all.Go(func() {
					if err := c.again(t.Context(), &retried, w.request); err != nil {
						t.Errorf("%s, retry: %v", w.at, err)
					}
				})
				all.Go(func() {
					if err := c.other(t.Context(), newHandler(n.store), w.world); errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, ErrContended) {
						t.Errorf("%s, other command: %v", w.at, err)
					}
				})
			}
			all.Wait()
			waitSettled(t, log, bookings)
			for _, w := range worlds {
				t.Run(w.at.String(), func(t *testing.T) { w.wantEnd(t, whole.after) })
			}
		})
	}
}

// settle settles the world as recovery does.
func (w world) settle(ctx context.Context) error {
	_, err := w.handler(w.store).settle(ctx, w.booking, everywhere(w.from, w.to)...)
	return err
}

func (w world) wantEnd(t *testing.T, want end) {
	t.Helper()
	if got := w.end(t); !equalEnds(got, want) {
		t.Errorf("it settled as\n%+v, want\n%+v", got, want)
	}
}

func equalEnds(a, b end) bool {
	equalSlots := func(a, b []domain.Slot) bool { return slices.EqualFunc(a, b, domain.Slot.Equal) }
	sameEvents := func(a, b []string) bool { return slices.Equal(a, b) }
	return slices.EqualFunc(a.rooms[:], b.rooms[:], sameEvents) && slices.Equal(a.booking, b.booking) && slices.Equal(a.use, b.use) && equalSlots(a.held[0], b.held[0]) && equalSlots(a.held[1], b.held[1])
}
