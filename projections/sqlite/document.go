package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/projections"
)

// documents encodes and decodes the documents of a generation. A document is one text: the values of its fields, in the order that
// the generation records, with times in milliseconds since 1970, slices and structs in JSON, and absent fields empty. This is faster to read
// than JSON or a column for each field. A generation without a recorded order was built by an older version and has JSON.
type documents struct {
	schema projections.Schema
	order  []int // for each value the index of its field, or -1 if the schema has no such field; nil for JSON
	err    error // the errors of read

	// made holds zero documents, which are allocated in one go, as many as the caller expects; filled of them are in use.
	made   reflect.Value
	filled int
	likely int
}

// empty returns a zero document.
func (d *documents) empty() reflect.Value {
	if !d.made.IsValid() || d.filled == d.made.Len() {
		n := max(1, d.likely)
		d.made, d.filled = reflect.MakeSlice(reflect.SliceOf(d.schema.Document), n, n), 0
	}
	d.filled++
	return d.made.Index(d.filled - 1)
}

// separator is ASCII's unit separator, which ends each value. It and escape itself are escaped within values.
const (
	separator = '\x1f'
	escape    = "\x1b"
)

var (
	escaped   = strings.NewReplacer(escape, escape+"0", string(separator), escape+"1")
	unescaped = strings.NewReplacer(escape+"0", escape, escape+"1", string(separator))
)

// order is the order of fields as a generation records it.
func order(schema projections.Schema) string {
	names := make([]string, len(schema.Fields))
	for i, f := range schema.Fields {
		names[i] = f.Name
	}
	return strings.Join(names, " ")
}

// documents is documentsOf with a cache, which relies on there being one schema per generation.
func (f *file) documents(ctx context.Context, c *connection, ref projections.Ref, schema projections.Schema) (*documents, error) {
	if order, ok := f.orders.Load(ref); ok {
		return &documents{schema: schema, order: order.([]int)}, nil
	}
	d, found, err := documentsOf(ctx, c, ref, schema, "")
	if found {
		f.orders.Store(ref, d.order)
	}
	return d, err
}

// documentsOf returns the documents of a generation, and whether there is one for which a further condition holds.
func documentsOf(ctx context.Context, c *connection, ref projections.Ref, schema projections.Schema, condition string) (d *documents, found bool, err error) {
	d = &documents{schema: schema}
	err = c.query(ctx, "SELECT fields FROM generations WHERE projection = ? AND number = ? "+condition, []driver.Value{ref.Projection, int64(ref.Number)},
		func(v []driver.Value) {
			found = true
			for name := range strings.FieldsSeq(v[0].(string)) {
				d.order = append(d.order, slices.IndexFunc(schema.Fields, func(f projections.Field) bool { return f.Name == name }))
			}
		})
	return d, found, err
}

// read decodes a document. It returns nil if that fails, and adds to the errors.
func (d *documents) read(text string) any {
	document, err := d.parse(text)
	if err != nil {
		d.err = errors.Join(d.err, fmt.Errorf("%w: %w", projections.ErrForeign, err))
		return nil
	}
	return document
}

var errOtherFields = errors.New("the number of fields is wrong")

func (d *documents) parse(text string) (any, error) {
	if d.order == nil {
		return d.schema.ParseDocument(text)
	}
	document := d.empty()
	escapes := strings.Contains(text, escape)
	for _, i := range d.order {
		end := strings.IndexByte(text, separator)
		if end < 0 {
			return nil, errOtherFields
		}
		value := text[:end]
		text = text[end+1:]
		if i < 0 || value == "" {
			continue
		}
		switch field := document.Field(d.schema.Fields[i].Index); field.Kind() {
		case reflect.String:
			if escapes {
				value = unescaped.Replace(value)
			}
			field.SetString(value)
		case reflect.Slice, reflect.Pointer:
			if err := json.Unmarshal([]byte(value), field.Addr().Interface(), jsontext.AllowInvalidUTF8(true)); err != nil {
				return nil, err
			}
		default:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return nil, err
			}
			if field.Kind() == reflect.Int {
				field.SetInt(n)
			} else {
				*field.Addr().Interface().(*time.Time) = time.UnixMilli(n).UTC()
			}
		}
	}
	if text != "" {
		return nil, errOtherFields
	}
	return document.Addr().Interface(), nil
}

// write encodes a document.
func (d *documents) write(document any) (string, error) {
	if d.order == nil {
		return projections.DocumentText(document)
	}
	text := make([]byte, 0, 256)
	value := reflect.ValueOf(document).Elem()
	for _, i := range d.order {
		if i < 0 {
			text = append(text, separator)
			continue
		}
		field := value.Field(d.schema.Fields[i].Index)
		switch {
		case d.schema.Fields[i].Optional && field.IsZero():
		case field.Kind() == reflect.String:
			text = append(text, escaped.Replace(field.String())...)
		case field.Kind() == reflect.Slice || field.Kind() == reflect.Pointer:
			nested, err := projections.DocumentText(field.Interface())
			if err != nil {
				return "", err
			}
			text = append(text, nested...) // in JSON there is neither the separator nor the escape
		case field.Kind() == reflect.Int:
			text = strconv.AppendInt(text, field.Int(), 10)
		default:
			text = strconv.AppendInt(text, field.Addr().Interface().(*time.Time).UnixMilli(), 10)
		}
		text = append(text, separator)
	}
	return string(text), nil
}

// kept reports whether a row, as it is stored, is as it was written: its text and its keys.
func (d *documents) kept(row projections.Row, keys projections.Keys, text string) bool {
	if d.order != nil {
		written, err := d.write(row.Document)
		if err != nil || written != text {
			return false
		}
	}
	return !d.schema.Misplaces(row.Document, keys)
}
