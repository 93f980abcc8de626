package clustertest

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/internal/cluster"
)

// Buses makes the buses of one cluster: each call of next returns that of another node.
type Buses func(t testing.TB) (next func() cluster.Bus)

type test struct {
	name string
	run  func(*env)
}

var tests = []test{
	{"a broadcast reaches every node in order", testBroadcast},
	{"a request is answered by its node", testRequest},
	{"a request to nobody fails", testNobody},
	{"a request ends with its context", testRequestEnds},
	{"nothing is heard after stop", testStop},
	{"large messages", testLarge},
	{"nodes follow each other", testFollow},
	{"a node that joins has all rows", testJoin},
	{"goodbye takes the rows at once", testGoodbye},
	{"a node that dies loses its rows, and rejoins", testDeath},
	{"a node that is held up keeps its view", testHeldUp},
	{"a partition heals", testPartition},
	{"one-way loss is noticed", testOneWay},
	{"messages that are lost, repeated, late and out of order", testFaults},
	{"an earlier incarnation is not heard", testStale},
	{"rows are seen again after what was missed is applied", testReturns},
	{"disconnect reaches the owner", testDisconnect},
	{"revoke-all waits for every node", testApplied},
	{"anything can be asked", testAsk},
	{"all can be asked", testAskAll},
	{"missing nodes are named", testMissing},
	{"an adopted session is given up", testAdoption},
	{"reincarnation keeps the rows", testReincarnate},
}

// Run holds an implementation of cluster.Bus to the contract, in real time.
func Run(t *testing.T, buses Buses) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(newEnv(t, buses, Real)) })
	}
}

// RunInBubble is Run in synthetic time and with the timing of production, for a bus without sockets.
func RunInBubble(t *testing.T, buses Buses) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(newEnv(t, buses, production)) })
		})
	}
}

var production = cluster.Timing{Beat: time.Second, Dead: 3 * time.Second, Gap: 100 * time.Millisecond, Pull: 2 * time.Second,
	Command: 3 * time.Second, Missing: 15 * time.Second}

// env is a cluster in a test.
type env struct {
	*testing.T
	timing  cluster.Timing
	next    func() cluster.Bus
	faults  *Faults
	members []*Member
}

func newEnv(t *testing.T, buses Buses, timing cluster.Timing) *env {
	e := &env{T: t, timing: timing, next: buses(t), faults: NewFaults(1)}
	t.Cleanup(func() {
		e.faults.Heal()
		for _, m := range e.members {
			m.Stop()
		}
	})
	return e
}

// start adds members.
func (e *env) start(names ...string) []*Member {
	for _, name := range names {
		e.members = append(e.members, Start(e, name, int64(1+len(e.members)), e.next(), e.faults, e.timing))
	}
	return slices.Clone(e.members[len(e.members)-len(names):])
}

// gone takes a member out that has stopped.
func (e *env) gone(m *Member) {
	e.members = slices.DeleteFunc(e.members, func(o *Member) bool { return o == m })
}

// converge waits until all members show the same.
func (e *env) converge(what string) {
	e.Helper()
	Within(e, 10*e.timing.Dead, what, func() string { return Differ(e.members...) })
}

// rows waits until the members have so many rows.
func (e *env) rows(what string, want ...int) {
	e.Helper()
	Within(e, 4*e.timing.Dead, what, func() string {
		for i, n := range want {
			if got := e.members[i].Registry.Stats().Sessions; got != n {
				return fmt.Sprintf("%s has %d rows, want %d", e.members[i].Name, got, n)
			}
		}
		return ""
	})
}
