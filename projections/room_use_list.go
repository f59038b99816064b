package projections

import (
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
		statuses: bookingStatuses(),
		key:      ofBooking,
		fold:     RoomUseList.fold,
		keys: func(l RoomUseList) Keys {
			return Keys{Room: string(l.Room), User: string(l.User), Status: string(l.Status), Start: l.Booked.Start.UnixMicro(), End: l.Booked.End.UnixMicro()}
		},
		encode: RoomUseList.encode,
		decode: decodeRoomUseList,
	}
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
