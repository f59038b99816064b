package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// limited is the program under one of the shell's ulimits.
func limited(ctx context.Context, t *testing.T, limit string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "bash", append([]string{"-c", "ulimit " + limit + ` && exec "$0" "$@"`, program(t)}, args...)...)
}

// serveLimited is startServe under a limit.
func serveLimited(t *testing.T, limit, data string) *process {
	t.Helper()
	return startServeBy(t, limited(context.Background(), t, limit), data, "--log-level", "warn") // notifications, a line each, do not count
}

// toldOnce checks that a program failed, that its last line has the words, and that there are not too many lines before it.
func toldOnce(t *testing.T, cmd *exec.Cmd, stderr string, mostLines int, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	last := lines[len(lines)-1]
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || len(lines) > mostLines || strings.Contains(stderr, "goroutine ") {
		t.Errorf("exit code %d, %d lines: %.2000s", code, len(lines), stderr)
	}
	for _, word := range words {
		if !strings.Contains(last, word) {
			t.Errorf("%q does not say %q", last, word)
		}
		if n := strings.Count(stderr, word); n > 1 && word == words[0] {
			t.Errorf("%q is said %d times: %s", word, n, stderr)
		}
	}
}

// TestNoRoom runs the program until its files cannot grow any more. It shuts down and says what to do, once, as it does when it is
// started without room. With room again, everything that it acknowledged is there.
func TestNoRoom(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	const makeRoom = "make room on its disk"
	p := serveLimited(t, "-f 2048", data) // 2 MB
	c := newCaller(t, p)
	promised := map[string]bool{}
	var last string // position
	for {
		var b booked
		status, position, err := c.call("POST", "/bookings", contested(3*len(promised)), nil, &b)
		if err != nil || status == http.StatusServiceUnavailable {
			break
		}
		if status != http.StatusCreated {
			t.Fatalf("%d after %d bookings: %s", status, len(promised), p.stderr)
		}
		promised[b.BookingID], last = true, position
	}
	ended := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("the program goes on without room: %s", p.stderr)
	}
	toldOnce(t, p.cmd, p.stderr.String(), 100, makeRoom, filepath.Join(data, "events"))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	again := limited(ctx, t, "-f 64", "verify", "--data", data)
	again.Stderr = &stderr
	_ = again.Run()
	toldOnce(t, again, stderr.String(), 1, makeRoom, filepath.Join(data, "events"))

	p = startServe(t, data)
	c = newCaller(t, p)
	for { // the lists had no room either, and catch up
		status, _, err := c.call("GET", "/bookingLists?size=1", "", http.Header{"Roombook-Position": {last}}, nil)
		if status == http.StatusOK {
			break
		}
		if err != nil || status != http.StatusServiceUnavailable || ctx.Err() != nil {
			t.Fatalf("the list does not catch up: %d, %v", status, err)
		}
	}
	for _, b := range c.list(t, "bookingLists", "", last) {
		delete(promised, b.BookingID)
	}
	if last == "" || len(promised) > 0 {
		t.Errorf("%d bookings of those up to position %q were acknowledged and are not there", len(promised), last)
	}
	p.stop(t)
}

// TestConnectionsToNode: clients that only hold connections to the embedded node keep nobody from booking.
func TestConnectionsToNode(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := serveLimited(t, "-n 128", data)
	c := newCaller(t, p)
	book := func(room string) {
		t.Helper()
		body := fmt.Sprintf(`{"roomId":%q,"useStartDtm":"2030-01-01T10:00:00Z","useEndDtm":"2030-01-01T11:00:00Z","bookingUserId":"u"}`, room)
		if status, _, err := c.call("POST", "/bookings", body, nil, nil); err != nil || status != http.StatusCreated {
			t.Fatalf("%d, %v: %s", status, err, p.stderr)
		}
	}
	book("r1")
	address, err := os.ReadFile((&storeConfig{data: data}).addressFile())
	if err != nil {
		t.Fatal(err)
	}
	c.http.CloseIdleConnections()
	for range 200 {
		connection, err := net.Dial("tcp", strings.TrimSpace(string(address)))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
	}
	book("r2")
	p.stop(t)
	if strings.Contains(p.stderr.String(), "too many open files") || strings.Count(p.stderr.String(), "\n") > 10 {
		t.Errorf("the program ran out of files: %s", p.stderr)
	}
}

// TestDamagedTable changes bytes in the middle of the event log's tables: serve and verify fail and name the file.
func TestDamagedTable(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for range 2 { // the second start writes a table
		p := startServe(t, data)
		c := newCaller(t, p)
		for i := range 30 {
			if status, _, err := c.call("POST", "/bookings", contested(3*i), nil, nil); err != nil || status >= 500 {
				t.Fatalf("%d, %v", status, err)
			}
		}
		p.stop(t)
	}
	tables, err := filepath.Glob(filepath.Join(data, "events", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, path := range tables {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/4] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, command := range []string{"serve", "verify"} {
		cmd := exec.CommandContext(ctx, program(t), command, "--data", data)
		if command == "serve" {
			cmd.Args = append(cmd.Args, "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0")
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run()
		toldOnce(t, cmd, stderr.String(), 100, "restore the folder from a backup", filepath.Join(data, "events"), ".sst")
	}
}
