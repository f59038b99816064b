package projections

import (
	"context"
	"iter"

	"roombook/eventstore"
)

// Fold is fold.
func (p Projection) Fold(ctx context.Context, load func(context.Context, []string) ([]Row, error), events []eventstore.Recorded) (rows []Row, longest int64, err error) {
	done, err := p.fold(ctx, load, events)
	return done.rows, done.longest, err
}

// Tail is a tail.
type Tail struct{ *tail }

// TailEvents is tailEvents.
const TailEvents = tailEvents

// NewTail is newTail.
func NewTail(log Log, f eventstore.Filter) Tail { return Tail{newTail(log, f)} }

// Run is run.
func (t Tail) Run(ctx context.Context) error { return t.run(ctx) }

// Follow yields what a list gets that follows the tail, after it has caught up with it.
func (t Tail) Follow(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
	subscription, reaches := t.reaches(after)
	if !reaches {
		return t.catchUp(ctx, after)
	}
	return func(yield func(eventstore.Batch, error) bool) {
		for caughtUp := false; ; {
			batch, more, open := t.since(after, subscription)
			switch {
			case batch.Position > after || batch.CaughtUp && !caughtUp:
				if !yield(batch, nil) {
					return
				}
				after, caughtUp = batch.Position, batch.CaughtUp
				continue
			case !open:
				yield(eventstore.Batch{}, errResubscribe)
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(eventstore.Batch{}, ctx.Err())
				return
			}
		}
	}
}
