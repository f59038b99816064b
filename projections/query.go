package projections

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
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

// MaxTotal is the maximum Total of a [Page].
const MaxTotal = 10_000

// Query asks for a page of a list. The zero value asks for the first page of what the list shows by default.
type Query struct {
	// Room, User and Booking select the documents of a room, user and booking; empty selects any.
	Room    domain.RoomID
	User    domain.UserID
	Booking domain.BookingID
	// Statuses selects documents with one of these statuses: values of [Status], for notifications of [Delivery], or [StatusAll].
	// None selects the list's default: all but CANCELLED bookings and room uses, and all notifications.
	Statuses []string
	// Answers, instead of Statuses, selects bookings with one of these answers of the administrator that are live or were denied. Only
	// the booking list supports it.
	Answers []domain.Answer
	// Used selects bookings that have a real use, by default in every status. Only the room-use list supports it.
	Used bool
	// From and To select what overlaps [From, To): booked slots, or the times at which notifications were sent. Zero leaves that side open.
	From, To time.Time

	// Sort names the order, see [Queries.BookingLists] and the others. Empty is the list's default order.
	Sort       string
	Descending bool
	// Size is the maximum number of documents on the page, 1 to MaxSize; 0 is DefaultSize.
	Size int
	// Cursor is the Next of the preceding page, which must have been queried with the same Sort and Descending; empty for the first page.
	// It identifies the document after which the page starts, so it remains valid when documents are added or removed and when the list
	// is rebuilt.
	Cursor string
	// Total asks for the number of documents on all pages, up to MaxTotal.
	Total bool

	// MinPosition makes the query wait until the list has reached this position, to read one's own writes. 0 does not wait.
	MinPosition eventstore.Position
}

// Page is a page of a list.
type Page[T any] struct {
	Items []T
	Next  string // the cursor of the next page; empty on the last page
	Total *int64 // nil unless it was asked for
	// More means that there are more documents than Total, which is MaxTotal.
	More bool
	// Position is the position up to which the list contained every event when it was read.
	Position eventstore.Position
}

const (
	// DefaultReadWait is how long a query waits for a list that is behind.
	DefaultReadWait = 2 * time.Second
	// DefaultBudget is the time that a wide query may take.
	DefaultBudget = time.Second
)

// QueryOptions configure Queries.
type QueryOptions struct {
	// ReadWait is the maximum time that a query waits for its MinPosition; 0 is DefaultReadWait.
	ReadWait time.Duration
	// Budget limits wide queries. A query is wide if no index provides its order and each of its filters selects more than 10,000
	// documents, so that the number of documents to read is unbounded. It may wait this long to start and then run this long; 0 is
	// DefaultBudget.
	Budget time.Duration
	// Wide is the maximum number of wide queries that run concurrently, which leaves the store's remaining capacity to all others; 0 is
	// half the number of processors.
	Wide int
	// Positions are those of the workers in this process, which wake waiting queries when they write. Without it, and for what other
	// processes write, the store is polled while queries wait.
	Positions *Positions
	// Policy is the policy by which bookings are decided. Its zone is that of rooms without one.
	Policy domain.Policy
	// Log is asked whether there is an event at a MinPosition that a list does not reach. Without it such a query waits in vain.
	Log Points
}

// Queries reads the lists. Its methods may be called concurrently. They return
//
//   - *InvalidQuery if the list cannot answer the query,
//   - ErrBehind if the list did not reach MinPosition in time,
//   - ErrNoSuchPosition if the log has no event at MinPosition,
//   - ErrNotFound if there is no document with the id,
//   - ErrTooWide if a wide query could not start or did not finish in time,
//   - ErrUnavailable if the read store fails or the list has not been built yet,
//   - the context's error if it ends.
type Queries struct {
	store         Store
	readWait      time.Duration
	positions     *Positions
	log           Points
	policy        domain.Policy
	budget        time.Duration
	wide          chan struct{} // holds a token for each wide query that runs
	bookingList   reader[BookingList]
	roomUseList   reader[RoomUseList]
	notifications reader[Notification]
	roomList      reader[RoomList]
	directory     atomic.Pointer[Directory] // as last read; nil before
}

// NewQueries returns Queries of the lists in a store.
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
	if o.Policy.Zone == nil {
		o.Policy.Zone = time.UTC
	}
	q := &Queries{store: store, readWait: o.ReadWait, positions: o.Positions, log: o.Log, policy: o.Policy, budget: o.Budget, wide: make(chan struct{}, o.Wide)}
	q.bookingList = newReader(q, bookingList())
	q.roomUseList = newReader(q, roomUseList())
	q.notifications = newReader(q, notifications())
	q.roomList = newReader(q, roomList())
	return q
}

// Ready returns nil if each list has been built and can be read, and otherwise the error of a query, with the name of the list.
func (q *Queries) Ready(ctx context.Context) error {
	for _, p := range All() {
		if _, err := q.store.Find(ctx, p.Name, p.Schema, Selection{Limit: 1}); err != nil {
			return fmt.Errorf("%s: %w", p.Name, cause(ctx, err))
		}
	}
	return nil
}

// BookingLists returns a page of the booking list. Sort is useStartDtm (the default), bookingDtm (the order in which the bookings were
// made), roomId, bookingUserId or status; the last three are followed by useStartDtm.
func (q *Queries) BookingLists(ctx context.Context, query Query) (Page[BookingList], error) {
	return q.bookingList.page(ctx, query)
}

// BookingList returns a document of the booking list, cancelled or not, once the list has reached position min; 0 does not wait.
func (q *Queries) BookingList(ctx context.Context, id domain.BookingID, min eventstore.Position) (BookingList, error) {
	return q.bookingList.document(ctx, string(id), min)
}

// RoomUseLists returns a page of the room-use list. Sort is bookedUseStartDtm (the default), bookingDtm (the order in which the bookings
// were made), roomId, bookingUserId or status; the last three are followed by bookedUseStartDtm.
func (q *Queries) RoomUseLists(ctx context.Context, query Query) (Page[RoomUseList], error) {
	return q.roomUseList.page(ctx, query)
}

// RoomUseList returns a document of the room-use list, cancelled or not, once the list has reached position min; 0 does not wait.
func (q *Queries) RoomUseList(ctx context.Context, id domain.BookingID, min eventstore.Position) (RoomUseList, error) {
	return q.roomUseList.document(ctx, string(id), min)
}

// Notifications returns a page of the notifications. Sort is sendDtm (the default) or userId, followed by sendDtm.
func (q *Queries) Notifications(ctx context.Context, query Query) (Page[Notification], error) {
	return q.notifications.page(ctx, query)
}

// Notification returns a notification, once the list has reached position min; 0 does not wait.
func (q *Queries) Notification(ctx context.Context, id domain.NotificationID, min eventstore.Position) (Notification, error) {
	return q.notifications.document(ctx, string(id), min)
}

// reader reads the documents of a projection.
type reader[D any] struct {
	queries *Queries
	list[D]
	schema Schema
}

func newReader[D any](q *Queries, l list[D]) reader[D] { return reader[D]{q, l, l.schema()} }

func (r reader[D]) page(ctx context.Context, query Query) (Page[D], error) {
	s, order, err := r.selection(query)
	if err != nil {
		return Page[D]{}, err
	}
	found, err := r.atPosition(ctx, query.MinPosition, func() (Found, error) { return r.search(ctx, s, query.Total) })
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

// search finds a page by the best path, and counts all pages if asked to.
func (r reader[D]) search(ctx context.Context, s Selection, total bool) (Found, error) {
	if s.ID != "" {
		if total {
			s.Count = MaxTotal + 1
		}
		return r.find(ctx, s)
	}
	p := r.plan(s)
	find := r.find
	narrow, err := p.narrow(ctx, s, maxNarrow, find)
	if err != nil {
		return Found{}, err
	}
	if p.wide && !narrow {
		release, err := r.queries.acquireWide(ctx)
		if err != nil {
			return Found{}, err
		}
		defer release()
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
		if _, err := p.narrow(ctx, s, MaxSorted, find); err != nil {
			return Found{}, err
		}
	}
	s.Path = &p.path
	found, err := find(ctx, s)
	if err != nil || !total {
		return found, err
	}
	s.Path, s.Limit, s.Count = &p.count, 0, MaxTotal+1
	counted, err := find(ctx, s)
	found.Count = counted.Count
	return found, err
}

// narrow takes the first candidate whose range has no more than max documents, and reports whether there is one.
func (p *plan) narrow(ctx context.Context, s Selection, max int64, find func(context.Context, Selection) (Found, error)) (bool, error) {
	for _, path := range p.candidates {
		found, err := find(ctx, s.probe(path, max))
		if err != nil {
			return false, err
		}
		if found.Count <= max {
			p.path, p.count = path, path
			return true, nil
		}
	}
	return false, nil
}

// acquireWide waits until a wide query may run, which ends with release.
func (q *Queries) acquireWide(ctx context.Context) (release func(), err error) {
	timeout := time.NewTimer(q.budget)
	defer timeout.Stop()
	select {
	case q.wide <- struct{}{}:
		return func() { <-q.wide }, nil
	case <-timeout.C:
		return nil, ErrTooWide
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// selection translates a query and returns its order. It asks for one more document than the page holds, to know whether there is a
// next page.
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
	if s.Statuses, err = l.statuses.keysFor(q); err != nil {
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
	found, err := r.atPosition(ctx, min, func() (Found, error) { return r.find(ctx, Selection{ID: id, Limit: 1}) })
	if err != nil {
		return zero, err
	}
	if len(found.Rows) == 0 {
		return zero, ErrNotFound
	}
	return *found.Rows[0].Document.(*D), nil
}

// findTimeout limits a read from the store, so that the caller gets an answer in time even if the server hangs.
const findTimeout = 5 * time.Second

// atPosition reads once the list has reached a position. If the list then turns out to be behind, another process has rebuilt it from
// another log, and its known position is reset.
func (r reader[D]) atPosition(ctx context.Context, min eventstore.Position, read func() (Found, error)) (Found, error) {
	for {
		if min > 0 {
			if err := r.queries.await(ctx, r.name, min); err != nil {
				return Found{}, err
			}
		}
		found, err := read()
		if err != nil || found.Position >= min {
			return found, err
		}
		r.queries.positions.reset(r.name, found.Position)
	}
}

// find reads from the store what is quickly found.
func (r reader[D]) find(ctx context.Context, s Selection) (Found, error) {
	within, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	found, err := r.queries.store.Find(within, r.name, r.schema, s)
	if err != nil {
		return Found{}, cause(ctx, err)
	}
	return found, nil
}

// await waits until the active generation of a projection has reached a position. Of all that wait for the same list one polls the store,
// in case another process writes to it.
func (q *Queries) await(ctx context.Context, projection string, position eventstore.Position) error {
	if q.positions.reached(projection, position) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, q.readWait)
	defer cancel()
	reached, err := q.position(waiting, projection)
	switch {
	case err == nil && reached >= position:
		return nil
	case err != nil && !over(waiting, err):
		return unavailable(err)
	}

	w := q.positions.wait(projection, position)
	defer q.positions.cancel(w)
	pauses := backoff.ExponentialBackOff{InitialInterval: 2 * time.Millisecond, Multiplier: 2, MaxInterval: 100 * time.Millisecond}
	var (
		poll   = time.NewTimer(time.Hour)
		poller = w.list.poller
		joined chan struct{}
		absent = q.absent(waiting, position)
	)
	defer poll.Stop()
	for {
		select {
		case <-w.reached:
			return nil
		case poller <- struct{}{}: // this one polls from here on
			defer func() { <-w.list.poller }()
			poller, joined = nil, w.list.joined
			poll.Reset(pauses.NextBackOff())
		case <-joined: // the newcomer has just written
			pauses.Reset()
			poll.Reset(pauses.NextBackOff())
		case <-poll.C:
			reached, err := q.position(waiting, projection)
			if err != nil && !over(waiting, err) {
				return unavailable(err)
			}
			q.positions.observe(projection, reached)
			poll.Reset(pauses.NextBackOff())
		case <-absent:
			return ErrNoSuchPosition
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrBehind
		}
	}
}

// over reports whether a read failed because its time is up, or nearly so: MongoDB's driver does not send what it expects to be
// answered too late.
func over(ctx context.Context, err error) bool {
	deadline, _ := ctx.Deadline()
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) && time.Until(deadline) < 10*time.Millisecond
}

// position is the position of a projection's active generation, 0 if there is none.
func (q *Queries) position(ctx context.Context, projection string) (eventstore.Position, error) {
	state, err := q.store.State(ctx, projection)
	g, _ := state.Generation(state.Active)
	return g.Position, err
}

// absentDelay is how long a query waits for a position before it asks the log whether there is an event at all.
const absentDelay = 10 * time.Millisecond

// absent returns a channel that is closed if the log has no event at a position, which no list will ever reach then. Only the log itself
// can tell: a list or a cluster member may just be behind.
func (q *Queries) absent(ctx context.Context, position eventstore.Position) <-chan struct{} {
	absent := make(chan struct{})
	if q.log == nil {
		return absent
	}
	go func() {
		if eventstore.Sleep(ctx, absentDelay) != nil {
			return
		}
		if _, found, err := q.log.EventAt(ctx, position); err == nil && !found {
			close(absent)
		}
	}()
	return absent
}

// cause is the error of a failed read: the context's error if it has ended.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err)
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
