package node

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// callError is how a call fails: a gRPC status, and trailers by which clients tell the case
// (Services/Transport/Grpc/RpcExceptions.cs).
type callError struct {
	code     codes.Code
	text     string
	trailers metadata.MD
}

func (e *callError) Error() string { return e.text }

// GRPCStatus makes gRPC answer with the error's code and text.
func (e *callError) GRPCStatus() *status.Status { return status.New(e.code, e.text) }

// errHandler is the answer to requests that the protocol has no proper error for.
var errHandler = &callError{code: codes.Unknown, text: "Exception was thrown by handler."}

// errShutdown ends what is under way when the node stops.
var errShutdown = &callError{code: codes.Unavailable, text: "Server Is Not Ready"}

func invalidArgument(text string) error {
	return &callError{code: codes.InvalidArgument, text: text}
}

// noneIsInvalid refuses a request that leaves out what it has to choose, named as in EventStoreDB's generated code.
func noneIsInvalid(choice string) error {
	return invalidArgument(fmt.Sprintf("'None' is not a valid EventStore.Client.%sOneofCase", choice))
}

// unexpected is how a read fails that was asked for the impossible; result is EventStoreDB's name for its kind.
func unexpected(result string) error {
	return &callError{code: codes.Unknown, text: "Unexpected " + result}
}

func streamIsDeleted(stream string) error {
	return &callError{
		code:     codes.FailedPrecondition,
		text:     fmt.Sprintf("Event stream '%s' is deleted.", stream),
		trailers: metadata.Pairs("exception", "stream-deleted", "stream-name", trailerText(stream)),
	}
}

// trailerText is text as a trailer can carry it: percent-encoded unless it is printable ASCII.
func trailerText(text string) string {
	plain := true
	for i := range len(text) {
		plain = plain && text[i] >= ' ' && text[i] <= '~'
	}
	if plain {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func appendTooLarge(limit int) error {
	return &callError{
		code: codes.InvalidArgument,
		text: fmt.Sprintf("Maximum Append Size of %d Exceeded.", limit),
		trailers: metadata.Pairs("exception", "maximum-append-size-exceeded",
			"maximum-append-size", strconv.Itoa(limit)),
	}
}

func missingMetadata(key string) error {
	return &callError{
		code: codes.InvalidArgument,
		text: fmt.Sprintf("Required Metadata Property '%s' is missing", key),
		trailers: metadata.Pairs("exception", "missing-required-metadata-property",
			"required-metadata-properties", keyType+","+keyContentType),
	}
}

// trailersOf are those that go with err.
func trailersOf(err error) metadata.MD {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.trailers
	}
	return nil
}
