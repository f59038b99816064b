package web

import (
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) boardRoutes() []Route {
	return []Route{
		// The rooms of the house on a day.
		{"GET", "/board", false, p.board},
	}
}

// boardFilter is the part of the board's address that selects what it shows.
type boardFilter struct {
	Building, Equipment, Text, Room, View string
	Capacity                              int
	Page                                  int // of the rooms in the table, from 1 on
	Favourites                            bool
	// From and To, HH:MM, are the time for which rooms have to be free. If the reader gave only one of them, it is an hour of
	// the day, or what there is of it.
	From, To string
	AllHours bool
}

func readBoardFilter(q url.Values) boardFilter {
	f := boardFilter{Building: q.Get("building"), Equipment: q.Get("equipment"), Text: q.Get("text"), Room: q.Get("room"), From: q.Get("from"), To: q.Get("to"), AllHours: q.Get("hours") == "all", Favourites: q.Get("favourites") == "1"}
	f.Capacity, _ = number(q.Get("capacity")) // anything else is no filter
	page, _ := number(q.Get("page"))
	f.Page = max(1, page)
	if f.View = q.Get("view"); f.View != "week" && f.View != "room" {
		f.View = "day"
	}
	if t, err := time.Parse("15:04", f.From); err == nil && f.To == "" {
		if f.To = t.Add(time.Hour).Format("15:04"); f.To < f.From {
			f.To = "23:59"
		}
	} else if t, err := time.Parse("15:04", f.To); err == nil && f.From == "" {
		if f.From = t.Add(-time.Hour).Format("15:04"); f.From > f.To {
			f.From = "00:00"
		}
	}
	return f
}

// query is the query of the board's address with this filter and another day.
func (f boardFilter) query(day string) template.URL {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("day", day)
	set("building", f.Building)
	set("equipment", f.Equipment)
	set("text", f.Text)
	set("room", f.Room)
	set("from", f.From)
	set("to", f.To)
	if f.Capacity > 0 {
		q.Set("capacity", strconv.Itoa(f.Capacity))
	}
	if f.AllHours {
		q.Set("hours", "all")
	}
	if f.Favourites {
		q.Set("favourites", "1")
	}
	if f.View != "day" {
		q.Set("view", f.View)
	}
	if f.Page > 1 {
		q.Set("page", strconv.Itoa(f.Page))
	}
	return template.URL(q.Encode())
}

// filter is a filter of the directory of rooms.
func (v *view) filter(f boardFilter, now time.Time) projections.RoomFilter {
	rooms := projections.RoomFilter{Building: f.Building, Text: f.Text, Capacity: f.Capacity, Now: now}
	if f.Favourites {
		rooms.Only = &v.Favourites
	}
	for what := range strings.SplitSeq(f.Equipment, ",") {
		if what = strings.TrimSpace(what); what != "" {
			rooms.Equipment = append(rooms.Equipment, what)
		}
	}
	return rooms
}

// board is the board's data.
type board struct {
	Filter                  boardFilter
	Day                     domain.Slot
	DayName                 string       // as in its address
	Before, Today, After    template.URL // the query of the board of other days
	All                     template.URL // the query of the board with every hour
	Week                    bool         // is shown by the script, which then begins on Start
	Start                   time.Time
	Previous, Next          template.URL // the query of other pages of the table, if there are any
	Buildings, AllEquipment []string
	Hours                   []boardHour
	Columns                 int // of the table, besides that of the rooms
	Column                  int // minutes that one stands for
	First, Last             int // minutes of the day that are shown
	Rooms                   []boardRoom
	Found                   int // rooms that the filter selects
	Registered              int // rooms there are, whatever the filter
	Free                    *freeRooms
	Changes                 string // rooms in which the reader may change bookings of others: ids with spaces between, or * for all
}

// Minutes is the length of the day, which differs on days on which clocks are changed.
func (b *board) Minutes() int { return int(b.Day.Length() / time.Minute) }

type boardHour struct {
	Clock   string
	Columns int
}

// boardRoom is a row of the board.
type boardRoom struct {
	Room  *projections.RoomList
	Zone  string
	Cells []boardCell
}

// boardCell is a part of a room's day.
type boardCell struct {
	Columns int
	Class   string
	Link    string
	Text    string // what it is
	Who     string // the user of a booking
	Label   string // the same with room and time, for whoever does not see the table
}

// A column of the board's table stands for a quarter of an hour or, where something begins or ends in between, for the shorter time.
const (
	columnMinutes      = 15
	shortColumnMinutes = 5
)

// pageRooms is the number of rooms on a page of the table. The script shows all at once.
const pageRooms = 20

// narrowMinutes is the length up to which a free part is too narrow to show its time.
const narrowMinutes = 40

// The hours that the board shows, unless more are booked.
const (
	firstMinute = 8 * 60
	lastMinute  = 20 * 60
)

func (p *Pages) board(v *view) error {
	b, err := v.readBoard()
	if err != nil {
		return err
	}
	return v.show("board", v.T("title.board"), b)
}

func (v *view) readBoard() (*board, error) {
	q := v.r.URL.Query()
	b := &board{Filter: readBoardFilter(q), Day: v.dayOf(q.Get("day"), v.p.zone)}
	b.Buildings, b.AllEquipment = []string{b.Filter.Building}, []string{b.Filter.Equipment} // which no room may have any more
	b.DayName = b.Day.Start.Format(formDay)
	days := 1
	if b.Week = b.Filter.View != "day"; b.Week {
		days = 7
		b.Start = v.weekOf(b.Day.Start)
	}
	b.Before = b.Filter.query(midnight(b.Day.Start, -days).Format(formDay))
	b.After = b.Filter.query(midnight(b.Day.Start, days).Format(formDay))
	b.Today = b.Filter.query("")
	all := b.Filter
	all.AllHours = !all.AllHours
	b.All = all.query(b.DayName)

	registered, err := v.readRooms()
	if err != nil {
		return nil, err
	}
	for _, r := range registered {
		if r.Status != projections.RoomRetired || r.RetiredFrom.After(v.Now) {
			b.Registered++
			b.Buildings = append(b.Buildings, r.Building)
			b.AllEquipment = append(b.AllEquipment, r.Equipment...)
		}
	}
	b.Buildings, b.AllEquipment = distinct(b.Buildings), distinct(b.AllEquipment)
	b.Changes = v.changes()
	if err := v.readFavourites(); err != nil {
		return nil, err
	}
	rooms, err := v.findRooms(v.filter(b.Filter, b.Day.Start))
	if err != nil {
		return nil, err
	}
	if b.Filter.View == "room" && b.Filter.Room != "" {
		rooms = slices.DeleteFunc(rooms, func(r projections.RoomList) bool { return string(r.Room) != b.Filter.Room })
	}
	b.Found = len(rooms)
	page := func(n int) template.URL {
		f := b.Filter
		f.Page = n
		return f.query(b.DayName)
	}
	first := min((b.Filter.Page-1)*pageRooms, b.Found)
	last := min(first+pageRooms, b.Found)
	if first > 0 {
		b.Previous = page(b.Filter.Page - 1)
	}
	if last < b.Found {
		b.Next = page(b.Filter.Page + 1)
	}
	rooms = rooms[first:last]
	if b.Free, err = v.findFree(b.Filter, b.Day); err != nil {
		return nil, err
	}
	var occupancy projections.Occupancy
	if len(rooms) > 0 {
		query := projections.OccupancyQuery{From: b.Day.Start, To: b.Day.End, MinPosition: v.seen()}
		for i := range rooms {
			query.Rooms = append(query.Rooms, rooms[i].Room)
		}
		if occupancy, err = v.p.lists.Occupancy(v.r.Context(), query); err != nil {
			return nil, err
		}
	}
	v.Position = min(v.roomsAt, occupancy.Position)
	b.choose(occupancy)
	for _, r := range occupancy.Rooms {
		if r.Known == nil { // it has just been removed from the directory
			continue
		}
		row := boardRoom{Room: r.Known, Cells: v.cells(b, r)}
		if r.Zone.String() != v.p.zone.String() {
			row.Zone = r.Zone.String()
		}
		b.Rooms = append(b.Rooms, row)
	}
	return b, nil
}

// changes are the rooms in which the reader may change bookings of others: ids separated by spaces, or * for all.
func (v *view) changes() string {
	if v.may(domain.ChangeBooked, "", "") {
		return string(domain.AllRooms)
	}
	var rooms []string
	for id := range v.rooms {
		if v.may(domain.ChangeBooked, "", id) {
			rooms = append(rooms, string(id))
		}
	}
	return strings.Join(rooms, " ")
}

func distinct(texts []string) []string {
	slices.Sort(texts)
	return slices.DeleteFunc(slices.Compact(texts), func(s string) bool { return s == "" })
}

// choose chooses the hours that are shown: the usual ones and those of bookings, or all.
func (b *board) choose(o projections.Occupancy) {
	length := int(b.Day.End.Sub(b.Day.Start) / time.Minute)
	b.First, b.Last, b.Column = firstMinute, lastMinute, columnMinutes
	if b.Filter.AllHours {
		b.First, b.Last = 0, length
	}
	for _, r := range o.Rooms {
		for _, s := range r.Spans {
			if s.Slot.Start.Sub(b.Day.Start)%(columnMinutes*time.Minute) != 0 || s.Slot.End.Sub(b.Day.Start)%(columnMinutes*time.Minute) != 0 {
				b.Column = shortColumnMinutes
			}
			if s.Kind == projections.SpanBooking {
				b.First = min(b.First, max(0, int(s.Slot.Start.Sub(b.Day.Start)/time.Hour)*60))
				b.Last = max(b.Last, min(length, (int((s.Slot.End.Sub(b.Day.Start)-1)/time.Hour)+1)*60))
			}
		}
	}
	b.Columns = (b.Last - b.First) / b.Column
	for minute := b.First; minute < b.Last; minute += 60 {
		b.Hours = append(b.Hours, boardHour{b.Day.Start.Add(time.Duration(minute) * time.Minute).Format("15"), min(60, b.Last-minute) / b.Column})
	}
}

// spanRank orders what takes a room at the same time by what a reader needs to know first.
func spanRank(k projections.SpanKind) int {
	return slices.Index([]projections.SpanKind{projections.SpanBooking, projections.SpanClosed, projections.SpanRetired, projections.SpanHours, projections.SpanGap}, k)
}

// cells are the parts of a room's day that the board shows. Free time is in parts of an hour, each of which can be booked with one tap.
func (v *view) cells(b *board, r projections.RoomOccupancy) []boardCell {
	at := func(column int) time.Time {
		return b.Day.Start.Add(time.Duration(b.First+column*b.Column) * time.Minute)
	}
	column := time.Duration(b.Column) * time.Minute
	owners := make([]*projections.Span, b.Columns) // nil is free
	spans := slices.Clone(r.Spans)
	slices.SortStableFunc(spans, func(a, b projections.Span) int { return spanRank(a.Kind) - spanRank(b.Kind) })
	for i := range spans {
		s := &spans[i]
		first := int(s.Slot.Start.Sub(at(0)) / column)
		last := int((s.Slot.End.Sub(at(0)) - 1) / column)
		if !s.Slot.End.After(at(0)) {
			continue
		}
		for c := max(0, first); c <= min(last, b.Columns-1); c++ {
			if owners[c] == nil {
				owners[c] = s
			}
		}
	}
	var cells []boardCell
	for c := 0; c < b.Columns; {
		end := c + 1
		for end < b.Columns && owners[end] == owners[c] && (owners[c] != nil || end%(60/b.Column) != 0) {
			end++
		}
		cell := v.cell(r, owners[c], domain.Slot{Start: at(c), End: at(end)})
		if cell.Columns = end - c; cell.Class == "free" && cell.Columns*b.Column < narrowMinutes {
			cell.Class = "free narrow"
		}
		cells = append(cells, cell)
		c = end
	}
	return cells
}

// cell is a part of a room's day: what takes it, or that it is free.
func (v *view) cell(r projections.RoomOccupancy, s *projections.Span, part domain.Slot) boardCell {
	name := string(r.Room)
	if r.Known != nil {
		name = r.Known.Name
	}
	slot := part
	if s != nil && s.Kind == projections.SpanBooking {
		slot = s.Slot
	}
	slot.Start, slot.End = slot.Start.In(r.Zone), slot.End.In(r.Zone)
	when := v.Span(slot)
	var c boardCell
	switch {
	case s == nil && !part.End.After(v.Now):
		c = boardCell{Class: "past", Label: v.T("cell.past")}
	case s == nil:
		c = boardCell{Class: "free", Text: v.Clock(slot.Start), Label: v.T("cell.free", "room", name, "when", when), Link: v.Link(bookPath(r.Room, part))}
	case s.Kind == projections.SpanBooking:
		state := v.State(s.Booking.Status)
		c = boardCell{Class: "taken " + StateClass(s.Booking.Status), Text: when, Who: v.Booker(s.Booking.User), Link: v.Link("/bookings/" + string(s.Booking.Booking) + "/page")}
		c.Label = v.T("cell.booking", "room", name, "when", when, "who", v.Booker(s.Booking.User), "state", state)
		if v.Reader != "" && s.Booking.User == v.Reader {
			c.Class += " mine"
		}
	case s.Kind == projections.SpanClosed:
		c = boardCell{Class: "closed", Text: v.T("cell.closed"), Label: v.T("cell.closed-until", "when", v.Moment(s.Slot.End.In(r.Zone)), "reason", s.Closure.Reason)}
		if s.Closure.Reason != "" {
			c.Text = s.Closure.Reason
		}
	default:
		c = boardCell{Class: string(s.Kind), Text: v.T("cell." + string(s.Kind)), Label: v.T("cell."+string(s.Kind)) + ", " + when}
	}
	return c
}

// bookPath is the path of the form that books a room for a time.
func bookPath(room domain.RoomID, slot domain.Slot) string {
	q := url.Values{"room": {string(room)}, "start": {slot.Start.UTC().Format(time.RFC3339)}, "end": {slot.End.UTC().Format(time.RFC3339)}}
	return "/book?" + q.Encode()
}

// State is the state of a booking in words.
func (v *view) State(s projections.Status) string { return v.T("state." + string(s)) }

// StateClass is the class of a state in style sheets.
func (v *view) StateClass(s projections.Status) string { return StateClass(s) }

// StateClass is the class of a state in style sheets.
func StateClass(s projections.Status) string {
	switch s {
	case projections.StatusConfirmed:
		return "confirmed"
	case projections.StatusInUse:
		return "in-use"
	case projections.StatusEnded:
		return "ended"
	case projections.StatusCancelled:
		return "cancelled"
	}
	return "waiting"
}

// Person is a user in words.
func (v *view) Person(u domain.UserID) string {
	switch u {
	case "":
		return v.T("somebody")
	case domain.ConfirmedByRules:
		return v.T("the-rules")
	}
	switch name, known := v.p.name(v.r.Context(), u); {
	case !known:
		return string(u)
	case name == "":
		return v.T("former-user")
	default:
		return name
	}
}

// Booker is whom a booking is for in words.
func (v *view) Booker(u domain.UserID) string {
	if u == "" {
		return v.T("private")
	}
	return v.Person(u)
}

// freeRooms are the rooms that are free at a time of the day.
type freeRooms struct {
	Slot     domain.Slot
	Problem  []string
	Rooms    []projections.Available
	Instead  []projections.Suggestion
	Position uint64
}

// findFree finds the rooms that are free at the time of a filter; nil if it has none.
func (v *view) findFree(f boardFilter, day domain.Slot) (*freeRooms, error) {
	if f.From == "" || f.To == "" {
		return nil, nil
	}
	name := day.Start.Format(formDay)
	start, err := parseTime(name+"T"+f.From, v.p.zone)
	if err != nil {
		return &freeRooms{Problem: v.problemOf(err).Sentences}, nil
	}
	end, err := parseTime(name+"T"+f.To, v.p.zone)
	if err == nil && !start.Before(end) {
		return &freeRooms{Problem: []string{v.T("fault.end")}}, nil
	}
	if err != nil {
		return &freeRooms{Problem: v.problemOf(err).Sentences}, nil
	}
	free := &freeRooms{Slot: domain.Slot{Start: start, End: end}}
	a, err := v.p.lists.Availability(v.r.Context(), projections.AvailabilityQuery{
		RoomFilter: v.filter(f, v.Now), User: v.Reader, Within: free.Slot, Length: free.Slot.Length(), MinPosition: v.seen(),
	})
	free.Rooms, free.Instead = a.Rooms, a.Suggestions
	return free, err
}

// BookLink is the address of the form that books a room for a time.
func (v *view) BookLink(room domain.RoomID, slot domain.Slot) string {
	return v.Link(bookPath(room, slot))
}
