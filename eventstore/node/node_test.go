package node_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"

	"roombook/eventstore/node"
)

func TestFolderHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	first, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = node.Open(node.Options{Dir: dir})
	if e, ok := errors.AsType[*node.LockedError](err); !ok || e.Dir != dir || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	second, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNonLoopbackIsRefused(t *testing.T) {
	n, err := node.Open(node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(t.Context(), l); err == nil {
		t.Error("it is served")
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

// TestListenerComesBack: a listener fails, and another one at the same address serves the same log. What the client had open
// ends, and it finds its way back.
func TestListenerComesBack(t *testing.T) {
	n, err := node.Open(node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- n.Serve(context.Background(), l) }()
	c := server{n, l.Addr().String()}.client(t)
	if _, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, event("A")); err != nil {
		t.Fatal(err)
	}
	sub, err := c.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.End{}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()

	l.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
	for {
		if e := sub.Recv(); e.SubscriptionDropped != nil {
			break
		}
	}
	serve(t, n, l.Addr().String())
	again := event("B")
	for {
		r, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(0)}, again)
		if err == nil {
			if r.NextExpectedVersion != 1 {
				t.Errorf("got revision %d", r.NextExpectedVersion)
			}
			return
		}
		if e, ok := errors.AsType[*esdb.Error](err); !ok || e.Code() != esdb.ErrorUnavailable {
			t.Fatal(err)
		}
	}
}

// TestServeEnds: when its context ends, a server ends its subscriptions and returns without an error.
func TestServeEnds(t *testing.T) {
	n, err := node.Open(node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, end := range []string{"context", "node"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		served := make(chan error, 1)
		go func() { served <- n.Serve(ctx, l) }()
		next := subscribe(t, server{n, l.Addr().String()}.dial(t), &streams.ReadReq_Options{StreamOption: ofAll("end")})
		for _, want := range []string{"confirmed", "caught up"} {
			if got := next(); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		var want error
		if end == "context" {
			cancel()
		} else {
			want = node.ErrClosed
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if got := next(); got != codes.Unavailable.String() {
			t.Errorf("%s ends: the subscription got %s", end, got)
		}
		if err := <-served; !errors.Is(err, want) {
			t.Errorf("%s ends: Serve returned %v", end, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(t.Context(), l); !errors.Is(err, node.ErrClosed) {
		t.Errorf("Serve on a closed node returned %v", err)
	}
}

// TestNewLogBegins: a log begins with an event of the server's own, one only, whatever serves it later.
func TestNewLogBegins(t *testing.T) {
	dir := t.TempDir()
	var first string // its stream
	for range 2 {
		n, err := node.Open(node.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = "$$$stats-" + l.Addr().String()
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- n.Serve(ctx, l) }()
			r, err := server{n, l.Addr().String()}.client(t).ReadAll(t.Context(), esdb.ReadAllOptions{}, 9)
			if err != nil {
				t.Fatal(err)
			}
			log := collect(t, r)
			if len(log) != 1 || log[0].StreamID != first || log[0].EventType != "$metadata" || log[0].Position.Commit != 1 || string(log[0].Data) != `{"$maxAge":864000}` {
				t.Errorf("the log of %s is %+v", first, log)
			}
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerFeatures(t *testing.T) {
	answer, err := serverfeatures.NewServerFeaturesClient(start(t).dial(t)).GetSupportedMethods(t.Context(), &shared.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(answer.EventStoreServerVersion, "24.10.") {
		t.Errorf("version is %s", answer.EventStoreServerVersion)
	}
	var methods []string
	for _, m := range answer.Methods {
		methods = append(methods, fmt.Sprint(m.ServiceName, "/", m.MethodName, m.Features))
	}
	want := []string{
		"event_store.client.streams.streams/read[position events]",
		"event_store.client.streams.streams/append[]",
		"event_store.client.streams.streams/batchappend[deadline_duration]",
		"event_store.client.streams.streams/delete[]",
		"event_store.client.streams.streams/tombstone[]",
		"event_store.client.server_features.serverfeatures/getsupportedmethods[]",
		"event_store.client.gossip.gossip/read[]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/create[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/update[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/delete[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/read[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/getinfo[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/replayparked[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/list[stream all]",
		"event_store.client.persistent_subscriptions.persistentsubscriptions/restartsubsystem[stream all]",
		"event_store.client.operations.operations/mergeindexes[]",
		"event_store.client.operations.operations/restartpersistentsubscriptions[]",
		"event_store.client.operations.operations/setnodepriority[]",
		"event_store.client.operations.operations/stopscavenge[]",
	}
	if !slices.Equal(methods, want) {
		t.Errorf("got %v", methods)
	}
}

// TestGossip: a client that discovers is sent to the address that it came by.
func TestGossip(t *testing.T) {
	s := start(t)
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.address = "localhost:" + port
	answer, err := gossip.NewGossipClient(s.dial(t)).Read(t.Context(), &shared.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Members) != 1 {
		t.Fatalf("%d members", len(answer.Members))
	}
	m := answer.Members[0]
	if m.State != gossip.MemberInfo_Leader || !m.IsAlive || m.HttpEndPoint.Address != "localhost" || fmt.Sprint(m.HttpEndPoint.Port) != port {
		t.Errorf("got %v", m)
	}

	configuration, err := esdb.ParseConnectionString("esdb+discover://" + s.address + "?tls=false")
	if err != nil {
		t.Fatal(err)
	}
	configuration.Logger = esdb.NoopLogging()
	c, err := esdb.NewClient(configuration)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, event("A")); err != nil {
		t.Error(err)
	}
}
