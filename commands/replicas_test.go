package commands

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// replicas starts processes that share nothing but a server, which behaves as EventStoreDB does: it drops an append whose ids are in flight in
// another one, which fails the test.
func replicas(t *testing.T, n int) ([]*Handler, *eventstoretest.Servers) {
	t.Helper()
	server := eventstoretest.Real(t)
	all := make([]*Handler, n)
	for i := range all {
		all[i] = newHandler(server.Open(t, eventstore.Options{}))
	}
	return all, server
}

// atOnce lets clients ask over and over, each another replica, and logs the longest time that one waited.
func atOnce(t *testing.T, clients, rounds int, ask func(client, round int)) {
	t.Helper()
	var longest atomic.Int64
	var asking sync.WaitGroup
	began := time.Now()
	for client := range clients {
		asking.Go(func() {
			for round := range rounds {
				start := time.Now()
				ask(client, round)
				for took := int64(time.Since(start)); ; {
					known := longest.Load()
					if took <= known || longest.CompareAndSwap(known, took) {
						break
					}
				}
			}
		})
	}
	asking.Wait()
	t.Logf("%d requests in %s, the longest %s", clients*rounds, time.Since(began).Round(time.Millisecond), time.Duration(longest.Load()).Round(time.Millisecond))
}

// Many clients of several replicas want one slot after another: each slot goes to one of them, and all others are told whose it is.
func TestReplicasWantOneSlotAfterAnother(t *testing.T) {
	for name, n := range map[string]int{"one replica": 1, "three replicas": 3} {
		t.Run(name, func(t *testing.T) {
			handlers, _ := replicas(t, n)
			const clients, slots = 16, 20
			room := newRoom()
			var won [slots]atomic.Int32
			atOnce(t, clients, slots, func(client, i int) {
				h := handlers[client%n]
				_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(i, i+1)})
				if taken, ok := errors.AsType[*domain.SlotTaken](err); ok && len(taken.By) == 1 {
					return
				}
				if err != nil {
					t.Error(err)
				}
				won[i].Add(1)
			})
			for i := range won {
				if w := won[i].Load(); w != 1 {
					t.Errorf("slot %d went to %d clients", i, w)
				}
			}
		})
	}
}

// Many clients of several replicas ask with the same key: the command is carried out once, and all get the same answer.
func TestReplicasAreAskedWithOneKey(t *testing.T) {
	handlers, _ := replicas(t, 2)
	const clients, keys = 8, 20
	rooms, requests := make([]domain.RoomID, keys), make([]func() Request, keys)
	for i := range keys {
		rooms[i], requests[i] = newRoom(), keyed("digest")
	}
	var answers [keys][clients]Booking
	atOnce(t, clients, keys, func(client, i int) {
		var err error
		answers[i][client], err = handlers[client%2].CreateBooking(t.Context(), CreateBooking{Request: requests[i](), Room: rooms[i], User: "ann", Slot: slot(0, 1)})
		if err != nil {
			t.Error(err)
		}
	})
	for i := range keys {
		for _, a := range answers[i] {
			if !sameAnswer(a, answers[i][0]) {
				t.Errorf("key %d was answered %+v and %+v", i, a, answers[i][0])
			}
		}
	}
}

// Many clients of several replicas settle one booking that was left half-done: each step is done once.
func TestReplicasFinishOneBooking(t *testing.T) {
	t.Parallel()
	handlers, server := replicas(t, 3)
	n := node{address: server.ConnectionString(), store: server.Open(t, eventstore.Options{}), handler: newHandler}
	const clients = 12
	for _, c := range breakables() {
		t.Run(c.name, func(t *testing.T) {
			whole := c.whole(t, n)
			worlds := c.broken(t, n, whole, whole.halfway()...)
			atOnce(t, clients, len(worlds), func(client, i int) {
				w := worlds[i]
				if _, err := handlers[client%3].settle(t.Context(), w.booking, everywhere(w.from, w.to)...); err != nil {
					t.Errorf("%s: %v", w.at, err)
				}
			})
			for _, w := range worlds {
				w.wantEnd(t, whole.after)
			}
		})
	}
}

// Replicas on a cluster book, and are asked for what others have just acknowledged, while the leader moves, resigns and dies.
func TestReplicasOnAClusterWhoseLeaderChanges(t *testing.T) {
	t.Parallel()
	cluster := eventstoretest.Cluster(t, 3)
	handlers := make([]*Handler, 3)
	for i := range handlers {
		handlers[i] = newHandler(cluster.Open(t, eventstore.Options{Timeout: time.Minute}))
	}
	room := newRoom()
	var done atomic.Bool
	var next atomic.Int32
	var asking sync.WaitGroup
	someMore := func() {
		for enough := next.Load() + 20; next.Load() < enough && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	asking.Go(func() {
		defer done.Store(true)
		for range 2 {
			someMore()
			cluster.MoveLeader((cluster.Leader() + 1) % 3)
			someMore()
			dead := cluster.Leader()
			cluster.Kill(dead)
			someMore()
			cluster.Start(dead)
		}
		someMore()
	})
	for client := range 6 {
		asking.Go(func() {
			for !done.Load() {
				h, i := handlers[client%3], int(next.Add(1))
				b, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "ann", Slot: slot(i, i+1)})
				if err != nil {
					t.Errorf("book: %v", err)
					return
				}
				other := handlers[(client+1)%3]
				if got, err := other.Booking(t.Context(), b.ID); err != nil || got.Revision != b.Revision {
					t.Errorf("a booking that was acknowledged: %+v, %v", got, err)
				}
				if _, err := other.CancelBooking(t.Context(), CancelBooking{Request: Request{ID: uuid.New(), Actor: domain.Anyone("ann"), At: noon}, Booking: b.ID}); err != nil {
					t.Errorf("cancel: %v", err)
				}
				if _, err := h.Booking(t.Context(), b.ID); !errors.As(err, new(*domain.AlreadyCancelled)) {
					t.Errorf("a booking whose cancellation was acknowledged: %v", err)
				}
			}
		})
	}
	asking.Wait()
	t.Logf("%d bookings", next.Load())
	wantSound(t, cluster.Open(t, eventstore.Options{}), 0, room)
}
