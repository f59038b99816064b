package commands

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// restored is an event store behind a network which then leads to another one: a backup from before the test that was restored.
type restored struct {
	store  *eventstore.Store // through the network
	former string            // address of the one that stands there at first
	node   node              // that stands there later
	put    func()            // has it stand there
}

func newRestored(t *testing.T) *restored {
	t.Helper()
	first, second := eventstoretest.Serve(t, ""), eventstoretest.Serve(t, "")
	network := eventstoretest.Before(t, first)
	r := &restored{store: network.Open(t, eventstore.Options{}), former: first, put: func() { network.Redirect(second) }}
	direct := eventstoretest.Before(t, second)
	r.node = node{address: direct.ConnectionString(), store: direct.Open(t, eventstore.Options{}), handler: newHandler}
	return r
}

// A replica that has cached calendars of a log that is gone does not decide on them, neither if the calendar in the new log is shorter, nor if
// it has become as long, with another booking in the slot.
func TestAReplicaForgetsALogThatIsGone(t *testing.T) {
	for name, meanwhile := range map[string]int{"shorter": 2, "as long": 4, "longer": 7} {
		t.Run(name, func(t *testing.T) {
			r, room := newRestored(t), newRoom()
			h := newHandler(r.store)
			for i := range 4 {
				book(t, h, room, slot(i, i+1))
			}
			other := newHandler(r.node.store)
			for i := range meanwhile {
				book(t, other, room, slot(10+i, 11+i))
			}
			r.put()
			// The first slot is free in the cached calendar and taken in the stored one, the second the other way round.
			ask := func(s domain.Slot) error {
				for {
					_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: s})
					if !isAway(err) {
						return err
					}
					if t.Context().Err() != nil {
						t.Fatal(err)
					}
				}
			}
			if taken, ok := errors.AsType[*domain.SlotTaken](ask(slot(10, 11))); !ok || len(taken.By) != 1 {
				t.Errorf("a slot that is taken: %v", taken)
			}
			if err := ask(slot(0, 1)); err != nil {
				t.Errorf("a slot that is free: %v", err)
			}
			wantSound(t, r.node.store, 0, room)
		})
	}
}

// A command that is running while the log is replaced appends nothing that it decided on the log that is gone.
func TestACommandUnderWayWhileTheLogIsReplaced(t *testing.T) {
	r := newRestored(t)
	b := book(t, newHandler(r.store), newRoom(), slot(0, 1))
	// The same stream in the other log, at the same revision, of another booking.
	created := domain.BookingCreated{BookingID: b.ID, ReservationID: "other", RoomID: newRoom(), UserID: "eve", Slot: slot(5, 6), At: noon}
	asked := domain.ConfirmRequested{BookingID: b.ID, RoomID: created.RoomID, UserID: "eve", At: noon}
	if _, err := r.node.store.Append(t.Context(), b.ID.Stream(), eventstore.NoStream, request().propose([]domain.Event{created, asked})...); err != nil {
		t.Fatal(err)
	}
	under := &replacedBefore{Store: r.store, put: r.put}
	user := domain.UserID("bob")
	if _, err := newHandler(under).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user}); !isAway(err) {
		t.Errorf("%v, want that the event store is not available", err)
	}
	wantTypes(t, r.node.store, b.ID.Stream(), "BookingCreated", "ConfirmRequested")
}

// replacedBefore is a store whose log is replaced just before the first append.
type replacedBefore struct {
	Store
	put func()
}

func (s *replacedBefore) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	s.put()
	return s.Store.Append(ctx, stream, expected, events...)
}

// When the log is replaced, recovery follows the new one from the checkpoint in it, and saves no checkpoint of the former one there.
func TestRecoveryOfALogThatIsReplaced(t *testing.T) {
	r := newRestored(t)
	for range 20 {
		book(t, newHandler(r.store), newRoom(), slot(0, 1))
	}
	recovery := recovering(t, r.store, r.store, 1, 20*time.Millisecond)[0]
	for saved := eventstore.Position(0); saved == 0; {
		var err error
		if saved, err = r.store.LoadCheckpoint(t.Context(), checkpointStream); err != nil {
			t.Fatal(err)
		}
	}
	create := breakables()[0]
	w := create.broken(t, r.node, create.whole(t, r.node), point{n: 1, done: true})[0]
	r.put()
	waitSettled(t, r.node.store, map[domain.BookingID]bool{w.booking: true})
	for {
		if _, err := recovery.Status(); err == nil {
			break
		}
	}
	checkpoint, err := r.node.store.LoadCheckpoint(t.Context(), checkpointStream)
	if end, _ := r.node.store.End(t.Context()); err != nil || checkpoint > end {
		t.Errorf("the checkpoint is %d of %d, %v", checkpoint, end, err)
	}
}

// outlasting is the log of a recovery whose first subscription outlasts the event store: what that had sent is still to come.
type outlasting struct {
	*eventstore.Store
	former        *eventstore.Store
	subscriptions atomic.Int32
	replaced      atomic.Bool
	misplaced     atomic.Int32 // checkpoints of the first subscription that were saved in the log that has come
}

func (l *outlasting) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	if l.subscriptions.Add(1) > 1 {
		return l.Store.Subscribe(ctx, after, f)
	}
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range l.Store.Subscribe(ctx, after, f) {
			if err != nil {
				break
			}
			if after = batch.Position; !yield(batch, nil) {
				return
			}
		}
		l.former.Subscribe(ctx, after, f)(yield)
	}
}

func (l *outlasting) SaveCheckpoint(ctx context.Context, stream string, p eventstore.Position) error {
	replaced := l.replaced.Load()
	err := l.Store.SaveCheckpoint(ctx, stream, p)
	if err == nil && replaced && l.subscriptions.Load() == 1 {
		l.misplaced.Add(1)
	}
	return err
}

// Recovery does not save a position of the former log as a checkpoint of the one that has replaced it, where something else has that position
// and a step before it may be open. That holds for a process that does nothing but recover, too.
func TestACheckpointOfTheFormerLog(t *testing.T) {
	r := newRestored(t)
	former := eventstoretest.Before(t, r.former).Open(t, eventstore.Options{})
	book(t, newHandler(former), newRoom(), slot(0, 1))
	for range 50 {
		book(t, newHandler(r.node.store), newRoom(), slot(0, 1))
	}
	log := &outlasting{Store: r.store, former: former}
	run(t, NewRecovery(newHandler(r.store), log, RecoveryOptions{Grace: 20 * time.Millisecond}))
	for saved := eventstore.Position(0); saved == 0; {
		var err error
		if saved, err = former.LoadCheckpoint(t.Context(), checkpointStream); err != nil {
			t.Fatal(err)
		}
	}
	r.put()
	log.replaced.Store(true)
	for log.subscriptions.Load() == 1 && log.misplaced.Load() == 0 {
		book(t, newHandler(former), newRoom(), slot(0, 1))
	}
	if n := log.misplaced.Load(); n > 0 {
		t.Errorf("%d checkpoints of the former log were saved", n)
	}
}
