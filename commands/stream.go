package commands

import (
	"context"
	"errors"
	"fmt"

	"roombook/domain"
	"roombook/eventstore"
)

// state is what a stream is folded into.
type state[S any] interface{ Evolve(domain.Event) S }

// loaded is an aggregate as of the events that were read of its stream.
type loaded[S state[S]] struct {
	state    S
	revision domain.Revision // or NoStream
	position eventstore.Position
	events   []eventstore.Recorded
	// unreadable is the error of the first event that cannot be decoded. It is nil again once the booking has been cancelled: then
	// nothing depends on that event any more.
	unreadable error
}

// load reads a stream from its start. If an event cannot be decoded it reads to the end all the same, and returns [*Unreadable].
func load[S state[S]](ctx context.Context, store Store, stream string) (loaded[S], error) {
	l := loaded[S]{revision: eventstore.NoStream}
	if err := l.readOn(ctx, store, stream); err != nil {
		return l, err
	}
	return l, l.unreadable
}

// readTo reads what was appended to the stream since, which goes up to the named revision at least.
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

// Unreadable means that an event which a command depends on cannot be decoded: it was written by a newer version of the program, or is
// damaged. This version can decide nothing on its stream; other streams are not affected.
type Unreadable struct {
	Stream   string
	Revision domain.Revision
	Type     string
}

func (e *Unreadable) Error() string {
	return fmt.Sprintf("event %d of stream %s, %s, cannot be decoded by this version of the program", e.Revision, e.Stream, e.Type)
}

// readable returns an error for an event that could not be decoded and must not be skipped. Events of unknown types may be.
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

// append appends events at the revision that was read, and folds them. If the stream has moved on meanwhile it reads what is new,
// and returns an error for which lost reports true.
func (l *loaded[S]) append(ctx context.Context, h *Handler, stream string, events []eventstore.Proposed) error {
	own, err := l.beginAppend(ctx, h, stream)
	if err != nil {
		return err
	}
	at, err := func() (at eventstore.Appended, err error) {
		defer func() { h.inFlight.end(stream, own) }()
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

// beginAppend begins an append to the stream, once this process has no other in flight. If it had, and the stream was changed, it
// reads what is new and returns errMovedOn.
func (l *loaded[S]) beginAppend(ctx context.Context, h *Handler, stream string) (*inFlightAppend, error) {
	read := l.revision
	for {
		own, other := h.inFlight.begin(stream)
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

// cause is the last event of the given type, the one that a step follows from.
func cause[E domain.Event, S state[S]](l loaded[S]) (eventstore.Recorded, E) {
	for i := len(l.events) - 1; i >= 0; i-- {
		if e, ok := l.events[i].Event.(E); ok {
			return l.events[i], e
		}
	}
	var none E
	return eventstore.Recorded{}, none
}

// prefix is the aggregate as of its first events, up to the first one for which in reports false.
func (l loaded[S]) prefix(in func(eventstore.Recorded) bool) loaded[S] {
	then := loaded[S]{revision: eventstore.NoStream}
	for _, e := range l.events {
		if !in(e) {
			break
		}
		then.add(e)
	}
	return then
}

// prefixTo is the aggregate as of a revision.
func (l loaded[S]) prefixTo(revision domain.Revision) loaded[S] {
	return l.prefix(func(e eventstore.Recorded) bool { return e.Revision <= revision })
}

// prefixBy is the aggregate as the first consecutive events for which own reports true left it. It reports whether there are any.
func (l loaded[S]) prefixBy(own func(eventstore.Recorded) bool) (then loaded[S], found bool) {
	then = l.prefix(func(e eventstore.Recorded) bool {
		is := own(e)
		past := found && !is
		found = found || is
		return !past
	})
	return then, found
}
