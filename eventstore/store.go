package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// Options say which event store, and how to use it.
type Options struct {
	// ConnectionString is that of EventStoreDB: esdb://host:port?tls=false, esdb://user:password@host1,host2,host3, or
	// esdb+discover://name. maxDiscoverAttempts and discoveryInterval have no effect, since a store never gives up; a
	// defaultDeadline is the default of Timeout; gossipTimeout is never longer than Timeout. nodePreference is for what may be a
	// little behind: [Store.Subscribe], [Store.End] and [Store.LoadCheckpoint]. All else is asked of the leader.
	ConnectionString string
	// Connections is the number of connections to a server, of which one is filled before the next; 0 is [DefaultConnections]. A
	// server accepts about a hundred calls at a time on each, subscriptions and reads in progress included; more of them wait.
	Connections int
	// Timeout bounds an append with all its tries, a ping, and in a read or at the start of a subscription the wait for what
	// comes next; 0 is [DefaultTimeout].
	Timeout time.Duration
	// Logger hears of outages and of events that cannot be decoded; nil discards.
	Logger *slog.Logger
}

// Store is an event store. Goroutines may share it. It is a [prometheus.Collector] of what it counts.
type Store struct {
	connections *connections
	codec       codec
	timeout     time.Duration
	logger      *slog.Logger
	metrics     *metrics
}

// Open makes a store of the options and connects at its first use. An error says what is wrong with the options.
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

	m := newMetrics()
	return &Store{
		connections: newConnections(connections, config, logger, m),
		codec:       newCodec(),
		timeout:     timeout,
		logger:      logger,
		metrics:     m,
	}, nil
}

// settings are the keys of a connection string that the library knows, in lower case.
var settings = [...]string{
	"defaultdeadline", "discoveryinterval", "gossiptimeout", "keepaliveinterval", "keepalivetimeout", "maxdiscoverattempts",
	"nodepreference", "tls", "tlscafile", "tlsverifycert", "usercertfile", "userkeyfile",
}

// parseConnectionString leaves out what other clients' connection strings may have and the library does not know: it would
// say so on the standard logger.
func parseConnectionString(s string, logger *slog.Logger) (*esdb.Configuration, error) {
	base, query, _ := strings.Cut(s, "?")
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
	// The library takes a malformed deadline for none at all, and then every call is too late.
	if config.DefaultDeadline != nil && *config.DefaultDeadline <= 0 {
		return nil, errors.New("defaultDeadline must be a positive number of milliseconds")
	}
	if config.DisableTLS && config.Username != "" {
		logger.Warn("the event store's connection string has a user, who is named to the event store over TLS only")
	}
	return config, config.Validate()
}

// Close ends subscriptions, reads and waits for a connection with [ErrClosed], lets appends that have been sent be answered
// or time out, and closes the connections when everybody has left. It may be called more than once, and not from within a
// loop over a read or a subscription, for which it would wait.
func (s *Store) Close() error {
	s.connections.shut()
	return nil
}

// Ping asks the event store for the end of its log, in a cluster the leader, without whom no command can be carried out. It
// returns nil if that was answered within the time-out, [ErrUnavailable] if it was not, and otherwise ctx's error,
// [*Refused], [ErrClosed], or what the event store refused it with.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.end(ctx, s.connections.leader); err != nil {
		return fmt.Errorf("ping the event store: %w", err)
	}
	return nil
}
