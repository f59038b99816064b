package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"roombook/api"
	"roombook/commands"
	"roombook/eventstore"
	"roombook/projections"
)

func newServeCommand() *cobra.Command {
	var c serveConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the whole system, or the roles of it that are named",
		Long: `Run the whole system: the HTTP server, the workers that keep the lists, and unless --eventstore and --mongo name servers,
an embedded event store and a file for the lists, both in the data folder.

Each flag can also be given as the environment variable in brackets. An interrupt, SIGTERM or SIGHUP ends it in order:
requests under way are answered, lists are brought up to date, files are closed. A second interrupt or SIGTERM ends it at once.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.nodeGiven = cmd.Flags().Changed("node")
			return serve(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

const (
	// flushTime bounds how long the lists are brought up to date after the last request.
	flushTime = 5 * time.Second
	// pingTime bounds how long the event store is waited for before that.
	pingTime = time.Second
)

// serve runs the system until ctx ends or a part of it fails, and then ends its parts in reverse order.
func serve(ctx context.Context, c serveConfig, stdout, stderr io.Writer) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	zone, err := time.LoadLocation(c.timezone)
	if err != nil {
		return usagef("--timezone: %w", err)
	}
	c.policy.Zone = zone
	proxies, err := parseNetworks(c.trustedProxies)
	if err != nil {
		return usagef("--trusted-proxies: %w", err)
	}
	log := newLogger(c, stderr)
	collectLessOften()

	listener, err := listen(c.listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	if at, ok := listener.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		log.Warn("other machines can reach the HTTP server, which asks nobody who they are: listen on loopback, or let only a gateway through that does", "address", at)
	}

	store, err := openEvents(c.storeConfig, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if store.node != nil {
		scheduleForTheDisk()
	}

	views, err := openViews(c.storeConfig, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, views.Close()) }()

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), store)
	positions := projections.NewPositions()
	probes := []api.Probe{{Name: "eventStore", Check: store.Ping}}

	// Parts end in the reverse order of their start, so each has a context of its own. One that fails ends the server, and so
	// all of them.
	serving, endServing := context.WithCancel(ctx)
	defer endServing()
	var parts errgroup.Group
	start := func(part func(context.Context) error) (end context.CancelFunc) {
		running, end := context.WithCancel(context.WithoutCancel(ctx))
		parts.Go(func() error {
			defer endServing()
			if err := part(running); running.Err() == nil {
				return err
			}
			return nil
		})
		return end
	}
	endAnnouncing := start(announceEnd(ctx, stdout))
	defer endAnnouncing()
	endStore := start(store.run)
	defer endStore()

	handler := commands.New(store, commands.Options{Policy: c.policy, CacheBytes: c.calendarCache << 20})
	registry.MustRegister(handler.Collectors()...)
	endRecovery := func() {}
	if c.has(roleRecovery) {
		recovery := commands.NewRecovery(handler, store, commands.RecoveryOptions{Grace: c.grace, Logger: log})
		probes = append(probes, api.Probe{Name: "recovery", Check: recovering(recovery), Advisory: true})
		endRecovery = start(recovery.Run)
		defer endRecovery()
	}
	endWorkers := func() {}
	var workers *projections.Workers
	if c.has(roleProjections) {
		workers = projections.NewWorkers(views, store, projections.All(), projections.WorkerOptions{Positions: positions, Logger: log, Metrics: registry})
		probes = append(probes, api.Probe{Name: "readStore", Check: views.Ping}, api.Probe{Name: "projections", Check: following(workers), Advisory: true})
		endWorkers = start(workers.Run)
		defer endWorkers()
	}

	queries := projections.NewQueries(views, projections.QueryOptions{ReadWait: c.readWait, Positions: positions, Log: store})
	if c.has(roleAPI) {
		probes = append(probes, api.Probe{Name: "lists", Check: queries.Ready})
	}
	hosts, err := c.publicHosts()
	if err != nil {
		return err
	}
	server := api.New(api.Options{
		Commands:       handler,
		Lists:          queries,
		End:            store.End,
		OperationsOnly: !c.has(roleAPI),
		Policy:         c.policy,
		Zone:           zone,
		Hosts:          hosts,
		TrustedProxies: proxies,
		Probes:         probes,
		Version:        version(),
		Registry:       registry,
		Logger:         log,
		AccessLog:      c.accessLog,
		Timeout:        c.requestTimeout,
		MaxCommands:    c.maxCommands,
		MaxConnections: maxConnections(),
	})
	greet(stdout, c, listener.Addr())
	err = server.Run(serving, listener)
	endRecovery()
	if workers != nil {
		flush(ctx, store, workers, log)
	}
	endWorkers()
	endStore()
	endAnnouncing()
	return errors.Join(err, parts.Wait())
}

// greet says where everything is, in the first lines that are printed, and how to end it.
func greet(stdout io.Writer, c serveConfig, at net.Addr) {
	address := "http://" + at.String()
	events, lists := c.eventsDir(), c.viewsFile()
	if c.eventstore != "" {
		events = "in the event store that --eventstore names"
	}
	if c.mongo != "" {
		lists = "in the MongoDB that --mongo names"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "roombook listens on %s\n", address)
	for _, line := range [][2]string{
		{"documentation", address + "/docs"},
		{"events", events},
		{"lists", lists},
		{"local times", c.timezone},
		{"to end it", "Ctrl-C, or SIGTERM"},
	} {
		fmt.Fprintf(&b, "  %-14s %s\n", line[0], line[1])
	}
	fmt.Fprint(stdout, b.String())
}

// announceEnd is a part that says that the program ends, and why, when ctx does.
func announceEnd(ctx context.Context, stdout io.Writer) func(context.Context) error {
	return func(running context.Context) error {
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		if ctx.Err() != nil {
			fmt.Fprintf(stdout, "roombook is ending (%s); an interrupt or SIGTERM ends it at once\n", context.Cause(ctx))
		}
		return nil
	}
}

// flush waits until the lists have everything that the log has for them, within flushTime.
func flush(ctx context.Context, store *events, workers *projections.Workers, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	// An event store that is away is not waited for: there is nothing to have from it.
	there, cancelPing := context.WithTimeout(ctx, pingTime)
	defer cancelPing()
	err := store.Ping(there)
	for _, h := range workers.Health() {
		p, _ := projections.Named(h.Projection)
		var last eventstore.Position
		if err == nil && h.State == projections.Following {
			last, err = lastAfter(ctx, store, h.Position, p.Filter)
		}
		for err == nil && behind(workers, p.Name, last) {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	if err != nil {
		log.Warn("the lists may not be up to date; they will be at the next start", "error", err)
	}
}

// lastAfter is the position of the last event after another one that the filter lets through; 0 if there is none.
func lastAfter(ctx context.Context, store *events, after eventstore.Position, f eventstore.Filter) (last eventstore.Position, err error) {
	for batch, err := range store.Subscribe(ctx, after, f) {
		if err != nil {
			return 0, err
		}
		if n := len(batch.Events); n > 0 {
			last = batch.Events[n-1].Position
		}
		if batch.CaughtUp {
			return last, nil
		}
	}
	return last, ctx.Err()
}

// behind reports whether a list is being kept and does not have the position yet.
func behind(workers *projections.Workers, projection string, position eventstore.Position) bool {
	return slices.ContainsFunc(workers.Health(), func(h projections.Health) bool {
		return h.Projection == projection && h.State == projections.Following && h.Position < position
	})
}

// following reports the first list that is not being kept.
func following(workers *projections.Workers) func(context.Context) error {
	return func(context.Context) error {
		for _, h := range workers.Health() {
			if h.Error != nil {
				return fmt.Errorf("%s: %w", h.Projection, h.Error)
			}
		}
		return nil
	}
}

// recovering reports why recovery cannot follow the log, or the first booking that it cannot settle.
func recovering(recovery *commands.Recovery) func(context.Context) error {
	return func(context.Context) error {
		open, err := recovery.Status()
		for _, b := range open {
			if err == nil && b.Err != nil {
				err = fmt.Errorf("booking %s cannot be settled: %w", b.Booking, b.Err)
			}
		}
		return err
	}
}

func newLogger(c serveConfig, stderr io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}

// collectLessOften lets the heap grow further between garbage collections than Go does by default: what lives long is a few caches of
// known size, so memory is cheaper here than time. GOGC in the environment has the last word.
func collectLessOften() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(200)
	}
}

// scheduleForTheDisk runs goroutines on one thread more than there are processors: the embedded event store's sync keeps a thread
// while the disk works, and its goroutine, for which many callers wait, would then queue behind all others. GOMAXPROCS in the
// environment has the last word.
func scheduleForTheDisk() {
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

func parseNetworks(texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return networks, nil
}
