package sqlite

import (
	"context"
	"database/sql/driver"
	"path/filepath"
	"strings"
	"testing"

	"roombook/projections"
)

// The common pages are read in the order of an index, without sorting and without reading the whole table.
func TestPagesUseIndexes(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	from := int64(1)
	byStart := projections.Order{Start: true}
	shown := []string{"BOOKED", "CONFIRMED", "IN_USE", "ENDED"}
	tests := []struct {
		name string
		projections.Selection
		index string // its columns; empty for the order of the table
	}{
		{"all", projections.Selection{Order: byStart, Statuses: shown}, "start"},
		{"the next page", projections.Selection{Order: byStart, Statuses: shown, After: &projections.Mark{Start: 1, Created: 1}}, "start"},
		{"backwards", projections.Selection{Order: byStart, Statuses: shown, After: &projections.Mark{Start: 1, Created: 1}, Descending: true}, "start"},
		{"a time", projections.Selection{Order: byStart, Statuses: shown, From: &from, To: &from}, "start"},
		{"a room", projections.Selection{Order: byStart, Statuses: shown, Room: "1"}, "room_start"},
		{"a room at a time", projections.Selection{Order: byStart, Statuses: shown, Room: "1", From: &from}, "room_start"},
		{"a user", projections.Selection{Order: byStart, Statuses: shown, User: "1"}, "user_start"},
		{"a user in a room", projections.Selection{Order: byStart, Statuses: shown, User: "1", Room: "1"}, "user_start"},
		{"a status", projections.Selection{Order: byStart, Statuses: shown[:1]}, "status_start"},
		{"a status in a room", projections.Selection{Order: byStart, Statuses: shown[:1], Room: "1"}, "room_start"},
		{"by room", projections.Selection{Order: projections.Order{By: projections.ColumnRoom, Start: true}, Statuses: shown, After: &projections.Mark{}}, "room_start"},
		{"as they began", projections.Selection{Statuses: shown, After: &projections.Mark{Created: 1}, Descending: true}, ""},
	}
	p, _ := projections.Named(projections.BookingListName)
	g, err := store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var plan []string
			text, args := pageQuery(g.Ref, test.Selection)
			err := store.read(t.Context(), func(_ *file, c *connection) error {
				return c.query(context.Background(), "EXPLAIN QUERY PLAN "+text, args, func(v []driver.Value) {
					if detail := v[3].(string); strings.Contains(detail, g.String()) || strings.Contains(detail, "TEMP") {
						plan = append(plan, detail)
					}
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			want := "USING INDEX " + g.String() + "_" + test.index
			if test.index == "" {
				want = "USING INTEGER PRIMARY KEY"
			}
			if got := strings.Join(plan, "; "); len(plan) != 1 || !strings.Contains(got, want+" ") && !strings.HasSuffix(got, want) {
				t.Errorf("the plan is %s, not %s", got, want)
			}
		})
	}
}
