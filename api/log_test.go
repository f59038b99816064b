package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

// log is an in-memory event store, so that benchmarks measure this package and not the disk. Its field fail makes it fail.
type log struct {
	mu      sync.Mutex
	streams map[string][]eventstore.Recorded
	last    eventstore.Position
	// fail, if not nil, is called before every append and read, which return its error.
	fail func(ctx context.Context) error
}

func newLog() *log { return &log{streams: make(map[string][]eventstore.Recorded)} }

func (l *log) failing(ctx context.Context) error {
	l.mu.Lock()
	fail := l.fail
	l.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx)
}

func (l *log) setFail(fail func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *log) Incarnation() eventstore.Incarnation { return 0 }

func (l *log) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if err := l.failing(ctx); err != nil {
		return eventstore.Appended{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	recorded := l.streams[stream]
	if at := domain.Revision(len(recorded) - 1); expected != eventstore.Any && at != expected {
		return eventstore.Appended{}, &eventstore.WrongRevision{Stream: stream, Expected: expected, Actual: at}
	}
	var appended eventstore.Appended
	for _, e := range events {
		l.last++
		appended.IDs = append(appended.IDs, uuid.New())
		recorded = append(recorded, eventstore.Recorded{
			ID: appended.IDs[len(appended.IDs)-1], Stream: stream, Revision: domain.Revision(len(recorded)), Position: l.last,
			Type: e.Event.EventType(), Event: e.Event, Metadata: e.Metadata,
		})
	}
	l.streams[stream] = recorded
	appended.Revision, appended.Position = domain.Revision(len(recorded)-1), l.last
	return appended, nil
}

func (l *log) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := l.failing(ctx); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if !utf8.ValidString(stream) {
			yield(eventstore.Recorded{}, fmt.Errorf("read %q: not a stream name", stream)) // as [eventstore.Store] answers
			return
		}
		l.mu.Lock()
		recorded := slices.Clone(l.streams[stream])
		l.mu.Unlock()
		for _, r := range recorded[min(int(from), len(recorded)):] {
			r.Data, _ = json.Marshal(r.Event)
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (l *log) SetMaxCount(context.Context, string, int) error { return nil }

// all returns the types of all events in the order of the log.
func (l *log) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []eventstore.Recorded
	for _, s := range l.streams {
		events = append(events, s...)
	}
	slices.SortFunc(events, func(a, b eventstore.Recorded) int { return int(a.Position) - int(b.Position) })
	types := make([]string, len(events))
	for i, e := range events {
		types[i] = e.Type
	}
	return types
}

// readBack yields the latest events before a position, or of all.
func (l *log) readBack(ctx context.Context, before eventstore.Position, count uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := l.failing(ctx); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		l.mu.Lock()
		var events []eventstore.Recorded
		for _, s := range l.streams {
			for _, e := range s {
				if before == 0 || e.Position < before {
					events = append(events, e)
				}
			}
		}
		l.mu.Unlock()
		slices.SortFunc(events, func(a, b eventstore.Recorded) int { return int(b.Position) - int(a.Position) })
		for _, e := range events[:min(int(count), len(events))] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// end returns the position of the last event.
func (l *log) end(ctx context.Context) (eventstore.Position, error) {
	if err := l.failing(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, nil
}
