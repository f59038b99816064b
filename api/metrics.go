package api

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's metrics. The number of label values is bounded, whatever clients send: routes are templates, and the method of a
// request that no operation serves is "other".
type metrics struct {
	requests *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	register prometheus.Registerer
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "roombook_http_request_duration_seconds",
			Help:    "Requests and the time from their header to their reply, by method, route and status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "roombook_http_refused_total",
			Help: "Requests that were refused since too many were under way, by kind: command, query, upload (which is a command as well) or stream.",
		}, []string{"kind"}),
		register: r,
	}
	r.MustRegister(m.requests, m.refused)
	return m
}

// limit returns a limit of requests of a kind, and registers its gauge.
func (m *metrics) limit(kind string, max int) *limit {
	l := &limit{max: int64(max), refused: m.refused.WithLabelValues(kind)}
	m.register.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "roombook_http_in_flight",
		Help:        "Requests that are being carried out, by kind: command, query, upload (which is a command as well) or stream.",
		ConstLabels: prometheus.Labels{"kind": kind},
	}, func() float64 { return float64(l.inFlight.Load()) }))
	return l
}

// latency returns the histogram of an operation, by status.
func (m *metrics) latency(method, route string) prometheus.ObserverVec {
	return m.requests.MustCurryWith(prometheus.Labels{"method": method, "route": route})
}

// statusLabel is strconv.Itoa without allocations for common statuses.
func statusLabel(status int) string {
	switch status {
	case 200:
		return "200"
	case 201:
		return "201"
	case 404:
		return "404"
	case 409:
		return "409"
	default:
		return strconv.Itoa(status)
	}
}
