package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The program knows itself by the names that it was told, and by no other.
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

// Who opens the server to other machines is told that it asks nobody who they are.
func TestAListenerOfAllAddressesIsWarnedAbout(t *testing.T) {
	p := startServe(t, filepath.Join(t.TempDir(), "data"), "--listen", "0.0.0.0:0")
	p.stop(t)
	if !strings.Contains(p.stderr.String(), "other machines can reach the HTTP server") {
		t.Errorf("the log says %s", p.stderr)
	}
}
