package commands

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

// Request says who asks, when, and under which id. The id is stored with everything that the command decides and what follows from it.
type Request struct {
	ID            uuid.UUID
	Actor         domain.Actor
	Client        string // the network that it came from; empty if that is not known, or not to be kept
	At            time.Time
	CorrelationID string // empty: the command's id
	TraceParent   string // W3C trace context, may be empty

	// Digest is a digest of everything the caller asks for if ID was derived from a key that the caller chose (Idempotency-Key);
	// otherwise it is empty. Such a command is remembered forever: asked again, it is answered as it was the first time and nothing
	// is done, even if there had been nothing to do, or if it had been refused and the caller told [Handler.Refused] so. Another
	// digest under the same ID is [ErrKeyReused].
	Digest string
	// IfRevisions, if not nil, are the revisions of the resource at which the command may change it, and UnlessRevisions those at which
	// it may not. At any other it fails with *[ConditionFailed], unless it is refused anyway. A room is at the revision of the last event
	// of its own, whatever was booked since.
	IfRevisions     []domain.Revision
	UnlessRevisions []domain.Revision
}

// allows reports whether the command may change a resource at the revision.
func (r Request) allows(revision domain.Revision) bool {
	return (r.IfRevisions == nil || slices.Contains(r.IfRevisions, revision)) && !slices.Contains(r.UnlessRevisions, revision)
}

// The commands.
type (
	// CreateBooking books a room.
	CreateBooking struct {
		Request
		Room domain.RoomID
		User domain.UserID
		Slot domain.Slot
		// Override books though the slot breaks rules of the room, which is up to administrators.
		Override bool
	}
	// ChangeBooking changes the values that are not nil.
	ChangeBooking struct {
		Request
		Booking domain.BookingID
		Room    *domain.RoomID
		User    *domain.UserID
		Start   *time.Time
		End     *time.Time
		// Phase, if not empty, is the phase that the booking must be in. In any other the command fails with *[OtherPhase], unless it is
		// refused anyway.
		Phase domain.Phase
		// Override is as in [CreateBooking].
		Override bool
	}
	// CancelBooking cancels for the user.
	CancelBooking struct {
		Request
		Booking domain.BookingID
	}
	// AnswerConfirm is the administrator's answer to a booking.
	AnswerConfirm struct {
		Request
		Booking    domain.BookingID
		Answer     domain.Answer // domain.Confirmed or domain.Denied
		By         domain.UserID // may be empty
		Reason     string        // of a denial, may be empty
		AnsweredAt time.Time
	}
	// StartUse starts the real use of a booked room.
	StartUse struct {
		Request
		Booking   domain.BookingID
		StartedAt time.Time
	}
	// EndUse ends a real use.
	EndUse struct {
		Request
		RealUse domain.RealUseID
		EndedAt time.Time
	}
	// RegisterRoom makes a room known.
	RegisterRoom struct {
		Request
		Room    domain.RoomID
		Details domain.Details
	}
	// ChangeRoom changes what is known of a room, all of it.
	ChangeRoom struct {
		Request
		Room    domain.RoomID
		Details domain.Details
	}
	// RetireRoom ends the bookability of a room at a time; zero is now.
	RetireRoom struct {
		Request
		Room     domain.RoomID
		From     time.Time
		Bookings domain.AffectedBookings // of bookings that end after it; empty is domain.KeepBookings
	}
	// ReinstateRoom ends the retirement of a room.
	ReinstateRoom struct {
		Request
		Room domain.RoomID
	}
	// SetRules sets the rules of a room, all of them.
	SetRules struct {
		Request
		Room  domain.RoomID
		Rules domain.Rules
	}
	// ClosePeriod closes a room for a period. The closure gets the command's id.
	ClosePeriod struct {
		Request
		Room     domain.RoomID
		Slot     domain.Slot
		Reason   string                  // may be empty
		Bookings domain.AffectedBookings // of bookings that overlap it; empty is domain.KeepBookings
	}
	// ReopenPeriod ends a closure.
	ReopenPeriod struct {
		Request
		Room    domain.RoomID
		Closure domain.ClosureID
	}
	// SetPhoto gives a room a photo.
	SetPhoto struct {
		Request
		Room   domain.RoomID
		Upload []byte // in a format of [picture.Types]; nil keeps the picture that the room has
		Alt    string // says what there is to be seen
	}
	// RemovePhoto leaves a room without a photo.
	RemovePhoto struct {
		Request
		Room domain.RoomID
	}
	// ReportFault reports that something in a room is broken. The fault gets the command's id.
	ReportFault struct {
		Request
		Room      domain.RoomID
		Equipment string // of the room; empty is something else
		Text      string // may be empty
	}
	// SettleFault settles a fault of a room.
	SettleFault struct {
		Request
		Room  domain.RoomID
		Fault domain.FaultID
		Note  string // may be empty
	}
)

// Booking is a booking as of its last event, and where in the log that is.
type Booking struct {
	domain.Booking
	// Revision is that of the booking's last event.
	Revision domain.Revision
	// Position is that of the last event of the booking and of its use. A list that has got there shows all of this.
	Position eventstore.Position
}

// RealUse is a real use as of its last event, and where in the log that is.
type RealUse struct {
	domain.RealUse
	Revision domain.Revision
	Position eventstore.Position
}

// Room is a room as of the last event of its own, and where in the log that is.
type Room struct {
	domain.Room
	// Position is that of the last event of the room itself, or of the last booking that the command cancelled. A list that has got there
	// shows all of this.
	Position eventstore.Position
}

// Fault is a fault of a room, and where in the log the last event about any fault of the room is.
type Fault struct {
	domain.RoomFault
	// Revision is that of the room's faults.
	Revision domain.Revision
	Position eventstore.Position
}

// Faults are the faults of a room as of the last event about any of them.
type Faults struct {
	domain.RoomFaults
	Revision domain.Revision
	Position eventstore.Position
}

// ConditionFailed means that the resource is not at a revision at which the caller wants it changed.
type ConditionFailed struct {
	Revision domain.Revision // of the resource
}

func (e *ConditionFailed) Error() string {
	return fmt.Sprintf("the resource is at revision %d", e.Revision)
}

// OtherPhase means that the booking is not in the phase that the caller believes it to be in.
type OtherPhase struct {
	Phase domain.Phase // of the booking
}

func (e *OtherPhase) Error() string { return fmt.Sprintf("the booking is %s", e.Phase) }

// ErrContended means that others kept changing the same room or booking while the command was trying to. Nothing was decided.
var ErrContended = errors.New("too many others are changing the same room or booking")

// ErrHistoryBusy means that a command needed the whole calendar of a room, for a slot that is further back than is remembered, and that
// others were reading theirs. Nothing was decided.
var ErrHistoryBusy = errors.New("too many commands need more of a room's history than is remembered")
