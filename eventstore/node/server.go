package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // some clients compress
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// maxReceiveSize is what EventStoreDB takes as one message. gRPC takes more, so that what is refused is told in its words.
	maxReceiveSize = 16<<20 - 10_000
	// keepaliveInterval is that at which EventStoreDB and its clients ping each other, and the time they wait for an answer.
	keepaliveInterval = 10 * time.Second
	// minPingInterval tolerates clients that ping every keepaliveInterval; gRPC would cut them off after half a minute.
	minPingInterval = keepaliveInterval / 2
	// handshakeTime bounds how long a silent client may hold one of the limited connections.
	handshakeTime = 10 * time.Second
	// drainTime bounds how long calls under way may go on once a server stops.
	drainTime = 2 * time.Second
	// The windows are what clients may send before the server has read it: one append in a stream, several in a connection. Fixed
	// windows spare the ping for each round trip by which gRPC would measure the network.
	streamWindow     = 1 << 20
	connectionWindow = 16 << 20
	// streamWorkers is the number of goroutines kept to handle calls, whose stacks have grown already. Calls beyond it, as most
	// subscriptions are in the end, have goroutines of their own.
	streamWorkers = 64
)

// statsMetadata is the first event of a new log in EventStoreDB: it keeps its statistics for ten days. This node has none.
const statsMetadata = `{"$maxAge":864000}`

// beginLog writes the first event of a new log, as EventStoreDB does: once, for the first of the node's servers.
func (n *Node) beginLog(ctx context.Context, listening net.Addr) (err error) {
	n.begun.Do(func() {
		if n.log.position() > 0 {
			return
		}
		stream := metastreamOf("$stats-" + listening.String())
		_, err = n.log.append(ctx, change{stream: stream, expected: expectNoStream, events: []*event{metadataEvent(stream, []byte(statsMetadata))}})
		if errors.Is(err, errStopped) {
			n.told.Store(true)
			err = n.log.failed.err
		}
	})
	return err
}

func (n *Node) serve(ctx context.Context, l net.Listener) error {
	if err := n.beginLog(ctx, l.Addr()); err != nil {
		return err
	}
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(n.closing, stop)()

	var server *grpc.Server
	server = grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(2*maxReceiveSize),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveInterval}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.WaitForHandlers(true),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return notServed(server, stream) }),
	)
	service := &streamsService{log: n.log, errors: n.errors, stopping: stopping, patterns: &n.patterns}
	streams.RegisterStreamsServer(server, service)
	groups := &persistentService{groups: n.groups, streams: service, stopping: stopping}
	persistent.RegisterPersistentSubscriptionsServer(server, groups)
	registerOperations(server, groups)
	registerBackup(server, n.backups)
	serverfeatures.RegisterServerFeaturesServer(server, featuresService{})
	gossip.RegisterGossipServer(server, newGossipService(l.Addr()))

	served := make(chan error, 1)
	if local, ok := l.(*Listener); ok {
		go func() { _ = server.Serve(local.pipes) }() // ends with the server
	}
	go func() { served <- server.Serve(netutil.LimitListener(l, openConnections())) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("node: serve on %s: %w", l.Addr(), err)
		stop()
		server.Stop()
		return err
	case <-n.log.failed.done:
	case <-stopping.Done():
		if n.closing.Err() != nil && ctx.Err() == nil {
			err = ErrClosed
		}
	}
	stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.AfterFunc(drainTime, server.Stop)
		defer timer.Stop()
		server.GracefulStop()
		<-served
	}()
	select {
	case <-ended:
	case <-n.log.failed.done:
		// Calls may be stuck in the failed log.
		select {
		case <-ended:
		case <-time.After(drainTime + time.Second):
		}
	}
	if n.log.hasFailed() {
		n.told.Store(true)
		return n.log.failed.err
	}
	return err
}

// notServed answers calls of services and methods that are not served.
func notServed(server *grpc.Server, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	service, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	text := "Service is unimplemented."
	if _, served := server.GetServiceInfo()[service]; served {
		text = "Method is unimplemented."
	}
	return status.Error(codes.Unimplemented, text)
}

// answer returns the error for a streaming handler to return, and sets its trailers.
func answer(stream grpc.ServerStream, err error) error {
	if trailers := trailersOf(err); trailers != nil {
		stream.SetTrailer(trailers)
	}
	return answered(err)
}

// answered returns err as the client is to see it.
func answered(err error) error {
	if _, damaged := errors.AsType[*DamagedError](err); damaged || errors.Is(err, errStopped) {
		return errShutdown
	}
	return err
}
