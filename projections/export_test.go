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

// Follow is follow.
func (t Tail) Follow(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
	return t.follow(ctx, after)
}
