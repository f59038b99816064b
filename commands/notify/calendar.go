package notify

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-ical"

	"roombook/domain"
)

// Meeting is a calendar entry for a booking.
type Meeting struct {
	Booking   domain.BookingID
	Room      domain.RoomID
	User      domain.UserID
	Slot      domain.Slot
	Sequence  int       // number of changes
	Stamp     time.Time // time of the last change
	Status    MeetingStatus
	Summary   string
	Organizer string // mail address, empty for none
	Attendee  string // likewise
	URL       string // may be empty
}

// MeetingStatus is the STATUS of a calendar entry.
type MeetingStatus = ical.EventStatus

const (
	Tentative MeetingStatus = ical.EventTentative // not confirmed yet
	Confirmed MeetingStatus = ical.EventConfirmed
	Cancelled MeetingStatus = ical.EventCancelled
)

// iTIP methods (RFC 5546).
const (
	methodRequest = "REQUEST"
	methodCancel  = "CANCEL"
)

// propCalendarName is what calendar programs called NAME (RFC 7986) before that was standardized. Many know nothing else.
const propCalendarName = "X-WR-CALNAME"

// productID is the PRODID of calendars.
const productID = "-//Roombook//Roombook//EN"

// meeting returns the calendar entry of a message and the iTIP method. The method is empty if the recipient's calendar need not change.
func (m Message) meeting(organizer, attendee, summary string) (meeting Meeting, method string) {
	meeting = Meeting{
		Booking: m.Booking, Room: m.Room, User: m.To, Slot: m.Slot, Sequence: m.Sequence, Stamp: m.At, Status: Tentative,
		Summary: summary, Organizer: organizer, Attendee: attendee,
	}
	switch m.Kind {
	case domain.KindBooked, domain.KindChanged, domain.KindConfirmed:
		method = methodRequest
		if m.Confirmed {
			meeting.Status = Confirmed
		}
	case domain.KindCancelled, domain.KindDenied, domain.KindHandedOver:
		method, meeting.Status = methodCancel, Cancelled
	}
	return meeting, method
}

// WriteCalendar writes meetings as an iCalendar object (RFC 5545). A feed has no method.
func WriteCalendar(w io.Writer, method, name string, meetings ...Meeting) error {
	c := ical.NewCalendar()
	c.Props.SetText(ical.PropVersion, "2.0")
	c.Props.SetText(ical.PropProductID, productID)
	if method != "" {
		c.Props.SetText(ical.PropMethod, method)
	}
	if name != "" {
		c.Props.SetText(ical.PropName, clean(name))
		former := ical.NewProp(propCalendarName)
		former.Value = c.Props.Get(ical.PropName).Value
		c.Props.Set(former)
	}
	for _, m := range meetings {
		c.Children = append(c.Children, m.event().Component)
	}
	out := &folder{w: w}
	if len(meetings) == 0 { // which the encoder refuses
		name := c.Props.Get(ical.PropName).Value
		fmt.Fprintf(out, "BEGIN:VCALENDAR\r\nNAME:%s\r\nPRODID:%s\r\nVERSION:2.0\r\nX-WR-CALNAME:%[1]s\r\nEND:VCALENDAR\r\n", name, productID)
		return out.err
	}
	if err := ical.NewEncoder(out).Encode(c); err != nil {
		return err
	}
	return out.err
}

func (m Meeting) event() *ical.Event {
	e := ical.NewEvent()
	e.Props.SetText(ical.PropUID, clean(string(m.Booking))+"@roombook")
	e.Props.SetDateTime(ical.PropDateTimeStamp, m.Stamp.UTC())
	e.Props.SetDateTime(ical.PropLastModified, m.Stamp.UTC())
	e.Props.SetDateTime(ical.PropDateTimeStart, m.Slot.Start.UTC())
	e.Props.SetDateTime(ical.PropDateTimeEnd, m.Slot.End.UTC())
	sequence := ical.NewProp(ical.PropSequence)
	sequence.Value = strconv.Itoa(m.Sequence)
	e.Props.Set(sequence)
	e.SetStatus(m.Status)
	e.Props.SetText(ical.PropSummary, clean(m.Summary))
	e.Props.SetText(ical.PropLocation, clean(string(m.Room)))
	if m.URL != "" {
		url := ical.NewProp(ical.PropURL)
		url.Value = m.URL
		e.Props.Set(url)
	}
	if m.Organizer != "" {
		organizer := ical.NewProp(ical.PropOrganizer)
		organizer.Value = "mailto:" + m.Organizer
		e.Props.Set(organizer)
	}
	if m.Attendee != "" {
		attendee := ical.NewProp(ical.PropAttendee)
		attendee.Params.Set(ical.ParamParticipationStatus, "ACCEPTED")
		attendee.Params.Set(ical.ParamRole, "REQ-PARTICIPANT")
		attendee.Params.Set(ical.ParamRSVP, "FALSE")
		attendee.Value = "mailto:" + m.Attendee
		e.Props.Add(attendee)
	}
	return e
}

// clean replaces control characters and line separators by spaces, so that text cannot break out of a header or a content line.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
}

// foldAt is the maximum length of a content line in bytes, without its end.
const foldAt = 75

// folder folds long content lines at character boundaries. Every Write must consist of whole lines.
type folder struct {
	w   io.Writer
	err error
}

// Write implements [io.Writer].
func (f *folder) Write(line []byte) (int, error) {
	var out bytes.Buffer
	for text := range bytes.Lines(line) {
		room := foldAt
		for len(bytes.TrimRight(text, "\r\n")) > room {
			cut := room
			for !utf8.RuneStart(text[cut]) {
				cut--
			}
			out.Write(text[:cut])
			out.WriteString("\r\n ")
			text = text[cut:]
			room = foldAt - 1 // the space counts
		}
		out.Write(text)
	}
	if f.err == nil {
		_, f.err = f.w.Write(out.Bytes())
	}
	return len(line), f.err
}
