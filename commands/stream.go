package commands

import (
	"context"
	"errors"
	"fmt"

	"roombook/domain"
	"roombook/eventstore"
)

// state is the state of an aggregate.
type state[S any] interface{ Evolve(domain.Event) S }

// loaded is an aggregate as its stream was read.
type loaded[S state[S]] struct {
	state    S
	revision domain.Revision // or NoStream
	position eventstore.Position
	events   []eventstore.Recorded
	// unreadable is the error of the first event that cannot be decoded, unless a booking that was cancelled since: then it does not
	// matter any more.
	unreadable error
}

// load reads a stream from its start. If there is an event that nothing can be decided without, it reads on to the end all the same
// and returns the error of that, [*Unreadable].
func load[S state[S]](ctx context.Context, store Store, stream string) (loaded[S], error) {
	l := loaded[S]{revision: eventstore.NoStream}
	if err := l.readOn(ctx, store, stream); err != nil {
		return l, err
	}
	return l, l.unreadable
}

// readTo reads what was appended to the stream since, which has the named revision.
func (l *loaded[S]) readTo(ctx context.Context, store Store, stream string, named domain.Revision) error {
	return readUntil(ctx, named, func() (domain.Revision, error) {
		err := l.readOn(ctx, store, stream)
		return l.revision, err
	})
}

// readOn reads what was appended to the stream since.
func (l *loaded[S]) readOn(ctx context.Context, store Store, stream string) error {
	for r, err := range store.ReadStream(ctx, stream, l.revision+1) {
		if err != nil {
			return err
		}
		l.add(r)
	}
	return nil
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
		ctx, cancel := detach(ctx)
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
func cause[E domain.Event, S state[S]](l loaded[S]) (eventstore.Recorded, E) {
	for i := len(l.events) - 1; i >= 0; i-- {
		if e, ok := l.events[i].Event.(E); ok {
			return l.events[i], e
		}
	}
	var none E
	return eventstore.Recorded{}, none
}

// prefix is the aggregate as the first row of events that are somebody's own left it, and none that came later. It reports false
// if there are no such events.
func (l loaded[S]) prefix(own func(eventstore.Recorded) bool) (then loaded[S], done bool) {
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

// while is the aggregate with the first events, those for which holds reports true.
func (l loaded[S]) while(holds func(eventstore.Recorded) bool) loaded[S] {
	then := loaded[S]{revision: eventstore.NoStream}
	for _, e := range l.events {
		if !holds(e) {
			break
		}
		then.add(e)
	}
	return then
}

// at is the aggregate as it was at a revision.
func (l loaded[S]) at(revision domain.Revision) loaded[S] {
	return l.while(func(e eventstore.Recorded) bool { return e.Revision <= revision })
}
