package projections

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// The limits of an [OccupancyQuery].
const (
	MaxOccupancyWindow   = 35 * 24 * time.Hour
	MaxOccupancyRooms    = 500
	maxOccupancyBookings = 50_000
)

// OccupancyQuery asks what rooms are taken by in [From, To), which must both be given.
type OccupancyQuery struct {
	From, To time.Time
	// Rooms are the rooms, registered or not. Without any the query is about all registered rooms of the building.
	Rooms       []domain.RoomID
	Building    string
	MinPosition eventstore.Position
}

// Occupancy says what takes rooms.
type Occupancy struct {
	Rooms []RoomOccupancy // in the order of the query, or by name
	// Position is the position up to which it contains every event.
	Position eventstore.Position
}

// RoomOccupancy says what takes a room.
type RoomOccupancy struct {
	Room  domain.RoomID
	Known *RoomList      // nil if the room is not registered
	Zone  *time.Location // that of its hours
	Spans []Span         // by start
}

// SpanKind says why a room cannot be booked for a time.
type SpanKind string

const (
	SpanBooking SpanKind = "booking"
	SpanGap     SpanKind = "gap"     // too close to a booking, by the room's rules
	SpanHours   SpanKind = "hours"   // outside the hours of the room's rules
	SpanClosed  SpanKind = "closed"  // closed, see Span.Closure
	SpanRetired SpanKind = "retired" // from the room's retirement on
)

// Span is a time for which a room cannot be booked. Unless it is that of a booking or a closure it is limited to the query's window.
type Span struct {
	Kind    SpanKind
	Slot    domain.Slot
	Booking *BookingList // nil unless the kind is SpanBooking
	Closure *Closure     // nil unless the kind is SpanClosed
}

// Occupancy returns what takes rooms, as far as the lists know. Its errors are those of other queries; ErrTooWide also means that there
// are too many bookings for one answer.
func (q *Queries) Occupancy(ctx context.Context, query OccupancyQuery) (Occupancy, error) {
	if query.To.Sub(query.From) > MaxOccupancyWindow {
		return Occupancy{}, &InvalidQuery{ParameterTo, fmt.Sprintf("must be at most %d days after from", MaxOccupancyWindow/(24*time.Hour))}
	}
	d, err := q.Directory(ctx, query.MinPosition)
	if err != nil {
		return Occupancy{}, err
	}
	ids := query.Rooms
	if ids == nil {
		rooms := d.filtered(RoomFilter{Building: query.Building, Now: query.From})
		slices.SortFunc(rooms, func(a, b *Room) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.created, b.created)) })
		for _, r := range rooms {
			ids = append(ids, r.Room)
		}
	}
	if len(ids) > MaxOccupancyRooms {
		return Occupancy{}, &InvalidQuery{ParameterRoom, fmt.Sprintf("must not select more than %d rooms, it selects %d", MaxOccupancyRooms, len(ids))}
	}
	window := domain.Slot{Start: query.From, End: query.To}
	taken, position, err := q.bookingsOf(ctx, d, ids, window, query.MinPosition)
	if err != nil {
		return Occupancy{}, err
	}
	o := Occupancy{Rooms: make([]RoomOccupancy, len(ids)), Position: min(d.Position, position)}
	for i, id := range ids {
		room := RoomOccupancy{Room: id, Zone: q.policy.Zone}
		bookings := taken[id]
		room.Spans = make([]Span, 0, 3*len(bookings))
		for _, b := range bookings {
			if slot := b.Occupied(); slot.Overlaps(window) {
				room.Spans = append(room.Spans, Span{Kind: SpanBooking, Slot: slot, Booking: b})
			}
		}
		if r := d.byID[id]; r != nil {
			room.Known, room.Zone = &r.RoomList, cmp.Or(r.zone, q.policy.Zone)
			room.Spans = r.appendClosed(room.Spans, window, bookings, room.Zone)
		}
		slices.SortFunc(room.Spans, func(a, b Span) int {
			return cmp.Or(a.Slot.Start.Compare(b.Slot.Start), a.Slot.End.Compare(b.Slot.End), cmp.Compare(a.Kind, b.Kind))
		})
		o.Rooms[i] = room
	}
	return o, nil
}

// bookingsOf returns the bookings that hold rooms in a window, and so near to it that a gap reaches into it, by start.
func (q *Queries) bookingsOf(ctx context.Context, d *Directory, ids []domain.RoomID, window domain.Slot, min eventstore.Position) (map[domain.RoomID][]*BookingList, eventstore.Position, error) {
	gap := time.Duration(0)
	s := Selection{Rooms: make([]string, len(ids)), Path: &Path{Index: Order{By: ColumnRoom, Start: true}}}
	for i, id := range ids {
		s.Rooms[i] = string(id)
		if r := d.byID[id]; r != nil && r.Rules != nil {
			gap = max(gap, r.gap())
		}
	}
	from, to := window.Start.Add(-gap).UnixMicro(), window.End.Add(gap).UnixMicro()
	s.From, s.To = &from, &to
	return q.occupying(ctx, s, min)
}

// occupying returns the selected bookings that hold rooms, by room and start.
func (q *Queries) occupying(ctx context.Context, s Selection, min eventstore.Position) (map[domain.RoomID][]*BookingList, eventstore.Position, error) {
	s.Statuses, s.Unordered, s.Limit = bookingListStatuses().occupying(), true, maxOccupancyBookings+1
	found, err := q.bookingList.atPosition(ctx, min, func() (Found, error) { return q.bookingList.find(ctx, s) })
	switch {
	case err != nil:
		return nil, 0, err
	case len(found.Rows) > maxOccupancyBookings:
		return nil, 0, ErrTooWide
	}
	byRoom := map[domain.RoomID][]*BookingList{}
	for _, row := range found.Rows {
		b := row.Document.(*BookingList)
		byRoom[b.Room] = append(byRoom[b.Room], b)
	}
	for _, bookings := range byRoom {
		slices.SortFunc(bookings, func(a, b *BookingList) int {
			return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Booking, b.Booking))
		})
	}
	return byRoom, found.Position, nil
}

func (r *Room) gap() time.Duration {
	if r.Rules == nil {
		return 0
	}
	return time.Duration(r.Rules.GapMinutes) * time.Minute
}

// appendClosed appends the times in a window for which a room cannot be booked for other reasons than a booking.
func (r *Room) appendClosed(spans []Span, window domain.Slot, bookings []*BookingList, zone *time.Location) []Span {
	for i := range r.Closures {
		c := &r.Closures[i]
		if slot := (domain.Slot{Start: c.Start, End: c.End}); slot.Overlaps(window) {
			spans = append(spans, Span{Kind: SpanClosed, Slot: slot, Closure: c})
		}
	}
	add := func(kind SpanKind, start, end time.Time) {
		if slot := clipped(start, end, window); slot.Start.Before(slot.End) {
			spans = append(spans, Span{Kind: kind, Slot: slot})
		}
	}
	if r.Status == RoomRetired {
		add(SpanRetired, r.RetiredFrom, window.End)
	}
	if gap := r.gap(); gap > 0 {
		free := window.Start.Add(-gap) // from here on nothing has been said yet
		for i, b := range bookings {
			held := b.Occupied()
			if !held.Start.Before(held.End) {
				continue
			}
			add(SpanGap, later(free, held.Start.Add(-gap)), held.Start)
			until := held.End.Add(gap)
			if i+1 < len(bookings) && bookings[i+1].Start.Before(until) {
				until = later(bookings[i+1].Start, held.End)
			}
			add(SpanGap, held.End, until)
			free = later(free, until)
		}
	}
	if r.Rules != nil && r.Rules.Hours != nil {
		closed := window.Start
		for open := range r.Rules.Hours.During(window, zone) {
			add(SpanHours, closed, open.Start)
			closed = later(closed, open.End)
		}
		add(SpanHours, closed, window.End)
	}
	return spans
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// clipped is the part of [start, end) that is in the window; empty if there is none.
func clipped(start, end time.Time, window domain.Slot) domain.Slot {
	slot := domain.Slot{Start: later(start, window.Start), End: end}
	if window.End.Before(end) {
		slot.End = window.End
	}
	return slot
}
