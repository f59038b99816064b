package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"roombook/eventstore"
)

// Progress says how far a rebuild is.
type Progress struct {
	Projection string
	Generation int
	// Done and Total are positions: how far the generation is, and where the log ended when that was last asked.
	Done, Total eventstore.Position
	// Events counts the events folded so far, and Undecodable those among them that this program cannot decode and passes over.
	Events, Undecodable int64
	// Elapsed is the time since the rebuild began.
	Elapsed time.Duration
	// Active reports that the rebuilt generation is the one that readers see: the rebuild is over.
	Active bool
}

// Rate is in events a second.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Events) / p.Elapsed.Seconds()
}

// Left estimates the time that is left, by positions.
func (p Progress) Left() time.Duration {
	if p.Done == 0 || p.Done >= p.Total {
		return 0
	}
	return time.Duration(float64(p.Elapsed) * float64(p.Total-p.Done) / float64(p.Done))
}

// RebuilderOptions say how lists are rebuilt.
type RebuilderOptions struct {
	Abandoned time.Duration // see [WorkerOptions]
	Logger    *slog.Logger  // nil discards
}

// Rebuilder makes lists anew.
type Rebuilder struct {
	store   Store
	log     Log
	options RebuilderOptions
}

// NewRebuilder makes a Rebuilder.
func NewRebuilder(store Store, log Log, o RebuilderOptions) *Rebuilder {
	if o.Abandoned == 0 {
		o.Abandoned = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rebuilder{store: store, log: log, options: o}
}

// Rebuild folds the log from its beginning into a new generation, beside the one that readers see and workers keep, and makes it the
// active one once it has everything that the other has. If it fails, or the context ends, the list is as it was. Of two
// rebuilds at once the first to be ready wins; the other fails with ErrFlipped or ErrRetired. Progress, if not
// nil, is called from time to time.
func (r *Rebuilder) Rebuild(ctx context.Context, p Projection, progress func(Progress)) error {
	if _, err := r.sweep(ctx, p.Name); err != nil {
		return fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	if err := r.rebuild(ctx, p, progress); err != nil {
		return fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	_, err := r.sweep(ctx, p.Name)
	return err
}

// dropTime bounds the removal of a generation that did not become active.
const dropTime = 10 * time.Second

func (r *Rebuilder) rebuild(ctx context.Context, p Projection, progress func(Progress)) (err error) {
	state, err := r.store.State(ctx, p.Name)
	if err != nil {
		return err
	}
	if active, ok := state.Generation(state.Active); ok {
		if active.Version > p.Version {
			return errSuperseded
		}
		end, err := r.log.End(ctx)
		if err != nil {
			return err
		}
		if active.Position > end {
			return &AheadOfLog{p.Name, active.Position, end}
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
			r.options.Logger.Warn("an unfinished generation is left behind, to be dropped later", "generation", g.String(), "error", dropErr)
		}
	}()
	if progress == nil {
		progress = func(Progress) {}
	}
	replay := &replay{
		builder:  builder{store: r.store, projection: p, generation: g},
		log:      r.log,
		from:     state.Active,
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

// replay is one rebuild.
type replay struct {
	builder
	log      Log
	from     int // the generation that is to be replaced
	began    time.Time
	end      eventstore.Position // of the log, when last asked
	events   int64
	skipped  int64
	active   bool
	progress func(Progress)
}

// patience is how often in a row the log may fail without any progress.
const patience = 5

func (r *replay) run(ctx context.Context) error {
	failures := 0
	for {
		before := r.generation.Position
		err := r.catchUp(ctx)
		if r.active || ctx.Err() != nil {
			return err
		}
		if r.generation.Position > before {
			failures = 0
		}
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, eventstore.ErrUnavailable) && failures < patience:
			failures++
		default:
			return err
		}
		if err := sleep(ctx, shortestPause<<failures); err != nil {
			return err
		}
	}
}

// still is how long nothing may come before a generation that is behind the active one asks again where the log ends.
const still = 200 * time.Millisecond

// catchUp folds the log up to its end and makes the generation the active one. It returns nil without having done so when
// the active one is ahead by events that are not this projection's: then the end of the log is to be asked for again.
func (r *replay) catchUp(ctx context.Context) (err error) {
	if r.end, err = r.log.End(ctx); err != nil {
		return err
	}
	if r.generation.Position >= r.end {
		if err := r.activate(ctx); err != nil || r.active {
			return err
		}
	}
	events := gather(ctx, r.generation.Position, func(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
		return r.log.Subscribe(ctx, after, r.projection.Filter)
	})
	defer events.stop()
	timer := time.NewTimer(still)
	defer timer.Stop()
	for {
		gathered := events.gathered()
		if gathered.caughtUp {
			gathered.position = max(gathered.position, r.end) // what the log had when it was asked has all come
		}
		switch {
		case gathered.position > r.generation.Position:
			batch := events.take()
			if batch.CaughtUp {
				batch.Position = max(batch.Position, r.end)
			}
			done, err := r.write(ctx, batch)
			if err != nil {
				return err
			}
			r.events += int64(len(batch.Events))
			r.skipped += int64(done.skipped)
			if r.generation.Position >= r.end {
				if err := r.activate(ctx); err != nil || r.active {
					return err
				}
			}
			r.tell()
			timer.Reset(still)
			continue
		case gathered.ended:
			return events.err()
		}
		select {
		case <-events.arrived:
		case <-timer.C:
			if r.generation.Position >= r.end {
				return nil
			}
			timer.Reset(still)
		}
	}
}

// activate makes the generation the active one, unless that has more.
func (r *replay) activate(ctx context.Context) error {
	err := r.store.Activate(ctx, r.generation.Projection, r.from, r.generation.Number)
	if errors.Is(err, ErrNotCaughtUp) {
		return nil
	}
	if err == nil {
		r.active = true
		r.tell()
	}
	return err
}

func (r *replay) tell() {
	r.progress(Progress{
		Projection:  r.generation.Projection,
		Generation:  r.generation.Number,
		Done:        r.generation.Position,
		Total:       max(r.end, r.generation.Position),
		Events:      r.events,
		Undecodable: r.skipped,
		Elapsed:     time.Since(r.began),
		Active:      r.active,
	})
}

// sweep drops the generations that are not the active one and that nobody has written to for long: those that were
// replaced, and what a rebuild left that was killed. It returns the active one.
func (r *Rebuilder) sweep(ctx context.Context, projection string) (active int, err error) {
	state, err := r.store.State(ctx, projection)
	if err != nil {
		return 0, err
	}
	for _, g := range state.Generations {
		if g.Number == state.Active || time.Since(g.Touched) < r.options.Abandoned {
			continue
		}
		if err := r.store.Drop(ctx, g.Ref); err != nil && !errors.Is(err, ErrActive) {
			return 0, err
		}
		r.options.Logger.Info("an old generation was dropped", "generation", g.String())
	}
	return state.Active, nil
}
