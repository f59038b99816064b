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

	"roombook/projections"
)

// documents reads and writes the documents of a generation. Each is one text, the values of its fields in the order that the generation
// notes, which is read in less time than JSON, or than a column for each. A time is in milliseconds since 1970, and what has nothing to
// say is empty. A generation that notes no order is of an older program, and of JSON.
type documents struct {
	schema projections.Schema
	order  []int // the fields by their place in the text, -1 for one that the schema does not have; nil for JSON
	err    error // of all that read has not read
}

// separator is between values. A value that has it, or the other one, is escaped.
const (
	separator = "\x1f"
	escape    = "\x1b"
)

var (
	escaped   = strings.NewReplacer(escape, escape+"0", separator, escape+"1")
	unescaped = strings.NewReplacer(escape+"0", escape, escape+"1", separator)
)

// order is what a generation notes.
func order(schema projections.Schema) string {
	names := make([]string, len(schema.Fields))
	for i, f := range schema.Fields {
		names[i] = f.Name
	}
	return strings.Join(names, " ")
}

// documents are those of a generation, of which always the same schema is asked. What it notes does not change, and is remembered.
func (f *file) documents(ctx context.Context, c *connection, ref projections.Ref, schema projections.Schema) (*documents, error) {
	if order, ok := f.orders.Load(ref); ok {
		return &documents{schema: schema, order: order.([]int)}, nil
	}
	d, err := documentsOf(ctx, c, ref, schema)
	if err == nil {
		f.orders.Store(ref, d.order)
	}
	return d, err
}

// documentsOf are those of a generation.
func documentsOf(ctx context.Context, c *connection, ref projections.Ref, schema projections.Schema) (*documents, error) {
	d := &documents{schema: schema}
	err := c.query(ctx, "SELECT fields FROM generations WHERE projection = ? AND number = ?", []driver.Value{ref.Projection, int64(ref.Number)},
		func(v []driver.Value) {
			for name := range strings.FieldsSeq(v[0].(string)) {
				d.order = append(d.order, slices.IndexFunc(schema.Fields, func(f projections.Field) bool { return f.Name == name }))
			}
		})
	return d, err
}

// read is the document that a text is. If it is none, read returns nil and notes an error.
func (d *documents) read(text string) any {
	document, err := d.parse(text)
	if err != nil {
		d.err = errors.Join(d.err, fmt.Errorf("%w: %w", projections.ErrForeign, err))
		return nil
	}
	return document
}

var errOtherFields = errors.New("it does not have the fields of a document")

func (d *documents) parse(text string) (any, error) {
	if d.order == nil {
		return d.schema.ParseDocument(text)
	}
	document := reflect.New(d.schema.Document)
	more := true
	for _, i := range d.order {
		if !more {
			return nil, errOtherFields
		}
		var value string
		value, text, more = strings.Cut(text, separator)
		if i < 0 || value == "" {
			continue
		}
		switch field := document.Elem().Field(d.schema.Fields[i].Index); field.Kind() {
		case reflect.String:
			if strings.Contains(value, escape) {
				value = unescaped.Replace(value)
			}
			field.SetString(value)
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
	if more {
		return nil, errOtherFields
	}
	return document.Interface(), nil
}

// write is the text of a document.
func (d *documents) write(document any) (string, error) {
	if d.order == nil {
		return projections.DocumentText(document)
	}
	text := make([]byte, 0, 256)
	value := reflect.ValueOf(document).Elem()
	for place, i := range d.order {
		if place > 0 {
			text = append(text, separator...)
		}
		if i < 0 {
			continue
		}
		field := value.Field(d.schema.Fields[i].Index)
		switch {
		case d.schema.Fields[i].Optional && field.IsZero():
		case field.Kind() == reflect.String:
			text = append(text, escaped.Replace(field.String())...)
		case field.Kind() == reflect.Int:
			text = strconv.AppendInt(text, field.Int(), 10)
		default:
			text = strconv.AppendInt(text, field.Addr().Interface().(*time.Time).UnixMilli(), 10)
		}
	}
	return string(text), nil
}

// kept reports whether a row was written as it is stored: as a text, and under keys.
func (d *documents) kept(row projections.Row, keys projections.Keys, text string) bool {
	if d.order != nil {
		written, err := d.write(row.Document)
		if err != nil || written != text {
			return false
		}
	}
	return !d.schema.Misplaces(row.Document, keys)
}
