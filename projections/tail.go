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

// tailEvents is the minimum number of events that a tail retains once it has received them; it retains less than twice as many.
const tailEvents = 2048

// tail holds the latest events of the log, received and decoded once for all lists of a process. A list that is behind the tail uses a
// subscription of its own until it has caught up, so that it delays neither the tail nor the lists that follow it.
//
// When the tail's subscription breaks, the next one may come from another log. So the lists that follow it start over, from an event that
// they can look up in the log.
type tail struct {
	log    Log
	filter eventstore.Filter

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever the fields below change
	begun   int           // the number of subscriptions so far
	open    bool          // whether there is a subscription
	live    bool          // whether it has reached the end of the log
	events  []eventstore.Recorded
	from    eventstore.Position // events holds everything after from, up to to
	to      eventstore.Position

	followers followers
}

func newTail(log Log, f eventstore.Filter) *tail {
	return &tail{log: log, filter: f, changed: make(chan struct{}), followers: followers{wake: make(chan struct{}, 1)}}
}

// run receives the tail until the context ends, and subscribes again, with backoff, whenever the subscription breaks. It reports no
// errors, as the followers meet them as well.
func (t *tail) run(ctx context.Context) error {
	for pauses := newBackOff(); ; {
		if t.receive(ctx) {
			pauses.Reset()
		}
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// receive subscribes from the end of the log until the subscription breaks, and reports whether it received anything.
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
	t.open = false
	t.notify()
}

func (t *tail) add(batch eventstore.Batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, batch.Events...)
	if excess := len(t.events) - tailEvents; excess >= tailEvents {
		// Followers may hold slices of the old array.
		t.from = t.events[excess-1].Position
		t.events = slices.Clone(t.events[t.after(t.from):])
	}
	t.to, t.live = batch.Position, batch.CaughtUp
	t.notify()
}

// notify wakes the followers. t.mu must be held.
func (t *tail) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// after returns the index of the first event after a position. t.mu must be held.
func (t *tail) after(position eventstore.Position) int {
	return sort.Search(len(t.events), func(i int) bool { return t.events[i].Position > position })
}

// reaches reports whether the tail holds everything after a position, and from which subscription.
func (t *tail) reaches(position eventstore.Position) (subscription int, reaches bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun, t.open && position >= t.from
}

// since returns the events of a subscription after a position and a channel that is closed when there are more. It reports whether there
// can be more: not if the subscription has broken or does not reach back that far, in which latter case the batch is empty too.
func (t *tail) since(position eventstore.Position, subscription int) (batch eventstore.Batch, more <-chan struct{}, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun != subscription || position < t.from {
		return eventstore.Batch{Position: position}, t.changed, false
	}
	return eventstore.Batch{
		Events:   slices.Clip(t.events[t.after(position):]),
		Position: max(position, t.to),
		CaughtUp: t.live,
	}, t.changed, t.open
}

// errResubscribe tells a list to go on with another subscription: its own has broken, or it can follow the tail now.
var errResubscribe = errors.New("the log must be subscribed to again")

// catchUp yields what the log's Subscribe would, and errResubscribe once the tail has been reached.
func (t *tail) catchUp(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		known := after // the position of the last event, which can be looked up in the log
		for batch, err := range t.log.Subscribe(ctx, after, t.filter) {
			if !yield(batch, err) || err != nil {
				return
			}
			if n := len(batch.Events); n > 0 {
				known = batch.Events[n-1].Position
			}
			if _, reaches := t.reaches(known); reaches {
				yield(eventstore.Batch{}, errResubscribe)
				return
			}
		}
	}
}
