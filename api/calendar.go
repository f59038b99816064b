package api

import (
	"cmp"
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
		{method: "GET", path: "/rooms/{id}/calendar.ics", handle: s.roomCalendar, raw: true, feed: true},
		// A user's bookings for calendar programs.
		{method: "GET", path: "/users/{id}/calendar.ics", handle: s.userCalendar, raw: true, feed: true},
		// A booking, to add to a calendar.
		{method: "GET", path: "/bookings/{id}/calendar.ics", handle: s.bookingCalendar, raw: true},
	}
}

// Limits of a feed.
const (
	feedPast    = 30 * 24 * time.Hour
	maxFeed     = 2000
	maxFeedTags = 4096 // feeds whose Last-Modified is remembered
)

const mediaCalendar = "text/calendar; charset=utf-8"

func (s *Server) roomCalendar(x *exchange) error {
	room := domain.RoomID(x.vars["id"])
	return s.calendar(x, func() string { return x.nameOf(room) }, projections.Query{Room: room}, func(b *projections.BookingList) string { return x.person(b.User) })
}

func (s *Server) bookingCalendar(x *exchange) error {
	booking := domain.BookingID(x.vars["id"])
	return s.calendar(x, func() string { return "Roombook" }, projections.Query{Booking: booking}, func(b *projections.BookingList) string { return x.nameOf(b.Room) })
}

func (s *Server) userCalendar(x *exchange) error {
	user := domain.UserID(x.vars["id"])
	name := func() string { return "Rooms of " + x.person(user) }
	return s.calendar(x, name, projections.Query{User: user}, func(b *projections.BookingList) string { return x.nameOf(b.Room) })
}

// nameOf is the name of a room or, if it has none, a description by its id.
func (x *exchange) nameOf(room domain.RoomID) string {
	return cmp.Or(x.roomName(room), "Room "+string(room))
}

// calendar replies with the bookings that match a query in iCalendar. Its name and the summaries may name rooms. Unless the query names a
// booking, those of long ago are left out.
func (s *Server) calendar(x *exchange, name func() string, q projections.Query, summary func(*projections.BookingList) string) error {
	if !validID(x.vars["id"]) {
		return errNoSuchPath
	}
	if err := x.nameRooms(0); err != nil {
		return err
	}
	q.Statuses = append(liveStatuses(), string(projections.StatusEnded))
	q.Size = projections.MaxSize
	if q.Booking == "" {
		q.From = x.now().Truncate(24 * time.Hour).Add(-feedPast)
	}
	var meetings []notify.Meeting
	for len(meetings) < maxFeed {
		page, err := s.lists.BookingLists(x.ctx, q)
		if _, ok := errors.AsType[*projections.InvalidQuery](err); ok && q.Cursor != "" {
			return projections.ErrUnavailable // the list has been rebuilt meanwhile
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
	if q.Booking != "" && len(meetings) == 0 {
		return domain.ErrBookingNotFound
	}
	x.mediaType = mediaCalendar
	if err := notify.WriteCalendar(&x.out, "", name(), meetings...); err != nil {
		return err
	}
	digest := sha256.Sum256(x.out.Bytes())
	tag := `"` + base64.RawURLEncoding.EncodeToString(digest[:16]) + `"`
	modified, complete := s.feeds.modified(x.r.URL.Path, tag, x.now())
	x.header("Etag", tag)
	x.header("Last-Modified", modified.Format(http.TimeFormat))
	if x.r.Header["If-None-Match"] != nil { // takes precedence, and is checked later
		return nil
	}
	if since, err := http.ParseTime(x.r.Header.Get("If-Modified-Since")); err == nil && !complete.After(since) {
		x.status = http.StatusNotModified
		x.out.Reset()
	}
	return nil
}

func (x *exchange) meeting(b *projections.BookingList, summary string) notify.Meeting {
	m := notify.Meeting{
		Booking: b.Booking, Room: b.Room, User: b.User, Slot: domain.Slot{Start: b.Start, End: b.End}, Sequence: b.Changes, Stamp: b.ModifiedAt, Status: notify.Tentative, Summary: summary,
		URL: x.base + "/bookings/" + string(b.Booking) + "/page",
	}
	if b.ConfirmStatus == domain.Confirmed {
		m.Status = notify.Confirmed
	}
	if m.Stamp.IsZero() { // the list is of an older version, and is being rebuilt
		m.Stamp = b.BookedAt
	}
	return m
}

// feedTags remembers when this server first saw the current content of each feed. The list cannot tell, because it does not record when a
// booking was moved out of a feed. It is safe for concurrent use.
type feedTags struct {
	*lru.Cache[string, feedTag]
}

type feedTag struct {
	tag   string
	since time.Time // the second after the one in which it was first seen
}

func newFeedTags() feedTags {
	cache, err := lru.New[string, feedTag](maxFeedTags)
	if err != nil {
		panic(err) // the size is valid
	}
	return feedTags{cache}
}

// modified returns the Last-Modified time of a feed, in whole seconds and never later than now. A client whose copy is from complete or later
// has the current content; one from modified itself may not, because the feed may have changed within that second.
func (f feedTags) modified(feed, tag string, now time.Time) (modified, complete time.Time) {
	known, ok := f.Get(feed)
	if !ok || known.tag != tag {
		known = feedTag{tag, now.Truncate(time.Second).Add(time.Second)}
		f.Add(feed, known)
	}
	if now = now.Truncate(time.Second); now.Before(known.since) {
		return now, known.since
	}
	return known.since, known.since
}
