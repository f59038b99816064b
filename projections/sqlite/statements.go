package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// maxStatements bounds the prepared statements. Queries differ in few ways, so that more of them are those of generations
// that are gone.
const maxStatements = 256

// statements runs queries on a pool of connections and keeps them prepared. May be used from any goroutine.
type statements struct {
	db *sql.DB

	// mu is held for reading while a statement is in use, and for writing to add or close some.
	mu     sync.RWMutex
	byText map[string]*sql.Stmt
}

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, byText: map[string]*sql.Stmt{}}
}

// rows calls visit for each row.
func (s *statements) rows(ctx context.Context, query string, args []any, visit func(*sql.Rows) error) (err error) {
	stmt, done, err := s.prepared(ctx, query)
	if err != nil {
		return err
	}
	defer done()
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := visit(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row scans the first row; sql.ErrNoRows if there is none.
func (s *statements) row(ctx context.Context, query string, args []any, into ...any) error {
	stmt, done, err := s.prepared(ctx, query)
	if err != nil {
		return err
	}
	defer done()
	return stmt.QueryRowContext(ctx, args...).Scan(into...)
}

// prepared is the statement; done must be called after its use.
func (s *statements) prepared(ctx context.Context, query string) (stmt *sql.Stmt, done func(), err error) {
	for {
		s.mu.RLock()
		if stmt := s.byText[query]; stmt != nil {
			return stmt, s.mu.RUnlock, nil
		}
		s.mu.RUnlock()
		if err := s.prepare(ctx, query); err != nil {
			return nil, nil, err
		}
	}
}

func (s *statements) prepare(ctx context.Context, query string) error {
	stmt, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byText[query] != nil {
		return stmt.Close()
	}
	if len(s.byText) >= maxStatements {
		if err := s.closeLocked(); err != nil {
			return errors.Join(err, stmt.Close())
		}
	}
	s.byText[query] = stmt
	return nil
}

func (s *statements) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *statements) closeLocked() error {
	var errs []error
	for query, stmt := range s.byText {
		errs = append(errs, stmt.Close())
		delete(s.byText, query)
	}
	return errors.Join(errs...)
}
