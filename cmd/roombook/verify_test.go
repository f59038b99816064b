package main

import (
	"database/sql"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// verified returns what verify prints, and whether it succeeds.
func verified(t *testing.T, args ...string) (said string, well bool) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t), append([]string{"verify"}, args...)...).CombinedOutput()
	t.Logf("%s", out)
	return string(out), err == nil
}

// What heals by itself is reported but is no fault: a list that is behind, a half-finished command. What does not heal is a fault: an
// event that blocks its booking.
func TestVerifyTellsApart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServe(t, data)
	awaitGroup(t, nodeOf(t, data))
	c := newCaller(t, p)
	ids := c.bookSome(t, "1", 3)
	c.wantListed(t, ids)
	for len(c.list(t, "notifications", "&status=DELIVERED", "")) < len(ids) { // what the log gets by that is to be in the lists, too
		time.Sleep(10 * time.Millisecond)
	}
	p.stop(t)
	if said, well := verified(t, "--data", data); !well || strings.Contains(said, "behind") || strings.Contains(said, "under way") {
		t.Errorf("of a settled system: %s", said)
	}

	p = startServe(t, data, "--roles", "api") // nobody keeps the lists or settles anything
	newCaller(t, p).bookSome(t, "2", 2)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: nodeOf(t, data)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	slot := domain.Slot{Start: time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2032, 1, 1, 1, 0, 0, 0, time.UTC)}
	half := domain.BookingID(uuid.NewString())
	_, err = store.Append(t.Context(), "calendar-3", eventstore.NoStream, eventstore.Proposed{
		Event:    domain.SlotReserved{ReservationID: "r", BookingID: half, RoomID: "3", UserID: "kim", Slot: slot, At: time.Now()},
		Metadata: eventstore.Metadata{OccurredAt: time.Now()},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantAuditedOnTheWay(t, store)
	said, well := verified(t, "--data", data)
	if !well || !strings.Contains(said, "no faults; 1 under way or half-finished") || strings.Count(said, "no faults; 4 events behind the log") != len(projections.All()) {
		t.Errorf("of lists that are behind and a half-finished command: %s", said)
	}

	stream := domain.BookingID(ids[1]).Stream()
	eventstoretest.AppendRaw(t, nodeOf(t, data), stream, "BookingChanged", `{"bookingId":`, "")
	said, well = verified(t, "--data", data)
	if well || !strings.Contains(said, stream) || !strings.Contains(said, "1 fault; 1 under way") {
		t.Errorf("of a booking that is blocked: %s", said)
	}
	p.stop(t)
}

// wantAuditedOnTheWay reads the log as lists do when they are verified: they get their events and no others, and the audit has got all of its own
// by then.
func wantAuditedOnTheWay(t *testing.T, store *eventstore.Store) {
	t.Helper()
	log := &auditedLog{events: &events{Store: store}, audit: commands.NewAudit()}
	filter := projections.All()[0].Filter
	read := func(from projections.Log) (ids []uuid.UUID) {
		for batch, err := range from.Subscribe(t.Context(), 0, filter) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range batch.Events {
				ids = append(ids, r.ID)
			}
			if batch.CaughtUp {
				break
			}
		}
		return ids
	}
	if got, want := read(log), read(store); !slices.Equal(got, want) {
		t.Errorf("the lists get %d events, and on their own %d", len(got), len(want))
	}
	alone := commands.NewAudit()
	if err := alone.AddLog(t.Context(), store, 0); err != nil {
		t.Fatal(err)
	}
	if a := log.audit; a.Events() == 0 || a.Events() != alone.Events() || a.Bookings() != alone.Bookings() || a.Last() != alone.Last() || !slices.Equal(a.Findings(), alone.Findings()) {
		t.Errorf("%d events of %d bookings were audited, and on their own %d of %d", a.Events(), a.Bookings(), alone.Events(), alone.Bookings())
	}
}

// A document that is right but cannot be found by its keys is a fault, and so is a list that is not there.
func TestVerifyLooksWhereReadersLook(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServe(t, data)
	c := newCaller(t, p)
	c.wantListed(t, c.bookSome(t, "1", 3))
	p.stop(t)
	for change, what := range map[string]string{
		"UPDATE booking_list_g1 SET room = 'elsewhere' WHERE created = (SELECT min(created) FROM booking_list_g1)": "elsewhere",
		"UPDATE generations SET longest = 1 WHERE projection = 'room_use_list'":                                    "room_use_list: the longest",
		"UPDATE projections SET active = 0 WHERE name = 'notifications'":                                           "notifications: not built yet",
	} {
		changeViews(t, data, change)
		if said, well := verified(t, "--data", data); well || !strings.Contains(said, what) {
			t.Errorf("after %s: %s", change, said)
		}
		verb(t, "replay", "--all", "--data", data)
		if said, well := verified(t, "--data", data); !well {
			t.Errorf("after a replay: %s", said)
		}
	}
}

// changeViews runs a statement on the lists' file. booking_list_g1 in it stands for the active generation.
func changeViews(t *testing.T, data, change string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var active int
	if err := db.QueryRowContext(t.Context(), "SELECT active FROM projections WHERE name = 'booking_list'").Scan(&active); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), strings.ReplaceAll(change, "booking_list_g1", fmt.Sprint("booking_list_g", active))); err != nil {
		t.Fatal(err)
	}
}
