package projections

import (
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// BookingListName names the projection.
const BookingListName = "booking_list"

// BookingList is a document of the booking list: the current state of a booking, or how it ended.
type BookingList struct {
	Booking  domain.BookingID `json:"bookingId" bson:"bookingId" key:"id"`
	Room     domain.RoomID    `json:"roomId" bson:"roomId" key:"room"`
	User     domain.UserID    `json:"bookingUserId" bson:"bookingUserId" key:"user"`
	Start    time.Time        `json:"useStartDtm" bson:"useStartDtm" key:"start"`
	End      time.Time        `json:"useEndDtm" bson:"useEndDtm" key:"end"`
	BookedAt time.Time        `json:"bookingDtm" bson:"bookingDtm"`
	Status   Status           `json:"status" bson:"status"`
	// ConfirmStatus is the administrator's answer, ConfirmedAt when it was given, whether it was yes or no.
	ConfirmStatus domain.Answer `json:"confirmStatus" bson:"confirmStatus"`
	ConfirmUser   domain.UserID `json:"confirmUserId,omitzero" bson:"confirmUserId,omitempty"`
	ConfirmReason string        `json:"confirmReason,omitzero" bson:"confirmReason,omitempty"`
	ConfirmedAt   time.Time     `json:"confirmDtm,omitzero" bson:"confirmDtm,omitempty"`
	// CancelReason and CancelledAt are set once the booking is CANCELLED or ENDED. CancelDetail says in words why its room was closed.
	CancelReason domain.CancelReason `json:"cancelReason,omitzero" bson:"cancelReason,omitempty"`
	CancelDetail string              `json:"cancelDetail,omitzero" bson:"cancelDetail,omitempty"`
	CancelledAt  time.Time           `json:"cancelDtm,omitzero" bson:"cancelDtm,omitempty"`
	// Changes counts the changes of room, time and user. ModifiedAt is the time of the last event of any kind.
	Changes    int       `json:"changes,omitzero" bson:"changes,omitempty"`
	ModifiedAt time.Time `json:"modifiedDtm" bson:"modifiedDtm"`
	// UseEndedAt is when the room was left; zero until then.
	UseEndedAt time.Time `json:"realUseEndDtm,omitzero" bson:"realUseEndDtm,omitempty"`
}

// Occupied is the part of the slot for which the booking holds the room: all of it as long as the booking is live, what was used of it
// once the use has ended, and none of it, an empty slot, once the booking is cancelled.
func (l BookingList) Occupied() domain.Slot {
	slot := domain.Slot{Start: l.Start, End: l.End}
	switch {
	case l.Status == StatusCancelled || l.Status == StatusEnded && !l.UseEndedAt.After(l.Start):
		return domain.Slot{}
	case l.Status == StatusEnded && l.UseEndedAt.Before(l.End):
		slot.End = l.UseEndedAt
	}
	return slot
}

func bookingList() list[BookingList] {
	return list[BookingList]{
		name:     BookingListName,
		version:  7,
		aBooking: true,
		sorts:    bookingSorts("useStartDtm"),
		statuses: bookingListStatuses(),
		key:      ofBooking,
		fold:     BookingList.fold,
		equal:    equal[BookingList],
		status:   BookingList.statusKey,
	}
}

// bookingSorts are the sorts of a list with one document for each booking. Start names the field in which the booked time starts.
func bookingSorts(start string) []ordering {
	return []ordering{
		{start, Order{Start: true}},
		{"bookingDtm", Order{}},
		{"roomId", Order{By: ColumnRoom, Start: true}},
		{"bookingUserId", Order{By: ColumnUser, Start: true}},
		{"status", Order{By: ColumnStatus, Start: true}},
	}
}

// The status keys of documents whose status does not imply the administrator's answer. They sort right after the status.
const (
	keyInUseUnanswered = string(StatusInUse) + " " + string(domain.AnswerPending)
	keyDenied          = string(StatusCancelled) + " " + string(domain.Denied)
)

// statusKey is the status key, which serves queries by status and by the administrator's answer.
func (l BookingList) statusKey() string {
	switch {
	case l.Status == StatusInUse && l.ConfirmStatus == domain.AnswerPending:
		return keyInUseUnanswered
	case l.Status == StatusCancelled && l.ConfirmStatus == domain.Denied:
		return keyDenied
	default:
		return string(l.Status)
	}
}

func bookingListStatuses() statuses {
	s := bookingStatuses()
	s.keys = map[string][]string{
		string(StatusInUse):     {string(StatusInUse), keyInUseUnanswered},
		string(StatusCancelled): {string(StatusCancelled), keyDenied},
	}
	s.answers = map[string][]string{
		string(domain.AnswerPending): {string(StatusBooked), keyInUseUnanswered},
		string(domain.Confirmed):     {string(StatusConfirmed), string(StatusInUse)},
		string(domain.Denied):        {keyDenied},
	}
	return s
}

// ofBooking is the key of lists with one document for each booking.
func ofBooking(r eventstore.Recorded) (id string, first bool) {
	switch e := r.Event.(type) {
	case domain.BookingCreated:
		return string(e.BookingID), true
	case domain.BookingChanged:
		return string(e.BookingID), false
	case domain.ConfirmRequested:
		return string(e.BookingID), false
	case domain.ConfirmCompleted:
		return string(e.BookingID), false
	case domain.ConfirmDenied:
		return string(e.BookingID), false
	case domain.BookingCheckedIn:
		return string(e.BookingID), false
	case domain.BookingCancelled:
		return string(e.BookingID), false
	case domain.UseStarted:
		return string(e.BookingID), false
	case domain.UseEnded:
		return string(e.BookingID), false
	}
	return "", false
}

func (l BookingList) fold(r eventstore.Recorded) BookingList {
	l.Status, l.ModifiedAt = l.Status.after(r.Event), shown(r.Metadata.OccurredAt)
	switch e := r.Event.(type) {
	case domain.BookingCreated:
		l.Booking, l.Room, l.User = e.BookingID, e.RoomID, e.UserID
		l.Start, l.End = shown(e.Slot.Start), shown(e.Slot.End)
		l.BookedAt = shown(e.At)
		l = l.answered(domain.AnswerPending, "", "", time.Time{})
	case domain.BookingChanged:
		l.Changes++
		l.Room, l.User = e.RoomID, e.UserID
		l.Start, l.End = shown(e.Slot.Start), shown(e.Slot.End)
	case domain.ConfirmRequested:
		l = l.answered(domain.AnswerPending, "", "", time.Time{})
	case domain.ConfirmCompleted:
		l = l.answered(domain.Confirmed, e.ConfirmUserID, e.Reason, e.At)
	case domain.ConfirmDenied:
		l = l.answered(domain.Denied, e.ConfirmUserID, e.Reason, e.At)
	case domain.UseEnded:
		l.UseEndedAt = shown(e.EndedAt)
	case domain.BookingCancelled:
		l.CancelReason, l.CancelDetail, l.CancelledAt = e.Reason, e.Detail, shown(e.At)
	}
	return l
}

func (l BookingList) answered(answer domain.Answer, by domain.UserID, reason string, at time.Time) BookingList {
	l.ConfirmStatus, l.ConfirmUser, l.ConfirmReason, l.ConfirmedAt = answer, by, reason, shown(at)
	return l
}
