package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"roombook/commands"
	"roombook/commands/notify/notifytest"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// full is a temporary refusal of a recipient.
var full error = &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"}

// refuse has the server refuse the users for as long as the flag is set.
func refuse(s *notifytest.MailServer, answer error, users ...domain.UserID) *atomic.Bool {
	refused := new(atomic.Bool)
	refused.Store(true)
	s.Answer(func(to string) error {
		name, _, _ := strings.Cut(to, "@")
		if refused.Load() && slices.Contains(users, domain.UserID(name)) {
			return answer
		}
		return nil
	})
	return refused
}

// idle waits until the group has nothing in hand and nothing waits there.
func (w *world) idle(group string) {
	w.Helper()
	w.until("nothing is in hand", func() bool {
		g, err := w.store.Group(w.Context(), group)
		return err == nil && g.InFlight == 0 && g.Waiting == 0
	})
}

// count returns how many of the events are of a type.
func count[E domain.Event](events []domain.Event) (n int) {
	for _, e := range events {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

// gauge is the sum of a gauge of the dispatcher's over its labels.
func gauge(t *testing.T, d *Dispatcher, name string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(d.Collectors()...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			sum := 0.
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
			return sum
		}
	}
	t.Fatalf("there is no gauge %s", name)
	return 0
}

// hasten makes everything due.
func (a *agenda) hasten() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = time.Now()
	for _, s := range a.streams {
		for i := range s.attempts {
			s.attempts[i].due = a.next
		}
	}
}

// A recipient that is refused for long, with more events than may be in hand, holds up nobody, and the group has nothing in hand meanwhile. What it
// is told arrives when it is accepted again.
func TestRefusedRecipientHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w, server := newWorldOn(t, eventstoretest.OpenAlone(t)), notifytest.NewMailServer(t, false) // where no other test's dispatcher sends the mails
	ann := w.user("ann")
	refused := refuse(server, full, ann)
	mail := mailOptions(server)
	mail.Pause = time.Hour
	d, _ := w.start(Options{Mail: mail})
	const all = maxInHand + 88
	ids := w.createdMany(all, ann, w.user("bob"))
	w.until("the other's mails are there", func() bool { return len(w.subjects(server, w.user("bob"))) == (all+9)/10 })
	w.idle(d.routes[0].group.Name)
	if n := len(w.subjects(server, ann)); n != 0 {
		t.Fatalf("%d mails to who is refused", n)
	}
	w.until("all wait for their next attempt", func() bool { n, _ := d.agenda.waiting(); return n[domain.ChannelMail] >= all })
	if got := gauge(t, d, "roombook_notifications_waiting"); got < all {
		t.Errorf("the gauge says %g", got)
	}
	if err := d.Health(); err != nil {
		t.Errorf("a refused recipient is no trouble of the server: %v", err)
	}
	refused.Store(false)
	d.agenda.hasten()
	for _, id := range ids {
		if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != 2 {
			t.Fatalf("%+v", c)
		}
	}
	if n := len(w.subjects(server, ann)); n != all {
		t.Errorf("%d mails, want %d", n, all)
	}
}

// Of three dispatchers one makes each attempt, once, when it is due.
func TestOneAttemptWhenDue(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	kim := w.user("kim")
	var mu sync.Mutex
	tries := 0
	server.Answer(func(to string) error {
		if !strings.HasPrefix(to, string(kim)+"@") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries < 7 {
			return full
		}
		return nil
	})
	mail := mailOptions(server)
	for range 3 {
		w.start(Options{Mail: mail})
	}
	id := domain.NotificationOf(w.event(w.book(kim), "BookingCreated").ID)
	if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != 7 {
		t.Errorf("%+v", c)
	}
	events := w.recorded(id)
	if len(events) != 13 || count[domain.NotificationDue](events) != 6 || len(w.mails(server)) != 1 {
		t.Fatalf("%+v", events)
	}
	for i, e := range events[:12] {
		if _, due := e.(domain.NotificationDue); due != (i%2 == 1) {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if tries != 7 {
		t.Errorf("the server was tried %d times", tries)
	}
}

// What failed under an older program, which had the event in hand, is attempted again: of a user, and of an approver.
func TestFailuresOfOlderPrograms(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	ann := w.user("ann")
	o := Options{Mail: mailOptions(server), Directory: write(t, fmt.Sprintf("users: [{user: %s, approves: [%s]}]", ann, w.rooms()))}
	if _, err := EnsureGroup(t.Context(), w.store, w.groupOf(MainGroup)); err != nil {
		t.Fatal(err)
	}
	booking := w.book(w.user("kim"))
	created, asked := w.event(booking, "BookingCreated"), w.event(booking, "ConfirmRequested")
	id, approver := domain.NotificationOf(created.ID), domain.NotificationOf(asked.ID).ForApprover(1)
	failed := func(id domain.NotificationID) domain.Event {
		return domain.NotificationFailed{NotificationID: id, BookingID: booking, Channel: domain.ChannelMail, Attempt: 1, Reason: "452 full", At: time.Now()}
	}
	w.append(id.Stream(), failed(id))
	w.append(approver.Stream(), domain.NotificationRequested{NotificationID: approver, Kind: domain.KindConfirmRequested, BookingID: booking, RoomID: "1", UserID: ann, At: time.Now()}, failed(approver))
	w.start(o)
	for _, id := range []domain.NotificationID{id, approver} {
		if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != 2 {
			t.Errorf("%+v", c)
		}
	}
	if n := len(w.mails(server)); n != 2 {
		t.Errorf("%d mails", n)
	}
}

// created records a booking of the user, and returns the notification of that. It is quicker than the command.
func (w *world) created(user domain.UserID) domain.NotificationID {
	w.Helper()
	e := booked(user)
	return domain.NotificationOf(w.append(e.BookingID.Stream(), e)[0])
}

func booked(user domain.UserID) domain.BookingCreated {
	return domain.BookingCreated{BookingID: domain.BookingID(uuid.NewString()), ReservationID: "r", RoomID: "1", UserID: user, Slot: domain.Slot{Start: nine, End: ten}, At: time.Now()}
}

// createdMany records n bookings of the user at once, and one of the other after every tenth.
func (w *world) createdMany(n int, user, other domain.UserID) []domain.NotificationID {
	w.Helper()
	ids := make([]domain.NotificationID, n)
	var all errgroup.Group
	all.SetLimit(16)
	create := func(user domain.UserID, id *domain.NotificationID) {
		all.Go(func() error {
			e := booked(user)
			appended, err := w.store.Append(w.Context(), e.BookingID.Stream(), eventstore.NoStream, proposed(e)...)
			if err == nil {
				*id = domain.NotificationOf(appended.IDs[0])
			}
			return err
		})
	}
	for i := range ids {
		create(user, &ids[i])
		if i%10 == 0 {
			create(other, new(domain.NotificationID))
		}
	}
	if err := all.Wait(); err != nil {
		w.Fatal(err)
	}
	return ids
}

// append appends events to a stream that has none.
func (w *world) append(stream string, events ...domain.Event) (ids []uuid.UUID) {
	w.Helper()
	appended, err := w.store.Append(w.Context(), stream, eventstore.NoStream, proposed(events...)...)
	if err != nil {
		w.Fatal(err)
	}
	return appended.IDs
}

func proposed(events ...domain.Event) (all []eventstore.Proposed) {
	for _, e := range events {
		all = append(all, eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{CorrelationID: "correlation", OccurredAt: time.Now()}})
	}
	return all
}

// An approver who is refused holds up no other: each has an order of its own.
func TestRefusedApproverHoldsUpNoOther(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	ann, bob := w.user("ann"), w.user("bob")
	refused := refuse(server, full, ann)
	directory := write(t, fmt.Sprintf("users: [{user: %s, approves: [%s]}, {user: %[3]s, approves: [%[2]s]}]\n", ann, w.rooms(), bob))
	mail := mailOptions(server)
	mail.Pause, mail.Attempts = 10*time.Millisecond, 100
	d, _ := w.start(Options{Mail: mail, Directory: directory})
	const all = 3
	for range all {
		w.book(w.user("kim"))
	}
	w.until("the other is asked", func() bool { return len(w.subjects(server, bob)) == all })
	w.idle(d.routes[0].group.Name)
	if n := len(w.subjects(server, ann)); n != 0 {
		t.Errorf("%d mails to who is refused", n)
	}
	refused.Store(false)
	w.until("who was refused is asked", func() bool {
		d.agenda.hasten() // the more attempts there were, the longer is the pause
		return len(w.subjects(server, ann)) == all
	})
}

// An approver to whom a mail takes long holds up no other.
func TestSlowApproverHoldsUpNoOther(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, false)
	ann, bob := w.user("ann"), w.user("bob")
	var once sync.Once
	let := make(chan struct{})
	release := func() { once.Do(func() { close(let) }) }
	defer release()
	server.Answer(func(to string) error {
		if strings.HasPrefix(to, string(ann)) {
			<-let
		}
		return nil
	})
	w.start(Options{Mail: mailOptions(server), Directory: write(t, fmt.Sprintf("users: [{user: %s, approves: [%s]}, {user: %[3]s, approves: [%[2]s]}]\n", ann, w.rooms(), bob))})
	const all = 20 // more than are sent at a time
	for range all {
		w.book(w.user("kim"))
	}
	w.until("the other is asked", func() bool { return len(w.subjects(server, bob)) == all })
	if n := len(w.subjects(server, ann)); n != 0 {
		t.Errorf("%d mails to who is slow", n)
	}
	release()
	w.until("who is slow is asked", func() bool { return len(w.subjects(server, ann)) == all })
}

// A fallback that is down holds up no mail, and gets everything once it is up again, without an attempt being counted while it was known to be
// down.
func TestFallbackThatIsDownHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w, server, receiver := newWorldOn(t, eventstoretest.OpenAlone(t)), notifytest.NewMailServer(t, false), newReceiver(t) // where no other test's dispatcher sends the mails
	gone := w.user("gone")
	refuse(server, notifytest.NoSuchUser, gone)
	var down atomic.Bool
	down.Store(true)
	receiver.set(func(r http.ResponseWriter) {
		if down.Load() {
			r.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	webhook := receiver.options(t, secret("a secret of 24 bytes ..."))
	webhook.Schedule = slices.Repeat([]time.Duration{10 * time.Millisecond}, 20)
	d, _ := w.start(Options{Mail: mailOptions(server), Webhook: webhook, Fallback: domain.ChannelWebhook, Breaker: BreakerOptions{Delay: time.Hour}})
	const all = maxInHand + 20
	ids := w.createdMany(all, gone, w.user("bob"))
	w.until("the other's mails are there", func() bool { return len(w.subjects(server, w.user("bob"))) == (all+9)/10 })
	w.idle(d.routes[0].group.Name)
	if d.Health() == nil {
		t.Error("the fallback is not known to be down")
	}
	down.Store(false)
	d.routes[0].fallback.breaker.HalfOpen()
	held := 0
	for _, id := range ids {
		w.until("it is delivered", func() bool {
			d.agenda.hasten() // also what was held while another was the probe
			return domain.Fold(domain.Deliveries{}, w.recorded(id)...).On(id, domain.ChannelWebhook).Delivery == domain.DeliveryDelivered
		})
		for _, e := range w.recorded(id) {
			if f, ok := e.(domain.NotificationFailed); ok && f.Held {
				held++
			}
		}
	}
	if held < all/2 {
		t.Errorf("%d times a message was held, of %d", held, all)
	}
}

// A fallback that has asked to wait is not tried before, also if its last answer was a good one.
func TestFallbackThatAskedToWait(t *testing.T) {
	w, server, receiver := newWorld(t), notifytest.NewMailServer(t, false), newReceiver(t)
	refuse(server, notifytest.NoSuchUser, w.user("gone"))
	d, err := New(w.store, Options{Mail: mailOptions(server), Webhook: receiver.options(t, secret("a secret of 24 bytes ...")), Fallback: domain.ChannelWebhook})
	if err != nil {
		t.Fatal(err)
	}
	fallback := d.routes[0].fallback
	fallback.breaker.record(time.Now(), &failure{err: errHeld, down: true, after: time.Hour})
	fallback.breaker.record(time.Now(), nil)
	m := told(domain.KindBooked)
	m.To = w.user("gone")
	if err := d.deliver(t.Context(), t.Context(), d.routes[0], m, eventstore.Recorded{Metadata: eventstore.Metadata{CorrelationID: "correlation", OccurredAt: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	last, _ := w.recorded(m.ID)[1].(domain.NotificationFailed)
	if !last.Held || last.Channel != domain.ChannelWebhook || last.Attempt != 0 || last.Again.Sub(last.At) < 50*time.Minute || last.Reason == "" || receiver.requests() != 0 {
		t.Errorf("%+v, %d requests", last, receiver.requests())
	}
}

// A server that refuses everybody for now uses up no attempts, and is known for it.
func TestServerThatRefusesEverybody(t *testing.T) {
	w, server := newWorldOn(t, eventstoretest.OpenAlone(t)), notifytest.NewMailServer(t, false) // where nobody else's messages are refused
	var refusing atomic.Bool
	refusing.Store(true)
	server.Answer(func(string) error {
		if refusing.Load() {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.NoEnhancedCode, Message: "local problem"}
		}
		return nil
	})
	mail := mailOptions(server)
	mail.Attempts = 2
	d, _ := w.start(Options{Mail: mail, Breaker: BreakerOptions{Failures: 2, Delay: 20 * time.Millisecond}})
	first := w.user("first")
	// Refusals of one recipient say nothing of the others.
	if c := w.outcome(domain.NotificationOf(w.event(w.book(first), "BookingCreated").ID), domain.ChannelMail); c.Delivery != domain.DeliveryFailed || c.Attempts != 2 {
		t.Errorf("%+v", c)
	}
	if err := d.Health(); err != nil {
		t.Error(err)
	}
	var ids []domain.NotificationID
	for i := range 5 {
		ids = append(ids, domain.NotificationOf(w.event(w.book(w.user(fmt.Sprint("user", i))), "BookingCreated").ID))
	}
	w.until("it is known to refuse everybody", func() bool { return d.Health() != nil })
	w.until("the gauge says so, between probes", func() bool { return gauge(t, d, "roombook_notifications_breaker_state") == 1 })
	for _, id := range ids {
		w.until("it is tried more often than attempts count", func() bool { return len(w.recorded(id)) > 6 })
	}
	refusing.Store(false)
	for _, id := range ids {
		if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("%+v", c)
		}
	}
	if err := d.Health(); err != nil {
		t.Error(err)
	}
}

// A receiver that is unavailable for the messages about one booking only is not down: they are attempted later, and the others are sent.
func TestWebhookThatIsUnavailableForOne(t *testing.T) {
	w, receiver := newWorld(t), newReceiver(t)
	var poison atomic.Value
	poison.Store("none")
	receiver.set(nil)
	webhook := receiver.options(t, secret("a secret of 24 bytes ..."))
	webhook.Schedule = []time.Duration{time.Hour}
	receiver.refuse = func(body string) bool { return strings.Contains(body, poison.Load().(string)) }
	d, _ := w.start(Options{Webhook: webhook, Breaker: BreakerOptions{Failures: 1000, Delay: 20 * time.Millisecond}})
	bad := w.user("bad")
	poison.Store(string(bad))
	first := domain.NotificationOf(w.event(w.book(bad), "BookingCreated").ID)
	w.until("it is attempted later, as others are not refused", func() bool {
		w.book(w.user("good"))
		c := domain.Fold(domain.Deliveries{}, w.recorded(first)...).On(first, domain.ChannelWebhook)
		return c.Attempts == 1 && c.Again.After(time.Now())
	})
	w.idle(d.routes[1].group.Name)
	if err := d.Health(); err != nil {
		t.Error(err)
	}
}

// Messages that make a receiver fail, so that it appears to be down, do not keep others from showing that it is not.
func TestProbesAreOfOthersFirst(t *testing.T) {
	w, receiver := newWorldOn(t, eventstoretest.OpenAlone(t)), newReceiver(t) // where nobody else's messages make the receiver fail
	bad := w.user("bad")
	receiver.refuse = func(body string) bool { return strings.Contains(body, string(bad)) }
	d, _ := w.start(Options{Webhook: receiver.options(t, secret("a secret of 24 bytes ...")), Breaker: BreakerOptions{Failures: 3, Delay: 200 * time.Millisecond}})
	const all = 40
	for range all {
		w.created(bad)
	}
	w.until("it appears to be down, and the last is the probe", func() bool { return d.Health() != nil && receiver.requests() > all })
	good := w.created(w.user("good"))
	sent := func() int {
		receiver.mu.Lock()
		defer receiver.mu.Unlock()
		return slices.IndexFunc(receiver.bodies, func(body string) bool { return strings.Contains(body, string(good)) })
	}
	w.until("the other is in hand, or was", func() bool {
		d.metrics.mu.Lock()
		defer d.metrics.mu.Unlock()
		return len(d.metrics.inHand[d.routes[1].group.Name]) > all || sent() >= 0
	})
	before := receiver.requests()
	w.outcome(good, domain.ChannelWebhook)
	if i := sent(); i-before > 3 {
		t.Errorf("%d others were tried again before it", i-before)
	}
}

// An event whose notifications cannot be made is parked, and counted.
func TestUnhandledEvents(t *testing.T) {
	w := newWorld(t)
	d, _ := w.start(Options{})
	id := domain.NotificationOf(uuid.New())
	w.append(id.Stream(), domain.NotificationDue{NotificationID: id, BookingID: "nothing", Channel: domain.ChannelLog, At: time.Now()})
	w.until("it is counted", func() bool {
		d.metrics.poll(t.Context(), w.store, d.routes[0].group.Name)
		return gauge(t, d, "roombook_notifications_unhandled_events") >= 1
	})
	w.until("it is listed, also where others are", func() bool {
		parked, err := w.store.Parked(t.Context(), d.routes[0].group.Name)
		return err == nil && slices.ContainsFunc(parked, func(e eventstore.ParkedEvent) bool {
			return e.Stream == id.Stream() && strings.Contains(e.Reason, "booking nothing has no event")
		})
	})
}

// Nobody is told of what cannot be read: the event is parked, whether it, its booking or the record of what was sent cannot be decoded.
func TestEventsThatCannotBeDecoded(t *testing.T) {
	w, address := newWorldAt(t)
	server := notifytest.NewMailServer(t, false)
	raw := func(stream, eventType string) {
		eventstoretest.AppendRaw(t, address, stream, eventType, `{"bookingId": 17}`, "")
	}
	if _, err := EnsureGroup(t.Context(), w.store, w.groupOf(MainGroup)); err != nil {
		t.Fatal(err)
	}
	created, changed, sent := domain.BookingID(uuid.NewString()), w.book(w.user("kim")), w.created(w.user("ann"))
	raw(created.Stream(), "BookingCreated")
	raw(changed.Stream(), "BookingChanged")
	w.append(domain.RealUseOf(changed).Stream(), domain.UseStarted{BookingID: changed, RoomID: "1", UserID: w.user("ann"), StartedAt: nine})
	raw(sent.Stream(), "NotificationDelivered")
	raw(domain.BookingID(uuid.NewString()).Stream(), "NobodyKnowsThis")
	d, _ := w.start(Options{Mail: mailOptions(server)})
	for _, stream := range []string{created.Stream(), changed.Stream(), domain.RealUseOf(changed).Stream(), sent.Stream()} {
		w.until("of "+stream+" one is parked", func() bool {
			parked, err := w.store.Parked(t.Context(), d.routes[0].group.Name)
			return err == nil && slices.ContainsFunc(parked, func(e eventstore.ParkedEvent) bool {
				return e.Stream == stream && strings.Contains(e.Reason, "cannot be decoded")
			})
		})
	}
	w.idle(d.routes[0].group.Name)
	if n := len(w.subjects(server, w.user("ann"))); n != 0 {
		t.Errorf("%d mails because of what cannot be read", n)
	}
}

// The time of the next attempt is kept by the clock of who waits for it: that of who failed may be wrong.
func TestAgendaKeepsItsOwnTime(t *testing.T) {
	now := time.Now()
	failed := func(at time.Time) eventstore.Batch {
		id := domain.NotificationID("n")
		return eventstore.Batch{Events: []eventstore.Recorded{{Stream: id.Stream(), Position: 7, Event: domain.NotificationFailed{NotificationID: id, Channel: domain.ChannelMail, Attempt: 1, At: at, Again: at.Add(time.Minute)}}}}
	}
	for name, test := range map[string]struct {
		caughtUp bool
		at       time.Time
		due      time.Duration // from now
	}{
		"just now":                       {true, now, time.Minute},
		"just now, by a fast clock":      {true, now.Add(24 * time.Hour), time.Minute},
		"just now, by a slow clock":      {true, now.Add(-24 * time.Hour), time.Minute},
		"before the start":               {false, now.Add(-40 * time.Second), 20 * time.Second},
		"long before the start":          {false, now.Add(-time.Hour), -59 * time.Minute},
		"before the start, a fast clock": {false, now.Add(24 * time.Hour), time.Minute},
	} {
		a := newAgenda(nil, quietly())
		a.caughtUp = test.caughtUp
		a.fold(failed(test.at), now)
		a.caughtUp = true
		due := now.Add(test.due)
		if got := a.due(due.Add(-time.Nanosecond)); len(got) != 0 {
			t.Errorf("%s: due before %s", name, test.due)
		}
		if got := a.due(due); len(got) != 1 || len(got[0].events) != 1 {
			t.Errorf("%s: not due after %s", name, test.due)
		}
		if got := a.due(due); len(got) != 0 {
			t.Errorf("%s: due twice", name)
		}
	}
}

// A stream that somebody has deleted for good holds up no other, and is given up.
func TestDeletedStreamHoldsUpNobody(t *testing.T) {
	t.Parallel()
	address := "esdb://" + eventstoretest.Serve(t, "") + "?tls=false" // where no other test's dispatcher makes the attempts
	w, server := newWorldOn(t, eventstoretest.BeforeStore(t, address).Open(t, eventstore.Options{})), notifytest.NewMailServer(t, false)
	gone, ann := w.user("gone"), w.user("ann")
	refused := refuse(server, full, gone, ann)
	mail := mailOptions(server)
	mail.Pause = time.Hour
	d, _ := w.start(Options{Mail: mail})
	deleted, kept := w.created(gone), w.created(ann)
	waits := func(id domain.NotificationID) bool {
		d.agenda.mu.Lock()
		defer d.agenda.mu.Unlock()
		return d.agenda.streams[id.Stream()] != nil
	}
	w.until("both wait for their next attempt", func() bool { return waits(deleted) && waits(kept) })
	if _, err := eventstoretest.Client(t, address).TombstoneStream(t.Context(), deleted.Stream(), esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	d.agenda.hasten()
	w.until("the other is attempted again, and waits", func() bool {
		return count[domain.NotificationFailed](w.recorded(kept)) == 2 && waits(kept) && !waits(deleted)
	})
	refused.Store(false)
	d.agenda.hasten()
	if c := w.outcome(kept, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != 3 {
		t.Errorf("%+v", c)
	}
	if err := d.Health(); err != nil {
		t.Error(err)
	}
}

// Who is asked about a room whose calendar was deleted for good will never be known, and nobody waits for it.
func TestDeletedCalendarIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w, address := newWorldAt(t)
	booking := w.book(w.user("ann"))
	b, err := w.commands.Booking(t.Context(), booking)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eventstoretest.Client(t, address).TombstoneStream(t.Context(), b.Room.Stream(), esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	d, err := New(w.store, Options{Approvers: commands.New(w.store, commands.Options{Policy: domain.DefaultPolicy()}).Approvers})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if users, err := d.asked(ctx, domain.Notice{Kind: domain.KindConfirmRequested, Room: b.Room, Booking: booking, User: b.User}); !errors.Is(err, eventstore.ErrDeleted) {
		t.Errorf("%v %v", users, err)
	}
}

// Where the streams that keep positions were deleted for good, what failed is attempted again all the same, also by a process that has just started.
func TestDeletedCheckpoint(t *testing.T) {
	address := "esdb://" + eventstoretest.Serve(t, "") + "?tls=false" // where no other test keeps its positions
	store := eventstoretest.BeforeStore(t, address).Open(t, eventstore.Options{})
	w, server := newWorldOn(t, store), notifytest.NewMailServer(t, false)
	ann := w.user("ann")
	refused := refuse(server, full, ann)
	mail := mailOptions(server)
	mail.Pause = time.Hour
	d, stop := w.start(Options{Mail: mail})
	id := w.created(ann)
	w.until("it waits for its next attempt", func() bool { all, _ := d.agenda.waiting(); return all[domain.ChannelMail] == 1 })
	stop()
	for _, stream := range []string{checkpointStream, settledStream(d.routes[0].group.Name)} {
		if _, err := eventstoretest.Client(t, address).TombstoneStream(t.Context(), stream, esdb.TombstoneStreamOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	refused.Store(false)
	d, _ = w.start(Options{Mail: mail})
	w.until("it waits again", func() bool { all, _ := d.agenda.waiting(); return all[domain.ChannelMail] == 1 })
	d.agenda.hasten()
	if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts != 2 {
		t.Errorf("%+v", c)
	}
	if err := d.Health(); err != nil {
		t.Error(err)
	}
}

// A start reads the log from before the oldest failure that another attempt follows, and no further back.
func TestAgendaCheckpoint(t *testing.T) {
	t.Parallel()
	store := eventstoretest.OpenAlone(t) // where no other notifications are
	w := &world{T: t, store: store}
	id := func(i int) domain.NotificationID { return domain.NotificationID(fmt.Sprint("n", i)) }
	failed := func(i int, again time.Time) domain.Event {
		return domain.NotificationFailed{NotificationID: id(i), BookingID: "b", Channel: domain.ChannelMail, Attempt: 1, At: time.Now(), Again: again}
	}
	delivered := func(i int) domain.Event {
		return domain.NotificationDelivered{NotificationID: id(i), BookingID: "b", Channel: domain.ChannelMail, Attempt: 1, At: time.Now()}
	}
	later := time.Now().Add(time.Hour)
	for i := range 2 * checkpointEvery {
		switch i {
		case checkpointEvery:
			w.append(id(i).Stream(), failed(i, later))
		default:
			w.append(id(i).Stream(), delivered(i))
		}
	}
	a := newAgenda(store, quietly())
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- a.run(ctx) }()
	var p eventstore.Position
	w.until("a checkpoint is saved", func() bool {
		var err error
		p, err = store.LoadCheckpoint(t.Context(), checkpointStream)
		return err == nil && p > 0
	})
	stop()
	if err := <-done; !errors.Is(err, ctx.Err()) {
		t.Error(err)
	}
	n := 0
	for batch, err := range store.Subscribe(t.Context(), p, eventstore.Filter{StreamPrefixes: []string{"notification-"}}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Events {
			if n++; n == 1 && r.Stream != id(checkpointEvery).Stream() {
				t.Errorf("the first event after it is of %s", r.Stream)
			}
		}
		if batch.CaughtUp {
			break
		}
	}
	if n != checkpointEvery {
		t.Errorf("%d events after it", n)
	}
	// Another start finds the attempt.
	a = newAgenda(store, quietly())
	ctx, stop = context.WithCancel(t.Context())
	go func() { done <- a.run(ctx) }()
	w.until("the attempt is found", func() bool { n, _ := a.waiting(); return n[domain.ChannelMail] == 1 })
	stop()
	<-done
}

// The checkpoint stays before an event that cannot be decoded: it may be a failure that another attempt follows.
func TestAgendaCheckpointBeforeWhatCannotBeDecoded(t *testing.T) {
	id := domain.NotificationID("n")
	delivered := func(p eventstore.Position) eventstore.Recorded {
		return eventstore.Recorded{Stream: id.Stream(), Position: p, Type: "NotificationDelivered", Event: domain.NotificationDelivered{NotificationID: id, Channel: domain.ChannelMail, Attempt: 1}}
	}
	a := newAgenda(nil, quietly())
	for _, test := range []struct {
		next eventstore.Recorded
		want eventstore.Position
	}{
		{delivered(7), 7},
		{eventstore.Recorded{Stream: id.Stream(), Position: 8, Type: "NobodyKnowsThis"}, 8},
		{eventstore.Recorded{Stream: id.Stream(), Position: 9, Type: "NotificationFailed"}, 8},
		{delivered(10), 8},
	} {
		a.fold(eventstore.Batch{Events: []eventstore.Recorded{test.next}, CaughtUp: true}, time.Now())
		a.folded = checkpointEvery
		if got := a.checkpoint(); got != test.want {
			t.Errorf("after the event at %d the checkpoint is %d, want %d", test.next.Position, got, test.want)
		}
	}
}
