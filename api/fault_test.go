package api

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// A fault is reported once, whoever reports it again, is read by everybody, and settled with a note.
func TestAFault(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", blue).want(t, 201)
	const key = "Idempotency-Key: fault"
	r := s.do(t, "POST", "/rooms/1/faults", `{"equipment":"beamer","text":" no picture "}`, key).want(t, 201)
	fault := strings.TrimPrefix(r.header.Get("Location"), "http://example.com")
	if r.at(t, "status") != "OPEN" || r.at(t, "equipment") != "beamer" || r.at(t, "text") != "no picture" || r.at(t, "settleDtm") != nil || r.header.Get("Roombook-Position") == "" {
		t.Error(r.body)
	}
	if again := s.do(t, "POST", "/rooms/1/faults", `{"equipment":"beamer","text":" no picture "}`, key).want(t, 201); again.body != r.body || again.header.Get("Location") != r.header.Get("Location") {
		t.Errorf("again: %s", again.body)
	}
	if known := s.do(t, "POST", "/rooms/1/faults", `{"equipment":"beamer"}`).want(t, 200); known.body != r.body || known.header.Get("Location") != "" {
		t.Errorf("known: %s", known.body)
	}
	if got := s.do(t, "GET", fault, "").want(t, 200); got.body != r.body {
		t.Errorf("got %s, reported %s", got.body, r.body)
	}
	s.do(t, "GET", fault, "", `If-None-Match: "0"`).want(t, 304)
	s.do(t, "POST", "/rooms/1/faults", `{}`).want(t, 201) // something else
	s.do(t, "GET", "/rooms/1", "", `If-None-Match: "0"`).want(t, 304)

	s.do(t, "PATCH", fault, `{"status":"SETTLED"}`, `If-Match: "5"`).want(t, 412)
	settled := s.do(t, "PATCH", fault, `{"status":"SETTLED","note":"new lamp"}`, "Content-Type: application/merge-patch+json").want(t, 200)
	if settled.at(t, "status") != "SETTLED" || settled.at(t, "note") != "new lamp" || settled.at(t, "settleDtm") == nil {
		t.Error(settled.body)
	}
	if again := s.do(t, "PATCH", fault, `{"status":"SETTLED","note":"other"}`).want(t, 200); again.body != settled.body {
		t.Errorf("again: %s", again.body)
	}
	var states string
	for _, f := range s.do(t, "GET", "/rooms/1/faults", "").want(t, 200).at(t, "_embedded.faults").([]any) {
		states += f.(map[string]any)["status"].(string) + " "
	}
	if states != "OPEN SETTLED " {
		t.Error(states)
	}
	s.do(t, "POST", "/rooms/1/faults", `{"equipment":"beamer"}`).want(t, 201)

	for _, c := range []struct {
		method, path, body string
		status             int
		problem            string
	}{
		{"GET", "/rooms/2/faults", "", 404, "room-not-found"}, {"POST", "/rooms/2/faults", "{}", 404, "room-not-found"}, {"GET", "/rooms/1/faults/x", "", 404, "fault-not-found"},
		{"PATCH", "/rooms/1/faults/x", `{"status":"SETTLED"}`, 404, "fault-not-found"}, {"PATCH", "/rooms/2/faults/x", `{"status":"SETTLED"}`, 404, "fault-not-found"},
		{"POST", "/rooms/1/faults", `{"equipment":"piano"}`, 422, "invalid-body"}, {"POST", "/rooms/1/faults", `{"equipment":7,"more":1}`, 422, "invalid-body"},
		{"POST", "/rooms/1/faults", `{"text":"` + strings.Repeat("x", 201) + `"}`, 422, "invalid-body"}, {"POST", "/rooms/1/faults", `{"text":"a\nb"}`, 422, "invalid-body"},
		{"PATCH", fault, `{"status":"OPEN"}`, 422, "invalid-body"}, {"PATCH", fault, `{}`, 422, "invalid-body"}, {"PATCH", fault, `{"status":"SETTLED","note":"` + strings.Repeat("x", 201) + `"}`, 422, "invalid-body"},
	} {
		wantProblem(t, c.method+" "+c.path+" "+c.body, s.do(t, c.method, c.path, c.body), c.status, c.problem)
	}
	for i := range 18 {
		s.do(t, "POST", "/rooms/1/faults", `{"text":"`+strings.Repeat("x", i+1)+`"}`).want(t, 201)
	}
	if full := s.do(t, "POST", "/rooms/1/faults", `{"text":"one more"}`); full.at(t, "roomId") != "1" {
		t.Error(full.body)
	} else {
		wantProblem(t, "too many", full, 409, "too-many-faults")
	}
}

// Whatever is done about faults can be done without scripts, in both languages: at the door and on the room's page.
func TestFaultsWithoutScripts(t *testing.T) {
	s := furnished(t)
	lee := newReader(s, "lee", "en")
	houseForTest(t, lee)
	door, ann := newReader(s, "", "ko").after(lee), newReader(s, "ann", "en").after(lee)

	if seen := door.get(t, "/rooms/blue/door").want(t, 200); strings.Contains(seen.text(t), "고장:") {
		t.Error(seen.body)
	}
	door.submit(t, "/rooms/blue/door", url.Values{"do": {"fault"}, "equipment": {"Screen"}, "text": {"깜박임"}}).want(t, 200).has(t, "고장: Screen: 깜박임")
	// What is known is not offered again.
	if again := door.get(t, "/rooms/blue/door").body; strings.Contains(again, `value="Screen"`) || !strings.Contains(again, `value="Board"`) {
		t.Error(again)
	}
	ann.after(door).submit(t, "/rooms/blue/page", url.Values{"do": {"report"}, "equipment": {"Screen"}}).want(t, 200).has(t, "It is known already.")
	ann.submit(t, "/rooms/blue/page", url.Values{"do": {"report"}, "equipment": {""}, "text": {"A draught"}}).want(t, 200).has(t, "Those who answer for the room are told.", "A draught since", "reported by ann", "reported by door")
	ann.get(t, "/book?room=blue").want(t, 200).has(t, "Out of order: Screen: 깜박임 · A draught")
	ann.get(t, "/board").want(t, 200).has(t, "Out of order: Screen: 깜박임 · A draught")
	if o := s.do(t, "GET", "/occupancy?roomId=blue&from=2026-11-24&to=2026-11-24", "").want(t, 200); !strings.Contains(o.body, `"equipment":"Screen","text":"깜박임"`) {
		t.Error(o.body)
	}
	ann.submit(t, "/rooms/blue/page", url.Values{"do": {"report"}, "text": {strings.Repeat("x", 201)}}).want(t, 422).has(t, "at most 200 characters")
	ann.submit(t, "/rooms/blue/page", url.Values{"do": {"report"}, "equipment": {"Piano"}}).want(t, 422)
	ann.submit(t, "/rooms/blue/page", url.Values{"do": {"sing"}}).want(t, 400)
	ann.submit(t, "/rooms/blue/page", url.Values{"do": {"settle"}, "fault": {"x"}}).want(t, 404)

	page := lee.after(ann).get(t, "/rooms/blue/page").want(t, 200)
	settle := page.fields(t, "note")
	settle.Set("do", "settle")
	settle.Set("note", "A new cable")
	settled := lee.submit(t, "/rooms/blue/page", settle).want(t, 200).has(t, "Settled.", "A draught since", "by lee: A new cable")
	if strings.Contains(settled.body, "<strong>Screen") {
		t.Error(settled.body)
	}
	door.after(lee).get(t, "/rooms/blue/door").want(t, 200).has(t, "고장: A draught")
	door.submit(t, "/rooms/blue/door", url.Values{"do": {"fault"}, "equipment": {"Piano"}}).want(t, 422)
	// A room that is not registered has no equipment, and nobody who would be told.
	if other := door.get(t, "/rooms/none/door").want(t, 200); strings.Contains(other.body, "door-report") {
		t.Error(other.body)
	}
}

// roomsBefore are lists in which something happens after the rooms have been read once.
type roomsBefore struct {
	*projections.Queries
	after func()
}

func (l *roomsBefore) Rooms(ctx context.Context, q projections.RoomQuery) (projections.Page[projections.RoomList], error) {
	page, err := l.Queries.Rooms(ctx, q)
	if after := l.after; after != nil {
		l.after = nil
		after()
	}
	return page, err
}

// A page that is told of changes is told of those, too, that come between two of the lists that it reads.
func TestToldFromEarliestList(t *testing.T) {
	var lists *roomsBefore
	s := wholeOn(t, eventstoretest.OpenAlone(t), func(o *Options) {
		lists = &roomsBefore{Queries: o.Lists.(*projections.Queries)}
		o.Lists = lists
	})
	ann := newReader(s, "ann", "en")
	houseForTest(t, ann)
	for _, path := range []string{"/rooms/red/door", "/lobby", "/board", "/approvals"} {
		var position string
		lists.after = func() {
			r := s.do(t, "POST", "/rooms/red/faults", fmt.Sprintf(`{"text":%q}`, "a draught at "+path)).want(t, 201)
			position = r.header.Get("Roombook-Position")
			for _, list := range []string{"/rooms", "/bookingLists"} {
				s.do(t, "GET", list, "", "Roombook-Position: "+position).want(t, 200)
			}
		}
		page := ann.get(t, path).want(t, 200)
		_, from, _ := strings.Cut(page.body, ` data-position="`)
		from, _, _ = strings.Cut(from, `"`)
		told, err := strconv.Atoi(from)
		fault, faultErr := strconv.Atoi(position)
		if err != nil || faultErr != nil || told >= fault {
			t.Errorf("%s is told of what comes after %q, and a fault of %q came after its rooms were read", path, from, position)
		}
	}
}
