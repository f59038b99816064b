package mongo

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"roombook/projections"
)

// keys are the fields of an index or a sort.
func keys(columns []projections.Column, direction int) bson.D {
	d := make(bson.D, len(columns))
	for i, c := range columns {
		d[i] = bson.E{Key: string(c), Value: direction}
	}
	return d
}

// and is the condition that all terms hold. Terms may name the same field.
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

func filter(g projections.Generation, s projections.Selection) []bson.D {
	var terms []bson.D
	equal := func(field, value string) {
		if value != "" {
			terms = append(terms, bson.D{{Key: field, Value: value}})
		}
	}
	equal("_id", s.ID)
	equal("booking", s.Booking)
	equal("user", s.User)
	equal("room", s.Room)
	switch len(s.Statuses) {
	case 0:
	case 1:
		equal("status", s.Statuses[0])
	default:
		terms = append(terms, is("status", "$in", s.Statuses))
	}
	if s.From != nil {
		terms = append(terms, is("start", "$gt", *s.From-g.Longest), is("end", "$gt", *s.From))
	}
	if s.To != nil {
		terms = append(terms, is("start", "$lt", *s.To))
	}
	return terms
}

// after is the condition that a document comes after a mark: it is beyond in the first field in which it differs. The bound on
// the first field alone follows from that, and is what an index begins with.
func after(o projections.Order, direction int, m projections.Mark) []bson.D {
	beyond, bound := "$gt", "$gte"
	if direction < 0 {
		beyond, bound = "$lt", "$lte"
	}
	var at bson.D // the mark
	if o.By != "" {
		at = append(at, bson.E{Key: string(o.By), Value: m.By})
	}
	if o.Start {
		at = append(at, bson.E{Key: "start", Value: m.Start})
	}
	at = append(at, bson.E{Key: "created", Value: int64(m.Created)})
	if len(at) == 1 {
		return []bson.D{is(at[0].Key, beyond, at[0].Value)}
	}
	ways := make(bson.A, len(at))
	for i, field := range at {
		ways[i] = append(at[:i:i], bson.E{Key: field.Key, Value: bson.D{{Key: beyond, Value: field.Value}}})
	}
	return []bson.D{is(at[0].Key, bound, at[0].Value), {{Key: "$or", Value: ways}}}
}
