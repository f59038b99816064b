package projections

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"roombook/domain"
	"roombook/eventstore"
)

// maxRooms bounds the number of rooms in a directory.
const maxRooms = 100_000

// Directory is the registered rooms as of a position. It is kept in memory, since rooms are few and change seldom, and is read again only if
// a room has changed. It is never modified and may be used concurrently.
type Directory struct {
	// Position is the position up to which the directory contained every event when it was last compared with the store.
	Position eventstore.Position

	ref     Ref
	changed eventstore.Position
	rooms   []*Room // in the order in which they were registered
	byID    map[domain.RoomID]*Room
}

// Room is a room of the directory.
type Room struct {
	RoomList
	created eventstore.Position
	zone    *time.Location // nil if the room has none of its own, or one that is not known here
	// calendar is its calendar without reservations.
	calendar domain.Calendar
	// These are as they are searched, see searchable; text is the name, the id and the note.
	name, building, floor, text string
	equipment                   []string
}

// Name is the name of a room; empty if it is not registered.
func (d *Directory) Name(id domain.RoomID) string {
	if r := d.byID[id]; r != nil {
		return r.Name
	}
	return ""
}

// RoomNames is the Name of the directory once it has reached position min; 0 does not wait.
func (q *Queries) RoomNames(ctx context.Context, min eventstore.Position) (func(domain.RoomID) string, error) {
	d, err := q.Directory(ctx, min)
	if err != nil {
		return nil, err
	}
	return d.Name, nil
}

// RoomApprovers returns the approvers that rooms of the directory name.
func (q *Queries) RoomApprovers(ctx context.Context) (func(domain.RoomID) []domain.UserID, error) {
	d, err := q.Directory(ctx, 0)
	if err != nil {
		return nil, err
	}
	return func(id domain.RoomID) []domain.UserID {
		if r := d.byID[id]; r != nil {
			return r.Approvers
		}
		return nil
	}, nil
}

// Directory returns the directory once it has reached position min; 0 does not wait.
func (q *Queries) Directory(ctx context.Context, min eventstore.Position) (d *Directory, err error) {
	_, err = q.roomList.atPosition(ctx, min, func() (Found, error) {
		if d, err = q.readDirectory(ctx); err != nil {
			return Found{}, err
		}
		return Found{Position: d.Position}, nil
	})
	return d, err
}

// readDirectory returns the directory as it is now. Whether a room has changed it asks the worker, if one of this process keeps the list.
func (q *Queries) readDirectory(ctx context.Context) (*Directory, error) {
	for kept := q.positions.kept(RoomListName); ; kept = nil {
		var now Found
		if kept != nil {
			now = Found{Ref: kept.Ref, Position: kept.Position, Changed: kept.Changed}
		} else {
			var err error
			if now, err = q.roomList.find(ctx, Selection{}); err != nil {
				return nil, err
			}
		}
		known := q.directory.Load()
		if known != nil && known.ref == now.Ref && known.changed == now.Changed {
			d := *known
			d.Position = now.Position
			return &d, nil
		}
		found, err := q.roomList.find(ctx, Selection{Limit: maxRooms})
		if err != nil {
			return nil, err
		}
		if found.Ref == now.Ref { // else it has just been replaced
			d := newDirectory(found.Rows, known)
			d.ref, d.changed, d.Position = now.Ref, now.Changed, now.Position
			q.directory.Store(d)
			return d, nil
		}
	}
}

// newDirectory makes a directory of what is stored. Rooms that have not changed are those of the previous one, if there is one.
func newDirectory(rows []Row, previous *Directory) *Directory {
	d := &Directory{rooms: make([]*Room, len(rows)), byID: make(map[domain.RoomID]*Room, len(rows))}
	for i, row := range rows {
		document := row.Document.(*RoomList)
		var r *Room
		if previous != nil {
			r = previous.byID[document.Room]
		}
		if r == nil || r.created != row.Created || !reflect.DeepEqual(r.RoomList, *document) {
			r = newRoom(*document, row.Created)
		}
		d.rooms[i], d.byID[r.Room] = r, r
	}
	return d
}

func newRoom(l RoomList, created eventstore.Position) *Room {
	r := &Room{RoomList: l, created: created}
	if r.Zone != "" {
		r.zone, _ = time.LoadLocation(r.Zone) // nil if it is not known
	}
	events := []domain.Event{domain.RoomRegistered{RoomID: r.Room, Details: domain.Details{Zone: r.Zone}}}
	if r.Rules != nil {
		events = append(events, domain.RulesSet{RoomID: r.Room, Rules: *r.Rules})
	}
	for _, c := range r.Closures {
		events = append(events, domain.PeriodClosed{ClosureID: c.ID, RoomID: r.Room, Slot: domain.Slot{Start: c.Start, End: c.End}, Reason: c.Reason})
	}
	if r.Status == RoomRetired {
		events = append(events, domain.RoomRetired{RoomID: r.Room, From: r.RetiredFrom})
	}
	r.calendar = domain.Fold(r.calendar, events...)
	r.name, r.building, r.floor = searchable(r.Name), searchable(r.Building), searchable(r.Floor)
	r.text = strings.Join([]string{r.name, searchable(string(r.Room)), searchable(r.Note)}, "\n")
	r.equipment = pieces(r.Equipment)
	return r
}

// pieces are the searchable pieces of equipment. A comma separates them, as it does in a filter, so that a filter finds what has one in its name.
func pieces(equipment []string) (all []string) {
	for _, e := range equipment {
		for piece := range strings.SplitSeq(searchable(e), ",") {
			if piece = strings.TrimSpace(piece); piece != "" {
				all = append(all, piece)
			}
		}
	}
	return all
}

// searchable is a text without what a search ignores: case, accents, and forms of the same characters.
func searchable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(cases.Fold().String(text)))
}

// RoomFilter selects rooms of the directory. The zero value selects every room that can be booked.
type RoomFilter struct {
	Capacity  int      // at least
	Equipment []string // all of it, each piece of what has commas
	Building  string
	Floor     string
	// Text is contained in the name, the id or the note, whatever its case and accents; empty selects any.
	Text string
	// Now is the time at which rooms that are retired by then are left out; zero includes them.
	Now time.Time
	// Only selects the rooms of a set; nil selects any.
	Only *domain.Rooms
}

// filtered returns the selected rooms in the order in which they were registered.
func (d *Directory) filtered(f RoomFilter) []*Room {
	building, floor, text := searchable(f.Building), searchable(f.Floor), searchable(f.Text)
	equipment := pieces(f.Equipment)
	var rooms []*Room
	for _, r := range d.rooms {
		has := func(e string) bool { return slices.Contains(r.equipment, e) }
		if r.Capacity < f.Capacity || building != "" && r.building != building || floor != "" && r.floor != floor || !strings.Contains(r.text, text) ||
			!f.Now.IsZero() && r.retired(f.Now) || f.Only != nil && !f.Only.Has(r.Room) || !all(equipment, has) {
			continue
		}
		rooms = append(rooms, r)
	}
	return rooms
}

// retired reports whether the room is retired by a time.
func (r *Room) retired(by time.Time) bool { return r.Status == RoomRetired && !r.RetiredFrom.After(by) }

func all(values []string, so func(string) bool) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return !so(v) })
}

// RoomQuery asks for a page of the directory. The zero value asks for the first page, by name.
type RoomQuery struct {
	RoomFilter
	// Sort is name (the default), roomId, capacity, or building (then floor and name).
	Sort        string
	Descending  bool
	Size        int    // as in [Query]
	Cursor      string // as in [Query]
	Total       bool   // as in [Query]
	MinPosition eventstore.Position
}

// RoomSorts are the values of a RoomQuery's Sort, the default one first.
var RoomSorts = []string{"name", "roomId", "capacity", "building"}

// Rooms returns a page of the directory.
func (q *Queries) Rooms(ctx context.Context, query RoomQuery) (Page[RoomList], error) {
	sort := cmp.Or(query.Sort, RoomSorts[0])
	if !slices.Contains(RoomSorts, sort) {
		return Page[RoomList]{}, &InvalidQuery{ParameterSort, "must be one of " + strings.Join(RoomSorts, ", ")}
	}
	size := cmp.Or(query.Size, DefaultSize)
	if size < 1 || size > MaxSize {
		return Page[RoomList]{}, &InvalidQuery{ParameterSize, fmt.Sprintf("must be between 1 and %d", MaxSize)}
	}
	var after *Mark
	if query.Cursor != "" {
		c, ok := parseCursor(query.Cursor)
		if !ok || c.List != RoomListName || c.Sort != sort || c.Descending != query.Descending {
			return Page[RoomList]{}, &InvalidQuery{ParameterCursor, "is not one that a page of this list in this order gave"}
		}
		after = &c.Mark
	}
	d, err := q.Directory(ctx, query.MinPosition)
	if err != nil {
		return Page[RoomList]{}, err
	}
	rooms := d.filtered(query.RoomFilter)
	page := Page[RoomList]{Position: d.Position}
	if query.Total {
		page.Total = new(int64(len(rooms)))
	}
	order := func(a, b Mark) int {
		c := cmp.Or(cmp.Compare(a.By, b.By), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Created, b.Created))
		if query.Descending {
			return -c
		}
		return c
	}
	marks := make(map[*Room]Mark, len(rooms))
	for _, r := range rooms {
		marks[r] = r.mark(sort)
	}
	slices.SortFunc(rooms, func(a, b *Room) int { return order(marks[a], marks[b]) })
	if after != nil {
		rooms = slices.DeleteFunc(rooms, func(r *Room) bool { return order(marks[r], *after) <= 0 })
	}
	if len(rooms) > size {
		rooms = rooms[:size]
		page.Next = cursor{List: RoomListName, Sort: sort, Descending: query.Descending, Mark: marks[rooms[size-1]]}.String()
	}
	page.Items = make([]RoomList, len(rooms))
	for i, r := range rooms {
		page.Items[i] = r.RoomList
	}
	return page, nil
}

// mark is the place of a room in an order. Texts are sorted as they are searched.
func (r *Room) mark(sort string) Mark {
	m := Mark{Created: r.created}
	switch sort {
	case "name":
		m.By = r.name
	case "roomId":
		m.By = string(r.Room)
	case "capacity":
		m.Start = int64(r.Capacity)
	case "building":
		m.By = strings.Join([]string{r.building, r.floor, r.name}, "\x00")
	}
	return m
}
