package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"

	"roombook/eventstore"
)

// Store keeps the documents of projections, in generations, and a pointer for each projection that names the active one.
// Package storetest holds every Store to what is written here. All methods may be called from any goroutine and by several
// processes at once; all leave when their context ends, with an error that wraps its cause. Other errors mean that the store
// did not do what was asked, or (of Write, Activate and Drop) that its outcome is unknown; all of these may be tried again.
type Store interface {
	// State says what there is of a projection. A projection that was never begun has the zero State.
	State(ctx context.Context, projection string) (State, error)

	// Begin makes an empty generation, with a number greater than any that the projection ever had, and its indexes.
	Begin(ctx context.Context, projection string, version int, schema Schema) (Generation, error)

	// Ensure makes those indexes of a generation that are missing.
	Ensure(ctx context.Context, ref Ref, schema Schema) error

	// Load reads documents by id, in any order, leaving out those that are not there. Of the rows ID, Created, Position and Document
	// are set. ErrForeign means that one of them is no document of the list.
	Load(ctx context.Context, ref Ref, schema Schema, ids []string) ([]Row, error)

	// Write stores documents and then, never before, raises the generation's checkpoint. A document that the store has at the
	// same or a later position is left as it is: that is not an error. No part of a checkpoint goes backwards, and an event stays with
	// its position. The ids are distinct. What was written is what Load and State then find, in whatever process.
	// ErrRetired means that the generation is not there any more, or that a later one is active; then some of the
	// documents may have been written, which does no harm, and the checkpoint was not.
	Write(ctx context.Context, ref Ref, schema Schema, rows []Row, checkpoint Checkpoint) error

	// Activate points a projection at another generation, if it still points at the one named by from (0: at none) and if
	// the new one's checkpoint is not behind the old one's. ErrFlipped means that it points elsewhere, or that the new generation is not
	// there; ErrNotCaughtUp that it is behind. All or nothing; readers see either the old generation or the new one. An old
	// checkpoint that does not say which event it is at is not compared.
	Activate(ctx context.Context, projection string, from, to int) error

	// Drop removes a generation and its documents. The active one is not removed: ErrActive. What is not there is no error.
	Drop(ctx context.Context, ref Ref) error

	// Discard removes a generation and its documents even if it is the active one: then the projection has none. What is not there
	// is no error.
	Discard(ctx context.Context, ref Ref) error

	// Find reads documents of the active generation. What it finds is at least as new as the position that it returns with
	// them. ErrNotBuilt means that no generation is active, ErrForeign that something that is no document of the list was found.
	Find(ctx context.Context, projection string, schema Schema, s Selection) (Found, error)

	// Scan reads the documents of a generation in the order of Created, those after a position, and also what is no document, see
	// Row.Foreign. It returns fewer than limit only if there are no more.
	Scan(ctx context.Context, ref Ref, schema Schema, after eventstore.Position, limit int) ([]Row, error)

	// Ping reports whether the store answers.
	Ping(ctx context.Context) error

	// Close lets go of everything. It is idempotent.
	Close() error
}

var (
	// ErrRetired means that a generation is not to be written any more.
	ErrRetired = errors.New("the generation is retired")
	// ErrFlipped means that a projection does not point where it was expected to.
	ErrFlipped = errors.New("another generation was made active meanwhile")
	// ErrNotCaughtUp means that a generation is behind the one that it is to replace.
	ErrNotCaughtUp = errors.New("the generation is behind the active one")
	// ErrActive means that a generation is the one that readers see.
	ErrActive = errors.New("the generation is active")
	// ErrNotBuilt means that a projection has no active generation yet.
	ErrNotBuilt = errors.New("the list has not been built yet")
	// ErrForeign means that something else is stored in the place of a document: no program of this kind has written it.
	ErrForeign = errors.New("no document of the list")
)

// Ref names a generation of a projection.
type Ref struct {
	Projection string
	Number     int // from 1
}

// String is the name of the table or collection that holds the generation's documents.
func (r Ref) String() string { return fmt.Sprintf("%s_g%d", r.Projection, r.Number) }

// State is what there is of a projection.
type State struct {
	Active      int // the generation that readers see; 0 for none
	Generations []Generation
}

// Generation finds a generation by its number.
func (s State) Generation(number int) (Generation, bool) {
	for _, g := range s.Generations {
		if g.Number == number {
			return g, true
		}
	}
	return Generation{}, false
}

// Generation is one making of a projection.
type Generation struct {
	Ref
	// Version is that of the code that made it.
	Version int
	Checkpoint
	// Writes grows with every write, and with nothing else: who sees it grow knows that somebody writes.
	Writes int64
	// Dropped reports that it is half removed, which Drop finishes.
	Dropped bool
}

// Checkpoint says how far a generation is.
type Checkpoint struct {
	// Position is that of the last event of the projection's streams that was folded, and Event is its id: together they say of what
	// log the generation was made. Event is zero where that was not noted.
	Position eventstore.Position
	Event    uuid.UUID
	// Considered is an event further on, if there is one, up to which the log has no other event of the projection's streams. It spares
	// a restart reading what other streams have.
	Considered Point
	// Longest is the greatest End-Start, in microseconds, that a document ever had. It bounds the search for what overlaps a time.
	Longest int64
}

// Last is the last event that was folded.
func (c Checkpoint) Last() Point { return Point{c.Position, c.Event} }

// Point is an event of a log.
type Point struct {
	Position eventstore.Position
	Event    uuid.UUID
}

// String is a text that grows with the position, for stores to keep and compare.
func (p Point) String() string { return fmt.Sprintf("%020d %s", p.Position, p.Event) }

// ParsePoint is the point of a text that String made, and the zero Point of any other.
func ParsePoint(text string) Point {
	var p Point
	var event string
	if _, err := fmt.Sscanf(text, "%d %s", &p.Position, &event); err != nil {
		return Point{}
	}
	id, err := uuid.Parse(event)
	if err != nil {
		return Point{}
	}
	p.Event = id
	return p
}

// Row is a document with what a store keeps beside it.
type Row struct {
	ID string
	// Created is the position of the event that the document began with. No two documents of a projection have the same, so that
	// it settles the order of documents that are otherwise equal, in every generation alike.
	Created eventstore.Position
	// Position is that of the last event that changed the document.
	Position eventstore.Position
	// Status is what the document is found by as its status: it may tell more than the document's own.
	Status string
	// Document is a pointer to a struct of the type that the Schema names.
	Document any
	// Loaded is a hint to Write: the document is likely to be in the store already.
	Loaded bool
	// Foreign is what Scan found in the place of a document, and then Document is nil: something that a store would not have written.
	Foreign string
}

// Keys are what documents are filtered and ordered by.
type Keys struct {
	Booking string // empty where it is the document's own id
	Room    string
	User    string
	Status  string
	// Start and End are the time that the document is about, [Start, End), in microseconds since 1970.
	Start, End int64
}

// Column names a key, or what a store keeps beside a document.
type Column string

const (
	ColumnID      Column = "id"
	ColumnBooking Column = "booking"
	ColumnRoom    Column = "room"
	ColumnUser    Column = "user"
	ColumnStatus  Column = "status"
	ColumnStart   Column = "start"
	ColumnEnd     Column = "end"
	ColumnCreated Column = "created"
)

// Order is an order of documents: by a column if one is named, then by Start if that is asked for, then by Created.
type Order struct {
	By    Column // one of the keys' texts; empty for none
	Start bool
}

// Columns are those of the order.
func (o Order) Columns() []Column {
	columns := make([]Column, 0, 3)
	if o.By != "" {
		columns = append(columns, o.By)
	}
	if o.Start {
		columns = append(columns, ColumnStart)
	}
	return append(columns, ColumnCreated)
}

// Index is an order in which the documents of each status can be read: it has the status, then the columns of the order. So documents
// of several statuses are the merge of as many parts of it.
type Index struct {
	Order
	// Beside are columns that it has as well, so that documents that are not wanted need not be looked at.
	Beside []Column
}

// Columns are those of the index.
func (i Index) Columns() []Column {
	return slices.Concat([]Column{ColumnStatus}, i.Order.Columns(), i.Beside)
}

// Mark is a document's place in an order.
type Mark struct {
	By      string              `json:"b,omitzero"` // the value of the order's column, if it has one
	Start   int64               `json:"t,omitzero"` // if the order has it
	Created eventstore.Position `json:"c"`
}

// In is the mark's value in a column of its order: a whole number or a text.
func (m Mark) In(c Column) any {
	switch c {
	case ColumnStart:
		return m.Start
	case ColumnCreated:
		return int64(m.Created)
	default:
		return m.By
	}
}

// Mark is the place that a document with these keys has in the order.
func (o Order) Mark(k Keys, created eventstore.Position) Mark {
	m := Mark{Created: created}
	switch o.By {
	case ColumnBooking:
		m.By = k.Booking
	case ColumnRoom:
		m.By = k.Room
	case ColumnUser:
		m.By = k.User
	case ColumnStatus:
		m.By = k.Status
	}
	if o.Start {
		m.Start = k.Start
	}
	return m
}

// Selection says which documents are looked for.
type Selection struct {
	// ID, Booking, Room and User, where not empty, are what the documents must have.
	ID, Booking, Room, User string
	// Statuses, where there are any, are those that the documents may have.
	Statuses []string
	// From and To, where not nil, leave the documents with Start < To and End > From.
	From, To *int64

	Order      Order
	Descending bool  // of the whole order
	After      *Mark // nil for the beginning; otherwise what follows it in the order and direction given
	// Limit is the most documents to be found; 0 for none at all.
	Limit int
	// Count asks for the number of documents, without regard to After and Limit, and is the most that are counted; 0 for none at all.
	Count int64
	// Path says how the documents are found; nil is as the store likes. It asks for Statuses.
	Path *Path
}

// Path leads to the documents of a Selection.
type Path struct {
	// Index is that of an index of the Schema. If the Selection has a value for its By, only the documents with that are read, and if
	// Start comes next, only those that From and To leave.
	Index Order
	// Sort means that Index does not have the order of the Selection, so that all that it leads to are read, and sorted. Whoever sets it
	// knows of no more than MaxSorted; the store may pass over what is beyond twice as many.
	Sort bool
}

// MaxSorted is the most documents that are sorted to answer a query: a wide one, see [QueryOptions].
const MaxSorted = 100_000

// Has is the value that the documents of a Selection must have in a column; empty for any.
func (s Selection) Has(c Column) string {
	switch c {
	case ColumnID:
		return s.ID
	case ColumnBooking:
		return s.Booking
	case ColumnRoom:
		return s.Room
	case ColumnUser:
		return s.User
	}
	return ""
}

// Terms are the columns in which the documents of a Selection must have a value, and that, those first that usually leave the fewest
// documents.
func (s Selection) Terms() iter.Seq2[Column, string] {
	return func(yield func(Column, string) bool) {
		for _, c := range [...]Column{ColumnID, ColumnBooking, ColumnUser, ColumnRoom} {
			if value := s.Has(c); value != "" && !yield(c, value) {
				return
			}
		}
	}
}

// Leads reports whether the column is one that the index of the path finds documents by, besides the status.
func (s Selection) Leads(c Column) bool {
	index := s.Path.Index
	if c == ColumnStart {
		return index.Start && (index.By == "" || s.Has(index.By) != "")
	}
	return c == index.By
}

// Found is what a Selection found. Of its rows only Created and Document are set.
type Found struct {
	Ref      Ref                 // the generation in which it was found
	Position eventstore.Position // of its checkpoint, before the rows were read
	Rows     []Row
	Count    int64
}
