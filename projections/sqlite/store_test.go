package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roombook/eventstore"
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
	file := filepath.Join(t.TempDir(), "views.db")
	storetest.Run(t, func(t *testing.T) projections.Store {
		if t.Name() == "TestStore" {
			return open(t, file)
		}
		return open(t, filepath.Join(t.TempDir(), "views.db"))
	}, func(t *testing.T, _ projections.Store) storetest.Beside { return tables{besideFile(t, file)} })
}

// besideFile opens the database in a file without the store.
func besideFile(t *testing.T, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

// tables is a [storetest.Beside].
type tables struct{ *sql.DB }

func (b tables) Indexes(ref projections.Ref) (n int, err error) {
	err = b.QueryRow("SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?", ref.String()).Scan(&n)
	return n, err
}

func (b tables) Unique(ref projections.Ref) error {
	_, err := b.Exec(`CREATE UNIQUE INDEX "` + ref.String() + `_unique" ON "` + ref.String() + `" (start)`)
	return err
}

func TestWorkers(t *testing.T) {
	storetest.RunWorkers(t, func(t *testing.T) projections.Store { return open(t, filepath.Join(t.TempDir(), "views.db")) })
}

// countdown is a context that is cancelled when it is consulted for the n-th time.
type countdown struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

func (c *countdown) count() {
	if c.left.Add(-1) == 0 {
		c.cancel()
	}
}

func (c *countdown) Err() error {
	c.count()
	return c.Context.Err()
}

func (c *countdown) Done() <-chan struct{} {
	c.count()
	return c.Context.Done()
}

// A write whose context ends, at whatever moment, leaves nothing behind and does not keep the next one from succeeding.
func TestAWriteThatIsGivenUp(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "views.db"))
	g, err := s.Begin(t.Context(), "list", 1, schema())
	if err != nil {
		t.Fatal(err)
	}
	var written eventstore.Position
	write := func(ctx context.Context) error {
		at := written + 1
		row := projections.Row{ID: fmt.Sprint("id-", at), Created: at, Position: at, Document: &document{ID: fmt.Sprint("id-", at)}}
		err := s.Write(ctx, g.Ref, schema(), []projections.Row{row}, projections.Checkpoint{Position: at})
		if err == nil {
			written = at
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		state, stateErr := s.State(t.Context(), "list")
		if stateErr != nil || state.Generations[0].Position != written {
			t.Fatalf("after a write that ended with %v the list is at %d, %v, and not at %d", err, state.Generations[0].Position, stateErr, written)
		}
		return err
	}
	cancelled := 0
	for n := int64(1); ; n++ {
		within, cancel := context.WithCancel(t.Context())
		ctx := &countdown{Context: within, cancel: cancel}
		ctx.left.Store(n)
		err := write(ctx)
		ended := within.Err() != nil
		cancel()
		if err != nil {
			cancelled++
		}
		if !ended {
			break // it is not consulted so often
		}
	}
	if cancelled < 3 { // before the transaction, before the row, before the commit
		t.Errorf("%d writes were cancelled", cancelled)
	}

	// The same while statements run, which may have taken effect by the time the driver reports the end of the context.
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		ctx, cancel := context.WithCancel(t.Context())
		wait := time.Duration(random.IntN(60)) * time.Microsecond
		var canceller sync.WaitGroup
		canceller.Go(func() {
			for began := time.Now(); time.Since(began) < wait; {
			}
			cancel()
		})
		_ = write(ctx)
		canceller.Wait()
	}
	if err := write(t.Context()); err != nil {
		t.Error(err)
	}
}

// stale is a store whose loads are one write behind, as those from a replica may be.
type stale struct {
	projections.Store
	mu     sync.Mutex
	before map[string]projections.Row // what the last load of a document found
}

func (s *stale) Load(ctx context.Context, ref projections.Ref, schema projections.Schema, ids []string) ([]projections.Row, error) {
	rows, err := s.Store.Load(ctx, ref, schema, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, row := range rows {
		if before, ok := s.before[ref.String()+row.ID]; ok {
			rows[i] = before
		}
		s.before[ref.String()+row.ID] = row
	}
	return rows, err
}

// The contract's tests fail for a store that does not load what was written.
func TestTheContractIsHeld(t *testing.T) {
	const variable = "ROOMBOOK_TEST_STALE_STORE"
	if os.Getenv(variable) != "" { // the test below has started this process
		storetest.Run(t, func(t *testing.T) projections.Store {
			return &stale{Store: open(t, filepath.Join(t.TempDir(), "views.db")), before: map[string]projections.Row{}}
		}, func(t *testing.T, _ projections.Store) storetest.Beside {
			return tables{besideFile(t, filepath.Join(t.TempDir(), "none.db"))}
		})
		return
	}
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	process.Env = append(os.Environ(), variable+"=1")
	if out, err := process.CombinedOutput(); err == nil || !strings.Contains(string(out), "--- FAIL: "+t.Name()+"/WrittenIsLoaded") {
		t.Errorf("a store with stale loads: %v\n%s", err, out)
	}
}
