package domain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The events of a notification stream, which belongs to one event that somebody is told of. They are stored forever.
type (
	// NotificationRequested says that somebody beside the booking's user is told of the event: an approver. The booking's own user is
	// told without it.
	NotificationRequested struct {
		NotificationID NotificationID   `json:"notificationId"`
		Kind           NotificationKind `json:"kind"`
		BookingID      BookingID        `json:"bookingId"`
		RoomID         RoomID           `json:"roomId"`
		UserID         UserID           `json:"userId"` // who is told
		At             time.Time        `json:"at"`
	}

	// NotificationDelivered says that a channel has delivered a notification.
	NotificationDelivered struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		Channel        Channel        `json:"channel"`
		// Attempt is the number of the attempt on the channel, counted from 1.
		Attempt int64     `json:"attempt"`
		At      time.Time `json:"at"`
	}

	// NotificationFailed says that an attempt to deliver a notification on a channel has failed.
	NotificationFailed struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		Channel        Channel        `json:"channel"`
		Attempt        int64          `json:"attempt"`
		Reason         string         `json:"reason"`
		// Parked says that it was the last attempt, unless somebody asks for more.
		Parked bool      `json:"parked,omitempty"`
		At     time.Time `json:"at"`
	}

	// NotificationRetried says that an operator asks for the notification to be delivered after all, on each channel that has given up.
	NotificationRetried struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		At             time.Time      `json:"at"`
	}
)

func (NotificationRequested) EventType() string { return "NotificationRequested" }
func (NotificationDelivered) EventType() string { return "NotificationDelivered" }
func (NotificationFailed) EventType() string    { return "NotificationFailed" }
func (NotificationRetried) EventType() string   { return "NotificationRetried" }

// NotificationID names what one user is told of one event. For the booking's user it is the event's id, the text form of a UUID; for an
// approver a dot and a number follow.
type NotificationID string

// NotificationOf names what the booking's user is told of an event.
func NotificationOf(event uuid.UUID) NotificationID { return NotificationID(event.String()) }

// ForApprover names what the n-th of the approvers is told of the event, counted from 1.
func (id NotificationID) ForApprover(n int) NotificationID {
	return NotificationID(fmt.Sprintf("%s.%d", id, n))
}

// Event is the id of the event.
func (id NotificationID) Event() string {
	event, _, _ := strings.Cut(string(id), ".")
	return event
}

// Stream is the name of the stream of all that is told of the event.
func (id NotificationID) Stream() string { return NotificationCategory + "-" + id.Event() }

// Channel is a way by which notifications are delivered.
type Channel string

const (
	ChannelLog     Channel = "log"
	ChannelMail    Channel = "mail"
	ChannelWebhook Channel = "webhook"
	// ChannelList delivers what a user does not want to be sent: it is in the list of notifications.
	ChannelList Channel = "list"
)

// NotificationKind says what a notification tells, in a word that stays the same whatever the texts become.
type NotificationKind string

const (
	KindBooked           NotificationKind = "booked"
	KindConfirmRequested NotificationKind = "confirm-requested" // to the approvers
	KindChanged          NotificationKind = "changed"
	KindHandedOver       NotificationKind = "handed-over" // to the user who lost the booking
	KindConfirmed        NotificationKind = "confirmed"
	KindDenied           NotificationKind = "denied"
	KindUseStarted       NotificationKind = "use-started"
	KindUseEnded         NotificationKind = "use-ended"
	KindCancelled        NotificationKind = "cancelled"
)

// NotificationKinds are all kinds.
var NotificationKinds = []NotificationKind{
	KindBooked, KindConfirmRequested, KindChanged, KindHandedOver, KindConfirmed, KindDenied, KindUseStarted, KindUseEnded, KindCancelled,
}

// Notice is what somebody is told of an event.
type Notice struct {
	Kind    NotificationKind
	Booking BookingID
	Room    RoomID
	To      UserID
	User    UserID // whose booking it is now
	Reason  string // of an answer, may be empty
}

// NoticeOf is what the booking's user is told of an event, or who was its user until then; false if nothing. Who ends a use is told of the
// end and not also of the cancellation that follows from it; who is denied, of the denial.
func NoticeOf(event Event) (Notice, bool) {
	switch e := event.(type) {
	case BookingCreated:
		return Notice{KindBooked, e.BookingID, e.RoomID, e.UserID, e.UserID, ""}, true
	case BookingChanged:
		return Notice{KindChanged, e.BookingID, e.RoomID, e.UserID, e.UserID, ""}, true
	case BookingHandedOver:
		return Notice{KindHandedOver, e.BookingID, e.RoomID, e.FormerUserID, e.UserID, ""}, true
	case ConfirmCompleted:
		return Notice{KindConfirmed, e.BookingID, e.RoomID, e.UserID, e.UserID, e.Reason}, true
	case ConfirmDenied:
		return Notice{KindDenied, e.BookingID, e.RoomID, e.UserID, e.UserID, e.Reason}, true
	case UseStarted:
		return Notice{KindUseStarted, e.BookingID, e.RoomID, e.UserID, e.UserID, ""}, true
	case UseEnded:
		return Notice{KindUseEnded, e.BookingID, e.RoomID, e.UserID, e.UserID, ""}, true
	case BookingCancelled:
		if e.Reason != CancelledByUseEnd && e.Reason != CancelledByDenial {
			return Notice{KindCancelled, e.BookingID, e.RoomID, e.UserID, e.UserID, ""}, true
		}
	}
	return Notice{}, false
}

// Sentence is the notice in one English sentence, as the list of notifications has it and every mail begins.
func (n Notice) Sentence() string {
	switch n.Kind {
	case KindBooked:
		return fmt.Sprintf("conference room[%s] reservation is complete", n.Room)
	case KindConfirmRequested:
		return fmt.Sprintf("Booking Number[ %s ] waits for confirmation", n.Booking)
	case KindChanged:
		return fmt.Sprintf("conference room[%s] reservation has been changed", n.Room)
	case KindHandedOver:
		return fmt.Sprintf("conference room[%s] reservation has been handed over to user[%s]", n.Room, n.User)
	case KindConfirmed:
		return fmt.Sprintf("Booking Number[ %s ] is confirmed", n.Booking) + because(n.Reason)
	case KindDenied:
		return fmt.Sprintf("Booking Number[ %s ] is denied, reservation has been canceled", n.Booking) + because(n.Reason)
	case KindUseStarted:
		return fmt.Sprintf("Booking Number[ %s ] is use started", n.Booking)
	case KindUseEnded:
		return fmt.Sprintf("Booking Number[ %s ] is use ended", n.Booking)
	default:
		return "reservation has been canceled"
	}
}

// because is the end of a sentence that has a reason.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Delivery says whether a notification has reached its user.
type Delivery string

const (
	DeliveryPending   Delivery = "PENDING"
	DeliveryDelivered Delivery = "DELIVERED"
	DeliveryFailed    Delivery = "FAILED" // given up, unless an operator asks for more attempts
)

// Deliveries is the state of a notification stream. The zero value is that of a stream without events. It is a value, as a [Booking] is.
type Deliveries struct {
	Requested []NotificationRequested // to approvers
	Channels  []ChannelDelivery       // those that have made an attempt
}

// ChannelDelivery is how far a channel has got with a notification.
type ChannelDelivery struct {
	Notification NotificationID
	Booking      BookingID // empty before the first attempt
	Channel      Channel
	Delivery     Delivery
	Attempts     int64 // made
	Allowance    int64 // of Attempts, those before the last retry, which do not count towards giving up
}

// On is how far a channel has got with a notification.
func (d Deliveries) On(id NotificationID, channel Channel) ChannelDelivery {
	if i := d.index(id, channel); i >= 0 {
		return d.Channels[i]
	}
	return ChannelDelivery{Notification: id, Channel: channel, Delivery: DeliveryPending}
}

func (d Deliveries) index(id NotificationID, channel Channel) int {
	return slices.IndexFunc(d.Channels, func(c ChannelDelivery) bool { return c.Notification == id && c.Channel == channel })
}

// Evolve folds one event of the stream.
func (d Deliveries) Evolve(event Event) Deliveries {
	switch e := event.(type) {
	case NotificationRequested:
		d.Requested = append(d.Requested[:len(d.Requested):len(d.Requested)], e)
	case NotificationDelivered:
		c := d.On(e.NotificationID, e.Channel)
		c.Booking, c.Delivery, c.Attempts = e.BookingID, DeliveryDelivered, e.Attempt
		return d.with(c)
	case NotificationFailed:
		c := d.On(e.NotificationID, e.Channel)
		c.Booking, c.Attempts = e.BookingID, e.Attempt
		if e.Parked {
			c.Delivery = DeliveryFailed
		}
		return d.with(c)
	case NotificationRetried:
		for _, c := range d.Channels {
			if c.Notification == e.NotificationID && c.Delivery == DeliveryFailed {
				c.Delivery, c.Allowance = DeliveryPending, c.Attempts
				d = d.with(c)
			}
		}
	}
	return d
}

func (d Deliveries) with(c ChannelDelivery) Deliveries {
	d.Channels = slices.Clone(d.Channels)
	if i := d.index(c.Notification, c.Channel); i >= 0 {
		d.Channels[i] = c
	} else {
		d.Channels = append(d.Channels, c)
	}
	return d
}

// DecideRetry has a notification delivered that a channel has given up.
//
//	given a channel has given it up  then NotificationRetried
//	otherwise                        then nothing
func DecideRetry(d Deliveries, id NotificationID, at time.Time) []Event {
	for _, c := range d.Channels {
		if c.Notification == id && c.Delivery == DeliveryFailed {
			return []Event{NotificationRetried{NotificationID: id, BookingID: c.Booking, At: at}}
		}
	}
	return nil
}
