package main

import (
	"context"
	"flag"
	"iter"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

var (
	linearizableMinutes = flag.Float64("linearizable.minutes", 0, "how long TestLinearizable goes on; 0 for a short run")
	linearizableSeed    = flag.Uint64("linearizable.seed", 0, "seed of TestLinearizable's schedule; 0 for a new one")
)

const (
	processes    = 3
	worldsAtOnce = 8

	// longestRequest is more than the processes' --request-timeout.
	longestRequest = 4 * time.Second
	// longestRecovery bounds how long commands stay half-finished after the last request.
	longestRecovery = time.Minute
)

// shortRun is the number of worlds of a short run. The program, which is another process, is not built with the race detector.
var shortRun = eventstoretest.Rounds(40, 12)

// TestLinearizable runs three processes on one node, kills them now and then, and lets clients book, change, cancel, answer, use and
// read a few rooms, set their rules, close and retire them. The processes remember much or little of them. All replies must be what carrying
// out one request after another would have given, and in the end the program's own verify must find no fault.
func TestLinearizable(t *testing.T) {
	seed := *linearizableSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-linearizable.seed %d", seed)
	started := time.Now()
	last := func(world int) bool { return world >= shortRun }
	if *linearizableMinutes > 0 {
		last = func(int) bool { return time.Since(started).Minutes() >= *linearizableMinutes }
	}

	r := newLinearizableRun(t, seed)
	var worlds atomic.Int64
	var working sync.WaitGroup
	for range worldsAtOnce {
		working.Go(func() {
			for r.ctx.Err() == nil {
				w := int(worlds.Add(1)) - 1
				if last(w) {
					return
				}
				r.world(w)
			}
		})
	}
	done := make(chan struct{})
	go func() { working.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case k := <-r.kill:
			r.restart(t, k)
		case <-done:
			ended = true
		}
	}
	r.settled(t)
	snapshots := 0
	for _, w := range r.worlds {
		for number := 1; aged(w.number) && number <= worldRooms; number++ {
			for range r.store.ReadStream(t.Context(), domain.RoomID(w.room(number)).SnapshotStream(), 0) {
				snapshots++
			}
		}
	}
	if snapshots == 0 && !t.Failed() {
		t.Error("no room has a snapshot")
	}
	unknown := 0
	for _, w := range r.worlds {
		unknown += w.unknown()
	}
	t.Logf("%d worlds, %d requests, %d of them of unknown outcome, %d kills, %d rooms with a snapshot, in %s",
		len(r.worlds), r.sent.Load(), unknown, r.killed, snapshots, time.Since(started).Round(time.Millisecond))
}

// linearizableRun holds the processes of a run and its worlds.
type linearizableRun struct {
	t     *testing.T
	seed  uint64
	start time.Time
	http  *http.Client
	store *eventstore.Store
	ctx   context.Context // ends when a world has failed, or the test has
	fail  context.CancelFunc
	kill  chan kill
	sent  atomic.Int64

	members [processes]member
	killed  int

	mu       sync.Mutex
	next     kill
	nextKill func() (kill, bool)
	worlds   []*linearizableWorld
}

// memories are what the processes remember: one some rooms, without what is over; one nearly nothing; and one everything.
var memories = [processes][]string{
	{"--calendar-cache", "0.02", "--calendar-keep", "1h"},
	{"--calendar-cache", "0.002", "--calendar-keep", "1s"},
	{"--calendar-keep", "1000000h"},
}

// member is one of the processes, and how to restart it.
type member struct {
	data string
	args []string

	mu      sync.Mutex
	process *process
	up      chan struct{} // closed when process listens
}

func newLinearizableRun(t *testing.T, seed uint64) *linearizableRun {
	r := &linearizableRun{seed: seed, start: time.Now(), t: t, kill: make(chan kill, 1024)}
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * worldsAtOnce * worldClients}
	t.Cleanup(transport.CloseIdleConnections)
	r.http = &http.Client{Transport: transport}
	r.ctx, r.fail = context.WithCancel(t.Context())
	t.Cleanup(r.fail)
	next, stop := iter.Pull(kills(seed))
	t.Cleanup(stop)
	r.nextKill = next
	r.next, _ = next()

	dir := t.TempDir()
	node := eventstoretest.ClosedPort(t)
	for i := range r.members {
		m := &r.members[i]
		m.data = filepath.Join(dir, strconv.Itoa(i))
		if err := os.MkdirAll(m.data, 0o750); err != nil {
			t.Fatal(err)
		}
		m.args = []string{"--log-level", "error", "--timezone", "UTC", "--grace", "500ms", "--request-timeout", "2s", "--read-wait", "1s"}
		m.args = append(m.args, memories[i]...)
		if i == 0 {
			m.args = append(m.args, "--node", node)
		} else {
			m.args = append(m.args, "--eventstore", connectionString(node), "--roles", "api,recovery")
		}
		m.up = make(chan struct{})
		m.startAgain(t)
	}
	store, err := eventstore.Open(eventstore.Options{ConnectionString: connectionString(node)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r.store = store
	return r
}

func (m *member) startAgain(t *testing.T) {
	p := startServe(t, m.data, m.args...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.process = p
	close(m.up)
}

// address waits until the process listens, and returns where.
func (m *member) address(ctx context.Context) (string, error) {
	m.mu.Lock()
	up := m.up
	m.mu.Unlock()
	select {
	case <-up:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process.address, nil
}

// restart kills processes and restarts them.
func (r *linearizableRun) restart(t *testing.T, k kill) {
	for _, i := range k.processes {
		m := &r.members[i]
		m.mu.Lock()
		m.up = make(chan struct{})
		m.mu.Unlock()
		m.process.kill()
	}
	for _, i := range k.processes {
		r.members[i].startAgain(t)
	}
	r.killed += len(k.processes)
}

// count counts a request, and asks for the next kill when it is due.
func (r *linearizableRun) count() {
	n := int(r.sent.Add(1))
	r.mu.Lock()
	defer r.mu.Unlock()
	if n >= r.next.requests {
		r.kill <- r.next
		r.next, _ = r.nextKill()
	}
}

// settled waits until no command is half-finished, reads the worlds that had unknown outcomes once more, and lets verify judge the log
// and the lists. After a world has failed there is only verify.
func (r *linearizableRun) settled(t *testing.T) {
	data := r.members[0].data
	ctx, cancel := context.WithTimeout(r.ctx, longestRecovery)
	defer cancel()
	recovered := act{op: op{kind: opRecovered, booking: -1}, client: worldClients, sent: time.Since(r.start).Nanoseconds()}
	for open := ""; open != "0 open\n" && r.ctx.Err() == nil; {
		out, err := exec.CommandContext(ctx, program(t), "recovery", "status", "--data", data).CombinedOutput()
		if err != nil {
			t.Errorf("roombook recovery status: %v: %s; before that it said %s", err, out, open)
			break
		}
		open = string(out)
	}
	recovered.heard = time.Since(r.start).Nanoseconds()
	for _, w := range r.worlds {
		if w.unknown() > 0 {
			w.add(rawAct{act: recovered}, "")
			w.readAll()
			w.check()
		}
	}
	verb(t, "verify", "--data", data)
}
