package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"roombook/eventstore/node"
)

// batchOf is a batch of n events to stream, whatever its revision.
func batchOf(correlation uuid.UUID, stream string, n, size int) *streams.BatchAppendReq {
	r := &streams.BatchAppendReq{CorrelationId: structuredOf(correlation), IsFinal: true, Options: &streams.BatchAppendReq_Options{
		StreamIdentifier: streamIdentifier(stream), ExpectedStreamPosition: &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}},
	}}
	for range n {
		p := proposed("A")
		r.ProposedMessages = append(r.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
			Id: structuredOf(uuid.New()), Metadata: p.Metadata, Data: make([]byte, size),
		})
	}
	return r
}

// TestBatchesWaitForTheirReader: a client that sends far more batches than it reads answers is kept waiting, not remembered, and
// has every answer in the end. Its events are neighbours in the log whatever others append meanwhile.
func TestBatchesWaitForTheirReader(t *testing.T) {
	const batches, each, writers = 2000, 3, 4
	c := start(t).dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls sync.WaitGroup
	for w := range writers {
		call, err := streams.NewStreamsClient(c).BatchAppend(ctx)
		if err != nil {
			t.Fatal(err)
		}
		stream := fmt.Sprint("s-", w)
		sent := make(chan struct{})
		var correlations [batches]uuid.UUID
		for i := range correlations {
			correlations[i] = uuid.New()
		}
		calls.Go(func() {
			defer close(sent)
			for i := range batches {
				if err := call.Send(batchOf(correlations[i], stream, each, 100)); err != nil {
					t.Errorf("%s: batch %d: %v", stream, i, err)
					return
				}
			}
			if err := call.CloseSend(); err != nil {
				t.Error(err)
			}
		})
		calls.Go(func() {
			if w == 0 {
				<-sent // it fits into the connection's windows
			}
			for i := range batches {
				answer, err := call.Recv()
				if err != nil {
					t.Errorf("%s: answer %d: %v", stream, i, err)
					return
				}
				if got, want := answer.GetSuccess().GetCurrentRevision(), uint64((i+1)*each-1); got != want {
					t.Errorf("%s: answer %d is at revision %d, want %d", stream, i, got, want)
					return
				}
				if s := answer.GetCorrelationId().GetStructured(); uint64(s.GetMostSignificantBits()) != be64(correlations[i][:8]) {
					t.Errorf("%s: answer %d is to another batch", stream, i)
					return
				}
			}
			if _, err := call.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("%s: after the last answer: %v", stream, err)
			}
		})
	}
	calls.Wait()
}

// TestBatchesEndWithServer: a server that stops answers the batches that it has, drops those that are unfinished, and ends the
// call.
func TestBatchesEndWithServer(t *testing.T) {
	n, err := node.Open(node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.Serve(context.Background(), l) }()
	call, err := streams.NewStreamsClient(server{n, l.Addr().String()}.dial(t)).BatchAppend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unfinished := batchOf(uuid.New(), "s", 1, 1)
	unfinished.IsFinal = false
	for _, m := range []*streams.BatchAppendReq{unfinished, batchOf(uuid.New(), "s", 1, 1)} {
		if err := call.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := call.Recv(); err != nil || answer.GetSuccess() == nil {
		t.Fatalf("got %v, %v", answer, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if err := <-served; !errors.Is(err, node.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
}

// TestUnfinishedBatchesAreBounded: a call that begins batches without end is ended before they fill the memory.
func TestUnfinishedBatchesAreBounded(t *testing.T) {
	c := start(t).dial(t)
	for range 10 { // a machine that is slow at a time sends some after others have had theirs
		if code := beginBatches(t, c); code == codes.ResourceExhausted {
			return
		}
	}
	t.Error("100 MB of unfinished batches were held")
}

// beginBatches begins 100 MB of batches in one call and returns how it ended, or OK if batches timed out meanwhile.
func beginBatches(t *testing.T, c *grpc.ClientConn) codes.Code {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	call, err := streams.NewStreamsClient(c).BatchAppend(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		m := batchOf(uuid.New(), "s", 1, 1<<20-100)
		m.IsFinal = false
		if err := call.Send(m); err != nil {
			break
		}
	}
	answer, err := call.Recv()
	if err == nil && answer.GetError().GetCode() != int32(codes.DeadlineExceeded) {
		t.Fatalf("got %v", answer)
	}
	return status.Code(err)
}
