package mongo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"roombook/eventstore"
	"roombook/projections"
)

// document is one of a generation.
type document struct {
	ID       string `bson:"_id"`
	Created  int64  `bson:"created"`
	Position int64  `bson:"position"`
	Booking  string `bson:"booking"`
	Room     string `bson:"room"`
	User     string `bson:"user"`
	Status   string `bson:"status"`
	Start    int64  `bson:"start"`
	End      int64  `bson:"end"`
	Document string `bson:"document"`
}

func (d document) row() projections.Row {
	return projections.Row{
		ID: d.ID, Created: eventstore.Position(d.Created), Position: eventstore.Position(d.Position), Document: d.Document,
		Keys: projections.Keys{Booking: d.Booking, Room: d.Room, User: d.User, Status: d.Status, Start: d.Start, End: d.End},
	}
}

// Write implements [projections.Store].
func (s *Store) Write(ctx context.Context, ref projections.Ref, rows []projections.Row, checkpoint projections.Checkpoint) error {
	if err := s.write(ctx, ref, rows, checkpoint); err != nil {
		return fmt.Errorf("write to %s: %w", ref, err)
	}
	return nil
}

func (s *Store) write(ctx context.Context, ref projections.Ref, rows []projections.Row, checkpoint projections.Checkpoint) error {
	if err := s.upsert(ctx, ref, rows); err != nil {
		return err
	}
	result, err := s.projections.UpdateOne(ctx, bson.D{
		{Key: "_id", Value: ref.Projection},
		{Key: "active", Value: bson.D{{Key: "$lte", Value: ref.Number}}},
		{Key: field(ref.Number, "number"), Value: ref.Number},
		{Key: field(ref.Number, "dropped"), Value: bson.D{{Key: "$exists", Value: false}}},
	}, bson.D{
		{Key: "$max", Value: raised(ref, checkpoint)},
		{Key: "$inc", Value: bson.D{{Key: field(ref.Number, "writes"), Value: int64(1)}}},
		{Key: "$set", Value: bson.D{{Key: field(ref.Number, "touched"), Value: time.Now()}}},
	})
	if err != nil {
		return err
	}
	if result.MatchedCount == 1 {
		return nil
	}
	return errors.Join(projections.ErrRetired, s.bury(ctx, ref))
}

// raised are the parts of a checkpoint, none of which goes backwards.
func raised(ref projections.Ref, c projections.Checkpoint) bson.D {
	parts := bson.D{
		{Key: field(ref.Number, "position"), Value: int64(c.Position)},
		{Key: field(ref.Number, "longest"), Value: c.Longest},
	}
	if c.Event != uuid.Nil {
		parts = append(parts, bson.E{Key: field(ref.Number, "event"), Value: c.Last().String()})
	}
	if c.Considered.Event != uuid.Nil {
		parts = append(parts, bson.E{Key: field(ref.Number, "considered"), Value: c.Considered.String()})
	}
	return parts
}

// bury removes a collection that a late write has brought back after its generation was dropped.
func (s *Store) bury(ctx context.Context, ref projections.Ref) error {
	p, err := s.read(ctx, ref.Projection)
	if err != nil {
		return err
	}
	if _, there := p.generation(ref.Number); there {
		return nil
	}
	return s.documents(ref).Drop(ctx)
}

// upsert is the write of a document that must not be there at the same or a later position. One without a position, which this
// program has not written, is written over.
func upsert(row projections.Row) *mongo.UpdateOneModel {
	return mongo.NewUpdateOneModel().SetUpsert(true).
		SetFilter(bson.D{{Key: "_id", Value: row.ID}, {Key: "position", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: int64(row.Position)}}}}}}).
		SetUpdate(bson.D{{Key: "$set", Value: bson.D{
			{Key: "created", Value: int64(row.Created)},
			{Key: "position", Value: int64(row.Position)},
			{Key: "booking", Value: row.Booking},
			{Key: "room", Value: row.Room},
			{Key: "user", Value: row.User},
			{Key: "status", Value: row.Status},
			{Key: "start", Value: row.Start},
			{Key: "end", Value: row.End},
			{Key: "document", Value: row.Document},
		}}})
}

// upsert writes in bulk, in order. A duplicate key, which ends a bulk, has two meanings: the document is there at the same or a
// later position, or another worker inserted an older one at the same moment. To tell, the positions of what is left are
// read: what the store has already is left out, and the others are tried again, and now found if they are older. What fails twice
// at the same document has another reason.
func (s *Store) upsert(ctx context.Context, ref projections.Ref, rows []projections.Row) error {
	for last := ""; len(rows) > 0; {
		upserts := make([]mongo.WriteModel, len(rows))
		for i, row := range rows {
			upserts[i] = upsert(row)
		}
		_, err := s.documents(ref).BulkWrite(ctx, upserts)
		if err == nil {
			return nil
		}
		var bulk mongo.BulkWriteException
		if !errors.As(err, &bulk) || bulk.WriteConcernError != nil || len(bulk.WriteErrors) != 1 || !mongo.IsDuplicateKeyError(bulk.WriteErrors[0].WriteError) {
			return err
		}
		left, newerErr := s.newer(ctx, ref, rows[bulk.WriteErrors[0].Index:])
		if newerErr != nil {
			return newerErr
		}
		if len(left) > 0 && left[0].ID == last {
			return fmt.Errorf("document %s: %w", last, err)
		}
		if rows = left; len(rows) > 0 {
			last = rows[0].ID
		}
	}
	return nil
}

// newer leaves out the rows that the store has at the same or a later position.
func (s *Store) newer(ctx context.Context, ref projections.Ref, rows []projections.Row) ([]projections.Row, error) {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	stored, err := s.load(ctx, ref, ids, fields("position"))
	if err != nil {
		return nil, err
	}
	at := make(map[string]eventstore.Position, len(stored))
	for _, row := range stored {
		at[row.ID] = row.Position
	}
	return slices.DeleteFunc(slices.Clone(rows), func(row projections.Row) bool {
		position, there := at[row.ID]
		return there && position >= row.Position
	}), nil
}

// Load implements [projections.Store].
func (s *Store) Load(ctx context.Context, ref projections.Ref, ids []string) ([]projections.Row, error) {
	rows, err := s.load(ctx, ref, ids, fields("position", "document"))
	if err != nil {
		return nil, fmt.Errorf("load from %s: %w", ref, err)
	}
	return rows, nil
}

func (s *Store) load(ctx context.Context, ref projections.Ref, ids []string, o *options.FindOptionsBuilder) ([]projections.Row, error) {
	const many = 1000
	found := make([]projections.Row, 0, len(ids))
	for some := range slices.Chunk(ids, many) {
		rows, err := s.all(ctx, ref, is("_id", "$in", some), o.SetBatchSize(many))
		if err != nil {
			return nil, err
		}
		found = append(found, rows...)
	}
	return found, nil
}

// Scan implements [projections.Store].
func (s *Store) Scan(ctx context.Context, ref projections.Ref, after eventstore.Position, limit int) ([]projections.Row, error) {
	rows, err := s.all(ctx, ref, bson.D{{Key: "created", Value: bson.D{{Key: "$gt", Value: int64(after)}}}},
		options.Find().SetSort(keys(projections.Order{}.Columns(), 1)).SetLimit(int64(limit)))
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ref, err)
	}
	return rows, nil
}

// fields are the options to read some fields, besides _id and created.
func fields(names ...string) *options.FindOptionsBuilder {
	projection := bson.D{{Key: "created", Value: 1}}
	for _, name := range names {
		projection = append(projection, bson.E{Key: name, Value: 1})
	}
	return options.Find().SetProjection(projection)
}

func (s *Store) all(ctx context.Context, ref projections.Ref, filter bson.D, o *options.FindOptionsBuilder) ([]projections.Row, error) {
	cursor, err := s.documents(ref).Find(ctx, filter, o)
	if err != nil {
		return nil, err
	}
	var documents []document
	if err := cursor.All(ctx, &documents); err != nil {
		return nil, err
	}
	rows := make([]projections.Row, len(documents))
	for i, d := range documents {
		rows[i] = d.row()
	}
	return rows, nil
}

// Find implements [projections.Store]. The checkpoint is read first, so that what is found then is at least as new.
func (s *Store) Find(ctx context.Context, name string, sel projections.Selection) (projections.Found, error) {
	for {
		found, err := s.find(ctx, name, sel)
		if errors.Is(err, projections.ErrNotBuilt) {
			return found, err
		}
		if err == nil && (len(found.Rows) > 0 || sel.Limit == 0) {
			return found, nil
		}
		// The collection may have been replaced and dropped after the pointer was read: then it is empty, or breaks off.
		p, again := s.read(ctx, name)
		switch {
		case err == nil && again != nil:
			err = again
		case again == nil && p.Active != found.Ref.Number:
			continue
		}
		if err != nil {
			err = fmt.Errorf("find in %s: %w", name, err)
		}
		return found, err
	}
}

func (s *Store) find(ctx context.Context, name string, sel projections.Selection) (found projections.Found, err error) {
	p, err := s.read(ctx, name)
	if err != nil {
		return found, err
	}
	g, ok := p.generation(p.Active)
	if !ok {
		return found, projections.ErrNotBuilt
	}
	found.Ref, found.Position = g.Ref, g.Position
	filter := filter(g, sel)
	if sel.Count > 0 {
		if found.Count, err = s.documents(g.Ref).CountDocuments(ctx, and(filter), options.Count().SetLimit(sel.Count)); err != nil {
			return found, err
		}
	}
	if sel.Limit == 0 {
		return found, nil
	}
	direction := 1
	if sel.Descending {
		direction = -1
	}
	if sel.After != nil {
		filter = append(filter, after(sel.Order, direction, *sel.After)...)
	}
	found.Rows, err = s.all(ctx, g.Ref, and(filter),
		fields("document").SetSort(keys(sel.Order.Columns(), direction)).SetLimit(int64(sel.Limit)).SetBatchSize(int32(sel.Limit)))
	return found, err
}
