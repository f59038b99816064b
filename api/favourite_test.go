package api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/eventstore/eventstoretest"
)

// Favourites are kept in the browser, and every screen goes by them. What is not there any more is left out.
func TestFavourites(t *testing.T) {
	s := furnished(t)
	ann := newReader(s, "ann", "en")
	houseForTest(t, ann)
	star := func(room, favourite, back string) reply {
		t.Helper()
		return ann.submit(t, "/rooms/"+room+"/favourite", url.Values{"favourite": {favourite}, "back": {back}})
	}
	pressed := func(r reply, want int) {
		t.Helper()
		if n := strings.Count(r.body, `aria-pressed="true"`); n != want {
			t.Errorf("%d favourites, want %d: %s", n, want, r.body)
		}
	}
	// Whoever opens the address of the form is led to its room.
	pressed(ann.get(t, ann.ask(t, "GET", "/rooms/red/favourite", nil).want(t, 303).header.Get("Location")).want(t, 200).has(t, "Red"), 0)
	for _, none := range []string{"none", "a%20b"} {
		r := ann.ask(t, "GET", "/rooms/"+none+"/favourite", nil)
		if r.status == 303 {
			r = ann.get(t, r.header.Get("Location"))
		}
		r.want(t, 404).has(t, "There is no such room.", "To the board")
	}
	board := "/board?favourites=1&day=" + tomorrow(t)
	ann.get(t, board).want(t, 200).has(t, "You have no favourites yet.", "0 of 3 rooms")
	pressed(star("red", "yes", "/rooms/red/page"), 1)
	pressed(ann.get(t, "/rooms/far/page"), 0)
	star("gone", "yes", "/").want(t, 404)
	star("gone", "no", "/").want(t, 200)
	ann.cookies["roombook-favourites"] += " gone * <b>"
	pressed(ann.get(t, "/board?day="+tomorrow(t)).has(t, "3 of 3 rooms"), 1)
	shown := ann.get(t, board+"&from=10:00&to=11:00").has(t, "1 of 3 rooms", "Free 10:00–11:00", "Red")
	if text := shown.text(t); strings.Contains(text, "Blue") || strings.Contains(text, "Far") {
		t.Errorf("other rooms than favourites: %s", text)
	}
	for one, free := range map[string]string{"&from=10:00": "10:00–11:00", "&to=11:00": "10:00–11:00", "&from=23:30": "23:30–23:59", "&to=00:30": "00:00–00:30"} {
		ann.get(t, board+one).has(t, "Free "+free)
	}
	if n := strings.Count(shown.body, "favourites=1"); n < 6 { // the days around, and every hour
		t.Errorf("%d links keep the filter", n)
	}
	if book := ann.get(t, "/book").text(t); strings.Index(book, "★ Red") > strings.Index(book, "Blue") || strings.Contains(book, "★ Blue") {
		t.Error(book)
	}
	if first := ann.get(t, "/book").fields(t, "room").Get("room"); first != "red" {
		t.Errorf("the form is for %s", first)
	}
	pressed(newReader(s, "ann", "en").after(ann).get(t, "/rooms/red/page"), 0) // another browser
	pressed(star("red", "no", "/rooms/red/page"), 0)
	if kept := ann.cookies["roombook-favourites"]; kept != "" {
		t.Errorf("what is not there any more is kept: %q", kept)
	}

	// As many ids as can be kept fit into a cookie, however long they are, and another one is refused.
	var most []domain.RoomID
	for i := range 51 {
		id := fmt.Sprintf("%064d", i)
		ann.submit(t, "/house", url.Values{"do": {"add"}, "id": {id}, "name": {"Room"}}).want(t, 200)
		if most = append(most, domain.RoomID(id)); i < 49 {
			ann.cookies["roombook-favourites"] = string(domain.NewRooms(most...))
		}
	}
	pressed(star(string(most[49]), "yes", "/rooms/"+string(most[49])+"/page").want(t, 200), 1)
	if kept := ann.cookies["roombook-favourites"]; len(kept) > 4000 || len(strings.Fields(kept)) != 50 {
		t.Errorf("%d bytes: %s", len(kept), kept)
	}
	star(string(most[50]), "yes", "/").want(t, 409).has(t, "50 favourites")
	star(string(most[50]), "no", "/").want(t, 200)
}

// Where people sign in favourites are theirs, in every browser; the display at a door has none.
func TestFavouritesOfUsers(t *testing.T) {
	s := new(accountService)
	s.service = wholeOn(t, eventstoretest.OpenAlone(t), s.withAccounts(t))
	s.do(t, "POST", "/rooms", `{"roomId":"red","name":"Red"}`, s.token(t, s.user(t, "admin", domain.RoleAdmin))).want(t, 201)
	s.user(t, "ann", domain.RoleUser)
	s.user(t, "bob", domain.RoleUser)
	browser := func(user string) *reader {
		b := newReader(s.service, "", "en")
		name, value, _ := strings.Cut(strings.TrimPrefix(s.signIn(t, user, good), "Cookie: "), "=")
		b.cookies[name] = value
		return b
	}
	const page, pressed = "/rooms/red/page", `aria-pressed="true"`
	one, other, bob := browser("ann"), browser("ann"), browser("bob")
	one.submit(t, "/rooms/red/favourite", url.Values{"favourite": {"yes"}, "back": {page}}).want(t, 200)
	if strings.Contains(one.cookies["roombook-favourites"], "red") {
		t.Error("the favourites of a user are in a cookie")
	}
	for who, has := range map[*reader]bool{one: true, other: true, bob: false} {
		if r := who.get(t, page).want(t, 200); strings.Contains(r.body, pressed) != has {
			t.Errorf("favourite: %v, want %v", !has, has)
		}
	}
	other.submit(t, "/rooms/red/favourite", url.Values{"favourite": {"no"}, "back": {page}}).want(t, 200)
	if r := one.get(t, page); strings.Contains(r.body, pressed) {
		t.Error("it is still a favourite")
	}

	// Signing out leaves nothing of a user to whoever signs in next in the same browser, and who is not signed in has no favourites.
	bob.submit(t, "/rooms/red/favourite", url.Values{"favourite": {"yes"}, "back": {page}}).want(t, 200)
	bob.cookies["roombook-name"], bob.cookies["roombook-favourites"] = "bob", "red" // from when nobody signed in
	if r := bob.ask(t, "POST", "/signout", url.Values{}).want(t, 303); r.header.Get("Location") != "/signin?done=signed-out" {
		t.Errorf("%v", r.header)
	}
	if left := bob.get(t, "/settings?back=/my").want(t, 200); strings.Contains(left.body, "data-reader") || strings.Contains(left.body, "bob") || strings.Contains(left.body, "/signout") {
		t.Error(left.body)
	}
	for _, path := range []string{page, "/rooms/red/favourite"} {
		if r := bob.ask(t, "GET", path, nil).want(t, 303); r.header.Get("Location") != "/signin?back="+url.QueryEscape(path) {
			t.Errorf("%v", r.header)
		}
	}
	next := bob.get(t, "/signin?back="+url.QueryEscape("/rooms/red/favourite")).fields(t, "password")
	next.Set("name", "ann")
	next.Set("password", good)
	for r := bob.ask(t, "POST", "/signin", next); r.header.Get("Location") != page; r = bob.ask(t, "GET", r.header.Get("Location"), nil) {
		r.want(t, 303)
	}
	if r := bob.get(t, page).want(t, 200); strings.Contains(r.body, pressed) || strings.Contains(r.body, "bob") {
		t.Error("something of bob is left to ann")
	}

	door := s.token(t, s.userOf(t, accounts.NewUser{Name: "door", Roles: domain.NewRoles(domain.RoleDoor), Rooms: domain.NewRooms("red")}))
	if r := s.do(t, "GET", page, "", door, "Accept: text/html").want(t, 200); strings.Contains(r.body, `class="star"`) {
		t.Error("a display is offered favourites")
	}
	r := newReader(s.service, "", "en").ask(t, "POST", "/rooms/red/favourite", url.Values{"favourite": {"yes"}}, door)
	r.want(t, 403)
}
