package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"

	"roombook/commands"
	"roombook/commands/notify/notifytest"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// world is a store with a dispatcher, whose groups are its own.
type world struct {
	*testing.T
	store    *eventstore.Store
	commands *commands.Handler
	group    string
	space    string // of users
	used     int
}

func newWorld(t *testing.T) *world { return newWorldOn(t, eventstoretest.Open(t)) }

func newWorldOn(t *testing.T, store *eventstore.Store) *world {
	return &world{T: t, store: store, commands: commands.New(store, commands.Options{Policy: domain.DefaultPolicy()}), group: "test-" + uuid.NewString(), space: uuid.NewString()[:8]}
}

// newWorldAt returns a world with the connection string of its store.
func newWorldAt(t *testing.T) (w *world, address string) {
	t.Helper()
	address = eventstoretest.ConnectionString(t)
	return newWorldOn(t, eventstoretest.BeforeStore(t, address).Open(t, eventstore.Options{})), address
}

// start runs a dispatcher until stop is called, or the test ends.
func (w *world) start(o Options) (d *Dispatcher, stop func()) {
	w.Helper()
	return w.startOn(w.store, o)
}

// groupOf is the group under a name of this world's own.
func (w *world) groupOf(g Group) Group {
	g.Name += w.group
	return g
}

// startOn is start for a dispatcher with a store of its own.
func (w *world) startOn(store *eventstore.Store, o Options) (d *Dispatcher, stop func()) {
	w.Helper()
	d, err := New(store, o)
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range d.routes {
		r.group = w.groupOf(r.group)
		if _, err := EnsureGroup(w.Context(), w.store, r.group); err != nil {
			w.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.Errorf("run: %v", err)
		}
	})
	w.Cleanup(stop)
	return d, stop
}

// user is a user of this world.
// rooms are the first rooms that book books, as a YAML list. Other tests may use the same event store, so nobody approves all rooms.
func (w *world) rooms() string {
	rooms := make([]string, 100)
	for i := range rooms {
		rooms[i] = fmt.Sprintf("'%s-%d'", w.space, i+1)
	}
	return strings.Join(rooms, ", ")
}

func (w *world) user(name string) domain.UserID { return domain.UserID(name + "-" + w.space) }

func (w *world) request() commands.Request {
	return commands.Request{ID: uuid.New(), Actor: domain.Anyone("test"), At: time.Now().UTC(), CorrelationID: "correlation"}
}

// book books a room that nobody else has.
func (w *world) book(user domain.UserID) domain.BookingID {
	w.Helper()
	w.used++
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	b, err := w.commands.CreateBooking(w.Context(), commands.CreateBooking{
		Request: w.request(), Room: domain.RoomID(fmt.Sprint(w.space, "-", w.used)), User: user, Slot: domain.Slot{Start: start, End: start.Add(time.Hour)},
	})
	if err != nil {
		w.Fatal(err)
	}
	return b.ID
}

func (w *world) cancel(id domain.BookingID) {
	w.Helper()
	if _, err := w.commands.CancelBooking(w.Context(), commands.CancelBooking{Request: w.request(), Booking: id}); err != nil {
		w.Fatal(err)
	}
}

// event is the first event of a type in the booking's stream.
func (w *world) event(id domain.BookingID, eventType string) eventstore.Recorded {
	w.Helper()
	for r, err := range w.store.ReadStream(w.Context(), id.Stream(), 0) {
		if err != nil {
			w.Fatal(err)
		}
		if r.Type == eventType {
			return r
		}
	}
	w.Fatalf("booking %s has no %s", id, eventType)
	return eventstore.Recorded{}
}

// recorded are the events of a notification stream.
func (w *world) recorded(id domain.NotificationID) (events []domain.Event) {
	w.Helper()
	for r, err := range w.store.ReadStream(w.Context(), id.Stream(), 0) {
		if err != nil {
			w.Fatal(err)
		}
		if r.Metadata.CorrelationID != "correlation" && r.Type != "NotificationRetried" {
			w.Errorf("the correlation of %s is %q", r.Type, r.Metadata.CorrelationID)
		}
		events = append(events, r.Event)
	}
	return events
}

// until waits until a condition holds.
func (w *world) until(what string, holds func() bool) {
	w.Helper()
	limit := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(limit) {
			w.Fatalf("still not: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// outcome waits until a notification is delivered or given up on a channel.
func (w *world) outcome(id domain.NotificationID, on domain.Channel) (c domain.ChannelDelivery) {
	w.Helper()
	w.until(fmt.Sprintf("%s is delivered or given up by %s", id, on), func() bool {
		c = domain.Fold(domain.Deliveries{}, w.recorded(id)...).On(id, on)
		return c.Delivery != domain.DeliveryPending
	})
	return c
}

// mails are those to users of this world, by what they are called, in the order of their arrival.
func (w *world) mails(s *notifytest.MailServer) (to []string) {
	for _, m := range s.All() {
		if name, _, ok := strings.Cut(m.To, "-"+w.space+"@"); ok {
			to = append(to, name)
		}
	}
	return to
}

// subjects are those of the mails to a user.
func (w *world) subjects(s *notifytest.MailServer, user domain.UserID) (subjects []string) {
	for _, m := range s.All() {
		if strings.HasPrefix(m.To, string(user)+"@") {
			subjects = append(subjects, header(w.T, m, "Subject"))
		}
	}
	return subjects
}

// Every change of a booking reaches its user, is recorded before the group is told, and is sent once: also by another dispatcher that is
// handed the same events, from the beginning of the log.
func TestTellsOnce(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	options := Options{Mail: mailOptions(server)}
	_, stop := w.start(options)
	booking := w.book(w.user("kim"))
	other := w.user("lee")
	if _, err := w.commands.ChangeBooking(t.Context(), commands.ChangeBooking{Request: w.request(), Booking: booking, User: &other}); err != nil {
		t.Fatal(err)
	}
	w.cancel(booking)
	for eventType, attempts := range map[string]int64{"BookingCreated": 1, "BookingChanged": 1, "BookingHandedOver": 1, "BookingCancelled": 1} {
		if c := w.outcome(domain.NotificationOf(w.event(booking, eventType).ID), domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != attempts || c.Booking != booking {
			t.Errorf("%s: %+v", eventType, c)
		}
	}
	if got := w.mails(server); len(got) != 4 {
		t.Errorf("mails to %s", got)
	}
	stop()

	w.group = "again-" + w.group
	if _, err := w.store.EnsureGroup(t.Context(), MainGroup.Name+w.group, eventstore.GroupSettings{
		Filter: eventstore.Filter{StreamPrefixes: []string{booking.Stream()}}, Strategy: eventstore.DispatchToSingle, MessageTimeout: time.Minute, MaxRetries: 1, CheckpointAfter: time.Second, CheckpointEvents: 1,
	}); err != nil {
		t.Fatal(err)
	}
	w.start(options)
	w.until("all is consumed again", func() bool {
		g, err := w.store.Group(t.Context(), MainGroup.Name+w.group)
		return err == nil && g.Checkpoint >= w.event(booking, "BookingCancelled").Position
	})
	if got := w.mails(server); len(got) != 4 {
		t.Errorf("mails to %s once all is consumed again", got)
	}
}

// What is refused for now is tried again, what is refused for good is given up at once, and so is what was tried too often; the fallback gets
// that. An operator can have it tried again.
func TestRetriesAndGivesUp(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	var mu sync.Mutex
	tries := map[string]int{}
	busy, gone, never := w.user("busy"), w.user("gone"), w.user("never")
	mended := false
	server.Answer(func(to string) error {
		mu.Lock()
		defer mu.Unlock()
		tries[to]++
		switch {
		case mended:
			return nil
		case strings.HasPrefix(to, string(busy)) && tries[to] < 3, strings.HasPrefix(to, string(never)):
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "later"}
		case strings.HasPrefix(to, string(gone)):
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
		}
		return nil
	})
	mail := mailOptions(server)
	mail.Attempts = 4
	receiver := newReceiver(t)
	d, _ := w.start(Options{Mail: mail, Webhook: receiver.options(t, secret("a secret of 24 bytes ...")), Fallback: domain.ChannelWebhook})
	id := func(user domain.UserID) domain.NotificationID {
		return domain.NotificationOf(w.event(w.book(user), "BookingCreated").ID)
	}
	ids := map[domain.UserID]domain.NotificationID{}
	for _, user := range []domain.UserID{busy, gone, never} {
		ids[user] = id(user)
	}
	if c := w.outcome(ids[busy], domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != 3 {
		t.Errorf("busy: %+v", c)
	}
	if c := w.outcome(ids[gone], domain.ChannelMail); c.Delivery != domain.DeliveryFailed || c.Attempts != 1 {
		t.Errorf("gone: %+v", c)
	}
	if c := w.outcome(ids[never], domain.ChannelMail); c.Delivery != domain.DeliveryFailed || c.Attempts != 4 {
		t.Errorf("never: %+v", c)
	}
	for _, user := range []domain.UserID{gone, never} {
		if c := w.outcome(ids[user], domain.ChannelWebhook); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("the fallback of %s: %+v", user, c)
		}
	}
	receiver.mu.Lock()
	called := 0 // for users of this test
	for _, body := range receiver.bodies {
		if strings.Contains(body, w.space) {
			called++
		}
	}
	receiver.mu.Unlock()
	if called != 2 {
		t.Errorf("the fallback was called %d times", called)
	}
	failed, _ := w.recorded(ids[gone])[0].(domain.NotificationFailed)
	if !strings.Contains(failed.Reason, "no such user") || !failed.Parked {
		t.Errorf("%+v", failed)
	}
	if err := d.Health(); err != nil {
		t.Errorf("refused recipients are no trouble of the server: %v", err)
	}

	if _, err := Retry(t.Context(), w.store, ids[busy], domain.Anyone("operator"), "", ""); !errors.Is(err, ErrNotFailed) {
		t.Errorf("retry of what is delivered: %v", err)
	}
	if _, err := Retry(t.Context(), w.store, domain.NotificationOf(uuid.New()), domain.Anyone("operator"), "", ""); !errors.Is(err, ErrNotFailed) {
		t.Errorf("retry of nothing: %v", err)
	}
	mu.Lock()
	mended = true
	mu.Unlock()
	for _, user := range []domain.UserID{gone, never} {
		if _, err := Retry(t.Context(), w.store, ids[user], domain.Anyone("operator"), "", ""); err != nil {
			t.Fatal(err)
		}
		if c := w.outcome(ids[user], domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("%s, asked again: %+v", user, c)
		}
	}
	if got := w.mails(server); len(got) != 3 {
		t.Errorf("mails to %s", got)
	}
}

// While the mail server is away messages wait, and use up few attempts; then they arrive in the order of their events, for each recipient.
func TestOutageKeepsTheOrder(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, true)
	mail := mailOptions(server)
	mail.Attempts = 3
	boss := w.user("boss")
	directory := write(t, fmt.Sprintf("users: [{user: %s, approves: [%s]}]", boss, w.rooms()))
	d, _ := w.start(Options{Mail: mail, Directory: directory, Breaker: BreakerOptions{Failures: 2, Delay: 5 * time.Millisecond}})
	server.Stop()
	const users, each = 3, 8
	want := map[domain.UserID][]string{}
	for range each {
		for u := range users {
			user := w.user(fmt.Sprint("user", u))
			booking := w.book(user)
			want[boss] = append(want[boss], string(domain.NotificationOf(w.event(booking, "ConfirmRequested").ID).ForApprover(1)))
			w.cancel(booking)
			for _, eventType := range []string{"BookingCreated", "BookingCancelled"} {
				want[user] = append(want[user], string(domain.NotificationOf(w.event(booking, eventType).ID)))
			}
		}
	}
	w.until("the breaker is open", func() bool { return d.Health() != nil })
	w.until("it was tried again and again", func() bool { return d.lanes[0].breaker.lastReason() != nil && d.lanes[0].breaker.IsOpen() })
	for range 10 { // probes, none of which counts
		b := d.lanes[0].breaker
		w.until("a probe", func() bool { return b.IsHalfOpen() || b.RemainingDelay() < time.Millisecond })
		w.until("its failure", func() bool { return b.IsOpen() })
	}
	if got := w.mails(server); len(got) != 0 {
		t.Fatalf("mails to %s", got)
	}
	server.Start(t)
	w.until("all is there", func() bool { return len(w.mails(server)) == users*each*3 })
	got := map[domain.UserID][]string{}
	for _, m := range server.All() {
		name, _, _ := strings.Cut(m.To, "@")
		id := strings.Trim(header(t, m, "Message-Id"), "<>")
		id, _, _ = strings.Cut(id, "@")
		got[domain.UserID(name)] = append(got[domain.UserID(name)], id)
	}
	for user, ids := range want {
		if !slices.Equal(got[user], ids) {
			t.Errorf("to %s: got %s, want %s", user, got[user], ids)
		}
	}
	w.until("all is well", func() bool { return d.Health() == nil })
}

// wantMailed waits until notifications are delivered by mail and a group is idle, and checks that the server has got no other mails.
func (w *world) wantMailed(server *notifytest.MailServer, group string, ids ...domain.NotificationID) {
	w.Helper()
	for _, id := range ids {
		if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
			w.Errorf("%+v", c)
		}
	}
	w.idle(group)
	if got := w.mails(server); len(got) != len(ids) {
		w.Errorf("mails to %s", got)
	}
}

// A group that is deleted while the mail server is away is made again at once, and nobody misses what waited in it or comes before it is there again.
func TestGroupIsDeletedDuringAnOutage(t *testing.T) {
	w, address := newWorldAt(t)
	server := notifytest.NewMailServer(t, false)
	d, stop := w.start(Options{Mail: mailOptions(server), Breaker: BreakerOptions{Failures: 1, Delay: time.Hour}})
	group := d.routes[0].group.Name
	sent := w.created(w.user("kim"))
	w.outcome(sent, domain.ChannelMail)
	server.Stop()
	waits := w.created(w.user("kim"))
	w.until("the breaker is open", func() bool { return d.Health() != nil })
	eventstoretest.DeleteGroup(t, address, group)
	between := w.created(w.user("lee"))
	w.until("the group is there again", func() bool { g, err := w.store.Group(t.Context(), group); return err == nil && g.Consumers == 1 })
	stop()
	server.Start(t)
	w.start(Options{Mail: mailOptions(server)})
	w.wantMailed(server, group, sent, waits, between)
}

// Prepare makes the groups before the dispatcher runs. A slow event store may take it more than one attempt.
func TestPrepare(t *testing.T) {
	w := newWorld(t)
	d, err := New(w.store, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range d.routes {
		r.group = w.groupOf(r.group)
	}
	w.until("the groups are there", func() bool {
		d.Prepare(t.Context())
		for _, r := range d.routes {
			if _, err := w.store.Group(t.Context(), r.group.Name); err != nil {
				return false
			}
		}
		return true
	})
}

// A group that is deleted while no dispatcher runs, or one that may not create it, begins where it had settled everything, whoever makes it again.
func TestGroupIsDeletedAndSetUpAgain(t *testing.T) {
	w, address := newWorldAt(t)
	server := notifytest.NewMailServer(t, false)
	d, stop := w.start(Options{Mail: mailOptions(server)})
	group := d.routes[0].group.Name
	sent := w.created(w.user("kim"))
	w.outcome(sent, domain.ChannelMail)
	stop()
	if from, err := w.store.LoadCheckpoint(t.Context(), settledStream(group)); err != nil || from == 0 {
		t.Fatalf("settled up to %d, %v", from, err)
	}
	eventstoretest.DeleteGroup(t, address, group)
	between, last := w.created(w.user("lee")), w.created(w.user("ann"))
	if changed, err := EnsureGroup(t.Context(), w.store, d.routes[0].group); err != nil || !changed { // as an administrator
		t.Fatal(changed, err)
	}
	w.start(Options{Mail: mailOptions(server)})
	w.wantMailed(server, group, sent, between, last)
}

// A dispatcher that has lost its connection while the mail server is away leaves to another what waits in its hands.
func TestGroupChangesHandsDuringAnOutage(t *testing.T) {
	w, address := newWorldAt(t)
	server, kim := notifytest.NewMailServer(t, false), w.user("kim")
	var mu sync.Mutex
	tries := 0
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	defer release()
	server.Answer(func(to string) error {
		if !strings.HasPrefix(to, string(kim)+"@") {
			return nil
		}
		mu.Lock()
		tries++
		mu.Unlock()
		<-answer
		return nil
	})
	tried := func() int {
		mu.Lock()
		defer mu.Unlock()
		return tries
	}
	server.Stop()
	o := Options{Mail: mailOptions(server), Breaker: BreakerOptions{Failures: 1, Delay: 50 * time.Millisecond}}
	network := eventstoretest.BeforeStore(t, address)
	former, _ := w.startOn(network.Open(t, eventstore.Options{}), o)
	group := former.routes[0].group.Name
	id := w.created(kim)
	inHand := func(d *Dispatcher) bool {
		d.metrics.mu.Lock()
		defer d.metrics.mu.Unlock()
		return len(d.metrics.inHand[group]) > 0
	}
	w.until("the breaker is open", func() bool { return former.Health() != nil && inHand(former) })
	network.Stop()
	other, _ := w.start(o)
	w.until("the other has it", func() bool { return inHand(other) })
	network.Start()
	server.Start(t)
	w.until("the former has left it to the other, which sends it", func() bool { return tried() > 1 || tried() == 1 && !inHand(former) })
	release()
	if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
		t.Errorf("%+v", c)
	}
	w.idle(group)
	if n := tried(); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// The length of the queue counts what waits behind another message to the same user.
func TestQueueLength(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	d, _ := w.start(Options{Mail: mailOptions(server), Breaker: BreakerOptions{Failures: 1, Delay: time.Hour}})
	server.Stop()
	group := d.routes[0].group.Name
	w.book(w.user("kim"))
	w.until("the breaker is open", func() bool { return d.Health() != nil })
	for range 4 {
		w.book(w.user("kim"))
	}
	w.until("all is in hand, and counted", func() bool {
		d.metrics.poll(t.Context(), w.store, group)
		d.metrics.mu.Lock()
		defer d.metrics.mu.Unlock()
		return d.metrics.queueLength(group) >= 5 // others may write to the log as well
	})
}

// A user is not sent what it does not want; the list has it.
func TestOptOut(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	directory := write(t, fmt.Sprintf("users:\n- {user: %s, opt-out: [booked]}\n", w.user("kim")))
	w.start(Options{Mail: mailOptions(server), Directory: directory})
	booking := w.book(w.user("kim"))
	w.cancel(booking)
	if c := w.outcome(domain.NotificationOf(w.event(booking, "BookingCreated").ID), domain.ChannelList); c.Delivery != domain.DeliveryDelivered || c.Attempts != 0 {
		t.Errorf("%+v", c)
	}
	w.outcome(domain.NotificationOf(w.event(booking, "BookingCancelled").ID), domain.ChannelMail)
	if got := w.subjects(server, w.user("kim")); len(got) != 1 || !strings.Contains(got[0], "cancelled") {
		t.Errorf("mails: %q", got)
	}
}

// Who loses a booking that is moved as well is told of the room and the time that it had, and its calendar loses those.
func TestFormerUserIsToldWhatIsLost(t *testing.T) {
	w, server, receiver := newWorld(t), notifytest.NewMailServer(t, false), newReceiver(t)
	w.start(Options{Mail: mailOptions(server), Webhook: receiver.options(t, secret("a secret of 24 bytes ..."))})
	booking := w.book(w.user("kim"))
	former := w.event(booking, "BookingCreated").Event.(domain.BookingCreated)
	user, room, start, end := w.user("lee"), domain.RoomID("new-"+w.space), ten.AddDate(10, 0, 0), ten.AddDate(10, 0, 0).Add(time.Hour)
	if _, err := w.commands.ChangeBooking(t.Context(), commands.ChangeBooking{Request: w.request(), Booking: booking, User: &user, Room: &room, Start: &start, End: &end}); err != nil {
		t.Fatal(err)
	}
	id := domain.NotificationOf(w.event(booking, "BookingHandedOver").ID)
	w.outcome(id, domain.ChannelMail)
	w.outcome(id, domain.ChannelWebhook)
	for _, m := range server.All() {
		if messageID := header(t, m, "Message-Id"); !strings.Contains(messageID, string(id)) {
			continue
		}
		_, all := parts(t, m)
		text, calendar := all[0].text, all[2].text
		for _, want := range []string{string(former.RoomID), "2030-01-01 00:00–01:00", "conference room[" + string(former.RoomID) + "]", string(user)} {
			if !strings.Contains(text, want) {
				t.Errorf("the mail does not say %s:\n%s", want, text)
			}
		}
		if strings.Contains(text, string(room)) || strings.Contains(text, "2036") || strings.Contains(header(t, m, "Subject"), string(room)) {
			t.Errorf("the mail says where the booking is now:\n%s", text)
		}
		if !strings.Contains(calendar, "METHOD:CANCEL") || !strings.Contains(calendar, "DTSTART:20300101T000000Z") || !strings.Contains(calendar, "SEQUENCE:1") {
			t.Errorf("%s", calendar)
		}
	}
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for _, body := range receiver.bodies {
		if strings.Contains(body, string(id)) && (!strings.Contains(body, `"roomId":"`+string(former.RoomID)) || !strings.Contains(body, `"useStartDtm":"2030-01-01T00:00:00Z"`)) {
			t.Errorf("%s", body)
		}
	}
}

// The approvers of a room are asked, each once, with a link to answer; who they are does not change with the directory afterwards.
func TestApproversAreAsked(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	ann, bob := w.user("ann"), w.user("bob")
	directory := write(t, fmt.Sprintf("users:\n- {user: %s, approves: [%s]}\n- {user: %s, approves: ['%s-1']}\n- {user: eve, approves: ['other']}\n", ann, w.rooms(), bob, w.space))
	w.start(Options{Mail: mailOptions(server), Directory: directory, Link: "https://rooms.example/"})
	booking := w.book(w.user("kim"))
	id := domain.NotificationOf(w.event(booking, "ConfirmRequested").ID)
	for n, user := range []domain.UserID{ann, bob} {
		if c := w.outcome(id.ForApprover(n+1), domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("%s: %+v", user, c)
		}
		if got := w.subjects(server, user); len(got) != 1 || !strings.HasPrefix(got[0], "Please answer") {
			t.Errorf("to %s: %q", user, got)
		}
	}
	for _, m := range server.All() {
		if strings.HasPrefix(m.To, string(ann)) {
			if _, all := parts(t, m); !strings.Contains(all[0].text, "Answer at https://rooms.example/bookings/"+string(booking)+"/page") {
				t.Errorf("%s", all[0].text)
			}
		}
	}
}

// A webhook has everything that people are told, in a group of its own: while it does not answer, mail arrives.
func TestWebhookHoldsUpNoMail(t *testing.T) {
	w, server, receiver := newWorld(t), notifytest.NewMailServer(t, false), newReceiver(t)
	receiver.set(func(r http.ResponseWriter) { r.WriteHeader(http.StatusServiceUnavailable) })
	webhook := receiver.options(t, secret("a secret of 24 bytes ..."))
	webhook.Schedule = []time.Duration{time.Millisecond, time.Millisecond}
	d, _ := w.start(Options{Mail: mailOptions(server), Webhook: webhook, Breaker: BreakerOptions{Failures: 1, Delay: 5 * time.Millisecond}})
	var ids []domain.NotificationID
	for range 5 {
		ids = append(ids, domain.NotificationOf(w.event(w.book(w.user("kim")), "BookingCreated").ID))
	}
	for _, id := range ids {
		if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("%+v", c)
		}
	}
	w.until("the webhook is known not to work", func() bool { return d.Health() != nil })
	receiver.set(nil)
	for _, id := range ids {
		if c := w.outcome(id, domain.ChannelWebhook); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("%+v", c)
		}
	}
}

// By default messages are logged, a line each.
func TestLog(t *testing.T) {
	w := newWorld(t)
	var out syncBuffer
	w.start(Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	booking := w.book(w.user("kim"))
	w.outcome(domain.NotificationOf(w.event(booking, "BookingCreated").ID), domain.ChannelLog)
	line := ""
	for l := range strings.Lines(out.String()) {
		if strings.Contains(l, string(booking)) {
			line += l
		}
	}
	if strings.Count(line, "\n") != 1 || !strings.Contains(line, "msg=notification") || !strings.Contains(line, "reservation is complete") || !strings.Contains(line, "correlation=correlation") {
		t.Errorf("%s", out.String())
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
