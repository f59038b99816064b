package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A shutdown announces itself once, brings the lists up to date, and logs no warning.
func TestAnOrdinaryStop(t *testing.T) {
	// Under nohup this test would pass SIGHUP on to the program as ignored; a signal that is caught is passed on as usual.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, by := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(by.String(), func(t *testing.T) {
			// A machine that is slow may not bring the lists up to date within the time that a shutdown has, and the log says so. A program
			// that waits for what never comes never does.
			const attempts = 5
			var data, position, behind string
			for attempt := 1; ; attempt++ {
				if data, position, behind = stopOrdinarily(t, by); behind == "" {
					break
				} else if attempt == attempts {
					t.Fatalf("the log says %s", behind)
				}
			}

			// Nobody keeps the lists now, so they are as the shutdown left them.
			api := startServe(t, data, "--roles", "api")
			if all := newCaller(t, api).list(t, "bookingLists", "", position); len(all) != 1 {
				t.Errorf("%d bookings are listed", len(all))
			}
			api.stop(t)
		})
	}
}

// stopOrdinarily stops a program by a signal after a few bookings, and returns its folder, the position of its last event, and what its log
// says if its lists may not be up to date.
func stopOrdinarily(t *testing.T, by os.Signal) (data, position, behind string) {
	data = filepath.Join(t.TempDir(), "data")
	p := startServe(t, data)
	p.awaitReady(t)
	c := newCaller(t, p)
	var made booked
	for i := range 2 {
		if status, _, err := c.call("POST", "/bookings", contested(3*i), nil, &made); err != nil || status != http.StatusCreated {
			t.Fatalf("%d, %v", status, err)
		}
	}
	// The log ends with an event that is in no list: the slot is released.
	status, position, err := c.call("DELETE", "/bookings/"+made.BookingID, "", nil, nil)
	if err != nil || status != http.StatusNoContent {
		t.Fatalf("%d, %v", status, err)
	}
	printed := p.stopBy(t, by)
	if strings.Count(printed, "shutting down") != 1 || !strings.Contains(printed, by.String()) {
		t.Errorf("printed %q", printed)
	}
	if strings.Contains(p.stderr.String(), "up to date") {
		behind = p.stderr.String()
	}
	return data, position, behind
}

// A second signal kills the program while a request holds the shutdown up.
func TestASecondSignal(t *testing.T) {
	p := startServe(t, filepath.Join(t.TempDir(), "data"))
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// "100 Continue" comes when the server waits for the body.
	fmt.Fprintf(c, "POST /bookings HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", p.address)
	if _, err := io.ReadFull(c, make([]byte, len("HTTP/1.1 100"))); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for line := ""; !strings.Contains(line, "shutting down"); {
		if line, err = p.lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // its error is the state
	if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
		t.Errorf("ended by %v", p.cmd.ProcessState)
	}
}

// Once nobody reads standard error any more, the program shuts down.
func TestABrokenStandardError(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t))
	cmd.Stderr = w
	p := startServeBy(t, cmd, filepath.Join(t.TempDir(), "data"), "--log-level", "debug")
	w.Close()
	r.Close()
	response, err := http.Get("http://" + p.address + "/version")
	if err == nil {
		response.Body.Close()
	}
	if printed := p.wait(t); !strings.Contains(printed, "shutting down (nobody reads standard error)") {
		t.Errorf("printed %q", printed)
	}
}

// Under nohup the program survives the end of its terminal.
func TestNohup(t *testing.T) {
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Fatal(err)
	}
	p := startServeBy(t, exec.Command(nohup, program(t)), filepath.Join(t.TempDir(), "data"))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(t)
	if printed := p.stop(t); !strings.Contains(printed, "shutting down (terminated)") {
		t.Errorf("printed %q", printed)
	}
}
