package projections

import (
	"context"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"roombook/eventstore"
)

// RebuildAll is Rebuild for several lists with the same filter, for all of which it reads the log once, unless that breaks off: then each list
// reads on by itself. Each is activated as soon as it is complete. The first failure, which is returned, cancels the rebuilds of those that are
// not. progress may be called concurrently.
func (r *Rebuilder) RebuildAll(ctx context.Context, of []Projection, progress func(Progress)) error {
	group, rebuilding := errgroup.WithContext(ctx)
	readers := make([]*sharedLog, len(of))
	var joining sync.WaitGroup
	joining.Add(len(of))
	for i, p := range of {
		readers[i] = &sharedLog{Log: r.log, join: sync.OnceFunc(joining.Done), batches: make(chan received), left: make(chan struct{})}
		readers[i].leave = sync.OnceFunc(func() {
			close(readers[i].left)
			readers[i].join()
		})
		group.Go(func() error {
			defer readers[i].leave()
			return NewRebuilder(r.store, readers[i], r.options).Rebuild(rebuilding, p, progress)
		})
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var delivery sync.WaitGroup
	delivery.Go(func() {
		joining.Wait()
		if len(of) > 0 {
			deliver(r.log.Subscribe(reading, 0, of[0].Filter), readers)
		}
	})
	err := group.Wait()
	stop()
	delivery.Wait()
	return err
}

// sharedLog is the log as one of several rebuilds reads it. Its first subscription to the whole log is shared with the others, and begins when
// each of them has subscribed or left.
type sharedLog struct {
	Log
	shared  bool // whether it has subscribed
	join    func()
	leave   func()
	left    chan struct{} // closed when it takes no more batches
	batches chan received
}

// received is what a subscription yields.
type received struct {
	batch eventstore.Batch
	err   error
}

// Subscribe implements [Log].
func (r *sharedLog) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	if after > 0 || r.shared {
		return r.Log.Subscribe(ctx, after, f)
	}
	r.shared = true
	return func(yield func(eventstore.Batch, error) bool) {
		defer r.leave()
		r.join()
		for {
			select {
			case next := <-r.batches:
				if !yield(next.batch, next.err) || next.err != nil {
					return
				}
			case <-ctx.Done():
				yield(eventstore.Batch{}, ctx.Err())
				return
			}
		}
	}
}

// deliver passes on what a subscription yields to the readers that have not left, until all have. The slowest sets the pace.
func deliver(subscription iter.Seq2[eventstore.Batch, error], readers []*sharedLog) {
	for batch, err := range subscription {
		delivered := false
		for _, r := range readers {
			select {
			case r.batches <- received{batch, err}:
				delivered = true
			case <-r.left:
			}
		}
		if !delivered {
			return
		}
	}
}
