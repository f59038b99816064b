package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"roombook/domain"
	"roombook/eventstore"
)

// settle finishes everything that was left half-done of a booking, whoever left it and wherever: what is decided goes forward, and a
// reservation that does not back the booking and never will again is released, except for the part of its slot that was used. It looks
// for reservations in the given rooms and in all rooms that the booking ever had one in. It returns the settled booking; one that does
// not exist is settled in domain.PhaseNone.
//
// Each step is appended at the revision that was read, and after a lost race everything is read again. So any number of callers may
// settle a booking at the same time, even while its own late command is still running: each step is done by exactly one of them.
func (h *Handler) settle(ctx context.Context, id domain.BookingID, rooms ...domain.RoomID) (loaded[domain.Booking], error) {
	races := newRaces(h.metrics)
	for {
		b, err := h.settleOnce(ctx, id, rooms)
		if err == nil {
			return b, nil
		}
		if err := races.again(ctx, err); err != nil {
			return loaded[domain.Booking]{}, err
		}
	}
}

func (h *Handler) settleOnce(ctx context.Context, id domain.BookingID, rooms []domain.RoomID) (loaded[domain.Booking], error) {
	b, reservations, err := h.survey(ctx, id, rooms)
	if err != nil {
		return b, err
	}
	step := func(name string, events []eventstore.Proposed) error {
		if len(events) == 0 {
			return nil
		}
		h.metrics.steps.WithLabelValues(name).Inc()
		return b.append(ctx, h, id.Stream(), events)
	}

	if b.state.Phase() == domain.PhaseNone {
		i := slices.IndexFunc(reservations, func(r *domain.Reservation) bool { return r.Replaces == "" })
		if i < 0 {
			return b, nil
		}
		r := reservations[i].SlotReserved
		if err := step("create", followReservation(r, domain.DecideCreate(b.state, r))); err != nil {
			return b, err
		}
	}

	if b.state.Phase() == domain.PhaseInUse {
		use, err := h.startedUse(ctx, b)
		if err != nil {
			return b, err
		}
		ended, _ := cause[domain.UseEnded](use)
		if err := step("use over", follow(ended, domain.DecideUseOver(b.state, use.state))); err != nil {
			return b, err
		}
	}

	moves, err := h.inLogOrder(ctx, slices.DeleteFunc(slices.Clone(reservations), func(r *domain.Reservation) bool {
		return r.Replaces != b.state.Reservation
	}))
	if err != nil {
		return b, err
	}
	for _, r := range moves {
		if err := step("move", followReservation(r.SlotReserved, domain.DecideMove(b.state, b.revision, r.SlotReserved))); err != nil {
			return b, err
		}
	}

	because := b.events[len(b.events)-1]
	for _, r := range reservations {
		if r.Used || b.state.BackedBy(r.ReservationID) {
			continue
		}
		if !b.state.Outlived(r.SlotReserved, b.revision) {
			return b, errBehind
		}
		h.metrics.steps.WithLabelValues("release").Inc()
		if err := h.release(ctx, id, domain.RoomReservation{Room: r.RoomID, Reservation: r.ReservationID}, b.state.UsedOn(r.ReservationID), because); err != nil {
			return b, err
		}
	}
	return b, nil
}

// gaveUp releases the reservation that a command has just made the booking give up, by moving or ending it. That takes no read: the command
// knows what it has written. If the room's calendar as it is cached has anything else of the booking that does not back it, somebody else's
// command was left half-done, and the booking is settled.
func (h *Handler) gaveUp(ctx context.Context, b loaded[domain.Booking]) error {
	id, former := b.state.ID, domain.RoomReservation{Room: b.state.Room, Reservation: b.state.Reservation}
	if b.state.Live() {
		former = b.state.Former[len(b.state.Former)-1]
	}
	if err := h.release(ctx, id, former, b.state.UsedOn(former.Reservation), b.events[len(b.events)-1]); err != nil {
		return err
	}
	for _, room := range b.state.Rooms() {
		cal := h.calendars.cached(room)
		if cal != nil && slices.ContainsFunc(cal.Of(id), func(r *domain.Reservation) bool { return !r.Used && !b.state.BackedBy(r.ReservationID) }) {
			_, err := h.settle(ctx, id)
			return err
		}
	}
	return nil
}

// useOver cancels the booking of the real use that a command has just ended, and releases what is left of its slot. It reads nothing that is
// remembered, unless somebody else has changed the booking meanwhile.
func (h *Handler) useOver(ctx context.Context, use loaded[domain.RealUse]) (loaded[domain.Booking], error) {
	id := use.state.Booking
	b := recall[domain.Booking](h, id.Stream())
	if b.revision == eventstore.NoStream {
		if err := b.readOn(ctx, h.store, id.Stream()); err != nil {
			return b, err
		}
	}
	if over := domain.DecideUseOver(b.state, use.state); b.unreadable == nil && len(over) > 0 {
		err := b.append(ctx, h, id.Stream(), follow(use.events[len(use.events)-1], over))
		if err == nil {
			err = h.gaveUp(ctx, b)
		}
		if !lost(err) {
			return b, err
		}
	}
	return h.settle(ctx, id, use.state.Room)
}

// inLogOrder sorts the reservations of a booking in the order of the log, which those of a single room are in already. Positions are
// looked up rather than remembered: it is rare for changes to several rooms to be left half-done at the same time.
func (h *Handler) inLogOrder(ctx context.Context, reservations []*domain.Reservation) ([]*domain.Reservation, error) {
	if !slices.ContainsFunc(reservations, func(r *domain.Reservation) bool { return r.RoomID != reservations[0].RoomID }) {
		return reservations, nil
	}
	positions := make(map[domain.ReservationID]eventstore.Position, len(reservations))
	for _, r := range reservations {
		for e, err := range h.store.ReadStream(ctx, r.RoomID.Stream(), 0) {
			if err != nil {
				return nil, err
			}
			if made, ok := e.Event.(domain.SlotReserved); ok && made.ReservationID == r.ReservationID {
				positions[r.ReservationID] = e.Position
				break
			}
		}
	}
	slices.SortFunc(reservations, func(a, b *domain.Reservation) int {
		return cmp.Compare(positions[a.ReservationID], positions[b.ReservationID])
	})
	return reservations, nil
}

// errBehind means that the booking was read from a member of the event store's cluster that lags behind the one that the calendar
// was read from. It has to be read again.
var errBehind = errors.New("the event store answered with an older booking than its reservation")

// survey reads the booking and, before that, the reservations that it has in all its rooms, in the order in which they were made. Read
// the other way round, a reservation could be newer than the booking and look as if it did not back it yet, at the price of a retry.
func (h *Handler) survey(ctx context.Context, id domain.BookingID, rooms []domain.RoomID) (loaded[domain.Booking], []*domain.Reservation, error) {
	var reservations []*domain.Reservation
	seen := make(map[domain.RoomID]bool, len(rooms)+1)
	b := unread[domain.Booking]()
	for first := true; ; first = false {
		complete := !first
		for _, room := range rooms {
			if seen[room] {
				continue
			}
			seen[room], complete = true, false
			calendar, err := h.calendars.read(ctx, room)
			if err != nil {
				return b, nil, err
			}
			reservations = append(reservations, calendar.Of(id)...)
		}
		if complete {
			return b, reservations, nil
		}
		if err := b.readOn(ctx, h.store, id.Stream()); err != nil {
			return b, nil, err
		}
		if b.unreadable != nil {
			return b, nil, b.unreadable
		}
		rooms = b.state.Rooms()
	}
}

// startedUse reads the real use of a booking that is in use, and starts it if only the check-in has been written.
func (h *Handler) startedUse(ctx context.Context, b loaded[domain.Booking]) (loaded[domain.RealUse], error) {
	use, err := load[domain.RealUse](ctx, h.store, b.state.Use.RealUse.Stream())
	if err != nil || use.state.ID != "" {
		return use, err
	}
	h.metrics.steps.WithLabelValues("start use").Inc()
	return h.startUse(ctx, b, use)
}

// startUse starts the real use of a booking that is in use, unless somebody else does.
func (h *Handler) startUse(ctx context.Context, b loaded[domain.Booking], use loaded[domain.RealUse]) (loaded[domain.RealUse], error) {
	checkedIn, event := cause[domain.BookingCheckedIn](b)
	err := use.append(ctx, h, b.state.Use.RealUse.Stream(), follow(checkedIn, domain.DecideStart(use.state, event)))
	if lost(err) {
		err = use.unreadable // somebody else has started it
	}
	return use, err
}
