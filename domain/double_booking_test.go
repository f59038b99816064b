package domain

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNoSequenceOfCommandsBooksTwice runs commands of several replicas through each other: any of them may stop for good before
// any of its accesses to the store, its last append may arrive late or never, and reads may be behind. They are carried out as
// package commands does it, on the decisions of this package. After every single append
//
//   - no two live bookings of a room overlap,
//   - every live booking's reservation is held, for its very slot,
//   - no two bookings' reservations in a calendar overlap,
//
// and once every booking has been settled, whatever was decided is done, and nothing is held but for live bookings and what was used.
func TestNoSequenceOfCommandsBooksTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var running []*process
		defer func() {
			for _, p := range running {
				p.stop()
			}
		}()
		replica := rapid.IntRange(0, len(w.replicas)-1)
		begin := func(t *rapid.T, c command) {
			running = append(running, start(w, replica.Draw(t, "replica"), c))
		}
		one := func(t *rapid.T) int {
			if len(running) == 0 {
				t.Skip("no command is running")
			}
			return rapid.IntRange(0, len(running)-1).Draw(t, "which command")
		}
		var begun []command
		actions := map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				c := drawCommand(t, w)
				begun = append(begun, c)
				begin(t, c)
			},
			"try again": func(t *rapid.T) {
				if len(begun) == 0 {
					t.Skip("nothing to try again")
				}
				begin(t, rapid.SampledFrom(begun).Draw(t, "command"))
			},
			"go on": func(t *rapid.T) {
				i := one(t)
				running[i].behind = rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 4}).Draw(t, "behind by")
				for range rapid.IntRange(1, 20).Draw(t, "accesses") {
					if !running[i].step() {
						running = slices.Delete(running, i, i+1)
						return
					}
				}
			},
			"stop": func(t *rapid.T) {
				i := one(t)
				if append := running[i].append; append != nil && rapid.Bool().Draw(t, "its append is under way") {
					w.late = slices.Insert(w.late, 0, append)
				}
				running[i].stop()
				running = slices.Delete(running, i, i+1)
			},
			"a late append": func(t *rapid.T) {
				if len(w.late) == 0 {
					t.Skip("no append is under way")
				}
				i := rapid.IntRange(0, len(w.late)-1).Draw(t, "which append")
				late := w.late[i]
				w.late = slices.Delete(w.late, i, i+1)
				late()
			},
			"": func(t *rapid.T) { w.want(t) },
		}
		for range 5 { // each some thirty actions
			t.Repeat(actions)
		}

		// Whoever now wants everything of a room is refused by none but bookings that are there.
		for i, room := range rooms {
			p := start(w, i%len(w.replicas), func(p *process) error {
				return p.create(fmt.Sprint("all of ", room), room, "eve", hours(0, 12))
			})
			for p.step() {
			}
			var taken *SlotTaken
			if p.err != nil && !errors.As(p.err, &taken) {
				t.Fatalf("all of room %s: %v", room, p.err)
			}
			if taken != nil {
				for _, r := range taken.By {
					if b := w.bookings[r.BookingID]; !b.StandsOn(r.ReservationID) && w.used(b) != r.Slot {
						t.Fatalf("all of room %s was refused for %s in %s, which booking %s neither stands on nor used", room, r.ReservationID, r.Slot, r.BookingID)
					}
				}
			}
			w.want(t)
		}

		for _, p := range running {
			p.stop()
		}
		running = nil
		w.settleAll(t)
		for _, late := range w.late {
			late()
			w.want(t)
		}
		w.settleAll(t)
		w.wantFoldedAgain(t)
	})
}

var rooms = []RoomID{"red", "blue"}

// drawCommand draws a command on a booking that may exist, under a new id.
func drawCommand(t *rapid.T, w *world) command {
	w.commands++
	c := fmt.Sprint("c", w.commands)
	kinds := []string{"create"}
	if len(w.ids) > 0 {
		kinds = []string{"create", "change", "change", "change", "user", "cancel", "confirm", "deny", "start", "end", "settle"}
	}
	kind := rapid.SampledFrom(kinds).Draw(t, "command")
	room := rapid.SampledFrom(rooms)
	slot := rapid.Custom(func(t *rapid.T) Slot {
		from := rapid.IntRange(0, 5).Draw(t, "from")
		return hours(from, from+rapid.IntRange(1, 3).Draw(t, "hours"))
	})
	if kind == "create" {
		room, slot := room.Draw(t, "room"), slot.Draw(t, "slot")
		w.ids = append(w.ids, bookingOf(c))
		return func(p *process) error { return p.create(c, room, "ann", slot) }
	}
	id := rapid.SampledFrom(w.ids).Draw(t, "booking")
	switch kind {
	case "change":
		change := Change{At: noon}
		if rapid.Bool().Draw(t, "other room") {
			change.Room = ptr(room.Draw(t, "room"))
		}
		if s := slot.Draw(t, "slot"); change.Room == nil || rapid.Bool().Draw(t, "other time") {
			change.Start, change.End = &s.Start, &s.End
		}
		if rapid.Bool().Draw(t, "other user") {
			change.User = ptr(UserID("bob"))
		}
		asItIs := rapid.Bool().Draw(t, "only at its revision")
		return func(p *process) error { return p.change(c, id, change, asItIs) }
	case "user":
		user := rapid.SampledFrom([]UserID{"ann", "bob"}).Draw(t, "user")
		return func(p *process) error { return p.change(c, id, Change{User: &user, At: noon}, false) }
	case "cancel":
		return func(p *process) error { return p.cancel(c, id) }
	case "confirm":
		return func(p *process) error { return p.answer(c, id, Confirmed) }
	case "deny":
		return func(p *process) error { return p.answer(c, id, Denied) }
	case "start":
		return func(p *process) error { return p.startUse(c, id) }
	case "end":
		end := noon.Add(time.Duration(rapid.IntRange(0, 18).Draw(t, "ended at")) * 30 * time.Minute)
		return func(p *process) error { return p.endUse(c, RealUseOf(id), end) }
	default:
		return func(p *process) error { _, err := p.settle(id, rooms...); return err }
	}
}

func bookingOf(command string) BookingID { return BookingID("b-" + command) }

// world is an event store, and what its log says.
type world struct {
	streams  map[string][]record
	replicas []map[RoomID]kept // each has its cache of calendars
	late     []func()          // appends that are under way although who made them has stopped
	commands int
	ids      []BookingID

	calendars map[RoomID]Calendar
	bookings  map[BookingID]Booking
	uses      map[RealUseID]RealUse
	broken    error // the first rule that was broken
}

// record is an event and its id.
type record struct {
	id    string
	event Event
}

// kept is a calendar and the revision it was folded to.
type kept struct {
	Calendar
	revision Revision
}

func newWorld() *world {
	return &world{
		streams:   make(map[string][]record),
		replicas:  []map[RoomID]kept{make(map[RoomID]kept), make(map[RoomID]kept)},
		calendars: make(map[RoomID]Calendar),
		bookings:  make(map[BookingID]Booking),
		uses:      make(map[RealUseID]RealUse),
	}
}

// append appends as EventStoreDB does: at the expected revision, or not at all. Behind it, the ids that are there decide
// whether it had been done before.
func (w *world) append(stream string, expected Revision, records []record) bool {
	after := w.streams[stream]
	if int(expected)+1 > len(after) {
		return false
	}
	after = after[expected+1:]
	if len(after) == 0 {
		w.streams[stream] = append(w.streams[stream], records...)
		for _, r := range records {
			w.fold(r.event)
		}
		if w.broken == nil {
			w.broken = w.check()
		}
		return true
	}
	return len(after) >= len(records) && slices.EqualFunc(after[:len(records)], records, func(a, b record) bool { return a.id == b.id })
}

func (w *world) fold(event Event) {
	switch e := event.(type) {
	case SlotReserved:
		w.calendars[e.RoomID] = w.calendars[e.RoomID].Evolve(e)
	case SlotReleased:
		w.calendars[e.RoomID] = w.calendars[e.RoomID].Evolve(e)
	case SlotUsed:
		w.calendars[e.RoomID] = w.calendars[e.RoomID].Evolve(e)
	case BookingCreated:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case ConfirmRequested:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case BookingChanged:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case ConfirmCompleted:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case ConfirmDenied:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case BookingCheckedIn:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case BookingCancelled:
		w.bookings[e.BookingID] = w.bookings[e.BookingID].Evolve(e)
	case UseStarted:
		w.uses[e.RealUseID] = w.uses[e.RealUseID].Evolve(e)
	case UseEnded:
		w.uses[e.RealUseID] = w.uses[e.RealUseID].Evolve(e)
	}
}

// check finds a broken rule without the help of what the rules are kept with.
func (w *world) check() error {
	type held struct {
		room    RoomID
		slot    Slot
		booking BookingID
	}
	var reserved, live []held
	for room, c := range w.calendars {
		for r := range c.All {
			reserved = append(reserved, held{room, r.Slot, r.BookingID})
		}
	}
	for id, b := range w.bookings {
		if !b.Live() {
			continue
		}
		live = append(live, held{b.Room, b.Slot, id})
		if r := w.calendars[b.Room].Held(id, b.Reservation); r == nil || !r.Slot.Equal(b.Slot) {
			return fmt.Errorf("booking %s stands on %s for %s in room %s, which holds %+v for it", id, b.Reservation, b.Slot, b.Room, r)
		}
	}
	for what, all := range map[string][]held{"reservations": reserved, "live bookings": live} {
		for i, a := range all {
			for _, b := range all[:i] {
				if a.room == b.room && a.booking != b.booking && a.slot.Start.Before(b.slot.End) && b.slot.Start.Before(a.slot.End) {
					return fmt.Errorf("two %s of room %s overlap: of %s for %s and of %s for %s", what, a.room, a.booking, a.slot, b.booking, b.slot)
				}
			}
		}
	}
	return nil
}

// used is what a booking that ended with its use has taken of its slot; the zero slot is nothing. It does without what it is
// to be held against.
func (w *world) used(b Booking) Slot {
	u := w.uses[b.RealUse]
	if b.CancelReason != CancelledByUseEnd || !u.EndedAt.After(b.Slot.Start) {
		return Slot{}
	}
	if u.EndedAt.Before(b.Slot.End) {
		return Slot{b.Slot.Start, u.EndedAt}
	}
	return b.Slot
}

func (w *world) want(t *rapid.T) {
	if w.broken != nil {
		t.Fatalf("%v, after%s", w.broken, w)
	}
}

// String lists the streams.
func (w *world) String() string {
	var text []byte
	for _, stream := range slices.Sorted(maps.Keys(w.streams)) {
		text = fmt.Appendf(text, "\n%s", stream)
		for i, r := range w.streams[stream] {
			text = fmt.Appendf(text, "\n  %d %s %s %+v", i, r.id, r.event.EventType(), r.event)
		}
	}
	return string(text)
}

// settleAll settles every booking, undisturbed, and checks that all is at rest.
func (w *world) settleAll(t *rapid.T) {
	known := slices.Clone(w.ids)
	for _, c := range w.calendars {
		for r := range c.All {
			known = append(known, r.BookingID)
		}
	}
	for _, id := range known {
		p := start(w, 0, func(p *process) error { _, err := p.settle(id, rooms...); return err })
		for p.step() {
		}
		if p.err != nil {
			t.Fatalf("booking %s cannot be settled: %v, after%s", id, p.err, w)
		}
		w.want(t)
	}
	for room, c := range w.calendars {
		for r := range c.All {
			if b := w.bookings[r.BookingID]; !b.StandsOn(r.ReservationID) && w.used(b) != r.Slot {
				t.Fatalf("room %s holds %s in %s, which booking %s neither stands on nor used, after%s", room, r.ReservationID, r.Slot, r.BookingID, w)
			}
		}
	}
	for id, b := range w.bookings {
		if used := w.used(b); used != (Slot{}) {
			if r := w.calendars[b.Room].Held(id, b.Reservation); r == nil || r.Slot != used {
				t.Fatalf("booking %s used room %s in %s, which holds %+v for it, after%s", id, b.Room, used, r, w)
			}
		}
	}
	for _, records := range w.streams {
		for _, r := range records {
			if e, ok := r.event.(SlotReserved); ok && e.Replaces == "" && w.bookings[e.BookingID].Phase == PhaseNone {
				t.Fatalf("booking %s was never made, after%s", e.BookingID, w)
			}
		}
	}
	for id, b := range w.bookings {
		if use := w.uses[b.RealUse]; (b.Phase == PhaseInUse) != (use.Phase == UsePhaseStarted) {
			t.Fatalf("booking %s is %s and its real use is %q, after%s", id, b.Phase, use.Phase, w)
		}
	}
}

// wantFoldedAgain folds every stream from its start.
func (w *world) wantFoldedAgain(t *rapid.T) {
	events := func(stream string) []Event {
		var events []Event
		for _, r := range w.streams[stream] {
			events = append(events, r.event)
		}
		return events
	}
	for room, c := range w.calendars {
		again := Fold(Calendar{}, events(room.Stream())...)
		if !reflect.DeepEqual(held(again), held(c)) || again.Len() != c.Len() {
			t.Fatalf("folded again, room %s holds\n%v, held\n%v", room, held(again), held(c))
		}
		for _, id := range w.ids {
			if !reflect.DeepEqual(plain(again.Of(id)), plain(c.Of(id))) {
				t.Fatalf("folded again, room %s holds for %s\n%v, held\n%v", room, id, plain(again.Of(id)), plain(c.Of(id)))
			}
		}
	}
	for id, b := range w.bookings {
		if again := Fold(Booking{}, events(id.Stream())...); !reflect.DeepEqual(again, b) {
			t.Fatalf("folded again, booking %s is\n%+v, was\n%+v", id, again, b)
		}
	}
	for id, u := range w.uses {
		if again := Fold(RealUse{}, events(id.Stream())...); !reflect.DeepEqual(again, u) {
			t.Fatalf("folded again, real use %s is\n%+v, was\n%+v", id, again, u)
		}
	}
}

// command is what a process carries out.
type command func(*process) error

// process carries out one command on a replica. It halts before every access to the store.
type process struct {
	w      *world
	cache  map[RoomID]kept
	behind int    // events that a read does not see yet
	append func() // the append that it halts before, if it is one
	err    error  // what the command came to

	yield func(struct{}) bool
	next  func() (struct{}, bool)
	stop  func() // for good
}

func start(w *world, replica int, c command) *process {
	p := &process{w: w, cache: w.replicas[replica]}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if r := recover(); r != nil && r != errStopped {
				panic(r)
			}
		}()
		p.yield = yield
		p.err = c(p)
	})
	return p
}

var (
	errStopped   = errors.New("stopped")
	errLost      = errors.New("lost a race")
	errContended = errors.New("lost too many races")
	errMovedOn   = errors.New("the booking is not at the revision any more")
)

// step goes on to before the next access to the store. It reports false when the command has come to its end.
func (p *process) step() bool {
	_, more := p.next()
	return more
}

func (p *process) halt(append func()) {
	p.append = append
	if !p.yield(struct{}{}) {
		panic(errStopped)
	}
	p.append = nil
}

func (p *process) read(stream string, from Revision) []record {
	p.halt(nil)
	records := p.w.streams[stream]
	records = records[:max(0, len(records)-p.behind)]
	return records[min(int(from), len(records)):]
}

func (p *process) tryAppend(stream string, expected Revision, records []record) error {
	p.halt(func() { p.w.append(stream, expected, records) })
	if !p.w.append(stream, expected, records) {
		return errLost
	}
	return nil
}

// named gives events the ids that follow from a name.
func named(name string, events []Event) []record {
	records := make([]record, len(events))
	for i, e := range events {
		records[i] = record{name + "/" + strconv.Itoa(i), e}
	}
	return records
}

// loaded is an aggregate as it was read.
type loaded[S interface{ Evolve(Event) S }] struct {
	state    S
	revision Revision
	records  []record
}

func load[S interface{ Evolve(Event) S }](p *process, stream string) loaded[S] {
	l := loaded[S]{revision: -1}
	l.readOn(p, stream)
	return l
}

func (l *loaded[S]) readOn(p *process, stream string) { l.add(p.read(stream, l.revision+1)) }

func (l *loaded[S]) add(records []record) {
	for _, r := range records {
		l.state = l.state.Evolve(r.event)
		l.revision++
	}
	l.records = slices.Concat(l.records, records)
}

func (l *loaded[S]) append(p *process, stream string, records []record) error {
	if len(records) == 0 {
		return nil
	}
	if err := p.tryAppend(stream, l.revision, records); err != nil {
		return err
	}
	l.add(records)
	return nil
}

// cause is the last event of the given kind, and its id.
func cause[E Event, S interface{ Evolve(Event) S }](l loaded[S]) (string, E) {
	for _, r := range slices.Backward(l.records) {
		if e, ok := r.event.(E); ok {
			return r.id, e
		}
	}
	var none E
	return "", none
}

const attempts = 16

// onCalendar decides on what the replica keeps of the calendar first.
func (p *process) onCalendar(room RoomID, decide func(Calendar) ([]record, error)) error {
	cal, known := p.cache[room]
	current := false
	if !known {
		cal, current = p.readCalendar(room, kept{revision: -1}), true
	}
	for range attempts {
		records, err := decide(cal.Calendar)
		if len(records) > 0 {
			if err = p.tryAppend(room.Stream(), cal.revision, records); err == nil {
				for _, r := range records {
					cal.Calendar = cal.Evolve(r.event)
					cal.revision++
				}
				p.cache[room] = cal
				return nil
			}
		} else if current {
			return err
		}
		cal, current = p.readCalendar(room, cal), true
	}
	return errContended
}

func (p *process) readCalendar(room RoomID, cal kept) kept {
	for _, r := range p.read(room.Stream(), cal.revision+1) {
		cal.Calendar = cal.Evolve(r.event)
		cal.revision++
	}
	p.cache[room] = cal
	return cal
}

func (p *process) reserve(ask SlotReserved) error {
	for range attempts {
		err := p.onCalendar(ask.RoomID, func(c Calendar) ([]record, error) {
			events, err := DecideReserve(c, ask, DefaultPolicy())
			return named(string(ask.ReservationID), events), err
		})
		taken, ok := err.(*SlotTaken)
		if !ok {
			return err
		}
		var by []*Reservation
		for _, r := range taken.By {
			b, err := p.settle(r.BookingID, r.RoomID)
			if err != nil {
				return err
			}
			if r.Used || b.state.StandsOn(r.ReservationID) {
				by = append(by, r)
			}
		}
		if len(by) > 0 {
			taken.By = by
			return taken
		}
	}
	return errContended
}

func (p *process) release(r *Reservation, usedUntil time.Time) error {
	return p.onCalendar(r.RoomID, func(c Calendar) ([]record, error) {
		return named(string(r.ReservationID)+" released", DecideRelease(c, r.BookingID, r.ReservationID, usedUntil)), nil
	})
}

// settle brings a booking to rest.
func (p *process) settle(id BookingID, rooms ...RoomID) (loaded[Booking], error) {
	for range attempts {
		b, err := p.settleOnce(id, rooms)
		if err != errLost {
			return b, err
		}
	}
	return loaded[Booking]{}, errContended
}

func (p *process) settleOnce(id BookingID, rooms []RoomID) (loaded[Booking], error) {
	b, reservations := p.survey(id, rooms)
	for _, r := range reservations {
		if r.Replaces == "" {
			if err := b.append(p, id.Stream(), named(string(r.ReservationID), DecideCreate(b.state, r.SlotReserved))); err != nil {
				return b, err
			}
			break
		}
	}
	if b.state.Phase == PhaseInUse {
		use, err := p.startedUse(b)
		if err != nil {
			return b, err
		}
		why, _ := cause[UseEnded](use)
		if err := b.append(p, id.Stream(), named(why, DecideUseOver(b.state, use.state))); err != nil {
			return b, err
		}
	}
	for _, r := range reservations {
		if err := b.append(p, id.Stream(), named(string(r.ReservationID), DecideMove(b.state, b.revision, r.SlotReserved))); err != nil {
			return b, err
		}
	}
	for _, r := range reservations {
		if r.Used || b.state.StandsOn(r.ReservationID) {
			continue
		}
		if !b.state.Outlived(r.SlotReserved, b.revision) {
			return b, errLost // what was read is behind
		}
		if err := p.release(r, b.state.UsedOn(r.ReservationID)); err != nil {
			return b, err
		}
	}
	return b, nil
}

// survey reads calendars first and the booking after them.
func (p *process) survey(id BookingID, rooms []RoomID) (b loaded[Booking], reservations []*Reservation) {
	b.revision = -1
	var seen []RoomID
	for first := true; ; first = false {
		complete := !first
		for _, room := range rooms {
			if slices.Contains(seen, room) {
				continue
			}
			seen, complete = append(seen, room), false
			cal, ok := p.cache[room]
			if !ok {
				cal.revision = -1
			}
			reservations = append(reservations, p.readCalendar(room, cal).Of(id)...)
		}
		if complete {
			return b, reservations
		}
		b.readOn(p, id.Stream())
		rooms = b.state.Rooms()
	}
}

func (p *process) startedUse(b loaded[Booking]) (loaded[RealUse], error) {
	use := load[RealUse](p, b.state.RealUse.Stream())
	why, in := cause[BookingCheckedIn](b)
	return use, use.append(p, b.state.RealUse.Stream(), named(why, DecideStart(use.state, in)))
}

// onBooking decides on a booking, and on one at rest before it refuses.
func (p *process) onBooking(command string, id BookingID, decide func(Booking, Revision) ([]Event, error)) (loaded[Booking], error) {
	for range attempts {
		b := load[Booking](p, id.Stream())
		if b.state.Phase == PhaseInUse {
			if use := load[RealUse](p, b.state.RealUse.Stream()); use.state.Phase != UsePhaseStarted {
				var err error
				if b, err = p.settle(id); err != nil {
					return b, err
				}
			}
		}
		events, refused := decide(b.state, b.revision)
		if len(events) == 0 {
			settled, err := p.settle(id)
			if err != nil {
				return settled, err
			}
			if settled.revision == b.revision {
				return settled, refused
			}
			continue
		}
		if err := b.append(p, id.Stream(), named(command, events)); err != errLost {
			return b, err
		}
	}
	return loaded[Booking]{}, errContended
}

func (p *process) create(command string, room RoomID, user UserID, slot Slot) error {
	ask := SlotReserved{ReservationID: ReservationID(command + "@-1"), BookingID: bookingOf(command), RoomID: room, UserID: user, Slot: slot, At: noon}
	if err := p.reserve(ask); err != nil {
		return err
	}
	b := loaded[Booking]{revision: -1}
	err := b.append(p, ask.BookingID.Stream(), named(string(ask.ReservationID), DecideCreate(b.state, ask)))
	if err == errLost {
		_, err = p.settle(ask.BookingID, room)
	}
	return err
}

func (p *process) change(command string, id BookingID, c Change, asItIs bool) error {
	at := Revision(-2)
	for range attempts {
		moves := false
		b, err := p.onBooking(command, id, func(b Booking, revision Revision) (events []Event, err error) {
			if at == -2 {
				at = revision
			}
			if asItIs && at != revision {
				return nil, errMovedOn
			}
			events, moves, err = DecideChange(b, c)
			return events, err
		})
		if err != nil || !moves {
			return err
		}
		ask := SlotReserved{ReservationID: ReservationID(fmt.Sprint(command, "@", b.revision)), BookingID: id, At: noon, Replaces: b.state.Reservation}
		ask.RoomID, _, ask.Slot = b.state.Target(c)
		if c.User != nil {
			ask.UserID = *c.User
		}
		if asItIs {
			ask.IfRevision = b.revision
		}
		if err := p.reserve(ask); err != nil {
			return err
		}
		if err := b.append(p, id.Stream(), named(string(ask.ReservationID), DecideMove(b.state, b.revision, ask))); err != nil && err != errLost {
			return err
		}
		settled, err := p.settle(id, ask.RoomID)
		if err != nil || settled.state.StoodOn(ask.ReservationID) {
			return err
		}
	}
	return errContended
}

func (p *process) cancel(command string, id BookingID) error {
	_, err := p.onBooking(command, id, func(b Booking, _ Revision) ([]Event, error) {
		return DecideCancel(b, Cancel{Reason: CancelledByUser, At: noon})
	})
	if err == nil {
		_, err = p.settle(id)
	}
	return err
}

func (p *process) answer(command string, id BookingID, a Answer) error {
	b, err := p.onBooking(command, id, func(b Booking, _ Revision) ([]Event, error) {
		return DecideConfirm(b, AnswerConfirm{Answer: a, AnsweredAt: noon, At: noon})
	})
	if err == nil && !b.state.Live() {
		_, err = p.settle(id)
	}
	return err
}

func (p *process) startUse(command string, id BookingID) error {
	b, err := p.onBooking(command, id, func(b Booking, _ Revision) ([]Event, error) {
		return DecideCheckIn(b, CheckIn{StartedAt: noon}, DefaultPolicy())
	})
	if err == nil {
		_, err = p.startedUse(b)
	}
	return err
}

func (p *process) endUse(command string, id RealUseID, at time.Time) error {
	for range attempts {
		use := load[RealUse](p, id.Stream())
		events, err := DecideEnd(use.state, EndUse{EndedAt: at, At: noon})
		if err != nil {
			return err
		}
		if err := use.append(p, id.Stream(), named(command, events)); err == errLost {
			continue
		}
		_, err = p.settle(use.state.Booking)
		return err
	}
	return errContended
}
