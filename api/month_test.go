package api

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// pagesOfTwo are lists that have short pages, each of which has its bookings so often. They remember what was asked of them.
type pagesOfTwo struct {
	*projections.Queries
	often int
	asked []projections.Query
}

func (p *pagesOfTwo) BookingLists(ctx context.Context, q projections.Query) (projections.Page[projections.BookingList], error) {
	p.asked = append(p.asked, q)
	q.Size = 2
	page, err := p.Queries.BookingLists(ctx, q)
	page.Items = slices.Repeat(page.Items, p.often)
	return page, err
}

// The calendar has the bookings of a month on the days of their rooms, and reads no others.
func TestMonth(t *testing.T) {
	var lists *pagesOfTwo
	s := wholeOn(t, eventstoretest.OpenAlone(t), func(o *Options) {
		lists = &pagesOfTwo{Queries: o.Lists.(*projections.Queries), often: 1}
		o.Lists = lists
	})
	ann, kim := newReader(s, "ann", "en"), newReader(s, "ann", "ko")
	houseForTest(t, ann)
	book := func(room, user, start, end string) string {
		t.Helper()
		r := s.do(t, "POST", "/bookings", fmt.Sprintf(`{"roomId":%q,"bookingUserId":%q,"useStartDtm":%q,"useEndDtm":%q}`, room, user, start, end)).want(t, 201)
		ann.cookies["roombook-position"] = r.header.Get("Roombook-Position")
		return r.at(t, "bookingId").(string)
	}
	book("red", "ann", "202703101400", "202703101500")
	night := book("red", "ann", "202703152200", "202703160200")
	book("far", "ann", "2027-03-31T21:00:00Z", "2027-03-31T21:30:00Z") // 23:00 in Berlin, of which it is April in Seoul
	book("far", "ann", "2027-02-28T20:00:00Z", "2027-02-28T21:00:00Z") // the reverse
	book("red", "ann", "202704011000", "202704011100")
	book("red", "ann", "202606011000", "202606011100")
	book("blue", "bob", "202703101400", "202703101500")
	cancelled := book("blue", "ann", "202703121400", "202703121500")
	s.do(t, "DELETE", "/bookings/"+cancelled, "").want(t, 204)
	s.do(t, "PATCH", "/confirms/"+night, `{"status":"CONFIRMED"}`).want(t, 200)
	r := s.do(t, "PATCH", "/bookings/"+night, `{"useEndDtm":"202703160100"}`).want(t, 200)
	ann.cookies["roombook-position"] = r.header.Get("Roombook-Position")

	lists.asked = nil
	month := ann.get(t, "/my?view=calendar&month=2027-03").want(t, 200).has(t, "March 2027")
	if len(lists.asked) < 3 {
		t.Errorf("%d pages were read", len(lists.asked))
	}
	for _, q := range lists.asked {
		if q.User != "ann" || q.From.Before(time.Date(2027, 2, 27, 0, 0, 0, 0, time.UTC)) || q.To.IsZero() || q.To.After(time.Date(2027, 4, 2, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%+v", q)
		}
	}
	days := map[string]string{}
	for _, day := range strings.Split(month.body, `<time datetime="`)[1:] {
		if links := strings.Count(day, `/page"`); links > 0 {
			texts := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(day[strings.Index(day, "<ul>"):strings.Index(day, "</ul>")], " ")
			days[day[:10]] = strings.ReplaceAll(strings.Join(strings.Fields(texts), " "), "\u2060", "")
		}
	}
	want := map[string]string{
		"2027-03-10": "14:00–15:00 Red Waiting for an answer", "2027-03-15": "22:00–24:00 Red Waiting for an answer", "2027-03-16": "00:00–01:00 Red Waiting for an answer",
		"2027-03-31": "23:00–23:30 (Europe/Berlin) Far Waiting for an answer",
	}
	if fmt.Sprint(days) != fmt.Sprint(want) {
		t.Errorf("%v\nwant\n%v", days, want)
	}
	for _, part := range []string{`month-from-0`, `month=2027-02"`, `month=2027-04"`, `<span>Mon</span><span>Tue</span>`} {
		if !strings.Contains(month.body, part) {
			t.Errorf("%s is not there", part)
		}
	}
	korean := kim.after(ann).get(t, "/my?view=calendar&month=2027-03").has(t, "2027년 3월", "오후 2:00–3:00")
	if !strings.Contains(korean.body, "month-from-1") || !strings.Contains(korean.body, "<span>일</span><span>월</span>") {
		t.Error("a Korean week does not begin on Sunday")
	}
	for _, odd := range []string{"", "&month=", "&month=2027-13", "&month=10000-01", "&month=-0001-01"} {
		if r := ann.get(t, "/my?view=calendar"+odd).want(t, 200); strings.Count(r.body, `aria-current="date"`) != 1 {
			t.Errorf("%s is not the present month", odd)
		}
	}
	ann.get(t, "/my?view=calendar&month=0000-01").want(t, 200)
	ann.get(t, "/my?view=calendar&month=9999-12").want(t, 200)
	ann.get(t, "/my").want(t, 200).has(t, "List", "Calendar", "Upcoming")
	lists.often = 600
	if r := ann.get(t, "/my?view=calendar&month=2027-03"); !strings.Contains(r.body, "the first 1800 are shown") { // of three pages of two
		t.Error("that there are more is not said")
	}
}
