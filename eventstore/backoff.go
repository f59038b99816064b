package eventstore

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackOff is a series of waits of half to one and a half times the first, then of twice as much each time, up to the longest.
func newBackOff(first, longest time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: longest, Multiplier: 2, RandomizationFactor: 0.5}
}

// newPauses are the waits between the tries of one call.
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
