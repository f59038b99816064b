package mongo_test

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"roombook/projections"
	"roombook/projections/storetest"
)

// Lists of versions that stored a document as one text are read, kept and rebuilt.
func TestOlderLists(t *testing.T) {
	storetest.RunOlder(t, open, func(t *testing.T, store projections.Store) storetest.Older { return texts{beside(t, store)} })
}

// texts is a [storetest.Older].
type texts struct{ *driver.Database }

func (db texts) Make(projection string, version int, c projections.Checkpoint, documents []storetest.OlderDocument) error {
	_, err := db.Collection("projections").InsertOne(context.Background(), bson.D{
		{Key: "_id", Value: projection}, {Key: "last", Value: 1}, {Key: "active", Value: 1},
		{Key: "generations", Value: bson.D{{Key: "g1", Value: bson.D{
			{Key: "number", Value: 1}, {Key: "version", Value: version}, {Key: "position", Value: int64(c.Position)}, {Key: "event", Value: c.Last().String()},
			{Key: "longest", Value: c.Longest}, {Key: "writes", Value: int64(7)}, {Key: "touched", Value: time.Now()},
		}}}},
	})
	if err != nil {
		return err
	}
	var all []any
	for _, d := range documents {
		k := d.Keys
		all = append(all, bson.D{
			{Key: "_id", Value: d.ID}, {Key: "created", Value: int64(d.Created)}, {Key: "position", Value: int64(d.Position)}, {Key: "booking", Value: k.Booking},
			{Key: "room", Value: k.Room}, {Key: "user", Value: k.User}, {Key: "status", Value: k.Status}, {Key: "start", Value: k.Start}, {Key: "end", Value: k.End},
			{Key: "document", Value: d.Text},
		})
	}
	_, err = db.Collection(projection+"_g1").InsertMany(context.Background(), all)
	return err
}

func (db texts) Texts(projection string) (map[string]string, error) {
	cursor, err := db.Collection(projection+"_g1").Find(context.Background(), bson.D{})
	if err != nil {
		return nil, err
	}
	var documents []struct {
		ID       string `bson:"_id"`
		Document string `bson:"document"`
	}
	if err := cursor.All(context.Background(), &documents); err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, d := range documents {
		texts[d.ID] = d.Document
	}
	return texts, nil
}
