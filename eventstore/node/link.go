package node

import (
	"bytes"
	"math"
	"strconv"
)

// linkType is that of events that stand for another one, whose data is its revision and stream as in 3@booking-1.
const linkType = "$>"

// resolvedEvent is an event as it is read.
type resolvedEvent struct {
	event *event // nil: the link's target cannot be read
	link  *event // what led to event, nil if nothing did
}

// original is the event of the stream, or the log, that is read.
func (r resolvedEvent) original() *event {
	if r.link != nil {
		return r.link
	}
	return r.event
}

// resolve reads the target of e if e is a link (Services/Storage/StorageReaderWorker.cs). A link whose data is malformed is an
// ordinary event.
func (l *eventLog) resolve(e *event) (resolvedEvent, error) {
	revision, stream, ok := parseLink(e)
	if !ok {
		return resolvedEvent{event: e}, nil
	}
	target, err := l.shown(stream, revision)
	return resolvedEvent{event: target, link: e}, err
}

// lastRevision stands for the last event of a stream.
const lastRevision = -1

func parseLink(e *event) (revision int64, stream string, ok bool) {
	if string(e.eventType()) != linkType {
		return 0, "", false
	}
	number, name, ok := bytes.Cut(e.data(), []byte("@"))
	if !ok {
		return 0, "", false
	}
	revision, err := strconv.ParseInt(string(bytes.TrimSpace(number)), 10, 64)
	return revision, string(name), err == nil && revision >= lastRevision
}

// shown returns the event of stream that readers are shown at revision, or nil if there is none.
func (l *eventLog) shown(stream string, revision int64) (*event, error) {
	if stream == noStream {
		return nil, nil
	}
	v, err := l.view(stream, l.position())
	if err != nil || !v.exists {
		return nil, err
	}
	if revision == lastRevision {
		revision = v.last
	}
	var p page
	if _, _, err := l.readStream(&p, v, max(revision, 0), false, math.MaxUint64); err != nil || len(p.events) == 0 || p.events[0].revision() != revision {
		return nil, err
	}
	return &p.events[0], nil
}
