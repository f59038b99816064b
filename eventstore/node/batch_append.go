package node

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	// batchTime is the longest that a batch may take from its first message to its last.
	batchTime = 2 * time.Second
	// maxOwedAnswers is the number of batches of a call that are decided but not answered; the client waits beyond it.
	maxOwedAnswers = 256
	// maxUnfinished bounds what a call's unfinished batches hold, in bytes. A call that exceeds it ends.
	maxUnfinished = 64 << 20
)

// batchCall is a BatchAppend call: one goroutine takes messages and hands finished batches to the log, another answers in that
// order once each is on disk, so that all that have gathered share a sync.
type batchCall struct {
	service *streamsService
	stream  streams.Streams_BatchAppendServer
	answers chan batchAnswer
	owed    sync.WaitGroup // answers, those of unfinished batches included

	mu    sync.Mutex
	ended bool // no batch is taken any more
	open  map[eventID]*batch
	held  int // bytes that the open batches hold
}

// batch is one that more messages of may come.
type batch struct {
	correlation eventID
	change      change
	size        int
	faulty      bool // it was refused, and only its time-out is to come
	timer       *time.Timer
}

// batchAnswer is what a client is owed for a batch.
type batchAnswer struct {
	correlation []byte // the UUID message, as it came
	change      change
	pending     pending
	refusal     *rpcstatus.Status // nil: the outcome of pending
}

// BatchAppend appends batches as they come, each as a whole.
func (s *streamsService) BatchAppend(stream streams.Streams_BatchAppendServer) error {
	c := &batchCall{service: s, stream: stream, answers: make(chan batchAnswer, maxOwedAnswers), open: map[eventID]*batch{}}
	received := make(chan error, 1)
	go func() { received <- c.receive() }()
	sent := make(chan struct{})
	go func() { defer close(sent); c.send() }()
	var err error
	select {
	case err = <-received:
	case <-s.stopping.Done():
		err = errShutdown
	}
	c.end(err != nil)
	c.owed.Wait()
	close(c.answers)
	<-sent
	if err != nil {
		s.report("append a batch", err)
	}
	return answer(stream, err)
}

// end has no more batches taken. Those that are unfinished are dropped, or else have their time.
func (c *batchCall) end(drop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for id, b := range c.open {
		if drop && b.timer.Stop() {
			delete(c.open, id)
			c.owed.Done()
		}
	}
}

// receive takes messages until the client half-closes.
func (c *batchCall) receive() error {
	for {
		var m batchMessage
		err := c.stream.RecvMsg(&m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		err = c.take(m.buffer.ReadOnlyData())
		m.buffer.Free()
		if err != nil {
			return err
		}
	}
}

// batchMessage is a BatchAppendReq in wire format.
type batchMessage struct{ buffer mem.Buffer }

// batchRequest is a BatchAppendReq. Its slices belong to the message.
type batchRequest struct {
	correlation []byte
	options     []byte // nil: none
	proposed    [][]byte
	final       bool

	one [1][]byte // room for the usual number of events
}

func parseBatchRequest(message []byte) (r batchRequest, err error) {
	r.proposed = r.one[:0]
	for len(message) > 0 {
		var f field
		if f, message, err = nextField(message); err != nil {
			return r, err
		}
		switch f.number {
		case batchCorrelation:
			r.correlation = f.bytes
		case batchOptions:
			r.options = f.bytes
		case batchProposed:
			r.proposed = append(r.proposed, f.bytes)
		case batchFinal:
			r.final = f.varint != 0
		}
	}
	return r, nil
}

// badBatch is how a batch is refused that is not well-formed.
type badBatch string

func (b badBatch) Error() string { return string(b) }

// errNoKey refuses an event without type or content type.
const errNoKey = badBatch("The given key was not present in the dictionary.")

// take adds a message to its batch. An error ends the call.
func (c *batchCall) take(message []byte) error {
	request, err := parseBatchRequest(message)
	if err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errShutdown
	}
	var options appendRequest
	err = c.add(request, &options)
	if refusal, ok := err.(badBatch); ok {
		if request.options == nil {
			return errHandler
		}
		c.owe(batchAnswer{change: change{stream: options.stream}, refusal: badRequest(string(refusal))}, request.correlation)
		return nil
	}
	return err
}

// add adds to the batch, which the message may begin and finish.
func (c *batchCall) add(request batchRequest, options *appendRequest) error {
	if request.options != nil {
		// Also for the name in the answer to what is refused.
		if err := options.takeOptions(request.options); err != nil {
			return err
		}
	}
	if request.correlation == nil {
		return badBatch("Value cannot be null. (Parameter 'dto')")
	}
	correlation, err := parseBatchUUID(request.correlation)
	if err != nil {
		return err
	}
	b := c.open[correlation]
	timeout := time.Duration(0)
	if request.options != nil {
		if timeout, err = batchTimeout(request.options); err != nil {
			return err
		}
		switch {
		case !options.named:
			return badBatch("Required field StreamIdentifier not set.")
		case timeout <= 0:
			c.owe(batchAnswer{change: change{stream: options.stream}, refusal: batchError(codes.DeadlineExceeded, &shared.Timeout{})}, request.correlation)
			return nil
		case b == nil && options.fault != nil:
			if e, ok := options.fault.(*callError); ok && e.code == codes.InvalidArgument && options.stream != metastreamPrefix {
				return badBatch(`Status(StatusCode="InvalidArgument", Detail="'None' is not a valid EventStore.Client.Streams.BatchAppendReq+Types+Options+ExpectedStreamPositionOneofCase")`)
			}
			return badBatch("The stream or its expected position is invalid.")
		case b == nil:
			b = &batch{correlation: correlation, change: change{stream: options.stream, expected: options.expected}}
		}
	}
	if b == nil || b.faulty {
		return nil
	}
	before := b.size
	err = b.propose(request.proposed)
	if _, opened := c.open[correlation]; !opened && err == nil && request.final && b.size <= maxAppendSize {
		return c.begin(b.change, request.correlation)
	} else if !opened {
		c.hold(b, timeout)
		before = 0
	}
	c.held += b.size - before
	switch {
	case err != nil:
		b.faulty = true
		return err
	case b.size > maxAppendSize:
		c.drop(b)
		c.owe(batchAnswer{change: b.change, refusal: batchError(codes.InvalidArgument, &shared.MaximumAppendSizeExceeded{MaxAppendSize: maxAppendSize})}, request.correlation)
	case request.final:
		c.drop(b)
		return c.begin(b.change, request.correlation)
	case c.held > maxUnfinished:
		return status.Error(codes.ResourceExhausted, "Too much is unfinished.")
	}
	return nil
}

// propose adds events to the batch.
func (b *batch) propose(messages [][]byte) error {
	for _, message := range messages {
		p, err := parseProposed(message)
		if err != nil {
			return err
		}
		id, err := parseBatchUUID(p.id)
		switch {
		case err != nil:
			return err
		case p.eventType == nil:
			return errNoKey
		case p.contentType == nil:
			return errNoKey
		case id == eventID{}:
			return badBatch("Empty eventId provided. (Parameter 'eventId')")
		case len(p.eventType) == 0:
			return badBatch("Empty eventType provided. (Parameter 'eventType')")
		}
		if b.size += p.size(); b.size > maxAppendSize {
			b.change.events = nil
			return nil
		}
		json := string(p.contentType) == contentTypeJSON
		b.change.events = append(b.change.events, &event{record: newRecord(b.change.stream, id, p.eventType, json, p.customMetadata, p.data)})
	}
	return nil
}

// hold keeps a batch for the messages to come, for a time.
func (c *batchCall) hold(b *batch, timeout time.Duration) {
	c.open[b.correlation] = b
	c.owed.Add(1)
	b.timer = time.AfterFunc(timeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open[b.correlation] != b {
			return
		}
		most, least := structured(b.correlation)
		correlation := appendVarint(appendVarint(nil, uuidMost, most), uuidLeast, least)
		delete(c.open, b.correlation)
		c.held -= b.size
		c.answers <- batchAnswer{correlation: appendBytes(nil, uuidStructured, correlation), change: b.change,
			refusal: batchError(codes.DeadlineExceeded, &shared.Timeout{})}
	})
}

// drop lets go of a batch that is answered otherwise.
func (c *batchCall) drop(b *batch) {
	b.timer.Stop()
	delete(c.open, b.correlation)
	c.held -= b.size
	c.owed.Done()
}

// begin hands a finished batch to the log.
func (c *batchCall) begin(change change, correlation []byte) error {
	p, err := c.service.log.begin(change)
	if err != nil {
		return err
	}
	c.owe(batchAnswer{change: change, pending: p}, correlation)
	return nil
}

// owe has the client answered. Correlation is the UUID message, which is copied.
func (c *batchCall) owe(a batchAnswer, correlation []byte) {
	if correlation != nil {
		a.correlation = append([]byte{}, correlation...)
	}
	a.change.events = nil
	c.owed.Add(1)
	c.answers <- a
}

// send answers, one batch after the other. When the client is gone it goes on without it.
func (c *batchCall) send() {
	for a := range c.answers {
		var result appendResult
		err := error(nil)
		if a.refusal == nil {
			result, err = c.service.log.finish(context.Background(), a.pending)
		}
		if err == nil {
			err = c.stream.SendMsg(a.message(result))
		}
		if err != nil {
			c.service.report("answer a batch", err)
		}
		c.owed.Done()
	}
}

// message is the answer in words of the protocol.
func (a *batchAnswer) message(result appendResult) any {
	refusal := a.refusal
	switch {
	case refusal != nil:
	case result.decision == streamDeleted:
		refusal = batchError(codes.NotFound, &shared.StreamDeleted{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(a.change.stream)}})
	case result.decision == wrongRevision:
		refusal = batchError(codes.AlreadyExists, wrongBatchVersion(a.change.expected, result.revision))
	default:
		return encodeBatchSuccess(a.correlation, a.change.stream, result.revision, result.position)
	}
	answer := &streams.BatchAppendResp{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(a.change.stream)},
		Result:           &streams.BatchAppendResp_Error{Error: refusal},
	}
	if a.correlation != nil {
		answer.CorrelationId = &shared.UUID{}
		if err := proto.Unmarshal(a.correlation, answer.CorrelationId); err != nil {
			answer.CorrelationId = nil // which is what it is the answer to
		}
	}
	return answer
}

// batchError is an error of one batch, which has its detail's name as text.
func batchError(code codes.Code, detail proto.Message) *rpcstatus.Status {
	packed, err := anypb.New(detail)
	if err != nil {
		return &rpcstatus.Status{Code: int32(codes.Unknown), Message: err.Error()}
	}
	return &rpcstatus.Status{
		Code:    int32(code),
		Message: string(detail.ProtoReflect().Descriptor().Name()),
		Details: []*anypb.Any{packed},
	}
}

func badRequest(text string) *rpcstatus.Status {
	return batchError(codes.InvalidArgument, &shared.BadRequest{Message: text})
}

func wrongBatchVersion(expected expectation, current int64) *shared.WrongExpectedVersion {
	w := &shared.WrongExpectedVersion{}
	if current < 0 {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	} else {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(current)}
	}
	switch expected {
	case expectNoStream:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	case expectAny:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	case expectStreamExists:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	default:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(expected)}
	}
	return w
}

// parseBatchUUID reads an id of a batch or of its events.
func parseBatchUUID(message []byte) (eventID, error) {
	switch {
	case message == nil:
		return eventID{}, badBatch("Value cannot be null. (Parameter 'dto')")
	case len(message) == 0:
		return eventID{}, badBatch("Invalid argument: None (Parameter 'dto')")
	}
	id, err := parseUUID(message)
	if err != nil {
		return id, badBatch(fmt.Sprintf("Invalid argument: %v (Parameter 'dto')", err))
	}
	return id, nil
}

// batchTimeout is how long the batch with these options may take, which is not positive if it is late already.
func batchTimeout(options []byte) (time.Duration, error) {
	timeout := batchTime
	for len(options) > 0 {
		f, rest, err := nextField(options)
		if err != nil {
			return 0, err
		}
		if f.number == batchDeadline || f.number == batchDuration {
			seconds, nanos, err := parseSeconds(f.bytes)
			if err != nil {
				return 0, err
			}
			if f.number == batchDeadline {
				seconds -= time.Now().Unix()
			}
			seconds = min(max(seconds, -1), math.MaxInt32)
			timeout = min(batchTime, time.Duration(seconds)*time.Second+time.Duration(nanos))
		}
		options = rest
	}
	return timeout, nil
}

// parseSeconds reads a Timestamp or a Duration.
func parseSeconds(message []byte) (seconds int64, nanos int32, err error) {
	for len(message) > 0 {
		var f field
		if f, message, err = nextField(message); err != nil {
			return 0, 0, err
		}
		switch f.number {
		case timestampSeconds:
			seconds = int64(f.varint)
		case timestampNanos:
			nanos = int32(f.varint)
		}
	}
	return seconds, nanos, nil
}
