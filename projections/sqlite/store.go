// Package sqlite keeps the documents of projections in one SQLite file, through the driver in Go, modernc.org/sqlite.
//
// Three ideas:
//
//   - A generation is a table. Its rows are in the order in which documents began, which is the tie-break of every order. The fields of
//     documents are columns. Every index begins with the status, and pages are merged from its parts.
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
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"roombook/eventstore"
	"roombook/projections"
)

// Store is a [projections.Store] in a SQLite file. What is in it can be made anew, so a file that turns out to be damaged is set aside,
// at the beginning or later, and an empty one takes its place; one that was removed or replaced is noticed.
type Store struct {
	path   string
	logger *slog.Logger
	visit  bool

	// current is what is open; nil if what was open is not to be used any more, and after Close.
	current atomic.Pointer[file]
	looked  atomic.Int64 // when the path was last looked at, in nanoseconds since 1970

	// mu is held while files are opened and given up.
	mu     sync.Mutex
	closed bool
	old    sync.WaitGroup // files that are given up and that somebody may still be in
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
	touched    INTEGER NOT NULL,            -- grows with every write; older programs take it for the time of that, in microseconds since 1970
	event      TEXT    NOT NULL DEFAULT '', -- the one at the position: a projections.Point
	considered TEXT    NOT NULL DEFAULT '', -- another projections.Point
	PRIMARY KEY (projection, number)
) WITHOUT ROWID`

// later are the columns of generations that its first version did not have.
var later = []string{"event", "considered"}

// Options say how a file is opened.
type Options struct {
	// Visit opens the file as it is, for somebody who only reads: it is not made if it is missing (fs.ErrNotExist), and not set aside
	// if it is damaged.
	Visit bool
	// Patient opens the file later, when it can be opened: until then everything that the store is asked fails, and says why.
	Patient bool
	Logger  *slog.Logger // nil discards
}

// Open opens the file, and makes it if it is not there.
func Open(path string) (*Store, error) { return OpenWith(path, Options{}) }

// OpenWith opens the file as the options say.
func OpenWith(path string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &Store{path: absolute, logger: o.Logger, visit: o.Visit}
	if o.Visit {
		if _, err := os.Stat(absolute); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		if !o.Patient {
			return nil, err
		}
		s.logger.Error("the lists cannot be read or kept until this is put right", "error", err)
	}
	return s, nil
}

// Close implements [projections.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var err error
	if f := s.current.Swap(nil); f != nil {
		err = f.close()
	}
	s.old.Wait()
	return err
}

// read lends a connection that reads to a function.
func (s *Store) read(ctx context.Context, do func(f *file, c *connection) error) error {
	return s.use(func(f *file) error {
		return f.readers.with(ctx, func(c *connection) error { return do(f, c) })
	})
}

// Ping implements [projections.Store].
func (s *Store) Ping(ctx context.Context) error {
	var n int64
	return s.read(ctx, func(_ *file, c *connection) error {
		_, err := c.one(ctx, "SELECT count(*) FROM projections", nil, &n)
		return err
	})
}

// State implements [projections.Store].
func (s *Store) State(ctx context.Context, projection string) (projections.State, error) {
	var state projections.State
	err := s.read(ctx, func(_ *file, c *connection) error {
		return c.query(ctx, `SELECT p.active, g.number, g.version, g.position, g.longest, g.touched, g.event, g.considered
			FROM projections p JOIN generations g ON g.projection = p.name WHERE p.name = ? ORDER BY g.number`, []driver.Value{projection},
			func(v []driver.Value) {
				g := projections.Generation{
					Ref:        projections.Ref{Projection: projection, Number: int(v[1].(int64))},
					Version:    int(v[2].(int64)),
					Checkpoint: projections.Checkpoint{Position: position(v[3]), Longest: v[4].(int64), Considered: projections.ParsePoint(v[7].(string))},
					Writes:     v[5].(int64),
				}
				if at := projections.ParsePoint(v[6].(string)); at.Position == g.Position {
					g.Event = at.Event
				}
				state.Active = int(v[0].(int64))
				state.Generations = append(state.Generations, g)
			})
	})
	if err != nil {
		return projections.State{}, fmt.Errorf("state of %s: %w", projection, err)
	}
	return state, nil
}

// Load implements [projections.Store].
func (s *Store) Load(ctx context.Context, ref projections.Ref, schema projections.Schema, ids []string) ([]projections.Row, error) {
	found := make([]projections.Row, 0, len(ids))
	err := s.read(ctx, func(f *file, c *connection) error {
		form, err := f.form(ctx, c, ref, schema)
		if err != nil {
			return err
		}
		text := `SELECT id, created, position, status, ` + form.read + ` FROM ` + table(ref) + ` d WHERE id = ?`
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			var foreign error
			err := c.query(context.WithoutCancel(ctx), text, []driver.Value{id}, func(v []driver.Value) {
				var row projections.Row
				row, foreign = form.row(v)
				found = append(found, row)
			})
			if err := errors.Join(err, foreign); err != nil {
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
func (s *Store) Scan(ctx context.Context, ref projections.Ref, schema projections.Schema, after eventstore.Position, limit int) ([]projections.Row, error) {
	var found []projections.Row
	err := s.read(ctx, func(f *file, c *connection) error {
		form, err := f.form(ctx, c, ref, schema)
		if err != nil {
			return err
		}
		text := `SELECT booking, room, user, start, "end", id, created, position, status, ` + form.read + ` FROM ` + table(ref) + ` d WHERE created > ? ORDER BY created LIMIT ?`
		return c.query(ctx, text, []driver.Value{int64(after), int64(limit)}, func(v []driver.Value) {
			keys := projections.Keys{Booking: v[0].(string), Room: v[1].(string), User: v[2].(string), Start: v[3].(int64), End: v[4].(int64)}
			row, err := form.row(v[5:])
			if err != nil {
				row.Foreign = err.Error()
			} else if schema.Misplaces(row.Document, keys) {
				row.Foreign, row.Document = fmt.Sprintf("a document that is found and ordered by %+v", keys), nil
			}
			found = append(found, row)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ref, err)
	}
	return found, nil
}

// row is made of id, created, position, status and the columns that documents are read from.
func (f *form) row(v []driver.Value) (projections.Row, error) {
	r := projections.Row{ID: v[0].(string), Created: position(v[1]), Position: position(v[2]), Status: v[3].(string)}
	var err error
	if r.Document, err = f.document(v[4:]); err != nil {
		err = fmt.Errorf("%s: %w", r.ID, err)
	}
	return r, err
}

func position(v driver.Value) eventstore.Position { return eventstore.Position(v.(int64)) }

// table is the quoted name of the generation's table.
func table(ref projections.Ref) string { return `"` + ref.String() + `"` }
