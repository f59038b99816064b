package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"roombook/commands"
	"roombook/domain"
)

// storeConfig says where events and lists are kept.
type storeConfig struct {
	data       string
	node       string
	nodeGiven  bool // by the command line or the environment
	eventstore string
	mongo      string
}

func (c *storeConfig) register(f *pflag.FlagSet) {
	f.StringVar(&c.data, "data", "./data", "folder of the embedded event store and of the lists")
	f.StringVar(&c.node, "node", "127.0.0.1:2113", "address of the embedded event store")
	f.StringVar(&c.eventstore, "eventstore", "", "connection string (esdb://…) of an EventStoreDB to use instead of the embedded one")
	f.StringVar(&c.mongo, "mongo", "", "connection string (mongodb://host/database) of a MongoDB to keep the lists in instead of a file")
}

// eventsDir and viewsFile are the data folder's contents.
func (c *storeConfig) eventsDir() string { return filepath.Join(c.data, "events") }
func (c *storeConfig) viewsFile() string { return filepath.Join(c.data, "views.db") }

// addressFile tells other verbs where the embedded node of the running program listens.
func (c *storeConfig) addressFile() string { return filepath.Join(c.data, "node.address") }

func (c *storeConfig) makeDataFolder() error {
	if err := os.MkdirAll(c.data, 0o750); err != nil {
		return fmt.Errorf("make the data folder: %w; choose another with --data", err)
	}
	return nil
}

// The roles that a process may have.
const (
	roleAPI         = "api"
	roleProjections = "projections"
	roleRecovery    = "recovery"
)

var allRoles = []string{roleAPI, roleProjections, roleRecovery}

// serveConfig is everything that serve can be told.
type serveConfig struct {
	storeConfig
	listen         string
	publicURLs     []string
	timezone       string
	roles          []string
	readWait       time.Duration
	grace          time.Duration
	requestTimeout time.Duration
	maxCommands    int
	calendarCache  int // MiB
	trustedProxies []string
	policy         domain.Policy
	logLevel       slog.Level
	logFormat      string
	accessLog      bool
}

func (c *serveConfig) register(f *pflag.FlagSet) {
	c.storeConfig.register(f)
	defaults := domain.DefaultPolicy()
	f.StringVar(&c.listen, "listen", "127.0.0.1:8080", "address of the HTTP server")
	f.StringSliceVar(&c.publicURLs, "public-url", nil, "addresses (http://… or https://…) that clients use for this server, besides its own")
	f.StringVar(&c.timezone, "timezone", "Asia/Seoul", "zone in which local times are read and all times are answered")
	f.StringSliceVar(&c.roles, "roles", allRoles, "what this process does; several processes may share the work")
	f.DurationVar(&c.readWait, "read-wait", 2*time.Second, "longest wait of a query for the position it was asked for")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "how long a step of a command may stay undone before recovery does it")
	f.DurationVar(&c.requestTimeout, "request-timeout", 10*time.Second, "longest time that a request may take")
	f.IntVar(&c.maxCommands, "max-commands", 512, "most commands that are carried out at a time, besides four times as many queries; more are refused with 503")
	f.IntVar(&c.calendarCache, "calendar-cache", commands.DefaultCacheBytes>>20, "MiB of memory for the calendars of rooms, of which the least recently used go")
	f.StringSliceVar(&c.trustedProxies, "trusted-proxies", nil, "networks (CIDR) of proxies whose X-Forwarded-* headers are believed")
	f.DurationVar(&c.policy.LongestBooking, "longest-booking", defaults.LongestBooking, "longest booking; 0 for no bound")
	f.BoolVar(&c.policy.RefusePast, "refuse-past", defaults.RefusePast, "refuse to book a start in the past, and to move one there")
	f.BoolVar(&c.policy.ConfirmBeforeUse, "confirm-before-use", defaults.ConfirmBeforeUse, "refuse to start a use that has not been confirmed")
	f.DurationVar(&c.policy.EarlyUse, "early-use", defaults.EarlyUse, "how long before or after its booking's slot a use may start; 0 for no bound")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "least level that is logged: debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&c.accessLog, "access-log", false, "log every request in a line of its own")
}

// check finds what is wrong with the values and can be told before anything is started.
func (c *serveConfig) check() error {
	if err := checkAddress("--listen", c.listen); err != nil {
		return err
	}
	if err := c.storeConfig.check(); err != nil {
		return err
	}
	if _, err := c.publicHosts(); err != nil {
		return err
	}
	if len(c.roles) == 0 {
		return usagef("--roles names no role; there are %s", strings.Join(allRoles, ", "))
	}
	for _, role := range c.roles {
		if !slices.Contains(allRoles, role) {
			return usagef("--roles: there is no role %q; there are %s", role, strings.Join(allRoles, ", "))
		}
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		return usagef("--log-format is %q; it can be text or json", c.logFormat)
	}
	if c.requestTimeout <= 0 {
		return usagef("--request-timeout must be longer than 0")
	}
	if c.maxCommands < 1 {
		return usagef("--max-commands must be at least 1")
	}
	if c.calendarCache < 1 {
		return usagef("--calendar-cache must be at least 1")
	}
	if c.readWait < 0 || c.readWait >= c.requestTimeout {
		return usagef("--read-wait must be at least 0 and shorter than --request-timeout")
	}
	if c.grace <= 0 {
		return usagef("--grace must be longer than 0")
	}
	if c.policy.LongestBooking < 0 {
		return usagef("--longest-booking must not be negative")
	}
	if c.policy.EarlyUse < 0 {
		return usagef("--early-use must not be negative")
	}
	return nil
}

// check finds what is wrong with where events are kept.
func (c *storeConfig) check() error {
	if c.eventstore != "" && c.nodeGiven {
		return usagef("--node is the address of the embedded event store, and --eventstore says to use another one: leave one of them out")
	}
	if err := checkAddress("--node", c.node); err != nil {
		return err
	}
	// The library that connects to the node takes no other addresses.
	if host, _, _ := net.SplitHostPort(c.node); host == "" || strings.Contains(host, ":") {
		return usagef("--node is %q; it must have an IPv4 address or a name before the port: 127.0.0.1:2113", c.node)
	}
	return nil
}

// checkAddress finds what is wrong with an address to listen at, given to a flag.
func checkAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return usagef("%s is %q; it must be a host, a colon and a port: 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses of this machine", flag, address)
	}
	return nil
}

// publicHosts are the names, without ports, by which clients know the server: those of --public-url, and that of --listen.
func (c *serveConfig) publicHosts() ([]string, error) {
	host, _, _ := net.SplitHostPort(c.listen)
	hosts := []string{host}
	for _, text := range c.publicURLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return nil, usagef("--public-url is %q; it must be an address like https://rooms.example", text)
		}
		hosts = append(hosts, u.Hostname())
	}
	return hosts, nil
}

func (c *serveConfig) has(role string) bool { return slices.Contains(c.roles, role) }

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "ROOMBOOK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets each flag that the command line does not set from its ROOMBOOK_* variable, and says in the flag's help
// how the variable is called. An empty variable is as good as none.
func fromEnvironment(cmd *cobra.Command) *cobra.Command {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		f.Usage += fmt.Sprintf(" [%s]", variable(f.Name))
	})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			value := os.Getenv(variable(f.Name))
			if f.Changed || value == "" || err != nil {
				return
			}
			if e := cmd.Flags().Set(f.Name, value); e != nil {
				err = usagef("environment variable %s is %q: %w", variable(f.Name), value, e)
			}
		})
		return err
	}
	return cmd
}
