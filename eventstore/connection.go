package eventstore

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// The wait after a failed attempt to connect or to find a member of a cluster doubles from the first to the second. A member that
// has been in use for less than the second is replaced only after the first.
const (
	shortestReconnectWait = 50 * time.Millisecond
	longestReconnectWait  = 250 * time.Millisecond
)

// memberWait bounds the wait for a connection to a member that the cluster has named: it may have died since.
const memberWait = time.Second

// callsPerConnection is how many calls a connection carries before the next one is used. Calls that share a connection share its
// system calls: on two cores, 16 goroutines that append to an in-process node, with a call for each append, use 76 µs of processor time an append on one
// connection, 93 µs on two and 106 µs on four. But a server accepts only about a hundred calls on each.
const callsPerConnection = 64

// maxReceiveBytes is the size of the largest message that is received, as in the official client.
const maxReceiveBytes = 17 << 20

// connections are those to one event store. Goroutines may share it.
//
// They are plain gRPC connections, made from the official client's configuration and used with its generated code. An [esdb.Client]
// would not do: when the leader of a cluster moves, it follows before it answers its caller, and blocks all other callers meanwhile
// regardless of their contexts, some of them forever if the new leader cannot be reached.
type connections struct {
	config  *esdb.Configuration
	size    int // connections to a member
	dial    func(ctx context.Context, address string) (net.Conn, error)
	options []grpc.DialOption
	logger  *slog.Logger
	metrics *metrics

	// leader is for calls that commands depend on, lists for calls whose answer may be a little behind. In a cluster they may be two
	// members.
	leader, lists endpoint

	outage, refused *Trouble

	log log // the leader's

	// closing ends when the store is closed.
	closing context.Context
	close   context.CancelFunc
	// work counts searches for a member and open connections.
	work sync.WaitGroup
}

func newConnections(n int, config *esdb.Configuration, dial func(context.Context, string) (net.Conn, error), logger *slog.Logger, m *metrics) *connections {
	p := &connections{
		config:  config,
		size:    n,
		dial:    dial,
		options: dialOptions(config, dial),
		logger:  logger,
		metrics: m,
		outage:  NewTrouble(logger, slog.LevelWarn, "the event store is not available", "the event store is available"),
		refused: NewTrouble(logger, slog.LevelError, "the event store refuses what it is asked", ""),
	}
	p.closing, p.close = context.WithCancel(context.Background())
	leads := &route{connections: p, preference: esdb.NodePreferenceLeader, leads: true, found: make(chan struct{})}
	follows := leads
	if p.clustered() {
		follows = &route{connections: p, preference: config.NodePreference, found: make(chan struct{})}
	}
	p.leader, p.lists = endpoint{leads, true}, endpoint{follows, false}
	return p
}

// clustered reports whether the connection string names a cluster, whose members are found by gossip, rather than a single server.
func (p *connections) clustered() bool { return p.config.DnsDiscover || len(p.config.GossipSeeds) > 0 }

func dialOptions(config *esdb.Configuration, dial func(context.Context, string) (net.Conn, error)) []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceiveBytes)),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: shortestReconnectWait, Multiplier: 2, Jitter: 0.2, MaxDelay: longestReconnectWait},
			MinConnectTimeout: time.Duration(config.GossipTimeout) * time.Second,
		}),
	}
	if config.KeepAliveInterval >= 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: config.KeepAliveInterval, Timeout: config.KeepAliveTimeout, PermitWithoutStream: true,
		}))
	}
	return append(options, grpc.WithTransportCredentials(transport(config)))
}

func transport(config *esdb.Configuration) credentials.TransportCredentials {
	if config.DisableTLS {
		return insecure.NewCredentials()
	}
	tlsConfig := &tls.Config{RootCAs: config.RootCAs, InsecureSkipVerify: config.SkipCertificateVerification}
	if config.UserCertFile != "" {
		// Loaded for each connection, so that the files can be renewed.
		tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(config.UserCertFile, config.UserKeyFile)
			return &certificate, err
		}
	}
	return credentials.NewTLS(tlsConfig)
}

// userAndPassword are sent with each call, but only over TLS.
type userAndPassword struct{ user, password string }

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (c userAndPassword) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.password))}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (userAndPassword) RequireTransportSecurity() bool { return true }

// shutdown fails all who wait for a connection, and waits until the connections are closed: each is when its last call has ended.
func (p *connections) shutdown() {
	p.close()
	p.leader.shutdown()
	p.lists.shutdown()
	p.work.Wait()
}

// endpoint is where calls of one kind go.
type endpoint struct {
	*route
	requiresLeader bool
}

// route finds a member of a cluster and remembers it. Without a cluster the only server is the member.
type route struct {
	*connections
	preference esdb.NodePreference
	leads      bool // only the leader will do

	current atomic.Pointer[member] // nil during a search

	mu        sync.Mutex
	searching bool
	previous  *member       // during a search: kept open, since it may be found again
	foundAt   time.Time     // when the current member was found
	found     chan struct{} // closed, and replaced, when one is found
	failure   error         // of the last attempt to find one; nil if it succeeded
}

// call is one call to a member. end or done must be called when nothing of the call is used any longer.
type call struct {
	context.Context
	streams.StreamsClient
	cancel     context.CancelFunc
	member     *member
	connection *connection
	trailer    metadata.MD // set when the call has ended
}

// requiresLeader is the metadata of a call that members other than the leader refuse.
var requiresLeader = metadata.Pairs("requires-leader", "true")

// acquire returns the member for a call, with a reference. While no member is known it waits for one, until ctx ends or the store is
// closed; the error says why there is none.
func (e endpoint) acquire(ctx context.Context) (*member, error) {
	for {
		if m := e.current.Load(); m != nil && m.acquire() {
			if on, ok := ctx.Value(incarnationKey{}).(Incarnation); ok && e.leads && on != m.incarnation {
				m.release()
				return nil, &refusal{ErrReplaced}
			}
			return m, nil
		}
		found, err := e.ensureSearch()
		if err != nil {
			return nil, err
		}
		if e.current.Load() != nil { // found in the meantime, and the channel is for the next search
			continue
		}
		select {
		case <-found:
		case <-ctx.Done():
			return nil, e.unavailable(ctx)
		case <-e.closing.Done():
			return nil, ErrClosed
		}
	}
}

// begin starts a call. Its errors are those of acquire.
func (e endpoint) begin(ctx context.Context) (*call, error) {
	m, err := e.acquire(ctx)
	if err != nil {
		return nil, err
	}
	return e.call(ctx, m), nil
}

// call starts a call to the member, to which the caller has a reference.
func (e endpoint) call(ctx context.Context, m *member) *call {
	c := &call{member: m, connection: m.connection()}
	c.StreamsClient = streams.NewStreamsClient(c.connection)
	c.Context, c.cancel = context.WithCancel(ctx)
	if e.requiresLeader {
		c.Context = metadata.NewOutgoingContext(c.Context, requiresLeader)
	}
	return c
}

// trailers is the call option that stores the trailers.
func (c *call) trailers() grpc.CallOption { return grpc.Trailer(&c.trailer) }

// end ends the call.
func (c *call) end() {
	c.cancel()
	c.connection.calls.Add(-1)
}

// done ends the call and gives back the reference to the member.
func (c *call) done() {
	c.end()
	c.member.release()
}

// failed is [member.failed] of the call.
func (c *call) failed(err error) error { return c.member.failed(err, c.trailer) }

// answered ends the outage or refusal that may have been logged: the event store has answered normally.
func (m *member) answered() {
	m.route.outage.Over()
	m.route.refused.Over()
}

// ensureSearch starts a search unless there is a member or a search is under way. The channel is closed when a member is found.
func (r *route) ensureSearch() (found <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing.Err() != nil {
		return nil, ErrClosed
	}
	if r.current.Load() == nil {
		r.searchLocked("", 0)
	}
	return r.found, nil
}

// unavailable says why there is no member, as far as that is known.
func (r *route) unavailable(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return r.failure
	}
	return context.Cause(ctx)
}

// drop makes later calls go to another member than m: the one at the address if that is given, or else the one that a search finds.
// Calls to m go on.
func (r *route) drop(m *member, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.Load() != m || r.closing.Err() != nil {
		return
	}
	r.current.Store(nil)
	r.previous = m
	wait := time.Duration(0)
	if time.Since(r.foundAt) < longestReconnectWait {
		wait = shortestReconnectWait
	}
	r.searchLocked(address, wait)
}

func (r *route) searchLocked(address string, wait time.Duration) {
	if r.searching {
		return
	}
	r.searching = true
	previous := r.previous
	r.work.Go(func() { r.search(previous, address, wait) })
}

// search finds a member, however long that takes. It begins after the wait, at the address if that is given.
func (r *route) search(previous *member, address string, wait time.Duration) {
	waits := NewBackOff(shortestReconnectWait, longestReconnectWait)
	for {
		select {
		case <-time.After(wait):
		case <-r.closing.Done():
		}
		m, err := r.find(previous, address)
		if r.conclude(m, err) {
			return
		}
		address = ""
		wait = waits.NextBackOff()
	}
}

// find is one attempt to find a member that can be reached. Without a cluster the server need not be reachable: its calls try that.
func (r *route) find(previous *member, address string) (*member, error) {
	if address != "" {
		if m, err := r.connect(previous, address); err == nil {
			return m, nil
		}
	}
	if !r.clustered() {
		return r.open(previous, r.config.Address)
	}
	address, err := r.discover()
	if err != nil {
		return nil, err
	}
	return r.connect(previous, address)
}

// conclude takes the result of an attempt to find a member, and reports whether the search is over.
func (r *route) conclude(m *member, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := r.closing.Err() != nil
	if err != nil && !ended {
		r.outage.Failed(err)
		r.failure = err
		return false
	}
	if r.previous != nil && r.previous != m {
		r.previous.release()
	}
	r.previous, r.failure, r.searching = nil, nil, false
	if ended {
		if m != nil {
			m.release()
		}
		return true
	}
	if r.clustered() || m.address != r.config.Address {
		r.logger.Info("the event store is called at a member of its cluster", "member", m.address, "leads", r.leads)
	}
	r.foundAt = time.Now()
	r.current.Store(m)
	close(r.found)
	r.found = make(chan struct{})
	return true
}

// shutdown gives up the member. Calls to it go on.
func (r *route) shutdown() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.current.Swap(nil); m != nil {
		m.release()
	}
}

// member is a server and the connections to it. Its references are counted; releasing the last one closes the connections.
type member struct {
	route       *route
	address     string
	incarnation Incarnation // of the log that its calls are for
	connections []*connection
	next        atomic.Uint32 // connection to use when all carry their share of calls
	references  atomic.Int64  // one for each call or append, and one for the route

	batches       atomic.Pointer[batchCall] // nil while there is none
	appendsSingly atomic.Bool               // BatchAppend is not offered
	opening       chan struct{}             // held by whoever finds out, and opens the call
}

// connection is one gRPC connection, which reconnects by itself.
type connection struct {
	*grpc.ClientConn
	calls atomic.Int64
}

// open makes a member for the address, or returns the previous one if that is the same. It connects at its first use.
func (r *route) open(previous *member, address string) (*member, error) {
	incarnation := r.log.current()
	if previous != nil && previous.address == address && previous.incarnation == incarnation &&
		previous.connections[0].GetState() != connectivity.TransientFailure {
		return previous, nil
	}
	m := &member{route: r, address: address, incarnation: incarnation, opening: make(chan struct{}, 1)}
	m.references.Store(1)
	options := r.authenticated()
	if r.leads {
		options = append(options, grpc.WithContextDialer(m.dial))
	}
	for range r.size {
		conn, err := grpc.NewClient(address, options...)
		if err != nil {
			m.release()
			return nil, err
		}
		m.connections = append(m.connections, &connection{ClientConn: conn})
		r.work.Go(func() { r.observe(conn) })
	}
	return m, nil
}

// authenticated are the dial options of connections whose calls name the user.
func (p *connections) authenticated() []grpc.DialOption {
	options := slices.Clone(p.options)
	if !p.config.DisableTLS && p.config.Username != "" {
		options = append(options, grpc.WithPerRPCCredentials(userAndPassword{p.config.Username, p.config.Password}))
	}
	return options
}

// connect opens a member and waits until it is connected.
func (r *route) connect(previous *member, address string) (*member, error) {
	m, err := r.open(previous, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.closing, memberWait)
	defer cancel()
	conn := m.connections[0]
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			if m != previous {
				m.release()
			}
			return nil, fmt.Errorf("member %s of the cluster cannot be reached", address)
		}
		conn.Connect() // it may have become idle
	}
	return m, nil
}

// observe counts a connection in the metrics, until it is closed.
func (p *connections) observe(conn *grpc.ClientConn) {
	up := false
	for state := conn.GetState(); ; state = conn.GetState() {
		switch {
		case !up && state == connectivity.Ready:
			up = true
			p.metrics.connections.Inc()
		case up && state != connectivity.Ready:
			up = false
			p.metrics.connections.Dec()
			if state != connectivity.Shutdown {
				p.metrics.reconnects.Inc()
			}
		}
		if state == connectivity.Shutdown {
			return
		}
		conn.WaitForStateChange(context.Background(), state)
	}
}

// connection picks the connection for the next call: the first that carries less than its share of calls or, if there is none, the
// next in turn.
func (m *member) connection() *connection {
	for _, conn := range m.connections {
		if conn.calls.Load() < callsPerConnection {
			conn.calls.Add(1)
			return conn
		}
	}
	conn := m.connections[int(m.next.Add(1)%uint32(len(m.connections)))]
	conn.calls.Add(1)
	return conn
}

// acquire adds a reference, unless the member has been closed.
func (m *member) acquire() bool {
	for {
		n := m.references.Load()
		if n == 0 {
			return false
		}
		if m.references.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back.
func (m *member) release() {
	if m.references.Add(-1) == 0 {
		m.close()
	}
}

// close closes the connections, and so ends the calls on them.
func (m *member) close() {
	for _, conn := range m.connections {
		_ = conn.Close() // fails only if it is closed already
	}
}
