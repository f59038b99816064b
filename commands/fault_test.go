package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
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

// faulty is a store that fails at its n-th call, counted from 1, and either only at that or at all later ones too: an append is not done, or
// is done and not answered, and a read ends after a number of events.
type faulty struct {
	Store
	how
	n     int
	calls int
	// left says that a reader had what it wanted of a read before that failed.
	left bool
}

// missed reports whether the error does not tell of the failure of a call.
func (f *faulty) missed(err error) bool { return !isAway(err) && !f.left }

type how struct {
	once   bool
	yields int
	done   bool // appends
}

// hows lists all ways to fail.
var hows = []how{{false, 0, false}, {false, 1, true}, {true, 0, true}, {true, 1, false}}

// works lets something be done before the first of the calls that count.
func (f *faulty) works(do func()) {
	n := f.n
	f.n = math.MaxInt
	do()
	f.n, f.calls = n, 0
}

func (f *faulty) fails() bool {
	f.calls++
	return f.calls == f.n || f.calls > f.n && !f.once
}

func (f *faulty) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if !f.fails() {
		return f.Store.Append(ctx, stream, expected, events...)
	}
	if f.done {
		_, _ = f.Store.Append(ctx, stream, expected, events...) // whatever the answer would be
		return eventstore.Appended{}, fmt.Errorf("call %d: %w", f.calls, eventstore.ErrOutcomeUnknown)
	}
	return eventstore.Appended{}, fmt.Errorf("call %d: %w", f.calls, eventstore.ErrUnavailable)
}

func (f *faulty) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		fails, n := f.fails(), 0
		for r, err := range f.Store.ReadStream(ctx, stream, from) {
			if fails && n == f.yields {
				break
			}
			if !yield(r, err) {
				f.left = f.left || fails
				return
			}
			n++
		}
		if fails {
			yield(eventstore.Recorded{}, fmt.Errorf("call %d: %w", f.calls, eventstore.ErrUnavailable))
		}
	}
}

// isAway reports whether the error says that the store could not be reached, and nothing else.
func isAway(err error) bool {
	return errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown)
}

// eachCall lets the store fail at each call of a command in turn, in all ways.
func eachCall(t *testing.T, store Store, command func(t *testing.T, h *Handler) error, after func(t *testing.T, err error)) {
	t.Helper()
	for _, how := range hows[:eventstoretest.Rounds(len(hows), 2)] {
		for n := 1; ; n++ {
			f := &faulty{Store: store, how: how, n: n}
			err := command(t, newHandler(f))
			if f.calls < n {
				break
			}
			if f.missed(err) {
				t.Errorf("the store failed at call %d, %+v, and the command was told: %v", n, how, err)
			}
			if after != nil {
				after(t, err)
			}
		}
	}
}

// TestTheStoreFailsAtEachCall carries out every command on a store that fails at each of its calls, reads included, by a handler that remembers
// what came before and by one that does not. The caller is told that the store is unavailable and nothing else; if the command was decided
// the outcome is told to be unknown, and it is finished, and if it was not it leaves nothing behind.
func TestTheStoreFailsAtEachCall(t *testing.T) {
	n := openNode(t)
	for _, c := range breakables() {
		for name, remembers := range map[string]bool{c.name: false, c.name + ", remembered": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				whole := c.whole(t, n)
				var w *world
				eachCall(t, n.store, func(t *testing.T, h *Handler) error {
					if w = c.world(t, n); remembers {
						h.store.(*faulty).works(func() { w = c.worldBy(t, n, h) })
					}
					return c.when(t.Context(), h, w, request())
				}, func(t *testing.T, err error) {
					if err := w.settle(t.Context()); err != nil {
						t.Fatal(err)
					}
					end := w.end(t)
					switch unknown := errors.Is(err, eventstore.ErrOutcomeUnknown); {
					case err == nil && !equalEnds(end, whole.after): // it had what it wanted of the read that failed
						t.Errorf("it was told that all is done, and settled as\n%+v, want\n%+v", end, whole.after)
					case err != nil && !unknown && !equalEnds(end, whole.before):
						t.Errorf("it was told that nothing was decided, %v, and settled as\n%+v", err, end)
					case unknown && !equalEnds(end, whole.before) && !equalEnds(end, whole.after):
						t.Errorf("it settled as\n%+v, want\n%+v or\n%+v", end, whole.before, whole.after)
					}
				})
			})
		}
	}
}

// stopping is a store that fails from a point on.
type stopping struct {
	Store
	at      point
	appends int
}

func (s *stopping) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	s.appends++
	if s.appends < s.at.n {
		return s.Store.Append(ctx, stream, expected, events...)
	}
	if s.appends == s.at.n && s.at.done {
		_, _ = s.Store.Append(ctx, stream, expected, events...) // whatever the answer would be
	}
	return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
}

func (s *stopping) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	if s.appends < s.at.n {
		return s.Store.ReadStream(ctx, stream, from)
	}
	return func(yield func(eventstore.Recorded, error) bool) {
		yield(eventstore.Recorded{}, eventstore.ErrUnavailable)
	}
}

// stopped is a world with what a process leaves there that dies at the point. No process has to die for it, which takes long.
func (c breakable) stopped(t *testing.T, n node, whole course, p point) *world {
	t.Helper()
	w := c.world(t, n)
	_ = c.when(t.Context(), newHandler(&stopping{Store: n.store, at: p}), w, request())
	if got, want := w.appended(t), whole.until(p); !slices.Equal(got, want) {
		t.Fatalf("%s: %q is in the streams, want %q", p, got, want)
	}
	return w
}

// TestTheStoreFailsWhileAnotherIsSettled lets a command come across what another one left half-done, on a store that fails at each call: it
// is not refused because of something that it could not look at.
func TestTheStoreFailsWhileAnotherIsSettled(t *testing.T) {
	n := openNode(t)
	for _, c := range breakables() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := c.whole(t, n)
			for _, p := range whole.halfway() {
				t.Run(p.String(), func(t *testing.T) {
					eachCall(t, n.store, func(t *testing.T, h *Handler) error { return c.other(t.Context(), h, c.stopped(t, n, whole, p)) }, nil)
				})
			}
		})
	}
}

// Whoever reads a single resource from a store that is unavailable is told so, and not that the resource does not exist.
func TestTheStoreFailsAtEachRead(t *testing.T) {
	n := openNode(t)
	h := newHandler(n.store)
	b := book(t, h, newRoom(), slot(0, 1))
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(h *Handler) error{
		"booking":  func(h *Handler) error { _, err := h.Booking(t.Context(), b.ID); return err },
		"real use": func(h *Handler) error { _, err := h.RealUse(t.Context(), use.ID); return err },
		"history":  func(h *Handler) error { _, err := h.History(t.Context(), b.ID); return err },
		"as of":    func(h *Handler) error { _, err := h.BookingAsOf(t.Context(), b.ID, AsOf{Time: noon}); return err },
		"calendar": func(h *Handler) error { _, err := h.calendars.complete(t.Context(), b.Room, noon); return err },
	} {
		t.Run(name, func(t *testing.T) {
			eachCall(t, n.store, func(_ *testing.T, h *Handler) error { return read(h) }, nil)
		})
	}
}

// losing is a store on which appends to calendars always lose their race.
type losing struct{ Store }

func (l losing) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if strings.HasPrefix(stream, domain.CalendarCategory+"-") {
		return eventstore.Appended{}, &eventstore.WrongRevision{Stream: stream, Expected: expected, Actual: expected}
	}
	return l.Store.Append(ctx, stream, expected, events...)
}

// A command that was decided is never told that nothing was decided, however often one of its further steps loses its race, whether it is asked
// for the first time or again.
func TestWhatIsDecidedAndContended(t *testing.T) {
	store := eventstoretest.Open(t)
	for _, c := range keyedCommands() {
		if c.name != "cancel" && c.name != "deny" && c.name != "end use" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, r := c.world(t, store), keyed("digest")
			for range 2 {
				if got, err := c.when(t.Context(), newHandler(losing{store}), w, r()); !errors.Is(err, eventstore.ErrOutcomeUnknown) {
					t.Errorf("%+v, %v, want an unknown outcome", got, err)
				}
			}
			if _, err := c.when(t.Context(), newHandler(store), w, r()); err != nil {
				t.Error(err)
			}
		})
	}
}

// unheard is a store whose answers to appends get lost if they are for streams of a category.
type unheard struct {
	Store
	category string
}

func (u unheard) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	at, err := u.Store.Append(ctx, stream, expected, events...)
	if err == nil && strings.HasPrefix(stream, u.category+"-") {
		return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
	}
	return at, err
}

// A command that decided nothing is told so even if the outcome of an append is unknown that is not its decision: the claim of its key, the
// record of its answer, or a step that another command has left.
func TestWhatIsUnknownAndDecidesNothing(t *testing.T) {
	store := eventstoretest.Open(t)
	key, bookings, uses := unheard{store, domain.KeyCategory}, unheard{store, domain.BookingCategory}, unheard{store, domain.RealUseCategory}
	checkedIn := func(t *testing.T) domain.BookingID { // whose use has not started
		t.Helper()
		b := book(t, newHandler(store), newRoom(), slot(0, 1))
		in := domain.BookingCheckedIn{BookingID: b.ID, RealUseID: domain.RealUseOf(b.ID), RoomID: b.Room, UserID: b.User, StartedAt: noon}
		if _, err := store.Append(t.Context(), b.ID.Stream(), b.Revision, request().propose([]domain.Event{in})...); err != nil {
			t.Fatal(err)
		}
		return b.ID
	}
	half := func(t *testing.T) (domain.BookingID, domain.RoomID) {
		t.Helper()
		ask := request().reservation(eventstore.NoStream)
		ask.BookingID, ask.RoomID, ask.UserID, ask.Slot = domain.BookingID(uuid.NewString()), newRoom(), "ann", slot(0, 1)
		if _, err := store.Append(t.Context(), ask.RoomID.Stream(), eventstore.NoStream, eventstore.Proposed{Event: ask}); err != nil {
			t.Fatal(err)
		}
		return ask.BookingID, ask.RoomID
	}
	create := func(h *Handler, r Request, room domain.RoomID) error {
		_, err := h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: room, User: "ann", Slot: slot(0, 1)})
		return err
	}
	for name, command := range map[string]func(t *testing.T) error{
		"the claim": func(t *testing.T) error { return create(newHandler(key), keyed("digest")(), newRoom()) },
		"the answer": func(t *testing.T) error {
			r := keyed("digest")()
			_ = create(newHandler(key), r, newRoom())
			_, err := newHandler(key).Refused(t.Context(), r, "no")
			return err
		},
		"a booking in the way": func(t *testing.T) error {
			_, room := half(t)
			return create(newHandler(bookings), request(), room)
		},
		"a booking that is read": func(t *testing.T) error {
			_, err := newHandler(uses).Booking(t.Context(), checkedIn(t))
			return err
		},
		"a refusal": func(t *testing.T) error {
			_, err := newHandler(uses).CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: checkedIn(t)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := command(t); errors.Is(err, eventstore.ErrOutcomeUnknown) || !errors.Is(err, eventstore.ErrUnavailable) {
				t.Errorf("%v, want that the event store is not available", err)
			}
		})
	}
}

// meddled is a store on which something happens just before the n-th read of a stream.
type meddled struct {
	Store
	stream string
	n      int
	before func()
}

func (m *meddled) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	if stream == m.stream {
		if m.n--; m.n == 0 {
			m.before()
		}
	}
	return m.Store.ReadStream(ctx, stream, from)
}

// A change that finds its slot taken decides again if the booking has moved on since it was read: the two may never have been true at the same
// time.
func TestARefusalOfABookingThatHasMovedOn(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	end := noon.Add(2 * time.Hour)
	for n := 1; ; n++ {
		room, elsewhere := newRoom(), newRoom()
		b := book(t, h, room, slot(0, 1))
		book(t, h, room, slot(1, 2))
		meanwhile := &meddled{Store: store, stream: room.Stream(), n: n, before: func() {
			if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &elsewhere}); err != nil {
				t.Error(err)
			}
		}}
		got, err := newHandler(meanwhile).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, End: &end})
		if _, taken := errors.AsType[*domain.SlotTaken](err); taken && meanwhile.n > 0 { // it was never read that often
			break
		}
		if err != nil || got.Room != elsewhere || !got.Slot.End.Equal(end) {
			t.Errorf("moved before read %d: %+v, %v", n, got, err)
		}
		wantSound(t, store, 0, room, elsewhere)
	}
}

// lagging is a store that for some time shows no events of a stream after the ones that there were before.
type lagging struct {
	Store
	stream string
	shown  domain.Revision
	reads  atomic.Int32 // that are still late
}

func (l *lagging) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		late := stream == l.stream && l.reads.Add(-1) >= 0
		for r, err := range l.Store.ReadStream(ctx, stream, from) {
			if late && r.Revision > l.shown || !yield(r, err) {
				return
			}
		}
	}
}

// A command that loses its race reads until it sees what won: it does not give up because the event store shows that late.
func TestWhatWonARaceIsReadLate(t *testing.T) {
	store := eventstoretest.Open(t)
	room := newRoom()
	b := book(t, newHandler(store), room, slot(0, 1))
	user, end := domain.UserID("eve"), slot(0, 2).End

	behind := &lagging{Store: store, stream: room.Stream(), shown: 0}
	h := newHandler(behind)
	if _, err := h.calendars.complete(t.Context(), room, noon); err != nil {
		t.Fatal(err)
	}
	book(t, newHandler(store), room, slot(5, 6))
	behind.reads.Store(2 * attempts)
	book(t, h, room, slot(3, 4))

	behind = &lagging{stream: b.ID.Stream(), shown: b.Revision, Store: &raced{Store: store, stream: b.ID.Stream(), by: func() {
		if _, err := newHandler(store).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user}); err != nil {
			t.Error(err)
		}
		behind.reads.Store(2 * attempts)
	}}}
	moved, err := newHandler(behind).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, End: &end})
	if err != nil || moved.User != user || !moved.Slot.End.Equal(end) {
		t.Errorf("%+v, %v", moved, err)
	}
}

// watched is a store that calls do before the first read of a stream.
type watched struct {
	Store
	stream string
	once   sync.Once
	do     func()
}

func (w *watched) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	if stream == w.stream {
		w.once.Do(w.do)
	}
	return w.Store.ReadStream(ctx, stream, from)
}

// A command that settles its booking may get it as it was before the command read it. What it decides on that is not appended to what has
// come since: a change that was made is not made again.
func TestABookingThatIsSettledAsItWas(t *testing.T) {
	store := eventstoretest.Open(t)
	b := book(t, newHandler(store), newRoom(), slot(0, 1))
	change := ChangeBooking{Request: request(), Booking: b.ID, User: new(domain.UserID)}
	*change.User = "bob"
	changed, err := newHandler(store).ChangeBooking(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	behind := &lagging{Store: store, stream: b.ID.Stream(), shown: b.Revision}
	settling := &watched{Store: behind, stream: b.Room.Stream(), do: func() { behind.reads.Store(1) }}
	change.Request = request()
	again, err := newHandler(settling).ChangeBooking(t.Context(), change)
	if err != nil || again.Revision != changed.Revision || behind.reads.Load() >= 0 {
		t.Errorf("it is %+v, %v, want revision %d, with a late read", again, err, changed.Revision)
	}
}

// raced is a store on which another command gets in just before the first append to a stream.
type raced struct {
	Store
	stream string
	by     func()
	once   sync.Once
}

func (o *raced) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if stream == o.stream {
		o.once.Do(o.by)
	}
	return o.Store.Append(ctx, stream, expected, events...)
}

// A change that loses its race after it took the new slot leaves no reservation behind, neither when it decides again nor when it is
// refused.
func TestAChangeThatLosesItsRaceReleasesItsSlot(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	for name, c := range map[string]struct {
		meanwhile func(b Booking) error
		refused   bool
		calendar  []string
	}{
		"to another change": {func(b Booking) error {
			end := slot(0, 2).End
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, End: &end})
			return err
		}, false, []string{"SlotReserved", "SlotReleased", "SlotReserved"}},
		"to a change of the user": {func(b Booking) error {
			user := domain.UserID("eve")
			_, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user})
			return err
		}, false, []string{"SlotReserved"}},
		"to a start": {func(b Booking) error {
			_, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
			return err
		}, true, []string{"SlotReserved", "SlotReleased"}},
		"to a cancellation": {func(b Booking) error {
			_, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID})
			return err
		}, true, []string{"SlotReserved", "SlotReleased"}},
	} {
		t.Run(name, func(t *testing.T) {
			room, to := newRoom(), newRoom()
			b := book(t, h, room, slot(0, 1))
			store := &raced{Store: store, stream: b.ID.Stream(), by: func() {
				if err := c.meanwhile(b); err != nil {
					t.Error(err)
				}
			}}
			moved, err := newHandler(store).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &to})
			if (err != nil) != c.refused || err == nil && moved.Room != to {
				t.Errorf("%+v, %v", moved, err)
			}
			wantTypes(t, store, to.Stream(), c.calendar...)
		})
	}
}

// A change that loses its race and then cannot be settled is not told that nothing was decided: whoever finds its reservation may
// finish it.
func TestAChangeThatLosesItsRaceWhileTheStoreFails(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	unknown := 0
	for _, how := range hows {
		for n := 1; ; n++ {
			room, to, user := newRoom(), newRoom(), domain.UserID("eve")
			b := book(t, h, room, slot(0, 1))
			f := &faulty{how: how, n: n, Store: &raced{Store: store, stream: b.ID.Stream(), by: func() {
				if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user}); err != nil {
					t.Error(err)
				}
			}}}
			_, err := newHandler(f).ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &to})
			if f.calls < n {
				break
			}
			settled, failed := h.settle(t.Context(), b.ID, everywhere(room, to)...)
			if f.missed(err) || failed != nil {
				t.Errorf("the store failed at call %d, %+v: %v, settled: %v", n, how, err, failed)
			}
			if errors.Is(err, eventstore.ErrOutcomeUnknown) {
				unknown++
			} else if settled.state.Room == to && !f.left {
				t.Errorf("the store failed at call %d, %+v: it was told %v, and the booking moved", n, how, err)
			}
		}
	}
	if unknown == 0 {
		t.Error("it never failed after the race")
	}
}

// Whoever gives another end than the first one is refused, and finishes what the first one left half-done.
func TestARefusedEndFinishesTheFirst(t *testing.T) {
	n := openNode(t)
	var c breakable
	for _, c = range breakables() {
		if c.name == "end use" {
			break
		}
	}
	whole := c.whole(t, n)
	for _, w := range c.broken(t, n, whole, whole.halfway()...) {
		var ended *domain.AlreadyEnded
		_, err := newHandler(n.store).EndUse(t.Context(), EndUse{Request: request(), RealUse: domain.RealUseOf(w.booking), EndedAt: noon.Add(90 * time.Minute)})
		if !errors.As(err, &ended) {
			t.Errorf("%s: %v", w.at, err)
		}
		w.wantEnd(t, whole.after)
	}
}

// A booking whose use has ended cannot be confirmed, although its cancellation has not been written yet: whoever reads it is told that it
// is over.
func TestABookingWhoseUseHasEndedIsNotConfirmed(t *testing.T) {
	n := openNode(t)
	var c breakable
	for _, c = range breakables() {
		if c.name == "end use" {
			break
		}
	}
	whole := c.whole(t, n)
	for _, w := range c.broken(t, n, whole, whole.halfway()...) {
		var over *domain.AlreadyCancelled
		_, err := newHandler(n.store).AnswerConfirm(t.Context(), AnswerConfirm{Request: request(), Booking: w.booking, Answer: domain.Confirmed, AnsweredAt: noon})
		if !errors.As(err, &over) {
			t.Errorf("%s: %v", w.at, err)
		}
		w.wantEnd(t, whole.after)
	}
}
