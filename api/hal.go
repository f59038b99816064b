package api

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// link is a link of a reply in HAL (https://datatracker.ietf.org/doc/html/draft-kelly-json-hal).
type link struct {
	Href string `json:"href"`
	// Templated is set where Href is a URI template (RFC 6570).
	Templated bool `json:"templated,omitzero"`
}

// link links to a path, given in two parts, at the address that the client used.
func (x *exchange) link(path, id string) link { return link{Href: x.base + path + id} }

// object is a JSON object whose member names are only known at run time. It keeps their order.
type object[T any] []member[T]

type member[T any] struct {
	name  string
	value T
}

func (o object[T]) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for i := range o {
		if err := enc.WriteToken(jsontext.String(o[i].name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(enc, &o[i].value); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

// orNull is nil, which a reply shows as null, for the zero value.
func orNull[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return new(v)
}

// lenient takes strings that are not valid UTF-8, replacing what is not by U+FFFD, and repeated names: what is stored, or was sent, may
// have them.
var lenient = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

// reply makes a document the reply. Pass a pointer: a struct would be copied.
func (x *exchange) reply(document any) error { return json.MarshalWrite(&x.out, document, lenient) }
