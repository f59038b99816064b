package mongo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"roombook/eventstore"
	"roombook/projections"
)

// Write implements [projections.Store].
func (s *Store) Write(ctx context.Context, ref projections.Ref, schema projections.Schema, rows []projections.Row, checkpoint projections.Checkpoint) error {
	if err := s.write(ctx, ref, schema, rows, checkpoint); err != nil {
		return fmt.Errorf("write to %s: %w", ref, err)
	}
	return nil
}

// WriteAll implements [projections.Store]. The lists are written at the same time: they are in different collections.
func (s *Store) WriteAll(ctx context.Context, all []projections.Update) []error {
	errs := make([]error, len(all))
	var writing sync.WaitGroup
	for i, u := range all {
		writing.Go(func() { errs[i] = s.Write(ctx, u.Ref, u.Schema, u.Rows, u.Checkpoint) })
	}
	writing.Wait()
	return errs
}

func (s *Store) write(ctx context.Context, ref projections.Ref, schema projections.Schema, rows []projections.Row, checkpoint projections.Checkpoint) error {
	form, err := s.form(ctx, ref, schema)
	if err != nil {
		return err
	}
	if err := s.upsert(ctx, ref, form, rows); err != nil {
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

// raised are the parts of a checkpoint, for $max: none of them decreases.
func raised(ref projections.Ref, c projections.Checkpoint) bson.D {
	parts := bson.D{
		{Key: field(ref.Number, "position"), Value: int64(c.Position)},
		{Key: field(ref.Number, "changed"), Value: int64(c.Changed)},
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

// bury removes a collection that a late write has recreated after its generation was dropped.
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

// upsert writes a document unless it is stored at the same or a later position. It overwrites one without a position, which this program
// has not written.
func (f form) upsert(row projections.Row) (mongo.WriteModel, error) {
	document, err := f.encode(row)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", row.ID, err)
	}
	return mongo.NewReplaceOneModel().SetUpsert(true).SetReplacement(document).
		SetFilter(bson.D{{Key: "_id", Value: row.ID}, {Key: f.position(), Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: int64(row.Position)}}}}}}), nil
}

// upsert writes rows in bulk, in order. A duplicate key ends a bulk and has two possible reasons: the document is stored at the same or a
// later position, or another worker has just inserted an older one. So the positions of the remaining documents are read, those that are
// stored already are skipped, and the others are tried again, which now finds older ones. If the same document fails twice there is
// another reason.
func (s *Store) upsert(ctx context.Context, ref projections.Ref, form form, rows []projections.Row) (err error) {
	for last := ""; len(rows) > 0; {
		upserts := make([]mongo.WriteModel, len(rows))
		for i, row := range rows {
			if upserts[i], err = form.upsert(row); err != nil {
				return err
			}
		}
		_, err := s.documents(ref).BulkWrite(ctx, upserts)
		if err == nil {
			return nil
		}
		var bulk mongo.BulkWriteException
		if !errors.As(err, &bulk) || bulk.WriteConcernError != nil || len(bulk.WriteErrors) != 1 || !mongo.IsDuplicateKeyError(bulk.WriteErrors[0].WriteError) {
			return err
		}
		left, newerErr := s.newer(ctx, ref, form, rows[bulk.WriteErrors[0].Index:])
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

// newer returns the rows that are not stored at the same or a later position.
func (s *Store) newer(ctx context.Context, ref projections.Ref, form form, rows []projections.Row) ([]projections.Row, error) {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	stored, err := s.load(ctx, ref, ids, options.Find().SetProjection(bson.D{{Key: form.position(), Value: 1}}))
	if err != nil {
		return nil, err
	}
	at := make(map[string]int64, len(stored))
	for _, document := range stored {
		if position, ok := document.Lookup(strings.Split(form.position(), ".")...).Int64OK(); ok {
			at[id(document)] = position
		}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(row projections.Row) bool {
		position, there := at[row.ID]
		return there && position >= int64(row.Position)
	}), nil
}

// Load implements [projections.Store].
func (s *Store) Load(ctx context.Context, ref projections.Ref, schema projections.Schema, ids []string) ([]projections.Row, error) {
	form, err := s.form(ctx, ref, schema)
	var stored []bson.Raw
	if err == nil {
		stored, err = s.load(ctx, ref, ids, options.Find())
	}
	var rows []projections.Row
	if err == nil {
		rows, err = form.rows(stored)
	}
	if err != nil {
		return nil, fmt.Errorf("load from %s: %w", ref, err)
	}
	return rows, nil
}

func (s *Store) load(ctx context.Context, ref projections.Ref, ids []string, o *options.FindOptionsBuilder) ([]bson.Raw, error) {
	const many = 1000
	found := make([]bson.Raw, 0, len(ids))
	for some := range slices.Chunk(ids, many) {
		documents, err := s.all(ctx, ref, is("_id", "$in", some), o.SetBatchSize(many))
		if err != nil {
			return nil, err
		}
		found = append(found, documents...)
	}
	return found, nil
}

func (s *Store) all(ctx context.Context, ref projections.Ref, filter bson.D, o *options.FindOptionsBuilder) (documents []bson.Raw, err error) {
	cursor, err := s.documents(ref).Find(ctx, filter, o)
	if err == nil {
		err = cursor.All(ctx, &documents)
	}
	return documents, err
}

func (f form) rows(stored []bson.Raw) ([]projections.Row, error) {
	rows := make([]projections.Row, len(stored))
	for i, document := range stored {
		var err error
		if rows[i], err = f.decode(document); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Scan implements [projections.Store].
func (s *Store) Scan(ctx context.Context, ref projections.Ref, schema projections.Schema, after eventstore.Position, limit int) ([]projections.Row, error) {
	rows, err := s.scan(ctx, ref, schema, after, limit)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ref, err)
	}
	return rows, nil
}

// scan starts with everything that has no valid created position, regardless of the limit.
func (s *Store) scan(ctx context.Context, ref projections.Ref, schema projections.Schema, after eventstore.Position, limit int) ([]projections.Row, error) {
	form, err := s.form(ctx, ref, schema)
	if err != nil {
		return nil, err
	}
	created := form.name(projections.ColumnCreated)
	stored, err := s.all(ctx, ref, is(created, "$gt", int64(after)), options.Find().SetSort(bson.D{{Key: created, Value: 1}}).SetLimit(int64(limit)))
	if err == nil && after == 0 {
		var others []bson.Raw
		others, err = s.all(ctx, ref, bson.D{{Key: created, Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: int64(0)}}}}}}, options.Find())
		stored = append(others, stored...)
	}
	rows := make([]projections.Row, len(stored))
	for i, document := range stored {
		row, err := form.decode(document)
		if err == nil {
			err = form.check(row, document)
		}
		if err != nil {
			row.Foreign, row.Document = document.String(), nil
		}
		rows[i] = row
	}
	return rows, err
}

// Find implements [projections.Store]. It reads the checkpoint first, so that the documents are at least as new.
func (s *Store) Find(ctx context.Context, name string, schema projections.Schema, sel projections.Selection) (projections.Found, error) {
	for {
		found, err := s.find(ctx, name, schema, sel)
		switch {
		case errors.Is(err, projections.ErrNotBuilt):
			return found, err
		case err != nil && found.Ref.Number == 0: // the pointer could not be read
			return found, fmt.Errorf("find in %s: %w", name, err)
		}
		if err == nil && (len(found.Rows) > 0 || sel.Limit == 0) {
			return found, nil
		}
		// The generation may have been replaced and dropped after the pointer was read. Then the collection is empty, or the read fails.
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

func (s *Store) find(ctx context.Context, name string, schema projections.Schema, sel projections.Selection) (found projections.Found, err error) {
	p, err := s.read(ctx, name)
	if err != nil {
		return found, err
	}
	g, ok := p.generation(p.Active)
	if !ok {
		return found, projections.ErrNotBuilt
	}
	found.Ref, found.Position, found.Changed = g.Ref, g.Position, g.Changed
	form := p.form(g.Number, schema)
	filter := form.filter(g, sel)
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
		filter = append(filter, form.after(sel.Order, direction, *sel.After)...)
	}
	find := options.Find().SetLimit(int64(sel.Limit)).SetBatchSize(int32(sel.Limit))
	if !sel.Unordered {
		find.SetSort(form.keys(sel.Order.Columns(), direction))
	}
	stored, err := s.all(ctx, g.Ref, and(filter), find)
	if err == nil {
		found.Rows, err = form.rows(stored)
	}
	return found, err
}
