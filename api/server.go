package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

// Options are what a Server is made of.
type Options struct {
	// Commands carries out commands and reads single resources.
	Commands *commands.Handler
	// Lists answers from the read models.
	Lists Lists
	// End is the position of the last event of the log: no booking can be asked for as it was beyond it.
	End func(context.Context) (eventstore.Position, error)
	// OperationsOnly leaves out all routes but those for who runs the server (health, metrics, version): a process that takes no
	// requests of users. Commands and Lists are then not needed.
	OperationsOnly bool
	// Policy is the one that Commands decides by. With it a body that is refused anyway is told of its slot's faults too.
	Policy domain.Policy
	// Zone is the one in which times without an offset are read and all times are answered.
	Zone *time.Location
	// Hosts are the names, without ports, under which the server is asked besides those that [Server.expected] lists. A request for another
	// one is refused.
	Hosts []string
	// TrustedProxies are the networks whose X-Forwarded-* headers are believed.
	TrustedProxies []netip.Prefix
	// Probes are the parts that /readyz asks.
	Probes []Probe
	// Version is what /version says.
	Version Version
	// Registry takes the server's metrics, and /metrics shows all that is in it. Nil is a registry of its own.
	Registry *prometheus.Registry
	// Logger gets a line a request: failures at Error, those that pass (503) at Warn, requests that are wrong and commands that were
	// carried out at Info, and all others at Debug, also those that find nothing (404) or come too late (409, 412). From Info on, requests
	// that are alike have one line a second, with their number. Nil discards.
	Logger *slog.Logger
	// AccessLog gives every request a line of its own, at Info at least.
	AccessLog bool
	// Timeout bounds the answer to a request, but for an append that is under way, which has the event store's time-out; 0 is 10 s.
	Timeout time.Duration
	// MaxCommands bounds how many commands are carried out at a time, and four times that, how many queries; more of them are refused
	// at once. 0 is 512.
	MaxCommands int
	// MaxConnections bounds how many connections Run keeps open. 0 is 10,000.
	MaxConnections int
	// DrainTimeout bounds how long Run waits for requests when it ends; 0 is 10 s more than Timeout.
	DrainTimeout time.Duration
}

// The limits of a connection. What a request may take in all is Options.Timeout.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second // header and body
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	maxBodyBytes   = 64 << 10
)

// Server answers HTTP requests. It is an [http.Handler]; [Server.Run] serves it on a listener.
type Server struct {
	commands  *commands.Handler
	lists     Lists
	end       func(context.Context) (eventstore.Position, error)
	policy    domain.Policy
	zone      *time.Location
	hosts     []string
	proxies   []netip.Prefix
	probes    []Probe
	version   Version
	registry  *prometheus.Registry
	log       *slog.Logger
	accessLog bool
	timeout   time.Duration
	drain     time.Duration
	most      int // connections

	reasons      reasons
	journal      journal
	router       *mux.Router
	nowhere      *endpoint
	misdirected  *endpoint
	redirect     *endpoint
	metrics      *metrics
	queryLimit   *limit
	commandLimit *limit
	keys         keys
	exchanges    sync.Pool // of *exchange, with their buffers
	draining     atomic.Bool
	anyAddress   atomic.Bool     // the listener is at all addresses of the machine
	requests     context.Context // the contexts of requests come from it
	cutOff       context.CancelFunc
}

// New returns a server. It starts nothing.
func New(o Options) *Server {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxCommands == 0 {
		o.MaxCommands = 512
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 10_000
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = o.Timeout + 10*time.Second
	}
	s := &Server{
		commands:  o.Commands,
		lists:     o.Lists,
		end:       o.End,
		policy:    o.Policy,
		zone:      o.Zone,
		hosts:     o.Hosts,
		proxies:   o.TrustedProxies,
		probes:    o.Probes,
		version:   o.Version,
		registry:  o.Registry,
		log:       o.Logger,
		accessLog: o.AccessLog,
		journal:   journal{log: o.Logger},
		keys:      keys{inUse: make(map[uuid.UUID]chan struct{})},
		timeout:   o.Timeout,
		drain:     o.DrainTimeout,
		most:      o.MaxConnections,
		metrics:   newMetrics(o.Registry),
	}
	s.requests, s.cutOff = context.WithCancel(context.Background())
	s.commandLimit = s.metrics.limit("command", o.MaxCommands)
	s.queryLimit = s.metrics.limit("query", queriesPerCommand*o.MaxCommands)
	s.router = s.routes(o.OperationsOnly)
	s.nowhere = s.anywhere(func(*exchange) error { return errNoSuchPath })
	s.misdirected = s.anywhere(func(*exchange) error { return errMisdirected })
	s.redirect = s.anywhere(withoutSlash)
	return s
}

// Run serves on the listener until ctx ends. Then it takes no more connections, says so at /readyz, and returns when the
// requests under way are answered: nil, or an error if that takes longer than Options.DrainTimeout. It closes the listener.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if at, ok := l.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		s.anyAddress.Store(true)
	}
	connections := newConnections(l, s.most)
	server := &http.Server{
		Handler:           s,
		ConnState:         connections.follow,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + s.timeout + 5*time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(connections) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}

	defer s.journal.flush()
	s.draining.Store(true)
	connections.hurry()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	err := server.Shutdown(bound)
	<-served
	if err != nil {
		s.cutOff()
		server.Close()
		return fmt.Errorf("requests were cut off that took longer than %s to finish: %w", s.drain, err)
	}
	return nil
}
