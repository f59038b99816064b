package eventstore

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"roombook/domain"
)

// form writes or reads a JSON object in the one form that this program stores: the bytes of encoding/json, members in the
// order of the struct, times in UTC. A function that names an object's members to a form serves both directions.
//
// Reading accepts exactly that form and no other; it is several times faster than encoding/json, which reads whatever is
// left over. Strings that were read share the memory of the input.
type form struct {
	reading bool
	out     []byte // writing: the object so far
	in      string // reading: what is left of it
	first   bool   // no member of the present object has been passed
	off     bool   // writing: a value cannot be stored; reading: the input has another form
}

func (f *form) begin() {
	f.first = true
	if !f.reading {
		f.out = append(f.out, '{')
		return
	}
	f.skip('{')
}

func (f *form) end() {
	f.first = false
	if !f.reading {
		f.out = append(f.out, '}')
		return
	}
	f.skip('}')
}

// complete reports whether the input was in the form, to its end.
func (f *form) complete() bool { return !f.off && f.in == "" }

func (f *form) skip(c byte) {
	if f.in == "" || f.in[0] != c {
		f.off = true
		return
	}
	f.in = f.in[1:]
}

// next passes the name of a member. Reading, it reports whether that is the member that comes next.
func (f *form) next(name string) bool {
	if !f.reading {
		if !f.first {
			f.out = append(f.out, ',')
		}
		f.out = append(f.out, '"')
		f.out = append(f.out, name...)
		f.out = append(f.out, '"', ':')
		f.first = false
		return true
	}
	in := f.in
	if !f.first {
		if in == "" || in[0] != ',' {
			return false
		}
		in = in[1:]
	}
	n := len(name)
	if len(in) < n+3 || in[0] != '"' || in[1:n+1] != name || in[n+1] != '"' || in[n+2] != ':' {
		return false
	}
	f.in = in[n+3:]
	f.first = false
	return true
}

// must passes the name of a member that is always there.
func (f *form) must(name string) {
	if !f.next(name) {
		f.off = true
	}
}

// text is a string.
func text[S ~string](f *form, name string, v *S) {
	f.must(name)
	if f.reading {
		*v = S(f.readString())
		return
	}
	f.out = appendString(f.out, string(*v))
}

// optionalText is a string that is left out if it is empty.
func optionalText[S ~string](f *form, name string, v *S) {
	if f.reading && f.next(name) {
		*v = S(f.readString())
	}
	if !f.reading && *v != "" {
		f.next(name)
		f.out = appendString(f.out, string(*v))
	}
}

func (f *form) time(name string, v *time.Time) {
	f.must(name)
	f.instant(v)
}

// optionalTime is a time that is left out if it is zero.
func (f *form) optionalTime(name string, v *time.Time) {
	if (f.reading || !v.IsZero()) && f.next(name) {
		f.instant(v)
	}
}

func (f *form) instant(v *time.Time) {
	if f.reading {
		s := f.readString()
		if f.off || s == "" || s[len(s)-1] != 'Z' || v.UnmarshalText([]byte(s)) != nil {
			f.off = true
		}
		return
	}
	t := v.UTC()
	if y := t.Year(); y < 0 || y > 9999 { // RFC 3339 has four digits
		f.off = true
	}
	f.out = append(f.out, '"')
	f.out = t.AppendFormat(f.out, time.RFC3339Nano)
	f.out = append(f.out, '"')
}

func (f *form) slot(name string, v *domain.Slot) {
	f.must(name)
	f.begin()
	f.time("start", &v.Start)
	f.time("end", &v.End)
	f.end()
}

func (f *form) integer(name string, v *int64) {
	f.must(name)
	if f.reading {
		*v = f.readInteger()
		return
	}
	f.out = strconv.AppendInt(f.out, *v, 10)
}

// optionalRevision is a number that is left out if it is 0.
func (f *form) optionalRevision(name string, v *domain.Revision) {
	if f.reading && f.next(name) {
		*v = domain.Revision(f.readInteger())
	}
	if !f.reading && *v != 0 {
		f.next(name)
		f.out = strconv.AppendInt(f.out, int64(*v), 10)
	}
}

// readString reads a string without escapes.
func (f *form) readString() string {
	f.skip('"')
	for i := 0; i < len(f.in); i++ {
		switch c := f.in[i]; {
		case c == '"':
			s := f.in[:i]
			f.in = f.in[i+1:]
			return s
		case c == '\\' || c < ' ':
			f.off = true
			return ""
		case c >= utf8.RuneSelf:
			_, size := utf8.DecodeRuneInString(f.in[i:])
			if size == 1 {
				f.off = true
				return ""
			}
			i += size - 1
		}
	}
	f.off = true
	return ""
}

func (f *form) readInteger() int64 {
	n := strings.IndexAny(f.in, ",}")
	if n < 0 {
		f.off = true
		return 0
	}
	digits := f.in[:n]
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(v, 10) != digits {
		f.off = true
		return 0
	}
	f.in = f.in[n:]
	return v
}

// appendString appends s as encoding/json writes it.
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendEscaped(b, s)
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if size == 1 || r == '\u2028' || r == '\u2029' {
				return appendEscaped(b, s)
			}
			i += size - 1
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	escaped, _ := json.Marshal(s) // a string always has a JSON form
	return append(b, escaped...)
}
