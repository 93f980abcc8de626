package manage

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/limit"
)

// slowFlush is how long a page may take into the socket before its reader counts as slow.
const slowFlush = 500 * time.Millisecond

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refusals *prometheus.CounterVec
	streams  prometheus.Gauge
	ends     *prometheus.CounterVec
	flush    prometheus.Histogram
	slow     prometheus.Counter
	limits   map[string]prometheus.Counter // what limits refused, by limit
}

// Limits by the names of their flags.
const (
	limitRequests   = "requests-per-second"
	limitStreams    = "streams-per-key"
	limitStreamIdle = "stream-idle"
	limitBody       = "max-body"
)

func newMetrics(reg prometheus.Registerer, l Limits) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "rollcall", Subsystem: "manage", Name: name, Help: help}
	}
	buckets := prometheus.ExponentialBuckets(0.00025, 4, 9) // 0.25 ms to 16 s
	m := &metrics{
		requests: prometheus.NewCounterVec(
			opts("requests_total", "Management requests by route, method and status; 101 is a stream that ended."),
			[]string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "rollcall", Subsystem: "manage",
			Name: "request_duration_seconds", Help: "Time to answer a management request, by route; streams left out.",
			Buckets: buckets}, []string{"route"}),
		refusals: prometheus.NewCounterVec(opts("refusals_total", "Management requests that were refused, by code."), []string{"code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "rollcall", Subsystem: "manage", Name: "streams",
			Help: "Live streams that are open."}),
		ends: prometheus.NewCounterVec(opts("streams_ended_total", "Live streams that the server ended, by code."), []string{"code"}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "rollcall", Subsystem: "manage",
			Name: "flush_duration_seconds", Help: "Time from taking a step of a live query until it was written to the socket.",
			Buckets: buckets}),
		slow: prometheus.NewCounter(opts("slow_flushes_total", "Steps that took over half a second to write: slow readers.")),
	}
	m.limits = map[string]prometheus.Counter{}
	for name, value := range map[string]float64{
		limitRequests: l.RequestsPerSecond, limitStreams: float64(l.StreamsPerKey), limitBody: float64(l.MaxBody),
		limitStreamIdle: l.StreamIdle.Seconds(),
	} {
		m.limits[name] = limit.Register(reg, name, value)
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.refusals, m.streams, m.ends, m.flush, m.slow)
	}
	return m
}

func (m *metrics) request(verb, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, method(verb), strconv.Itoa(status)).Inc()
	if status != 101 {
		m.duration.WithLabelValues(route).Observe(took.Seconds())
	}
}

func (m *metrics) refused(code api.Code) { m.refusals.WithLabelValues(string(code)).Inc() }

func (m *metrics) ended(code api.Code) { m.ends.WithLabelValues(string(code)).Inc() }

func (m *metrics) flushed(took time.Duration) {
	m.flush.Observe(took.Seconds())
	if took > slowFlush {
		m.slow.Inc()
	}
}
