// Package sqlite keeps the documents of projections in one SQLite file, through modernc.org/sqlite, a driver without cgo.
//
// Three ideas:
//
//   - A generation is a table. Its rows are in the order in which documents began, which is the tie-break of every order. The keys are
//     columns, the document is one text. Every index begins with the status, and pages are merged from its parts.
//   - One connection writes, documents and checkpoint in one transaction; others read at the same time (write-ahead log) and see whole
//     transactions. A power failure may undo the last transactions (synchronous=NORMAL), each as a whole, so that the checkpoint still
//     fits the documents: the events after it are folded again.
//   - Several processes may open the same file.
//
// The tables projections and generations list the generations; every other table is one.
package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"roombook/eventstore"
	"roombook/projections"
)

// Store is a [projections.Store] in a SQLite file. Whatever is in the file can be rebuilt, so if it turns out to be damaged, on opening or
// later, it is set aside and an empty one takes its place; and if it was removed or replaced, the file that is there now is opened. Its
// methods may be called by several goroutines at the same time.
type Store struct {
	path     string
	logger   *slog.Logger
	existing bool

	// current is the open file; nil if it was retired and none was opened since, and after Close.
	current atomic.Pointer[file]
	checked atomic.Int64 // when the path was last checked, in nanoseconds since 1970

	// mu is held while a file is opened or retired.
	mu      sync.Mutex
	closed  bool
	retired sync.WaitGroup // files that are closed once nobody uses them any more
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
	touched    INTEGER NOT NULL,            -- grows with every write; older programs read it as its time, in microseconds since 1970
	event      TEXT    NOT NULL DEFAULT '', -- the one at the position: a projections.Point
	considered TEXT    NOT NULL DEFAULT '', -- another projections.Point
	fields     TEXT    NOT NULL DEFAULT '', -- the order of fields in its documents
	changed    TEXT    NOT NULL DEFAULT '', -- the position of the last event that changed a document, in 20 digits
	PRIMARY KEY (projection, number)
) WITHOUT ROWID`

// added are the columns of generations that its first version did not have.
var added = []string{"event", "considered", "fields", "changed"}

// Options say how a file is opened.
type Options struct {
	// Existing opens only a file that is there, for a reader: a missing one is not created (fs.ErrNotExist), and a damaged one is not set
	// aside.
	Existing bool
	// Retry makes OpenWith succeed although the file cannot be opened. Each call of a method tries again, and fails with the reason.
	Retry  bool
	Logger *slog.Logger // nil discards
}

// Open opens the file, and creates it if it is missing.
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
	s := &Store{path: absolute, logger: o.Logger, existing: o.Existing}
	if o.Existing {
		if _, err := os.Stat(absolute); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		if !o.Retry {
			return nil, err
		}
		s.logger.Error("the lists can be neither read nor kept until this is put right", "error", err)
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
	s.retired.Wait()
	return err
}

// read calls do with a connection that reads.
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
		return c.query(ctx, `SELECT p.active, g.number, g.version, g.position, g.longest, g.touched, g.event, g.considered, g.changed
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
				if changed, err := strconv.ParseUint(v[8].(string), 10, 64); err == nil {
					g.Changed = eventstore.Position(changed)
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
	text := `SELECT id, created, position, document FROM ` + table(ref) + ` WHERE id = ?`
	err := s.read(ctx, func(f *file, c *connection) error {
		documents, err := f.documents(ctx, c, ref, schema)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := c.query(context.WithoutCancel(ctx), text, []driver.Value{id}, func(v []driver.Value) {
				row := row(v)
				row.Document = documents.read(v[3].(string))
				found = append(found, row)
			})
			if err := errors.Join(err, documents.err); err != nil {
				return fmt.Errorf("document %s: %w", id, err)
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
		documents, err := f.documents(ctx, c, ref, schema)
		if err != nil {
			return err
		}
		return c.query(ctx, `SELECT id, created, position, document, booking, room, user, status, start, "end" FROM `+table(ref)+` WHERE created > ? ORDER BY created LIMIT ?`,
			[]driver.Value{int64(after), int64(limit)}, func(v []driver.Value) {
				r, text := row(v), v[3].(string)
				r.Status = v[7].(string)
				keys := projections.Keys{Booking: v[4].(string), Room: v[5].(string), User: v[6].(string), Status: r.Status, Start: v[8].(int64), End: v[9].(int64)}
				if r.Document = documents.read(text); r.Document == nil {
					r.Foreign = text
				} else if !documents.kept(r, keys, text) {
					r.Document, r.Foreign = nil, fmt.Sprintf("%s, found and ordered by %+v", text, keys)
				}
				found = append(found, r)
			})
	})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ref, err)
	}
	return found, nil
}

// row is made of id, created and position.
func row(v []driver.Value) projections.Row {
	return projections.Row{ID: v[0].(string), Created: position(v[1]), Position: position(v[2])}
}

func position(v driver.Value) eventstore.Position { return eventstore.Position(v.(int64)) }

// table is the quoted name of the generation's table.
func table(ref projections.Ref) string { return `"` + ref.String() + `"` }
