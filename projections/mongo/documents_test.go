package mongo_test

import (
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"roombook/eventstore"
	"roombook/projections"
)

func begin(t *testing.T, store projections.Store) projections.Ref {
	t.Helper()
	g, err := store.Begin(t.Context(), "list", 1, schema())
	if err != nil {
		t.Fatal(err)
	}
	return g.Ref
}

func row(id string, position eventstore.Position) projections.Row {
	return projections.Row{ID: id, Created: 1, Position: position, Document: &document{ID: id}}
}

type document struct {
	ID string `json:"id" bson:"id" key:"id"`
}

func schema() projections.Schema { return projections.SchemaOf[document]() }

// A document without a valid position is overwritten.
func TestADocumentWithoutAPosition(t *testing.T) {
	store := open(t)
	ref := begin(t, store)
	for id, damaged := range map[string]bson.D{
		"none": {{Key: "_id", Value: "none"}},
		"some": {{Key: "_id", Value: "some"}, {Key: "_roombook", Value: "nothing"}},
		"text": {{Key: "_id", Value: "text"}, {Key: "_roombook", Value: bson.D{{Key: "position", Value: "far"}}}},
	} {
		if _, err := beside(t, store).Collection(ref.String()).InsertOne(t.Context(), damaged, options.InsertOne().SetBypassDocumentValidation(true)); err != nil {
			t.Fatal(err)
		}
		if err := store.Write(t.Context(), ref, schema(), []projections.Row{row(id, 5)}, projections.Checkpoint{Position: 5}); err != nil {
			t.Error(err)
		}
		if rows, err := store.Load(t.Context(), ref, schema(), []string{id}); err != nil || len(rows) != 1 || rows[0].Position != 5 || rows[0].Created != 1 {
			t.Errorf("%s: %+v, %v", id, rows, err)
		}
	}
}

// A collection that a late write has recreated and whose writer died before removing it is removed at the next start.
func TestALeftCollectionIsCollected(t *testing.T) {
	store := open(t)
	left, kept := begin(t, store), begin(t, store)
	if err := store.Drop(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	database := beside(t, store)
	others := []string{"list_g99", "list_gone", "other_list_g1"}
	for _, name := range append(others, left.String()) {
		if _, err := database.Collection(name).InsertOne(t.Context(), bson.D{{Key: "_id", Value: "late"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Ensure(t.Context(), kept, schema()); err != nil {
		t.Fatal(err)
	}
	names, err := database.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(names, left.String()) || !slices.Contains(names, kept.String()) {
		t.Errorf("there are %v", names)
	}
	for _, name := range others {
		if !slices.Contains(names, name) {
			t.Errorf("%s was removed", name)
		}
	}
}
