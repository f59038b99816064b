package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"
)

// newEvent returns an event of stream that has no place yet.
func newEvent(stream string) *event {
	return &event{record: newRecord(stream, eventID(uuid.New()), []byte("A"), true, nil, []byte("{}"))}
}

// TestPowerLoss lets the power fail again and again while many append, going on from what is left on disk: each time, what had
// been acknowledged is there, and the log is whole.
func TestPowerLoss(t *testing.T) {
	const writers, failures = 16, 12
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	for range failures {
		n, err := open(Options{}, "data/events", fs)
		if err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var group sync.WaitGroup
		var acknowledged [writers]atomic.Int64 // last revision of each writer's stream
		for w := range writers {
			v, err := n.log.view(streamOf(w), n.Position())
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[w].Store(v.last)
			group.Go(func() {
				stream := streamOf(w)
				for !stop.Load() {
					r, err := n.log.append(t.Context(), change{stream: stream, expected: expectation(acknowledged[w].Load()), events: []*event{newEvent(stream), newEvent(stream)}})
					if err != nil || r.decision != appended {
						t.Errorf("%+v, %v", r, err)
						return
					}
					acknowledged[w].Store(r.revision)
				}
			})
		}
		if err := n.log.wait(t.Context(), n.Position()+1+random.Uint64N(500)); err != nil {
			t.Fatal(err)
		}
		var before [writers]int64
		for w := range writers {
			before[w] = acknowledged[w].Load()
		}
		position := n.Position()
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
		stop.Store(true)
		group.Wait()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		verify(t, fs, before[:], position)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// streamOf is the stream of a writer.
func streamOf(writer int) string { return fmt.Sprint("s-", writer) }

// verify opens a log on fs and checks that it is whole, reaches at least to position, and has each writer's stream at least up
// to its revision.
func verify(t *testing.T, fs vfs.FS, revisions []int64, position uint64) {
	t.Helper()
	n, err := open(Options{}, "data/events", fs)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.Position() < position {
		t.Errorf("log ends at %d, %d was visible before", n.Position(), position)
	}
	next := map[string]int64{}
	var p page
	for at := uint64(1); at <= n.Position(); {
		if _, err := n.log.read(&p, at, n.Position(), pageEvents); err != nil {
			t.Fatal(err)
		}
		for _, e := range p.events {
			stream := string(e.stream())
			if e.position != at || e.revision() != next[stream] {
				t.Fatalf("at %d: %s@%d, position %d", at, stream, e.revision(), e.position)
			}
			next[stream]++
			at++
		}
	}
	for w, revision := range revisions {
		v, err := n.log.view(streamOf(w), n.Position())
		if err != nil {
			t.Fatal(err)
		}
		if v.last != next[streamOf(w)]-1 || v.last%2 == 0 {
			t.Errorf("%s ends at %d, $all has %d of its events", streamOf(w), v.last, next[streamOf(w)])
		}
		if v.last < revision {
			t.Errorf("%s ends at %d, %d was acknowledged", streamOf(w), v.last, revision)
		}
	}
}

// TestFailedSync: once a sync has failed nothing is acknowledged any more, nothing of it is shown, and whoever serves hears why.
func TestFailedSync(t *testing.T) {
	broken := errors.New("disk is broken")
	var fail atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			return broken
		}
		return nil
	}))
	n, err := open(Options{}, "events", fs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	l := listen(t)
	go func() { served <- n.Serve(t.Context(), l) }()
	waited := make(chan error, 1)
	go func() { waited <- n.log.wait(t.Context(), 2) }()

	fail.Store(true)
	for range 2 {
		if r, err := n.log.append(t.Context(), change{stream: "s", expected: expectAny, events: []*event{newEvent("s")}}); !errors.Is(err, errStopped) {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	if err := <-waited; !errors.Is(err, errStopped) {
		t.Errorf("a reader that waited got %v", err)
	}
	if err := <-served; !errors.Is(err, broken) {
		t.Errorf("Serve returned %v", err)
	}
	if n.Position() != 1 {
		t.Errorf("position is %d", n.Position())
	}
	if v, err := n.log.view("s", n.Position()); err != nil || v.last != 0 {
		t.Errorf("the stream ends at %d, %v", v.last, err)
	}
	fail.Store(false)
	n.Close()
}

// TestUnsyncedIsHidden holds the disk up: until it goes on, an event is neither acknowledged nor shown, and an append that lost
// against it is not told so.
func TestUnsyncedIsHidden(t *testing.T) {
	var gate atomic.Pointer[chan struct{}] // closed when the disk may go on
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if shut := gate.Load(); shut != nil && strings.HasSuffix(op.Path, ".log") && op.Kind != errorfs.OpFileWrite {
			<-*shut
		}
		return nil
	}))
	n, err := open(Options{}, "events", fs)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	shut := make(chan struct{})
	gate.Store(&shut)
	results := make(chan appendResult, 2)
	try := func() {
		r, err := n.log.append(t.Context(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}})
		if err != nil {
			t.Error(err)
		}
		results <- r
	}
	go try()
	for {
		n.log.mu.Lock()
		written := n.log.last == 1
		n.log.mu.Unlock()
		if written {
			break
		}
	}
	go try()
	if v, err := n.log.view("s", n.Position()); err != nil || v.exists || n.Position() != 0 {
		t.Errorf("an event is shown before it is on disk: %+v at %d, %v", v, n.Position(), err)
	}
	select {
	case r := <-results:
		t.Errorf("answered before the disk: %+v", r)
	default:
	}
	close(shut)
	decisions := map[decision]int{}
	for range 2 {
		decisions[(<-results).decision]++
	}
	if decisions[appended] != 1 || decisions[wrongRevision] != 1 {
		t.Errorf("got %v", decisions)
	}
}

func TestForeignFolder(t *testing.T) {
	fs := vfs.NewMem()
	n, err := open(Options{}, "events", fs)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.log.db.Set([]byte(versionKey), []byte{layoutVersion + 1}, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := open(Options{}, "events", fs); err == nil {
		n.Close()
		t.Error("a layout of a later version was opened")
	}
}

func TestParseRecord(t *testing.T) {
	valid := newEvent("stream").record
	for cut := range len(valid) - len("{}") {
		if _, err := parseRecord(valid[:cut]); err == nil {
			t.Errorf("%d of %d bytes were taken for a record", cut, len(valid))
		}
	}
	later := append(record(nil), valid...)
	later[0]++
	if _, err := parseRecord(later); err == nil {
		t.Error("a record of a later version was read")
	}
}

func TestRing(t *testing.T) {
	const big = ringBytes / 4
	var r ring
	r.reset(1)
	add := func(size int) {
		r.add(&event{position: r.next, record: make(record, size)})
	}
	held := func(from, to uint64) {
		t.Helper()
		for position := uint64(1); position < r.next+10; position++ {
			if got, want := r.get(position) != nil, position >= from && position <= to; got != want {
				t.Fatalf("position %d of %d to %d: held is %v", position, from, to, got)
			}
		}
	}
	for range ringEvents + 10 {
		add(100)
	}
	held(11, ringEvents+10)
	for range 4 {
		add(big)
	}
	held(ringEvents+11, ringEvents+14)
	add(100)
	held(ringEvents+12, ringEvents+15)
	add(2 * ringBytes)
	held(ringEvents+16, ringEvents+16)
	add(100)
	held(ringEvents+17, ringEvents+17)
}

func TestRecentIDs(t *testing.T) {
	r := newRecentIDs()
	id := func(n uint64) eventID {
		var id eventID
		for i := range 8 {
			id[i] = byte(n >> (8 * i))
		}
		return id
	}
	const first = 1_000 // as after a restart
	for n := uint64(first); n < first+recentIDCount+5; n++ {
		r.add(id(n), n)
	}
	for n := uint64(0); n < first+recentIDCount+10; n++ {
		want := n
		if n < first+5 || n >= first+recentIDCount+5 {
			want = 0
		}
		if got := r.position(id(n)); got != want {
			t.Fatalf("id %d is at %d, want %d", n, got, want)
		}
	}
	// An id that is written again is remembered for as long as its last event.
	again := id(first + 5)
	r.add(again, first+recentIDCount+5)
	r.add(id(0), first+recentIDCount+6)
	if got := r.position(again); got != first+recentIDCount+5 {
		t.Errorf("got %d", got)
	}
}

// TestMetadataCache: what a reader found out before metadata changed is not remembered after.
func TestMetadataCache(t *testing.T) {
	c, err := newMetadataCache()
	if err != nil {
		t.Fatal(err)
	}
	_, _, before := c.get("s")
	c.put("s", streamMetadata{maxCount: 1}, before)
	if m, ok, _ := c.get("s"); !ok || m.maxCount != 1 {
		t.Errorf("got %+v, %v", m, ok)
	}
	c.forget("s")
	c.put("s", streamMetadata{maxCount: 1}, before)
	_, ok, after := c.get("s")
	if ok {
		t.Error("old metadata was remembered")
	}
	c.put("s", streamMetadata{maxCount: 2}, after)
	if m, ok, _ := c.get("s"); !ok || m.maxCount != 2 {
		t.Errorf("got %+v, %v", m, ok)
	}
}

// TestMetadataOfOlderPosition: a reader that looked at the log before metadata changed does not make others believe the former.
func TestMetadataOfOlderPosition(t *testing.T) {
	n, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{softDeleted, 1} {
		before := n.Position()
		metadata := metadataEvent("$$s", fmt.Appendf(nil, `{"$tb":%d}`, want))
		if want == 1 { // the stream comes back
			metadata = newEvent("s")
		}
		if _, err := n.log.append(t.Context(), change{stream: string(metadata.stream()), expected: expectAny, events: []*event{metadata}}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.log.view("s", before); err != nil {
			t.Fatal(err)
		}
		v, err := n.log.view("s", n.Position())
		if err != nil || v.first != want || v.exists != (want != softDeleted) {
			t.Errorf("got %+v, %v; the stream is shown from %d", v, err, want)
		}
	}
}

// TestMetadataWithReaders: whoever asks once new metadata is acknowledged is told that, whatever others have asked for at the same time.
func TestMetadataWithReaders(t *testing.T) {
	n, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if _, err := n.log.streamMetadata("s"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for want := int64(1); want <= 3000; want++ {
		metadata := metadataEvent("$$s", fmt.Appendf(nil, `{"$tb":%d}`, want))
		if _, err := n.log.append(ctx, change{stream: "$$s", expected: expectAny, events: []*event{metadata}}); err != nil {
			t.Fatal(err)
		}
		if m, err := n.log.streamMetadata("s"); err != nil || m.truncateBefore != want {
			t.Fatalf("got %+v, %v after $tb %d", m, err, want)
		}
	}
}

// TestBeginsAfterExpired: who finds only what has expired in the first page is told where the stream begins.
func TestBeginsAfterExpired(t *testing.T) {
	n, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	const events, last = 80, 79
	var created [events]int64
	for i := range created {
		e := newEvent("s")
		if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectAny, events: []*event{e}}); err != nil {
			t.Fatal(err)
		}
		created[i] = e.created()
	}
	v, err := n.log.view("s", n.Position())
	if err != nil {
		t.Fatal(err)
	}
	first := int64(50)
	for v.notBefore = created[first]; created[first-1] == v.notBefore; first-- { // in the same tick
	}
	for _, test := range []struct {
		from      int64
		limit     uint64
		notBefore int64
		want      []int64
	}{
		{0, 100, v.notBefore, []int64{first}},
		{first - 5, 5, v.notBefore, []int64{first}},
		{first - 5, 6, v.notBefore, nil},
		{first, 1, v.notBefore, nil},
		{0, 100, math.MaxInt64, []int64{last + 1}},
		{last, 1, math.MaxInt64, []int64{last + 1}},
		{last + 1, 1, math.MaxInt64, nil},
	} {
		v.notBefore = test.notBefore
		if got, err := n.log.begins(v, test.from, test.limit); !slices.Equal(got, test.want) || err != nil {
			t.Errorf("%d events from %d on, expired before %d: got %d, %v; want %d", test.limit, test.from, test.notBefore, got, err, test.want)
		}
	}
}

func TestStreamSet(t *testing.T) {
	s := newStreamSet()
	const streams = 3*firstLayerSize + 10
	name := func(i int) string { return fmt.Sprint("stream-", i) }
	if s.lacks(name(0)) {
		t.Error("a set that is not complete knows what is missing")
	}
	s.complete.Store(true)
	var group sync.WaitGroup
	for w := range 2 {
		group.Go(func() {
			for i := w; i < streams; i += 2 {
				s.add(name(i))
				if s.lacks(name(i)) {
					t.Errorf("%s is lacking", name(i))
				}
			}
		})
	}
	group.Wait()
	wrong := 0
	for i := range streams {
		if s.lacks(name(i)) {
			t.Fatalf("%s is lacking", name(i))
		}
		if !s.lacks(name(streams + i)) {
			wrong++
		}
	}
	if wrong > streams/100 {
		t.Errorf("%d of %d missing streams may exist", wrong, streams)
	}
}
