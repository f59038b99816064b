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
	// ByOther reports that it was rebuilt by somebody else at the same time, who was ready first.
	ByOther bool
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

	mu      sync.Mutex
	watched map[Ref]watched
}

// NewRebuilder makes a Rebuilder. Goroutines may share it.
func NewRebuilder(store Store, log Log, o RebuilderOptions) *Rebuilder {
	if o.Abandoned == 0 {
		o.Abandoned = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rebuilder{store: store, log: log, options: o, watched: map[Ref]watched{}}
}

// Rebuild folds the log from its beginning into a new generation, beside the one that readers see and workers keep, and makes it the
// active one once it has everything that the other has. If it fails, or the context ends, the list is as it was; but one that was
// made from another log is removed first. Of several rebuilds at once the first to be ready wins, and is what the others return as their
// own, see [Progress.ByOther]. Progress, if not nil, is called from time to time.
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
		if g.Number < before.Active { // replaced, and everybody has had a whole rebuild's time to notice
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

// dropTime bounds the removal of a generation that did not become active.
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
			r.options.Logger.Warn("the list is made anew", "because", err)
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
			r.options.Logger.Warn("an unfinished generation is left behind, to be dropped later", "generation", g.String(), "error", dropErr)
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

// replay is one rebuild.
type replay struct {
	builder
	log      Log
	from     int // the generation that is to be replaced
	began    time.Time
	end      eventstore.Position // of the log, when last asked, to tell how far it is
	events   int64
	skipped  int64
	active   bool
	progress func(Progress)
}

// patience is how often in a row the log may fail without any progress.
const patience = 6

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
		if !errors.Is(err, eventstore.ErrUnavailable) || failures == patience {
			return err
		}
		failures++
		if err := sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// catchUp follows the log until the generation has everything that the active one has and has taken its place. How far it is, the
// subscription alone says: a member of a cluster that is asked for the end of the log may be ahead of the one that is followed.
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
	sameLog := false // since the subscription began
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
			r.tell()
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

// activate makes the generation the active one, unless that has more, which is then still to come.
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

// sweep drops the generations that are not the active one and that nobody writes to: those that were replaced, and what a rebuild
// left that was killed. Whether somebody writes it finds out by watching, from one sweep to another, and by its own clock alone. It
// returns the active one.
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

// watched is a generation as it was seen, and since when it is so.
type watched struct {
	writes int64
	since  time.Time
}

// abandoned reports whether a generation has been seen, for long enough, not to be written to.
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
