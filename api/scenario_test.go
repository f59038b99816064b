package api

import (
	"slices"
	"strings"
	"testing"
)

// call is a request. In its path and body, {booking} stands for the id of the last booking, {use} for that of its real use.
type call struct{ method, path, body string }

// scenario is a row of a table: given these requests, when this one, then this reply and these events.
type scenario struct {
	name    string
	given   []call
	when    call
	status  int
	problem string            // its type's name, if it is one
	has     map[string]string // members of the answer, by path
	then    []string          // types of the events that it led to
}

// Requests that scenarios start with.
var (
	booked    = call{"POST", "/bookings", morning}
	confirmed = call{"PATCH", "/confirms/{booking}", `{"status":"CONFIRMED","confirmUserId":"boss"}`}
	denied    = call{"PATCH", "/confirms/{booking}", `{"status":"DENIED","reason":"floor is wet"}`}
	cancelled = call{"DELETE", "/bookings/{booking}", ""}
	started   = call{"POST", "/realuses", `{"bookingId":"{booking}","realUseStartDtm":"202611240935"}`}
	ended     = call{"PATCH", "/realuses/{use}", `{"realUseEndDtm":"202611241020"}`}
)

// ids are the values of {booking} and {use}.
type ids map[string]string

func newIDs() ids { return ids{"{booking}": "none", "{use}": "none"} }

// do sends a request and records the ids of what it creates.
func (ids ids) do(t *testing.T, s *service, c call, headers ...string) reply {
	t.Helper()
	for name, id := range ids {
		c.path = strings.ReplaceAll(c.path, name, id)
		c.body = strings.ReplaceAll(c.body, name, id)
	}
	r := s.do(t, c.method, c.path, c.body, headers...)
	if r.status == 201 {
		o := r.object(t)
		ids["{booking}"] = o["bookingId"].(string)
		if use, ok := o["realUseId"].(string); ok {
			ids["{use}"] = use
		}
	}
	return r
}

func (s scenario) run(t *testing.T) {
	t.Run(s.name, func(t *testing.T) {
		service := newService(t)
		ids := newIDs()
		for _, c := range s.given {
			if r := ids.do(t, service, c); r.status >= 300 {
				t.Fatalf("given %s %s: status %d: %s", c.method, c.path, r.status, r.body)
			}
		}
		before := len(service.log.all())
		got := ids.do(t, service, s.when)
		if got.status != s.status {
			t.Fatalf("status %d, want %d: %s", got.status, s.status, got.body)
		}
		if s.status < 300 && got.header.Get("Roombook-Position") == "" && s.when.method != "GET" {
			t.Error("the answer has no Roombook-Position")
		}
		if s.problem != "" {
			if want := "/problems/" + s.problem; got.at(t, "type") != want {
				t.Errorf("problem %s, want %s", got.at(t, "type"), want)
			}
		}
		for path, want := range s.has {
			for name, id := range ids {
				want = strings.ReplaceAll(want, name, id)
			}
			value := got.at(t, path)
			if value == nil {
				value = "null"
			}
			if value != want {
				t.Errorf("%s is %v, want %s", path, value, want)
			}
		}
		if then := service.log.all()[before:]; !slices.Equal(then, s.then) {
			t.Errorf("events %v, want %v", then, s.then)
		}
	})
}
