package api

import "testing"

func TestConfirms(t *testing.T) {
	confirm := call{"PATCH", "/confirms/{booking}", `{"status":"CONFIRMED","confirmUserId":7,"confirmDtm":"202611240800","reason":null}`}
	for _, s := range []scenario{
		{
			name: "awaited", given: []call{booked}, when: call{"GET", "/confirms/{booking}", ""}, status: 200,
			has: map[string]string{"status": "BOOKED", "userId": "ann", "confirmDtm": "null", "confirmUserId": "null", "_links.confirm.href": "http://example.com/confirms/{booking}"},
		},
		{
			name: "confirm", given: []call{booked}, when: confirm, status: 200, then: []string{"ConfirmCompleted"},
			has: map[string]string{"status": "CONFIRMED", "confirmUserId": "7", "confirmDtm": "2026-11-24T08:00:00+09:00", "bookingId": "{booking}"},
		},
		{name: "confirm without more", given: []call{booked}, when: call{"PATCH", "/confirms/{booking}", `{"status":"CONFIRMED"}`}, status: 200, then: []string{"ConfirmCompleted"}, has: map[string]string{"confirmUserId": "null"}},
		{
			name: "confirm with a reason", given: []call{booked, {"PATCH", "/confirms/{booking}", `{"status":"CONFIRMED","reason":"as always"}`}}, when: call{"GET", "/confirms/{booking}", ""}, status: 200,
			has: map[string]string{"status": "CONFIRMED", "reason": "as always"},
		},
		{name: "confirm again", given: []call{booked, confirmed}, when: confirmed, status: 200, has: map[string]string{"confirmUserId": "boss"}},
		{name: "confirm in use", given: []call{booked, started}, when: confirmed, status: 200, then: []string{"ConfirmCompleted"}},
		{
			name: "deny", given: []call{booked}, when: denied, status: 200, then: []string{"ConfirmDenied", "BookingCancelled", "SlotReleased"},
			has: map[string]string{"status": "DENIED", "reason": "floor is wet"},
		},
		{name: "deny confirmed", given: []call{booked, confirmed}, when: denied, status: 409, problem: "already-confirmed", has: map[string]string{"confirmUserId": "boss"}},
		{name: "deny in use", given: []call{booked, started}, when: denied, status: 409, problem: "booking-in-use"},
		{name: "deny cancelled", given: []call{booked, cancelled}, when: denied, status: 404, problem: "booking-cancelled"},
		{name: "confirm denied", given: []call{booked, denied}, when: confirmed, status: 404, problem: "booking-cancelled", has: map[string]string{"cancelReason": "denied"}},
		{name: "read denied", given: []call{booked, denied}, when: call{"GET", "/confirms/{booking}", ""}, status: 404, problem: "booking-cancelled"},
		{name: "confirm none", when: confirmed, status: 404, problem: "booking-not-found"},
		{name: "confirm no id", when: call{"PATCH", "/confirms/a%20b", `{"status":"CONFIRMED"}`}, status: 404, problem: "booking-not-found"},
		{name: "read none", when: call{"GET", "/confirms/{booking}", ""}, status: 404, problem: "booking-not-found"},
		{name: "read no id", when: call{"GET", "/confirms/a%20b", ""}, status: 404, problem: "booking-not-found"},
		{name: "say neither", given: []call{booked}, when: call{"PATCH", "/confirms/{booking}", `{"status":"BOOKED"}`}, status: 422, problem: "invalid-body"},
		{name: "say nothing", given: []call{booked}, when: call{"PATCH", "/confirms/{booking}", ""}, status: 400, problem: "malformed-body"},
	} {
		s.run(t)
	}
}
