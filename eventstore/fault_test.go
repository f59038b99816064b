package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/eventstore/node"
)

// short is a time-out for calls that will not be answered.
const short = 200 * time.Millisecond

// operations are all that a store can be asked for. Each returns its last error.
var operations = map[string]func(context.Context, *eventstore.Store) error{
	"append": func(ctx context.Context, s *eventstore.Store) error {
		_, err := s.Append(ctx, newStream(), eventstore.NoStream, events(1)...)
		return err
	},
	"read": func(ctx context.Context, s *eventstore.Store) (last error) {
		for _, last = range s.ReadStream(ctx, newStream(), 0) {
		}
		return last
	},
	"subscription": func(ctx context.Context, s *eventstore.Store) (last error) {
		for _, last = range s.Subscribe(ctx, 0, eventstore.Filter{}) {
		}
		return last
	},
	"event": func(ctx context.Context, s *eventstore.Store) error {
		_, _, err := s.EventAt(ctx, 1)
		return err
	},
	"ping": func(ctx context.Context, s *eventstore.Store) error { return s.Ping(ctx) },
	"metadata": func(ctx context.Context, s *eventstore.Store) error {
		return s.SetMaxCount(ctx, newStream(), 1)
	},
}

// A store works as soon as its event store does.
func TestTheEventStoreComesLate(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	network.Stop()
	impatient, patient := network.Open(t, eventstore.Options{Timeout: short}), network.Open(t, eventstore.Options{Timeout: time.Minute})
	for range 2 {
		var asking sync.WaitGroup
		for kind, ask := range operations {
			asking.Go(func() {
				if err := ask(t.Context(), impatient); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
					t.Errorf("%s: %v", kind, err)
				}
			})
		}
		asking.Wait()
	}
	// Calls with a longer time-out succeed when it is there.
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if _, err := patient.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	network.Start()
	waiting.Wait()
	awaitPing(t, impatient)
}

// awaitPing waits until the store is available.
func awaitPing(t *testing.T, s *eventstore.Store) {
	t.Helper()
	for {
		err := s.Ping(t.Context())
		if err == nil {
			return
		}
		if !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// A call that waits for the event store ends with its context.
func TestWhoWaitsIsFree(t *testing.T) {
	t.Parallel()
	nothing := func(*eventstoretest.Controlled) {}
	for name, test := range map[string]struct {
		before, connected, asked func(*eventstoretest.Controlled)
	}{
		"nobody listens":             {(*eventstoretest.Controlled).Stop, nil, nothing},
		"somebody never answers":     {(*eventstoretest.Controlled).Silence, nil, nothing},
		"somebody answers no longer": {nothing, (*eventstoretest.Controlled).Silence, nothing},
		"somebody breaks off":        {nothing, (*eventstoretest.Controlled).Silence, (*eventstoretest.Controlled).Cut},
	} {
		t.Run(name, func(t *testing.T) {
			network := eventstoretest.Node(t)
			test.before(network)
			s := network.Open(t, eventstore.Options{Timeout: 30 * time.Second})
			if test.connected != nil {
				awaitPing(t, s)
				test.connected(network)
			}
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			var waiting sync.WaitGroup
			for kind, ask := range operations {
				for range 10 {
					waiting.Go(func() {
						if err := ask(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%s: %v", kind, err)
						}
					})
				}
			}
			test.asked(network)
			waiting.Wait()
			network.Start()
			mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
		})
	}
}

// Close ends every wait.
func TestCloseWhileOthersWait(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*eventstoretest.Controlled){
		"nobody listens":         (*eventstoretest.Controlled).Stop,
		"somebody never answers": (*eventstoretest.Controlled).Silence,
		"somebody does":          func(*eventstoretest.Controlled) {},
	} {
		t.Run(name, func(t *testing.T) {
			network := eventstoretest.Node(t)
			s := network.Open(t, eventstore.Options{Timeout: short})
			fail(network)
			var waiting sync.WaitGroup
			asked := make(chan struct{})
			for kind, ask := range operations {
				for range 10 {
					waiting.Go(func() {
						for err := error(nil); !errors.Is(err, eventstore.ErrClosed); err = ask(t.Context(), s) {
							select {
							case asked <- struct{}{}:
							default:
							}
							if err != nil && !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) {
								t.Errorf("%s: %v", kind, err)
								return
							}
						}
					})
				}
			}
			for range 50 {
				<-asked
			}
			var closing sync.WaitGroup
			for range 3 {
				closing.Go(func() { _ = s.Close() })
			}
			closing.Wait()
			waiting.Wait()
			if _, err := s.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...); !errors.Is(err, eventstore.ErrClosed) {
				t.Errorf("append after close: %v", err)
			}
		})
	}
}

// A subscription whose connection is cut ends with an error, and can be resumed from its last position.
func TestSubscriptionIsCut(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{})
	stream := newStream()
	position := logEnd(t, s)
	var got []eventstore.Recorded
	n := 0
	for len(got) < 60 {
		proposed := events(10)
		mustAppend(t, s, stream, domain.Revision(n-1), proposed...)
		n += len(proposed)
		cut := false
		for b, err := range s.Subscribe(t.Context(), position, eventstore.Filter{StreamPrefixes: []string{stream}}) {
			if err != nil {
				if !errors.Is(err, eventstore.ErrUnavailable) || !cut {
					t.Fatal(err)
				}
				continue
			}
			got = append(got, b.Events...)
			position = b.Position
			if len(got) >= n && !cut {
				cut = true
				network.Cut()
			}
		}
		if !cut {
			t.Fatal("the subscription ended by itself")
		}
	}
	for i, r := range got {
		if int(r.Revision) != i {
			t.Fatalf("event %d has revision %d", i, r.Revision)
		}
	}
}

// A subscription that the event store ends because it was too slow goes on, without an error and without a gap.
func TestSubscriptionIsTooSlow(t *testing.T) {
	t.Parallel()
	r, s, direct, _ := behindRelay(t, eventstore.Options{Timeout: time.Minute})
	stream, proposed := newStream(), events(300)
	after := logEnd(t, direct)
	mustAppend(t, direct, stream, eventstore.NoStream, proposed[:200]...)
	tooSlow := func(where string) error {
		return status.Error(codes.Aborted, "Operation timed out: Consumer too slow to handle event while "+where+". Client resubscription required.")
	}
	for _, pass := range []int{1, 1, 2, 50, 120} { // at once, and while and after it catches up
		r.answer(answer{method: eventstoretest.Read, pass: pass, status: tooSlow("transitioning to live")})
	}
	r.answer(answer{method: eventstoretest.Read, pass: 90, status: tooSlow("live")})
	appended := false
	got := follow(t, s, after, eventstore.Filter{StreamPrefixes: []string{stream}}, func(got []eventstore.Recorded, b eventstore.Batch) bool {
		if len(got) == 200 && !appended {
			appended = true
			mustAppend(t, direct, stream, 199, proposed[200:]...)
		}
		return len(got) >= 300 && b.CaughtUp
	})
	if !slices.Equal(recordedIDs(got), proposedIDs(proposed)) {
		t.Errorf("%d events of %d, or in another order", len(got), len(proposed))
	}
	if n := counted(t, s, "roombook_eventstore_resubscriptions_total"); n != 6 || r.left() > 0 {
		t.Errorf("taken up again %v times, %d answers left", n, r.left())
	}
}

// A subscription that is too slow over and over without progress ends with an error.
func TestSubscriptionIsAlwaysTooSlow(t *testing.T) {
	t.Parallel()
	r, s, _, _ := behindRelay(t, eventstore.Options{Timeout: time.Minute})
	for range 100 {
		r.answer(answer{method: eventstoretest.Read, pass: 1, status: status.Error(codes.Aborted, "Operation timed out: Consumer too slow to handle event while live. Client resubscription required.")})
	}
	endsWith(t, s.Subscribe(t.Context(), 0, eventstore.Filter{}), eventstore.ErrUnavailable, func() {})
}

// A subscription whose event store falls silent ends, by the connection's keepalive.
func TestSubscriptionFallsSilent(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s, err := eventstore.Open(eventstore.Options{ConnectionString: network.ConnectionString() + "&keepAliveTimeout=100"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	endsWith(t, s.Subscribe(t.Context(), 0, eventstore.Filter{}), eventstore.ErrUnavailable, network.Silence)
	network.Start()
}

func TestReadsGoOn(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{})
	stream := newStream()
	proposed := events(2000) // more than is in flight at once
	for i := 0; i < len(proposed); i += 500 {
		mustAppend(t, s, stream, domain.Revision(i-1), proposed[i:i+500]...)
	}
	for name, outage := range map[string]func(){
		"cut":               network.Cut,
		"away for a moment": func() { network.Stop(); network.Start() },
	} {
		var got []eventstore.Recorded
		for r, err := range s.ReadStream(t.Context(), stream, 0) {
			if err != nil {
				t.Fatalf("%s: after %d events: %v", name, len(got), err)
			}
			got = append(got, r)
			if len(got)%400 == 1 {
				outage()
			}
		}
		if !slices.Equal(recordedIDs(got), proposedIDs(proposed)) {
			t.Errorf("%s: %d events, want %d, or in another order", name, len(got), len(proposed))
		}
	}
	// A read that begins on a dead connection.
	for range 10 {
		network.Cut()
		if end, err := s.End(t.Context()); err != nil || end == 0 {
			t.Errorf("end: %d, %v", end, err)
		}
	}
	// The event store goes away in the middle of a read and does not come back.
	impatient := network.Open(t, eventstore.Options{Timeout: short})
	n := 0
	var last error
	for _, err := range impatient.ReadStream(t.Context(), stream, 0) {
		if last = err; err == nil {
			n++
		}
		if n == 1 {
			network.Stop()
		}
	}
	if !errors.Is(last, eventstore.ErrUnavailable) {
		t.Errorf("after %d events of %d: %v", n, len(proposed), last)
	}
}

// Whether the request or the answer of an append gets lost, it is done once and returns its position. One that was done is not sent again.
func TestAppendIsCut(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{Timeout: time.Minute})
	awaitPing(t, s)
	for name, test := range map[string]struct {
		lose      func(string, int) <-chan struct{}
		maxLosses int
	}{
		"request": {network.LoseRequest, 3},
		"answer":  {network.LoseAnswer, 1},
	} {
		for _, expected := range []domain.Revision{eventstore.NoStream, 1, eventstore.Any} {
			for losses := 1; losses <= test.maxLosses; losses++ {
				stream := newStream()
				first := domain.Revision(0)
				if expected == 1 {
					mustAppend(t, s, stream, eventstore.NoStream, events(2)...)
					first = 2
				}
				var met []<-chan struct{}
				for n := range losses {
					met = append(met, test.lose(eventstoretest.Append, n+1))
				}
				proposed, calls := events(2), network.Calls(eventstoretest.Append)
				at := mustAppend(t, s, stream, expected, proposed...)
				for _, m := range met {
					<-m
				}
				if n := network.Calls(eventstoretest.Append) - calls; n != 1 {
					t.Errorf("%s lost %d times, expected %d: it reached the event store %d times", name, losses, expected, n)
				}
				got := all(t, s.ReadStream(t.Context(), stream, first))
				if !slices.Equal(recordedIDs(got), proposedIDs(proposed)) || at.Revision != first+1 || got[1].Position != at.Position {
					t.Errorf("%s lost %d times, expected %d: appended at %+v, read %v", name, losses, expected, at, got)
				}
			}
		}
	}
}

// Every request or answer of an append gets lost, and nothing can be read: its outcome is unknown. A later append at the same revision
// settles it.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s, patient := network.Open(t, eventstore.Options{Timeout: time.Second}), network.Open(t, eventstore.Options{Timeout: time.Minute})
	for name, test := range map[string]struct {
		lose func(string, int) <-chan struct{} // the first time
		done bool
	}{
		"done":     {network.LoseAnswer, true},
		"not done": {network.LoseRequest, false},
	} {
		awaitPing(t, s)
		stream, proposed := newStream(), events(2)
		test.lose(eventstoretest.Append, 1)
		for n := range 1000 {
			network.LoseRequest(eventstoretest.Append, n+2)
			network.LoseRequest(eventstoretest.Read, n+1)
		}
		_, err := s.Append(t.Context(), stream, eventstore.NoStream, proposed...)
		if !errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if n := counted(t, s, "roombook_eventstore_unknown_outcomes_total"); n == 0 {
			t.Errorf("%s: not counted", name)
		}
		network.Start()
		if got := all(t, patient.ReadStream(t.Context(), stream, 0)); (len(got) > 0) != test.done {
			t.Errorf("%s: %d events", name, len(got))
		}
		_, err = patient.Append(t.Context(), stream, eventstore.NoStream, proposed...)
		if _, lost := errors.AsType[*eventstore.WrongRevision](err); lost != test.done || !lost && err != nil {
			t.Errorf("%s: tried again: %v", name, err)
		}
		if got := all(t, patient.ReadStream(t.Context(), stream, 0)); !slices.Equal(recordedIDs(got), proposedIDs(proposed)) {
			t.Errorf("%s: tried again, the stream has %d events", name, len(got))
		}
	}
}

// An append on a connection that is known to be broken is certainly not sent.
func TestNeverSent(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	s, patient := network.Open(t, eventstore.Options{Timeout: short}), network.Open(t, eventstore.Options{Timeout: time.Minute})
	for {
		awaitPing(t, s)
		network.Stop()
		runtime.Gosched()
		stream := newStream()
		_, err := s.Append(t.Context(), stream, eventstore.NoStream, events(1)...)
		network.Start()
		if errors.Is(err, eventstore.ErrOutcomeUnknown) { // it was sent before the break was noticed
			continue
		}
		if !errors.Is(err, eventstore.ErrUnavailable) {
			t.Error(err)
		}
		if got := all(t, patient.ReadStream(t.Context(), stream, 0)); got != nil {
			t.Error("it was sent")
		}
		return
	}
}

// The context ends while the answer is in flight.
func TestCallerLeavesAnAppend(t *testing.T) {
	t.Parallel()
	r, s, _, _ := behindRelay(t, eventstore.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	stream, proposed := newStream(), events(1)
	r.answer(answer{method: eventstoretest.Append, forward: true, after: cancel, status: unavailable})
	_, err := s.Append(ctx, stream, eventstore.NoStream, proposed...)
	if !errors.Is(err, eventstore.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// behindRelay returns a store behind a relay, and one that is not.
func behindRelay(t *testing.T, o eventstore.Options) (r *relay, s, direct *eventstore.Store, network *eventstoretest.Controlled) {
	t.Helper()
	back := eventstoretest.Node(t)
	r, front := startRelay(t, back.Address(), nil)
	network = eventstoretest.Before(t, front)
	s = network.Open(t, o)
	direct = back.Open(t, eventstore.Options{})
	awaitPing(t, s)
	awaitPing(t, direct)
	return r, s, direct, network
}

// Answers of the event store to the tries of an append of two events to an empty stream, and the outcome.
func TestAppendIsAnswered(t *testing.T) {
	t.Parallel()
	r, s, direct, _ := behindRelay(t, eventstore.Options{Timeout: time.Minute})
	var stream string
	another := func(expected domain.Revision) func() {
		return func() {
			if _, err := direct.Append(t.Context(), stream, expected, events(1)...); err != nil {
				t.Error(err)
			}
		}
	}
	var (
		tooLate     = status.Error(codes.Aborted, "write timed out")
		fault       = status.Error(codes.Unknown, "Exception was thrown by handler.")
		itsDeadline = status.Error(codes.DeadlineExceeded, "too late")
		stopping    = status.Error(codes.Canceled, "stopping")
		notAllowed  = status.Error(codes.PermissionDenied, "Access Denied")
		tooLarge    = status.Error(codes.InvalidArgument, "Maximum Append Size of 1024 Exceeded.")
	)
	for name, test := range map[string]struct {
		script []answer
		want   func(error) bool
		done   bool
	}{
		"too busy":                    {[]answer{{status: unavailable}}, isNil, true},
		"too busy five times":         {slices.Repeat([]answer{{status: unavailable}}, 5), isNil, true},
		"done, but too late":          {[]answer{{forward: true, status: tooLate}}, isNil, true},
		"not done, and too late":      {[]answer{{status: tooLate}}, isNil, true},
		"a fault in the event store":  {[]answer{{status: fault}}, isNil, true},
		"a deadline of its own":       {[]answer{{status: itsDeadline}}, isNil, true},
		"stopped":                     {[]answer{{status: stopping}}, isNil, true},
		"not allowed":                 {[]answer{{status: notAllowed}}, isRefusal, false},
		"too large":                   {[]answer{{status: tooLarge}}, is(eventstore.ErrTooLarge), false},
		"unheard, then not allowed":   {[]answer{{status: unavailable}, {status: notAllowed}}, is(eventstore.ErrOutcomeUnknown), false},
		"unheard, another was faster": {[]answer{{before: another(eventstore.NoStream), status: unavailable}}, isLostTo(0), false},
		"done, another came after":    {[]answer{{forward: true, after: another(1), status: unavailable}}, isNil, true},
	} {
		t.Run(name, func(t *testing.T) {
			stream = newStream()
			proposed := events(2)
			for i := range test.script {
				test.script[i].method = eventstoretest.Append
			}
			r.answer(test.script...)
			at, err := s.Append(t.Context(), stream, eventstore.NoStream, proposed...)
			if !test.want(err) || err == nil && at.Revision != 1 {
				t.Errorf("appended at %+v, %v", at, err)
			}
			if n := r.left(); n > 0 {
				t.Errorf("%d answers were not asked for", n)
			}
			got := recordedIDs(all(t, direct.ReadStream(t.Context(), stream, 0)))
			if done := len(got) >= 2 && slices.Equal(got[:2], proposedIDs(proposed)); done != test.done {
				t.Errorf("done: %t, want %t", done, test.done)
			}
		})
	}
}

// An append that was sent again is not answered, as if its ids were still in flight in the first try: meanwhile a look at the stream
// finds it.
func TestSentAgainAndUnheard(t *testing.T) {
	t.Parallel()
	r, s, direct, _ := behindRelay(t, eventstore.Options{Timeout: time.Minute})
	for _, expected := range []domain.Revision{eventstore.NoStream, eventstore.Any} {
		told := make(chan struct{})
		r.answer(
			answer{method: eventstoretest.Append, status: unavailable},
			answer{method: eventstoretest.Append, forward: true, after: func() { <-told }, status: unavailable},
		)
		stream, proposed := newStream(), events(2)
		at, err := s.Append(t.Context(), stream, expected, proposed...)
		close(told)
		if err != nil || at.Revision != 1 || r.left() > 0 {
			t.Errorf("appended at %+v, %v, %d answers left", at, err, r.left())
		}
		if got := all(t, direct.ReadStream(t.Context(), stream, 0)); !slices.Equal(recordedIDs(got), proposedIDs(proposed)) || got[1].ID != at.IDs[1] {
			t.Errorf("%d events", len(got))
		}
	}
}

func isNil(err error) bool { return err == nil }

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

// isRefusal reports whether the error gives the event store's own reason.
func isRefusal(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Access Denied") && !errors.Is(err, eventstore.ErrOutcomeUnknown)
}

func isLostTo(actual domain.Revision) func(error) bool {
	return func(err error) bool {
		lost, ok := errors.AsType[*eventstore.WrongRevision](err)
		return ok && lost.Actual == actual && lost.Expected == eventstore.NoStream
	}
}

// Answers of the event store to a read and to a subscription.
func TestReadIsAnswered(t *testing.T) {
	t.Parallel()
	r, s, direct, _ := behindRelay(t, eventstore.Options{})
	stream, proposed := newStream(), events(2)
	mustAppend(t, direct, stream, eventstore.NoStream, proposed...)
	for name, test := range map[string]struct {
		status  error
		refused bool
	}{
		"too busy":                   {unavailable, false},
		"stopped":                    {status.Error(codes.Canceled, "stopping"), false},
		"a fault in the event store": {status.Error(codes.Unknown, "Exception was thrown by handler."), false},
		"not allowed":                {status.Error(codes.PermissionDenied, "Access Denied"), true},
		"no such method":             {status.Error(codes.Unimplemented, "unknown service; Access Denied"), true},
		"not found, but how":         {status.Error(codes.NotFound, "Access Denied or else"), true},
	} {
		script := answer{method: eventstoretest.Read, status: test.status}
		r.answer(script)
		var got []eventstore.Recorded
		var failed error
		for e, err := range s.ReadStream(t.Context(), stream, 0) {
			if failed = err; err == nil {
				got = append(got, e)
			}
		}
		if isRefusal(failed) != test.refused || !test.refused && !slices.Equal(recordedIDs(got), proposedIDs(proposed)) {
			t.Errorf("read, %s: %v, %d events", name, failed, len(got))
		}
		r.answer(script)
		failed = nil
		for b, err := range s.Subscribe(t.Context(), 0, eventstore.Filter{StreamPrefixes: []string{stream}}) {
			if failed = err; b.CaughtUp {
				break
			}
		}
		if isRefusal(failed) != test.refused || !test.refused && failed != nil {
			t.Errorf("subscription, %s: %v", name, failed)
		}
		if r.left() > 0 {
			t.Errorf("%s: not asked", name)
		}
	}
}

// A large append that is refused before all of it was sent returns the reason, and was certainly not done.
func TestLargeAppendIsRefusedEarly(t *testing.T) {
	t.Parallel()
	r, s, direct, _ := behindRelay(t, eventstore.Options{Timeout: time.Minute})
	large := events(200)
	for i := range large {
		large[i].Event = domain.SlotReleased{RoomID: domain.RoomID(strings.Repeat("x", 4000))}
	}
	for range 10 {
		stream := newStream()
		r.answer(answer{method: eventstoretest.Append, early: true, status: status.Error(codes.PermissionDenied, "Access Denied")})
		_, err := s.Append(t.Context(), stream, eventstore.NoStream, large...)
		n := len(all(t, direct.ReadStream(t.Context(), stream, 0)))
		if !isRefusal(err) || n != 0 {
			t.Errorf("%d events, %v", n, err)
		}
	}
}

// An event store that is too busy is asked again only after longer and longer pauses.
func TestRetriesPause(t *testing.T) {
	t.Parallel()
	for method, ask := range map[string]func(context.Context, *eventstore.Store) error{
		eventstoretest.Read: operations["read"], eventstoretest.Append: operations["append"],
	} {
		r, s, _, _ := behindRelay(t, eventstore.Options{Timeout: time.Second})
		awaitPing(t, s)
		r.answer(slices.Repeat([]answer{{method: method, early: true, status: unavailable}}, 10_000)...)
		if err := ask(t.Context(), s); err == nil {
			t.Errorf("%s: answered", method)
		}
		// The shortest possible pauses are 2.5, 5, 10, 20, 40, 80 and then 100 ms.
		if n := 10_000 - r.left(); n < 1 || n > 20 {
			t.Errorf("%s: asked %d times in a second", method, n)
		}
	}
}

// Retries to an event store that says it is too busy use the existing connections.
func TestConnectionsDoNotPileUp(t *testing.T) {
	t.Parallel()
	r, s, _, network := behindRelay(t, eventstore.Options{Connections: 2, Timeout: time.Minute})
	done := make(chan struct{})
	var appending sync.WaitGroup
	for range 32 {
		appending.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 40 {
		r.answer(slices.Repeat([]answer{{method: eventstoretest.Append, status: unavailable}}, 3)...)
		for r.left() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	close(done)
	appending.Wait()
	if n := counted(t, s, "roombook_eventstore_reconnects_total"); n != 0 {
		t.Errorf("%v connections were replaced", n)
	}
	if n := network.Connections(); n > 2 {
		t.Errorf("there are %d connections", n)
	}
}

// Outages one after the other while many append: every append that was acknowledged is there once and in order, those that certainly failed
// are not, and afterwards everything works as before.
func TestOutages(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{Timeout: 400 * time.Millisecond})
	shared := newStream()

	type outcome struct {
		id       domain.ReservationID
		revision domain.Revision
		err      error
	}
	var mu sync.Mutex
	var outcomes []outcome
	done := make(chan struct{})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			revision := eventstore.NoStream
			for {
				select {
				case <-done:
					return
				default:
				}
				proposed := events(1)
				at, err := s.Append(t.Context(), shared, revision, proposed...)
				mu.Lock()
				outcomes = append(outcomes, outcome{idOf(proposed[0].Event), at.Revision, err})
				mu.Unlock()
				if lost, ok := errors.AsType[*eventstore.WrongRevision](err); ok {
					revision = lost.Actual
				} else if err == nil {
					revision = at.Revision
				}
			}
		})
	}
	for range 12 {
		for n := range 1 + random.IntN(3) {
			if random.IntN(2) == 0 {
				<-network.LoseAnswer(eventstoretest.Append, n+1)
			} else {
				<-network.LoseRequest(eventstoretest.Append, n+1)
			}
		}
		switch random.IntN(4) {
		case 0:
			network.Stop()
			if err := s.Ping(t.Context()); err == nil {
				t.Error("pinged what is not there")
			}
		case 1:
			network.Cut()
		}
		network.Start()
	}
	awaitPing(t, s)
	close(done)
	writers.Wait()

	at := map[domain.ReservationID]domain.Revision{}
	for _, r := range all(t, s.ReadStream(t.Context(), shared, 0)) {
		if _, twice := at[idOf(r.Event)]; twice {
			t.Errorf("%s is there twice", idOf(r.Event))
		}
		at[idOf(r.Event)] = r.Revision
	}
	count := map[string]int{}
	for _, o := range outcomes {
		revision, there := at[o.id]
		_, lost := errors.AsType[*eventstore.WrongRevision](o.err)
		switch {
		case o.err == nil && (!there || revision != o.revision):
			t.Errorf("done at %d, and there: %t, at %d", o.revision, there, revision)
		case lost && there:
			t.Errorf("lost, and there at %d", revision)
		case errors.Is(o.err, eventstore.ErrUnavailable) && there:
			t.Errorf("never sent, and there at %d", revision)
		case o.err != nil && !lost && !errors.Is(o.err, eventstore.ErrUnavailable) && !errors.Is(o.err, eventstore.ErrOutcomeUnknown):
			t.Error(o.err)
		}
		count[fmt.Sprintf("%T", errors.Unwrap(o.err))]++
	}
	t.Logf("%d events of %d appends, %v", len(at), len(outcomes), count)
	for network.Connections() > eventstore.DefaultConnections {
		time.Sleep(time.Millisecond)
	}
}

// A node that is restarted on the same data and address is the same event store.
func TestTheNodeRestarts(t *testing.T) {
	t.Parallel()
	dir, address := t.TempDir(), eventstoretest.ClosedPort(t)
	start := func() (stop func()) {
		n, err := node.Open(node.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- n.Serve(ctx, listener) }()
		return func() {
			cancel()
			if err := errors.Join(<-served, n.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	stop := start()
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + address + "?tls=false", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stream, proposed := newStream(), events(30)
	var at []eventstore.Appended
	for i := range proposed {
		at = append(at, mustAppend(t, s, stream, domain.Revision(i-1), proposed[i]))
		if i%10 != 9 {
			continue
		}
		stop()
		var asking sync.WaitGroup
		asking.Go(func() { // while it is down, or after that
			for j := range at {
				_, err := s.Append(t.Context(), stream, domain.Revision(j-1), proposed[j])
				if lost, ok := errors.AsType[*eventstore.WrongRevision](err); !ok || lost.Actual != at[len(at)-1].Revision {
					t.Errorf("append %d went to %+v, again: %v", j, at[j], err)
				}
			}
		})
		stop = start()
		asking.Wait()
		if got := all(t, s.ReadStream(t.Context(), stream, 0)); !slices.Equal(recordedIDs(got), proposedIDs(proposed[:i+1])) {
			t.Errorf("%d events of %d after a restart", len(got), i+1)
		}
	}
	stop()
}

// Nothing is printed on the standard logger, as the client library does by default.
func TestNothingOnTheStandardLogger(t *testing.T) {
	var printed bytes.Buffer
	standard := log.Writer()
	log.SetOutput(&printed)
	defer log.SetOutput(standard)
	network := eventstoretest.Node(t)
	s := network.Open(t, eventstore.Options{Timeout: short})
	awaitPing(t, s)
	network.Stop()
	_, _ = s.Append(t.Context(), newStream(), eventstore.NoStream, events(1)...)
	network.Start()
	awaitPing(t, s)
	if printed.Len() > 0 {
		t.Errorf("printed: %s", &printed)
	}
}
