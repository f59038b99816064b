package domain

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// expected is the whole table: for each action, one column for each role, with O for own, R for of own room, E for somebody else's.
const expected = `
	                                                user  approver  admin  door  machine
book                                            OR    OR        ORE    -     -
change a booking                                OR    OR        ORE    -     -
cancel a booking                                OR    OR        ORE    -     -
confirm or deny a booking                       R     R         ORE    -     -
start or end the use of a room                  OR    OR        ORE    R     -
read bookings                                   ORE   ORE       ORE    R     -
see who bookings are for                        OR    OR        ORE    -     -
look after rooms, their rules and closures      -     -         ORE    -     -
read what is known of rooms                     ORE   ORE       ORE    R     -
report a fault of a room                        ORE   ORE       ORE    R     -
settle a fault of a room                        R     R         ORE    -     -
look after users                                -     -         ORE    -     -
change a password                               O     O         ORE    -     -
sign out everywhere                             O     O         ORE    -     -
create, list or revoke tokens                   O     O         ORE    -     -
have a notification sent again                  -     -         ORE    -     ORE
read metrics                                    -     -         ORE    -     ORE
read who did what                               -     -         ORE    -     -
replay, verify or release                       -     -         -      -     ORE`

// Every cell of the table: what each role may do in each relation, and what a refusal says.
func TestPermissions(t *testing.T) {
	letters := map[Relation]string{Own: "O", OfOwnRoom: "R", SomebodyElse: "E"}
	cells, actions := 0, map[Action]bool{}
	for _, line := range strings.Split(strings.TrimSpace(expected), "\n")[1:] {
		action := Action(strings.TrimSpace(line[:48]))
		columns := strings.Fields(line[48:])
		actions[action] = true
		for i, role := range AllRoles {
			for _, relation := range AllRelations {
				cells++
				want := strings.Contains(columns[i], letters[relation])
				err := Actor{User: "ann", Roles: NewRoles(role)}.May(action, relation)
				if (err == nil) != want {
					t.Errorf("%s may %s (%s): %v, want %t", role, action, relation, err, want)
				}
				var refused *Forbidden
				if err == nil || !errors.As(err, &refused) {
					continue
				}
				for j, other := range AllRoles {
					if got, want := slices.Contains(refused.Roles, other), strings.Contains(columns[j], letters[relation]); got != want {
						t.Errorf("the refusal to let %s %s (%s) says that %s may: %t, want %t", role, action, relation, other, got, want)
					}
				}
				for _, instead := range AllRelations {
					if got, want := slices.Contains(refused.Instead, instead), strings.Contains(columns[i], letters[instead]); got != want {
						t.Errorf("the refusal to let %s %s (%s) says that it is allowed for %s: %t, want %t", role, action, relation, instead, got, want)
					}
				}
			}
		}
	}
	if want := len(declaredActions(t)) * len(AllRoles) * len(AllRelations); cells != want {
		t.Errorf("%d cells were checked of %d", cells, want)
	}
	if !maps.Equal(actions, declaredActions(t)) || len(permissions) != len(actions) {
		t.Errorf("the table is expected to have %v, and %v are declared", actions, declaredActions(t))
	}
	for _, relation := range AllRelations {
		if (Actor{Roles: NewRoles(AllRoles...)}).May("fly", relation) == nil {
			t.Error("an action that is not in the table is permitted")
		}
		if (Actor{User: "ann"}).May(Book, relation) == nil {
			t.Error("an actor without a role may book")
		}
	}
}

// declaredActions are the constants of type Action.
func declaredActions(t *testing.T) map[Action]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "actor.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[Action]bool{}
	for n := range ast.Preorder(file) {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if is, ok := v.Type.(*ast.Ident); ok && is.Name == "Action" {
				declared[Action(strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))] = true
			}
		}
	}
	return declared
}

func TestRelations(t *testing.T) {
	user := Actor{User: "ann", Roles: NewRoles(RoleUser), Rooms: "red"}
	approver := Actor{User: "ann", Roles: NewRoles(RoleUser, RoleApprover), Rooms: "blue red"}
	everywhere := Actor{User: "ann", Roles: NewRoles(RoleApprover), Rooms: AllRooms}
	door := Actor{Roles: NewRoles(RoleDoor), Rooms: "red"}
	for _, c := range []struct {
		actor     Actor
		owner     UserID
		room      RoomID
		approvers []UserID
		want      Relation
	}{
		{user, "ann", "red", nil, Own},
		{user, "bob", "red", nil, SomebodyElse}, // a user's rooms count for nothing
		{user, "bob", "red", []UserID{"eve", "ann"}, OfOwnRoom},
		{approver, "bob", "red", nil, OfOwnRoom},
		{approver, "bob", "re", nil, SomebodyElse},
		{approver, "bob", "green", nil, SomebodyElse},
		{approver, "bob", "green", []UserID{"ann"}, OfOwnRoom},
		{approver, "ann", "red", []UserID{"ann"}, Own}, // nobody approves their own
		{approver, "bob", "", nil, SomebodyElse},
		{everywhere, "bob", "green", nil, OfOwnRoom},
		{everywhere, "bob", "*", nil, OfOwnRoom},
		{door, "bob", "red", nil, OfOwnRoom},
		{door, "bob", "green", nil, SomebodyElse},
		{Actor{User: "ann", Roles: NewRoles(RoleUser, RoleDoor), Rooms: "red"}, "bob", "red", nil, SomebodyElse}, // or a user would confirm bookings there
		{door, "", "red", []UserID{""}, OfOwnRoom},
		{door, "", "green", []UserID{""}, SomebodyElse}, // nobody is not an approver
		{Actor{}, "", "", nil, SomebodyElse},            // nor does nothing belong to nobody
	} {
		if got := c.actor.To(c.owner, c.room, c.approvers...); got != c.want {
			t.Errorf("%+v to a thing of %q in %q, approved by %v: %s, want %s", c.actor, c.owner, c.room, c.approvers, got, c.want)
		}
	}
}

func TestSetsOfRolesAndRooms(t *testing.T) {
	if got := NewRoles(RoleAdmin, "pilot", RoleUser, RoleAdmin); got != "user admin" {
		t.Errorf("roles %q", got)
	}
	if got := NewRooms("b", "a", "b"); got != "a b" {
		t.Errorf("rooms %q", got)
	}
	for _, c := range []struct{ a, b, want Rooms }{
		{"a b", "b c", "b"}, {AllRooms, "b c", "b c"}, {"a", AllRooms, "a"}, {AllRooms, AllRooms, AllRooms},
		{"a", "b", ""}, {"", AllRooms, ""}, {AllRooms, "", ""}, // no room, never all of them
	} {
		if got := c.a.And(c.b); got != c.want {
			t.Errorf("%q and %q: %q, want %q", c.a, c.b, got, c.want)
		}
	}
	if got := NewRoles(RoleUser, RoleAdmin).And(NewRoles(RoleAdmin, RoleDoor)); got != "admin" {
		t.Errorf("roles %q", got)
	}
	if Rooms("").Has("") || Rooms("a").Has("*") || !Rooms("a b").Has("b") {
		t.Error("rooms that a set has")
	}
}
