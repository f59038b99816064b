package domain

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

// noon is when everything in these tests is told.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// hours is the slot between two hours after noon.
func hours(from, to int) Slot {
	return Slot{noon.Add(time.Duration(from) * time.Hour), noon.Add(time.Duration(to) * time.Hour)}
}

func ptr[T any](v T) *T { return &v }

// The events of one booking and how far they may have come.
var (
	created    = BookingCreated{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "ann", Slot: hours(1, 2), At: noon}
	requested  = ConfirmRequested{BookingID: "b", RoomID: "red", UserID: "ann", At: noon}
	completed  = ConfirmCompleted{BookingID: "b", RoomID: "red", UserID: "ann", ConfirmUserID: "admin", At: noon.Add(time.Minute)}
	denied     = ConfirmDenied{BookingID: "b", RoomID: "red", UserID: "ann", ConfirmUserID: "admin", Reason: "cleaning", At: noon.Add(time.Minute)}
	changed    = BookingChanged{BookingID: "b", ReservationID: "r2", RoomID: "blue", UserID: "ann", Slot: hours(3, 4), At: noon.Add(time.Minute)}
	askedAgain = ConfirmRequested{BookingID: "b", RoomID: "blue", UserID: "ann", At: noon.Add(time.Minute)}
	checkedIn  = BookingCheckedIn{BookingID: "b", RealUseID: RealUseOf("b"), RoomID: "red", UserID: "ann", StartedAt: noon.Add(time.Hour)}
	cancelled  = BookingCancelled{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "ann", Reason: CancelledByUser, At: noon.Add(time.Minute)}
	byDenial   = BookingCancelled{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "ann", Reason: CancelledByDenial, At: noon.Add(time.Minute)}
	byUseEnd   = BookingCancelled{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "ann", Reason: CancelledByUseEnd, At: noon.Add(3 * time.Hour), UsedUntil: noon.Add(2 * time.Hour)}

	givenNothing   = []Event(nil)
	givenBooked    = []Event{created, requested}
	givenConfirmed = []Event{created, requested, completed}
	givenMoved     = []Event{created, requested, completed, changed, askedAgain}
	givenInUse     = []Event{created, requested, checkedIn}
	givenConfInUse = []Event{created, requested, completed, checkedIn}
	givenCancelled = []Event{created, requested, cancelled}
	givenDenied    = []Event{created, requested, denied, byDenial}
	givenOver      = []Event{created, requested, checkedIn, byUseEnd}
)

// What a command is told about a booking that is over or in use.
var (
	toldCancelled = &AlreadyCancelled{Booking: "b", Reason: CancelledByUser, At: noon.Add(time.Minute)}
	toldDenied    = &AlreadyCancelled{Booking: "b", Reason: CancelledByDenial, At: noon.Add(time.Minute)}
	toldOver      = &AlreadyCancelled{Booking: "b", Reason: CancelledByUseEnd, At: noon.Add(3 * time.Hour)}
	toldInUse     = &AlreadyInUse{Booking: "b", RealUse: RealUseOf("b")}
	toldConfirmed = &AlreadyConfirmed{Booking: "b", By: "admin", At: noon.Add(time.Minute)}
)

// bookingCommand decides on a booking that is at a revision.
type bookingCommand func(b Booking, revision Revision) ([]Event, error)

func create(r SlotReserved) bookingCommand {
	return func(b Booking, _ Revision) ([]Event, error) { return DecideCreate(b, r), nil }
}

func changeUser(to UserID) bookingCommand {
	return func(b Booking, _ Revision) ([]Event, error) {
		events, moves, err := DecideChange(b, Change{User: &to, At: noon.Add(time.Minute)})
		if moves {
			return nil, errors.New("a change of the user wants another slot")
		}
		return events, err
	}
}

func move(r SlotReserved) bookingCommand {
	return func(b Booking, revision Revision) ([]Event, error) { return DecideMove(b, revision, r), nil }
}

func cancel(reason CancelReason) bookingCommand {
	return func(b Booking, _ Revision) ([]Event, error) {
		return DecideCancel(b, Cancel{Reason: reason, At: noon.Add(time.Minute)})
	}
}

func answer(a AnswerConfirm) bookingCommand {
	return func(b Booking, _ Revision) ([]Event, error) { return DecideConfirm(b, a) }
}

func checkIn(p Policy) bookingCommand {
	return func(b Booking, _ Revision) ([]Event, error) {
		return DecideCheckIn(b, CheckIn{StartedAt: noon.Add(time.Hour)}, p)
	}
}

func useOver(u RealUse) bookingCommand {
	return func(b Booking, _ Revision) ([]Event, error) { return DecideUseOver(b, u), nil }
}

func TestBookingDecisions(t *testing.T) {
	reserved := SlotReserved{ReservationID: "r1", BookingID: "b", RoomID: "red", UserID: "ann", Slot: hours(1, 2), At: noon, Actor: "ann", CorrelationID: "c"}
	confirm := AnswerConfirm{Answer: Confirmed, By: "admin", AnsweredAt: noon.Add(time.Minute), At: noon.Add(2 * time.Minute)}
	deny := AnswerConfirm{Answer: Denied, By: "admin", Reason: "cleaning", AnsweredAt: noon.Add(-time.Hour), At: noon.Add(time.Minute)}
	deniedEarlier := denied
	deniedEarlier.At = noon.Add(-time.Hour)
	noAnswer := &Invalid{[]Fault{{FieldAnswer, "must be CONFIRMED or DENIED"}}}

	toBlue := SlotReserved{ReservationID: "r2", BookingID: "b", RoomID: "blue", Slot: hours(3, 4), At: noon.Add(time.Minute), Replaces: "r1"}
	with := func(r SlotReserved, change func(*SlotReserved)) SlotReserved { change(&r); return r }
	forBob := with(toBlue, func(r *SlotReserved) { r.UserID = "bob" })
	changedForBob, askedForBob := changed, askedAgain
	changedForBob.UserID, askedForBob.UserID = "bob", "bob"
	further := with(toBlue, func(r *SlotReserved) { r.ReservationID, r.Replaces, r.Slot = "r3", "r2", hours(5, 6) })
	changedFurther := changed
	changedFurther.ReservationID, changedFurther.Slot = "r3", hours(5, 6)
	ifAt := func(at Revision) SlotReserved { return with(toBlue, func(r *SlotReserved) { r.IfRevision = at }) }

	userChanged := BookingChanged{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "bob", Slot: hours(1, 2), At: noon.Add(time.Minute)}
	handedOver := BookingHandedOver{BookingID: "b", RoomID: "red", UserID: "bob", FormerUserID: "ann", At: noon.Add(time.Minute)}
	handedOverInBlue := handedOver
	handedOverInBlue.RoomID = "blue"
	handedOverWithRed := handedOverInBlue
	handedOverWithRed.FormerRoomID = "red"
	userChangedBlue := BookingChanged{BookingID: "b", ReservationID: "r2", RoomID: "blue", UserID: "bob", Slot: hours(3, 4), At: noon.Add(time.Minute)}
	byAdmin := cancelled
	byAdmin.Reason = CancelledByAdmin
	cancelledInBlue := BookingCancelled{BookingID: "b", ReservationID: "r2", RoomID: "blue", UserID: "ann", Reason: CancelledByUser, At: noon.Add(time.Minute)}
	completedInBlue := ConfirmCompleted{BookingID: "b", RoomID: "blue", UserID: "ann", ConfirmUserID: "admin", At: noon.Add(time.Minute)}
	checkedInBlue := BookingCheckedIn{BookingID: "b", RealUseID: RealUseOf("b"), RoomID: "blue", UserID: "ann", StartedAt: noon.Add(time.Hour)}

	running := RealUse{ID: RealUseOf("b"), Booking: "b"}
	ended := RealUse{ID: RealUseOf("b"), Booking: "b", End: &UseEnd{At: noon.Add(2 * time.Hour), KnownAt: noon.Add(3 * time.Hour)}}
	strict := Policy{ConfirmBeforeUse: true}
	near := func(at time.Time) bookingCommand { // the booking's hour is from one to two
		return func(b Booking, _ Revision) ([]Event, error) {
			return DecideCheckIn(b, CheckIn{StartedAt: at, RoomStillInUseBy: "a"}, Policy{EarlyUse: 15 * time.Minute})
		}
	}
	checkedInAt := func(at time.Time) []Event {
		e := checkedIn
		e.StartedAt, e.RoomStillInUseBy = at, "a"
		return []Event{e}
	}
	earliest, latest := noon.Add(45*time.Minute), noon.Add(135*time.Minute)
	toldOffSlot := func(at time.Time) error {
		return &UseOffSlot{Booking: "b", StartedAt: at, Earliest: earliest, Latest: latest}
	}
	lax := DefaultPolicy()

	for _, row := range []struct {
		name  string
		given []Event
		when  bookingCommand
		then  []Event
		err   error // of a command that is refused
		again error // of the second one; it never has events
	}{
		{"create: no booking", givenNothing, create(reserved), []Event{created, requested}, nil, nil},
		{"create: booked", givenBooked, create(reserved), nil, nil, nil},
		{"create: confirmed", givenConfirmed, create(reserved), nil, nil, nil},
		{"create: moved on", givenMoved, create(reserved), nil, nil, nil},
		{"create: in use", givenInUse, create(reserved), nil, nil, nil},
		{"create: cancelled", givenCancelled, create(reserved), nil, nil, nil},

		{"other user: no booking", givenNothing, changeUser("bob"), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"other user: booked", givenBooked, changeUser("bob"), []Event{userChanged, handedOver}, nil, nil},
		{"other user: confirmed", givenConfirmed, changeUser("bob"), []Event{userChanged, handedOver}, nil, nil},
		{"other user: moved", givenMoved, changeUser("bob"), []Event{userChangedBlue, handedOverInBlue}, nil, nil},
		{"same user: booked", givenBooked, changeUser("ann"), nil, nil, nil},
		{"other user: in use", givenInUse, changeUser("bob"), nil, toldInUse, toldInUse},
		{"same user: in use", givenInUse, changeUser("ann"), nil, toldInUse, toldInUse},
		{"other user: cancelled", givenCancelled, changeUser("bob"), nil, toldCancelled, toldCancelled},
		{"other user: denied", givenDenied, changeUser("bob"), nil, toldDenied, toldDenied},
		{"other user: over", givenOver, changeUser("bob"), nil, toldOver, toldOver},

		{"move: no booking", givenNothing, move(toBlue), nil, nil, nil},
		{"move: booked", givenBooked, move(toBlue), []Event{changed, askedAgain}, nil, nil},
		{"move: confirmed", givenConfirmed, move(toBlue), []Event{changed, askedAgain}, nil, nil},
		{"move: for another user", givenBooked, move(forBob), []Event{changedForBob, askedForBob, handedOverWithRed}, nil, nil},
		{"move: moved by it", givenMoved, move(toBlue), nil, nil, nil},
		{"move: moved, replaces what came before", givenMoved, move(with(toBlue, func(r *SlotReserved) { r.ReservationID = "r9" })), nil, nil, nil},
		{"move: moved, once more", givenMoved, move(further), []Event{changedFurther, askedAgain}, nil, nil},
		{"move: a reservation of a create", givenBooked, move(with(toBlue, func(r *SlotReserved) { r.Replaces = "" })), nil, nil, nil},
		{"move: at the revision asked for", givenBooked, move(ifAt(1)), []Event{changed, askedAgain}, nil, nil},
		{"move: past the revision asked for", givenConfirmed, move(ifAt(1)), nil, nil, nil},
		{"move: before the revision asked for", givenBooked, move(ifAt(2)), nil, nil, nil},
		{"move: in use", givenInUse, move(toBlue), nil, nil, nil},
		{"move: cancelled", givenCancelled, move(toBlue), nil, nil, nil},
		{"move: denied", givenDenied, move(toBlue), nil, nil, nil},
		{"move: over", givenOver, move(toBlue), nil, nil, nil},

		{"cancel: no booking", givenNothing, cancel(CancelledByUser), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"cancel: booked", givenBooked, cancel(CancelledByUser), []Event{cancelled}, nil, toldCancelled},
		{"cancel: confirmed", givenConfirmed, cancel(CancelledByUser), []Event{cancelled}, nil, toldCancelled},
		{"cancel: moved", givenMoved, cancel(CancelledByUser), []Event{cancelledInBlue}, nil, toldCancelled},
		{"cancel: by the administrator", givenBooked, cancel(CancelledByAdmin), []Event{byAdmin}, nil,
			&AlreadyCancelled{Booking: "b", Reason: CancelledByAdmin, At: noon.Add(time.Minute)}},
		{"cancel: in use", givenInUse, cancel(CancelledByUser), nil, toldInUse, toldInUse},
		{"cancel: confirmed and in use", givenConfInUse, cancel(CancelledByUser), nil, toldInUse, toldInUse},
		{"cancel: cancelled", givenCancelled, cancel(CancelledByUser), nil, toldCancelled, toldCancelled},
		{"cancel: denied", givenDenied, cancel(CancelledByUser), nil, toldDenied, toldDenied},
		{"cancel: over", givenOver, cancel(CancelledByUser), nil, toldOver, toldOver},

		{"confirm: no booking", givenNothing, answer(confirm), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"confirm: booked", givenBooked, answer(confirm), []Event{completed}, nil, nil},
		{"confirm: confirmed", givenConfirmed, answer(confirm), nil, nil, nil},
		{"confirm: confirmed by another", givenConfirmed, answer(AnswerConfirm{Answer: Confirmed, By: "eve", AnsweredAt: noon, At: noon}), nil, nil, nil},
		{"confirm: moved", givenMoved, answer(confirm), []Event{completedInBlue}, nil, nil},
		{"confirm: in use", givenInUse, answer(confirm), []Event{completed}, nil, nil},
		{"confirm: confirmed and in use", givenConfInUse, answer(confirm), nil, nil, nil},
		{"confirm: cancelled", givenCancelled, answer(confirm), nil, toldCancelled, toldCancelled},
		{"confirm: denied", givenDenied, answer(confirm), nil, toldDenied, toldDenied},
		{"confirm: over", givenOver, answer(confirm), nil, toldOver, toldOver},

		{"deny: no booking", givenNothing, answer(deny), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"deny: booked", givenBooked, answer(deny), []Event{deniedEarlier, byDenial}, nil, nil},
		{"deny: confirmed", givenConfirmed, answer(deny), nil, toldConfirmed, toldConfirmed},
		{"deny: moved after it was confirmed", givenMoved, answer(deny), []Event{
			ConfirmDenied{BookingID: "b", RoomID: "blue", UserID: "ann", ConfirmUserID: "admin", Reason: "cleaning", At: noon.Add(-time.Hour)},
			BookingCancelled{BookingID: "b", ReservationID: "r2", RoomID: "blue", UserID: "ann", Reason: CancelledByDenial, At: noon.Add(time.Minute)},
		}, nil, nil},
		{"deny: in use", givenInUse, answer(deny), nil, toldInUse, toldInUse},
		{"deny: confirmed and in use", givenConfInUse, answer(deny), nil, toldInUse, toldInUse},
		{"deny: cancelled", givenCancelled, answer(deny), nil, toldCancelled, toldCancelled},
		{"deny: denied", givenDenied, answer(deny), nil, nil, nil},
		{"deny: over", givenOver, answer(deny), nil, toldOver, toldOver},

		{"no answer: no booking", givenNothing, answer(AnswerConfirm{}), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"no answer: booked", givenBooked, answer(AnswerConfirm{}), nil, noAnswer, noAnswer},
		{"no answer: pending", givenBooked, answer(AnswerConfirm{Answer: AnswerPending}), nil, noAnswer, noAnswer},

		{"check in: no booking", givenNothing, checkIn(lax), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"check in: booked", givenBooked, checkIn(lax), []Event{checkedIn}, nil, toldInUse},
		{"check in: confirmed", givenConfirmed, checkIn(lax), []Event{checkedIn}, nil, toldInUse},
		{"check in: moved", givenMoved, checkIn(lax), []Event{checkedInBlue}, nil, toldInUse},
		{"check in: in use", givenInUse, checkIn(lax), nil, toldInUse, toldInUse},
		{"check in: cancelled", givenCancelled, checkIn(lax), nil, toldCancelled, toldCancelled},
		{"check in: denied", givenDenied, checkIn(lax), nil, toldDenied, toldDenied},
		{"check in: over", givenOver, checkIn(lax), nil, toldOver, toldOver},
		{"check in, confirmation wanted: no booking", givenNothing, checkIn(strict), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"check in, confirmation wanted: booked", givenBooked, checkIn(strict), nil, ErrConfirmationPending, ErrConfirmationPending},
		{"check in, confirmation wanted: confirmed", givenConfirmed, checkIn(strict), []Event{checkedIn}, nil, toldInUse},
		{"check in, confirmation wanted: moved", givenMoved, checkIn(strict), nil, ErrConfirmationPending, ErrConfirmationPending},
		{"check in, confirmation wanted: in use", givenInUse, checkIn(strict), nil, toldInUse, toldInUse},
		{"check in, confirmation wanted: cancelled", givenCancelled, checkIn(strict), nil, toldCancelled, toldCancelled},

		{"check in near the slot: the earliest", givenBooked, near(earliest), checkedInAt(earliest), nil, toldInUse},
		{"check in near the slot: the latest", givenBooked, near(latest), checkedInAt(latest), nil, toldInUse},
		{"check in near the slot: earlier", givenBooked, near(earliest.Add(-1)), nil, toldOffSlot(earliest.Add(-1)), toldOffSlot(earliest.Add(-1))},
		{"check in near the slot: later", givenConfirmed, near(latest.Add(1)), nil, toldOffSlot(latest.Add(1)), toldOffSlot(latest.Add(1))},
		{"check in near the slot: no booking", givenNothing, near(latest.Add(1)), nil, ErrBookingNotFound, ErrBookingNotFound},
		{"check in near the slot: in use", givenInUse, near(latest.Add(1)), nil, toldInUse, toldInUse},
		{"check in near the slot: cancelled", givenCancelled, near(latest.Add(1)), nil, toldCancelled, toldCancelled},

		{"use over: no booking", givenNothing, useOver(ended), nil, nil, nil},
		{"use over: booked", givenBooked, useOver(ended), nil, nil, nil},
		{"use over: in use, running", givenInUse, useOver(running), nil, nil, nil},
		{"use over: in use, not started", givenInUse, useOver(RealUse{}), nil, nil, nil},
		{"use over: in use", givenInUse, useOver(ended), []Event{byUseEnd}, nil, nil},
		{"use over: confirmed and in use", givenConfInUse, useOver(ended), []Event{byUseEnd}, nil, nil},
		{"use over: cancelled", givenCancelled, useOver(ended), nil, nil, nil},
		{"use over: over", givenOver, useOver(ended), nil, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := slices.Clone(row.given)
			b := Fold(Booking{}, before...)
			events, err := row.when(b, Revision(len(before)-1))
			wantDecided(t, "first", events, err, row.then, row.err)

			after := append(before, row.then...)
			events, err = row.when(Fold(b, row.then...), Revision(len(after)-1))
			wantDecided(t, "second", events, err, nil, row.again)
		})
	}
}

func wantDecided(t *testing.T, which string, events []Event, err error, want []Event, wantErr error) {
	t.Helper()
	if !reflect.DeepEqual(events, want) {
		t.Errorf("%s: events\n%+v, want\n%+v", which, events, want)
	}
	if !reflect.DeepEqual(err, wantErr) {
		t.Errorf("%s: error %v, want %v", which, err, wantErr)
	}
}

func TestDecideChangeOfRoomOrTime(t *testing.T) {
	seoul := time.FixedZone("KST", 9*60*60)
	for _, row := range []struct {
		name  string
		given []Event
		when  Change
		moves bool
		room  RoomID
		user  UserID
		slot  Slot
		err   error
	}{
		{"nothing asked", givenBooked, Change{}, false, "red", "ann", hours(1, 2), nil},
		{"everything the same", givenBooked, Change{Room: ptr(RoomID("red")), User: ptr(UserID("ann")), Start: ptr(hours(1, 2).Start), End: ptr(hours(1, 2).End)}, false, "red", "ann", hours(1, 2), nil},
		{"the same instants in another zone", givenBooked, Change{Start: ptr(hours(1, 2).Start.In(seoul)), End: ptr(hours(1, 2).End.In(seoul))}, false, "red", "ann",
			Slot{hours(1, 2).Start.In(seoul), hours(1, 2).End.In(seoul)}, nil},
		{"room", givenBooked, Change{Room: ptr(RoomID("blue"))}, true, "blue", "ann", hours(1, 2), nil},
		{"start", givenBooked, Change{Start: ptr(hours(0, 2).Start)}, true, "red", "ann", hours(0, 2), nil},
		{"end", givenConfirmed, Change{End: ptr(hours(1, 3).End)}, true, "red", "ann", hours(1, 3), nil},
		{"room and user", givenConfirmed, Change{Room: ptr(RoomID("blue")), User: ptr(UserID("bob"))}, true, "blue", "bob", hours(1, 2), nil},
		{"an end before the start is the calendar's to refuse", givenBooked, Change{End: ptr(hours(0, 1).Start)}, true, "red", "ann", Slot{hours(1, 2).Start, noon}, nil},
		{"back to the room it came from", givenMoved, Change{Room: ptr(RoomID("red"))}, true, "red", "ann", hours(3, 4), nil},
		{"where it moved to", givenMoved, Change{Room: ptr(RoomID("blue")), Start: ptr(hours(3, 4).Start)}, false, "blue", "ann", hours(3, 4), nil},
		{"no booking", givenNothing, Change{Room: ptr(RoomID("blue"))}, false, "blue", "", Slot{}, ErrBookingNotFound},
		{"in use", givenInUse, Change{Room: ptr(RoomID("blue"))}, false, "blue", "ann", hours(1, 2), toldInUse},
		{"cancelled", givenCancelled, Change{Room: ptr(RoomID("blue"))}, false, "blue", "ann", hours(1, 2), toldCancelled},
		{"denied", givenDenied, Change{Room: ptr(RoomID("blue"))}, false, "blue", "ann", hours(1, 2), toldDenied},
		{"over", givenOver, Change{Room: ptr(RoomID("blue"))}, false, "blue", "ann", hours(1, 2), toldOver},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := Fold(Booking{}, row.given...)
			for range 2 { // nothing is decided, so the second is as the first
				events, moves, err := DecideChange(b, row.when)
				if moves != row.moves {
					t.Errorf("moves %t, want %t", moves, row.moves)
				}
				wantDecided(t, "change", events, err, nil, row.err)
			}
			room, user, slot := b.Target(row.when)
			if room != row.room || user != row.user || slot != row.slot {
				t.Errorf("target %s, %s, %s, want %s, %s, %s", room, user, slot, row.room, row.user, row.slot)
			}
		})
	}
}

// A booking that was changed as often as it can be stays as it is; to ask for what it has is still nothing to do.
func TestABookingIsChangedTooOften(t *testing.T) {
	b := Fold(Booking{}, givenBooked...)
	user := func(i int) *UserID { return ptr(UserID(fmt.Sprint("user ", i))) }
	for i := range MaxChanges {
		events, _, err := DecideChange(b, Change{User: user(i), At: noon})
		if err != nil {
			t.Fatalf("change %d: %v", i+1, err)
		}
		b = Fold(b, events...)
	}
	for name, change := range map[string]Change{"user": {User: user(-1)}, "room": {Room: ptr(RoomID("blue"))}} {
		var often *TooManyChanges
		if events, moves, err := DecideChange(b, change); !errors.As(err, &often) || often.Booking != b.ID || events != nil || moves {
			t.Errorf("%s: %v, moves %t, %v", name, events, moves, err)
		}
	}
	if events, moves, err := DecideChange(b, Change{User: &b.User}); events != nil || moves || err != nil {
		t.Errorf("the same: %v, moves %t, %v", events, moves, err)
	}
	if _, err := DecideCancel(b, Cancel{Reason: CancelledByUser, At: noon}); err != nil {
		t.Errorf("cancel: %v", err)
	}
}

func TestBookingEvolve(t *testing.T) {
	state := Booking{
		ID: "b", Room: "red", User: "ann", Slot: hours(1, 2), Reservation: "r1", CreatedAt: noon,
		Confirm: Confirm{Answer: AnswerPending}, Earliest: hours(1, 2).Start,
	}
	with := func(change func(*Booking)) Booking { b := state; change(&b); return b }
	yes := Confirm{Answer: Confirmed, By: "admin", At: noon.Add(time.Minute)}
	no := Confirm{Answer: Denied, By: "admin", Reason: "cleaning", At: noon.Add(time.Minute)}
	use := &Use{RealUse: RealUseOf("b"), StartedAt: noon.Add(time.Hour)}
	over := func(reason CancelReason, at time.Duration) *Cancellation {
		return &Cancellation{Reason: reason, At: noon.Add(at)}
	}
	user := changed
	user.ReservationID, user.RoomID, user.UserID, user.Slot = "r1", "red", "bob", hours(1, 2)

	for _, row := range []struct {
		name  string
		given []Event
		when  Event
		then  Booking
		live  bool
		rooms []RoomID
	}{
		{"BookingCreated", givenNothing, created, with(func(b *Booking) { b.Confirm = Confirm{} }), true, []RoomID{"red"}},
		{"ConfirmRequested", []Event{created}, requested, state, true, []RoomID{"red"}},
		{"ConfirmCompleted", givenBooked, completed, with(func(b *Booking) { b.Confirm = yes }), true, []RoomID{"red"}},
		{"ConfirmCompleted while in use", givenInUse, completed, with(func(b *Booking) {
			b.Confirm, b.Use = yes, use
		}), true, []RoomID{"red"}},
		{"BookingChanged", givenConfirmed, changed, with(func(b *Booking) {
			b.Confirm, b.Room, b.Slot, b.Reservation, b.Former = yes, "blue", hours(3, 4), "r2", []RoomReservation{{"red", "r1"}}
			b.Changes = 1
		}), true, []RoomID{"blue", "red"}},
		{"ConfirmRequested after a change", []Event{created, requested, completed, changed}, askedAgain, with(func(b *Booking) {
			b.Room, b.Slot, b.Reservation, b.Former = "blue", hours(3, 4), "r2", []RoomReservation{{"red", "r1"}}
			b.Changes = 1
		}), true, []RoomID{"blue", "red"}},
		{"BookingHandedOver, which the change before it has told", givenConfirmed, BookingHandedOver{BookingID: "b", RoomID: "red", UserID: "bob", FormerUserID: "ann", At: noon}, with(func(b *Booking) { b.Confirm = yes }), true, []RoomID{"red"}},
		{"BookingChanged of the user", givenConfirmed, user, with(func(b *Booking) { b.Confirm, b.User, b.Changes = yes, "bob", 1 }), true, []RoomID{"red"}},
		{"BookingChanged back", givenMoved, BookingChanged{BookingID: "b", ReservationID: "r3", RoomID: "red", UserID: "ann", Slot: hours(5, 6)}, with(func(b *Booking) {
			b.Slot, b.Reservation, b.Former = hours(5, 6), "r3", []RoomReservation{{"red", "r1"}, {"blue", "r2"}}
			b.Changes = 2
		}), true, []RoomID{"red", "blue"}},
		{"BookingChanged to an earlier slot", givenBooked, BookingChanged{BookingID: "b", ReservationID: "r2", RoomID: "red", UserID: "ann", Slot: hours(0, 1)}, with(func(b *Booking) {
			b.Slot, b.Reservation, b.Former = hours(0, 1), "r2", []RoomReservation{{"red", "r1"}}
			b.Changes, b.Earliest = 1, hours(0, 1).Start
		}), true, []RoomID{"red"}},
		{"BookingUnblocked, whose slots may not be known", givenBooked, BookingUnblocked{BookingID: "b"}, with(func(b *Booking) { b.Earliest = time.Time{} }), true, []RoomID{"red"}},
		{"ConfirmDenied", givenBooked, denied, with(func(b *Booking) { b.Confirm = no }), true, []RoomID{"red"}},
		{"BookingCheckedIn", givenBooked, checkedIn, with(func(b *Booking) {
			b.Use = use
		}), true, []RoomID{"red"}},
		{"BookingCancelled", givenBooked, cancelled, with(func(b *Booking) {
			b.Cancellation = over(CancelledByUser, time.Minute)
		}), false, []RoomID{"red"}},
		{"BookingCancelled by a denial", []Event{created, requested, denied}, byDenial, with(func(b *Booking) {
			b.Cancellation, b.Confirm = over(CancelledByDenial, time.Minute), no
		}), false, []RoomID{"red"}},
		{"BookingCancelled by the end of the use", givenInUse, byUseEnd, with(func(b *Booking) {
			b.Use, b.Cancellation = use, over(CancelledByUseEnd, 3*time.Hour)
			b.Cancellation.UsedUntil = noon.Add(2 * time.Hour)
		}), false, []RoomID{"red"}},
		{"BookingCheckedIn once more", givenInUse, BookingCheckedIn{BookingID: "b", RealUseID: "other", StartedAt: noon}, with(func(b *Booking) {
			b.Use = &Use{RealUse: "other", StartedAt: noon}
		}), true, []RoomID{"red"}},
		{"BookingCancelled once more", givenCancelled, byUseEnd, with(func(b *Booking) {
			b.Cancellation = over(CancelledByUseEnd, 3*time.Hour)
			b.Cancellation.UsedUntil = noon.Add(2 * time.Hour)
		}), false, []RoomID{"red"}},
		{"an event of another stream", givenBooked, UseStarted{RealUseID: RealUseOf("b"), BookingID: "b"}, state, true, []RoomID{"red"}},
		{"an event of another stream, no booking", givenNothing, SlotReserved{ReservationID: "r1", BookingID: "b"}, Booking{}, false, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			given := Fold(Booking{}, row.given...)
			unchanged := Fold(Booking{}, row.given...)
			got := given.Evolve(row.when)
			if !reflect.DeepEqual(got, row.then) {
				t.Errorf("got\n%+v, want\n%+v", got, row.then)
			}
			if !reflect.DeepEqual(given, unchanged) {
				t.Errorf("what it evolved from became\n%+v, was\n%+v", given, unchanged)
			}
			if got.Live() != row.live {
				t.Errorf("live %t, want %t", got.Live(), row.live)
			}
			if rooms := got.Rooms(); !slices.Equal(rooms, row.rooms) {
				t.Errorf("rooms %v, want %v", rooms, row.rooms)
			}
		})
	}
}

// TestPhases holds a booking to the phase that its events give it, also where some of them could not be decoded and were left out.
func TestPhases(t *testing.T) {
	unblocked := []Event{BookingUnblocked{BookingID: "b", At: noon}, BookingCancelled{BookingID: "b", Reason: CancelledByAdmin, At: noon}}
	for _, row := range []struct {
		name  string
		given []Event
		want  Phase
	}{
		{"nothing", givenNothing, PhaseNone},
		{"created", []Event{created}, PhaseBooked},
		{"booked", givenBooked, PhaseBooked},
		{"confirmed", givenConfirmed, PhaseConfirmed},
		{"confirmed and moved, before it is asked again", givenMoved[:4], PhaseConfirmed},
		{"moved", givenMoved, PhaseBooked},
		{"denied, before it is cancelled", givenDenied[:3], PhaseBooked},
		{"in use", givenInUse, PhaseInUse},
		{"confirmed while in use", append(slices.Clone(givenInUse), completed), PhaseInUse},
		{"asked again while in use", append(slices.Clone(givenConfInUse), requested), PhaseInUse},
		{"cancelled", givenCancelled, PhaseCancelled},
		{"denied", givenDenied, PhaseCancelled},
		{"confirmed after it was cancelled", append(slices.Clone(givenCancelled), completed), PhaseCancelled},
		{"over", givenOver, PhaseCancelled},
		{"unblocked", append(slices.Clone(givenBooked), unblocked...), PhaseCancelled},
		{"created unreadably", []Event{requested}, PhaseNone},
		{"created unreadably and confirmed", []Event{requested, completed}, PhaseNone},
		{"created unreadably and in use", []Event{requested, checkedIn}, PhaseInUse},
		{"created unreadably and unblocked", unblocked, PhaseCancelled},
		{"created unreadably, in use and unblocked", append([]Event{requested, checkedIn}, unblocked...), PhaseCancelled},
	} {
		b := Fold(Booking{}, row.given...)
		if got := b.Phase(); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
		if live := row.want != PhaseNone && row.want != PhaseCancelled; b.Live() != live {
			t.Errorf("%s: live %t, want %t", row.name, b.Live(), live)
		}
		if id := BookingID("b"); row.want != PhaseNone && b.ID != id {
			t.Errorf("%s: it is booking %q, want %q", row.name, b.ID, id)
		}
		var cancelled *AlreadyCancelled
		if _, err := DecideCancel(b, Cancel{At: noon}); errors.As(err, &cancelled) != (row.want == PhaseCancelled) {
			t.Errorf("%s: to cancel it: %v", row.name, err)
		}
	}
}

// TestBookingIsAValue evolves one booking in two ways: neither sees what backed the other.
func TestBookingIsAValue(t *testing.T) {
	b := Fold(Booking{}, givenBooked...)
	backed := []RoomReservation{{"red", "r1"}}
	for moves := range 20 {
		room := RoomID(fmt.Sprint("room ", moves))
		one := b.Evolve(BookingChanged{ReservationID: "one", RoomID: room}).Evolve(BookingChanged{ReservationID: "after one"})
		two := b.Evolve(BookingChanged{ReservationID: "two", RoomID: room}).Evolve(BookingChanged{ReservationID: "after two"})
		if want := append(slices.Clone(backed), RoomReservation{room, "one"}); !slices.Equal(one.Former, want) {
			t.Errorf("after %d moves, one was backed by %v, want %v", moves, one.Former, want)
		}
		if want := append(slices.Clone(backed), RoomReservation{room, "two"}); !slices.Equal(two.Former, want) {
			t.Errorf("after %d moves, two was backed by %v, want %v", moves, two.Former, want)
		}
		next := RoomReservation{room, ReservationID(fmt.Sprint("next ", moves))}
		b = b.Evolve(BookingChanged{ReservationID: next.Reservation, RoomID: room})
		backed = append(backed, next)
	}
}

func TestWhatBacksABooking(t *testing.T) {
	for _, row := range []struct {
		name      string
		given     []Event
		now, ever []ReservationID
	}{
		{"none", givenNothing, nil, nil},
		{"booked", givenBooked, []ReservationID{"r1"}, []ReservationID{"r1"}},
		{"in use", givenInUse, []ReservationID{"r1"}, []ReservationID{"r1"}},
		{"moved", givenMoved, []ReservationID{"r2"}, []ReservationID{"r1", "r2"}},
		{"cancelled", givenCancelled, nil, []ReservationID{"r1"}},
		{"moved and cancelled", append(slices.Clone(givenMoved), cancelled), nil, []ReservationID{"r1", "r2"}},
	} {
		b := Fold(Booking{}, row.given...)
		for _, id := range []ReservationID{"r1", "r2", "r3"} {
			if got, want := b.BackedBy(id), slices.Contains(row.now, id); got != want {
				t.Errorf("%s: backed by %s: %t, want %t", row.name, id, got, want)
			}
			if got, want := b.EverBackedBy(id), slices.Contains(row.ever, id); got != want {
				t.Errorf("%s: ever backed by %s: %t, want %t", row.name, id, got, want)
			}
		}
	}
}

func TestOutlived(t *testing.T) {
	first := SlotReserved{ReservationID: "r1", BookingID: "b"}
	second := SlotReserved{ReservationID: "r2", BookingID: "b", Replaces: "r1"}
	rival := SlotReserved{ReservationID: "r9", BookingID: "b", Replaces: "r1"}
	third := SlotReserved{ReservationID: "r3", BookingID: "b", Replaces: "r2"}
	later := SlotReserved{ReservationID: "r4", BookingID: "b", Replaces: "r3"}
	ifAt := func(at Revision) SlotReserved { r := rival; r.IfRevision = at; return r }
	for _, row := range []struct {
		name  string
		given []Event
		r     SlotReserved
		want  bool
	}{
		{"no booking yet", givenNothing, first, false},
		{"no booking yet, a change", givenNothing, second, false},
		{"backed by it", givenBooked, first, false},
		{"may still move to it", givenBooked, second, false},
		{"read from before it was made", givenBooked, third, false},
		{"read from long before it was made", givenMoved, later, false},
		{"moved to it", givenMoved, second, false},
		{"moved from it", givenMoved, first, true},
		{"moved to another instead", givenMoved, rival, true},
		{"moved, and may move further", givenMoved, third, false},
		{"created on another", givenBooked, SlotReserved{ReservationID: "r8", BookingID: "b"}, true},
		{"its revision is now", givenBooked, ifAt(1), false},
		{"its revision is past", givenConfirmed, ifAt(1), true},
		{"its revision is to come", givenBooked, ifAt(2), false},
		{"in use on it", givenInUse, first, false},
		{"in use on another", givenInUse, second, true},
		{"cancelled on it", givenCancelled, first, true},
		{"cancelled on another", givenCancelled, second, true},
		{"over", givenOver, first, true},
	} {
		b := Fold(Booking{}, row.given...)
		if got := b.Outlived(row.r, Revision(len(row.given)-1)); got != row.want {
			t.Errorf("%s: %t, want %t", row.name, got, row.want)
		}
	}
}
