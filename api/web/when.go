package web

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"roombook/domain"
)

// Formats of times in forms and addresses: those of HTML's input elements.
const (
	formDay  = "2006-01-02"
	formTime = "2006-01-02T15:04"
)

// errNoTime, errSkipped and errTwice are what can be wrong with a time in a form.
var (
	errNoTime  = errors.New("not a time")
	errSkipped = errors.New("the clocks skip this time")
	errTwice   = errors.New("the clocks show this time twice")
)

// parseTime reads a time of a form, which is by the wall clock of a zone.
func parseTime(text string, zone *time.Location) (time.Time, error) {
	t, err := time.ParseInLocation(formTime, text, zone)
	if err != nil {
		if t, err = time.ParseInLocation(formTime+":05", text, zone); err != nil {
			return time.Time{}, errNoTime
		}
		text = text[:len(formTime)]
	}
	if y := t.UTC().Year(); y < domain.FirstYear || y > domain.LastYear {
		return time.Time{}, errNoTime
	}
	if t.Format(formTime) != text {
		return time.Time{}, errSkipped
	}
	for _, apart := range []time.Duration{-time.Hour, time.Hour} {
		if t.Add(apart).Format(formTime) == text {
			return time.Time{}, errTwice
		}
	}
	return t, nil
}

// FormTime is a time as a form has it, in the zone of a room.
func (v *view) FormTime(t time.Time, room domain.RoomID) string {
	if t.IsZero() {
		return ""
	}
	return t.In(v.zoneOf(room)).Format(formTime)
}

// dayOf is the day that a text names, from its first moment to that of the next day, in a zone. An invalid text means today.
func (v *view) dayOf(text string, zone *time.Location) (day domain.Slot) {
	t, err := time.ParseInLocation(formDay, text, zone)
	if err != nil {
		t = v.Now.In(zone)
	}
	return dayFrom(t)
}

// dayFrom is the day that a time is in, in the zone of the time.
func dayFrom(t time.Time) domain.Slot { return domain.Slot{Start: midnight(t, 0), End: midnight(t, 1)} }

// midnight is the first moment of the day some days after that of t.
func midnight(t time.Time, days int) time.Time {
	return domain.Midnight(t.Year(), t.Month(), t.Day()+days, t.Location())
}

var (
	englishDays = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	koreanDays  = [...]string{"일", "월", "화", "수", "목", "금", "토"}
)

// Date is a day in words: Fri 27 Nov 2026, 2026년 11월 27일 (금).
func (v *view) Date(t time.Time) string {
	if v.Language == Korean {
		return fmt.Sprintf("%d년 %d월 %d일 (%s)", t.Year(), t.Month(), t.Day(), koreanDays[t.Weekday()])
	}
	return fmt.Sprintf("%s %d %s %d", englishDays[t.Weekday()], t.Day(), t.Format("Jan"), t.Year())
}

// firstWeekday is the day that weeks begin on: Monday or, in Korean, Sunday.
func (v *view) firstWeekday() time.Weekday {
	if v.Language == Korean {
		return time.Sunday
	}
	return time.Monday
}

// weekOf is the first moment of the week that a time is in.
func (v *view) weekOf(t time.Time) time.Time {
	return midnight(t, -int((t.Weekday()-v.firstWeekday()+7)%7))
}

// Month is a month in words: November 2026, 2026년 11월.
func (v *view) Month(t time.Time) string {
	if v.Language == Korean {
		return t.Format("2006년 1월")
	}
	return t.Format("January 2006")
}

// Week is the week from a day on, in words: 23 Nov – 29 Nov 2026, 2026년 11월 22일 – 11월 28일.
func (v *view) Week(first time.Time) string {
	last := midnight(first, 6)
	if v.Language == Korean {
		return fmt.Sprintf("%d년 %d월 %d일 – %d월 %d일", first.Year(), first.Month(), first.Day(), last.Month(), last.Day())
	}
	return fmt.Sprintf("%d %s – %d %s %d", first.Day(), first.Format("Jan"), last.Day(), last.Format("Jan"), last.Year())
}

// ShortDate is a day without its year: Fri 27 Nov, 11. 27. (금).
func (v *view) ShortDate(t time.Time) string {
	if v.Language == Korean {
		return fmt.Sprintf("%d. %d. (%s)", t.Month(), t.Day(), koreanDays[t.Weekday()])
	}
	return fmt.Sprintf("%s %d %s", englishDays[t.Weekday()], t.Day(), t.Format("Jan"))
}

// Clock is a time of day: 14:05 or, by a clock of twelve hours, 2:05 PM, 오후 2:05.
func (v *view) Clock(t time.Time) string {
	switch {
	case !v.twelveHours():
		return t.Format("15:04")
	case v.Language != Korean:
		return t.Format("3:04 PM")
	case t.Hour() < 12:
		return "오전 " + t.Format("3:04")
	default:
		return "오후 " + t.Format("3:04")
	}
}

// twelveHours reports whether times of day are by a clock of twelve hours: as the reader chose, else as is usual in the language.
func (v *view) twelveHours() bool {
	return v.ClockHours == "12" || v.ClockHours == "" && v.Language == Korean
}

// endOfDay is the time of day at which a day ends.
func (v *view) endOfDay() string {
	if v.twelveHours() {
		return v.T("midnight")
	}
	return "24:00"
}

// Moment is a day and a time of day.
func (v *view) Moment(t time.Time) string { return v.Date(t) + " " + v.Clock(t) }

// unbroken keeps a span of a day on one line: its spaces, and the place after its dash.
var unbroken = strings.NewReplacer(" ", "\u00a0", "–", "–\u2060")

// Span is the start and end of a time, with days only if it is on more than one.
func (v *view) Span(s domain.Slot) string {
	if s.End.Sub(s.Start) <= 24*time.Hour && (s.Start.YearDay() == s.End.YearDay() || s.End.Equal(dayFrom(s.Start).End)) {
		end := v.Clock(s.End)
		switch {
		case s.Start.YearDay() != s.End.YearDay():
			end = v.endOfDay()
		case v.Language == Korean && v.twelveHours() && (s.Start.Hour() < 12) == (s.End.Hour() < 12):
			end = s.End.Format("3:04") // 오후 2:00–3:00
		}
		return unbroken.Replace(v.Clock(s.Start) + "–" + end)
	}
	return v.ShortDate(s.Start) + " " + v.Clock(s.Start) + " – " + v.ShortDate(s.End) + " " + v.Clock(s.End)
}

// hours are bookable hours of a day, by the reader's clock.
func (v *view) hours(all []domain.Hours) string {
	spans := make([]string, len(all))
	for i, h := range all {
		start, _ := time.Parse("15:04", h.From) // rules have valid times only
		end, err := time.Parse("15:04", h.To)
		if err != nil { // 24:00
			end = dayFrom(start).End
		}
		spans[i] = v.Span(domain.Slot{Start: start, End: end})
	}
	return strings.Join(spans, ", ")
}

// When is the time of a booking, in the zone of its room, which is named if it is not that of the server.
func (v *view) When(s domain.Slot, room domain.RoomID) string {
	zone := v.zoneOf(room)
	s.Start, s.End = s.Start.In(zone), s.End.In(zone)
	text := v.Span(s)
	if s.Start.YearDay() == s.End.YearDay() || s.End.Equal(dayFrom(s.Start).End) {
		text = v.Date(s.Start) + " " + text
	}
	return text + v.Zone(zone)
}

// Zone is the name of a zone, with a space before, if it is not that of the server.
func (v *view) Zone(zone *time.Location) string {
	if zone.String() == v.p.zone.String() {
		return ""
	}
	return " (" + zone.String() + ")"
}

// ZoneOf is the Zone of a room.
func (v *view) ZoneOf(room domain.RoomID) string { return v.Zone(v.zoneOf(room)) }

// At is a moment in the zone of a room.
func (v *view) At(t time.Time, room domain.RoomID) string {
	zone := v.zoneOf(room)
	return v.Moment(t.In(zone)) + v.Zone(zone)
}

// Length is a number of minutes in words: 1 h 30 min, 1시간 30분.
func (v *view) Length(minutes int) string {
	switch hours, rest := minutes/60, minutes%60; {
	case hours == 0:
		return v.T("length.minutes", "m", rest)
	case rest == 0:
		return v.T("length.hours", "h", hours)
	default:
		return v.T("length.both", "h", hours, "m", rest)
	}
}

// Ago is how long ago something was, in the largest unit that fits.
func (v *view) Ago(t time.Time) string {
	switch since := v.Now.Sub(t); {
	case since < time.Minute:
		return v.T("ago.now")
	case since < time.Hour:
		return v.N("ago.minutes", int(since/time.Minute))
	case since < 48*time.Hour:
		return v.N("ago.hours", int(since/time.Hour))
	default:
		return v.N("ago.days", int(since/(24*time.Hour)))
	}
}

// number reads a whole number of a form from 0 on; an empty one is 0.
func number(text string) (int, bool) {
	if text == "" {
		return 0, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0
}
