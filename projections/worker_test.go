package projections_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/storetest"
)

// run runs workers until the test ends or stop is called.
func run(t *testing.T, workers *projections.Workers) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- workers.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the workers ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// patience is how long tests wait for something that must happen.
const patience = 2 * time.Minute

func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out before %s", what)
		}
	}
}

func history(seed uint64) *storetest.History {
	return storetest.NewHistory(rand.New(rand.NewPCG(seed, 0)))
}

// happen appends some steps of a history and returns the position of the last event.
func happen(t *testing.T, log *eventstore.Store, h *storetest.History, steps int) (position eventstore.Position) {
	t.Helper()
	for range steps {
		stream, expected, events := h.Step()
		appended, err := log.Append(t.Context(), stream, expected, events...)
		if err != nil {
			t.Fatal(err)
		}
		position = appended.Position
	}
	return position
}

func all(workers *projections.Workers, so func(projections.Health) bool) bool {
	return !slices.ContainsFunc(workers.Health(), func(h projections.Health) bool { return !so(h) })
}

// Workers report an outage of the event store and its end, and continue.
func TestEventStoreOutage(t *testing.T) {
	network := eventstoretest.Node(t)
	log := network.Open(t, eventstore.Options{Timeout: 500 * time.Millisecond})
	store := openSQLite(t)
	h := history(5)
	before := happen(t, log, h, 5)
	metrics := prometheus.NewRegistry()
	var logged lines
	workers := projections.NewWorkers(store, log, projections.All(), projections.WorkerOptions{
		Gather: time.Nanosecond, Metrics: metrics, Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	run(t, workers)
	until(t, "all have caught up", func() bool {
		return all(workers, func(h projections.Health) bool { return h.State == projections.Following && h.Position >= before })
	})

	network.Stop()
	until(t, "all fail", func() bool {
		return all(workers, func(h projections.Health) bool {
			return h.State == projections.Failing && errors.Is(h.Error, eventstore.ErrUnavailable) && !h.CaughtUp && !h.Since.IsZero()
		})
	})
	if page, err := projections.NewQueries(store, projections.QueryOptions{}).BookingLists(t.Context(), projections.Query{}); err != nil || page.Position < before {
		t.Errorf("during the outage the list answers %+v, %v", page, err)
	}

	until(t, "all have failed again", func() bool {
		return !slices.ContainsFunc(projections.All(), func(p projections.Projection) bool {
			return metric(t, metrics, "roombook_projection_failures_total", p.Name) < 2
		})
	})
	if n := logged.count(`msg="the list is not kept"`); n != len(projections.All()) {
		t.Errorf("%d lines in the log for %d lists", n, len(projections.All()))
	}

	network.Start()
	patient := network.Open(t, eventstore.Options{Timeout: time.Minute})
	after := happen(t, patient, h, 5)
	until(t, "all have caught up again", func() bool {
		return all(workers, func(h projections.Health) bool {
			return h.State == projections.Following && h.Position >= after && h.Error == nil && h.Since.IsZero()
		})
	})
	for _, p := range projections.All() {
		if verdict, err := projections.Verify(t.Context(), store, patient, p); err != nil || verdict.Faults() > 0 {
			t.Errorf("%+v, %v", verdict, err)
		}
	}
	for _, p := range projections.All() {
		if got := metric(t, metrics, "roombook_projection_failures_total", p.Name); got < 1 {
			t.Errorf("%s has counted %v failures", p.Name, got)
		}
		until(t, p.Name+" is shown as following", func() bool { return metric(t, metrics, "roombook_projection_following", p.Name) == 1 })
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count returns the number of lines that contain a text.
func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// Events that cannot be decoded are counted and skipped.
func TestUndecodableEvents(t *testing.T) {
	network := eventstoretest.Node(t)
	log, store, metrics := network.Open(t, eventstore.Options{}), openSQLite(t), prometheus.NewRegistry()
	p, _ := projections.Named(projections.BookingListName)
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond, Metrics: metrics})
	run(t, workers)
	h := history(6)
	happen(t, log, h, 2)
	until(t, "the list is kept", func() bool { return workers.Health()[0].State == projections.Following })
	for eventType, data := range map[string]string{"BookingTeleported": `{}`, "BookingCreated": `{"bookingId":`} {
		eventstoretest.AppendRaw(t, network.ConnectionString(), "booking-"+uuid.NewString(), eventType, data, "")
	}
	position := happen(t, log, h, 2)
	until(t, "the list goes on", func() bool { return workers.Health()[0].Position >= position })
	if verdict, err := projections.Verify(t.Context(), store, log, p); err != nil || verdict.Faults() > 0 {
		t.Errorf("%+v, %v", verdict, err)
	}
	followed := metric(t, metrics, "roombook_projection_undecodable_events_total", p.Name)
	if followed < 2 {
		t.Errorf("%v events were counted", followed)
	}

	// This also holds while a list is built, whether by a Rebuilder or by a worker that finds none.
	var last projections.Progress
	if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, func(now projections.Progress) { last = now }); err != nil {
		t.Fatal(err)
	}
	if last.Undecodable < 2 {
		t.Errorf("a rebuild has counted %d", last.Undecodable)
	}
	metrics = prometheus.NewRegistry()
	building := projections.NewWorkers(openSQLite(t), log, []projections.Projection{p}, projections.WorkerOptions{Metrics: metrics})
	run(t, building)
	until(t, "the new list is kept", func() bool { return building.Health()[0].State == projections.Following })
	if built := metric(t, metrics, "roombook_projection_undecodable_events_total", p.Name); built < 2 {
		t.Errorf("%v events were counted while the list was built", built)
	}
}

// metric returns the value of a projection's counter or gauge.
func metric(t *testing.T, gatherer prometheus.Gatherer, name, projection string) float64 {
	t.Helper()
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == projection {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s of %s", name, projection)
	return 0
}

// The checkpoint advances past events of other streams, so that they are not read again after a restart.
func TestCheckpointWithoutEvents(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond})
	run(t, workers)
	position := happen(t, log, history(7), 1)
	until(t, "the list has the booking", func() bool { return workers.Health()[0].Position >= position })
	stream := "calendar-" + uuid.NewString()
	until(t, "the checkpoint moves", func() bool {
		for i := range 100 {
			_, err := log.Append(t.Context(), stream, eventstore.Any, eventstore.Proposed{Event: domain.SlotReleased{ReservationID: domain.ReservationID(fmt.Sprint(i))}})
			if err != nil {
				t.Fatal(err)
			}
		}
		state, err := store.State(t.Context(), p.Name)
		return err == nil && state.Generations[0].Considered.Position > position
	})
}

// stuck is a store whose writes of documents end when they are released, and then fail.
type stuck struct {
	projections.Store
	release           atomic.Pointer[chan struct{}]
	together, failing atomic.Int32 // how many writes were of lists together, and how many begun that fail
}

func (s *stuck) Write(ctx context.Context, g projections.Ref, schema projections.Schema, rows []projections.Row, at projections.Checkpoint) error {
	if release := s.release.Load(); release != nil && len(rows) > 0 {
		s.failing.Add(1)
		select {
		case <-*release:
		case <-ctx.Done():
		}
		return errStuck
	}
	return s.Store.Write(ctx, g, schema, rows, at)
}

func (s *stuck) WriteAll(ctx context.Context, all []projections.Update) (errs []error) {
	s.together.Add(1)
	for _, u := range all {
		errs = append(errs, s.Write(ctx, u.Ref, u.Schema, u.Rows, u.Checkpoint))
	}
	return errs
}

var errStuck = errors.New("the write is stuck")

// How far a list is behind is for how long it has lacked events, not how old its newest event is: while a write takes long, and while writing
// fails. Of a list that was never written that is not known, and not shown as 0.
func TestHowFarAListIsBehind(t *testing.T) {
	log, metrics := eventstoretest.Open(t), prometheus.NewRegistry()
	store := &stuck{Store: openSQLite(t)}
	p, _ := projections.Named(projections.BookingListName)
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond, Metrics: metrics})
	run(t, workers)
	h := history(11) // whose events occurred long ago
	position := happen(t, log, h, 3)
	until(t, "the list is kept", func() bool {
		h := workers.Health()[0]
		return h.Position >= position && h.CaughtUp && h.Behind == 0
	})
	until(t, "a list that lacks nothing is shown as not behind", func() bool { return metric(t, metrics, "roombook_projection_lag_seconds", p.Name) == 0 })
	release := make(chan struct{})
	store.release.Store(&release)
	happen(t, log, h, 1)
	behind := func(state projections.Activity) func() bool {
		return func() bool {
			h := workers.Health()[0]
			if h.Behind > time.Hour {
				t.Fatalf("it is %s, and %s behind", h.State, h.Behind)
			}
			return h.State == state && h.Behind > 0
		}
	}
	until(t, "a write takes long", behind(projections.Following))
	close(release)
	until(t, "writes fail", behind(projections.Failing))

	unknown := prometheus.NewRegistry()
	began := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond, Metrics: unknown})
	run(t, began)
	until(t, "writes fail from the start", func() bool { return began.Health()[0].State == projections.Failing })
	families, err := unknown.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "roombook_projection_lag_seconds" {
			t.Errorf("it is shown as %v behind", f)
		}
	}
}

// together is a store that counts how often it writes to so many lists at once, and in which one list can fail.
type together struct {
	projections.Store
	fails atomic.Bool

	mu     sync.Mutex
	writes map[int]int
}

func (s *together) count(lists int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes[lists]++
}

// taken returns the numbers since they were last taken.
func (s *together) taken() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := s.writes
	s.writes = map[int]int{}
	return writes
}

func (s *together) Write(ctx context.Context, g projections.Ref, schema projections.Schema, rows []projections.Row, at projections.Checkpoint) error {
	if s.fails.Load() && g.Projection == projections.BookingListName {
		return errStuck
	}
	s.count(1)
	return s.Store.Write(ctx, g, schema, rows, at)
}

func (s *together) WriteAll(ctx context.Context, all []projections.Update) []error {
	s.count(len(all))
	errs := make([]error, len(all))
	if !s.fails.Load() {
		return s.Store.WriteAll(ctx, all)
	}
	for i, u := range all {
		if errs[i] = errStuck; u.Projection != projections.BookingListName {
			errs[i] = s.Store.Write(ctx, u.Ref, u.Schema, u.Rows, u.Checkpoint)
		}
	}
	return errs
}

// Lists that have caught up are written together. One that cannot be written is left to itself, delays no other, and comes back. If a query
// waits, only its list is written, and those that have nothing to write but their checkpoints.
func TestListsAreWrittenTogether(t *testing.T) {
	log, store, h := eventstoretest.Open(t), &together{Store: openSQLite(t), writes: map[int]int{}}, history(16)
	positions := projections.NewPositions()
	queries := projections.NewQueries(store, projections.QueryOptions{ReadWait: time.Hour, Positions: positions})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bookings := func(at eventstore.Position) error {
		_, err := queries.BookingLists(ctx, projections.Query{MinPosition: at})
		return err
	}
	uses := func(at eventstore.Position) error {
		_, err := queries.RoomUseLists(ctx, projections.Query{MinPosition: at})
		return err
	}
	rooms := func(at eventstore.Position) error {
		_, err := queries.Directory(ctx, at)
		return err
	}
	// written lets something happen, asks for it, and reports whether all writes were to so many lists.
	written := func(lists int, ask ...func(eventstore.Position) error) func() bool {
		return func() bool {
			store.taken()
			position := happen(t, log, h, 1)
			for _, list := range ask {
				if err := list(position); err != nil {
					t.Fatal(err)
				}
			}
			writes := store.taken()
			return len(writes) == 1 && writes[lists] > 0
		}
	}
	all := len(projections.All())
	workers := projections.NewWorkers(store, log, projections.All(), projections.WorkerOptions{Gather: time.Nanosecond, Positions: positions})
	stop := run(t, workers)
	until(t, "all are written together", written(all, bookings))
	store.fails.Store(true)
	until(t, "the others are written without one that fails", written(all-1, uses))
	if h := workers.Health()[0]; !errors.Is(h.Error, errStuck) {
		t.Errorf("the list that fails is said to be %+v", h)
	}
	store.fails.Store(false)
	until(t, "all are written together again", written(all, bookings))
	stop()

	run(t, projections.NewWorkers(store, log, projections.All(), projections.WorkerOptions{Gather: time.Hour, Positions: positions}))
	until(t, "the list that a query waits for is written with that of rooms", written(2, bookings, rooms))
	for _, p := range projections.All() {
		if verdict, err := projections.Verify(t.Context(), store, log, p); err != nil || verdict.Faults() > 0 {
			t.Errorf("%+v, %v", verdict, err)
		}
	}
}

// between is a log in which something happens once, while the first of the lists that follow it is seen to lack nothing, and the next are not
// yet.
type between struct {
	projections.Log
	happens  func() eventstore.Position
	armed    atomic.Bool
	received atomic.Int64 // up to where the subscriptions have
	position atomic.Int64 // of what happened; 0 before
}

func (l *between) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range l.Log.Subscribe(ctx, after, f) {
			if !yield(batch, err) {
				return
			}
			l.received.Store(int64(batch.Position))
		}
	}
}

func (l *between) EventAt(ctx context.Context, p eventstore.Position) (uuid.UUID, bool, error) {
	if l.armed.CompareAndSwap(true, false) {
		position := int64(l.happens())
		for l.received.Load() < position && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		l.position.Store(position)
	}
	return l.Log.EventAt(ctx, p)
}

// Every list gets an event that arrives while it is looked which of them lack one.
func TestAnEventBetweenTwoLists(t *testing.T) {
	store, h := eventstoretest.Open(t), history(17)
	log := &between{Log: store, happens: func() eventstore.Position { return happen(t, store, h, 1) }}
	workers := projections.NewWorkers(openSQLite(t), log, projections.All(), projections.WorkerOptions{Gather: time.Nanosecond})
	run(t, workers)
	position := happen(t, store, h, 3)
	has := func(h projections.Health) bool { return h.Position >= position && h.CaughtUp }
	until(t, "all have caught up", func() bool { return all(workers, has) })
	log.armed.Store(true)
	until(t, "a list looks up how far the log is", func() bool {
		others := make([]eventstore.Proposed, 100)
		for i := range others {
			others[i].Event = domain.SlotReleased{}
		}
		if _, err := store.Append(t.Context(), "calendar-"+uuid.NewString(), eventstore.NoStream, others...); err != nil {
			t.Fatal(err)
		}
		return !log.armed.Load()
	})
	until(t, "all have what happened meanwhile", func() bool {
		position = eventstore.Position(log.position.Load())
		return position > 0 && all(workers, has)
	})
}

// A worker that stops writes what it has received.
func TestStopWritesWhatWasGathered(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Hour})
	stop := run(t, workers)
	h := history(8)
	until(t, "something was written", func() bool {
		happen(t, log, h, 1)
		return workers.Health()[0].Position > 0
	})
	before := workers.Health()[0].Position
	until(t, "something waits to be written", func() bool {
		happen(t, log, h, 1)
		return workers.Health()[0].Gathered > 0
	})
	stop()
	state, err := store.State(t.Context(), p.Name)
	if err != nil {
		t.Fatal(err)
	}
	if at := state.Generations[0].Position; at <= before {
		t.Errorf("the list was at %d before the stop, and is at %d", before, at)
	}
	if h := workers.Health()[0]; h.State != projections.Stopped || h.Position != state.Generations[0].Position {
		t.Errorf("after the stop the health is %+v", h)
	}
	if verdict, err := projections.Verify(t.Context(), store, log, p); err != nil || verdict.Faults() > 0 {
		t.Errorf("%+v, %v", verdict, err)
	}
}

// A worker that stops while a write takes long waits for it once: if it fails, it is not repeated.
func TestStopWaitsForAWriteOnce(t *testing.T) {
	log, store, h := eventstoretest.Open(t), &stuck{Store: openSQLite(t)}, history(18)
	p, _ := projections.Named(projections.BookingListName)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond})
	var running sync.WaitGroup
	running.Go(func() { _ = workers.Run(ctx) })
	until(t, "the list follows the tail", func() bool {
		position := happen(t, log, h, 1)
		until(t, "the list is kept", func() bool { return workers.Health()[0].Position >= position })
		return store.together.Load() > 0
	})
	release := make(chan struct{})
	store.release.Store(&release)
	until(t, "a write is stuck", func() bool {
		happen(t, log, h, 1)
		return store.failing.Load() > 0
	})
	cancel()
	close(release)
	running.Wait()
	if writes := store.failing.Load(); writes != 1 {
		t.Errorf("what could not be written was written %d times", writes)
	}
}

// A list that is gone, as with a file that was damaged, is made anew though nothing happens in the log.
func TestAListThatIsGoneIsMadeAnew(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond})
	run(t, workers)
	position := happen(t, log, history(9), 3)
	until(t, "the list is kept", func() bool { return workers.Health()[0].Position >= position })
	state, err := store.State(t.Context(), p.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Discard(t.Context(), state.Generations[0].Ref); err != nil {
		t.Fatal(err)
	}
	until(t, "the list is made anew", func() bool {
		_, err := projections.NewQueries(store, projections.QueryOptions{}).BookingLists(t.Context(), projections.Query{})
		return err == nil
	})
}
