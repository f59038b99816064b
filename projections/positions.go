package projections

import (
	"container/heap"
	"sync"

	"roombook/eventstore"
)

// Positions are how far the workers of this process have brought the lists that readers see. They connect [Workers] and
// [Queries]: a query that waits for a position is woken when it is there, and a worker that gathers events writes at once
// when somebody waits. May be used from any goroutine.
type Positions struct {
	mu     sync.Mutex
	byName map[string]*progress
}

// progress is what is known of one list, and who waits for it.
type progress struct {
	position eventstore.Position
	waiting  waiters
	// joined has a token when somebody has begun to wait since it was last taken: for the worker, and for whoever asks the store.
	joined, asked chan struct{}
	// turn is held by the one of those who wait that asks the store, for all of them.
	turn chan struct{}
}

// waiter waits for a list to have a position.
type waiter struct {
	list     *progress
	position eventstore.Position
	index    int           // in list.waiting, -1 when it is not there any more
	there    chan struct{} // closed when the list has the position
}

// NewPositions knows of no position.
func NewPositions() *Positions { return &Positions{byName: map[string]*progress{}} }

// list is that of a name. p.mu must be held.
func (p *Positions) list(name string) *progress {
	l := p.byName[name]
	if l == nil {
		l = &progress{joined: make(chan struct{}, 1), asked: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
		p.byName[name] = l
	}
	return l
}

// reached reports whether a list is known to have a position.
func (p *Positions) reached(projection string, position eventstore.Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list(projection).position >= position
}

// wait begins to wait for a list to have a position. Call leave when it is over.
func (p *Positions) wait(projection string, position eventstore.Position) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &waiter{list: p.list(projection), position: position, index: -1, there: make(chan struct{})}
	if w.list.position >= position {
		close(w.there)
		return w
	}
	heap.Push(&w.list.waiting, w)
	signal(w.list.joined)
	signal(w.list.asked)
	return w
}

func (p *Positions) leave(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.index >= 0 {
		heap.Remove(&w.list.waiting, w.index)
	}
}

// advance tells that a list has a position, and has it for good.
func (p *Positions) advance(projection string, position eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list(projection)
	l.position = max(l.position, position)
	l.wake(position)
}

// found tells those who wait that a list was seen at a position.
func (p *Positions) found(projection string, position eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list(projection).wake(position)
}

// forget takes back what was known of a list, which is made anew from another log.
func (p *Positions) forget(projection string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list(projection).position = 0
}

// wanted reports whether somebody waits for a list, and returns what has a token when somebody has begun to.
func (p *Positions) wanted(projection string) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.list(projection)
	return len(l.waiting) > 0, l.joined
}

// wake wakes those, and only those, who wait for no more than a position.
func (l *progress) wake(position eventstore.Position) {
	for len(l.waiting) > 0 && l.waiting[0].position <= position {
		close(heap.Pop(&l.waiting).(*waiter).there)
	}
}

// waiters are a heap whose first waits for the least position.
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
