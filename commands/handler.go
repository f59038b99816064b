package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// Store is what the write side needs of the event store. See [eventstore.Store] for the contract.
type Store interface {
	ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error]
	Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error)
}

// DefaultCacheBytes is the default of [Options].CacheBytes.
const DefaultCacheBytes = 128 << 20

// Options are the choices of a Handler.
type Options struct {
	Policy domain.Policy
	// CacheBytes bounds the memory of the calendars that are kept, about; 0 is [DefaultCacheBytes]. The least recently used go.
	CacheBytes int
}

// Handler carries out commands and reads single resources. Goroutines may share it, and any number of handlers in any number
// of processes may share a store: correctness rests on the store's expected revisions alone.
//
// Its methods return the errors of package domain, [ErrContended], the context's error, and those of package eventstore:
// [eventstore.ErrUnavailable] where nothing was decided, [eventstore.ErrOutcomeUnknown] where the command may have been
// decided and will then be finished.
type Handler struct {
	store     Store
	policy    domain.Policy
	calendars *calendars
	metrics   *metrics
}

// New returns a handler over the store.
func New(store Store, o Options) *Handler {
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	m := newMetrics()
	return &Handler{
		store:     store,
		policy:    o.Policy,
		calendars: newCalendars(store, o.CacheBytes, m),
		metrics:   m,
	}
}

// attempts bounds how often a command decides anew after an append that lost a race.
const attempts = 16

// pause waits a little before the next attempt, longer and more at random the more were lost, and not beyond ctx.
func pause(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return ctx.Err()
	}
	longest := min(time.Millisecond<<attempt, 50*time.Millisecond)
	t := time.NewTimer(rand.N(longest))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decided is the context of an append and of everything after the deciding one: a caller that goes away cancels its wait, not
// what it may have decided. The request's time limit still holds.
func decided(ctx context.Context) (context.Context, context.CancelFunc) {
	detached := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(detached, deadline)
	}
	return detached, func() {}
}

// unfinished is the error of a command that was decided, or may have been, and whose next step failed.
func unfinished(err error) error {
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: %v", eventstore.ErrOutcomeUnknown, err)
}
