package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

var errNoLeader = errors.New("the event store's cluster has no leader at present")

// discover asks all members that the connection string names at once, since some may be dead, for the address of the member to call, and
// takes the first answer.
func (r *route) discover() (address string, err error) {
	seeds := []string{r.config.Address}
	if !r.config.DnsDiscover {
		seeds = nil
		for _, seed := range r.config.GossipSeeds {
			seeds = append(seeds, seed.String())
		}
	}
	ctx, cancel := context.WithTimeout(r.closing, time.Duration(r.config.GossipTimeout)*time.Second)
	defer cancel()
	type answer struct {
		address string
		err     error
	}
	answers := make(chan answer, len(seeds))
	for _, seed := range seeds {
		r.work.Go(func() {
			address, err := r.ask(ctx, seed)
			answers <- answer{address, err}
		})
	}
	for range seeds {
		a := <-answers
		if a.err == nil {
			return a.address, nil
		}
		if err == nil || errors.Is(a.err, errNoLeader) { // which says more than that a member cannot be reached
			err = a.err
		}
	}
	return "", err
}

// ask asks one member for the address of the member to call.
func (r *route) ask(ctx context.Context, seed string) (address string, err error) {
	conn, err := grpc.NewClient(seed, r.options...)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	cluster, err := gossip.NewGossipClient(conn).Read(ctx, &shared.Empty{})
	if err != nil {
		return "", fmt.Errorf("ask %s for the cluster's members: %s", seed, status.Convert(err).Message())
	}
	m, err := r.choose(cluster.GetMembers())
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(m.GetHttpEndPoint().GetAddress(), strconv.Itoa(int(m.GetHttpEndPoint().GetPort()))), nil
}

// choose picks the member to call.
func (r *route) choose(members []*gossip.MemberInfo) (*gossip.MemberInfo, error) {
	members = slices.DeleteFunc(slices.Clone(members), func(m *gossip.MemberInfo) bool { return !m.GetIsAlive() || !serves(m.GetState()) })
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	for _, state := range preferred[r.preference] {
		if i := slices.IndexFunc(members, func(m *gossip.MemberInfo) bool { return m.GetState() == state }); i >= 0 {
			return members[i], nil
		}
	}
	switch {
	case r.leads:
		return nil, errNoLeader
	case len(members) == 0:
		return nil, errors.New("no member of the event store's cluster serves at present")
	}
	return members[0], nil
}

// preferred are the states that a member should have for a preference, best first.
var preferred = map[esdb.NodePreference][]gossip.MemberInfo_VNodeState{
	esdb.NodePreferenceLeader:   {gossip.MemberInfo_Leader},
	esdb.NodePreferenceFollower: {gossip.MemberInfo_Follower},
	esdb.NodePreferenceReadOnlyReplica: {
		gossip.MemberInfo_ReadOnlyReplica, gossip.MemberInfo_PreReadOnlyReplica, gossip.MemberInfo_ReadOnlyLeaderless,
	},
}

// serves reports whether a member in that state answers reads.
func serves(state gossip.MemberInfo_VNodeState) bool {
	switch state {
	case gossip.MemberInfo_Leader, gossip.MemberInfo_Follower, gossip.MemberInfo_ReadOnlyReplica, gossip.MemberInfo_PreReadOnlyReplica,
		gossip.MemberInfo_ReadOnlyLeaderless:
		return true
	}
	return false
}
