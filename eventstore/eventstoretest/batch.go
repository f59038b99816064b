package eventstoretest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// batchAppend serves a stream of appends. Each is passed on as a call of its own, since the event store behind need not have BatchAppend.
func (m *member) batchAppend(ctx context.Context, caller grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(ctx)
	b := &batches{member: m, ctx: ctx, caller: caller, open: map[string]*streams.BatchAppendReq{}, tails: map[string]<-chan struct{}{}}
	defer b.work.Wait()
	for {
		var request frame
		err := caller.RecvMsg(&request)
		if isEnd(err) {
			b.work.Wait() // for the answers
			cancel()
			return nil
		}
		if err == nil {
			err = b.take(request)
		}
		if err != nil {
			cancel()
			return err
		}
	}
}

// batches is one call of BatchAppend.
type batches struct {
	*member
	ctx    context.Context
	caller grpc.ServerStream
	open   map[string]*streams.BatchAppendReq // incomplete batches by correlation id
	tails  map[string]<-chan struct{}         // by stream: closed when the event store behind has answered the latest batch
	work   sync.WaitGroup

	sending sync.Mutex
}

// take handles a message. An error ends the call.
func (b *batches) take(request frame) error {
	message := &streams.BatchAppendReq{}
	if proto.Unmarshal(request, message) != nil || message.CorrelationId.GetValue() == nil {
		return errHandler
	}
	correlation := message.CorrelationId.String()
	batch := b.open[correlation]
	switch {
	case batch != nil:
		batch.ProposedMessages = append(batch.ProposedMessages, message.ProposedMessages...)
	case message.Options == nil:
		return nil
	default:
		if refusal := refuse(message.Options); refusal != nil {
			return b.answer(message, refusal)
		}
		batch = message
		b.open[correlation] = batch
	}
	if !message.IsFinal {
		return nil
	}
	delete(b.open, correlation)
	leads, err := b.admit(b.caller, true)
	switch {
	case status.Code(err) == codes.Unavailable:
		return b.answer(batch, failure(codes.OK, "Server Is Not Ready", &emptypb.Empty{}))
	case err != nil:
		return err
	}
	before, had := b.tails[string(batch.Options.StreamIdentifier.StreamName)], make(chan struct{})
	b.tails[string(batch.Options.StreamIdentifier.StreamName)] = had
	b.work.Go(func() {
		if before != nil {
			<-before
		}
		if result := b.append(batch, leads, func() { close(had) }); result != nil {
			_ = b.answer(batch, result) // fails only if the call has ended
		}
	})
	return nil
}

// refuse is the answer to a batch with invalid options, or nil.
func refuse(o *streams.BatchAppendReq_Options) *streams.BatchAppendResp {
	late := false
	switch d := o.DeadlineOption.(type) {
	case *streams.BatchAppendReq_Options_Deadline:
		late = d.Deadline.AsDuration() <= 0
	case *streams.BatchAppendReq_Options_Deadline_21_10_0:
		late = !d.Deadline_21_10_0.AsTime().After(time.Now())
	}
	switch {
	case o.StreamIdentifier == nil:
		return badRequest("Required field StreamIdentifier not set.")
	case late:
		return failure(codes.DeadlineExceeded, "Timeout", &shared.Timeout{})
	case o.ExpectedStreamPosition == nil:
		return badRequest("'None' is not a valid expected stream position")
	}
	return nil
}

// append carries a batch out and returns its answer, or nil if the call has ended. It calls had when the event store behind has answered.
func (b *batches) append(batch *streams.BatchAppendReq, leads bool, had func()) *streams.BatchAppendResp {
	w := &written{method: Append, repeatable: len(batch.ProposedMessages) > 0, had: had}
	options := &streams.AppendReq_Options{StreamIdentifier: batch.Options.StreamIdentifier}
	expected := &shared.WrongExpectedVersion{}
	switch e := batch.Options.ExpectedStreamPosition.(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: e.StreamPosition}
		expected.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: e.StreamPosition}
	case *streams.BatchAppendReq_Options_NoStream:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
		expected.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: e.NoStream}
	case *streams.BatchAppendReq_Options_Any:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_Any{Any: &shared.Empty{}}
		expected.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: e.Any}
	case *streams.BatchAppendReq_Options_StreamExists:
		options.ExpectedStreamRevision = &streams.AppendReq_Options_StreamExists{StreamExists: &shared.Empty{}}
		expected.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: e.StreamExists}
	}
	w.requests = append(w.requests, encode(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: options}}))
	for _, p := range batch.ProposedMessages {
		w.requests = append(w.requests, encode(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{
			ProposedMessage: &streams.AppendReq_ProposedMessage{
				Id: p.Id, Metadata: p.Metadata, CustomMetadata: p.CustomMetadata, Data: p.Data,
			},
		}}))
	}
	err := b.carryOut(b.ctx, leads, w)
	answer := &streams.AppendResp{}
	switch {
	case b.ctx.Err() != nil:
		return nil
	case err != nil:
		return failed(err, w, batch)
	case proto.Unmarshal(w.answer, answer) != nil:
		return failure(codes.Unknown, "Unknown", &shared.Unknown{})
	case answer.GetWrongExpectedVersion() != nil:
		expected.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
		if current, ok := answer.GetWrongExpectedVersion().CurrentRevisionOption.(*streams.AppendResp_WrongExpectedVersion_CurrentRevision); ok {
			expected.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: current.CurrentRevision}
		}
		return failure(codes.AlreadyExists, "WrongExpectedVersion", expected)
	}
	success := &streams.BatchAppendResp_Success{}
	switch r := answer.GetSuccess().GetCurrentRevisionOption().(type) {
	case *streams.AppendResp_Success_CurrentRevision:
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: r.CurrentRevision}
	default:
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}
	}
	switch p := answer.GetSuccess().GetPositionOption().(type) {
	case *streams.AppendResp_Success_Position:
		success.PositionOption = &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{
			CommitPosition: p.Position.CommitPosition, PreparePosition: p.Position.PreparePosition,
		}}
	default:
		success.PositionOption = &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}}
	}
	return &streams.BatchAppendResp{Result: &streams.BatchAppendResp_Success_{Success: success}}
}

// failed is the answer to a batch for which the event store behind returned an error.
func failed(err error, w *written, batch *streams.BatchAppendReq) *streams.BatchAppendResp {
	switch status.Code(err) {
	case codes.Aborted:
		return failure(codes.DeadlineExceeded, "Timeout", &shared.Timeout{})
	case codes.Unavailable:
		return failure(codes.OK, "Server Is Not Ready", &emptypb.Empty{})
	case codes.PermissionDenied:
		return failure(codes.PermissionDenied, "AccessDenied", &shared.AccessDenied{})
	case codes.FailedPrecondition:
		return failure(codes.NotFound, "StreamDeleted", &shared.StreamDeleted{StreamIdentifier: batch.Options.StreamIdentifier})
	case codes.InvalidArgument, codes.Unknown:
		if strings.Join(w.trailer.Get("exception"), "") == "maximum-append-size-exceeded" {
			return failure(codes.InvalidArgument, "MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: maxAppendSize})
		}
		return badRequest(status.Convert(err).Message())
	}
	return failure(codes.Unknown, "Unknown", &shared.Unknown{})
}

// maxAppendSize is EventStoreDB's default limit on the size of an append in bytes.
const maxAppendSize = 1 << 20

func badRequest(text string) *streams.BatchAppendResp {
	return failure(codes.InvalidArgument, "BadRequest", &shared.BadRequest{Message: text})
}

// failure is an error of a batch, not of the call. It is one even with the code OK.
func failure(c codes.Code, message string, detail proto.Message) *streams.BatchAppendResp {
	packed, err := anypb.New(detail)
	if err != nil {
		panic(err) // the messages of this package can all be encoded
	}
	s := status.New(c, message).Proto()
	s.Details = []*anypb.Any{packed}
	return &streams.BatchAppendResp{Result: &streams.BatchAppendResp_Error{Error: s}}
}

// answer sends the answer to a batch.
func (b *batches) answer(batch *streams.BatchAppendReq, result *streams.BatchAppendResp) error {
	result.CorrelationId = batch.CorrelationId
	result.StreamIdentifier = batch.Options.StreamIdentifier
	b.sending.Lock()
	defer b.sending.Unlock()
	return b.caller.SendMsg(encode(result))
}
