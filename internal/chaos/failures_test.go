//go:build unix

package chaos_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcallhq/rollcall/internal/cluster"
)

// failure is something that goes wrong, and is over when happen returns.
type failure struct {
	name   string
	takes  time.Duration // about
	of     *bool         // with NATS within the nodes, or elsewhere; nil = either
	happen func(*world, *rand.Rand) error
}

var within, elsewhere = new(true), new(false)

var failures = []failure{
	{"kill -9 of each node in turn", 8 * time.Second, nil, killEach},
	{"kill -9 of a node that stays away", 15 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.kill(w.anyNode(random), 14*time.Second)
	}},
	{"a node stands still for longer than the death timeout", 6 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.freeze(w.anyNode(random), between(random, 3500*time.Millisecond, 6*time.Second))
	}},
	{"a node stands still for longer than its lease", 15 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.freeze(w.anyNode(random), between(random, 13*time.Second, 15*time.Second))
	}},
	{"PostgreSQL is killed", 4 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.withoutPostgres(between(random, 0, 3*time.Second), w.postgres.Kill)
	}},
	{"PostgreSQL is restarted", 4 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.withoutPostgres(between(random, 0, 3*time.Second), w.postgres.Down)
	}},
	{"PostgreSQL stands still", 5 * time.Second, nil, func(w *world, random *rand.Rand) error {
		defer w.suffer()()
		if err := w.postgres.Pause(context.Background()); err != nil {
			return err
		}
		time.Sleep(between(random, time.Second, 6*time.Second))
		w.postgres.Resume()
		return nil
	}},
	{"NATS is restarted", 3 * time.Second, elsewhere, restartBus},
	{"a node is cut off from NATS", 6 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.part(random, between(random, time.Second, 8*time.Second), true, false)
	}},
	{"a node is cut off from PostgreSQL", 5 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.part(random, between(random, time.Second, 8*time.Second), false, true)
	}},
	{"a node is cut off from PostgreSQL for longer than its lease", 15 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.part(random, between(random, 13*time.Second, 16*time.Second), false, true)
	}},
	{"a node is cut off from both", 6 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.part(random, between(random, time.Second, 8*time.Second), true, true)
	}},
	{"a node is cut off from both for longer than its lease", 15 * time.Second, nil, func(w *world, random *rand.Rand) error {
		return w.part(random, between(random, 13*time.Second, 16*time.Second), true, true)
	}},
	{"two nodes are cut off from each other", 6 * time.Second, within, partTwo},
	{"the clock of a node is off", 9 * time.Second, nil, moveClock},
	{"every node is restarted", 6 * time.Second, nil, rollingRestart},
}

// ways are those in which a link is blocked: there, back, or both.
var ways = [][2]bool{{true, true}, {true, false}, {false, true}}

// part cuts a node off, one way or both, and may end its connections when the network is back.
func (w *world) part(random *rand.Rand, d time.Duration, bus, db bool) error {
	n, ways := w.anyNode(random), ways[random.IntN(len(ways))]
	cut := random.IntN(2) == 0
	defer n.suffer(trouble{deaf: bus && db})()
	w.say("%s is cut off: bus %v, PostgreSQL %v, there and back %v; connections end: %v", n.Node, bus, db, ways, cut)
	var links []link
	if bus {
		links = append(links, n.bus...)
	}
	if db {
		links = append(links, link{proxy: n.db})
	}
	w.cut(links, ways, cut, d)
	w.say("%s is not cut off any more", n.Node)
	return nil
}

// cut blocks the ways of links for a while, and may end their connections when they are open again.
func (w *world) cut(links []link, ways [2]bool, end bool, d time.Duration) {
	for _, l := range links {
		l.block(ways)
	}
	time.Sleep(d)
	for _, l := range links {
		l.block([2]bool{})
		if end {
			l.cut()
		}
	}
}

// partTwo cuts one node off from another, while a third is connected to both.
func partTwo(w *world, random *rand.Rand) error {
	n, way, d := w.anyNode(random), ways[random.IntN(len(ways))], between(random, time.Second, 8*time.Second)
	from := w.nodes[(slices.Index(w.nodes, n)+1)%nodes]
	links := slices.DeleteFunc(slices.Clone(n.bus), func(l link) bool { return l.to != from })
	w.say("%s is cut off from %s: there and back %v", n.Node, from.Node, way)
	w.cut(links, way, random.IntN(2) == 0, d)
	w.say("%s is not cut off any more", n.Node)
	return nil
}

// moveClock restarts a node with a wall clock that is off by a minute, has everything settle so, and restarts it with the right one.
func moveClock(w *world, random *rand.Rand) error {
	n := w.anyNode(random)
	off := time.Minute
	if random.IntN(2) == 0 {
		off = -off
	}
	over := n.suffer(trouble{clock: true})
	defer over()
	for _, off := range []time.Duration{off, 0} {
		n.Clock = off
		if err := w.restart(n); err != nil {
			return err
		}
		w.say("the clock of %s is ahead by %s", n.Node, off)
		if off != 0 {
			time.Sleep(between(random, time.Second, 4*time.Second))
			w.settle("the clock of a node is off")
			time.Sleep(loaded)
		}
	}
	return nil
}

// startBus runs the NATS server.
func (w *world) startBus() error {
	host, port, err := net.SplitHostPort(w.busAddr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	w.bus, err = server.NewServer(&server.Options{Host: host, Port: number, MaxPayload: cluster.MaxMessage, NoSigs: true})
	if err != nil {
		return err
	}
	w.bus.Start()
	if !w.bus.ReadyForConnections(10 * time.Second) {
		return errors.New("the NATS server does not take connections")
	}
	return nil
}

func (w *world) stopBus() {
	w.bus.Shutdown()
	w.bus.WaitForShutdown()
}

func restartBus(w *world, random *rand.Rand) error {
	w.stopBus()
	w.say("NATS is gone")
	time.Sleep(between(random, 0, 5*time.Second))
	err := w.startBus()
	w.say("NATS is back")
	return err
}

func rollingRestart(w *world, random *rand.Rand) error {
	for _, i := range random.Perm(nodes) {
		if err := w.restart(w.nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) restart(n *node) error {
	defer n.suffer(trouble{drained: true})()
	w.say("%s drains", n.Node)
	if err := n.end(syscall.SIGTERM); err != nil {
		w.violated("drains", "%s: %v", n.Node, err)
	}
	w.say("%s is gone", n.Node)
	err := n.start()
	w.say("%s is back: %v", n.Node, err)
	return err
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// suffer says that all nodes are in trouble.
func (w *world) suffer() (over func()) {
	var overs []func()
	for _, n := range w.nodes {
		overs = append(overs, n.suffer(trouble{deaf: true}))
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
	over := n.suffer(trouble{killed: true, deaf: true})
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
	defer n.suffer(trouble{deaf: true})()
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
