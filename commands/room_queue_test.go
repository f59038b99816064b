package commands

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// busyRoom is a room that several callers of a replica want to book at the same time. The replica is behind a network of its own.
type busyRoom struct {
	node
	replica *Handler
	network *eventstoretest.Controlled
	room    domain.RoomID
	queue   *roomQueue // in use until the end of the test, so that all callers share it

	callers sync.WaitGroup
	errs    []error // of the callers, by number
}

// newBusyRoom makes a busyRoom that the replica knows: it has booked its first hour.
func newBusyRoom(t *testing.T, callers int) *busyRoom {
	c := &busyRoom{node: openNode(t), room: newRoom(), errs: make([]error, callers)}
	c.network = eventstoretest.BeforeStore(t, c.address)
	c.replica = newHandler(c.network.Open(t, eventstore.Options{Timeout: time.Minute}))
	book(t, c.replica, c.room, slot(0, 1))
	c.queue = c.replica.calendars.enter(c.room)
	return c
}

// books has the caller with a number ask for a slot.
func (c *busyRoom) books(ctx context.Context, number int, s domain.Slot) {
	c.callers.Go(func() {
		_, c.errs[number] = c.replica.CreateBooking(ctx, CreateBooking{Request: request(), Room: c.room, User: "ann", Slot: s})
	})
}

// gather waits until so many callers have joined the open batch.
func (c *busyRoom) gather(callers int) {
	c.waitFor(func() bool {
		c.queue.mu.Lock()
		defer c.queue.mu.Unlock()
		return c.queue.open != nil && len(c.queue.open.events) == callers
	})
}

func (c *busyRoom) waitFor(happened func() bool) {
	for !happened() {
		runtime.Gosched()
	}
}

// appends counts the appends to the room's calendar and to bookings, without those of the first booking.
func (c *busyRoom) appends() int { return c.network.Calls(eventstoretest.Append) - 2 }

func (c *busyRoom) hold(t *testing.T) {
	t.Helper()
	if err := c.queue.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (c *busyRoom) wantBooked(t *testing.T, bookings int) {
	t.Helper()
	want := slices.Repeat([]string{"SlotReserved"}, bookings)
	if got := eventTypes(t, c.store, c.room.Stream()); !slices.Equal(got, want) {
		t.Errorf("the calendar has %v, want %d reservations", got, bookings)
	}
	wantSound(t, c.store, 0, c.room)
}

// Callers that come while the writer lock is held share one append, even if their leader has gone away.
func TestABusyRoomSharesAppends(t *testing.T) {
	c := newBusyRoom(t, 40)
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

// A batch is bounded; whoever finds it full waits for the next one.
func TestMoreCallersThanABatchTakes(t *testing.T) {
	const callers = 2*maxBatch + 10
	c := newBusyRoom(t, callers)
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

// Long descriptions of one room, which together are more than an append takes, are all kept.
func TestABatchOfLongDescriptions(t *testing.T) {
	const callers = 20
	c := newBusyRoom(t, callers)
	c.hold(t)
	ask := RegisterRoom{Request: request(), Room: c.room, Details: domain.Details{Name: "0"}}
	c.callers.Go(func() { _, c.errs[0] = c.replica.RegisterRoom(t.Context(), ask) })
	c.gather(1)
	another := func(domain.Calendar) []eventstore.Proposed {
		return []eventstore.Proposed{{Event: domain.RoomReinstated{RoomID: c.room}}}
	}
	if _, _, full := c.queue.tryJoin(noon, another); full == nil {
		t.Error("a batch takes more after a description")
	}
	for i := 1; i < callers; i++ {
		var equipment []string
		for j := range 100 {
			equipment = append(equipment, fmt.Sprint(i, " ", j, " ", strings.Repeat("漢", 180)))
		}
		c.callers.Go(func() {
			change := ChangeRoom{Request: request(), Room: c.room, Details: domain.Details{Name: "n", Equipment: equipment}}
			_, c.errs[i] = c.replica.ChangeRoom(t.Context(), change)
		})
	}
	c.queue.unlock()
	c.callers.Wait()
	if err := errors.Join(c.errs...); err != nil {
		t.Error(err)
	}
	if got := len(eventTypes(t, c.store, c.room.Stream())); got != 1+callers {
		t.Errorf("the calendar has %d events, want %d", got, 1+callers)
	}
}

// Of many callers who want the same hour one gets it, and all others are told who.
func TestManyCallersForOneSlot(t *testing.T) {
	c := newBusyRoom(t, 30)
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

// Decisions that build on an append which then fails are made again, even if another replica's event has got the revision that the failed
// append would have had, so that the event store would not notice.
func TestABatchIsSuperseded(t *testing.T) {
	for range 20 {
		c := newBusyRoom(t, 2)
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

// Members of a batch that is superseded hear of it at once, and not only when the leader gets round to the append.
func TestABatchIsSupersededByNews(t *testing.T) {
	c := newBusyRoom(t, 1)
	c.pair(t.Context(), t) // whose leader never gets round to it
	book(t, newHandler(c.store), c.room, slot(4, 5))
	if _, err := c.replica.calendars.complete(t.Context(), c.room, noon); err != nil {
		t.Fatal(err)
	}
	c.callers.Wait()
	if c.errs[0] != nil {
		t.Error(c.errs[0])
	}
	c.wantBooked(t, 3)
}

// Many callers who come to a room that their replica does not know read its calendar a few times, and not each for itself.
func TestABusyRoomSharesReads(t *testing.T) {
	c := newBusyRoom(t, 100)
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

// The outcome of a batch is told even to a member whose deadline has just passed.
func TestAnOutcomeGoesBeforeADeadline(t *testing.T) {
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	b := &batch{done: make(chan struct{})}
	b.end(nil)
	for range 100 {
		if err := b.wait(late); err != nil {
			t.Fatal(err)
		}
	}
}

// appending reports whether the open batch was closed and its append begun.
func (c *busyRoom) appending() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.open == nil && c.queue.next != c.queue.stored
}

// A leader whose deadline passes before it gets the writer lock gives up for itself alone, and its decision is forgotten.
func TestABatchWhoseLeaderGivesUp(t *testing.T) {
	c := newBusyRoom(t, 1)
	c.hold(t)
	b := c.pair(t.Context(), t)
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := c.queue.append(late, b); !errors.Is(err, context.DeadlineExceeded) {
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

// Once begun, an append is not bound by its leader's deadline.
func TestABatchWhoseLeaderIsLate(t *testing.T) {
	var c *busyRoom
	var b *batch
	for timeout, begun := 100*time.Millisecond, false; !begun; timeout *= 2 { // if the machine was too slow to begin it in time
		c = newBusyRoom(t, 1)
		b = c.pair(t.Context(), t)
		c.network.Silence()
		soon, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		c.callers.Go(func() {
			<-soon.Done()
			c.network.Start()
		})
		err := c.queue.append(soon, b)
		c.callers.Wait()
		select {
		case <-b.begun:
			begun = true
			if err != nil {
				t.Error(err)
			}
		default:
		}
	}
	if c.errs[0] != nil {
		t.Error(c.errs[0])
	}
	if _, err := c.replica.settle(t.Context(), b.events[0].Event.(domain.SlotReserved).BookingID, everywhere(c.room)...); err != nil {
		t.Error(err)
	}
	c.wantBooked(t, 3)
}

// A member whose caller goes away is booked all the same, and told so.
func TestABatchWithAMemberWhoseCallerIsGone(t *testing.T) {
	c := newBusyRoom(t, 1)
	gone, leave := context.WithCancel(t.Context())
	b := c.pair(gone, t)
	leave()
	if err := c.queue.append(t.Context(), b); err != nil {
		t.Error(err)
	}
	c.callers.Wait()
	if c.errs[0] != nil {
		t.Error(c.errs[0])
	}
	if _, err := c.replica.settle(t.Context(), b.events[0].Event.(domain.SlotReserved).BookingID, everywhere(c.room)...); err != nil {
		t.Error(err)
	}
	c.wantBooked(t, 3)
}

// A leader that panics leaves nobody waiting, and nothing behind.
func TestABatchWhoseLeaderPanics(t *testing.T) {
	c := newBusyRoom(t, 1)
	c.hold(t)
	b := c.pair(t.Context(), t)
	c.queue.unlock()
	store := c.replica.calendars.store
	c.replica.calendars.store = panicking{store}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was kept from whose it is")
			}
		}()
		_ = c.queue.append(t.Context(), b)
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

// pair makes a batch of a reservation from 1 to 2, whose append is left to the test, and of caller 0, who wants the hour after that and
// waits for as long as ctx lasts.
func (c *busyRoom) pair(ctx context.Context, t *testing.T) *batch {
	t.Helper()
	b, first, err := c.queue.join(t.Context(), noon, func(domain.Calendar) []eventstore.Proposed {
		return []eventstore.Proposed{reservation(c.room, slot(1, 2))}
	})
	if err != nil || !first {
		t.Fatalf("there is a batch already, or %v", err)
	}
	c.books(ctx, 0, slot(2, 3))
	c.gather(2)
	return b
}
