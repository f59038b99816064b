package eventstore

import (
	"time"

	"github.com/google/uuid"

	"roombook/domain"
)

// Position is an event's place in the log of all streams: EventStoreDB's commit position. Positions increase along the log, with gaps; 0
// is before the first event.
type Position uint64

// What an append may expect instead of a revision.
const (
	// NoStream expects that the stream has no events.
	NoStream domain.Revision = -1
	// Any expects nothing. A retry is then recognised only among the stream's last events.
	Any domain.Revision = -2
)

// Metadata is stored with an event, beside its data. Like the events of package domain it is stored forever, under these names.
type Metadata struct {
	// CorrelationID is common to all events that follow from one request; EventStoreDB's $correlationId.
	CorrelationID string `json:"$correlationId,omitempty"`
	// CausationID is the id of the event's cause: the command, the reservation, or the event that decided; EventStoreDB's $causationId.
	CausationID string `json:"$causationId,omitempty"`
	// Actor is who gave the command.
	Actor string `json:"actor,omitempty"`
	// Client is the network that the command came from, if it is known and to be kept.
	Client string `json:"client,omitempty"`
	// OccurredAt is when the event was decided.
	OccurredAt time.Time `json:"occurredAt"`
	// SchemaVersion is the version of the schema that the event was stored in, counted from 1. [Store.Append] sets it.
	SchemaVersion int64 `json:"schemaVersion"`
	// TraceParent is the W3C trace context of the request, if it had one.
	TraceParent string `json:"traceparent,omitempty"`
	// Command identifies the command and what it asked for, if its caller may repeat it: see commands.Request.
	Command string `json:"command,omitempty"`
}

// Proposed is an event to append. [Store.Append] gives it its id.
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
	// Event is the event in its newest schema, or nil if this program cannot decode it: its type is unknown, its schema newer than the
	// program, or its data malformed. Folds skip it.
	Event    domain.Event
	Metadata Metadata
	// Data is the event's data as stored, JSON.
	Data []byte
}

// Appended says where an append's events are.
type Appended struct {
	Revision domain.Revision // of its last event
	Position Position        // of its last event
	IDs      []uuid.UUID     // of its events, in their order
}
