package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/domain"
)

// storeConfig says where events and lists are kept. Every command that touches them has these flags.
type storeConfig struct {
	data       string
	node       string
	nodeGiven  bool // by the command line or the environment
	eventstore string
	mongo      string
}

func (c *storeConfig) register(f *pflag.FlagSet) {
	c.registerEvents(f)
	f.StringVar(&c.node, "node", "127.0.0.1:2113", "loopback address of the embedded event store")
	f.StringVar(&c.mongo, "mongo", "", "connection string (mongodb://host/database) of a MongoDB for the lists and the users, instead of files in the data folder")
}

// registerData is register for the commands that are about the data folder only.
func (c *storeConfig) registerData(f *pflag.FlagSet) {
	f.StringVar(&c.data, "data", "./data", "folder of the embedded event store, of the lists and of the users")
}

// registerEvents is register for the commands that are about the events only.
func (c *storeConfig) registerEvents(f *pflag.FlagSet) {
	c.registerData(f)
	f.StringVar(&c.eventstore, "eventstore", "", "connection string (esdb://…) of an EventStoreDB to use instead of the embedded event store")
}

// eventsDir and viewsFile are what the data folder holds.
func (c *storeConfig) eventsDir() string { return filepath.Join(c.data, "events") }
func (c *storeConfig) viewsFile() string { return filepath.Join(c.data, "views.db") }

// addressFile tells other commands where the embedded event store of the running program listens.
func (c *storeConfig) addressFile() string { return filepath.Join(c.data, "node.address") }

func (c *storeConfig) makeDataFolder() error {
	return badFolder(os.MkdirAll(c.data, 0o750))
}

// badFolder is err with advice for an operator whose data folder cannot be used as it is.
func badFolder(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the data folder cannot be used: %w; check its owner and permissions, or choose another folder with --data", err)
}

// badFile is err with advice for an operator who named a file that cannot be used.
func badFile(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; check its name, its folder and their permissions, or name another file", err)
}

// notWritten is err with advice for an operator, if a file could not be written.
func notWritten(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); !ok {
		return err
	}
	return fmt.Errorf("%w; make room on its disk and run the command again, or name another file", err)
}

// The kinds of authentication.
const (
	authNone     = "none"
	authAccounts = "accounts"
	authOIDC     = "oidc"
)

// The roles that a process may have.
const (
	roleAPI         = "api"
	roleProjections = "projections"
	roleRecovery    = "recovery"
	roleDispatch    = "dispatch"
)

var allRoles = []string{roleAPI, roleProjections, roleRecovery, roleDispatch}

// The rooms that can be booked.
const (
	roomsOpen       = "open"
	roomsRegistered = "registered"
)

// serveConfig are the settings of serve.
type serveConfig struct {
	storeConfig
	dispatchConfig
	oidcConfig
	listen         string
	auth           string
	authGiven      bool // by the command line or the environment
	privacy        string
	sessionIdle    time.Duration
	sessionLife    time.Duration
	adminListen    string
	publicURLs     []string
	roles          []string
	readWait       time.Duration
	grace          time.Duration
	requestTimeout time.Duration
	maxCommands    int
	calendarCache  float64 // MiB
	calendarKeep   time.Duration
	trustedProxies []string
	policy         domain.Policy
	rooms          string
	logLevel       string
	logFormat      string
	accessLog      bool
	demo           bool
	dataGiven      bool // by the command line or the environment
	open           bool

	// What check makes of the flags, besides the policy's zone.
	hosts   []string // names, without ports, by which clients know the server: those of --public-url, and that of --listen
	proxies []netip.Prefix
	level   slog.Level
}

func (c *serveConfig) register(f *pflag.FlagSet) {
	c.storeConfig.register(f)
	c.dispatchConfig.register(f)
	c.oidcConfig.register(f)
	c.policy = domain.DefaultPolicy()
	f.StringVar(&c.listen, "listen", "127.0.0.1:8080", "address of the HTTP server")
	f.StringVar(&c.auth, "auth", authNone, "who may do what: none (everybody everything; the usual on loopback, elsewhere it must be said), accounts (users sign in, programs have tokens), or oidc (users sign in at an identity provider)")
	f.StringVar(&c.privacy, "privacy", string(domain.PrivacyNames), "what users see of the bookings of others: names, or busy (only that the room is taken)")
	f.DurationVar(&c.sessionIdle, "session-idle", accounts.DefaultIdle, "how long a session may go unused")
	f.DurationVar(&c.sessionLife, "session-life", accounts.DefaultLife, "how long a session may last")
	f.StringVar(&c.adminListen, "admin-listen", "", "address of a server for operators, with profiles (/debug/pprof) and, instead of the HTTP server, metrics; :6060 is on loopback")
	f.StringSliceVar(&c.publicURLs, "public-url", nil, "addresses (http://… or https://…) by which clients know this server, besides its own")
	f.StringSliceVar(&c.roles, "roles", allRoles, "what this process does; several processes may share the work")
	f.DurationVar(&c.readWait, "read-wait", 2*time.Second, "how long a query may wait for its list to reach the requested position")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "how long a command may stay half-finished before recovery settles it")
	f.DurationVar(&c.requestTimeout, "request-timeout", 10*time.Second, "how long a request may take")
	f.IntVar(&c.maxCommands, "max-commands", 512, "how many commands may run at once, and four times as many queries; any more get 503")
	f.Float64Var(&c.calendarCache, "calendar-cache", commands.DefaultCacheBytes>>20, "MiB of memory for room calendars, live bookings and uses; the least recently used are evicted")
	f.DurationVar(&c.calendarKeep, "calendar-keep", commands.DefaultCalendarKeep, "how long reservations that are over stay in that memory; a booking further back reads all of its room's calendar")
	f.StringSliceVar(&c.trustedProxies, "trusted-proxies", nil, "networks (CIDR) of proxies whose X-Forwarded-* headers are trusted")
	f.DurationVar(&c.policy.LongestBooking, "longest-booking", c.policy.LongestBooking, "longest booking; 0 for no limit")
	f.BoolVar(&c.policy.RefusePast, "refuse-past", c.policy.RefusePast, "refuse to start a booking in the past, or to move its start there")
	f.BoolVar(&c.policy.ConfirmBeforeUse, "confirm-before-use", c.policy.ConfirmBeforeUse, "refuse to start using a room before the booking is confirmed")
	f.DurationVar(&c.policy.EarlyUse, "early-use", c.policy.EarlyUse, "how long before or after its slot a booking may be used; 0 for no limit")
	f.StringVar(&c.rooms, "rooms", roomsOpen, "which rooms can be booked: open for all, or registered for those that are registered")
	f.StringVar(&c.logLevel, "log-level", "info", "lowest level to log: debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&c.demo, "demo", false, "serve a sample house with a week of bookings, in a temporary folder")
	f.BoolVar(&c.open, "open", false, "open the page in a browser")
	f.BoolVar(&c.accessLog, "access-log", false, "log every request on a line of its own")
}

// check finds every mistake in the flags that can be found before anything is started.
func (c *serveConfig) check() error {
	if err := c.checkAddresses(); err != nil {
		return err
	}
	if c.demo && (c.dataGiven || c.eventstore != "" || c.mongo != "") {
		return usagef("--demo has a temporary folder of its own: leave out --data, --eventstore and --mongo")
	}
	if c.demo && len(c.roles) < len(allRoles) {
		return usagef("--demo needs every role: leave out --roles")
	}
	if len(c.roles) == 0 {
		return usagef("--roles names no role; the roles are %s", strings.Join(allRoles, ", "))
	}
	for _, role := range c.roles {
		if !slices.Contains(allRoles, role) {
			return usagef("--roles: there is no role %q; the roles are %s", role, strings.Join(allRoles, ", "))
		}
	}
	var err error
	if c.policy.Zone, err = c.zone(); err != nil {
		return err
	}
	if c.auth != authNone && c.directory != "" {
		return usagef("--directory describes users where nobody signs in; with --auth %s roombook user change says where their mail goes", c.auth)
	}
	if c.has(roleDispatch) {
		if err := c.dispatchConfig.check(); err != nil {
			return err
		}
	}
	if c.level.UnmarshalText([]byte(c.logLevel)) != nil {
		return usagef("--log-level is %q; it must be debug, info, warn or error", c.logLevel)
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		return usagef("--log-format is %q; it must be text or json", c.logFormat)
	}
	if c.auth != authNone && c.auth != authAccounts && c.auth != authOIDC {
		return usagef("--auth is %q; it must be none, accounts or oidc", c.auth)
	}
	if err := c.oidcConfig.check(c.auth == authOIDC); err != nil {
		return err
	}
	if c.privacy != string(domain.PrivacyNames) && c.privacy != string(domain.PrivacyBusy) {
		return usagef("--privacy is %q; it must be names or busy", c.privacy)
	}
	if c.auth == authNone && c.privacy == string(domain.PrivacyBusy) {
		return usagef("--privacy busy needs to know who asks, and --auth none does not: choose --auth accounts or oidc")
	}
	if c.sessionIdle < time.Minute || c.sessionLife < c.sessionIdle {
		return usagef("--session-idle must be at least a minute, and --session-life no shorter")
	}
	if c.requestTimeout <= 0 {
		return usagef("--request-timeout must be longer than 0")
	}
	if c.maxCommands < 1 {
		return usagef("--max-commands must be at least 1")
	}
	if !(c.calendarCache > 0) {
		return usagef("--calendar-cache must be more than 0")
	}
	if c.calendarKeep <= 0 {
		return usagef("--calendar-keep must be longer than 0")
	}
	if c.readWait < 0 || c.readWait >= c.requestTimeout {
		return usagef("--read-wait must be at least 0 and shorter than --request-timeout")
	}
	if c.grace <= 0 {
		return usagef("--grace must be longer than 0")
	}
	if c.rooms != roomsOpen && c.rooms != roomsRegistered {
		return usagef("--rooms is %q; it must be %s or %s", c.rooms, roomsOpen, roomsRegistered)
	}
	c.policy.RegisteredRooms = c.rooms == roomsRegistered
	if c.policy.LongestBooking < 0 {
		return usagef("--longest-booking must not be negative")
	}
	if c.policy.EarlyUse < 0 {
		return usagef("--early-use must not be negative")
	}
	return nil
}

// checkAddresses is check for the flags that are addresses.
func (c *serveConfig) checkAddresses() error {
	host, err := hostOf("--listen", c.listen)
	if err != nil {
		return err
	}
	c.hosts = []string{host}
	if c.adminListen != "" {
		if _, err := hostOf("--admin-listen", adminAddress(c.adminListen)); err != nil {
			return err
		}
	}
	for _, text := range c.publicURLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return usagef("--public-url is %q; it must be an address like https://rooms.example", text)
		}
		c.hosts = append(c.hosts, u.Hostname())
	}
	for _, text := range c.trustedProxies {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return usagef("--trusted-proxies has %q; it must be a network like 10.1.0.0/16", text)
		}
		c.proxies = append(c.proxies, network)
	}
	if c.eventstore != "" && c.nodeGiven {
		return usagef("--node is the address of the embedded event store, and --eventstore names another one to use: leave one of them out")
	}
	if host, err = hostOf("--node", c.node); err != nil {
		return err
	}
	// The client library takes no other addresses.
	if host == "" || strings.Contains(host, ":") {
		return usagef("--node is %q; it must have an IPv4 address or a name before the port: 127.0.0.1:2113", c.node)
	}
	return nil
}

// hostOf returns the host of an address to listen at, which a flag has.
func hostOf(flag, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return "", usagef("%s is %q; it must be a host, a colon and a port: 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses of this machine", flag, address)
	}
	return host, nil
}

func (c *serveConfig) has(role string) bool { return slices.Contains(c.roles, role) }

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "ROOMBOOK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment lets the environment set each flag that the command has so far and the command line leaves out, and names the
// variables in the command's help. An empty variable counts as unset.
func fromEnvironment(cmd *cobra.Command) *cobra.Command {
	var flags []*pflag.Flag
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		f.Usage += fmt.Sprintf(" [%s]", variable(f.Name))
		flags = append(flags, f)
	})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, f := range flags {
			value := os.Getenv(variable(f.Name))
			if f.Changed || value == "" {
				continue
			}
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				return usagef("environment variable %s: %w", variable(f.Name), flagError(err))
			}
		}
		if data := cmd.Flags().Lookup("data"); data != nil && data.Value.String() == "" {
			return usagef("--data is empty; it must name a folder") // the paths of its files would be relative to the current one
		}
		return nil
	}
	return cmd
}

// flagError is an error of the flag parser in words for an operator, where the parser's own are those of a programmer.
func flagError(err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	what := map[string]string{"int": "a whole number", "duration": "a duration like 500ms, 10s or 5m", "bool": "true or false"}[invalid.GetFlag().Value.Type()]
	if what == "" {
		return err
	}
	return fmt.Errorf("--%s is %q; it must be %s", invalid.GetFlag().Name, invalid.GetValue(), what)
}
