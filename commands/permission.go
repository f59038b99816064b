package commands

import (
	"context"

	"roombook/domain"
)

// permission decides whether an actor may carry out a command on an aggregate as it is. It returns why they may not, if so; an error means
// that it could not be decided.
type permission[S state[S]] func(ctx context.Context, actor domain.Actor, now S) (refused, err error)

// permit asks the table whether an actor may do something with what belongs to a user and is in a room. The approvers that the room itself
// names are only looked up if it depends on them.
func (h *Handler) permit(ctx context.Context, actor domain.Actor, action domain.Action, owner domain.UserID, room domain.RoomID) (refused, err error) {
	relation := actor.To(owner, room)
	if refused = actor.May(action, relation); refused == nil || relation != domain.SomebodyElse || actor.May(action, domain.OfOwnRoom) != nil {
		return refused, nil
	}
	about, err := h.calendars.about(ctx, room)
	if err != nil {
		return nil, err
	}
	return actor.May(action, actor.To(owner, room, about.Details.Approvers...)), nil
}

// permitBooking is the permission to do something with a booking. One that does not exist is nobody's: that is for the command to say.
func (h *Handler) permitBooking(action domain.Action) permission[domain.Booking] {
	return func(ctx context.Context, actor domain.Actor, b domain.Booking) (refused, err error) {
		if b.ID == "" {
			return nil, nil
		}
		return h.permit(ctx, actor, action, b.User, b.Room)
	}
}

// permitSlot is the permission to book a room for a user, also against the room's rules, which only those may override who may set them.
func (h *Handler) permitSlot(ctx context.Context, actor domain.Actor, user domain.UserID, room domain.RoomID, override bool) (refused, err error) {
	if override {
		if refused := actor.May(domain.ManageRooms, domain.SomebodyElse); refused != nil {
			return refused, nil
		}
	}
	return h.permit(ctx, actor, domain.Book, user, room)
}

// permitAnything is the permission for something that is the system's, and nobody's in particular.
func permitAnything[S state[S]](action domain.Action) permission[S] {
	return func(_ context.Context, actor domain.Actor, _ S) (refused, err error) {
		return actor.May(action, domain.SomebodyElse), nil
	}
}
