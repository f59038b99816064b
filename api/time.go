package api

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"roombook/domain"
)

// resolution is the resolution of stored times, which all stores of read models support. Finer times are truncated.
const resolution = time.Millisecond

// timeFault describes what is wrong with a time in a request. It completes a sentence that starts with the value's name.
type timeFault string

func (e timeFault) Error() string { return string(e) }

// parseEnd is parseTime for the end of something, which may be 24:00.
func parseEnd(s []byte, zone *time.Location) (time.Time, error) {
	start, ok := atMidnight(s)
	if !ok {
		return parseTime(s, zone)
	}
	if len(s) == 12 || len(s) == 14 {
		day, err := time.Parse("20060102", string(s[:8]))
		if err != nil {
			return time.Time{}, notATime(zone)
		}
		return parseTime(day.AddDate(0, 0, 1).AppendFormat(nil, "20060102150405"), zone)
	}
	t, err := parseTime(start, zone)
	if err != nil {
		return time.Time{}, err
	}
	return inYears(t.Add(24 * time.Hour)) // with a given offset every day has 24 hours
}

// atMidnight reports whether a time is 24:00, and returns it as 00:00 of the same day.
func atMidnight(s []byte) (start []byte, ok bool) {
	hour, below := len("20060102"), "0000"
	switch {
	case len(s) == 12:
		below = "00"
	case len(s) == 14:
	case len(s) < len("2006-01-02T15:04:05Z"):
		return nil, false
	default:
		hour, below = len("2006-01-02T"), ":00:00"
	}
	rest, ok := bytes.CutPrefix(s[hour:], []byte("24"+below))
	if !ok {
		return nil, false
	}
	if fraction, ok := bytes.CutPrefix(rest, []byte(".")); ok {
		digits := bytes.TrimLeft(fraction, "0")
		if len(digits) > 0 && '1' <= digits[0] && digits[0] <= '9' {
			return nil, false
		}
	}
	start = bytes.Clone(s)
	start[hour], start[hour+1] = '0', '0'
	return start, true
}

// parseTime parses RFC 3339, or a local time of the zone in the compact forms yyyyMMddHHmm and yyyyMMddHHmmss. A local time that clocks in
// the zone skip or show twice is a fault. The result is truncated to [resolution].
func parseTime(s []byte, zone *time.Location) (time.Time, error) {
	var t time.Time
	if len(s) == 12 || len(s) == 14 {
		var err error
		if t, err = parseLocal(s, zone); err != nil {
			return time.Time{}, err
		}
	} else {
		s = upper(s)
		if err := t.UnmarshalText(s); err != nil || !strictRFC3339(s) {
			return time.Time{}, notATime(zone)
		}
	}
	return inYears(t.UTC().Truncate(resolution))
}

// upper converts T and Z, which RFC 3339 allows in lower case (section 5.6) and package time does not.
func upper(s []byte) []byte {
	t, z := len("2006-01-02"), len(s)-1
	if len(s) <= t || s[t] != 't' && s[z] != 'z' {
		return s
	}
	s = bytes.Clone(s)
	if s[t] == 't' {
		s[t] = 'T'
	}
	if s[z] == 'z' {
		s[z] = 'Z'
	}
	return s
}

// inYears checks that a time is between [domain.FirstYear] and [domain.LastYear].
func inYears(t time.Time) (time.Time, error) {
	if y := t.Year(); y < domain.FirstYear || y > domain.LastYear {
		return time.Time{}, timeFault(fmt.Sprintf("must be in the years %d to %d", domain.FirstYear, domain.LastYear))
	}
	return t, nil
}

// strictRFC3339 rejects what package time accepts beyond RFC 3339 (https://go.dev/issue/54580): hours of one digit, a decimal comma, and
// offsets of more than a day.
func strictRFC3339(s []byte) bool {
	if s[len("2006-01-02T15")] != ':' || s[len("2006-01-02T15:04:05")] == ',' {
		return false
	}
	if s[len(s)-1] == 'Z' {
		return true
	}
	offset := s[len(s)-len("09:00"):]
	return string(offset[:2]) <= "23" && string(offset[3:]) <= "59"
}

func notATime(zone *time.Location) error {
	return timeFault(fmt.Sprintf("must be a time like 2026-11-24T09:30:00+09:00 (RFC 3339), or yyyyMMddHHmm or yyyyMMddHHmmss in %s", zone))
}

func parseLocal(s []byte, zone *time.Location) (time.Time, error) {
	var part [6]int // year, month, day, hour, minute, second
	for i, c := range s {
		if c < '0' || c > '9' {
			return time.Time{}, notATime(zone)
		}
		p := max(0, i/2-1)
		part[p] = part[p]*10 + int(c-'0')
	}
	year, month, day, hour, minute, second := part[0], time.Month(part[1]), part[2], part[3], part[4], part[5]
	clock := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	if clock.Year() != year || clock.Month() != month || clock.Day() != day || clock.Hour() != hour || clock.Minute() != minute || clock.Second() != second {
		return time.Time{}, timeFault("must be a time that exists: there is no such month, day, hour, minute or second")
	}

	// Near a transition Date uses the offset of either side, so try both.
	t := time.Date(year, month, day, hour, minute, second, 0, zone)
	moments := []time.Time{t}
	begin, end := t.ZoneBounds()
	if !begin.IsZero() {
		moments = append(moments, begin.Add(-1))
	}
	if !end.IsZero() {
		moments = append(moments, end)
	}
	var shown []time.Time // instants at which clocks in the zone show this time
	for _, m := range moments {
		if u := clockIn(clock, m); sameClock(u, clock) && !slices.ContainsFunc(shown, u.Equal) {
			shown = append(shown, u)
		}
	}
	slices.SortFunc(shown, time.Time.Compare)
	switch len(shown) {
	case 0:
		return time.Time{}, timeFault(fmt.Sprintf("must exist: %s does not in %s, where clocks are put forward over it; give another time, or one with an offset",
			clock.Format(time.DateTime), zone))
	case 1:
		return shown[0], nil
	default:
		return time.Time{}, timeFault(fmt.Sprintf("must be unambiguous: %s is twice in %s, where clocks are put back; give the offset, %s or %s",
			clock.Format(time.DateTime), zone, appendTime(nil, shown[0], zone), appendTime(nil, shown[1], zone)))
	}
}

// clockIn returns the instant at which a clock with the offset in force at the given moment shows the given UTC wall time.
func clockIn(clock, moment time.Time) time.Time {
	_, offset := moment.Zone()
	return clock.Add(-time.Duration(offset) * time.Second).In(moment.Location())
}

// sameClock reports whether the wall time of t is the given UTC wall time.
func sameClock(t, clock time.Time) bool {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).Equal(clock)
}

// timestamp is a time in a reply. It is written in its location.
type timestamp time.Time

// time returns a time in the server's zone.
func (x *exchange) time(t time.Time) timestamp { return timestamp(t.In(x.server.zone)) }

// timeOrNull returns nil, which is null in a reply, for the zero time.
func (x *exchange) timeOrNull(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	return new(x.time(t))
}

// IsZero makes the json option omitzero work.
func (t timestamp) IsZero() bool { return time.Time(t).IsZero() }

// AppendText implements [encoding.TextAppender].
func (t timestamp) AppendText(b []byte) ([]byte, error) {
	return appendTime(b, time.Time(t), time.Time(t).Location()), nil
}

func (t timestamp) String() string {
	b, _ := t.AppendText(nil)
	return string(b)
}

// appendTime appends a time in RFC 3339 with the offset of the zone. It has three decimals or none, and a numeric offset, so that times with
// the same offset sort as strings. RFC 3339 cannot express an offset with seconds: that is truncated to minutes and the wall time adjusted,
// so that the instant stays the same.
func appendTime(b []byte, t time.Time, zone *time.Location) []byte {
	t = t.In(zone)
	if _, offset := t.Zone(); offset%60 != 0 {
		t = t.In(time.FixedZone("", offset-offset%60))
	}
	begin := len(b)
	b = t.AppendFormat(b, time.RFC3339)
	if ms := t.Nanosecond() / int(time.Millisecond); ms > 0 {
		offset := begin + len("2006-01-02T15:04:05")
		b = slices.Insert(b, offset, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	if last := len(b) - 1; b[last] == 'Z' {
		b = append(b[:last], "+00:00"...)
	}
	return b
}
