package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The parts of a read request.
var (
	forwards   = streams.ReadReq_Options_Forwards
	backwards  = streams.ReadReq_Options_Backwards
	unfiltered = &streams.ReadReq_Options_NoFilter{NoFilter: empty}
	structured = &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: empty}}
)

func count(n uint64) *streams.ReadReq_Options_Count { return &streams.ReadReq_Options_Count{Count: n} }

func subscription() *streams.ReadReq_Options_Subscription {
	return &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
}

// ofStream begins at a revision, or at "start" or "end".
func ofStream(name string, from any) *streams.ReadReq_Options_Stream {
	o := &streams.ReadReq_Options_StreamOptions{StreamIdentifier: streamIdentifier(name)}
	switch f := from.(type) {
	case string:
		if f == "start" {
			o.RevisionOption = &streams.ReadReq_Options_StreamOptions_Start{Start: empty}
		} else {
			o.RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: empty}
		}
	case int:
		o.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: uint64(f)}
	case uint64:
		o.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: f}
	}
	return &streams.ReadReq_Options_Stream{Stream: o}
}

// ofAll begins at a position, or at "start" or "end".
func ofAll(from any) *streams.ReadReq_Options_All {
	o := &streams.ReadReq_Options_AllOptions{}
	switch f := from.(type) {
	case string:
		if f == "start" {
			o.AllOption = &streams.ReadReq_Options_AllOptions_Start{Start: empty}
		} else {
			o.AllOption = &streams.ReadReq_Options_AllOptions_End{End: empty}
		}
	case int:
		return ofAll(at(uint64(f), uint64(f)))
	case *streams.ReadReq_Options_Position:
		o.AllOption = &streams.ReadReq_Options_AllOptions_Position{Position: f}
	}
	return &streams.ReadReq_Options_All{All: o}
}

func at(commit, prepare uint64) *streams.ReadReq_Options_Position {
	return &streams.ReadReq_Options_Position{CommitPosition: commit, PreparePosition: prepare}
}

// prefixFilter chooses stream names by prefix.
func prefixFilter(interval uint32, prefixes ...string) *streams.ReadReq_Options_Filter {
	return &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: prefixes},
		},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: 1},
		CheckpointIntervalMultiplier: interval,
	}}
}

// read sends the request and returns its messages in words, and how it ended.
func read(t testing.TB, c *grpc.ClientConn, o *streams.ReadReq_Options) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := streams.NewStreamsClient(c).Read(ctx, &streams.ReadReq{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, words(m))
	}
}

// words is a message of a read in short: the type of an event, the name and value of anything else.
func words(m *streams.ReadResp) string {
	switch content := m.Content.(type) {
	case *streams.ReadResp_Event:
		return content.Event.Event.Metadata["type"]
	case *streams.ReadResp_StreamNotFound_:
		return "not found: " + string(content.StreamNotFound.StreamIdentifier.StreamName)
	case *streams.ReadResp_FirstStreamPosition:
		return fmt.Sprintf("first: %d", content.FirstStreamPosition)
	case *streams.ReadResp_LastStreamPosition:
		return fmt.Sprintf("last: %d", content.LastStreamPosition)
	case *streams.ReadResp_Confirmation:
		if _, err := uuid.Parse(content.Confirmation.SubscriptionId); err != nil {
			return "confirmed with a malformed id"
		}
		return "confirmed"
	case *streams.ReadResp_CaughtUp_:
		return "caught up"
	case *streams.ReadResp_Checkpoint_:
		if content.Checkpoint.CommitPosition != content.Checkpoint.PreparePosition {
			return fmt.Sprintf("checkpoint: %d/%d", content.Checkpoint.CommitPosition, content.Checkpoint.PreparePosition)
		}
		return fmt.Sprintf("checkpoint: %d", content.Checkpoint.CommitPosition)
	}
	return fmt.Sprintf("%T", m.Content)
}

// TestRead reads a log of A0 B0 A1 B1 A2 at positions 1 to 5, where An and Bn are events of streams a and b.
func TestRead(t *testing.T) {
	c := start(t).dial(t)
	for _, e := range []string{"A0", "B0", "A1", "B1", "A2"} {
		appendNamed(t, c, strings.ToLower(e[:1]), expectAny, e)
	}
	type options = streams.ReadReq_Options
	for _, test := range []struct {
		name string
		when *options
		then []string
		code codes.Code
	}{
		{name: "stream from start", when: &options{StreamOption: ofStream("a", "start"), CountOption: count(9)}, then: []string{"A0", "A1", "A2"}},
		{name: "stream from a revision", when: &options{StreamOption: ofStream("a", 1), CountOption: count(9)}, then: []string{"A1", "A2"}},
		{name: "stream, limited", when: &options{StreamOption: ofStream("a", "start"), CountOption: count(2)}, then: []string{"A0", "A1"}},
		{name: "stream, no limit", when: &options{StreamOption: ofStream("a", "start"), CountOption: count(math.MaxUint64)}, then: []string{"A0", "A1", "A2"}},
		{name: "stream from beyond its end", when: &options{StreamOption: ofStream("a", 7), CountOption: count(9)}},
		{name: "stream from the last possible revision", when: &options{StreamOption: ofStream("a", uint64(math.MaxInt64)), CountOption: count(9)}},
		{name: "stream from an impossible revision", when: &options{StreamOption: ofStream("a", uint64(1<<63)), CountOption: count(9)}, code: codes.Unknown},
		{name: "stream forwards from end", when: &options{StreamOption: ofStream("a", "end"), CountOption: count(9)}, code: codes.Unknown},
		{name: "stream backwards from end", when: &options{StreamOption: ofStream("a", "end"), ReadDirection: backwards, CountOption: count(9)}, then: []string{"A2", "A1", "A0"}},
		{name: "stream backwards from 2^64-1", when: &options{StreamOption: ofStream("a", uint64(math.MaxUint64)), ReadDirection: backwards, CountOption: count(1)}, then: []string{"A2"}},
		{name: "stream backwards from a revision", when: &options{StreamOption: ofStream("a", 1), ReadDirection: backwards, CountOption: count(9)}, then: []string{"A1", "A0"}},
		{name: "stream backwards from beyond its end", when: &options{StreamOption: ofStream("a", 7), ReadDirection: backwards, CountOption: count(2)}, then: []string{"A2", "A1"}},
		{name: "stream backwards from start", when: &options{StreamOption: ofStream("a", "start"), ReadDirection: backwards, CountOption: count(9)}, then: []string{"A0"}},
		{name: "missing stream", when: &options{StreamOption: ofStream("c", "start"), CountOption: count(9)}, then: []string{"not found: c"}},
		{name: "missing stream backwards", when: &options{StreamOption: ofStream("c", "end"), ReadDirection: backwards, CountOption: count(9)}, then: []string{"not found: c"}},
		{name: "nothing of a stream", when: &options{StreamOption: ofStream("a", "start"), CountOption: count(0)}, code: codes.Unknown},
		{name: "nothing of all", when: &options{StreamOption: ofAll("start"), CountOption: count(0)}, code: codes.Unknown},
		{name: "all from start", when: &options{StreamOption: ofAll("start"), CountOption: count(9)}, then: []string{"A0", "B0", "A1", "B1", "A2"}},
		{name: "all from zero", when: &options{StreamOption: ofAll(0), CountOption: count(2)}, then: []string{"A0", "B0"}},
		{name: "all from a position", when: &options{StreamOption: ofAll(3), CountOption: count(2)}, then: []string{"A1", "B1"}},
		{name: "all from beyond the end", when: &options{StreamOption: ofAll(9), CountOption: count(9)}},
		{name: "all from end", when: &options{StreamOption: ofAll("end"), CountOption: count(9)}},
		{name: "all backwards from end", when: &options{StreamOption: ofAll("end"), ReadDirection: backwards, CountOption: count(2)}, then: []string{"A2", "B1"}},
		{name: "all backwards from -1", when: &options{StreamOption: ofAll(at(math.MaxUint64, math.MaxUint64)), ReadDirection: backwards, CountOption: count(1)}, then: []string{"A2"}},
		{name: "all backwards before a position", when: &options{StreamOption: ofAll(3), ReadDirection: backwards, CountOption: count(9)}, then: []string{"B0", "A0"}},
		{name: "all backwards from beyond the end", when: &options{StreamOption: ofAll(9), ReadDirection: backwards, CountOption: count(1)}, then: []string{"A2"}},
		{name: "all backwards from start", when: &options{StreamOption: ofAll("start"), ReadDirection: backwards, CountOption: count(9)}},
		{name: "all from a prepare after its commit", when: &options{StreamOption: ofAll(at(2, 3)), CountOption: count(9)}, code: codes.Unknown},
		{name: "all from a commit after its prepare", when: &options{StreamOption: ofAll(at(3, 2)), CountOption: count(9)}, then: []string{"A1", "B1", "A2"}},
		{name: "all backwards from a commit after its prepare", when: &options{StreamOption: ofAll(at(3, 0)), ReadDirection: backwards, CountOption: count(9)}, then: []string{"B0", "A0"}},
		{name: "all, filtered", when: &options{StreamOption: ofAll("start"), CountOption: count(2), FilterOption: prefixFilter(1, "b", "x")}, then: []string{"B0", "B1"}},
		{name: "all backwards, filtered", when: &options{StreamOption: ofAll("end"), ReadDirection: backwards, CountOption: count(2), FilterOption: prefixFilter(1, "a")}, then: []string{"A2", "A1"}},
		{name: "stream, filtered", when: &options{StreamOption: ofStream("a", "start"), CountOption: count(2), FilterOption: prefixFilter(1, "a")}, code: codes.InvalidArgument},
		{name: "links where there are none", when: &options{StreamOption: ofAll("start"), CountOption: count(2), ResolveLinks: true}, then: []string{"A0", "B0"}},
		{name: "no stream option", when: &options{CountOption: count(2)}, code: codes.InvalidArgument},
		{name: "no count option", when: &options{StreamOption: ofAll("start")}, code: codes.InvalidArgument},
		{name: "subscription backwards", when: &options{StreamOption: ofAll("start"), ReadDirection: backwards, CountOption: subscription()}, code: codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.when.UuidOption = structured
			if test.when.FilterOption == nil {
				test.when.FilterOption = unfiltered
			}
			got, err := read(t, c, test.when)
			if !slices.Equal(got, test.then) || status.Code(err) != test.code {
				t.Errorf("got %v, %v; want %v, %v", got, err, test.then, test.code)
			}
		})
	}
}

func TestReadNeedsOptions(t *testing.T) {
	c := start(t).dial(t)
	for name, o := range map[string]*streams.ReadReq_Options{
		"uuid":   {StreamOption: ofAll("start"), CountOption: count(1), FilterOption: unfiltered},
		"filter": {StreamOption: ofAll("start"), CountOption: count(1), UuidOption: structured},
		"window": {StreamOption: ofAll("start"), CountOption: count(1), UuidOption: structured, FilterOption: &streams.ReadReq_Options_Filter{
			Filter: &streams.ReadReq_Options_FilterOptions{Filter: prefixFilter(1, "a").Filter.Filter},
		}},
	} {
		if _, err := read(t, c, o); status.Code(err) != codes.InvalidArgument {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestReadPositions: clients that say they understand it are told where a stream begins and ends, others are not.
func TestReadPositions(t *testing.T) {
	c := start(t).dial(t)
	appendNamed(t, c, "s", expectAny, "A", "B", "C")
	for _, test := range []struct {
		name      string
		from      any
		direction streams.ReadReq_Options_ReadDirection
		count     uint64
		metadata  string
		then      []string
	}{
		{name: "whole", from: "start", count: 9, then: []string{"A", "B", "C", "last: 2"}},
		{name: "beyond the end", from: 9, count: 9, then: []string{"first: 3", "last: 2"}},
		{name: "just beyond the end", from: 3, count: 9, then: []string{"last: 2"}},
		{name: "backwards", from: "end", direction: backwards, count: 1, then: []string{"C", "last: 2"}},
		{name: "truncated before the first page", from: "start", count: 1, metadata: `{"$tb":2}`, then: []string{"first: 2", "C", "last: 2"}},
		{name: "truncated within the first page", from: "start", count: 9, metadata: `{"$tb":2}`, then: []string{"C", "last: 2"}},
		{name: "truncated as a whole within the first page", from: "start", count: 9, metadata: `{"$tb":5}`, then: []string{"first: 3", "last: 2"}},
		{name: "truncated as a whole beyond the first page", from: "start", count: 99, metadata: `{"$tb":50}`, then: []string{"first: 50", "first: 3", "last: 2"}},
		{name: "truncated as a whole, just beyond the end", from: 3, count: 9, metadata: `{"$tb":5}`, then: []string{"last: 2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.metadata != "" {
				setMetadata(t, c, "s", test.metadata)
			}
			o := &streams.ReadReq_Options{StreamOption: ofStream("s", test.from), CountOption: count(test.count),
				ReadDirection: test.direction, FilterOption: unfiltered, UuidOption: structured,
				ControlOption: &streams.ReadReq_Options_ControlOption{Compatibility: 1}}
			if got, err := read(t, c, o); !slices.Equal(got, test.then) || err != nil {
				t.Errorf("got %v, %v; want %v", got, err, test.then)
			}
			plain := slices.DeleteFunc(slices.Clone(test.then), func(m string) bool { return len(m) > 1 })
			o.ControlOption = nil
			if got, err := read(t, c, o); !slices.Equal(got, plain) || err != nil {
				t.Errorf("without compatibility: got %v, %v; want %v", got, err, plain)
			}
		})
	}
}

// TestReadEvent checks every field of an event, in both forms of its id, and what becomes of data that is not JSON.
func TestReadEvent(t *testing.T) {
	c := start(t).dial(t)
	id := uuid.MustParse("f81d4fae-7dec-41d0-8765-00a0c91e6bf6")
	p := proposed("Ünïcode")
	p.Id.Value = nil
	p.Id = structuredID(id)
	p.Metadata["content-type"] = "text/plain"
	p.Metadata["dropped"] = "x"
	p.CustomMetadata, p.Data = []byte("metadata"), []byte{0, 1, 2}
	if _, _, err := call(t, c, appendOptions("s", expectAny), proposal(proposed("A")), proposal(p)); err != nil {
		t.Fatal(err)
	}
	for _, form := range []*streams.ReadReq_Options_UUIDOption{
		structured,
		{},
		{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: empty}},
	} {
		stream, err := streams.NewStreamsClient(c).Read(t.Context(), &streams.ReadReq{Options: &streams.ReadReq_Options{
			StreamOption: ofStream("s", 1), CountOption: count(1), FilterOption: unfiltered, UuidOption: form,
		}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		e := m.GetEvent().GetEvent()
		if _, ok := form.Content.(*streams.ReadReq_Options_UUIDOption_String_); ok {
			if got := e.GetId().GetString_(); got != id.String() {
				t.Errorf("id is %q", got)
			}
		} else if got, want := e.GetId().GetStructured(), structuredID(id).GetStructured(); got.GetMostSignificantBits() != want.MostSignificantBits || got.GetLeastSignificantBits() != want.LeastSignificantBits {
			t.Errorf("id is %v, want %v", got, want)
		}
		if got := string(e.GetStreamIdentifier().GetStreamName()); got != "s" {
			t.Errorf("stream is %q", got)
		}
		if e.GetStreamRevision() != 1 || e.GetCommitPosition() != 2 || e.GetPreparePosition() != 2 || m.GetEvent().GetCommitPosition() != 2 {
			t.Errorf("revision and positions: %v", e)
		}
		if len(e.Metadata) != 3 || e.Metadata["type"] != "Ünïcode" || e.Metadata["content-type"] != "application/octet-stream" || len(e.Metadata["created"]) != 17 {
			t.Errorf("metadata is %v", e.Metadata)
		}
		if string(e.CustomMetadata) != "metadata" || string(e.Data) != "\x00\x01\x02" {
			t.Errorf("metadata %q, data %q", e.CustomMetadata, e.Data)
		}
	}
}

// TestReadPages reads a log of several pages, partly out of memory and partly from disk, in both directions.
func TestReadPages(t *testing.T) {
	dir := t.TempDir()
	const batch, batches = 100, 5
	write := func(c *esdb.Client, stream string) {
		for range batches {
			events := make([]esdb.EventData, batch)
			for i := range events {
				events[i] = event("A")
				events[i].Data = make([]byte, 2_000)
			}
			if _, err := c.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{}, events...); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("before", func(t *testing.T) { write(startIn(t, dir).client(t), "s") })
	s := startIn(t, dir)
	c := s.client(t)
	write(c, "t")
	write(c, "s")
	for _, direction := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		var fromStream esdb.StreamPosition = esdb.Start{}
		var fromAll esdb.AllPosition = esdb.Start{}
		if direction == esdb.Backwards {
			fromStream, fromAll = esdb.End{}, esdb.End{}
		}
		stream := readStream(t, c, "s", esdb.ReadStreamOptions{Direction: direction, From: fromStream})
		r, err := c.ReadAll(t.Context(), esdb.ReadAllOptions{Direction: direction, From: fromAll}, 1<<63)
		if err != nil {
			t.Fatal(err)
		}
		all := collect(t, r)
		if direction == esdb.Backwards {
			slices.Reverse(stream)
			slices.Reverse(all)
		}
		if len(stream) != 2*batch*batches || len(all) != 3*batch*batches {
			t.Fatalf("read %d and %d events", len(stream), len(all))
		}
		for i, e := range stream {
			if e.EventNumber != uint64(i) {
				t.Fatalf("event %d has revision %d", i, e.EventNumber)
			}
		}
		for i, e := range all {
			if e.Position.Commit != uint64(i+1) {
				t.Fatalf("event %d has position %d", i, e.Position.Commit)
			}
		}
	}
}
