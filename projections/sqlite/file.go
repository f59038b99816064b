package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"roombook/projections"
)

// file is an open database: the file that was at the path when it was opened.
type file struct {
	path    string
	info    os.FileInfo
	readers *pool

	// lock holds a token while the writer is in use. The writer is nil until it is needed, and again after it broke.
	lock   chan struct{}
	writer *connection
	closed bool

	// known has the generation of each projection that was active when it was last read.
	known sync.Map
	// orders are the orders of fields in the documents of generations, by projections.Ref.
	orders sync.Map
}

// openFile opens the file at the path, and creates it if it is missing, unless it must exist.
func openFile(path string, existing bool) (*file, error) {
	f := &file{path: path, lock: make(chan struct{}, 1)}
	f.readers = newPool(max(4, 2*runtime.GOMAXPROCS(0)), func() (*connection, error) {
		return f.connect("rw", "query_only(1)", "cache_size(-4000)", "mmap_size(268435456)")
	})
	err := f.createTables(existing)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// errReplaced means that there is another file at the path now.
var errReplaced = errors.New("the file was removed or replaced")

// connect opens a connection to the file. Modes are those of SQLite: rwc creates the file if it is missing.
func (f *file) connect(mode string, pragmas ...string) (*connection, error) {
	query := url.Values{"mode": {mode}, "_pragma": append([]string{fmt.Sprintf("busy_timeout(%d)", busyTime.Milliseconds())}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(f.path), RawQuery: query.Encode()}
	c, err := connect(u.String())
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(f.path)
	switch {
	case err == nil && f.info == nil:
		f.info = info
	case err == nil && !os.SameFile(info, f.info):
		err = errReplaced
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// createTables creates the tables, except in a file that must exist, and adds the columns that the tables of older programs lack.
func (f *file) createTables(existing bool) error {
	ctx := context.Background()
	if existing {
		var missing []string
		err := f.readers.with(ctx, func(c *connection) (err error) {
			missing, err = missingColumns(ctx, c)
			return err
		})
		if err != nil || len(missing) == 0 {
			return err
		}
	}
	mode := "rwc"
	if existing {
		mode = "rw"
	}
	return f.writeIn(ctx, mode, func(w *connection) error {
		return transact(ctx, w, func(ctx context.Context, w *connection) error {
			found, err := w.one(ctx, "SELECT 1 FROM sqlite_schema WHERE name = 'generations'", nil, new(int64))
			if err != nil {
				return err
			}
			if !found && !existing {
				return w.script(ctx, tables)
			}
			missing, err := missingColumns(ctx, w)
			for _, column := range missing {
				if found && err == nil {
					err = w.script(ctx, "ALTER TABLE generations ADD COLUMN "+column+" TEXT NOT NULL DEFAULT ''")
				}
			}
			if err != nil || !slices.Contains(missing, "fields") {
				return err
			}
			return discardColumns(ctx, w)
		})
	})
}

// discardColumns discards the generations in which each field of a document is a column. Only one version of the program reads them.
func discardColumns(ctx context.Context, w *connection) error {
	var refs []projections.Ref
	err := w.query(ctx, `SELECT projection, number FROM generations WHERE EXISTS (
			SELECT 1 FROM pragma_table_info(projection || '_g' || number) WHERE name LIKE 'document.%')`, nil,
		func(v []driver.Value) {
			refs = append(refs, projections.Ref{Projection: v[0].(string), Number: int(v[1].(int64))})
		})
	for _, ref := range refs {
		err = errors.Join(err, discard(ctx, w, ref))
	}
	return err
}

func missingColumns(ctx context.Context, c *connection) (missing []string, err error) {
	missing = slices.Clone(added)
	err = c.query(ctx, "SELECT name FROM pragma_table_info('generations')", nil, func(v []driver.Value) {
		missing = slices.DeleteFunc(missing, func(column string) bool { return column == v[0].(string) })
	})
	return missing, err
}

// write calls do with the writer, which serves one caller at a time.
func (f *file) write(ctx context.Context, do func(w *connection) error) error {
	return f.writeIn(ctx, "rw", do)
}

// writeIn is write with the mode in which the writer is opened if there is none.
func (f *file) writeIn(ctx context.Context, mode string, do func(w *connection) error) error {
	select {
	case f.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.lock }()
	switch {
	case f.closed:
		return errClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case f.writer == nil:
		w, err := f.connect(mode, "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-16000)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)")
		if err != nil {
			return err
		}
		f.writer = w
	}
	defer func() {
		if f.writer.broken {
			f.writer = nil
		}
	}()
	return f.writer.guarded(do)
}

// close waits until nobody uses the file.
func (f *file) close() error {
	f.lock <- struct{}{}
	defer func() { <-f.lock }()
	f.closed = true
	err := f.readers.close()
	if f.writer != nil {
		err = errors.Join(err, f.writer.close())
		f.writer = nil
	}
	return err
}

// checkEvery is how often the path is checked for whether it still is that of the open file.
const checkEvery = 100 * time.Millisecond

// use calls do with the open file. If do finds it damaged, the file is set aside, and the next caller gets an empty one.
func (s *Store) use(do func(*file) error) error {
	f, err := s.file()
	if err != nil {
		return err
	}
	switch err = do(f); {
	case errors.Is(err, errReplaced):
		s.checked.Store(0)
	case isDamage(err) && !s.existing:
		err = errors.Join(err, s.abandon(f))
	}
	return err
}

// isDamage reports whether an error means that the file is not as SQLite wrote it.
func isDamage(err error) bool {
	if errors.Is(err, errTruncated) || errors.Is(err, errForeign) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_IN_PAGE: // the write-ahead log, or its index, was truncated
		return true
	}
	return e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB
}

// file returns the file at the path, and opens it if it is not the open one.
func (s *Store) file() (*file, error) {
	now := time.Now().UnixNano()
	if f := s.current.Load(); f != nil && now-s.checked.Load() < int64(checkEvery) {
		return f, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	f := s.current.Load()
	if f != nil {
		info, err := os.Stat(s.path)
		switch {
		case err == nil && os.SameFile(info, f.info):
			s.checked.Store(now)
			return f, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		s.logger.Warn("the file of the lists was removed or replaced, and is opened again", "file", s.path)
		s.retire(f)
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s.current.Load(), nil
}

// open opens the file at the path; if that is damaged, it is set aside and replaced by an empty one. s.mu must be held.
func (s *Store) open() error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) && !s.existing {
		// A log left behind by another file would be taken for that of the new one.
		if err := s.setAside(); err != nil {
			return err
		}
	}
	f, err := openFile(s.path, s.existing)
	if isDamage(err) && !s.existing {
		s.logger.Warn("the file of the lists is damaged", "file", s.path, "error", err)
		if err := s.setAside(); err != nil {
			return err
		}
		f, err = openFile(s.path, s.existing)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	s.current.Store(f)
	s.checked.Store(time.Now().UnixNano())
	return nil
}

// abandon sets a damaged file aside, unless another goroutine or process has done so.
func (s *Store) abandon(f *file) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.current.Load() != f {
		return nil
	}
	// On closing a file that was not renamed SQLite deletes its log, by name. So the file is renamed first, and then closed.
	defer s.retire(f)
	if info, err := os.Stat(s.path); err != nil || !os.SameFile(info, f.info) {
		return nil
	}
	s.logger.Warn("the file of the lists is damaged", "file", s.path)
	return s.setAside()
}

// retire closes a file in the background, once nobody uses it any more. s.mu must be held.
func (s *Store) retire(f *file) {
	s.current.Store(nil)
	s.retired.Go(func() {
		if err := f.close(); err != nil {
			s.logger.Warn("the former file of the lists could not be closed", "file", s.path, "error", err)
		}
	})
}

// setAside renames the file, its write-ahead log and the index of that. The latter two go first, so that nobody finds them beside a new
// file. s.mu must be held.
func (s *Store) setAside() error {
	name := s.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000")
	renamed := false
	for _, part := range []string{"-wal", "-shm", ""} {
		switch err := os.Rename(s.path+part, name+part); {
		case err == nil:
			renamed = true
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("set a damaged file aside: %w", err)
		}
	}
	if renamed {
		s.logger.Warn("the lists are rebuilt; what was there is kept under another name and may be removed", "name", name)
	}
	return nil
}
