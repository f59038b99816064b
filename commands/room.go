package commands

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// RegisterRoom makes a room known. One that is registered already, with other details, is *domain.RoomExists.
func (h *Handler) RegisterRoom(ctx context.Context, c RegisterRoom) (Room, error) {
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecideRegister(r, c.Room, c.Details, c.At)
	})
}

// ChangeRoom changes what is known of a room.
func (h *Handler) ChangeRoom(ctx context.Context, c ChangeRoom) (Room, error) {
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecideChangeRoom(r, c.Details, c.At)
	})
}

// RetireRoom retires a room, which decides, and cancels the bookings that end later, if they are to be cancelled.
func (h *Handler) RetireRoom(ctx context.Context, c RetireRoom) (Room, error) {
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecideRetire(r, c.From, c.Bookings, c.At)
	})
}

// ReinstateRoom ends the retirement of a room. Bookings that were cancelled stay so.
func (h *Handler) ReinstateRoom(ctx context.Context, c ReinstateRoom) (Room, error) {
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecideReinstate(r, c.At)
	})
}

// SetRules sets the rules of a room. Existing bookings stay as they are, see [Handler.RoomConflicts].
func (h *Handler) SetRules(ctx context.Context, c SetRules) (Room, error) {
	return h.onRoom(ctx, c.Request, c.Room, c.At, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecideSetRules(r, c.Rules, c.At)
	})
}

// ClosePeriod closes a room for a period, which decides, and cancels the bookings in it, if they are to be cancelled. A booking whose use has
// started stays.
func (h *Handler) ClosePeriod(ctx context.Context, c ClosePeriod) (Room, error) {
	closed := domain.PeriodClosed{ClosureID: domain.ClosureID(c.ID.String()), Slot: c.Slot, Reason: c.Reason, Bookings: c.Bookings, At: c.At}
	return h.onRoom(ctx, c.Request, c.Room, c.Slot.Start, func(r domain.Room) ([]domain.Event, error) {
		return domain.DecideClose(r, closed)
	})
}

// ReopenPeriod ends a closure. Bookings that were cancelled stay so.
func (h *Handler) ReopenPeriod(ctx context.Context, c ReopenPeriod) (Room, error) {
	reopen := func(from time.Time) (Room, error) {
		return h.onRoom(ctx, c.Request, c.Room, from, func(r domain.Room) ([]domain.Event, error) {
			return domain.DecideReopen(r, c.Closure, c.At)
		})
	}
	r, err := reopen(c.At)
	if errors.Is(err, domain.ErrClosureNotFound) { // or it ended long ago, and only the whole calendar has it
		r, err = reopen(time.Time{})
	}
	return r, err
}

// onRoom carries out a command on a room, as transact does on other aggregates: it decides on the room's calendar, in the room's queue, so
// that the command is ordered with the bookings of the room. The calendar has to have all closures that end after a time. What the command
// decides is one event of the room itself.
func (h *Handler) onRoom(ctx context.Context, r Request, id domain.RoomID, from time.Time, decide func(domain.Room) ([]domain.Event, error)) (_ Room, err error) {
	if err := r.Actor.May(domain.ManageRooms, domain.SomebodyElse); err != nil {
		return Room{}, err
	}
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Room{}, err
	}
	defer end()
	ctx, span := eventstore.StartSpan(ctx, "command", id.Stream())
	defer func() { span.End(err) }()
	h.calendars.tick(r.At)
	var known domain.Room
	if r.Digest != "" {
		// If the command is asked for the first time, none of its events is before this: other tries claim the key before they decide.
		if known, err = h.calendars.about(ctx, id); err != nil {
			return Room{}, err
		}
	}
	key, first, err := h.claim(ctx, r)
	if err != nil {
		return Room{}, err
	}
	searched := known.Revision
	for again := !first; ; again = true {
		if again {
			there := known.Revision
			if key.Unchanged {
				there = max(there, key.Revision)
			}
			log, err := h.roomLog(ctx, id, there)
			if err != nil {
				return Room{}, err
			}
			if then, done, err := log.repeated(r, key); err != nil {
				return Room{}, err
			} else if done {
				return h.cleared(ctx, then, from)
			}
			searched = log.last()
		}
		var left domain.Room
		var refused error
		decided, news := false, false
		err := h.calendars.transact(ctx, id, from, func(c domain.Calendar) []eventstore.Proposed {
			left, refused, decided = c.About(), nil, false
			if news = r.Digest != "" && left.Revision != searched; news { // which another try of the command may have written
				return nil
			}
			var events []domain.Event
			if events, refused = decide(left); refused == nil && !r.allows(left.Revision) {
				events, refused = nil, &ConditionFailed{left.Revision}
			}
			if decided = len(events) > 0; decided {
				left = left.Evolve(c.Revision()+1, events[0])
			}
			return r.propose(events)
		})
		switch {
		case err != nil:
			return Room{}, err
		case news:
			continue
		case refused != nil:
			return Room{}, refused
		case !decided && r.Digest != "":
			k, err := h.answered(ctx, r, domain.KeyUnchanged{Revision: left.Revision, At: r.At})
			if err != nil {
				return Room{}, err
			}
			if k.Refusal != "" || k.Unchanged && k.Revision != left.Revision { // as another try was told
				key = k
				continue
			}
		}
		return h.cleared(ctx, left, from)
	}
}

// cleared is the answer of a command that left the room so. If closures or the retirement of the room cancel bookings, those from a time on
// are cancelled first.
func (h *Handler) cleared(ctx context.Context, r domain.Room, from time.Time) (Room, error) {
	ctx, cancel := detach(ctx)
	defer cancel()
	answer, err := h.located(ctx, r)
	if err != nil {
		return Room{}, unfinished(err)
	}
	periods := []place{{r.ID, from}}
	if r.Retirement != nil {
		periods = append(periods, place{r.ID, r.Retirement.From})
	}
	if r.CancelsAny() {
		last, err := h.clear(ctx, r.ID, periods)
		if err != nil {
			return Room{}, unfinished(err)
		}
		answer.Position = max(answer.Position, last)
	}
	return answer, nil
}

// located is the room with the position of its last own event.
func (h *Handler) located(ctx context.Context, r domain.Room) (Room, error) {
	e, err := h.calendars.event(ctx, r.ID, r.Revision)
	return Room{Room: r, Position: e.Position}, err
}

// about reads the room's own state.
func (c *calendars) about(ctx context.Context, room domain.RoomID) (about domain.Room, err error) {
	q := c.enter(room)
	defer q.leave()
	cal, err := q.readOn(ctx)
	if err != nil {
		return domain.Room{}, err
	}
	return cal.About(), nil
}

// Room reads a registered room, without closures that ended long ago.
func (h *Handler) Room(ctx context.Context, id domain.RoomID) (Room, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Room{}, err
	}
	defer end()
	r, err := h.calendars.about(ctx, id)
	switch {
	case err != nil:
		return Room{}, err
	case r.ID == "":
		return Room{}, domain.ErrRoomNotFound
	}
	return h.located(ctx, r)
}

// Approvers returns the approvers whom a room names; none if it is not registered. They are as of the time at which a booking reserved the room
// or later: a cached calendar that has the reservation needs no read.
func (h *Handler) Approvers(ctx context.Context, room domain.RoomID, booking domain.BookingID) ([]domain.UserID, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if cal := h.calendars.cached(room); cal != nil && len(cal.Of(booking)) > 0 {
		return cal.About().Details.Approvers, nil
	}
	about, err := h.calendars.about(ctx, room)
	return about.Details.Approvers, err
}

// RoomHistory lists every event of the room itself in the order of the log, including those that this version cannot decode. For that the
// room's whole calendar is read.
func (h *Handler) RoomHistory(ctx context.Context, id domain.RoomID) ([]eventstore.Recorded, error) {
	log, err := h.roomLog(ctx, id, eventstore.NoStream)
	if err == nil && len(log) == 0 {
		err = domain.ErrRoomNotFound
	}
	return log, err
}

// roomEvents are the types of the events of a room itself.
var roomEvents = []string{
	domain.RoomRegistered{}.EventType(), domain.RoomChanged{}.EventType(), domain.RoomRetired{}.EventType(), domain.RoomReinstated{}.EventType(),
	domain.RulesSet{}.EventType(), domain.PeriodClosed{}.EventType(), domain.PeriodReopened{}.EventType(), domain.RoomPhotoChanged{}.EventType(),
}

// roomLog is the events of a room itself, in their order.
type roomLog []eventstore.Recorded

// roomLog reads the whole calendar of the room, up to a revision that is known to be there at least. Few are read at a time, as by
// [roomQueue.onAll].
func (h *Handler) roomLog(ctx context.Context, id domain.RoomID, known domain.Revision) (log roomLog, err error) {
	done, err := h.calendars.beginWhole(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	read := eventstore.NoStream
	err = readUntil(ctx, known, func() (domain.Revision, error) {
		for r, err := range h.store.ReadStream(ctx, id.Stream(), read+1) {
			if err != nil {
				return read, err
			}
			if read = r.Revision; slices.Contains(roomEvents, r.Type) {
				log = append(log, r)
			}
		}
		return read, nil
	})
	return log, err
}

func (l roomLog) last() domain.Revision {
	if len(l) == 0 {
		return eventstore.NoStream
	}
	return l[len(l)-1].Revision
}

// asOf is the room as of a revision.
func (l roomLog) asOf(revision domain.Revision) domain.Room {
	r := domain.Calendar{}.About()
	for _, e := range l {
		if e.Revision <= revision {
			r = r.Evolve(e.Revision, e.Event)
		}
	}
	return r
}

// repeated is as of other aggregates: it reports whether the command was asked before, and is the room as the command left it then.
func (l roomLog) repeated(r Request, k domain.Key) (then domain.Room, done bool, err error) {
	for _, e := range l {
		switch id, digest, _ := strings.Cut(e.Metadata.Command, "/"); {
		case id != r.ID.String():
		case digest != r.Digest:
			return domain.Room{}, false, ErrKeyReused
		default:
			return l.asOf(e.Revision), true, nil
		}
	}
	switch {
	case k.Refusal != "":
		return domain.Room{}, false, &RefusedBefore{k.Refusal}
	case k.Unchanged:
		return l.asOf(k.Revision), true, nil
	}
	return domain.Room{}, false, nil
}

// Conflict is a live booking that its room's rules, closures or retirement would not allow by now.
type Conflict struct {
	Booking  Booking
	Broken   []domain.BrokenRule
	Closures []domain.Closure
	Retired  bool
}

// maxRoomConflicts is how many conflicts of a room are listed at most.
const maxRoomConflicts = 100

// RoomConflicts lists the live bookings of a room that end after a time and that the room would not allow by now, by start, and how many
// further reservations there are of which that may be said.
func (h *Handler) RoomConflicts(ctx context.Context, id domain.RoomID, now time.Time) (conflicts []Conflict, more int, err error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	found := false
	var reservations []*domain.Reservation
	err = h.calendars.read(ctx, id, now, func(c domain.Calendar) {
		found = c.About().ID != ""
		for r := range c.All {
			if r.Used || !r.Slot.End.After(now) {
				continue
			}
			broken, closures, retired := c.BreaksNow(r, h.policy, now)
			switch {
			case broken == nil && closures == nil && !retired:
			case len(conflicts) == maxRoomConflicts:
				more++
			default:
				conflicts = append(conflicts, Conflict{Broken: broken, Closures: closures, Retired: retired})
				reservations = append(reservations, r)
			}
		}
	})
	switch {
	case err != nil:
		return nil, 0, err
	case !found:
		return nil, 0, domain.ErrRoomNotFound
	}
	live := conflicts[:0]
	for i, r := range reservations {
		b, err := load[domain.Booking](ctx, h.store, r.BookingID.Stream())
		if err != nil {
			return nil, 0, err
		}
		if b.state.BackedBy(r.ReservationID) {
			conflicts[i].Booking = bookingOf(b)
			live = append(live, conflicts[i])
		}
	}
	return live, more, nil
}
