package commands

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// gated is a store each of whose reads waits, and then yields one event, whose revision is the number of the read.
type gated struct {
	Store
	reads atomic.Int64
	next  chan error // lets a read go on, or fail
}

func (g *gated) Incarnation() eventstore.Incarnation { return 1 }

func (g *gated) ReadStream(ctx context.Context, _ string, _ domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := g.reads.Add(1)
		var err error
		select {
		case err = <-g.next:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		yield(eventstore.Recorded{Revision: domain.Revision(n), Event: domain.ConfirmCompleted{}}, nil)
	}
}

// Of all who look at a booking while it is being read one reads it again, and each sees it as it was after they began to look.
func TestGlancesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gated{next: make(chan error)}
		h := New(store, Options{})
		var mu sync.Mutex
		var seen [3][]domain.Revision
		var failed []error
		looks := func(of, n int) {
			for range n {
				go func() {
					found, err := h.glances.look(t.Context(), h, "b")
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failed = append(failed, err)
					}
					seen[of] = append(seen[of], found.revision)
				}()
			}
			synctest.Wait()
		}
		wantReads := func(n int64) {
			t.Helper()
			synctest.Wait()
			if store.reads.Load() != n {
				t.Errorf("%d reads, want %d", store.reads.Load(), n)
			}
		}
		looks(0, 1)
		looks(1, 20)
		wantReads(1)
		store.next <- nil
		wantReads(2)
		looks(2, 5)
		store.next <- nil
		wantReads(3)
		store.next <- errors.New("away")
		wantReads(3)
		for of, want := range []struct {
			n        int
			revision domain.Revision
		}{{1, 1}, {20, 2}, {5, eventstore.NoStream}} {
			if len(seen[of]) != want.n || seen[of][0] != want.revision || seen[of][want.n-1] != want.revision {
				t.Errorf("group %d saw revisions %v", of, seen[of])
			}
		}
		if len(failed) != 1 {
			t.Errorf("a read that failed was told to %d, of five", len(failed))
		}

		// The time of one who was to read for others ends: they read.
		go h.glances.look(t.Context(), h, "c")
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		others := make(chan domain.Revision, 3)
		for _, ctx := range []context.Context{short, t.Context(), t.Context()} {
			go func() {
				found, _ := h.glances.look(ctx, h, "c")
				others <- found.revision
			}()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if r := <-others; r != eventstore.NoStream {
			t.Errorf("who had no time found revision %d", r)
		}
		close(store.next) // all reads go on
		if one, other := <-others, <-others; one == eventstore.NoStream || other == eventstore.NoStream {
			t.Errorf("the others found revisions %d and %d", one, other)
		}
		synctest.Wait()
		if len(h.glances.of) != 0 {
			t.Errorf("%d glances are left", len(h.glances.of))
		}
	})
}

// A slot that a command left half-done is about to free is not refused, whether or not the process knows the booking that has it.
func TestWhatFreesASlotIsDoneFirst(t *testing.T) {
	store := eventstoretest.Open(t)
	replaced := func(t *testing.T, b Booking, room domain.RoomID, by domain.Slot) (domain.RoomID, domain.Event) {
		ask := request().reservation(b.Revision)
		ask.BookingID, ask.RoomID, ask.Slot, ask.Replaces = b.ID, room, by, b.Reservation
		return room, ask
	}
	closing := func(t *testing.T, h *Handler, b Booking) (domain.RoomID, domain.Event) {
		if _, err := register(t)(h, b.Room); err != nil {
			t.Fatal(err)
		}
		return b.Room, domain.PeriodClosed{ClosureID: "c", RoomID: b.Room, Slot: domain.Slot{Start: b.Slot.Start, End: b.Slot.Start.Add(time.Hour)}, Bookings: domain.CancelBookings, At: noon}
	}
	for name, leave := range map[string]func(t *testing.T, h *Handler, b Booking) (domain.RoomID, domain.Event){
		"a change of time": func(t *testing.T, h *Handler, b Booking) (domain.RoomID, domain.Event) {
			return replaced(t, b, b.Room, slot(4, 6))
		},
		"a change back to a room": func(t *testing.T, h *Handler, b Booking) (domain.RoomID, domain.Event) {
			before := newRoom()
			for _, room := range []domain.RoomID{before, b.Room} {
				var err error
				if b, err = h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Room: &room}); err != nil {
					t.Fatal(err)
				}
			}
			return replaced(t, b, before, slot(0, 2))
		},
		"a change to a time that is not remembered": func(t *testing.T, h *Handler, b Booking) (domain.RoomID, domain.Event) {
			earlier, now := slot(-40, -38), slot(0, 2)
			for _, to := range []domain.Slot{earlier, now} {
				var err error
				if b, err = h.ChangeBooking(t.Context(), ChangeBooking{Request: request(), Booking: b.ID, Start: &to.Start, End: &to.End}); err != nil {
					t.Fatal(err)
				}
			}
			for hour := -25; hour < -1; hour++ {
				book(t, h, b.Room, slot(hour, hour+1))
			}
			return replaced(t, b, b.Room, slot(-30, -28))
		},
		"a closing":                        closing,
		"a closing that is not remembered": closing,
	} {
		for _, of := range []string{"known", "unknown"} {
			t.Run(name+", "+of, func(t *testing.T) {
				remembering := func() *Handler { return New(store, Options{Policy: domain.DefaultPolicy(), CalendarKeep: time.Hour}) }
				h := remembering()
				begins := 0
				if name == "a closing that is not remembered" {
					begins = -5
				}
				b := book(t, h, newRoom(), slot(begins, 2))
				room, left := leave(t, h, b)
				if _, err := store.Append(t.Context(), room.Stream(), eventstore.Any, eventstore.Proposed{Event: left, Metadata: eventstore.Metadata{OccurredAt: noon}}); err != nil {
					t.Fatal(err)
				}
				if of == "unknown" {
					h = remembering()
				}
				book(t, h, b.Room, slot(1, 3))
				if ask, moves := left.(domain.SlotReserved); moves {
					if moved, err := h.Booking(t.Context(), b.ID); err != nil || moved.Reservation != ask.ReservationID {
						t.Errorf("it has %s, %v, want %s", moved.Reservation, err, ask.ReservationID)
					}
				}
			})
		}
	}
}
