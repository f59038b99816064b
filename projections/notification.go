package projections

import (
	"time"

	"roombook/domain"
)

// NotificationID is the id of the event that the notification tells of, the text form of a UUID.
type NotificationID string

// Kind says what a notification tells, in a word that stays the same whatever the texts become.
type Kind string

const (
	KindBooked     Kind = "booked"
	KindChanged    Kind = "changed"
	KindConfirmed  Kind = "confirmed"
	KindDenied     Kind = "denied"
	KindUseStarted Kind = "use-started"
	KindUseEnded   Kind = "use-ended"
	KindCancelled  Kind = "cancelled"
)

// Notification is a document of the notification list: what the booking's user is told of one event. All times are in UTC.
type Notification struct {
	ID      NotificationID
	Booking domain.BookingID
	Room    domain.RoomID
	User    domain.UserID
	Kind    Kind
	// Contents is the text as the user reads it.
	Contents string
	// SentAt is when the event occurred.
	SentAt      time.Time
	Delivery    Delivery
	DeliveredAt time.Time // zero until delivered
	Attempts    int       // at delivery, so far
}
