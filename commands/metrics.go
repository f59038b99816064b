package commands

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	races            prometheus.Counter
	steps            *prometheus.CounterVec
	cacheBytes       prometheus.Gauge
	snapshots        prometheus.Counter
	snapshotFailures prometheus.Counter
	openBookings     prometheus.Gauge
	recovered        prometheus.Counter
	recoveryFailures prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &metrics{
		races: counter("roombook_command_races_lost_total",
			"Decisions of commands that were made again because another append came first."),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roombook_settled_steps_total",
			Help: "Steps of commands that were done by settling, by kind of step.",
		}, []string{"step"}),
		cacheBytes: gauge("roombook_calendar_cache_bytes",
			"Approximate memory of the cached calendars, bookings and real uses."),
		snapshots: counter("roombook_calendar_snapshots_total",
			"Snapshots of calendars that were written."),
		snapshotFailures: counter("roombook_calendar_snapshot_failures_total",
			"Snapshots of calendars that could not be written."),
		openBookings: gauge("roombook_recovery_open_bookings",
			"Bookings and rooms with a step that has been decided but not done."),
		recovered: counter("roombook_recovery_settled_total",
			"Bookings and rooms that recovery settled because their command did not."),
		recoveryFailures: counter("roombook_recovery_failures_total",
			"Failed attempts of recovery to settle a booking or a room."),
	}
}

// Collectors returns the metrics of the write side, including those of recovery.
func (h *Handler) Collectors() []prometheus.Collector {
	m := h.metrics
	return []prometheus.Collector{m.races, m.steps, m.cacheBytes, m.snapshots, m.snapshotFailures, m.openBookings, m.recovered, m.recoveryFailures}
}
