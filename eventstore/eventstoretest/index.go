package eventstoretest

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"google.golang.org/grpc/status"
)

// index is how much of the log can be read. The event store behind shows an append as soon as it has accepted it; here it can be read, and
// is acknowledged, only some time later, in the order of the log. It is guarded by the mutex of the [Servers] it belongs to.
type index struct {
	maxDelay time.Duration
	keep     time.Duration // how far back history is needed

	visible  uint64             // the last position that can be read
	highest  uint64             // the last position known to have been written
	inFlight map[*inFlight]bool // appends that the event store behind has not answered
	pending  []*pending         // accepted appends that cannot be read yet, by position
	history  []visibility       // how visible grew, oldest first
	timer    *time.Timer        // for the first of pending
	changed  chan struct{}      // closed at the next change; nil while nobody waits for it
	dropped  int
}

// inFlight is an append that is not answered yet. Its events get positions above the highest that was known when it began.
type inFlight struct {
	after uint64
	begun time.Time
}

// pending is an append that is in the log.
type pending struct {
	inFlight
	position uint64 // of its last event
	ready    time.Time
	indexed  chan struct{} // closed when it can be read
}

// visibility is since when a position could be read.
type visibility struct {
	at      time.Time
	visible uint64
}

// beginLocked begins an append that is about to be passed on.
func (x *index) beginLocked() *inFlight {
	a := &inFlight{x.highest, time.Now()}
	x.inFlight[a] = true
	return a
}

// endLocked ends an append with the position of its last event, or with 0 if there is nothing to wait for. It returns what cannot be
// read yet; repeated says that this is an earlier append with the same events.
func (x *index) endLocked(a *inFlight, position uint64) (t *pending, repeated bool) {
	delete(x.inFlight, a)
	defer x.advanceLocked()
	x.change()
	if position <= x.visible {
		return nil, false
	}
	x.highest = max(x.highest, position)
	i, found := slices.BinarySearchFunc(x.pending, position, func(t *pending, p uint64) int { return cmp.Compare(t.position, p) })
	if found {
		return x.pending[i], true
	}
	delay := x.maxDelay/8 + rand.N(x.maxDelay-x.maxDelay/8)
	t = &pending{*a, position, time.Now().Add(delay), make(chan struct{})}
	x.pending = slices.Insert(x.pending, i, t)
	return t, false
}

// dropLocked counts an append that is dropped because it repeats another. It does not count one that came later than EventStoreDB would have
// needed to make the other readable: on a busy machine the event store behind may take longer.
func (x *index) dropLocked(again *inFlight, other *pending) {
	if again.begun.Sub(other.begun).Abs() <= x.maxDelay {
		x.dropped++
	}
}

// advanceLocked makes readable what is due.
func (x *index) advanceLocked() {
	for len(x.pending) > 0 {
		next := x.pending[0]
		if x.mayPrecede(next.position) {
			return
		}
		if early := time.Until(next.ready); early > 0 {
			x.timer.Reset(early)
			return
		}
		x.pending = slices.Delete(x.pending, 0, 1)
		x.show(next.position)
		close(next.indexed)
	}
}

// mayPrecede reports whether an append in flight may turn out to be before the position.
func (x *index) mayPrecede(position uint64) bool {
	for a := range x.inFlight {
		if a.after < position {
			return true
		}
	}
	return false
}

func (x *index) show(position uint64) {
	x.visible = position
	if x.keep > 0 {
		now := time.Now()
		x.history = append(x.history, visibility{now, position})
		if n := x.countUntil(now.Add(-x.keep)); n > 1024 {
			x.history = slices.Delete(x.history, 0, n-1)
		}
	}
	x.change()
}

// countUntil is the number of entries of the history up to a time.
func (x *index) countUntil(at time.Time) int {
	return sort.Search(len(x.history), func(i int) bool { return x.history[i].at.After(at) })
}

// visibleAt is the last position that could be read at a time.
func (x *index) visibleAt(at time.Time) uint64 {
	if n := x.countUntil(at); n > 0 {
		return x.history[n-1].visible
	}
	return 0
}

// whenVisible is since when a position can be read. It must be one that can.
func (x *index) whenVisible(position uint64) time.Time {
	i := sort.Search(len(x.history), func(i int) bool { return x.history[i].visible >= position })
	return x.history[i].at
}

// noteLocked notes that there is an event at a position, which may have been written past this index. It makes the event readable unless
// an earlier one may still have to become so, and reports whether that could be decided.
func (x *index) noteLocked(position uint64) (decided bool) {
	x.highest = max(x.highest, position)
	switch {
	case position <= x.visible:
		return true
	case x.mayPrecede(position):
		return false
	}
	for _, t := range x.pending {
		if t.after < position {
			return true
		}
	}
	x.show(position)
	return true
}

func (x *index) change() {
	if x.changed != nil {
		close(x.changed)
		x.changed = nil
	}
}

// nextChange is closed at the next change.
func (x *index) nextChange() <-chan struct{} {
	if x.changed == nil {
		x.changed = make(chan struct{})
	}
	return x.changed
}

// limitLocked is the last position that can be read from the member.
func (m *member) limitLocked() uint64 {
	x := &m.servers.index
	if m.servers.leader == m.number {
		return x.visible
	}
	return max(m.minVisible, x.visibleAt(time.Now().Add(-m.servers.conditions.Lag)))
}

// isVisible reports whether the event at a position can be read. While an append in flight may be before it, it waits.
func (m *member) isVisible(ctx context.Context, position uint64) (bool, error) {
	s := m.servers
	for {
		s.mu.Lock()
		decided := s.index.noteLocked(position)
		visible := position <= m.limitLocked()
		var changed <-chan struct{}
		if !visible && !decided {
			changed = s.index.nextChange()
		}
		s.mu.Unlock()
		if changed == nil {
			return visible, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// awaitVisible waits until the event at a position can be read.
func (m *member) awaitVisible(ctx context.Context, position uint64) error {
	s := m.servers
	for {
		s.mu.Lock()
		s.index.noteLocked(position)
		if position <= m.limitLocked() {
			s.mu.Unlock()
			return nil
		}
		changed := s.index.nextChange()
		var due <-chan time.Time
		if s.leader != m.number && position <= s.index.visible {
			due = time.After(time.Until(s.index.whenVisible(position).Add(s.conditions.Lag)))
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}
