package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

// exchange is a request and the reply to it. Only the request's goroutine may use it. Exchanges are pooled, so neither an exchange nor a
// slice of its buffers may be retained beyond the request.
type exchange struct {
	ctx    context.Context // ends at the request's time limit, or when a shutdown cancels requests; not when the client disconnects
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	vars   map[string]string
	id     string // the request's id

	in []byte // the request's body

	admitted   []*limit         // the limits that the request counts towards
	actor      domain.Actor     // who the request is by
	command    commands.Request // if the request is a command
	releaseKey func()           // if the command holds an idempotency key

	roomName func(domain.RoomID) string // the name of a room, in replies of lists that are named

	status    int
	mediaType string
	out       bytes.Buffer // the reply's body
	base      string       // the address that the client used: links start with it
	problem   string       // the reply's problem type, if it is a problem
	sent      bool         // whether another handler has started to send the reply
	whole     bool         // whether it has sent all of it
}

func (x *exchange) open(ctx context.Context, s *Server, w http.ResponseWriter, r *http.Request, vars map[string]string) {
	x.ctx, x.server, x.w, x.r, x.vars = ctx, s, w, r, vars
	x.status, x.mediaType, x.sent, x.whole = http.StatusOK, "", false, false
	x.problem = ""
	x.in = x.in[:0]
	x.out.Reset()
	x.base = s.address(r)
	x.id = requestID(r)
	x.header("X-Request-Id", x.id)
	h := w.Header()
	h["X-Content-Type-Options"], h["Referrer-Policy"], h["Content-Security-Policy"] = nosniff, noReferrer, noContent
	switch takesBody := r.Method == http.MethodPost || r.Method == http.MethodPatch || r.Method == http.MethodPut; {
	case len(r.TransferEncoding) > 0:
		// net/http does not tell whether there was a Content-Length as well. If so, the connection must not be reused (RFC 9112, section 6.3):
		// the sender may disagree about where the body ends.
		x.header("Connection", "close")
	case r.ContentLength != 0 && !takesBody:
		// Otherwise net/http would wait for the unwanted body before it sends the reply.
		x.header("Connection", "close")
	}
}

// Headers of all replies, which share them: browsers must not guess another media type, tell another site where a link was, or show or
// run anything of a reply that is not a page.
var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
)

// maxKeptBuffer is the largest buffer that is returned to the pool, in bytes.
const maxKeptBuffer = 64 << 10

func (x *exchange) close() {
	s := x.server
	x.actor = domain.Actor{}
	x.ctx, x.server, x.w, x.r, x.vars = nil, nil, nil, nil, nil
	x.command, x.releaseKey, x.roomName = commands.Request{}, nil, nil
	if cap(x.in) > maxKeptBuffer || x.out.Cap() > maxKeptBuffer {
		return
	}
	s.exchanges.Put(x)
}

// header sets a header of the reply. The name must be in canonical form.
func (x *exchange) header(name, value string) { x.w.Header()[name] = []string{value} }

// send writes the reply.
func (x *exchange) send() {
	if x.sent {
		return
	}
	h := x.w.Header()
	if x.out.Len() > 0 {
		h["Content-Type"] = []string{x.mediaType}
		h["Content-Length"] = []string{strconv.Itoa(x.out.Len())}
	}
	x.w.WriteHeader(x.status)
	if x.out.Len() > 0 && x.r.Method != http.MethodHead {
		// If this fails the client did not get its reply and will ask again.
		_, _ = x.w.Write(x.out.Bytes())
	}
}

// delegate lets another handler send the reply.
func (x *exchange) delegate(h http.Handler) error {
	h.ServeHTTP(&delegatedWriter{x.w, x}, x.r)
	x.sent = true
	return nil
}

// delegatedWriter records that another handler has started its reply, and with which status.
type delegatedWriter struct {
	http.ResponseWriter
	x *exchange
}

func (w *delegatedWriter) WriteHeader(status int) {
	w.x.sent, w.x.status = true, status
	w.ResponseWriter.WriteHeader(status)
}

func (w *delegatedWriter) Write(b []byte) (int, error) {
	w.x.sent = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *delegatedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// errBodyTooSlow means that a body could not be read.
var errBodyTooSlow = errors.New("the body did not come in time")

// bodyTooLarge reports a body of more bytes than the operation accepts.
type bodyTooLarge struct{ maxBytes int }

func (e *bodyTooLarge) Error() string { return "the body is too large" }

// readBody reads the request's body into x.in.
func (x *exchange) readBody(maxBytes int) error {
	if x.r.ContentLength > int64(maxBytes) {
		return &bodyTooLarge{maxBytes}
	}
	if x.in == nil {
		x.in = make([]byte, 0, 1024)
	}
	for {
		if len(x.in) == cap(x.in) {
			x.in = append(x.in, 0)[:len(x.in)]
		}
		n, err := x.r.Body.Read(x.in[len(x.in):cap(x.in)])
		x.in = x.in[:len(x.in)+n]
		if len(x.in) > maxBytes {
			return &bodyTooLarge{maxBytes}
		}
		if err == io.EOF {
			return nil
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return errBodyTooSlow
		}
		if err != nil {
			return &malformed{"the body does not end as announced"} // the error of net/http may name addresses
		}
	}
}

// now returns the current time in the resolution of stored times.
func (x *exchange) now() time.Time { return time.Now().UTC().Truncate(resolution) }

// setValidators sets the resource's ETag, which makes conditional requests possible, and the position that a list must have reached to
// show the resource.
func (x *exchange) setValidators(revision domain.Revision, position eventstore.Position) {
	x.header("Etag", etag(revision, x.mediaType))
	x.position(position)
}

func (x *exchange) position(p eventstore.Position) {
	x.header("Roombook-Position", strconv.FormatUint(uint64(p), 10))
}
