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

// write folds a non-empty batch into the stored documents, and writes the documents that changed and the checkpoint. The checkpoint is the
// batch's last event and not the position that the subscription has reached, which may hold for one cluster member only.
func (b *builder) write(ctx context.Context, batch eventstore.Batch) (folded, error) {
	done, err := b.projection.fold(ctx, func(ctx context.Context, ids []string) ([]Row, error) {
		return b.store.Load(ctx, b.generation.Ref, b.projection.Schema, ids)
	}, batch.Events)
	if err != nil {
		return done, err
	}
	next := b.generation.Checkpoint
	if last := batch.Events[len(batch.Events)-1]; last.Position > next.Position {
		next.Position, next.Event = last.Position, last.ID
	}
	for _, row := range done.rows {
		next.Changed = max(next.Changed, row.Position)
	}
	next.Longest = max(next.Longest, done.longest)
	if err := b.store.Write(ctx, b.generation.Ref, b.projection.Schema, done.rows, next); err != nil {
		return done, err
	}
	b.generation.Checkpoint = next
	return done, nil
}
