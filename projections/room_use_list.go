package projections

import (
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// RoomUseListName names the projection.
const RoomUseListName = "room_use_list"

// RoomUseList is a document of the room-use list: a booking, and when the room was really used. Until the use starts there is none.
type RoomUseList struct {
	Booking domain.BookingID `json:"bookingId" bson:"bookingId" key:"id"`
	Room    domain.RoomID    `json:"roomId" bson:"roomId" key:"room"`
	User    domain.UserID    `json:"bookingUserId" bson:"bookingUserId" key:"user"`
	Start   time.Time        `json:"bookedUseStartDtm" bson:"bookedUseStartDtm" key:"start"`
	End     time.Time        `json:"bookedUseEndDtm" bson:"bookedUseEndDtm" key:"end"`
	Status  Status           `json:"status" bson:"status"`
	// BookedMinutes is the length of the booked slot, UsedMinutes that of the real use, 0 until it has ended; both are rounded to the
	// nearest minute.
	BookedMinutes int              `json:"bookedMinutes" bson:"bookedMinutes"`
	UsedMinutes   int              `json:"usedMinutes" bson:"usedMinutes"`
	RealUse       domain.RealUseID `json:"realUseId,omitzero" bson:"realUseId,omitempty"`             // empty until the use has started
	StartedAt     time.Time        `json:"realUseStartDtm,omitzero" bson:"realUseStartDtm,omitempty"` // zero until the use has started
	EndedAt       time.Time        `json:"realUseEndDtm,omitzero" bson:"realUseEndDtm,omitempty"`     // zero until the use has ended
	// RoomStillInUseBy is another booking whose use of the room had not ended when this one started; empty if there was none.
	RoomStillInUseBy domain.BookingID `json:"roomStillInUseBy,omitzero" bson:"roomStillInUseBy,omitempty"`
}

// measure sets the minutes.
func (l *RoomUseList) measure() {
	l.BookedMinutes, l.UsedMinutes = minutes(l.Start, l.End), 0
	if !l.EndedAt.IsZero() {
		l.UsedMinutes = minutes(l.StartedAt, l.EndedAt)
	}
}

// minutes is the time between, rounded to the nearest minute. A [time.Duration] would overflow at 292 years.
func minutes(from, to time.Time) int {
	const minute = 60_000 // milliseconds
	return int((to.UnixMilli() - from.UnixMilli() + minute/2) / minute)
}

func roomUseList() list[RoomUseList] {
	return list[RoomUseList]{
		name:     RoomUseListName,
		version:  4,
		aBooking: true,
		sorts:    bookingSorts("bookedUseStartDtm"),
		statuses: roomUseListStatuses(),
		key:      ofBooking,
		fold:     RoomUseList.fold,
		equal:    equal[RoomUseList],
		status:   RoomUseList.statusKey,
	}
}

// keyUsed is the status key of documents with a real use. It sorts right after the status.
func keyUsed(s Status) string { return string(s) + " USED" }

// statusKey is the status key, which serves queries by status and for real uses.
func (l RoomUseList) statusKey() string {
	if l.RealUse != "" && slices.Contains(usable, l.Status) {
		return keyUsed(l.Status)
	}
	return string(l.Status)
}

// usable are the statuses in which a document may have a real use: IN_USE once UseStarted has followed the check-in, and CANCELLED if an
// operator cancelled the booking during its use.
var usable = []Status{StatusInUse, StatusEnded, StatusCancelled}

func roomUseListStatuses() statuses {
	s := bookingStatuses()
	s.keys, s.used = map[string][]string{}, map[string][]string{}
	for _, status := range usable {
		s.keys[string(status)] = []string{string(status), keyUsed(status)}
		s.used[string(status)] = []string{keyUsed(status)}
	}
	return s
}

func (l RoomUseList) fold(r eventstore.Recorded) RoomUseList {
	l.Status = l.Status.after(r.Event)
	switch e := r.Event.(type) {
	case domain.BookingCreated:
		l.Booking, l.Room, l.User = e.BookingID, e.RoomID, e.UserID
		l.Start, l.End = shown(e.Slot.Start), shown(e.Slot.End)
	case domain.BookingChanged:
		l.Room, l.User = e.RoomID, e.UserID
		l.Start, l.End = shown(e.Slot.Start), shown(e.Slot.End)
	case domain.UseStarted:
		l.RealUse, l.StartedAt, l.RoomStillInUseBy = e.RealUseID, shown(e.StartedAt), e.RoomStillInUseBy
	case domain.UseEnded:
		l.EndedAt = shown(e.EndedAt)
	}
	l.measure()
	return l
}
