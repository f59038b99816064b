package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"roombook/eventstore"
	"roombook/projections"
)

// Find implements [projections.Store].
func (s *Store) Find(ctx context.Context, projection string, sel projections.Selection) (found projections.Found, err error) {
	err = s.read(ctx, func(f *file, c *connection) error {
		found, err = f.find(ctx, c, projection, sel)
		return err
	})
	if err != nil {
		return projections.Found{}, fmt.Errorf("find in %s: %w", projection, err)
	}
	return found, nil
}

// find reads the checkpoint first, so that what is found then is at least as new. Most pages need but one statement, and
// thereby one snapshot: it reads the generation that was the active one last time, and with it the checkpoint if it still is.
func (f *file) find(ctx context.Context, c *connection, projection string, sel projections.Selection) (found projections.Found, err error) {
	if known, ok := f.known.Load(projection); ok && !sel.Count && sel.Limit > 0 {
		found.Ref = known.(projections.Ref)
		stillActive, err := page(ctx, c, sel, &found)
		if err == nil && stillActive {
			return found, nil
		}
	}
	for {
		found, err = active(ctx, c, projection)
		if err != nil {
			return found, err
		}
		f.known.Store(projection, found.Ref)
		at := found.Position
		if sel.Count {
			err = count(ctx, c, sel, &found)
		}
		if sel.Limit > 0 && err == nil {
			_, err = page(ctx, c, sel, &found)
		}
		found.Position = at
		if err == nil {
			return found, nil
		}
		// The generation may have been replaced and dropped after the pointer was read.
		again, pointerErr := active(ctx, c, projection)
		if pointerErr != nil || again.Ref == found.Ref {
			return found, errors.Join(err, pointerErr)
		}
	}
}

// active is the generation that readers see, and its checkpoint.
func active(ctx context.Context, c *connection, projection string) (found projections.Found, err error) {
	var number, at int64
	built, err := c.one(ctx, `SELECT g.number, g.position
		FROM projections p JOIN generations g ON g.projection = p.name AND g.number = p.active WHERE p.name = ?`, []driver.Value{projection}, &number, &at)
	if err == nil && !built {
		err = projections.ErrNotBuilt
	}
	found.Ref = projections.Ref{Projection: projection, Number: int(number)}
	found.Position = eventstore.Position(at)
	return found, err
}

// condition gathers the terms of a WHERE clause.
type condition struct {
	sql  strings.Builder
	args []driver.Value
}

func (c *condition) and(term string, args ...driver.Value) {
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
func filter(ref projections.Ref, s projections.Selection) *condition {
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
		c.and(`start > ? - (SELECT longest FROM generations WHERE projection = ? AND number = ?) AND "end" > ?`,
			*s.From, ref.Projection, int64(ref.Number), *s.From)
	}
	if s.To != nil {
		c.and("start < ?", *s.To)
	}
	return c
}

func texts(values []string) []driver.Value {
	args := make([]driver.Value, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}

// page finds the rows, and reports whether they are those of the active generation, as far as it can tell: without a row it
// cannot.
func page(ctx context.Context, c *connection, s projections.Selection, found *projections.Found) (active bool, err error) {
	text, args := pageQuery(found.Ref, s)
	found.Rows = make([]projections.Row, 0, min(s.Limit, 256))
	err = c.query(ctx, text, args, func(v []driver.Value) {
		found.Rows = append(found.Rows, projections.Row{Created: position(v[0]), Document: v[1].(string)})
		if at, ok := v[2].(int64); ok {
			active, found.Position = true, eventstore.Position(at)
		}
	})
	return active, err
}

func pageQuery(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	columns, after := make([]string, 0, 3), make([]driver.Value, 0, 3)
	if s.Order.By != "" {
		columns = append(columns, string(s.Order.By))
	}
	if s.Order.Start {
		columns = append(columns, "start")
	}
	columns = append(columns, "created")

	where := filter(ref, s)
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
		where.and("("+strings.Join(columns, ", ")+") "+relation+" (?"+strings.Repeat(", ?", len(columns)-1)+")", after...)
	}
	direction := ""
	if s.Descending {
		direction = " DESC"
	}
	text = `SELECT created, document, (SELECT g.position FROM projections p JOIN generations g ON g.projection = p.name AND g.number = p.active
		WHERE p.name = ? AND p.active = ?) FROM ` + table(ref) + where.sql.String() +
		` ORDER BY ` + strings.Join(columns, direction+", ") + direction + ` LIMIT ?`
	args = append([]driver.Value{ref.Projection, int64(ref.Number)}, where.args...)
	return text, append(args, int64(s.Limit))
}

func count(ctx context.Context, c *connection, s projections.Selection, found *projections.Found) error {
	where := filter(found.Ref, s)
	_, err := c.one(ctx, `SELECT count(*) FROM `+table(found.Ref)+where.sql.String(), where.args, &found.Count)
	return err
}
