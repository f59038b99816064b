package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/api/web"
	"roombook/commands/accounts"
	"roombook/domain"
)

// callers are those who ask for each route in the table: a user whose the thing is not, an approver of another room, one of its room, its
// owner, an administrator, the display at the door of its room, and a machine.
var callers = []string{"stranger", "elsewhere", "approver", "owner", "admin", "door", "machine"}

// accessTable says for each route what each of the callers gets: + what they ask for, or what is wrong with that; - a refusal (403); 0 nothing
// (404), where others get what they ask for. A route that is not here makes the test fail.
const accessTable = `
                                          stranger elsewhere approver owner admin door machine
GET /me                                   +        +         +        +     +     +    +
PUT /me/password                          +        +         +        +     +     -    -
DELETE /me/sessions                       +        +         +        +     +     -    -
GET /me/sessions                          +        +         +        +     +     -    -
DELETE /me/sessions/{session}             +        +         +        +     +     -    -
DELETE /users/{user}                      -        -         -        -     +     -    -
GET /users                                -        -         -        -     +     -    -
POST /users                               -        -         -        -     +     -    -
GET /users/{user}                         -        -         -        -     +     -    -
PATCH /users/{user}                       -        -         -        -     +     -    -
PUT /users/{user}/password                -        -         -        -     +     -    -
POST /users/{user}/passwordLink           -        -         -        -     +     -    -
DELETE /users/{user}/sessions             -        -         -        -     +     -    -
GET /tokens                               +        +         +        +     +     -    -
POST /tokens                              -        -         -        +     +     -    -
DELETE /tokens/{token}                    0        0         0        +     +     0    0
POST /displays                            -        -         -        -     +     -    -
POST /bookings                            -        -         +        +     +     -    -
GET /bookings                             +        +         +        +     +     -    -
GET /bookings/{booking}                   +        +         +        +     +     -    -
PATCH /bookings/{booking}                 -        -         +        +     +     -    -
PUT /bookings/{booking}                   -        -         +        +     +     -    -
DELETE /bookings/{booking}                -        -         +        +     +     -    -
GET /bookings/{booking}/history           +        +         +        +     +     -    -
GET /bookings/{booking}/calendar.ics      +        +         +        +     +     -    -
GET /confirms                             +        +         +        +     +     -    -
GET /confirms/{booking}                   +        +         +        +     +     -    -
PATCH /confirms/{booking}                 -        -         +        -     +     -    -
GET /realuses                             +        +         +        +     +     -    -
POST /realuses                            -        -         +        +     +     +    -
GET /realuses/{use}                       +        +         +        +     +     -    -
PATCH /realuses/{use}                     -        -         +        +     +     +    -
GET /bookingLists                         +        +         +        +     +     -    -
GET /bookingLists/{booking}               +        +         +        +     +     -    -
GET /bookingLists/search/findByBookingId  +        +         +        +     +     -    -
GET /roomUseLists                         +        +         +        +     +     -    -
GET /roomUseLists/{booking}               +        +         +        +     +     -    -
GET /roomUseLists/search/findByBookingId  +        +         +        +     +     -    -
GET /notifications                        +        +         +        +     +     -    -
GET /notifications/{notification}         +        +         +        +     +     -    -
POST /notifications/{notification}/retry  -        -         -        -     +     -    +
GET /rooms/{room}/calendar.ics            +        +         +        +     +     +    -
GET /users/{user}/calendar.ics            +        +         +        +     +     -    -
GET /rooms                                +        +         +        +     +     -    -
POST /rooms                               -        -         -        -     +     -    -
GET /rooms/{room}                         +        +         +        +     +     +    -
PUT /rooms/{room}                         -        -         -        -     +     -    -
DELETE /rooms/{room}                      -        -         -        -     +     -    -
POST /rooms/{room}/reinstate              -        -         -        -     +     -    -
GET /rooms/{room}/history                 +        +         +        +     +     +    -
GET /rooms/{room}/conflicts               +        +         +        +     +     +    -
GET /rooms/{room}/photo                   +        +         +        +     +     +    -
PUT /rooms/{room}/photo                   -        -         -        -     +     -    -
DELETE /rooms/{room}/photo                -        -         -        -     +     -    -
GET /rooms/{room}/rules                   +        +         +        +     +     +    -
PUT /rooms/{room}/rules                   -        -         -        -     +     -    -
GET /rooms/{room}/closures                +        +         +        +     +     +    -
POST /rooms/{room}/closures               -        -         -        -     +     -    -
GET /rooms/{room}/closures/{closure}      +        +         +        +     +     +    -
DELETE /rooms/{room}/closures/{closure}   -        -         -        -     +     -    -
GET /rooms/{room}/faults                  +        +         +        +     +     +    -
POST /rooms/{room}/faults                 +        +         +        +     +     +    -
GET /rooms/{room}/faults/{fault}          +        +         +        +     +     +    -
PATCH /rooms/{room}/faults/{fault}        -        -         +        -     +     -    -
GET /occupancy                            +        +         +        +     +     -    -
GET /availability                         +        +         +        +     +     -    -
GET /events                               +        +         +        +     +     +    -
GET /audit                                -        -         -        -     +     -    -
GET /metrics                              -        -         -        -     +     -    +`

// Each route, asked for by each of the callers with a token, does what the table says, and to whom it is refused it does nothing. Without
// credentials, with wrong ones, and for a page of another site, every route is tried in [TestEveryRouteWithEveryCredentials] and
// [TestEveryCommandFromAnotherSite].
func TestEveryRouteByEveryCaller(t *testing.T) {
	s := newAccountService(t)
	as := map[string]string{}
	owner := domain.UserID("")
	for i, n := range []accounts.NewUser{
		{Roles: domain.NewRoles(domain.RoleUser)},
		{Roles: domain.NewRoles(domain.RoleUser, domain.RoleApprover), Rooms: domain.NewRooms("other")},
		{Roles: domain.NewRoles(domain.RoleUser, domain.RoleApprover), Rooms: domain.NewRooms("red")},
		{Roles: domain.NewRoles(domain.RoleUser)},
		{Roles: domain.NewRoles(domain.RoleAdmin)},
		{Roles: domain.NewRoles(domain.RoleDoor), Rooms: domain.NewRooms("red")},
		{Roles: domain.NewRoles(domain.RoleMachine)},
	} {
		n.Name, n.Password = callers[i], good
		id := s.userOf(t, n)
		if as[callers[i]] = s.token(t, id); callers[i] == "owner" {
			owner = id
		}
	}
	admin := as["admin"]
	hours := 0
	booking := func() (id, body string) {
		start := time.Date(2026, 11, 24, hours, 0, 0, 0, time.UTC)
		hours++
		body = fmt.Sprintf(`{"roomId":"red","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":%q}`, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339), owner)
		return s.do(t, "POST", "/bookings", body, admin).want(t, 201).at(t, "bookingId").(string), body
	}
	s.do(t, "POST", "/rooms", `{"roomId":"red","name":"Red"}`, admin).want(t, 201)
	made := 0
	// target is the address of a route, made for one caller, and the body to send there.
	target := func(route string) (path, body string) {
		made++
		_, path, _ = strings.Cut(route, " ")
		fill := func(variable string, value func() string) {
			if strings.Contains(path, variable) {
				path = strings.ReplaceAll(path, variable, value())
			}
		}
		bookingID, bookingBody := "", ""
		if strings.Contains(path, "{booking}") || strings.Contains(path, "{use}") || route == "POST /realuses" {
			bookingID, bookingBody = booking()
		}
		fill("{booking}", func() string { return bookingID })
		fill("{use}", func() string {
			return s.do(t, "POST", "/realuses", `{"bookingId":"`+bookingID+`"}`, admin).want(t, 201).at(t, "realUseId").(string)
		})
		fill("{notification}", func() string { return "none" })
		fill("{room}", func() string { return "red" })
		fill("{closure}", func() string {
			return s.do(t, "POST", "/rooms/red/closures", `{"startDtm":"2030-01-01T00:00:00Z","endDtm":"2030-01-02T00:00:00Z"}`, admin).want(t, 201).at(t, "closureId").(string)
		})
		fill("{fault}", func() string {
			return s.do(t, "POST", "/rooms/red/faults", fmt.Sprintf(`{"text":"fault %d"}`, made), admin).want(t, 201).at(t, "faultId").(string)
		})
		fill("{token}", func() string {
			_, token, err := s.accounts.CreateToken(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, accounts.NewToken{User: owner, ExpiresAt: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return string(token.ID)
		})
		fill("{user}", func() string {
			return string(s.userOf(t, accounts.NewUser{Name: fmt.Sprint("user", made), Roles: domain.NewRoles(domain.RoleUser)}))
		})
		fill("{session}", func() string { return "none" })
		switch route {
		case "POST /users":
			body = fmt.Sprintf(`{"name":"new%d","roles":["user"]}`, made)
		case "PATCH /users/{user}":
			body = `{"fullName":"New"}`
		case "PUT /users/{user}/password":
			body = `{"newPassword":"` + good + `"}`
		case "POST /displays":
			body = `{"code":"BBBB-BBBB"}`
		case "POST /bookings":
			id, same := booking()
			s.do(t, "DELETE", "/bookings/"+id, "", admin).want(t, 204)
			body = same
		case "PATCH /bookings/{booking}":
			body = strings.Replace(bookingBody, `:30:00Z`, `:20:00Z`, 1)
		case "PUT /bookings/{booking}":
			body = strings.Replace(bookingBody, `:30:00Z`, `:20:00Z`, 1)
		case "PATCH /confirms/{booking}":
			body = `{"status":"CONFIRMED"}`
		case "POST /realuses":
			body = `{"bookingId":"` + bookingID + `"}`
		case "PUT /me/password":
			body = `{"password":"` + good + `","newPassword":"` + good + `"}`
		case "POST /tokens":
			body = fmt.Sprintf(`{"userId":%q,"expiresAt":%q}`, owner, time.Now().Add(time.Hour).Format(time.RFC3339))
		case "POST /rooms":
			body = fmt.Sprintf(`{"roomId":"room%d","name":"Room"}`, made)
		case "PUT /rooms/{room}":
			body = fmt.Sprintf(`{"name":"Red %d"}`, made)
		case "PUT /rooms/{room}/rules":
			body = fmt.Sprintf(`{"longestMinutes":%d}`, 1000+made)
		case "PUT /rooms/{room}/photo":
			path += fmt.Sprint("?alt=", made)
			body = aPicture
		case "POST /rooms/{room}/faults":
			body = fmt.Sprintf(`{"text":"fault %d"}`, made)
		case "PATCH /rooms/{room}/faults/{fault}":
			body = `{"status":"SETTLED"}`
		case "POST /rooms/{room}/closures":
			body = `{"startDtm":"2031-01-01T00:00:00Z","endDtm":"2031-01-02T00:00:00Z"}`
		}
		return path, body
	}
	if strings.Join(strings.Fields(strings.SplitN(strings.TrimSpace(accessTable), "\n", 2)[0]), " ") != strings.Join(callers, " ") {
		t.Fatal("the head of the table")
	}
	// written is what the callers have made happen, which a snapshot of a calendar is not.
	written := func() []string {
		return slices.DeleteFunc(s.log.all(), func(event string) bool { return event == "CalendarSnapshot" })
	}
	rows := map[string]bool{}
	for _, row := range strings.Split(strings.TrimSpace(accessTable), "\n")[1:] {
		route := strings.TrimSpace(row[:42])
		method, path, _ := strings.Cut(route, " ")
		rows[method+" "+routeOf(path)] = true
		for i, want := range strings.Fields(row[42:]) {
			path, body := target(route)
			before := len(written())
			asked := method
			if path == "/events" {
				asked = http.MethodHead // does not stream
			}
			headers := []string{as[callers[i]]}
			if route == "POST /tokens" || route == "POST /displays" {
				headers = []string{s.signIn(t, callers[i], good)} // which no token does
			}
			if body == aPicture {
				headers = append(headers, "Content-Type: image/gif")
			}
			got := s.do(t, asked, path, body, headers...)
			switch {
			case want == "-" && asked != http.MethodHead:
				wantProblem(t, callers[i]+": "+route, got, 403, "forbidden")
			case want == "-" && got.status != 403, want == "0" && got.status != 404, want == "+" && (got.status == 401 || got.status == 403 || got.status >= 500):
				t.Errorf("%s: %s: %d %s", callers[i], route, got.status, got.body)
			}
			if after := written(); want != "+" && len(after) != before {
				t.Errorf("%s: %s: has written %v", callers[i], route, after[before:])
			}
		}
	}
	for name, o := range s.operations(t) {
		if !o.public && !rows[name] {
			t.Errorf("%s is not in the table: add a row that says who may do it", name)
		}
	}
	if len(rows) != strings.Count(accessTable, "\n")-1 {
		t.Errorf("%d rows", len(rows))
	}
}

// routeOf is the path of a row as the router has it.
func routeOf(path string) string {
	return strings.NewReplacer("/confirms/{booking}", "/confirms/{bookingId}", "{closure}", "{closureId}", "{fault}", "{faultId}",
		"{user}", "{id}", "{session}", "{id}", "{token}", "{id}", "{booking}", "{id}", "{use}", "{id}", "{notification}", "{id}", "{room}", "{id}").Replace(path)
}

// Whatever changes something is refused to a browser with a session that another site made send it, and to a form, and does nothing.
func TestEveryCommandFromAnotherSite(t *testing.T) {
	s := newAccountService(t)
	s.user(t, "all", domain.AllRoles...)
	session := s.signIn(t, "all", good)
	before := s.log.all()
	commands := 0
	check := func(method, path string) {
		commands++
		for what, headers := range map[string][]string{
			"another site":   {"Sec-Fetch-Site: cross-site", "Origin: http://evil.example"},
			"another host":   {"Sec-Fetch-Site: same-site"},
			"an old browser": {"Origin: http://evil.example"},
			"a form":         {"Origin: null", "Content-Type: application/x-www-form-urlencoded"},
		} {
			got := s.do(t, method, path, "do=add", append(headers, session)...)
			if got.status != 403 {
				t.Errorf("%s %s for %s: %d %s", method, path, what, got.status, got.body)
			}
		}
	}
	for name := range s.operations(t) {
		method, path, _ := strings.Cut(name, " ")
		if method != http.MethodGet {
			check(method, strings.NewReplacer("{id}", "none", "{bookingId}", "none", "{closureId}", "none", "{faultId}", "none").Replace(path))
		}
	}
	for _, r := range s.pages.Routes() {
		if r.Method != http.MethodGet {
			check(r.Method, strings.NewReplacer("{id}", "none").Replace(r.Path))
		}
	}
	if commands < 30 {
		t.Errorf("only %d commands", commands)
	}
	if !slices.Equal(before, s.log.all()) {
		t.Error("something has happened")
	}
	s.do(t, "GET", "/me", "", session).want(t, 200) // which is still signed in
}

// No screen but those that are for anybody is shown, and no form is taken, without a session: the visitor is led to the sign-in, and from
// there to nowhere but this server. A token in the address is no session.
func TestScreensNeedASession(t *testing.T) {
	s := newAccountService(t)
	token := strings.TrimPrefix(s.token(t, s.user(t, "ann", domain.RoleUser)), "Authorization: Bearer ")
	public := map[string]bool{}
	for _, r := range s.pages.Routes() {
		path := strings.NewReplacer("{id}", "none", "{hash}", "none", "{file}", "none").Replace(r.Path)
		for _, query := range []string{"", "?access_token=" + token, "?back=http://evil.example"} {
			got := s.do(t, r.Method, path+query, "")
			if r.Public {
				public[r.Path] = true
				continue
			}
			if r.Path == web.DoorPath && r.Method == http.MethodGet { // shows a code by which the display can be paired
				if got.status != 200 || !strings.Contains(got.body, "Pair this display") || strings.Contains(got.body, `"http://evil`) {
					t.Errorf("%s %s: %d %s", r.Method, path+query, got.status, got.body)
				}
				continue
			}
			to := "/signin"
			if r.Path == web.DoorPath {
				to = path // which shows the code
			}
			if location := got.header.Get("Location"); got.status != http.StatusSeeOther || !strings.HasPrefix(location, to) || strings.Contains(got.body, "Ann") {
				t.Errorf("%s %s: %d to %q: %s", r.Method, path+query, got.status, location, got.body)
			}
		}
	}
	want := []string{"/assets/{hash}/{file}", "/password", "/settings", "/signin", "/signin/oidc", "/signin/oidc/callback", "/signin/oidc/logout", "/signout"}
	if got := slices.Sorted(maps.Keys(public)); !slices.Equal(got, want) {
		t.Errorf("public are %v, want %v", got, want)
	}
	for _, back := range []string{"http://evil.example", "//evil.example", `/\evil.example`, "https:evil.example", "/%09/evil.example", "javascript:alert(1)", "\t//evil.example"} {
		b := newReader(s.service, "", "en")
		form := map[string][]string{"name": {"ann"}, "password": {good}, "back": {back}}
		got := b.ask(t, "POST", "/signin", form)
		location := got.header.Get("Location")
		if got.status != http.StatusSeeOther || !strings.HasPrefix(location, "/") || strings.HasPrefix(location, "//") || strings.HasPrefix(location, `/\`) {
			t.Errorf("back to %q: %d to %q", back, got.status, location)
		}
	}
}

// No screen, and no form, shows bookings to whom it is refused to read them: a machine, and a door of those of other rooms.
func TestScreensNeedWhoMayRead(t *testing.T) {
	s := newAccountService(t)
	machine := s.token(t, s.user(t, "machine", domain.RoleMachine))
	door := s.token(t, s.userOf(t, accounts.NewUser{Name: "door", Roles: domain.NewRoles(domain.RoleDoor), Rooms: domain.NewRooms("blue")}))
	ann := s.user(t, "ann", domain.RoleUser)
	booking := s.do(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":"red","useStartDtm":"2026-11-24T09:00:00Z","useEndDtm":"2026-11-24T10:00:00Z","bookingUserId":%q}`, ann), s.token(t, ann)).want(t, 201).at(t, "bookingId").(string)
	for _, r := range s.pages.Routes() {
		id := booking
		if strings.HasPrefix(r.Path, "/rooms/") {
			id = "red"
		}
		if r.Public {
			continue
		}
		for who, token := range map[string]string{"a machine": machine, "a door": door} {
			got := s.do(t, r.Method, strings.Replace(r.Path, "{id}", id, 1), "do=cancel&confirm=chosen", token, "Content-Type: application/x-www-form-urlencoded")
			if got.status != http.StatusForbidden || strings.Contains(got.body, `href="/bookings/`+booking) {
				t.Errorf("%s: %s %s: %d %s", who, r.Method, r.Path, got.status, got.body)
			}
		}
	}
}

// Whatever headers say, the answer is no fault of the server's, and who is not signed in is not let in.
func FuzzHeaders(f *testing.F) {
	s := newAccountService(f)
	names := []string{"Host", "Origin", "Sec-Fetch-Site", "Accept", "Content-Type", "Content-Encoding", "If-Match", "If-None-Match", "Idempotency-Key", "Roombook-Position",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Request-Id", "X-Correlation-Id", "Traceparent", "Last-Event-Id", "Accept-Language", "Cookie"}
	token := s.token(f, s.user(f, "ann", domain.RoleUser))
	for i, seed := range []string{"", "null", "\x00", "*", "a, b;q=0", "W/\"1\"", "18446744073709551616", "roombook=x", "https://example.com", "../../x", strings.Repeat("a", 5000)} {
		f.Add(byte(i), seed, seed)
	}
	f.Fuzz(func(t *testing.T, which byte, first, second string) {
		for _, authorization := range []string{"", strings.TrimPrefix(token, "Authorization: ")} {
			for _, method := range []string{http.MethodGet, http.MethodPatch} {
				r := httptest.NewRequest(method, "/bookings/none", strings.NewReader("{}"))
				r.Header[names[int(which)%len(names)]] = []string{first, second}
				if name := names[int(which)%len(names)]; name == "Host" {
					r.Host = first
				}
				if authorization != "" {
					r.Header["Authorization"] = []string{authorization}
				}
				if got := s.serve(r); got.status >= 500 || got.status < 400 && got.status != 308 || authorization == "" && got.status == 404 {
					t.Errorf("%s: %q, %q: %d %s", names[int(which)%len(names)], first, second, got.status, got.body)
				}
			}
		}
	})
}
