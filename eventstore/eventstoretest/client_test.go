package eventstoretest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// never is the delay of what happens only when the test makes it happen.
const never = time.Hour

// before returns servers with conditions, and the connection string of the node behind them.
func before(t *testing.T, members int, o eventstoretest.Conditions) (s *eventstoretest.Servers, behind string) {
	t.Helper()
	behind = "esdb://" + eventstoretest.Serve(t, "") + "?tls=false"
	return eventstoretest.ClusterBefore(t, behind, members, o), behind
}

// end is the end of the servers' log.
func end(t *testing.T, s *eventstoretest.Servers) uint64 {
	t.Helper()
	end, err := s.Open(t, eventstore.Options{}).End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return uint64(end)
}

// client calls the protocol without a client library.
type client struct {
	t *testing.T
	streams.StreamsClient
	conn *grpc.ClientConn
}

func dial(t *testing.T, address string) client {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return client{t, streams.NewStreamsClient(conn), conn}
}

// requiringLeader is the context of a call that requires the leader.
func requiringLeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "requires-leader", "true")
}

// newID is a new event id, encoded.
func newID() *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}}
}

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

var (
	none    = &shared.Empty{}
	ofThing = map[string]string{"type": "thing", "content-type": "application/json"}
)

// append appends an event for each id to a stream that is expected to end at a revision; -1 is no stream.
func (c client) append(ctx context.Context, stream string, revision int, ids ...*shared.UUID) (*streams.AppendResp, error) {
	call, err := c.Append(ctx)
	if err != nil {
		return nil, err
	}
	options := &streams.AppendReq_Options{
		StreamIdentifier:       identifier(stream),
		ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: uint64(revision)},
	}
	if revision < 0 {
		options.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: none}
	}
	if err := call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: options}}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{
			ProposedMessage: &streams.AppendReq_ProposedMessage{Id: id, Metadata: ofThing},
		}}); err != nil {
			return nil, err
		}
	}
	return call.CloseAndRecv()
}

// must appends, and returns the position.
func (c client) must(stream string, revision int, ids ...*shared.UUID) uint64 {
	c.t.Helper()
	answer, err := c.append(c.t.Context(), stream, revision, ids...)
	if err != nil || answer.GetSuccess() == nil {
		c.t.Fatalf("append: %v, %v", answer, err)
	}
	return answer.GetSuccess().GetPosition().GetCommitPosition()
}

// readOption changes what is read.
type readOption func(*streams.ReadReq_Options)

func of(stream string) readOption {
	return func(o *streams.ReadReq_Options) {
		o.StreamOption = &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
			StreamIdentifier: identifier(stream),
			RevisionOption:   &streams.ReadReq_Options_StreamOptions_Start{Start: none},
		}}
	}
}

func from(revision int) readOption {
	return func(o *streams.ReadReq_Options) {
		o.GetStream().RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: uint64(revision)}
	}
}

func fromEnd(o *streams.ReadReq_Options) {
	if s := o.GetStream(); s != nil {
		s.RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: none}
		return
	}
	o.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_End{End: none}
}

func backward(o *streams.ReadReq_Options) {
	o.ReadDirection = streams.ReadReq_Options_Backwards
	fromEnd(o)
}

func limit(n uint64) readOption {
	return func(o *streams.ReadReq_Options) { o.CountOption = &streams.ReadReq_Options_Count{Count: n} }
}

func subscribed(o *streams.ReadReq_Options) {
	o.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
}

// knowing asks for the messages that say where the stream ends.
func knowing(o *streams.ReadReq_Options) {
	o.ControlOption = &streams.ReadReq_Options_ControlOption{Compatibility: 1}
}

// open starts a read: of the whole log forwards, unless the options say otherwise.
func (c client) open(ctx context.Context, change ...readOption) streams.Streams_ReadClient {
	c.t.Helper()
	o := &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
			AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: none},
		}},
		CountOption:  &streams.ReadReq_Options_Count{Count: math.MaxUint64},
		FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: none},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: none}},
	}
	for _, f := range change {
		f(o)
	}
	call, err := c.Read(ctx, &streams.ReadReq{Options: o})
	if err != nil {
		c.t.Fatal(err)
	}
	return call
}

// text is an answer to a read as text: an event as its revision.
func text(a *streams.ReadResp) string {
	switch x := a.Content.(type) {
	case *streams.ReadResp_Event:
		return strconv.FormatUint(x.Event.Event.StreamRevision, 10)
	case *streams.ReadResp_StreamNotFound_:
		return "not found"
	case *streams.ReadResp_LastStreamPosition:
		return fmt.Sprintf("last %d", x.LastStreamPosition)
	case *streams.ReadResp_CaughtUp_:
		return "caught up"
	case *streams.ReadResp_Confirmation:
		return "confirmed"
	}
	return a.String()
}

// isSystem reports whether an answer is one of the event store's own events, with which a log begins.
func isSystem(a *streams.ReadResp) bool {
	return strings.HasPrefix(string(a.GetEvent().GetEvent().GetStreamIdentifier().GetStreamName()), "$")
}

// read returns the answers to a read, without the event store's own events.
func (c client) read(change ...readOption) (answers []string) {
	c.t.Helper()
	call := c.open(c.t.Context(), change...)
	for {
		a, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return answers
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if !isSystem(a) {
			answers = append(answers, text(a))
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come that %s", what)
		}
	}
}

func wantCode(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != code || s.Message() != text {
		t.Errorf("%s: %v, want %s %s", what, err, code, text)
	}
}

// positions are those of the events of a read, without the event store's own.
func positions(t *testing.T, call streams.Streams_ReadClient) (positions []uint64) {
	t.Helper()
	for {
		a, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return positions
		}
		if err != nil {
			t.Error(err)
			return positions
		}
		if !isSystem(a) {
			positions = append(positions, a.GetEvent().GetCommitPosition())
		}
	}
}
