package domain

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// CalendarSnapshot is a calendar as the events of its stream up to a revision made it, so that they need not be read again. It is a copy
// and decides nothing: it may be deleted at any time, and one that does not fit is ignored.
type CalendarSnapshot struct {
	Version  int      `json:"version"` // of the form of Held and of how calendars are folded
	RoomID   RoomID   `json:"roomId"`
	Revision Revision `json:"revision"` // of the calendar
	EventID  string   `json:"eventId"`  // of the event at that revision, which tells one log from another
	// Since is when the last reservation ended that Held leaves out, see [Calendar.Since].
	Since time.Time `json:"since,omitzero"`
	// Room is the state of the room apart from its reservations; zero if the room has no events of its own.
	Room Room `json:"room,omitzero"`
	// Held are the reservations by start, as base64 of a [heldSlot] each.
	Held string `json:"held"`
	Hash string `json:"hash"` // SHA-256 of all the rest
}

func (CalendarSnapshot) EventType() string { return "CalendarSnapshot" }

const calendarSnapshotVersion = 3

// maxSnapshot is how many reservations a snapshot can have, and maxSnapshotRoom how many bytes of the room's own state: with more it would
// be too large for an append, 1 MiB.
const (
	maxSnapshot     = 9_000
	maxSnapshotRoom = 100_000
)

// heldSlot is a reservation in a snapshot. Its ids are UUIDs.
type heldSlot struct {
	Booking, Reservation uuid.UUID
	Start, End           int64 // seconds, as of [time.Time.Unix]
	StartNano, EndNano   uint32
	Revision             Revision
	User                 uint64
	Used                 bool
}

// SnapshotStream is the name of the stream whose last event is the snapshot of the room's calendar. It is in a category of its own: with
// the calendar's name before or behind it, it could be the calendar stream of another room.
func (id RoomID) SnapshotStream() string { return SnapshotCategory + "-" + id.Stream() }

// Snapshot returns a snapshot of the calendar, given the id of the event at its revision. There is none of an empty calendar, of one that
// is too large, or if an id in it is not a UUID.
func (c Calendar) Snapshot(eventID string) (s CalendarSnapshot, ok bool) {
	if c.room == "" || c.textBytes > 0 || c.Len() > maxSnapshot || c.MoreBytes() > maxSnapshotRoom {
		return s, false
	}
	var held []byte
	c.bySlot.Copy().Scan(func(e *entry) bool {
		held, _ = binary.Append(held, binary.BigEndian, heldSlot{
			e.booking, e.reservation, e.start, e.end, e.startNano, e.endNano, e.revision, e.user, e.used,
		}) // which fails only for types without a size
		return true
	})
	s = CalendarSnapshot{
		Version: calendarSnapshotVersion, RoomID: c.room, Revision: c.Revision(), EventID: eventID, Since: c.since,
		Held: base64.StdEncoding.EncodeToString(held),
	}
	if c.about != nil {
		s.Room = *c.about
	}
	s.Hash = s.hash()
	return s, true
}

// Calendar returns the calendar of the room, unless the snapshot is of another room or version, or damaged.
func (s CalendarSnapshot) Calendar(room RoomID) (c Calendar, ok bool) {
	held, err := base64.StdEncoding.DecodeString(s.Held)
	if err != nil || s.Foreign() || s.RoomID != room || s.Hash != s.hash() {
		return c, false
	}
	c = Calendar{room: s.RoomID, next: s.Revision + 1, since: s.Since}
	c.detach()
	if s.Room.ID != "" {
		about := s.Room
		about.zone = about.location()
		c.about = &about
	}
	slots := make([]heldSlot, len(held)/binary.Size(heldSlot{}))
	if n, err := binary.Decode(held, binary.BigEndian, slots); err != nil || n < len(held) {
		return Calendar{}, false
	}
	for _, h := range slots {
		c.add(&entry{h.Booking, h.Reservation, h.Start, h.End, h.StartNano, h.EndNano, h.Revision, h.User, h.Used, false})
	}
	return c, true
}

// Foreign reports whether the snapshot has a form that this version of the program does not know.
func (s CalendarSnapshot) Foreign() bool { return s.Version != calendarSnapshotVersion }

func (s CalendarSnapshot) hash() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %d %q %s %s %s", s.Version, s.RoomID, s.Revision, s.EventID, s.Since.UTC().Format(time.RFC3339Nano), s.Room.text(), s.Held))
	return hex.EncodeToString(sum[:])
}
