package api

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// connections is a listener that limits the number of open connections. At the limit, a new connection replaces the one that has been idle
// for longest, or waits if none is idle. It is safe for concurrent use.
type connections struct {
	net.Listener
	max int

	mu      sync.Mutex
	change  *sync.Cond // signalled when a connection becomes idle or is closed, and when the listener is closed
	states  map[net.Conn]connectionState
	changes int // number of state changes so far
	open    int // number of accepted connections that are not closed
	closed  bool
}

// connectionState is the state of a connection, and the number of the change that led to it.
type connectionState struct {
	http.ConnState
	since int
}

func newConnections(l net.Listener, max int) *connections {
	c := &connections{Listener: l, max: max, states: make(map[net.Conn]connectionState)}
	c.change = sync.NewCond(&c.mu)
	return c
}

// Accept waits for a connection, and then until the limit allows it.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open >= c.max && !c.closed {
		if idle := c.longestIdleLocked(); idle != nil {
			delete(c.states, idle)
			_ = idle.Close() // the server notices, and calls track
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
	since := c.changes + 1
	for conn, s := range c.states {
		if s.ConnState == http.StateIdle && s.since < since {
			longest, since = conn, s.since
		}
	}
	return longest
}

// Close closes the listener and makes Accept return.
func (c *connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.change.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// track is called at each change of a connection's state; see [http.Server.ConnState].
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.states[conn] = connectionState{state, c.changes}
	switch state {
	case http.StateClosed:
		delete(c.states, conn)
		c.open--
		c.change.Broadcast()
	case http.StateIdle:
		c.change.Broadcast()
	}
}

// newConnectionGrace is how long a shutdown waits for connections that have not sent anything yet. Browsers and load balancers open some in
// advance.
const newConnectionGrace = 500 * time.Millisecond

// expireNewConnections bounds the wait for requests on connections that have not sent one yet.
func (c *connections) expireNewConnections() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, s := range c.states {
		if s.ConnState == http.StateNew {
			_ = conn.SetReadDeadline(time.Now().Add(newConnectionGrace)) // fails if it is closed already
		}
	}
}
