package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A backup that is made while others book has every booking that was acknowledged before it began, and a data folder that is made from it
// is a system that is whole, with its lists.
func TestBackupOfARunningProgram(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p := startServe(t, data, "--log-level", "error")
	c := newCaller(t, p)
	before := c.bookSome(t, "before", 20)

	stop, started := make(chan struct{}), make(chan struct{}, 1)
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := client; ; i += 4 {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := c.call("POST", "/bookings", contested(i), nil, nil); err != nil {
					t.Error(err)
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	file := filepath.Join(dir, "rooms.tar.gz")
	verb(t, "backup", file, "--data", data)
	close(stop)
	clients.Wait()
	p.awaitReady(t)
	p.stop(t)
	verb(t, "verify", "--data", data)

	copied := filepath.Join(dir, "copied")
	verb(t, "restore", file, "--data", copied)
	p = startServe(t, copied)
	p.awaitReady(t)
	c = newCaller(t, p)
	for _, id := range append(before, c.bookSome(t, "after", 3)...) {
		if status, _, err := c.call("GET", "/bookings/"+id, "", nil, nil); err != nil || status != http.StatusOK {
			t.Errorf("booking %s: %d, %v", id, status, err)
		}
	}
	p.stop(t)
	verb(t, "verify", "--data", copied)

	// Of a folder that nobody uses, through standard output.
	cmd := exec.CommandContext(t.Context(), program(t), "backup", "-", "--data", copied)
	cmd.Stderr = os.Stderr
	piped, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	restored := exec.CommandContext(t.Context(), program(t), "restore", "-", "--data", filepath.Join(dir, "piped"))
	restored.Stdin = bytes.NewReader(piped)
	if out, err := restored.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// An accident ends in one line that says what to do, and leaves what was there before.
func TestBackupAccidents(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p := startServe(t, data)
	newCaller(t, p).bookSome(t, "1", 2)
	file := filepath.Join(dir, "rooms.tar.gz")
	if err := os.WriteFile(file, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	const noRoom = "-f 1" // 1 KiB
	cmd := limited(t.Context(), t, noRoom, "backup", file, "--data", data)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "roombook: no backup was made: ") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("on a full disk: %v, %s", err, out)
	}
	if kept, err := os.ReadFile(file); err != nil || string(kept) != "an older one" {
		t.Errorf("the older backup is %q, %v", kept, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".rooms*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"backup", filepath.Join(dir, "no", "folder.tar.gz"), "--data", data}, "no such file or directory"},
		{[]string{"backup", file, "--data", filepath.Join(dir, "nothing")}, "there is no data in "},
		{[]string{"restore", file, "--data", data}, "move that folder away"},
		{[]string{"restore", file, "--data", filepath.Join(dir, "new")}, "nothing was restored: "},
		{[]string{"restore", filepath.Join(dir, "nothing"), "--data", filepath.Join(dir, "new")}, "no such file or directory"},
	} {
		out, err := exec.CommandContext(t.Context(), program(t), test.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %v, %s", test.args, err, out)
		}
	}
	p.stop(t)
}
