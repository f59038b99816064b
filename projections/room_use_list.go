package projections

import (
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// RoomUseListName names the projection.
const RoomUseListName = "room_use_list"

// RoomUseList is a document of the room-use list: what was booked against what was really used, one a booking. A booking that
// nobody has used yet has no real use. All times are in UTC.
type RoomUseList struct {
	Booking domain.BookingID
	Room    domain.RoomID
	User    domain.UserID
	Booked  domain.Slot
	Status  Status
	// RealUse is empty until the use has started.
	RealUse   domain.RealUseID
	StartedAt time.Time // zero until the use has started
	EndedAt   time.Time // zero until the use has ended
	// RoomStillInUseBy is another booking whose use of the room had not ended when this use started. Empty if none was found.
	RoomStillInUseBy domain.BookingID
}

// BookedMinutes is the length of the booked slot, to the nearest minute.
func (l RoomUseList) BookedMinutes() int { return minutes(l.Booked.Start, l.Booked.End) }

// UsedMinutes is how long the room was really used, to the nearest minute; 0 until the use has ended.
func (l RoomUseList) UsedMinutes() int {
	if l.EndedAt.IsZero() {
		return 0
	}
	return minutes(l.StartedAt, l.EndedAt)
}

// minutes is the time between, to the nearest minute. A [time.Duration] would end at 292 years.
func minutes(from, to time.Time) int {
	const minute = 60_000 // milliseconds
	return int((to.UnixMilli() - from.UnixMilli() + minute/2) / minute)
}

func roomUseList() list[RoomUseList] {
	return list[RoomUseList]{
		name:     RoomUseListName,
		aBooking: true,
		version:  2,
		sorts: []ordering{
			{"bookedUseStartDtm", Order{Start: true}},
			{"bookingDtm", Order{}},
			{"roomId", Order{By: ColumnRoom, Start: true}},
			{"bookingUserId", Order{By: ColumnUser, Start: true}},
			{"status", Order{By: ColumnStatus, Start: true}},
		},
		statuses: roomUseListStatuses(),
		key:      ofBooking,
		fold:     RoomUseList.fold,
		keys: func(l RoomUseList) Keys {
			return Keys{Room: string(l.Room), User: string(l.User), Status: l.statusKey(), Start: l.Booked.Start.UnixMicro(), End: l.Booked.End.UnixMicro()}
		},
		encode: RoomUseList.encode,
		decode: decodeRoomUseList,
	}
}

// keyUsed is the key of documents with a status that have a real use. It comes right after the status in order.
func keyUsed(s Status) string { return string(s) + " USED" }

// statusKey is what a document is found by, whether it is asked for by its status or as a real use.
func (l RoomUseList) statusKey() string {
	if l.RealUse != "" && slices.Contains(usable, l.Status) {
		return keyUsed(l.Status)
	}
	return string(l.Status)
}

// usable are the statuses of documents that may have a real use. One that is IN_USE has none until the event of its use has come, and one
// that is CANCELLED has one if an operator ended the booking.
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
		l.Booked = inUTC(e.Slot)
	case domain.BookingChanged:
		l.Room, l.User = e.RoomID, e.UserID
		l.Booked = inUTC(e.Slot)
	case domain.UseStarted:
		l.RealUse, l.StartedAt, l.RoomStillInUseBy = e.RealUseID, e.StartedAt.UTC(), e.RoomStillInUseBy
	case domain.UseEnded:
		l.EndedAt = e.EndedAt.UTC()
	}
	return l
}

func (l RoomUseList) encode(e *encoder) {
	e.text("bookingId", string(l.Booking))
	e.text("roomId", string(l.Room))
	e.text("bookingUserId", string(l.User))
	e.time("bookedUseStartDtm", l.Booked.Start)
	e.time("bookedUseEndDtm", l.Booked.End)
	e.text("status", string(l.Status))
	e.text("realUseId", string(l.RealUse))
	e.time("realUseStartDtm", l.StartedAt)
	e.time("realUseEndDtm", l.EndedAt)
	e.text("roomStillInUseBy", string(l.RoomStillInUseBy))
}

func decodeRoomUseList(d *decoder) RoomUseList {
	return RoomUseList{
		Booking:   domain.BookingID(d.text("bookingId")),
		Room:      domain.RoomID(d.text("roomId")),
		User:      domain.UserID(d.text("bookingUserId")),
		Booked:    domain.Slot{Start: d.time("bookedUseStartDtm"), End: d.time("bookedUseEndDtm")},
		Status:    Status(d.text("status")),
		RealUse:   domain.RealUseID(d.text("realUseId")),
		StartedAt: d.time("realUseStartDtm"),
		EndedAt:   d.time("realUseEndDtm"),

		RoomStillInUseBy: domain.BookingID(d.text("roomStillInUseBy")),
	}
}
