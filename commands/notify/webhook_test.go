package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"roombook/domain"
)

// receiver is a webhook's receiver on loopback.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	answer func(http.ResponseWriter)
	refuse func(body string) bool // those it is not available for; may be nil
	bodies []string
	heads  []http.Header
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies, r.heads = append(r.bodies, string(body)), append(r.heads, q.Header)
		if r.refuse != nil && r.refuse(string(body)) {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else if r.answer != nil {
			r.answer(w)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(answer func(http.ResponseWriter)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bodies)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func secret(text string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(text)) }

func (r *receiver) options(t *testing.T, secrets ...string) *WebhookOptions {
	t.Helper()
	return &WebhookOptions{URL: r.URL + "/hook?token=hidden", SecretFile: write(t, strings.Join(secrets, "\n")+"\n"), Allow: loopback, Timeout: patience}
}

func newTestWebhook(t *testing.T, o *WebhookOptions) *webhookChannel {
	t.Helper()
	texts, err := readTexts("", seoul, "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newWebhookChannel(*o, texts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A message arrives signed by every secret, as the specification's own library verifies, and with the same id at each attempt.
func TestWebhookIsVerified(t *testing.T) {
	r := newReceiver(t)
	old, renewed := secret("the old secret, 24 bytes"), secret("the new secret, 24 bytes")
	o := r.options(t, old, renewed)
	c := newTestWebhook(t, o)
	if err := c.send(t.Context(), told(domain.KindDenied)); err != nil {
		t.Fatal(err)
	}
	verify := func(n int, secret string) error {
		w, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		return w.Verify([]byte(r.bodies[n]), r.heads[n])
	}
	for _, s := range []string{old, renewed} {
		if err := verify(0, s); err != nil {
			t.Error(err)
		}
	}
	if verify(0, secret("another secret, 24 bytes")) == nil {
		t.Error("another secret verifies it")
	}
	var body struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	if err := json.Unmarshal([]byte(r.bodies[0]), &body); err != nil || body.Type != "notification.denied" || !body.Timestamp.Equal(nine) ||
		body.Data["reason"] != "it is painted" || body.Data["useStartDtm"] != "2026-11-24T09:00:00+09:00" || body.Data["userId"] != "kim" || body.Data["contents"] != told(domain.KindDenied).Sentence() {
		t.Errorf("%s: %v", r.bodies[0], err)
	}
	if err := os.WriteFile(o.SecretFile, []byte(renewed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.send(t.Context(), told(domain.KindDenied)); err != nil {
		t.Fatal(err)
	}
	if verify(1, renewed) != nil || verify(1, old) == nil || r.heads[0].Get("webhook-id") != r.heads[1].Get("webhook-id") || r.heads[0].Get("webhook-id") != string(told("").ID) {
		t.Errorf("after the rotation: %v", r.heads[1])
	}
	changed := told(domain.KindChanged)
	changed.OldRoom, changed.OldSlot = "8", domain.Slot{Start: nine.UTC(), End: ten.UTC()}
	if err := c.send(t.Context(), changed); err != nil || strings.Contains(r.bodies[1], "old") {
		t.Fatalf("%v, after %s", err, r.bodies[1])
	}
	if !strings.Contains(r.bodies[2], `"oldUseStartDtm":"2026-11-24T09:00:00+09:00","oldUseEndDtm":"2026-11-24T10:00:00+09:00"`) {
		t.Errorf("%s", r.bodies[2])
	}
}

// What the receiver answers decides what follows.
func TestWebhookAnswers(t *testing.T) {
	r := newReceiver(t)
	elsewhere := newReceiver(t)
	c := newTestWebhook(t, r.options(t, secret("a secret of 24 bytes ...")))
	for _, test := range []struct {
		status          int
		after           string
		permanent, down bool
		wait            time.Duration
	}{
		{400, "", false, false, 0}, {404, "", false, false, 0}, {500, "", false, false, 0}, {500, "60", false, false, time.Minute}, {502, "", false, true, 0}, {504, "", false, true, 0}, {503, "120", false, true, 2 * time.Minute}, {429, "9999999", false, true, 24 * time.Hour},
		{429, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), false, true, 0}, {302, "", false, false, 0}, {410, "", true, false, 0},
	} {
		r.set(func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL)
			if test.after != "" {
				w.Header().Set("Retry-After", test.after)
			}
			w.WriteHeader(test.status)
			_, _ = w.Write(make([]byte, 1<<20))
		})
		err := c.send(t.Context(), told(domain.KindBooked))
		f := failureOf(err)
		if err == nil || f.permanent != test.permanent || f.down != test.down || f.after != test.wait || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%d: %+v", test.status, f)
		}
	}
	if elsewhere.requests() != 0 {
		t.Error("a redirect was followed")
	}
	r.set(nil)
	before := r.requests()
	if err := c.send(t.Context(), told(domain.KindBooked)); err == nil || !failureOf(err).permanent || r.requests() != before {
		t.Errorf("after 410: %v, %d requests", err, r.requests()-before)
	}
	r.Close()
	c = newTestWebhook(t, r.options(t, secret("a secret of 24 bytes ...")))
	if err := c.send(t.Context(), told(domain.KindBooked)); err == nil || !failureOf(err).down || strings.Contains(err.Error(), "hidden") {
		t.Errorf("no receiver: %v", err)
	}
}

// No message goes to an inner address, by whatever name or form it is called.
func TestWebhookStaysOutside(t *testing.T) {
	r := newReceiver(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(r.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		o := r.options(t, secret("a secret of 24 bytes ..."))
		o.URL, o.Allow = "http://"+host+":"+port, nil
		err := newTestWebhook(t, o).send(t.Context(), told(domain.KindBooked))
		if err == nil || !failureOf(err).permanent || !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if r.requests() != 0 {
		t.Error("it was called")
	}
	for address, want := range map[string]bool{
		"10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "127.0.0.2": false, "0.0.0.0": false, "224.0.0.1": false,
		"255.255.255.255": false, "198.18.0.1": false, "::1": false, "::": false, "fe80::1": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "64:ff9b::a9fe:a9fe": false,
		"2002:a9fe:a9fe::": false, "::127.0.0.1": false, "8.8.8.8": true, "2606:4700:4700::1111": true,
	} {
		if got := public(netip.MustParseAddr(address).Unmap()); got != want {
			t.Errorf("%s is public: %t", address, got)
		}
	}
}

// A receiver that does not answer costs no more than the time-out.
func TestWebhookThatDoesNotAnswer(t *testing.T) {
	r := newReceiver(t)
	let := make(chan struct{})
	defer close(let)
	r.set(func(http.ResponseWriter) { <-let })
	o := r.options(t, secret("a secret of 24 bytes ..."))
	o.Timeout = 50 * time.Millisecond
	if err := newTestWebhook(t, o).send(t.Context(), told(domain.KindBooked)); err == nil || !failureOf(err).down {
		t.Error(err)
	}
}

// The attempts are those of the specification.
func TestWebhookSchedule(t *testing.T) {
	o := newReceiver(t).options(t, secret("a secret of 24 bytes ..."))
	c := newTestWebhook(t, o)
	var all time.Duration
	n := int64(0)
	for {
		pause, more := c.pause(n + 1)
		if n++; !more {
			break
		}
		all += pause
	}
	if n != 10 || all != 75*time.Hour+35*time.Minute+5*time.Second {
		t.Errorf("%d attempts within %s", n, all)
	}
	for secrets, want := range map[string]string{"": "none", "whsec_!!": "line 1", "whsec_": "line 1", secret("a secret of 23 bytes ..") + "\n": "line 1", secret("a secret of 24 bytes ...") + "\n\n?": "line 3"} {
		o.SecretFile = write(t, secrets)
		if _, err := newWebhookChannel(*o, nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "!!") {
			t.Errorf("%q: %v", secrets, err)
		}
	}
	for _, url := range []string{"", "ftp://example.com", "https://", "example.com", "ftp://a:hidden@example.com/hidden?token=hidden#hidden", "example.com/hidden", "https://example.com:hidden/", "htt ps://hidden"} {
		if _, err := newWebhookChannel(WebhookOptions{URL: url, SecretFile: o.SecretFile}, nil); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// A breaker opens after failures in a row, lets one message try, and closes when that succeeds.
func TestBreaker(t *testing.T) {
	b := newBreaker(BreakerOptions{Failures: 2, Delay: 10 * time.Millisecond}, func(circuitbreaker.State, circuitbreaker.State) {})
	attempt := func(f *failure) (probe bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := b.wait(ctx, false); err != nil {
			t.Fatal(err)
		}
		probe, ok := b.try()
		if !ok {
			t.Fatal("no message may try")
		}
		b.record(time.Now(), f)
		return probe
	}
	down, unsent := &failure{err: context.DeadlineExceeded, down: true}, &failure{err: context.DeadlineExceeded, permanent: true, unsent: true}
	for i, test := range []struct {
		failed *failure
		probe  bool
		open   bool
	}{
		{down, false, false}, {nil, false, false}, {down, false, false}, {unsent, false, false}, {down, false, true}, {down, true, true},
		{unsent, true, true}, {nil, true, false}, {down, false, false},
	} {
		if probe := attempt(test.failed); probe != test.probe || b.IsOpen() != test.open || (b.trouble() != nil) != test.open {
			t.Errorf("%d: probe %t, open %t, %v", i, probe, b.IsOpen(), b.trouble())
		}
	}
	if before := b.worked; b.workedSince(before) {
		t.Error("it worked after it did last")
	} else if b.record(time.Now(), unsent); b.workedSince(before) {
		t.Error("what was not sent has shown that the destination works")
	}
	attempt(&failure{err: down, down: true, after: time.Hour})
	b.record(time.Now(), down)        // one that was under way, which is not asked to wait
	time.Sleep(15 * time.Millisecond) // the breaker would let a message try
	waiting, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if b.wait(waiting, false) == nil {
		t.Error("a destination is not left alone for as long as it asks")
	}
	if _, ok := b.try(); ok {
		t.Error("a destination may be tried before the time that it asked for")
	}
	b = newBreaker(BreakerOptions{Failures: 2, Delay: time.Hour}, func(circuitbreaker.State, circuitbreaker.State) {})
	attempt(down)
	attempt(down)
	if _, ok := b.try(); ok {
		t.Error("an open breaker lets a message try")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b.wait(ctx, false) == nil {
		t.Error("an open breaker does not wait")
	}
}
