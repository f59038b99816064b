package projections_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// looking is a store that counts calls of State and can hide the positions of generations.
type looking struct {
	projections.Store
	looks  atomic.Int64
	secret bool
}

func (s *looking) State(ctx context.Context, projection string) (projections.State, error) {
	s.looks.Add(1)
	state, err := s.Store.State(ctx, projection)
	if s.secret {
		for i := range state.Generations {
			state.Generations[i].Position = 0
		}
	}
	return state, err
}

// Many queries that wait for a list cost hardly more than one.
func TestManyWait(t *testing.T) {
	p, _ := projections.Named(projections.BookingListName)
	store := &looking{Store: openSQLite(t)}
	begun(t, store, p)
	queries := projections.NewQueries(store, projections.QueryOptions{ReadWait: 500 * time.Millisecond, Positions: projections.NewPositions()})
	const many = 400
	var waiting sync.WaitGroup
	for i := range many {
		waiting.Go(func() {
			_, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: eventstore.Position(1000 + i)})
			if !errors.Is(err, projections.ErrBehind) {
				t.Error(err)
			}
		})
	}
	waiting.Wait()
	if looks := store.looks.Load(); looks > 4*many {
		t.Errorf("%d who waited had the store asked %d times", many, looks)
	}
}

// A waiting query is woken by the worker's write, without polling the store.
func TestTheWriterWakesWhoWaits(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	positions := projections.NewPositions()
	// It would gather for an hour if it did not know of the query.
	run(t, projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Hour, Positions: positions}))
	queries := projections.NewQueries(&looking{Store: store, secret: true}, projections.QueryOptions{ReadWait: time.Hour, Positions: positions})
	h := history(11)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 3 {
		position := happen(t, log, h, 2)
		page, err := queries.BookingLists(ctx, projections.Query{MinPosition: position})
		if err != nil || page.Position < position {
			t.Fatalf("at %d, %v; want %d", page.Position, err, position)
		}
	}
}

// away is a log in which events cannot be looked up.
type away struct{}

func (away) EventAt(context.Context, eventstore.Position) (id uuid.UUID, found bool, err error) {
	return id, false, eventstore.ErrUnavailable
}

// A query for a position at which the log has no event fails, and one for any other position waits.
func TestPositionsThatAreNotInTheLog(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	begun(t, store, p)
	position := happen(t, log, history(12), 2)
	end, err := log.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	patient := projections.NewQueries(store, projections.QueryOptions{ReadWait: time.Hour, Log: log})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, beyond := range []eventstore.Position{end + 1<<40, 1<<63 - 2} {
		if _, err := patient.BookingLists(ctx, projections.Query{MinPosition: beyond}); !errors.Is(err, projections.ErrNoSuchPosition) {
			t.Errorf("at %d, beyond the end: %v", beyond, err)
		}
		if _, err := patient.Notification(ctx, "n", beyond); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("of a list that was never built: %v", err)
		}
	}
	hasty := projections.NewQueries(store, projections.QueryOptions{ReadWait: 100 * time.Millisecond, Log: log})
	if _, err := hasty.BookingLists(ctx, projections.Query{MinPosition: position}); !errors.Is(err, projections.ErrBehind) {
		t.Errorf("of a list that is behind: %v", err)
	}
	hasty = projections.NewQueries(store, projections.QueryOptions{ReadWait: 100 * time.Millisecond, Log: away{}})
	if _, err := hasty.BookingLists(ctx, projections.Query{MinPosition: end + 1<<40}); !errors.Is(err, projections.ErrBehind) {
		t.Errorf("while the log is away: %v", err)
	}
	run(t, projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond}))
	if page, err := patient.BookingLists(ctx, projections.Query{MinPosition: position}); err != nil || page.Position < position {
		t.Errorf("of a list that comes: %d, %v", page.Position, err)
	}
}

// The lists of a process share one subscription.
func TestListsShareASubscription(t *testing.T) {
	log, store, h := &counted{Log: eventstoretest.Open(t)}, openSQLite(t), history(13)
	start := func() (workers *projections.Workers, stop func()) {
		workers = projections.NewWorkers(store, log, projections.All(), projections.WorkerOptions{Gather: time.Nanosecond})
		return workers, run(t, workers)
	}
	workers, stop := start()
	until(t, "the lists are built", func() bool {
		return all(workers, func(h projections.Health) bool { return h.State == projections.Following })
	})
	stop()
	happen(t, log.Log.(*eventstore.Store), h, 5)
	workers, _ = start() // behind the end of the log
	until(t, "three lists use one subscription", func() bool {
		position := happen(t, log.Log.(*eventstore.Store), h, 1)
		until(t, "all have caught up", func() bool {
			return all(workers, func(h projections.Health) bool { return h.State == projections.Following && h.Position >= position })
		})
		return log.open.Load() == 1
	})
}

// broken is a store whose reads fail half-way.
type broken struct{ projections.Store }

func (s broken) Find(ctx context.Context, projection string, schema projections.Schema, sel projections.Selection) (projections.Found, error) {
	found, err := s.Store.Find(ctx, projection, schema, sel)
	return found, errors.Join(err, errors.New("the connection is lost"))
}

// What was found before a read failed is not returned.
func TestALookThatBreaksOff(t *testing.T) {
	store := openSQLite(t)
	for _, p := range projections.All() {
		ref := begun(t, store, p)
		rows, _, err := p.Fold(t.Context(), none, several())
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Write(t.Context(), ref, p.Schema, rows, projections.Checkpoint{Position: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	q := projections.NewQueries(broken{store}, projections.QueryOptions{})
	page, err := q.BookingLists(t.Context(), projections.Query{})
	if !errors.Is(err, projections.ErrUnavailable) || len(page.Items) > 0 {
		t.Errorf("a page: %v, %v", page, err)
	}
	if b, err := q.BookingList(t.Context(), "b1", 0); !errors.Is(err, projections.ErrUnavailable) {
		t.Errorf("a document: %v, %v", b, err)
	}
	if err := q.Ready(t.Context()); !errors.Is(err, projections.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), projections.BookingListName) {
		t.Errorf("whether questions are answered: %v", err)
	}
	if err := projections.NewQueries(store, projections.QueryOptions{}).Ready(t.Context()); err != nil {
		t.Errorf("with lists that can be read: %v", err)
	}
}

// What a process knows of a list's position is forgotten once another process has rebuilt the list from another log.
func TestAListThatWentBackIsWaitedFor(t *testing.T) {
	p, _ := projections.Named(projections.BookingListName)
	store, log := openSQLite(t), eventstoretest.Open(t)
	positions := projections.NewPositions()
	stop := run(t, projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond, Positions: positions}))
	queries := projections.NewQueries(store, projections.QueryOptions{ReadWait: patience, Positions: positions})
	position := happen(t, log, history(14), 3)
	if page, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: position}); err != nil || page.Position < position {
		t.Fatalf("at %d, %v; want %d", page.Position, err, position)
	}
	stop()

	old, err := store.State(t.Context(), p.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Discard(t.Context(), old.Generations[0].Ref); err != nil {
		t.Fatal(err)
	}
	g, err := store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Activate(t.Context(), p.Name, 0, g.Number); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() {
		if err := store.Write(t.Context(), g.Ref, p.Schema, nil, projections.Checkpoint{Position: position, Event: uuid.New()}); err != nil {
			t.Error(err)
		}
	})
	if page, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: position}); err != nil || page.Position < position {
		t.Errorf("a page at %d, %v; want %d", page.Position, err, position)
	}
	if _, err := queries.BookingList(t.Context(), "none", position); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("a document: %v", err)
	}
}
