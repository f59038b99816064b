package storetest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// Queried are the projections that a [projections.Query] asks.
func Queried() []projections.Projection {
	return slices.DeleteFunc(projections.All(), func(p projections.Projection) bool { return p.Name == projections.RoomListName })
}

// EveryQuery returns the queries of a list that make a store do different things: every combination of filters, sorts and directions, for the
// first page and, with the Cursor "next", for a later one. It fails the test if [projections.Query] has a field that it does not know.
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
		"Answers":    {none}, // among the statuses, as is Used
		"Used":       {none},
		"From":       {none, func(q *projections.Query) { q.From = at }},
		"To":         {none, func(q *projections.Query) { q.To = at.AddDate(0, 0, 1) }},
		"Sort":       sorts,
		"Descending": {none, func(q *projections.Query) { q.Descending = true }},
		"Size":       {none}, // is irrelevant
		"Cursor":     {none, func(q *projections.Query) { q.Cursor = "next" }},
		"Total":      {func(q *projections.Query) { q.Total = true }}, // is counted in addition to the page
		// is waited for before the store is read.
		"MinPosition": {none},
	}
	queries := []projections.Query{{}}
	for field := range reflect.TypeFor[projections.Query]().Fields() {
		of := byField[field.Name]
		if of == nil {
			t.Fatalf("the values of %s are not known", field.Name)
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
	if eventstoretest.Raced { // they are asked one after the other: some of every kind are enough
		i := 0
		queries = slices.DeleteFunc(queries, func(projections.Query) bool { i++; return i%23 != 1 })
	}
	return queries
}

// Selected is a selection that a store was asked for, and the query that it was for.
type Selected struct {
	projections.Projection
	projections.Query
	projections.Selection
}

// Selections returns every selection that every query of every list asks a store for. The store must be empty; crowded makes every count
// reach its cap.
func Selections(t *testing.T, store projections.Store, crowded bool) []Selected {
	t.Helper()
	r := &recorder{Store: store, crowded: crowded}
	queries := projections.NewQueries(r, projections.QueryOptions{Budget: patience})
	var all []Selected
	for _, p := range Queried() {
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

// recorder records the selections that a store is asked for.
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

// taken returns the selections since the last call.
func (r *recorder) taken() []projections.Selection {
	taken := r.selected
	r.selected = nil
	return taken
}

// Reads says how a store must read the index of the selection's path: equal are the columns with a fixed value (several for the status),
// order those that are then sorted, and window reports whether the start is bounded after the equal columns.
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
