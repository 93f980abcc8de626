package cluster

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/registry"
)

// TestMissingNodesAreNamed: the metrics say which nodes are missing, and no longer once they are not.
func TestMissingNodesAreNamed(t *testing.T) {
	var hub Memory
	reg := prometheus.NewRegistry()
	n, err := New(Config{Node: "a", Incarnation: 1, Registry: registry.New(registry.Config{Node: "a"}), Bus: hub.Bus(), Owner: idle{}, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		leases map[string]int64
		want   []string
	}{
		{nil, nil},
		{map[string]int64{"a": 1, "srv-02": 2, "srv-03": 3}, []string{"srv-02", "srv-03"}},
		{map[string]int64{"a": 1, "srv-03": 3}, []string{"srv-03"}},
		{map[string]int64{"a": 1}, nil},
	} {
		n.Expect(c.leases)
		named, count := missingOf(t, reg)
		if !slices.Equal(named, c.want) || count != len(c.want) {
			t.Errorf("with %v: %v, %d", c.leases, named, count)
		}
	}
}

func missingOf(t *testing.T, reg *prometheus.Registry) (named []string, count int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "rollcall_cluster_node_missing":
				named = append(named, m.GetLabel()[0].GetValue())
			case "rollcall_cluster_missing_nodes":
				count = int(m.GetGauge().GetValue())
			}
		}
	}
	return named, count
}
