package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

func TestKeys(t *testing.T) {
	long := strings.Repeat("k", 255)
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
		ok    bool
	}{
		{"none", nil, "", true},
		{"as it is", []string{"8e03978e-40d5-43dd-bc93-6894a57f9324"}, "8e03978e-40d5-43dd-bc93-6894a57f9324", true},
		{"in quotes", []string{`"8e03978e-40d5-43dd-bc93-6894a57f9324"`}, "8e03978e-40d5-43dd-bc93-6894a57f9324", true},
		{"with escapes", []string{`"a\"b\\c"`}, `a"b\c`, true},
		{"of one", []string{"k"}, "k", true},
		{"the longest", []string{long}, long, true},
		{"the longest in quotes", []string{`"` + long + `"`}, long, true},
		{"with other quotes", []string{`a"b'c`}, `a"b'c`, true},
		{"empty", []string{""}, "", false},
		{"empty in quotes", []string{`""`}, "", false},
		{"too long", []string{long + "k"}, "", false},
		{"twice", []string{"a", "b"}, "", false},
		{"twice, joined on the way", []string{"a, b"}, "", false},
		{"twice the same", []string{"a", "a"}, "", false},
		{"with a space", []string{`"a b"`}, "", false},
		{"with a tab", []string{"a\tb"}, "", false},
		{"not ASCII", []string{"schlüssel"}, "", false},
		{"a quote alone", []string{`"`}, "", false},
		{"a quote that is not closed", []string{`"a`}, "", false},
		{"an escape that is none", []string{`"a\b"`}, "", false},
		{"an escape of nothing", []string{`"a\`}, "", false},
		{"an escaped last quote", []string{`"a\"`}, "", false},
		{"with a parameter", []string{`"a";v=1`}, "", false},
		{"a list of strings", []string{`"a","b"`}, "", false},
	} {
		got, err := idempotencyKey(http.Header{"Idempotency-Key": tt.lines})
		if got != tt.want && tt.ok || (err == nil) != tt.ok {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

// An invalid key and an invalid condition are reported together, and nothing is done.
func TestAKeyThatCannotBeOne(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	before := len(s.log.all())
	r := httptest.NewRequest("DELETE", "/bookings/"+id, nil)
	r.Header["Idempotency-Key"] = []string{"a", "b"}
	r.Header["If-Match"] = []string{"3"}
	got := s.serve(r).want(t, 400)
	s.checkContract(t, r, got)
	if got.at(t, "type") != "/problems/invalid-parameters" || !strings.Contains(got.body, `"parameter":"Idempotency-Key"`) || !strings.Contains(got.body, `"parameter":"If-Match"`) {
		t.Error(got.body)
	}
	s.do(t, "POST", "/bookings", strings.Replace(morning, `"1"`, `"2"`, 1), "Idempotency-Key: a b").want(t, 400)
	if after := len(s.log.all()); after != before {
		t.Errorf("%d events were written", after-before)
	}
}

// A body that differs in insignificant white space is the same. Any other difference may have a meaning, and makes it another body.
func TestWhatIsTheSameRequest(t *testing.T) {
	const body = `{"roomId":"1","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann b"}`
	s := newService(t)
	digest := func(method, path, body string) string {
		x := &exchange{r: httptest.NewRequest(method, path, nil), server: s.Server, in: []byte(body)}
		return x.digest()
	}
	want := digest("POST", "/bookings", body)
	if len(want) != 32 {
		t.Errorf("digest %q", want)
	}
	for _, same := range []string{
		" " + body + "\r\n",
		strings.ReplaceAll(body, ",", ",\n\t"),
		strings.ReplaceAll(strings.ReplaceAll(body, ":", " : "), "{", "{ "),
	} {
		if digest("POST", "/bookings", same) != want {
			t.Errorf("another digest for %s", same)
		}
	}
	seen := map[string]string{want: "the request"}
	for _, other := range [][3]string{
		{"POST", "/bookings", strings.Replace(body, "ann b", "ann  b", 1)},
		{"POST", "/bookings", strings.Replace(body, `"1"`, `1`, 1)},
		{"POST", "/bookings", `{"useStartDtm":"202611240930","roomId":"1","useEndDtm":"202611241030","bookingUserId":"ann b"}`},
		{"PUT", "/bookings", body},
		{"POST", "/realuses", body},
		{"PATCH", "/bookings/1", "{}"},
		{"PATCH", "/bookings/2", "{}"},
		{"PATCH", "/bookings/1", ""},
	} {
		d := digest(other[0], other[1], other[2])
		if seen[d] != "" {
			t.Errorf("%v has the digest of %s", other, seen[d])
		}
		seen[d] = fmt.Sprint(other)
	}
}

// replicas are servers that share an event store, each with its own connection and commands.
func replicas(t *testing.T, n int) []*service {
	t.Helper()
	at := eventstoretest.ConnectionString(t)
	services := make([]*service, n)
	for i := range services {
		store, err := eventstore.Open(eventstore.Options{ConnectionString: at})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		services[i] = newService(t, func(o *Options) { o.Commands = commands.New(store, commands.Options{Policy: domain.DefaultPolicy()}) })
	}
	return services
}

// heard is the part of a reply that all attempts of a request with a key have in common.
func (r reply) heard() reply {
	h := r.header.Clone()
	h.Del("X-Request-Id")
	return reply{r.status, h, r.body}
}

// keyedCall is a request with a key, and the first reply to it.
type keyedCall struct {
	method, path, body string
	header             string
	first              reply
}

func (c *keyedCall) send(t *testing.T, s *service, headers ...string) reply {
	t.Helper()
	return s.do(t, c.method, c.path, c.body, append(headers, c.header)...).heard()
}

// conversation is a client that sends all its requests with keys, to alternating servers.
type conversation struct {
	t        *testing.T
	replicas []*service
	calls    []*keyedCall
}

// call sends a request with a new key and wants the status. Then it sends all requests of the conversation again, each to another server
// than before, and wants the replies to be the same.
func (c *conversation) call(method, path, body string, status int, headers ...string) reply {
	c.t.Helper()
	call := &keyedCall{method: method, path: path, body: body, header: "Idempotency-Key: " + uuid.NewString()}
	call.first = call.send(c.t, c.replicas[len(c.calls)%len(c.replicas)], headers...).want(c.t, status)
	c.calls = append(c.calls, call)
	for i, earlier := range c.calls {
		if again := earlier.send(c.t, c.replicas[len(c.calls)%len(c.replicas)]); !reflect.DeepEqual(again, earlier.first) {
			c.t.Errorf("after call %d, call %d, %s %s, is answered\n%v, and was first\n%v", len(c.calls), i+1, earlier.method, earlier.path, again, earlier.first)
		}
	}
	return call.first
}

// Every command in the lives of three bookings gets the same reply for ever: status, headers and body, from every server, whatever the
// bookings' present state. Nothing is written again.
func TestEveryAnswerForEver(t *testing.T) {
	c := &conversation{t: t, replicas: replicas(t, 2)}
	room, room2 := "r-"+uuid.NewString(), "r-"+uuid.NewString()
	body := func(room, from, to, user string) string {
		return fmt.Sprintf(`{"roomId":%q,"useStartDtm":"20261124%s","useEndDtm":"20261124%s","bookingUserId":%q}`, room, from, to, user)
	}
	history := func(id string, want ...string) {
		t.Helper()
		r := c.replicas[0].do(t, "GET", "/bookings/"+id+"/history", "").want(t, 200)
		var types []string
		for _, e := range r.at(t, "_embedded.events").([]any) {
			types = append(types, e.(map[string]any)["type"].(string))
		}
		if !reflect.DeepEqual(types, want) {
			t.Errorf("history %v, want %v", types, want)
		}
	}

	used := c.call("POST", "/bookings", body(room, "0930", "1030", "ann"), 201).at(t, "bookingId").(string)
	c.call("PATCH", "/confirms/"+used, `{"status":"CONFIRMED","confirmUserId":"boss"}`, 200)
	c.call("PATCH", "/bookings/"+used, `{"useEndDtm":"202611241100"}`, 200, `If-Match: "2"`)
	c.call("PATCH", "/confirms/"+used, `{"status":"CONFIRMED"}`, 200)
	c.call("PUT", "/bookings/"+used, body(room2, "0930", "1100", "ann"), 200)
	c.call("PATCH", "/bookings/"+used, `{"bookingUserId":"bob"}`, 200)
	use := c.call("POST", "/realuses", `{"bookingId":"`+used+`"}`, 201).at(t, "realUseId").(string)
	c.call("PATCH", "/confirms/"+used, `{"status":"CONFIRMED"}`, 200) // in use it can still be confirmed
	for _, call := range c.calls {
		if r := c.replicas[0].do(t, "PATCH", "/realuses/"+use, "", call.header); r.status != 422 || r.at(t, "type") != "/problems/key-reused" {
			t.Errorf("the end of the use with the key of %s %s is answered %v", call.method, call.path, r)
		}
	}
	c.call("PATCH", "/realuses/"+use, "", 200)
	history(used, "BookingCreated", "ConfirmRequested", "ConfirmCompleted", "BookingChanged", "ConfirmRequested", "ConfirmCompleted",
		"BookingChanged", "ConfirmRequested", "BookingChanged", "BookingHandedOver", "BookingCheckedIn", "UseStarted", "ConfirmCompleted", "UseEnded", "BookingCancelled")

	c.call("POST", "/bookings", body(room, "0930", "1030", "gus"), 201)
	c.call("POST", "/bookings", body(room, "1000", "1030", "hal"), 409)
	c.call("DELETE", "/bookings/"+used, "", 404)
	cancelled := c.call("POST", "/bookings", body(room2, "1100", "1200", "cy"), 201).at(t, "bookingId").(string)
	c.call("PATCH", "/bookings/"+cancelled, `{"bookingUserId":"cy"}`, 200)
	c.call("PATCH", "/bookings/"+cancelled, `{"bookingUserId":"flo"}`, 412, `If-Match: "7"`)
	if r := c.replicas[0].do(t, "PATCH", "/bookings/"+cancelled, `{"bookingUserId":"ira"}`).want(t, 200); r.at(t, "bookingUserId") != "ira" {
		t.Error(r.body)
	}
	if r := c.call("DELETE", "/bookings/"+cancelled, "", 204, "If-Match: *"); r.header.Get("Roombook-Position") == "" || r.body != "" {
		t.Error(r)
	}
	history(cancelled, "BookingCreated", "ConfirmRequested", "BookingChanged", "BookingHandedOver", "BookingCancelled")

	denied := c.call("POST", "/bookings", body(room2, "1100", "1200", "di"), 201).at(t, "bookingId").(string)
	c.call("PATCH", "/confirms/"+denied, `{"status":"DENIED","reason":"wet paint"}`, 200)
	history(denied, "BookingCreated", "ConfirmRequested", "ConfirmDenied", "BookingCancelled")
	c.call("POST", "/bookings", body(room2, "1100", "1200", "eve"), 201)

	// The same keys, quoted, with other white space, or for another request.
	for i, call := range c.calls {
		s := c.replicas[i%2]
		_, key, _ := strings.Cut(call.header, ": ")
		quoted := *call
		quoted.header = `Idempotency-Key: "` + key + `"`
		if quoted.body != "" {
			quoted.body = " " + strings.ReplaceAll(call.body, ",", ", ") + "\n"
		}
		if again := quoted.send(t, s); !reflect.DeepEqual(again, call.first) {
			t.Errorf("call %d in another form is answered %v", i+1, again)
		}
		if call.method == "DELETE" {
			continue
		}
		other := *call
		switch {
		case call.body == "":
			other.body = "{}"
		case strings.Contains(call.body, `"status":"DENIED"`):
			other.body = `{"status":"CONFIRMED"}`
		case strings.Contains(call.body, `"status"`):
			other.body = `{"status":"DENIED"}`
		case call.path == "/realuses":
			other.body = `{"bookingId":"` + used + `","realUseStartDtm":"202611240931"}`
		default:
			other.body = strings.Replace(strings.Replace(call.body, `"useEndDtm":"2026`, `"useEndDtm":"2027`, 1), `"bookingUserId":"`, `"bookingUserId":"x`, 1)
		}
		if r := other.send(t, s); r.status != 422 || r.at(t, "type") != "/problems/key-reused" {
			t.Errorf("call %d, %s %s, with another body is answered %v", i+1, call.method, call.path, r)
		}
		for _, request := range []keyedCall{
			{method: "DELETE", path: "/bookings/" + used},
			{method: "POST", path: "/realuses", body: `{"bookingId":"` + used + `","realUseStartDtm":null}`},
		} {
			request.header = call.header
			if r := request.send(t, s); r.status != 422 || r.at(t, "type") != "/problems/key-reused" {
				t.Errorf("%s %s with the key of call %d, %s %s, is answered %v", request.method, request.path, i+1, call.method, call.path, r)
			}
		}
	}
}

// A request with a key that many clients send to two servers at once is executed once, and all get the same reply.
func TestOneKeyManyClients(t *testing.T) {
	services := replicas(t, 2)
	room := "r-" + uuid.NewString()
	var booking, use string
	for _, step := range []struct {
		call
		status int
	}{
		{call{"POST", "/bookings", `{"roomId":"` + room + `","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann"}`}, 201},
		{call{"PATCH", "/confirms/{booking}", `{"status":"CONFIRMED"}`}, 200},
		{call{"PATCH", "/bookings/{booking}", `{"useEndDtm":"202611241130"}`}, 200},
		{call{"PUT", "/bookings/{booking}", `{"roomId":"` + room + `x","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"bob"}`}, 200},
		{call{"POST", "/realuses", `{"bookingId":"{booking}"}`}, 201},
		{call{"PATCH", "/realuses/{use}", ""}, 200},
		{call{"POST", "/bookings", `{"roomId":"` + room + `","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann"}`}, 201},
		{call{"DELETE", "/bookings/{booking}", ""}, 204},
		{call{"POST", "/bookings", `{"roomId":"` + room + `","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann"}`}, 201},
		{call{"PATCH", "/confirms/{booking}", `{"status":"DENIED"}`}, 200},
	} {
		ids := strings.NewReplacer("{booking}", booking, "{use}", use)
		key := "Idempotency-Key: " + uuid.NewString()
		answers := make([]reply, 12)
		var clients sync.WaitGroup
		for i := range answers {
			clients.Go(func() {
				answers[i] = services[i%2].do(t, step.method, ids.Replace(step.path), ids.Replace(step.body), key).heard()
			})
		}
		clients.Wait()
		for _, r := range answers {
			if r.want(t, step.status); !reflect.DeepEqual(r, answers[0]) {
				t.Errorf("%s %s is answered\n%v, and\n%v", step.method, step.path, r, answers[0])
			}
		}
		if step.status == 201 {
			booking = answers[0].at(t, "bookingId").(string)
			use, _ = answers[0].at(t, "realUseId").(string)
		}
	}
	history := services[0].do(t, "GET", "/bookings/"+booking+"/history", "").want(t, 200)
	if n := len(history.at(t, "_embedded.events").([]any)); n != 4 {
		t.Error(history.body)
	}
}

// A key is claimed before the request can be refused for anything that may change, such as the resource's revision. So a refusal is
// repeated after such a change, another request with the key is recognized, and a request that was executed is never refused.
func TestARefusalBeforeAnythingIsDecidedHasItsKey(t *testing.T) {
	const owner, other = `{"bookingUserId":"eve"}`, `{"bookingUserId":"flo"}`
	for name, refused := range map[string]struct {
		body   string
		header string
		status int
	}{
		"If-None-Match":     {owner, "If-None-Match: *", 412},
		"a status in vain":  {`{"bookingUserId":"eve","status":"CONFIRMED"}`, "Accept: */*", 422},
		"If-Match, refused": {owner, `If-Match: "77"`, 412},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			path := "/bookings/" + s.book(t, morning)
			first := s.do(t, "PATCH", path, refused.body, refused.header, "Idempotency-Key: k").want(t, refused.status)
			if r := s.do(t, "PATCH", path, other, refused.header, "Idempotency-Key: k").want(t, 422); r.at(t, "type") != "/problems/key-reused" {
				t.Errorf("another request: %s", r.body)
			}
			s.do(t, "PATCH", "/confirms/"+path[len("/bookings/"):], confirmed.body).want(t, 200)
			if again := s.do(t, "PATCH", path, refused.body, "Idempotency-Key: k"); again.status != first.status || again.body != first.body {
				t.Errorf("again: %s, first: %s", again.body, first.body)
			}
		})
	}

	s := newService(t)
	path := "/bookings/" + s.book(t, morning)
	s.do(t, "DELETE", path, "", "Idempotency-Key: done", "If-None-Match: 3").want(t, 400) // no answer to the request, which was none
	for range 2 {
		s.do(t, "DELETE", path, "", "Idempotency-Key: done", `If-None-Match: "77"`).want(t, 204)
	}
}

// A key is not held for ever by a request whose answer cannot be written.
func TestAKeyIsGivenBackIfItsAnswerPanics(t *testing.T) {
	s := furnished(t)
	r := httptest.NewRequest("DELETE", "/bookings/none", nil)
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	r.Header.Set("Idempotency-Key", "k")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no page was written")
			}
		}()
		s.ServeHTTP(panickingWriter{httptest.NewRecorder()}, r)
	}()
	if n := len(s.keys.inUse); n != 0 {
		t.Errorf("%d keys are held", n)
	}
}

type panickingWriter struct{ http.ResponseWriter }

func (panickingWriter) WriteHeader(int) { panic("no such luck") }

// A refusal by the policy is not kept: another server may have another policy.
func TestARefusalByThePolicyIsNotKept(t *testing.T) {
	s := newService(t)
	strict := newService(t, func(o *Options) {
		o.Commands = commands.New(s.log, commands.Options{Policy: domain.Policy{LongestBooking: time.Minute}})
	})
	r := strict.do(t, "POST", "/bookings", morning, "Idempotency-Key: k").want(t, 422)
	if r.at(t, "type") != "/problems/invalid-body" {
		t.Error(r.body)
	}
	if r := strict.do(t, "POST", "/bookings", strings.Replace(morning, "ann", "bob", 1), "Idempotency-Key: k").want(t, 422); r.at(t, "type") != "/problems/key-reused" {
		t.Errorf("another request: %s", r.body)
	}
	first := s.do(t, "POST", "/bookings", morning, "Idempotency-Key: k").want(t, 201)
	if again := strict.do(t, "POST", "/bookings", morning, "Idempotency-Key: k").want(t, 201); again.body != first.body {
		t.Errorf("again: %s, first: %s", again.body, first.body)
	}
}

// A second attempt of a command waits for the first one on the same server and gets the same reply, even if it is a refusal whose cause is
// gone by then.
func TestASecondTryWaitsForTheFirst(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	rival := strings.Replace(morning, `"ann"`, `"eve"`, 1)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.log.setFail(func(context.Context) error {
		once.Do(func() {
			close(reached)
			<-goOn
		})
		return nil
	})
	var first, second reply
	var asking sync.WaitGroup
	asking.Go(func() { first = s.do(t, "POST", "/bookings", rival, "Idempotency-Key: k") })
	<-reached
	asking.Go(func() { second = s.do(t, "POST", "/bookings", rival, "Idempotency-Key: k") })
	close(goOn)
	asking.Wait()
	if first.want(t, 409); second.status != 409 || second.body != first.body {
		t.Errorf("the second try is answered %v, the first %v", second, first)
	}
	s.do(t, "DELETE", "/bookings/"+id, "").want(t, 204)
	if again := s.do(t, "POST", "/bookings", rival, "Idempotency-Key: k"); again.body != first.body {
		t.Errorf("again: %v", again)
	}
	if n := len(s.keys.inUse); n != 0 {
		t.Errorf("%d keys are in use", n)
	}
}

// Digests are stored for ever, so a request's digest must never change. Insignificant white space does not affect it.
func TestADigestStaysWhatItWas(t *testing.T) {
	for _, body := range []string{` { "roomId" : "\u00e9\/<" , "n" : [ 1.0 , -0 ] , "n":1e2 }` + "\n", `{"roomId":"\u00e9\/<","n":[1.0,-0],"n":1e2}`} {
		x := &exchange{r: httptest.NewRequest("POST", "/bookings", nil), in: []byte(body)}
		if got, want := x.digest(), "f84a760b397e0ea9a0df9c559ee391b6"; got != want {
			t.Errorf("digest of %s: %s, want %s", body, got, want)
		}
	}
	x := &exchange{r: httptest.NewRequest("DELETE", "/bookings/1", nil)}
	if got, want := x.digest(), "48d698301e0b0d551e8a26a012d621ed"; got != want {
		t.Errorf("digest without a body: %s, want %s", got, want)
	}
}
