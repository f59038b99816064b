package commands

import (
	"context"

	"roombook/domain"
	"roombook/eventstore"
)

// aggregate is what a command decides on: a stream, and whatever has to be settled along with it.
type aggregate[S state[S]] struct {
	stream string
	// may decides whether the actor may give the command.
	may permission[S]
	// fresh says that the stream is named after the command's id, so that it is empty unless the command was asked before.
	fresh bool
	// unreadable lets the command decide even if an event of the stream cannot be decoded.
	unreadable bool
	// settle finishes whatever was left half-done of the aggregate, looking in the given places too, and returns it as it is then stored.
	settle func(ctx context.Context, known loaded[S], places ...place) (loaded[S], error)
	// finish takes the steps that follow from a decision that has just been appended.
	finish func(ctx context.Context, before S, now loaded[S]) error
}

// decision is what a command decides on an aggregate at one revision.
type decision struct {
	events  []eventstore.Proposed // to append; none if there is nothing to do
	refused error                 // why the command is refused, if it is

	// ask is the reservation that has to be made first, if any; its slot is subject to policy. Once it is made, then decides. It is asked for
	// by a booking at a revision.
	ask      *domain.SlotReserved
	policy   domain.Policy
	revision domain.Revision
	then     func(domain.SlotReserved) []domain.Event
}

// decided is the decision of a command that needs no reservation.
func (r Request) decided(events []domain.Event, refused error) (decision, error) {
	return decision{events: r.propose(events), refused: refused}, nil
}

// transact carries out a command: if the actor may give it, it decides on the aggregate as it is remembered, or loads it, and appends at the revision that it decided
// on; if another append came first, it reads what is new and decides again. It returns the aggregate as the command left it.
//
// What is remembered may be behind the stream. An append at its revision is then not done, so that it can do no harm; whatever is answered
// without an append is decided on what is stored. A command with a key that was asked before gets the same answer as then. Before transact
// returns a refusal or a no-op it settles the aggregate: a half-finished command may be the cause. A condition that fails is a refusal too,
// with the lowest precedence. An error of decide means that nothing could be decided.
func transact[S state[S]](ctx context.Context, h *Handler, r Request, a aggregate[S], decide func(context.Context, loaded[S]) (decision, error)) (result loaded[S], err error) {
	ctx, span := eventstore.StartSpan(ctx, "command", a.stream)
	defer func() { span.End(err) }()
	var none loaded[S]
	l := recall[S](h, a.stream) // before the key is claimed: other tries of the command append after that
	key, first, err := h.claim(ctx, r)
	if err != nil {
		return none, err
	}
	read := func() error {
		l = unread[S]()
		if err := l.readOn(ctx, h.store, a.stream); err != nil {
			return err
		}
		l.remember(h, a.stream)
		return nil
	}
	stored := false // l is what was stored at some moment of this call
	switch {
	case a.fresh && first:
		l, stored = unread[S](), true
	case !first || l.revision == eventstore.NoStream:
		if err := read(); err != nil {
			return none, err
		}
		stored = true
	}
	detached, cancel := detach(ctx)
	defer cancel()
	for races := newRaces(h.metrics); ; {
		if l.unreadable != nil && !a.unreadable {
			return none, l.unreadable
		}
		if then, done, err := l.repeated(r, key); err != nil {
			return none, err
		} else if done {
			if _, err := a.settle(detached, l); err != nil {
				return none, unfinished(err)
			}
			return then, nil
		}

		refused, err := a.may(ctx, r.Actor, l.state)
		d := decision{refused: refused}
		if err == nil && refused == nil {
			d, err = decide(ctx, l)
		}
		if err == nil && d.refused == nil && !r.allows(l.revision) {
			d.refused = &ConditionFailed{l.revision}
		}
		if err == nil && d.refused == nil && d.ask != nil {
			err = h.reserve(ctx, r, &d)
		}
		if err != nil {
			return none, err
		}
		if d.refused != nil || len(d.events) == 0 {
			if !stored {
				if err := read(); err != nil {
					return none, err
				}
				stored = true
				continue
			}
			settled, err := a.settle(ctx, l)
			switch {
			case err != nil:
				return none, undecided(err)
			case settled.revision != l.revision:
				l = settled
				continue
			case d.refused != nil:
				return none, d.refused
			default:
				return unchanged(ctx, h, r, settled)
			}
		}

		waiting := ctx
		if d.ask != nil { // the reservation is there, and may be acted upon by others
			waiting = detached
		}
		before := l.state
		err = l.append(waiting, h, a.stream, d.events)
		switch {
		case err == nil:
			if err := a.finish(detached, before, l); err != nil {
				return none, unfinished(err)
			}
			return l, nil
		case !lost(err) && d.ask != nil:
			return none, unfinished(err)
		case !lost(err):
			return none, err
		case d.ask != nil:
			settled, err := a.settle(detached, l, place{d.ask.RoomID, d.ask.Slot.Start})
			if err != nil {
				return none, unfinished(err)
			}
			if then, done := settled.resultOf(followed(*d.ask)); done {
				return then, nil
			}
			l = settled
		}
		stored = true
		if err := races.again(ctx, err); err != nil {
			return none, err
		}
	}
}
