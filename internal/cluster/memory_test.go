package cluster_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	clustertest.RunInBubble(t, func(testing.TB) func() cluster.Bus {
		var hub cluster.Memory
		return hub.Bus
	})
}
