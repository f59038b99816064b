package eventstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"roombook/domain"
)

// What follows is how events were written and read before the codec did it by the structs' tags, kept to hold the codec against: stores
// are full of what it wrote, and programs that still have it read what the codec writes.

// formerEncode is the stored form of an event as it was written.
func formerEncode(p Proposed) (data, metadata []byte, err error) {
	d, m := form{out: make([]byte, 0, 512)}, form{out: make([]byte, 0, 512)}
	if !writeEvent(&d, p.Event) {
		return nil, nil, errUnknownType
	}
	p.Metadata.SchemaVersion = 1
	metadataForm(&m, &p.Metadata)
	if d.off || m.off {
		return nil, nil, fmt.Errorf("event %s: a time is outside the years 0 to 9999", p.Event.EventType())
	}
	return d.out, m.out, nil
}

// formerDecode is an event as it was read.
func formerDecode(eventType string, data, metadata []byte) (domain.Event, Metadata, error) {
	m, err := readMetadata(metadata)
	if err != nil {
		return nil, Metadata{}, err
	}
	switch {
	case m.SchemaVersion < 1:
		return nil, m, errNoSchema
	case m.SchemaVersion > 1:
		return nil, m, errNewerSchema
	}
	event, err := readEvent(eventType, data)
	return event, m, err
}

// form writes or reads a JSON object in the one form that this program stores: the bytes of encoding/json, members in the
// order of the struct, times in UTC. A function that names an object's members to a form serves both directions.
//
// Reading accepts exactly that form and no other; it is several times faster than encoding/json, which reads whatever is
// left over. Strings that were read share the memory of the input.
type form struct {
	reading bool
	out     []byte // writing: the object so far
	in      string // reading: what is left of it
	first   bool   // no member of the present object has been passed
	off     bool   // writing: a value cannot be stored; reading: the input has another form
}

func (f *form) begin() {
	f.first = true
	if !f.reading {
		f.out = append(f.out, '{')
		return
	}
	f.skip('{')
}

func (f *form) end() {
	f.first = false
	if !f.reading {
		f.out = append(f.out, '}')
		return
	}
	f.skip('}')
}

// complete reports whether the input was in the form, to its end.
func (f *form) complete() bool { return !f.off && f.in == "" }

func (f *form) skip(c byte) {
	if f.in == "" || f.in[0] != c {
		f.off = true
		return
	}
	f.in = f.in[1:]
}

// next passes the name of a member. Reading, it reports whether that is the member that comes next.
func (f *form) next(name string) bool {
	if !f.reading {
		if !f.first {
			f.out = append(f.out, ',')
		}
		f.out = append(f.out, '"')
		f.out = append(f.out, name...)
		f.out = append(f.out, '"', ':')
		f.first = false
		return true
	}
	in := f.in
	if !f.first {
		if in == "" || in[0] != ',' {
			return false
		}
		in = in[1:]
	}
	n := len(name)
	if len(in) < n+3 || in[0] != '"' || in[1:n+1] != name || in[n+1] != '"' || in[n+2] != ':' {
		return false
	}
	f.in = in[n+3:]
	f.first = false
	return true
}

// must passes the name of a member that is always there.
func (f *form) must(name string) {
	if !f.next(name) {
		f.off = true
	}
}

// text is a string.
func text[S ~string](f *form, name string, v *S) {
	f.must(name)
	if f.reading {
		*v = S(f.readString())
		return
	}
	f.out = appendString(f.out, string(*v))
}

// optionalText is a string that is left out if it is empty.
func optionalText[S ~string](f *form, name string, v *S) {
	if f.reading && f.next(name) {
		*v = S(f.readString())
	}
	if !f.reading && *v != "" {
		f.next(name)
		f.out = appendString(f.out, string(*v))
	}
}

func (f *form) time(name string, v *time.Time) {
	f.must(name)
	f.instant(v)
}

// optionalTime is a time that is left out if it is zero.
func (f *form) optionalTime(name string, v *time.Time) {
	if (f.reading || !v.IsZero()) && f.next(name) {
		f.instant(v)
	}
}

func (f *form) instant(v *time.Time) {
	if f.reading {
		s := f.readString()
		if f.off || s == "" || s[len(s)-1] != 'Z' || v.UnmarshalText([]byte(s)) != nil {
			f.off = true
		}
		return
	}
	t := v.UTC()
	if y := t.Year(); y < 0 || y > 9999 { // RFC 3339 has four digits
		f.off = true
	}
	f.out = append(f.out, '"')
	f.out = t.AppendFormat(f.out, time.RFC3339Nano)
	f.out = append(f.out, '"')
}

func (f *form) slot(name string, v *domain.Slot) {
	f.must(name)
	f.begin()
	f.time("start", &v.Start)
	f.time("end", &v.End)
	f.end()
}

func (f *form) integer(name string, v *int64) {
	f.must(name)
	if f.reading {
		*v = f.readInteger()
		return
	}
	f.out = strconv.AppendInt(f.out, *v, 10)
}

// optionalRevision is a number that is left out if it is 0.
func (f *form) optionalRevision(name string, v *domain.Revision) {
	if f.reading && f.next(name) {
		*v = domain.Revision(f.readInteger())
	}
	if !f.reading && *v != 0 {
		f.next(name)
		f.out = strconv.AppendInt(f.out, int64(*v), 10)
	}
}

// optionalTrue is a truth that is left out if it is false.
func (f *form) optionalTrue(name string, v *bool) {
	if f.reading && f.next(name) {
		for _, c := range "true" {
			f.skip(byte(c))
		}
		*v = true
	}
	if !f.reading && *v {
		f.next(name)
		f.out = append(f.out, "true"...)
	}
}

// readString reads a string without escapes.
func (f *form) readString() string {
	f.skip('"')
	for i := 0; i < len(f.in); i++ {
		switch c := f.in[i]; {
		case c == '"':
			s := f.in[:i]
			f.in = f.in[i+1:]
			return s
		case c == '\\' || c < ' ':
			f.off = true
			return ""
		case c >= utf8.RuneSelf:
			_, size := utf8.DecodeRuneInString(f.in[i:])
			if size == 1 {
				f.off = true
				return ""
			}
			i += size - 1
		}
	}
	f.off = true
	return ""
}

func (f *form) readInteger() int64 {
	n := strings.IndexAny(f.in, ",}")
	if n < 0 {
		f.off = true
		return 0
	}
	digits := f.in[:n]
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(v, 10) != digits {
		f.off = true
		return 0
	}
	f.in = f.in[n:]
	return v
}

// appendString appends s as encoding/json writes it.
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendEscaped(b, s)
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if size == 1 || r == '\u2028' || r == '\u2029' {
				return appendEscaped(b, s)
			}
			i += size - 1
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	escaped, _ := json.Marshal(s) // a string always has a JSON form
	return append(b, escaped...)
}

func metadataForm(f *form, m *Metadata) {
	f.begin()
	optionalText(f, "$correlationId", &m.CorrelationID)
	optionalText(f, "$causationId", &m.CausationID)
	optionalText(f, "actor", &m.Actor)
	optionalText(f, "client", &m.Client)
	f.time("occurredAt", &m.OccurredAt)
	f.integer("schemaVersion", &m.SchemaVersion)
	optionalText(f, "traceparent", &m.TraceParent)
	optionalText(f, "command", &m.Command)
	f.end()
}

func readMetadata(metadata []byte) (Metadata, error) {
	f := form{reading: true, in: string(metadata)}
	var m Metadata
	if metadataForm(&f, &m); f.complete() {
		return m, nil
	}
	return unmarshalV1[Metadata](metadata)
}

// unmarshalV1 is what encoding/json reads.
func unmarshalV1[T any](data []byte) (v T, err error) {
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
	e, err := unmarshalV1[E](data)
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
	f.optionalTime("useFrom", &e.UseFrom)
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
	f.optionalTime("useFrom", &e.UseFrom)
	f.end()
}

func bookingHandedOver(f *form, e *domain.BookingHandedOver) {
	f.begin()
	text(f, "bookingId", &e.BookingID)
	text(f, "roomId", &e.RoomID)
	text(f, "userId", &e.UserID)
	text(f, "formerUserId", &e.FormerUserID)
	optionalText(f, "formerRoomId", &e.FormerRoomID)
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
	optionalText(f, "detail", &e.Detail)
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
	optionalText(f, "client", &e.Client)
	text(f, "correlationId", &e.CorrelationID)
	optionalText(f, "traceparent", &e.TraceParent)
	optionalText(f, "command", &e.Command)
	optionalText(f, "replaces", &e.Replaces)
	f.optionalRevision("ifRevision", &e.IfRevision)
	optionalText(f, "heldFor", &e.HeldFor)
	optionalText(f, "approval", &e.Approval)
	f.optionalTime("useFrom", &e.UseFrom)
	f.optionalTrue("override", &e.Override)
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
