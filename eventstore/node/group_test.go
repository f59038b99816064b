package node_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/eventstore/node"
)

// groupSettings are what clients send by default, but that an event is never late.
func groupSettings(change func(*persistent.CreateReq_Settings)) *persistent.CreateReq_Settings {
	s := &persistent.CreateReq_Settings{
		MaxRetryCount: 10, MinCheckpointCount: 10, MaxCheckpointCount: 1000, LiveBufferSize: 500, ReadBatchSize: 20, HistoryBufferSize: 500,
		MessageTimeout:   &persistent.CreateReq_Settings_MessageTimeoutMs{MessageTimeoutMs: 3_600_000},
		CheckpointAfter:  &persistent.CreateReq_Settings_CheckpointAfterMs{CheckpointAfterMs: 3_600_000},
		ConsumerStrategy: "RoundRobin",
	}
	if change != nil {
		change(s)
	}
	return s
}

// createGroup makes a group on stream from its start.
func createGroup(t testing.TB, c *grpc.ClientConn, stream, name string, settings *persistent.CreateReq_Settings) {
	t.Helper()
	_, err := persistent.NewPersistentSubscriptionsClient(c).Create(t.Context(), &persistent.CreateReq{Options: &persistent.CreateReq_Options{
		StreamOption: &persistent.CreateReq_Options_Stream{Stream: &persistent.CreateReq_StreamOptions{
			StreamIdentifier: streamIdentifier(stream), RevisionOption: &persistent.CreateReq_StreamOptions_Start{Start: empty},
		}},
		GroupName: name, Settings: settings,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// consumer is a client of a group.
type consumer struct {
	call   persistent.PersistentSubscriptions_ReadClient
	cancel context.CancelFunc
}

// consume connects to a group with room for so many events.
func consume(t testing.TB, c *grpc.ClientConn, stream, name string, room int32) consumer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	call, err := persistent.NewPersistentSubscriptionsClient(c).Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	o := &persistent.ReadReq_Options{
		StreamOption: &persistent.ReadReq_Options_StreamIdentifier{StreamIdentifier: streamIdentifier(stream)},
		GroupName:    name, BufferSize: room,
	}
	if err := call.Send(&persistent.ReadReq{Content: &persistent.ReadReq_Options_{Options: o}}); err != nil {
		t.Fatal(err)
	}
	if m, err := call.Recv(); err != nil || m.GetSubscriptionConfirmation().GetSubscriptionId() != stream+"::"+name {
		t.Fatalf("got %v, %v", m, err)
	}
	return consumer{call, cancel}
}

// next returns the next event as stream, revision and number of retries, and its id.
func (c consumer) next(t testing.TB) (string, *shared.UUID) {
	t.Helper()
	m, err := c.call.Recv()
	if err != nil {
		t.Fatal(err)
	}
	e := m.GetEvent().GetEvent()
	return fmt.Sprintf("%s %d %d", e.GetStreamIdentifier().GetStreamName(), e.GetStreamRevision(), m.GetEvent().GetRetryCount()), e.GetId()
}

func (c consumer) ack(t testing.TB, ids ...*shared.UUID) {
	t.Helper()
	if err := c.call.Send(ackOf(ids...)); err != nil {
		t.Fatal(err)
	}
}

func ackOf(ids ...*shared.UUID) *persistent.ReadReq {
	return &persistent.ReadReq{Content: &persistent.ReadReq_Ack_{Ack: &persistent.ReadReq_Ack{Ids: ids}}}
}

func (c consumer) nack(t testing.TB, action persistent.ReadReq_Nack_Action, ids ...*shared.UUID) {
	t.Helper()
	if err := c.call.Send(&persistent.ReadReq{Content: &persistent.ReadReq_Nack_{Nack: &persistent.ReadReq_Nack{Ids: ids, Action: action}}}); err != nil {
		t.Fatal(err)
	}
}

// groupInfo tells about a group.
func groupInfo(t testing.TB, c *grpc.ClientConn, stream, name string) *persistent.SubscriptionInfo {
	t.Helper()
	r, err := persistent.NewPersistentSubscriptionsClient(c).GetInfo(t.Context(), &persistent.GetInfoReq{Options: &persistent.GetInfoReq_Options{
		StreamOption: &persistent.GetInfoReq_Options_StreamIdentifier{StreamIdentifier: streamIdentifier(stream)}, GroupName: name,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r.SubscriptionInfo
}

// appendMany appends events 0 to n-1 to a new stream.
func appendMany(t testing.TB, c *grpc.ClientConn, stream string, n int) {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint(stream, i))
	}
	for chunk := range slices.Chunk(names, 500) {
		if got := outcome(appendNamed(t, c, stream, expectAny, chunk...)); !strings.HasPrefix(got, "success") {
			t.Fatal(got)
		}
	}
}

// TestGroupAfterRestart: a group goes on behind its checkpoint, with its settings, and what was parked can be replayed.
func TestGroupAfterRestart(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		c := startIn(t, dir).dial(t)
		appendMany(t, c, "s", 6)
		createGroup(t, c, "s", "g", groupSettings(func(s *persistent.CreateReq_Settings) { s.MaxCheckpointCount = 3; s.MaxRetryCount = 7 }))
		k := consume(t, c, "s", "g", 10)
		var ids []*shared.UUID
		for i := range 6 {
			got, id := k.next(t)
			if want := fmt.Sprintf("s %d 0", i); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			ids = append(ids, id)
		}
		k.nack(t, persistent.ReadReq_Nack_Park, ids[1])
		k.ack(t, ids[0], ids[2], ids[4]) // three are settled from the start on: a checkpoint
		for groupInfo(t, c, "s", "g").LastCheckpointedEventPosition != "2" {
			runtime.Gosched()
		}
	})
	c := startIn(t, dir).dial(t)
	if info := groupInfo(t, c, "s", "g"); info.MaxRetryCount != 7 || info.LastCheckpointedEventPosition != "2" || info.ParkedMessageCount != 1 {
		t.Errorf("after the restart the group is %v", info)
	}
	k := consume(t, c, "s", "g", 10)
	var ids []*shared.UUID
	for i := 3; i < 6; i++ {
		got, id := k.next(t)
		if want := fmt.Sprintf("s %d 0", i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		ids = append(ids, id)
	}
	k.ack(t, ids...)
	_, err := persistent.NewPersistentSubscriptionsClient(c).ReplayParked(t.Context(), &persistent.ReplayParkedReq{Options: &persistent.ReplayParkedReq_Options{
		GroupName: "g", StreamOption: &persistent.ReplayParkedReq_Options_StreamIdentifier{StreamIdentifier: streamIdentifier("s")},
		StopAtOption: &persistent.ReplayParkedReq_Options_NoLimit{NoLimit: empty},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := k.next(t); got != "s 1 0" {
		t.Errorf("replayed %s", got)
	}
}

// TestGroupConfiguration: what clients write into the streams of groups does no harm to the node that reads it later.
func TestGroupConfiguration(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		c := startIn(t, dir).dial(t)
		appendMany(t, c, "s", 1)
		createGroup(t, c, "s", "g", groupSettings(nil))
		appendNamed(t, c, "$persistentSubscriptionConfig", expectAny, "nonsense", "more")
		appendNamed(t, c, "$persistentsubscription-s::g-checkpoint", expectAny, "nonsense")
	})
	k := consume(t, startIn(t, dir).dial(t), "s", "g", 1)
	if got, _ := k.next(t); got != "s 0 0" {
		t.Errorf("got %s", got)
	}
	t.Run("tombstone", func(t *testing.T) {
		dir := t.TempDir()
		t.Run("before", func(t *testing.T) {
			c := startIn(t, dir).dial(t)
			createGroup(t, c, "s", "g", groupSettings(nil))
			_, err := streams.NewStreamsClient(c).Tombstone(t.Context(), &streams.TombstoneReq{Options: &streams.TombstoneReq_Options{
				StreamIdentifier:       streamIdentifier("$persistentSubscriptionConfig"),
				ExpectedStreamRevision: &streams.TombstoneReq_Options_Any{Any: empty},
			}})
			if err != nil {
				t.Fatal(err)
			}
		})
		_, err := persistent.NewPersistentSubscriptionsClient(startIn(t, dir).dial(t)).Create(t.Context(), &persistent.CreateReq{Options: &persistent.CreateReq_Options{
			StreamOption: &persistent.CreateReq_Options_All{All: &persistent.CreateReq_AllOptions{AllOption: &persistent.CreateReq_AllOptions_Start{Start: empty}}},
			GroupName:    "g", Settings: groupSettings(nil),
		}})
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("got %v", err)
		}
	})
}

// TestGroupWithoutAcks: consumers that never acknowledge, and one that leaves with all in flight, cost a group no more than the
// room that they asked for, however long the stream is, and every event comes in the end.
func TestGroupWithoutAcks(t *testing.T) {
	const events, groups, room = 5000, 100, 50
	s := start(t)
	c := s.dial(t)
	appendMany(t, c, "s", events)
	for g := range groups {
		name := fmt.Sprint("g", g)
		createGroup(t, c, "s", name, groupSettings(nil))
		k := consume(t, c, "s", name, room)
		for range room {
			k.next(t)
		}
		if info := groupInfo(t, c, "s", name); info.TotalInFlightMessages != room || info.ReadBufferCount > 500 {
			t.Fatalf("%d in flight, %d read", info.TotalInFlightMessages, info.ReadBufferCount)
		}
	}
	gone := consume(t, c, "s", "g0", 2*room)
	for range 2 * room {
		gone.next(t)
	}
	gone.cancel()
	k := consume(t, c, "s", "g0", events)
	retried, seen := 0, map[string]bool{}
	for len(seen) < events-room { // the others are in flight with the first consumer
		got, id := k.next(t)
		if !strings.HasSuffix(got, " 0") {
			retried++
		}
		seen[got[:strings.LastIndex(got, " ")]] = true
		k.ack(t, id)
	}
	if retried != 2*room {
		t.Errorf("%d events were sent again, want %d", retried, 2*room)
	}
}

// TestPinned: all events of one source go to one client while it is there, whatever their number, and to others when it leaves.
func TestPinned(t *testing.T) {
	for _, strategy := range []string{"Pinned", "PinnedByCorrelation"} {
		t.Run(strategy, func(t *testing.T) {
			const sources, each, clients = 32, 10, 4
			c := start(t).dial(t)
			createGroup(t, c, "links", "g", groupSettings(func(s *persistent.CreateReq_Settings) { s.ConsumerStrategy = strategy; s.ResolveLinks = true }))
			var consumers []consumer
			for range clients {
				consumers = append(consumers, consume(t, c, "links", "g", sources*each))
			}
			for i := range sources * each {
				p, link := proposed("A"), proposed("$>")
				p.Id, link.Id = structuredOf(uuid.New()), structuredOf(uuid.New())
				stream := fmt.Sprint("s-", i%sources)
				if strategy == "PinnedByCorrelation" {
					p.CustomMetadata = fmt.Appendf(nil, `{"$correlationId":"c-%d"}`, i%sources)
					stream = fmt.Sprint("s-", uuid.New())
				}
				link.Data = fmt.Appendf(nil, "-1@%s", stream)
				call(t, c, appendOptions(stream, expectAny), proposal(p))
				call(t, c, appendOptions("links", expectAny), proposal(link))
			}
			info := groupInfo(t, c, "links", "g")
			for info.TotalItems < sources*each {
				runtime.Gosched()
				info = groupInfo(t, c, "links", "g")
			}
			owner := map[string]int{}
			for i, k := range consumers {
				if info.Connections[i].TotalItems == 0 {
					t.Errorf("client %d was sent nothing", i)
				}
				for range info.Connections[i].TotalItems {
					m, err := k.call.Recv()
					if err != nil {
						t.Fatal(err)
					}
					key := string(m.GetEvent().GetEvent().GetStreamIdentifier().GetStreamName())
					if strategy == "PinnedByCorrelation" {
						key = string(m.GetEvent().GetEvent().GetCustomMetadata())
					}
					if o, ok := owner[key]; ok && o != i {
						t.Fatalf("%s went to %d and %d", key, o, i)
					}
					owner[key] = i
				}
			}
			if len(owner) != sources {
				t.Errorf("events of %d sources", len(owner))
			}
			// What one leaves goes to the others.
			consumers[0].cancel()
			again := info.Connections[0].TotalItems
			for groupInfo(t, c, "links", "g").TotalItems < sources*each+again {
				runtime.Gosched()
			}
		})
	}
}

// TestGroupEndsWithServer: clients of groups are told when the server stops, as others are.
func TestGroupEndsWithServer(t *testing.T) {
	n, err := node.Open(node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.Serve(context.Background(), l) }()
	c := server{n, l.Addr().String()}.dial(t)
	createGroup(t, c, "s", "g", groupSettings(nil))
	k := consume(t, c, "s", "g", 10)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, node.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := k.call.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

// TestListGroupsOfAll: where there never was a group on $all that is an error, and where the last is gone it is not.
func TestListGroupsOfAll(t *testing.T) {
	c := start(t).client(t)
	list := func() error {
		_, err := c.ListPersistentSubscriptionsToAll(t.Context(), esdb.ListPersistentSubscriptionsOptions{})
		return err
	}
	if e, ok := esdb.FromError(list()); ok || e.Code() != esdb.ErrorCodeResourceNotFound {
		t.Errorf("got %v", e)
	}
	if err := c.CreatePersistentSubscriptionToAll(t.Context(), "g", esdb.PersistentAllSubscriptionOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.DeletePersistentSubscriptionToAll(t.Context(), "g", esdb.DeletePersistentSubscriptionOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := list(); err != nil {
		t.Error(err)
	}
}

// TestGroupWithOfficialClient goes through what the official client can do.
func TestGroupWithOfficialClient(t *testing.T) {
	c := start(t).client(t)
	for range 3 {
		if _, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, event("A")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CreatePersistentSubscriptionToAll(t.Context(), "g", esdb.PersistentAllSubscriptionOptions{
		StartFrom: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "^[^\\$]"},
	}); err != nil {
		t.Fatal(err)
	}
	sub, err := c.SubscribeToPersistentSubscriptionToAll(t.Context(), "g", esdb.SubscribeToPersistentSubscriptionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for i := range uint64(3) {
		e := sub.Recv().EventAppeared
		if e == nil || e.Event.Event.EventNumber != i {
			t.Fatalf("got %+v", e)
		}
		if err := sub.Ack(e.Event); err != nil {
			t.Fatal(err)
		}
	}
	info, err := c.GetPersistentSubscriptionInfoToAll(t.Context(), "g", esdb.GetPersistentSubscriptionOptions{})
	if err != nil || info.GroupName != "g" {
		t.Fatalf("got %+v, %v", info, err)
	}
	all, err := c.ListAllPersistentSubscriptions(t.Context(), esdb.ListPersistentSubscriptionsOptions{})
	if err != nil || len(all) != 1 {
		t.Fatalf("got %+v, %v", all, err)
	}
	if err := c.DeletePersistentSubscriptionToAll(t.Context(), "g", esdb.DeletePersistentSubscriptionOptions{}); err != nil {
		t.Fatal(err)
	}
}
