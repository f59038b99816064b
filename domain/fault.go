package domain

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The events of the faults of a room, in a stream of their own. They are stored forever. They are not in the room's calendar: what is broken
// keeps nobody from booking the room, a report must not change the room's revision, on which whoever edits the room decides, and programs that
// do not know these events go on booking the room. All faults of a room share a stream, because whether one is known already, and how many
// are open, is decided for the room.
type (
	// RoomFaultReported says that something in the room is broken.
	RoomFaultReported struct {
		FaultID   FaultID   `json:"faultId"`
		RoomID    RoomID    `json:"roomId"`
		Equipment string    `json:"equipment,omitempty"` // as the room's details name it; empty is something else
		Text      string    `json:"text,omitempty"`
		By        UserID    `json:"by,omitempty"`
		At        time.Time `json:"at"`
	}

	// RoomFaultSettled says that the fault is no more, or was none.
	RoomFaultSettled struct {
		FaultID FaultID   `json:"faultId"`
		RoomID  RoomID    `json:"roomId"`
		By      UserID    `json:"by,omitempty"`
		Note    string    `json:"note,omitempty"`
		At      time.Time `json:"at"`
	}
)

func (RoomFaultReported) EventType() string { return "RoomFaultReported" }
func (RoomFaultSettled) EventType() string  { return "RoomFaultSettled" }

// FaultID names a fault of a room; the text form of a UUID.
type FaultID string

// MaxOpenFaults is how many faults of a room may be open at a time, and MaxFaultText the length of what is said of one, in characters.
const (
	MaxOpenFaults = 20
	MaxFaultText  = 200
)

// maxSettledFaults is how many settled faults of a room are remembered, the last ones.
const maxSettledFaults = 50

// RoomFault is a fault of a room.
type RoomFault struct {
	ID         FaultID
	Equipment  string // empty is something else
	Text       string
	By         UserID
	At         time.Time
	Settlement *Settlement // nil while it is open
}

// Settlement is how a fault was settled.
type Settlement struct {
	By   UserID
	Note string
	At   time.Time
}

// What says what is broken: the equipment, what was written about it, or both. It is empty if neither is known.
func (f RoomFault) What() string {
	if f.Equipment != "" && f.Text != "" {
		return f.Equipment + ": " + f.Text
	}
	return cmp.Or(f.Equipment, f.Text)
}

// RoomFaults is the state of the faults of a room. The zero value is a room of which none was ever reported. RoomFaults is a value, as a
// [Booking] is.
type RoomFaults struct {
	RoomID  RoomID
	Open    []RoomFault // as they were reported
	Settled []RoomFault // the last ones, as they were settled
}

// Evolve folds an event of the stream.
func (f RoomFaults) Evolve(event Event) RoomFaults {
	switch e := event.(type) {
	case RoomFaultReported:
		f.RoomID = e.RoomID
		f.Open = append(slices.Clip(f.Open), RoomFault{ID: e.FaultID, Equipment: e.Equipment, Text: e.Text, By: e.By, At: instant(e.At)})
	case RoomFaultSettled:
		i := slices.IndexFunc(f.Open, func(o RoomFault) bool { return o.ID == e.FaultID })
		if i < 0 {
			return f
		}
		settled := f.Open[i]
		settled.Settlement = &Settlement{By: e.By, Note: e.Note, At: instant(e.At)}
		f.Open = slices.Delete(slices.Clone(f.Open), i, i+1)
		f.Settled = append(slices.Clip(f.Settled), settled)
		f.Settled = f.Settled[max(0, len(f.Settled)-maxSettledFaults):]
	}
	return f
}

// Find returns a fault, open or settled.
func (f RoomFaults) Find(id FaultID) (RoomFault, bool) {
	for _, faults := range [...][]RoomFault{f.Open, f.Settled} {
		if i := slices.IndexFunc(faults, func(o RoomFault) bool { return o.ID == id }); i >= 0 {
			return faults[i], true
		}
	}
	return RoomFault{}, false
}

// Known returns the open fault that a report of the same would be about: one of the same piece of equipment, whatever is said of it, or of
// something else with the same words.
func (f RoomFaults) Known(equipment, text string) (RoomFault, bool) {
	equipment, _ = normalText(equipment, maxName, false)
	text, _ = normalText(text, MaxFaultText, false)
	for _, o := range f.Open {
		if o.Equipment == equipment && (equipment != "" || o.Text == text) {
			return o, true
		}
	}
	return RoomFault{}, false
}

// TooManyFaults means that [MaxOpenFaults] faults of the room are open.
type TooManyFaults struct{ Room RoomID }

func (e *TooManyFaults) Error() string {
	return fmt.Sprintf("%d faults of room %s are open", MaxOpenFaults, e.Room)
}

// DecideReportFault reports a fault of a room.
//
//	given no open fault of that equipment                       then RoomFaultReported
//	given one, or one of something else with that text          then nothing: it is known
//	given a fault with the id, open or settled                  then nothing: a repeat
//	given equipment that the room does not have, or a text that
//	is too long                                                 then *Invalid
//	given MaxOpenFaults open faults                             then *TooManyFaults
//	given a room that is not registered                         then ErrRoomNotFound
func DecideReportFault(f RoomFaults, r Room, e RoomFaultReported) ([]Event, error) {
	if r.ID == "" {
		return nil, ErrRoomNotFound
	}
	e.RoomID = r.ID
	var faults []Fault
	var fault string
	if e.Equipment, fault = normalText(e.Equipment, maxName, false); fault == "" && e.Equipment != "" && !slices.Contains(r.Details.Equipment, e.Equipment) {
		fault = "must be a piece of the room's equipment, or left out"
	}
	if fault != "" {
		faults = append(faults, Fault{"equipment", fault})
	}
	if e.Text, fault = normalText(e.Text, MaxFaultText, false); fault != "" {
		faults = append(faults, Fault{"text", fault})
	}
	_, known := f.Known(e.Equipment, e.Text)
	_, repeat := f.Find(e.FaultID)
	switch {
	case faults != nil:
		return nil, &Invalid{faults}
	case known || repeat:
		return nil, nil
	case len(f.Open) >= MaxOpenFaults:
		return nil, &TooManyFaults{r.ID}
	}
	return []Event{e}, nil
}

// DecideSettleFault settles a fault.
//
//	given it is open                   then RoomFaultSettled
//	given it is settled                then nothing: a repeat, or somebody else was first
//	given a note that is too long      then *Invalid
//	given no such fault                then ErrFaultNotFound: it may have been settled long ago
func DecideSettleFault(f RoomFaults, e RoomFaultSettled) ([]Event, error) {
	known, found := f.Find(e.FaultID)
	if !found {
		return nil, ErrFaultNotFound
	}
	e.RoomID = f.RoomID
	note, fault := normalText(e.Note, MaxFaultText, false)
	switch e.Note = note; {
	case fault != "":
		return nil, &Invalid{[]Fault{{"note", fault}}}
	case known.Settlement != nil:
		return nil, nil
	}
	return []Event{e}, nil
}
