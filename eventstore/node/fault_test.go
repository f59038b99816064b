package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// shortage makes the file system refuse with its error to create files, or to write them too, while there is one.
type shortage struct {
	of       string // extension of the files
	creating bool   // but not writing
	error    atomic.Pointer[syscall.Errno]
}

func (s *shortage) begin(err syscall.Errno) { s.error.Store(&err) }
func (s *shortage) end()                    { s.error.Store(nil) }

func (s *shortage) MaybeError(op errorfs.Op) error {
	err := s.error.Load()
	if err == nil || filepath.Ext(op.Path) != s.of {
		return nil
	}
	switch op.Kind {
	case errorfs.OpFileWrite:
		if s.creating {
			return nil
		}
		fallthrough
	case errorfs.OpCreate, errorfs.OpReuseForWrite:
		return &os.PathError{Op: "write", Path: op.Path, Err: *err}
	}
	return nil
}

func (s *shortage) String() string { return "shortage of " + s.of }

// lines is a log whose lines are counted.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte("\n"))
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// bigEvent is one of which a few hundred fill a table.
func bigEvent(stream string) *event {
	return &event{record: newRecord(stream, newEvent(stream).id(), []byte("A"), false, nil, make([]byte, 64<<10))}
}

// appendUntilStopped appends until the log refuses to and returns the last revision that was acknowledged.
func appendUntilStopped(l *eventLog, stream string) int64 {
	last := int64(-1)
	for {
		r, err := l.append(context.Background(), change{stream: stream, expected: expectation(last), events: []*event{bigEvent(stream)}})
		if err != nil {
			return last
		}
		last = r.revision
	}
}

// TestNoRoomAtStart: what is to be written at the start finds no room, which is told at once and once; when there is room again
// all is there.
func TestNoRoomAtStart(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n, err := open(Options{}, "events", fs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{".sst", ".log", ".dbtmp"} {
		var log lines
		missing := &shortage{of: of}
		missing.begin(syscall.ENOSPC)
		n, err := open(Options{Logger: log.logger()}, "events", errorfs.Wrap(fs, missing))
		if err == nil {
			n.Close()
			t.Fatalf("%q: opened", of)
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "events: make room on its disk") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v", of, err)
		}
		if log.count() > 1 {
			t.Errorf("%q: %d lines\n%s", of, log.count(), &log.text)
		}
		missing.end()
		for { // Pebble may still have the folder
			n, err := open(Options{}, "events", fs)
			if _, locked := errors.AsType[*LockedError](err); locked {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(allEvents(n, 1), n.Close()); err != nil {
				t.Error(err)
			}
			break
		}
	}
}

// TestShortageWhileRunning lets the database run short while a writer appends: the log fails, whoever serves hears why, the log
// of errors is short, and all that was acknowledged is there.
func TestShortageWhileRunning(t *testing.T) {
	for _, test := range []struct {
		of    string
		error syscall.Errno
		text  string
	}{
		{".sst", syscall.ENOSPC, "make room"},
		{".sst", syscall.EDQUOT, "make room"},
		{".sst", syscall.EMFILE, "too many open files"}, // which may pass: it is waited for
		{".log", syscall.ENOSPC, "make room"},
	} {
		t.Run(fmt.Sprint(test.of, " ", test.error), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			missing := &shortage{of: test.of}
			var log lines
			n, err := open(Options{Logger: log.logger()}, "events", errorfs.Wrap(fs, missing))
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			l := listen(t)
			go func() { served <- n.Serve(t.Context(), l) }()
			if _, err := n.log.append(t.Context(), change{stream: "first", expected: expectNoStream, events: []*event{bigEvent("first")}}); err != nil {
				t.Fatal(err)
			}
			missing.begin(test.error)
			last := make(chan int64, 1)
			go func() { last <- appendUntilStopped(n.log, "s") }()
			err = <-served
			if !errors.Is(err, test.error) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("Serve returned %v", err)
			}
			missing.end() // and what still tries succeeds, so that nothing is left behind
			acknowledged := <-last
			if err := n.Close(); err != nil {
				t.Errorf("told again: %v", err)
			}
			const most = 8 // one a second, while it is waited
			if log.count() > most || strings.Contains(log.text.String(), "stack trace") {
				t.Errorf("%d lines\n%s", log.count(), &log.text)
			}
			n, err = open(Options{}, "events", fs)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if v, err := n.log.view("s", n.Position()); err != nil || v.last < acknowledged {
				t.Errorf("the stream ends at %d, %d was acknowledged; %v", v.last, acknowledged, err)
			}
		})
	}
}

// TestAppendAfterFailedWrite: who is about to append when the database's log has failed is told so, though Pebble panics.
func TestAppendAfterFailedWrite(t *testing.T) {
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), StuckVariable+"=write")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// appendAfterFailedWrite leaves Pebble with a lock that is held, and is run in a process of its own.
func appendAfterFailedWrite() error {
	missing := &shortage{of: ".log"}
	n, err := open(Options{}, "events", errorfs.Wrap(vfs.NewMem(), missing))
	if err != nil {
		return err
	}
	missing.begin(syscall.ENOSPC)
	if _, err := n.log.append(context.Background(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); !errors.Is(err, errStopped) {
		return fmt.Errorf("append: %v", err)
	}
	// Those who have looked for a failure before there was one.
	n.log.mu.Lock()
	for err = nil; err == nil; {
		_, err = n.log.write(change{stream: "s", events: []*event{bigEvent("s")}}, head{revision: 0})
	}
	n.log.mu.Unlock()
	if !errors.Is(err, errStopped) {
		return fmt.Errorf("write: %v", err)
	}
	if err := n.Close(); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("close: %v", err)
	}
	return nil
}

// TestDamageWhileRunning changes a table of a log that is being served: who reads it gets an error, whoever serves hears which
// file it is, and in order.
func TestDamageWhileRunning(t *testing.T) {
	dir := storeLog(t)
	var log lines
	n, err := Open(Options{Dir: dir, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	<-n.log.scanning.done
	if err := n.log.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil { // so that Pebble has no reason to read
		t.Fatal(err)
	}
	served := make(chan error, 1)
	l := listen(t)
	go func() { served <- n.Serve(t.Context(), l) }()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, path := range tables {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // obsolete
		}
		if err != nil {
			t.Fatal(err)
		}
		for at := range len(content) / 2 { // the events; what describes the table is behind
			content[at] ^= 1
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := allEvents(n, storedEvents); err == nil {
		t.Error("the log was read to its end")
	}
	err = <-served
	if e, ok := errors.AsType[*DamagedError](err); !ok || e.Dir != dir || !strings.Contains(err.Error(), ".sst") ||
		!strings.HasSuffix(err.Error(), "restore the folder from a backup") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Serve returned %v", err)
	}
	if r, err := n.log.append(t.Context(), change{stream: "s", expected: expectAny, events: []*event{newEvent("s")}}); !errors.Is(err, errStopped) {
		t.Errorf("got %+v, %v", r, err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("told again: %v", err)
	}
	if log.count() > 0 {
		t.Errorf("%d lines\n%s", log.count(), &log.text)
	}
}

// StuckVariable makes the test binary one that Pebble leaves stuck, see ServeUntilStuck.
const StuckVariable = "ROOMBOOK_NODE_STUCK"

// ServeUntilStuck serves a folder, "MANIFEST folder" or "log folder", and appends to it from several goroutines. Once it has
// acknowledged an event, the database can no longer write its MANIFEST, or begin another log. It ends in order: it prints the
// last revision that was acknowledged of each stream, and why Serve returned. "write": see appendAfterFailedWrite.
func ServeUntilStuck(what string) int {
	if what == "write" {
		if err := appendAfterFailedWrite(); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
	missing := &shortage{}
	kind, dir, _ := strings.Cut(what, " ")
	if kind == "log" {
		missing.of, missing.creating = ".log", true
	}
	var log lines
	n, err := open(Options{Logger: log.logger()}, dir, errorfs.Wrap(walFS{vfs.Default}, missing))
	if err != nil {
		fmt.Println(err)
		return 2
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 2
	}
	var last [4]atomic.Int64
	for w := range last {
		last[w].Store(-1)
		go func() {
			stream := streamOf(w)
			for {
				r, err := n.log.append(context.Background(), change{stream: stream, expected: expectation(last[w].Load()), events: []*event{bigEvent(stream)}})
				if err != nil {
					return
				}
				last[w].Store(r.revision)
				missing.begin(syscall.EMFILE)
			}
		}()
	}
	err = n.Serve(context.Background(), l)
	if closed := n.Close(); closed != nil {
		fmt.Println("told again:", closed)
	}
	fmt.Print(log.text.String())
	for w := range last {
		fmt.Println(streamOf(w), last[w].Load())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestStuck has Pebble come to where it would end the process with a stack: instead the process ends in order, and all that was
// acknowledged is there.
func TestStuck(t *testing.T) {
	for _, kind := range []string{"MANIFEST", "log"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "events")
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), StuckVariable+"="+kind+" "+dir)
			var stderr bytes.Buffer
			child.Stderr = &stderr
			stdout, _ := child.Output()
			if child.ProcessState.ExitCode() != 1 || strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), dir+": raise the limit") {
				t.Fatalf("%v: %s%s", child.ProcessState, stdout, &stderr)
			}
			n, err := Open(Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			acknowledged := strings.Split(strings.TrimSpace(string(stdout)), "\n")
			for _, line := range acknowledged {
				var stream string
				var revision int64
				if _, err := fmt.Sscan(line, &stream, &revision); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				if v, err := n.log.view(stream, n.Position()); err != nil || v.last < revision {
					t.Errorf("%s ends at %d, %d was acknowledged; %v", stream, v.last, revision, err)
				}
			}
		})
	}
}
