package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// loaded is an aggregate as its stream was read.
type loaded[S interface{ Evolve(domain.Event) S }] struct {
	state    S
	revision domain.Revision // or NoStream
	position eventstore.Position
	events   []eventstore.Recorded
	// unreadable is the error of the first event that cannot be decoded, unless a booking that was cancelled since: then it does not
	// matter any more.
	unreadable error
}

// load reads a stream from its start.
func load[S interface{ Evolve(domain.Event) S }](ctx context.Context, store Store, stream string) (loaded[S], error) {
	l := loaded[S]{revision: eventstore.NoStream}
	err := l.readOn(ctx, store, stream)
	return l, err
}

// readUntil reads until there is the revision that the event store has named: after a lost race, the event that won may only be
// readable some milliseconds later.
func readUntil(ctx context.Context, named domain.Revision, read func() (domain.Revision, error)) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 16*time.Millisecond) {
		revision, err := read()
		if err != nil || revision >= named {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// readTo reads what was appended to the stream since, which has the named revision.
func (l *loaded[S]) readTo(ctx context.Context, store Store, stream string, named domain.Revision) error {
	return readUntil(ctx, named, func() (domain.Revision, error) {
		err := l.readOn(ctx, store, stream)
		return l.revision, err
	})
}

// readOn reads what was appended to the stream since. If there is an event that nothing can be decided without, it reads on to the end
// all the same and returns l.unreadable.
func (l *loaded[S]) readOn(ctx context.Context, store Store, stream string) error {
	for r, err := range store.ReadStream(ctx, stream, l.revision+1) {
		if err != nil {
			return err
		}
		l.add(r)
	}
	return l.unreadable
}

// Unreadable means that an event that a command has to decide on cannot be decoded: it was written by a newer version of
// the program, or is damaged. Nothing can be decided on its stream by this version; other streams are not concerned.
type Unreadable struct {
	Stream   string
	Revision domain.Revision
	Type     string
}

func (e *Unreadable) Error() string {
	return fmt.Sprintf("event %d of stream %s, %s, cannot be decoded by this version of the program", e.Revision, e.Stream, e.Type)
}

// readable reports an event that a fold must not skip. An event of an unknown type can be skipped.
func readable(r eventstore.Recorded) error {
	if r.Event == nil && eventstore.Known(r.Type) {
		return &Unreadable{Stream: r.Stream, Revision: r.Revision, Type: r.Type}
	}
	return nil
}

func (l *loaded[S]) add(r eventstore.Recorded) {
	l.revision, l.position = r.Revision, r.Position
	l.events = append(l.events, r)
	if err := readable(r); err != nil && l.unreadable == nil {
		l.unreadable = err
	}
	if _, over := r.Event.(domain.BookingCancelled); over {
		l.unreadable = nil
	}
	if r.Event != nil {
		l.state = l.state.Evolve(r.Event)
	}
}

// append appends events at the revision that was read, and folds them. If the stream has moved on meanwhile, it reads what is new
// and returns an error for which lost reports true.
func (l *loaded[S]) append(ctx context.Context, h *Handler, stream string, events []eventstore.Proposed) error {
	own, err := l.takeOff(ctx, h, stream)
	if err != nil {
		return err
	}
	at, err := func() (at eventstore.Appended, err error) {
		defer func() { h.inFlight.land(stream, own) }()
		ctx, cancel := decided(ctx)
		defer cancel()
		at, err = h.store.Append(ctx, stream, l.revision, events...)
		if wrong, ok := errors.AsType[*eventstore.WrongRevision](err); ok {
			own.named = wrong.Actual
		} else if err == nil {
			own.named = at.Revision
		}
		return at, err
	}()
	if lost(err) {
		if err := l.readTo(ctx, h.store, stream, own.named); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	first := at.Revision - domain.Revision(len(events)) + 1
	for i, e := range events {
		l.add(eventstore.Recorded{ID: at.IDs[i], Stream: stream, Revision: first + domain.Revision(i), Position: at.Position, Type: e.Event.EventType(), Event: e.Event, Metadata: e.Metadata})
	}
	return nil
}

// takeOff begins the append of this process to the stream, once no other is under way. If one was and has changed the stream, it
// reads what is new and returns errMovedOn.
func (l *loaded[S]) takeOff(ctx context.Context, h *Handler, stream string) (*flight, error) {
	read := l.revision
	for {
		own, other := h.inFlight.takeOff(stream)
		if other == nil {
			return own, nil
		}
		if err := other.wait(ctx); err != nil {
			return nil, err
		}
		if err := l.readTo(ctx, h.store, stream, other.named); err != nil {
			return nil, err
		}
		if l.revision != read {
			return nil, errMovedOn
		}
	}
}

// cause is the last event of the given kind: the one whose consequence is open.
func cause[E domain.Event, S interface{ Evolve(domain.Event) S }](l loaded[S]) (eventstore.Recorded, E) {
	for i := len(l.events) - 1; i >= 0; i-- {
		if e, ok := l.events[i].Event.(E); ok {
			return l.events[i], e
		}
	}
	var none E
	return eventstore.Recorded{}, none
}

// propose gives a command's deciding events their metadata.
func (r Request) propose(events []domain.Event) []eventstore.Proposed {
	return propose(r.metadata(), events)
}

func (r Request) metadata() eventstore.Metadata {
	return eventstore.Metadata{
		CorrelationID: r.correlation(),
		CausationID:   r.ID.String(),
		Actor:         r.Actor,
		OccurredAt:    r.At,
		TraceParent:   r.TraceParent,
		Command:       r.command(),
	}
}

// command names a command that may be asked again: its id and digest.
func (r Request) command() string {
	if r.Digest == "" {
		return ""
	}
	return r.ID.String() + "/" + r.Digest
}

// allows reports whether the command may change a resource at the revision.
func (r Request) allows(revision domain.Revision) bool {
	return (r.IfRevisions == nil || slices.Contains(r.IfRevisions, revision)) && !slices.Contains(r.UnlessRevisions, revision)
}

// doneBy looks for what the command wrote when it was asked before. It is the aggregate as the command left it: with its own
// events, and none that came later.
func (l loaded[S]) doneBy(r Request) (then loaded[S], done bool, err error) {
	if r.Digest == "" {
		return then, false, nil
	}
	reused := false
	then, done = l.leftBy(func(e eventstore.Recorded) bool {
		id, digest, _ := strings.Cut(e.Metadata.Command, "/")
		own := id == r.ID.String()
		reused = reused || own && digest != r.Digest
		return own
	})
	if reused {
		return loaded[S]{}, false, ErrKeyReused
	}
	return then, done, nil
}

// leftBy is the aggregate as the first row of events that are somebody's own left it, and none that came later. It reports false
// if there are no such events.
func (l loaded[S]) leftBy(own func(eventstore.Recorded) bool) (then loaded[S], done bool) {
	then.revision = eventstore.NoStream
	for _, e := range l.events {
		is := own(e)
		if done && !is {
			break
		}
		done = is
		then.add(e)
	}
	return then, done
}

// followed tells the events that followed from the reservation.
func followed(r domain.SlotReserved) func(eventstore.Recorded) bool {
	return func(e eventstore.Recorded) bool { return e.Metadata.CausationID == string(r.ReservationID) }
}

func (r Request) correlation() string {
	if r.CorrelationID != "" {
		return r.CorrelationID
	}
	return r.ID.String()
}

// follow gives the events that follow from a stored one their metadata. It depends on nothing else, so whoever appends them,
// appends the same.
func follow(from eventstore.Recorded, events []domain.Event) []eventstore.Proposed {
	m := from.Metadata
	m.CausationID = from.ID.String()
	return propose(m, events)
}

// followReservation is follow for the event that made the reservation, whose id stands for that event's.
func followReservation(r domain.SlotReserved, events []domain.Event) []eventstore.Proposed {
	m := eventstore.Metadata{
		CorrelationID: r.CorrelationID,
		CausationID:   string(r.ReservationID),
		Actor:         r.Actor,
		OccurredAt:    r.At,
		TraceParent:   r.TraceParent,
		Command:       r.Command,
	}
	return propose(m, events)
}

func propose(m eventstore.Metadata, events []domain.Event) []eventstore.Proposed {
	proposed := make([]eventstore.Proposed, len(events))
	for i, e := range events {
		proposed[i] = eventstore.Proposed{Event: e, Metadata: m}
	}
	return proposed
}

// lost reports whether an append lost a race, so that there is something new to read.
func lost(err error) bool {
	_, wrong := errors.AsType[*eventstore.WrongRevision](err)
	return wrong || errors.Is(err, errMovedOn)
}
