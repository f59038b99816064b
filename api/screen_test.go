package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"roombook/api/web"
	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/eventstore/eventstoretest"
)

// reader is somebody with a browser that has no scripts.
type reader struct {
	*service
	cookies  map[string]string
	language string
}

func newReader(s *service, name, language string) *reader {
	r := &reader{s, map[string]string{}, language}
	if name != "" {
		r.cookies["roombook-name"] = name
	}
	return r
}

// ask sends a request as the browser does, and keeps the cookies of the reply.
func (b *reader) ask(t testing.TB, method, target string, form url.Values, headers ...string) reply {
	t.Helper()
	if form == nil {
		return b.send(httptest.NewRequest(method, target, nil), headers...)
	}
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.send(r, headers...)
}

// upload sends a form with a file in the field photo.
func (b *reader) upload(t testing.TB, target string, form url.Values, file string) reply {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("photo", "room.gif")
	if err == nil {
		_, err = io.WriteString(part, file)
	}
	for name := range form {
		if name != "photo" {
			err = errors.Join(err, w.WriteField(name, form.Get(name)))
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", target, &body)
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.send(r)
}

func (b *reader) send(r *http.Request, headers ...string) reply {
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	r.Header.Set("Accept-Language", b.language)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	got := b.serve(r)
	for _, c := range (&http.Response{Header: got.header}).Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return got
}

// get reads a screen, which must be one that browsers and people can use.
func (b *reader) get(t testing.TB, target string) reply {
	t.Helper()
	r := b.ask(t, "GET", target, nil)
	checkScreen(t, target, r)
	return r
}

// after lets a reader see what another one has done.
func (b *reader) after(other *reader) *reader {
	b.cookies["roombook-position"] = other.cookies["roombook-position"]
	return b
}

// submit sends a form and follows to the screen that comes of it.
func (b *reader) submit(t testing.TB, target string, form url.Values) reply {
	t.Helper()
	r := b.ask(t, "POST", target, form)
	if r.status == http.StatusSeeOther {
		return b.get(t, r.header.Get("Location")).want(t, 200)
	}
	checkScreen(t, target, r)
	return r
}

// fields are the values of the form of a screen that has a field of that name, as a browser would send them without any button.
func (r reply) fields(t testing.TB, has string) url.Values {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for form := range doc.Descendants() {
		if form.Data != "form" {
			continue
		}
		values := url.Values{}
		found := false
		for n := range form.Descendants() {
			name := attr(n, "name")
			found = found || name == has
			switch {
			case name == "" || n.Data == "button" || attr(n, "type") == "checkbox":
			case n.Data == "input":
				values.Set(name, attr(n, "value"))
			case n.Data == "textarea":
				values.Set(name, strings.TrimPrefix(words(n), "\n"))
			case n.Data == "select":
				for o := range n.Descendants() {
					if o.Data == "option" && (!values.Has(name) || slices.ContainsFunc(o.Attr, func(a html.Attribute) bool { return a.Key == "selected" })) {
						values.Set(name, cmpOr(attr(o, "value"), hasAttr(o, "value"), words(o)))
					}
				}
			}
		}
		if found {
			return values
		}
	}
	t.Fatalf("no form has %s in %s", has, r.body)
	return nil
}

func cmpOr(value string, given bool, otherwise string) string {
	if given {
		return value
	}
	return otherwise
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hasAttr(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// words are the texts in a node.
func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// text is what a reader sees of a screen, with single spaces.
func (r reply) text(t testing.TB) string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.Join(strings.Fields(words(doc)), " "), "\u2060", "")
}

// has fails the test unless the screen says all of that.
func (r reply) has(t testing.TB, texts ...string) reply {
	t.Helper()
	all := r.text(t)
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%q is not in %s", text, all)
		}
	}
	return r
}

const screenPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types roombook"

// checkScreen fails the test unless a screen has what every one must have: a strict policy and nothing that it forbids, a language and a title,
// one heading of the first rank, ids that are there once, and a name for each field, link and button.
func checkScreen(t testing.TB, target string, r reply) {
	t.Helper()
	if r.header.Get("Content-Security-Policy") != screenPolicy || r.header.Get("Content-Type") != "text/html; charset=utf-8" || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatalf("%s: %d %v %s", target, r.status, r.header, r.body)
	}
	doc, err := html.Parse(strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	ids, named, headings := map[string]bool{}, map[string]bool{}, 0
	for n := range doc.Descendants() {
		if n.Data == "label" && attr(n, "for") != "" {
			named[attr(n, "for")] = true
		}
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("%s: the id %s is there twice", target, id)
			}
			ids[id] = true
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(strings.ToLower(a.Val), "javascript:") {
				t.Errorf("%s: <%s %s=%q>", target, n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "html":
			if lang := attr(n, "lang"); lang != "en" && lang != "ko" {
				t.Errorf("%s: lang is %q", target, lang)
			}
		case "title":
			if strings.TrimSpace(words(n)) == "" {
				t.Errorf("%s has no title", target)
			}
		case "h1":
			headings++
		case "style":
			t.Errorf("%s has a style of its own", target)
		case "script":
			if attr(n, "src") == "" && attr(n, "type") != "application/json" {
				t.Errorf("%s has a script of its own", target)
			}
		case "a", "button":
			if strings.TrimSpace(words(n)) == "" && attr(n, "aria-label") == "" {
				t.Errorf("%s: a <%s> without a name", target, n.Data)
			}
			if to, err := url.Parse(attr(n, "href")); err != nil || strings.Contains(strings.Join(slices.Collect(maps.Keys(to.Query())), ""), "=") {
				t.Errorf("%s: a link to %q, whose query is escaped as a whole", target, attr(n, "href"))
			}
		case "input", "select", "textarea":
			hidden := attr(n, "type") == "hidden" || slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "hidden" })
			inLabel := false
			for p := n.Parent; p != nil; p = p.Parent {
				inLabel = inLabel || p.Data == "label"
			}
			if !hidden && !inLabel && !named[attr(n, "id")] {
				t.Errorf("%s: the field %s has no label", target, attr(n, "name"))
			}
		}
	}
	if headings != 1 {
		t.Errorf("%s has %d headings of the first rank", target, headings)
	}
	if key := regexp.MustCompile(`>\s*(problem|done|state|title|form|cell|rule|field|history)\.[\w.-]+\s*<`).FindString(r.body); key != "" {
		t.Errorf("%s shows %s", target, key)
	}
}

// furnished is whole with a house of its own.
func furnished(t *testing.T) *service {
	t.Helper()
	return wholeOn(t, eventstoretest.OpenAlone(t))
}

// houseForTest registers a few rooms.
func houseForTest(t testing.TB, b *reader) {
	t.Helper()
	for _, room := range []url.Values{
		{"do": {"add"}, "id": {"blue"}, "name": {"Blue <script>alert(1)</script>"}, "building": {"West"}, "floor": {"1"}, "capacity": {"4"}, "equipment": {"Screen\r\nBoard"}, "approvers": {"lee"}},
		{"do": {"add"}, "id": {"red"}, "name": {"Red"}, "building": {"West"}, "capacity": {"8"}, "equipment": {"Screen"}},
		{"do": {"add"}, "id": {"far"}, "name": {"Far"}, "zone": {"Europe/Berlin"}, "capacity": {"8"}},
	} {
		if r := b.submit(t, "/house", room); !strings.Contains(r.body, "/house/"+room.Get("id")) && r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
}

// tomorrow is the day after the present one in the server's zone.
func tomorrow(t testing.TB) string {
	return time.Now().In(zone(t, "Asia/Seoul")).AddDate(0, 0, 1).Format("2006-01-02")
}

// Whatever people do, they can do without scripts: from an empty house to a booking that was denied and what became of it.
func TestBookingWithoutScripts(t *testing.T) {
	s := furnished(t)
	ann, lee := newReader(s, "", "en"), newReader(s, "lee", "ko-KR,ko;q=0.9")
	ann.get(t, "/").want(t, 200).has(t, "No rooms yet", "Load a sample house")
	houseForTest(t, lee)
	ann.after(lee)
	ben := newReader(s, "ben", "en").after(lee)
	day := tomorrow(t)

	board := ann.get(t, "/board?day="+day).want(t, 200).has(t, "3 of 3 rooms", "Blue <script>alert(1)</script>")
	link := regexp.MustCompile(`href="(/book\?[^"]*room=blue[^"]*)"`).FindStringSubmatch(board.body)
	if link == nil {
		t.Fatal(board.body)
	}
	form := ann.get(t, html.UnescapeString(link[1])).want(t, 200).fields(t, "start")
	if form.Get("room") != "blue" || form.Get("start") != day+"T08:00" || form.Get("end") != day+"T09:00" {
		t.Fatalf("%v", form)
	}
	form.Set("start", day+"T14:00")
	form.Set("end", day+"T15:00")
	form.Set("user", "ann")
	booked := ann.submit(t, "/book", form).has(t, "The room is held for you until somebody answers.", "Waiting for an answer", "14:00–15:00")
	if ann.cookies["roombook-name"] != "ann" {
		t.Errorf("%v", ann.cookies)
	}
	id := regexp.MustCompile(`<code>([0-9a-f-]{36})</code>`).FindStringSubmatch(booked.body)[1]

	// The same form again is the same booking.
	again := ann.ask(t, "POST", "/book", form).want(t, 303)
	if !strings.Contains(again.header.Get("Location"), id) {
		t.Errorf("%v", again.header)
	}

	// Somebody else is told what is in the way, and what would do.
	other := url.Values{"room": {"blue"}, "start": {day + "T14:30"}, "end": {day + "T15:30"}, "user": {"ben"}}
	taken := ben.submit(t, "/book", other).want(t, 409).has(t, "is taken", "14:00–15:00", "The same room later", "Another room")
	instead := taken.fields(t, "room")
	if instead.Get("room") != "blue" || instead.Get("start") != day+"T15:00" {
		t.Errorf("%v", instead)
	}
	ben.submit(t, "/book", instead).has(t, "15:00–16:00")

	// The approver sees both, in Korean, the oldest first, and has to say why not.
	queue := lee.after(ben).get(t, "/approvals").want(t, 200).has(t, "승인", "예약자 ann", "예약자 ben")
	if strings.Index(queue.body, "예약자 ann") > strings.Index(queue.body, "예약자 ben") {
		t.Error("the oldest is not first")
	}
	lee.ask(t, "GET", "/bookings/"+id+"/answer", nil).want(t, 204)
	ann.ask(t, "GET", "/bookings/"+id+"/answer", nil).want(t, 200)
	lee.submit(t, "/approvals", url.Values{"deny": {id}, "reason": {" "}}).want(t, 422).has(t, "거절하려면 사유를 적어 주세요.")
	for _, odd := range []string{"a\xff", "a\x1b", strings.Repeat("벽", 1001)} {
		lee.submit(t, "/approvals", url.Values{"deny": {id}, "reason": {odd}}).want(t, 422).has(t, "사유가 너무 길거나 제어 문자가 들어 있습니다.")
	}
	lee.submit(t, "/approvals", url.Values{"confirm": {"chosen"}}).want(t, 422).has(t, "먼저 예약을 선택하세요.")
	lee.submit(t, "/approvals", url.Values{"deny": {id}, "reason": {"painting"}}).has(t, "거절되었습니다.")
	ann.after(lee).get(t, "/my").has(t, "Denied by lee: painting")
	ann.get(t, "/messages").has(t, "was denied")
	if queue := lee.get(t, "/approvals"); !strings.Contains(queue.body, `<option value="painting">`) {
		t.Errorf("the last reason is not offered: %s", queue.body)
	}
	lee.ask(t, "GET", "/bookings/"+id+"/answer", nil).want(t, 200).has(t, "lee가 거절했습니다: painting")
	page := ann.get(t, "/bookings/"+id+"/page").has(t, "Denied by lee: painting", "Booked for ann")
	then := regexp.MustCompile(`href="\?asOf=(\d+)"`).FindStringSubmatch(page.body)
	ann.get(t, "/bookings/"+id+"/page?asOf="+then[1]).has(t, "This is the booking as it was", "Waiting for an answer")
	lee.get(t, "/bookings/"+id+"/page").has(t, "lee가 거절했습니다: painting")
}

// What is done with a booking: changed, extended, confirmed among several, used, ended, cancelled.
func TestBookingsChangeWithoutScripts(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	houseForTest(t, ann)
	day := tomorrow(t)
	id := func(r reply) string {
		return regexp.MustCompile(`<code>([0-9a-f-]{36})</code>`).FindStringSubmatch(r.body)[1]
	}
	book := func(from, to string) string {
		return id(ann.submit(t, "/book", url.Values{"room": {"red"}, "start": {day + "T" + from}, "end": {day + "T" + to}, "user": {"ann"}}).has(t, "Approval requested"))
	}
	first, second := book("09:00", "10:00"), book("11:30", "12:30")

	form := ann.get(t, "/bookings/"+first+"/change").fields(t, "start")
	form.Set("end", day+"T10:30")
	ann.submit(t, "/bookings/"+first+"/change", form).has(t, "Changed.", "09:00–10:30")
	ann.submit(t, "/bookings/"+first+"/change", form).want(t, 200) // the same form again
	form.Set("end", day+"T10:45")
	ann.submit(t, "/bookings/"+first+"/change", form).want(t, 409) // what it was about has changed
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"extend-15"}}).has(t, "lasts longer", "09:00–10:45")
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"extend-60"}}).want(t, 409).has(t, "Red is taken")

	// What is answered is what was shown: not a time to which the booking was moved since.
	shown := ann.get(t, "/approvals").fields(t, "answers-"+first)
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"extend-15"}})
	shown.Set("confirm", first)
	shown.Del("booking")
	ann.submit(t, "/approvals", shown).want(t, 409).has(t, "Somebody changed it meanwhile")
	ann.submit(t, "/approvals", url.Values{"confirm": {"chosen"}, "booking": {first, second}}).has(t, "Confirmed.")
	ann.get(t, "/my").has(t, "Confirmed by ann", "Add to calendar", "Cancel the booking")
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"start"}}).has(t, "In use")
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"extend-15"}}).has(t, "The time that follows is booked as well", "11:00–11:15")
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"cancel"}}).want(t, 409).has(t, "End the use instead.")
	ann.submit(t, "/bookings/"+first+"/page", url.Values{"do": {"end"}}).has(t, "The use has ended", "Ended")
	ann.submit(t, "/bookings/"+second+"/page", url.Values{"do": {"cancel"}}).has(t, "Cancelled: by its user")
	ann.get(t, "/my").has(t, "Cancelled")
	ann.get(t, "/report?from="+day+"&to="+day).has(t, "Red")
	if table := ann.ask(t, "GET", "/report.csv?from="+day+"&to="+day, nil).want(t, 200); !strings.HasPrefix(table.body, "roomId,name,week,bookings,noShows,bookedMinutes,usedMinutes\nred,Red,") {
		t.Error(table.body)
	}
}

// What is wrong with a form is said, and nothing that was typed is lost.
func TestFaultyForms(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	houseForTest(t, ann)
	r := ann.submit(t, "/book", url.Values{"room": {"far"}, "start": {"2027-03-28T02:30"}, "end": {""}, "user": {"not a name"}}).want(t, 422).
		has(t, "The clocks go forward that day and skip this time", "Give a day and a time", "letters (A-Z, a-z)", "Europe/Berlin")
	if form := r.fields(t, "start"); form.Get("user") != "not a name" || form.Get("room") != "far" || form.Get("start") != "2027-03-28T02:30" {
		t.Errorf("%v", form)
	}
	ann.submit(t, "/book", url.Values{"room": {"red"}, "start": {"2027-03-28T10:00"}, "end": {"2027-03-28T09:00"}, "user": {"ann"}}).want(t, 422).has(t, "The end must be after the start")
	for _, day := range []string{"0001-01-01", "9999-12-31"} {
		ann.submit(t, "/book", url.Values{"room": {"red"}, "start": {day + "T22:00"}, "end": {day + "T23:00"}, "user": {"ann"}}).want(t, 422).has(t, "Give a day and a time")
		ann.submit(t, "/house/red", url.Values{"do": {"close"}, "revision": {"1"}, "start": {day + "T22:00"}, "end": {day + "T23:00"}}).want(t, 422)
	}
	ann.submit(t, "/house", url.Values{"do": {"add"}, "id": {"x y"}, "name": {"X"}}).want(t, 422)
	ann.submit(t, "/house", url.Values{"do": {"add"}, "id": {"x"}, "name": {"X"}, "zone": {"Nowhere"}, "capacity": {"many"}}).want(t, 422)
	ann.submit(t, "/settings", url.Values{"name": {"a b"}, "back": {"/my"}}).want(t, 422)
	for has, typed := range map[string]url.Values{
		"hours0": {"do": {"rules"}, "revision": {"1"}, "hours0": {"from nine"}, "longestMinutes": {"90"}, "earlyUseMinutes": {"5"}, "approval": {"none"}},
		"start":  {"do": {"close"}, "revision": {"1"}, "start": {"2027-03-28T02:30"}, "end": {"soon"}, "reason": {"works"}},
		"name":   {"do": {"details"}, "revision": {"1"}, "name": {"Red"}, "zone": {"Nowhere"}, "note": {"a note"}},
	} {
		form := ann.submit(t, "/house/red", typed).want(t, 422).fields(t, has)
		for name, values := range typed {
			if name != "do" && name != "revision" && name != "end" && form.Get(name) != values[0] {
				t.Errorf("%s is %q, and %q was typed", name, form.Get(name), values[0])
			}
		}
	}
	for _, path := range []string{"/bookings/none/page", "/bookings/a%20b/page", "/rooms/none/page", "/house/none", "/bookings/none/change", "/assets/0/none.js"} {
		ann.get(t, path).want(t, 404)
	}
	for _, path := range []string{"/bookings/x/page", "/rooms/red/door", "/approvals"} {
		if r := ann.submit(t, path, url.Values{"do": {"nothing"}}); r.status >= 500 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if r := ann.get(t, "/my?cursor=nonsense").want(t, 400); !strings.Contains(r.body, "<code>"+r.header.Get("X-Request-Id")+"</code>") {
		t.Errorf("no number of the request in %s", r.body)
	}
	ann.get(t, "/bookings/none/page?asOf=x").want(t, 404)
	ann.get(t, "/board?day=nonsense&capacity=x&from=25:00&to=1").want(t, 200)
}

// Rules and closed periods are set by forms, and said in words where they forbid something.
func TestRoomsWithoutScripts(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	houseForTest(t, ann)
	day := tomorrow(t)
	rules := ann.get(t, "/house/red").fields(t, "hours0")
	for i := range 7 {
		rules.Set("hours"+string(rune('0'+i)), "08:00-12:00, 13:00-18:00")
	}
	rules.Set("stepMinutes", "15")
	rules.Set("longestMinutes", "120")
	rules.Set("approval", "none")
	rules.Set("do", "rules")
	ann.submit(t, "/house/red", rules).has(t, "Saved.")
	ann.submit(t, "/house/red", rules).want(t, 409).has(t, "Somebody changed it meanwhile") // the form is older than what it changed
	ann.get(t, "/rooms/red/page").has(t, "It can be booked Mon–Sun 08:00–12:00, 13:00–18:00.", "Bookings start and end in steps of 15 min.", "A booking lasts at most 2 h.", "Bookings are confirmed at once.", "Next free:")
	newReader(s, "ann", "ko").after(ann).get(t, "/rooms/red/page").has(t, "예약 가능 시간: 월–일 오전 8:00–오후 12:00, 오후 1:00–6:00", "15분 단위로 예약합니다.", "최대 2시간까지 예약할 수 있습니다.")
	book := func(from, to string) reply {
		return ann.submit(t, "/book", url.Values{"room": {"red"}, "start": {day + "T" + from}, "end": {day + "T" + to}, "user": {"ann"}})
	}
	book("11:30", "12:20").want(t, 409).has(t, "That day the room can be booked 08:00–12:00, 13:00–18:00.", "multiple of 15 min", "The earliest possible start is")
	book("08:00", "09:00").want(t, 200).has(t, "Booked.")

	closed := ann.get(t, "/house/red").fields(t, "reason")
	closed.Set("start", day+"T14:00")
	closed.Set("end", day+"T16:00")
	closed.Set("reason", "works")
	closed.Set("do", "close")
	page := ann.submit(t, "/house/red", closed).has(t, "14:00–16:00: works")
	book("15:00", "15:30").want(t, 409).has(t, "Red is closed", "works")
	ann.get(t, "/board?day="+day).has(t, "works")
	reopen := page.fields(t, "closure")
	reopen.Set("do", "reopen")
	ann.submit(t, "/house/red", reopen)
	book("15:00", "15:30").want(t, 200)

	// A filter that no room fits any more is shown as what it is, until another is chosen.
	gone := ann.get(t, "/board?building=Former&equipment=Old+beamer").want(t, 200).has(t, "0 of 3 rooms", "No room fits").fields(t, "building")
	if gone.Get("building") != "Former" || gone.Get("equipment") != "Old beamer" {
		t.Errorf("%v", gone)
	}
	if gone := ann.get(t, "/board").fields(t, "building"); gone.Get("building") != "" || gone.Get("equipment") != "" {
		t.Errorf("%v", gone)
	}

	retire := ann.get(t, "/house/red").fields(t, "bookings")
	retire.Set("do", "retire")
	if r := ann.submit(t, "/house/red", retire); r.status != 200 && r.status != 422 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// What there is in a room is listed a piece a line, so that a piece may have a comma in its name; and what was stored stays as it is.
func TestEquipmentByTheLine(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	s.do(t, "POST", "/rooms", `{"roomId":"blue","name":"Blue","equipment":["Table, round","Screen"]}`).want(t, 201)
	form := ann.get(t, "/house/blue").fields(t, "equipment")
	if form.Get("equipment") != "Table, round\nScreen" {
		t.Fatalf("%q", form.Get("equipment"))
	}
	form.Set("do", "details")
	form.Set("equipment", "Table, round\r\n\r\n Screen \r\nChairs, ten\r\n")
	ann.submit(t, "/house/blue", form).has(t, "Saved.")
	if r := s.do(t, "GET", "/rooms/blue", "").want(t, 200); fmt.Sprintf("%q", r.at(t, "equipment")) != `["Table, round" "Screen" "Chairs, ten"]` {
		t.Error(r.body)
	}
}

// A photo is given by a form, described anew, and taken away; what cannot be one is said beside the form, with what was typed.
func TestPhotoWithoutScripts(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	s.do(t, "POST", "/rooms", `{"roomId":"blue","name":"Blue"}`).want(t, 201)
	form := ann.get(t, "/house/blue").fields(t, "alt")
	form.Set("do", "photo")
	form.Set("alt", "A wall")
	for file, why := range map[string]string{
		"<svg/>": "The picture cannot be read. Choose a JPEG, PNG, GIF or WebP.", "": "The picture cannot be read.", aPicture[:30]: "The picture cannot be read.",
	} {
		if typed := ann.upload(t, "/house/blue", form, file).want(t, 422).has(t, why).fields(t, "alt"); typed.Get("alt") != "A wall" {
			t.Errorf("%q: %v", file, typed)
		}
	}
	ann.upload(t, "/house/blue", form, strings.Repeat("x", 11<<20)).want(t, 413).has(t, "more than 10 MB")
	ann.submit(t, "/house/blue", form).want(t, 400) // which is not the form of the screen
	mute := maps.Clone(form)
	mute.Set("alt", " ")
	ann.upload(t, "/house/blue", mute, aPicture).want(t, 422).has(t, "Say in at most 300 characters what the photo shows.")

	ann.upload(t, "/house/blue", form, aPicture).want(t, 303)
	shown := regexp.MustCompile(`<img class="photo" src="(/rooms/blue/photo\?hash=[0-9a-f]{64})" alt="A wall" width="2" height="1">`)
	for _, path := range []string{"/house/blue", "/rooms/blue/page"} {
		found := shown.FindStringSubmatch(ann.get(t, path).body)
		if found == nil {
			t.Fatalf("%s shows no photo", path)
		}
		if r := ann.ask(t, "GET", found[1], nil).want(t, 200); r.header.Get("Content-Type") != "image/jpeg" {
			t.Errorf("%v", r.header)
		}
	}
	form = ann.get(t, "/house/blue").fields(t, "alt")
	form.Set("do", "photo")
	form.Set("alt", `A "white" wall`)
	ann.upload(t, "/house/blue", form, aPicture).want(t, 303)
	ann.upload(t, "/house/blue", form, aPicture).want(t, 409).has(t, "Somebody changed it meanwhile")
	if r := ann.get(t, "/rooms/blue/page"); !strings.Contains(r.body, `alt="A &#34;white&#34; wall"`) {
		t.Error(r.body)
	}
	remove := ann.get(t, "/house/blue").fields(t, "alt")
	remove.Set("do", "remove-photo")
	if r := ann.submit(t, "/house/blue", remove); strings.Contains(r.body, "<img") {
		t.Error(r.body)
	}
	nothing := ann.get(t, "/house/blue").fields(t, "alt")
	nothing.Set("do", "photo")
	nothing.Set("alt", "A wall")
	r := httptest.NewRequest("POST", "/house/blue", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"do\"\r\n\r\nphoto\r\n--x\r\nContent-Disposition: form-data; name=\"revision\"\r\n\r\n"+
		nothing.Get("revision")+"\r\n--x\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"\"\r\n\r\n\r\n--x--\r\n"))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if got := ann.send(r); got.status != 422 {
		t.Errorf("no file was chosen, and there is no photo: %d %s", got.status, got.body)
	} else {
		got.has(t, "Choose a picture.")
	}
}

// Who may not do something is shown no form for it, and a form that is sent all the same does nothing.
func TestFormsAreForWhoMayUseThem(t *testing.T) {
	h := newBusyHouse(t)
	forms := func(user, target string) bool {
		r := h.query(t, user, target, "Accept: text/html")
		if r.status >= 500 {
			t.Errorf("%s for %s: %d", target, user, r.status)
		}
		doc, err := html.Parse(strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		for n := range doc.Descendants() {
			form, main := false, false
			for p := n; n.Data == "button" && p != nil; p = p.Parent {
				form, main = form || p.Data == "form" && attr(p, "method") == "post", main || p.Data == "main"
			}
			if form && main {
				return true
			}
		}
		return false
	}
	offered := map[string][]string{}
	for _, r := range h.pages.Routes() {
		if r.Method != http.MethodGet || r.Public || strings.HasPrefix(r.Path, "/signin") {
			continue
		}
		for _, target := range h.targets(t, r.Path) {
			if r.Path == "/approvals" {
				target += "?all=true"
			}
			for _, user := range []string{"bob", "admin"} {
				if !slices.Contains(offered[user], r.Path) && forms(user, target) {
					offered[user] = append(offered[user], r.Path)
				}
			}
		}
	}
	own := []string{"/account", "/book", "/rooms/{id}/door", "/rooms/{id}/page"} // where bob books, reports faults, and looks after himself
	others := []string{"/approvals", "/bookings/{id}/change", "/bookings/{id}/page", "/house", "/house/{id}", "/people", "/people/tokens", "/people/{id}"}
	slices.Sort(offered["bob"])
	slices.Sort(offered["admin"])
	if want := slices.Sorted(slices.Values(slices.Concat(own, others))); !slices.Equal(offered["bob"], own) || !slices.Equal(offered["admin"], want) {
		t.Errorf("bob is offered forms by %v, want %v; and the administrator by %v, want %v", offered["bob"], own, offered["admin"], want)
	}

	const form = "Content-Type: application/x-www-form-urlencoded"
	annsForm := fmt.Sprintf("id=5b0c8f2e-6a4d-4f57-9c0e-2d0f1a7be3c4&room=green&start=%sT08:00&end=%[1]sT08:15&user=%s", h.day, h.ann)
	h.do(t, "POST", "/book", annsForm, form, h.as["ann"]).want(t, 303)
	for _, sent := range [][2]string{{"/book", annsForm}, {"/house", "do=sample"}, {"/house", "do=add&id=new&name=New"}, {"/house/red", "do=retire&revision=0"}} {
		if r := h.do(t, "POST", sent[0], sent[1], form, h.as["bob"]); r.status != 403 {
			t.Errorf("%s with %s: %d %s", sent[0], sent[1], r.status, r.body)
		}
	}
	if rooms := h.query(t, "admin", "/rooms?total=true&retired=true"); rooms.at(t, "page.totalElements") != 3.0 || strings.Contains(rooms.body, "RETIRED") {
		t.Error(rooms.body)
	}
}

// The display at a door books, starts and ends.
func TestDoorWithoutScripts(t *testing.T) {
	s := furnished(t)
	door := newReader(s, "", "en")
	houseForTest(t, door)
	room, name := "/rooms/red/door", "Red"
	if time.Now().In(zone(t, "Asia/Seoul")).Hour() == 23 { // when little is left of the day there, it is day in Berlin
		room, name = "/rooms/far/door", "Far"
	}
	door.get(t, room).want(t, 200).has(t, "Free", "Book 15 min", "Nothing more today")
	door.submit(t, room, url.Values{"do": {"book"}, "minutes": {"15"}}).has(t, "Held", "door", "Start the use")
	started := door.get(t, room).fields(t, "booking")
	started.Set("do", "start")
	door.submit(t, room, started).has(t, "In use", "End the use")
	door.submit(t, room, url.Values{"do": {"book"}, "minutes": {"15"}}).want(t, 409).has(t, name+" is taken")

	// In the lobby what is free comes first.
	lobby := door.get(t, "/lobby").want(t, 200).has(t, "2 of 3 rooms are free", "Blue", "In use").body
	if taken := strings.Index(lobby, name+"</strong>"); taken < strings.Index(lobby, "Blue &lt;script") {
		t.Errorf("what is taken comes first: %s", lobby)
	}
	started.Set("do", "end")
	door.submit(t, room, started).has(t, "Free")

	// One of electronic paper has no scripts, and is drawn anew once a minute, also after something was refused.
	paper := door.get(t, room+"?display=e-ink").want(t, 200)
	if paper.header.Get("Refresh") != "60" || strings.Contains(paper.body, "<script") || !strings.Contains(paper.body, "e-ink") {
		t.Errorf("%v %s", paper.header, paper.body)
	}
	if r := door.ask(t, "POST", room+"?display=e-ink", url.Values{"do": {"book"}, "minutes": {"15"}}).want(t, 303); r.header.Get("Location") != room+"?display=e-ink" {
		t.Errorf("%v", r.header)
	}
	if r := door.submit(t, room+"?display=e-ink", url.Values{"do": {"book"}, "minutes": {"15"}}).want(t, 409); r.header.Get("Refresh") != "60" {
		t.Errorf("%v", r.header)
	}

	door.get(t, "/lobby?building=none").has(t, "There is no room to show.")
}

// Every screen can be reached, has what it must have in both languages, and its links lead somewhere.
func TestScreensInBothLanguages(t *testing.T) {
	s := furnished(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	if _, err := web.LoadSampleHouse(context.Background(), s.commands, web.SampleActor, now); err != nil {
		t.Fatal(err)
	}
	if err := web.BookSampleHouse(context.Background(), s.commands, now, s.zone); err != nil {
		t.Fatal(err)
	}
	end, err := s.end(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Server.lists.RoomNames(context.Background(), end); err != nil {
		t.Fatal(err)
	}
	for _, language := range []string{"en", "ko"} {
		b := newReader(s, "lee", language)
		seen := map[string]bool{}
		kinds := map[string]int{} // how many screens of a kind were read
		next := []string{"/"}
		for len(next) > 0 {
			path := next[0]
			next = next[1:]
			r := b.ask(t, "GET", path, nil)
			if r.status != 200 {
				t.Errorf("%s: %d", path, r.status)
				continue
			}
			if r.header.Get("Content-Security-Policy") != screenPolicy {
				continue // a file, a feed, or a page for programmers
			}
			checkScreen(t, path, r)
			if !strings.Contains(r.body, `<html lang="`+language+`"`) {
				t.Errorf("%s is not in %s", path, language)
			}
			for _, m := range regexp.MustCompile(` (?:href|src)="([^"]+)"`).FindAllStringSubmatch(r.body, -1) {
				target := html.UnescapeString(m[1])
				at, err := url.Parse("http://example.com" + path)
				if err != nil {
					t.Fatal(err)
				}
				if at, err = at.Parse(target); err != nil || at.Host != "example.com" {
					t.Errorf("%s links to %s", path, target)
					continue
				}
				kind := regexp.MustCompile(`/[^/]*[0-9][^/]*/`).ReplaceAllString(at.Path, "/id/")
				if link := at.RequestURI(); !seen[link] && kinds[kind] < 4 {
					seen[link] = true
					kinds[kind]++
					next = append(next, link)
				}
			}
		}
		for _, kind := range []string{"/board", "/my", "/approvals", "/messages", "/report", "/house", "/book", "/settings", "/bookings/id/page", "/report.csv"} {
			if kinds[kind] == 0 {
				t.Errorf("no link leads to %s, of %v", kind, kinds)
			}
		}
	}
}

// A form of another site is refused, and does nothing.
func TestFormsOfOtherSites(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	form := url.Values{"do": {"sample"}}
	for _, headers := range [][]string{
		{"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {"Sec-Fetch-Site: ", "Origin: https://evil.example"},
	} {
		ann.ask(t, "POST", "/house", form, headers...).want(t, 403)
	}
	ann.get(t, "/").has(t, "No rooms yet")
	ann.submit(t, "/house", form).has(t, "12 of 12 rooms")
}

// The language is that of the reader's browser until the reader chooses another, in place.
func TestLanguages(t *testing.T) {
	s := furnished(t)
	for accept, want := range map[string]string{
		"": "en", "ko": "ko", "ko-KR,ko;q=0.9,en;q=0.8": "ko", "en-GB,ko;q=0.5": "en", "de,fr": "en", "de,ko;q=0.1": "ko", "nonsense;;q": "en",
	} {
		b := newReader(s, "", accept)
		if r := b.get(t, "/settings?back=/report"); !strings.Contains(r.body, `<html lang="`+want+`"`) {
			t.Errorf("%q is not answered in %s", accept, want)
		}
	}
	b := newReader(s, "", "en")
	if r := b.ask(t, "POST", "/settings", url.Values{"language": {"ko"}, "back": {"/report?from=2026-11-01"}}).want(t, 303); r.header.Get("Location") != "/report?from=2026-11-01" {
		t.Errorf("%v", r.header)
	}
	b.get(t, "/report").has(t, "회의실 사용 현황")

	// So is the clock: as is usual in the language until the reader chooses another.
	houseForTest(t, b)
	day := tomorrow(t)
	booked := b.submit(t, "/book", url.Values{"room": {"red"}, "start": {day + "T13:30"}, "end": {day + "T14:05"}, "user": {"ann"}}).has(t, "오후 1:30–2:05")
	path := "/bookings/" + regexp.MustCompile(`<code>([0-9a-f-]{36})</code>`).FindStringSubmatch(booked.body)[1] + "/page"
	for hours, want := range map[string]string{"24": "13:30–14:05", "12": "오후 1:30–2:05", "usual": "오후 1:30–2:05"} {
		b.submit(t, "/settings", url.Values{"hours": {hours}, "back": {path}}).has(t, want)
	}
	newReader(s, "ann", "en").after(b).get(t, path).has(t, "13:30–14:05")
	if r := b.ask(t, "POST", "/settings", url.Values{"language": {"en"}, "back": {"//evil.example"}}).want(t, 303); r.header.Get("Location") != "/" {
		t.Errorf("%v", r.header)
	}
}

// The first board, with all that it loads, is small; what does not change is kept for good.
func TestFirstBoardIsSmall(t *testing.T) {
	s := furnished(t)
	b := newReader(s, "lee", "en")
	b.submit(t, "/house", url.Values{"do": {"sample"}})
	if err := web.BookSampleHouse(context.Background(), s.commands, time.Now().UTC().Truncate(time.Millisecond), s.zone); err != nil {
		t.Fatal(err)
	}
	page := b.ask(t, "GET", "/", nil, "Accept-Encoding: gzip").want(t, 200)
	total := len(page.body)
	z, err := gzip.NewReader(strings.NewReader(page.body))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(string(body)+` src="`+s.pages.Asset("board.css")+`"`, -1) { // which the script loads
		r := b.ask(t, "GET", m[1], nil, "Accept-Encoding: gzip").want(t, 200)
		total += len(r.body)
		if !strings.Contains(r.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %v", m[1], r.header)
		}
		if r := b.ask(t, "GET", regexp.MustCompile(`/assets/[^/]+/`).ReplaceAllString(m[1], "/assets/other/"), nil).want(t, 200); strings.Contains(r.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s of another version: %v", m[1], r.header)
		}
	}
	t.Logf("%d bytes", total)
	if total > 100<<10 {
		t.Errorf("the first board has %d bytes", total)
	}
}

// Behind a proxy with a path prefix links, forms and cookies have it.
func TestScreensBehindAPrefix(t *testing.T) {
	s := newService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	b := newReader(s, "", "en")
	r := b.ask(t, "GET", "/settings", nil, "X-Forwarded-Prefix: /rooms-app", "X-Forwarded-Proto: https").want(t, 200)
	for _, m := range regexp.MustCompile(` (?:href|src|action)="([^"]+)"`).FindAllStringSubmatch(r.body, -1) {
		if m[1] != "#main" && !strings.HasPrefix(m[1], "/rooms-app/") {
			t.Errorf("%s", m[0])
		}
	}
	r = b.ask(t, "POST", "/settings", url.Values{"name": {"ann"}, "back": {"/my"}}, "X-Forwarded-Prefix: /rooms-app", "X-Forwarded-Proto: https").want(t, 303)
	if r.header.Get("Location") != "/rooms-app/my" || !strings.Contains(r.header.Get("Set-Cookie"), "Path=/rooms-app/; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("%v", r.header)
	}
}

// Screens are not part of the API: its description has none of their addresses.
func TestScreensAreNotInTheAPI(t *testing.T) {
	s := newService(t)
	doc := loadContract(t)
	for _, r := range s.pages.Routes() {
		if p := doc.Paths.Value(r.Path); p != nil && p.GetOperation(r.Method) != nil {
			t.Errorf("%s %s is in the description of the API", r.Method, r.Path)
		}
	}
	s.do(t, "PUT", "/board", `{}`).want(t, 405)
}

// link is the address, of which it is a part, of a link of a screen.
func (r reply) link(t testing.TB, part string) string {
	t.Helper()
	m := regexp.MustCompile(`href="([^"]*` + regexp.QuoteMeta(part) + `[^"]*)"`).FindStringSubmatch(r.body)
	if m == nil {
		t.Fatalf("no link with %s: %s", part, r.body)
	}
	return html.UnescapeString(m[1])
}

// Whatever is in the address of a screen, signing in, the settings and the other language lead back to it.
func TestAwkwardAddresses(t *testing.T) {
	const address = "/board?text=R%26D%20%23%2B%3D%25%22%3Cb%3E+%ED%95%9C%EC%98%A5&building=a;b&capacity=%0a"
	wantBack := func(r reply) {
		t.Helper()
		if to := r.want(t, 303).header.Get("Location"); to != address {
			t.Errorf("it leads back to %s", to)
		}
	}
	ann := newReader(furnished(t), "ann", "en")
	shown := ann.get(t, address).want(t, 200)
	wantBack(ann.ask(t, "POST", "/settings", shown.fields(t, "language")))
	settings := ann.get(t, shown.link(t, "/settings?back=")).want(t, 200)
	wantBack(ann.ask(t, "POST", "/settings", settings.fields(t, "hours")))
	for range 3 { // where a link leads to the settings, and a form to the other language of them
		settings = ann.submit(t, "/settings", ann.get(t, settings.link(t, "/settings?back=")).fields(t, "language"))
	}
	wantBack(ann.ask(t, "POST", "/settings", settings.fields(t, "hours")))
	wrong := ann.ask(t, "POST", "/settings", url.Values{"name": {"a b"}, "back": {address}}).want(t, 422)
	wantBack(ann.ask(t, "POST", "/settings", ann.submit(t, "/settings", wrong.fields(t, "language")).fields(t, "hours")))

	s := newAccountService(t)
	s.user(t, "ann", domain.RoleUser)
	b := newReader(s.service, "", "en")
	in := b.get(t, b.ask(t, "GET", address, nil).want(t, 303).header.Get("Location"))
	in = b.submit(t, "/settings", in.fields(t, "language"))
	form := in.fields(t, "password")
	form.Set("name", "ann")
	form.Set("password", other)
	form = b.submit(t, "/signin", form).want(t, 403).fields(t, "password")
	form.Set("password", good)
	wantBack(b.ask(t, "POST", "/signin", form))
	refused := newReader(s.service, "", "en").get(t, strings.Replace(address, "/board", "/bookings", 1)).want(t, 401)
	if back, err := url.Parse(refused.link(t, "/signin?back=")); err != nil || back.Query().Get("back") != strings.Replace(address, "/board", "/bookings", 1) {
		t.Errorf("%v %v", back, err)
	}
}

// Where there are accounts, a screen leads to where one signs in and back, and what is done then is done by who signed in, whatever a cookie says.
func TestSignInWithoutScripts(t *testing.T) {
	s := newAccountService(t)
	user := s.user(t, "ann", domain.RoleUser)
	b := newReader(s.service, "mallory", "en")
	for _, path := range []string{"/", "/my", "/book?room=1", "/house"} {
		if r := b.ask(t, "GET", path, nil).want(t, 303); r.header.Get("Location") != "/signin?back="+url.QueryEscape(path) {
			t.Errorf("%s: %v", path, r.header)
		}
	}
	b.ask(t, "POST", "/house", url.Values{"do": {"sample"}}).want(t, 303)
	// What was typed in a form that nobody may send any more is in it again.
	if r := b.ask(t, "POST", "/book", url.Values{"room": {"1"}, "start": {"2027-03-10T09:00"}, "password": {"secret"}}).want(t, 303); r.header.Get("Location") != "/signin?back="+url.QueryEscape("/book?room=1&start=2027-03-10T09%3A00") {
		t.Errorf("%v", r.header)
	}
	// So is the rest of its address, but for what was said of the command before.
	if r := b.ask(t, "POST", "/rooms/1/page?day=2027-03-10&done=changed", url.Values{"do": {"report"}}).want(t, 303); r.header.Get("Location") != "/signin?back="+url.QueryEscape("/rooms/1/page?day=2027-03-10") {
		t.Errorf("%v", r.header)
	}
	form := b.get(t, "/signin?back=%2Fboard").want(t, 200).fields(t, "password")
	form.Set("name", "ann")
	form.Set("password", other)
	b.submit(t, "/signin", form).want(t, 403).has(t, "The name or the password is wrong.")
	form.Set("password", good)
	in := b.ask(t, "POST", "/signin", form).want(t, 303)
	if in.header.Get("Location") != "/board" || b.cookies["roombook"] == "" {
		t.Fatalf("%v", in.header)
	}
	b.get(t, "/board").has(t, "Sign out")
	if typed := b.get(t, "/book?room=1&start=2027-03-10T09%3A00").fields(t, "start"); typed.Get("room") != "1" || typed.Get("start") != "2027-03-10T09:00" {
		t.Errorf("%v", typed)
	}
	// A session that ends while a form is filled in loses nothing of it: after another sign-in it is there to be sent.
	if err := s.accounts.SignOutEverywhere(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, user); err != nil {
		t.Fatal(err)
	}
	late := b.ask(t, "POST", "/book", url.Values{"room": {"1"}, "start": {"2027-03-10T14:15"}, "end": {"2027-03-10T15:45"}, "user": {string(user)}}).want(t, 303)
	again := b.get(t, late.header.Get("Location")).want(t, 200).fields(t, "password")
	again.Set("name", "ann")
	again.Set("password", good)
	typed := b.submit(t, "/signin", again).fields(t, "start")
	if typed.Get("room") != "1" || typed.Get("start") != "2027-03-10T14:15" || typed.Get("end") != "2027-03-10T15:45" {
		t.Errorf("%v", typed)
	}
	b.ask(t, "POST", "/book", typed).want(t, 303)
	b.ask(t, "POST", "/house", url.Values{"do": {"add"}, "id": {"blue"}, "name": {"Blue"}}).want(t, 403) // who looks after rooms is an administrator
	booked := b.ask(t, "POST", "/book", url.Values{"room": {"1"}, "start": {"2027-03-10T09:00"}, "end": {"2027-03-10T10:00"}, "user": {string(user)}}).want(t, 303)
	page := b.get(t, "/bookings/"+strings.Split(booked.header.Get("Location"), "/")[2]+"/page").has(t, "Booked for ann:")
	if text := page.text(t); strings.Contains(text, string(user)) { // who is called by their name
		t.Error(text)
	}
	b.ask(t, "POST", "/book", url.Values{"room": {"1"}, "start": {"2027-03-10T11:00"}, "end": {"2027-03-10T12:00"}, "user": {"somebody"}}).want(t, 403)
	b.ask(t, "POST", "/signout", url.Values{}).want(t, 303)
	b.ask(t, "GET", "/my", nil).want(t, 303)
	form.Set("back", "//evil.example")
	if r := b.ask(t, "POST", "/signin", form).want(t, 303); r.header.Get("Location") != "/" {
		t.Errorf("%v", r.header)
	}
}
