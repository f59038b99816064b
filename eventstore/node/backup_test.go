package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// serveLog serves a node until the end of the test and returns its address.
func serveLog(t *testing.T, n *Node) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// storedUpTo returns the records of the log's events, up to a position.
func storedUpTo(t *testing.T, n *Node, last uint64) (all []string) {
	t.Helper()
	var p page
	for at := uint64(1); at <= last; {
		if _, err := n.log.read(&p, at, last, pageEvents); err != nil {
			t.Fatal(err)
		}
		for _, e := range p.events {
			all = append(all, string(e.record))
			at = e.position + 1
		}
	}
	return all
}

// A backup that is made while eight clients append is whole: it has what was acknowledged before, under the same positions, and nothing
// that the log does not have. The log it was restored to goes on from there.
func TestBackupWhileAppending(t *testing.T) {
	n, err := Open(Options{Dir: storeLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	address := serveLog(t, n)
	var clients sync.WaitGroup
	var done atomic.Bool
	appended := make(chan struct{}, 1)
	for client := range 8 {
		clients.Go(func() {
			for i := 0; !done.Load(); i++ {
				stream := fmt.Sprint("busy-", client, "-", i%5)
				if _, err := n.log.append(t.Context(), change{stream: stream, expected: expectAny, events: []*event{newEvent(stream)}}); err != nil {
					t.Error(err)
					return
				}
				select {
				case appended <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 50 {
		<-appended
	}
	before := n.Position()
	var backup bytes.Buffer
	position, err := Backup(t.Context(), address, &backup)
	if err != nil {
		t.Fatal(err)
	}
	<-appended
	<-appended // the second one after the first was taken: appends did not stop
	done.Store(true)
	clients.Wait()
	if position < before || position > n.Position() {
		t.Errorf("a backup up to %d of a log that was at %d before, and is at %d now", position, before, n.Position())
	}
	if _, err := os.Stat(n.log.checkpointDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the checkpoint is left behind: %v", err)
	}

	dir := filepath.Join(t.TempDir(), "restored")
	last, err := Restore(dir, &backup)
	if err != nil {
		t.Fatal(err)
	}
	if last < position {
		t.Errorf("restored up to %d of %d", last, position)
	}
	copied, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	original, restored := storedUpTo(t, n, last), storedUpTo(t, copied, last)
	if len(restored) != int(last) {
		t.Fatalf("%d events up to position %d", len(restored), last)
	}
	for i := range restored {
		if restored[i] != original[i] {
			t.Fatalf("position %d has %q, and had %q", i+1, restored[i], original[i])
		}
	}
	if _, err := copied.log.append(t.Context(), change{stream: "new", expected: expectNoStream, events: []*event{newEvent("new")}}); err != nil {
		t.Error(err)
	}
}

// Whatever is cut off a backup or changed in it, it is refused and leaves nothing behind; and a log that is there is never replaced.
func TestDamagedBackupIsRefused(t *testing.T) {
	n, err := Open(Options{Dir: storeLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	var backup bytes.Buffer
	if _, err := Backup(t.Context(), serveLog(t, n), &backup); err != nil {
		t.Fatal(err)
	}
	whole := backup.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	var other bytes.Buffer
	compressed := gzip.NewWriter(&other)
	archive := tar.NewWriter(compressed)
	if err := archive.WriteHeader(&tar.Header{Name: "photo.jpg", Mode: 0o640}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		t.Fatal(err)
	}
	for what, damaged := range map[string][]byte{
		"another archive": other.Bytes(), "nothing": nil, "half": whole[:len(whole)/2], "no end": whole[:len(whole)-1], "a bit": flipped, "no archive": []byte("this is no archive"),
	} {
		dir := filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(dir, bytes.NewReader(damaged)); err == nil {
			t.Errorf("%s: it was restored", what)
		}
		if left, err := filepath.Glob(dir + "*"); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, left, err)
		}
	}
	dir := storeLog(t)
	before := contents(t, dir)
	if _, err := Restore(dir, bytes.NewReader(whole)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another log: %v", err)
	}
	if after := contents(t, dir); len(after) != len(before) {
		t.Errorf("the log that was there has changed")
	}
}

// A disk that has no room for the checkpoint fails the backup and not the log.
func TestNoRoomForABackup(t *testing.T) {
	none := &shortage{of: ".log"}
	n, err := open(Options{}, filepath.Join(t.TempDir(), "events"), errorfs.Wrap(vfs.Default, none))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	address := serveLog(t, n)
	if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); err != nil {
		t.Fatal(err)
	}
	none.creating = true
	none.begin(syscall.ENOSPC)
	_, err = Backup(t.Context(), address, io.Discard)
	none.end()
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("the backup ended with %v", err)
	}
	if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectAny, events: []*event{newEvent("s")}}); err != nil {
		t.Errorf("an append afterwards: %v", err)
	}
	if _, err := Backup(t.Context(), address, io.Discard); err != nil {
		t.Errorf("the next backup: %v", err)
	}
}
