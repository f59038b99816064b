package commands

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roombook/domain"
)

// calendars caches folded calendars, so that a free slot can be taken without a read. A cached calendar may be behind its stream: an
// append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics
	keepFor time.Duration // how long a reservation that has ended is remembered
	keepFew int           // how many of those that ended before that are remembered all the same
	now     atomic.Pointer[time.Time]

	snapshots snapshots

	mu     sync.Mutex
	queues map[domain.RoomID]*roomQueue // of the rooms that are being used
	cache  *simplelru.LRU[domain.RoomID, *calendar]
	bytes  int
	limit  int
}

// calendar is a folded calendar. It is immutable.
type calendar struct {
	domain.Calendar
	snapshot *atomic.Int64 // the revision of the last snapshot of the room that is known, -1 if none is
}

// Sizes of what is cached, measured: see TestACalendarWeighsWhatIsCounted.
const (
	calendarBytes    = 1024
	reservationBytes = 112
)

func newCalendar() *calendar {
	c := &calendar{snapshot: new(atomic.Int64)}
	c.snapshot.Store(-1)
	return c
}

func (c *calendar) bytes() int { return calendarBytes + c.Len()*reservationBytes + c.TextBytes() }

// DefaultCalendarKeep is the default of [Options].CalendarKeep.
const DefaultCalendarKeep = 7 * 24 * time.Hour

// tick tells the time of the latest request: what had ended long before that is not remembered. The clock may go back: a calendar remains
// complete from when it was.
func (c *calendars) tick(now time.Time) { c.now.Store(&now) }

// remembered returns the calendar without what ended too long ago.
func (c *calendars) remembered(cal domain.Calendar) domain.Calendar {
	if now := c.now.Load(); now != nil {
		return cal.Forget(now.Add(-c.keepFor), c.keepFew)
	}
	return cal
}

// forgotTooMuch reports whether the calendar lacks what ended in the last hour, or in the future: the clock that said when to forget was
// fast.
func (c *calendars) forgotTooMuch(cal domain.Calendar) bool {
	now := c.now.Load()
	return now != nil && !cal.CompleteFrom(now.Add(time.Hour))
}

func newCalendars(store Store, limit int, keepFor time.Duration, m *metrics) *calendars {
	c := &calendars{store: store, metrics: m, snapshots: snapshots{store: store, metrics: m, every: snapshotEvery, peek: snapshotPeek}, keepFor: keepFor, keepFew: maxEarlier + 6, queues: make(map[domain.RoomID]*roomQueue), limit: limit}
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
