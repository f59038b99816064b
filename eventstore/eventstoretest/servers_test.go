package eventstoretest_test

import (
	"errors"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// Other calls are relayed, with headers, statuses and trailers.
func TestTheRestIsPassedOn(t *testing.T) {
	t.Parallel()
	s, behind := before(t, 1, eventstoretest.Conditions{})
	c := dial(t, s.Address(0))
	direct := dial(t, strings.TrimSuffix(strings.TrimPrefix(behind, "esdb://"), "?tls=false"))
	answers := func(c client) []any {
		features, err := serverfeatures.NewServerFeaturesClient(c.conn).GetSupportedMethods(t.Context(), &shared.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		var trailer metadata.MD
		call, err := c.Append(t.Context(), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range []*streams.AppendReq{
			{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
				StreamIdentifier: identifier("s"), ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: none},
			}}},
			{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
				Id: newID(), Metadata: ofThing, Data: make([]byte, 2<<20),
			}}},
		} {
			if err := call.Send(content); err != nil {
				t.Fatal(err)
			}
		}
		_, tooLarge := call.CloseAndRecv()
		_, unserved := c.Delete(t.Context(), &streams.DeleteReq{})
		unknown := c.conn.Invoke(t.Context(), "/event_store.client.x.X/Y", none, &shared.Empty{})
		_, bad := c.open(t.Context(), of("s"), fromEnd).Recv()
		return []any{features.String(), tooLarge.Error(), trailer, unserved.Error(), unknown.Error(), bad.Error()}
	}
	if got, want := answers(c), answers(direct); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// Headers and trailers of the event store behind are passed on, and its answers to deletions are delayed like those to appends.
func TestWhatAnEventStoreSaysBeside(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, call grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(call)
		said := metadata.Pairs("said", strings.Join(metadata.ValueFromIncomingContext(call.Context(), "asked"), ","))
		if err := call.SetHeader(said); err != nil {
			t.Error(err)
		}
		call.SetTrailer(said)
		switch {
		case strings.HasSuffix(method, "/Delete"):
			return call.SendMsg(&streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{
				Position: &streams.DeleteResp_Position{CommitPosition: 7, PreparePosition: 7},
			}})
		case said.Get("said")[0] == "":
			return nil
		}
		if err := call.SendMsg(none); err != nil {
			t.Error(err)
		}
		return status.Error(codes.DataLoss, "it is lost")
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	s := eventstoretest.ClusterBefore(t, "esdb://"+listener.Addr().String()+"?tls=false", 1, eventstoretest.Conditions{Indexing: never})
	c := dial(t, s.Address(0))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "asked", "this")
	for _, method := range []string{eventstoretest.Append, eventstoretest.Read, "/event_store.client.x.X/Y"} {
		call, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(call.SendMsg(none), call.CloseSend()); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = call.RecvMsg(&shared.Empty{})
		}
		wantCode(t, method, err, codes.DataLoss, "it is lost")
		header, err := call.Header()
		if got := header.Get("said"); err != nil || !slices.Equal(got, []string{"this"}) {
			t.Errorf("%s: in the header is %q, %v", method, got, err)
		}
		if got := call.Trailer().Get("said"); !slices.Equal(got, []string{"this"}) {
			t.Errorf("%s: in the trailer is %q", method, got)
		}
	}
	deleted := make(chan error)
	go func() {
		_, err := c.Delete(ctx, &streams.DeleteReq{})
		deleted <- err
	}()
	eventually(t, "it is accepted", func() bool { return s.Pending() == 1 })
	s.IndexAll()
	if err := <-deleted; err != nil {
		t.Error(err)
	}
}

// A network that fails on demand can be put before a server as before a node.
func TestANetworkBeforeAMember(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 2, eventstoretest.Conditions{})
	networks := make([]*eventstoretest.Controlled, 2)
	for i := range networks {
		networks[i] = eventstoretest.Before(t, s.Address(i))
		s.Advertise(i, networks[i].Address())
	}
	s.ExpectDropped() // if the store repeats its append soon
	store := s.Open(t, eventstore.Options{Connections: 1, Timeout: time.Minute})
	lost := networks[0].LoseAnswer(eventstoretest.Append, 2)
	for revision := eventstore.NoStream; revision < 2; revision++ {
		if a, err := store.Append(t.Context(), "s", revision, proposed()); err != nil || a.Revision != revision+1 {
			t.Errorf("at revision %d: %v, %v", revision, a, err)
		}
	}
	<-lost
	if passed := networks[0].Calls(eventstoretest.Append); passed < 3 {
		t.Errorf("%d appends passed the leader's network", passed)
	}
	if passed := networks[1].Calls(eventstoretest.Append); passed != 0 {
		t.Errorf("%d appends passed the follower's network", passed)
	}
}

// members are the states of all members, in order, according to one of them.
func members(t *testing.T, s *eventstoretest.Servers, asked int) (states []string) {
	t.Helper()
	info, err := gossip.NewGossipClient(dial(t, s.Address(asked)).conn).Read(t.Context(), none)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range info.Members {
		e := m.HttpEndPoint
		if net.JoinHostPort(e.Address, strconv.Itoa(int(e.Port))) != s.Address(i) {
			t.Errorf("member %d is told to be at %v", i, e)
		}
		state := m.State.String()
		if !m.IsAlive {
			state = "dead"
		}
		states = append(states, state)
	}
	return states
}

func wantMembers(t *testing.T, s *eventstoretest.Servers, asked int, want ...string) {
	t.Helper()
	if got := members(t, s, asked); !slices.Equal(got, want) {
		t.Errorf("member %d tells of %q, want %q", asked, got, want)
	}
}

// wantNotLeader checks for the status that names the leader.
func wantNotLeader(t *testing.T, what string, s *eventstoretest.Servers, leader int, err error, trailer metadata.MD) {
	t.Helper()
	wantCode(t, what, err, codes.NotFound, "Leader info available")
	host, port, _ := net.SplitHostPort(s.Address(leader))
	delete(trailer, "content-type") // of an answer with trailers only
	if want := metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port); !reflect.DeepEqual(trailer, want) {
		t.Errorf("%s: trailers %v, want %v", what, trailer, want)
	}
}

func TestAFollower(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 3, eventstoretest.Conditions{Lag: never, Forwarding: time.Millisecond})
	leader, follower := dial(t, s.Address(0)), dial(t, s.Address(1))
	for i := range 3 {
		wantMembers(t, s, i, "Leader", "Follower", "Follower")
	}

	// It forwards appends. Its reads are behind, and those that require the leader are refused.
	follower.must("s", -1, newID())
	if a, err := follower.append(t.Context(), "s", -1, newID()); err != nil || a.GetWrongExpectedVersion() == nil {
		t.Errorf("a lost race: %v, %v", a, err)
	}
	if got := leader.read(of("s")); !slices.Equal(got, []string{"0"}) {
		t.Errorf("the leader has %q", got)
	}
	for _, change := range [][]readOption{{of("s")}, {of("s"), backward, limit(1)}} {
		if got := follower.read(change...); !slices.Equal(got, []string{"not found"}) {
			t.Errorf("the follower has %q", got)
		}
	}
	if got := follower.read(backward, limit(1)); got != nil {
		t.Errorf("the follower's log ends with %q", got)
	}
	late := follower.open(t.Context(), subscribed, of("s"))
	subscription := make(chan string, 16)
	go func() {
		for {
			a, err := late.Recv()
			if err != nil {
				close(subscription)
				return
			}
			subscription <- text(a)
		}
	}()
	if a := <-subscription; a != "confirmed" {
		t.Errorf("the subscription begins with %s", a)
	}

	ctx := requiringLeader(t.Context())
	var trailer metadata.MD
	call, err := follower.Append(ctx, grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	_, err = call.CloseAndRecv()
	wantNotLeader(t, "append", s, 0, err, trailer)
	for _, change := range [][]readOption{{of("s")}, {subscribed}} {
		call := follower.open(ctx, change...)
		_, err := call.Recv()
		wantNotLeader(t, "read", s, 0, err, call.Trailer())
	}
	many, err := follower.BatchAppend(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := many.Send(batch("b", -1, newID())); err != nil {
		t.Fatal(err)
	}
	_, err = many.Recv()
	wantNotLeader(t, "batch", s, 0, err, many.Trailer())
	_, err = follower.Delete(ctx, &streams.DeleteReq{}, grpc.Trailer(&trailer))
	wantNotLeader(t, "delete", s, 0, err, trailer)
	if many, err = follower.BatchAppend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := result(batches(t, many, batch("b", -1, newID()))[0]); got != "at 0" {
		t.Errorf("a batch that is passed on: %s", got)
	}
	if a, err := leader.append(ctx, "s", 0, newID()); err != nil || a.GetSuccess() == nil {
		t.Errorf("the leader, required: %v, %v", a, err)
	}

	// As the leader it shows everything, and the former one still shows what it did.
	s.Elect(1)
	wantMembers(t, s, 2, "Follower", "Leader", "Follower")
	for range 3 {
		if a := <-subscription; a != "0" && a != "1" && a != "caught up" {
			t.Errorf("the subscription goes on with %s", a)
		}
	}
	if a, err := follower.append(ctx, "s", 1, newID()); err != nil || a.GetSuccess() == nil {
		t.Errorf("the new leader: %v, %v", a, err)
	}
	if got := leader.read(of("s")); !slices.Equal(got, []string{"0", "1"}) {
		t.Errorf("the one that led has %q", got)
	}
	if got := follower.read(of("s")); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the new leader has %q", got)
	}
}

// After a while a follower shows what the leader does.
func TestAFollowerFollows(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 2, eventstoretest.Conditions{Lag: 5 * time.Millisecond})
	leader, follower := dial(t, s.Address(0)), dial(t, s.Address(1))
	live := follower.open(t.Context(), subscribed)
	for n := range 50 {
		leader.must("s", n-1, newID())
	}
	want := leader.read()
	eventually(t, "they are equal", func() bool { return slices.Equal(follower.read(), want) })
	for next := 0; next < 50; {
		a, err := live.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if a.GetEvent() != nil && !isSystem(a) {
			if text(a) != strconv.Itoa(next) {
				t.Errorf("%s comes, want %d", text(a), next)
			}
			next++
		}
	}
}

// The leader resigns with calls open.
func TestTheLeaderMoves(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 3, eventstoretest.Conditions{Lag: time.Millisecond, Election: never})
	old, next := dial(t, s.Address(0)), dial(t, s.Address(2))
	ctx := requiringLeader(t.Context())
	required, err := old.BatchAppend(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := result(batches(t, required, batch("s", -1, newID()))[0]); got != "at 0" {
		t.Errorf("before: %s", got)
	}
	live := old.open(ctx, subscribed, of("s"))
	if _, err := live.Recv(); err != nil {
		t.Fatal(err)
	}

	s.MoveLeader(2)
	wantMembers(t, s, 1, "Unknown", "Unknown", "Unknown")
	for range 2 {
		if got := result(batches(t, required, batch("s", 0, newID()))[0]); got != "0 Server Is Not Ready google.protobuf.Empty" {
			t.Errorf("meanwhile: %s", got)
		}
	}
	_, err = old.append(t.Context(), "s", 0, newID())
	wantCode(t, "append", err, codes.Unavailable, "Server Is Not Ready")
	_, err = next.append(ctx, "s", 0, newID())
	wantCode(t, "append", err, codes.Unavailable, "Server Is Not Ready")
	_, err = next.open(ctx, of("s")).Recv()
	wantCode(t, "read", err, codes.Unavailable, "Server Is Not Ready")
	if got := old.read(of("s")); !slices.Equal(got, []string{"0"}) {
		t.Errorf("a read that does not require the leader: %q", got)
	}

	s.Elect(2)
	if s.Leader() != 2 {
		t.Errorf("the leader is %d", s.Leader())
	}
	wantMembers(t, s, 1, "Follower", "Follower", "Leader")
	if err := required.Send(batch("s", 0, newID())); err != nil {
		t.Fatal(err)
	}
	_, err = required.Recv()
	wantNotLeader(t, "the batches", s, 2, err, required.Trailer())
	if a, err := next.append(ctx, "s", 0, newID()); err != nil || a.GetSuccess() == nil {
		t.Errorf("the new leader: %v, %v", a, err)
	}
	eventually(t, "the subscription goes on", func() bool {
		a, err := live.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return text(a) == "1"
	})
}

// A store that knows all members appends and reads while the leader moves, dies and comes back.
func TestTheLeaderDies(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 3, eventstoretest.Conditions{Election: 10 * time.Millisecond})
	s.ExpectDropped() // a store that repeats an append at once
	store := s.Open(t, eventstore.Options{Connections: 1})
	revision := eventstore.NoStream
	appends := func() {
		t.Helper()
		event := proposed()
		eventually(t, "an append is done", func() bool {
			_, err := store.Append(t.Context(), "s", revision, event)
			return err == nil
		})
		revision++
	}
	appends()
	for range 3 {
		dead := s.Leader()
		killed := dial(t, s.Address(dead))
		live := killed.open(t.Context(), subscribed)
		if _, err := live.Recv(); err != nil {
			t.Fatal(err)
		}
		s.Kill(dead)
		for {
			if _, err := live.Recv(); err != nil {
				if status.Code(err) != codes.Unavailable {
					t.Errorf("its subscription ends with %v", err)
				}
				break
			}
		}
		if conn, err := net.Dial("tcp", s.Address(dead)); err == nil {
			t.Errorf("%v listens", conn.RemoteAddr())
		}
		leader := s.Leader()
		if leader == dead {
			t.Errorf("%d leads and is dead", dead)
		}
		if states := members(t, s, leader); states[dead] != "dead" || states[leader] != "Leader" {
			t.Errorf("%q", states)
		}
		appends()
		s.Start(dead)
		if states := members(t, s, dead); states[dead] != "Follower" {
			t.Errorf("%q", states)
		}
	}
	s.MoveLeader((s.Leader() + 1) % 3)
	appends()
	if got, want := len(dial(t, s.Address(s.Leader())).read(of("s"))), int(revision)+1; got != want {
		t.Errorf("%d events, want %d", got, want)
	}

	// Without a majority nobody leads.
	alive := s.Leader()
	s.Kill((alive + 1) % 3)
	s.Kill((alive + 2) % 3)
	_, err := dial(t, s.Address(alive)).append(t.Context(), "s", int(revision), newID())
	wantCode(t, "append", err, codes.Unavailable, "Server Is Not Ready")
	s.Start((alive + 1) % 3)
	s.Leader()
}

// The ends of two members differ.
func TestEndsDiffer(t *testing.T) {
	t.Parallel()
	s, _ := before(t, 2, eventstoretest.Conditions{Lag: never})
	open := func(member int) *eventstore.Store {
		return eventstoretest.Before(t, s.Address(member)).Open(t, eventstore.Options{})
	}
	leader, follower := open(0), open(1)
	begins := end(t, s)
	appended, err := leader.Append(t.Context(), "s", eventstore.NoStream, proposed())
	if err != nil {
		t.Fatal(err)
	}
	if end, err := leader.End(t.Context()); end != appended.Position || err != nil {
		t.Errorf("the leader's log ends at %d, %v; want %d", end, err, appended.Position)
	}
	if end, err := follower.End(t.Context()); uint64(end) != begins || err != nil {
		t.Errorf("the follower's log ends at %d, %v", end, err)
	}
}
