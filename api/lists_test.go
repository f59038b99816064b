package api

import (
	"context"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// lists are in-memory read models. They return all they hold, and record the last query.
type lists struct {
	bookings      []projections.BookingList
	roomUses      []projections.RoomUseList
	notifications []projections.Notification
	rooms         []projections.RoomList
	occupancy     projections.Occupancy
	availability  projections.Availability
	next          string
	total         *int64
	more          bool
	position      eventstore.Position
	err           error

	asked          projections.Query
	askedRooms     projections.RoomQuery
	askedOccupancy projections.OccupancyQuery
	askedFree      projections.AvailabilityQuery
	min            eventstore.Position
}

func page[T any](l *lists, q projections.Query, items []T) (projections.Page[T], error) {
	l.asked = q
	if l.err != nil {
		return projections.Page[T]{}, l.err
	}
	return projections.Page[T]{Items: items, Next: l.next, Total: l.total, More: l.more, Position: l.position}, nil
}

func entry[T any](l *lists, min eventstore.Position, items []T, is func(T) bool) (T, error) {
	var none T
	l.min = min
	if l.err != nil {
		return none, l.err
	}
	i := slices.IndexFunc(items, is)
	if i < 0 {
		return none, projections.ErrNotFound
	}
	return items[i], nil
}

func (l *lists) BookingLists(_ context.Context, q projections.Query) (projections.Page[projections.BookingList], error) {
	return page(l, q, l.bookings)
}

func (l *lists) BookingList(_ context.Context, id domain.BookingID, min eventstore.Position) (projections.BookingList, error) {
	return entry(l, min, l.bookings, func(b projections.BookingList) bool { return b.Booking == id })
}

func (l *lists) RoomUseLists(_ context.Context, q projections.Query) (projections.Page[projections.RoomUseList], error) {
	return page(l, q, l.roomUses)
}

func (l *lists) RoomUseList(_ context.Context, id domain.BookingID, min eventstore.Position) (projections.RoomUseList, error) {
	return entry(l, min, l.roomUses, func(u projections.RoomUseList) bool { return u.Booking == id })
}

func (l *lists) Notifications(_ context.Context, q projections.Query) (projections.Page[projections.Notification], error) {
	return page(l, q, l.notifications)
}

func (l *lists) Notification(_ context.Context, id domain.NotificationID, min eventstore.Position) (projections.Notification, error) {
	return entry(l, min, l.notifications, func(n projections.Notification) bool { return n.ID == id })
}

func (l *lists) Rooms(_ context.Context, q projections.RoomQuery) (projections.Page[projections.RoomList], error) {
	l.askedRooms = q
	return projections.Page[projections.RoomList]{Items: l.rooms, Next: l.next, Total: l.total, Position: l.position}, l.err
}

func (l *lists) RoomNames(context.Context, eventstore.Position) (func(domain.RoomID) string, error) {
	return func(id domain.RoomID) string {
		for _, r := range l.rooms {
			if r.Room == id {
				return r.Name
			}
		}
		return ""
	}, l.err
}

func (l *lists) RoomApprovers(context.Context) (func(domain.RoomID) []domain.UserID, error) {
	return func(id domain.RoomID) []domain.UserID {
		for _, r := range l.rooms {
			if r.Room == id {
				return r.Approvers
			}
		}
		return nil
	}, l.err
}

func (l *lists) Occupancy(_ context.Context, q projections.OccupancyQuery) (projections.Occupancy, error) {
	l.askedOccupancy = q
	o := l.occupancy
	if len(o.Rooms) == 0 {
		for _, room := range q.Rooms { // which are there, whatever is known of them
			o.Rooms = append(o.Rooms, projections.RoomOccupancy{Room: room, Zone: time.UTC})
		}
	}
	return o, l.err
}

func (l *lists) Availability(_ context.Context, q projections.AvailabilityQuery) (projections.Availability, error) {
	l.askedFree = q
	return l.availability, l.err
}
