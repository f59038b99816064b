package projections

import (
	"context"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// Page sizes of a [Query].
const (
	DefaultSize = 20
	MaxSize     = 200
)

// Query asks for a page of a list. The zero value asks for the first page of everything that the list shows by default.
type Query struct {
	// Room, User and Booking leave only the documents of that room, user and booking; empty for any.
	Room    domain.RoomID
	User    domain.UserID
	Booking domain.BookingID
	// Statuses leaves only documents with one of these. They are values of [Status], for notifications of [Delivery];
	// [StatusAll] among them is all. None is the list's default: bookings and room uses that are not CANCELLED,
	// notifications of every delivery.
	Statuses []string
	// From and To leave only what overlaps [From, To): the booked slot, for notifications the time of sending. Zero is open.
	From, To time.Time

	// Sort names the order as callers know it: see [Queries.BookingLists] and the others. Empty is the list's default order.
	Sort       string
	Descending bool
	// Size is the most documents in the page, 1 to MaxSize; 0 is DefaultSize.
	Size int
	// Cursor is the Next of the page before this one, asked with the same Sort and Descending; empty for the first page. A
	// cursor says after which document the page begins, so that it stays good when documents come and go and when the list
	// is rebuilt.
	Cursor string
	// Total asks for the number of documents on all pages, which costs a scan.
	Total bool

	// MinPosition makes the query wait until the list has this position: read your writes. 0 does not wait.
	MinPosition eventstore.Position
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	Next  string // the cursor of the next page; empty on the last one
	Total *int64 // if it was asked for
	// Position is that of the list when it was read: every event up to there is in it.
	Position eventstore.Position
}

// Queries answers questions from the lists. Its methods may be called from any goroutine. They return
//
//   - *InvalidQuery for a query that the list cannot answer,
//   - ErrBehind when the list did not reach MinPosition in time,
//   - ErrNotFound when a document asked for by its id is not there,
//   - ErrUnavailable when the read store fails or the list has not been built yet,
//   - the context's error when it ends.
type Queries struct{}

// BookingLists is a page of the booking list. Sort is one of useStartDtm (the default), bookingDtm (the order in which the
// bookings were made), roomId, bookingUserId (both: then useStartDtm) and status (then useStartDtm).
func (q *Queries) BookingLists(ctx context.Context, query Query) (Page[BookingList], error) {
	return Page[BookingList]{}, ErrUnavailable
}

// BookingList is one document of the booking list, cancelled or not, once the list has the position min; 0 does not wait.
func (q *Queries) BookingList(ctx context.Context, id domain.BookingID, min eventstore.Position) (BookingList, error) {
	return BookingList{}, ErrUnavailable
}

// RoomUseLists is a page of the room-use list. Sort is one of bookedUseStartDtm (the default), bookingDtm (the order in which
// the bookings were made), roomId, bookingUserId and status (these three: then bookedUseStartDtm).
func (q *Queries) RoomUseLists(ctx context.Context, query Query) (Page[RoomUseList], error) {
	return Page[RoomUseList]{}, ErrUnavailable
}

// RoomUseList is one document of the room-use list, cancelled or not, once the list has the position min; 0 does not wait.
func (q *Queries) RoomUseList(ctx context.Context, id domain.BookingID, min eventstore.Position) (RoomUseList, error) {
	return RoomUseList{}, ErrUnavailable
}

// Notifications is a page of the notifications. Sort is one of sendDtm (the default: the order of the log) and userId (then
// sendDtm).
func (q *Queries) Notifications(ctx context.Context, query Query) (Page[Notification], error) {
	return Page[Notification]{}, ErrUnavailable
}

// Notification is one notification, once the list has the position min; 0 does not wait.
func (q *Queries) Notification(ctx context.Context, id NotificationID, min eventstore.Position) (Notification, error) {
	return Notification{}, ErrUnavailable
}
