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

// folded is an aggregate as of an event of its stream. It is a value: what it leads to is not written to.
type folded[S state[S]] struct {
	state    S
	revision domain.Revision // or NoStream
	position eventstore.Position
}

// loaded is an aggregate as of the events that are known of its stream: it was remembered at some revision, or was not, and the events
// after that were read, or written by this very command.
type loaded[S state[S]] struct {
	folded[S]
	remembered folded[S]
	events     []eventstore.Recorded // after what was remembered
	// unreadable is the error of the first event that cannot be decoded. It is nil again once the booking has been cancelled: then
	// nothing depends on that event any more.
	unreadable error
}

// unread is an aggregate of whose stream nothing is known.
func unread[S state[S]]() loaded[S] { return follows(folded[S]{revision: eventstore.NoStream}) }

func follows[S state[S]](f folded[S]) loaded[S] { return loaded[S]{folded: f, remembered: f} }

// recall returns the aggregate as it is remembered, which may be behind its stream, or unread.
func recall[S state[S]](h *Handler, stream string) loaded[S] {
	if f, ok := h.cache.get(stream).(*folded[S]); ok {
		return follows(*f)
	}
	return unread[S]()
}

// remember remembers the aggregate for the commands to come, if they can do anything with it: whatever is asked of one that is over is
// refused or a repeat, which is decided on what is stored.
func (l *loaded[S]) remember(h *Handler, stream string) {
	switch s, ok := any(l.state).(interface{ Live() bool }); {
	case !ok: // a key
	case l.unreadable == nil && s.Live():
		f := l.folded
		h.cache.keep(stream, &f)
	default:
		h.cache.keep(stream, nil)
	}
}

// Approximate sizes of what is cached, measured on a heap with 100,000 bookings.
const (
	aggregateBytes = 768
	formerBytes    = 112
)

func (f *folded[S]) bytes() int {
	bytes := aggregateBytes
	if b, ok := any(f.state).(domain.Booking); ok {
		bytes += len(b.Former)*formerBytes + len(b.Confirm.Reason)
	}
	return bytes
}

// load reads a stream from its start. If an event cannot be decoded it reads to the end all the same, and returns [*Unreadable].
func load[S state[S]](ctx context.Context, store Store, stream string) (loaded[S], error) {
	l := unread[S]()
	if err := l.readOn(ctx, store, stream); err != nil {
		return l, err
	}
	return l, l.unreadable
}

// current returns the aggregate as it is stored: as it is remembered, with what was appended to its stream since.
func current[S state[S]](ctx context.Context, h *Handler, stream string) (loaded[S], error) {
	l := recall[S](h, stream)
	err := l.readOn(ctx, h.store, stream)
	return l, err
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

// append appends events at the revision that is known, folds them, and remembers the aggregate. If the stream has moved on meanwhile it
// reads what is new, and returns an error for which lost reports true.
func (l *loaded[S]) append(ctx context.Context, h *Handler, stream string, events []eventstore.Proposed) error {
	own, err := l.beginAppend(ctx, h, stream)
	if err != nil {
		return err
	}
	err = func() error {
		defer func() { h.inFlight.end(stream, own) }()
		ctx, cancel := detach(ctx)
		defer cancel()
		at, err := h.store.Append(ctx, stream, l.revision, events...)
		if wrong, ok := errors.AsType[*eventstore.WrongRevision](err); ok {
			own.named = wrong.Actual
		}
		if err != nil {
			return err
		}
		own.named = at.Revision
		first := at.Revision - domain.Revision(len(events)) + 1
		for i, e := range events {
			l.add(eventstore.Recorded{ID: at.IDs[i], Stream: stream, Revision: first + domain.Revision(i), Position: at.Position, Type: e.Event.EventType(), Event: e.Event, Metadata: e.Metadata})
		}
		l.remember(h, stream)
		return nil
	}()
	if lost(err) {
		if own.named < l.revision { // the stream was deleted
			*l = unread[S]()
		}
		if err := l.readTo(ctx, h.store, stream, own.named); err != nil {
			return err
		}
		l.remember(h, stream)
	}
	return err
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

// while is the aggregate as of what was remembered and its first events, up to the first one for which in reports false.
func (l loaded[S]) while(in func(eventstore.Recorded) bool) loaded[S] {
	then := follows(l.remembered)
	for _, e := range l.events {
		if !in(e) {
			break
		}
		then.add(e)
	}
	return then
}

// asOf is the aggregate as of a revision.
func (l loaded[S]) asOf(revision domain.Revision) loaded[S] {
	return l.while(func(e eventstore.Recorded) bool { return e.Revision <= revision })
}

// resultOf is the aggregate as the first consecutive events for which own reports true left it. It reports whether there are any.
func (l loaded[S]) resultOf(own func(eventstore.Recorded) bool) (then loaded[S], found bool) {
	then = l.while(func(e eventstore.Recorded) bool {
		is := own(e)
		past := found && !is
		found = found || is
		return !past
	})
	return then, found
}
