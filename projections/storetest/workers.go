package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// RunWorkers holds the workers, rebuilds and verification to what they promise, on stores of one kind and a real log. Open
// gives a store that is empty.
func RunWorkers(t *testing.T, open func(t *testing.T) projections.Store) {
	for name, test := range map[string]func(*testing.T, *system){
		"Follow":                 testFollow,
		"OthersAtTheEnd":         testOthersAtTheEnd,
		"ReadYourWrites":         testReadYourWrites,
		"TwoWorkers":             testTwoWorkers,
		"KilledBeforeCheckpoint": testKilledBeforeCheckpoint,
		"Repair":                 testRepair,
		"RebuildWhileFollowing":  testRebuildWhileFollowing,
		"RebuildInterrupted":     testRebuildInterrupted,
		"TwoRebuilds":            testTwoRebuilds,
		"Abandoned":              testAbandoned,
		"NewerVersion":           testNewerVersion,
		"OlderVersion":           testOlderVersion,
		"AheadOfLog":             testAheadOfLog,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, &system{T: t, store: open(t), log: eventstoretest.Open(t), history: NewHistory(rand.New(rand.NewPCG(1, 2)))})
		})
	}
}

// system is a log with a history in it, and a store.
type system struct {
	*testing.T
	store projections.Store
	log   *eventstore.Store

	mu      sync.Mutex
	history *History
	last    eventstore.Position // of the history's last event
}

// happen lets some things happen, and returns the position of the last one.
func (s *system) happen(steps int) eventstore.Position {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for range steps {
		stream, expected, events := s.history.Step()
		appended, err := s.log.Append(context.WithoutCancel(s.Context()), stream, expected, events...)
		if err != nil {
			s.Fatal(err)
		}
		s.last = appended.Position
		for i, id := range appended.IDs {
			s.history.Events[len(s.history.Events)-len(appended.IDs)+i].ID = id
		}
	}
	return s.last
}

// work runs workers until the test ends or stop is called. They write at once.
func (s *system) work(o projections.WorkerOptions, of ...projections.Projection) (workers *projections.Workers, stop func()) {
	s.Helper()
	if o.Gather == 0 {
		o.Gather = time.Nanosecond
	}
	workers = projections.NewWorkers(s.store, s.log, of, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- workers.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.Errorf("the workers ended with %v", err)
		}
	})
	s.Cleanup(stop)
	return workers, stop
}

// patience is how long the tests wait for what must come.
const patience = 30 * time.Second

func (s *system) queries(positions *projections.Positions) *projections.Queries {
	return projections.NewQueries(s.store, projections.QueryOptions{ReadWait: patience, Positions: positions})
}

// until waits until something is so.
func (s *system) until(what string, so func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("it never came that %s", what)
		}
	}
}

func (s *system) state(p projections.Projection) projections.State {
	s.Helper()
	state, err := s.store.State(context.WithoutCancel(s.Context()), p.Name)
	if err != nil {
		s.Fatal(err)
	}
	return state
}

// wantVerified waits until a list has a position, and then holds it to the log.
func (s *system) wantVerified(p projections.Projection, position eventstore.Position) {
	s.Helper()
	s.until("the list has the last position", func() bool {
		state := s.state(p)
		g, _ := state.Generation(state.Active)
		return g.Position >= position
	})
	differences, err := projections.Verify(s.Context(), s.store, s.log, p)
	if err != nil {
		s.Fatal(err)
	}
	for _, d := range differences {
		s.Error(d)
	}
	s.wantBookings(p)
}

// wantBookings counts the bookings of the history in a list, which Verify, that folds as the workers do, takes on trust.
func (s *system) wantBookings(p projections.Projection) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	want := map[string]bool{}
	for _, l := range s.history.lives {
		want[string(l.booking.ID)] = true
	}
	if p.Name == projections.NotificationName {
		clear(want)
		for _, e := range s.history.Events {
			switch event := e.Event.(type) {
			case domain.ConfirmRequested, domain.BookingCheckedIn:
			case domain.BookingCancelled:
				want[e.ID.String()] = event.Reason == domain.CancelledByUser
			default:
				want[e.ID.String()] = true
			}
		}
	}
	state := s.state(p)
	rows, err := s.store.Scan(s.Context(), projections.Ref{Projection: p.Name, Number: state.Active}, 0, 100_000)
	if err != nil {
		s.Fatal(err)
	}
	for _, row := range rows {
		delete(want, row.ID)
	}
	for id, missing := range want {
		if missing {
			s.Errorf("%s has no %s", p.Name, id)
		}
	}
}

func bookingList() projections.Projection { return named(projections.BookingListName) }

func named(name string) projections.Projection {
	p, _ := projections.Named(name)
	return p
}

func testFollow(t *testing.T, s *system) {
	before := s.happen(6)
	workers, _ := s.work(projections.WorkerOptions{}, projections.All()...)
	for _, p := range projections.All() {
		s.wantVerified(p, before)
	}
	after := s.happen(10)
	for _, p := range projections.All() {
		s.wantVerified(p, after)
	}
	s.until("all follow and have caught up", func() bool {
		return !slices.ContainsFunc(workers.Health(), func(h projections.Health) bool {
			return h.State != projections.Following || !h.CaughtUp || h.Generation != 1 || h.Position < after || h.Error != nil
		})
	})
}

// A log that ends with what is not the projection's does not hold up a build.
func testOthersAtTheEnd(t *testing.T, s *system) {
	others := func() {
		_, err := s.log.Append(t.Context(), "calendar-"+uuid.NewString(), eventstore.NoStream, eventstore.Proposed{Event: domain.SlotReleased{}})
		if err != nil {
			t.Fatal(err)
		}
	}
	position := s.happen(2)
	others()
	_, stop := s.work(projections.WorkerOptions{}, bookingList())
	s.wantVerified(bookingList(), position)
	stop()
	for _, log := range []projections.Log{s.log, terse{s.log}} {
		position = s.happen(1)
		others()
		if err := projections.NewRebuilder(s.store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), bookingList(), nil); err != nil {
			t.Error(err)
		}
		s.wantVerified(bookingList(), position)
	}
}

// terse is a log that says when its reader has caught up, and not with what, as EventStoreDB did before it told the position.
type terse struct{ projections.Log }

func (l terse) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range l.Log.Subscribe(ctx, after, f) {
			if n := len(batch.Events); n > 0 {
				after = batch.Events[n-1].Position
			}
			batch.Position = after
			if !yield(batch, err) {
				return
			}
		}
	}
}

func testReadYourWrites(t *testing.T, s *system) {
	positions := projections.NewPositions()
	s.happen(1)
	// Nobody waits for a second, unless nobody tells the worker that somebody waits.
	_, stop := s.work(projections.WorkerOptions{Positions: positions, Gather: 2 * patience}, bookingList())
	for name, queries := range map[string]*projections.Queries{"the process of the worker": s.queries(positions)} {
		for range 3 {
			position := s.happen(1)
			page, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: position, Statuses: []string{projections.StatusAll}})
			if err != nil || page.Position < position {
				t.Errorf("in %s: position %d, error %v, want at least %d", name, page.Position, err, position)
			}
		}
	}
	stop()

	_, stop = s.work(projections.WorkerOptions{}, bookingList())
	position := s.happen(1)
	if page, err := s.queries(nil).BookingLists(t.Context(), projections.Query{MinPosition: position}); err != nil || page.Position < position {
		t.Errorf("in another process: position %d, error %v, want at least %d", page.Position, err, position)
	}
	stop()

	position = s.happen(1)
	hasty := projections.NewQueries(s.store, projections.QueryOptions{ReadWait: time.Second})
	if _, err := hasty.BookingLists(t.Context(), projections.Query{MinPosition: position}); !errors.Is(err, projections.ErrBehind) {
		t.Errorf("without a worker: %v", err)
	}
	if _, err := hasty.BookingLists(t.Context(), projections.Query{}); err != nil {
		t.Errorf("without a worker and without a position: %v", err)
	}
	if _, err := hasty.RoomUseLists(t.Context(), projections.Query{}); !errors.Is(err, projections.ErrUnavailable) {
		t.Errorf("of a list that was never built: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hasty.BookingLists(ctx, projections.Query{MinPosition: position}); !errors.Is(err, context.Canceled) {
		t.Errorf("of a context that has ended: %v", err)
	}
}

// Two workers keep the same lists while bookings go on.
func testTwoWorkers(t *testing.T, s *system) {
	for range 2 {
		s.work(projections.WorkerOptions{}, projections.All()...)
	}
	position := s.happen(25)
	for _, p := range projections.All() {
		s.wantVerified(p, position)
	}
}

// A worker was killed after it wrote documents and before it wrote the checkpoint.
func testKilledBeforeCheckpoint(t *testing.T, s *system) {
	p := bookingList()
	_, stop := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, s.happen(6))
	stop()
	behind := s.state(p).Generations[0]
	position := s.happen(10)
	_, stop = s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, position)
	stop()

	// The documents of now, in a generation with the checkpoint of then.
	rows, err := s.store.Scan(t.Context(), behind.Ref, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), g.Ref, rows, behind.Checkpoint); err != nil {
		t.Fatal(err)
	}
	// The flip is refused to a generation that is behind, so that the killed worker's list is put into another store's place by name.
	if err := s.store.Activate(t.Context(), p.Name, 1, g.Number); !errors.Is(err, projections.ErrNotCaughtUp) {
		t.Fatalf("a generation that is behind: %v", err)
	}
	renamed := p
	renamed.Name = "killed"
	k, err := s.store.Begin(t.Context(), renamed.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), k.Ref, rows, behind.Checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), renamed.Name, 0, k.Number); err != nil {
		t.Fatal(err)
	}
	if differences, err := projections.Verify(t.Context(), s.store, s.log, renamed); err != nil || len(differences) != 0 {
		t.Errorf("documents past the checkpoint are no differences: %v, %v", differences, err)
	}
	s.work(projections.WorkerOptions{}, renamed)
	s.wantVerified(renamed, s.happen(3))
}

// Documents that are wrong, missing and superfluous are reported, and a rebuild puts them right.
func testRepair(t *testing.T, s *system) {
	p := bookingList()
	_, stop := s.work(projections.WorkerOptions{}, p)
	position := s.happen(12)
	s.wantVerified(p, position)
	stop()

	ref := projections.Ref{Projection: p.Name, Number: s.state(p).Active}
	rows, err := s.store.Scan(t.Context(), ref, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	wrong, surplus := rows[0], rows[1]
	wrong.Position++
	wrong.Document = strings.Replace(wrong.Document, "room", "wrong", 1)
	surplus.ID, surplus.Created = "surplus", rows[1].Created+1
	if err := s.store.Write(t.Context(), ref, []projections.Row{wrong, surplus}, projections.Checkpoint{Position: position}); err != nil {
		t.Fatal(err)
	}
	differences, err := projections.Verify(t.Context(), s.store, s.log, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(differences) != 2 || differences[0].ID != wrong.ID || differences[0].Stored != wrong.Document || differences[0].Expected != rows[0].Document ||
		differences[1].ID != "surplus" || differences[1].Expected != "" {
		t.Errorf("found %v", differences)
	}

	var last projections.Progress
	err = projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, func(progress projections.Progress) { last = progress })
	if err != nil {
		t.Fatal(err)
	}
	if !last.Active || last.Done < position || last.Done != last.Total || last.Events != int64(len(s.history.Events)) || last.Rate() <= 0 || last.Left() != 0 || last.Projection != p.Name {
		t.Errorf("the last progress was %+v", last)
	}
	s.wantVerified(p, position)
	if state := s.state(p); state.Active != 2 || len(state.Generations) != 2 {
		t.Errorf("after the rebuild the state is %+v", state)
	}

	// A generation of which a document is missing.
	renamed := p
	renamed.Name = "incomplete"
	g, err := s.store.Begin(t.Context(), renamed.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), g.Ref, rows[1:], projections.Checkpoint{Position: position}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), renamed.Name, 0, g.Number); err != nil {
		t.Fatal(err)
	}
	differences, err = projections.Verify(t.Context(), s.store, s.log, renamed)
	if err != nil || len(differences) != 1 || differences[0].ID != rows[0].ID || differences[0].Stored != "" || differences[0].Expected != rows[0].Document {
		t.Errorf("found %v, %v", differences, err)
	}
}

// Lists are rebuilt, again and again, while workers keep them, bookings go on, and a reader looks.
func testRebuildWhileFollowing(t *testing.T, s *system) {
	p := bookingList()
	positions := projections.NewPositions()
	s.happen(5)
	s.work(projections.WorkerOptions{Positions: positions}, p)
	s.wantVerified(p, s.last)

	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { // books, and reads what was booked
		queries := s.queries(positions)
		for {
			select {
			case <-stop:
				return
			default:
			}
			position := s.happen(1)
			page, err := queries.BookingLists(context.Background(), projections.Query{MinPosition: position, Statuses: []string{projections.StatusAll}, Size: 200})
			if err != nil {
				t.Errorf("a read during a rebuild: %v", err)
				return
			}
			s.mu.Lock()
			bookings := len(s.history.lives)
			s.mu.Unlock()
			if page.Position < position || len(page.Items) != bookings {
				t.Errorf("at position %d there are %d bookings; the list, at %d, shows %d", position, bookings, page.Position, len(page.Items))
				return
			}
		}
	})
	const rebuilds = 3
	rebuilder := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{})
	for range rebuilds {
		if err := rebuilder.Rebuild(t.Context(), p, nil); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	others.Wait()
	if active := s.state(p).Active; active != 1+rebuilds {
		t.Errorf("after %d rebuilds generation %d is active", rebuilds, active)
	}
	s.wantVerified(p, s.happen(3))
}

func testRebuildInterrupted(t *testing.T, s *system) {
	p := bookingList()
	s.work(projections.WorkerOptions{}, p)
	position := s.happen(5)
	s.wantVerified(p, position)

	// The first write of the rebuild is told before its flip.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &interrupting{Log: s.log, cancel: cancel}
	err := projections.NewRebuilder(s.store, log, projections.RebuilderOptions{}).Rebuild(ctx, p, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted rebuild ended with %v", err)
	}
	if state := s.state(p); state.Active != 1 || len(state.Generations) != 1 {
		t.Errorf("an interrupted rebuild left %+v", state)
	}
	s.wantVerified(p, s.happen(2))
}

// interrupting is a log whose reader is interrupted once it has read something.
type interrupting struct {
	projections.Log
	cancel func()
}

func (l *interrupting) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range l.Log.Subscribe(ctx, after, f) {
			l.cancel()
			if !yield(batch, err) {
				return
			}
		}
	}
}

func testTwoRebuilds(t *testing.T, s *system) {
	p := bookingList()
	s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, s.happen(8))
	var mu sync.Mutex
	done := 0
	var rebuilding sync.WaitGroup
	for range 3 {
		rebuilding.Go(func() {
			err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case !errors.Is(err, projections.ErrFlipped) && !errors.Is(err, projections.ErrRetired):
				t.Error(err)
			}
		})
	}
	position := s.happen(5)
	rebuilding.Wait()
	if done == 0 || s.state(p).Active == 1 {
		t.Errorf("%d of the rebuilds were done, generation %d is active", done, s.state(p).Active)
	}
	s.wantVerified(p, position)
}

// What a killed rebuild left is removed at the next start and by the next rebuild, and so are generations that were replaced.
func testAbandoned(t *testing.T, s *system) {
	p := bookingList()
	position := s.happen(3)
	_, stop := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, position)
	stop()
	leave := func() {
		if _, err := s.store.Begin(t.Context(), p.Name, p.Version, p.Schema); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	_, stop = s.work(projections.WorkerOptions{}, p) // somebody may still be writing to it
	s.wantVerified(p, position)
	if n := len(s.state(p).Generations); n != 2 {
		t.Errorf("a young generation was removed: there are %d", n)
	}
	stop()
	_, stop = s.work(projections.WorkerOptions{Abandoned: time.Nanosecond}, p)
	s.until("a start removes it", func() bool { return len(s.state(p).Generations) == 1 })
	stop()

	leave()
	if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{Abandoned: time.Nanosecond}).Rebuild(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	if state := s.state(p); state.Active != 4 || len(state.Generations) != 1 {
		t.Errorf("after a rebuild the state is %+v", state)
	}
	s.wantVerified(p, position)
}

// A list that an older program made is rebuilt on its own, and is read and kept until then.
func testNewerVersion(t *testing.T, s *system) {
	p := bookingList()
	position := s.happen(5)
	_, stop := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, position)
	stop()
	p.Version++
	workers, _ := s.work(projections.WorkerOptions{}, p)
	s.until("the newer version is active", func() bool {
		state := s.state(p)
		g, _ := state.Generation(state.Active)
		return g.Number == 2 && g.Version == p.Version
	})
	s.wantVerified(p, s.happen(4))
	s.until("the worker follows it", func() bool {
		h := workers.Health()[0]
		return h.State == projections.Following && h.Generation == 2 && !h.Rebuilding
	})
}

// A list that a newer program keeps is left alone.
func testOlderVersion(t *testing.T, s *system) {
	p := bookingList()
	position := s.happen(2)
	newer := p
	newer.Version++
	_, stop := s.work(projections.WorkerOptions{}, newer)
	s.wantVerified(p, position)
	stop()
	workers, _ := s.work(projections.WorkerOptions{}, p)
	s.until("the older program stands back", func() bool { return workers.Health()[0].State == projections.Superseded })
	if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err == nil {
		t.Error("an older program rebuilt the list of a newer one")
	}
	if state := s.state(p); state.Active != 1 || len(state.Generations) != 1 {
		t.Errorf("the state is %+v", state)
	}
}

// A list that was made from another log is not added to.
func testAheadOfLog(t *testing.T, s *system) {
	p := bookingList()
	p.Name = "ahead_" + uuid.NewString()[:8]
	g, err := s.store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	const far = eventstore.Position(1 << 60)
	if err := s.store.Write(t.Context(), g.Ref, nil, projections.Checkpoint{Position: far}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), p.Name, 0, g.Number); err != nil {
		t.Fatal(err)
	}
	s.happen(1)
	workers, _ := s.work(projections.WorkerOptions{}, p)
	s.until("the worker says so", func() bool {
		var ahead *projections.AheadOfLog
		h := workers.Health()[0]
		return h.State == projections.Failing && errors.As(h.Error, &ahead) && ahead.Position == far && strings.Contains(fmt.Sprint(ahead), "another log")
	})
	var ahead *projections.AheadOfLog
	if _, err := projections.Verify(t.Context(), s.store, s.log, p); !errors.As(err, &ahead) {
		t.Errorf("verified with %v", err)
	}
	if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); !errors.As(err, &ahead) {
		t.Errorf("rebuilt with %v", err)
	}
}
