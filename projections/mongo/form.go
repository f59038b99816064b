package mongo

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"roombook/eventstore"
	"roombook/projections"
)

// form is the form in which the documents of a generation are stored.
type form struct {
	schema projections.Schema
	// text is set for the form of older versions of this program: a JSON text and copies of the keys.
	text bool
}

// bookkeeping is the value of the key _roombook.
type bookkeeping struct {
	Created  int64 `bson:"created"`
	Position int64 `bson:"position"`
	// Status is the status key; absent if one of the document's fields is.
	Status string `bson:"status,omitempty"`
}

// text is a document in the form of older versions of this program.
type text struct {
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

// name is the name of a column's field; empty if it has none.
func (f form) name(c projections.Column) string {
	field, ok := f.schema.Field(c)
	switch {
	case c == projections.ColumnID:
		return "_id"
	case f.text:
		return string(c)
	case ok:
		return field.Name
	case c == projections.ColumnCreated || c == projections.ColumnStatus:
		return "_roombook." + string(c)
	}
	return ""
}

// position is the name of the field with the position of the last event.
func (f form) position() string {
	if f.text {
		return "position"
	}
	return "_roombook.position"
}

// time is a time in microseconds since 1970 as it is compared with the start or end, rounded down to the milliseconds of a date.
func (f form) time(µs int64) any {
	if f.text {
		return µs
	}
	ms := µs / 1000
	if µs < ms*1000 {
		ms--
	}
	return bson.DateTime(ms)
}

// encode encodes a row for storage.
func (f form) encode(row projections.Row) (any, error) {
	if f.text {
		k := f.schema.Keys(row.Document)
		document, err := projections.DocumentText(row.Document)
		return text{row.ID, int64(row.Created), int64(row.Position), k.Booking, k.Room, k.User, row.Status, k.Start, k.End, document}, err
	}
	fields, err := f.marshal(row.Document)
	if err != nil {
		return nil, err
	}
	kept := bookkeeping{Created: int64(row.Created), Position: int64(row.Position)}
	if _, is := f.schema.Field(projections.ColumnStatus); !is {
		kept.Status = row.Status
	}
	beside, err := bson.Marshal(kept)
	if err != nil {
		return nil, err
	}
	start, document := bsoncore.AppendDocumentStart(nil)
	document = bsoncore.AppendStringElement(document, "_id", row.ID)
	document = append(document, fields[4:len(fields)-1]...) // without length and terminator
	document = bsoncore.AppendDocumentElement(document, "_roombook", beside)
	document, err = bsoncore.AppendDocumentEnd(document, start)
	return bson.Raw(document), err
}

// nested reports whether a field of the documents has parts, which are named by their tags for JSON: they have none for BSON.
func (f form) nested() bool {
	return slices.ContainsFunc(f.schema.Fields, func(field projections.Field) bool {
		kind := f.schema.Document.Field(field.Index).Type.Kind()
		return kind == reflect.Slice || kind == reflect.Pointer
	})
}

func (f form) marshal(document any) ([]byte, error) {
	if !f.nested() {
		return bson.Marshal(document)
	}
	var b bytes.Buffer
	encoder := bson.NewEncoder(bson.NewDocumentWriter(&b))
	encoder.UseJSONStructTags()
	err := encoder.Encode(document)
	return b.Bytes(), err
}

func (f form) unmarshal(stored bson.Raw, document any) error {
	if !f.nested() {
		return bson.Unmarshal(stored, document)
	}
	decoder := bson.NewDecoder(bson.NewDocumentReader(bytes.NewReader(stored)))
	decoder.UseJSONStructTags()
	return decoder.Decode(document)
}

// decode decodes a row. Its error is ErrForeign.
func (f form) decode(stored bson.Raw) (projections.Row, error) {
	row := projections.Row{ID: id(stored)}
	err := f.decodeInto(&row, stored)
	if err != nil {
		err = fmt.Errorf("%s: %w: %w", row.ID, projections.ErrForeign, err)
	}
	return row, err
}

func (f form) decodeInto(row *projections.Row, stored bson.Raw) error {
	if f.text {
		var t text
		if err := bson.Unmarshal(stored, &t); err != nil {
			return err
		}
		document, err := f.schema.ParseDocument(t.Document)
		row.Created, row.Position, row.Status, row.Document = eventstore.Position(t.Created), eventstore.Position(t.Position), t.Status, document
		return err
	}
	var kept struct {
		Roombook bookkeeping `bson:"_roombook"`
	}
	if err := bson.Unmarshal(stored, &kept); err != nil {
		return err
	}
	row.Created, row.Position, row.Status = eventstore.Position(kept.Roombook.Created), eventstore.Position(kept.Roombook.Position), kept.Roombook.Status
	document := reflect.New(f.schema.Document).Interface()
	if err := f.unmarshal(stored, document); err != nil {
		return err
	}
	row.Document = document
	if _, is := f.schema.Field(projections.ColumnStatus); is {
		row.Status = f.schema.Keys(document).Status
	}
	return nil
}

var errAltered = errors.New("it is not stored as it was written")

// check compares what is stored with what is written for a row.
func (f form) check(row projections.Row, stored bson.Raw) error {
	if f.text {
		var t text
		if err := bson.Unmarshal(stored, &t); err != nil {
			return err
		}
		if f.schema.Misplaces(row.Document, projections.Keys{Booking: t.Booking, Room: t.Room, User: t.User, Start: t.Start, End: t.End}) {
			return errAltered
		}
		return nil
	}
	written, err := f.encode(row)
	if err == nil && !bytes.Equal(written.(bson.Raw), stored) {
		err = errAltered
	}
	return err
}

// id is the id of a stored document, or, if it is not a string, its JSON.
func id(stored bson.Raw) string {
	id := stored.Lookup("_id")
	if text, ok := id.StringValueOK(); ok {
		return text
	}
	return id.String()
}

// validator is the collection's validator. It allows unknown fields, since a later version may keep the generation while it rebuilds it.
func (f form) validator() bson.D {
	kinds := map[reflect.Kind]any{
		reflect.String: "string", reflect.Int: bson.A{"int", "long"}, reflect.Struct: "date", reflect.Slice: "array", reflect.Pointer: "object",
	}
	of := func(kind any) bson.D { return bson.D{{Key: "bsonType", Value: kind}} }
	required, properties := bson.A{"_roombook"}, bson.D{
		{Key: "_id", Value: of("string")},
		{Key: "_roombook", Value: bson.D{
			{Key: "bsonType", Value: "object"},
			{Key: "required", Value: bson.A{"created", "position"}},
			{Key: "properties", Value: bson.D{{Key: "created", Value: of("long")}, {Key: "position", Value: of("long")}, {Key: "status", Value: of("string")}}},
		}},
	}
	for _, field := range f.schema.Fields {
		properties = append(properties, bson.E{Key: field.Name, Value: of(kinds[f.schema.Document.Field(field.Index).Type.Kind()])})
		if !field.Optional {
			required = append(required, field.Name)
		}
	}
	return bson.D{{Key: "$jsonSchema", Value: bson.D{
		{Key: "bsonType", Value: "object"},
		{Key: "required", Value: required},
		{Key: "properties", Value: properties},
	}}}
}
