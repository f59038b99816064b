package oidc

import (
	"slices"
	"strings"

	"roombook/domain"
)

// claims are a provider's claims about a person.
type claims map[string]any

func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// words returns the values of a claim. Its name may itself have dots, as in an address; otherwise they lead into objects.
func (c claims) words(name string) (words []string) {
	value, ok := c[name]
	if outer, inner, found := strings.Cut(name, "."); !ok && found {
		object, _ := c[outer].(map[string]any)
		return claims(object).words(inner)
	}
	switch value := value.(type) {
	case string:
		return strings.Fields(value)
	case []any:
		for _, v := range value {
			if word, ok := v.(string); ok {
				words = append(words, word)
			}
		}
	}
	return words
}

// rights returns the roles that values of a claim name, and the rooms for which they count. Both roles that count for rooms count for the
// same ones: those of the approver, who may do all that a door may, so that a door of a room does not make anybody its approver.
func rights(words []string) (domain.Roles, domain.Rooms) {
	var roles []domain.Role
	rooms, all := map[domain.Role][]domain.RoomID{}, map[domain.Role]bool{}
	for _, word := range words {
		name, room, ofRoom := strings.Cut(strings.TrimPrefix(word, "roombook-"), ":")
		role := domain.Role(name)
		counts := role == domain.RoleApprover || role == domain.RoleDoor
		switch {
		case !slices.Contains(domain.AllRoles, role), ofRoom && (!counts || !isRoom(room)):
			continue
		case ofRoom:
			rooms[role] = append(rooms[role], domain.RoomID(room))
		case counts:
			all[role] = true
		}
		roles = append(roles, role)
	}
	of := domain.RoleDoor
	if slices.Contains(roles, domain.RoleApprover) {
		of = domain.RoleApprover
	}
	if all[of] {
		return domain.NewRoles(roles...), domain.AllRooms
	}
	return domain.NewRoles(roles...), domain.NewRooms(rooms[of]...)
}

// isRoom reports whether a text can be the id of a room.
func isRoom(id string) bool {
	other := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	return id != "" && len(id) <= 64 && !strings.ContainsFunc(id, other)
}
