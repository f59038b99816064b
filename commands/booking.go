package commands

import (
	"context"
	"slices"

	"roombook/domain"
	"roombook/eventstore"
)

// booking is the aggregate of a command on a booking that the permission allows. Its reservations are also looked for in the given places.
func (h *Handler) booking(id domain.BookingID, may permission[domain.Booking], places ...place) aggregate[domain.Booking] {
	settle := func(ctx context.Context, known loaded[domain.Booking], more ...place) (loaded[domain.Booking], error) {
		if known.revision == eventstore.NoStream {
			return known, nil
		}
		return h.settle(ctx, id, slices.Concat(bookingPlaces(known.state), places, more)...)
	}
	return aggregate[domain.Booking]{
		stream: id.Stream(),
		may:    may,
		settle: settle,
		finish: func(ctx context.Context, before domain.Booking, now loaded[domain.Booking]) error {
			if now.state.Live() && len(now.state.Former) == len(before.Former) {
				return nil
			}
			return h.gaveUp(ctx, now)
		},
	}
}

// bookingPlaces lists where the booking has, or had, its reservations.
func bookingPlaces(b domain.Booking) (places []place) {
	for _, room := range b.Rooms() {
		places = append(places, place{room, b.Earliest})
	}
	return places
}

// onBooking carries out a command on a booking.
func (h *Handler) onBooking(ctx context.Context, r Request, a aggregate[domain.Booking], decide func(context.Context, loaded[domain.Booking]) (decision, error)) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	b, err := transact(ctx, h, r, a, decide)
	return bookingOf(b), err
}

// CreateBooking takes the slot, makes the booking and asks for its confirmation. Taking the slot decides. The booking gets the
// command's id.
func (h *Handler) CreateBooking(ctx context.Context, c CreateBooking) (Booking, error) {
	id := domain.BookingID(c.ID.String())
	created := h.booking(id, func(ctx context.Context, actor domain.Actor, _ domain.Booking) (refused, err error) {
		return h.permitSlot(ctx, actor, c.User, c.Room, c.Override)
	})
	created.fresh = true
	return h.onBooking(ctx, c.Request, created, func(_ context.Context, b loaded[domain.Booking]) (decision, error) {
		ask := c.reservation(b.revision)
		ask.BookingID, ask.RoomID, ask.UserID, ask.Slot, ask.Override = id, c.Room, c.User, c.Slot, c.Override
		return decision{ask: &ask, policy: h.policy, then: func(reserved domain.SlotReserved) []domain.Event {
			return domain.DecideCreate(b.state, reserved)
		}}, nil
	})
}

// ChangeBooking changes a booking. A change of room or time first reserves the new slot, then moves the booking there, which
// decides, and then releases the old slot; so does a change of user in a room that counts what users have.
func (h *Handler) ChangeBooking(ctx context.Context, c ChangeBooking) (Booking, error) {
	change := domain.Change{Room: c.Room, User: c.User, Start: c.Start, End: c.End, At: c.At}
	may := func(ctx context.Context, actor domain.Actor, b domain.Booking) (refused, err error) {
		if refused, err = h.permitBooking(domain.ChangeBooked)(ctx, actor, b); refused != nil || err != nil || b.ID == "" {
			return refused, err
		}
		room, user, _ := b.Target(change)
		if room == b.Room && user == b.User && !c.Override {
			return nil, nil
		}
		if user != b.User && user == b.Confirm.By { // or else approvers could answer for their own bookings while these are another's
			if refused, err = h.permit(ctx, actor, domain.AnswerBooked, user, b.Room); refused != nil || err != nil {
				return refused, err
			}
		}
		return h.permitSlot(ctx, actor, user, room, c.Override)
	}
	return h.onBooking(ctx, c.Request, h.booking(c.Booking, may), func(ctx context.Context, b loaded[domain.Booking]) (decision, error) {
		change := change
		if c.User != nil && *c.User != b.state.User && b.state.Live() {
			var err error
			if change.Counted, err = h.countsUsers(ctx, b.state.Room); err != nil {
				return decision{}, err
			}
		}
		events, moves, err := domain.DecideChange(b.state, change)
		if err == nil && c.Phase != "" && c.Phase != b.state.Phase() {
			err = &OtherPhase{b.state.Phase()}
		}
		if err != nil || !moves {
			return c.decided(events, err)
		}
		ask := c.reservation(b.revision)
		ask.BookingID, ask.Replaces, ask.Override = c.Booking, b.state.Reservation, c.Override
		ask.RoomID, _, ask.Slot = b.state.Target(change)
		if c.IfRevisions != nil || c.UnlessRevisions != nil || c.Phase != "" {
			ask.IfRevision = b.revision
		}
		if c.User != nil {
			ask.UserID = *c.User
		} else {
			ask.HeldFor = b.state.User
		}
		return decision{ask: &ask, policy: h.policy.ForChange(b.state, change), revision: b.revision, then: func(reserved domain.SlotReserved) []domain.Event {
			return domain.DecideMove(b.state, b.revision, reserved)
		}}, nil
	})
}

// countsUsers reports whether the rules of the room limit what a user has. They are read: what is cached may lack a limit that another process
// has set, and no append to the calendar would show it.
func (h *Handler) countsUsers(ctx context.Context, room domain.RoomID) (bool, error) {
	about, err := h.calendars.about(ctx, room)
	return about.Rules.LimitUsers(), err
}

// CancelBooking cancels a booking, which decides, and releases its slot. The booking it returns is in domain.PhaseCancelled.
func (h *Handler) CancelBooking(ctx context.Context, c CancelBooking) (Booking, error) {
	return h.onBooking(ctx, c.Request, h.booking(c.Booking, h.permitBooking(domain.CancelBooked)), func(_ context.Context, b loaded[domain.Booking]) (decision, error) {
		return c.decided(domain.DecideCancel(b.state, domain.Cancel{Reason: domain.CancelledByUser, At: c.At}))
	})
}

// bookingOf is a booking and where in the log it is.
func bookingOf(b loaded[domain.Booking]) Booking {
	return Booking{Booking: b.state, Revision: b.revision, Position: b.position}
}

// Booking reads a live booking. One that is over is *domain.AlreadyCancelled.
func (h *Handler) Booking(ctx context.Context, id domain.BookingID) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	b, err := load[domain.Booking](ctx, h.store, id.Stream())
	if err == nil {
		err = b.state.RequireLive() // whatever became of its use
	}
	if err != nil {
		return Booking{}, err
	}
	booking, use, err := h.withUse(ctx, b, all)
	if err == nil && b.state.Phase() == domain.PhaseInUse && use.Phase() == domain.UsePhaseNone {
		// The booking names a real use that does not exist yet.
		if b, err = h.settle(ctx, id); err == nil {
			booking, _, err = h.withUse(ctx, b, all)
		}
	}
	if err != nil {
		return Booking{}, undecided(err)
	}
	if err := booking.RequireLive(); err != nil {
		return Booking{}, err
	}
	return booking, nil
}

// all is for the whole of a stream.
func all(eventstore.Recorded) bool { return true }

// withUse is a booking together with its real use as of the first events of that, up to the first one for which in reports false. If the
// use has ended and only the booking's cancellation is left to be written, what is returned is that of the settled booking.
func (h *Handler) withUse(ctx context.Context, b loaded[domain.Booking], in func(eventstore.Recorded) bool) (Booking, domain.RealUse, error) {
	booking := bookingOf(b)
	if booking.Use == nil {
		return booking, domain.RealUse{}, nil
	}
	use := unread[domain.RealUse]()
	if err := use.readOn(ctx, h.store, booking.Use.RealUse.Stream()); err != nil {
		return Booking{}, domain.RealUse{}, err
	}
	if use = use.while(in); use.unreadable != nil {
		return Booking{}, domain.RealUse{}, use.unreadable
	}
	booking.Position = max(booking.Position, use.position)
	booking.Booking = domain.Fold(booking.Booking, domain.DecideUseOver(booking.Booking, use.state)...)
	return booking, use.state, nil
}
