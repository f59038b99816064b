package notify

import (
	"context"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// BreakerOptions configure the circuit breakers of destinations.
type BreakerOptions struct {
	// Failures is the number of consecutive failures that opens a breaker; 0 is 3.
	Failures uint
	// Delay is how long a breaker stays open before it lets one message through as a probe; 0 is 10 s.
	Delay time.Duration
}

// breaker holds messages back while their destination is down. It is safe for concurrent use.
type breaker struct {
	circuitbreaker.CircuitBreaker[any]

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when the state changes
	reason  error         // the last failure, nil after a success
	after   time.Time     // the earliest time for the next attempt, by Retry-After
}

func newBreaker(o BreakerOptions, log func(from, to circuitbreaker.State)) *breaker {
	if o.Failures == 0 {
		o.Failures = 3
	}
	if o.Delay == 0 {
		o.Delay = 10 * time.Second
	}
	b := &breaker{changed: make(chan struct{})}
	b.CircuitBreaker = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(o.Failures).
		WithSuccessThreshold(1).
		WithDelay(o.Delay).
		WithJitterFactor(0.2).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			log(e.OldState, e.NewState)
			b.mu.Lock()
			defer b.mu.Unlock()
			close(b.changed)
			b.changed = make(chan struct{})
		}).
		Build()
	return b
}

// wait waits until try is likely to succeed.
func (b *breaker) wait(ctx context.Context) error {
	for ctx.Err() == nil {
		b.mu.Lock()
		changed, wait := b.changed, time.Until(b.after)
		b.mu.Unlock()
		switch b.State() {
		case circuitbreaker.OpenState:
			wait = max(wait, b.RemainingDelay())
		case circuitbreaker.HalfOpenState: // a probe is in progress
			wait = time.Minute
		}
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err()
}

// try reports whether a message may be sent now; if so, the caller must record the outcome. A probe tests whether the destination has
// recovered, and its failure does not count as an attempt.
func (b *breaker) try() (probe, ok bool) {
	probe = !b.IsClosed()
	return probe, b.TryAcquirePermit()
}

// record records the outcome of an attempt: a failure if the destination is down, nil otherwise.
func (b *breaker) record(f *failure) {
	b.mu.Lock()
	b.reason = nil
	if f != nil {
		b.reason, b.after = f.err, time.Now().Add(f.after)
	}
	b.mu.Unlock()
	if f != nil {
		b.RecordFailure()
	} else {
		b.RecordSuccess()
	}
}

// lastReason returns the error of the last attempt, nil if the destination worked.
func (b *breaker) lastReason() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reason
}

// trouble returns why messages are held back, nil if they are not.
func (b *breaker) trouble() error {
	if b.IsClosed() {
		return nil
	}
	return b.lastReason()
}
