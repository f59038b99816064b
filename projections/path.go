package projections

import "slices"

// schema has an index for each order that callers can ask for, and for each key that they can filter by. Orders by the status come with
// those by the start, since every index begins with the status.
func (l list[D]) schema() Schema {
	orders := []Order{{Start: true}}
	for _, s := range l.sorts {
		orders = append(orders, indexed(s.order))
	}
	for _, key := range l.filters() {
		orders = append(orders, Order{By: key, Start: true})
	}
	var indexes []Index
	for _, o := range orders {
		if !slices.ContainsFunc(indexes, func(i Index) bool { return i.Order == o }) {
			indexes = append(indexes, Index{o, beside(o)})
		}
	}
	return SchemaOf[D](indexes...)
}

// filters are the keys that are filtered by, those first that usually leave the fewest documents. A booking that is the document itself
// needs no index.
func (l list[D]) filters() []Column {
	if l.aBooking {
		return []Column{ColumnUser, ColumnRoom}
	}
	return []Column{ColumnBooking, ColumnUser, ColumnRoom}
}

// beside are the columns that documents are filtered by while they are read in an order. A booking has few of them.
func beside(o Order) []Column {
	switch {
	case o.By == ColumnBooking:
		return nil
	case !o.Start:
		return []Column{ColumnStart, ColumnEnd}
	case o.By == ColumnRoom:
		return []Column{ColumnEnd, ColumnUser}
	case o.By == ColumnUser:
		return []Column{ColumnEnd, ColumnRoom}
	default: // what a time has is also sorted by these
		return []Column{ColumnEnd, ColumnRoom, ColumnUser}
	}
}

// indexed is the order of the index in which documents of one status are in an order.
func indexed(o Order) Order {
	if o.By == ColumnStatus {
		o.By = ""
	}
	return o
}

// few is the number of documents that are read, and if need be sorted, for every query without further ado.
const few = 10_000

// way says how a selection is answered.
type way struct {
	// narrow are the paths that answer it if they lead to few documents, the likeliest first; or to no more than MaxSorted, if it is wide.
	narrow []Path
	// path is the one that answers it otherwise. Unless it is wide, it reads little more than what the page has: a part of an index for
	// each status, in the order asked for.
	path Path
	wide bool
	// count is the path to count by, unless one of the narrow ones is taken.
	count Path
}

// way finds how a selection is answered that has statuses and no id.
func (l list[D]) way(s Selection) way {
	var w way
	inTime := indexed(s.Order) == Order{Start: true}
	for _, key := range l.filters() {
		if s.Has(key) != "" {
			w.narrow = append(w.narrow, Path{Index: Order{By: key, Start: true}, Sort: !inTime})
		}
	}
	keys := len(w.narrow)
	window := s.From != nil || s.To != nil
	switch {
	case keys == 0 && (inTime || !window):
		w.path = Path{Index: indexed(s.Order)}
	case keys == 0:
		w.narrow = []Path{{Index: Order{Start: true}, Sort: true}}
		w.path, w.wide = Path{Index: indexed(s.Order)}, true
	case keys == 1 && inTime:
		w.path, w.narrow = w.narrow[0], nil
	case inTime:
		w.path, w.wide = w.narrow[0], true
	default:
		w.path, w.wide = Path{Index: indexed(s.Order)}, true
	}
	w.count = w.path
	if len(w.narrow) > 0 {
		w.count = w.narrow[0]
	}
	return w
}

// probe selects what a path reads, to count it.
func (s Selection) probe(p Path, most int64) Selection {
	probe := Selection{Statuses: s.Statuses, From: s.From, To: s.To, Path: &p, Count: most + 1}
	switch p.Index.By {
	case ColumnBooking:
		probe.Booking = s.Booking
	case ColumnRoom:
		probe.Room = s.Room
	case ColumnUser:
		probe.User = s.User
	}
	return probe
}

// fixed leaves out of the order what is the same in all documents that are selected, and sets the mark accordingly: it may be from pages
// of other documents.
func (s Selection) fixed() Selection {
	value := s.Has(s.Order.By)
	if value == "" {
		return s
	}
	s.Order.By = ""
	if s.After == nil || s.After.By == value {
		return s
	}
	if (s.After.By < value) != s.Descending {
		s.After = nil // the documents all come after it
	} else {
		s.Limit = 0 // and these before it
	}
	return s
}
