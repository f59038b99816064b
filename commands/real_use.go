package commands

import (
	"context"
	"errors"
	"time"

	"roombook/domain"
)

// StartUse checks the booking in, which decides, and starts its real use.
func (h *Handler) StartUse(ctx context.Context, c StartUse) (RealUse, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return RealUse{}, err
	}
	defer end()
	b, err := transact(ctx, h, c.Request, h.booking(c.Booking), func(ctx context.Context, b loaded[domain.Booking]) (decision, error) {
		in := domain.CheckIn{StartedAt: c.StartedAt}
		if _, refused := domain.DecideCheckIn(b.state, in, h.policy); refused != nil {
			return decision{refused: refused}, nil
		}
		var err error
		if in.RoomStillInUseBy, err = h.stillInUseBy(ctx, b.state, c.StartedAt); err != nil {
			return decision{}, err
		}
		return c.decided(domain.DecideCheckIn(b.state, in, h.policy))
	})
	if err != nil {
		return RealUse{}, err
	}
	ctx, cancel := detach(ctx)
	defer cancel()
	use, err := h.startedUse(ctx, b)
	if err != nil {
		return RealUse{}, unfinished(err)
	}
	return useView(use.prefixTo(0)), nil // others may have ended it already
}

// stillInUseBy looks for a booking whose use of the booking's room started by the given time and has not ended, among the latest bookings
// of the room by then. Any that cannot be decoded are skipped: nothing is known of their use.
func (h *Handler) stillInUseBy(ctx context.Context, b domain.Booking, at time.Time) (domain.BookingID, error) {
	earlier, err := h.calendars.begun(ctx, b.Room, at, b.ID)
	if err != nil {
		return "", err
	}
	for _, r := range earlier {
		if r.Used {
			continue
		}
		other, err := load[domain.Booking](ctx, h.store, r.BookingID.Stream())
		var now Booking
		if err == nil {
			now, _, err = h.withUse(ctx, other, all)
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
	var b loaded[domain.Booking] // that of the use, settled
	settle := func(ctx context.Context, use loaded[domain.RealUse]) (err error) {
		if use.state.ID != "" {
			b, err = h.settle(ctx, use.state.Booking, place{use.state.Room, use.state.StartedAt})
		}
		return err
	}
	use, err := transact(ctx, h, c.Request, aggregate[domain.RealUse]{
		stream: c.RealUse.Stream(),
		settle: func(ctx context.Context, use loaded[domain.RealUse], _ ...place) (loaded[domain.RealUse], error) {
			return use, settle(ctx, use)
		},
		finish: func(ctx context.Context, _ domain.RealUse, use loaded[domain.RealUse]) error { return settle(ctx, use) },
	}, func(_ context.Context, use loaded[domain.RealUse]) (decision, error) {
		return c.decided(domain.DecideEnd(use.state, domain.EndUse{EndedAt: c.EndedAt, At: c.At}))
	})
	if err != nil {
		return RealUse{}, err
	}
	answer := useView(use)
	answer.Position = max(answer.Position, b.position)
	return answer, nil
}

// RealUse reads a real use.
func (h *Handler) RealUse(ctx context.Context, id domain.RealUseID) (RealUse, error) {
	use, err := load[domain.RealUse](ctx, h.store, id.Stream())
	if err != nil {
		return RealUse{}, err
	}
	if use.state.Phase() == domain.UsePhaseNone {
		return RealUse{}, domain.ErrRealUseNotFound
	}
	return useView(use), nil
}

// useView is a real use and where in the log it is.
func useView(u loaded[domain.RealUse]) RealUse {
	return RealUse{RealUse: u.state, Revision: u.revision, Position: u.position}
}
