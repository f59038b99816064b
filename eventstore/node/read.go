package node

import (
	"context"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// firstPage is the number of revisions in which EventStoreDB looks before it tells that a stream begins later.
const firstPage = 32

func (s *streamsService) readAllForward(r readRequest, stream streams.Streams_ReadServer) error {
	durable := s.log.position()
	if r.end {
		return nil
	}
	next := max(r.from, 1)
	ctx := stream.Context()
	var p page
	for sent := uint64(0); next <= durable; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := s.log.readForward(&p, next, min(durable, limited(next, r))); err != nil {
			return err
		}
		for _, e := range p.events {
			ok, err := r.filter.match(ctx, e.record)
			if err != nil {
				return err
			}
			next = e.position + 1
			if !ok {
				continue
			}
			if err := stream.SendMsg(encodeEvent(e, r.uuid)); err != nil {
				return err
			}
			if sent++; sent == r.limit {
				return nil
			}
		}
	}
	return nil
}

// limited is the last position worth reading from next on.
func limited(next uint64, r readRequest) uint64 {
	if r.filter != nil || r.limit > math.MaxUint64-next {
		return math.MaxUint64
	}
	return next + r.limit - 1
}

func (s *streamsService) readAllBackward(r readRequest, stream streams.Streams_ReadServer) error {
	last := s.log.position()
	switch {
	case r.start || r.from == 0 && !r.end:
		return nil
	case !r.end:
		last = min(last, r.from-1)
	}
	ctx := stream.Context()
	var p page
	for sent := uint64(0); last > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.log.readBackward(&p, last); err != nil {
			return err
		}
		for _, e := range p.events {
			last = e.position - 1
			ok, err := r.filter.match(ctx, e.record)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := stream.SendMsg(encodeEvent(e, r.uuid)); err != nil {
				return err
			}
			if sent++; sent == r.limit {
				return nil
			}
		}
	}
	return nil
}

func (s *streamsService) readStreamForward(r readRequest, stream streams.Streams_ReadServer) error {
	if r.end {
		return unexpected(r.resultType() + ": Error")
	}
	v, err := s.log.view(r.stream, s.log.position())
	if err != nil {
		return err
	}
	if !v.exists {
		return stream.Send(streamNotFound(r.stream))
	}
	next := int64(r.from)
	if begin, ok := v.beginsLater(next, r.limit); ok && r.positions {
		if err := stream.Send(&streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: uint64(begin)}}); err != nil {
			return err
		}
	}
	ctx := stream.Context()
	var p page
	for sent := uint64(0); sent < r.limit && next <= v.last; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if next, err = s.log.readStreamForward(&p, v, next, r.limit-sent); err != nil {
			return err
		}
		if err := sendAll(stream, p.events, r.uuid); err != nil {
			return err
		}
		sent += uint64(len(p.events))
	}
	return sendLastPosition(r, v, stream)
}

func (s *streamsService) readStreamBackward(r readRequest, stream streams.Streams_ReadServer) error {
	v, err := s.log.view(r.stream, s.log.position())
	if err != nil {
		return err
	}
	if !v.exists {
		return stream.Send(streamNotFound(r.stream))
	}
	next := int64(r.from)
	if r.end {
		next = v.last
	}
	ctx := stream.Context()
	var p page
	for sent := uint64(0); sent < r.limit && next >= v.first; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if next, err = s.log.readStreamBackward(&p, v, next, r.limit-sent); err != nil {
			return err
		}
		if err := sendAll(stream, p.events, r.uuid); err != nil {
			return err
		}
		sent += uint64(len(p.events))
	}
	return sendLastPosition(r, v, stream)
}

func sendAll(stream streams.Streams_ReadServer, events []event, form uuidForm) error {
	for _, e := range events {
		if err := stream.SendMsg(encodeEvent(e, form)); err != nil {
			return err
		}
	}
	return nil
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
