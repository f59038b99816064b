package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// settle finishes everything that was left half-done of a booking, whoever left it and wherever: what is decided goes forward, a booking
// that its room's closure or retirement cancels is cancelled, and a reservation that does not back the booking and never will again is
// released, except for the part of its slot that was used. It looks for reservations in the given places and wherever the booking ever had
// one. It returns the settled booking; one that does not exist is settled in domain.PhaseNone.
//
// Each step is appended at the revision that was read, and after a lost race everything is read again. So any number of callers may
// settle a booking at the same time, even while its own late command is still running: each step is done by exactly one of them.
func (h *Handler) settle(ctx context.Context, id domain.BookingID, places ...place) (loaded[domain.Booking], error) {
	races := newRaces(h.metrics)
	for {
		b, err := h.settleOnce(ctx, id, places)
		if err == nil {
			return b, nil
		}
		if err := races.again(ctx, err); err != nil {
			return loaded[domain.Booking]{}, err
		}
	}
}

func (h *Handler) settleOnce(ctx context.Context, id domain.BookingID, places []place) (loaded[domain.Booking], error) {
	b, reservations, err := h.survey(ctx, id, places)
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
		i := slices.IndexFunc(reservations, func(r reserved) bool { return r.made.Replaces == "" })
		if i < 0 {
			return b, nil
		}
		r := reservations[i].made
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

	moves := slices.DeleteFunc(slices.Clone(reservations), func(r reserved) bool { return r.made.Replaces != b.state.Reservation })
	slices.SortStableFunc(moves, func(x, y reserved) int { return cmp.Compare(x.position, y.position) })
	for _, r := range moves {
		if err := step("move", followReservation(r.made, domain.DecideMove(b.state, b.revision, r.made))); err != nil {
			return b, err
		}
	}

	for _, r := range reservations {
		if r.cancels && b.state.BackedBy(r.ReservationID) && b.state.Use == nil {
			closed, err := h.calendars.event(ctx, r.RoomID, r.because)
			if err != nil {
				return b, err
			}
			why := domain.Cancel{Reason: domain.CancelledByClosure, At: closed.Metadata.OccurredAt}
			if e, ok := closed.Event.(domain.PeriodClosed); ok {
				why.Detail = e.Reason
			}
			over, _ := domain.DecideCancel(b.state, why)
			if err := step("close", follow(closed, over)); err != nil {
				return b, err
			}
		}
	}

	because := b.events[len(b.events)-1]
	for _, r := range reservations {
		if r.Used || b.state.BackedBy(r.ReservationID) {
			continue
		}
		if !b.state.Outlived(r.made, b.revision) {
			return b, errBehind
		}
		h.metrics.steps.WithLabelValues("release").Inc()
		if err := h.release(ctx, id, domain.RoomReservation{Room: r.RoomID, Reservation: r.ReservationID}, r.Slot.Start, b.state.UsedOn(r.ReservationID), because); err != nil {
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
	if err := h.release(ctx, id, former, b.state.Earliest, b.state.UsedOn(former.Reservation), b.events[len(b.events)-1]); err != nil {
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
	return h.settle(ctx, id, place{use.state.Room, use.state.StartedAt})
}

// errBehind means that the booking was read from a member of the event store's cluster that lags behind the one that the calendar
// was read from. It has to be read again.
var errBehind = errors.New("the event store answered with an older booking than its reservation")

// place is where reservations of a booking are looked for: in a room, among the slots that start at a time or later.
type place struct {
	room domain.RoomID
	from time.Time
}

// reserved is a reservation of a booking, and how it was made.
type reserved struct {
	*domain.Reservation
	// made is what the reservation's command asked for, at a position in the log. Of a reservation that backs or backed the booking, or
	// never can any more, it has only the id: then nothing follows from it.
	made     domain.SlotReserved
	position eventstore.Position
	// cancels says that the room is closed, or retired, in such a way that a booking of the slot is cancelled, and because is the revision of
	// the event that says so.
	cancels bool
	because domain.Revision
}

// survey reads the booking and, before that, the reservations that it has in all its places, in the order in which they were made. Read
// the other way round, a reservation could be newer than the booking and look as if it did not back it yet, at the price of a retry.
func (h *Handler) survey(ctx context.Context, id domain.BookingID, places []place) (loaded[domain.Booking], []reserved, error) {
	var rooms []domain.RoomID
	held := make(map[domain.RoomID][]reserved, len(places)+1)
	since := make(map[domain.RoomID]time.Time, len(places)+1) // when that is all of them
	b := unread[domain.Booking]()
	for first := true; ; first = false {
		complete := !first
		for _, p := range places {
			from, seen := since[p.room]
			if seen && !p.from.Before(from) {
				continue
			}
			if !seen {
				rooms = append(rooms, p.room)
			}
			complete = false
			err := h.calendars.read(ctx, p.room, p.from, func(c domain.Calendar) {
				held[p.room], since[p.room] = nil, c.Since()
				about := c.About()
				for _, r := range c.Of(id) {
					of := reserved{Reservation: r, made: domain.SlotReserved{ReservationID: r.ReservationID}}
					of.because, of.cancels = about.Cancels(r.Slot)
					held[p.room] = append(held[p.room], of)
				}
			})
			if err != nil {
				return b, nil, err
			}
		}
		if complete {
			break
		}
		if err := b.readOn(ctx, h.store, id.Stream()); err != nil {
			return b, nil, err
		}
		if b.unreadable != nil {
			return b, nil, b.unreadable
		}
		if b.state.ID != "" {
			for _, room := range slices.Concat(rooms, b.state.Rooms()) {
				places = append(places, place{room, b.state.Earliest})
			}
		}
	}
	var reservations []reserved
	for _, room := range rooms {
		for _, of := range held[room] {
			if b.state.ID == "" || b.state.Live() && b.state.Use == nil && !b.state.EverBackedBy(of.ReservationID) {
				var err error
				if of.made, of.position, err = h.made(ctx, of.Reservation); err != nil {
					return b, nil, err
				}
			}
			reservations = append(reservations, of)
		}
	}
	return b, reservations, nil
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
