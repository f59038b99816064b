package projections

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"roombook/eventstore"
)

// Log is the log of events as projections follow it; see the methods of [eventstore.Store]. In a cluster each call may be answered by
// another member: only what a subscription itself yields says how far it is.
type Log interface {
	Points
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error]
	End(ctx context.Context) (eventstore.Position, error)
}

// Points are the events of the log by their positions. The answer has everything that was ever acknowledged.
type Points interface {
	EventAt(ctx context.Context, position eventstore.Position) (id uuid.UUID, found bool, err error)
}

// WorkerOptions say how lists are kept.
type WorkerOptions struct {
	// Gather is the least time between two writes that nobody waits for: what happens in between is written together, which
	// costs much less. 0 is 100 ms.
	Gather time.Duration
	// Abandoned is how long a worker watches a generation that readers do not see, without anybody writing to it, before it drops it. 0
	// is a minute. It matters for tidiness only: a writer that comes back later is told.
	Abandoned time.Duration
	// Positions connect the workers with the queries of this process.
	Positions *Positions
	Logger    *slog.Logger          // nil discards
	Metrics   prometheus.Registerer // nil registers nowhere
	Tracer    trace.Tracer          // nil traces nothing
}

// newBackOff has the pauses after failures. They are random, so that those who failed together do not try again together.
func newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second}
}

// Workers keep the lists: one worker for each projection, which goes at its own pace, so that one that fails holds up no
// other. What is new they receive together. Any number of processes may keep the same lists.
type Workers struct {
	store     Store
	log       Log
	options   WorkerOptions
	metrics   *metrics
	rebuilder *Rebuilder
	workers   []*worker
	tails     []*tail // one for each filter
}

// NewWorkers makes the workers of some projections. They do nothing before Run.
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
			unkept:     eventstore.NewTrouble(o.Logger.With("projection", p.Name), slog.LevelError, "the list is not kept", "the list is kept again"),
			unrenewed:  eventstore.NewTrouble(o.Logger.With("projection", p.Name), slog.LevelError, "the list could not be rebuilt and is kept as it was", ""),
			health:     Health{Projection: p.Name, State: Starting},
		})
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(ws.metrics, healthCollector{ws})
	}
	return ws
}

// tailOf is the tail that all who follow the same streams share.
func (ws *Workers) tailOf(f eventstore.Filter) *tail {
	for _, t := range ws.tails {
		if slices.Equal(t.filter.StreamPrefixes, f.StreamPrefixes) {
			return t
		}
	}
	t := newTail(ws.log, f)
	ws.tails = append(ws.tails, t)
	return t
}

// Run keeps the lists until the context ends, whatever happens to the stores. What has been received by then is still
// written. Its error is the context's.
func (ws *Workers) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, t := range ws.tails {
		group.Go(func() error { return t.run(ctx) })
	}
	for _, w := range ws.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	return group.Wait()
}

// Health says how each list does.
func (ws *Workers) Health() []Health {
	all := make([]Health, len(ws.workers))
	for i, w := range ws.workers {
		all[i] = w.reported()
	}
	return all
}

// Activity is what a worker is at.
type Activity string

const (
	Starting   Activity = "starting"
	Building   Activity = "building" // makes the first generation: readers see nothing yet
	Following  Activity = "following"
	Failing    Activity = "failing" // tries again, with pauses
	Stopped    Activity = "stopped"
	Superseded Activity = "superseded" // a newer program keeps the list
)

// Health says how a list does.
type Health struct {
	Projection string
	State      Activity
	// Generation is the one that is written, 0 if there is none yet.
	Generation int
	// Position is how far the list is: the position up to which it has all events that are its own, wherever the last of them is.
	Position eventstore.Position
	// CaughtUp reports that the list had everything when it was last written.
	CaughtUp bool
	// Gathered counts the events that have been received and are to be written next.
	Gathered int
	// Behind is how long ago the newest event of the list occurred, while the list has not caught up.
	Behind time.Duration
	// Rebuilding reports that a generation is being made beside the one that readers see.
	Rebuilding bool
	// Error is why the list fails, and Since when it began to.
	Error error
	Since time.Time
}

// worker keeps one list.
type worker struct {
	*Workers
	projection Projection
	tail       *tail
	logger     *slog.Logger

	unkept, unrenewed *eventstore.Trouble

	mu     sync.Mutex
	health Health
	newest time.Time // when the newest event of the list occurred
}

func (w *worker) reported() Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.health
	if !h.CaughtUp && !w.newest.IsZero() {
		h.Behind = time.Since(w.newest)
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
		w.unkept.Failed(err)
		w.report(func(h *Health) {
			h.State, h.Error, h.CaughtUp = Failing, err, false
			if h.Since.IsZero() {
				h.Since = time.Now()
			}
			if errors.Is(err, errSuperseded) {
				h.State = Superseded
			}
		})
		if err := sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// sleep returns early if the context ends, with its error.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// errSuperseded means that the list was made by a newer version of its projection, which alone may write to it.
var errSuperseded = errors.New("a newer version of this program keeps the list")

// keep brings the active generation up to date and keeps it so. Without an active generation, or with one that was made from
// another log, it makes one. It returns nil when another generation has become the active one.
func (w *worker) keep(ctx context.Context) error {
	if _, err := w.rebuilder.sweep(ctx, w.projection.Name); err != nil {
		return err
	}
	state, err := w.store.State(ctx, w.projection.Name)
	if err != nil {
		return err
	}
	g, ok := state.Generation(state.Active)
	if !ok {
		w.options.Positions.begin(w.projection.Name, 0)
		w.report(func(h *Health) { h.State, h.Generation, h.Position, h.CaughtUp = Building, 0, 0, false })
		err := w.rebuilder.rebuild(ctx, w.projection, w.metrics.built)
		if errors.Is(err, ErrFlipped) || errors.Is(err, ErrRetired) {
			return nil // another worker was first
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
		w.logger.Warn("the list is made anew", "because", err)
		w.options.Positions.begin(w.projection.Name, 0)
		return w.store.Discard(ctx, g.Ref)
	case errors.Is(err, errReplaced):
		return nil
	}
	return err
}

// errReplaced ends the work on a generation that is not the active one any more.
var errReplaced = errors.New("another generation is active")

// renew rebuilds the list because a newer version of the projection makes other documents. It returns errReplaced when that
// is done, by whatever worker.
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
		w.unrenewed.Failed(err)
		if err := sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// followAll follows the log by one subscription after the other.
func (w *worker) followAll(ctx context.Context, g Generation) error {
	b := &builder{store: w.store, projection: w.projection, generation: g}
	for {
		after, err := origin(ctx, w.log, b.generation)
		if err != nil {
			return err
		}
		// Less than was known, if another worker has made the list anew from another log.
		w.options.Positions.begin(w.projection.Name, b.generation.Position)
		if err := w.follow(ctx, b, after); !errors.Is(err, errMoved) {
			return err
		}
	}
}

// follow folds what comes after an event into the generation, until another generation is active (errReplaced), the log is to be
// followed in another way (errMoved) or something fails.
func (w *worker) follow(ctx context.Context, b *builder, after Point) error {
	w.report(func(h *Health) {
		if h.Generation != b.generation.Number {
			h.Generation, h.Position = b.generation.Number, 0
		}
		h.Position = max(h.Position, after.Position)
	})
	events := gather(ctx, after.Position, w.tail.follow)
	defer events.stop()
	tidy := time.NewTicker(w.options.Abandoned)
	defer tidy.Stop()
	due := time.NewTimer(w.options.Gather)
	defer due.Stop()

	var written time.Time
	var sameLog bool // since the subscription began
	hint := hint{every: 100 * w.options.Gather}
	for {
		waitedFor, waiting := w.options.Positions.wanted(w.projection.Name)
		gathered := events.gathered()
		if !sameLog && (gathered.position > after.Position || gathered.caughtUp) {
			switch now, err := origin(ctx, w.log, b.generation); {
			case err != nil:
				return err
			case now != after:
				return errMoved
			}
			sameLog = true
		}
		left := w.options.Gather - time.Since(written)
		w.gathered(gathered.events)
		switch {
		case gathered.events > 0 && (waitedFor || gathered.full || gathered.ended || left <= 0):
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
		case <-waiting:
		case <-due.C:
		case <-tidy.C:
			if active, err := w.rebuilder.sweep(ctx, w.projection.Name); err != nil {
				return err
			} else if active != b.generation.Number {
				return errReplaced
			}
		}
	}
}

// hint keeps how far the log has nothing for a list, which spares the next start reading that again.
type hint struct {
	every time.Duration
	asked time.Time
	point Point // to be kept once the subscription has gone on: what the log told then was of the same log
}

// note takes note of how far the subscription is without any more events of the list.
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

// flushTime is what a write may still take after the worker's context has ended.
const flushTime = 3 * time.Second

// outlast is a context that ends some time after its parent.
func outlast(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(by, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}

// write folds a batch and tells who waits for it. ErrRetired becomes errReplaced: the batch is then folded again, into the
// generation that is active now.
func (w *worker) write(ctx context.Context, b *builder, batch eventstore.Batch) error {
	ctx, cancel := outlast(ctx, flushTime)
	defer cancel()
	began := time.Now()
	ctx, span := eventstore.StartBatchSpan(ctx, w.options.Tracer, "fold "+w.projection.Name, batch.Events)
	done, err := b.write(ctx, batch)
	span.End(err)
	if errors.Is(err, ErrRetired) {
		return errReplaced
	}
	if err != nil {
		return err
	}
	w.metrics.wrote(w.projection.Name, len(batch.Events), done, time.Since(began))
	if done.skipped > 0 {
		for _, r := range batch.Events {
			if r.Event == nil {
				w.logger.Warn("an event that this program cannot decode was passed over", "type", r.Type, "stream", r.Stream, "position", r.Position)
			}
		}
	}
	w.mu.Lock()
	w.newest = batch.Events[len(batch.Events)-1].Metadata.OccurredAt
	w.mu.Unlock()
	w.follows(b.generation, gathered{position: batch.Position, caughtUp: batch.CaughtUp})
	w.options.Positions.advance(w.projection.Name, b.generation.Position)
	return nil
}

func (w *worker) gathered(events int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.Gathered = events
}

// follows reports that the list has everything that was received.
func (w *worker) follows(g Generation, received gathered) {
	w.unkept.Over()
	w.report(func(h *Health) {
		h.State, h.Error, h.Since = Following, nil, time.Time{}
		h.Generation, h.Position, h.CaughtUp = g.Number, max(g.Position, received.position), received.caughtUp
	})
}
