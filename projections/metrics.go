package projections

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of workers, by projection. They are a prometheus.Collector.
type metrics struct {
	events    *prometheus.CounterVec
	skipped   *prometheus.CounterVec
	documents *prometheus.CounterVec
	failures  *prometheus.CounterVec
	writes    *prometheus.HistogramVec
}

const (
	metricsNamespace = "roombook"
	metricsSubsystem = "projection"
)

func newMetrics() *metrics {
	labels := []string{"projection"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help}, labels)
	}
	return &metrics{
		events:    counter("events_total", "Events folded into the list."),
		skipped:   counter("undecodable_events_total", "Events that this program cannot decode and passed over."),
		documents: counter("documents_written_total", "Documents written to the list."),
		failures:  counter("failures_total", "Times that keeping the list failed."),
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "write_seconds",
			Help:    "Time to fold a batch of events and to write what it changed.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, labels),
	}
}

func (m *metrics) wrote(projection string, events int, f folded, took time.Duration) {
	m.events.WithLabelValues(projection).Add(float64(events))
	m.skipped.WithLabelValues(projection).Add(float64(f.skipped))
	m.documents.WithLabelValues(projection).Add(float64(len(f.rows)))
	m.writes.WithLabelValues(projection).Observe(took.Seconds())
}

// built counts the events of a completed rebuild.
func (m *metrics) built(p Progress) {
	if p.Active {
		m.events.WithLabelValues(p.Projection).Add(float64(p.Events))
		m.skipped.WithLabelValues(p.Projection).Add(float64(p.Undecodable))
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(to)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.skipped, m.documents, m.failures, m.writes}
}

// healthCollector shows the health of the lists when it is asked for.
type healthCollector struct{ workers *Workers }

// Describe implements prometheus.Collector.
func (c healthCollector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c healthCollector) Collect(to chan<- prometheus.Metric) {
	for _, h := range c.workers.Health() {
		show := func(name, help string, value float64) {
			desc := prometheus.NewDesc(prometheus.BuildFQName(metricsNamespace, metricsSubsystem, name), help, []string{"projection"}, nil)
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, h.Projection)
		}
		following := 0.0
		if h.State == Following {
			following = 1
		}
		show("following", "1 while the list is kept up to date, 0 while it is being built, failing or stopped.", following)
		show("position", "Position of the log that the list has.", float64(h.Position))
		show("lag_events", fmt.Sprintf("Events that have been received and are to be written next: about %d at most, however many follow them.", maxGathered), float64(h.Gathered))
		if h.CaughtUp || h.Behind > 0 {
			show("lag_seconds", "For how long, at most, the list has lacked events; absent until anything of it is known.", h.Behind.Seconds())
		}
	}
}
