package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// caller is a client of a running program.
type caller struct {
	base string
	http *http.Client
}

func newCaller(t testing.TB, p *process) caller {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return caller{"http://" + p.address, &http.Client{Transport: transport, Timeout: listed}}
}

// call sends a request and decodes the JSON of the reply into answer, unless that is nil, or a *booked while the reply is a problem.
func (c caller) call(method, path, body string, header http.Header, answer any) (status int, position string, err error) {
	request, err := http.NewRequest(method, c.base+path, bytes.NewBufferString(body))
	if err != nil {
		return 0, "", err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if body != "" && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if _, wanted := answer.(*booked); wanted && response.StatusCode >= 300 {
		answer = nil
	}
	if err == nil && answer != nil && len(text) > 0 {
		err = json.Unmarshal(text, answer)
	}
	return response.StatusCode, response.Header.Get("Roombook-Position"), err
}

// booked is a booking as lists and single resources show it.
type booked struct {
	BookingID string    `json:"bookingId"`
	RoomID    string    `json:"roomId"`
	Start     time.Time `json:"useStartDtm"`
	End       time.Time `json:"useEndDtm"`
	From      time.Time `json:"bookedUseStartDtm"`
	Status    string    `json:"status"`
}

// list reads all pages of a list, once it has the position, for which a reader of one that is being built has to ask again.
func (c caller) list(t testing.TB, name, query, position string) []booked {
	t.Helper()
	var all []booked
	next := "/" + name + "?size=200" + query
	for deadline := time.Now().Add(listed); next != ""; {
		var page struct {
			Embedded map[string][]booked `json:"_embedded"`
			Links    map[string]struct {
				Href string `json:"href"`
			} `json:"_links"`
		}
		status, _, err := c.call("GET", next, "", http.Header{"Roombook-Position": {position}}, &page)
		if status == http.StatusServiceUnavailable && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil || status != http.StatusOK {
			t.Fatalf("GET %s: %d, %v", next, status, err)
		}
		all = append(all, page.Embedded[name]...)
		next = page.Links["next"].Href
		if len(next) > len(c.base) && next[:len(c.base)] == c.base {
			next = next[len(c.base):]
		}
	}
	return all
}

const collidingRooms = 40

// contested is the body of the i-th request. Each slot of a room is wanted by three of them.
func contested(i int) string {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i/3/collidingRooms) * time.Hour)
	return fmt.Sprintf(`{"roomId":"r%d","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":%d}`,
		i/3%collidingRooms, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339), i)
}

// TestKilledInTheMiddleOfAThousandBookings kills the program while 50 clients make a thousand bookings, three for each slot, and starts
// it again: every booking that got a 201 is there, in every list too, and no slot was given twice.
func TestKilledInTheMiddleOfAThousandBookings(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServe(t, data, "--log-level", "error")
	c := newCaller(t, p)

	var next, answered atomic.Int64
	var mu sync.Mutex
	promised := map[string]booked{}
	var last int
	kill := sync.OnceFunc(p.kill)
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= 1000 {
					return
				}
				var b booked
				status, position, err := c.call("POST", "/bookings", contested(i), nil, &b)
				if err != nil {
					return // the program is gone
				}
				if status == http.StatusCreated {
					at, _ := strconv.Atoi(position)
					mu.Lock()
					promised[b.BookingID] = b
					last = max(last, at)
					mu.Unlock()
				}
				if answered.Add(1) == 400 {
					go kill()
				}
			}
		})
	}
	clients.Wait()
	kill()
	t.Logf("killed after %d answers, %d of them 201, with %d requests sent", answered.Load(), len(promised), min(next.Load(), 1000))
	if len(promised) == 0 || next.Load() >= 1000 && answered.Load() >= 1000 {
		t.Fatal("the kill did not come in the middle")
	}

	p = startServe(t, data, "--log-level", "error")
	c = newCaller(t, p)
	for id, want := range promised {
		var got booked
		status, _, err := c.call("GET", "/bookings/"+id, "", nil, &got)
		if err != nil || status != http.StatusOK || got != want {
			t.Fatalf("promised booking %s: %d, %+v, %v; want %+v", id, status, got, err, want)
		}
	}
	for _, name := range []string{"bookingLists", "roomUseLists"} {
		listed := c.list(t, name, "", strconv.Itoa(last))
		slots := map[string]string{}
		missing := len(promised)
		for _, b := range listed {
			if b.Start.IsZero() {
				b.Start = b.From
			}
			slot := b.RoomID + " " + b.Start.UTC().Format(time.RFC3339)
			if other, taken := slots[slot]; taken {
				t.Errorf("%s: slot %s has bookings %s and %s", name, slot, other, b.BookingID)
			}
			slots[slot] = b.BookingID
			if _, ok := promised[b.BookingID]; ok {
				missing--
			}
		}
		if missing != 0 {
			t.Errorf("%s: %d of %d promised bookings are not listed", name, missing, len(promised))
		}
	}
	told := map[string]bool{}
	for _, n := range c.list(t, "notifications", "", strconv.Itoa(last)) {
		told[n.BookingID] = true
	}
	for id := range promised {
		if !told[id] {
			t.Errorf("there is no notification of promised booking %s", id)
		}
	}

	// Every request is sent again: each slot has one booking, which can be read, whatever the kill left half-finished.
	for i := range 1000 {
		var refusal struct {
			ConflictsWith []booked `json:"conflictsWith"`
		}
		status, _, err := c.call("POST", "/bookings", contested(i), nil, &refusal)
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusCreated:
		case status == http.StatusConflict && len(refusal.ConflictsWith) == 1:
			id := refusal.ConflictsWith[0].BookingID
			if status, _, err := c.call("GET", "/bookings/"+id, "", nil, nil); err != nil || status != http.StatusOK {
				t.Errorf("request %d was refused for booking %s, which answers %d, %v", i, id, status, err)
			}
		default:
			t.Errorf("request %d: %d, conflicts %v", i, status, refusal.ConflictsWith)
		}
	}
	p.awaitReady(t)
	verb(t, "verify", "--data", data) // through the running program
	p.stop(t)
	verb(t, "verify", "--data", data) // on its folder
	verb(t, "replay", "--all", "--data", data)
	verb(t, "verify", "--data", data)
}

// verb runs a command to its end, which must be a success.
func verb(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t), args...).CombinedOutput()
	t.Logf("roombook %s\n%s", strings.Join(args, " "), out)
	if err != nil {
		t.Errorf("roombook %s: %v", strings.Join(args, " "), err)
	}
}
