package eventstoretest_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"roombook/eventstore/eventstoretest"
)

// batch is a batch of one event.
func batch(stream string, revision int, id *shared.UUID) *streams.BatchAppendReq {
	options := &streams.BatchAppendReq_Options{
		StreamIdentifier:       identifier(stream),
		ExpectedStreamPosition: &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: uint64(revision)},
	}
	if revision < 0 {
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	}
	return &streams.BatchAppendReq{
		CorrelationId:    newID(),
		Options:          options,
		ProposedMessages: []*streams.BatchAppendReq_ProposedMessage{{Id: id, Metadata: ofThing}},
		IsFinal:          true,
	}
}

// batches sends batches on one call and returns their answers in the order of the batches.
func batches(t *testing.T, call streams.Streams_BatchAppendClient, all ...*streams.BatchAppendReq) []*streams.BatchAppendResp {
	t.Helper()
	for _, b := range all {
		if err := call.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	answers := make([]*streams.BatchAppendResp, len(all))
	for range all {
		a, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(b *streams.BatchAppendReq) bool {
			return b.CorrelationId.String() == a.CorrelationId.String()
		})
		if i < 0 || answers[i] != nil || string(a.StreamIdentifier.GetStreamName()) != string(all[i].Options.StreamIdentifier.GetStreamName()) {
			t.Fatalf("an answer to nothing: %v", a)
		}
		answers[i] = a
	}
	return answers
}

// result is the answer to a batch as text.
func result(a *streams.BatchAppendResp) string {
	if s := a.GetSuccess(); s != nil {
		return fmt.Sprintf("at %d", s.GetCurrentRevision())
	}
	e := a.GetError()
	if len(e.GetDetails()) != 1 {
		return a.String()
	}
	return fmt.Sprintf("%d %s %s", e.Code, e.Message, e.Details[0].MessageName())
}

func TestBatchAppend(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{})
	c := dial(t, s.Address(0))
	call, err := c.BatchAppend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late := batch("s", 2, newID())
	late.Options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(0)}
	nowhere := batch("s", 2, newID())
	nowhere.Options.StreamIdentifier = nil
	large := batch("large", -1, newID())
	large.ProposedMessages[0].Data = make([]byte, 1<<20)
	id := newID()
	all := []*streams.BatchAppendReq{
		batch("s", -1, id), batch("s", 0, newID()), batch("s", 1, newID()), batch("other", -1, newID()), batch("s", 1, newID()), late, nowhere, large,
	}
	var got []string
	for _, a := range batches(t, call, all...) {
		got = append(got, result(a))
	}
	want := []string{
		"at 0", "at 1", "at 2", "at 0", "6 WrongExpectedVersion event_store.client.WrongExpectedVersion",
		"4 Timeout event_store.client.Timeout", "3 BadRequest event_store.client.BadRequest",
		"3 MaximumAppendSizeExceeded event_store.client.MaximumAppendSizeExceeded",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	if got := c.read(of("s")); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("what is acknowledged cannot be read: %q", got)
	}
	if got := result(batches(t, call, batch("s", -1, id))[0]); got != "at 0" {
		t.Errorf("a repetition: %s", got)
	}

	// A chain, without waiting for answers.
	chain := make([]*streams.BatchAppendReq, 50)
	for i := range chain {
		chain[i] = batch("chain", i-1, newID())
	}
	for i, a := range batches(t, call, chain...) {
		if got, want := result(a), fmt.Sprintf("at %d", i); got != want {
			t.Errorf("in a chain: %s, want %s", got, want)
		}
	}

	// In fragments, and then a half-close.
	first := batch("pieces", -1, newID())
	first.IsFinal = false
	last := batch("pieces", -1, newID())
	last.CorrelationId = first.CorrelationId
	last.Options = nil
	for _, b := range []*streams.BatchAppendReq{first, last} {
		if err := call.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if a, err := call.Recv(); err != nil || result(a) != "at 1" {
		t.Errorf("in pieces: %v, %v", a, err)
	}
	if a, err := call.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, %v", a, err)
	}
}

// A batch that repeats one which cannot be read yet is dropped, like an append.
func TestRepeatedBatchIsDropped(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 1, eventstoretest.Conditions{Indexing: never})
	s.ExpectDropped()
	call, err := dial(t, s.Address(0)).BatchAppend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := newID()
	for range 2 {
		if err := call.Send(batch("s", -1, id)); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := call.Recv(); err != nil || result(a) != "4 Timeout event_store.client.Timeout" {
		t.Errorf("the one: %v, %v", a, err)
	}
	if s.Dropped() != 1 {
		t.Errorf("%d are dropped, want 1", s.Dropped())
	}
	s.IndexAll()
	if a, err := call.Recv(); err != nil || result(a) != "at 0" {
		t.Errorf("the other: %v, %v", a, err)
	}
}
