package eventstore_test

import (
	"errors"
	"io"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"roombook/eventstore/eventstoretest"
)

// relayedBatches is a BatchAppend call through a relay. The script's answers to Append are for its batches.
type relayedBatches struct {
	relay  *relay
	caller grpc.ServerStream
	store  streams.Streams_BatchAppendClient
	ended  chan error // the status that the call ends with; one is read

	mu      sync.Mutex
	waiting map[string]answer // scripted, until the event store has answered, by correlation id
}

func (r *relay) handleBatches(caller grpc.ServerStream) error {
	store, err := streams.NewStreamsClient(r.upstream).BatchAppend(caller.Context())
	if err != nil {
		return err
	}
	b := &relayedBatches{relay: r, caller: caller, store: store, ended: make(chan error, 1), waiting: map[string]answer{}}
	go b.requests()
	go b.answers()
	return <-b.ended
}

func (b *relayedBatches) end(err error) {
	select {
	case b.ended <- err:
	default:
	}
}

func (b *relayedBatches) requests() {
	for {
		var message mem.BufferSlice
		request := &streams.BatchAppendReq{}
		err := b.caller.RecvMsg(&message)
		if err == nil {
			err = proto.Unmarshal(message.Materialize(), request)
		}
		if errors.Is(err, io.EOF) {
			_ = b.store.CloseSend()
			return
		}
		if err == nil && b.relay.admit != nil {
			err = b.relay.admit(b.caller)
			if status.Code(err) == codes.PermissionDenied {
				b.answer(request.CorrelationId, err)
				continue
			}
		}
		if err != nil {
			b.end(err)
			return
		}
		a, scripted := b.relay.next(eventstoretest.Append)
		if a.before != nil {
			a.before()
		}
		if scripted && !a.forward {
			b.answer(request.CorrelationId, a.status)
			continue
		}
		if scripted {
			b.mu.Lock()
			b.waiting[request.CorrelationId.String()] = a
			b.mu.Unlock()
		}
		_ = b.store.Send(request) // an error comes instead of the answers
	}
}

func (b *relayedBatches) answers() {
	for {
		message, err := b.store.Recv()
		if err != nil {
			b.end(err)
			return
		}
		b.mu.Lock()
		a, scripted := b.waiting[message.CorrelationId.String()]
		delete(b.waiting, message.CorrelationId.String())
		b.mu.Unlock()
		if !scripted {
			b.send(message)
			continue
		}
		go func() {
			if a.after != nil {
				a.after()
			}
			b.answer(message.CorrelationId, a.status)
		}()
	}
}

func (b *relayedBatches) send(message *streams.BatchAppendResp) {
	encoded, err := proto.Marshal(message)
	if err != nil {
		b.relay.t.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.caller.SendMsg(mem.BufferSlice{mem.SliceBuffer(encoded)}) // fails only if the call has ended
}

// answer answers a batch as EventStoreDB does where it ends an Append with the status: with an error of the batch, or by the end of the call.
func (b *relayedBatches) answer(correlation *shared.UUID, ended error) {
	var failure *status.Status
	var detail protoadapt.MessageV1
	switch status.Code(ended) {
	case codes.PermissionDenied:
		failure, detail = status.New(codes.PermissionDenied, "AccessDenied"), &shared.AccessDenied{}
	case codes.Aborted, codes.DeadlineExceeded:
		failure, detail = status.New(codes.DeadlineExceeded, "Timeout"), &shared.Timeout{}
	case codes.InvalidArgument:
		failure, detail = status.New(codes.InvalidArgument, "MaximumAppendSizeExceeded"), &shared.MaximumAppendSizeExceeded{MaxAppendSize: 1024}
	default:
		b.end(ended)
		return
	}
	failure, err := failure.WithDetails(detail)
	if err != nil {
		b.relay.t.Error(err)
	}
	b.send(&streams.BatchAppendResp{CorrelationId: correlation, Result: &streams.BatchAppendResp_Error{Error: failure.Proto()}})
}
