package api

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"roombook/domain"
	"roombook/projections"
)

// fill fills the lists with entries in different states.
func (s *service) fill() {
	at := func(h int) time.Time { return time.Date(2026, 11, 24, h, 0, 0, 0, time.UTC) }
	s.lists.position = 42
	s.lists.bookings = []projections.BookingList{
		{Booking: "b1", Room: "1", User: "ann", Start: at(1), End: at(2), BookedAt: at(0), ModifiedAt: at(0), Status: projections.StatusBooked, ConfirmStatus: domain.AnswerPending},
		{Booking: "b2", Room: "1", User: "bob", Start: at(1), End: at(2), BookedAt: at(0), Status: projections.StatusCancelled,
			ConfirmStatus: domain.Denied, ConfirmUser: "boss", ConfirmReason: "no", ConfirmedAt: at(3), CancelReason: domain.CancelledByDenial, CancelDetail: "works", CancelledAt: at(3)},
	}
	s.lists.roomUses = []projections.RoomUseList{
		{Booking: "b1", Room: "1", User: "ann", Start: at(1), End: at(2), BookedMinutes: 60, Status: projections.StatusInUse, RealUse: "u1", StartedAt: at(1)},
		{Booking: "b3", Room: "1", User: "ann", Start: at(1), End: at(2), BookedMinutes: 60, Status: projections.StatusEnded, RealUse: "u3", StartedAt: at(1),
			EndedAt: at(1).Add(59*time.Minute + 40*time.Second), UsedMinutes: 60, RoomStillInUseBy: "b1"},
	}
	s.lists.notifications = []projections.Notification{
		{ID: "n1", Booking: "b1", Room: "1", User: "ann", Kind: domain.KindBooked, Contents: "conference room[1] reservation is complete", SentAt: at(0), Delivery: domain.DeliveryPending},
		{ID: "n2", Booking: "b1", Room: "1", User: "ann", Kind: domain.KindCancelled, Contents: "…", SentAt: at(0), Delivery: domain.DeliveryDelivered, DeliveredAt: at(1), Attempts: 2, Reason: "450 busy"},
	}
}

func TestLists(t *testing.T) {
	s := newService(t)
	s.fill()
	for _, tt := range []struct {
		path string
		name string // in _embedded
		has  []string
	}{
		{"/bookingLists", "bookingLists", []string{
			`"bookingId":"b1","roomId":"1","bookingUserId":"ann","useStartDtm":"2026-11-24T10:00:00+09:00","useEndDtm":"2026-11-24T11:00:00+09:00","bookingDtm":"2026-11-24T09:00:00+09:00","status":"BOOKED","confirmStatus":"BOOKED","confirmDtm":null,"confirmUserId":null,"confirmReason":null,"cancelReason":null,"cancelDtm":null`,
			`"status":"CANCELLED","confirmStatus":"DENIED","confirmDtm":"2026-11-24T12:00:00+09:00","confirmUserId":"boss","confirmReason":"no","cancelReason":"denied","cancelDetail":"works","cancelDtm":"2026-11-24T12:00:00+09:00"`,
			`"self":{"href":"http://example.com/bookingLists/b1"},"bookingList":{"href":"http://example.com/bookingLists/b1"}`,
		}},
		{"/bookingLists/search/findByBookingId?bookingId=b1", "bookingLists", []string{`"bookingId":"b1"`}},
		{"/bookings", "bookings", []string{
			`{"bookingId":"b1","roomId":"1","useStartDtm":"2026-11-24T10:00:00+09:00","useEndDtm":"2026-11-24T11:00:00+09:00","bookingUserId":"ann","status":"BOOKED","_links":{"self":{"href":"http://example.com/bookings/b1"},"booking":{"href":"http://example.com/bookings/b1"}}}`,
		}},
		{"/confirms", "confirms", []string{
			`"bookingId":"b1","userId":"ann","status":"BOOKED","confirmDtm":null,"confirmUserId":null`,
			`"status":"DENIED","confirmDtm":"2026-11-24T12:00:00+09:00","confirmUserId":"boss","reason":"no"`,
		}},
		{"/roomUseLists", "roomUseLists", []string{
			`"bookingId":"b1","roomId":"1","bookingUserId":"ann","bookedUseStartDtm":"2026-11-24T10:00:00+09:00","bookedUseEndDtm":"2026-11-24T11:00:00+09:00","status":"IN_USE","realUseId":"u1","realUseStartDtm":"2026-11-24T10:00:00+09:00","realUseEndDtm":null,"bookedMinutes":60,"usedMinutes":null`,
			`"realUseId":"u3","realUseStartDtm":"2026-11-24T10:00:00+09:00","realUseEndDtm":"2026-11-24T10:59:40+09:00","roomStillInUseBy":"b1","bookedMinutes":60,"usedMinutes":60`,
		}},
		{"/roomUseLists/search/findByBookingId?bookingId=b1", "roomUseLists", []string{`"realUseId":"u1"`}},
		{"/realuses", "realuses", []string{
			`{"realUseId":"u1","bookingId":"b1","roomId":"1","bookingUserId":"ann","realUseStartDtm":"2026-11-24T10:00:00+09:00","realUseEndDtm":null,"_links"`,
			`"realUseEndDtm":"2026-11-24T10:59:40+09:00","roomStillInUseBy":"b1","_links"`,
		}},
		{"/notifications", "notifications", []string{
			`"notificationId":"n1","bookingId":"b1","roomId":"1","userId":"ann","kind":"booked","contents":"conference room[1] reservation is complete","sendDtm":"2026-11-24T09:00:00+09:00","delivery":"PENDING","deliveredDtm":null,"attempts":0,"reason":null`,
			`"delivery":"DELIVERED","deliveredDtm":"2026-11-24T10:00:00+09:00","attempts":2,"reason":"450 busy"`,
		}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			r := s.do(t, "GET", tt.path, "").want(t, 200)
			if n := len(r.at(t, "_embedded."+tt.name).([]any)); n != 2 {
				t.Errorf("%d items", n)
			}
			for _, part := range tt.has {
				if !strings.Contains(r.body, part) {
					t.Errorf("no %s in\n%s", part, r.body)
				}
			}
			if r.header.Get("Roombook-Position") != "42" || r.at(t, "page.size") != 20. || r.at(t, "_links.self.href") != "http://example.com"+tt.path {
				t.Errorf("%v %s", r.header, r.body)
			}
		})
	}
}

func TestListEntries(t *testing.T) {
	s := newService(t)
	s.fill()
	for path, want := range map[string]string{
		"/bookingLists/b2":  `"bookingId":"b2"`,
		"/roomUseLists/b3":  `"realUseId":"u3"`,
		"/notifications/n2": `"notificationId":"n2"`,
	} {
		r := s.do(t, "GET", path, "", "Roombook-Position: 40").want(t, 200)
		if !strings.Contains(r.body, want) || s.lists.min != 40 {
			t.Errorf("%s: %s, waited for %d", path, r.body, s.lists.min)
		}
		for _, none := range []string{"none", "a%20b"} {
			missing := path[:strings.LastIndexByte(path, '/')+1] + none
			if r := s.do(t, "GET", missing, "").want(t, 404); r.at(t, "type") != "/problems/not-in-list" {
				t.Errorf("%s: %s", missing, r.body)
			}
		}
		s.do(t, "GET", path, "", "Roombook-Position: soon").want(t, 400)
		s.lists.err = projections.ErrBehind
		s.do(t, "GET", path, "", "Roombook-Position: 41").want(t, 503)
		s.lists.err = nil
	}
}

func TestQueries(t *testing.T) {
	live := []string{"BOOKED", "CONFIRMED", "IN_USE"}
	noon := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		target string
		want   projections.Query
	}{
		{"/bookingLists", projections.Query{}},
		{"/bookingLists?", projections.Query{}},
		{"/bookingLists?roomId=1&userId=ann&bookingId=b-1", projections.Query{Room: "1", User: "ann", Booking: "b-1"}},
		{"/bookingLists?status=all", projections.Query{Statuses: []string{"all"}}},
		{"/bookingLists?status=BOOKED,ENDED", projections.Query{Statuses: []string{"BOOKED", "ENDED"}}},
		{"/bookingLists?from=202611241200&to=2026-11-24T12:30:00%2B09:00", projections.Query{From: noon, To: noon.Add(30 * time.Minute)}},
		{"/bookingLists?from=2026-11-24T12:00:00+09:00", projections.Query{From: noon}},
		{"/bookingLists?sort=roomId,desc&size=200&cursor=a%2Bb&total=true", projections.Query{Sort: "roomId", Descending: true, Size: 200, Cursor: "a+b", Total: true}},
		{"/bookingLists?sort=roomId&total=false", projections.Query{Sort: "roomId"}},
		{"/bookings", projections.Query{Statuses: live}},
		{"/bookings?status=CANCELLED", projections.Query{Statuses: []string{"CANCELLED"}}},
		{"/bookings?status=all", projections.Query{Statuses: []string{"all"}}},
		{"/confirms", projections.Query{Answers: []domain.Answer{"BOOKED", "CONFIRMED"}}},
		{"/confirms?status=DENIED", projections.Query{Answers: []domain.Answer{"DENIED"}}},
		{"/confirms?status=all", projections.Query{Statuses: []string{"all"}}},
		{"/realuses", projections.Query{Used: true, Statuses: []string{"all"}}},
		{"/realuses?status=all", projections.Query{Used: true, Statuses: []string{"all"}}},
		{"/realuses?status=ENDED", projections.Query{Used: true, Statuses: []string{"ENDED"}}},
		{"/roomUseLists?sort=bookedUseStartDtm,desc", projections.Query{Sort: "bookedUseStartDtm", Descending: true}},
		{"/notifications?status=FAILED&sort=sendDtm,asc", projections.Query{Statuses: []string{"FAILED"}, Sort: "sendDtm"}},
		{"/bookingLists/search/findByBookingId?bookingId=7", projections.Query{Booking: "7", Statuses: []string{"all"}}},
		{"/roomUseLists/search/findByBookingId?bookingId=7", projections.Query{Booking: "7", Statuses: []string{"all"}}},
	} {
		s := newService(t)
		s.do(t, "GET", tt.target, "", "Roombook-Position: 7").want(t, 200)
		tt.want.MinPosition = 7
		if !reflect.DeepEqual(s.lists.asked, tt.want) {
			t.Errorf("%s asks for %+v, want %+v", tt.target, s.lists.asked, tt.want)
		}
	}
}

func TestEveryFaultOfAQueryIsToldAtOnce(t *testing.T) {
	const id = "must be 1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'"
	for _, tt := range []struct {
		target string
		want   []string
	}{
		{"/bookingLists?roomId=&userId=a%20b&size=0&total=1&x&from=soon&status=NONE&sort=x", []string{
			"roomId " + id, "userId " + id, "size must be a whole number from 1 to 200", "total must be true or false", "x is not a parameter of this address",
			"from must be a time like 2026-11-24T09:30:00+09:00 (RFC 3339), or yyyyMMddHHmm or yyyyMMddHHmmss in Asia/Seoul",
			"status must be BOOKED, CONFIRMED, IN_USE, ENDED, CANCELLED or all, or some of them with commas between",
			"sort must be useStartDtm or bookingDtm or roomId or bookingUserId or status, and after it nothing, ,asc or ,desc",
		}},
		{"/bookingLists?size=201&size=1&page=2", []string{"size must be a whole number from 1 to 200", "size must be given only once", "page is not a parameter of this address"}},
		{"/bookingLists?from=202611241200&to=202611241200", []string{"to must be after from"}},
		{"/bookingLists?roomId=%zz", []string{"roomId is not escaped as a query must be"}},
		{"/bookingLists/search/findByBookingId", []string{"bookingId must be given"}},
		{"/bookingLists/search/findByBookingId?bookingId=a/b&size=1", []string{"bookingId " + id, "size is not a parameter of this address"}},
		{"/bookingLists/b1?asOf=1", []string{"asOf is not a parameter of this address"}},
	} {
		r := newService(t).do(t, "GET", tt.target, "").want(t, 400)
		var got []string
		for _, e := range r.at(t, "errors").([]any) {
			e := e.(map[string]any)
			got = append(got, fmt.Sprint(e["parameter"], " ", e["detail"]))
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.target, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
	s := newService(t)
	r := s.do(t, "GET", "/bookingLists", "", "Roombook-Position: -1").want(t, 400)
	if !strings.Contains(r.body, `{"parameter":"Roombook-Position"`) {
		t.Error(r.body)
	}
	s.do(t, "GET", "/bookingLists/search/findByBookingId?bookingId=1", "", "Roombook-Position: 1.5").want(t, 400)
	s.lists.err = &projections.InvalidQuery{Parameter: projections.ParameterCursor, Detail: "is damaged"}
	r = s.do(t, "GET", "/bookingLists?cursor=x", "").want(t, 400)
	if !strings.Contains(r.body, `[{"parameter":"cursor","detail":"is damaged"}]`) {
		t.Error(r.body)
	}
}

func TestPages(t *testing.T) {
	s := newService(t)
	s.fill()
	s.lists.next = "n+/="
	total := int64(77)
	s.lists.total = &total
	r := s.do(t, "GET", `/bookingLists?cursor=old&size=2&roomId=1&total=true`, "").want(t, 200)
	if got, want := r.at(t, "_links.next.href"), "http://example.com/bookingLists?size=2&roomId=1&total=true&cursor=n%2B%2F%3D"; got != want {
		t.Errorf("next %s, want %s", got, want)
	}
	if r.at(t, "page.totalElements") != 77. || r.at(t, "page.size") != 2. {
		t.Error(r.body)
	}
	if r.at(t, "page.totalElementsIsLowerBound") != nil {
		t.Error(r.body)
	}
	s.lists.more = true
	if r := s.do(t, "GET", "/bookingLists?total=true", ""); r.at(t, "page.totalElements") != 77. || r.at(t, "page.totalElementsIsLowerBound") != true {
		t.Error(r.body)
	}
	s.lists.next = ""
	if r := s.do(t, "GET", "/bookingLists", ""); r.at(t, "_links.next") != nil {
		t.Error(r.body)
	}
	s.lists.bookings = nil
	if r := s.do(t, "GET", "/bookingLists", ""); !strings.Contains(r.body, `"_embedded":{"bookingLists":[]}`) {
		t.Error(r.body)
	}
}

// Pages, like all resources, have a link that is named after them.
func TestPagesCarryTheLinkNamedAfterThem(t *testing.T) {
	s := newService(t)
	for path, name := range map[string]string{
		"/bookings?size=1": "bookings", "/confirms": "confirms", "/realuses": "realuses", "/bookingLists": "bookingLists", "/roomUseLists": "roomUseLists",
		"/notifications": "notifications", "/bookingLists/search/findByBookingId?bookingId=1": "bookingLists", "/roomUseLists/search/findByBookingId?bookingId=1": "roomUseLists",
	} {
		if r := s.do(t, "GET", path, "").want(t, 200); r.at(t, "_links."+name+".href") != "http://example.com"+path {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

// Every parameter of the lists sets a field of the query, and every filter field of the query is set by some list, so that the tests that
// want an index for every query cover every parameter. The lists have the orders of the read models.
func TestParametersAreTheQuerys(t *testing.T) {
	s := newService(t)
	values := map[string]string{
		"roomId": "1", "userId": "ann", "bookingId": "b", "status": "BOOKED", "from": "202611241200", "to": "202611241300",
		"sort": "bookingDtm,desc", "size": "7", "cursor": "c", "total": "true",
	}
	unset := map[string]bool{"MinPosition": true}
	for field := range reflect.TypeFor[projections.Query]().Fields() {
		unset[field.Name] = field.Name != "MinPosition" // a header
	}
	ask := func(target string) {
		t.Helper()
		s.do(t, "GET", target, "").want(t, 200)
		for field, value := range reflect.ValueOf(s.lists.asked).Fields() {
			if !value.IsZero() {
				delete(unset, field.Name)
			}
		}
	}
	for field := range reflect.TypeFor[listParams]().Fields() {
		name := field.Tag.Get("param")
		before := len(unset)
		if ask("/bookingLists?" + name + "=" + values[name]); len(unset) == before {
			t.Errorf("%s sets nothing of the query", name)
		}
	}
	ask("/confirms")
	ask("/realuses")
	delete(unset, "MinPosition")
	if len(unset) > 0 {
		t.Errorf("no list asks for %v", unset)
	}
	for name, sorts := range map[string][]string{
		projections.BookingListName: s.bookingLists().sorts, projections.RoomUseListName: s.roomUseLists().sorts, projections.NotificationName: s.notifications().sorts,
	} {
		if p, _ := projections.Named(name); !reflect.DeepEqual(p.Sorts, sorts) {
			t.Errorf("%s: %v, want %v", name, sorts, p.Sorts)
		}
	}
}
