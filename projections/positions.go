package projections

import (
	"container/heap"
	"sync"

	"roombook/eventstore"
)

// Positions are the positions that this process knows the active generations to have reached. They connect [Workers] and [Queries]: a
// worker wakes the queries that wait for a position once the list has reached it, and stops gathering events while queries wait. It may
// be used concurrently.
type Positions struct {
	mu     sync.Mutex
	byName map[string]*progress
}

// progress is the known position of a list, and the waiters for later ones.
type progress struct {
	position eventstore.Position
	// kept is the generation that a worker of this process keeps, as it last wrote it; nil if none does or it is not known.
	kept    *Generation
	waiting waiters
	// wanted and joined receive a token when a waiter is added, the former for the worker, the latter for the poller.
	wanted, joined chan struct{}
	// poller holds a token while one of the waiters polls the store on behalf of all.
	poller chan struct{}
}

// waiter waits for a list to reach a position.
type waiter struct {
	list     *progress
	position eventstore.Position
	index    int           // in list.waiting, -1 once it has been removed
	reached  chan struct{} // closed when the list has reached the position
}

// NewPositions returns Positions with no position known.
func NewPositions() *Positions { return &Positions{byName: map[string]*progress{}} }

// list returns the progress of a list. p.mu must be held.
func (p *Positions) list(name string) *progress {
	l := p.byName[name]
	if l == nil {
		l = &progress{wanted: make(chan struct{}, 1), joined: make(chan struct{}, 1), poller: make(chan struct{}, 1)}
		p.byName[name] = l
	}
	return l
}

// reached reports whether a list is known to have reached a position.
func (p *Positions) reached(projection string, position eventstore.Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list(projection).position >= position
}

// wait adds a waiter for a list to reach a position. The caller must cancel it.
func (p *Positions) wait(projection string, position eventstore.Position) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &waiter{list: p.list(projection), position: position, index: -1, reached: make(chan struct{})}
	if w.list.position >= position {
		close(w.reached)
		return w
	}
	heap.Push(&w.list.waiting, w)
	signal(w.list.wanted)
	signal(w.list.joined)
	return w
}

// cancel removes a waiter, if it still waits.
func (p *Positions) cancel(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.index >= 0 {
		heap.Remove(&w.list.waiting, w.index)
	}
}

// advance notes what a worker keeps of a list.
func (p *Positions) advance(g Generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list(g.Projection)
	l.kept = &g
	l.position = max(l.position, g.Position)
	l.wake(g.Position)
}

// kept returns what a worker of this process keeps of a list, nil if that is not known.
func (p *Positions) kept(projection string) *Generation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list(projection).kept
}

// forget notes that no worker of this process keeps a list.
func (p *Positions) forget(projection string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list(projection).kept = nil
}

// observe wakes the waiters for a position at which the list was seen, without noting it: the list may since have been rebuilt.
func (p *Positions) observe(projection string, position eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list(projection).wake(position)
}

// reset sets the position of a list, even to an earlier one: the list may have been rebuilt from another log. Whether a worker keeps it is
// not known any more.
func (p *Positions) reset(projection string, position eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list(projection)
	l.position, l.kept = position, nil
	l.wake(position)
}

// wanted reports whether there are waiters for a list, and returns the channel that receives a token when one is added.
func (p *Positions) wanted(projection string) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list(projection)
	return len(l.waiting) > 0, l.wanted
}

// wake wakes the waiters for positions up to this one.
func (l *progress) wake(position eventstore.Position) {
	for len(l.waiting) > 0 && l.waiting[0].position <= position {
		close(heap.Pop(&l.waiting).(*waiter).reached)
	}
}

// waiters are a heap with the least position first.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].position < w[j].position }

func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push implements [heap.Interface].
func (w *waiters) Push(x any) {
	x.(*waiter).index = len(*w)
	*w = append(*w, x.(*waiter))
}

// Pop implements [heap.Interface].
func (w *waiters) Pop() any {
	old := *w
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	last.index = -1
	return last
}
