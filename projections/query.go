package projections

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"roombook/domain"
	"roombook/eventstore"
)

// Page sizes of a [Query].
const (
	DefaultSize = 20
	MaxSize     = 200
)

// MaxTotal is the most documents that are counted for a [Page].
const MaxTotal = 10_000

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
	// Answers, in place of Statuses, leaves only bookings that are live, or were denied, with one of these answers of the administrator. Only
	// the booking list has them.
	Answers []domain.Answer
	// Used leaves only bookings that have a real use, by default of every status. Only the room-use list has them.
	Used bool
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
	// Total asks for the number of documents on all pages, counted up to MaxTotal.
	Total bool

	// MinPosition makes the query wait until the list has this position: read your writes. 0 does not wait.
	MinPosition eventstore.Position
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	Next  string // the cursor of the next page; empty on the last one
	Total *int64 // if it was asked for; MaxTotal if there are as many or more
	// More reports that there are more than Total.
	More bool
	// Position is that of the list when it was read: every event up to there is in it.
	Position eventstore.Position
}

const (
	// DefaultReadWait is how long a query waits for a list that is behind.
	DefaultReadWait = 2 * time.Second
	// DefaultBudget is how long a wide query may take.
	DefaultBudget = time.Second
)

// QueryOptions say how lists are read.
type QueryOptions struct {
	// ReadWait is how long a query with a MinPosition waits for it; 0 is DefaultReadWait.
	ReadWait time.Duration
	// Budget bounds a wide query: one that no index has in its order, and that concerns more than 10,000 documents by each of its
	// filters, so that there is no saying how many it reads. It waits for so long until it is its turn, and may then take as long; 0 is
	// DefaultBudget.
	Budget time.Duration
	// Wide is the most wide queries that are answered at a time, so that all others have the store to themselves; 0 is half the
	// processors.
	Wide int
	// Positions are those of the workers in this process, whose writes then wake waiting queries at once. Without it, and for
	// what other processes write, the store is asked again and again while queries wait.
	Positions *Positions
	// Log is asked whether it has an event at a MinPosition that a list does not reach. Without it such a query waits for nothing.
	Log Points
}

// Queries answers questions from the lists. Its methods may be called from any goroutine. They return
//
//   - *InvalidQuery for a query that the list cannot answer,
//   - ErrBehind when the list did not reach MinPosition in time,
//   - ErrNoSuchPosition when the log has no event at MinPosition,
//   - ErrNotFound when a document asked for by its id is not there,
//   - ErrTooWide when a wide query had no turn, or took more than its time,
//   - ErrUnavailable when the read store fails or the list has not been built yet,
//   - the context's error when it ends.
type Queries struct {
	store         Store
	readWait      time.Duration
	positions     *Positions
	log           Points
	budget        time.Duration
	wide          chan struct{} // has a token for each wide query that is answered
	bookingList   reader[BookingList]
	roomUseList   reader[RoomUseList]
	notifications reader[Notification]
}

// NewQueries makes the query side of a store.
func NewQueries(store Store, o QueryOptions) *Queries {
	if o.ReadWait == 0 {
		o.ReadWait = DefaultReadWait
	}
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.Wide == 0 {
		o.Wide = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.Positions == nil {
		o.Positions = NewPositions()
	}
	q := &Queries{store: store, readWait: o.ReadWait, positions: o.Positions, log: o.Log, budget: o.Budget, wide: make(chan struct{}, o.Wide)}
	q.bookingList = newReader(q, bookingList())
	q.roomUseList = newReader(q, roomUseList())
	q.notifications = newReader(q, notifications())
	return q
}

// Ready reports whether questions are answered: whether each list has been built and can be read. Its error is that of a query, and
// names the list.
func (q *Queries) Ready(ctx context.Context) error {
	for _, p := range All() {
		if _, err := q.store.Find(ctx, p.Name, p.Schema, Selection{Limit: 1}); err != nil {
			return fmt.Errorf("%s: %w", p.Name, cause(ctx, err))
		}
	}
	return nil
}

// BookingLists is a page of the booking list. Sort is one of useStartDtm (the default), bookingDtm (the order in which the
// bookings were made), roomId, bookingUserId and status (these three: then useStartDtm).
func (q *Queries) BookingLists(ctx context.Context, query Query) (Page[BookingList], error) {
	return q.bookingList.page(ctx, query)
}

// BookingList is one document of the booking list, cancelled or not, once the list has the position min; 0 does not wait.
func (q *Queries) BookingList(ctx context.Context, id domain.BookingID, min eventstore.Position) (BookingList, error) {
	return q.bookingList.document(ctx, string(id), min)
}

// RoomUseLists is a page of the room-use list. Sort is one of bookedUseStartDtm (the default), bookingDtm (the order in which
// the bookings were made), roomId, bookingUserId and status (these three: then bookedUseStartDtm).
func (q *Queries) RoomUseLists(ctx context.Context, query Query) (Page[RoomUseList], error) {
	return q.roomUseList.page(ctx, query)
}

// RoomUseList is one document of the room-use list, cancelled or not, once the list has the position min; 0 does not wait.
func (q *Queries) RoomUseList(ctx context.Context, id domain.BookingID, min eventstore.Position) (RoomUseList, error) {
	return q.roomUseList.document(ctx, string(id), min)
}

// Notifications is a page of the notifications. Sort is one of sendDtm (the default) and userId (then sendDtm).
func (q *Queries) Notifications(ctx context.Context, query Query) (Page[Notification], error) {
	return q.notifications.page(ctx, query)
}

// Notification is one notification, once the list has the position min; 0 does not wait.
func (q *Queries) Notification(ctx context.Context, id domain.NotificationID, min eventstore.Position) (Notification, error) {
	return q.notifications.document(ctx, string(id), min)
}

// reader reads documents of one projection.
type reader[D comparable] struct {
	queries *Queries
	list[D]
	schema Schema
}

func newReader[D comparable](q *Queries, l list[D]) reader[D] { return reader[D]{q, l, l.schema()} }

func (r reader[D]) page(ctx context.Context, query Query) (Page[D], error) {
	s, order, err := r.selection(query)
	if err != nil {
		return Page[D]{}, err
	}
	found, err := r.since(ctx, query.MinPosition, func() (Found, error) { return r.search(ctx, s, query.Total) })
	if err != nil {
		return Page[D]{}, err
	}

	page := Page[D]{Position: found.Position}
	if query.Total {
		page.More = found.Count > MaxTotal
		found.Count = min(found.Count, MaxTotal)
		page.Total = &found.Count
	}
	rows := found.Rows
	more := len(rows) > 0 && len(rows) == s.Limit
	if more {
		rows = rows[:len(rows)-1]
	}
	page.Items = make([]D, len(rows))
	for i, row := range rows {
		page.Items[i] = *row.Document.(*D)
	}
	if more {
		last := len(rows) - 1
		page.Next = cursor{
			List:       r.name,
			Sort:       order.name,
			Descending: s.Descending,
			Mark:       order.order.Mark(r.keys(r.schema, &page.Items[last]), rows[last].Created),
		}.String()
	}
	return page, nil
}

// search finds a page by the path that leads to the fewest documents, and counts all pages if that is asked for.
func (r reader[D]) search(ctx context.Context, s Selection, total bool) (Found, error) {
	if s.ID != "" {
		if total {
			s.Count = MaxTotal + 1
		}
		return r.look(ctx, s)
	}
	w := r.way(s)
	find := r.look
	narrowed, err := w.narrowed(ctx, s, few, find)
	if err != nil {
		return Found{}, err
	}
	if narrowed {
		w.wide = false
	}
	if w.wide {
		leave, err := r.queries.enter(ctx)
		if err != nil {
			return Found{}, err
		}
		defer leave()
		within, cancel := context.WithTimeoutCause(ctx, r.queries.budget, ErrTooWide)
		defer cancel()
		find = func(_ context.Context, s Selection) (Found, error) {
			found, err := r.queries.store.Find(within, r.name, r.schema, s)
			if err != nil && ctx.Err() == nil && context.Cause(within) == ErrTooWide {
				return Found{}, ErrTooWide
			}
			if err != nil {
				return Found{}, cause(ctx, err)
			}
			return found, nil
		}
		if _, err := w.narrowed(ctx, s, MaxSorted, find); err != nil {
			return Found{}, err
		}
	}
	s.Path = &w.path
	found, err := find(ctx, s)
	if err != nil || !total {
		return found, err
	}
	s.Path, s.Limit, s.Count = &w.count, 0, MaxTotal+1
	counted, err := find(ctx, s)
	found.Count = counted.Count
	return found, err
}

// narrowed takes the first path that leads to no more than so many documents, if there is one.
func (w *way) narrowed(ctx context.Context, s Selection, most int64, find func(context.Context, Selection) (Found, error)) (bool, error) {
	for _, path := range w.narrow {
		found, err := find(ctx, s.probe(path, most))
		if err != nil {
			return false, err
		}
		if found.Count <= most {
			w.path, w.count = path, path
			return true, nil
		}
	}
	return false, nil
}

// enter waits for the turn of a wide query, which it is until leave is called.
func (q *Queries) enter(ctx context.Context) (leave func(), err error) {
	patience := time.NewTimer(q.budget)
	defer patience.Stop()
	select {
	case q.wide <- struct{}{}:
		return func() { <-q.wide }, nil
	case <-patience.C:
		return nil, ErrTooWide
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// selection translates a query, and finds its order. It asks for one document more than the page has, to know whether there
// is a next page.
func (l list[D]) selection(q Query) (s Selection, order ordering, err error) {
	s = Selection{Room: string(q.Room), User: string(q.User), Descending: q.Descending, Limit: q.Size + 1}
	if l.aBooking {
		s.ID = string(q.Booking)
	} else {
		s.Booking = string(q.Booking)
	}
	if q.Size == 0 {
		s.Limit = DefaultSize + 1
	}
	if q.Size < 0 || q.Size > MaxSize {
		return s, order, &InvalidQuery{ParameterSize, fmt.Sprintf("must be between 1 and %d", MaxSize)}
	}
	if s.Statuses, err = l.statuses.choose(q); err != nil {
		return s, order, err
	}
	if !q.From.IsZero() {
		from := q.From.UnixMicro()
		s.From = &from
	}
	if !q.To.IsZero() {
		to := q.To.UnixMicro()
		s.To = &to
	}

	var ok bool
	if order, ok = l.ordering(q.Sort); !ok {
		return s, order, &InvalidQuery{ParameterSort, "must be one of " + strings.Join(l.sortNames(), ", ")}
	}
	s.Order = order.order
	if q.Cursor != "" {
		c, ok := parseCursor(q.Cursor)
		if !ok {
			return s, order, &InvalidQuery{ParameterCursor, "is not one that a page of this list gave"}
		}
		if c.List != l.name || c.Sort != order.name || c.Descending != q.Descending {
			return s, order, &InvalidQuery{ParameterCursor, "belongs to another list, or to another order of this one"}
		}
		s.After = &c.Mark
	}
	return s.fixed(), order, nil
}

func (l list[D]) ordering(name string) (ordering, bool) {
	if name == "" {
		return l.sorts[0], true
	}
	i := slices.IndexFunc(l.sorts, func(o ordering) bool { return o.name == name })
	if i < 0 {
		return ordering{}, false
	}
	return l.sorts[i], true
}

func (l list[D]) sortNames() []string {
	names := make([]string, len(l.sorts))
	for i, o := range l.sorts {
		names[i] = o.name
	}
	return names
}

func (r reader[D]) document(ctx context.Context, id string, min eventstore.Position) (D, error) {
	var zero D
	found, err := r.since(ctx, min, func() (Found, error) { return r.look(ctx, Selection{ID: id, Limit: 1}) })
	if err != nil {
		return zero, err
	}
	if len(found.Rows) == 0 {
		return zero, ErrNotFound
	}
	return *found.Rows[0].Document.(*D), nil
}

// findTime bounds a look into the read store, whatever its server does, so that the caller is told before its own time is over.
const findTime = 5 * time.Second

// since looks once the list has a position. A list that is behind what was known of it has been made anew, from another log and by
// another process: what was known does not count any more.
func (r reader[D]) since(ctx context.Context, min eventstore.Position, look func() (Found, error)) (Found, error) {
	for {
		if min > 0 {
			if err := r.queries.await(ctx, r.name, min); err != nil {
				return Found{}, err
			}
		}
		found, err := look()
		if err != nil || found.Position >= min {
			return found, err
		}
		r.queries.positions.begin(r.name, found.Position)
	}
}

// look looks into the read store for something that is soon found.
func (r reader[D]) look(ctx context.Context, s Selection) (Found, error) {
	looking, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	found, err := r.queries.store.Find(looking, r.name, r.schema, s)
	if err != nil {
		return Found{}, cause(ctx, err)
	}
	return found, nil
}

// await waits until the active generation of a projection has a position. Of those who wait for the same list one asks the store again
// and again, for what other processes write.
func (q *Queries) await(ctx context.Context, projection string, position eventstore.Position) error {
	if q.positions.reached(projection, position) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, q.readWait)
	defer cancel()
	at, err := q.at(waiting, projection)
	switch {
	case err == nil && at >= position:
		return nil
	case err != nil && !over(waiting, err):
		return unavailable(err)
	}

	w := q.positions.wait(projection, position)
	defer q.positions.leave(w)
	pauses := backoff.ExponentialBackOff{InitialInterval: 2 * time.Millisecond, Multiplier: 2, MaxInterval: 100 * time.Millisecond}
	var (
		ask   = time.NewTimer(time.Hour)
		turn  = w.list.turn
		asked chan struct{}
		lost  = q.lost(waiting, position)
	)
	defer ask.Stop()
	for {
		select {
		case <-w.there:
			return nil
		case turn <- struct{}{}:
			defer func() { <-w.list.turn }()
			turn, asked = nil, w.list.asked
			ask.Reset(pauses.NextBackOff())
		case <-asked: // somebody came, who has not seen what this one has
			pauses.Reset()
			ask.Reset(pauses.NextBackOff())
		case <-ask.C:
			at, err := q.at(waiting, projection)
			if err != nil && !over(waiting, err) {
				return unavailable(err)
			}
			q.positions.found(projection, at)
			ask.Reset(pauses.NextBackOff())
		case <-lost:
			return ErrNoSuchPosition
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrBehind
		}
	}
}

// over reports whether a look failed because its time is over, or is about to be: MongoDB's driver does not send what it expects to be
// answered too late.
func over(ctx context.Context, err error) bool {
	deadline, _ := ctx.Deadline()
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) && time.Until(deadline) < doubt
}

// at is the position of the active generation of a projection, 0 without one.
func (q *Queries) at(ctx context.Context, projection string) (eventstore.Position, error) {
	state, err := q.store.State(ctx, projection)
	g, _ := state.Generation(state.Active)
	return g.Position, err
}

// doubt is how long a list may be behind a position before it is asked whether there is an event at all.
const doubt = 10 * time.Millisecond

// lost is closed when it turns out that the log has no event at a position, so that no list will ever be said to have it. The log
// itself knows: a list, or a member of a cluster, may only be behind.
func (q *Queries) lost(ctx context.Context, position eventstore.Position) <-chan struct{} {
	lost := make(chan struct{})
	if q.log == nil {
		return lost
	}
	go func() {
		if sleep(ctx, doubt) != nil {
			return
		}
		if _, found, err := q.log.EventAt(ctx, position); err == nil && !found {
			close(lost)
		}
	}()
	return lost
}

// cause is the error of a failed look: the context's if it ended.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err)
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
