package api

import (
	"strconv"
	"time"
	"unicode/utf8"

	"roombook/domain"
)

// document is a JSON document that is being appended to: a reply in HAL
// (https://datatracker.ietf.org/doc/html/draft-kelly-json-hal), or a problem.
type document struct {
	out  []byte
	base string // the address that the client used: links begin with it
	zone *time.Location
}

// Write appends what another encoder makes.
func (d *document) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// next puts the comma between two members or elements.
func (d *document) next() {
	if n := len(d.out); n > 0 && d.out[n-1] != '{' && d.out[n-1] != '[' && d.out[n-1] != ':' {
		d.out = append(d.out, ',')
	}
}

// name begins a member. Names are literals of this package and need no escapes.
func (d *document) name(name string) {
	d.next()
	d.out = append(d.out, '"')
	d.out = append(d.out, name...)
	d.out = append(d.out, '"', ':')
}

func (d *document) beginObject() {
	d.next()
	d.out = append(d.out, '{')
}

func (d *document) endObject() { d.out = append(d.out, '}') }

func (d *document) beginArray() {
	d.next()
	d.out = append(d.out, '[')
}

func (d *document) endArray() { d.out = append(d.out, ']') }

func (d *document) null(name string) {
	d.name(name)
	d.out = append(d.out, "null"...)
}

func (d *document) text(name, value string) {
	d.name(name)
	d.out = appendString(d.out, value)
}

// textOrNull is text, with null for what is not known.
func (d *document) textOrNull(name, value string) {
	if value == "" {
		d.null(name)
		return
	}
	d.text(name, value)
}

func (d *document) number(name string, value int64) {
	d.name(name)
	d.out = strconv.AppendInt(d.out, value, 10)
}

// raw is a member whose value is JSON already.
func (d *document) raw(name string, value []byte) {
	d.name(name)
	d.out = append(d.out, value...)
}

// time is RFC 3339 in the server's zone; null for the zero time.
func (d *document) time(name string, t time.Time) {
	if t.IsZero() {
		d.null(name)
		return
	}
	d.name(name)
	d.out = append(d.out, '"')
	d.out = appendTime(d.out, t, d.zone)
	d.out = append(d.out, '"')
}

// beginLinks begins the _links member; endObject ends it.
func (d *document) beginLinks() {
	d.name("_links")
	d.beginObject()
}

// link is a member of _links. The path is given in parts, which need no escapes.
func (d *document) link(relation string, path ...string) {
	d.name(relation)
	d.out = append(d.out, `{"href":"`...)
	d.out = append(d.out, d.base...)
	for _, part := range path {
		d.out = append(d.out, part...)
	}
	d.out = append(d.out, '"', '}')
}

// template is a link whose path is a URI template (RFC 6570).
func (d *document) template(relation, path string) {
	d.name(relation)
	d.out = append(d.out, `{"href":"`...)
	d.out = append(d.out, d.base...)
	d.out = append(d.out, path...)
	d.out = append(d.out, `","templated":true}`...)
}

// slot is the two times of a slot under the names that bookings have for them.
func (d *document) slot(s domain.Slot) {
	d.time("useStartDtm", s.Start)
	d.time("useEndDtm", s.End)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			b = append(b, s[done:i]...)
			b = append(b, "\ufffd"...)
		} else {
			b = append(b, s[done:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
		}
		i++
		done = i
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}
