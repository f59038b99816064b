// Package notifytest provides a mail server for tests: an SMTP server on loopback with TLS and authentication, which can be stopped, or told to
// refuse mail.
package notifytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"roombook/eventstore/eventstoretest"
)

// Mail is a mail that the server has received.
type Mail struct {
	From, To string
	At       time.Time // when it was received
	Raw      string
	Message  *mail.Message
}

// MailServer is an SMTP server on loopback. It is safe for concurrent use.
type MailServer struct {
	// URL is the address of the server with the user, PasswordFile the file with the user's password, and CAFile the file with the server's
	// root certificate, which Roots contains too.
	URL          string
	PasswordFile string
	CAFile       string
	Roots        *x509.CertPool

	address string
	tls     *tls.Config // with a certificate
	wrapped bool        // implicit TLS instead of STARTTLS
	serving sync.WaitGroup

	mu       sync.Mutex
	server   *smtp.Server // nil while it is stopped
	listener net.Listener
	mails    []Mail
	attempts int
	sessions int
	refuse   func(to string) error // returns the reply to RCPT TO; may be nil
	noSender error                 // the reply to MAIL FROM; may be nil
}

// User and Password are the credentials of the server.
const User, Password = "rooms", "s3cret ü"

// NewMailServer starts a server that runs until the end of the test. If wrapped is true it uses implicit TLS, otherwise STARTTLS.
func NewMailServer(t testing.TB, wrapped bool) *MailServer {
	t.Helper()
	dir := t.TempDir()
	s := &MailServer{wrapped: wrapped, PasswordFile: filepath.Join(dir, "password"), CAFile: filepath.Join(dir, "ca.pem")}
	var ca []byte
	s.tls, ca = certificate(t)
	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(ca)
	for path, content := range map[string][]byte{s.PasswordFile: []byte(Password + "\n"), s.CAFile: ca} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.address = eventstoretest.ClosedPort(t) // which stays its own while it is stopped
	_, port, _ := net.SplitHostPort(s.address)
	s.URL = map[bool]string{false: "smtp", true: "smtps"}[wrapped] + "://" + User + "@localhost:" + port
	s.Start(t)
	t.Cleanup(s.Stop)
	return s
}

// certificate returns a self-signed certificate for loopback, also as PEM.
func certificate(t testing.TB) (*tls.Config, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (s *MailServer) serve(l net.Listener) {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sessions++
		return &session{server: s}, nil
	}))
	server.Domain = "localhost"
	server.TLSConfig = s.tls
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	server.ErrorLog = quiet{}
	if s.wrapped {
		l = tls.NewListener(l, s.tls)
	}
	s.mu.Lock()
	s.server, s.listener = server, l
	s.mu.Unlock()
	s.serving.Go(func() { _ = server.Serve(l) })
}

// NoSuchUser is a permanent refusal of a recipient.
var NoSuchUser error = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody here"}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Stop stops the server: connections are refused.
func (s *MailServer) Stop() {
	s.mu.Lock()
	server := s.server
	s.server = nil
	if server != nil {
		s.listener.Close() // Serve may not have been called yet
		server.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

// Start starts the server, always at the same address.
func (s *MailServer) Start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(l)
}

// Answer sets the reply to RCPT TO; nil accepts all recipients.
func (s *MailServer) Answer(refuse func(to string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// AnswerSender sets the reply to MAIL FROM; nil accepts all senders.
func (s *MailServer) AnswerSender(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noSender = err
}

// All returns the mails received so far.
func (s *MailServer) All() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Tried returns the number of RCPT TO commands so far.
func (s *MailServer) Tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts
}

// Sessions returns the number of SMTP sessions so far; STARTTLS begins a second one on the same connection.
func (s *MailServer) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Address returns the address that the server listens on.
func (s *MailServer) Address() string { return s.address }

// session is an SMTP session.
type session struct {
	server   *MailServer
	signedIn bool
	from, to string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != User || password != Password {
			return smtp.ErrAuthFailed
		}
		s.signedIn = true
		return nil
	}), nil
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.signedIn {
		return smtp.ErrAuthRequired
	}
	s.from = from
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	return s.server.noSender
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	s.server.attempts++
	s.to = to
	refuse := s.server.refuse
	s.server.mu.Unlock()
	if refuse != nil {
		return refuse(to)
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	message, err := mail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		return errors.New("not a mail")
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.mails = append(s.server.mails, Mail{s.from, s.to, time.Now(), string(raw), message})
	return nil
}
