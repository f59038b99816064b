package domain

import "time"

// The events of a real-use stream. They are stored forever.
type (
	// UseStarted says that the use of the room has started.
	UseStarted struct {
		RealUseID RealUseID `json:"realUseId"`
		BookingID BookingID `json:"bookingId"`
		RoomID    RoomID    `json:"roomId"`
		UserID    UserID    `json:"userId"`
		StartedAt time.Time `json:"startedAt"`
		// RoomStillInUseBy is another booking whose use of the room had not ended when this one started; empty if none was found.
		RoomStillInUseBy BookingID `json:"roomStillInUseBy,omitempty"`
	}

	// UseEnded says that the room was left.
	UseEnded struct {
		RealUseID RealUseID `json:"realUseId"`
		BookingID BookingID `json:"bookingId"`
		RoomID    RoomID    `json:"roomId"`
		UserID    UserID    `json:"userId"`
		EndedAt   time.Time `json:"endedAt"`
		// At is when the end became known, which may be later.
		At time.Time `json:"at"`
	}
)

func (UseStarted) EventType() string { return "UseStarted" }
func (UseEnded) EventType() string   { return "UseEnded" }

// UsePhase is where a real use is in its life.
type UsePhase string

const (
	UsePhaseNone    UsePhase = "" // there is no real use
	UsePhaseStarted UsePhase = "STARTED"
	UsePhaseEnded   UsePhase = "ENDED"
)

// UseEnd is how a real use ended.
type UseEnd struct {
	At      time.Time // when the room was left
	KnownAt time.Time // when that became known
}

// RealUse is the state of one real use. The zero value is a real use that does not exist. A RealUse is a value, as a [Booking] is.
type RealUse struct {
	ID        RealUseID // empty if it does not exist
	Booking   BookingID
	Room      RoomID
	User      UserID
	StartedAt time.Time
	End       *UseEnd // nil while the room is in use

	RoomStillInUseBy BookingID // another booking whose use of the room had not ended when this one started; empty if none was found
}

// Phase is where the real use is in its life.
func (u RealUse) Phase() UsePhase {
	switch {
	case u.ID == "":
		return UsePhaseNone
	case u.End != nil:
		return UsePhaseEnded
	default:
		return UsePhaseStarted
	}
}

// Live reports whether the real use exists and has not ended.
func (u RealUse) Live() bool { return u.Phase() == UsePhaseStarted }

// EndedAt is when the room was left; zero while it is in use.
func (u RealUse) EndedAt() time.Time {
	if u.End == nil {
		return time.Time{}
	}
	return u.End.At
}

// Evolve folds one event of the real use's stream.
func (u RealUse) Evolve(event Event) RealUse {
	switch e := event.(type) {
	case UseStarted:
		u.ID, u.Booking, u.Room, u.User = e.RealUseID, e.BookingID, e.RoomID, e.UserID
		u.StartedAt, u.RoomStillInUseBy = e.StartedAt, e.RoomStillInUseBy
	case UseEnded:
		u.ID = e.RealUseID // the use exists even if its UseStarted cannot be decoded
		u.End = &UseEnd{At: e.EndedAt, KnownAt: e.At}
	}
	return u
}

// DecideStart starts the real use that the booking was checked in for.
//
//	given no real use  then UseStarted
//	otherwise          then nothing: a repeat
func DecideStart(u RealUse, in BookingCheckedIn) []Event {
	if u.ID != "" {
		return nil
	}
	return []Event{UseStarted{
		RealUseID: in.RealUseID, BookingID: in.BookingID, RoomID: in.RoomID, UserID: in.UserID, StartedAt: in.StartedAt, RoomStillInUseBy: in.RoomStillInUseBy,
	}}
}

// EndUse ends a real use.
type EndUse struct {
	EndedAt time.Time // when the room was left
	At      time.Time // when the system is told
}

// DecideEnd ends a real use.
//
//	given it is running               then UseEnded
//	given it ended at that time       then nothing: a repeat
//	given it ended at another time    then *AlreadyEnded
//	given an end before its start     then *EndBeforeStart
//	given no real use                 then ErrRealUseNotFound
func DecideEnd(u RealUse, c EndUse) ([]Event, error) {
	switch {
	case u.ID == "":
		return nil, ErrRealUseNotFound
	case u.End != nil && u.End.At.Equal(c.EndedAt):
		return nil, nil
	case u.End != nil:
		return nil, &AlreadyEnded{RealUse: u.ID, At: u.End.At}
	case c.EndedAt.Before(u.StartedAt):
		return nil, &EndBeforeStart{u.StartedAt}
	}
	return []Event{UseEnded{RealUseID: u.ID, BookingID: u.Booking, RoomID: u.Room, UserID: u.User, EndedAt: c.EndedAt, At: c.At}}, nil
}
