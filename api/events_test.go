package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// sse is an event of a stream.
type sse struct{ name, id, data string }

// listening is a server that listens, with streams on it.
type listening struct {
	*service
	url  string
	stop func() error
}

func listenWhole(t testing.TB) *listening {
	t.Helper()
	return listen(t, whole(t))
}

func listen(t testing.TB, s *service) *listening {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return &listening{s, "http://" + l.Addr().String(), stop}
}

// stream opens a stream. The channel is closed when the server ends it, or the test.
func (l *listening) stream(t testing.TB, query string, headers ...string) <-chan sse {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", l.url+"/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{}}
	reply, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != 200 || reply.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(reply.Status, reply.Header)
	}
	events := make(chan sse, 1024)
	go func() {
		defer close(events)
		defer client.CloseIdleConnections()
		defer reply.Body.Close()
		var e sse
		for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e.name != "" {
					events <- e
				}
				e = sse{}
			}
		}
	}()
	return events
}

// patience is longer than anything takes that works.
const patience = 2 * time.Minute

// until returns the first event that is as wanted.
func until(t testing.TB, events <-chan sse, want func(sse) bool) sse {
	t.Helper()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the stream has ended")
			}
			if want(e) {
				return e
			}
		case <-time.After(patience):
			t.Fatalf("no such event in %s", patience)
		}
	}
}

// wantAsOf fails the test unless an event has a position as of which a room has a booking.
func (l *listening) wantAsOf(t testing.TB, e sse, room, booking string) {
	t.Helper()
	var told struct{ Position uint64 }
	if err := json.Unmarshal([]byte(e.data), &told); err != nil || told.Position == 0 {
		t.Fatal(e, err)
	}
	got := l.do(t, "GET", "/occupancy?from=20261123&to=20261128&roomId="+room, "", fmt.Sprint("Roombook-Position: ", told.Position)).want(t, 200)
	if !strings.Contains(got.body, booking) {
		t.Errorf("as of %v there is %s", e, got.body)
	}
}

func named(name string) func(sse) bool { return func(e sse) bool { return e.name == name } }

func of(booking string) func(sse) bool {
	return func(e sse) bool { return e.name == "change" && strings.Contains(e.data, booking) }
}

// Whoever asks again with the position of a change sees it, and whoever connects again misses none.
func TestChangesAreTold(t *testing.T) {
	s := listen(t, wholeOn(t, eventstoretest.OpenAlone(t))) // where nothing else is told
	room := "r-" + uuid.NewString()
	book := func(day int) string {
		return s.book(t, fmt.Sprintf(`{"roomId":%q,"useStartDtm":"202611%d0930","useEndDtm":"202611%d1030","bookingUserId":"ann"}`, room, day, day))
	}
	book(23) // so that the log has begun before the first stream does
	streams := make([]<-chan sse, 200)
	for i := range streams {
		streams[i] = s.stream(t, "")
		until(t, streams[i], named("ready"))
	}
	id := book(24)
	var last sse
	for _, events := range streams {
		last = until(t, events, of(id))
		var c struct {
			RoomID, StartDtm string
			Position         uint64
		}
		if err := json.Unmarshal([]byte(last.data), &c); err != nil || c.RoomID != room || c.StartDtm != "2026-11-24T09:30:00+09:00" {
			t.Fatal(last, err)
		}
		if events == streams[0] {
			s.wantAsOf(t, last, room, id)
		}
	}

	missed := book(25)
	until(t, streams[0], of(missed))
	for _, again := range []<-chan sse{s.stream(t, "?after=1", "Last-Event-ID: "+last.id), s.stream(t, "?after="+last.id)} {
		if e := until(t, again, func(e sse) bool { return !strings.Contains(e.data, id) }); !of(missed)(e) {
			t.Error("after the first booking came", e)
		}
	}
	// Whoever has missed changes, or knows those of a log that was put back to an earlier end since, is told the position as of which to ask.
	for day, id := range map[int]string{26: "1", 27: last.id + "00"} {
		again := s.stream(t, "", "Last-Event-ID: "+id)
		s.wantAsOf(t, until(t, again, named("resync")), room, missed)
		until(t, again, of(book(day)))
	}

	// A booking that moves is told where it was, too.
	s.do(t, "PATCH", "/bookings/"+id, `{"roomId":"`+room+`x"}`).want(t, 200)
	until(t, streams[1], func(e sse) bool { return of(id)(e) && strings.Contains(e.data, room+"x") })
	until(t, streams[1], func(e sse) bool { return of(id)(e) && !strings.Contains(e.data, room+"x") })
}

// What one server does is told by another one of the same event store, whose lists then have it.
func TestChangesOfOtherServers(t *testing.T) {
	store := eventstoretest.Open(t)
	one, other := wholeOn(t, store), listen(t, wholeOn(t, store))
	room := uuid.NewString()
	book := func(day int) string {
		return one.book(t, fmt.Sprintf(`{"roomId":%q,"useStartDtm":"202611%d0930","useEndDtm":"202611%[2]d1030","bookingUserId":"ann"}`, room, day))
	}
	before := book(23)
	events := other.stream(t, "")
	other.wantAsOf(t, until(t, events, named("ready")), room, before)
	id := book(24)
	other.wantAsOf(t, until(t, events, of(id)), room, id)
}

func TestShutdownEndsStreams(t *testing.T) {
	s := listenWhole(t)
	events := s.stream(t, "")
	until(t, events, named("ready"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for range events {
	}
}

func TestStreamParameters(t *testing.T) {
	s := newService(t)
	for _, query := range []string{"?after=x", "?after=-1", "?room=1"} {
		s.do(t, "GET", "/events"+query, "").want(t, 400)
	}
	s.do(t, "GET", "/events", "", "Last-Event-ID: x").want(t, 400)
	s.do(t, "HEAD", "/events", "").want(t, 200)
}

// A silent stream says every 15 s that it lives.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		ctx, leave := context.WithTimeout(t.Context(), 50*time.Second)
		defer leave()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/events", nil))
		if n := strings.Count(w.Body.String(), ": here\n\n"); n != 3 {
			t.Errorf("%d comments in 50 s: %q", n, w.Body)
		}
	})
}

// A reader that is too far behind, or was before the subscription broke, is told to read everything anew; what is remembered is bounded.
func TestReadersFarBehind(t *testing.T) {
	batches := make(chan []eventstore.Recorded)
	c := newChanges(Options{
		Zone: time.UTC,
		ReadBack: func(context.Context, eventstore.Position, uint64) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				_ = yield(eventstore.Recorded{Position: 10}, nil) && yield(eventstore.Recorded{Position: 9, Stream: domain.BookingCategory + "-1", Type: "BookingCreated"}, nil)
			}
		},
		Subscribe: func(ctx context.Context, after eventstore.Position, _ eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
			return func(yield func(eventstore.Batch, error) bool) {
				for events := range batches {
					if events == nil {
						yield(eventstore.Batch{}, eventstore.ErrUnavailable)
						return
					}
					yield(eventstore.Batch{Events: events, Position: events[len(events)-1].Position}, nil)
				}
			}
		},
	})
	ran := make(chan bool)
	go func() { defer close(ran); ran <- c.follow(t.Context()) }()
	var r subscriber
	for i := range 3 * maxChanges {
		batches <- []eventstore.Recorded{{Position: eventstore.Position(11 + i), Event: domain.RoomChanged{RoomID: "1"}}}
		if i == 0 {
			for r.position != 11 {
				_, r, _, _, _ = c.next(r)
			}
		}
	}
	batches <- nil
	<-ran
	if n := len(c.latest); n > maxChanges {
		t.Errorf("%d changes are remembered", n)
	}
	news, now, resync, _, _ := c.next(r)
	if !resync || len(news) > 0 || now.position != 10+3*maxChanges || now.listed != now.position {
		t.Error(len(news), now, resync)
	}
	if news, now, resync, _, _ = c.next(subscriber{subscription: now.subscription, position: now.position - 5}); resync || len(news) != 5 {
		t.Error(len(news), now, resync)
	}
	go func() { c.follow(t.Context()) }()
	for resync = false; !resync; {
		_, now, resync, _, _ = c.next(now)
	}
	if now.position != 10 || now.listed != 9 { // the log was put back meanwhile
		t.Error(now)
	}
	batches <- nil
}

// begun tells when something is written to a recorder.
type begun struct {
	*httptest.ResponseRecorder
	writes chan struct{}
}

func (w *begun) Write(b []byte) (int, error) {
	select {
	case w.writes <- struct{}{}:
	default:
	}
	return w.ResponseRecorder.Write(b)
}

// A stream ends when the token or session ends that it was opened with, here or by another process, whether or not there is news; and a
// door is told of its own room only.
func TestStreamsEndWithTheirCredentials(t *testing.T) {
	s := newAccountService(t)
	s.streamCheck = 10 * time.Millisecond
	elsewhere := accounts.New(s.log, s.people, accounts.Options{})
	request := accounts.Request{Actor: boss, At: time.Now()}
	ann := s.user(t, "ann", domain.RoleUser)
	change := func(rooms ...domain.RoomID) {
		s.changes.update(func() {
			s.changes.begun = 1
			for _, room := range rooms {
				s.changes.to++
				s.changes.latest = append(s.changes.latest, change{id: s.changes.to, RoomID: room})
			}
		})
	}
	change("blue")
	open := func(written int, headers ...string) (ended chan string) {
		t.Helper()
		ended = make(chan string, 1)
		w := &begun{httptest.NewRecorder(), make(chan struct{}, 1000)}
		r := httptest.NewRequest("GET", "/events", nil)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		go func() {
			s.ServeHTTP(w, r)
			ended <- w.Body.String()
		}()
		for range written {
			select {
			case <-w.writes:
			case body := <-ended:
				t.Fatalf("it ends at once: %s", body)
			}
		}
		return ended
	}
	wait := func(what string, ended chan string) string {
		t.Helper()
		limit := time.After(patience)
		for {
			select {
			case body := <-ended:
				return body
			case <-limit:
				t.Fatalf("%s does not end", what)
			case <-time.After(time.Millisecond):
				change("red") // so that there is news all the time
			}
		}
	}
	for what, end := range map[string]func(*accounts.Accounts, domain.TokenID) error{
		"revoked":  func(a *accounts.Accounts, id domain.TokenID) error { return a.RevokeToken(t.Context(), request, id) },
		"disabled": func(a *accounts.Accounts, _ domain.TokenID) error { return a.Disable(t.Context(), request, ann, true) },
	} {
		for where, by := range map[string]*accounts.Accounts{"here": s.accounts, "elsewhere": elsewhere} {
			secret, token, err := s.accounts.CreateToken(t.Context(), request, accounts.NewToken{User: ann, ExpiresAt: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			ended := open(1, "Authorization: Bearer "+secret)
			if err := end(by, token.ID); err != nil {
				t.Fatal(err)
			}
			wait(what+" "+where, ended)
			if err := s.accounts.Disable(t.Context(), request, ann, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	session := s.signIn(t, "ann", good)
	ended := open(1, session)
	s.do(t, "DELETE", "/session", "", session).want(t, 204)
	wait("signed out", ended)

	door := s.user(t, "door", domain.RoleDoor)
	if err := s.accounts.GiveRoles(t.Context(), request, door, domain.NewRoles(domain.RoleDoor), domain.NewRooms("blue")); err != nil {
		t.Fatal(err)
	}
	secret, token, err := s.accounts.CreateToken(t.Context(), request, accounts.NewToken{User: door, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	s.changes.update(func() { s.changes.from = 0 })
	change("red", "blue", "red")
	ended = open(2, "Authorization: Bearer "+secret, "Last-Event-ID: 1") // the second has the changes
	if err := s.accounts.RevokeToken(t.Context(), request, token.ID); err != nil {
		t.Fatal(err)
	}
	if body := wait("a door", ended); !strings.Contains(body, `"roomId":"blue"`) || strings.Contains(body, `"roomId":"red"`) {
		t.Errorf("a door is told %s", body)
	}
}
