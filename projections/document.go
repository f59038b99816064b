package projections

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Documents are stored as JSON objects, written and read by hand: a page of a list is twenty of them, and encoding/json
// takes longer for a page than the store does.

// encoder appends the fields of one document.
type encoder struct{ json []byte }

func (e *encoder) name(name string) {
	separator := byte(',')
	if len(e.json) == 0 {
		separator = '{'
	}
	e.json = append(e.json, separator, '"')
	e.json = append(e.json, name...)
	e.json = append(e.json, '"', ':')
}

func (e *encoder) text(name, value string) {
	e.name(name)
	if plain(value) {
		e.json = append(e.json, '"')
		e.json = append(e.json, value...)
		e.json = append(e.json, '"')
		return
	}
	quoted, _ := json.Marshal(value) // a string always has a JSON form
	e.json = append(e.json, quoted...)
}

// time writes a time in UTC; the zero time is empty.
func (e *encoder) time(name string, value time.Time) {
	e.name(name)
	e.json = append(e.json, '"')
	if !value.IsZero() {
		e.json = value.UTC().AppendFormat(e.json, time.RFC3339Nano)
	}
	e.json = append(e.json, '"')
}

func (e *encoder) number(name string, value int) {
	e.name(name)
	e.json = strconv.AppendInt(e.json, int64(value), 10)
}

func (e *encoder) document() string {
	e.json = append(e.json, '}')
	return string(e.json)
}

// plain reports whether a JSON string holds the value as it is.
func plain(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// decoder reads the fields of a document. It expects them as encoder writes them, in the same order; from the first field
// that is not so it looks them up by name, so that documents of other versions and of other hands are read as well. A field
// that is missing is zero.
type decoder struct {
	whole  string
	rest   string
	fields map[string]any // nil while the fields come in order
	err    error
}

func newDecoder(document string) decoder { return decoder{whole: document, rest: document} }

// value moves to the value of the field if it is the next one.
func (d *decoder) value(name string) bool {
	n := len(name)
	if d.fields != nil || len(d.rest) < n+4 || d.rest[1] != '"' || d.rest[2:n+2] != name || d.rest[n+2:n+4] != `":` {
		return false
	}
	d.rest = d.rest[n+4:]
	return true
}

// lookUp is the way out when the fields are not as expected.
func (d *decoder) lookUp(name string) any {
	if d.fields == nil {
		d.fields = map[string]any{}
		if err := json.Unmarshal([]byte(d.whole), &d.fields); err != nil && d.err == nil {
			d.err = err
		}
	}
	return d.fields[name]
}

func (d *decoder) text(name string) string {
	if d.value(name) && d.rest != "" && d.rest[0] == '"' {
		if end := strings.IndexByte(d.rest[1:], '"'); end >= 0 {
			if value := d.rest[1 : end+1]; strings.IndexByte(value, '\\') < 0 {
				d.rest = d.rest[end+2:]
				return value
			}
		}
	}
	value, _ := d.lookUp(name).(string)
	return value
}

func (d *decoder) time(name string) time.Time {
	value := d.text(name)
	if value == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil && d.err == nil {
		d.err = err
	}
	return t.UTC()
}

func (d *decoder) number(name string) int {
	if d.value(name) {
		if end := strings.IndexAny(d.rest, ",}"); end >= 0 {
			if value, err := strconv.Atoi(d.rest[:end]); err == nil {
				d.rest = d.rest[end:]
				return value
			}
		}
	}
	value, _ := d.lookUp(name).(float64)
	return int(value)
}
