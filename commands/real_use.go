package commands

import (
	"context"

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
		return domain.DecideCheckIn(b, c.StartedAt, h.policy)
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

// EndUse ends a real use, which decides, cancels its booking and releases the slot.
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
				if use.state.Phase == domain.UsePhaseEnded { // its end may not have been told to the booking yet
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
			if err := h.unchanged(ctx, c.Request, use.revision); err != nil {
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
	if use.state.Phase == domain.UsePhaseNone {
		return RealUse{}, domain.ErrRealUseNotFound
	}
	return useAt(use), nil
}

// useAt is a real use with the place where it is written.
func useAt(u loaded[domain.RealUse]) RealUse {
	return RealUse{RealUse: u.state, Revision: u.revision, Position: u.position}
}
