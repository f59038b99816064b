package projections

import (
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// BookingListName names the projection.
const BookingListName = "booking_list"

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

func bookingList() list[BookingList] {
	return list[BookingList]{
		name:     BookingListName,
		aBooking: true,
		version:  3,
		sorts: []ordering{
			{"useStartDtm", Order{Start: true}},
			{"bookingDtm", Order{}},
			{"roomId", Order{By: ColumnRoom, Start: true}},
			{"bookingUserId", Order{By: ColumnUser, Start: true}},
			{"status", Order{By: ColumnStatus, Start: true}},
		},
		statuses: bookingListStatuses(),
		key:      ofBooking,
		fold:     BookingList.fold,
		keys: func(l BookingList) Keys {
			return Keys{Room: string(l.Room), User: string(l.User), Status: l.statusKey(), Start: l.Slot.Start.UnixMicro(), End: l.Slot.End.UnixMicro()}
		},
		encode: BookingList.encode,
		decode: decodeBookingList,
	}
}

// The keys of documents whose status does not tell the administrator's answer. They come right after the status in order.
const (
	keyInUseUnanswered = string(StatusInUse) + " " + string(domain.AnswerPending)
	keyDenied          = string(StatusCancelled) + " " + string(domain.Denied)
)

// statusKey is what a document is found by, whether it is asked for by its status or by the administrator's answer.
func (l BookingList) statusKey() string {
	switch {
	case l.Status == StatusInUse && l.Confirm.Answer == domain.AnswerPending:
		return keyInUseUnanswered
	case l.Status == StatusCancelled && l.Confirm.Answer == domain.Denied:
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

// ofBooking is the key of projections that have one document a booking.
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
	l.Status = l.Status.after(r.Event)
	switch e := r.Event.(type) {
	case domain.BookingCreated:
		l.Booking, l.Room, l.User = e.BookingID, e.RoomID, e.UserID
		l.Slot = inUTC(e.Slot)
		l.BookedAt = e.At.UTC()
		l.Confirm.Answer = domain.AnswerPending
	case domain.BookingChanged:
		l.Room, l.User = e.RoomID, e.UserID
		l.Slot = inUTC(e.Slot)
	case domain.ConfirmRequested:
		l.Confirm = domain.Confirm{Answer: domain.AnswerPending}
	case domain.ConfirmCompleted:
		l.Confirm = domain.Confirm{Answer: domain.Confirmed, By: e.ConfirmUserID, Reason: e.Reason, At: e.At.UTC()}
	case domain.ConfirmDenied:
		l.Confirm = domain.Confirm{Answer: domain.Denied, By: e.ConfirmUserID, Reason: e.Reason, At: e.At.UTC()}
	case domain.BookingCancelled:
		l.CancelReason, l.CancelledAt = e.Reason, e.At.UTC()
	}
	return l
}

func inUTC(s domain.Slot) domain.Slot { return domain.Slot{Start: s.Start.UTC(), End: s.End.UTC()} }

func (l BookingList) encode(e *encoder) {
	e.text("bookingId", string(l.Booking))
	e.text("roomId", string(l.Room))
	e.text("bookingUserId", string(l.User))
	e.time("useStartDtm", l.Slot.Start)
	e.time("useEndDtm", l.Slot.End)
	e.time("bookingDtm", l.BookedAt)
	e.text("status", string(l.Status))
	e.text("confirmStatus", string(l.Confirm.Answer))
	e.text("confirmUserId", string(l.Confirm.By))
	e.text("confirmReason", l.Confirm.Reason)
	e.time("confirmDtm", l.Confirm.At)
	e.text("cancelReason", string(l.CancelReason))
	e.time("cancelDtm", l.CancelledAt)
}

func decodeBookingList(d *decoder) BookingList {
	return BookingList{
		Booking:  domain.BookingID(d.text("bookingId")),
		Room:     domain.RoomID(d.text("roomId")),
		User:     domain.UserID(d.text("bookingUserId")),
		Slot:     domain.Slot{Start: d.time("useStartDtm"), End: d.time("useEndDtm")},
		BookedAt: d.time("bookingDtm"),
		Status:   Status(d.text("status")),
		Confirm: domain.Confirm{
			Answer: domain.Answer(d.text("confirmStatus")),
			By:     domain.UserID(d.text("confirmUserId")),
			Reason: d.text("confirmReason"),
			At:     d.time("confirmDtm"),
		},
		CancelReason: domain.CancelReason(d.text("cancelReason")),
		CancelledAt:  d.time("cancelDtm"),
	}
}
