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

// MailOptions configure mail.
type MailOptions struct {
	// Server is smtp://user@host:port, which uses STARTTLS, or smtps://user@host:port, which uses implicit TLS. Without a user there is no
	// authentication. STARTTLS is required except on loopback, where it is used if offered, and not used without a user.
	Server string
	// PasswordFile contains the user's password. It is read for each connection.
	PasswordFile string
	// From is the sender address, and the organizer of calendar entries.
	From string
	// Timeout limits the time to send one mail, including connecting; 0 is 30 s.
	Timeout time.Duration
	// Attempts is the maximum number of attempts per mail; 0 is 8. Pause is the pause after the first attempt, which triples with each
	// further one, up to ten minutes; 0 is 2 s.
	Attempts int64
	Pause    time.Duration
	// Idle is how long a connection is kept that has nothing to send; 0 is 5 s.
	Idle time.Duration
	// TLS provides the trusted root certificates; nil uses those of the system.
	TLS *tls.Config
}

// maxMailPause is the longest pause between attempts.
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

// newMailChannel returns a channel, or an error that describes what is wrong with the options.
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
	if c.options.Idle == 0 {
		c.options.Idle = 5 * time.Second
	}
	if _, err := c.password(); err != nil {
		return nil, err
	}
	return c, nil
}

// redacted is the scheme and the host of an address that may be malformed, without what may be a secret.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
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
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("the mail server's password: %s is empty; it must have the password", c.options.PasswordFile)
	}
	return password, nil
}

func (c *mailChannel) pause(n int64) (time.Duration, bool) {
	if n >= c.options.Attempts {
		return 0, false
	}
	return time.Duration(min(float64(c.options.Pause)*math.Pow(3, float64(n-1)), float64(maxMailPause))), true
}

func (c *mailChannel) send(ctx context.Context, m Message) error {
	p, err := c.who.find(ctx, m.To)
	shown := m
	if err == nil {
		shown, err = c.who.named(ctx, m)
	}
	switch {
	case err != nil:
		return &failure{err: err, unsent: true, unknown: true}
	case !p.wants(m.Kind): // any more: it was decided before that the message is to be sent
		return &failure{err: errUnwanted, unsent: true, unwanted: true}
	}
	to, err := c.who.address(p)
	if err != nil {
		return unsendable(err)
	}
	message, err := c.compose(shown, to, p.Language)
	if err != nil {
		return unsendable(err)
	}
	return c.transmit(ctx, to.Address, message)
}

var errUnwanted = errors.New("the user gets no such mail any more")

// transmit sends a mail to a recipient on an idle connection or a new one.
func (c *mailChannel) transmit(ctx context.Context, to string, message *mail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	for {
		connection, used, err := c.connect(ctx)
		if err != nil {
			return &failure{err: err, down: true}
		}
		err = connection.send(ctx, message)
		if err == nil || message.IsDelivered() { // once accepted it is delivered, whatever fails afterwards
			c.keep(connection, err == nil)
			return nil
		}
		f := classify(ctx, to, err)
		c.keep(connection, !f.down)
		sending, ok := errors.AsType[*mail.SendError](err)
		if used && ok && sending.Reason == mail.ErrConnCheck && ctx.Err() == nil {
			continue // the server closed the idle connection
		}
		return f
	}
}

// Test sends a test mail to an address, in a single attempt.
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
	return c.transmit(ctx, to.Address, message)
}

// classify classifies the error of an attempt. An error that concerns the sender or the server itself (421, or an enhanced status code 4.3.x,
// RFC 3463) counts as a failure of the destination, because every other message would fail in the same way. So does an error that is not a
// reply of the server. A temporary error that does not say it is the recipient's own (4.1.x, 4.2.x) may be either: see [breaker.refusesAll].
func classify(ctx context.Context, to string, err error) *failure {
	sending, ok := errors.AsType[*mail.SendError](err)
	switch {
	case ctx.Err() != nil:
		return &failure{err: fmt.Errorf("%w: %w", context.Cause(ctx), err), down: true}
	case !ok:
		return &failure{err: err, down: true}
	}
	switch code, enhanced := sending.ErrorCode(), sending.EnhancedStatusCode(); {
	case sending.Reason == mail.ErrGetSender, sending.Reason == mail.ErrGetRcpts, sending.Reason == mail.ErrNoUnencoded:
		return &failure{err: err, permanent: true}
	case code < 400, code == 421, sending.Reason == mail.ErrSMTPMailFrom, strings.HasPrefix(enhanced, "4.3."):
		return &failure{err: err, down: true}
	case code >= 500:
		return &failure{err: err, permanent: true}
	case strings.HasPrefix(enhanced, "4.1."), strings.HasPrefix(enhanced, "4.2."):
		return &failure{err: err}
	default:
		return &failure{err: err, refused: to}
	}
}

// local reports whether the mail server is on loopback.
func (c *mailChannel) local() bool {
	host := c.server.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// envelope returns a mail without subject and body.
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

// compose returns a multipart/alternative mail with text, HTML and, if the recipient's calendar has to change, iCalendar as the last part.
func (c *mailChannel) compose(m Message, to *netmail.Address, language string) (*mail.Msg, error) {
	w, err := c.texts.words(language, m)
	if err != nil {
		return nil, err
	}
	message := c.envelope(to, string(m.ID))
	message.Subject(w.subject)
	if m.Booking != "" {
		message.SetGenHeader("X-Roombook-Booking", clean(string(m.Booking)))
	}
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
