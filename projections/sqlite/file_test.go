package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"roombook/eventstore"
	"roombook/projections"
	"roombook/projections/sqlite"
)

// patience is how long the tests wait for a condition.
const patience = 2 * time.Minute

func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// logged is what a store has logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// filled opens a store with one active list of a thousand documents, in a file of its own.
func filled(t *testing.T) (s *sqlite.Store, file string, log *logged) {
	t.Helper()
	file, log = filepath.Join(t.TempDir(), "views.db"), new(logged)
	s, err := sqlite.OpenWith(file, sqlite.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	fill(t, s)
	return s, file, log
}

const documents = 1000

type document struct {
	ID   string `json:"id" bson:"id" key:"id"`
	Text string `json:"text" bson:"text"`
}

func schema() projections.Schema {
	return projections.SchemaOf[document](projections.Index{Order: projections.Order{Start: true}})
}

func fill(t *testing.T, s *sqlite.Store) {
	t.Helper()
	g, err := s.Begin(t.Context(), "list", 1, schema())
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]projections.Row, documents)
	for i := range rows {
		at := eventstore.Position(i + 1)
		id := fmt.Sprint("id-", at)
		rows[i] = projections.Row{ID: id, Created: at, Position: at, Document: &document{ID: id, Text: strings.Repeat("y", 200)}}
	}
	if err := s.Write(t.Context(), g.Ref, schema(), rows, projections.Checkpoint{Position: 1000}); err != nil {
		t.Fatal(err)
	}
	if err := s.Activate(t.Context(), "list", 0, g.Number); err != nil {
		t.Fatal(err)
	}
}

// aside are the names under which files were set aside.
func aside(t *testing.T, file string) []string {
	t.Helper()
	names, err := filepath.Glob(file + ".damaged-*")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// wantEmpty waits until the store reports that it has no list, and fills it again.
func wantEmpty(t *testing.T, s *sqlite.Store) {
	t.Helper()
	until(t, "the store is empty", func() bool {
		_, err := s.Find(t.Context(), "list", schema(), projections.Selection{Limit: 1, Count: documents + 1})
		return errors.Is(err, projections.ErrNotBuilt)
	})
	fill(t, s)
	if found, err := s.Find(t.Context(), "list", schema(), projections.Selection{Limit: 1, Count: documents + 1}); err != nil || found.Count != documents {
		t.Errorf("afterwards: %d, %v", found.Count, err)
	}
}

// overwrite fills the pages of a file with rubbish, from the given one on.
func overwrite(t *testing.T, file string, from int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	is, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for at := from * pageSize; at < is.Size(); at += pageSize {
		if _, err := f.WriteAt(rubbish, at); err != nil {
			t.Fatal(err)
		}
	}
}

const pageSize = 4096

var rubbish = bytes.Repeat([]byte("rubbish!"), pageSize/8)

// A file that is found damaged, on opening or on reading, is kept under another name, and the store goes on with an empty one.
func TestDamagedFile(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, file string){
		"all of it":       func(t *testing.T, file string) { overwrite(t, file, 0) },
		"another file":    func(t *testing.T, file string) { replaceWith(t, file, []byte("nothing that SQLite wrote")) },
		"half of it":      func(t *testing.T, file string) { halve(t, file) },
		"pages of tables": func(t *testing.T, file string) { overwrite(t, file, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			s, file, _ := filled(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, file)
			log := new(logged)
			s, err := sqlite.OpenWith(file, sqlite.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			wantEmpty(t, s)
			if names := aside(t, file); len(names) == 0 || !strings.Contains(log.String(), names[0]) {
				t.Errorf("set aside: %v; the log says %s", names, log)
			}
		})
	}
}

// A row that SQLite reads without complaint, but that no store writes, is damage as well.
func TestARowOfAnotherKind(t *testing.T) {
	s, file, _ := filled(t)
	rows, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rows.ExecContext(t.Context(), `UPDATE list_g1 SET start = 'soon' WHERE created = 500`); err != nil {
		t.Fatal(err)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Scan(t.Context(), projections.Ref{Projection: "list", Number: 1}, schema(), 0, documents); err == nil {
		t.Errorf("%d rows were read", len(found))
	}
	wantEmpty(t, s)
	if names := aside(t, file); len(names) == 0 {
		t.Errorf("set aside: %v", names)
	}
}

// The same while the file is in use: readers get no worse than an error.
func TestFileIsDamagedInUse(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, file string){
		"overwritten":     func(t *testing.T, file string) { overwrite(t, file, 0) },
		"made shorter":    func(t *testing.T, file string) { truncate(t, file, pageSize) },
		"emptied":         func(t *testing.T, file string) { truncate(t, file, 0) },
		"index emptied":   func(t *testing.T, file string) { truncate(t, file+"-shm", 0) },
		"removed":         func(t *testing.T, file string) { remove(t, file) },
		"all removed":     func(t *testing.T, file string) { remove(t, file); remove(t, file+"-wal"); remove(t, file+"-shm") },
		"replaced":        func(t *testing.T, file string) { replaceWith(t, file, nil) },
		"replaced by one": func(t *testing.T, file string) { replaceWith(t, file, rubbish) },
	} {
		t.Run(name, func(t *testing.T) {
			s, file, log := filled(t)
			checkpoint(t, file)
			ctx, cancel := context.WithCancel(t.Context())
			var readers sync.WaitGroup
			for range 4 {
				readers.Go(func() {
					for ctx.Err() == nil {
						_, _ = s.Find(ctx, "list", schema(), projections.Selection{Limit: 100, Order: projections.Order{Start: true}})
						_, _ = s.Scan(ctx, projections.Ref{Projection: "list", Number: 1}, schema(), 0, documents)
					}
				})
			}
			until(t, "it is read", func() bool {
				found, err := s.Find(ctx, "list", schema(), projections.Selection{Limit: 100})
				return err == nil && len(found.Rows) == 100
			})
			damage(t, file)
			until(t, "the store is empty", func() bool {
				_, err := s.Find(ctx, "list", schema(), projections.Selection{Limit: 1, Count: documents + 1})
				return errors.Is(err, projections.ErrNotBuilt)
			})
			cancel()
			readers.Wait()
			wantEmpty(t, s)
			if !strings.Contains(log.String(), file) {
				t.Errorf("it was not logged: %s", log)
			}
		})
	}
}

// A write-ahead log that lacks what its index says it has is damage as well.
func TestLogIsTruncated(t *testing.T) {
	s, file, log := filled(t)
	checkpoint(t, file)
	if _, err := besideFile(t, file).Exec("UPDATE generations SET touched = touched + 1"); err != nil {
		t.Fatal(err)
	}
	truncate(t, file+"-wal", 0)
	wantEmpty(t, s)
	if names := aside(t, file); len(names) == 0 || !strings.Contains(log.String(), names[0]) {
		t.Errorf("set aside: %v; the log says %s", names, log)
	}
}

// Of two stores on one file, one finds the damage and sets the file aside, and the other goes on with the new file.
func TestDamageIsFoundByAnother(t *testing.T) {
	one, file, _ := filled(t)
	two := open(t, file)
	checkpoint(t, file)
	overwrite(t, file, 0)
	for _, s := range []*sqlite.Store{one, two} {
		until(t, "the store is empty", func() bool {
			_, err := s.Find(t.Context(), "list", schema(), projections.Selection{Limit: 1, Count: documents + 1})
			return errors.Is(err, projections.ErrNotBuilt)
		})
	}
	fill(t, two)
	until(t, "both have the same", func() bool {
		found, err := one.Find(t.Context(), "list", schema(), projections.Selection{Limit: 1, Count: documents + 1})
		return err == nil && found.Count == documents
	})
}

// A store that opens only an existing file reads it, and neither creates a file nor sets one aside.
func TestExisting(t *testing.T) {
	s, file, _ := filled(t)
	reader, err := sqlite.OpenWith(file, sqlite.Options{Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := reader.Find(t.Context(), "list", schema(), projections.Selection{Count: documents + 1}); err != nil || found.Count != documents {
		t.Errorf("it finds %d, %v", found.Count, err)
	}
	if err := errors.Join(reader.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	overwrite(t, file, 0)
	if reader, err := sqlite.OpenWith(file, sqlite.Options{Existing: true}); err == nil {
		reader.Close()
		t.Error("it opens a damaged file")
	}
	if names := aside(t, file); len(names) > 0 {
		t.Errorf("it has set aside %v", names)
	}
	missing := filepath.Join(t.TempDir(), "none", "views.db")
	if _, err := sqlite.OpenWith(missing, sqlite.Options{Existing: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(missing)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has created a folder: %v", err)
	}
}

// A file that an older program wrote is used as it is.
func TestOlderFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "views.db")
	db := besideFile(t, file)
	_, err := db.Exec(`PRAGMA journal_mode = WAL;
		CREATE TABLE projections (name TEXT PRIMARY KEY, active INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
		CREATE TABLE generations (projection TEXT NOT NULL, number INTEGER NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL,
			longest INTEGER NOT NULL, touched INTEGER NOT NULL, PRIMARY KEY (projection, number)) WITHOUT ROWID;
		INSERT INTO projections VALUES ('list', 1, 1);
		INSERT INTO generations VALUES ('list', 1, 1, 77, 5, 1700000000000000)`)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, file)
	state, err := s.State(t.Context(), "list")
	if err != nil || state.Active != 1 || state.Generations[0].Position != 77 || state.Generations[0].Longest != 5 {
		t.Errorf("its state is %+v, %v", state, err)
	}
	// It does not say which event it is at, so no other generation is behind it.
	g, err := s.Begin(t.Context(), "list", 1, projections.Schema{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Activate(t.Context(), "list", 1, g.Number); err != nil {
		t.Error(err)
	}
}

// While another process has the write lock, a write ends as soon as its context does, whether it waits for that process or for another
// write.
func TestWritersLeave(t *testing.T) {
	s, file, _ := filled(t)
	other, err := besideFile(t, file).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	cancelled := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := s.Write(ctx, projections.Ref{Projection: "list", Number: 1}, schema(), nil, projections.Checkpoint{Position: 2000})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a cancelled write ended with %v", err)
		}
	}
	cancelled() // while it waits for the other process
	// The first write waits for the other process, the next ones wait for the first.
	first := make(chan error, 1)
	go func() {
		first <- s.Write(t.Context(), projections.Ref{Projection: "list", Number: 1}, schema(), nil, projections.Checkpoint{Position: 2000})
	}()
	for range 3 {
		cancelled()
		select {
		case err := <-first:
			t.Fatalf("the first write is over already: %v", err)
		default:
		}
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Errorf("the first write: %v", err)
	}
}

func checkpoint(t *testing.T, file string) {
	t.Helper()
	if _, err := besideFile(t, file).Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
}

func halve(t *testing.T, file string) {
	t.Helper()
	is, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	truncate(t, file, is.Size()/2/pageSize*pageSize)
}

func truncate(t *testing.T, file string, size int64) {
	t.Helper()
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
}

// remove removes a file, unless somebody has done so.
func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// replaceWith replaces a file by another.
func replaceWith(t *testing.T, file string, content []byte) {
	t.Helper()
	other := file + ".other"
	if err := os.WriteFile(other, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
}
