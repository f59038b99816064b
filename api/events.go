package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

func (s *Server) eventRoutes() []route {
	return []route{
		// What changes in rooms and bookings, as it happens.
		{method: "GET", path: "/events", handle: s.events, params: eventsParams{}, raw: true},
	}
}

// eventsParams are the query parameters of the stream of changes.
type eventsParams struct {
	// The Roombook-Position from which on to tell; now if it is left out. The header Last-Event-ID overrides it.
	After string `param:"after"`
}

// Subscribe follows the log of events; see [eventstore.Store.Subscribe].
type Subscribe func(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error]

// change says in which room something changed, but not what: readers query it.
type change struct {
	id        eventstore.Position // of its event in the log
	RoomID    domain.RoomID       `json:"roomId"`
	BookingID domain.BookingID    `json:"bookingId,omitzero"`
	StartDtm  timestamp           `json:"startDtm,omitzero"` // without a time it concerns any
	EndDtm    timestamp           `json:"endDtm,omitzero"`
	// Position is the Roombook-Position to send with queries whose results must include the change.
	Position eventstore.Position `json:"position"`
}

// changeOf returns what an event changes for readers of rooms and bookings.
func changeOf(e domain.Event, zone *time.Location) (c change, ok bool) {
	slot := func(s domain.Slot) {
		c.StartDtm, c.EndDtm = timestampOrZero(s.Start, zone), timestampOrZero(s.End, zone)
	}
	switch e := e.(type) {
	case domain.BookingCreated:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
		slot(e.Slot)
	case domain.BookingChanged: // what it was before is told when that is released
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
		slot(e.Slot)
	case domain.ConfirmCompleted:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
	case domain.BookingCheckedIn:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
	case domain.BookingCancelled:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
	case domain.UseEnded:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
	case domain.SlotReleased:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
	case domain.SlotUsed:
		c.RoomID, c.BookingID = e.RoomID, e.BookingID
	case domain.PeriodClosed:
		c.RoomID = e.RoomID
		slot(e.Slot)
	case domain.RoomFaultReported:
		c.RoomID = e.RoomID
	case domain.RoomFaultSettled:
		c.RoomID = e.RoomID
	default:
		c.RoomID, _ = domain.RoomOf(e)
	}
	return c, c.RoomID != ""
}

// maxChanges bounds how many changes are remembered for readers that are behind. At least about half as many are always available.
const maxChanges = 4096

// changes subscribes to the log once for all streams of this process, when the first stream begins. It remembers the latest changes, which each
// reader consumes at its own pace. A reader that falls further behind, or misses a break of the subscription, is told to resynchronize. It is
// safe for concurrent use.
type changes struct {
	subscribe Subscribe
	readBack  func(ctx context.Context, before eventstore.Position, count uint64) iter.Seq2[eventstore.Recorded, error]
	zone      *time.Location
	wanted    chan struct{} // receives a token when a stream begins

	mu     sync.Mutex
	more   chan struct{} // closed and replaced whenever the fields below change
	begun  int           // number of subscriptions so far
	latest []change      // all changes after from, up to to
	from   eventstore.Position
	to     eventstore.Position
	listed eventstore.Position // of the last event up to there that all lists reach; 0 if it is too far back to know
	closed bool
}

func newChanges(o Options) *changes {
	return &changes{subscribe: o.Subscribe, readBack: o.ReadBack, zone: o.Zone, wanted: make(chan struct{}, 1), more: make(chan struct{})}
}

// run follows the log from the first stream on until ctx ends, and then ends all streams.
func (c *changes) run(ctx context.Context) {
	defer c.update(func() { c.closed = true })
	select {
	case <-c.wanted:
	case <-ctx.Done():
		return
	}
	for pauses := eventstore.NewBackOff(100*time.Millisecond, 10*time.Second); ; {
		if c.follow(ctx) {
			pauses.Reset()
		}
		if eventstore.Sleep(ctx, pauses.NextBackOff()) != nil {
			return
		}
	}
}

// follow subscribes from the end of the log until the subscription breaks, and reports whether it received anything. The filter is that of
// the lists, so that they reach each position, and what gives slots back.
func (c *changes) follow(ctx context.Context) (received bool) {
	filter := projections.All()[0].Filter
	end, listed, err := c.last(ctx, filter)
	if err != nil {
		return false
	}
	filter.TypePrefixes = append(slices.Clip(filter.TypePrefixes), domain.SlotReleased{}.EventType(), domain.SlotUsed{}.EventType())
	c.update(func() { c.begun, c.latest, c.from, c.to, c.listed = c.begun+1, nil, end, end, listed })
	for batch, err := range c.subscribe(ctx, end, filter) {
		if err != nil {
			break
		}
		received = true
		c.update(func() {
			for _, r := range batch.Events {
				switch r.Event.(type) {
				case domain.SlotReleased, domain.SlotUsed:
				default:
					c.listed = r.Position
				}
				if change, ok := changeOf(r.Event, c.zone); ok {
					change.id, change.Position = r.Position, c.listed
					c.latest = append(c.latest, change)
				}
			}
			c.to = max(c.to, batch.Position)
			if excess := len(c.latest) - maxChanges/2; excess >= maxChanges/2 { // readers may hold slices of the old array
				c.from = c.latest[excess-1].id
				c.latest = slices.Clone(c.latest[excess:])
			}
		})
	}
	return received
}

// last returns the positions of the log's last event and of the last one that a filter selects; 0 if that is not among the latest maxChanges.
func (c *changes) last(ctx context.Context, f eventstore.Filter) (end, selected eventstore.Position, err error) {
	for r, err := range c.readBack(ctx, 0, maxChanges) {
		if err != nil {
			return 0, 0, err
		}
		end = max(end, r.Position)
		if len(f.Select([]eventstore.Recorded{r})) > 0 {
			return end, r.Position, nil
		}
	}
	return end, 0, nil
}

// update changes the fields and wakes all readers.
func (c *changes) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.more)
	c.more = make(chan struct{})
}

// subscriber is how far a stream has read: the subscription, and the position in it. Without a subscription it has yet to begin, after the
// position or, if that is 0, where the subscription is.
type subscriber struct {
	subscription int
	position     eventstore.Position
	listed       eventstore.Position // what queries have to reach to include everything up to position; 0 if that is not known
	ahead        bool                // began after a position that the subscription has not reached
}

// replaced is the subscription of a reader that has read a log which was since put back to an earlier end.
const replaced = -1

// next returns the changes that a reader has not seen, and the reader's new state. If there are none, more is closed as soon as there are. A
// reader that has missed changes gets resync.
func (c *changes) next(r subscriber) (news []change, now subscriber, resync bool, more <-chan struct{}, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun == 0 || c.closed {
		return nil, r, false, c.more, c.closed
	}
	first := r.subscription == 0
	now = subscriber{c.begun, max(r.position, c.to), c.listed, first && r.position > c.to}
	switch {
	case first && r.position == 0:
		now.position = c.to
	case !first && r.subscription != c.begun, r.position < c.from:
		now.position, resync = c.to, true
	default:
		i := sort.Search(len(c.latest), func(i int) bool { return c.latest[i].id > r.position })
		news = c.latest[i:len(c.latest):len(c.latest)]
	}
	return news, now, resync, c.more, false
}

const (
	// heartbeat is the interval of comments on an idle stream, which show proxies and readers that it is alive.
	heartbeat = 15 * time.Second
	// eventTimeout is how long a reader may take to receive what is written.
	eventTimeout = 10 * time.Second
	// streamCheck is the interval at which a reader's permission is checked again, so that a stream ends with its session or token.
	streamCheck = 5 * time.Second
	// reconnectAfter is how long a reader waits before it connects again.
	reconnectAfter = time.Second
)

// events streams changes until the reader leaves or the server shuts down. Each event has the position of its event in the log as its id, so
// that a reader that connects again with Last-Event-ID misses none.
func (s *Server) events(x *exchange) error {
	var r subscriber
	position := func(value string) error {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("must be a position, a whole number")
		}
		r.position = eventstore.Position(n)
		return nil
	}
	err := x.params(func(name, value string) error {
		if name != "after" {
			return errUnknownParameter
		}
		return position(value)
	})
	if last := x.r.Header.Get("Last-Event-Id"); last != "" && err == nil {
		if err = position(last); err != nil {
			err = invalidParameter("Last-Event-ID", err)
		}
	}
	if err != nil {
		return err
	}
	if err := x.actor.May(domain.ReadBookings, domain.OfOwnRoom); err != nil {
		return err
	}
	if err := x.admit(s.streamLimit); err != nil {
		return err
	}
	x.header("Content-Type", "text/event-stream")
	x.header("Cache-Control", "no-store")
	x.header("X-Accel-Buffering", "no")
	x.sent = true
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return nil
	}
	select {
	case s.changes.wanted <- struct{}{}:
	default:
	}
	x.ctx = x.r.Context() // the time limit of requests is not for streams
	s.stream(x, r)
	return nil
}

// stream writes changes to a reader as they come. It returns nil when the reader disconnects or loses its permission: the reply has begun, so
// no error could be sent.
func (s *Server) stream(x *exchange, r subscriber) {
	conn := http.NewResponseController(x.w)
	_ = conn.SetReadDeadline(time.Time{}) // the request has been read; the limit for that must not end the stream
	var out bytes.Buffer
	write := func() bool {
		_ = conn.SetWriteDeadline(time.Now().Add(eventTimeout))
		_, err := x.w.Write(out.Bytes())
		out.Reset()
		return err == nil && conn.Flush() == nil
	}
	fmt.Fprintf(&out, "retry: %d\n\n", reconnectAfter.Milliseconds())
	if !write() {
		return
	}
	beat := time.NewTimer(heartbeat)
	defer beat.Stop()
	check := time.NewTicker(s.streamCheck)
	defer check.Stop()
	for {
		select {
		case <-check.C: // also while there always is news
			if !x.mayRead() {
				return
			}
		default:
		}
		news, now, resync, more, closed := s.changes.next(r)
		if now.ahead {
			end, err := s.end(x.ctx)
			if err != nil {
				return // and the reader connects again
			}
			if end < r.position {
				r = subscriber{subscription: replaced}
				continue
			}
		}
		switch {
		case closed:
			return
		case resync:
			fmt.Fprintf(&out, "event: resync\nid: %d\ndata: {\"position\":%d}\n\n", now.position, now.listed)
		case r.subscription == 0 && now.subscription > 0 && len(news) == 0:
			fmt.Fprintf(&out, "event: ready\nid: %d\ndata: {\"position\":%d}\n\n", now.position, now.listed)
		}
		all := x.actor.May(domain.ReadBookings, domain.SomebodyElse) == nil // else a door, which is told of its own rooms
		for _, c := range news {
			if !all && x.actor.May(domain.ReadBookings, x.actor.To("", c.RoomID)) != nil {
				continue
			}
			data, _ := json.Marshal(&c) // a struct of plain values
			fmt.Fprintf(&out, "event: change\nid: %d\ndata: %s\n\n", c.id, data)
		}
		r = now
		if out.Len() == 0 {
			select {
			case <-more:
				continue
			case <-check.C:
				if !x.mayRead() {
					return
				}
				continue
			case <-beat.C:
				out.WriteString(": here\n\n")
			case <-x.r.Context().Done():
				return
			}
		}
		if !write() {
			return
		}
		beat.Reset(heartbeat)
	}
}

// mayRead authenticates the reader of a stream again. It reports false if they may no longer read it, and true while that cannot be determined
// because a store is unavailable.
func (x *exchange) mayRead() bool {
	x.ctx = x.r.Context() // without the actor of the last time
	err := x.authenticate(&x.server.eventRoutes()[0])
	if err == nil {
		err = x.actor.May(domain.ReadBookings, domain.OfOwnRoom)
	}
	_, forbidden := errors.AsType[*domain.Forbidden](err)
	return !forbidden && !errors.Is(err, errUnauthenticated)
}
