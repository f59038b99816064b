package commands

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

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
	use := unread[domain.RealUse]()
	started := h.booking(c.Booking, h.permitBooking(domain.UseRoom))
	started.finish = func(ctx context.Context, _ domain.Booking, now loaded[domain.Booking]) (err error) {
		use, err = h.startUse(ctx, now, use)
		return err
	}
	b, err := transact(ctx, h, c.Request, started, func(ctx context.Context, b loaded[domain.Booking]) (decision, error) {
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
	if use.revision == eventstore.NoStream { // the command is a repeat
		ctx, cancel := detach(ctx)
		defer cancel()
		if use, err = h.startedUse(ctx, b); err != nil {
			return RealUse{}, unfinished(err)
		}
	}
	return realUseOf(use.asOf(0)), nil // others may have ended it already
}

// stillInUseBy looks for a booking whose use of the booking's room started by the given time and has not ended, among the latest bookings
// of the room by then. Any that cannot be decoded are skipped: nothing is known of their use.
//
// No revision guards the answer, so the bookings are read. The calendar is not if it is cached and has no earlier booking: it may lack
// some that another process has made, but only until this one first comes across anything that another process has written.
func (h *Handler) stillInUseBy(ctx context.Context, b domain.Booking, at time.Time) (domain.BookingID, error) {
	if cal := h.calendars.cached(b.Room); cal != nil && !h.calendars.shared.Load() {
		if begun, complete := lastBegun(cal.Calendar, at, b.ID); complete && len(begun) == 0 {
			return "", nil
		}
	}
	begun, err := h.calendars.begun(ctx, b.Room, at, b.ID)
	if err != nil {
		return "", err
	}
	inUse := make([]bool, len(begun))
	reading, ctx := errgroup.WithContext(ctx)
	for i, r := range begun {
		reading.Go(func() (err error) {
			defer func() {
				if p := recover(); p != nil { // which would end the program
					err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			other, err := current[domain.Booking](ctx, h, r.BookingID.Stream())
			if err != nil || other.unreadable != nil {
				return err
			}
			now, _, err := h.withUse(ctx, other, all)
			if _, unreadable := errors.AsType[*Unreadable](err); unreadable {
				return nil
			}
			inUse[i] = err == nil && now.Phase() == domain.PhaseInUse && !now.Use.StartedAt.After(at)
			return err
		})
	}
	if err := reading.Wait(); err != nil {
		return "", err
	}
	if i := slices.Index(inUse, true); i >= 0 {
		return begun[i].BookingID, nil
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
	use, err := transact(ctx, h, c.Request, aggregate[domain.RealUse]{
		stream: c.RealUse.Stream(),
		may: func(ctx context.Context, actor domain.Actor, use domain.RealUse) (refused, err error) {
			if use.ID == "" {
				return nil, nil
			}
			return h.permit(ctx, actor, domain.UseRoom, use.User, use.Room)
		},
		settle: func(ctx context.Context, use loaded[domain.RealUse], _ ...place) (_ loaded[domain.RealUse], err error) {
			if use.state.ID != "" {
				b, err = h.settle(ctx, use.state.Booking, place{use.state.Room, use.state.StartedAt})
			}
			return use, err
		},
		finish: func(ctx context.Context, _ domain.RealUse, use loaded[domain.RealUse]) (err error) {
			b, err = h.useOver(ctx, use)
			return err
		},
	}, func(_ context.Context, use loaded[domain.RealUse]) (decision, error) {
		return c.decided(domain.DecideEnd(use.state, domain.EndUse{EndedAt: c.EndedAt, At: c.At}))
	})
	if err != nil {
		return RealUse{}, err
	}
	answer := realUseOf(use)
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
	return realUseOf(use), nil
}

// realUseOf is a real use and where in the log it is.
func realUseOf(u loaded[domain.RealUse]) RealUse {
	return RealUse{RealUse: u.state, Revision: u.revision, Position: u.position}
}
