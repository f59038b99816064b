package mongo

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"roombook/projections"
)

// keys are the fields of an index or a sort. Columns that have no field are left out.
func (f form) keys(columns []projections.Column, direction int) bson.D {
	d := make(bson.D, 0, len(columns))
	for _, c := range columns {
		if name := f.name(c); name != "" {
			d = append(d, bson.E{Key: name, Value: direction})
		}
	}
	return d
}

// and is the conjunction of terms, which may name the same field.
func and(terms []bson.D) bson.D {
	switch len(terms) {
	case 0:
		return bson.D{}
	case 1:
		return terms[0]
	}
	return bson.D{{Key: "$and", Value: terms}}
}

func is(field string, relation string, value any) bson.D {
	return bson.D{{Key: field, Value: bson.D{{Key: relation, Value: value}}}}
}

func (f form) filter(g projections.Generation, s projections.Selection) []bson.D {
	var terms []bson.D
	for column, value := range s.Terms() {
		terms = append(terms, bson.D{{Key: f.name(column), Value: value}})
	}
	if s.Rooms != nil {
		terms = append(terms, is(f.name(projections.ColumnRoom), "$in", s.Rooms))
	}
	switch len(s.Statuses) {
	case 0:
	case 1:
		terms = append(terms, bson.D{{Key: f.name(projections.ColumnStatus), Value: s.Statuses[0]}})
	default:
		terms = append(terms, is(f.name(projections.ColumnStatus), "$in", s.Statuses))
	}
	start, end := f.name(projections.ColumnStart), f.name(projections.ColumnEnd)
	switch {
	case s.From == nil:
	case end == "": // the documents are about instants
		terms = append(terms, is(start, "$gt", f.time(*s.From-1)))
	default:
		terms = append(terms, is(start, "$gt", f.time(*s.From-g.Longest)), is(end, "$gt", f.time(*s.From)))
	}
	if s.To != nil {
		terms = append(terms, is(start, "$lte", f.time(*s.To-1)))
	}
	return terms
}

// after is the condition that a document follows a mark: it is greater in the first field in which they differ. The redundant bound on
// the first field lets MongoDB start at the right place of the index.
func (f form) after(o projections.Order, direction int, m projections.Mark) []bson.D {
	beyond, bound := "$gt", "$gte"
	if direction < 0 {
		beyond, bound = "$lt", "$lte"
	}
	var at bson.D // the mark
	for _, c := range o.Columns() {
		value := m.Value(c)
		if c == projections.ColumnStart {
			value = f.time(m.Start)
		}
		at = append(at, bson.E{Key: f.name(c), Value: value})
	}
	if len(at) == 1 {
		return []bson.D{is(at[0].Key, beyond, at[0].Value)}
	}
	ways := make(bson.A, len(at))
	for i, field := range at {
		ways[i] = append(at[:i:i], bson.E{Key: field.Key, Value: bson.D{{Key: beyond, Value: field.Value}}})
	}
	return []bson.D{is(at[0].Key, bound, at[0].Value), {{Key: "$or", Value: ways}}}
}
