package commands

import (
	"testing"

	"roombook/domain"
)

// register returns what registers a room.
func register(t *testing.T) func(h *Handler, room domain.RoomID) (Room, error) {
	return func(h *Handler, room domain.RoomID) (Room, error) {
		return h.RegisterRoom(t.Context(), RegisterRoom{Request: request(), Room: room, Details: domain.Details{Name: "Room"}})
	}
}
