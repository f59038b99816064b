package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"roombook/eventstore"
)

// Progress is the progress of a rebuild.
type Progress struct {
	Projection string
	Generation int
	// Done and Total are the positions that the generation has reached and at which the log ended when last asked.
	Done, Total eventstore.Position
	// Events is the number of events folded so far, Undecodable the number of those that this program cannot decode and skipped.
	Events, Undecodable int64
	// Elapsed is the time since the start.
	Elapsed time.Duration
	// Active means that the new generation is the active one and the rebuild is complete.
	Active bool
	// ByOther means that a concurrent rebuild was completed first and is the result.
	ByOther bool
}

// Rate is the number of events per second.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Events) / p.Elapsed.Seconds()
}

// Left estimates the remaining time from the positions.
func (p Progress) Left() time.Duration {
	if p.Done == 0 || p.Done >= p.Total {
		return 0
	}
	return time.Duration(float64(p.Elapsed) * float64(p.Total-p.Done) / float64(p.Done))
}

// RebuilderOptions configure a Rebuilder.
type RebuilderOptions struct {
	Abandoned time.Duration // see [WorkerOptions]
	Logger    *slog.Logger  // nil discards
}

// Rebuilder rebuilds lists. It may be used concurrently.
type Rebuilder struct {
	store   Store
	log     Log
	options RebuilderOptions

	mu      sync.Mutex
	watched map[Ref]watched
}

// NewRebuilder returns a Rebuilder of lists in a store.
func NewRebuilder(store Store, log Log, o RebuilderOptions) *Rebuilder {
	if o.Abandoned == 0 {
		o.Abandoned = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rebuilder{store: store, log: log, options: o, watched: map[Ref]watched{}}
}

// Rebuild folds the log from its beginning into a new generation, beside the active one, and activates it once it contains everything that
// the active one does. If it fails or the context ends, the list is unchanged, except that a generation that was built from another log
// is discarded first. Of concurrent rebuilds the first one to finish wins, and the others return its result as their own, see
// [Progress.ByOther]. It calls progress, if not nil, from time to time.
func (r *Rebuilder) Rebuild(ctx context.Context, p Projection, progress func(Progress)) error {
	if err := r.rebuildOrJoin(ctx, p, progress); err != nil {
		return fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	return nil
}

func (r *Rebuilder) rebuildOrJoin(ctx context.Context, p Projection, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	before, err := r.store.State(ctx, p.Name)
	if err != nil {
		return err
	}
	for _, g := range before.Generations {
		if g.Number < before.Active { // replaced since before the last rebuild, which is time enough for everyone to notice
			if err := r.drop(ctx, g); err != nil {
				return err
			}
		}
	}
	for {
		err := r.rebuild(ctx, p, progress)
		if !errors.Is(err, ErrFlipped) && !errors.Is(err, ErrRetired) {
			return err
		}
		now, err := r.store.State(ctx, p.Name)
		if err != nil {
			return err
		}
		if g, ok := now.Generation(now.Active); ok && g.Number != before.Active && g.Version >= p.Version {
			progress(Progress{Projection: p.Name, Generation: g.Number, Done: g.Position, Total: g.Position, Active: true, ByOther: true})
			return nil
		}
	}
}

// dropTime limits the removal of a generation that did not become active.
const dropTime = 10 * time.Second

func (r *Rebuilder) rebuild(ctx context.Context, p Projection, progress func(Progress)) (err error) {
	state, err := r.store.State(ctx, p.Name)
	if err != nil {
		return err
	}
	from := state.Active
	if active, ok := state.Generation(from); ok {
		if active.Version > p.Version {
			return errSuperseded
		}
		_, err := origin(ctx, r.log, active)
		var other *OtherLog
		switch {
		case errors.As(err, &other):
			r.options.Logger.Warn("the list is rebuilt", "because", err)
			if err := r.store.Discard(ctx, active.Ref); err != nil {
				return err
			}
			from = 0
		case err != nil:
			return err
		}
	}
	g, err := r.store.Begin(ctx, p.Name, p.Version, p.Schema)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
		defer cancel()
		if dropErr := r.store.Drop(ctx, g.Ref); dropErr != nil && !errors.Is(dropErr, ErrActive) {
			err = errors.Join(err, fmt.Errorf("its new generation is left behind, to be dropped later: %w", dropErr))
		}
	}()
	replay := &replay{
		builder:  builder{store: r.store, projection: p, generation: g},
		log:      r.log,
		from:     from,
		began:    time.Now(),
		progress: progress,
	}
	if err := replay.run(ctx); err != nil {
		return err
	}
	if replay.skipped > 0 {
		r.options.Logger.Warn("events that this program cannot decode were passed over: does a newer version write to the log?", "generation", g.String(), "events", replay.skipped)
	}
	return nil
}

// replay is a rebuild in progress.
type replay struct {
	builder
	log      Log
	from     int // the generation to replace
	began    time.Time
	end      eventstore.Position // where the log ended when last asked
	events   int64
	skipped  int64
	active   bool
	progress func(Progress)
}

// maxFailures is the number of times that the log may fail in a row without progress.
const maxFailures = 6

func (r *replay) run(ctx context.Context) error {
	failures, pauses := 0, newBackOff()
	for {
		before := r.generation.Position
		err := r.catchUp(ctx)
		if r.active || ctx.Err() != nil {
			return err
		}
		if r.generation.Position > before {
			failures = 0
			pauses.Reset()
		}
		if !errors.Is(err, eventstore.ErrUnavailable) || failures == maxFailures {
			return err
		}
		failures++
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// catchUp follows the log until the generation contains everything that the active one does and has replaced it. Only the subscription
// says how far it is: the end of the log may come from a cluster member that is ahead of the one that serves the subscription.
func (r *replay) catchUp(ctx context.Context) (err error) {
	if _, err := origin(ctx, r.log, r.generation); err != nil {
		return err
	}
	if r.end, err = r.log.End(ctx); err != nil {
		return err
	}
	events := gather(ctx, r.generation.Position, func(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
		return r.log.Subscribe(ctx, after, r.projection.Filter)
	})
	defer events.stop()
	sameLog := false // whether the log was checked since the subscription started
	for {
		gathered := events.gathered()
		if !sameLog && (gathered.events > 0 || gathered.caughtUp) {
			if _, err := origin(ctx, r.log, r.generation); err != nil {
				return err
			}
			sameLog = true
		}
		switch {
		case gathered.events > 0:
			batch := events.take()
			done, err := r.write(ctx, batch)
			if err != nil {
				return err
			}
			r.events += int64(len(batch.Events))
			r.skipped += int64(done.skipped)
			r.report()
			continue
		case gathered.caughtUp:
			if err := r.activate(ctx); err != nil || r.active {
				return err
			}
		}
		if gathered.ended {
			return events.err()
		}
		select {
		case <-events.arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// activate activates the generation, unless the active one is still ahead of it.
func (r *replay) activate(ctx context.Context) error {
	err := r.store.Activate(ctx, r.generation.Projection, r.from, r.generation.Number)
	if errors.Is(err, ErrNotCaughtUp) {
		// The last event of the active one is yet to arrive. It never will if a backup of the log has been restored meanwhile.
		state, err := r.store.State(ctx, r.generation.Projection)
		if active, ok := state.Generation(r.from); ok && err == nil {
			_, err = origin(ctx, r.log, active)
		}
		return err
	}
	if err == nil {
		r.active = true
		r.report()
	}
	return err
}

func (r *replay) report() {
	total := max(r.end, r.generation.Position)
	if r.active {
		total = r.generation.Position
	}
	r.progress(Progress{
		Projection:  r.generation.Projection,
		Generation:  r.generation.Number,
		Done:        r.generation.Position,
		Total:       total,
		Events:      r.events,
		Undecodable: r.skipped,
		Elapsed:     time.Since(r.began),
		Active:      r.active,
	})
}

// sweep drops generations that are neither active nor written to any more: replaced ones, and the remains of rebuilds that were killed.
// It observes from sweep to sweep whether they are written to, which depends on no clock but its own. It returns the active generation.
func (r *Rebuilder) sweep(ctx context.Context, projection string) (active int, err error) {
	state, err := r.store.State(ctx, projection)
	if err != nil {
		return 0, err
	}
	for _, g := range state.Generations {
		if g.Number == state.Active || !r.abandoned(g) {
			continue
		}
		if err := r.drop(ctx, g); err != nil {
			return 0, err
		}
	}
	return state.Active, nil
}

func (r *Rebuilder) drop(ctx context.Context, g Generation) error {
	if err := r.store.Drop(ctx, g.Ref); err != nil {
		if errors.Is(err, ErrActive) {
			return nil
		}
		return err
	}
	r.options.Logger.Info("an old generation was dropped", "generation", g.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watched, g.Ref)
	return nil
}

// watched says since when a generation has had a number of writes.
type watched struct {
	writes int64
	since  time.Time
}

// abandoned reports whether a generation has not been written to for long enough.
func (r *Rebuilder) abandoned(g Generation) bool {
	if g.Dropped {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.watched[g.Ref]
	if !ok || seen.writes != g.Writes {
		r.watched[g.Ref] = watched{g.Writes, time.Now()}
		return false
	}
	return time.Since(seen.since) >= r.options.Abandoned
}
