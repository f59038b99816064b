package eventstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
// It goes on until ctx ends, the connection breaks, or the caller leaves the loop. An error is the last thing yielded,
// with a zero batch: ctx's error; [ErrUnavailable] if the event store could not be reached within the time-out or the connection
// broke; [*Refused]; [ErrClosed]; or what the event store refused it with. The caller may then subscribe again, after a
// while, from the position of its last batch.
//
// A real event store ends a subscription now and then, because it was too slow for a moment. That is no error: it is taken up
// again at once from where it was. In a cluster any member may be followed, and be a little behind.
func (s *Store) Subscribe(ctx context.Context, after Position, f Filter) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		if err := s.subscribe(ctx, after, f, func(b Batch) bool { return yield(b, nil) }); err != nil {
			yield(Batch{}, fmt.Errorf("subscription after position %d: %w", after, err))
		}
	}
}

func (s *Store) subscribe(ctx context.Context, after Position, f Filter, yield func(Batch) bool) error {
	w, stop := s.watch(ctx)
	defer stop()
	last := Batch{Position: after}
	pauses := newPauses()
	slow := 0 // how often it was too slow without an event in between
	var failure error
	for {
		before := last.Position
		err := s.follow(w, f, &last, yield)
		var refused *refusal
		var lost *interruption
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			return refused.err
		case errors.As(err, &lost) && !lost.tooSlow:
			return w.ended(lost.err)
		case lost != nil:
			s.metrics.resubscriptions.Inc()
			w.wait()
			if last.Position > before { // that was no failure
				slow = 0
				pauses.Reset()
				continue
			}
			if slow++; slow > maxResubscriptions {
				return w.ended(lost.err)
			}
		}
		failure = reason(w, failure, err)
		if !pause(w, pauses) {
			return w.ended(failure)
		}
	}
}

// maxResubscriptions bounds how often a subscription that was too slow is taken up again without an event in between: then it is no longer
// that.
const maxResubscriptions = 16

// interruption is the error of a subscription that had begun.
type interruption struct {
	err     error
	tooSlow bool // and is to be taken up again
}

func (e *interruption) Error() string { return e.err.Error() }
func (e *interruption) Unwrap() error { return e.err }

// errDropped is the error of a subscription that the event store ended without one.
var errDropped = errors.New("ended by the event store")

// follow subscribes after the last batch and yields batches until yield wants no more, with a nil error, or until the
// subscription ends.
func (s *Store) follow(w *watched, f Filter, last *Batch, yield func(Batch) bool) error {
	c, err := s.connections.lists.begin(w)
	if err != nil {
		return err
	}
	defer c.done()
	subscription, err := c.Read(c, subscriptionRequest(last.Position, f), c.trailers())
	if err == nil {
		_, err = subscription.Recv() // the confirmation
	}
	if err != nil {
		return c.failed(err)
	}
	c.answered()
	w.rest()
	r := &receiver{
		store:        s,
		subscription: subscription,
		arrived:      make(chan struct{}, 1),
		room:         make(chan struct{}, 1),
		next:         Batch{Position: last.Position},
		live:         last.CaughtUp,
	}
	var receiving sync.WaitGroup
	receiving.Go(r.receive)
	defer func() {
		c.cancel() // ends receive
		r.abandon()
		receiving.Wait()
	}()
	for {
		batch, ok, err := r.take()
		switch {
		case errors.Is(err, io.EOF):
			return &interruption{err: errDropped}
		case err != nil:
			return &interruption{err: c.failed(err), tooSlow: status.Code(err) == codes.Aborted}
		case !ok:
			<-r.arrived
		case !yield(batch):
			return nil
		default:
			*last = Batch{Position: batch.Position, CaughtUp: batch.CaughtUp}
		}
	}
}

// subscriptionRequest follows the log after a position.
func subscriptionRequest(after Position, f Filter) *streams.ReadReq {
	all := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}
	if after > 0 {
		all.AllOption = &streams.ReadReq_Options_AllOptions_Position{
			Position: &streams.ReadReq_Options_Position{CommitPosition: uint64(after), PreparePosition: uint64(after)},
		}
	}
	expression := &streams.ReadReq_Options_FilterOptions_Expression{Prefix: f.StreamPrefixes}
	if len(f.StreamPrefixes) == 0 {
		expression.Regex = `^[^\$]`
	}
	return &streams.ReadReq{Options: &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_All{All: all},
		CountOption:  &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}},
		FilterOption: &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
			Filter:                       &streams.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: expression},
			Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: 32},
			CheckpointIntervalMultiplier: 1,
		}},
		UuidOption: structuredIDs,
	}}
}

// receiver collects what a subscription receives into the next batch.
type receiver struct {
	store        *Store
	subscription streams.Streams_ReadClient

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
		message, err := r.subscription.Recv()
		var recorded *Recorded
		if e := message.GetEvent().GetEvent(); e != nil {
			event := r.store.recorded(e)
			recorded = &event
		}
		if !r.add(message, recorded, err) {
			return
		}
	}
}

// add takes note of a message and of the event in it. It reports whether there are more to come; while the batch is full it waits.
func (r *receiver) add(message *streams.ReadResp, recorded *Recorded, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.err = err
	case recorded != nil:
		r.next.Events = append(r.next.Events, *recorded)
		r.next.Position = max(r.next.Position, recorded.Position)
		r.size += len(recorded.Data) + 512
		r.news = true
	case message.GetCheckpoint() != nil:
		// A server may say "the end of all positions" where nothing matched in a small log.
		if p := message.GetCheckpoint().GetCommitPosition(); p != math.MaxUint64 && Position(p) > r.next.Position {
			r.next.Position = Position(p)
			r.news = true
		}
	case message.GetCaughtUp() != nil:
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

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
