package projections

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Schema describes the documents of a projection and their indexes.
type Schema struct {
	// Document is the type of the documents, a struct.
	Document reflect.Type
	Fields   []Field
	Indexes  []Index
}

// Field is a field of a document: a string, an int, a time.Time in UTC of whole milliseconds, or, if it is optional, a slice or a pointer
// to a struct, whose parts are named by their json tags and are left out while they are zero.
type Field struct {
	// Name is the field's name in JSON, in BSON and in replies.
	Name string
	// Optional fields are absent while they are zero. All other fields are always present.
	Optional bool
	// Key is the key that the field holds; empty for most fields.
	Key Column
	// Index is the index of the field in the struct.
	Index int
}

// SchemaOf derives the schema of documents of type D from the tags of its fields: json and bson hold the same name, with omitzero and
// omitempty for an optional field; key holds the column of a key. It panics if D is not such a struct.
func SchemaOf[D any](indexes ...Index) Schema {
	s := Schema{Document: reflect.TypeFor[D](), Indexes: indexes}
	for f := range s.Document.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		bson := name
		if options != "" {
			bson += ",omitempty"
		}
		if name == "" || options != "" && options != "omitzero" || f.Tag.Get("bson") != bson || !storable(f.Type, options != "") {
			panic(fmt.Sprintf("field %s of %s cannot be a field of a document", f.Name, s.Document))
		}
		s.Fields = append(s.Fields, Field{Name: name, Optional: options != "", Key: Column(f.Tag.Get("key")), Index: f.Index[0]})
	}
	return s
}

func storable(t reflect.Type, optional bool) bool {
	switch t.Kind() {
	case reflect.String, reflect.Int:
		return true
	case reflect.Slice, reflect.Pointer:
		return optional
	default:
		return t == reflect.TypeFor[time.Time]()
	}
}

// Field is the field that holds a key.
func (s Schema) Field(key Column) (Field, bool) {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Key == key })
	if i < 0 {
		return Field{}, false
	}
	return s.Fields[i], true
}

// Keys are the keys that a document holds in its fields. A document without an end is about an instant.
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

// shown is an event's time as documents and replies show it: in UTC, cut to whole milliseconds.
func shown(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
