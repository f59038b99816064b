package node_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// subscribe sends the request of a subscription; next returns its next message in words.
func subscribe(t testing.TB, c *grpc.ClientConn, o *streams.ReadReq_Options) (next func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	o.CountOption, o.UuidOption = subscription(), structured
	if o.FilterOption == nil {
		o.FilterOption = unfiltered
	}
	stream, err := streams.NewStreamsClient(c).Read(ctx, &streams.ReadReq{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		m, err := stream.Recv()
		if err != nil {
			return status.Code(err).String()
		}
		return words(m)
	}
}

// TestSubscription subscribes to a log of A0 B0 A1 B1 at positions 1 to 4, then A2 B2 are appended one after the other.
func TestSubscription(t *testing.T) {
	type options = streams.ReadReq_Options
	for _, test := range []struct {
		name   string
		when   *options
		before string // messages before A2 is appended
		after  string
	}{
		{"all from start", &options{StreamOption: ofAll("start")}, "A0 B0 A1 B1, caught up", "A2 B2"},
		{"all from zero", &options{StreamOption: ofAll(0)}, "A0 B0 A1 B1, caught up", "A2 B2"},
		{"all from a position", &options{StreamOption: ofAll(2)}, "A1 B1, caught up", "A2 B2"},
		{"all from the last position", &options{StreamOption: ofAll(4)}, "caught up", "A2 B2"},
		{"all from a future position", &options{StreamOption: ofAll(5)}, "caught up", "B2"},
		{"all from end", &options{StreamOption: ofAll("end")}, "caught up", "A2 B2"},
		{"all from -1", &options{StreamOption: ofAll(at(math.MaxUint64, math.MaxUint64))}, "caught up", "A2 B2"},
		{"stream from start", &options{StreamOption: ofStream("a", "start")}, "A0 A1, caught up", "A2"},
		{"stream from a revision", &options{StreamOption: ofStream("a", 0)}, "A1, caught up", "A2"},
		{"stream from its last revision", &options{StreamOption: ofStream("a", 1)}, "caught up", "A2"},
		{"stream from end", &options{StreamOption: ofStream("b", "end")}, "caught up", "B2"},
		{"stream from a future revision", &options{StreamOption: ofStream("a", 2)}, "caught up", ""},
		{"stream from the last possible revision", &options{StreamOption: ofStream("a", uint64(math.MaxInt64))}, "caught up", ""},
		{"missing stream", &options{StreamOption: ofStream("c", "start")}, "caught up", ""},
		{"filtered, every event", &options{StreamOption: ofAll("start"), FilterOption: prefixFilter(1, "a")},
			"A0, checkpoint: 1, checkpoint: 2, A1, checkpoint: 3, checkpoint: 4, caught up", "A2, checkpoint: 5, checkpoint: 6"},
		{"filtered, every third", &options{StreamOption: ofAll("start"), FilterOption: prefixFilter(3, "a")},
			"A0 A1, checkpoint: 3, checkpoint: 4, caught up", "A2, checkpoint: 6"},
		{"filtered, nothing matches", &options{StreamOption: ofAll("start"), FilterOption: prefixFilter(100, "x")}, "checkpoint: 4, caught up", ""},
		{"filtered, nothing to catch up on", &options{StreamOption: ofAll(4), FilterOption: prefixFilter(2, "b")}, "caught up", "B2, checkpoint: 6"},
		{"filtered from end", &options{StreamOption: ofAll("end"), FilterOption: prefixFilter(1, "b")}, "caught up", "checkpoint: 5, B2, checkpoint: 6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t).dial(t)
			for _, e := range []string{"A0", "B0", "A1", "B1"} {
				appendNamed(t, c, strings.ToLower(e[:1]), expectAny, e)
			}
			next := subscribe(t, c, test.when)
			expect := func(messages string) {
				t.Helper()
				for m := range strings.SplitSeq(messages, ", ") {
					for want := range strings.SplitSeq(m, " ") {
						if strings.Contains(m, "caught") || strings.Contains(m, ":") {
							want = m
						}
						if got := next(); got != want {
							t.Fatalf("got %s, want %s of %s", got, want, messages)
						}
						if want == m {
							break
						}
					}
				}
			}
			if got := next(); got != "confirmed" {
				t.Fatalf("got %s", got)
			}
			expect(test.before)
			appendNamed(t, c, "a", expectAny, "A2")
			appendNamed(t, c, "b", expectAny, "B2")
			if test.after != "" {
				expect(test.after)
			}
		})
	}
}

// TestSubscriptionToEmptyLog: a search from the start of an empty log has been made, and its checkpoint says so.
func TestSubscriptionToEmptyLog(t *testing.T) {
	c := start(t).dial(t)
	next := subscribe(t, c, &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: prefixFilter(1, "s")})
	for _, want := range []string{"confirmed", "checkpoint: 0", "caught up"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	appendNamed(t, c, "s", expectAny, "A")
	for _, want := range []string{"A", "checkpoint: 1"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func TestSubscriptionFaults(t *testing.T) {
	c := start(t).dial(t)
	for _, test := range []struct {
		name string
		when *streams.ReadReq_Options
		then codes.Code
	}{
		{"no checkpoint interval", &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: prefixFilter(0, "s")}, codes.Unknown},
		{"filtered stream", &streams.ReadReq_Options{StreamOption: ofStream("s", "start"), FilterOption: prefixFilter(1, "s")}, codes.InvalidArgument},
		{"between events", &streams.ReadReq_Options{StreamOption: ofAll(at(3, 2))}, codes.InvalidArgument},
		{"links", &streams.ReadReq_Options{StreamOption: ofAll("start"), ResolveLinks: true}, codes.Unimplemented},
	} {
		if got := subscribe(t, c, test.when)(); got != test.then.String() {
			t.Errorf("%s: got %s, want %s", test.name, got, test.then)
		}
	}
}

// TestFilter holds each kind of filter against events named stream/type.
func TestFilter(t *testing.T) {
	s := start(t)
	c := s.client(t)
	for _, name := range []string{"booking-1/BookingCreated", "calendar-1/SlotReserved", "$system/$metadata", "booking-2/SlotReleased"} {
		stream, eventType, _ := strings.Cut(name, "/")
		if _, err := c.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{}, event(eventType)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		filter *esdb.SubscriptionFilter
		then   []string
	}{
		{"stream prefix", &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"booking-"}}, []string{"BookingCreated", "SlotReleased"}},
		{"stream prefixes", &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"calendar-", "booking-1"}}, []string{"BookingCreated", "SlotReserved"}},
		{"type prefix", &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"Slot"}}, []string{"SlotReserved", "SlotReleased"}},
		{"stream pattern", &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "-1$"}, []string{"BookingCreated", "SlotReserved"}},
		{"type pattern", &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "[rR]e[sl]e"}, []string{"SlotReserved", "SlotReleased"}},
		{"no system events", esdb.ExcludeSystemEventsFilter(), []string{"BookingCreated", "SlotReserved", "SlotReleased"}},
		{"negative look-ahead", &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: `^(?!(\$.+$|Slot.*))`}, []string{"BookingCreated"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			sub, err := c.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: test.filter})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			var got []string
			for {
				e := sub.Recv()
				if e.SubscriptionDropped != nil {
					t.Fatal(e.SubscriptionDropped.Error)
				}
				if e.CaughtUp != nil {
					break
				}
				if e.EventAppeared != nil {
					got = append(got, e.EventAppeared.Event.EventType)
				}
			}
			if !slices.Equal(got, test.then) {
				t.Errorf("got %v, want %v", got, test.then)
			}
		})
	}
	t.Run("malformed pattern", func(t *testing.T) {
		filter := &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
			Filter: &streams.ReadReq_Options_FilterOptions_EventType{
				EventType: &streams.ReadReq_Options_FilterOptions_Expression{Regex: "("},
			},
			Window:                       &streams.ReadReq_Options_FilterOptions_Count{Count: &shared.Empty{}},
			CheckpointIntervalMultiplier: 1,
		}}
		if got := subscribe(t, s.dial(t), &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: filter})(); got != "Unknown" {
			t.Errorf("got %s", got)
		}
	})
}

// TestSubscriptionUnderLoad follows $all, a filtered $all and one stream while many append, quickly and so slowly that the
// memory of recent events is overrun many times. Each event comes once and in order.
func TestSubscriptionUnderLoad(t *testing.T) {
	s := start(t)
	writer, reader := s.client(t), s.client(t)
	const writers, appends, perAppend = 8, 50, 30
	total := writers * appends * perAppend

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	written := make(chan struct{})
	var group, writing sync.WaitGroup
	follow := func(name string, want int, from func() (*esdb.Subscription, error), slow bool) {
		sub, err := from()
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			defer sub.Close()
			revisions := map[string]uint64{}
			position := uint64(0)
			caughtUp := 0
			for got := 0; got < want; {
				e := sub.Recv()
				switch {
				case e.SubscriptionDropped != nil:
					t.Errorf("%s: %v", name, e.SubscriptionDropped.Error)
					return
				case e.CaughtUp != nil:
					caughtUp++
				case e.EventAppeared != nil:
					r := e.EventAppeared.Event
					if r.Position.Commit <= position || r.EventNumber != revisions[r.StreamID] {
						t.Errorf("%s: %s@%d at %d came after position %d, revision %d was due", name, r.StreamID, r.EventNumber, r.Position.Commit, position, revisions[r.StreamID])
						return
					}
					position = r.Position.Commit
					revisions[r.StreamID]++
					got++
					if slow && got == 1 {
						<-written // the server cannot send on: its window is full
					}
				}
			}
			if slow && caughtUp != 1 {
				t.Errorf("%s: caught up %d times while it was being overrun, want once, at first", name, caughtUp)
			}
		})
	}
	toAll := func(filter *esdb.SubscriptionFilter) func() (*esdb.Subscription, error) {
		return func() (*esdb.Subscription, error) {
			return reader.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter})
		}
	}
	toStream := func() (*esdb.Subscription, error) {
		return reader.SubscribeToStream(ctx, "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	}
	odd := &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"s-1", "s-3", "s-5", "s-7"}}
	follow("all", total, toAll(nil), false)
	follow("filtered", total/2, toAll(odd), false)
	follow("stream", total/writers, toStream, false)
	follow("all, slowly", total, toAll(nil), true)
	follow("filtered, slowly", total/2, toAll(odd), true)
	follow("stream, slowly", total/writers, toStream, true)

	for w := range writers {
		writing.Go(func() {
			events := make([]esdb.EventData, perAppend)
			for range appends {
				for i := range events {
					events[i] = event("A")
					events[i].Data = make([]byte, 500)
				}
				if _, err := writer.AppendToStream(ctx, fmt.Sprintf("s-%d", w), esdb.AppendToStreamOptions{}, events...); err != nil {
					t.Error(err)
					cancel()
					return
				}
			}
		})
	}
	writing.Wait()
	close(written)
	group.Wait()
}
