package main

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roombook/eventstore/eventstoretest"
	"roombook/eventstore/node"
)

// secured puts TLS and a check of user and password in front of an event store, like EventStoreDB's, and returns a user's connection
// string.
func secured(t *testing.T, address string, password *atomic.Value) (connectionString string) {
	t.Helper()
	return "esdb://roombook:secret@" + securedBy(t, address, func(r *http.Request) (status int) {
		if user, given, _ := r.BasicAuth(); user != "roombook" || given != password.Load() {
			return unauthenticated
		}
		return 0
	})
}

// Statuses of gRPC.
const (
	permissionDenied = 7
	unauthenticated  = 16
)

// securedBy puts TLS and a check that returns a gRPC status, or 0, in front of an event store, and returns a connection string without a
// user and a scheme.
func securedBy(t *testing.T, address string, check func(*http.Request) (status int)) (connectionString string) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	proxy.FlushInterval = -1
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport = transport
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := check(r); status != 0 {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", strconv.Itoa(status))
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.Listener.Addr().String() + "?tlsCAFile=" + ca
}

// The event store refuses the password: every command fails with one line that says so, and exit code 1.
func TestRefusedAtTheStart(t *testing.T) {
	var password atomic.Value
	password.Store("another")
	store := secured(t, eventstoretest.Serve(t, ""), &password)
	for _, args := range [][]string{
		{"serve", "--listen", "127.0.0.1:0"}, {"replay", "--all"}, {"verify"}, {"recovery", "status"},
	} {
		var stderr strings.Builder
		cmd := exec.Command(program(t), append(args, "--eventstore", store, "--data", t.TempDir())...)
		cmd.Stderr = &stderr
		_ = cmd.Run() // the exit code is looked at
		const want = "roombook: the event store refuses the user roombook: Unauthenticated: check the user, the password and the user's rights in --eventstore\n"
		if code := cmd.ProcessState.ExitCode(); code != exitFailed || stderr.String() != want {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
	}
}

// The password is changed while the program runs, and back again. Meanwhile commands and /readyz say that the event store is not
// available, and the log has one line for each part of the program that is affected, however often it tries.
func TestRefusedWhileRunning(t *testing.T) {
	var password atomic.Value
	password.Store("secret")
	p := startServe(t, t.TempDir(), "--eventstore", secured(t, eventstoretest.Serve(t, ""), &password), "--log-level", "error")
	book := func(room string) (status int, body string) {
		t.Helper()
		response, err := http.Post("http://"+p.address+"/bookings", "application/json", strings.NewReader(
			`{"roomId": "`+room+`", "useStartDtm": "203009081000", "useEndDtm": "203009081100", "bookingUserId": "7"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(content)
	}
	ready := func() int {
		t.Helper()
		status, _ := p.ready(t)
		return status
	}
	becomesReady := func() {
		for ready() != http.StatusOK {
			time.Sleep(10 * time.Millisecond)
		}
	}
	becomesReady() // when its lists are built
	if status, body := book("1"); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	password.Store("changed")
	for range 50 {
		if status, body := book("2"); status != http.StatusServiceUnavailable || !strings.Contains(body, "event-store-unavailable") {
			t.Errorf("%d %s", status, body)
		}
	}
	if status := ready(); status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", status)
	}
	password.Store("secret")
	becomesReady()
	if status, body := book("2"); status != http.StatusCreated {
		t.Errorf("%d %s", status, body)
	}
	p.stop(t)
	// Each part of the program says it once.
	said := map[string]int{}
	for line := range strings.Lines(p.stderr.String()) {
		if _, what, _ := strings.Cut(line, " level="); strings.Contains(what, "refuses") {
			said[what]++
		}
	}
	for what, times := range said {
		if times > 1 {
			t.Errorf("%d times: %s", times, what)
		}
	}
	if len(said) == 0 {
		t.Error(p.stderr)
	}
}

// An event store that takes connections and never answers: every command fails with one line that says what to do, and makes nothing.
func TestNoAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	file := filepath.Join(t.TempDir(), "rooms.csv")
	if err := os.WriteFile(file, []byte("roomId,name\n1,One\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"replay", "--all"}, {"verify"}, {"setup"}, {"recovery", "status"}, {"booking", "release", "1", "--reason", "a test"},
		{"rooms", "import", file}, {"rooms", "export", file + ".csv"}, {"export", file + ".jsonl"},
		{"notifications", "retry", "--all"}, {"notifications", "unhandled"}, {"notifications", "replay"},
		{"user", "add", "ann", "--no-password"}, {"user", "list"}, {"token", "list"}, {"token", "pair", "123456"},
	} {
		data := filepath.Join(t.TempDir(), "data")
		var stderr strings.Builder
		code := run(t.Context(), append(args, "--eventstore", connectionString(silent.Addr().String())+"&defaultDeadline=100", "--data", data), io.Discard, &stderr)
		if code != exitFailed || strings.Count(stderr.String(), "\n") != 1 || !strings.HasSuffix(stderr.String(), "; start the event store, or check its address in --eventstore\n") {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%v made the data folder", args)
		}
	}
	if made, _ := filepath.Glob(file + ".*"); len(made) > 0 {
		t.Errorf("made %v", made)
	}
}

// The program that has the data folder does not answer: the line names the folder.
func TestNoAnswerFromTheFolder(t *testing.T) {
	data := t.TempDir()
	n, err := node.Open(node.Options{Dir: filepath.Join(data, "events")})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := os.WriteFile(filepath.Join(data, "node.address"), []byte(eventstoretest.ClosedPort(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	code := run(t.Context(), []string{"backup", "-", "--data", data}, io.Discard, &stderr)
	if code != exitFailed || strings.Count(stderr.String(), "\n") != 1 || !strings.HasSuffix(stderr.String(), "the data folder "+data+" does not answer or has ended: restart it if it still runs, and repeat the command\n") {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
}
