package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	netmail "net/mail"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/wneessen/go-mail"

	"roombook/domain"
)

// MailOptions say how mail is sent.
type MailOptions struct {
	// Server is smtp://user@host:port, with STARTTLS, or smtps://user@host:port, with TLS. Without a user nobody signs in. A server on this
	// machine need not have STARTTLS, and without a user is not asked for it.
	Server string
	// PasswordFile has the user's password. It is read at each sending.
	PasswordFile string
	// From is the sender, who is also the organizer of the meetings that mails carry.
	From string
	// Timeout bounds the sending of one mail, from dialling to the last answer; 0 is 30 s.
	Timeout time.Duration
	// Attempts is how often one mail is tried; 0 is 8. Pause is the wait after the first attempt, which triples each time up to ten minutes;
	// 0 is 2 s.
	Attempts int64
	Pause    time.Duration
	// TLS has the authorities to trust; nil are the system's.
	TLS *tls.Config
}

// maxMailPause is the longest wait between two attempts.
const maxMailPause = 10 * time.Minute

// mailChannel sends mail.
type mailChannel struct {
	options MailOptions
	server  *url.URL
	port    int
	from    *netmail.Address
	texts   *texts
	who     *directory

	mu   sync.Mutex
	idle []*mailConnection
}

// newMailChannel checks the options.
func newMailChannel(o MailOptions, t *texts, who *directory) (*mailChannel, error) {
	server, err := url.Parse(o.Server)
	if err != nil || server.Scheme != "smtp" && server.Scheme != "smtps" || server.Hostname() == "" || server.Path != "" && server.Path != "/" {
		return nil, fmt.Errorf("the mail server %q must be smtp://user@host:port or smtps://user@host:port", redacted(o.Server))
	}
	if _, has := server.User.Password(); has {
		return nil, errors.New("the mail server's password must be in a file of its own, not in the address")
	}
	if (server.User.Username() != "") != (o.PasswordFile != "") {
		return nil, errors.New("a user at the mail server and a file with the password go together")
	}
	c := &mailChannel{options: o, server: server, texts: t, who: who, port: map[string]int{"smtp": 587, "smtps": 465}[server.Scheme]}
	if server.Port() != "" {
		if c.port, err = strconv.Atoi(server.Port()); err != nil || c.port < 1 || c.port > 65535 {
			return nil, fmt.Errorf("the mail server's port %q is none", server.Port())
		}
	}
	if c.from, err = netmail.ParseAddress(o.From); err != nil {
		return nil, fmt.Errorf("the sender of mail %q must be an address like rooms@example.com or Rooms <rooms@example.com>", o.From)
	}
	if c.options.Timeout == 0 {
		c.options.Timeout = 30 * time.Second
	}
	if c.options.Attempts == 0 {
		c.options.Attempts = 8
	}
	if c.options.Pause == 0 {
		c.options.Pause = 2 * time.Second
	}
	if _, err := c.password(); err != nil {
		return nil, err
	}
	return c, nil
}

func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return "…"
}

func (c *mailChannel) name() domain.Channel { return domain.ChannelMail }
func (c *mailChannel) destination() string  { return c.address() }

func (c *mailChannel) address() string {
	return net.JoinHostPort(c.server.Hostname(), strconv.Itoa(c.port))
}

func (c *mailChannel) password() (string, error) {
	if c.options.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(c.options.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("the mail server's password: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

func (c *mailChannel) pause(n int64) (time.Duration, bool) {
	if n >= c.options.Attempts {
		return 0, false
	}
	return time.Duration(min(float64(c.options.Pause)*math.Pow(3, float64(n-1)), float64(maxMailPause))), true
}

func (c *mailChannel) send(ctx context.Context, m Message) error {
	p := c.who.person(m.To)
	to, err := c.who.address(p)
	if err != nil {
		return permanent("%w", err)
	}
	message, err := c.compose(m, to, p.Language)
	if err != nil {
		return permanent("%w", err)
	}
	return c.transmit(ctx, message)
}

// transmit sends a mail on a connection that is there, or on a new one.
func (c *mailChannel) transmit(ctx context.Context, message *mail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	for {
		connection, used, err := c.connect(ctx)
		if err != nil {
			return &failure{err: err, down: true}
		}
		err = connection.send(ctx, message)
		if err == nil || message.IsDelivered() { // what follows the server's acceptance does not matter
			c.keep(connection, err == nil)
			return nil
		}
		f := classify(ctx, err)
		c.keep(connection, !f.down)
		sending, ok := errors.AsType[*mail.SendError](err)
		if used && ok && sending.Reason == mail.ErrConnCheck && ctx.Err() == nil {
			continue // the server has closed it meanwhile
		}
		return f
	}
}

// Test sends a mail to an address, not from an event and only once.
func (d *Dispatcher) Test(ctx context.Context, address string) error {
	c, ok := d.routes[0].lane.channel.(*mailChannel)
	if !ok {
		return errors.New("there is no mail server")
	}
	to, err := netmail.ParseAddress(address)
	if err != nil {
		return fmt.Errorf("%q is not a mail address", address)
	}
	message := c.envelope(to, uuid.NewString())
	message.Subject("Roombook can send mail")
	message.SetBodyString(mail.TypeTextPlain, "This mail was sent to see whether Roombook can reach the mail server.\n")
	return c.transmit(ctx, message)
}

// classify tells what an attempt failed by. go-mail calls a failure temporary only if the server's answer says so.
func classify(ctx context.Context, err error) *failure {
	sending, ok := errors.AsType[*mail.SendError](err)
	if !ok || ctx.Err() != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return &failure{err: err, down: true}
	}
	switch code := sending.ErrorCode(); {
	case sending.IsTemp() || code >= 400 && code < 500:
		return &failure{err: err, down: code == 421}
	case code >= 500:
		return &failure{err: err, permanent: true}
	case sending.Reason == mail.ErrGetSender, sending.Reason == mail.ErrGetRcpts, sending.Reason == mail.ErrNoUnencoded:
		return &failure{err: err, permanent: true}
	default:
		return &failure{err: err, down: true}
	}
}

// local reports whether the mail server is on this machine, where nothing need be encrypted.
func (c *mailChannel) local() bool {
	host := c.server.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// envelope is a mail without its words.
func (c *mailChannel) envelope(to *netmail.Address, id string) *mail.Msg {
	message := mail.NewMsg()
	message.FromMailAddress(c.from)
	message.ToMailAddress(to)
	message.SetDate()
	_, host, _ := cutLast(c.from.Address, "@")
	message.SetMessageIDWithValue(id + "@" + host)
	message.SetGenHeader("Auto-Submitted", "auto-generated")
	return message
}

// compose makes the mail: multipart/alternative of text, HTML and, if the receiver's calendar is to change, iCalendar.
func (c *mailChannel) compose(m Message, to *netmail.Address, language string) (*mail.Msg, error) {
	w, err := c.texts.words(language, m)
	if err != nil {
		return nil, err
	}
	message := c.envelope(to, string(m.ID))
	message.Subject(w.subject)
	message.SetGenHeader("X-Roombook-Booking", clean(string(m.Booking)))
	message.SetGenHeader("Content-Language", language)
	message.SetBodyString(mail.TypeTextPlain, w.text)
	message.AddAlternativeString(mail.TypeTextHTML, w.html)
	meeting, method := m.meeting(c.from.Address, to.Address, w.subject)
	if method == "" {
		return message, nil
	}
	var calendar bytes.Buffer
	if err := WriteCalendar(&calendar, method, "", meeting); err != nil {
		return nil, err
	}
	message.AddAlternativeString(mail.ContentType("text/calendar; method="+method), calendar.String())
	return message, nil
}
