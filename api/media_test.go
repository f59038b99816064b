package api

import "testing"

func TestAcceptable(t *testing.T) {
	const hal, json, none = mediaHAL, mediaJSON, ""
	for _, tt := range []struct {
		accept []string
		want   string
	}{
		{nil, hal},
		{[]string{"*/*"}, hal},
		{[]string{"application/hal+json"}, hal},
		{[]string{"application/json"}, json},
		{[]string{"Application/JSON"}, json},
		{[]string{"application/json; charset=utf-8"}, json},
		{[]string{"application/*"}, hal},
		{[]string{"application/json, application/*;q=0.5"}, json},
		{[]string{"application/json, */*"}, json},
		{[]string{"application/json, application/hal+json"}, hal},
		{[]string{"application/json;q=0.9, application/hal+json;q=0.8"}, json},
		{[]string{"application/json;q=0, */*"}, hal},
		{[]string{"application/hal+json;q=0, */*"}, json},
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, hal},
		{[]string{"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}, hal},
		{[]string{"text/html", "application/json"}, json},
		{[]string{"application/json;q=nonsense"}, json},
		{[]string{"text/html,\tapplication/json\t;\tq=0.5"}, json},
		{[]string{"application/json;q=0.1, application/hal+json;q=0.5, application/json;q=0.9"}, json},
		{[]string{"text/html"}, none},
		{[]string{"*/*;q=0"}, none},
		{[]string{""}, none},
	} {
		got, err := acceptable(tt.accept)
		if got != tt.want || (err != nil) != (tt.want == none) {
			t.Errorf("%q: %q, %v, want %q", tt.accept, got, err, tt.want)
		}
	}
}

func TestAnswersHaveTheMediaTypeThatIsAccepted(t *testing.T) {
	s := newService(t)
	for _, path := range []string{"/", "/bookings/" + s.book(t, morning), "/bookingLists", "/problems"} {
		if r := s.do(t, "GET", path, "", "Accept: application/json").want(t, 200); r.header.Get("Content-Type") != mediaJSON {
			t.Errorf("%s: %v", path, r.header)
		}
		s.do(t, "GET", path, "", "Accept: text/csv").want(t, 406)
	}
	before := len(s.log.all())
	s.do(t, "POST", "/bookings", `{"roomId":2,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":1}`, "Accept: text/csv").want(t, 406)
	if len(s.log.all()) != before {
		t.Error("a command was carried out whose answer is not accepted")
	}
	if r := s.do(t, "GET", "/bookings/none", "", "Accept: application/json"); r.header.Get("Content-Type") != mediaProblem {
		t.Errorf("problem as %v", r.header)
	}
}
