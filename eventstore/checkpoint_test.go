package eventstore_test

import (
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

func TestCheckpoint(t *testing.T) {
	store := eventstoretest.Open(t)
	stream := "checkpoint-" + uuid.NewString()
	want := func(want eventstore.Position) {
		t.Helper()
		if got, err := store.LoadCheckpoint(t.Context(), stream); err != nil || got != want {
			t.Errorf("loaded %d, %v; want %d", got, err, want)
		}
	}
	want(0)
	if err := store.SetMaxCount(t.Context(), stream, 1); err != nil {
		t.Fatal(err)
	}
	var positions []eventstore.Position
	for range 3 {
		positions = append(positions, mustAppend(t, store, newStream(), eventstore.NoStream, events(1)...).Position)
	}
	for _, i := range []int{1, 2, 0} {
		if err := store.SaveCheckpoint(t.Context(), stream, positions[i]); err != nil {
			t.Fatal(err)
		}
		want(positions[i])
	}
	if err := store.SaveCheckpoint(t.Context(), stream, 1<<60); err == nil {
		t.Error("a checkpoint was saved where there is no event")
	}
	want(positions[0])
	events := 0
	for _, err := range store.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events++
	}
	if events != 1 {
		t.Errorf("the stream shows %d events, want its last one", events)
	}
}

// Where the stream was deleted for good, a follower begins without a checkpoint, and goes on without one.
func TestDeletedCheckpoint(t *testing.T) {
	address := eventstoretest.ConnectionString(t)
	store := eventstoretest.BeforeStore(t, address).Open(t, eventstore.Options{})
	stream := "checkpoint-" + uuid.NewString()
	at := mustAppend(t, store, newStream(), eventstore.NoStream, events(1)...).Position
	if err := store.SaveCheckpoint(t.Context(), stream, at); err != nil {
		t.Fatal(err)
	}
	if _, err := eventstoretest.Client(t, address).TombstoneStream(t.Context(), stream, esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := store.LoadCheckpoint(t.Context(), stream); err != nil || got != 0 {
		t.Errorf("loaded %d, %v", got, err)
	}
	if err := store.SetMaxCount(t.Context(), stream, 1); err != nil {
		t.Error(err)
	}
	if err := store.SaveCheckpoint(t.Context(), stream, at); err != nil {
		t.Error(err)
	}
}
