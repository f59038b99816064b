package commands

import (
	"context"
	"errors"

	"roombook/domain"
	"roombook/eventstore"
)

// ReportFault reports that something in a room is broken. If that is known already, the fault that it returns is the one that is open, whose
// id is not the command's.
func (h *Handler) ReportFault(ctx context.Context, c ReportFault) (Fault, error) {
	reported := domain.RoomFaultReported{FaultID: domain.FaultID(c.ID.String()), Equipment: c.Equipment, Text: c.Text, By: c.Actor.User, At: c.At}
	f, err := h.onFaults(ctx, c.Request, c.Room, domain.ReportFault, func(ctx context.Context, f loaded[domain.RoomFaults]) (decision, error) {
		r, err := h.calendars.about(ctx, c.Room)
		if err != nil {
			return decision{}, err
		}
		return c.decided(domain.DecideReportFault(f.state, r, reported))
	})
	if errors.Is(err, eventstore.ErrDeleted) {
		return Fault{}, &domain.Invalid{Faults: []domain.Fault{{Field: "roomId", Detail: "has no faults any more: they were deleted from the event store for good"}}}
	}
	if err != nil {
		return Fault{}, err
	}
	fault, own := f.state.Find(reported.FaultID)
	if !own {
		fault, _ = f.state.Known(c.Equipment, c.Text)
	}
	return Fault{RoomFault: fault, Revision: f.revision, Position: f.position}, nil
}

// SettleFault settles a fault of a room. One that was settled before stays as it is.
func (h *Handler) SettleFault(ctx context.Context, c SettleFault) (Fault, error) {
	settled := domain.RoomFaultSettled{FaultID: c.Fault, By: c.Actor.User, Note: c.Note, At: c.At}
	f, err := h.onFaults(ctx, c.Request, c.Room, domain.SettleFault, func(_ context.Context, f loaded[domain.RoomFaults]) (decision, error) {
		return c.decided(domain.DecideSettleFault(f.state, settled))
	})
	if errors.Is(err, eventstore.ErrDeleted) {
		return Fault{}, domain.ErrFaultNotFound
	}
	if err != nil {
		return Fault{}, err
	}
	fault, _ := f.state.Find(c.Fault)
	return Fault{RoomFault: fault, Revision: f.revision, Position: f.position}, nil
}

// onFaults carries out a command on the faults of a room.
func (h *Handler) onFaults(ctx context.Context, r Request, room domain.RoomID, action domain.Action, decide func(context.Context, loaded[domain.RoomFaults]) (decision, error)) (none loaded[domain.RoomFaults], err error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return none, err
	}
	defer end()
	return transact(ctx, h, r, aggregate[domain.RoomFaults]{
		stream: room.FaultsStream(),
		may: func(ctx context.Context, actor domain.Actor, _ domain.RoomFaults) (refused, err error) {
			return h.permit(ctx, actor, action, "", room)
		},
		settle: func(_ context.Context, f loaded[domain.RoomFaults], _ ...place) (loaded[domain.RoomFaults], error) {
			return f, nil
		},
		finish: func(context.Context, domain.RoomFaults, loaded[domain.RoomFaults]) error { return nil },
	}, decide)
}

// Faults reads the faults of a registered room: those that are open, and the last ones that were settled; none if somebody
// deleted their stream.
func (h *Handler) Faults(ctx context.Context, room domain.RoomID) (Faults, error) {
	if _, err := h.Room(ctx, room); err != nil {
		return Faults{}, err
	}
	f, err := load[domain.RoomFaults](ctx, h.store, room.FaultsStream())
	if err != nil && !errors.Is(err, eventstore.ErrDeleted) {
		return Faults{}, err
	}
	return Faults{RoomFaults: f.state, Revision: f.revision, Position: f.position}, nil
}
