package notify

import (
	"context"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// BreakerOptions say when a destination that does not work is left alone.
type BreakerOptions struct {
	// Failures are how many in a row open the breaker; 0 is 3.
	Failures uint
	// Delay is how long it stays open before one message is tried; 0 is 10 s.
	Delay time.Duration
}

// breaker holds messages back while their destination does not work. Goroutines may share it.
type breaker struct {
	circuitbreaker.CircuitBreaker[any]

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when the state changes
	reason  error         // of the last failure, nil once the destination works
	after   time.Time     // before which the destination wants to be left alone
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

// wait waits until a message may be tried, as far as can be told.
func (b *breaker) wait(ctx context.Context) error {
	for ctx.Err() == nil {
		b.mu.Lock()
		changed, wait := b.changed, time.Until(b.after)
		b.mu.Unlock()
		switch b.State() {
		case circuitbreaker.OpenState:
			wait = max(wait, b.RemainingDelay())
		case circuitbreaker.HalfOpenState: // another message is being tried
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

// try reports whether a message may be tried now. The outcome must be recorded then. A probe finds out whether the destination works again;
// that it does not is not held against the message.
func (b *breaker) try() (probe, ok bool) {
	probe = !b.IsClosed()
	return probe, b.TryAcquirePermit()
}

// record says how an attempt ended: with a failure if the destination does not work, else with nil.
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

// lastReason is why the destination did not work when it was last tried, nil if it did.
func (b *breaker) lastReason() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reason
}

// trouble is why messages are held back, nil if they are not.
func (b *breaker) trouble() error {
	if b.IsClosed() {
		return nil
	}
	return b.lastReason()
}
