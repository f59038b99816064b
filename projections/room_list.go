package projections

import (
	"reflect"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// RoomListName names the projection.
const RoomListName = "room_list"

// RoomStatus is the state of a room as the directory shows it.
type RoomStatus string

const (
	RoomRegistered RoomStatus = "REGISTERED"
	RoomRetired    RoomStatus = "RETIRED" // cannot be booked from a time on, which may be yet to come
)

// RoomList is a document of the directory of rooms: a registered room with its rules, closed periods and faults.
type RoomList struct {
	Room         domain.RoomID   `json:"roomId" bson:"roomId" key:"id"`
	Name         string          `json:"name" bson:"name"`
	Building     string          `json:"building,omitzero" bson:"building,omitempty"`
	Floor        string          `json:"floor,omitzero" bson:"floor,omitempty"`
	Capacity     int             `json:"capacity,omitzero" bson:"capacity,omitempty"` // in persons; 0 is not known
	Equipment    []string        `json:"equipment,omitzero" bson:"equipment,omitempty"`
	Zone         string          `json:"zone,omitzero" bson:"zone,omitempty"` // IANA name of the time zone; empty is the program's
	Colour       string          `json:"colour,omitzero" bson:"colour,omitempty"`
	Note         string          `json:"note,omitzero" bson:"note,omitempty"`
	Approvers    []domain.UserID `json:"approvers,omitzero" bson:"approvers,omitempty"`
	Status       RoomStatus      `json:"status" bson:"status" key:"status"`
	RegisteredAt time.Time       `json:"registeredDtm" bson:"registeredDtm"`
	RetiredFrom  time.Time       `json:"retiredFromDtm,omitzero" bson:"retiredFromDtm,omitempty"` // zero unless it is retired
	Rules        *domain.Rules   `json:"rules,omitzero" bson:"rules,omitempty"`                   // nil if there are none
	Photo        *domain.Photo   `json:"photo,omitzero" bson:"photo,omitempty"`                   // nil if there is none
	// Closures are the closed periods in the order in which they were made, but for those that were reopened, and those that had ended more
	// than [closuresKept] before another one was made.
	Closures []Closure `json:"closures,omitzero" bson:"closures,omitempty"`
	// Faults are those that are not settled, as they were reported.
	Faults []Fault `json:"faults,omitzero" bson:"faults,omitempty"`
}

// Fault is a fault of a room that is not settled. Who reported it is for those who may see that, and not in the directory.
type Fault struct {
	ID        domain.FaultID `json:"faultId" bson:"faultId"`
	Equipment string         `json:"equipment,omitzero" bson:"equipment,omitempty"` // empty is something else
	Text      string         `json:"text,omitzero" bson:"text,omitempty"`
	At        time.Time      `json:"reportedDtm" bson:"reportedDtm"`
}

// Closure is a period for which a room is closed.
type Closure struct {
	ID     domain.ClosureID `json:"closureId" bson:"closureId"`
	Start  time.Time        `json:"startDtm" bson:"startDtm"`
	End    time.Time        `json:"endDtm" bson:"endDtm"`
	Reason string           `json:"reason,omitzero" bson:"reason,omitempty"`
}

// closuresKept is how long closures that are over stay in a document at least, which else would grow forever.
const closuresKept = 400 * 24 * time.Hour

func roomList() list[RoomList] {
	return list[RoomList]{
		name:     RoomListName,
		version:  3,
		whole:    true,
		statuses: statuses{all: []string{string(RoomRegistered), string(RoomRetired)}},
		key:      roomOf,
		fold:     RoomList.fold,
		equal:    func(a, b RoomList) bool { return reflect.DeepEqual(a, b) },
		status:   func(l RoomList) string { return string(l.Status) },
	}
}

// roomOf is the room that an event belongs to, and whether it registers the room.
func roomOf(r eventstore.Recorded) (id string, first bool) {
	switch e := r.Event.(type) {
	case domain.RoomFaultReported:
		return string(e.RoomID), false
	case domain.RoomFaultSettled:
		return string(e.RoomID), false
	}
	room, _ := domain.RoomOf(r.Event)
	_, first = r.Event.(domain.RoomRegistered)
	return string(room), first
}

func (l RoomList) fold(r eventstore.Recorded) RoomList {
	switch e := r.Event.(type) {
	case domain.RoomRegistered:
		l.Room, l.Status, l.RegisteredAt = e.RoomID, RoomRegistered, shown(e.At)
		l = l.described(e.Details)
	case domain.RoomChanged:
		l = l.described(e.Details)
	case domain.RoomRetired:
		l.Status, l.RetiredFrom = RoomRetired, shown(e.From)
	case domain.RoomReinstated:
		l.Status, l.RetiredFrom = RoomRegistered, time.Time{}
	case domain.RulesSet:
		if l.Rules = nil; e.Rules != (domain.Rules{}) {
			l.Rules = &e.Rules
		}
	case domain.RoomPhotoChanged:
		if l.Photo = nil; e.Photo != (domain.Photo{}) {
			l.Photo = &e.Photo
		}
	case domain.PeriodClosed:
		l.Closures = append(l.closuresWithout(func(c Closure) bool { return c.End.Before(e.At.Add(-closuresKept)) }),
			Closure{ID: e.ClosureID, Start: shown(e.Slot.Start), End: shown(e.Slot.End), Reason: e.Reason})
	case domain.PeriodReopened:
		l.Closures = l.closuresWithout(func(c Closure) bool { return c.ID == e.ClosureID })
	case domain.RoomFaultReported:
		l.Faults = append(slices.Clip(l.Faults), Fault{ID: e.FaultID, Equipment: e.Equipment, Text: e.Text, At: shown(e.At)})
	case domain.RoomFaultSettled:
		open := slices.DeleteFunc(slices.Clone(l.Faults), func(f Fault) bool { return f.ID == e.FaultID })
		if l.Faults = slices.Clip(open); len(open) == 0 {
			l.Faults = nil
		}
	}
	return l
}

// Details is what is known of the room.
func (l RoomList) Details() domain.Details {
	return domain.Details{
		Name: l.Name, Building: l.Building, Floor: l.Floor, Capacity: l.Capacity, Equipment: l.Equipment, Zone: l.Zone, Colour: l.Colour, Note: l.Note, Approvers: l.Approvers,
	}
}

func (l RoomList) described(d domain.Details) RoomList {
	l.Name, l.Building, l.Floor, l.Capacity, l.Equipment = d.Name, d.Building, d.Floor, d.Capacity, d.Equipment
	l.Zone, l.Colour, l.Note, l.Approvers = d.Zone, d.Colour, d.Note, d.Approvers
	return l
}

// closuresWithout returns a copy of the closures without some; nil if none is left.
func (l RoomList) closuresWithout(out func(Closure) bool) []Closure {
	var left []Closure
	for _, c := range l.Closures {
		if !out(c) {
			left = append(left, c)
		}
	}
	return slices.Clip(left)
}
