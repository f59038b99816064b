package eventstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// relay relays calls to the event store, except those to which a test has scripted other answers: statuses that a healthy event store
// never returns.
type relay struct {
	t        testing.TB
	upstream *grpc.ClientConn

	// admit is called first for each call and for each batch of a BatchAppend call, if it is set; its error is the answer.
	admit func(grpc.ServerStream) error

	mu     sync.Mutex
	script []answer // for the next calls, in order
}

// answer is a scripted answer to a call of a method.
type answer struct {
	method string
	// before is called first.
	before func()
	// forward lets the event store carry it out all the same, once all its requests have come.
	forward bool
	// after is called when the event store has carried it out, before the caller is answered.
	after func()
	// pass is how many of the event store's messages the caller gets before the status.
	pass int
	// early answers before any request is read.
	early bool
	// status is the answer.
	status error
}

// startRelay starts a relay to an event store and returns the address to connect to.
func startRelay(t testing.TB, to string, admit func(grpc.ServerStream) error, options ...grpc.ServerOption) (*relay, string) {
	t.Helper()
	upstream, err := grpc.NewClient(to, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, upstream: upstream, admit: admit}
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(r.handle), grpc.ForceServerCodecV2(raw{}), grpc.MaxRecvMsgSize(17<<20))...)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := upstream.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r, listener.Addr().String()
}

// answer adds to the script.
func (r *relay) answer(a ...answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = append(r.script, a...)
}

// left is how many answers of the script are left.
func (r *relay) left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.script)
}

func (r *relay) next(method string) (answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.script) == 0 || r.script[0].method != method {
		return answer{}, false
	}
	a := r.script[0]
	r.script = r.script[1:]
	return a, true
}

func (r *relay) handle(_ any, caller grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(caller)
	if method == streams.Streams_BatchAppend_FullMethodName {
		return r.handleBatches(caller)
	}
	if r.admit != nil {
		if err := r.admit(caller); err != nil {
			return err
		}
	}
	a, scripted := r.next(method)
	if a.before != nil {
		a.before()
	}
	if a.early {
		return a.status
	}
	if scripted && !a.forward && a.pass == 0 {
		for {
			if err := caller.RecvMsg(new(mem.BufferSlice)); err != nil {
				return a.status
			}
		}
	}

	ctx, cancel := context.WithCancel(caller.Context())
	defer cancel()
	store, err := r.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(17<<20))
	if err != nil {
		return err
	}
	var requests sync.WaitGroup
	requests.Go(func() {
		for {
			var message mem.BufferSlice
			if err := caller.RecvMsg(&message); err != nil {
				if errors.Is(err, io.EOF) {
					_ = store.CloseSend()
				} else {
					cancel()
				}
				return
			}
			if store.SendMsg(message) != nil {
				return
			}
		}
	})
	err = func() error {
		for passed := 0; ; passed++ {
			if a.pass > 0 && passed == a.pass {
				return io.EOF
			}
			var message mem.BufferSlice
			if err := store.RecvMsg(&message); err != nil {
				return err
			}
			if scripted && a.pass == 0 {
				continue
			}
			if err := caller.SendMsg(message); err != nil {
				return err
			}
		}
	}()
	if errors.Is(err, io.EOF) && a.pass > 0 {
		return a.status
	}
	caller.SetTrailer(store.Trailer())
	if errors.Is(err, io.EOF) {
		requests.Wait()
		if a.after != nil {
			a.after()
		}
		return a.status
	}
	return err
}

// raw is a gRPC codec for encoded messages.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) { return v.(mem.BufferSlice), nil }

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*mem.BufferSlice) = mem.BufferSlice{mem.SliceBuffer(data.Materialize())}
	return nil
}

var _ encoding.CodecV2 = raw{}

// unavailable is the answer of an event store that is too busy.
var unavailable = status.Error(codes.Unavailable, "Server Is Too Busy")
