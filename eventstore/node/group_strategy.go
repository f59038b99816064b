package node

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
)

// The strategies by which a group chooses the client for an event.
const (
	dispatchToSingle    = "DispatchToSingle"
	roundRobin          = "RoundRobin"
	pinnedToStream      = "Pinned"
	pinnedToCorrelation = "PinnedByCorrelation"
)

// pinBuckets is the number of shares that streams, or correlations, fall into; each is one client's.
const pinBuckets = 1024

func compare(a, b int64) int { return cmp.Compare(a, b) }

// choose returns the client for a delivery, nil if none that may have it has room.
func (g *group) choose(d *delivery) *groupClient {
	switch g.settings.NamedConsumerStrategy {
	case pinnedToStream, pinnedToCorrelation:
		if c := g.pinned[d.bucket]; c != nil && c.inFlight < c.slots {
			return c
		}
		return nil
	case dispatchToSingle:
		for _, c := range g.clients {
			if c.inFlight < c.slots {
				return c
			}
		}
		return nil
	}
	for range g.clients {
		c := g.clients[g.nextClient%len(g.clients)]
		g.nextClient = (g.nextClient + 1) % len(g.clients)
		if c.inFlight < c.slots {
			return c
		}
	}
	return nil
}

// bucketOf is the share that an event falls into: by the stream that it is of, or links to, or by its correlation id.
func (g *group) bucketOf(e *event) int {
	pinned := g.settings.NamedConsumerStrategy
	if pinned != pinnedToStream && pinned != pinnedToCorrelation {
		return 0
	}
	key := e.stream()
	if _, stream, ok := parseLink(e); ok {
		key = []byte(stream)
	}
	if pinned == pinnedToCorrelation {
		if target, err := g.log.resolve(e); err == nil && target.event != nil {
			e = target.event
		}
		var metadata struct {
			CorrelationID string `json:"$correlationId"`
		}
		if json.Unmarshal(e.metadata(), &metadata) == nil && metadata.CorrelationID != "" {
			key = []byte(metadata.CorrelationID)
		}
	}
	h := fnv.New32a()
	h.Write(key)
	return int(h.Sum32() % pinBuckets)
}

// pin gives a new client its share of the buckets, from those that have more.
func (g *group) pin(c *groupClient) {
	share := pinBuckets / len(g.clients)
	owned := map[*groupClient]int{}
	for _, owner := range g.pinned {
		owned[owner]++
	}
	for i, owner := range g.pinned {
		if owned[c] >= share {
			return
		}
		if owner == nil || owned[owner] > share {
			owned[owner]--
			owned[c]++
			g.pinned[i] = c
		}
	}
}

// unpin gives the buckets of a client that has left to the others.
func (g *group) unpin(gone *groupClient) {
	next := 0
	for i, owner := range g.pinned {
		if owner != gone {
			continue
		}
		g.pinned[i] = nil
		if len(g.clients) > 0 {
			g.pinned[i] = g.clients[next%len(g.clients)]
			next++
		}
	}
}
