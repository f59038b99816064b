package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"roombook/projections"
)

// busyTime is how long to wait for another process's lock.
const busyTime = 5 * time.Second

// transaction calls do in a transaction that holds the write lock from its start. It is rolled back if the context ends, but not in the
// middle of a statement: a document takes microseconds, and a goroutine to watch the context would take longer.
func (s *Store) transaction(ctx context.Context, do func(ctx context.Context, w *connection) error) (err error) {
	return s.use(func(f *file) error {
		return f.write(ctx, func(w *connection) error { return transact(ctx, w, do) })
	})
}

func transact(ctx context.Context, w *connection, do func(ctx context.Context, w *connection) error) (err error) {
	uninterrupted := context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			_, _ = w.exec(uninterrupted, "ROLLBACK") // fails if there is no transaction (any more)
		}
	}()
	// Waits while another process has the lock. The driver reports a context that ended meanwhile even if the transaction has begun.
	if _, err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := do(uninterrupted, w); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err = w.exec(uninterrupted, "COMMIT")
	return err
}

// Write implements [projections.Store].
func (s *Store) Write(ctx context.Context, ref projections.Ref, schema projections.Schema, rows []projections.Row, checkpoint projections.Checkpoint) error {
	err := s.transaction(ctx, func(always context.Context, w *connection) error {
		return update(ctx, always, w, projections.Update{Ref: ref, Schema: schema, Rows: rows, Checkpoint: checkpoint})
	})
	if err != nil {
		return fmt.Errorf("write to %s: %w", ref, err)
	}
	return nil
}

// WriteAll implements [projections.Store]. If one cannot be written, each gets a transaction of its own.
func (s *Store) WriteAll(ctx context.Context, all []projections.Update) []error {
	errs := make([]error, len(all))
	err := s.transaction(ctx, func(always context.Context, w *connection) error {
		for _, u := range all {
			if err := update(ctx, always, w, u); err != nil {
				return err
			}
		}
		return nil
	})
	for i, u := range all {
		if err != nil {
			errs[i] = s.Write(ctx, u.Ref, u.Schema, u.Rows, u.Checkpoint)
		}
	}
	return errs
}

// update writes to a generation within a transaction, which always outlasts ctx. It returns ErrRetired for a generation that was dropped
// or replaced.
func update(ctx, always context.Context, w *connection, u projections.Update) error {
	documents, found, err := documentsOf(always, w, u.Ref, u.Schema, "AND number >= (SELECT active FROM projections WHERE name = projection)")
	switch {
	case err != nil:
		return err
	case !found:
		return projections.ErrRetired
	}
	statements := statementsOf(u.Ref)
	for i := range u.Rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := write(always, w, documents, statements, &u.Rows[i]); err != nil {
			return fmt.Errorf("document %s: %w", u.Rows[i].ID, err)
		}
	}
	_, err = w.exec(always, `UPDATE generations SET position = max(position, ?), event = max(event, ?), considered = max(considered, ?),
		changed = max(changed, ?), longest = max(longest, ?), touched = max(touched + 1, ?)
		WHERE projection = ? AND number = ?`, int64(u.Checkpoint.Position), noted(u.Checkpoint.Last()), noted(u.Checkpoint.Considered),
		fmt.Sprintf("%020d", u.Checkpoint.Changed), u.Checkpoint.Longest, time.Now().UnixMicro(), u.Projection, int64(u.Number))
	return err
}

// noted is the stored form of an event, if it is known.
func noted(p projections.Point) string {
	if p.Event == uuid.Nil {
		return ""
	}
	return p.String()
}

// statements write documents of a generation.
type statements struct {
	// same writes a document whose keys are all as they were, and so leaves the indexes alone, though SQLite would not see it.
	same string
	// update writes one whose keys but for the status are as they were.
	update string
	// upsert writes any document.
	upsert string
}

func statementsOf(ref projections.Ref) statements {
	const same = ` WHERE id = ? AND position < ? AND booking = ? AND room = ? AND user = ? AND start = ? AND "end" = ?`
	return statements{
		same:   `UPDATE ` + table(ref) + ` SET position = ?, document = ?` + same + ` AND status = ?`,
		update: `UPDATE ` + table(ref) + ` SET position = ?, document = ?, status = ?` + same,
		upsert: `INSERT INTO ` + table(ref) + ` (created, id, position, booking, room, user, status, start, "end", document)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET position = excluded.position, booking = excluded.booking, room = excluded.room, user = excluded.user,
				status = excluded.status, start = excluded.start, "end" = excluded."end", document = excluded.document
			WHERE excluded.position > position`,
	}
}

func write(ctx context.Context, w *connection, d *documents, s statements, r *projections.Row) error {
	document, err := d.write(r.Document)
	if err != nil {
		return err
	}
	k := d.schema.Keys(r.Document)
	if r.Loaded {
		changed, err := w.exec(ctx, s.same, int64(r.Position), document, r.ID, int64(r.Position), k.Booking, k.Room, k.User, k.Start, k.End, r.Status)
		if err != nil || changed > 0 {
			return err
		}
		changed, err = w.exec(ctx, s.update, int64(r.Position), document, r.Status, r.ID, int64(r.Position), k.Booking, k.Room, k.User, k.Start, k.End)
		if err != nil || changed > 0 {
			return err
		}
	}
	_, err = w.exec(ctx, s.upsert, int64(r.Created), r.ID, int64(r.Position), k.Booking, k.Room, k.User, r.Status, k.Start, k.End, document)
	return err
}

// Begin implements [projections.Store].
func (s *Store) Begin(ctx context.Context, projection string, version int, schema projections.Schema) (projections.Generation, error) {
	g := projections.Generation{Ref: projections.Ref{Projection: projection}, Version: version, Writes: time.Now().UnixMicro()}
	err := s.transaction(ctx, func(ctx context.Context, w *connection) error {
		var number int64
		_, err := w.one(ctx, `INSERT INTO projections (name, last) VALUES (?, 1)
			ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last`, []driver.Value{projection}, &number)
		if err != nil {
			return err
		}
		g.Number = int(number)
		_, err = w.exec(ctx, `INSERT INTO generations (projection, number, version, position, longest, touched, fields) VALUES (?, ?, ?, 0, 0, ?, ?)`,
			projection, number, int64(version), g.Writes, order(schema))
		if err != nil {
			return err
		}
		err = w.script(ctx, `CREATE TABLE `+table(g.Ref)+` (
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
		return index(ctx, w, g.Ref, schema)
	})
	if err != nil {
		return projections.Generation{}, fmt.Errorf("begin a generation of %s: %w", projection, err)
	}
	return g, nil
}

// Ensure implements [projections.Store].
func (s *Store) Ensure(ctx context.Context, ref projections.Ref, schema projections.Schema) error {
	err := s.transaction(ctx, func(ctx context.Context, w *connection) error { return index(ctx, w, ref, schema) })
	if err != nil {
		return fmt.Errorf("index %s: %w", ref, err)
	}
	return nil
}

func index(ctx context.Context, w *connection, ref projections.Ref, schema projections.Schema) error {
	for _, index := range schema.Indexes {
		var columns []string
		for _, c := range index.Columns() {
			columns = append(columns, quoted(c))
		}
		if err := w.script(ctx, `CREATE INDEX IF NOT EXISTS "`+indexName(ref, index.Order)+`" ON `+table(ref)+` (`+strings.Join(columns, ", ")+`)`); err != nil {
			return err
		}
	}
	return nil
}

// indexName differs from the name that older programs gave to an index by the order alone.
func indexName(ref projections.Ref, o projections.Order) string {
	name := ref.String() + "_status"
	for _, c := range o.Columns() {
		name += "_" + string(c)
	}
	return name
}

// Activate implements [projections.Store].
func (s *Store) Activate(ctx context.Context, projection string, from, to int) error {
	err := s.transaction(ctx, func(ctx context.Context, w *connection) error {
		var active, behind int64
		found, err := w.one(ctx, `SELECT p.active, new.event < coalesce(old.event, '')
			FROM projections p JOIN generations new ON new.projection = p.name AND new.number = ?
			LEFT JOIN generations old ON old.projection = p.name AND old.number = p.active
			WHERE p.name = ?`, []driver.Value{int64(to), projection}, &active, &behind)
		switch {
		case err != nil:
			return err
		case !found || active != int64(from):
			return projections.ErrFlipped
		case behind != 0:
			return projections.ErrNotCaughtUp
		}
		_, err = w.exec(ctx, `UPDATE projections SET active = ? WHERE name = ?`, int64(to), projection)
		return err
	})
	if err != nil {
		return fmt.Errorf("activate %s: %w", projections.Ref{Projection: projection, Number: to}, err)
	}
	return nil
}

// Drop implements [projections.Store].
func (s *Store) Drop(ctx context.Context, ref projections.Ref) error {
	err := s.transaction(ctx, func(ctx context.Context, w *connection) error {
		var active int64
		_, err := w.one(ctx, `SELECT count(*) FROM projections WHERE name = ? AND active = ?`, []driver.Value{ref.Projection, int64(ref.Number)}, &active)
		if err != nil {
			return err
		}
		if active > 0 {
			return projections.ErrActive
		}
		return drop(ctx, w, ref)
	})
	if err != nil {
		return fmt.Errorf("drop %s: %w", ref, err)
	}
	return nil
}

// Discard implements [projections.Store].
func (s *Store) Discard(ctx context.Context, ref projections.Ref) error {
	err := s.transaction(ctx, func(ctx context.Context, w *connection) error { return discard(ctx, w, ref) })
	if err != nil {
		return fmt.Errorf("discard %s: %w", ref, err)
	}
	return nil
}

func discard(ctx context.Context, w *connection, ref projections.Ref) error {
	_, err := w.exec(ctx, `UPDATE projections SET active = 0 WHERE name = ? AND active = ?`, ref.Projection, int64(ref.Number))
	if err != nil {
		return err
	}
	return drop(ctx, w, ref)
}

func drop(ctx context.Context, w *connection, ref projections.Ref) error {
	if _, err := w.exec(ctx, `DELETE FROM generations WHERE projection = ? AND number = ?`, ref.Projection, int64(ref.Number)); err != nil {
		return err
	}
	return w.script(ctx, `DROP TABLE IF EXISTS `+table(ref))
}
