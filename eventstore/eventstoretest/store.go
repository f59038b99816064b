// Package eventstoretest gives tests an event store of their own, or the server that the environment variable
// ROOMBOOK_TEST_EVENTSTORE names with a connection string. That server may be shared and full of other things, so a test uses stream
// names of its own and expects nothing of the log but what it has written.
//
//	store := eventstoretest.Open(t)      // a store that works
//	network := eventstoretest.Node(t)    // one behind a network that fails on demand
//	network.LoseAnswer(eventstoretest.Append, 3)
//	store = network.Open(t, eventstore.Options{})
//
// A test's own event store is a node in this process, and before it [Servers] that answer as EventStoreDB does where the node is
// kinder: where many append at once. A test in which an append is dropped that EventStoreDB would drop fails. A cluster is theirs too:
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

// variable names the server that tests use in place of a node of their own.
const variable = "ROOMBOOK_TEST_EVENTSTORE"

// Open is a store on an event store that works. Both are closed at the end of the test.
func Open(t testing.TB) *eventstore.Store {
	t.Helper()
	return open(t, ConnectionString(t), eventstore.Options{})
}

// ConnectionString is that of an event store that works until the end of the test.
func ConnectionString(t testing.TB) string {
	t.Helper()
	if s := os.Getenv(variable); s != "" {
		return s
	}
	return Real(t).ConnectionString()
}

// stored is the connection string of the server that tests are to use, or of a node.
func stored(t testing.TB) string {
	t.Helper()
	if s := os.Getenv(variable); s != "" {
		return s
	}
	return "esdb://" + Serve(t, "") + "?tls=false"
}

// Serve starts a node until the end of the test, at a free address of loopback that it returns, on a data folder or, without
// one, in memory.
func Serve(t testing.TB, dir string) (address string) {
	t.Helper()
	n, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		t.Fatalf("open a node: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("close the node: %v", err)
		}
	})
	return listener.Addr().String()
}

// Node is an event store behind a network that fails on demand. Both are closed at the end of the test.
func Node(t testing.TB) *Controlled {
	t.Helper()
	return BeforeStore(t, ConnectionString(t))
}

// BeforeStore is a network that fails on demand before the event store of a connection string. An event store can have several.
func BeforeStore(t testing.TB, connectionString string) *Controlled {
	t.Helper()
	return Before(t, single(t, connectionString))
}

// single is the address of the one server of a connection string.
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

// Open is a store behind the network, with the options but for the connection string. It is closed at the end of the test.
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
