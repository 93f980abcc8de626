package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/cluster/clustertest"
)

const secret = "a secret of the cluster $2a$"

// TestEmbedded: each bus is a server of its own, and they find each other.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	clustertest.Run(t, func(t testing.TB) func() cluster.Bus {
		var peers []string
		return func() cluster.Bus {
			n := len(peers)
			b, err := cluster.NewEmbedded(t.Context(), cluster.EmbeddedConfig{Listen: "127.0.0.1:0", Peers: strings.Join(peers, ","), Cluster: "test",
				Node: fmt.Sprintf("node-%d", n), Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			peers = append(peers, b.Addr())
			return b
		}
	})
}

// natsServer runs a NATS server as an operator would.
func natsServer(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.NoLog, opts.NoSigs = "127.0.0.1", true, true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not listen")
	}
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	return ns
}

// TestNATS: all buses are connections to one server.
func TestNATS(t *testing.T) {
	t.Parallel()
	clustertest.Run(t, func(t testing.TB) func() cluster.Bus {
		ns := natsServer(t, &server.Options{Username: "rollcall", Password: "secret"})
		url := "nats://rollcall:secret@" + ns.Addr().String()
		return func() cluster.Bus {
			b, err := cluster.NewNATS(cluster.NATSConfig{URLs: url, Cluster: "test", Node: "n"})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	})
}
