package commands

import (
	"context"
	"iter"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"roombook/domain"
	"roombook/eventstore"
)

// Store is what the write side needs of the event store. See [eventstore.Store] for the contract.
type Store interface {
	Incarnation() eventstore.Incarnation
	ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error]
	Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error)
	SetMaxCount(ctx context.Context, stream string, n int) error
}

// DefaultCacheBytes is the default of [Options].CacheBytes.
const DefaultCacheBytes = 128 << 20

// Options configure a [Handler].
type Options struct {
	Policy domain.Policy
	// CacheBytes is about how much memory cached calendars, bookings and real uses may take together; 0 is [DefaultCacheBytes]. The least
	// recently used are evicted.
	CacheBytes int
	// CalendarKeep is how long ago a reservation may have ended to stay in a cached calendar, by the times of the requests; 0 is
	// [DefaultCalendarKeep]. What is decided on earlier slots is decided on the whole stream of the room, which is read for it.
	CalendarKeep time.Duration
}

// Handler carries out commands and reads single resources. Goroutines may share it, and any number of handlers in any number
// of processes may share a store: correctness rests on the store's expected revisions alone.
//
// Its methods return the errors of package domain, [ErrContended], [ErrHistoryBusy], the context's error, and those of package eventstore:
// [eventstore.ErrUnavailable] if nothing was decided, [eventstore.ErrOutcomeUnknown] if the command may have been decided, and
// will be finished in that case.
type Handler struct {
	store    Store
	policy   domain.Policy
	inFlight inFlight
	glances  glances
	pictures *semaphore.Weighted // of those that are being converted
	metrics  *metrics

	// memory is read-locked by whatever uses what is cached of the log. It has to be free for the cache to be emptied.
	memory    sync.RWMutex
	of        eventstore.Incarnation // of the log that is cached
	cache     *cache
	calendars *calendars // cached there
}

// New returns a handler over the store.
func New(store Store, o Options) *Handler {
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.CalendarKeep == 0 {
		o.CalendarKeep = DefaultCalendarKeep
	}
	m := newMetrics()
	cache := newCache(o.CacheBytes, m)
	return &Handler{
		store:     store,
		of:        store.Incarnation(),
		policy:    o.Policy,
		cache:     cache,
		calendars: newCalendars(store, cache, o.CalendarKeep, o.Policy.Zone, m),
		inFlight:  inFlight{appends: make(map[string]*inFlightAppend)},
		glances:   glances{of: make(map[domain.BookingID]*glance)},
		pictures:  semaphore.NewWeighted(1),
		metrics:   m,
	}
}

// begin begins a command on the log that is cached. The command makes its calls with the context that begin returns, and calls end when it
// is done. If the log was replaced, begin first empties the cache; while commands on the former log are still running, it returns
// [eventstore.ErrReplaced].
func (h *Handler) begin(ctx context.Context) (on context.Context, end func(), err error) {
	for {
		h.memory.RLock()
		if now := h.store.Incarnation(); now == h.of {
			return eventstore.On(ctx, now), h.memory.RUnlock, nil
		}
		h.memory.RUnlock()
		if !h.memory.TryLock() {
			return nil, nil, eventstore.ErrReplaced
		}
		h.of = h.store.Incarnation()
		h.cache.forget()
		h.memory.Unlock()
	}
}
