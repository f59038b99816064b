package storetest

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// EveryQuery are the queries of a list that differ in what a store has to do: every combination of filters, orders and directions, each for
// the first page and, with the Cursor "next", for another one. A field of [projections.Query] that is not known here fails the test.
func EveryQuery(t testing.TB, p projections.Projection) []projections.Query {
	t.Helper()
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	type choices []func(*projections.Query)
	none := func(*projections.Query) {}
	statuses := choices{none}
	for _, of := range [][]string{p.Statuses[:1], p.Statuses[1:3], {projections.StatusAll}} {
		statuses = append(statuses, func(q *projections.Query) { q.Statuses = of })
	}
	switch p.Name {
	case projections.BookingListName:
		for _, of := range [][]domain.Answer{{domain.Denied}, {domain.AnswerPending, domain.Confirmed}} {
			statuses = append(statuses, func(q *projections.Query) { q.Answers = of })
		}
	case projections.RoomUseListName:
		statuses = append(statuses, func(q *projections.Query) { q.Used = true },
			func(q *projections.Query) { q.Used, q.Statuses = true, []string{string(projections.StatusEnded)} })
	}
	var sorts choices
	for _, sort := range p.Sorts {
		sorts = append(sorts, func(q *projections.Query) { q.Sort = sort })
	}
	byField := map[string]choices{
		"Room":       {none, func(q *projections.Query) { q.Room = "1" }},
		"User":       {none, func(q *projections.Query) { q.User = "user1" }},
		"Booking":    {none, func(q *projections.Query) { q.Booking = "b" }},
		"Statuses":   statuses,
		"Answers":    {none}, // are among the statuses, and so is
		"Used":       {none},
		"From":       {none, func(q *projections.Query) { q.From = at }},
		"To":         {none, func(q *projections.Query) { q.To = at.AddDate(0, 0, 1) }},
		"Sort":       sorts,
		"Descending": {none, func(q *projections.Query) { q.Descending = true }},
		"Size":       {none}, // neither this nor the next but one
		"Cursor":     {none, func(q *projections.Query) { q.Cursor = "next" }},
		"Total":      {func(q *projections.Query) { q.Total = true }}, // which is asked for besides the page
		// is waited for before the list is asked.
		"MinPosition": {none},
	}
	queries := []projections.Query{{}}
	for field := range reflect.TypeFor[projections.Query]().Fields() {
		of := byField[field.Name]
		if of == nil {
			t.Fatalf("of %s it is not known what it makes a store do", field.Name)
		}
		var next []projections.Query
		for _, q := range queries {
			for _, set := range of {
				with := q
				set(&with)
				next = append(next, with)
			}
		}
		queries = next
	}
	return queries
}

// Selected is what a store was asked for by a query.
type Selected struct {
	projections.Projection
	projections.Query
	projections.Selection
}

// Selections are what a store is asked for by every query of every list, once each. The store is an empty one of any kind; crowded makes
// it say that whatever is counted is very much.
func Selections(t *testing.T, store projections.Store, crowded bool) []Selected {
	t.Helper()
	r := &recorder{Store: store, crowded: crowded}
	queries := projections.NewQueries(r, projections.QueryOptions{Budget: patience})
	var all []Selected
	for _, p := range projections.All() {
		g, err := store.Begin(t.Context(), p.Name, p.Version, p.Schema)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Activate(t.Context(), p.Name, 0, g.Number); err != nil {
			t.Fatal(err)
		}
		ask := map[string]func(context.Context, projections.Query) (string, error){
			projections.BookingListName: func(ctx context.Context, q projections.Query) (string, error) {
				page, err := queries.BookingLists(ctx, q)
				return page.Next, err
			},
			projections.RoomUseListName: func(ctx context.Context, q projections.Query) (string, error) {
				page, err := queries.RoomUseLists(ctx, q)
				return page.Next, err
			},
			projections.NotificationName: func(ctx context.Context, q projections.Query) (string, error) {
				page, err := queries.Notifications(ctx, q)
				return page.Next, err
			},
		}[p.Name]
		var rows []projections.Row
		for at := range eventstore.Position(5) {
			id := fmt.Sprint("id-", at)
			rows = append(rows, projections.Row{ID: id, Created: at + 1, Position: at + 1, Status: p.Statuses[0], Document: map[string]any{
				projections.BookingListName:  &projections.BookingList{Booking: domain.BookingID(id), Start: time.Unix(0, 0).UTC(), End: time.Unix(1, 0).UTC()},
				projections.RoomUseListName:  &projections.RoomUseList{Booking: domain.BookingID(id), Start: time.Unix(0, 0).UTC(), End: time.Unix(1, 0).UTC()},
				projections.NotificationName: &projections.Notification{ID: domain.NotificationID(id), Delivery: domain.DeliveryPending},
			}[p.Name]})
		}
		if err := store.Write(t.Context(), g.Ref, p.Schema, rows, projections.Checkpoint{Position: 5}); err != nil {
			t.Fatal(err)
		}
		next := map[string]string{}
		for _, q := range EveryQuery(t, p) {
			if q.Cursor != "" {
				first := projections.Query{Sort: q.Sort, Descending: q.Descending, Statuses: []string{projections.StatusAll}, Size: 3}
				key := fmt.Sprint(first)
				if next[key] == "" {
					if next[key], err = ask(t.Context(), first); err != nil || next[key] == "" {
						t.Fatalf("%+v has no next page: %v", first, err)
					}
				}
				q.Cursor = next[key]
			}
			r.taken()
			if _, err := ask(t.Context(), q); err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			for _, s := range r.taken() {
				all = append(all, Selected{p, q, s})
			}
		}
	}
	return all
}

// recorder notes what a store is asked to find.
type recorder struct {
	projections.Store
	crowded  bool
	selected []projections.Selection
}

func (r *recorder) Find(ctx context.Context, projection string, schema projections.Schema, s projections.Selection) (projections.Found, error) {
	r.selected = append(r.selected, s)
	found, err := r.Store.Find(ctx, projection, schema, s)
	if r.crowded {
		found.Count = s.Count
	}
	return found, err
}

// taken are the selections since it was last asked.
func (r *recorder) taken() []projections.Selection {
	taken := r.selected
	r.selected = nil
	return taken
}

// Reads says what a store has to look up in the index of the selection's path to keep its promise: the columns that have one value each
// or, the status, one of several; the columns that are then in order; and whether the time is bounded between these.
func Reads(s projections.Selection) (equal, order []projections.Column, window bool) {
	equal = []projections.Column{projections.ColumnStatus}
	if by := s.Path.Index.By; s.Has(by) != "" {
		equal = append(equal, by)
	}
	window = (s.From != nil || s.To != nil) && s.Leads(projections.ColumnStart)
	if !s.Path.Sort && s.Limit > 0 {
		order = s.Order.Columns()
		if s.Order.By == projections.ColumnStatus {
			order = order[1:]
		}
	}
	return equal, order, window
}
