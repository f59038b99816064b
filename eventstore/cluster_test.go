package eventstore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// Many append and read while the leader resigns with calls open, is replaced at once, dies and comes back: no call fails, whatever is
// acknowledged can be read at once by anybody, and nothing is lost or duplicated.
func TestTheLeaderMovesUnderLoad(t *testing.T) {
	t.Parallel()
	cluster := eventstoretest.Cluster(t, 3)
	cluster.ExpectDropped() // if a busy machine shows an append late
	stores := []*eventstore.Store{cluster.Open(t, eventstore.Options{Timeout: time.Minute}), cluster.Open(t, eventstore.Options{Timeout: time.Minute})}
	after := logEnd(t, stores[0])

	var mu sync.Mutex
	acknowledged := map[domain.ReservationID]bool{}
	var appended atomic.Int64
	done := make(chan struct{})
	var working sync.WaitGroup
	own, contested := []string{}, newStream()
	work := func(s, other *eventstore.Store, stream string, alone bool) {
		revision := eventstore.NoStream
		for {
			select {
			case <-done:
				return
			default:
			}
			proposed := events(2)
			at, err := s.Append(t.Context(), stream, revision, proposed...)
			if lost, ok := errors.AsType[*eventstore.WrongRevision](err); ok && !alone {
				revision = lost.Actual
				continue
			}
			if err != nil || alone && at.Revision != revision+2 {
				t.Errorf("append at %d: %+v, %v", revision, at, err)
				return
			}
			mu.Lock()
			for _, id := range proposedIDs(proposed) {
				acknowledged[id] = true
			}
			mu.Unlock()
			appended.Add(1)
			revision = at.Revision
			var got []eventstore.Recorded
			for r, err := range other.ReadStream(t.Context(), stream, at.Revision-1) {
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				got = append(got, r)
			}
			if len(got) < 2 || !slices.Equal(recordedIDs(got[:2]), proposedIDs(proposed)) || got[1].ID != at.IDs[1] || got[1].Position != at.Position {
				t.Errorf("appended to %s at %+v, which another cannot read: %d events there", stream, at, len(got))
				return
			}
		}
	}
	for i := range 8 {
		stream := newStream()
		own = append(own, stream)
		working.Go(func() { work(stores[i%2], stores[1-i%2], stream, true) })
	}
	for i := range 4 {
		working.Go(func() { work(stores[i%2], stores[1-i%2], contested, false) })
	}
	goOn := func(n int64) {
		for until := appended.Load() + n; appended.Load() < until && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	for round := range 9 {
		goOn(40)
		leader := cluster.Leader()
		switch next := (leader + 1) % 3; round % 3 {
		case 0:
			cluster.MoveLeader(next)
		case 1:
			cluster.Elect(next)
		case 2:
			cluster.Kill(leader)
			goOn(20)
			cluster.Start(leader)
		}
	}
	goOn(40)
	close(done)
	working.Wait()

	count := map[domain.ReservationID]int{}
	for _, stream := range append(own, contested) {
		for _, r := range all(t, stores[0].ReadStream(t.Context(), stream, 0)) {
			count[idOf(r.Event)]++
		}
	}
	for id := range acknowledged {
		if count[id] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", id, count[id])
		}
	}
	if len(count) != len(acknowledged) {
		t.Errorf("%d events are there, %d were acknowledged", len(count), len(acknowledged))
	}
	// Connections to former leaders are closed.
	for counted(t, stores[0], "roombook_eventstore_connections") > 2*eventstore.DefaultConnections {
		time.Sleep(time.Millisecond)
	}
	// A subscription, which may follow any member, yields each event once.
	left := len(count)
	for b, err := range stores[1].Subscribe(t.Context(), after, eventstore.Filter{StreamPrefixes: append(own, contested)}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Events {
			if count[idOf(r.Event)]--; count[idOf(r.Event)] != 0 {
				t.Errorf("%s was followed twice", idOf(r.Event))
			}
			left--
		}
		if left <= 0 {
			break
		}
	}
}

// A preference for followers affects only what may be a little behind.
func TestFollowersAreForLists(t *testing.T) {
	t.Parallel()
	cluster := eventstoretest.ClusterBefore(t, "esdb://"+eventstoretest.Serve(t, "")+"?tls=false", 3, eventstoretest.Conditions{Lag: time.Hour})
	for _, preference := range []string{"follower", "random", "readonlyreplica", "leader"} {
		s, err := eventstore.Open(eventstore.Options{ConnectionString: cluster.ConnectionString() + "&nodePreference=" + preference, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 20 {
			stream := newStream()
			proposed := events(2)
			mustAppend(t, s, stream, eventstore.NoStream, proposed...)
			if got := all(t, s.ReadStream(t.Context(), stream, 0)); !slices.Equal(recordedIDs(got), proposedIDs(proposed)) {
				t.Errorf("%s: %d events are read of what was just appended", preference, len(got))
			}
		}
		at := mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
		end, err := s.End(t.Context())
		if err != nil {
			t.Error(err)
		}
		if preference == "follower" && end >= at.Position || preference == "leader" && end < at.Position {
			t.Errorf("%s: the end is %d, the last event is at %d", preference, end, at.Position)
		}
	}
}

// Connections are cut while appends are in flight: none is repeated while the event store would drop it.
func TestCutWhileAppendsAreOnTheirWay(t *testing.T) {
	t.Parallel()
	real := eventstoretest.ClusterBefore(t, "esdb://"+eventstoretest.Serve(t, "")+"?tls=false", 1, eventstoretest.Conditions{Indexing: 20 * time.Millisecond})
	network := eventstoretest.BeforeStore(t, real.ConnectionString())
	s := network.Open(t, eventstore.Options{Timeout: time.Minute})
	for _, expected := range []domain.Revision{eventstore.NoStream, eventstore.Any} {
		for range 20 {
			stream := newStream()
			var appending sync.WaitGroup
			proposed, calls := events(1), network.Calls(eventstoretest.Append)
			appending.Go(func() { mustAppend(t, s, stream, expected, proposed...) })
			for network.Calls(eventstoretest.Append) == calls {
				time.Sleep(time.Millisecond)
			}
			network.Cut()
			appending.Wait()
			if got := all(t, s.ReadStream(t.Context(), stream, 0)); !slices.Equal(recordedIDs(got), proposedIDs(proposed)) {
				t.Errorf("%d events", len(got))
			}
		}
	}
}

// The new leader cannot be reached, or accepts connections and is silent: calls time out with the right error or, if they have the time,
// succeed when another member leads.
func TestTheNewLeaderCannotBeReached(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*eventstoretest.Controlled){
		"refused": (*eventstoretest.Controlled).Stop,
		"silent":  (*eventstoretest.Controlled).Silence,
	} {
		t.Run(name, func(t *testing.T) {
			cluster := eventstoretest.Cluster(t, 3)
			network := eventstoretest.Before(t, cluster.Address(1))
			cluster.Advertise(1, network.Address())
			s := cluster.Open(t, eventstore.Options{Timeout: time.Minute})
			impatient := cluster.Open(t, eventstore.Options{Timeout: short})
			stream := newStream()
			mustAppend(t, s, stream, eventstore.NoStream, events(1)...)
			awaitPing(t, impatient)
			fail(network)
			cluster.Elect(1)
			for kind, ask := range operations {
				if kind == "subscription" {
					continue
				}
				if err := untilCertain(func() error { return ask(t.Context(), impatient) }); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
					t.Errorf("%s: %v", kind, err)
				}
			}
			var waiting sync.WaitGroup
			waiting.Go(func() { mustAppend(t, s, stream, 0, events(1)...) })
			waiting.Go(func() {
				if n := len(all(t, s.ReadStream(t.Context(), stream, 0))); n == 0 {
					t.Error("the stream is empty")
				}
			})
			cluster.Elect(2)
			waiting.Wait()
			awaitPing(t, impatient)
		})
	}
}

// Closing ends the wait for a leader.
func TestCloseWhileNobodyLeads(t *testing.T) {
	t.Parallel()
	cluster := eventstoretest.ClusterBefore(t, "esdb://"+eventstoretest.Serve(t, "")+"?tls=false", 3, eventstoretest.Conditions{Election: time.Hour})
	for _, step := range []struct {
		name string
		fail func()
	}{
		{"an election", func() { cluster.MoveLeader(1) }},
		{"one is left", func() { cluster.Kill(0); cluster.Kill(1) }},
		{"all are gone", func() { cluster.Kill(2) }},
	} {
		s := cluster.Open(t, eventstore.Options{Timeout: time.Minute})
		step.fail()
		var waiting sync.WaitGroup
		for range 20 {
			waiting.Go(func() {
				if _, err := s.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...); !errors.Is(err, eventstore.ErrClosed) {
					t.Errorf("%s: append: %v", step.name, err)
				}
			})
		}
		for s.Ping(shortContext(t)) == nil {
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		waiting.Wait()
	}
}

// shortly is a context that ends soon.
func shortContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), short)
	t.Cleanup(cancel)
	return ctx
}
