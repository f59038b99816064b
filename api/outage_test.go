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

// over returns a server with commands on the store and in-memory lists.
func over(t *testing.T, store commands.Store, change ...func(*Options)) *service {
	t.Helper()
	c := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
	return newService(t, append(change, func(o *Options) { o.Commands = c })...)
}

// insistent is a client that retries each request, with a key, until the reply is not a 503.
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

// life books a room, takes the booking through everything that can happen to it, and returns the booking's id.
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

// While the event store is unavailable, requests get a 503 within their time limit. Once it is back, the same requests are executed once,
// without a restart of the server.
func TestTheEventStoreGoesAway(t *testing.T) {
	for _, outage := range []struct {
		name string
		// wait is the timeout of the store; the time limit of requests is 2 s.
		wait  time.Duration
		begin func(network *eventstoretest.Controlled)
	}{
		{"it refuses connections, and the store gives up before the request does", 400 * time.Millisecond, (*eventstoretest.Controlled).Stop},
		{"it refuses connections, and the request gives up first", time.Hour, (*eventstoretest.Controlled).Stop},
		{"it is silent, and the store gives up before the request does", 400 * time.Millisecond, (*eventstoretest.Controlled).Silence},
		{"it is silent, and the request gives up first", time.Hour, (*eventstoretest.Controlled).Silence},
	} {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			network := eventstoretest.Node(t)
			s := over(t, network.Open(t, eventstore.Options{Timeout: outage.wait}), func(o *Options) { o.Timeout = 2 * time.Second })
			r := s.start(t)
			// The client's timeout is long after the request's time limit, and long before the store's timeout.
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
			answered, refused, away := 0, 0, false
			for running := true; running; {
				select {
				case status := <-answers:
					switch {
					case status != http.StatusServiceUnavailable:
						if answered++; answered == before {
							outage.begin(network)
							away = true
						}
					case away: // on a slow machine there may be refusals before
						if refused++; refused == during {
							network.Start()
						}
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

// minute is the least duration of the long outages.
func minute() time.Duration {
	if testing.Short() || eventstoretest.Raced { // most of that time all wait
		return 2 * time.Second
	}
	return time.Minute
}

// The event store is unavailable for a minute under a steady load: first it does not answer, then it refuses connections. All requests
// meanwhile get a 503. Then the server recovers without a restart, and everything that was done is there once.
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
	// The store tries to connect at least once a second, and the bound is many times that.
	l.hear(t, each, 0, time.Minute, func(a answer) bool { return a.sent == back && a.done() })
	l.end()
	l.wantSameAnswers(t)

	// Half-finished commands without a key are left to recovery, which may be pausing after a failure; here that of another replica does
	// it.
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
	r := s.do(t, "GET", "/bookings/"+id+"/history", "")
	for deadline := time.Now().Add(patience); r.status == 503 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) { // it took longer than the limit
		r = s.do(t, "GET", "/bookings/"+id+"/history", "")
	}
	r.want(t, 200)
	var types []string
	for _, e := range r.at(t, "_embedded.events").([]any) {
		types = append(types, e.(map[string]any)["type"].(string))
	}
	if !slices.Equal(types, want) {
		t.Errorf("history of %s is\n%v, want\n%v", id, types, want)
	}
}

// wantSound audits the log of the rooms with the prefix and wants them to have this number of bookings.
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

// soundLog audits the log of the rooms with the prefix and returns it.
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

// While the read store is unavailable, lists get a 503 and everything else works as usual. Once it is back, the lists show what was done
// meanwhile.
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

// The read store is unavailable for a minute while the server runs: its tables are renamed, so that every query fails. A steady load of
// commands works as usual; lists get a 503, and show everything once the store is back.
func TestTheReadStoreIsAwayForAMinute(t *testing.T) {
	t.Parallel()
	store := eventstoretest.Open(t)
	file := filepath.Join(t.TempDir(), "views.db")
	s, end := withLists(t, store, file)
	defer end()
	tables, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(60000)")
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
	// Workers retry at least every ten seconds; lists recover at once.
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

// withLists returns a server with lists in a file. Its away closes the file under the workers, which then end.
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
		for o.Lists.(*projections.Queries).Ready(t.Context()) != nil { // a log that others write to as well is long
			time.Sleep(time.Millisecond)
		}
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

// An event that this version cannot decode fails the requests that need it, with a problem that says so, and no others.
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

	// An event that no fold needs is ignored.
	poison("booking-"+other, "BookingPainted", now)
	// An event of the booking.
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
		// The use ends before the slot starts, so that the whole slot is free again.
		use := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`","realUseStartDtm":"202611250900"}`).want(t, 201).at(t, "realUseId").(string)
		s.do(t, "PATCH", "/realuses/"+use, `{"realUseEndDtm":"202611250930"}`).want(t, 200)
	}
	lives(other)
	lives(s.book(t, strings.ReplaceAll(bookingIn(room), "20261124", "20261125")))

	// An event of the room, which can no longer be booked, while others can.
	poison("calendar-"+room, "SlotReserved", `{"occurredAt":"2026-11-24T09:00:00Z","schemaVersion":99}`)
	unreadable(s.do(t, "POST", "/bookings", strings.ReplaceAll(bookingIn(room), "20261124", "20261126")), "calendar-"+room)
	lives(s.book(t, strings.ReplaceAll(bookingIn(room+"-2"), "20261124", "20261125")))
}
