package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roombook/eventstore"
)

func TestHealth(t *testing.T) {
	var store, list error
	s := newService(t, func(o *Options) {
		o.Probes = []Probe{
			{Name: "eventStore", Check: func(context.Context) error { return store }},
			{Name: "bookingList", Check: func(context.Context) error { return list }, Advisory: true},
		}
	})
	check := func(name string, ready int, components string) {
		t.Helper()
		s.do(t, "GET", "/healthz", "").want(t, 200)
		s.do(t, "GET", "/actuator/health/liveness", "").want(t, 200)
		for _, path := range []string{"/readyz", "/actuator/health", "/actuator/health/readiness"} {
			r := s.do(t, "GET", path, "").want(t, ready)
			status := map[int]string{200: "UP", 503: "DOWN"}[ready]
			if r.at(t, "status") != status || !strings.Contains(r.body, components) || r.header.Get("Content-Type") != mediaJSON {
				t.Errorf("%s, %s: %s", name, path, r.body)
			}
		}
	}
	check("all there", 200, `"eventStore":{"status":"UP"},"bookingList":{"status":"UP"}`)
	list = errors.New("stopped at an event")
	check("a list has stopped", 200, `"eventStore":{"status":"UP"},"bookingList":{"status":"DOWN"}`)
	store = eventstore.ErrUnavailable
	check("the event store is away", 503, `"eventStore":{"status":"DOWN"}`)
	store, list = nil, nil
	s.draining.Store(true)
	check("shutting down", 503, `"eventStore":{"status":"UP"}`)
	if r := s.do(t, "GET", "/actuator/health", ""); !strings.Contains(r.body, `"livenessState":{"status":"UP"},"readinessState":{"status":"DOWN"`) {
		t.Error(r.body)
	}
}

// Clients learn which component is unavailable. The log has the reason, once at the start of the outage, and its end.
func TestTheReasonIsForTheLog(t *testing.T) {
	var lines bytes.Buffer
	away := errors.New("dial tcp 10.0.0.1:2113: connection refused")
	var store error
	s := newService(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		o.Probes = []Probe{{Name: "eventStore", Check: func(context.Context) error { return store }}}
	})
	told := func(want string) {
		t.Helper()
		for _, path := range []string{"/readyz", "/actuator/health", "/actuator/health/readiness"} {
			if r := s.do(t, "GET", path, ""); strings.Contains(r.body, "10.0.0.1") {
				t.Errorf("%s: %s", path, r.body)
			}
		}
		var parts []string
		for line := range strings.Lines(lines.String()) {
			if strings.Contains(line, "part=eventStore") {
				parts = append(parts, line)
			}
		}
		lines.Reset()
		if want == "" && parts == nil {
			return
		}
		if len(parts) != 1 || !strings.Contains(parts[0], want) {
			t.Errorf("the log was told %q, want %s once", parts, want)
		}
	}
	told("")
	store = away
	told(away.Error())
	told("")
	store = nil
	told("there again")
	told("")
}

// A probe that hangs makes the server unready, but does not make the reply hang.
func TestAProbeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, func(o *Options) {
			o.Probes = []Probe{{Name: "eventStore", Check: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}}
		})
		s.do(t, "GET", "/readyz", "").want(t, 503)
	})
}

func TestVersion(t *testing.T) {
	r := newService(t).do(t, "GET", "/version", "").want(t, 200)
	if r.at(t, "version") != "v1.2.3" || r.at(t, "revision") != nil {
		t.Error(r.body)
	}
}

func TestRootLinksToEverything(t *testing.T) {
	s := newService(t)
	links := s.do(t, "GET", "/", "").want(t, 200).at(t, "_links").(map[string]any)
	linked := make(map[string]bool)
	for _, l := range links {
		l := l.(map[string]any)
		path := strings.TrimPrefix(l["href"].(string), "http://example.com")
		path, _, _ = strings.Cut(path, "{?")
		linked[path] = true
		if l["templated"] == nil {
			s.do(t, "GET", path, "").want(t, 200)
		}
	}
	routed := make(map[string]bool)
	for _, o := range s.operations(t) {
		routed[o.path] = true
		if slices.ContainsFunc(slices.Concat(s.sessionRoutes(), s.userRoutes(), s.tokenRoutes(), s.displayRoutes()), func(r route) bool { return r.path == o.path }) {
			continue // linked where there are accounts
		}
		if o.path != "/docs/{file}" && !strings.HasPrefix(o.path, "/actuator/health/") && !linked[o.path] {
			t.Errorf("%s is not linked", o.path)
		}
	}
	for path := range linked {
		if !routed[path] {
			t.Errorf("%s is linked and not there", path)
		}
	}
}

// Browsers get the board where programs get links.
func TestRootIsReadable(t *testing.T) {
	s := newService(t)
	r := s.do(t, "GET", "/", "", "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8").want(t, 200)
	if r.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(r.header.Get("Vary"), "Accept,") {
		t.Errorf("%v", r.header)
	}
	checkScreen(t, "/", r)
	for _, accept := range []string{"application/hal+json", "application/json", "*/*"} {
		if r := s.do(t, "GET", "/", "", "Accept: "+accept).want(t, 200); !strings.HasSuffix(r.header.Get("Content-Type"), "json") {
			t.Errorf("%v", r.header)
		}
	}
}

// A trailing slash is redirected, with the same method and parameters.
func TestTrailingSlashes(t *testing.T) {
	s := newService(t)
	for _, tt := range []struct{ method, target, location string }{
		{"GET", "/docs/", "http://example.com/docs"},
		{"GET", "/problems/", "http://example.com/problems"},
		{"GET", "/bookings/?size=1&roomId=1", "http://example.com/bookings?size=1&roomId=1"},
		{"POST", "/bookings/", "http://example.com/bookings"},
		{"GET", "/bookings/b%41/", "http://example.com/bookings/b%41"},
		{"GET", "/healthz/", "http://example.com/healthz"},
	} {
		if r := s.do(t, tt.method, tt.target, "").want(t, 308); r.header.Get("Location") != tt.location {
			t.Errorf("%s %s leads to %s, want %s", tt.method, tt.target, r.header.Get("Location"), tt.location)
		}
	}
}

func TestOperationsOnly(t *testing.T) {
	s := New(Options{OperationsOnly: true, Hosts: []string{"example.com"}})
	service := &service{Server: s}
	for _, path := range []string{"/healthz", "/readyz", "/actuator/health", "/metrics", "/version"} {
		service.do(t, "GET", path, "").want(t, 200)
	}
	for _, path := range []string{"/", "/bookings", "/bookingLists", "/openapi.json"} {
		service.do(t, "GET", path, "").want(t, 404)
	}
}

func TestMetrics(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	s.do(t, "GET", "/bookings/"+id, "").want(t, 200)
	s.do(t, "GET", "/bookings/none", "").want(t, 404)
	s.do(t, "BREW", "/bookings/"+id, "").want(t, 405)
	s.do(t, "GET", "/nothing/"+id, "").want(t, 404)
	body := s.do(t, "GET", "/metrics", "").want(t, 200).body
	for _, want := range []string{
		`roombook_http_request_duration_seconds_count{method="POST",route="/bookings",status="201"} 1`,
		`roombook_http_request_duration_seconds_count{method="GET",route="/bookings/{id}",status="200"} 1`,
		`roombook_http_request_duration_seconds_count{method="GET",route="/bookings/{id}",status="404"} 1`,
		`roombook_http_request_duration_seconds_count{method="other",route="/bookings/{id}",status="405"} 1`,
		`roombook_http_request_duration_seconds_count{method="any",route="none",status="404"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if strings.Contains(body, id) || strings.Contains(body, "BREW") {
		t.Error("a caller's words are labels")
	}
}

func TestLog(t *testing.T) {
	var lines bytes.Buffer
	s := newService(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	line := func(method, path, body string) string {
		lines.Reset()
		s.do(t, method, path, body, "X-Request-Id: q7")
		return lines.String()
	}
	for _, tt := range []struct {
		call
		fail error
		want []string
	}{
		{call: booked, want: []string{"level=INFO", "status=201", "route=/bookings", "request=q7", "remote=192.0.2.1:1234"}},
		{call: booked, want: []string{"level=DEBUG", "status=409"}},
		{call: call{"POST", "/bookings", "{"}, want: []string{"level=INFO", "status=400", "problem=malformed-body"}},
		{call: call{"GET", "/bookings/none", ""}, want: []string{"level=DEBUG", "status=404", "path=/bookings/none", "route=/bookings/{id}", `error="there is no such booking"`}},
		{call: call{"GET", "/bookings/none", ""}, fail: eventstore.ErrUnavailable, want: []string{"level=WARN", "status=503"}},
		{call: call{"GET", "/bookings/none", ""}, fail: errors.New("odd"), want: []string{"level=ERROR", "status=500", "error=odd"}},
	} {
		s.log.setFail(nil)
		if tt.fail != nil {
			s.log.setFail(func(context.Context) error { return tt.fail })
		}
		got := line(tt.method, tt.path, tt.body)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
	}
}

// Under load the log has one line per second of similar requests with their number. The numbers are complete.
func TestLogUnderLoad(t *testing.T) {
	type told struct{ lines, requests int }
	for _, tt := range []struct {
		name   string
		level  string
		access bool
		ask    func(t *testing.T, s *service, i int)
		want   told
	}{
		{"overload", "WARN", false, func(t *testing.T, s *service, _ int) {
			s.queryLimit.max = 0
			s.do(t, "GET", "/bookings", "").want(t, 503)
		}, told{1 + 3, 300}},
		{"wrong requests", "INFO", false, func(t *testing.T, s *service, _ int) { s.do(t, "POST", "/bookings", "{}").want(t, 422) }, told{1 + 3, 300}},
		{"commands", "INFO", false, func(t *testing.T, s *service, i int) { s.do(t, "POST", "/bookings", newBooking(i)).want(t, 201) }, told{1 + 3, 300}},
		{"faults", "ERROR", false, func(t *testing.T, s *service, i int) {
			s.log.setFail(func(context.Context) error { return fmt.Errorf("odd in %d ways", i%2) })
			s.do(t, "GET", "/bookings/x", "").want(t, 500)
		}, told{2 + 2*3, 300}},
		{"reads", "INFO", false, func(t *testing.T, s *service, _ int) { s.do(t, "GET", "/bookings", "").want(t, 200) }, told{0, 0}},
		{"everything", "INFO", true, func(t *testing.T, s *service, _ int) { s.do(t, "GET", "/bookings", "").want(t, 200) }, told{300, 300}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lines bytes.Buffer
				s := newService(t, func(o *Options) {
					o.Logger, o.AccessLog = slog.New(slog.NewTextHandler(&lines, nil)), tt.access
				})
				for i := range 300 {
					tt.ask(t, s, i)
					if i%100 == 99 {
						time.Sleep(sampleInterval)
						synctest.Wait()
					}
				}
				s.logSampler.flush()
				var got told
				for line := range strings.Lines(lines.String()) {
					if !strings.Contains(line, "level="+tt.level) {
						t.Errorf("line %s", line)
					}
					got.lines++
					n := 1
					if m := regexp.MustCompile(` times=(\d+)`).FindStringSubmatch(line); m != nil {
						n, _ = strconv.Atoi(m[1])
					}
					got.requests += n
				}
				if got != tt.want {
					t.Errorf("%+v, want %+v: %.2000s", got, tt.want, &lines)
				}
				time.Sleep(2 * sampleInterval)
			})
		})
	}
}

func TestRequestIDs(t *testing.T) {
	s := newService(t)
	ids := make(map[string]bool)
	for _, given := range []string{"", "", "a b", strings.Repeat("x", 129), "\x01"} {
		id := s.do(t, "GET", "/version", "", "X-Request-Id: "+given).header.Get("X-Request-Id")
		if len(id) != 32 || ids[id] {
			t.Errorf("request id %q for %q", id, given)
		}
		ids[id] = true
	}
	if id := s.do(t, "GET", "/nothing", "", "X-Request-Id: q-7").header.Get("X-Request-Id"); id != "q-7" {
		t.Errorf("request id %q", id)
	}
}
