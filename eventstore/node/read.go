package node

import (
	"context"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// firstPage is the number of revisions in which EventStoreDB looks before it tells that a stream begins later.
const firstPage = 32

// readAll sends events of the log, in one direction or the other.
func (s *streamsService) readAll(r readRequest, stream streams.Streams_ReadServer) error {
	from, to, ok := r.span(s.log.position())
	if !ok {
		return nil
	}
	ctx := stream.Context()
	var p page
	for sent := uint64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		limit := r.limit - sent
		if r.filter != nil {
			limit = math.MaxUint64
		}
		if _, err := s.log.read(&p, from, to, limit); err != nil {
			return err
		}
		for _, e := range p.events {
			ok, err := r.filter.match(ctx, e.record)
			if err != nil {
				return err
			}
			if ok {
				if err := s.send(&r, stream, &e); err != nil {
					return err
				}
				sent++
			}
			if sent == r.limit || e.position == to {
				return nil
			}
			from = e.position + r.step()
		}
	}
}

// step is what it takes from one position to the next in the direction of the read.
func (r *readRequest) step() uint64 {
	if r.backward {
		return math.MaxUint64 // -1
	}
	return 1
}

// span is the first and the last position that a read of the log up to durable has to look at. False: there is none.
func (r *readRequest) span(durable uint64) (from, to uint64, ok bool) {
	from, to = max(r.from, 1), durable
	if r.backward {
		// A position is before the event that is there.
		if from, to = min(durable, r.from-1), 1; r.end {
			from = durable
		}
		if from == 0 || r.start || r.from == 0 && !r.end {
			return 0, 0, false
		}
	} else if r.end || from > durable {
		return 0, 0, false
	}
	return from, to, true
}

// readStream sends events of one stream, in one direction or the other.
func (s *streamsService) readStream(r readRequest, stream streams.Streams_ReadServer) error {
	if r.end && !r.backward {
		return unexpected(r.resultType() + ": Error")
	}
	v, err := s.log.view(r.stream, s.log.position())
	if err != nil {
		return err
	}
	switch {
	case v.tombstoned:
		return streamIsDeleted(r.stream)
	case !v.exists:
		return stream.Send(streamNotFound(r.stream))
	}
	next := int64(r.from)
	if r.end {
		next = v.last
	}
	if r.positions && !r.backward {
		begins, err := s.log.begins(v, next, r.limit)
		if err != nil {
			return err
		}
		for _, begin := range begins {
			if err := stream.Send(&streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: uint64(begin)}}); err != nil {
				return err
			}
		}
	}
	ctx := stream.Context()
	var p page
	for sent := uint64(0); sent < r.limit; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var more bool
		// A page is no longer than everything before it: many readers stop soon, and each event of a stream may be in a block of its own.
		if next, more, err = s.log.readStream(&p, v, next, r.backward, min(r.limit-sent, max(sent, firstPageEvents))); err != nil {
			return err
		}
		for _, e := range p.events {
			if err := s.send(&r, stream, &e); err != nil {
				return err
			}
		}
		if sent += uint64(len(p.events)); !more {
			break
		}
	}
	return sendLastPosition(r, v, stream)
}

// send sends an event, resolved if the client asks for that.
func (s *streamsService) send(r *readRequest, stream streams.Streams_ReadServer, e *event) error {
	shown := resolvedEvent{event: e}
	if r.resolve {
		var err error
		if shown, err = s.log.resolve(e); err != nil {
			return err
		}
	}
	return stream.SendMsg(encodeEvent(shown, r.uuid))
}

// sendLastPosition closes a read of a stream with its last revision, for clients that understand it.
func sendLastPosition(r readRequest, v streamView, stream streams.Streams_ReadServer) error {
	if !r.positions {
		return nil
	}
	return stream.Send(&streams.ReadResp{Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: uint64(v.last)}})
}

func streamNotFound(stream string) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
	}}}
}
