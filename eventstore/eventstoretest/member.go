package eventstoretest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// maxMessage is a little more than EventStoreDB and its clients accept.
	maxMessage = 17 << 20
	// maxCalls is how many calls EventStoreDB accepts at a time on a connection. Further calls wait.
	maxCalls = 100

	keepaliveInterval = 10 * time.Second
	streamWindow      = 1 << 20
	connectionWindow  = 16 << 20
	streamWorkers     = 64
)

// The methods that are not simply relayed.
const (
	methodBatchAppend = "/event_store.client.streams.Streams/BatchAppend"
	methodDelete      = "/event_store.client.streams.Streams/Delete"
	methodTombstone   = "/event_store.client.streams.Streams/Tombstone"
	methodGossip      = "/event_store.client.gossip.Gossip/Read"
	methodGroup       = "/event_store.client.persistent_subscriptions.PersistentSubscriptions/Read"
	methodFeatures    = "/event_store.client.server_features.ServerFeatures/GetSupportedMethods"
)

// The errors that the servers themselves return.
var (
	errNotReady      = status.Error(codes.Unavailable, "Server Is Not Ready")
	errCommitTimeout = status.Error(codes.Aborted, "Operation timed out: Commit phase timeout.")
	errHandler       = status.Error(codes.Unknown, "Exception was thrown by handler.")
)

// handle serves a call.
func (m *member) handle(_ any, caller grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(caller)
	ctx := caller.Context()
	if incoming, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, incoming)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.servers.noBatches && (method == methodBatchAppend || method == methodFeatures) {
		return status.Error(codes.Unimplemented, "Service is unimplemented.")
	}
	switch method {
	case Append, methodDelete, methodTombstone:
		return m.write(ctx, caller, method)
	case methodBatchAppend:
		return m.batchAppend(ctx, caller)
	case Read:
		return m.read(ctx, caller)
	case methodGroup:
		return m.readGroup(ctx, caller)
	case methodGossip:
		return m.answerGossip(caller)
	case methodFeatures:
		return m.relay(ctx, caller, method)
	}
	if _, err := m.admit(caller, false); err != nil {
		return err
	}
	return m.relay(ctx, caller, method)
}

// readGroup serves a client of a persistent subscription: events are passed on when they can be read. Groups are the leader's, who drops
// their clients when it resigns.
func (m *member) readGroup(ctx context.Context, caller grpc.ServerStream) error {
	if leads, err := m.admit(caller, true); !leads {
		return cmp.Or(err, errNotReady)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		m.untilResigned(ctx)
	}()
	err := m.relay(ctx, caller, methodGroup)
	if caller.Context().Err() == nil && ctx.Err() != nil {
		caller.SetTrailer(metadata.Pairs("exception", "persistent-subscription-dropped"))
		return status.Error(codes.Canceled, "Subscription was dropped.")
	}
	return err
}

// untilResigned waits until the member does not lead any more.
func (m *member) untilResigned(ctx context.Context) {
	s := m.servers
	for ctx.Err() == nil {
		s.mu.Lock()
		leads, changed := s.leader == m.number, s.index.nextChange()
		s.mu.Unlock()
		if !leads {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// admit reports whether the member leads. The error is that of a call it refuses.
func (m *member) admit(caller grpc.ServerStream, writes bool) (leads bool, err error) {
	s := m.servers
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.leader == m.number:
		return true, nil
	case s.leader == nobody && (writes || requiresLeader(caller)):
		return false, errNotReady
	case s.leader == nobody || !requiresLeader(caller):
		return false, nil
	}
	leader := endpoint(s.members[s.leader].advertised)
	caller.SetTrailer(metadata.Pairs(
		"exception", "not-leader",
		"leader-endpoint-host", leader.Address,
		"leader-endpoint-port", strconv.Itoa(int(leader.Port)),
	))
	return false, status.Error(codes.NotFound, "Leader info available")
}

func requiresLeader(caller grpc.ServerStream) bool {
	values := metadata.ValueFromIncomingContext(caller.Context(), "requires-leader")
	return len(values) > 0 && strings.EqualFold(values[0], "true")
}

func endpoint(address string) *gossip.EndPoint {
	host, text, _ := net.SplitHostPort(address)
	port, _ := strconv.ParseUint(text, 10, 16)
	return &gossip.EndPoint{Address: host, Port: uint32(port)}
}

func (m *member) answerGossip(caller grpc.ServerStream) error {
	if err := caller.RecvMsg(new(frame)); err != nil {
		return err
	}
	return caller.SendMsg(encode(m.servers.gossip()))
}

// open calls the event store behind and sends all requests.
func (s *Servers) open(ctx context.Context, method string, requests ...frame) (grpc.ClientStream, error) {
	call, err := s.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		if call.SendMsg(request) != nil {
			break // the answer says why
		}
	}
	return call, call.CloseSend()
}

func receive(call grpc.ClientStream) (answer frame, err error) {
	err = call.RecvMsg(&answer)
	return answer, err
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) }

// relay passes any call on, and its answers back.
func (m *member) relay(ctx context.Context, caller grpc.ServerStream, method string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := m.servers.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() { // until the handler returns, at the latest
		for {
			var request frame
			if err := caller.RecvMsg(&request); err != nil {
				if isEnd(err) {
					_ = call.CloseSend() // never fails
				} else {
					cancel()
				}
				return
			}
			if call.SendMsg(request) != nil {
				return
			}
		}
	}()
	return passAnswers(caller, call, func(answer frame) (step, error) {
		if method != methodGroup {
			return pass, nil
		}
		return pass, m.awaitVisible(ctx, deliveredPosition(answer))
	})
}

// step says what to do with an answer.
type step int

const (
	pass step = iota
	skip
	stop // and skip the rest
)

// passAnswers passes answers back as each says, with their headers and trailers, and returns the error that the call ended with.
func passAnswers(caller grpc.ServerStream, call grpc.ClientStream, each func(answer frame) (step, error)) error {
	for first := true; ; first = false {
		answer, err := receive(call)
		if first {
			passHeader(caller, call)
		}
		if err != nil {
			caller.SetTrailer(call.Trailer())
			if isEnd(err) {
				return nil
			}
			return err
		}
		next, err := each(answer)
		switch {
		case err != nil || next == stop:
			return err
		case next == skip:
			continue
		}
		if err := caller.SendMsg(answer); err != nil {
			return err
		}
	}
}

// passHeader passes the headers back.
func passHeader(caller grpc.ServerStream, call grpc.ClientStream) {
	if header, err := call.Header(); err == nil {
		_ = caller.SetHeader(header) // fails only if they have been sent
	}
}
