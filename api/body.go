package api

import (
	"bytes"
	"cmp"
	jsonv1 "encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/domain"
)

// body validates the body of a command: a flat JSON object, decoded into a struct of fields and a [jsontext.Value] named Others that
// collects all other members. The handler reads one field after the other through the methods below, which record every fault they find,
// and then calls check.
type body struct {
	zone   *time.Location
	fields []*field
	faults []fault
}

// field is a member of a body, still undecoded.
type field struct {
	name    string         // from the struct tag
	value   jsontext.Value // nil if the member is absent
	repeats int            // number of times the member occurs again
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

// present reports whether the body has the member.
func (f *field) present() bool { return f.value != nil }

// given reports whether the body has the member and it is not null. An optional member that is null counts as absent.
func (f *field) given() bool { return f.value != nil && f.value.Kind() != jsontext.KindNull }

// text returns the text of a JSON string.
func (f *field) text() []byte {
	text, _ := jsontext.AppendUnquote(nil, f.value) // the only possible error is a lone surrogate, which is replaced
	return text
}

// fault is one thing that is wrong with a request: with a member of its body, or with a parameter.
type fault struct {
	Pointer   *jsontext.Pointer `json:"pointer,omitzero"`   // to the member of the body
	Parameter string            `json:"parameter,omitzero"` // name of the query parameter or header
	Detail    string            `json:"detail"`             // completes a sentence that starts with the name; "must …" if it says how to fix it
}

// invalidBody lists every fault of a body.
type invalidBody struct {
	faults []fault
	policy error // the policy's error, if the policy found the faults
}

// Unwrap lets callers tell whether it was the policy that found the faults.
func (e *invalidBody) Unwrap() error { return e.policy }

func (e *invalidBody) Error() string {
	var b strings.Builder
	b.WriteString("the body is invalid")
	for _, f := range e.faults {
		fmt.Fprintf(&b, "; %s %s", *f.Pointer, f.Detail)
	}
	return b.String()
}

// malformed reports a body that is not JSON.
type malformed struct{ detail string }

func (e *malformed) Error() string { return "the body is malformed: " + e.detail }

// unsupportedMedia reports a body of a media type that the operation does not accept.
type unsupportedMedia struct {
	given    string
	accepted []string
}

func (e *unsupportedMedia) Error() string {
	return fmt.Sprintf("the media type %q is not supported", e.given)
}

const (
	mediaJSON    = "application/json"
	mediaHAL     = "application/hal+json"
	mediaMerge   = "application/merge-patch+json" // RFC 7396
	mediaProblem = "application/problem+json"     // RFC 9457
	mediaForm    = "application/x-www-form-urlencoded"
)

// unsupportedCoding reports a body with a content coding, for example a compressed one.
type unsupportedCoding struct{ given string }

func (e *unsupportedCoding) Error() string {
	return fmt.Sprintf("the content coding %q is not supported", e.given)
}

// decode reads the request's body into the struct that command points to. It fails if the body is no JSON object; the values of its
// members are for the handler to validate.
func (x *exchange) decode(command any) (*body, error) {
	if x.r.ContentLength != 0 {
		accepted := jsonTypes
		if x.r.Method == http.MethodPatch {
			accepted = patchTypes
		}
		if err := x.checkContentType(accepted...); err != nil {
			return nil, err
		}
	}
	if err := x.readBody(maxBodyBytes); err != nil {
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

// decodeOptional is decode for an operation whose body may be left out.
func (x *exchange) decodeOptional(command any) (*body, error) {
	if x.r.ContentLength == 0 {
		return x.newBody(command), nil
	}
	return x.decode(command)
}

// newBody returns the validator of a command's struct, whose fields it names after their tags.
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

// The media types of the bodies of commands.
var (
	jsonTypes  = []string{mediaJSON, mediaHAL}
	patchTypes = []string{mediaJSON, mediaHAL, mediaMerge}
)

func (x *exchange) checkContentType(accepted ...string) error {
	if coding := strings.Join(x.r.Header["Content-Encoding"], ", "); coding != "" && !strings.EqualFold(coding, "identity") {
		return &unsupportedCoding{coding}
	}
	given := x.r.Header.Get("Content-Type")
	if given == accepted[0] {
		return nil
	}
	media, params, err := mime.ParseMediaType(given)
	if charset, ok := params["charset"]; err != nil || !slices.Contains(accepted, media) || ok && !strings.EqualFold(charset, "utf-8") {
		return &unsupportedMedia{given, accepted}
	}
	return nil
}

// wellFormed checks that a body is a single JSON text in UTF-8. Its error tells where the body stops being one, in the words of
// encoding/json.
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

// require records a fault if a mandatory member is absent or null, and reports whether there is a value.
func (b *body) require(f *field) bool {
	switch {
	case !f.present():
		b.fault(f, "must be given")
	case !f.given():
		b.fault(f, "must not be null")
	}
	return f.given()
}

// id returns an identifier: a string, or a whole number, which is taken as it is written.
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
			id = "0" // the same number
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

// ids returns the identifiers that an optional member lists.
func (b *body) ids(f *field) []string {
	var values []jsontext.Value
	b.value(f, &values)
	ids := make([]string, len(values))
	for i, value := range values {
		before := len(b.faults)
		ids[i] = b.id(&field{name: f.name, value: value})
		for j := range b.faults[before:] {
			b.faults[before+j].Pointer = new(pointerTo(f.name).AppendToken(strconv.Itoa(i)))
		}
	}
	return ids
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

// requireString is require for a mandatory string.
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

// time returns a time.
func (b *body) time(f *field) time.Time { return b.timeBy(f, parseTime) }

// end returns the time at which something ends; unlike other times it may be 24:00.
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

// text returns a text of at most maxLength characters.
func (b *body) text(f *field, maxLength int) string {
	if !b.requireString(f) {
		return ""
	}
	text := string(f.text())
	if n := utf8.RuneCountInString(text); n > maxLength {
		b.fault(f, fmt.Sprintf("must be at most %d characters long, it has %d", maxLength, n))
	}
	return text
}

// oneOf returns one of the given words.
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

// value decodes an optional member, which may be of any form, into what into points to.
func (b *body) value(f *field, into any) {
	if !f.given() {
		return
	}
	err := json.Unmarshal(f.value, into, lenient, json.RejectUnknownMembers(true))
	if wrong, ok := errors.AsType[*json.SemanticError](err); ok {
		detail := "must be " + nameOf(wrong.GoType)
		if errors.Is(wrong, json.ErrUnknownName) {
			detail = "is not a field of this request"
		}
		b.faults = append(b.faults, fault{Pointer: new(*pointerTo(f.name) + wrong.JSONPointer), Detail: detail})
	}
}

// nameOf names the JSON type that a Go type stands for, with its article.
func nameOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "an array"
	case reflect.Pointer:
		return nameOf(t.Elem())
	default:
		return "an object"
	}
}

// pathID checks a member that may repeat the id in the path.
func (b *body) pathID(f *field, id string) {
	if !f.given() {
		return
	}
	if given := b.id(f); given != "" && given != id {
		b.fault(f, "must be the id in the path, or left out")
	}
}

// domainFaults adds what the domain finds wrong with the values of the body, but for members that are faulty already.
func (b *body) domainFaults(faults []domain.Fault) {
	known := slices.Clone(b.faults)
	for _, f := range faultsAt(faults, nil) {
		if !slices.ContainsFunc(known, func(k fault) bool { return firstToken(*k.Pointer) == firstToken(*f.Pointer) }) {
			b.faults = append(b.faults, f)
		}
	}
}

// firstToken names the member of the body that a pointer leads to or into.
func firstToken(p jsontext.Pointer) string {
	for token := range p.Tokens() {
		return token
	}
	return ""
}

// kind names the type of a JSON value, with its article.
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

// maxFaults bounds the faults that a problem lists.
const maxFaults = 100

// check returns nil if the body has no faults, else an *invalidBody with all of them, repeated and unknown members included. Call it once
// all fields have been read. The policyFaults are only reported along with faults of the body itself.
func (b *body) check(others jsontext.Value, policyFaults ...fault) error {
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
	return &invalidBody{faults: append(b.faults, policyFaults...)}
}

// names maps the domain's fields to the members of a body, where these are others.
type names map[domain.Field]string

// faultsAt converts the domain's faults into faults of a body.
func faultsAt(faults []domain.Fault, names names) []fault {
	at := make([]fault, len(faults))
	for i, f := range faults {
		at[i] = fault{Pointer: new(jsontext.Pointer("/" + cmp.Or(names[f.Field], string(f.Field)))), Detail: f.Detail}
	}
	return at
}

// inBody converts the domain's errors about a command's values into faults of the body. Other errors are returned unchanged.
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
