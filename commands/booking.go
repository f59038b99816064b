package commands

import (
	"context"
	"errors"
	"strconv"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

// CreateBooking takes the slot, makes the booking and asks for its confirmation. Taking the slot decides. The booking gets the
// command's id.
func (h *Handler) CreateBooking(ctx context.Context, c CreateBooking) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	id := domain.BookingID(c.ID.String())
	key, err := h.claim(ctx, c.Request)
	if err != nil {
		return Booking{}, err
	}
	if c.Digest != "" {
		b, err := load[domain.Booking](ctx, h.store, id.Stream())
		if err != nil {
			return Booking{}, err
		}
		if then, done, err := b.repeated(c.Request, key); done || err != nil {
			return at(then), err
		}
	}
	ask := c.reservation(eventstore.NoStream)
	ask.BookingID = id
	ask.RoomID, ask.UserID, ask.Slot = c.Room, c.User, c.Slot

	reserved, err := h.reserve(ctx, c.Request, ask, h.policy)
	if err != nil {
		return Booking{}, err
	}
	ctx, cancel := decided(ctx)
	defer cancel()
	b := loaded[domain.Booking]{revision: eventstore.NoStream}
	err = b.append(ctx, h, id.Stream(), followReservation(reserved, domain.DecideCreate(b.state, reserved)))
	if lost(err) {
		if b, err = h.settle(ctx, id, c.Room); err == nil {
			if then, done, err := b.doneBy(c.Request); done || err != nil {
				return at(then), err
			}
			b, _ = b.leftBy(followed(reserved))
		}
	}
	if err != nil {
		return Booking{}, unfinished(err)
	}
	return at(b), nil
}

// reservation begins the SlotReserved of a command that decides on a booking at a revision. A reservation belongs to one
// attempt of the command, which is what the booking's revision tells apart.
func (r Request) reservation(at domain.Revision) domain.SlotReserved {
	id := uuid.NewSHA1(r.ID, []byte("reserve at "+strconv.FormatInt(int64(at), 10)+" "+r.Digest))
	return domain.SlotReserved{
		ReservationID: domain.ReservationID(id.String()),
		At:            r.At,
		Actor:         r.Actor,
		CorrelationID: r.correlation(),
		TraceParent:   r.TraceParent,
		Command:       r.command(),
	}
}

// ChangeBooking changes a booking. A change of room or time first reserves the new slot, then lets the booking stand on it,
// which decides, then releases the old one.
func (h *Handler) ChangeBooking(ctx context.Context, c ChangeBooking) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	change := domain.Change{Room: c.Room, User: c.User, Start: c.Start, End: c.End, At: c.At}
	races := h.races()
	for {
		moves := false
		b, outcome, err := h.transact(ctx, c.Request, c.Booking, func(b domain.Booking) (events []domain.Event, err error) {
			events, moves, err = domain.DecideChange(b, change)
			if err == nil && c.Phase != "" && c.Phase != b.Phase() {
				return nil, &OtherPhase{b.Phase()}
			}
			return events, err
		})
		if err != nil {
			return Booking{}, err
		}
		if outcome == nothingToDo && !moves {
			b, err := unchanged(ctx, h, c.Request, b)
			return at(b), err
		}
		if outcome != nothingToDo {
			return at(b), nil
		}
		b, err = h.move(ctx, c, b, change)
		if err == nil {
			return at(b), nil
		}
		if err := races.again(ctx, err); err != nil {
			return Booking{}, err
		}
	}
}

// move is one attempt to let the booking stand on another reservation. If the booking has moved on meanwhile, so that there is
// something new to decide on, it returns an error for which lost reports true.
func (h *Handler) move(ctx context.Context, c ChangeBooking, b loaded[domain.Booking], change domain.Change) (loaded[domain.Booking], error) {
	from := b.revision
	ask := c.reservation(b.revision)
	ask.BookingID, ask.Replaces = c.Booking, b.state.Reservation
	ask.RoomID, _, ask.Slot = b.state.Target(change)
	if c.IfRevisions != nil || c.UnlessRevisions != nil || c.Phase != "" {
		ask.IfRevision = b.revision
	}
	if c.User != nil {
		ask.UserID = *c.User
	}
	reserved, err := h.reserve(ctx, c.Request, ask, h.policy.ForChange(b.state, change))
	if taken, ok := errors.AsType[*domain.SlotTaken](err); ok {
		// The slot was found taken later than the booking was read. Of a booking that has moved on that may never have been true
		// together: it decides anew.
		now, err := load[domain.Booking](ctx, h.store, c.Booking.Stream())
		switch {
		case err != nil:
			return b, err
		case now.revision == from:
			return b, taken
		default:
			return b, errMovedOn
		}
	}
	if err != nil {
		return b, err
	}
	ctx, cancel := decided(ctx)
	defer cancel()
	failed := b.append(ctx, h, c.Booking.Stream(), followReservation(reserved, domain.DecideMove(b.state, from, reserved)))
	if failed != nil && !lost(failed) {
		return b, unfinished(failed)
	}
	settled, err := h.settle(ctx, c.Booking, ask.RoomID)
	if err != nil {
		return b, unfinished(err)
	}
	if failed == nil {
		return b, nil
	}
	if then, done, err := settled.doneBy(c.Request); done || err != nil {
		return then, err
	}
	if then, moved := settled.leftBy(followed(reserved)); moved {
		return then, nil
	}
	return settled, failed
}

// CancelBooking cancels a booking, which decides, and releases its slot. The booking it returns is in domain.PhaseCancelled.
func (h *Handler) CancelBooking(ctx context.Context, c CancelBooking) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	b, outcome, err := h.transact(ctx, c.Request, c.Booking, func(b domain.Booking) ([]domain.Event, error) {
		return domain.DecideCancel(b, domain.Cancel{Reason: domain.CancelledByUser, At: c.At})
	})
	if err != nil || outcome == repeat {
		return at(b), err
	}
	return h.released(ctx, b)
}

// released brings a booking that was cancelled to rest.
func (h *Handler) released(ctx context.Context, b loaded[domain.Booking], rooms ...domain.RoomID) (Booking, error) {
	ctx, cancel := decided(ctx)
	defer cancel()
	b, err := h.settle(ctx, b.state.ID, rooms...)
	if err != nil {
		return Booking{}, unfinished(err)
	}
	return at(b), nil
}

// outcome is what became of a command.
type outcome int

const (
	done        outcome = iota // its events were appended now
	repeat                     // it had been carried out before
	nothingToDo                // everything is as it asks
)

// transact loads a booking, decides, appends at the revision decided on, and again if that lost a race. Before it refuses or has
// nothing to do, it brings the booking to rest: what was left open may be in the way, and a repeat ends as its first try
// should have. The booking is as the command left it.
func (h *Handler) transact(ctx context.Context, r Request, id domain.BookingID, decide func(domain.Booking) ([]domain.Event, error)) (loaded[domain.Booking], outcome, error) {
	var none loaded[domain.Booking]
	key, err := h.claim(ctx, r)
	if err != nil {
		return none, done, err
	}
	races := h.races()
	for {
		b, err := h.rested(ctx, id)
		if err != nil {
			return none, done, err
		}
		if then, before, err := b.repeated(r, key); err != nil {
			return none, done, err
		} else if before {
			ctx, cancel := decided(ctx)
			defer cancel()
			if _, err := h.settle(ctx, id); err != nil {
				return none, done, unfinished(err)
			}
			return then, repeat, nil
		}
		events, refused := decide(b.state)
		if refused == nil && !r.allows(b.revision) {
			return none, done, &ConditionFailed{b.revision}
		}
		if len(events) == 0 {
			settled, failed := h.settle(ctx, id)
			if failed != nil {
				return none, done, failed
			}
			if settled.revision == b.revision {
				return settled, nothingToDo, refused
			}
			err = errMovedOn
		} else if err = b.append(ctx, h, id.Stream(), r.propose(events)); err == nil {
			return b, done, nil
		}
		if err := races.again(ctx, err); err != nil {
			return none, done, err
		}
	}
}

// rested loads a booking to decide on. If its use started, what is open between the two is finished first.
func (h *Handler) rested(ctx context.Context, id domain.BookingID) (loaded[domain.Booking], error) {
	b, err := load[domain.Booking](ctx, h.store, id.Stream())
	if err != nil || b.state.Phase() != domain.PhaseInUse {
		return b, err
	}
	use, err := load[domain.RealUse](ctx, h.store, b.state.Use.RealUse.Stream())
	if err != nil || use.state.Phase() == domain.UsePhaseStarted {
		return b, err
	}
	return h.settle(ctx, id)
}

// at is a booking with the place where it is written.
func at(b loaded[domain.Booking]) Booking {
	return Booking{Booking: b.state, Revision: b.revision, Position: b.position}
}

// Booking reads a booking as it stands.
func (h *Handler) Booking(ctx context.Context, id domain.BookingID) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	b, err := load[domain.Booking](ctx, h.store, id.Stream())
	if err != nil {
		return Booking{}, err
	}
	if over := b.state.Cancellation; over != nil { // whatever is known of its use
		return Booking{}, &domain.AlreadyCancelled{Booking: id, Reason: over.Reason, At: over.At}
	}
	view, use, err := h.withUse(ctx, b, whole)
	if err == nil && b.state.Phase() == domain.PhaseInUse && use.Phase() == domain.UsePhaseNone {
		// The booking names a real use that cannot be found yet.
		if b, err = h.settle(ctx, id); err == nil {
			view, _, err = h.withUse(ctx, b, whole)
		}
	}
	if err != nil {
		return Booking{}, undecided(err)
	}
	switch view.Phase() {
	case domain.PhaseNone:
		return Booking{}, domain.ErrBookingNotFound
	case domain.PhaseCancelled:
		return Booking{}, &domain.AlreadyCancelled{Booking: id, Reason: view.Cancellation.Reason, At: view.Cancellation.At}
	}
	return view, nil
}

// whole is the bound of a use that is taken as it stands.
func whole(eventstore.Recorded) bool { return true }

// withUse is a booking together with its real use, of which it takes the first events for which upTo holds: a use that has ended
// while the booking's cancellation is still to be written is answered as settled.
func (h *Handler) withUse(ctx context.Context, b loaded[domain.Booking], upTo func(eventstore.Recorded) bool) (view Booking, state domain.RealUse, err error) {
	view = at(b)
	if view.Use == nil {
		return view, state, nil
	}
	use, err := load[domain.RealUse](ctx, h.store, view.Use.RealUse.Stream())
	if err != nil {
		return Booking{}, state, err
	}
	for _, r := range use.events {
		if !upTo(r) {
			break
		}
		if r.Event != nil {
			state = state.Evolve(r.Event)
		}
		view.Position = max(view.Position, r.Position)
	}
	view.Booking = domain.Fold(view.Booking, domain.DecideUseOver(view.Booking, state)...)
	return view, state, nil
}
