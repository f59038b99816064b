package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// An operator ends a booking that cannot be read, and no other.
func TestBookingRelease(t *testing.T) {
	at := eventstoretest.ConnectionString(t)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: at})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	book := func() commands.Booking {
		t.Helper()
		b, err := h.CreateBooking(t.Context(), commands.CreateBooking{
			Request: commands.Request{ID: uuid.New(), Actor: domain.Anyone("ann"), At: start},
			Room:    domain.RoomID("r" + uuid.NewString()), User: "ann", Slot: domain.Slot{Start: start, End: start.Add(time.Hour)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	release := func(id domain.BookingID) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), []string{"booking", "release", string(id), "--reason", "a bad disk", "--eventstore", at}, &out, &errs)
		return code, out.String(), errs.String()
	}

	sound, broken := book(), book()
	eventstoretest.AppendRaw(t, at, broken.ID.Stream(), "BookingChanged", `{"bookingId": 17}`, "")

	if code, stdout, stderr := release(broken.ID); code != exitOK || stdout != "booking "+string(broken.ID)+" is released\n" {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	history, err := h.History(t.Context(), broken.ID)
	if err != nil || len(history) != 5 || !strings.HasPrefix(history[4].Metadata.Actor, "operator") {
		t.Errorf("the history is %+v, %v", history, err)
	}
	for _, id := range []domain.BookingID{sound.ID, domain.BookingID(uuid.NewString())} {
		if code, _, stderr := release(id); code != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, string(id)) {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	}
	if _, err := h.Booking(t.Context(), sound.ID); err != nil {
		t.Errorf("a booking that can be read: %v", err)
	}
}
