package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"roombook/commands"
	"roombook/domain"
)

func TestEveryFaultOfABodyIsToldAtOnce(t *testing.T) {
	const (
		anID   = "must be 1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'"
		aTime  = "must be a time like 2026-11-24T09:30:00+09:00 (RFC 3339), or yyyyMMddHHmm or yyyyMMddHHmmss in Asia/Seoul"
		number = "must be a string or a whole number without fraction or exponent"
	)
	for _, tt := range []struct {
		name, body string
		want       []string // "pointer detail"
	}{
		{"nothing given", `{}`, []string{"/roomId must be given", "/bookingUserId must be given", "/useStartDtm must be given", "/useEndDtm must be given"}},
		{"null", `{"roomId":null,"useStartDtm":null,"useEndDtm":null,"bookingUserId":null}`,
			[]string{"/roomId must not be null", "/bookingUserId must not be null", "/useStartDtm must not be null", "/useEndDtm must not be null"}},
		{"other types", `{"roomId":true,"useStartDtm":202611240930,"useEndDtm":[1,{"a":"]"}],"bookingUserId":{"x":[]}}`,
			[]string{"/roomId must be a string or a whole number, not a boolean", "/bookingUserId must be a string or a whole number, not an object", "/useStartDtm must be a string, not a number", "/useEndDtm must be a string, not an array"}},
		{"numbers that are not whole", `{"roomId":1.0,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":1e3}`, []string{"/roomId " + number, "/bookingUserId " + number}},
		{"ids", `{"roomId":"","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"` + strings.Repeat("x", 65) + `"}`, []string{"/roomId " + anID, "/bookingUserId " + anID}},
		{"more ids", `{"roomId":"é","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"a/b"}`, []string{"/roomId " + anID, "/bookingUserId " + anID}},
		{"times", `{"roomId":1,"useStartDtm":"2026-11-24 09:30","useEndDtm":"202613011030","bookingUserId":1}`,
			[]string{"/useStartDtm " + aTime, "/useEndDtm must be a time that exists: there is no such month, day, hour, minute or second"}},
		{"fields that are unknown", `{"a":1,"roomId":1,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":1,"_links":{"self":{}},"a/b~c":"\""}`,
			[]string{"/a is not a field of this request", "/_links is not a field of this request", "/a~1b~0c is not a field of this request"}},
		{"fields given twice", `{"roomId":1,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":1,"roomId":1,"room\u0049d":2}`, []string{"/roomId must be given only once", "/roomId must be given only once"}},
		{"what the policy has against it", `{"roomId":"","useStartDtm":"202611240930","useEndDtm":"202611260930","bookingUserId":1}`,
			[]string{"/roomId " + anID, "/useEndDtm a booking may be at most 24 hours long, this one is 48 hours"}},
		{"the policy alone", `{"roomId":"1","useStartDtm":"202611260930","useEndDtm":"202611240930","bookingUserId":1}`, []string{"/useEndDtm must be after the start"}},
		{"no object", ` [1]`, []string{" must be a JSON object"}},
		{"a string", `"{}"`, []string{" must be a JSON object"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newService(t).do(t, "POST", "/bookings", tt.body).want(t, 422)
			var got []string
			for _, e := range r.at(t, "errors").([]any) {
				e := e.(map[string]any)
				got = append(got, fmt.Sprint(e["pointer"], " ", e["detail"]))
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// A change may leave a start in the past as it is, so that is not reported along with other faults of the body.
func TestAChangeIsNotToldOfThePast(t *testing.T) {
	past := domain.Policy{RefusePast: true}
	s := newService(t, func(o *Options) { o.Policy = past })
	id := s.book(t, `{"roomId":"1","useStartDtm":"202001010930","useEndDtm":"202001011030","bookingUserId":"ann"}`) // before that policy
	s.commands = commands.New(s.log, commands.Options{Policy: past})
	body := func(user string) string {
		return `{"roomId":"1","useStartDtm":"202001010930","useEndDtm":"202001011130","bookingUserId":"` + user + `"}`
	}
	if r := s.do(t, "PUT", "/bookings/"+id, body("")).want(t, 422); strings.Contains(r.body, "in the past") {
		t.Error(r.body)
	}
	if r := s.do(t, "POST", "/bookings", body("")).want(t, 422); !strings.Contains(r.body, "must not be in the past") {
		t.Error(r.body)
	}
	s.do(t, "PUT", "/bookings/"+id, body("ann")).want(t, 200)
	if r := s.do(t, "PATCH", "/bookings/"+id, `{"useStartDtm":"202001010931"}`).want(t, 422); !strings.Contains(r.body, "must not be in the past") {
		t.Error(r.body)
	}
}

func TestABodyOfNothingButFaults(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range 5000 {
		fmt.Fprintf(&b, `"%d":1,`, i)
	}
	b.WriteString(`"x":1}`)
	r := newService(t).do(t, "POST", "/bookings", b.String()).want(t, 422)
	faults := r.at(t, "errors").([]any)
	if last := faults[len(faults)-1].(map[string]any)["detail"]; len(faults) != maxFaults+1 || last != "has more faults than are listed here" {
		t.Errorf("%d faults, the last one %q", len(faults), last)
	}
}

func TestBodiesThatAreNotJSON(t *testing.T) {
	for _, tt := range []struct{ name, body, detail string }{
		{"ends early", "{\n \"roomId\": 1,\n", "Unexpected end of JSON input, at line 3, column 0."},
		{"trailing comma", "{\n \"roomId\": 1,\n}", "Invalid character '}' looking for beginning of object key string, at line 3, column 1."},
		{"trailing data", morning + "{}", "Invalid character '{' after top-level value, at line 1, column 93."},
		{"not UTF-8", "{\"roomId\":\"\xff\"}", "The body is not UTF-8."},
		{"byte-order mark", "\ufeff{}", "Invalid character 'ï' looking for beginning of value, at line 1, column 1."},
		{"blank", " \n", "The body is empty; it must be a JSON object."},
		{"single quotes", "{'a':1}", "Invalid character '\\'' looking for beginning of object key string, at line 1, column 2."},
		{"leading zero", `{"roomId":01}`, "Invalid character '1' after object key:value pair, at line 1, column 12."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newService(t).do(t, "POST", "/bookings", tt.body).want(t, 400)
			if got := r.at(t, "detail"); r.at(t, "type") != "/problems/malformed-body" || got != tt.detail {
				t.Errorf("%s, want %s", r.body, tt.detail)
			}
		})
	}
	newService(t).do(t, "POST", "/bookings", "").want(t, 400)
}

func TestBodySizes(t *testing.T) {
	s := newService(t)
	fill := strings.Repeat(" ", maxBodyBytes-len(morning))
	s.do(t, "POST", "/bookings", morning+fill).want(t, 201)
	r := s.do(t, "POST", "/bookings", morning+fill+" ").want(t, 413)
	if r.at(t, "type") != "/problems/body-too-large" {
		t.Error(r.body)
	}
	// The same without a Content-Length.
	unsized := httptest.NewRequest("POST", "/bookings", bytes.NewReader([]byte(morning+fill+" ")))
	unsized.ContentLength = -1
	unsized.Header.Set("Content-Type", mediaJSON)
	if got := s.serve(unsized); got.status != 413 {
		t.Errorf("status %d without Content-Length", got.status)
	}
}

func TestBodyMediaTypes(t *testing.T) {
	for _, tt := range []struct {
		method, contentType string
		taken               bool
	}{
		{"POST", "application/json", true},
		{"POST", "Application/JSON; charset=UTF-8", true},
		{"POST", "application/hal+json", true},
		{"POST", `application/json; charset="utf-8"`, true},
		{"POST", "application/json; charset=latin1", false},
		{"POST", "application/merge-patch+json", false},
		{"POST", "text/plain", false},
		{"POST", "application/x-www-form-urlencoded", false},
		{"POST", "nonsense; ;", false},
		{"POST", "", false},
		{"PATCH", "application/merge-patch+json", true},
		{"PATCH", "application/json", true},
		{"PATCH", "application/json-patch+json", false},
	} {
		s := newService(t)
		path, body := "/bookings", morning
		if tt.method == "PATCH" {
			path, body = "/bookings/"+s.book(t, morning), "{}"
		}
		r := s.do(t, tt.method, path, body, "Content-Type: "+tt.contentType)
		if taken := r.status < 300; taken != tt.taken {
			t.Errorf("%s as %q: status %d", tt.method, tt.contentType, r.status)
		}
		if !tt.taken && r.at(t, "type") != "/problems/unsupported-media-type" {
			t.Error(r.body)
		}
	}
}

func TestAReasonHasABound(t *testing.T) {
	s := newService(t)
	id := s.book(t, morning)
	deny := func(reason string) reply {
		return s.do(t, "PATCH", "/confirms/"+id, `{"status":"DENIED","reason":"`+reason+`"}`)
	}
	deny(strings.Repeat("ü", maxReasonLength+1)).want(t, 422)
	s.do(t, "PATCH", "/confirms/"+id, `{"status":"DENIED","reason":7}`).want(t, 422)
	deny(`wet\u0007`).want(t, 422)
	want := strings.Repeat("ü", maxReasonLength-3) + `\"\n\\`
	var text string
	if err := json.Unmarshal([]byte(`"`+want+`"`), &text); err != nil {
		t.Fatal(err)
	}
	if got := deny(want).want(t, 200).at(t, "reason"); got != text {
		t.Errorf("reason %q, want %q", got, text)
	}
}

// Whatever the body is, the reply is a 201 or a problem. A body that encoding/json rejects is rejected, too.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		morning, `{}`, ``, `{"roomId":1e3}`, `{"roomId":"\ud800","a":{"b":[1,"}"]}}`, `[{"a":1}]`, `{"a":1,"a":2}`, `{"":null}`,
		`{"roomId":"1","useStartDtm":"19880508020000","useEndDtm":"9999-12-31T23:59:59-23:59","bookingUserId":"x"}`, `{"roomId":"\u0031" , "x" : -0 }`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	s := newService(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/bookings", bytes.NewReader(body))
		r.Header.Set("Content-Type", mediaJSON)
		got := s.serve(r)
		s.checkContract(t, r, got)
		var object map[string]any
		isObject := json.Unmarshal(body, &object) == nil && object != nil
		switch got.status {
		case 201, 409:
			if !isObject {
				t.Errorf("status %d for %q", got.status, body)
			}
		case 422, 413:
		case 400:
			if json.Valid(body) && bytes.Equal(bytes.ToValidUTF8(body, nil), body) {
				t.Errorf("status 400 for %q: %s", body, got.body)
			}
		default:
			t.Errorf("status %d for %q: %s", got.status, body, got.body)
		}
	})
}
