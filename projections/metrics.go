package projections

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the workers' numbers, by projection.
type metrics struct {
	events    *prometheus.CounterVec
	skipped   *prometheus.CounterVec
	documents *prometheus.CounterVec
	failures  *prometheus.CounterVec
	writes    *prometheus.HistogramVec
	position  *prometheus.GaugeVec
	following *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	labels := []string{"projection"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "roombook", Subsystem: "projection", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "roombook", Subsystem: "projection", Name: name, Help: help}, labels)
	}
	m := &metrics{
		events:    counter("events_total", "Events folded into the list."),
		skipped:   counter("undecodable_events_total", "Events that this program cannot decode and passed over."),
		documents: counter("documents_written_total", "Documents written to the list."),
		failures:  counter("failures_total", "Times that keeping the list failed."),
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "roombook", Subsystem: "projection", Name: "write_seconds",
			Help:    "Time to fold a batch of events and to write what it changed.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, labels),
		position:  gauge("position", "Position of the log that the list has."),
		following: gauge("following", "1 while the list is kept up to date, 0 while it is being built, failing or stopped."),
	}
	if registerer != nil {
		registerer.MustRegister(m.events, m.skipped, m.documents, m.failures, m.writes, m.position, m.following)
	}
	return m
}

func (m *metrics) wrote(projection string, events int, f folded, took time.Duration) {
	m.events.WithLabelValues(projection).Add(float64(events))
	m.skipped.WithLabelValues(projection).Add(float64(f.skipped))
	m.documents.WithLabelValues(projection).Add(float64(len(f.rows)))
	m.writes.WithLabelValues(projection).Observe(took.Seconds())
}

func (m *metrics) observe(h Health) {
	m.position.WithLabelValues(h.Projection).Set(float64(h.Position))
	following := 0.0
	if h.State == Following {
		following = 1
	}
	m.following.WithLabelValues(h.Projection).Set(following)
}
