package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// If another log answers at the address, that is noticed before any call of a caller who remembers the former one gets through. The same
// log is recognised.
func TestTheLogIsReplaced(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		events int  // in the log that is there afterwards; -1 for the same log
		other  bool // it is another log
	}{
		"the same":                  {-1, false},
		"one without events":        {0, true},
		"a shorter one":             {2, true},
		"one as long, but another":  {5, true},
		"a longer one, but another": {9, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := serve(t)
			network := eventstoretest.Before(t, first)
			s := network.Open(t, eventstore.Options{Timeout: time.Minute})
			stream := newStream()
			remembered := eventstore.On(t.Context(), s.Incarnation())
			if _, err := s.Append(remembered, stream, eventstore.NoStream, events(5)...); err != nil {
				t.Fatal(err)
			}

			later := first
			if test.events >= 0 {
				later = serve(t)
			}
			direct := eventstoretest.Before(t, later).Open(t, eventstore.Options{})
			if test.events > 0 {
				mustAppend(t, direct, stream, eventstore.NoStream, events(test.events)...)
			}
			network.Redirect(later)

			// At the revision that the stream had in the former log.
			_, err := s.Append(remembered, stream, 4, events(1)...)
			if test.other != isReplaced(err) || !test.other && err != nil {
				t.Errorf("append by one who remembers: %v", err)
			}
			want := 6
			if test.other {
				want = test.events
			}
			if got := all(t, direct.ReadStream(t.Context(), stream, 0)); len(got) != want {
				t.Errorf("the stream has %d events, want %d", len(got), want)
			}
			if log := s.Incarnation(); (log == 1) != test.other {
				t.Errorf("it is log %d", log)
			}
			for _, err := range s.ReadStream(remembered, stream, 0) {
				if test.other != errors.Is(err, eventstore.ErrReplaced) {
					t.Errorf("read by one who remembers: %v", err)
				}
			}
			now := eventstore.On(t.Context(), s.Incarnation())
			if _, err := s.Append(now, newStream(), eventstore.NoStream, events(1)...); err != nil {
				t.Errorf("append by one who does not: %v", err)
			}
		})
	}
}

// serve starts an event store with a log of its own, and returns its address.
func serve(t *testing.T) string {
	return eventstoretest.ClusterBefore(t, "esdb://"+eventstoretest.Serve(t, "")+"?tls=false", 1, eventstoretest.Conditions{}).Address(0)
}

// isReplaced reports whether an append failed because the log was replaced, or was sent to the former one and not answered.
func isReplaced(err error) bool {
	return errors.Is(err, eventstore.ErrReplaced) || errors.Is(err, eventstore.ErrOutcomeUnknown)
}

// The log of a store that has only read, or only subscribed, is remembered as well.
func TestTheLogIsReplacedUnderAReader(t *testing.T) {
	t.Parallel()
	for name, learn := range map[string]func(context.Context, *eventstore.Store, string) int{
		"read": func(ctx context.Context, s *eventstore.Store, stream string) int {
			return len(all(t, s.ReadStream(ctx, stream, 0)))
		},
		"subscribed": func(ctx context.Context, s *eventstore.Store, stream string) (n int) {
			for batch, err := range s.Subscribe(ctx, 0, eventstore.Filter{StreamPrefixes: []string{stream}}) {
				if n += len(batch.Events); err != nil || n > 0 {
					break
				}
			}
			return n
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := serve(t), serve(t)
			network := eventstoretest.Before(t, first)
			stream := newStream()
			mustAppend(t, eventstoretest.Before(t, first).Open(t, eventstore.Options{}), stream, eventstore.NoStream, events(1)...)
			mustAppend(t, eventstoretest.Before(t, second).Open(t, eventstore.Options{}), stream, eventstore.NoStream, events(1)...)

			s := network.Open(t, eventstore.Options{Timeout: time.Minute})
			remembered := eventstore.On(t.Context(), s.Incarnation())
			if n := learn(remembered, s, stream); n != 1 {
				t.Fatalf("%d events", n)
			}
			network.Redirect(second)
			if _, err := s.Append(remembered, stream, 0, events(1)...); !isReplaced(err) {
				t.Error(err)
			}
		})
	}
}

// A log that has lost a snapshot, which the next one has replaced, is still the same log.
func TestASnapshotThatIsGone(t *testing.T) {
	t.Parallel()
	room := domain.RoomID(uuid.NewString())
	kept := esdb.EventData{EventID: uuid.New(), EventType: "SlotReleased", ContentType: esdb.ContentTypeJson, Data: []byte(`{}`)}
	first, second := serve(t), serve(t)
	for _, at := range []string{first, second} {
		client := eventstoretest.Client(t, eventstoretest.Before(t, at).ConnectionString())
		if _, err := client.AppendToStream(t.Context(), room.Stream(), esdb.AppendToStreamOptions{}, kept); err != nil {
			t.Fatal(err)
		}
	}
	network := eventstoretest.Before(t, first)
	eventstoretest.AppendRaw(t, network.ConnectionString(), room.SnapshotStream(), "CalendarSnapshot", `{}`, "")
	s := network.Open(t, eventstore.Options{Timeout: time.Minute})
	remembered := eventstore.On(t.Context(), s.Incarnation())
	for _, stream := range []string{room.Stream(), room.SnapshotStream()} {
		if got := all(t, s.ReadStream(remembered, stream, 0)); len(got) != 1 {
			t.Fatalf("%s has %d events", stream, len(got))
		}
	}
	network.Redirect(second)
	if _, err := s.Append(remembered, room.Stream(), 0, events(1)...); err != nil {
		t.Error(err)
	}
}

// A stream that has become shorter is reported as a lost race only once the log is known to be the same. Otherwise the caller would go on
// to trust what it remembers of a log that is gone.
func TestAShorterStreamIsNoLostRaceUntilTheLogIsKnown(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Before(t, serve(t))
	s := network.Open(t, eventstore.Options{Timeout: time.Second})
	stream := newStream()
	mustAppend(t, s, stream, eventstore.NoStream, events(5)...)
	var lost *eventstore.WrongRevision
	if _, err := s.Append(t.Context(), stream, 7, events(1)...); !errors.As(err, &lost) {
		t.Errorf("of the same log: %v", err)
	}
	network.LoseRequest(eventstoretest.Read, 1)
	if _, err := s.Append(t.Context(), stream, 7, events(1)...); errors.As(err, &lost) || !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("of one that is not known: %v", err)
	}
}

// A checkpoint that was saved for another log is not used.
func TestACheckpointOfAnotherLog(t *testing.T) {
	at := eventstoretest.ConnectionString(t)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: at})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	position := mustAppend(t, store, newStream(), eventstore.NoStream, events(1)...).Position
	stream := "checkpoint-" + uuid.NewString()
	if err := store.SaveCheckpoint(t.Context(), stream, position); err != nil {
		t.Fatal(err)
	}
	saved := all(t, store.ReadStream(t.Context(), stream, 0))[0]
	copied := "checkpoint-" + uuid.NewString()
	for data, want := range map[string]eventstore.Position{
		string(saved.Data): position,
		`{"position":` + string(saved.Data[len(`{"position":`):len(saved.Data)-len(`,"event":"`+uuid.NewString()+`"}`)]) + `,"event":"` + uuid.NewString() + `"}`: 0,
	} {
		e := esdb.EventData{EventID: uuid.New(), EventType: saved.Type, ContentType: esdb.ContentTypeJson, Data: []byte(data)}
		if _, err := eventstoretest.Client(t, at).AppendToStream(t.Context(), copied, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, e); err != nil {
			t.Fatal(err)
		}
		if got, err := store.LoadCheckpoint(t.Context(), copied); err != nil || got != want {
			t.Errorf("%s: loaded %d, %v; want %d", data, got, err, want)
		}
		if got, err := store.LoadPosition(t.Context(), copied); err != nil || got != want {
			t.Errorf("%s: loaded position %d, %v; want %d", data, got, err, want)
		}
	}
	gone := "checkpoint-" + uuid.NewString() // whose event was scavenged
	eventstoretest.AppendRaw(t, at, gone, saved.Type, fmt.Sprintf(`{"position":%d,"event":"%s"}`, 1<<40, uuid.NewString()), "")
	if got, err := store.LoadCheckpoint(t.Context(), gone); err != nil || got != 0 {
		t.Errorf("loaded %d, %v, where the event is gone", got, err)
	}
	if got, err := store.LoadPosition(t.Context(), gone); err != nil || got != 1<<40 {
		t.Errorf("loaded position %d, %v, where the event is gone; want %d", got, err, 1<<40)
	}
}
