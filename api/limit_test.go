package api

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// bookingIn returns the body of a booking of a room.
func bookingIn(room string) string { return strings.Replace(morning, `"1"`, `"`+room+`"`, 1) }

// wantMetrics compares the numbers of commands and queries in flight and refused.
func (s *service) wantMetrics(t *testing.T, inFlight, refused [2]float64) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][2]float64)
	for _, f := range families {
		var values [2]float64
		for i, kind := range []string{"command", "query"} {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == kind {
					values[i] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		got[f.GetName()] = values
	}
	if got["roombook_http_in_flight"] != inFlight || got["roombook_http_refused_total"] != refused {
		t.Errorf("in flight %v, want %v; refused %v, want %v", got["roombook_http_in_flight"], inFlight, got["roombook_http_refused_total"], refused)
	}
}

// A command beyond the limit is refused at once, and so is a query. The two limits are independent, and all admitted requests are answered.
func TestTooManyAtOnce(t *testing.T) {
	s := newService(t, func(o *Options) { o.MaxCommands = 1 })
	id := s.book(t, bookingIn("before"))
	r := s.start(t)
	waiting, release := r.hold()
	overloaded := func(r reply) {
		t.Helper()
		if r.want(t, 503); r.at(t, "type") != "/problems/overloaded" || r.header.Get("Retry-After") == "" {
			t.Errorf("%v %s", r.header, r.body)
		}
	}

	under := []net.Conn{r.dial(t, post(morning))}
	<-waiting
	overloaded(s.do(t, "POST", "/bookings", bookingIn("2")))
	overloaded(s.do(t, "DELETE", "/bookings/"+id, ""))
	s.do(t, "POST", "/bookings", "{}").want(t, 422) // what is wrong anyway is told
	for range queriesPerCommand {
		under = append(under, r.dial(t, "GET /bookings/"+id+" HTTP/1.1\r\nHost: rooms.example\r\n\r\n"))
		<-waiting
	}
	overloaded(s.do(t, "GET", "/bookings/"+id, ""))
	overloaded(s.do(t, "GET", "/bookingLists", ""))
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/problems", "/"} {
		s.do(t, "GET", path, "").want(t, 200)
	}
	s.wantMetrics(t, [2]float64{1, queriesPerCommand}, [2]float64{2, 2})

	release()
	for i, c := range under {
		if status, body := hear(t, c); status != 200 && status != 201 {
			t.Errorf("request %d: status %d: %s", i, status, body)
		}
		_ = c.Close()
	}
	s.do(t, "POST", "/bookings", bookingIn("3")).want(t, 201)
	s.do(t, "GET", "/bookingLists", "").want(t, 200)
	s.wantMetrics(t, [2]float64{0, 0}, [2]float64{2, 2})
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// The place of a client that disconnects is free once its request has ended, which is within the time limit.
func TestAPlaceIsLeft(t *testing.T) {
	s := newService(t, func(o *Options) { o.MaxCommands = 1 })
	r := s.start(t)
	for range 3 {
		waiting, release := r.hold()
		c := r.dial(t, post(morning))
		<-waiting
		_ = c.Close()
		release()
		for s.commandLimit.inFlight.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	s.wantMetrics(t, [2]float64{0, 0}, [2]float64{0, 0})
	s.log.setFail(nil)
	s.do(t, "POST", "/bookings", bookingIn("2")).want(t, 201)
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// A slow body does not count towards the limit of commands.
func TestASlowBodyTakesNoPlace(t *testing.T) {
	s := newService(t, func(o *Options) { o.MaxCommands = 1 })
	r := s.start(t)
	whole := post(morning)
	c := r.dial(t, whole[:len(whole)-1])
	defer c.Close()
	// The server may not have accepted the connection yet; when it does, it only waits for the body.
	s.do(t, "POST", "/bookings", bookingIn("2")).want(t, 201)
	if _, err := io.WriteString(c, whole[len(whole)-1:]); err != nil {
		t.Fatal(err)
	}
	if status, body := hear(t, c); status != 201 {
		t.Errorf("status %d: %s", status, body)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}
