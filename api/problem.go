package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"roombook/api/web"
	"roombook/commands"
	"roombook/commands/accounts"
	"roombook/commands/picture"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// problemType is a type of problem: a row of the table that maps errors to replies, and the page that describes it.
type problemType struct {
	// name is the last segment of its URI, /problems/<name>. Clients rely on it.
	name   string
	status int
	title  string
	// about explains when it occurs and how to fix the request.
	about string
	// retry is set if the same request may succeed later.
	retry bool
	// match reports whether an error is of this type. If so it sets the detail and the extension members of p.
	match func(err error, p *problem) bool
}

// problem is a problem reply (RFC 9457).
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Instance  string `json:"instance"`
	RequestID string `json:"requestId"`

	Errors              []fault             `json:"errors,omitzero"`
	ConflictsWith       []conflict          `json:"conflictsWith,omitzero"`
	MoreConflicts       int                 `json:"moreConflicts,omitzero"`
	BookingID           domain.BookingID    `json:"bookingId,omitzero"`
	RealUseID           domain.RealUseID    `json:"realUseId,omitzero"`
	CancelReason        domain.CancelReason `json:"cancelReason,omitzero"`
	CancelDtm           timestamp           `json:"cancelDtm,omitzero"`
	ConfirmUserID       **domain.UserID     `json:"confirmUserId,omitzero"` // points to nil, which is null, if no user was named
	ConfirmDtm          timestamp           `json:"confirmDtm,omitzero"`
	RealUseEndDtm       timestamp           `json:"realUseEndDtm,omitzero"`
	EarliestUseStartDtm timestamp           `json:"earliestUseStartDtm,omitzero"`
	LatestUseStartDtm   timestamp           `json:"latestUseStartDtm,omitzero"`
	Broken              []brokenRule        `json:"broken,omitzero"`
	Closures            []closedPeriod      `json:"closures,omitzero"`
	Earliest            timestamp           `json:"earliest,omitzero"`
	RoomID              domain.RoomID       `json:"roomId,omitzero"`
	RetiredFromDtm      timestamp           `json:"retiredFromDtm,omitzero"`
	ETag                string              `json:"etag,omitzero"` // also a header

	mediaType    string // that was negotiated for the reply
	zone         *time.Location
	allow        string // the Allow header
	acceptCoding string // the Accept-Encoding header
	challenge    bool   // whether there is a WWW-Authenticate header
	retryAfter   int    // the Retry-After header, in seconds, if it is not the usual one
}

// conflict is a booking that holds the room, and the time for which it does.
type conflict struct {
	BookingID   domain.BookingID `json:"bookingId"`
	UseStartDtm timestamp        `json:"useStartDtm"`
	UseEndDtm   timestamp        `json:"useEndDtm"`
}

// closedPeriod is a period for which the room is closed.
type closedPeriod struct {
	ClosureID domain.ClosureID `json:"closureId"`
	StartDtm  timestamp        `json:"startDtm"`
	EndDtm    timestamp        `json:"endDtm"`
	Reason    string           `json:"reason,omitzero"`
}

// Errors of requests that no handler sees.
var (
	errNoSuchPath    = errors.New("there is nothing at this address")
	errNotAcceptable = errors.New("nothing that the caller accepts can be answered")
)

// methodNotAllowed reports a method that the path does not have.
type methodNotAllowed struct{ allow string }

func (e *methodNotAllowed) Error() string { return "the method is not one of " + e.allow }

// problemTypes is the table. The first row that matches an error applies; the last row matches every error.
var problemTypes = slices.Concat(accountProblems, []problemType{
	{
		name: "no-such-path", status: http.StatusNotFound, title: "There is nothing at this address",
		about: "The path is none of this API's. The root, /, links to all of it, and /docs describes it.",
		match: sentinel(errNoSuchPath, "No resource has this path; / links to all there are."),
	},
	{
		name: "misdirected-request", status: http.StatusMisdirectedRequest, title: "The request is for another host",
		about: "The Host header names a host that this server does not know itself by. It knows its own address, loopback names, and what it was told with --public-url.",
		match: sentinel(errMisdirected, "This server does not know itself by the name in the Host header. If the name is right, the server must be told of it with --public-url."),
	},
	{
		name: "method-not-allowed", status: http.StatusMethodNotAllowed, title: "The method is not allowed here",
		about: "The path exists, the method does not. The Allow header lists those that do.",
		match: typed(func(e *methodNotAllowed, p *problem) {
			p.Detail = "Use one of " + e.allow + "."
			p.allow = e.allow
		}),
	},
	{
		name: "not-acceptable", status: http.StatusNotAcceptable, title: "The answer has no media type that is accepted",
		about: "Answers are application/hal+json or application/json. The Accept header takes neither: add one of them, or */*.",
		match: sentinel(errNotAcceptable, "The Accept header takes neither application/hal+json nor application/json."),
	},
	{
		name: "unsupported-media-type", status: http.StatusUnsupportedMediaType, title: "The body's media type is not supported",
		about: "A body must be JSON in UTF-8 and say so: Content-Type: application/json, application/hal+json, or, for PATCH, application/merge-patch+json. A picture says which it is: image/jpeg, image/png, image/gif or image/webp.",
		match: typed(func(e *unsupportedMedia, p *problem) {
			given := "no Content-Type"
			if e.given != "" {
				given = strconv.Quote(e.given)
			}
			p.Detail = fmt.Sprintf("The body has %s; it must be %s.", given, strings.Join(e.accepted, " or "))
		}),
	},
	{
		name: "unsupported-content-coding", status: http.StatusUnsupportedMediaType, title: "The body's content coding is not supported",
		about: "A body must come as it is, without Content-Encoding: neither compressed nor encoded in another way.",
		match: typed(func(e *unsupportedCoding, p *problem) {
			p.Detail = fmt.Sprintf("The body has Content-Encoding: %s; it must have none.", e.given)
			p.acceptCoding = "identity"
		}),
	},
	{
		name: "body-too-large", status: http.StatusRequestEntityTooLarge, title: "The body is too large",
		about: "A body has at most 64 KiB, and a picture at most 10 MiB.",
		match: typed(func(e *bodyTooLarge, p *problem) {
			p.Detail = fmt.Sprintf("The body has more than %d KiB.", e.maxBytes>>10)
		}),
	},
	{
		name: "unusable-picture", status: http.StatusUnprocessableEntity, title: "The picture cannot be used",
		about: "The body is no JPEG, PNG, GIF or WebP that can be read to its end, is an animated WebP, has more than 26 million pixels, or could take more than 100 MiB of memory to decode, as large progressive JPEGs, large PNGs of 16 bits or interlaced ones, and all lossless WebPs do. Send a baseline JPEG, or a smaller copy.",
		match: func(err error, p *problem) bool {
			p.Detail = "The picture cannot be read: it must be a whole JPEG, PNG, GIF or WebP."
			if errors.Is(err, picture.ErrTooDetailed) {
				p.Detail = fmt.Sprintf("The picture has more than %d million pixels, or could take more than %d MiB of memory to decode, as any lossless WebP; send a baseline JPEG, or a smaller copy.", picture.MaxPixels/1_000_000, picture.MaxDecoded>>20)
				return true
			}
			return errors.Is(err, picture.ErrUnreadable)
		},
	},
	{
		name: "body-too-slow", status: http.StatusRequestTimeout, title: "The body did not come in time", retry: true,
		about: "The connection went quiet before the body had come whole. Send the request again.",
		match: sentinel(errBodyTooSlow, "The rest of the body did not come in time."),
	},
	{
		name: "malformed-body", status: http.StatusBadRequest, title: "The body is not JSON",
		about: "The body must be one JSON text in UTF-8 with nothing after it. The detail says where it ceases to be one.",
		match: typed(func(e *malformed, p *problem) { p.Detail = sentence(e.detail) }),
	},
	{
		name: "invalid-body", status: http.StatusUnprocessableEntity, title: "The body's values are not acceptable",
		about: "The body is JSON, but not what is asked for. The member errors lists all that is wrong with it: where (a JSON pointer into the body), and what.",
		match: typed(func(e *invalidBody, p *problem) {
			p.Detail = "The body is refused for " + count(len(e.faults), "reason") + "; see errors."
			p.Errors = e.faults
		}),
	},
	{
		name: "invalid-parameters", status: http.StatusBadRequest, title: "The request's parameters are not acceptable",
		about: "Parameters of the query, or the headers Roombook-Position, Idempotency-Key, If-Match or If-None-Match, are unknown, given twice or not what they must be. The member errors lists all of them.",
		match: typed(func(e *invalidParameters, p *problem) {
			p.Detail = "The request is refused for " + count(len(e.faults), "reason") + "; see errors."
			p.Errors = e.faults
		}),
	},
	{
		name: "key-reused", status: http.StatusUnprocessableEntity, title: "The key was used for another request",
		about: "A request with the same Idempotency-Key and another method, address or body was sent before; nothing of this one was done. Send a request again exactly as it was, and choose a new key for a new one.",
		match: sentinel(commands.ErrKeyReused, "The Idempotency-Key was used before for a request with another method, address or body."),
	},
	{
		name: "precondition-failed", status: http.StatusPreconditionFailed, title: "The resource has changed",
		about: "The resource is at none of the revisions in If-Match: somebody changed it since it was read; or it is one of those in If-None-Match. The member and header etag have its present one. Read it again and decide anew.",
		match: typed(func(e *commands.ConditionFailed, p *problem) {
			p.Detail = fmt.Sprintf("The resource is at revision %d, which If-Match or If-None-Match rules out.", e.Revision)
			p.ETag = etag(e.Revision, p.mediaType)
		}),
	},
	{
		name: "overloaded", status: http.StatusServiceUnavailable, title: "Too many requests are under way", retry: true,
		about: "This server carries out as many commands (or queries, or uploads of pictures) as it takes. Nothing has happened. Send the request again, a little later or to another server.",
		match: func(err error, p *problem) bool {
			p.Detail = "As many requests as this server takes are under way; nothing has happened."
			return errors.Is(err, errOverloaded) || errors.Is(err, accounts.ErrBusy)
		},
	},
	{
		name: "slot-taken", status: http.StatusConflict, title: "The room is taken at that time",
		about: "Other bookings hold the room for a part of the time. The member conflictsWith lists the first ones by their start, and moreConflicts says how many more there may be. A booking whose use has ended keeps the time until that end: it is listed with what is left of its slot, and to read it is answered with booking-cancelled. Choose another room or time; a booking that begins when another one ends does not collide with it.",
		match: typed(func(e *domain.SlotTaken, p *problem) {
			p.Detail = fmt.Sprintf("Room %s is taken for a part of the time from %s to %s.", e.Room, p.time(e.Slot.Start), p.time(e.Slot.End))
			p.conflicts(e.By)
			if p.MoreConflicts = e.More; e.More > 0 {
				p.Detail += fmt.Sprintf(" Besides the bookings in conflictsWith there may be %d more.", e.More)
			}
		}),
	},
	{
		name: "rule-broken", status: http.StatusConflict, title: "The room's rules do not allow it",
		about: "The booking breaks rules that the room has by now, see GET /rooms/{id}/rules. The member broken lists all of them: the rule, its value (limit, or hours), why it is broken, and the earliest start of a booking of this length, or the nearest that the rules allow, that would do, where there is one. The member conflictsWith lists the bookings because of which they are broken, if it is because of any. Book another time or room; an administrator may book all the same with override: true.",
		match: typed(func(e *domain.RuleBroken, p *problem) {
			p.RoomID, p.Broken = e.Room, brokenRules(e.Broken, p.zone)
			p.conflicts(e.By)
			p.Detail = fmt.Sprintf("Room %s cannot be booked from %s to %s by its rules: ", e.Room, p.time(e.Slot.Start), p.time(e.Slot.End))
			for i, b := range e.Broken {
				if i > 0 {
					p.Detail += "; "
				}
				p.Detail += b.Detail
			}
			p.Detail += "."
		}),
	},
	{
		name: "room-closed", status: http.StatusConflict, title: "The room is closed at that time",
		about: "The room is closed for a part of the time. The member closures lists the periods, and earliest is the earliest start of a booking of this length that would do, where there is one. Choose another room or time.",
		match: typed(func(e *domain.RoomClosed, p *problem) {
			p.RoomID, p.Earliest = e.Room, timestampOrZero(e.Earliest, p.zone)
			for _, c := range e.By {
				p.Closures = append(p.Closures, closedPeriod{c.ID, p.time(c.Slot.Start), p.time(c.Slot.End), c.Reason})
			}
			p.Detail = fmt.Sprintf("Room %s is closed for a part of the time from %s to %s.", e.Room, p.time(e.Slot.Start), p.time(e.Slot.End))
		}),
	},
	{
		name: "room-retired", status: http.StatusConflict, title: "The room cannot be booked any more",
		about: "The room is retired before the booking would end, from the member retiredFromDtm on. Choose another room.",
		match: typed(func(e *domain.Retired, p *problem) {
			p.RoomID, p.RetiredFromDtm = e.Room, p.time(e.From)
			p.Detail = fmt.Sprintf("Room %s is retired from %s on.", e.Room, p.time(e.From))
		}),
	},
	{
		name: "room-exists", status: http.StatusConflict, title: "The room is registered already",
		about: "A room with this id is registered, with other details. Choose another id, or change the room with PUT /rooms/{id}.",
		match: typed(func(e *domain.RoomExists, p *problem) {
			p.RoomID = e.Room
			p.Detail = fmt.Sprintf("Room %s is registered already, with other details; change it with PUT /rooms/%s.", e.Room, e.Room)
		}),
	},
	{
		name: "room-not-found", status: http.StatusNotFound, title: "There is no such room",
		about: "No room is registered with this id. POST /rooms registers one, GET /rooms lists those there are. Unless the server was started with --rooms registered, a room can be booked that is not registered, but it has no rules and cannot be closed.",
		match: sentinel(domain.ErrRoomNotFound, "No room is registered with this id."),
	},
	{
		name: "photo-not-found", status: http.StatusNotFound, title: "The room has no photo",
		about: "The room has no photo, or the event store no longer has the picture. PUT the picture of the room there.",
		match: sentinel(domain.ErrPhotoNotFound, "The room has no photo."),
	},
	{
		name: "closure-not-found", status: http.StatusNotFound, title: "There is no such closure",
		about: "The room has no closed period with this id: it was reopened, or it ended long ago.",
		match: sentinel(domain.ErrClosureNotFound, "The room has no closed period with this id, or it was reopened."),
	},
	{
		name: "fault-not-found", status: http.StatusNotFound, title: "There is no such fault",
		about: "No fault of the room has this id, or it was settled long ago. GET /rooms/{id}/faults lists those there are.",
		match: sentinel(domain.ErrFaultNotFound, "No fault of the room has this id."),
	},
	{
		name: "too-many-faults", status: http.StatusConflict, title: "The room has too many faults",
		about: fmt.Sprintf("%d faults of the room are open. Whoever answers for the room knows, and has to settle some before others can be reported.", domain.MaxOpenFaults),
		match: typed(func(e *domain.TooManyFaults, p *problem) {
			p.RoomID = e.Room
			p.Detail = fmt.Sprintf("%d faults of room %s are open; settle some with PATCH /rooms/%[2]s/faults/{faultId}.", domain.MaxOpenFaults, e.Room)
		}),
	},
	{
		name: "use-of-cancelled-booking", status: http.StatusConflict, title: "A cancelled booking cannot be used",
		about: "The use of a room starts from a live booking; this one is over. The members cancelReason and cancelDtm say why and since when. Book the room again.",
		match: typed(func(e *useOfCancelled, p *problem) { p.cancelled(e.AlreadyCancelled) }),
	},
	{
		name: "booking-cancelled", status: http.StatusNotFound, title: "The booking is cancelled",
		about: "The booking existed and is over. The members cancelReason (user, denied, use-ended, admin, room-closed) and cancelDtm say why and since when. Its history and its place in the lists stay.",
		match: typed(func(e *domain.AlreadyCancelled, p *problem) { p.cancelled(e) }),
	},
	{
		name: "booking-not-found", status: http.StatusNotFound, title: "There is no such booking",
		about: "No booking has this id or, with asOf, had it at that time. Booking ids come from the answer to POST /bookings.",
		match: sentinel(domain.ErrBookingNotFound, "No booking has this id or, with asOf, had it at that time."),
	},
	{
		name: "real-use-not-found", status: http.StatusNotFound, title: "There is no such real use",
		about: "No real use has this id. Real-use ids come from the answer to POST /realuses.",
		match: sentinel(domain.ErrRealUseNotFound, "No real use has this id."),
	},
	{
		name: "not-in-list", status: http.StatusNotFound, title: "The list has no such entry",
		about: "No entry of the list has this id. A list shows a booking shortly after it was made; send the Roombook-Position of the command's answer along to wait for it.",
		match: sentinel(projections.ErrNotFound, "No entry of this list has this id."),
	},
	{
		name: "booking-in-use", status: http.StatusConflict, title: "The use of the booking has started",
		about: "From its start on a booking can neither change nor be cancelled nor denied nor start again: end its real use, PATCH /realuses/{id}, whose id is the member realUseId.",
		match: typed(func(e *domain.AlreadyInUse, p *problem) {
			p.Detail = fmt.Sprintf("The use of booking %s has started; end it with PATCH /realuses/%s.", e.Booking, e.RealUse)
			p.BookingID, p.RealUseID = e.Booking, e.RealUse
		}),
	},
	{
		name: "too-many-changes", status: http.StatusConflict, title: "The booking was changed too often",
		about: fmt.Sprintf("A booking can be changed %d times. Cancel it and book anew.", domain.MaxChanges),
		match: typed(func(e *domain.TooManyChanges, p *problem) {
			p.Detail = fmt.Sprintf("Booking %s was changed %d times and can change no more; cancel it and book anew.", e.Booking, domain.MaxChanges)
			p.BookingID = e.Booking
		}),
	},
	{
		name: "already-confirmed", status: http.StatusConflict, title: "The booking has been confirmed",
		about: "Another answer was first. A confirmed booking cannot be denied; its user can cancel it. The members confirmUserId and confirmDtm say who confirmed it and when.",
		match: typed(func(e *domain.AlreadyConfirmed, p *problem) {
			p.Detail = fmt.Sprintf("Booking %s was confirmed at %s.", e.Booking, p.time(e.At))
			p.BookingID, p.ConfirmUserID, p.ConfirmDtm = e.Booking, new(orNull(e.By)), p.time(e.At)
		}),
	},
	{
		name: "confirmation-pending", status: http.StatusConflict, title: "The booking has not been confirmed yet",
		about: "Here a use may only start once an administrator has confirmed the booking: PATCH /confirms/{bookingId}.",
		match: sentinel(domain.ErrConfirmationPending, "An administrator must confirm the booking before its use can start."),
	},
	{
		name: "use-off-slot", status: http.StatusConflict, title: "The use starts too long before or after the booked time",
		about: "Here a use may only start near its booking's slot. The members earliestUseStartDtm and latestUseStartDtm say when it may; the latter is left out if there is no bound. Start it then, or change the booking.",
		match: typed(func(e *domain.UseOffSlot, p *problem) {
			p.BookingID, p.EarliestUseStartDtm = e.Booking, p.time(e.Earliest)
			if e.Latest.IsZero() {
				p.Detail = fmt.Sprintf("The use of booking %s may start from %s on, and not at %s.", e.Booking, p.time(e.Earliest), p.time(e.StartedAt))
				return
			}
			p.Detail = fmt.Sprintf("The use of booking %s may start from %s to %s, and not at %s.", e.Booking, p.time(e.Earliest), p.time(e.Latest), p.time(e.StartedAt))
			p.LatestUseStartDtm = p.time(e.Latest)
		}),
	},
	{
		name: "already-ended", status: http.StatusConflict, title: "The use has ended",
		about: "The real use ended at another time than the one given now. What has ended stays as it is; the member realUseEndDtm says when it ended.",
		match: typed(func(e *domain.AlreadyEnded, p *problem) {
			p.Detail = fmt.Sprintf("Real use %s ended at %s.", e.RealUse, p.time(e.At))
			p.RealUseID, p.RealUseEndDtm = e.RealUse, p.time(e.At)
		}),
	},
	{
		name: "too-much-contention", status: http.StatusServiceUnavailable, title: "Too many others are changing the same", retry: true,
		about: "Others kept changing the same room or booking while the command tried to. Nothing was decided. Send it again.",
		match: sentinel(commands.ErrContended, "Others kept changing the same room or booking; nothing was decided."),
	},
	{
		name: "history-busy", status: http.StatusServiceUnavailable, title: "Too many are asking about long ago", retry: true,
		about: "What is asked about a slot that is further back than the server remembers, see --calendar-keep, takes all of its room's history. Few such commands are carried out at a time, and this one had no turn. Nothing was decided. Send it again.",
		match: sentinel(commands.ErrHistoryBusy, "Others are being answered from their rooms' whole histories; nothing was decided."),
	},
	{
		name: "outcome-unknown", status: http.StatusServiceUnavailable, title: "The outcome is not known yet", retry: true,
		about: "The event store ceased to answer in the middle of the command. If the command was decided, it will be finished, without help; if not, nothing has happened. Read the resource to see which, or send the command again.",
		match: sentinel(eventstore.ErrOutcomeUnknown, "The event store ceased to answer. If the command was decided it will be finished, else nothing has happened."),
	},
	{
		name: "event-store-replaced", status: http.StatusServiceUnavailable, title: "The event store's log is another than before", retry: true,
		about: "A backup was put back, or another event store stands at the address. Nothing has happened, and this server forgets what it remembered. Send the request again: it is answered by what the event store has now.",
		match: sentinel(eventstore.ErrReplaced, "The event store's log is another than before; nothing has happened."),
	},
	{
		name: "event-store-unavailable", status: http.StatusServiceUnavailable, title: "The event store does not answer", retry: true,
		about: "The event store cannot be reached. Nothing has happened. Send the request again.",
		match: sentinel(eventstore.ErrUnavailable, "The event store cannot be reached; nothing has happened."),
	},
	{
		name: "unreadable-event", status: http.StatusServiceUnavailable, title: "An event cannot be read by this version", retry: true,
		about: "An event of the room, the booking or its use was written by a newer version of this program, and nothing can be decided without it. While versions are being exchanged another server may answer.",
		match: typed(func(e *commands.Unreadable, p *problem) {
			p.Detail = fmt.Sprintf("This version cannot read event %d of %s, a %s.", e.Revision, e.Stream, e.Type)
		}),
	},
	{
		name: "shutting-down", status: http.StatusServiceUnavailable, title: "The server is shutting down", retry: true,
		about: "This server is being stopped. Send the request again, to another one or to its successor.",
		match: sentinel(eventstore.ErrClosed, "The server is shutting down; nothing has happened."),
	},
	{
		name: "no-such-position", status: http.StatusBadRequest, title: "The log has no event at that position",
		about: "The Roombook-Position of the request is none that an answer of this system had, or of one that has since been put back to a backup. Ask without that header, or with that of a later answer.",
		match: sentinel(projections.ErrNoSuchPosition, "The log has no event at the Roombook-Position of the request."),
	},
	{
		name: "list-behind", status: http.StatusServiceUnavailable, title: "The list is not there yet", retry: true,
		about: "The list has not reached the Roombook-Position that the query was sent with in the time that it waits. Ask again, or without that header.",
		match: sentinel(projections.ErrBehind, "The list has not reached the Roombook-Position of the request in time."),
	},
	{
		name: "query-too-wide", status: http.StatusServiceUnavailable, title: "The query concerns too much of the list", retry: true,
		about: "No index has what is asked for in its order, and many entries match each of the filters alone, so that much of the list would have to be read. Few such queries are answered at a time, and for a bounded time; this one had no turn, or no time. Narrow it: by bookingId, by from and to, or by one filter alone; sort by the time; or ask again.",
		match: sentinel(projections.ErrTooWide, "Too much of the list would have to be read. Narrow the filters, sort by the time, or ask again."),
	},
	{
		name: "lists-unavailable", status: http.StatusServiceUnavailable, title: "The lists cannot be read", retry: true,
		about: "The store of the lists cannot be reached, or the list has not been built yet. Commands and single resources are not concerned. Ask again.",
		match: sentinel(projections.ErrUnavailable, "The store of the lists cannot be reached, or the list is being built."),
	},
	{
		name: "timeout", status: http.StatusServiceUnavailable, title: "The answer took too long", retry: true,
		about: "The request could not be answered within its time limit. A command that was decided will be finished; read the resource to see.",
		match: sentinel(context.DeadlineExceeded, "The request could not be answered within its time limit. If it was a command and decided, it will be finished."),
	},
	{
		name: "given-up", status: http.StatusServiceUnavailable, title: "The request was given up", retry: true,
		about: "This server was ended before it had the answer. A command that was decided is finished all the same; read the resource to see, or send the request again.",
		match: sentinel(context.Canceled, "The server was ended before it had the answer. If it was a command and decided, it will be finished."),
	},
	{
		name: "internal-error", status: http.StatusInternalServerError, title: "Something went wrong here",
		about: "The fault is in this server, and its log has the details. Tell its operators the request's id, which is the member requestId.",
		match: func(_ error, p *problem) bool {
			p.Detail = "The log of this server has the details, under this request's id."
			return true
		},
	},
})

// sentinel matches a sentinel error.
func sentinel(target error, detail string) func(error, *problem) bool {
	return func(err error, p *problem) bool {
		if !errors.Is(err, target) {
			return false
		}
		p.Detail = detail
		return true
	}
}

// typed matches an error by its type.
func typed[E error](describe func(e E, p *problem)) func(error, *problem) bool {
	return func(err error, p *problem) bool {
		e, ok := errors.AsType[E](err)
		if ok {
			describe(e, p)
		}
		return ok
	}
}

func (p *problem) conflicts(with []*domain.Reservation) {
	for _, r := range with {
		p.ConflictsWith = append(p.ConflictsWith, conflict{r.BookingID, p.time(r.Slot.Start), p.time(r.Slot.End)})
	}
}

func (p *problem) time(t time.Time) timestamp { return timestamp(t.In(p.zone)) }

// cancelled describes a cancelled booking.
func (p *problem) cancelled(e *domain.AlreadyCancelled) {
	p.Detail = fmt.Sprintf("Booking %s was cancelled at %s (%s).", e.Booking, p.time(e.At), e.Reason)
	p.BookingID, p.CancelReason, p.CancelDtm = e.Booking, e.Reason, p.time(e.At)
}

// retryAfter is the value of Retry-After, in seconds.
const retryAfter = "1"

// problemOf is the problem that describes an error.
func (x *exchange) problemOf(err error) (*problemType, problem) {
	p := problem{Instance: x.r.URL.EscapedPath(), RequestID: x.id, mediaType: x.mediaType, zone: x.server.zone}
	t := matchProblem(err, &p)
	p.Type, p.Title, p.Status = "/problems/"+t.name, t.title, t.status
	return t, p
}

// matchProblem returns the first type that an error is of, and sets what it says of the error in p.
func matchProblem(err error, p *problem) *problemType {
	var t *problemType
	for i := range problemTypes {
		if t = &problemTypes[i]; t.match(err, p) {
			break
		}
	}
	return t
}

// problemTypeOf is the type of problem that an error is, as pages show it.
func problemTypeOf(err error) web.ProblemType {
	return matchProblem(err, &problem{zone: time.UTC}).page()
}

// fail replaces the reply by the problem that describes an error.
func (x *exchange) fail(err error) {
	if before, ok := errors.AsType[*commands.RefusedBefore](err); ok {
		x.replayRefusal(before.Answer)
		return
	}
	t, p := x.problemOf(err)
	x.header("Vary", "Accept")
	h := x.w.Header()
	delete(h, "Etag")
	delete(h, "Location")
	delete(h, "Roombook-Position")
	if t.retry {
		x.header("Retry-After", retryAfter)
	}
	if p.retryAfter > 0 {
		x.header("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.challenge {
		x.header("Www-Authenticate", "Bearer")
		if errors.Is(err, errFeedUnauthenticated) {
			h.Add("Www-Authenticate", `Basic realm="Roombook", charset="UTF-8"`)
		}
	}
	if p.ETag != "" {
		x.header("Etag", p.ETag)
	}
	if p.allow != "" {
		x.header("Allow", p.allow)
	}
	if p.acceptCoding != "" {
		x.header("Accept-Encoding", p.acceptCoding)
	}

	x.status, x.mediaType, x.problem = t.status, mediaProblem, t.name
	x.out.Reset()
	_ = x.reply(&p) // every problem can be marshalled
}

func count(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// sentence turns an error message into a sentence.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
