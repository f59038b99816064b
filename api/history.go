package api

import (
	"encoding/json"
	"fmt"

	"roombook/domain"
	"roombook/eventstore"
)

// history answers with every event of a booking and of its use, the first one first. The list has no pages: a booking is
// short-lived.
func (s *Server) history(x *exchange) error {
	id := x.vars["id"]
	if !validID(id) {
		return domain.ErrBookingNotFound
	}
	events, err := s.commands.History(x.ctx, domain.BookingID(id))
	if err != nil {
		return err
	}
	x.position(events[len(events)-1].Position)
	x.beginObject()
	x.name("_embedded")
	x.beginObject()
	x.name("events")
	x.beginArray()
	for _, e := range events {
		if err := x.event(e); err != nil {
			return err
		}
	}
	x.endArray()
	x.endObject()
	x.beginLinks()
	x.link("self", "/bookings/", id, "/history")
	x.link("history", "/bookings/", id, "/history")
	x.link("booking", "/bookings/", id)
	x.endObject()
	x.endObject()
	return nil
}

func (d *document) event(e eventstore.Recorded) error {
	data := e.Data
	// What is stored may be of an older schema; callers are told the present one. What cannot be decoded is told as stored.
	if e.Event != nil {
		var err error
		if data, err = json.Marshal(e.Event); err != nil {
			return fmt.Errorf("write a %s: %w", e.Type, err)
		}
	}
	if !json.Valid(data) {
		data = []byte("null")
	}
	d.beginObject()
	d.text("eventId", e.ID.String())
	d.text("type", e.Type)
	d.time("time", e.Metadata.OccurredAt)
	d.text("actor", e.Metadata.Actor)
	d.text("stream", e.Stream)
	d.number("revision", int64(e.Revision))
	d.name("position")
	d.out = fmt.Appendf(d.out, "%d", e.Position)
	d.text("correlationId", e.Metadata.CorrelationID)
	d.text("causationId", e.Metadata.CausationID)
	d.raw("data", data)
	d.endObject()
	return nil
}
