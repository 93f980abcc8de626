//go:build unix

package chaos_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcallhq/rollcall/internal/pgserver"
	rollcall "github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

const (
	nodes   = 3
	clients = 60
	budget  = 24 * time.Second // of the failures of one seed, by their estimates
	loaded  = time.Second      // how long there is load before a failure, and after it
)

// world is a cluster with those who use it.
type world struct {
	history
	postgres *pgserver.Server
	database string
	bus      *server.Server // nil where nodes form it themselves, and while it does not run
	busAddr  string
	nodes    []*node
	streams  []*stream

	gate    sync.RWMutex // held, nobody begins anything
	holders []holder
	orphans map[string]bool   // host names of leases that may have been opened; guarded by mu
	ends    map[string]string // of the sessions that have one, as recorded when it was looked at first
	checked int               // so many lives were over, and were looked at
}

// TestChaos runs a cluster through failures and checks all properties after each. Without a seed, as in CI, it takes one by the clock.
func TestChaos(t *testing.T) {
	seed, many := number(t, "ROLLCALL_CHAOS_SEED", int(time.Now().Unix()%1_000_000)), number(t, "ROLLCALL_CHAOS_SEEDS", 1)
	for i := range many {
		t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) {
			for j, v := range run(t, uint64(seed+i)) {
				if j < 10 {
					t.Error(v)
				}
			}
		})
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// run returns the violations of the properties.
func run(t *testing.T, seed uint64) []string {
	random := rand.New(rand.NewPCG(seed, 0))
	embedded := random.IntN(3) == 0
	t.Logf("repeat with ROLLCALL_CHAOS_SEED=%d; -artifacts keeps the history and the logs; NATS within the nodes: %v", seed, embedded)
	w := newWorld(t, embedded)
	defer w.load(t, seed, clients)()
	for _, n := range w.nodes {
		for _, q := range []url.Values{
			{"applicationId": {testkit.Number}, "pageSize": {"50"}, "totals": {"true"}},
			{"applicationId": {testkit.Number}, "pageSize": {"5"}, "page": {"3"}, "totals": {"true"}},
			{"applicationId": {testkit.Number}, "searchString": {"lic-3"}, "totals": {"true"}},
			{"applicationId": {testkit.Second.String()}, "pageSize": {"10"}, "totals": {"true"}},
		} {
			s, stop := w.watch(n, q)
			defer stop()
			w.streams = append(w.streams, s)
		}
	}
	time.Sleep(2 * loaded)
	w.settle("the start")
	left := budget
	for _, i := range random.Perm(len(failures)) {
		f := failures[i]
		if only := os.Getenv("ROLLCALL_CHAOS_FAILURE"); f.takes > left || f.of != nil && *f.of != embedded || only != "" && only != f.name {
			continue
		}
		left -= f.takes
		time.Sleep(loaded)
		w.say("FAILURE %s", f.name)
		begun := time.Now()
		if err := f.happen(w, random); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		time.Sleep(loaded)
		w.settle(f.name)
		t.Logf("%s: %s", f.name, time.Since(begun).Round(time.Millisecond))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("%d sessions, %d disconnects, %d revocations", len(w.lives), len(w.disconnects), len(w.revocations))
	if len(w.lives) < clients {
		t.Errorf("only %d sessions: too few to prove anything", len(w.lives))
	}
	return slices.Clone(w.violations)
}

func newWorld(t *testing.T, embedded bool) *world {
	t.Helper()
	logs := t.ArtifactDir()
	log, err := os.Create(filepath.Join(logs, "history.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	w := &world{history: history{log: log}, ends: map[string]string{}, orphans: map[string]bool{}, postgres: storetest.Postgres(t)}
	w.database = storetest.DatabaseName(t, w.postgres)
	for i := range nodes {
		db := newProxy(t, func() (net.Conn, error) { return net.Dial("unix", filepath.Join(w.postgres.Dir(), ".s.PGSQL.5432")) })
		n := newNode(t, config{
			Node:     fmt.Sprintf("srv-%02d", i+1),
			Database: fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgserver.User, db.Addr(), w.database),
		}, logs)
		n.db = db
		w.nodes = append(w.nodes, n)
	}
	if embedded {
		w.mesh(t)
	} else {
		w.busAddr = testkit.FreeAddress(t)
		if err := w.startBus(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.stopBus)
		for _, n := range w.nodes {
			p := newProxy(t, func() (net.Conn, error) { return net.Dial("tcp", w.busAddr) })
			n.bus = []link{{proxy: p}}
			n.Cluster = rollcall.ClusterConfig{NATS: "nats://" + p.Addr().String()}
		}
	}
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// mesh has every node connect to each other one through a proxy of its own, and by no other way: what they tell each other of
// themselves leads nowhere.
func (w *world) mesh(t *testing.T) {
	t.Helper()
	for _, n := range w.nodes {
		n.Cluster = rollcall.ClusterConfig{Listen: testkit.FreeAddress(t), Secret: "sixteen-bytes-at-least", Advertise: testkit.FreeAddress(t)}
	}
	for _, from := range w.nodes {
		var peers []string
		for _, to := range w.nodes {
			if from == to {
				continue
			}
			p := newProxy(t, func() (net.Conn, error) { return net.Dial("tcp", to.Cluster.Listen) })
			peers = append(peers, p.Addr().String())
			from.bus = append(from.bus, link{proxy: p, to: to})
			to.bus = append(to.bus, link{proxy: p, to: from, incoming: true})
		}
		from.Cluster.Peers = strings.Join(peers, ",")
	}
}
