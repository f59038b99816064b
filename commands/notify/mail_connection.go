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

// A connection is kept for further mails for a while: to sign in takes much longer than to send.
const (
	mailIdleTime    = 5 * time.Second
	mailsConnection = 100 // mails sent on one
)

// mailConnection is a connection to the mail server on which the client has signed in. The library's time-out begins anew with each command,
// and it does not close a connection on which it could not sign in.
type mailConnection struct {
	net.Conn
	client  *mail.Client
	session *smtp.Client
	mails   int
	expiry  *time.Timer
}

// connect takes a connection that is kept, which was used before, or makes one.
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

// keep keeps a connection for other mails if it is good for that, and closes it otherwise.
func (c *mailChannel) keep(connection *mailConnection, good bool) {
	if connection.mails++; !good || connection.mails >= mailsConnection {
		connection.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, connection)
	connection.expiry = time.AfterFunc(mailIdleTime, func() {
		c.mu.Lock()
		i := slices.Index(c.idle, connection)
		if i >= 0 {
			c.idle = slices.Delete(c.idle, i, i+1)
		}
		c.mu.Unlock()
		if i >= 0 {
			_ = connection.SetDeadline(time.Now().Add(time.Second))
			_ = connection.client.CloseWithSMTPClient(connection.session) // politely
			connection.Close()
		}
	})
}

// send sends a mail, within the context.
func (m *mailConnection) send(ctx context.Context, message *mail.Msg) error {
	stop := context.AfterFunc(ctx, func() { m.Close() })
	defer stop()
	return m.client.SendWithSMTPClient(m.session, message)
}

// dial makes a connection and signs in, within the context.
func (c *mailChannel) dial(ctx context.Context) (*mailConnection, error) {
	config := &tls.Config{}
	if c.options.TLS != nil {
		config = c.options.TLS.Clone()
	}
	config.ServerName, config.MinVersion = c.server.Hostname(), tls.VersionTLS12
	policy := mail.TLSMandatory
	switch {
	case c.server.Scheme == "smtps", c.local() && c.server.User == nil:
		policy = mail.NoTLS // none on top of what is there, or none at all
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
