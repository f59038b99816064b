package node

import "sync/atomic"

const (
	ringEvents = 8192
	ringBytes  = 8 << 20
)

// ring holds the newest events of the log in memory, bounded in number and bytes, so that subscriptions that keep up, and
// reads of what was just written, need no database. One goroutine at a time adds; any number may get at the same time.
type ring struct {
	slots  [ringEvents]atomic.Pointer[event]
	oldest uint64 // position of the oldest event held, or of the next to come
	next   uint64
	bytes  int
}

// reset empties the ring; the next event added has this position.
func (r *ring) reset(next uint64) { r.oldest, r.next = next, next }

// add takes the event that follows the one added last.
func (r *ring) add(e *event) {
	for r.next-r.oldest >= ringEvents || r.bytes+len(e.record) > ringBytes && r.oldest < r.next {
		slot := &r.slots[r.oldest%ringEvents]
		r.bytes -= len(slot.Load().record)
		slot.Store(nil)
		r.oldest++
	}
	r.slots[e.position%ringEvents].Store(e)
	r.bytes += len(e.record)
	r.next++
}

// get returns the event at position, or nil if the ring does not hold it.
func (r *ring) get(position uint64) *event {
	if e := r.slots[position%ringEvents].Load(); e != nil && e.position == position {
		return e
	}
	return nil
}
