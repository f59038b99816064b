package projections

import (
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// NotificationName names the projection.
const NotificationName = "notifications"

// Notification is a document of the notifications: the notification of one user about one event.
type Notification struct {
	ID          domain.NotificationID   `json:"notificationId" bson:"notificationId" key:"id"`
	Booking     domain.BookingID        `json:"bookingId" bson:"bookingId" key:"booking"`
	Room        domain.RoomID           `json:"roomId" bson:"roomId" key:"room"`
	User        domain.UserID           `json:"userId" bson:"userId" key:"user"`
	Kind        domain.NotificationKind `json:"kind" bson:"kind"`
	Contents    string                  `json:"contents" bson:"contents"`                            // the text as the user reads it
	SentAt      time.Time               `json:"sendDtm" bson:"sendDtm" key:"start"`                  // when the event occurred
	Delivery    domain.Delivery         `json:"delivery" bson:"delivery" key:"status"`               // FAILED once a channel has parked it, whatever others did
	Attempts    int                     `json:"attempts" bson:"attempts"`                            // at delivery so far, on any channel
	DeliveredAt time.Time               `json:"deliveredDtm,omitzero" bson:"deliveredDtm,omitempty"` // zero until delivered
	Reason      string                  `json:"reason,omitzero" bson:"reason,omitempty"`             // of the last attempt that failed
}

func notifications() list[Notification] {
	deliveries := []string{string(domain.DeliveryPending), string(domain.DeliveryDelivered), string(domain.DeliveryFailed)}
	return list[Notification]{
		name:    NotificationName,
		version: 8,
		sorts: []ordering{
			{"sendDtm", Order{Start: true}},
			{"userId", Order{By: ColumnUser, Start: true}},
		},
		statuses: statuses{all: deliveries},
		key:      notificationOf,
		fold:     Notification.fold,
		equal:    equal[Notification],
		status:   func(n Notification) string { return string(n.Delivery) },
	}
}

// notificationOf is the notification that an event belongs to, and whether it begins with the event.
func notificationOf(r eventstore.Recorded) (id string, first bool) {
	switch e := r.Event.(type) {
	case domain.NotificationRequested:
		return string(e.NotificationID), true
	case domain.NotificationDelivered:
		return string(e.NotificationID), false
	case domain.NotificationFailed:
		return string(e.NotificationID), false
	case domain.NotificationRetried:
		return string(e.NotificationID), false
	}
	if _, has := domain.NoticeOf(r.Event); has {
		return r.ID.String(), true
	}
	return "", false
}

func (n Notification) fold(r eventstore.Recorded) Notification {
	switch e := r.Event.(type) {
	case domain.NotificationRequested:
		notice := domain.Notice{Kind: e.Kind, Booking: e.BookingID, Room: e.RoomID, To: e.UserID, Reason: e.Reason}
		return n.begin(e.NotificationID, notice, r.Metadata.OccurredAt)
	case domain.NotificationDelivered:
		n.DeliveredAt = shown(e.At)
		if n.Delivery == domain.DeliveryPending {
			n.Delivery = domain.DeliveryDelivered
		}
		n.Attempts += min(int(e.Attempt), 1)
	case domain.NotificationFailed:
		if !e.Held {
			n.Attempts++
		}
		n.Reason = e.Reason
		if e.Parked {
			n.Delivery = domain.DeliveryFailed
		}
	case domain.NotificationRetried:
		if n.Delivery == domain.DeliveryFailed {
			n.Delivery = domain.DeliveryPending
		}
	default:
		notice, _ := domain.NoticeOf(r.Event)
		return n.begin(domain.NotificationOf(r.ID), notice, r.Metadata.OccurredAt)
	}
	return n
}

func (n Notification) begin(id domain.NotificationID, notice domain.Notice, at time.Time) Notification {
	n.ID, n.Booking, n.Room, n.User, n.Kind = id, notice.Booking, notice.Room, notice.To, notice.Kind
	n.Contents, n.SentAt, n.Delivery = notice.Sentence(), shown(at), domain.DeliveryPending
	return n
}
