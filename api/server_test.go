package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// running is a server on a port of its own.
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

// dial opens a connection and sends what is given.
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

// hear reads an answer.
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

// hold makes the log wait for release, and says when somebody waits.
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
	if _, err := c.Read(make([]byte, 1)); err == nil {
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

// lines is a log whose lines a test waits for.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func TestAClientThatGoesAway(t *testing.T) {
	logged := make(lines, 10)
	s := newService(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	r := s.start(t)
	waiting, _ := r.hold()
	c := r.dial(t, post(morning))
	<-waiting
	c.Close()
	if line := <-logged; !strings.Contains(line, "status=499") || !strings.Contains(line, "level=DEBUG") {
		t.Error(line)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// What may have been decided is not given up when the client is.
func TestAClientThatGoesAwayCancelsNoDecision(t *testing.T) {
	s := newService(t)
	r := s.start(t)
	asking, deciding, release := make(chan context.Context, 1), make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	r.log.setFail(func(ctx context.Context) error {
		switch calls.Add(1) {
		case 1: // the read of the room's calendar
			asking <- ctx
		case 2: // the append of the reservation
			close(deciding)
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	c := r.dial(t, post(morning))
	request := <-asking
	<-deciding
	c.Close()
	<-request.Done()
	close(release)
	r.stop() // waits for the handler
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(s.log.all()), "[SlotReserved BookingCreated ConfirmRequested]"; got != want {
		t.Errorf("events %s, want %s", got, want)
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

// late is a body that does not come before the connection's deadline.
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

// A connection is used again after any answer, and requests that follow each other do not see each other's buffers.
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
