package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A demonstration has a house and bookings, and leaves nothing behind.
func TestDemonstration(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(program(t), "serve", "--demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "ROOMBOOK_LISTEN=127.0.0.1:0")
	p := startCommand(t, cmd)
	for {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the demonstration ended: %s", p.stderr)
		}
		if strings.Contains(line, "the demonstration is there") {
			break
		}
	}
	if made, err := filepath.Glob(filepath.Join(dir, "roombook-demo-*")); err != nil || len(made) != 1 {
		t.Errorf("%v, %v", made, err)
	}
	request, err := http.NewRequest("GET", "http://"+p.address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(reply.Body)
	reply.Body.Close()
	if err != nil || reply.StatusCode != 200 || !strings.Contains(string(body), "<h1>") {
		t.Errorf("%d, %v: %s", reply.StatusCode, err, body)
	}
	p.stop(t)
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// The page's address is one that a browser on this machine can open.
func TestPageAddress(t *testing.T) {
	for at, want := range map[string]string{"127.0.0.1:8080": "http://127.0.0.1:8080/", "[::]:80": "http://localhost:80/", "0.0.0.0:9": "http://localhost:9/", "[::1]:1": "http://[::1]:1/"} {
		address, err := net.ResolveTCPAddr("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if got := pageAddress(address); got != want {
			t.Errorf("%s is %s, want %s", at, got, want)
		}
	}
}
