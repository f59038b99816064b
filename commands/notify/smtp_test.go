package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
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
)

// received is a mail as the server got it.
type received struct {
	from, to string
	raw      string
	message  *mail.Message
}

// mailServer is an SMTP server with TLS and users, on loopback.
type mailServer struct {
	address  string
	tls      *tls.Config // with a certificate
	roots    *x509.CertPool
	password string // of the file
	wrapped  bool   // TLS from the first byte, not by STARTTLS

	mu       sync.Mutex
	server   *smtp.Server
	arrived  chan struct{} // closed, and replaced, when a mail arrives
	mails    []received
	attempts int
	refuse   func(to string) error // what to answer a recipient with, or nil
	sessions int
}

const mailUser, mailPassword = "rooms", "s3cret ü"

// newMailServer starts a server that stops at the end of the test.
func newMailServer(t *testing.T, wrapped bool) *mailServer {
	t.Helper()
	s := &mailServer{arrived: make(chan struct{}), wrapped: wrapped, password: filepath.Join(t.TempDir(), "password")}
	s.tls, s.roots = certificate(t)
	if err := os.WriteFile(s.password, []byte(mailPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.serve(l)
	t.Cleanup(s.stop)
	return s
}

// certificate is one for the name mail.test and for loopback, and who vouches for it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

func (s *mailServer) serve(l net.Listener) {
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
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	if s.wrapped {
		l = tls.NewListener(l, s.tls)
	}
	go func() { _ = server.Serve(l) }()
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// stop has the server refuse connections.
func (s *mailServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.Close()
		s.server = nil
	}
}

// start has the server answer again.
func (s *mailServer) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(l)
}

// answer sets what a recipient is answered with.
func (s *mailServer) answer(refuse func(to string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// all are the mails so far.
func (s *mailServer) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

// tried is the number of recipients that were named to the server so far.
func (s *mailServer) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts
}

// wait waits until there are n mails.
func (s *mailServer) wait(t *testing.T, n int) []received {
	t.Helper()
	limit := time.After(patience)
	for {
		s.mu.Lock()
		mails, arrived := append([]received(nil), s.mails...), s.arrived
		s.mu.Unlock()
		if len(mails) >= n {
			return mails
		}
		select {
		case <-arrived:
		case <-limit:
			t.Fatalf("there are %d mails, want %d", len(mails), n)
		}
	}
}

// options are those of a program that sends by the server.
func (s *mailServer) options() *MailOptions {
	scheme := "smtp"
	if s.wrapped {
		scheme = "smtps"
	}
	_, port, _ := net.SplitHostPort(s.address)
	return &MailOptions{
		Server: scheme + "://" + mailUser + "@localhost:" + port, PasswordFile: s.password, From: "회의실 Rooms <rooms@example.org>",
		TLS: &tls.Config{RootCAs: s.roots}, Pause: time.Millisecond, Timeout: patience,
	}
}

// session is a connection of a client.
type session struct {
	server   *mailServer
	signedIn bool
	from, to string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != mailUser || password != mailPassword {
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
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.attempts++
	s.to = to
	if s.server.refuse != nil {
		return s.server.refuse(to)
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
	s.server.mails = append(s.server.mails, received{s.from, s.to, string(raw), message})
	close(s.server.arrived)
	s.server.arrived = make(chan struct{})
	return nil
}
