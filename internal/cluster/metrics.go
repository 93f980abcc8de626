package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the node's.
type metrics struct {
	sent, received, unsent, malformed, overflowed, pulls, gaps, deaths prometheus.Counter

	messages, logBytes, snapshotBytes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, n *Node) *metrics {
	with := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: "rollcall_cluster_" + name + "_total", Help: help})
	}
	gauge := func(name, help string, value func() float64) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollcall_cluster_" + name, Help: help}, value)
	}
	gauge("missing_nodes", "Nodes whose rows are not, or not all, here.", func() float64 { return float64(len(n.Missing())) })
	gauge("live_peers", "Other nodes whose rows are here.", func() float64 {
		live := 0
		for _, p := range n.Peers() {
			if p.State == PeerLive {
				live++
			}
		}
		return float64(live)
	})
	gauge("bus_away", "1 while the bus is not connected.", func() float64 {
		if n.cfg.Bus.Status() != nil {
			return 1
		}
		return 0
	})
	if reg != nil {
		reg.MustRegister(missingNodes{n, prometheus.NewDesc("rollcall_cluster_node_missing", "1 for each node whose rows are not, or not all, here.",
			[]string{"node"}, nil)})
	}
	bytes := with.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_cluster_sent_bytes_total",
		Help: "Bytes of messages to all other nodes (log) and of answers to one (snapshot)."}, []string{"what"})
	return &metrics{
		messages:      counter("messages_sent", "Messages to all other nodes."),
		logBytes:      bytes.WithLabelValues("log"),
		snapshotBytes: bytes.WithLabelValues("snapshot"),

		sent:       counter("changes_sent", "Changes of rows of this node that were published."),
		received:   counter("changes_received", "Changes of rows of other nodes that were followed."),
		unsent:     counter("unsent", "Messages that the bus did not take."),
		malformed:  counter("malformed", "Messages that could not be read, or of another version."),
		overflowed: counter("overflowed", "Messages that were dropped because this node was too far behind."),
		pulls:      counter("pulls", "Rosters of other nodes that were begun to be pulled."),
		gaps:       counter("gaps", "Pulls because messages were lost."),
		deaths:     counter("deaths", "Other nodes that fell silent."),
	}
}

// missingNodes names the nodes that are missing.
type missingNodes struct {
	node *Node
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (m missingNodes) Describe(ch chan<- *prometheus.Desc) { ch <- m.desc }

// Collect implements prometheus.Collector.
func (m missingNodes) Collect(ch chan<- prometheus.Metric) {
	for _, name := range m.node.Missing() {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, 1, name)
	}
}
