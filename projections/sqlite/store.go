// Package sqlite keeps the documents of projections in one SQLite file, through the driver in Go, modernc.org/sqlite.
//
// Three ideas:
//
//   - A generation is a table. Its rows are in the order in which documents began, which is the tie-break of every order, so
//     that an index needs no more than the columns that it orders by. The keys are columns, the document is one JSON text.
//   - One connection writes, documents and checkpoint in one transaction; others read meanwhile (write-ahead log), and see
//     whole transactions. A power failure may take the last transactions away (synchronous=NORMAL), each as a whole, so that the checkpoint
//     still fits the documents; the events are the truth and are folded again.
//   - Several processes may open the same file.
//
// The tables projections and generations say what there is; every other table is a generation.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"roombook/eventstore"
	"roombook/projections"
)

// Store is a [projections.Store] in a SQLite file.
type Store struct {
	readers *statements

	// mu is held while the writer works.
	mu     sync.Mutex
	writer *writer

	close func() error
}

var _ projections.Store = (*Store)(nil)

const tables = `
CREATE TABLE IF NOT EXISTS projections (
	name   TEXT PRIMARY KEY,
	active INTEGER NOT NULL DEFAULT 0, -- the generation that readers see
	last   INTEGER NOT NULL DEFAULT 0  -- the greatest number ever given
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generations (
	projection TEXT    NOT NULL,
	number     INTEGER NOT NULL,
	version    INTEGER NOT NULL,
	position   INTEGER NOT NULL,
	longest    INTEGER NOT NULL,
	touched    INTEGER NOT NULL, -- microseconds since 1970
	PRIMARY KEY (projection, number)
) WITHOUT ROWID`

// Open opens the file, and makes it if it is not there.
func Open(file string) (*Store, error) {
	s, err := open(file)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	return s, nil
}

func open(file string) (*Store, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	writing, err := sql.Open("sqlite", source(file, "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-16000)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)"))
	if err != nil {
		return nil, err
	}
	writing.SetMaxOpenConns(1)
	w, err := newWriter(writing)
	if err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	reading, err := sql.Open("sqlite", source(file, "query_only(1)", "cache_size(-4000)", "mmap_size(268435456)"))
	if err != nil {
		return nil, errors.Join(err, w.close(), writing.Close())
	}
	conns := max(4, 2*runtime.GOMAXPROCS(0))
	reading.SetMaxOpenConns(conns)
	reading.SetMaxIdleConns(conns)

	s := &Store{readers: newStatements(reading), writer: w}
	s.close = sync.OnceValue(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return errors.Join(s.readers.close(), reading.Close(), w.close(), writing.Close())
	})
	return s, nil
}

// source is the driver's name for the file, opened with pragmas. Locks of other processes are waited for.
func source(file string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(file), RawQuery: query.Encode()}
	return u.String()
}

// Close implements [projections.Store].
func (s *Store) Close() error { return s.close() }

// Ping implements [projections.Store].
func (s *Store) Ping(ctx context.Context) error {
	var n int
	return s.readers.row(ctx, "SELECT count(*) FROM projections", nil, &n)
}

// State implements [projections.Store].
func (s *Store) State(ctx context.Context, projection string) (projections.State, error) {
	var state projections.State
	err := s.readers.rows(ctx, `SELECT p.active, g.number, g.version, g.position, g.longest, g.touched
		FROM projections p JOIN generations g ON g.projection = p.name WHERE p.name = ? ORDER BY g.number`, []any{projection},
		func(rows *sql.Rows) error {
			g, touched := projections.Generation{Ref: projections.Ref{Projection: projection}}, int64(0)
			if err := rows.Scan(&state.Active, &g.Number, &g.Version, &g.Position, &g.Longest, &touched); err != nil {
				return err
			}
			g.Touched = time.UnixMicro(touched)
			state.Generations = append(state.Generations, g)
			return nil
		})
	if err != nil {
		return projections.State{}, fmt.Errorf("state of %s: %w", projection, err)
	}
	return state, nil
}

// Load implements [projections.Store].
func (s *Store) Load(ctx context.Context, ref projections.Ref, ids []string) ([]projections.Row, error) {
	found := make([]projections.Row, 0, len(ids))
	query := `SELECT created, position, document FROM ` + table(ref) + ` WHERE id = ?`
	for _, id := range ids {
		row := projections.Row{ID: id}
		err := s.readers.row(ctx, query, []any{id}, &row.Created, &row.Position, &row.Document)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("load from %s: %w", ref, err)
		}
		found = append(found, row)
	}
	return found, nil
}

// Scan implements [projections.Store].
func (s *Store) Scan(ctx context.Context, ref projections.Ref, after eventstore.Position, limit int) ([]projections.Row, error) {
	var found []projections.Row
	err := s.readers.rows(ctx, `SELECT id, created, position, document FROM `+table(ref)+` WHERE created > ? ORDER BY created LIMIT ?`,
		[]any{int64(after), limit}, func(rows *sql.Rows) error {
			var row projections.Row
			err := rows.Scan(&row.ID, &row.Created, &row.Position, &row.Document)
			found = append(found, row)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ref, err)
	}
	return found, nil
}

// table is the quoted name of the generation's table.
func table(ref projections.Ref) string { return `"` + ref.String() + `"` }
