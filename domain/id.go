package domain

import "github.com/google/uuid"

// RoomID names a room. A room need not be registered: it exists by being booked.
type RoomID string

// UserID names a person: the one who books, confirms or uses a room.
type UserID string

// BookingID names a booking; the text form of a UUID.
type BookingID string

// RealUseID names a real use; the text form of a UUID.
type RealUseID string

// ReservationID names a reservation in a calendar: one attempt of one command to take a slot. A second attempt gets another id.
type ReservationID string

// Revision is the number of an event in its stream, counted from 0.
type Revision int64

// Stream is the name of the room's calendar stream.
func (id RoomID) Stream() string { return CalendarCategory + "-" + string(id) }

// FaultsStream is the name of the stream of the room's faults.
func (id RoomID) FaultsStream() string { return FaultsCategory + "-" + string(id) }

// Stream is the name of the booking's stream.
func (id BookingID) Stream() string { return BookingCategory + "-" + string(id) }

// Stream is the name of the stream of the user's account.
func (id UserID) Stream() string { return UserCategory + "-" + string(id) }

// Stream is the name of the real use's stream.
func (id RealUseID) Stream() string { return RealUseCategory + "-" + string(id) }

// Stream names follow EventStoreDB's category convention, "category-id".
const (
	BookingCategory      = "booking"
	CalendarCategory     = "calendar"
	FaultsCategory       = "faults"
	RealUseCategory      = "realuse"
	KeyCategory          = "key"
	NotificationCategory = "notification"
	SnapshotCategory     = "snapshot"
	UserCategory         = "user"
	TokenCategory        = "token"
	PhotoCategory        = "photo"
)

// realUseSpace is the UUIDv5 namespace of real uses.
var realUseSpace = uuid.MustParse("0f6a9c1e-6f0b-5d0c-9d53-3f5e9a2c7b11")

// RealUseOf is the id of the booking's real use. A booking has only one, because its id follows from the booking's: a second
// one would need the same stream.
func RealUseOf(id BookingID) RealUseID {
	return RealUseID(uuid.NewSHA1(realUseSpace, []byte(id)).String())
}
