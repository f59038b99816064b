package web

import (
	"errors"
	"net/http"
	"slices"

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
	}
}

// approvalsPage is the data of the approvals.
type approvalsPage struct {
	Items   []approval
	Others  int  // that somebody else decides
	All     bool // whether those are shown too
	More    bool // whether more are waiting than are shown
	Reason  string
	Problem *problem
	Chosen  map[domain.BookingID]bool
}

// approval is a booking that waits for an answer, and what else is in its room that day.
type approval struct {
	Booking projections.BookingList
	Day     []neighbour
}

// neighbour is what else takes a room on the day of a booking.
type neighbour struct {
	Text  string
	Class string
	Self  bool
}

// maxApprovals is how many bookings are shown at a time.
const maxApprovals = 50

func (p *Pages) approvals(v *view) error {
	return v.showApprovals(&approvalsPage{})
}

func (v *view) showApprovals(data *approvalsPage) error {
	rooms, err := v.readRooms()
	if err != nil {
		return err
	}
	data.All = v.r.URL.Query().Get("all") == "true"
	page, err := v.p.lists.BookingLists(v.r.Context(), projections.Query{
		Answers: []domain.Answer{domain.AnswerPending}, Sort: "bookingDtm", Size: projections.MaxSize, MinPosition: v.seen(),
	})
	if err != nil {
		return err
	}
	data.More = page.Next != ""
	for _, b := range page.Items {
		switch {
		case !v.decides(rooms[b.Room]) && !data.All:
			data.Others++
		case len(data.Items) == maxApprovals:
			data.More = true
		default:
			a := approval{Booking: b}
			if a.Day, err = v.neighbours(&b); err != nil {
				return err
			}
			data.Items = append(data.Items, a)
		}
	}
	return v.show("approvals", v.T("title.approvals"), data)
}

// decides reports whether the reader is asked about bookings of a room: as one of its approvers, or because it has none.
func (v *view) decides(r *projections.RoomList) bool {
	return r == nil || len(r.Approvers) == 0 || slices.Contains(r.Approvers, v.Reader)
}

// neighbours is what takes the room of a booking on its day, the booking included.
func (v *view) neighbours(b *projections.BookingList) ([]neighbour, error) {
	day := dayFrom(b.Start.In(v.zoneOf(b.Room)))
	o, err := v.p.lists.Occupancy(v.r.Context(), projections.OccupancyQuery{From: day.Start, To: day.End, Rooms: []domain.RoomID{b.Room}, MinPosition: v.seen()})
	if err != nil {
		return nil, err
	}
	var all []neighbour
	for _, r := range o.Rooms {
		for _, s := range r.Spans {
			slot := domain.Slot{Start: s.Slot.Start.In(r.Zone), End: s.Slot.End.In(r.Zone)}
			switch s.Kind {
			case projections.SpanBooking:
				all = append(all, neighbour{v.Span(slot) + " " + v.Booker(s.Booking.User), StateClass(s.Booking.Status), s.Booking.Booking == b.Booking})
			case projections.SpanClosed:
				all = append(all, neighbour{v.Span(slot) + " " + v.T("cell.closed"), "closed", false})
			}
		}
	}
	return all, nil
}

var errNobodyChosen = errors.New("no booking was chosen")

// answerApprovals answers the booking of the button that was pressed, or all that were chosen. Each is answered by itself: what cannot be is said.
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
