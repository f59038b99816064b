package projections

import (
	"context"
	"iter"
	"slices"
	"sync"

	"roombook/eventstore"
)

// maxGathered bounds the number of events gathered; a single batch may exceed it.
const maxGathered = 4096

// gatherer follows the log in a goroutine and merges the batches that have not been taken yet into one.
type gatherer struct {
	// arrived receives a token when there is something new.
	arrived chan struct{}
	// stop ends the subscription and waits for the goroutine.
	stop func()

	mu    sync.Mutex
	taken *sync.Cond // signalled when there is room again
	next  eventstore.Batch
	ended bool
	cause error // why the subscription ended
}

// gathered describes what a gatherer holds.
type gathered struct {
	position eventstore.Position
	events   int
	full     bool
	caughtUp bool
	ended    bool // there will be no more
}

// subscribe follows the log after a position, as [eventstore.Store.Subscribe] does.
type subscribe func(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Batch, error]

func gather(ctx context.Context, after eventstore.Position, from subscribe) *gatherer {
	ctx, cancel := context.WithCancel(ctx)
	g := &gatherer{arrived: make(chan struct{}, 1), next: eventstore.Batch{Position: after}}
	g.taken = sync.NewCond(&g.mu)
	unregister := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.taken.Broadcast()
	})
	var following sync.WaitGroup
	following.Go(func() {
		err := g.follow(ctx, from(ctx, after))
		g.mu.Lock()
		g.ended, g.cause = true, err
		g.mu.Unlock()
		g.signal()
	})
	g.stop = func() {
		cancel()
		unregister()
		following.Wait()
	}
	return g
}

func (g *gatherer) follow(ctx context.Context, batches iter.Seq2[eventstore.Batch, error]) error {
	for batch, err := range batches {
		if err != nil {
			return err
		}
		g.add(ctx, batch)
		g.signal()
	}
	return ctx.Err()
}

func (g *gatherer) add(ctx context.Context, batch eventstore.Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.next.Events) >= maxGathered && ctx.Err() == nil {
		g.taken.Wait()
	}
	if len(g.next.Events) == 0 {
		g.next.Events = slices.Clip(batch.Events)
	} else {
		g.next.Events = append(g.next.Events, batch.Events...)
	}
	g.next.Position, g.next.CaughtUp = batch.Position, batch.CaughtUp
}

func (g *gatherer) signal() { signal(g.arrived) }

func signal(token chan<- struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

func (g *gatherer) gathered() gathered {
	g.mu.Lock()
	defer g.mu.Unlock()
	return gathered{
		position: g.next.Position,
		events:   len(g.next.Events),
		full:     len(g.next.Events) >= maxGathered,
		caughtUp: g.next.CaughtUp,
		ended:    g.ended,
	}
}

// take removes and returns all events gathered.
func (g *gatherer) take() eventstore.Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := g.next
	g.next.Events = nil
	g.taken.Signal()
	return batch
}

// err says why the subscription ended.
func (g *gatherer) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}
