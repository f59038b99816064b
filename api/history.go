package api

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// historyParams are the query parameters of a history.
type historyParams struct {
	// The most events on the page.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
}

// history replies with the events of a booking and of its use.
func (s *Server) history(x *exchange) error {
	private := false
	r, err := x.history("/bookings/", domain.ErrBookingNotFound, func(id string) (events []eventstore.Recorded, err error) {
		events, private, err = s.lists.History(x.ctx, domain.BookingID(id))
		return events, err
	})
	if err != nil {
		return err
	}
	r.Private = private
	r.Links.Booking = x.link("/bookings/", x.vars["id"])
	return x.reply(r)
}

// history returns a page of the events of what the path names, in the order of the log. The cursor of a page is the position of the last
// event before it.
func (x *exchange) history(path string, notFound error, read func(id string) ([]eventstore.Recorded, error)) (*historyReply, error) {
	size, after := projections.MaxSize, eventstore.Position(0)
	err := x.params(func(name, value string) (err error) {
		switch name {
		case "size":
			size, err = parseSize(value)
		case "cursor":
			after, err = parseCursor(value)
		default:
			err = errUnknownParameter
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	id := x.vars["id"]
	if !validID(id) {
		return nil, notFound
	}
	events, err := read(id)
	if err != nil {
		return nil, err
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
	var r historyReply
	r.Embedded.Events = make([]eventReply, len(events))
	for i := range events {
		r.Embedded.Events[i] = x.eventReply(&events[i])
	}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	if next != "" {
		r.Links.Next = x.linkHere(withCursor(x.r.URL.RawQuery, next))
	}
	r.Links.History = x.link(path, id+"/history")
	return &r, nil
}

// historyReply is a page of the history of a booking or a room.
type historyReply struct {
	Embedded struct {
		Events []eventReply `json:"events"`
	} `json:"_embedded"`
	Private bool `json:"private,omitzero"`
	Links   struct {
		Self    link `json:"self"`
		Next    link `json:"next,omitzero"`
		History link `json:"history"`
		Booking link `json:"booking,omitzero"`
		Room    link `json:"room,omitzero"`
	} `json:"_links"`
}

// eventReply is an event in a history.
type eventReply struct {
	EventID        uuid.UUID           `json:"eventId"`
	Type           string              `json:"type"`
	Time           *timestamp          `json:"time"`
	Actor          string              `json:"actor,omitzero"`
	ActorName      **string            `json:"actorName,omitzero"`
	OnBehalfOf     domain.UserID       `json:"onBehalfOf,omitzero"`
	OnBehalfOfName **string            `json:"onBehalfOfName,omitzero"`
	Stream         string              `json:"stream"`
	Revision       domain.Revision     `json:"revision"`
	Position       eventstore.Position `json:"position"`
	CorrelationID  string              `json:"correlationId,omitzero"`
	CausationID    string              `json:"causationId"`
	Data           any                 `json:"data"`
}

func (x *exchange) eventReply(e *eventstore.Recorded) eventReply {
	r := eventReply{
		EventID: e.ID, Type: e.Type, Time: x.timeOrNull(e.Metadata.OccurredAt), Actor: e.Metadata.Actor, ActorName: x.userName(domain.UserID(e.Metadata.Actor)), Stream: e.Stream, Revision: e.Revision, Position: e.Position,
		CorrelationID: e.Metadata.CorrelationID, CausationID: e.Metadata.CausationID,
	}
	if user := domain.OnBehalfOf(e.Event); user != domain.UserID(r.Actor) {
		r.OnBehalfOf, r.OnBehalfOfName = user, x.userName(user)
	}
	// An event may be stored in an older schema; the reply has the present one. An event that cannot be decoded is shown as it is stored.
	switch data := jsontext.Value(e.Data); {
	case e.Event != nil:
		r.Data = e.Event
	case data.IsValid(lenient):
		r.Data = data
	}
	return r
}
