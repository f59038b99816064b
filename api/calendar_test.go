package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// A feed has the bookings of a room or a user, as another library reads it, and can be asked for changes only.
func TestCalendarFeeds(t *testing.T) {
	s := newService(t)
	s.fill()
	evil := s.lists.bookings[0]
	evil.Booking, evil.User = "b9", "kim\r\nEND:VEVENT;,\\\""
	evil.ConfirmStatus, evil.ModifiedAt, evil.Changes = domain.Confirmed, evil.BookedAt.Add(time.Hour), 3
	s.lists.bookings = append(s.lists.bookings, evil)
	for path, want := range map[string]projections.Query{"/rooms/1/calendar.ics": {Room: "1"}, "/users/ann/calendar.ics": {User: "ann"}} {
		r := s.do(t, "GET", path, "").want(t, 200)
		if r.header.Get("Content-Type") != "text/calendar; charset=utf-8" {
			t.Errorf("%s is %s", path, r.header.Get("Content-Type"))
		}
		asked := s.lists.asked
		if asked.Room != want.Room || asked.User != want.User || strings.Join(asked.Statuses, " ") != "BOOKED CONFIRMED IN_USE ENDED" || asked.From.After(time.Now().Add(-29*24*time.Hour)) || asked.Size != projections.MaxSize {
			t.Errorf("%s asks for %+v", path, asked)
		}
		calendar, err := ics.ParseCalendar(strings.NewReader(r.body))
		if err != nil || len(calendar.Events()) != len(s.lists.bookings) {
			t.Fatalf("%v: %s", err, r.body)
		}
		first := calendar.Events()[0]
		for property, want := range map[ics.ComponentProperty]string{
			ics.ComponentPropertyUniqueId: "b1@roombook", ics.ComponentPropertyDtStart: "20261124T010000Z", ics.ComponentPropertyDtEnd: "20261124T020000Z",
			ics.ComponentPropertyDtstamp: "20261124T000000Z", ics.ComponentPropertyLastModified: "20261124T000000Z", ics.ComponentPropertySequence: "0", ics.ComponentPropertyStatus: "TENTATIVE", ics.ComponentPropertyLocation: "1", ics.ComponentPropertyUrl: "http://example.com/bookings/b1/page",
		} {
			if p := first.GetProperty(property); p == nil || p.Value != want {
				t.Errorf("%s: %s is %+v, want %s", path, property, p, want)
			}
		}
		if last := calendar.Events()[len(calendar.Events())-1]; last.GetProperty(ics.ComponentPropertyStatus).Value != "CONFIRMED" || last.GetProperty(ics.ComponentPropertyDtstamp).Value != "20261124T010000Z" || last.GetProperty(ics.ComponentPropertySequence).Value != "3" {
			t.Errorf("%s", r.body)
		}
		if want := "\r\nX-WR-CALNAME:Room"; !strings.Contains(r.body, want) {
			t.Errorf("no %s in %s", want, r.body)
		}

		tag, modified := r.header.Get("Etag"), r.header.Get("Last-Modified")
		if at, err := http.ParseTime(modified); err != nil || at.After(time.Now()) {
			t.Errorf("modified %s, %v", modified, err)
		}
		s.do(t, "GET", path, "", "If-None-Match: "+tag).want(t, 304)
		s.do(t, "GET", path, "", "If-Modified-Since: "+time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)).want(t, 304)
		s.do(t, "GET", path, "", `If-None-Match: "other"`, "If-Modified-Since: "+modified).want(t, 200)
		s.do(t, "GET", path, "", "If-Modified-Since: yesterday").want(t, 200)
		before := s.lists.bookings
		s.lists.bookings = before[1:]
		changed := s.do(t, "GET", path, "", "If-None-Match: "+tag).want(t, 200)
		if changed.header.Get("Etag") == tag {
			t.Errorf("%s has changed and its tag has not", path)
		}
		s.lists.bookings = nil
		s.do(t, "GET", path, "").want(t, 200)
		s.lists.bookings = before
	}
	s.do(t, "GET", "/rooms/a%20b/calendar.ics", "").want(t, 404)
	s.lists.err = projections.ErrUnavailable
	s.do(t, "GET", "/rooms/1/calendar.ics", "").want(t, 503)
}

// A booking can be added to a calendar, whenever it is; one that is cancelled cannot.
func TestCalendarOfABooking(t *testing.T) {
	s := newService(t)
	s.fill()
	r := s.do(t, "GET", "/bookings/b1/calendar.ics", "").want(t, 200)
	calendar, err := ics.ParseCalendar(strings.NewReader(r.body))
	if err != nil || len(calendar.Events()) == 0 || s.lists.asked.Booking != "b1" || !s.lists.asked.From.IsZero() {
		t.Fatalf("%v: %s, asked for %+v", err, r.body, s.lists.asked)
	}
	s.lists.bookings = nil
	s.do(t, "GET", "/bookings/b1/calendar.ics", "").want(t, 404)
}

// Feeds name rooms, where they have names.
func TestFeedsNameRooms(t *testing.T) {
	s := newService(t)
	s.fill()
	other := s.lists.bookings[0]
	other.Booking, other.Room = "b9", "9"
	s.lists.bookings = append(s.lists.bookings, other)
	s.lists.rooms = []projections.RoomList{{Room: "1", Name: "Blauer Salon, groß"}}
	for path, want := range map[string][]string{
		"/rooms/1/calendar.ics":   {`NAME:Blauer Salon\, groß`, `X-WR-CALNAME:Blauer Salon\, groß`},
		"/rooms/9/calendar.ics":   {"NAME:Room 9"},
		"/users/ann/calendar.ics": {`SUMMARY:Blauer Salon\, groß`, "SUMMARY:Room 9"},
	} {
		body := s.do(t, "GET", path, "").want(t, 200).body
		for _, w := range want {
			if !strings.Contains(body, "\r\n"+w+"\r\n") {
				t.Errorf("%s has no %s:\n%s", path, w, body)
			}
		}
	}
}

// A feed that changed is not taken for what it was because its time has not changed: that is when this server found it changed.
func TestFeedsAreModifiedWhenTheyChange(t *testing.T) {
	f := newFeedTags()
	second := func(n float64) time.Time {
		return time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC).Add(time.Duration(n * float64(time.Second)))
	}
	for _, step := range []struct {
		feed, tag          string
		now                float64
		modified, complete float64
	}{
		{"a", "1", 0.2, 0, 1}, // its second may have begun with other content
		{"a", "1", 0.9, 0, 1}, // so who has this copy is sent another one once more,
		{"a", "1", 1, 1, 1},   // which stays
		{"a", "1", 3600, 1, 1},
		{"a", "2", 3600, 3600, 3601}, // in the second of the former content
		{"b", "1", 3600.5, 3600, 3601},
		{"a", "1", 3605, 3605, 3606},
	} {
		modified, complete := f.modified(step.feed, step.tag, second(step.now))
		if !modified.Equal(second(step.modified)) || !complete.Equal(second(step.complete)) || modified.After(second(step.now)) {
			t.Errorf("%+v: modified %s, complete %s", step, modified, complete)
		}
	}
}

// A notification that was given up is tried again when somebody asks, and asked of once; of others nothing is asked.
func TestRetryOfANotification(t *testing.T) {
	s := newService(t)
	event := uuid.New()
	id := domain.NotificationOf(event)
	s.fill()
	s.lists.notifications[0].ID, s.lists.notifications[0].Delivery, s.lists.notifications[0].Reason = id, domain.DeliveryFailed, "550 no"
	failed := eventstore.Proposed{Event: domain.NotificationFailed{NotificationID: id, BookingID: "b1", Channel: domain.ChannelMail, Attempt: 1, Reason: "550 no", Parked: true, At: time.Now()}}
	if _, err := s.log.Append(t.Context(), id.Stream(), eventstore.NoStream, failed); err != nil {
		t.Fatal(err)
	}
	r := s.do(t, "POST", "/notifications/"+string(id)+"/retry", "", "X-Correlation-Id: mine").want(t, 202)
	if r.at(t, "delivery") != "PENDING" || r.at(t, "reason") != "550 no" || r.header.Get("Roombook-Position") == "" {
		t.Errorf("%s", r.body)
	}
	s.do(t, "POST", "/notifications/"+string(id)+"/retry", "").want(t, 200)
	s.do(t, "POST", "/notifications/n2/retry", "").want(t, 200)
	s.do(t, "POST", "/notifications/nothing/retry", "").want(t, 404)
	var types []string
	for e, err := range s.log.ReadStream(t.Context(), id.Stream(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if types = append(types, e.Type); len(types) == 2 && e.Metadata.CorrelationID != "mine" {
			t.Errorf("%+v", e.Metadata)
		}
	}
	if strings.Join(types, " ") != "NotificationFailed NotificationRetried" {
		t.Errorf("%s", types)
	}
}
