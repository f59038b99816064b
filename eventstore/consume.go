package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
)

// Defaults of [ConsumeOptions].
const (
	DefaultInFlight = 64
	DefaultHandlers = 8
)

// maxAnswers bounds the number of events that one message settles.
const maxAnswers = 512

// Delivery is an event as a group hands it out.
type Delivery struct {
	Recorded
	// Retries is how often it was handed out before, to this consumer or another one, without being settled.
	Retries int
	// Replayed reports that it was parked, and is handed out again because of [Store.ReplayParked]. Its Position is then that at which it
	// was parked.
	Replayed bool
	// Fresh reports that nobody can have been handed it before: it was appended after the group had accepted the call that it came on.
	Fresh bool

	inHand func() bool
}

// InHand reports whether the event is still in this consumer's hands. It is not once the call has ended that it came on, unless it has come
// again: then another consumer may have it. A handler that waits for long asks before it does what is not to be done twice, and lets
// others have it by [Retry].
func (d Delivery) InHand() bool { return d.inHand == nil || d.inHand() }

// Settlement is what a consumer wants the group to do about an event that it was handed. The zero value is that of [Ack].
type Settlement struct {
	action persistent.ReadReq_Nack_Action
	reason string
}

// acknowledged is the action of an acknowledgement, which the protocol has a message of its own for.
const acknowledged persistent.ReadReq_Nack_Action = 0

// Ack acknowledges an event: it is done.
func Ack() Settlement { return Settlement{} }

// Skip gives an event up: the group counts it as done.
func Skip(reason string) Settlement { return Settlement{persistent.ReadReq_Nack_Skip, reason} }

// Park puts an event aside, with the reason, until [Store.ReplayParked] has it handed out again.
func Park(reason string) Settlement { return Settlement{persistent.ReadReq_Nack_Park, reason} }

// Retry has an event handed out again at once, to any consumer, or parked once it has been handed out [GroupSettings.MaxRetries] times
// after the first. Events that follow it, in its stream too, may be handled before it is.
func Retry(reason string) Settlement { return Settlement{persistent.ReadReq_Nack_Retry, reason} }

// ConsumeOptions configure [Store.Consume].
type ConsumeOptions struct {
	// InFlight is the number of events that are received and not settled, those that wait for a handler included; 0 is [DefaultInFlight].
	InFlight int
	// Handlers is the number of events that are handled at a time; 0 is [DefaultHandlers].
	Handlers int
	// Linger is how long an event waits for others before it is handled, so that what is appended and settled because of them shares
	// writes. Zero does not wait.
	Linger time.Duration
	// Key names what an event is about. Events with the same key are handled one after another, in the order in which the group hands
	// them out; others at the same time. nil is their stream. It is called by one goroutine.
	Key func(Recorded) string
}

// Consume hands the events of a group, a persistent subscription to the log, to handle, which says what becomes of each. It goes on until
// ctx ends, the store is closed, or there is no such group, whatever else happens meanwhile: the group's clients are dropped, the
// connection breaks, the event store restarts, another member of its cluster becomes the leader. An event that cannot be decoded is handed
// over with a nil Event, like any other.
//
// When ctx ends no further event is handled, nor when there is no such group any more. Consume returns once those being handled are settled.
// The context of handle ends as soon as that is waited for: a handler that must not be cut short goes on without it.
//
// Every event is handled at least once: until its settlement has reached the event store, and that has written a checkpoint, it may be
// handed out again, to this consumer or another one. Within one call of Consume an event that comes again while it is being handled, or
// shortly after, is not handled twice: its settlement is repeated. One that waits for a handler when the connection is lost is left to the
// consumer to which it comes next.
//
// The order of events is that of the log, for each key, if three conditions hold. A handler does not [Retry] but tries again by itself
// until it settles. The group's [GroupSettings.MessageTimeout] is longer than an event may wait and be handled. And all events with the key
// come to this consumer: with [Pinned] those of one stream do, until a consumer comes or goes; if [GroupSettings.MaxConsumers] is 1 all
// events do, and the other consumers stand by to take over, each waiting in Consume. After a change of consumers the events that the
// former one had not settled come again, and before any later ones.
//
// The error is ctx's, [ErrClosed], [*NoGroup], [*Refused], or another reason for which the event store will never let the group be consumed.
func (s *Store) Consume(ctx context.Context, group string, o ConsumeOptions, handle func(context.Context, Delivery) Settlement) error {
	o.InFlight, o.Handlers = cmp.Or(o.InFlight, DefaultInFlight), cmp.Or(o.Handlers, DefaultHandlers)
	if o.InFlight < 0 || o.Handlers < 0 {
		return fmt.Errorf("consume group %s: events in flight and handlers must not be negative", group)
	}
	if o.Key == nil {
		o.Key = func(r Recorded) string { return r.Stream }
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &consumer{
		store: s, group: group, options: o, handle: handle, ctx: ctx, name: "roombook-" + uuid.NewString(),
		broken:   NewTrouble(s.logger, slog.LevelWarn, "a persistent subscription cannot be read", "a persistent subscription is read again"),
		slots:    make(chan struct{}, o.InFlight),
		handlers: make(chan struct{}, o.Handlers),
		held:     map[uuid.UUID]*heldEvent{},
		queues:   map[string][]*heldEvent{},
	}
	err := c.consume()
	cancel()
	c.stop()
	return fmt.Errorf("consume group %s: %w", group, err)
}

// consumer is a call of [Store.Consume].
type consumer struct {
	store   *Store
	group   string
	options ConsumeOptions
	handle  func(context.Context, Delivery) Settlement
	ctx     context.Context // of handlers, which ends with the caller's, or once there is no group to settle events to
	name    string          // by which the event store knows its connections
	broken  *Trouble

	slots    chan struct{} // one for each event that is not settled
	handlers chan struct{} // one for each that is being handled
	handling sync.WaitGroup

	mu      sync.Mutex
	linger  chan struct{}            // closed when what lingers is to be handled; nil if nothing does
	call    *groupCall               // nil while there is none
	stopped bool                     // no further event is to be handled
	held    map[uuid.UUID]*heldEvent // that are not settled, or were lately
	settled []uuid.UUID              // those of held that are, in their order
	queues  map[string][]*heldEvent  // those of held that are not, by key; the first is being handled, or is next
}

// heldEvent is an event in a consumer's hands.
type heldEvent struct {
	id *shared.UUID // by which it is settled

	// Guarded by the mutex of the consumer:
	delivery   Delivery
	call       *groupCall // on which it came last
	settlement *Settlement
}

// consume reads from the group, again and again.
func (c *consumer) consume() error {
	pauses := newPauses()
	for {
		progress, err := c.read()
		var refused *refusal
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case c.store.connections.closing.Err() != nil:
			return ErrClosed
		case errors.As(err, &refused):
			return refused.err
		}
		if progress {
			pauses.Reset()
		}
		if !errors.Is(err, errTooManyConsumers) { // they are as many as they should be, and this one stands by
			c.broken.Failed(err, "group", c.group)
		}
		if !pause(c.ctx, pauses) {
			return c.ctx.Err()
		}
	}
}

// groupCall is a call that reads from a group. One goroutine sends on it and one receives.
type groupCall struct {
	*call
	stream persistent.PersistentSubscriptions_ReadClient
	since  Position      // the end of the log when the group had accepted the call
	wake   chan struct{} // signalled when there are answers

	// Guarded by the mutex of the consumer:
	progress bool          // an event has come
	answers  []groupAnswer // to be sent
	settled  int64         // the number of answers, sent or to be sent
}

// groupAnswer settles an event.
type groupAnswer struct {
	id *shared.UUID
	Settlement
}

// read reads from the group until the call ends or, with a nil error, ctx or the store does. progress reports whether an event came.
func (c *consumer) read() (progress bool, err error) {
	w, stop := c.store.newIdleContext(context.WithoutCancel(c.ctx)) // the call outlives ctx by the handlers
	defer stop()
	opening := context.AfterFunc(c.ctx, stop)
	of, err := c.store.connections.leader.begin(w)
	if err != nil {
		return false, err
	}
	defer of.done()
	g := &groupCall{call: of, wake: make(chan struct{}, 1)}
	if err := g.open(c); err != nil {
		return false, g.groupFailed(c.group, err)
	}
	if g.since, err = c.store.end(w, c.store.connections.leader); err != nil {
		return false, err
	}
	if !opening() { // from here on the call outlasts ctx
		return false, nil
	}
	w.suspend()
	g.member.answered()
	c.broken.Over("group", c.group)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer g.cancel()
	c.began(g)
	defer c.began(nil)
	sending.Go(func() { c.send(g) })
	ended := make(chan error, 1)
	sending.Go(func() { ended <- c.receive(g) })
	select {
	case err := <-ended:
		return g.progress, g.groupFailed(c.group, err)
	case <-c.ctx.Done():
	case <-w.Done():
	}
	c.stop()
	c.flush(w, g)
	return true, nil
}

// began makes g the call that events are in hand by.
func (c *consumer) began(g *groupCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.call = g
}

// stop lets no further event be handled, and waits for those that are.
func (c *consumer) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.handling.Wait()
}

// open makes the call and waits until the group has accepted it.
func (g *groupCall) open(c *consumer) (err error) {
	ctx := metadata.AppendToOutgoingContext(g, "connection-name", c.name)
	if g.stream, err = g.groups().Read(ctx, g.trailers()); err != nil {
		return err
	}
	err = g.stream.Send(&persistent.ReadReq{Content: &persistent.ReadReq_Options_{Options: &persistent.ReadReq_Options{
		StreamOption: &persistent.ReadReq_Options_All{All: &shared.Empty{}},
		GroupName:    c.group,
		BufferSize:   int32(c.options.InFlight),
		UuidOption: &persistent.ReadReq_Options_UUIDOption{
			Content: &persistent.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}},
		},
	}}})
	if err != nil && !errors.Is(err, io.EOF) { // with EOF, Recv says why
		return err
	}
	_, err = g.stream.Recv()
	return err
}

// receive takes in events until the call ends.
func (c *consumer) receive(g *groupCall) error {
	for {
		message, err := g.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errDropped
		case err != nil:
			return err
		case message.GetEvent() != nil:
			c.take(g, message.GetEvent())
		}
	}
}

// take takes in an event, and has it handled unless it is known already. While too many are not settled it waits.
func (c *consumer) take(g *groupCall, message *persistent.ReadResp_ReadEvent) {
	original := message.GetEvent()
	if message.GetLink() != nil {
		original = message.GetLink()
	}
	id := eventID(original)
	if c.again(g, id, original.GetId()) {
		return
	}
	if message.GetEvent() == nil {
		c.store.logger.Warn("an event that was parked is not in the event store any more, and is skipped", "group", c.group, "link", id)
		c.mu.Lock()
		defer c.mu.Unlock()
		g.answer(original.GetId(), Skip("the event is not there any more"))
		return
	}
	h := &heldEvent{id: original.GetId(), call: g, delivery: Delivery{
		Recorded: c.store.recorded(message.GetEvent()),
		Retries:  int(message.GetRetryCount()),
		Replayed: message.GetLink() != nil,
	}}
	h.delivery.Fresh = h.delivery.Retries == 0 && !h.delivery.Replayed && h.delivery.Position > g.since
	key := c.options.Key(h.delivery.Recorded)
	select {
	case c.slots <- struct{}{}:
	case <-g.Done():
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.held[id] = h
	c.queues[key] = append(c.queues[key], h)
	if len(c.queues[key]) == 1 {
		lingering := c.lingering()
		c.handling.Go(func() {
			if lingering != nil {
				select {
				case <-lingering:
				case <-c.ctx.Done():
				}
			}
			for more := true; more; {
				more = c.handleNext(key)
			}
		})
	}
}

// lingering returns a channel that is closed when an event that has just come is to be handled, or nil if it is at once. The mutex of the consumer must be held.
func (c *consumer) lingering() <-chan struct{} {
	if c.options.Linger == 0 {
		return nil
	}
	if c.linger == nil {
		linger := make(chan struct{})
		c.linger = linger
		time.AfterFunc(c.options.Linger, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.linger = nil
			close(linger)
		})
	}
	return c.linger
}

// again reports whether the event is known. If it is settled the settlement is repeated: it has not arrived in time.
func (c *consumer) again(g *groupCall, id uuid.UUID, by *shared.UUID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.progress = true
	h := c.held[id]
	switch {
	case h == nil:
		return false
	case h.settlement != nil:
		g.answer(by, *h.settlement)
	default:
		h.call, h.delivery.Fresh = g, false
	}
	return true
}

// handleNext handles the first event with a key when it is its turn, and reports whether there are more.
func (c *consumer) handleNext(key string) (more bool) {
	c.handlers <- struct{}{}
	defer func() { <-c.handlers }()
	h, delivery := c.next(key)
	return h != nil && c.settle(key, h, c.handle(c.ctx, delivery))
}

// next is the first event with a key, nil if there is none left or the consumer is to stop. Those that came on a call that has ended are not
// in this consumer's hands any more, and unless they have come again by now they are left to whom they come to.
func (c *consumer) next(key string) (*heldEvent, Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.ctx.Err() != nil {
		return nil, Delivery{}
	}
	for len(c.queues[key]) > 0 {
		h := c.queues[key][0]
		if h.call == c.call {
			delivery := h.delivery
			delivery.inHand = func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return h.call == c.call
			}
			return h, delivery
		}
		delete(c.held, structured(h.id))
		<-c.slots
		c.queues[key] = c.queues[key][1:]
	}
	delete(c.queues, key)
	return nil, Delivery{}
}

// settle settles the first event with a key, and reports whether there are more.
func (c *consumer) settle(key string, h *heldEvent, settlement Settlement) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// If the call on which it came has ended, the event is not in this consumer's hands any more, as the event store sees it. Should it
	// come again, so is its settlement.
	h.call.answer(h.id, settlement)
	id := structured(h.id)
	if settlement.action == persistent.ReadReq_Nack_Retry {
		delete(c.held, id)
	} else {
		h.settlement = &settlement
		if c.settled = append(c.settled, id); len(c.settled) > c.options.InFlight {
			delete(c.held, c.settled[0])
			c.settled = c.settled[1:]
		}
	}
	<-c.slots
	if c.queues[key] = c.queues[key][1:]; len(c.queues[key]) == 0 {
		delete(c.queues, key)
		return false
	}
	return true
}

// answer has an event settled. The mutex of the consumer must be held.
func (g *groupCall) answer(id *shared.UUID, settlement Settlement) {
	g.answers = append(g.answers, groupAnswer{id, settlement})
	g.settled++
	signal(g.wake)
}

// send sends answers until the call ends.
func (c *consumer) send(g *groupCall) {
	for {
		select {
		case <-g.wake:
		case <-g.Done():
			return
		}
		c.mu.Lock()
		answers := g.answers
		g.answers = nil
		c.mu.Unlock()
		for len(answers) > 0 {
			n := 1
			for n < min(len(answers), maxAnswers) && answers[n].Settlement == answers[0].Settlement {
				n++
			}
			if g.stream.Send(answerMessage(answers[:n])) != nil {
				return // receive learns why
			}
			answers = answers[n:]
		}
	}
}

// answerMessage is the message of answers that are all alike.
func answerMessage(answers []groupAnswer) *persistent.ReadReq {
	ids := make([]*shared.UUID, len(answers))
	for i, a := range answers {
		ids[i] = a.id
	}
	if answers[0].action == acknowledged {
		return &persistent.ReadReq{Content: &persistent.ReadReq_Ack_{Ack: &persistent.ReadReq_Ack{Ids: ids}}}
	}
	return &persistent.ReadReq{Content: &persistent.ReadReq_Nack_{Nack: &persistent.ReadReq_Nack{
		Ids: ids, Action: answers[0].action, Reason: answers[0].reason,
	}}}
}

// flush waits, for a time-out at most, until the event store has taken in what was settled: a call that is ended may lose what it sent last,
// and its protocol has no answer to that. But what a connection was sent and has not in flight is settled.
func (c *consumer) flush(w *idleContext, g *groupCall) {
	c.mu.Lock()
	settled := g.settled
	c.mu.Unlock()
	w.resume()
	pauses := newPauses()
	for settled > 0 {
		info, err := g.groups().GetInfo(g, getInfo(c.group))
		if err != nil {
			return
		}
		connections := info.GetSubscriptionInfo().GetConnections()
		i := slices.IndexFunc(connections, func(i *persistent.SubscriptionInfo_ConnectionInfo) bool { return i.GetConnectionName() == c.name })
		if i < 0 || connections[i].GetTotalItems()-int64(connections[i].GetInFlightMessages()) >= settled || !pause(g, pauses) {
			return
		}
	}
}
