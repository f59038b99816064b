package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"roombook/projections"
)

// form is how a generation's table has documents: a column for each field, which is that of a key where the field is one. Tables of older
// programs have one JSON text in its place.
type form struct {
	schema projections.Schema // of the fields that the table has
	text   bool
	read   string   // the columns that a document is read from, of a table d
	beside []string // those of them that are no keys
}

// column is that of a field.
func column(f projections.Field) string {
	if f.Key != "" {
		return quoted(f.Key)
	}
	return `"document.` + f.Name + `"`
}

// definitions are the columns of a table beside those of the keys.
func definitions(schema projections.Schema) string {
	var sql strings.Builder
	for _, f := range schema.Fields {
		if f.Key != "" {
			continue
		}
		kind := "INTEGER" // times are microseconds since 1970
		if schema.Document.Field(f.Index).Type.Kind() == reflect.String {
			kind = "TEXT"
		}
		if !f.Optional {
			kind += " NOT NULL"
		}
		sql.WriteString(",\n" + column(f) + " " + kind)
	}
	return sql.String()
}

// formOf is the form of a generation, whatever version of this program made it.
func formOf(ctx context.Context, c *connection, ref projections.Ref, schema projections.Schema) (*form, error) {
	var columns []string
	err := c.query(ctx, "SELECT name FROM pragma_table_info(?)", []driver.Value{ref.String()}, func(v []driver.Value) {
		columns = append(columns, quoted(projections.Column(v[0].(string))))
	})
	if err != nil {
		return nil, err
	}
	f := &form{schema: schema}
	if slices.Contains(columns, `"document"`) {
		f.text, f.read, f.beside = true, "d.document", []string{"document"}
		return f, nil
	}
	f.schema.Fields = slices.DeleteFunc(slices.Clone(schema.Fields), func(field projections.Field) bool { return !slices.Contains(columns, column(field)) })
	var read []string
	for _, field := range f.schema.Fields {
		read = append(read, "d."+column(field))
		if field.Key == "" {
			f.beside = append(f.beside, column(field))
		}
	}
	f.read = strings.Join(read, ", ")
	return f, nil
}

// form is formOf, which does not change and is remembered.
func (f *file) form(ctx context.Context, c *connection, ref projections.Ref, schema projections.Schema) (*form, error) {
	if known, ok := f.forms.Load(ref); ok {
		return known.(*form), nil
	}
	form, err := formOf(ctx, c, ref, schema)
	if err == nil && form.read != "" {
		f.forms.Store(ref, form)
	}
	return form, err
}

// document is what the columns that it is read from say.
func (f *form) document(values []driver.Value) (any, error) {
	if f.text {
		document, err := f.schema.ParseDocument(values[0].(string))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", projections.ErrForeign, err)
		}
		return document, nil
	}
	document := reflect.New(f.schema.Document)
	for i, field := range f.schema.Fields {
		if values[i] == nil {
			continue
		}
		switch into := document.Elem().Field(field.Index); into.Kind() {
		case reflect.String:
			into.SetString(values[i].(string))
		case reflect.Int:
			into.SetInt(values[i].(int64))
		default:
			*into.Addr().Interface().(*time.Time) = time.UnixMicro(values[i].(int64)).UTC()
		}
	}
	return document.Interface(), nil
}

// values are those of the columns beside the keys.
func (f *form) values(document any) ([]driver.Value, error) {
	if f.text {
		text, err := projections.DocumentText(document)
		return []driver.Value{text}, err
	}
	values := make([]driver.Value, 0, len(f.beside))
	d := reflect.ValueOf(document).Elem()
	for _, field := range f.schema.Fields {
		v := d.Field(field.Index)
		switch {
		case field.Key != "":
		case field.Optional && v.IsZero():
			values = append(values, nil)
		case v.Kind() == reflect.String:
			values = append(values, v.String())
		case v.Kind() == reflect.Int:
			values = append(values, v.Int())
		default:
			values = append(values, v.Addr().Interface().(*time.Time).UnixMicro())
		}
	}
	return values, nil
}
