package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/storetest"
)

// Every query of every list uses the index and the columns of it that are meant for it, whether its filters leave few documents or many; and
// none sorts, except along a path that says so.
func TestEveryQueryUsesItsIndex(t *testing.T) {
	if eventstoretest.Raced {
		t.Skip("one goroutine asks for plans, which takes the race detector three minutes")
	}
	for name, crowded := range map[string]bool{"few": false, "many": true} {
		t.Run(name, func(t *testing.T) {
			store, err := Open(filepath.Join(t.TempDir(), "views.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			explained := map[string]bool{}
			for _, selected := range storetest.Selections(t, store, crowded) {
				ref := projections.Ref{Projection: selected.Projection.Name, Number: 1}
				if s := selected.Selection; s.Count > 0 {
					text, args := countQuery(ref, s)
					s.Limit, s.After = 0, nil
					explain(t, store, selected, s, explained, text, args)
				}
				if s := selected.Selection; s.Limit > 0 {
					text, args := pageQuery(ref, s)
					explain(t, store, selected, s, explained, text, args)
				}
			}
			t.Logf("%d different statements", len(explained))
		})
	}
}

func explain(t *testing.T, store *Store, selected storetest.Selected, s projections.Selection, explained map[string]bool, text string, args []driver.Value) {
	t.Helper()
	if key := fmt.Sprint(text, s.Path); explained[key] {
		return
	} else {
		explained[key] = true
	}
	ref := projections.Ref{Projection: selected.Projection.Name, Number: 1}
	var plan []string
	err := store.read(t.Context(), func(_ *file, c *connection) error {
		return c.query(context.Background(), "EXPLAIN QUERY PLAN "+text, args, func(v []driver.Value) { plan = append(plan, v[3].(string)) })
	})
	if err != nil {
		t.Fatal(err)
	}
	sorts := 0
	for _, step := range plan {
		switch {
		case strings.Contains(step, "TEMP B-TREE"):
			sorts++
		case step == "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)": // the documents, once it is known which
		case strings.Contains(step, ref.String()):
			if !strings.HasPrefix(step, "SEARCH ") {
				t.Errorf("%+v: %s\n%s", selected.Query, strings.Join(plan, "\n"), text)
				return
			}
			if s.Path == nil {
				if !strings.Contains(step, "(id=?)") {
					t.Errorf("%+v is not found by its id: %s", selected.Query, step)
				}
				continue
			}
			if want := searched(selected.Projection, s); !strings.Contains(step, want) {
				t.Errorf("%+v by %+v: the plan is\n%s\nand not\n%s\n%s", selected.Query, s.Path, step, want, text)
			}
		}
	}
	if s.Limit > 0 && text != none && !slices.Contains(plan, "MATERIALIZE page") {
		t.Errorf("%+v: the page is not materialized, so its context would not interrupt it after the first row: %s\n%s", selected.Query, strings.Join(plan, "; "), text)
	}
	wantSorts := 0
	if s.Path != nil && s.Path.Sort && s.Limit > 0 {
		wantSorts = 1
	}
	if sorts != wantSorts {
		t.Errorf("%+v by %+v: %d sorts: %s\n%s", selected.Query, s.Path, sorts, strings.Join(plan, "; "), text)
	}
}

// asked is a store that remembers the last selection with rooms.
type asked struct {
	projections.Store
	selection projections.Selection
}

func (a *asked) Find(ctx context.Context, projection string, schema projections.Schema, s projections.Selection) (projections.Found, error) {
	if s.Rooms != nil {
		a.selection = s
	}
	return a.Store.Find(ctx, projection, schema, s)
}

// What takes rooms is found by room and time, and not sorted.
func TestOccupancyUsesItsIndex(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, p := range projections.All() {
		g, err := store.Begin(t.Context(), p.Name, p.Version, p.Schema)
		if err == nil {
			err = store.Activate(t.Context(), p.Name, 0, g.Number)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a := &asked{Store: store}
	day := projections.OccupancyQuery{From: time.Unix(0, 0), To: time.Unix(86400, 0), Rooms: []domain.RoomID{"1", "2"}}
	if _, err := projections.NewQueries(a, projections.QueryOptions{}).Occupancy(t.Context(), day); err != nil {
		t.Fatal(err)
	}
	text, args := pageQuery(projections.Ref{Projection: projections.BookingListName, Number: 1}, a.selection)
	var plan []string
	err = store.read(t.Context(), func(_ *file, c *connection) error {
		return c.query(context.Background(), "EXPLAIN QUERY PLAN "+text, args, func(v []driver.Value) { plan = append(plan, v[3].(string)) })
	})
	if got := strings.Join(plan, "\n"); err != nil || !strings.Contains(got, "(status=? AND room=? AND start>? AND start<?)") || strings.Contains(got, "TEMP B-TREE") {
		t.Errorf("%s, %v", got, err)
	}
}

// The end of its context interrupts a query that looks for its first row and would never find it.
func TestAQueryEndsWithItsContext(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = store.read(ctx, func(_ *file, c *connection) error {
		return c.query(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n), page AS MATERIALIZED (SELECT i FROM n WHERE i = 1 OR i < 0)
			SELECT i FROM page`, nil, func(v []driver.Value) { t.Errorf("it found %v", v) })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	// The connection can be used again.
	if err := store.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// searched is how a plan names the index of a selection, and the columns that it is searched by.
func searched(p projections.Projection, s projections.Selection) string {
	equal, order, window := storetest.Reads(s)
	columns := make([]string, 0, 4)
	for _, c := range equal {
		columns = append(columns, string(c)+"=?")
	}
	from, to := window && s.From != nil, window && s.To != nil
	if s.After != nil && len(order) > 0 {
		switch {
		case order[0] == projections.ColumnStart && s.Descending:
			to = true
		case order[0] == projections.ColumnStart:
			from = true
		case order[0] == projections.ColumnCreated:
			columns = append(columns, map[bool]string{false: "created>?", true: "created<?"}[s.Descending])
		default:
			relation := map[bool]string{false: ">", true: "<"}[s.Descending]
			columns = append(columns, "("+string(order[0])+","+string(order[1])+")"+relation+"(?,?)")
		}
	}
	if from {
		columns = append(columns, "start>?")
	}
	if to {
		columns = append(columns, "start<?")
	}
	return " INDEX " + indexName(projections.Ref{Projection: p.Name, Number: 1}, s.Path.Index) + " (" + strings.Join(columns, " AND ") + ")"
}
