package projections

import (
	"time"

	"roombook/domain"
)

// RoomUseList is a document of the room-use list: what was booked against what was really used, one a booking. A booking that
// nobody has used yet has no real use. All times are in UTC.
type RoomUseList struct {
	Booking domain.BookingID
	Room    domain.RoomID
	User    domain.UserID
	Booked  domain.Slot
	Status  Status
	// RealUse is empty until the use has started.
	RealUse   domain.RealUseID
	StartedAt time.Time // zero until the use has started
	EndedAt   time.Time // zero until the use has ended
}

// BookedMinutes is the length of the booked slot, to the nearest minute.
func (l RoomUseList) BookedMinutes() int { return minutes(l.Booked.Length()) }

// UsedMinutes is how long the room was really used, to the nearest minute; 0 until the use has ended.
func (l RoomUseList) UsedMinutes() int {
	if l.EndedAt.IsZero() {
		return 0
	}
	return minutes(l.EndedAt.Sub(l.StartedAt))
}

func minutes(d time.Duration) int { return int(d.Round(time.Minute) / time.Minute) }
