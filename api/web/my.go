package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) myRoutes() []Route {
	return []Route{
		// The reader's bookings, as a list or as a calendar.
		{"GET", "/my", false, p.my},
	}
}

// myPage is the data of the reader's bookings.
type myPage struct {
	First                   bool // page of the list, which has what is not over, too
	Waiting, Upcoming, Past []projections.BookingList
	More                    string   // the cursor of older ones
	Month                   *myMonth // instead of all others; nil for the list
}

func (p *Pages) my(v *view) error {
	if v.Reader == "" {
		return v.redirect("/settings?back=/my")
	}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	q := v.r.URL.Query()
	if q.Get("view") == "calendar" {
		month, err := v.readMonth(q.Get("month"))
		if err != nil {
			return err
		}
		return v.show("my", v.T("title.my")+" · "+v.Month(month.First), &myPage{Month: month})
	}
	cursor := q.Get("cursor")
	data := &myPage{First: cursor == ""}
	if data.First {
		q := projections.Query{
			User: v.Reader, From: v.Now, Size: projections.MaxSize, MinPosition: v.seen(),
			Statuses: []string{string(projections.StatusBooked), string(projections.StatusConfirmed), string(projections.StatusInUse)},
		}
		page, err := p.lists.BookingLists(v.r.Context(), q)
		if err != nil {
			return err
		}
		for _, b := range page.Items {
			if b.Status == projections.StatusBooked {
				data.Waiting = append(data.Waiting, b)
			} else {
				data.Upcoming = append(data.Upcoming, b)
			}
		}
	}
	page, err := p.lists.BookingLists(v.r.Context(), projections.Query{
		User: v.Reader, Statuses: []string{projections.StatusAll}, Sort: "useStartDtm", Descending: true, Size: 50, Cursor: cursor, MinPosition: v.seen(),
	})
	if err != nil {
		return err
	}
	for _, b := range page.Items {
		over := b.Status == projections.StatusEnded || b.Status == projections.StatusCancelled
		if over || !b.End.After(v.Now) {
			data.Past = append(data.Past, b)
		}
	}
	data.More = page.Next
	return v.show("my", v.T("title.my"), data)
}

// Fate explains the state of a booking in words: who denied it and why, or why it was cancelled. It is empty if there is nothing to explain.
func (v *view) Fate(b projections.BookingList) string {
	switch {
	case b.Status == projections.StatusCancelled && b.ConfirmStatus == domain.Denied:
		text := v.T("history.denied", "who", v.Person(b.ConfirmUser))
		if b.ConfirmReason != "" {
			text += ": " + b.ConfirmReason
		}
		return text
	case b.Status == projections.StatusCancelled:
		return v.T("history.cancelled", "why", v.T("reason."+string(b.CancelReason)))
	case b.Status != projections.StatusEnded && !b.End.After(v.Now) && b.Status != projections.StatusInUse:
		return v.T("fate.not-used")
	case b.Status == projections.StatusConfirmed:
		return v.T("history.confirmed", "who", v.Person(b.ConfirmUser))
	}
	return ""
}

// Open reports whether a booking of a list can still be used or changed.
func (v *view) Open(b projections.BookingList) bool {
	return b.Status == projections.StatusInUse || (b.Status == projections.StatusBooked || b.Status == projections.StatusConfirmed) && b.End.After(v.Now)
}

// Startable reports whether it is time to start the use of a booking of a list.
func (v *view) Startable(b projections.BookingList) bool {
	return v.mayStart(v.Slot(b.Start, b.End), b.Room)
}

// Slot is the time of a booking of a list.
func (v *view) Slot(start, end time.Time) domain.Slot { return domain.Slot{Start: start, End: end} }

var errNoName = errors.New("a name cannot be the id of a user")

// safeBack reports whether a path is one of this server, as browsers read it.
func safeBack(path string) bool {
	odd := func(r rune) bool { return r <= ' ' || r == '\\' }
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.ContainsFunc(path, odd)
}

// back is the path to which a form leads back.
func (v *view) back() string {
	back := v.r.PostFormValue("back")
	if !safeBack(back) {
		back = "/"
	}
	return back
}

// settingsPage is the data of the settings.
type settingsPage struct {
	Back    string
	Name    string
	Problem *problem
}

func (p *Pages) settings(v *view) error {
	return v.show("settings", v.T("title.settings"), &settingsPage{Back: v.r.URL.Query().Get("back"), Name: string(v.Reader)})
}

// changeSettings stores the reader's name, language or clock in cookies, and goes back to where the form was.
func (p *Pages) changeSettings(v *view) error {
	back := v.back()
	if chosen := Language(v.r.PostFormValue("language")); catalogues[chosen] != nil {
		v.remember(cookieLanguage, string(chosen), aYear)
	}
	switch hours := v.r.PostFormValue("hours"); hours {
	case "12", "24":
		v.remember(cookieHours, hours, aYear)
	case "usual":
		v.remember(cookieHours, "", -1)
	}
	if _, given := v.r.PostForm["name"]; given {
		name := strings.TrimSpace(v.r.PostFormValue("name"))
		switch {
		case name == "":
			v.remember(cookieName, "", -1)
		case !validID(name):
			why := v.problemOf(errNoName)
			v.status = http.StatusUnprocessableEntity
			return v.show("settings", v.T("title.settings"), &settingsPage{back, name, &why})
		default:
			v.remember(cookieName, name, aYear)
		}
	}
	return v.redirect(back)
}
