package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// form sends a form to a screen as a browser does.
func (h *house) form(t testing.TB, path string, values url.Values) {
	t.Helper()
	r, err := http.NewRequest("POST", h.url+path, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if reply.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s: %s", path, reply.Status)
	}
}

// axe finds nothing on any screen, in both languages and themes, and none is wider than a phone.
func TestScreensForAll(t *testing.T) {
	h := open(t, "Asia/Seoul")
	h.form(t, "/house", url.Values{"do": {"sample"}})
	waiting := h.book(t, "library", "09:00", "10:00", "lee")
	confirmed := h.book(t, "harbour", "09:00", "10:00", "lee")
	h.book(t, "library", "14:00", "15:00", "kim")
	browser := chromium(t)
	for _, language := range []string{"en", "ko"} {
		for _, scheme := range []string{"light", "dark"} {
			b := newTab(t, browser, h, language, send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			}))
			b.run(chromedp.Navigate(h.url + "/settings?back=/my"))
			b.eval(`document.getElementById('name').value = 'lee'; document.querySelector('form.form').requestSubmit()`)
			b.until(`location.pathname === '/my'`)
			for _, width := range []int{1280, 390} {
				if width == 390 {
					b.run(phone())
				}
				for name, path := range map[string]string{
					"settings": "/settings", "my": "/my", "approvals": "/approvals", "messages": "/messages", "report": "/report?from=" + day + "&to=" + day, "house": "/house", "house-room": "/house/library",
					"book": "/book?room=atlas", "change": "/bookings/" + waiting + "/change", "waiting": "/bookings/" + waiting + "/page", "confirmed": "/bookings/" + confirmed + "/page",
					"room": "/rooms/library/page?day=" + day, "door": "/rooms/library/door", "none": "/bookings/none/page", "free": "/board?day=" + day + "&from=09:00&to=10:00&capacity=6",
				} {
					b.run(chromedp.Navigate(h.url + path))
					b.until(`document.readyState === 'complete'`)
					b.screenshot(fmt.Sprintf("%s-%s-%s-%d", name, language, scheme, width))
					b.axe()
					if wide := eval[float64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
						t.Errorf("%s is %v pixels wider than a window of %d", path, wide, width)
					}
				}
			}
		}
	}
}
