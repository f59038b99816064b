package api

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

func (s *Server) auditRoutes() []route {
	return []route{
		// Who did what, and from where.
		{method: "GET", path: "/audit", handle: s.audit, params: auditParams{}, query: true, needs: domain.ReadAudit},
	}
}

// auditParams are the query parameters of the audit.
type auditParams struct {
	// Only what this user did.
	UserID string `param:"userId"`
	// Only events of this type. Several are separated by commas.
	Kind string `param:"kind"`
	// Only what was done from here on (RFC 3339, the compact local forms, or a date alone, from its beginning).
	From string `param:"from"`
	// Only what was done before this (RFC 3339, the compact local forms, or a date alone, to its end).
	To string `param:"to"`
	// The most entries on the page. It has fewer, or none, where few of the events that were looked at are asked for; the link next leads on.
	Size string `param:"size"`
	// Where the page begins; it comes from the link next of the page before and is of no other use.
	Cursor string `param:"cursor"`
}

const (
	// maxAudited is how many events of the log are looked at for a page.
	maxAudited = 2000
	// clockSlack is how far apart the clocks of servers that write to one log may be.
	clockSlack = time.Hour
)

// auditReply is a page of the audit.
type auditReply struct {
	Embedded struct {
		Audit []auditEntry `json:"audit"`
	} `json:"_embedded"`
	Links struct {
		Self  link `json:"self"`
		Audit link `json:"audit"`
		Next  link `json:"next,omitzero"`
	} `json:"_links"`
}

// auditEntry is an action of somebody, as the audit lists it.
type auditEntry struct {
	eventReply
	Client string `json:"client,omitzero"`
}

// followUps are the types of events that only follow from other events, or serve the program itself.
var followUps = []string{
	domain.SlotReserved{}.EventType(), domain.SlotReleased{}.EventType(), domain.SlotUsed{}.EventType(), domain.CalendarSnapshot{}.EventType(), domain.PhotoStored{}.EventType(),
	domain.ConfirmRequested{}.EventType(), domain.BookingCheckedIn{}.EventType(),
	domain.KeyUsed{}.EventType(), domain.KeyRefused{}.EventType(), domain.KeyUnchanged{}.EventType(),
	domain.NotificationRequested{}.EventType(), domain.NotificationDelivered{}.EventType(), domain.NotificationFailed{}.EventType(), domain.NotificationDue{}.EventType(),
}

// audit replies with what was done, the latest first. The cursor of a page is the position of the last event that was looked at before it.
func (s *Server) audit(x *exchange) error {
	var user string
	var kinds []string
	var from, to time.Time
	var before eventstore.Position
	size := 50
	err := x.params(func(name, value string) (err error) {
		switch name {
		case "userId":
			user = value
		case "kind":
			kinds = strings.Split(value, ",")
			if slices.ContainsFunc(kinds, func(kind string) bool { return !eventstore.Known(kind) || slices.Contains(followUps, kind) }) {
				err = errors.New("must be types of events that somebody causes, as BookingCreated, with commas between")
			}
		case "from":
			from, err = parseBound(value, s.zone, false)
		case "to":
			to, err = parseBound(value, s.zone, true)
		case "size":
			size, err = parseSize(value)
		case "cursor":
			before, err = parseCursor(value)
		default:
			err = errUnknownParameter
		}
		return err
	})
	if err = faultIf(err, !from.IsZero() && !to.IsZero() && !from.Before(to), "to", "must be after from"); err != nil {
		return err
	}
	r := auditReply{}
	r.Embedded.Audit = []auditEntry{}
	looked, next := 0, eventstore.Position(0)
	for e, err := range s.readBack(x.ctx, before, maxAudited) {
		if errors.Is(err, eventstore.ErrNoPosition) {
			return invalidParameter("cursor", errCursor)
		}
		if err != nil {
			return err
		}
		at := e.Metadata.OccurredAt
		if !from.IsZero() && !at.IsZero() && at.Before(from.Add(-clockSlack)) {
			next = 0
			break
		}
		looked++
		if auditable(&e) && (user == "" || e.Metadata.Actor == user) && (kinds == nil || slices.Contains(kinds, e.Type)) && !at.Before(from) && (to.IsZero() || at.Before(to)) {
			r.Embedded.Audit = append(r.Embedded.Audit, x.auditEntry(&e))
		}
		if next = 0; looked == maxAudited || len(r.Embedded.Audit) == size {
			next = e.Position
			break
		}
	}
	r.Links.Self = x.linkHere(x.r.URL.RawQuery)
	r.Links.Audit = r.Links.Self
	if next > 0 {
		r.Links.Next = x.linkHere(withCursor(x.r.URL.RawQuery, strconv.FormatUint(uint64(next), 10)))
	}
	return x.reply(&r)
}

// auditable reports whether an event records what somebody did, rather than what followed from it.
func auditable(e *eventstore.Recorded) bool {
	return e.Metadata.Actor != "" && !strings.HasPrefix(e.Stream, "$") && !slices.Contains(followUps, e.Type)
}

func (x *exchange) auditEntry(e *eventstore.Recorded) auditEntry {
	if issued, ok := e.Event.(domain.TokenIssued); ok {
		issued.Hash = ""
		e.Event = issued
	}
	return auditEntry{x.eventReply(e), e.Metadata.Client}
}

// parseCursor parses the cursor of a page of events.
func parseCursor(value string) (eventstore.Position, error) {
	position, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		err = errCursor
	}
	return eventstore.Position(position), err
}

// errCursor means that the cursor does not come from a page of events.
var errCursor = errors.New("must be that of the link next of the page before")
