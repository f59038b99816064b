package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// Lists are the read models; the contract is that of [projections.Queries].
type Lists interface {
	BookingLists(context.Context, projections.Query) (projections.Page[projections.BookingList], error)
	BookingList(context.Context, domain.BookingID, eventstore.Position) (projections.BookingList, error)
	RoomUseLists(context.Context, projections.Query) (projections.Page[projections.RoomUseList], error)
	RoomUseList(context.Context, domain.BookingID, eventstore.Position) (projections.RoomUseList, error)
	Notifications(context.Context, projections.Query) (projections.Page[projections.Notification], error)
	Notification(context.Context, domain.NotificationID, eventstore.Position) (projections.Notification, error)
	Rooms(context.Context, projections.RoomQuery) (projections.Page[projections.RoomList], error)
	// RoomNames returns the names of rooms, empty for a room that is not registered.
	RoomNames(context.Context, eventstore.Position) (func(domain.RoomID) string, error)
	// RoomApprovers returns the approvers that rooms name.
	RoomApprovers(context.Context) (func(domain.RoomID) []domain.UserID, error)
	Occupancy(context.Context, projections.OccupancyQuery) (projections.Occupancy, error)
	Availability(context.Context, projections.AvailabilityQuery) (projections.Availability, error)
}

// list is a list of the API: a read model, or a collection that is derived from one. T is an item of the read model, R its reply.
type list[T, R any] struct {
	server *Server
	// name is the relation of the items in _embedded, and link the page's link of that name.
	name string
	link func(*pageLinks) *link
	// sorts are the supported orders, the default one first.
	sorts []string
	// statuses are the values of the filter status.
	statuses []string
	// defaults are the statuses of a query without that filter; nil leaves them to the read model.
	defaults []string
	// used limits the list to bookings with a real use.
	used bool
	// byAnswer makes status filter by the administrator's answer.
	byAnswer bool
	// named makes replies name rooms by their names.
	named bool
	query func(context.Context, projections.Query) (projections.Page[T], error)
	// reply converts an item.
	reply func(*exchange, *T) R
	// replies recycles the memory of converted items, some 10 KB a page.
	replies sync.Pool // of *[]R
}

// pageReply is a page of a list.
type pageReply[R any] struct {
	Embedded object[[]R] `json:"_embedded"`
	Page     pageSize    `json:"page"`
	Links    pageLinks   `json:"_links"`
}

type pageSize struct {
	Size                      int    `json:"size"`
	TotalElements             *int64 `json:"totalElements,omitzero"`
	TotalElementsIsLowerBound bool   `json:"totalElementsIsLowerBound,omitzero"`
}

// pageLinks are the links of a page: to itself, to itself under the name of its list, and to the next page, if there is one.
type pageLinks struct {
	Self          link `json:"self"`
	Bookings      link `json:"bookings,omitzero"`
	Confirms      link `json:"confirms,omitzero"`
	Realuses      link `json:"realuses,omitzero"`
	BookingLists  link `json:"bookingLists,omitzero"`
	RoomUseLists  link `json:"roomUseLists,omitzero"`
	Notifications link `json:"notifications,omitzero"`
	Rooms         link `json:"rooms,omitzero"`
	Users         link `json:"users,omitzero"`
	Next          link `json:"next,omitzero"`
}

// listParams are the query parameters of all lists and collections.
type listParams struct {
	// Only what concerns this room.
	RoomID string `param:"roomId"`
	// Only what concerns this user.
	UserID string `param:"userId"`
	// Only what concerns this booking.
	BookingID string `param:"bookingId"`
	// Only items with this status; all for every item. Several are separated by commas.
	Status string `param:"status"`
	// Only what overlaps the time from here on (RFC 3339, the compact local forms, or a date alone, from its beginning).
	From string `param:"from"`
	// Only what overlaps the time before this (RFC 3339, the compact local forms, or a date alone, to its end).
	To string `param:"to"`
	// The order, and after a comma asc or desc: useStartDtm,desc. An entry that changes its place in the order between two pages, as by a
	// new status or user, may be on both or on neither; in the order of bookingDtm or sendDtm no entry ever changes its place.
	Sort string `param:"sort"`
	// The most items on the page.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
	// Whether to count the items of all pages (page.totalElements): true or false. They are counted up to 10,000; if there are more,
	// page.totalElementsIsLowerBound is true.
	Total string `param:"total"`
}

// parse converts the request's query.
func (l *list[T, R]) parse(x *exchange) (projections.Query, error) {
	q := projections.Query{Statuses: l.defaults, Used: l.used}
	err := x.listParams(&q.MinPosition, func(name, value string) (err error) {
		switch name {
		case "roomId":
			q.Room, err = parseID[domain.RoomID](value)
		case "userId":
			q.User, err = parseID[domain.UserID](value)
		case "bookingId":
			q.Booking, err = parseID[domain.BookingID](value)
		case "status":
			q.Statuses, err = l.parseStatuses(value)
		case "from":
			q.From, err = parseBound(value, l.server.zone, false)
		case "to":
			q.To, err = parseBound(value, l.server.zone, true)
		case "sort":
			q.Sort, q.Descending, err = parseSort(value, l.sorts)
		case "size":
			q.Size, err = parseSize(value)
		case "cursor":
			q.Cursor = value
		case "total":
			q.Total, err = parseBool(value)
		default:
			err = errUnknownParameter
		}
		return err
	})
	if l.byAnswer && !slices.Contains(q.Statuses, projections.StatusAll) {
		for _, status := range q.Statuses {
			q.Answers = append(q.Answers, domain.Answer(status))
		}
		q.Statuses = nil
	}
	return q, faultIf(err, !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To), "to", "must be after from")
}

func parseID[T ~string](value string) (T, error) {
	if !validID(value) {
		return "", errors.New("must be 1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'")
	}
	return T(value), nil
}

func (l *list[T, R]) parseStatuses(value string) ([]string, error) {
	if value == projections.StatusAll {
		return []string{projections.StatusAll}, nil
	}
	statuses := strings.Split(value, ",")
	for _, status := range statuses {
		if !slices.Contains(l.statuses, status) {
			return nil, fmt.Errorf("must be %s or %s, or some of them with commas between", strings.Join(l.statuses, ", "), projections.StatusAll)
		}
	}
	return statuses, nil
}

func parseSort(value string, sorts []string) (sort string, descending bool, err error) {
	sort, direction, given := strings.Cut(value, ",")
	if !slices.Contains(sorts, sort) || given && direction != "asc" && direction != "desc" {
		return "", false, fmt.Errorf("must be %s, and after it nothing, ,asc or ,desc", strings.Join(sorts, " or "))
	}
	return sort, direction == "desc", nil
}

func parseSize(value string) (int, error) {
	size, err := strconv.Atoi(value)
	if err != nil || size < 1 || size > projections.MaxSize {
		return 0, fmt.Errorf("must be a whole number from 1 to %d", projections.MaxSize)
	}
	return size, nil
}

// page replies with a page of the list.
func (l *list[T, R]) page(x *exchange) error {
	q, err := l.parse(x)
	if err != nil {
		return err
	}
	return l.answer(x, q)
}

// searchParams are the query parameters of the searches by booking.
type searchParams struct {
	// The booking to look for.
	BookingID string `param:"bookingId"`
}

// findByBookingID replies with the entries of a booking, whatever its status. It is the search that clients of the first version use.
func (l *list[T, R]) findByBookingID(x *exchange) error {
	q := projections.Query{Statuses: []string{projections.StatusAll}}
	err := x.params(func(name, value string) (err error) {
		if name != "bookingId" {
			return errUnknownParameter
		}
		q.Booking, err = parseID[domain.BookingID](value)
		return err
	})
	if err != nil {
		return err
	}
	if q.Booking == "" {
		return invalidParameter("bookingId", errors.New("must be given"))
	}
	if q.MinPosition, err = x.minPosition(); err != nil {
		return invalidParameter("Roombook-Position", err)
	}
	return l.answer(x, q)
}

func (l *list[T, R]) answer(x *exchange, q projections.Query) error {
	page, err := l.query(x.ctx, q)
	if err != nil {
		return asParameters(err)
	}
	if l.named {
		if err := x.nameRooms(q.MinPosition); err != nil {
			return err
		}
	}
	items, _ := l.replies.Get().(*[]R)
	if items == nil {
		items = new([]R)
	}
	defer l.replies.Put(items)
	*items = (*items)[:0]
	for i := range page.Items {
		*items = append(*items, l.reply(x, &page.Items[i]))
	}
	return replyPage(x, l.name, l.link, q.Size, &page, *items)
}

// replyPage replies with the items of a page of a list, which has a link of its own.
func replyPage[T, R any](x *exchange, name string, own func(*pageLinks) *link, size int, page *projections.Page[T], items []R) error {
	x.position(page.Position)
	r := pageReply[R]{Embedded: object[[]R]{{name, items}}}
	r.Page = pageSize{Size: cmp.Or(size, projections.DefaultSize), TotalElements: page.Total, TotalElementsIsLowerBound: page.Total != nil && page.More}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	*own(&r.Links) = r.Links.Self
	if page.Next != "" {
		r.Links.Next = x.linkHere(withCursor(x.r.URL.RawQuery, page.Next))
	}
	return x.reply(&r)
}

// nameRooms sets x.roomName. If the directory cannot be read rooms have no names, which is better than to show no list.
func (x *exchange) nameRooms(min eventstore.Position) (err error) {
	x.roomName, err = x.server.lists.RoomNames(x.ctx, min)
	if errors.Is(err, projections.ErrUnavailable) {
		x.roomName, err = func(domain.RoomID) string { return "" }, nil
	}
	return err
}

// withCursor returns the query of the next page: the same one with another cursor.
func withCursor(query, cursor string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); part != "" && name != "cursor" {
			b.WriteString(part)
			b.WriteByte('&')
		}
	}
	b.WriteString("cursor=")
	b.WriteString(url.QueryEscape(cursor))
	return b.String()
}

// linkHere returns a link to the request's own path with a raw query.
func (x *exchange) linkHere(query string) link {
	if query != "" {
		query = "?" + query
	}
	return x.link(x.r.URL.Path, query)
}

// bookingStatuses are the statuses of bookings in lists.
func bookingStatuses() []string {
	return stringsOf(projections.StatusBooked, projections.StatusConfirmed, projections.StatusInUse, projections.StatusEnded, projections.StatusCancelled)
}

// liveStatuses are the statuses of the bookings that GET /bookings/{id} finds.
func liveStatuses() []string {
	return stringsOf(projections.StatusBooked, projections.StatusConfirmed, projections.StatusInUse)
}

func stringsOf[T ~string](values ...T) []string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return s
}

// listEntry returns the handler of a single entry of a list, which is named as list.named says.
func listEntry[ID ~string, T, R any](named bool, find func(context.Context, ID, eventstore.Position) (T, error), reply func(*exchange, *T) R) handler {
	return func(x *exchange) error {
		min, err := x.minPosition()
		if err != nil {
			return invalidParameter("Roombook-Position", err)
		}
		id := x.vars["id"]
		if !validID(id) {
			return projections.ErrNotFound
		}
		found, err := find(x.ctx, ID(id), min)
		if err == nil && named {
			err = x.nameRooms(min)
		}
		if err != nil {
			return err
		}
		return x.reply(new(reply(x, &found)))
	}
}
