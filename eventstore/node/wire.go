package node

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
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
	switch v := v.(type) {
	case *appendRequest:
		buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buffer.Free()
		return v.take(buffer.ReadOnlyData())
	case *batchMessage:
		v.buffer = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
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

	batchCorrelation protowire.Number = 1
	batchOptions     protowire.Number = 2
	batchProposed    protowire.Number = 3
	batchFinal       protowire.Number = 4
	batchDeadline    protowire.Number = 6 // of options, whose others are those of an append
	batchDuration    protowire.Number = 7

	batchRespCorrelation protowire.Number = 1
	batchRespSuccess     protowire.Number = 3
	batchRespStream      protowire.Number = 4

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
	readEventLink          protowire.Number = 2
	readEventCommit        protowire.Number = 3
	readEventRetries       protowire.Number = 5 // of persistent subscriptions
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
	size := sizeSuccess(revision, position)
	m, b := newMessage(sizeBytes(size))
	appendSuccess(appendLength(b, appendRespSuccess, size), revision, position)
	return m
}

// encodeBatchSuccess is the answer to a batch; correlation is its id as a UUID message.
func encodeBatchSuccess(correlation []byte, stream string, revision int64, position uint64) message {
	size := sizeSuccess(revision, position)
	streamSize := sizeBytes(len(stream))
	m, b := newMessage(sizeBytes(len(correlation)) + sizeBytes(size) + sizeBytes(streamSize))
	b = appendBytes(b, batchRespCorrelation, correlation)
	b = appendSuccess(appendLength(b, batchRespSuccess, size), revision, position)
	appendBytes(appendLength(b, batchRespStream, streamSize), streamIdentifierName, stream)
	return m
}

func sizeSuccess(revision int64, position uint64) int {
	size := sizeBytes(0)
	if position > 0 {
		size = sizeBytes(2 * sizeVarint(position))
	}
	if revision >= 0 {
		return size + sizeVarint(uint64(revision))
	}
	return size + sizeBytes(0)
}

func appendSuccess(b []byte, revision int64, position uint64) []byte {
	if revision >= 0 {
		b = appendVarint(b, successCurrentRevision, uint64(revision))
	} else {
		b = appendLength(b, successNoStream, 0)
	}
	if position > 0 {
		b = appendLength(b, successPosition, 2*sizeVarint(position))
		b = appendVarint(b, positionCommit, position)
		return appendVarint(b, positionPrepare, position)
	}
	return appendLength(b, successNoPosition, 0)
}

// uuidForm is how a client wants event ids.
type uuidForm int

const (
	structuredUUID uuidForm = iota
	stringUUID
)

// uuidTextSize is the length of an id as text.
const uuidTextSize = 36

// recordedSizes are the sizes of the parts of a RecordedEvent.
type recordedSizes struct {
	created                    [20]byte // text, of which createdLength bytes count
	createdLength              int
	contentType                string
	structured, id, stream     int
	typed, contentTyped, dated int
	all                        int
}

// sizesOf measures e as a RecordedEvent at position.
func sizesOf(e *event, position uint64, form uuidForm) (s recordedSizes) {
	s.createdLength = len(strconv.AppendInt(s.created[:0], e.created(), 10))
	s.contentType = contentTypeBinary
	if e.json() {
		s.contentType = contentTypeJSON
	}
	most, least := structured(e.id())
	s.structured = sizeVarint(most) + sizeVarint(least)
	s.id = sizeBytes(s.structured)
	if form == stringUUID {
		s.id = sizeBytes(uuidTextSize)
	}
	s.stream = sizeBytes(len(e.stream()))
	s.typed = sizeBytes(len(keyType)) + sizeBytes(len(e.eventType()))
	s.contentTyped = sizeBytes(len(keyContentType)) + sizeBytes(len(s.contentType))
	s.dated = sizeBytes(len(keyCreated)) + sizeBytes(s.createdLength)
	s.all = sizeBytes(s.id) + sizeBytes(s.stream) + sizeVarint(uint64(e.revision())) + 2*sizeVarint(position) +
		sizeBytes(s.typed) + sizeBytes(s.contentTyped) + sizeBytes(s.dated) + sizeBytes(len(e.metadata())) + sizeBytes(len(e.data()))
	return s
}

// appendRecorded appends e as the field number of a ReadEvent.
func appendRecorded(b []byte, number protowire.Number, e *event, position uint64, form uuidForm, s *recordedSizes) []byte {
	b = appendLength(b, number, s.all)
	b = appendLength(b, recordedID, s.id)
	if id := e.id(); form == stringUUID {
		b = appendBytes(b, uuidString, uuid.UUID(id).String())
	} else {
		most, least := structured(id)
		b = appendLength(b, uuidStructured, s.structured)
		b = appendVarint(b, uuidMost, most)
		b = appendVarint(b, uuidLeast, least)
	}
	b = appendLength(b, recordedStream, s.stream)
	b = appendBytes(b, streamIdentifierName, e.stream())
	b = appendVarint(b, recordedRevision, uint64(e.revision()))
	b = appendVarint(b, recordedPrepare, position)
	b = appendVarint(b, recordedCommit, position)
	b = appendLength(b, recordedMetadata, s.typed)
	b = appendBytes(b, mapKey, keyType)
	b = appendBytes(b, mapValue, e.eventType())
	b = appendLength(b, recordedMetadata, s.contentTyped)
	b = appendBytes(b, mapKey, keyContentType)
	b = appendBytes(b, mapValue, s.contentType)
	b = appendLength(b, recordedMetadata, s.dated)
	b = appendBytes(b, mapKey, keyCreated)
	b = appendBytes(b, mapValue, s.created[:s.createdLength])
	b = appendBytes(b, recordedCustomMetadata, e.metadata())
	return appendBytes(b, recordedData, e.data())
}

// encodeEvent is r as a ReadResp.
func encodeEvent(r resolvedEvent, form uuidForm) message {
	position := r.original().position
	size := sizeVarint(position)
	var event, link recordedSizes
	if r.event != nil {
		event = sizesOf(r.event, r.event.position, form)
		size += sizeBytes(event.all)
	}
	if r.link != nil {
		link = sizesOf(r.link, position, form)
		size += sizeBytes(link.all)
	}
	m, b := newMessage(sizeBytes(size))
	b = appendLength(b, readRespEvent, size)
	if r.event != nil {
		b = appendRecorded(b, readEventEvent, r.event, r.event.position, form, &event)
	}
	if r.link != nil {
		b = appendRecorded(b, readEventLink, r.link, position, form, &link)
	}
	appendVarint(b, readEventCommit, position)
	return m
}

// encodeDelivery is r as a ReadResp of a persistent subscription. Both events are at the position of the one that was read.
func encodeDelivery(r resolvedEvent, form uuidForm, retries int32) message {
	position := r.original().position
	size := sizeVarint(position) + sizeVarint(uint64(retries))
	var event, link recordedSizes
	if r.event != nil {
		event = sizesOf(r.event, position, form)
		size += sizeBytes(event.all)
	}
	if r.link != nil {
		link = sizesOf(r.link, position, form)
		size += sizeBytes(link.all)
	}
	m, b := newMessage(sizeBytes(size))
	b = appendLength(b, readRespEvent, size)
	if r.event != nil {
		b = appendRecorded(b, readEventEvent, r.event, position, form, &event)
	}
	if r.link != nil {
		b = appendRecorded(b, readEventLink, r.link, position, form, &link)
	}
	b = appendVarint(b, readEventCommit, position)
	appendVarint(b, readEventRetries, uint64(retries))
	return m
}

// uuidOf is a generated UUID message as an id.
func uuidOf(m *shared.UUID) (eventID, bool) {
	if s := m.GetStructured(); s != nil {
		var id eventID
		binary.BigEndian.PutUint64(id[:8], uint64(s.MostSignificantBits))
		binary.BigEndian.PutUint64(id[8:], uint64(s.LeastSignificantBits))
		return id, true
	}
	id, err := uuid.Parse(m.GetString_())
	return eventID(id), err == nil
}

// encodeCaughtUp is a ReadResp that says up to where a client has caught up, as a field in wire format. The generated message
// has no such fields yet.
func encodeCaughtUp(now time.Time, upTo []byte) message {
	timestamp := appendVarint(nil, timestampSeconds, uint64(now.Unix()))
	timestamp = appendVarint(timestamp, timestampNanos, uint64(now.Nanosecond()))
	caughtUp := append(appendBytes(nil, caughtUpTimestamp, timestamp), upTo...)
	return message{mem.SliceBuffer(appendBytes(nil, readRespCaughtUp, caughtUp))}
}
