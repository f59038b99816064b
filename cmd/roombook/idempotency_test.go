package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// keyedRequest is a request with a key and how it was answered first.
type keyedRequest struct {
	method, path, body string
	key                string
	answer             string
}

// send tells all of the answer that is the same for ever: status, headers and body. The client uses an address of its own choice, as
// through a proxy, for links begin with it.
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

// TestKeysOutliveTheProgram sends requests with keys before and after the program is stopped, and killed, and to a second one over
// the same events: all answers to a key are the same.
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

	node, err := os.ReadFile(filepath.Join(data, "node.address"))
	if err != nil {
		t.Fatal(err)
	}
	second := startServe(t, filepath.Join(t.TempDir(), "data"), "--eventstore", "esdb://"+strings.TrimSpace(string(node))+"?tls=false", "--roles", "api")
	again("by a second program", newCaller(t, second))
	second.stop(t)
	verb(t, "verify", "--data", data)
	p.stop(t)
}
