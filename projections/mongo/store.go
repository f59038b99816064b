// Package mongo keeps the documents of projections in MongoDB, a replica set in production.
//
// Three ideas:
//
//   - A generation is a collection. A document has the fields of the list as replies name them, texts, numbers and dates, and leaves
//     out those that have nothing to say; its _id is that of the booking or notification. What the store keeps beside them is under the one
//     name _roombook: the positions of the events with which the document began and changed last, and what it is found by as its status
//     where that tells more than the field. A validator keeps others from writing anything else, where the server has validators (FerretDB 1
//     has none).
//   - All that is known about a projection is one document of the collection projections: its pointer, and for each generation how far it
//     is. MongoDB changes a document atomically, so that a flip, or a checkpoint that finds its generation retired, needs no transaction.
//   - Documents are written in bulk, each by an upsert that asks for an older document: one that is newer is not found, so that the
//     upsert wants to insert and meets the _id that is there. That error is the guard at work. The checkpoint follows once all
//     documents are written; what is between the two when a worker dies is written again and meets the guard.
//
// Programs before these kept a document as one JSON text. Their lists are read, and kept as they are, until they have been made anew. They
// do not take the new ones for theirs: the document in projections is none to them once one is active.
//
// Writes are acknowledged by a majority, and reads are of what a majority has, from the primary.
package mongo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"roombook/eventstore"
	"roombook/projections"
)

const (
	// DefaultDatabase is used where the address names none.
	DefaultDatabase = "roombook"
	// timeout bounds an operation whose context has no end of its own.
	timeout = 10 * time.Second
	// serverSelection is how long a server is looked for that can be asked, unless the address says less. While there is none, queries
	// fail after that time, and workers try again.
	serverSelection = 2 * time.Second
)

// Store is a [projections.Store] in a MongoDB database.
type Store struct {
	client      *mongo.Client
	database    *mongo.Database
	projections *mongo.Collection
	close       func() error
	// texts are the generations that were last seen to be of documents that are texts, or not to be, by projections.Ref.
	texts sync.Map
}

var _ projections.Store = (*Store)(nil)

// Open takes the address of a server or a replica set, mongodb://host/database. It does no I/O.
func Open(uri string) (*Store, error) {
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		return nil, fmt.Errorf("the address of MongoDB: %w", err)
	}
	name := address.Database
	if name == "" {
		name = DefaultDatabase
	}
	return connect(clientOptions(uri, address), name)
}

func connect(o *options.ClientOptions, name string) (*Store, error) {
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("connect to MongoDB: %w", err)
	}
	database := client.Database(name)
	return &Store{
		client:      client,
		database:    database,
		projections: database.Collection("projections"),
		close: sync.OnceValue(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			return client.Disconnect(ctx)
		}),
	}, nil
}

func clientOptions(uri string, address *connstring.ConnString) *options.ClientOptions {
	selection := serverSelection
	if address.ServerSelectionTimeoutSet {
		selection = min(selection, address.ServerSelectionTimeout)
	}
	// What a worker reads it folds on, and how far a list is goes with what is in it: so everything is read where it is written,
	// whatever the address prefers.
	return options.Client().ApplyURI(uri).SetAppName("roombook").SetTimeout(timeout).SetServerSelectionTimeout(selection).
		SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Majority()).SetWriteConcern(writeconcern.Majority())
}

// Close implements [projections.Store].
func (s *Store) Close() error { return s.close() }

// Ping implements [projections.Store].
func (s *Store) Ping(ctx context.Context) error { return s.client.Ping(ctx, nil) }

// projection is a document of the collection projections.
type projection struct {
	Name   string `bson:"_id"`
	Active int    `bson:"active"`
	Last   int    `bson:"last"` // the greatest number ever given
	// Stored are the generations and, since one is active whose documents have fields, a text.
	Stored      map[string]bson.RawValue `bson:"generations"`
	Generations map[string]generation    `bson:"-"`
}

// fence is the name of the text among the generations. Programs that know of documents only as texts fail when they meet it: they would
// find nothing in the collection, and show that.
const fence = "fence"

// generation is what a projection's document says of one generation, under the name g and its number.
type generation struct {
	Number     int    `bson:"number"`
	Version    int    `bson:"version"`
	Fields     bool   `bson:"fields,omitempty"` // the documents have fields; else they are texts
	Position   int64  `bson:"position"`
	Event      string `bson:"event,omitempty"`      // the one at the position: a projections.Point
	Considered string `bson:"considered,omitempty"` // another projections.Point
	Longest    int64  `bson:"longest"`
	Writes     int64  `bson:"writes"`
	// Touched is when it was written to. Older programs drop what was not for long.
	Touched time.Time `bson:"touched"`
	// Dropped is set before the collection is removed, so that the generation cannot become the active one meanwhile.
	Dropped bool `bson:"dropped,omitempty"`
}

func field(number int, name ...string) string {
	return strings.Join(append([]string{"generations", fmt.Sprint("g", number)}, name...), ".")
}

func (p projection) generation(number int) (projections.Generation, bool) {
	g, ok := p.Generations[fmt.Sprint("g", number)]
	generation := projections.Generation{
		Ref:        projections.Ref{Projection: p.Name, Number: number},
		Version:    g.Version,
		Checkpoint: projections.Checkpoint{Position: eventstore.Position(g.Position), Considered: projections.ParsePoint(g.Considered), Longest: g.Longest},
		Writes:     g.Writes,
		Dropped:    g.Dropped,
	}
	if at := projections.ParsePoint(g.Event); at.Position == generation.Position {
		generation.Event = at.Event
	}
	return generation, ok && !g.Dropped
}

// read is the projection's document, or one that says nothing if there is none.
func (s *Store) read(ctx context.Context, name string) (projection, error) {
	p := projection{Name: name}
	err := s.projections.FindOne(ctx, bson.D{{Key: "_id", Value: name}}).Decode(&p)
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = nil
	}
	p.Generations = make(map[string]generation, len(p.Stored))
	for key, stored := range p.Stored {
		if err != nil || key == fence {
			continue
		}
		var g generation
		err = stored.Unmarshal(&g)
		p.Generations[key] = g
		s.texts.Store(projections.Ref{Projection: name, Number: g.Number}, !g.Fields)
	}
	return p, err
}

// form is that of a generation.
func (p projection) form(number int, schema projections.Schema) form {
	g, noted := p.Generations[fmt.Sprint("g", number)]
	return form{schema: schema, text: noted && !g.Fields}
}

// form is that of a generation, as it was last seen.
func (s *Store) form(ctx context.Context, ref projections.Ref, schema projections.Schema) (form, error) {
	if text, ok := s.texts.Load(ref); ok {
		return form{schema, text.(bool)}, nil
	}
	p, err := s.read(ctx, ref.Projection)
	return p.form(ref.Number, schema), err
}

// State implements [projections.Store].
func (s *Store) State(ctx context.Context, name string) (projections.State, error) {
	p, err := s.read(ctx, name)
	if err != nil {
		return projections.State{}, fmt.Errorf("state of %s: %w", name, err)
	}
	state := projections.State{Active: p.Active}
	numbers := make([]int, 0, len(p.Generations))
	for g := range maps.Values(p.Generations) {
		numbers = append(numbers, g.Number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		g, _ := p.generation(number)
		state.Generations = append(state.Generations, g)
	}
	return state, nil
}

// Begin implements [projections.Store].
func (s *Store) Begin(ctx context.Context, name string, version int, schema projections.Schema) (projections.Generation, error) {
	g, err := s.begin(ctx, name, version, schema)
	if err != nil {
		return g, fmt.Errorf("begin a generation of %s: %w", name, err)
	}
	return g, nil
}

func (s *Store) begin(ctx context.Context, name string, version int, schema projections.Schema) (projections.Generation, error) {
	number, err := s.number(ctx, name)
	if mongo.IsDuplicateKeyError(err) { // two made the document at once
		number, err = s.number(ctx, name)
	}
	if err != nil {
		return projections.Generation{}, err
	}
	g := projections.Generation{
		Ref:     projections.Ref{Projection: name, Number: number},
		Version: version,
	}
	_, err = s.projections.UpdateByID(ctx, name, bson.D{{Key: "$set", Value: bson.D{
		{Key: field(number), Value: generation{Number: number, Version: version, Fields: true, Touched: time.Now()}},
	}}})
	if err != nil {
		return g, err
	}
	form := form{schema: schema}
	err = s.database.CreateCollection(ctx, g.Ref.String(), options.CreateCollection().SetValidator(form.validator()))
	if refused := new(mongo.CommandError); errors.As(err, refused) && refused.Code == notImplemented {
		err = s.database.CreateCollection(ctx, g.Ref.String())
	}
	if err != nil {
		return g, err
	}
	return g, s.index(ctx, g.Ref, form)
}

// notImplemented is the code with which a server refuses what it knows of and does not have, as FerretDB 1 does with validators.
const notImplemented = 238

func (s *Store) number(ctx context.Context, name string) (int, error) {
	var p projection
	err := s.projections.FindOneAndUpdate(ctx,
		bson.D{{Key: "_id", Value: name}},
		bson.D{{Key: "$inc", Value: bson.D{{Key: "last", Value: 1}}}, {Key: "$setOnInsert", Value: bson.D{{Key: "active", Value: 0}}}},
		options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&p)
	return p.Last, err
}

// Ensure implements [projections.Store].
func (s *Store) Ensure(ctx context.Context, ref projections.Ref, schema projections.Schema) error {
	form, err := s.form(ctx, ref, schema)
	if err == nil {
		err = s.index(ctx, ref, form)
	}
	if err != nil {
		return fmt.Errorf("index %s: %w", ref, err)
	}
	if err := s.collect(ctx, ref.Projection); err != nil {
		return fmt.Errorf("collect what is left of %s: %w", ref.Projection, err)
	}
	return nil
}

func (s *Store) index(ctx context.Context, ref projections.Ref, form form) error {
	indexes := [][]projections.Column{{projections.ColumnCreated}}
	for _, index := range form.schema.Indexes {
		indexes = append(indexes, index.Columns())
	}
	for _, columns := range indexes {
		if _, err := s.documents(ref).Indexes().CreateOne(ctx, mongo.IndexModel{Keys: form.keys(columns, 1)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) documents(ref projections.Ref) *mongo.Collection {
	return s.database.Collection(ref.String())
}

// Activate implements [projections.Store].
func (s *Store) Activate(ctx context.Context, name string, from, to int) error {
	if err := s.activate(ctx, name, from, to); err != nil {
		return fmt.Errorf("activate %s: %w", projections.Ref{Projection: name, Number: to}, err)
	}
	return nil
}

func (s *Store) activate(ctx context.Context, name string, from, to int) error {
	for {
		p, err := s.read(ctx, name)
		if err != nil {
			return err
		}
		next, ok := p.generation(to)
		if !ok || p.Active != from {
			return projections.ErrFlipped
		}
		// The new generation can only have come further since it was read; the old one must not have. An old one that does not note
		// its event is not compared.
		filter := bson.D{
			{Key: "_id", Value: name},
			{Key: "active", Value: from},
			{Key: field(to, "number"), Value: to},
			{Key: field(to, "dropped"), Value: bson.D{{Key: "$exists", Value: false}}},
		}
		if old, ok := p.generation(from); ok {
			if old.Event != uuid.Nil && next.Position < old.Position {
				return projections.ErrNotCaughtUp
			}
			filter = append(filter, bson.E{Key: field(from, "position"), Value: bson.D{{Key: "$lte", Value: int64(max(next.Position, old.Position))}}})
		}
		set := bson.D{{Key: "active", Value: to}}
		if !p.form(to, projections.Schema{}).text {
			set = append(set, bson.E{Key: "generations." + fence, Value: "documents have fields; older programs know them as texts"})
		}
		result, err := s.projections.UpdateOne(ctx, filter, bson.D{{Key: "$set", Value: set}})
		if err != nil {
			return err
		}
		if result.MatchedCount == 1 {
			return nil
		}
	}
}

// Drop implements [projections.Store].
func (s *Store) Drop(ctx context.Context, ref projections.Ref) error {
	if err := s.drop(ctx, ref); err != nil {
		return fmt.Errorf("drop %s: %w", ref, err)
	}
	return nil
}

func (s *Store) drop(ctx context.Context, ref projections.Ref) error {
	result, err := s.projections.UpdateOne(ctx, bson.D{
		{Key: "_id", Value: ref.Projection},
		{Key: "active", Value: bson.D{{Key: "$ne", Value: ref.Number}}},
		{Key: field(ref.Number, "number"), Value: ref.Number},
	}, bson.D{{Key: "$set", Value: bson.D{{Key: field(ref.Number, "dropped"), Value: true}}}})
	if err != nil {
		return err
	}
	if result.MatchedCount == 0 {
		p, err := s.read(ctx, ref.Projection)
		if err == nil && p.Active == ref.Number {
			return projections.ErrActive
		}
		return err
	}
	return s.remove(ctx, ref)
}

// remove ends what has begun with the mark that a generation is dropped.
func (s *Store) remove(ctx context.Context, ref projections.Ref) error {
	if err := s.documents(ref).Drop(ctx); err != nil {
		return err
	}
	_, err := s.projections.UpdateByID(ctx, ref.Projection, bson.D{{Key: "$unset", Value: bson.D{{Key: field(ref.Number), Value: ""}}}})
	return err
}

// Discard implements [projections.Store].
func (s *Store) Discard(ctx context.Context, ref projections.Ref) error {
	if err := s.discard(ctx, ref); err != nil {
		return fmt.Errorf("discard %s: %w", ref, err)
	}
	return nil
}

func (s *Store) discard(ctx context.Context, ref projections.Ref) error {
	result, err := s.projections.UpdateOne(ctx, bson.D{
		{Key: "_id", Value: ref.Projection},
		{Key: "active", Value: ref.Number},
		{Key: field(ref.Number, "number"), Value: ref.Number},
	}, bson.D{{Key: "$set", Value: bson.D{{Key: "active", Value: 0}, {Key: field(ref.Number, "dropped"), Value: true}}}})
	switch {
	case err != nil:
		return err
	case result.MatchedCount == 1:
		return s.remove(ctx, ref)
	}
	if err := s.drop(ctx, ref); !errors.Is(err, projections.ErrActive) {
		return err
	}
	return s.discard(ctx, ref) // it became the active one meanwhile
}

// collect removes the collections that late writes have brought back after their generations were dropped, and that those who wrote did
// not live to bury. A generation is noted before it has a collection, so one that is seen first and then not noted is left over.
func (s *Store) collect(ctx context.Context, name string) error {
	collections, err := s.database.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return err
	}
	p, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	for _, collection := range collections {
		number, err := strconv.Atoi(strings.TrimPrefix(collection, name+"_g"))
		ref := projections.Ref{Projection: name, Number: number}
		if err != nil || ref.String() != collection || number > p.Last {
			continue
		}
		if _, noted := p.Generations[fmt.Sprint("g", number)]; noted {
			continue
		}
		if err := s.documents(ref).Drop(ctx); err != nil {
			return err
		}
	}
	return nil
}
