package eventstoretest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The methods of the event store's protocol that faults are for.
const (
	Append = "/event_store.client.streams.Streams/Append" // each batch of a BatchAppend call too
	Read   = "/event_store.client.streams.Streams/Read"   // subscriptions too
)

// Controlled is an event store behind a network that fails on demand: a proxy on loopback with a fixed address. Goroutines may share it.
type Controlled struct {
	t        testing.TB
	upstream string
	address  string

	mu       sync.Mutex
	listener net.Listener // nil while stopped
	silent   bool
	faults   []*fault
	calls    map[string]int // calls let through, by method
	links    map[*link]bool
	work     sync.WaitGroup
}

// fault is a fault that hits one call.
type fault struct {
	method  string
	left    int // calls of the method until then, this one included
	answers bool
	fatal   bool
	happen  func() // closes the channel that LoseRequest and its like return
}

// link is a client's connection and the proxy's own to the event store.
type link struct {
	client, server net.Conn
	close          func()

	mu      sync.Mutex
	doomed  map[uint32]*fault     // calls whose answer gets lost, by HTTP/2 stream
	batches map[uint32]*batchLink // calls of BatchAppend, by HTTP/2 stream
	silence bool
}

// Before puts a network that fails on demand before an event store at host:port, or anything else that speaks HTTP/2 without TLS.
func Before(t testing.TB, upstream string) *Controlled {
	t.Helper()
	c := &Controlled{t: t, upstream: upstream, address: ClosedPort(t), calls: map[string]int{}, links: map[*link]bool{}}
	c.Start()
	t.Cleanup(func() {
		c.Stop()
		c.work.Wait()
	})
	return c
}

// Address is where clients connect.
func (c *Controlled) Address() string { return c.address }

// Start ends all faults, planned ones included: it cuts connections and accepts new ones, at the same address.
func (c *Controlled) Start() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = false
	c.faults = nil
	c.cutLocked()
	if c.listener != nil {
		return
	}
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		c.t.Fatalf("listen: %v", err)
	}
	c.listener = l
	c.work.Go(func() { c.accept(l) })
}

// Stop closes the listener and cuts all connections: new ones are refused.
func (c *Controlled) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked()
}

func (c *Controlled) stopLocked() {
	if c.listener != nil {
		_ = c.listener.Close()
		c.listener = nil
	}
	c.cutLocked()
}

// Redirect cuts all connections and connects new ones to another event store at host:port, such as a restored backup.
func (c *Controlled) Redirect(upstream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upstream = upstream
	c.cutLocked()
}

// Silence keeps connections open and accepts new ones, but lets nothing through.
func (c *Controlled) Silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = true
	for l := range c.links {
		l.mu.Lock()
		l.silence = true
		l.mu.Unlock()
	}
}

// Cut cuts all connections and goes on listening.
func (c *Controlled) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutLocked()
}

func (c *Controlled) cutLocked() {
	for l := range c.links {
		l.close()
	}
}

// Connections is the number of connections that are open.
func (c *Controlled) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.links)
}

// Calls is how many calls of the method were ever let through to the event store, whatever became of their answers.
func (c *Controlled) Calls(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

// LoseRequest cuts the connection just before the n-th call of the method from now, counted from 1, goes through: the event store never
// sees it. The channel is closed then.
func (c *Controlled) LoseRequest(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n})
}

// LoseAnswer cuts the connection just before the answer to the n-th call of the method from now, counted from 1, goes through: the event
// store has carried it out, and the caller does not learn of it. The channel is closed then, or when the caller has given up before.
func (c *Controlled) LoseAnswer(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n, answers: true})
}

// DieAtRequest is [Controlled.LoseRequest] and [Controlled.Stop] in one: neither that call nor any later one goes through, on any
// connection. To the event store it is as if the clients' process had been killed. The channel is closed before a client can notice.
func (c *Controlled) DieAtRequest(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n, fatal: true})
}

// DieAtAnswer is [Controlled.LoseAnswer] and [Controlled.Stop] in one: the event store has carried out the call, and from its answer on
// nothing goes through in either direction. The channel is closed before a client can notice, or never if the caller gives up before
// there is an answer.
func (c *Controlled) DieAtAnswer(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n, answers: true, fatal: true})
}

func (c *Controlled) expect(f *fault) <-chan struct{} {
	happened := make(chan struct{})
	f.happen = sync.OnceFunc(func() { close(happened) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, f)
	return happened
}

// request counts a call and returns the fault that hits it, if any. A lost request has been lost by then.
func (c *Controlled) request(l *link, method string) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hit *fault
	left := c.faults[:0]
	for _, f := range c.faults {
		if f.method == method {
			f.left--
		}
		if f.method == method && f.left == 0 && hit == nil {
			hit = f
			continue
		}
		left = append(left, f)
	}
	c.faults = left
	switch {
	case hit != nil && !hit.answers:
		c.strikeLocked(l, hit)
	case c.listener != nil && !c.silent:
		c.calls[method]++
	}
	return hit
}

// strikeLocked makes the fault hit a call on the connection.
func (c *Controlled) strikeLocked(l *link, f *fault) {
	f.happen()
	if f.fatal {
		c.stopLocked()
	}
	l.close()
}

func (c *Controlled) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.t.Errorf("accept: %v", err)
			}
			return
		}
		c.mu.Lock()
		upstream := c.upstream
		c.mu.Unlock()
		server, err := net.Dial("tcp", upstream)
		if err != nil { // the event store cannot be reached, so nor can its proxy
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server, doomed: map[uint32]*fault{}, batches: map[uint32]*batchLink{}}
		l.close = sync.OnceFunc(func() {
			_ = client.Close()
			_ = server.Close()
		})
		c.mu.Lock()
		if c.upstream != upstream {
			c.mu.Unlock()
			l.close()
			continue
		}
		if c.listener != listener {
			c.mu.Unlock()
			l.close()
			return
		}
		l.silence = c.silent
		c.links[l] = true
		c.work.Go(func() {
			var pumps sync.WaitGroup
			pumps.Go(func() { c.requests(l); l.close() })
			pumps.Go(func() { c.answers(l); l.close() })
			pumps.Wait()
			for _, f := range l.allDoomed() { // no answer can come now
				if !f.fatal {
					f.happen()
				}
			}
			c.mu.Lock()
			delete(c.links, l)
			c.mu.Unlock()
		})
		c.mu.Unlock()
	}
}

// requests passes on what the client sends, frame by frame.
func (c *Controlled) requests(l *link) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(l.client, preface); err != nil || !l.pass(l.server, preface) {
		return
	}
	frames(l.client, func(frame http2.Frame, raw []byte) bool {
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			if f := c.request(l, headers.PseudoValue("path")); f != nil {
				if !f.answers {
					return false
				}
				l.mu.Lock()
				l.doomed[headers.StreamID] = f
				l.mu.Unlock()
			}
			if headers.PseudoValue("path") == methodBatchAppend {
				l.mu.Lock()
				l.batches[headers.StreamID] = &batchLink{doomed: map[string]*fault{}}
				l.mu.Unlock()
			}
		}
		return c.batchRequests(l, frame) && !c.givesUp(l, frame) && l.pass(l.server, raw)
	})
}

// givesUp reports whether a frame ends a call whose answer was to be lost: nobody waits for that any more. The client sends such a frame,
// or a server that has timed out.
func (c *Controlled) givesUp(l *link, frame http2.Frame) bool {
	reset, ok := frame.(*http2.RSTStreamFrame)
	if !ok {
		return false
	}
	f := l.fault(reset.StreamID)
	if f == nil {
		f = l.batchFault(reset.StreamID)
	}
	if f == nil || f.fatal {
		return false
	}
	c.strike(l, f)
	return true
}

// answers passes on what the event store sends, frame by frame. An answer begins with headers.
func (c *Controlled) answers(l *link) {
	frames(l.server, func(frame http2.Frame, raw []byte) bool {
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			if f := l.fault(headers.StreamID); f != nil {
				c.strike(l, f)
				return false
			}
		}
		return c.batchAnswers(l, frame) && !c.givesUp(l, frame) && l.pass(l.client, raw)
	})
}

func (c *Controlled) strike(l *link, f *fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strikeLocked(l, f)
}

// fault is the fault that hits the answer of a call, or nil.
func (l *link) fault(stream uint32) *fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doomed[stream]
}

func (l *link) pass(to net.Conn, raw []byte) bool {
	l.mu.Lock()
	silence := l.silence
	l.mu.Unlock()
	if silence {
		return true
	}
	_, err := to.Write(raw)
	return err == nil
}

// frames reads HTTP/2 frames until there are no more or each returns false.
func frames(from net.Conn, each func(frame http2.Frame, raw []byte) bool) {
	var raw bytes.Buffer
	framer := http2.NewFramer(io.Discard, io.TeeReader(from, &raw))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.SetMaxReadFrameSize(1<<24 - 1)
	for {
		frame, err := framer.ReadFrame()
		if err != nil || !each(frame, raw.Bytes()) {
			return
		}
		raw.Reset()
	}
}
