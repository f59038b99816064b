package notify

import (
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// Message is the content of one notification, for all channels.
type Message struct {
	domain.Notice
	ID      domain.NotificationID
	At      time.Time // when the event occurred
	By      string    // the actor, may be empty
	Slot    domain.Slot
	OldRoom domain.RoomID // only for a change, as OldSlot
	OldSlot domain.Slot
	Started time.Time // only for a real use, as Ended
	Ended   time.Time
	// Sequence is the SEQUENCE of the calendar entry: the number of changes of the booking, including its cancellation.
	Sequence  int
	Confirmed bool
	// CorrelationID is the correlation id of the event.
	CorrelationID string
	place         domain.RoomID        // the id of the room, once Room has its name
	first         bool                 // nobody can have tried to deliver it before
	due           domain.Channel       // on which an attempt other than the first is due
	delivery      *eventstore.Delivery // of the event because of which it is sent; nil is always in hand
}

// Compose returns the message for a notice of an event. before and after are the booking before and after the event.
func Compose(notice domain.Notice, r eventstore.Recorded, before, after domain.Booking) Message {
	m := Message{
		Notice:        notice,
		ID:            domain.NotificationOf(r.ID),
		At:            r.Metadata.OccurredAt,
		By:            r.Metadata.Actor,
		Slot:          after.Slot,
		Sequence:      after.Changes,
		Confirmed:     after.Confirm.Answer == domain.Confirmed,
		CorrelationID: r.Metadata.CorrelationID,
	}
	switch e := r.Event.(type) {
	case domain.BookingChanged:
		m.OldRoom, m.OldSlot = before.Room, before.Slot
	case domain.BookingHandedOver:
		m.Room, m.Slot = before.Room, before.Slot // what the former user has lost
	case domain.ConfirmCompleted:
		if m.By = answeredBy(e.ConfirmUserID, m.By); e.ConfirmUserID == domain.ConfirmedByRules {
			m.By = "" // nobody was asked
		}
	case domain.ConfirmDenied:
		m.By = answeredBy(e.ConfirmUserID, m.By)
		m.Sequence++
	case domain.BookingCancelled:
		m.Sequence++
	case domain.UseStarted:
		m.Started = e.StartedAt
	case domain.UseEnded:
		m.Ended = e.EndedAt
		if after.Use != nil {
			m.Started = after.Use.StartedAt
		}
	}
	return m
}

func answeredBy(user domain.UserID, actor string) string {
	if user != "" {
		return string(user)
	}
	return actor
}
