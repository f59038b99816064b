package web

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"roombook/domain"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// A time that the clocks skip or show twice is refused, and not guessed.
func TestTimesOfForms(t *testing.T) {
	for _, tt := range []struct {
		zone, text, want string
		err              error
	}{
		{"Asia/Seoul", "2026-11-27T14:15", "2026-11-27T05:15:00Z", nil},
		{"Asia/Seoul", "2026-11-27T14:15:00", "2026-11-27T05:15:00Z", nil},
		{"Europe/Berlin", "2026-03-29T01:59", "2026-03-29T00:59:00Z", nil},
		{"Europe/Berlin", "2026-03-29T02:30", "", errSkipped},
		{"Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00:00Z", nil},
		{"Europe/Berlin", "2026-10-25T02:30", "", errTwice},
		{"Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00:00Z", nil},
		{"Asia/Seoul", "", "", errNoTime},
		{"Asia/Seoul", "tomorrow", "", errNoTime},
	} {
		got, err := parseTime(tt.text, zone(t, tt.zone))
		if !errors.Is(err, tt.err) || err == nil && got.UTC().Format(time.RFC3339) != tt.want {
			t.Errorf("%s in %s is %s, %v, want %s, %v", tt.text, tt.zone, got, err, tt.want, tt.err)
		}
	}
}

// A day lasts from its first moment to the next one's, whatever the clocks do.
func TestDays(t *testing.T) {
	for _, tt := range []struct {
		zone, day string
		hours     float64
		start     string
	}{
		{"Asia/Seoul", "2026-11-27", 24, "2026-11-27T00:00:00+09:00"},
		{"Europe/Berlin", "2026-03-29", 23, "2026-03-29T00:00:00+01:00"},
		{"Europe/Berlin", "2026-10-25", 25, "2026-10-25T00:00:00+02:00"},
		{"Africa/Cairo", "2026-04-24", 23, "2026-04-24T01:00:00+03:00"}, // the clocks skip midnight
	} {
		v := &view{}
		day := v.dayOf(tt.day, zone(t, tt.zone))
		if day.Length().Hours() != tt.hours || day.Start.Format(time.RFC3339) != tt.start {
			t.Errorf("%s in %s is %s, %s", tt.day, tt.zone, day.Start, day.Length())
		}
	}
}

// Times are in the room's zone, which is named if it is not that of the server.
func TestTimesInWords(t *testing.T) {
	seoul := zone(t, "Asia/Seoul")
	v := &view{p: &Pages{zone: seoul}, Language: English}
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	marked := strings.NewReplacer("\u00a0", "_", "–\u2060", "=") // where a line does not break
	for _, tt := range []struct{ start, end, english, korean string }{
		{"2026-11-27T05:00:00Z", "2026-11-27T06:30:00Z", "Fri 27 Nov 2026 14:00=15:30", "2026년 11월 27일 (금) 오후_2:00=3:30"},
		{"2026-11-27T14:00:00Z", "2026-11-27T15:00:00Z", "Fri 27 Nov 2026 23:00=24:00", "2026년 11월 27일 (금) 오후_11:00=자정"},
		{"2026-11-27T14:00:00Z", "2026-11-27T16:00:00Z", "Fri 27 Nov 23:00 – Sat 28 Nov 01:00", "11. 27. (금) 오후 11:00 – 11. 28. (토) 오전 1:00"},
	} {
		for v.Language = range catalogues {
			want := tt.english
			if v.Language == Korean {
				want = tt.korean
			}
			if got := marked.Replace(v.When(domain.Slot{Start: at(tt.start), End: at(tt.end)}, "any")); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
	hours := []domain.Hours{{From: "08:00", To: "12:00"}, {From: "13:00", To: "24:00"}}
	for clock, want := range map[string]string{"": "오전_8:00=오후_12:00, 오후_1:00=자정", "12": "오전_8:00=오후_12:00, 오후_1:00=자정", "24": "08:00=12:00, 13:00=24:00"} {
		if got := marked.Replace((&view{Language: Korean, ClockHours: clock}).hours(hours)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := v.Zone(zone(t, "Europe/Berlin")); got != " (Europe/Berlin)" {
		t.Error(got)
	}
}

// A reader is sent back to paths of this server only.
func TestBack(t *testing.T) {
	for path, safe := range map[string]bool{
		"/my": true, "/board?day=2026-11-27": true, "//evil.example": false, "https://evil.example": false, "/\\evil.example": false, "/\t/evil.example": false, "": false, "/a\nb": false,
	} {
		if safeBack(path) != safe {
			t.Errorf("%q", path)
		}
	}
}
