// Package notify sends notifications: it decides who is notified of an event, composes the messages, delivers them through channels, and
// records the outcome.
//
// A [Dispatcher] consumes a persistent subscription to the log, in any number of processes. It turns each event into messages and passes them
// to a channel: the log, mail, or a webhook. The outcome of each attempt is an event in the stream notification-<event>, which is read before
// a message is sent and appended before the event is acknowledged. So a message is sent once, except that one in flight when its process is
// killed may be sent again.
//
// No command waits for this. While a destination is down, a circuit breaker holds its messages back; they stay in the subscription and are
// later sent to each recipient in the order of their events. If a working destination refuses a message for now, that is recorded with the
// time of the next attempt, and the event acknowledged: a refused message holds nothing up, and is delivered later than those after it. Every
// process follows these records, and when the time has come one of them appends NotificationDue, which the subscription hands out like any
// event. A message that is refused for good, or at the last attempt, is parked. The list of notifications shows it as FAILED then, and
// [Retry] requests another round of attempts.
package notify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

// Group is a persistent subscription to the log.
type Group struct {
	Name       string
	categories []string // of the streams that it reads
}

// The groups. A webhook has a group of its own, so that it cannot hold up mail. Faults of rooms have one because the filter of an existing group
// cannot be changed: it only requests notifications, which the others then deliver.
var (
	MainGroup    = Group{"roombook-notifications", []string{domain.BookingCategory, domain.RealUseCategory, domain.NotificationCategory}}
	WebhookGroup = Group{"roombook-notifications-webhook", MainGroup.categories}
	FaultsGroup  = Group{"roombook-notifications-faults", []string{domain.FaultsCategory}}
)

// AllGroups are all of them.
var AllGroups = []Group{MainGroup, WebhookGroup, FaultsGroup}

// maxInHand is the maximum number of unacknowledged events per group in a process, including those that wait for their destination.
const maxInHand = 512

// linger is how long an event waits for others, whose outcomes are then recorded with it. Without it the records of a dispatcher that keeps
// up with bookings, one by one, take more time than all else it does, and from the bookings.
const linger = 20 * time.Millisecond

// Store is the part of the event store that a [Dispatcher] uses. See [eventstore.Store] for the contract.
type Store interface {
	Streams
	Groups
	Consume(ctx context.Context, group string, o eventstore.ConsumeOptions, handle func(context.Context, eventstore.Delivery) eventstore.Settlement) error
	Group(ctx context.Context, group string) (eventstore.GroupInfo, error)
	Incarnation() eventstore.Incarnation
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error]
	SaveCheckpoint(ctx context.Context, stream string, p eventstore.Position) error
	SetMaxCount(ctx context.Context, stream string, n int) error
}

// Streams reads and appends to streams. See [eventstore.Store] for the contract.
type Streams interface {
	ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error]
	Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error)
}

// Groups manages persistent subscriptions. See [eventstore.Store] for the contract.
type Groups interface {
	End(ctx context.Context) (eventstore.Position, error)
	EnsureGroup(ctx context.Context, group string, g eventstore.GroupSettings) (changed bool, err error)
	LoadCheckpoint(ctx context.Context, stream string) (eventstore.Position, error)
	LoadPosition(ctx context.Context, stream string) (eventstore.Position, error)
}

// Options configure a [Dispatcher].
type Options struct {
	Mail    *MailOptions    // nil: messages to users are logged, one line each
	Webhook *WebhookOptions // nil: no webhook
	// Fallback receives the messages that could not be mailed. It is [domain.ChannelLog], or [domain.ChannelWebhook], in which case the
	// webhook receives only those. Empty means none.
	Fallback domain.Channel
	// Directory is the path of a YAML file that describes users; empty means none. Address is the template for the mail addresses of all
	// other users; empty is [DefaultAddress].
	Directory, Address string
	// People says who users are, in place of Directory and Address; nil leaves it to these.
	People People
	// Approvers returns the approvers whom a room names, as of a booking of it or later; nil takes no room to name any.
	Approvers func(ctx context.Context, room domain.RoomID, booking domain.BookingID) ([]domain.UserID, error)
	// Rooms returns the names of rooms for mail, empty for a room that has none; nil leaves them at their ids.
	Rooms func(ctx context.Context) (func(domain.RoomID) string, error)
	// Texts is a folder with templates that override the embedded ones; empty means none. Language is the language of users without an
	// entry in the directory; empty is [DefaultLanguage].
	Texts, Language string
	Zone            *time.Location // time zone of times in messages; nil is UTC
	// Link is the base URL of links in messages; empty leaves links out.
	Link    string
	Breaker BreakerOptions
	// Sending is the maximum number of concurrent deliveries to a destination; 0 is 8.
	Sending int
	Logger  *slog.Logger // nil discards
	Tracer  trace.Tracer // nil traces nothing
}

// Dispatcher sends notifications. Goroutines may share it.
type Dispatcher struct {
	store   Store
	who     *directory
	routes  []*route
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *metrics
	lanes   []*lane
	agenda  *agenda
}

// route delivers the events of a group.
type route struct {
	group    Group
	lane     *lane
	fallback *lane // may be nil
	key      func(eventstore.Recorded) string
	people   bool // recipients may opt out
	unread   *eventstore.Trouble
	unsaved  *eventstore.Trouble

	saving  sync.Mutex
	settled eventstore.Position // as it was stored last; 0 if it was not yet. saving must be held.

	mu  sync.Mutex
	err error // why the group is not consumed
}

// lane is a channel with the circuit breaker of its destination.
type lane struct {
	channel
	breaker *breaker
	slots   chan struct{} // limits concurrent deliveries
	// later means that messages do not wait while the destination is down, but are attempted later.
	later bool
}

// New returns a dispatcher, or an error that describes what is wrong with the options.
func New(store Store, o Options) (*Dispatcher, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if o.Language == "" {
		o.Language = DefaultLanguage
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Sending == 0 {
		o.Sending = 8
	}
	d := &Dispatcher{store: store, log: o.Logger, tracer: o.Tracer, agenda: newAgenda(store, o.Logger)}
	t, err := readTexts(o.Texts, o.Zone, o.Link)
	if err != nil {
		return nil, err
	}
	if _, ok := t.languages[o.Language]; !ok {
		return nil, fmt.Errorf("there are no texts in the language %q", o.Language)
	}
	if d.who, err = openDirectory(o.Directory, o.Address, o.Language, t, o.Logger); err != nil {
		return nil, err
	}
	d.who.known, d.who.byRoom, d.who.rooms = o.People, o.Approvers, o.Rooms
	d.metrics = newMetrics(d)
	main := &route{group: MainGroup, people: true, key: byRecipient}
	if o.Mail != nil {
		mail, err := newMailChannel(*o.Mail, t, d.who)
		if err != nil {
			return nil, err
		}
		main.lane = d.lane(mail, o)
	} else {
		main.lane = d.lane(&logChannel{o.Logger, t, d.who}, o)
	}
	d.routes = []*route{main}
	if o.Webhook != nil {
		webhook, err := newWebhookChannel(*o.Webhook, t)
		if err != nil {
			return nil, err
		}
		if o.Fallback == domain.ChannelWebhook {
			main.fallback = d.lane(webhook, o)
		} else {
			d.routes = append(d.routes, &route{group: WebhookGroup, lane: d.lane(webhook, o), key: byBooking})
		}
	}
	d.routes = append(d.routes, &route{group: FaultsGroup, lane: main.lane, people: true, key: byRecipient})
	switch {
	case o.Fallback == "":
	case o.Mail == nil:
		return nil, errors.New("there is a fallback for mail, but no mail server")
	case o.Fallback == domain.ChannelLog:
		main.fallback = d.lane(&logChannel{o.Logger, t, d.who}, o)
	case main.fallback == nil:
		return nil, fmt.Errorf("the fallback %q must be %s, or %s if there is one", o.Fallback, domain.ChannelLog, domain.ChannelWebhook)
	}
	if main.fallback != nil {
		main.fallback.later = true
	}
	for _, r := range d.routes {
		r.unread = eventstore.NewTrouble(o.Logger, slog.LevelError, "notifications are not sent", "notifications are sent again")
		r.unsaved = eventstore.NewTrouble(o.Logger, slog.LevelWarn, "it cannot be stored how far notifications are settled: if their group is deleted, some may be lost", "")
	}
	return d, nil
}

func (d *Dispatcher) lane(c channel, o Options) *lane {
	l := &lane{channel: c, slots: make(chan struct{}, o.Sending)}
	l.breaker = newBreaker(o.Breaker, func(from, to circuitbreaker.State) {
		d.log.Warn("the breaker of notifications changes", "channel", c.name(), "destination", c.destination(), "from", from, "to", to, "error", l.breaker.lastReason())
	})
	d.lanes = append(d.lanes, l)
	return l
}

// byRecipient is the key by which messages to a user are delivered in order. Further attempts have keys of their own. Requests to those who
// answer for rooms share one, so that messages to each of them are queued in the order of the requests.
func byRecipient(r eventstore.Recorded) string {
	if _, asked := domain.RequestOf(r.Event); asked {
		return "request"
	}
	if notice, has := domain.NoticeOf(r.Event); has {
		return "user " + string(notice.To)
	}
	if requested, ok := r.Event.(domain.NotificationRequested); ok {
		return "user " + string(requested.UserID)
	}
	return r.Stream
}

// byBooking is the key by which messages about a booking are delivered in order.
func byBooking(r eventstore.Recorded) string { return string(bookingOf(r.Event)) }

// Collectors are the dispatcher's metrics.
func (d *Dispatcher) Collectors() []prometheus.Collector { return []prometheus.Collector{d.metrics} }

// Health returns the first reason why notifications are not being sent, or nil.
func (d *Dispatcher) Health() error {
	if err := d.agenda.trouble(); err != nil {
		return err
	}
	for _, r := range d.routes {
		r.mu.Lock()
		err := r.err
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	for _, l := range d.lanes {
		if err := l.breaker.trouble(); err != nil {
			return fmt.Errorf("%s at %s: %w", l.name(), l.destination(), err)
		}
	}
	return nil
}

// Setup sets the metadata of the streams that keep the last position only: that from which a start looks for what is to be attempted again, and
// for each group that from which it starts if somebody deletes it. What is set already is left as it is. The error may be an
// [*eventstore.Refused].
func Setup(ctx context.Context, store interface {
	SetMaxCount(ctx context.Context, stream string, n int) error
}) error {
	for _, group := range AllGroups {
		if err := store.SetMaxCount(ctx, settledStream(group.Name), 1); err != nil {
			return err
		}
	}
	return store.SetMaxCount(ctx, checkpointStream, 1)
}

// settledStream stores the position up to which a group has settled everything, because the event store forgets that with the group.
func settledStream(group string) string { return "dispatch-settled-" + group }

// EnsureGroup creates a group if it is missing, and updates its settings if they differ. One that was deleted starts where it had settled
// everything, by whoever is allowed to create it, and any other at the end of the log: nobody is notified of earlier events. changed reports
// whether the group was created or updated. The error may be an [*eventstore.Refused]: to create a group takes more rights than to consume it.
func EnsureGroup(ctx context.Context, store Groups, group Group) (changed bool, err error) {
	end, err := store.End(ctx)
	if err != nil {
		return false, err
	}
	from, err := store.LoadPosition(ctx, settledStream(group.Name))
	if err != nil {
		return false, err
	}
	if from == 0 || from > end { // the log may have been restored from a backup since
		from = end
	}
	var prefixes []string
	for _, category := range group.categories {
		prefixes = append(prefixes, category+"-")
	}
	return store.EnsureGroup(ctx, group.Name, eventstore.GroupSettings{
		Filter: eventstore.Filter{StreamPrefixes: prefixes},
		From:   from,
		// One process receives all events, so that it can keep them in order for each recipient. The others are on standby.
		Strategy:     eventstore.DispatchToSingle,
		MaxConsumers: 1,
		// An event stays unacknowledged for as long as its destination is down. If the consumer dies its connection closes, and the group
		// redelivers at once.
		MessageTimeout:   20 * 24 * time.Hour,
		MaxRetries:       1_000_000,
		CheckpointAfter:  time.Second,
		CheckpointEvents: 64,
	})
}

// Prepare creates the groups that are missing, for use before the first booking is made: nobody is notified of what happened before its group was
// created. It gives up when the event store refuses or does not answer within a moment, and leaves the rest to Run.
func (d *Dispatcher) Prepare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, preparing)
	defer cancel()
	for _, r := range d.routes {
		if _, err := EnsureGroup(ctx, d.store, r.group); err != nil {
			return
		}
	}
}

// preparing limits how long Prepare takes.
const preparing = 2 * time.Second

// grace is how long a delivery in progress may continue after the context has ended.
const grace = 5 * time.Second

// Run sends notifications until the context ends, whatever happens meanwhile. Its error is the context's.
func (d *Dispatcher) Run(ctx context.Context) error {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	var parts errgroup.Group
	parts.Go(func() error { return d.agenda.run(ctx) })
	for _, r := range d.routes {
		parts.Go(func() error { return d.follow(ctx, lasting, r) })
		parts.Go(func() error { return d.watch(ctx, r) })
	}
	return parts.Wait()
}

// watchEvery is the interval at which groups are polled.
const watchEvery = 10 * time.Second

// watch polls a group until the context ends.
func (d *Dispatcher) watch(ctx context.Context, r *route) error {
	for {
		d.poll(ctx, r)
		if err := eventstore.Sleep(ctx, watchEvery); err != nil {
			return err
		}
	}
}

// poll polls a group and stores the position up to which it has settled everything.
func (d *Dispatcher) poll(ctx context.Context, r *route) {
	d.metrics.poll(ctx, d.store, r.group.Name)
	r.saving.Lock()
	defer r.saving.Unlock()
	p := d.metrics.settled(r.group.Name)
	if p == r.settled {
		return
	}
	if err := d.store.SaveCheckpoint(ctx, settledStream(r.group.Name), p); err == nil {
		r.settled = p
		r.unsaved.Over()
	} else if ctx.Err() == nil {
		r.unsaved.Failed(err, "group", r.group.Name)
	}
}

// follow consumes a group until the context ends. It creates the group if it is missing and the user is allowed to.
func (d *Dispatcher) follow(ctx, lasting context.Context, r *route) error {
	missing := false
	for pauses := newBackOff(); ; {
		_, err := EnsureGroup(ctx, d.store, r.group)
		if _, ok := errors.AsType[*eventstore.Refused](err); ok && missing {
			err = commands.NeedsSetup(err)
		} else if err == nil || ok {
			r.report(nil)
			d.poll(ctx, r)
			err = d.store.Consume(ctx, r.group.Name, eventstore.ConsumeOptions{InFlight: maxInHand, Handlers: maxInHand, Linger: linger, Key: r.key},
				func(ctx context.Context, e eventstore.Delivery) eventstore.Settlement {
					return d.handle(ctx, lasting, r, e)
				})
			_, missing = errors.AsType[*eventstore.NoGroup](err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.report(err)
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

func (r *route) report(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	if err != nil {
		r.unread.Failed(err, "group", r.group.Name)
	} else {
		r.unread.Over("group", r.group.Name)
	}
}

// newBackOff returns the pauses between retries on the event store.
func newBackOff() *backoff.ExponentialBackOff {
	return eventstore.NewBackOff(100*time.Millisecond, 10*time.Second)
}

// jittered varies a pause by up to a quarter, so that messages that failed together are not retried together.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
