package eventstoretest

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"roombook/eventstore"
)

// Conditions are how late things happen in [Servers].
type Conditions struct {
	// Indexing is the longest time from when an append is accepted until it can be read and is acknowledged; the shortest is an eighth
	// of it. 0 is 8 ms.
	Indexing time.Duration
	// Lag is how far a follower is behind for readers. 0 is 100 ms.
	Lag time.Duration
	// Forwarding is how much longer a follower takes for an append, which it forwards to the leader. 0 is 20 ms.
	Forwarding time.Duration
	// Election is how long there is no leader after the last one has gone. 0 is 300 ms.
	Election time.Duration
}

// nobody is the leader during an election.
const nobody = -1

// Servers are an event store that answers as EventStoreDB does where the node is more lenient: a single server, or a cluster with a
// leader. They keep their data in the event store behind them, which all members share.
//
// An append is accepted at once. It can be read, and is acknowledged, some milliseconds later, in the order of the log. An append that
// loses a race is answered at once, before the winner's events can be read. An append that repeats one that cannot be read yet is
// dropped: it is answered only after three seconds, with a time-out.
//
// Followers answer reads and subscriptions as of some time ago, and forward appends to the leader. They refuse a call that requires
// the leader, and name it. Goroutines may share it.
type Servers struct {
	t          testing.TB
	conditions Conditions
	noBatches  bool // BatchAppend is lacking
	upstream   *grpc.ClientConn
	closing    context.Context // bounds calls that go on without their caller

	mu        sync.Mutex
	members   []*member
	leader    int // or nobody
	candidate int // in the present election
	election  *time.Timer
	index     index
	mayDrop   bool
}

// member is one server.
type member struct {
	servers  *Servers
	number   int
	instance *shared.UUID
	address  string

	// Guarded by the mutex of servers:
	advertised string
	server     *grpc.Server // nil while it is down
	served     chan error
	minVisible uint64 // what could be read from it when it last led
}

// Real is a single server that answers as EventStoreDB does, before the server that tests are to use or a node. It is closed at the end
// of the test, which fails if an append was dropped; see [Servers.ExpectDropped].
func Real(t testing.TB) *Servers {
	t.Helper()
	return Cluster(t, 1)
}

// Cluster is a [Real] of several members. The first leads.
func Cluster(t testing.TB, members int) *Servers {
	t.Helper()
	return ClusterBefore(t, Backend(t), members, Conditions{})
}

// ClusterBefore is a [Cluster] before the event store of a connection string. Nobody else should write to that at the same time: what
// they write may become readable only after the appends in flight.
func ClusterBefore(t testing.TB, connectionString string, members int, conditions Conditions) *Servers {
	t.Helper()
	conditions.Indexing = cmp.Or(conditions.Indexing, 8*time.Millisecond)
	conditions.Lag = cmp.Or(conditions.Lag, 100*time.Millisecond)
	conditions.Forwarding = cmp.Or(conditions.Forwarding, 20*time.Millisecond)
	conditions.Election = cmp.Or(conditions.Election, 300*time.Millisecond)

	addresses := make([]string, members)
	for i := range addresses {
		addresses[i] = ClosedPort(t)
	}
	upstream, err := grpc.NewClient(single(t, connectionString),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connectionWindow),
	)
	if err != nil {
		t.Fatal(err)
	}
	closing, cancel := context.WithCancel(context.Background())
	s := &Servers{t: t, conditions: conditions, noBatches: os.Getenv(WithoutBatchAppend) != "", upstream: upstream, closing: closing}
	s.index = index{maxDelay: conditions.Indexing, inFlight: map[*inFlight]bool{}}
	s.index.timer = time.AfterFunc(time.Hour, s.advance)
	s.election = time.AfterFunc(time.Hour, s.elect)
	s.election.Stop()
	t.Cleanup(func() {
		cancel()
		for i := range s.members {
			s.stop(i)
		}
		s.mu.Lock()
		s.election.Stop()
		s.index.timer.Stop()
		dropped, mayDrop := s.index.dropped, s.mayDrop
		s.mu.Unlock()
		if err := upstream.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if dropped > 0 && !mayDrop {
			t.Errorf("EventStoreDB would have dropped %d appends: each repeated one that could not be read yet", dropped)
		}
	})

	end, err := s.end()
	if err != nil {
		t.Fatalf("read the end of the log: %v", err)
	}
	s.index.visible, s.index.highest = end, end
	if members > 1 {
		s.index.keep = conditions.Lag
		s.index.history = []visibility{{time.Time{}, end}}
	}
	for i := range members {
		id := uuid.New()
		s.members = append(s.members, &member{
			servers:    s,
			number:     i,
			instance:   &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}},
			address:    addresses[i],
			advertised: addresses[i],
		})
		s.Start(i)
	}
	return s
}

// end is the position of the log's last event.
func (s *Servers) end() (uint64, error) {
	ctx, cancel := context.WithCancel(s.closing)
	defer cancel()
	empty := &shared.Empty{}
	read, err := s.open(ctx, Read, encode(&streams.ReadReq{Options: &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
			AllOption: &streams.ReadReq_Options_AllOptions_End{End: empty},
		}},
		ReadDirection: streams.ReadReq_Options_Backwards,
		CountOption:   &streams.ReadReq_Options_Count{Count: 1},
		FilterOption:  &streams.ReadReq_Options_NoFilter{NoFilter: empty},
		UuidOption: &streams.ReadReq_Options_UUIDOption{
			Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: empty},
		},
	}}))
	if err != nil {
		return 0, err
	}
	var last uint64
	for {
		answer, err := receive(read)
		switch {
		case isEnd(err):
			return last, nil
		case err != nil:
			return 0, err
		}
		if a := parseReadResp(answer); a.kind == respEvent {
			last = a.position
		}
	}
}

// ConnectionString names all members.
func (s *Servers) ConnectionString() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	addresses := make([]string, len(s.members))
	for i, m := range s.members {
		addresses[i] = m.advertised
	}
	return "esdb://" + strings.Join(addresses, ",") + "?tls=false"
}

// Open returns a store on the servers. It sets the connection string of the options. The store is closed at the end of the test.
func (s *Servers) Open(t testing.TB, o eventstore.Options) *eventstore.Store {
	t.Helper()
	return open(t, s.ConnectionString(), o)
}

// Address is where a member listens.
func (s *Servers) Address(member int) string { return s.members[member].address }

// Advertise makes the members name another address for one of them: that of a [Controlled] before it.
func (s *Servers) Advertise(member int, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[member].advertised = address
}

// Dropped is the number of appends that were dropped, without those that repeated another only when EventStoreDB would have made it readable.
func (s *Servers) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.dropped
}

// ExpectDropped keeps dropped appends from failing the test.
func (s *Servers) ExpectDropped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mayDrop = true
}

// Leader is the number of the member that leads. During an election it waits.
func (s *Servers) Leader() int {
	s.t.Helper()
	for {
		s.mu.Lock()
		leader := s.leader
		changed := s.index.nextChange()
		s.mu.Unlock()
		if leader != nobody {
			return leader
		}
		select {
		case <-changed:
		case <-s.t.Context().Done():
			s.t.Fatal("there is no leader")
		}
	}
}

// MoveLeader makes the leader resign and starts an election that the given member wins. Calls stay open; until then appends are
// refused, and so are calls that require the leader.
func (s *Servers) MoveLeader(to int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resignLocked()
	s.candidate = to
	s.reconsiderLocked()
}

// Elect makes the member the leader at once.
func (s *Servers) Elect(member int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resignLocked()
	s.candidate = member
	s.electLocked()
}

// Kill closes the member's listener and cuts its connections. If it led, an election begins. If fewer than half of the members are left,
// nobody leads.
func (s *Servers) Kill(member int) {
	s.mu.Lock()
	if s.leader == member {
		s.resignLocked()
	}
	s.mu.Unlock()
	s.stop(member)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reconsiderLocked()
}

// Start makes a killed member listen again, at the same address.
func (s *Servers) Start(member int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[member]
	if m.server != nil {
		return
	}
	l, err := net.Listen("tcp", m.address)
	if err != nil {
		s.t.Fatalf("listen: %v", err)
	}
	m.server = grpc.NewServer(
		grpc.UnknownServiceHandler(m.handle),
		grpc.ForceServerCodecV2(raw{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveInterval}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveInterval / 2, PermitWithoutStream: true}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.WaitForHandlers(true),
	)
	m.served = make(chan error, 1)
	go func(server *grpc.Server, served chan<- error) { served <- server.Serve(l) }(m.server, m.served)
	s.reconsiderLocked()
}

// stop stops a member and waits for the end of its calls.
func (s *Servers) stop(member int) {
	s.mu.Lock()
	m := s.members[member]
	server, served := m.server, m.served
	m.server = nil
	s.mu.Unlock()
	if server == nil {
		return
	}
	server.Stop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		s.t.Errorf("serve: %v", err)
	}
}

// resignLocked leaves the members without a leader. What could be read from the former leader still can.
func (s *Servers) resignLocked() {
	if s.leader != nobody {
		s.members[s.leader].minVisible = s.index.visible
	}
	s.leader = nobody
	s.index.change()
}

// reconsiderLocked starts an election if there are enough members for a leader, and otherwise ends the leader's term.
func (s *Servers) reconsiderLocked() {
	up := 0
	for _, m := range s.members {
		if m.server != nil {
			up++
		}
	}
	switch {
	case 2*up < len(s.members):
		s.resignLocked()
		s.election.Stop()
	case s.leader != nobody:
	case len(s.members) == 1:
		s.electLocked()
	default:
		s.election.Reset(s.conditions.Election)
	}
}

// elect ends an election.
func (s *Servers) elect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == nobody {
		s.electLocked()
	}
}

func (s *Servers) electLocked() {
	s.election.Stop()
	for i := range s.members {
		if n := (s.candidate + i) % len(s.members); s.members[n].server != nil {
			s.leader = n
			s.index.change()
			return
		}
	}
}

func (s *Servers) advance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.advanceLocked()
}

// gossip is what the members say about each other.
func (s *Servers) gossip() *gossip.ClusterInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := &gossip.ClusterInfo{}
	for i, m := range s.members {
		state := gossip.MemberInfo_Follower
		switch {
		case s.leader == i:
			state = gossip.MemberInfo_Leader
		case s.leader == nobody:
			state = gossip.MemberInfo_Unknown
		}
		info.Members = append(info.Members, &gossip.MemberInfo{
			InstanceId:   m.instance,
			TimeStamp:    time.Now().UnixNano() / 100, // ticks since the epoch
			State:        state,
			IsAlive:      m.server != nil,
			HttpEndPoint: endpoint(m.advertised),
		})
	}
	return info
}
