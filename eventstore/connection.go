package eventstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// How long to wait after a failed attempt to connect: the first at first, then twice as long each time, up to the second. A
// connection that lived shorter than the second is replaced after the first.
const (
	shortestReconnectWait = 50 * time.Millisecond
	longestReconnectWait  = time.Second
)

// callsPerConnection is how many calls a connection has before the next one is used. Calls that share a connection share its
// system calls: on two cores, 16 goroutines that append to an in-process node use 76 µs of processor time an append on one
// connection, 93 µs on two and 106 µs on four. But a server accepts only about a hundred calls on each.
const callsPerConnection = 64

// connections are a fixed number of connections to the event store, each replaced whenever it breaks, for as long as it
// takes. Goroutines may share it.
//
// One client of the library holds one connection, which a goroutine inside the client owns. While that goroutine looks for
// the node it makes callers wait without regard to their contexts. When it gives up, the client is closed for good, and whoever
// still waits does so for ever. When it looks again, it leaves the former connection open. And a client that is closed while
// somebody is in it panics. So no client is ever in such a state here while it has callers: it looks for the node once, before
// the first of them, and before it would look again it is retired, to be closed when the last of them has left.
type connections struct {
	config  esdb.Configuration
	logger  *slog.Logger
	metrics *metrics

	slots []atomic.Pointer[connection] // nil while it is being connected
	turn  atomic.Uint32

	// closing ends when the store is closed.
	closing context.Context
	close   context.CancelFunc
	// work counts what runs or is open: goroutines that connect, and connections.
	work sync.WaitGroup

	mu         sync.Mutex
	connecting []bool        // by slot
	changed    chan struct{} // closed, and replaced, when a slot is filled
	failure    error         // why the latest attempt to connect failed; nil after one that did not
}

func newConnections(n int, config esdb.Configuration, logger *slog.Logger, m *metrics) *connections {
	p := &connections{
		config:     config,
		logger:     logger,
		metrics:    m,
		slots:      make([]atomic.Pointer[connection], n),
		connecting: make([]bool, n),
		changed:    make(chan struct{}),
	}
	p.closing, p.close = context.WithCancel(context.Background())
	return p
}

// connection is a client of the library that has found its node.
type connection struct {
	pool   *connections
	slot   int
	client *esdb.Client
	since  time.Time

	// entering is held, for reading, by a call from the decision to make it until the client has given it its connection.
	entering sync.RWMutex
	retired  bool // guarded by entering

	// users counts the calls in the client, and one more until it is retired.
	users atomic.Int64
}

// call is one call of a client: its context, to be passed to exactly one method of the client, and its hold on the
// connection, to be given back by done when nothing of the client is used any longer.
//
// The client asks nothing of a call's context before it has its connection, and then asks for the deadline first. That is
// how a call that certainly was never sent is told from others, and how retiring a client waits for those on their way in.
type call struct {
	context.Context
	conn *connection
	in   atomic.Bool // past entering
}

// Deadline implements [context.Context].
func (c *call) Deadline() (time.Time, bool) {
	c.enter()
	return c.Context.Deadline()
}

func (c *call) enter() {
	if !c.in.Swap(true) {
		c.conn.entering.RUnlock()
	}
}

// entered reports whether the client got as far as using its connection.
func (c *call) entered() bool { return c.in.Load() }

func (c *call) done() {
	c.enter()
	c.conn.release()
}

// begin starts a call on a connection. Without one it waits until there is, until ctx ends, or until the store is closed, and
// returns an error that says which.
func (p *connections) begin(ctx context.Context) (*call, error) {
	if c := p.ready(ctx); c != nil {
		return c, nil
	}
	for {
		changed, err := p.want()
		if err != nil {
			return nil, err
		}
		if c := p.ready(ctx); c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, p.unavailable(ctx)
		case <-p.closing.Done():
			return nil, ErrClosed
		}
	}
}

// ready starts a call if there is a connection: on the first that has not its share of calls yet, since those that share a
// connection share its system calls, or else on the next in turn.
func (p *connections) ready(ctx context.Context) *call {
	for i := range p.slots {
		if conn := p.slots[i].Load(); conn != nil && conn.users.Load() <= callsPerConnection && conn.enter() {
			return &call{Context: ctx, conn: conn}
		}
	}
	turn := int(p.turn.Add(1) % uint32(len(p.slots)))
	for i := range p.slots {
		if conn := p.slots[(turn+i)%len(p.slots)].Load(); conn != nil && conn.enter() {
			return &call{Context: ctx, conn: conn}
		}
	}
	return nil
}

// want sees to it that all slots are connected or being connected, and returns what tells when that has changed.
func (p *connections) want() (changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil {
		return nil, ErrClosed
	}
	for slot := range p.slots {
		if p.slots[slot].Load() == nil {
			p.connectLocked(slot, 0)
		}
	}
	return p.changed, nil
}

// unavailable says why there is no connection, as far as that is known.
func (p *connections) unavailable(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure != nil {
		return p.failure
	}
	return context.Cause(ctx)
}

func (p *connections) connectLocked(slot int, after time.Duration) {
	if p.connecting[slot] || p.closing.Err() != nil {
		return
	}
	p.connecting[slot] = true
	p.work.Go(func() { p.connect(slot, after) })
}

// connect fills the slot, however long that takes.
func (p *connections) connect(slot int, wait time.Duration) {
	for {
		select {
		case <-time.After(wait):
		case <-p.closing.Done():
			return
		}
		conn, err := p.dial(slot)
		if p.connected(slot, conn, err) {
			return
		}
		wait = min(max(2*wait, shortestReconnectWait), longestReconnectWait)
	}
}

// dial makes a client and lets it find the node. That cannot be interrupted, and takes at most the gossip time-out for each
// node, twice that where there are several.
func (p *connections) dial(slot int) (*connection, error) {
	conn := &connection{pool: p, slot: slot}
	config := p.config
	config.Logger = conn.log
	client, err := esdb.NewClient(&config)
	if err != nil {
		return nil, err
	}
	// The version comes with the connection; nobody else is in the client yet, so that it can be closed if there is none.
	if _, err := client.GetServerVersion(); err != nil {
		_ = client.Close() // never fails
		return nil, err
	}
	conn.client = client
	conn.since = time.Now()
	conn.users.Store(1)
	return conn, nil
}

// connected takes note of an attempt to connect and reports whether it was the last.
func (p *connections) connected(slot int, conn *connection, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.failure == nil && p.closing.Err() == nil {
			p.logger.Warn("the event store cannot be reached", "error", err)
		}
		p.failure = fmt.Errorf("%v", err) // without the library's type
		return p.closing.Err() != nil
	}
	if p.failure != nil {
		p.logger.Info("the event store can be reached")
	}
	p.failure = nil
	p.connecting[slot] = false
	p.work.Add(1) // until the connection is closed
	if p.closing.Err() != nil {
		conn.release()
		return true
	}
	p.slots[slot].Store(conn)
	p.metrics.connections.Inc()
	close(p.changed)
	p.changed = make(chan struct{})
	return true
}

// shut ends the wait for connections, retires those there are, and waits until all of them are closed.
func (p *connections) shut() {
	p.mu.Lock()
	p.close()
	p.mu.Unlock()
	for slot := range p.slots {
		if conn := p.slots[slot].Load(); conn != nil {
			conn.retire()
		}
	}
	p.work.Wait()
}

// enter holds the connection for a call that is on its way into the client, unless the connection is retired.
func (c *connection) enter() bool {
	c.entering.RLock()
	if c.retired {
		c.entering.RUnlock()
		return false
	}
	c.users.Add(1)
	return true
}

// retire lets nobody into the client any more, and has the connection replaced. Calls that are in the client go on.
func (c *connection) retire() {
	c.entering.Lock()
	before := c.retired
	c.retired = true
	c.entering.Unlock()
	if before {
		return
	}
	p := c.pool
	p.mu.Lock()
	p.slots[c.slot].Store(nil)
	p.metrics.connections.Dec()
	if p.closing.Err() == nil {
		p.metrics.reconnects.Inc()
	}
	wait := time.Duration(0)
	if time.Since(c.since) < longestReconnectWait {
		wait = shortestReconnectWait
	}
	p.connectLocked(c.slot, wait)
	p.mu.Unlock()
	c.release()
}

// release gives up one hold. The last one closes the client, in which nobody is then.
func (c *connection) release() {
	if c.users.Add(-1) == 0 {
		_ = c.client.Close() // never fails
		c.pool.work.Done()
	}
}

// handlingError is what the client logs, in the goroutine of the call, before it takes leave of its connection because of
// the error that the call has met. It takes leave of one without that word only when a node answers that it is not the leader,
// which it answers to those who ask for the leader, and the client never sends that.
const handlingError = "unexpected exception: %v"

// log receives what the client logs.
func (c *connection) log(level esdb.LogLevel, format string, args ...any) {
	if format == handlingError && len(args) == 1 {
		if err, ok := args[0].(error); ok && status.Code(err) == codes.Unavailable {
			c.retire()
		}
	}
	if logger := c.pool.logger; logger.Enabled(c.pool.closing, slog.LevelDebug) {
		logger.Debug("event store client: "+fmt.Sprintf(format, args...), "level", level)
	}
}
