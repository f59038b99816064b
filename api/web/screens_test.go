package web_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"roombook/api"
	"roombook/commands/accounts"
	directory "roombook/commands/accounts/directory/sqlite"
	"roombook/domain"
	"roombook/eventstore/eventstoretest"
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

// withAccounts makes a house one where people sign in.
func withAccounts(t *testing.T) func(*api.Options) {
	people, err := directory.Open(filepath.Join(t.TempDir(), "accounts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := people.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(o *api.Options) {
		o.Accounts = accounts.New(o.Streams.(accounts.Streams), people, accounts.Options{})
	}
}

// wantLowHead fails the test if the head of a page on a phone has more than two rows.
func (b *tab) wantLowHead() {
	b.t.Helper()
	if height := eval[float64](b, `document.querySelector('.top')?.getBoundingClientRect().height ?? 0`); height >= 3*44 {
		b.t.Errorf("the head is %v pixels high: %s", height, eval[string](b, `location.href`))
	}
}

// as makes somebody the reader of a house.
func (b *tab) as(name string) {
	b.t.Helper()
	b.run(send(network.SetCookie, network.SetCookieParams{Name: "roombook-name", Value: name, URL: b.url}))
}

// wantWhole wants a screen to be no wider than the window, and no choice of it to be cut off.
func (b *tab) wantWhole(screen string) {
	b.t.Helper()
	if wide := eval[float64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		b.t.Errorf("%s: it is %v pixels wider than the window", screen, wide)
	}
	if cut := eval[string](b, `[...document.querySelectorAll('select')].filter(select => {
		const whole = select.cloneNode(true)
		whole.style.cssText = 'position: absolute; width: auto; min-width: 0; max-width: none'
		select.after(whole)
		const width = whole.offsetWidth
		whole.remove()
		return width > select.offsetWidth
	}).map(select => select.name).join()`); cut != "" {
		b.t.Errorf("%s: what can be chosen is cut off: %s", screen, cut)
	}
}

// photograph gives a room a photo with the form of its screen, which then has it, as has the room's own.
func (b *tab) photograph(room string) {
	b.t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 1600, 900))
	for y := range 900 {
		for x := range 1600 {
			m.SetRGBA(x, y, color.RGBA{uint8(200 - y/9), uint8(180 - y/12), uint8(120 + x/20), 255})
		}
	}
	file := filepath.Join(b.t.TempDir(), "room.png")
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(png.Encode(f, m), f.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.run(chromedp.Navigate(b.url + "/house/" + room))
	b.until(`document.readyState === 'complete'`)
	b.run(chromedp.SetUploadFiles("#photo-file", []string{file}))
	b.eval(`document.getElementById('alt').value = 'Shelves behind a long table'; document.querySelector('button[value=photo]').click()`)
	const shown = `document.querySelector('img.photo')?.complete && document.querySelector('img.photo').naturalWidth === 1280 && document.querySelector('img.photo').alt === 'Shelves behind a long table'`
	b.until(`location.search === '?done=room-changed' && ` + shown)
	b.run(chromedp.Navigate(b.url + "/rooms/" + room + "/page"))
	b.until(shown)
}

// axe finds nothing on any screen, in both languages and themes, and none is wider than a phone.
func TestScreensForAll(t *testing.T) {
	empty, signIn, h := open(t, "Asia/Seoul"), open(t, "Asia/Seoul", withAccounts(t)), open(t, "Asia/Seoul")
	h.form(t, "/house", url.Values{"do": {"sample"}})
	waiting := h.book(t, "library", "09:00", "10:00", "lee")
	confirmed := h.book(t, "harbour", "09:00", "10:00", "lee")
	h.book(t, "library", "14:00", "15:00", "kim")
	for i, reason := range []string{"The room is being painted.", "Please take a smaller room."} {
		denied := h.book(t, "maple", fmt.Sprintf("1%d:00", i), fmt.Sprintf("1%d:30", i), "ann")
		h.call(t, "PATCH", "/confirms/"+denied, fmt.Sprintf(`{"status":"DENIED","confirmUserId":"lee","reason":%q}`, reason), 200)
	}
	h.call(t, "POST", "/rooms/garden/closures", `{"startDtm":"202703100900","endDtm":"202703101200","reason":"Carpet cleaning"}`, 201)
	shut, _ := h.call(t, "POST", "/rooms/library/faults", `{"text":"The window does not close."}`, 201)
	h.call(t, "PATCH", "/rooms/library/faults/"+shut["faultId"].(string), `{"status":"SETTLED","note":"A new handle."}`, 200)
	h.call(t, "POST", "/rooms/library/faults", `{"text":"A draught from the door."}`, 201)
	now := time.Now().Truncate(time.Minute)
	for id, length := range map[string]time.Duration{"taken": 45 * time.Minute, "later": 0} {
		h.room(t, id, `{"approval":"none"}`)
		for _, start := range []time.Time{now.Add(length - 45*time.Minute), now.Add(2 * time.Hour)} {
			h.call(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"lee"}`, id, start.Format(time.RFC3339), start.Add(45*time.Minute).Format(time.RFC3339)), 201)
		}
		h.call(t, "POST", "/rooms/"+id+"/faults", `{"text":"The projector has no picture."}`, 201)
	}
	screens := map[string]string{
		"first-run": empty.url + "/", "first-room": empty.url + "/house", "no-bookings": empty.url + "/my", "nothing-to-answer": empty.url + "/approvals", "sign-in": signIn.url + "/signin?back=/my",
	}
	for name, path := range map[string]string{
		"settings": "/settings", "my": "/my", "calendar": "/my?view=calendar&month=" + day[:7], "today": "/my?view=calendar", "approvals": "/approvals", "messages": "/messages", "report": "/report?from=" + day + "&to=" + day, "house": "/house", "house-room": "/house/library",
		"book": "/book?room=atlas", "change": "/bookings/" + waiting + "/change", "waiting": "/bookings/" + waiting + "/page", "confirmed": "/bookings/" + confirmed + "/page",
		"room": "/rooms/library/page?day=" + day, "door": "/rooms/taken/door", "door-free": "/rooms/later/door", "e-ink": "/rooms/later/door?display=e-ink", "lobby": "/lobby", "none": "/bookings/none/page",
		"free": "/board?day=" + day + "&from=09:00&to=10:00&capacity=6", "problems": "/problems", "problem": "/problems/slot-taken",
	} {
		screens[name] = h.url + path
	}
	browser := chromium(t)
	newTab(t, browser, h, "en").photograph("library") // where no other house is asked for what was done in this one
	for _, how := range []struct {
		language, scheme string
		width            int
	}{{"en", "light", 1280}, {"ko", "dark", 1280}, {"ko", "light", 390}, {"en", "dark", 390}} {
		if eventstoretest.Raced && how.width == 390 { // which makes no difference to the server
			continue
		}
		b := newTab(t, browser, h, how.language, send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: how.scheme}},
		}))
		if how.width == 390 {
			b.run(phone())
		}
		b.as("lee")
		for name, address := range screens {
			b.run(chromedp.Navigate(address))
			b.until(`document.readyState === 'complete'`)
			b.screenshot(fmt.Sprintf("%s-%s-%s-%d", name, how.language, how.scheme, how.width))
			b.axe()
			b.wantWhole(fmt.Sprintf("%s, %s, in a window of %d", address, how.language, how.width))
			if how.width == 390 {
				b.wantLowHead()
			}
		}
	}
	t.Run("Accounts", func(t *testing.T) { accountScreens(t, browser) })
	// In the colours of the system a state is still told by its border, and on paper there is nothing to press.
	b := newTab(t, browser, h, "en", send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	}))
	b.as("lee")
	for _, name := range []string{"approvals", "room", "report", "door", "lobby", "waiting"} {
		b.run(chromedp.Navigate(screens[name]))
		b.until(`document.readyState === 'complete'`)
		b.screenshot(name + "-forced")
	}
	if states := eval[int](b, `document.querySelectorAll('.badge.waiting').length`); states != 1 {
		t.Errorf("%d states", states)
	}
	// The documentation is Swagger UI's, below the head that leads back.
	b.run(send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}))
	b.run(chromedp.Navigate(h.url + "/docs"))
	b.until(`document.querySelector('.opblock') && document.querySelector('.top a[href="/"]')`)
	b.screenshot("docs-dark")
	b.run(send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}))
	for _, name := range []string{"free", "room", "my", "waiting"} {
		b.run(chromedp.Navigate(screens[name]))
		b.until(`document.readyState === 'complete'`)
		b.screenshot(name + "-print")
		if seen := eval[int](b, `[...document.querySelectorAll('button:not(.board-block), form, nav, footer')].filter(e => e.checkVisibility()).length`); seen > 0 {
			t.Errorf("%d things to press are on the paper of %s", seen, name)
		}
	}
}

// live waits until the page is told what changes.
func (b *tab) live() {
	b.t.Helper()
	b.until(`performance.getEntriesByType('resource').some(r => r.name.endsWith('/live.js'))`)
	b.eval(`import(performance.getEntriesByType('resource').find(r => r.name.endsWith('/live.js')).name).then(async ({live}) => { while (live.state !== 'live') await new Promise(r => setTimeout(r, 20)) })`)
}

// emulateNetworkConditions is a command that browsers know longer than the one that follows it.
var emulateNetworkConditions = cdp.Command[network.OverrideNetworkStateParams, struct{}]{Method: "Network.emulateNetworkConditions"}

func TestScreensAreLive(t *testing.T) {
	h := open(t, "Asia/Seoul")
	h.form(t, "/house", url.Values{"do": {"sample"}})
	h.room(t, "hall", "")
	browser := chromium(t)

	// The queue is answered by keys, and what others decide or ask for meanwhile is said without taking the focus away.
	t.Run("approvals", func(t *testing.T) {
		first := h.book(t, "library", "09:00", "10:00", "ann")
		other := h.book(t, "library", "11:00", "12:00", "ben")
		b := newTab(t, browser, h, "en")
		h.wantBookings(t, "library", "ann 09:00-10:00, ben 11:00-12:00")
		b.as("lee")
		b.run(chromedp.Navigate(h.url + "/approvals"))
		b.until(`document.readyState === 'complete' && document.querySelectorAll('.queue > li').length === 2`)
		b.key("d")
		b.until(`document.activeElement.id === 'reason' && document.querySelectorAll('.queue :checked').length === 1`)
		b.eval(`document.activeElement.value = ''`) // where the protocol's second event for the key went
		b.key("paint")
		b.live()
		h.call(t, "PATCH", "/confirms/"+other, `{"status":"CONFIRMED","confirmUserId":"kim"}`, 200)
		b.until(`document.querySelector('.queue > .decided .queue-news')?.textContent.startsWith('Confirmed by kim')`)
		h.book(t, "library", "13:00", "14:00", "eve")
		b.until(`!document.getElementById('news').hidden && document.activeElement.id === 'reason' && document.activeElement.value === 'paint'`)
		b.key(kb.Enter)
		b.until(`location.search === '?done=denied' && document.readyState === 'complete' && document.querySelector('#reasons option')?.value === 'paint'`)
		if o, _ := h.call(t, "GET", "/bookingLists/"+first, "", 200); o["confirmReason"] != "paint" || o["confirmUserId"] != "lee" {
			t.Errorf("%v", o)
		}
		b.key("a")
		b.until(`location.search === '?done=confirmed' && document.querySelector('.approvals') === null`)

		// What changes before the page is told of changes is not lost.
		third := h.book(t, "library", "14:00", "15:00", "sam")
		h.wantBookings(t, "library", "ben 11:00-12:00, eve 13:00-14:00, sam 14:00-15:00")
		joinsLate := send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
			document.told = new Promise(go => { document.tell = go })
			for (const [of, name] of [[LockManager, 'request'], [BroadcastChannel, 'addEventListener'], [BroadcastChannel, 'postMessage']]) {
				const call = of.prototype[name]
				of.prototype[name] = async function (...what) { return await document.told, call.apply(this, what) }
			}
		}`})
		late := newTab(t, browser, h, "en", joinsLate)
		late.as("lee")
		late.run(chromedp.Navigate(h.url + "/approvals"))
		late.until(`document.readyState === 'complete' && document.querySelectorAll('.queue > li').length === 1`)
		h.call(t, "PATCH", "/confirms/"+third, `{"status":"CONFIRMED","confirmUserId":"kim"}`, 200)
		late.eval(`document.tell()`)
		late.until(`document.querySelector('.queue > .decided .queue-news')?.textContent.startsWith('Confirmed by kim')`)
		if src := eval[string](late, `[...document.querySelectorAll('script')].at(-1).src`); !strings.HasSuffix(src, "/live.js") {
			t.Errorf("%s may begin to listen too late to what live.js tells", src)
		}

		// Nor is what changes before a tab joins another one, which has shown its page since. More is said to wait only if it does.
		fourth := h.book(t, "library", "16:00", "17:00", "tom")
		second := b.another(browser, "en")
		second.run(joinsLate, chromedp.Navigate(h.url+"/approvals"))
		second.until(`document.readyState === 'complete' && document.querySelectorAll('.queue > li').length === 1`)
		h.call(t, "PATCH", "/confirms/"+fourth, `{"status":"CONFIRMED","confirmUserId":"kim"}`, 200)
		b.run(chromedp.Navigate(h.url + "/approvals"))
		b.live()
		second.eval(`document.tell()`)
		second.until(`document.querySelector('.queue > .decided .queue-news')?.textContent.startsWith('Confirmed by kim')`)
		if eval[bool](second, `!document.getElementById('news').hidden`) {
			t.Error("more bookings are said to wait")
		}
		fifth := h.book(t, "library", "17:00", "18:00", "tom")
		second.run(chromedp.Navigate(h.url + "/approvals"))
		second.until(`document.readyState === 'complete' && document.querySelectorAll('.queue > li').length === 1`)
		h.book(t, "library", "18:00", "19:00", "una")
		b.run(chromedp.Navigate(h.url + "/approvals"))
		b.live()
		second.eval(`document.tell()`)
		second.until(`!document.getElementById('news').hidden && document.querySelector('.queue > li:not(.decided)').dataset.booking === ` + fmt.Sprintf("%q", fifth))
		second.close()

		// A star does not leave the page, and is there when it is loaded again. If it is refused, the page says why.
		b.run(chromedp.Navigate(h.url + "/rooms/library/page"))
		b.until(`document.readyState === 'complete'`)
		b.eval(`document.kept = true`)
		b.run(chromedp.Click(".star"))
		b.until(`document.querySelector('.star').getAttribute('aria-pressed') === 'true' && document.kept`)
		b.run(chromedp.Reload())
		b.until(`document.readyState === 'complete' && !document.kept && document.querySelector('.star').textContent === '★'`)
		b.eval(`document.querySelector('.star').formAction = '/rooms/none/favourite', document.querySelector('.star').value = 'yes'`)
		b.run(chromedp.Click(".star"))
		b.until(`document.readyState === 'complete' && document.querySelector('main').innerText.includes('There is no such room')`)
	})

	// A door shows what was booked elsewhere, by the clock of its room, and says so when it has no news.
	t.Run("door", func(t *testing.T) {
		// It only asks for its page when it is told of something: its clock would soon show it too.
		b := newTab(t, browser, h, "en", in("America/Los_Angeles"), send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `window.setTimeout = (wait => (run, ms, ...values) => ms >= 30_000 ? 0 : wait(run, ms, ...values))(window.setTimeout)`,
		}))
		b.run(chromedp.Navigate(h.url + "/rooms/hall/door"))
		b.live()
		asked := eval[[]int](b, `(() => {
			const open = XMLHttpRequest.prototype.open
			let asked = 0
			XMLHttpRequest.prototype.open = function (...how) { asked++; open.apply(this, how) }
			return ['library', 'hall', 'harbour'].map(roomId => (document.dispatchEvent(new CustomEvent('roombook:change', {detail: {roomId}})), asked))
		})()`)
		if !slices.Equal(asked, []int{0, 1, 1}) {
			t.Errorf("after changes of another room, its own, and another it has asked %v times", asked)
		}
		b.until(`document.querySelector('.door.free')`)
		seoul, err := time.LoadLocation("Asia/Seoul")
		if err != nil {
			t.Fatal(err)
		}
		b.eval(`document.querySelector('.door-clock time').textContent = ''`)
		b.until(`document.querySelector('.door-clock time').textContent`)
		if shown, now := eval[string](b, `document.querySelector('.door-clock time').textContent`), time.Now().In(seoul); shown != now.Format("15:04") && shown != now.Add(-time.Minute).Format("15:04") {
			t.Errorf("the clock shows %s at %s", shown, now)
		}
		now := time.Now()
		b.eval(`XMLHttpRequest.prototype.setRequestHeader = (set => function (...header) { document.asked = header.join(), set.apply(this, header) })(XMLHttpRequest.prototype.setRequestHeader)
			document.addEventListener('roombook:change', e => { document.seen = e.detail.position })`)
		h.call(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":"hall","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"lee"}`, now.Add(-time.Minute).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339)), 201)
		b.until(`document.querySelector('.door.waiting') && document.asked === 'Roombook-Position,' + document.seen`)
		b.live() // it is not about to load once more

		// What it has been told of it waits for, whatever makes it ask again meanwhile: a touch, or a form that was open.
		b.eval(`{
			const {open, setRequestHeader} = XMLHttpRequest.prototype
			document.asks = []
			XMLHttpRequest.prototype.open = function (...how) {
				document.asks.push('')
				this.addEventListener('load', () => { if (document.touch) document.dispatchEvent(new Event('pointerdown')) })
				open.apply(this, how)
			}
			XMLHttpRequest.prototype.setRequestHeader = function (name, value) {
				document.asks.push(document.asks.pop() + value)
				setRequestHeader.call(this, name, value)
			}
			document.tell = detail => document.dispatchEvent(new CustomEvent('roombook:resync', {detail}))
			document.touch = true
			document.told = document.seen
			document.tell({position: document.told})
		}`)
		b.until(`document.asks.length >= 3`)
		b.eval(`document.querySelector('main').dataset.old = 'yes'
			document.touch = false`)
		b.until(`document.querySelector('main').dataset.old === undefined`)
		if other := eval[int](b, `document.asks.filter(position => Number(position) < Number(document.told)).length`); other > 0 {
			t.Errorf("touched meanwhile, it asks %d times without the position that it was told of", other)
		}
		b.eval(`document.tell()`)
		b.until(`document.asks.includes('')`) // it has all of it
		b.eval(`document.asks = []
			document.querySelector('.door-report').open = true
			document.tell({position: document.told})
			document.querySelector('.door-report').open = false
			document.tell()`)
		b.until(`document.asks.some(position => Number(position) >= Number(document.told))`)
		offline := func(is bool) {
			b.run(send(emulateNetworkConditions, network.OverrideNetworkStateParams{Offline: is, DownloadThroughput: -1, UploadThroughput: -1}))
			b.eval(`document.dispatchEvent(new CustomEvent('roombook:resync'))`)
		}
		offline(true)
		b.until(`!document.getElementById('offline').hidden && /^No connection. Last news at \d\d:\d\d.$/.test(document.getElementById('offline').textContent)`)
		b.eval(`window.stays = true`)
		offline(false)
		b.until(`document.getElementById('offline')?.hidden && window.stays`)

		// A fault is reported with two taps, and what is typed meanwhile stays, whatever is news.
		b.run(chromedp.Click(`.door-report summary`))
		b.until(`document.querySelector('.door-report [name=text]').offsetHeight >= 44`)
		b.eval(`document.querySelector('.door-report [name=text]').value = 'a draught'`)
		b.screenshot("door-report")
		b.eval(`document.dispatchEvent(new CustomEvent('roombook:resync'))`)
		h.call(t, "POST", "/rooms/hall/faults", `{"text":"a smell"}`, 201)
		b.eval(`[...document.querySelectorAll('.door-report button')].at(-1).click()`)
		b.until(`document.querySelector('.door-faults')?.textContent === 'Out of order: a smell · a draught' && !document.querySelector('.door-report').open`)

		// It takes over page after page, and holds nothing of them.
		b.live()
		b.soak(10)
		before := b.usage()
		b.soak(50)
		if after := b.usage(); after.exceeds(before) {
			t.Errorf("%+v at first, %+v after 50 pages", before, after)
		}
		// After a deployment it loads itself, with the files that it needs then; and if it is refused, since another page says why.
		for _, status := range []int{200, 403} {
			b.eval(fmt.Sprintf(`window.update = true
				Object.defineProperty(XMLHttpRequest.prototype, 'status', {get: () => %d})
				document.querySelector('link[rel=stylesheet]').href = '/assets/former/page.css'
				document.dispatchEvent(new CustomEvent('roombook:resync'))`, status))
			b.until(`!window.update && document.readyState === 'complete' && document.querySelector('.door-word')`)
			b.live()
		}
	})

	// Only a page that shows what changes has a stream, and a display of electronic ink shows too little.
	t.Run("without a stream", func(t *testing.T) {
		for path, streams := range map[string]bool{
			"/approvals": true, "/lobby": true, "/rooms/hall/door": true, "/rooms/hall/door?display=e-ink": false, "/my": false, "/messages": false, "/report": false, "/house": false,
			"/rooms/hall/page": false, "/book?room=hall": false, "/settings": false, "/problems": false, "/docs": false,
		} {
			reply, err := http.Get(h.url + path)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(reply.Body)
			reply.Body.Close()
			if err != nil || reply.StatusCode != http.StatusOK || strings.Contains(string(text), "/live.js") != streams {
				t.Errorf("%s: %s %v, a stream: %t", path, reply.Status, err, !streams)
			}
		}
	})

	// In a lobby rooms are told from afar, on a large screen in either position, all of them.
	t.Run("lobby", func(t *testing.T) {
		b := newTab(t, browser, h, "en", send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
			window.setTimeout = (wait => (run, ms, ...values) => ms >= 30_000 ? 0 : wait(run, ms, ...values))(window.setTimeout) // it only asks when it is told of something
			const send = XMLHttpRequest.prototype.send
			document.asked = document.answered = 0
			XMLHttpRequest.prototype.send = function () {
				document.asked++
				this.addEventListener('load', () => { if (++document.answered === 2) document.asked2 = document.asked })
				send.call(this)
			}
		}`}))
		for _, size := range [][2]int64{{3840, 2160}, {2160, 3840}} {
			b.run(send(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: size[0], Height: size[1], DeviceScaleFactor: 1}))
			b.run(chromedp.Navigate(h.url + "/lobby"))
			b.until(`document.querySelectorAll('.lobby-room').length > 12`)
			b.screenshot(fmt.Sprintf("lobby-%d", size[0]))
			seen := eval[struct{ Word, Used, Beyond float64 }](b, `({
				Word: parseFloat(getComputedStyle(document.querySelector('.lobby-word')).fontSize),
				Used: document.querySelector('.lobby-room:last-child').getBoundingClientRect().bottom / innerHeight,
				Beyond: document.documentElement.scrollHeight - innerHeight,
			})`)
			if seen.Word < 80 || seen.Used < .9 || seen.Beyond > 0 {
				t.Errorf("on %v words are %v pixels high, rooms use %.2f of the height, and %v pixels are out of sight", size, seen.Word, seen.Used, seen.Beyond)
			}
		}
		// Many changes are two questions: one at once, and one after its answer.
		b.live()
		if n := eval[int](b, `(() => {
			for (let i = 0; i < 50; i++) document.dispatchEvent(new CustomEvent('roombook:change', {detail: {roomId: 'hall'}}))
			return document.asked - document.answered
		})()`); n > 1 {
			t.Errorf("%d questions at once", n)
		}
		b.until(`document.answered >= 2`)
		if n := eval[int](b, `document.asked2`); n > 2 {
			t.Errorf("%d questions", n)
		}
	})
}

// accountScreens is the same for the screens of a server that has accounts, whose first user is added in the browser.
func accountScreens(t *testing.T, browser context.Context) {
	var all *accounts.Accounts
	h := open(t, "Asia/Seoul", withAccounts(t), func(o *api.Options) { all = o.Accounts })
	code, err := all.SetUpCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := newTab(t, browser, h, "en")
	first.run(chromedp.Navigate(h.url + "/setup#" + code))
	fits := func(b *tab, name string) {
		t.Helper()
		b.until(`document.readyState === 'complete'`)
		b.screenshot(name)
		b.axe()
		b.until(`document.documentElement?.scrollWidth <= document.documentElement?.clientWidth`) // a display that is not paired loads again meanwhile
		if !eval[bool](b, `(document.querySelector('.top nav [aria-current]')?.getBoundingClientRect().right ?? 0) <= innerWidth`) {
			t.Errorf("the head of %s does not show where one is", name)
		}
		b.wantLowHead()
	}
	// In the other language there is what was typed, and the code, which is in no address that a server sees.
	fits(first, "setup-en")
	first.fill(map[string]string{"name": "root", "fullName": "Root Kim"})
	first.run(chromedp.Click(".who [name=language]"))
	first.until(`document.readyState === 'complete' && document.documentElement.lang === 'ko' && document.getElementById('name').value === 'root' && document.getElementById('fullName').value === 'Root Kim'`)
	if got := eval[string](first, `document.getElementById('code').value + location.hash + Object.values(sessionStorage)`); !strings.HasPrefix(got, code) || strings.Count(got, code) > 1 {
		t.Errorf("the code is %q", got)
	}
	fits(first, "setup-ko")
	first.fill(map[string]string{"password": "correct horse battery"})
	first.eval(`document.querySelector('main form').requestSubmit()`)
	first.until(`location.pathname === '/signin' && document.querySelector('.done')?.textContent.startsWith('첫 사용자를 추가했습니다.') && document.querySelector('#typed').hidden`)
	root, _, err := all.Users(t.Context(), accounts.Request{Actor: domain.Anyone("test"), At: time.Now()}, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range []string{"en", "ko"} {
		for _, scheme := range []string{"light", "dark"} {
			if eventstoretest.Raced && scheme == "dark" { // nor does this
				continue
			}
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
			b.until(`location.pathname === '/account' && document.readyState === 'complete'`)
			b.eval(`document.querySelector('button[value=create]').click()`)
			b.until(`document.querySelector('.done code')`)
			fits(b, fmt.Sprintf("account-%s-%s", language, scheme))
			b.run(chromedp.Click(".who summary"))
			fits(b, fmt.Sprintf("menu-%s-%s", language, scheme))
			if found := eval[int](b, `[...document.querySelectorAll('.menu :is(a, button)')].filter(e => e.checkVisibility() && e.getBoundingClientRect().left >= 0).length`); found != 3 {
				t.Errorf("the menu has %d of 3 things", found)
			}
			visit("people", "/people")
			visit("person", "/people/"+string(root[0].ID))
			b.eval(`document.querySelector('button[value=link]').click()`)
			b.until(`document.querySelector('.done code')`)
			fits(b, fmt.Sprintf("person-link-%s-%s", language, scheme))
			visit("tokens", "/people/tokens")
			b.fill(map[string]string{"code": "ABCD-1234"})
			if got := eval[string](b, `document.getElementById('code').autocomplete + Object.values(sessionStorage)`); got != "one-time-code" {
				t.Errorf("the code of a display, which is for one time: %q", got)
			}
		}
	}

	// A booking of somebody else can be seen on the board, with a name, and not changed.
	ann, err := all.AddUser(t.Context(), accounts.Request{Actor: domain.Anyone("test"), At: time.Now()}, accounts.NewUser{Name: "ann", Password: "battery staple", Roles: domain.NewRoles(domain.RoleUser)})
	if err != nil {
		t.Fatal(err)
	}
	signedIn := func(name, password string) *tab {
		b := newTab(t, browser, h, "en")
		b.run(chromedp.Navigate(h.url + "/signin?back=/account"))
		if eval[bool](b, `document.querySelector('.top nav, script[src$="live.js"]') !== null`) {
			t.Error("who is not signed in is offered screens, or told of changes")
		}
		b.eval(fmt.Sprintf(`document.getElementById('name').value = %q; document.getElementById('password').value = %q; document.querySelector('form.form').requestSubmit()`, name, password))
		b.until(`location.pathname === '/account' && document.readyState === 'complete'`)
		return b
	}
	b := signedIn("root", "correct horse battery")
	if shown := eval[int](b, `[...document.querySelectorAll('.menu :is(a, button)')].filter(e => e.checkVisibility()).length`); shown != 3 {
		t.Errorf("a wide head has %d of 3 things", shown)
	}
	b.eval(fmt.Sprintf(`(async () => {
		const send = (path, body) => fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)})
		await send('/rooms', {roomId: 'library', name: 'Room library'})
		await send('/bookings', {roomId: 'library', useStartDtm: '%[1]s1000', useEndDtm: '%[1]s1100', bookingUserId: %[2]q})
	})()`, strings.ReplaceAll(day, "-", ""), root[0].ID))
	typedAgain(t, h, b, func() {
		t.Helper()
		if err := all.SignOutEverywhere(t.Context(), accounts.Request{Actor: domain.Anyone("test"), At: time.Now()}, root[0].ID); err != nil {
			t.Fatal(err)
		}
	})
	// Whoever only looks at the form, signed in or no longer so, has not signed out.
	const kept = `Object.keys(sessionStorage).filter(k => k.startsWith('roombook-typed')).length`
	b.run(chromedp.Navigate(h.url + "/house"))
	b.until(`document.readyState === 'complete'`)
	b.fill(map[string]string{"note": "Mind the step."})
	drafts := eval[int](b, kept)
	for _, path := range []string{"/signin", "/signin?done=signed-out", "/signin"} {
		b.run(chromedp.Navigate(h.url + path))
		b.until(`document.readyState === 'complete' && document.getElementById('name')`)
		if n := eval[int](b, kept); n != drafts || n == 0 {
			t.Errorf("%d of %d drafts after opening %s", n, drafts, path)
		}
		if path != "/signin" {
			if err := all.SignOutEverywhere(t.Context(), accounts.Request{Actor: domain.Anyone("test"), At: time.Now()}, root[0].ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.eval(`document.getElementById('name').value = 'root'; document.getElementById('password').value = 'correct horse battery'; document.querySelector('form.form').requestSubmit()`)
	b.until(`location.pathname === '/' && document.readyState === 'complete'`)
	// Whoever signs out leaves nothing typed to who signs in next, and nothing typed by another stays.
	for path, signOut := range map[string]string{
		"/house": `document.querySelector('form[action="/signout"]').requestSubmit()`, "/board": `document.querySelector('form[action="/signout"]').requestSubmit()`,
		"/account": `document.querySelector('button[value=sign-out]').click()`,
	} {
		b.run(chromedp.Navigate(h.url + "/house"))
		b.until(`document.readyState === 'complete'`)
		b.fill(map[string]string{"note": "Mind the step."})
		b.run(chromedp.Navigate(h.url + path))
		b.until(`document.readyState === 'complete' && ` + kept + ` > 0`)
		b.eval(signOut)
		b.until(`location.pathname + location.search === '/signin?done=signed-out' && document.readyState === 'complete'`)
		if n := eval[int](b, kept); n != 0 {
			t.Errorf("%d drafts after signing out at %s", n, path)
		}
		b.eval(`document.getElementById('name').value = 'root'; document.getElementById('password').value = 'correct horse battery'; document.querySelector('form.form').requestSubmit()`)
		b.until(`location.pathname === '/' && document.readyState === 'complete'`)
	}
	b.eval(`document.querySelector('form[action="/signout"]').requestSubmit()`)
	b.until(`location.pathname === '/signin' && document.readyState === 'complete'`)
	b.eval(`sessionStorage.setItem('roombook-typed /account', JSON.stringify({reader: 'root', search: '', forms: {create: {label: 'secret'}}}))`)
	b.eval(`document.getElementById('name').value = 'ann'; document.getElementById('password').value = 'battery staple'; document.querySelector('form.form').requestSubmit()`)
	b.until(`location.pathname === '/board' || location.pathname === '/'`)
	b.run(chromedp.Navigate(h.url + "/account"))
	b.until(`document.readyState === 'complete' && ` + kept + ` === 0`)
	b = signedIn("ann", "battery staple")
	b.board("")
	b.until(`document.querySelector('.board-block.booking') !== null`)
	b.run(chromedp.Click(".board-block.booking"))
	b.until(`document.querySelector('dialog[open]') !== null`)
	if found := eval[string](b, `[...document.querySelectorAll('dialog button, dialog input:not([type=hidden]):not(:disabled)')].map(e => e.textContent).join()`); found != "Close" {
		t.Errorf("to somebody else's booking one is offered %q", found)
	}
	if name := eval[string](b, `document.querySelector('dialog label:last-child input').value`); name != "Root Kim" {
		t.Errorf("the booking is for %q", name)
	}

	// Whoever is signed out is told so in all tabs, and in all of them when they have signed in again in one.
	second := b.another(browser, "en")
	second.board("")
	for _, tab := range []*tab{b, second} {
		tab.live()
	}
	if err := all.SignOutEverywhere(t.Context(), accounts.Request{Actor: domain.Anyone("test"), At: time.Now()}, ann); err != nil {
		t.Fatal(err)
	}
	for _, tab := range []*tab{b, second} {
		tab.until(`document.querySelector('.board-live.stale a')?.textContent === 'Sign in'`)
	}
	second.eval(`document.querySelector('.board-live a').click()`)
	second.until(`location.pathname === '/signin' && document.readyState === 'complete'`)
	second.eval(`document.getElementById('name').value = 'ann'; document.getElementById('password').value = 'battery staple'; document.querySelector('form.form').requestSubmit()`)
	second.until(`location.pathname === '/board' && document.querySelector('.board-live')?.textContent === 'Live'`)
	b.until(`document.querySelector('.board-live').textContent === 'Live'`)
	second.close()
	b.eval(fmt.Sprintf(`fetch('/bookings', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(
		{roomId: 'library', useStartDtm: '%[1]s2000', useEndDtm: '%[1]s2100', bookingUserId: document.documentElement.dataset.reader})})`, strings.ReplaceAll(day, "-", "")))
	b.until(`document.querySelector('.board-block.mine')`)
}

// fill types into fields of a form.
func (b *tab) fill(values map[string]string) {
	b.t.Helper()
	for name, value := range values {
		b.eval(fmt.Sprintf(`(() => {
			const field = document.querySelector('main [name=%q]')
			field.value = %q
			field.dispatchEvent(new Event('input', {bubbles: true}))
		})()`, name, value))
	}
}

// typedAgain ends the session of a tab in the middle of a form and of a dialog, signs in again, and finds what was typed.
func typedAgain(t *testing.T, h *house, b *tab, endSession func()) {
	t.Helper()
	signIn := func() {
		t.Helper()
		b.until(`location.pathname === '/signin' && document.readyState === 'complete'`)
		b.eval(`document.getElementById('name').value = 'root'; document.getElementById('password').value = 'correct horse battery'; document.querySelector('form.form').requestSubmit()`)
	}
	b.run(chromedp.Navigate(h.url + "/house"))
	b.until(`document.readyState === 'complete'`)
	b.fill(map[string]string{"id": "attic", "name": "Attic", "note": "Mind\nyour head."})
	b.run(chromedp.Click(".who [name=language]"))
	there := `document.readyState === 'complete' && !document.getElementById('typed').hidden && ['id', 'name', 'note'].map(n => document.getElementById(n).value).join() === 'attic,Attic,Mind\nyour head.'`
	b.until(there + ` && document.documentElement.lang === 'ko'`)
	b.screenshot("typed-ko")
	b.run(chromedp.Click(".who [name=language]"))
	b.until(there + ` && document.documentElement.lang === 'en'`)
	endSession()
	b.eval(`document.querySelector('button[value=add]').click()`)
	signIn()
	b.until(`location.pathname === '/house' && ` + there)
	b.screenshot("typed")
	b.axe()
	b.eval(`document.getElementById('id').value = 'library', document.querySelector('button[value=add]').click()`)
	b.until(`document.querySelector('.problem') && document.readyState === 'complete'`) // there is a room of this id
	b.eval(`location.assign(location.pathname)`)
	b.until(`document.getElementById('id')?.value === 'library' && document.getElementById('note').value.startsWith('Mind') && !document.getElementById('typed').hidden`)
	b.fill(map[string]string{"id": "attic"})
	b.eval(`document.querySelector('button[value=add]').click()`)
	b.until(`location.pathname === '/house/attic' && document.readyState === 'complete'`)
	b.run(chromedp.Navigate(h.url + "/house"))
	b.until(`document.readyState === 'complete' && document.getElementById('typed').hidden && document.getElementById('id').value === '' && !Object.keys(sessionStorage).some(k => k.startsWith('roombook-typed'))`)

	// What is typed stays with what it is for: a request that is ticked, whichever come before it, and a room and time until another is chosen.
	visit := func(path string) {
		t.Helper()
		b.run(chromedp.Navigate(h.url + path))
		b.until(`document.readyState === 'complete' && typeof document.getElementById('typed').hidden === 'boolean'`)
	}
	visit("/house")
	b.eval(fmt.Sprintf(`(async () => {
		const send = (method, path, body) => fetch(path, {method, headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)})
		for (const [from, to] of [['1500', '1530'], ['1530', '1600'], ['1600', '1630']]) await send('POST', '/bookings', {roomId: 'library', useStartDtm: '%[1]s' + from, useEndDtm: '%[1]s' + to, bookingUserId: document.documentElement.dataset.reader})
		while ((await (await fetch('/approvals')).text()).split('type="checkbox"').length < 5) await new Promise(go => setTimeout(go, 50))
	})()`, strings.ReplaceAll(day, "-", "")))
	visit("/approvals")
	ticked := eval[string](b, `(() => { const box = document.querySelectorAll('.queue input[type=checkbox]')[2]; box.click(); return box.value })()`)
	b.eval(`(async () => {
		await fetch('/confirms/' + document.querySelector('.queue > li').dataset.booking, {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({status: 'CONFIRMED'})})
		while ((await (await fetch('/approvals')).text()).split('type="checkbox"').length > 4) await new Promise(go => setTimeout(go, 50))
	})()`)
	visit("/approvals")
	b.until(fmt.Sprintf(`!document.getElementById('typed').hidden && [...document.querySelectorAll('.queue :checked')].map(e => e.value).join() === %q && document.querySelectorAll('.queue > li').length === 3`, ticked))
	visit("/book?room=library&start=2027-03-10T10:00:00Z&end=2027-03-10T11:00:00Z")
	b.fill(map[string]string{"start": "2027-03-10T08:00"})
	visit("/book?room=library&start=2027-03-11T10:00:00Z&end=2027-03-11T11:00:00Z")
	b.until(`document.getElementById('start').value === '2027-03-11T19:00'`)

	// A star is another form, and does not send what is typed. Nor does a form of the page that did not come, to which one goes back.
	visit("/rooms/library/page")
	b.fill(map[string]string{"text": "The lamp flickers."})
	b.run(chromedp.Click(".star"))
	b.until(`document.querySelector('.star').getAttribute('aria-pressed') === 'true'`)
	visit("/house")
	b.fill(map[string]string{"note": "Mind the step."})
	visit("/rooms/library/page")
	flickers := `document.readyState === 'complete' && document.querySelector('main [name=text]')?.value === 'The lamp flickers.'`
	b.until(flickers)
	b.eval(`document.querySelector('main [name=text]').form.dispatchEvent(new Event('submit')), location.reload()`)
	b.until(`performance.getEntriesByType('navigation')[0].type === 'reload' && ` + flickers)
	b.eval(`document.querySelector('[value=report]').click()`)
	b.until(`document.readyState === 'complete' && document.querySelector('.faults')`)
	visit("/house")
	b.until(`document.getElementById('note').value === 'Mind the step.' && sessionStorage.getItem('roombook-typed /rooms/library/page') === null`)
	// What is typed before the script has run is newer than what was kept.
	b.run(send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `document.addEventListener('readystatechange', () => {
		if (sessionStorage.early) document.getElementById('note').value = sessionStorage.early
		delete sessionStorage.early
	})`}))
	b.eval(`sessionStorage.early = 'Mind the gap.'`)
	visit("/house")
	b.until(`document.getElementById('note').value === 'Mind the gap.'`)

	b.board("")
	x, y := b.point("library", "13:00")
	x2, _ := b.point("library", "14:00")
	b.drag(x, y, x2, y)
	b.until(`document.querySelector('.board-dialog[open]')`)
	b.eval(`(() => { const to = document.querySelector('.board-dialog input[name=to]'); to.value = '14:30'; to.dispatchEvent(new Event('input')) })()`)
	endSession()
	b.submit("")
	b.until(`document.querySelector('.board-problem a')?.textContent === 'Sign in'`)
	b.screenshot("signed-out")
	b.eval(`document.querySelector('.board-problem a').click()`)
	signIn()
	b.until(`location.pathname === '/board' && [...document.querySelectorAll('.board-dialog[open] input[type=time]')].map(i => i.value).join() === '13:00,14:30'`)
	b.submit("")
	b.until(`!document.querySelector('dialog') && [...document.querySelectorAll('.board-block.booking')].some(e => /13:00.14:30/.test(e.getAttribute('aria-label') + e.textContent))`)
}
