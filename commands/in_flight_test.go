package commands

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// slow is a store whose first append to a booking waits until it is released.
type slow struct {
	Store
	appends atomic.Int32 // to bookings
	reads   atomic.Int32 // of bookings, that have ended
	begun   chan struct{}
	release chan struct{}
}

func (s *slow) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if strings.HasPrefix(stream, domain.BookingCategory+"-") && s.appends.Add(1) == 1 {
		close(s.begun)
		<-s.release
	}
	return s.Store.Append(ctx, stream, expected, events...)
}

func (s *slow) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range s.Store.ReadStream(ctx, stream, from) {
			if !yield(r, err) {
				return
			}
		}
		if strings.HasPrefix(stream, domain.BookingCategory+"-") {
			s.reads.Add(1)
		}
	}
}

// waiting is the number of commands that wait for an append of another one.
func waiting() int {
	stacks := make([]byte, 1<<22)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*inFlightAppend).wait(")
}

// Commands of the same process that come across a half-done booking do not append what its command has in flight: they wait for it.
func TestNobodyAppendsWhatAnotherHasInFlight(t *testing.T) {
	store := &slow{Store: eventstoretest.Open(t), begun: make(chan struct{}), release: make(chan struct{})}
	h := newHandler(store)
	room := newRoom()
	ask := func() error {
		_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(0, 1)})
		return err
	}
	const others = 8
	var asking sync.WaitGroup
	var errs [others + 1]error
	asking.Go(func() { errs[others] = ask() })
	<-store.begun
	for i := range others {
		asking.Go(func() { errs[i] = ask() })
	}
	gone, leave := context.WithCancel(t.Context())
	var left error
	asking.Go(func() {
		_, left = h.CreateBooking(gone, CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(0, 1)})
	})
	for store.appends.Load() == 1 && waiting() < others+1 {
		time.Sleep(time.Millisecond)
	}
	leave()
	close(store.release)
	asking.Wait()
	if errs[others] != nil {
		t.Error(errs[others])
	}
	for _, err := range errs[:others] {
		if taken, ok := errors.AsType[*domain.SlotTaken](err); !ok || len(taken.By) != 1 {
			t.Errorf("%v, want that the slot is taken", err)
		}
	}
	if _, taken := errors.AsType[*domain.SlotTaken](left); !taken && !errors.Is(left, context.Canceled) {
		t.Errorf("one that went away was told %v", left)
	}
	if n := store.appends.Load(); n != 1 {
		t.Errorf("the booking was appended to %d times", n)
	}
}

// A change that has taken its slot is carried out even if its caller goes away while it waits for another command's append.
func TestAChangeIsCarriedOutWithoutItsCaller(t *testing.T) {
	store := &slow{Store: eventstoretest.Open(t), begun: make(chan struct{}), release: make(chan struct{})}
	h := newHandler(store)
	to, user := newRoom(), domain.UserID("eve")
	b := book(t, newHandler(store.Store), newRoom(), slot(0, 1))
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, User: &user}); err != nil {
			t.Error(err)
		}
	})
	<-store.begun
	gone, leave := context.WithCancel(t.Context())
	asking.Go(func() {
		if moved, err := h.ChangeBooking(gone, ChangeBooking{Request: request(), Booking: b.ID, Room: &to}); err != nil || moved.Room != to {
			t.Errorf("%+v, %v", moved, err)
		}
	})
	for len(eventTypes(t, store.Store, to.Stream())) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it does not take its slot")
		}
	}
	leave()
	close(store.release)
	asking.Wait()
}

// An append goes on even if its caller goes away.
func TestAnAppendGoesOnWithoutItsCaller(t *testing.T) {
	store := &slow{Store: eventstoretest.Open(t), begun: make(chan struct{}), release: make(chan struct{})}
	b, user := book(t, newHandler(store.Store), newRoom(), slot(0, 1)), domain.UserID("eve")
	gone, leave := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		changed, err := newHandler(store).ChangeBooking(gone, ChangeBooking{Request: request(), Booking: b.ID, User: &user})
		if err != nil || changed.User != user {
			t.Errorf("%+v, %v", changed, err)
		}
	})
	<-store.begun
	leave()
	close(store.release)
	asking.Wait()
}

// When an append fails, those that waited for it go on, whether the stream exists or not.
func TestAnAppendInFlightFails(t *testing.T) {
	open := func() (*failingOnce, *Handler) {
		store := &failingOnce{slow: &slow{Store: eventstoretest.Open(t), begun: make(chan struct{}), release: make(chan struct{})}}
		return store, newHandler(store)
	}
	both := func(t *testing.T, store *failingOnce, h *Handler, ask func(context.Context, domain.UserID) error) (first, second error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var asking sync.WaitGroup
		asking.Go(func() { first = ask(ctx, "bob") })
		<-store.begun
		h.cache.forget()
		looked := store.reads.Load() + 1
		asking.Go(func() { second = ask(ctx, "eve") })
		for store.reads.Load() < looked {
			if ctx.Err() != nil {
				t.Fatal("the second does not look at the booking")
			}
		}
		close(store.release)
		asking.Wait()
		return first, second
	}
	t.Run("a change", func(t *testing.T) {
		store, h := open()
		b := book(t, newHandler(store.Store), newRoom(), slot(0, 1))
		first, second := both(t, store, h, func(ctx context.Context, user domain.UserID) error {
			_, err := h.ChangeBooking(ctx, ChangeBooking{Request: request(), Booking: b.ID, User: &user})
			return err
		})
		if !errors.Is(first, eventstore.ErrUnavailable) || second != nil {
			t.Errorf("the first was told %v, the second %v", first, second)
		}
	})
	t.Run("a creation", func(t *testing.T) {
		store, h := open()
		room := newRoom()
		first, second := both(t, store, h, func(ctx context.Context, user domain.UserID) error {
			_, err := h.CreateBooking(ctx, CreateBooking{Request: request(), Room: room, User: user, Slot: slot(0, 1)})
			return err
		})
		if taken, ok := errors.AsType[*domain.SlotTaken](second); !errors.Is(first, eventstore.ErrOutcomeUnknown) || !ok || len(taken.By) != 1 {
			t.Errorf("the first was told %v, the second %v", first, second)
		}
	})
}

// failingOnce lets the slow append fail.
type failingOnce struct {
	*slow
}

func (f *failingOnce) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if strings.HasPrefix(stream, domain.BookingCategory+"-") && f.appends.Add(1) == 1 {
		close(f.begun)
		<-f.release
		return eventstore.Appended{}, eventstore.ErrUnavailable
	}
	return f.Store.Append(ctx, stream, expected, events...)
}
