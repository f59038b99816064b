package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"roombook/domain"
	"roombook/eventstore"
)

// attempts is how often a command decides before it gives up because it keeps losing races against other processes.
const attempts = 16

// races counts the races that a command loses against other processes, and paces its retries.
type races struct {
	lost    int
	pauses  backoff.ExponentialBackOff
	metrics *metrics
}

func newRaces(m *metrics) *races {
	return &races{pauses: pauses(time.Millisecond, 25*time.Millisecond, 1), metrics: m}
}

// pauses double from the first to the longest, each varied at random by up to the given fraction of it.
func pauses(first, longest time.Duration, random float64) backoff.ExponentialBackOff {
	return backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: longest, Multiplier: 2, RandomizationFactor: random}
}

// again returns nil if the command should decide again after the error, and otherwise the error that it fails with. Before a retry it
// pauses, for longer the more races were lost. A command that only had to wait for another one of this process has lost no race: that
// other one has made progress.
func (r *races) again(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errMovedOn):
		return ctx.Err()
	case !lost(err) && !errors.Is(err, errBehind):
		return err
	}
	r.metrics.races.Inc()
	if r.lost++; r.lost == attempts {
		return ErrContended
	}
	return eventstore.Sleep(ctx, r.pauses.NextBackOff())
}

// readUntil reads until it gets to the revision that the event store has named: after a lost race, it may take some milliseconds until
// the event that won can be read.
func readUntil(ctx context.Context, named domain.Revision, read func() (domain.Revision, error)) error {
	for pauses := pauses(time.Millisecond, 16*time.Millisecond, 0); ; {
		revision, err := read()
		if err != nil || revision >= named {
			return err
		}
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// lost reports whether an append failed because another one came first, so that there is something new to read.
func lost(err error) bool {
	_, wrong := errors.AsType[*eventstore.WrongRevision](err)
	return wrong || errors.Is(err, errMovedOn)
}

// detach returns a context for an append, and for everything after the deciding one: a caller who goes away stops waiting, but does not
// undo what may have been decided. The request's deadline still applies.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	detached := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(detached, deadline)
	}
	return detached, func() {}
}

// undecided is the error of a read, or of a command that has decided nothing, when something else that it did along the way failed: the
// outcome of that may be unknown, but not its own.
func undecided(err error) error {
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		return fmt.Errorf("%w: %v", eventstore.ErrUnavailable, err)
	}
	return err
}

// unfinished is the error of a command that has decided, or may have, when one of its further steps failed.
func unfinished(err error) error {
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: %v", eventstore.ErrOutcomeUnknown, err)
}
