package eventstore

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// NewBackOff makes waits that double from the first to the longest, each randomized by half of it up or down.
func NewBackOff(first, longest time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: longest, Multiplier: 2, RandomizationFactor: 0.5}
}

// newPauses makes the waits between the tries of one call.
func newPauses() *backoff.ExponentialBackOff {
	return NewBackOff(5*time.Millisecond, 200*time.Millisecond)
}

// pause waits before the next try and reports whether there is time left for one.
func pause(ctx context.Context, pauses *backoff.ExponentialBackOff) bool {
	return Sleep(ctx, pauses.NextBackOff()) == nil
}

// Sleep waits for d, or until ctx ends, whose error it returns then.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
