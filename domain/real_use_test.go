package domain

import (
	"reflect"
	"testing"
	"time"
)

var (
	started = UseStarted{RealUseID: "u", BookingID: "b", RoomID: "red", UserID: "ann", StartedAt: noon}
	ended   = UseEnded{RealUseID: "u", BookingID: "b", RoomID: "red", UserID: "ann", EndedAt: noon.Add(time.Hour), At: noon.Add(2 * time.Hour)}
)

func TestRealUseDecisions(t *testing.T) {
	start := func(u RealUse) ([]Event, error) {
		return DecideStart(u, BookingCheckedIn{BookingID: "b", RealUseID: "u", RoomID: "red", UserID: "ann", StartedAt: noon}), nil
	}
	end := func(at time.Time) func(RealUse) ([]Event, error) {
		return func(u RealUse) ([]Event, error) {
			return DecideEnd(u, EndUse{EndedAt: at, At: noon.Add(2 * time.Hour)})
		}
	}
	seoul := time.FixedZone("KST", 9*60*60)
	atOnce := ended
	atOnce.EndedAt = noon
	early := &EndBeforeStart{noon}
	over := &AlreadyEnded{RealUse: "u", At: noon.Add(time.Hour)}

	for _, row := range []struct {
		name  string
		given []Event
		when  func(RealUse) ([]Event, error)
		then  []Event
		err   error
		again error
	}{
		{"start: no real use", nil, start, []Event{started}, nil, nil},
		{"start: running", []Event{started}, start, nil, nil, nil},
		{"start: ended", []Event{started, ended}, start, nil, nil, nil},
		{"end: no real use", nil, end(noon), nil, ErrRealUseNotFound, ErrRealUseNotFound},
		{"end: running", []Event{started}, end(noon.Add(time.Hour)), []Event{ended}, nil, nil},
		{"end: at the instant of its start", []Event{started}, end(noon), []Event{atOnce}, nil, nil},
		{"end: before its start", []Event{started}, end(noon.Add(-1)), nil, early, early},
		{"end: ended at that time", []Event{started, ended}, end(noon.Add(time.Hour)), nil, nil, nil},
		{"end: ended at that time, told in another zone", []Event{started, ended}, end(noon.Add(time.Hour).In(seoul)), nil, nil, nil},
		{"end: ended at another time", []Event{started, ended}, end(noon.Add(time.Hour + 1)), nil, over, over},
		{"end: ended, now before its start", []Event{started, ended}, end(noon.Add(-1)), nil, over, over},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := Fold(RealUse{}, row.given...)
			events, err := row.when(u)
			wantDecided(t, "first", events, err, row.then, row.err)
			events, err = row.when(Fold(u, row.then...))
			wantDecided(t, "second", events, err, nil, row.again)
		})
	}
}

func TestRealUseEvolve(t *testing.T) {
	running := RealUse{ID: "u", Booking: "b", Room: "red", User: "ann", StartedAt: noon}
	over := running
	over.End = &UseEnd{At: noon.Add(time.Hour), KnownAt: noon.Add(2 * time.Hour)}
	again, later := ended, over
	again.EndedAt = noon.Add(90 * time.Minute)
	later.End = &UseEnd{At: again.EndedAt, KnownAt: again.At}
	for _, row := range []struct {
		name  string
		given RealUse
		when  Event
		then  RealUse
		phase UsePhase
	}{
		{"UseStarted", RealUse{}, started, running, UsePhaseStarted},
		{"UseEnded", running, ended, over, UsePhaseEnded},
		{"UseEnded once more", Fold(running, ended), again, later, UsePhaseEnded},
		{"UseEnded of one that was started unreadably", RealUse{}, ended, RealUse{ID: "u", End: over.End}, UsePhaseEnded},
		{"an event of another stream", running, cancelled, running, UsePhaseStarted},
		{"an event of another stream, no real use", RealUse{}, checkedIn, RealUse{}, UsePhaseNone},
	} {
		got := row.given.Evolve(row.when)
		if !reflect.DeepEqual(got, row.then) {
			t.Errorf("%s: got\n%+v, want\n%+v", row.name, got, row.then)
		}
		if got.Phase() != row.phase || got.EndedAt().IsZero() != (got.End == nil) {
			t.Errorf("%s: phase %q, ended at %s", row.name, got.Phase(), got.EndedAt())
		}
		if row.given.End != nil && *row.given.End != *over.End {
			t.Errorf("%s: what it evolved from became %+v", row.name, *row.given.End)
		}
	}
}

// TestRealUseOf holds the ids of real uses to what they have always been: streams are named after them.
func TestRealUseOf(t *testing.T) {
	for booking, want := range map[BookingID]RealUseID{
		"":                                     "338b5f72-4588-5046-983d-e28994de7167",
		"0192f0c1-7f5e-7c5a-8a54-6a5d8a4d7d11": "3e322e48-6ca5-5f74-8ed3-556cee775a2a",
		"b":                                    "ec95db8b-49bf-5e12-9d95-f36e106fb623",
	} {
		if got := RealUseOf(booking); got != want {
			t.Errorf("of booking %q: %s, want %s", booking, got, want)
		}
	}
}

func TestStreamNames(t *testing.T) {
	for _, row := range []struct{ got, want string }{
		{BookingID("b").Stream(), "booking-b"},
		{RoomID("red-1").Stream(), "calendar-red-1"},
		{RealUseID("u").Stream(), "realuse-u"},
	} {
		if row.got != row.want {
			t.Errorf("stream %s, want %s", row.got, row.want)
		}
	}
}
