package commands

import (
	"sync"
	"sync/atomic"

	"roombook/domain"
)

// calendars are the calendars of rooms. Folded ones are cached, so that a free slot can be taken without a read. A cached calendar may be
// behind its stream: an append at its revision then fails, and a refusal is only believed after reading what is new.
type calendars struct {
	store   Store
	metrics *metrics
	cache   *cache
	shared  atomic.Bool // another process is known to write calendars too

	mu     sync.Mutex
	queues map[domain.RoomID]*roomQueue // of the rooms that are being used
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

func newCalendars(store Store, cache *cache, m *metrics) *calendars {
	return &calendars{store: store, metrics: m, cache: cache, queues: make(map[domain.RoomID]*roomQueue)}
}

// cached returns the room's calendar as it is cached, or nil.
func (c *calendars) cached(room domain.RoomID) *calendar {
	cal, _ := c.cache.get(room.Stream()).(*calendar)
	return cal
}

// keep caches the room's calendar in place of the former one.
func (c *calendars) keep(room domain.RoomID, cal *calendar) { c.cache.keep(room.Stream(), cal) }
