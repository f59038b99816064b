package domain

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestFaultDecisions(t *testing.T) {
	room := Fold(Calendar{}, Event(RoomRegistered{RoomID: "red", Details: Details{Name: "Red", Equipment: []string{"beamer", "board"}}})).About()
	reported := func(id FaultID, equipment, text string) RoomFaultReported {
		return RoomFaultReported{FaultID: id, RoomID: "red", Equipment: equipment, Text: text, By: "ann", At: noon}
	}
	settled := RoomFaultSettled{FaultID: "a", RoomID: "red", By: "eve", Note: "new lamp", At: noon}
	report := func(id FaultID, equipment, text string) func(RoomFaults) ([]Event, error) {
		return func(f RoomFaults) ([]Event, error) {
			e := reported(id, equipment, text)
			e.RoomID = ""
			return DecideReportFault(f, room, e)
		}
	}
	settle := func(id FaultID, note string) func(RoomFaults) ([]Event, error) {
		return func(f RoomFaults) ([]Event, error) {
			return DecideSettleFault(f, RoomFaultSettled{FaultID: id, By: "eve", Note: note, At: noon})
		}
	}
	beamer, draught := reported("a", "beamer", "no picture"), reported("b", "", "a draught")
	full := []Event{}
	for i := range MaxOpenFaults {
		full = append(full, reported(FaultID(fmt.Sprint(i)), "", fmt.Sprint("no ", i)))
	}
	invalid := func(field Field) error { return &Invalid{[]Fault{{Field: field}}} }
	for name, c := range map[string]struct {
		given []Event
		when  func(RoomFaults) ([]Event, error)
		then  []Event
		err   error
	}{
		"first":                            {nil, report("a", " beamer ", " no picture\t"), []Event{beamer}, nil},
		"without words":                    {nil, report("a", "", ""), []Event{reported("a", "", "")}, nil},
		"another piece":                    {[]Event{beamer}, report("b", "board", ""), []Event{reported("b", "board", "")}, nil},
		"the same piece in other words":    {[]Event{beamer}, report("b", "beamer", "dark"), nil, nil},
		"something else":                   {[]Event{beamer, draught}, report("c", "", "a smell"), []Event{reported("c", "", "a smell")}, nil},
		"something else in the same words": {[]Event{draught}, report("c", "", " a draught"), nil, nil},
		"again after it was settled":       {[]Event{beamer, settled}, report("b", "beamer", ""), []Event{reported("b", "beamer", "")}, nil},
		"the same report":                  {[]Event{beamer, settled}, report("a", "beamer", "no picture"), nil, nil},
		"what the room does not have":      {nil, report("a", "piano", ""), nil, invalid("equipment")},
		"a long text":                      {nil, report("a", "", strings.Repeat("x", MaxFaultText+1)), nil, invalid("text")},
		"two lines":                        {nil, report("a", "", "x\ny"), nil, invalid("text")},
		"too many":                         {full, report("a", "beamer", ""), nil, &TooManyFaults{"red"}},
		"too many, and known":              {full, report("a", "", "no 3"), nil, nil},
		"settle":                           {[]Event{beamer}, settle("a", " new lamp "), []Event{settled}, nil},
		"settle again":                     {[]Event{beamer, settled}, settle("a", "other words"), nil, nil},
		"settle with a long note":          {[]Event{beamer}, settle("a", strings.Repeat("x", MaxFaultText+1)), nil, invalid("note")},
		"settle what is not there":         {[]Event{beamer}, settle("b", ""), nil, ErrFaultNotFound},
		"settle where nothing ever was":    {nil, settle("a", ""), nil, ErrFaultNotFound},
	} {
		given := Fold(RoomFaults{}, c.given...)
		then, err := c.when(given)
		if wrong, ok := errors.AsType[*Invalid](err); ok {
			for i := range wrong.Faults {
				wrong.Faults[i].Detail = ""
			}
		}
		if !reflect.DeepEqual(then, c.then) || !reflect.DeepEqual(err, c.err) {
			t.Errorf("%s: %+v, %v, want %+v, %v", name, then, err, c.then, c.err)
		}
		if again, err := c.when(Fold(given, then...)); c.err == nil && (len(again) > 0 || err != nil) {
			t.Errorf("%s: again: %+v, %v", name, again, err)
		}
	}
	if _, err := DecideReportFault(RoomFaults{}, Room{}, beamer); !errors.Is(err, ErrRoomNotFound) {
		t.Errorf("in a room that is not registered: %v", err)
	}
}

// The state is a value: what evolves from it leaves it as it is. Of what is settled the last ones are remembered.
func TestFaultsAreAValue(t *testing.T) {
	var before RoomFaults
	for i := range 3 {
		before = before.Evolve(RoomFaultReported{FaultID: FaultID(fmt.Sprint(i)), RoomID: "red", Equipment: "beamer", At: noon})
	}
	left, right := before.Evolve(RoomFaultSettled{FaultID: "0"}), before.Evolve(RoomFaultReported{FaultID: "3"})
	before.Evolve(RoomFaultReported{FaultID: "4"})
	if len(before.Open) != 3 || before.Open[0].ID != "0" || len(left.Open) != 2 || left.Settled[0].ID != "0" || right.Open[3].ID != "3" {
		t.Errorf("%+v\n%+v\n%+v", before, left, right)
	}
	for i := range maxSettledFaults + 5 {
		id := FaultID(fmt.Sprint("x", i))
		left = left.Evolve(RoomFaultReported{FaultID: id}).Evolve(RoomFaultSettled{FaultID: id})
	}
	if _, found := left.Find("x5"); len(left.Settled) != maxSettledFaults || !found || left.Settled[0].ID != "x5" {
		t.Errorf("%d settled, from %s on", len(left.Settled), left.Settled[0].ID)
	}
}
