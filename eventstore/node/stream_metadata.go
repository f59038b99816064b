package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// The metadata of stream x is the last event of stream $$x.
const (
	metastreamPrefix  = "$$"
	metadataEventType = "$metadata"
)

// softDeleted as $tb marks a stream as deleted until something is appended to it.
const softDeleted = math.MaxInt64

func metastreamOf(stream string) string { return metastreamPrefix + stream }

// originalOf returns the stream that a metadata stream describes.
func originalOf(metastream string) (stream string, ok bool) {
	return strings.CutPrefix(metastream, metastreamPrefix)
}

// describedBy returns the stream that new metadata in metastream has an effect on: a metadata stream has none of its own, so that
// stream $$$$x is one like any other.
func describedBy(metastream string) (stream string, ok bool) {
	stream, ok = originalOf(metastream)
	return stream, ok && !strings.HasPrefix(stream, metastreamPrefix)
}

// streamMetadata is what a stream's metadata says about reading it. The zero value shows everything.
type streamMetadata struct {
	maxCount       int64 // 0: no limit
	maxAge         int64 // in seconds, 0: no limit
	truncateBefore int64
}

// metastreamMetadata is that of every metadata stream: only the last event counts.
var metastreamMetadata = streamMetadata{maxCount: 1}

// parseStreamMetadata reads an event of a metadata stream. Data that is not flagged as JSON, is malformed or has a known key of
// the wrong type counts as no metadata at all (Data/StreamMetadata.cs). What follows the object is not looked at.
func parseStreamMetadata(r record) streamMetadata {
	if !r.json() {
		return streamMetadata{}
	}
	all, err := decodeMetadata(r.data())
	if err != nil {
		return streamMetadata{}
	}
	var m streamMetadata
	var ignored int64
	for key, read := range map[string]func([]byte) error{
		"$maxCount":     func(data []byte) error { return readNumber(data, &m.maxCount) },
		"$maxAge":       func(data []byte) error { return readSeconds(data, &m.maxAge) },
		"$tb":           func(data []byte) error { return readNumber(data, &m.truncateBefore) },
		"$cacheControl": func(data []byte) error { return readSeconds(data, &ignored) },
		"$tmp":          checkBool,
		"$acl":          checkACL,
	} {
		if data, ok := all[key]; ok && read(data) != nil {
			return streamMetadata{}
		}
	}
	return m
}

// decodeMetadata reads the keys of stream metadata, which are matched exactly, and of equal ones the last counts.
func decodeMetadata(data []byte) (all map[string]json.RawMessage, err error) {
	err = json.NewDecoder(bytes.NewReader(data)).Decode(&all)
	if err == nil && all == nil {
		err = errMetadata
	}
	return all, err
}

var errMetadata = errors.New("not stream metadata")

// readNumber reads a whole number without fraction or exponent that fits in 64 bits. One that is negative has no effect.
func readNumber(data []byte, n *int64) error {
	if data[0] != '-' && (data[0] < '0' || data[0] > '9') {
		return errMetadata
	}
	if err := json.Unmarshal(data, n); err != nil {
		return err
	}
	*n = max(*n, 0)
	return nil
}

// maxSeconds is the longest time that EventStoreDB can count.
const maxSeconds = math.MaxInt64 / ticksPerSecond

func readSeconds(data []byte, n *int64) error {
	var seconds int64
	if err := readNumber(data, n); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &seconds); err != nil || seconds > maxSeconds || seconds < -maxSeconds {
		return errMetadata
	}
	return nil
}

func checkBool(data []byte) error {
	if data[0] != 't' && data[0] != 'f' {
		return errMetadata
	}
	return nil
}

// checkACL checks rights, which nothing here goes by: each is a role, or a list of them.
func checkACL(data []byte) error {
	var rights map[string]json.RawMessage
	if err := json.Unmarshal(data, &rights); err != nil || rights == nil {
		return errMetadata
	}
	for right, data := range rights {
		switch right {
		case "$r", "$w", "$d", "$mr", "$mw":
		default:
			return errMetadata
		}
		var role *string
		var roles []*string
		if json.Unmarshal(data, &role) == nil && role != nil {
			continue
		}
		if json.Unmarshal(data, &roles) != nil || roles == nil || slices.Contains(roles, nil) {
			return errMetadata
		}
	}
	return nil
}

func (m streamMetadata) softDeleted() bool { return m.truncateBefore == softDeleted }

// first is the first revision that is shown of a stream with this last one; it may lie beyond it.
func (m streamMetadata) first(last int64) int64 {
	first := m.truncateBefore
	if m.maxCount > 0 {
		first = max(first, last-m.maxCount+1)
	}
	return first
}

// notBefore is the time of creation, in 100 ns since the Unix epoch, before which events have expired.
func (m streamMetadata) notBefore(now time.Time) int64 {
	if m.maxAge == 0 {
		return math.MinInt64
	}
	return ticks(now) - min(m.maxAge, math.MaxInt64/ticksPerSecond/2)*ticksPerSecond
}

const ticksPerSecond = int64(time.Second / 100)

// ticks is t in EventStoreDB's unit, 100 ns since the Unix epoch.
func ticks(t time.Time) int64 { return t.UnixNano() / 100 }

// metadataCacheSize is the number of streams whose metadata, or lack of it, is kept in memory.
const metadataCacheSize = 1 << 14

// metadataCache keeps what readers found out about the metadata of streams. Safe for concurrent use.
type metadataCache struct {
	mu         sync.Mutex
	entries    *simplelru.LRU[string, streamMetadata]
	generation uint64 // counts what was forgotten: a reader that began before must not put what it found
}

func newMetadataCache() (*metadataCache, error) {
	entries, err := simplelru.NewLRU[string, streamMetadata](metadataCacheSize, nil)
	return &metadataCache{entries: entries}, err
}

func (c *metadataCache) get(stream string) (m streamMetadata, ok bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok = c.entries.Get(stream)
	return m, ok, c.generation
}

// put remembers what was found by a reader that was told generation.
func (c *metadataCache) put(stream string, m streamMetadata, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation {
		c.entries.Add(stream, m)
	}
}

// forget is called when new metadata of stream has become durable.
func (c *metadataCache) forget(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.entries.Remove(stream)
}

// streamMetadata returns the metadata that applies to readers of stream.
func (l *eventLog) streamMetadata(stream string) (streamMetadata, error) {
	if strings.HasPrefix(stream, metastreamPrefix) {
		return metastreamMetadata, nil
	}
	m, ok, generation := l.metadata.get(stream)
	if ok {
		return m, nil
	}
	// The position must be read after the generation: metadata found as of an earlier position could be cached although it was
	// already forgotten.
	r, err := l.lastRecord(metastreamOf(stream), l.position())
	if err != nil {
		return streamMetadata{}, err
	}
	if r != nil {
		m = parseStreamMetadata(r)
	}
	l.metadata.put(stream, m, generation)
	return m, nil
}

// lastRecord returns the last event of stream up to position limit, or nil if it has none.
func (l *eventLog) lastRecord(stream string, limit uint64) (record, error) {
	last, err := l.lastEvent(stream, limit)
	if last == nil {
		return nil, err
	}
	return last.record, err
}

// lastEvent returns the last event of stream up to position limit, or nil if it has none.
func (l *eventLog) lastEvent(stream string, limit uint64) (*event, error) {
	if l.streams.lacks(stream) {
		return nil, nil
	}
	it, err := l.streamIterator(stream, limit)
	if err != nil {
		return nil, err
	}
	var last *event
	ok, err := it.last()
	if ok {
		var position uint64
		if position, err = it.position(); err == nil {
			last, err = l.event(position)
		}
	}
	return last, errors.Join(err, it.Close())
}
