package projections

import (
	"context"
	"slices"

	"roombook/domain"
	"roombook/eventstore"
)

// Projection is one of the lists: the events that it follows, how they become documents, and how documents are found.
type Projection struct {
	Name string
	// Version is incremented whenever the fold, the documents or the indexes change, which has the list rebuilt. Lists of older
	// versions can be read and kept in the meantime.
	Version int
	Filter  eventstore.Filter
	Schema  Schema
	// Sorts and Statuses are the values that a [Query] accepts, the default sort first.
	Sorts, Statuses []string

	// statuses are all status keys.
	statuses []string

	fold func(ctx context.Context, load loader, events []eventstore.Recorded) (folded, error)
	// concerned reports whether an event belongs to a document.
	concerned func(eventstore.Recorded) bool
	// keys are the keys of a document.
	keys func(document any) Keys
}

// All returns the projections of this program.
func All() []Projection {
	return []Projection{bookingList().projection(), roomUseList().projection(), notifications().projection(), roomList().projection()}
}

// Named returns the projection with a name.
func Named(name string) (Projection, bool) {
	all := All()
	i := slices.IndexFunc(all, func(p Projection) bool { return p.Name == name })
	if i < 0 {
		return Projection{}, false
	}
	return all[i], true
}

// ordering is an order under the name that callers know it by.
type ordering struct {
	name  string
	order Order
}

// filter is the filter of all lists. They share one, and thereby the reception of what is new; and each of them reaches the position of any
// of these events, whichever list it concerns. It selects the events of rooms by type, since their streams have many more of bookings.
func filter() eventstore.Filter {
	return eventstore.Filter{
		StreamPrefixes: []string{domain.BookingCategory + "-", domain.RealUseCategory + "-", domain.NotificationCategory + "-", domain.CalendarCategory + "-", domain.FaultsCategory + "-"},
		TypePrefixes:   []string{"Booking", "Confirm", "UseStarted", "UseEnded", "Notification", "Room", "Rules", "Period"},
	}
}

// list is a projection whose documents are of type D.
type list[D any] struct {
	name     string
	version  int
	aBooking bool       // the id of a document is the id of its booking
	whole    bool       // it is always read as a whole
	sorts    []ordering // the first one is the default
	statuses statuses
	key      func(eventstore.Recorded) (id string, first bool) // the id of the event's document, "" for none, and whether the event creates it
	fold     func(D, eventstore.Recorded) D
	equal    func(D, D) bool // whether two documents are the same
	status   func(D) string  // the status key of a document
}

func (l list[D]) projection() Projection {
	schema := l.schema()
	return Projection{
		Name:     l.name,
		Version:  l.version,
		Filter:   filter(),
		Schema:   schema,
		Sorts:    l.sortNames(),
		Statuses: l.statuses.all,
		statuses: l.statuses.every(),
		fold: func(ctx context.Context, load loader, events []eventstore.Recorded) (folded, error) {
			return l.foldBatch(ctx, schema, load, events)
		},
		concerned: func(r eventstore.Recorded) bool {
			id, _ := l.key(r)
			return id != ""
		},
		keys: func(document any) Keys { return l.keys(schema, document.(*D)) },
	}
}

func (l list[D]) keys(schema Schema, document *D) Keys {
	k := schema.Keys(document)
	k.Status = l.status(*document)
	return k
}

func equal[D comparable](a, b D) bool { return a == b }

// loader loads stored documents by id.
type loader func(ctx context.Context, ids []string) ([]Row, error)

// folded is the result of folding a batch.
type folded struct {
	rows    []Row               // the documents that changed
	last    eventstore.Position // of the last event that belongs to a document, which others may have folded before; 0 for none
	longest int64               // the greatest End-Start of all documents that the batch concerns
	skipped int                 // the number of events that this program cannot decode
}

// foldBatch folds events, in log order, into their documents. It loads documents first, except those that are created within the batch.
// It skips events at or below the position of their document, which contains them already, and events of a document whose first event
// could not be decoded.
func (l list[D]) foldBatch(ctx context.Context, schema Schema, load loader, events []eventstore.Recorded) (folded, error) {
	type entry struct {
		row            Row
		document       D
		begun, changed bool
	}
	var (
		out     folded
		missing []string
		concern = make([]*entry, len(events)) // the document of each event
		byID    = make(map[string]*entry, len(events))
		ordered = make([]*entry, 0, len(events))
		entries = make([]entry, 0, len(events))
	)
	for i, r := range events {
		if r.Event == nil {
			out.skipped++
			continue
		}
		id, first := l.key(r)
		if id == "" {
			continue
		}
		e := byID[id]
		if e == nil {
			entries = append(entries, entry{row: Row{ID: id}})
			e = &entries[len(entries)-1]
			byID[id] = e
			ordered = append(ordered, e)
			if !first {
				missing = append(missing, id)
			}
		}
		if first && !e.begun && e.row.Created == 0 {
			e.row.Created = r.Position
		}
		concern[i], out.last = e, r.Position
	}

	if len(missing) > 0 {
		rows, err := load(ctx, missing)
		if err != nil {
			return out, err
		}
		for _, row := range rows {
			e := byID[row.ID]
			if e == nil {
				continue
			}
			e.document = *row.Document.(*D)
			e.row.Created, e.row.Position = row.Created, row.Position
			e.row.Loaded, e.begun = true, true
		}
	}

	for i, r := range events {
		e := concern[i]
		if e == nil || r.Position <= e.row.Position {
			continue
		}
		if !e.begun {
			if r.Position != e.row.Created {
				continue
			}
			e.begun = true
		}
		next := l.fold(e.document, r)
		if l.equal(next, e.document) {
			continue
		}
		e.document = next
		e.row.Position = r.Position
		e.changed = true
	}

	for _, e := range ordered {
		if !e.begun {
			continue
		}
		document := e.document
		keys := l.keys(schema, &document)
		out.longest = max(out.longest, keys.End-keys.Start)
		if e.changed {
			e.row.Status, e.row.Document = keys.Status, &document
			out.rows = append(out.rows, e.row)
		}
	}
	return out, nil
}
