package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"roombook/eventstore"
	"roombook/projections"
)

const (
	// flushTimeout bounds how long a shutdown waits for the lists.
	flushTimeout = 5 * time.Second
	// flushPingTimeout bounds how much of that it waits for an event store that does not answer.
	flushPingTimeout = time.Second
)

// flush waits until the lists have everything that the log has for them.
func flush(ctx context.Context, store *events, workers *projections.Workers, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	pinging, cancelPing := context.WithTimeout(ctx, flushPingTimeout)
	defer cancelPing()
	err := store.Ping(pinging)
	for _, h := range workers.Health() {
		if err == nil && h.State == projections.Following {
			err = flushList(ctx, store, workers, h)
		}
	}
	if err != nil {
		log.Warn("the lists may not be up to date; they will be at the next start", "error", err)
	}
}

// flushList waits until a list has the last of its events, or is not kept any more.
func flushList(ctx context.Context, store *events, workers *projections.Workers, list projections.Health) error {
	p, _ := projections.Named(list.Projection)
	last, err := lastAfter(ctx, store, list.Position, p.Filter)
	for err == nil && slices.ContainsFunc(workers.Health(), func(h projections.Health) bool {
		return h.Projection == p.Name && h.State == projections.Following && h.Position < last
	}) {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return err
}

// lastAfter returns the position of the last event after another one that the filter lets through; 0 if there is none.
func lastAfter(ctx context.Context, store *events, after eventstore.Position, f eventstore.Filter) (last eventstore.Position, err error) {
	for batch, err := range store.Subscribe(ctx, after, f) {
		if err != nil {
			return 0, err
		}
		if n := len(batch.Events); n > 0 {
			last = batch.Events[n-1].Position
		}
		if batch.CaughtUp {
			return last, nil
		}
	}
	return last, ctx.Err()
}
