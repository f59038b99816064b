package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"go.uber.org/goleak"

	"roombook/commands"
	"roombook/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a server with an in-memory event log, and lists that the test fills.
type service struct {
	*Server
	log   *log
	lists *lists
}

func newService(t testing.TB, change ...func(*Options)) *service {
	t.Helper()
	l, lists := newLog(), new(lists)
	o := Options{
		Commands: commands.New(l, commands.Options{Policy: domain.DefaultPolicy()}),
		Lists:    lists,
		Streams:  l,
		End:      l.end,
		ReadBack: l.readBack,
		Policy:   domain.DefaultPolicy(),
		Zone:     zone(t, "Asia/Seoul"),
		Version:  Version{Version: "v1.2.3"},
		Hosts:    []string{"example.com", "rooms.example"},
	}
	for _, c := range change {
		c(&o)
	}
	return &service{New(o), l, lists}
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// reply is a response as the client got it.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request to the server. Headers are given as "Name: value"; a body without Content-Type is JSON.
func (s *service) do(t testing.TB, method, target, body string, headers ...string) reply {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, in)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	got := s.serve(r)
	s.checkContract(t, r, got)
	return got
}

func (s *service) serve(r *http.Request) reply {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.String()}
}

// object returns the body as a JSON object.
func (r reply) object(t testing.TB) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(r.body), &o); err != nil {
		t.Fatalf("status %d, body %q: %v", r.status, r.body, err)
	}
	return o
}

// at returns the value at a dot-separated path into the body.
func (r reply) at(t testing.TB, path string) any {
	t.Helper()
	var v any = r.object(t)
	for part := range strings.SplitSeq(path, ".") {
		o, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", path, r.body)
		}
		v = o[part]
	}
	return v
}

// want fails the test unless the reply has the status.
func (r reply) want(t testing.TB, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

const morning = `{"roomId":"1","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann"}`

// book books a room and returns the booking's id.
func (s *service) book(t testing.TB, body string) string {
	t.Helper()
	return s.do(t, "POST", "/bookings", body).want(t, 201).at(t, "bookingId").(string)
}
