package domain

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what a person or a program is to the system. An actor may have several; what one of them permits is permitted.
type Role string

const (
	RoleUser     Role = "user"     // books rooms
	RoleApprover Role = "approver" // answers for the rooms that the actor names
	RoleAdmin    Role = "admin"    // looks after rooms and users
	RoleDoor     Role = "door"     // the display at the door of the rooms that the actor names
	RoleMachine  Role = "machine"  // a program that watches or repairs this one
)

// AllRoles are all roles.
var AllRoles = []Role{RoleUser, RoleApprover, RoleAdmin, RoleDoor, RoleMachine}

// Roles is a set of roles: their names in the order of AllRoles, separated by spaces. That is how it is stored.
type Roles string

// NewRoles returns the set of the given roles. Unknown ones are left out.
func NewRoles(roles ...Role) Roles { return Roles(those(roles, AllRoles)) }

// those returns the names that are among all, in the order of these, separated by spaces.
func those[T ~string](names, all []T) string {
	var found []string
	for _, name := range all {
		if slices.Contains(names, name) {
			found = append(found, string(name))
		}
	}
	return strings.Join(found, " ")
}

// List returns the roles in the order of AllRoles.
func (r Roles) List() (roles []Role) {
	for name := range strings.FieldsSeq(string(r)) {
		roles = append(roles, Role(name))
	}
	return roles
}

// Has reports whether the set has the role.
func (r Roles) Has(role Role) bool { return has(string(r), string(role)) }

// has reports whether a word is among those of a text.
func has(text, word string) bool {
	for w := range strings.FieldsSeq(text) {
		if w == word {
			return true
		}
	}
	return false
}

// And returns the roles that are in both sets.
func (r Roles) And(other Roles) Roles {
	return NewRoles(slices.DeleteFunc(r.List(), func(role Role) bool { return !other.Has(role) })...)
}

// Rooms is a set of rooms: their ids, separated by spaces, or [AllRooms]. That is how it is stored.
type Rooms string

// AllRooms is the set of all rooms, also those to come. It is no room's id.
const AllRooms Rooms = "*"

// NewRooms returns the set of the given rooms.
func NewRooms(rooms ...RoomID) Rooms {
	names := make([]string, len(rooms))
	for i, room := range rooms {
		names[i] = string(room)
	}
	slices.Sort(names)
	return Rooms(strings.Join(slices.Compact(names), " "))
}

// List returns the rooms of a set that names them.
func (r Rooms) List() (rooms []RoomID) {
	for name := range strings.FieldsSeq(string(r)) {
		rooms = append(rooms, RoomID(name))
	}
	return rooms
}

// Has reports whether the room is in the set.
func (r Rooms) Has(room RoomID) bool { return r == AllRooms || has(string(r), string(room)) }

// And returns the rooms that are in both sets.
func (r Rooms) And(other Rooms) Rooms {
	switch {
	case r == AllRooms:
		return other
	case other == AllRooms:
		return r
	default:
		return NewRooms(slices.DeleteFunc(r.List(), func(room RoomID) bool { return !other.Has(room) })...)
	}
}

// Actor is who gives a command or asks a query.
type Actor struct {
	User  UserID
	Roles Roles
	Rooms Rooms // those for which the roles approver and door count
	// ByToken means that the actor was recognised by a token, this program's or an identity provider's, and not by signing in.
	ByToken bool
}

// Anyone returns the actor of a caller who does not say, or need not prove, who they are: where nobody is authenticated everything is
// permitted.
func Anyone(user UserID) Actor {
	return Actor{User: user, Roles: NewRoles(RoleAdmin, RoleMachine), Rooms: AllRooms}
}

// Relation is what an actor has to do with the thing that an action is about.
type Relation string

const (
	Own          Relation = "own"         // it is the actor's: their booking, their account
	OfOwnRoom    Relation = "of own room" // it is somebody else's, in a room that the actor approves for or is the door of
	SomebodyElse Relation = "other's"     // it is somebody else's, or the system's
)

// AllRelations are all relations.
var AllRelations = []Relation{Own, OfOwnRoom, SomebodyElse}

// To returns the actor's relation to something that belongs to a user and is in a room; either may be empty. Approvers are those that the
// room itself names. The role door gives a user no rooms: users may do more in the rooms that they answer for than doors may.
func (a Actor) To(owner UserID, room RoomID, approvers ...UserID) Relation {
	switch {
	case owner != "" && owner == a.User:
		return Own
	case room != "" && (a.Roles.Has(RoleApprover) || a.Roles.Has(RoleDoor) && !a.Roles.Has(RoleUser)) && a.Rooms.Has(room), a.User != "" && slices.Contains(approvers, a.User):
		return OfOwnRoom
	default:
		return SomebodyElse
	}
}

// Action is something that is permitted or not.
type Action string

const (
	Book         Action = "book"
	ChangeBooked Action = "change a booking"
	CancelBooked Action = "cancel a booking"
	AnswerBooked Action = "confirm or deny a booking"
	UseRoom      Action = "start or end the use of a room"
	ReadBookings Action = "read bookings"
	SeeWho       Action = "see who bookings are for"
	ManageRooms  Action = "look after rooms, their rules and closures"
	ReadRooms    Action = "read what is known of rooms"
	ReportFault  Action = "report a fault of a room"
	SettleFault  Action = "settle a fault of a room"
	ManageUsers  Action = "look after users"
	SetPassword  Action = "change a password"
	EndSessions  Action = "sign out everywhere"
	ManageTokens Action = "create, list or revoke tokens"
	RetrySending Action = "have a notification sent again"
	ReadMetrics  Action = "read metrics"
	ReadAudit    Action = "read who did what"
	RepairSystem Action = "replay, verify or release"
)

// permissions is the table: for each action and role, the relations in which it is permitted.
var permissions = map[Action]map[Role][]Relation{
	Book:         {RoleUser: {Own, OfOwnRoom}, RoleApprover: {Own, OfOwnRoom}, RoleAdmin: AllRelations},
	ChangeBooked: {RoleUser: {Own, OfOwnRoom}, RoleApprover: {Own, OfOwnRoom}, RoleAdmin: AllRelations},
	CancelBooked: {RoleUser: {Own, OfOwnRoom}, RoleApprover: {Own, OfOwnRoom}, RoleAdmin: AllRelations},
	AnswerBooked: {RoleUser: {OfOwnRoom}, RoleApprover: {OfOwnRoom}, RoleAdmin: AllRelations},
	UseRoom:      {RoleUser: {Own, OfOwnRoom}, RoleApprover: {Own, OfOwnRoom}, RoleAdmin: AllRelations, RoleDoor: {OfOwnRoom}},
	ReadBookings: {RoleUser: AllRelations, RoleApprover: AllRelations, RoleAdmin: AllRelations, RoleDoor: {OfOwnRoom}},
	SeeWho:       {RoleUser: {Own, OfOwnRoom}, RoleApprover: {Own, OfOwnRoom}, RoleAdmin: AllRelations},
	ManageRooms:  {RoleAdmin: AllRelations},
	ReadRooms:    {RoleUser: AllRelations, RoleApprover: AllRelations, RoleAdmin: AllRelations, RoleDoor: {OfOwnRoom}},
	ReportFault:  {RoleUser: AllRelations, RoleApprover: AllRelations, RoleAdmin: AllRelations, RoleDoor: {OfOwnRoom}},
	SettleFault:  {RoleUser: {OfOwnRoom}, RoleApprover: {OfOwnRoom}, RoleAdmin: AllRelations},
	ManageUsers:  {RoleAdmin: AllRelations},
	SetPassword:  {RoleUser: {Own}, RoleApprover: {Own}, RoleAdmin: AllRelations},
	EndSessions:  {RoleUser: {Own}, RoleApprover: {Own}, RoleAdmin: AllRelations},
	ManageTokens: {RoleUser: {Own}, RoleApprover: {Own}, RoleAdmin: AllRelations},
	RetrySending: {RoleAdmin: AllRelations, RoleMachine: AllRelations},
	ReadMetrics:  {RoleAdmin: AllRelations, RoleMachine: AllRelations},
	ReadAudit:    {RoleAdmin: AllRelations},
	RepairSystem: {RoleMachine: AllRelations},
}

// Privacy is what bookings tell those who may read them.
type Privacy string

const (
	PrivacyNames Privacy = "names" // who they are for
	PrivacyBusy  Privacy = "busy"  // who they are for only to those to whom [SeeWho] is permitted, and to others that the room is taken
)

// Forbidden means that the actor may not do what was asked for. It says who may.
type Forbidden struct {
	Action   Action
	Relation Relation
	// Instead are the relations in which the actor may do it, if any; and Roles are the roles that would permit what was asked for.
	Instead []Relation
	Roles   []Role
}

func (e *Forbidden) Error() string {
	return fmt.Sprintf("the actor may not %s (%s)", e.Action, e.Relation)
}

// May returns nil if the actor may do it, and *[Forbidden] otherwise. An action that is not in the table is forbidden to everybody.
func (a Actor) May(action Action, relation Relation) error {
	byRole := permissions[action]
	for role, permitted := range byRole {
		if slices.Contains(permitted, relation) && a.Roles.Has(role) {
			return nil
		}
	}
	refused := &Forbidden{Action: action, Relation: relation}
	for _, role := range AllRoles {
		if slices.Contains(byRole[role], relation) {
			refused.Roles = append(refused.Roles, role)
		}
		if !a.Roles.Has(role) {
			continue
		}
		for _, r := range byRole[role] {
			if !slices.Contains(refused.Instead, r) {
				refused.Instead = append(refused.Instead, r)
			}
		}
	}
	return refused
}
