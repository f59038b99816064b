package eventstoretest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// Two send the same append at once. One of them is dropped: it is answered only when it has timed out, and counted.
func TestRepetitionInFlightIsDropped(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{Indexing: never})
	s.ExpectDropped()
	one, two := dial(t, s.Address(0)), dial(t, s.Address(0))
	id := newID()
	type outcome struct {
		answer *streams.AppendResp
		err    error
	}
	outcomes := make(chan outcome, 2)
	for _, c := range []client{one, two} {
		go func() {
			answer, err := c.append(t.Context(), "s", -1, id)
			outcomes <- outcome{answer, err}
		}()
	}
	dropped := <-outcomes
	wantCode(t, "the one", dropped.err, codes.Aborted, "Operation timed out: Commit phase timeout.")
	if s.Dropped() != 1 {
		t.Errorf("%d are dropped, want 1", s.Dropped())
	}
	s.IndexAll()
	other := <-outcomes
	if other.err != nil || other.answer.GetSuccess().GetPosition().GetCommitPosition() == 0 {
		t.Fatalf("the other: %v, %v", other.answer, other.err)
	}
	again, err := one.append(t.Context(), "s", -1, id)
	if err != nil || again.String() != other.answer.String() {
		t.Errorf("when it can be read the repetition is answered %v, %v; want %v", again, err, other.answer)
	}
}

// Only what the event store behind recognises as a repetition is dropped.
func TestWhatIsNoRepetitionIsNotDropped(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{Indexing: never})
	c := dial(t, s.Address(0))
	id := newID()
	answered := make(chan error, 4)
	for i, stream := range []string{"s", "other", "another"} {
		go func() {
			_, err := c.append(t.Context(), stream, -1, id)
			answered <- err
		}()
		eventually(t, "it is accepted", func() bool { return s.Pending() == i+1 })
	}
	go func() { // it has the id, and comes after
		_, err := c.append(t.Context(), "s", 0, id)
		answered <- err
	}()
	eventually(t, "it is accepted", func() bool { return s.Pending() == 4 })
	if a, err := c.append(t.Context(), "s", -1, id, newID()); err != nil || a.GetWrongExpectedVersion() == nil {
		t.Errorf("an append that goes on otherwise: %v, %v", a, err)
	}
	s.IndexAll()
	for range 4 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	if s.Dropped() != 0 {
		t.Errorf("%d are dropped", s.Dropped())
	}
}

// A test that does not expect it fails if an append was dropped.
func TestDroppedFailsTheTest(t *testing.T) {
	t.Parallel()
	fake := &recorder{TB: t}
	s := eventstoretest.ClusterBefore(fake, "esdb://"+eventstoretest.Serve(t, "")+"?tls=false", 1, eventstoretest.Conditions{Indexing: never})
	c := dial(t, s.Address(0))
	ctx, cancel := context.WithCancel(t.Context())
	id := newID()
	var appending sync.WaitGroup
	for range 2 {
		appending.Go(func() { _, _ = c.append(ctx, "s", -1, id) })
	}
	eventually(t, "one is dropped", func() bool { return s.Dropped() == 1 })
	cancel()
	appending.Wait()
	for _, f := range slices.Backward(fake.cleanups) {
		f()
	}
	if len(fake.errors) != 1 || !strings.Contains(fake.errors[0], "dropped 1") {
		t.Errorf("errors: %q", fake.errors)
	}
}

// recorder is a testing.TB that may fail.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// An append that loses a race is answered at once, before the winner can be read. What is acknowledged can be read.
func TestTheLoserDoesNotSeeTheWinnerYet(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{Indexing: never})
	store, begins := s.Open(t, eventstore.Options{Timeout: time.Minute}), end(t, s)
	stream := "calendar-" + uuid.NewString()
	var appended eventstore.Appended
	var winning sync.WaitGroup
	winning.Go(func() {
		var err error
		if appended, err = store.Append(t.Context(), stream, eventstore.NoStream, proposed()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "it is accepted", func() bool { return s.Pending() == 1 })

	var lost *eventstore.WrongRevision
	if _, err := store.Append(t.Context(), stream, eventstore.NoStream, proposed()); !errors.As(err, &lost) || lost.Actual != 0 {
		t.Fatalf("the loser: %v", err)
	}
	for r, err := range store.ReadStream(t.Context(), stream, 0) {
		t.Errorf("the loser sees %v, %v", r, err)
	}
	if end, err := store.End(t.Context()); uint64(end) != begins || err != nil {
		t.Errorf("the log ends at %d, %v", end, err)
	}
	s.IndexAll()
	winning.Wait()
	seen := 0
	for r, err := range store.ReadStream(t.Context(), stream, 0) {
		if seen++; err != nil || r.Position != appended.Position {
			t.Errorf("after its acknowledgement: %v, %v", r, err)
		}
	}
	if seen != 1 {
		t.Errorf("after its acknowledgement there are %d events", seen)
	}
	if end, err := store.End(t.Context()); end != appended.Position || err != nil {
		t.Errorf("after its acknowledgement the log ends at %d, %v", end, err)
	}
}

// An append whose caller leaves before the answer is in the log all the same, and becomes readable in its time.
func TestWhoLeavesHasAppended(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{Indexing: never})
	c := dial(t, s.Address(0))
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := c.append(ctx, "s", -1, newID())
		left <- err
	}()
	eventually(t, "it is accepted", func() bool { return s.Pending() == 1 })
	cancel()
	if err := <-left; status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	if got := c.read(of("s")); !slices.Equal(got, []string{"not found"}) {
		t.Errorf("at first: %q", got)
	}
	s.IndexAll()
	if got := c.read(of("s")); !slices.Equal(got, []string{"0"}) {
		t.Errorf("then: %q", got)
	}
}
