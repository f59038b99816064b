package commands

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	races      prometheus.Counter
	steps      *prometheus.CounterVec
	cacheBytes prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		races: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "roombook_command_races_lost_total",
			Help: "Appends that were refused since another one was first, so that the command decided anew.",
		}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roombook_settled_steps_total",
			Help: "Open steps of commands that were finished or released by settling, by what was done.",
		}, []string{"step"}),
		cacheBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "roombook_calendar_cache_bytes",
			Help: "Memory of the calendars that are kept folded, about.",
		}),
	}
}

// Collectors are the write side's metrics.
func (h *Handler) Collectors() []prometheus.Collector {
	return []prometheus.Collector{h.metrics.races, h.metrics.steps, h.metrics.cacheBytes}
}
