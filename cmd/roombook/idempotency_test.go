package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// keyedRequest is a request with a key and its first reply.
type keyedRequest struct {
	method, path, body string
	key                string
	answer             string
}

// send returns what never changes of the reply: status, headers and body. It names a host of its own, as through a proxy, because
// links begin with the host.
func (c caller) send(t *testing.T, r keyedRequest) string {
	t.Helper()
	request, err := http.NewRequest(r.method, c.base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "rooms.example"
	request.Header.Set("Idempotency-Key", r.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Header.Del("Date")
	response.Header.Del("X-Request-Id")
	var answer strings.Builder
	fmt.Fprintln(&answer, response.Status)
	_ = response.Header.Write(&answer) // a Builder does not fail
	answer.Write(body)
	return answer.String()
}

// TestKeysOutliveTheProgram repeats requests with keys after the program was stopped, after it was killed, and to a second program on
// the same events: each repetition gets the first reply.
func TestKeysOutliveTheProgram(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	t.Setenv(variable("public-url"), "http://rooms.example")
	p := startServe(t, data, "--log-level", "error")
	c := newCaller(t, p)
	var asked []keyedRequest
	ask := func(method, path, body, status string) string {
		t.Helper()
		r := keyedRequest{method: method, path: path, body: body, key: uuid.NewString()}
		r.answer = c.send(t, r)
		if !strings.HasPrefix(r.answer, status) {
			t.Fatalf("%s %s: %s", method, path, r.answer)
		}
		asked = append(asked, r)
		return r.answer
	}
	again := func(when string, c caller) {
		t.Helper()
		for _, r := range asked {
			if got := c.send(t, r); got != r.answer {
				t.Errorf("%s, %s %s is answered\n%s\nand was first\n%s", when, r.method, r.path, got, r.answer)
			}
		}
	}
	id := func(answer, name string) string {
		t.Helper()
		m := regexp.MustCompile(`"` + name + `":"([^"]+)"`).FindStringSubmatch(answer)
		if m == nil {
			t.Fatalf("no %s in %s", name, answer)
		}
		return m[1]
	}
	const body = `{"roomId":1,"useStartDtm":"203001011000","useEndDtm":"203001011100","bookingUserId":7}`

	used := id(ask("POST", "/bookings", body, "201"), "bookingId")
	ask("PATCH", "/confirms/"+used, `{"status":"CONFIRMED"}`, "200")
	ask("PATCH", "/bookings/"+used, `{"useEndDtm":"203001011130"}`, "200")
	p.stop(t)
	p = startServe(t, data, "--log-level", "error")
	c = newCaller(t, p)
	again("after a restart", c)

	use := id(ask("POST", "/realuses", `{"bookingId":"`+used+`"}`, "201"), "realUseId")
	ask("PATCH", "/realuses/"+use, "", "200")
	cancelled := id(ask("POST", "/bookings", body, "201"), "bookingId")
	ask("DELETE", "/bookings/"+cancelled, "", "204")
	p.kill()
	p = startServe(t, data, "--log-level", "error")
	c = newCaller(t, p)
	again("after a kill", c)

	second := startServe(t, filepath.Join(t.TempDir(), "data"), "--eventstore", nodeOf(t, data), "--roles", "api")
	again("by a second program", newCaller(t, second))
	second.stop(t)
	p.awaitReady(t)
	verb(t, "verify", "--data", data)
	p.stop(t)
}
