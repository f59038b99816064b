package storetest

import (
	"context"
	"errors"
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

// RunWorkers tests workers, rebuilds and verification on a kind of store and a real log. Open must return an empty store.
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
		"FinerTimes":             testFinerTimes,
		"AnotherLog":             testAnotherLog,
		"ReplayOfAnotherLog":     testReplayOfAnotherLog,
		"LogGoesBack":            testLogGoesBack,
		"LogGoesBackUnnoticed":   testLogGoesBackUnnoticed,
		"MemberBehind":           testMemberBehind,
		"VerifyMemberBehind":     testVerifyMemberBehind,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, newSystem(t, open(t), rand.NewPCG(1, 2)))
		})
	}
}

// system is a store and a log that a history is appended to.
type system struct {
	*testing.T
	store projections.Store
	log   *eventstoretest.Part

	mu      sync.Mutex
	history *History
	last    eventstore.Position // of the history's last event
}

// newSystem begins a history in a log of which only that is seen, whoever writes to it as well.
func newSystem(t *testing.T, store projections.Store, source rand.Source) *system {
	history := NewHistory(rand.New(source))
	return &system{T: t, store: store, history: history, log: history.Open(t)}
}

// happen appends some steps of the history and returns the position of the last event.
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

// work runs workers, which do not gather events, until the test ends or stop is called.
func (s *system) work(o projections.WorkerOptions, of ...projections.Projection) (workers *projections.Workers, stop func()) {
	s.Helper()
	return s.workOn(s.log, o, of...)
}

// workOn is work with another log.
func (s *system) workOn(log projections.Log, o projections.WorkerOptions, of ...projections.Projection) (workers *projections.Workers, stop func()) {
	s.Helper()
	if o.Gather == 0 {
		o.Gather = time.Nanosecond
	}
	workers = projections.NewWorkers(s.store, log, of, o)
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

// patience is how long tests wait for something that must happen.
const patience = 2 * time.Minute

func (s *system) queries(positions *projections.Positions) *projections.Queries {
	return projections.NewQueries(s.store, projections.QueryOptions{ReadWait: patience, Positions: positions})
}

// until waits until a condition holds.
func (s *system) until(what string, so func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("timed out before %s", what)
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

// wantVerified waits until a list has reached a position, and then verifies it.
func (s *system) wantVerified(p projections.Projection, position eventstore.Position) {
	s.Helper()
	s.until("the list has the last position", func() bool {
		state := s.state(p)
		g, _ := state.Generation(state.Active)
		return g.Position >= position
	})
	verdict, err := projections.Verify(s.Context(), s.store, s.log, p)
	if err != nil {
		s.Fatal(err)
	}
	for _, d := range verdict.Differences {
		s.Error(d)
	}
	for _, unseen := range verdict.Unseen {
		s.Error(unseen)
	}
	s.wantBookings(p)
}

// wantBookings checks that a list has all bookings, or rooms, of the history. Verify cannot tell, as it folds like the workers.
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
			case domain.ConfirmRequested, domain.BookingCheckedIn, domain.NotificationDelivered, domain.NotificationFailed, domain.NotificationDue, domain.NotificationRetried:
			case domain.NotificationRequested:
				want[string(event.NotificationID)] = true
			case domain.BookingCancelled:
				want[e.ID.String()] = event.Reason == domain.CancelledByUser
			default:
				_, want[e.ID.String()] = domain.NoticeOf(event)
			}
		}
	}
	if p.Name == projections.RoomListName {
		clear(want)
		for _, r := range s.history.rooms {
			want[string(r.id)] = true
		}
	}
	state := s.state(p)
	rows, err := s.store.Scan(s.Context(), projections.Ref{Projection: p.Name, Number: state.Active}, p.Schema, 0, 100_000)
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

// Events of other streams at the end of the log do not delay a build.
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

// terse is a log whose subscriptions report that they have caught up but not at which position, like older EventStoreDBs.
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

// A query waits for its caller's own writes, and fails if that takes too long.
func testReadYourWrites(t *testing.T, s *system) {
	hasty := projections.NewQueries(s.store, projections.QueryOptions{ReadWait: 100 * time.Millisecond, Log: s.log})
	for name, positions := range map[string]*projections.Positions{"the process of the worker": projections.NewPositions(), "another process": nil} {
		p := bookingList()
		log := &cluster{Log: s.log, upTo: s.happen(2), let: make(chan struct{})}
		// Gathering would take longer than the query waits, unless the worker does not know of the query.
		o := projections.WorkerOptions{Positions: positions}
		if positions != nil {
			o.Gather = 2 * patience
		}
		_, stop := s.workOn(log, o, p)
		s.wantVerified(p, log.upTo)
		position := s.happen(3)
		if page, err := hasty.BookingLists(t.Context(), projections.Query{MinPosition: position}); !errors.Is(err, projections.ErrBehind) {
			t.Errorf("in %s, of a list that is behind: position %d, %v; want %d", name, page.Position, err, position)
		}
		if page, err := hasty.BookingLists(t.Context(), projections.Query{MinPosition: log.upTo}); err != nil || page.Position < log.upTo {
			t.Errorf("in %s, of what it has: position %d, %v; want %d", name, page.Position, err, log.upTo)
		}
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			page, err := s.queries(positions).BookingLists(t.Context(), projections.Query{MinPosition: position, Statuses: []string{projections.StatusAll}, Size: projections.MaxSize})
			if err != nil || page.Position < position || len(page.Items) != len(s.history.lives) {
				t.Errorf("in %s: position %d, %d bookings, error %v; want %d", name, page.Position, len(page.Items), err, position)
			}
		}()
		close(log.let)
		<-answered
		stop()
	}

	if _, err := hasty.BookingLists(t.Context(), projections.Query{}); err != nil {
		t.Errorf("without a worker and without a position: %v", err)
	}
	if _, err := hasty.RoomUseLists(t.Context(), projections.Query{}); !errors.Is(err, projections.ErrUnavailable) {
		t.Errorf("of a list that was never built: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hasty.BookingLists(ctx, projections.Query{MinPosition: s.happen(1)}); !errors.Is(err, context.Canceled) {
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

// A worker was killed after it had written documents and before it wrote the checkpoint.
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

	// A generation with the current documents and the earlier checkpoint.
	rows, err := s.store.Scan(t.Context(), behind.Ref, p.Schema, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), g.Ref, p.Schema, rows, behind.Checkpoint); err != nil {
		t.Fatal(err)
	}
	// A generation that is behind cannot be activated, so it becomes the first one of a list with another name.
	if err := s.store.Activate(t.Context(), p.Name, 1, g.Number); !errors.Is(err, projections.ErrNotCaughtUp) {
		t.Fatalf("a generation that is behind: %v", err)
	}
	renamed := p
	renamed.Name = "killed"
	k, err := s.store.Begin(t.Context(), renamed.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), k.Ref, p.Schema, rows, behind.Checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), renamed.Name, 0, k.Number); err != nil {
		t.Fatal(err)
	}
	if verdict, err := projections.Verify(t.Context(), s.store, s.log, renamed); err != nil || verdict.Faults() != 0 || verdict.Behind == 0 {
		t.Errorf("documents past the checkpoint are no differences: %+v, %v", verdict, err)
	}
	s.work(projections.WorkerOptions{}, renamed)
	s.wantVerified(renamed, s.happen(3))
}

// Verify reports wrong, missing and superfluous documents, and a rebuild repairs them.
func testRepair(t *testing.T, s *system) {
	p := bookingList()
	_, stop := s.work(projections.WorkerOptions{}, p)
	position := s.happen(24)
	s.wantVerified(p, position)
	stop()

	ref := projections.Ref{Projection: p.Name, Number: s.state(p).Active}
	rows, err := s.store.Scan(t.Context(), ref, p.Schema, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	wrong, surplus := rows[0], rows[1]
	wrongly, superfluous := *wrong.Document.(*projections.BookingList), *surplus.Document.(*projections.BookingList)
	wrong.Position++
	wrongly.ConfirmReason = "a wrong one"
	surplus.ID, surplus.Created, superfluous.Booking = "surplus", rows[1].Created+1, "surplus"
	wrong.Document, surplus.Document = &wrongly, &superfluous
	if err := s.store.Write(t.Context(), ref, p.Schema, []projections.Row{wrong, surplus}, projections.Checkpoint{Position: position}); err != nil {
		t.Fatal(err)
	}
	verdict, err := projections.Verify(t.Context(), s.store, s.log, p)
	if err != nil {
		t.Fatal(err)
	}
	if differences := verdict.Differences; len(differences) != 2 || differences[0].ID != wrong.ID || differences[0].Stored != text(t, wrong) || differences[0].Expected != text(t, rows[0]) ||
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

	// A generation that lacks a document.
	renamed := p
	renamed.Name = "incomplete"
	g, err := s.store.Begin(t.Context(), renamed.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Write(t.Context(), g.Ref, p.Schema, rows[1:], projections.Checkpoint{Position: position}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), renamed.Name, 0, g.Number); err != nil {
		t.Fatal(err)
	}
	verdict, err = projections.Verify(t.Context(), s.store, s.log, renamed)
	if differences := verdict.Differences; err != nil || len(differences) != 1 || differences[0].ID != rows[0].ID || differences[0].Stored != "" || differences[0].Expected != text(t, rows[0]) {
		t.Errorf("found %v, %v", differences, err)
	}
	if len(verdict.Unseen) != 1 { // the checkpoint does not have the longest document
		t.Errorf("found %v", verdict.Unseen)
	}

	// A correct document with a wrong status key.
	renamed.Name = "misplaced"
	g, err = s.store.Begin(t.Context(), renamed.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	misplaced := slices.Clone(rows)
	misplaced[2].Status = p.Statuses[0]
	if rows[2].Status == p.Statuses[0] {
		misplaced[2].Status = p.Statuses[1]
	}
	if err := s.store.Write(t.Context(), g.Ref, p.Schema, misplaced, projections.Checkpoint{Position: position, Longest: 1 << 52}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), renamed.Name, 0, g.Number); err != nil {
		t.Fatal(err)
	}
	verdict, err = projections.Verify(t.Context(), s.store, s.log, renamed)
	if err != nil || len(verdict.Differences) != 1 || len(verdict.Unseen) != 0 || verdict.Differences[0].ID != rows[2].ID ||
		!strings.Contains(verdict.Differences[0].String(), misplaced[2].Status) {
		t.Errorf("found %v, %v", verdict, err)
	}

	// That a list is behind is reported but not a fault.
	before := len(s.history.Events)
	s.happen(7)
	verdict, err = projections.Verify(t.Context(), s.store, s.log, p)
	if err != nil || verdict.Faults() != 0 || verdict.Behind != len(s.history.Events)-before || verdict.Position != position {
		t.Errorf("of a list that is behind: %+v, %v", verdict, err)
	}
}

func text(t *testing.T, row projections.Row) string {
	t.Helper()
	text, err := projections.DocumentText(row.Document)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A list is rebuilt several times while a worker keeps it and clients book and query.
func testRebuildWhileFollowing(t *testing.T, s *system) {
	p := bookingList()
	positions := projections.NewPositions()
	s.happen(5)
	s.work(projections.WorkerOptions{Positions: positions}, p)
	s.wantVerified(p, s.last)

	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { // books, and reads its own writes
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

	// The rebuild is interrupted before its flip.
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

// interrupting is a log that cancels its reader's context once it has yielded something.
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

// Concurrent rebuilds all end with a rebuilt list, of which one is the active generation.
func testTwoRebuilds(t *testing.T, s *system) {
	p := bookingList()
	s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, s.happen(8))
	var mu sync.Mutex
	won := map[int]int{} // by generation
	var rebuilding sync.WaitGroup
	for range 3 {
		rebuilding.Go(func() {
			var last projections.Progress
			err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, func(now projections.Progress) { last = now })
			if err != nil || !last.Active || last.Generation < 2 {
				t.Errorf("a rebuild ended with %+v, %v", last, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !last.ByOther {
				won[last.Generation]++
			}
		})
	}
	position := s.happen(5)
	rebuilding.Wait()
	if len(won) == 0 || won[s.state(p).Active] != 1 {
		t.Errorf("the rebuilds made %v, and generation %d is active", won, s.state(p).Active)
	}
	s.wantVerified(p, position)
}

// The remains of a killed rebuild are removed once a worker has observed for long enough that they are not written to, and so are
// replaced generations, which the next rebuild removes at the latest.
func testAbandoned(t *testing.T, s *system) {
	p := bookingList()
	position := s.happen(3)
	_, stop := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, position)
	stop()
	left, err := s.store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	const watched = 300 * time.Millisecond
	_, stop = s.work(projections.WorkerOptions{Abandoned: watched}, p)
	last := time.Now()
	for began := last; time.Since(began) < 3*watched; last = time.Now() { // it is still being written to
		err := s.store.Write(t.Context(), left.Ref, p.Schema, nil, projections.Checkpoint{})
		if errors.Is(err, projections.ErrRetired) && time.Since(last) > watched/2 {
			t.Logf("the writer was too slow itself")
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.until("it is removed when nobody writes to it any more", func() bool { return len(s.state(p).Generations) == 1 })
	stop()

	for range 2 {
		if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		if state := s.state(p); len(state.Generations) != 2 || state.Generations[1].Number != state.Active {
			t.Errorf("after a rebuild the state is %+v", state)
		}
	}
	s.wantVerified(p, position)
}

// A list that an older version has built is rebuilt automatically, and read and kept until then.
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

// A list that a newer version keeps is not touched.
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

// Times in the log may be finer than the milliseconds that lists and replies have. Documents are then found and sorted by the times that they
// show, and by their order in the log where these are equal.
func testFinerTimes(t *testing.T, s *system) {
	start := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	finer := func(µs int) time.Time { return start.Add(time.Duration(µs)*time.Microsecond + 789*time.Nanosecond) }
	var want []domain.BookingID
	for _, µs := range []int{1999, 1001, 1500, 2000} {
		id := domain.BookingID(uuid.NewString())
		want = append(want, id)
		slot := domain.Slot{Start: finer(µs), End: finer(µs + 3000)}
		s.history.streams.Store(id.Stream(), nil)
		appended, err := s.log.Append(t.Context(), id.Stream(), eventstore.NoStream, eventstore.Proposed{
			Event:    domain.BookingCreated{BookingID: id, ReservationID: "1", RoomID: "r", UserID: domain.UserID(id), Slot: slot, At: finer(µs)},
			Metadata: eventstore.Metadata{OccurredAt: finer(µs)},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.last = appended.Position
	}
	for _, p := range projections.All() {
		if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		if verdict, err := projections.Verify(t.Context(), s.store, s.log, p); err != nil || verdict.Faults() > 0 {
			t.Errorf("%v, %v", verdict, err)
		}
	}
	ms := func(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }
	var got []domain.BookingID
	for q := (projections.Query{Size: 1}); ; {
		page, err := s.queries(nil).BookingLists(t.Context(), q)
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		b := page.Items[0]
		got = append(got, b.Booking)
		if n := 1 + len(got)/4; b.Start != ms(n) || b.End != ms(n+3) || b.BookedAt != ms(n) {
			t.Errorf("%+v", b)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("in order %v, want %v", got, want)
	}
	for q, n := range map[*projections.Query]int{{To: ms(1)}: 0, {To: ms(2)}: 3, {From: ms(4)}: 1, {From: ms(5)}: 0, {From: ms(3), To: ms(4)}: 4} {
		if page, err := s.queries(nil).RoomUseLists(t.Context(), *q); err != nil || len(page.Items) != n {
			t.Errorf("%+v: %d items, %v; want %d", q, len(page.Items), err, n)
		}
	}
	for q, n := range map[*projections.Query]int{{To: ms(1)}: 0, {To: ms(2)}: 3, {From: ms(2)}: 1, {From: ms(3)}: 0} {
		if page, err := s.queries(nil).Notifications(t.Context(), *q); err != nil || len(page.Items) != n {
			t.Errorf("notifications, %+v: %d items, %v; want %d", q, len(page.Items), err, n)
		}
	}
}

// made creates an active list as if it had been built from a log whose last event was at.
func (s *system) made(p projections.Projection, at projections.Point) projections.Generation {
	s.Helper()
	g, err := s.store.Begin(s.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		s.Fatal(err)
	}
	ghost := projections.Row{ID: "ghost", Created: 1, Position: 1, Status: p.Statuses[0], Document: &projections.BookingList{Booking: "ghost"}}
	if err := s.store.Write(s.Context(), g.Ref, p.Schema, []projections.Row{ghost}, projections.Checkpoint{Position: at.Position, Event: at.Event}); err != nil {
		s.Fatal(err)
	}
	if err := s.store.Activate(s.Context(), p.Name, 0, g.Number); err != nil {
		s.Fatal(err)
	}
	return g
}

// otherLogs are last events of logs other than this one: one is longer, one has another event at the same position.
func (s *system) otherLogs() map[string]projections.Point {
	return map[string]projections.Point{
		"longer":  {Position: 1 << 60, Event: uuid.New()},
		"shorter": {Position: s.happen(3), Event: uuid.New()},
	}
}

// A list that was built from another log is rebuilt, and not shown until then.
func testAnotherLog(t *testing.T, s *system) {
	for name, at := range s.otherLogs() {
		p := bookingList()
		p.Name = name + "_" + uuid.NewString()[:8]
		was := s.made(p, at)
		var other *projections.OtherLog
		if _, err := projections.Verify(t.Context(), s.store, s.log, p); !errors.As(err, &other) || other.Position != at.Position {
			t.Errorf("a list of a %s log is verified with %v", name, err)
		}
		log := &held{Log: s.log, let: make(chan struct{})}
		positions := projections.NewPositions()
		workers, _ := s.workOn(log, projections.WorkerOptions{Positions: positions}, p)
		s.until("readers do not see it", func() bool {
			_, err := s.store.Find(t.Context(), p.Name, p.Schema, projections.Selection{Limit: 1})
			return errors.Is(err, projections.ErrNotBuilt)
		})
		s.until("it is being built", func() bool { return workers.Health()[0].State == projections.Building })
		close(log.let)
		s.until("it is rebuilt", func() bool {
			h := workers.Health()[0]
			return h.State == projections.Following && h.Generation > was.Number
		})
		s.wantVerified(p, s.happen(2))
	}
}

func testReplayOfAnotherLog(t *testing.T, s *system) {
	for name, at := range s.otherLogs() {
		p := bookingList()
		p.Name = name + "_" + uuid.NewString()[:8]
		s.made(p, at)
		if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
			t.Errorf("of a %s log: %v", name, err)
		}
		s.wantVerified(p, s.last)
	}
}

// held is a log whose subscriptions block until let is closed.
type held struct {
	projections.Log
	let chan struct{}
}

func (l *held) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		select {
		case <-l.let:
			l.Log.Subscribe(ctx, after, f)(yield)
		case <-ctx.Done():
			yield(eventstore.Batch{}, ctx.Err())
		}
	}
}

// While workers follow the log a backup is restored: the log is replaced by one that has only its first events.
func testLogGoesBack(t *testing.T, s *system) {
	p := bookingList()
	s.log = ownLog(t)
	before := s.happen(6)
	backup := ownLog(t)
	s.copyTo(backup)
	lost := s.happen(20)

	log := &replaced{logs: []projections.Log{s.log, backup}, broken: make(chan struct{})}
	positions := projections.NewPositions()
	s.workOn(log, projections.WorkerOptions{Positions: positions}, p)
	s.workOn(log, projections.WorkerOptions{}, p) // another process, which may notice first
	s.wantVerified(p, lost)
	queries := s.queries(positions)
	if page, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: lost}); err != nil || page.Position < lost {
		t.Errorf("before it goes back: %+v, %v", page, err)
	}

	was := s.state(p).Active // which may not be the first one, as both workers build one
	log.replace()
	s.log, s.history = backup, NewHistory(rand.New(rand.NewPCG(3, 4))) // the events differ from those that were lost
	s.until("the list is rebuilt", func() bool { return s.state(p).Active > was })
	for range 4 { // positions that were known of the lost log do not count
		position := s.happen(1)
		if position >= lost {
			t.Fatalf("the new log is at %d, the lost one ended at %d", position, lost)
		}
		if page, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: position}); err != nil || page.Position < position {
			t.Errorf("a list at %d was answered for position %d, %v", page.Position, position, err)
		}
	}
	position := s.happen(40)
	if position <= lost || before >= lost {
		t.Fatalf("the new log ends at %d, the lost one at %d", position, lost)
	}
	s.wantVerified(p, position)
	if page, err := queries.BookingLists(t.Context(), projections.Query{MinPosition: position}); err != nil || page.Position < position {
		t.Errorf("afterwards: %+v, %v", page, err)
	}
}

// The log is replaced between the worker's check and its subscription.
func testLogGoesBackUnnoticed(t *testing.T, s *system) {
	p := bookingList()
	s.log = ownLog(t)
	position := s.happen(6)
	_, stop := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, position)
	stop()

	log := &lookedAt{replaced: replaced{logs: []projections.Log{s.log, ownLog(t)}, broken: make(chan struct{})}}
	s.log, s.history = log.logs[1].(*eventstoretest.Part), NewHistory(rand.New(rand.NewPCG(3, 4)))
	position = s.happen(30)
	s.workOn(log, projections.WorkerOptions{}, p)
	s.until("the list is rebuilt", func() bool { return s.state(p).Active > 1 })
	s.wantVerified(p, position)
}

// lookedAt is a log that is replaced after the first EventAt.
type lookedAt struct {
	replaced
	looked sync.Once
}

func (l *lookedAt) EventAt(ctx context.Context, p eventstore.Position) (uuid.UUID, bool, error) {
	id, found, err := l.replaced.EventAt(ctx, p)
	l.looked.Do(l.replace)
	return id, found, err
}

// ownLog returns a log of its own, whatever server other tests share.
func ownLog(t *testing.T) *eventstoretest.Part {
	t.Helper()
	log, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + eventstoretest.Serve(t, "") + "?tls=false"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return eventstoretest.PartOf(log, func(eventstore.Recorded) bool { return true })
}

// copyTo appends the history so far to another log.
func (s *system) copyTo(to *eventstoretest.Part) {
	s.Helper()
	for _, e := range s.history.Events {
		if _, err := to.Append(s.Context(), e.Stream, e.Revision-1, eventstore.Proposed{Event: e.Event, Metadata: e.Metadata}); err != nil {
			s.Fatal(err)
		}
	}
}

// replaced is a log that can be replaced by another one.
type replaced struct {
	mu     sync.Mutex
	logs   []projections.Log
	broken chan struct{} // closed when subscriptions break
}

func (l *replaced) now() (projections.Log, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.logs[0], l.broken
}

func (l *replaced) replace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logs = l.logs[1:]
	close(l.broken)
	l.broken = make(chan struct{})
}

func (l *replaced) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		log, broken := l.now()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-broken:
				cancel()
			case <-ctx.Done():
			}
		}()
		log.Subscribe(ctx, after, f)(yield)
	}
}

func (l *replaced) End(ctx context.Context) (eventstore.Position, error) {
	log, _ := l.now()
	return log.End(ctx)
}

func (l *replaced) EventAt(ctx context.Context, p eventstore.Position) (uuid.UUID, bool, error) {
	log, _ := l.now()
	return log.EventAt(ctx, p)
}

// cluster is a log with two members. One has everything and answers for the end of the log. The other one serves subscriptions, has events
// up to a position only, and reports to have caught up there, until let is closed.
type cluster struct {
	projections.Log
	upTo eventstore.Position
	let  chan struct{}
}

func (l *cluster) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		said := false
		for batch, err := range l.Log.Subscribe(ctx, after, f) {
			select {
			case <-l.let:
				said = true
			default:
			}
			if err != nil || said {
				if !yield(batch, err) {
					return
				}
				continue
			}
			n := len(batch.Events)
			for n > 0 && batch.Events[n-1].Position > l.upTo {
				n--
			}
			some := eventstore.Batch{Events: batch.Events[:n], Position: min(batch.Position, l.upTo), CaughtUp: batch.CaughtUp || batch.Position > l.upTo}
			some.Position = max(some.Position, after)
			if !yield(some, nil) {
				return
			}
			if !some.CaughtUp {
				continue
			}
			select {
			case <-l.let:
				said = true
			case <-ctx.Done():
				yield(eventstore.Batch{}, ctx.Err())
				return
			}
			if n < len(batch.Events) {
				batch.Events = batch.Events[n:]
				if !yield(batch, nil) {
					return
				}
			}
		}
	}
}

// A cluster member that is behind reports to have caught up. A list that is rebuilt from it does not replace one that is ahead, and a list
// that is built from it is at the member's position.
func testMemberBehind(t *testing.T, s *system) {
	p := bookingList()
	half := s.happen(6)
	all := s.happen(8)
	behind := &cluster{Log: s.log, upTo: half, let: make(chan struct{})}
	workers, _ := s.workOn(behind, projections.WorkerOptions{}, p)
	s.until("the first generation is built", func() bool { return workers.Health()[0].State == projections.Following })
	if g := s.state(p).Generations[0]; g.Position > half {
		t.Errorf("a list that was made from a member at %d says that it is at %d", half, g.Position)
	}
	close(behind.let)
	s.wantVerified(p, all)

	behind = &cluster{Log: s.log, upTo: half, let: make(chan struct{})}
	ended := make(chan error, 1)
	told := make(chan struct{}, 1)
	go func() {
		ended <- projections.NewRebuilder(s.store, behind, projections.RebuilderOptions{}).Rebuild(t.Context(), p, func(projections.Progress) {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	<-told // it has folded what the member has
	s.until("the new generation has that", func() bool {
		state := s.state(p)
		return state.Active != 1 || state.Generations[len(state.Generations)-1].Position == half
	})
	if state := s.state(p); state.Active != 1 {
		t.Errorf("a generation at %d has taken the place of one at %d", half, all)
	}
	close(behind.let)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if active := s.state(p).Active; active != 2 {
		t.Errorf("generation %d is active", active)
	}
	s.wantVerified(p, all)
}

// Verify takes nothing for a difference just because the cluster member is behind: neither what the checkpoint covers nor what a worker has
// written since.
func testVerifyMemberBehind(t *testing.T, s *system) {
	p := bookingList()
	half := s.happen(6)
	_, stop := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, half)
	stop()
	checkpoint := s.state(p).Generations[0].Checkpoint
	all := s.happen(8)
	s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, all)
	rows, err := s.store.Scan(t.Context(), s.state(p).Generations[0].Ref, p.Schema, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	renamed := p
	renamed.Name = "past_" + uuid.NewString()[:8]
	g, err := s.store.Begin(t.Context(), renamed.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint.Longest = 1 << 40
	if err := s.store.Write(t.Context(), g.Ref, p.Schema, rows, checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Activate(t.Context(), renamed.Name, 0, g.Number); err != nil {
		t.Fatal(err)
	}
	for _, p := range []projections.Projection{p, renamed} {
		for _, upTo := range []eventstore.Position{half - 1, half, all - 1} {
			behind := &cluster{Log: s.log, upTo: upTo, let: make(chan struct{})}
			verified := make(chan projections.Verdict, 1)
			go func() {
				verdict, err := projections.Verify(t.Context(), s.store, behind, p)
				if err != nil {
					t.Error(err)
				}
				verified <- verdict
			}()
			time.AfterFunc(20*time.Millisecond, func() { close(behind.let) })
			if verdict := <-verified; verdict.Faults() > 0 {
				t.Errorf("%s, from a member at %d of %d: %v", p.Name, upTo, all, verdict)
			}
		}
	}
}
