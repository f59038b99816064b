package api

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	for _, tt := range []struct{ zone, given, want string }{ // want is the time in UTC, or what its fault contains
		{"Asia/Seoul", "2026-11-24T09:30:00+09:00", "2026-11-24T00:30:00Z"},
		{"Asia/Seoul", "2026-11-24T00:30:00Z", "2026-11-24T00:30:00Z"},
		{"Asia/Seoul", "2026-11-24T00:30:00.123999Z", "2026-11-24T00:30:00.123Z"},
		{"Asia/Seoul", "202611240930", "2026-11-24T00:30:00Z"},
		{"Asia/Seoul", "20261124093015", "2026-11-24T00:30:15Z"},
		{"Asia/Seoul", "202402290000", "2024-02-28T15:00:00Z"},
		{"Asia/Seoul", "202302290000", "there is no such month"},
		{"Asia/Seoul", "202611242400", "there is no such month"},
		{"Asia/Seoul", "202600240930", "there is no such month"},
		{"Asia/Seoul", "20261124093060", "there is no such month"},
		{"Asia/Seoul", "2026112409", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T0", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T09:30+09:00", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T9:30:00+09:00", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T09:30:00,5Z", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T09:30:00+24:00", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T09:30:00+09:60", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T09:30:00", "must be a time like"},
		{"Asia/Seoul", "2026-11-24", "must be a time like"},
		{"Asia/Seoul", "", "must be a time like"},
		{"Asia/Seoul", "1969-12-31T23:59:59Z", "must be in the years 1970 to 9998"},
		{"Asia/Seoul", "9999-01-01T00:00:00Z", "must be in the years 1970 to 9998"},
		{"Asia/Seoul", "000001010000", "must be in the years 1970 to 9998"},
		// Clocks are put forward from 02:00 to 03:00 and back from 03:00 to 02:00.
		{"Europe/Berlin", "202603290159", "2026-03-29T00:59:00Z"},
		{"Europe/Berlin", "202603290200", "2026-03-29 02:00:00 does not in Europe/Berlin"},
		{"Europe/Berlin", "20260329025959", "2026-03-29 02:59:59 does not in Europe/Berlin"},
		{"Europe/Berlin", "202603290300", "2026-03-29T01:00:00Z"},
		{"Europe/Berlin", "202610250159", "2026-10-24T23:59:00Z"},
		{"Europe/Berlin", "202610250200", "2026-10-25T02:00:00+02:00 or 2026-10-25T02:00:00+01:00"},
		{"Europe/Berlin", "20261025025959", "2026-10-25T02:59:59+02:00 or 2026-10-25T02:59:59+01:00"},
		{"Europe/Berlin", "202610250300", "2026-10-25T02:00:00Z"},
		{"Europe/Berlin", "2026-03-29T02:30:00+01:00", "2026-03-29T01:30:00Z"}, // an offset says all
		{"America/New_York", "202603080230", "does not in America/New_York"},
		{"America/New_York", "202611010130", "2026-11-01T01:30:00-04:00 or 2026-11-01T01:30:00-05:00"},
		{"America/Sao_Paulo", "201811040000", "does not in America/Sao_Paulo"}, // at midnight
		{"Australia/Lord_Howe", "202604050145", "2026-04-05T01:45:00+11:00 or 2026-04-05T01:45:00+10:30"},
		{"Australia/Lord_Howe", "202610040215", "does not in Australia/Lord_Howe"}, // by half an hour
		{"Pacific/Apia", "201112301200", "does not in Pacific/Apia"},               // a day that was left out
		{"UTC", "202603290230", "2026-03-29T02:30:00Z"},
	} {
		got, err := parseTime([]byte(tt.given), zone(t, tt.zone))
		said := got.Format(time.RFC3339Nano)
		if err != nil {
			said = err.Error()
		}
		if err == nil && said != tt.want || err != nil && !strings.Contains(said, tt.want) {
			t.Errorf("%s in %s: %s, want %s", tt.given, tt.zone, said, tt.want)
		}
	}
}

// An end may be 24:00, and T and Z may be in lower case.
func TestParseEnd(t *testing.T) {
	for _, tt := range []struct{ zone, given, want string }{
		{"Asia/Seoul", "2026-11-24t09:30:00+09:00", "2026-11-24T00:30:00Z"},
		{"Asia/Seoul", "2026-11-24T00:30:00.5z", "2026-11-24T00:30:00.5Z"},
		{"Asia/Seoul", "2026-11-24T24:00:00+09:00", "2026-11-24T15:00:00Z"},
		{"Asia/Seoul", "2026-11-24t24:00:00.000z", "2026-11-25T00:00:00Z"},
		{"Asia/Seoul", "202611242400", "2026-11-24T15:00:00Z"},
		{"Asia/Seoul", "20261124240000", "2026-11-24T15:00:00Z"},
		{"Asia/Seoul", "202612312400", "2026-12-31T15:00:00Z"},
		{"Asia/Seoul", "202611242401", "there is no such month"},
		{"Asia/Seoul", "20261124240001", "there is no such month"},
		{"Asia/Seoul", "202602302400", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T24:00:01Z", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T24:00:00.1Z", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T25:00:00Z", "must be a time like"},
		{"Asia/Seoul", "2026-02-30T24:00:00Z", "must be a time like"},
		{"Asia/Seoul", "2026-11-24T24:00:00", "must be a time like"},
		{"Asia/Seoul", "9998-12-31T24:00:00Z", "must be in the years"},
		{"America/Sao_Paulo", "201811032400", "does not in America/Sao_Paulo"},
		{"Europe/Berlin", "202610252400", "2026-10-25T23:00:00Z"},
	} {
		got, err := parseEnd([]byte(tt.given), zone(t, tt.zone))
		said := got.Format(time.RFC3339Nano)
		if err != nil {
			said = err.Error()
		}
		if err == nil && said != tt.want || err != nil && !strings.Contains(said, tt.want) {
			t.Errorf("%s in %s: %s, want %s", tt.given, tt.zone, said, tt.want)
		}
	}
}

// A date stands for its first or last instant, also where the day has no midnight or does not exist.
func TestParseBound(t *testing.T) {
	for _, tt := range []struct{ zone, given, from, to string }{
		{"Asia/Seoul", "2026-11-24", "2026-11-23T15:00:00Z", "2026-11-24T15:00:00Z"},
		{"Asia/Seoul", "20261124", "2026-11-23T15:00:00Z", "2026-11-24T15:00:00Z"},
		{"Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		{"America/Sao_Paulo", "2018-11-03", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"},
		{"Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"Asia/Seoul", "202611240930", "2026-11-24T00:30:00Z", "2026-11-24T00:30:00Z"},
		{"Asia/Seoul", "2026-11-24T09:30:00 09:00", "2026-11-24T00:30:00Z", "2026-11-24T00:30:00Z"},
	} {
		for _, end := range []bool{false, true} {
			want := tt.from
			if end {
				want = tt.to
			}
			got, err := parseBound(tt.given, zone(t, tt.zone), end)
			if err != nil || got.Format(time.RFC3339) != want {
				t.Errorf("%s in %s (end: %t): %v, %v, want %s", tt.given, tt.zone, end, got, err, want)
			}
		}
	}
	for _, given := range []string{"2026-13-01", "20261301", "2026-11", "1969-12-31", "9999-01-01"} {
		if got, err := parseBound(given, time.UTC, false); err == nil {
			t.Errorf("%s: %v", given, got)
		}
	}
}

// Local times are accepted if and only if clocks in the zone show them exactly once.
func TestLocalTimesOfAYear(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	shown := make(map[string]int)
	for m := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC); m.Year() == 2026; m = m.Add(10 * time.Minute) {
		shown[m.In(berlin).Format("200601021504")]++
	}
	for m := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC); m.Month() < time.December; m = m.Add(10 * time.Minute) {
		local := m.Format("200601021504")
		got, err := parseTime([]byte(local), berlin)
		if (err == nil) != (shown[local] == 1) || err == nil && got.In(berlin).Format("200601021504") != local {
			t.Errorf("%s is shown %d times and read as %s, %v", local, shown[local], got, err)
		}
	}
}

func TestTimesAreAnsweredInTheServersZone(t *testing.T) {
	s := newService(t, func(o *Options) { o.Zone = zone(t, "Europe/Berlin") })
	r := s.do(t, "POST", "/bookings", `{"roomId":1,"useStartDtm":"202610250130","useEndDtm":"2026-10-25T02:30:00+01:00","bookingUserId":1}`).want(t, 201)
	if start, end := r.at(t, "useStartDtm"), r.at(t, "useEndDtm"); start != "2026-10-25T01:30:00+02:00" || end != "2026-10-25T02:30:00+01:00" {
		t.Errorf("from %s to %s", start, end)
	}
	r = s.do(t, "POST", "/bookings", `{"roomId":1,"useStartDtm":"202610250230","useEndDtm":"202603290230","bookingUserId":1}`).want(t, 422)
	if n := len(r.at(t, "errors").([]any)); n != 2 {
		t.Errorf("%d faults: %s", n, r.body)
	}
}

// Times in replies have three decimals or none, and a numeric offset, so that they sort as strings. The instant stays the same even if the
// zone's offset has seconds.
func TestAnsweredTimes(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	early := time.Date(1971, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		zone string
		time time.Time
		want string
	}{
		{"Asia/Seoul", noon, "2026-11-24T21:00:00+09:00"},
		{"Asia/Seoul", noon.Add(150 * time.Millisecond), "2026-11-24T21:00:00.150+09:00"},
		{"Asia/Seoul", noon.Add(7 * time.Millisecond), "2026-11-24T21:00:00.007+09:00"},
		{"UTC", noon, "2026-11-24T12:00:00+00:00"},
		{"UTC", noon.Add(time.Millisecond), "2026-11-24T12:00:00.001+00:00"},
		{"America/New_York", noon.Add(999 * time.Millisecond), "2026-11-24T07:00:00.999-05:00"},
		{"Africa/Monrovia", early, "1971-06-01T11:16:00-00:44"}, // its clocks were 44 minutes and 30 seconds behind
	} {
		got := string(appendTime(nil, tt.time, zone(t, tt.zone)))
		back, err := time.Parse(time.RFC3339, got)
		if got != tt.want || err != nil || !back.Equal(tt.time) {
			t.Errorf("%v in %s: %s, want %s; it is %v, %v", tt.time, tt.zone, got, tt.want, back, err)
		}
	}
	for _, name := range []string{"Asia/Seoul", "UTC", "America/New_York"} {
		var last string
		for ms := range 2500 {
			text := string(appendTime(nil, noon.Add(time.Duration(ms)*time.Millisecond), zone(t, name)))
			if text <= last {
				t.Fatalf("in %s: %s does not come after %s", name, text, last)
			}
			last = text
		}
	}
}

// A time that a problem mentions can be sent back: it is exact.
func TestTimesInProblemsCanBeSentBack(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	use := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`","realUseStartDtm":"2026-11-24T09:31:00.125+09:00"}`).want(t, 201).at(t, "realUseId").(string)
	early := s.do(t, "PATCH", "/realuses/"+use, `{"realUseEndDtm":"202611240900"}`).want(t, 422)
	if !strings.Contains(early.body, "must not be before the start of the use, 2026-11-24T09:31:00.125+09:00") {
		t.Error(early.body)
	}
	s.do(t, "PATCH", "/realuses/"+use, `{"realUseEndDtm":"2026-11-24T09:31:00.125+09:00"}`).want(t, 200)
	r := s.do(t, "PATCH", "/realuses/"+use, `{"realUseEndDtm":"202611240959"}`).want(t, 409)
	_, said, _ := strings.Cut(r.at(t, "detail").(string), " ended at ")
	said = strings.TrimSuffix(said, ".")
	s.do(t, "PATCH", "/realuses/"+use, `{"realUseEndDtm":"`+said+`"}`).want(t, 200) // the same end again
}
