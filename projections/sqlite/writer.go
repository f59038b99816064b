package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"roombook/eventstore"
	"roombook/projections"
)

// writer is the one connection that writes.
type writer struct {
	conn *sql.Conn
	// The statements that write documents, by generation.
	documents map[projections.Ref]documentStatements
}

type documentStatements struct {
	// update writes a document whose keys but for the status are as they were, and thereby leaves most indexes alone.
	update *sql.Stmt
	// upsert writes any document.
	upsert *sql.Stmt
}

func newWriter(db *sql.DB) (*writer, error) {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, tables); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &writer{conn: conn, documents: map[projections.Ref]documentStatements{}}, nil
}

func (w *writer) close() error {
	var errs []error
	for ref := range w.documents {
		errs = append(errs, w.forget(ref))
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

func (w *writer) forget(ref projections.Ref) error {
	d, ok := w.documents[ref]
	if !ok {
		return nil
	}
	delete(w.documents, ref)
	return errors.Join(d.update.Close(), d.upsert.Close())
}

func (w *writer) statements(ctx context.Context, ref projections.Ref) (d documentStatements, err error) {
	d, ok := w.documents[ref]
	if ok {
		return d, nil
	}
	d.update, err = w.conn.PrepareContext(ctx, `UPDATE `+table(ref)+` SET position = ?1, status = ?2, document = ?3
		WHERE id = ?4 AND position < ?1 AND booking = ?5 AND room = ?6 AND user = ?7 AND start = ?8 AND "end" = ?9`)
	if err != nil {
		return d, err
	}
	d.upsert, err = w.conn.PrepareContext(ctx, `INSERT INTO `+table(ref)+` (created, id, position, booking, room, user, status, start, "end", document)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET position = excluded.position, booking = excluded.booking, room = excluded.room, user = excluded.user,
			status = excluded.status, start = excluded.start, "end" = excluded."end", document = excluded.document
		WHERE excluded.position > position`)
	if err != nil {
		return d, errors.Join(err, d.update.Close())
	}
	w.documents[ref] = d
	return d, nil
}

// transaction runs a function in a transaction that has the write lock from its beginning. It leaves when the context ends,
// but not in the middle of a statement: a document takes microseconds, and a watcher for each would take longer.
func (s *Store) transaction(ctx context.Context, do func(ctx context.Context, w *writer) error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.writer.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	uninterrupted := context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			_, _ = s.writer.conn.ExecContext(uninterrupted, "ROLLBACK") // fails if SQLite has rolled back already
		}
	}()
	if err := do(uninterrupted, s.writer); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err = s.writer.conn.ExecContext(uninterrupted, "COMMIT")
	return err
}

// Write implements [projections.Store].
func (s *Store) Write(ctx context.Context, ref projections.Ref, rows []projections.Row, checkpoint projections.Checkpoint) error {
	err := s.transaction(ctx, func(always context.Context, w *writer) error {
		if err := w.writable(always, ref); err != nil {
			return err
		}
		if len(rows) > 0 {
			documents, err := w.statements(always, ref)
			if err != nil {
				return err
			}
			for i := range rows {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := documents.write(always, &rows[i]); err != nil {
					return fmt.Errorf("document %s: %w", rows[i].ID, err)
				}
			}
		}
		_, err := w.conn.ExecContext(always, `UPDATE generations SET position = max(position, ?), longest = max(longest, ?), touched = ?
			WHERE projection = ? AND number = ?`, int64(checkpoint.Position), checkpoint.Longest, time.Now().UnixMicro(), ref.Projection, ref.Number)
		return err
	})
	if err != nil {
		return fmt.Errorf("write to %s: %w", ref, err)
	}
	return nil
}

// writable returns ErrRetired for a generation that is gone or replaced.
func (w *writer) writable(ctx context.Context, ref projections.Ref) error {
	var there bool
	err := w.conn.QueryRowContext(ctx, `SELECT count(*) FROM projections p JOIN generations g ON g.projection = p.name
		WHERE p.name = ? AND g.number = ? AND g.number >= p.active`, ref.Projection, ref.Number).Scan(&there)
	if err == nil && !there {
		return projections.ErrRetired
	}
	return err
}

func (d documentStatements) write(ctx context.Context, row *projections.Row) error {
	if row.Loaded {
		result, err := d.update.ExecContext(ctx, int64(row.Position), row.Status, row.Document, row.ID, row.Booking, row.Room, row.User, row.Start, row.End)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
	}
	_, err := d.upsert.ExecContext(ctx, int64(row.Created), row.ID, int64(row.Position), row.Booking, row.Room, row.User, row.Status, row.Start, row.End, row.Document)
	return err
}

// Begin implements [projections.Store].
func (s *Store) Begin(ctx context.Context, projection string, version int, schema projections.Schema) (projections.Generation, error) {
	g := projections.Generation{Ref: projections.Ref{Projection: projection}, Version: version, Touched: time.UnixMicro(time.Now().UnixMicro())}
	err := s.transaction(ctx, func(ctx context.Context, w *writer) error {
		err := w.conn.QueryRowContext(ctx, `INSERT INTO projections (name, last) VALUES (?, 1)
			ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last`, projection).Scan(&g.Number)
		if err != nil {
			return err
		}
		_, err = w.conn.ExecContext(ctx, `INSERT INTO generations (projection, number, version, position, longest, touched) VALUES (?, ?, ?, 0, 0, ?)`,
			projection, g.Number, version, g.Touched.UnixMicro())
		if err != nil {
			return err
		}
		_, err = w.conn.ExecContext(ctx, `CREATE TABLE `+table(g.Ref)+` (
			created  INTEGER PRIMARY KEY, -- position of the event that the document began with
			id       TEXT    NOT NULL UNIQUE,
			position INTEGER NOT NULL,    -- of the last event that changed it
			booking  TEXT    NOT NULL,
			room     TEXT    NOT NULL,
			user     TEXT    NOT NULL,
			status   TEXT    NOT NULL,
			start    INTEGER NOT NULL,    -- microseconds since 1970
			"end"    INTEGER NOT NULL,
			document TEXT    NOT NULL)`)
		if err != nil {
			return err
		}
		return w.index(ctx, g.Ref, schema)
	})
	if err != nil {
		return projections.Generation{}, fmt.Errorf("begin a generation of %s: %w", projection, err)
	}
	return g, nil
}

// Ensure implements [projections.Store].
func (s *Store) Ensure(ctx context.Context, ref projections.Ref, schema projections.Schema) error {
	err := s.transaction(ctx, func(ctx context.Context, w *writer) error { return w.index(ctx, ref, schema) })
	if err != nil {
		return fmt.Errorf("index %s: %w", ref, err)
	}
	return nil
}

func (w *writer) index(ctx context.Context, ref projections.Ref, schema projections.Schema) error {
	for _, order := range schema.Indexes {
		var columns []string
		if order.By != "" {
			columns = append(columns, string(order.By))
		}
		if order.Start {
			columns = append(columns, "start")
		}
		name := ref.String() + "_" + strings.Join(columns, "_")
		if _, err := w.conn.ExecContext(ctx, `CREATE INDEX IF NOT EXISTS "`+name+`" ON `+table(ref)+` (`+strings.Join(columns, ", ")+`)`); err != nil {
			return err
		}
	}
	return nil
}

// Activate implements [projections.Store].
func (s *Store) Activate(ctx context.Context, projection string, from, to int) error {
	err := s.transaction(ctx, func(ctx context.Context, w *writer) error {
		var active int
		var position, old eventstore.Position
		err := w.conn.QueryRowContext(ctx, `SELECT p.active, new.position, coalesce(old.position, 0)
			FROM projections p JOIN generations new ON new.projection = p.name AND new.number = ?
			LEFT JOIN generations old ON old.projection = p.name AND old.number = p.active
			WHERE p.name = ?`, to, projection).Scan(&active, &position, &old)
		switch {
		case errors.Is(err, sql.ErrNoRows) || err == nil && active != from:
			return projections.ErrFlipped
		case err != nil:
			return err
		case position < old:
			return projections.ErrNotCaughtUp
		}
		_, err = w.conn.ExecContext(ctx, `UPDATE projections SET active = ? WHERE name = ?`, to, projection)
		return err
	})
	if err != nil {
		return fmt.Errorf("activate %s: %w", projections.Ref{Projection: projection, Number: to}, err)
	}
	return nil
}

// Drop implements [projections.Store].
func (s *Store) Drop(ctx context.Context, ref projections.Ref) error {
	err := s.transaction(ctx, func(ctx context.Context, w *writer) error {
		var active bool
		err := w.conn.QueryRowContext(ctx, `SELECT count(*) FROM projections WHERE name = ? AND active = ?`, ref.Projection, ref.Number).Scan(&active)
		if err != nil {
			return err
		}
		if active {
			return projections.ErrActive
		}
		if err := w.forget(ref); err != nil {
			return err
		}
		if _, err := w.conn.ExecContext(ctx, `DELETE FROM generations WHERE projection = ? AND number = ?`, ref.Projection, ref.Number); err != nil {
			return err
		}
		_, err = w.conn.ExecContext(ctx, `DROP TABLE IF EXISTS `+table(ref))
		return err
	})
	if err != nil {
		return fmt.Errorf("drop %s: %w", ref, err)
	}
	return nil
}
