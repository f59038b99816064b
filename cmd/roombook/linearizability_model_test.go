package main

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is a client's request in the terms of the specification: bookings are numbered by the request that makes them, rooms and users
// are numbers from 1, times are minutes from 1. A 0 leaves a value unchanged.
type op struct {
	kind    opKind
	booking int
	room    int
	start   int
	end     int
	user    int
	by      int // the administrator who answers
	at      int // when the use starts or ends
	match   int // as If-Match; 0 is none

	// These are of requests about a room, of which booking is -1. Closures are numbered from 1 by the request that makes them.
	closure int
	roomRules
	from    int // of a retirement
	cancels int // the number of a request that cancels bookings; 0 if they stay
}

// roomRules are rules of a room, in minutes; 0 is none.
type roomRules struct {
	gap, shortest, longest, step int
	opens, shuts                 int // the hours of every day
	early                        int // before its slot a use may start
	upcoming, weekly             int // bookings and minutes that a user may have
	// thisYear is a horizon of a day and a notice of a minute, which no slot of any world keeps.
	thisYear bool
}

type opKind string

const (
	opBook       opKind = "book"
	opChange     opKind = "change"
	opCancel     opKind = "cancel"
	opConfirm    opKind = "confirm"
	opDeny       opKind = "deny"
	opStart      opKind = "start use"
	opEnd        opKind = "end use"
	opBooking    opKind = "read booking"
	opAnswer     opKind = "read confirm"
	opUse        opKind = "read use"
	opRules      opKind = "set rules"
	opClose      opKind = "close"
	opReopen     opKind = "reopen"
	opRetire     opKind = "retire"
	opReinstate  opKind = "reinstate"
	opHolds      opKind = "named in a refusal" // one booking that a refusal says is in the way
	opCleared    opKind = "cleared"            // the bookings that a closure or retirement cancels are cancelled, which its reply says
	opRecovered  opKind = "recovered"          // all that is to be cancelled is
	opNoMoreWork opKind = "the end"            // requests of unknown outcome that have not happened by now never will
)

func (k opKind) reads() bool {
	return k == opBooking || k == opAnswer || k == opUse || k == opHolds || k == opRecovered
}

// ofRoom reports whether the request is about a room.
func (k opKind) ofRoom() bool {
	return k == opRules || k == opClose || k == opReopen || k == opRetire || k == opReinstate
}

// reply is what a client is told. What a reply does not show is 0.
type reply struct {
	unknown  bool // the request may have happened at any time since it was sent, or never
	code     int
	problem  string // the name of its type
	reason   string // why the booking was cancelled
	status   string
	room     int
	start    int
	end      int
	user     int
	by       int
	useStart int
	useEnd   int
	revision int
	inTheWay [maxInTheWay]slotHeld
}

// maxInTheWay is how many bookings of a world can overlap one slot at once.
const maxInTheWay = 8

// slotHeld is a booking that a refusal names. The zero value is none.
type slotHeld struct{ booking, start, end int }

// act is one request and its reply, and the nanoseconds of the run at which the client sent the one and received the other.
type act struct {
	op
	told            reply
	client, process int
	sent, heard     int64
}

// bookingSpec is a booking as the specification has it.
type bookingSpec struct {
	status             string // none, BOOKED, CONFIRMED, IN_USE or CANCELLED
	reason             string
	room, start, end   int
	user               int
	counts             int    // the user whose limits it counts for
	answer             string // BOOKED, CONFIRMED or DENIED
	by                 int
	useFrom            int // when the use may start at the earliest
	useStart, useEnd   int
	revision, useEvent int
	// doomed is set if the booking may have been cancelled since its room was closed or retired, which no reply has shown yet.
	doomed bool
}

func (b bookingSpec) live() bool {
	return b.status == "BOOKED" || b.status == "CONFIRMED" || b.status == "IN_USE"
}

// holds reports whether the booking takes up part of the time: because it is live, or because it used it.
func (b bookingSpec) holds(start, end int) bool {
	return (b.live() || b.reason == "use-ended") && b.start < b.end && b.start < end && start < b.end
}

// maxBookings bounds the bookings of one world, and maxClosures its closures.
const (
	maxBookings = 24
	maxClosures = 6
)

// roomSpec is what is known of a room.
type roomSpec struct {
	roomRules
	retired        int                      // from when; 0 is not
	retiredCancels bool                     // bookings that end later
	closures       [maxClosures]closureSpec // by number; empty unless the room is closed then
}

type closureSpec struct {
	start, end int
	cancels    bool // bookings that overlap it
}

// cancels reports whether a booking of the time is to be cancelled unless its use has started.
func (r *roomSpec) cancels(start, end int) bool {
	return r.retiredCancels && end > r.retired || slices.ContainsFunc(r.closures[:], func(c closureSpec) bool { return c.cancels && c.start < end && start < c.end })
}

// roomsSpec is the sequential specification of the program: rooms and bookings, changed by one request after another, each
// atomically, except that a closure or retirement cancels bookings one after another until it is answered. It is written from what the API
// promises and shares no code with the program. Values can be compared.
type roomsSpec struct {
	bookings [maxBookings]bookingSpec
	rooms    [worldRooms]roomSpec
	decided  uint64 // the requests that cancel bookings and have been carried out, a bit for the number of each
	over     bool
}

// do carries out a request and returns the reply to it. Doomed bookings can allow more than one reply; told is the problem that the client was
// told of, and do returns the reply with that problem if it is one of them.
func (s roomsSpec) do(a op, told string) (roomsSpec, reply) {
	if a.kind.ofRoom() {
		return s.doRoom(a)
	}
	if a.booking < 0 || a.booking >= maxBookings {
		return s, reply{code: 404, problem: "booking-not-found"}
	}
	b := &s.bookings[a.booking]
	if a.kind == opBook {
		if b.status != "" {
			return s, reply{} // a request is carried out once
		}
		if problem := s.refusal(a.booking, a.room, a.start, a.end, a.user, told); problem != "" {
			return s, reply{code: 409, problem: problem}
		}
		*b = bookingSpec{status: "BOOKED", user: a.user, answer: "BOOKED", revision: 1}
		s.reserve(b, a.room, a.start, a.end)
		return s, b.shown(201)
	}
	if a.kind == opEnd || a.kind == opUse {
		return s.use(a)
	}
	switch {
	case b.status == "":
		return s, reply{code: 404, problem: "booking-not-found"}
	case a.kind == opDeny && b.answer == "DENIED":
		if reply, failed := b.mismatched(a); failed {
			return s, reply
		}
		return s, b.answered()
	case b.status == "CANCELLED" && a.kind == opStart:
		return s, reply{code: 409, problem: "use-of-cancelled-booking", reason: b.reason}
	case b.status == "CANCELLED":
		return s, reply{code: 404, problem: "booking-cancelled", reason: b.reason}
	case a.kind == opBooking:
		return s, b.shown(200)
	case a.kind == opAnswer:
		return s, b.answered()
	case a.kind == opConfirm:
		if reply, failed := b.mismatched(a); failed {
			return s, reply
		}
		if b.answer != "CONFIRMED" {
			b.answer, b.by = "CONFIRMED", a.by
			b.revision++
			if b.status == "BOOKED" {
				b.status = "CONFIRMED"
			}
		}
		return s, b.answered()
	case b.status == "IN_USE":
		return s, reply{code: 409, problem: "booking-in-use"}
	case a.kind == opDeny && b.answer == "CONFIRMED":
		return s, reply{code: 409, problem: "already-confirmed", by: b.by}
	case a.kind == opStart && a.at < b.useFrom:
		return s, reply{code: 409, problem: "use-off-slot"}
	}
	if reply, failed := b.mismatched(a); failed {
		return s, reply
	}
	switch a.kind {
	case opCancel:
		b.cancel("user")
		b.revision++
		return s, reply{code: 204}
	case opDeny:
		b.cancel("denied")
		b.answer, b.by = "DENIED", a.by
		b.revision += 2
		return s, b.answered()
	case opStart:
		b.status, b.useStart, b.doomed = "IN_USE", a.at, false
		b.revision++
		return s, b.used(201)
	}
	return s.change(a, told)
}

// change is do for a change of a booking that can be changed.
func (s roomsSpec) change(a op, told string) (roomsSpec, reply) {
	b := &s.bookings[a.booking]
	room, start, end, user := cmp.Or(a.room, b.room), cmp.Or(a.start, b.start), cmp.Or(a.end, b.end), cmp.Or(a.user, b.user)
	keeps := b.has(room, start, end)
	switch {
	case keeps && user == b.user:
		return s, b.shown(200)
	case keeps && !s.rooms[room-1].limitsUsers():
		b.user = user
		b.revision += 2
		return s, b.shown(200)
	case end <= start:
		return s, reply{code: 422, problem: "invalid-body"}
	}
	if problem := s.refusal(a.booking, room, start, end, user, told); problem != "" {
		return s, reply{code: 409, problem: problem}
	}
	b.revision += 2
	if !keeps && user != b.user {
		b.revision++ // BookingHandedOver
	}
	b.user = user
	if !keeps {
		b.status, b.answer, b.by = "BOOKED", "BOOKED", 0
	}
	s.reserve(b, room, start, end)
	return s, b.shown(200)
}

// reserve gives the booking a time, which may be its own, for its user.
func (s *roomsSpec) reserve(b *bookingSpec, room, start, end int) {
	if !b.has(room, start, end) {
		b.useFrom = 0
		if early := s.rooms[room-1].early; early > 0 {
			b.useFrom = start - early
		}
	}
	b.room, b.start, b.end, b.counts, b.doomed = room, start, end, b.user, false
}

// use is do for the real use of a booking.
func (s roomsSpec) use(a op) (roomsSpec, reply) {
	b := &s.bookings[a.booking]
	switch {
	case b.useStart == 0:
		return s, reply{code: 404, problem: "real-use-not-found"}
	case a.kind == opUse:
	case b.useEnd == a.at:
	case b.useEnd != 0:
		return s, reply{code: 409, problem: "already-ended", useEnd: b.useEnd}
	case a.at < b.useStart:
		return s, reply{code: 422, problem: "invalid-body"}
	default:
		b.cancel("use-ended")
		b.useEnd, b.useEvent = a.at, 1
		b.end = min(b.end, a.at) // the rest is free; all of it, if the use ended before the slot began
	}
	return s, b.used(200)
}

// doRoom is do for a room.
func (s roomsSpec) doRoom(a op) (roomsSpec, reply) {
	room := &s.rooms[a.room-1]
	switch a.kind {
	case opRules:
		room.roomRules = a.roomRules
		return s, reply{code: 200}
	case opRetire, opReinstate:
		room.retired, room.retiredCancels = a.from, a.cancels > 0
		s.doom(a)
		return s, reply{code: 200}
	}
	closure := &room.closures[a.closure-1]
	if a.kind == opClose {
		*closure = closureSpec{a.start, a.end, a.cancels > 0}
		s.doom(a)
		return s, reply{code: 201}
	}
	if closure.end == 0 {
		return s, reply{code: 404, problem: "closure-not-found"}
	}
	*closure = closureSpec{}
	return s, reply{code: 204}
}

// doom marks the bookings of a room that are to be cancelled from now on.
func (s *roomsSpec) doom(a op) {
	if a.cancels == 0 {
		return
	}
	s.decided |= 1 << a.cancels
	for i := range s.bookings {
		if b := &s.bookings[i]; b.room == a.room && b.live() && b.status != "IN_USE" && s.rooms[a.room-1].cancels(b.start, b.end) {
			b.doomed = true
		}
	}
}

// clear cancels those doomed bookings for which the function returns true.
func (s *roomsSpec) clear(which func(bookingSpec) bool) {
	for i := range s.bookings {
		if b := &s.bookings[i]; b.doomed && which(*b) {
			b.cancel("room-closed")
		}
	}
}

// refusal is the problem because of which a booking cannot have a time, or cannot keep it for another user. It is empty if it can: then doomed
// bookings that would have been in the way are cancelled. If doomed bookings decide whether there is a problem, it is as the client was told.
func (s *roomsSpec) refusal(booking, number, start, end, user int, told string) string {
	room, own := &s.rooms[number-1], s.bookings[booking]
	keeps := own.has(number, start, end)
	if !keeps || room.cancels(start, end) {
		if room.retired > 0 && end > room.retired {
			return "room-retired"
		}
		if slices.ContainsFunc(room.closures[:], func(c closureSpec) bool { return c.start < end && start < c.end }) {
			return "room-closed"
		}
	}
	// Both without the doomed bookings and with them.
	broken := func(doomed bool) bool { return s.breaksRules(booking, number, start, end, user, doomed) }
	taken := func(doomed bool) bool { return len(s.inTheWay(booking, number, start, end, doomed)) > 0 }
	switch {
	case broken(false), told == "rule-broken" && broken(true):
		return "rule-broken"
	case taken(false), told == "slot-taken" && taken(true):
		return "slot-taken"
	case keeps:
		return ""
	}
	for _, i := range s.inTheWay(booking, number, start-room.gap, end+room.gap, true) {
		s.bookings[i].cancel("room-closed")
	}
	return ""
}

// breaksRules reports whether a booking would break a rule of the room at a time, or at the one that it has already with another user. Doomed
// bookings count or not.
func (s *roomsSpec) breaksRules(booking, number, start, end, user int, doomed bool) bool {
	room, own := &s.rooms[number-1], s.bookings[booking]
	if own.has(number, start, end) {
		return own.counts != user && s.overLimits(booking, number, start, end, user, doomed)
	}
	switch length := end - start; {
	case s.overLimits(booking, number, start, end, user, doomed):
	case room.shuts > 0 && (start < room.opens || end > room.shuts):
	case length < room.shortest:
	case room.longest > 0 && length > room.longest:
	case room.step > 0 && (start%room.step != 0 || end%room.step != 0):
	case room.thisYear && (own.room != number || own.start != start):
	case len(s.inTheWay(booking, number, start-room.gap, end+room.gap, doomed)) > len(s.inTheWay(booking, number, start, end, doomed)):
	default:
		return false
	}
	return true
}

// overLimits reports whether a user who has this booking in a room at a time would have more there than its rules allow.
func (s *roomsSpec) overLimits(booking, number, start, end, user int, doomed bool) bool {
	room, own := s.rooms[number-1], s.bookings[booking]
	upcoming, minutes := 1, end-start
	for i, b := range s.bookings {
		if i == booking || b.room != number || b.counts != user || b.doomed && !doomed {
			continue
		}
		if b.live() {
			upcoming++
		}
		if b.holds(b.start, b.end) {
			minutes += b.end - b.start
		}
	}
	more := own.room != number || own.counts != user
	return room.upcoming > 0 && more && upcoming > room.upcoming || room.weekly > 0 && minutes > room.weekly
}

func (r roomRules) limitsUsers() bool { return r.upcoming > 0 || r.weekly > 0 }

// inTheWay lists the bookings, except one, that take up part of the time, the doomed ones only if doomed is set.
func (s *roomsSpec) inTheWay(except, room, start, end int, doomed bool) []int {
	var way []int
	for i, b := range s.bookings {
		if i != except && b.room == room && b.holds(start, end) && (doomed || !b.doomed) {
			way = append(way, i)
		}
	}
	return way
}

// mismatched is the reply to a request whose If-Match fails, and whether it does.
func (b *bookingSpec) mismatched(a op) (reply, bool) {
	return reply{code: 412, problem: "precondition-failed", revision: b.revision}, a.match != 0 && a.match != b.revision
}

func (b *bookingSpec) cancel(reason string) {
	b.status, b.reason, b.doomed = "CANCELLED", reason, false
}

func (b *bookingSpec) has(room, start, end int) bool {
	return b.room == room && b.start == start && b.end == end
}

func (b *bookingSpec) shown(code int) reply {
	return reply{code: code, status: b.status, room: b.room, start: b.start, end: b.end, user: b.user, revision: b.revision}
}

func (b *bookingSpec) answered() reply {
	return reply{code: 200, status: b.answer, user: b.user, by: b.by, revision: b.revision}
}

func (b *bookingSpec) used(code int) reply {
	return reply{code: code, room: b.room, user: b.user, useStart: b.useStart, useEnd: b.useEnd, revision: b.useEvent}
}

// allows reports whether the reply is right at this moment, and returns the state after it. A doomed booking that the request is about may be
// cancelled by now or not, whichever the reply shows.
func (s roomsSpec) allows(a op, r reply) (bool, roomsSpec) {
	ok, after := s.shows(a, r)
	if !ok && !r.unknown && a.booking >= 0 && a.booking < maxBookings && s.bookings[a.booking].doomed {
		s.bookings[a.booking].cancel("room-closed")
		return s.shows(a, r)
	}
	return ok, after
}

// shows is allows if that booking is not cancelled yet.
func (s roomsSpec) shows(a op, r reply) (bool, roomsSpec) {
	switch a.kind {
	case opCleared:
		room := s.rooms[a.room-1]
		s.clear(func(b bookingSpec) bool {
			if a.closure > 0 {
				return b.room == a.room && b.start < a.end && a.start < b.end
			}
			return b.room == a.room && b.end > a.from && room.retiredCancels && room.retired == a.from
		})
		return s.decided&(1<<a.cancels) != 0, s
	case opRecovered:
		s.clear(func(b bookingSpec) bool { return s.rooms[b.room-1].cancels(b.start, b.end) })
		return true, s
	case opNoMoreWork:
		s.over = true
		return true, s
	case opHolds:
		if a.booking < 0 || a.booking >= maxBookings {
			return false, s
		}
		b := s.bookings[a.booking]
		return b.holds(a.start, a.end) && (a.room == 0 || b.room == a.room) && b.start == a.start && b.end == a.end, s
	}
	after, want := s.do(a, r.problem)
	if r.unknown {
		// Without an effect it may as well not have happened, which is tried once: at the end.
		return s.over || after != s, after
	}
	if want.problem == "slot-taken" && r.problem == "slot-taken" {
		return s.justifies(a, r), s
	}
	if r.problem == "rule-broken" { // with the bookings because of which it is
		r.inTheWay = want.inTheWay
	}
	return r == want, after
}

// justifies reports whether at least one booking that the refusal names is in the way and has the time that is given for it.
func (s *roomsSpec) justifies(a op, r reply) bool {
	own := s.bookings[a.booking]
	way := s.inTheWay(a.booking, cmp.Or(a.room, own.room), cmp.Or(a.start, own.start), cmp.Or(a.end, own.end), true)
	return slices.ContainsFunc(r.inTheWay[:], func(h slotHeld) bool {
		return h != slotHeld{} && slices.Contains(way, h.booking) && s.bookings[h.booking].start == h.start && s.bookings[h.booking].end == h.end
	})
}

// specification is roomsSpec for porcupine.
func specification() porcupine.Model {
	seed := maphash.MakeSeed()
	return porcupine.Model{
		Init: func() any { return roomsSpec{} },
		Step: func(state, input, output any) (bool, any) {
			return state.(roomsSpec).allows(input.(op), output.(reply))
		},
		Hash: func(state any) uint64 { return maphash.Comparable(seed, state.(roomsSpec)) },
	}
}

// longestCheck bounds the check of one history.
const longestCheck = 30 * time.Second

// linearizable reports whether the specification could have given all replies by carrying out one request after another, each at a
// moment between its sending and its reply. A request whose reply is unknown is carried out at any moment after its sending, or never.
func linearizable(history []act) porcupine.CheckResult {
	var end int64
	for _, a := range history {
		end = max(end, a.sent)
		if !a.told.unknown {
			end = max(end, a.heard)
		}
	}
	operations := []porcupine.Operation{{Input: op{kind: opNoMoreWork}, Output: reply{}, Call: end + 1, Return: end + 2}}
	for _, a := range history {
		o := porcupine.Operation{ClientId: a.client, Input: a.op, Output: a.told, Call: a.sent, Return: a.heard}
		if a.told.unknown {
			o.Return = math.MaxInt64
		}
		operations = append(operations, o)
		if a.cancels > 0 && !a.told.unknown {
			o.Input, o.Output = op{kind: opCleared, booking: -1, room: a.room, closure: a.closure, start: a.start, end: a.end, from: a.from, cancels: a.cancels}, reply{}
			operations = append(operations, o)
		}
		if a.told.inTheWay[1] == (slotHeld{}) {
			continue
		}
		// The program looks at several bookings in the way one after another: each had its time at some moment of the request.
		for _, h := range a.told.inTheWay {
			if h != (slotHeld{}) {
				told := op{kind: opHolds, booking: h.booking, room: a.room, start: h.start, end: h.end}
				operations = append(operations, porcupine.Operation{ClientId: a.client, Input: told, Output: reply{}, Call: a.sent, Return: a.heard})
			}
		}
	}
	return porcupine.CheckOperationsTimeout(specification(), operations, longestCheck)
}

// shortest drops from a history that is not linearizable what does not matter: what came after the reply that cannot be right,
// then whole bookings, then requests that changed nothing. None of this makes a linearizable history one that is not.
func shortest(history []act) []act {
	wrong := func(h []act) bool { return linearizable(h) == porcupine.Illegal }
	if !wrong(history) {
		return history
	}
	replies := slices.DeleteFunc(slices.Clone(history), func(a act) bool { return a.told.unknown })
	slices.SortFunc(replies, func(x, y act) int { return cmp.Compare(x.heard, y.heard) })
	i, _ := slices.BinarySearchFunc(replies, true, func(a act, _ bool) int {
		if wrong(until(history, a.heard)) {
			return 0
		}
		return -1
	})
	if i < len(replies) {
		history = until(history, replies[i].heard)
	}
	for smaller := true; smaller; {
		smaller = false
		for id := range maxBookings {
			without := slices.DeleteFunc(slices.Clone(history), func(a act) bool {
				return a.booking == id || slices.ContainsFunc(a.told.inTheWay[:], func(h slotHeld) bool { return h != slotHeld{} && h.booking == id })
			})
			if len(without) < len(history) && wrong(without) {
				history, smaller = without, true
			}
		}
		for i := len(history) - 1; i >= 0; i-- {
			if a := history[i]; a.told.unknown || a.told.code < 300 && !a.kind.reads() {
				continue
			}
			if without := slices.Delete(slices.Clone(history), i, i+1); wrong(without) {
				history, smaller = without, true
			}
		}
	}
	return history
}

// until is the history up to a moment; the outcome of requests that were under way then is unknown.
func until(history []act, moment int64) []act {
	var before []act
	for _, a := range history {
		if a.sent > moment {
			continue
		}
		if a.heard > moment && !a.told.unknown {
			if a.kind.reads() {
				continue
			}
			a.told = reply{unknown: true}
		}
		before = append(before, a)
	}
	return before
}

// narrative is a history in words, a line a request.
func narrative(history []act) string {
	history = slices.Clone(history)
	slices.SortFunc(history, func(x, y act) int { return cmp.Compare(x.sent, y.sent) })
	var b strings.Builder
	for _, a := range history {
		heard := "          -"
		if !a.told.unknown {
			heard = fmt.Sprintf("%9.3fms", float64(a.heard-history[0].sent)/1e6)
		}
		fmt.Fprintf(&b, "  %9.3fms to %s  client %d at %d: %s: %s\n", float64(a.sent-history[0].sent)/1e6, heard, a.client, a.process, a.op, a.told)
	}
	return b.String()
}

func (a op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s #%d", a.kind, a.booking)
	for _, f := range []struct {
		name  string
		value int
	}{{"room", a.room}, {"start", a.start}, {"end", a.end}, {"user", a.user}, {"by", a.by}, {"at", a.at}, {"if at revision", a.match}, {"closure", a.closure}, {"from", a.from}, {"cancelling as", a.cancels}, {"gap", a.gap}, {"shortest", a.shortest}, {"longest", a.longest}, {"step", a.step},
		{"opens", a.opens}, {"shuts", a.shuts}, {"early", a.early}, {"upcoming", a.upcoming}, {"weekly", a.weekly}} {
		if f.value != 0 {
			fmt.Fprintf(&b, " %s %d", f.name, f.value)
		}
	}
	if a.thisYear {
		b.WriteString(" this year")
	}
	return b.String()
}

func (r reply) String() string {
	if r.unknown {
		return "unknown"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d", r.code)
	for _, s := range []string{r.problem, r.reason, r.status} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"room", r.room}, {"start", r.start}, {"end", r.end}, {"user", r.user}, {"by", r.by}, {"use start", r.useStart}, {"use end", r.useEnd}, {"revision", r.revision}} {
		if f.value != 0 {
			fmt.Fprintf(&b, " %s %d", f.name, f.value)
		}
	}
	for _, h := range r.inTheWay {
		if h != (slotHeld{}) {
			fmt.Fprintf(&b, ", in the way #%d start %d end %d", h.booking, h.start, h.end)
		}
	}
	return b.String()
}

// TestSpecificationJudges gives the checker histories that are known to be right or wrong.
func TestSpecificationJudges(t *testing.T) {
	book := func(id, start, end int) op {
		return op{kind: opBook, booking: id, room: 1, start: start, end: end, user: 10 + id}
	}
	made := func(id, start, end int) reply {
		return reply{code: 201, status: "BOOKED", room: 1, start: start, end: end, user: 10 + id, revision: 1}
	}
	shown := func(id, start, end int) reply {
		r := made(id, start, end)
		r.code = 200
		return r
	}
	taken := func(by ...slotHeld) reply {
		r := reply{code: 409, problem: "slot-taken"}
		copy(r.inTheWay[:], by)
		return r
	}
	read := func(id int) op { return op{kind: opBooking, booking: id} }
	cancel := func(id int) op { return op{kind: opCancel, booking: id} }
	none := reply{code: 404, problem: "booking-not-found"}
	cancelled := reply{code: 404, problem: "booking-cancelled", reason: "user"}
	unknown := reply{unknown: true}
	at := func(sent, heard int64, a op, r reply) act { return act{op: a, told: r, sent: sent, heard: heard} }

	rules := func(gap, longest int) op {
		return op{kind: opRules, booking: -1, room: 1, roomRules: roomRules{gap: gap, longest: longest}}
	}
	ruling := func(r roomRules) op { return op{kind: opRules, booking: -1, room: 1, roomRules: r} }
	retiring := op{kind: opRetire, booking: -1, room: 1, from: 20}
	reinstating := op{kind: opReinstate, booking: -1, room: 1}
	closing := op{kind: opClose, booking: -1, room: 1, closure: 1, start: 15, end: 40}
	reopening := op{kind: opReopen, booking: -1, room: 1, closure: 1}
	cancelling := op{kind: opClose, booking: -1, room: 1, closure: 2, start: 15, end: 40, cancels: 3}
	clearing := op{kind: opRetire, booking: -1, room: 1, from: 20, cancels: 4}
	of := func(user, id, start, end int) op {
		a := book(id, start, end)
		a.user = user
		return a
	}
	has := func(user, id, start, end int) reply {
		r := made(id, start, end)
		r.user = user
		return r
	}
	cleared := reply{code: 404, problem: "booking-cancelled", reason: "room-closed"}
	set, closed, reopened := reply{code: 200}, reply{code: 201}, reply{code: 204}
	refused := func(problem string, by ...slotHeld) reply {
		r := reply{code: 409, problem: problem}
		copy(r.inTheWay[:], by)
		return r
	}

	for _, test := range []struct {
		name    string
		history []act
		want    porcupine.CheckResult
	}{
		{"two bookings back to back", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, book(1, 20, 30), made(1, 20, 30))}, porcupine.Ok},
		{"two bookings overlap", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, book(1, 15, 30), made(1, 15, 30))}, porcupine.Illegal},
		{"a refusal beside the booking that it names", []act{at(1, 9, book(0, 10, 20), made(0, 10, 20)), at(2, 4, book(1, 15, 30), taken(slotHeld{0, 10, 20}))}, porcupine.Ok},
		{"a refusal after the cancellation", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, cancel(0), reply{code: 204}), at(5, 6, book(1, 15, 30), taken(slotHeld{0, 10, 20}))}, porcupine.Illegal},
		{"a refusal that names another time", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 15, 30), taken(slotHeld{0, 10, 25}))}, porcupine.Illegal},
		{"a refusal that names one booking too many", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 15, 30), taken(slotHeld{0, 10, 20}, slotHeld{2, 20, 30}))}, porcupine.Illegal},
		{"a late booking without a reply", []act{at(1, 2, book(0, 10, 20), unknown), at(3, 4, read(0), none), at(5, 6, read(0), shown(0, 10, 20))}, porcupine.Ok},
		{"a booking that comes and goes", []act{at(1, 2, book(0, 10, 20), unknown), at(3, 4, read(0), shown(0, 10, 20)), at(5, 6, read(0), none)}, porcupine.Illegal},
		{"a cancellation that never happened", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, cancel(0), unknown), at(5, 6, read(0), shown(0, 10, 20))}, porcupine.Ok},
		{"a cancellation that nobody asked for", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 6, read(0), cancelled)}, porcupine.Illegal},
		{"a confirmation that a move voids", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opConfirm, by: 7}, reply{code: 200, status: "CONFIRMED", user: 10, by: 7, revision: 2}),
			at(5, 6, op{kind: opChange, room: 2}, reply{code: 200, status: "BOOKED", room: 2, start: 10, end: 20, user: 10, revision: 4}),
			at(7, 8, op{kind: opDeny, by: 8}, reply{code: 200, status: "DENIED", user: 10, by: 8, revision: 6}),
			at(9, 10, book(1, 10, 20), made(1, 10, 20)),
		}, porcupine.Ok},
		{"a refusal because of time that was used", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opStart, at: 11}, reply{code: 201, room: 1, user: 10, useStart: 11}),
			at(5, 6, op{kind: opEnd, at: 15}, reply{code: 200, room: 1, user: 10, useStart: 11, useEnd: 15, revision: 1}),
			at(7, 8, book(1, 14, 30), taken(slotHeld{0, 10, 15})),
			at(9, 10, book(2, 15, 30), made(2, 15, 30)),
		}, porcupine.Ok},
		{"time that was used is booked again", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opStart, at: 11}, reply{code: 201, room: 1, user: 10, useStart: 11}),
			at(5, 6, op{kind: opEnd, at: 15}, reply{code: 200, room: 1, user: 10, useStart: 11, useEnd: 15, revision: 1}),
			at(7, 8, book(1, 14, 30), made(1, 14, 30)),
		}, porcupine.Illegal},
		{"the rest after a use is refused", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opStart, at: 11}, reply{code: 201, room: 1, user: 10, useStart: 11}),
			at(5, 6, op{kind: opEnd, at: 15}, reply{code: 200, room: 1, user: 10, useStart: 11, useEnd: 15, revision: 1}),
			at(7, 8, book(1, 15, 30), taken(slotHeld{0, 10, 20})),
		}, porcupine.Illegal},
		{"a use before its slot takes nothing of it", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opStart, at: 5}, reply{code: 201, room: 1, user: 10, useStart: 5}),
			at(5, 6, op{kind: opEnd, at: 10}, reply{code: 200, room: 1, user: 10, useStart: 5, useEnd: 10, revision: 1}),
			at(7, 8, book(1, 5, 30), made(1, 5, 30)),
		}, porcupine.Ok},
		{"a use that ends after its slot", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opStart, at: 25}, reply{code: 201, room: 1, user: 10, useStart: 25}),
			at(5, 6, op{kind: opEnd, at: 28}, reply{code: 200, room: 1, user: 10, useStart: 25, useEnd: 28, revision: 1}),
			at(7, 8, book(1, 5, 30), taken(slotHeld{0, 10, 20})),
			at(9, 10, book(2, 20, 30), made(2, 20, 30)),
		}, porcupine.Ok},
		{"a gap is not kept", []act{at(1, 2, rules(5, 0), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 20, 30), made(1, 20, 30))}, porcupine.Illegal},
		{"a gap that is set later", []act{at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 8, rules(5, 0), set), at(6, 7, book(1, 20, 30), made(1, 20, 30)), at(9, 10, book(2, 30, 40), refused("rule-broken", slotHeld{1, 20, 30}))}, porcupine.Ok},
		{"a gap that is refused and not kept", []act{at(1, 2, rules(5, 0), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 20, 30), refused("rule-broken", slotHeld{0, 10, 20})), at(7, 8, book(2, 20, 30), made(2, 20, 30))}, porcupine.Illegal},
		{"a gap from nothing", []act{at(1, 2, rules(5, 0), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 25, 30), refused("rule-broken"))}, porcupine.Illegal},
		{"a booking that is too long", []act{at(1, 2, rules(0, 15), set), at(3, 4, book(0, 10, 30), made(0, 10, 30))}, porcupine.Illegal},
		{"rules that are taken back", []act{at(1, 2, rules(0, 15), set), at(3, 4, book(0, 10, 30), refused("rule-broken")), at(5, 6, rules(0, 0), set), at(7, 8, book(0, 10, 30), made(0, 10, 30))}, porcupine.Ok},
		{"a booking in a closed room", []act{at(1, 2, closing, closed), at(3, 4, book(0, 10, 20), made(0, 10, 20))}, porcupine.Illegal},
		{"a booking beside a closed period", []act{at(1, 2, closing, closed), at(3, 4, book(0, 40, 50), made(0, 40, 50)), at(5, 6, book(1, 39, 50), refused("room-closed"))}, porcupine.Ok},
		{"a booking that stays in a closed room", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, closing, closed), at(5, 6, read(0), shown(0, 10, 20))}, porcupine.Ok},
		{"a refusal after the reopening", []act{at(1, 2, closing, closed), at(3, 4, reopening, reopened), at(5, 6, book(0, 10, 20), refused("room-closed"))}, porcupine.Illegal},
		{"a booking that is too short", []act{at(1, 2, ruling(roomRules{shortest: 15}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20))}, porcupine.Illegal},
		{"a booking off the grid", []act{at(1, 2, ruling(roomRules{step: 20}), set), at(3, 4, book(0, 20, 30), made(0, 20, 30))}, porcupine.Illegal},
		{"a booking beyond the horizon", []act{at(1, 2, ruling(roomRules{thisYear: true}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20))}, porcupine.Illegal},
		{"a start that stays beyond the horizon", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, ruling(roomRules{thisYear: true}), set),
			at(5, 6, op{kind: opChange, end: 30}, reply{code: 200, status: "BOOKED", room: 1, start: 10, end: 30, user: 10, revision: 3}),
			at(7, 8, op{kind: opChange, start: 20}, refused("rule-broken")),
		}, porcupine.Ok},
		{"a booking of a retired room", []act{at(1, 2, retiring, set), at(3, 4, book(0, 10, 21), made(0, 10, 21))}, porcupine.Illegal},
		{"a booking before the retirement", []act{at(1, 2, retiring, set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 20, 30), refused("room-retired"))}, porcupine.Ok},
		{"a booking that stays in a retired room", []act{at(1, 2, book(0, 20, 30), made(0, 20, 30)), at(3, 4, retiring, set), at(5, 6, read(0), shown(0, 20, 30))}, porcupine.Ok},
		{"a refusal after the reinstatement", []act{at(1, 2, retiring, set), at(3, 4, reinstating, set), at(5, 6, book(0, 20, 30), refused("room-retired"))}, porcupine.Illegal},
		{"a closure that cancels", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, cancelling, closed), at(5, 6, read(0), cleared)}, porcupine.Ok},
		{"a closure that forgets a booking", []act{at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, cancelling, closed), at(5, 6, read(0), shown(0, 10, 20))}, porcupine.Illegal},
		{"a booking that is cancelled beside a closure", []act{at(1, 2, book(0, 40, 50), made(0, 40, 50)), at(3, 4, cancelling, closed), at(5, 6, read(0), cleared)}, porcupine.Illegal},
		{"bookings that a closure cancels one after another", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, book(1, 20, 30), made(1, 20, 30)), at(5, 20, cancelling, closed),
			at(6, 7, read(0), cleared), at(8, 9, read(1), shown(1, 20, 30)), at(21, 22, read(1), cleared),
		}, porcupine.Ok},
		{"a booking that comes back", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 20, cancelling, closed), at(6, 7, read(0), cleared), at(8, 9, read(0), shown(0, 10, 20)),
		}, porcupine.Illegal},
		{"a slot that a closure has freed", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 20, cancelling, closed), at(6, 7, book(1, 5, 15), made(1, 5, 15)),
		}, porcupine.Ok},
		{"a slot that is free beside a booking", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 20, cancelling, closed), at(6, 7, book(1, 5, 15), made(1, 5, 15)), at(8, 9, read(0), shown(0, 10, 20)),
		}, porcupine.Illegal},
		{"a booking that leaves a closed period", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(5, 20, cancelling, closed),
			at(6, 7, op{kind: opChange, room: 2}, reply{code: 200, status: "BOOKED", room: 2, start: 10, end: 20, user: 10, revision: 3}),
			at(21, 22, read(0), reply{code: 200, status: "BOOKED", room: 2, start: 10, end: 20, user: 10, revision: 3}),
		}, porcupine.Ok},
		{"a use in a period that is closed", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, op{kind: opStart, at: 11}, reply{code: 201, room: 1, user: 10, useStart: 11}),
			at(5, 6, cancelling, closed), at(7, 8, read(0), cleared),
		}, porcupine.Illegal},
		{"a closure without a reply that cancels late", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, cancelling, unknown), at(5, 6, read(0), shown(0, 10, 20)), at(7, 8, read(0), cleared),
		}, porcupine.Ok},
		{"a closure without a reply that nobody finishes", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)), at(3, 4, cancelling, unknown), at(5, 6, book(1, 20, 30), refused("room-closed")),
			at(7, 8, op{kind: opRecovered, booking: -1}, reply{}), at(9, 10, read(0), shown(0, 10, 20)),
		}, porcupine.Illegal},
		{"a retirement that cancels", []act{at(1, 2, book(0, 10, 21), made(0, 10, 21)), at(3, 4, clearing, set), at(5, 6, read(0), cleared)}, porcupine.Ok},
		{"a retirement that forgets a booking", []act{at(1, 2, book(0, 10, 21), made(0, 10, 21)), at(3, 4, clearing, set), at(5, 6, read(0), shown(0, 10, 21))}, porcupine.Illegal},
		{"a retirement that ends before it cancels", []act{
			at(1, 2, book(0, 10, 21), made(0, 10, 21)), at(3, 6, clearing, set), at(4, 5, reinstating, set), at(7, 8, read(0), shown(0, 10, 21)),
		}, porcupine.Ok},
		{"a booking outside the hours", []act{at(1, 2, ruling(roomRules{opens: 15, shuts: 40}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20))}, porcupine.Illegal},
		{"a change to outside the hours", []act{
			at(1, 2, ruling(roomRules{opens: 15, shuts: 40}), set), at(3, 4, book(0, 15, 40), made(0, 15, 40)), at(5, 6, op{kind: opChange, end: 41}, refused("rule-broken")),
			at(7, 8, op{kind: opChange, end: 42}, reply{code: 200, status: "BOOKED", room: 1, start: 15, end: 42, user: 10, revision: 3}),
		}, porcupine.Illegal},
		{"one booking more than a user may have", []act{at(1, 2, ruling(roomRules{upcoming: 1}), set), at(3, 4, of(10, 0, 10, 20), made(0, 10, 20)), at(5, 6, of(10, 1, 20, 30), has(10, 1, 20, 30))}, porcupine.Illegal},
		{"as many bookings as a user may have", []act{
			at(1, 2, ruling(roomRules{upcoming: 1}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, of(10, 1, 20, 30), refused("rule-broken", slotHeld{0, 10, 20})),
			at(7, 8, cancel(0), reply{code: 204}), at(9, 10, of(10, 1, 20, 30), has(10, 1, 20, 30)),
		}, porcupine.Ok},
		{"a booking handed over to a user who has enough", []act{
			at(1, 2, ruling(roomRules{upcoming: 1}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 20, 30), made(1, 20, 30)),
			at(7, 8, op{kind: opChange, booking: 1, user: 10}, reply{code: 200, status: "BOOKED", room: 1, start: 20, end: 30, user: 10, revision: 3}),
		}, porcupine.Illegal},
		{"a booking handed over before there is a limit", []act{
			at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 20, 30), made(1, 20, 30)),
			at(7, 8, op{kind: opChange, booking: 1, user: 10}, reply{code: 200, status: "BOOKED", room: 1, start: 20, end: 30, user: 10, revision: 3}),
			at(9, 10, ruling(roomRules{upcoming: 1}), set), at(11, 12, of(11, 2, 30, 40), refused("rule-broken", slotHeld{1, 20, 30})),
		}, porcupine.Ok},
		{"more time than a user may have, with what was used", []act{
			at(1, 2, ruling(roomRules{weekly: 14}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)),
			at(5, 6, op{kind: opStart, at: 11}, reply{code: 201, room: 1, user: 10, useStart: 11}),
			at(7, 8, op{kind: opEnd, at: 15}, reply{code: 200, room: 1, user: 10, useStart: 11, useEnd: 15, revision: 1}),
			at(9, 10, of(10, 1, 20, 30), has(10, 1, 20, 30)),
		}, porcupine.Illegal},
		{"a use that starts too early", []act{
			at(1, 2, ruling(roomRules{early: 5}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)),
			at(5, 6, op{kind: opStart, at: 4}, reply{code: 201, room: 1, user: 10, useStart: 4}),
		}, porcupine.Illegal},
		{"a use that starts as early as its room allowed when it was booked", []act{
			at(1, 2, ruling(roomRules{early: 5}), set), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, ruling(roomRules{}), set),
			at(7, 8, op{kind: opStart, at: 4}, refused("use-off-slot")), at(9, 10, op{kind: opStart, at: 5}, reply{code: 201, room: 1, user: 10, useStart: 5}),
		}, porcupine.Ok},
		{"a closure without a reply", []act{at(1, 2, closing, unknown), at(3, 4, book(0, 10, 20), made(0, 10, 20)), at(5, 6, book(1, 20, 30), refused("room-closed"))}, porcupine.Ok},
		{"a use that ends twice", []act{
			at(1, 2, book(0, 10, 20), made(0, 10, 20)),
			at(3, 4, op{kind: opStart, at: 11}, reply{code: 201, room: 1, user: 10, useStart: 11}),
			at(5, 9, op{kind: opEnd, at: 12}, reply{code: 200, room: 1, user: 10, useStart: 11, useEnd: 12, revision: 1}),
			at(6, 8, op{kind: opEnd, at: 13}, reply{code: 200, room: 1, user: 10, useStart: 11, useEnd: 13, revision: 1}),
		}, porcupine.Illegal},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := linearizable(test.history); got != test.want {
				t.Fatalf("the history is judged %s, want %s:\n%s", got, test.want, narrative(test.history))
			}
			noise := slices.Concat(test.history, []act{
				at(1, 20, book(9, 500, 600), made(9, 500, 600)), at(21, 22, read(9), shown(9, 500, 600)), at(23, 24, cancel(9), reply{code: 204}),
			})
			if short := shortest(noise); test.want == porcupine.Illegal && len(short) > len(test.history) {
				t.Errorf("the shortest history has %d requests, and there is one of %d:\n%s", len(short), len(test.history), narrative(short))
			}
		})
	}
}
