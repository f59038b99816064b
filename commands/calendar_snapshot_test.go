package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// measured is a store that counts the events that are read of a stream, and may refuse to be told how many to keep.
type measured struct {
	Store
	stream  string
	read    int
	refuses bool
}

func (c *measured) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if c.refuses && strings.HasPrefix(stream, domain.SnapshotCategory) {
			yield(eventstore.Recorded{}, fmt.Errorf("read: %w", &eventstore.Refused{User: "ann", Reason: "PermissionDenied"}))
			return
		}
		for r, err := range c.Store.ReadStream(ctx, stream, from) {
			if stream == c.stream {
				c.read++
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (c *measured) SetMaxCount(ctx context.Context, stream string, n int) error {
	if c.refuses {
		return fmt.Errorf("set: %w", &eventstore.Refused{User: "ann", Reason: "PermissionDenied"})
	}
	return c.Store.SetMaxCount(ctx, stream, n)
}

// snapshotting is a handler whose calendars get a snapshot every 100 events.
func snapshotting(store Store) *Handler {
	h := newHandler(store)
	h.calendars.snapshots.every, h.calendars.snapshots.peek = 100, 10
	return h
}

// idle waits until no snapshot is being written.
func (h *Handler) idle() {
	for h.calendars.snapshots.writing.Load() {
		time.Sleep(time.Millisecond)
	}
}

func lastSnapshot(t *testing.T, store Store, room domain.RoomID) (s domain.CalendarSnapshot, n int) {
	t.Helper()
	for r, err := range store.ReadStream(t.Context(), room.SnapshotStream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		s = r.Event.(domain.CalendarSnapshot)
		n++
	}
	return s, n
}

// wantTaken wants the hour to be held by somebody.
func wantTaken(t *testing.T, h *Handler, room domain.RoomID, s domain.Slot) {
	t.Helper()
	_, err := h.CreateBooking(t.Context(), CreateBooking{Request: request(), Room: room, User: "bob", Slot: s})
	if taken, ok := errors.AsType[*domain.SlotTaken](err); !ok || len(taken.By) == 0 {
		t.Errorf("%s is not taken: %v", s, err)
	}
}

// snapshotFindings audits what is in the log about the room.
func snapshotFindings(t *testing.T, store *eventstore.Store, room domain.RoomID) []string {
	t.Helper()
	audit := NewAudit()
	if err := audit.AddLog(t.Context(), store, 0); err != nil {
		t.Fatal(err)
	}
	findings, err := audit.Snapshots(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range findings {
		if f.Room == room {
			found = append(found, f.String())
		}
	}
	return found
}

// TestAColdRoomBeginsWithItsSnapshot reads a room that was booked often: no more than its snapshot and what came after.
func TestAColdRoomBeginsWithItsSnapshot(t *testing.T) {
	t.Parallel()
	store := eventstoretest.Open(t)
	room := newRoom()
	age(t, store, room, 450)
	h := snapshotting(store)
	book(t, h, room, slot(0, 1))
	h.idle()
	s, n := lastSnapshot(t, store, room)
	if n != 1 || s.Revision < 449 {
		t.Fatalf("%d snapshots, the last at revision %d", n, s.Revision)
	}
	for hour := range 20 {
		book(t, h, room, slot(hour+1, hour+2))
	}
	counted := &measured{Store: store, stream: room.Stream()}
	cold := snapshotting(counted)
	wantTaken(t, cold, room, slot(20, 21))
	if book(t, cold, room, slot(21, 22)); counted.read > 60 {
		t.Errorf("%d events were read", counted.read)
	}
	cold = snapshotting(store)
	wantTaken(t, cold, room, slot(-450, -449))
	if c, err := cold.calendars.complete(t.Context(), room, time.Time{}); err != nil || c.Len() != 472 {
		t.Errorf("%d reservations are held, %v, want 472", c.Len(), err)
	}

	// Later ones take its place.
	for i := range 500 {
		book(t, h, room, slot(100+i, 101+i))
	}
	h.idle()
	if later, n := lastSnapshot(t, store, room); n != 1 || later.Revision <= s.Revision {
		t.Errorf("%d snapshots, the last at revision %d, want one after %d", n, later.Revision, s.Revision)
	}
	if found := snapshotFindings(t, store, room); found != nil {
		t.Error(found)
	}
}

// TestASnapshotThatDoesNotFit puts snapshots there that do not say what the calendar's stream says. The room is read as if there were none,
// and the audit finds them.
func TestASnapshotThatDoesNotFit(t *testing.T) {
	t.Parallel()
	store := eventstoretest.Open(t)
	fold := func(room domain.RoomID, without domain.Revision) (c domain.Calendar, last string) {
		c = c.EvolveAll(func(yield func(domain.Revision, domain.Event) bool) {
			for r, err := range store.ReadStream(t.Context(), room.Stream(), 0) {
				if err != nil {
					t.Fatal(err)
				}
				last = r.ID.String()
				if r.Revision == without {
					r.Event = nil
				}
				yield(r.Revision, r.Event)
			}
		})
		return c, last
	}
	for name, c := range map[string]struct {
		change  func(s domain.CalendarSnapshot, room domain.RoomID) domain.CalendarSnapshot
		finding string
		trusted bool // only the audit can tell
	}{
		"damaged": {func(s domain.CalendarSnapshot, _ domain.RoomID) domain.CalendarSnapshot {
			s.Held = s.Held[:100] + "AAAA" + s.Held[104:]
			return s
		}, "damaged", false},
		"of another log": {func(_ domain.CalendarSnapshot, room domain.RoomID) domain.CalendarSnapshot {
			c, _ := fold(room, -1)
			s, _ := c.Snapshot(uuid.NewString())
			return s
		}, "of another log", false},
		"of a longer stream": {func(_ domain.CalendarSnapshot, room domain.RoomID) domain.CalendarSnapshot {
			c, last := fold(room, -1)
			s, _ := c.Evolve(reservation(room, slot(50, 51)).Event).Snapshot(last)
			return s
		}, "of another log", false},
		"of another room":    {func(s domain.CalendarSnapshot, _ domain.RoomID) domain.CalendarSnapshot { s.RoomID += "x"; return s }, "", false},
		"of another version": {func(s domain.CalendarSnapshot, _ domain.RoomID) domain.CalendarSnapshot { s.Version++; return s }, "", false},
		"without a reservation": {func(_ domain.CalendarSnapshot, room domain.RoomID) domain.CalendarSnapshot {
			c, last := fold(room, 5)
			s, _ := c.Snapshot(last)
			return s
		}, "does not hold what", true},
	} {
		t.Run(name, func(t *testing.T) {
			room := newRoom()
			age(t, store, room, 50)
			calendar, last := fold(room, -1)
			s, ok := calendar.Snapshot(last)
			if !ok {
				t.Fatal("there is no snapshot")
			}
			if _, err := store.Append(t.Context(), room.SnapshotStream(), eventstore.NoStream, eventstore.Proposed{Event: c.change(s, room), Metadata: eventstore.Metadata{OccurredAt: noon}}); err != nil {
				t.Fatal(err)
			}
			found := snapshotFindings(t, store, room)
			if c.finding == "" && found != nil || c.finding != "" && (len(found) != 1 || !strings.Contains(found[0], c.finding)) {
				t.Errorf("the audit finds %q", found)
			}
			if c.trusted {
				return
			}
			for hour := range 50 {
				wantTaken(t, snapshotting(store), room, slot(-hour-1, -hour))
			}
		})
	}
}

// TestWithoutTheRightToWriteSnapshots books in a store that lets its user neither read nor write them.
func TestWithoutTheRightToWriteSnapshots(t *testing.T) {
	store := eventstoretest.Open(t)
	room := newRoom()
	age(t, store, room, 150)
	h := snapshotting(&measured{Store: store, refuses: true})
	for hour := range 3 {
		book(t, h, room, slot(hour, hour+1))
		h.idle()
	}
	wantTaken(t, h, room, slot(-150, -149))
	if _, n := lastSnapshot(t, store, room); n != 0 || !h.calendars.snapshots.refused.Load() {
		t.Errorf("%d snapshots were written", n)
	}
}

// TestASnapshotHoldsACalendar makes a calendar of its snapshot.
func TestASnapshotHoldsACalendar(t *testing.T) {
	var c domain.Calendar
	room := newRoom()
	for i := range 100 {
		c = c.Evolve(reservation(room, domain.Slot{Start: slot(i, i).Start.Add(time.Duration(i)), End: slot(i, i+1).Start}).Event)
	}
	r := slices.Collect(c.All)[3]
	c = c.Evolve(domain.SlotUsed{ReservationID: r.ReservationID, BookingID: r.BookingID, RoomID: room, End: r.Slot.Start.Add(7)})
	c = c.Forget(slot(50, 50).Start, 2)
	s, ok := c.Snapshot("event")
	if !ok {
		t.Fatal("there is none")
	}
	again, ok := s.Calendar(room)
	if !ok || again.Revision() != c.Revision() || !again.Since().Equal(c.Since()) {
		t.Fatalf("%t: at revision %d, since %s", ok, again.Revision(), again.Since())
	}
	values := func(c domain.Calendar) (all []domain.Reservation) {
		for r := range c.All {
			all = append(all, *r)
		}
		return all
	}
	if !slices.Equal(values(again), values(c)) {
		t.Errorf("holds\n%v, want\n%v", values(again), values(c))
	}
}
