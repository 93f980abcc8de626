package store

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the recorder's.
type metrics struct {
	batch, seconds    prometheus.Histogram
	failures, dropped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, status func() RecorderStatus) metrics {
	with := promauto.With(reg)
	gauge := func(name, help string, value func(RecorderStatus) float64) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollcall_store_" + name, Help: help}, func() float64 { return value(status()) })
	}
	gauge("queue_records", "Session records that wait to be written.", func(s RecorderStatus) float64 { return float64(s.Queued) })
	gauge("queue_bytes", "Estimated memory of the record queue.", func(s RecorderStatus) float64 { return float64(s.Bytes) })
	gauge("queue_oldest_seconds", "How long the oldest record has waited.",
		func(s RecorderStatus) float64 { return s.Oldest.Seconds() })
	gauge("away", "1 while the database does not answer and records wait in memory.", func(s RecorderStatus) float64 {
		if s.Away {
			return 1
		}
		return 0
	})
	return metrics{
		batch: with.NewHistogram(prometheus.HistogramOpts{Name: "rollcall_store_batch_records",
			Help: "Records in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
		seconds: with.NewHistogram(prometheus.HistogramOpts{Name: "rollcall_store_write_seconds",
			Help: "Duration of a transaction of records, failed ones included.", Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12)}),
		failures: with.NewCounter(prometheus.CounterOpts{Name: "rollcall_store_write_failures_total",
			Help: "Transactions of records that failed for the database's sake and are tried again."}),
		dropped: with.NewCounter(prometheus.CounterOpts{Name: "rollcall_store_records_dropped_total",
			Help: "Records that the database refused and that were given up."}),
	}
}
