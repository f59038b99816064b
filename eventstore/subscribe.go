package eventstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The limits of a batch. It may exceed the second by one event.
const (
	maxBatchEvents = 512
	maxBatchBytes  = 4 << 20
)

// Filter selects the events that a subscription yields.
type Filter struct {
	// StreamPrefixes are what the names of their streams begin with, any of them. None means every stream but the event store's
	// system streams.
	StreamPrefixes []string
	// TypePrefixes are what their types begin with, any of them; none means every type. The event store filters by one thing only: it is
	// asked for these types, and the streams are selected here.
	TypePrefixes []string
}

// byStream reports whether the event store itself filters by stream.
func (f Filter) byStream() bool { return len(f.TypePrefixes) == 0 }

// hasStream reports whether events of a stream pass the filter.
func (f Filter) hasStream(stream string) bool {
	return f.byStream() || hasPrefix(stream, f.StreamPrefixes)
}

// Select returns those events that pass the filter, of events that a subscription with a wider one has yielded.
func (f Filter) Select(events []Recorded) []Recorded {
	var selected []Recorded
	for _, r := range events {
		if hasPrefix(r.Stream, f.StreamPrefixes) && hasPrefix(r.Type, f.TypePrefixes) {
			selected = append(selected, r)
		}
	}
	return selected
}

// hasPrefix reports whether a name has one of the prefixes, or there are none.
func hasPrefix(name string, prefixes []string) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// Equal reports whether both filters select the same events, in the same words.
func (f Filter) Equal(o Filter) bool {
	return slices.Equal(f.StreamPrefixes, o.StreamPrefixes) && slices.Equal(f.TypePrefixes, o.TypePrefixes)
}

// filterWindow is every how many events a filtered subscription is told its position at least.
const filterWindow = 32

// regex is the regular expression that selects streams without prefixes.
func (f Filter) regex() string {
	if len(f.StreamPrefixes) > 0 {
		return ""
	}
	return `^[^\$]`
}

// Batch is what arrived while the caller worked on the previous batch: events, or only the news that the log went on without any that
// match the filter.
type Batch struct {
	// Events are in the order of the log.
	Events []Recorded
	// Position is that of the subscription after this batch: every event up to it has been yielded or does not match the filter. It
	// never decreases. Past events that do not match it moves only every few dozen of them.
	Position Position
	// CaughtUp reports whether the subscription has ever reached the end of the log. From then on events arrive as they are
	// committed, if the caller keeps up.
	CaughtUp bool
}

// Subscribe follows the log from after a position, 0 for all of it, and yields the events that match the filter, in batches of at most
// 512 events and about 4 MiB. While the loop's body works on one batch the next is received.
//
// It goes on until ctx ends, the connection breaks, or the caller leaves the loop. An error is the last thing yielded,
// with a zero batch: ctx's error; [ErrUnavailable] if the event store could not be reached within the time-out or the connection
// broke; [*Refused]; [ErrClosed]; or the reason why the event store refused the subscription. The caller may then subscribe again, after
// a pause, from the position of its last batch.
//
// A real event store now and then ends a subscription that was too slow for a moment. That is no error: the subscription is resumed
// at once from where it was. In a cluster it may follow any member, and be a little behind.
func (s *Store) Subscribe(ctx context.Context, after Position, f Filter) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		if err := s.subscribe(ctx, after, f, func(b Batch) bool { return yield(b, nil) }); err != nil {
			yield(Batch{}, fmt.Errorf("subscription after position %d: %w", after, err))
		}
	}
}

func (s *Store) subscribe(ctx context.Context, after Position, f Filter, yield func(Batch) bool) error {
	w, stop := s.newIdleContext(ctx)
	defer stop()
	last := Batch{Position: after}
	pauses := newPauses()
	slow := 0 // how often in a row it was too slow without progress
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
			w.resume()
			if last.Position > before { // progress
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

// maxResubscriptions bounds how often in a row a subscription is resumed without progress: then it is not too slow but stuck.
const maxResubscriptions = 16

// interruption is the error that ended a subscription after it had begun.
type interruption struct {
	err     error
	tooSlow bool // and is to be resumed
}

func (e *interruption) Error() string { return e.err.Error() }
func (e *interruption) Unwrap() error { return e.err }

// errDropped is why a subscription ended if the event store gave no reason.
var errDropped = errors.New("ended by the event store")

// follow subscribes after the last batch and yields batches until yield returns false, with a nil error, or the subscription ends.
func (s *Store) follow(w *idleContext, f Filter, last *Batch, yield func(Batch) bool) error {
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
	c.member.answered()
	w.suspend()
	r := &receiver{
		store:        s,
		filter:       f,
		subscription: subscription,
		arrived:      make(chan struct{}, 1),
		taken:        make(chan struct{}, 1),
		next:         Batch{Position: last.Position},
		caughtUp:     last.CaughtUp,
	}
	var receiving sync.WaitGroup
	receiving.Go(r.receive)
	defer func() {
		c.cancel() // ends receive
		r.stop()
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
			continue
		}
		if n := len(batch.Events); n > 0 && s.connections.lists.leads {
			if e := batch.Events[n-1]; stays(e.Stream) && e.Type != checkpointType { // the next checkpoint replaces it
				s.connections.log.saw(c.member.incarnation, e.Position, e.ID)
			}
		}
		if !yield(batch) {
			return nil
		}
		*last = Batch{Position: batch.Position, CaughtUp: batch.CaughtUp}
	}
}

// subscriptionRequest asks for the events after a position that match the filter.
func subscriptionRequest(after Position, f Filter) *streams.ReadReq {
	all := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}
	if after > 0 {
		all.AllOption = &streams.ReadReq_Options_AllOptions_Position{
			Position: &streams.ReadReq_Options_Position{CommitPosition: uint64(after), PreparePosition: uint64(after)},
		}
	}
	filter := &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_EventType{
			EventType: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: f.TypePrefixes},
		},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: filterWindow},
		CheckpointIntervalMultiplier: 1,
	}
	if f.byStream() {
		filter.Filter = &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: f.StreamPrefixes, Regex: f.regex()},
		}
	}
	return &streams.ReadReq{Options: &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_All{All: all},
		CountOption:  &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}},
		FilterOption: &streams.ReadReq_Options_Filter{Filter: filter},
		UuidOption:   structuredIDs,
	}}
}

// receiver collects what a subscription receives into the next batch.
type receiver struct {
	store        *Store
	filter       Filter
	subscription streams.Streams_ReadClient

	arrived chan struct{} // signalled when there may be something to take
	taken   chan struct{} // signalled when a batch was taken, or the receiver stopped

	mu       sync.Mutex
	next     Batch
	size     int  // bytes of the events in next
	changed  bool // next says more than the batch before
	caughtUp bool
	stopped  bool
	err      error // what the subscription ended with
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

// add adds a message and the event in it to the next batch. While the batch is full it waits. It reports whether to receive more.
func (r *receiver) add(message *streams.ReadResp, recorded *Recorded, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.err = err
	case recorded != nil && !r.filter.hasStream(recorded.Stream):
		r.next.Position = max(r.next.Position, recorded.Position)
		r.changed = true
	case recorded != nil:
		r.next.Events = append(r.next.Events, *recorded)
		r.next.Position = max(r.next.Position, recorded.Position)
		r.size += len(recorded.Data) + 512
		r.changed = true
	case message.GetCheckpoint() != nil:
		// In a small log where nothing matches, the position may be the greatest possible.
		if p := message.GetCheckpoint().GetCommitPosition(); p != math.MaxUint64 && Position(p) > r.next.Position {
			r.next.Position = Position(p)
			r.changed = true
		}
	case message.GetCaughtUp() != nil:
		r.changed = r.changed || !r.caughtUp
		r.caughtUp = true
	}
	signal(r.arrived)
	for r.err == nil && !r.stopped && (len(r.next.Events) >= maxBatchEvents || r.size >= maxBatchBytes) {
		r.mu.Unlock()
		<-r.taken
		r.mu.Lock()
	}
	return r.err == nil && !r.stopped
}

// take returns the next batch, if there is one. The error comes after the last batch.
func (r *receiver) take() (b Batch, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changed {
		return Batch{}, false, r.err
	}
	b = r.next
	b.CaughtUp = r.caughtUp
	r.next = Batch{Position: b.Position}
	r.size, r.changed = 0, false
	signal(r.taken)
	return b, true, nil
}

// stop ends a wait for the batch to be taken.
func (r *receiver) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	signal(r.taken)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
