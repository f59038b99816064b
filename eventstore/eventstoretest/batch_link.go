package eventstoretest

import (
	"encoding/binary"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// batchLink is a BatchAppend call that passes through a [Controlled]. To faults each of its batches is an Append. It is guarded by the
// mutex of the link.
type batchLink struct {
	requests, answers messages
	doomed            map[string]*fault // batches whose answer gets lost, by correlation id
}

// messages takes gRPC messages out of a call's DATA frames.
type messages struct{ rest []byte }

// add takes the data of a frame and returns the messages that end in it.
func (m *messages) add(data []byte) (whole [][]byte) {
	const prefix = 5 // a flag, and the length
	m.rest = append(m.rest, data...)
	for len(m.rest) >= prefix {
		end := prefix + int(binary.BigEndian.Uint32(m.rest[1:]))
		if len(m.rest) < end {
			break
		}
		whole = append(whole, m.rest[prefix:end])
		m.rest = m.rest[end:]
	}
	return whole
}

// Numbers of fields of BatchAppendReq and BatchAppendResp.
const (
	batchCorrelation protowire.Number = 1
	batchReqIsFinal  protowire.Number = 4
)

// correlation is the correlation id of a batch or of its answer, in one form.
func correlation(message []byte) string {
	bytes, _ := within(message, batchCorrelation)
	id := &shared.UUID{}
	if proto.Unmarshal(bytes, id) != nil {
		return ""
	}
	return id.String()
}

// batchRequests handles a frame from the client that may end batches, and reports whether it is to be passed on. A lost batch has been
// lost by then.
func (c *Controlled) batchRequests(l *link, frame http2.Frame) bool {
	data, ok := frame.(*http2.DataFrame)
	if !ok {
		return true
	}
	l.mu.Lock()
	b := l.batches[data.StreamID]
	var whole [][]byte
	if b != nil {
		whole = b.requests.add(data.Data())
	}
	l.mu.Unlock()
	for _, message := range whole {
		if _, final := within(message, batchReqIsFinal); final == 0 {
			continue
		}
		f := c.request(l, Append)
		if f == nil {
			continue
		}
		if !f.answers {
			return false
		}
		l.mu.Lock()
		b.doomed[correlation(message)] = f
		l.mu.Unlock()
	}
	return true
}

// batchAnswers handles a frame from the event store that may end answers to batches, and reports whether it is to be passed on.
func (c *Controlled) batchAnswers(l *link, frame http2.Frame) bool {
	var hit *fault
	switch f := frame.(type) {
	case *http2.DataFrame:
		l.mu.Lock()
		if b := l.batches[f.StreamID]; b != nil {
			for _, message := range b.answers.add(f.Data()) {
				if hit == nil {
					hit = b.doomed[correlation(message)]
				}
			}
		}
		l.mu.Unlock()
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() { // which no answers will follow
			hit = l.batchFault(f.StreamID)
		}
	}
	if hit == nil {
		return true
	}
	c.strike(l, hit)
	return false
}

// batchFault is a fault that hits an answer of a BatchAppend call, or nil.
func (l *link) batchFault(stream uint32) *fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.batches[stream]; b != nil {
		for _, f := range b.doomed {
			return f
		}
	}
	return nil
}

// allDoomed are the faults that hit an answer which has not come.
func (l *link) allDoomed() (all []*fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.doomed {
		all = append(all, f)
	}
	for _, b := range l.batches {
		for _, f := range b.doomed {
			all = append(all, f)
		}
	}
	return all
}
