package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// complete reads the room's calendar, complete from a time on.
func (c *calendars) complete(ctx context.Context, room domain.RoomID, from time.Time) (cal domain.Calendar, err error) {
	err = c.read(ctx, room, from, func(read domain.Calendar) { cal = read })
	return cal, err
}

// heap is the size of what the garbage collector finds alive.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools keep what they have over the first
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestACalendarWeighsWhatIsCounted weighs calendars that were folded event by event, as those of busy rooms are, and at once, as those that
// are read.
func TestACalendarWeighsWhatIsCounted(t *testing.T) {
	if eventstoretest.Raced {
		t.Skip("one goroutine weighs what it has made")
	}
	for _, rooms := range []int{1, 1_000} {
		for _, order := range []string{"by time", "at random"} {
			for _, id := range []string{"uuid", "text", "registered"} {
				t.Run(fmt.Sprintf("%d rooms/%s/%s", rooms, order, id), func(t *testing.T) {
					each := 50_000 / rooms
					before := heap()
					calendars := make([]*calendar, rooms)
					counted := 0
					for room := range calendars {
						cal := newCalendar()
						if id == "registered" {
							for _, e := range registeredRoom() {
								cal = &calendar{Calendar: cal.Evolve(e)}
							}
						}
						for _, i := range hours(each, order) {
							e := domain.SlotReserved{
								ReservationID: domain.ReservationID(uuid.NewString()), BookingID: domain.BookingID(uuid.NewString()),
								RoomID: "red", UserID: "ann", Slot: slot(i, i+1), At: noon, Actor: "ann", CorrelationID: uuid.NewString(),
							}
							if id == "text" {
								e.BookingID += " of the red room"
							}
							cal = &calendar{Calendar: cal.Evolve(e)}
						}
						calendars[room] = cal
						counted += cal.bytes()
					}
					weight := heap() - before
					t.Logf("counted %d bytes, weighed %d: %d a reservation", counted, weight, (weight-rooms*calendarBytes)/(rooms*each))
					if weight < counted*3/4 || weight > counted*5/4 {
						t.Errorf("calendars are counted as %d bytes and weigh %d", counted, weight)
					}
					runtime.KeepAlive(calendars)
				})
			}
		}
	}
}

// registeredRoom is a room of which much is known, with rules and closures.
func registeredRoom() []domain.Event {
	text := func() string { return strings.Clone("a text of some length") }
	hours := func() []domain.Hours {
		return []domain.Hours{{From: strings.Clone("08:00"), To: strings.Clone("12:00")}}
	}
	events := []domain.Event{
		domain.RoomRegistered{RoomID: "red", Details: domain.Details{Name: text(), Building: text(), Note: text(), Equipment: []string{text(), text(), text()}}},
		domain.RulesSet{RoomID: "red", Rules: domain.Rules{Hours: &domain.WeekHours{Monday: hours(), Tuesday: hours(), Wednesday: hours(), Thursday: hours(), Friday: hours()}}},
	}
	for i := range 20 {
		events = append(events, domain.PeriodClosed{ClosureID: domain.ClosureID(uuid.NewString()), RoomID: "red", Slot: slot(i, i+1), Reason: text(), Bookings: domain.KeepBookings})
	}
	return events
}

func hours(n int, order string) []int {
	all := rand.Perm(n)
	if order == "by time" {
		for i := range all {
			all[i] = i
		}
	}
	return all
}

// TestWhatIsForgottenIsDecidedOnTheWholeStream asks for everything that can be asked of bookings that are no longer in the calendar in
// memory.
func TestWhatIsForgottenIsDecidedOnTheWholeStream(t *testing.T) {
	store := eventstoretest.Open(t)
	h, room := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour}), newRoom()
	at := func(hour int) Request { r := request(); r.At = slot(hour, hour).Start; return r }
	create := func(r Request, s domain.Slot) (Booking, error) {
		return h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: room, User: "ann", Slot: s})
	}
	remembered := func() *calendar { return h.calendars.cached(room) }
	var old []Booking
	for hour := range 40 {
		b, err := create(at(hour), slot(hour, hour+1))
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, b)
	}
	if _, err := store.Append(t.Context(), room.Stream(), 39, reservation(room, slot(-3, -2))); err != nil { // its command died
		t.Fatal(err)
	}
	if _, err := create(at(100), slot(100, 101)); err != nil {
		t.Fatal(err)
	}
	if n, since := remembered().Len(), remembered().Since(); n > 20 || !since.Equal(slot(0, 24).End) {
		t.Fatalf("%d reservations are remembered, since %s", n, since)
	}
	wantTaken := func(r Request, s domain.Slot, by domain.BookingID) {
		t.Helper()
		_, err := create(r, s)
		if taken, ok := errors.AsType[*domain.SlotTaken](err); !ok || len(taken.By) != 1 || by != "" && taken.By[0].BookingID != by {
			t.Errorf("%s is booked again: %v", s, err)
		}
	}
	wantTaken(at(101), slot(0, 1), old[0].ID)
	wantTaken(at(101), slot(24, 25), old[24].ID)
	wantTaken(at(-100), slot(3, 4), old[3].ID) // the clock is put back
	wantTaken(at(101), slot(-3, -2), "")       // and what the dead command began is finished

	to := slot(5, 7)
	if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: at(101), Booking: old[5].ID, End: &to.End}); err == nil {
		t.Error("a booking got the slot of the next one")
	}
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: at(101), Booking: old[6].ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: at(101), Booking: old[5].ID, End: &to.End}); err != nil {
		t.Errorf("the slot of a booking that was cancelled is not free: %v", err)
	}
	use, err := h.StartUse(t.Context(), StartUse{Request: at(101), Booking: old[0].ID, StartedAt: slot(0, 1).Start})
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.StartUse(t.Context(), StartUse{Request: at(101), Booking: old[1].ID, StartedAt: slot(1, 2).Start})
	if err != nil || second.RoomStillInUseBy != old[0].ID {
		t.Errorf("the room is said to be in use by %q still, want %s: %v", second.RoomStillInUseBy, old[0].ID, err)
	}
	if _, err := h.EndUse(t.Context(), EndUse{Request: at(101), RealUse: use.ID, EndedAt: slot(0, 1).Start.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	wantTaken(at(101), domain.Slot{Start: slot(0, 1).Start, End: slot(0, 1).Start.Add(time.Minute)}, old[0].ID)
	if _, err := create(at(101), domain.Slot{Start: slot(0, 1).Start.Add(time.Minute), End: slot(0, 1).End}); err != nil {
		t.Errorf("what is left of a slot is not free: %v", err)
	}
	if n := remembered().Len(); n > 20 {
		t.Errorf("%d reservations are remembered in the end", n)
	}
	audit := NewAudit()
	if err := audit.AddLog(t.Context(), store, 0); err != nil {
		t.Fatal(err)
	}
	for _, f := range audit.Findings() {
		if f.Room == room && !strings.Contains(f.Detail, "in use at the end") {
			t.Error(f)
		}
	}
}

// TestAUseIsFoundThoughItsSlotIsForgotten starts to use a room that nobody has left since long ago, and that was not booked meanwhile.
func TestAUseIsFoundThoughItsSlotIsForgotten(t *testing.T) {
	store := eventstoretest.Open(t)
	h, room := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour}), newRoom()
	h.calendars.keepFew = 0
	start := func(hour int) (Booking, RealUse) {
		r := request()
		r.At = slot(hour, hour).Start
		b, err := h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: room, User: "ann", Slot: slot(hour, hour+1)})
		if err != nil {
			t.Fatal(err)
		}
		r.ID = uuid.New()
		use, err := h.StartUse(t.Context(), StartUse{Request: r, Booking: b.ID, StartedAt: r.At})
		if err != nil {
			t.Fatal(err)
		}
		return b, use
	}
	first, _ := start(0)
	if _, use := start(50); use.RoomStillInUseBy != first.ID {
		t.Errorf("the room is said to be in use by %q still, want %s", use.RoomStillInUseBy, first.ID)
	}
	if cal := h.calendars.cached(room); cal.Len() != 1 {
		t.Errorf("%d reservations are remembered", cal.Len())
	}
}

// TestAClockThatWasFast forgets what is still to come, and remembers it again when the clock is right.
func TestAClockThatWasFast(t *testing.T) {
	store := eventstoretest.Open(t)
	h, room := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour}), newRoom()
	var last Booking
	for hour := range 40 {
		last = book(t, h, room, slot(hour, hour+1))
	}
	create := func(at time.Time, s domain.Slot) error {
		r := request()
		r.At = at
		_, err := h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: room, User: "ann", Slot: s})
		return err
	}
	if err := create(noon.AddDate(1, 0, 0), slot(10_000, 10_001)); err != nil {
		t.Fatal(err)
	}
	if taken, ok := errors.AsType[*domain.SlotTaken](create(noon, last.Slot)); !ok || taken.By[0].BookingID != last.ID {
		t.Error("a slot that a fast clock forgot was given away")
	}
	if cal := h.calendars.cached(room); cal.Len() != 41 {
		t.Errorf("%d reservations are remembered, want 41", cal.Len())
	}
}

// histories is a store that counts how many whole calendars are being read at a time. Each of them waits until all callers are there.
type histories struct {
	Store
	callers sync.WaitGroup
	now     atomic.Int32
	most    atomic.Int32
}

func (h *histories) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	whole := strings.HasPrefix(stream, domain.CalendarCategory+"-") && from == 0
	return func(yield func(eventstore.Recorded, error) bool) {
		if whole {
			now := h.now.Add(1)
			defer h.now.Add(-1)
			for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
			}
			h.callers.Wait()
		}
		for r, err := range h.Store.ReadStream(ctx, stream, from) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// Few commands read the whole calendar of a room at a time. Those that have to wait keep nobody from the room as it is remembered, and are
// told when they wait too long.
func TestFewWholeCalendarsAreReadAtATime(t *testing.T) {
	const rooms = 12
	store := &histories{Store: eventstoretest.Open(t)}
	h := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour})
	h.calendars.whole = make(chan struct{}, 2)
	old := make([]domain.RoomID, rooms)
	for i := range old {
		old[i] = newRoom()
		age(t, store, old[i], 30)
		book(t, h, old[i], slot(0, 1))
	}
	longAgo := func(room domain.RoomID) error {
		_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(-40, -39)})
		return err
	}
	store.most.Store(0)
	store.callers.Add(rooms)
	var commands sync.WaitGroup
	for _, room := range old {
		commands.Go(func() {
			store.callers.Done()
			if err := longAgo(room); err != nil && !errors.Is(err, ErrHistoryBusy) {
				t.Error(err)
			}
		})
	}
	commands.Wait()
	if most := store.most.Load(); most > 2 {
		t.Errorf("%d whole calendars were read at a time", most)
	}

	for range cap(h.calendars.whole) {
		h.calendars.whole <- struct{}{}
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if err := longAgo(old[0]); !errors.Is(err, ErrHistoryBusy) {
			t.Errorf("a command that waits too long: %v", err)
		}
	})
	book(t, h, old[0], slot(1, 2))
	waiting.Wait()
	for range cap(h.calendars.whole) {
		<-h.calendars.whole
	}
	if err := longAgo(newRoom()); err != nil {
		t.Errorf("a command that need not wait: %v", err)
	}
}

// What a command does on the whole calendar is known afterwards: the next one for the room neither loses a race nor takes it for the work
// of another process.
func TestWhatWasDoneLongAgoIsRemembered(t *testing.T) {
	store := &counting{Store: eventstoretest.Open(t)}
	h, room := New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour}), newRoom()
	age(t, store, room, 30)
	book(t, h, room, slot(0, 1))
	book(t, h, room, slot(-40, -39))
	store.calls = nil
	book(t, h, room, slot(1, 2))
	if !slices.Equal(store.calls, []string{"append calendar", "append booking"}) || h.calendars.shared.Load() {
		t.Errorf("the calls are %q; another process is thought to write: %t", store.calls, h.calendars.shared.Load())
	}
}
