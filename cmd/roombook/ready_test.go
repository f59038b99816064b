package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roombook/eventstore/eventstoretest"
)

// ready requests /readyz.
func (p *process) ready(t testing.TB) (status int, body string) {
	t.Helper()
	return p.get(t, "/readyz")
}

func (p *process) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	response, err := http.Get("http://" + p.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// awaitReady waits until the process is ready.
func (p *process) awaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		status, body := p.ready(t)
		if status == http.StatusOK {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not ready: %d %s", status, body)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// nodeOf is the connection string of the node in a data folder.
func nodeOf(t testing.TB, data string) string {
	t.Helper()
	address, err := os.ReadFile(filepath.Join(data, "node.address"))
	if err != nil {
		t.Fatal(err)
	}
	return connectionString(strings.TrimSpace(string(address)))
}

// A process that answers queries is ready once its lists can be read: not while nobody has built any in its folder, for instance because
// it is the wrong folder.
func TestReadyWithLists(t *testing.T) {
	data, other := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "other")
	p := startServe(t, data)
	p.awaitReady(t)

	api := startServe(t, other, "--eventstore", nodeOf(t, data), "--roles", "api")
	for reached := false; !reached; time.Sleep(10 * time.Millisecond) { // a part that does not answer within a second is taken to be away
		status, body := api.ready(t)
		if status != http.StatusServiceUnavailable || !strings.Contains(body, `"lists":{"status":"DOWN"}`) {
			t.Fatalf("without lists: %d %s", status, body)
		}
		reached = strings.Contains(body, `"eventStore":{"status":"UP"}`)
	}
	keeper := startServe(t, other, "--eventstore", nodeOf(t, data), "--roles", "projections")
	api.awaitReady(t)
	keeper.stop(t)
	api.awaitReady(t) // with lists that nobody keeps now
	api.stop(t)
	p.stop(t)
}

// The reply does not say where the event store is; the log does.
func TestReadyNamesNoAddress(t *testing.T) {
	address := eventstoretest.ClosedPort(t)
	p := startServe(t, filepath.Join(t.TempDir(), "data"), "--eventstore", connectionString(address))
	status, body := p.ready(t)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"eventStore":{"status":"DOWN"}`) || strings.Contains(body, "127.0.0.1") {
		t.Errorf("%d %s", status, body)
	}
	p.stop(t)
	if !strings.Contains(p.stderr.String(), `part=eventStore`) || !strings.Contains(p.stderr.String(), address) {
		t.Errorf("the log says %s", p.stderr)
	}
}
