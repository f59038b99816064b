package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
)

// phase is the phase of an outage that a load is in.
type phase int32

const (
	before phase = iota
	away         // from when nothing passes any more
	back         // from when something may pass again
)

// load is a steady load of commands, whatever the replies: clients that book, change, confirm and cancel, each in a room of its own, and
// others that only read. Every second client uses keys, and retries each command until the reply is not a 503; the others send each command
// once.
type load struct {
	base   string
	prefix string // of all rooms and users
	client *http.Client

	phase   atomic.Int32
	answers chan answer
	enough  chan struct{} // closed when clients are to come to an end
	failed  chan struct{} // closed when one has failed

	parties  int          // clients and watchers
	commands [][]*command // by client; to be read after work
	work     sync.WaitGroup
}

// pace is the pause after each reply. Commands only pause during the outage, so that it starts when all clients are in the middle of
// something.
const pace = 250 * time.Millisecond

// answer is a reply to a client of the load.
type answer struct {
	reply
	client      int
	what        string // method and path, or the path that is watched
	sent, heard phase
}

func (a answer) done() bool { return a.status < 300 }

// during reports whether the reply was sent during the outage.
func (a answer) during() bool { return a.sent == away && a.heard == away }

// command is a command that a client has sent.
type command struct {
	method, path, body, key string
	// event identifies the event of the command in the log, by its type and the user or booking that no other event of that type has.
	event  string
	answer reply // the last
}

// newLoad starts clients of the server, and one more for each path to watch, until enough is closed or the test ends. All replies are sent
// to the test.
func newLoad(t *testing.T, address string, clients int, watch ...string) *load {
	t.Helper()
	l := &load{
		base:   "http://" + address,
		prefix: "r-" + uuid.NewString(),
		// A request without a reply after many times its limit is a failure.
		client:   &http.Client{Timeout: 45 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients + len(watch)}},
		answers:  make(chan answer),
		enough:   make(chan struct{}),
		failed:   make(chan struct{}),
		parties:  clients + len(watch),
		commands: make([][]*command, clients),
	}
	t.Cleanup(func() {
		l.work.Wait()
		l.client.CloseIdleConnections()
	})
	ctx := t.Context()
	fail := sync.OnceFunc(func() { close(l.failed) })
	run := func(work func() error) {
		l.work.Go(func() {
			if err := work(); err != nil && ctx.Err() == nil {
				t.Error(err)
				fail()
			}
		})
	}
	for i := range clients {
		run(func() error { return l.lives(ctx, i) })
	}
	for i, path := range watch {
		run(func() error { return l.watch(ctx, clients+i, path) })
	}
	return l
}

func (l *load) ended() bool {
	select {
	case <-l.enough:
		return true
	default:
		return false
	}
}

// lives takes bookings through their lives, one after the other.
func (l *load) lives(ctx context.Context, client int) error {
	room := fmt.Sprintf("%s-%d", l.prefix, client)
	send := func(method, path, body, event string) (reply, error) {
		c := &command{method: method, path: path, body: body, event: event}
		if client%2 == 0 {
			c.key = uuid.NewString()
		}
		l.commands[client] = append(l.commands[client], c)
		return l.insist(ctx, client, c)
	}
	for hour := 0; !l.ended(); hour++ {
		start := time.Date(2027, 1, 4, hour, 0, 0, 0, time.UTC)
		user := func(step string) string { return fmt.Sprintf("%s-%d-%s", room, hour, step) }
		got, err := send("POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":%q,"useEndDtm":%q,"bookingUserId":%q}`,
			room, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339), user("made")), "BookingCreated "+user("made"))
		if err != nil {
			return err
		}
		if got.status != http.StatusCreated {
			continue
		}
		var made struct{ BookingID string }
		if err := json.Unmarshal([]byte(got.body), &made); err != nil {
			return err
		}
		id := made.BookingID
		if _, err := send("PATCH", "/bookings/"+id, fmt.Sprintf(`{"bookingUserId":%q}`, user("changed")), "BookingChanged "+user("changed")); err != nil {
			return err
		}
		if _, err := send("PATCH", "/confirms/"+id, fmt.Sprintf(`{"status":"CONFIRMED","confirmUserId":%q}`, user("confirmed")), "ConfirmCompleted "+user("confirmed")); err != nil {
			return err
		}
		if hour%2 == 0 {
			if _, err := send("DELETE", "/bookings/"+id, "", "BookingCancelled "+id); err != nil {
				return err
			}
		}
	}
	return nil
}

// insist sends a command once or, if it has a key, until the reply is not a 503.
func (l *load) insist(ctx context.Context, client int, c *command) (reply, error) {
	for {
		sent := phase(l.phase.Load())
		got, err := ask(ctx, l.client, c.method, l.base+c.path, c.body, c.key)
		if err != nil {
			return got, err
		}
		c.answer = got
		if got.status >= 300 && got.status != http.StatusServiceUnavailable {
			return got, fmt.Errorf("%s %s: status %d: %s", c.method, c.path, got.status, got.body)
		}
		if got.status == http.StatusServiceUnavailable && (got.header.Get("Retry-After") == "" || got.header.Get("Content-Type") != mediaProblem) {
			return got, fmt.Errorf("503 with %v: %s", got.header, got.body)
		}
		heard := phase(l.phase.Load())
		if err := l.tell(ctx, answer{got, client, c.method + " " + c.path, sent, heard}, heard == away); err != nil {
			return got, err
		}
		if c.key == "" || got.status != http.StatusServiceUnavailable {
			return got, nil
		}
	}
}

// watch reads the path over and over.
func (l *load) watch(ctx context.Context, client int, path string) error {
	for !l.ended() {
		sent := phase(l.phase.Load())
		got, err := ask(ctx, l.client, "GET", l.base+path, "", "")
		if err != nil {
			return err
		}
		if err := l.tell(ctx, answer{got, client, path, sent, phase(l.phase.Load())}, true); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) tell(ctx context.Context, a answer, pause bool) error {
	select {
	case l.answers <- a:
	case <-l.enough:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !pause {
		return nil
	}
	select {
	case <-time.After(pace):
	case <-l.enough:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// hear receives replies until every client and watcher has had n that count, and for at least the given time. The bound beyond that is no
// measurement: it ends a test that has failed.
func (l *load) hear(t *testing.T, n int, atLeast, bound time.Duration, counts func(answer) bool) {
	t.Helper()
	heard := make([]int, l.parties)
	past, late := time.After(atLeast), time.After(atLeast+bound)
	for past != nil || slices.Min(heard) < n {
		select {
		case a := <-l.answers:
			if counts(a) {
				heard[a.client]++
			}
		case <-past:
			past = nil
		case <-late:
			t.Fatalf("clients and watchers heard %d answers that count, want %d each", heard, n)
		case <-l.failed:
			t.FailNow()
		}
	}
}

// end stops the clients and waits for them.
func (l *load) end() {
	close(l.enough)
	l.work.Wait()
}

// ask sends a request, with a key unless it is empty.
func ask(ctx context.Context, client *http.Client, method, url, body, key string) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		r.Header.Set("Content-Type", mediaJSON)
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	return do(client, r)
}

// do sends a request and returns the reply.
func do(client *http.Client, r *http.Request) (reply, error) {
	response, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(text)}, err
}

// all returns the commands of all clients.
func (l *load) all() []*command { return slices.Concat(l.commands...) }

// wantSameAnswers repeats all commands with keys and wants the same replies.
func (l *load) wantSameAnswers(t *testing.T) {
	t.Helper()
	for _, c := range l.all() {
		if c.key == "" {
			continue
		}
		again, err := ask(t.Context(), l.client, c.method, l.base+c.path, c.body, c.key)
		if err != nil {
			t.Fatal(err)
		}
		same := again.status == c.answer.status && again.body == c.answer.body
		for _, name := range []string{"Etag", "Location", "Roombook-Position"} {
			same = same && again.header.Get(name) == c.answer.header.Get(name)
		}
		if !same {
			t.Errorf("%s %s was answered with\n%v, and again with\n%v", c.method, c.path, c.answer, again)
		}
	}
}

// wantOnce compares the log with the replies: the event of each successful command is there once, that of each refused one at most once,
// and there are no others.
func (l *load) wantOnce(t *testing.T, log []domain.Event) {
	t.Helper()
	events := make(map[string]int)
	for _, e := range log {
		if what := left(e); what != "" {
			events[what]++
		}
	}
	done, refused, decided := 0, 0, 0
	for _, c := range l.all() {
		n := events[c.event]
		delete(events, c.event)
		if c.answer.status < 300 {
			done++
			if n != 1 {
				t.Errorf("%s %s was answered with %d, and %q is in the log %d times", c.method, c.path, c.answer.status, c.event, n)
			}
			continue
		}
		refused, decided = refused+1, decided+n
		if n > 1 {
			t.Errorf("%s %s was sent once, and %q is in the log %d times", c.method, c.path, c.event, n)
		}
	}
	for event := range events {
		t.Errorf("%q is in the log, and nobody asked for that", event)
	}
	t.Logf("%d commands were done; %d without a key were refused, of which %d had been decided", done, refused, decided)
}

// wantListed waits for the list and compares a client's room with the replies that the client got. All commands of the client were
// successful.
func (l *load) wantListed(t *testing.T, client int) {
	t.Helper()
	want := make(map[string]string)
	var position string
	for _, c := range l.commands[client] {
		position = c.answer.header.Get("Roombook-Position")
		_, id, _ := strings.Cut(c.path[1:], "/")
		switch c.method + " " + strings.TrimSuffix(c.path, id) {
		case "POST /bookings":
			want[c.answer.at(t, "bookingId").(string)] = "BOOKED"
		case "PATCH /confirms/":
			want[id] = "CONFIRMED"
		case "DELETE /bookings/":
			want[id] = "CANCELLED"
		}
	}
	got := make(map[string]string)
	next := fmt.Sprintf("%s/bookingLists?status=all&size=200&roomId=%s-%d", l.base, l.prefix, client)
	for next != "" {
		r, err := http.NewRequestWithContext(t.Context(), "GET", next, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Roombook-Position", position)
		list, err := do(l.client, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range list.want(t, http.StatusOK).at(t, "_embedded.bookingLists").([]any) {
			item := item.(map[string]any)
			got[item["bookingId"].(string)] = item["status"].(string)
		}
		next = ""
		if link, ok := list.at(t, "_links.next").(map[string]any); ok {
			next = link["href"].(string)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the list of client %d has\n%v, want\n%v", client, got, want)
	}
}

// left identifies the event that a command has left in the log, or is empty.
func left(e domain.Event) string {
	switch e := e.(type) {
	case domain.BookingCreated:
		return e.EventType() + " " + string(e.UserID)
	case domain.BookingChanged:
		return e.EventType() + " " + string(e.UserID)
	case domain.ConfirmCompleted:
		return e.EventType() + " " + string(e.ConfirmUserID)
	case domain.BookingCancelled:
		return e.EventType() + " " + string(e.BookingID)
	default:
		return ""
	}
}
