package eventstore

import (
	"time"

	"github.com/google/uuid"

	"roombook/domain"
)

// Position is an event's place in the log of all streams: EventStoreDB's commit position. Positions grow along the log and
// mean nothing else; 0 is before the first event.
type Position uint64

// Expectations of an append that are not a revision.
const (
	// NoStream expects that the stream has no events.
	NoStream domain.Revision = -1
	// Any expects nothing. A retry is then recognised as long as the server remembers the event ids, and not for ever.
	Any domain.Revision = -2
)

// Metadata is stored with an event, beside its data.
type Metadata struct {
	// CorrelationID names the conversation that the event belongs to; EventStoreDB's $correlationId.
	CorrelationID string `json:"$correlationId,omitempty"`
	// CausationID is the id of what led to the event: the command, the reservation, or the event that decided; EventStoreDB's
	// $causationId.
	CausationID string `json:"$causationId,omitempty"`
	// Actor is who asked.
	Actor string `json:"actor,omitempty"`
	// OccurredAt is when it was decided.
	OccurredAt time.Time `json:"occurredAt"`
	// SchemaVersion is the version of the schema that the event was stored in, counted from 1. [Store.Append] sets it.
	SchemaVersion int64 `json:"schemaVersion"`
	// TraceParent is the W3C trace context of the request, if it had one.
	TraceParent string `json:"traceparent,omitempty"`
	// Command names the command and what it asked for, if its caller is to be able to ask again: see commands.Request.
	Command string `json:"command,omitempty"`
}

// Proposed is an event to be appended. [Store.Append] gives it its id.
type Proposed struct {
	Event    domain.Event
	Metadata Metadata
}

// Recorded is an event of a stream.
type Recorded struct {
	ID       uuid.UUID
	Stream   string
	Revision domain.Revision
	Position Position
	// Type is the name the event is stored under.
	Type string
	// Event is the event in its newest schema, or nil where this program cannot decode it: a type it does not know, a schema newer than
	// its own, or data that does not parse. Folds skip it.
	Event    domain.Event
	Metadata Metadata
	// Data is the event's data as stored, JSON.
	Data []byte
}

// Appended says where an append went.
type Appended struct {
	Revision domain.Revision // of its last event
	Position Position        // of its last event
	IDs      []uuid.UUID     // of its events, in their order
}
