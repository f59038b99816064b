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

// counted is a log that counts its open subscriptions.
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

// follower follows a tail and takes down what it gets.
type follower struct {
	from eventstore.Position
	held sync.Mutex // while it is locked, nothing is taken

	mu       sync.Mutex
	got      []uuid.UUID
	position eventstore.Position
	caughtUp bool
}

func newFollower(from eventstore.Position) *follower { return &follower{from: from, position: from} }

// run follows until the context ends, again after each error.
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

// Whoever follows a tail, from wherever, at whatever pace, and whatever the network does, gets each event once and in order. Who is
// slow holds up nobody. Those who keep up share one subscription.
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

// Who follows the tail is told when its subscription broke, even if there is a new one by then that goes on from where he is: that may be
// of another log.
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
			<-log.again // the next subscription has begun
		}
		if len(got) == 2 {
			break
		}
	}
	if len(got) != 1 || got[0] != 11 || ended == nil || errors.Is(ended, context.Canceled) {
		t.Errorf("got %v and %v", got, ended)
	}
}

// scripted is a log that ends at 10 and then has an event at 11; the one after it ends at 5, and has one at 12.
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
