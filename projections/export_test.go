package projections

import (
	"context"
	"iter"

	"roombook/eventstore"
)

// Fold folds events into documents that load finds.
func (p Projection) Fold(ctx context.Context, load func(context.Context, []string) ([]Row, error), events []eventstore.Recorded) (rows []Row, longest int64, err error) {
	done, err := p.fold(ctx, load, events)
	return done.rows, done.longest, err
}

// Tail is what lists receive together.
type Tail struct{ *tail }

// TailEvents is the least number of events that a tail keeps.
const TailEvents = tailEvents

// NewTail makes the tail of a log.
func NewTail(log Log, f eventstore.Filter) Tail { return Tail{newTail(log, f)} }

// Run receives the tail.
func (t Tail) Run(ctx context.Context) error { return t.run(ctx) }

// Follow follows the log by way of the tail.
func (t Tail) Follow(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
	return t.follow(ctx, after)
}
