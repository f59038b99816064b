package main

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The server answers to the names in --public-url, and to no others.
func TestPublicURL(t *testing.T) {
	p := startServe(t, filepath.Join(t.TempDir(), "data"), "--public-url", "https://rooms.example/app,http://other.example:8080")
	for host, status := range map[string]int{"rooms.example": 200, "other.example": 200, "localhost": 200, "evil.example": http.StatusMisdirectedRequest} {
		request, err := http.NewRequest("GET", "http://"+p.address+"/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("Host %s: status %d, want %d", host, response.StatusCode, status)
		}
	}
	p.stop(t)
	if strings.Contains(p.stderr.String(), "other machines") {
		t.Errorf("a listener on loopback is warned about: %s", p.stderr)
	}
}

// A server that other machines can reach authenticates, or is told not to, and then warns that it does not.
func TestAListenerOfAllAddressesIsWarnedAbout(t *testing.T) {
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"serve", "--listen", "0.0.0.0:0", "--node", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data")}, io.Discard, &stderr)
	if code != exitUsage || !strings.Contains(stderr.String(), "choose --auth accounts or oidc, or say --auth none") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	p := startServe(t, filepath.Join(t.TempDir(), "data"), "--listen", "0.0.0.0:0", "--auth", "accounts")
	p.stop(t)
	if strings.Contains(p.stderr.String(), "other machines") {
		t.Errorf("a server that authenticates says %s", p.stderr)
	}
	p = startServe(t, filepath.Join(t.TempDir(), "data"), "--listen", "0.0.0.0:0", "--auth", "none")
	p.stop(t)
	if !strings.Contains(p.stderr.String(), "other machines can reach the HTTP server") {
		t.Errorf("the log says %s", p.stderr)
	}
}

// The first lines say where everything is, and how to stop it.
func TestGreeting(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServe(t, data)
	printed := p.stop(t)
	for _, want := range []string{
		"documentation  http://" + p.address + "/docs\n", filepath.Join(data, "events") + "\n", filepath.Join(data, "views.db") + "\n", "Asia/Seoul\n", "Ctrl-C",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("no %q in %q", want, printed)
		}
	}
	other := startServe(t, data, "--eventstore", "esdb://admin:changeit@127.0.0.1:1?tls=false")
	if printed := other.stop(t); strings.Contains(printed, "changeit") {
		t.Errorf("printed %q", printed)
	}
}

// A mistake in the command line has an exit code of its own.
func TestUsageExitCode(t *testing.T) {
	for _, args := range [][]string{{"serve", "--listen", "banana"}, {"serve", "--listen", ""}, {"serve", "--node", "[::1]:2113"}, {"srve"}, {"serve", "--nonsense"}} {
		var stderr strings.Builder
		if code := run(t.Context(), args, io.Discard, &stderr); code != exitUsage || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: exit code %d: %s", args, code, &stderr)
		}
	}
}
