package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"roombook/domain"
)

// body is a command's body, a flat JSON object, and the faults found in it so far. A handler takes the members that it knows
// out of it, one after the other, and then asks check for everything that is wrong.
type body struct {
	zone    *time.Location
	members []member
	faults  []fault
}

// member is a member of the object as it stands in the request's buffer.
type member struct {
	name  []byte
	value []byte // JSON
	taken bool
}

// fault is one thing wrong with one value.
type fault struct {
	pointer string // RFC 6901
	detail  string // begins with "must" where it says what would be right
}

// invalidBody lists every fault of a body.
type invalidBody struct {
	faults []fault
	policy error // that found them, if it was the policy
}

// Unwrap is for those who ask whether it was the policy.
func (e *invalidBody) Unwrap() error { return e.policy }

func (e *invalidBody) Error() string {
	var b strings.Builder
	b.WriteString("the body is invalid")
	for _, f := range e.faults {
		fmt.Fprintf(&b, "; %s %s", f.pointer, f.detail)
	}
	return b.String()
}

// malformed is a body that is not JSON.
type malformed struct{ detail string }

func (e *malformed) Error() string { return "the body is malformed: " + e.detail }

// unsupportedMedia is a body of a type that the operation does not take.
type unsupportedMedia struct {
	given string
	takes []string
}

func (e *unsupportedMedia) Error() string {
	return fmt.Sprintf("the media type %q is not supported", e.given)
}

const (
	mediaJSON    = "application/json"
	mediaHAL     = "application/hal+json"
	mediaMerge   = "application/merge-patch+json" // RFC 7396
	mediaProblem = "application/problem+json"     // RFC 9457
)

// unsupportedCoding is a body that has been compressed, or encoded in another way.
type unsupportedCoding struct{ given string }

func (e *unsupportedCoding) Error() string {
	return fmt.Sprintf("the content coding %q is not supported", e.given)
}

// decode reads the request's body. An error means that there is nothing to take from it.
func (x *exchange) decode() (*body, error) {
	if x.r.ContentLength != 0 {
		if err := x.checkContentType(); err != nil {
			return nil, err
		}
	}
	if err := x.readBody(); err != nil {
		return nil, err
	}
	x.body.zone = x.server.zone
	return &x.body, x.body.parse(x.in)
}

// decodeOptional is decode for an operation that needs no body.
func (x *exchange) decodeOptional() (*body, error) {
	if x.r.ContentLength == 0 {
		return &x.body, nil
	}
	return x.decode()
}

func (x *exchange) checkContentType() error {
	if coding := strings.Join(x.r.Header["Content-Encoding"], ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		return &unsupportedCoding{coding}
	}
	given := x.r.Header.Get("Content-Type")
	if given == mediaJSON {
		return nil
	}
	takes := []string{mediaJSON, mediaHAL}
	if x.r.Method == http.MethodPatch {
		takes = append(takes, mediaMerge)
	}
	media, params, err := mime.ParseMediaType(given)
	if charset, ok := params["charset"]; err != nil || !slices.Contains(takes, media) || ok && !strings.EqualFold(charset, "utf-8") {
		return &unsupportedMedia{given: given, takes: takes}
	}
	return nil
}

// parse splits the object into its members.
func (b *body) parse(in []byte) error {
	if err := wellFormed(in); err != nil {
		return err
	}
	in = bytes.TrimLeft(in, space)
	if in[0] != '{' {
		return &invalidBody{faults: []fault{{"", "must be a JSON object"}}}
	}
	// From here on the syntax is known to be right.
	rest := bytes.TrimLeft(in[1:], space)
	for rest[0] != '}' {
		n := valueLength(rest)
		name := rest[1 : n-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(unquote(rest[:n]))
		}
		rest = bytes.TrimLeft(rest[n:], space)
		rest = bytes.TrimLeft(rest[1:], space) // the colon
		n = valueLength(rest)
		b.members = append(b.members, member{name: name, value: rest[:n]})
		rest = bytes.TrimLeft(rest[n:], space)
		if rest[0] == ',' {
			rest = bytes.TrimLeft(rest[1:], space)
		}
	}
	return nil
}

const space = " \t\r\n"

// wellFormed is the error of a body that is not one JSON text in UTF-8, with the place where it ceases to be one.
func wellFormed(in []byte) error {
	if json.Valid(in) && utf8.Valid(in) {
		return nil
	}
	if len(bytes.TrimLeft(in, space)) == 0 {
		return &malformed{"the body is empty; it must be a JSON object"}
	}
	var into json.RawMessage
	err := json.Unmarshal(in, &into)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := in[:min(int(syntax.Offset), len(in))]
		line := bytes.Count(before, []byte("\n")) + 1
		column := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
		return &malformed{fmt.Sprintf("%s, at line %d, column %d", syntax, line, column)}
	}
	return &malformed{"the body is not UTF-8"}
}

// valueLength is the length of the value that well-formed JSON begins with.
func valueLength(s []byte) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			for i++; s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of a number or a word, and of what it is in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(s)
}

// unquote is the text of a JSON string.
func unquote(s []byte) string {
	if bytes.IndexByte(s, '\\') < 0 {
		return string(s[1 : len(s)-1])
	}
	var text string
	// s is a string of well-formed JSON: nothing can go wrong.
	_ = json.Unmarshal(s, &text)
	return text
}

// find is the value of the last member of that name; nil if there is none.
func (b *body) find(name string) []byte {
	for i := range b.members {
		if string(b.members[i].name) == name {
			b.members[i].taken = true
			return b.members[i].value
		}
	}
	return nil
}

// has reports whether there is a member of that name.
func (b *body) has(name string) bool { return b.find(name) != nil }

// given reports whether there is a member of that name that is not null: null is a way to leave out what may be left out.
func (b *body) given(name string) bool {
	v := b.find(name)
	return v != nil && v[0] != 'n'
}

func (b *body) fault(name, detail string) {
	b.faults = append(b.faults, fault{pointerTo(name), detail})
}

// pointerTo is the JSON pointer to a member of the body.
func pointerTo(name string) string {
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// require is find for a member that must be there and not be null.
func (b *body) require(name string) []byte {
	v := b.find(name)
	switch {
	case v == nil:
		b.fault(name, "must be given")
	case v[0] == 'n':
		b.fault(name, "must not be null")
		v = nil
	}
	return v
}

// id takes an identifier: a string, or a number as it is written.
func (b *body) id(name string) string {
	v := b.require(name)
	if v == nil {
		return ""
	}
	var id string
	switch c := v[0]; {
	case c == '"':
		id = unquote(v)
	case c == '-' || c >= '0' && c <= '9':
		if bytes.ContainsAny(v, ".eE") {
			b.fault(name, "must be a string or a whole number without fraction or exponent")
			return ""
		}
		if id = string(v); id == "-0" {
			id = "0" // JSON has one number for both
		}
	default:
		b.fault(name, "must be a string or a whole number, not "+kind(v))
		return ""
	}
	if !validID(id) {
		b.fault(name, "must be 1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'")
		return ""
	}
	return id
}

// validID reports whether s can be an identifier.
func validID(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// time takes a time.
func (b *body) time(name string) time.Time { return b.timeBy(name, parseTime) }

// end takes the time at which something ends.
func (b *body) end(name string) time.Time { return b.timeBy(name, parseEnd) }

func (b *body) timeBy(name string, parse func([]byte, *time.Location) (time.Time, error)) time.Time {
	v := b.require(name)
	if v == nil {
		return time.Time{}
	}
	if v[0] != '"' {
		b.fault(name, "must be a string, not "+kind(v))
		return time.Time{}
	}
	text := v[1 : len(v)-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		text = []byte(unquote(v))
	}
	t, err := parse(text, b.zone)
	if err != nil {
		b.fault(name, err.Error())
	}
	return t
}

// text takes a text of at most so many characters.
func (b *body) text(name string, longest int) string {
	v := b.require(name)
	if v == nil {
		return ""
	}
	if v[0] != '"' {
		b.fault(name, "must be a string, not "+kind(v))
		return ""
	}
	text := unquote(v)
	if n := utf8.RuneCountInString(text); n > longest {
		b.fault(name, fmt.Sprintf("must be at most %d characters long, it has %d", longest, n))
	}
	return text
}

// oneOf takes one of the words.
func (b *body) oneOf(name string, words ...string) string {
	v := b.require(name)
	if v == nil {
		return ""
	}
	if v[0] == '"' {
		if i := slices.Index(words, unquote(v)); i >= 0 {
			return words[i]
		}
	}
	b.fault(name, `must be "`+strings.Join(words, `" or "`)+`"`)
	return ""
}

// kind names the type of a JSON value.
func kind(v []byte) string {
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// mostFaults bounds what a refusal lists; a body of nothing but faults is not worth more.
const mostFaults = 100

// check is everything that is wrong with the body, once its members are taken: nil, or an *invalidBody. What is doubtful is only
// told if the body is refused anyway.
func (b *body) check(doubtful ...fault) error {
	for i, m := range b.members {
		switch {
		case m.taken:
		case b.repeated(i):
			b.fault(string(m.name), "must be given only once")
		default:
			b.fault(string(m.name), "is not a field of this request")
		}
		if len(b.faults) > mostFaults {
			b.faults[mostFaults] = fault{"", "has more faults than are listed here"}
			return &invalidBody{faults: b.faults}
		}
	}
	if len(b.faults) == 0 {
		return nil
	}
	return &invalidBody{faults: append(b.faults, doubtful...)}
}

// repeated reports whether the i-th member repeats one of those that are taken.
func (b *body) repeated(i int) bool {
	return slices.ContainsFunc(b.members[:i], func(m member) bool { return m.taken && bytes.Equal(m.name, b.members[i].name) })
}

// fields says under which names a body has the values that the domain knows.
type fields map[domain.Field]string

// faultsAt turns the domain's faults into faults of a body.
func faultsAt(faults []domain.Fault, names fields) []fault {
	at := make([]fault, len(faults))
	for i, f := range faults {
		at[i] = fault{pointerTo(names[f.Field]), f.Detail}
	}
	return at
}

// inBody turns what the domain says of a command's values into the faults of a body; other errors stay as they are.
func (x *exchange) inBody(err error, names fields) error {
	if invalid, ok := errors.AsType[*domain.Invalid](err); ok {
		return &invalidBody{faultsAt(invalid.Faults, names), invalid}
	}
	if early, ok := errors.AsType[*domain.EndBeforeStart](err); ok {
		detail := fmt.Sprintf("must not be before the start of the use, %s", appendTime(nil, early.StartedAt, x.zone))
		return &invalidBody{faults: []fault{{pointerTo(names[domain.FieldEnd]), detail}}}
	}
	return err
}
