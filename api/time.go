package api

import (
	"fmt"
	"slices"
	"time"
)

// resolution is that of all times that are kept: what all stores of read models keep too. Finer ones are cut off.
const resolution = time.Millisecond

// The first and the last year that a time may be in. Before, zones had offsets that RFC 3339 cannot write; after, it has no
// room for the year.
const (
	firstYear = 1970
	lastYear  = 9998
)

// timeFault says what is wrong with a time that a caller gave: the end of a sentence that begins with the value's name.
type timeFault string

func (e timeFault) Error() string { return string(e) }

// parseTime reads RFC 3339, or a local time of the zone in the compact forms yyyyMMddHHmm and yyyyMMddHHmmss. A local time that the
// zone's clocks skip or show twice is a fault. What is finer than [resolution] is cut off.
func parseTime(s []byte, zone *time.Location) (time.Time, error) {
	var t time.Time
	if len(s) == 12 || len(s) == 14 {
		var err error
		if t, err = parseLocal(s, zone); err != nil {
			return time.Time{}, err
		}
	} else if err := t.UnmarshalText(s); err != nil || !strictRFC3339(s) {
		return time.Time{}, notATime(zone)
	}
	t = t.UTC().Truncate(resolution)
	if y := t.Year(); y < firstYear || y > lastYear {
		return time.Time{}, timeFault(fmt.Sprintf("must be in the years %d to %d", firstYear, lastYear))
	}
	return t, nil
}

// strictRFC3339 refuses what package time takes for RFC 3339 beyond the RFC (https://go.dev/issue/54580): hours of one digit, a
// decimal comma, and offsets of more than a day.
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

	// Around a jump of the zone's clocks, Date picks the offset of either side; ask both.
	t := time.Date(year, month, day, hour, minute, second, 0, zone)
	moments := []time.Time{t}
	begin, end := t.ZoneBounds()
	if !begin.IsZero() {
		moments = append(moments, begin.Add(-1))
	}
	if !end.IsZero() {
		moments = append(moments, end)
	}
	var shown []time.Time // the instants at which the zone's clocks show this time
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
			clock.Format(time.DateTime), zone, shown[0].Format(time.RFC3339), shown[1].Format(time.RFC3339)))
	}
}

// clockIn is the instant at which a clock that has the offset in force at the given moment shows what the UTC clock shows.
func clockIn(clock, moment time.Time) time.Time {
	_, offset := moment.Zone()
	return clock.Add(-time.Duration(offset) * time.Second).In(moment.Location())
}

// sameClock reports whether t shows what the UTC clock shows.
func sameClock(t, clock time.Time) bool {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).Equal(clock)
}
