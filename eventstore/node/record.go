package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// event is a record at its place in the log.
type event struct {
	position uint64
	record
}

// record is an event as it is stored. Version 1, integers big endian:
//
//	 0  version
//	 1  flags: 1 = the data is JSON
//	 2  event id, RFC 4122 byte order
//	18  revision in its stream
//	26  creation, in 100 ns since the Unix epoch
//	34  lengths of stream name, event type and metadata, 4 bytes each
//	46  stream name, event type, metadata, data
//
// A record is not changed once it is in the log, and is shared by all who read it.
type record []byte

const (
	recordVersion = 1
	recordHeader  = 46
	flagJSON      = 1
)

// eventID is an event's id in the byte order of RFC 4122.
type eventID [16]byte

// newRecord returns the record of an event that has no place yet, see place.
func newRecord(stream string, id eventID, eventType []byte, json bool, metadata, data []byte) record {
	r := make(record, recordHeader+len(stream)+len(eventType)+len(metadata)+len(data))
	r[0] = recordVersion
	if json {
		r[1] = flagJSON
	}
	copy(r[2:], id[:])
	binary.BigEndian.PutUint32(r[34:], uint32(len(stream)))
	binary.BigEndian.PutUint32(r[38:], uint32(len(eventType)))
	binary.BigEndian.PutUint32(r[42:], uint32(len(metadata)))
	n := recordHeader
	n += copy(r[n:], stream)
	n += copy(r[n:], eventType)
	n += copy(r[n:], metadata)
	copy(r[n:], data)
	return r
}

// parseRecord checks stored bytes and returns them as a record.
func parseRecord(stored []byte) (record, error) {
	r := record(stored)
	if len(r) < recordHeader {
		return nil, fmt.Errorf("record of %d bytes is cut off", len(r))
	}
	if r[0] != recordVersion {
		return nil, fmt.Errorf("record has version %d, this program knows %d", r[0], recordVersion)
	}
	if uint64(r.length(34))+uint64(r.length(38))+uint64(r.length(42)) > uint64(len(r)-recordHeader) {
		return nil, fmt.Errorf("record of %d bytes is cut off", len(r))
	}
	return r, nil
}

// place gives the record its revision and its time of creation.
func (r record) place(revision int64, created int64) {
	binary.BigEndian.PutUint64(r[18:], uint64(revision))
	binary.BigEndian.PutUint64(r[26:], uint64(created))
}

func (r record) length(at int) int { return int(binary.BigEndian.Uint32(r[at:])) }

func (r record) json() bool      { return r[1]&flagJSON != 0 }
func (r record) id() eventID     { return eventID(r[2:18]) }
func (r record) revision() int64 { return int64(binary.BigEndian.Uint64(r[18:])) }

// created is in 100 ns since the Unix epoch.
func (r record) created() int64 { return int64(binary.BigEndian.Uint64(r[26:])) }

func (r record) stream() []byte { return r[recordHeader:][:r.length(34)] }

func (r record) eventType() []byte { return r[recordHeader+r.length(34):][:r.length(38)] }

func (r record) metadata() []byte {
	return r[recordHeader+r.length(34)+r.length(38):][:r.length(42)]
}

func (r record) data() []byte { return r[recordHeader+r.length(34)+r.length(38)+r.length(42):] }

// hidden reports whether the event is left out of $all (Services/Storage/ReaderIndex/EventFilter.cs).
func (r record) hidden() bool {
	stream := r.stream()
	return len(stream) == 0 ||
		bytes.HasPrefix(stream, []byte(groupOnAllPrefix)) && (bytes.HasSuffix(stream, []byte(checkpointSuffix)) || bytes.HasSuffix(stream, []byte(parkedSuffix)))
}

// The streams of a group are named after its source and itself.
const (
	groupStreamPrefix = "$persistentsubscription-"
	groupOnAllPrefix  = groupStreamPrefix + "$all::"
	checkpointSuffix  = "-checkpoint"
	parkedSuffix      = "-parked"
)
