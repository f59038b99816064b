package eventstore

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackOff makes waits that double from the first to the longest, each randomized by half of it up or down.
func newBackOff(first, longest time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: longest, Multiplier: 2, RandomizationFactor: 0.5}
}

// newPauses makes the waits between the tries of one call.
func newPauses() *backoff.ExponentialBackOff {
	return newBackOff(5*time.Millisecond, 200*time.Millisecond)
}

// pause waits before the next try and reports whether there is time left for one.
func pause(ctx context.Context, pauses *backoff.ExponentialBackOff) bool {
	select {
	case <-time.After(pauses.NextBackOff()):
		return true
	case <-ctx.Done():
		return false
	}
}
