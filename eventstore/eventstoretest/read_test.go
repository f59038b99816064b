package eventstoretest_test

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// Reads yield what can be read and no more, wherever they begin.
func TestReadsEndWhereWhatCanBeReadEnds(t *testing.T) {
	t.Parallel()
	s, behind := before(t, 1, eventstoretest.Conditions{Indexing: never})
	direct := dial(t, strings.TrimSuffix(strings.TrimPrefix(behind, "esdb://"), "?tls=false"))
	direct.must("s", -1, newID(), newID(), newID()) // 0 to 2
	c := dial(t, s.Address(0))
	c.read() // what was appended past the servers is readable once it has been seen
	done := make(chan error, 3)
	for i, stream := range []string{"s", "t", "s"} {
		go func() {
			_, err := c.append(t.Context(), stream, []int{2, -1, 4}[i], newID(), newID()) // 3 and 4; 0 and 1; 5 and 6
			done <- err
		}()
		eventually(t, "it is accepted", func() bool { return s.Pending() == i+1 })
	}
	for name, test := range map[string]struct {
		read []readOption
		want []string
	}{
		"a stream":                          {[]readOption{of("s")}, []string{"0", "1", "2"}},
		"a part":                            {[]readOption{of("s"), from(1), limit(1)}, []string{"1"}},
		"from a revision":                   {[]readOption{of("s"), from(2)}, []string{"2"}},
		"from what cannot be read":          {[]readOption{of("s"), from(3)}, nil},
		"from what cannot be read either":   {[]readOption{of("s"), from(6)}, nil},
		"from beyond the end":               {[]readOption{of("s"), from(9)}, nil},
		"by who wants to know its end":      {[]readOption{of("s"), knowing}, []string{"0", "1", "2", "last 2"}},
		"nothing, by who wants to know":     {[]readOption{of("s"), from(4), knowing}, []string{"last 2"}},
		"the last":                          {[]readOption{of("s"), backward, limit(1)}, []string{"2"}},
		"the last two":                      {[]readOption{of("s"), backward, limit(2)}, []string{"2", "1"}},
		"all backward":                      {[]readOption{of("s"), backward, knowing}, []string{"2", "1", "0", "last 2"}},
		"backward from what cannot be read": {[]readOption{of("s"), backward, from(5), limit(2)}, []string{"2", "1"}},
		"backward from what can":            {[]readOption{of("s"), backward, from(1)}, []string{"1", "0"}},
		"a stream that is not there yet":    {[]readOption{of("t")}, []string{"not found"}},
		"a part of it":                      {[]readOption{of("t"), from(1)}, []string{"not found"}},
		"its last":                          {[]readOption{of("t"), backward, limit(1)}, []string{"not found"}},
		"one that never was":                {[]readOption{of("u")}, []string{"not found"}},
		"the log":                           {nil, []string{"0", "1", "2"}},
		"the log backward":                  {[]readOption{backward, limit(2)}, []string{"2", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.read(test.read...); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	s.IndexAll()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got, want := c.read(of("s")), []string{"0", "1", "2", "3", "4", "5", "6"}; !reflect.DeepEqual(got, want) {
		t.Errorf("then: %q, want %q", got, want)
	}
	if got, want := c.read(of("t"), backward), []string{"1", "0"}; !reflect.DeepEqual(got, want) {
		t.Errorf("then: %q, want %q", got, want)
	}
}

// Of a stream of which only the last event is kept, a read waits for the new last one: the one before has been removed.
func TestAReadOfWhatHasMadeWay(t *testing.T) {
	t.Parallel()
	between := eventstoretest.Before(t, eventstoretest.Serve(t, ""))
	s := eventstoretest.ClusterBefore(t, between.ConnectionString(), 1, eventstoretest.Conditions{Indexing: never})
	direct := between.Open(t, eventstore.Options{})
	if _, err := direct.Append(t.Context(), "s", eventstore.NoStream, proposed()); err != nil {
		t.Fatal(err)
	}
	if err := direct.SetMaxCount(t.Context(), "s", 1); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Address(0))
	for _, read := range [][]readOption{{of("s")}, {of("s"), backward, limit(1)}} {
		before := c.read(read...)
		n, err := strconv.Atoi(strings.Join(before, " "))
		if err != nil {
			t.Fatalf("%q", before)
		}
		var working sync.WaitGroup
		working.Go(func() { c.must("s", n, newID()) })
		eventually(t, "it is accepted", func() bool { return s.Pending() == 1 })
		asked := between.Calls(eventstoretest.Read)
		working.Go(func() {
			if got, want := c.read(read...), []string{strconv.Itoa(n + 1)}; !reflect.DeepEqual(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
		eventually(t, "the one before is looked for", func() bool { return between.Calls(eventstoretest.Read) >= asked+2 })
		s.IndexAll()
		working.Wait()
	}
}

// While many append at once, the log can be read in order and without a gap, with all that was acknowledged.
func TestVisibleInTheOrderOfTheLog(t *testing.T) {
	t.Parallel()
	s, behind := before(t, 1, eventstoretest.Conditions{})
	begins := end(t, s)
	const writers, each = 8, 25
	var acknowledged atomic.Uint64
	var writing, reading sync.WaitGroup
	for i := range writers {
		c := dial(t, s.Address(0))
		if i == 0 { // not through the servers
			c = dial(t, strings.TrimSuffix(strings.TrimPrefix(behind, "esdb://"), "?tls=false"))
		}
		writing.Go(func() {
			for n := range each {
				position := c.must(fmt.Sprintf("s%d", i), 2*n-1, newID(), newID())
				if i == 0 {
					continue
				}
				for was := acknowledged.Load(); was < position && !acknowledged.CompareAndSwap(was, position); was = acknowledged.Load() {
				}
			}
		})
	}
	done := make(chan struct{})
	for _, backwards := range []bool{false, true} {
		c := dial(t, s.Address(0))
		reading.Go(func() {
			for last := false; !last; {
				select {
				case <-done:
					last = true
				default:
				}
				least := max(acknowledged.Load(), begins) - begins
				var options []readOption
				if backwards {
					options = []readOption{backward}
				}
				positions := positions(t, c.open(t.Context(), options...))
				if backwards {
					slices.Reverse(positions)
				}
				for i, p := range positions {
					if p != begins+uint64(i+1) {
						t.Fatalf("position %d is at %d of the log", p, i)
					}
				}
				if uint64(len(positions)) < least || last && len(positions) != 2*writers*each {
					t.Errorf("%d events can be read, and %d are acknowledged", len(positions), least)
				}
			}
		})
	}
	subscription := dial(t, s.Address(0)).open(t.Context(), subscribed)
	reading.Go(func() {
		for next := uint64(1); next <= 2*writers*each; {
			a, err := subscription.Recv()
			if err != nil {
				t.Error(err)
				return
			}
			if e := a.GetEvent(); e != nil {
				if e.GetCommitPosition() != next {
					t.Errorf("position %d comes, want %d", e.GetCommitPosition(), next)
				}
				next++
			}
		}
	})
	writing.Wait()
	close(done)
	reading.Wait()
}

// Subscriptions get an event when it can be read. Those from the end get what could not be read when they began.
func TestSubscriptionsStayBehind(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{Indexing: never})
	c := dial(t, s.Address(0))
	var working sync.WaitGroup
	working.Go(func() { c.must("s", -1, newID()) })
	eventually(t, "it is accepted", func() bool { return s.Pending() == 1 })
	s.IndexAll()
	working.Wait()

	working.Go(func() { c.must("s", 0, newID()) })
	eventually(t, "it is accepted", func() bool { return s.Pending() == 1 })
	var indexed atomic.Bool
	for _, change := range [][]readOption{
		{subscribed}, {subscribed, fromEnd}, {of("s"), subscribed}, {of("s"), subscribed, fromEnd}, {of("s"), subscribed, from(0)},
	} {
		call := c.open(t.Context(), change...)
		if a, err := call.Recv(); err != nil || a.GetConfirmation() == nil {
			t.Fatalf("%v, %v", a, err)
		}
		working.Go(func() {
			for {
				a, err := call.Recv()
				if err != nil {
					t.Error(err)
					return
				}
				if text(a) == "1" {
					if !indexed.Load() {
						t.Error("it comes before it can be read")
					}
					return
				}
			}
		})
	}
	indexed.Store(true)
	s.IndexAll()
	working.Wait()
}

// What is appended to the event store behind directly can be read as well.
func TestWhatOthersAppend(t *testing.T) {
	t.Parallel()
	s, behind := before(t, 2, eventstoretest.Conditions{Lag: time.Millisecond})
	direct := dial(t, strings.TrimSuffix(strings.TrimPrefix(behind, "esdb://"), "?tls=false"))
	leader, follower := dial(t, s.Address(0)), dial(t, s.Address(1))
	var calls []streams.Streams_ReadClient
	for _, c := range []client{leader, follower} {
		calls = append(calls, c.open(t.Context(), of("s"), subscribed))
	}
	direct.must("s", -1, newID())
	if got := leader.read(of("s")); !slices.Equal(got, []string{"0"}) {
		t.Errorf("%q", got)
	}
	eventually(t, "a follower has it", func() bool { return slices.Equal(follower.read(of("s")), []string{"0"}) })
	for _, call := range calls {
		eventually(t, "it comes", func() bool {
			a, err := call.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return text(a) == "0"
		})
	}
}
