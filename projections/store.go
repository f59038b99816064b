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

// Store keeps the documents of projections in generations, and for each projection a pointer to the active generation.
// Package storetest checks every implementation against this contract. Methods may be called concurrently, from any number of
// goroutines and processes. When its context ends a method returns early with an error that wraps the context's cause. Any other error
// means that the operation failed or, for Write, Activate and Drop, that its outcome is unknown; all of them are safe to retry.
// Methods that take a Schema expect the same one for all calls that concern a generation.
type Store interface {
	// State returns the generations of a projection and which one is active: the zero State if there never was one.
	State(ctx context.Context, projection string) (State, error)

	// Begin creates an empty generation and its indexes. Its number is greater than any that the projection ever had.
	Begin(ctx context.Context, projection string, version int, schema Schema) (Generation, error)

	// Ensure creates the indexes that a generation lacks.
	Ensure(ctx context.Context, ref Ref, schema Schema) error

	// Load reads documents by id, in no particular order, and omits those that do not exist. It sets ID, Created, Position and
	// Document of each row. It returns ErrForeign if what is stored under one of the ids is not a document.
	Load(ctx context.Context, ref Ref, schema Schema, ids []string) ([]Row, error)

	// Write stores documents, whose ids are distinct, and after that raises the generation's checkpoint. It skips a document that is
	// already stored at the same or a later position, without an error. No part of a checkpoint ever decreases, and Event stays paired
	// with Position. Once Write has returned, Load and State see its effect in every process.
	// It returns ErrRetired if the generation is gone or a later one is active. Some documents may have been written then, which is
	// harmless; the checkpoint was not.
	Write(ctx context.Context, ref Ref, schema Schema, rows []Row, checkpoint Checkpoint) error

	// WriteAll is Write for generations of several projections, in one transaction if the store has them. It returns an error or nil for
	// each, and one that fails keeps no other from being written.
	WriteAll(ctx context.Context, all []Update) []error

	// Activate atomically makes generation to the active one, if generation from is active (0: none) and the checkpoint of to is not
	// behind that of from. It returns ErrFlipped if another generation is active or to does not exist, and ErrNotCaughtUp if to is
	// behind. A checkpoint of from without an Event is not compared.
	Activate(ctx context.Context, projection string, from, to int) error

	// Drop removes a generation and its documents. It returns ErrActive for the active one, and nil if there is no such generation.
	Drop(ctx context.Context, ref Ref) error

	// Discard removes a generation and its documents even if it is active; the projection then has no active generation. It returns nil
	// if there is no such generation.
	Discard(ctx context.Context, ref Ref) error

	// Find reads documents of the active generation. The result includes every write up to the position that it returns. It returns
	// ErrNotBuilt if no generation is active, and ErrForeign if it comes across something that is not a document.
	Find(ctx context.Context, projection string, schema Schema, s Selection) (Found, error)

	// Scan reads the documents of a generation whose Created is greater than after, in the order of Created, and also what is not a
	// document, see Row.Foreign. It returns fewer than limit rows only at the end.
	Scan(ctx context.Context, ref Ref, schema Schema, after eventstore.Position, limit int) ([]Row, error)

	// Ping returns an error unless the store responds.
	Ping(ctx context.Context) error

	// Close releases all resources. It is idempotent.
	Close() error
}

var (
	// ErrRetired means that a generation must no longer be written to.
	ErrRetired = errors.New("the generation is retired")
	// ErrFlipped means that another generation is active than the caller expected.
	ErrFlipped = errors.New("another generation was made active meanwhile")
	// ErrNotCaughtUp means that a generation is behind the one that it is to replace.
	ErrNotCaughtUp = errors.New("the generation is behind the active one")
	// ErrActive means that a generation cannot be dropped because it is the active one.
	ErrActive = errors.New("the generation is active")
	// ErrNotBuilt means that a projection has no active generation yet.
	ErrNotBuilt = errors.New("the list has not been built yet")
	// ErrForeign means that something is stored in place of a document that no version of this program has written.
	ErrForeign = errors.New("not a document of the list")
)

// Ref names a generation of a projection.
type Ref struct {
	Projection string
	Number     int // from 1
}

// String is the name of the table or collection of the generation.
func (r Ref) String() string { return fmt.Sprintf("%s_g%d", r.Projection, r.Number) }

// State describes a projection.
type State struct {
	Active      int // the number of the generation that readers see; 0 for none
	Generations []Generation
}

// Generation returns the generation with a number.
func (s State) Generation(number int) (Generation, bool) {
	for _, g := range s.Generations {
		if g.Number == number {
			return g, true
		}
	}
	return Generation{}, false
}

// Generation is one build of a projection.
type Generation struct {
	Ref
	// Version is the version of the projection that built it.
	Version int
	Checkpoint
	// Writes increases with every write and at no other time, so that others can tell whether the generation is still written to.
	Writes int64
	// Dropped means that Drop was interrupted. Calling it again completes it.
	Dropped bool
}

// Checkpoint says how much of the log a generation contains.
type Checkpoint struct {
	// Position is the position of the last event folded, and Event is its id. Together they identify the log that the generation was
	// built from. Event is zero if it is not known.
	Position eventstore.Position
	Event    uuid.UUID
	// Considered is a later event up to which the log has no further events of the projection's streams; zero if there is none. After a
	// restart reading continues there.
	Considered Point
	// Changed is the position of the last event that may have changed a document. As long as it stays, so do all documents.
	Changed eventstore.Position
	// Longest is the greatest End-Start, in microseconds, that any document ever had. It bounds searches for what overlaps a time.
	Longest int64
}

// Last is the last event folded.
func (c Checkpoint) Last() Point { return Point{c.Position, c.Event} }

// Update is what is written to a generation at once.
type Update struct {
	Ref
	Schema     Schema
	Rows       []Row
	Checkpoint Checkpoint
}

// Point is an event of a log.
type Point struct {
	Position eventstore.Position
	Event    uuid.UUID
}

// String encodes the point so that stores can keep it as text; texts compare as their positions do.
func (p Point) String() string { return fmt.Sprintf("%020d %s", p.Position, p.Event) }

// ParsePoint decodes what String has encoded. It returns the zero Point for any other text.
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

// Row is a document and its bookkeeping.
type Row struct {
	ID string
	// Created is the position of the event that created the document. It is unique within a projection and the same in every
	// generation, and breaks ties in every order.
	Created eventstore.Position
	// Position is the position of the last event that changed the document.
	Position eventstore.Position
	// Status is the status key that queries select the document by. It may say more than the status that the document shows.
	Status string
	// Document is a pointer to a struct of the Schema's type.
	Document any
	// Loaded is a hint to Write that the document is probably stored already.
	Loaded bool
	// Foreign is set by Scan if what is stored is not what a store writes: it is then that, as text, and Document is nil.
	Foreign string
}

// Keys are the values that queries filter and sort by.
type Keys struct {
	Booking string // empty if the booking is the document's own id
	Room    string
	User    string
	Status  string
	// Start and End are the time that the document is about, the half-open interval [Start, End), in microseconds since 1970.
	Start, End int64
}

// Column names a key or a part of a document's bookkeeping.
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

// Order is a sort order: by a column if there is one, then by Start if that is set, then by Created.
type Order struct {
	By    Column // a key that is a text; empty for none
	Start bool
}

// Columns are the columns to sort by.
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

// Index is an index on the status and then on the columns of an order, so that the documents of one status can be read in that order, and
// those of several by merging one range for each.
type Index struct {
	Order
	// Covered are further columns of the index, by which documents are filtered without being read.
	Covered []Column
}

// Columns are the columns of the index.
func (i Index) Columns() []Column {
	return slices.Concat([]Column{ColumnStatus}, i.Order.Columns(), i.Covered)
}

// Mark is a position in an order: that of a document.
type Mark struct {
	By      string              `json:"b,omitzero"` // the value in the order's By column
	Start   int64               `json:"t,omitzero"` // if the order includes it
	Created eventstore.Position `json:"c"`
}

// Value is the mark's value in a column of the order: an int64 or a string.
func (m Mark) Value(c Column) any {
	switch c {
	case ColumnStart:
		return m.Start
	case ColumnCreated:
		return int64(m.Created)
	default:
		return m.By
	}
}

// Mark is the position in the order of a document with these keys.
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

// Selection says which documents to find, and in what order.
type Selection struct {
	// ID, Booking, Room and User select documents with these values; empty selects any.
	ID, Booking, Room, User string
	// Rooms selects documents of any of these rooms; nil selects any.
	Rooms []string
	// Statuses selects documents with one of these status keys; none selects any.
	Statuses []string
	// From and To select documents with Start < To and End > From; nil leaves that side open.
	From, To *int64

	Order Order
	// Unordered leaves the order to the store, which then need not sort. After must be nil.
	Unordered  bool
	Descending bool  // reverses the whole order
	After      *Mark // selects what follows it, in the order and direction given; nil starts at the beginning
	// Limit is the maximum number of documents to return; 0 returns none.
	Limit int
	// Count asks for the number of documents that match, regardless of After and Limit, and caps it; 0 does not count.
	Count int64
	// Path says how to find the documents, which requires Statuses; nil leaves it to the store.
	Path *Path
}

// Path says by which index to find the documents of a Selection.
type Path struct {
	// Index is the order of an index of the Schema. If the Selection has a value for its By column, only the range with that value is read;
	// if Start comes next, only what From and To select of it.
	Index Order
	// Sort means that the index does not provide the order of the Selection: everything in the range is read and sorted. The caller has
	// made sure that there are no more than MaxSorted documents; a store may stop reading at twice that number.
	Sort bool
}

// MaxSorted is the maximum number of documents that are sorted to answer a wide query, see [QueryOptions].
const MaxSorted = 100_000

// Has is the value that a Selection requires in a column; empty for any.
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

// Terms are the columns in which a Selection requires a value, and the values, the most selective ones first.
func (s Selection) Terms() iter.Seq2[Column, string] {
	return func(yield func(Column, string) bool) {
		for _, c := range [...]Column{ColumnID, ColumnBooking, ColumnUser, ColumnRoom} {
			if value := s.Has(c); value != "" && !yield(c, value) {
				return
			}
		}
	}
}

// Leads reports whether the range of the path's index is bounded by a column, besides the status.
func (s Selection) Leads(c Column) bool {
	index := s.Path.Index
	if c == ColumnStart {
		return index.Start && (index.By == "" || s.Has(index.By) != "" || index.By == ColumnRoom && s.Rooms != nil)
	}
	return c == index.By
}

// Found is the result of a Selection. Only Created and Document of its rows are set.
type Found struct {
	Ref      Ref                 // the generation that was read
	Position eventstore.Position // of the generation's checkpoint, read before the rows
	Changed  eventstore.Position // likewise, if the Limit is 0
	Rows     []Row
	Count    int64
}
