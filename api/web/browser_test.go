package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"roombook/api"
	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/sqlite"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// house is a whole server, with its page.
type house struct {
	url string
}

func open(t testing.TB, zone string, change ...func(*api.Options)) *house {
	t.Helper()
	store := eventstoretest.OpenAlone(t)
	views, err := sqlite.Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	policy := domain.DefaultPolicy()
	if policy.Zone, err = time.LoadLocation(zone); err != nil {
		t.Fatal(err)
	}
	positions := projections.NewPositions()
	workers := projections.NewWorkers(views, store, projections.All(), projections.WorkerOptions{Positions: positions})
	o := api.Options{
		Commands:  commands.New(store, commands.Options{Policy: policy}),
		Lists:     projections.NewQueries(views, projections.QueryOptions{ReadWait: patience, Positions: positions, Policy: policy, Log: store}),
		Streams:   store,
		End:       store.End,
		ReadBack:  store.ReadBack,
		Subscribe: store.Subscribe,
		Policy:    policy,
		Zone:      policy.Zone,
		Timeout:   patience,
	}
	for _, change := range change {
		change(&o)
	}
	server := api.New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = workers.Run(ctx) })
	parts.Go(func() {
		if err := server.Run(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		parts.Wait()
		if err := views.Close(); err != nil {
			t.Error(err)
		}
	})
	return &house{url: "http://" + l.Addr().String()}
}

// call sends a request to the API and returns the answer's body and position. The lists have reached what a command has done.
func (h *house) call(t testing.TB, method, path, body string, status int) (object map[string]any, position string) {
	t.Helper()
	object, position = h.ask(t, method, path, body, status, "")
	if method != "GET" {
		for _, list := range []string{"/rooms", "/bookingLists"} {
			h.ask(t, "GET", list+"?size=1", "", 200, position)
		}
	}
	return object, position
}

// ask sends a request to the API, whose answer is to include everything up to a position.
func (h *house) ask(t testing.TB, method, path, body string, status int, seen string) (object map[string]any, position string) {
	t.Helper()
	r, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if seen != "" {
		r.Header.Set("Roombook-Position", seen)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != status {
		t.Fatalf("%s %s: %s %s %v", method, path, reply.Status, text, err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &object); err != nil {
			t.Fatal(err)
		}
	}
	return object, reply.Header.Get("Roombook-Position")
}

// room registers a room with rules.
func (h *house) room(t testing.TB, id, rules string) {
	t.Helper()
	h.call(t, "POST", "/rooms", fmt.Sprintf(`{"roomId":%q,"name":"Room %s","capacity":8,"building":"B-%s"}`, id, id, id[:1]), 201)
	if rules != "" {
		h.call(t, "PUT", "/rooms/"+id+"/rules", rules, 200)
	}
}

// day is the one that boards of tests show.
const day = "2027-03-10"

func (h *house) book(t testing.TB, room, from, to, user string) (id string) {
	t.Helper()
	o, _ := h.call(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":"%s%s","useEndDtm":"%s%s","bookingUserId":%q}`,
		room, strings.ReplaceAll(day, "-", ""), strings.ReplaceAll(from, ":", ""), strings.ReplaceAll(day, "-", ""), strings.ReplaceAll(to, ":", ""), user), 201)
	return o["bookingId"].(string)
}

// bookings are those of a room, as "user HH:MM-HH:MM".
func (h *house) bookings(t testing.TB, room string) string {
	t.Helper()
	o, _ := h.call(t, "GET", "/bookingLists?sort=useStartDtm&roomId="+room, "", 200)
	var all []string
	for _, item := range o["_embedded"].(map[string]any)["bookingLists"].([]any) {
		b := item.(map[string]any)
		all = append(all, fmt.Sprintf("%s %s-%s", b["bookingUserId"], b["useStartDtm"].(string)[11:16], b["useEndDtm"].(string)[11:16]))
	}
	return strings.Join(all, ", ")
}

// wantBookings waits until a room has these bookings.
func (h *house) wantBookings(t testing.TB, room, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got = h.bookings(t, room); got == want {
			return
		}
	}
	t.Fatalf("room %s has %q, want %q", room, got, want)
}

// chromium runs a browser until the test ends.
func chromium(t testing.TB) context.Context {
	t.Helper()
	binary := os.Getenv("ROOMBOOK_TEST_CHROMIUM")
	if binary == "" {
		binary = "chromium"
	}
	if _, err := exec.LookPath(binary); err != nil {
		t.Fatalf("these tests need a browser: apt-get install chromium, or name one by ROOMBOOK_TEST_CHROMIUM: %v", err)
	}
	// The folder of the browser is one that chromedp makes, and removes also where processes that outlive the browser still write into it.
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.Flag("headless", "new"), chromedp.DisableGPU, chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 800), chromedp.WSURLReadTimeout(patience))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {})) // it does not know all of a newer browser's events
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		closeBrowser()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// send makes an action of a command of the browser's protocol.
func send[P, R any](command cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, command, parameters)
		return err
	})
}

// in is a browser in another zone, and on a phone, one of that size.
func in(zone string) chromedp.Action[chromedp.Void] {
	return send(emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: zone})
}

func phone() chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		send(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 390, Height: 844, DeviceScaleFactor: 1, Mobile: true}),
		send(emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true}))
}

// tab is a tab of a browser. What its pages throw, and what their content security policy forbids, fails the test.
type tab struct {
	t      testing.TB
	ctx    context.Context
	url    string
	closed bool
}

// watch notes what must not be for as long as the tab lives, whatever pages it shows. What a page shows for ten seconds it shows for as long as
// a test may take to look at it.
const watch = `{
	const wait = setTimeout
	window.setTimeout = (run, ms, ...values) => wait(run, ms === 10_000 ? 300_000 : ms, ...values)
	const fault = what => { sessionStorage.faults = (sessionStorage.faults ?? '') + what + '\n' }
	addEventListener('securitypolicyviolation', e => fault('CSP: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber))
	addEventListener('error', e => fault('error: ' + e.message))
	addEventListener('unhandledrejection', e => fault('rejection: ' + (e.reason?.stack ?? e.reason)))
}`

// newTab opens a tab with cookies of its own, as if it were another browser's.
func newTab(t testing.TB, browser context.Context, h *house, language string, actions ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	return openTab(t, ctx, cancel, h.url, language, actions...)
}

// another opens a tab beside one, with the same cookies.
func (b *tab) another(browser context.Context, language string) *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithExistingBrowserContext(chromedp.FromContext(b.ctx).BrowserContextID))
	return openTab(b.t, ctx, cancel, b.url, language)
}

func openTab(t testing.TB, ctx context.Context, cancel context.CancelFunc, url, language string, actions ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	b := &tab{t: t, ctx: ctx, url: url}
	t.Cleanup(func() {
		b.close()
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	b.run(send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch}),
		send(emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: language}),
		send(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: "Mozilla/5.0 (test)", AcceptLanguage: language}))
	b.run(actions...)
	return b
}

// close closes the tab, unless it is closed already.
func (b *tab) close() {
	b.t.Helper()
	if b.closed {
		return
	}
	b.closed = true
	if faults, err := evaluate[string](b, `sessionStorage.faults ?? ''`); err != nil || faults != "" {
		b.t.Error(faults, err)
	}
	if b.t.Failed() {
		b.screenshot(strings.ReplaceAll(b.t.Name(), "/", "-") + "-failed")
	}
	if err := chromedp.Cancel(b.ctx); err != nil {
		b.t.Error(err)
	}
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// board opens a board and waits until its script has drawn it, and knows everything about its rooms.
func (b *tab) board(query string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.url + "/board?day=" + day + "&" + query))
	b.until(`document.querySelector('room-board[ready]') && document.querySelector('.board-live').textContent`)
	// What is pressed then is judged by the rules of the rooms, which come a little later.
	b.until(`(board => board.columns || board.all.length > 12 || board.all.every(r => board.room(r.roomId).rules))(document.querySelector('room-board'))`)
}

// reloaded are the errors of a script whose page is loaded again meanwhile.
var reloaded = []string{"Inspected target navigated", "Cannot find default execution context", "Execution context was destroyed", "Promise was collected"}

// evaluate evaluates a script, and returns its value. A page that is loaded again meanwhile is asked again.
func evaluate[T any](b *tab, js string) (value T, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
		if err == nil || !slices.ContainsFunc(reloaded, func(text string) bool { return strings.Contains(err.Error(), text) }) {
			return value, err
		}
	}
}

// eval is evaluate for a script that must not fail.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	value, err := evaluate[T](b, js)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

func (b *tab) eval(js string) {
	b.t.Helper()
	eval[chromedp.Void](b, js)
}

// until waits for a condition. It does not hold where it cannot be evaluated, as of an element that is not there yet.
func (b *tab) until(condition string) {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		if eval[bool](b, `(() => { try { return Boolean(`+condition+`) } catch { return false } })()`) {
			return
		}
	}
	b.t.Fatalf("never: %s\n%s", condition, eval[string](b, `document.body.innerText.slice(0, 1500) + sessionStorage.faults`))
}

// offline cuts a tab off from the network, or connects it again.
func offline(is bool) chromedp.Action[chromedp.Void] {
	type conditions struct { // of a command that newer browsers have in parts
		Offline            bool `json:"offline"`
		Latency            int  `json:"latency"`
		DownloadThroughput int  `json:"downloadThroughput"`
		UploadThroughput   int  `json:"uploadThroughput"`
	}
	return chromedp.Steps(
		send(network.Enable, network.EnableParams{}),
		send(cdp.Command[conditions, cdp.Empty]{Method: "Network.emulateNetworkConditions"}, conditions{is, 0, -1, -1}))
}

// wantStreams waits until the server has so many streams of changes.
func (h *house) wantStreams(t testing.TB, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		reply, err := http.Get(h.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), `roombook_http_in_flight{kind="stream"} `)
		if got, _, _ = strings.Cut(rest, "\n"); got == want {
			return
		}
	}
	t.Fatalf("%s streams, want %s", got, want)
}

// wantTargets fails the test for what can be tapped and is less than 44 pixels high.
func (b *tab) wantTargets() {
	b.t.Helper()
	for _, small := range eval[[]string](b, `[...document.querySelectorAll('main :is(button, select, input, .button, .board-room, .board-hours a, .board-actions a)')]
		.filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 44).map(e => e.outerHTML.slice(0, 120) + ' ' + e.getBoundingClientRect().height)`) {
		b.t.Error(small)
	}
}

// point is where a time is on the lane of a room.
func (b *tab) point(room, clock string) (x, y float64) {
	b.t.Helper()
	at := eval[struct{ X, Y float64 }](b, fmt.Sprintf(`(() => {
		const row = [...document.querySelectorAll('.board-row')].find(r => r.querySelector('.board-room a').textContent === 'Room %s')
		const lane = row.querySelector('.board-lane').getBoundingClientRect()
		const {from, to} = document.querySelector('room-board').dataset
		const [h, m] = '%s'.split(':').map(Number)
		return {X: lane.left + lane.width * (h * 60 + m - from) / (to - from), Y: lane.top + lane.height / 2}
	})()`, room, clock))
	return at.X, at.Y
}

// drag drags the mouse by way of a few points.
func (b *tab) drag(fromX, fromY, toX, toY float64) {
	b.t.Helper()
	b.mouse(input.DispatchMouseEventTypeMousePressed, fromX, fromY)
	for i := 1; i <= 8; i++ {
		part := float64(i) / 8
		b.mouse(input.DispatchMouseEventTypeMouseMoved, fromX+(toX-fromX)*part, fromY+(toY-fromY)*part)
	}
	b.mouse(input.DispatchMouseEventTypeMouseReleased, toX, toY)
}

func (b *tab) mouse(kind input.DispatchMouseEventType, x, y float64) {
	b.t.Helper()
	b.run(send(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1}))
}

func (b *tab) key(keys string, modifiers ...chromedp.Modifier) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...)))
}

// submit sends the open dialog, for a user.
func (b *tab) submit(user string) {
	b.t.Helper()
	b.until(`document.querySelector('.board-dialog[open] button[type=submit]')`)
	b.eval(fmt.Sprintf(`(() => {
		const user = document.querySelector('.board-dialog input[name=user]')
		if (%q) user.value = %[1]q
		document.querySelector('.board-dialog button[type=submit]').click()
	})()`, user))
}

// screenshot keeps a picture of the whole page in the folder that ROOMBOOK_TEST_SCREENSHOTS names, if it names one.
func (b *tab) screenshot(name string) {
	dir := os.Getenv("ROOMBOOK_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// axe fails the test for everything that axe-core finds. The race detector looks at the server, to which that makes no difference.
func (b *tab) axe() {
	b.t.Helper()
	if eventstoretest.Raced {
		return
	}
	script, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		b.t.Fatal(err)
	}
	found := eval[[]string](b, string(script)+`; axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.slice(0, 4).map(n => n.target + ' ' + (n.any[0]?.message ?? '')).join('; ')))`)
	for _, f := range found {
		b.t.Error(f)
	}
}

func (h *house) visible(booking string) string {
	return fmt.Sprintf(`document.querySelector('.board-block[data-id="%s"]')`, booking)
}

func TestBoard(t *testing.T) {
	h := open(t, "Asia/Seoul")
	browser := chromium(t)
	const house = "building=B-"

	t.Run("mouse", func(t *testing.T) {
		h.room(t, "a1", `{"stepMinutes":15}`)
		h.room(t, "a2", "")
		h.book(t, "a1", "13:00", "14:00", "bob")
		b := newTab(t, browser, h, "en")
		b.board(house + "a")

		// A drag may be over before a frame is drawn.
		x, y := b.point("a1", "10:02")
		x2, _ := b.point("a1", "11:03")
		b.eval(fmt.Sprintf(`for (const [type, x] of [['pointerdown', %v], ['pointermove', %[2]v], ['pointerup', %[2]v]]) {
			document.elementFromPoint(x, %[3]v).dispatchEvent(new PointerEvent(type, {bubbles: true, clientX: x, clientY: %[3]v}))
		}`, x, x2, y))
		b.until(`[...document.querySelectorAll('.board-dialog[open] input[type=time]')].map(i => i.value).join() === '10:00,11:00'`)
		b.key(kb.Escape)
		b.until(`!document.querySelector('.board-dialog')`)

		// What is drawn stops at the neighbour.
		b.drag(x, y, x2, y)
		b.submit("ann")
		h.wantBookings(t, "a1", "ann 10:00-11:00, bob 13:00-14:00")
		b.until(`!document.querySelector('dialog[open]') && document.querySelectorAll('.board-block.booking').length === 2`)

		x, y = b.point("a1", "10:30")
		x2, y2 := b.point("a2", "15:31")
		b.drag(x, y, x2, y2)
		h.wantBookings(t, "a2", "ann 15:00-16:00")
		shown := `[...document.querySelectorAll('.board-row')].map(r => r.querySelectorAll('.booking').length).join()`
		b.until(`document.querySelector('.board-toast').textContent.includes('Changed') && ` + shown + ` === '1,1'`)
		b.eval(`document.querySelector('.board-toast button').click()`)
		h.wantBookings(t, "a1", "ann 10:00-11:00, bob 13:00-14:00")

		b.until(shown + ` === '2,0'`)
		x, y = b.point("a1", "11:00")
		x2, _ = b.point("a1", "14:30")
		b.drag(x-4, y, x2, y)
		h.wantBookings(t, "a1", "ann 10:00-13:00, bob 13:00-14:00")

		// A press that hardly moves is a click.
		b.until(`document.querySelector('.board-toast button')`)
		x, y = b.point("a1", "13:30")
		b.drag(x, y, x+3, y)
		b.until(`document.querySelector('.board-dialog[open] h2')`)
	})

	t.Run("keyboard", func(t *testing.T) {
		h.room(t, "b1", "")
		h.room(t, "b2", "")
		b := newTab(t, browser, h, "en")
		b.board(house + "b")
		b.eval(`document.querySelector('.board-scroll').focus()`)
		b.key(kb.ArrowRight) // to the first slot
		b.key(kb.ArrowDown)
		for range 4 {
			b.key(kb.ArrowRight)
		}
		b.until(`document.querySelector('.board-spoken').textContent.includes('Room b2') && document.querySelector('.board-spoken').textContent.includes('09:00')`)
		b.key("f")
		b.until(`document.querySelector('.board-spoken').textContent.includes('Room b2 is a favourite')`)
		b.key(kb.Enter)
		b.until(`document.querySelector('.board-dialog[open]')`)
		b.eval(`document.querySelector('.board-dialog input[name=user]').focus()`)
		b.key("ann")
		b.key(kb.Enter)
		h.wantBookings(t, "b2", "ann 09:00-10:00")
		b.until(`document.activeElement.className === 'board-scroll' && document.querySelector('.booking')`)
		for range 2 {
			b.key(kb.ArrowRight, chromedp.ModifierAlt)
		}
		b.key(kb.ArrowUp, chromedp.ModifierAlt)
		x, y := b.point("b2", "15:00") // a mouse that is nudged does not take over
		b.mouse(input.DispatchMouseEventTypeMouseMoved, x, y)
		b.eval(`new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))`)
		b.key(kb.Enter)
		h.wantBookings(t, "b1", "ann 09:30-10:30")
		b.until(`document.querySelectorAll('.board-row')[0].querySelector('.booking')`)
		b.key(kb.ArrowRight, chromedp.ModifierAlt, chromedp.ModifierCtrl)
		b.key(kb.Enter)
		h.wantBookings(t, "b1", "ann 09:30-10:45")
		b.key(kb.ArrowRight, chromedp.ModifierAlt)
		b.key(kb.Escape)
		b.until(`document.querySelector('.board-ghost')?.hidden !== false`)
		b.key("?")
		b.until(`document.querySelector('.board-dialog[open] dl')`)
		// The room that became a favourite is the only one, until its star is pressed again.
		star := func(favourite string) {
			t.Helper()
			b.eval(`fetch('/rooms/b1/favourite', {method: 'POST', body: new URLSearchParams({favourite: '` + favourite + `'})})`)
		}
		star("yes")
		b.board(house + "b")
		b.until(`[...document.querySelectorAll('.board-row .star')].map(s => s.textContent).join() === '★,★'`)
		star("no")
		b.board(house + "b&favourites=1")
		b.until(`[...document.querySelectorAll('.board-row')].map(r => r.querySelector('.board-room a').textContent + r.querySelector('.star').textContent).join() === 'Room b2★'`)
		b.run(chromedp.Click(".board-room .star"))
		b.until(`document.querySelector('.star[aria-pressed=false]') && document.querySelector('.board-spoken').textContent.includes('no favourite')`)
		b.run(chromedp.Navigate(h.url + "/board?favourites=1"))
		b.until(`document.readyState === 'complete' && !document.querySelector('.star')`)
	})

	t.Run("touch", func(t *testing.T) {
		h.room(t, "c1", "")
		h.room(t, "c2", "")
		h.book(t, "c2", "09:00", "09:15", "eve")
		h.book(t, "c2", "09:45", "10:00", "eve")
		// A tap is two commands of the protocol, between which more time may pass than the 300 ms that make a long press: that is told.
		b := newTab(t, browser, h, "ko", phone(), send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `window.setTimeout = (wait => (run, ms, ...values) => ms === 300 ? (window.hold = run, 0) : wait(run, ms, ...values))(window.setTimeout)`,
		}))
		b.board(house + "c")
		touch := func(kind input.DispatchTouchEventType, points ...*input.TouchPoint) {
			t.Helper()
			b.run(send(input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: kind, TouchPoints: append([]*input.TouchPoint{}, points...)}))
		}
		b.eval(`document.querySelector('.board-scroll').scrollLeft = 0`)
		tap := func(x, y float64) {
			touch(input.DispatchTouchEventTypeTouchStart, &input.TouchPoint{X: x, Y: y})
			touch(input.DispatchTouchEventTypeTouchEnd)
		}
		x, y := b.point("c1", "08:05")
		tap(x, y)
		b.until(`!document.querySelector('.board-bar').hidden`)
		x2, _ := b.point("c1", "09:20")
		tap(x2, y)
		b.until(`document.querySelector('.board-bar').innerText.includes('9:30')`)
		b.eval(`document.querySelector('.board-bar button').click()`)
		b.submit("ann")
		h.wantBookings(t, "c1", "ann 08:00-09:30")

		// A long press lifts, and then moves.
		b.until(`document.querySelectorAll('.board-row')[0].querySelector('.booking') && !document.querySelector('dialog[open]')`)
		x, y = b.point("c1", "08:45")
		x2, _ = b.point("c1", "09:45")
		touch(input.DispatchTouchEventTypeTouchStart, &input.TouchPoint{X: x, Y: y})
		b.eval(`hold()`)
		b.until(`document.querySelector('.board-ghost.lifted')`)
		for i := 1; i <= 4; i++ {
			touch(input.DispatchTouchEventTypeTouchMove, &input.TouchPoint{X: x + (x2-x)*float64(i)/4, Y: y})
		}
		b.until(`document.querySelector('.board-ghost').textContent.includes('9:00')`)
		touch(input.DispatchTouchEventTypeTouchEnd)
		h.wantBookings(t, "c1", "ann 09:00-10:30")

		// A booking narrower than a finger is reached beside it too, and half of the free time between two of them is left.
		if wide := eval[float64](b, `document.querySelectorAll('.board-row')[1].querySelector('.booking').offsetWidth`); wide >= 44 {
			t.Errorf("it is %v pixels wide", wide)
		}
		x, y = b.point("c2", "09:20")
		tap(x, y)
		b.until(`document.querySelector('.board-dialog[open] input[name=from]')?.value === '09:00'`)
		b.eval(`document.querySelector('.board-leave').click()`)
		x, y = b.point("c2", "09:30")
		tap(x, y)
		b.until(`!document.querySelector('.board-bar').hidden && !document.querySelector('dialog[open]')`)

		// A touch that moves at once scrolls, on a booking too.
		x, y = b.point("c1", "09:45")
		touch(input.DispatchTouchEventTypeTouchStart, &input.TouchPoint{X: x, Y: y})
		for i := 1; i <= 4; i++ {
			touch(input.DispatchTouchEventTypeTouchMove, &input.TouchPoint{X: x - 40*float64(i), Y: y})
		}
		touch(input.DispatchTouchEventTypeTouchEnd)
		b.until(`document.querySelector('.board-scroll').scrollLeft > 40 && document.querySelector('.board-ghost').hidden`)
		h.wantBookings(t, "c1", "ann 09:00-10:30")

		// One room, with a clock that stays: the day of the week by tapping its start and its end.
		b.board("view=room&room=c1")
		b.until(`document.querySelector('.booking')`)
		b.screenshot("room-phone")
		b.axe()
		b.wantTargets()
		for _, part := range []float64{2.1, 3.4} { // hours from the first one on
			p := eval[struct{ X, Y float64 }](b, fmt.Sprintf(`(() => {
				const lane = document.querySelectorAll('.board-lane')[0]
				lane.scrollIntoView({inline: 'nearest', block: 'nearest'})
				const {left, top, width, height} = lane.getBoundingClientRect()
				return {X: left + width / 2, Y: top + height * %v / 12}
			})()`, part))
			tap(p.X, p.Y)
		}
		b.until(`document.querySelector('.board-bar').innerText.includes('10:00–오전 11:30')`)
	})

	t.Run("two browsers", func(t *testing.T) {
		h.room(t, "d1", "")
		one, two := newTab(t, browser, h, "en"), newTab(t, browser, h, "en")
		one.board(house + "d")
		two.board(house + "d")
		two.live()
		// The other has the focus, a dialog with a name in it, and keeps them.
		x, y := two.point("d1", "16:00")
		x2, _ := two.point("d1", "17:00")
		two.drag(x, y, x2, y)
		two.until(`document.querySelector('.board-dialog[open]')`)
		two.eval(`(() => { const user = document.querySelector('.board-dialog input[name=user]'); user.focus(); user.value = 'eve' })()`)

		x, y = one.point("d1", "16:30")
		x2, _ = one.point("d1", "17:30")
		one.drag(x, y, x2, y)
		one.submit("ann")
		h.wantBookings(t, "d1", "ann 16:30-17:30")
		two.until(`document.querySelector('.booking')`)
		two.until(`document.activeElement.name === 'user' && document.activeElement.value === 'eve'`)
		two.until(`document.querySelector('.board-dialog.taken .board-state').textContent === 'Taken by ann from 16:30 to 17:30.'`)

		// Beaten to it: by whom, since when, and what can be had instead, with one tap.
		two.submit("")
		two.until(`document.querySelector('.board-others button') && /^Taken by ann from 16:30 to 17:30. Booked \d+ (s|min) ago/.test(document.querySelector('.board-problem').textContent)`)
		two.until(`['Next free', 'Shorter'].every(kind => [...document.querySelectorAll('.board-others small')].some(s => s.textContent === kind))`)
		two.eval(`[...document.querySelectorAll('.board-others button')].find(b => b.textContent.includes('16:00–16:30')).click()`)
		h.wantBookings(t, "d1", "eve 16:00-16:30, ann 16:30-17:30")
	})

	t.Run("a drag outlives news", func(t *testing.T) {
		h.room(t, "e1", "")
		b := newTab(t, browser, h, "en")
		b.board(house + "e")
		b.live()
		x, y := b.point("e1", "10:00")
		x2, _ := b.point("e1", "11:00")
		b.mouse(input.DispatchMouseEventTypeMousePressed, x, y)
		b.mouse(input.DispatchMouseEventTypeMouseMoved, x+20, y)
		b.mouse(input.DispatchMouseEventTypeMouseMoved, x2, y)
		b.until(`document.querySelector('.board-ghost').textContent.includes('11:00')`)
		id := h.book(t, "e1", "14:00", "15:00", "bob")
		b.until(h.visible(id))
		b.until(`!document.querySelector('.board-ghost').hidden && document.querySelector('.board-ghost').isConnected`)
		b.mouse(input.DispatchMouseEventTypeMouseReleased, x2, y)
		b.submit("ann")
		h.wantBookings(t, "e1", "ann 10:00-11:00, bob 14:00-15:00")
	})

	// What is told while the board asks for its rooms, and while an answer is on its way, is shown.
	t.Run("news between questions", func(t *testing.T) {
		h.room(t, "v1", "")
		b := newTab(t, browser, h, "en", send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
			const send = fetch, told = new Promise(go => { document.tell = go })
			window.fetch = async (path, options) => {
				if (path.includes('/rooms?')) await told
				if (path.includes('/occupancy?')) document.asked = options.headers['Roombook-Position']
				const answer = await send(path, options)
				if (path.includes('/occupancy?')) await document.hold?.()
				return answer
			}
			document.addEventListener('roombook:change', e => { document.seen = e.detail.position })
		}`}))
		b.run(chromedp.Navigate(h.url + "/board?day=" + day + "&" + house + "v"))
		b.live()
		h.book(t, "v1", "09:00", "10:00", "ann")
		b.until(`document.seen`)
		b.eval(`document.tell()`)
		b.until(`Number(document.asked) >= document.seen`)
		b.until(`document.querySelectorAll('.booking').length === 1`)

		b.eval(`document.hold = () => { delete document.hold; return new Promise(go => { document.go = go }) }`)
		h.book(t, "v1", "11:00", "12:00", "ben")
		b.until(`document.go`)
		h.book(t, "v1", "13:00", "14:00", "eve")
		b.until(`document.querySelectorAll('.booking').length === 3`)
		b.eval(`new Promise(shown => { document.querySelector('room-board').addEventListener('board:refreshed', shown), document.go() })`)
		if n := eval[int](b, `document.querySelectorAll('.booking').length`); n != 3 {
			t.Errorf("an older answer has taken back what was shown: %d bookings", n)
		}
	})

	// A board whose question is refused asks no more until anything may have changed. One that is not answered asks again.
	t.Run("refused", func(t *testing.T) {
		h.room(t, "x1", "")
		b := newTab(t, browser, h, "en", send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
			const send = fetch, wait = setTimeout
			window.setTimeout = (run, ms, ...values) => wait(run, ms === 2000 ? 0 : ms, ...values) // until it asks again
			document.asked = 0
			window.fetch = async (path, options) => {
				if (!path.includes('/occupancy?')) return send(path, options)
				document.asked++
				return document.status === 200 ? send(path, options) : new Response('{}', {status: document.status ?? 503})
			}
		}`}))
		b.run(chromedp.Navigate(h.url + "/board?day=" + day + "&" + house + "x"))
		b.until(`document.asked > 3`)
		b.eval(`document.status = 200`)
		b.until(`document.querySelector('room-board[ready]')`)
		b.live()
		for what, status := range map[string]int{"roombook:resync": 400, "roombook:change": 401} {
			b.eval(fmt.Sprintf(`(() => {
				document.asked = 0, document.status = %d
				document.dispatchEvent(new CustomEvent(%q, {detail: {roomId: 'x1'}}))
			})()`, status, what))
			b.until(`document.asked > 0`)
			if n := eval[int](b, `new Promise(go => setTimeout(() => go(document.asked), 200))`); n > 1 {
				t.Errorf("after %s it asks %d times although it is refused", what, n)
			}
		}
		b.eval(`document.status = 200`)
		b.until(`document.querySelectorAll('.booking').length === 0`)
		id := h.book(t, "x1", "09:00", "10:00", "ann")
		b.until(h.visible(id))
	})

	// A page that knows what the log does not have, since it was put back to an earlier end, goes on with what there is.
	t.Run("put back", func(t *testing.T) {
		h.room(t, "y1", "")
		b := newTab(t, browser, h, "en", send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
			document.addEventListener('readystatechange', () => { document.documentElement.dataset.position = 1e12 }, {once: true})
			document.addEventListener('roombook:resync', e => { document.back ||= e.detail.back })
		}`}))
		b.board(house + "y")
		b.until(`document.back`)
		id := h.book(t, "y1", "09:00", "10:00", "ann")
		b.until(h.visible(id))
	})

	t.Run("offline and back", func(t *testing.T) {
		h.room(t, "f1", "")
		b := newTab(t, browser, h, "en")
		b.board(house + "f")
		b.live()
		b.run(offline(true))
		b.until(`document.querySelector('.board-live.stale')`)
		id := h.book(t, "f1", "14:00", "15:00", "bob")
		b.run(offline(false))
		b.until(h.visible(id))
		b.until(`document.querySelector('.board-live').textContent === 'Live'`)
	})

	// All tabs of a browser share one stream. When the tab that has it is closed another one goes on where it ended.
	t.Run("many tabs", func(t *testing.T) {
		h.room(t, "q1", "")
		first := newTab(t, browser, h, "en")
		first.board(house + "q")
		first.live()
		tabs := make([]*tab, 9)
		for i := range tabs {
			tabs[i] = first.another(browser, "en")
			tabs[i].board(house + "q")
		}
		for _, b := range tabs {
			b.live()
		}
		h.wantStreams(t, "1")
		for _, b := range tabs {
			b.run(offline(true))
		}
		first.closed = true
		_ = chromedp.Do(first.ctx, send(page.Close, cdp.Empty{})) // which may leave no tab to answer
		h.wantStreams(t, "0")
		missed := h.book(t, "q1", "11:00", "12:00", "bob")
		for _, b := range tabs {
			b.run(offline(false))
		}
		for _, b := range tabs {
			b.until(h.visible(missed))
		}
		h.wantStreams(t, "1")
		id := h.book(t, "q1", "09:00", "10:00", "bob")
		for _, b := range tabs {
			b.until(h.visible(id))
		}
	})

	// Without locks, as over plain HTTP from another machine, each visible tab has a stream of its own, and one that was hidden goes on where it was.
	t.Run("tabs without locks", func(t *testing.T) {
		h.room(t, "w1", "")
		h.room(t, "w2", "")
		alone := send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `window.EventSource = class extends EventSource { constructor(url) { document.stream = super(url) } }, Object.defineProperty(navigator, 'locks', {value: undefined}), Object.defineProperty(document, 'hidden', {get: () => Boolean(document.away)})`,
		})
		hide := func(b *tab, is bool) {
			b.eval(fmt.Sprintf(`document.away = %t, document.dispatchEvent(new Event('visibilitychange'))`, is))
		}
		one := newTab(t, browser, h, "en", alone)
		one.board(house + "w")
		one.live()
		hide(one, true)
		h.wantStreams(t, "0")
		missed := h.book(t, "w1", "09:00", "10:00", "ann")
		two := one.another(browser, "en")
		two.run(alone)
		two.board(house + "w")
		two.live()
		id := h.book(t, "w2", "09:00", "10:00", "ann")
		two.until(h.visible(id))
		hide(one, false)
		one.until(h.visible(id) + " && " + h.visible(missed))
		// The word of the browser that it is connected again is enough.
		one.eval(`dispatchEvent(new Event('offline'))`)
		one.until(`document.querySelector('.board-live.stale')`)
		one.eval(`dispatchEvent(new Event('online'))`)
		one.until(`!document.querySelector('.board-live.stale')`)
		// A stream that the server refuses is opened again, and says nothing of that of another tab.
		if !eval[bool](one, `(document.stream.close(), document.stream.dispatchEvent(new Event('error')), document.querySelector('.board-live.stale') !== null)`) {
			t.Error("it does not say that it has no connection")
		}
		one.until(`!document.querySelector('.board-live.stale') && document.stream.readyState === EventSource.OPEN`)
		if eval[bool](two, `document.querySelector('.board-live.stale') !== null`) {
			t.Error("the other tab says that it has no connection")
		}
	})

	t.Run("another room that is free", func(t *testing.T) {
		for _, id := range []string{"r1", "r2", "r3"} {
			h.room(t, id, "")
		}
		h.book(t, "r2", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en")
		b.board(house + "r")
		b.until(`document.querySelector('.booking')`)
		x, y := b.point("r1", "10:00")
		b.drag(x+2, y, x+3, y)
		b.until(`[...document.querySelectorAll('.board-row')].map(r => r.querySelectorAll('.board-swap').length).join() === '0,0,1'`)
		b.screenshot("swap")
		b.eval(`document.querySelector('.board-swap').click()`)
		b.until(`document.querySelector('.board-bar').innerText.includes('Room r3') && [...document.querySelectorAll('.board-row')].map(r => r.querySelectorAll('.board-swap').length).join() === '1,0,0'`)
		b.eval(`document.querySelector('.board-bar button').click()`)
		b.until(`document.querySelector('.board-dialog[open] h2').textContent === 'Room r3'`)
		b.eval(`document.querySelector('.board-also button').click()`)
		b.until(`document.querySelector('.board-dialog[open] h2').textContent === 'Room r1'`)
		// What is free changes while the dialog is open.
		h.book(t, "r3", "10:30", "11:30", "bob")
		b.until(`!document.querySelector('.board-also button')`)
		b.submit("ann")
		h.wantBookings(t, "r1", "ann 10:00-11:00")
	})

	t.Run("nothing typed is lost", func(t *testing.T) {
		h.room(t, "t1", "")
		b := newTab(t, browser, h, "en")
		b.board(house + "t")
		x, y := b.point("t1", "10:00")
		x2, _ := b.point("t1", "11:00")
		b.drag(x, y, x2, y)
		b.until(`document.querySelector('.board-dialog[open]')`)
		b.eval(`document.querySelector('.board-dialog input[name=user]').focus()`)
		b.key("eve")
		b.eval(`(() => { const to = document.querySelector('.board-dialog input[name=to]'); to.value = '11:30'; to.dispatchEvent(new Event('input')) })()`)
		// The session has ended.
		b.eval(`window.fetch = async () => new Response('{}', {status: 401})`)
		b.submit("")
		b.until(`document.querySelector('.board-problem a')?.getAttribute('href') === '/signin?back=' + encodeURIComponent(location.pathname + location.search)`)
		// Behind a prefix that is the address without it, as the server sees it.
		if link := eval[string](b, `(board => {
			history.replaceState(null, '', '/app' + location.pathname)
			board.base = '/app'
			return board.explain({status: 401}).link
		})(document.querySelector('room-board'))`); link != "/app/signin?back=%2Fboard" {
			t.Error(link)
		}
		b.board(house + "t")
		b.until(`['10:00,11:30,eve'].includes([...document.querySelectorAll('.board-dialog[open] input')].map(i => i.value).join())`)
		b.submit("")
		h.wantBookings(t, "t1", "eve 10:00-11:30")
		b.until(`!document.querySelector('dialog')`)
		b.board(house + "t")
		b.until(`document.querySelector('.booking') && !document.querySelector('dialog')`)

		// What became of a command whose dialog was closed before the answer is told, too.
		x, y = b.point("t1", "13:00")
		x2, _ = b.point("t1", "14:00")
		b.drag(x, y, x2, y)
		b.until(`document.querySelector('.board-dialog[open]')`)
		b.eval(`window.fetch = () => new Promise(go => { window.answer ??= () => go(new Response('{}', {status: 401})) })`)
		b.submit("eve")
		b.key(kb.Escape)
		b.until(`!document.querySelector('dialog')`)
		b.eval(`answer()`)
		b.until(`document.querySelector('.board-toast').textContent`)
		if eval[bool](b, `sessionStorage.getItem('roombook-typed board') !== null`) {
			t.Error("the dialog comes back when the page is loaded again")
		}
	})

	// A move stays to be seen until the server has answered, and does not overwrite what somebody else has done meanwhile.
	t.Run("moves that wait", func(t *testing.T) {
		h.room(t, "u1", "")
		id := h.book(t, "u1", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en")
		b.board(house + "u")
		b.until(h.visible(id))
		b.eval(`(() => {
			const send = window.fetch, told = new Promise(go => { window.go = go })
			window.fetch = async (...what) => {
				await told
				return send(...what)
			}
		})()`)
		x, y := b.point("u1", "10:30")
		x2, _ := b.point("u1", "12:30")
		b.drag(x, y, x2, y)
		b.until(`document.querySelector('.board-block.leaving') && document.querySelector('.board-ghost').textContent.includes('12:00–13:00') && document.querySelector('.board-shield').hidden`)
		b.eval(`go()`)
		h.wantBookings(t, "u1", "bob 12:00-13:00")
		b.until(`!document.querySelector('.board-block.leaving') && document.querySelector('.board-ghost').hidden`)
		status := eval[int](b, fmt.Sprintf(`document.querySelector('room-board').change({id: %q, start: 0, end: 1}, {room: {roomId: 'u1'}, start: 2, end: 3}).then(answer => answer.status)`, id))
		if status != http.StatusPreconditionFailed {
			t.Error(status)
		}
		h.wantBookings(t, "u1", "bob 12:00-13:00")
	})

	t.Run("grey time says why", func(t *testing.T) {
		h.room(t, "g1", `{"hours":{"wednesday":[{"from":"09:00","to":"18:00"}]},"gapMinutes":30}`)
		h.call(t, "POST", "/rooms/g1/closures", `{"startDtm":"202703101500","endDtm":"202703101600","reason":"being painted"}`, 201)
		h.book(t, "g1", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en")
		b.board(house + "g")
		for clock, why := range map[string]string{"08:30": "outside the hours", "11:15": "needs a gap", "15:30": "being painted"} {
			x, y := b.point("g1", clock)
			b.drag(x, y, x, y)
			b.until(fmt.Sprintf(`document.querySelector('.board-toast').textContent.includes(%q)`, why))
		}
		// So does what a rule forbids.
		h.room(t, "g2", `{"longestMinutes":60}`)
		b.board(house + "g")
		b.eval(`document.querySelector('.board-scroll').focus()`)
		x, y := b.point("g2", "10:00")
		x2, _ := b.point("g2", "12:00")
		b.mouse(input.DispatchMouseEventTypeMousePressed, x, y)
		b.mouse(input.DispatchMouseEventTypeMouseMoved, x+20, y)
		b.mouse(input.DispatchMouseEventTypeMouseMoved, x2, y)
		b.until(`document.querySelector('.board-ghost.blocked')?.textContent.includes('at most 1 h')`)
		b.key(kb.Escape)
		b.mouse(input.DispatchMouseEventTypeMouseReleased, x2, y)

		// A drag does not reach into what is closed, nor into the gap.
		x, y = b.point("g1", "14:00")
		x2, _ = b.point("g1", "16:30")
		b.drag(x, y, x2, y)
		b.submit("ann")
		h.wantBookings(t, "g1", "bob 10:00-11:00, ann 14:00-15:00")
	})

	// Without colours states differ by their borders, and nothing moves for whoever does not want that.
	t.Run("forced colours", func(t *testing.T) {
		h.room(t, "h1", `{"hours":{"wednesday":[{"from":"09:00","to":"18:00"}]}}`)
		h.book(t, "h1", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en", send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		}))
		b.board(house + "h")
		b.until(`document.querySelector('.booking')`)
		b.screenshot("forced")
		borders := eval[[]string](b, `['confirmed', 'waiting', 'in-use', 'ended'].map(state => {
			const block = document.querySelector('.booking').cloneNode()
			block.className = 'board-block booking ' + state
			document.querySelector('.board-lane').append(block)
			const {borderStyle, borderColor} = getComputedStyle(block)
			block.remove()
			return borderStyle + ' ' + borderColor
		})`)
		if slices.Sort(borders); len(slices.Compact(slices.Clone(borders))) != 4 {
			t.Error(borders)
		}
		x, y := b.point("h1", "12:00")
		b.drag(x, y, x+60, y)
		b.until(`document.querySelector('.board-dialog[open]')`)
		if n := eval[int](b, `document.getAnimations().length`); n > 0 {
			t.Errorf("%d animations", n)
		}
	})

	t.Run("another zone", func(t *testing.T) {
		h.room(t, "i1", "")
		h.book(t, "i1", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en", in("America/Los_Angeles"))
		b.board(house + "i")
		b.until(`document.querySelector('main').innerText.includes('Asia/Seoul')`)
		b.until(`document.querySelector('.booking').title.includes('10:00–11:00')`)
		x, y := b.point("i1", "12:00")
		x2, _ := b.point("i1", "13:00")
		b.drag(x, y, x2, y)
		b.submit("ann")
		h.wantBookings(t, "i1", "bob 10:00-11:00, ann 12:00-13:00")
	})

	t.Run("week", func(t *testing.T) {
		h.room(t, "j1", "")
		id := h.book(t, "j1", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en")
		b.board(house + "j&view=week")
		b.until(h.visible(id))
		b.screenshot("week")
	})

	t.Run("nothing for axe", func(t *testing.T) {
		if eventstoretest.Raced {
			t.Skip("the race detector looks at the server, and this at the page")
		}
		h.room(t, "k1", `{"hours":{"wednesday":[{"from":"09:00","to":"18:00"}]},"gapMinutes":30}`)
		h.room(t, "k2", `{"approval":"none"}`)
		h.call(t, "POST", "/rooms/k2/closures", `{"startDtm":"202703101500","endDtm":"202703101700","reason":"being painted"}`, 201)
		for i, user := range []string{"ann", "bob", "eve"} {
			h.book(t, "k1", fmt.Sprintf("%d:00", 10+2*i), fmt.Sprintf("%d:00", 11+2*i), user)
			h.book(t, "k2", fmt.Sprintf("%02d:00", 8+2*i), fmt.Sprintf("%02d:30", 9+2*i), user)
		}
		for _, language := range []string{"en", "ko"} {
			for _, scheme := range []string{"light", "dark"} {
				for _, width := range []int{1280, 390} {
					b := newTab(t, browser, h, language, send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
						Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
					}))
					if width == 390 {
						b.run(phone())
					}
					b.board(house + "k")
					b.until(`document.querySelectorAll('.booking').length === 6`)
					b.screenshot(fmt.Sprintf("board-%s-%s-%d", language, scheme, width))
					b.axe()
					if width == 390 {
						b.wantTargets()
					}
					if eval[bool](b, `document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
						t.Error("the page is wider than the window")
					}
					x, y := b.point("k1", "09:00")
					b.drag(x+2, y, x+3, y)
					b.until(`!document.querySelector('.board-bar').hidden`)
					b.eval(`document.querySelector('.board-bar button').click()`)
					b.until(`document.querySelector('.board-dialog[open] .board-state').textContent`)
					b.screenshot(fmt.Sprintf("dialog-%s-%s-%d", language, scheme, width))
					b.axe()
					if width == 390 {
						b.wantTargets()
					}
				}
			}
		}
	})

	// With many rooms only those in the window are drawn, but all are printed.
	t.Run("many rooms", func(t *testing.T) {
		var parts sync.WaitGroup
		for part := range 7 {
			parts.Go(func() {
				for i := range 10 {
					h.room(t, fmt.Sprintf("o%d%d", part, i), "")
				}
			})
		}
		parts.Wait()
		b := newTab(t, browser, h, "en")
		b.run(chromedp.Navigate(h.url + "/board?day=" + day + "&page=2&" + house + "o"))
		reply, err := http.Get(h.url + "/board?page=2&" + house + "o")
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		if table, err := io.ReadAll(reply.Body); err != nil || strings.Count(string(table), "<tr>") != 1+20 || !strings.Contains(string(table), `rel="prev"`) {
			t.Errorf("the second page of 70 rooms: %s %v", table, err)
		}
		b.board(house + "o")
		b.until(`document.querySelectorAll('.board-row').length < 60`)
		b.eval(`document.querySelector('.board-scroll').scrollTop = 70 * 48`)
		b.until(`[...document.querySelectorAll('.board-row .board-room')].some(r => r.textContent.includes('Room o69'))`)
		b.eval(`dispatchEvent(new Event('beforeprint'))`)
		b.run(send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}))
		b.until(`document.querySelectorAll('.board-row').length === 70`)
		b.until(`(s => s.scrollHeight === s.clientHeight && s.scrollWidth === s.clientWidth)(document.querySelector('.board-scroll'))`)
	})

	t.Run("one room", func(t *testing.T) {
		h.room(t, "p1", "")
		id := h.book(t, "p1", "10:00", "11:00", "bob")
		b := newTab(t, browser, h, "en")
		b.board("view=room&room=p1")
		b.until(h.visible(id) + ` && document.querySelectorAll('.board-row').length === 7`)
		// at is where a time of a day is, 0 is Monday.
		at := func(column int, clock string) (x, y float64) {
			p := eval[struct{ X, Y float64 }](b, fmt.Sprintf(`(() => {
				const lane = document.querySelectorAll('.board-lane')[%d].getBoundingClientRect()
				const {from, to} = document.querySelector('room-board').dataset
				const [h, m] = '%s'.split(':').map(Number)
				return {X: lane.left + lane.width / 2, Y: lane.top + lane.height * (h * 60 + m - from) / (to - from)}
			})()`, column, clock))
			return p.X, p.Y
		}
		x, y := at(2, "12:02")
		x2, y2 := at(3, "13:03") // a drag that draws stays in its column
		b.drag(x, y, x2, y2)
		b.submit("ann")
		h.wantBookings(t, "p1", "bob 10:00-11:00, ann 12:00-13:00")
		b.until(`document.querySelectorAll('.board-row')[2].querySelectorAll('.booking').length === 2 && !document.querySelector('dialog[open]')`)
		b.screenshot("room")
		b.axe()
		// To another day, and back by keys.
		x, y = at(2, "12:30")
		x2, y2 = at(4, "09:30")
		b.drag(x, y, x2, y2)
		b.until(`document.querySelectorAll('.board-row')[4].querySelector('.booking:not(.leaving)')`)
		b.eval(`document.querySelector('.board-scroll').focus()`)
		x, y = at(4, "09:10")
		b.drag(x, y, x, y) // opens
		b.until(`document.querySelector('.board-dialog[open]')`)
		b.key(kb.Escape)
		b.until(`!document.querySelector('.board-dialog')`)
		b.key("n") // the first free slot is under the cursor
		b.until(`document.querySelector('.board-dialog[open]')`)
		b.key(kb.Escape)
		b.until(`!document.querySelector('.board-dialog') && document.activeElement.className === 'board-scroll'`)
		for range 2 {
			b.key(kb.ArrowRight)
		}
		b.until(`document.querySelector('.board-spoken').textContent.includes('Mar 10')`)
		for range 8 {
			b.key(kb.ArrowDown)
		}
		b.until(`document.querySelector('.board-spoken').textContent.includes('bob')`)
		b.key(kb.ArrowLeft, chromedp.ModifierAlt)
		b.key(kb.ArrowUp, chromedp.ModifierAlt)
		b.until(`document.querySelector('.board-spoken').textContent.includes('Mar 9') && document.querySelector('.board-ghost').textContent.includes('09:45–10:45')`)
		b.key(kb.Enter)
		b.until(`document.querySelectorAll('.board-row')[1].querySelector('.booking')`)
	})

	// The first board loads less than 100 KB over the network, compressed.
	t.Run("first board is small", func(t *testing.T) {
		for i := range 12 {
			id := fmt.Sprintf("s%02d", i)
			h.room(t, id, "")
			for j := range 4 {
				h.book(t, id, fmt.Sprintf("%02d:00", 8+2*j), fmt.Sprintf("%02d:00", 9+2*j), "ann")
			}
		}
		b := newTab(t, browser, h, "ko")
		b.board(house + "s")
		b.until(`document.querySelectorAll('.booking').length === 48`)
		loaded := eval[map[string]int](b, `Object.fromEntries([...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map(r => [r.name.replace(/.*[/]/, ''), r.transferSize || r.encodedBodySize]))`)
		total := 0
		for _, size := range loaded {
			total += size
		}
		t.Log(total, loaded)
		if total > 100_000 {
			t.Errorf("the first board loads %d bytes: %v", total, loaded)
		}
	})

	// On the day on which the clock is put forward the board has 23 hours, and what is drawn is booked.
	t.Run("over a clock change", func(t *testing.T) {
		h := open(t, "America/New_York")
		h.room(t, "n1", "")
		b := newTab(t, browser, h, "en", in("Asia/Seoul"))
		b.run(chromedp.Navigate(h.url + "/board?day=2027-03-14&hours=all"))
		b.until(`document.querySelector('room-board[ready]')`)
		b.until(`document.querySelectorAll('.board-ticks span').length === 23`)
		box := eval[struct{ Left, Top, Width float64 }](b, `(({left, top, width}) => ({Left: left, Top: top, Width: width}))(document.querySelector('.board-lane').getBoundingClientRect())`)
		y := box.Top + 20
		b.drag(box.Left+box.Width*1/23+2, y, box.Left+box.Width*4/23, y) // from 1:00 to 5:00, which is three hours later
		b.submit("ann")
		h.wantBookings(t, "n1", "ann 01:00-05:00")
		// In the week of the room that day is a column with a clock of its own.
		b.run(chromedp.Navigate(h.url + "/board?day=2027-03-14&hours=all&view=room"))
		b.until(`document.querySelector('room-board[ready]')`)
		b.until(`[...document.querySelectorAll('.board-lane')].map(l => l.querySelectorAll(':scope > span').length).join() === '0,0,0,0,0,0,23'`)
	})

	// The pure modules, in the browser that they are for.
	t.Run("modules", func(t *testing.T) {
		b := newTab(t, browser, h, "en")
		b.board("")
		cases, err := os.ReadFile("testdata/modules.js")
		if err != nil {
			t.Fatal(err)
		}
		failed := eval[[]string](b, `(async () => {
			const from = document.querySelector('script[src*="start.js"]').src
			const [time, layout, drag] = await Promise.all(['time.js', 'layout.js', 'drag.js'].map(name => import(new URL(name, from))))
			`+string(cases)+`
			return failed
		})()`)
		for _, f := range failed {
			t.Error(f)
		}
	})
}
