package projections

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"roombook/eventstore"
)

// Log is the log of events; see the methods of [eventstore.Store]. In a cluster each call may be answered by a different member, so only
// what a subscription yields says how far that subscription is.
type Log interface {
	Points
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error]
	End(ctx context.Context) (eventstore.Position, error)
}

// Points looks up events of the log by position. It sees every event that was ever acknowledged.
type Points interface {
	EventAt(ctx context.Context, position eventstore.Position) (id uuid.UUID, found bool, err error)
}

// WorkerOptions configure Workers.
type WorkerOptions struct {
	// Gather is the minimum time between two writes while no query waits. Events that arrive in between are written together, which is
	// much cheaper. 0 is 100 ms.
	Gather time.Duration
	// Abandoned is how long an inactive generation must not have been written to before a worker drops it; 0 is a minute. Its writer, if
	// there still is one, gets ErrRetired.
	Abandoned time.Duration
	// Positions connects the workers with the queries of this process.
	Positions *Positions
	Logger    *slog.Logger          // nil discards
	Metrics   prometheus.Registerer // nil registers nowhere
	Tracer    trace.Tracer          // nil traces nothing
}

// newBackOff returns the backoff after failures. It is randomized, so that what failed together does not retry together.
func newBackOff() *backoff.ExponentialBackOff {
	return eventstore.NewBackOff(100*time.Millisecond, 10*time.Second)
}

// Workers keep the lists up to date, with one worker for each projection, so that one that fails or is behind delays no other. Those that
// are not behind share the subscription to new events, and are written together. Any number of processes may keep the same lists.
type Workers struct {
	store     Store
	log       Log
	options   WorkerOptions
	metrics   *metrics
	rebuilder *Rebuilder
	workers   []*worker
	tails     []*tail // one per filter
}

// NewWorkers returns Workers for some projections. They start with Run.
func NewWorkers(store Store, log Log, of []Projection, o WorkerOptions) *Workers {
	if o.Gather == 0 {
		o.Gather = 100 * time.Millisecond
	}
	if o.Abandoned == 0 {
		o.Abandoned = time.Minute
	}
	if o.Positions == nil {
		o.Positions = NewPositions()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ws := &Workers{store: store, log: log, options: o, metrics: newMetrics()}
	ws.rebuilder = NewRebuilder(store, log, RebuilderOptions{Abandoned: o.Abandoned, Logger: o.Logger})
	for _, p := range of {
		ws.workers = append(ws.workers, &worker{
			Workers:    ws,
			projection: p,
			tail:       ws.tailOf(p.Filter),
			logger:     o.Logger.With("projection", p.Name),
			failing:    eventstore.NewTrouble(o.Logger.With("projection", p.Name), slog.LevelError, "the list is not kept", "the list is kept again"),
			unrebuilt:  eventstore.NewTrouble(o.Logger.With("projection", p.Name), slog.LevelError, "the list could not be rebuilt and is kept as it was", ""),
			health:     Health{Projection: p.Name, State: Starting},
		})
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(ws.metrics, healthCollector{ws})
	}
	return ws
}

// tailOf returns the tail that all workers with the same filter share.
func (ws *Workers) tailOf(f eventstore.Filter) *tail {
	for _, t := range ws.tails {
		if t.filter.Equal(f) {
			return t
		}
	}
	t := newTail(ws.log, f)
	ws.tails = append(ws.tails, t)
	return t
}

// Run keeps the lists up to date until the context ends, whatever fails meanwhile. It still writes what it has received by then, and
// returns the context's error.
func (ws *Workers) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, t := range ws.tails {
		group.Go(func() error { return t.run(ctx) })
		group.Go(func() error { return t.keep(ctx, ws.options) })
	}
	for _, w := range ws.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	return group.Wait()
}

// Health returns the health of each list.
func (ws *Workers) Health() []Health {
	all := make([]Health, len(ws.workers))
	for i, w := range ws.workers {
		all[i] = w.reported()
	}
	return all
}

// Activity is the state of a worker.
type Activity string

const (
	Starting   Activity = "starting"
	Building   Activity = "building" // builds the first generation, so there is nothing to read yet
	Following  Activity = "following"
	Failing    Activity = "failing" // retries with backoff
	Stopped    Activity = "stopped"
	Superseded Activity = "superseded" // a newer version of the program keeps the list
)

// Health is the health of a list.
type Health struct {
	Projection string
	State      Activity
	// Generation is the generation being written, 0 if there is none yet.
	Generation int
	// Position is the position in the log up to which the list contains all of its events.
	Position eventstore.Position
	// CaughtUp means that the list contained everything when it was last written.
	CaughtUp bool
	// Gathered is the number of events received but not yet written.
	Gathered int
	// Behind is for how long, at most, the list has lacked events: 0 while it lacks none, or until anything of it is known.
	Behind time.Duration
	// Rebuilding means that a generation is being built beside the active one.
	Rebuilding bool
	// Error says why the list is failing, and Since since when.
	Error error
	Since time.Time
}

// worker keeps a list up to date.
type worker struct {
	*Workers
	projection Projection
	tail       *tail
	logger     *slog.Logger

	failing, unrebuilt *eventstore.Trouble

	mu     sync.Mutex
	health Health
	upTo   time.Time // the list has everything that occurred until then
}

func (w *worker) reported() Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.health
	if (!h.CaughtUp || h.Gathered > 0) && !w.upTo.IsZero() {
		h.Behind = max(0, time.Since(w.upTo))
	}
	return h
}

func (w *worker) report(change func(*Health)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.health)
}

func (w *worker) run(ctx context.Context) error {
	defer w.report(func(h *Health) { h.State = Stopped })
	pauses := newBackOff()
	for {
		before := w.reported().Position
		err := w.keep(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || w.reported().Position > before {
			pauses.Reset()
		}
		if err == nil {
			continue
		}
		w.metrics.failures.WithLabelValues(w.projection.Name).Inc()
		w.failing.Failed(err)
		w.report(func(h *Health) {
			h.State, h.Error, h.CaughtUp = Failing, err, false
			if h.Since.IsZero() {
				h.Since = time.Now()
			}
			if errors.Is(err, errSuperseded) {
				h.State = Superseded
			}
		})
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// errSuperseded means that the list was built by a newer version of the projection, so that this one must not write to it.
var errSuperseded = errors.New("a newer version of this program keeps the list")

// keep keeps the active generation up to date. It builds one if there is none, and discards one that was built from another log. It
// returns nil when another generation has become active.
func (w *worker) keep(ctx context.Context) error {
	defer w.options.Positions.forget(w.projection.Name)
	if _, err := w.rebuilder.sweep(ctx, w.projection.Name); err != nil {
		return err
	}
	state, err := w.store.State(ctx, w.projection.Name)
	if err != nil {
		return err
	}
	g, ok := state.Generation(state.Active)
	if !ok {
		w.options.Positions.reset(w.projection.Name, 0)
		w.report(func(h *Health) { h.State, h.Generation, h.Position, h.CaughtUp = Building, 0, 0, false })
		err := w.rebuilder.rebuild(ctx, w.projection, w.metrics.built)
		if errors.Is(err, ErrFlipped) || errors.Is(err, ErrRetired) {
			return nil // another worker has built one
		}
		return err
	}
	if g.Version > w.projection.Version {
		return errSuperseded
	}
	if err := w.store.Ensure(ctx, g.Ref, w.projection.Schema); err != nil {
		return err
	}

	group, both := errgroup.WithContext(ctx)
	if g.Version < w.projection.Version {
		group.Go(func() error { return w.renew(both, g) })
	}
	group.Go(func() error { return w.followAll(both, g) })
	err = group.Wait()
	var other *OtherLog
	switch {
	case errors.As(err, &other):
		w.logger.Warn("the list is rebuilt", "because", err)
		w.options.Positions.reset(w.projection.Name, 0)
		return w.store.Discard(ctx, g.Ref)
	case errors.Is(err, errReplaced):
		return nil
	}
	return err
}

// errReplaced means that the generation is no longer the active one.
var errReplaced = errors.New("another generation is active")

// renew rebuilds a list that an older version of the projection has built. It returns errReplaced once this or another worker has done
// so.
func (w *worker) renew(ctx context.Context, g Generation) error {
	w.report(func(h *Health) { h.Rebuilding = true })
	defer w.report(func(h *Health) { h.Rebuilding = false })
	w.logger.Info("the list is rebuilt by a newer version of its projection", "version", w.projection.Version, "was", g.Version)
	for pauses := newBackOff(); ; {
		err := w.rebuilder.rebuild(ctx, w.projection, w.metrics.built)
		if err == nil || errors.Is(err, ErrFlipped) || errors.Is(err, ErrRetired) {
			return errReplaced
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.unrebuilt.Failed(err)
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// followAll keeps a generation up to date with one subscription after another.
func (w *worker) followAll(ctx context.Context, g Generation) error {
	b := &builder{store: w.store, projection: w.projection, generation: g}
	for {
		after, err := origin(ctx, w.log, b.generation)
		if err != nil {
			return err
		}
		// It may be less than was known, if another worker has rebuilt the list from another log.
		w.options.Positions.reset(w.projection.Name, b.generation.Position)
		if err := w.follow(ctx, b, after); !errors.Is(err, errResubscribe) {
			return err
		}
	}
}

// lookEvery is how often an idle worker checks that its generation is still the active one. It may be gone, with a damaged file.
const lookEvery = 2 * time.Second

// follow folds what comes after an event into the generation, until another generation is active (errReplaced), another subscription must
// take over (errResubscribe) or something fails. It follows the tail if that reaches back that far.
func (w *worker) follow(ctx context.Context, b *builder, after Point) error {
	w.report(func(h *Health) {
		if h.Generation != b.generation.Number {
			h.Generation, h.Position = b.generation.Number, 0
		}
		h.Position = max(h.Position, after.Position)
	})
	if subscription, reaches := w.tail.reaches(after.Position); reaches {
		return w.followTail(ctx, b, after, subscription)
	}
	events := gather(ctx, after.Position, w.tail.catchUp)
	defer events.stop()
	look := time.NewTicker(min(w.options.Abandoned, lookEvery))
	defer look.Stop()
	due := time.NewTimer(w.options.Gather)
	defer due.Stop()

	var written time.Time
	var sameLog bool // whether the log was checked since the subscription started
	hint := hint{every: 100 * w.options.Gather}
	for {
		wanted, nextWaiter := w.options.Positions.wanted(w.projection.Name)
		gathered := events.gathered()
		if !sameLog && (gathered.position > after.Position || gathered.caughtUp) {
			switch now, err := origin(ctx, w.log, b.generation); {
			case err != nil:
				return err
			case now != after:
				return errResubscribe
			}
			sameLog = true
		}
		left := w.options.Gather - time.Since(written)
		w.gathered(gathered.events)
		switch {
		case gathered.events > 0 && (wanted || gathered.full || gathered.ended || left <= 0):
			if err := w.write(ctx, b, events.take()); err != nil {
				return err
			}
			written = time.Now()
			continue
		case gathered.ended:
			return events.err()
		case gathered.events > 0:
			due.Reset(left)
		case sameLog:
			w.follows(b.generation, gathered)
			if err := hint.note(ctx, w, b, gathered.position); err != nil {
				return err
			}
		}
		select {
		case <-events.arrived:
		case <-nextWaiter:
		case <-due.C:
		case <-look.C:
			if err := w.look(ctx, b); err != nil {
				return err
			}
		}
	}
}

// look returns errReplaced if another generation than the builder's is active.
func (w *worker) look(ctx context.Context, b *builder) error {
	active, err := w.rebuilder.sweep(ctx, w.projection.Name)
	if err == nil && active != b.generation.Number {
		return errReplaced
	}
	return err
}

// hint stores up to where the log has no further events of a list, so that the next start need not read that part again.
type hint struct {
	every time.Duration
	asked time.Time
	point Point // is stored once the subscription has advanced, which proves that it was looked up in the same log
}

// note notes how far the subscription has advanced past the last event of the list.
func (h *hint) note(ctx context.Context, w *worker, b *builder, position eventstore.Position) error {
	if position <= max(b.generation.Position, b.generation.Considered.Position, h.point.Position) {
		return nil
	}
	if h.point.Position > b.generation.Position {
		next := b.generation.Checkpoint
		next.Considered = h.point
		err := w.store.Write(ctx, b.generation.Ref, w.projection.Schema, nil, next)
		switch {
		case errors.Is(err, ErrRetired):
			return errReplaced
		case err != nil:
			return err
		}
		b.generation.Checkpoint = next
	}
	h.point = Point{}
	if time.Since(h.asked) < h.every {
		return nil
	}
	h.asked = time.Now()
	id, found, err := w.log.EventAt(ctx, position)
	if found {
		h.point = Point{position, id}
	}
	return err
}

// flushTime is the time that a write may take after the worker's context has ended.
const flushTime = 3 * time.Second

// outlast returns a context that ends some time after its parent.
func outlast(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(by, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}

// write folds and writes a batch and wakes the queries that wait for it. It returns errReplaced if the generation is retired; the batch
// is then folded into the active one.
func (w *worker) write(ctx context.Context, b *builder, batch eventstore.Batch) error {
	ctx, cancel := outlast(ctx, flushTime)
	defer cancel()
	f := w.fold(ctx, b, batch)
	if f.err != nil {
		return f.end(f.err)
	}
	return f.end(w.store.Write(ctx, f.update.Ref, f.update.Schema, f.update.Rows, f.update.Checkpoint))
}

// folding is a batch that has been folded and is to be written.
type folding struct {
	*worker
	builder *builder
	batch   eventstore.Batch
	began   time.Time
	span    eventstore.Span
	update  Update
	folded  folded
	err     error // why it cannot be written
}

func (w *worker) fold(ctx context.Context, b *builder, batch eventstore.Batch) *folding {
	f := &folding{worker: w, builder: b, batch: batch, began: time.Now()}
	ctx, f.span = eventstore.StartBatchSpan(ctx, w.options.Tracer, "fold "+w.projection.Name, batch.Events)
	f.update, f.folded, f.err = b.fold(ctx, batch)
	return f
}

// end takes note that the batch was written, or why it was not, and returns what write does.
func (f *folding) end(err error) error {
	f.span.End(err)
	if errors.Is(err, ErrRetired) {
		return errReplaced
	}
	if err != nil {
		return err
	}
	f.builder.generation.Checkpoint = f.update.Checkpoint
	f.metrics.wrote(f.projection.Name, len(f.batch.Events), f.folded, time.Since(f.began))
	if f.folded.skipped > 0 {
		for _, r := range f.batch.Events {
			if r.Event == nil {
				f.logger.Warn("an event that this program cannot decode was passed over", "type", r.Type, "stream", r.Stream, "position", r.Position)
			}
		}
	}
	f.has(f.batch.Events[len(f.batch.Events)-1].Metadata.OccurredAt)
	f.follows(f.builder.generation, gathered{position: f.batch.Position, caughtUp: f.batch.CaughtUp})
	f.options.Positions.advance(f.builder.generation)
	return nil
}

func (w *worker) gathered(events int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.Gathered = events
}

// has notes that the list has everything that occurred until then.
func (w *worker) has(upTo time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if upTo.After(w.upTo) {
		w.upTo = upTo
	}
}

// follows reports that the list contains everything received.
func (w *worker) follows(g Generation, received gathered) {
	w.failing.Over()
	if received.caughtUp {
		w.has(time.Now())
	}
	w.report(func(h *Health) {
		h.State, h.Error, h.Since = Following, nil, time.Time{}
		h.Generation, h.Position, h.CaughtUp = g.Number, max(g.Position, received.position), received.caughtUp
	})
}
