package node_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/node"
)

// A connection within the process leads to the same log as one from the network, and a listener that is closed takes none.
func TestConnectionsWithinTheProcess(t *testing.T) {
	n, err := node.Open(node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	network, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := node.NewListener(network)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, l) }()

	// Nothing listens at the address of the connection string.
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://127.0.0.1:1?tls=false", Dial: l.Dial})
	if err != nil {
		t.Fatal(err)
	}
	id := domain.BookingID(uuid.NewString())
	at, err := s.Append(t.Context(), id.Stream(), eventstore.NoStream, eventstore.Proposed{Event: domain.BookingCreated{BookingID: id}})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range s.ReadStream(t.Context(), id.Stream(), 0) {
		if err != nil || e.Position != at.Position {
			t.Errorf("read %v, %v", e, err)
		}
	}

	configuration, err := esdb.ParseConnectionString("esdb://" + network.Addr().String() + "?tls=false")
	if err != nil {
		t.Fatal(err)
	}
	client, err := esdb.NewClient(configuration)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	events, err := client.ReadStream(t.Context(), id.Stream(), esdb.ReadStreamOptions{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	if e, err := events.Recv(); err != nil || e.Event.Position.Commit != uint64(at.Position) {
		t.Errorf("from the network: %v, %v", e, err)
	}

	if err := s.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if c, err := l.Dial(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("Dial after the end: %v, %v", c, err)
	}
}
