package node_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/eventstore/node"
)

// crashDirVariable makes the test binary a node on that folder with writers of its own, see appendUntilKilled.
const crashDirVariable = "ROOMBOOK_NODE_CRASH_DIR"

// crashWriters is the number of writers, each with a stream.
const crashWriters = 16

// appendUntilKilled serves the folder and appends to it, and prints "stream revision id" for each event that was acknowledged.
func appendUntilKilled(dir string) int {
	n, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		return crashed(err)
	}
	n.BeginEmpty()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return crashed(err)
	}
	go n.Serve(context.Background(), l)
	c, err := connect(l.Addr().String())
	if err != nil {
		return crashed(err)
	}
	var out sync.Mutex
	failed := make(chan error)
	for w := range crashWriters {
		go func() {
			stream := fmt.Sprintf("s-%d", w)
			var expected esdb.ExpectedRevision = esdb.NoStream{}
			for {
				first, second := event("A"), event("B")
				r, err := c.AppendToStream(context.Background(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, first, second)
				if err != nil {
					failed <- err
					return
				}
				expected = esdb.Revision(r.NextExpectedVersion)
				out.Lock()
				fmt.Printf("%s %d %s\n%s %d %s\n", stream, r.NextExpectedVersion-1, first.EventID, stream, r.NextExpectedVersion, second.EventID)
				out.Unlock()
			}
		}()
	}
	return crashed(<-failed)
}

func crashed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKill kills a process in the middle of appends: all that was acknowledged is there afterwards, and the log is whole.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDirVariable+"="+dir)
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	type place struct {
		stream   string
		revision uint64
	}
	acknowledged := map[place]uuid.UUID{}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var p place
		var id string
		if n, _ := fmt.Sscan(lines.Text(), &p.stream, &p.revision, &id); n != 3 || len(id) != 36 {
			continue // cut off by the kill
		}
		acknowledged[p] = uuid.MustParse(id)
		if len(acknowledged) == 500 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended with %v", err)
	}

	s := startIn(t, dir)
	c := s.client(t)
	r, err := c.ReadAll(t.Context(), esdb.ReadAllOptions{}, 1<<63)
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]uint64{}
	log := collect(t, r)
	for i, e := range log {
		if e.Position.Commit != uint64(i+1) {
			t.Fatalf("event %d of the log is at position %d", i, e.Position.Commit)
		}
		if e.EventNumber != next[e.StreamID] {
			t.Fatalf("%s: revision %d follows %d", e.StreamID, e.EventNumber, next[e.StreamID])
		}
		next[e.StreamID]++
		p := place{e.StreamID, e.EventNumber}
		if id, ok := acknowledged[p]; ok && id != e.EventID {
			t.Errorf("%v was acknowledged with another id", p)
		}
		delete(acknowledged, p)
	}
	for p := range acknowledged {
		t.Errorf("%v was acknowledged and is lost", p)
	}
	for stream, count := range next {
		if count%2 != 0 {
			t.Errorf("%s has half an append", stream)
		}
		if events := readStream(t, c, stream, esdb.ReadStreamOptions{}); uint64(len(events)) != count {
			t.Errorf("%s has %d events in $all and %d in its own order", stream, count, len(events))
		}
	}
	if s.Position() != uint64(len(log)) {
		t.Errorf("position is %d, the log has %d events", s.Position(), len(log))
	}
}
