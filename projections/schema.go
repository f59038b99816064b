package projections

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Schema says what the documents of a projection are and how they are looked for. A store makes the indexes.
type Schema struct {
	// Document is the type of the documents: a struct.
	Document reflect.Type
	Fields   []Field
	Indexes  []Index
}

// Field is a field of a document: a text, a whole number (an int) or a time, which is in UTC and of whole milliseconds.
type Field struct {
	// Name is the field's name in JSON and in BSON alike, and in replies.
	Name string
	// Optional means that the field is absent where it has nothing to say, which is its zero value. All others are always there.
	Optional bool
	// Key is the column of the keys that the field is; empty for most.
	Key Column
	// Index is that of the field in the struct.
	Index int
}

// SchemaOf is the schema of documents of type D, whose fields have tags: json and bson with the same name, and omitzero and omitempty if
// they are optional; key for those that are keys.
func SchemaOf[D any](indexes ...Index) Schema {
	s := Schema{Document: reflect.TypeFor[D](), Indexes: indexes}
	for f := range s.Document.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		bson := name
		if options != "" {
			bson += ",omitempty"
		}
		kind := f.Type.Kind()
		if name == "" || options != "" && options != "omitzero" || f.Tag.Get("bson") != bson ||
			kind != reflect.String && kind != reflect.Int && f.Type != reflect.TypeFor[time.Time]() {
			panic(fmt.Sprintf("the field %s of %s is not one of a document", f.Name, s.Document))
		}
		s.Fields = append(s.Fields, Field{Name: name, Optional: options != "", Key: Column(f.Tag.Get("key")), Index: f.Index[0]})
	}
	return s
}

// Field is the field that is a key.
func (s Schema) Field(key Column) (Field, bool) {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Key == key })
	if i < 0 {
		return Field{}, false
	}
	return s.Fields[i], true
}

// Keys are those that a document has in its fields. What has no end is about a moment.
func (s Schema) Keys(document any) Keys {
	var k Keys
	d := reflect.ValueOf(document).Elem()
	for _, f := range s.Fields {
		v := d.Field(f.Index)
		switch f.Key {
		case ColumnBooking:
			k.Booking = v.String()
		case ColumnRoom:
			k.Room = v.String()
		case ColumnUser:
			k.User = v.String()
		case ColumnStatus:
			k.Status = v.String()
		case ColumnStart:
			k.Start = v.Addr().Interface().(*time.Time).UnixMicro()
			k.End = k.Start + 1
		case ColumnEnd:
			k.End = v.Addr().Interface().(*time.Time).UnixMicro()
		}
	}
	return k
}

// shown cuts a time of an event to what documents and replies have of it: whole milliseconds, in UTC.
func shown(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
