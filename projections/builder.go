package projections

import (
	"context"

	"roombook/eventstore"
)

// builder folds batches into a generation.
type builder struct {
	store      Store
	projection Projection
	generation Generation
}

// fold folds a non-empty batch into the stored documents, and returns the documents that changed with the checkpoint. The checkpoint is the
// batch's last event and not the position that the subscription has reached, which may hold for one cluster member only.
func (b *builder) fold(ctx context.Context, batch eventstore.Batch) (Update, folded, error) {
	done, err := b.projection.fold(ctx, func(ctx context.Context, ids []string) ([]Row, error) {
		return b.store.Load(ctx, b.generation.Ref, b.projection.Schema, ids)
	}, batch.Events)
	next := b.generation.Checkpoint
	if last := batch.Events[len(batch.Events)-1]; last.Position > next.Position {
		next.Position, next.Event = last.Position, last.ID
	}
	next.Changed = max(next.Changed, done.last)
	next.Longest = max(next.Longest, done.longest)
	return Update{b.generation.Ref, b.projection.Schema, done.rows, next}, done, err
}

// write folds a non-empty batch and writes the result.
func (b *builder) write(ctx context.Context, batch eventstore.Batch) (folded, error) {
	u, done, err := b.fold(ctx, batch)
	if err != nil {
		return done, err
	}
	if err := b.store.Write(ctx, u.Ref, u.Schema, u.Rows, u.Checkpoint); err != nil {
		return done, err
	}
	b.generation.Checkpoint = u.Checkpoint
	return done, nil
}
