package node

import (
	"context"
	"errors"
	"fmt"
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

// errStopped is returned to callers that wait or append once the log was closed or a sync has failed.
var errStopped = errors.New("event log has stopped")

// eventLog is the stored log: events by position, positions by stream and revision. It is written in append.go and read in
// scan.go and stream_read.go. Safe for concurrent use, but for close.
type eventLog struct {
	dir    string
	fs     vfs.FS
	lock   *pebble.Lock // nil: the database's own
	db     *pebble.DB
	recent ring
	errors *errorLog

	abandoned bool // the opening of the database did not come to an end

	durable atomic.Uint64 // position up to which everything is on disk
	syncing atomic.Int32  // appends that wait for the disk

	waiting struct {
		sync.Mutex
		advanced chan struct{} // closed when durable moves on; nil while nobody waits
	}

	failed struct {
		once sync.Once
		done chan struct{} // closed when a sync failed, or damage was found
		err  error         // set before
	}

	background struct { // failures of Pebble's own work, see backgroundError
		sync.Mutex
		first, last time.Time // of those that follow one another
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

func openLog(dir string, fs vfs.FS, errors *errorLog) (*eventLog, error) {
	l := &eventLog{dir: dir, errors: errors, ids: newRecentIDs(), streams: newStreamSet()}
	l.fs = guardedFS{fs, l}
	l.failed.done = make(chan struct{})
	l.scanning.stop, l.scanning.done = make(chan struct{}), make(chan struct{})
	var err error
	if l.heads, err = simplelru.NewLRU[string, head](headCacheSize, nil); err != nil {
		return nil, err
	}
	if l.metadata, err = newMetadataCache(); err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	go l.scanStreams()
	return l, nil
}

// open checks what is stored already and opens the database.
func (l *eventLog) open() (err error) {
	if _, err := l.fs.Stat(l.dir); err == nil {
		if l.lock, err = pebble.LockDirectory(l.dir, l.fs); err != nil {
			return l.unlockable(err)
		}
		if l.last, err = l.inspect(); err != nil {
			return l.giveUp(err)
		}
		if err := l.fs.RemoveAll(l.checkpointDir()); err != nil { // of a process that was killed
			return l.giveUp(l.unusable(err))
		}
	}
	l.durable.Store(l.last) // what survived is on disk
	l.recent.reset(l.last + 1)
	options := l.databaseOptions()
	options.Lock = l.lock
	if l.db, err = l.openDatabase(options); err != nil {
		return l.giveUp(err)
	}
	if err := l.markLayout(); err != nil {
		return errors.Join(l.unreadable(err), l.closeDatabase())
	}
	return nil
}

// unlockable turns a failure to lock the folder into an error for the operator.
func (l *eventLog) unlockable(err error) error {
	if heldElsewhere(err) {
		return &LockedError{Dir: l.dir, err: err}
	}
	return l.unusable(err)
}

// giveUp unlocks the folder, unless Pebble may still be using it.
func (l *eventLog) giveUp(err error) error {
	if l.abandoned {
		return err
	}
	return errors.Join(err, l.unlock())
}

func (l *eventLog) unlock() error {
	if l.lock == nil {
		return nil
	}
	return l.lock.Close()
}

// heldElsewhere reports whether a folder could not be locked because it has another owner. Within one process the file system
// says so only in the error's text.
func heldElsewhere(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "held by current process")
}

func (l *eventLog) databaseOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                 l.fs,
		Logger:             databaseLogger{l},
		EventListener:      l.databaseEvents(),
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       16 << 20,
		CacheSize:          32 << 20,
		MaxOpenFiles:       openTables(),
		WALMinSyncInterval: l.syncPause,
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 16 << 10
	}
	return o
}

// syncPause is how long Pebble waits between two syncs. Callers that a sync has released soon come back with their next append;
// waiting for some of them saves syncs, which cost processor time too. When only a few callers are waiting, or after a lull,
// there is no pause.
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

// markLayout stores the layout's version in a new database.
func (l *eventLog) markLayout() error {
	_, closer, err := l.db.Get([]byte(versionKey))
	if errors.Is(err, pebble.ErrNotFound) {
		return l.db.Set([]byte(versionKey), []byte{layoutVersion}, pebble.Sync)
	}
	if err != nil {
		return err
	}
	return closer.Close()
}

// scanStreams fills the set of streams from the stored log. Until it is done, appends and reads look streams up in the database.
func (l *eventLog) scanStreams() {
	defer close(l.scanning.done)
	complete, err := l.addStoredStreams()
	if err != nil && !l.hasFailed() {
		l.errors.report("event log: scan streams", err)
	}
	l.streams.complete.Store(complete)
}

// addStoredStreams reports whether it has seen all streams.
func (l *eventLog) addStoredStreams() (complete bool, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{streamPrefix}, UpperBound: []byte{streamPrefix + 1}})
	if err != nil {
		return false, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		// A tombstone may be a stream's only event.
		if r := streamKeyRevision(it.Key()); r == 0 || r == tombstoneRevision {
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

// closeTime bounds closing a database that has failed: a parked goroutine may hold its locks.
const closeTime = 2 * time.Second

// close syncs and closes the database. Nothing may use the log afterwards. If the log has failed, close returns the cause.
func (l *eventLog) close() error {
	close(l.scanning.stop)
	<-l.scanning.done
	closed := make(chan error, 1)
	go func() { closed <- l.closeDatabase() }()
	select {
	case err := <-closed:
		if l.hasFailed() {
			return l.failed.err
		}
		return err
	case <-l.failed.done:
	}
	select {
	case <-closed:
	case <-time.After(closeTime):
	}
	return l.failed.err
}

func (l *eventLog) closeDatabase() error {
	err := recovered(l.db.Close)
	if err == nil && !l.hasFailed() {
		err = l.closingExtent()
	}
	if err != nil {
		err = l.unusable(err)
	}
	return errors.Join(err, l.unlock())
}

// closingExtent records where the log ends.
func (l *eventLog) closingExtent() error {
	files, err := l.fs.List(l.dir)
	if err != nil {
		return err
	}
	return extent{position: l.last, wal: newestWAL(files)}.write(l.fs, l.dir)
}

// position returns the last durable position.
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
