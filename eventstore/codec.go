package eventstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"roombook/domain"
)

// upcast translates an event's data, JSON, from one schema to the next.
type upcast func(data []byte) ([]byte, error)

// codec turns events into what is stored and back. It never changes, so goroutines may share it.
//
// Every event is stored with the version of its type's schema, counted from 1. A schema that only gains a member stays what
// it is. One that changes otherwise gets an upcast, which makes it the next version: old events are translated when they
// are read, through every version since theirs, and stay stored as they are.
type codec struct {
	// upcasts has, by event type, the translation of schema 1 into 2, of 2 into 3, and so on.
	upcasts map[string][]upcast
}

// newCodec is the codec of the events of package domain. Each of them is still at its first schema.
func newCodec() codec { return codec{} }

// schema is the version that events of the type are written in.
func (c codec) schema(eventType string) int64 { return int64(len(c.upcasts[eventType])) + 1 }

// Why an event cannot be decoded.
var (
	errUnknownType = errors.New("the type is not known")
	errNewerSchema = errors.New("the schema is newer than this program")
	errNoSchema    = errors.New("the metadata names no schema version")
	errEmpty       = errors.New("the data has no member of the event")
)

// encode appends the event's data and then its metadata to b, both JSON.
func (c codec) encode(b []byte, p Proposed) (data, metadata, all []byte, err error) {
	start := len(b)
	f := form{out: b}
	if !writeEvent(&f, p.Event) {
		return nil, nil, b, fmt.Errorf("event %s: %w", p.Event.EventType(), errUnknownType)
	}
	middle := len(f.out)
	m := storedMetadata{
		CorrelationID: p.Metadata.CorrelationID,
		CausationID:   p.Metadata.CausationID,
		Actor:         p.Metadata.Actor,
		OccurredAt:    p.Metadata.OccurredAt,
		SchemaVersion: c.schema(p.Event.EventType()),
		TraceParent:   p.Metadata.TraceParent,
		Command:       p.Metadata.Command,
	}
	metadataForm(&f, &m)
	if f.off {
		return nil, nil, b, fmt.Errorf("event %s: a time is outside the years 0 to 9999", p.Event.EventType())
	}
	end := len(f.out)
	return f.out[start:middle:middle], f.out[middle:end:end], f.out, nil
}

// decode is the event, or nil and the reason why there is none, and what of the metadata could be read.
func (c codec) decode(eventType string, data, metadata []byte) (domain.Event, Metadata, error) {
	stored, err := readMetadata(metadata)
	if err != nil {
		return nil, Metadata{}, fmt.Errorf("metadata: %w", err)
	}
	m := Metadata{
		CorrelationID: stored.CorrelationID,
		CausationID:   stored.CausationID,
		Actor:         stored.Actor,
		OccurredAt:    stored.OccurredAt,
		TraceParent:   stored.TraceParent,
		Command:       stored.Command,
	}
	newest := c.schema(eventType)
	switch {
	case stored.SchemaVersion < 1:
		return nil, m, errNoSchema
	case stored.SchemaVersion > newest:
		return nil, m, fmt.Errorf("%w: %d", errNewerSchema, stored.SchemaVersion)
	case stored.SchemaVersion < newest:
		for _, up := range c.upcasts[eventType][stored.SchemaVersion-1:] {
			if data, err = up(data); err != nil {
				return nil, m, fmt.Errorf("upcast from schema %d: %w", stored.SchemaVersion, err)
			}
		}
	}
	event, err := readEvent(eventType, data)
	return event, m, err
}

// storedMetadata is the JSON of an event's metadata.
type storedMetadata struct {
	CorrelationID string    `json:"$correlationId,omitempty"`
	CausationID   string    `json:"$causationId,omitempty"`
	Actor         string    `json:"actor,omitempty"`
	OccurredAt    time.Time `json:"occurredAt"`
	SchemaVersion int64     `json:"schemaVersion"`
	TraceParent   string    `json:"traceparent,omitempty"`
	Command       string    `json:"command,omitempty"`
}

func metadataForm(f *form, m *storedMetadata) {
	f.begin()
	optionalText(f, "$correlationId", &m.CorrelationID)
	optionalText(f, "$causationId", &m.CausationID)
	optionalText(f, "actor", &m.Actor)
	f.time("occurredAt", &m.OccurredAt)
	f.integer("schemaVersion", &m.SchemaVersion)
	optionalText(f, "traceparent", &m.TraceParent)
	optionalText(f, "command", &m.Command)
	f.end()
}

func readMetadata(metadata []byte) (storedMetadata, error) {
	f := form{reading: true, in: string(metadata)}
	var m storedMetadata
	if metadataForm(&f, &m); f.complete() {
		return m, nil
	}
	return unmarshal[storedMetadata](metadata)
}

func unmarshal[T any](data []byte) (v T, err error) {
	err = json.Unmarshal(data, &v)
	return v, err
}

// writeEvent reports whether the event's type is known.
func writeEvent(f *form, event domain.Event) bool {
	switch e := event.(type) {
	case domain.BookingCreated:
		bookingCreated(f, &e)
	case domain.ConfirmRequested:
		confirmRequested(f, &e)
	case domain.BookingChanged:
		bookingChanged(f, &e)
	case domain.BookingHandedOver:
		bookingHandedOver(f, &e)
	case domain.ConfirmCompleted:
		confirmCompleted(f, &e)
	case domain.ConfirmDenied:
		confirmDenied(f, &e)
	case domain.BookingCheckedIn:
		bookingCheckedIn(f, &e)
	case domain.BookingCancelled:
		bookingCancelled(f, &e)
	case domain.UseStarted:
		useStarted(f, &e)
	case domain.UseEnded:
		useEnded(f, &e)
	case domain.SlotReserved:
		slotReserved(f, &e)
	case domain.SlotReleased:
		slotReleased(f, &e)
	case domain.SlotUsed:
		slotUsed(f, &e)
	case domain.BookingUnblocked:
		bookingUnblocked(f, &e)
	case domain.KeyUsed:
		keyUsed(f, &e)
	case domain.KeyRefused:
		keyRefused(f, &e)
	case domain.KeyUnchanged:
		keyUnchanged(f, &e)
	default:
		return false
	}
	return true
}

func readEvent(eventType string, data []byte) (domain.Event, error) {
	f := form{reading: true, in: string(data)}
	switch eventType {
	case "BookingCreated":
		var e domain.BookingCreated
		bookingCreated(&f, &e)
		return event(&f, e, data)
	case "ConfirmRequested":
		var e domain.ConfirmRequested
		confirmRequested(&f, &e)
		return event(&f, e, data)
	case "BookingChanged":
		var e domain.BookingChanged
		bookingChanged(&f, &e)
		return event(&f, e, data)
	case "BookingHandedOver":
		var e domain.BookingHandedOver
		bookingHandedOver(&f, &e)
		return event(&f, e, data)
	case "ConfirmCompleted":
		var e domain.ConfirmCompleted
		confirmCompleted(&f, &e)
		return event(&f, e, data)
	case "ConfirmDenied":
		var e domain.ConfirmDenied
		confirmDenied(&f, &e)
		return event(&f, e, data)
	case "BookingCheckedIn":
		var e domain.BookingCheckedIn
		bookingCheckedIn(&f, &e)
		return event(&f, e, data)
	case "BookingCancelled":
		var e domain.BookingCancelled
		bookingCancelled(&f, &e)
		return event(&f, e, data)
	case "UseStarted":
		var e domain.UseStarted
		useStarted(&f, &e)
		return event(&f, e, data)
	case "UseEnded":
		var e domain.UseEnded
		useEnded(&f, &e)
		return event(&f, e, data)
	case "SlotReserved":
		var e domain.SlotReserved
		slotReserved(&f, &e)
		return event(&f, e, data)
	case "SlotReleased":
		var e domain.SlotReleased
		slotReleased(&f, &e)
		return event(&f, e, data)
	case "SlotUsed":
		var e domain.SlotUsed
		slotUsed(&f, &e)
		return event(&f, e, data)
	case "BookingUnblocked":
		var e domain.BookingUnblocked
		bookingUnblocked(&f, &e)
		return event(&f, e, data)
	case "KeyUsed":
		var e domain.KeyUsed
		keyUsed(&f, &e)
		return event(&f, e, data)
	case "KeyRefused":
		var e domain.KeyRefused
		keyRefused(&f, &e)
		return event(&f, e, data)
	case "KeyUnchanged":
		var e domain.KeyUnchanged
		keyUnchanged(&f, &e)
		return event(&f, e, data)
	default:
		return nil, errUnknownType
	}
}

// event is what the form has read or, where the data has another form, what encoding/json reads.
func event[E interface {
	domain.Event
	comparable
}](f *form, read E, data []byte) (domain.Event, error) {
	if f.complete() {
		return read, nil
	}
	e, err := unmarshal[E](data)
	if err != nil {
		return nil, err
	}
	if e == *new(E) {
		return nil, errEmpty
	}
	return e, nil
}

// The members of each event, in the order of its struct.

func bookingCreated(f *form, e *domain.BookingCreated) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "reservationId", &e.ReservationID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	f.slot("slot", &e.Slot)
	f.time("at", &e.At)
	f.end()
}

func confirmRequested(f *form, e *domain.ConfirmRequested) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	f.time("at", &e.At)
	f.end()
}

func bookingChanged(f *form, e *domain.BookingChanged) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "reservationId", &e.ReservationID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	f.slot("slot", &e.Slot)
	f.time("at", &e.At)
	f.end()
}

func bookingHandedOver(f *form, e *domain.BookingHandedOver) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	text(f, "formerUserId", &e.FormerUserID)
	f.time("at", &e.At)
	f.end()
}

func confirmCompleted(f *form, e *domain.ConfirmCompleted) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	optionalText(f, "confirmUserId", &e.ConfirmUserID)
	optionalText(f, "reason", &e.Reason)
	f.time("at", &e.At)
	f.end()
}

func confirmDenied(f *form, e *domain.ConfirmDenied) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	optionalText(f, "confirmUserId", &e.ConfirmUserID)
	optionalText(f, "reason", &e.Reason)
	f.time("at", &e.At)
	f.end()
}

func bookingCheckedIn(f *form, e *domain.BookingCheckedIn) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "realUseId", &e.RealUseID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	f.time("startedAt", &e.StartedAt)
	optionalText(f, "roomStillInUseBy", &e.RoomStillInUseBy)
	f.end()
}

func bookingCancelled(f *form, e *domain.BookingCancelled) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "reservationId", &e.ReservationID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	text(f, "reason", &e.Reason)
	f.time("at", &e.At)
	f.optionalTime("usedUntil", &e.UsedUntil)
	f.end()
}

func useStarted(f *form, e *domain.UseStarted) {
	f.begin()
	text(f, "realUseId", &e.RealUseID)
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	f.time("startedAt", &e.StartedAt)
	optionalText(f, "roomStillInUseBy", &e.RoomStillInUseBy)
	f.end()
}

func useEnded(f *form, e *domain.UseEnded) {
	f.begin()
	text(f, "realUseId", &e.RealUseID)
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	f.time("endedAt", &e.EndedAt)
	f.time("at", &e.At)
	f.end()
}

func slotReserved(f *form, e *domain.SlotReserved) {
	f.begin()
	text(f, "reservationId", &e.ReservationID)
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	optionalText(f, "userId", &e.UserID)
	f.slot("slot", &e.Slot)
	f.time("at", &e.At)
	text(f, "actor", &e.Actor)
	text(f, "correlationId", &e.CorrelationID)
	optionalText(f, "traceparent", &e.TraceParent)
	optionalText(f, "command", &e.Command)
	optionalText(f, "replaces", &e.Replaces)
	f.optionalRevision("ifRevision", &e.IfRevision)
	f.end()
}

func slotReleased(f *form, e *domain.SlotReleased) {
	f.begin()
	text(f, "reservationId", &e.ReservationID)
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	f.end()
}

func slotUsed(f *form, e *domain.SlotUsed) {
	f.begin()
	text(f, "reservationId", &e.ReservationID)
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	f.time("end", &e.End)
	f.end()
}

func keyUsed(f *form, e *domain.KeyUsed) {
	f.begin()
	text(f, "digest", &e.Digest)
	f.time("at", &e.At)
	f.end()
}

func keyRefused(f *form, e *domain.KeyRefused) {
	f.begin()
	text(f, "answer", &e.Answer)
	f.time("at", &e.At)
	f.end()
}

func keyUnchanged(f *form, e *domain.KeyUnchanged) {
	f.begin()
	f.integer("revision", (*int64)(&e.Revision))
	f.time("at", &e.At)
	f.end()
}

func bookingUnblocked(f *form, e *domain.BookingUnblocked) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "reason", &e.Reason)
	f.time("at", &e.At)
	f.end()
}
