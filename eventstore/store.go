package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// Defaults of [Options].
const (
	DefaultConnections = 4
	DefaultTimeout     = 5 * time.Second
)

// Options configure a [Store].
type Options struct {
	// ConnectionString is that of EventStoreDB: esdb://host:port?tls=false, esdb://user:password@host1,host2,host3, or
	// esdb+discover://name. maxDiscoverAttempts and discoveryInterval have no effect, since a store never gives up;
	// defaultDeadline is the default of Timeout; gossipTimeout is never longer than Timeout. nodePreference applies to what may be a
	// little behind: [Store.Subscribe], [Store.End] and [Store.LoadCheckpoint]. All else is asked of the leader.
	ConnectionString string
	// Connections is the number of connections to a server, of which one is filled before the next is used; 0 is
	// [DefaultConnections]. A server accepts about a hundred calls at a time on each, subscriptions and reads in progress included;
	// further calls wait.
	Connections int
	// Timeout bounds an append with all its tries, a ping, and the wait for each event of a read and for the start of a subscription;
	// 0 is [DefaultTimeout].
	Timeout time.Duration
	// Dial, if not nil, connects to the server that ConnectionString names, in place of its address. It is not for clusters.
	Dial func(context.Context) (net.Conn, error)
	// Logger is told of outages and of events that cannot be decoded; nil discards.
	Logger *slog.Logger
}

// Store is an event store. Goroutines may share it. It is a [prometheus.Collector] of its metrics.
type Store struct {
	connections *connections
	codec       codec
	timeout     time.Duration
	logger      *slog.Logger
	metrics     *metrics
}

// Open returns a store, which connects at its first use. The error says what is wrong with the options.
func Open(o Options) (*Store, error) {
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	config, err := parseConnectionString(o.ConnectionString, logger)
	if err != nil {
		return nil, fmt.Errorf("event store connection string: %w", err)
	}
	if o.Connections < 0 || o.Timeout < 0 {
		return nil, errors.New("event store: connections and timeout must not be negative")
	}
	timeout := o.Timeout
	if timeout == 0 && config.DefaultDeadline != nil {
		timeout = *config.DefaultDeadline
	}
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	connections := o.Connections
	if connections == 0 {
		connections = DefaultConnections
	}
	config.GossipTimeout = max(1, min(config.GossipTimeout, int(timeout.Seconds())))

	dial := func(ctx context.Context, address string) (net.Conn, error) {
		if o.Dial != nil {
			return o.Dial(ctx)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	m := newMetrics()
	return &Store{
		connections: newConnections(connections, config, dial, logger, m),
		codec:       newCodec(),
		timeout:     timeout,
		logger:      logger,
		metrics:     m,
	}, nil
}

// settings are the keys of a connection string that the client library knows, in lower case.
var settings = [...]string{
	"defaultdeadline", "discoveryinterval", "gossiptimeout", "keepaliveinterval", "keepalivetimeout", "maxdiscoverattempts",
	"nodepreference", "tls", "tlscafile", "tlsverifycert", "usercertfile", "userkeyfile",
}

// parseConnectionString drops the settings that only other clients know: the library would complain on the standard logger.
func parseConnectionString(s string, logger *slog.Logger) (*esdb.Configuration, error) {
	base, query, _ := strings.Cut(s, "?")
	if !strings.Contains(base, "://") { // the library would find something else wrong with it
		return nil, errors.New("esdb:// is missing in front of the address")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	for key := range values {
		if !slices.Contains(settings[:], strings.ToLower(key)) {
			logger.Warn("the event store's connection string has a setting that has no effect", "setting", key)
			values.Del(key)
		}
	}
	if len(values) > 0 {
		base += "?" + values.Encode()
	}
	config, err := esdb.ParseConnectionString(base)
	if err != nil {
		return nil, err
	}
	// The library makes no time at all of a malformed deadline, so that every call would be too late.
	if config.DefaultDeadline != nil && *config.DefaultDeadline <= 0 {
		return nil, errors.New("defaultDeadline must be a positive number of milliseconds")
	}
	if config.DisableTLS && config.Username != "" {
		logger.Warn("the event store's connection string has a user, who is named to the event store over TLS only")
	}
	return config, config.Validate()
}

// Close ends subscriptions, consumers, reads and waits for a connection with [ErrClosed], lets handlers of consumers return and appends that
// have been sent be answered or time out, and returns when all connections are closed. It may be called more than once, but not from within
// a loop over a read or a subscription, or a handler, for which it would wait.
func (s *Store) Close() error {
	s.connections.shutdown()
	return nil
}

// Ping asks the event store for the end of its log, in a cluster the leader, without which no command can be carried out. Its errors are
// those of [Store.ReadStream].
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.end(ctx, s.connections.leader); err != nil {
		return fmt.Errorf("ping the event store: %w", err)
	}
	return nil
}
