package commands

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"roombook/domain"
	"roombook/eventstore"
)

// scheduler is an in-memory event store that decides the order in which the calls of its callers are done. Every goroutine of a [Handler]
// halts before each call, before each answer to an append, and before each pause after a lost race, and goes on when the scheduler picks
// it. It has to be made in a synctest bubble, which tells when all goroutines have halted or wait for each other.
//
// It keeps the contract of [eventstore.Store] and no more: an event that was appended becomes visible some time later, to everyone at once
// and in the order of the log, but no later than its append is acknowledged or the event is first read.
type scheduler struct {
	chooser
	// behind makes reads miss appends at random, even acknowledged ones.
	behind bool
	// pace is the time from one request to the next; 0 is a second.
	pace time.Duration
	// forgetful lets calendars forget whatever has ended.
	forgetful bool
	// snapshots is after how many events a calendar gets a snapshot; 0 is never.
	snapshots int

	log      []eventstore.Recorded // the position of an event is its number, counted from 1
	streams  map[string][]eventstore.Recorded
	ends     map[string][]int    // of each append to a stream, how many events there were after it
	shown    eventstore.Position // everything up to here can be read
	late     []late              // appends that are on their way although nobody waits for their answers
	replicas []*replica
	callers  []*caller
	faults   int    // calls that failed and processes that died
	took     func() // is called when events were taken

	mu     sync.Mutex
	kept   map[string]eventstore.Recorded // snapshots by stream
	halted []*halted
	last   *caller // who went on last
	trace  []traced
}

// replica is a process: a handler whose event store is the scheduler.
type replica struct {
	*Handler
	scheduler *scheduler
	number    int
	dead      bool
}

// halted is a goroutine that waits to be picked.
type halted struct {
	replica *replica
	caller  *caller // nil if it is not known which of the replica it is
	before  string
	append  *late // before an append
	goOn    chan struct{}
}

// late is an append that may be done later or never.
type late struct {
	stream   string
	expected domain.Revision
	events   []eventstore.Proposed
}

// traced is one step of a run.
type traced struct {
	replica, caller int
	what, stream    string
	revision        domain.Revision
	became          string
	n               domain.Revision
}

func (m traced) String() string {
	if m.replica < 0 {
		return fmt.Sprintf("%s %s %d: %s %d", m.what, m.stream, m.revision, m.became, m.n)
	}
	return fmt.Sprintf("replica %d, caller %d: %s %s %d: %s %d", m.replica, m.caller, m.what, m.stream, m.revision, m.became, m.n)
}

// chooser makes the choices that a run leaves open.
type chooser interface {
	// pick chooses one of n equal options.
	pick(n int) int
	// exception is 0 for the usual course, or one of n-1 exceptions.
	exception(kind exception, n int) int
}

// exception is a kind of departure from the usual course.
type exception int

const (
	switching exception = iota // another goroutine goes on than the one that went on last
	stale                      // a read does not see what was taken and not acknowledged
	failing                    // a call fails
	crashing                   // a process dies
	landing                    // a late append is done
	exceptions
)

// drawn chooses at random.
type drawn struct {
	*rand.Rand
	rates [exceptions]float64
}

func (d *drawn) pick(n int) int { return d.IntN(n) }

func (d *drawn) exception(kind exception, n int) int {
	if n < 2 || d.Float64() >= d.rates[kind] {
		return 0
	}
	return 1 + d.IntN(n-1)
}

// walked takes every run in turn whose exceptions cost no more than allowed.
type walked struct {
	most int // that exceptions may cost
	path []fork
	at   int
	left int // of most, in this course
}

type fork struct{ taken, of int }

// next begins the next run. It reports false if there is none.
func (w *walked) next() bool {
	w.at, w.left = 0, w.most
	if w.path == nil {
		w.path = []fork{}
		return true
	}
	for len(w.path) > 0 {
		last := &w.path[len(w.path)-1]
		if last.taken++; last.taken < last.of {
			return true
		}
		w.path = w.path[:len(w.path)-1]
	}
	return false
}

func (w *walked) pick(n int) int {
	if n < 2 {
		return 0
	}
	if w.at == len(w.path) {
		w.path = append(w.path, fork{0, n})
	}
	w.at++
	return w.path[w.at-1].taken
}

func (w *walked) exception(kind exception, n int) int {
	if w.left < kind.costs() {
		return 0
	}
	taken := w.pick(n)
	if taken > 0 {
		w.left -= kind.costs()
	}
	return taken
}

// costs is the price of an exception.
func (k exception) costs() int {
	if k == switching || k == stale {
		return 1
	}
	return 2
}

func newScheduler(c chooser) *scheduler {
	return &scheduler{chooser: c, streams: make(map[string][]eventstore.Recorded), ends: make(map[string][]int), kept: make(map[string]eventstore.Recorded), took: func() {}}
}

// start starts a replica.
func (s *scheduler) start(cacheBytes int) *replica {
	r := &replica{scheduler: s, number: len(s.replicas)}
	r.Handler = New(r, Options{Policy: domain.DefaultPolicy(), CacheBytes: cacheBytes})
	r.calendars.whole = make(chan struct{}, 100) // whoever waits there neither halts nor ends
	if s.forgetful {
		r.calendars.keepFor, r.calendars.keepFew = 0, 0
	}
	if s.snapshots > 0 {
		r.calendars.snapshots.store = unscheduled{r}
		r.calendars.snapshots.every, r.calendars.snapshots.peek = s.snapshots, 1
	}
	r.metrics.races = pause{r.metrics.races, r}
	s.replicas = append(s.replicas, r)
	return r
}

// pause is a counter of lost races. Each is followed by a pause of random length. So whoever counts one halts first, and no two goroutines
// of a replica pause at the same time: otherwise the lengths of their pauses would decide, and not the scheduler.
type pause struct {
	prometheus.Counter
	replica *replica
}

func (p pause) Inc() {
	p.Counter.Inc()
	p.replica.halt(context.Background(), "pause", nil)
}

// callerKey is the context key of the caller.
type callerKey struct{}

// halt waits to be picked. A goroutine of a dead process ends here.
func (r *replica) halt(ctx context.Context, before string, append *late) (number int) {
	if r.dead {
		runtime.Goexit()
	}
	h := &halted{replica: r, before: before, append: append, goOn: make(chan struct{})}
	h.caller, _ = ctx.Value(callerKey{}).(*caller)
	r.scheduler.halts(h)
	<-h.goOn
	if r.dead {
		runtime.Goexit()
	}
	return h.number()
}

func (h *halted) number() int {
	if h.caller == nil {
		return -1
	}
	return h.caller.number
}

func (s *scheduler) halts(h *halted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = append(s.halted, h)
}

// quiesce waits until every goroutine has halted or ended, or waits for another one.
func (s *scheduler) quiesce() {
	synctest.Wait()
	if s.pausing() {
		time.Sleep(time.Second) // longer than any pause
		synctest.Wait()
	}
}

// pausing reports whether there are goroutines that have neither halted nor ended.
func (s *scheduler) pausing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.halted) < len(s.running())
}

func (s *scheduler) running() []*caller {
	return slices.DeleteFunc(slices.Clone(s.callers), func(c *caller) bool { return c.gone })
}

// step lets one halted goroutine go on, of those that may. It reports false if there is none.
func (s *scheduler) step(may func(*halted) bool) bool {
	var all []*halted
	for _, h := range s.halted {
		if may(h) {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return false
	}
	slices.SortStableFunc(all, func(a, b *halted) int {
		return cmp.Or(cmp.Compare(s.rank(a), s.rank(b)), cmp.Compare(a.replica.number, b.replica.number), cmp.Compare(a.number(), b.number()))
	})
	i := 0
	if s.rank(all[0]) == 0 {
		i = s.exception(switching, len(all))
	} else {
		i = s.pick(len(all))
	}
	s.last = all[i].caller
	s.goesOn(all[i])
	return true
}

// rank is 0 for the goroutine that went on last.
func (s *scheduler) rank(h *halted) int {
	if h.caller != nil && h.caller == s.last {
		return 0
	}
	return 1
}

func (s *scheduler) goesOn(h *halted) {
	s.halted = slices.DeleteFunc(s.halted, func(other *halted) bool { return other == h })
	runtime.Gosched() // a slice of time of its own, for it is not to be interrupted
	close(h.goOn)
	s.quiesce()
}

// crash kills a process: nothing it does reaches the event store any more, except for appends that are already on their way.
func (s *scheduler) crash(r *replica) {
	r.dead = true
	s.faults++
	s.saw(traced{replica: r.number, caller: -1, what: "dies"})
	for _, h := range slices.Clone(s.halted) {
		if h.replica != r {
			continue
		}
		if h.append != nil && s.pick(2) == 1 {
			s.late = append(s.late, *h.append)
		}
		s.goesOn(h)
	}
}

// land does one late append.
func (s *scheduler) land(i int) {
	l := s.late[i]
	s.late = slices.Delete(s.late, i, i+1)
	m := traced{replica: -1, what: "late append", stream: l.stream, revision: l.expected}
	if at, err := s.take(l); err == nil {
		m.became, m.n = "done", at.Revision
	}
	s.saw(m)
}

func (s *scheduler) saw(m traced) { s.trace = append(s.trace, m) }

// take does an append at its expected revision, or not at all.
func (s *scheduler) take(l late) (eventstore.Appended, error) {
	stream := s.streams[l.stream]
	last := domain.Revision(len(stream)) - 1
	if l.expected != eventstore.Any && l.expected != last {
		return eventstore.Appended{}, &eventstore.WrongRevision{Stream: l.stream, Expected: l.expected, Actual: last}
	}
	var at eventstore.Appended
	for _, e := range l.events {
		last++
		r := eventstore.Recorded{Stream: l.stream, Revision: last, Position: eventstore.Position(len(s.log) + 1), Type: e.Event.EventType(), Event: e.Event, Metadata: e.Metadata}
		binary.BigEndian.PutUint64(r.ID[8:], uint64(r.Position))
		s.log = append(s.log, r)
		stream = append(stream, r)
		at = eventstore.Appended{Revision: last, Position: r.Position, IDs: append(at.IDs, r.ID)}
	}
	s.streams[l.stream] = stream
	s.ends[l.stream] = append(s.ends[l.stream], len(stream))
	s.took()
	return at, nil
}

func (r *replica) Incarnation() eventstore.Incarnation { return 0 }

func (r *replica) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (at eventstore.Appended, err error) {
	s, l := r.scheduler, late{stream, expected, slices.Clone(events)}
	m := traced{replica: r.number, what: "append " + l.types(), stream: stream, revision: expected}
	m.caller = r.halt(ctx, "append", &l)
	how := s.exception(failing, 5)
	if how > 0 {
		s.faults++
	}
	switch how {
	case 1:
		m.became = "unavailable"
		s.saw(m)
		return at, fmt.Errorf("%w: drawn", eventstore.ErrUnavailable)
	case 2:
		m.became = "never done and not heard"
		s.saw(m)
		return at, fmt.Errorf("%w: drawn", eventstore.ErrOutcomeUnknown)
	case 3:
		m.became = "not done yet and not heard"
		s.saw(m)
		s.late = append(s.late, l)
		return at, fmt.Errorf("%w: drawn", eventstore.ErrOutcomeUnknown)
	}
	at, err = s.take(l)
	if wrong, ok := err.(*eventstore.WrongRevision); ok {
		m.became, m.n = "lost to", wrong.Actual
		s.saw(m)
		return at, err
	}
	if how == 4 {
		m.became, m.n = "done and not heard", at.Revision
		s.saw(m)
		return at, fmt.Errorf("%w: drawn", eventstore.ErrOutcomeUnknown)
	}
	m.became, m.n = "taken", at.Revision
	s.saw(m)
	r.halt(ctx, "answer", nil)
	s.shown = max(s.shown, at.Position)
	s.saw(traced{replica: r.number, caller: m.caller, what: "acknowledged", stream: stream, revision: at.Revision})
	return at, nil
}

func (r *replica) SetMaxCount(context.Context, string, int) error { return nil }

// unscheduled is the event store as snapshots use it: at once, in the background of whoever is running.
type unscheduled struct{ *replica }

func (u unscheduled) ReadStream(_ context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		s := u.scheduler
		if strings.HasPrefix(stream, domain.SnapshotCategory+"-") {
			s.mu.Lock()
			defer s.mu.Unlock()
			if r, ok := s.kept[stream]; ok {
				yield(r, nil)
			}
			return
		}
		events := s.streams[stream][:s.upTo(stream, s.shown)]
		for _, e := range events[min(int(from), len(events)):] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (u unscheduled) Append(_ context.Context, stream string, _ domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	u.scheduler.mu.Lock()
	defer u.scheduler.mu.Unlock()
	u.scheduler.kept[stream] = eventstore.Recorded{Stream: stream, Type: events[0].Event.EventType(), Event: events[0].Event}
	return eventstore.Appended{}, nil
}

func (l late) types() string {
	var types []string
	for _, e := range l.events {
		types = append(types, e.Event.EventType())
	}
	return strings.Join(types, "+")
}

func (r *replica) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		s := r.scheduler
		m := traced{replica: r.number, what: "read", stream: stream, revision: from}
		m.caller = r.halt(ctx, "read", nil)
		events := s.readable(stream)
		events = events[min(int(from), len(events)):]
		m.became, m.n = "sees", domain.Revision(len(events))
		fails := s.exception(failing, 2) == 1
		if fails {
			s.faults++
			events = events[:s.pick(len(events)+1)]
			m.became, m.n = "breaks off after", domain.Revision(len(events))
		}
		s.saw(m)
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
		if fails {
			yield(eventstore.Recorded{}, fmt.Errorf("%w: drawn", eventstore.ErrUnavailable))
		}
	}
}

// readable returns the events of a stream that a read sees.
func (s *scheduler) readable(stream string) []eventstore.Recorded {
	events := s.streams[stream]
	if s.behind {
		ends := append([]int{0}, s.ends[stream]...)
		return events[:ends[len(ends)-1-s.exception(stale, min(len(ends), 4))]]
	}
	seen := eventstore.Position(len(s.log))
	if n := s.upTo(stream, s.shown); n < len(events) && s.exception(stale, 2) == 1 {
		seen = s.shown
	}
	s.shown = seen
	return events[:s.upTo(stream, seen)]
}

// upTo counts the events of a stream up to a position.
func (s *scheduler) upTo(stream string, p eventstore.Position) int {
	n, _ := slices.BinarySearchFunc(s.streams[stream], p+1, func(r eventstore.Recorded, p eventstore.Position) int { return cmp.Compare(r.Position, p) })
	return n
}

// kill kills all processes, so that their goroutines end.
func (s *scheduler) kill() {
	for _, r := range s.replicas {
		if !r.dead {
			s.crash(r)
		}
	}
}

// caller asks one command of a replica.
type caller struct {
	number  int
	replica *replica
	asked
	request Request
	began   eventstore.Position // what could certainly be read then
	start   int                 // the number of the moment then
	end     int                 // and when it was answered
	gone    bool
	heard   bool // it has an answer
	answer  any
	err     error
	refusal string // that is to be kept for its key
	kept    string // the one that was kept
}

// begin makes a caller ask a command.
func (s *scheduler) begin(r *replica, a asked, request Request) *caller {
	c := &caller{number: len(s.callers), replica: r, asked: a, request: request, began: s.shown, start: len(s.trace)}
	c.request.CorrelationID = fmt.Sprint("caller ", c.number)
	c.request.Actor = domain.Anyone("ann")
	c.request.At = noon.Add(time.Duration(c.number) * cmp.Or(s.pace, time.Second))
	s.callers = append(s.callers, c)
	s.saw(traced{replica: r.number, caller: c.number, what: "asks to " + a.kind, stream: string(a.booking)})
	ctx := context.WithValue(context.Background(), callerKey{}, c)
	go func() {
		defer func() {
			s.mu.Lock() // it may have paused last, and then the scheduler has looked at it since it last halted
			defer s.mu.Unlock()
			c.gone = true
		}()
		answer, err := a.carryOut(ctx, r.Handler, c.request)
		if c.request.Digest != "" && isRefusal(err) {
			c.refusal = err.Error()
			kept, failed := r.Refused(ctx, c.request, err.Error())
			if c.kept = kept; failed != nil {
				err = failed
			}
		}
		c.answer, c.err, c.heard = answer, err, !r.dead
	}()
	s.last = c
	s.quiesce()
	return c
}

// String describes the run, and what is in the streams.
func (s *scheduler) String() string {
	var b strings.Builder
	for i, m := range s.trace {
		fmt.Fprintf(&b, "\n%4d %s", i, m)
	}
	for _, r := range s.log {
		fmt.Fprintf(&b, "\n%4d %s %d %s %+v by %s", r.Position, r.Stream, r.Revision, r.Type, r.Event, r.Metadata.CorrelationID)
	}
	for _, c := range s.callers {
		fmt.Fprintf(&b, "\ncaller %d, id %s %s: %+v: gone %t, heard %t: %+v, %v", c.number, c.request.ID, c.request.Digest, c.asked, c.gone, c.heard, c.answer, c.err)
	}
	return b.String()
}

// commandID is the id of the command with a number.
func commandID(n int) uuid.UUID { return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, n)) }
