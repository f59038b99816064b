package node

import (
	"encoding/binary"
	"fmt"
)

// The database's keys, integers big endian so that they sort:
//
//	a <position>                           the event's record
//	s <name length> <name> <revision>      position of the stream's event, 8 bytes
//	v                                      version of this layout, 1 byte
const (
	eventPrefix  = 'a'
	streamPrefix = 's'
	versionKey   = "v"

	layoutVersion = 1

	eventKeySize = 1 + 8
)

func appendEventKey(b []byte, position uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, eventPrefix), position)
}

// parseEventKey is the inverse of appendEventKey.
func parseEventKey(key []byte) (position uint64, err error) {
	if len(key) != eventKeySize || key[0] != eventPrefix {
		return 0, fmt.Errorf("key %x is not an event's", key)
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// streamKeySize is the length of the keys of a stream.
func streamKeySize(stream string) int { return 1 + 4 + len(stream) + 8 }

func appendStreamKey(b []byte, stream string, revision int64) []byte {
	b = append(b, streamPrefix)
	b = binary.BigEndian.AppendUint32(b, uint32(len(stream)))
	b = append(b, stream...)
	return binary.BigEndian.AppendUint64(b, uint64(revision))
}

// streamKeyRevision is the revision in a stream's key.
func streamKeyRevision(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[len(key)-8:]))
}

// streamKeyName is the name in a stream's key.
func streamKeyName(key []byte) string { return string(key[1+4 : len(key)-8]) }

// parsePosition reads the value of a stream's key.
func parsePosition(value []byte) (uint64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("position of %d bytes in a stream's index", len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
