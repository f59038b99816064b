package node

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// codec is gRPC's for protocol buffers, but for the messages that make up nearly all of the traffic: those are read from and
// written to the wire format directly, without the generated structs and their many small allocations. wire_test.go holds
// them to the generated code.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// message is a message in wire format.
type message mem.BufferSlice

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(message); ok {
		return mem.BufferSlice(m), nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*appendRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return r.take(buffer.ReadOnlyData())
}

// newMessage returns an empty message and the buffer to append its size bytes to.
func newMessage(size int) (message, []byte) {
	pool := mem.DefaultBufferPool()
	if mem.IsBelowBufferPoolingThreshold(size) {
		b := make([]byte, size)
		return message{mem.SliceBuffer(b)}, b[:0]
	}
	b := pool.Get(size)
	return message{mem.NewBuffer(b, pool)}, (*b)[:0]
}

// Numbers of the fields of streams.proto and shared.proto that are read and written here.
const (
	appendReqOptions  protowire.Number = 1
	appendReqProposed protowire.Number = 2

	optionsStream       protowire.Number = 1
	optionsRevision     protowire.Number = 2
	optionsNoStream     protowire.Number = 3
	optionsAny          protowire.Number = 4
	optionsStreamExists protowire.Number = 5

	proposedID             protowire.Number = 1
	proposedMetadata       protowire.Number = 2
	proposedCustomMetadata protowire.Number = 3
	proposedData           protowire.Number = 4

	appendRespSuccess      protowire.Number = 1
	successCurrentRevision protowire.Number = 1
	successNoStream        protowire.Number = 2
	successPosition        protowire.Number = 3
	successNoPosition      protowire.Number = 4
	positionCommit         protowire.Number = 1
	positionPrepare        protowire.Number = 2

	readRespEvent          protowire.Number = 1
	readRespCaughtUp       protowire.Number = 8
	readEventEvent         protowire.Number = 1
	readEventCommit        protowire.Number = 3
	recordedID             protowire.Number = 1
	recordedStream         protowire.Number = 2
	recordedRevision       protowire.Number = 3
	recordedPrepare        protowire.Number = 4
	recordedCommit         protowire.Number = 5
	recordedMetadata       protowire.Number = 6
	recordedCustomMetadata protowire.Number = 7
	recordedData           protowire.Number = 8

	caughtUpTimestamp protowire.Number = 1
	caughtUpRevision  protowire.Number = 2
	caughtUpPosition  protowire.Number = 3
	timestampSeconds  protowire.Number = 1
	timestampNanos    protowire.Number = 2

	streamIdentifierName protowire.Number = 3
	uuidStructured       protowire.Number = 1
	uuidString           protowire.Number = 2
	uuidMost             protowire.Number = 1
	uuidLeast            protowire.Number = 2
	mapKey               protowire.Number = 1
	mapValue             protowire.Number = 2
)

// Keys of an event's metadata on the wire, and values of its content type.
const (
	keyType        = "type"
	keyContentType = "content-type"
	keyCreated     = "created"

	contentTypeJSON   = "application/json"
	contentTypeBinary = "application/octet-stream"
)

// field is one field of a message: its bytes if it is length-delimited, its number if it is a varint.
type field struct {
	number protowire.Number
	bytes  []byte
	varint uint64
}

// nextField takes the first field off a message that is not empty.
func nextField(message []byte) (f field, rest []byte, err error) {
	number, kind, n := protowire.ConsumeTag(message)
	if n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	f.number, message = number, message[n:]
	switch kind {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(message)
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(message)
	default:
		n = protowire.ConsumeFieldValue(number, kind, message)
	}
	if n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	return f, message[n:], nil
}

// parseUUID reads an event id. Any form of text that RFC 4122 and its common variants have is accepted.
func parseUUID(message []byte) (id eventID, err error) {
	for len(message) > 0 {
		var f field
		if f, message, err = nextField(message); err != nil {
			return id, err
		}
		switch f.number {
		case uuidStructured:
			id, err = parseStructuredUUID(f.bytes)
		case uuidString:
			var parsed uuid.UUID
			parsed, err = uuid.ParseBytes(f.bytes)
			id = eventID(parsed)
		}
		if err != nil {
			return id, err
		}
	}
	return id, nil
}

func parseStructuredUUID(message []byte) (id eventID, err error) {
	for len(message) > 0 {
		var f field
		if f, message, err = nextField(message); err != nil {
			return id, err
		}
		switch f.number {
		case uuidMost:
			binary.BigEndian.PutUint64(id[:8], f.varint)
		case uuidLeast:
			binary.BigEndian.PutUint64(id[8:], f.varint)
		}
	}
	return id, nil
}

// structured is an id as the two numbers of its structured form.
func structured(id eventID) (most, least uint64) {
	return binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
}

// Sizes of fields whose tags take one byte, as all do here.
func sizeVarint(v uint64) int { return 1 + protowire.SizeVarint(v) }
func sizeBytes(n int) int     { return 1 + protowire.SizeBytes(n) }

func appendVarint(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendBytes[T string | []byte](b []byte, number protowire.Number, v T) []byte {
	return append(appendLength(b, number, len(v)), v...)
}

// appendLength begins a length-delimited field of n bytes.
func appendLength(b []byte, number protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(n))
}

// encodeSuccess is the answer to an append. A revision of -1 says that the stream has no events, a position of 0 that it
// cannot be told.
func encodeSuccess(revision int64, position uint64) message {
	positionSize := 0
	if position > 0 {
		positionSize = 2 * sizeVarint(position)
	}
	size := sizeBytes(positionSize)
	if revision >= 0 {
		size += sizeVarint(uint64(revision))
	} else {
		size += sizeBytes(0)
	}
	m, b := newMessage(sizeBytes(size))
	b = appendLength(b, appendRespSuccess, size)
	if revision >= 0 {
		b = appendVarint(b, successCurrentRevision, uint64(revision))
	} else {
		b = appendLength(b, successNoStream, 0)
	}
	if position > 0 {
		b = appendLength(b, successPosition, positionSize)
		b = appendVarint(b, positionCommit, position)
		appendVarint(b, positionPrepare, position)
	} else {
		appendLength(b, successNoPosition, 0)
	}
	return m
}

// uuidForm is how a client wants event ids.
type uuidForm int

const (
	structuredUUID uuidForm = iota
	stringUUID
)

// uuidTextSize is the length of an id as text.
const uuidTextSize = 36

// encodeEvent is e as a ReadResp.
func encodeEvent(e event, form uuidForm) message {
	var createdText [20]byte
	created := strconv.AppendInt(createdText[:0], e.created(), 10)
	stream, eventType, metadata, data := e.stream(), e.eventType(), e.metadata(), e.data()
	contentType := contentTypeBinary
	if e.json() {
		contentType = contentTypeJSON
	}
	id := e.id()
	most, least := structured(id)

	structuredSize := sizeVarint(most) + sizeVarint(least)
	idSize := sizeBytes(structuredSize)
	if form == stringUUID {
		idSize = sizeBytes(uuidTextSize)
	}
	streamSize := sizeBytes(len(stream))
	typeSize := sizeBytes(len(keyType)) + sizeBytes(len(eventType))
	contentTypeSize := sizeBytes(len(keyContentType)) + sizeBytes(len(contentType))
	createdSize := sizeBytes(len(keyCreated)) + sizeBytes(len(created))
	recordedSize := sizeBytes(idSize) + sizeBytes(streamSize) + sizeVarint(uint64(e.revision())) + 2*sizeVarint(e.position) +
		sizeBytes(typeSize) + sizeBytes(contentTypeSize) + sizeBytes(createdSize) + sizeBytes(len(metadata)) + sizeBytes(len(data))
	size := sizeBytes(recordedSize) + sizeVarint(e.position)

	m, b := newMessage(sizeBytes(size))
	b = appendLength(b, readRespEvent, size)
	b = appendLength(b, readEventEvent, recordedSize)
	b = appendLength(b, recordedID, idSize)
	if form == stringUUID {
		b = appendBytes(b, uuidString, uuid.UUID(id).String())
	} else {
		b = appendLength(b, uuidStructured, structuredSize)
		b = appendVarint(b, uuidMost, most)
		b = appendVarint(b, uuidLeast, least)
	}
	b = appendLength(b, recordedStream, streamSize)
	b = appendBytes(b, streamIdentifierName, stream)
	b = appendVarint(b, recordedRevision, uint64(e.revision()))
	b = appendVarint(b, recordedPrepare, e.position)
	b = appendVarint(b, recordedCommit, e.position)
	b = appendLength(b, recordedMetadata, typeSize)
	b = appendBytes(b, mapKey, keyType)
	b = appendBytes(b, mapValue, eventType)
	b = appendLength(b, recordedMetadata, contentTypeSize)
	b = appendBytes(b, mapKey, keyContentType)
	b = appendBytes(b, mapValue, contentType)
	b = appendLength(b, recordedMetadata, createdSize)
	b = appendBytes(b, mapKey, keyCreated)
	b = appendBytes(b, mapValue, created)
	b = appendBytes(b, recordedCustomMetadata, metadata)
	b = appendBytes(b, recordedData, data)
	appendVarint(b, readEventCommit, e.position)
	return m
}

// encodeCaughtUp is a ReadResp that says up to where a client has caught up, as a field in wire format. The generated message
// has no such fields yet.
func encodeCaughtUp(now time.Time, upTo []byte) message {
	timestamp := appendVarint(nil, timestampSeconds, uint64(now.Unix()))
	timestamp = appendVarint(timestamp, timestampNanos, uint64(now.Nanosecond()))
	caughtUp := append(appendBytes(nil, caughtUpTimestamp, timestamp), upTo...)
	return message{mem.SliceBuffer(appendBytes(nil, readRespCaughtUp, caughtUp))}
}
