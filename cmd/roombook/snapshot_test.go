package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// No subscription meets snapshots of calendars, whatever their rooms are called.
func TestSnapshotsAreInNobodysWay(t *testing.T) {
	filters := []eventstore.Filter{commands.Streams()}
	for _, p := range projections.All() {
		filters = append(filters, p.Filter)
	}
	for _, room := range []domain.RoomID{"red", "", "red-snapshot", "calendar-red"} {
		for _, f := range filters {
			for _, prefix := range f.StreamPrefixes {
				if strings.HasPrefix(room.SnapshotStream(), prefix) {
					t.Errorf("%s begins with %s", room.SnapshotStream(), prefix)
				}
			}
		}
	}
}

// A calendar gets a snapshot, and everything else goes on: recovery, the lists and their rebuild, verify.
func TestTheSystemWithASnapshot(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServe(t, data)
	c := newCaller(t, p)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: nodeOf(t, data)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	room, start := domain.RoomID("1"), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	at := eventstore.Appended{Revision: eventstore.NoStream}
	for range 3 {
		var past []eventstore.Proposed
		for range 200 {
			id, booking := domain.ReservationID(uuid.NewString()), domain.BookingID(uuid.NewString())
			for _, e := range []domain.Event{
				domain.SlotReserved{ReservationID: id, BookingID: booking, RoomID: room, UserID: "kim", Slot: domain.Slot{Start: start, End: start.Add(time.Hour)}, At: start},
				domain.SlotReleased{ReservationID: id, BookingID: booking, RoomID: room},
			} {
				past = append(past, eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{OccurredAt: start}})
			}
		}
		if at, err = store.Append(t.Context(), room.Stream(), at.Revision, past...); err != nil {
			t.Fatal(err)
		}
	}
	ids := c.bookSome(t, string(room), 2)
	var last eventstore.Recorded
	for last.Event == nil && t.Context().Err() == nil {
		for r, err := range store.ReadStream(t.Context(), room.SnapshotStream(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			last = r
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.wantListed(t, ids)
	if said, err := exec.CommandContext(t.Context(), program(t), "replay", "--all", "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	c.wantListed(t, ids)
	if said, err := exec.CommandContext(t.Context(), program(t), "recovery", "status", "--data", data).CombinedOutput(); err != nil || !strings.Contains(string(said), "0 open") {
		t.Errorf("%v: %s", err, said)
	}
	if said, well := verified(t, "--data", data); !well {
		t.Errorf("of a system with a snapshot: %s", said)
	}

	s := last.Event.(domain.CalendarSnapshot)
	s.Hash = fmt.Sprint(len(s.Hash))
	if _, err := store.Append(t.Context(), room.SnapshotStream(), eventstore.Any, eventstore.Proposed{Event: s, Metadata: last.Metadata}); err != nil {
		t.Fatal(err)
	}
	if said, well := verified(t, "--data", data); well || !strings.Contains(said, room.SnapshotStream()) || !strings.Contains(said, "1 fault") {
		t.Errorf("of a snapshot that is damaged: %s", said)
	}
	p.stop(t)

	// The next process reads the room all the same.
	p = startServe(t, data)
	newCaller(t, p).bookSome(t, "2", 1)
	p.stop(t)
}
