package mongo_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/storetest"
)

// build builds all lists of a history.
func build(t *testing.T, store projections.Store, steps int) (log *eventstoretest.Part) {
	t.Helper()
	history := storetest.NewHistory(rand.New(rand.NewPCG(7, 8)))
	log = history.Open(t)
	for range steps {
		stream, expected, events := history.Step()
		if _, err := log.Append(t.Context(), stream, expected, events...); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range projections.All() {
		if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// active returns the collection that the document in projections points at.
func active(t *testing.T, database *driver.Database, list string) *driver.Collection {
	t.Helper()
	var pointer struct{ Active int }
	if err := database.Collection("projections").FindOne(t.Context(), bson.D{{Key: "_id", Value: list}}).Decode(&pointer); err != nil {
		t.Fatal(err)
	}
	return database.Collection(fmt.Sprintf("%s_g%d", list, pointer.Active))
}

func found(t *testing.T, cursor *driver.Cursor, err error) (documents []bson.M) {
	t.Helper()
	if err == nil {
		err = cursor.All(t.Context(), &documents)
	}
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

// The driver alone, without any code of this program, finds, sorts and aggregates documents by the names that replies have.
func TestListsWithTheDriverAlone(t *testing.T) {
	store := open(t)
	build(t, store, 250)
	database := beside(t, store)
	queries := projections.NewQueries(store, projections.QueryOptions{})

	// Find and sort the bookings of a room from some time on.
	from := time.Date(2026, 11, 24, 20, 0, 0, 0, time.UTC)
	bookings := active(t, database, projections.BookingListName)
	cursor, err := bookings.Find(t.Context(),
		bson.D{{Key: "roomId", Value: "1"}, {Key: "useEndDtm", Value: bson.D{{Key: "$gt", Value: from}}}, {Key: "status", Value: bson.D{{Key: "$ne", Value: "CANCELLED"}}}},
		options.Find().SetSort(bson.D{{Key: "useStartDtm", Value: -1}, {Key: "_roombook.created", Value: -1}}))
	documents := found(t, cursor, err)
	page, err := queries.BookingLists(t.Context(), projections.Query{Room: "1", From: from, Descending: true, Size: projections.MaxSize})
	if err != nil || len(page.Items) == 0 || len(documents) != len(page.Items) {
		t.Fatalf("%d documents, %d items, %v", len(documents), len(page.Items), err)
	}
	date := func(at time.Time) any {
		if at.IsZero() {
			return nil
		}
		return bson.NewDateTimeFromTime(at)
	}
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	count := func(n int) any {
		if n == 0 {
			return nil
		}
		return int32(n)
	}
	for i, b := range page.Items {
		want := bson.M{
			"_id": string(b.Booking), "bookingId": string(b.Booking), "roomId": string(b.Room), "bookingUserId": string(b.User),
			"useStartDtm": date(b.Start), "useEndDtm": date(b.End), "bookingDtm": date(b.BookedAt), "status": string(b.Status),
			"confirmStatus": string(b.ConfirmStatus), "confirmUserId": text(string(b.ConfirmUser)), "confirmReason": text(b.ConfirmReason), "confirmDtm": date(b.ConfirmedAt),
			"cancelReason": text(string(b.CancelReason)), "cancelDetail": text(b.CancelDetail), "cancelDtm": date(b.CancelledAt), "changes": count(b.Changes), "modifiedDtm": date(b.ModifiedAt),
			"realUseEndDtm": date(b.UseEndedAt),
		}
		got := documents[i]
		if kept, ok := got["_roombook"].(bson.D); !ok || kept[0].Key != "created" || kept[1].Key != "position" {
			t.Errorf("what is kept beside %v is %v", got["_id"], got["_roombook"])
		}
		delete(got, "_roombook")
		for name, value := range want {
			if value == nil { // an empty optional field is absent
				delete(want, name)
			} else if got[name] != value {
				t.Errorf("%v: %s is %v, want %v", got["_id"], name, got[name], value)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}

	// Sum up the booked and the used minutes by room: one after the other, as FerretDB returns 0 for the second of two sums.
	uses, err := queries.RoomUseLists(t.Context(), projections.Query{Used: true, Size: projections.MaxSize})
	if err != nil || len(uses.Items) == 0 {
		t.Fatalf("%d uses, %v", len(uses.Items), err)
	}
	for field, of := range map[string]func(projections.RoomUseList) int{
		"bookedMinutes": func(u projections.RoomUseList) int { return u.BookedMinutes },
		"usedMinutes":   func(u projections.RoomUseList) int { return u.UsedMinutes },
	} {
		want, got := map[string]int{}, map[string]int{}
		for _, u := range uses.Items {
			want[string(u.Room)] += of(u)
		}
		cursor, err := active(t, database, projections.RoomUseListName).Aggregate(t.Context(), bson.A{
			bson.D{{Key: "$match", Value: bson.D{{Key: "realUseStartDtm", Value: bson.D{{Key: "$exists", Value: true}}}}}},
			bson.D{{Key: "$group", Value: bson.D{{Key: "_id", Value: "$roomId"}, {Key: "minutes", Value: bson.D{{Key: "$sum", Value: "$" + field}}}}}},
		})
		var sums []struct {
			Room    string `bson:"_id"`
			Minutes int    `bson:"minutes"`
		}
		if err == nil {
			err = cursor.All(t.Context(), &sums)
		}
		for _, sum := range sums {
			got[sum.Room] = sum.Minutes
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v, %v", field, got, want, err)
		}
	}

	// Find the latest notifications.
	cursor, err = active(t, database, projections.NotificationName).Find(t.Context(), bson.D{{Key: "delivery", Value: "PENDING"}, {Key: "attempts", Value: 0}},
		options.Find().SetSort(bson.D{{Key: "sendDtm", Value: -1}}).SetLimit(3))
	latest := found(t, cursor, err)
	notifications, err := queries.Notifications(t.Context(), projections.Query{Descending: true, Size: 3})
	for i, n := range notifications.Items {
		if latest[i]["sendDtm"] != date(n.SentAt) {
			t.Errorf("%v is not %v", latest[i], n)
		}
	}
	if err != nil || len(latest) != 3 {
		t.Errorf("the latest are %v, %v", latest, err)
	}
}

// A version that stores documents as texts can read a projection while a generation of natural documents is built, and fails once that is
// active, as it would take it for an empty list.
func TestOlderProgramsFail(t *testing.T) {
	store := open(t)
	pointer := beside(t, store).Collection("projections").FindOne
	var older struct { // as these versions decode it
		Active      int                                      `bson:"active"`
		Generations map[string]struct{ Number, Version int } `bson:"generations"`
	}
	for i := range 2 {
		ref := begin(t, store)
		if err := pointer(t.Context(), bson.D{{Key: "_id", Value: "list"}}).Decode(&older); (err == nil) != (i == 0) {
			t.Errorf("before generation %d is active: %v", ref.Number, err)
		}
		if err := store.Activate(t.Context(), "list", i, ref.Number); err != nil {
			t.Fatal(err)
		}
		if err := pointer(t.Context(), bson.D{{Key: "_id", Value: "list"}}).Decode(&older); err == nil {
			t.Errorf("they read %+v", older)
		}
	}
	if state, err := store.State(t.Context(), "list"); err != nil || state.Active != 2 || len(state.Generations) != 2 {
		t.Errorf("the state is %+v, %v", state, err)
	}
}

// Verify reports each document that was edited by hand, whatever was changed, and no other.
func TestVerifyFindsWhatWasChangedByHand(t *testing.T) {
	store := open(t)
	log := build(t, store, 60)
	set := func(name string, value any) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: name, Value: value}}}}
	}
	unset := func(name string) bson.D {
		return bson.D{{Key: "$unset", Value: bson.D{{Key: name, Value: ""}}}}
	}
	changes := map[string][]bson.D{
		projections.BookingListName: {
			set("roomId", "elsewhere"), set("useStartDtm", time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)), set("useStartDtm", "2026-11-24T09:00:00Z"), set("useEndDtm", int64(1)),
			set("status", "GONE"), set("confirmReason", "because"), set("confirmReason", ""), set("cancelDtm", nil), set("colour", "red"), unset("bookingDtm"), unset("bookingId"),
			set("_roombook.status", "GONE"), set("_roombook.status", 1), set("_roombook.position", int64(3)), set("_roombook.position", "far"), set("_roombook.created", int64(1)),
			unset("_roombook.created"), unset("_roombook"), set("_roombook", "gone"), set("_roombook.more", 1),
		},
		projections.RoomUseListName:  {set("bookedMinutes", 3.5), set("usedMinutes", int32(1)), set("bookedMinutes", "30"), set("realUseId", "u")},
		projections.NotificationName: {set("attempts", 0.0), set("attempts", int64(0)), set("delivery", "DELIVERED"), set("contents", "nothing"), unset("sendDtm")},
		projections.RoomListName:     {set("name", "Another"), set("rules.gapMinutes", int32(61)), set("equipment", bson.A{"rug"}), unset("status")},
	}
	for _, p := range projections.All() {
		collection := active(t, beside(t, store), p.Name)
		wantFaults := func(after any, id string) {
			t.Helper()
			verdict, err := projections.Verify(t.Context(), store, log, p)
			if err != nil {
				t.Fatalf("after %v: %v", after, err)
			}
			if id == "" && verdict.Faults() > 0 || id != "" && (len(verdict.Differences) != 1 || verdict.Differences[0].ID != id) {
				t.Errorf("after %v of %q: %v", after, id, verdict)
			}
		}
		wantFaults("nothing", "")
		cursor, err := collection.Find(t.Context(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
		if err != nil {
			t.Fatal(err)
		}
		var documents []bson.Raw
		if err := cursor.All(t.Context(), &documents); err != nil {
			t.Fatal(err)
		}
		for i, change := range changes[p.Name] {
			document := documents[i%len(documents)]
			id := document.Lookup("_id").StringValue()
			by := bson.D{{Key: "_id", Value: id}}
			if _, err := collection.UpdateOne(t.Context(), by, change, options.UpdateOne().SetBypassDocumentValidation(true)); err != nil {
				t.Fatal(err)
			}
			wantFaults(change, id)
			_, err := collection.DeleteOne(t.Context(), by)
			if err == nil {
				_, err = collection.InsertOne(t.Context(), document)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, surplus := range []any{bson.D{{Key: "_id", Value: "surplus"}}, documents[0]} {
			if raw, ok := surplus.(bson.Raw); ok {
				var d bson.D
				if err := bson.Unmarshal(raw, &d); err != nil {
					t.Fatal(err)
				}
				d[0].Value, d[1].Value = "surplus", "surplus"
				surplus = d
			}
			if _, err := collection.InsertOne(t.Context(), surplus, options.InsertOne().SetBypassDocumentValidation(true)); err != nil {
				t.Fatal(err)
			}
			wantFaults(surplus, "surplus")
			if _, err := collection.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "surplus"}}); err != nil {
				t.Fatal(err)
			}
		}
		wantFaults("everything was put back", "")
	}
}

// Collections are created with a validator that accepts what the store writes, and rejects fields of other types and documents that lack
// required fields. FerretDB rejects the command as not implemented, so there a small evaluator stands in for the server.
func TestValidator(t *testing.T) {
	var commands []bson.Raw
	var refusals []error
	store := openBy(t, func(uri string) (*mongo.Store, error) {
		return mongo.OpenPatient(uri, &event.CommandMonitor{
			Started: func(_ context.Context, e *event.CommandStartedEvent) {
				if e.CommandName == "create" {
					commands = append(commands, slices.Clone(e.Command))
				}
			},
			Failed: func(_ context.Context, e *event.CommandFailedEvent) {
				if e.CommandName == "create" {
					refusals = append(refusals, e.Failure)
				}
			},
		})
	})
	build(t, store, 60)
	schemas := map[string]bson.Raw{} // by collection
	for _, command := range commands {
		if schema, err := command.LookupErr("validator", "$jsonSchema"); err == nil {
			schemas[command.Lookup("create").StringValue()] = schema.Document()
		}
	}
	for _, refusal := range refusals {
		if !strings.HasPrefix(refusal.Error(), "(NotImplemented)") {
			t.Errorf("refused with %v", refusal)
		}
	}
	for _, p := range projections.All() {
		collection := active(t, beside(t, store), p.Name)
		schema := schemas[collection.Name()]
		cursor, err := collection.Find(t.Context(), bson.D{})
		var documents []bson.Raw
		if err == nil {
			err = cursor.All(t.Context(), &documents)
		}
		if err != nil || len(documents) == 0 {
			t.Fatalf("%d documents, %v", len(documents), err)
		}
		for _, document := range documents {
			if fault := fits(schema, document); fault != "" {
				t.Errorf("%s: %s", document, fault)
			}
		}
		var whole bson.D
		if err := bson.Unmarshal(documents[0], &whole); err != nil {
			t.Fatal(err)
		}
		for i, field := range whole {
			for _, value := range []any{nil, true} {
				changed := slices.Clone(whole)
				changed[i].Value = value
				if value == nil && field.Key != "_id" {
					changed = slices.Delete(changed, i, i+1)
				}
				raw, err := bson.Marshal(changed)
				if err != nil {
					t.Fatal(err)
				}
				optional := slices.ContainsFunc(p.Schema.Fields, func(f projections.Field) bool { return f.Name == field.Key && f.Optional })
				if fits(schema, raw) == "" && !(value == nil && optional) {
					t.Errorf("%s of %s may be %v", field.Key, p.Name, value)
				}
				if len(refusals) > 0 {
					continue
				}
				if _, err := collection.InsertOne(t.Context(), changed); !driver.IsDuplicateKeyError(err) && err == nil {
					t.Errorf("%v was let in", changed)
				}
			}
		}
	}
}

// fits evaluates a $jsonSchema that uses only the keywords bsonType, required and properties, and says why a document does not match it.
func fits(schema, document bson.Raw) string {
	kinds := map[string]bson.Type{"string": bson.TypeString, "int": bson.TypeInt32, "long": bson.TypeInt64, "date": bson.TypeDateTime, "object": bson.TypeEmbeddedDocument, "array": bson.TypeArray}
	var words struct {
		Kind       bson.RawValue       `bson:"bsonType"`
		Required   []string            `bson:"required"`
		Properties map[string]bson.Raw `bson:"properties"`
	}
	if err := bson.Unmarshal(schema, &words); err != nil {
		return err.Error()
	}
	elements, _ := schema.Elements()
	for _, e := range elements {
		if !slices.Contains([]string{"bsonType", "required", "properties"}, e.Key()) {
			return e.Key() + " is not known"
		}
	}
	for _, name := range words.Required {
		if _, err := document.LookupErr(name); err != nil {
			return name + " is missing"
		}
	}
	for name, property := range words.Properties {
		value, err := document.LookupErr(name)
		if err != nil {
			continue
		}
		of := property.Lookup("bsonType")
		names := []bson.RawValue{of}
		if array, ok := of.ArrayOK(); ok {
			names, _ = array.Values()
		}
		if !slices.ContainsFunc(names, func(n bson.RawValue) bool { kind, ok := kinds[n.StringValue()]; return ok && kind == value.Type }) {
			return name + " is of another kind"
		}
		if inner, ok := value.DocumentOK(); ok {
			if fault := fits(property, inner); fault != "" {
				return name + ": " + fault
			}
		}
	}
	return ""
}
