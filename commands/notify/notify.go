// Package notify sends notifications: what is told of an event, to whom, by which channel, and what became of it.
//
// A [Dispatcher] consumes a persistent subscription to the log, in any number of processes. Of each event that somebody is told of it makes
// messages and hands them to a channel: the log, mail, or a webhook. What a channel did is an event of the stream notification-<event>,
// which is looked at before a message is sent and written before the subscription is told that the event is done. So a message is sent
// once, but for those that were being sent when a process was killed.
//
// No command waits for any of this. A destination that does not work is left alone by a circuit breaker, and what is for it waits in the
// subscription, in its order for each recipient. A message that a working destination refuses is tried again if the refusal is temporary, and
// given up otherwise; its last event says so, the list of notifications shows it as FAILED, and [Retry] has it tried again.
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

	"roombook/domain"
	"roombook/eventstore"
)

// The groups, persistent subscriptions to the log. A webhook has one of its own, so that it holds up no mail.
const (
	Group        = "roombook-notifications"
	WebhookGroup = "roombook-notifications-webhook"
)

// maxInHand is how many events a process has in hand of each group, those included that wait for their destination.
const maxInHand = 512

// Store is what the sending of notifications needs of the event store. See [eventstore.Store] for the contract.
type Store interface {
	Streams
	Groups
	Consume(ctx context.Context, group string, o eventstore.ConsumeOptions, handle func(context.Context, eventstore.Delivery) eventstore.Settlement) error
	Group(ctx context.Context, group string) (eventstore.GroupInfo, error)
}

// Streams are those of an event store.
type Streams interface {
	ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error]
	Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error)
}

// Groups are an event store's persistent subscriptions.
type Groups interface {
	End(ctx context.Context) (eventstore.Position, error)
	EnsureGroup(ctx context.Context, group string, g eventstore.GroupSettings) (changed bool, err error)
}

// Options configure a [Dispatcher].
type Options struct {
	Mail    *MailOptions    // nil: what is for people is logged, a line a message
	Webhook *WebhookOptions // nil: there is none
	// Fallback gets what mail has given up: [domain.ChannelLog], or [domain.ChannelWebhook], which then gets nothing else. Empty is none.
	Fallback domain.Channel
	// Directory is a file that names users; empty is none. Address is the template of the addresses of all others; empty is
	// [DefaultAddress].
	Directory, Address string
	// Texts is a folder with texts in place of the program's own; empty is none. Language is that of users whom the directory gives none;
	// empty is [DefaultLanguage].
	Texts, Language string
	Zone            *time.Location // of the times in messages; nil is UTC
	// Link is the server's address, for links in messages; empty leaves them out.
	Link    string
	Breaker BreakerOptions
	// Sending is how many messages are sent at a time to one destination; 0 is 8.
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
}

// route is what a group's events are for.
type route struct {
	group    string
	lane     *lane
	fallback *lane // nil for none
	key      func(eventstore.Recorded) string
	people   bool // whom it tells may opt out
	unread   *eventstore.Trouble

	mu  sync.Mutex
	err error // why the group is not consumed
}

// lane is a channel with what is to be known of its destination.
type lane struct {
	channel
	breaker *breaker
	slots   chan struct{} // one for each message that is being sent
}

// New returns a dispatcher. The error says what is wrong with the options.
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
	d := &Dispatcher{store: store, log: o.Logger, tracer: o.Tracer}
	var err error
	if d.who, err = openDirectory(o.Directory, o.Address, o.Language, o.Logger); err != nil {
		return nil, err
	}
	t, err := readTexts(o.Texts, o.Zone, o.Link)
	if err != nil {
		return nil, err
	}
	if _, ok := t.languages[o.Language]; !ok {
		return nil, fmt.Errorf("there are no texts in the language %q", o.Language)
	}
	d.metrics = newMetrics(d)
	main := &route{group: Group, people: true, key: byRecipient}
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
	switch {
	case o.Fallback == "":
	case o.Mail == nil:
		return nil, errors.New("there is a fallback for mail, but no mail server")
	case o.Fallback == domain.ChannelLog:
		main.fallback = d.lane(&logChannel{o.Logger, t, d.who}, o)
	case main.fallback == nil:
		return nil, fmt.Errorf("the fallback %q must be %s, or %s if there is one", o.Fallback, domain.ChannelLog, domain.ChannelWebhook)
	}
	for _, r := range d.routes {
		r.unread = eventstore.NewTrouble(o.Logger, slog.LevelError, "notifications are not sent", "notifications are sent again")
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

// byRecipient has what is told to one user told in order. Approvers are asked in an order of their own.
func byRecipient(r eventstore.Recorded) string {
	if notice, told := domain.NoticeOf(r.Event); told {
		return "user " + string(notice.To)
	}
	if _, asked := r.Event.(domain.ConfirmRequested); asked {
		return "approvers"
	}
	return r.Stream
}

// byBooking has what is told of one booking told in order.
func byBooking(r eventstore.Recorded) string { return string(bookingOf(r.Event)) }

// Collectors are the dispatcher's metrics.
func (d *Dispatcher) Collectors() []prometheus.Collector { return []prometheus.Collector{d.metrics} }

// Health is nil, or the first reason why notifications are not sent at the moment.
func (d *Dispatcher) Health() error {
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

// EnsureGroup creates a group that is missing, to begin at the end of the log: nobody is told of what happened before. One that differs from
// what it should be is updated. changed reports whether either was done. The error may be an [*eventstore.Refused]: who may consume a group
// need not be one who may create it.
func EnsureGroup(ctx context.Context, store Groups, group string) (changed bool, err error) {
	end, err := store.End(ctx)
	if err != nil {
		return false, err
	}
	return store.EnsureGroup(ctx, group, eventstore.GroupSettings{
		Filter: eventstore.Filter{StreamPrefixes: []string{domain.BookingCategory + "-", domain.RealUseCategory + "-", domain.NotificationCategory + "-"}},
		From:   end,
		// One process has all events, so that it can keep the order of each recipient's; the others stand by.
		Strategy:     eventstore.DispatchToSingle,
		MaxConsumers: 1,
		// An event is in hand for as long as its destination is away. If the process is gone, the group knows by the connection.
		MessageTimeout:   20 * 24 * time.Hour,
		MaxRetries:       1_000_000,
		CheckpointAfter:  time.Second,
		CheckpointEvents: 64,
	})
}

// grace is how long a message that is being sent when the context ends may take, and the record of it.
const grace = 5 * time.Second

// Run sends notifications until the context ends, whatever happens meanwhile. Its error is the context's.
func (d *Dispatcher) Run(ctx context.Context) error {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	var parts errgroup.Group
	for _, r := range d.routes {
		parts.Go(func() error { return d.follow(ctx, lasting, r) })
		parts.Go(func() error { return d.metrics.watch(ctx, d.store, r.group) })
	}
	return parts.Wait()
}

// follow consumes a group until the context ends. A group that is missing is created, if that is allowed.
func (d *Dispatcher) follow(ctx, lasting context.Context, r *route) error {
	missing := false
	for pauses := newBackOff(); ; {
		_, err := EnsureGroup(ctx, d.store, r.group)
		if refused, ok := errors.AsType[*eventstore.Refused](err); ok && missing {
			err = fmt.Errorf("%w: an administrator of the event store has to run: roombook setup --eventstore esdb://admin…", refused)
		} else if err == nil || ok {
			r.report(nil)
			err = d.store.Consume(ctx, r.group, eventstore.ConsumeOptions{InFlight: maxInHand, Handlers: maxInHand, Key: r.key},
				func(_ context.Context, e eventstore.Delivery) eventstore.Settlement {
					return d.handle(ctx, lasting, r, e.Recorded)
				})
			_, missing = errors.AsType[*eventstore.NoGroup](err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.report(err)
		if err := sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

func (r *route) report(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	if err != nil {
		r.unread.Failed(err, "group", r.group)
	} else {
		r.unread.Over("group", r.group)
	}
}

// newBackOff has the pauses after failures of the event store.
func newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jittered is a pause a quarter longer or shorter, so that what failed together is not tried again together.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
