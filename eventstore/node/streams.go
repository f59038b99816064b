package node

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// streamsService serves event_store.client.streams.Streams. What it does not define answers UNIMPLEMENTED.
type streamsService struct {
	streams.UnimplementedStreamsServer
	log      *eventLog
	errors   *errorLog
	stopping context.Context // done when subscriptions have to end
	patterns *atomic.Bool    // set once a filter by regular expression is used
}

// Append reads the whole request and answers once the outcome is on disk.
func (s *streamsService) Append(stream streams.Streams_AppendServer) error {
	var request appendRequest
	for {
		err := stream.RecvMsg(&request)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !request.begun {
		return errHandler
	}
	if request.fault != nil {
		return answer(stream, request.fault)
	}
	result, err := s.log.append(stream.Context(), change{stream: request.stream, expected: request.expected, events: request.events})
	switch {
	case err != nil:
		s.report("append", err)
		return answer(stream, err)
	case result.decision == streamDeleted:
		return answer(stream, streamIsDeleted(request.stream))
	case result.decision == wrongRevision:
		return stream.SendAndClose(wrongExpectedVersion(&request, result.revision))
	}
	return stream.SendMsg(encodeSuccess(result.revision, result.position))
}

// wrongExpectedVersion is the answer to an append that expected something else than current, the stream's last revision: an
// ordinary message that says everything twice, the second time as clients before 20.6 read it.
func wrongExpectedVersion(r *appendRequest, current int64) *streams.AppendResp {
	wrong := &streams.AppendResp_WrongExpectedVersion{}
	empty := &shared.Empty{}
	if current < 0 {
		wrong.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: empty}
		wrong.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: empty}
	} else {
		wrong.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: uint64(current)}
		wrong.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: uint64(current)}
	}
	// An expectation is echoed in the form it came in; as a number, "no stream" is 2^64-1.
	number := uint64(r.expected)
	switch {
	case r.expected == expectAny:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: empty}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: empty}
	case r.expected == expectStreamExists:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: empty}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: empty}
	case r.byRevision:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: number}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: number}
	default:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: empty}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: number}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: wrong}}
}

// Read serves reads and subscriptions.
func (s *streamsService) Read(request *streams.ReadReq, stream streams.Streams_ReadServer) error {
	err := s.read(request, stream)
	if err != nil {
		s.report("read", err)
	}
	return answer(stream, err)
}

func (s *streamsService) read(request *streams.ReadReq, stream streams.Streams_ReadServer) error {
	r, err := parseReadRequest(request)
	if err != nil {
		return err
	}
	if r.filter != nil && r.filter.regex != nil {
		s.patterns.Store(true)
	}
	return s.serve(r, stream)
}

func (s *streamsService) serve(r readRequest, stream streams.Streams_ReadServer) error {
	switch {
	case r.subscription && r.all:
		return s.subscribeToAll(r, stream)
	case r.subscription:
		return s.subscribeToStream(r, stream)
	case r.all:
		return s.readAll(r, stream)
	}
	return s.readStream(r, stream)
}

// report logs what went wrong on this side, and not what clients asked wrongly or gave up.
func (s *streamsService) report(operation string, err error) {
	reportError(s.log, s.errors, operation, err)
}

func reportError(log *eventLog, to *errorLog, operation string, err error) {
	if _, ok := errors.AsType[*callError](err); ok || log.hasFailed() || errors.Is(err, errStopped) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) {
		return
	}
	switch status.Code(err) { // of a send: the client, or its connection, is gone
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return
	}
	to.report("event store", err, "operation", operation)
}
