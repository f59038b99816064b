package api

import (
	"bytes"
	jsonv1 "encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/domain"
)

// body is a command's body, a flat JSON object, and the faults found in it so far. It is decoded into a struct of fields, and a
// [jsontext.Value] for all members that are none of them. The handler takes the values of the fields, one after the other, and then asks
// check for everything that is wrong.
type body struct {
	zone   *time.Location
	fields []*field
	faults []fault
}

// field is a member of a body, as it was sent.
type field struct {
	name    string         // as the struct's tag has it
	value   jsontext.Value // nil if it was left out
	repeats int            // how often it was sent again
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (f *field) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	if f.value != nil {
		f.repeats++
	} else {
		f.value = value.Clone()
	}
	return err
}

// present reports whether the member was sent.
func (f *field) present() bool { return f.value != nil }

// given reports whether the member was sent and is not null: null is a way to leave out what may be left out.
func (f *field) given() bool { return f.value != nil && f.value.Kind() != jsontext.KindNull }

// text is the text of a member that is a string.
func (f *field) text() []byte {
	text, _ := jsontext.AppendUnquote(nil, f.value) // an error is of what is not UTF-8, which is replaced
	return text
}

// fault is one thing wrong with one value, of a body or of a request's parameters.
type fault struct {
	Pointer   *jsontext.Pointer `json:"pointer,omitzero"`   // into the body
	Parameter string            `json:"parameter,omitzero"` // of the query, or the header
	Detail    string            `json:"detail"`             // begins with "must" where it says what would be right
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
		fmt.Fprintf(&b, "; %s %s", *f.Pointer, f.Detail)
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

// decode reads the request's body into a pointer to a command's struct. An error means that there is nothing to take from it.
func (x *exchange) decode(command any) (*body, error) {
	if x.r.ContentLength != 0 {
		if err := x.checkContentType(); err != nil {
			return nil, err
		}
	}
	if err := x.readBody(); err != nil {
		return nil, err
	}
	if err := wellFormed(x.in); err != nil {
		return nil, err
	}
	if jsontext.Value(x.in).Kind() != jsontext.KindBeginObject {
		return nil, &invalidBody{faults: []fault{{Pointer: new(jsontext.Pointer), Detail: "must be a JSON object"}}}
	}
	return x.newBody(command), json.Unmarshal(x.in, command, lenient)
}

// decodeOptional is decode for an operation that needs no body.
func (x *exchange) decodeOptional(command any) (*body, error) {
	if x.r.ContentLength == 0 {
		return x.newBody(command), nil
	}
	return x.decode(command)
}

func (x *exchange) newBody(command any) *body {
	b := &body{zone: x.server.zone}
	for of, v := range reflect.ValueOf(command).Elem().Fields() {
		if f, ok := v.Addr().Interface().(*field); ok {
			f.name = of.Tag.Get("json")
			b.fields = append(b.fields, f)
		}
	}
	return b
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

// wellFormed is the error of a body that is not one JSON text in UTF-8, with the place where it ceases to be one. What is wrong is told in the
// words of encoding/json.
func wellFormed(in []byte) error {
	if jsontext.Value(in).IsValid(lenient) && utf8.Valid(in) {
		return nil
	}
	if len(bytes.TrimLeft(in, " \t\r\n")) == 0 {
		return &malformed{"the body is empty; it must be a JSON object"}
	}
	var into jsonv1.RawMessage
	err := jsonv1.Unmarshal(in, &into)
	if syntax, ok := errors.AsType[*jsonv1.SyntaxError](err); ok {
		before := in[:min(int(syntax.Offset), len(in))]
		line := bytes.Count(before, []byte("\n")) + 1
		column := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
		return &malformed{fmt.Sprintf("%s, at line %d, column %d", syntax, line, column)}
	}
	return &malformed{"the body is not UTF-8"}
}

func (b *body) fault(f *field, detail string) {
	b.faults = append(b.faults, fault{Pointer: pointerTo(f.name), Detail: detail})
}

// pointerTo is the JSON pointer to a member of a body.
func pointerTo(name string) *jsontext.Pointer {
	return new(jsontext.Pointer("").AppendToken(name))
}

// require reports whether the member is there and is not null, as it must be.
func (b *body) require(f *field) bool {
	switch {
	case !f.present():
		b.fault(f, "must be given")
	case !f.given():
		b.fault(f, "must not be null")
	}
	return f.given()
}

// id takes an identifier: a string, or a number as it is written.
func (b *body) id(f *field) string {
	if !b.require(f) {
		return ""
	}
	var id string
	switch f.value.Kind() {
	case jsontext.KindString:
		id = string(f.text())
	case jsontext.KindNumber:
		if bytes.ContainsAny(f.value, ".eE") {
			b.fault(f, "must be a string or a whole number without fraction or exponent")
			return ""
		}
		if id = string(f.value); id == "-0" {
			id = "0" // JSON has one number for both
		}
	default:
		b.fault(f, "must be a string or a whole number, not "+kind(f.value))
		return ""
	}
	if !validID(id) {
		b.fault(f, "must be 1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'")
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

// requireString is require for a member that must be a string.
func (b *body) requireString(f *field) bool {
	if !b.require(f) {
		return false
	}
	if f.value.Kind() != jsontext.KindString {
		b.fault(f, "must be a string, not "+kind(f.value))
		return false
	}
	return true
}

// time takes a time.
func (b *body) time(f *field) time.Time { return b.timeBy(f, parseTime) }

// end takes the time at which something ends.
func (b *body) end(f *field) time.Time { return b.timeBy(f, parseEnd) }

func (b *body) timeBy(f *field, parse func([]byte, *time.Location) (time.Time, error)) time.Time {
	if !b.requireString(f) {
		return time.Time{}
	}
	t, err := parse(f.text(), b.zone)
	if err != nil {
		b.fault(f, err.Error())
	}
	return t
}

// text takes a text of at most so many characters.
func (b *body) text(f *field, longest int) string {
	if !b.requireString(f) {
		return ""
	}
	text := string(f.text())
	if n := utf8.RuneCountInString(text); n > longest {
		b.fault(f, fmt.Sprintf("must be at most %d characters long, it has %d", longest, n))
	}
	return text
}

// oneOf takes one of the words.
func (b *body) oneOf(f *field, words ...string) string {
	if !b.require(f) {
		return ""
	}
	if f.value.Kind() == jsontext.KindString {
		if i := slices.Index(words, string(f.text())); i >= 0 {
			return words[i]
		}
	}
	b.fault(f, `must be "`+strings.Join(words, `" or "`)+`"`)
	return ""
}

// kind names the type of a JSON value.
func kind(v jsontext.Value) string {
	switch v.Kind() {
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindNull:
		return "null"
	default:
		return "a number"
	}
}

// maxFaults bounds what a refusal lists; a body of nothing but faults is not worth more.
const maxFaults = 100

// check is everything that is wrong with the body, once the fields are taken: nil, or an *invalidBody. The members that are no fields
// are faults too. What is doubtful is only told if the body is refused anyway.
func (b *body) check(others jsontext.Value, doubtful ...fault) error {
	for _, f := range b.fields {
		for range f.repeats {
			b.fault(f, "must be given only once")
		}
	}
	if others != nil {
		// They were decoded before, so reading them again cannot fail.
		dec := jsontext.NewDecoder(bytes.NewReader(others), lenient)
		_, _ = dec.ReadToken()
		for dec.PeekKind() == jsontext.KindString {
			_, _ = dec.ReadToken() // the name
			b.faults = append(b.faults, fault{Pointer: new(dec.StackPointer()), Detail: "is not a field of this request"})
			_ = dec.SkipValue()
		}
	}
	if len(b.faults) > maxFaults {
		b.faults = append(b.faults[:maxFaults], fault{Pointer: new(jsontext.Pointer), Detail: "has more faults than are listed here"})
		return &invalidBody{faults: b.faults}
	}
	if len(b.faults) == 0 {
		return nil
	}
	return &invalidBody{faults: append(b.faults, doubtful...)}
}

// names says under which names a body has the values that the domain knows.
type names map[domain.Field]string

// faultsAt turns the domain's faults into faults of a body.
func faultsAt(faults []domain.Fault, names names) []fault {
	at := make([]fault, len(faults))
	for i, f := range faults {
		at[i] = fault{Pointer: pointerTo(names[f.Field]), Detail: f.Detail}
	}
	return at
}

// inBody turns what the domain says of a command's values into the faults of a body; other errors stay as they are.
func (x *exchange) inBody(err error, names names) error {
	if invalid, ok := errors.AsType[*domain.Invalid](err); ok {
		return &invalidBody{faultsAt(invalid.Faults, names), invalid}
	}
	if early, ok := errors.AsType[*domain.EndBeforeStart](err); ok {
		detail := fmt.Sprintf("must not be before the start of the use, %s", x.time(early.StartedAt))
		return &invalidBody{faults: []fault{{Pointer: pointerTo(names[domain.FieldEnd]), Detail: detail}}}
	}
	return err
}
