package projections

import (
	"context"
	"slices"
	"sync"
	"time"

	"roombook/eventstore"
)

// followers are the lists that follow a tail. What the tail receives is folded into all of them and written together, as one of them alone
// would be: see [worker.follow].
type followers struct {
	wake chan struct{} // receives a token when a query waits, or a list has joined

	mu      sync.Mutex // held while they are written
	all     []*follower
	written time.Time // when all that lacked anything were last written
}

// follower is a list that follows a tail. The followers' mutex guards what changes.
type follower struct {
	*worker
	builder      *builder
	subscription int                 // of the tail
	after        eventstore.Position // up to which everything was folded
	hint         hint
	left         chan error // receives why it does not follow any more

	batch eventstore.Batch // that it lacks
	open  bool             // whether there can be more
}

// followTail keeps the generation up to date from the tail, see follow. What the generation lacks at first is written by itself, and after
// that it is written together with the other lists: so one that cannot be written does not delay them again and again.
func (w *worker) followTail(ctx context.Context, b *builder, after Point, subscription int) error {
	f := &follower{worker: w, builder: b, subscription: subscription, after: after.Position, hint: hint{every: 100 * w.options.Gather}, left: make(chan error, 1)}
	for received := false; !received; {
		batch, more, open := w.tail.since(f.after, subscription)
		switch {
		case !open:
			return errResubscribe
		case batch.Position > f.after || batch.CaughtUp:
			// The subscription has begun, so if the log is still the same now, it is that of the subscription.
			switch now, err := origin(ctx, w.log, b.generation); {
			case err != nil:
				return err
			case now != after:
				return errResubscribe
			}
			if err := f.write(ctx, batch); err != nil {
				return err
			}
			received = true
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.tail.followers.join(f)
	defer w.tail.followers.leave(f)
	look := time.NewTicker(min(w.options.Abandoned, lookEvery))
	defer look.Stop()
	for {
		_, nextWaiter := w.options.Positions.wanted(w.projection.Name)
		select {
		case err := <-f.left:
			return err
		case <-nextWaiter:
			signal(w.tail.followers.wake)
		case <-look.C:
			if err := w.look(ctx, b); err != nil {
				return err
			}
		case <-ctx.Done():
			w.tail.followers.leave(f)
			select {
			case err := <-f.left: // the write that was under way has failed, and has had its time
				return err
			default:
			}
			batch, _, _ := w.tail.since(f.after, subscription)
			if err := f.write(ctx, batch); err != nil {
				return err
			}
			return ctx.Err()
		}
	}
}

// write writes a batch, which may be empty.
func (f *follower) write(ctx context.Context, batch eventstore.Batch) error {
	if len(batch.Events) > 0 {
		if err := f.worker.write(ctx, f.builder, batch); err != nil {
			return err
		}
	}
	f.after = batch.Position
	return nil
}

func (fs *followers) join(f *follower) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.all = append(fs.all, f)
	signal(fs.wake)
}

func (fs *followers) leave(f *follower) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.remove(f)
}

// remove removes a follower, if it is there. fs.mu must be held.
func (fs *followers) remove(f *follower) {
	fs.all = slices.DeleteFunc(fs.all, func(other *follower) bool { return other == f })
}

// keep keeps the followers up to date until the context ends.
func (t *tail) keep(ctx context.Context, o WorkerOptions) error {
	due := time.NewTimer(o.Gather)
	defer due.Stop()
	for {
		more, left := t.keepOnce(ctx, o)
		if left > 0 {
			due.Reset(left)
		}
		select {
		case <-more:
		case <-t.followers.wake:
		case <-due.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keepOnce writes what the followers lack: what queries wait for at once, together with the lists that it does not concern, and now and then
// all. It returns a channel that is closed when there is more, nil if there are no followers, and how long what is left may wait, 0 if nothing is.
func (t *tail) keepOnce(ctx context.Context, o WorkerOptions) (more <-chan struct{}, left time.Duration) {
	fs := &t.followers
	fs.mu.Lock()
	defer fs.mu.Unlock()
	ctx, cancel := outlast(ctx, flushTime)
	defer cancel()
	left = o.Gather - time.Since(fs.written)
	var due, others []*follower
	for _, f := range slices.Clone(fs.all) {
		var changed <-chan struct{}
		if f.batch, changed, f.open = t.since(f.after, f.subscription); more == nil {
			more = changed // the first one lacks whatever comes before the others are asked
		}
		f.gathered(len(f.batch.Events))
		wanted, _ := o.Positions.wanted(f.projection.Name)
		switch {
		case len(f.batch.Events) == 0 && !f.open:
			fs.drop(f, errResubscribe)
		case len(f.batch.Events) == 0:
			f.after = f.batch.Position
			f.follows(f.builder.generation, gathered{position: f.batch.Position, caughtUp: f.batch.CaughtUp})
			if err := f.hint.note(ctx, f.worker, f.builder, f.batch.Position); err != nil {
				fs.drop(f, err)
			}
		case wanted || left <= 0 || !f.open || len(f.batch.Events) >= tailEvents:
			due = append(due, f)
		default:
			others = append(others, f)
		}
	}
	if len(due) > 0 {
		for _, f := range others {
			if !slices.ContainsFunc(f.batch.Events, f.projection.concerned) {
				due = append(due, f) // nothing but its checkpoint is written
			}
		}
		fs.write(ctx, due)
		if left <= 0 {
			fs.written = time.Now()
		}
	}
	if len(others) == 0 {
		left = 0
	}
	return more, left
}

// write folds into followers what they lack, and writes the results together. fs.mu must be held.
func (fs *followers) write(ctx context.Context, behind []*follower) {
	folded := make([]*folding, len(behind))
	var folding sync.WaitGroup
	for i, f := range behind {
		folding.Go(func() { folded[i] = f.fold(ctx, f.builder, f.batch) })
	}
	folding.Wait()
	updates := make([]Update, 0, len(behind))
	for _, f := range folded {
		if f.err == nil {
			updates = append(updates, f.update)
		}
	}
	errs := behind[0].store.WriteAll(ctx, updates)
	for i, f := range behind {
		err := folded[i].err
		if err == nil {
			err, errs = errs[0], errs[1:]
		}
		switch err = folded[i].end(err); {
		case err != nil:
			fs.drop(f, err)
		case !f.open:
			fs.drop(f, errResubscribe)
		default:
			f.after = f.batch.Position
			f.gathered(0)
		}
	}
}

// drop tells a follower why it does not follow any more. fs.mu must be held.
func (fs *followers) drop(f *follower, why error) {
	fs.remove(f)
	f.left <- why
}
