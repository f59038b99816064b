package projections

import (
	"context"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"roombook/eventstore"
)

func reached(w *waiter) bool {
	select {
	case <-w.reached:
		return true
	default:
		return false
	}
}

func listAt(position eventstore.Position) Generation {
	return Generation{Ref: Ref{Projection: "list", Number: 1}, Checkpoint: Checkpoint{Position: position}}
}

// A waiter is woken when the list has reached its position, and not before.
func TestPositions(t *testing.T) {
	p := NewPositions()
	waiters := map[eventstore.Position]*waiter{}
	for _, at := range []eventstore.Position{9, 5, 7, 12, 3} {
		waiters[at] = p.wait("list", at)
	}
	other := p.wait("other", 1)
	want := func(what string, woken ...eventstore.Position) {
		t.Helper()
		for at, w := range waiters {
			if reached(w) != slices.Contains(woken, at) {
				t.Errorf("%s: the waiter for %d is woken: %v", what, at, reached(w))
			}
		}
	}
	want("at the beginning")
	p.advance(listAt(6))
	want("at 6", 3, 5)
	p.cancel(waiters[9])
	p.cancel(waiters[3])
	p.observe("list", 9)
	want("seen at 9", 3, 5, 7)
	if p.reached("list", 7) || !p.reached("list", 6) {
		t.Error("a position that was only observed counts as reached, or the other way round")
	}
	if wanted, _ := p.wanted("list"); !wanted {
		t.Error("there are no waiters")
	}
	p.advance(listAt(12))
	want("at 12", 3, 5, 7, 12)
	if wanted, _ := p.wanted("list"); wanted || reached(other) {
		t.Error("there still are waiters, or one was woken for another list")
	}
	if late := p.wait("list", 11); !reached(late) {
		t.Error("a waiter waits for a position that has been reached")
	}
	p.reset("list", 4)
	if p.reached("list", 5) || !p.reached("list", 4) {
		t.Error("the position was not reset")
	}
}

// A gatherer that is not emptied holds up its subscription and loses nothing.
func TestGathererHoldsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const batches, each = 40, 512
		var yielded atomic.Int64
		g := gather(t.Context(), 0, func(ctx context.Context, _ eventstore.Position) iter.Seq2[eventstore.Batch, error] {
			return func(yield func(eventstore.Batch, error) bool) {
				for i := range batches {
					events := make([]eventstore.Recorded, each)
					for j := range events {
						events[j].Position = eventstore.Position(i*each + j + 1)
					}
					yielded.Add(1)
					if !yield(eventstore.Batch{Events: events, Position: events[each-1].Position}, nil) {
						return
					}
				}
				<-ctx.Done()
			}
		})
		defer g.stop()
		synctest.Wait()
		if n := yielded.Load(); n > maxGathered/each+1 {
			t.Errorf("%d batches of %d events were taken in", n, each)
		}
		var got []eventstore.Recorded
		for len(got) < batches*each {
			batch := g.take()
			if len(batch.Events) == 0 {
				t.Fatalf("only %d of %d events came", len(got), batches*each)
			}
			got = append(got, batch.Events...)
			synctest.Wait()
		}
		for i, e := range got {
			if e.Position != eventstore.Position(i+1) {
				t.Fatalf("event %d is at %d", i, e.Position)
			}
		}
	})
}
