package projections

import (
	"context"
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
type tail struct {
	log    Log
	filter eventstore.Filter

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when what follows changes
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
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		if t.receive(ctx) {
			pause = shortestPause
		}
		if err := sleep(ctx, pause); err != nil {
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

// since is what the tail has after a position, if it reaches back to there, and what tells that there is more to have.
func (t *tail) since(position eventstore.Position) (batch eventstore.Batch, more <-chan struct{}, reaches bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open || position < t.from {
		return eventstore.Batch{}, nil, false
	}
	return eventstore.Batch{
		Events:   slices.Clip(t.events[t.after(position):]),
		Position: max(position, t.to),
		CaughtUp: t.live,
	}, t.changed, true
}

// follow yields what Subscribe of the log would.
func (t *tail) follow(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		caughtUp := false // has been told to the caller
		for {
			batch, more, reaches := t.since(after)
			switch {
			case !reaches:
				for batch, err := range t.log.Subscribe(ctx, after, t.filter) {
					if !yield(batch, err) || err != nil {
						return
					}
					after, caughtUp = batch.Position, batch.CaughtUp
					if _, _, reaches := t.since(after); reaches {
						break
					}
				}
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
}
