package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

// handle sends the notifications of an event. lasting is the context of deliveries in progress; it ends a little later than ctx.
func (d *Dispatcher) handle(ctx, lasting context.Context, r *route, e eventstore.Delivery) eventstore.Settlement {
	if !r.notifies(e.Recorded) {
		return eventstore.Ack()
	}
	defer d.metrics.take(r.group.Name, e.Recorded)()
	ctx, span := eventstore.StartEventSpan(ctx, d.tracer, "notify "+r.group.Name, e.Recorded)
	err := d.notify(ctx, span.In(lasting), r, e)
	span.End(err)
	switch {
	case err == nil:
		return eventstore.Ack()
	case ctx.Err() != nil:
		return eventstore.Retry("the consumer that had it has ended")
	case errors.Is(err, errOtherHands):
		return eventstore.Retry(errOtherHands.Error())
	default:
		d.log.Error("the notifications of an event cannot be made, and it is parked", "group", r.group.Name, "event", e.ID, "type", e.Type, "stream", e.Stream,
			"correlation", e.Metadata.CorrelationID, "error", err)
		return eventstore.Park(err.Error())
	}
}

// errOtherHands means that the group may have handed the event to another process while it waited here.
var errOtherHands = errors.New("another process may have it")

// notifies reports whether an event may have notifications to deliver.
func (r *route) notifies(event eventstore.Recorded) bool {
	switch e := event.Event.(type) {
	case nil:
		return readable(event) != nil
	case domain.NotificationRetried:
		return true
	case domain.NotificationRequested:
		return e.Queued
	case domain.NotificationDue:
		return r.lane.name() == e.Channel || r.fallback != nil && r.fallback.name() == e.Channel || r.people && e.Channel != domain.ChannelWebhook
	}
	_, has := domain.NoticeOf(event.Event)
	_, asks := domain.RequestOf(event.Event)
	return has || asks
}

// readable returns an error for an event that this program cannot decode and must not skip. Events of unknown types may be skipped.
func readable(r eventstore.Recorded) error {
	if r.Event == nil && eventstore.Known(r.Type) {
		return fmt.Errorf("event %d of stream %s, %s, cannot be decoded by this version of the program", r.Revision, r.Stream, r.Type)
	}
	return nil
}

// bookingOf is the booking that an event is about; empty if it is about a fault of a room.
func bookingOf(event domain.Event) domain.BookingID {
	switch e := event.(type) {
	case domain.NotificationRequested:
		return e.BookingID
	case domain.NotificationDue:
		return e.BookingID
	case domain.NotificationRetried:
		return e.BookingID
	}
	if request, is := domain.RequestOf(event); is {
		return request.Booking
	}
	notice, _ := domain.NoticeOf(event)
	return notice.Booking
}

func (d *Dispatcher) notify(ctx, lasting context.Context, r *route, e eventstore.Delivery) error {
	if err := readable(e.Recorded); err != nil {
		return err
	}
	messages, cause, err := d.messages(ctx, e.Recorded)
	if err != nil {
		return err
	}
	due, _ := e.Event.(domain.NotificationDue)
	var all errgroup.Group
	for _, m := range messages {
		m.first, m.due, m.delivery = e.Fresh && m.ID == domain.NotificationOf(e.ID), due.Channel, &e
		all.Go(func() error { return d.deliver(ctx, lasting, r, m, cause) })
	}
	return all.Wait()
}

// messages returns the messages to send because of an event, and the event that they are about, which for an event of a notification stream
// is an earlier one.
func (d *Dispatcher) messages(ctx context.Context, e eventstore.Recorded) (messages []Message, cause eventstore.Recorded, err error) {
	var only domain.NotificationID
	cause = e
	switch about := e.Event.(type) {
	case domain.NotificationRequested:
		only = about.NotificationID
	case domain.NotificationDue:
		only = about.NotificationID
	case domain.NotificationRetried:
		only = about.NotificationID
	}
	if only != "" {
		if cause, err = d.find(ctx, bookingOf(e.Event), only); err != nil {
			return nil, cause, err
		}
	}
	request, isRequest := domain.RequestOf(cause.Event)
	var requested []domain.NotificationRequested
	if isRequest {
		if only == "" {
			users, err := d.asked(ctx, request)
			if err != nil || len(users) == 0 {
				return nil, cause, err // the usual case, which needs no read
			}
		}
		if requested, err = d.requested(ctx, cause, request); err != nil {
			return nil, cause, err
		}
		requested = slices.DeleteFunc(requested, func(q domain.NotificationRequested) bool {
			return q.NotificationID != only && (only != "" || q.Queued)
		})
		if len(requested) == 0 {
			return nil, cause, nil
		}
	}
	var before, after domain.Booking
	if booking := bookingOf(cause.Event); booking != "" {
		if before, after, err = d.booking(ctx, booking, cause); err != nil {
			return nil, cause, err
		}
	}
	if notice, has := domain.NoticeOf(cause.Event); has {
		return []Message{Compose(notice, cause, before, after)}, cause, nil
	}
	if !isRequest {
		return nil, cause, fmt.Errorf("event %s has no notification", cause.ID)
	}
	for _, q := range requested {
		m := Compose(request, cause, after, after)
		m.ID, m.To = q.NotificationID, q.UserID
		messages = append(messages, m)
	}
	return messages, cause, nil
}

// find returns the event that a notification is about from the stream of a booking or of its real use, or from that of a room's faults.
func (d *Dispatcher) find(ctx context.Context, booking domain.BookingID, id domain.NotificationID) (eventstore.Recorded, error) {
	streams := []string{booking.Stream(), domain.RealUseOf(booking).Stream()}
	if booking == "" {
		s, err := d.deliveries(ctx, id)
		if err != nil {
			return eventstore.Recorded{}, err
		}
		streams = nil
		for _, q := range s.Requested {
			streams = append(streams, q.RoomID.FaultsStream())
		}
		streams = slices.Compact(streams)
	}
	for _, stream := range streams {
		events, err := d.read(ctx, stream)
		if err != nil {
			return eventstore.Recorded{}, err
		}
		if i := slices.IndexFunc(events, func(r eventstore.Recorded) bool { return r.ID.String() == id.Event() }); i >= 0 {
			return events[i], nil
		}
	}
	if booking == "" {
		return eventstore.Recorded{}, fmt.Errorf("no fault of a room has event %s", id.Event())
	}
	return eventstore.Recorded{}, fmt.Errorf("booking %s has no event %s", booking, id.Event())
}

// booking returns a booking before and after an event. Before it is handed over is before the change in the same append. It is an error if one
// of these events cannot be decoded, unless the booking has been cancelled, which is also how an operator ends such a booking.
func (d *Dispatcher) booking(ctx context.Context, id domain.BookingID, e eventstore.Recorded) (before, after domain.Booking, err error) {
	if e.Stream == id.Stream() && e.Revision == 0 {
		return before, before.Evolve(e.Event), nil
	}
	_, handedOver := e.Event.(domain.BookingHandedOver)
	events, err := d.read(ctx, id.Stream())
	if err != nil {
		return before, after, err
	}
	var unchanged domain.Booking // before the last change
	for _, r := range events {
		if r.Stream != e.Stream && r.Position > e.Position {
			break
		}
		if _, over := r.Event.(domain.BookingCancelled); over {
			err = nil
		} else if err == nil {
			err = readable(r)
		}
		if _, changed := r.Event.(domain.BookingChanged); changed {
			unchanged = after
		}
		switch {
		case r.Stream == e.Stream && r.Revision == e.Revision && handedOver:
			return unchanged, after.Evolve(r.Event), err
		case r.Stream == e.Stream && r.Revision == e.Revision:
			return after, after.Evolve(r.Event), err
		}
		after = after.Evolve(r.Event)
	}
	return after, after, err
}

// requested returns the notifications to those who are asked. Who they are is determined once, and recorded; those events have them delivered, in
// the order of each user's.
func (d *Dispatcher) requested(ctx context.Context, cause eventstore.Recorded, request domain.Notice) ([]domain.NotificationRequested, error) {
	id := domain.NotificationOf(cause.ID)
	for {
		s, err := d.deliveries(ctx, id)
		if err != nil || len(s.Requested) > 0 {
			return s.Requested, err
		}
		users, err := d.asked(ctx, request)
		if err != nil {
			return nil, err
		}
		var events []domain.Event
		for i, user := range users {
			events = append(events, domain.NotificationRequested{
				NotificationID: id.ForApprover(i + 1), Kind: request.Kind, BookingID: request.Booking, RoomID: request.Room, UserID: user, Reason: request.Reason, Queued: true, At: cause.Metadata.OccurredAt,
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
	if r.people {
		p, err := d.person(ctx, m.To)
		if err != nil {
			return err
		}
		if !p.wants(m.Kind) {
			s, err := d.deliveries(ctx, m.ID)
			if err != nil || s.On(m.ID, r.lane.name()).Delivery == domain.DeliveryDelivered {
				return err
			}
			return d.leaveInList(lasting, s, m, cause)
		}
	}
	delivery, err := d.try(ctx, lasting, r.lane, m, cause)
	if err == nil && delivery == domain.DeliveryFailed && r.fallback != nil {
		m.first = false
		_, err = d.try(ctx, lasting, r.fallback, m, cause)
	}
	return err
}

// leaveInList records that the message is delivered by the list of notifications only.
func (d *Dispatcher) leaveInList(ctx context.Context, s deliveries, m Message, cause eventstore.Recorded) error {
	if s.On(m.ID, domain.ChannelList).Delivery == domain.DeliveryDelivered {
		return nil
	}
	return d.record(ctx, s, m, cause, domain.NotificationDelivered{NotificationID: m.ID, BookingID: m.Booking, Channel: domain.ChannelList, At: time.Now().UTC()})
}

// person looks a user up, and retries while the directory is unavailable.
func (d *Dispatcher) person(ctx context.Context, user domain.UserID) (p person, err error) {
	err = d.untilKnown(ctx, func() error {
		p, err = d.who.find(ctx, user)
		return err
	})
	return p, err
}

// asked returns the users who are asked to act on a request, and retries while it cannot be known who they are.
func (d *Dispatcher) asked(ctx context.Context, request domain.Notice) (users []domain.UserID, err error) {
	err = d.untilKnown(ctx, func() error {
		users, err = d.who.findAsked(ctx, request)
		return err
	})
	return users, err
}

// untilKnown calls ask until it succeeds. The error is the context's, a [*commands.Unreadable] or [eventstore.ErrDeleted]: asking again does not
// mend these two.
func (d *Dispatcher) untilKnown(ctx context.Context, ask func() error) error {
	for pauses := newBackOff(); ; {
		err := ask()
		if err == nil {
			d.who.away.Over()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, unreadable := errors.AsType[*commands.Unreadable](err); unreadable || errors.Is(err, eventstore.ErrDeleted) {
			return err
		}
		d.who.away.Failed(err)
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

// try attempts delivery through a channel once, unless that has been done or the next attempt is not due. It returns the state of the delivery,
// which is pending if another attempt follows. While the destination is down the message waits in its place among those to the same
// recipient, and nothing counts as an attempt.
func (d *Dispatcher) try(ctx, lasting context.Context, l *lane, m Message, cause eventstore.Recorded) (domain.Delivery, error) {
	var alone outliers
	for {
		delivery, err := d.attempt(ctx, lasting, l, m, cause, &alone)
		if err != nil || delivery != "" {
			return delivery, err
		}
		m.first = false
		if err := eventstore.Sleep(ctx, jittered(l.breaker.delay/10)); err != nil { // if the destination is down, its breaker opens meanwhile
			return "", err
		}
	}
}

// outliers counts the attempts of a message at which the destination appeared to be down, although it was not for others.
type outliers struct {
	n      int
	failed time.Time // when the destination last appeared to be down
}

// maxOutliers is the number of them after which the message is taken to be the reason.
const maxOutliers = 2

// are adds an attempt that failed as if the destination were down, and reports whether the message is the reason.
func (o *outliers) are(b *breaker, probe bool) bool {
	if !probe && o.any() && b.workedSince(o.failed) {
		o.n++
	}
	o.failed = time.Now()
	return o.n >= maxOutliers && !probe
}

func (o *outliers) any() bool { return !o.failed.IsZero() }

// attempt is one round of try. It returns no state if the message has to wait because the destination is down.
func (d *Dispatcher) attempt(ctx, lasting context.Context, l *lane, m Message, cause eventstore.Recorded, alone *outliers) (domain.Delivery, error) {
	if !l.later {
		if err := l.breaker.wait(ctx, alone.any()); err != nil {
			return "", err
		}
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if !l.later && !l.breaker.ready() {
		return "", nil
	}
	s := deliveries{stream: m.ID.Stream(), revision: eventstore.NoStream}
	if !m.first || l.name() != domain.ChannelLog { // a process that was frozen may log a line a second time, but must not send a mail
		var err error
		if s, err = d.deliveries(ctx, m.ID); err != nil {
			return "", err
		}
	}
	before := s.On(m.ID, l.name())
	due := before.Again.IsZero()
	if m.due == l.name() {
		due = before.Due
	}
	if before.Delivery != domain.DeliveryPending || !due {
		return before.Delivery, nil
	}
	if m.delivery != nil && !m.delivery.InHand() {
		return "", errOtherHands
	}
	age := time.Since(cause.Metadata.OccurredAt)
	probe, ok := l.breaker.try()
	if !ok {
		if !l.later {
			return "", nil
		}
		return d.fail(lasting, l, s, m, cause, domain.NotificationFailed{Held: true, Attempt: before.Attempts, Reason: reason(cmp.Or(l.breaker.lastReason(), errHeld))}, l.breaker.hold(age))
	}
	began := time.Now()
	failed := l.send(lasting, m)
	f := failureOf(failed)
	n := before.Attempts + 1
	log := d.log.With("notification", m.ID, "kind", m.Kind, "to", m.To, "channel", l.name(), "attempt", n, "correlation", m.CorrelationID)
	if failed == nil {
		l.breaker.record(began, nil)
		log.Debug("notification sent", "took", time.Since(began))
		d.metrics.sent(l.name(), age)
		delivered := domain.NotificationDelivered{NotificationID: m.ID, BookingID: m.Booking, Channel: l.name(), Attempt: n, At: time.Now().UTC()}
		return domain.DeliveryDelivered, d.record(lasting, s, m, cause, delivered)
	}
	l.breaker.record(began, f)
	why := reason(failed)
	switch pause, more := l.pause(n - before.Allowance); {
	case lasting.Err() != nil:
		return "", lasting.Err()
	case f.unwanted:
		return domain.DeliveryDelivered, d.leaveInList(lasting, s, m, cause)
	case f.unknown:
		d.who.away.Failed(failed)
		return "", nil
	case f.down && !l.later && !alone.are(l.breaker, probe):
		return "", nil
	case f.down && probe, f.refused != "" && l.breaker.refusesAll():
		return d.fail(lasting, l, s, m, cause, domain.NotificationFailed{Held: true, Attempt: before.Attempts, Reason: why}, max(f.after, l.breaker.hold(age)))
	case f.permanent || !more:
		log.Warn("notification given up", "error", failed)
		d.metrics.failed(l.name(), true)
		return d.fail(lasting, l, s, m, cause, domain.NotificationFailed{Attempt: n, Reason: why, Parked: true}, 0)
	default:
		pause = max(f.after, jittered(pause))
		log.Info("notification not sent yet", "error", failed, "again", pause)
		d.metrics.failed(l.name(), false)
		return d.fail(lasting, l, s, m, cause, domain.NotificationFailed{Attempt: n, Reason: why}, pause)
	}
}

// fail records a failure and, unless the message is parked, the time of the next attempt.
func (d *Dispatcher) fail(ctx context.Context, l *lane, s deliveries, m Message, cause eventstore.Recorded, failed domain.NotificationFailed, pause time.Duration) (domain.Delivery, error) {
	failed.NotificationID, failed.BookingID, failed.Channel, failed.At = m.ID, m.Booking, l.name(), time.Now().UTC()
	delivery := domain.DeliveryFailed
	if !failed.Parked {
		delivery, failed.Again = domain.DeliveryPending, failed.At.Add(pause)
	}
	return delivery, d.record(ctx, s, m, cause, failed)
}

// errHeld is why no attempt was made if the last one succeeded.
var errHeld = errors.New("the destination has asked to wait")

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

// deliveries reads a notification stream. It is an error if one of its events cannot be decoded: it may say that the message has been delivered.
func (d *Dispatcher) deliveries(ctx context.Context, id domain.NotificationID) (deliveries, error) {
	s := deliveries{stream: id.Stream(), revision: eventstore.NoStream}
	events, err := d.read(ctx, s.stream)
	for _, r := range events {
		err = cmp.Or(err, readable(r))
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

// record appends the outcome of an attempt, unless the stream has one already.
func (d *Dispatcher) record(ctx context.Context, s deliveries, m Message, cause eventstore.Recorded, outcome domain.Event) error {
	channel := domain.ChannelList
	switch e := outcome.(type) {
	case domain.NotificationDelivered:
		channel = e.Channel
	case domain.NotificationFailed:
		channel = e.Channel
	}
	before := s.On(m.ID, channel)
	for {
		if lost, err := d.append(ctx, s, cause, time.Now().UTC(), outcome); !lost {
			return err
		}
		var err error
		if s, err = d.deliveries(ctx, m.ID); err != nil || s.On(m.ID, channel) != before {
			return err
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
