package projections

import (
	"time"

	"roombook/domain"
)

// BookingList is a document of the booking list: one booking as it stands, or how it ended. All times are in UTC.
type BookingList struct {
	Booking domain.BookingID
	Room    domain.RoomID
	User    domain.UserID
	Slot    domain.Slot
	// BookedAt is when the booking was made.
	BookedAt time.Time
	Status   Status
	// Confirm is the administrator's answer; its At is zero while that is pending.
	Confirm domain.Confirm
	// CancelReason and CancelledAt are set once the booking is over, CANCELLED or ENDED.
	CancelReason domain.CancelReason
	CancelledAt  time.Time
}
