package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"roombook/api"
	"roombook/commands/accounts"
	directory "roombook/commands/accounts/directory/sqlite"
	"roombook/domain"
	"roombook/eventstore"
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
	t.Run("Accounts", func(t *testing.T) { accountScreens(t, browser) })
}

// accountScreens is the same for the screens of a server that has accounts, whose first user is added in the browser.
func accountScreens(t *testing.T, browser context.Context) {
	people, err := directory.Open(filepath.Join(t.TempDir(), "accounts.db"))
	if err != nil {
		t.Fatal(err)
	}
	var all *accounts.Accounts
	h := open(t, "Asia/Seoul", func(o *api.Options) {
		all = accounts.New(o.Streams.(*eventstore.Store), people, accounts.Options{})
		o.Accounts = all
	})
	t.Cleanup(func() {
		if err := people.Close(); err != nil {
			t.Error(err)
		}
	})
	code, err := all.SetUpCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := newTab(t, browser, h, "en")
	first.run(chromedp.Navigate(h.url + "/setup#" + code))
	first.eval(`document.querySelector('[name=name]').value = 'root'; document.querySelector('[name=password]').value = 'correct horse battery'; document.querySelector('form').requestSubmit()`)
	first.until(`document.querySelector('output').textContent === 'root has been added and can sign in.'`)
	root, _, err := all.Users(t.Context(), accounts.Request{Actor: domain.Anyone("test"), At: time.Now()}, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	fits := func(b *tab, name string) {
		t.Helper()
		b.until(`document.readyState === 'complete'`)
		b.screenshot(name)
		b.axe()
		if wide := eval[float64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
			t.Errorf("%s is %v pixels wider than a phone", name, wide)
		}
	}
	for _, language := range []string{"en", "ko"} {
		for _, scheme := range []string{"light", "dark"} {
			b := newTab(t, browser, h, language, phone(), send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			}))
			visit := func(name, path string) {
				t.Helper()
				b.run(chromedp.Navigate(h.url + path))
				fits(b, fmt.Sprintf("%s-%s-%s", name, language, scheme))
			}
			visit("pair", "/rooms/library/door")
			visit("password", "/password#code")
			if typed := eval[string](b, `document.getElementById('code').value + location.hash`); typed != "code" {
				t.Errorf("the code of the link is %q in the form and the address", typed)
			}
			visit("signin", "/signin?back=/account")
			b.eval(`document.getElementById('name').value = 'root'; document.getElementById('password').value = 'correct horse battery'; document.querySelector('form.form').requestSubmit()`)
			b.until(`location.pathname === '/account'`)
			b.eval(`document.querySelector('button[value=create]').click()`)
			b.until(`document.querySelector('.done code')`)
			fits(b, fmt.Sprintf("account-%s-%s", language, scheme))
			visit("people", "/people")
			visit("person", "/people/"+string(root[0].ID))
			b.eval(`document.querySelector('button[value=link]').click()`)
			b.until(`document.querySelector('.done code')`)
			fits(b, fmt.Sprintf("person-link-%s-%s", language, scheme))
			visit("tokens", "/people/tokens")
		}
	}
}
