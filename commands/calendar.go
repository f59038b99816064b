package commands

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roombook/domain"
)

// calendars caches folded calendars, so that a free slot can be taken without a read. A cached calendar may be behind its stream: an
// append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics

	mu     sync.Mutex
	queues map[domain.RoomID]*roomQueue // of the rooms that are being used
	cache  *simplelru.LRU[domain.RoomID, *calendar]
	bytes  int
	limit  int
}

// calendar is a folded calendar and the revision it was folded to. It is immutable.
type calendar struct {
	domain.Calendar
	revision domain.Revision
}

// Approximate sizes of what is cached, measured on a heap with 100,000 reservations.
const (
	calendarBytes    = 1024
	reservationBytes = 640
)

func (c *calendar) bytes() int { return calendarBytes + c.Len()*reservationBytes }

func newCalendars(store Store, limit int, m *metrics) *calendars {
	c := &calendars{store: store, metrics: m, queues: make(map[domain.RoomID]*roomQueue), limit: limit}
	// keep bounds the LRU in bytes; its own bound, on entries, only has to be large enough.
	c.cache, _ = simplelru.NewLRU[domain.RoomID, *calendar](limit/calendarBytes+1, nil)
	return c
}

// forget empties the cache. Nobody may be using it.
func (c *calendars) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.Purge()
	c.bytes = 0
	c.metrics.cacheBytes.Set(0)
}

// keep caches the room's calendar in place of the former one, if it fits at all: one that does not would evict all others in vain.
func (c *calendars) keep(room domain.RoomID, cal *calendar) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.cache.Peek(room); ok {
		c.cache.Remove(room)
		c.bytes -= old.bytes()
	}
	if cal.bytes() <= c.limit {
		c.cache.Add(room, cal)
		c.bytes += cal.bytes()
	}
	for c.bytes > c.limit {
		_, old, _ := c.cache.RemoveOldest()
		c.bytes -= old.bytes()
	}
	c.metrics.cacheBytes.Set(float64(c.bytes))
}
