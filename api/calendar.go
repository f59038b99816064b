package api

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"roombook/commands/notify"
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) calendarRoutes() []route {
	return []route{
		// A room's bookings for calendar programs.
		{method: "GET", path: "/rooms/{id}/calendar.ics", handle: s.roomCalendar, raw: true},
		// A user's bookings for calendar programs.
		{method: "GET", path: "/users/{id}/calendar.ics", handle: s.userCalendar, raw: true},
	}
}

// The bookings of a feed: those that end after some time ago, the earliest first, up to a number.
const (
	feedPast    = 30 * 24 * time.Hour
	maxFeed     = 2000
	maxFeedTags = 4096 // feeds whose Last-Modified is known
)

const mediaCalendar = "text/calendar; charset=utf-8"

func (s *Server) roomCalendar(x *exchange) error {
	room := domain.RoomID(x.vars["id"])
	return s.calendar(x, "Room "+string(room), projections.Query{Room: room}, func(b *projections.BookingList) string { return string(b.User) })
}

func (s *Server) userCalendar(x *exchange) error {
	user := domain.UserID(x.vars["id"])
	return s.calendar(x, "Rooms of "+string(user), projections.Query{User: user}, func(b *projections.BookingList) string { return "Room " + string(b.Room) })
}

// calendar replies with the bookings of a query as an iCalendar feed.
func (s *Server) calendar(x *exchange, name string, q projections.Query, summary func(*projections.BookingList) string) error {
	if !validID(x.vars["id"]) {
		return errNoSuchPath
	}
	q.Statuses = append(liveStatuses(), string(projections.StatusEnded))
	q.Size = projections.MaxSize
	q.From = x.now().Truncate(24 * time.Hour).Add(-feedPast)
	var meetings []notify.Meeting
	for len(meetings) < maxFeed {
		page, err := s.lists.BookingLists(x.ctx, q)
		if _, ok := errors.AsType[*projections.InvalidQuery](err); ok && q.Cursor != "" {
			return projections.ErrUnavailable // the list was rebuilt in between
		}
		if err != nil {
			return err
		}
		for i := range page.Items {
			meetings = append(meetings, x.meeting(&page.Items[i], summary(&page.Items[i])))
		}
		if q.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	x.mediaType = mediaCalendar
	if err := notify.WriteCalendar(&x.out, "", name, meetings...); err != nil {
		return err
	}
	digest := sha256.Sum256(x.out.Bytes())
	tag := `"` + base64.RawURLEncoding.EncodeToString(digest[:16]) + `"`
	modified := s.feeds.modified(x.r.URL.Path, tag, x.now())
	x.header("Etag", tag)
	x.header("Last-Modified", modified.Format(http.TimeFormat))
	if x.r.Header["If-None-Match"] != nil { // which goes before the date, and is looked at later
		return nil
	}
	if since, err := http.ParseTime(x.r.Header.Get("If-Modified-Since")); err == nil && !modified.After(since) {
		x.status = http.StatusNotModified
		x.out.Reset()
	}
	return nil
}

func (x *exchange) meeting(b *projections.BookingList, summary string) notify.Meeting {
	m := notify.Meeting{
		Booking: b.Booking, Room: b.Room, User: b.User, Slot: domain.Slot{Start: b.Start, End: b.End}, Stamp: b.BookedAt, Status: notify.Tentative, Summary: summary,
		URL: x.base + "/bookingLists/" + string(b.Booking),
	}
	if b.ConfirmStatus == domain.Confirmed {
		m.Status = notify.Confirmed
	}
	if b.ConfirmedAt.After(m.Stamp) {
		m.Stamp = b.ConfirmedAt
	}
	return m
}

// feedTags know since when feeds are as they are. What a list has of a booking does not tell when it was moved out of a feed, so that is
// since when this server has known. Goroutines may share it.
type feedTags struct {
	*lru.Cache[string, feedTag]
}

type feedTag struct {
	tag   string
	since time.Time
}

func newFeedTags() feedTags {
	cache, err := lru.New[string, feedTag](maxFeedTags)
	if err != nil {
		panic(err) // the size is a constant
	}
	return feedTags{cache}
}

// modified is when a feed became what it is, in whole seconds: never before that, so that nobody is told of no change when there was one.
func (f feedTags) modified(feed, tag string, now time.Time) time.Time {
	known, ok := f.Get(feed)
	if !ok || known.tag != tag {
		known = feedTag{tag, now.Truncate(time.Second).Add(time.Second)}
		f.Add(feed, known)
	}
	return known.since
}
