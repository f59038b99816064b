package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

// linearizableWorld records what happened in one world.
type linearizableWorld struct {
	run    *linearizableRun
	number int

	mu      sync.Mutex
	ids     map[string]int // bookings by id; -1 for one that no request of the world made
	numbers map[int]string
	closed  map[int]string // the ids of closures, by number
	history []rawAct
}

// rawAct is an act whose reply still has ids in place of numbers.
type rawAct struct {
	act
	inTheWay []rawHeld
}

type rawHeld struct {
	id         string
	start, end int
}

var errRunEnded = errors.New("the run has ended")

// world lets the clients of a world carry out their plan, and checks the replies.
func (r *linearizableRun) world(number int) {
	w := &linearizableWorld{run: r, number: number, ids: map[string]int{}, numbers: map[int]string{}, closed: map[int]string{}}
	r.mu.Lock()
	r.worlds = append(r.worlds, w)
	r.mu.Unlock()
	switch {
	case aged(w.number):
		w.age()
	case ruled(number):
		for room := 1; room <= worldRooms; room++ {
			r.put(domain.RoomID(w.room(room)).Stream(), []eventstore.Proposed{w.registered(room)})
		}
	}
	p := newPlan(r.seed, number)
	var clients sync.WaitGroup
	for client, intents := range p {
		clients.Go(func() {
			for _, i := range intents {
				if w.send(client, i) != nil {
					return
				}
			}
		})
	}
	clients.Wait()
	w.readAll()
	w.check()
}

// registered registers a room of the world.
func (w *linearizableWorld) registered(room int) eventstore.Proposed {
	at := w.begins()
	e := domain.RoomRegistered{RoomID: domain.RoomID(w.room(room)), Details: domain.Details{Name: w.room(room)}, At: at}
	return eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{OccurredAt: at}}
}

// age gives the world's rooms a past: slots that were given up again, enough for a snapshot, and, after all slots of the world, bookings that
// nobody came to, more than a calendar keeps of what is over. So a process that forgets what is over decides on whole calendars, and one that
// does not remember the rooms begins with their snapshots.
func (w *linearizableWorld) age() {
	const givenUp, over = 130, 40
	at := w.begins()
	for number := 1; number <= worldRooms; number++ {
		room := domain.RoomID(w.room(number))
		var calendar []eventstore.Proposed
		bookings := map[string][]eventstore.Proposed{}
		proposed := func(e domain.Event) eventstore.Proposed {
			return eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{OccurredAt: at}}
		}
		if ruled(w.number) {
			calendar = append(calendar, w.registered(number))
		}
		for i := range givenUp + over {
			start := at.AddDate(0, 0, 1).Add(time.Duration(i) * time.Hour)
			r := domain.SlotReserved{
				ReservationID: domain.ReservationID(uuid.NewString()), BookingID: domain.BookingID(uuid.NewString()),
				RoomID: room, UserID: "past", Slot: domain.Slot{Start: start, End: start.Add(time.Hour)}, At: at,
			}
			if calendar = append(calendar, proposed(r)); i < givenUp {
				calendar = append(calendar, proposed(domain.SlotReleased{ReservationID: r.ReservationID, BookingID: r.BookingID, RoomID: room}))
				continue
			}
			for _, e := range domain.DecideCreate(domain.Booking{}, r) {
				bookings[r.BookingID.Stream()] = append(bookings[r.BookingID.Stream()], proposed(e))
			}
		}
		w.run.put(room.Stream(), calendar)
		for stream, events := range bookings {
			w.run.put(stream, events)
		}
	}
}

// put appends the first events of a stream, whatever is killed meanwhile, unless somebody else has.
func (r *linearizableRun) put(stream string, events []eventstore.Proposed) {
	for r.ctx.Err() == nil {
		_, err := r.store.Append(r.ctx, stream, eventstore.NoStream, events...)
		if _, there := errors.AsType[*eventstore.WrongRevision](err); err == nil || there {
			return
		}
	}
}

// readAll reads every booking of the world whose id is known.
func (w *linearizableWorld) readAll() {
	w.mu.Lock()
	known := slices.Sorted(maps.Keys(w.numbers))
	w.mu.Unlock()
	for _, n := range known {
		for i, kind := range []opKind{opBooking, opUse} {
			if w.send(worldClients, intent{op: op{kind: kind, booking: n}, process: (n + i) % processes}) != nil {
				return
			}
		}
	}
}

// target is the id of the planned booking, or of the one planned before it whose id is known.
func (w *linearizableWorld) target(number int) (int, string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ; number >= 0; number-- {
		if id, ok := w.numbers[number]; ok {
			return number, id, true
		}
	}
	return 0, "", false
}

// send sends a request and adds it to the history, unless it certainly had no effect and its reply says nothing. A request with a key is
// repeated until it is answered, and counts as one request that took as long as all of them.
func (w *linearizableWorld) send(client int, i intent) error {
	var id string
	switch {
	case i.kind == opReopen:
		w.mu.Lock()
		id = w.closed[i.closure]
		w.mu.Unlock()
		if id == "" {
			return nil
		}
	case i.kind != opBook && !i.kind.ofRoom():
		known := false
		if i.booking, id, known = w.target(i.booking); !known {
			return nil
		}
		if i.conditional && i.kind != opStart && i.kind != opEnd {
			i.match = w.seen(i.booking)
		}
	}
	first := rawAct{act: act{op: i.op, client: client, process: i.process}}
	a := first
	for try := 0; ; try++ {
		w.run.count()
		answer, outcome, sent, err := w.try(i, id)
		if err != nil {
			return err
		}
		a.process, a.sent, a.heard = i.process, sent, time.Since(w.run.start).Nanoseconds()
		if try == 0 {
			first.sent = sent
		}
		switch {
		case outcome == answered:
			a.told, a.inTheWay = w.reply(answer)
			if i.kind.ofRoom() {
				a.told.revision, a.told.room, a.told.status = 0, 0, ""
			}
			if answer.BookingID != "" && id != "" && answer.BookingID != id {
				a.told.problem = "another booking"
			}
			a.sent = first.sent // the answer may be the one that was kept of an earlier try, even of one without effect
			if first.told.unknown && a.told.code >= 300 {
				w.add(first, "") // refused now, the first try may still have happened, or happen later
			}
			w.add(a, answer.BookingID+answer.ClosureID)
			return nil
		case i.kind.reads():
			return nil
		case outcome == unknown:
			first.told.unknown = true
		}
		if i.key == 0 || try == 8 {
			if first.told.unknown {
				w.add(first, "")
			}
			return nil
		}
		i.giveUp, i.process = 0, (i.process+1)%processes
	}
}

// outcome is what the sender of a request knows about it.
type outcome int

const (
	answered outcome = iota
	nothing          // it certainly had no effect
	unknown
)

// try sends a request once. The error is errRunEnded.
func (w *linearizableWorld) try(i intent, id string) (answer resource, o outcome, sent int64, err error) {
	request := w.request(i, id)
	status, header, text, sent, err := w.run.call(i, request)
	if errors.Is(err, errRunEnded) {
		return answer, unknown, sent, err
	}
	if err != nil {
		return answer, unknown, sent, nil
	}
	if len(text) > 0 && json.Unmarshal(text, &answer) != nil {
		answer = resource{Type: "no answer: " + string(text)}
	}
	if status == http.StatusServiceUnavailable {
		switch strings.TrimPrefix(answer.Type, "/problems/") {
		case "event-store-unavailable", "too-much-contention", "history-busy", "shutting-down", "overloaded":
			return answer, nothing, sent, nil
		}
		return answer, unknown, sent, nil
	}
	answer.code, answer.etag = status, header.Get("Etag")
	return answer, answered, sent, nil
}

// seen is the last revision of a booking that clients saw, or 0.
func (w *linearizableWorld) seen(number int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range slices.Backward(w.history) {
		if a.booking == number && a.told.revision != 0 && a.kind != opEnd && a.kind != opUse {
			return a.told.revision
		}
	}
	return 0
}

func (w *linearizableWorld) add(a rawAct, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.kind == opBook && a.told.code == http.StatusCreated {
		w.ids[id], w.numbers[a.booking] = a.booking, id
	}
	if a.kind == opClose && a.told.code == http.StatusCreated {
		w.closed[a.closure] = id
	}
	w.history = append(w.history, a)
}

// message is an HTTP request.
type message struct {
	method, path, body string
	header             http.Header
}

// request turns an intent into an HTTP request. The id is its booking's.
func (w *linearizableWorld) request(i intent, id string) message {
	a := i.op
	m := message{path: "/bookings/" + id, header: http.Header{}}
	if i.key != 0 {
		m.header.Set("Idempotency-Key", fmt.Sprintf("%x-%d-%d", w.run.seed, w.number, i.key))
	}
	if a.match != 0 {
		m.header.Set("If-Match", fmt.Sprintf("%q", strconv.Itoa(a.match)))
	}
	values := map[string]any{}
	set := func(name string, is bool, value any) {
		if is {
			values[name] = value
		}
	}
	room := "/rooms/" + w.room(a.room)
	affected := string(domain.KeepBookings)
	if a.cancels > 0 {
		affected = string(domain.CancelBookings)
	}
	switch a.kind {
	case opRules:
		m.method, m.path = "PUT", room+"/rules"
		rules := domain.Rules{GapMinutes: a.gap, ShortestMinutes: a.shortest, LongestMinutes: a.longest, StepMinutes: a.step, UpcomingPerUser: a.upcoming, WeeklyMinutesPerUser: a.weekly}
		if a.thisYear {
			rules.NoticeMinutes, rules.HorizonDays = 1, 1
		}
		if a.early > 0 {
			rules.EarlyUseMinutes = &a.early
		}
		if a.shuts > 0 {
			every := []domain.Hours{{From: fmt.Sprintf("%02d:%02d", a.opens/60, a.opens%60), To: fmt.Sprintf("%02d:%02d", a.shuts/60, a.shuts%60)}}
			rules.Hours = &domain.WeekHours{Monday: every, Tuesday: every, Wednesday: every, Thursday: every, Friday: every, Saturday: every, Sunday: every}
		}
		m.body = asJSON(rules)
	case opClose:
		m.method, m.path = "POST", room+"/closures"
		m.body = fmt.Sprintf(`{"startDtm":%q,"endDtm":%q,"bookings":%q}`, w.minute(a.start), w.minute(a.end), affected)
	case opReopen:
		m.method, m.path = "DELETE", room+"/closures/"+id
	case opRetire:
		m.method, m.path = "DELETE", room+"?bookings="+affected+"&from="+url.QueryEscape(w.minute(a.from))
	case opReinstate:
		m.method, m.path = "POST", room+"/reinstate"
	}
	if a.kind.ofRoom() {
		m.header.Set("Content-Type", "application/json")
		return m
	}
	set("roomId", a.room != 0, w.room(a.room))
	set("useStartDtm", a.start != 0, w.minute(a.start))
	set("useEndDtm", a.end != 0, w.minute(a.end))
	set("bookingUserId", a.user != 0, a.user)
	set("confirmUserId", a.by != 0, a.by)
	confirm := "/confirms/" + id
	use := "/realuses/" + string(domain.RealUseOf(domain.BookingID(id)))
	switch a.kind {
	case opBook:
		m.method, m.path = "POST", "/bookings"
		m.header.Set("X-Correlation-Id", strconv.Itoa(a.booking))
	case opChange:
		m.method = "PATCH"
		if len(values) == 4 {
			m.method = "PUT"
		}
	case opCancel:
		m.method = "DELETE"
	case opConfirm:
		m.method, m.path, values["status"] = "PATCH", confirm, "CONFIRMED"
	case opDeny:
		m.method, m.path, values["status"] = "PATCH", confirm, "DENIED"
	case opStart:
		m.method, m.path, values["bookingId"], values["realUseStartDtm"] = "POST", "/realuses", id, w.minute(a.at)
	case opEnd:
		m.method, m.path, values["realUseEndDtm"] = "PATCH", use, w.minute(a.at)
	case opBooking:
		m.method = "GET"
	case opAnswer:
		m.method, m.path = "GET", confirm
	case opUse:
		m.method, m.path = "GET", use
	}
	if len(values) > 0 {
		m.body = asJSON(values)
		m.header.Set("Content-Type", "application/json")
	}
	return m
}

// asJSON is the value as a body.
func asJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (w *linearizableWorld) room(number int) string {
	return fmt.Sprintf("%x-%d-%d", w.run.seed, w.number, number)
}

// begins is when the first slot of the world may start: some years from now, or long ago, in a world that is aged.
func (w *linearizableWorld) begins() time.Time {
	if aged(w.number) {
		return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
}

func (w *linearizableWorld) minute(m int) string {
	return w.begins().Add(time.Duration(m) * time.Minute).Format(time.RFC3339)
}

func (w *linearizableWorld) minuteOf(t *time.Time) int {
	if t == nil {
		return 0
	}
	return int(t.Sub(w.begins()) / time.Minute)
}

// resource has every field that a reply may have.
type resource struct {
	code          int
	etag          string
	Type          string     `json:"type"`
	BookingID     string     `json:"bookingId"`
	ClosureID     string     `json:"closureId"`
	RoomID        string     `json:"roomId"`
	Start         *time.Time `json:"useStartDtm"`
	End           *time.Time `json:"useEndDtm"`
	BookingUserID string     `json:"bookingUserId"`
	UserID        string     `json:"userId"`
	Status        any        `json:"status"` // of a problem it is a number
	ConfirmUserID string     `json:"confirmUserId"`
	UseStart      *time.Time `json:"realUseStartDtm"`
	UseEnd        *time.Time `json:"realUseEndDtm"`
	CancelReason  string     `json:"cancelReason"`
	ConflictsWith []resource `json:"conflictsWith"`
}

// reply translates a reply into the terms of the specification, except for the ids of bookings in the way.
func (w *linearizableWorld) reply(answer resource) (reply, []rawHeld) {
	r := reply{
		code: answer.code, problem: strings.TrimPrefix(answer.Type, "/problems/"), reason: answer.CancelReason,
		start: w.minuteOf(answer.Start), end: w.minuteOf(answer.End), useStart: w.minuteOf(answer.UseStart), useEnd: w.minuteOf(answer.UseEnd),
	}
	r.status, _ = answer.Status.(string)
	for room := range worldRooms {
		if answer.RoomID == w.room(room+1) {
			r.room = room + 1
		}
	}
	r.user, _ = strconv.Atoi(answer.BookingUserID + answer.UserID)
	r.by, _ = strconv.Atoi(answer.ConfirmUserID)
	r.revision, _ = strconv.Atoi(strings.Trim(answer.etag, `"`))
	var inTheWay []rawHeld
	for _, b := range answer.ConflictsWith {
		inTheWay = append(inTheWay, rawHeld{b.BookingID, w.minuteOf(b.Start), w.minuteOf(b.End)})
	}
	if r.problem == "rule-broken" || r.problem == "room-closed" || r.problem == "room-retired" { // it is the booking's that was asked for
		r.room = 0
	}
	return r, inTheWay
}

// call sends a request to a process, or, if that was killed before there was a connection, to the one started in its place.
func (r *linearizableRun) call(i intent, message message) (status int, header http.Header, text []byte, sent int64, err error) {
	m := &r.members[i.process]
	for {
		address, err := m.address(r.ctx)
		if err != nil {
			return 0, nil, nil, 0, errRunEnded
		}
		within := longestRequest
		if i.giveUp > 0 {
			within = time.Duration(i.giveUp) * time.Microsecond
			i.giveUp = 0
		}
		ctx, cancel := context.WithTimeout(r.ctx, within)
		connected := false // once there was a connection the request may have been sent, even if a retry of the transport got none
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
		request, err := http.NewRequestWithContext(ctx, message.method, "http://"+address+message.path, strings.NewReader(message.body))
		if err != nil {
			panic(err)
		}
		request.Header = message.header
		sent = time.Since(r.start).Nanoseconds()
		response, err := r.http.Do(request)
		if err == nil {
			text, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		cancel()
		if r.ctx.Err() != nil {
			return 0, nil, nil, 0, errRunEnded
		}
		if err != nil && !connected {
			continue // the process was killed, or the client gave up, before the request was sent
		}
		if err != nil {
			return 0, nil, nil, sent, err
		}
		return response.StatusCode, response.Header, text, sent, nil
	}
}

// acts is the world's history, with numbers in place of ids.
func (w *linearizableWorld) acts() []act {
	var history []act
	for _, a := range w.history {
		if len(a.inTheWay) > maxInTheWay {
			a.told.problem = "too many in the way"
			a.inTheWay = a.inTheWay[:maxInTheWay]
		}
		for i, h := range a.inTheWay {
			number, ok := w.ids[h.id]
			if !ok {
				number = w.identify(h.id)
				w.ids[h.id] = number
			}
			a.told.inTheWay[i] = slotHeld{number, h.start, h.end}
		}
		history = append(history, a.act)
	}
	return history
}

// unknown is how many requests have an unknown outcome.
func (w *linearizableWorld) unknown() int {
	n := 0
	for _, a := range w.history {
		if a.told.unknown {
			n++
		}
	}
	return n
}

// identify finds the request that made a booking but got no reply, by its correlation id.
func (w *linearizableWorld) identify(id string) int {
	var history struct {
		Embedded struct {
			Events []struct {
				CorrelationID string `json:"correlationId"`
			} `json:"events"`
		} `json:"_embedded"`
	}
	for process := 0; ; process = (process + 1) % processes {
		status, _, text, _, err := w.run.call(intent{process: process}, message{method: "GET", path: "/bookings/" + id + "/history"})
		if errors.Is(err, errRunEnded) {
			return -1
		}
		if err != nil || status == http.StatusServiceUnavailable {
			continue
		}
		if json.Unmarshal(text, &history) != nil || len(history.Embedded.Events) == 0 {
			return -1
		}
		number, err := strconv.Atoi(history.Embedded.Events[0].CorrelationID)
		if err != nil {
			return -1
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.numbers[number] = id
		return number
	}
}

// check fails the test, and ends the run, if the world's history is not linearizable.
func (w *linearizableWorld) check() {
	r := w.run
	history := w.acts()
	if r.ctx.Err() != nil {
		return
	}
	result := linearizable(history)
	if result == porcupine.Ok {
		return
	}
	r.fail()
	if result == porcupine.Unknown {
		r.t.Errorf("world %d: %s were not enough to find out whether its history of %d requests is linearizable", w.number, longestCheck, len(history))
		return
	}
	short := shortest(history)
	r.t.Errorf("world %d is not linearizable. Of its %d requests these %d cannot be right:\n%sThe same schedule again: go test ./cmd/roombook -run Linearizable -linearizable.seed %d",
		w.number, len(history), len(short), narrative(short), r.seed)
}

// A request with a key that is repeated counts from its first try on, even if that is said to have had no effect: its refusal may have been
// kept, though the server could not tell, and is then the answer to all tries, whatever has changed since.
func TestARepeatedRequestCountsFromItsFirstTry(t *testing.T) {
	r := &linearizableRun{t: t, start: time.Now(), http: http.DefaultClient, ctx: t.Context(), next: kill{requests: math.MaxInt}}
	var answered atomic.Int64 // the first try; 0 before
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status, problem := http.StatusConflict, "slot-taken"
		if answered.CompareAndSwap(0, time.Since(r.start).Nanoseconds()) {
			status, problem = http.StatusServiceUnavailable, "event-store-unavailable"
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"/problems/%s"}`, problem)
	}))
	defer server.Close()
	up := make(chan struct{})
	close(up)
	for i := range r.members {
		r.members[i].up, r.members[i].process = up, &process{address: server.Listener.Addr().String()}
	}
	w := &linearizableWorld{run: r, ids: map[string]int{}, numbers: map[int]string{}, closed: map[int]string{}}
	if err := w.send(0, intent{op: op{kind: opBook, room: 1, start: 30, end: 60, user: 1}, key: 1}); err != nil {
		t.Fatal(err)
	}
	first := answered.Load()
	if len(w.history) != 1 || w.history[0].told.problem != "slot-taken" || w.history[0].sent > first || w.history[0].heard < first {
		t.Errorf("the first try was answered at %d, and the history is %+v", first, w.history)
	}
}
