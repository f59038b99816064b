package eventstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// The bounds of a batch. It may pass the second by one event.
const (
	maxBatchEvents = 512
	maxBatchBytes  = 4 << 20
)

// Filter says which events of the log a subscription yields.
type Filter struct {
	// StreamPrefixes are what the names of their streams begin with, any of them. None means every stream that is not a
	// system stream of the event store.
	StreamPrefixes []string
}

// Batch is what came while the caller worked on the batch before: events, or only the news that the log went on without
// any that the filter lets through.
type Batch struct {
	// Events are in the order of the log.
	Events []Recorded
	// Position is where the subscription is after this batch: everything up to it has been yielded or left out by the filter.
	// It never goes back. Past events that the filter leaves out it moves only every few dozen of them.
	Position Position
	// CaughtUp reports that the subscription has once reached the end of the log: what comes since then has only just been
	// committed, as far as the caller keeps up with it.
	CaughtUp bool
}

// Subscribe follows the log from after a position, 0 for all of it, and yields the filtered events, in batches of at most
// 512 events and about 4 MiB. While the loop's body works on one, the next is received.
//
// It goes on until ctx ends, the subscription breaks, or the caller leaves the loop. An error is the last thing yielded,
// with a zero batch: ctx's error; [ErrUnavailable] if the event store could not be reached within the time-out or ended the
// subscription; [ErrClosed]; or what the event store refused it with. The caller may then subscribe again, after a
// while, from the position of its last batch.
func (s *Store) Subscribe(ctx context.Context, after Position, f Filter) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		if err := s.subscribe(ctx, after, f, func(b Batch) bool { return yield(b, nil) }); err != nil {
			yield(Batch{}, fmt.Errorf("subscription after position %d: %w", after, err))
		}
	}
}

// errDropped is the cause of a subscription that the event store ended without an error.
var errDropped = errors.New("ended by the event store")

func (s *Store) subscribe(ctx context.Context, after Position, f Filter, yield func(Batch) bool) error {
	w, stop := s.watch(ctx)
	defer stop()
	for try := 0; ; try++ {
		err := s.follow(w, after, f, yield)
		var refused *refusal
		var lost *interruption
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			return refused.err
		case errors.As(err, &lost):
			return w.ended(lost.err)
		}
		if !pause(w, try) {
			return w.ended(err)
		}
	}
}

// interruption is the error of a subscription that had begun.
type interruption struct{ err error }

func (e *interruption) Error() string { return e.err.Error() }
func (e *interruption) Unwrap() error { return e.err }

// follow subscribes and yields batches until yield wants no more, with a nil error, or until the subscription ends.
func (s *Store) follow(w *watched, after Position, f Filter, yield func(Batch) bool) error {
	c, err := s.connections.begin(w)
	if err != nil {
		return err
	}
	defer c.done()
	subscription, err := c.conn.client.SubscribeToAll(c, subscriptionOptions(after, f))
	if err != nil {
		return c.failed(err)
	}
	w.rest()
	r := &receiver{
		store:        s,
		call:         c,
		subscription: subscription,
		arrived:      make(chan struct{}, 1),
		room:         make(chan struct{}, 1),
		next:         Batch{Position: after},
	}
	var receiving sync.WaitGroup
	receiving.Go(r.receive)
	defer func() {
		_ = subscription.Close() // never fails; ends receive
		r.abandon()
		receiving.Wait()
	}()
	for {
		batch, ok, err := r.take()
		switch {
		case err != nil:
			return &interruption{err}
		case !ok:
			<-r.arrived
		case !yield(batch):
			return nil
		}
	}
}

func subscriptionOptions(after Position, f Filter) esdb.SubscribeToAllOptions {
	options := esdb.SubscribeToAllOptions{
		From:   esdb.Start{},
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: f.StreamPrefixes},
	}
	if after > 0 {
		options.From = esdb.Position{Commit: uint64(after), Prepare: uint64(after)}
	}
	if len(f.StreamPrefixes) == 0 {
		options.Filter.Regex = `^[^\$]`
	}
	return options
}

// receiver collects what a subscription receives into the next batch.
type receiver struct {
	store        *Store
	call         *call
	subscription *esdb.Subscription

	arrived chan struct{} // is signalled when there may be something to take
	room    chan struct{} // is signalled when there may be room in the next batch again

	mu        sync.Mutex
	next      Batch
	size      int  // bytes of the events in next
	news      bool // next says more than the batch before
	live      bool // the end of the log has been reached
	abandoned bool
	err       error // what the subscription ended with
}

// receive runs until the subscription ends.
func (r *receiver) receive() {
	for {
		message := r.subscription.Recv()
		var recorded Recorded
		if e := message.EventAppeared; e != nil && e.Event != nil {
			recorded = r.store.recorded(e.Event)
		}
		if !r.add(message, recorded) {
			return
		}
	}
}

// add takes note of a message. It reports whether there are more to come; while the batch is full it waits.
func (r *receiver) add(message *esdb.SubscriptionEvent, recorded Recorded) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case message.SubscriptionDropped != nil:
		r.err = r.dropped(message.SubscriptionDropped.Error)
	case message.EventAppeared != nil && message.EventAppeared.Event != nil:
		r.next.Events = append(r.next.Events, recorded)
		r.next.Position = max(r.next.Position, recorded.Position)
		r.size += len(recorded.Data) + 512
		r.news = true
	case message.CheckPointReached != nil:
		// A server may say "the end of all positions" where nothing matched in a small log.
		if p := message.CheckPointReached.Commit; p != math.MaxUint64 && Position(p) > r.next.Position {
			r.next.Position = Position(p)
			r.news = true
		}
	case message.CaughtUp != nil:
		r.news = r.news || !r.live
		r.live = true
	}
	signal(r.arrived)
	for r.err == nil && !r.abandoned && (len(r.next.Events) >= maxBatchEvents || r.size >= maxBatchBytes) {
		r.mu.Unlock()
		<-r.room
		r.mu.Lock()
	}
	return r.err == nil && !r.abandoned
}

// take hands over the next batch, if there is one. The error comes after the last batch.
func (r *receiver) take() (b Batch, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.news {
		return Batch{}, false, r.err
	}
	b = r.next
	b.CaughtUp = r.live
	r.next = Batch{Position: b.Position}
	r.size, r.news = 0, false
	signal(r.room)
	return b, true, nil
}

// abandon ends a wait for room.
func (r *receiver) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abandoned = true
	signal(r.room)
}

func (r *receiver) dropped(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errDropped
	}
	return r.call.failed(err)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
