package sqlite_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roombook/projections"
	"roombook/projections/sqlite"
	"roombook/projections/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, file string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) projections.Store { return open(t, filepath.Join(t.TempDir(), "views.db")) })
}

func TestWorkers(t *testing.T) {
	storetest.RunWorkers(t, func(t *testing.T) projections.Store { return open(t, filepath.Join(t.TempDir(), "views.db")) })
}

// A write whose context ends at any moment, that of its transaction's beginning included, leaves the writer fit for the next one.
func TestAWriteThatIsGivenUp(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "views.db"))
	g, err := s.Begin(t.Context(), "list", 1, projections.Schema{})
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	given := 0
	for i := range 3000 {
		ctx, cancel := context.WithCancel(t.Context())
		wait := time.Duration(random.IntN(60)) * time.Microsecond
		var canceller sync.WaitGroup
		canceller.Go(func() {
			for began := time.Now(); time.Since(began) < wait; {
			}
			cancel()
		})
		err := s.Write(ctx, g.Ref, nil, projections.Checkpoint{Position: 1})
		canceller.Wait()
		switch {
		case errors.Is(err, context.Canceled):
			given++
		case err != nil:
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if given == 0 || given == 3000 {
		t.Errorf("%d of 3000 writes were given up", given)
	}
	if err := s.Write(t.Context(), g.Ref, nil, projections.Checkpoint{Position: 2}); err != nil {
		t.Error(err)
	}
}
