package eventstore

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
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

// How long to wait after a failed attempt to connect, or to find a member of a cluster: the first at first, then twice as long
// each time, up to the second. A member that served for less than the second is left for another only after the first.
const (
	shortestReconnectWait = 50 * time.Millisecond
	longestReconnectWait  = 250 * time.Millisecond
)

// memberWait bounds how long a member that a cluster has named is waited for: it may have died since.
const memberWait = time.Second

// callsPerConnection is how many calls a connection has before the next one is used. Calls that share a connection share its
// system calls: on two cores, 16 goroutines that append to an in-process node use 76 µs of processor time an append on one
// connection, 93 µs on two and 106 µs on four. But a server accepts only about a hundred calls on each.
const callsPerConnection = 64

// maxReceiveBytes is the largest message that is received, as in the official client.
const maxReceiveBytes = 17 << 20

// connections are those to one event store. Goroutines may share it.
//
// They are gRPC connections of this package, made from the official client's configuration and used with its generated code,
// rather than an [esdb.Client]: that follows a cluster's leader before its caller hears of it, and meanwhile holds up all
// others without regard to their contexts, some of them for ever if the new leader cannot be reached.
type connections struct {
	config  *esdb.Configuration
	size    int // connections to a member
	options []grpc.DialOption
	logger  *slog.Logger
	metrics *metrics

	// leader is the way of calls that commands rest on, lists that of calls whose answer may be a little behind: in a cluster they lead
	// to two members at times.
	leader, lists way

	away, refused *Trouble

	log log // that the leader has

	// closing ends when the store is closed.
	closing context.Context
	close   context.CancelFunc
	// work counts what runs or is open: goroutines that look for a member, and connections.
	work sync.WaitGroup
}

func newConnections(n int, config *esdb.Configuration, logger *slog.Logger, m *metrics) *connections {
	p := &connections{
		config:  config,
		size:    n,
		options: dialOptions(config),
		logger:  logger,
		metrics: m,
		away:    NewTrouble(logger, slog.LevelWarn, "the event store is not available", "the event store is available"),
		refused: NewTrouble(logger, slog.LevelError, "the event store refuses what it is asked", ""),
	}
	p.closing, p.close = context.WithCancel(context.Background())
	leads := &route{connections: p, preference: esdb.NodePreferenceLeader, leads: true, changed: make(chan struct{})}
	follows := leads
	if p.clustered() {
		follows = &route{connections: p, preference: config.NodePreference, changed: make(chan struct{})}
	}
	p.leader, p.lists = way{leads, true}, way{follows, false}
	return p
}

// clustered reports whether the connection string names a cluster, which tells where its members are, rather than a server.
func (p *connections) clustered() bool { return p.config.DnsDiscover || len(p.config.GossipSeeds) > 0 }

func dialOptions(config *esdb.Configuration) []grpc.DialOption {
	options := []grpc.DialOption{
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
	settings := &tls.Config{RootCAs: config.RootCAs, InsecureSkipVerify: config.SkipCertificateVerification}
	if config.UserCertFile != "" {
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // so that it can be renewed
			certificate, err := tls.LoadX509KeyPair(config.UserCertFile, config.UserKeyFile)
			return &certificate, err
		}
	}
	return credentials.NewTLS(settings)
}

// userAndPassword are sent with each call, over TLS only.
type userAndPassword struct{ user, password string }

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (c userAndPassword) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.password))}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (userAndPassword) RequireTransportSecurity() bool { return true }

// shut ends the wait for connections and waits until all of them are closed, which they are when nobody uses them any more.
func (p *connections) shut() {
	p.close()
	p.leader.shut()
	p.lists.shut()
	p.work.Wait()
}

// way is how calls of a kind go.
type way struct {
	*route
	requiresLeader bool
}

// route leads to a member of a cluster, or to the only server there is.
type route struct {
	*connections
	preference esdb.NodePreference
	leads      bool // to the leader, and to nobody if there is none

	at atomic.Pointer[member] // nil while it is being looked for

	mu      sync.Mutex
	looking bool
	last    *member       // held, for the case that it is found again
	since   time.Time     // when the member was found
	changed chan struct{} // closed, and replaced, when one is found
	failure error         // why none was found last; nil if one was
}

// call is one call of a member: its context and its hold on the connection, to be given back by done when nothing of the
// call is used any longer.
type call struct {
	context.Context
	streams.StreamsClient
	cancel     context.CancelFunc
	route      *route
	member     *member
	connection *connection
	trailer    metadata.MD // once the call has ended
}

// requiresLeader is the metadata of a call that a member which is not the leader refuses.
var requiresLeader = metadata.Pairs("requires-leader", "true")

// begin starts a call. While there is no member to call it waits until there is, until ctx ends, or until the store is closed,
// and returns an error that says which.
func (r way) begin(ctx context.Context) (*call, error) {
	for {
		if m := r.at.Load(); m != nil && m.enter() {
			if on, ok := ctx.Value(incarnationKey{}).(Incarnation); ok && r.leads && on != m.incarnation {
				m.release()
				return nil, &refusal{ErrReplaced}
			}
			c := &call{route: r.route, member: m, connection: m.connection()}
			c.StreamsClient = streams.NewStreamsClient(c.connection)
			c.Context, c.cancel = context.WithCancel(ctx)
			if r.requiresLeader {
				c.Context = metadata.NewOutgoingContext(c.Context, requiresLeader)
			}
			return c, nil
		}
		changed, err := r.want()
		if err != nil {
			return nil, err
		}
		if r.at.Load() != nil { // found in the meantime, and changed is for the next one
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, r.unavailable(ctx)
		case <-r.closing.Done():
			return nil, ErrClosed
		}
	}
}

// trailers is the option of a call to learn its trailers.
func (c *call) trailers() grpc.CallOption { return grpc.Trailer(&c.trailer) }

// done ends the call.
func (c *call) done() {
	c.cancel()
	c.connection.calls.Add(-1)
	c.member.release()
}

// answered takes note that the event store has answered as it should.
func (c *call) answered() {
	c.route.away.Over()
	c.route.refused.Over()
}

// want sees to it that a member is looked for if there is none, and returns what tells when one was found.
func (r *route) want() (changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing.Err() != nil {
		return nil, ErrClosed
	}
	if r.at.Load() == nil {
		r.lookLocked("", 0)
	}
	return r.changed, nil
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

// leave has later calls go to another member than m: to that at an address, if it is given, or to the one that is found. Calls of m go on.
func (r *route) leave(m *member, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.Load() != m || r.closing.Err() != nil {
		return
	}
	r.at.Store(nil)
	r.last = m
	wait := time.Duration(0)
	if time.Since(r.since) < longestReconnectWait {
		wait = shortestReconnectWait
	}
	r.lookLocked(address, wait)
}

func (r *route) lookLocked(address string, wait time.Duration) {
	if r.looking {
		return
	}
	r.looking = true
	last := r.last
	r.work.Go(func() { r.look(last, address, wait) })
}

// look looks for a member, however long that takes, first at an address if one is given.
func (r *route) look(last *member, address string, wait time.Duration) {
	waits := newBackOff(shortestReconnectWait, longestReconnectWait)
	for {
		select {
		case <-time.After(wait):
		case <-r.closing.Done():
		}
		m, err := r.find(last, address)
		if r.found(m, err) {
			return
		}
		address = ""
		wait = waits.NextBackOff()
	}
}

// find is one attempt to find a member that can be reached. The only server there is need not be: it is tried by its calls.
func (r *route) find(last *member, address string) (*member, error) {
	if address != "" {
		if m, err := r.reach(last, address); err == nil {
			return m, nil
		}
	}
	if !r.clustered() {
		return r.open(last, r.config.Address)
	}
	address, err := r.discover()
	if err != nil {
		return nil, err
	}
	return r.reach(last, address)
}

// found takes note of an attempt to find a member and reports whether it was the last.
func (r *route) found(m *member, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := r.closing.Err() != nil
	if err != nil && !ended {
		r.away.Failed(err)
		r.failure = err
		return false
	}
	if last := r.last; last != nil && last != m {
		last.release()
	}
	r.last, r.failure, r.looking = nil, nil, false
	if ended {
		if m != nil {
			m.release()
		}
		return true
	}
	if r.clustered() || m.address != r.config.Address {
		r.logger.Info("the event store is called at a member of its cluster", "member", m.address, "leads", r.leads)
	}
	r.since = time.Now()
	r.at.Store(m)
	close(r.changed)
	r.changed = make(chan struct{})
	return true
}

// shut lets go of the member. Calls of it go on.
func (r *route) shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.at.Swap(nil); m != nil {
		m.release()
	}
}

// member is a server with the connections to it, which are closed when the last who uses it has left.
type member struct {
	route       *route
	address     string
	incarnation Incarnation // of the log that it is called for
	connections []*connection
	turn        atomic.Uint32
	users       atomic.Int64 // calls, and one for the route that leads there
}

// connection is one connection. gRPC replaces it whenever it breaks.
type connection struct {
	*grpc.ClientConn
	calls atomic.Int64
}

// open makes a member, or takes the last one if it is that. It connects at its first use.
func (r *route) open(last *member, address string) (*member, error) {
	incarnation := r.log.current()
	if last != nil && last.address == address && last.incarnation == incarnation && last.connections[0].GetState() != connectivity.TransientFailure {
		return last, nil
	}
	m := &member{route: r, address: address, incarnation: incarnation}
	m.users.Store(1)
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

// authenticated are the options of a connection whose calls are the user's.
func (p *connections) authenticated() []grpc.DialOption {
	options := slices.Clone(p.options)
	if !p.config.DisableTLS && p.config.Username != "" {
		options = append(options, grpc.WithPerRPCCredentials(userAndPassword{p.config.Username, p.config.Password}))
	}
	return options
}

// reach opens a member and waits until it is connected.
func (r *route) reach(last *member, address string) (*member, error) {
	m, err := r.open(last, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.closing, memberWait)
	defer cancel()
	conn := m.connections[0]
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			if m != last {
				m.release()
			}
			return nil, fmt.Errorf("member %s of the cluster cannot be reached", address)
		}
		conn.Connect() // if it has become idle
	}
	return m, nil
}

// observe counts a connection while it is up.
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

// connection is the one for the next call: the first that has not its share of calls yet, since those that share a connection
// share its system calls, or else the next in turn.
func (m *member) connection() *connection {
	for _, conn := range m.connections {
		if conn.calls.Load() < callsPerConnection {
			conn.calls.Add(1)
			return conn
		}
	}
	conn := m.connections[int(m.turn.Add(1)%uint32(len(m.connections)))]
	conn.calls.Add(1)
	return conn
}

// enter holds the member for a call, unless it has been closed.
func (m *member) enter() bool {
	for {
		n := m.users.Load()
		if n == 0 {
			return false
		}
		if m.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives up one hold. The last one closes the connections.
func (m *member) release() {
	if m.users.Add(-1) > 0 {
		return
	}
	for _, conn := range m.connections {
		_ = conn.Close() // fails only if it is closed already
	}
}
