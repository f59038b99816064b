package api

import (
	"context"
	"fmt"
	"iter"
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
	"go.opentelemetry.io/otel/trace"

	"roombook/api/web"
	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/commands/accounts/oidc"
	"roombook/commands/notify"
	"roombook/domain"
	"roombook/eventstore"
)

// Options configure a [Server].
type Options struct {
	// Commands executes commands and reads single resources.
	Commands *commands.Handler
	// Lists queries the read models.
	Lists Lists
	// Streams are those of the event store, to which requests to send a notification again are appended.
	Streams notify.Streams
	// End returns the position of the last event in the log, up to which bookings can be read as they were.
	End func(context.Context) (eventstore.Position, error)
	// ReadBack reads the log backwards, for the audit. The contract is that of [eventstore.Store.ReadBack].
	ReadBack func(ctx context.Context, before eventstore.Position, count uint64) iter.Seq2[eventstore.Recorded, error]
	// Subscribe follows the log, for the stream of changes.
	Subscribe Subscribe
	// OperationsOnly leaves out all routes but those for operators (health, metrics, version), for a process that serves no users. Commands,
	// Lists, Streams, End, ReadBack and Subscribe may then be nil.
	OperationsOnly bool
	// Policy is the policy of Commands. It lets the faults of a slot be reported along with other faults of a body.
	Policy domain.Policy
	// Zone is the time zone of times without an offset in requests, and of all times in replies. Nil is UTC.
	Zone *time.Location
	// Accounts authenticates users. Nil authenticates nobody: everybody may do everything.
	Accounts *accounts.Accounts
	// Provider is the identity provider at which people sign in, and whose access tokens are accepted. It requires Accounts. Nil is sign-in by
	// password.
	Provider *oidc.Provider
	// Privacy decides who sees whom a booking is for; empty is [domain.PrivacyNames]. Without Accounts everybody sees everything.
	Privacy domain.Privacy
	// PublicURLs are addresses of the server, besides the one that a request names, whose pages may send commands.
	PublicURLs []string
	// Hosts are names of the server, without ports, besides those that [Server.allowedHost] lists. Requests for other hosts are refused.
	Hosts []string
	// TrustedProxies are the networks of proxies whose X-Forwarded-* headers are honoured.
	TrustedProxies []netip.Prefix
	// Probes are the components that /readyz checks.
	Probes []Probe
	// Version is the reply of /version.
	Version Version
	// Registry receives the server's metrics, and /metrics exposes it. Nil is a new registry.
	Registry *prometheus.Registry
	// Logger logs requests: failures at Error, temporary ones (503) at Warn, bad requests and executed commands at Info, and everything else
	// at Debug, including requests that find nothing (404) or come too late (409, 412). At Info and above, similar requests share one line
	// per second with their number. Nil discards the log.
	Logger *slog.Logger
	// Tracer traces requests, those for operators excepted. Nil traces nothing.
	Tracer trace.Tracer
	// WithoutMetrics leaves out /metrics, where it is served elsewhere.
	WithoutMetrics bool
	// AccessLog logs every request in a line of its own, at Info or above.
	AccessLog bool
	// Timeout bounds the time for a request, except for an append in progress, which has the event store's timeout. 0 is 10 s.
	Timeout time.Duration
	// MaxCommands bounds the number of concurrent commands, and four times as many queries, and streams of changes. Requests beyond it are refused at once. 0 is 512.
	MaxCommands int
	// MaxConnections bounds the number of connections that Run keeps open. 0 is 10,000.
	MaxConnections int
	// DrainTimeout bounds how long Run waits for requests in progress when it ends. 0 is 10 s more than Timeout.
	DrainTimeout time.Duration
}

// The limits of a connection. The time for a whole request is Options.Timeout.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second // header and body
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	maxBodyBytes   = 64 << 10
)

// Server serves the API over HTTP. It is an [http.Handler]; [Server.Run] serves it on a listener. It is safe for concurrent use.
type Server struct {
	commands       *commands.Handler
	lists          *withheld
	streams        notify.Streams
	feeds          feedTags
	end            func(context.Context) (eventstore.Position, error)
	readBack       func(ctx context.Context, before eventstore.Position, count uint64) iter.Seq2[eventstore.Recorded, error]
	policy         domain.Policy
	zone           *time.Location
	accounts       *accounts.Accounts
	provider       *oidc.Provider
	crossOrigin    *http.CrossOriginProtection
	hosts          []string
	proxies        []netip.Prefix
	probes         []Probe
	version        Version
	registry       *prometheus.Registry
	log            *slog.Logger
	tracer         trace.Tracer
	withoutMetrics bool
	operationsOnly bool
	accessLog      bool
	timeout        time.Duration
	drain          time.Duration
	maxConnections int

	outages        outages
	logSampler     logSampler
	router         *mux.Router
	pages          *web.Pages
	pageRouter     *mux.Router
	notFound       *endpoint
	misdirected    *endpoint
	redirect       *endpoint
	metrics        *metrics
	queryLimit     *limit
	commandLimit   *limit
	uploadLimit    *limit
	streamLimit    *limit
	streamCheck    time.Duration
	changes        *changes
	keys           keys
	exchanges      sync.Pool // of *exchange, with their buffers
	draining       atomic.Bool
	anyAddress     atomic.Bool     // the listener is bound to all addresses of the machine
	requests       context.Context // parent of the contexts of requests
	cancelRequests context.CancelFunc
}

// New returns a server. It does not start anything.
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
	if o.Accounts == nil {
		o.Privacy = domain.PrivacyNames
	}
	s := &Server{
		commands:       o.Commands,
		lists:          &withheld{o.Lists, o.Commands, o.Privacy},
		streams:        o.Streams,
		feeds:          newFeedTags(),
		end:            o.End,
		readBack:       o.ReadBack,
		policy:         o.Policy,
		zone:           o.Zone,
		accounts:       o.Accounts,
		provider:       o.Provider,
		crossOrigin:    newCrossOrigin(o.PublicURLs),
		hosts:          o.Hosts,
		proxies:        o.TrustedProxies,
		probes:         o.Probes,
		version:        o.Version,
		registry:       o.Registry,
		log:            o.Logger,
		tracer:         o.Tracer,
		withoutMetrics: o.WithoutMetrics,
		accessLog:      o.AccessLog,
		logSampler:     logSampler{log: o.Logger},
		keys:           keys{inUse: make(map[uuid.UUID]chan struct{})},
		timeout:        o.Timeout,
		drain:          o.DrainTimeout,
		maxConnections: o.MaxConnections,
		metrics:        newMetrics(o.Registry),
	}
	s.requests, s.cancelRequests = context.WithCancel(context.Background())
	s.commandLimit = s.metrics.limit("command", o.MaxCommands)
	s.queryLimit = s.metrics.limit("query", queriesPerCommand*o.MaxCommands)
	s.uploadLimit = s.metrics.limit("upload", maxUploads)
	s.streamLimit = s.metrics.limit("stream", queriesPerCommand*o.MaxCommands)
	s.streamCheck = streamCheck
	s.changes = newChanges(o)
	s.router = s.routes(o.OperationsOnly)
	pages := web.Options{Commands: o.Commands, Bookings: s.lists, Lists: s.lists, Accounts: o.Accounts, Problem: problemTypeOf, Zone: o.Zone}
	if s.accounts != nil {
		pages.Name = s.accounts.Name
	}
	s.pages = web.New(pages)
	s.pageRouter = s.pageRoutes(o.OperationsOnly)
	s.notFound = s.unrouted(func(*exchange) error { return errNoSuchPath })
	s.misdirected = s.unrouted(func(*exchange) error { return errMisdirected })
	s.redirect = s.unrouted(redirectWithoutSlash)
	return s
}

// Run serves on the listener, which it closes, until ctx ends. Then it accepts no more connections, makes /readyz fail, and waits for the
// requests in progress. It returns nil once they are done, or an error if that takes longer than Options.DrainTimeout.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if at, ok := l.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		s.anyAddress.Store(true)
	}
	connections := newConnections(l, s.maxConnections)
	server := &http.Server{
		Handler:           s,
		ConnState:         connections.track,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + s.timeout + 5*time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	var following sync.WaitGroup
	following.Go(func() { s.changes.run(ctx) })
	defer following.Wait()
	served := make(chan error, 1)
	go func() { served <- server.Serve(connections) }()
	select {
	case err := <-served:
		stop()
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}

	defer s.logSampler.flush()
	s.draining.Store(true)
	connections.expireNewConnections()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	err := server.Shutdown(bound)
	<-served
	if err != nil {
		s.cancelRequests()
		server.Close()
		return fmt.Errorf("requests were cut off that took longer than %s to finish: %w", s.drain, err)
	}
	return nil
}
