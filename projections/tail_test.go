package projections_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// counted counts the open subscriptions of a log.
type counted struct {
	projections.Log
	open atomic.Int64
}

func (l *counted) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		l.open.Add(1)
		defer l.open.Add(-1)
		l.Log.Subscribe(ctx, after, f)(yield)
	}
}

// follower follows a tail and records what it receives.
type follower struct {
	from eventstore.Position
	held sync.Mutex // blocks the follower while it is locked

	mu       sync.Mutex
	got      []uuid.UUID
	position eventstore.Position
	caughtUp bool
}

func newFollower(from eventstore.Position) *follower { return &follower{from: from, position: from} }

// run follows until the context ends, and again after each error.
func (f *follower) run(ctx context.Context, t *testing.T, tail projections.Tail) {
	for ctx.Err() == nil {
		after, _ := f.at()
		for batch, err := range tail.Follow(ctx, after) {
			if err != nil {
				break
			}
			f.held.Lock()
			f.take(t, batch)
			f.held.Unlock()
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *follower) take(t *testing.T, batch eventstore.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if batch.Position < f.position {
		t.Errorf("the position went back from %d to %d", f.position, batch.Position)
	}
	for _, e := range batch.Events {
		if e.Position <= f.position || e.Position > batch.Position {
			t.Errorf("an event at %d came in a batch after %d and up to %d", e.Position, f.position, batch.Position)
		}
		f.got = append(f.got, e.ID)
	}
	f.position, f.caughtUp = batch.Position, batch.CaughtUp
}

func (f *follower) at() (position eventstore.Position, caughtUp bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position, f.caughtUp
}

// Followers of a tail receive each event once and in order, wherever they start, however fast they are, and whatever connections break. A
// slow one delays no other. Those that keep up share one subscription.
func TestTail(t *testing.T) {
	network := eventstoretest.Node(t)
	store := network.Open(t, eventstore.Options{Timeout: 10 * time.Second})
	log := &counted{Log: store}
	category := "tail" + uuid.NewString()
	streams := eventstore.Filter{StreamPrefixes: []string{category}}
	happen := func(events int) eventstore.Position {
		t.Helper()
		const each = 64
		var position eventstore.Position
		for range (events + each - 1) / each {
			proposed := make([]eventstore.Proposed, each)
			for i := range proposed {
				proposed[i] = eventstore.Proposed{Event: domain.SlotReleased{ReservationID: "r"}}
			}
			appended, err := store.Append(t.Context(), category+"-"+uuid.NewString(), eventstore.NoStream, proposed...)
			if err != nil {
				t.Fatal(err)
			}
			position = appended.Position
		}
		return position
	}

	old := happen(projections.TailEvents / 2)
	tail := projections.NewTail(log, streams)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := tail.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the tail ended with %v", err)
		}
	})
	followers := []*follower{newFollower(0), newFollower(old / 2), newFollower(old)}
	follow := func(f *follower) { running.Go(func() { f.run(ctx, t, tail) }) }
	for _, f := range followers {
		follow(f)
	}
	wantAll := func(position eventstore.Position, of []*follower) {
		t.Helper()
		until(t, fmt.Sprintf("%d followers have everything", len(of)), func() bool {
			return !slices.ContainsFunc(of, func(f *follower) bool {
				at, caughtUp := f.at()
				return at < position || !caughtUp
			})
		})
	}
	wantOneSubscription := func() {
		t.Helper()
		until(t, "all share one subscription", func() bool {
			wantAll(happen(1), followers)
			return log.open.Load() == 1
		})
	}
	wantOneSubscription()

	followers[0].held.Lock()
	position := happen(5 * projections.TailEvents / 2)
	wantAll(position, followers[1:])
	followers[0].held.Unlock()
	wantAll(position, followers)

	for range 2 {
		network.Cut()
		followers = append(followers, newFollower(position-100))
		follow(followers[len(followers)-1])
		position = happen(500)
		wantAll(position, followers)
	}
	wantOneSubscription()
	cancel()
	running.Wait()

	var want []eventstore.Recorded
	end, err := store.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for batch, err := range store.Subscribe(t.Context(), 0, streams) {
		if err != nil {
			t.Fatal(err)
		}
		if want = append(want, batch.Events...); batch.CaughtUp || batch.Position >= end {
			break
		}
	}
	for i, f := range followers {
		var expected []uuid.UUID
		for _, e := range want {
			if e.Position > f.from && e.Position <= f.position {
				expected = append(expected, e.ID)
			}
		}
		if len(expected) != len(f.got) {
			t.Errorf("follower %d got %d events of %d", i, len(f.got), len(expected))
			continue
		}
		for j := range expected {
			if f.got[j] != expected[j] {
				t.Errorf("follower %d got another event at its place %d", i, j)
				break
			}
		}
	}
}

// Followers learn that the tail's subscription has broken even if the next one continues from their position: it may be from another log.
func TestTailBreaks(t *testing.T) {
	log := &scripted{begun: make(chan struct{}), breaks: make(chan struct{}), again: make(chan struct{})}
	tail := projections.NewTail(log, eventstore.Filter{})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = tail.Run(ctx) })
	defer running.Wait()
	defer cancel()

	<-log.begun
	var got []eventstore.Position
	var ended error
	for batch, err := range tail.Follow(ctx, 10) {
		if err != nil {
			ended = err
			break
		}
		if len(batch.Events) == 0 {
			continue
		}
		got = append(got, batch.Position)
		if len(got) == 1 {
			close(log.breaks)
			<-log.again // the next subscription has started
		}
		if len(got) == 2 {
			break
		}
	}
	if len(got) != 1 || got[0] != 11 || ended == nil || errors.Is(ended, context.Canceled) {
		t.Errorf("got %v and %v", got, ended)
	}
}

// scripted is a log that ends at 10 and then gets an event at 11, and is replaced by one that ends at 5 and gets one at 12.
type scripted struct {
	mu                   sync.Mutex
	subscriptions        int
	begun, breaks, again chan struct{}
}

func (l *scripted) second() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subscriptions > 0
}

func (l *scripted) End(context.Context) (eventstore.Position, error) {
	if l.second() {
		return 5, nil
	}
	return 10, nil
}

func (l *scripted) EventAt(context.Context, eventstore.Position) (uuid.UUID, bool, error) {
	return uuid.UUID{}, false, nil
}

func (l *scripted) Subscribe(ctx context.Context, after eventstore.Position, _ eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		switch {
		case l.second():
			if yield(eventstore.Batch{Events: []eventstore.Recorded{{Position: 12}}, Position: 12, CaughtUp: true}, nil) {
				close(l.again)
				<-ctx.Done()
			}
		default:
			close(l.begun)
			if !yield(eventstore.Batch{Events: []eventstore.Recorded{{Position: 11}}, Position: 11, CaughtUp: true}, nil) {
				return
			}
			<-l.breaks
			l.mu.Lock()
			l.subscriptions++
			l.mu.Unlock()
		}
	}
}
