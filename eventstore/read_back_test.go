package eventstore_test

import (
	"errors"
	"slices"
	"testing"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// ReadBack yields the log backwards, each event once, also over a connection that breaks in the middle, and no more than it is asked for.
func TestReadBack(t *testing.T) {
	r, s, direct, _ := behindRelay(t, eventstore.Options{})
	proposed := events(5)
	first := mustAppend(t, direct, newStream(), eventstore.NoStream, proposed[:3]...)
	second := mustAppend(t, direct, newStream(), eventstore.NoStream, proposed[3:]...)
	ids := proposedIDs(proposed)
	slices.Reverse(ids)
	ours := func(before eventstore.Position, count uint64) (found []domain.ReservationID) {
		n := uint64(0)
		for e, err := range s.ReadBack(t.Context(), before, count) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if released, ok := e.Event.(domain.SlotReleased); ok && slices.Contains(ids, released.ReservationID) {
				found = append(found, released.ReservationID)
			}
		}
		if n > count {
			t.Errorf("%d events, asked for %d", n, count)
		}
		return found
	}
	if found := ours(0, 1000); !slices.Equal(found, ids) {
		t.Errorf("from the end: %v, want %v", found, ids)
	}
	if found := ours(second.Position, 1000); !slices.Equal(found, ids[1:]) {
		t.Errorf("before the last: %v, want %v", found, ids[1:])
	}
	if found := ours(second.Position, 2); len(found) > 2 {
		t.Errorf("at most two: %v", found)
	}
	r.answer(answer{method: eventstoretest.Read, status: unavailable})
	if found := ours(0, 1000); !slices.Equal(found, ids) {
		t.Errorf("after a failure: %v, want %v", found, ids)
	}
	for e, err := range s.ReadBack(t.Context(), 0, 1000) { // a caller that has enough
		if err != nil || e.Position < first.Position {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
	for _, err := range s.ReadBack(t.Context(), second.Position+1<<40, 1) {
		if err != nil && !errors.Is(err, eventstore.ErrNoPosition) {
			t.Errorf("from beyond the end: %v", err)
		}
	}
}
