package node_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"roombook/eventstore/node"
)

// server is a node that listens.
type server struct {
	*node.Node
	address string
}

// start runs a node in memory until the test ends.
func start(t testing.TB) server {
	t.Helper()
	return startIn(t, "")
}

// startIn runs a node on a folder until the test ends.
func startIn(t testing.TB, dir string) server {
	t.Helper()
	n, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	n.BeginEmpty()
	return server{n, serve(t, n, "127.0.0.1:0")}
}

// serve lets n listen until the test ends and returns its address.
func serve(t testing.TB, n *node.Node, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// client returns an official client of the server.
func (s server) client(t testing.TB) *esdb.Client {
	t.Helper()
	c, err := connect(s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func connect(address string) (*esdb.Client, error) {
	configuration, err := esdb.ParseConnectionString(fmt.Sprintf("esdb://%s?tls=false", address))
	if err != nil {
		return nil, err
	}
	configuration.Logger = esdb.NoopLogging()
	return esdb.NewClient(configuration)
}

// dial returns a plain connection to the server, for what the official client cannot ask.
func (s server) dial(t testing.TB, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(s.address, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// event returns an event of which only the type is of interest.
func event(eventType string) esdb.EventData {
	return esdb.EventData{EventID: uuid.New(), EventType: eventType, ContentType: esdb.ContentTypeJson, Data: []byte(`{}`)}
}
