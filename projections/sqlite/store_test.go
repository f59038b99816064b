package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	file := filepath.Join(t.TempDir(), "views.db")
	storetest.Run(t, func(t *testing.T) projections.Store {
		if t.Name() == "TestStore" {
			return open(t, file)
		}
		return open(t, filepath.Join(t.TempDir(), "views.db"))
	}, func(t *testing.T, _ projections.Store) storetest.Beside { return tables{besideFile(t, file)} })
}

// besideFile is the database in a file, for somebody who does not go through the store.
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
		err := s.Write(ctx, g.Ref, projections.Schema{}, nil, projections.Checkpoint{Position: 1})
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
	if err := s.Write(t.Context(), g.Ref, projections.Schema{}, nil, projections.Checkpoint{Position: 2}); err != nil {
		t.Error(err)
	}
}

// stale is a store whose loads are one write behind, as those of a replica may be.
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

// A store that does not load what was written fails the contract.
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
		t.Errorf("a store whose loads are behind: %v\n%s", err, out)
	}
}
