package eventstore_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// All appends share one call where BatchAppend is offered, and have one each where it is not. Which it is, that is asked once a connection.
func TestAppendsShareACall(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{Connections: 1, Timeout: time.Minute})
	const appends = 50
	var appending sync.WaitGroup
	for range appends {
		appending.Go(func() { mustAppend(t, s, newStream(), eventstore.NoStream, events(2)...) })
	}
	appending.Wait()
	want := 1
	if os.Getenv(eventstoretest.WithoutBatchAppend) != "" {
		want = 0
	}
	calls, asked, passed := network.Calls(streams.Streams_BatchAppend_FullMethodName), network.Calls(serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName), network.Calls(eventstoretest.Append)
	if calls != want || asked != 1 || passed != appends {
		t.Errorf("%d calls of BatchAppend, want %d; %d appends, want %d; asked %d times, want once", calls, want, passed, appends, asked)
	}
	network.Cut()
	for range 2 { // the first may have begun before the cut was noticed
		mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
	}
	if n := network.Calls(serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName); n != 2 {
		t.Errorf("asked %d times on two connections", n)
	}
}

// batchServer is an event store whose streams are empty, and which answers batches as a test says.
type batchServer struct {
	streams.UnimplementedStreamsServer
	serverfeatures.UnimplementedServerFeaturesServer
	reads   atomic.Int64
	calls   atomic.Int64
	batches func(n int64, call streams.Streams_BatchAppendServer) error // the n-th call of BatchAppend, counted from 1
}

func (b *batchServer) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	return &serverfeatures.SupportedMethods{Methods: []*serverfeatures.SupportedMethod{{
		ServiceName: "event_store.client.streams.streams", MethodName: "batchappend",
	}}}, nil
}

func (b *batchServer) Read(*streams.ReadReq, streams.Streams_ReadServer) error {
	b.reads.Add(1)
	return nil
}

func (b *batchServer) BatchAppend(call streams.Streams_BatchAppendServer) error {
	return b.batches(b.calls.Add(1), call)
}

// openBefore starts the server and opens a store on it.
func (b *batchServer) openBefore(t *testing.T, timeout time.Duration) *eventstore.Store {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	streams.RegisterStreamsServer(server, b)
	serverfeatures.RegisterServerFeaturesServer(server, b)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + listener.Addr().String() + "?tls=false", Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// success is the answer to a batch that is done as the first of its stream.
func success(request *streams.BatchAppendReq) *streams.BatchAppendResp {
	return &streams.BatchAppendResp{CorrelationId: request.CorrelationId, Result: &streams.BatchAppendResp_Success_{Success: &streams.BatchAppendResp_Success{
		CurrentRevisionOption: &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(len(request.ProposedMessages) - 1)},
	}}}
}

// Each error of a batch is what it is for an append that is a call of its own.
func TestBatchIsAnswered(t *testing.T) {
	t.Parallel()
	const noStream = -1
	wrong := func(current int) *shared.WrongExpectedVersion {
		if current == noStream {
			return &shared.WrongExpectedVersion{CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}}
		}
		return &shared.WrongExpectedVersion{CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(current)}}
	}
	says := func(text string) func(error) bool {
		return func(err error) bool {
			return err != nil && strings.Contains(err.Error(), text) && !errors.Is(err, eventstore.ErrOutcomeUnknown)
		}
	}
	var next atomic.Pointer[streams.BatchAppendResp_Error] // the answer to the next batch; nil for success
	var answers atomic.Int64
	server := &batchServer{batches: func(_ int64, call streams.Streams_BatchAppendServer) error {
		for {
			request, err := call.Recv()
			if err != nil {
				return nil
			}
			answer := success(request)
			if failure := next.Swap(nil); failure != nil {
				answer.Result = failure
			}
			answers.Add(1)
			if err := call.Send(answer); err != nil {
				return err
			}
		}
	}}
	s := server.openBefore(t, time.Minute)
	for _, test := range []struct {
		code    codes.Code
		message string
		detail  proto.Message
		want    func(error) bool
		tries   int64
		reads   bool // the stream was looked at
	}{
		{codes.DeadlineExceeded, "Timeout", &shared.Timeout{}, isNil, 2, true},
		{codes.Unknown, "Unknown", &shared.Unknown{}, isNil, 2, true},
		{codes.OK, "Server Is Not Ready", &emptypb.Empty{}, isNil, 2, false},
		{codes.AlreadyExists, "WrongExpectedVersion", wrong(7), isLostTo(7), 1, false},
		{codes.AlreadyExists, "WrongExpectedVersion", wrong(noStream), isLostTo(eventstore.NoStream), 1, false},
		{codes.PermissionDenied, "AccessDenied", &shared.AccessDenied{}, isRefusal, 1, false},
		{codes.NotFound, "StreamDeleted", &shared.StreamDeleted{}, is(eventstore.ErrDeleted), 1, false},
		{codes.InvalidArgument, "MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: 9}, is(eventstore.ErrTooLarge), 1, false},
		{codes.InvalidArgument, "MaximumAppendEventSizeExceeded", nil, is(eventstore.ErrTooLarge), 1, false}, // of a kind that the client does not know
		{codes.InvalidArgument, "BadRequest", &shared.BadRequest{Message: "no type"}, says("InvalidArgument: no type"), 1, false},
		{codes.FailedPrecondition, "InvalidTransaction", &shared.InvalidTransaction{}, says("FailedPrecondition: InvalidTransaction"), 1, false},
	} {
		detail := &anypb.Any{TypeUrl: "type.googleapis.com/event_store.client." + test.message}
		if test.detail != nil {
			var err error
			if detail, err = anypb.New(test.detail); err != nil {
				t.Fatal(err)
			}
		}
		next.Store(&streams.BatchAppendResp_Error{Error: &rpcstatus.Status{Code: int32(test.code), Message: test.message, Details: []*anypb.Any{detail}}})
		answers.Store(0)
		server.reads.Store(0)
		_, err := s.Append(t.Context(), "deleted-"+newStream(), eventstore.NoStream, events(1)...)
		if !test.want(err) || answers.Load() != test.tries || (server.reads.Load() > 0) != test.reads {
			t.Errorf("%s: %v, after %d tries and %d reads", test.message, err, answers.Load(), server.reads.Load())
		}
	}
}

// Answers that nobody waits for are dropped.
func TestAnswerForNobody(t *testing.T) {
	t.Parallel()
	server := &batchServer{batches: func(_ int64, call streams.Streams_BatchAppendServer) error {
		for {
			request, err := call.Recv()
			if err != nil {
				return nil
			}
			for _, id := range []*shared.UUID{
				nil, {}, {Value: &shared.UUID_String_{String_: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c01"}}, {Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{LeastSignificantBits: 1}}},
				request.CorrelationId, request.CorrelationId,
			} {
				answer := success(request)
				answer.CorrelationId = id
				if err := call.Send(answer); err != nil {
					return err
				}
			}
		}
	}}
	s := server.openBefore(t, time.Minute)
	for range 10 {
		mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
	}
	if n := server.calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// More callers than a call has room for leave without an answer; those who come after them have room.
func TestCallersLeaveRoom(t *testing.T) {
	t.Parallel()
	server := &batchServer{batches: func(_ int64, call streams.Streams_BatchAppendServer) error {
		for {
			request, err := call.Recv()
			if err != nil {
				return nil
			}
			if len(request.ProposedMessages) > 1 {
				if err := call.Send(success(request)); err != nil {
					return err
				}
			}
		}
	}}
	s := server.openBefore(t, time.Minute)
	mustAppend(t, s, newStream(), eventstore.NoStream, events(2)...)
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	var leaving sync.WaitGroup
	for range 600 {
		leaving.Go(func() {
			if _, err := s.Append(ctx, newStream(), eventstore.NoStream, events(1)...); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	leaving.Wait()
	mustAppend(t, s, newStream(), eventstore.NoStream, events(2)...)
	if n := server.calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// An event store reads no batches: most callers leave without having sent anything, and what is sent is bounded.
func TestTheEventStoreReadsSlowly(t *testing.T) {
	t.Parallel()
	resume := make(chan struct{})
	server := &batchServer{batches: func(_ int64, call streams.Streams_BatchAppendServer) error {
		<-resume
		for {
			request, err := call.Recv()
			if err != nil {
				return nil
			}
			if err := call.Send(success(request)); err != nil {
				return err
			}
		}
	}}
	s := server.openBefore(t, time.Minute)
	large := events(1)
	large[0].Event = domain.SlotReleased{RoomID: domain.RoomID(strings.Repeat("x", 100_000))}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var sent atomic.Int64
	var leaving sync.WaitGroup
	for range 100 {
		leaving.Go(func() {
			_, err := s.Append(ctx, newStream(), eventstore.NoStream, large...)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if errors.Is(err, eventstore.ErrOutcomeUnknown) {
				sent.Add(1)
			}
		})
	}
	leaving.Wait()
	if n := sent.Load(); n > 10 {
		t.Errorf("%d appends of 100 KB were sent to an event store that reads nothing", n)
	}
	close(resume)
	mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
}

// A call falls silent, not the connection: an append on it times out, and later ones get a new call.
func TestTheCallFallsSilent(t *testing.T) {
	t.Parallel()
	server := &batchServer{batches: func(n int64, call streams.Streams_BatchAppendServer) error {
		for {
			request, err := call.Recv()
			if err != nil {
				return nil
			}
			if n > 1 {
				if err := call.Send(success(request)); err != nil {
					return err
				}
			}
		}
	}}
	s := server.openBefore(t, time.Second)
	if _, err := s.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...); !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Error(err)
	}
	mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
}

// A BatchAppend call is refused as a whole while many append: none of them has an unknown outcome.
func TestTheCallIsRefused(t *testing.T) {
	t.Parallel()
	server := &batchServer{batches: func(n int64, call streams.Streams_BatchAppendServer) error {
		want := 1
		if n == 1 { // when all of them wait
			want = 3
		}
		for range want {
			if _, err := call.Recv(); err != nil {
				return nil
			}
		}
		return status.Error(codes.Unauthenticated, "")
	}}
	s := server.openBefore(t, time.Minute)
	var appending sync.WaitGroup
	for range 30 {
		appending.Go(func() {
			_, err := s.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...)
			if _, ok := errors.AsType[*eventstore.Refused](err); !ok || errors.Is(err, eventstore.ErrOutcomeUnknown) {
				t.Error(err)
			}
		})
	}
	appending.Wait()
}
