package eventstore

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"roombook/domain"
)

// maxBatches is the number of appends that a BatchAppend call carries at a time. Further callers wait.
const maxBatches = 256

// batchCall is a call of BatchAppend, which carries all appends to a member: each is one message, its batch, and the answers come in any
// order. One goroutine sends and one receives. Goroutines may share it.
type batchCall struct {
	member     *member
	connection *connection
	stream     streams.Streams_BatchAppendClient
	cancel     context.CancelCauseFunc

	slots       chan struct{} // one for each append
	toSend      chan *batch   // unbuffered: a batch that was taken from it is being sent
	correlation uint64        // of the call: the first half of its correlation ids
	failure     error         // set when ended is closed
	ended       chan struct{}

	mu       sync.Mutex
	sent     uint64            // the number of batches, and the second half of the last correlation id
	inFlight map[uint64]*batch // sent and not answered, without those whose caller has left
	left     bool              // a caller has left
	answered bool              // a batch was answered
	silence  time.Time         // since when batches have been in flight and none was answered
}

// batch is an append on its way.
type batch struct {
	request *streams.BatchAppendReq
	result  chan batchResult // has room for it

	// Guarded by the mutex of the call:
	id   uint64 // the second half of the correlation id; 0 until it is being sent
	left bool   // its caller has left before that
}

// batchResult is the answer to a batch or, if the call ended before, the reason. sent is then whether the event store may have done it.
type batchResult struct {
	answer *streams.BatchAppendResp
	sent   bool
	err    error
}

// batchCall returns the member's BatchAppend call, which it opens if there is none. It is nil if the member does not offer BatchAppend,
// which it is asked once a connection.
func (m *member) batchCall(ctx context.Context) (*batchCall, error) {
	if c := m.batches.Load(); c != nil {
		return c, nil
	}
	if m.appendsSingly.Load() {
		return nil, nil
	}
	select {
	case m.opening <- struct{}{}:
		defer func() { <-m.opening }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c := m.batches.Load(); c != nil || m.appendsSingly.Load() {
		return c, nil
	}
	c := &batchCall{
		member: m, connection: m.connection(), correlation: rand.Uint64(), inFlight: map[uint64]*batch{},
		slots: make(chan struct{}, maxBatches), toSend: make(chan *batch), ended: make(chan struct{}),
	}
	offered, err := c.open(ctx)
	if err != nil || !offered {
		c.connection.calls.Add(-1)
		m.appendsSingly.Store(err == nil)
		return nil, err
	}
	m.batches.Store(c)
	// The caller has a reference to the member, so its connections are open and counted as work.
	m.route.work.Go(c.send)
	m.route.work.Go(c.receive)
	return c, nil
}

// open makes the call, unless the member does not offer it.
func (c *batchCall) open(ctx context.Context) (offered bool, err error) {
	// The call outlives its first caller, and ends when the connection is closed.
	of, cancel := context.WithCancelCause(metadata.NewOutgoingContext(context.Background(), requiresLeader))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	var trailer metadata.MD
	methods, err := serverfeatures.NewServerFeaturesClient(c.connection).GetSupportedMethods(of, &shared.Empty{}, grpc.Trailer(&trailer))
	if err == nil && offersBatchAppend(methods) {
		c.cancel = cancel
		c.stream, err = streams.NewStreamsClient(c.connection).BatchAppend(of)
		if stop() && err == nil {
			return true, nil
		}
	}
	stop()
	cancel(nil)
	_, follower := leaderOf(trailer)
	switch code := status.Code(err); {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case code == codes.Unimplemented, code == codes.NotFound && !follower: // an event store from before there were features to ask for
		return false, nil
	case err != nil:
		return false, c.member.failed(err, trailer)
	}
	return false, nil
}

func offersBatchAppend(methods *serverfeatures.SupportedMethods) bool {
	for _, m := range methods.GetMethods() {
		if m.GetServiceName() == "event_store.client.streams.streams" && m.GetMethodName() == "batchappend" {
			return true
		}
	}
	return false
}

// append sends an append and waits for the answer. With an error, sent reports whether the event store may do the append all the same.
//
// A call without any answer for the time of silence is ended when a caller leaves it, so that later appends get a new one.
func (c *batchCall) append(ctx context.Context, silence time.Duration, stream string, expected domain.Revision, events []proposed) (at Appended, sent bool, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-c.ended:
		return Appended{}, false, c.failure
	case <-ctx.Done():
		return Appended{}, false, context.Cause(ctx)
	}
	b := &batch{request: newBatch(stream, expected, events), result: make(chan batchResult, 1)}
	select {
	case c.toSend <- b:
	case <-c.ended:
		return Appended{}, false, c.failure
	case <-ctx.Done():
		return Appended{}, false, context.Cause(ctx)
	}
	var result batchResult
	select {
	case result = <-b.result:
	case <-ctx.Done():
		if left, sent := c.leave(b, silence); left {
			return Appended{}, sent, context.Cause(ctx)
		}
		result = <-b.result
	}
	switch r := result.answer.GetResult().(type) {
	case *streams.BatchAppendResp_Success_:
		c.member.answered()
		return Appended{
			Revision: domain.Revision(r.Success.GetCurrentRevision()),
			Position: Position(r.Success.GetPosition().GetCommitPosition()),
		}, false, nil
	case *streams.BatchAppendResp_Error:
		sent, err = c.member.batchFailed(r.Error)
		return Appended{}, sent, err
	}
	return Appended{}, result.sent, result.err
}

// newBatch is the message of an append. It names no deadline: the event store's own is the shorter one.
func newBatch(stream string, expected domain.Revision, events []proposed) *streams.BatchAppendReq {
	options := &streams.BatchAppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}}
	switch expected {
	case NoStream:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	case Any:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}
	default:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: uint64(expected)}
	}
	request := &streams.BatchAppendReq{Options: options, IsFinal: true, ProposedMessages: make([]*streams.BatchAppendReq_ProposedMessage, len(events))}
	for i, e := range events {
		request.ProposedMessages[i] = e.message
	}
	return request
}

// send sends batches until the call ends.
func (c *batchCall) send() {
	for {
		select {
		case b := <-c.toSend:
			if !c.begin(b) {
				continue
			}
			b.request.CorrelationId = structuredID(c.correlation, b.id)
			if c.stream.Send(b.request) != nil && c.forget(b) {
				<-c.ended // for the reason
				b.result <- batchResult{err: c.failure}
			}
		case <-c.ended:
			return
		}
	}
}

// begin puts a batch among those in flight, unless its caller has left.
func (c *batchCall) begin(b *batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.left {
		return false
	}
	c.sent++
	b.id = c.sent
	c.inFlight[b.id] = b
	if c.silence.IsZero() {
		c.silence = time.Now()
	}
	return true
}

// forget removes a batch from those in flight, and reports whether it was among them.
func (c *batchCall) forget(b *batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.inFlight[b.id] == b
	delete(c.inFlight, b.id)
	return was
}

// leave makes nobody wait for a batch any more, unless it has its result or is about to have it. sent reports whether it may have been
// sent.
func (c *batchCall) leave(b *batch, silence time.Duration) (left, sent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.id == 0 {
		b.left = true
		return true, false
	}
	if c.inFlight[b.id] != b {
		return false, false
	}
	delete(c.inFlight, b.id)
	c.left = true
	if time.Since(c.silence) >= silence {
		c.cancel(errNoAnswer)
	}
	return true, true
}

// receive hands out answers until the call ends. One that nobody waits for is dropped.
func (c *batchCall) receive() {
	for {
		answer, err := c.stream.Recv()
		if err != nil {
			c.end(err)
			return
		}
		c.mu.Lock()
		var b *batch
		if id := answer.GetCorrelationId().GetStructured(); uint64(id.GetMostSignificantBits()) == c.correlation {
			b = c.inFlight[uint64(id.GetLeastSignificantBits())]
			delete(c.inFlight, uint64(id.GetLeastSignificantBits()))
		}
		c.answered = true
		c.silence = time.Time{}
		if len(c.inFlight) > 0 {
			c.silence = time.Now()
		}
		c.mu.Unlock()
		if b != nil {
			b.result <- batchResult{answer: answer}
		}
	}
}

// end tells all who wait that the call has ended.
func (c *batchCall) end(err error) {
	c.member.batches.CompareAndSwap(c, nil)
	ctx := c.stream.Context()
	switch {
	case errors.Is(err, io.EOF):
		err = errors.New("the event store ended the call")
	case ctx.Err() != nil && context.Cause(ctx) != ctx.Err():
		err = context.Cause(ctx)
	}
	c.failure = c.member.failed(err, c.stream.Trailer())
	c.cancel(nil)
	c.connection.calls.Add(-1)

	c.mu.Lock()
	inFlight := c.inFlight
	c.inFlight = map[uint64]*batch{}
	// A member that does not lead ends the call instead of doing an append. Which one, that is known only if there is no other. A call that
	// is refused as a whole, before any batch, does none.
	var refused *refusal
	done := true
	switch isRefused := errors.As(c.failure, &refused); {
	case (isRefused || errors.Is(c.failure, errNotLeader)) && len(inFlight) == 1 && !c.left:
		done = false
	case isRefused && !c.answered:
		done = false
	}
	c.mu.Unlock()
	close(c.ended)
	result := batchResult{sent: done, err: c.failure}
	if done {
		result.err = errors.New(c.failure.Error())
	}
	for _, b := range inFlight {
		b.result <- result
	}
}

// batchFailed translates the error of a batch, which names its kind by its one detail. sent reports whether the event store may have
// done the append all the same.
func (m *member) batchFailed(failure *rpcstatus.Status) (sent bool, err error) {
	code, text := codes.Code(failure.GetCode()), failure.GetMessage()
	if len(failure.GetDetails()) > 0 {
		detail, _ := failure.GetDetails()[0].UnmarshalNew() // nil if it is of a kind that is not known
		switch d := detail.(type) {
		case *shared.WrongExpectedVersion:
			m.answered()
			actual := NoStream
			if _, ok := d.GetCurrentStreamRevisionOption().(*shared.WrongExpectedVersion_CurrentStreamRevision); ok {
				actual = domain.Revision(d.GetCurrentStreamRevision())
			}
			return false, &WrongRevision{Actual: actual}
		case *shared.AccessDenied:
			code, text = codes.PermissionDenied, "Access Denied"
		case *shared.StreamDeleted:
			return false, &refusal{ErrDeleted}
		case *shared.BadRequest:
			text = d.GetMessage()
		}
	}
	// The event store is not ready, is too busy, or knows of no leader: it has done nothing.
	if code == codes.OK {
		return false, m.failed(status.Error(codes.Unavailable, text), nil)
	}
	err = m.failed(status.Error(code, text), nil)
	var refused *refusal
	return !errors.As(err, &refused), err
}
