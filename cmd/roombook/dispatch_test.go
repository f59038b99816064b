package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"

	"roombook/commands/notify"
	"roombook/commands/notify/notifytest"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// mailFlags are those of a process that sends by the server.
func mailFlags(s *notifytest.MailServer) []string {
	return []string{"--smtp", s.URL, "--smtp-password-file", s.PasswordFile, "--mail-from", "rooms@example.org"}
}

// trusting is a command that runs the program, which trusts the mail server.
func trusting(t testing.TB, s *notifytest.MailServer) *exec.Cmd {
	cmd := exec.Command(program(t))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+s.CAFile)
	return cmd
}

// awaitGroup waits until there is a group, which notifies of what is booked from then on.
func awaitGroup(t testing.TB, node string) {
	t.Helper()
	store, err := eventstore.Open(eventstore.Options{ConnectionString: node})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := store.Group(t.Context(), notify.MainGroup.Name)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// messageID is the id of the notification that a mail is.
func messageID(m notifytest.Mail) domain.NotificationID {
	id, _, _ := strings.Cut(strings.Trim(m.Message.Header.Get("Message-Id"), "<>"), "@")
	return domain.NotificationID(id)
}

// noticed are the events of the log that somebody is told of, oldest first, and where each is recorded as delivered by mail.
func noticed(t testing.TB, node string) (all []eventstore.Recorded, delivered map[domain.NotificationID]eventstore.Position) {
	t.Helper()
	store, err := eventstore.Open(eventstore.Options{ConnectionString: node})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	delivered = map[domain.NotificationID]eventstore.Position{}
	for batch, err := range store.Subscribe(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Events {
			if e, ok := r.Event.(domain.NotificationDelivered); ok && e.Channel == domain.ChannelMail {
				if _, again := delivered[e.NotificationID]; again {
					t.Errorf("%s is recorded as delivered twice", e.NotificationID)
				}
				delivered[e.NotificationID] = r.Position
			}
			if _, told := domain.NoticeOf(r.Event); told {
				all = append(all, r)
			}
		}
		if batch.CaughtUp {
			break
		}
	}
	return all, delivered
}

// awaitMails waits until everything that somebody is told of is recorded as delivered.
func awaitMails(t testing.TB, node string, limit time.Duration) (all []eventstore.Recorded, delivered map[domain.NotificationID]eventstore.Position) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		all, delivered = noticed(t, node)
		if len(delivered) >= len(all) {
			return all, delivered
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d notifications %d are delivered", len(all), len(delivered))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// wantInOrder checks that what arrived came in the order of its events, for each recipient. Of what arrived twice the first counts.
func wantInOrder(t testing.TB, all []eventstore.Recorded, mails []notifytest.Mail) {
	t.Helper()
	want, got := map[string][]domain.NotificationID{}, map[string][]domain.NotificationID{}
	for _, r := range all {
		notice, _ := domain.NoticeOf(r.Event)
		to := string(notice.To) + "@example.com"
		want[to] = append(want[to], domain.NotificationOf(r.ID))
	}
	seen := map[domain.NotificationID]bool{}
	for _, m := range mails {
		if id := messageID(m); !seen[id] {
			seen[id] = true
			got[m.To] = append(got[m.To], id)
		}
	}
	for to, ids := range want {
		if !slices.Equal(got[to], ids) {
			t.Errorf("to %s: got %d, want %d, in another order:\n%s\n%s", to, len(got[to]), len(ids), got[to], ids)
		}
	}
}

// bookAndCancel makes a booking of a room and a time that nobody else has, and cancels it.
func (c caller) bookAndCancel(t testing.TB, i int) {
	t.Helper()
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Hour)
	body := fmt.Sprintf(`{"roomId":"r%d","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"u%d"}`, i%7, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339), i%5)
	var b booked
	if status, _, err := c.call("POST", "/bookings", body, nil, &b); err != nil || status != http.StatusCreated {
		t.Fatalf("book: %d, %v", status, err)
	}
	if status, _, err := c.call("DELETE", "/bookings/"+b.BookingID, "", nil, nil); err != nil || status != http.StatusNoContent {
		t.Fatalf("cancel: %d, %v", status, err)
	}
}

// TestKillsOfDispatch kills, a hundred times, that one of three replicas which is sending notifications: every notification arrives, in the
// order of its events for each recipient, and only those twice that were being sent when their process was killed.
func TestKillsOfDispatch(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	server := notifytest.NewMailServer(t, true)
	main := startServe(t, data, "--roles", "api,projections,recovery", "--log-level", "error")
	node := nodeOf(t, data)
	c := newCaller(t, main)
	store, err := eventstore.Open(eventstore.Options{ConnectionString: node})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	started := 0
	replica := func(i int) *process {
		started++
		flags := append(mailFlags(server), "--mail-from", fmt.Sprintf("%d.%d@example.org", i, started), "--roles", "dispatch", "--eventstore", node, "--log-level", "error")
		return startServeBy(t, trusting(t, server), filepath.Join(dir, fmt.Sprint("replica", i)), flags...)
	}
	replicas := []*process{replica(0), replica(1), replica(2)}
	awaitGroup(t, node)
	kills := eventstoretest.Rounds(100, 10) // of processes that are not built with the race detector
	type kill struct {
		at  time.Time
		end eventstore.Position // of the log
	}
	killed := map[string]kill{} // by the sender of the mails of the process
	booked := 0
	for len(killed) < kills {
		// Something is to be under way when the next one is killed.
		arrived := len(server.All())
		for range 3 {
			c.bookAndCancel(t, booked)
			booked++
		}
		for deadline := time.Now().Add(time.Minute); len(server.All()) == arrived; {
			if time.Now().After(deadline) {
				t.Fatalf("after %d kills no mail arrives", len(killed))
			}
			time.Sleep(time.Millisecond)
		}
		mails := server.All()
		from := mails[len(mails)-1].From // the one that is sending
		i := int(from[0] - '0')
		end, err := store.End(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, again := killed[from]; again { // its last mail arrived after its end
			continue
		}
		killed[from] = kill{time.Now(), end}
		replicas[i].kill()
		replicas[i] = replica(i)
	}
	all, delivered := awaitMails(t, node, 2*time.Minute)
	mails := server.All()
	if len(all) != 2*booked {
		t.Errorf("%d events to be told of, of %d bookings", len(all), booked)
	}
	arrivals := map[domain.NotificationID][]notifytest.Mail{}
	for _, m := range mails {
		arrivals[messageID(m)] = append(arrivals[messageID(m)], m)
	}
	twice := 0
	for _, r := range all {
		id := domain.NotificationOf(r.ID)
		arrived := arrivals[id]
		if len(arrived) == 0 {
			t.Errorf("%s, %s, has not arrived", id, r.Type)
		}
		for i := 1; i < len(arrived); i++ {
			twice++
			// Who sent it first was killed in between, before the delivery was recorded.
			if k, was := killed[arrived[i-1].From]; !was || arrived[i].At.Before(k.at) || delivered[id] <= k.end {
				t.Errorf("%s arrived at %s and again at %s, without a kill in between", id, arrived[i-1].At, arrived[i].At)
			}
		}
	}
	wantInOrder(t, all, mails)
	t.Logf("%d notifications, %d kills, %d of them sent twice", len(all), len(killed), twice)
	if twice > 8*kills {
		t.Errorf("%d were sent twice in %d kills", twice, kills)
	}
	for _, p := range replicas {
		p.kill()
	}

	// Rebuilding the lists sends nothing, and they say what was delivered.
	sent := len(server.All())
	replay := exec.Command(program(t), "replay", "--all", "--data", data)
	if out, err := replay.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := len(server.All()); n != sent {
		t.Errorf("the replay sent %d mails", n-sent)
	}
	var page struct {
		Page struct {
			TotalElements int `json:"totalElements"`
		} `json:"page"`
	}
	for deadline := time.Now().Add(listed); ; time.Sleep(10 * time.Millisecond) {
		status, _, err := c.call("GET", "/notifications?status=DELIVERED&size=1&total=true", "", nil, &page)
		if err == nil && status == 200 && page.Page.TotalElements == len(all) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d notifications are listed as delivered, of %d: %d, %v", page.Page.TotalElements, len(all), status, err)
		}
	}
	main.stop(t)
}

// TestMailServerDown has the mail server refuse, and then be silent, while bookings go on: commands and lists are answered, /readyz says what
// is wrong and stays ready, and afterwards everything arrives in order.
func TestMailServerDown(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := notifytest.NewMailServer(t, false)
	p := startServeBy(t, trusting(t, server), data, append(mailFlags(server), "--log-level", "error")...)
	p.awaitReady(t)
	awaitGroup(t, nodeOf(t, data))
	c := newCaller(t, p)
	server.Stop()
	for i := range 30 {
		c.bookAndCancel(t, i)
	}
	notSending := func() bool {
		var health struct {
			Components map[string]struct{ Status string }
		}
		status, _, err := c.call("GET", "/readyz", "", nil, &health)
		down := health.Components["notifications"].Status == "DOWN"
		delete(health.Components, "notifications")
		busy := false // so that another part has not answered in time
		for _, part := range health.Components {
			busy = busy || part.Status == "DOWN"
		}
		if err != nil || status != http.StatusOK && !busy {
			t.Fatalf("/readyz: %d, %v", status, err)
		}
		return status == http.StatusOK && down
	}
	for deadline := time.Now().Add(time.Minute); !notSending(); {
		if time.Now().After(deadline) {
			t.Fatal("/readyz does not say that notifications are not sent")
		}
		time.Sleep(10 * time.Millisecond)
	}
	silent, err := net.Listen("tcp", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		c.bookAndCancel(t, 30+i)
	}
	if n := len(c.list(t, "bookingLists", "&status=all", "")); n == 0 {
		t.Error("the list is empty")
	}
	if n := len(server.All()); n != 0 {
		t.Errorf("%d mails", n)
	}
	silent.Close()
	server.Start(t)
	all, _ := awaitMails(t, nodeOf(t, data), 2*time.Minute)
	mails := server.All()
	if len(all) != 120 || len(mails) != len(all) {
		t.Errorf("%d events to be told of, %d mails", len(all), len(mails))
	}
	wantInOrder(t, all, mails)
	p.stop(t)
}

// TestKillBeforeTheNextAttempt kills the process that is to make the next attempt. The one that is started then makes it.
func TestKillBeforeTheNextAttempt(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	server := notifytest.NewMailServer(t, true)
	server.Answer(func(string) error {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"}
	})
	main := startServe(t, data, "--roles", "api,projections,recovery", "--log-level", "error")
	node := nodeOf(t, data)
	c := newCaller(t, main)
	dispatch := func(name string) *process {
		return startServeBy(t, trusting(t, server), filepath.Join(dir, name), append(mailFlags(server), "--roles", "dispatch", "--eventstore", node, "--log-level", "error")...)
	}
	store, err := eventstore.Open(eventstore.Options{ConnectionString: node})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("still not: %s", what)
			}
		}
	}
	p := dispatch("first")
	awaitGroup(t, node)
	c.bookAndCancel(t, 0)
	until("both are refused, and nothing is in hand", func() bool {
		tried := server.Tried()
		g, err := store.Group(t.Context(), notify.MainGroup.Name)
		return tried >= 2 && err == nil && g.InFlight == 0 && g.Waiting == 0
	})
	p.kill()
	server.Answer(nil)
	p = dispatch("second")
	all, _ := awaitMails(t, node, 3*time.Minute) // on a slow machine some pauses have passed, and each is longer than the last
	if len(all) != 2 || len(server.All()) != 2 {
		t.Errorf("%d events, %d mails", len(all), len(server.All()))
	}
	p.kill()
	main.stop(t)
}

// TestNotificationsCommands has a notification given up, listed, and tried again by the command line, and a mail sent to see whether that
// works.
func TestNotificationsCommands(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := notifytest.NewMailServer(t, false)
	directory := filepath.Join(t.TempDir(), "directory.yaml")
	if err := os.WriteFile(directory, []byte("users:\n- user: u0\n  mail: nobody@example.net\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Answer(func(to string) error {
		if to == "nobody@example.net" {
			return notifytest.NoSuchUser
		}
		return nil
	})
	p := startServeBy(t, trusting(t, server), data, append(mailFlags(server), "--directory", directory, "--log-level", "error")...)
	p.awaitReady(t)
	awaitGroup(t, nodeOf(t, data))
	c := newCaller(t, p)
	c.bookAndCancel(t, 0)
	type notification struct {
		ID       string `json:"notificationId"`
		Delivery string `json:"delivery"`
		Attempts int    `json:"attempts"`
		Reason   string `json:"reason"`
	}
	list := func(status string) []notification {
		var page struct {
			Embedded struct {
				Notifications []notification `json:"notifications"`
			} `json:"_embedded"`
		}
		if code, _, err := c.call("GET", "/notifications?status="+status, "", nil, &page); err != nil || code != 200 {
			t.Fatalf("%d, %v", code, err)
		}
		return page.Embedded.Notifications
	}
	await := func(status string, n int) []notification {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if found := list(status); len(found) == n {
				return found
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v, want %d", status, list(status), n)
			}
		}
	}
	failed := await("FAILED", 2)
	if failed[0].Attempts != 1 || !strings.Contains(failed[0].Reason, "nobody here") {
		t.Errorf("%+v", failed)
	}
	roombook := func(args ...string) string {
		t.Helper()
		cmd := trusting(t, server)
		cmd.Args = append(cmd.Args, args...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := roombook("notifications", "parked", "--data", data); !strings.Contains(out, "2 parked") || !strings.Contains(out, failed[0].ID) || !strings.Contains(out, "nobody here") {
		t.Errorf("%s", out)
	}
	server.Answer(nil)
	if out := roombook("notifications", "retry", failed[0].ID, "--data", data); !strings.Contains(out, "1 notification will be tried again") {
		t.Errorf("%s", out)
	}
	await("FAILED", 1)
	if out := roombook("notifications", "retry", "--all", "--data", data); !strings.Contains(out, "1 notification will be tried again") {
		t.Errorf("%s", out)
	}
	await("DELIVERED", 2)
	if out := roombook("notifications", "parked", "--data", data); out != "0 parked\n" {
		t.Errorf("%s", out)
	}
	out := roombook(append([]string{"notifications", "test", "somebody@example.net"}, mailFlags(server)...)...)
	mails := server.All()
	if last := mails[len(mails)-1]; last.To != "somebody@example.net" || !strings.Contains(out, "accepted") {
		t.Errorf("%s: to %s", out, last.To)
	}
	if out := roombook("setup", "--data", data); !strings.Contains(out, "was there already") {
		t.Errorf("%s", out)
	}

	// The length and the age of a queue follow the group's own account, which is read every few seconds.
	metrics := func() string {
		_, body := p.get(t, "/metrics")
		return body
	}
	for _, want := range []string{
		`roombook_notifications_sent_total{channel="mail"} 2`, `roombook_notifications_parked_total{channel="mail"} 2`, `roombook_notifications_queue_length{group="roombook-notifications"} 0`,
		`roombook_notifications_queue_age_seconds{group="roombook-notifications"} 0`, `roombook_notifications_breaker_state{channel="mail",destination="localhost:`, `roombook_notifications_delivery_seconds_count{channel="mail"} 2`,
		`roombook_notifications_waiting{channel="mail"} 0`, `roombook_notifications_waiting_age_seconds{channel="mail"} 0`, `roombook_notifications_unhandled_events{group="roombook-notifications"} `,
	} {
		for deadline := time.Now().Add(time.Minute); !strings.Contains(metrics(), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %s", want)
			}
		}
	}

	// An event whose notifications cannot be made is parked, listed, and handed out again.
	store, err := eventstore.Open(eventstore.Options{ConnectionString: nodeOf(t, data)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	stray := domain.NotificationOf(uuid.New())
	if _, err := store.Append(t.Context(), stray.Stream(), eventstore.NoStream, eventstore.Proposed{
		Event: domain.NotificationRetried{NotificationID: stray, BookingID: "nothing", At: time.Now()}, Metadata: eventstore.Metadata{OccurredAt: time.Now()},
	}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out := roombook("notifications", "unhandled", "--data", data)
		if strings.Contains(out, "\nroombook-notifications: 1 event\n") {
			if !strings.HasPrefix(out, "event 0 of "+stray.Stream()+", parked by roombook-notifications on ") || !strings.Contains(out, "booking nothing has no event") {
				t.Errorf("%s", out)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s", out)
		}
	}
	if out := roombook("notifications", "replay", "--data", data); !strings.HasPrefix(out, "roombook-notifications: 1 event handed out again\n") {
		t.Errorf("%s", out)
	}
	p.stop(t)
}
