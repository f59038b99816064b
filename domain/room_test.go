package domain

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRoomDecisions(t *testing.T) {
	later := noon.Add(time.Hour)
	red, other := Details{Name: "Red"}, Details{Name: "Rot", Capacity: 8, Equipment: []string{"TV"}, Approvers: []UserID{"eve"}}
	known := []Event{RoomRegistered{RoomID: "red", Details: red, At: noon}}
	rules := Rules{GapMinutes: 10, Hours: daily(Hours{"08:00", "12:00"}), EarlyUseMinutes: ptr(5)}
	closed := PeriodClosed{ClosureID: "c", RoomID: "red", Slot: hours(1, 2), Reason: "paint", Bookings: CancelBookings, At: noon}
	retired := RoomRetired{RoomID: "red", From: later, Bookings: KeepBookings, At: noon}
	invalid := func(fields ...Field) *Invalid {
		e := &Invalid{}
		for _, f := range fields {
			e.Faults = append(e.Faults, Fault{Field: f})
		}
		return e
	}
	type command func(Room) ([]Event, error)
	register := func(d Details) command {
		return func(r Room) ([]Event, error) { return DecideRegister(r, "red", d, noon) }
	}
	change := func(d Details) command {
		return func(r Room) ([]Event, error) { return DecideChangeRoom(r, d, noon) }
	}
	retire := func(from time.Time, b AffectedBookings, at time.Time) command {
		return func(r Room) ([]Event, error) { return DecideRetire(r, from, b, at) }
	}
	reinstate := func(r Room) ([]Event, error) { return DecideReinstate(r, noon) }
	set := func(rules Rules) command {
		return func(r Room) ([]Event, error) { return DecideSetRules(r, rules, noon) }
	}
	shut := func(c PeriodClosed) command {
		return func(r Room) ([]Event, error) { return DecideClose(r, c) }
	}
	show := func(p Photo) command {
		return func(r Room) ([]Event, error) { return DecidePhoto(r, p, noon) }
	}
	photo := Photo{Hash: "9f86", Alt: "Ré, six chairs", Width: 1280, Height: 960}
	seen := RoomPhotoChanged{RoomID: "red", Photo: photo, At: noon}
	decomposed, described, mute, long := photo, photo, photo, photo
	decomposed.Alt, described.Alt, mute.Alt, long.Alt = " Re\u0301, six chairs ", "Twelve chairs", " ", strings.Repeat("x", MaxAlt+1)
	reopen := func(id ClosureID) command {
		return func(r Room) ([]Event, error) { return DecideReopen(r, id, noon) }
	}
	with := func(more ...Event) []Event { return append(slices.Clone(known), more...) }
	asked, tooMuch := closed, closed
	asked.RoomID, asked.Reason = "", " paint "
	tooMuch.Slot, tooMuch.Bookings, tooMuch.Reason = hours(2, 2), "sell", strings.Repeat("x", maxName+1)
	kept := asked
	kept.Bookings = ""
	keeps := closed
	keeps.Bookings = KeepBookings

	for _, row := range []struct {
		name  string
		given []Event
		when  command
		then  []Event
		err   error
		again error
	}{
		{"register", nil, register(Details{Name: " Re\u0301d "}), []Event{RoomRegistered{RoomID: "red", Details: Details{Name: "R\u00e9d"}, At: noon}}, nil, nil},
		{"register: other details", known, register(other), nil, &RoomExists{"red", red}, &RoomExists{"red", red}},
		{"register: the same details", known, register(Details{Name: "Red", Equipment: []string{}, Approvers: []UserID{}}), nil, nil, nil},
		{"register: no name", nil, register(Details{}), nil, invalid("name"), invalid("name")},
		{"change", known, change(other), []Event{RoomChanged{RoomID: "red", Details: other, At: noon}}, nil, nil},
		{"change: unknown", nil, change(other), nil, ErrRoomNotFound, ErrRoomNotFound},
		{"change: wrong", known, change(Details{Name: "a", Capacity: -1}), nil, invalid("capacity"), invalid("capacity")},
		{"retire: now", known, retire(time.Time{}, "", noon), []Event{RoomRetired{RoomID: "red", From: noon, Bookings: KeepBookings, At: noon}}, nil, nil},
		{"retire: later", known, retire(later, KeepBookings, noon), []Event{retired}, nil, nil},
		{"retire: now, when it is from later on", with(retired), retire(time.Time{}, "", noon), []Event{RoomRetired{RoomID: "red", From: noon, Bookings: KeepBookings, At: noon}}, nil, nil},
		{"retire: now, when it is already", with(retired), retire(time.Time{}, "", later.Add(time.Hour)), nil, nil, nil},
		{"retire: bookings too", with(retired), retire(later, CancelBookings, noon), []Event{RoomRetired{RoomID: "red", From: later, Bookings: CancelBookings, At: noon}}, nil, nil},
		{"retire: other words", known, retire(later, "sell", noon), nil, invalid("bookings"), invalid("bookings")},
		{"retire: unknown", nil, retire(later, "", noon), nil, ErrRoomNotFound, ErrRoomNotFound},
		{"reinstate", with(retired), reinstate, []Event{RoomReinstated{RoomID: "red", At: noon}}, nil, nil},
		{"reinstate: not retired", known, reinstate, nil, nil, nil},
		{"reinstate: unknown", nil, reinstate, nil, ErrRoomNotFound, ErrRoomNotFound},
		{"rules", known, set(rules), []Event{RulesSet{RoomID: "red", Rules: rules, At: noon}}, nil, nil},
		{"rules: the same", with(RulesSet{RoomID: "red", Rules: Rules{GapMinutes: 10, Hours: daily(Hours{"08:00", "12:00"}), EarlyUseMinutes: ptr(5)}, At: noon}), set(rules), nil, nil, nil},
		{"rules: none", with(RulesSet{RoomID: "red", Rules: rules, At: noon}), set(Rules{}), []Event{RulesSet{RoomID: "red", At: noon}}, nil, nil},
		{"rules: hours that are always", with(RulesSet{RoomID: "red", Rules: rules, At: noon}), set(Rules{GapMinutes: 10, EarlyUseMinutes: ptr(5)}), []Event{RulesSet{RoomID: "red", Rules: Rules{GapMinutes: 10, EarlyUseMinutes: ptr(5)}, At: noon}}, nil, nil},
		{"rules: wrong", known, set(Rules{StepMinutes: 7}), nil, invalid("stepMinutes"), invalid("stepMinutes")},
		{"rules: unknown", nil, set(rules), nil, ErrRoomNotFound, ErrRoomNotFound},
		{"close", known, shut(asked), []Event{closed}, nil, nil},
		{"close: keep", known, shut(kept), []Event{keeps}, nil, nil},
		{"close: wrong", known, shut(tooMuch), nil, invalid("slot/end", "reason", "bookings"), invalid("slot/end", "reason", "bookings")},
		{"close: unknown", nil, shut(asked), nil, ErrRoomNotFound, ErrRoomNotFound},
		{"photo", known, show(photo), []Event{seen}, nil, nil},
		{"photo: in another form", known, show(decomposed), []Event{seen}, nil, nil},
		{"photo: another text", with(seen), show(described), []Event{RoomPhotoChanged{RoomID: "red", Photo: described, At: noon}}, nil, nil},
		{"photo: none", with(seen), show(Photo{}), []Event{RoomPhotoChanged{RoomID: "red", At: noon}}, nil, nil},
		{"photo: none, where there is none", known, show(Photo{}), nil, nil, nil},
		{"photo: no text", known, show(mute), nil, invalid("alt"), invalid("alt")},
		{"photo: a long text", known, show(long), nil, invalid("alt"), invalid("alt")},
		{"photo: unknown", nil, show(photo), nil, ErrRoomNotFound, ErrRoomNotFound},
		{"reopen", with(closed), reopen("c"), []Event{PeriodReopened{ClosureID: "c", RoomID: "red", At: noon}}, nil, ErrClosureNotFound},
		{"reopen: no such closure", with(closed), reopen("d"), nil, ErrClosureNotFound, ErrClosureNotFound},
		{"reopen: unknown", nil, reopen("c"), nil, ErrRoomNotFound, ErrRoomNotFound},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Fold(Calendar{}, row.given...)
			for i, want := range []error{row.err, row.again} {
				then := row.then
				if i == 1 {
					c, then = Fold(c, row.then...), nil
				}
				events, err := row.when(c.About())
				if e, ok := err.(*Invalid); ok {
					for j := range e.Faults {
						e.Faults[j].Detail = ""
					}
				}
				wantDecided(t, []string{"first", "second"}[i], events, err, then, want)
			}
		})
	}
}

// TestBookingAClosedRoom books in rooms that are closed, retired, or not registered.
func TestBookingAClosedRoom(t *testing.T) {
	known := RoomRegistered{RoomID: "red", Details: Details{Name: "Red"}, At: noon}
	closed := PeriodClosed{ClosureID: "c", RoomID: "red", Slot: hours(1, 2), Bookings: KeepBookings, At: noon}
	retired := RoomRetired{RoomID: "red", From: hours(3, 4).Start, Bookings: KeepBookings, At: noon}
	only := Policy{RegisteredRooms: true}
	var by *RoomClosed
	gone := &Retired{"red", hours(3, 4).Start}
	for _, row := range []struct {
		name   string
		given  []Event
		slot   Slot
		policy Policy
		want   error
	}{
		{"before it is closed", []Event{known, closed}, hours(0, 1), Policy{}, nil},
		{"after it was closed", []Event{known, closed}, hours(2, 3), Policy{}, nil},
		{"while it is closed", []Event{known, closed}, hours(0, 2), Policy{}, by},
		{"reopened", []Event{known, closed, PeriodReopened{ClosureID: "c", RoomID: "red"}}, hours(0, 2), Policy{}, nil},
		{"before it is retired", []Event{known, retired}, hours(2, 3), Policy{}, nil},
		{"until after it is retired", []Event{known, retired}, hours(2, 4), Policy{}, gone},
		{"reinstated", []Event{known, retired, RoomReinstated{RoomID: "red"}}, hours(2, 4), Policy{}, nil},
		{"unknown", nil, hours(0, 1), only, ErrRoomNotFound},
		{"unknown, with bookings", []Event{reservation("r1", "b", hours(1, 2))}, hours(0, 1), only, ErrRoomNotFound},
		{"known", []Event{known}, hours(0, 1), only, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			ask := reservation("r9", "x", row.slot)
			for range 2 {
				_, err := DecideReserve(Fold(Calendar{}, row.given...), ask, row.policy)
				if e, ok := err.(*RoomClosed); ok && row.want == error(by) {
					if len(e.By) != 1 || e.By[0].ID != "c" || !e.Earliest.Equal(hours(2, 3).Start) {
						t.Errorf("%+v", e)
					}
				} else if !reflect.DeepEqual(err, row.want) {
					t.Errorf("%v, want %v", err, row.want)
				}
				ask.Override = true // which is for rules only
			}
		})
	}
}

// TestABookingWithoutApproval lets bookings be made in a room that asks nobody, and moved there and from there.
func TestABookingWithoutApproval(t *testing.T) {
	none := reservation("r1", "b", hours(1, 2))
	none.Approval, none.UseFrom = ApprovalNone, hours(0, 1).Start
	confirmed := func(room RoomID, user UserID) Event {
		return ConfirmCompleted{BookingID: "b", RoomID: room, UserID: user, ConfirmUserID: ConfirmedByRules, At: noon}
	}
	made := created
	made.UseFrom = none.UseFrom
	first := []Event{made, confirmed("red", "ann")}
	if got := DecideCreate(Booking{}, none); !reflect.DeepEqual(got, first) {
		t.Errorf("created\n%+v, want\n%+v", got, first)
	}
	b := Fold(Booking{}, first...)
	if b.Phase() != PhaseConfirmed || b.Confirm.By != ConfirmedByRules {
		t.Errorf("it is %s, by %s", b.Phase(), b.Confirm.By)
	}
	to := func(room RoomID, s Slot, user UserID, a Approval) SlotReserved {
		return SlotReserved{ReservationID: "r2", BookingID: "b", RoomID: room, UserID: user, Slot: s, At: noon, Replaces: "r1", Approval: a}
	}
	moved := func(room RoomID, s Slot, user UserID, useFrom time.Time) Event {
		return BookingChanged{BookingID: "b", ReservationID: "r2", RoomID: room, UserID: user, Slot: s, At: noon, UseFrom: useFrom}
	}
	for _, row := range []struct {
		name string
		r    SlotReserved
		want []Event
	}{
		{"to a room that asks", to("blue", hours(1, 2), "", ""), []Event{moved("blue", hours(1, 2), "ann", time.Time{}), ConfirmRequested{BookingID: "b", RoomID: "blue", UserID: "ann", At: noon}}},
		{"to a room that asks nobody", to("blue", hours(1, 2), "", ApprovalNone), []Event{moved("blue", hours(1, 2), "ann", time.Time{}), confirmed("blue", "ann")}},
		{"to another user, where users are counted", to("red", hours(1, 2), "bob", ApprovalNone), []Event{moved("red", hours(1, 2), "bob", none.UseFrom), BookingHandedOver{BookingID: "b", RoomID: "red", UserID: "bob", FormerUserID: "ann", At: noon}}},
	} {
		got := DecideMove(b, 1, row.r)
		if !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s:\n%+v, want\n%+v", row.name, got, row.want)
		}
		if again := DecideMove(Fold(b, got...), 3, row.r); again != nil {
			t.Errorf("%s, again: %+v", row.name, again)
		}
	}
	bob := UserID("bob")
	if _, moves, err := DecideChange(b, Change{User: &bob, Counted: true}); !moves || err != nil {
		t.Errorf("where users are counted, another user moves: %t, %v", moves, err)
	}
	if _, moves, err := DecideChange(b, Change{User: &b.User, Counted: true}); moves || err != nil {
		t.Errorf("the same user moves: %t, %v", moves, err)
	}
}

func TestTheEarliestUse(t *testing.T) {
	b := Fold(Booking{}, created, requested) // from 13:00 to 14:00
	ruled := b
	ruled.UseFrom = noon.Add(50 * time.Minute)
	policy := Policy{EarlyUse: 30 * time.Minute}
	for _, row := range []struct {
		name   string
		of     Booking
		policy Policy
		start  time.Time
		ok     bool
	}{
		{"no rule", b, Policy{}, noon.AddDate(-1, 0, 0), true},
		{"the policy", b, policy, noon.Add(30 * time.Minute), true},
		{"before the policy allows", b, policy, noon.Add(29 * time.Minute), false},
		{"the rule", ruled, Policy{}, noon.Add(50 * time.Minute), true},
		{"before the rule allows", ruled, Policy{}, noon.Add(49 * time.Minute), false},
		{"before the rule allows, and not before the policy does", ruled, policy, noon.Add(49 * time.Minute), false},
		{"late, with a rule", ruled, Policy{}, noon.AddDate(1, 0, 0), true},
		{"late, with both", ruled, policy, noon.Add(151 * time.Minute), false},
	} {
		_, err := DecideCheckIn(row.of, CheckIn{StartedAt: row.start}, row.policy)
		if e, refused := err.(*UseOffSlot); refused == row.ok || !refused && err != nil || refused && e.Error() == "" {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestDetailsAreNormal(t *testing.T) {
	d, faults := Details{
		Name: "\tCafe\u0301 ", Building: "A", Floor: "−1", Capacity: 4, Equipment: []string{" TV "}, Zone: "Asia/Seoul", Colour: "#00ffAA", Note: "first\nsecond", Approvers: []UserID{"eve"},
	}.Normal()
	if want := (Details{Name: "Café", Building: "A", Floor: "−1", Capacity: 4, Equipment: []string{"TV"}, Zone: "Asia/Seoul", Colour: "#00ffAA", Note: "first\nsecond", Approvers: []UserID{"eve"}}); faults != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("%+v, %v", d, faults)
	}
	if _, faults := (Details{Name: strings.Repeat("é", maxName)}).Normal(); faults != nil {
		t.Errorf("the longest name: %v", faults)
	}
	_, faults = Details{
		Name: strings.Repeat("e", maxName+1), Building: "a\x00b", Floor: "\xff", Capacity: maxCapacity + 1, Equipment: []string{"TV", " ", "TV "}, Zone: "Local", Colour: "red",
		Note: "a\rb", Approvers: append(make([]UserID, 1), "eve", "eve"),
	}.Normal()
	var got []Field
	for _, f := range faults {
		got = append(got, f.Field)
	}
	if want := []Field{"name", "building", "floor", "capacity", "equipment/1", "equipment/2", "zone", "colour", "note", "approvers/0", "approvers/2"}; !slices.Equal(got, want) {
		t.Errorf("wrong are %q, want %q", got, want)
	}
	if _, faults := (Details{Name: "a", Equipment: make([]string, maxList+1), Approvers: make([]UserID, maxList+1)}).Normal(); faults[len(faults)-1].Field != "approvers" || faults[len(faults)-2].Field != "equipment" {
		t.Errorf("too many: %v", faults)
	}
}

// TestACalendarForgetsClosures holds a calendar of short memory to the whole one.
func TestACalendarForgetsClosures(t *testing.T) {
	closed := func(id ClosureID, s Slot) Event {
		return PeriodClosed{ClosureID: id, RoomID: "red", Slot: s, Bookings: KeepBookings, At: noon}
	}
	whole := Fold(Calendar{}, RoomRegistered{RoomID: "red", Details: Details{Name: "Red"}}, RoomPhotoChanged{RoomID: "red", Photo: Photo{Hash: "9f86", Alt: "six chairs", Width: 4, Height: 3}}, closed("a", hours(5, 6)), closed("b", hours(1, 2)), closed("c", hours(1, 9)), reservation(ReservationID(uuidText(2)), uuidText(1), hours(20, 21)))
	short := whole.Forget(hours(6, 7).Start, 0)
	if got := short.About().Closures; len(got) != 1 || got[0].ID != "c" || len(whole.About().Closures) != 3 {
		t.Errorf("left are %v", got)
	}
	if from := hours(6, 7).Start; !short.CompleteFrom(from) || short.CompleteFrom(from.Add(-1)) || !whole.CompleteFrom(time.Time{}) || !short.Since().IsZero() {
		t.Errorf("complete from %s, reservations since %s", short.About().Since, short.Since())
	}
	if !short.About().Same(whole.About()) || short.About().Same(Fold(whole, PeriodReopened{ClosureID: "c", RoomID: "red"}).About()) {
		t.Error("it is not the same room")
	}
	s, ok := short.Snapshot("e")
	if !ok {
		t.Fatal("there is no snapshot")
	}
	again, ok := s.Calendar("red")
	if !ok || !reflect.DeepEqual(again.About(), short.About()) {
		t.Errorf("from the snapshot it is %t\n%+v, want\n%+v", ok, again.About(), short.About())
	}
	shown := s
	shown.Room.Photo.Alt = "twelve chairs"
	if _, ok := shown.Calendar("red"); ok {
		t.Error("a snapshot is used though its photo was changed")
	}
	s.Room.Details.Name = "Blue"
	if _, ok := s.Calendar("red"); ok {
		t.Error("a snapshot is used though its room was changed")
	}
	only := Fold(Calendar{}, RoomRegistered{RoomID: "red", Details: Details{Name: "Red", Zone: "Asia/Seoul"}})
	if only.Room() != "red" {
		t.Errorf("a calendar without reservations is of room %q", only.Room())
	}
	if s, ok := only.Snapshot("e"); !ok {
		t.Error("a room without reservations has no snapshot")
	} else if again, ok := s.Calendar("red"); !ok || again.About().zone == nil {
		t.Error("it cannot be used, or its zone is lost")
	}
}

// A change that leaves the user as it is counts for that user, also if an older program made it, which did not say who that is.
func TestAChangeCountsForItsUser(t *testing.T) {
	rules := Rules{UpcomingPerUser: 1}
	first, moved := reservation("r1", "b", hours(1, 2)), reservation("r2", "b", hours(3, 4))
	moved.UserID, moved.Replaces = "", "r1"
	ask := reservation("r9", "x", hours(5, 6))
	for _, heldFor := range []UserID{"", "ann"} {
		moved.HeldFor = heldFor
		c := Fold(Calendar{}, append(registered("", rules), first, moved, released("r1", "b"))...)
		_, err := DecideReserve(c, ask, DefaultPolicy())
		wantBroken(t, err, time.Time{}, RuleUpcoming)
	}
}

// TestHowFarADecisionLooksBack asks what has to be remembered for a decision on a slot.
func TestHowFarADecisionLooksBack(t *testing.T) {
	wednesday := at(time.UTC, "2026-11-25 10:00")
	forgot := func(r Rules, ended string) Calendar {
		s := Slot{at(time.UTC, ended).Add(-time.Hour), at(time.UTC, ended)}
		return Fold(Calendar{}, append(registered("", r), reservation("r1", "b", s))...).Forget(s.End, 0)
	}
	seoul := location(t, "Asia/Seoul")
	for _, row := range []struct {
		name  string
		c     Calendar
		zone  *time.Location
		wants bool
	}{
		{"no rules", forgot(Rules{}, "2026-11-25 10:00"), nil, true},
		{"a gap that is kept", forgot(Rules{GapMinutes: 30}, "2026-11-25 09:30"), nil, true},
		{"a gap that may not be", forgot(Rules{GapMinutes: 30}, "2026-11-25 09:31"), nil, false},
		{"another week", forgot(Rules{WeeklyMinutesPerUser: 60}, "2026-11-23 00:00"), nil, true},
		{"the same week", forgot(Rules{WeeklyMinutesPerUser: 60}, "2026-11-23 00:01"), nil, false},
		{"the same week in Seoul", forgot(Rules{WeeklyMinutesPerUser: 60}, "2026-11-22 15:01"), seoul, false},
	} {
		if got := row.c.Decides(wednesday, row.zone); got != row.wants {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}
