package storetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// History generates a plausible log: it picks bookings at random and has the domain decide what happens to them next. The same source
// yields the same events, except that the ids of bookings are unique to each History.
type History struct {
	random *rand.Rand
	space  uuid.UUID
	now    time.Time
	lives  []*life
	// Events are all events so far, in log order.
	Events  []eventstore.Recorded
	streams sync.Map // those with events
	notices []*notice
	rooms   []*room
}

// room is a room with events of its own. No booking of a History is in one.
type room struct {
	id       domain.RoomID
	revision domain.Revision
	closures []domain.ClosureID
	faults   domain.RoomFaults
	reported domain.Revision // of the stream of its faults
}

// notice is an event that somebody is told of.
type notice struct {
	event      int // in Events
	revision   domain.Revision
	deliveries domain.Deliveries
}

// life is a booking and its use.
type life struct {
	booking     domain.Booking
	use         domain.RealUse
	revision    domain.Revision // of the booking's last event
	useRevision domain.Revision
	// stillInUseBy is the RoomStillInUseBy of the check-in.
	stillInUseBy domain.BookingID
}

// NewHistory returns an empty History.
func NewHistory(random *rand.Rand) *History {
	return &History{random: random, space: uuid.New(), now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}
}

// Open opens a log that shows only this history, whoever else writes to it. It is closed at the end of the test.
func (h *History) Open(t testing.TB) *eventstoretest.Part {
	t.Helper()
	log := eventstoretest.PartOf(eventstoretest.Open(t), func(r eventstore.Recorded) bool {
		_, own := h.streams.Load(r.Stream)
		return own
	})
	var err error
	if log.After, err = log.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	return log
}

// Step decides one more command and returns the append that it leads to.
func (h *History) Step() (stream string, expected domain.Revision, events []eventstore.Proposed) {
	for {
		h.now = h.now.Add(time.Duration(1+h.random.IntN(90)) * time.Second)
		if len(h.lives) == 0 || h.random.IntN(4) == 0 {
			l := &life{revision: eventstore.NoStream, useRevision: eventstore.NoStream}
			h.lives = append(h.lives, l)
			decided := domain.DecideCreate(l.booking, h.reservation(domain.BookingID(h.id(len(h.lives)).String())))
			return h.record(l, decided)
		}
		if h.random.IntN(6) == 0 {
			return h.recordRoom()
		}
		if len(h.notices) > 0 && h.random.IntN(4) == 0 {
			n := h.notices[h.random.IntN(len(h.notices))]
			if decided := h.deliver(n); len(decided) > 0 {
				return h.recordDelivery(n, decided)
			}
			continue
		}
		l := h.lives[h.random.IntN(len(h.lives))]
		if decided := h.decide(l); len(decided) > 0 {
			return h.record(l, decided)
		}
	}
}

// deliver is what happens next to what is told of an event: to its user, or to an approver once that is asked for.
func (h *History) deliver(n *notice) []domain.Event {
	event := h.Events[n.event]
	told, _ := domain.NoticeOf(event.Event)
	id := domain.NotificationOf(event.ID)
	if h.random.IntN(2) == 0 {
		if id = id.ForApprover(1); len(n.deliveries.Requested) == 0 {
			return []domain.Event{domain.NotificationRequested{NotificationID: id, Kind: told.Kind, BookingID: told.Booking, RoomID: told.Room, UserID: "admin", At: h.now}}
		}
	}
	c := n.deliveries.On(id, []domain.Channel{domain.ChannelMail, domain.ChannelWebhook}[h.random.IntN(2)])
	switch {
	case c.Delivery != domain.DeliveryPending:
		return domain.DecideRetry(n.deliveries, id, h.now)
	case h.random.IntN(2) == 0:
		return []domain.Event{domain.NotificationDelivered{NotificationID: id, BookingID: told.Booking, Channel: c.Channel, Attempt: c.Attempts + 1, At: h.now}}
	case !c.Again.IsZero() && !c.Due:
		return []domain.Event{domain.NotificationDue{NotificationID: id, BookingID: told.Booking, Channel: c.Channel, At: h.now}}
	default:
		failed := domain.NotificationFailed{NotificationID: id, BookingID: told.Booking, Channel: c.Channel, Attempt: c.Attempts + 1, Reason: "full", Parked: h.random.IntN(2) == 0, At: h.now}
		if !failed.Parked {
			failed.Again = h.now.Add(time.Minute)
		}
		return []domain.Event{failed}
	}
}

func (h *History) recordDelivery(n *notice, decided []domain.Event) (stream string, expected domain.Revision, events []eventstore.Proposed) {
	stream, expected = domain.NotificationOf(h.Events[n.event].ID).Stream(), n.revision
	for _, event := range decided {
		n.deliveries = n.deliveries.Evolve(event)
		n.revision++
		events = append(events, h.happened(stream, n.revision, event))
	}
	return stream, expected, events
}

// recordRoom registers a room, or is what happens next to one.
func (h *History) recordRoom() (stream string, expected domain.Revision, events []eventstore.Proposed) {
	if len(h.rooms) < 3 {
		id := domain.RoomID(h.id(-2_000_000 - len(h.rooms)).String())
		h.rooms = append(h.rooms, &room{id: id, revision: 0, reported: eventstore.NoStream})
		return id.Stream(), eventstore.NoStream, []eventstore.Proposed{h.happened(id.Stream(), 0, domain.RoomRegistered{RoomID: id, Details: h.details(), At: h.now})}
	}
	r := h.rooms[h.random.IntN(len(h.rooms))]
	var event domain.Event
	switch h.random.IntN(9) {
	case 0:
		event = domain.RoomChanged{RoomID: r.id, Details: h.details(), At: h.now}
	case 1:
		event = domain.RoomRetired{RoomID: r.id, From: h.now.Add(time.Hour), Bookings: domain.KeepBookings, At: h.now}
	case 2:
		event = domain.RoomReinstated{RoomID: r.id, At: h.now}
	case 3:
		event = domain.RulesSet{RoomID: r.id, Rules: h.rules(), At: h.now}
	case 4:
		id := domain.ClosureID(h.id(-3_000_000 - len(h.Events)).String())
		r.closures = append(r.closures, id)
		start := h.now.AddDate(0, h.random.IntN(30)-20, 0)
		event = domain.PeriodClosed{ClosureID: id, RoomID: r.id, Slot: domain.Slot{Start: start, End: start.Add(time.Hour)}, Reason: []string{"", "works"}[h.random.IntN(2)], Bookings: domain.KeepBookings, At: h.now}
	case 5:
		if len(r.closures) == 0 {
			return h.Step()
		}
		event = domain.PeriodReopened{ClosureID: r.closures[0], RoomID: r.id, At: h.now}
		r.closures = r.closures[1:]
	case 6:
		event = domain.RoomPhotoChanged{RoomID: r.id, Photo: h.photo(), At: h.now}
	case 7:
		id := domain.FaultID(h.id(-4_000_000 - len(h.Events)).String())
		return h.recordFault(r, domain.RoomFaultReported{FaultID: id, RoomID: r.id, Equipment: []string{"", "beamer"}[h.random.IntN(2)], Text: []string{"", "no \"picture\""}[h.random.IntN(2)], By: "user1", At: h.now})
	case 8:
		if len(r.faults.Open) == 0 {
			return h.Step()
		}
		return h.recordFault(r, domain.RoomFaultSettled{FaultID: r.faults.Open[h.random.IntN(len(r.faults.Open))].ID, RoomID: r.id, By: "admin", At: h.now})
	}
	expected = r.revision
	r.revision++
	return r.id.Stream(), expected, []eventstore.Proposed{h.happened(r.id.Stream(), r.revision, event)}
}

func (h *History) recordFault(r *room, event domain.Event) (stream string, expected domain.Revision, events []eventstore.Proposed) {
	expected = r.reported
	r.reported++
	r.faults = r.faults.Evolve(event)
	return r.id.FaultsStream(), expected, []eventstore.Proposed{h.happened(r.id.FaultsStream(), r.reported, event)}
}

func (h *History) details() domain.Details {
	return []domain.Details{
		{Name: "Blue"},
		{Name: "Forêt \x1f\x1b", Building: "West", Floor: "3", Capacity: 12, Equipment: []string{"beamer", "Tafel, weiß"}, Zone: "Europe/Berlin", Colour: "#12ab34", Note: "two\nlines", Approvers: []domain.UserID{"kim", "lee"}},
	}[h.random.IntN(2)]
}

func (h *History) photo() domain.Photo {
	return []domain.Photo{
		{},
		{Hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Alt: "Zwei Fenster, \x1f eine Tür", Width: 1280, Height: 960},
	}[h.random.IntN(2)]
}

func (h *History) rules() domain.Rules {
	return []domain.Rules{
		{},
		{Hours: &domain.WeekHours{}, EarlyUseMinutes: new(0)}, // is closed all week
		{Hours: &domain.WeekHours{Monday: []domain.Hours{{From: "08:00", To: "12:00"}, {From: "13:00", To: "24:00"}}}, StepMinutes: 15, GapMinutes: 10, Approval: domain.ApprovalNone},
	}[h.random.IntN(3)]
}

// happened records an event.
func (h *History) happened(stream string, revision domain.Revision, event domain.Event) eventstore.Proposed {
	h.streams.Store(stream, nil)
	p := eventstore.Proposed{
		Event:    event,
		Metadata: eventstore.Metadata{Actor: "test", OccurredAt: h.now},
	}
	if _, told := domain.NoticeOf(event); told {
		h.notices = append(h.notices, &notice{event: len(h.Events), revision: eventstore.NoStream})
	}
	h.Events = append(h.Events, eventstore.Recorded{
		ID: h.id(-1_000_000 - len(h.Events)), Stream: stream, Revision: revision, Type: event.EventType(), Event: event, Metadata: p.Metadata,
		Position: eventstore.Position(10 * (len(h.Events) + 1)),
	})
	return p
}

func (h *History) id(n int) uuid.UUID {
	return uuid.NewSHA1(h.space, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func (h *History) reservation(id domain.BookingID) domain.SlotReserved {
	start := h.now.Add(time.Duration(h.random.IntN(1000)) * 30 * time.Minute)
	return domain.SlotReserved{
		ReservationID: domain.ReservationID(h.id(-1 - len(h.Events)).String()),
		BookingID:     id,
		RoomID:        domain.RoomID(fmt.Sprint(h.random.IntN(4))),
		UserID:        domain.UserID(fmt.Sprint("user", h.random.IntN(4), []string{"", `"`, "é", "\\"}[h.random.IntN(4)])),
		Slot:          domain.Slot{Start: start, End: start.Add(time.Duration(1+h.random.IntN(6)) * 30 * time.Minute)},
		At:            h.now,
	}
}

// decide decides a random command on a booking; it returns no events if the domain refuses it.
func (h *History) decide(l *life) []domain.Event {
	b := l.booking
	var decided []domain.Event
	switch h.random.IntN(7) {
	case 0:
		user := domain.UserID(fmt.Sprint("other", h.random.IntN(4)))
		decided, _, _ = domain.DecideChange(b, domain.Change{User: &user, At: h.now})
	case 1:
		r := h.reservation(b.ID)
		r.Replaces = b.Reservation
		decided = domain.DecideMove(b, l.revision, r)
	case 2:
		decided, _ = domain.DecideConfirm(b, domain.AnswerConfirm{Answer: domain.Confirmed, By: "admin", AnsweredAt: h.now, At: h.now})
	case 3:
		decided, _ = domain.DecideConfirm(b, domain.AnswerConfirm{Answer: domain.Denied, By: "admin", Reason: "no", AnsweredAt: h.now, At: h.now})
	case 4:
		decided, _ = domain.DecideCancel(b, domain.Cancel{Reason: domain.CancelledByUser, At: h.now})
	case 5:
		if b.Phase() == domain.PhaseInUse && l.use.Phase() == domain.UsePhaseNone {
			return domain.DecideStart(l.use, domain.BookingCheckedIn{BookingID: b.ID, RealUseID: b.Use.RealUse, RoomID: b.Room, UserID: b.User, StartedAt: b.Use.StartedAt, RoomStillInUseBy: l.stillInUseBy})
		}
		l.stillInUseBy = []domain.BookingID{"", b.ID}[h.random.IntN(2)]
		decided, _ = domain.DecideCheckIn(b, domain.CheckIn{StartedAt: h.now, RoomStillInUseBy: l.stillInUseBy}, domain.DefaultPolicy())
	case 6:
		if l.use.Phase() == domain.UsePhaseEnded {
			return domain.DecideUseOver(b, l.use)
		}
		decided, _ = domain.DecideEnd(l.use, domain.EndUse{EndedAt: h.now, At: h.now})
	}
	return decided
}

func (h *History) record(l *life, decided []domain.Event) (stream string, expected domain.Revision, events []eventstore.Proposed) {
	for i, event := range decided {
		l.booking, l.use = l.booking.Evolve(event), l.use.Evolve(event)
		revision := &l.revision
		stream = l.booking.ID.Stream()
		switch event.(type) {
		case domain.UseStarted, domain.UseEnded:
			revision = &l.useRevision
			stream = l.use.ID.Stream()
		}
		if i == 0 {
			expected = *revision
		}
		*revision++
		events = append(events, h.happened(stream, *revision, event))
	}
	return stream, expected, events
}
