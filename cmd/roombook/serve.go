package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"roombook/api"
	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/commands/accounts/oidc"
	"roombook/commands/notify"
	"roombook/domain"
	"roombook/projections"
)

func newServeCommand() *cobra.Command {
	var c serveConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the whole system, or some of its roles",
		Long: `Run the whole system: the HTTP server, the workers that keep the lists, and, unless --eventstore and --mongo name servers to use
instead, an embedded event store and a file for the lists, both in the data folder.

Each flag can also be set by the environment variable in brackets. An interrupt, SIGTERM or SIGHUP shuts the program down: it answers
the requests under way, brings the lists up to date and closes its files. A second interrupt or SIGTERM kills it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.nodeGiven, c.authGiven = cmd.Flags().Changed("node"), cmd.Flags().Changed("auth")
			c.dataGiven = cmd.Flags().Changed("data")
			if err := c.check(); err != nil {
				return err
			}
			if c.demo {
				remove, err := c.useTemporaryFolder()
				if err != nil {
					return err
				}
				defer remove()
				if !cmd.Flags().Changed("log-level") {
					c.level = slog.LevelWarn // else every notification of the sample bookings would be a line
				}
			}
			return serve(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

// serve runs the system until ctx ends or a part of it fails. Then it stops taking requests, answers those under way, brings the
// lists up to date, stops the other parts, and closes the stores.
func serve(ctx context.Context, c serveConfig, stdout, stderr io.Writer) (err error) {
	log := newLogger(stderr, c.level, c.logFormat)
	collectLessOften(c.calendarCache)
	tracer, stopTracing, err := startTracing(ctx, log)
	if err != nil {
		return err
	}
	defer stopTracing()

	listener, err := listen(c.listen, "--listen")
	if err != nil {
		return err
	}
	defer listener.Close()
	admin, err := listenAdmin(c.adminListen, log)
	if err != nil {
		return err
	}
	if admin != nil {
		defer admin.Close()
	}
	if c.has(roleAPI) && c.auth == authNone && !isLoopback(listener.Addr()) {
		if !c.authGiven {
			return usagef("other machines can reach --listen %s, and everybody could do everything: choose --auth accounts or oidc, or say --auth none if a gateway authenticates", c.listen)
		}
		log.Warn("other machines can reach the HTTP server, which does not authenticate anybody: listen on loopback, or behind a gateway that authenticates", "address", listener.Addr())
	}
	store, err := openEvents(c.storeConfig, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if store.node != nil {
		addThreadForSync()
	}
	views, err := openViews(c.storeConfig, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, views.Close()) }()
	probes := []api.Probe{{Name: "eventStore", Check: store.Ping}}
	var users *accounts.Accounts
	var provider *oidc.Provider
	setUp := ""
	if c.auth != authNone && (c.has(roleAPI) || c.has(roleDispatch)) {
		people, failure := openDirectory(ctx, c.storeConfig)
		if failure != nil {
			return failure
		}
		defer func() { err = errors.Join(err, people.Close()) }()
		probes = append(probes, api.Probe{Name: "accounts", Check: people.Ping})
		users = accounts.New(store, people, accounts.Options{Idle: c.sessionIdle, Life: c.sessionLife})
		if c.auth == authOIDC && c.has(roleAPI) {
			if provider, err = c.provider(); err != nil {
				return err
			}
			if away := provider.Ping(ctx); away != nil {
				log.Warn("the identity provider does not answer: until it does nobody can sign in", "issuer", c.issuer, "error", away)
			}
			probes = append(probes, api.Probe{Name: "identityProvider", Check: provider.Ping, Advisory: true})
		} else if c.has(roleAPI) {
			if setUp, err = users.SetUpCode(ctx); err != nil {
				return err
			}
		}
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), store)
	roles := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "roombook_role", Help: "1 for each role of this process."}, []string{"name"})
	for _, role := range c.roles {
		roles.WithLabelValues(role).Set(1)
	}
	registry.MustRegister(roles)
	positions := projections.NewPositions()

	// Requests and recovery end with ctx, or as soon as any part fails. Whatever the last requests need ends after them.
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRunning()
	var parts errgroup.Group
	start := func(ctx context.Context, part func(context.Context) error) {
		parts.Go(func() error {
			defer stopServing()
			if err := part(ctx); ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	start(running, store.run)
	if admin != nil {
		start(running, func(ctx context.Context) error { return serveAdmin(ctx, admin, registry) })
	}
	start(serving, func(serving context.Context) error {
		<-serving.Done()
		if ctx.Err() != nil {
			fmt.Fprintf(stdout, "roombook is shutting down (%s); a second interrupt or SIGTERM kills it\n", context.Cause(ctx))
		}
		return nil
	})

	handler := commands.New(store, commands.Options{Policy: c.policy, CacheBytes: int(max(1, c.calendarCache*(1<<20))), CalendarKeep: c.calendarKeep})
	registry.MustRegister(handler.Collectors()...)
	if c.has(roleRecovery) {
		recovery := commands.NewRecovery(handler, store, commands.RecoveryOptions{Grace: c.grace, Logger: log})
		probes = append(probes, api.Probe{Name: "recovery", Check: recoveryProbe(recovery), Advisory: true})
		start(serving, recovery.Run)
	}
	var workers *projections.Workers
	if c.has(roleProjections) {
		workers = projections.NewWorkers(views, store, projections.All(), projections.WorkerOptions{Positions: positions, Logger: log, Metrics: registry, Tracer: tracer})
		probes = append(probes, api.Probe{Name: "readStore", Check: views.Ping}, api.Probe{Name: "projections", Check: workersProbe(workers), Advisory: true})
		start(running, workers.Run)
	}
	queries := projections.NewQueries(views, projections.QueryOptions{ReadWait: c.readWait, Positions: positions, Policy: c.policy, Log: store})
	if c.has(roleDispatch) {
		o := notify.Options{Link: c.link(listener.Addr()), Approvers: handler.Approvers, Rooms: func(ctx context.Context) (func(domain.RoomID) string, error) { return queries.RoomNames(ctx, 0) }, Logger: log, Tracer: tracer}
		if users != nil {
			o.People = mailPeople{users}
		}
		dispatcher, err := c.dispatcher(store, o)
		if err != nil {
			return err
		}
		registry.MustRegister(dispatcher.Collectors()...)
		probes = append(probes, api.Probe{Name: "notifications", Check: func(context.Context) error { return dispatcher.Health() }, Advisory: true})
		dispatcher.Prepare(serving)
		start(serving, dispatcher.Run)
	}
	if c.has(roleAPI) {
		probes = append(probes, api.Probe{Name: "lists", Check: queries.Ready})
	}
	server := api.New(api.Options{
		Commands:       handler,
		Lists:          queries,
		Streams:        store,
		End:            store.End,
		ReadBack:       store.ReadBack,
		Subscribe:      store.Subscribe,
		OperationsOnly: !c.has(roleAPI),
		Policy:         c.policy,
		Zone:           c.policy.Zone,
		Accounts:       users,
		Provider:       provider,
		Privacy:        domain.Privacy(c.privacy),
		PublicURLs:     c.publicURLs,
		Hosts:          c.hosts,
		TrustedProxies: c.proxies,
		Probes:         probes,
		Version:        version(),
		Registry:       registry,
		Logger:         log,
		Tracer:         tracer,
		WithoutMetrics: admin != nil,
		AccessLog:      c.accessLog,
		Timeout:        c.requestTimeout,
		MaxCommands:    c.maxCommands,
		MaxConnections: maxConnections(),
	})
	if setUp != "" {
		setUp = c.link(listener.Addr()) + "/setup#" + setUp
	}
	greet(stdout, c, listener.Addr(), admin, setUp)
	if c.demo {
		start(serving, func(ctx context.Context) error { return demonstrate(ctx, handler, c.policy.Zone, stdout) })
	}
	if c.open && c.has(roleAPI) {
		if err := openBrowser(pageAddress(listener.Addr())); err != nil {
			log.Warn("no browser could be opened: open the address yourself", "address", pageAddress(listener.Addr()), "error", err)
		}
	}
	err = server.Run(serving, listener)
	stopServing()
	if workers != nil {
		flush(ctx, store, workers, log)
	}
	stopRunning()
	return errors.Join(err, parts.Wait())
}

// link is the address that notifications have links to.
func (c *serveConfig) link(at net.Addr) string {
	if len(c.publicURLs) > 0 {
		return c.publicURLs[0]
	}
	return "http://" + at.String()
}

// greet prints the address first, and then where everything is.
func greet(stdout io.Writer, c serveConfig, at net.Addr, admin net.Listener, setUp string) {
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
	lines := [][2]string{
		{"events", events},
		{"lists", lists},
		{"time zone", c.timezone},
		{"to stop", "Ctrl-C, or SIGTERM"},
	}
	if c.has(roleAPI) {
		lines = append([][2]string{{"page", pageAddress(at)}, {"documentation", address + "/docs"}}, lines...)
	}
	if setUp != "" {
		lines = append(lines, [2]string{"first user", setUp})
	}
	if admin != nil {
		lines = append(lines, [2]string{"for operators", "http://" + admin.Addr().String() + "/debug/pprof/ and /metrics"})
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "  %-14s %s\n", line[0], line[1])
	}
	fmt.Fprint(stdout, b.String())
}

// workersProbe reports the first list that is not kept.
func workersProbe(workers *projections.Workers) func(context.Context) error {
	return func(context.Context) error {
		for _, h := range workers.Health() {
			if h.Error != nil {
				return fmt.Errorf("%s: %w", h.Projection, h.Error)
			}
		}
		return nil
	}
}

// recoveryProbe reports why recovery cannot follow the log, or the first booking that it cannot settle.
func recoveryProbe(recovery *commands.Recovery) func(context.Context) error {
	return func(context.Context) error {
		open, err := recovery.Status()
		if err != nil {
			return err
		}
		for _, b := range open {
			if b.Err != nil {
				return fmt.Errorf("%s cannot be settled: %w", b.Of(), b.Err)
			}
		}
		return nil
	}
}

func newLogger(stderr io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(traceHandler{slog.NewJSONHandler(stderr, options)})
	}
	return slog.New(traceHandler{slog.NewTextHandler(stderr, options)})
}

// besidesCache is how much memory, in MiB, the program may use besides --calendar-cache before garbage is collected more often. It needs
// some 60 of them, and the embedded event store takes as much again outside of Go's memory.
const besidesCache = 200

// collectLessOften lets the heap grow further between garbage collections than Go does by default, as long as it is small: most of what
// lives long is in caches of limited size. GOGC and GOMEMLIMIT in the environment override it.
func collectLessOften(cacheMiB float64) {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(200)
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(int64((cacheMiB + besidesCache) * (1 << 20)))
	}
}

// addThreadForSync makes Go use one thread more than there are processors: the embedded event store's sync blocks a thread while the
// disk works, and its goroutine, which many callers wait for, would then queue behind all others. GOMAXPROCS in the environment
// overrides it.
func addThreadForSync() {
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}
