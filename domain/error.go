package domain

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrBookingNotFound means that no booking has this id.
	ErrBookingNotFound = errors.New("there is no such booking")
	// ErrRealUseNotFound means that no real use has this id.
	ErrRealUseNotFound = errors.New("there is no such real use")
	// ErrRoomNotFound means that no room has been registered with this id.
	ErrRoomNotFound = errors.New("there is no such room")
	// ErrClosureNotFound means that the room has no closure with this id, or none that is left.
	ErrClosureNotFound = errors.New("there is no such closure")
	// ErrFaultNotFound means that the room has no fault with this id, or that it was settled long ago.
	ErrFaultNotFound = errors.New("there is no such fault")
	// ErrConfirmationPending means that the policy asks for an administrator's confirmation before the use may start.
	ErrConfirmationPending = errors.New("the booking has not been confirmed yet")
)

// SlotTaken means that other bookings hold a part of the slot.
type SlotTaken struct {
	Room RoomID
	Slot Slot
	By   []*Reservation // by start
	// More is how many further reservations overlap the slot. Whether they still back bookings has not been checked.
	More int
}

func (e *SlotTaken) Error() string {
	return fmt.Sprintf("room %s is taken in %s", e.Room, e.Slot)
}

// RoomExists means that the room has been registered, with other details.
type RoomExists struct {
	Room    RoomID
	Details Details
}

func (e *RoomExists) Error() string { return fmt.Sprintf("room %s is registered already", e.Room) }

// RuleBroken means that the slot breaks rules of the room.
type RuleBroken struct {
	Room   RoomID
	Slot   Slot
	Broken []BrokenRule   // all of them
	By     []*Reservation // because of which it does
}

func (e *RuleBroken) Error() string {
	var words []string
	for _, b := range e.Broken {
		words = append(words, b.Detail)
	}
	return fmt.Sprintf("room %s cannot be booked for %s: %s", e.Room, e.Slot, strings.Join(words, "; "))
}

// RoomClosed means that the room is closed in a part of the slot.
type RoomClosed struct {
	Room     RoomID
	Slot     Slot
	By       []Closure // by start
	Earliest time.Time // as in [BrokenRule]
}

func (e *RoomClosed) Error() string {
	return fmt.Sprintf("room %s is closed in a part of %s", e.Room, e.Slot)
}

// Retired means that the room cannot be booked beyond a time.
type Retired struct {
	Room RoomID
	From time.Time
}

func (e *Retired) Error() string {
	return fmt.Sprintf("room %s is retired from %s on", e.Room, e.From.UTC().Format(time.RFC3339))
}

// AlreadyCancelled means that the booking is over.
type AlreadyCancelled struct {
	Booking BookingID
	Reason  CancelReason
	At      time.Time
}

func (e *AlreadyCancelled) Error() string {
	return fmt.Sprintf("booking %s was cancelled (%s)", e.Booking, e.Reason)
}

// AlreadyInUse means that the use of the booking has started: it can be neither changed nor cancelled, nor started again.
type AlreadyInUse struct {
	Booking BookingID
	RealUse RealUseID
}

func (e *AlreadyInUse) Error() string { return fmt.Sprintf("booking %s is in use", e.Booking) }

// TooManyChanges means that the booking has been changed [MaxChanges] times, and must be replaced by a new one instead.
type TooManyChanges struct{ Booking BookingID }

func (e *TooManyChanges) Error() string {
	return fmt.Sprintf("booking %s was changed %d times and can change no more", e.Booking, MaxChanges)
}

// AlreadyConfirmed means that the booking has been confirmed and can no longer be denied.
type AlreadyConfirmed struct {
	Booking BookingID
	By      UserID
	At      time.Time
}

func (e *AlreadyConfirmed) Error() string {
	return fmt.Sprintf("booking %s has been confirmed", e.Booking)
}

// AlreadyEnded means that the use has ended, at another time than the one given now.
type AlreadyEnded struct {
	RealUse RealUseID
	At      time.Time
}

func (e *AlreadyEnded) Error() string {
	return fmt.Sprintf("real use %s ended at %s", e.RealUse, e.At.UTC().Format(time.RFC3339))
}

// EndBeforeStart means that a use cannot end before it started.
type EndBeforeStart struct{ StartedAt time.Time }

func (e *EndBeforeStart) Error() string {
	return "the use started later, at " + e.StartedAt.UTC().Format(time.RFC3339Nano)
}

// UseOffSlot means that a use may not start that long before or after the booking's slot.
type UseOffSlot struct {
	Booking          BookingID
	StartedAt        time.Time
	Earliest, Latest time.Time // when it may start, both inclusive; Latest is zero if there is no bound
}

func (e *UseOffSlot) Error() string {
	if e.Latest.IsZero() {
		return fmt.Sprintf("the use of booking %s may start from %s on", e.Booking, e.Earliest.UTC().Format(time.RFC3339Nano))
	}
	return fmt.Sprintf("the use of booking %s may start from %s to %s", e.Booking, e.Earliest.UTC().Format(time.RFC3339Nano), e.Latest.UTC().Format(time.RFC3339Nano))
}

// Field names a value of a command, or a value within one by its path: equipment/3.
type Field string

const (
	FieldStart  Field = "start"
	FieldEnd    Field = "end"
	FieldAnswer Field = "answer"
)

// Fault is one thing wrong with one value of a command.
type Fault struct {
	Field  Field
	Detail string
}

// Invalid lists everything that is wrong with a command's values.
type Invalid struct{ Faults []Fault }

func (e *Invalid) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %s", f.Field, f.Detail)
	}
	return b.String()
}
