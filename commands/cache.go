package commands

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache holds folded streams, calendars and aggregates alike, in a limited amount of memory; the least recently used are evicted. What it
// holds may be behind its stream, but is never ahead of it. Goroutines may share a cache.
type cache struct {
	metrics *metrics
	limit   int // in bytes

	mu    sync.Mutex
	lru   *simplelru.LRU[string, cached] // by stream
	bytes int
}

// cached is a folded stream. Nothing that it leads to is ever written to.
type cached interface {
	bytes() int // about how much memory it takes
}

func newCache(limit int, m *metrics) *cache {
	c := &cache{metrics: m, limit: limit}
	c.lru, _ = simplelru.NewLRU[string, cached](math.MaxInt, nil) // keep bounds it
	return c
}

// get returns what is held of the stream, or nil.
func (c *cache) get(stream string) cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	held, _ := c.lru.Get(stream)
	return held
}

// keep holds what was folded of the stream in place of what was held before, if it fits at all: if it does not, it would evict all else in
// vain. Nil holds nothing of the stream.
func (c *cache) keep(stream string, folded cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.lru.Peek(stream); ok {
		c.lru.Remove(stream)
		c.bytes -= old.bytes()
	}
	if folded != nil && folded.bytes() <= c.limit {
		c.lru.Add(stream, folded)
		c.bytes += folded.bytes()
	}
	for c.bytes > c.limit {
		_, old, _ := c.lru.RemoveOldest()
		c.bytes -= old.bytes()
	}
	c.metrics.cacheBytes.Set(float64(c.bytes))
}

// forget empties the cache. Nobody may be using it.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Purge()
	c.bytes = 0
	c.metrics.cacheBytes.Set(0)
}
