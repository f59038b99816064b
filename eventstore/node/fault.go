package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DamagedError says that the stored log is not what was written: a file is missing, or has other bytes. Nothing is removed or
// changed once that is known.
type DamagedError struct {
	Dir string // the log's folder
	err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("node: event log in %s is damaged: %s: restore the folder from a backup", e.Dir, oneLine(e.err))
}

func (e *DamagedError) Unwrap() error { return e.err }

// oneLine is err's text without line breaks: what Pebble says of several files has one for each.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (l *eventLog) damage(err error) error { return &DamagedError{Dir: l.dir, err: err} }

// missingEvent is the damage of a log that lacks an event before its last.
func missingEvent(position uint64) error {
	return fmt.Errorf("the event at position %d is missing", position)
}

// missingRevision is the damage of a log whose index of a stream lacks an event before its last.
func missingRevision(stream string, revision int64) error {
	return fmt.Errorf("event %d of stream %q is missing", revision, stream)
}

// unreadable classifies an error of opening or reading the database: an error that is not the operating system's is damage.
func (l *eventLog) unreadable(err error) error {
	var number syscall.Errno
	if l.hasFailed() {
		return l.failed.err
	}
	if errors.As(err, &number) && number != syscall.ENOENT {
		return l.unusable(err)
	}
	return l.damage(err)
}

// unusable turns an error of the database into one that tells the operator what to do.
func (l *eventLog) unusable(err error) error {
	switch _, damaged := errors.AsType[*DamagedError](err); {
	case damaged:
		return err
	case noRoom(err):
		return fmt.Errorf("node: no room for the event log in %s: make room on its disk and start again: %w", l.dir, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("node: too many open files for the event log in %s: raise the limit (ulimit -n) and start again: %w", l.dir, err)
	case pebble.IsCorruptionError(err):
		return l.damage(err)
	}
	return fmt.Errorf("node: event log in %s: %w", l.dir, err)
}

// noRoom reports whether a disk, a quota or a limit is full.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// fail stops the log for good: after a failed sync the state of the disk is unknown, and nothing may be appended to a damaged log.
func (l *eventLog) fail(err error) {
	l.failed.once.Do(func() {
		l.failed.err = l.unusable(err)
		close(l.failed.done)
	})
}

func (l *eventLog) hasFailed() bool {
	select {
	case <-l.failed.done:
		return true
	default:
		return false
	}
}

// failDamaged stops the log because of damage that a read has found, and returns the error.
func (l *eventLog) failDamaged(err error) error {
	err = l.damage(err)
	l.fail(err)
	return err
}

// park fails the log and blocks the calling goroutine until the process ends, with the locks that it holds. The goroutine is one of
// Pebble's that cannot continue and would otherwise crash the process.
func (l *eventLog) park(err error) {
	l.fail(err)
	select {}
}

// openDatabase is pebble.Open, which may report an error and never return. The database is then abandoned.
func (l *eventLog) openDatabase(o *pebble.Options) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		var r result
		r.err = recovered(func() (err error) {
			r.db, err = pebble.Open(l.dir, o)
			return err
		})
		opened <- r
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, l.unreadable(r.err)
		}
		return r.db, nil
	case <-l.failed.done:
		l.abandoned = true
		go func() {
			if r := <-opened; r.err == nil {
				_ = r.db.Close() // why it is not wanted any more was told
			}
			_ = l.unlock()
		}()
		return nil, l.failed.err
	}
}

// recovered calls f and returns the error that Pebble panicked with, if it did.
func recovered(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			panic(r)
		case error:
			err = r
		default:
			panic(r)
		}
	}()
	return f()
}

// databaseLogger passes on what Pebble reports as errors. Pebble calls Fatalf where it cannot go on, as when its MANIFEST cannot
// be written, and it must not return.
type databaseLogger struct{ log *eventLog }

func (d databaseLogger) Infof(string, ...any) {}

func (d databaseLogger) Errorf(format string, args ...any) {
	d.log.errors.report("event log", fmt.Errorf(format, args...))
}

func (d databaseLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = cause
		}
	}
	d.log.park(err)
}

// guardedFS keeps from Pebble, once the database is open, errors on which it panics in a goroutine of its own or corrupts a lock:
// failing to create its next log, and failing to sync a folder.
type guardedFS struct {
	vfs.FS
	log *eventLog
}

func (fs guardedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return f, fs.guard(name, err)
}

func (fs guardedFS) ReuseForWrite(oldName, newName string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(oldName, newName, category)
	return f, fs.guard(newName, err)
}

func (fs guardedFS) guard(name string, err error) error {
	if err != nil && filepath.Ext(name) == ".log" && fs.log.db != nil && !fs.inCheckpoint(name) {
		fs.log.park(err)
	}
	return err
}

func (fs guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	if fs.inCheckpoint(name) {
		return f, nil
	}
	return guardedFolder{f, fs.log}, nil
}

// inCheckpoint reports whether a path is a checkpoint's, which is made for a caller who is told of errors.
func (fs guardedFS) inCheckpoint(path string) bool {
	dir := fs.log.checkpointDir()
	return path == dir || fs.PathDir(path) == dir
}

// Unwrap returns the file system below.
func (fs guardedFS) Unwrap() vfs.FS { return fs.FS }

type guardedFolder struct {
	vfs.File
	log *eventLog
}

func (f guardedFolder) Sync() error {
	err := f.File.Sync()
	if err != nil {
		f.log.park(err)
	}
	return err
}

// databaseEvents listens to what happens inside Pebble.
func (l *eventLog) databaseEvents() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: l.backgroundError,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.fail(l.damage(fmt.Errorf("file %s: %w", info.Path, info.Details)))
		},
		WALCreated: func(info pebble.WALCreateInfo) {
			if info.Err != nil {
				return
			}
			if err := (extent{position: l.position(), wal: uint64(info.FileNum)}).write(l.fs, l.dir); err != nil {
				l.fail(err)
			}
		},
	}
}

const (
	// Pebble tries a flush or a compaction that failed again at once, and for ever.
	backgroundPause = 100 * time.Millisecond
	// backgroundPatience is how long background work may fail for a cause that may be temporary.
	backgroundPatience = 5 * time.Second
)

// backgroundError is called for each failed flush or compaction. It slows Pebble down, and fails the log if the cause is permanent
// or has lasted too long.
func (l *eventLog) backgroundError(err error) {
	now := time.Now()
	l.background.Lock()
	if now.Sub(l.background.last) > backgroundPatience {
		l.background.first = now
	}
	l.background.last = now
	lasting := now.Sub(l.background.first)
	l.background.Unlock()

	if noRoom(err) || errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrPermission) || lasting > backgroundPatience {
		l.fail(err)
	} else if !l.hasFailed() {
		l.errors.report("event log", err)
	}
	time.Sleep(backgroundPause)
}

// errorLog writes at most one error a second, in one line without the stacks of Pebble's errors, and how many it has left out. Safe for
// concurrent use.
type errorLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	last    time.Time
	leftOut int
}

func (e *errorLog) report(message string, err error, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); now.Sub(e.last) >= time.Second {
		e.last = now
	} else {
		e.leftOut++
		return
	}
	args = append(args, "error", oneLine(err))
	if e.leftOut > 0 {
		args = append(args, "leftOut", e.leftOut)
		e.leftOut = 0
	}
	e.logger.Error(message, args...)
}

const (
	assumedFileLimit = 1024 // where the system tells none
	maxOpenTables    = 1000
	maxConnections   = 4096
)

// openTables and openConnections bound the open files of the database and of the clients of one server: together they take half
// of what the process may have open, so that the database always finds one for its next table or log.
func openTables() int { return int(min(fileLimit()/4, maxOpenTables)) }

func openConnections() int { return int(min(fileLimit()/4, maxConnections)) }
