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
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"roombook/eventstore"
	"roombook/projections"
)

// Store is a [projections.Store] in a SQLite file.
type Store struct {
	readers *pool

	// mu is held while the writer works.
	mu     sync.Mutex
	writer *connection
	closed bool

	// known are the generations that were last seen to be active, by projection.
	known sync.Map
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
	writer, err := connect(source(file, "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-16000)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)"))
	if err != nil {
		return nil, err
	}
	if err := writer.script(context.Background(), tables); err != nil {
		return nil, errors.Join(err, writer.close())
	}
	readers := newPool(max(4, 2*runtime.GOMAXPROCS(0)), func() (*connection, error) {
		return connect(source(file, "query_only(1)", "cache_size(-4000)", "mmap_size(268435456)"))
	})
	return &Store{readers: readers, writer: writer}, nil
}

// source is the driver's name for the file, opened with pragmas. Locks of other processes are waited for.
func source(file string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(file), RawQuery: query.Encode()}
	return u.String()
}

// Close implements [projections.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.readers.close(), s.writer.close())
}

// Ping implements [projections.Store].
func (s *Store) Ping(ctx context.Context) error {
	var n int64
	return s.readers.with(ctx, func(c *connection) error {
		_, err := c.one(ctx, "SELECT count(*) FROM projections", nil, &n)
		return err
	})
}

// State implements [projections.Store].
func (s *Store) State(ctx context.Context, projection string) (projections.State, error) {
	var state projections.State
	err := s.readers.with(ctx, func(c *connection) error {
		return c.query(ctx, `SELECT p.active, g.number, g.version, g.position, g.longest, g.touched
			FROM projections p JOIN generations g ON g.projection = p.name WHERE p.name = ? ORDER BY g.number`, []driver.Value{projection},
			func(v []driver.Value) {
				state.Active = int(v[0].(int64))
				state.Generations = append(state.Generations, projections.Generation{
					Ref:        projections.Ref{Projection: projection, Number: int(v[1].(int64))},
					Version:    int(v[2].(int64)),
					Checkpoint: projections.Checkpoint{Position: position(v[3]), Longest: v[4].(int64)},
					Touched:    time.UnixMicro(v[5].(int64)),
				})
			})
	})
	if err != nil {
		return projections.State{}, fmt.Errorf("state of %s: %w", projection, err)
	}
	return state, nil
}

// Load implements [projections.Store].
func (s *Store) Load(ctx context.Context, ref projections.Ref, ids []string) ([]projections.Row, error) {
	found := make([]projections.Row, 0, len(ids))
	text := `SELECT id, created, position, document FROM ` + table(ref) + ` WHERE id = ?`
	err := s.readers.with(ctx, func(c *connection) error {
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := c.query(context.WithoutCancel(ctx), text, []driver.Value{id}, func(v []driver.Value) { found = append(found, row(v)) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load from %s: %w", ref, err)
	}
	return found, nil
}

// Scan implements [projections.Store].
func (s *Store) Scan(ctx context.Context, ref projections.Ref, after eventstore.Position, limit int) ([]projections.Row, error) {
	var found []projections.Row
	err := s.readers.with(ctx, func(c *connection) error {
		return c.query(ctx, `SELECT id, created, position, document FROM `+table(ref)+` WHERE created > ? ORDER BY created LIMIT ?`,
			[]driver.Value{int64(after), int64(limit)}, func(v []driver.Value) { found = append(found, row(v)) })
	})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ref, err)
	}
	return found, nil
}

// row is made of id, created, position and document.
func row(v []driver.Value) projections.Row {
	return projections.Row{ID: v[0].(string), Created: position(v[1]), Position: position(v[2]), Document: v[3].(string)}
}

func position(v driver.Value) eventstore.Position { return eventstore.Position(v.(int64)) }

// table is the quoted name of the generation's table.
func table(ref projections.Ref) string { return `"` + ref.String() + `"` }
