package web

import (
	"cmp"
	"slices"
	"time"

	"roombook/projections"
)

func (p *Pages) lobbyRoutes() []Route {
	return []Route{
		// The display in the lobby of a building: all its rooms, those that are free first.
		{"GET", "/lobby", false, p.lobby},
	}
}

// lobbyPage is the data of a lobby display.
type lobbyPage struct {
	Rooms []lobbyRoom
	Free  int
}

type lobbyRoom struct {
	presence
	Room *projections.RoomList
	Zone *time.Location
}

// lobbySizes are the numbers of rooms for which the style has a number of columns and rows, that of more rooms aside.
var lobbySizes = []int{6, 12, 20, 30}

// Size is the least of the lobbySizes that has place for all rooms; 0 if none has.
func (d *lobbyPage) Size() int {
	for _, size := range lobbySizes {
		if len(d.Rooms) <= size {
			return size
		}
	}
	return 0
}

func (p *Pages) lobby(v *view) error {
	if _, err := v.readRooms(); err != nil {
		return err
	}
	building := v.r.URL.Query().Get("building")
	o, err := p.lists.Occupancy(v.r.Context(), projections.OccupancyQuery{From: v.Now, To: v.Now.Add(24 * time.Hour), Building: building, MinPosition: v.seen()})
	if err != nil {
		return err
	}
	v.Position = min(v.roomsAt, o.Position)
	data := &lobbyPage{}
	for i := range o.Rooms {
		r := lobbyRoom{v.presence(&o.Rooms[i]), o.Rooms[i].Known, o.Rooms[i].Zone}
		if r.State == "free" {
			data.Free++
		}
		data.Rooms = append(data.Rooms, r)
	}
	taken := func(r lobbyRoom) int {
		if r.State == "free" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(data.Rooms, func(a, b lobbyRoom) int { return cmp.Compare(taken(a), taken(b)) }) // otherwise by name
	return v.show("lobby", cmp.Or(building, v.T("title.lobby")), data)
}
