package eventstoretest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"google.golang.org/grpc/status"
)

// index is how much of the log can be read. The event store behind has an append as soon as it is taken; here it can be read, and is
// acknowledged, only some time later, in the order of the log. It is guarded by the mutex of the [Servers] it belongs to.
type index struct {
	slowest time.Duration
	history time.Duration // how far back past is wanted

	visible uint64           // the last position that can be read
	known   uint64           // the last position that is known to have been written
	taking  map[*taking]bool // appends that the event store behind has not answered
	taken   []*taken         // those that cannot be read yet, by position
	past    []moment         // when visible became what it was, oldest first
	timer   *time.Timer      // for the first of taken
	changed chan struct{}    // closed at the next change; nil while nobody waits for it
	dropped int
}

// taking is an append that is under way. Its events get positions after the one that was the last known when it began.
type taking struct{ after uint64 }

// taken is an append that is in the log.
type taken struct {
	taking
	position uint64 // of its last event
	ready    time.Time
	indexed  chan struct{} // closed when it can be read
}

// moment is when a position became the last that can be read.
type moment struct {
	at      time.Time
	visible uint64
}

// beginLocked is an append that is about to be passed on.
func (x *index) beginLocked() *taking {
	a := &taking{x.known}
	x.taking[a] = true
	return a
}

// endLocked takes note that an append has been answered: with the position of its last event, or 0 if there is nothing to wait for.
// It returns what cannot be read yet. That is repeated if the append was a repetition of one that cannot be read yet.
func (x *index) endLocked(a *taking, position uint64) (t *taken, repeated bool) {
	delete(x.taking, a)
	defer x.advanceLocked()
	x.change()
	if position <= x.visible {
		return nil, false
	}
	x.known = max(x.known, position)
	i, found := slices.BinarySearchFunc(x.taken, position, func(t *taken, p uint64) int {
		switch {
		case t.position < p:
			return -1
		case t.position > p:
			return 1
		}
		return 0
	})
	if found {
		return x.taken[i], true
	}
	wait := x.slowest/8 + rand.N(x.slowest-x.slowest/8)
	t = &taken{*a, position, time.Now().Add(wait), make(chan struct{})}
	x.taken = slices.Insert(x.taken, i, t)
	return t, false
}

// advanceLocked makes readable what is due.
func (x *index) advanceLocked() {
	for len(x.taken) > 0 {
		first := x.taken[0]
		if x.underWay(first.position) {
			return
		}
		if early := time.Until(first.ready); early > 0 {
			x.timer.Reset(early)
			return
		}
		x.taken = slices.Delete(x.taken, 0, 1)
		x.see(first.position)
		close(first.indexed)
	}
}

// underWay reports whether an append that is not answered yet may turn out to be before the position.
func (x *index) underWay(position uint64) bool {
	for a := range x.taking {
		if a.after < position {
			return true
		}
	}
	return false
}

func (x *index) see(position uint64) {
	x.visible = position
	if x.history > 0 {
		now := time.Now()
		x.past = append(x.past, moment{now, position})
		if n := x.since(now.Add(-x.history)); n > 1024 {
			x.past = slices.Delete(x.past, 0, n-1)
		}
	}
	x.change()
}

// since is the number of moments up to a time.
func (x *index) since(at time.Time) int {
	return sort.Search(len(x.past), func(i int) bool { return x.past[i].at.After(at) })
}

// visibleAt is the last position that could be read at a time.
func (x *index) visibleAt(at time.Time) uint64 {
	if n := x.since(at); n > 0 {
		return x.past[n-1].visible
	}
	return 0
}

// whenVisible is when a position could first be read, of those that can be.
func (x *index) whenVisible(position uint64) time.Time {
	i := sort.Search(len(x.past), func(i int) bool { return x.past[i].visible >= position })
	return x.past[i].at
}

// meetLocked takes note of a position at which there is an event. It can be read if nothing that cannot be read yet may be before it,
// as somebody else's append can that went past this index. It reports whether that is known.
func (x *index) meetLocked(position uint64) (known bool) {
	x.known = max(x.known, position)
	switch {
	case position <= x.visible:
		return true
	case x.underWay(position):
		return false
	}
	for _, t := range x.taken {
		if t.after < position {
			return true
		}
	}
	x.see(position)
	return true
}

func (x *index) change() {
	if x.changed != nil {
		close(x.changed)
		x.changed = nil
	}
}

// changes is closed at the next change.
func (x *index) changes() <-chan struct{} {
	if x.changed == nil {
		x.changed = make(chan struct{})
	}
	return x.changed
}

// limitLocked is the last position that the member has for readers.
func (m *member) limitLocked() uint64 {
	x := &m.servers.index
	if m.servers.leader == m.number {
		return x.visible
	}
	return max(m.floor, x.visibleAt(time.Now().Add(-m.servers.conditions.Lag)))
}

// sees reports whether an event can be read, by its position. While an append is under way of which it is not known whether it is
// before that, it waits for it.
func (m *member) sees(ctx context.Context, position uint64) (bool, error) {
	s := m.servers
	for {
		s.mu.Lock()
		known := s.index.meetLocked(position)
		visible := position <= m.limitLocked()
		var changed <-chan struct{}
		if !visible && !known {
			changed = s.index.changes()
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

// await waits until an event can be read.
func (m *member) await(ctx context.Context, position uint64) error {
	s := m.servers
	for {
		s.mu.Lock()
		s.index.meetLocked(position)
		if position <= m.limitLocked() {
			s.mu.Unlock()
			return nil
		}
		changed := s.index.changes()
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
