package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"roombook/domain"
	"roombook/eventstore"
)

// settle brings a booking and everything of it to rest, whoever left it half-way and wherever: what is decided goes forward,
// and a reservation that the booking does not stand on, and never can again, is released; of a booking that ended with its use, what was
// used stays reserved. It looks for reservations in the given rooms and in all that the booking ever stood in. It returns the booking
// at rest; a booking that does not exist is at rest in domain.PhaseNone.
//
// Each step is appended at the revision that was read, and a lost race means to read again. So any number of callers may settle one
// booking at once, beside its own late command: each step is done by one of them.
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
		for _, r := range reservations {
			if r.Replaces == "" {
				if err := step("create", followReservation(r.SlotReserved, domain.DecideCreate(b.state, r.SlotReserved))); err != nil {
					return b, err
				}
				break
			}
		}
		if b.state.Phase() == domain.PhaseNone {
			return b, nil
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

	moves, err := h.inLogOrder(ctx, replacing(b.state.Reservation, reservations))
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
		if err := h.release(ctx, r, b.state.UsedOn(r.ReservationID), because); err != nil {
			return b, err
		}
	}
	return b, nil
}

// replacing are the reservations that were made to replace one.
func replacing(id domain.ReservationID, reservations []*domain.Reservation) []*domain.Reservation {
	var of []*domain.Reservation
	for _, r := range reservations {
		if r.Replaces == id {
			of = append(of, r)
		}
	}
	return of
}

// inLogOrder puts reservations of a booking in the order of the log, in which those of one room are already. Positions are not remembered: it
// is rare that changes to several rooms are left half-way at once.
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

// errBehind means that the booking was read from a member of the event store's cluster that is behind the one that the calendar
// came from. It is read again.
var errBehind = errors.New("the event store answered with an older booking than its reservation")

// survey reads the booking and, before it, the reservations that it has in all its rooms, the first reserved first. The order
// spares tries: beside an older booking, a reservation could be one that the booking is just about to stand on.
func (h *Handler) survey(ctx context.Context, id domain.BookingID, rooms []domain.RoomID) (loaded[domain.Booking], []*domain.Reservation, error) {
	var reservations []*domain.Reservation
	seen := make(map[domain.RoomID]bool, len(rooms)+1)
	b := loaded[domain.Booking]{revision: eventstore.NoStream}
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

// startedUse reads the real use of a booking that is in use, and starts it if only the check-in was written.
func (h *Handler) startedUse(ctx context.Context, b loaded[domain.Booking]) (loaded[domain.RealUse], error) {
	stream := b.state.Use.RealUse.Stream()
	use, err := load[domain.RealUse](ctx, h.store, stream)
	if err != nil {
		return use, err
	}
	checkedIn, event := cause[domain.BookingCheckedIn](b)
	if events := domain.DecideStart(use.state, event); len(events) > 0 {
		h.metrics.steps.WithLabelValues("start use").Inc()
		if err = use.append(ctx, h, stream, follow(checkedIn, events)); lost(err) {
			err = use.unreadable // somebody else has started it
		}
	}
	return use, err
}
