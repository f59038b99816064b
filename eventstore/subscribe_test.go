package eventstore_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// logEnd is where a test starts in a log that others may have written to.
func logEnd(t *testing.T, s *eventstore.Store) eventstore.Position {
	t.Helper()
	end, err := s.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// follow receives batches until stop returns true, and checks what must hold in any subscription.
func follow(t *testing.T, s *eventstore.Store, after eventstore.Position, f eventstore.Filter, stop func([]eventstore.Recorded, eventstore.Batch) bool) []eventstore.Recorded {
	t.Helper()
	var got []eventstore.Recorded
	last, caughtUp, first := after, false, true
	for b, err := range s.Subscribe(t.Context(), after, f) {
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Events) > 512 {
			t.Errorf("a batch of %d events", len(b.Events))
		}
		if b.Position < last || len(b.Events) == 0 && b.Position == last && (b.CaughtUp == caughtUp) && !first {
			t.Errorf("a batch without news: %+v after position %d", b, last)
		}
		if caughtUp && !b.CaughtUp {
			t.Error("no longer caught up")
		}
		before := last
		for _, r := range b.Events {
			if r.Position <= before || r.Position > b.Position {
				t.Errorf("an event at %d, after %d, in a batch up to %d", r.Position, before, b.Position)
			}
			before = r.Position
		}
		got = append(got, b.Events...)
		last, caughtUp, first = b.Position, b.CaughtUp, false
		if stop(got, b) {
			break
		}
	}
	return got
}

func TestSubscribe(t *testing.T) {
	s := eventstoretest.Open(t)
	after := logEnd(t, s)
	// Streams with three prefixes of this test's own, in turn.
	run := uuid.NewString()[:8]
	var want [3][]domain.ReservationID
	write := func(rounds int) {
		for i := range rounds {
			proposed := events(2)
			mustAppend(t, s, string(rune('a'+i%3))+run+"-"+uuid.NewString(), eventstore.NoStream, proposed...)
			want[i%3] = append(want[i%3], proposedIDs(proposed)...)
		}
	}
	write(90)
	filter := eventstore.Filter{StreamPrefixes: []string{"a" + run + "-", "c" + run + "-"}}

	var checkpoint eventstore.Position
	appended := false
	got := follow(t, s, after, filter, func(got []eventstore.Recorded, b eventstore.Batch) bool {
		if b.CaughtUp && !appended {
			if n := len(want[0]) + len(want[2]); len(got) != n {
				t.Errorf("caught up after %d events of %d", len(got), n)
			}
			appended = true
			write(90) // live
		}
		if len(got) == 90 { // somewhere in the middle, not at the end of a batch
			checkpoint = b.Position
		}
		return appended && len(got) == len(want[0])+len(want[2])
	})
	checkIDs := func(got []eventstore.Recorded, prefix string, want []domain.ReservationID) {
		t.Helper()
		var of []domain.ReservationID
		for _, r := range got {
			if strings.HasPrefix(r.Stream, prefix) {
				of = append(of, idOf(r.Event))
			}
		}
		if !slices.Equal(of, want) {
			t.Errorf("%d events of streams %s, want %d, or in another order", len(of), prefix, len(want))
		}
	}
	checkIDs(got, "a"+run, want[0])
	checkIDs(got, "b"+run, nil)
	checkIDs(got, "c"+run, want[2])

	// Again from an event in the middle: everything after it and nothing before.
	checkpoint = got[100].Position
	rest := follow(t, s, checkpoint, filter, func(rest []eventstore.Recorded, b eventstore.Batch) bool { return b.CaughtUp })
	if !slices.Equal(recordedIDs(rest), recordedIDs(got[101:])) {
		t.Errorf("%d events after the 101st, want %d", len(rest), len(got)-101)
	}
}

// A filter by type yields events of these types, of the streams that it names only, and moves past all others.
func TestSubscribeByType(t *testing.T) {
	s := eventstoretest.Open(t)
	after := logEnd(t, s)
	run := uuid.NewString()[:8]
	var want []domain.ReservationID
	var last eventstore.Position
	for i := range 20 {
		reserved := domain.SlotReserved{ReservationID: domain.ReservationID(uuid.NewString()), RoomID: "1"}
		released := domain.SlotReleased{ReservationID: reserved.ReservationID, RoomID: "1"}
		stream := string(rune('a'+i%2)) + run + "-" + uuid.NewString()
		last = mustAppend(t, s, stream, eventstore.NoStream, eventstore.Proposed{Event: reserved}, eventstore.Proposed{Event: released}).Position
		if i%2 == 0 {
			want = append(want, released.ReservationID)
		}
	}
	filter := eventstore.Filter{StreamPrefixes: []string{"a" + run + "-"}, TypePrefixes: []string{"Nothing", "SlotRel"}}
	var position eventstore.Position
	got := follow(t, s, after, filter, func(_ []eventstore.Recorded, b eventstore.Batch) bool {
		position = b.Position
		return b.CaughtUp && b.Position >= last
	})
	var ids []domain.ReservationID
	for _, r := range got {
		ids = append(ids, r.Event.(domain.SlotReleased).ReservationID)
	}
	if !slices.Equal(ids, want) || position < last {
		t.Errorf("%d events up to %d, want %d up to %d", len(ids), position, len(want), last)
	}
}

// Without prefixes everything is yielded but the event store's system streams.
func TestSubscribeToEverything(t *testing.T) {
	s := eventstoretest.Open(t)
	after := logEnd(t, s)
	stream := newStream()
	proposed := events(3)
	mustAppend(t, s, stream, eventstore.NoStream, proposed[:1]...)
	if err := s.SetMaxCount(t.Context(), stream, 100); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, stream, 0, proposed[1:]...)
	var of []eventstore.Recorded
	follow(t, s, after, eventstore.Filter{}, func(got []eventstore.Recorded, b eventstore.Batch) bool {
		for _, r := range b.Events {
			if strings.HasPrefix(r.Stream, "$") {
				t.Errorf("an event of %s", r.Stream)
			}
			if r.Stream == stream {
				of = append(of, r)
			}
		}
		return len(of) >= len(proposed)
	})
	if !slices.Equal(recordedIDs(of), proposedIDs(proposed)) {
		t.Errorf("got %d events of the stream, want %d", len(of), len(proposed))
	}
}

// The position moves past events that do not match the filter.
func TestSubscriptionPositionMovesOn(t *testing.T) {
	s := eventstoretest.Open(t)
	after := logEnd(t, s)
	var at eventstore.Appended
	for range 10 {
		at = mustAppend(t, s, newStream(), eventstore.NoStream, events(20)...)
	}
	filter := eventstore.Filter{StreamPrefixes: []string{"nobody-" + uuid.NewString()}}
	caughtUp := false
	got := follow(t, s, after, filter, func(_ []eventstore.Recorded, b eventstore.Batch) bool {
		if b.CaughtUp && !caughtUp {
			caughtUp = true
			if b.Position < at.Position-eventstore.Position(at.Position-after)/2 { // the server is exact to some pages
				t.Errorf("caught up at %d, between %d and %d", b.Position, after, at.Position)
			}
			for range 10 { // live, 200 events
				at = mustAppend(t, s, newStream(), eventstore.NoStream, events(20)...)
			}
		}
		return b.Position > at.Position-eventstore.Position(at.Position-after)/2
	})
	if got != nil {
		t.Errorf("%d events", len(got))
	}
}

// A slow caller gets all events, in batches of bounded size.
func TestSlowSubscriber(t *testing.T) {
	s := eventstoretest.Open(t)
	after := logEnd(t, s)
	stream := newStream()
	revision := eventstore.NoStream
	next := func() { // three more batches for each that is yielded
		for range 3 {
			revision = mustAppend(t, s, stream, revision, events(400)...).Revision
		}
	}
	next()
	filter := eventstore.Filter{StreamPrefixes: []string{stream}}
	batches := 0
	got := follow(t, s, after, filter, func(got []eventstore.Recorded, b eventstore.Batch) bool {
		if batches++; batches <= 2 {
			next()
		}
		return len(got) >= 3600
	})
	for i, r := range got {
		if int(r.Revision) != i {
			t.Fatalf("event %d has revision %d", i, r.Revision)
		}
	}
}

// A subscription ends with its context or with the store.
func TestSubscriptionEnds(t *testing.T) {
	s := eventstoretest.Open(t)
	mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
	ctx, cancel := context.WithCancel(t.Context())
	endsWith(t, s.Subscribe(ctx, 0, eventstore.Filter{}), context.Canceled, cancel)
	endsWith(t, s.Subscribe(t.Context(), 0, eventstore.Filter{}), eventstore.ErrClosed, func() { go s.Close() })
	endsWith(t, s.Subscribe(t.Context(), 0, eventstore.Filter{}), eventstore.ErrClosed, nil)
}

// endsWith ends a subscription once it has caught up, and checks the error that it ends with.
func endsWith(t *testing.T, subscription iter.Seq2[eventstore.Batch, error], want error, end func()) {
	t.Helper()
	var last error
	for b, err := range subscription {
		if last != nil {
			t.Errorf("yielded %+v, %v after an error", b, err)
		}
		last = err
		if b.CaughtUp && end != nil {
			end()
		}
	}
	if !errors.Is(last, want) {
		t.Errorf("ended with %v, want %v", last, want)
	}
}
