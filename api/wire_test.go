package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"roombook/projections"
)

// Tests over the wire: each uses sockets of its own.

// asks sends a request with the given header lines and reads the reply.
func (r *running) asks(t *testing.T, line string, header ...string) (*http.Response, string) {
	t.Helper()
	c := r.dial(t, line+" HTTP/1.1\r\n"+strings.Join(header, "\r\n")+"\r\n\r\n")
	defer c.Close()
	method, _, _ := strings.Cut(line, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// end shuts the server down gracefully.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// Pages cannot be framed and have only the rights that they need; replies cannot be interpreted as another media type.
func TestPagesAreIsolated(t *testing.T) {
	r := newService(t).start(t)
	defer r.end(t)
	for _, path := range []string{"/", "/docs", "/problems", "/problems/slot-taken"} {
		res, body := r.asks(t, "GET "+path, "Host: rooms.example", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.HasPrefix(body, "<!DOCTYPE html>") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe-eval") ||
			strings.Contains(policy, "script-src 'self' 'unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if strings.Contains(body, "<script>") || strings.Contains(body, " onclick") || strings.Contains(body, " style=") || strings.Contains(body, "<style") {
			t.Errorf("%s has scripts or styles that its policy forbids: %s", path, body)
		}
		// Their forms tell where they come from, which browsers leave out otherwise.
		if res.Header.Get("Referrer-Policy") != "same-origin" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, res.Header)
		}
	}
	for _, path := range []string{"/bookings", "/bookings/none", "/nothing", "/openapi.json", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/metrics", "/healthz"} {
		if res, _ := r.asks(t, "GET "+path, "Host: rooms.example"); res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, res.Header)
		}
	}
	if res, body := r.asks(t, "GET /docs/oauth2-redirect.html", "Host: rooms.example"); res.StatusCode != 404 {
		t.Errorf("a page of others is served: %d %s", res.StatusCode, body)
	}
}

// Requests for an unknown host are refused whatever they ask for, so that DNS rebinding does not work.
func TestHosts(t *testing.T) {
	s := newService(t)
	r := s.start(t)
	defer r.end(t)
	port := r.address[strings.LastIndexByte(r.address, ':'):]
	for _, host := range []string{"rooms.example", "ROOMS.example:8080", "rooms.example.", "localhost" + port, "x.localhost", "127.0.0.1" + port, "127.0.0.1", "[::1]:80", ""} {
		if res, body := r.asks(t, "GET /bookings/none", "Host: "+host); res.StatusCode != 404 || !strings.Contains(body, "booking-not-found") {
			t.Errorf("Host %q: %d %s", host, res.StatusCode, body)
		}
	}
	for _, host := range []string{"evil.example", "evil.example" + port, "rooms.example.evil.example", "localhost.evil.example", "10.1.2.3", "[2001:db8::1]" + port, "xlocalhost", strings.Repeat("a", 5000)} {
		for _, line := range []string{"GET /bookings/none", "GET /", "GET /metrics", "GET /nothing", "BREW /bookings"} {
			if res, body := r.asks(t, line, "Host: "+host, "Origin: http://evil.example"); res.StatusCode != 421 || !strings.Contains(body, "misdirected-request") {
				t.Errorf("%s, Host %.40q: %d %s", line, host, res.StatusCode, body)
			}
		}
		request := strings.Replace(post(morning), "Host: rooms.example", "Host: "+host+"\r\nOrigin: http://evil.example", 1)
		c := r.dial(t, request)
		if status, body := hear(t, c); status != 421 {
			t.Errorf("POST, Host %.40q: %d %s", host, status, body)
		}
		c.Close()
	}
	if events := s.log.all(); len(events) != 0 {
		t.Errorf("events %v", events)
	}
}

// The hosts of a trusted proxy's requests are not checked, nor are addresses if the server listens on all of them.
func TestHostsOfProxiesAndOfAllAddresses(t *testing.T) {
	r := newService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }).start(t)
	if res, body := r.asks(t, "GET /version", "Host: anything.example"); res.StatusCode != 200 {
		t.Errorf("through a proxy: %d %s", res.StatusCode, body)
	}
	r.end(t)

	s := newService(t)
	s.anyAddress.Store(true)
	r = s.start(t)
	if res, body := r.asks(t, "GET /version", "Host: 10.1.2.3:8080"); res.StatusCode != 200 {
		t.Errorf("at all addresses: %d %s", res.StatusCode, body)
	}
	if res, body := r.asks(t, "GET /version", "Host: evil.example"); res.StatusCode != 421 {
		t.Errorf("at all addresses: %d %s", res.StatusCode, body)
	}
	r.end(t)
}

// The request's host is in every link of the reply, but cannot turn a small request into a large reply.
func TestALongHostMakesNoLongAnswer(t *testing.T) {
	s := newService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for range 200 {
		s.lists.bookings = append(s.lists.bookings, projections.BookingList{})
	}
	r := s.start(t)
	defer r.end(t)
	long := strings.Repeat("a", 5000)
	_, plain := r.asks(t, "GET /bookingLists", "Host: rooms.example")
	for _, header := range []string{"Host: " + long, "X-Forwarded-Host: " + long, "X-Forwarded-Prefix: /" + long} {
		lines := []string{"Host: rooms.example", header}
		if strings.HasPrefix(header, "Host") {
			lines = lines[1:]
		}
		if _, body := r.asks(t, "GET /bookingLists", lines...); len(body) > len(plain)+len(long) {
			t.Errorf("%.30s… makes %d bytes of %d", header, len(body), len(plain))
		}
	}
}

// A compressed body is refused as such, not as invalid JSON.
func TestAContentCodingIsRefused(t *testing.T) {
	r := newService(t).start(t)
	defer r.end(t)
	for coding, status := range map[string]int{"gzip": 415, "br": 415, "gzip, identity": 415, "identity": 201, "": 201} {
		c := r.dial(t, strings.Replace(post(bookingIn("r-"+fmt.Sprint(len(coding)))), "\r\n", "\r\nContent-Encoding: "+coding+"\r\n", 1))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != status {
			t.Errorf("Content-Encoding %q: %d %s, %v", coding, res.StatusCode, body, err)
		}
		if status == 415 && (!strings.Contains(string(body), "unsupported-content-coding") || res.Header.Get("Accept-Encoding") != "identity") {
			t.Errorf("Content-Encoding %q: %v %s", coding, res.Header, body)
		}
		c.Close()
	}
}

// A request that declares its length in two ways is the last one on its connection: what follows is not taken for a request.
func TestTwoLengthsEndTheConnection(t *testing.T) {
	r := newService(t).start(t)
	defer r.end(t)
	request := fmt.Sprintf("POST /bookings HTTP/1.1\r\nHost: rooms.example\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
		len(morning), morning)
	c := r.dial(t, request+"GET /version HTTP/1.1\r\nHost: rooms.example\r\n\r\n")
	defer c.Close()
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 201 || !res.Close {
		t.Errorf("status %d, closes: %t", res.StatusCode, res.Close)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v", err)
	}
}

// At the limit of connections new ones are still served: idle connections are closed for them, busy ones are not.
func TestConnectionsAreBounded(t *testing.T) {
	s := newService(t, func(o *Options) { o.MaxConnections = 3 })
	r := s.start(t)
	waiting, release := r.hold()
	working := r.dial(t, post(morning))
	defer working.Close()
	<-waiting
	const more = 20
	closed := make(chan error, more)
	for i := range more {
		c := r.dial(t, "GET /version HTTP/1.1\r\nHost: rooms.example\r\n\r\n")
		defer c.Close()
		if status, _ := hear(t, c); status != 200 {
			t.Errorf("connection %d: status %d", i, status)
		}
		go func() {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			_, err := c.Read(make([]byte, 1))
			closed <- err
		}()
	}
	for range more - 2 { // one more is kept by the request under way
		if err := <-closed; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	release()
	if status, body := hear(t, working); status != 201 {
		t.Errorf("status %d: %s", status, body)
	}
	r.end(t)
	for range 2 {
		<-closed
	}
}

// If all connections are busy, a new one waits until one of them is done.
func TestAConnectionWaitsForRoom(t *testing.T) {
	s := newService(t, func(o *Options) { o.MaxConnections = 2 })
	r := s.start(t)
	waiting, release := r.hold()
	under := []net.Conn{r.dial(t, post(bookingIn("1"))), r.dial(t, post(bookingIn("2")))}
	<-waiting
	<-waiting
	under = append(under, r.dial(t, post(bookingIn("3"))))
	release()
	for i, c := range under {
		if status, body := hear(t, c); status != 201 {
			t.Errorf("connection %d: status %d: %s", i, status, body)
		}
		c.Close()
	}
	r.end(t)

	// A waiting connection does not delay the shutdown.
	s = newService(t, func(o *Options) { o.MaxConnections = 1 })
	r = s.start(t)
	waiting, release = r.hold()
	first := r.dial(t, post(morning))
	defer first.Close()
	<-waiting
	second := r.dial(t, post(bookingIn("2")))
	defer second.Close()
	r.stop()
	release()
	if status, body := hear(t, first); status != 201 {
		t.Errorf("status %d: %s", status, body)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// Connections that have not sent anything do not delay the shutdown.
func TestSilentConnectionsDoNotDelayTheEnd(t *testing.T) {
	// net/http would wait for 5 s.
	r := newService(t, func(o *Options) { o.DrainTimeout = 3 * time.Second }).start(t)
	c := r.dial(t, "")
	defer c.Close()
	r.asks(t, "GET /version", "Host: rooms.example") // after which the one before has been accepted
	r.end(t)
}

// A client that reads its reply slowly, or sends an unwanted body, does not count towards the limit of queries.
func TestSlowClientsHoldNoPlace(t *testing.T) {
	s := newService(t, func(o *Options) { o.MaxCommands = 1 })
	for range 200 {
		s.lists.bookings = append(s.lists.bookings, projections.BookingList{ConfirmReason: strings.Repeat("x", 50_000)})
	}
	r := s.start(t)
	var slow []net.Conn
	for range 2 * queriesPerCommand {
		// 10 MB, much more than the socket buffers hold.
		slow = append(slow, r.dial(t, "GET /confirms HTTP/1.1\r\nHost: rooms.example\r\n\r\n"))
		c := slow[len(slow)-1]
		if _, err := io.ReadFull(c, make([]byte, len("HTTP/1.1 200"))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 * queriesPerCommand {
		c := r.dial(t, "GET /bookings HTTP/1.1\r\nHost: rooms.example\r\nContent-Length: 9\r\n\r\n")
		slow = append(slow, c)
		if status, body := hear(t, c); status != 200 {
			t.Errorf("status %d: %s", status, body)
		}
	}
	if res, body := r.asks(t, "GET /bookings/none", "Host: rooms.example"); res.StatusCode != 404 {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
	for _, c := range slow {
		c.Close()
	}
	r.end(t)
}
