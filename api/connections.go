package api

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// connections is a listener that keeps at most so many connections open. When there are as many and one more comes, the one that has
// been idle for longest is closed for it; if none is idle, it waits. Goroutines may share it.
type connections struct {
	net.Listener
	most int

	mu     sync.Mutex
	change *sync.Cond // signalled when a connection becomes idle or is closed, and when the listener is closed
	states map[net.Conn]connectionState
	turn   int // counts the changes of state
	open   int // connections that were accepted, and are not closed
	closed bool
}

// connectionState is what a connection is at, and since which turn.
type connectionState struct {
	http.ConnState
	since int
}

func newConnections(l net.Listener, most int) *connections {
	c := &connections{Listener: l, most: most, states: make(map[net.Conn]connectionState)}
	c.change = sync.NewCond(&c.mu)
	return c
}

// Accept waits for a connection, and until there is room for it.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open >= c.most && !c.closed {
		if idle := c.longestIdleLocked(); idle != nil {
			delete(c.states, idle)
			_ = idle.Close() // the server sees that, and tells follow
		}
		c.change.Wait()
	}
	if c.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.open++
	return conn, nil
}

func (c *connections) longestIdleLocked() (longest net.Conn) {
	since := c.turn + 1
	for conn, s := range c.states {
		if s.ConnState == http.StateIdle && s.since < since {
			longest, since = conn, s.since
		}
	}
	return longest
}

// Close ends Accept.
func (c *connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.change.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// follow is told of what becomes of each connection; see [http.Server.ConnState].
func (c *connections) follow(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	c.states[conn] = connectionState{state, c.turn}
	switch state {
	case http.StateClosed:
		delete(c.states, conn)
		c.open--
		c.change.Broadcast()
	case http.StateIdle:
		c.change.Broadcast()
	}
}

// silence is how long a connection that has not sent anything yet is still waited for when the server ends: browsers and load balancers
// open some in advance.
const silence = 500 * time.Millisecond

// hurry bounds the wait for first requests.
func (c *connections) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, s := range c.states {
		if s.ConnState == http.StateNew {
			_ = conn.SetReadDeadline(time.Now().Add(silence)) // fails if it is closed already
		}
	}
}
