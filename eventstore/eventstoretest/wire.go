package eventstoretest

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// frame is an encoded message.
type frame []byte

// raw is the gRPC codec for frames.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(frame))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*frame) = data.Materialize()
	return nil
}

// encode encodes a message. Those of this package never fail.
func encode(m proto.Message) frame {
	f, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return f
}

// Numbers of the fields of streams.proto that are needed here.
const (
	reqProposed protowire.Number = 2 // of an AppendReq

	appendRespSuccess protowire.Number = 1
	successPosition   protowire.Number = 3
	deleteRespPlace   protowire.Number = 1 // of a TombstoneResp too
	positionCommit    protowire.Number = 1

	respEvent         protowire.Number = 1
	respCheckpoint    protowire.Number = 3
	readEventEvent    protowire.Number = 1
	readEventLink     protowire.Number = 2
	readEventPosition protowire.Number = 3
	recordedRevision  protowire.Number = 3
	recordedPosition  protowire.Number = 5
)

// fields calls each for every field of a message, up to the first that is malformed.
func fields(message []byte, each func(number protowire.Number, bytes []byte, varint uint64)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		var bytes []byte
		var varint uint64
		switch kind {
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return
		}
		each(number, bytes, varint)
		message = message[n:]
	}
}

// within is the field at a path of numbers through nested messages.
func within(message []byte, numbers ...protowire.Number) (bytes []byte, varint uint64) {
	bytes = message
	for _, wanted := range numbers {
		message, bytes, varint = bytes, nil, 0
		fields(message, func(number protowire.Number, b []byte, v uint64) {
			if number == wanted {
				bytes, varint = b, v
			}
		})
	}
	return bytes, varint
}

// readResp is what is needed here of an answer to a read.
type readResp struct {
	kind     protowire.Number // the content
	position uint64           // of an event or a checkpoint
	revision uint64           // of an event, in the stream that was read
}

func parseReadResp(answer frame) (r readResp) {
	var content []byte
	fields(answer, func(number protowire.Number, bytes []byte, _ uint64) { r.kind, content = number, bytes })
	switch r.kind {
	case respCheckpoint:
		_, r.position = within(content, positionCommit)
	case respEvent:
		var event, link []byte
		fields(content, func(number protowire.Number, bytes []byte, varint uint64) {
			switch number {
			case readEventEvent:
				event = bytes
			case readEventLink:
				link = bytes
			case readEventPosition:
				r.position = varint
			}
		})
		if link != nil {
			event = link
		}
		fields(event, func(number protowire.Number, _ []byte, varint uint64) {
			switch {
			case number == recordedRevision:
				r.revision = varint
			case number == recordedPosition && r.position == 0:
				r.position = varint
			}
		})
	}
	return r
}

// deliveredPosition is the position of an event that a group hands out, 0 in other messages.
func deliveredPosition(answer frame) uint64 {
	_, position := within(answer, respEvent, readEventPosition)
	return position
}
