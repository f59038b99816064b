package eventstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// storedHistory are events of some streams, as another event store had them.
func storedHistory(n int) []eventstore.Stored {
	prefix := uuid.NewString()
	next := map[string]domain.Revision{}
	all := make([]eventstore.Stored, n)
	for i := range all {
		stream := fmt.Sprintf("moved-%s-%d", prefix, i%7)
		all[i] = eventstore.Stored{ID: uuid.New(), Stream: stream, Revision: next[stream], Type: "Moved", JSON: i%2 == 0, Data: fmt.Appendf(nil, "%d", i), Metadata: []byte(`{"at":1}`)}
		next[stream]++
	}
	return all
}

// storedOf are the events of the history as the store has them, in its order.
func storedOf(t *testing.T, s *eventstore.Store, history []eventstore.Stored) (all []eventstore.Stored) {
	t.Helper()
	streams := map[string]bool{}
	for _, e := range history {
		streams[e.Stream] = true
	}
	for e, err := range s.StoredAfter(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if streams[e.Stream] {
			all = append(all, e)
		}
	}
	return all
}

func move(t *testing.T, s *eventstore.Store, history []eventstore.Stored) {
	t.Helper()
	for _, e := range history {
		if err := s.AppendStored(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func sameStored(a, b eventstore.Stored) bool {
	return a.ID == b.ID && a.Stream == b.Stream && a.Revision == b.Revision && a.Type == b.Type && a.JSON == b.JSON && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
}

// Connections break while a log is moved, before an append is done and after. Each event is there once all the same, in order; and a
// repetition of all of it adds nothing.
func TestMoveThroughBrokenConnections(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{Timeout: time.Minute})
	history := storedHistory(400)
	half := len(history) / 2
	lost := network.LoseAnswer(eventstoretest.Append, 150)
	move(t, s, history[:half])
	<-lost
	lost = network.LoseRequest(eventstoretest.Append, 50)
	move(t, s, history[half:])
	<-lost
	for range 2 {
		if stored := storedOf(t, s, history); !slices.EqualFunc(stored, history, sameStored) {
			t.Fatalf("%d of %d events are there, or they are in another order", len(stored), len(history))
		}
		move(t, s, history)
	}
	if last, err := s.LastStored(t.Context()); err != nil || last == nil {
		t.Errorf("the last event is %v, %v", last, err)
	}
}

// A stream that somebody else has begun is refused, by name, and not written to.
func TestMoveOntoOtherEvents(t *testing.T) {
	t.Parallel()
	s := eventstoretest.Open(t)
	history := storedHistory(20)
	other := history[3]
	other.ID = uuid.New()
	move(t, s, []eventstore.Stored{other})
	err := s.AppendStored(t.Context(), history[3])
	if wrong, ok := errors.AsType[*eventstore.WrongRevision](err); !ok || wrong.Stream != other.Stream {
		t.Errorf("got %v", err)
	}
	if stored := storedOf(t, s, []eventstore.Stored{other}); len(stored) != 1 || stored[0].ID != other.ID {
		t.Errorf("the stream has %v", stored)
	}
}
