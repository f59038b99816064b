package eventstore_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// EventAt finds an event by its position, and nothing where there is none, whatever the server calls that.
func TestEventAt(t *testing.T) {
	r, s, direct, _ := behindRelay(t, eventstore.Options{})
	appended := mustAppend(t, direct, newStream(), eventstore.NoStream, events(3)...)
	end, err := direct.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, found, err := s.EventAt(t.Context(), appended.Position)
	if err != nil || !found || id != appended.IDs[2] {
		t.Errorf("at the append's position there is %v, %v, %v; want %v", id, found, err, appended.IDs[2])
	}
	if id, found, err := s.EventAt(t.Context(), end+1<<40); err != nil || found {
		t.Errorf("beyond the end there is %v, %v", id, err)
	}
	for _, details := range []string{"Unexpected ReadAllResult: InvalidPosition", "Unexpected ReadAllResult: Error"} {
		r.answer(answer{method: eventstoretest.Read, status: status.Error(codes.Unknown, details)})
		if id, found, err := s.EventAt(t.Context(), appended.Position); err != nil || found || r.left() > 0 {
			t.Errorf("where no event begins (%s) there is %v, %v", details, id, err)
		}
	}
	r.answer(answer{method: eventstoretest.Read, status: unavailable})
	if id, found, err := s.EventAt(t.Context(), appended.Position); err != nil || !found || id != appended.IDs[2] {
		t.Errorf("after a failure there is %v, %v, %v", id, found, err)
	}
}
