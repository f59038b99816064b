package api

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBookings(t *testing.T) {
	move := `{"useStartDtm":"202611241000","useEndDtm":"202611241100"}`
	same := `{"roomId":1,"useStartDtm":"2026-11-24T00:30:00Z","useEndDtm":"20261124103000","bookingUserId":"ann"}`
	moved := []string{"SlotReserved", "BookingChanged", "ConfirmRequested", "SlotReleased"}
	for _, s := range []scenario{
		{
			name: "book", when: booked, status: 201,
			has: map[string]string{
				"roomId": "1", "bookingUserId": "ann", "status": "BOOKED",
				"useStartDtm": "2026-11-24T09:30:00+09:00", "useEndDtm": "2026-11-24T10:30:00+09:00",
				"_links.self.href": "http://example.com/bookings/{booking}", "_links.booking.href": "http://example.com/bookings/{booking}",
			},
			then: []string{"SlotReserved", "BookingCreated", "ConfirmRequested"},
		},
		{
			name: "book with numbers for ids", status: 201,
			when: call{"POST", "/bookings", `{"roomId":98765432109876543210987654321,"useStartDtm":"2026-11-24T09:30:00.1239Z","useEndDtm":"2026-11-24T23:30:00+09:00","bookingUserId":-7}`},
			has:  map[string]string{"roomId": "98765432109876543210987654321", "bookingUserId": "-7", "useStartDtm": "2026-11-24T18:30:00.123+09:00"},
			then: []string{"SlotReserved", "BookingCreated", "ConfirmRequested"},
		},
		{name: "book what is taken", given: []call{booked}, when: booked, status: 409, problem: "slot-taken"},
		{
			name: "book back to back", given: []call{booked}, status: 201,
			when: call{"POST", "/bookings", `{"roomId":"1","useStartDtm":"202611241030","useEndDtm":"202611241130","bookingUserId":"bob"}`},
			then: []string{"SlotReserved", "BookingCreated", "ConfirmRequested"},
		},
		{
			name: "book what was cancelled", given: []call{booked, cancelled}, when: booked, status: 201,
			then: []string{"SlotReserved", "BookingCreated", "ConfirmRequested"},
		},
		{
			name: "book backwards", status: 422, problem: "invalid-body",
			when: call{"POST", "/bookings", `{"roomId":"1","useStartDtm":"202611241030","useEndDtm":"202611241030","bookingUserId":"bob"}`},
		},
		{name: "read", given: []call{booked}, when: call{"GET", "/bookings/{booking}", ""}, status: 200, has: map[string]string{"status": "BOOKED"}},
		{name: "read confirmed", given: []call{booked, confirmed}, when: call{"GET", "/bookings/{booking}", ""}, status: 200, has: map[string]string{"status": "CONFIRMED"}},
		{
			name: "read in use", given: []call{booked, started}, when: call{"GET", "/bookings/{booking}", ""}, status: 200,
			has: map[string]string{"status": "IN_USE", "_links.realUse.href": "http://example.com/realuses/{use}"},
		},
		{name: "read none", when: call{"GET", "/bookings/01965b7a-0000-7000-8000-000000000000", ""}, status: 404, problem: "booking-not-found"},
		{name: "read no id", when: call{"GET", "/bookings/a%20b", ""}, status: 404, problem: "booking-not-found"},
		{
			name: "read cancelled", given: []call{booked, cancelled}, when: call{"GET", "/bookings/{booking}", ""}, status: 404, problem: "booking-cancelled",
			has: map[string]string{"cancelReason": "user", "bookingId": "{booking}"},
		},
		{name: "read used", given: []call{booked, started, ended}, when: call{"GET", "/bookings/{booking}", ""}, status: 404, problem: "booking-cancelled", has: map[string]string{"cancelReason": "use-ended"}},
		{
			name: "move", given: []call{booked}, when: call{"PATCH", "/bookings/{booking}", move}, status: 200, then: moved,
			has: map[string]string{"useStartDtm": "2026-11-24T10:00:00+09:00", "useEndDtm": "2026-11-24T11:00:00+09:00", "roomId": "1"},
		},
		{name: "move what was confirmed", given: []call{booked, confirmed}, when: call{"PATCH", "/bookings/{booking}", `{"roomId":2}`}, status: 200, then: moved, has: map[string]string{"status": "BOOKED", "roomId": "2"}},
		{
			name:  "move to where another one is",
			given: []call{{"POST", "/bookings", `{"roomId":"2","useStartDtm":"202611240930","useEndDtm":"202611241130","bookingUserId":"bob"}`}, booked},
			when:  call{"PATCH", "/bookings/{booking}", `{"roomId":2}`}, status: 409, problem: "slot-taken",
		},
		{
			name: "give to another user", given: []call{booked, confirmed}, when: call{"PATCH", "/bookings/{booking}", `{"bookingUserId":"bob"}`}, status: 200,
			has: map[string]string{"bookingUserId": "bob", "status": "CONFIRMED"}, then: []string{"BookingChanged", "BookingHandedOver"},
		},
		{name: "change to the same", given: []call{booked}, when: call{"PATCH", "/bookings/{booking}", same}, status: 200},
		{name: "change nothing", given: []call{booked}, when: call{"PATCH", "/bookings/{booking}", `{}`}, status: 200},
		{name: "change to null", given: []call{booked}, when: call{"PATCH", "/bookings/{booking}", `{"roomId":null}`}, status: 422, problem: "invalid-body"},
		{name: "change to before the start", given: []call{booked}, when: call{"PATCH", "/bookings/{booking}", `{"useEndDtm":"202611240900"}`}, status: 422, problem: "invalid-body"},
		{name: "change in use", given: []call{booked, started}, when: call{"PATCH", "/bookings/{booking}", move}, status: 409, problem: "booking-in-use", has: map[string]string{"realUseId": "{use}"}},
		{name: "change cancelled", given: []call{booked, cancelled}, when: call{"PATCH", "/bookings/{booking}", move}, status: 404, problem: "booking-cancelled"},
		{name: "change none", when: call{"PATCH", "/bookings/{booking}", move}, status: 404, problem: "booking-not-found"},
		{name: "change no id", when: call{"PATCH", "/bookings/a%20b", move}, status: 404, problem: "booking-not-found"},
		{name: "replace by the same", given: []call{booked}, when: call{"PUT", "/bookings/{booking}", same}, status: 200},
		{name: "replace", given: []call{booked}, when: call{"PUT", "/bookings/{booking}", `{"roomId":"x","useStartDtm":"202611250930","useEndDtm":"202611251030","bookingUserId":"bob"}`}, status: 200,
			then: []string{"SlotReserved", "BookingChanged", "ConfirmRequested", "BookingHandedOver", "SlotReleased"}, has: map[string]string{"roomId": "x", "bookingUserId": "bob"}},
		{name: "replace in part", given: []call{booked}, when: call{"PUT", "/bookings/{booking}", move}, status: 422, problem: "invalid-body"},
		{name: "cancel", given: []call{booked}, when: cancelled, status: 204, then: []string{"BookingCancelled", "SlotReleased"}},
		{name: "cancel again", given: []call{booked, cancelled}, when: cancelled, status: 404, problem: "booking-cancelled"},
		{name: "cancel none", when: cancelled, status: 404, problem: "booking-not-found"},
		{name: "cancel no id", when: call{"DELETE", "/bookings/a%20b", ""}, status: 404, problem: "booking-not-found"},
		{name: "cancel in use", given: []call{booked, started}, when: cancelled, status: 409, problem: "booking-in-use"},
		{name: "unknown parameter", given: []call{booked}, when: call{"GET", "/bookings/{booking}?asof=1", ""}, status: 400, problem: "invalid-parameters"},
		{name: "parameter of a command", when: call{"POST", "/bookings?dry=1", morning}, status: 400, problem: "invalid-parameters"},
	} {
		s.run(t)
	}
}

func TestASlotThatIsTakenNamesWhoHoldsIt(t *testing.T) {
	s := newService(t)
	first := s.book(t, morning)
	second := s.book(t, `{"roomId":"1","useStartDtm":"202611241100","useEndDtm":"202611241200","bookingUserId":"bob"}`)
	r := s.do(t, "POST", "/bookings", `{"roomId":"1","useStartDtm":"202611241000","useEndDtm":"202611241300","bookingUserId":"cy"}`).want(t, 409)
	got := fmt.Sprint(r.at(t, "conflictsWith"))
	want := fmt.Sprint([]any{
		map[string]any{"bookingId": first, "useStartDtm": "2026-11-24T09:30:00+09:00", "useEndDtm": "2026-11-24T10:30:00+09:00"},
		map[string]any{"bookingId": second, "useStartDtm": "2026-11-24T11:00:00+09:00", "useEndDtm": "2026-11-24T12:00:00+09:00"},
	})
	if got != want {
		t.Errorf("conflictsWith %s, want %s", got, want)
	}
}

func TestTheAnswerSaysWhereItIsWritten(t *testing.T) {
	s := newService(t)
	r := s.do(t, "POST", "/bookings", morning).want(t, 201)
	id := r.at(t, "bookingId").(string)
	for name, want := range map[string]string{"Etag": `"1"`, "Roombook-Position": "3", "Location": "http://example.com/bookings/" + id, "Content-Type": "application/hal+json"} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	r = s.do(t, "PATCH", "/bookings/"+id, `{"bookingUserId":"bob"}`)
	if etag := r.header.Get("Etag"); etag != `"3"` {
		t.Errorf("ETag %s after a change", etag)
	}
	if got := s.do(t, "GET", "/bookings/"+id, "").header; got.Get("Etag") != `"3"` || got.Get("Roombook-Position") != "5" {
		t.Errorf("headers of a read %v", got)
	}
}

func TestABookingAsItWas(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning) // positions 1 to 3
	s.do(t, "PATCH", "/bookings/"+id, `{"bookingUserId":"bob"}`).want(t, 200)
	s.do(t, "DELETE", "/bookings/"+id, "").want(t, 204)
	later := time.Now().Add(time.Hour).UTC()

	for _, tt := range []struct {
		asOf   string
		status int
		member string
		want   string
	}{
		{"3", 200, "bookingUserId", "ann"},
		{"4", 200, "bookingUserId", "bob"},
		{"5", 200, "bookingUserId", "bob"}, // that it was handed over
		{"6", 404, "type", "/problems/booking-cancelled"},
		{"1", 404, "type", "/problems/booking-not-found"},
		{"1", 404, "detail", "No booking has this id or, with asOf, had it at that time."},
		{later.Format(time.RFC3339), 404, "type", "/problems/booking-cancelled"},
		{later.In(time.FixedZone("", 9*3600)).Format(time.RFC3339), 404, "type", "/problems/booking-cancelled"}, // its + is a space
		{"2020-01-01T00:00:00Z", 404, "type", "/problems/booking-not-found"},
		{"202001010000", 404, "type", "/problems/booking-not-found"}, // a time, and not a position
		{"20200101000000", 404, "type", "/problems/booking-not-found"},
		{"202613010000", 400, "type", "/problems/invalid-parameters"}, // neither
		{"7", 404, "type", "/problems/booking-cancelled"},             // the end of the log
		{"8", 400, "type", "/problems/invalid-parameters"},
		{"18446744073709551615", 400, "type", "/problems/invalid-parameters"},
		{"0", 400, "type", "/problems/invalid-parameters"},
		{"-1", 400, "type", "/problems/invalid-parameters"},
		{"yesterday", 400, "type", "/problems/invalid-parameters"},
		{"", 400, "type", "/problems/invalid-parameters"},
		{"3&asOf=4", 400, "type", "/problems/invalid-parameters"},
		{"%zz", 400, "type", "/problems/invalid-parameters"},
	} {
		r := s.do(t, "GET", "/bookings/"+id+"?asOf="+tt.asOf, "")
		if r.status != tt.status || r.at(t, tt.member) != tt.want {
			t.Errorf("asOf=%s: status %d, %s", tt.asOf, r.status, r.body)
		}
	}
}

func TestHistory(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	use := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`"}`).at(t, "realUseId").(string)
	s.do(t, "PATCH", "/realuses/"+use, "").want(t, 200)
	r := s.do(t, "GET", "/bookings/"+id+"/history", "", "X-Request-Id: q1").want(t, 200)
	var types []string
	for _, e := range r.at(t, "_embedded.events").([]any) {
		e := e.(map[string]any)
		types = append(types, e["type"].(string))
		if e["data"].(map[string]any)["bookingId"] != id {
			t.Errorf("data of %s: %v", e["type"], e["data"])
		}
	}
	if got, want := fmt.Sprint(types), "[BookingCreated ConfirmRequested BookingCheckedIn UseStarted UseEnded BookingCancelled]"; got != want {
		t.Errorf("history %s, want %s", got, want)
	}
	s.do(t, "GET", "/bookings/x/history", "").want(t, 404)
	s.do(t, "GET", "/bookings/a%20b/history", "").want(t, 404)
}

// The metadata of events has the actor and the correlation id.
func TestACommandCarriesWhoAskedAndWhy(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct {
		name        string
		headers     []string
		correlation string
	}{
		{"its own", []string{"X-Correlation-Id: order-7", "Traceparent: " + trace, "X-Request-Id: q1"}, "order-7"},
		{"the trace", []string{"Traceparent: " + trace, "X-Request-Id: q1"}, "0af7651916cd43dd8448eb211c80319c"},
		{"the request", []string{"X-Request-Id: q1"}, "q1"},
		{"no trace", []string{"Traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01", "X-Request-Id: q1"}, "q1"},
		{"nothing fit to be kept", []string{"X-Correlation-Id: a b", "X-Request-Id: q1"}, "q1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t)
			r := s.do(t, "POST", "/bookings", morning, tt.headers...).want(t, 201)
			if got := r.header.Get("X-Request-Id"); got != "q1" {
				t.Errorf("X-Request-Id %q", got)
			}
			h := s.do(t, "GET", "/bookings/"+r.at(t, "bookingId").(string)+"/history", "")
			e := h.at(t, "_embedded.events").([]any)[0].(map[string]any)
			if e["correlationId"] != tt.correlation || e["actor"] != "ann" {
				t.Errorf("event %v, want correlation %s", e, tt.correlation)
			}
		})
	}
}

// A refusal names ten conflicting bookings, and the number of others that there may be.
func TestMoreConflictsThanAreNamed(t *testing.T) {
	s := newService(t)
	for i := range 13 {
		s.book(t, fmt.Sprintf(`{"roomId":"1","useStartDtm":"20261124%02d00","useEndDtm":"20261124%02d00","bookingUserId":"ann"}`, i, i+1))
	}
	for end, more := range map[string]any{"202611241000": nil, "202611241100": 1., "202611241300": 3.} {
		r := s.do(t, "POST", "/bookings", `{"roomId":"1","useStartDtm":"202611240000","useEndDtm":"`+end+`","bookingUserId":"bob"}`).want(t, 409)
		if n := len(r.at(t, "conflictsWith").([]any)); n != 10 || r.at(t, "moreConflicts") != more {
			t.Errorf("to %s: %d in conflictsWith, moreConflicts %v, want %v", end, n, r.at(t, "moreConflicts"), more)
		}
	}
}

// JSON has one zero: with and without a sign it is the same room.
func TestZeroIsOneRoom(t *testing.T) {
	s := newService(t)
	zero := `{"roomId":0,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":-0}`
	if r := s.do(t, "POST", "/bookings", zero).want(t, 201); r.at(t, "roomId") != "0" || r.at(t, "bookingUserId") != "0" {
		t.Error(r.body)
	}
	s.do(t, "POST", "/bookings", strings.Replace(zero, `"roomId":0`, `"roomId":-0`, 1)).want(t, 409)
}

// A booking can be sent back as it was read, by PUT or PATCH. Its read-only members cannot be changed.
func TestAnAnswerCanBeSentBack(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`).want(t, 200)
	read := s.do(t, "GET", "/bookings/"+id, "").want(t, 200)
	before := len(s.log.all())
	for _, method := range []string{"PUT", "PATCH"} {
		if r := s.do(t, method, "/bookings/"+id, read.body).want(t, 200); r.body != read.body {
			t.Errorf("%s of %s: %s", method, read.body, r.body)
		}
		for changed, fault := range map[string]string{
			strings.Replace(read.body, "CONFIRMED", "BOOKED", 1): `"/status","detail":"must be CONFIRMED, as it is`,
			strings.Replace(read.body, "CONFIRMED", "DONE", 1):   `"/status","detail":"must be \"BOOKED\"`,
			strings.Replace(read.body, id, "other", 1):           `"/bookingId","detail":"must be the id in the path`,
		} {
			if r := s.do(t, method, "/bookings/"+id, changed).want(t, 422); !strings.Contains(r.body, fault) {
				t.Errorf("%s of %s: %s", method, changed, r.body)
			}
		}
	}
	if after := len(s.log.all()); after != before {
		t.Errorf("%d events were written", after-before)
	}

	// A retry gets the same reply, although the change itself has changed the status.
	later := strings.Replace(read.body, "T10:30", "T11:00", 1)
	first := s.do(t, "PUT", "/bookings/"+id, later, "Idempotency-Key: k").want(t, 200)
	if first.at(t, "status") != "BOOKED" {
		t.Error(first.body)
	}
	if again := s.do(t, "PUT", "/bookings/"+id, later, "Idempotency-Key: k").want(t, 200); again.body != first.body {
		t.Errorf("again: %s, first: %s", again.body, first.body)
	}
	s.do(t, "PUT", "/bookings/"+id, later).want(t, 422)
}
