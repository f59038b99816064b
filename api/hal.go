package api

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// link is a link of a reply in HAL (https://datatracker.ietf.org/doc/html/draft-kelly-json-hal).
type link struct {
	Href href `json:"href"`
	// Templated is set where Href is a URI template (RFC 6570).
	Templated bool `json:"templated,omitzero"`
}

// href is an address in three parts, which are joined when it is marshalled: a page has dozens of links, which need no strings of their own.
type href struct{ base, path, id string }

// AppendText implements [encoding.TextAppender].
func (h href) AppendText(b []byte) ([]byte, error) {
	return append(append(append(b, h.base...), h.path...), h.id...), nil
}

// link returns a link to path+id at the address that the client used.
func (x *exchange) link(path, id string) link { return link{Href: href{x.base, path, id}} }

// object is a JSON object whose member names are only known at run time. Its members keep their order.
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

// orNull returns nil, which is null in a reply, for the zero value.
func orNull[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return new(v)
}

// lenient accepts repeated names, and strings that are not valid UTF-8, in which invalid bytes become U+FFFD: stored events and requests
// may have them.
var lenient = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

// reply marshals a document, best passed as a pointer, into the body of the reply.
func (x *exchange) reply(document any) error { return json.MarshalWrite(&x.out, document, lenient) }
