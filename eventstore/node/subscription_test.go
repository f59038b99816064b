package node_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
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
			"A0, checkpoint: 1, checkpoint: 2/0, A1, checkpoint: 3, checkpoint: 4/0, caught up", "A2, checkpoint: 5, checkpoint: 6"},
		{"filtered, every third", &options{StreamOption: ofAll("start"), FilterOption: prefixFilter(3, "a")},
			"A0 A1, checkpoint: 3, caught up", "A2"},
		{"filtered, nothing matches", &options{StreamOption: ofAll("start"), FilterOption: prefixFilter(100, "x")}, "checkpoint: 0, caught up", ""},
		{"filtered, nothing to catch up on", &options{StreamOption: ofAll(4), FilterOption: prefixFilter(2, "b")}, "checkpoint: 4, caught up", "B2, checkpoint: 6"},
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
		{"prepare after commit", &streams.ReadReq_Options{StreamOption: ofAll(at(2, 3))}, codes.Unknown},
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

// TestSubscriptionUnderLoad follows $all, a filtered $all and one stream while many append: as fast as it comes, and so slowly
// that the memory of recent events is overrun. Each event comes once and in order, and who fell behind is told when it has
// caught up again.
func TestSubscriptionUnderLoad(t *testing.T) {
	s := start(t)
	writer := s.client(t)
	const writers, appends, perAppend = 8, 50, 30
	const total = writers * appends * perAppend
	odd := prefixFilter(100, "s-1", "s-3", "s-5", "s-7")
	written := make(chan struct{}) // closed when all is
	var writing, following sync.WaitGroup
	for _, f := range []struct {
		name string
		want int
		what *streams.ReadReq_Options
		slow bool
	}{
		{"all", total, &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: unfiltered}, false},
		{"filtered", total / 2, &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: odd}, false},
		{"stream", total / writers, &streams.ReadReq_Options{StreamOption: ofStream("s-1", "start"), FilterOption: unfiltered}, false},
		{"all, slowly", total, &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: unfiltered}, true},
		{"filtered, slowly", total / 2, &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: odd}, true},
		{"stream, slowly", total / writers, &streams.ReadReq_Options{StreamOption: ofStream("s-1", "start"), FilterOption: unfiltered}, true},
	} {
		f.what.CountOption, f.what.UuidOption = subscription(), structured
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		// A window of its own for each, which the server cannot send beyond while the client does not read.
		sub, err := streams.NewStreamsClient(s.dial(t, grpc.WithStaticStreamWindowSize(1<<16))).Read(ctx, &streams.ReadReq{Options: f.what})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := sub.Recv(); err != nil || m.GetConfirmation() == nil {
			t.Fatalf("%s: %v, %v", f.name, m, err)
		}
		following.Go(func() {
			revisions := map[string]uint64{}
			position, checkpoint, events, caughtUp := uint64(0), uint64(0), 0, 0
			for events < f.want || f.slow && caughtUp < 2 {
				m, err := sub.Recv()
				if err != nil {
					t.Errorf("%s: %v", f.name, err)
					return
				}
				switch {
				case m.GetCaughtUp() != nil:
					caughtUp++
				case m.GetCheckpoint() != nil:
					if m.GetCheckpoint().CommitPosition <= checkpoint && events > 0 {
						t.Errorf("%s: checkpoint %d follows %d", f.name, m.GetCheckpoint().CommitPosition, checkpoint)
					}
					checkpoint = m.GetCheckpoint().CommitPosition
				default:
					e := m.GetEvent().GetEvent()
					stream := string(e.GetStreamIdentifier().GetStreamName())
					if e.GetCommitPosition() <= max(position, checkpoint) || e.GetStreamRevision() != revisions[stream] {
						t.Errorf("%s: %s@%d at %d came after position %d and checkpoint %d, revision %d was due", f.name, stream,
							e.GetStreamRevision(), e.GetCommitPosition(), position, checkpoint, revisions[stream])
						return
					}
					position = e.GetCommitPosition()
					revisions[stream]++
					if events++; f.slow && events == 1 {
						<-written
					}
				}
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			events := make([]esdb.EventData, perAppend)
			for range appends {
				for i := range events {
					events[i] = event("A")
					events[i].Data = make([]byte, 500)
				}
				if _, err := writer.AppendToStream(context.Background(), fmt.Sprintf("s-%d", w), esdb.AppendToStreamOptions{}, events...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(written)
	following.Wait()
}

// TestFilterTimeout: a pattern that backtracks without end stops its subscription, and nothing else. It is told as the fault of
// whoever sent it.
func TestFilterTimeout(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	appendNamed(t, c, "s", expectAny, strings.Repeat("a", 60)+"!")
	filter := prefixFilter(1)
	filter.Filter.Filter = &streams.ReadReq_Options_FilterOptions_EventType{
		EventType: &streams.ReadReq_Options_FilterOptions_Expression{Regex: `^(a+)+$`},
	}
	next := subscribe(t, c, &streams.ReadReq_Options{StreamOption: ofAll("start"), FilterOption: filter})
	for _, want := range []string{"confirmed", "InvalidArgument"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	if got, want := outcome(appendNamed(t, c, "s", expectRevision(0), "A")), "success 1 at 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestCaughtUp: the message says up to where. The generated one does not have these fields yet.
func TestCaughtUp(t *testing.T) {
	c := start(t).dial(t)
	appendNamed(t, c, "s", expectAny, "A", "B", "C")
	for _, test := range []struct {
		name string
		when *streams.ReadReq_Options
		then string // fields but for the time
	}{
		{"stream", &streams.ReadReq_Options{StreamOption: ofStream("s", "start")}, "2: 2"},
		{"stream from end", &streams.ReadReq_Options{StreamOption: ofStream("s", "end")}, "2: 2"},
		{"missing stream", &streams.ReadReq_Options{StreamOption: ofStream("x", "start")}, ""},
		{"all", &streams.ReadReq_Options{StreamOption: ofAll("start")}, "3: 1: 3 2: 3"},
		{"all from end", &streams.ReadReq_Options{StreamOption: ofAll("end")}, "3: 1: 3 2: 3"},
		{"all from beyond the end", &streams.ReadReq_Options{StreamOption: ofAll(9)}, "3: 1: 3 2: 3"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		test.when.CountOption, test.when.UuidOption, test.when.FilterOption = subscription(), structured, unfiltered
		began := time.Now().Unix()
		sub, err := streams.NewStreamsClient(c).Read(ctx, &streams.ReadReq{Options: test.when})
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := sub.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if m.GetCaughtUp() == nil {
				continue
			}
			fields := fieldsOf(t, m.GetCaughtUp().ProtoReflect().GetUnknown())
			at, rest, _ := strings.Cut(strings.TrimPrefix(fields, "1: 1: "), " 2: ") // seconds, and nanoseconds before what is left
			_, rest, _ = strings.Cut(rest, " ")
			seconds, err := strconv.ParseInt(at, 10, 64)
			if err != nil || seconds < began || seconds > time.Now().Unix() || rest != test.then {
				t.Errorf("%s: got %q, %v; want %q", test.name, fields, err, test.then)
			}
			break
		}
	}
}

// fieldsOf is a message without its definition: the numbers and values of its fields, those of messages in it included.
func fieldsOf(t *testing.T, message []byte) string {
	t.Helper()
	var fields []string
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		message = message[max(n, 0):]
		switch kind {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(message)
			message = message[max(n, 0):]
			fields = append(fields, fmt.Sprintf("%d: %d", number, v))
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(message)
			message = message[max(n, 0):]
			fields = append(fields, fmt.Sprintf("%d: %s", number, fieldsOf(t, v)))
		default:
			t.Fatalf("field %d has kind %d", number, kind)
		}
	}
	return strings.Join(fields, " ")
}

// TestSubscriptionFromCommitAfterPrepare: the event at the commit position has not been seen.
func TestSubscriptionFromCommitAfterPrepare(t *testing.T) {
	c := start(t).dial(t)
	appendNamed(t, c, "s", expectAny, "A", "B", "C")
	next := subscribe(t, c, &streams.ReadReq_Options{StreamOption: ofAll(at(2, 0))})
	for _, want := range []string{"confirmed", "B", "C", "caught up"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}
