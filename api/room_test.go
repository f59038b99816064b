package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/projections"
)

const blue = `{"roomId":"1","name":"Blue","building":"West","floor":"3","capacity":8,"equipment":["beamer"],"zone":"Europe/Berlin","colour":"#0000ff","note":"n","approvers":["kim"]}`

// A room is registered, changed, retired and reinstated, each as often as one likes, and what was asked for twice has happened once.
func TestARoom(t *testing.T) {
	s := newService(t)
	r := s.do(t, "POST", "/rooms", blue).want(t, 201)
	if r.header.Get("Location") != "http://example.com/rooms/1" || r.header.Get("Etag") != `"0"` {
		t.Errorf("%v", r.header)
	}
	if again := s.do(t, "POST", "/rooms", blue).want(t, 201); again.body != r.body {
		t.Errorf("again: %s", again.body)
	}
	get := s.do(t, "GET", "/rooms/1", "").want(t, 200)
	if get.body != r.body {
		t.Errorf("got %s, registered %s", get.body, r.body)
	}
	s.do(t, "GET", "/rooms/1", "", `If-None-Match: "0"`).want(t, 304)
	if other := s.do(t, "POST", "/rooms", `{"roomId":"1","name":"Red"}`).want(t, 409); other.at(t, "type") != "/problems/room-exists" || other.at(t, "roomId") != "1" {
		t.Error(other.body)
	}
	// What was answered can be sent back as it is.
	if same := s.do(t, "PUT", "/rooms/1", get.body).want(t, 200); same.body != get.body || same.header.Get("Etag") != `"0"` {
		t.Errorf("the same: %s", same.body)
	}
	s.do(t, "PUT", "/rooms/1", `{"name":"Red"}`, `If-Match: "5"`).want(t, 412)
	changed := s.do(t, "PUT", "/rooms/1", `{"name":"Re\u0301d"}`, `If-Match: "0"`).want(t, 200)
	if changed.at(t, "name") != "Réd" || changed.object(t)["building"] != nil || changed.header.Get("Etag") != `"1"` {
		t.Error(changed.body)
	}
	retired := s.do(t, "DELETE", "/rooms/1?from=2026-12-01&bookings=cancel", "").want(t, 200)
	if retired.at(t, "status") != "RETIRED" || retired.at(t, "retiredFromDtm") != "2026-12-01T00:00:00+09:00" {
		t.Error(retired.body)
	}
	const key = "Idempotency-Key: retire"
	keyed := s.do(t, "DELETE", "/rooms/1?from=2026-11-30", "", key).want(t, 200)
	if again := s.do(t, "DELETE", "/rooms/1?from=2026-11-30", "", key).want(t, 200); again.body != keyed.body {
		t.Errorf("again: %s", again.body)
	}
	s.do(t, "DELETE", "/rooms/1?from=2026-12-01&bookings=cancel", "", key).want(t, 422) // asks for something else
	s.do(t, "DELETE", "/rooms/1?from=2026-12-01&bookings=cancel", "").want(t, 200)
	refused := s.do(t, "POST", "/bookings", `{"roomId":"1","useStartDtm":"202612010930","useEndDtm":"202612011030","bookingUserId":"ann"}`).want(t, 409)
	if refused.at(t, "type") != "/problems/room-retired" || refused.at(t, "retiredFromDtm") != "2026-12-01T00:00:00+09:00" {
		t.Error(refused.body)
	}
	if back := s.do(t, "POST", "/rooms/1/reinstate", "").want(t, 200); back.at(t, "status") != "REGISTERED" || back.at(t, "retiredFromDtm") != nil {
		t.Error(back.body)
	}
	history := s.do(t, "GET", "/rooms/1/history?size=3", "").want(t, 200)
	var types []any
	for _, e := range history.at(t, "_embedded.events").([]any) {
		types = append(types, e.(map[string]any)["type"])
	}
	if fmt.Sprint(types) != "[RoomRegistered RoomChanged RoomRetired]" {
		t.Error(types)
	}
	next := history.at(t, "_links.next.href").(string)
	if rest := s.do(t, "GET", next, "").want(t, 200); !strings.Contains(rest.body, "RoomReinstated") || strings.Contains(rest.body, "RoomChanged") {
		t.Error(rest.body)
	}
	for method, paths := range map[string][]string{
		"GET": {"/rooms/2", "/rooms/2/rules", "/rooms/2/closures", "/rooms/2/closures/x", "/rooms/2/faults", "/rooms/2/faults/x", "/rooms/2/history", "/rooms/2/conflicts", "/rooms/%20"},
		"PUT": {"/rooms/2", "/rooms/2/rules"}, "POST": {"/rooms/2/closures", "/rooms/2/reinstate"}, "DELETE": {"/rooms/2", "/rooms/2/closures/x"},
	} {
		for _, path := range paths {
			body := map[string]string{"/rooms/2": `{"name":"n"}`, "/rooms/2/rules": `{}`, "/rooms/2/closures": `{"startDtm":"202612010930","endDtm":"202612011030"}`}[path]
			if method == "GET" || method == "DELETE" {
				body = ""
			}
			if r := s.do(t, method, path, body).want(t, 404); r.at(t, "type") != "/problems/room-not-found" {
				t.Errorf("%s %s: %s", method, path, r.body)
			}
		}
	}
}

// Rules are set as a whole; what they do not allow is refused with all of them, and not if an administrator insists. What was booked before
// is listed.
func TestRules(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", `{"roomId":"1","name":"Blue","zone":"Asia/Seoul"}`).want(t, 201)
	s.do(t, "PUT", "/rooms/1/rules", `{"gapMinutes":10}`).want(t, 200)
	rules := `{"hours":{"tuesday":[{"from":"09:00","to":"12:00"}]},"stepMinutes":15,"longestMinutes":60,"gapMinutes":5}`
	r := s.do(t, "PUT", "/rooms/1/rules", rules, `If-Match: "1"`).want(t, 200)
	var got, want map[string]any
	if err := json.Unmarshal([]byte(rules), &want); err != nil {
		t.Fatal(err)
	}
	got = r.object(t)
	delete(got, "_links")
	if !reflect.DeepEqual(got, want) || r.header.Get("Etag") != `"2"` {
		t.Errorf("%s, %s", r.header.Get("Etag"), r.body)
	}
	if same := s.do(t, "PUT", "/rooms/1/rules", r.body).want(t, 200); same.header.Get("Etag") != `"2"` {
		t.Errorf("the same again: %v", same.header)
	}
	if get := s.do(t, "GET", "/rooms/1/rules", "").want(t, 200); get.body != r.body {
		t.Error(get.body)
	}

	const tooLong = `{"roomId":"1","useStartDtm":"202611240800","useEndDtm":"202611240920","bookingUserId":"ann"` // on a Tuesday
	p := s.do(t, "POST", "/bookings", tooLong+"}").want(t, 409)
	var broken struct{ Broken []brokenRuleRead }
	if err := json.Unmarshal([]byte(p.body), &broken); err != nil || p.at(t, "type") != "/problems/rule-broken" || len(broken.Broken) != 3 {
		t.Fatalf("%v: %s", err, p.body)
	}
	for i, want := range []brokenRuleRead{
		{Rule: "hours", Hours: []any{map[string]any{"from": "09:00", "to": "12:00"}}}, {Rule: "stepMinutes", Limit: 15}, {Rule: "longestMinutes", Limit: 60},
	} {
		got := broken.Broken[i]
		want.Earliest = "2026-11-24T09:00:00+09:00"
		if want.Detail = got.Detail; !reflect.DeepEqual(got, want) || !strings.Contains(p.at(t, "detail").(string), got.Detail) {
			t.Errorf("got %+v, want %+v: %s", got, want, p.body)
		}
	}
	id := s.do(t, "POST", "/bookings", tooLong+`,"override":true}`).want(t, 201).at(t, "bookingId").(string)
	s.do(t, "PATCH", "/bookings/"+id, `{"useEndDtm":"202611240921"}`).want(t, 409)
	s.do(t, "PATCH", "/bookings/"+id, `{"useEndDtm":"202611240921","override":true}`).want(t, 200)
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	until := time.Now().Add(3*time.Hour + time.Second).UTC().Format(time.RFC3339)
	s.do(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":"1","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"ann","override":true}`, soon, until)).want(t, 201)
	conflicts := s.do(t, "GET", "/rooms/1/conflicts", "").want(t, 200).at(t, "_embedded.conflicts").([]any)
	if last := conflicts[len(conflicts)-1].(map[string]any); last["bookingUserId"] != "ann" || !strings.Contains(fmt.Sprint(last["broken"]), "longestMinutes") || last["retired"] != false {
		t.Error(conflicts)
	}
}

type brokenRuleRead struct {
	Rule, Earliest, Detail string
	Limit                  int
	Hours                  []any
}

// A closed period refuses bookings, keeps or cancels those there are, and can be reopened.
func TestClosures(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", `{"roomId":"1","name":"Blue"}`).want(t, 201)
	id := s.book(t, morning)
	body := `{"startDtm":"2026-11-24T09:00:00+09:00","endDtm":"202611241000","reason":"works","bookings":"cancel"}`
	c := s.do(t, "POST", "/rooms/1/closures", body, "Idempotency-Key: k").want(t, 201)
	if again := s.do(t, "POST", "/rooms/1/closures", body, "Idempotency-Key: k").want(t, 201); again.body != c.body || again.header.Get("Location") != c.header.Get("Location") {
		t.Errorf("again: %s", again.body)
	}
	self := c.at(t, "_links.self.href").(string)
	if c.header.Get("Location") != self || c.at(t, "reason") != "works" || c.at(t, "bookings") != "cancel" || c.at(t, "endDtm") != "2026-11-24T10:00:00+09:00" {
		t.Error(c.body)
	}
	if over := s.do(t, "GET", "/bookings/"+id, "").want(t, 404); over.at(t, "cancelReason") != "room-closed" {
		t.Error(over.body)
	}
	if p := s.do(t, "POST", "/bookings", morning).want(t, 409); p.at(t, "type") != "/problems/room-closed" || p.at(t, "earliest") != "2026-11-24T10:00:00+09:00" ||
		p.at(t, "closures").([]any)[0].(map[string]any)["reason"] != "works" {
		t.Error(p.body)
	}
	s.do(t, "GET", self, "").want(t, 200)
	if all := s.do(t, "GET", "/rooms/1/closures", "").want(t, 200); len(all.at(t, "_embedded.closures").([]any)) != 1 {
		t.Error(all.body)
	}
	s.do(t, "DELETE", self, "").want(t, 204)
	if gone := s.do(t, "DELETE", self, "").want(t, 404); gone.at(t, "type") != "/problems/closure-not-found" {
		t.Error(gone.body)
	}
	s.do(t, "GET", self, "").want(t, 404)
	s.book(t, morning)
}

// Everything that is wrong with a body is told at once, with pointers to where.
func TestFaultsOfRooms(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", blue).want(t, 201)
	for _, test := range []struct{ method, path, body, want string }{
		{"POST", "/rooms", `{"roomId":"a b","name":" ","capacity":-1,"equipment":["x","x",""],"zone":"Moon","colour":"red","approvers":["kim","a b"],"size":1}`,
			"/approvers/1 /capacity /colour /equipment/1 /equipment/2 /name /roomId /size /zone"},
		{"POST", "/rooms", `{"roomId":"2","name":"x","approvers":[7,1.5,null,[],"kim"]}`, "/approvers/1 /approvers/2 /approvers/3"},
		{"POST", "/rooms", `{"roomId":"2","name":"x","approvers":[7,"kim","7"]}`, "/approvers/2"},
		{"POST", "/rooms", `{"roomId":"2","name":1,"equipment":["x",2],"approvers":{},"note":false}`, "/approvers /equipment/1 /name /note"},
		{"PUT", "/rooms/1", `{"roomId":"2","name":"` + strings.Repeat("x", 201) + `","capacity":1.5,"name":"twice"}`, "/capacity /name /name /roomId"},
		{"PUT", "/rooms/1/rules", `{"hours":{"monday":[{"from":"8:00","to":"24:01"}],"sunday":[{"from":"10:00","to":"09:00"}]},"stepMinutes":7,"gapMinutes":-1,"approval":"maybe","lunch":1}`,
			"/approval /gapMinutes /hours/monday/0/from /hours/monday/0/to /hours/sunday/0/to /lunch /stepMinutes"},
		{"PUT", "/rooms/1/rules", `{"hours":{"monday":[{"from":8,"to":"09:00"}]},"stepMinutes":"5"}`, "/hours/monday/0/from /stepMinutes"},
		{"PUT", "/rooms/1/rules", `{"hours":{"someday":[]}}`, "/hours/someday"},
		{"PUT", "/rooms/1/rules", `{"hours":{}}`, "/hours"},
		{"POST", "/rooms/1/closures", `{"startDtm":"now","bookings":"maybe","reason":1}`, "/bookings /endDtm /reason /startDtm"},
		{"POST", "/rooms/1/closures", `{"startDtm":"202611241000","endDtm":"202611241000"}`, "/endDtm"},
		{"POST", "/bookings", `{"roomId":"1","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann","override":"yes"}`, "/override"},
	} {
		r := s.do(t, test.method, test.path, test.body).want(t, 422)
		var pointers []string
		for _, e := range r.at(t, "errors").([]any) {
			pointers = append(pointers, e.(map[string]any)["pointer"].(string))
		}
		if got := strings.Join(slices.Sorted(slices.Values(pointers)), " "); got != test.want {
			t.Errorf("%s %s %s:\ngot  %s\nwant %s", test.method, test.path, test.body, got, test.want)
		}
	}
	for _, test := range []struct{ path, want string }{
		{"/rooms?capacity=0&sort=size&size=0&total=1&retired=no&what=1&text=" + strings.Repeat("x", 1001), "capacity retired size sort text total what"},
		{"/occupancy", "from roomId to"},
		{"/occupancy?from=2026-11-24&to=2026-11-23&roomId=a%20b", "roomId to"},
		{"/occupancy?from=2026-11-24&to=2026-11-24&roomId=1&building=West", "roomId"},
		{"/occupancy?from=2026-11-24&from=2026-11-24&to=2026-11-24&roomId=1&roomId=2", "from"},
		{"/availability", "from to"},
		{"/availability?from=202611240930&to=202611240930", "to"},
		{"/availability?minutes=0&within=now&capacity=x", "capacity minutes within"},
		{"/availability?minutes=45&bookingUserId=a%20b", "bookingUserId within"},
		{"/availability?within=202611240930/202611240900", "minutes within"},
		{"/availability?minutes=45&within=202611240930/202611241900&from=202611240930", "from"},
		{"/availability?minutes=45&within=202001010000/202001010100", "within"},
	} {
		r := s.do(t, "GET", test.path, "").want(t, 400)
		var names []string
		for _, e := range r.at(t, "errors").([]any) {
			names = append(names, e.(map[string]any)["parameter"].(string))
		}
		if got := strings.Join(slices.Sorted(slices.Values(names)), " "); got != test.want {
			t.Errorf("%s: %s, want %s: %s", test.path, got, test.want, r.body)
		}
	}
	if r := s.do(t, "DELETE", "/rooms/1?from=x&bookings=maybe&why=1", "").want(t, 400); len(r.at(t, "errors").([]any)) != 3 {
		t.Error(r.body)
	}
}

// The directory, what takes the rooms and what is free, by commands and lists that are real.
func TestAHouse(t *testing.T) {
	s := whole(t)
	var at string
	do := func(method, path, body string, status int) reply {
		t.Helper()
		r := s.do(t, method, path, body).want(t, status)
		at = r.header.Get("Roombook-Position")
		return r
	}
	get := func(path string) reply {
		t.Helper()
		return s.do(t, "GET", path, "", "Roombook-Position: "+at).want(t, 200)
	}
	house := uuid.NewString()[:8]
	room := func(n int) string { return fmt.Sprint(house, "-", n) }
	for n, capacity := range []int{4, 8, 20} {
		do("POST", "/rooms", fmt.Sprintf(`{"roomId":%q,"name":"Room %d","building":%q,"capacity":%d}`, room(n), n, house, capacity), 201)
	}
	list := get("/rooms?building=" + house + "&sort=capacity,desc&size=2&total=true&capacity=5")
	if items := list.at(t, "_embedded.rooms").([]any); len(items) != 2 || items[0].(map[string]any)["roomId"] != room(2) || list.at(t, "page.totalElements") != 2. {
		t.Error(list.body)
	}
	do("PUT", "/rooms/"+room(0)+"/rules", `{"gapMinutes":15,"stepMinutes":15}`, 200)
	do("POST", "/rooms/"+room(1)+"/closures", `{"startDtm":"202611240900","endDtm":"202611241200","reason":"works"}`, 201)
	booking := do("POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann"}`, room(0)), 201).at(t, "bookingId").(string)

	// Lists name the room, by its new name as soon as it has one.
	do("PUT", "/rooms/"+room(0), fmt.Sprintf(`{"name":"Sala Ñ","building":%q,"capacity":4}`, house), 200)
	for _, path := range []string{"/bookingLists/" + booking, "/bookingLists?roomId=" + room(0), "/notifications?bookingId=" + booking} {
		if r := get(path); !strings.Contains(r.body, `"roomName":"Sala Ñ"`) {
			t.Errorf("%s: %s", path, r.body)
		}
	}

	window := "/occupancy?from=2026-11-24T09:00:00%2B09:00&to=202611241300"
	occupancy := get(window + "&building=" + strings.ToUpper(house))
	if got := kinds(t, occupancy); got != "Room 1: closed 09:00-12:00; Room 2:; Sala Ñ: gap 09:15-09:30 booking 09:30-10:30 gap 10:30-10:45" {
		t.Errorf("%s: %s", got, occupancy.body)
	}
	tag := occupancy.header.Get("Etag")
	s.do(t, "GET", window+"&building="+strings.ToUpper(house), "", "If-None-Match: "+tag).want(t, 304)
	if some := get(window + "&roomId=" + room(0) + "&roomId=elsewhere-" + house); kinds(t, some) != "Sala Ñ: gap 09:15-09:30 booking 09:30-10:30 gap 10:30-10:45; :" {
		t.Error(some.body)
	}

	of := "&building=" + house
	free := get("/availability?from=202611240930&to=202611241030" + of)
	if rooms := free.at(t, "_embedded.rooms").([]any); len(rooms) != 1 || rooms[0].(map[string]any)["roomId"] != room(2) {
		t.Error(free.body)
	}
	within := get("/availability?minutes=30&within=203001070900/203001071200" + of)
	if rooms := within.at(t, "_embedded.rooms").([]any); len(rooms) != 3 || rooms[0].(map[string]any)["useEndDtm"] != "2030-01-07T09:30:00+09:00" {
		t.Error(within.body)
	}

	// Why a room is left out is said in the words of the refusal, which is that of the booking.
	do("POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"bob"}`, room(2)), 201)
	for _, slot := range [][2]string{{"202611240930", "202611241030"}, {"202611241030", "202611241100"}, {"202611240905", "202611240925"}} {
		none := get("/availability?capacity=1&from=" + slot[0] + "&to=" + slot[1] + of)
		asked := 0
		for _, suggestion := range none.at(t, "_embedded.suggestions").([]any) {
			suggestion := suggestion.(map[string]any)
			if suggestion["kind"] == "elsewhere" {
				continue
			}
			id := suggestion["room"].(map[string]any)["roomId"]
			refused := s.do(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"eve"}`, id, slot[0], slot[1])).want(t, 409).object(t)
			because := suggestion["because"].(map[string]any)
			for _, member := range []string{"instance", "requestId"} {
				delete(because, member)
				delete(refused, member)
			}
			if !reflect.DeepEqual(because, refused) {
				t.Errorf("%v %v:\nbecause %v\nrefused %v", id, slot, because, refused)
			}
			asked++
		}
		if rooms := none.at(t, "_embedded.rooms").([]any); len(rooms) == 0 && asked == 0 {
			t.Errorf("nothing is suggested: %s", none.body)
		}
		for _, free := range none.at(t, "_embedded.rooms").([]any) {
			free := free.(map[string]any)
			do("POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"eve"}`, free["roomId"], slot[0], slot[1]), 201)
		}
	}

	// So is the limit of a user who is named.
	do("PUT", "/rooms/"+room(2)+"/rules", `{"weeklyMinutesPerUser":60}`, 200)
	for user, want := range map[string]int{"bob": 2, "liz": 3} {
		free := get("/availability?from=202611251400&to=202611251430&bookingUserId=" + user + of)
		if rooms := free.at(t, "_embedded.rooms").([]any); len(rooms) != want {
			t.Errorf("%s: %s", user, free.body)
		}
	}
	s.do(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":"202611251400","useEndDtm":"202611251430","bookingUserId":"bob"}`, room(2))).want(t, 409)
}

// kinds are the spans of rooms in short.
func kinds(t *testing.T, r reply) string {
	t.Helper()
	var o struct {
		Embedded struct {
			Rooms []struct {
				Name  string
				Spans []struct{ Kind, StartDtm, EndDtm string }
			}
		} `json:"_embedded"`
	}
	if err := json.Unmarshal([]byte(r.body), &o); err != nil {
		t.Fatal(err)
	}
	var rooms []string
	for _, room := range o.Embedded.Rooms {
		words := room.Name + ":"
		for _, s := range room.Spans {
			words += fmt.Sprintf(" %s %s-%s", s.Kind, s.StartDtm[11:16], s.EndDtm[11:16])
		}
		rooms = append(rooms, words)
	}
	return strings.Join(rooms, "; ")
}

// What a query asks for is asked of the lists.
func TestParametersOfRooms(t *testing.T) {
	s := newService(t)
	s.do(t, "GET", "/rooms?capacity=4&equipment=beamer,board&building=West&floor=3&text=bl%C3%BC&retired=true&sort=capacity,desc&size=7&cursor=c&total=true", "", "Roombook-Position: 9").want(t, 200)
	want := projections.RoomQuery{
		RoomFilter: projections.RoomFilter{Capacity: 4, Equipment: []string{"beamer", "board"}, Building: "West", Floor: "3", Text: "blü"},
		Sort:       "capacity", Descending: true, Size: 7, Cursor: "c", Total: true, MinPosition: 9,
	}
	if !reflect.DeepEqual(s.lists.askedRooms, want) {
		t.Errorf("got  %+v\nwant %+v", s.lists.askedRooms, want)
	}
	s.do(t, "GET", "/rooms", "").want(t, 200)
	if s.lists.askedRooms.Now.IsZero() {
		t.Error("rooms that are retired are asked for")
	}

	s.do(t, "GET", "/availability?minutes=45&within=203001010900/203001011200&capacity=4&size=3", "").want(t, 200)
	if q := s.lists.askedFree; q.Length != 45*time.Minute || q.Within.End.Sub(q.Within.Start) != 3*time.Hour || q.Capacity != 4 || q.Size != 3 || q.Now.IsZero() {
		t.Errorf("%+v", q)
	}
}
