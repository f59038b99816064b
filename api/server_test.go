package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// running is a server on its own port.
type running struct {
	*service
	address string
	stop    context.CancelFunc
	ended   chan error
}

func (s *service) start(t *testing.T) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{s, l.Addr().String(), stop, make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx, l) }()
	return r
}

// dial opens a connection and sends the text.
func (r *running) dial(t *testing.T, sends string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, sends); err != nil {
		t.Fatal(err)
	}
	return c
}

// hear reads a reply.
func hear(t *testing.T, c net.Conn) (status int, body string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func post(body string) string {
	return fmt.Sprintf("POST /bookings HTTP/1.1\r\nHost: rooms.example\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// hold makes the log block until release is called; waiting receives a value whenever a request starts to wait.
func (s *service) hold() (waiting chan struct{}, release func()) {
	waiting, released := make(chan struct{}, 100), make(chan struct{})
	s.log.setFail(func(ctx context.Context) error {
		waiting <- struct{}{}
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return waiting, func() { close(released) }
}

func TestRunDrainsRequests(t *testing.T) {
	r := newService(t).start(t)
	waiting, release := r.hold()
	c := r.dial(t, post(morning))
	defer c.Close()
	<-waiting
	r.stop()
	for { // until the listener is closed
		refused, err := net.Dial("tcp", r.address)
		if err != nil {
			break
		}
		refused.Close()
	}
	r.do(t, "GET", "/readyz", "").want(t, 503)
	release()
	if status, body := hear(t, c); status != 201 {
		t.Errorf("status %d: %s", status, body)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestRunCutsOffWhatDoesNotEnd(t *testing.T) {
	r := newService(t, func(o *Options) { o.DrainTimeout = time.Millisecond }).start(t)
	waiting, _ := r.hold()
	c := r.dial(t, post(morning))
	defer c.Close()
	<-waiting
	r.stop()
	if err := <-r.ended; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("error %v", err)
	}
	// The request may be answered before it is cut off.
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func TestRunTellsThatItsListenerFailed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := newService(t).Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestATimeLimitIsAProblem(t *testing.T) {
	s := newService(t, func(o *Options) { o.Timeout = time.Millisecond })
	s.hold()
	r := s.do(t, "POST", "/bookings", morning).want(t, 503)
	if r.at(t, "type") != "/problems/timeout" || r.header.Get("Retry-After") == "" {
		t.Error(r.body)
	}
}

// halfClosed sends a request, closes the sending side of the connection like nc -N, and releases the log once net/http has noticed, that
// is, once the request's own context has ended.
func (s *service) halfClosed(t *testing.T, request string) (status int, body string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	waiting, release := s.hold()
	seen := make(chan context.Context, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Context()
		s.ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		<-served
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	<-(<-seen).Done()
	release()
	defer s.log.setFail(nil)
	return hear(t, c)
}

// Requests on a half-closed connection are executed and answered.
func TestAHalfClosedConnectionIsAnswered(t *testing.T) {
	s := newService(t)
	id := s.book(t, bookingIn("before"))
	with := func(method, path, body string) string {
		head := method + " " + path + " HTTP/1.1\r\nHost: rooms.example\r\n"
		if body != "" {
			head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
		}
		return head + "\r\n" + body
	}
	for _, tt := range []struct {
		request string
		status  int
		wants   string
	}{
		{post(morning), 201, `"status":"BOOKED"`},
		{post(morning), 409, "slot-taken"},
		{with("GET", "/bookings/"+id, ""), 200, id},
		{with("PATCH", "/bookings/"+id, `{"bookingUserId":"bob"}`), 200, `"bookingUserId":"bob"`},
		{with("PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`), 200, `"status":"CONFIRMED"`},
		{with("GET", "/bookings/"+id+"/history", ""), 200, "ConfirmCompleted"},
		{with("DELETE", "/bookings/"+id, ""), 204, ""},
		{with("GET", "/bookings/"+id, ""), 404, "booking-cancelled"},
	} {
		if status, body := s.halfClosed(t, tt.request); status != tt.status || !strings.Contains(body, tt.wants) {
			t.Errorf("%q: status %d: %q", tt.request, status, body)
		}
	}
}

// The request of a client that disconnects is executed like any other.
func TestAClientThatGoesAwayCancelsNoDecision(t *testing.T) {
	s := newService(t)
	r := s.start(t)
	waiting, release := r.hold()
	c := r.dial(t, post(morning))
	<-waiting
	c.Close()
	release()
	r.stop() // waits for the handler
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(s.log.all()), "[SlotReserved BookingCreated ConfirmRequested]"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// A reply that another handler breaks off does not look complete.
func TestAReplyThatBreaksOff(t *testing.T) {
	for _, tt := range []struct {
		name   string
		writes string
		status int
	}{{"before its first byte", "", 500}, {"in the middle", "half an answer", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t)
			s.router.Path("/broken").Handler(&endpoint{otherwise: s.operation(route{method: "any", path: "/broken", raw: true, handle: func(x *exchange) error {
				return x.delegate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if tt.writes != "" {
						_, _ = io.WriteString(w, tt.writes)
						_ = http.NewResponseController(w).Flush()
					}
					panic("no such luck")
				}))
			}})})
			r := s.start(t)
			c := r.dial(t, "GET /broken HTTP/1.1\r\nHost: rooms.example\r\n\r\n")
			defer c.Close()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if tt.status == 0 && err == nil {
				t.Errorf("status %d: %q is taken for the whole answer", res.StatusCode, body)
			}
			if tt.status != 0 && (err != nil || res.StatusCode != tt.status || !strings.Contains(string(body), "internal-error")) {
				t.Errorf("status %d: %q, %v", res.StatusCode, body, err)
			}
			r.stop()
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestABodyThatEndsEarly(t *testing.T) {
	r := newService(t).start(t)
	c := r.dial(t, strings.Replace(post("{}"), "Content-Length: 2", "Content-Length: 99", 1))
	defer c.Close()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if status, body := hear(t, c); status != 400 || !strings.Contains(body, "malformed-body") {
		t.Errorf("status %d: %s", status, body)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// late is a body that does not arrive before the connection's deadline.
type late struct{}

func (late) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestABodyThatDoesNotCome(t *testing.T) {
	s := newService(t)
	r := httptest.NewRequest("POST", "/bookings", late{})
	r.Header.Set("Content-Type", mediaJSON)
	got := s.serve(r)
	s.checkContract(t, r, got)
	if got.status != 408 || got.at(t, "type") != "/problems/body-too-slow" {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// A connection can be reused after every reply, and requests do not see each other's buffers.
func TestKeepAlive(t *testing.T) {
	r := newService(t).start(t)
	c := r.dial(t, "")
	defer c.Close()
	in := bufio.NewReader(c)
	for i, body := range []string{morning, `{"x`, `{"a":1,"b":2}`, "", morning, `{"roomId":null}`} {
		if _, err := io.WriteString(c, post(body)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if want := []int{201, 400, 422, 400, 409, 422}[i]; res.StatusCode != want {
			t.Errorf("answer %d: status %d, want %d: %s", i, res.StatusCode, want, answer)
		}
		if wants := []string{`"status":"BOOKED"`, "malformed", `"/b"`, "empty", "slot-taken", `"/roomId","detail":"must not be null"`}[i]; !strings.Contains(string(answer), wants) {
			t.Errorf("answer %d: %s", i, answer)
		}
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}
