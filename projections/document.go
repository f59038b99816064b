package projections

import (
	"reflect"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DocumentText encodes a document as JSON, for people to read and for generations of versions that stored documents so.
func DocumentText(document any) (string, error) {
	text, err := json.Marshal(document, jsontext.AllowInvalidUTF8(true))
	return string(text), err
}

// ParseDocument decodes a document from JSON, as this version or an older one has written it.
func (s Schema) ParseDocument(text string) (document any, err error) {
	document = reflect.New(s.Document).Interface()
	if err := json.Unmarshal([]byte(text), document, olderTimes, jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, err
	}
	if d, ok := document.(interface{ measure() }); ok {
		d.measure() // older versions did not store minutes
	}
	return document, nil
}

// olderTimes decodes times as older versions wrote them: in nanoseconds, and an empty text for none.
var olderTimes = json.WithUnmarshalers(json.UnmarshalFunc(func(text []byte, t *time.Time) error {
	if string(text) == `""` {
		return nil
	}
	err := t.UnmarshalJSON(text)
	*t = shown(*t)
	return err
}))

// Misplaces reports whether the keys that a store keeps beside a document differ from those that the document holds. It ignores the status,
// which a document need not hold, and less than a millisecond, which older versions kept.
func (s Schema) Misplaces(document any, by Keys) bool {
	k := s.Keys(document)
	const ms = 1000 // in microseconds
	return k.Booking != by.Booking || k.Room != by.Room || k.User != by.User || k.Start/ms != by.Start/ms || k.End/ms != by.End/ms
}
