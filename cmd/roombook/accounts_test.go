package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// commandLine runs a command in this process, with a line at its standard input, and returns what it prints.
func commandLine(t *testing.T, input string, args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, input); err != nil {
		t.Fatal(err)
	}
	w.Close()
	stdin := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = stdin; r.Close() }()
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("roombook %s: exit code %d: %s", strings.Join(args, " "), code, &stderr)
	}
	return stdout.String()
}

// ask sends a request and returns the status, the body and the cookie that the reply sets.
func (p *process) ask(t *testing.T, method, path, body, header string) (status int, answer, cookie string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	cookie, _, _ = strings.Cut(response.Header.Get("Set-Cookie"), ";")
	return response.StatusCode, string(b), "Cookie: " + cookie
}

// The whole program with accounts: the first user is added by the link that is printed once; users and tokens of the command line count at
// once; and a user who is erased is nowhere, in the log, its copies, the lists or the directory, all of which stay in order. What a user does not want to be sent is not.
func TestAccounts(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := startServe(t, data, "--auth", "accounts")
	link := ""
	for link == "" {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), "  "); ok && name == "first user" {
			link = strings.TrimSpace(rest)
		}
	}
	address, code, _ := strings.Cut(link, "#")
	if address != "http://"+p.address+"/setup" {
		t.Errorf("the link is %s", link)
	}
	const password, personal = "correct horse battery", "Zeppelin"
	if status, body, _ := p.ask(t, "POST", "/setup", `{"code":"`+code+`","name":"root","password":"`+password+`"}`, ""); status != 201 {
		t.Fatal(status, body)
	}
	if status, _, _ := p.ask(t, "GET", "/bookings", "", ""); status != 401 {
		t.Errorf("without credentials: %d", status)
	}
	status, body, session := p.ask(t, "POST", "/session", `{"name":"root","password":"`+password+`"}`, "")
	if status != 201 {
		t.Fatal(status, body)
	}
	if status, body, _ := p.ask(t, "GET", "/bookings", "", session); status != 200 {
		t.Error(status, body)
	}

	added := commandLine(t, password+"\n", "user", "add", "annabella", "--full-name", "Annabella "+personal, "--address", "ann@zeppelin.example", "--role", "user,approver", "--rooms", "1,2", "--data", data)
	id := strings.TrimSpace(added[strings.LastIndex(added, " ")+1:])
	if list := commandLine(t, "", "user", "list", "--data", data); !strings.Contains(list, id+"  annabella  user approver (rooms 1 2)  Annabella "+personal+"  ann@zeppelin.example\n") || !strings.HasSuffix(list, "2 users\n") {
		t.Errorf("users\n%s", list)
	}
	token := strings.TrimSpace(commandLine(t, "", "token", "create", "annabella", "--label", "the "+personal+" laptop", "--role", "user", "--data", data))
	bearer := "Authorization: Bearer " + token
	if status, body, _ := p.ask(t, "PATCH", "/users/"+id, `{"withoutMail":["booked"]}`, bearer); status != 200 {
		t.Fatal(status, body)
	}
	status, body, _ = p.ask(t, "POST", "/bookings", `{"roomId":"1","useStartDtm":"203001071000","useEndDtm":"203001071100","bookingUserId":"`+id+`"}`, bearer)
	if status != 201 {
		t.Fatal(status, body)
	}
	var booking struct{ BookingID string }
	if err := json.Unmarshal([]byte(body), &booking); err != nil {
		t.Fatal(err)
	}
	for told := false; !told; time.Sleep(10 * time.Millisecond) {
		_, body, _ := p.ask(t, "GET", "/notifications?bookingId="+booking.BookingID, "", bearer)
		var list struct {
			Embedded struct {
				Notifications []struct {
					Kind, Delivery string
					Attempts       int
				}
			} `json:"_embedded"`
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err, body)
		}
		for _, n := range list.Embedded.Notifications {
			if told = told || n.Kind == "booked" && n.Delivery == "DELIVERED"; n.Kind == "booked" && n.Attempts > 0 {
				t.Errorf("what the user does not want to be sent: %s", body)
			}
		}
	}
	tokens := commandLine(t, "", "token", "list", "annabella", "--data", data)
	if !strings.Contains(tokens, "used 20") || !strings.Contains(tokens, "laptop") || strings.Contains(tokens, token) {
		t.Errorf("tokens\n%s", tokens)
	}

	commandLine(t, "another staple entirely\n", "user", "passwd", "annabella", "--data", data)
	commandLine(t, "", "user", "disable", "annabella", "--data", data)
	if list := commandLine(t, "", "user", "list", "--data", data); !strings.Contains(list, "disabled") {
		t.Errorf("users\n%s", list)
	}
	commandLine(t, "", "user", "disable", "annabella", "--enable", "--data", data)
	commandLine(t, "", "user", "roles", "annabella", "--data", data)
	commandLine(t, "", "user", "change", "annabella", "--language", "ko", "--data", data)
	if status, page, _ := p.ask(t, "GET", "/rooms/1/door", "", ""); status != 200 {
		t.Errorf("a display: %d %s", status, page)
	} else {
		_, code, _ := strings.Cut(page, `<p class="pair-code"><strong>`)
		if paired := commandLine(t, "", "token", "pair", code[:9], "--data", data); !strings.HasPrefix(paired, "the display of room 1 has the token ") {
			t.Error(paired)
		}
	}
	other := strings.TrimSpace(commandLine(t, "", "token", "create", id, "--data", data))
	revoked := strings.Fields(commandLine(t, "", "token", "list", id, "--data", data))[0]
	commandLine(t, "", "token", "revoke", revoked, "--data", data)
	if status, _, _ := p.ask(t, "GET", "/me", "", "Authorization: Bearer "+other); status != 401 {
		t.Errorf("a revoked token: %d", status)
	}
	for range 2 {
		commandLine(t, "", "user", "erase", id, "--data", data)
	}

	// Nothing has any of it, and everything is in order.
	commandLine(t, "", "replay", "--all", "--data", data)
	commandLine(t, "", "verify", "--data", data)
	exported, backup := filepath.Join(t.TempDir(), "rooms.jsonl"), filepath.Join(t.TempDir(), "rooms.tar.gz")
	commandLine(t, "", "export", exported, "--data", data)
	commandLine(t, "", "backup", backup, "--data", data)
	if status, body, _ := p.ask(t, "GET", "/bookings/"+booking.BookingID+"/history", "", session); status != 200 || !strings.Contains(body, id) {
		t.Errorf("the history of a booking of an erased user: %d %s", status, body)
	}
	p.stop(t)
	files := []string{exported, backup}
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	secrets := regexp.MustCompile(`(?i)annabella|zeppelin|laptop|` + password + `|another staple|rbk_`)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".gz") {
			r, err := gzip.NewReader(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if content, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if found := secrets.Find(content); found != nil {
			t.Errorf("%s has %q", file, found)
		}
	}
	if content, err := os.ReadFile(exported); err != nil || !bytes.Contains(content, []byte(id)) || !bytes.Contains(content, []byte("UserErased")) {
		t.Errorf("the export has no events of the user: %v", err)
	}

	// Once there is a user no link is printed.
	again := startServe(t, data, "--auth", "accounts")
	if printed := again.stop(t); strings.Contains(printed, "first user") {
		t.Errorf("printed %s", printed)
	}
}

// A lost directory costs names and sign-ins, and not a single booking.
func TestALostDirectory(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	commandLine(t, "correct horse battery\n", "user", "add", "ann", "--data", data)
	token := strings.TrimSpace(commandLine(t, "", "token", "create", "ann", "--data", data))
	if err := os.Remove(filepath.Join(data, "accounts.db")); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, data, "--auth", "accounts")
	if status, body, _ := p.ask(t, "GET", "/me", "", "Authorization: Bearer "+token); status != 401 {
		t.Errorf("a token that no list shows: %d %s", status, body)
	}
	p.awaitReady(t)
	if _, body := p.ready(t); !strings.Contains(body, `"accounts"`) {
		t.Errorf("readiness does not tell of the directory: %s", body)
	}
	if printed := p.stop(t); !strings.Contains(printed, "first user") {
		t.Errorf("printed %s", printed)
	}
}

// Where users cannot be read when the program starts, it says so in one line.
func TestUsersThatCannotBeRead(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "accounts.db"), []byte("This is no database, and never was one."), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--auth", "accounts", "--data", data, "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0"}
	refused(t, "the users cannot be read: open "+filepath.Join(data, "accounts.db"), append([]string{"serve"}, at...)...)
	refused(t, "roombook user change says where their mail goes", append([]string{"serve", "--directory", "users.yaml"}, at...)...)
}
