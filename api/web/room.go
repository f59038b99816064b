package web

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"rsc.io/qr"

	"roombook/commands"
	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) roomRoutes() []Route {
	return []Route{
		// A room, its rules and its week.
		{"GET", "/rooms/{id}/page", false, p.roomPage},
		// Reports a fault of the room, or settles one.
		{"POST", "/rooms/{id}/page", false, p.actOnFault},
	}
}

// photo is the photo of a room, as a screen shows it.
type photo struct {
	domain.Photo
	Link string
}

// photo is the photo of a room; nil if it has none.
func (v *view) photo(r commands.Room) *photo {
	if r.Photo.Hash == "" {
		return nil
	}
	return &photo{r.Photo, v.Link("/rooms/" + string(r.ID) + "/photo?hash=" + string(r.Photo.Hash))}
}

// roomPage is the data of a room's page.
type roomPage struct {
	Photo         *photo
	CanBook       bool
	Room          commands.Room
	Listed        *projections.RoomList // nil if the list of rooms does not have it yet
	Rules         []string
	Zone          *time.Location
	Next          domain.Slot // the next hour, or what the rules allow of it, for which it can be booked; empty if none was found
	Days          []roomDay
	Before, After string
	QR            template.HTML
	Closures      []domain.Closure
	Faults        commands.Faults
	Whole         []string // the equipment of which no fault is known
	Reports       bool     // whether the reader may report a fault
	Settles       bool
	Problem       *problem
}

// roomDay is a day of a room's week.
type roomDay struct {
	Day   domain.Slot
	Today bool
	Spans []roomSpan
}

// roomSpan is what takes a room for a part of a day.
type roomSpan struct {
	Booking           domain.BookingID // empty unless it is a booking
	Text, Class, Link string
	X, Width          int // in minutes of the day, for the strip
}

func (p *Pages) roomPage(v *view) error { return v.showRoom(nil) }

func (v *view) showRoom(why *problem) error {
	p := v.p
	id, err := v.roomID()
	if err != nil {
		return err
	}
	if err := v.readFavourites(); err != nil {
		return err
	}
	data := &roomPage{Problem: why, Reports: v.may(domain.ReportFault, "", id), Settles: v.may(domain.SettleFault, "", id)}
	if data.Room, err = p.commands.Room(v.r.Context(), id); err != nil {
		return err
	}
	data.Listed, data.Photo, data.CanBook = v.rooms[id], v.photo(data.Room), v.may(domain.Book, v.Reader, id)
	if data.Faults, err = p.bookings.Faults(v.r.Context(), id); err != nil {
		return err
	}
	if r := v.rooms[id]; r != nil {
		_, data.Whole = v.faults(r)
	}
	data.Zone = v.zoneOf(id)
	data.Rules = v.rulesInWords(data.Room.Rules)
	for _, c := range data.Room.Closures {
		if c.Slot.End.After(v.Now) {
			data.Closures = append(data.Closures, c)
		}
	}
	first := v.weekOf(v.dayOf(v.r.URL.Query().Get("day"), data.Zone).Start)
	data.Before, data.After = midnight(first, -7).Format(formDay), midnight(first, 7).Format(formDay)
	o, err := p.lists.Occupancy(v.r.Context(), projections.OccupancyQuery{From: first, To: midnight(first, 7), Rooms: []domain.RoomID{id}, MinPosition: v.seen()})
	if err != nil {
		return err
	}
	for i := range 7 {
		day := domain.Slot{Start: midnight(first, i), End: midnight(first, i+1)}
		data.Days = append(data.Days, v.roomDay(day, o))
	}
	if data.Next, err = v.nextFree(id, data.Room.Rules); err != nil {
		return err
	}
	if data.QR, err = qrCode(v.Address("/rooms/" + string(id) + "/page")); err != nil {
		return err
	}
	return v.show("room", data.Room.Details.Name, data)
}

// roomDay is what takes a room on a day.
func (v *view) roomDay(day domain.Slot, o projections.Occupancy) roomDay {
	d := roomDay{Day: day, Today: !v.Now.Before(day.Start) && v.Now.Before(day.End)}
	for _, r := range o.Rooms {
		for _, s := range r.Spans {
			if !s.Slot.Overlaps(day) {
				continue
			}
			from, to := later(s.Slot.Start, day.Start), s.Slot.End
			if to.After(day.End) {
				to = day.End
			}
			part := domain.Slot{Start: from.In(r.Zone), End: to.In(r.Zone)}
			span := roomSpan{Class: string(s.Kind), X: int(from.Sub(day.Start) / time.Minute), Width: max(1, int(to.Sub(from)/time.Minute))}
			switch s.Kind {
			case projections.SpanBooking:
				span.Booking, span.Class = s.Booking.Booking, StateClass(s.Booking.Status)
				span.Text = v.Span(part) + " " + v.Booker(s.Booking.User) + ", " + v.State(s.Booking.Status)
				span.Link = v.Link("/bookings/" + string(s.Booking.Booking) + "/page")
			case projections.SpanClosed:
				span.Text = v.Span(part) + " " + v.T("cell.closed")
				if s.Closure.Reason != "" {
					span.Text += ": " + s.Closure.Reason
				}
			}
			d.Spans = append(d.Spans, span)
		}
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// nextFree is the next time, of an hour if the rules of the room allow that, for which it can be booked within a week.
func (v *view) nextFree(id domain.RoomID, rules domain.Rules) (domain.Slot, error) {
	length := 60
	if rules.LongestMinutes > 0 {
		length = min(length, rules.LongestMinutes)
	}
	length = max(length, rules.ShortestMinutes)
	within := domain.Slot{Start: v.Now.Truncate(time.Minute), End: v.Now.Truncate(time.Minute).Add(projections.MaxAvailabilityWindow)}
	if time.Duration(length)*time.Minute > within.Length() {
		return domain.Slot{}, nil
	}
	a, err := v.p.lists.Availability(v.r.Context(), projections.AvailabilityQuery{
		RoomFilter: projections.RoomFilter{Now: v.Now, Text: string(id)}, Within: within, Length: time.Duration(length) * time.Minute, Size: projections.MaxSize, MinPosition: v.seen(),
	})
	for _, free := range a.Rooms {
		if free.Room.Room == id {
			return free.Slot, nil
		}
	}
	return domain.Slot{}, err
}

// weekdays are the hours of a week from Monday on.
func weekdays(h *domain.WeekHours) [7][]domain.Hours {
	return [...][]domain.Hours{h.Monday, h.Tuesday, h.Wednesday, h.Thursday, h.Friday, h.Saturday, h.Sunday}
}

// rulesInWords are the rules of a room, a sentence each.
func (v *view) rulesInWords(r domain.Rules) []string {
	var rules []string
	if r.Hours != nil {
		// Consecutive days with the same hours are joined.
		days := weekdays(r.Hours)
		var parts []string
		for i := 0; i < 7; {
			end := i + 1
			for end < 7 && fmt.Sprint(days[end]) == fmt.Sprint(days[i]) {
				end++
			}
			if len(days[i]) > 0 {
				name := v.Weekday(i)
				if end > i+1 {
					name += "–" + v.Weekday(end-1)
				}
				parts = append(parts, name+" "+v.hours(days[i]))
			}
			i = end
		}
		rules = append(rules, v.T("rule.hours", "hours", strings.Join(parts, "; ")))
	}
	add := func(name domain.RuleName, n int) {
		if n > 0 {
			rules = append(rules, v.N("rule."+string(name), n, "length", v.Length(n)))
		}
	}
	add(domain.RuleStep, r.StepMinutes)
	add(domain.RuleShortest, r.ShortestMinutes)
	add(domain.RuleLongest, r.LongestMinutes)
	add(domain.RuleGap, r.GapMinutes)
	add(domain.RuleNotice, r.NoticeMinutes)
	add(domain.RuleHorizon, r.HorizonDays)
	add(domain.RuleUpcoming, r.UpcomingPerUser)
	add(domain.RuleWeekly, r.WeeklyMinutesPerUser)
	if r.EarlyUseMinutes != nil {
		rules = append(rules, v.T("rule.earlyUseMinutes", "length", v.Length(*r.EarlyUseMinutes)))
	}
	if r.Approval == domain.ApprovalNone {
		return append(rules, v.T("rule.approval-none"))
	}
	return append(rules, v.T("rule.approval-required"))
}

// Weekday is the short name of a day of the week, from 0, which is Monday, or -1, the Sunday before.
func (v *view) Weekday(i int) string {
	if v.Language == Korean {
		return koreanDays[(i+1)%7]
	}
	return englishDays[(i+1)%7]
}

// qrCode is a QR code of a text as SVG, drawn as one path.
func qrCode(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	const quiet = 4 // modules around, which readers need
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="qr" viewBox="0 0 %d %d" role="img" aria-label="QR"><rect class="qr-paper" width="100%%" height="100%%"/><path class="qr-ink" d="`, code.Size+2*quiet, code.Size+2*quiet)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return template.HTML(b.String()), nil // has nothing of the text but its modules
}
