package web

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

func (p *Pages) approvalRoutes() []Route {
	return []Route{
		// The bookings that wait for an answer.
		{"GET", "/approvals", false, p.approvals},
		// Answers some of them.
		{"POST", "/approvals", false, p.answerApprovals},
		// What became of a booking that was waiting, in a sentence for the script of the approvals.
		{"GET", "/bookings/{id}/answer", false, p.answerOf},
	}
}

// approvalsPage is the data of the approvals.
type approvalsPage struct {
	Items   []approval
	Others  int  // that somebody else decides
	All     bool // whether those are shown too
	More    bool // whether more are waiting than are shown
	Can     bool // whether the reader may answer any of them
	Reason  string
	Problem *problem
	Chosen  map[domain.BookingID]bool
}

// approval is a booking that waits for an answer, and what else is in its room that day.
type approval struct {
	Booking projections.BookingList
	Day     roomDay
	Can     bool // whether the reader may answer it
}

// maxApprovals is how many bookings are shown at a time.
const maxApprovals = 50

func (p *Pages) approvals(v *view) error {
	return v.showApprovals(&approvalsPage{Reason: v.r.URL.Query().Get("reason")})
}

func (v *view) showApprovals(data *approvalsPage) error {
	if _, err := v.readRooms(); err != nil {
		return err
	}
	data.All = v.r.URL.Query().Get("all") == "true"
	page, err := v.p.lists.BookingLists(v.r.Context(), projections.Query{
		Answers: []domain.Answer{domain.AnswerPending}, Sort: "bookingDtm", Size: projections.MaxSize, MinPosition: v.seen(),
	})
	if err != nil {
		return err
	}
	v.Position = min(v.roomsAt, page.Position)
	data.More = page.Next != ""
	for _, b := range page.Items {
		switch {
		case !v.decides(b.Room) && !data.All:
			data.Others++
		case len(data.Items) == maxApprovals:
			data.More = true
		default:
			a := approval{Booking: b, Can: v.may(domain.AnswerBooked, "", b.Room)}
			day := dayFrom(b.Start.In(v.zoneOf(b.Room)))
			o, err := v.p.lists.Occupancy(v.r.Context(), projections.OccupancyQuery{From: day.Start, To: day.End, Rooms: []domain.RoomID{b.Room}, MinPosition: v.seen()})
			if err != nil {
				return err
			}
			data.Can = data.Can || a.Can
			a.Day = v.roomDay(day, o)
			data.Items = append(data.Items, a)
		}
	}
	return v.show("approvals", v.T("title.approvals"), data)
}

// decides reports whether bookings of a room wait for the reader: as one of its approvers, or because it names none.
func (v *view) decides(room domain.RoomID) bool {
	reader := v.actor
	reader.User = v.Reader
	r := v.rooms[room]
	return v.may(domain.AnswerBooked, "", room) && (r == nil || len(r.Approvers) == 0 || reader.To("", room, r.Approvers...) == domain.OfOwnRoom)
}

// The reasons that are offered for a denial are the last ones that were given.
const (
	offeredReasons = 5
	readDenials    = 50
)

// Reasons are the most recent reasons of denials, each once.
func (v *view) Reasons() ([]string, error) {
	page, err := v.p.lists.BookingLists(v.r.Context(), projections.Query{Answers: []domain.Answer{domain.Denied}, Sort: "bookingDtm", Descending: true, Size: readDenials})
	if err != nil {
		return nil, err
	}
	var reasons []string
	for _, b := range page.Items {
		if len(reasons) < offeredReasons && b.ConfirmReason != "" && !slices.Contains(reasons, b.ConfirmReason) {
			reasons = append(reasons, b.ConfirmReason)
		}
	}
	return reasons, nil
}

// answerOf replies with what became of a booking, in words; without content while it is still waiting for the reader.
func (p *Pages) answerOf(v *view) error {
	if _, err := v.readRooms(); err != nil {
		return err
	}
	id := v.r.PathValue("id")
	if !validID(id) {
		return domain.ErrBookingNotFound
	}
	position, _ := strconv.ParseUint(v.r.URL.Query().Get("position"), 10, 64) // without one, as far as is known
	b, err := p.lists.BookingList(v.r.Context(), domain.BookingID(id), eventstore.Position(position))
	if err != nil {
		return err
	}
	v.w.Header().Set("Cache-Control", "no-store")
	if b.ConfirmStatus == domain.AnswerPending && b.Status == projections.StatusBooked && v.decides(b.Room) {
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return v.send("text/plain; charset=utf-8", []byte(v.Fate(b)))
}

var errNobodyChosen = errors.New("no booking was chosen")

// answerApprovals answers the booking whose button was pressed, or all that were selected. Each is a command of its own; those that fail are named.
func (p *Pages) answerApprovals(v *view) error {
	form := v.r.PostForm
	answer, which := domain.Confirmed, form.Get("confirm")
	if form.Has("deny") {
		answer, which = domain.Denied, form.Get("deny")
	}
	ids := form["booking"]
	if which != "chosen" {
		ids = []string{which}
	}
	reason := form.Get("reason")
	data := &approvalsPage{Reason: reason, Chosen: map[domain.BookingID]bool{}}
	for _, id := range ids {
		data.Chosen[domain.BookingID(id)] = true
	}
	refuse := func(err error) error {
		why := v.problemOf(err)
		v.status, data.Problem = why.status, &why
		return v.showApprovals(data)
	}
	switch {
	case len(ids) == 0:
		return refuse(errNobodyChosen)
	case answer == domain.Denied && reason == "":
		return refuse(errNoReason)
	case len(ids) > maxApprovals:
		return errForm
	}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	last, done := eventstore.Position(0), ""
	for _, id := range ids {
		if !validID(id) {
			return errForm
		}
		request, err := v.request()
		if err != nil {
			return err
		}
		e, err := v.answer(request, domain.BookingID(id), answer, reason)
		if err == nil {
			last, done = max(last, e.position), e.text
			delete(data.Chosen, domain.BookingID(id))
			continue
		}
		why := v.problemOf(err)
		if why.status == http.StatusInternalServerError || why.status == http.StatusServiceUnavailable {
			return err
		}
		if data.Problem == nil {
			data.Problem = &problem{status: why.status}
		}
		data.Problem.Sentences = append(data.Problem.Sentences, why.Sentences...)
	}
	if data.Problem != nil {
		v.status = data.Problem.status
		return v.showApprovals(data)
	}
	return v.done(last, "/approvals", done)
}
