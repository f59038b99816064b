// Package eventstoretest gives each test an event store of its own, or the server whose connection string is in the environment
// variable ROOMBOOK_TEST_EVENTSTORE. That server may be shared and full of other things, so tests use stream names of their own and
// expect nothing of the log but what they have written.
//
//	store := eventstoretest.Open(t)      // a store that works
//	network := eventstoretest.Node(t)    // one behind a network that fails on demand
//	network.LoseAnswer(eventstoretest.Append, 3)
//	store = network.Open(t, eventstore.Options{})
//
// A test's own event store is a node in this process behind [Servers], which answer as EventStoreDB does where the node is more lenient:
// when appends race. A test fails if EventStoreDB would have dropped one of its appends. Servers also make clusters:
//
//	servers := eventstoretest.Cluster(t, 3)
//	store = servers.Open(t, eventstore.Options{})
//	servers.Kill(servers.Leader())
package eventstoretest

import (
	"context"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"roombook/eventstore"
	"roombook/eventstore/node"
)

// variable is the environment variable with the connection string of the server to use instead of a node.
const variable = "ROOMBOOK_TEST_EVENTSTORE"

// WithoutBatchAppend is the environment variable that, unless it is empty, makes [Servers] lack BatchAppend, as old versions of EventStoreDB
// do.
const WithoutBatchAppend = "ROOMBOOK_TEST_WITHOUT_BATCHAPPEND"

// Open returns a store on a working event store. Both are closed at the end of the test.
func Open(t testing.TB) *eventstore.Store {
	t.Helper()
	return open(t, ConnectionString(t), eventstore.Options{})
}

// OpenAlone is [Open] on a node in memory, also where a server is to be used: for tests of what shows all that a store has.
func OpenAlone(t testing.TB) *eventstore.Store {
	t.Helper()
	return open(t, inMemory(t), eventstore.Options{})
}

// inMemory is the connection string of a node in memory.
func inMemory(t testing.TB) string {
	t.Helper()
	return "esdb://" + Serve(t, "") + "?tls=false"
}

// ConnectionString is that of an event store that runs until the end of the test.
func ConnectionString(t testing.TB) string {
	t.Helper()
	if s := os.Getenv(variable); s != "" {
		return s
	}
	return Real(t).ConnectionString()
}

// Backend is the connection string of the server that tests are to use, or of a node in memory.
func Backend(t testing.TB) string {
	t.Helper()
	if s := os.Getenv(variable); s != "" {
		return s
	}
	return inMemory(t)
}

// Serve runs a node until the end of the test, on a data folder or, if dir is empty, in memory. It returns its address, on loopback.
func Serve(t testing.TB, dir string) (address string) {
	t.Helper()
	address = ClosedPort(t)
	t.Cleanup(ServeUntil(t, dir, address))
	return address
}

// ServeUntil is [Serve] at an address, until stop is called, which must be before the end of the test. A node that is stopped can be served
// again from its folder.
func ServeUntil(t testing.TB, dir, address string) (stop func()) {
	t.Helper()
	n, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		t.Fatalf("open a node: %v", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, listener) }()
	return func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("close the node: %v", err)
		}
	}
}

// Node returns an event store behind a network that fails on demand. Both are closed at the end of the test.
func Node(t testing.TB) *Controlled {
	t.Helper()
	return BeforeStore(t, ConnectionString(t))
}

// BeforeStore puts a network that fails on demand before the event store of a connection string. An event store can have several.
func BeforeStore(t testing.TB, connectionString string) *Controlled {
	t.Helper()
	return Before(t, single(t, connectionString))
}

// single is the address in a connection string that names one server.
func single(t testing.TB, connectionString string) string {
	t.Helper()
	at, err := url.Parse(connectionString)
	if err != nil || strings.Contains(at.Host, ",") || at.Scheme != "esdb" || at.Query().Get("tls") != "false" {
		t.Fatalf("a network can only be put before one server without TLS, not before %s", connectionString)
	}
	if at.Port() == "" {
		return net.JoinHostPort(at.Host, "2113")
	}
	return at.Host
}

// ConnectionString is that of the event store behind the network.
func (c *Controlled) ConnectionString() string { return "esdb://" + c.Address() + "?tls=false" }

// Open returns a store behind the network. It sets the connection string of the options. The store is closed at the end of the test.
func (c *Controlled) Open(t testing.TB, o eventstore.Options) *eventstore.Store {
	t.Helper()
	return open(t, c.ConnectionString(), o)
}

func open(t testing.TB, connectionString string, o eventstore.Options) *eventstore.Store {
	t.Helper()
	o.ConnectionString = connectionString
	s, err := eventstore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}
