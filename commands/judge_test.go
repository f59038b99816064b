package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// asked is what a caller asks.
type asked struct {
	kind    string
	booking domain.BookingID // of a create, the one that it makes
	room    domain.RoomID    // of a create, and of commands on rooms
	slot    domain.Slot      // of a create and a close
	places  []place          // of a settle
	change  domain.Change
	endedAt time.Time

	rules    domain.Rules
	bookings domain.AffectedBookings // of a close and a retire
	closure  domain.ClosureID        // of a reopen
}

func (a asked) carryOut(ctx context.Context, h *Handler, r Request) (any, error) {
	switch a.kind {
	case "create":
		return h.CreateBooking(ctx, CreateBooking{Request: r, Room: a.room, User: "ann", Slot: a.slot})
	case "change":
		return h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: a.booking, Room: a.change.Room, User: a.change.User, Start: a.change.Start, End: a.change.End})
	case "cancel":
		return h.CancelBooking(ctx, CancelBooking{Request: r, Booking: a.booking})
	case "confirm":
		return h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: a.booking, Answer: domain.Confirmed, AnsweredAt: r.At})
	case "deny":
		return h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: a.booking, Answer: domain.Denied, AnsweredAt: r.At})
	case "start":
		return h.StartUse(ctx, StartUse{Request: r, Booking: a.booking, StartedAt: noon})
	case "end":
		return h.EndUse(ctx, EndUse{Request: r, RealUse: domain.RealUseOf(a.booking), EndedAt: a.endedAt})
	case "look":
		return h.Booking(ctx, a.booking)
	case "register":
		return h.RegisterRoom(ctx, RegisterRoom{Request: r, Room: a.room, Details: domain.Details{Name: "Room"}})
	case "rules":
		return h.SetRules(ctx, SetRules{Request: r, Room: a.room, Rules: a.rules})
	case "close":
		return h.ClosePeriod(ctx, ClosePeriod{Request: r, Room: a.room, Slot: a.slot, Bookings: a.bookings})
	case "reopen":
		return h.ReopenPeriod(ctx, ReopenPeriod{Request: r, Room: a.room, Closure: a.closure})
	case "retire":
		return h.RetireRoom(ctx, RetireRoom{Request: r, Room: a.room, From: a.slot.Start, Bookings: a.bookings})
	case "reinstate":
		return h.ReinstateRoom(ctx, ReinstateRoom{Request: r, Room: a.room})
	case "clear":
		ctx, end, err := h.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer end()
		_, err = h.clear(ctx, a.room, a.places)
		return nil, err
	case "settle":
		ctx, end, err := h.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer end()
		b, err := h.settle(ctx, a.booking, a.places...)
		return bookingOf(b), err
	}
	panic(a.kind)
}

// isRefusal reports whether an error is an answer to the command, rather than a failure to carry it out or to learn its outcome.
func isRefusal(err error) bool {
	_, before := errors.AsType[*RefusedBefore](err)
	return err != nil && !before && !isAway(err) && !errors.Is(err, ErrContended) && !errors.Is(err, ErrKeyReused)
}

// ofRoom reports whether it is a command on a room.
func (a asked) ofRoom() bool {
	return slices.Contains([]string{"register", "rules", "close", "reopen", "retire", "reinstate"}, a.kind)
}

// judge decides whether a run is correct. After each event that was appended
//
//   - no two live bookings of a room overlap, nor do two reservations,
//   - every live booking's reservation is held, for exactly its slot, and no reservation was released while it backed a booking,
//
// every answer is true,
//
//   - what was acknowledged is there and can be read, including its last step,
//   - the reason for a refusal held at some moment between question and answer, and nothing of the command was done,
//   - a command that was asked again gets the same answer,
//   - what was to be done at one revision only was done at no other, and what was to replace one reservation replaced no other,
//
// and once a new process has finished what others left, everything is settled: whatever was decided is done, and nothing else is held.
type judge struct {
	*testing.T
	s        *scheduler
	run      string
	audit    *Audit
	judged   map[*caller]bool
	bookings []domain.BookingID
	closures []domain.ClosureID
	steps    int
}

func newJudge(t *testing.T, s *scheduler, run string) *judge {
	j := &judge{T: t, s: s, run: run, audit: NewAudit(), judged: make(map[*caller]bool)}
	audited := 0
	s.took = func() {
		for _, r := range s.log[audited:] {
			j.audit.Add(r)
		}
		audited = len(s.log)
	}
	return j
}

func (j *judge) failf(format string, args ...any) {
	j.Helper()
	j.Fatalf("%s: %s, after%s", j.run, fmt.Sprintf(format, args...), j.s)
}

// close ends all goroutines.
func (j *judge) close() {
	j.s.kill()
	time.Sleep(time.Second)
	synctest.Wait()
}

func anybody(*halted) bool { return true }

// advance lets something happen: a goroutine goes on, a process dies, or a late append is done. It reports false if nothing can.
func (j *judge) advance(may func(*halted) bool) bool {
	j.Helper()
	s := j.s
	if j.steps++; j.steps == 20_000 {
		j.failf("no end in sight")
	}
	if i := s.exception(landing, len(s.late)+1); i > 0 {
		s.land(i - 1)
	}
	var busy []*replica
	for _, r := range s.alive() {
		if r.busy() > 0 {
			busy = append(busy, r)
		}
	}
	if i := s.exception(crashing, len(busy)+1); i > 0 {
		s.crash(busy[i-1])
	}
	went := s.step(may)
	j.look()
	if !went && len(s.running()) > 0 && len(s.halted) == 0 {
		j.failf("all wait for each other")
	}
	return went
}

// alive lists the processes that have not died.
func (s *scheduler) alive() []*replica {
	return slices.DeleteFunc(slices.Clone(s.replicas), func(r *replica) bool { return r.dead })
}

// busy counts the callers who wait for the replica.
func (r *replica) busy() (n int) {
	for _, c := range r.scheduler.running() {
		if c.replica == r {
			n++
		}
	}
	return n
}

// look judges what has happened since the last look.
func (j *judge) look() {
	j.Helper()
	if len(j.audit.findings) > 0 {
		j.failf("%v", j.audit.findings)
	}
	for _, c := range j.s.callers {
		if !c.gone || j.judged[c] {
			continue
		}
		j.judged[c] = true
		c.end = len(j.s.trace)
		if c.heard && !j.s.behind {
			j.answered(c)
		}
	}
}

// finish lets everything that is running come to its end.
func (j *judge) finish() {
	j.Helper()
	for j.advance(anybody) {
	}
}

// wantEverythingOfEachRoom asks for the whole of each room while everyone else has halted: only bookings that exist may be in the way.
func (j *judge) wantEverythingOfEachRoom() {
	j.Helper()
	for _, room := range redAndBlue {
		r := j.s.start(DefaultCacheBytes)
		id := commandID(1000 + r.number)
		c := j.s.begin(r, asked{kind: "create", booking: domain.BookingID(id.String()), room: room, slot: slot(0, 24)}, Request{ID: id})
		for j.advance(func(h *halted) bool { return h.replica == r }) {
		}
		if !c.gone {
			j.failf("caller %d waits for others", c.number)
		}
	}
}

// wantSettled kills all processes and lets a new one finish what they left, before and after the late appends are done.
func (j *judge) wantSettled() {
	j.Helper()
	s := j.s
	for _, r := range s.alive() {
		j.wantRemembered(r)
	}
	s.kill()
	behind := s.behind // then answers need not be true
	s.behind = false
	if d, ok := s.chooser.(*drawn); ok {
		d.rates = [exceptions]float64{stale: 0.3, switching: 0.5}
	}
	j.settleAll()
	for len(s.late) > 0 {
		s.land(s.pick(len(s.late)))
		j.look()
	}
	j.settleAll()
	for _, f := range j.audit.Findings() {
		j.failf("settled: %v", f)
	}
	if !behind {
		j.wantNothingOfTheRefused()
		j.wantAnsweredAlike()
	}
	j.wantConditionsKept()
	j.wantInPlaceOfTheFormer()
	j.wantFoldedAgain()
}

// settleAll settles what recovery would find, in the same way.
func (j *judge) settleAll() {
	j.Helper()
	r := j.s.start(DefaultCacheBytes)
	open := func() map[subject]*openBooking {
		steps := newOpenSteps(0)
		for _, r := range j.s.log {
			steps.add(r)
		}
		return steps.bookings
	}
	left := open()
	j.s.shown = j.s.end() // it is found by following the log
	for _, id := range slices.SortedFunc(maps.Keys(left), func(a, b subject) int { return cmp.Compare(a.String(), b.String()) }) {
		a := asked{kind: "settle", booking: id.booking, places: left[id].places()}
		if id.room != "" {
			a.kind, a.room = "clear", id.room
		}
		c := j.s.begin(r, a, Request{ID: commandID(len(j.s.callers))})
		j.finish()
		if c.err != nil {
			j.failf("%s cannot be settled: %v", id, c.err)
		}
	}
	for id, b := range open() {
		if id.room == "" { // that a room is settled is in no event
			j.failf("%s waits for %q after it was settled", id, b.names())
		}
	}
}

// wantRemembered checks that what a process has cached is what is stored, as far as it goes.
func (j *judge) wantRemembered(r *replica) {
	j.Helper()
	for _, stream := range r.cache.lru.Keys() {
		kept, _ := r.cache.lru.Peek(stream)
		stored := func(revision domain.Revision) []eventstore.Recorded {
			if int(revision) >= len(j.s.streams[stream]) {
				j.failf("replica %d remembers %s at revision %d", r.number, stream, revision)
			}
			return j.s.streams[stream][:revision+1]
		}
		var got, want any
		switch kept := kept.(type) {
		case *calendar:
			j.wantSameCalendar(fmt.Sprintf("replica %d remembers", r.number), kept.Calendar, foldAll[domain.Calendar](stored(kept.Revision())))
		case *folded[domain.Booking]:
			got, want = kept.state, foldAll[domain.Booking](stored(kept.revision))
		case *folded[domain.RealUse]:
			got, want = kept.state, foldAll[domain.RealUse](stored(kept.revision))
		}
		if !reflect.DeepEqual(got, want) {
			j.failf("replica %d remembers %+v, want %+v", r.number, got, want)
		}
	}
}

// wantFoldedAgain checks that folding every stream from its start leads to the same states.
func (j *judge) wantFoldedAgain() {
	j.Helper()
	for room, c := range j.audit.calendars {
		atOnce := domain.Calendar{}.EvolveAll(func(yield func(domain.Revision, domain.Event) bool) {
			for _, r := range j.s.streams[room.Stream()] {
				yield(r.Revision, r.Event)
			}
		})
		j.wantSameCalendar("folded at once", atOnce, c)
	}
	for id, b := range j.audit.bookings {
		if again := foldAll[domain.Booking](j.s.streams[id.Stream()]); !reflect.DeepEqual(again, b) {
			j.failf("folded again, booking %s is\n%+v, was\n%+v", id, again, b)
		}
	}
	for id, u := range j.audit.uses {
		if again := foldAll[domain.RealUse](j.s.streams[id.Stream()]); !reflect.DeepEqual(again, u) {
			j.failf("folded again, real use %s is\n%+v, was\n%+v", id, again, u)
		}
	}
}

// wantSameCalendar wants a calendar that forgot nothing, except for what it says it did.
func (j *judge) wantSameCalendar(what string, got, want domain.Calendar) {
	j.Helper()
	held := func(c domain.Calendar) (all []domain.Reservation) {
		for r := range c.All {
			if of := c.Held(r.BookingID, r.ReservationID); of == nil || *of != *r {
				j.failf("%s: %s is held by slot, and by booking it is %+v", what, r.ReservationID, of)
			}
			if r.Slot.End.After(got.Since()) {
				all = append(all, *r)
			}
		}
		return all
	}
	if !got.About().Same(want.About()) {
		j.failf("%s %+v, want %+v", what, got.About(), want.About())
	}
	if !slices.Equal(held(got), held(want)) {
		j.failf("%s %+v, want %+v", what, held(got), held(want))
	}
}

func foldAll[S interface{ Evolve(domain.Event) S }](events []eventstore.Recorded) (state S) {
	for _, r := range events {
		state = state.Evolve(r.Event)
	}
	return state
}

// bookingAt is a booking, and its revision, as of when the log ended at a position.
func (s *scheduler) bookingAt(id domain.BookingID, p eventstore.Position) (domain.Booking, domain.Revision) {
	n := s.upTo(id.Stream(), p)
	return foldAll[domain.Booking](s.streams[id.Stream()][:n]), domain.Revision(n) - 1
}

func (s *scheduler) useAt(id domain.RealUseID, p eventstore.Position) domain.RealUse {
	return foldAll[domain.RealUse](s.streams[id.Stream()][:s.upTo(id.Stream(), p)])
}

// roomAt is the state of a room itself as of when the log ended at a position.
func (s *scheduler) roomAt(room domain.RoomID, p eventstore.Position) domain.Room {
	r := domain.Calendar{}.About()
	for _, e := range s.streams[room.Stream()][:s.upTo(room.Stream(), p)] {
		r = r.Evolve(e.Revision, e.Event)
	}
	return r
}

func (s *scheduler) end() eventstore.Position { return eventstore.Position(len(s.log)) }

// answered judges what a caller was answered.
func (j *judge) answered(c *caller) {
	j.Helper()
	if c.err != nil {
		j.refused(c)
		return
	}
	s := j.s
	now := foldAll[domain.Booking](s.streams[c.booking.Stream()])
	wrong := func(why string) {
		j.Helper()
		j.failf("caller %d was answered %+v: %s", c.number, c.answer, why)
	}
	var events []eventstore.Recorded
	var position eventstore.Position
	switch a := c.answer.(type) {
	case Booking:
		events, position = s.streams[c.booking.Stream()], a.Position
		if c.kind == "settle" && a.Revision == eventstore.NoStream {
			return
		}
		if int(a.Revision) >= len(events) || !reflect.DeepEqual(a.Booking, foldAll[domain.Booking](events[:a.Revision+1])) {
			wrong("that was never so")
		}
		events = events[:a.Revision+1]
		switch b := a.Booking; c.kind {
		case "create":
			if b.ID != c.booking || b.Room != c.room || !b.Slot.Equal(c.slot) || !b.Live() {
				wrong("that is not what was asked for")
			}
		case "change":
			if room, user, slot := b.Target(c.change); room != b.Room || user != b.User || !slot.Equal(b.Slot) {
				wrong("that is not what was asked for")
			}
			last := len(events) - 1
			for last > 0 && events[last].Type != (domain.BookingChanged{}).EventType() {
				last--
			}
			before := foldAll[domain.Booking](events[:last])
			if before.Reservation != b.Reservation && j.heldSince(before) < events[last].Position {
				wrong("its former slot is held")
			}
		case "cancel":
			if b.Phase() != domain.PhaseCancelled {
				wrong("it is not cancelled")
			}
		case "confirm":
			if b.Confirm.Answer != domain.Confirmed {
				wrong("it is not confirmed")
			}
		case "deny":
			if b.Confirm.Answer != domain.Denied || b.Live() {
				wrong("it is not denied")
			}
		case "look":
			if _, then := s.bookingAt(c.booking, c.began); a.Revision < then {
				wrong("there was a later revision before it was asked for")
			}
		}
	case Room:
		position = a.Position
		then := domain.Calendar{}.About()
		for _, e := range s.streams[c.room.Stream()] {
			if e.Revision <= a.Revision {
				then = then.Evolve(e.Revision, e.Event)
			}
		}
		if !then.Same(a.Room) || a.Revision < 0 {
			wrong("that was never so")
		}
		closed := slices.ContainsFunc(a.Closures, func(of domain.Closure) bool { return string(of.ID) == c.request.ID.String() })
		switch {
		case c.kind == "rules" && !reflect.DeepEqual(a.Rules, c.rules), c.kind == "retire" && a.Retirement == nil, c.kind == "reinstate" && a.Retirement != nil,
			c.kind == "close" && !closed && !a.CompleteFrom(c.slot.End), slices.ContainsFunc(a.Closures, func(of domain.Closure) bool { return c.kind == "reopen" && of.ID == c.closure }):
			wrong("that is not what was asked for")
		}
		if (c.kind == "close" || c.kind == "retire") && c.bookings == domain.CancelBookings {
			j.wantCleared(c, a.Revision)
		}
	case RealUse:
		events, position = s.streams[domain.RealUseOf(c.booking).Stream()], a.Position
		if int(a.Revision) >= len(events) || !reflect.DeepEqual(a.RealUse, foldAll[domain.RealUse](events[:a.Revision+1])) {
			wrong("that was never so")
		}
		switch {
		case c.kind == "start" && a.Phase() != domain.UsePhaseStarted, c.kind == "end" && (a.Phase() != domain.UsePhaseEnded || !a.EndedAt().Equal(c.endedAt)):
			wrong("that is not what was asked for")
		case c.kind == "end" && now.Live():
			wrong("its booking is live")
		}
	}
	if position > s.shown {
		wrong("it cannot be read yet")
	}
	if ends := c.kind == "cancel" || c.kind == "deny" || c.kind == "end"; ends && j.heldSince(now) < position {
		wrong("its slot is held")
	}
}

// wantCleared checks that the bookings which had slots in a period, when the event at a revision closed it, are over, in use or elsewhere.
func (j *judge) wantCleared(c *caller, closed domain.Revision) {
	j.Helper()
	for _, r := range j.s.streams[c.room.Stream()][:closed] {
		e, ok := r.Event.(domain.SlotReserved)
		if !ok || !e.Slot.End.After(c.slot.Start) || c.kind == "close" && !e.Slot.Overlaps(c.slot) {
			continue
		}
		_, cancels := j.s.roomAt(c.room, j.s.end()).Cancels(e.Slot) // unless somebody has ended that meanwhile
		if b := j.audit.bookings[e.BookingID]; cancels && b.BackedBy(e.ReservationID) && b.Use == nil {
			j.failf("caller %d was told that %s is closed for %s, and it is booked by %s", c.number, c.room, c.slot, e.BookingID)
		}
	}
}

// heldSince is the position of the reservation that backed the booking last, or the end of time if it is not held, or only for what was
// used. A late try of a command may have made it once more after its release; then it will be released once more.
func (j *judge) heldSince(b domain.Booking) eventstore.Position {
	if held := j.audit.calendars[b.Room].Held(b.ID, b.Reservation); held != nil && !held.Used {
		for _, r := range slices.Backward(j.s.streams[b.Room.Stream()]) {
			if e, ok := r.Event.(domain.SlotReserved); ok && e.ReservationID == b.Reservation {
				return r.Position
			}
		}
	}
	return math.MaxUint64
}

// refused judges an error that a caller got.
func (j *judge) refused(c *caller) {
	j.Helper()
	s := j.s
	var was func(b domain.Booking, revision domain.Revision, use domain.RealUse, p eventstore.Position) bool
	// asks is the room and the slot that the caller wanted.
	asks := func(b domain.Booking) (domain.RoomID, domain.Slot) {
		if c.kind != "change" {
			return c.room, c.slot
		}
		room, _, slot := b.Target(c.change)
		return room, slot
	}
	switch err := c.err.(type) {
	case *domain.RuleBroken:
		was = func(b domain.Booking, _ domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
			room, slot := asks(b)
			rules := s.roomAt(room, p).Rules
			gap := time.Duration(rules.GapMinutes) * time.Minute
			var counted int
			for _, r := range err.By {
				other, _ := s.bookingAt(r.BookingID, p)
				if other.ID != c.booking && (other.BackedBy(r.ReservationID) || r.Used && !other.UsedOn(r.ReservationID).IsZero()) {
					counted++
				}
			}
			return slices.ContainsFunc(err.Broken, func(of domain.BrokenRule) bool {
				switch of.Rule {
				case domain.RuleGap:
					return of.Limit == rules.GapMinutes && counted > 0 && !slices.ContainsFunc(err.By, func(r *domain.Reservation) bool {
						return !r.Slot.Overlaps(domain.Slot{Start: slot.Start.Add(-gap), End: slot.End.Add(gap)})
					})
				case domain.RuleUpcoming:
					return of.Limit == rules.UpcomingPerUser && counted >= rules.UpcomingPerUser
				}
				return false
			})
		}
	case *domain.RoomClosed:
		was = func(b domain.Booking, _ domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
			room, slot := asks(b)
			return slices.ContainsFunc(err.By, func(closed domain.Closure) bool {
				return closed.Slot.Overlaps(slot) && slices.ContainsFunc(s.roomAt(room, p).Closures, func(of domain.Closure) bool { return of.ID == closed.ID })
			})
		}
	case *domain.Retired:
		was = func(b domain.Booking, _ domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
			room, slot := asks(b)
			retirement := s.roomAt(room, p).Retirement
			return retirement != nil && retirement.From.Equal(err.From) && slot.End.After(err.From)
		}
	case *domain.SlotTaken:
		if len(err.By) == 0 {
			j.failf("caller %d was refused for nothing: %v", c.number, c.err)
		}
		was = func(b domain.Booking, _ domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
			room, slot := asks(b)
			return slices.ContainsFunc(err.By, func(r *domain.Reservation) bool {
				other, _ := s.bookingAt(r.BookingID, p)
				taken := other.Slot
				if r.Used { // what is left of it is held forever
					taken = r.Slot
				}
				backing := other.BackedBy(r.ReservationID) || r.Used && !other.UsedOn(r.ReservationID).IsZero()
				return backing && other.Room == room && taken.Overlaps(slot) && other.ID != c.booking && (c.kind == "create" || b.Live())
			})
		}
	case *domain.AlreadyCancelled:
		was = func(b domain.Booking, _ domain.Revision, use domain.RealUse, _ eventstore.Position) bool {
			return b.Phase() == domain.PhaseCancelled || c.kind == "look" && use.Phase() == domain.UsePhaseEnded
		}
	case *domain.AlreadyInUse:
		was = func(b domain.Booking, _ domain.Revision, use domain.RealUse, _ eventstore.Position) bool {
			return b.Phase() == domain.PhaseInUse && use.Phase() != domain.UsePhaseEnded
		}
	case *domain.AlreadyConfirmed:
		was = func(b domain.Booking, _ domain.Revision, _ domain.RealUse, _ eventstore.Position) bool {
			return b.Live() && b.Confirm.Answer == domain.Confirmed
		}
	case *domain.AlreadyEnded:
		was = func(_ domain.Booking, _ domain.Revision, use domain.RealUse, _ eventstore.Position) bool {
			return use.Phase() == domain.UsePhaseEnded && !use.EndedAt().Equal(c.endedAt)
		}
	case *ConditionFailed:
		was = func(_ domain.Booking, revision domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
			if c.kind == "end" {
				revision = domain.Revision(s.upTo(domain.RealUseOf(c.booking).Stream(), p)) - 1
			}
			if c.ofRoom() {
				revision = s.roomAt(c.room, p).Revision
			}
			return revision == err.Revision && !c.request.allows(revision)
		}
	case *RefusedBefore:
		was = func(domain.Booking, domain.Revision, domain.RealUse, eventstore.Position) bool {
			return slices.ContainsFunc(s.callers, func(other *caller) bool { return other.request.ID == c.request.ID && other.refusal == err.Answer })
		}
	default:
		switch {
		case errors.Is(err, domain.ErrBookingNotFound):
			was = func(b domain.Booking, _ domain.Revision, _ domain.RealUse, _ eventstore.Position) bool {
				return b.Phase() == domain.PhaseNone
			}
		case errors.Is(err, domain.ErrRoomNotFound):
			was = func(_ domain.Booking, _ domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
				return s.roomAt(c.room, p).ID == ""
			}
		case errors.Is(err, domain.ErrClosureNotFound):
			was = func(_ domain.Booking, _ domain.Revision, _ domain.RealUse, p eventstore.Position) bool {
				r := s.roomAt(c.room, p)
				return r.ID != "" && !slices.ContainsFunc(r.Closures, func(of domain.Closure) bool {
					return of.ID == c.closure && (!s.forgetful || of.Slot.End.After(c.request.At))
				})
			}
		case errors.Is(err, domain.ErrRealUseNotFound):
			was = func(_ domain.Booking, _ domain.Revision, use domain.RealUse, _ eventstore.Position) bool {
				return use.Phase() == domain.UsePhaseNone
			}
		case errors.Is(err, ErrKeyReused):
			was = func(domain.Booking, domain.Revision, domain.RealUse, eventstore.Position) bool {
				return slices.ContainsFunc(s.callers, func(other *caller) bool {
					return other.request.ID == c.request.ID && other.request.Digest != c.request.Digest
				})
			}
		case isAway(err) && s.faults > 0 || errors.Is(err, ErrContended):
			return
		default:
			j.failf("caller %d was told: %v", c.number, err)
		}
	}
	for p := c.began; p <= s.end(); p++ {
		if b, revision := s.bookingAt(c.booking, p); was(b, revision, s.useAt(domain.RealUseOf(c.booking), p), p) {
			return
		}
	}
	j.failf("caller %d was told what was at no moment so: %v", c.number, c.err)
}

// wantNothingOfTheRefused checks that commands which were refused, or were told that nothing was decided, did nothing.
func (j *judge) wantNothingOfTheRefused() {
	j.Helper()
	for _, r := range j.s.log {
		if strings.HasPrefix(r.Stream, domain.KeyCategory+"-") || strings.HasPrefix(r.Stream, domain.CalendarCategory+"-") {
			continue
		}
		var number int
		if _, err := fmt.Sscanf(r.Metadata.CorrelationID, "caller %d", &number); err != nil {
			j.failf("whose is %+v?", r)
		}
		if c := j.s.callers[number]; c.heard && c.err != nil && !errors.Is(c.err, eventstore.ErrOutcomeUnknown) {
			j.failf("caller %d was told %v, and it did %+v", number, c.err, r)
		}
	}
}

// wantConditionsKept checks that what was to be done at one revision only was done at no other, whoever did it.
func (j *judge) wantConditionsKept() {
	j.Helper()
	for _, c := range j.s.callers {
		stream := c.booking.Stream()
		if c.kind == "end" {
			stream = domain.RealUseOf(c.booking).Stream()
		}
		for _, r := range j.s.streams[stream] {
			if r.Metadata.CorrelationID != c.request.CorrelationID {
				continue
			}
			if !c.request.allows(r.Revision - 1) {
				j.failf("caller %d did %+v, and asked for it at %v", c.number, r, c.request.IfRevisions)
			}
			break // what follows is of the same append
		}
	}
}

// wantInPlaceOfTheFormer checks that bookings moved only to reservations that replace the one that backed them.
func (j *judge) wantInPlaceOfTheFormer() {
	j.Helper()
	made := make(map[domain.ReservationID]domain.SlotReserved)
	backing := make(map[domain.BookingID]domain.ReservationID)
	for _, r := range j.s.log {
		switch e := r.Event.(type) {
		case domain.SlotReserved:
			made[e.ReservationID] = e
		case domain.BookingCreated:
			backing[e.BookingID] = e.ReservationID
		case domain.BookingChanged:
			if before := backing[e.BookingID]; e.ReservationID != before && made[e.ReservationID].Replaces != before {
				j.failf("booking %s moved from %s to %+v", e.BookingID, before, made[e.ReservationID])
			}
			backing[e.BookingID] = e.ReservationID
		}
	}
}

// wantAnsweredAlike checks that all tries of a command get the same answer. Of concurrent tries, one may have nothing to do, or be refused,
// while another one carries the command out or finds otherwise; later tries may then get either answer.
func (j *judge) wantAnsweredAlike() {
	j.Helper()
	for i, c := range j.s.callers {
		refusal, decided := c.told()
		if !decided {
			continue
		}
		for _, other := range j.s.callers[:i] {
			refused, decided := other.told()
			if !decided || !c.triesAs(other) {
				continue
			}
			differently := refused != refusal || refused == "" && !sameAnswer(c.answer, other.answer)
			if differently && !(j.decidedNothing(c) && j.atOnce(c)) {
				j.failf("callers %d and %d asked with one key and were answered differently", other.number, c.number)
			}
		}
	}
}

// told is the refusal that the caller got, empty if the command was carried out; decided is false if the caller got no answer.
func (c *caller) told() (refusal string, decided bool) {
	before, ok := errors.AsType[*RefusedBefore](c.err)
	switch {
	case !c.heard:
		return "", false
	case ok:
		return before.Answer, true
	case isRefusal(c.err):
		return c.kept, true
	default:
		return "", c.err == nil
	}
}

// triesAs reports whether two callers asked the same thing with the same key.
func (c *caller) triesAs(other *caller) bool {
	return c.request.Digest != "" && c.request.ID == other.request.ID && c.request.Digest == other.request.Digest
}

// decidedNothing reports whether a try of the command was refused, or had nothing to do.
func (j *judge) decidedNothing(c *caller) bool { return len(j.s.streams[c.request.keyStream()]) > 1 }

// atOnce reports whether tries of the command were concurrent.
func (j *judge) atOnce(c *caller) bool {
	var tries []*caller // in the order of their begin
	for _, other := range j.s.callers {
		if !other.triesAs(c) {
			continue
		}
		if slices.ContainsFunc(tries, func(earlier *caller) bool { return earlier.end > other.start }) {
			return true
		}
		tries = append(tries, other)
	}
	return false
}
