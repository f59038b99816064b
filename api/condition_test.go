package api

import (
	"net/http/httptest"
	"slices"
	"testing"

	"roombook/domain"
)

func TestConditions(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		bad   bool
		// revisions are those at which If-Match allows a change; nil allows it at any.
		revisions []domain.Revision
		// known is whether If-None-Match suppresses the body of revision 3.
		known bool
	}{
		{name: "any", lines: []string{"*"}, known: true},
		{name: "any, with space", lines: []string{" * "}, known: true},
		{name: "one", lines: []string{`"3"`}, revisions: []domain.Revision{3}, known: true},
		{name: "another", lines: []string{`"4"`}, revisions: []domain.Revision{4}},
		{name: "a list", lines: []string{`"1", "3"	,"12"`}, revisions: []domain.Revision{1, 3, 12}, known: true},
		{name: "several lines", lines: []string{`"1"`, `"3"`}, revisions: []domain.Revision{1, 3}, known: true},
		{name: "empty elements", lines: []string{`, "1",, "3" ,`}, revisions: []domain.Revision{1, 3}, known: true},
		{name: "weak", lines: []string{`W/"3"`}, revisions: []domain.Revision{}, known: true},
		{name: "weak and strong", lines: []string{`W/"2", "3"`}, revisions: []domain.Revision{3}, known: true},
		{name: "of others", lines: []string{`"xyzzy", "a,b", "", "é"`}, revisions: []domain.Revision{}},
		{name: "like a revision", lines: []string{`"03", "+3", "-1", "3 ", "99999999999999999999"`}, bad: true}, // a space is not in a tag
		{name: "no revision", lines: []string{`"03", "+3", "-1", "99999999999999999999"`}, revisions: []domain.Revision{}},
		{name: "a list of quotes", lines: []string{`"""`}, bad: true},
		{name: "empty", lines: []string{""}, bad: true},
		{name: "commas", lines: []string{",,"}, bad: true},
		{name: "no quotes", lines: []string{"3"}, bad: true},
		{name: "one quote", lines: []string{`"3`}, bad: true},
		{name: "no comma", lines: []string{`"3" "4"`}, bad: true},
		{name: "weak in small", lines: []string{`w/"3"`}, bad: true},
		{name: "weak alone", lines: []string{`W/`}, bad: true},
		{name: "any and one", lines: []string{`*, "3"`}, bad: true},
		{name: "one and any", lines: []string{`"3"`, "*"}, bad: true},
		{name: "a control character", lines: []string{"\"\x7f\""}, bad: true},
	} {
		c, err := parseCondition(tt.lines)
		if (err != nil) != tt.bad {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		if got := c.revisions(false); !slices.Equal(got, tt.revisions) || (got == nil) != (tt.revisions == nil) {
			t.Errorf("%s: revisions %v, want %v", tt.name, got, tt.revisions)
		}
		if got := c.has(etag(3, mediaHAL)); got != tt.known {
			t.Errorf("%s: has revision 3: %t", tt.name, got)
		}
		if got := c.any || slices.Contains(c.revisions(true), 3); got != tt.known {
			t.Errorf("%s: keeps revision 3 from being changed: %t", tt.name, got)
		}
	}
	if c, err := parseCondition(nil); c != nil || err != nil || c.revisions(false) != nil {
		t.Errorf("no header is %v, %v", c, err)
	}
}

// Every change of an existing resource can be conditional on the revision that its author read.
func TestIfMatch(t *testing.T) {
	move := `{"useStartDtm":"202611241000","useEndDtm":"202611241100"}`
	whole := `{"roomId":"1","useStartDtm":"202611241000","useEndDtm":"202611241100","bookingUserId":"ann"}`
	for _, tt := range []struct {
		name   string
		given  []call
		read   string // where the ETag is from
		when   call
		status int
		over   string // the problem once the resource is gone; empty if it stays
	}{
		{"change", []call{booked}, "/bookings/{booking}", call{"PATCH", "/bookings/{booking}", move}, 200, ""},
		{"change of user", []call{booked}, "/bookings/{booking}", call{"PATCH", "/bookings/{booking}", `{"bookingUserId":"bob"}`}, 200, ""},
		{"replace", []call{booked}, "/bookings/{booking}", call{"PUT", "/bookings/{booking}", whole}, 200, ""},
		{"cancel", []call{booked}, "/bookings/{booking}", cancelled, 204, "/problems/booking-cancelled"},
		{"confirm", []call{booked}, "/confirms/{booking}", confirmed, 200, ""},
		{"deny", []call{booked}, "/confirms/{booking}", denied, 200, ""},
		{"confirm what the booking said", []call{booked}, "/bookings/{booking}", confirmed, 200, ""},
		{"end use", []call{booked, started}, "/realuses/{use}", ended, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t)
			ids := newIDs()
			for _, c := range tt.given {
				ids.do(t, s, c)
			}
			read := ids.do(t, s, call{"GET", tt.read, ""}).want(t, 200)
			tag := read.header.Get("Etag")
			before := len(s.log.all())
			for _, stale := range []string{`"77"`, "W/" + tag, `"a", "b"`} {
				r := ids.do(t, s, tt.when, "If-Match: "+stale).want(t, 412)
				if r.at(t, "type") != "/problems/precondition-failed" || r.at(t, "etag") != tag || r.header.Get("Etag") != tag {
					t.Errorf("%s: %v %s", stale, r.header, r.body)
				}
			}
			for _, bad := range []string{tag[1:], "*, " + tag} {
				if r := ids.do(t, s, tt.when, "If-Match: "+bad).want(t, 400); r.at(t, "type") != "/problems/invalid-parameters" {
					t.Error(r.body)
				}
			}
			if after := len(s.log.all()); after != before {
				t.Errorf("%d events were written", after-before)
			}
			ids.do(t, s, tt.when, `If-Match: "77", `+tag).want(t, tt.status)
			if after := len(s.log.all()); after == before {
				t.Error("nothing was written")
			}
			if tt.over != "" { // that it is gone goes before that it has changed
				if r := ids.do(t, s, tt.when, `If-Match: "77"`).want(t, 404); r.at(t, "type") != tt.over {
					t.Error(r.body)
				}
			}
		})
	}
}

func TestIfMatchAny(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	s.do(t, "PATCH", "/bookings/"+id, `{"bookingUserId":"bob"}`, "If-Match: *").want(t, 200)
	s.do(t, "DELETE", "/bookings/none", "", "If-Match: *").want(t, 404)
	use := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`"}`).want(t, 201).at(t, "realUseId").(string)
	if r := s.do(t, "DELETE", "/bookings/"+id, "", `If-Match: "77"`).want(t, 409); r.at(t, "type") != "/problems/booking-in-use" {
		t.Error(r.body)
	}
	s.do(t, "PATCH", "/realuses/"+use, "", "If-Match: *").want(t, 200)
}

// A read has no body if the client already has the current one.
func TestIfNoneMatch(t *testing.T) {
	s := newService(t)
	ids := newIDs()
	for _, c := range []call{booked, confirmed, started} {
		ids.do(t, s, c)
	}
	for _, path := range []string{"/bookings/{booking}", "/confirms/{booking}", "/realuses/{use}", "/bookings/{booking}?asOf=3"} {
		for _, method := range []string{"GET", "HEAD"} {
			read := ids.do(t, s, call{method, path, ""}).want(t, 200)
			tag := read.header.Get("Etag")
			for _, known := range []string{tag, "W/" + tag, `"77", ` + tag, "*"} {
				r := ids.do(t, s, call{method, path, ""}, "If-None-Match: "+known).want(t, 304)
				if r.body != "" || r.header.Get("Etag") != tag || r.header.Get("Content-Type") != "" || r.header.Get("Content-Length") != "" ||
					r.header.Get("Roombook-Position") != read.header.Get("Roombook-Position") {
					t.Errorf("%s %s: %v %q", method, path, r.header, r.body)
				}
			}
			if r := ids.do(t, s, call{method, path, ""}, `If-None-Match: "77"`).want(t, 200); r.body != read.body {
				t.Error(r.body)
			}
			ids.do(t, s, call{method, path, ""}, "If-None-Match: 3").want(t, 400)
		}
	}
	s.do(t, "GET", "/bookings/none", "", "If-None-Match: *").want(t, 404)
	s.do(t, "GET", "/bookingLists", "", "If-None-Match: *").want(t, 200) // a list has no ETag
	if got := s.serve(httptest.NewRequest("GET", "/healthz", nil)); got.status != 200 {
		t.Error(got)
	}
}

// If-None-Match refuses a change of a resource at a given revision, and * at any revision.
func TestIfNoneMatchOfAChange(t *testing.T) {
	whole := `{"roomId":"1","useStartDtm":"202611241000","useEndDtm":"202611241100","bookingUserId":"ann"}`
	for _, tt := range []struct {
		given  []call
		read   string
		when   call
		status int
	}{
		{[]call{booked}, "/bookings/{booking}", call{"PUT", "/bookings/{booking}", whole}, 200},
		{[]call{booked}, "/bookings/{booking}", call{"PATCH", "/bookings/{booking}", `{"bookingUserId":"bob"}`}, 200},
		{[]call{booked}, "/bookings/{booking}", cancelled, 204},
		{[]call{booked}, "/confirms/{booking}", confirmed, 200},
		{[]call{booked, started}, "/realuses/{use}", ended, 200},
	} {
		s := newService(t)
		ids := newIDs()
		for _, c := range tt.given {
			ids.do(t, s, c)
		}
		tag := ids.do(t, s, call{"GET", tt.read, ""}).want(t, 200).header.Get("Etag")
		before := len(s.log.all())
		for _, there := range []string{"*", tag, "W/" + tag, `"77", ` + tag, tag[:len(tag)-1] + `-json"`} {
			r := ids.do(t, s, tt.when, "If-None-Match: "+there).want(t, 412)
			if r.at(t, "type") != "/problems/precondition-failed" || r.at(t, "etag") != tag {
				t.Errorf("%s %s, %s: %s", tt.when.method, tt.when.path, there, r.body)
			}
		}
		ids.do(t, s, tt.when, "If-None-Match: 3").want(t, 400)
		if after := len(s.log.all()); after != before {
			t.Errorf("%s %s: %d events were written", tt.when.method, tt.when.path, after-before)
		}
		ids.do(t, s, tt.when, `If-None-Match: "77"`).want(t, tt.status)
	}
	newService(t).do(t, "PUT", "/bookings/none", whole, "If-None-Match: *").want(t, 404)
}

// The two media types of a reply have different ETags; a change can be conditional on either. Vary tells caches.
func TestETagsDifferByMediaType(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	hal := s.do(t, "GET", "/bookings/"+id, "").want(t, 200)
	json := s.do(t, "GET", "/bookings/"+id, "", "Accept: application/json").want(t, 200)
	tags := []string{hal.header.Get("Etag"), json.header.Get("Etag")}
	if tags[0] == tags[1] || hal.header.Get("Vary") != "Accept" || json.header.Get("Vary") != "Accept" {
		t.Errorf("%v, %v", hal.header, json.header)
	}
	s.do(t, "GET", "/bookings/"+id, "", "Accept: application/json", "If-None-Match: "+tags[0]).want(t, 200)
	s.do(t, "GET", "/bookings/"+id, "", "Accept: application/json", "If-None-Match: "+tags[1]).want(t, 304)
	s.do(t, "GET", "/bookings/"+id, "", "If-None-Match: "+tags[1]).want(t, 200)
	if r := s.do(t, "PATCH", "/bookings/"+id, "{}", "Accept: application/json", `If-Match: "77"`).want(t, 412); r.header.Get("Etag") != tags[1] || r.at(t, "etag") != tags[1] {
		t.Errorf("%v %s", r.header, r.body)
	}
	for i, user := range []string{"bob", "cy"} {
		tags := []string{s.do(t, "GET", "/bookings/"+id, "").header.Get("Etag"), s.do(t, "GET", "/bookings/"+id, "", "Accept: application/json").header.Get("Etag")}
		s.do(t, "PATCH", "/bookings/"+id, `{"bookingUserId":"`+user+`"}`, "If-Match: "+tags[i]).want(t, 200)
	}
	for _, path := range []string{"/bookings", "/bookingLists", "/bookings/none", "/", "/problems"} {
		if r := s.do(t, "GET", path, ""); r.header.Get("Vary") != "Accept" {
			t.Errorf("%s: %v", path, r.header)
		}
	}
}
