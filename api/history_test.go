package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"roombook/domain"
)

// The number of changes to a booking is limited. Its history is paged, with each event on one page.
func TestTheHistoryOfABookingThatIsChangedTooOften(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	change := func(i int) reply {
		return s.do(t, "PATCH", "/bookings/"+id, fmt.Sprintf(`{"bookingUserId":"user-%d"}`, i))
	}
	for i := range domain.MaxChanges {
		change(i).want(t, 200)
	}
	if r := change(-1).want(t, http.StatusConflict); r.at(t, "type") != "/problems/too-many-changes" || r.at(t, "bookingId") != id {
		t.Error(r.body)
	}

	const all = 2 + 2*domain.MaxChanges
	for size, want := range map[string]int{"": 200, "?size=7": 7, "?size=200": 200} {
		var seen []string
		pages := 0
		for path := "/bookings/" + id + "/history" + size; path != ""; pages++ {
			r := s.do(t, "GET", path, "").want(t, 200)
			events := r.at(t, "_embedded.events").([]any)
			for _, e := range events {
				seen = append(seen, e.(map[string]any)["eventId"].(string))
			}
			if left := all - len(seen); left > 0 && len(events) != want {
				t.Errorf("a page of %s has %d events", size, len(events))
			}
			path = ""
			if next, ok := r.at(t, "_links").(map[string]any)["next"]; ok {
				_, path, _ = strings.Cut(next.(map[string]any)["href"].(string), "http://example.com")
			}
		}
		distinct := map[string]bool{}
		for _, e := range seen {
			distinct[e] = true
		}
		if len(seen) != all || len(distinct) != all {
			t.Errorf("%d pages of %s have %d events, %d of them distinct, want %d", pages, size, len(seen), len(distinct), all)
		}
	}
	for _, query := range []string{"?size=0", "?size=201", "?cursor=x", "?page=2"} {
		s.do(t, "GET", "/bookings/"+id+"/history"+query, "").want(t, 400)
	}
}
