package api

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/sqlite"
)

// over is a server whose commands are over the store, with lists in memory.
func over(t *testing.T, store commands.Store, change ...func(*Options)) *service {
	t.Helper()
	c := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
	return newService(t, append(change, func(o *Options) { o.Commands = c })...)
}

// insistent is a client that sends each request, with a key, until it gets another answer than 503.
type insistent struct {
	base    string
	client  *http.Client
	answers chan<- int // every status
}

func (c *insistent) send(ctx context.Context, method, path, body string) (reply, error) {
	key := uuid.NewString()
	for {
		answer, err := ask(ctx, c.client, method, c.base+path, body, key)
		if err != nil {
			return answer, err
		}
		select {
		case c.answers <- answer.status:
		case <-ctx.Done():
			return reply{}, ctx.Err()
		}
		if answer.status != http.StatusServiceUnavailable {
			return answer, nil
		}
		if answer.header.Get("Retry-After") == "" || answer.header.Get("Content-Type") != mediaProblem {
			return answer, fmt.Errorf("503 with %v: %s", answer.header, answer.body)
		}
	}
}

// life books a room, and takes the booking through everything that can happen to it. It tells the booking's id.
func (c *insistent) life(ctx context.Context, room string) (booking string, err error) {
	var use string
	for _, step := range []call{
		{"POST", "/bookings", bookingIn(room)},
		{"PATCH", "/confirms/{booking}", `{"status":"CONFIRMED"}`},
		{"PATCH", "/bookings/{booking}", `{"useEndDtm":"202611241100"}`},
		{"PATCH", "/bookings/{booking}", `{"roomId":"` + room + `-2"}`},
		{"POST", "/realuses", `{"bookingId":"{booking}"}`},
		{"PATCH", "/realuses/{use}", "{}"},
	} {
		ids := strings.NewReplacer("{booking}", booking, "{use}", use)
		r, err := c.send(ctx, step.method, ids.Replace(step.path), ids.Replace(step.body))
		if err != nil {
			return booking, err
		}
		var made struct{ BookingID, RealUseID string }
		if err := json.Unmarshal([]byte(r.body), &made); err != nil || r.status >= 300 {
			return booking, fmt.Errorf("%s %s: status %d: %s", step.method, step.path, r.status, r.body)
		}
		booking, use = made.BookingID, made.RealUseID
	}
	return booking, nil
}

// While the event store is away, requests are answered with 503 within their time limit. When it is back, without a restart of the
// server, the same requests do what they ask for once.
func TestTheEventStoreGoesAway(t *testing.T) {
	for _, outage := range []struct {
		name string
		// wait is how long the store itself would wait; the request's time limit is 500 ms.
		wait  time.Duration
		begin func(network *eventstoretest.Controlled)
	}{
		{"it refuses connections, and the store gives up before the request does", 100 * time.Millisecond, (*eventstoretest.Controlled).Stop},
		{"it refuses connections, and the request gives up first", time.Hour, (*eventstoretest.Controlled).Stop},
		{"it is silent, and the store gives up before the request does", 100 * time.Millisecond, (*eventstoretest.Controlled).Silence},
		{"it is silent, and the request gives up first", time.Hour, (*eventstoretest.Controlled).Silence},
	} {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			network := eventstoretest.Node(t)
			s := over(t, network.Open(t, eventstore.Options{Timeout: outage.wait}), func(o *Options) { o.Timeout = 500 * time.Millisecond })
			r := s.start(t)
			// The client gives up long after the request's time limit, and long before the store would.
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
			defer client.CloseIdleConnections()

			answers := make(chan int)
			prefix := "r-" + uuid.NewString()
			const clients, lives = 6, 2
			made := make([][]string, clients)
			var work sync.WaitGroup
			for i := range clients {
				work.Go(func() {
					c := &insistent{"http://" + r.address, client, answers}
					for life := range lives {
						id, err := c.life(t.Context(), fmt.Sprintf("%s-%d-%d", prefix, i, life))
						if err != nil {
							t.Error(err)
							return
						}
						made[i] = append(made[i], id)
					}
				})
			}
			done := make(chan struct{})
			go func() { work.Wait(); close(done) }()

			const before, during = 30, 2 * clients
			answered, refused := 0, 0
			for running := true; running; {
				select {
				case status := <-answers:
					if status == http.StatusServiceUnavailable {
						if answered < before { // the machine is slow, and the event store not away yet
							continue
						}
						if refused++; refused == during {
							network.Start()
						}
					} else if answered++; answered == before {
						outage.begin(network)
					}
				case <-done:
					running = false
				}
			}
			if refused < during {
				t.Errorf("there were %d answers with 503", refused)
			}
			r.stop()
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
			for _, ids := range made {
				for _, id := range ids {
					s.wantHistory(t, id, "BookingCreated", "ConfirmRequested", "ConfirmCompleted", "BookingChanged", "ConfirmRequested",
						"BookingChanged", "ConfirmRequested", "BookingCheckedIn", "UseStarted", "UseEnded", "BookingCancelled")
				}
			}
			wantSound(t, network, prefix, clients*lives)
		})
	}
}

// minute is how long the long outages are, at least.
func minute() time.Duration {
	if testing.Short() {
		return 2 * time.Second
	}
	return time.Minute
}

// The event store is away for a minute, at first silent and then not even there, under a steady load. All that is asked for meanwhile
// is answered with 503; then it goes on without a restart, and everything that was done is there once.
func TestTheEventStoreIsAwayForAMinute(t *testing.T) {
	t.Parallel()
	network := eventstoretest.Node(t)
	store := network.Open(t, eventstore.Options{})
	handler := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
	s := newService(t, func(o *Options) {
		o.Commands = handler
		o.Timeout = time.Second
		o.Probes = []Probe{{Name: "eventStore", Check: store.Ping}}
	})
	r := s.start(t)
	l := newLoad(t, r.address, 8, "/readyz", "/healthz")
	log := eventstoretest.PartOf(store, eventstoretest.Naming(l.prefix))
	recovery := func(ctx context.Context, grace time.Duration) (end func()) {
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- commands.NewRecovery(handler, log, commands.RecoveryOptions{Grace: grace}).Run(ctx) }()
		return func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(recovery(t.Context(), time.Second))
	refused := func(a answer) bool {
		down := a.status == http.StatusServiceUnavailable
		switch a.what {
		case "/healthz":
			return a.during() && a.done()
		case "/readyz":
			down = down && strings.Contains(a.body, `"eventStore":{"status":"DOWN"`)
		}
		if a.during() && !down {
			t.Errorf("while the event store was away %s was answered with %d: %s", a.what, a.status, a.body)
		}
		return a.during()
	}

	const each = 2
	l.hear(t, each, 0, time.Minute, answer.done)
	network.Silence()
	l.phase.Store(int32(away))
	l.hear(t, each, minute()/2, time.Minute, refused)
	network.Stop()
	l.hear(t, each, minute()/2, time.Minute, refused)
	l.phase.Store(int32(back))
	network.Start()
	// The store tries to connect at least once a second, and has many times that.
	l.hear(t, each, 0, 20*time.Second, func(a answer) bool { return a.sent == back && a.done() })
	l.end()
	l.wantSameAnswers(t)

	// What a command without a key left half-way is for recovery, which may just be pausing after a failure: that of another replica
	// comes first.
	end := recovery(t.Context(), time.Millisecond)
	for {
		open, err := commands.OpenBookings(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		if len(open) == 0 {
			break
		}
	}
	end()
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	l.wantOnce(t, soundLog(t, store, l.prefix))
}

func (s *service) wantHistory(t *testing.T, id string, want ...string) {
	t.Helper()
	r := s.do(t, "GET", "/bookings/"+id+"/history", "").want(t, 200)
	var types []string
	for _, e := range r.at(t, "_embedded.events").([]any) {
		types = append(types, e.(map[string]any)["type"].(string))
	}
	if !slices.Equal(types, want) {
		t.Errorf("history of %s is\n%v, want\n%v", id, types, want)
	}
}

// wantSound walks the whole log: the rooms with the prefix have so many bookings, and nothing breaks a rule.
func wantSound(t *testing.T, network *eventstoretest.Controlled, prefix string, bookings int) {
	t.Helper()
	created := 0
	for _, e := range soundLog(t, network.Open(t, eventstore.Options{}), prefix) {
		if _, ok := e.(domain.BookingCreated); ok {
			created++
		}
	}
	if created != bookings {
		t.Errorf("%d bookings were made, want %d", created, bookings)
	}
}

// soundLog is the log of the rooms with the prefix, in which nothing breaks a rule.
func soundLog(t *testing.T, store *eventstore.Store, prefix string) []domain.Event {
	t.Helper()
	audit := commands.NewAudit()
	var events []domain.Event
	for batch, err := range store.Subscribe(t.Context(), 0, commands.Streams()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Events {
			audit.Add(r)
			if bytes.Contains(r.Data, []byte(`"roomId":"`+prefix)) {
				events = append(events, r.Event)
			}
		}
		if batch.CaughtUp {
			break
		}
	}
	for _, f := range audit.Findings() {
		if strings.HasPrefix(string(f.Room), prefix) {
			t.Error(f)
		}
	}
	return events
}

// While the store of the lists is away, lists are answered with 503 and everything else as ever; when it is back, the lists show
// what was done meanwhile.
func TestTheReadStoreGoesAway(t *testing.T) {
	store := eventstoretest.Open(t)
	file := filepath.Join(t.TempDir(), "views.db")
	room := "r-" + uuid.NewString()
	list := "/bookingLists?status=all&roomId=" + room

	s, away := withLists(t, store, file)
	first := s.do(t, "POST", "/bookings", bookingIn(room)).want(t, 201)
	s.do(t, "GET", list, "", "Roombook-Position: "+first.header.Get("Roombook-Position")).want(t, 200)

	away()
	for _, path := range []string{list, "/bookings", "/confirms", "/realuses", "/roomUseLists", "/notifications", "/bookingLists/" + first.at(t, "bookingId").(string)} {
		if r := s.do(t, "GET", path, "").want(t, 503); r.at(t, "type") != "/problems/lists-unavailable" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: %s", path, r.body)
		}
	}
	id := first.at(t, "bookingId").(string)
	s.do(t, "GET", "/bookings/"+id, "").want(t, 200)
	s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`).want(t, 200)
	s.do(t, "DELETE", "/bookings/"+id, "").want(t, 204)
	last := s.do(t, "POST", "/bookings", bookingIn(room)).want(t, 201)

	s, away = withLists(t, store, file)
	defer away()
	r := s.do(t, "GET", list, "", "Roombook-Position: "+last.header.Get("Roombook-Position")).want(t, 200)
	statuses := map[string]string{}
	for _, item := range r.at(t, "_embedded.bookingLists").([]any) {
		item := item.(map[string]any)
		statuses[item["bookingId"].(string)] = item["status"].(string)
	}
	if want := map[string]string{id: "CANCELLED", last.at(t, "bookingId").(string): "BOOKED"}; !reflect.DeepEqual(statuses, want) {
		t.Errorf("the list has %v, want %v", statuses, want)
	}
}

// The read store is away for a minute, for a server that goes on: the tables by which everything in it is found are gone, so that
// all it is asked fails. Commands, a steady load of them, are done as ever; lists are answered with 503, and show everything when it
// is back.
func TestTheReadStoreIsAwayForAMinute(t *testing.T) {
	t.Parallel()
	store := eventstoretest.Open(t)
	file := filepath.Join(t.TempDir(), "views.db")
	s, end := withLists(t, store, file)
	defer end()
	tables, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	rename := func(from, to string) {
		t.Helper()
		_, err := tables.ExecContext(t.Context(), fmt.Sprintf(`BEGIN IMMEDIATE;
			ALTER TABLE projections%[1]s RENAME TO projections%[2]s;
			ALTER TABLE generations%[1]s RENAME TO generations%[2]s;
			COMMIT`, from, to))
		if err != nil {
			t.Fatal(err)
		}
	}
	r := s.start(t)
	l := newLoad(t, r.address, 8, "/readyz", "/healthz", "/bookingLists?size=1", "/roomUseLists", "/notifications?size=1")

	const each = 2
	l.hear(t, each, 0, time.Minute, answer.done)
	rename("", "_away")
	l.phase.Store(int32(away))
	l.hear(t, each, minute(), time.Minute, func(a answer) bool {
		is := a.done()
		switch {
		case a.what == "/readyz":
			is = a.status == http.StatusServiceUnavailable && strings.Contains(a.body, `"readStore":{"status":"DOWN"`)
		case strings.HasPrefix(a.what, "/") && a.what != "/healthz":
			is = a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "/problems/lists-unavailable") && a.header.Get("Retry-After") != ""
		}
		if a.during() && !is {
			t.Errorf("while the read store was away %s was answered with %d: %s", a.what, a.status, a.body)
		}
		return a.during()
	})
	l.phase.Store(int32(back))
	rename("_away", "")
	// Workers try again at least every ten seconds; lists are answered at once.
	l.hear(t, each, 0, time.Minute, func(a answer) bool { return a.sent == back && a.done() })
	l.end()
	l.wantSameAnswers(t)
	for client := range l.commands {
		l.wantListed(t, client)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	l.wantOnce(t, soundLog(t, store, l.prefix))
}

// withLists is a server with lists in a file. Call away to close the file under its workers, which then end.
func withLists(t *testing.T, store *eventstore.Store, file string) (s *service, away func()) {
	t.Helper()
	views, err := sqlite.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	positions := projections.NewPositions()
	workers := projections.NewWorkers(views, store, projections.All(), projections.WorkerOptions{Positions: positions})
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- workers.Run(ctx) }()
	s = over(t, store, func(o *Options) {
		o.Lists = projections.NewQueries(views, projections.QueryOptions{ReadWait: 30 * time.Second, Positions: positions})
		o.Timeout = time.Minute
		o.Probes = []Probe{{Name: "eventStore", Check: store.Ping}, {Name: "readStore", Check: views.Ping}}
	})
	away = sync.OnceFunc(func() {
		if err := views.Close(); err != nil {
			t.Error(err)
		}
		stop()
		<-ran
	})
	t.Cleanup(away)
	return s, away
}

// An event that this version cannot decode makes requests that must know it fail with a problem that says so, and no others.
func TestAnEventThatCannotBeDecoded(t *testing.T) {
	at := eventstoretest.ConnectionString(t)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: at})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := over(t, store)
	const secret = "cafe-babe"
	poison := func(stream, eventType, metadata string) {
		t.Helper()
		eventstoretest.AppendRaw(t, at, stream, eventType, `{"bookingId":["`+secret+`"]}`, metadata)
	}
	unreadable := func(r reply, about string) {
		t.Helper()
		if r.want(t, 503); r.at(t, "type") != "/problems/unreadable-event" || !strings.Contains(r.body, about) || strings.Contains(r.body, secret) || r.header.Get("Retry-After") == "" {
			t.Errorf("%v %s", r.header, r.body)
		}
	}
	const now = `{"occurredAt":"2026-11-24T09:00:00Z","schemaVersion":1}`
	room := "r-" + uuid.NewString()
	id, other := s.book(t, bookingIn(room)), s.book(t, strings.ReplaceAll(bookingIn(room), "20261124", "20261125"))

	// What no fold needs is passed over.
	poison("booking-"+other, "BookingPainted", now)
	// The booking's own.
	poison("booking-"+id, "BookingChanged", now)
	for _, c := range []call{
		{"GET", "/bookings/" + id, ""},
		{"PATCH", "/bookings/" + id, `{"bookingUserId":"bob"}`},
		{"PUT", "/bookings/" + id, bookingIn(room)},
		{"DELETE", "/bookings/" + id, ""},
		{"GET", "/confirms/" + id, ""},
		{"PATCH", "/confirms/" + id, `{"status":"CONFIRMED"}`},
		{"POST", "/realuses", `{"bookingId":"` + id + `"}`},
	} {
		unreadable(s.do(t, c.method, c.path, c.body), "booking-"+id)
	}
	history := s.do(t, "GET", "/bookings/"+id+"/history", "").want(t, 200)
	if events := history.at(t, "_embedded.events").([]any); len(events) != 3 || !strings.Contains(history.body, secret) {
		t.Errorf("the history does not have the event as it is stored: %s", history.body)
	}
	lives := func(id string) {
		t.Helper()
		s.do(t, "GET", "/bookings/"+id, "").want(t, 200)
		s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`).want(t, 200)
		s.do(t, "PATCH", "/bookings/"+id, `{"useEndDtm":"202611251100"}`).want(t, 200)
		// The use is over before the slot begins, so that the whole of it is free again.
		use := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`","realUseStartDtm":"202611250900"}`).want(t, 201).at(t, "realUseId").(string)
		s.do(t, "PATCH", "/realuses/"+use, `{"realUseEndDtm":"202611250930"}`).want(t, 200)
	}
	lives(other)
	lives(s.book(t, strings.ReplaceAll(bookingIn(room), "20261124", "20261125")))

	// A room's: nobody can book there, and everybody elsewhere.
	poison("calendar-"+room, "SlotReserved", `{"occurredAt":"2026-11-24T09:00:00Z","schemaVersion":99}`)
	unreadable(s.do(t, "POST", "/bookings", strings.ReplaceAll(bookingIn(room), "20261124", "20261126")), "calendar-"+room)
	lives(s.book(t, strings.ReplaceAll(bookingIn(room+"-2"), "20261124", "20261125")))
}
