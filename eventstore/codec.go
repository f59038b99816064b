package eventstore

import (
	"errors"
	"fmt"
	"reflect"
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

// codec encodes events for storage and decodes them. It is immutable, so goroutines may share it.
//
// Every event is stored with the version of its type's schema, counted from 1. A member may be added to a schema without a new version.
// Any other change makes a new version, with an upcast from the one before: events are translated when they are read, through every
// version since theirs, and stay stored as they are.
type codec struct {
	decoders map[string]decoder // by event type
	// upcasts translate, by event type, schema 1 to 2, 2 to 3, and so on.
	upcasts map[string][]upcast
}

// newCodec is the codec for the events of package domain: a line for each. All are still at their first schema.
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
	add[domain.UserAdded](c)
	add[domain.RolesGiven](c)
	add[domain.PasswordChanged](c)
	add[domain.MailChosen](c)
	add[domain.SignedOutEverywhere](c)
	add[domain.UserDisabled](c)
	add[domain.UserEnabled](c)
	add[domain.UserErased](c)
	add[domain.TokenIssued](c)
	add[domain.TokenRevoked](c)
	add[domain.KeyUsed](c)
	add[domain.KeyRefused](c)
	add[domain.KeyUnchanged](c)
	add[domain.NotificationRequested](c)
	add[domain.NotificationDelivered](c)
	add[domain.NotificationFailed](c)
	add[domain.NotificationDue](c)
	add[domain.NotificationRetried](c)
	add[domain.CalendarSnapshot](c)
	add[domain.RoomRegistered](c)
	add[domain.RoomChanged](c)
	add[domain.RoomRetired](c)
	add[domain.RoomReinstated](c)
	add[domain.RulesSet](c)
	add[domain.PeriodClosed](c)
	add[domain.PeriodReopened](c)
	add[domain.RoomPhotoChanged](c)
	add[domain.PhotoStored](c)
	add[domain.RoomFaultReported](c)
	add[domain.RoomFaultSettled](c)
	return c
}

// Known reports whether it is the name of one of package domain's events. One that cannot be decoded all the same may matter to its stream,
// and must not be skipped by whoever decides on that.
func Known(eventType string) bool { return newCodec().decoders[eventType] != nil }

// add adds an event type to the codec's table.
func add[E domain.Event](c codec) {
	var zero E
	c.decoders[zero.EventType()] = func(data []byte) (domain.Event, error) {
		var e E
		if err := json.Unmarshal(data, &e, storedJSON); err != nil {
			return nil, err
		}
		if reflect.ValueOf(&e).Elem().IsZero() {
			return nil, errEmpty
		}
		return e, nil
	}
}

// schema is the version in which events of the type are written.
func (c codec) schema(eventType string) int64 { return int64(len(c.upcasts[eventType])) + 1 }

// Why an event cannot be decoded.
var (
	errUnknownType = errors.New("the type is not known")
	errNewerSchema = errors.New("the schema is newer than this program")
	errNoSchema    = errors.New("the metadata names no schema version")
	errEmpty       = errors.New("the data has no member of the event")
)

// errYear is why a time cannot be encoded: RFC 3339 has four digits for the year.
var errYear = errors.New("a time is outside the years 0 to 9999")

// storedJSON is how this package reads and writes JSON: as the first version of encoding/json did, which wrote what existing stores hold,
// and with which older programs read what this one writes.
//
// So whatever could be read still can: names of members in upper or lower case, the last of several members with one name, null as
// nothing, times in a loose RFC 3339, and U+FFFD in place of invalid UTF-8. And what is written is the same byte for byte, times in UTC,
// but for that U+FFFD, which was written as an escape. Only the errors are those of the second version, which say where in the data they
// are.
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

// encode returns the event's data and metadata as JSON.
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

// decode returns the event, or nil and the reason why it cannot be decoded, and the metadata as far as it can.
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
