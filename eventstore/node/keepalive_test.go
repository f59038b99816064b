package node

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pipes is a listener without a network, so that time can run in a bubble.
type pipes struct{ *bufconn.Listener }

func (pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// bubble runs a test on a node, with a connection that pings as EventStoreDB's clients do, in time that passes by itself.
func bubble(t *testing.T, test func(t *testing.T, n *Node, c streams.StreamsClient)) {
	synctest.Test(t, func(t *testing.T) {
		n, err := open(Options{}, "events", vfs.NewMem())
		if err != nil {
			t.Fatal(err)
		}
		n.BeginEmpty()
		l := pipes{bufconn.Listen(1 << 16)}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- n.Serve(ctx, l) }()
		c, err := grpc.NewClient("passthrough:pipes",
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}))
		if err != nil {
			t.Fatal(err)
		}
		test(t, n, streams.NewStreamsClient(c))
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestKeepalive: a subscription on which nothing happens for an hour lives, though its client pings all the time.
func TestKeepalive(t *testing.T) {
	bubble(t, func(t *testing.T, n *Node, c streams.StreamsClient) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sub, err := c.Read(ctx, &streams.ReadReq{Options: &streams.ReadReq_Options{
			StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
				AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
			}},
			CountOption:  &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}},
			FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
			UuidOption:   &streams.ReadReq_Options_UUIDOption{},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // confirmed, caught up
			if _, err := sub.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if _, err := n.log.append(ctx, change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); err != nil {
			t.Fatal(err)
		}
		m, err := sub.Recv()
		if err != nil || m.GetEvent() == nil {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

// TestMaxAge: events older than $maxAge are not shown.
func TestMaxAge(t *testing.T) {
	bubble(t, func(t *testing.T, n *Node, c streams.StreamsClient) {
		write := func(stream, data string) {
			e := &event{record: newRecord(stream, eventID(uuid.New()), []byte("A"), true, nil, []byte(data))}
			if _, err := n.log.append(t.Context(), change{stream: stream, expected: expectAny, events: []*event{e}}); err != nil {
				t.Fatal(err)
			}
		}
		revisions := func(direction streams.ReadReq_Options_ReadDirection, from uint64) (revisions []uint64) {
			r, err := c.Read(t.Context(), &streams.ReadReq{Options: &streams.ReadReq_Options{
				StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
					StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("s")},
					RevisionOption:   &streams.ReadReq_Options_StreamOptions_Revision{Revision: from},
				}},
				ReadDirection: direction,
				CountOption:   &streams.ReadReq_Options_Count{Count: 10},
				FilterOption:  &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
				UuidOption:    &streams.ReadReq_Options_UUIDOption{},
			}})
			if err != nil {
				t.Fatal(err)
			}
			for {
				m, err := r.Recv()
				if err == io.EOF {
					return revisions
				}
				if err != nil {
					t.Fatal(err)
				}
				revisions = append(revisions, m.GetEvent().GetEvent().GetStreamRevision())
			}
		}
		check := func(want ...uint64) {
			t.Helper()
			forward := revisions(streams.ReadReq_Options_Forwards, 0)
			backward := revisions(streams.ReadReq_Options_Backwards, 9)
			if len(forward) != len(want) || len(backward) != len(want) {
				t.Fatalf("got %v and %v, want %v", forward, backward, want)
			}
			for i, revision := range want {
				if forward[i] != revision || backward[len(want)-1-i] != revision {
					t.Fatalf("got %v and %v, want %v", forward, backward, want)
				}
			}
		}
		write("$$s", `{"$maxAge":60}`)
		write("s", "{}")
		time.Sleep(40 * time.Second)
		write("s", "{}")
		check(0, 1)
		time.Sleep(30 * time.Second)
		check(1)
		time.Sleep(time.Hour)
		check()
	})
}
