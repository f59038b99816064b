package domain

import "time"

// The events of a room, in its calendar stream. They are stored forever. A room that has none of them can be booked all the same, unless
// only registered rooms can.
type (
	// RoomRegistered says that the room exists, and what is known of it.
	RoomRegistered struct {
		RoomID  RoomID    `json:"roomId"`
		Details Details   `json:"details"`
		At      time.Time `json:"at"`
	}

	// RoomChanged says all that is known of the room from now on.
	RoomChanged struct {
		RoomID  RoomID    `json:"roomId"`
		Details Details   `json:"details"`
		At      time.Time `json:"at"`
	}

	// RoomRetired says that the room cannot be booked for any time after From, and what becomes of the bookings that reach beyond it.
	RoomRetired struct {
		RoomID   RoomID           `json:"roomId"`
		From     time.Time        `json:"from"`
		Bookings AffectedBookings `json:"bookings"`
		At       time.Time        `json:"at"`
	}

	// RoomReinstated says that the room is not retired any more.
	RoomReinstated struct {
		RoomID RoomID    `json:"roomId"`
		At     time.Time `json:"at"`
	}

	// RulesSet says the rules of the room from now on, all of them. Existing bookings stay as they are.
	RulesSet struct {
		RoomID RoomID    `json:"roomId"`
		Rules  Rules     `json:"rules"`
		At     time.Time `json:"at"`
	}

	// PeriodClosed says that the room cannot be booked for any part of the slot, and what becomes of the bookings that overlap it.
	PeriodClosed struct {
		ClosureID ClosureID        `json:"closureId"`
		RoomID    RoomID           `json:"roomId"`
		Slot      Slot             `json:"slot"`
		Reason    string           `json:"reason,omitempty"`
		Bookings  AffectedBookings `json:"bookings"`
		At        time.Time        `json:"at"`
	}

	// PeriodReopened says that the closure is over.
	PeriodReopened struct {
		ClosureID ClosureID `json:"closureId"`
		RoomID    RoomID    `json:"roomId"`
		At        time.Time `json:"at"`
	}
)

func (RoomRegistered) EventType() string { return "RoomRegistered" }
func (RoomChanged) EventType() string    { return "RoomChanged" }
func (RoomRetired) EventType() string    { return "RoomRetired" }
func (RoomReinstated) EventType() string { return "RoomReinstated" }
func (RulesSet) EventType() string       { return "RulesSet" }
func (PeriodClosed) EventType() string   { return "PeriodClosed" }
func (PeriodReopened) EventType() string { return "PeriodReopened" }

// ClosureID names a closed period of a room; the text form of a UUID.
type ClosureID string

// AffectedBookings says what becomes of the live bookings in a period that is closed.
type AffectedBookings string

const (
	KeepBookings   AffectedBookings = "keep"
	CancelBookings AffectedBookings = "cancel"
)

// Details is what is known of a registered room. Texts are Unicode in normalization form C.
type Details struct {
	Name      string   `json:"name"`
	Building  string   `json:"building,omitempty"`
	Floor     string   `json:"floor,omitempty"`
	Capacity  int      `json:"capacity,omitempty"` // persons; 0 is not known
	Equipment []string `json:"equipment,omitempty"`
	Zone      string   `json:"zone,omitempty"` // IANA name of the time zone; empty is the program's
	Colour    string   `json:"colour,omitempty"`
	Note      string   `json:"note,omitempty"`
	Approvers []UserID `json:"approvers,omitempty"`
}
