package commands

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roombook/domain"
)

// calendars keeps folded calendars in memory, so that a free slot is taken without a read. What is kept may be behind the
// stream; an append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics

	mu     sync.Mutex
	queues map[domain.RoomID]*roomQueue // of the rooms that somebody is busy with
	cache  *simplelru.LRU[domain.RoomID, *calendar]
	bytes  int
	limit  int
}

// calendar is a folded calendar and the revision it was folded to. It is never written.
type calendar struct {
	domain.Calendar
	revision domain.Revision
}

// Sizes of what the cache keeps, about, measured on a heap with 100,000 reservations.
const (
	calendarBytes    = 1024
	reservationBytes = 640
)

func (c *calendar) bytes() int { return calendarBytes + c.Len()*reservationBytes }

func newCalendars(store Store, limit int, m *metrics) *calendars {
	c := &calendars{store: store, metrics: m, queues: make(map[domain.RoomID]*roomQueue), limit: limit}
	// The LRU is bounded by bytes, in keep; its own bound is on entries and only has to be out of the way.
	c.cache, _ = simplelru.NewLRU[domain.RoomID, *calendar](limit/calendarBytes+1, nil)
	return c
}

// forget forgets all calendars. Nobody may be using them.
func (c *calendars) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.Purge()
	c.bytes = 0
	c.metrics.cacheBytes.Set(0)
}

// keep keeps the room's calendar in place of the one that was kept, if it fits at all: one that does not would take the place of all
// others in vain.
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
