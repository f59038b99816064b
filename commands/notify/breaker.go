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
	failures uint
	delay    time.Duration

	mu       sync.Mutex
	changed  chan struct{}   // closed, and replaced, when the state changes
	reason   error           // the last failure, nil after a success
	after    time.Time       // the earliest time for the next attempt, by Retry-After
	worked   time.Time       // when the last attempt began at which the destination was not down
	refusers map[string]bool // recipients that were refused since one was not, no more than failures
}

func newBreaker(o BreakerOptions, log func(from, to circuitbreaker.State)) *breaker {
	if o.Failures == 0 {
		o.Failures = 3
	}
	if o.Delay == 0 {
		o.Delay = 10 * time.Second
	}
	b := &breaker{failures: o.Failures, delay: o.Delay, changed: make(chan struct{}), refusers: map[string]bool{}}
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

// wait waits until try is likely to succeed. A message that has failed before leaves others a moment to be the probe: it may be the reason for
// the failures.
func (b *breaker) wait(ctx context.Context, failed bool) error {
	for ctx.Err() == nil {
		b.mu.Lock()
		changed, wait := b.changed, time.Until(b.after)
		b.mu.Unlock()
		state := b.State()
		switch state {
		case circuitbreaker.OpenState:
			remaining := b.RemainingDelay()
			if failed {
				remaining += b.delay / 10
			}
			wait = max(wait, remaining)
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
			if state == circuitbreaker.OpenState {
				return nil
			}
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err()
}

// ready reports whether try is likely to succeed.
func (b *breaker) ready() bool {
	return b.IsClosed() || b.IsOpen() && b.RemainingDelay() == 0
}

// try reports whether a message may be sent now; if so, the caller must record the outcome. A probe tests whether the destination has
// recovered, and its failure does not count as an attempt.
func (b *breaker) try() (probe, ok bool) {
	b.mu.Lock()
	early := time.Now().Before(b.after)
	b.mu.Unlock()
	if early {
		return false, false
	}
	probe = !b.IsClosed()
	return probe, b.TryAcquirePermit()
}

// record records the outcome of an attempt and when it began. f is nil if the message was delivered.
func (b *breaker) record(began time.Time, f *failure) {
	b.mu.Lock()
	if (f == nil || !f.down && !f.unsent) && b.worked.Before(began) {
		b.worked = began
	}
	switch {
	case f != nil && f.unsent:
	case f == nil || f.permanent:
		b.reason = nil
		clear(b.refusers)
	case f.down:
		b.reason = f.err
		if after := time.Now().Add(f.after); after.After(b.after) {
			b.after = after
		}
	case f.refused != "":
		b.reason = f.err
		if len(b.refusers) < int(b.failures) {
			b.refusers[f.refused] = true
		}
	}
	b.mu.Unlock()
	switch {
	case f != nil && f.unsent && b.IsClosed():
	case f != nil && (f.down || f.unsent): // a probe that was not sent leaves the breaker open
		b.RecordFailure()
	default:
		b.RecordSuccess()
	}
}

// workedSince reports whether the destination was not down at an attempt that began after a time.
func (b *breaker) workedSince(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.worked.After(at)
}

// refusesAll reports whether the destination has lately refused every recipient, and several. Then the reason is the destination, and no
// recipient. The breaker stays closed all the same, so that other recipients are found out to be accepted.
func (b *breaker) refusesAll() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.refusers) >= int(b.failures)
}

// maxHold is the longest pause of messages that are held.
const maxHold = time.Hour

// hold returns how long to hold a message of an age that does not wait for the breaker: at first as long as the breaker stays open, later longer.
func (b *breaker) hold(age time.Duration) time.Duration {
	b.mu.Lock()
	asked := time.Until(b.after)
	b.mu.Unlock()
	return max(asked, jittered(min(max(b.delay, age/2), maxHold)))
}

// lastReason returns the error of the last attempt, nil if the destination worked.
func (b *breaker) lastReason() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reason
}

// trouble returns why messages are held back or all recipients refused, nil if they are not.
func (b *breaker) trouble() error {
	if b.IsClosed() && !b.refusesAll() {
		return nil
	}
	return b.lastReason()
}
