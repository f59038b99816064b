package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
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
	if known, ok := f.known.Load(projection); ok && sel.Count == 0 && sel.Limit > 0 {
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
		if sel.Count > 0 {
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

// active returns the active generation and its checkpoint.
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

// filter is the condition on everything but the status. Without a path SQLite is to use the index of the first column, which usually leaves
// the fewest documents: a unary plus keeps it from the others.
func filter(ref projections.Ref, s projections.Selection) *condition {
	c := &condition{}
	led := false
	equal := func(column projections.Column, value string) {
		if value == "" {
			return
		}
		name := string(column)
		if s.Path == nil && led {
			name = "+" + name
		}
		c.and(name+" = ?", value)
		led = true
	}
	equal("id", s.ID)
	equal(projections.ColumnBooking, s.Booking)
	equal(projections.ColumnUser, s.User)
	equal(projections.ColumnRoom, s.Room)
	from, to := int64(math.MinInt64), int64(math.MaxInt64) // of the mark: SQLite takes one bound at each end
	if s.After != nil && inTime(s) {
		if s.Descending {
			to = s.After.Start
		} else {
			from = s.After.Start
		}
	}
	switch {
	case s.From != nil:
		c.and(`start >= max(?, 1 + ? - (SELECT longest FROM generations WHERE projection = ? AND number = ?)) AND "end" > ?`,
			from, *s.From, ref.Projection, int64(ref.Number), *s.From)
	case from > math.MinInt64:
		c.and("start >= ?", from)
	}
	if s.To != nil {
		to = min(to, *s.To-1)
	}
	if to < math.MaxInt64 {
		c.and("start <= ?", to)
	}
	return c
}

// inTime reports whether the index of the path is scanned by time.
func inTime(s projections.Selection) bool {
	return s.Path != nil && !s.Path.Sort && s.Leads(projections.ColumnStart)
}

// source is the FROM clause: the table, and the index to use if there is a path.
func source(ref projections.Ref, s projections.Selection) string {
	if s.Path == nil {
		return ` FROM ` + table(ref)
	}
	return ` FROM ` + table(ref) + ` INDEXED BY "` + indexName(ref, s.Path.Index) + `"`
}

// inStatuses is filter with the condition on the status, for which an index is used only if there is a path.
func inStatuses(ref projections.Ref, s projections.Selection) *condition {
	c := filter(ref, s)
	status := "status"
	if s.Path == nil && len(s.Statuses) > 1 {
		status = "+status"
	}
	if n := len(s.Statuses); n > 0 {
		c.and(status+" IN (?"+strings.Repeat(", ?", n-1)+")", texts(s.Statuses)...)
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
	if s.Path != nil && isWithoutIndex(err) {
		s.Path = nil
		return page(ctx, c, s, found)
	}
	return active, err
}

// pageQuery selects created, document, and the position of the generation if it is the active one. The page is materialized before the first
// row is returned, because that is as far as the driver lets a context interrupt a query.
func pageQuery(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	var rows string
	switch {
	case s.Path == nil:
		rows, args = inOrder(ref, s, inStatuses(ref, s), s.Order.Columns())
	case s.Path.Sort:
		rows, args = sorted(ref, s)
	default:
		rows, args = merged(ref, s)
	}
	text = `WITH page AS MATERIALIZED (` + rows + `) SELECT d.created, d.document, (SELECT g.position FROM projections p JOIN generations g ON g.projection = p.name AND g.number = p.active
		WHERE p.name = ? AND p.active = ?) FROM page CROSS JOIN ` + table(ref) + ` d ON d.created = page.created`
	return text, append(args, ref.Projection, int64(ref.Number))
}

// inOrder finds created of the first documents on a condition, after the mark.
func inOrder(ref projections.Ref, s projections.Selection, where *condition, columns []projections.Column) (text string, args []driver.Value) {
	if s.After != nil {
		where.after(list(columns), columns, s)
	}
	text = `SELECT created FROM ` + table(ref) + where.sql.String() + orderBy(columns, s) + ` LIMIT ?`
	return text, append(where.args, int64(s.Limit))
}

// merged finds the first documents by an index that has the order, in which those of each status are on their own. SQLite merges them
// while it reads.
func merged(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	columns := s.Order.Columns()
	byStatus := s.Order.By == projections.ColumnStatus
	var parts []string
	for _, status := range s.Statuses {
		part, within := s, columns
		if byStatus {
			within = columns[1:]
		}
		if m := s.After; m != nil && byStatus && status != m.By {
			if (status < m.By) != s.Descending {
				continue // these are all before the mark
			}
			part.After = nil // and these after it
		}
		where := filter(ref, part)
		where.and("status = ?", status)
		switch {
		case part.After != nil && inTime(s):
			where.after("+"+list(within), within, part)
		case part.After != nil:
			where.after(list(within), within, part)
		}
		parts = append(parts, `SELECT `+list(columns)+source(ref, s)+where.sql.String())
		args = append(args, where.args...)
	}
	if len(parts) == 0 { // nothing is after the mark
		return `SELECT 0 AS created WHERE false`, nil
	}
	return strings.Join(parts, " UNION ALL ") + orderBy(columns, s) + ` LIMIT ?`, append(args, int64(s.Limit))
}

// sorted finds the first documents of the few that an index leads to. It sorts what the index has of them, and then looks at the
// documents.
func sorted(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	columns := s.Order.Columns()
	few := inStatuses(ref, s)
	var first condition
	if s.After != nil {
		first.after(list(columns), columns, s)
	}
	text = `SELECT created FROM (SELECT ` + list(columns) + source(ref, s) + few.sql.String() + ` LIMIT ?)` + first.sql.String() + orderBy(columns, s) + ` LIMIT ?`
	args = append(few.args, int64(2*projections.MaxSorted))
	return text, append(append(args, first.args...), int64(s.Limit))
}

// after is the condition that a document comes after the mark. Names are those of the columns.
func (c *condition) after(names string, columns []projections.Column, s projections.Selection) {
	values := make([]driver.Value, len(columns))
	for i, column := range columns {
		switch column {
		case projections.ColumnStart:
			values[i] = s.After.Start
		case projections.ColumnCreated:
			values[i] = int64(s.After.Created)
		default:
			values[i] = s.After.By
		}
	}
	relation := ">"
	if s.Descending {
		relation = "<"
	}
	c.and("("+names+") "+relation+" (?"+strings.Repeat(", ?", len(columns)-1)+")", values...)
}

func orderBy(columns []projections.Column, s projections.Selection) string {
	direction := ""
	if s.Descending {
		direction = " DESC"
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quoted(c) + direction
	}
	return " ORDER BY " + strings.Join(names, ", ")
}

// isWithoutIndex reports whether the index of a path is missing, as it may be in a generation that another version of the program built.
func isWithoutIndex(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no such index")
}

func list(columns []projections.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quoted(c)
	}
	return strings.Join(names, ", ")
}

func quoted(c projections.Column) string { return `"` + string(c) + `"` }

func count(ctx context.Context, c *connection, s projections.Selection, found *projections.Found) error {
	text, args := countQuery(found.Ref, s)
	_, err := c.one(ctx, text, args, &found.Count)
	if s.Path != nil && isWithoutIndex(err) {
		s.Path = nil
		return count(ctx, c, s, found)
	}
	return err
}

func countQuery(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	s.After = nil
	where := inStatuses(ref, s)
	return `SELECT count(*) FROM (SELECT 1` + source(ref, s) + where.sql.String() + ` LIMIT ?)`, append(where.args, s.Count)
}
