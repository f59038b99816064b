// Package mongo keeps the documents of projections in MongoDB, a replica set in production.
//
// Three ideas:
//
//   - A generation is a collection of natural documents, for any tool to query: strings, numbers and dates under the names that replies
//     have. Optional fields are absent while they are empty. The _id is the id of the booking or notification. The bookkeeping is under
//     the key _roombook: the positions of the events that created and last changed the document, and its status key unless one of its
//     fields is that. Each index starts with the status key; the rest are the natural fields. A validator rejects documents of any
//     other shape, if the server supports validators (FerretDB 1 does not).
//   - Everything about a projection is in one document of the collection projections: the pointer to the active generation, and the
//     checkpoint of each generation. MongoDB updates a document atomically, so neither a flip nor a checkpoint that must find its generation
//     not retired needs a transaction.
//   - Documents are written in bulk, each by an upsert whose filter requires an older position. If the stored document is newer, the filter
//     finds nothing, and the upsert tries to insert and fails with a duplicate _id: this error is the guard. The checkpoint is written after
//     all documents. If a worker dies in between, they are written again and meet the guard.
//
// Older versions of this program stored a document as one JSON text. Such a generation is read, and kept in its form, until it has been
// rebuilt. Once a generation of natural documents is active, these versions fail to decode the document in projections: this keeps them
// from showing an empty list.
//
// Writes are acknowledged by a majority. Reads are from the primary with read concern majority.
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
	// DefaultDatabase is the database if the address names none.
	DefaultDatabase = "roombook"
	// timeout limits an operation whose context has no deadline.
	timeout = 10 * time.Second
	// serverSelection limits the search for a server, unless the address has a shorter limit. While there is none, queries fail after that
	// time and workers retry.
	serverSelection = 2 * time.Second
)

// Store is a [projections.Store] in a MongoDB database.
type Store struct {
	client      *mongo.Client
	database    *mongo.Database
	projections *mongo.Collection
	close       func() error
	// texts says of each generation, by projections.Ref, whether its documents are texts, as last seen.
	texts sync.Map
}

var _ projections.Store = (*Store)(nil)

// Open returns a Store at the address of a server or replica set, mongodb://host/database. It does no I/O.
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
	// A worker folds on what it reads, and a checkpoint must match the documents. So everything is read where it is written, whatever
	// the address prefers.
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
	Last   int    `bson:"last"` // the greatest number ever allotted
	// Stored are the generations by key, and the fence.
	Stored      map[string]bson.RawValue `bson:"generations"`
	Generations map[string]generation    `bson:"-"`
}

// fence is the key of a text among the generations, which is there once a generation of natural documents is active. Versions of this
// program that store documents as texts fail to decode it; else they would look for keys that natural documents do not have, and show an
// empty list.
const fence = "fence"

// generation is a generation in a projection's document. Its key is g and its number.
type generation struct {
	Number     int    `bson:"number"`
	Version    int    `bson:"version"`
	Natural    bool   `bson:"natural,omitempty"` // whether documents are natural, and not texts
	Position   int64  `bson:"position"`
	Event      string `bson:"event,omitempty"`      // at the position: a projections.Point
	Considered string `bson:"considered,omitempty"` // another projections.Point
	Changed    int64  `bson:"changed,omitempty"`
	Longest    int64  `bson:"longest"`
	Writes     int64  `bson:"writes"`
	// Touched is the time of the last write. The first versions drop generations that were not written to for long.
	Touched time.Time `bson:"touched"`
	// Dropped is set before the collection is removed, so that the generation cannot be activated meanwhile.
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
		Checkpoint: projections.Checkpoint{Position: eventstore.Position(g.Position), Considered: projections.ParsePoint(g.Considered), Changed: eventstore.Position(g.Changed), Longest: g.Longest},
		Writes:     g.Writes,
		Dropped:    g.Dropped,
	}
	if at := projections.ParsePoint(g.Event); at.Position == generation.Position {
		generation.Event = at.Event
	}
	return generation, ok && !g.Dropped
}

// read reads the projection's document. It is empty if there is none.
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
		s.texts.Store(projections.Ref{Projection: name, Number: g.Number}, !g.Natural)
	}
	return p, err
}

// form is the form of a generation.
func (p projection) form(number int, schema projections.Schema) form {
	g, ok := p.Generations[fmt.Sprint("g", number)]
	return form{schema: schema, text: ok && !g.Natural}
}

// form is the form of a generation, as last seen.
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
	if mongo.IsDuplicateKeyError(err) { // another process has created the document concurrently
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
		{Key: field(number), Value: generation{Number: number, Version: version, Natural: true, Touched: time.Now()}},
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

// notImplemented is the error code of a server that does not support an option, as FerretDB 1 validators.
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
		// Since they were read, the new generation may have advanced but the old one must not have. An old one without an event is not
		// compared.
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
			set = append(set, bson.E{Key: "generations." + fence, Value: "older versions of the program must stop here"})
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

// remove completes the removal of a generation that is marked as dropped.
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
	return s.discard(ctx, ref) // it was activated meanwhile
}

// collect removes collections that a late write has recreated after their generation was dropped, and whose writer died before it could
// remove them. A generation is recorded before its collection is created, so a collection that is seen first and then has no generation is
// left over.
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
		if _, ok := p.Generations[fmt.Sprint("g", number)]; ok {
			continue
		}
		if err := s.documents(ref).Drop(ctx); err != nil {
			return err
		}
	}
	return nil
}
