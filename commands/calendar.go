package commands

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"roombook/domain"
)

// calendars are the calendars of rooms. Folded ones are cached, so that a free slot can be taken without a read. A cached calendar may be
// behind its stream: an append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics
	cache   *cache
	shared  atomic.Bool    // another process is known to write calendars too
	keepFor time.Duration  // how long a reservation that has ended is remembered
	keepFew int            // how many of those that ended before that are remembered all the same
	zone    *time.Location // of rooms without one of their own
	now     atomic.Pointer[time.Time]
	whole   chan struct{} // holds a value for each whole stream that is being read or decided on

	snapshots snapshots

	mu     sync.Mutex
	queues map[domain.RoomID]*roomQueue // of the rooms that are being used
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

func (c *calendar) bytes() int { return calendarBytes + c.Len()*reservationBytes + c.MoreBytes() }

// DefaultCalendarKeep is the default of [Options].CalendarKeep.
const DefaultCalendarKeep = 7 * 24 * time.Hour

func newCalendars(store Store, cache *cache, keepFor time.Duration, zone *time.Location, m *metrics) *calendars {
	return &calendars{
		store: store, metrics: m, cache: cache, keepFor: keepFor, keepFew: maxEarlier + 6, zone: zone,
		whole:     make(chan struct{}, max(1, runtime.NumCPU()/2)),
		snapshots: snapshots{store: store, metrics: m, every: snapshotEvery, peek: snapshotPeek},
		queues:    make(map[domain.RoomID]*roomQueue),
	}
}

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

// cached returns the room's calendar as it is cached, or nil.
func (c *calendars) cached(room domain.RoomID) *calendar {
	cal, _ := c.cache.get(room.Stream()).(*calendar)
	return cal
}

// keep caches the room's calendar in place of the former one.
func (c *calendars) keep(room domain.RoomID, cal *calendar) { c.cache.keep(room.Stream(), cal) }
