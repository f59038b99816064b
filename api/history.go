package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// historyParams are the query parameters of a booking's history.
type historyParams struct {
	// The most events on the page.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
}

// history answers with the events of a booking and of its use, the first one first. The page after an event has a cursor that is its
// position in the log.
func (s *Server) history(x *exchange) error {
	size, after := projections.MaxSize, eventstore.Position(0)
	err := x.params(func(name, value string) (err error) {
		switch name {
		case "size":
			size, err = parseSize(value)
		case "cursor":
			var position uint64
			if position, err = strconv.ParseUint(value, 10, 64); err != nil {
				err = errors.New("must be that of the link next of the page before")
			}
			after = eventstore.Position(position)
		default:
			err = errUnknownParameter
		}
		return err
	})
	if err != nil {
		return err
	}
	id := x.vars["id"]
	if !validID(id) {
		return domain.ErrBookingNotFound
	}
	events, err := s.commands.History(x.ctx, domain.BookingID(id))
	if err != nil {
		return err
	}
	x.position(events[len(events)-1].Position)
	for len(events) > 0 && events[0].Position <= after {
		events = events[1:]
	}
	next := ""
	if len(events) > size {
		events = events[:size]
		next = strconv.FormatUint(uint64(events[size-1].Position), 10)
	}
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
	x.address("self", x.r.URL.Path, x.r.URL.RawQuery)
	if next != "" {
		x.address("next", x.r.URL.Path, withCursor(x.r.URL.RawQuery, next))
	}
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
