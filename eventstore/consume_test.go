package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// groupTest is a group of a test's own on streams of its own.
type groupTest struct {
	name     string
	prefix   string
	settings eventstore.GroupSettings
}

// newGroup makes a group that begins at the end of the log. change may change its settings before.
func newGroup(t *testing.T, s *eventstore.Store, change func(*eventstore.GroupSettings)) *groupTest {
	t.Helper()
	id := uuid.NewString()
	g := &groupTest{name: "test-" + id, prefix: "group" + id[:8]}
	g.settings = eventstore.GroupSettings{
		Filter: eventstore.Filter{StreamPrefixes: []string{g.prefix}}, From: logEnd(t, s), Strategy: eventstore.Pinned,
		MessageTimeout: time.Hour, MaxRetries: 3, CheckpointAfter: time.Second, CheckpointEvents: 10,
	}
	if change != nil {
		change(&g.settings)
	}
	if changed, err := s.EnsureGroup(t.Context(), g.name, g.settings); err != nil || !changed {
		t.Fatalf("ensure the group: %t, %v", changed, err)
	}
	return g
}

// write appends n events to each of some streams, one after another, and returns them in the order of the log.
func (g *groupTest) write(t *testing.T, s *eventstore.Store, streams, n int) (all []domain.ReservationID) {
	t.Helper()
	for i := range n {
		for stream := range streams {
			e := events(1)
			if _, err := s.Append(t.Context(), fmt.Sprintf("%s-%d", g.prefix, stream), eventstore.Any, e...); err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
			all = append(all, proposedIDs(e)...)
		}
	}
	return all
}

// consuming is a call of Consume.
type consuming struct {
	cancel context.CancelFunc
	stop   func() error // cancels it, and returns how it ended
	done   chan struct{}
	err    error
}

func (g *groupTest) consume(t *testing.T, s *eventstore.Store, o eventstore.ConsumeOptions, handle func(context.Context, eventstore.Delivery) eventstore.Settlement) *consuming {
	ctx, cancel := context.WithCancel(t.Context())
	c := &consuming{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = s.Consume(ctx, g.name, o, handle)
	}()
	c.stop = func() error {
		cancel()
		<-c.done
		return c.err
	}
	t.Cleanup(func() { _ = c.stop() })
	return c
}

func (c *consuming) end(t *testing.T) {
	t.Helper()
	if err := c.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("consuming ended with %v", err)
	}
}

// handled is what consumers have handled.
type handled struct {
	mu      sync.Mutex
	changed chan struct{}
	all     []eventstore.Delivery
}

func newHandled() *handled { return &handled{changed: make(chan struct{}, 1)} }

func (h *handled) ack(_ context.Context, d eventstore.Delivery) eventstore.Settlement {
	h.add(d)
	return eventstore.Ack()
}

func (h *handled) add(d eventstore.Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, d)
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// wait waits until so many events have been handled, and returns them.
func (h *handled) wait(n int) []eventstore.Delivery {
	return h.until(func(all []eventstore.Delivery) bool { return len(all) >= n })
}

func (h *handled) until(enough func([]eventstore.Delivery) bool) []eventstore.Delivery {
	for {
		h.mu.Lock()
		all := slices.Clone(h.all)
		h.mu.Unlock()
		if enough(all) {
			return all
		}
		<-h.changed
	}
}

// distinct waits until so many different events have been handled, and returns how often each was.
func (h *handled) distinct(n int) map[domain.ReservationID]int {
	var times map[domain.ReservationID]int
	h.until(func(all []eventstore.Delivery) bool {
		times = map[domain.ReservationID]int{}
		for _, d := range all {
			times[idOf(d.Event)]++
		}
		return len(times) >= n
	})
	return times
}

func deliveredIDs(deliveries []eventstore.Delivery) (ids []domain.ReservationID) {
	for _, d := range deliveries {
		ids = append(ids, idOf(d.Event))
	}
	return ids
}

// checkOrder checks that the deliveries of each stream are in its order, without gaps.
func checkOrder(t *testing.T, deliveries []eventstore.Delivery) {
	t.Helper()
	next := map[string]domain.Revision{}
	for _, d := range deliveries {
		if d.Revision != next[d.Stream] {
			t.Errorf("revision %d of %s where %d was due", d.Revision, d.Stream, next[d.Stream])
		}
		next[d.Stream] = d.Revision + 1
	}
}

// awaitInfo waits until the group is as it should be.
func (g *groupTest) awaitInfo(t *testing.T, s *eventstore.Store, is func(eventstore.GroupInfo) bool) eventstore.GroupInfo {
	t.Helper()
	for {
		info, err := s.Group(t.Context(), g.name)
		if err != nil {
			t.Fatal(err)
		}
		if is(info) {
			return info
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestConsume(t *testing.T) {
	connection := eventstoretest.ConnectionString(t)
	s := openStore(t, connection)
	g := newGroup(t, s, nil)
	want := g.write(t, s, 8, 5)
	eventstoretest.AppendRaw(t, connection, g.prefix+"-0", "Unknown", "{}", "{}")
	h := newHandled()
	running, atOnce := map[string]bool{}, 0
	c := g.consume(t, s, eventstore.ConsumeOptions{Handlers: 4}, func(ctx context.Context, d eventstore.Delivery) eventstore.Settlement {
		h.mu.Lock()
		if running[d.Stream] {
			t.Errorf("two events of %s are handled at once", d.Stream)
		}
		running[d.Stream] = true
		atOnce = max(atOnce, len(running))
		h.mu.Unlock()
		found := false
		for r, err := range s.ReadStream(ctx, d.Stream, d.Revision) {
			found = err == nil && r.ID == d.ID
			break
		}
		if !found {
			t.Errorf("revision %d of %s cannot be read yet", d.Revision, d.Stream)
		}
		h.mu.Lock()
		delete(running, d.Stream)
		h.mu.Unlock()
		return h.ack(ctx, d)
	})
	got := h.wait(len(want) + 1)
	checkOrder(t, got)
	decoded := slices.DeleteFunc(slices.Clone(got), func(d eventstore.Delivery) bool { return d.Event == nil })
	if len(got) != len(want)+1 || len(decoded) != len(want) {
		t.Errorf("%d events were handled, %d of them decoded; want %d and %d", len(got), len(decoded), len(want)+1, len(want))
	}
	for _, d := range got {
		if d.Retries != 0 || d.Replayed || d.Position <= g.settings.From || d.Type == "" || d.Metadata.Actor != "tester" && d.Event != nil {
			t.Errorf("handed %+v", d)
		}
	}
	if atOnce > 4 {
		t.Errorf("%d events were handled at once", atOnce)
	}
	// What comes later does too.
	want = append(want, g.write(t, s, 8, 3)...)
	h.wait(len(want) + 1)
	c.end(t)
	// It was settled when Consume returned, so that another consumer gets only what is new.
	h = newHandled()
	c = g.consume(t, s, eventstore.ConsumeOptions{}, h.ack)
	last := g.write(t, s, 1, 1)
	if ids := deliveredIDs(h.wait(1)); !slices.Equal(ids, last) {
		t.Errorf("handed %v again, want %v", ids, last)
	}
	c.end(t)
	info := g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.Checkpoint >= i.Known && i.Consumers == 0 })
	if info.Parked != 0 || info.InFlight != 0 || info.Waiting != 0 || info.Known < got[len(got)-1].Position {
		t.Errorf("the group is %+v", info)
	}
}

func openStore(t *testing.T, connection string) *eventstore.Store {
	t.Helper()
	s, err := eventstore.Open(eventstore.Options{ConnectionString: connection})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Events are handed out again, parked, replayed or given up, as their handler says.
func TestSettlements(t *testing.T) {
	s := eventstoretest.Open(t)
	g := newGroup(t, s, nil)
	written := g.write(t, s, 4, 1) // to be acknowledged, tried again, parked, skipped
	h := newHandled()
	replaying := atomic.Bool{}
	c := g.consume(t, s, eventstore.ConsumeOptions{}, func(_ context.Context, d eventstore.Delivery) eventstore.Settlement {
		h.add(d)
		switch {
		case replaying.Load():
			return eventstore.Ack()
		case idOf(d.Event) == written[1]:
			return eventstore.Retry("not now")
		case idOf(d.Event) == written[2]:
			return eventstore.Park("not today")
		case idOf(d.Event) == written[3]:
			return eventstore.Skip("not at all")
		}
		return eventstore.Ack()
	})
	info := g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.Parked == 2 && i.InFlight == 0 })
	if info.Consumers != 1 {
		t.Errorf("the group is %+v", info)
	}
	times := map[domain.ReservationID][]int{}
	for _, d := range h.wait(7) {
		times[idOf(d.Event)] = append(times[idOf(d.Event)], d.Retries)
	}
	for i, want := range [][]int{{0}, {0, 1, 2, 3}, {0}, {0}} {
		if !slices.Equal(times[written[i]], want) {
			t.Errorf("event %d was handled with %v retries, want %v", i, times[written[i]], want)
		}
	}
	parked, err := s.Parked(t.Context(), g.name)
	if err != nil || len(parked) != 2 {
		t.Fatalf("parked are %+v, %v", parked, err)
	}
	slices.SortFunc(parked, func(a, b eventstore.ParkedEvent) int { return strings.Compare(a.Reason, b.Reason) })
	for i, want := range []string{"Reached retry count of 3", "not today"} {
		if p := parked[i]; p.Reason != want || !strings.HasPrefix(p.Stream, g.prefix) || p.Revision != 0 || time.Since(p.At).Abs() > time.Hour {
			t.Errorf("parked is %+v, want for %s", p, want)
		}
	}
	replaying.Store(true)
	if err := s.ReplayParked(t.Context(), g.name); err != nil {
		t.Fatal(err)
	}
	replayed := h.wait(9)[7:]
	ids := deliveredIDs(replayed)
	slices.Sort(ids)
	want := slices.Sorted(slices.Values(written[1:3]))
	if !slices.Equal(ids, want) {
		t.Errorf("replayed %v, want %v", ids, want)
	}
	for _, d := range replayed {
		if !d.Replayed || d.Retries != 0 || !strings.HasPrefix(d.Stream, g.prefix) || d.Revision != 0 {
			t.Errorf("replayed %+v", d)
		}
	}
	g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.Parked == 0 && i.InFlight == 0 })
	if parked, err := s.Parked(t.Context(), g.name); err != nil || len(parked) != 0 {
		t.Errorf("parked are %+v, %v", parked, err)
	}
	c.end(t)
}

// A group that is not there is an error that names it, from the beginning and when it is deleted.
func TestNoGroup(t *testing.T) {
	connection := eventstoretest.ConnectionString(t)
	s := openStore(t, connection)
	name := "missing-" + uuid.NewString()
	check := func(err error, name string) {
		t.Helper()
		if missing, ok := errors.AsType[*eventstore.NoGroup](err); !ok || missing.Group != name || errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	check(s.Consume(t.Context(), name, eventstore.ConsumeOptions{}, newHandled().ack), name)
	_, err := s.Group(t.Context(), name)
	check(err, name)
	check(s.ReplayParked(t.Context(), name), name)
	_, err = s.Parked(t.Context(), name)
	check(err, name)

	g := newGroup(t, s, nil)
	h := newHandled()
	c := g.consume(t, s, eventstore.ConsumeOptions{}, h.ack)
	g.write(t, s, 1, 1)
	h.wait(1)
	eventstoretest.DeleteGroup(t, connection, g.name)
	<-c.done
	check(c.err, g.name)
}

// A group's settings are made what they should be, and nothing is written if they are. Consumers of a group that is changed consume on, and
// it keeps what it selects and where it is.
func TestEnsureGroup(t *testing.T) {
	s := eventstoretest.Open(t)
	g := newGroup(t, s, nil)
	ensure := func(want bool, change func(*eventstore.GroupSettings)) {
		t.Helper()
		change(&g.settings)
		if changed, err := s.EnsureGroup(t.Context(), g.name, g.settings); err != nil || changed != want {
			t.Errorf("changed %t, want %t, %v", changed, want, err)
		}
	}
	h := newHandled()
	c := g.consume(t, s, eventstore.ConsumeOptions{}, h.ack)
	mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...) // is not selected
	want := g.write(t, s, 1, 1)
	h.wait(1)
	ensure(false, func(*eventstore.GroupSettings) {})
	for _, change := range []func(*eventstore.GroupSettings){
		func(o *eventstore.GroupSettings) { o.Strategy = eventstore.RoundRobin },
		func(o *eventstore.GroupSettings) { o.Strategy = eventstore.DispatchToSingle },
		func(o *eventstore.GroupSettings) { o.MaxConsumers = 7 },
		func(o *eventstore.GroupSettings) { o.MessageTimeout = time.Minute },
		func(o *eventstore.GroupSettings) { o.MaxRetries = 5 },
		func(o *eventstore.GroupSettings) { o.CheckpointAfter = 2 * time.Second },
		func(o *eventstore.GroupSettings) { o.CheckpointEvents = 20 },
	} {
		ensure(true, change)
		ensure(false, func(*eventstore.GroupSettings) {})
		mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
		want = append(want, g.write(t, s, 1, 1)...)
		if got := deliveredIDs(h.wait(len(want))); !slices.Equal(got, want) {
			t.Fatalf("handled %v, want %v", got, want)
		}
	}
	c.end(t)
	for name, change := range map[string]func(*eventstore.GroupSettings){
		"consumers":   func(o *eventstore.GroupSettings) { o.MaxConsumers = -1 },
		"time-out":    func(o *eventstore.GroupSettings) { o.MessageTimeout = 0 },
		"retries":     func(o *eventstore.GroupSettings) { o.MaxRetries = -1 },
		"checkpoints": func(o *eventstore.GroupSettings) { o.CheckpointEvents = 0 },
		"strategy":    func(o *eventstore.GroupSettings) { o.Strategy = "Any" },
	} {
		settings := g.settings
		change(&settings)
		if _, err := s.EnsureGroup(t.Context(), "invalid-"+uuid.NewString(), settings); err == nil || errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who may not create a group is told so at once, and may consume it all the same.
func TestGroupOfAnOperator(t *testing.T) {
	t.Parallel()
	behind := eventstoretest.Serve(t, "")
	_, address := startRelay(t, behind, func(call grpc.ServerStream) error {
		switch method, _ := grpc.MethodFromServerStream(call); method {
		case persistent.PersistentSubscriptions_Create_FullMethodName, persistent.PersistentSubscriptions_Update_FullMethodName,
			persistent.PersistentSubscriptions_ReplayParked_FullMethodName:
			return status.Error(codes.PermissionDenied, "Access Denied")
		}
		return nil
	})
	user, operator := openStore(t, "esdb://"+address+"?tls=false"), openStore(t, "esdb://"+behind+"?tls=false")
	refused := func(err error) {
		t.Helper()
		if _, ok := errors.AsType[*eventstore.Refused](err); !ok {
			t.Errorf("got %v", err)
		}
	}
	_, err := user.EnsureGroup(t.Context(), "another", eventstore.GroupSettings{Strategy: eventstore.Pinned, MessageTimeout: time.Minute, CheckpointAfter: time.Second, CheckpointEvents: 1})
	refused(err)
	g := newGroup(t, operator, nil)
	if changed, err := user.EnsureGroup(t.Context(), g.name, g.settings); err != nil || changed {
		t.Errorf("an unchanged group: %t, %v", changed, err)
	}
	g.settings.MaxRetries++
	_, err = user.EnsureGroup(t.Context(), g.name, g.settings)
	refused(err)
	refused(user.ReplayParked(t.Context(), g.name))
	h := newHandled()
	c := g.consume(t, user, eventstore.ConsumeOptions{}, h.ack)
	g.write(t, user, 1, 1)
	h.wait(1)
	c.end(t)
}

// Consumers of several replicas share the events: each is handled once.
func TestConsumersCompete(t *testing.T) {
	t.Parallel()
	connection := eventstoretest.ConnectionString(t)
	s := openStore(t, connection)
	for _, strategy := range []eventstore.Strategy{eventstore.RoundRobin, eventstore.Pinned} {
		t.Run(string(strategy), func(t *testing.T) {
			g := newGroup(t, s, func(o *eventstore.GroupSettings) { o.Strategy = strategy })
			h := newHandled()
			var shares [3]atomic.Int64
			var consumers []*consuming
			for i := range shares {
				consumers = append(consumers, g.consume(t, openStore(t, connection), eventstore.ConsumeOptions{InFlight: 8}, func(ctx context.Context, d eventstore.Delivery) eventstore.Settlement {
					shares[i].Add(1)
					return h.ack(ctx, d)
				}))
			}
			g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.Consumers == len(shares) })
			written := g.write(t, s, 32, 3)
			got := h.wait(len(written))
			g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.InFlight == 0 && i.Waiting == 0 })
			if n := len(h.wait(0)); n != len(written) {
				t.Errorf("%d events were handled %d times", len(written), n)
			}
			if strategy == eventstore.Pinned {
				checkOrder(t, got)
			}
			for i := range shares {
				if shares[i].Load() == 0 {
					t.Errorf("consumer %d was handed nothing", i)
				}
				consumers[i].end(t)
			}
		})
	}
}

// A group with one consumer at a time hands all events out in the order of the log, whoever that is, and another consumer takes over.
func TestConsumersStandBy(t *testing.T) {
	t.Parallel()
	connection := eventstoretest.ConnectionString(t)
	s := openStore(t, connection)
	g := newGroup(t, s, func(o *eventstore.GroupSettings) { o.MaxConsumers = 1 })
	h := newHandled()
	options := eventstore.ConsumeOptions{Key: func(eventstore.Recorded) string { return "the recipient" }}
	var consumers []*consuming
	for range 3 {
		consumers = append(consumers, g.consume(t, openStore(t, connection), options, h.ack))
	}
	var want []domain.ReservationID
	for len(consumers) > 0 {
		want = append(want, g.write(t, s, 8, 4)...)
		if got := deliveredIDs(h.wait(len(want))); !slices.Equal(got, want) {
			t.Fatalf("%d events were handled, want %d in the order of the log", len(got), len(want))
		}
		if info := g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.Consumers > 0 }); info.Consumers != 1 {
			t.Errorf("%d consumers at a time", info.Consumers)
		}
		consumers[0].end(t)
		consumers = consumers[1:]
	}
}

// Only what was appended while a consumer has the group, and is handed out for the first time, is fresh.
func TestFresh(t *testing.T) {
	s := eventstoretest.Open(t)
	g := newGroup(t, s, nil)
	before := g.write(t, s, 1, 4)
	h := newHandled()
	retried := map[domain.ReservationID]bool{}
	g.consume(t, s, eventstore.ConsumeOptions{Handlers: 1}, func(_ context.Context, d eventstore.Delivery) eventstore.Settlement {
		h.add(d)
		if id := idOf(d.Event); !retried[id] {
			retried[id] = true
			return eventstore.Retry("again")
		}
		return eventstore.Ack()
	})
	h.distinct(len(before))
	fresh := func(d eventstore.Delivery) bool { return d.Fresh }
	var after []domain.ReservationID
	for all := h.wait(0); !slices.ContainsFunc(all, fresh); all = h.wait(0) {
		after = append(after, g.write(t, s, 1, 1)...)
	}
	got := h.wait(2 * (len(before) + len(after)))
	for _, d := range got {
		if id := idOf(d.Event); d.Fresh && (slices.Contains(before, id) || d.Retries > 0) {
			t.Errorf("event %d is fresh, at its retry %d", d.Revision, d.Retries)
		}
	}
	if last := got[len(got)-1]; idOf(last.Event) != after[len(after)-1] || last.Retries != 1 {
		t.Errorf("the last one is event %d, at its retry %d", last.Revision, last.Retries)
	}
}

// A slow consumer has no more in its hands than it asks for, and nothing is lost or comes twice, though the time that an event may take
// passes meanwhile.
func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	s := eventstoretest.Open(t)
	g := newGroup(t, s, func(o *eventstore.GroupSettings) {
		o.MessageTimeout = time.Millisecond
		o.MaxRetries = 1 << 20
		o.MaxConsumers = 1
	})
	h := newHandled()
	const inFlight = 16
	going := make(chan struct{})
	c := g.consume(t, s, eventstore.ConsumeOptions{InFlight: inFlight, Handlers: 3}, func(ctx context.Context, d eventstore.Delivery) eventstore.Settlement {
		<-going
		return h.ack(ctx, d)
	})
	written := g.write(t, s, 40, 3)
	g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool {
		if i.InFlight > inFlight {
			t.Errorf("%d events are in flight", i.InFlight)
		}
		return i.InFlight == inFlight
	})
	time.Sleep(2500 * time.Millisecond) // time-outs are looked for every second
	close(going)
	got := h.wait(len(written))
	g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.InFlight == 0 && i.Waiting == 0 && i.Checkpoint >= i.Known })
	if n := len(h.wait(0)); n != len(written) {
		t.Errorf("%d events were handled %d times", len(written), n)
	}
	sort := slices.Sorted(slices.Values(deliveredIDs(got)))
	if !slices.Equal(sort, slices.Sorted(slices.Values(written))) {
		t.Errorf("handled others than were written")
	}
	c.end(t)
}

// When its context ends a consumer begins nothing any more, and what it was handling is settled.
func TestConsumerEnds(t *testing.T) {
	t.Parallel()
	s := eventstoretest.Open(t)
	for range 20 {
		g := newGroup(t, s, nil)
		written := g.write(t, s, 8, 2)
		h, begun, going := newHandled(), make(chan struct{}, len(written)), make(chan struct{})
		c := g.consume(t, s, eventstore.ConsumeOptions{Handlers: 4}, func(ctx context.Context, d eventstore.Delivery) eventstore.Settlement {
			begun <- struct{}{}
			<-going
			<-ctx.Done()
			return h.ack(ctx, d)
		})
		for range 4 {
			<-begun
		}
		c.cancel()
		close(going)
		c.end(t)
		first := deliveredIDs(h.wait(0))
		if len(first) != 4 {
			t.Errorf("%d events were handled, 4 of them begun before the end", len(first))
		}
		c = g.consume(t, s, eventstore.ConsumeOptions{}, h.ack)
		if ids := deliveredIDs(h.wait(len(written))[len(first):]); slices.ContainsFunc(ids, func(id domain.ReservationID) bool { return slices.Contains(first, id) }) {
			t.Errorf("what was settled is handed out again")
		}
		c.end(t)
	}
}

// Events that linger are received, and not handled until their time has come. They do not hold up the end of a consumer.
func TestLinger(t *testing.T) {
	s := eventstoretest.Open(t)
	g := newGroup(t, s, nil)
	written := g.write(t, s, 4, 2)
	h := newHandled()
	c := g.consume(t, s, eventstore.ConsumeOptions{Linger: time.Hour}, h.ack)
	g.awaitInfo(t, s, func(info eventstore.GroupInfo) bool { return info.InFlight == len(written) })
	c.end(t)
	if early := h.wait(0); len(early) > 0 {
		t.Errorf("%d events were handled at once", len(early))
	}
	c = g.consume(t, s, eventstore.ConsumeOptions{Linger: time.Millisecond}, h.ack)
	checkOrder(t, h.wait(len(written)))
	c.end(t)
}

// Connections break: a single consumer handles every event once all the same, since it settles again what it has handled.
func TestConsumeOverABrokenNetwork(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	behind := openStore(t, network.ConnectionString())
	s := network.Open(t, eventstore.Options{})
	g := newGroup(t, behind, func(o *eventstore.GroupSettings) { o.MaxRetries = 1 << 20 })
	h := newHandled()
	c := g.consume(t, s, eventstore.ConsumeOptions{InFlight: 8}, h.ack)
	var written []domain.ReservationID
	for i := range 20 {
		written = append(written, g.write(t, behind, 8, 4)...)
		if i%5 == 4 {
			network.Stop()
			network.Start()
		} else {
			network.Cut()
		}
	}
	h.distinct(len(written))
	g.awaitInfo(t, behind, func(i eventstore.GroupInfo) bool { return i.InFlight == 0 && i.Waiting == 0 })
	c.end(t)
	got := h.wait(0)
	if len(got) != len(written) {
		t.Errorf("%d events were handled %d times", len(written), len(got))
	}
}

// notices are the lines of a log.
type notices chan string

func (n notices) Write(line []byte) (int, error) {
	select {
	case n <- string(line):
	default:
	}
	return len(line), nil
}

// A consumer that has lost its connection leaves to the others what it has not begun to handle.
func TestConsumerIsReplaced(t *testing.T) {
	t.Parallel()
	connection := eventstoretest.ConnectionString(t)
	network := eventstoretest.BeforeStore(t, connection)
	s := openStore(t, connection)
	g := newGroup(t, s, func(o *eventstore.GroupSettings) { o.MaxConsumers = 1 })
	former, begun, going := newHandled(), make(chan struct{}, 8), make(chan struct{})
	inHand := make(chan bool, 16)
	broken := make(notices, 8)
	first := g.consume(t, network.Open(t, eventstore.Options{Logger: slog.New(slog.NewTextHandler(broken, nil))}), eventstore.ConsumeOptions{}, func(ctx context.Context, d eventstore.Delivery) eventstore.Settlement {
		begun <- struct{}{}
		inHand <- d.InHand()
		<-going
		inHand <- d.InHand()
		return former.ack(ctx, d)
	})
	written := g.write(t, s, 1, 3)
	<-begun
	if !<-inHand {
		t.Error("an event that has just come is not in hand")
	}
	g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.InFlight == len(written) })
	network.Stop()
	for !strings.Contains(<-broken, "a persistent subscription cannot be read") {
	}
	h := newHandled()
	second := g.consume(t, s, eventstore.ConsumeOptions{}, h.ack)
	if got := deliveredIDs(h.wait(len(written))); !slices.Equal(got, written) {
		t.Errorf("the other consumer handled %v, want %v", got, written)
	}
	second.end(t)
	close(going)
	if <-inHand {
		t.Error("an event that another consumer has handled is in hand")
	}
	network.Start()
	last := g.write(t, s, 1, 1)
	got := deliveredIDs(former.until(func(all []eventstore.Delivery) bool { return slices.Contains(deliveredIDs(all), last[0]) }))
	if want := []domain.ReservationID{written[0], last[0]}; !slices.Equal(got, want) {
		t.Errorf("the consumer that was cut off handled %v, want %v", got, want)
	}
	first.end(t)
}

// The event store restarts on its data while consumers compete: everything is handled, and what was settled is handed out again no further
// back than its last checkpoint.
func TestConsumeThroughRestarts(t *testing.T) {
	t.Parallel()
	const restarts, consumers, inFlight = 8, 3, 8
	dir, address := t.TempDir(), eventstoretest.ClosedPort(t)
	stop := eventstoretest.ServeUntil(t, dir, address)
	connection := "esdb://" + address + "?tls=false"
	s := openStore(t, connection)
	g := newGroup(t, s, func(o *eventstore.GroupSettings) { o.MaxRetries = 1 << 20 })
	h := newHandled()
	var running []*consuming
	for range consumers {
		running = append(running, g.consume(t, openStore(t, connection), eventstore.ConsumeOptions{InFlight: inFlight}, h.ack))
	}
	const writers, each = 8, 100
	var writing sync.WaitGroup
	var written [writers][]domain.ReservationID
	for w := range writers {
		writing.Go(func() { written[w] = g.write(t, s, 5, each/5) })
	}
	for round := range restarts {
		h.wait(writers * each * round / restarts / 2)
		stop()
		stop = eventstoretest.ServeUntil(t, dir, address)
	}
	writing.Wait()
	times := h.distinct(writers * each)
	g.awaitInfo(t, s, func(i eventstore.GroupInfo) bool { return i.InFlight == 0 && i.Waiting == 0 && i.Parked == 0 })
	for _, c := range running {
		c.end(t)
	}
	for _, id := range slices.Concat(written[:]...) {
		if times[id] == 0 {
			t.Errorf("event %s was never handled", id)
		}
	}
	again := len(h.wait(0)) - writers*each
	if limit := restarts * (g.settings.CheckpointEvents + consumers*inFlight); again > limit {
		t.Errorf("%d events were handled again in %d restarts, want %d at most", again, restarts, limit)
	}
	t.Logf("%d of %d events were handled again in %d restarts", again, writers*each, restarts)
	stop()
}

// The leader of a cluster moves or dies while consumers compete.
func TestConsumeFromTheLeader(t *testing.T) {
	t.Parallel()
	servers := eventstoretest.Cluster(t, 3)
	s := servers.Open(t, eventstore.Options{Timeout: time.Minute})
	g := newGroup(t, s, func(o *eventstore.GroupSettings) { o.MaxRetries = 1 << 20 })
	h := newHandled()
	var running []*consuming
	for range 2 {
		running = append(running, g.consume(t, servers.Open(t, eventstore.Options{}), eventstore.ConsumeOptions{}, h.ack))
	}
	n := 0
	for move := range 6 {
		n += len(g.write(t, s, 4, 5))
		if leader := servers.Leader(); move%2 == 0 {
			servers.MoveLeader((leader + 1) % 3)
		} else {
			servers.Kill(leader)
			servers.Start(leader)
		}
	}
	h.distinct(n)
	for _, c := range running {
		c.end(t)
	}
}

// A consumer ends with the store.
func TestConsumerOfAClosedStore(t *testing.T) {
	s := eventstoretest.Open(t)
	g := newGroup(t, s, nil)
	h := newHandled()
	c := g.consume(t, s, eventstore.ConsumeOptions{}, h.ack)
	g.write(t, s, 1, 1)
	h.wait(1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if !errors.Is(c.err, eventstore.ErrClosed) {
		t.Errorf("ended with %v", c.err)
	}
	if err := s.Consume(t.Context(), g.name, eventstore.ConsumeOptions{}, h.ack); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}
