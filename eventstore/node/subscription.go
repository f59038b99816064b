package node

import (
	"context"
	"math"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
)

// subscription is the sending side of one subscription.
type subscription struct {
	service *streamsService
	log     *eventLog
	stream  streams.Streams_ReadServer
	ctx     context.Context // ends with the call or the server
	request readRequest

	delivered time.Time // when pace last returned
}

// deliveryPace is the least time between two live deliveries of a subscription to $all. An event after a lull is sent at once;
// under load, events that arrive within this time are sent together, which costs far less than a wake-up for each.
const deliveryPace = 5 * time.Millisecond

// pace waits until deliveryPace has passed since it last returned.
func (s *subscription) pace() error {
	if early := deliveryPace - time.Since(s.delivered); early > 0 {
		timer := time.NewTimer(early)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	s.delivered = time.Now()
	return nil
}

// subscribe confirms a subscription.
func (s *streamsService) subscribe(r readRequest, stream streams.Streams_ReadServer) (sub *subscription, cancel func(), err error) {
	ctx, cancelCause := context.WithCancelCause(stream.Context())
	stop := context.AfterFunc(s.stopping, func() { cancelCause(errShutdown) })
	sub = &subscription{service: s, log: s.log, stream: stream, ctx: ctx, request: r}
	err = stream.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()},
	}})
	return sub, func() { stop(); cancelCause(nil) }, err
}

func (s *subscription) send(e event) error { return s.service.send(&s.request, s.stream, &e) }

// sendCaughtUp tells the client that it has the stream up to revision, -1 if the stream has no events.
func (s *subscription) sendCaughtUp(revision int64) error {
	if revision < 0 {
		return s.stream.SendMsg(encodeCaughtUp(time.Now(), nil))
	}
	return s.stream.SendMsg(encodeCaughtUp(time.Now(), appendVarint(nil, caughtUpRevision, uint64(revision))))
}

// sendCaughtUpWithAll tells the client that it has the log up to position.
func (s *subscription) sendCaughtUpWithAll(position uint64) error {
	if position == 0 {
		return s.stream.SendMsg(encodeCaughtUp(time.Now(), nil))
	}
	both := appendVarint(appendVarint(nil, positionCommit, position), positionPrepare, position)
	return s.stream.SendMsg(encodeCaughtUp(time.Now(), appendBytes(nil, caughtUpPosition, both)))
}

// subscribeToAll follows the log after r.from until the call ends. While it keeps up it reads from the memory of recent events;
// when it has fallen behind, it catches up from disk and then says so.
func (s *streamsService) subscribeToAll(r readRequest, stream streams.Streams_ReadServer) error {
	end := s.log.position()
	sub, cancel, err := s.subscribe(r, stream)
	defer cancel()
	if err != nil {
		return err
	}
	seen := r.from // position up to which the client knows the log
	switch {
	case r.end:
		seen = end
	case r.unseen:
		seen--
	}
	checkpoints := checkpointer{subscription: sub, filter: r.filter, last: noCheckpoint, sent: seen, live: r.end}
	live := false
	if seen >= end && !r.start && (r.filter == nil || r.end || seen > end) {
		live = true
		if err := sub.sendCaughtUpWithAll(end); err != nil {
			return err
		}
	}
	var p page
	if !live && r.filter != nil && !r.unseen && seen > 0 {
		// EventStoreDB looks at this event once more.
		if err := sub.consider(&p, &checkpoints, seen); err != nil {
			return err
		}
	}
	for {
		if sub.ctx.Err() != nil {
			return context.Cause(sub.ctx)
		}
		durable := s.log.position()
		if seen >= durable {
			if !live {
				live = true
				if err := checkpoints.caughtUp(); err != nil {
					return err
				}
				if err := sub.sendCaughtUpWithAll(seen); err != nil {
					return err
				}
			}
			if err := s.log.wait(sub.ctx, seen+1); err != nil {
				return err
			}
			if err := sub.pace(); err != nil {
				return err
			}
			continue
		}
		fromMemory, err := s.log.read(&p, seen+1, durable, math.MaxUint64)
		if err != nil {
			return err
		}
		if live && !fromMemory {
			live = false
			checkpoints.fallBehind()
		}
		for _, e := range p.events {
			ok, err := r.filter.match(sub.ctx, e.record)
			if err != nil {
				return err
			}
			if ok {
				if err := sub.send(e); err != nil {
					return err
				}
			}
			seen = e.position
			if err := checkpoints.considered(seen, ok); err != nil {
				return err
			}
		}
	}
}

// consider counts the event at position, which the client has.
func (s *subscription) consider(p *page, checkpoints *checkpointer, position uint64) error {
	if _, err := s.log.read(p, position, position, 1); err != nil {
		return err
	}
	ok, err := s.request.filter.match(s.ctx, p.events[0].record)
	if err != nil {
		return err
	}
	return checkpoints.considered(position, ok)
}

// noCheckpoint is the last checkpoint before the first.
const noCheckpoint = math.MaxUint64

// checkpointer tells the client of a filtered subscription how far the log was searched, so that it need not be searched again.
// It goes by EventStoreDB, which catches up in pages: a checkpoint is where such a page has its last match or, if it has none,
// where it begins. Live it is simply where an interval is full.
type checkpointer struct {
	*subscription
	filter *filter
	live   bool
	count  uint64 // events considered since the last interval ended, those of this page not included
	last   uint64 // position of the last checkpoint
	sent   uint64 // position of the last event or checkpoint, or where the subscription began

	page struct {
		begin, match     uint64 // positions; no match: 0
		events, matching uint64
	}
}

// considered counts the event at position, which the filter has chosen or not.
func (c *checkpointer) considered(position uint64, chosen bool) error {
	if c.filter == nil {
		return nil
	}
	if chosen {
		c.sent = position
	}
	if c.live {
		if c.count++; c.count < c.filter.interval {
			return nil
		}
		c.count = 0
		return c.send(position, position)
	}
	if c.page.events == 0 {
		c.page.begin = position
	}
	c.page.events++
	if chosen {
		c.page.match = position
		c.page.matching++
	}
	if c.page.events < c.filter.window && c.page.matching < defaultWindow {
		return nil
	}
	page := c.page
	c.page.begin, c.page.match, c.page.events, c.page.matching = 0, 0, 0, 0
	if c.count += page.events; c.count < c.filter.interval {
		return nil
	}
	c.count %= c.filter.interval
	if page.match > 0 {
		return c.send(page.match, page.match)
	}
	return c.send(page.begin, 0)
}

// caughtUp ends a catch-up.
func (c *checkpointer) caughtUp() error {
	c.live, c.count = true, 0
	if c.filter == nil || c.sent == c.last {
		return nil
	}
	return c.send(c.sent, c.sent)
}

// fallBehind begins another catch-up.
func (c *checkpointer) fallBehind() {
	c.live, c.count = false, 0
	c.page.begin, c.page.match, c.page.events, c.page.matching = 0, 0, 0, 0
}

func (c *checkpointer) send(commit, prepare uint64) error {
	c.last, c.sent = commit, commit
	return c.stream.Send(&streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{
		Checkpoint: &streams.ReadResp_Checkpoint{CommitPosition: commit, PreparePosition: prepare},
	}})
}

// subscribeToStream follows one stream after revision r.from until the call ends, whether the stream exists or not. Truncation
// applies while it catches up, not to live events.
func (s *streamsService) subscribeToStream(r readRequest, stream streams.Streams_ReadServer) error {
	durable := s.log.position()
	v, err := s.log.view(r.stream, durable)
	if err != nil {
		return err
	}
	if v.tombstoned {
		return streamIsDeleted(r.stream)
	}
	sub, cancel, err := s.subscribe(r, stream)
	defer cancel()
	if err != nil {
		return err
	}
	next := int64(0) // revision that the client has not seen
	switch {
	case r.end:
		next = v.last + 1
	case !r.start && r.from == math.MaxInt64:
		next = math.MaxInt64
	case !r.start:
		next = int64(r.from) + 1
	}
	for {
		if next, err = sub.catchUp(v, next); err != nil {
			return err
		}
		if err := sub.sendCaughtUp(v.last); err != nil {
			return err
		}
		if next, durable, err = sub.live(r.stream, next, durable); err != nil {
			return err
		}
		if v, err = s.log.view(r.stream, durable); err != nil {
			return err
		}
		if v.tombstoned {
			return streamIsDeleted(r.stream)
		}
	}
}

// catchUp sends what v shows from revision next on and returns the revision after the last one sent.
func (s *subscription) catchUp(v streamView, next int64) (int64, error) {
	if !v.exists {
		return next, nil
	}
	var p page
	for at, more := next, true; more; {
		if s.ctx.Err() != nil {
			return next, context.Cause(s.ctx)
		}
		var err error
		if at, more, err = s.log.readStream(&p, v, at, false, math.MaxUint64); err != nil {
			return next, err
		}
		for _, e := range p.events {
			if err := s.send(e); err != nil {
				return next, err
			}
			next = e.revision() + 1
		}
	}
	return next, nil
}

// live sends events of the stream from revision next on as they become durable beyond position seen, out of the memory of
// recent events. It returns when that no longer reaches back far enough, with where to catch up from and up to.
func (s *subscription) live(stream string, next int64, seen uint64) (int64, uint64, error) {
	for {
		if s.ctx.Err() != nil {
			return next, seen, context.Cause(s.ctx)
		}
		if err := s.log.wait(s.ctx, seen+1); err != nil {
			return next, seen, err
		}
		for durable := s.log.position(); seen < durable; seen++ {
			e := s.log.recent.get(seen + 1)
			if e == nil {
				return next, s.log.position(), nil
			}
			if e.revision() < next || string(e.stream()) != stream {
				continue
			}
			if err := s.send(*e); err != nil {
				return next, seen, err
			}
			if e.revision() == tombstoneRevision {
				return next, seen, streamIsDeleted(stream)
			}
			next = e.revision() + 1
		}
	}
}
