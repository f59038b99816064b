package notify

import (
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// Message is what one user is told of one event.
type Message struct {
	domain.Notice
	ID      domain.NotificationID
	At      time.Time // when the event occurred
	By      string    // who did it, may be empty
	Slot    domain.Slot
	OldRoom domain.RoomID // before a change
	OldSlot domain.Slot
	Started time.Time // of a use, else zero
	Ended   time.Time
	// Sequence is that of the booking in calendars: how often it was changed, the cancellation included.
	Sequence  int
	Confirmed bool
	// CorrelationID is common to all that follows from one request.
	CorrelationID string
}

// Compose is what is told of an event. Before and after are the booking without the event and with it.
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
	case domain.ConfirmCompleted:
		m.By = answeredBy(e.ConfirmUserID, m.By)
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

// ask is what the approvers are told of a booking that waits for an answer. Who is told is for the caller to say.
func ask(r eventstore.Recorded, e domain.ConfirmRequested, booking domain.Booking) Message {
	return Compose(domain.Notice{Kind: domain.KindConfirmRequested, Booking: e.BookingID, Room: e.RoomID, User: e.UserID}, r, booking, booking)
}
