package main

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roombook/eventstore/eventstoretest"
)

// healthcheck runs the command and returns its exit code and what it printed.
func healthcheck(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	code = run(t.Context(), append([]string{"healthcheck", "--timeout", "1m"}, args...), &out, &errors)
	return code, out.String(), errors.String()
}

// A server is ready, is alive but not ready, or is not there; the exit code says which of them to restart or to wait for.
func TestHealthcheck(t *testing.T) {
	p := startServe(t, filepath.Join(t.TempDir(), "data"))
	p.awaitReady(t)
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{p.address, ":" + port, "0.0.0.0:" + port} {
		code, said, wrong := healthcheck(t, "--listen", listen)
		for deadline := time.Now().Add(time.Minute); strings.Contains(wrong, "DOWN") && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) { // a part may need more than a second
			code, said, wrong = healthcheck(t, "--listen", listen)
		}
		if code != exitOK || !strings.Contains(said, `"status":"UP"`) {
			t.Errorf("of a server that is ready, at %s: %d, %s%s", listen, code, said, wrong)
		}
	}
	p.stop(t)
	if code, _, wrong := healthcheck(t, "--listen", eventstoretest.ClosedPort(t)); code != exitFailed || !strings.Contains(wrong, "does not answer") {
		t.Errorf("of a server that is not there: %d, %s", code, wrong)
	}

	waiting := startServe(t, filepath.Join(t.TempDir(), "data"), "--eventstore", "esdb://"+eventstoretest.ClosedPort(t)+"?tls=false")
	if code, _, wrong := healthcheck(t, "--listen", waiting.address); code != exitFailed || !strings.Contains(wrong, `"eventStore":{"status":"DOWN"}`) {
		t.Errorf("of a server without its event store: %d, %s", code, wrong)
	}
	if code, said, wrong := healthcheck(t, "--listen", waiting.address, "--live"); code != exitOK {
		t.Errorf("whether it is alive: %d, %s%s", code, said, wrong)
	}
	t.Setenv("ROOMBOOK_LISTEN", waiting.address)
	if code, said, wrong := healthcheck(t, "--live"); code != exitOK {
		t.Errorf("with its address in the environment: %d, %s%s", code, said, wrong)
	}
}
