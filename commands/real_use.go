package commands

import (
	"context"
	"errors"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// StartUse checks the booking in, which decides, and starts its real use.
func (h *Handler) StartUse(ctx context.Context, c StartUse) (RealUse, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return RealUse{}, err
	}
	defer end()
	b, _, err := h.transact(ctx, c.Request, c.Booking, func(b domain.Booking) ([]domain.Event, error) {
		in := domain.CheckIn{StartedAt: c.StartedAt}
		if _, err := domain.DecideCheckIn(b, in, h.policy); err != nil {
			return nil, err
		}
		var err error
		if in.RoomStillInUseBy, err = h.stillInUseBy(ctx, b, c.StartedAt); err != nil {
			return nil, err
		}
		return domain.DecideCheckIn(b, in, h.policy)
	})
	if err != nil {
		return RealUse{}, err
	}
	ctx, cancel := decided(ctx)
	defer cancel()
	use, err := h.startedUse(ctx, b)
	if err != nil && !lost(err) {
		return RealUse{}, unfinished(err)
	}
	// Somebody else may have finished the start, and a third have ended the use meanwhile.
	started := loaded[domain.RealUse]{revision: eventstore.NoStream}
	started.add(use.events[0])
	return useAt(started), nil
}

// mostLookedAt bounds how many bookings are looked at for one whose use of the room has not ended.
const mostLookedAt = 10

// stillInUseBy looks for a booking whose use of the booking's room started by the time and has not ended, among the last that the room
// was taken for by then. One that cannot be read is passed over: it says nothing of its use.
func (h *Handler) stillInUseBy(ctx context.Context, b domain.Booking, at time.Time) (domain.BookingID, error) {
	calendar, err := h.calendars.read(ctx, b.Room)
	if err != nil {
		return "", err
	}
	left := mostLookedAt
	for r := range calendar.Begun(at) {
		if r.BookingID == b.ID {
			continue
		}
		if left--; left < 0 {
			break
		}
		if r.Used {
			continue
		}
		other, err := load[domain.Booking](ctx, h.store, r.BookingID.Stream())
		var now Booking
		if err == nil {
			now, _, err = h.withUse(ctx, other, whole)
		}
		if _, unreadable := errors.AsType[*Unreadable](err); unreadable {
			continue
		}
		if err != nil {
			return "", err
		}
		if now.Phase() == domain.PhaseInUse && !now.Use.StartedAt.After(at) {
			return now.ID, nil
		}
	}
	return "", nil
}

// EndUse ends a real use, which decides, cancels its booking and releases what is left of the slot.
func (h *Handler) EndUse(ctx context.Context, c EndUse) (RealUse, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return RealUse{}, err
	}
	defer end()
	key, err := h.claim(ctx, c.Request)
	if err != nil {
		return RealUse{}, err
	}
	races := h.races()
	for {
		use, err := load[domain.RealUse](ctx, h.store, c.RealUse.Stream())
		if err != nil {
			return RealUse{}, err
		}
		ended, done, err := use.repeated(c.Request, key)
		if err != nil {
			return RealUse{}, err
		}
		var events []domain.Event
		if !done {
			if events, err = domain.DecideEnd(use.state, domain.EndUse{EndedAt: c.EndedAt, At: c.At}); err != nil {
				if use.state.Phase() == domain.UsePhaseEnded { // its end may not have been told to the booking yet
					if _, err := h.settle(ctx, use.state.Booking); err != nil {
						return RealUse{}, undecided(err)
					}
				}
				return RealUse{}, err
			}
			if !c.allows(use.revision) {
				return RealUse{}, &ConditionFailed{use.revision}
			}
		}
		if len(events) > 0 {
			if err := use.append(ctx, h, c.RealUse.Stream(), c.propose(events)); err != nil {
				if err := races.again(ctx, err); err != nil {
					return RealUse{}, err
				}
				continue
			}
		} else if !done {
			if use, err = unchanged(ctx, h, c.Request, use); err != nil {
				return RealUse{}, err
			}
		}
		ctx, cancel := decided(ctx)
		defer cancel()
		b, err := h.settle(ctx, use.state.Booking)
		if err != nil {
			return RealUse{}, unfinished(err)
		}
		if !done {
			ended = use
		}
		answer := useAt(ended)
		answer.Position = max(answer.Position, b.position)
		return answer, nil
	}
}

// RealUse reads a real use as it stands.
func (h *Handler) RealUse(ctx context.Context, id domain.RealUseID) (RealUse, error) {
	use, err := load[domain.RealUse](ctx, h.store, id.Stream())
	if err != nil {
		return RealUse{}, err
	}
	if use.state.Phase() == domain.UsePhaseNone {
		return RealUse{}, domain.ErrRealUseNotFound
	}
	return useAt(use), nil
}

// useAt is a real use with the place where it is written.
func useAt(u loaded[domain.RealUse]) RealUse {
	return RealUse{RealUse: u.state, Revision: u.revision, Position: u.position}
}
