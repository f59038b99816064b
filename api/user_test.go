package api

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/commands/accounts"
	"roombook/domain"
)

// namesOf are the names of the users of a page.
func namesOf(t testing.TB, r reply) (names []string) {
	t.Helper()
	for _, u := range r.at(t, "_embedded.users").([]any) {
		names = append(names, u.(map[string]any)["name"].(string))
	}
	return names
}

// An administrator adds a user, who chooses a password by the link; lists, changes, disables and erases; a user does none of that.
func TestUserRoutes(t *testing.T) {
	s := newAccountService(t)
	root := s.user(t, "root", domain.RoleAdmin)
	admin := s.token(t, root)
	added := s.do(t, "POST", "/users", `{"name":"Ann","fullName":"Ann O'Hara","address":"ann@rooms.example","language":"ko","roles":["user","approver"],"rooms":["1","2"]}`, admin).want(t, 201)
	id := added.at(t, "userId").(string)
	if added.header.Get("Location") != "http://example.com/users/"+id || added.header.Get("Cache-Control") != "no-store" {
		t.Error(added.header)
	}
	link, code, _ := strings.Cut(added.at(t, "passwordLink").(string), "#")
	if link != "http://example.com/password" || len(code) != 43 {
		t.Error(added.body)
	}
	choose := func(code, password string) reply {
		return newReader(s.service, "", "en").ask(t, "POST", "/password", url.Values{"code": {code}, "password": {password}})
	}
	choose("another", good).want(t, 403)
	choose(code, "short").want(t, 422) // and the code is still good
	choose(code, good).want(t, 303)
	choose(code, other).want(t, 403)
	session := s.signIn(t, "ann", good)

	for what, refused := range map[string]struct {
		body    string
		status  int
		problem string
	}{
		"a name that is taken": {`{"name":"ANN"}`, 409, "name-taken"}, "no name": {`{}`, 422, "invalid-body"}, "no role": {`{"name":"bob","roles":[]}`, 422, "invalid-body"},
		"no address": {`{"name":"bob","address":"bob"}`, 422, "invalid-body"}, "no language": {`{"name":"bob","language":"한국어"}`, 422, "invalid-body"}, "a short password": {`{"name":"bob","password":"x"}`, 422, "invalid-body"},
	} {
		wantProblem(t, what, s.do(t, "POST", "/users", refused.body, admin), refused.status, refused.problem)
	}
	wantProblem(t, "a key", s.do(t, "POST", "/users", `{"name":"bob"}`, admin, "Idempotency-Key: k"), 400, "invalid-parameters")
	if bob := s.do(t, "POST", "/users", `{"name":"bob","password":"`+good+`"}`, admin).want(t, 201); strings.Contains(bob.body, "passwordLink") {
		t.Error(bob.body)
	}

	first := s.do(t, "GET", "/users?size=2", "", admin).want(t, 200)
	next := strings.TrimPrefix(first.at(t, "_links.next.href").(string), "http://example.com")
	if got := namesOf(t, first); !slices.Equal(got, []string{"ann", "bob"}) || strings.Contains(next, "bob") {
		t.Error(got, next)
	}
	if rest := s.do(t, "GET", next, "", admin).want(t, 200); !slices.Equal(namesOf(t, rest), []string{"root"}) || strings.Contains(rest.body, `"next"`) {
		t.Error(rest.body)
	}
	wantProblem(t, "a cursor of nobody", s.do(t, "GET", "/users?cursor=nobody", "", admin), 400, "invalid-parameters")
	s.do(t, "GET", "/users?size=0", "", admin).want(t, 400)

	changed := s.do(t, "PATCH", "/users/"+id, `{"name":"anna","fullName":null,"roles":["user"],"rooms":[]}`, admin).want(t, 200)
	if changed.at(t, "name") != "anna" || changed.at(t, "fullName") != "Ann O'Hara" || strings.Contains(changed.body, "approver") || changed.at(t, "status") != "ACTIVE" {
		t.Error(changed.body)
	}
	wantProblem(t, "another's name", s.do(t, "PATCH", "/users/"+id, `{"name":"bob"}`, admin), 409, "name-taken")
	wantProblem(t, "no status", s.do(t, "PATCH", "/users/"+id, `{"status":"ERASED"}`, admin), 422, "invalid-body")
	wantProblem(t, "nobody", s.do(t, "PATCH", "/users/nobody", `{}`, admin), 404, "user-not-found")
	wantProblem(t, "nobody", s.do(t, "GET", "/users/nobody", "", admin), 404, "user-not-found")

	// What users may do: see themselves, and say in which language they want mail.
	if me := s.do(t, "PATCH", "/users/"+id, `{"language":"en"}`, session).want(t, 200); me.at(t, "language") != "en" {
		t.Error(me.body)
	}
	if me := s.do(t, "PATCH", "/users/"+id, `{"withoutMail":["use-started","booked"]}`, session).want(t, 200); fmt.Sprint(me.at(t, "withoutMail")) != "[booked use-started]" || me.at(t, "language") != "en" {
		t.Errorf("%s", me.body)
	}
	wantProblem(t, "no kind of notifications", s.do(t, "PATCH", "/users/"+id, `{"withoutMail":["passwords"]}`, session), 422, "invalid-body")
	wantProblem(t, "a kind twice", s.do(t, "PATCH", "/users/"+id, `{"withoutMail":["booked","booked"]}`, session), 422, "invalid-body")
	if me := s.do(t, "PATCH", "/users/"+id, `{"withoutMail":[]}`, session).want(t, 200); fmt.Sprint(me.at(t, "withoutMail")) != "[]" {
		t.Errorf("%s", me.body)
	}
	for _, c := range []call{{"GET", "/users", ""}, {"POST", "/users", `{"name":"eve"}`}, {"GET", "/users/" + string(root), ""}, {"PATCH", "/users/" + id, `{"roles":["admin"]}`}, {"PATCH", "/users/" + id, `{"language":"ko","name":"eve"}`},
		{"PATCH", "/users/" + string(root), `{"language":"ko"}`}, {"PUT", "/users/" + string(root) + "/password", `{"newPassword":"` + other + `"}`}, {"POST", "/users/" + id + "/passwordLink", ""},
		{"DELETE", "/users/" + string(root) + "/sessions", ""}, {"POST", "/displays", `{"code":"BDFG-HJKL"}`}, {"GET", "/tokens?userId=all", ""}, {"GET", "/tokens?userId=" + string(root), ""}} {
		wantProblem(t, c.method+" "+c.path+" "+c.body, s.do(t, c.method, c.path, c.body, session), 403, "forbidden")
	}

	s.do(t, "PATCH", "/users/"+id, `{"status":"DISABLED"}`, admin).want(t, 200)
	wantProblem(t, "disabled", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")
	linked := s.do(t, "POST", "/users/"+id+"/passwordLink", "", admin).want(t, 201)
	_, code, _ = strings.Cut(linked.at(t, "passwordLink").(string), "#")
	choose(code, other).want(t, 403)
	s.do(t, "PATCH", "/users/"+id, `{"status":"ACTIVE"}`, admin).want(t, 200)
	s.do(t, "PUT", "/users/"+id+"/password", `{"newPassword":"`+other+`"}`, admin).want(t, 204)
	session = s.signIn(t, "anna", other)
	s.do(t, "DELETE", "/users/"+id+"/sessions", "", admin).want(t, 204)
	wantProblem(t, "signed out", s.do(t, "GET", "/me", "", session), 401, "unauthenticated")

	// The codes of an erased user are over, too.
	s.do(t, "DELETE", "/users/"+id, "", admin).want(t, 204)
	choose(code, other).want(t, 403)
	if got := namesOf(t, s.do(t, "GET", "/users", "", admin).want(t, 200)); !slices.Equal(got, []string{"bob", "root"}) {
		t.Error(got)
	}
}

func TestSessionRoutes(t *testing.T) {
	s := newAccountService(t)
	s.user(t, "ann", domain.RoleUser)
	s.user(t, "bob", domain.RoleUser)
	here, there, bob := s.signIn(t, "ann", good), s.signIn(t, "ann", good), s.signIn(t, "bob", good)
	sessions := func(r reply) (ids map[bool]string) {
		ids = map[bool]string{}
		for _, session := range r.at(t, "_embedded.sessions").([]any) {
			session := session.(map[string]any)
			ids[session["current"].(bool)] = session["sessionId"].(string)
		}
		return ids
	}
	all := s.do(t, "GET", "/me/sessions", "", here).want(t, 200)
	ids := sessions(all)
	if len(ids) != 2 || strings.Contains(all.body, strings.TrimPrefix(here, "Cookie: roombook=")) {
		t.Fatal(all.body)
	}
	wantProblem(t, "another's session", s.do(t, "DELETE", "/me/sessions/"+ids[false], "", bob), 404, "session-not-found")
	s.do(t, "GET", "/me", "", there).want(t, 200)
	s.do(t, "DELETE", "/me/sessions/"+ids[false], "", here).want(t, 204)
	wantProblem(t, "ended", s.do(t, "GET", "/me", "", there), 401, "unauthenticated")
	wantProblem(t, "again", s.do(t, "DELETE", "/me/sessions/"+ids[false], "", here), 404, "session-not-found")
	if left := sessions(s.do(t, "GET", "/me/sessions", "", here).want(t, 200)); len(left) != 1 || left[true] != ids[true] {
		t.Error(left)
	}
}

// All tokens are in pages, each in one of them.
func TestAllTokens(t *testing.T) {
	s := newAccountService(t)
	admin := s.token(t, s.user(t, "root", domain.RoleAdmin))
	ann := s.user(t, "ann", domain.RoleUser)
	for range 3 {
		s.token(t, ann)
	}
	seen := map[string]bool{}
	for path := "/tokens?userId=all&size=2"; path != ""; {
		r := s.do(t, "GET", path, "", admin).want(t, 200)
		for _, token := range r.at(t, "_embedded.tokens").([]any) {
			seen[token.(map[string]any)["tokenId"].(string)] = true
		}
		path = ""
		if strings.Contains(r.body, `"next"`) {
			path = strings.TrimPrefix(r.at(t, "_links.next.href").(string), "http://example.com")
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d tokens", len(seen))
	}
	if of := s.do(t, "GET", "/tokens?userId="+string(ann), "", admin).want(t, 200); len(of.at(t, "_embedded.tokens").([]any)) != 3 {
		t.Error(of.body)
	}
}

// A display is a display again when the session of somebody who was signed in on it is over.
func TestADisplayAfterASession(t *testing.T) {
	s := newAccountService(t)
	secret, code, err := s.accounts.ShowCode(t.Context(), "blue", "", "client", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.accounts.PairDisplay(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, code); err != nil {
		t.Fatal(err)
	}
	s.do(t, "GET", "/rooms/blue/calendar.ics", "", "Cookie: roombook=over; roombook-door="+secret).want(t, 200)
}

// A display shows a code until an administrator has typed it in. From then on it may do what doors may, for its own room, until its token
// is revoked.
func TestDisplays(t *testing.T) {
	s := newAccountService(t)
	byToken, user := s.token(t, s.user(t, "root", domain.RoleAdmin)), s.token(t, s.user(t, "ann", domain.RoleUser))
	admin := s.signIn(t, "root", good)
	display := newReader(s.service, "", "en")
	shown := func(room string) string {
		t.Helper()
		r := display.get(t, "/rooms/"+room+"/door").want(t, 200)
		_, code, _ := strings.Cut(r.body, `<p class="pair-code"><strong>`)
		code, _, _ = strings.Cut(code, "</strong>")
		return code
	}
	code := shown("blue")
	if len(code) != 9 || shown("blue") != code {
		t.Errorf("the code is %q, and then %q", code, shown("blue"))
	}
	if r := display.ask(t, "GET", "/bookings", nil).want(t, 401); strings.Contains(r.body, code) {
		t.Error(r.body)
	}
	pair := func(code, by string) reply {
		return s.do(t, "POST", "/displays", fmt.Sprintf(`{"code":%q}`, code), by)
	}
	wantProblem(t, "a user", pair(code, user), 403, "forbidden")
	wantProblem(t, "a token", pair(code, byToken), 403, "needs-session")
	wantProblem(t, "another code", pair("BBBB-BBBB", admin), 404, "no-display")
	wantProblem(t, "no code", pair("?", admin), 404, "no-display")
	paired := pair(" "+strings.ToLower(strings.ReplaceAll(code, "-", "")), admin).want(t, 201)
	if strings.Contains(paired.body, "rbk_") || paired.at(t, "roles").([]any)[0] != "door" || paired.at(t, "rooms").([]any)[0] != "blue" {
		t.Error(paired.body)
	}
	wantProblem(t, "a code that was used", pair(code, admin), 404, "no-display")

	for name, value := range display.cookies { // it is in a cookie that scripts cannot read, and in no address
		if strings.HasPrefix(value, "rbk_") && name != "roombook-door" {
			t.Error(name)
		}
	}
	display.get(t, "/rooms/blue/door").want(t, 200).has(t, "Free")
	if r := display.ask(t, "GET", "/rooms/blue/door", nil); strings.Contains(r.body, "Book 15") {
		t.Error("it offers what doors may not do")
	}
	display.ask(t, "POST", "/rooms/blue/door", url.Values{"do": {"book"}, "minutes": {"15"}}).want(t, 403)
	for path, status := range map[string]int{"/rooms/blue/calendar.ics": 200, "/rooms/red/calendar.ics": 403, "/bookings": 403, "/users": 403, "/board": 403} {
		if r := display.ask(t, "GET", path, nil); r.status != status {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	// At another door it says what is wrong and keeps its token, until that is revoked.
	secret := display.cookies["roombook-door"]
	display.get(t, "/rooms/red/door").want(t, 403).has(t, "This display is paired with room blue.")
	if display.cookies["roombook-door"] != secret {
		t.Error("it is no longer paired")
	}
	display.get(t, "/rooms/blue/door").want(t, 200).has(t, "Free")
	s.do(t, "DELETE", "/tokens/"+paired.at(t, "tokenId").(string), "", admin).want(t, 204)
	if red := shown("red"); red == "" || red == code {
		t.Errorf("revoked, it shows code %q", red)
	}
	pair(shown("blue"), admin).want(t, 201)
	display.get(t, "/rooms/blue/door").want(t, 200).has(t, "Free")
	// The token of anything else than a door is no display's.
	display.cookies["roombook-door"] = strings.TrimPrefix(user, "Authorization: Bearer ")
	display.ask(t, "GET", "/bookings", nil).want(t, 401)
	if users := namesOf(t, s.do(t, "GET", "/users", "", admin).want(t, 200)); !slices.Equal(users, []string{"ann", "door-blue", "root"}) {
		t.Error(users)
	}
}

// Calendar programs open feeds with a name and a password, which opens nothing else; and no other token is such a password.
func TestFeedPasswords(t *testing.T) {
	s := newAccountService(t)
	ann := s.user(t, "ann", domain.RoleUser)
	token, session := s.token(t, ann), s.signIn(t, "ann", good)
	made := s.do(t, "POST", "/tokens", `{"feeds":true,"label":"phone","expiresAt":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`, session).want(t, 201)
	password := made.at(t, "token").(string)
	feeds := []string{"/users/" + string(ann) + "/calendar.ics", "/rooms/blue/calendar.ics"}
	basic := func(path, password string) reply {
		t.Helper()
		r := httptest.NewRequest("GET", path, nil)
		r.SetBasicAuth("ann", password)
		return s.serve(r)
	}
	for _, path := range feeds {
		if r := basic(path, password); r.status != 200 || !strings.HasPrefix(r.body, "BEGIN:VCALENDAR") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		refused := basic(path, strings.TrimPrefix(token, "Authorization: Bearer "))
		wantProblem(t, path+" with a token of the API", refused, 401, "unauthenticated")
		if challenges := refused.header["Www-Authenticate"]; len(challenges) != 2 || !strings.HasPrefix(challenges[1], "Basic ") {
			t.Errorf("challenges %q", challenges)
		}
		if r := httptest.NewRequest("GET", path+"?token="+password, nil); s.serve(r).status != 401 {
			t.Errorf("%s with the password in the address is answered", path)
		}
	}
	for _, path := range []string{"/bookings", "/me", "/rooms", "/tokens", "/board"} {
		if r := basic(path, password); r.status != 401 && r.status != 303 || len(r.header["Www-Authenticate"]) > 1 {
			t.Errorf("%s: %d %q", path, r.status, r.header["Www-Authenticate"])
		}
		if r := s.do(t, "GET", path, "", "Authorization: Bearer "+password); r.status != 401 && r.status != 303 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	s.do(t, "DELETE", "/tokens/"+made.at(t, "tokenId").(string), "", token).want(t, 204)
	wantProblem(t, "revoked", basic(feeds[0], password), 401, "unauthenticated")
}

// Administrators look after users and tokens on screens, and users after their own account, without scripts.
func TestAccountsWithoutScripts(t *testing.T) {
	s := newAccountService(t)
	s.user(t, "root", domain.RoleUser, domain.RoleAdmin)
	signedIn := func(name, password string) *reader {
		b := newReader(s.service, "", "en")
		b.ask(t, "POST", "/signin", url.Values{"name": {name}, "password": {password}}).want(t, 303)
		return b
	}
	admin := signedIn("root", good)
	admin.get(t, "/account").has(t, "Where you are signed in", "This browser")
	admin.ask(t, "POST", "/people", url.Values{"do": {"add"}, "name": {"a b"}, "address": {"x"}}).want(t, 422)
	added := admin.ask(t, "POST", "/people", url.Values{"do": {"add"}, "name": {"ann"}, "fullName": {"Ann"}, "role": {"user", "approver"}, "rooms": {"blue, red"}}).want(t, 200)
	checkScreen(t, "/people", added)
	_, code, _ := strings.Cut(added.body, "http://example.com/password#")
	code, _, _ = strings.Cut(code, "<")
	ann := newReader(s.service, "", "ko")
	form := ann.get(t, "/password").fields(t, "password")
	form.Set("code", code)
	form.Set("password", good)
	ann.submit(t, "/password", form).has(t, "비밀번호를 정했습니다")
	ann = signedIn("ann", good)
	ann.ask(t, "GET", "/people", nil).want(t, 403)
	ann.ask(t, "GET", "/people/tokens", nil).want(t, 403)
	if page := ann.get(t, "/account").text(t); strings.Contains(page, "Users") {
		t.Error("a user is led to users")
	}

	made := ann.ask(t, "POST", "/account", url.Values{"do": {"create"}, "label": {"cron"}, "days": {"30"}, "role": {"user"}}).want(t, 200)
	_, secret, _ := strings.Cut(made.body, "<code>rbk_")
	secret, _, _ = strings.Cut(secret, "<")
	s.do(t, "GET", "/me", "", "Authorization: Bearer rbk_"+secret).want(t, 200)
	if page := ann.get(t, "/account").has(t, "cron"); strings.Contains(page.body, secret) {
		t.Error("the secret is shown again")
	}
	ann.ask(t, "POST", "/account", url.Values{"do": {"create"}, "days": {"30"}, "role": {"admin"}}).want(t, 422)
	ann.ask(t, "POST", "/account", url.Values{"do": {"create"}, "days": {"9999"}}).want(t, 400)
	ann.ask(t, "POST", "/account", url.Values{"do": {"feed"}}).want(t, 200).has(t, "Name: ann")
	ann.ask(t, "POST", "/account", url.Values{"do": {"mail"}, "language": {"ko"}, "kind": {"booked", "denied"}}).want(t, 303)
	if page := ann.get(t, "/account").body; strings.Count(page, `name="kind"`) != len(domain.NotificationKinds) || strings.Count(page, `name="kind" value="booked" checked`) != 1 || strings.Contains(page, `value="changed" checked`) {
		t.Errorf("%s", page)
	}
	ann.ask(t, "POST", "/account", url.Values{"do": {"password"}, "old": {other}, "password": {other}}).want(t, 403)
	ann.ask(t, "POST", "/account", url.Values{"do": {"password"}, "old": {good}, "password": {other}}).want(t, 303)
	ann.get(t, "/account").want(t, 200) // by the session that was renewed
	elsewhere := signedIn("ann", other)
	end := ann.get(t, "/account").fields(t, "session")
	end.Set("do", "end")
	ann.submit(t, "/account", end)
	elsewhere.ask(t, "GET", "/account", nil).want(t, 303)

	tokens := admin.get(t, "/people/tokens").has(t, "cron", "ann")
	revoke := tokens.fields(t, "token")
	revoke.Set("do", "revoke")
	admin.submit(t, "/people/tokens", revoke).has(t, "The token has been revoked.")
	admin.ask(t, "POST", "/people/tokens", url.Values{"do": {"pair"}, "code": {"BDFG-HJKL"}}).want(t, 422)
	display := newReader(s.service, "", "en")
	_, shown, _ := strings.Cut(display.get(t, "/rooms/blue/door").body, `<p class="pair-code"><strong>`)
	admin.submit(t, "/people/tokens", url.Values{"do": {"pair"}, "code": {shown[:9]}}).has(t, "The display has been paired.", "door-blue")
	display.get(t, "/rooms/blue/door").has(t, "Free")

	users, _, err := s.accounts.Users(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	page := "/people/" + string(users[0].ID)
	save := admin.get(t, page).has(t, "ann").fields(t, "fullName")
	save.Set("do", "save")
	save.Set("fullName", "Anna")
	save["role"] = []string{"user"}
	if r := admin.submit(t, page, save).has(t, "Saved."); !strings.Contains(r.body, `value="Anna"`) {
		t.Error(r.body)
	}
	if r := s.do(t, "GET", "/audit?kind=RolesGiven", "", s.token(t, s.user(t, "auditor", domain.RoleAdmin))).want(t, 200); !strings.Contains(r.body, `"client":"192.0.2.0/24"`) {
		t.Errorf("where roles were given from: %s", r.body)
	}
	form = admin.get(t, page).fields(t, "fullName") // which another administrator does not see
	if err := s.accounts.ChangeUser(t.Context(), accounts.Request{Actor: boss, At: time.Now()}, users[0].ID, accounts.Change{Roles: new(domain.NewRoles(domain.RoleUser, domain.RoleApprover)), Address: new("anna@rooms.example")}); err != nil {
		t.Fatal(err)
	}
	form.Set("do", "save")
	form["role"] = []string{"user"}
	form.Set("fullName", "Anna B.")
	admin.submit(t, page, form).has(t, "Saved.")
	if u, err := s.accounts.User(t.Context(), accounts.Request{Actor: boss}, users[0].ID); err != nil || u.FullName != "Anna B." || u.Address != "anna@rooms.example" || u.Roles != "user approver" {
		t.Errorf("after what another administrator has changed meanwhile: %+v, %v", u, err)
	}
	save["role"] = nil
	admin.ask(t, "POST", page, save).want(t, 422)
	for _, path := range []string{"/people/%ff", "/people/none"} {
		admin.ask(t, "POST", path, url.Values{"do": {"erase"}}).want(t, 404)
	}
	for _, path := range []string{"/account", "/people/tokens"} {
		admin.ask(t, "POST", path, url.Values{"do": {"revoke"}, "token": {"\xff"}}).want(t, 404)
	}
	admin.submit(t, page, url.Values{"do": {"disable"}}).has(t, "Disabled", "Enable")
	ann.ask(t, "GET", "/account", nil).want(t, 303)
	admin.submit(t, page, url.Values{"do": {"enable"}})
	admin.submit(t, page, url.Values{"do": {"link"}}).has(t, "/password#")
	admin.submit(t, page, url.Values{"do": {"erase"}}).has(t, "The user has been erased.")
	admin.ask(t, "GET", page, nil).want(t, 404)

	for _, path := range []string{"/people", "/people/tokens", "/account", "/password"} {
		newReader(newService(t), "", "en").ask(t, "GET", path, nil).want(t, 404) // where nobody signs in
	}
}

// While accounts cannot be looked up screens say so, and lead nobody to sign in anew.
func TestScreensWhileAccountsAreAway(t *testing.T) {
	s := newAccountService(t)
	s.user(t, "ann", domain.RoleUser)
	ann := newReader(s.service, "", "en")
	ann.ask(t, "POST", "/signin", url.Values{"name": {"ann"}, "password": {good}}).want(t, 303)
	if err := s.people.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/my", "/rooms/blue/door", "/account"} {
		if r := ann.ask(t, "GET", path, nil); r.status != 503 || !strings.Contains(r.body, "<html") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	ann.ask(t, "POST", "/signin", url.Values{"name": {"ann"}, "password": {good}}).want(t, 503)
}
