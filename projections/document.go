package projections

import (
	"reflect"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DocumentText is a document as one JSON text: what people are shown, and what older programs stored.
func DocumentText(document any) (string, error) {
	text, err := json.Marshal(document, jsontext.AllowInvalidUTF8(true))
	return string(text), err
}

// ParseDocument reads a document that is stored as one JSON text.
func (s Schema) ParseDocument(text string) (document any, err error) {
	document = reflect.New(s.Document).Interface()
	if err := json.Unmarshal([]byte(text), document, olderTimes, jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, err
	}
	if d, ok := document.(interface{ measure() }); ok {
		d.measure() // older programs did so whenever they read a document
	}
	return document, nil
}

// olderTimes reads times as older programs wrote them: finer than documents have them now, and empty where there is none.
var olderTimes = json.WithUnmarshalers(json.UnmarshalFunc(func(text []byte, t *time.Time) error {
	if string(text) == `""` {
		return nil
	}
	err := t.UnmarshalJSON(text)
	*t = shown(*t)
	return err
}))

// Misplaces reports whether a document that is stored as one text is not found by its keys, but for the status, which the text does not
// tell.
func (s Schema) Misplaces(document any, by Keys) bool {
	k := s.Keys(document)
	const ms = 1000 // in microseconds
	return k.Booking != by.Booking || k.Room != by.Room || k.User != by.User || k.Start/ms != by.Start/ms || k.End/ms != by.End/ms
}
