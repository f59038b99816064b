package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// LockedError says that a data folder has another owner: a process, or an open node in this one.
type LockedError struct {
	Dir string
	err error
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("node: data folder %s is in use by another process", e.Dir)
}

func (e *LockedError) Unwrap() error { return e.err }

// errStopped is what a log that was closed, or whose sync failed, has for those who wait or append.
var errStopped = errors.New("event log has stopped")

// eventLog is the stored log: events by position, positions by stream and revision. It is written in append.go and read in
// scan.go and stream_read.go. Safe for concurrent use, but for close.
type eventLog struct {
	db     *pebble.DB
	recent ring

	durable atomic.Uint64 // position up to which everything is on disk
	syncing atomic.Int32  // appends that wait for the disk

	waiting struct {
		sync.Mutex
		advanced chan struct{} // closed when durable moves on; nil while nobody waits
	}

	failed struct {
		once sync.Once
		done chan struct{} // closed when a sync failed
		err  error         // set before
	}

	metadata *metadataCache
	streams  *streamSet

	scanning struct {
		stop chan struct{} // closed to end the scan early
		done chan struct{} // closed when it has ended
	}

	// mu orders appends. What it guards is ahead of the disk by the appends that are being synced.
	mu    sync.Mutex
	last  uint64 // position of the newest event
	heads *simplelru.LRU[string, head]
	ids   *recentIDs
}

// headCacheSize is the number of streams whose ends are kept in memory, some 200 bytes each.
const headCacheSize = 1 << 16

func openLog(dir string, fs vfs.FS, logger *slog.Logger) (*eventLog, error) {
	l := &eventLog{ids: newRecentIDs(), streams: newStreamSet()}
	var err error
	if l.db, err = pebble.Open(dir, l.databaseOptions(fs, logger)); err != nil {
		if heldElsewhere(err) {
			return nil, &LockedError{Dir: dir, err: err}
		}
		return nil, fmt.Errorf("node: open event log in %s: %w", dir, err)
	}
	l.failed.done = make(chan struct{})
	l.scanning.stop, l.scanning.done = make(chan struct{}), make(chan struct{})
	l.heads, err = simplelru.NewLRU[string, head](headCacheSize, nil)
	if err == nil {
		l.metadata, err = newMetadataCache()
	}
	if err == nil {
		err = l.recover()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("node: recover event log in %s: %w", dir, err), l.db.Close())
	}
	go l.scanStreams(logger)
	return l, nil
}

// heldElsewhere reports whether a folder could not be opened because there is another owner. Within one process the file system says so in
// words only.
func heldElsewhere(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "held by current process")
}

func (l *eventLog) databaseOptions(fs vfs.FS, logger *slog.Logger) *pebble.Options {
	o := &pebble.Options{
		FS:                 fs,
		Logger:             databaseLogger{logger},
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       16 << 20,
		CacheSize:          32 << 20,
		WALMinSyncInterval: l.syncPause,
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 16 << 10
	}
	return o
}

// syncPause is how long Pebble waits between two syncs. The callers that a sync lets go are soon back with their next append;
// waiting for a part of them saves syncs, each of which costs processor time as well. A few callers are never kept waiting, and
// nobody is who comes after a pause.
func (l *eventLog) syncPause() time.Duration {
	const (
		few       = 4
		perAppend = 16 * time.Microsecond
		longest   = time.Millisecond
	)
	n := l.syncing.Load()
	if n <= few {
		return 0
	}
	return min(time.Duration(n)*perAppend, longest)
}

// databaseLogger passes on what Pebble reports as errors. Pebble calls Fatalf where it cannot go on, as when its log cannot be
// written, and it must not return: the process ends.
type databaseLogger struct{ logger *slog.Logger }

func (d databaseLogger) Infof(string, ...any) {}

func (d databaseLogger) Errorf(format string, args ...any) {
	d.logger.Error("event log", "error", fmt.Sprintf(format, args...))
}

func (d databaseLogger) Fatalf(format string, args ...any) {
	panic("node: event log: " + fmt.Sprintf(format, args...))
}

// recover finds the end of the log. Everything in the database is durable now: what survived is on disk.
func (l *eventLog) recover() error {
	switch version, err := l.get([]byte(versionKey)); {
	case errors.Is(err, pebble.ErrNotFound):
		if err := l.db.Set([]byte(versionKey), []byte{layoutVersion}, pebble.Sync); err != nil {
			return err
		}
	case err != nil:
		return err
	case len(version) != 1 || version[0] != layoutVersion:
		return fmt.Errorf("layout has version %d, this program knows %d", version, layoutVersion)
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{eventPrefix}, UpperBound: []byte{eventPrefix + 1}})
	if err != nil {
		return err
	}
	if it.Last() {
		l.last, err = parseEventKey(it.Key())
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return err
	}
	l.durable.Store(l.last)
	l.recent.reset(l.last + 1)
	return nil
}

// get returns a copy of a value.
func (l *eventLog) get(key []byte) ([]byte, error) {
	value, closer, err := l.db.Get(key)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), value...), closer.Close()
}

// scanStreams learns which streams the stored log has. Appends and reads go on meanwhile, and ask the database.
func (l *eventLog) scanStreams(logger *slog.Logger) {
	defer close(l.scanning.done)
	complete, err := l.addStoredStreams()
	if err != nil {
		logger.Error("event log: scan streams", "error", err)
	}
	l.streams.complete.Store(complete)
}

// addStoredStreams reports whether it came to the end.
func (l *eventLog) addStoredStreams() (complete bool, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{streamPrefix}, UpperBound: []byte{streamPrefix + 1}})
	if err != nil {
		return false, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if streamKeyRevision(it.Key()) == 0 {
			l.streams.add(streamKeyName(it.Key()))
			select {
			case <-l.scanning.stop:
				return false, it.Close()
			default:
			}
		}
	}
	err = it.Close()
	return err == nil, err
}

// close syncs and closes the database. Nothing else may use the log any more.
func (l *eventLog) close() error {
	close(l.scanning.stop)
	<-l.scanning.done
	return l.db.Close()
}

// position is the last durable one.
func (l *eventLog) position() uint64 { return l.durable.Load() }

// advance makes position durable, and with it everything before it.
func (l *eventLog) advance(position uint64) {
	l.waiting.Lock()
	var advanced chan struct{}
	if position > l.durable.Load() {
		l.durable.Store(position)
		advanced, l.waiting.advanced = l.waiting.advanced, nil
	}
	l.waiting.Unlock()
	if advanced != nil {
		close(advanced)
	}
}

// wait returns once position is durable. It fails with ctx's cause, or with errStopped if the log cannot get there.
func (l *eventLog) wait(ctx context.Context, position uint64) error {
	for {
		l.waiting.Lock()
		if l.durable.Load() >= position {
			l.waiting.Unlock()
			return nil
		}
		if l.waiting.advanced == nil {
			l.waiting.advanced = make(chan struct{})
		}
		advanced := l.waiting.advanced
		l.waiting.Unlock()
		select {
		case <-advanced:
		case <-l.failed.done:
			return errStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fail stops the log for good: what a failed sync has left on disk is unknown, so that nothing may build on it.
func (l *eventLog) fail(err error) {
	l.failed.once.Do(func() {
		l.failed.err = fmt.Errorf("node: sync event log: %w", err)
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
