package notify

import (
	"context"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"roombook/domain"
	"roombook/eventstore"
)

// metrics is a [prometheus.Collector].
type metrics struct {
	of        *Dispatcher
	delivered *prometheus.CounterVec
	failures  *prometheus.CounterVec
	retries   *prometheus.CounterVec
	parked    *prometheus.CounterVec
	delay     *prometheus.HistogramVec

	length, age, unhandled, waiting, waitingAge, state *prometheus.Desc

	mu     sync.Mutex
	inHand map[string]map[uuid.UUID]time.Time // by group: when each event that is being handled occurred
	polled map[string]eventstore.GroupInfo    // by group
}

func newMetrics(d *Dispatcher) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "roombook", Subsystem: "notifications", Name: name, Help: help}, []string{"channel"})
	}
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("roombook_notifications_"+name, help, labels, nil)
	}
	return &metrics{
		of:        d,
		delivered: counter("sent_total", "Messages that a channel has delivered."),
		failures:  counter("failed_total", "Attempts to deliver a message that failed."),
		retries:   counter("retried_total", "Attempts to deliver a message that failed and are made again."),
		parked:    counter("parked_total", "Messages that a channel has given up."),
		delay: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "roombook", Subsystem: "notifications", Name: "delivery_seconds", Help: "Time from an event to the delivery of its notification.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600},
		}, []string{"channel"}),
		length:     describe("queue_length", "Events that wait for their notifications to be sent, as far as the group has read the log.", "group"),
		age:        describe("queue_age_seconds", "Age of the oldest event whose notifications this process is sending; 0 if there is none.", "group"),
		unhandled:  describe("unhandled_events", "Events that the group has parked because their notifications cannot be made, as of the last poll.", "group"),
		waiting:    describe("waiting", "Messages that failed and wait for their next attempt, which are not in the queue.", "channel"),
		waitingAge: describe("waiting_age_seconds", "Time since the last attempt of the message among them that failed first; 0 if there is none.", "channel"),
		state:      describe("breaker_state", "State of the circuit breaker of a destination: 0 closed, 1 half-open, or all recipients are refused, 2 open.", "channel", "destination"),
		inHand:     map[string]map[uuid.UUID]time.Time{},
		polled:     map[string]eventstore.GroupInfo{},
	}
}

func (m *metrics) poll(ctx context.Context, store Store, group string) {
	info, err := store.Group(ctx, group)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.polled[group] = info
}

// settled returns a position before which a group has nothing left to settle, as of the last poll; 0 if it has not been polled.
func (m *metrics) settled(group string) eventstore.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.polled[group].From, m.polled[group].Checkpoint)
}

// queueLength returns the number of events of a group whose notifications have not been sent. Those that wait in this process behind another to the same
// recipient are known from the last poll only. m.mu must be held.
func (m *metrics) queueLength(group string) int {
	length := len(m.inHand[group])
	if length > 0 {
		length = max(length, m.polled[group].InFlight)
	}
	return length + m.polled[group].Waiting
}

// take counts an event as being handled until the returned function is called.
func (m *metrics) take(group string, e eventstore.Recorded) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inHand[group] == nil {
		m.inHand[group] = map[uuid.UUID]time.Time{}
	}
	m.inHand[group][e.ID] = e.Metadata.OccurredAt
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.inHand[group], e.ID)
	}
}

func (m *metrics) sent(on domain.Channel, after time.Duration) {
	m.delivered.WithLabelValues(string(on)).Inc()
	m.delay.WithLabelValues(string(on)).Observe(after.Seconds())
}

func (m *metrics) failed(on domain.Channel, parked bool) {
	m.failures.WithLabelValues(string(on)).Inc()
	if parked {
		m.parked.WithLabelValues(string(on)).Inc()
	} else {
		m.retries.WithLabelValues(string(on)).Inc()
	}
}

func (m *metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.delivered, m.failures, m.retries, m.parked, m.delay}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, v := range m.vectors() {
		v.Describe(to)
	}
	to <- m.length
	to <- m.age
	to <- m.unhandled
	to <- m.waiting
	to <- m.waitingAge
	to <- m.state
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, v := range m.vectors() {
		v.Collect(to)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.of.routes {
		age := 0.0
		for _, at := range m.inHand[r.group.Name] {
			age = max(age, time.Since(at).Seconds())
		}
		to <- prometheus.MustNewConstMetric(m.length, prometheus.GaugeValue, float64(m.queueLength(r.group.Name)), r.group.Name)
		to <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, age, r.group.Name)
		to <- prometheus.MustNewConstMetric(m.unhandled, prometheus.GaugeValue, float64(m.polled[r.group.Name].Parked), r.group.Name)
	}
	waiting, oldest := m.of.agenda.waiting()
	for _, l := range m.of.lanes {
		age := 0.0
		if failed := oldest[l.name()]; !failed.IsZero() {
			age = max(age, time.Since(failed).Seconds())
		}
		to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting[l.name()]), string(l.name()))
		to <- prometheus.MustNewConstMetric(m.waitingAge, prometheus.GaugeValue, age, string(l.name()))
		state := map[circuitbreaker.State]float64{circuitbreaker.ClosedState: 0, circuitbreaker.HalfOpenState: 1, circuitbreaker.OpenState: 2}[l.breaker.State()]
		if l.breaker.refusesAll() {
			state = max(state, 1)
		}
		to <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, state, string(l.name()), l.destination())
	}
}
