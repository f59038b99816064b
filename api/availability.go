package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"roombook/domain"
	"roombook/projections"
)

func (s *Server) availabilityRoutes() []route {
	return []route{
		// The rooms that can be booked.
		{method: "GET", path: "/availability", handle: s.availability, params: availabilityParams{}},
	}
}

// roundUp is the unit to which the start of a booking from now on is rounded up.
const roundUp = 5 * time.Minute

// availabilityReply is the rooms that can be booked, or what can be booked instead.
type availabilityReply struct {
	Embedded struct {
		Rooms       []availableRoom   `json:"rooms"`
		Suggestions []suggestionReply `json:"suggestions"`
	} `json:"_embedded"`
	Links struct {
		Self         link `json:"self"`
		Availability link `json:"availability"`
	} `json:"_links"`
}

// availableRoom is a room, and the time for which it can be booked.
type availableRoom struct {
	RoomID      domain.RoomID `json:"roomId"`
	Name        string        `json:"name"`
	Building    string        `json:"building,omitzero"`
	Floor       string        `json:"floor,omitzero"`
	Capacity    int           `json:"capacity,omitzero"`
	Equipment   []string      `json:"equipment,omitzero"`
	UseStartDtm timestamp     `json:"useStartDtm"`
	UseEndDtm   timestamp     `json:"useEndDtm"`
	Links       struct {
		Room link `json:"room"`
	} `json:"_links"`
}

// suggestionReply is a room that can be booked instead, and why it cannot be booked as asked for, in the members of the problem with which the
// booking would be refused.
type suggestionReply struct {
	Kind    projections.SuggestionKind `json:"kind"`
	Room    availableRoom              `json:"room"`
	Because *problem                   `json:"because,omitzero"`
}

// availabilityParams are the query parameters of the rooms that can be booked.
type availabilityParams struct {
	roomFilterParams
	// The start of the booking (RFC 3339, or the compact local forms).
	From string `param:"from"`
	// The end of the booking (RFC 3339, or the compact local forms), at most 7 days after its start.
	To string `param:"to"`
	// The length of the booking, instead of from and to.
	Minutes string `param:"minutes"`
	// The time within which a booking of so many minutes is to be, of at most 7 days: two times (RFC 3339, or the compact local forms) with a slash between.
	Within string `param:"within"`
	// The user whom the booking is for, whose limits in a room count; the caller, where accounts are used and none is named. Others may be named by whom they may be booked for.
	BookingUserID string `param:"bookingUserId"`
	// The most rooms.
	Size string `param:"size"`
}

func (s *Server) availability(x *exchange) error {
	q := projections.AvailabilityQuery{RoomFilter: projections.RoomFilter{Now: x.now()}, User: x.actor.User}
	var minutes int
	var slot, within domain.Slot
	bySlot := true
	err := x.listParams(&q.MinPosition, func(name, value string) (err error) {
		bySlot = bySlot && name != "minutes" && name != "within"
		switch name {
		case "from":
			slot.Start, err = parseTime(queryTime(value), s.zone)
		case "to":
			slot.End, err = parseEnd(queryTime(value), s.zone)
		case "minutes":
			minutes, err = strconv.Atoi(value)
			if most := int(projections.MaxAvailabilityWindow / time.Minute); err != nil || minutes < 1 || minutes > most {
				err = fmt.Errorf("must be a whole number from 1 to %d", most)
			}
		case "within":
			within, err = parsePeriod(value, s.zone)
		case "bookingUserId":
			q.User, err = parseID[domain.UserID](value)
		case "size":
			q.Size, err = parseSize(value)
		default:
			err = parseRoomFilter(&q.RoomFilter, name, value)
		}
		return err
	})
	err = faultIf(err, bySlot && slot.Start.IsZero(), "from", "must be given with to, or minutes with within")
	err = faultIf(err, bySlot && slot.End.IsZero(), "to", "must be given with from, or minutes with within")
	err = faultIf(err, bySlot && !slot.Start.Before(slot.End), "to", "must be after from")
	err = faultIf(err, !bySlot && !slot.Start.IsZero(), "from", "must not be given with minutes and within")
	err = faultIf(err, !bySlot && !slot.End.IsZero(), "to", "must not be given with minutes and within")
	err = faultIf(err, !bySlot && minutes == 0, "minutes", "must be given with within")
	err = faultIf(err, !bySlot && within.Start.IsZero(), "within", "must be given with minutes")
	if err != nil {
		return err
	}
	if q.User != x.actor.User {
		if err := x.actor.May(domain.Book, domain.SomebodyElse); err != nil {
			return err
		}
	}
	q.Within, q.Length = slot, slot.End.Sub(slot.Start)
	if !bySlot {
		q.Within, q.Length = within, time.Duration(minutes)*time.Minute
		// What has passed of it cannot be booked any more, and nobody books from a fraction of a minute on.
		if soonest := q.Now.Add(roundUp - 1).Truncate(roundUp); q.Within.Start.Before(soonest) {
			q.Within.Start = soonest
		}
		if q.Within.End.Sub(q.Within.Start) < q.Length {
			return invalidParameter("within", errors.New("must last for the minutes, from now on at least"))
		}
	}
	a, err := s.lists.Availability(x.ctx, q)
	if err != nil {
		return asParameters(err)
	}
	var r availabilityReply
	r.Embedded.Rooms = make([]availableRoom, len(a.Rooms))
	for i, room := range a.Rooms {
		r.Embedded.Rooms[i] = x.availableRoom(room)
	}
	r.Embedded.Suggestions = make([]suggestionReply, len(a.Suggestions))
	for i, suggestion := range a.Suggestions {
		r.Embedded.Suggestions[i] = suggestionReply{Kind: suggestion.Kind, Room: x.availableRoom(suggestion.Available)}
		if suggestion.Because != nil {
			_, because := x.problemOf(x.inBody(suggestion.Because, bookingFields))
			r.Embedded.Suggestions[i].Because = &because
		}
	}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	r.Links.Availability = r.Links.Self
	x.position(a.Position)
	return x.reply(&r)
}

func (x *exchange) availableRoom(a projections.Available) availableRoom {
	r := availableRoom{
		RoomID: a.Room.Room, Name: a.Room.Name, Building: a.Room.Building, Floor: a.Room.Floor, Capacity: a.Room.Capacity, Equipment: a.Room.Equipment,
		UseStartDtm: x.time(a.Slot.Start), UseEndDtm: x.time(a.Slot.End),
	}
	r.Links.Room = x.link("/rooms/", string(a.Room.Room))
	return r
}

// parsePeriod parses two times with a slash between.
func parsePeriod(value string, zone *time.Location) (period domain.Slot, err error) {
	from, to, ok := strings.Cut(value, "/")
	if !ok {
		return period, errors.New("must be two times with a slash between")
	}
	if period.Start, err = parseTime(queryTime(from), zone); err == nil {
		period.End, err = parseEnd(queryTime(to), zone)
	}
	if err == nil && !period.Start.Before(period.End) {
		err = errors.New("must end after it begins")
	}
	return period, err
}
