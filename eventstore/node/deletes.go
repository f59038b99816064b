package node

import (
	"context"
	"fmt"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// Delete hides a stream until something is appended to it.
func (s *streamsService) Delete(ctx context.Context, request *streams.DeleteReq) (*streams.DeleteResp, error) {
	o := request.GetOptions()
	var expected expectation
	ok := true
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.DeleteReq_Options_Revision:
		expected, ok = expectRevision(e.Revision)
	case *streams.DeleteReq_Options_NoStream:
		expected = expectNoStream
	case *streams.DeleteReq_Options_Any:
		expected = expectAny
	case *streams.DeleteReq_Options_StreamExists:
		expected = expectStreamExists
	default:
		ok = false
		if o != nil {
			return nil, noneIsInvalid("Streams.DeleteReq+Types+Options+ExpectedStreamRevision")
		}
	}
	position, err := s.delete(ctx, o.GetStreamIdentifier(), expected, ok, softDeletion)
	if err != nil {
		return nil, err
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{
		Position: &streams.DeleteResp_Position{CommitPosition: position, PreparePosition: position},
	}}, nil
}

// Tombstone deletes a stream for good.
func (s *streamsService) Tombstone(ctx context.Context, request *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	o := request.GetOptions()
	var expected expectation
	ok := true
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.TombstoneReq_Options_Revision:
		expected, ok = expectRevision(e.Revision)
	case *streams.TombstoneReq_Options_NoStream:
		expected = expectNoStream
	case *streams.TombstoneReq_Options_Any:
		expected = expectAny
	case *streams.TombstoneReq_Options_StreamExists:
		expected = expectStreamExists
	default:
		ok = false
		if o != nil {
			return nil, noneIsInvalid("Streams.TombstoneReq+Types+Options+ExpectedStreamRevision")
		}
	}
	position, err := s.delete(ctx, o.GetStreamIdentifier(), expected, ok, hardDeletion)
	if err != nil {
		return nil, err
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{
		Position: &streams.TombstoneResp_Position{CommitPosition: position, PreparePosition: position},
	}}, nil
}

// delete returns the position of what it wrote. Valid says whether the expectation is one.
func (s *streamsService) delete(ctx context.Context, identifier *shared.StreamIdentifier, expected expectation, valid bool, kind deletion) (uint64, error) {
	stream := string(identifier.GetStreamName())
	err := checkWritable(stream)
	if !valid {
		err = errHandler
	}
	var result appendResult
	if err == nil {
		result, err = s.log.append(ctx, newDeletion(stream, expected, kind))
	}
	switch {
	case err != nil:
		s.report("delete", err)
	case result.decision == streamDeleted:
		err = streamIsDeleted(stream)
	case result.decision == wrongRevision:
		err = deleteFailed(stream, expected, result.revision)
	}
	return result.position, answerUnary(ctx, err)
}

// checkWritable refuses names that no stream can have.
func checkWritable(stream string) error {
	switch stream {
	case "":
		return errHandler
	case metastreamPrefix: // EventStoreDB ends when it comes to write this
		return invalidArgument(fmt.Sprintf("'%s' is the metadata of no stream", stream))
	}
	return nil
}

func deleteFailed(stream string, expected expectation, actual int64) error {
	expectedText, actualText := strconv.FormatInt(int64(expected), 10), strconv.FormatInt(actual, 10)
	return &callError{
		code: codes.FailedPrecondition,
		text: fmt.Sprintf("Delete failed due to WrongExpectedVersion. Stream: %s, Expected version: %s, Actual version: %s", stream, expectedText, actualText),
		trailers: metadata.Pairs("exception", "wrong-expected-version", "stream-name", trailerText(stream),
			"expected-version", expectedText, "actual-version", actualText),
	}
}

// answerUnary returns the error for a unary handler to return, and sets its trailers.
func answerUnary(ctx context.Context, err error) error {
	if trailers := trailersOf(err); trailers != nil {
		if err := grpc.SetTrailer(ctx, trailers); err != nil {
			return err
		}
	}
	return answered(err)
}
