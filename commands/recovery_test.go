package commands

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// only is the part of a store's log that is about the bookings. A recovery on it does not touch those of other tests.
func only(store *eventstore.Store, bookings map[domain.BookingID]bool) *eventstoretest.Part {
	return eventstoretest.PartOf(store, eventstoretest.Naming(slices.Collect(maps.Keys(bookings))...))
}

// recovering runs recoveries on the log, as replicas do, until the test ends.
func recovering(t *testing.T, store *eventstore.Store, log Log, replicas int, grace time.Duration) []*Recovery {
	t.Helper()
	var all []*Recovery
	for range replicas {
		r := NewRecovery(newHandler(store), log, RecoveryOptions{Grace: grace})
		all = append(all, r)
		run(t, r)
	}
	return all
}

// run runs a recovery until the test ends.
func run(t *testing.T, r *Recovery) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("recovery ended with %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// waitSettled waits until the log has no open step of the bookings. It gives up long after recovery should have closed them.
func waitSettled(t *testing.T, log Log, bookings map[domain.BookingID]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		began := time.Now()
		open, err := OpenBookings(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		open = slices.DeleteFunc(open, func(b OpenBooking) bool { return !bookings[b.Booking] })
		if len(open) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d bookings have not settled: %+v", len(open), open)
		case <-time.After(max(5*time.Millisecond, time.Since(began))): // a log that others write to as well is long
		}
	}
}

// waitCleared waits until recovery has settled the rooms: until its checkpoint passes all events that close or retire a room.
func waitCleared(t *testing.T, log Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var closed eventstore.Position
	err := toEnd(ctx, log, 0, Streams(), func(batch eventstore.Batch) {
		for _, r := range batch.Events {
			switch r.Event.(type) {
			case domain.PeriodClosed, domain.RoomRetired:
				closed = r.Position
			}
		}
	})
	for err == nil {
		var p eventstore.Position
		if p, err = log.LoadCheckpoint(ctx, checkpointStream); err == nil && p >= closed {
			return
		}
		err = cmp.Or(err, eventstore.Sleep(ctx, 5*time.Millisecond))
	}
	t.Fatalf("rooms have not settled: %v", err)
}

// TestRecoveryAloneFinishesWhatACrashLeft interrupts each command at each of its appends, and lets two replicas of recovery and nobody else
// settle each world.
func TestRecoveryAloneFinishesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	type broken struct {
		name string
		left
		want end
	}
	var worlds []broken
	bookings := map[domain.BookingID]bool{}
	rooms := map[domain.RoomID]bool{}
	for _, c := range breakables() {
		whole := c.whole(t, n)
		for _, w := range c.broken(t, n, whole, whole.points()...) {
			bookings[w.booking], rooms[w.from], rooms[w.to] = true, true, true
			worlds = append(worlds, broken{c.name + ", " + w.at.String(), w, whole.settled(w.at)})
		}
	}
	of := eventstoretest.Naming(slices.Collect(maps.Keys(bookings))...)
	in := eventstoretest.Naming(slices.Collect(maps.Keys(rooms))...)
	log := eventstoretest.PartOf(n.store, func(r eventstore.Recorded) bool { return of(r) || in(r) })
	recovering(t, n.store, log, 2, 20*time.Millisecond)
	waitCleared(t, log)
	waitSettled(t, log, bookings)
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) { w.wantEnd(t, w.want) })
	}
	t.Logf("%d broken commands were settled", len(worlds))
}

// TestOneThatCannotBeSettledHoldsUpNoOther has a booking whose first event cannot be decoded, and one that can be settled.
func TestOneThatCannotBeSettledHoldsUpNoOther(t *testing.T) {
	n := openNode(t)
	store := n.store
	poisoned := domain.BookingID(uuid.NewString())
	eventstoretest.AppendRaw(t, n.address, poisoned.Stream(), "BookingCreated", `{"bookingId": 17}`, "")
	ask := request().reservation(eventstore.NoStream)
	ask.BookingID, ask.RoomID, ask.UserID, ask.Slot = poisoned, newRoom(), "ann", slot(0, 1)
	if _, err := store.Append(t.Context(), ask.RoomID.Stream(), eventstore.NoStream, eventstore.Proposed{Event: ask}); err != nil {
		t.Fatal(err)
	}
	create := breakables()[0]
	w := create.broken(t, n, create.whole(t, n), point{n: 1, done: true})[0]

	log := only(store, map[domain.BookingID]bool{w.booking: true, poisoned: true})
	r := recovering(t, store, log, 1, 20*time.Millisecond)[0]
	waitSettled(t, log, map[domain.BookingID]bool{w.booking: true})
	for {
		open, err := r.Status()
		if err != nil {
			t.Fatal(err)
		}
		failing := false
		for _, b := range open {
			if b.Booking == poisoned && b.Failures >= 2 && b.Err != nil {
				failing = true
			}
		}
		if failing {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("recovery does not tell of the booking that it cannot settle: %+v", open)
		case <-time.After(5 * time.Millisecond):
		}
	}
	checkpoint, err := log.LoadCheckpoint(t.Context(), checkpointStream)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range store.ReadStream(t.Context(), ask.RoomID.Stream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if checkpoint >= r.Position {
			t.Errorf("the checkpoint is %d, past the open step at %d", checkpoint, r.Position)
		}
	}
}

// watchedLog is a log whose calls are counted.
type watchedLog struct {
	Log
	subscriptions atomic.Int32
	saves         atomic.Int32
}

func (l *watchedLog) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	l.subscriptions.Add(1)
	return l.Log.Subscribe(ctx, after, f)
}

func (l *watchedLog) SaveCheckpoint(ctx context.Context, stream string, p eventstore.Position) error {
	err := l.Log.SaveCheckpoint(ctx, stream, p)
	l.saves.Add(1)
	return err
}

// asking is a store that tells when a recovery checks what is due: it then asks which log this is.
type asking struct {
	Store
	looks chan struct{}
}

func (s *asking) Incarnation() eventstore.Incarnation {
	select {
	case s.looks <- struct{}{}:
	default:
	}
	return s.Store.Incarnation()
}

// A checkpoint is an event of the log that recovery follows, so a recovery that has nothing new to do must not save another one. And it keeps
// one subscription, however often it checks what is due.
func TestAnIdleRecoveryAppendsNothing(t *testing.T) {
	store := eventstoretest.Open(t)
	b := book(t, newHandler(store), newRoom(), slot(0, 1))
	log := &watchedLog{Log: only(store, map[domain.BookingID]bool{b.ID: true})}
	looks := make(chan struct{})
	run(t, NewRecovery(newHandler(&asking{store, looks}), log, RecoveryOptions{Grace: time.Millisecond}))
	var last eventstore.Position // of the booking's events, which may come in several batches
	for r, err := range store.ReadStream(t.Context(), b.ID.Stream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = r.Position
	}
	for saved := eventstore.Position(0); saved < last; {
		<-looks
		var err error
		if saved, err = log.LoadCheckpoint(t.Context(), checkpointStream); err != nil {
			t.Fatal(err)
		}
	}
	<-looks // now the save has returned
	<-looks
	saves := log.saves.Load()
	for range 30 {
		<-looks
	}
	if now := log.saves.Load(); now != saves {
		t.Errorf("%d checkpoints were saved while nothing happened", now-saves)
	}
	if n := log.subscriptions.Load(); n != 1 {
		t.Errorf("it subscribed %d times", n)
	}
}

// Many bookings that were left half-done long ago are all settled at once, as places come free. None waits for the grace period of the process
// that finds it, nor for its next check.
func TestRecoverySettlesAsPlacesComeFree(t *testing.T) {
	n := openNode(t)
	const bookings = 3*settlers + 1
	create := breakables()[0]
	left := create.broken(t, n, create.whole(t, n), slices.Repeat([]point{{n: 1, done: true}}, bookings)...)
	open := map[domain.BookingID]bool{}
	for _, w := range left {
		open[w.booking] = true
	}
	log := only(n.store, open)
	r := NewRecovery(newHandler(n.store), log, RecoveryOptions{Grace: time.Hour})
	r.tick = 24 * time.Hour
	run(t, r)
	waitSettled(t, log, open)
}

// scripted is a log that yields batches one after the other, each after a pause, and nothing else then.
type scripted struct {
	Log
	batches []eventstore.Batch
}

func (l *scripted) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		for _, b := range l.batches {
			if eventstore.Sleep(ctx, time.Minute) != nil || !yield(b, nil) {
				return
			}
		}
		<-ctx.Done()
		yield(eventstore.Batch{}, ctx.Err())
	}
}

func (l *scripted) LoadCheckpoint(context.Context, string) (eventstore.Position, error) {
	return 0, nil
}
func (l *scripted) SaveCheckpoint(context.Context, string, eventstore.Position) error { return nil }
func (l *scripted) SetMaxCount(context.Context, string, int) error                    { return nil }

// untouched is a store that nobody is to read or append to.
type untouched struct {
	Store
	t *testing.T
}

func (u untouched) Incarnation() eventstore.Incarnation { return 0 }

func (u untouched) ReadStream(_ context.Context, stream string, _ domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	u.t.Errorf("stream %s is read", stream)
	return func(func(eventstore.Recorded, error) bool) {}
}

// Recovery settles nothing before it has seen the whole log, however old a step is: the event that closes it may come later.
func TestRecoveryWaitsForTheEndOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := reservation("r", slot(0, 1)).Event.(domain.SlotReserved)
		occurred := eventstore.Metadata{OccurredAt: time.Now().Add(-time.Hour)}
		log := &scripted{batches: []eventstore.Batch{
			{Position: 1, Events: []eventstore.Recorded{{Position: 1, Stream: ask.RoomID.Stream(), Event: ask, Metadata: occurred}}},
			{Position: 2, CaughtUp: true, Events: []eventstore.Recorded{{Position: 2, Stream: ask.BookingID.Stream(), Event: domain.DecideCreate(domain.Booking{}, ask)[0], Metadata: occurred}}},
		}}
		r := NewRecovery(newHandler(untouched{t: t}), log, RecoveryOptions{Grace: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		if open, err := r.Status(); len(open) > 0 || err != nil {
			t.Errorf("open are %+v, %v", open, err)
		}
	})
}

// What is left half-done while recovery follows the log is settled too, with one subscription, and so is what is left after that broke.
func TestRecoveryGoesOn(t *testing.T) {
	n := openNode(t)
	network := eventstoretest.BeforeStore(t, n.address)
	store := network.Open(t, eventstore.Options{})
	var left [3]domain.SlotReserved
	bookings := map[domain.BookingID]bool{}
	for i := range left {
		left[i] = reservation(newRoom(), slot(0, 1)).Event.(domain.SlotReserved)
		bookings[left[i].BookingID] = true
	}
	log := &watchedLog{Log: only(store, bookings)}
	run(t, NewRecovery(newHandler(store), log, RecoveryOptions{Grace: time.Nanosecond}))
	for i, r := range left {
		if i == 2 {
			if subscriptions := log.subscriptions.Load(); subscriptions != 1 {
				t.Errorf("it subscribed %d times", subscriptions)
			}
			network.Cut()
		}
		if _, err := n.store.Append(t.Context(), r.RoomID.Stream(), eventstore.NoStream, eventstore.Proposed{Event: r}); err != nil {
			t.Fatal(err)
		}
		waitSettled(t, only(n.store, bookings), bookings)
		wantTypes(t, n.store, r.BookingID.Stream(), "BookingCreated", "ConfirmRequested")
	}
}

// An event that cannot be decoded may open a step: the checkpoint stays before it, for a version that can decode it, until its booking is over.
func TestACheckpointStaysBeforeWhatCannotBeDecoded(t *testing.T) {
	const stream = "booking-b"
	steps := newOpenSteps(7)
	for i, r := range []struct {
		eventstore.Recorded
		checkpoint eventstore.Position
	}{
		{eventstore.Recorded{Stream: stream, Type: "BookingPainted"}, 10},
		{eventstore.Recorded{Stream: stream, Type: "BookingChanged"}, 10},
		{eventstore.Recorded{Stream: "booking-c", Type: "BookingCreated", Event: domain.BookingCreated{BookingID: "c"}}, 10},
		{eventstore.Recorded{Stream: stream, Type: "BookingCreated"}, 10},
		{eventstore.Recorded{Stream: stream, Type: "BookingCancelled", Event: domain.BookingCancelled{BookingID: "b", ReservationID: "1"}}, 13},
		{eventstore.Recorded{Stream: "calendar-r", Type: "SlotReleased", Event: domain.SlotReleased{BookingID: "b", ReservationID: "1"}}, 15},
	} {
		r.Position = eventstore.Position(10 + i)
		steps.add(r.Recorded)
		if got := steps.checkpoint(); got != r.checkpoint {
			t.Errorf("after event %d the checkpoint is %d, want %d", i, got, r.checkpoint)
		}
	}
}

func TestOpenSteps(t *testing.T) {
	const booking, room = domain.BookingID("b"), domain.RoomID("r")
	reserved := func(id, replaces domain.ReservationID) domain.Event {
		return domain.SlotReserved{BookingID: booking, RoomID: room, ReservationID: id, Replaces: replaces}
	}
	released := func(id domain.ReservationID) domain.Event {
		return domain.SlotReleased{BookingID: booking, RoomID: room, ReservationID: id}
	}
	created := domain.BookingCreated{BookingID: booking, ReservationID: "1"}
	changed := domain.BookingChanged{BookingID: booking, ReservationID: "2"}
	cancelled := domain.BookingCancelled{BookingID: booking, ReservationID: "1"}
	checkedIn := domain.BookingCheckedIn{BookingID: booking}
	started := domain.UseStarted{BookingID: booking}
	ended := domain.UseEnded{BookingID: booking}
	for _, c := range []struct {
		name       string
		given      []domain.Event
		want       []openStep
		checkpoint eventstore.Position
	}{
		{"reserved", []domain.Event{reserved("1", "")}, []openStep{{stepStand, "1"}}, 0},
		{"created", []domain.Event{reserved("1", ""), created}, nil, 2},
		{"given up", []domain.Event{reserved("1", ""), released("1")}, nil, 2},
		{"change reserved", []domain.Event{reserved("1", ""), created, reserved("2", "1")}, []openStep{{stepStand, "2"}}, 2},
		{"changed", []domain.Event{reserved("1", ""), created, reserved("2", "1"), changed}, []openStep{{stepRelease, "1"}}, 2},
		{"change done", []domain.Event{reserved("1", ""), created, reserved("2", "1"), changed, released("1")}, nil, 5},
		{"other user", []domain.Event{reserved("1", ""), created, domain.BookingChanged{BookingID: booking, ReservationID: "1"}}, nil, 3},
		{"cancelled", []domain.Event{reserved("1", ""), created, cancelled}, []openStep{{stepRelease, "1"}}, 2},
		{"cancel done", []domain.Event{reserved("1", ""), created, cancelled, released("1")}, nil, 4},
		{"checked in", []domain.Event{reserved("1", ""), created, checkedIn}, []openStep{{kind: stepStart}}, 2},
		{"use started", []domain.Event{reserved("1", ""), created, checkedIn, started}, nil, 4},
		{"use ended", []domain.Event{reserved("1", ""), created, checkedIn, started, ended}, []openStep{{kind: stepOver}}, 4},
		{"use over", []domain.Event{reserved("1", ""), created, checkedIn, started, ended, cancelled}, []openStep{{stepRelease, "1"}}, 5},
		{"use over, done", []domain.Event{reserved("1", ""), created, checkedIn, started, ended, cancelled, domain.SlotUsed{BookingID: booking, RoomID: room, ReservationID: "1"}}, nil, 7},
		{"two open, one done", []domain.Event{reserved("1", ""), created, reserved("2", "1"), reserved("3", "1"), released("2")}, []openStep{{stepStand, "3"}}, 3},
		{"all done", []domain.Event{reserved("1", ""), created, checkedIn, started, ended, cancelled, released("1")}, nil, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := newOpenSteps(0)
			for i, e := range c.given {
				steps.add(eventstore.Recorded{Position: eventstore.Position(i + 1), Event: e})
			}
			var open int
			if b := steps.bookings[subject{booking: booking}]; b != nil {
				open = len(b.steps)
				for _, s := range c.want {
					if _, ok := b.steps[s]; !ok {
						t.Errorf("%+v is not open; open are %v", s, b.steps)
					}
				}
			}
			if open != len(c.want) {
				t.Errorf("%d steps are open, want %d", open, len(c.want))
			}
			if got := steps.checkpoint(); got != c.checkpoint {
				t.Errorf("the checkpoint is %d, want %d", got, c.checkpoint)
			}
		})
	}
}

func TestRecoveryPauses(t *testing.T) {
	longest := time.Duration(0)
	for pauses, failures := recoveryPauses(), 0; failures < 100; failures++ {
		d := pauses.NextBackOff()
		if d < 50*time.Millisecond || d > 30*time.Second+1 {
			t.Errorf("after %d failures it waits %s", failures, d)
		}
		longest = max(longest, d)
	}
	if longest < 15*time.Second {
		t.Errorf("after many failures it still waits %s at most", longest)
	}
}
