package eventstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"roombook/domain"
)

// upcast translates an event's data, JSON, from one schema to the next.
type upcast func(data []byte) ([]byte, error)

// decoder reads the data of one type of events.
type decoder func(data []byte) (domain.Event, error)

// codec turns events into what is stored and back. It never changes, so goroutines may share it.
//
// Every event is stored with the version of its type's schema, counted from 1. A schema that only gains a member stays what
// it is. One that changes otherwise gets an upcast, which makes it the next version: old events are translated when they
// are read, through every version since theirs, and stay stored as they are.
type codec struct {
	decoders map[string]decoder // by event type
	// upcasts has, by event type, the translation of schema 1 into 2, of 2 into 3, and so on.
	upcasts map[string][]upcast
}

// newCodec is the codec of the events of package domain. Each of them is still at its first schema.
func newCodec() codec {
	c := codec{decoders: map[string]decoder{}}
	add[domain.BookingCreated](c)
	add[domain.ConfirmRequested](c)
	add[domain.BookingChanged](c)
	add[domain.BookingHandedOver](c)
	add[domain.ConfirmCompleted](c)
	add[domain.ConfirmDenied](c)
	add[domain.BookingCheckedIn](c)
	add[domain.BookingCancelled](c)
	add[domain.BookingUnblocked](c)
	add[domain.UseStarted](c)
	add[domain.UseEnded](c)
	add[domain.SlotReserved](c)
	add[domain.SlotReleased](c)
	add[domain.SlotUsed](c)
	add[domain.KeyUsed](c)
	add[domain.KeyRefused](c)
	add[domain.KeyUnchanged](c)
	return c
}

// Known reports whether events of package domain are stored under the name. One that is and has no [Recorded.Event] must not be
// skipped where its stream is decided on.
func Known(eventType string) bool { return newCodec().decoders[eventType] != nil }

// add adds a type of events.
func add[E interface {
	domain.Event
	comparable
}](c codec) {
	var zero E
	c.decoders[zero.EventType()] = func(data []byte) (domain.Event, error) {
		var e E
		if err := json.Unmarshal(data, &e, storedJSON); err != nil {
			return nil, err
		}
		if e == zero {
			return nil, errEmpty
		}
		return e, nil
	}
}

// schema is the version that events of the type are written in.
func (c codec) schema(eventType string) int64 { return int64(len(c.upcasts[eventType])) + 1 }

// Why an event cannot be decoded.
var (
	errUnknownType = errors.New("the type is not known")
	errNewerSchema = errors.New("the schema is newer than this program")
	errNoSchema    = errors.New("the metadata names no schema version")
	errEmpty       = errors.New("the data has no member of the event")
)

// errYear is why an event cannot be encoded: RFC 3339 has four digits for a year.
var errYear = errors.New("a time is outside the years 0 to 9999")

// storedJSON are the rules by which this package reads and writes JSON. They are those of encoding/json's first version, which wrote
// what stores are full of and may still read what this program writes. So whatever could be read can be read: members with names in
// upper or lower case, the last of several with one name, null for nothing, times like those of RFC 3339, and U+FFFD for what is not
// UTF-8. So is what is written the same, byte for byte, but for that U+FFFD, which was written as an escape. Only errors are the second version's, which
// name the member; and times are written in UTC.
var storedJSON = json.JoinOptions(
	jsonv1.DefaultOptionsV1(),
	jsonv1.ReportErrorsWithLegacySemantics(false),
	json.WithMarshalers(json.MarshalToFunc(func(to *jsontext.Encoder, t time.Time) error {
		t = t.UTC()
		if y := t.Year(); y < 0 || y > 9999 {
			return errYear
		}
		b := append(to.AvailableBuffer(), '"')
		b = t.AppendFormat(b, time.RFC3339Nano)
		return to.WriteValue(append(b, '"'))
	})),
)

// encode is the event's data and its metadata, both JSON.
func (c codec) encode(p Proposed) (data, metadata []byte, err error) {
	eventType := p.Event.EventType()
	if c.decoders[eventType] == nil {
		return nil, nil, fmt.Errorf("event %s: %w", eventType, errUnknownType)
	}
	p.Metadata.SchemaVersion = c.schema(eventType)
	data, err = json.Marshal(p.Event, storedJSON)
	if err == nil {
		metadata, err = json.Marshal(&p.Metadata, storedJSON)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("event %s: %w", eventType, err)
	}
	return data, metadata, nil
}

// decode is the event, or nil and the reason why there is none, and what of the metadata could be read.
func (c codec) decode(eventType string, data, metadata []byte) (domain.Event, Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(metadata, &m, storedJSON); err != nil {
		return nil, Metadata{}, fmt.Errorf("metadata: %w", err)
	}
	newest := c.schema(eventType)
	switch {
	case m.SchemaVersion < 1:
		return nil, m, errNoSchema
	case m.SchemaVersion > newest:
		return nil, m, fmt.Errorf("%w: %d", errNewerSchema, m.SchemaVersion)
	case m.SchemaVersion < newest:
		var err error
		for _, up := range c.upcasts[eventType][m.SchemaVersion-1:] {
			if data, err = up(data); err != nil {
				return nil, m, fmt.Errorf("upcast from schema %d: %w", m.SchemaVersion, err)
			}
		}
	}
	decode := c.decoders[eventType]
	if decode == nil {
		return nil, m, errUnknownType
	}
	event, err := decode(data)
	return event, m, err
}
