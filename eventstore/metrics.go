package eventstore

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxUndecodableTypes bounds the label values of the metric of undecodable events: in a store that other programs write to there may be any
// number of types.
const maxUndecodableTypes = 100

// metrics are those of one store.
type metrics struct {
	appends     prometheus.Histogram
	conflicts   prometheus.Counter
	retries     *prometheus.CounterVec
	appendRetry prometheus.Counter
	readRetry   prometheus.Counter
	unknown     prometheus.Counter
	undecodable *prometheus.CounterVec
	connections prometheus.Gauge
	reconnects  prometheus.Counter

	resubscriptions prometheus.Counter
	replaced        prometheus.Counter

	mu    sync.Mutex
	types map[string]bool // those that have a label value
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "roombook", Subsystem: "eventstore", Name: name, Help: help}
	}
	m := &metrics{
		appends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "roombook", Subsystem: "eventstore", Name: "append_seconds",
			Help:    "Time from an append to its answer, retries included.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2.5, 5},
		}),
		conflicts: prometheus.NewCounter(opts("wrong_revisions_total",
			"Appends that lost a race: the stream was at another revision.")),
		retries: prometheus.NewCounterVec(opts("retries_total",
			"Tries after the first of appends and reads, made because the event store did not answer."), []string{"operation"}),
		unknown: prometheus.NewCounter(opts("unknown_outcomes_total",
			"Appends that were given up without knowing whether they were done.")),
		undecodable: prometheus.NewCounterVec(opts("undecodable_events_total",
			"Events read that this program cannot decode, by type, once for each time they are read."), []string{"type"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts(opts("connections",
			"Connections to the event store that are up."))),
		reconnects: prometheus.NewCounter(opts("reconnects_total",
			"Connections to the event store that broke.")),
		replaced: prometheus.NewCounter(opts("log_replaced_total",
			"Times that the log was found to be another than the one that was seen before.")),
		resubscriptions: prometheus.NewCounter(opts("resubscriptions_total",
			"Subscriptions that the event store ended because it was too slow for a moment, and that were taken up again.")),
		types: map[string]bool{},
	}
	m.appendRetry, m.readRetry = m.retries.WithLabelValues("append"), m.retries.WithLabelValues("read")
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.appends, m.conflicts, m.retries, m.unknown, m.undecodable, m.connections, m.reconnects, m.resubscriptions, m.replaced}
}

// cannotDecode counts an event that cannot be decoded, and logs the first of its type.
func (m *metrics) cannotDecode(logger *slog.Logger, r *Recorded, reason error) {
	label := r.Type
	m.mu.Lock()
	first := !m.types[label]
	switch {
	case !first:
	case len(m.types) < maxUndecodableTypes:
		m.types[label] = true
	default:
		first, label = false, "other"
	}
	m.mu.Unlock()
	m.undecodable.WithLabelValues(label).Inc()
	if first {
		logger.Warn("an event cannot be decoded and is skipped; more of its type are only counted",
			"type", r.Type, "stream", r.Stream, "revision", r.Revision, "position", r.Position, "reason", reason)
	}
}

// Describe implements [prometheus.Collector].
func (s *Store) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(descriptions)
	}
}

// Collect implements [prometheus.Collector].
func (s *Store) Collect(values chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(values)
	}
}
