package domain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The events of a notification stream, which records the notifications of one event. They are stored forever.
type (
	// NotificationRequested says that an approver, or for a fault perhaps an administrator, is to be notified of the event. The notification to
	// the booking's user is implied by the event itself. A fault of a room is no booking's: BookingID is empty then.
	NotificationRequested struct {
		NotificationID NotificationID   `json:"notificationId"`
		Kind           NotificationKind `json:"kind"`
		BookingID      BookingID        `json:"bookingId"`
		RoomID         RoomID           `json:"roomId"`
		UserID         UserID           `json:"userId"` // the recipient
		// Reason is that of the notice: of a fault of a room, what is broken. Other requests have none.
		Reason string `json:"reason,omitempty"`
		// Queued means that this event has the notification delivered. Older programs delivered it because of the event that it is about.
		Queued bool      `json:"queued,omitempty"`
		At     time.Time `json:"at"`
	}

	// NotificationDelivered says that a channel has delivered a notification.
	NotificationDelivered struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		Channel        Channel        `json:"channel"`
		// Attempt counts the attempts on the channel, from 1.
		Attempt int64     `json:"attempt"`
		At      time.Time `json:"at"`
	}

	// NotificationFailed says that an attempt to deliver a notification on a channel has failed, or that none was made.
	NotificationFailed struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		Channel        Channel        `json:"channel"`
		Attempt        int64          `json:"attempt"`
		Reason         string         `json:"reason"`
		// Parked means that there are no further attempts unless an operator requests a retry.
		Parked bool `json:"parked,omitempty"`
		// Held means that no attempt was made, because the destination was known to be down. Attempt is that of the last one then.
		Held bool `json:"held,omitempty"`
		// Again is the time of the next attempt, for which NotificationDue follows. It is zero if there is none, and in events of older
		// programs, which did not acknowledge the event that the notification is about before the last attempt.
		Again time.Time `json:"again,omitzero"`
		At    time.Time `json:"at"`
	}

	// NotificationDue says that the time of the next attempt on a channel has come.
	NotificationDue struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		Channel        Channel        `json:"channel"`
		At             time.Time      `json:"at"`
	}

	// NotificationRetried says that an operator requested further attempts on each channel on which the notification is parked.
	NotificationRetried struct {
		NotificationID NotificationID `json:"notificationId"`
		BookingID      BookingID      `json:"bookingId"`
		At             time.Time      `json:"at"`
	}
)

func (NotificationRequested) EventType() string { return "NotificationRequested" }
func (NotificationDelivered) EventType() string { return "NotificationDelivered" }
func (NotificationFailed) EventType() string    { return "NotificationFailed" }
func (NotificationDue) EventType() string       { return "NotificationDue" }
func (NotificationRetried) EventType() string   { return "NotificationRetried" }

// NotificationID identifies the notification of one user about one event. For the booking's user it is the event's id, the text form of a
// UUID; for an approver it is followed by a dot and a number.
type NotificationID string

// NotificationOf returns the id of the notification to the booking's user about an event.
func NotificationOf(event uuid.UUID) NotificationID { return NotificationID(event.String()) }

// ForApprover returns the id of the notification to the n-th approver about the same event, counted from 1.
func (id NotificationID) ForApprover(n int) NotificationID {
	return NotificationID(fmt.Sprintf("%s.%d", id, n))
}

// Event returns the id of the event.
func (id NotificationID) Event() string {
	event, _, _ := strings.Cut(string(id), ".")
	return event
}

// Stream is the name of the stream of the notifications of the event.
func (id NotificationID) Stream() string { return NotificationCategory + "-" + id.Event() }

// Channel is a way to deliver notifications.
type Channel string

const (
	ChannelLog     Channel = "log"
	ChannelMail    Channel = "mail"
	ChannelWebhook Channel = "webhook"
	// ChannelList stands for the list of notifications, where users who opted out find what they are not sent.
	ChannelList Channel = "list"
)

// NotificationKind is the kind of a notification. It is independent of the text.
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
	KindFaultReported    NotificationKind = "fault-reported" // to those who answer for the room
)

// NotificationKinds are all kinds.
var NotificationKinds = []NotificationKind{
	KindBooked, KindConfirmRequested, KindChanged, KindHandedOver, KindConfirmed, KindDenied, KindUseStarted, KindUseEnded, KindCancelled, KindFaultReported,
}

// Kinds is a set of kinds of notifications: their names in the order of NotificationKinds, separated by spaces. That is how it is stored.
type Kinds string

// NewKinds returns the set of the given kinds. Unknown ones are left out.
func NewKinds(kinds ...NotificationKind) Kinds { return Kinds(those(kinds, NotificationKinds)) }

// List returns the kinds in the order of NotificationKinds.
func (k Kinds) List() (kinds []NotificationKind) {
	for name := range strings.FieldsSeq(string(k)) {
		kinds = append(kinds, NotificationKind(name))
	}
	return kinds
}

// Has reports whether the set has the kind.
func (k Kinds) Has(kind NotificationKind) bool { return has(string(k), string(kind)) }

// Notice is what a notification is about.
type Notice struct {
	Kind    NotificationKind
	Booking BookingID
	Room    RoomID
	To      UserID
	User    UserID       // the booking's user after the event; of a fault who reported it
	Reason  string       // of an answer, or of the closure of the room; of a fault what is broken; may be empty
	Cause   CancelReason // of a cancellation
}

// NoticeOf returns the notice of an event to the booking's user or former user; false if there is none. The cancellations that follow from the
// end of a use and from a denial have none, as the end and the denial have one already.
func NoticeOf(event Event) (Notice, bool) {
	switch e := event.(type) {
	case BookingCreated:
		return Notice{KindBooked, e.BookingID, e.RoomID, e.UserID, e.UserID, "", ""}, true
	case BookingChanged:
		return Notice{KindChanged, e.BookingID, e.RoomID, e.UserID, e.UserID, "", ""}, true
	case BookingHandedOver:
		return Notice{KindHandedOver, e.BookingID, cmp.Or(e.FormerRoomID, e.RoomID), e.FormerUserID, e.UserID, "", ""}, true
	case ConfirmCompleted:
		return Notice{KindConfirmed, e.BookingID, e.RoomID, e.UserID, e.UserID, e.Reason, ""}, true
	case ConfirmDenied:
		return Notice{KindDenied, e.BookingID, e.RoomID, e.UserID, e.UserID, e.Reason, ""}, true
	case UseStarted:
		return Notice{KindUseStarted, e.BookingID, e.RoomID, e.UserID, e.UserID, "", ""}, true
	case UseEnded:
		return Notice{KindUseEnded, e.BookingID, e.RoomID, e.UserID, e.UserID, "", ""}, true
	case BookingCancelled:
		if e.Reason != CancelledByUseEnd && e.Reason != CancelledByDenial {
			return Notice{KindCancelled, e.BookingID, e.RoomID, e.UserID, e.UserID, e.Detail, e.Reason}, true
		}
	}
	return Notice{}, false
}

// RequestOf returns the notice of an event that is for those who answer for a room to act on, without the recipient; false if it is none.
func RequestOf(event Event) (Notice, bool) {
	switch e := event.(type) {
	case ConfirmRequested:
		return Notice{Kind: KindConfirmRequested, Booking: e.BookingID, Room: e.RoomID, User: e.UserID}, true
	case RoomFaultReported:
		return Notice{Kind: KindFaultReported, Room: e.RoomID, User: e.By, Reason: RoomFault{Equipment: e.Equipment, Text: e.Text}.What()}, true
	}
	return Notice{}, false
}

// Sentence returns the notice as an English sentence: the text in the list of notifications, and the first line of an English mail.
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
	case KindFaultReported:
		return fmt.Sprintf("conference room[%s] has a fault", n.Room) + because(n.Reason)
	case KindCancelled:
		if n.Cause == CancelledByClosure {
			return "reservation has been canceled, because the room is closed" + because(n.Reason)
		}
	}
	return "reservation has been canceled"
}

// because formats a reason to be appended to a sentence.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Delivery is the state of the delivery of a notification.
type Delivery string

const (
	DeliveryPending   Delivery = "PENDING"
	DeliveryDelivered Delivery = "DELIVERED"
	DeliveryFailed    Delivery = "FAILED" // parked: no further attempts unless an operator requests a retry
)

// Deliveries is the state of a notification stream. The zero value is the state of an empty stream. Deliveries is a value, like [Booking].
type Deliveries struct {
	Requested []NotificationRequested // to approvers
	Channels  []ChannelDelivery       // with at least one attempt
}

// ChannelDelivery is the state of the delivery of a notification on a channel.
type ChannelDelivery struct {
	Notification NotificationID
	Booking      BookingID // empty before the first attempt
	Channel      Channel
	Delivery     Delivery
	Attempts     int64 // in total
	Allowance    int64 // attempts before the last retry, which do not count towards the maximum
	// Again is the time of the next attempt, and Due whether NotificationDue has followed. The first attempt, and the first after a retry,
	// has none.
	Again time.Time
	Due   bool
}

// On returns the state of the delivery of a notification on a channel.
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
		c.Booking, c.Delivery, c.Attempts, c.Again, c.Due = e.BookingID, DeliveryDelivered, e.Attempt, time.Time{}, false
		return d.with(c)
	case NotificationFailed:
		c := d.On(e.NotificationID, e.Channel)
		c.Booking, c.Attempts, c.Again, c.Due = e.BookingID, e.Attempt, e.Again, false
		if e.Parked {
			c.Delivery = DeliveryFailed
		}
		return d.with(c)
	case NotificationDue:
		c := d.On(e.NotificationID, e.Channel)
		c.Due = true
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

// DecideRetry requests further attempts for a parked notification.
//
//	given it is parked on a channel  then NotificationRetried
//	otherwise                        then nothing
func DecideRetry(d Deliveries, id NotificationID, at time.Time) []Event {
	for _, c := range d.Channels {
		if c.Notification == id && c.Delivery == DeliveryFailed {
			return []Event{NotificationRetried{NotificationID: id, BookingID: c.Booking, At: at}}
		}
	}
	return nil
}
