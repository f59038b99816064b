package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
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
		r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
		if err != nil {
			return reply{}, err
		}
		r.Header.Set("Content-Type", mediaJSON)
		r.Header.Set("Idempotency-Key", key)
		response, err := c.client.Do(r)
		if err != nil {
			return reply{}, err
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return reply{}, err
		}
		answer := reply{response.StatusCode, response.Header, string(text)}
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
	store := network.Open(t, eventstore.Options{})
	audit := commands.NewAudit()
	created := 0
	for batch, err := range store.Subscribe(t.Context(), 0, commands.Streams()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Events {
			audit.Add(r)
			if e, ok := r.Event.(domain.BookingCreated); ok && strings.HasPrefix(string(e.RoomID), prefix) {
				created++
			}
		}
		if batch.CaughtUp {
			break
		}
	}
	if created != bookings {
		t.Errorf("%d bookings were made, want %d", created, bookings)
	}
	for _, f := range audit.Findings() {
		if strings.HasPrefix(string(f.Room), prefix) {
			t.Error(f)
		}
	}
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
		config, err := esdb.ParseConnectionString(at)
		if err != nil {
			t.Fatal(err)
		}
		config.Logger = esdb.NoopLogging()
		client, err := esdb.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		e := esdb.EventData{EventID: uuid.New(), EventType: eventType, ContentType: esdb.ContentTypeJson, Data: []byte(`{"bookingId":["` + secret + `"]}`), Metadata: []byte(metadata)}
		if _, err := client.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.StreamExists{}}, e); err != nil {
			t.Fatal(err)
		}
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
		use := s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`"}`).want(t, 201).at(t, "realUseId").(string)
		s.do(t, "PATCH", "/realuses/"+use, "").want(t, 200)
	}
	lives(other)
	lives(s.book(t, strings.ReplaceAll(bookingIn(room), "20261124", "20261125")))

	// A room's: nobody can book there, and everybody elsewhere.
	poison("calendar-"+room, "SlotReserved", `{"occurredAt":"2026-11-24T09:00:00Z","schemaVersion":99}`)
	unreadable(s.do(t, "POST", "/bookings", strings.ReplaceAll(bookingIn(room), "20261124", "20261126")), "calendar-"+room)
	lives(s.book(t, strings.ReplaceAll(bookingIn(room+"-2"), "20261124", "20261125")))
}
