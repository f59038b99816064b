package node

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
)

// gossipService tells clients that discover a cluster about the only member.
type gossipService struct {
	gossip.UnimplementedGossipServer
	instance  uuid.UUID
	listening string // host:port
}

func newGossipService(listening net.Addr) *gossipService {
	return &gossipService{instance: uuid.New(), listening: listening.String()}
}

// Read names the member by the address that the client has reached it at, be it through a name or a forwarded port.
func (g *gossipService) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	host, port := splitAddress(g.listening)
	if incoming, ok := metadata.FromIncomingContext(ctx); ok {
		for _, authority := range incoming.Get(":authority") {
			if h, p := splitAddress(authority); p != 0 {
				host, port = h, p
			}
		}
	}
	most, least := structured(eventID(g.instance))
	return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
		InstanceId: &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
			MostSignificantBits: int64(most), LeastSignificantBits: int64(least),
		}}},
		TimeStamp:    ticks(time.Now()),
		State:        gossip.MemberInfo_Leader,
		IsAlive:      true,
		HttpEndPoint: &gossip.EndPoint{Address: host, Port: port},
	}}}, nil
}

// splitAddress takes host:port apart. The port is 0 if there is none.
func splitAddress(address string) (host string, port uint32) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0
	}
	return host, uint32(number)
}
