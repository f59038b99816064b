package projections

import (
	"fmt"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// NotificationName names the projection.
const NotificationName = "notifications"

// NotificationID is the id of the event that the notification is about, the text form of a UUID.
type NotificationID string

// Kind says what a notification is about, independently of its text.
type Kind string

const (
	KindBooked     Kind = "booked"
	KindChanged    Kind = "changed"
	KindHandedOver Kind = "handed-over"
	KindConfirmed  Kind = "confirmed"
	KindDenied     Kind = "denied"
	KindUseStarted Kind = "use-started"
	KindUseEnded   Kind = "use-ended"
	KindCancelled  Kind = "cancelled"
)

// Delivery is the state of a notification's delivery to its user.
type Delivery string

const (
	DeliveryPending   Delivery = "PENDING"
	DeliveryDelivered Delivery = "DELIVERED"
	DeliveryFailed    Delivery = "FAILED"
)

// Notification is a document of the notifications: what a booking's user is told about one event.
type Notification struct {
	ID          NotificationID   `json:"notificationId" bson:"notificationId" key:"id"`
	Booking     domain.BookingID `json:"bookingId" bson:"bookingId" key:"booking"`
	Room        domain.RoomID    `json:"roomId" bson:"roomId" key:"room"`
	User        domain.UserID    `json:"userId" bson:"userId" key:"user"`
	Kind        Kind             `json:"kind" bson:"kind"`
	Contents    string           `json:"contents" bson:"contents"`           // the text as the user reads it
	SentAt      time.Time        `json:"sendDtm" bson:"sendDtm" key:"start"` // when the event occurred
	Delivery    Delivery         `json:"delivery" bson:"delivery" key:"status"`
	Attempts    int              `json:"attempts" bson:"attempts"`                            // at delivery so far
	DeliveredAt time.Time        `json:"deliveredDtm,omitzero" bson:"deliveredDtm,omitempty"` // zero until delivered
}

func notifications() list[Notification] {
	deliveries := []string{string(DeliveryPending), string(DeliveryDelivered), string(DeliveryFailed)}
	return list[Notification]{
		name:    NotificationName,
		version: 5,
		sorts: []ordering{
			{"sendDtm", Order{Start: true}},
			{"userId", Order{By: ColumnUser, Start: true}},
		},
		statuses: statuses{all: deliveries},
		key: func(r eventstore.Recorded) (string, bool) {
			if !tells(r.Event) {
				return "", false
			}
			return r.ID.String(), true
		},
		fold:   Notification.fold,
		status: func(n Notification) string { return string(n.Delivery) },
	}
}

// tells reports whether an event is worth a notification to the booking's user, or to its former user. The cancellations that follow from
// the end of a use and from a denial are not, as these already are.
func tells(event domain.Event) bool {
	switch e := event.(type) {
	case domain.BookingCreated, domain.BookingChanged, domain.BookingHandedOver, domain.ConfirmCompleted, domain.ConfirmDenied, domain.UseStarted, domain.UseEnded:
		return true
	case domain.BookingCancelled:
		return e.Reason != domain.CancelledByUseEnd && e.Reason != domain.CancelledByDenial
	}
	return false
}

func (n Notification) fold(r eventstore.Recorded) Notification {
	n.ID = NotificationID(r.ID.String())
	n.SentAt = shown(r.Metadata.OccurredAt)
	n.Delivery = DeliveryPending
	switch e := r.Event.(type) {
	case domain.BookingCreated:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindBooked
		n.Contents = fmt.Sprintf("conference room[%s] reservation is complete", e.RoomID)
	case domain.BookingChanged:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindChanged
		n.Contents = fmt.Sprintf("conference room[%s] reservation has been changed", e.RoomID)
	case domain.BookingHandedOver:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.FormerUserID, KindHandedOver
		n.Contents = fmt.Sprintf("conference room[%s] reservation has been handed over to user[%s]", e.RoomID, e.UserID)
	case domain.ConfirmCompleted:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindConfirmed
		n.Contents = fmt.Sprintf("Booking Number[ %s ] is confirmed", e.BookingID) + because(e.Reason)
	case domain.ConfirmDenied:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindDenied
		n.Contents = fmt.Sprintf("Booking Number[ %s ] is denied, reservation has been canceled", e.BookingID) + because(e.Reason)
	case domain.UseStarted:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindUseStarted
		n.Contents = fmt.Sprintf("Booking Number[ %s ] is use started", e.BookingID)
	case domain.UseEnded:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindUseEnded
		n.Contents = fmt.Sprintf("Booking Number[ %s ] is use ended", e.BookingID)
	case domain.BookingCancelled:
		n.Booking, n.Room, n.User, n.Kind = e.BookingID, e.RoomID, e.UserID, KindCancelled
		n.Contents = "reservation has been canceled"
	}
	return n
}

// because formats a reason to be appended to a text.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
