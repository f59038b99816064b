package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/dlclark/regexp2"
)

// Options of a node.
type Options struct {
	// Dir is the data folder of the event log, made if missing. Empty: the log lives in memory and ends with the node.
	Dir string
	// Logger receives what an operator should know. Nil discards it.
	Logger *slog.Logger
}

// Node is an open event log and the servers on it. Its methods may be called from several goroutines.
type Node struct {
	log     *eventLog
	groups  *groups
	errors  *errorLog
	backups *backupService

	patterns atomic.Bool // a filter by regular expression was used
	told     atomic.Bool // Serve has returned why the log failed
	begun    sync.Once   // see beginLog

	closing context.Context // done once Close was called
	close   context.CancelFunc

	mu      sync.Mutex
	closed  bool
	err     error // of the first Close
	serving sync.WaitGroup
}

// ErrClosed is returned by Serve on a node that was closed.
var ErrClosed = errors.New("node: closed")

// Open opens the event log in o.Dir, which has one owner at a time: [*LockedError] if another has it. Whatever was acknowledged
// before, by a process that ended well or not, is there, or else it is a [*DamagedError], and the folder is left as it is.
func Open(o Options) (*Node, error) {
	if o.Dir == "" {
		return open(o, "events", vfs.NewMem())
	}
	return open(o, o.Dir, walFS{vfs.Default})
}

func open(o Options, dir string, fs vfs.FS) (*Node, error) {
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	reported := &errorLog{logger: logger}
	log, err := openLog(dir, fs, reported)
	if err != nil {
		return nil, err
	}
	n := &Node{log: log, errors: reported, backups: &backupService{log: log}}
	n.groups, err = openGroups(log, &n.patterns, func(operation string, err error) { reportError(log, reported, operation, err) })
	if err != nil {
		if failure := log.close(); failure != nil { // which says more: what a reader finds wrong fails the log
			err = failure
		}
		return nil, log.unusable(err)
	}
	n.closing, n.close = context.WithCancel(context.Background())
	return n, nil
}

// Serve answers clients on l until ctx ends, then lets calls under way finish, ends subscriptions and returns nil. It closes l.
// It may be called again, also at the same time, with another listener. The error says why it ended early: l failed, l can be
// reached from other machines (the protocol is served without encryption and without authentication), the log has failed, or
// the node was closed ([ErrClosed]). A log fails for good when the disk is full or broken, or damage is found ([*DamagedError]).
func (n *Node) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	if !onLoopback(l.Addr()) {
		return fmt.Errorf("node: %s is not a loopback address", l.Addr())
	}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return ErrClosed
	}
	n.serving.Add(1)
	n.mu.Unlock()
	defer n.serving.Done()
	return n.serve(ctx, l)
}

// Close ends every Serve, syncs and closes the log. Further calls wait for the first and return its error. Of a log that has
// failed it returns why, unless Serve has; what is stuck in the database then is left behind.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return n.err
	}
	n.closed = true
	n.close()
	n.serving.Wait()
	n.groups.stop()
	if n.patterns.Load() {
		regexp2.StopTimeoutClock()
	}
	n.err = n.log.close()
	if n.told.Load() {
		n.err = nil
	}
	return n.err
}

// onLoopback reports whether only this machine can reach a.
func onLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
