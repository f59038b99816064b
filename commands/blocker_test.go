package commands

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"roombook/domain"
	"roombook/eventstore"
)

// gated is a store each of whose reads waits, and then finds a booking that was created and confirmed as often as anything was read before.
type gated struct {
	Store
	reads atomic.Int64
	next  chan error // lets a read go on, or fail
}

func (g *gated) Incarnation() eventstore.Incarnation { return 1 }

func (g *gated) ReadStream(context.Context, string, domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := g.reads.Add(1)
		if err := <-g.next; err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		yield(eventstore.Recorded{Revision: domain.Revision(n), Event: domain.ConfirmCompleted{}}, nil)
	}
}

// Of all who look at a booking while it is being read one reads it again, and each sees it as it was after they began to look.
func TestGlancesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &gated{next: make(chan error)}
		h := New(store, Options{})
		var mu sync.Mutex
		var seen [3][]domain.Revision
		var failed []error
		looks := func(of, n int) {
			for range n {
				go func() {
					found, err := h.glances.look(t.Context(), h, "b")
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failed = append(failed, err)
					}
					seen[of] = append(seen[of], found.revision)
				}()
			}
			synctest.Wait()
		}
		wantReads := func(n int64) {
			t.Helper()
			synctest.Wait()
			if store.reads.Load() != n {
				t.Errorf("%d reads, want %d", store.reads.Load(), n)
			}
		}
		looks(0, 1)
		looks(1, 20)
		wantReads(1)
		store.next <- nil
		wantReads(2)
		looks(2, 5)
		store.next <- nil
		wantReads(3)
		store.next <- errors.New("away")
		wantReads(3)
		for of, want := range []struct {
			n        int
			revision domain.Revision
		}{{1, 1}, {20, 2}, {5, 0}} {
			if len(seen[of]) != want.n || want.revision > 0 && (seen[of][0] != want.revision || seen[of][want.n-1] != want.revision) {
				t.Errorf("group %d saw revisions %v", of, seen[of])
			}
		}
		if len(failed) != 1 {
			t.Errorf("a read that failed was told to %d, of five", len(failed))
		}
		if len(h.glances.of) != 0 {
			t.Errorf("%d glances are left", len(h.glances.of))
		}
	})
}
