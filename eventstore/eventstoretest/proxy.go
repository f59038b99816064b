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

// The calls of the event store's protocol that faults are about.
const (
	Append = "/event_store.client.streams.Streams/Append"
	Read   = "/event_store.client.streams.Streams/Read" // subscriptions too
)

// Controlled is an event store behind a network that fails on demand: a proxy on loopback with a fixed address. Goroutines
// may share it.
type Controlled struct {
	t        testing.TB
	upstream string
	address  string

	mu       sync.Mutex
	listener net.Listener // nil while stopped
	silent   bool
	faults   []*fault
	calls    map[string]int // by method: those that passed
	links    map[*link]bool
	work     sync.WaitGroup
}

// fault is something to happen to one call.
type fault struct {
	method  string
	left    int // calls of the method until then
	answers bool
	fatal   bool
	meet    func() // closes the channel that says so
}

// link is one connection of a client, and what it is connected with.
type link struct {
	client, server net.Conn
	close          func()

	mu      sync.Mutex
	doomed  map[uint32]*fault // by stream: the calls whose answer gets lost
	silence bool
}

// Before is a network that fails on demand before an event store, or what else speaks HTTP/2 without TLS, at host:port.
func Before(t testing.TB, upstream string) *Controlled {
	t.Helper()
	c := &Controlled{t: t, upstream: upstream, address: reserve(t), calls: map[string]int{}, links: map[*link]bool{}}
	c.Start()
	t.Cleanup(func() {
		c.Stop()
		c.work.Wait()
	})
	return c
}

// Address is where clients connect.
func (c *Controlled) Address() string { return c.address }

// Start ends all faults, those to come included: connections are cut, and new ones accepted, at the same address as before.
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

// Stop closes the listener and cuts all connections: whoever connects is refused.
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

// Redirect cuts all connections and has new ones lead to another event store, at host:port: that of a backup which was put back, say.
func (c *Controlled) Redirect(upstream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upstream = upstream
	c.cutLocked()
}

// Silence keeps connections open and accepts new ones, and lets nothing pass.
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

// Calls is how many calls of the method were let through to the event store since the beginning, whatever became of their answers.
func (c *Controlled) Calls(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

// LoseRequest cuts the connection when the n-th call of the method from now, counted from 1, is about to pass: the event store
// never hears of it. The channel is closed then.
func (c *Controlled) LoseRequest(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n})
}

// LoseAnswer cuts the connection when the answer to the n-th call of the method from now, counted from 1, is about to pass: the
// event store has done it and nobody hears of that. The channel is closed then, or when the caller has given up before.
func (c *Controlled) LoseAnswer(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n, answers: true})
}

// DieAtRequest is [Controlled.LoseRequest] and [Controlled.Stop] in one: neither that call nor any that comes after it, on whatever
// connection, passes. So the clients are to the event store what a process that was killed is. The channel is closed before a client
// can notice.
func (c *Controlled) DieAtRequest(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n, fatal: true})
}

// DieAtAnswer is [Controlled.LoseAnswer] and [Controlled.Stop] in one: the event store has done the call, and from its answer on
// nothing passes in either direction. The channel is closed before a client can notice, and never if the caller gives up before
// there is an answer.
func (c *Controlled) DieAtAnswer(method string, n int) <-chan struct{} {
	return c.expect(&fault{method: method, left: n, answers: true, fatal: true})
}

func (c *Controlled) expect(f *fault) <-chan struct{} {
	met := make(chan struct{})
	f.meet = sync.OnceFunc(func() { close(met) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, f)
	return met
}

// request counts a call and returns the fault that meets it, if one does. A request that gets lost is lost when it returns.
func (c *Controlled) request(l *link, method string) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	var met *fault
	left := c.faults[:0]
	for _, f := range c.faults {
		if f.method == method {
			f.left--
		}
		if f.method == method && f.left == 0 && met == nil {
			met = f
			continue
		}
		left = append(left, f)
	}
	c.faults = left
	switch {
	case met != nil && !met.answers:
		c.strikeLocked(l, met)
	case c.listener != nil && !c.silent:
		c.calls[method]++
	}
	return met
}

// strikeLocked has the fault happen to a call on the connection.
func (c *Controlled) strikeLocked(l *link, f *fault) {
	f.meet()
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
		if err != nil { // the event store is away: so is what stands before it
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server, doomed: map[uint32]*fault{}}
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
			for _, f := range l.doomed { // no answer can come any more
				if !f.fatal {
					f.meet()
				}
			}
			c.mu.Lock()
			delete(c.links, l)
			c.mu.Unlock()
		})
		c.mu.Unlock()
	}
}

// requests passes what the client sends, frame by frame.
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
		}
		return !c.givesUp(l, frame) && l.pass(l.server, raw)
	})
}

// givesUp reports whether a frame ends a call that has been waiting for an answer which was to be lost: nobody waits for it any more. A
// client ends a call so, or a server whose time for it was over first.
func (c *Controlled) givesUp(l *link, frame http2.Frame) bool {
	reset, ok := frame.(*http2.RSTStreamFrame)
	if !ok {
		return false
	}
	f := l.fault(reset.StreamID)
	if f == nil || f.fatal {
		return false
	}
	c.strike(l, f)
	return true
}

// answers passes what the event store sends, frame by frame. Its answer to a call begins with headers.
func (c *Controlled) answers(l *link) {
	frames(l.server, func(frame http2.Frame, raw []byte) bool {
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			if f := l.fault(headers.StreamID); f != nil {
				c.strike(l, f)
				return false
			}
		}
		return !c.givesUp(l, frame) && l.pass(l.client, raw)
	})
}

func (c *Controlled) strike(l *link, f *fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strikeLocked(l, f)
}

// fault is what is to happen to the answer of a call, or nil.
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

// frames reads HTTP/2 frames until there are no more or one is not wanted.
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
