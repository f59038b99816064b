package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"roombook/domain"
	"roombook/projections"
)

const browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"

// A browser that has nothing to show gets a page like any other, in the reader's language, that says why and leads on; whoever asks for JSON
// gets the problem.
func TestFailuresArePagesInBrowsers(t *testing.T) {
	s := newService(t)
	large := url.Values{"reason": {strings.Repeat("x", 300<<10)}}
	full := func(l *limit) func() func() {
		return func() func() { was := l.max; l.max = 0; return func() { l.max = was } }
	}
	lists := func() func() { s.lists.err = projections.ErrUnavailable; return func() { s.lists.err = nil } }
	log := func(err error) func() func() {
		return func() func() {
			s.log.setFail(func(context.Context) error { return err })
			return func() { s.log.setFail(nil) }
		}
	}
	for _, tt := range []struct {
		name, method, path string
		form               url.Values
		headers            []string
		when               func() func()
		status             int
		english, korean    string
	}{
		{"no such path", "GET", "/nothing", nil, nil, nil, 404, "There is no page at this address.", "이 주소에는 페이지가 없습니다."},
		{"no such path of a form", "POST", "/nothing", url.Values{}, nil, nil, 404, "There is no page at this address.", "이 주소에는 페이지가 없습니다."},
		{"no page", "GET", "/password", nil, nil, nil, 404, "There is no page at this address.", "이 주소에는 페이지가 없습니다."},
		{"the wrong method", "POST", "/board", url.Values{}, nil, nil, 405, "cannot be opened in this way", "이런 방식으로 열 수 없습니다."},
		{"a form's address", "GET", "/signout", nil, nil, nil, 405, "cannot be opened in this way", "이런 방식으로 열 수 없습니다."},
		{"no such booking", "GET", "/bookings/none", nil, nil, nil, 404, "There is no such booking.", "그런 예약이 없습니다."},
		{"no such room", "GET", "/rooms/none/history", nil, nil, nil, 404, "There is no such room.", "그런 회의실이 없습니다."},
		{"no such entry", "GET", "/bookingLists/none", nil, nil, nil, 404, "There is no such booking.", "그런 예약이 없습니다."},
		{"no such user", "GET", "/me", nil, nil, nil, 404, "Nobody signs in on this server.", "이 서버에서는 로그인하지 않습니다."},
		{"no such parameter", "GET", "/bookings?x=1", nil, nil, nil, 400, "The request's parameters are not acceptable.", "요청 매개변수가 올바르지 않습니다."},
		{"only data", "GET", "/bookings/none", nil, []string{"Accept: text/html"}, nil, 406, "only data for programs", "프로그램용 데이터만 있습니다."},
		{"another host", "GET", "/", nil, []string{"Host: evil.example"}, nil, 421, "--public-url", "--public-url"},
		{"a form of another site", "POST", "/house", url.Values{}, []string{"Sec-Fetch-Site: cross-site"}, nil, 403, "not at the address of this server", "이 서버의 주소가 아닌 곳에서"},
		{"a form that is too large", "POST", "/book", large, nil, nil, 413, "too much text", "내용이 너무 깁니다."},
		{"too many queries", "GET", "/my", nil, nil, full(s.queryLimit), 503, "too much to do", "요청이 너무 많습니다."},
		{"too many commands", "POST", "/book", url.Values{}, nil, full(s.commandLimit), 503, "too much to do", "요청이 너무 많습니다."},
		{"lists away", "GET", "/board", nil, nil, lists, 503, "no connection to its store", "저장소에 연결할 수 없습니다."},
		{"data of lists away", "GET", "/bookingLists", nil, nil, lists, 503, "no connection to its store", "저장소에 연결할 수 없습니다."},
		{"too slow", "GET", "/bookings/x", nil, nil, log(context.DeadlineExceeded), 503, "did not answer in time", "제때 응답하지 못했습니다."},
		{"what nobody thought of", "GET", "/bookings/x", nil, nil, log(errors.New("secret")), 500, "Something went wrong on the server", "서버에 문제가 생겨"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.when != nil {
				defer tt.when()()
			}
			for language, words := range map[string]string{"en": tt.english, "ko": tt.korean} {
				b := newReader(s, "", language)
				ask := func(headers ...string) reply {
					r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.form.Encode()))
					for _, h := range append([]string{browser, "Accept-Language: " + language, "Content-Type: " + mediaForm, "X-Request-Id: q7"}, append(tt.headers, headers...)...) {
						name, value, _ := strings.Cut(h, ": ")
						r.Header.Set(name, value)
						if name == "Host" {
							r.Host = value
						}
					}
					return b.serve(r)
				}
				page := ask()
				checkScreen(t, tt.path, page)
				page.want(t, tt.status).has(t, words, "q7")
				if !strings.Contains(page.body, `<html lang="`+language+`"`) || !strings.Contains(page.body, `href="/"`) || strings.Contains(page.body, "secret") {
					t.Error(page.body)
				}
				if leads := strings.Contains(page.text(t), map[string]string{"en": "To the board", "ko": "예약 현황으로"}[language]); leads == (tt.status == http.StatusMisdirectedRequest) {
					t.Error("what it leads to: ", page.text(t))
				}
				if m := regexp.MustCompile(`href="(/problems/[^"]*)"`).FindStringSubmatch(page.body); m != nil {
					b.get(t, m[1]).want(t, 200)
				} else if tt.status != http.StatusMisdirectedRequest && tt.status != http.StatusRequestEntityTooLarge && tt.path != "/password" {
					t.Error("the problem's type is not linked to")
				}
				if page.header.Get("Allow") == "" && tt.status == 405 || page.header.Get("Retry-After") == "" && tt.status == 503 || !strings.Contains(page.header.Get("Vary"), "Accept") {
					t.Error(page.header)
				}
				for _, accept := range []string{"*/*", mediaHAL, "application/json", mediaProblem} {
					got := ask("Accept: " + accept)
					if screen := map[string]bool{"no page": true, "a form that is too large": true, "lists away": true}[tt.name]; !screen && got.header.Get("Content-Type") != mediaProblem {
						t.Errorf("%s: %v %s", accept, got.header, got.body)
					}
				}
			}
		})
	}
}

// Nobody leaves the page of an error on a display: it leads back by itself, to the same kind of display, whatever went wrong.
func TestDisplaysComeBackByThemselves(t *testing.T) {
	s := newService(t)
	b := newReader(s, "", "en")
	wantBack := func(r reply, path string, status int) {
		t.Helper()
		if back := r.want(t, status).header.Get("Refresh"); back != "30; url="+path {
			t.Errorf("%d of %s: it goes on to %q", status, path, back)
		}
	}
	for _, path := range []string{"/rooms/1/door?display=e-ink", "/lobby?building=A%26B"} {
		misdirected := httptest.NewRequest("GET", path, nil)
		misdirected.Host = "evil.example"
		wantBack(b.send(misdirected), path, 421)
		for err, status := range map[error]int{projections.ErrUnavailable: 503, errors.New("what nobody thought of"): 500} {
			s.lists.err = err
			wantBack(b.ask(t, "GET", path, nil), path, status)
		}
		s.lists.err = nil
		was := s.queryLimit.max
		s.queryLimit.max = 0
		wantBack(b.ask(t, "GET", path, nil), path, 503)
		s.queryLimit.max = was
	}
	const none = "/rooms/a%20b/door?display=e-ink"
	wantBack(b.ask(t, "GET", none, nil), none, 404)
	wantBack(b.ask(t, "POST", none, url.Values{"do": {"book"}}), none, 404)

	// What only ends like the address of a display leads nowhere.
	if back := b.ask(t, "GET", "//evil.example/door", nil).want(t, 404).header.Get("Refresh"); back != "" {
		t.Errorf("it goes on to %q", back)
	}

	// One whose token is gone shows a code again, which it asks for again and again, after a button was pressed too.
	paired := newReader(newAccountService(t).service, "", "en")
	const door = "/rooms/1/door?display=e-ink"
	if r := paired.ask(t, "POST", door, url.Values{"do": {"book"}, "minutes": {"15"}}).want(t, 303); r.header.Get("Location") != door {
		t.Errorf("%v", r.header)
	}
	if r := paired.get(t, door).want(t, 200).has(t, "Sign in"); !strings.Contains(r.body, `<noscript><meta http-equiv="refresh" content="30"></noscript>`) {
		t.Error(r.body)
	}
}

// slowBody is a body of which the rest does not come in time.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestAFormThatStopsComing(t *testing.T) {
	s := newService(t)
	r := httptest.NewRequest("POST", "/book", io.NopCloser(slowBody{}))
	r.Header.Set("Content-Type", mediaForm)
	s.serve(r).want(t, 408).has(t, "before the whole form had arrived")
}

// Where there are accounts such a page is that of whoever is signed in, and who is not is led to where they can.
func TestFailuresOfWhoIsSignedIn(t *testing.T) {
	s := newAccountService(t)
	s.user(t, "ann", domain.RoleUser)
	nobody, ann := newReader(s.service, "", "en"), newReader(s.service, "", "en")
	ann.cookies["roombook"] = strings.TrimPrefix(s.signIn(t, "ann", good), "Cookie: roombook=")
	for _, path := range []string{"/nothing", "/problems", "/problems/slot-taken", "/settings"} {
		if text := nobody.get(t, path).text(t); strings.Contains(text, "Sign out") || strings.Contains(text, "My bookings") {
			t.Errorf("nobody at %s: %s", path, text)
		}
		ann.get(t, path).has(t, "My bookings", "Sign out")
	}
	page := nobody.get(t, "/bookings/none").want(t, 401).has(t, "You are not signed in.")
	if !strings.Contains(page.body, `href="/signin?back=%2fbookings%2fnone"`) || page.header.Get("Www-Authenticate") != "Bearer" {
		t.Errorf("%v %s", page.header, page.body)
	}
	ann.get(t, "/audit").want(t, 403).has(t, "You may not do that.", "Sign out")
}

// What is kept of a refused command with a key is the problem, whatever its first caller accepts.
func TestARefusalIsKeptAsAProblem(t *testing.T) {
	s := newService(t)
	s.book(t, morning)
	r := httptest.NewRequest("POST", "/bookings", strings.NewReader(morning))
	for _, h := range []string{browser, "Content-Type: application/json", "Idempotency-Key: k1"} {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	checkScreen(t, "/bookings", s.serve(r).want(t, 409))
	if again := s.do(t, "POST", "/bookings", morning, "Idempotency-Key: k1").want(t, 409); again.at(t, "type") != "/problems/slot-taken" {
		t.Error(again)
	}
}

// Each type of problem is described in Korean too.
func TestProblemTypesInKorean(t *testing.T) {
	s := newService(t)
	b := newReader(s, "", "ko")
	for _, p := range problemTypes {
		page := b.get(t, "/problems/"+p.name).want(t, 200).text(t)
		if strings.Contains(page, p.title) || strings.Contains(page, p.about) {
			t.Errorf("%s is described in English: %s", p.name, page)
		}
	}
	b.get(t, "/problems").want(t, 200).has(t, "그 시간에 회의실이 예약되어 있습니다")
}
