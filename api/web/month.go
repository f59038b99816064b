package web

import (
	"time"

	"roombook/domain"
	"roombook/projections"
)

// myMonth is the data of the reader's bookings of a month. Days are those of the rooms' time zones.
type myMonth struct {
	First         time.Time
	Before, After string // the months before and after, as addresses have them
	Column        int    // of the first day, from 0 on
	Days          []monthDay
	Bookings      int
	More          bool // there are more than are shown
}

type monthDay struct {
	Day      time.Time
	Today    bool
	Bookings []monthBooking
}

// monthBooking is a booking, or the part of it that is on a day.
type monthBooking struct {
	projections.BookingList
	Part domain.Slot
}

const (
	formMonth = "2006-01"
	// maxMonth is the maximum number of bookings in a month that are shown.
	maxMonth = 1000
	// apart is by how much the dates of two time zones can differ.
	apart = 26 * time.Hour
)

// readMonth reads the reader's bookings of a month, but for those that were cancelled. An unreadable text is the present month.
func (v *view) readMonth(text string) (*myMonth, error) {
	today := v.Now.In(v.p.zone)
	t, err := time.ParseInLocation(formMonth, text, v.p.zone)
	if err != nil {
		t = today
	}
	day := func(months, day int) time.Time {
		return domain.Midnight(t.Year(), t.Month()+time.Month(months), day, v.p.zone)
	}
	m := &myMonth{First: day(0, 1), Before: day(-1, 1).Format(formMonth), After: day(1, 1).Format(formMonth)}
	m.Column = int(m.First.Weekday()-v.firstWeekday()+7) % 7
	for n := 1; n <= day(1, 0).Day(); n++ {
		d := day(0, n)
		m.Days = append(m.Days, monthDay{Day: d, Today: d.Format(formDay) == today.Format(formDay)})
	}
	q := projections.Query{User: v.Reader, From: m.First.Add(-apart), To: day(1, 1).Add(apart), Size: projections.MaxSize, MinPosition: v.seen()}
	for {
		page, err := v.p.lists.BookingLists(v.r.Context(), q)
		if err != nil {
			return nil, err
		}
		for _, b := range page.Items {
			m.add(b, v.zoneOf(b.Room))
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return m, nil
		}
		if m.Bookings >= maxMonth {
			m.More = true
			return m, nil
		}
	}
}

// add puts a booking on the days of the month that it is on in the time zone of its room.
func (m *myMonth) add(b projections.BookingList, zone *time.Location) {
	midnight := func(day int) time.Time { return domain.Midnight(m.First.Year(), m.First.Month(), day, zone) }
	part := domain.Slot{Start: later(b.Start.In(zone), midnight(1))}
	shown := part.Start.Before(b.End) && part.Start.Month() == m.First.Month()
	for ; part.Start.Before(b.End) && part.Start.Month() == m.First.Month(); part.Start = part.End {
		day := part.Start.Day()
		if part.End = midnight(day + 1); part.End.After(b.End) {
			part.End = b.End.In(zone)
		}
		m.Days[day-1].Bookings = append(m.Days[day-1].Bookings, monthBooking{b, part})
	}
	if shown {
		m.Bookings++
	}
}

// Weekdays are the short names of the days of a week, in the order that is usual in the language.
func (v *view) Weekdays() (names []string) {
	for i := range 7 {
		names = append(names, v.Weekday(i+int(v.firstWeekday())-1))
	}
	return names
}
