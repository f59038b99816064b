package notify

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// mailsConnection is the number of mails per connection. Connections are reused, because TLS and authentication take much longer than sending
// a mail.
const mailsConnection = 100

// mailConnection is an authenticated connection to the mail server. It makes up for two traits of the library: its time-out restarts with each
// command, and it leaks the connection if the handshake fails.
type mailConnection struct {
	net.Conn
	client  *mail.Client
	session *smtp.Client
	mails   int
	expiry  *time.Timer
}

// connect returns an idle connection, or a new one. used reports that it has been used before.
func (c *mailChannel) connect(ctx context.Context) (connection *mailConnection, used bool, err error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		connection = c.idle[n-1]
		c.idle = c.idle[:n-1]
	}
	c.mu.Unlock()
	if connection != nil {
		connection.expiry.Stop()
		return connection, true, nil
	}
	connection, err = c.dial(ctx)
	return connection, false, err
}

// keep keeps a connection for reuse if it is good, and closes it otherwise.
func (c *mailChannel) keep(connection *mailConnection, good bool) {
	if connection.mails++; !good || connection.mails >= mailsConnection {
		connection.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, connection)
	connection.expiry = time.AfterFunc(c.options.Idle, func() {
		c.mu.Lock()
		i := slices.Index(c.idle, connection)
		if i >= 0 {
			c.idle = slices.Delete(c.idle, i, i+1)
		}
		c.mu.Unlock()
		if i >= 0 {
			_ = connection.SetDeadline(time.Now().Add(time.Second))
			_ = connection.client.CloseWithSMTPClient(connection.session) // sends QUIT
			connection.Close()
		}
	})
}

// send sends a mail. It closes the connection if the context ends.
func (m *mailConnection) send(ctx context.Context, message *mail.Msg) error {
	stop := context.AfterFunc(ctx, func() { m.Close() })
	defer stop()
	return m.client.SendWithSMTPClient(m.session, message)
}

// dial connects and authenticates.
func (c *mailChannel) dial(ctx context.Context) (*mailConnection, error) {
	config := &tls.Config{}
	if c.options.TLS != nil {
		config = c.options.TLS.Clone()
	}
	config.ServerName, config.MinVersion = c.server.Hostname(), tls.VersionTLS12
	policy := mail.TLSMandatory
	switch {
	case c.server.Scheme == "smtps", c.local() && c.server.User == nil:
		policy = mail.NoTLS // it is TLS already, or plain text on loopback
	case c.local():
		policy = mail.TLSOpportunistic
	}
	m := &mailConnection{}
	stop := func() bool { return true }
	options := []mail.Option{
		mail.WithPort(c.port), mail.WithTimeout(c.options.Timeout), mail.WithTLSConfig(config), mail.WithTLSPolicy(policy),
		mail.WithDialContextFunc(func(dialing context.Context, network, address string) (_ net.Conn, err error) {
			if c.server.Scheme == "smtps" {
				m.Conn, err = (&tls.Dialer{Config: config}).DialContext(dialing, network, address)
			} else {
				m.Conn, err = (&net.Dialer{}).DialContext(dialing, network, address)
			}
			if err == nil {
				stop = context.AfterFunc(ctx, func() { m.Close() })
			}
			return m.Conn, err
		}),
	}
	if user := c.server.User.Username(); user != "" {
		password, err := c.password()
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithUsername(user), mail.WithPassword(password),
			mail.WithSMTPAuth(mail.SMTPAuthOpportunistic), mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	var err error
	if m.client, err = mail.NewClient(c.server.Hostname(), options...); err != nil {
		return nil, err
	}
	m.session, err = m.client.DialToSMTPClientWithContext(ctx)
	stop()
	if err != nil {
		if m.Conn != nil {
			m.Close()
		}
		return nil, err
	}
	return m, nil
}
