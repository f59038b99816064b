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

// exchange is one request and the reply that is being made to it. It belongs to the request's goroutine, and to the next
// request when that is over: nothing may keep it, nor slices of its buffers.
type exchange struct {
	ctx    context.Context // ends with the request's time limit, or when the server cuts off what is left; not with the client
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	vars   map[string]string
	id     string // the request's id

	in []byte // the request's body

	admitted *limit           // that counts the request, if one does
	command  commands.Request // that was made of the request, if one was
	freeKey  func()           // ends the command's hold on its key, if it has one

	status    int
	mediaType string
	out       bytes.Buffer // the reply
	base      string       // the address that the client used: links begin with it
	problem   string       // the name of the reply's type of problem, if it is one
	sent      bool
}

func (x *exchange) open(ctx context.Context, s *Server, w http.ResponseWriter, r *http.Request, vars map[string]string) {
	x.ctx, x.server, x.w, x.r, x.vars = ctx, s, w, r, vars
	x.status, x.mediaType, x.sent = http.StatusOK, "", false
	x.problem = ""
	x.in = x.in[:0]
	x.out.Reset()
	x.base = s.address(r)
	x.id = requestID(r)
	x.header("X-Request-Id", x.id)
	w.Header()["X-Content-Type-Options"] = nosniff
	switch takesBody := r.Method == http.MethodPost || r.Method == http.MethodPatch || r.Method == http.MethodPut; {
	case len(r.TransferEncoding) > 0:
		// Whether the request also had a Content-Length cannot be told any more; if so, the connection must not be used again (RFC 9112,
		// section 6.3): who sent it may not mean the same as the end of its body.
		x.header("Connection", "close")
	case r.ContentLength != 0 && !takesBody:
		// Else net/http would wait for a body that nobody wants before it sends the answer.
		x.header("Connection", "close")
	}
}

// nosniff keeps browsers from taking an answer for something else than it says. It is shared by all answers.
var nosniff = []string{"nosniff"}

// largestKept bounds the buffers that wait for the next request, in bytes.
const largestKept = 64 << 10

func (x *exchange) close() {
	s := x.server
	x.ctx, x.server, x.w, x.r, x.vars = nil, nil, nil, nil, nil
	x.command, x.freeKey = commands.Request{}, nil
	if cap(x.in) > largestKept || x.out.Cap() > largestKept {
		return
	}
	s.exchanges.Put(x)
}

// header sets a header of the reply. The name is in canonical form.
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
		// A client that does not hear its answer asks again: there is nothing to do about it here.
		_, _ = x.w.Write(x.out.Bytes())
	}
}

// pass lets another handler write the reply.
func (x *exchange) pass(h http.Handler) error {
	h.ServeHTTP(&passed{x.w, x}, x.r)
	x.sent = true
	return nil
}

// passed is what another handler writes its reply to: it remembers that the reply has begun, and with which status.
type passed struct {
	http.ResponseWriter
	x *exchange
}

func (w *passed) WriteHeader(status int) {
	w.x.sent, w.x.status = true, status
	w.ResponseWriter.WriteHeader(status)
}

func (w *passed) Write(b []byte) (int, error) {
	w.x.sent = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *passed) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// The errors of a body that did not come.
var (
	errBodyTooLarge = errors.New("the body is too large")
	errBodyTooSlow  = errors.New("the body did not come in time")
)

// readBody reads the request's body into x.in.
func (x *exchange) readBody() error {
	if x.r.ContentLength > maxBodyBytes {
		return errBodyTooLarge
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
		if len(x.in) > maxBodyBytes {
			return errBodyTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return errBodyTooSlow
		}
		if err != nil {
			return &malformed{"the body does not end as announced"} // what net/http says of it may name addresses
		}
	}
}

// now is the time with the resolution that is kept of all times.
func (x *exchange) now() time.Time { return time.Now().UTC().Truncate(resolution) }

// setValidators sets the headers that say at which revision the resource is, which a change can be made conditional on, and which
// position a list must have reached to show it.
func (x *exchange) setValidators(revision domain.Revision, position eventstore.Position) {
	x.header("Etag", etag(revision, x.mediaType))
	x.position(position)
}

func (x *exchange) position(p eventstore.Position) {
	x.header("Roombook-Position", strconv.FormatUint(uint64(p), 10))
}
