package projections

import (
	"context"
	"sync"
	"time"

	"roombook/eventstore"
)

// Positions are how far the workers of this process have brought the lists that readers see. They connect [Workers] and
// [Queries]: a query that waits for a position is woken when it is there, and a worker that gathers events writes at once
// when somebody waits. May be used from any goroutine.
type Positions struct {
	mu      sync.Mutex
	byName  map[string]eventstore.Position
	waiting map[string]int
	changed chan struct{} // closed at the next change
}

// NewPositions knows of no position.
func NewPositions() *Positions {
	return &Positions{
		byName:  map[string]eventstore.Position{},
		waiting: map[string]int{},
		changed: make(chan struct{}),
	}
}

// reached reports whether a list is known to have a position.
func (p *Positions) reached(projection string, position eventstore.Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byName[projection] >= position
}

// wait reports whether the list gets a position before the context ends or the pause is over.
func (p *Positions) wait(ctx context.Context, projection string, position eventstore.Position, pause time.Duration) bool {
	p.mu.Lock()
	p.waiting[projection]++
	p.changedLocked()
	defer func() {
		p.mu.Lock()
		p.waiting[projection]--
		p.mu.Unlock()
	}()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		changed := p.changed
		there := p.byName[projection] >= position
		p.mu.Unlock()
		if there {
			return true
		}
		select {
		case <-changed:
			p.mu.Lock()
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// advance tells that a list has a position.
func (p *Positions) advance(projection string, position eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byName[projection] < position {
		p.byName[projection] = position
		p.changedLocked()
	}
}

// wanted reports whether somebody waits for a list, and returns what is closed when that may have changed.
func (p *Positions) wanted(projection string) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting[projection] > 0, p.changed
}

func (p *Positions) changedLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}
