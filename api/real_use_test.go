package api

import (
	"strings"
	"testing"
	"time"

	"roombook/commands"
	"roombook/domain"
)

func TestRealUses(t *testing.T) {
	past := call{"POST", "/bookings", strings.ReplaceAll(morning, "2026", "2020")}
	for _, s := range []scenario{
		{
			name: "start", given: []call{booked}, when: started, status: 201, then: []string{"BookingCheckedIn", "UseStarted"},
			has: map[string]string{
				"bookingId": "{booking}", "roomId": "1", "bookingUserId": "ann", "realUseStartDtm": "2026-11-24T09:35:00+09:00", "realUseEndDtm": "null",
				"_links.self.href": "http://example.com/realuses/{use}",
			},
		},
		{name: "start now", given: []call{booked, confirmed}, when: call{"POST", "/realuses", `{"bookingId":"{booking}","realUseStartDtm":null}`}, status: 201, then: []string{"BookingCheckedIn", "UseStarted"}},
		{name: "start again", given: []call{booked, started}, when: started, status: 409, problem: "booking-in-use"},
		{name: "start cancelled", given: []call{booked, cancelled}, when: started, status: 409, problem: "use-of-cancelled-booking", has: map[string]string{"cancelReason": "user"}},
		{name: "start used", given: []call{booked, started, ended}, when: started, status: 409, problem: "use-of-cancelled-booking", has: map[string]string{"cancelReason": "use-ended"}},
		{name: "start none", when: call{"POST", "/realuses", `{"bookingId":12}`}, status: 404, problem: "booking-not-found"},
		{name: "start without booking", when: call{"POST", "/realuses", `{}`}, status: 422, problem: "invalid-body"},
		{name: "read", given: []call{booked, started}, when: call{"GET", "/realuses/{use}", ""}, status: 200, has: map[string]string{"bookingId": "{booking}"}},
		{name: "read ended", given: []call{booked, started, ended}, when: call{"GET", "/realuses/{use}", ""}, status: 200, has: map[string]string{"realUseEndDtm": "2026-11-24T10:20:00+09:00"}},
		{name: "read none", when: call{"GET", "/realuses/{use}", ""}, status: 404, problem: "real-use-not-found"},
		{name: "read no id", when: call{"GET", "/realuses/a%20b", ""}, status: 404, problem: "real-use-not-found"},
		{
			name: "end", given: []call{booked, started}, when: ended, status: 200, then: []string{"UseEnded", "BookingCancelled", "SlotUsed"},
			has: map[string]string{"realUseId": "{use}", "realUseEndDtm": "2026-11-24T10:20:00+09:00"},
		},
		{name: "end before the slot", given: []call{booked, {"POST", "/realuses", `{"bookingId":"{booking}","realUseStartDtm":"202611240900"}`}}, when: call{"PATCH", "/realuses/{use}", `{"realUseEndDtm":"202611240930"}`}, status: 200,
			then: []string{"UseEnded", "BookingCancelled", "SlotReleased"}},
		{name: "book what was used", given: []call{booked, started, ended}, when: call{"POST", "/bookings", `{"roomId":1,"useStartDtm":"202611241010","useEndDtm":"202611241100","bookingUserId":"eve"}`}, status: 409, problem: "slot-taken"},
		{name: "book the rest", given: []call{booked, started, ended}, when: call{"POST", "/bookings", `{"roomId":1,"useStartDtm":"202611241020","useEndDtm":"202611241100","bookingUserId":"eve"}`}, status: 201,
			then: []string{"SlotReserved", "BookingCreated", "ConfirmRequested"}},
		{name: "end at the same time again", given: []call{booked, started, ended}, when: ended, status: 200},
		{name: "end at another time", given: []call{booked, started, ended}, when: call{"PATCH", "/realuses/{use}", `{"realUseEndDtm":"202611241021"}`}, status: 409, problem: "already-ended", has: map[string]string{"realUseEndDtm": "2026-11-24T10:20:00+09:00"}},
		{name: "end before the start", given: []call{booked, started}, when: call{"PATCH", "/realuses/{use}", `{"realUseEndDtm":"202611240934"}`}, status: 422, problem: "invalid-body"},
		{name: "end now without a body", given: []call{past, {"POST", "/realuses", `{"bookingId":"{booking}"}`}}, when: call{"PATCH", "/realuses/{use}", ""}, status: 200, then: []string{"UseEnded", "BookingCancelled", "SlotUsed"}},
		{name: "end none", when: ended, status: 404, problem: "real-use-not-found"},
		{name: "end no id", when: call{"PATCH", "/realuses/a%20b", "{}"}, status: 404, problem: "real-use-not-found"},
	} {
		s.run(t)
	}
}

func TestUseMayHaveToWaitForTheConfirmation(t *testing.T) {
	s := newService(t)
	s.commands = commands.New(s.log, commands.Options{Policy: domain.Policy{ConfirmBeforeUse: true}})
	id := s.book(t, morning)
	r := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`"}`).want(t, 409)
	if r.at(t, "type") != "/problems/confirmation-pending" {
		t.Error(r.body)
	}
	s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`).want(t, 200)
	s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`"}`).want(t, 201)
}

func TestAUseMayHaveToBeNearItsSlot(t *testing.T) {
	s := newService(t)
	s.commands = commands.New(s.log, commands.Options{Policy: domain.Policy{EarlyUse: 15 * time.Minute}})
	id := s.book(t, morning)
	start := func(at string) reply {
		return s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`","realUseStartDtm":"`+at+`"}`)
	}
	for _, at := range []string{"2026-11-24T09:14:59+09:00", "2026-11-24T10:45:00.001+09:00"} {
		r := start(at).want(t, 409)
		if r.at(t, "type") != "/problems/use-off-slot" || r.at(t, "bookingId") != id || !strings.Contains(r.at(t, "detail").(string), at) {
			t.Error(r.body)
		}
		if r.at(t, "earliestUseStartDtm") != "2026-11-24T09:15:00+09:00" || r.at(t, "latestUseStartDtm") != "2026-11-24T10:45:00+09:00" {
			t.Error(r.body)
		}
	}
	start("2026-11-24T09:15:00+09:00").want(t, 201) // as it was told
}

func TestAUseTellsThatTheRoomIsStillInUse(t *testing.T) {
	s := newService(t)
	first := s.book(t, morning)
	r := s.do(t, "POST", "/realuses", `{"bookingId":"`+first+`","realUseStartDtm":"202611240930"}`).want(t, 201)
	if r.at(t, "roomStillInUseBy") != nil {
		t.Error(r.body)
	}
	next := s.book(t, `{"roomId":"1","useStartDtm":"202611241030","useEndDtm":"202611241130","bookingUserId":"bob"}`)
	r = s.do(t, "POST", "/realuses", `{"bookingId":"`+next+`","realUseStartDtm":"202611241030"}`).want(t, 201)
	if r.at(t, "roomStillInUseBy") != first {
		t.Error(r.body)
	}
	s.do(t, "PATCH", "/realuses/"+string(domain.RealUseOf(domain.BookingID(first))), `{"realUseEndDtm":"202611241032"}`).want(t, 200)
	if r = s.do(t, "GET", "/realuses/"+string(domain.RealUseOf(domain.BookingID(next))), "").want(t, 200); r.at(t, "roomStillInUseBy") != first {
		t.Error(r.body)
	}
}
