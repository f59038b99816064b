package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"roombook/projections"
)

// Find implements [projections.Store]. The checkpoint is read first, so that what is found then is at least as new.
func (s *Store) Find(ctx context.Context, projection string, sel projections.Selection) (projections.Found, error) {
	for {
		found, err := s.find(ctx, projection, sel)
		if err == nil || errors.Is(err, projections.ErrNotBuilt) {
			return found, err
		}
		// The generation may have been replaced and dropped after the pointer was read.
		active, again := s.active(ctx, projection)
		if again != nil || active.Number == found.Generation.Number {
			return projections.Found{}, fmt.Errorf("find in %s: %w", projection, err)
		}
	}
}

func (s *Store) find(ctx context.Context, projection string, sel projections.Selection) (projections.Found, error) {
	var found projections.Found
	g, err := s.active(ctx, projection)
	if err != nil {
		return found, err
	}
	found.Generation = g
	if sel.Count {
		query, args := count(g, sel)
		if err := s.readers.row(ctx, query, args, &found.Count); err != nil {
			return found, err
		}
	}
	if sel.Limit > 0 {
		found.Rows = make([]projections.Row, 0, min(sel.Limit, 256))
		query, args := page(g, sel)
		err = s.readers.rows(ctx, query, args, func(rows *sql.Rows) error {
			found.Rows = append(found.Rows, projections.Row{})
			row := &found.Rows[len(found.Rows)-1]
			return rows.Scan(&row.Created, &row.Document)
		})
	}
	return found, err
}

// active is the generation that readers see.
func (s *Store) active(ctx context.Context, projection string) (projections.Generation, error) {
	g := projections.Generation{Ref: projections.Ref{Projection: projection}}
	err := s.readers.row(ctx, `SELECT g.number, g.version, g.position, g.longest
		FROM projections p JOIN generations g ON g.projection = p.name AND g.number = p.active WHERE p.name = ?`, []any{projection},
		&g.Number, &g.Version, &g.Position, &g.Longest)
	if errors.Is(err, sql.ErrNoRows) {
		return g, projections.ErrNotBuilt
	}
	return g, err
}

// condition gathers the terms of a WHERE clause.
type condition struct {
	sql  strings.Builder
	args []any
}

func (c *condition) and(term string, args ...any) {
	if c.sql.Len() == 0 {
		c.sql.WriteString(" WHERE ")
	} else {
		c.sql.WriteString(" AND ")
	}
	c.sql.WriteString(term)
	c.args = append(c.args, args...)
}

// filter is the condition on the documents. Of several columns the one that leaves the fewest documents is looked up in its
// index; a plus keeps SQLite, which knows nothing of the numbers, from preferring another.
func filter(g projections.Generation, s projections.Selection) *condition {
	c := &condition{}
	led := false
	equal := func(column, value string) {
		if value == "" {
			return
		}
		if led {
			column = "+" + column
		}
		c.and(column+" = ?", value)
		led = true
	}
	equal("id", s.ID)
	equal("booking", s.Booking)
	equal("user", s.User)
	equal("room", s.Room)
	switch n := len(s.Statuses); {
	case n == 1:
		equal("status", s.Statuses[0])
	case n > 1:
		c.and("+status IN (?"+strings.Repeat(", ?", n-1)+")", texts(s.Statuses)...)
	}
	if s.From != nil {
		c.and(`start > ? AND "end" > ?`, *s.From-g.Longest, *s.From)
	}
	if s.To != nil {
		c.and("start < ?", *s.To)
	}
	return c
}

func texts(values []string) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}

func page(g projections.Generation, s projections.Selection) (query string, args []any) {
	columns, after := []string{}, []any{}
	if s.Order.By != "" {
		columns = append(columns, string(s.Order.By))
	}
	if s.Order.Start {
		columns = append(columns, "start")
	}
	columns = append(columns, "created")

	c := filter(g, s)
	if m := s.After; m != nil {
		if s.Order.By != "" {
			after = append(after, m.By)
		}
		if s.Order.Start {
			after = append(after, m.Start)
		}
		after = append(after, int64(m.Created))
		relation := ">"
		if s.Descending {
			relation = "<"
		}
		c.and("("+strings.Join(columns, ", ")+") "+relation+" (?"+strings.Repeat(", ?", len(columns)-1)+")", after...)
	}

	direction := ""
	if s.Descending {
		direction = " DESC"
	}
	return `SELECT created, document FROM ` + table(g.Ref) + c.sql.String() +
		` ORDER BY ` + strings.Join(columns, direction+", ") + direction + ` LIMIT ?`, append(c.args, s.Limit)
}

func count(g projections.Generation, s projections.Selection) (query string, args []any) {
	c := filter(g, s)
	return `SELECT count(*) FROM ` + table(g.Ref) + c.sql.String(), c.args
}
