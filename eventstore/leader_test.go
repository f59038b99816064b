package eventstore_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// follower is a member that may or may not lead, before the same event store as the others.
type follower struct {
	leader  atomic.Pointer[string] // the address it names as the leader's; nil if it leads itself
	address string
	refused atomic.Int64
	mu      sync.Mutex
	seen    map[string][]string // values of requires-leader in its calls, by method; "" for none
}

func startFollower(t *testing.T, to string) *follower {
	f := &follower{seen: map[string][]string{}}
	_, f.address = startRelay(t, to, f.admit)
	return f
}

func (f *follower) admit(call grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(call.Context())
	required := ""
	if values := md.Get("requires-leader"); len(values) > 0 {
		required = values[0]
	}
	method, _ := grpc.MethodFromServerStream(call)
	f.mu.Lock()
	f.seen[method] = append(f.seen[method], required)
	f.mu.Unlock()
	leader := f.leader.Load()
	if leader == nil || required != "true" || method == serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName {
		return nil
	}
	f.refused.Add(1)
	host, port, _ := net.SplitHostPort(*leader)
	call.SetTrailer(metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port))
	return status.Error(codes.NotFound, "Leader info available")
}

// Calls that commands depend on require the leader, on the wire; those of lists and recovery do not.
func TestTheLeaderIsRequired(t *testing.T) {
	t.Parallel()
	member := startFollower(t, eventstoretest.Node(t).Address())
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + member.address + "?tls=false"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stream := newStream()
	at := mustAppend(t, s, stream, eventstore.NoStream, events(1)...)
	group := newGroup(t, s, nil)
	group.write(t, s, 1, 1)
	for name, test := range map[string]struct {
		ask  func(context.Context) error
		want string
	}{
		"append": {func(ctx context.Context) error {
			_, err := s.Append(ctx, newStream(), eventstore.Any, events(1)...)
			return err
		}, "true"},
		"save":  {func(ctx context.Context) error { return s.SaveCheckpoint(ctx, newStream(), 1) }, "true"},
		"limit": {func(ctx context.Context) error { return s.SetMaxCount(ctx, newStream(), 1) }, "true"},
		"read":  {func(ctx context.Context) error { return lastError(s.ReadStream(ctx, stream, 0)) }, "true"},
		"at":    {func(ctx context.Context) error { _, _, err := s.EventAt(ctx, at.Position); return err }, "true"},
		"ping":  {s.Ping, "true"},
		"group": {func(ctx context.Context) error {
			_, err := s.EnsureGroup(ctx, group.name, group.settings)
			return err
		}, "true"},
		"consume": {func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			err := s.Consume(ctx, group.name, eventstore.ConsumeOptions{}, func(context.Context, eventstore.Delivery) eventstore.Settlement {
				cancel()
				return eventstore.Ack()
			})
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}, "true"},
		"end":  {func(ctx context.Context) error { _, err := s.End(ctx); return err }, ""},
		"load": {func(ctx context.Context) error { _, err := s.LoadCheckpoint(ctx, newStream()); return err }, ""},
		"subscription": {func(ctx context.Context) error {
			for b, err := range s.Subscribe(ctx, 0, eventstore.Filter{}) {
				if err != nil || b.CaughtUp {
					return err
				}
			}
			return nil
		}, ""},
	} {
		member.mu.Lock()
		clear(member.seen)
		member.mu.Unlock()
		if err := test.ask(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		member.mu.Lock()
		for method, required := range member.seen {
			if slices.ContainsFunc(required, func(r string) bool { return r != test.want }) {
				t.Errorf("%s: %s with %q, want %q", name, method, required, test.want)
			}
		}
		if len(member.seen) == 0 {
			t.Errorf("%s: nothing was asked", name)
		}
		member.mu.Unlock()
	}
}

func lastError[E any](seq func(func(E, error) bool)) (last error) {
	for _, last = range seq {
	}
	return last
}

// The connection string names one member, which does not lead: calls go to the one that it names as the leader, until that one does not
// lead either.
func TestALeaderIsNamed(t *testing.T) {
	t.Parallel()
	behind := eventstoretest.Node(t)
	first, second := startFollower(t, behind.Address()), startFollower(t, behind.Address())
	closed := eventstoretest.ClosedPort(t)
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + first.address + "?tls=false", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := func(s *eventstore.Store) {
		t.Helper()
		for kind, ask := range operations {
			if kind == "subscription" {
				continue
			}
			if err := ask(t.Context(), s); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	all(s)
	first.leader.Store(&second.address)
	all(s)
	if n := first.refused.Load(); n != 1 {
		t.Errorf("the first member was asked %d times after it had ceased to lead", n)
	}
	second.leader.Store(&first.address)
	first.leader.Store(nil)
	all(s)
	if n := second.refused.Load(); n != 1 {
		t.Errorf("the second member was asked %d times after it had ceased to lead", n)
	}

	// The members name each other, or one that is down, until one leads.
	for _, leader := range []string{second.address, closed} {
		first.leader.Store(&leader)
		impatient, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + first.address + "?tls=false", Timeout: short})
		if err != nil {
			t.Fatal(err)
		}
		defer impatient.Close()
		before, waits := first.refused.Load()+second.refused.Load(), int64(0)
		for kind, ask := range operations {
			if kind == "subscription" {
				continue
			}
			err := untilCertain(func() error { waits++; return ask(t.Context(), impatient) })
			if !errors.Is(err, eventstore.ErrUnavailable) {
				t.Errorf("%s, nobody leads: %v", kind, err)
			}
		}
		if n := first.refused.Load() + second.refused.Load() - before; n > 20*waits {
			t.Errorf("asked %d times in %d short waits", n, waits)
		}
		var waiting sync.WaitGroup
		for range 20 {
			waiting.Go(func() { all(s) })
		}
		first.leader.Store(nil)
		waiting.Wait()
		awaitPing(t, impatient)
	}
}

// untilCertain asks again while the outcome is unknown. However long its time-out is, an append may run out of time while a try is in flight to a
// member that will refuse it. Its outcome is unknown then. Mostly it runs out between two tries, and has certainly not been done.
func untilCertain(ask func() error) (err error) {
	for range 20 {
		if err = ask(); !errors.Is(err, eventstore.ErrOutcomeUnknown) {
			break
		}
	}
	return err
}

// Calls that begin just when a leader is found do not wait for the next one.
func TestNobodyMissesTheLeader(t *testing.T) {
	t.Parallel()
	behind := eventstoretest.Node(t)
	members := []*follower{startFollower(t, behind.Address()), startFollower(t, behind.Address())}
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + members[0].address + "?tls=false", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for move := range 15 {
		leads, follows := members[move%2], members[1-move%2]
		leads.leader.Store(nil)
		follows.leader.Store(&leads.address)
		var asking sync.WaitGroup
		for range 200 {
			asking.Go(func() {
				if err := s.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
	}
}
