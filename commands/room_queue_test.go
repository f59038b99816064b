package commands

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// crowd is a replica behind a network of its own, and a room that several of its callers want to book at once.
type crowd struct {
	node
	replica *Handler
	network *eventstoretest.Controlled
	room    domain.RoomID
	queue   *roomQueue // held until the end of the test, so that it is the one that all stand in

	callers sync.WaitGroup
	errs    []error // of the callers, by number
}

// newCrowd is a crowd whose replica knows the room: it has booked its first hour.
func newCrowd(t *testing.T, callers int) *crowd {
	c := &crowd{node: openNode(t), room: newRoom(), errs: make([]error, callers)}
	c.network = eventstoretest.BeforeStore(t, c.address)
	c.replica = newHandler(c.network.Open(t, eventstore.Options{Timeout: time.Minute}))
	book(t, c.replica, c.room, slot(0, 1))
	c.queue = c.replica.calendars.enter(c.room)
	return c
}

// books has a caller, by its number, ask for a slot.
func (c *crowd) books(ctx context.Context, number int, s domain.Slot) {
	c.callers.Go(func() {
		_, c.errs[number] = c.replica.CreateBooking(ctx, CreateBooking{Request: request(), Room: c.room, User: "ann", Slot: s})
	})
}

// gather waits until so many have joined the group that is open.
func (c *crowd) gather(callers int) {
	c.waitFor(func() bool {
		c.queue.mu.Lock()
		defer c.queue.mu.Unlock()
		return c.queue.open != nil && len(c.queue.open.events) == callers
	})
}

func (c *crowd) waitFor(happened func() bool) {
	for !happened() {
		runtime.Gosched()
	}
}

// appends is how many appends the room's calendar and the bookings took since the crowd's first.
func (c *crowd) appends() int { return c.network.Calls(eventstoretest.Append) - 2 }

func (c *crowd) hold(t *testing.T) {
	t.Helper()
	if err := c.queue.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (c *crowd) wantBooked(t *testing.T, bookings int) {
	t.Helper()
	want := slices.Repeat([]string{"SlotReserved"}, bookings)
	if got := eventTypes(t, c.store, c.room.Stream()); !slices.Equal(got, want) {
		t.Errorf("the calendar has %v, want %d reservations", got, bookings)
	}
	wantSound(t, c.store, 0, c.room)
}

// Those that come while somebody has the turn share one append, though the first of them, who appends for all, has gone away.
func TestACrowdSharesAppends(t *testing.T) {
	c := newCrowd(t, 40)
	c.hold(t)
	first, leave := context.WithCancel(t.Context())
	c.books(first, 0, slot(1, 2))
	c.gather(1)
	for i := 1; i < 40; i++ {
		c.books(t.Context(), i, slot(i+1, i+2))
	}
	c.gather(40)
	leave()
	c.queue.unlock()
	c.callers.Wait()
	if err := errors.Join(c.errs...); err != nil {
		t.Error(err)
	}
	if n := c.appends(); n != 1+40 {
		t.Errorf("40 bookings took %d appends, want 1 to the calendar and 40 to bookings", n)
	}
	c.wantBooked(t, 41)
}

// A group has a bound; who finds it full waits for the next.
func TestACrowdThatIsLargerThanAGroup(t *testing.T) {
	const callers = 2*maxBatch + 10
	c := newCrowd(t, callers)
	c.hold(t)
	for i := range callers {
		c.books(t.Context(), i, slot(i+1, i+2))
	}
	c.gather(maxBatch)
	c.queue.unlock()
	c.callers.Wait()
	if err := errors.Join(c.errs...); err != nil {
		t.Error(err)
	}
	c.wantBooked(t, callers+1)
}

// Of a crowd that wants the same hour one gets it, and all others are told who.
func TestACrowdForOneSlot(t *testing.T) {
	c := newCrowd(t, 30)
	c.hold(t)
	for i := range c.errs {
		c.books(t.Context(), i, slot(1, 2))
	}
	c.gather(1)
	c.queue.unlock()
	c.callers.Wait()
	refused := 0
	for _, err := range c.errs {
		if taken, ok := errors.AsType[*domain.SlotTaken](err); ok && len(taken.By) == 1 {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != 29 {
		t.Errorf("%d of 30 were refused", refused)
	}
	c.wantBooked(t, 2)
}

// What a group decided on an append that then fails is decided anew: also if another replica's event has the revision in the stream
// that the failed append's would have had, so that the event store would not notice.
func TestAGroupIsOvertaken(t *testing.T) {
	for range 20 {
		c := newCrowd(t, 2)
		c.network.Silence()
		c.books(t.Context(), 0, slot(1, 2)) // does not get through
		c.waitFor(c.appending)
		c.books(t.Context(), 1, slot(2, 4)) // decides on the calendar with the first
		c.gather(1)
		other := book(t, newHandler(c.store), c.room, slot(3, 5))
		c.network.Start()
		c.callers.Wait()
		if c.errs[0] != nil {
			t.Error(c.errs[0])
		}
		if taken, ok := errors.AsType[*domain.SlotTaken](c.errs[1]); !ok || taken.By[0].BookingID != other.ID {
			t.Errorf("the second was told %v, want that booking %s has the slot", c.errs[1], other.ID)
		}
		c.wantBooked(t, 3)
	}
}

// Who has joined a group that is overtaken hears of it at once, and not only when its first gets round to the append.
func TestAGroupIsOvertakenByNews(t *testing.T) {
	c := newCrowd(t, 1)
	c.pair(t) // whose first never gets round to it
	book(t, newHandler(c.store), c.room, slot(4, 5))
	if _, err := c.replica.calendars.read(t.Context(), c.room); err != nil {
		t.Fatal(err)
	}
	c.callers.Wait()
	if c.errs[0] != nil {
		t.Error(c.errs[0])
	}
	c.wantBooked(t, 3)
}

// A crowd that comes to a room that its replica does not know reads the calendar a few times, and not each for itself.
func TestACrowdSharesReads(t *testing.T) {
	c := newCrowd(t, 100)
	c.replica = newHandler(c.network.Open(t, eventstore.Options{}))
	c.queue = c.replica.calendars.enter(c.room)
	c.hold(t)
	before := c.network.Calls(eventstoretest.Read)
	for i := range c.errs {
		c.books(t.Context(), i, slot(i+1, i+2))
	}
	c.waitFor(func() bool {
		c.replica.calendars.mu.Lock()
		defer c.replica.calendars.mu.Unlock()
		return c.queue.users == 1+len(c.errs)
	})
	c.queue.unlock()
	c.callers.Wait()
	if err := errors.Join(c.errs...); err != nil {
		t.Error(err)
	}
	if n := c.network.Calls(eventstoretest.Read) - before; n > 20 {
		t.Errorf("100 callers took %d reads", n)
	}
	c.wantBooked(t, 101)
}

// What is known of a group's end is told, also to one whose time is over just then.
func TestTheEndOfAGroupGoesBeforeTheEndOfTime(t *testing.T) {
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	g := &batch{done: make(chan struct{})}
	g.end(nil)
	for range 100 {
		if err := g.wait(late); err != nil {
			t.Fatal(err)
		}
	}
}

// appending reports whether the open group was closed and its append begun.
func (c *crowd) appending() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.open == nil && c.queue.next != c.queue.stored
}

// A first that has no time left before the turn comes gives up for itself alone, and what it decided is forgotten.
func TestAGroupWhoseFirstGivesUp(t *testing.T) {
	c := newCrowd(t, 1)
	c.hold(t)
	g := c.pair(t)
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := c.queue.append(late, g); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that time is over", err)
	}
	c.queue.unlock()
	c.callers.Wait()
	if c.errs[0] != nil {
		t.Error(c.errs[0])
	}
	book(t, c.replica, c.room, slot(1, 2))
	c.wantBooked(t, 3)
}

// Once it is begun, an append is not bound to the time that its first has left.
func TestAGroupWhoseFirstIsLate(t *testing.T) {
	c := newCrowd(t, 1)
	g := c.pair(t)
	c.network.Silence()
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c.callers.Go(func() {
		<-soon.Done()
		c.network.Start()
	})
	if err := c.queue.append(soon, g); err != nil {
		t.Error(err)
	}
	c.callers.Wait()
	if c.errs[0] != nil {
		t.Error(c.errs[0])
	}
	if _, err := c.replica.settle(t.Context(), g.events[0].Event.(domain.SlotReserved).BookingID, c.room); err != nil {
		t.Error(err)
	}
	c.wantBooked(t, 3)
}

// A first that panics leaves nobody waiting, and nothing behind.
func TestAGroupWhoseFirstPanics(t *testing.T) {
	c := newCrowd(t, 1)
	c.hold(t)
	g := c.pair(t)
	c.queue.unlock()
	store := c.replica.calendars.store
	c.replica.calendars.store = panicking{store}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was kept from whose it is")
			}
		}()
		_ = c.queue.append(t.Context(), g)
	}()
	c.replica.calendars.store = store
	c.callers.Wait()
	if !errors.Is(c.errs[0], eventstore.ErrOutcomeUnknown) {
		t.Errorf("%v, want an unknown outcome", c.errs[0])
	}
	book(t, c.replica, c.room, slot(1, 3))
	c.wantBooked(t, 2)
}

type panicking struct{ Store }

func (panicking) Append(context.Context, string, domain.Revision, ...eventstore.Proposed) (eventstore.Appended, error) {
	panic("in the store")
}

// pair is a group of a reservation from 1 to 2, whose append is left to the test, and of caller 0, who wants the hour after that.
func (c *crowd) pair(t *testing.T) *batch {
	t.Helper()
	g, first, err := c.queue.join(t.Context(), func(domain.Calendar) []eventstore.Proposed {
		return []eventstore.Proposed{reservation(c.room, slot(1, 2))}
	})
	if err != nil || !first {
		t.Fatalf("there is a group already, or %v", err)
	}
	c.books(t.Context(), 0, slot(2, 3))
	c.gather(2)
	return g
}
