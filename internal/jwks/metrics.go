package jwks

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the cache's numbers.
type metrics struct {
	fetches *prometheus.CounterVec // by result
	seconds prometheus.Histogram
}

func newMetrics(to prometheus.Registerer) metrics {
	m := metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_jwks_fetches_total",
			Help: "Fetches of token issuers' keys, by result."}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rollcall_jwks_fetch_seconds",
			Help: "How long fetches of token issuers' keys took, failed ones included.", Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5}}),
	}
	for _, result := range results {
		m.fetches.WithLabelValues(result.name)
	}
	m.fetches.WithLabelValues("unreachable")
	if to != nil {
		to.MustRegister(m.fetches, m.seconds)
	}
	return m
}

// results names what a fetch ended with; everything else is unreachable.
var results = []struct {
	err  error
	name string
}{{nil, "ok"}, {errStatus, "status"}, {errTooLarge, "too_large"}, {errTooMany, "too_many_keys"}, {errMalformed, "malformed"},
	{errEmpty, "no_usable_key"}, {errAddress, "address_refused"}}

func (m metrics) fetched(err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	for _, result := range results {
		if errors.Is(err, result.err) {
			m.fetches.WithLabelValues(result.name).Inc()
			return
		}
	}
	m.fetches.WithLabelValues("unreachable").Inc()
}
