package api

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/sqlite"
)

// whole returns a server with an event store on disk, and lists that workers maintain and that can be read, all in this process.
func whole(t testing.TB, change ...func(*Options)) *service {
	t.Helper()
	return wholeOn(t, eventstoretest.Open(t), change...)
}

// wholeOn is whole on an event store.
func wholeOn(t testing.TB, store *eventstore.Store, change ...func(*Options)) *service {
	t.Helper()
	views, err := sqlite.Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	positions := projections.NewPositions()
	workers := projections.NewWorkers(views, store, projections.All(), projections.WorkerOptions{Positions: positions})
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- workers.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ran
		if err := views.Close(); err != nil {
			t.Error(err)
		}
	})
	policy := domain.DefaultPolicy()
	policy.Zone = zone(t, "Asia/Seoul")
	o := Options{
		Commands:  commands.New(store, commands.Options{Policy: policy}),
		Lists:     projections.NewQueries(views, projections.QueryOptions{ReadWait: 30 * time.Second, Positions: positions, Policy: policy}),
		Streams:   store,
		End:       store.End,
		ReadBack:  store.ReadBack,
		Subscribe: store.Subscribe,
		Policy:    policy,
		Zone:      policy.Zone,
		Hosts:     []string{"example.com"},
	}
	for _, c := range change {
		c(&o)
	}
	s := New(o)
	for o.Lists.(interface{ Ready(context.Context) error }).Ready(t.Context()) != nil {
		time.Sleep(time.Millisecond)
	}
	return &service{Server: s}
}

// The effects of commands are in the lists once they have reached the position of the reply.
func TestALifeInAllLists(t *testing.T) {
	s := whole(t)
	room, user := "r-"+uuid.NewString(), "u-"+uuid.NewString()
	var at string // the position of the last answer
	do := func(method, path, body string, status int) reply {
		t.Helper()
		r := s.do(t, method, path, body).want(t, status)
		at = r.header.Get("Roombook-Position")
		return r
	}
	only := func(path, name string) map[string]any {
		t.Helper()
		r := s.do(t, "GET", path, "", "Roombook-Position: "+at).want(t, 200)
		items := r.at(t, "_embedded."+name).([]any)
		if len(items) != 1 {
			t.Fatalf("%s: %s", path, r.body)
		}
		return items[0].(map[string]any)
	}
	has := func(item map[string]any, want map[string]any) {
		t.Helper()
		for name, v := range want {
			if item[name] != v {
				t.Errorf("%s is %v, want %v, in %v", name, item[name], v, item)
			}
		}
	}

	id := do("POST", "/bookings", `{"roomId":"`+room+`","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"`+user+`"}`, 201).at(t, "bookingId").(string)
	has(only("/bookingLists?roomId="+room, "bookingLists"), map[string]any{"bookingId": id, "status": "BOOKED", "confirmStatus": "BOOKED", "useStartDtm": "2026-11-24T09:30:00+09:00"})
	has(only("/bookings?userId="+user, "bookings"), map[string]any{"bookingId": id})
	has(only("/notifications?userId="+user, "notifications"), map[string]any{"contents": "conference room[" + room + "] reservation is complete", "bookingId": id, "delivery": "PENDING"})

	do("PATCH", "/confirms/"+id, `{"status":"CONFIRMED","confirmUserId":"boss"}`, 200)
	has(only("/confirms?bookingId="+id, "confirms"), map[string]any{"status": "CONFIRMED", "confirmUserId": "boss"})

	use := do("POST", "/realuses", `{"bookingId":"`+id+`","realUseStartDtm":"202611240931"}`, 201).at(t, "realUseId").(string)
	has(only("/realuses?roomId="+room, "realuses"), map[string]any{"realUseId": use, "realUseEndDtm": nil})
	do("PATCH", "/realuses/"+use, `{"realUseEndDtm":"202611241001"}`, 200)
	has(only("/roomUseLists/search/findByBookingId?bookingId="+id, "roomUseLists"), map[string]any{"status": "ENDED", "usedMinutes": 30., "bookedMinutes": 60.})
	has(only("/bookingLists/search/findByBookingId?bookingId="+id, "bookingLists"), map[string]any{"status": "ENDED", "cancelReason": "use-ended"})
	s.do(t, "GET", "/bookings/"+id, "").want(t, 404)
	for _, path := range []string{"/bookingLists/" + id, "/roomUseLists/" + id} {
		has(s.do(t, "GET", path, "", "Roombook-Position: "+at).want(t, 200).object(t), map[string]any{"bookingId": id})
	}
	if r := s.do(t, "GET", "/bookings?roomId="+room, ""); !strings.Contains(r.body, `"bookings":[]`) {
		t.Error(r.body)
	}

	// All pages, in every documented order.
	for i := range 5 {
		do("POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"useStartDtm":"2026112%d0930","useEndDtm":"2026112%d1030","bookingUserId":%q}`, room, 5+i, 5+i, user), 201)
	}
	for path, sorts := range map[string][]string{"/bookingLists": s.bookingLists().sorts, "/roomUseLists": s.roomUseLists().sorts, "/notifications": s.notifications().sorts} {
		for _, sort := range sorts {
			for _, direction := range []string{"", ",desc"} {
				next := path + "?userId=" + user + "&size=2&total=true&sort=" + sort + direction
				name := strings.TrimPrefix(path, "/")
				seen := make(map[string]bool)
				total := -1.
				for next != "" {
					r := s.do(t, "GET", next, "", "Roombook-Position: "+at).want(t, 200)
					for _, item := range r.at(t, "_embedded."+name).([]any) {
						self := item.(map[string]any)["_links"].(map[string]any)["self"].(map[string]any)["href"].(string)
						if seen[self] {
							t.Errorf("%s twice by %s", self, sort)
						}
						seen[self] = true
					}
					total = r.at(t, "page.totalElements").(float64)
					next = ""
					if l, ok := r.at(t, "_links.next").(map[string]any); ok {
						next = strings.TrimPrefix(l["href"].(string), "http://example.com")
					}
				}
				if len(seen) != int(total) || total < 6 {
					t.Errorf("%d of %v by %s", len(seen), total, sort)
				}
			}
		}
	}
	s.do(t, "GET", "/bookingLists?cursor=nonsense", "").want(t, 400)
}

// Answers to bookings are found by the answer, whatever the booking's status.
func TestConfirmsByAnswer(t *testing.T) {
	s := whole(t)
	room := "r-" + uuid.NewString()
	var at string
	do := func(method, path, body string, status int) reply {
		t.Helper()
		r := s.do(t, method, path, body).want(t, status)
		at = r.header.Get("Roombook-Position")
		return r
	}
	book := func(hour int) string {
		t.Helper()
		body := fmt.Sprintf(`{"roomId":%q,"useStartDtm":"20261124%02d00","useEndDtm":"20261124%02d00","bookingUserId":"u"}`, room, hour, hour+1)
		return do("POST", "/bookings", body, 201).at(t, "bookingId").(string)
	}
	names := map[string]string{}
	for i, name := range []string{"waiting", "confirmed", "denied", "in use and waiting", "in use and confirmed", "cancelled", "used"} {
		id := book(i)
		names[id] = name
		if name == "confirmed" || name == "in use and confirmed" {
			do("PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`, 200)
		}
		switch name {
		case "denied":
			do("PATCH", "/confirms/"+id, `{"status":"DENIED","reason":"wet paint"}`, 200)
		case "cancelled":
			do("DELETE", "/bookings/"+id, "", 204)
		case "in use and waiting", "in use and confirmed", "used":
			use := do("POST", "/realuses", `{"bookingId":"`+id+`","realUseStartDtm":"202611240000"}`, 201).at(t, "realUseId").(string)
			if name == "used" {
				do("PATCH", "/realuses/"+use, `{"realUseEndDtm":"202611240100"}`, 200)
			}
		}
	}
	for query, want := range map[string]string{
		"/confirms?":                         "waiting, confirmed, in use and waiting, in use and confirmed",
		"/confirms?status=BOOKED&":           "waiting, in use and waiting",
		"/confirms?status=CONFIRMED&":        "confirmed, in use and confirmed",
		"/confirms?status=DENIED&":           "denied",
		"/confirms?status=BOOKED,DENIED&":    "waiting, denied, in use and waiting",
		"/confirms?status=all&":              "waiting, confirmed, denied, in use and waiting, in use and confirmed, cancelled, used",
		"/bookings?status=IN_USE&":           "in use and waiting, in use and confirmed",
		"/bookingLists?status=CANCELLED&":    "denied, cancelled",
		"/bookingLists?":                     "waiting, confirmed, in use and waiting, in use and confirmed, used",
		"/bookingLists?status=IN_USE,ENDED&": "in use and waiting, in use and confirmed, used",
	} {
		r := s.do(t, "GET", query+"total=true&roomId="+room, "", "Roombook-Position: "+at).want(t, 200)
		var got []string
		for _, items := range r.at(t, "_embedded").(map[string]any) {
			for _, item := range items.([]any) {
				got = append(got, names[item.(map[string]any)["bookingId"].(string)])
			}
		}
		if strings.Join(got, ", ") != want || r.at(t, "page.totalElements") != float64(len(got)) {
			t.Errorf("%s: %v, %s, want %s", query, got, r.body, want)
		}
	}
}

// Both the new and the former user of a booking are notified.
func TestTheFormerUserIsTold(t *testing.T) {
	s := whole(t)
	room := "r-" + uuid.NewString()
	id := s.book(t, `{"roomId":"`+room+`","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"ann"}`)
	var at string
	for _, change := range []string{`{"bookingUserId":"bob"}`, `{"bookingUserId":"cy","useEndDtm":"202611241100"}`, `{"useEndDtm":"202611241130"}`} {
		at = s.do(t, "PATCH", "/bookings/"+id, change).want(t, 200).header.Get("Roombook-Position")
	}
	r := s.do(t, "GET", "/notifications?bookingId="+id, "", "Roombook-Position: "+at).want(t, 200)
	var told []string
	for _, item := range r.at(t, "_embedded.notifications").([]any) {
		n := item.(map[string]any)
		told = append(told, fmt.Sprint(n["userId"], " ", n["kind"]))
	}
	if got, want := strings.Join(told, ", "), "ann booked, bob changed, ann handed-over, cy changed, bob handed-over, cy changed"; got != want {
		t.Errorf("told: %s, want %s", got, want)
	}
}

// Of many clients that book the same slot at once one succeeds, and the others get a conflict with that booking.
func TestOneSlotManyClients(t *testing.T) {
	s := whole(t)
	body := fmt.Sprintf(`{"roomId":"r-%s","useStartDtm":"202611240930","useEndDtm":"202611241030","bookingUserId":"u"}`, uuid.NewString())
	var clients sync.WaitGroup
	answers := make([]reply, 16)
	for i := range answers {
		clients.Go(func() { answers[i] = s.do(t, "POST", "/bookings", body) })
	}
	clients.Wait()
	var winner string
	for _, r := range answers {
		if r.status == 201 {
			if winner != "" {
				t.Error("two bookings of one slot")
			}
			winner = r.at(t, "bookingId").(string)
		}
	}
	for _, r := range answers {
		if r.status != 201 && (r.status != 409 || !strings.Contains(r.body, winner)) {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}
