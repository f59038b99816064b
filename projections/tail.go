package projections

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sort"
	"sync"

	"roombook/eventstore"
)

// tailEvents is the least number of events that a tail keeps, once it has had them; it keeps less than twice as many.
const tailEvents = 2048

// tail is the newest part of the log, received and decoded once for all lists of a process. Whoever follows it from a position
// that is older, or has fallen behind it, follows the log with a subscription of its own until it has caught up with the
// tail: so nobody holds up the tail, nor anybody else through it, and nobody needs it.
//
// When the subscription breaks, the next one may be answered by another log. So whoever followed it begins anew, from an event that it
// can find again.
type tail struct {
	log    Log
	filter eventstore.Filter

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when what follows changes
	begun   int           // counts the subscriptions
	open    bool          // there is a subscription
	live    bool          // it has reached the end of the log
	events  []eventstore.Recorded
	from    eventstore.Position // events has everything after it, up to to
	to      eventstore.Position
}

func newTail(log Log, f eventstore.Filter) *tail {
	return &tail{log: log, filter: f, changed: make(chan struct{})}
}

// run receives the tail until the context ends, and begins anew, with pauses, whenever the subscription breaks. What is wrong
// with the event store its followers find out themselves.
func (t *tail) run(ctx context.Context) error {
	for pauses := newBackOff(); ; {
		if t.receive(ctx) {
			pauses.Reset()
		}
		if err := sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// receive has the tail begin at the end of the log and go on until the subscription breaks. It reports whether anything came.
func (t *tail) receive(ctx context.Context) (received bool) {
	end, err := t.log.End(ctx)
	if err != nil {
		return false
	}
	t.begin(end)
	defer t.shut()
	for batch, err := range t.log.Subscribe(ctx, end, t.filter) {
		if err != nil {
			break
		}
		received = true
		t.add(batch)
	}
	return received
}

func (t *tail) begin(position eventstore.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun++
	t.open, t.live, t.events = true, false, nil
	t.from, t.to = position, position
}

func (t *tail) shut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.events = false, nil
	t.tell()
}

func (t *tail) add(batch eventstore.Batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, batch.Events...)
	if excess := len(t.events) - tailEvents; excess >= tailEvents {
		// Followers may hold parts of the old array.
		t.from = t.events[excess-1].Position
		t.events = slices.Clone(t.events[t.after(t.from):])
	}
	t.to, t.live = batch.Position, batch.CaughtUp
	t.tell()
}

// tell wakes those who wait. t.mu must be held.
func (t *tail) tell() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// after is the index of the first event after a position. t.mu must be held.
func (t *tail) after(position eventstore.Position) int {
	return sort.Search(len(t.events), func(i int) bool { return t.events[i].Position > position })
}

// reaches reports whether the tail has everything after a position, and tells by which subscription.
func (t *tail) reaches(position eventstore.Position) (subscription int, reaches bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun, t.open && position >= t.from
}

// since is what a subscription of the tail has after a position, if it reaches back to there and goes on, and what tells that there
// is more to have.
func (t *tail) since(position eventstore.Position, subscription int) (batch eventstore.Batch, more <-chan struct{}, reaches bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open || t.begun != subscription || position < t.from {
		return eventstore.Batch{}, nil, false
	}
	return eventstore.Batch{
		Events:   slices.Clip(t.events[t.after(position):]),
		Position: max(position, t.to),
		CaughtUp: t.live,
	}, t.changed, true
}

// errMoved means that what was followed cannot be followed further, or is to be had from the tail now: begin anew.
var errMoved = errors.New("the rest of the log is to be had in another way")

// follow yields what Subscribe of the log would, from one subscription, and errMoved when that is not the one to follow any more.
func (t *tail) follow(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		if subscription, reaches := t.reaches(after); reaches {
			t.followTail(ctx, after, subscription, yield)
			return
		}
		known := after // the last event that can be found again
		for batch, err := range t.log.Subscribe(ctx, after, t.filter) {
			if !yield(batch, err) || err != nil {
				return
			}
			if n := len(batch.Events); n > 0 {
				known = batch.Events[n-1].Position
			}
			if _, reaches := t.reaches(known); reaches {
				yield(eventstore.Batch{}, errMoved)
				return
			}
		}
	}
}

func (t *tail) followTail(ctx context.Context, after eventstore.Position, subscription int, yield func(eventstore.Batch, error) bool) {
	caughtUp := false // has been told to the caller
	for {
		batch, more, reaches := t.since(after, subscription)
		switch {
		case !reaches:
			yield(eventstore.Batch{}, errMoved)
			return
		case batch.Position > after || batch.CaughtUp && !caughtUp:
			if !yield(batch, nil) {
				return
			}
			after, caughtUp = batch.Position, batch.CaughtUp
		default:
			select {
			case <-more:
			case <-ctx.Done():
				yield(eventstore.Batch{}, ctx.Err())
				return
			}
		}
	}
}
