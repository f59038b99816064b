package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// roomsOf runs a verb on a file of rooms, in a data folder that no other process uses.
func roomsOf(t *testing.T, data, verb, file string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	code = run(t.Context(), []string{"rooms", verb, file, "--data", data}, &out, &log)
	return code, out.String(), log.String()
}

// A house is imported, again without effect, changed, and exported, in both forms and with all that rooms and rules can be; what was exported
// and is imported changes nothing.
func TestRoomsOfAFile(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	wantImport := func(file, want string) {
		t.Helper()
		code, stdout, stderr := roomsOf(t, data, "import", file)
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		if last := lines[len(lines)-1]; code != exitOK || last != want {
			t.Errorf("exit code %d, %s%s\nwant %s", code, stdout, stderr, want)
		}
	}
	list := `
- roomId: 101
  name: Forêt "1; 2"
  building: West
  floor: 3
  capacity: 12
  equipment: [beamer, "board; white"]
  zone: Europe/Berlin
  colour: '#00ff00'
  note: |-
    two
    lines, with a comma
  approvers: [kim, 7]
  rules:
    hours:
      monday: [{from: 08:00, to: '12:00'}, {from: 13:00, to: 24:00}]
      tuesday: [{from: 08:00, to: '12:00'}, {from: 13:00, to: 24:00}]
      thursday: [{from: 00:00, to: 10:00}]
    stepMinutes: 15
    shortestMinutes: 30
    longestMinutes: 240
    gapMinutes: 10
    noticeMinutes: 5
    horizonDays: 60
    approval: none
    earlyUseMinutes: 0
    upcomingPerUser: 3
    weeklyMinutesPerUser: 600
- roomId: plain
  name: Plain
`
	house := write("house.yaml", list)
	wantImport(house, "2 rooms: 2 registered, 0 changed, 0 unchanged")
	wantImport(house, "2 rooms: 0 registered, 0 changed, 2 unchanged")
	wantImport(write("more.csv", "\ufeffroomId,name,capacity\r\nplain,Plain,4\r\nnew,New,\r\n"), "2 rooms: 1 registered, 1 changed, 0 unchanged")
	// A table without rules leaves those that a room has; one with an empty cell takes them away.
	wantImport(write("ruled.csv", "roomId,name,gapMinutes\nnew,New,10\n"), "1 room: 0 registered, 1 changed, 0 unchanged")
	wantImport(write("named.csv", "roomId,name\nnew,New\n"), "1 room: 0 registered, 0 changed, 1 unchanged")
	for _, name := range []string{"out.yaml", "out.csv"} {
		file := filepath.Join(dir, name)
		if code, stdout, stderr := roomsOf(t, data, "export", file); code != exitOK || !strings.HasSuffix(stdout, "out"+filepath.Ext(name)+": 3 rooms\n") {
			t.Errorf("exit code %d, %s%s", code, stdout, stderr)
		}
		if code, _, stderr := roomsOf(t, data, "export", file); code != exitFailed || !strings.Contains(stderr, "exists: name another file") {
			t.Errorf("again: exit code %d, %s", code, stderr)
		}
		wantImport(file, "3 rooms: 0 registered, 0 changed, 3 unchanged")
		// The file makes the same house elsewhere.
		elsewhere := filepath.Join(dir, "elsewhere"+filepath.Ext(name))
		code, stdout, stderr := roomsOf(t, elsewhere, "import", file)
		if code != exitOK || !strings.HasSuffix(stdout, "3 rooms: 3 registered, 0 changed, 0 unchanged\n") {
			t.Errorf("elsewhere: exit code %d, %s%s", code, stdout, stderr)
		}
		again := filepath.Join(dir, "again"+filepath.Ext(name))
		if code, _, stderr := roomsOf(t, elsewhere, "export", again); code != exitOK {
			t.Errorf("exit code %d, %s", code, stderr)
		}
		one, err := os.ReadFile(file)
		other, err2 := os.ReadFile(again)
		if err != nil || err2 != nil || !bytes.Equal(one, other) {
			t.Errorf("%s:\n%s\nelsewhere:\n%s\n%v, %v", name, one, other, err, err2)
		}
	}
	wantImport(write("ruled.csv", "roomId,name,gapMinutes\nnew,New,\n"), "1 room: 0 registered, 1 changed, 0 unchanged")
}

// Every fault of a file is named with its line, and nothing is written.
func TestFaultyRooms(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	for name, test := range map[string]struct {
		text string
		want []string // of each line a part
	}{
		"table.csv": {
			"roomId,name,capacity,hours,wings\na,A,4,monday 08:00-20:00,\n\"b b\",,x,someday,\na,A,4,monday 20:00-08:00,\nc,C\nd,\"D\nD\",,monday,\n",
			[]string{
				"1: there is no column \"wings\"", "3: capacity must be a whole number", "3: hours must be like", "3: roomId must be 1 to 64", "3: name must not be empty",
				"4: hours/monday/0/to must be after from", "4: room a is in line 2 already", "5: has 2 cells, not 5", "6: hours must be like", "6: name must have no control characters",
			},
		},
		"empty.csv":   {"", []string{"1: must name the columns"}},
		"quotes.csv":  {"roomId,name\na,\"A\nb,B\n", []string{"3: extraneous or missing \" in quoted-field"}},
		"list.yaml":   {"- roomId: a\n  name: A\n- roomId: b\n  nme: B\n- roomId: c\n  name: C\n  capacity: many\n- name: [D]\n- 5\n", []string{"3: there is no nme", "5: capacity must be", "8: name is not what it must be", "9: "}},
		"null.yaml":   {"- roomId: a\n  name: A\n- null\n-\n- [b]\n", []string{"3: must be a room", "4: must be a room", "5: must be a room"}},
		"broken.yaml": {"- roomId: a\n  name: 'A\n", []string{": "}},
		"map.yaml":    {"rooms: []\n", []string{"1: must be a list of rooms"}},
		"none.yaml":   {"", []string{"1: must be a list of rooms"}},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := roomsOf(t, data, "import", file)
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		if code != exitFailed || len(lines) != len(test.want) || !strings.Contains(stderr, "nothing was imported") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %s%s", name, code, stdout, stderr)
			continue
		}
		for i, want := range test.want {
			if !strings.HasPrefix(lines[i], file+":") || !strings.Contains(lines[i], want) {
				t.Errorf("%s: %s\nwant %s", name, lines[i], want)
			}
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data folder was made")
	}
	huge := filepath.Join(dir, "huge.csv")
	if err := errors.Join(os.WriteFile(huge, nil, 0o600), os.Truncate(huge, maxRoomFile+1)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"rooms.txt": "must end in", filepath.Join(dir, "missing.csv"): "no such file", huge: "is larger than 64 MiB"} {
		if code, _, stderr := roomsOf(t, data, "import", file); code == exitOK || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %s", file, code, stderr)
		}
	}
}

// Two hundred rooms are set up beside a running server, which has them at once; with --rooms registered it refuses others.
func TestAHouseOfTwoHundredRooms(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p := startServe(t, data, "--rooms", "registered")
	c := newCaller(t, p)
	table := "roomId,name,capacity,gapMinutes\n"
	for i := range 200 {
		table += fmt.Sprintf("room-%d,Room %d,%d,10\n", i, i, 2+i%20)
	}
	file := filepath.Join(dir, "house.csv")
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := roomsOf(t, data, "import", file); code != exitOK || !strings.HasSuffix(stdout, "200 rooms: 200 registered, 0 changed, 0 unchanged\n") {
		t.Fatalf("exit code %d, %s%s", code, stdout, stderr)
	}
	c.bookSome(t, "room-199", 1)
	var problem struct{ Type string }
	status, _, err := c.call("POST", "/bookings", `{"roomId":"elsewhere","useStartDtm":"203001070900","useEndDtm":"203001071000","bookingUserId":"kim"}`, http.Header{}, &problem)
	if err != nil || status != 404 || problem.Type != "/problems/room-not-found" {
		t.Errorf("%d, %+v, %v", status, problem, err)
	}
	p.stop(t)
	if said, well := verified(t, "--data", data); !well {
		t.Error(said)
	}
}
