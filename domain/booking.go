package domain

import (
	"fmt"
	"slices"
	"time"
)

// The events of a booking stream. They are stored forever.
type (
	// BookingCreated says that the booking exists, backed by its first reservation.
	BookingCreated struct {
		BookingID     BookingID     `json:"bookingId"`
		ReservationID ReservationID `json:"reservationId"`
		RoomID        RoomID        `json:"roomId"`
		UserID        UserID        `json:"userId"`
		Slot          Slot          `json:"slot"`
		At            time.Time     `json:"at"`
		UseFrom       time.Time     `json:"useFrom,omitzero"` // as in [SlotReserved]
	}

	// ConfirmRequested says that an administrator is asked to confirm the booking as it is now; an earlier answer is void.
	ConfirmRequested struct {
		BookingID BookingID `json:"bookingId"`
		RoomID    RoomID    `json:"roomId"`
		UserID    UserID    `json:"userId"`
		At        time.Time `json:"at"`
	}

	// BookingChanged says what the whole booking is from now on, and which reservation backs it.
	BookingChanged struct {
		BookingID     BookingID     `json:"bookingId"`
		ReservationID ReservationID `json:"reservationId"`
		RoomID        RoomID        `json:"roomId"`
		UserID        UserID        `json:"userId"`
		Slot          Slot          `json:"slot"`
		At            time.Time     `json:"at"`
		UseFrom       time.Time     `json:"useFrom,omitzero"` // as in [SlotReserved]
	}

	// BookingHandedOver says that the booking belongs to another user from now on. It follows the BookingChanged that made it so, in the
	// same append, and exists for the sake of the user who lost it.
	BookingHandedOver struct {
		BookingID    BookingID `json:"bookingId"`
		RoomID       RoomID    `json:"roomId"`
		UserID       UserID    `json:"userId"`
		FormerUserID UserID    `json:"formerUserId"`
		// FormerRoomID is the room that the former user had, if it is another one.
		FormerRoomID RoomID    `json:"formerRoomId,omitempty"`
		At           time.Time `json:"at"`
	}

	// ConfirmCompleted says that the administrator confirmed, or that the rules of the room ask nobody.
	ConfirmCompleted struct {
		BookingID     BookingID `json:"bookingId"`
		RoomID        RoomID    `json:"roomId"`
		UserID        UserID    `json:"userId"`
		ConfirmUserID UserID    `json:"confirmUserId,omitempty"`
		Reason        string    `json:"reason,omitempty"`
		At            time.Time `json:"at"`
	}

	// ConfirmDenied says that the administrator denied. BookingCancelled follows in the same append.
	ConfirmDenied struct {
		BookingID     BookingID `json:"bookingId"`
		RoomID        RoomID    `json:"roomId"`
		UserID        UserID    `json:"userId"`
		ConfirmUserID UserID    `json:"confirmUserId,omitempty"`
		Reason        string    `json:"reason,omitempty"`
		At            time.Time `json:"at"`
	}

	// BookingCheckedIn says that the use of the room starts. It carries everything the real use will say.
	BookingCheckedIn struct {
		BookingID BookingID `json:"bookingId"`
		RealUseID RealUseID `json:"realUseId"`
		RoomID    RoomID    `json:"roomId"`
		UserID    UserID    `json:"userId"`
		StartedAt time.Time `json:"startedAt"`
		// RoomStillInUseBy is another booking whose use of the room had not ended when this one started; empty if none was found.
		RoomStillInUseBy BookingID `json:"roomStillInUseBy,omitempty"`
	}

	// BookingUnblocked says that an operator ended the booking because one of its events could not be decoded. BookingCancelled follows
	// in the same append.
	BookingUnblocked struct {
		BookingID BookingID `json:"bookingId"`
		Reason    string    `json:"reason"`
		At        time.Time `json:"at"`
	}

	// BookingCancelled says that the booking is over, why, and which reservation backed it. Nothing follows it.
	BookingCancelled struct {
		BookingID     BookingID     `json:"bookingId"`
		ReservationID ReservationID `json:"reservationId"`
		RoomID        RoomID        `json:"roomId"`
		UserID        UserID        `json:"userId"`
		Reason        CancelReason  `json:"reason"`
		At            time.Time     `json:"at"`
		// UsedUntil is the end of the use that ended the booking. It is zero if no use did, and in events of older versions, which gave
		// back the whole slot after a use.
		UsedUntil time.Time `json:"usedUntil,omitzero"`
		// Detail says in words why the room was closed; it may be empty.
		Detail string `json:"detail,omitempty"`
	}
)

func (BookingCreated) EventType() string    { return "BookingCreated" }
func (ConfirmRequested) EventType() string  { return "ConfirmRequested" }
func (BookingChanged) EventType() string    { return "BookingChanged" }
func (BookingHandedOver) EventType() string { return "BookingHandedOver" }
func (ConfirmCompleted) EventType() string  { return "ConfirmCompleted" }
func (ConfirmDenied) EventType() string     { return "ConfirmDenied" }
func (BookingCheckedIn) EventType() string  { return "BookingCheckedIn" }
func (BookingCancelled) EventType() string  { return "BookingCancelled" }
func (BookingUnblocked) EventType() string  { return "BookingUnblocked" }

// CancelReason says why a booking is over.
type CancelReason string

const (
	CancelledByUser   CancelReason = "user"
	CancelledByDenial CancelReason = "denied"
	CancelledByUseEnd CancelReason = "use-ended"
	CancelledByAdmin  CancelReason = "admin"
	// CancelledByClosure is for bookings in a period in which their room was closed, or after it was retired.
	CancelledByClosure CancelReason = "room-closed"
)

// ConfirmedByRules stands for the administrator where the rules of the room ask nobody.
const ConfirmedByRules UserID = "rules"

// Phase is where a booking is in its life.
type Phase string

const (
	PhaseNone      Phase = "" // nothing has been booked
	PhaseBooked    Phase = "BOOKED"
	PhaseConfirmed Phase = "CONFIRMED"
	PhaseInUse     Phase = "IN_USE"
	PhaseCancelled Phase = "CANCELLED"
)

// Answer is what the administrator said.
type Answer string

const (
	AnswerPending Answer = "BOOKED" // asked, not answered
	Confirmed     Answer = "CONFIRMED"
	Denied        Answer = "DENIED"
)

// Confirm is the administrator's answer to a booking as it is now.
type Confirm struct {
	Answer Answer
	By     UserID // who answered; may be empty
	Reason string // may be empty
	At     time.Time
}

// Use is what a booking knows about the use of its room.
type Use struct {
	RealUse   RealUseID
	StartedAt time.Time
}

// Cancellation is how a booking ended.
type Cancellation struct {
	Reason    CancelReason
	At        time.Time
	UsedUntil time.Time // the end of the use that ended the booking, up to which its slot stays taken; zero if no use did
}

// Booking is the state of one booking. The zero value is a booking that does not exist. A Booking is a value: Evolve changes neither
// the booking it is called on nor anything that one points to.
type Booking struct {
	ID          BookingID // empty if it does not exist
	Room        RoomID
	User        UserID
	Slot        Slot
	Reservation ReservationID // the one that backs the booking, or backed it last
	CreatedAt   time.Time
	Confirm     Confirm
	UseFrom     time.Time // when the use may start at the earliest by the rules of the room; zero is as the policy says

	Use          *Use          // nil until it is checked in
	Cancellation *Cancellation // nil while it is live

	// Earliest is the earliest start of the slots that the booking ever had; zero if they are not known, because an event cannot be decoded.
	Earliest time.Time
	// Former are the reservations that backed the booking before.
	Former []RoomReservation
	// Changes counts how often the booking was changed.
	Changes int
}

// Phase is where the booking is in its life.
func (b Booking) Phase() Phase {
	switch {
	case b.ID == "":
		return PhaseNone
	case b.Cancellation != nil:
		return PhaseCancelled
	case b.Use != nil:
		return PhaseInUse
	case b.Confirm.Answer == Confirmed:
		return PhaseConfirmed
	default:
		return PhaseBooked
	}
}

// MaxChanges is how often a booking can be changed. It keeps the stream short, which every command on the booking reads.
const MaxChanges = 100

// RoomReservation is a reservation and the room whose calendar it is in.
type RoomReservation struct {
	Room        RoomID
	Reservation ReservationID
}

// Live reports whether the booking exists and is not over.
func (b Booking) Live() bool { return b.ID != "" && b.Cancellation == nil }

// BackedBy reports whether the booking is live and the reservation backs it.
func (b Booking) BackedBy(id ReservationID) bool { return b.Live() && b.Reservation == id }

// EverBackedBy reports whether the reservation backs the booking or ever did.
func (b Booking) EverBackedBy(id ReservationID) bool {
	return b.Reservation == id || slices.ContainsFunc(b.Former, func(f RoomReservation) bool { return f.Reservation == id })
}

// UsedOn is the time until which the slot of the reservation was used; zero if the booking is not over or the slot was not used.
func (b Booking) UsedOn(id ReservationID) time.Time {
	if b.Cancellation == nil || b.Reservation != id {
		return time.Time{}
	}
	return b.Cancellation.UsedUntil
}

// Outlived reports whether the reservation does not back the booking at this revision and never will (again), so that it can be
// released. It reports true only on proof: for a booking that was read from before the reservation was made it reports false.
func (b Booking) Outlived(r SlotReserved, revision Revision) bool {
	switch {
	case b.ID == "" || b.BackedBy(r.ReservationID):
		return false
	case b.Use != nil || b.Cancellation != nil:
		return true // it cannot move any more
	case r.Replaces == "":
		return true // the booking has been created, with this reservation or another
	case r.IfRevision != 0 && revision > r.IfRevision:
		return true
	default:
		return b.Reservation != r.Replaces && b.EverBackedBy(r.Replaces)
	}
}

// Rooms lists the rooms of the reservations that back the booking or ever did.
func (b Booking) Rooms() []RoomID {
	if b.ID == "" {
		return nil
	}
	rooms := []RoomID{b.Room}
	for _, f := range b.Former {
		if !slices.Contains(rooms, f.Room) {
			rooms = append(rooms, f.Room)
		}
	}
	return rooms
}

// Evolve folds one event of the booking's stream.
func (b Booking) Evolve(event Event) Booking {
	switch e := event.(type) {
	case BookingCreated:
		b.ID, b.Room, b.User, b.Slot = e.BookingID, e.RoomID, e.UserID, e.Slot
		b.Reservation = e.ReservationID
		b.CreatedAt, b.Earliest, b.UseFrom = e.At, e.Slot.Start, e.UseFrom
	case ConfirmRequested:
		b.Confirm = Confirm{Answer: AnswerPending}
	case BookingChanged:
		if e.ReservationID != b.Reservation {
			b.Former = append(b.Former[:len(b.Former):len(b.Former)], RoomReservation{b.Room, b.Reservation})
		}
		b.Room, b.User, b.Slot = e.RoomID, e.UserID, e.Slot
		b.Reservation, b.UseFrom = e.ReservationID, e.UseFrom
		if e.Slot.Start.Before(b.Earliest) {
			b.Earliest = e.Slot.Start
		}
		b.Changes++
	case ConfirmCompleted:
		b.Confirm = Confirm{Answer: Confirmed, By: e.ConfirmUserID, Reason: e.Reason, At: e.At}
	case ConfirmDenied:
		b.Confirm = Confirm{Answer: Denied, By: e.ConfirmUserID, Reason: e.Reason, At: e.At}
	case BookingCheckedIn:
		b.ID = e.BookingID // the booking exists even if its BookingCreated cannot be decoded
		b.Use = &Use{RealUse: e.RealUseID, StartedAt: e.StartedAt}
	case BookingUnblocked:
		b.Earliest = time.Time{}
	case BookingCancelled:
		b.ID = e.BookingID // likewise
		b.Cancellation = &Cancellation{Reason: e.Reason, At: e.At, UsedUntil: e.UsedUntil}
	}
	return b
}

// RequireLive returns nil for a live booking, and otherwise [ErrBookingNotFound] or [*AlreadyCancelled].
func (b Booking) RequireLive() error {
	switch over := b.Cancellation; {
	case b.ID == "":
		return ErrBookingNotFound
	case over != nil:
		return &AlreadyCancelled{Booking: b.ID, Reason: over.Reason, At: over.At}
	default:
		return nil
	}
}

// requireUnused returns nil for a live booking whose use has not started.
func (b Booking) requireUnused() error {
	if b.Phase() == PhaseInUse {
		return &AlreadyInUse{Booking: b.ID, RealUse: b.Use.RealUse}
	}
	return b.RequireLive()
}

// DecideCreate creates the booking that the reservation was made for, and asks for its confirmation, unless the room needs none.
//
//	given no booking  then BookingCreated, and ConfirmRequested or ConfirmCompleted{by rules}
//	otherwise         then nothing: a repeat
func DecideCreate(b Booking, r SlotReserved) []Event {
	if b.ID != "" {
		return nil
	}
	return []Event{
		BookingCreated{BookingID: r.BookingID, ReservationID: r.ReservationID, RoomID: r.RoomID, UserID: r.UserID, Slot: r.Slot, At: r.At, UseFrom: r.UseFrom},
		r.confirmation(r.UserID),
	}
}

// confirmation asks for the confirmation of the booking, or gives it if the room needs none.
func (r SlotReserved) confirmation(user UserID) Event {
	if r.Approval == ApprovalNone {
		return ConfirmCompleted{BookingID: r.BookingID, RoomID: r.RoomID, UserID: user, ConfirmUserID: ConfirmedByRules, At: r.At}
	}
	return ConfirmRequested{BookingID: r.BookingID, RoomID: r.RoomID, UserID: user, At: r.At}
}

// Change asks for other values; nil leaves a value as it is.
type Change struct {
	Room  *RoomID
	User  *UserID
	Start *time.Time
	End   *time.Time
	At    time.Time
	// Counted says that the room counts what a user has, so that another user needs another reservation too.
	Counted bool
}

// Target is the room, the user and the slot that the booking would have after the change.
func (b Booking) Target(c Change) (RoomID, UserID, Slot) {
	room, user, slot := b.Room, b.User, b.Slot
	if c.Room != nil {
		room = *c.Room
	}
	if c.User != nil {
		user = *c.User
	}
	if c.Start != nil {
		slot.Start = *c.Start
	}
	if c.End != nil {
		slot.End = *c.End
	}
	return room, user, slot
}

// DecideChange changes a booking. A new room or time needs a reservation first: then moves is true, nothing is decided
// yet, and DecideMove decides once the slot is reserved.
//
//	given it is live, use not started, other room or slot,
//	or other user where users are counted                  then moves
//	given it is live, use not started, other user only     then BookingChanged, BookingHandedOver; the confirmation stays
//	given it has these values                              then nothing: a repeat
//	given it was changed MaxChanges times                  then *TooManyChanges
//	given its use has started                              then *AlreadyInUse
//	given it is cancelled                                  then *AlreadyCancelled
//	given no booking                                       then ErrBookingNotFound
func DecideChange(b Booking, c Change) (events []Event, moves bool, err error) {
	if err := b.requireUnused(); err != nil {
		return nil, false, err
	}
	room, user, slot := b.Target(c)
	moves = room != b.Room || !slot.Equal(b.Slot) || c.Counted && user != b.User
	switch {
	case !moves && user == b.User:
		return nil, false, nil
	case b.Changes >= MaxChanges:
		return nil, false, &TooManyChanges{b.ID}
	case moves:
		return nil, true, nil
	}
	return []Event{
		BookingChanged{BookingID: b.ID, ReservationID: b.Reservation, RoomID: b.Room, UserID: user, Slot: b.Slot, At: c.At, UseFrom: b.UseFrom},
		BookingHandedOver{BookingID: b.ID, RoomID: b.Room, UserID: user, FormerUserID: b.User, At: c.At},
	}, false, nil
}

// DecideMove moves the booking to a new reservation, which replaces the one that backs it, and asks for confirmation again, unless the room
// needs none. Where only the user is another one, the confirmation stays. The booking's revision is that of its last event.
//
//	given what r replaces backs it, use not started, and r's revision condition holds  then BookingChanged, and ConfirmRequested or
//	                                                                                   ConfirmCompleted{by rules} if the room or slot
//	                                                                                   is another one, and BookingHandedOver if the
//	                                                                                   user is
//	otherwise                                                                          then nothing, now and forever
func DecideMove(b Booking, revision Revision, r SlotReserved) []Event {
	if b.requireUnused() != nil || r.Replaces == "" || !b.BackedBy(r.Replaces) {
		return nil
	}
	if r.IfRevision != 0 && r.IfRevision != revision {
		return nil
	}
	user := r.UserID
	if user == "" {
		user = b.User
	}
	change := BookingChanged{BookingID: b.ID, ReservationID: r.ReservationID, RoomID: r.RoomID, UserID: user, Slot: r.Slot, At: r.At, UseFrom: r.UseFrom}
	var events []Event
	if r.RoomID == b.Room && r.Slot.Equal(b.Slot) {
		change.UseFrom = b.UseFrom
		events = []Event{change}
	} else {
		events = []Event{change, r.confirmation(user)}
	}
	if user != b.User {
		handedOver := BookingHandedOver{BookingID: b.ID, RoomID: r.RoomID, UserID: user, FormerUserID: b.User, At: r.At}
		if r.RoomID != b.Room {
			handedOver.FormerRoomID = b.Room
		}
		events = append(events, handedOver)
	}
	return events
}

// Cancel ends a booking before its use.
type Cancel struct {
	Reason CancelReason
	Detail string // of [CancelledByClosure], may be empty
	At     time.Time
}

// DecideCancel cancels a booking.
//
//	given it is live, use not started  then BookingCancelled
//	given its use has started          then *AlreadyInUse: end the use instead
//	given it is cancelled              then *AlreadyCancelled
//	given no booking                   then ErrBookingNotFound
func DecideCancel(b Booking, c Cancel) ([]Event, error) {
	if err := b.requireUnused(); err != nil {
		return nil, err
	}
	over := b.cancelled(c.Reason, c.At)
	over.Detail = c.Detail
	return []Event{over}, nil
}

// DecideUnblock ends a booking with events that could not be decoded, so that its state may be empty or wrong.
//
//	given it is cancelled  then nothing: a repeat
//	otherwise              then BookingUnblocked, BookingCancelled{admin}
func DecideUnblock(b Booking, id BookingID, reason string, at time.Time) []Event {
	if b.Cancellation != nil {
		return nil
	}
	b.ID = id
	return []Event{BookingUnblocked{BookingID: id, Reason: reason, At: at}, b.cancelled(CancelledByAdmin, at)}
}

func (b Booking) cancelled(reason CancelReason, at time.Time) BookingCancelled {
	return BookingCancelled{BookingID: b.ID, ReservationID: b.Reservation, RoomID: b.Room, UserID: b.User, Reason: reason, At: at}
}

// AnswerConfirm is the administrator's answer.
type AnswerConfirm struct {
	Answer     Answer // Confirmed or Denied
	By         UserID
	Reason     string    // may be empty
	AnsweredAt time.Time // when the administrator answered
	At         time.Time // when the system is told
}

// maxReason is the maximum length of the reason of an answer, in characters.
const maxReason = 1000

// DecideConfirm records the administrator's answer. A denial cancels the booking in the same append. A use that has
// started can still be confirmed, not denied.
//
//	given the answer is pending            then ConfirmCompleted, or ConfirmDenied and BookingCancelled{denied}
//	given the same answer                  then nothing: a repeat
//	given confirmed, when denying          then *AlreadyConfirmed
//	given its use has started, when denying then *AlreadyInUse
//	given another answer, or a reason that
//	is too long or has control characters  then *Invalid
//	given it is cancelled                  then *AlreadyCancelled
//	given no booking                       then ErrBookingNotFound
func DecideConfirm(b Booking, a AnswerConfirm) ([]Event, error) {
	if b.Confirm.Answer == Denied && a.Answer == Denied {
		return nil, nil
	}
	if err := b.RequireLive(); err != nil {
		return nil, err
	}
	reason, fault := normalText(a.Reason, maxReason, true)
	if a.Reason = reason; fault != "" {
		return nil, &Invalid{[]Fault{{"reason", fault}}}
	}
	switch a.Answer {
	case Confirmed:
		if b.Confirm.Answer == Confirmed {
			return nil, nil
		}
		return []Event{ConfirmCompleted{BookingID: b.ID, RoomID: b.Room, UserID: b.User, ConfirmUserID: a.By, Reason: a.Reason, At: a.AnsweredAt}}, nil
	case Denied:
	default: // only an explicit denial cancels a booking
		return nil, &Invalid{[]Fault{{FieldAnswer, fmt.Sprintf("must be %s or %s", Confirmed, Denied)}}}
	}
	if err := b.requireUnused(); err != nil {
		return nil, err
	}
	if b.Confirm.Answer == Confirmed {
		return nil, &AlreadyConfirmed{Booking: b.ID, By: b.Confirm.By, At: b.Confirm.At}
	}
	return []Event{
		ConfirmDenied{BookingID: b.ID, RoomID: b.Room, UserID: b.User, ConfirmUserID: a.By, Reason: a.Reason, At: a.AnsweredAt},
		b.cancelled(CancelledByDenial, a.At),
	}, nil
}

// CheckIn starts the use of a booking.
type CheckIn struct {
	StartedAt time.Time
	// RoomStillInUseBy is another booking whose use of the room has not ended; empty if none was found.
	RoomStillInUseBy BookingID
}

// DecideCheckIn starts the use of a booking, which from then on can be neither changed nor cancelled until the use ends.
//
//	given it is live, use not started               then BookingCheckedIn
//	given its use has started                       then *AlreadyInUse
//	given pending and the policy wants an answer    then ErrConfirmationPending
//	given a start too far from its slot, or before
//	the room's rules allow                          then *UseOffSlot
//	given it is cancelled                           then *AlreadyCancelled
//	given no booking                                then ErrBookingNotFound
func DecideCheckIn(b Booking, c CheckIn, p Policy) ([]Event, error) {
	if err := b.requireUnused(); err != nil {
		return nil, err
	}
	if p.ConfirmBeforeUse && b.Confirm.Answer != Confirmed {
		return nil, ErrConfirmationPending
	}
	if err := p.checkUse(b, c.StartedAt); err != nil {
		return nil, err
	}
	return []Event{BookingCheckedIn{
		BookingID: b.ID, RealUseID: RealUseOf(b.ID), RoomID: b.Room, UserID: b.User, StartedAt: c.StartedAt, RoomStillInUseBy: c.RoomStillInUseBy,
	}}, nil
}

// DecideUseOver cancels the booking whose real use has ended, as of the time when that became known.
//
//	given it is in use  then BookingCancelled{use-ended}
//	otherwise           then nothing: a repeat
func DecideUseOver(b Booking, use RealUse) []Event {
	if b.Phase() != PhaseInUse || use.End == nil {
		return nil
	}
	over := b.cancelled(CancelledByUseEnd, use.End.KnownAt)
	over.UsedUntil = use.End.At
	return []Event{over}
}
