package api

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/eventstore/eventstoretest"
)

// busyHouse is a server with --privacy busy, and bookings of a user, ann, in all of their states.
type busyHouse struct {
	*accountService
	ann    domain.UserID
	as     map[string]string // the token of each user
	at     string            // the position of the last command
	day    string
	values map[string][]string // of variables in paths, by what comes before and the name
	live   string              // a booking that nobody has answered
	inUse  string
}

// Whatever tells ann from others is one of these.
const (
	annsName     = "ann.of.the.secret"
	annsFullName = "Ann Geheim"
)

func newBusyHouse(t *testing.T) *busyHouse {
	t.Helper()
	h := &busyHouse{accountService: new(accountService), as: map[string]string{}, day: tomorrow(t)}
	h.service = wholeOn(t, eventstoretest.OpenAlone(t), func(o *Options) { o.Privacy = domain.PrivacyBusy }, h.withAccounts(t))
	var named domain.UserID
	for name, n := range map[string]accounts.NewUser{
		"ann":       {Name: annsName, FullName: annsFullName, Roles: domain.NewRoles(domain.RoleUser)},
		"bob":       {Name: "bob", FullName: "Bob", Roles: domain.NewRoles(domain.RoleUser)},
		"approver":  {Name: "approver", Roles: domain.NewRoles(domain.RoleUser, domain.RoleApprover), Rooms: domain.NewRooms("red")},
		"elsewhere": {Name: "elsewhere", Roles: domain.NewRoles(domain.RoleUser, domain.RoleApprover), Rooms: domain.NewRooms("other")},
		"named":     {Name: "named", Roles: domain.NewRoles(domain.RoleUser)},
		"admin":     {Name: "admin", Roles: domain.NewRoles(domain.RoleAdmin)},
		"door":      {Name: "door", Roles: domain.NewRoles(domain.RoleDoor), Rooms: domain.NewRooms("red")},
		"machine":   {Name: "machine", Roles: domain.NewRoles(domain.RoleMachine)},
	} {
		id := h.userOf(t, n)
		h.as[name] = h.token(t, id)
		if name == "ann" {
			h.ann = id
		}
		if name == "named" {
			named = id
		}
	}
	h.command(t, "admin", "POST", "/rooms", fmt.Sprintf(`{"roomId":"blue","name":"Blue","approvers":[%q]}`, named), 201)
	h.command(t, "admin", "POST", "/rooms", `{"roomId":"red","name":"Red"}`, 201)
	h.command(t, "admin", "POST", "/rooms", `{"roomId":"green","name":"Green"}`, 201)
	closure := h.command(t, "admin", "POST", "/rooms/red/closures", fmt.Sprintf(`{"startDtm":"%sT22:00:00+09:00","endDtm":"%[1]sT23:00:00+09:00","reason":"paint"}`, h.day), 201)
	fault := h.command(t, "ann", "POST", "/rooms/red/faults", `{"text":"a draught"}`, 201)

	h.live = h.booking(t, "red", 9)
	used, denied, cancelled, handed, moved := h.booking(t, "red", 10), h.booking(t, "red", 11), h.booking(t, "red", 12), h.booking(t, "red", 13), h.booking(t, "red", 14)
	h.inUse = h.booking(t, "red", 15)
	h.booking(t, "blue", 9)
	now := time.Now().Truncate(time.Minute)
	present := fmt.Sprintf(`{"roomId":"green","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":%q}`, now.Add(-time.Hour).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339), h.ann)
	h.command(t, "ann", "POST", "/bookings", present, 201) // which the door of the room shows
	h.command(t, "approver", "PATCH", "/confirms/"+h.inUse, `{"status":"CONFIRMED","reason":"as `+annsFullName+` asked"}`, 200)
	h.command(t, "approver", "PATCH", "/confirms/"+denied, `{"status":"DENIED","reason":"not for `+annsFullName+`"}`, 200)
	use := h.command(t, "ann", "POST", "/realuses", `{"bookingId":"`+used+`"}`, 201).at(t, "realUseId").(string)
	h.command(t, "ann", "PATCH", "/realuses/"+use, `{}`, 200)
	running := h.command(t, "door", "POST", "/realuses", `{"bookingId":"`+h.inUse+`"}`, 201)
	if strings.Contains(running.body, string(h.ann)) || running.at(t, "private") != true {
		t.Errorf("the door is told whom the booking is for: %s", running.body)
	}
	h.command(t, "ann", "DELETE", "/bookings/"+cancelled, "", 204)
	h.command(t, "admin", "PATCH", "/bookings/"+handed, `{"bookingUserId":"carl"}`, 200)
	h.command(t, "ann", "PATCH", "/bookings/"+moved, `{"roomId":"blue"}`, 200)
	// By now the room would not be booked so, which makes conflicts of the bookings.
	h.command(t, "admin", "PUT", "/rooms/red/rules", `{"longestMinutes":15}`, 200)

	bookings := []string{h.live, used, denied, cancelled, handed, moved, h.inUse}
	h.values = map[string][]string{
		"/bookings/{id}": bookings, "/confirms/{bookingId}": bookings, "/realuses/{id}": {use, running.at(t, "realUseId").(string)},
		"/bookingLists/{id}": bookings, "/roomUseLists/{id}": bookings, "/rooms/{id}": {"red", "blue", "green"}, "/house/{id}": {"red", "blue"},
		"/closures/{closureId}": {closure.at(t, "closureId").(string)}, "/faults/{faultId}": {fault.at(t, "faultId").(string)}, "/users/{id}": {string(h.ann)}, "/people/{id}": {string(h.ann)}, "/problems/{type}": {"forbidden"}, "/docs/{file}": {"start.js"},
	}
	for _, n := range h.query(t, "admin", "/notifications?size=200").want(t, 200).at(t, "_embedded.notifications").([]any) {
		h.values["/notifications/{id}"] = append(h.values["/notifications/{id}"], n.(map[string]any)["notificationId"].(string))
	}
	return h
}

// command sends a command of a user.
func (h *busyHouse) command(t *testing.T, user, method, path, body string, status int) reply {
	t.Helper()
	r := h.do(t, method, path, body, h.as[user]).want(t, status)
	if at := r.header.Get("Roombook-Position"); at != "" {
		h.at = at
	}
	return r
}

// booking books a room for ann for an hour of the day.
func (h *busyHouse) booking(t *testing.T, room string, hour int) string {
	t.Helper()
	body := fmt.Sprintf(`{"roomId":%q,"useStartDtm":"%sT%02d:00:00+09:00","useEndDtm":"%[2]sT%02[4]d:00:00+09:00","bookingUserId":%q}`, room, h.day, hour, hour+1, h.ann)
	return h.command(t, "ann", "POST", "/bookings", body, 201).at(t, "bookingId").(string)
}

// query asks as a user, once the lists have all that was done.
func (h *busyHouse) query(t *testing.T, user, target string, headers ...string) reply {
	t.Helper()
	return h.do(t, "GET", target, "", append(headers, h.as[user], "Roombook-Position: "+h.at, "Cookie: roombook-position="+h.at)...)
}

// targets are the addresses of a route, each variable with every value that it has in the house.
func (h *busyHouse) targets(t *testing.T, path string) []string {
	t.Helper()
	all := []string{path}
	for variable := regexp.MustCompile(`/\w+/\{\w+\}`); ; {
		found := variable.FindString(all[0])
		if found == "" {
			return all
		}
		values := h.values[found]
		if values == nil {
			t.Fatalf("%s: say what there is at %s", path, found)
		}
		var filled []string
		for _, target := range all {
			for _, value := range values {
				filled = append(filled, strings.Replace(target, found, found[:strings.Index(found, "{")]+value, 1))
			}
		}
		all = filled
	}
}

// tells reports what of a reply tells who ann is, besides what the caller has asked for.
func (h *busyHouse) tells(r reply, target string) string {
	path := strings.SplitN(target, "?", 2)[0]
	text := fmt.Sprint(r.header) + strings.NewReplacer(path, "", strings.ReplaceAll(path, "/", "%2f"), "").Replace(r.body)
	for _, secret := range []string{string(h.ann), annsName, annsFullName} {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// With --privacy busy nothing that a user can read tells whom the bookings of others are for: not one route of the API, in no order, and not
// one screen. What an administrator is told by the same addresses shows that there would be something to tell.
func TestBusyTellsNobodysName(t *testing.T) {
	h := newBusyHouse(t)
	queries := map[string][]string{
		"/occupancy":    {"?roomId=red&roomId=blue&from=" + h.day + "&to=" + h.day},
		"/availability": {"?from=" + h.day + "T09:00:00%2B09:00&to=" + h.day + "T09:30:00%2B09:00"},
		"/board":        {"?day=" + h.day, "?day=" + h.day + "&from=09:00&to=09:30"}, "/approvals": {"?all=true"}, "/rooms/{id}/page": {"?day=" + h.day},
		"/report": {"?from=" + h.day + "&to=" + h.day}, "/report.csv": {"?from=" + h.day + "&to=" + h.day},
		"/bookingLists/search/findByBookingId": {"?bookingId=" + h.live}, "/roomUseLists/search/findByBookingId": {"?bookingId=" + h.inUse},
		"/bookings/{id}": {"", "?asOf=" + h.at}, "/events": {"?after=1"},
	}
	for _, path := range []string{"/bookings", "/confirms", "/realuses", "/bookingLists", "/roomUseLists", "/notifications"} {
		queries[path] = []string{"?status=all&size=200&total=true", "?sort=roomId", "?roomId=red&sort=status"}
		if path == "/notifications" {
			queries[path] = []string{"?size=200&total=true", "?sort=sendDtm,desc", "?roomId=red"}
		}
	}
	told := map[string]bool{}
	walk := func(method, path string) {
		if queries[path] == nil {
			queries[path] = []string{""}
		}
		for _, target := range h.targets(t, path) {
			for _, query := range queries[path] {
				target := target + query
				if path == "/events" {
					method = http.MethodHead // does not stream; see TestChangesTellNobodysName
				}
				r := h.do(t, method, target, "", h.as["bob"], "Roombook-Position: "+h.at, "Cookie: roombook-position="+h.at, "Accept-Language: en")
				if r.status >= 500 {
					t.Errorf("%s %s: %d %s", method, target, r.status, r.body)
				}
				if secret := h.tells(r, target); secret != "" {
					t.Errorf("%s %s tells %q: %s", method, target, secret, r.body)
				}
				if h.tells(h.do(t, method, target, "", h.as["admin"], "Roombook-Position: "+h.at, "Cookie: roombook-position="+h.at), target) != "" {
					told[path] = true
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.operations(t))) {
		if method, path, _ := strings.Cut(name, " "); method == http.MethodGet && path != "/metrics" {
			walk(method, path)
		}
	}
	for _, r := range h.pages.Routes() {
		if r.Method == http.MethodGet && !strings.HasPrefix(r.Path, "/assets/") {
			walk(r.Method, r.Path)
		}
	}
	want := []string{
		"/approvals", "/audit", "/board", "/bookingLists", "/bookingLists/search/findByBookingId", "/bookingLists/{id}", "/bookings", "/bookings/{id}", "/bookings/{id}/answer", "/bookings/{id}/change", "/bookings/{id}/history",
		"/bookings/{id}/page", "/confirms", "/confirms/{bookingId}", "/house/{id}", "/notifications", "/notifications/{id}", "/occupancy", "/people", "/people/tokens", "/people/{id}", "/realuses", "/realuses/{id}", "/roomUseLists",
		"/roomUseLists/search/findByBookingId", "/roomUseLists/{id}", "/rooms/{id}/calendar.ics", "/rooms/{id}/conflicts", "/rooms/{id}/door", "/rooms/{id}/faults", "/rooms/{id}/faults/{faultId}", "/rooms/{id}/page", "/users", "/users/{id}", "/users/{id}/calendar.ics",
	}
	if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, want) {
		t.Errorf("an administrator is told by\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Nor does a refusal tell it, nor a filter or an order that lists could be asked for.
func TestBusyRefusals(t *testing.T) {
	h := newBusyHouse(t)
	taken := fmt.Sprintf(`{"roomId":"red","useStartDtm":"%sT09:00:00+09:00","useEndDtm":"%[1]sT10:00:00+09:00","bookingUserId":"%s"}`, h.day, "%s")
	bob := h.do(t, "GET", "/me", "", h.as["bob"]).want(t, 200).at(t, "userId").(string)
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{409, "POST", "/bookings", fmt.Sprintf(taken, bob)}, {403, "PATCH", "/bookings/" + h.live, `{"roomId":"blue"}`}, {403, "DELETE", "/bookings/" + h.live, ""},
		{403, "PATCH", "/confirms/" + h.live, `{"status":"DENIED"}`}, {403, "POST", "/realuses", `{"bookingId":"` + h.live + `"}`}, {403, "POST", "/realuses", `{"bookingId":"` + h.inUse + `"}`},
	} {
		r := h.do(t, c.method, c.path, c.body, h.as["bob"]).want(t, c.status)
		if secret := h.tells(r, c.path); secret != "" {
			t.Errorf("%s %s tells %q: %s", c.method, c.path, secret, r.body)
		}
	}
	retried := h.do(t, "POST", "/notifications/"+h.values["/notifications/{id}"][0]+"/retry", "", h.as["machine"]).want(t, 200)
	if h.tells(retried, "") != "" || retried.at(t, "private") != true {
		t.Errorf("a machine is told: %s", retried.body)
	}

	sorted := h.query(t, "admin", "/bookingLists?sort=bookingUserId&size=1").want(t, 200)
	next := strings.TrimPrefix(sorted.at(t, "_links.next.href").(string), "http://example.com")
	lists := []string{"/bookings", "/confirms", "/realuses", "/bookingLists", "/roomUseLists", "/notifications"}
	users := []string{"bob", "admin", "ann", "approver", "elsewhere", "named"}
	for _, list := range lists {
		order := "bookingUserId"
		if list == "/notifications" {
			order = "userId"
		}
		for query, who := range map[string]string{
			"?userId=" + string(h.ann):                  "ann admin",
			"?userId=" + string(h.ann) + "&total=true":  "ann admin",
			"?userId=" + string(h.ann) + "&roomId=red":  "ann approver admin",
			"?userId=" + string(h.ann) + "&roomId=blue": "ann named admin",
			"?sort=" + order:                            "admin",
			"?sort=" + order + ",desc&roomId=red":       "approver admin",
			"?userId=" + bob + "&sort=" + order:         "bob admin",
			"?userId=carl":                              "admin",
		} {
			asking := users[:2]
			if list == "/bookingLists" {
				asking = users
			}
			for _, user := range asking {
				r := h.query(t, user, list+query)
				if slices.Contains(strings.Fields(who), user) {
					r.want(t, 200)
				} else {
					wantProblem(t, user+" asks for "+list+query, r, 403, "forbidden")
				}
			}
		}
	}
	wantProblem(t, "the cursor of another's order", h.query(t, "bob", next), 403, "forbidden")
	wantProblem(t, "another's feed", h.query(t, "bob", "/users/"+string(h.ann)+"/calendar.ics"), 403, "forbidden")
	h.query(t, "ann", "/users/"+string(h.ann)+"/calendar.ics").want(t, 200)
}

// Who may see whom a booking is for is told it, by name, in the same places.
func TestBusyTellsThoseWhoMaySee(t *testing.T) {
	h := newBusyHouse(t)
	for _, target := range []string{"/bookings/" + h.live, "/bookingLists/" + h.live, "/roomUseLists/" + h.live, "/occupancy?roomId=red&from=" + h.day + "&to=" + h.day, "/confirms/" + h.live,
		"/bookings/" + h.live + "/history", "/rooms/red/calendar.ics", "/bookings/" + h.live + "/page", "/rooms/red/page?day=" + h.day, "/board?text=red&day=" + h.day} {
		for user, may := range map[string]bool{"ann": true, "approver": true, "admin": true, "bob": false, "elsewhere": false, "named": false} {
			r := h.query(t, user, target).want(t, 200)
			if told := strings.Contains(r.body, annsFullName); told != may {
				t.Errorf("%s is told by %s: %t", user, target, told)
			}
			if media := r.header.Get("Content-Type"); strings.HasSuffix(media, "json") && !strings.HasPrefix(target, "/occupancy") && strings.Contains(r.body, `"private":true`) == may {
				t.Errorf("%s as %s sees it: %s", target, user, r.body)
			}
		}
	}
	// A display that is to be paired says of which room it will be, by name.
	newReader(h.service, "", "en").get(t, "/rooms/red/door").want(t, 200).has(t, "the display of room Red.")
	// One whom the room itself names as its approver.
	if r := h.query(t, "named", "/bookingLists?roomId=blue").want(t, 200); !strings.Contains(r.body, annsFullName) {
		t.Errorf("an approver that the room names: %s", r.body)
	}
	// Once a booking is another's, its former user sees no more of it than others do, but as it was when it was theirs.
	handed := h.values["/bookings/{id}"][4]
	created := h.query(t, "admin", "/bookings/"+handed+"/history").want(t, 200).at(t, "_embedded.events").([]any)[0].(map[string]any)["position"].(float64)
	for query, told := range map[string]bool{"": false, fmt.Sprintf("?asOf=%.0f", created): true} {
		if r := h.query(t, "ann", "/bookings/"+handed+query).want(t, 200); strings.Contains(r.body, string(h.ann)) != told {
			t.Errorf("%q: %s", query, r.body)
		}
	}
	if r := h.query(t, "ann", "/bookings/"+handed+"/history").want(t, 200); h.tells(r, "") != "" || r.at(t, "private") != true {
		t.Errorf("the history of a booking that was handed over: %s", r.body)
	}
}

// The stream of changes tells what has changed, and not whose it is.
func TestChangesTellNobodysName(t *testing.T) {
	s := listenWhole(t)
	events := s.stream(t, "")
	for e := range events {
		if e.name == "ready" {
			break
		}
	}
	id := s.book(t, strings.NewReplacer(`"1"`, `"r-`+uuid.NewString()+`"`, `"ann"`, `"`+annsName+`"`).Replace(morning))
	s.do(t, "DELETE", "/bookings/"+id, "").want(t, 204)
	seen := 0
	for e := range events {
		if strings.Contains(e.data, annsName) {
			t.Errorf("%+v", e)
		}
		if seen++; strings.Contains(e.data, id) && seen > 2 {
			break
		}
	}
}

// Without accounts nobody can be told from anybody else, so nothing is withheld.
func TestBusyWithoutAccounts(t *testing.T) {
	s := newService(t, func(o *Options) { o.Privacy = domain.PrivacyBusy })
	id := s.book(t, morning)
	if r := s.do(t, "GET", "/bookings/"+id, "").want(t, 200); r.at(t, "bookingUserId") != "ann" {
		t.Error(r.body)
	}
}

// Names are those of the directory by now: a user who was erased has none, and ids that are no users' are left alone.
func TestNamesOfUsers(t *testing.T) {
	s := newAccountService(t)
	ann := s.userOf(t, accounts.NewUser{Name: annsName, FullName: annsFullName, Roles: domain.NewRoles(domain.RoleUser)})
	bob := s.user(t, "bob", domain.RoleUser)
	admin := s.token(t, s.user(t, "root", domain.RoleAdmin))
	name := func(user domain.UserID) any {
		t.Helper()
		id := s.do(t, "POST", "/bookings", strings.NewReplacer(`"ann"`, fmt.Sprintf("%q", user), `"1"`, fmt.Sprintf("%q", user)).Replace(morning), admin).want(t, 201).at(t, "bookingId").(string)
		defer s.do(t, "DELETE", "/bookings/"+id, "", admin)
		r := s.do(t, "GET", "/bookings/"+id, "", admin).want(t, 200).object(t)
		if _, has := r["bookingUserName"]; !has {
			return "none"
		}
		return r["bookingUserName"]
	}
	if got := []any{name(ann), name(bob), name("legacy"), name("u-1")}; !slices.Equal(got, []any{annsFullName, "bob", "none", "none"}) {
		t.Errorf("names %v", got)
	}
	s.do(t, "DELETE", "/users/"+string(ann), "", admin).want(t, 204)
	if got := name(ann); got != nil {
		t.Errorf("an erased user is called %v", got)
	}
	// The reply can be sent back as it is.
	id := s.do(t, "POST", "/bookings", strings.Replace(morning, `"ann"`, fmt.Sprintf("%q", bob), 1), admin).want(t, 201)
	s.do(t, "PUT", "/bookings/"+id.at(t, "bookingId").(string), id.body, admin).want(t, 200)
}

// While the directory is away, who is signed in by a token that is remembered gets lists with ids, and none fails.
func TestNamesWhileTheDirectoryIsAway(t *testing.T) {
	s := newAccountService(t)
	ann := s.userOf(t, accounts.NewUser{Name: annsName, FullName: annsFullName, Roles: domain.NewRoles(domain.RoleUser)})
	if err := s.people.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if name, known := s.accounts.Name(t.Context(), ann); known {
			t.Errorf("the name %q", name)
		}
	}
	x := &exchange{server: s.Server, ctx: t.Context()}
	if x.userName(ann) != nil || x.person(ann) != string(ann) {
		t.Error("not the id")
	}
}
