//go:build unix

package chaos_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
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
	bus      *server.Server // nil where nodes form it themselves
	nodes    []*node
	streams  []*stream

	gate    sync.RWMutex      // held, nobody begins anything
	ends    map[string]string // of the sessions that have one, as recorded when it was looked at first
	checked int               // so many lives were over, and were looked at
}

// TestChaos runs a cluster through failures and checks all properties after each.
func TestChaos(t *testing.T) {
	seed, many := number(t, "ROLLCALL_CHAOS_SEED", int(time.Now().Unix()%1_000_000)), number(t, "ROLLCALL_CHAOS_SEEDS", 1)
	for i := range many {
		t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) { run(t, uint64(seed+i)) })
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

func run(t *testing.T, seed uint64) {
	t.Logf("repeat with ROLLCALL_CHAOS_SEED=%d; -artifacts keeps the history and the logs", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
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
		if only := os.Getenv("ROLLCALL_CHAOS_FAILURE"); f.takes > left || only != "" && only != f.name {
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
	for i, v := range w.violations {
		if i < 10 {
			t.Error(v)
		}
	}
	if len(w.lives) < clients {
		t.Errorf("only %d sessions: too few to prove anything", len(w.lives))
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	logs := t.ArtifactDir()
	log, err := os.Create(filepath.Join(logs, "history.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	w := &world{history: history{log: log}, ends: map[string]string{}, postgres: storetest.Postgres(t)}
	w.database = storetest.DatabaseName(t, w.postgres)
	w.bus = runBus(t, 0)
	t.Cleanup(func() { w.bus.Shutdown(); w.bus.WaitForShutdown() })
	at, _ := w.bus.Addr().(*net.TCPAddr)
	for i := range nodes {
		db := newProxy(t, func() (net.Conn, error) { return net.Dial("unix", filepath.Join(w.postgres.Dir(), ".s.PGSQL.5432")) })
		bus := newProxy(t, func() (net.Conn, error) { return net.Dial("tcp", at.String()) })
		n := newNode(t, config{
			Node:     fmt.Sprintf("srv-%02d", i+1),
			Database: fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", pgserver.User, db.Addr(), w.database),
			Cluster:  rollcall.ClusterConfig{NATS: "nats://" + bus.Addr().String()},
		}, logs)
		n.db, n.bus = db, bus
		w.nodes = append(w.nodes, n)
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// runBus runs a NATS server; port 0 picks one.
func runBus(t *testing.T, port int) *server.Server {
	t.Helper()
	bus, err := startBus(port)
	if err != nil {
		t.Fatal(err)
	}
	return bus
}

func startBus(port int) (*server.Server, error) {
	bus, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: cmp.Or(port, server.RANDOM_PORT), MaxPayload: 8 << 20, NoSigs: true})
	if err != nil {
		return nil, err
	}
	bus.Start()
	if !bus.ReadyForConnections(10 * time.Second) {
		return nil, fmt.Errorf("the NATS server does not take connections")
	}
	return bus, nil
}

// failure is something that goes wrong, and is over when happen returns.
type failure struct {
	name   string
	takes  time.Duration // about
	happen func(*world, *rand.Rand) error
}

var failures = []failure{
	{"kill -9 of each node in turn", 8 * time.Second, killEach},
	{"kill -9 of a node that stays away", 15 * time.Second, func(w *world, random *rand.Rand) error {
		return w.kill(w.anyNode(random), 14*time.Second)
	}},
	{"a node stands still for longer than the death timeout", 6 * time.Second, func(w *world, random *rand.Rand) error {
		return w.freeze(w.anyNode(random), between(random, 3500*time.Millisecond, 6*time.Second))
	}},
	{"a node stands still for longer than its lease", 14 * time.Second, func(w *world, random *rand.Rand) error {
		return w.freeze(w.anyNode(random), between(random, 12*time.Second, 14*time.Second))
	}},
	{"PostgreSQL is killed", 4 * time.Second, func(w *world, random *rand.Rand) error {
		return w.withoutPostgres(between(random, 0, 3*time.Second), w.postgres.Kill)
	}},
	{"PostgreSQL is restarted", 4 * time.Second, func(w *world, random *rand.Rand) error {
		return w.withoutPostgres(between(random, 0, 3*time.Second), w.postgres.Down)
	}},
	{"PostgreSQL stands still", 5 * time.Second, func(w *world, random *rand.Rand) error {
		defer w.suffer()()
		if err := w.postgres.Pause(context.Background()); err != nil {
			return err
		}
		time.Sleep(between(random, time.Second, 6*time.Second))
		w.postgres.Resume()
		return nil
	}},
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// suffer says that all nodes are in trouble.
func (w *world) suffer() (over func()) {
	var overs []func()
	for _, n := range w.nodes {
		overs = append(overs, n.suffer(trouble{}))
	}
	return func() {
		for _, over := range overs {
			over()
		}
	}
}

func killEach(w *world, random *rand.Rand) error {
	for _, i := range random.Perm(nodes) {
		if err := w.kill(w.nodes[i], between(random, 0, 3*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// kill kills a node and starts it again after a while.
func (w *world) kill(n *node, away time.Duration) error {
	over := n.suffer(trouble{killed: true})
	dead := w.of(n)
	at := time.Now()
	n.kill()
	w.say("%s was killed", n.Node)
	var watching sync.WaitGroup
	watching.Go(func() { w.watchDeath(n, at, dead, away < nodeLost) })
	time.Sleep(away)
	err := n.start()
	watching.Wait()
	over()
	w.say("%s is back: %v", n.Node, err)
	return err
}

func (w *world) freeze(n *node, d time.Duration) error {
	defer n.suffer(trouble{})()
	if err := n.freeze(); err != nil {
		return err
	}
	w.say("%s stands still", n.Node)
	time.Sleep(d)
	w.say("%s goes on", n.Node)
	return n.thaw()
}

func (w *world) withoutPostgres(d time.Duration, end func()) error {
	defer w.suffer()()
	end()
	w.say("PostgreSQL is gone")
	time.Sleep(d)
	err := w.postgres.Up(context.Background())
	w.say("PostgreSQL is back")
	return err
}

