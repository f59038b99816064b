package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/eventstore"
	"roombook/projections"
)

// Find implements [projections.Store].
func (s *Store) Find(ctx context.Context, projection string, schema projections.Schema, sel projections.Selection) (found projections.Found, err error) {
	err = s.read(ctx, func(f *file, c *connection) error {
		found, err = f.find(ctx, c, projection, schema, sel)
		return err
	})
	if err != nil {
		return projections.Found{}, fmt.Errorf("find in %s: %w", projection, err)
	}
	return found, nil
}

// find reads the checkpoint first, so that what is found then is at least as new. Most pages need but one statement, and
// thereby one snapshot: it reads the generation that was the active one last time, and with it the checkpoint if it still is.
func (f *file) find(ctx context.Context, c *connection, projection string, schema projections.Schema, sel projections.Selection) (found projections.Found, err error) {
	if known, ok := f.known.Load(projection); ok && sel.Count == 0 && sel.Limit > 0 {
		found.Ref = known.(projections.Ref)
		stillActive, err := f.page(ctx, c, schema, sel, &found)
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
			_, err = f.page(ctx, c, schema, sel, &found)
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
	var number, at, changed int64
	built, err := c.one(ctx, `SELECT g.number, g.position, CAST(g.changed AS INTEGER)
		FROM projections p JOIN generations g ON g.projection = p.name AND g.number = p.active WHERE p.name = ?`, []driver.Value{projection}, &number, &at, &changed)
	if err == nil && !built {
		err = projections.ErrNotBuilt
	}
	found.Ref = projections.Ref{Projection: projection, Number: int(number)}
	found.Position, found.Changed = eventstore.Position(at), eventstore.Position(changed)
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
	for column, value := range s.Terms() {
		name := quoted(column)
		if s.Path == nil && led {
			name = "+" + name
		}
		c.and(name+" = ?", value)
		led = true
	}
	if s.Rooms != nil {
		rooms, _ := json.Marshal(s.Rooms, jsontext.AllowInvalidUTF8(true)) // strings can always be encoded
		c.and(`room IN (SELECT value FROM json_each(?))`, string(rooms))
	}
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
func (f *file) page(ctx context.Context, c *connection, schema projections.Schema, s projections.Selection, found *projections.Found) (active bool, err error) {
	documents, err := f.documents(ctx, c, found.Ref, schema)
	if err != nil {
		return false, err
	}
	documents.likely = min(s.Limit, 256)
	text, args := pageQuery(found.Ref, s)
	found.Rows = make([]projections.Row, 0, documents.likely)
	err = c.query(ctx, text, args, func(v []driver.Value) {
		if at, ok := v[1].(int64); ok {
			active, found.Position = true, eventstore.Position(at)
		}
		found.Rows = append(found.Rows, projections.Row{Created: position(v[0]), Document: documents.read(v[2].(string))})
	})
	if s.Path != nil && isWithoutIndex(err) {
		s.Path = nil
		return f.page(ctx, c, schema, s, found)
	}
	return active, errors.Join(err, documents.err)
}

// none finds nothing.
const none = "SELECT 1 WHERE false"

// pageQuery selects created, the position of the generation if it is the active one, and the document. The page is materialized before the
// first row is returned, because that is as far as the driver lets a context interrupt a query.
func pageQuery(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	const position = `(SELECT g.position FROM projections p JOIN generations g ON g.projection = p.name AND g.number = p.active
		WHERE p.name = ? AND p.active = ?)`
	if s.Unordered {
		where := inStatuses(ref, s)
		args = append([]driver.Value{ref.Projection, int64(ref.Number)}, where.args...)
		return `SELECT created, ` + position + `, document` + source(ref, s) + where.sql.String() + ` LIMIT ?`, append(args, int64(s.Limit))
	}
	var rows string
	switch {
	case s.Path == nil:
		rows, args = inOrder(ref, s)
	case s.Path.Sort:
		rows, args = sorted(ref, s)
	default:
		rows, args = merged(ref, s)
	}
	if rows == "" {
		return none, nil
	}
	text = `WITH page AS MATERIALIZED (` + rows + orderBy(s.Order.Columns(), s) + ` LIMIT ?)
		SELECT d.created, ` + position + `, d.document FROM page CROSS JOIN ` + table(ref) + ` d ON d.created = page.created`
	return text, append(args, int64(s.Limit), ref.Projection, int64(ref.Number))
}

// inOrder finds the documents after the mark, in whatever way SQLite takes to be the best.
func inOrder(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	columns := s.Order.Columns()
	where := inStatuses(ref, s)
	if s.After != nil {
		where.after(list(columns), columns, s)
	}
	return `SELECT ` + list(columns) + ` FROM ` + table(ref) + where.sql.String(), where.args
}

// merged finds the documents after the mark by an index that has the order, in which those of each status are on their own. SQLite
// merges them while it reads. The text is empty if there can be none.
func merged(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	columns := s.Order.Columns()
	byStatus := s.Order.By == projections.ColumnStatus
	read := `SELECT ` + list(columns) + source(ref, s)
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
		parts = append(parts, read+where.sql.String())
		args = append(args, where.args...)
	}
	return strings.Join(parts, " UNION ALL "), args
}

// sorted finds the documents after the mark among the few that an index leads to. SQLite sorts what the index has of them.
func sorted(ref projections.Ref, s projections.Selection) (text string, args []driver.Value) {
	columns := s.Order.Columns()
	few := inStatuses(ref, s)
	var first condition
	if s.After != nil {
		first.after(list(columns), columns, s)
	}
	text = `SELECT created FROM (SELECT ` + list(columns) + source(ref, s) + few.sql.String() + ` LIMIT ?)` + first.sql.String()
	return text, append(append(few.args, int64(2*projections.MaxSorted)), first.args...)
}

// after is the condition that a document comes after the mark. Names are those of the columns.
func (c *condition) after(names string, columns []projections.Column, s projections.Selection) {
	values := make([]driver.Value, len(columns))
	for i, column := range columns {
		values[i] = s.After.Value(column)
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
