package projections

import (
	"context"

	"roombook/eventstore"
)

// Fold folds events into documents that load finds.
func (p Projection) Fold(ctx context.Context, load func(context.Context, []string) ([]Row, error), events []eventstore.Recorded) (rows []Row, longest int64, err error) {
	done, err := p.fold(ctx, load, events)
	return done.rows, done.longest, err
}
