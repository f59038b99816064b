package projections

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// MaxAvailabilityWindow is the longest window of an [AvailabilityQuery].
const MaxAvailabilityWindow = 7 * 24 * time.Hour

// AvailabilityQuery asks which registered rooms can be booked for some time within a window.
type AvailabilityQuery struct {
	RoomFilter // Now, the time of the query, must be given
	Within     domain.Slot
	// Length is that of the booking; that of the window asks for rooms that are free for all of it.
	Length time.Duration
	// User is whom the booking is for. Empty leaves out what rules say of a single user.
	User        domain.UserID
	Size        int // the maximum number of rooms, 1 to MaxSize; 0 is DefaultSize
	MinPosition eventstore.Position
}

// Availability is the answer to an [AvailabilityQuery].
type Availability struct {
	// Rooms are the rooms that can be booked, the smallest that suffice first.
	Rooms []Available
	// Suggestions are others; only if there are no Rooms.
	Suggestions []Suggestion
	// Position is the position up to which it takes every event into account.
	Position eventstore.Position
}

// Available is a room, and the first slot for which it can be booked.
type Available struct {
	Room *RoomList
	Slot domain.Slot
}

// SuggestionKind says in what a suggestion differs from what was asked for.
type SuggestionKind string

const (
	SuggestElsewhere SuggestionKind = "elsewhere" // in another building or on another floor
	SuggestOtherTime SuggestionKind = "other-time"
	SuggestShorter   SuggestionKind = "shorter"
)

// Suggestion is a room that can be booked instead.
type Suggestion struct {
	Available
	Kind SuggestionKind
	// Because is why the room cannot be booked as it was asked for, the error of [domain.DecideReserve]; nil if it was asked for elsewhere.
	Because error
}

const (
	firstCandidates = 64  // the number of rooms in the first query of the store; in each of the next it is four times as many,
	maxCandidates   = 512 // up to this
	maxSuggestions  = 3   // of each kind
	suggestedRooms  = 10
	suggestedWindow = 7 * 24 * time.Hour // after the one asked for
	suggestedBefore = 8 * time.Hour      // before it
	suggestedStep   = 15 * time.Minute
)

// Availability returns the rooms that can be booked by what the lists know; whether they can is decided when they are. Its errors
// are those of other queries.
func (q *Queries) Availability(ctx context.Context, query AvailabilityQuery) (Availability, error) {
	if window := query.Within.End.Sub(query.Within.Start); window > MaxAvailabilityWindow || query.Length > window {
		return Availability{}, &InvalidQuery{ParameterTo, fmt.Sprintf("must be at most %d days after the beginning, and far enough for the booking", MaxAvailabilityWindow/(24*time.Hour))}
	}
	query.Size = cmp.Or(query.Size, DefaultSize)
	if query.Size < 1 || query.Size > MaxSize {
		return Availability{}, &InvalidQuery{ParameterSize, fmt.Sprintf("must be between 1 and %d", MaxSize)}
	}
	d, err := q.Directory(ctx, query.MinPosition)
	if err != nil {
		return Availability{}, err
	}
	s := search{q, query, d, d.Position, nil}
	if err := s.readOwn(ctx); err != nil {
		return Availability{}, err
	}
	candidates := s.candidates(query.RoomFilter)
	a := Availability{}
	if a.Rooms, err = s.free(ctx, candidates, query.Size); err != nil {
		return Availability{}, err
	}
	if len(a.Rooms) == 0 {
		if a.Suggestions, err = s.suggest(ctx, candidates); err != nil {
			return Availability{}, err
		}
	}
	a.Position = s.position
	return a, nil
}

// search is an [AvailabilityQuery] that is being answered.
type search struct {
	*Queries
	AvailabilityQuery
	directory *Directory
	position  eventstore.Position
	own       map[domain.RoomID][]*BookingList // bookings of the user that count for limits; nil if none can
}

// readOwn reads the bookings of the user from the first week on that an answer may be about, if some room limits its users.
func (s *search) readOwn(ctx context.Context) error {
	if s.User == "" || !slices.ContainsFunc(s.directory.rooms, func(r *Room) bool { return r.Rules != nil && r.Rules.LimitUsers() }) {
		return nil
	}
	const week = 8 * 24 * time.Hour // in any time zone
	from := min(s.Now.UnixMicro(), s.Within.Start.Add(-suggestedBefore-week).UnixMicro())
	own, position, err := s.occupying(ctx, Selection{User: string(s.User), From: &from, Path: &Path{Index: Order{By: ColumnUser, Start: true}}}, s.MinPosition)
	s.own, s.position = own, min(s.position, position)
	return err
}

// candidates are rooms from the best fitting on.
func (s *search) candidates(f RoomFilter) []*Room {
	rooms := s.directory.filtered(f)
	size := func(r *Room) int {
		if r.Capacity == 0 {
			return math.MaxInt
		}
		return r.Capacity
	}
	slices.SortFunc(rooms, func(a, b *Room) int {
		return cmp.Or(cmp.Compare(size(a), size(b)), cmp.Compare(a.building, b.building), cmp.Compare(a.floor, b.floor), cmp.Compare(a.name, b.name), cmp.Compare(a.created, b.created))
	})
	return rooms
}

// taken returns the bookings of rooms in a window.
func (s *search) taken(ctx context.Context, rooms []*Room, window domain.Slot) (map[domain.RoomID][]*BookingList, error) {
	ids := make([]domain.RoomID, len(rooms))
	for i, r := range rooms {
		ids[i] = r.Room
	}
	taken, position, err := s.bookingsOf(ctx, s.directory, ids, window, s.MinPosition)
	s.position = min(s.position, position)
	return taken, err
}

// with is the room's calendar with some bookings, and with those of the user that count for limits.
func (s *search) with(r *Room, bookings []*BookingList) domain.Calendar {
	if own := s.own[r.Room]; len(own) > 0 {
		others := slices.DeleteFunc(slices.Clone(bookings), func(b *BookingList) bool { return b.User == s.User })
		bookings = append(others, own...)
	}
	if len(bookings) == 0 {
		return r.calendar
	}
	return r.calendar.EvolveAll(func(yield func(domain.Revision, domain.Event) bool) {
		revision := r.calendar.Revision()
		for _, b := range bookings {
			held := b.Occupied()
			if !held.Start.Before(held.End) {
				continue
			}
			reserved := domain.SlotReserved{ReservationID: domain.ReservationID(b.Booking), BookingID: b.Booking, RoomID: r.Room, Slot: held}
			if b.User == s.User {
				reserved.UserID = s.User
			}
			revision++
			yield(revision, reserved)
			if b.Status == StatusEnded {
				revision++
				yield(revision, domain.SlotUsed{ReservationID: reserved.ReservationID, BookingID: b.Booking, RoomID: r.Room, End: held.End})
			}
		}
	})
}

// ask is the reservation that a booking of a slot would ask for.
func (s *search) ask(r *Room, slot domain.Slot) domain.SlotReserved {
	return domain.SlotReserved{RoomID: r.Room, UserID: s.User, Slot: slot, At: s.Now}
}

// first is the first slot of a length within a window for which a room can be booked.
func (s *search) first(r *Room, c domain.Calendar, length time.Duration, window domain.Slot) (slot domain.Slot, ok bool) {
	slot, ok = c.NextFree(s.ask(r, domain.Slot{Start: window.Start, End: window.Start.Add(length)}), s.policy)
	return slot, ok && slot.Length() == length && !slot.End.After(window.End)
}

// leaves reports whether bookings, by start, leave as much of the window as was asked for. If not, no calendar is needed.
func (s *search) leaves(bookings []*BookingList) bool {
	free := s.Within.Start
	for _, b := range bookings {
		held := b.Occupied()
		if held.Start.Sub(free) >= s.Length {
			return true
		}
		free = later(free, held.End)
	}
	return s.Within.End.Sub(free) >= s.Length
}

// free returns the first n candidates that can be booked as they were asked for.
func (s *search) free(ctx context.Context, candidates []*Room, n int) ([]Available, error) {
	var found []Available
	for some := firstCandidates; len(candidates) > 0 && len(found) < n; some = min(4*some, maxCandidates) {
		rooms := candidates[:min(some, len(candidates))]
		candidates = candidates[len(rooms):]
		taken, err := s.taken(ctx, rooms, s.Within)
		if err != nil {
			return nil, err
		}
		for _, r := range rooms {
			bookings := taken[r.Room]
			if len(found) == n || !s.leaves(bookings) {
				continue
			}
			if slot, ok := s.first(r, s.with(r, bookings), s.Length, s.Within); ok {
				found = append(found, Available{&r.RoomList, slot})
			}
		}
	}
	return found, nil
}

// suggest returns other ways to have a room if none of the candidates can be booked: elsewhere, and the best fitting candidates for a
// shorter time or at another one, the nearest first.
func (s *search) suggest(ctx context.Context, candidates []*Room) ([]Suggestion, error) {
	var suggestions []Suggestion
	if s.Building != "" || s.Floor != "" {
		anywhere := s.RoomFilter
		anywhere.Building, anywhere.Floor = "", ""
		elsewhere, err := s.free(ctx, s.candidates(anywhere), maxSuggestions)
		if err != nil {
			return nil, err
		}
		for _, a := range elsewhere {
			suggestions = append(suggestions, Suggestion{Available: a, Kind: SuggestElsewhere})
		}
	}
	rooms := candidates[:min(suggestedRooms, len(candidates))]
	around := domain.Slot{Start: s.Within.Start.Add(-suggestedBefore), End: s.Within.End.Add(suggestedWindow)}
	taken, err := s.taken(ctx, rooms, around)
	if err != nil {
		return nil, err
	}
	var otherTimes, shorter []Suggestion
	asked := domain.Slot{Start: s.Within.Start, End: s.Within.Start.Add(s.Length)}
	for _, r := range rooms {
		calendar := s.with(r, taken[r.Room])
		_, because := domain.DecideReserve(calendar, s.ask(r, asked), s.policy)
		for _, slot := range s.otherTimes(r, calendar, asked, around) {
			otherTimes = append(otherTimes, Suggestion{Available{&r.RoomList, slot}, SuggestOtherTime, because})
		}
		for length := s.Length - suggestedStep; length >= max(suggestedStep, s.Length/2); length -= suggestedStep {
			if slot, ok := s.first(r, calendar, length, s.Within); ok {
				shorter = append(shorter, Suggestion{Available{&r.RoomList, slot}, SuggestShorter, because})
				break
			}
		}
	}
	slices.SortStableFunc(otherTimes, func(a, b Suggestion) int {
		return cmp.Compare(a.Slot.Start.Sub(asked.Start).Abs(), b.Slot.Start.Sub(asked.Start).Abs())
	})
	slices.SortStableFunc(shorter, func(a, b Suggestion) int { return -cmp.Compare(a.Slot.Length(), b.Slot.Length()) })
	return slices.Concat(suggestions, otherTimes[:min(maxSuggestions, len(otherTimes))], shorter[:min(maxSuggestions, len(shorter))]), nil
}

// otherTimes are the nearest slots before and after the one asked for, for which a room can be booked.
func (s *search) otherTimes(r *Room, c domain.Calendar, asked, around domain.Slot) []domain.Slot {
	var slots []domain.Slot
	if after, ok := s.first(r, c, s.Length, domain.Slot{Start: asked.Start, End: around.End}); ok {
		slots = append(slots, after)
	}
	for start := asked.Start.Add(-suggestedStep); start.After(s.Now) && !start.Before(around.Start); start = start.Add(-suggestedStep) {
		before := domain.Slot{Start: start, End: start.Add(s.Length)}
		if _, err := domain.DecideReserve(c, s.ask(r, before), s.policy); err == nil {
			return append(slots, before)
		}
	}
	return slots
}
