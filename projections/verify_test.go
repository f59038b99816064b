package projections_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// hiding is a store in which queries in one order do not find a document, as if an index had lost it.
type hiding struct {
	projections.Store
	in projections.Order
}

func (s hiding) Find(ctx context.Context, projection string, schema projections.Schema, sel projections.Selection) (projections.Found, error) {
	found, err := s.Store.Find(ctx, projection, schema, sel)
	if sel.Order == s.in {
		found.Count--
	}
	return found, err
}

// Verify reports a correct document that queries in one of the orders do not find.
func TestVerifyWalksEveryOrder(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	h := history(14)
	happen(t, log, h, 30)
	if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	for _, index := range p.Schema.Indexes {
		order := index.Order
		verdict, err := projections.Verify(t.Context(), hiding{store, order}, log, p)
		if err != nil || len(verdict.Differences) != 0 || len(verdict.Unseen) != 1 || verdict.Faults() != 1 || !strings.HasSuffix(verdict.Unseen[0], "in the order of "+order.String()) {
			t.Errorf("hidden in %s: %+v, %v", order, verdict, err)
		}
	}
	if verdict, err := projections.Verify(t.Context(), store, log, p); err != nil || verdict.Faults() != 0 {
		t.Errorf("hidden nowhere: %+v, %v", verdict, err)
	}
}

// singly is a log that yields batches of one event.
type singly struct{ projections.Log }

func (l singly) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range l.Log.Subscribe(ctx, after, f) {
			if err != nil || len(batch.Events) == 0 {
				if !yield(batch, err) {
					return
				}
				continue
			}
			for i, r := range batch.Events {
				last := i == len(batch.Events)-1
				one := eventstore.Batch{Events: []eventstore.Recorded{r}, Position: r.Position, CaughtUp: batch.CaughtUp && last}
				if last {
					one.Position = batch.Position
				}
				if !yield(one, nil) {
					return
				}
			}
		}
	}
}

// A booking that was longer between two events of one batch, and thus was never stored so, does not make the checkpoint's longest document
// wrong.
func TestVerifyJudgesTheLongestThatWasKept(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	start := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	id := domain.BookingID(uuid.NewString())
	long, short := domain.Slot{Start: start, End: start.Add(3 * time.Hour)}, domain.Slot{Start: start, End: start.Add(time.Hour)}
	_, err := log.Append(t.Context(), id.Stream(), eventstore.NoStream,
		eventstore.Proposed{Event: domain.BookingCreated{BookingID: id, ReservationID: "1", RoomID: "r", UserID: "u", Slot: long, At: start}},
		eventstore.Proposed{Event: domain.BookingChanged{BookingID: id, ReservationID: "2", RoomID: "r", UserID: "u", Slot: short, At: start}})
	if err != nil {
		t.Fatal(err)
	}
	if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	if verdict, err := projections.Verify(t.Context(), store, singly{log}, p); err != nil || verdict.Faults() != 0 {
		t.Errorf("%+v, %v", verdict, err)
	}
}

// readings is a log that counts how often it is read from its beginning.
type readings struct {
	projections.Log
	n atomic.Int64
}

func (l *readings) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	if after == 0 {
		l.n.Add(1)
	}
	return l.Log.Subscribe(ctx, after, f)
}

// VerifyAll reads the log once for all lists, and judges each by itself: one that is further behind, one with a fault, one that is not there.
func TestVerifyAllReadsTheLogOnce(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	all := projections.All()
	h := history(15)
	happen(t, log, h, 20)
	rebuilder := projections.NewRebuilder(store, log, projections.RebuilderOptions{})
	if err := rebuilder.Rebuild(t.Context(), all[0], nil); err != nil {
		t.Fatal(err)
	}
	happen(t, log, h, 20)
	if err := rebuilder.Rebuild(t.Context(), all[1], nil); err != nil {
		t.Fatal(err)
	}
	ref := projections.Ref{Projection: all[1].Name, Number: 1}
	ghost := projections.Row{ID: "ghost", Created: 1, Position: 1, Status: all[1].Statuses[0], Document: &projections.RoomUseList{Booking: "ghost"}}
	if err := store.Write(t.Context(), ref, all[1].Schema, []projections.Row{ghost}, projections.Checkpoint{}); err != nil {
		t.Fatal(err)
	}
	counted := &readings{Log: log}
	verdicts, errs := projections.VerifyAll(t.Context(), store, counted, all)
	if n := counted.n.Load(); n != 1 {
		t.Errorf("the log was read %d times", n)
	}
	if errs[0] != nil || verdicts[0].Faults() != 0 || verdicts[0].Behind == 0 {
		t.Errorf("the one behind: %+v, %v", verdicts[0], errs[0])
	}
	if errs[1] != nil || len(verdicts[1].Differences) != 1 || verdicts[1].Differences[0].ID != "ghost" || verdicts[1].Behind >= verdicts[0].Behind {
		t.Errorf("the one with a fault: %+v, %v", verdicts[1], errs[1])
	}
	if !errors.Is(errs[2], projections.ErrNotBuilt) {
		t.Errorf("the one that is not there: %+v, %v", verdicts[2], errs[2])
	}
}

// RebuildAll reads the log once for all lists. One that cannot be rebuilt ends those that are under way, in one error, and all are as they were.
func TestRebuildAllReadsTheLogOnce(t *testing.T) {
	log, store := eventstoretest.OpenAlone(t), openSQLite(t)
	all := projections.All()
	happen(t, log, history(15), 40)
	counted := &readings{Log: log}
	rebuilder := projections.NewRebuilder(store, counted, projections.RebuilderOptions{})
	active := func() (numbers []int) {
		t.Helper()
		for _, p := range all {
			state, err := store.State(t.Context(), p.Name)
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, state.Active)
		}
		return numbers
	}
	for range 2 {
		if err := rebuilder.RebuildAll(t.Context(), all, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := counted.n.Load(); n != 2 {
		t.Errorf("the log was read %d times for two rebuilds of all lists", n)
	}
	verdicts, errs := projections.VerifyAll(t.Context(), store, log, all)
	for i, p := range all {
		if errs[i] != nil || verdicts[i].Faults() != 0 {
			t.Errorf("%s: %+v, %v", p.Name, verdicts[i], errs[i])
		}
	}
	before := active()
	broken := slices.Clone(all)
	broken[1].Version-- // a newer version keeps it
	if err := rebuilder.RebuildAll(t.Context(), broken, nil); err == nil || !strings.HasPrefix(err.Error(), "rebuild "+all[1].Name+": a newer version") || strings.Contains(err.Error(), "\n") {
		t.Errorf("with one that cannot be rebuilt: %v", err)
	}
	if after := active(); after[1] != before[1] {
		t.Errorf("generations %v are active, and were %v", after, before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rebuilder.RebuildAll(ctx, all, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("once the context has ended: %v", err)
	}
}

// breaking is a log whose first subscription breaks off after its first event.
type breaking struct {
	projections.Log
	broken atomic.Bool
}

func (l *breaking) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	whole := l.Log.Subscribe(ctx, after, f)
	if l.broken.Swap(true) {
		return whole
	}
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range whole {
			if err != nil {
				yield(batch, err)
				return
			}
			if len(batch.Events) > 0 {
				one := eventstore.Batch{Events: batch.Events[:1], Position: batch.Events[0].Position}
				_ = yield(one, nil) && yield(eventstore.Batch{}, eventstore.ErrUnavailable)
				return
			}
		}
	}
}

// The reading that lists share breaks off: each of them reads on, and misses nothing.
func TestRebuildAllAfterABreak(t *testing.T) {
	log, store := eventstoretest.OpenAlone(t), openSQLite(t)
	all := projections.All()
	happen(t, log, history(15), 40)
	if err := projections.NewRebuilder(store, &breaking{Log: log}, projections.RebuilderOptions{}).RebuildAll(t.Context(), all, nil); err != nil {
		t.Fatal(err)
	}
	verdicts, errs := projections.VerifyAll(t.Context(), store, log, all)
	for i, p := range all {
		if errs[i] != nil || verdicts[i].Faults() != 0 || verdicts[i].Behind != 0 {
			t.Errorf("%s: %+v, %v", p.Name, verdicts[i], errs[i])
		}
	}
}

// putBack is a log that is put back while a list is rebuilt from it: after its first event was looked up it is another.
type putBack struct {
	projections.Log
	former projections.Points
	asked  atomic.Bool
}

func (l *putBack) EventAt(ctx context.Context, position eventstore.Position) (uuid.UUID, bool, error) {
	if !l.asked.Swap(true) {
		return l.former.EventAt(ctx, position)
	}
	return l.Log.EventAt(ctx, position)
}

// The log is put back while a list is rebuilt: it never has what the list has, and the rebuild does not wait for it.
func TestALogThatIsPutBackDuringARebuild(t *testing.T) {
	former, log, store := eventstoretest.OpenAlone(t), eventstoretest.OpenAlone(t), openSQLite(t)
	happen(t, former, history(15), 40)
	happen(t, log, history(16), 10)
	p := projections.All()[0]
	if err := projections.NewRebuilder(store, former, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := projections.NewRebuilder(store, &putBack{Log: log, former: former}, projections.RebuilderOptions{}).Rebuild(ctx, p, nil)
	if _, ok := errors.AsType[*projections.OtherLog](err); !ok {
		t.Errorf("the rebuild ended with %v", err)
	}
	if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(ctx, p, nil); err != nil {
		t.Errorf("the next rebuild: %v", err)
	}
}
