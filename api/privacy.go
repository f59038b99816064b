package api

import (
	"context"
	"slices"
	"time"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// withheld reads lists and bookings on behalf of the actor in a context, and leaves out whom a booking is for, and what people wrote about it,
// where the actor may not see that: such a booking has no user. It is built from the public members alone, so a member that is added to
// bookings stays hidden until it is listed here too. A context without an actor may see nothing private.
type withheld struct {
	Lists
	commands *commands.Handler
	privacy  domain.Privacy
}

// actorKey is the key of a context's actor.
type actorKey struct{}

func withActor(ctx context.Context, a domain.Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// shows returns a function that decides whether the actor may see whom something in a room is for. No other place decides that. The approvers
// that rooms name are looked up when they first matter; while the directory of rooms cannot be read there are none.
func (w *withheld) shows(ctx context.Context) func(user domain.UserID, room domain.RoomID) error {
	if w.privacy != domain.PrivacyBusy {
		return func(domain.UserID, domain.RoomID) error { return nil }
	}
	actor, _ := ctx.Value(actorKey{}).(domain.Actor)
	var approvers func(domain.RoomID) []domain.UserID
	return func(user domain.UserID, room domain.RoomID) error {
		relation := actor.To(user, room)
		refused := actor.May(domain.SeeWho, relation)
		if refused == nil || relation != domain.SomebodyElse || room == "" || actor.May(domain.SeeWho, domain.OfOwnRoom) != nil {
			return refused
		}
		if approvers == nil {
			var err error
			if approvers, err = w.RoomApprovers(ctx); err != nil {
				approvers = func(domain.RoomID) []domain.UserID { return nil }
			}
		}
		return actor.May(domain.SeeWho, actor.To(user, room, approvers(room)...))
	}
}

// permitted refuses queries that would reveal whose a booking is by their filter, their order, or the cursor of such an order.
func (w *withheld) permitted(ctx context.Context, q projections.Query) error {
	if q.User == "" && q.Sort != "bookingUserId" && q.Sort != "userId" {
		return nil
	}
	return w.shows(ctx)(q.User, q.Room)
}

// pageOf is a page of a list as the actor may see it.
func pageOf[T any](ctx context.Context, w *withheld, q projections.Query, query func(context.Context, projections.Query) (projections.Page[T], error), of func(*T) (domain.UserID, domain.RoomID), public func(T) T) (projections.Page[T], error) {
	if err := w.permitted(ctx, q); err != nil {
		return projections.Page[T]{}, err
	}
	page, err := query(ctx, q)
	if w.privacy != domain.PrivacyBusy {
		return page, err
	}
	shows := w.shows(ctx)
	page.Items = slices.Clone(page.Items)
	for i := range page.Items {
		if shows(of(&page.Items[i])) != nil {
			page.Items[i] = public(page.Items[i])
		}
	}
	return page, err
}

// entryOf is an entry of a list as the actor may see it.
func entryOf[T any](ctx context.Context, w *withheld, entry T, of func(*T) (domain.UserID, domain.RoomID), public func(T) T) T {
	if w.shows(ctx)(of(&entry)) != nil {
		return public(entry)
	}
	return entry
}

func ofBooking(b *projections.BookingList) (domain.UserID, domain.RoomID) { return b.User, b.Room }
func ofUse(u *projections.RoomUseList) (domain.UserID, domain.RoomID)     { return u.User, u.Room }
func ofNotification(n *projections.Notification) (domain.UserID, domain.RoomID) {
	return n.User, n.Room
}

// The public parts of entries of lists.

func publicBookingList(b projections.BookingList) projections.BookingList {
	return projections.BookingList{
		Booking: b.Booking, Room: b.Room, Start: b.Start, End: b.End, BookedAt: b.BookedAt, Status: b.Status, ConfirmStatus: b.ConfirmStatus, ConfirmedAt: b.ConfirmedAt,
		CancelReason: b.CancelReason, CancelledAt: b.CancelledAt, Changes: b.Changes, ModifiedAt: b.ModifiedAt, UseEndedAt: b.UseEndedAt,
	}
}

func publicRoomUseList(u projections.RoomUseList) projections.RoomUseList {
	return projections.RoomUseList{
		Booking: u.Booking, Room: u.Room, Start: u.Start, End: u.End, Status: u.Status, BookedMinutes: u.BookedMinutes, UsedMinutes: u.UsedMinutes,
		RealUse: u.RealUse, StartedAt: u.StartedAt, EndedAt: u.EndedAt, RoomStillInUseBy: u.RoomStillInUseBy,
	}
}

func publicNotification(n projections.Notification) projections.Notification {
	return projections.Notification{ID: n.ID, Booking: n.Booking, Room: n.Room, Kind: n.Kind, SentAt: n.SentAt, Delivery: n.Delivery, Attempts: n.Attempts, DeliveredAt: n.DeliveredAt}
}

func (w *withheld) BookingLists(ctx context.Context, q projections.Query) (projections.Page[projections.BookingList], error) {
	return pageOf(ctx, w, q, w.Lists.BookingLists, ofBooking, publicBookingList)
}

func (w *withheld) BookingList(ctx context.Context, id domain.BookingID, min eventstore.Position) (projections.BookingList, error) {
	b, err := w.Lists.BookingList(ctx, id, min)
	return entryOf(ctx, w, b, ofBooking, publicBookingList), err
}

func (w *withheld) RoomUseLists(ctx context.Context, q projections.Query) (projections.Page[projections.RoomUseList], error) {
	return pageOf(ctx, w, q, w.Lists.RoomUseLists, ofUse, publicRoomUseList)
}

func (w *withheld) RoomUseList(ctx context.Context, id domain.BookingID, min eventstore.Position) (projections.RoomUseList, error) {
	u, err := w.Lists.RoomUseList(ctx, id, min)
	return entryOf(ctx, w, u, ofUse, publicRoomUseList), err
}

func (w *withheld) Notifications(ctx context.Context, q projections.Query) (projections.Page[projections.Notification], error) {
	return pageOf(ctx, w, q, w.Lists.Notifications, ofNotification, publicNotification)
}

func (w *withheld) Notification(ctx context.Context, id domain.NotificationID, min eventstore.Position) (projections.Notification, error) {
	n, err := w.Lists.Notification(ctx, id, min)
	return entryOf(ctx, w, n, ofNotification, publicNotification), err
}

func (w *withheld) Occupancy(ctx context.Context, q projections.OccupancyQuery) (projections.Occupancy, error) {
	o, err := w.Lists.Occupancy(ctx, q)
	if w.privacy != domain.PrivacyBusy {
		return o, err
	}
	shows := w.shows(ctx)
	o.Rooms = slices.Clone(o.Rooms)
	for i := range o.Rooms {
		spans := slices.Clone(o.Rooms[i].Spans)
		for j := range spans {
			if b := spans[j].Booking; b != nil && shows(b.User, b.Room) != nil {
				spans[j].Booking = new(publicBookingList(*b))
			}
		}
		o.Rooms[i].Spans = spans
	}
	return o, err
}

// booking is a booking as the actor may see it.
func (w *withheld) booking(ctx context.Context, b commands.Booking) commands.Booking {
	if w.shows(ctx)(b.User, b.Room) == nil {
		return b
	}
	public := domain.Booking{
		ID: b.ID, Room: b.Room, Slot: b.Slot, Reservation: b.Reservation, CreatedAt: b.CreatedAt, Confirm: domain.Confirm{Answer: b.Confirm.Answer, At: b.Confirm.At},
		UseFrom: b.UseFrom, Use: b.Use, Changes: b.Changes,
	}
	if over := b.Cancellation; over != nil {
		public.Cancellation = &domain.Cancellation{Reason: over.Reason, At: over.At}
	}
	return commands.Booking{Booking: public, Revision: b.Revision, Position: b.Position}
}

// Booking is [commands.Handler.Booking] as the actor may see it.
func (w *withheld) Booking(ctx context.Context, id domain.BookingID) (commands.Booking, error) {
	b, err := w.commands.Booking(ctx, id)
	return w.booking(ctx, b), err
}

// BookingAsOf is [commands.Handler.BookingAsOf] as the actor may see it.
func (w *withheld) BookingAsOf(ctx context.Context, id domain.BookingID, moment commands.AsOf) (commands.Booking, error) {
	b, err := w.commands.BookingAsOf(ctx, id, moment)
	return w.booking(ctx, b), err
}

// realUse is a real use as the actor may see it.
func (w *withheld) realUse(ctx context.Context, u domain.RealUse) domain.RealUse {
	if w.shows(ctx)(u.User, u.Room) == nil {
		return u
	}
	public := domain.RealUse{ID: u.ID, Booking: u.Booking, Room: u.Room, StartedAt: u.StartedAt, RoomStillInUseBy: u.RoomStillInUseBy}
	if u.End != nil {
		public.End = &domain.UseEnd{At: u.End.At}
	}
	return public
}

// RoomConflicts is [commands.Handler.RoomConflicts] as the actor may see it.
func (w *withheld) RoomConflicts(ctx context.Context, room domain.RoomID, now time.Time) ([]commands.Conflict, int, error) {
	conflicts, more, err := w.commands.RoomConflicts(ctx, room, now)
	for i := range conflicts {
		conflicts[i].Booking = w.booking(ctx, conflicts[i].Booking)
	}
	return conflicts, more, err
}

// fault is a fault of a room as the actor may see it: what is broken is for everybody who may read of the room, who said so is not.
func (w *withheld) fault(ctx context.Context, room domain.RoomID, f domain.RoomFault) domain.RoomFault {
	shows := w.shows(ctx)
	if shows(f.By, room) != nil {
		f.By = ""
	}
	if s := f.Settlement; s != nil && shows(s.By, room) != nil {
		f.Settlement = &domain.Settlement{Note: s.Note, At: s.At}
	}
	return f
}

// Faults is [commands.Handler.Faults] as the actor may see it.
func (w *withheld) Faults(ctx context.Context, room domain.RoomID) (commands.Faults, error) {
	faults, err := w.commands.Faults(ctx, room)
	for _, of := range [...][]domain.RoomFault{faults.Open, faults.Settled} {
		for i := range of {
			of[i] = w.fault(ctx, room, of[i])
		}
	}
	return faults, err
}

// History is [commands.Handler.History] as the actor may see it. If they may not see whom the booking is for, private is true and the events
// only tell what happened when.
func (w *withheld) History(ctx context.Context, id domain.BookingID) (events []eventstore.Recorded, private bool, err error) {
	events, err = w.commands.History(ctx, id)
	var b domain.Booking
	for _, e := range events {
		if e.Stream == id.Stream() {
			b = b.Evolve(e.Event)
		}
	}
	if err != nil || w.shows(ctx)(b.User, b.Room) == nil {
		return events, false, err
	}
	for i := range events {
		events[i] = publicEvent(events[i])
	}
	return events, true, nil
}

// RoomHistory is [commands.Handler.RoomHistory] as the actor may see it: without the actors of events whose actors are hidden from them.
func (w *withheld) RoomHistory(ctx context.Context, room domain.RoomID) ([]eventstore.Recorded, error) {
	events, err := w.commands.RoomHistory(ctx, room)
	shows := w.shows(ctx)
	for i := range events {
		if m := &events[i].Metadata; shows(domain.UserID(m.Actor), room) != nil {
			m.Actor, m.CorrelationID = "", ""
		}
	}
	return events, err
}

func publicEvent(e eventstore.Recorded) eventstore.Recorded {
	return eventstore.Recorded{
		ID: e.ID, Stream: e.Stream, Revision: e.Revision, Position: e.Position, Type: e.Type,
		Metadata: eventstore.Metadata{OccurredAt: e.Metadata.OccurredAt, CausationID: e.Metadata.CausationID},
	}
}
