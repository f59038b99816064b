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

// attempts bounds how often a command decides anew after it lost a race to another process.
const attempts = 16

// races are those that a command has lost to other processes.
type races struct {
	lost    int
	pauses  backoff.ExponentialBackOff
	metrics *metrics
}

func newRaces(m *metrics) *races {
	return &races{pauses: pauses(time.Millisecond, 25*time.Millisecond, 1), metrics: m}
}

// pauses double from the first to the longest, and are shorter and longer than that at random by up to a factor.
func pauses(first, longest time.Duration, random float64) backoff.ExponentialBackOff {
	return backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: longest, Multiplier: 2, RandomizationFactor: random}
}

// again returns nil if the command is to decide anew after the error, and otherwise the error that it ends with. It pauses before
// that, longer and more at random the more races were lost, and not beyond ctx. Whoever only had to wait for another command of
// this process has lost none: with each that waits for another, one gets on.
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
	return sleep(ctx, r.pauses.NextBackOff())
}

// readUntil reads until there is the revision that the event store has named: after a lost race, the event that won may only be
// readable some milliseconds later.
func readUntil(ctx context.Context, named domain.Revision, read func() (domain.Revision, error)) error {
	for pauses := pauses(time.Millisecond, 16*time.Millisecond, 0); ; {
		revision, err := read()
		if err != nil || revision >= named {
			return err
		}
		if err := sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// sleep waits, and not beyond ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lost reports whether an append lost a race, so that there is something new to read.
func lost(err error) bool {
	_, wrong := errors.AsType[*eventstore.WrongRevision](err)
	return wrong || errors.Is(err, errMovedOn)
}

// detach returns the context of an append and of everything after the deciding one: a caller that goes away cancels its wait, not
// what it may have decided. The request's time limit still holds.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	detached := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(detached, deadline)
	}
	return detached, func() {}
}

// undecided is the error of a command that decided nothing, or of a read, when something that decides nothing of it failed: the outcome of
// that may be unknown, its own is not.
func undecided(err error) error {
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		return fmt.Errorf("%w: %v", eventstore.ErrUnavailable, err)
	}
	return err
}

// unfinished is the error of a command that was decided, or may have been, and whose next step failed.
func unfinished(err error) error {
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: %v", eventstore.ErrOutcomeUnknown, err)
}
