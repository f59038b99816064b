package projections

import "slices"

// schema has an index for each order that callers can sort by and for each key that they can filter by. Every index starts with the
// status, so the index by start also serves the order by status. A list that is read as a whole needs but one, in the order of its
// documents.
func (l list[D]) schema() Schema {
	if l.whole {
		return SchemaOf[D](Index{})
	}
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
			indexes = append(indexes, Index{o, covered(o)})
		}
	}
	return SchemaOf[D](indexes...)
}

// filters are the keys that callers can filter by, the most selective ones first. A booking that is the document itself needs no index.
func (l list[D]) filters() []Column {
	if l.aBooking {
		return []Column{ColumnUser, ColumnRoom}
	}
	return []Column{ColumnBooking, ColumnUser, ColumnRoom}
}

// covered are the columns by which documents may have to be filtered while they are read in an order.
func covered(o Order) []Column {
	switch {
	case o.By == ColumnBooking: // of which there are few
		return nil
	case !o.Start:
		return []Column{ColumnStart, ColumnEnd}
	case o.By == ColumnRoom:
		return []Column{ColumnEnd, ColumnUser}
	case o.By == ColumnUser:
		return []Column{ColumnEnd, ColumnRoom}
	default: // a range of time may also be sorted by these
		return []Column{ColumnEnd, ColumnRoom, ColumnUser}
	}
}

// indexed is the order of the index that has the documents of each single status in order o.
func indexed(o Order) Order {
	if o.By == ColumnStatus {
		o.By = ""
	}
	return o
}

// maxNarrow is the number of documents that may be read, and sorted, to answer any query.
const maxNarrow = 10_000

// plan says how to answer a selection.
type plan struct {
	// candidates are the paths to take if their range is narrow enough, the most promising first: maxNarrow documents, or MaxSorted for a
	// wide query.
	candidates []Path
	// path is the one to take otherwise. Unless the query is wide, it reads little more than the page: for each status a range of an
	// index that has the order asked for.
	path Path
	wide bool
	// count is the path to count by, unless a candidate is taken.
	count Path
}

// plan plans a selection that has statuses and no id.
func (l list[D]) plan(s Selection) plan {
	var p plan
	inTime := indexed(s.Order) == Order{Start: true}
	for _, key := range l.filters() {
		if s.Has(key) != "" {
			p.candidates = append(p.candidates, Path{Index: Order{By: key, Start: true}, Sort: !inTime})
		}
	}
	keys := len(p.candidates)
	window := s.From != nil || s.To != nil
	switch {
	case keys == 0 && (inTime || !window):
		p.path = Path{Index: indexed(s.Order)}
	case keys == 0:
		p.candidates = []Path{{Index: Order{Start: true}, Sort: true}}
		p.path, p.wide = Path{Index: indexed(s.Order)}, true
	case keys == 1 && inTime:
		p.path, p.candidates = p.candidates[0], nil
	case inTime:
		p.path, p.wide = p.candidates[0], true
	default:
		p.path, p.wide = Path{Index: indexed(s.Order)}, true
	}
	p.count = p.path
	if len(p.candidates) > 0 {
		p.count = p.candidates[0]
	}
	return p
}

// probe counts the range of a path, up to one more than max.
func (s Selection) probe(p Path, max int64) Selection {
	probe := Selection{Statuses: s.Statuses, From: s.From, To: s.To, Path: &p, Count: max + 1}
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

// fixed drops the order's By column if all selected documents have the same value in it, and adjusts the mark, which may come from a page
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
		s.After = nil // every selected document follows it
	} else {
		s.Limit = 0 // every selected document precedes it
	}
	return s
}
