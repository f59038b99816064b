package node

import (
	"fmt"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"pgregory.net/rapid"
)

// TestEncodeEvent holds the hand-written encoding to the generated code.
func TestEncodeEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream, eventType := rapid.String().Draw(t, "stream"), rapid.String().Draw(t, "type")
		metadata, data := bytesGenerator.Draw(t, "metadata"), bytesGenerator.Draw(t, "data")
		json := rapid.Bool().Draw(t, "json")
		id := eventID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		e := event{position: rapid.Uint64Range(1, 1<<63).Draw(t, "position"), record: newRecord(stream, id, []byte(eventType), json, metadata, data)}
		e.place(rapid.Int64Min(0).Draw(t, "revision"), rapid.Int64().Draw(t, "created"))
		form := rapid.SampledFrom([]uuidForm{structuredUUID, stringUUID}).Draw(t, "form")

		if _, err := parseRecord(e.record); err != nil {
			t.Fatal(err)
		}
		encoded := encodeEvent(resolvedEvent{event: &e}, form)
		var got streams.ReadResp
		if err := proto.Unmarshal(mem.BufferSlice(encoded).Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		if want := generatedEvent(e, form); !proto.Equal(&got, want) {
			t.Fatalf("got %v, want %v", &got, want)
		}
		mem.BufferSlice(encoded).Free()
	})
}

var bytesGenerator = rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.SliceOfN(rapid.Byte(), 2_000, 3_000))

func TestEncodeSuccess(t *testing.T) {
	empty := &shared.Empty{}
	rapid.Check(t, func(t *rapid.T) {
		revision, position := rapid.Int64Min(-1).Draw(t, "revision"), rapid.Uint64().Draw(t, "position")
		want := &streams.AppendResp_Success{
			CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(revision)},
			PositionOption: &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{
				CommitPosition: position, PreparePosition: position,
			}},
		}
		if revision < 0 {
			want.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: empty}
		}
		if position == 0 {
			want.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: empty}
		}
		var got streams.AppendResp
		if err := proto.Unmarshal(mem.BufferSlice(encodeSuccess(revision, position)).Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got.GetSuccess(), want) {
			t.Fatalf("got %v, want %v", &got, want)
		}
	})
}

func TestEncodeBatchSuccess(t *testing.T) {
	empty := &emptypb.Empty{}
	rapid.Check(t, func(t *rapid.T) {
		revision, position, stream := rapid.Int64Min(-1).Draw(t, "revision"), rapid.Uint64().Draw(t, "position"), rapid.String().Draw(t, "stream")
		success := &streams.BatchAppendResp_Success{
			CurrentRevisionOption: &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(revision)},
			PositionOption: &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{
				CommitPosition: position, PreparePosition: position,
			}},
		}
		if revision < 0 {
			success.CurrentRevisionOption = &streams.BatchAppendResp_Success_NoStream{NoStream: empty}
		}
		if position == 0 {
			success.PositionOption = &streams.BatchAppendResp_Success_NoPosition{NoPosition: empty}
		}
		want := &streams.BatchAppendResp{
			CorrelationId:    &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}},
			Result:           &streams.BatchAppendResp_Success_{Success: success},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
		}
		correlation, err := proto.Marshal(want.CorrelationId)
		if err != nil {
			t.Fatal(err)
		}
		var got streams.BatchAppendResp
		if err := proto.Unmarshal(mem.BufferSlice(encodeBatchSuccess(correlation, stream, revision, position)).Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&got, want) {
			t.Fatalf("got %v, want %v", &got, want)
		}
	})
}

// TestEncodeResolved holds what has a link, or only one, to the generated code; messages of groups have a number of retries too.
func TestEncodeResolved(t *testing.T) {
	newEvent := func(position uint64, name string) *event {
		e := &event{position: position, record: newRecord(name, eventID(uuid.New()), []byte("A"), true, []byte("m"), []byte("d"))}
		e.place(int64(position), 7)
		return e
	}
	target, link := newEvent(3, "target"), newEvent(9, "link")
	for _, r := range []resolvedEvent{{event: target}, {event: target, link: link}, {link: link}} {
		for _, form := range []uuidForm{structuredUUID, stringUUID} {
			want := &streams.ReadResp_ReadEvent{Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: r.original().position}}
			if r.event != nil {
				want.Event = generatedEvent(*r.event, form).GetEvent().GetEvent()
			}
			if r.link != nil {
				want.Link = generatedEvent(*r.link, form).GetEvent().GetEvent()
			}
			var got streams.ReadResp
			if err := proto.Unmarshal(mem.BufferSlice(encodeEvent(r, form)).Materialize(), &got); err != nil || !proto.Equal(got.GetEvent(), want) {
				t.Errorf("got %v, want %v, %v", got.GetEvent(), want, err)
			}
			var delivery persistent.ReadResp
			if err := proto.Unmarshal(mem.BufferSlice(encodeDelivery(r, form, 4)).Materialize(), &delivery); err != nil {
				t.Fatal(err)
			}
			d := delivery.GetEvent()
			if d.GetRetryCount() != 4 || d.GetCommitPosition() != r.original().position || (d.Event != nil) != (r.event != nil) || (d.Link != nil) != (r.link != nil) {
				t.Errorf("got %v", d)
			}
			for _, e := range []*persistent.ReadResp_ReadEvent_RecordedEvent{d.Event, d.Link} {
				if e != nil && (e.CommitPosition != d.GetCommitPosition() || e.Metadata["type"] != "A" || string(e.Data) != "d") {
					t.Errorf("got %v", e)
				}
			}
		}
	}
}

// TestTakeAppendRequest holds the hand-written decoding to the generated encoding.
func TestTakeAppendRequest(t *testing.T) {
	codec := newCodec()
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.StringN(1, 20, -1).Filter(func(s string) bool { return s != metastreamPrefix }).Draw(t, "stream")
		revision := rapid.Uint64Max(1<<63-1).Draw(t, "revision")
		var r appendRequest
		take := func(m *streams.AppendReq) {
			data, err := codec.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := codec.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
		}
		take(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
			ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: revision},
		}}})
		if r.fault != nil || r.stream != stream || r.expected != expectation(revision) {
			t.Fatalf("got %+v", r)
		}
		for range rapid.IntRange(0, 3).Draw(t, "events") {
			eventType := rapid.StringN(1, 20, -1).Draw(t, "type")
			contentType := rapid.SampledFrom([]string{contentTypeJSON, contentTypeBinary, ""}).Draw(t, "content type")
			metadata, data := bytesGenerator.Draw(t, "metadata"), bytesGenerator.Draw(t, "data")
			most, least := rapid.Int64Min(1).Draw(t, "most"), rapid.Int64().Draw(t, "least")
			take(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
				Id: &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
					MostSignificantBits: most, LeastSignificantBits: least,
				}}},
				Metadata:       map[string]string{keyType: eventType, keyContentType: contentType, "x": "y"},
				CustomMetadata: metadata,
				Data:           data,
			}}})
			if r.fault != nil {
				t.Fatal(r.fault)
			}
			e := r.events[len(r.events)-1]
			m, l := structured(e.id())
			if string(e.stream()) != stream || string(e.eventType()) != eventType || string(e.metadata()) != string(metadata) ||
				string(e.data()) != string(data) || e.json() != (contentType == contentTypeJSON) || m != uint64(most) || l != uint64(least) {
				t.Fatalf("got %q", e.record)
			}
		}
	})
}

// TestMalformedRequest: bytes that are no message, or text that could not be read back, end a call.
func TestMalformedRequest(t *testing.T) {
	proposal := func(message ...byte) []byte { return append([]byte{2<<3 | 2, byte(len(message))}, message...) }
	for name, message := range map[string][]byte{
		"cut off":      {1<<3 | 2, 9},
		"cut off tag":  {0x80},
		"text in type": proposal(2<<3|2, 9, 1<<3|2, 4, 't', 'y', 'p', 'e', 2<<3|2, 1, 0xff),
	} {
		r := appendRequest{begun: true}
		if err := r.take(message); err == nil {
			t.Errorf("%s: accepted, %v", name, r.fault)
		}
	}
}

// generatedEvent is e as the generated code has it.
func generatedEvent(e event, form uuidForm) *streams.ReadResp {
	contentType := contentTypeBinary
	if e.json() {
		contentType = contentTypeJSON
	}
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{
		Event: &streams.ReadResp_ReadEvent_RecordedEvent{
			Id:               generatedID(e.id(), form),
			StreamIdentifier: &shared.StreamIdentifier{StreamName: e.stream()},
			StreamRevision:   uint64(e.revision()),
			PreparePosition:  e.position,
			CommitPosition:   e.position,
			Metadata: map[string]string{
				keyType: string(e.eventType()), keyContentType: contentType, keyCreated: fmt.Sprint(e.created()),
			},
			CustomMetadata: e.metadata(),
			Data:           e.data(),
		},
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: e.position},
	}}}
}

func generatedID(id eventID, form uuidForm) *shared.UUID {
	if form == stringUUID {
		return &shared.UUID{Value: &shared.UUID_String_{String_: uuid.UUID(id).String()}}
	}
	most, least := structured(id)
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: int64(most), LeastSignificantBits: int64(least),
	}}}
}
