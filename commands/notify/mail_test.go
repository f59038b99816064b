package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/emersion/go-smtp"

	"roombook/commands/notify/notifytest"
	"roombook/domain"
)

// patience is what nothing takes that works.
const patience = 2 * time.Minute

var (
	nine  = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	ten   = nine.Add(time.Hour)
	seoul = func() *time.Location {
		zone, err := time.LoadLocation("Asia/Seoul")
		if err != nil {
			panic(err)
		}
		return zone
	}()
)

func quietly() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newTestMail is a channel that sends by the server.
func newTestMail(t *testing.T, s *notifytest.MailServer, directory string) *mailChannel {
	t.Helper()
	texts, err := readTexts("", seoul, "https://rooms.example")
	if err != nil {
		t.Fatal(err)
	}
	who, err := openDirectory(directory, DefaultAddress, "en", texts, quietly())
	if err != nil {
		t.Fatal(err)
	}
	c, err := newMailChannel(*mailOptions(s), texts, who)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mailOptions are those of a program that sends by the server.
func mailOptions(s *notifytest.MailServer) *MailOptions {
	return &MailOptions{
		Server: s.URL, PasswordFile: s.PasswordFile, From: "회의실 Rooms <rooms@example.org>", TLS: &tls.Config{RootCAs: s.Roots}, Pause: time.Millisecond, Timeout: patience, Idle: patience,
	}
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// told is a message of a kind.
func told(kind domain.NotificationKind) Message {
	return Message{
		Notice: domain.Notice{Kind: kind, Booking: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c01", Room: "7", To: "kim", User: "kim", Reason: "it is painted"},
		ID:     "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02", At: nine, By: "lee", Slot: domain.Slot{Start: nine, End: ten}, Sequence: 3,
	}
}

// part is a part of a mail.
type part struct{ contentType, text string }

// parts are the media type of a mail and its parts.
func parts(t *testing.T, m notifytest.Mail) (mediaType string, all []part) {
	t.Helper()
	mediaType, params, err := mime.ParseMediaType(m.Message.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	reader := multipart.NewReader(m.Message.Body, params["boundary"])
	for {
		p, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return mediaType, all
		}
		if err != nil {
			t.Fatal(err)
		}
		if encoding := p.Header.Get("Content-Transfer-Encoding"); encoding != "quoted-printable" {
			t.Fatalf("a part is %s", encoding)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, part{p.Header.Get("Content-Type"), string(text)})
	}
}

func header(t *testing.T, m notifytest.Mail, name string) string {
	t.Helper()
	if n := len(m.Message.Header[name]); n != 1 {
		t.Fatalf("there are %d headers %s in\n%s", n, name, m.Raw)
	}
	text, err := new(mime.WordDecoder).DecodeHeader(m.Message.Header.Get(name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What arrives, over STARTTLS and over TLS, in both languages: the tree of the mail, its headers, and what the calendar is to do.
func TestMailArrives(t *testing.T) {
	directory := write(t, "users:\n- user: kim\n  mail: Kim <kim@firma.example>\n  language: ko\n")
	for _, wrapped := range []bool{false, true} {
		server := notifytest.NewMailServer(t, wrapped)
		c := newTestMail(t, server, directory)
		for _, kind := range domain.NotificationKinds {
			for _, user := range []domain.UserID{"kim", "ann"} {
				m := told(kind)
				m.To, m.User = user, user
				if kind == domain.KindChanged {
					m.OldRoom, m.OldSlot = "8", domain.Slot{Start: ten, End: ten.Add(time.Hour)}
				}
				if err := c.send(t.Context(), m); err != nil {
					t.Fatalf("%s to %s: %v", kind, user, err)
				}
				mails := server.All()
				got := mails[len(mails)-1]
				address, korean := "ann@example.com", false
				if user == "kim" {
					address, korean = "kim@firma.example", true
				}
				if got.From != "rooms@example.org" || got.To != address {
					t.Errorf("from %s to %s", got.From, got.To)
				}
				if from, err := mail.ParseAddress(got.Message.Header.Get("From")); err != nil || from.Name != "회의실 Rooms" || from.Address != "rooms@example.org" {
					t.Errorf("from %v, %v", from, err)
				}
				if id := header(t, got, "Message-Id"); id != "<0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02@example.org>" {
					t.Errorf("message id %s", id)
				}
				if auto := header(t, got, "Auto-Submitted"); auto != "auto-generated" {
					t.Errorf("submitted %s", auto)
				}
				hangul := regexp.MustCompile(`\p{Hangul}`)
				if subject := header(t, got, "Subject"); hangul.MatchString(subject) != korean || subject == "" {
					t.Errorf("%s to %s: subject %s", kind, user, subject)
				}
				mediaType, all := parts(t, got)
				if mediaType != "multipart/alternative" || len(all) < 2 || !strings.HasPrefix(all[0].contentType, "text/plain; charset=UTF-8") ||
					!strings.HasPrefix(all[1].contentType, "text/html; charset=UTF-8") {
					t.Fatalf("%s of %q", mediaType, all)
				}
				booked := kind != domain.KindFaultReported
				for _, p := range all[:2] {
					if hangul.MatchString(p.text) != korean || strings.Contains(p.text, string(m.Booking)) != booked || strings.Contains(p.text, "2026-11-24 09:00–10:00 (Asia/Seoul)") != booked ||
						!strings.Contains(p.text, "it is painted") || !strings.Contains(p.text, "https://rooms.example/") {
						t.Errorf("%s to %s:\n%s", kind, user, p.text)
					}
					if !korean && !strings.Contains(p.text, m.Sentence()) {
						t.Errorf("%s to %s does not say %q:\n%s", kind, user, m.Sentence(), p.text)
					}
				}
				wantCalendar(t, m, address, all[2:])
			}
		}
		if server.Tried() != 2*len(domain.NotificationKinds) {
			t.Errorf("%d recipients", server.Tried())
		}
	}
}

// wantCalendar checks the last part of a mail, as another library reads it.
func wantCalendar(t *testing.T, m Message, attendee string, rest []part) {
	t.Helper()
	method := map[domain.NotificationKind]string{
		domain.KindBooked: "REQUEST", domain.KindChanged: "REQUEST", domain.KindConfirmed: "REQUEST",
		domain.KindCancelled: "CANCEL", domain.KindDenied: "CANCEL", domain.KindHandedOver: "CANCEL",
	}[m.Kind]
	if method == "" {
		if len(rest) != 0 {
			t.Errorf("%s has more parts: %q", m.Kind, rest)
		}
		return
	}
	if len(rest) != 1 || !strings.HasPrefix(rest[0].contentType, "text/calendar; method="+method+"; charset=UTF-8") {
		t.Fatalf("%s ends with %q", m.Kind, rest)
	}
	calendar, err := ics.ParseCalendar(strings.NewReader(rest[0].text))
	if err != nil || len(calendar.Events()) != 1 {
		t.Fatalf("%v\n%s", err, rest[0].text)
	}
	if !strings.Contains(rest[0].text, "METHOD:"+method+"\r\n") {
		t.Errorf("no method %s in\n%s", method, rest[0].text)
	}
	e := calendar.Events()[0]
	for property, want := range map[ics.ComponentProperty]string{
		ics.ComponentPropertyUniqueId: string(m.Booking) + "@roombook", ics.ComponentPropertySequence: "3", ics.ComponentPropertyDtStart: "20261124T000000Z",
		ics.ComponentPropertyDtEnd: "20261124T010000Z", ics.ComponentPropertyDtstamp: "20261124T000000Z", ics.ComponentPropertyOrganizer: "mailto:rooms@example.org",
		ics.ComponentPropertyAttendee: "mailto:" + attendee, ics.ComponentPropertyLocation: "7",
	} {
		if p := e.GetProperty(property); p == nil || p.Value != want {
			t.Errorf("%s: %s is %+v, want %s", m.Kind, property, p, want)
		}
	}
	if status := e.GetProperty(ics.ComponentPropertyStatus); (status.Value == "CANCELLED") != (method == "CANCEL") {
		t.Errorf("%s: status %s", m.Kind, status.Value)
	}
}

// Nothing that a room, a user or a reason is called becomes a header, a recipient, a command, HTML, or a line of a calendar.
func TestNamesDoNotBecomeAnythingElse(t *testing.T) {
	server := notifytest.NewMailServer(t, false)
	c := newTestMail(t, server, "")
	const evil = "7\r\nBcc: eve@example.com\r\n\r\n<script>alert(1)</script>\u2028END:VEVENT\nATTENDEE:mailto:eve@example.com;,\\\""
	m := told(domain.KindDenied)
	m.Room, m.Reason, m.By, m.Booking = evil, evil, evil, evil
	if err := c.send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := server.All()[0]
	if len(got.Message.Header["Bcc"]) != 0 || got.To != "kim@example.com" || !strings.Contains(header(t, got, "Subject"), "Bcc: eve@example.com") || strings.ContainsAny(header(t, got, "Subject"), "\r\n") {
		t.Errorf("%s", got.Raw)
	}
	_, all := parts(t, got)
	if strings.Contains(all[1].text, "<script>") {
		t.Errorf("%s", all[1].text)
	}
	calendar, err := ics.ParseCalendar(strings.NewReader(all[2].text))
	if err != nil || len(calendar.Events()) != 1 || len(calendar.Events()[0].Attendees()) != 1 {
		t.Errorf("%v\n%s", err, all[2].text)
	}
	for line := range strings.SplitSeq(all[2].text, "\r\n") {
		if len(line) > 75 {
			t.Errorf("a line of %d bytes: %s", len(line), line)
		}
	}
	for _, user := range []domain.UserID{"eve@example.com,kim", "kim>\r\nRCPT TO:<eve@example.com", "a\x00b", "<eve@example.com>", `"`, "", "kim eve"} {
		m.To = user
		err := c.send(t.Context(), m)
		mails := server.All()
		if err == nil {
			last := mails[len(mails)-1]
			if !strings.HasSuffix(last.To, "@example.com") || last.To == "eve@example.com" {
				t.Errorf("to %q went %s", user, last.To)
			}
		} else if !failureOf(err).permanent {
			t.Errorf("to %q: %v", user, err)
		}
	}
}

// Why a mail does not arrive: what would fail again is told from what would not, and what is the server's from what is the recipient's.
func TestMailFailures(t *testing.T) {
	server := notifytest.NewMailServer(t, false)
	c := newTestMail(t, server, "")
	want := func(name string, permanent, down bool, contains string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := c.send(ctx, told(domain.KindBooked))
		if err == nil || !strings.Contains(err.Error(), contains) {
			t.Fatalf("%s: %v", name, err)
		}
		if f := failureOf(err); f.permanent != permanent || f.down != down {
			t.Errorf("%s: permanent %t, down %t: %v", name, f.permanent, f.down, err)
		}
	}
	for _, test := range []struct {
		code, subject   int
		permanent, down bool
	}{{450, 2, false, false}, {451, 7, false, false}, {452, 3, false, true}, {421, 2, false, true}, {550, 1, true, false}, {553, 1, true, false}, {554, 3, true, false}} {
		answer := &smtp.SMTPError{Code: test.code, EnhancedCode: smtp.EnhancedCode{test.code / 100, test.subject, 1}, Message: "as the test says"}
		server.Answer(func(string) error { return answer })
		want(fmt.Sprint("to a recipient: ", answer.Code), test.permanent, test.down, "as the test says")
		server.Answer(nil)
		server.AnswerSender(answer) // whoever it is to
		want(fmt.Sprint("to the sender: ", answer.Code), false, true, "as the test says")
		server.AnswerSender(nil)
	}
	if err := os.WriteFile(server.PasswordFile, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Stop() // what was signed in is
	server.Start(t)
	want("a wrong password", false, true, "Authentication failed")
	if err := os.WriteFile(server.PasswordFile, []byte(notifytest.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	trusted := c.options.TLS
	c.options.TLS = nil
	c.server.Scheme = "smtps"
	want("no TLS", false, true, "")
	c.server.Scheme, c.options.TLS = "smtp", trusted
	server.Stop()
	want("refused", false, true, "refused")

	silent, err := net.Listen("tcp", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c.options.Timeout = 50 * time.Millisecond
	want("silent", false, true, "")
}

// One connection takes many mails, and is replaced when the server has closed it: nothing fails by that.
func TestMailConnectionsAreKept(t *testing.T) {
	for _, wrapped := range []bool{false, true} {
		server := notifytest.NewMailServer(t, wrapped)
		c := newTestMail(t, server, "")
		send := func() {
			t.Helper()
			if err := c.send(t.Context(), told(domain.KindBooked)); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			send()
		}
		sessions := func() int { // STARTTLS begins a second one on the same connection
			if wrapped {
				return server.Sessions()
			}
			return server.Sessions() / 2
		}
		if n := sessions(); n != 1 {
			t.Errorf("%d connections for 10 mails", n)
		}
		server.Stop()
		server.Start(t)
		send()
		server.Answer(func(string) error { return notifytest.NoSuchUser })
		if err := c.send(t.Context(), told(domain.KindBooked)); err == nil {
			t.Error("it was not refused")
		}
		server.Answer(nil)
		send()
		if n := sessions(); n != 2 {
			t.Errorf("%d connections to a server that was started twice", n)
		}
		for range mailsConnection {
			send()
		}
		if n := sessions(); n != 3 {
			t.Errorf("%d connections, of which each takes %d mails", n, mailsConnection)
		}
		if n := len(server.All()); n != 12+mailsConnection {
			t.Errorf("%d mails", n)
		}
	}
}

// Each option that is wrong is told before anything is sent.
func TestMailOptions(t *testing.T) {
	server := notifytest.NewMailServer(t, false)
	good := *mailOptions(server)
	for name, change := range map[string]func(*MailOptions){
		"http://":   func(o *MailOptions) { o.Server = "http://localhost" },
		"in a file": func(o *MailOptions) { o.Server = "smtp://rooms:secret@localhost" },
		"must be":   func(o *MailOptions) { o.Server = "rooms:secret@localhost:587" },
		"host:port": func(o *MailOptions) { o.Server = "smtp:rooms:secret@localhost:587" },
		"together":  func(o *MailOptions) { o.PasswordFile = "" },
		"no such":   func(o *MailOptions) { o.PasswordFile += "x" },
		"sender":    func(o *MailOptions) { o.From = "rooms" },
		"port":      func(o *MailOptions) { o.Server = "smtp://rooms@localhost:99999" },
	} {
		o := good
		change(&o)
		if _, err := newMailChannel(o, nil, nil); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Long lines are folded between characters, and read back whole.
func TestCalendarIsFolded(t *testing.T) {
	summary := strings.Repeat("회의실 예약 ", 40) + "; , \\ end"
	var out bytes.Buffer
	if err := WriteCalendar(&out, "", "feed", Meeting{Booking: "b", Slot: domain.Slot{Start: nine, End: ten}, Stamp: nine, Summary: summary, Status: "CONFIRMED"}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(out.String(), "\r\n") {
		if len(line) > 75 || !strings.Contains(line, "\uFFFD") && strings.ToValidUTF8(line, "\uFFFD") != line {
			t.Errorf("the line %q has %d bytes", line, len(line))
		}
	}
	calendar, err := ics.ParseCalendar(&out)
	if err != nil || calendar.Events()[0].GetProperty(ics.ComponentPropertySummary).Value != summary {
		t.Errorf("%v: %q", err, calendar.Events()[0].GetProperty(ics.ComponentPropertySummary))
	}
	out.Reset()
	if err := WriteCalendar(&out, "", "empty; feed"); err != nil {
		t.Fatal(err)
	}
	if calendar, err := ics.ParseCalendar(&out); err != nil || len(calendar.Events()) != 0 {
		t.Errorf("an empty feed: %v", err)
	}
}
