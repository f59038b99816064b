package eventstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(eachWay{m}) }

// eachWay runs all tests twice: with an event store that offers BatchAppend, and with one that does not. A server that the tests are given
// offers what it does, so with one they run once.
type eachWay struct{ *testing.M }

func (m eachWay) Run() int {
	with := m.M.Run()
	if os.Getenv("ROOMBOOK_TEST_EVENTSTORE") != "" {
		return with
	}
	fmt.Println("without BatchAppend:")
	_ = os.Setenv(eventstoretest.WithoutBatchAppend, "true") // never fails with this name
	return max(with, m.M.Run())
}

// newStream is a stream name that nothing else uses.
func newStream() string { return "calendar-" + uuid.NewString() }

// events returns n events with different ids.
func events(n int) []eventstore.Proposed {
	e := make([]eventstore.Proposed, n)
	for i := range e {
		e[i] = eventstore.Proposed{
			Event:    domain.SlotReleased{ReservationID: domain.ReservationID(uuid.NewString()), BookingID: "b", RoomID: "r"},
			Metadata: eventstore.Metadata{Actor: "tester", OccurredAt: time.Date(2021, 7, 1, 9, 0, 0, 1, time.UTC)},
		}
	}
	return e
}

// idOf is the id that tells those events apart.
func idOf(event domain.Event) domain.ReservationID { return event.(domain.SlotReleased).ReservationID }

func proposedIDs(proposed []eventstore.Proposed) []domain.ReservationID {
	var all []domain.ReservationID
	for _, e := range proposed {
		all = append(all, idOf(e.Event))
	}
	return all
}

func recordedIDs(recorded []eventstore.Recorded) []domain.ReservationID {
	var all []domain.ReservationID
	for _, r := range recorded {
		all = append(all, idOf(r.Event))
	}
	return all
}

// all collects everything that a read yields.
func all(t *testing.T, read iter.Seq2[eventstore.Recorded, error]) []eventstore.Recorded {
	t.Helper()
	var recorded []eventstore.Recorded
	for r, err := range read {
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, r)
	}
	return recorded
}

func mustAppend(t *testing.T, s *eventstore.Store, stream string, expected domain.Revision, e ...eventstore.Proposed) eventstore.Appended {
	t.Helper()
	at, err := s.Append(t.Context(), stream, expected, e...)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestAppendedIsRead(t *testing.T) {
	s := eventstoretest.Open(t)
	stream := newStream()
	proposed := events(3)
	proposed[1].Event = domain.SlotReserved{
		ReservationID: "r", BookingID: "b", RoomID: "Zimmer <1>", UserID: "u", Actor: "a", CorrelationID: "c",
		Slot: domain.Slot{Start: time.Date(2021, 7, 1, 9, 0, 0, 0, time.UTC), End: time.Date(2021, 7, 1, 10, 0, 0, 0, time.UTC)},
		At:   time.Date(2021, 6, 30, 9, 0, 0, 123456789, time.UTC),
	}
	proposed[1].Metadata = eventstore.Metadata{CorrelationID: "c", CausationID: "d", Actor: "a", OccurredAt: time.Date(2021, 6, 30, 9, 0, 0, 987654321, time.UTC), TraceParent: "t"}

	first := mustAppend(t, s, stream, eventstore.NoStream, proposed[0])
	if first.Revision != 0 || first.Position == 0 {
		t.Errorf("the first append went to %+v", first)
	}
	second := mustAppend(t, s, stream, 0, proposed[1:]...)
	if second.Revision != 2 || second.Position <= first.Position {
		t.Errorf("the second append went to %+v, after %+v", second, first)
	}
	ids := slices.Concat(first.IDs, second.IDs)

	got := all(t, s.ReadStream(t.Context(), stream, 0))
	if len(got) != len(proposed) {
		t.Fatalf("read %d events, want %d", len(got), len(proposed))
	}
	for i, r := range got {
		proposed[i].Metadata.SchemaVersion = 1
		want := eventstore.Recorded{
			ID: ids[i], Stream: stream, Revision: domain.Revision(i), Position: r.Position,
			Type: proposed[i].Event.EventType(), Event: proposed[i].Event, Metadata: proposed[i].Metadata, Data: r.Data,
		}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("event %d\n got %+v\nwant %+v", i, r, want)
		}
		if !json.Valid(r.Data) {
			t.Errorf("event %d has the data %q", i, r.Data)
		}
	}
	if got[0].Position != first.Position || got[2].Position != second.Position || got[1].Position <= got[0].Position || got[2].Position <= got[1].Position {
		t.Errorf("events are at %d, %d, %d, appends went to %d and %d", got[0].Position, got[1].Position, got[2].Position, first.Position, second.Position)
	}

	for from, want := range map[domain.Revision]int{0: 3, 1: 2, 2: 1, 3: 0, 1000: 0} {
		if got := all(t, s.ReadStream(t.Context(), stream, from)); len(got) != want || want > 0 && got[0].Revision != from {
			t.Errorf("read from %d: %d events, want %d", from, len(got), want)
		}
	}
	if end, err := s.End(t.Context()); err != nil || end < second.Position {
		t.Errorf("the log ends at %d, %v, which is before %d", end, err, second.Position)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAMissingStreamIsEmpty(t *testing.T) {
	s := eventstoretest.Open(t)
	if got := all(t, s.ReadStream(t.Context(), newStream(), 0)); got != nil {
		t.Errorf("read %v", got)
	}
}

func TestLeavingARead(t *testing.T) {
	s := eventstoretest.Open(t)
	stream := newStream()
	mustAppend(t, s, stream, eventstore.NoStream, events(100)...)
	for range 300 { // a hundred open reads would block a connection
		for r, err := range s.ReadStream(t.Context(), stream, 7) {
			if err != nil || r.Revision != 7 {
				t.Fatal(r.Revision, err)
			}
			break
		}
	}
}

func TestRevisions(t *testing.T) {
	s := eventstoretest.Open(t)
	for name, test := range map[string]struct {
		given    int // events in the stream
		expected domain.Revision
		want     domain.Revision // of the append of one event
		actual   domain.Revision // of the lost race, if want is negative
	}{
		"none, none expected":     {0, eventstore.NoStream, 0, 0},
		"none, any expected":      {0, eventstore.Any, 0, 0},
		"none, one expected":      {0, 0, -1, eventstore.NoStream},
		"three, none expected":    {3, eventstore.NoStream, -1, 2},
		"three, any expected":     {3, eventstore.Any, 3, 0},
		"three, the second":       {3, 1, -1, 2},
		"three, the last":         {3, 2, 3, 0},
		"three, one that is not":  {3, 3, -1, 2},
		"three, one far from now": {3, 1 << 62, -1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			stream := newStream()
			if test.given > 0 {
				mustAppend(t, s, stream, eventstore.NoStream, events(test.given)...)
			}
			at, err := s.Append(t.Context(), stream, test.expected, events(1)...)
			if test.want >= 0 {
				if err != nil || at.Revision != test.want {
					t.Errorf("appended at %d, %v; want %d", at.Revision, err, test.want)
				}
				return
			}
			var lost *eventstore.WrongRevision
			want := eventstore.WrongRevision{Stream: stream, Expected: test.expected, Actual: test.actual}
			if !errors.As(err, &lost) || *lost != want {
				t.Errorf("got %v, want %v", err, &want)
			}
			if n := len(all(t, s.ReadStream(t.Context(), stream, 0))); n != test.given {
				t.Errorf("%d events after a lost race, %d before", n, test.given)
			}
		})
	}
}

// Of two identical appends at the same revision one is done, and the other loses the race.
func TestAppendTwice(t *testing.T) {
	s := eventstoretest.Open(t)
	for _, expected := range []domain.Revision{eventstore.NoStream, 1} {
		stream := newStream()
		if expected >= 0 {
			mustAppend(t, s, stream, eventstore.NoStream, events(2)...)
		}
		proposed := events(3)
		first := mustAppend(t, s, stream, expected, proposed...)
		_, err := s.Append(t.Context(), stream, expected, proposed...)
		if lost, ok := errors.AsType[*eventstore.WrongRevision](err); !ok || lost.Actual != first.Revision {
			t.Errorf("expected %d: first %+v, again %v", expected, first, err)
		}
		if got := all(t, s.ReadStream(t.Context(), stream, 0)); len(got) != int(first.Revision)+1 {
			t.Errorf("expected %d: %d events", expected, len(got))
		}
	}
}

type painted struct{}

func (painted) EventType() string { return "RoomPainted" }

func TestAppendRefuses(t *testing.T) {
	s := eventstoretest.Open(t)
	large := events(1)
	large[0].Event = domain.SlotReleased{RoomID: domain.RoomID(strings.Repeat("x", 1<<20))}
	for name, test := range map[string]struct {
		stream   string
		expected domain.Revision
		events   []eventstore.Proposed
		err      error
	}{
		"no events":                        {newStream(), eventstore.Any, nil, nil},
		"a type that is not stored":        {newStream(), eventstore.Any, []eventstore.Proposed{{Event: painted{}}}, nil},
		"a time that cannot be stored":     {newStream(), eventstore.Any, []eventstore.Proposed{{Event: domain.ConfirmRequested{At: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}}}, nil},
		"a revision that is none":          {newStream(), -3, events(1), nil},
		"no stream name":                   {"", eventstore.Any, events(1), nil},
		"metadata of nothing":              {"$$", eventstore.Any, events(1), nil},
		"the log itself":                   {"$all", eventstore.Any, events(1), nil},
		"a name that is not text":          {"\xff", eventstore.Any, events(1), nil},
		"more than the event store stores": {newStream(), eventstore.Any, large, eventstore.ErrTooLarge},
	} {
		at, err := s.Append(t.Context(), test.stream, test.expected, test.events...)
		if err == nil || test.err != nil && !errors.Is(err, test.err) || errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
			t.Errorf("%s: %+v, %v", name, at, err)
		}
		if test.stream != "" && !strings.HasPrefix(test.stream, "$") && test.stream != "\xff" {
			if got := all(t, s.ReadStream(t.Context(), test.stream, 0)); got != nil {
				t.Errorf("%s: %d events were written", name, len(got))
			}
		}
	}
	mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...) // it still works
}

func TestReadRefuses(t *testing.T) {
	s := eventstoretest.Open(t)
	for _, read := range []iter.Seq2[eventstore.Recorded, error]{
		s.ReadStream(t.Context(), "", 0),
		s.ReadStream(t.Context(), "\xff", 0),
		s.ReadStream(t.Context(), newStream(), -1),
	} {
		n := 0
		for r, err := range read {
			n++
			if err == nil || !reflect.DeepEqual(r, eventstore.Recorded{}) {
				t.Errorf("yielded %+v, %v", r, err)
			}
		}
		if n != 1 {
			t.Errorf("yielded %d times", n)
		}
	}
}

func TestAContextThatHasEnded(t *testing.T) {
	s := eventstoretest.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stream := newStream()
	if _, err := s.Append(ctx, stream, eventstore.NoStream, events(1)...); !errors.Is(err, context.Canceled) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Errorf("append: %v", err)
	}
	for _, err := range s.ReadStream(ctx, stream, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
	}
	for _, err := range s.Subscribe(ctx, 0, eventstore.Filter{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("subscribe: %v", err)
		}
	}
	if err := s.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ping: %v", err)
	}
	if got := all(t, s.ReadStream(t.Context(), stream, 0)); got != nil {
		t.Error("the append was done")
	}
}

func TestSetMaxCount(t *testing.T) {
	s := eventstoretest.Open(t)
	stream := newStream()
	mustAppend(t, s, stream, eventstore.NoStream, events(5)...)
	for range 2 {
		if err := s.SetMaxCount(t.Context(), stream, 2); err != nil {
			t.Fatal(err)
		}
	}
	if got := all(t, s.ReadStream(t.Context(), stream, 0)); len(got) != 2 || got[0].Revision != 3 {
		t.Errorf("%d events can be read, want 3 and 4", len(got))
	}
	if got := all(t, s.ReadStream(t.Context(), "$$"+stream, 0)); len(got) != 1 || got[0].Revision != 0 {
		t.Errorf("set twice, written as %v", got)
	}
	mustAppend(t, s, stream, 4, events(1)...)
	if err := s.SetMaxCount(t.Context(), stream, 1); err != nil {
		t.Fatal(err)
	}
	if got := all(t, s.ReadStream(t.Context(), stream, 0)); len(got) != 1 || got[0].Revision != 5 {
		t.Errorf("%d events can be read, want 5", len(got))
	}
	for _, err := range []error{s.SetMaxCount(t.Context(), stream, 0), s.SetMaxCount(t.Context(), "", 1)} {
		if err == nil {
			t.Error("set")
		}
	}
}

// The rest of a stream's metadata stays as it is.
func TestSetMaxCountKeepsTheRest(t *testing.T) {
	at := eventstoretest.ConnectionString(t)
	s, err := eventstore.Open(eventstore.Options{ConnectionString: at})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for before, want := range map[string]string{
		`{"$acl":{"$r":["a","b"]},"$tb":9223372036854775800,"mine":1.50}`: `{"$acl":{"$r":["a","b"]},"$maxCount":7,"$tb":9223372036854775800,"mine":1.50}`,
		`{"$maxCount":3,"$maxAge":60}`:                                    `{"$maxAge":60,"$maxCount":7}`,
		`[]`:                                                              `{"$maxCount":7}`,
		`null`:                                                            `{"$maxCount":7}`,
		`{"$maxCount`:                                                     `{"$maxCount":7}`,
	} {
		stream := newStream()
		_, err := eventstoretest.Client(t, at).AppendToStream(t.Context(), "$$"+stream, esdb.AppendToStreamOptions{}, esdb.EventData{EventType: "$metadata", ContentType: esdb.ContentTypeJson, Data: []byte(before)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetMaxCount(t.Context(), stream, 7); err != nil {
			t.Error(err)
		}
		if got := all(t, s.ReadStream(t.Context(), "$$"+stream, 1)); len(got) != 1 || string(got[0].Data) != want {
			t.Errorf("%s became %+v, want %s", before, got, want)
		}
	}
}

// A user gets the right to read $all beside those who have it.
func TestGrantReadAll(t *testing.T) {
	for before, want := range map[string]string{
		`{}`: `{"$acl":{"$r":["$admins","roombook"]}}`,
		`{"$maxAge":60,"$acl":{"$r":["$admins","other"],"$w":"$ops"}}`: `{"$acl":{"$r":["$admins","other","roombook"],"$w":"$ops"},"$maxAge":60}`,
		`{"$acl":{"$r":"other"}}`:                                      `{"$acl":{"$r":["other","roombook"]}}`,
		`{"$acl":{"$w":"$ops"}}`:                                       `{"$acl":{"$r":["$admins","roombook"],"$w":"$ops"}}`,
		`{"$acl":{"$r":["roombook","another"]}}`:                       "",
		`{"$acl":{"$r":"roombook"},"mine":"all"}`:                      "",
	} {
		at := "esdb://" + eventstoretest.Serve(t, "") + "?tls=false"
		eventstoretest.AppendRaw(t, at, "$$$all", "$metadata", before, "")
		s := openStore(t, at)
		granted, err := s.GrantReadAll(t.Context(), "roombook")
		if err != nil || granted != (want != "") {
			t.Errorf("%s: granted %t, %v", before, granted, err)
		}
		if want == "" {
			want = before
		}
		got := all(t, s.ReadStream(t.Context(), "$$$all", 0))
		if last := string(got[len(got)-1].Data); last != want {
			t.Errorf("%s became %s, want %s", before, last, want)
		}
	}
}

// An event that cannot be decoded is yielded without its Event, counted, and ends neither a read nor a subscription.
func TestUndecodable(t *testing.T) {
	at := eventstoretest.ConnectionString(t)
	s, err := eventstore.Open(eventstore.Options{ConnectionString: at})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	after := logEnd(t, s)
	stream := newStream()
	first := mustAppend(t, s, stream, eventstore.NoStream, events(1)...)
	const v1 = `{"occurredAt":"2021-07-01T09:00:00Z","schemaVersion":1}`
	poison := []esdb.EventData{
		{EventID: uuid.New(), EventType: "RoomPainted", ContentType: esdb.ContentTypeJson, Data: []byte(`{}`), Metadata: []byte(v1)},
		{EventID: uuid.New(), EventType: "SlotReleased", ContentType: esdb.ContentTypeJson, Data: []byte(`{"reservationId":`), Metadata: []byte(v1)},
		{EventID: uuid.New(), EventType: "SlotReleased", ContentType: esdb.ContentTypeJson, Data: []byte(`{"reservationId":"r"}`), Metadata: []byte(`{"schemaVersion":99}`)},
		{EventID: uuid.New(), EventType: "SlotReleased", ContentType: esdb.ContentTypeJson, Data: []byte(`{"reservationId":"r"}`)},
		{EventID: uuid.New(), EventType: "SlotReserved", ContentType: esdb.ContentTypeBinary, Data: []byte{0, 1, 2}},
	}
	if _, err := eventstoretest.Client(t, at).AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(0)}, poison...); err != nil {
		t.Fatal(err)
	}
	last := mustAppend(t, s, stream, 5, events(1)...)

	check := func(got []eventstore.Recorded) {
		t.Helper()
		if len(got) != 7 || got[0].ID != first.IDs[0] || got[0].Event == nil || got[6].ID != last.IDs[0] || got[6].Event == nil {
			t.Fatalf("got %+v", got)
		}
		for i, r := range got[1:6] {
			if r.Event != nil || r.ID != poison[i].EventID || r.Type != poison[i].EventType || !bytes.Equal(r.Data, poison[i].Data) {
				t.Errorf("got %+v", r)
			}
		}
	}
	check(all(t, s.ReadStream(t.Context(), stream, 0)))
	if n := counted(t, s, "roombook_eventstore_undecodable_events_total"); n != 5 {
		t.Errorf("%v undecodable events, want 5", n)
	}
	check(follow(t, s, after, eventstore.Filter{StreamPrefixes: []string{stream}}, func(_ []eventstore.Recorded, b eventstore.Batch) bool { return b.CaughtUp }))
}

// counted is the sum of a metric over its labels, or of a histogram's counts.
func counted(t *testing.T, s *eventstore.Store, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func TestMetrics(t *testing.T) {
	s := eventstoretest.Open(t)
	stream := newStream()
	mustAppend(t, s, stream, eventstore.NoStream, events(1)...)
	mustAppend(t, s, stream, 0, events(1)...)
	if _, err := s.Append(t.Context(), stream, 0, events(1)...); err == nil {
		t.Fatal("appended at a revision that is over")
	}
	for name, want := range map[string]float64{
		"roombook_eventstore_append_seconds":         2,
		"roombook_eventstore_wrong_revisions_total":  1,
		"roombook_eventstore_retries_total":          0,
		"roombook_eventstore_reconnects_total":       0,
		"roombook_eventstore_unknown_outcomes_total": 0,
	} {
		if got := counted(t, s, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := counted(t, s, "roombook_eventstore_connections"); got < 1 {
		t.Errorf("%v connections", got)
	}
}

func TestOpen(t *testing.T) {
	var printed bytes.Buffer
	log.SetOutput(&printed)
	defer log.SetOutput(log.Default().Writer())
	for s, good := range map[string]bool{
		"esdb://127.0.0.1:2113?tls=false":                                 true,
		"esdb://127.0.0.1":                                                true,
		"esdb://user:pass@a:1,b:2,c:3?nodePreference=follower":            true,
		"esdb+discover://cluster.example.com?TLS=false&gossipTimeout=1":   true,
		"esdb://127.0.0.1?connectionName=roombook&throwOnAppendFailure=0": true, // other clients know these
		"esdb://127.0.0.1?defaultDeadline=60000":                          true,
		"esdb://127.0.0.1?defaultDeadline=soon":                           false,
		"esdb://127.0.0.1?tls=perhaps":                                    false,
		"esdb://127.0.0.1?userCertFile=cert.pem":                          false,
		"esdb://127.0.0.1:port":                                           false,
		"http://127.0.0.1:2113":                                           false,
		"esdb://":                                                         false,
		"":                                                                false,
	} {
		store, err := eventstore.Open(eventstore.Options{ConnectionString: s})
		if (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
		if store != nil {
			for range 2 {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if _, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://127.0.0.1", Timeout: -1}); err == nil {
		t.Error("opened with a negative timeout")
	}
	if printed.Len() > 0 {
		t.Errorf("on the standard logger: %s", &printed)
	}
}

func ExampleStore_Append() {
	store, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://127.0.0.1:2113?tls=false"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	released := domain.SlotReleased{ReservationID: "a reservation", BookingID: "a booking", RoomID: "room-1"}
	_, err = store.Append(context.Background(), domain.RoomID("room-1").Stream(), 41, eventstore.Proposed{Event: released})
	var lost *eventstore.WrongRevision
	if errors.As(err, &lost) {
		fmt.Println("read on from revision", lost.Expected+1)
	}
}
