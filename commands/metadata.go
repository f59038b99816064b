package commands

import (
	"roombook/domain"
	"roombook/eventstore"
)

// propose adds the metadata of a command to the events that it decides.
func (r Request) propose(events []domain.Event) []eventstore.Proposed {
	return propose(r.metadata(), events)
}

func (r Request) metadata() eventstore.Metadata {
	return eventstore.Metadata{
		CorrelationID: r.correlation(),
		CausationID:   r.ID.String(),
		Actor:         string(r.Actor.User),
		Client:        r.Client,
		OccurredAt:    r.At,
		TraceParent:   r.TraceParent,
		Command:       r.command(),
	}
}

// command identifies a command that may be repeated, by its id and digest; empty for any other.
func (r Request) command() string {
	if r.Digest == "" {
		return ""
	}
	return r.ID.String() + "/" + r.Digest
}

// followed matches the events that follow from the reservation.
func followed(r domain.SlotReserved) func(eventstore.Recorded) bool {
	return func(e eventstore.Recorded) bool { return e.Metadata.CausationID == string(r.ReservationID) }
}

func (r Request) correlation() string {
	if r.CorrelationID != "" {
		return r.CorrelationID
	}
	return r.ID.String()
}

// follow adds the metadata of the events that follow from a stored one. It depends on nothing else, so that they are the same whoever
// appends them.
func follow(from eventstore.Recorded, events []domain.Event) []eventstore.Proposed {
	m := from.Metadata
	m.CausationID = from.ID.String()
	return propose(m, events)
}

// followReservation is follow for the event that made the reservation, whose id is used in place of that event's.
func followReservation(r domain.SlotReserved, events []domain.Event) []eventstore.Proposed {
	m := eventstore.Metadata{
		CorrelationID: r.CorrelationID,
		CausationID:   string(r.ReservationID),
		Actor:         r.Actor,
		Client:        r.Client,
		OccurredAt:    r.At,
		TraceParent:   r.TraceParent,
		Command:       r.Command,
	}
	return propose(m, events)
}

func propose(m eventstore.Metadata, events []domain.Event) []eventstore.Proposed {
	proposed := make([]eventstore.Proposed, len(events))
	for i, e := range events {
		proposed[i] = eventstore.Proposed{Event: e, Metadata: m}
	}
	return proposed
}
