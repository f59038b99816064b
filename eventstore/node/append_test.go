package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var empty = &shared.Empty{}

// The forms of an expectation on the wire.
var (
	expectNoStream     = &streams.AppendReq_Options_NoStream{NoStream: empty}
	expectAny          = &streams.AppendReq_Options_Any{Any: empty}
	expectStreamExists = &streams.AppendReq_Options_StreamExists{StreamExists: empty}
)

func expectRevision(n uint64) *streams.AppendReq_Options_Revision {
	return &streams.AppendReq_Options_Revision{Revision: n}
}

// appendOptions is the first message of an append. Expected is one of the forms above.
func appendOptions(stream string, expected any) *streams.AppendReq {
	o := &streams.AppendReq_Options{StreamIdentifier: streamIdentifier(stream)}
	switch e := expected.(type) {
	case *streams.AppendReq_Options_NoStream:
		o.ExpectedStreamRevision = e
	case *streams.AppendReq_Options_Any:
		o.ExpectedStreamRevision = e
	case *streams.AppendReq_Options_StreamExists:
		o.ExpectedStreamRevision = e
	case *streams.AppendReq_Options_Revision:
		o.ExpectedStreamRevision = e
	}
	return &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: o}}
}

func streamIdentifier(name string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(name)}
}

// proposed is an event of an append, its id taken from a name so that tests can repeat it.
func proposed(name string) *streams.AppendReq_ProposedMessage {
	return &streams.AppendReq_ProposedMessage{
		Id:       &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewSHA1(uuid.Nil, []byte(name)).String()}},
		Metadata: map[string]string{"type": name, "content-type": "application/json"},
		Data:     []byte(`{}`),
	}
}

// structuredOf is an id in its structured form.
func structuredOf(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: int64(be64(id[:8])), LeastSignificantBits: int64(be64(id[8:])),
	}}}
}

func proposal(p *streams.AppendReq_ProposedMessage) *streams.AppendReq {
	return &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: p}}
}

// call sends the messages of one append and returns the answer.
func call(t testing.TB, c *grpc.ClientConn, messages ...*streams.AppendReq) (*streams.AppendResp, metadata.MD, error) {
	t.Helper()
	stream, err := streams.NewStreamsClient(c).Append(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			t.Fatalf("the server answered before it had read the request: %v", err)
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer, stream.Trailer(), err
}

// appendNamed appends events of these names.
func appendNamed(t testing.TB, c *grpc.ClientConn, stream string, expected any, names ...string) (*streams.AppendResp, error) {
	t.Helper()
	messages := []*streams.AppendReq{appendOptions(stream, expected)}
	for _, name := range names {
		messages = append(messages, proposal(proposed(name)))
	}
	answer, _, err := call(t, c, messages...)
	return answer, err
}

// outcome says in words what an append was answered.
func outcome(answer *streams.AppendResp, err error) string {
	if err != nil {
		return status.Code(err).String()
	}
	if s := answer.GetSuccess(); s != nil {
		revision := "no stream"
		if _, ok := s.CurrentRevisionOption.(*streams.AppendResp_Success_CurrentRevision); ok {
			revision = fmt.Sprint(s.GetCurrentRevision())
		}
		if s.GetPosition() == nil {
			return fmt.Sprintf("success %s, no position", revision)
		}
		return fmt.Sprintf("success %s at %d", revision, s.GetPosition().GetCommitPosition())
	}
	w := answer.GetWrongExpectedVersion()
	if w.GetCurrentNoStream() != nil {
		return "wrong, no stream"
	}
	return fmt.Sprintf("wrong, at %d", w.GetCurrentRevision())
}

// TestAppendExpectation holds every form of an expectation against every kind of stream. Each case has a stream of its own with
// the given events, written one at a time.
func TestAppendExpectation(t *testing.T) {
	c := start(t).dial(t)
	position := 0
	for _, test := range []struct {
		name     string
		given    []string
		metadata bool
		when     any
		then     string // revision; the position is checked to be the next
	}{
		{name: "no stream, new", when: expectNoStream, then: "success 0"},
		{name: "any, new", when: expectAny, then: "success 0"},
		{name: "stream exists, new", when: expectStreamExists, then: "wrong, no stream"},
		{name: "stream exists, new but for metadata", metadata: true, when: expectStreamExists, then: "success 0"},
		{name: "revision, new", when: expectRevision(0), then: "wrong, no stream"},
		{name: "2^64-1, new", when: expectRevision(1<<64 - 1), then: "success 0"},
		{name: "no stream", given: []string{"A", "B"}, when: expectNoStream, then: "wrong, at 1"},
		{name: "2^64-1", given: []string{"A", "B"}, when: expectRevision(1<<64 - 1), then: "wrong, at 1"},
		{name: "any", given: []string{"A", "B"}, when: expectAny, then: "success 2"},
		{name: "stream exists", given: []string{"A", "B"}, when: expectStreamExists, then: "success 2"},
		{name: "last revision", given: []string{"A", "B"}, when: expectRevision(1), then: "success 2"},
		{name: "earlier revision", given: []string{"A", "B"}, when: expectRevision(0), then: "wrong, at 1"},
		{name: "later revision", given: []string{"A", "B"}, when: expectRevision(2), then: "wrong, at 1"},
		{name: "impossible revision", given: []string{"A"}, when: expectRevision(1 << 63), then: "Unknown"},
		{name: "none", when: nil, then: "InvalidArgument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream := "s-" + test.name
			for _, name := range test.given {
				if got := outcome(appendNamed(t, c, stream, expectAny, test.name+name)); !strings.HasPrefix(got, "success") {
					t.Fatal(got)
				}
				position++
			}
			if test.metadata {
				if got := outcome(appendNamed(t, c, "$$"+stream, expectAny, test.name)); !strings.HasPrefix(got, "success") {
					t.Fatal(got)
				}
				position++
			}
			then := test.then
			if strings.HasPrefix(then, "success") {
				position++
				then += fmt.Sprintf(" at %d", position)
			}
			if got := outcome(appendNamed(t, c, stream, test.when, test.name+"new")); got != then {
				t.Errorf("got %s, want %s", got, then)
			}
		})
	}
}

// TestAppendIdempotency repeats appends. The stream has been given A, B, C in one append and D in another, at positions 1 to 4.
func TestAppendIdempotency(t *testing.T) {
	for _, test := range []struct {
		name string
		when any
		ids  []string
		then string
	}{
		{"the same append", expectNoStream, []string{"A", "B", "C"}, "success 2 at 3"},
		{"a part of it", expectNoStream, []string{"A", "B"}, "success 1 at 2"},
		{"across two appends", expectRevision(1), []string{"C", "D"}, "success 3 at 4"},
		{"the second append", expectRevision(2), []string{"D"}, "success 3 at 4"},
		{"first differs", expectNoStream, []string{"X", "B", "C"}, "wrong, at 3"},
		{"a later one differs", expectNoStream, []string{"A", "X", "C"}, "wrong, at 3"},
		{"past the end", expectRevision(2), []string{"D", "X"}, "wrong, at 3"},
		{"at another revision", expectRevision(0), []string{"A"}, "wrong, at 3"},
		{"nothing, earlier revision", expectRevision(0), nil, "wrong, at 3"},
		{"nothing, last revision", expectRevision(3), nil, "success 3 at 5"},
		{"nothing, any", expectAny, nil, "success 3 at 5"},
		{"the same id at the end is new", expectRevision(3), []string{"A"}, "success 4 at 5"},
		{"any, the same append", expectAny, []string{"A", "B", "C"}, "success 2 at 3"},
		{"any, one of them", expectAny, []string{"B"}, "success 1 at 2"},
		{"any, first unknown", expectAny, []string{"X", "A"}, "success 5 at 6"},
		{"any, a later one unknown", expectAny, []string{"A", "X"}, "wrong, at 3"},
		{"stream exists, the same append", expectStreamExists, []string{"A", "B", "C"}, "success 2 at 3"},
		{"the same id twice", expectRevision(3), []string{"X", "X"}, "success 5 at 6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t).dial(t)
			appendNamed(t, c, "s", expectNoStream, "A", "B", "C")
			appendNamed(t, c, "s", expectRevision(2), "D")
			if got := outcome(appendNamed(t, c, "s", test.when, test.ids...)); got != test.then {
				t.Errorf("got %s, want %s", got, test.then)
			}
		})
	}
}

// TestAppendNothing: an append without events succeeds and makes no stream. It has a position, at which nothing is shown.
func TestAppendNothing(t *testing.T) {
	c := start(t).dial(t)
	if got, want := outcome(appendNamed(t, c, "s", expectAny)), "success no stream at 1"; got != want {
		t.Errorf("to an empty log: got %s, want %s", got, want)
	}
	appendNamed(t, c, "other", expectAny, "A")
	for i, expected := range []any{expectAny, expectNoStream} {
		if got, want := outcome(appendNamed(t, c, "s", expected)), fmt.Sprint("success no stream at ", 3+i); got != want {
			t.Errorf("%T: got %s, want %s", expected, got, want)
		}
	}
	if got, want := outcome(appendNamed(t, c, "s", expectStreamExists)), "wrong, no stream"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	appendNamed(t, c, "other", expectAny, "B")
	for _, direction := range []streams.ReadReq_Options_ReadDirection{forwards, backwards} {
		from, want := ofAll("start"), []string{"A"}
		if direction == backwards {
			from, want = ofAll("end"), []string{"B"}
		}
		got, err := read(t, c, &streams.ReadReq_Options{StreamOption: from, ReadDirection: direction, CountOption: count(1), FilterOption: unfiltered, UuidOption: structured})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v", direction, got, err)
		}
	}
}

func TestAppendIdempotencyAcrossStreams(t *testing.T) {
	c := start(t).dial(t)
	for _, step := range []struct {
		stream string
		then   string
	}{
		{"a", "success 0 at 1"},
		{"b", "success 0 at 2"}, // the id is known, but in another stream
		{"b", "success 1 at 3"}, // and stays that one's
		{"a", "success 0 at 1"},
	} {
		if got := outcome(appendNamed(t, c, step.stream, expectAny, "A")); got != step.then {
			t.Errorf("%s: got %s, want %s", step.stream, got, step.then)
		}
	}
}

// TestAppendIdempotencyAfterRestart: explicit revisions are compared with the stored stream, the others with memory.
func TestAppendIdempotencyAfterRestart(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		appendNamed(t, startIn(t, dir).dial(t), "s", expectNoStream, "A", "B")
	})
	c := startIn(t, dir).dial(t)
	if got, want := outcome(appendNamed(t, c, "s", expectNoStream, "A", "B")), "success 1 at 2"; got != want {
		t.Errorf("no stream: got %s, want %s", got, want)
	}
	if got, want := outcome(appendNamed(t, c, "s", expectAny, "A", "B")), "success 3 at 4"; got != want {
		t.Errorf("any: got %s, want %s", got, want)
	}
}

// TestWrongExpectedVersion checks the whole answer with its twins.
func TestWrongExpectedVersion(t *testing.T) {
	c := start(t).dial(t)
	appendNamed(t, c, "s", expectNoStream, "A", "B", "C")
	type wrong = streams.AppendResp_WrongExpectedVersion
	current := func(w *wrong) *wrong {
		w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 2}
		w.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: 2}
		return w
	}
	noStream := func(w *wrong) *wrong {
		w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: empty}
		w.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: empty}
		return w
	}
	for _, test := range []struct {
		name   string
		stream string
		when   any
		ids    []string
		then   *wrong
	}{
		{"revision", "s", expectRevision(7), []string{"X"}, current(&wrong{
			ExpectedRevisionOption:        &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: 7},
			ExpectedRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: 7},
		})},
		{"revision of no stream", "none", expectRevision(7), []string{"X"}, noStream(&wrong{
			ExpectedRevisionOption:        &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: 7},
			ExpectedRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: 7},
		})},
		{"2^64-1", "s", expectRevision(1<<64 - 1), []string{"X"}, current(&wrong{
			ExpectedRevisionOption:        &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: 1<<64 - 1},
			ExpectedRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: 1<<64 - 1},
		})},
		{"no stream", "s", expectNoStream, []string{"X"}, current(&wrong{
			ExpectedRevisionOption:        &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: empty},
			ExpectedRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: 1<<64 - 1},
		})},
		{"any", "s", expectAny, []string{"A", "X"}, current(&wrong{
			ExpectedRevisionOption:        &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: empty},
			ExpectedRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: empty},
		})},
		{"stream exists", "none", expectStreamExists, []string{"X"}, noStream(&wrong{
			ExpectedRevisionOption:        &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: empty},
			ExpectedRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: empty},
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := appendNamed(t, c, test.stream, test.when, test.ids...)
			if err != nil {
				t.Fatal(err)
			}
			if got := answer.GetWrongExpectedVersion(); !proto.Equal(got, test.then) {
				t.Errorf("got %v, want %v", got, test.then)
			}
		})
	}
}

// TestAppendFaults sends requests that must be refused, and some that only look like it.
func TestAppendFaults(t *testing.T) {
	c := start(t).dial(t)
	without := func(key string) *streams.AppendReq_ProposedMessage {
		p := proposed("A")
		delete(p.Metadata, key)
		return p
	}
	with := func(change func(*streams.AppendReq_ProposedMessage)) *streams.AppendReq_ProposedMessage {
		p := proposed("A")
		change(p)
		return p
	}
	data := func(size int) *streams.AppendReq_ProposedMessage {
		return with(func(p *streams.AppendReq_ProposedMessage) { p.Data = make([]byte, size) })
	}
	options := appendOptions("s", expectAny)
	const limit = 1 << 20
	const typeSize = 2 // of "A" in UTF-16
	for _, test := range []struct {
		name     string
		when     []*streams.AppendReq
		then     codes.Code
		trailers metadata.MD
	}{
		{name: "no message", then: codes.Unknown},
		{name: "no options", when: []*streams.AppendReq{proposal(proposed("A"))}, then: codes.Unknown},
		{name: "options twice", when: []*streams.AppendReq{options, options}, then: codes.Unknown},
		{name: "empty message", when: []*streams.AppendReq{options, {}}, then: codes.Unknown},
		{name: "empty stream name", when: []*streams.AppendReq{appendOptions("", expectAny)}, then: codes.Unknown},
		{name: "stream $$", when: []*streams.AppendReq{appendOptions("$$", expectAny)}, then: codes.InvalidArgument},
		{name: "no type", when: []*streams.AppendReq{options, proposal(without("type"))}, then: codes.InvalidArgument,
			trailers: metadata.Pairs("exception", "missing-required-metadata-property", "required-metadata-properties", "type,content-type")},
		{name: "no content type", when: []*streams.AppendReq{options, proposal(without("content-type"))}, then: codes.InvalidArgument,
			trailers: metadata.Pairs("exception", "missing-required-metadata-property", "required-metadata-properties", "type,content-type")},
		{name: "empty type", when: []*streams.AppendReq{options, proposal(with(func(p *streams.AppendReq_ProposedMessage) { p.Metadata["type"] = "" }))}, then: codes.Unknown},
		{name: "no id", when: []*streams.AppendReq{options, proposal(with(func(p *streams.AppendReq_ProposedMessage) { p.Id = nil }))}, then: codes.Unknown},
		{name: "zero id", when: []*streams.AppendReq{options, proposal(with(func(p *streams.AppendReq_ProposedMessage) {
			p.Id = &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{}}}
		}))}, then: codes.Unknown},
		{name: "malformed id", when: []*streams.AppendReq{options, proposal(with(func(p *streams.AppendReq_ProposedMessage) {
			p.Id = &shared.UUID{Value: &shared.UUID_String_{String_: "A"}}
		}))}, then: codes.Unknown},
		{name: "at the limit", when: []*streams.AppendReq{options, proposal(data(limit - typeSize))}, then: codes.OK},
		{name: "over the limit", when: []*streams.AppendReq{options, proposal(data(limit - typeSize + 1))}, then: codes.InvalidArgument,
			trailers: metadata.Pairs("exception", "maximum-append-size-exceeded", "maximum-append-size", fmt.Sprint(limit))},
		{name: "over the limit together, then a fault", when: []*streams.AppendReq{options, proposal(data(limit / 2)), proposal(data(limit / 2)), {}}, then: codes.InvalidArgument,
			trailers: metadata.Pairs("exception", "maximum-append-size-exceeded", "maximum-append-size", fmt.Sprint(limit))},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, trailers, err := call(t, c, test.when...)
			if got := status.Code(err); got != test.then {
				t.Errorf("got %v, want %v", err, test.then)
			}
			for key, want := range test.trailers {
				if got := trailers.Get(key); !slices.Equal(got, want) {
					t.Errorf("trailer %s: got %v, want %v", key, got, want)
				}
			}
		})
	}
}

// TestAppendFaultReachesClient: the official client reports a refusal, not a broken stream, however much it had to send.
func TestAppendFaultReachesClient(t *testing.T) {
	c := start(t).client(t)
	events := make([]esdb.EventData, 40)
	for i := range events {
		events[i] = event("A")
		events[i].Data = bytes.Repeat([]byte("x"), 100_000)
	}
	for range 5 {
		_, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, events...)
		if err == nil || !strings.Contains(err.Error(), "Maximum Append Size") {
			t.Fatalf("got %v", err)
		}
	}
}

// TestAppendIsAtomic: events of one append are neighbours in the log and all there or none.
func TestAppendIsAtomic(t *testing.T) {
	s := start(t)
	c := s.dial(t)
	p := proposed("B")
	p.Id = nil
	if _, _, err := call(t, c, appendOptions("s", expectAny), proposal(proposed("A")), proposal(p)); err == nil {
		t.Fatal("accepted")
	}
	if s.Position() != 0 {
		t.Fatalf("log has %d events", s.Position())
	}
}

// TestAppendConcurrently: at explicit revisions exactly one of many writers wins each revision of a stream.
func TestAppendConcurrently(t *testing.T) {
	s := startIn(t, t.TempDir())
	c := s.client(t)
	const writers, revisions = 16, 25
	wins := make([][]uint64, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for revision := range uint64(revisions) {
				var expected esdb.ExpectedRevision = esdb.NoStream{}
				if revision > 0 {
					expected = esdb.Revision(revision - 1)
				}
				for {
					r, err := c.AppendToStream(context.Background(), "s", esdb.AppendToStreamOptions{ExpectedRevision: expected}, event(fmt.Sprint(w)))
					if err == nil {
						wins[w] = append(wins[w], r.NextExpectedVersion)
						break
					}
					if e, ok := errors.AsType[*esdb.Error](err); !ok || e.Code() != esdb.ErrorCodeWrongExpectedVersion {
						t.Error(err)
						return
					}
					// Whoever lost sees what won: nobody is told of an event that is not there to read yet.
					if last := lastRevision(t, c, "s"); last < int64(revision) {
						t.Errorf("refused at revision %d, but the stream ends at %d", revision, last)
						return
					}
					break
				}
			}
		})
	}
	group.Wait()
	all := slices.Concat(wins...)
	slices.Sort(all)
	if len(all) != revisions {
		t.Fatalf("%d appends won, want %d", len(all), revisions)
	}
	for i, revision := range all {
		if revision != uint64(i) {
			t.Fatalf("revision %d was won more or less than once: %v", i, all)
		}
	}
	for i, e := range readStream(t, c, "s", esdb.ReadStreamOptions{}) {
		if e.EventNumber != uint64(i) || e.Position.Commit != uint64(i+1) {
			t.Fatalf("event %d has revision %d and position %d", i, e.EventNumber, e.Position.Commit)
		}
	}
}

func lastRevision(t testing.TB, c *esdb.Client, stream string) int64 {
	last := readStream(t, c, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}})
	if len(last) == 0 {
		return -1
	}
	return int64(last[0].EventNumber)
}

// readStream returns all events of a stream, none if it does not exist.
func readStream(t testing.TB, c *esdb.Client, stream string, o esdb.ReadStreamOptions) []*esdb.RecordedEvent {
	t.Helper()
	r, err := c.ReadStream(t.Context(), stream, o, 1<<63)
	if err != nil {
		t.Fatal(err)
	}
	return collect(t, r)
}

func collect(t testing.TB, r *esdb.ReadStream) []*esdb.RecordedEvent {
	t.Helper()
	defer r.Close()
	var events []*esdb.RecordedEvent
	for {
		e, err := r.Recv()
		if errors.Is(err, io.EOF) {
			return events
		}
		if e, ok := errors.AsType[*esdb.Error](err); ok && e.Code() == esdb.ErrorCodeResourceNotFound {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e.Event)
	}
}

func structuredID(id uuid.UUID) *shared.UUID {
	most, least := esdb.UUIDAsInt64(id)
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: most, LeastSignificantBits: least,
	}}}
}
