// Package limit is how every limit of a node looks in the metrics: what it is set to, and how often it refused something. It owns the
// two names of series and their label, the limit's name, which is the flag's where the limit has one (docs/limits.md). It enforces
// nothing: a limit belongs to the package that refuses.
package limit

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Register shows a limit in reg and returns the counter of its refusals, which starts at 0 so that rates work from the first one.
// Durations are in seconds; a value of 0 is "unlimited" and shown as +Inf, so that a ratio to it never alarms. A nil reg shows
// nothing. Registering a name twice panics.
func Register(reg prometheus.Registerer, name string, value float64) prometheus.Counter {
	if value == 0 {
		value = math.Inf(1)
	}
	label := prometheus.Labels{"limit": name}
	refused := prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_limit_refusals_total",
		Help: "What was refused or ended because of a limit, by limit.", ConstLabels: label})
	set := prometheus.NewGauge(prometheus.GaugeOpts{Name: "rollcall_limit",
		Help: "What a limit is set to, by limit; durations in seconds.", ConstLabels: label})
	set.Set(value)
	if reg != nil {
		reg.MustRegister(refused, set)
	}
	return refused
}
