package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"roombook/domain"
	"roombook/eventstore"
)

// handle sends the notifications of an event. lasting is the context of deliveries in progress; it ends a little later than ctx.
func (d *Dispatcher) handle(ctx, lasting context.Context, r *route, e eventstore.Delivery) eventstore.Settlement {
	if !tells(e.Event) {
		return eventstore.Ack()
	}
	defer d.metrics.take(r.group, e.Recorded)()
	ctx, span := eventstore.StartEventSpan(ctx, d.tracer, "notify "+r.group, e.Recorded)
	err := d.tell(ctx, span.In(lasting), r, e)
	span.End(err)
	switch {
	case err == nil:
		return eventstore.Ack()
	case ctx.Err() != nil:
		return eventstore.Retry("the process that had it has ended")
	default:
		d.log.Error("nobody can be told of an event, which is parked", "group", r.group, "event", e.ID, "type", e.Type, "stream", e.Stream,
			"correlation", e.Metadata.CorrelationID, "error", err)
		return eventstore.Park(err.Error())
	}
}

// tells reports whether an event may have notifications.
func tells(event domain.Event) bool {
	switch event.(type) {
	case domain.ConfirmRequested, domain.NotificationRetried:
		return true
	}
	_, told := domain.NoticeOf(event)
	return told
}

// bookingOf is the booking that an event is about.
func bookingOf(event domain.Event) domain.BookingID {
	switch e := event.(type) {
	case domain.ConfirmRequested:
		return e.BookingID
	case domain.NotificationRetried:
		return e.BookingID
	}
	notice, _ := domain.NoticeOf(event)
	return notice.Booking
}

func (d *Dispatcher) tell(ctx, lasting context.Context, r *route, e eventstore.Delivery) error {
	messages, cause, err := d.messages(ctx, e.Recorded)
	if err != nil {
		return err
	}
	var all errgroup.Group
	for _, m := range messages {
		m.first = e.Fresh && m.ID == domain.NotificationOf(e.ID)
		all.Go(func() error { return d.deliver(ctx, lasting, r, m, cause) })
	}
	return all.Wait()
}

// messages returns the messages to send because of an event, and the event that they are about, which for a retry is an earlier one.
func (d *Dispatcher) messages(ctx context.Context, e eventstore.Recorded) (messages []Message, cause eventstore.Recorded, err error) {
	var only domain.NotificationID
	cause = e
	if retried, ok := e.Event.(domain.NotificationRetried); ok {
		only = retried.NotificationID
		if cause, err = d.find(ctx, retried.BookingID, only.Event()); err != nil {
			return nil, cause, err
		}
	}
	asked, isAsked := cause.Event.(domain.ConfirmRequested)
	if isAsked && only == "" && len(d.who.approvers(asked.RoomID)) == 0 {
		return nil, cause, nil // the usual case, which needs no read
	}
	before, after, err := d.booking(ctx, bookingOf(cause.Event), cause)
	if err != nil {
		return nil, cause, err
	}
	if notice, told := domain.NoticeOf(cause.Event); told {
		return []Message{Compose(notice, cause, before, after)}, cause, nil
	}
	if !isAsked {
		return nil, cause, fmt.Errorf("event %s tells nobody anything", cause.ID)
	}
	requested, err := d.requested(ctx, cause, asked)
	for _, q := range requested {
		if only == "" || only == q.NotificationID {
			m := ask(cause, asked, after)
			m.ID, m.To = q.NotificationID, q.UserID
			messages = append(messages, m)
		}
	}
	return messages, cause, err
}

// find returns the event with an id from the stream of a booking or of its real use.
func (d *Dispatcher) find(ctx context.Context, booking domain.BookingID, id string) (eventstore.Recorded, error) {
	for _, stream := range []string{booking.Stream(), domain.RealUseOf(booking).Stream()} {
		events, err := d.read(ctx, stream)
		if err != nil {
			return eventstore.Recorded{}, err
		}
		if i := slices.IndexFunc(events, func(r eventstore.Recorded) bool { return r.ID.String() == id }); i >= 0 {
			return events[i], nil
		}
	}
	return eventstore.Recorded{}, fmt.Errorf("booking %s has no event %s", booking, id)
}

// booking returns a booking before and after an event.
func (d *Dispatcher) booking(ctx context.Context, id domain.BookingID, e eventstore.Recorded) (before, after domain.Booking, err error) {
	if e.Stream == id.Stream() && e.Revision == 0 {
		return before, before.Evolve(e.Event), nil
	}
	events, err := d.read(ctx, id.Stream())
	for _, r := range events {
		switch {
		case r.Stream == e.Stream && r.Revision == e.Revision:
			return after, after.Evolve(r.Event), err
		case r.Stream != e.Stream && r.Position > e.Position:
			return after, after, err
		}
		after = after.Evolve(r.Event)
	}
	return after, after, err
}

// requested returns the notifications to approvers. The approvers are determined once, and recorded before any message is sent.
func (d *Dispatcher) requested(ctx context.Context, cause eventstore.Recorded, asked domain.ConfirmRequested) ([]domain.NotificationRequested, error) {
	id := domain.NotificationOf(cause.ID)
	for {
		s, err := d.deliveries(ctx, id)
		if err != nil || len(s.Requested) > 0 {
			return s.Requested, err
		}
		var events []domain.Event
		for i, user := range d.who.approvers(asked.RoomID) {
			events = append(events, domain.NotificationRequested{
				NotificationID: id.ForApprover(i + 1), Kind: domain.KindConfirmRequested, BookingID: asked.BookingID, RoomID: asked.RoomID, UserID: user, At: asked.At,
			})
		}
		if len(events) == 0 {
			return nil, nil
		}
		if _, err := d.append(ctx, s, cause, cause.Metadata.OccurredAt, events...); err != nil {
			return nil, err
		}
	}
}

// deliver delivers a message through the route's channel, or through the fallback if that fails.
func (d *Dispatcher) deliver(ctx, lasting context.Context, r *route, m Message, cause eventstore.Recorded) error {
	if r.people && slices.Contains(d.who.person(m.To).OptOut, m.Kind) {
		s, err := d.deliveries(ctx, m.ID)
		if err != nil || s.On(m.ID, domain.ChannelList).Delivery == domain.DeliveryDelivered || s.On(m.ID, r.lane.name()).Delivery == domain.DeliveryDelivered {
			return err
		}
		return d.record(lasting, s, m, cause, domain.NotificationDelivered{NotificationID: m.ID, BookingID: m.Booking, Channel: domain.ChannelList, At: time.Now().UTC()})
	}
	delivered, err := d.try(ctx, lasting, r.lane, m, cause)
	if err == nil && !delivered && r.fallback != nil {
		m.first = false
		_, err = d.try(ctx, lasting, r.fallback, m, cause)
	}
	return err
}

// try attempts delivery through a channel until it succeeds or the message is parked.
func (d *Dispatcher) try(ctx, lasting context.Context, l *lane, m Message, cause eventstore.Recorded) (delivered bool, err error) {
	for {
		pause, done, err := d.attempt(ctx, lasting, l, m, cause)
		if err != nil || done != domain.DeliveryPending {
			return done == domain.DeliveryDelivered, err
		}
		m.first = false
		if err := eventstore.Sleep(ctx, jittered(pause)); err != nil {
			return false, err
		}
	}
}

// attempt attempts delivery once, as soon as the breaker permits, unless the message has been delivered or parked already. If done is
// pending, the next attempt is due after the pause.
func (d *Dispatcher) attempt(ctx, lasting context.Context, l *lane, m Message, cause eventstore.Recorded) (pause time.Duration, done domain.Delivery, err error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return 0, "", ctx.Err()
	}
	if err := l.breaker.wait(ctx); err != nil {
		return 0, "", err
	}
	s := deliveries{stream: m.ID.Stream(), revision: eventstore.NoStream}
	if !m.first || l.name() != domain.ChannelLog { // a process that was frozen may log a line a second time, but must not send a mail
		if s, err = d.deliveries(ctx, m.ID); err != nil {
			return 0, "", err
		}
	}
	before := s.On(m.ID, l.name())
	if before.Delivery != domain.DeliveryPending {
		return 0, before.Delivery, nil
	}
	probe, ok := l.breaker.try()
	if !ok {
		return 0, domain.DeliveryPending, nil
	}
	began := time.Now()
	failed := l.send(lasting, m)
	f := failureOf(failed)
	if failed != nil && f.down {
		l.breaker.record(f)
	} else {
		l.breaker.record(nil)
	}
	n := before.Attempts + 1
	log := d.log.With("notification", m.ID, "kind", m.Kind, "to", m.To, "channel", l.name(), "attempt", n, "correlation", m.CorrelationID)
	switch {
	case failed == nil:
		log.Debug("notification sent", "took", time.Since(began))
		d.metrics.sent(l.name(), time.Since(cause.Metadata.OccurredAt))
		err := d.record(lasting, s, m, cause, domain.NotificationDelivered{NotificationID: m.ID, BookingID: m.Booking, Channel: l.name(), Attempt: n, At: time.Now().UTC()})
		return 0, domain.DeliveryDelivered, err
	case lasting.Err() != nil:
		return 0, "", lasting.Err()
	case f.down && probe:
		return 0, domain.DeliveryPending, nil // the breaker is open again
	}
	pause, more := l.pause(n - before.Allowance)
	parked := f.permanent || !more
	d.metrics.failed(l.name(), parked)
	if parked {
		log.Warn("notification given up", "error", failed)
	} else {
		log.Info("notification not sent yet", "error", failed, "again", pause)
	}
	err = d.record(lasting, s, m, cause, domain.NotificationFailed{
		NotificationID: m.ID, BookingID: m.Booking, Channel: l.name(), Attempt: n, Reason: reason(failed), Parked: parked, At: time.Now().UTC(),
	})
	if parked {
		return 0, domain.DeliveryFailed, err
	}
	return max(pause, f.after), domain.DeliveryPending, err
}

// maxReason is the maximum length of a recorded reason, in bytes.
const maxReason = 500

func reason(err error) string {
	text := clean(err.Error())
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// deliveries is the state of a notification stream with its revision.
type deliveries struct {
	domain.Deliveries
	stream   string
	revision domain.Revision
}

func (d *Dispatcher) deliveries(ctx context.Context, id domain.NotificationID) (deliveries, error) {
	s := deliveries{stream: id.Stream(), revision: eventstore.NoStream}
	events, err := d.read(ctx, s.stream)
	for _, r := range events {
		s.Deliveries, s.revision = s.Evolve(r.Event), r.Revision
	}
	return s, err
}

// read reads a stream. It retries while the event store is unavailable.
func (d *Dispatcher) read(ctx context.Context, stream string) (events []eventstore.Recorded, err error) {
	err = d.persist(ctx, func() error {
		events = events[:0]
		for r, err := range d.store.ReadStream(ctx, stream, 0) {
			if err != nil {
				return err
			}
			events = append(events, r)
		}
		return nil
	})
	return events, err
}

// persist calls do until it succeeds or fails for another reason than that the event store is unavailable.
func (d *Dispatcher) persist(ctx context.Context, do func() error) error {
	for pauses := newBackOff(); ; {
		err := do()
		if !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) || ctx.Err() != nil {
			return err
		}
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// record appends the outcome of an attempt, unless the stream has it already.
func (d *Dispatcher) record(ctx context.Context, s deliveries, m Message, cause eventstore.Recorded, outcome domain.Event) error {
	channel, attempt := domain.ChannelList, int64(0)
	switch e := outcome.(type) {
	case domain.NotificationDelivered:
		channel, attempt = e.Channel, e.Attempt
	case domain.NotificationFailed:
		channel, attempt = e.Channel, e.Attempt
	}
	for {
		if lost, err := d.append(ctx, s, cause, time.Now().UTC(), outcome); !lost {
			return err
		}
		var err error
		if s, err = d.deliveries(ctx, m.ID); err != nil {
			return err
		}
		if c := s.On(m.ID, channel); c.Booking != "" && c.Attempts >= attempt {
			return nil
		}
	}
}

// append appends events at the revision of s. lost reports that the stream is at another revision and nothing was appended.
func (d *Dispatcher) append(ctx context.Context, s deliveries, cause eventstore.Recorded, at time.Time, events ...domain.Event) (lost bool, err error) {
	proposed := make([]eventstore.Proposed, len(events))
	for i, e := range events {
		proposed[i] = eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{
			CorrelationID: cause.Metadata.CorrelationID, CausationID: cause.ID.String(), Actor: "roombook", OccurredAt: at, TraceParent: cause.Metadata.TraceParent,
		}}
	}
	err = d.persist(ctx, func() error {
		_, err := d.store.Append(ctx, s.stream, s.revision, proposed...)
		return err
	})
	if _, lost := errors.AsType[*eventstore.WrongRevision](err); lost {
		return true, nil
	}
	return false, err
}
