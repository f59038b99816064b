package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/eventstore/eventstoretest"
)

// listed is how long lists may take to show what they should.
const listed = time.Minute

// bookSome books n slots of a room, one after another, and returns the ids.
func (c caller) bookSome(t *testing.T, room string, n int) (ids []string) {
	t.Helper()
	for i := range n {
		start := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Hour)
		body := fmt.Sprintf(`{"roomId":%q,"useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"kim"}`, room, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339))
		var b booked
		status, _, err := c.call("POST", "/bookings", body, nil, &b)
		if err != nil || status != http.StatusCreated {
			t.Fatalf("booking %d of room %s: %d, %v", i, room, status, err)
		}
		ids = append(ids, b.BookingID)
	}
	return ids
}

// wantListed waits until both lists of bookings have exactly these bookings, and the lists of notifications and rooms can be read.
func (c caller) wantListed(t *testing.T, ids []string) {
	t.Helper()
	want := slices.Sorted(slices.Values(ids))
	var got []string
	for _, name := range []string{"bookingLists", "roomUseLists"} {
		deadline := time.Now().Add(listed)
		for ; ; time.Sleep(5 * time.Millisecond) {
			got = nil
			next := "/" + name + "?size=200"
			for next != "" {
				var page struct {
					Embedded map[string][]booked `json:"_embedded"`
					Links    map[string]struct {
						Href string `json:"href"`
					} `json:"_links"`
				}
				status, _, err := c.call("GET", next, "", nil, &page)
				if err != nil || status != http.StatusOK && status != http.StatusServiceUnavailable {
					t.Fatalf("GET %s: %d, %v", next, status, err)
				}
				for _, b := range page.Embedded[name] {
					got = append(got, b.BookingID)
				}
				next = strings.TrimPrefix(page.Links["next"].Href, c.base)
			}
			slices.Sort(got)
			if slices.Equal(got, want) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has %d bookings, want %d", name, len(got), len(want))
			}
		}
	}
	for _, name := range []string{"notifications", "rooms"} {
		for deadline := time.Now().Add(listed); ; time.Sleep(5 * time.Millisecond) {
			if status, _, err := c.call("GET", "/"+name+"?size=1", "", nil, nil); err != nil || status == http.StatusOK || time.Now().After(deadline) {
				if err != nil || status != http.StatusOK {
					t.Errorf("the %s: %d, %v", name, status, err)
				}
				break
			}
		}
	}
}

// A damaged lists file keeps nobody from booking: the program starts, logs one line that says where the file is now, and rebuilds the
// lists; so does a replay.
func TestDamagedLists(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	views := filepath.Join(data, "views.db")
	damage := func() {
		t.Helper()
		if err := os.WriteFile(views, bytes.Repeat([]byte("rubbish!"), 9999), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := startServe(t, data)
	ids := newCaller(t, p).bookSome(t, "1", 5)
	newCaller(t, p).wantListed(t, ids)
	p.stop(t)

	damage()
	p = startServe(t, data)
	c := newCaller(t, p)
	ids = append(ids, c.bookSome(t, "2", 5)...)
	c.wantListed(t, ids)
	p.stop(t)
	aside, err := filepath.Glob(views + ".damaged-*")
	if err != nil || len(aside) != 1 || strings.Count(p.stderr.String(), aside[0]) != 1 {
		t.Errorf("%v was set aside; standard error says %s", aside, p.stderr)
	}

	damage()
	verb(t, "replay", "--all", "--data", data)
	verb(t, "verify", "--data", data)

	// Somebody removes the file while the program runs.
	p = startServe(t, data)
	c = newCaller(t, p)
	c.wantListed(t, ids)
	if err := os.Remove(views); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, c.bookSome(t, "3", 5)...)
	for deadline := time.Now().Add(listed); ; time.Sleep(5 * time.Millisecond) { // until the program notices, it reads the removed file
		if _, err := os.Stat(views); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the program has not noticed that its file was removed")
		}
	}
	c.wantListed(t, ids)
	p.awaitReady(t)
	p.stop(t)
	verb(t, "verify", "--data", data)
}

// Lists that cannot be opened keep nobody from booking, and are there as soon as they can be opened.
func TestListsThatCannotBeOpened(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	views := filepath.Join(data, "views.db")
	if err := os.MkdirAll(filepath.Join(views, "in-the-way"), 0o750); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, data)
	c := newCaller(t, p)
	ids := c.bookSome(t, "1", 3)
	var problem struct{ Type string }
	if status, _, err := c.call("GET", "/bookingLists", "", nil, &problem); err != nil || status != http.StatusServiceUnavailable || problem.Type != "/problems/lists-unavailable" {
		t.Errorf("the list: %d, %+v, %v", status, problem, err)
	}
	if err := os.RemoveAll(views); err != nil {
		t.Fatal(err)
	}
	c.wantListed(t, ids)
	p.awaitReady(t)
	p.stop(t)
	verb(t, "verify", "--data", data)
}

// restored does what the README says about backups: copies data/events, lets more happen, and puts the copy back. One process owns
// the folder; another one uses its event store all the while.
type restored struct {
	*testing.T
	data, others string // folders
	node         string // address
	owner, other *process
}

func (r *restored) start() caller {
	r.Helper()
	r.owner = startServe(r.T, r.data, "--node", r.node)
	return newCaller(r.T, r.owner)
}

// backup does what the README says: stop, copy, start.
func (r *restored) backup(to string) caller {
	r.Helper()
	r.owner.stop(r.T)
	if err := os.CopyFS(to, os.DirFS(filepath.Join(r.data, "events"))); err != nil {
		r.Fatal(err)
	}
	return r.start()
}

// restore does what the README says: stop, replace the folder by the copy, start.
func (r *restored) restore(from string) caller {
	r.Helper()
	r.owner.stop(r.T)
	events := filepath.Join(r.data, "events")
	if err := os.Rename(events, filepath.Join(r.data, "events.lost")); err != nil {
		r.Fatal(err)
	}
	if err := os.CopyFS(events, os.DirFS(from)); err != nil {
		r.Fatal(err)
	}
	return r.start()
}

func TestBackupAndRestore(t *testing.T) {
	r := &restored{T: t, data: filepath.Join(t.TempDir(), "data"), others: filepath.Join(t.TempDir(), "others"), node: eventstoretest.ClosedPort(t)}
	c := r.start()
	kept := c.bookSome(t, "kept", 6)
	r.other = startServe(t, r.others, "--eventstore", connectionString(r.node), "--roles", "api,projections")
	other := newCaller(t, r.other)
	other.wantListed(t, kept)

	copied := filepath.Join(t.TempDir(), "backup")
	c = r.backup(copied)
	lost := c.bookSome(t, "lost", 9)
	all := append(slices.Clone(kept), lost...)
	c.wantListed(t, all)
	other.wantListed(t, all)

	c = r.restore(copied)
	c.wantListed(t, kept)
	other.wantListed(t, kept)
	// The log grows beyond its former length, so that every position that anybody saw exists again, with another event.
	kept = append(kept, c.bookSome(t, "new", 20)...)
	c.wantListed(t, kept)
	other.wantListed(t, kept)
	awaitVerified(t, "--data", r.data) // lists of which nothing was asked may still be those of the lost log
	awaitVerified(t, "--data", r.others, "--eventstore", connectionString(r.node))
	verb(t, "replay", "--all", "--data", r.others, "--eventstore", connectionString(r.node))
	r.other.stop(t)
	r.owner.stop(t)

	// Now nobody runs who could notice. The lists are those of the lost log, and a replay is all that happens.
	views, err := filepath.Glob(filepath.Join(r.data, "views.db*"))
	if err != nil || len(views) == 0 {
		t.Fatal(views, err)
	}
	c = r.start()
	c.bookSome(t, "lost-too", 5)
	r.owner.stop(t)
	events := filepath.Join(r.data, "events")
	if err := os.RemoveAll(events); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(events, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	verb(t, "replay", "booking_list", "--data", r.data)
	verb(t, "replay", "--all", "--data", r.data)
	verb(t, "verify", "--data", r.data)
}

// awaitVerified waits until verify finds nothing wrong.
func awaitVerified(t *testing.T, args ...string) {
	t.Helper()
	for deadline := time.Now().Add(listed); ; {
		said, well := verified(t, args...)
		if well {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(said)
		}
	}
}
