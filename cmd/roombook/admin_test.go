package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"roombook/eventstore/eventstoretest"
)

// Profiles and metrics have a server of their own, which answers to addresses only; then the HTTP server has no metrics.
func TestAdminListen(t *testing.T) {
	admin := eventstoretest.ClosedPort(t)
	p := startServe(t, filepath.Join(t.TempDir(), "data"), "--admin-listen", admin)
	get := func(url, host string) (status int, body string) {
		t.Helper()
		request, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			request.Host = host
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	for _, test := range []struct {
		url, host string
		status    int
		want      string
	}{
		{"http://" + admin + "/metrics", "", 200, "roombook_eventstore_connections"},
		{"http://" + admin + "/metrics", "", 200, "\nroombook_role{name=\"dispatch\"} 1\n"},
		{"http://" + admin + "/debug/pprof/goroutine?debug=1", "", 200, "goroutine profile"},
		{"http://" + admin + "/debug/pprof/", "localhost", 200, "heap"},
		{"http://" + admin + "/debug/pprof/heap", "evil.example", 421, "by its address"},
		{"http://" + p.address + "/metrics", "", 404, "no-such-path"},
		{"http://" + p.address + "/debug/pprof/", "", 404, "no-such-path"},
		{"http://" + p.address + "/version", "", 200, "version"},
	} {
		if status, body := get(test.url, test.host); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("GET %s: %d, %.300s", test.url, status, body)
		}
	}
	if printed := p.stop(t); !strings.Contains(printed, "http://"+admin+"/debug/pprof/") {
		t.Errorf("printed %s", printed)
	}
}

func TestAdminAddress(t *testing.T) {
	for flag, want := range map[string]string{":6060": "127.0.0.1:6060", "0.0.0.0:6060": "0.0.0.0:6060", "[::1]:6060": "[::1]:6060"} {
		if got := adminAddress(flag); got != want {
			t.Errorf("%s: %s", flag, got)
		}
	}
}
