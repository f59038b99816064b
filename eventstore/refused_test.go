package eventstore_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// secured is an event store with TLS and one user.
type secured struct {
	caFile, address string
	password        atomic.Pointer[string]
	denied          atomic.Bool // the user has no rights
}

// startSecured puts TLS and a password check before an event store.
func startSecured(t *testing.T, to, password string) *secured {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{caFile: filepath.Join(t.TempDir(), "ca.crt")}
	if err := os.WriteFile(s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.password.Store(&password)
	certificate := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	_, s.address = startRelay(t, to, s.admit, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	return s
}

// admit refuses a call as EventStoreDB does: before any handler.
func (s *secured) admit(call grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(call.Context())
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("roombook:"+*s.password.Load()))
	switch {
	case len(md.Get("authorization")) != 1 || md.Get("authorization")[0] != want:
		return status.Error(codes.Unauthenticated, "")
	case s.denied.Load():
		return status.Error(codes.PermissionDenied, "Access Denied")
	}
	return nil
}

func (s *secured) connectionString(user string) string {
	return "esdb://" + user + s.address + "?tls=true&tlsCAFile=" + s.caFile
}

// A refusal is returned at once, with the reason.
func TestRefused(t *testing.T) {
	t.Parallel()
	behind := eventstoretest.Node(t)
	server := startSecured(t, behind.Address(), "secret")
	for user, reason := range map[string]string{
		"roombook:wrong@": "the event store refuses the user roombook: Unauthenticated",
		"":                "the event store refuses a caller without a user: Unauthenticated",
	} {
		s, err := eventstore.Open(eventstore.Options{ConnectionString: server.connectionString(user), Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for kind, ask := range operations {
			err := ask(t.Context(), s)
			if refused, ok := errors.AsType[*eventstore.Refused](err); !ok || refused.Error() != reason || !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := behind.Calls(eventstoretest.Append) + behind.Calls(eventstoretest.Read); n > 0 {
		t.Errorf("%d calls passed", n)
	}
}

// An event store whose certificate is not trusted is unavailable, and the error says why.
func TestCertificateIsNotTrusted(t *testing.T) {
	t.Parallel()
	server := startSecured(t, eventstoretest.Node(t).Address(), "secret")
	s, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://roombook:secret@" + server.address, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var asking sync.WaitGroup
	for kind, ask := range operations {
		asking.Go(func() {
			if err := ask(t.Context(), s); !errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), "failed to verify certificate") {
				t.Errorf("%s: %v", kind, err)
			}
		})
	}
	asking.Wait()
}

// A password is changed while the program runs, and then a right revoked: that is logged once, however many calls fail.
func TestRefusedLater(t *testing.T) {
	t.Parallel()
	server := startSecured(t, eventstoretest.Node(t).Address(), "secret")
	var mu sync.Mutex
	var logged bytes.Buffer
	s, err := eventstore.Open(eventstore.Options{
		ConnectionString: server.connectionString("roombook:secret@"), Timeout: time.Minute, Logger: slog.New(slog.NewTextHandler(&locked{&mu, &logged}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	works := func() {
		t.Helper()
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		mustAppend(t, s, newStream(), eventstore.NoStream, events(1)...)
	}
	works()
	fails := func(reason string) {
		t.Helper()
		for range 20 {
			for kind, ask := range operations {
				if err := ask(t.Context(), s); err == nil || !strings.Contains(err.Error(), reason) || !errors.Is(err, eventstore.ErrUnavailable) {
					t.Errorf("%s: %v", kind, err)
				}
			}
		}
	}
	changed, before, began := "changed", "secret", time.Now()
	server.password.Store(&changed)
	fails("the event store refuses the user roombook: Unauthenticated")
	server.password.Store(&before)
	works()
	server.denied.Store(true)
	fails("the event store refuses the user roombook: PermissionDenied: Access Denied")
	server.denied.Store(false)
	works()
	mu.Lock()
	defer mu.Unlock()
	maxLines := 1 + int(time.Since(began)/time.Minute) // the trouble is logged once a minute
	if n := strings.Count(logged.String(), "refuses what it is asked"); n < 1 || n > maxLines || !strings.Contains(logged.String(), `error="the event store refuses the user roombook: Unauthenticated"`) {
		t.Errorf("logged %s", &logged)
	}
}

// locked is a buffer that goroutines share.
type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
