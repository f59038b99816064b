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
)

// file is an open file: what stood at the path when it was opened.
type file struct {
	path    string
	is      os.FileInfo
	readers *pool

	// lock holds a token while the writer works. The writer is nil until it is needed, and after it broke.
	lock   chan struct{}
	writer *connection
	closed bool

	// known are the generations that were last seen to be active, by projection.
	known sync.Map
}

// openFile opens what stands at the path, or makes it unless it is only to be visited.
func openFile(path string, visit bool) (*file, error) {
	f := &file{path: path, lock: make(chan struct{}, 1)}
	f.readers = newPool(max(4, 2*runtime.GOMAXPROCS(0)), func() (*connection, error) {
		return f.connect("rw", "query_only(1)", "cache_size(-4000)", "mmap_size(268435456)")
	})
	err := f.make(visit)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// errReplaced means that another file stands at the path now.
var errReplaced = errors.New("the file was removed or replaced")

// connect opens a connection to the file. Modes are those of SQLite: rwc makes the file if it is not there.
func (f *file) connect(mode string, pragmas ...string) (*connection, error) {
	query := url.Values{"mode": {mode}, "_pragma": append([]string{fmt.Sprintf("busy_timeout(%d)", busyTime.Milliseconds())}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(f.path), RawQuery: query.Encode()}
	c, err := connect(u.String())
	if err != nil {
		return nil, err
	}
	is, err := os.Stat(f.path)
	switch {
	case err == nil && f.is == nil:
		f.is = is
	case err == nil && !os.SameFile(is, f.is):
		err = errReplaced
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// make sees to it that the file has its tables, but for a visitor none where there are none.
func (f *file) make(visit bool) error {
	ctx := context.Background()
	if visit {
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
	if visit {
		mode = "rw"
	}
	return f.writeIn(ctx, mode, func(w *connection) error {
		return transact(ctx, w, func(ctx context.Context, w *connection) error {
			made, err := w.one(ctx, "SELECT 1 FROM sqlite_schema WHERE name = 'generations'", nil, new(int64))
			if err != nil {
				return err
			}
			if !made && !visit {
				return w.script(ctx, tables)
			}
			missing, err := missingColumns(ctx, w)
			for _, column := range missing {
				if made && err == nil {
					err = w.script(ctx, "ALTER TABLE generations ADD COLUMN "+column+" TEXT NOT NULL DEFAULT ''")
				}
			}
			return err
		})
	})
}

func missingColumns(ctx context.Context, c *connection) (missing []string, err error) {
	missing = slices.Clone(later)
	err = c.query(ctx, "SELECT name FROM pragma_table_info('generations')", nil, func(v []driver.Value) {
		missing = slices.DeleteFunc(missing, func(column string) bool { return column == v[0].(string) })
	})
	return missing, err
}

// write lends the connection that writes to a function.
func (f *file) write(ctx context.Context, do func(w *connection) error) error {
	return f.writeIn(ctx, "rw", do)
}

// writeIn is write with the mode in which the connection is opened if there is none.
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

// close waits for those who are in the file.
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

// lookEvery is how often the path is looked at, to see whether the file still stands there.
const lookEvery = 100 * time.Millisecond

// use calls a function with the file. If that finds the file damaged, it is set aside, and the next one who comes finds an empty one.
func (s *Store) use(do func(*file) error) error {
	f, err := s.file()
	if err != nil {
		return err
	}
	switch err = do(f); {
	case errors.Is(err, errReplaced):
		s.looked.Store(0)
	case isDamage(err) && !s.visit:
		err = errors.Join(err, s.giveUp(f))
	}
	return err
}

// isDamage reports whether an error means that the file is not what SQLite wrote.
func isDamage(err error) bool {
	if errors.Is(err, errCutOff) || errors.Is(err, errForeign) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_IN_PAGE: // the write-ahead log, or its index, was made shorter
		return true
	}
	return e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB
}

// file is what stands at the path.
func (s *Store) file() (*file, error) {
	now := time.Now().UnixNano()
	if f := s.current.Load(); f != nil && now-s.looked.Load() < int64(lookEvery) {
		return f, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	f := s.current.Load()
	if f != nil {
		is, err := os.Stat(s.path)
		switch {
		case err == nil && os.SameFile(is, f.is):
			s.looked.Store(now)
			return f, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		s.logger.Warn("the file of the lists was removed or replaced, and is opened anew", "file", s.path)
		s.leave(f)
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s.current.Load(), nil
}

// open opens what stands at the path, and something new if that is damaged. s.mu must be held.
func (s *Store) open() error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) && !s.visit {
		// What is left of another file would be taken for a part of the new one.
		if err := s.setAside(); err != nil {
			return err
		}
	}
	f, err := openFile(s.path, s.visit)
	if isDamage(err) && !s.visit {
		s.logger.Warn("the file of the lists is damaged", "file", s.path, "error", err)
		if err := s.setAside(); err != nil {
			return err
		}
		f, err = openFile(s.path, s.visit)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	s.current.Store(f)
	s.looked.Store(time.Now().UnixNano())
	return nil
}

// giveUp sets a damaged file aside, unless another goroutine or process has done so.
func (s *Store) giveUp(f *file) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.current.Load() != f {
		return nil
	}
	// SQLite removes the log of a file that is closed, by its name, unless the file has moved away: so first the one, then the other.
	defer s.leave(f)
	if is, err := os.Stat(s.path); err != nil || !os.SameFile(is, f.is) {
		return nil
	}
	s.logger.Warn("the file of the lists is damaged", "file", s.path)
	return s.setAside()
}

// leave closes a file once nobody is in it any more. s.mu must be held.
func (s *Store) leave(f *file) {
	s.current.Store(nil)
	s.old.Go(func() {
		if err := f.close(); err != nil {
			s.logger.Warn("the former file of the lists could not be closed", "file", s.path, "error", err)
		}
	})
}

// setAside gives the file, and what belongs to it, other names. What belongs to it goes first, so that nobody finds it beside a new
// file. s.mu must be held.
func (s *Store) setAside() error {
	name := s.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000")
	moved := false
	for _, part := range []string{"-wal", "-shm", ""} {
		switch err := os.Rename(s.path+part, name+part); {
		case err == nil:
			moved = true
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("set a damaged file aside: %w", err)
		}
	}
	if moved {
		s.logger.Warn("the lists are made anew; what was there is kept under another name and may be removed", "name", name)
	}
	return nil
}
