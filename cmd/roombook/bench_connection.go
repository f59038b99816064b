package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is the server under load.
type target struct {
	url     string // without a slash at its end
	address string // host:port
	dialer  net.Dialer
	// Beginnings of requests.
	post, getPrefix, getSuffix string
}

// newTarget returns the server at an http URL. Unless remote is set, it connects to addresses of this machine only, whatever
// the URL's name stands for at the time.
func newTarget(u *url.URL, remote bool) *target {
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	t := &target{url: "http://" + u.Host + path, address: u.Host}
	if u.Port() == "" {
		t.address = net.JoinHostPort(u.Hostname(), "80")
	}
	t.post = "POST " + path + "/bookings HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: application/json\r\nContent-Length: "
	t.getPrefix = "GET " + path
	t.getSuffix = " HTTP/1.1\r\nHost: " + u.Host + "\r\n\r\n"
	if !remote {
		t.dialer.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !a.Addr().Unmap().IsLoopback() {
				return usagef("%s is another machine, which may not want the load: say --allow-remote if it does", u.Host)
			}
			return nil
		}
	}
	return t
}

// reach finds out whether the server can be connected to at all.
func (t *target) reach(ctx context.Context) error {
	c, err := t.dial(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s: start a server with roombook serve, or name another with --url", t.url)
	}
	if err != nil {
		return err
	}
	c.close()
	return nil
}

// appendBooking appends a request that books the room for half an hour.
func (t *target) appendBooking(out []byte, room string, start time.Time) []byte {
	const (
		roomID = `{"roomId":"`
		from   = `","useStartDtm":"`
		to     = `","useEndDtm":"`
		user   = `","bookingUserId":"bench"}`
	)
	length := len(roomID) + len(room) + len(from) + len(to) + 2*len("2006-01-02T15:04:05Z") + len(user)
	out = append(out, t.post...)
	out = strconv.AppendInt(out, int64(length), 10)
	out = append(out, "\r\n\r\n"+roomID...)
	out = append(out, room...)
	out = append(out, from...)
	out = start.AppendFormat(out, time.RFC3339)
	out = append(out, to...)
	out = start.Add(30*time.Minute).AppendFormat(out, time.RFC3339)
	return append(out, user...)
}

// appendGet appends a request for the path, which may have a query.
func (t *target) appendGet(out []byte, path string) []byte {
	out = append(out, t.getPrefix...)
	out = append(out, path...)
	return append(out, t.getSuffix...)
}

// get asks for the path and returns the answer's status and body. It is for the preparation, not for the load.
func (t *target) get(ctx context.Context, path string, header http.Header) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url+path, nil)
	if err != nil {
		return 0, nil, err
	}
	r.Header = header
	// A transport of its own: no proxy of the environment, and the dialer that knows what may be connected to.
	client := http.Client{Transport: &http.Transport{DialContext: t.dialer.DialContext, DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// connection is a keep-alive connection that speaks as much HTTP/1.1 as a load generator needs, for a fraction of what
// net/http's client would take from the processors that it shares with the server: requests come ready-made, and of an answer
// the framing and a few header fields are looked at. One goroutine at a time may use it.
type connection struct {
	conn net.Conn
	r    *bufio.Reader
	stop func() bool // ends the watch over the context
}

// dial connects. The connection breaks when ctx ends.
func (t *target) dial(ctx context.Context) (*connection, error) {
	conn, err := t.dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	return newConnection(ctx, conn), nil
}

func newConnection(ctx context.Context, conn net.Conn) *connection {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &connection{conn: conn, r: bufio.NewReaderSize(conn, 32<<10), stop: stop}
}

// close may be called more than once.
func (c *connection) close() {
	c.stop()
	c.conn.Close()
}

// answer is what a client looks at in a response.
type answer struct {
	status   int
	position uint64 // Roombook-Position; 0 if there is none
	last     bool   // the server closes the connection after it
}

// errMalformed says that what came is not an HTTP/1 response.
var errMalformed = errors.New("not a valid HTTP response")

// do sends a request and reads the answer to its end. An error breaks the connection: it can only be closed.
func (c *connection) do(request []byte, deadline time.Time) (answer, error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return answer{}, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return answer{}, err
	}
	for {
		a, body, err := c.head()
		if err != nil {
			return answer{}, err
		}
		if a.status < 200 { // an interim answer, which the proper one follows
			continue
		}
		switch {
		case a.status == http.StatusNoContent || a.status == http.StatusNotModified:
		case body.chunked:
			err = c.discardChunks()
		case body.length >= 0:
			err = c.discard(body.length)
		default:
			a.last = true
			_, err = io.Copy(io.Discard, c.r)
		}
		if err != nil {
			return answer{}, err
		}
		return a, nil
	}
}

// framing says how a body ends: by chunks, by its length, or (length -1) with the connection.
type framing struct {
	chunked bool
	length  int
}

// head reads the status line and the header.
func (c *connection) head() (answer, framing, error) {
	body := framing{length: -1}
	line, err := c.line()
	if err != nil {
		return answer{}, body, err
	}
	status, ok := parseStatus(line)
	if !ok {
		return answer{}, body, fmt.Errorf("%w: status line %.60q", errMalformed, line)
	}
	a := answer{status: status, last: bytes.HasPrefix(line, []byte("HTTP/1.0"))}
	for {
		line, err := c.line()
		if err != nil {
			return answer{}, body, err
		}
		if len(line) == 0 {
			return a, body, nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return answer{}, body, fmt.Errorf("%w: header line %.60q", errMalformed, line)
		}
		value = bytes.TrimSpace(value)
		switch {
		case isField(name, "Content-Length"):
			length, ok := parseUint(value, 10)
			if !ok || length > math.MaxInt {
				return answer{}, body, fmt.Errorf("%w: Content-Length %.60q", errMalformed, value)
			}
			body.length = int(length)
		case isField(name, "Transfer-Encoding"):
			if !bytes.EqualFold(value, []byte("chunked")) {
				return answer{}, body, fmt.Errorf("%w: Transfer-Encoding %.60q", errMalformed, value)
			}
			body.chunked = true
		case isField(name, "Connection"):
			a.last = bytes.EqualFold(value, []byte("close"))
		case isField(name, "Roombook-Position"):
			a.position, _ = parseUint(value, 10)
		}
	}
}

// parseStatus reads the status of "HTTP/1.1 201 Created".
func parseStatus(line []byte) (int, bool) {
	const before = len("HTTP/1.1 ")
	if len(line) < before+3 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[before-1] != ' ' {
		return 0, false
	}
	if len(line) > before+3 && line[before+3] != ' ' {
		return 0, false
	}
	status, ok := parseUint(line[before:before+3], 10)
	return int(status), ok && status >= 100
}

func isField(name []byte, field string) bool {
	return len(name) == len(field) && strings.EqualFold(string(name), field)
}

// parseUint reads digits of the base, of which there must be at least one and no sign.
func parseUint(digits []byte, base int) (uint64, bool) {
	n, err := strconv.ParseUint(string(digits), base, 64)
	return n, err == nil
}

// line reads a line without its end. It is valid until the next read.
func (c *connection) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a line of more than %d bytes", errMalformed, c.r.Size())
	}
	if err != nil {
		return nil, unexpected(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

func (c *connection) discard(n int) error {
	_, err := c.r.Discard(n)
	return unexpected(err)
}

// discardChunks reads chunks to the last one, and the trailer.
func (c *connection) discardChunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		size, ok := parseUint(bytes.TrimSpace(digits), 16)
		if !ok || size > math.MaxInt {
			return fmt.Errorf("%w: chunk size %.60q", errMalformed, line)
		}
		if size == 0 {
			break
		}
		if err := c.discard(int(size)); err != nil {
			return err
		}
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) != 0 {
			return fmt.Errorf("%w: chunk of more than %d bytes", errMalformed, size)
		}
	}
	for {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return err
		}
	}
}

// unexpected is err, where the end of the connection is not a good end.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
