// Package cluster joins nodes: membership, the rosters of the other nodes, and commands between nodes. It owns the bus and which
// peer is believed to live; the rows themselves are the registry's.
//
// It promises: once the bus heals, every registry holds exactly the rows that each living node owns, after any loss, duplication,
// reordering or delay of messages; a peer's rows come, and change after a gap, in one step (registry.Swap), and only from a
// snapshot that was pulled whole and brought up to date; what an earlier incarnation says is never heard. A peer that is silent
// for Timing.Dead, or says goodbye, loses its rows as one event (G5); a silence during which this process itself stood still does
// not count. A peer that was away is seen again only after it has applied the configuration that this node had (G4). When a
// command has been answered, what it changed at its owner is in this node's registry. Every call ends within its context or
// Timing.Command; Missing names the nodes whose rows are not, or not all, here. Nothing is durable, nothing is ordered between
// two nodes, and memory for a peer that sends faster than it can be followed is bounded: what does not fit is pulled again.
//
// A Bus carries the messages: NATS, a NATS server within the process, or memory (package clustertest holds all to one contract).
// All methods are safe for concurrent use.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// Config configures New.
type Config struct {
	Node        string // required; 1 to 64 letters, digits, '.', '_' or '-'
	Incarnation int64  // from store.Nodes.Claim; more than 0
	Registry    *registry.Registry
	Bus         Bus   // required; Run starts and stops it
	Owner       Owner // required; does what other nodes ask of this one
	// Version returns the version of the configuration that this node has applied to its sessions; nil = always 0. It must not block.
	Version func() int64
	// Lost is told which sessions of this node another node has adopted; their rows are the other's already. nil = nobody.
	Lost    func([]registry.Row)
	Log     *slog.Logger          // nil = discard
	Metrics prometheus.Registerer // nil = none
	Timing  Timing
}

// Timing has the durations of membership; zero values give the defaults.
type Timing struct {
	Beat    time.Duration // between two heartbeats; 1 s
	Dead    time.Duration // the silence after which a peer loses its rows; 3 s
	Batch   time.Duration // between two batches under load; 20 ms
	Gap     time.Duration // how long a gap may wait for what is late before the roster is pulled again; 100 ms
	Pull    time.Duration // how long one page of a snapshot may take before it is asked for again; 2 s
	Command time.Duration // how long a command may take; 3 s
	Missing time.Duration // how long a peer that fell silent counts as missing; 15 s
	Forget  time.Duration // after which a peer that is gone is forgotten; 10 min
}

func (t *Timing) defaults() {
	t.Beat = cmp.Or(t.Beat, time.Second)
	t.Dead = cmp.Or(t.Dead, 3*time.Second)
	t.Batch = cmp.Or(t.Batch, 20*time.Millisecond)
	t.Gap = cmp.Or(t.Gap, 100*time.Millisecond)
	t.Pull = cmp.Or(t.Pull, 2*time.Second)
	t.Command = cmp.Or(t.Command, 3*time.Second)
	t.Missing = cmp.Or(t.Missing, 15*time.Second)
	t.Forget = cmp.Or(t.Forget, 10*time.Minute)
}

// Node is this node's part in the cluster.
type Node struct {
	cfg     Config
	log     *slog.Logger
	timing  Timing
	metrics *metrics

	flushes chan chan position // asks the publisher to publish what there is and say where it is
	hello   chan bool          // asks the publisher for a heartbeat; true = that asks for those of the others
	stopped chan struct{}      // closed when the publisher has stopped

	mu     sync.Mutex
	at     position // of the last batch that was handed to the bus
	peers  map[string]*peer
	leases map[string]int64 // of Expect
	echo   time.Time        // when this node heard its own heartbeat
	rival  int64            // the incarnation of another process under this node's name, 0 = none
	ctx    context.Context  // of the peers; nil before Run and once it ends
	work   sync.WaitGroup   // the peers' goroutines; grows only while ctx is not nil
}

// position is a place in a node's log.
type position struct {
	incarnation int64
	sequence    uint64
}

// New returns a node that takes part once it runs.
func New(cfg Config) (*Node, error) {
	if cfg.Node == "" || cfg.Incarnation <= 0 || cfg.Registry == nil || cfg.Bus == nil || cfg.Owner == nil {
		return nil, errors.New("cluster: Node, Incarnation, Registry, Bus and Owner are required")
	}
	cfg.Timing.defaults()
	if cfg.Version == nil {
		cfg.Version = func() int64 { return 0 }
	}
	if cfg.Lost == nil {
		cfg.Lost = func([]registry.Row) {}
	}
	n := &Node{
		cfg: cfg, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), timing: cfg.Timing,
		flushes: make(chan chan position), hello: make(chan bool, 1), stopped: make(chan struct{}),
		at: position{incarnation: cfg.Incarnation}, peers: map[string]*peer{},
	}
	n.metrics = newMetrics(cfg.Metrics, n)
	return n, nil
}

// Run takes part until ctx ends, then says goodbye and returns when all has stopped. It may be called once.
func (n *Node) Run(ctx context.Context) error {
	ready := n.cfg.Registry.Feed()
	peers, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	n.mu.Lock()
	n.ctx, n.echo = peers, time.Now()
	n.mu.Unlock()
	err := n.cfg.Bus.Start(n.cfg.Node, n.heard, n.asked)
	if err == nil {
		n.publish(ctx, ready)
	}
	n.mu.Lock()
	n.ctx = nil
	n.mu.Unlock()
	end()
	close(n.stopped)
	n.cfg.Bus.Stop()
	n.work.Wait()
	return err
}

// Reincarnate goes on under a new incarnation: the earlier one lost its lease. Others take this node's roster anew.
func (n *Node) Reincarnate(incarnation int64) {
	n.mu.Lock()
	n.at = position{incarnation: incarnation}
	n.rival = 0
	n.mu.Unlock()
	n.sayHello(true)
}

// Expect tells which nodes hold a lease in SQL, by name, with their incarnations: one that holds it and whose roster is not here is
// missing. Each call replaces what the one before said; nil while SQL is away.
func (n *Node) Expect(leases map[string]int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases = leases
}

// Peer is what this node knows of another.
type Peer struct {
	Name        string
	Incarnation int64
	State       PeerState
	Version     int64         // of the configuration, as its last heartbeat said
	Silent      time.Duration // since anything was heard
}

// PeerState says how far a peer's roster is here.
type PeerState string

// The states of a peer.
const (
	PeerLive    PeerState = "live"    // complete
	PeerPulling PeerState = "pulling" // on its way
	PeerDead    PeerState = "dead"    // silent; its rows are gone
	PeerLeft    PeerState = "left"    // it said goodbye
)

// Peers returns the peers that are not forgotten, by name.
func (n *Node) Peers() []Peer {
	now := time.Now()
	var peers []Peer
	for _, p := range n.everyPeer() {
		peers = append(peers, p.describe(now))
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return peers
}

// pulling tells whether any peer's roster is on its way.
func (n *Node) pulling() bool {
	now := time.Now()
	return slices.ContainsFunc(n.everyPeer(), func(p *peer) bool { return p.describe(now).State == PeerPulling })
}

func (n *Node) everyPeer() []*peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	peers := make([]*peer, 0, len(n.peers))
	for _, p := range n.peers {
		peers = append(peers, p)
	}
	return peers
}

// Missing returns the names of the nodes that have sessions, or may have, of which not all rows are here: those that hold a lease
// (Expect), are being pulled, or fell silent less than Timing.Missing ago. Answers are partial while there are any.
func (n *Node) Missing() []string {
	now := time.Now()
	n.mu.Lock()
	leases := n.leases
	n.mu.Unlock()
	missing := []string{}
	whole := map[string]bool{n.cfg.Node: true}
	for _, p := range n.everyPeer() {
		d := p.describe(now)
		lease, leased := leases[d.Name]
		switch {
		case (d.State == PeerLive || d.State == PeerLeft) && lease <= d.Incarnation:
			whole[d.Name] = true
		case d.State == PeerPulling, leased, d.Silent < n.timing.Missing:
			missing = append(missing, d.Name)
		}
	}
	for name := range leases {
		if !whole[name] {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// Newest returns the newest version of the configuration that any living peer has applied, and which; 0 when there is none.
func (n *Node) Newest() (version int64, node string) {
	for _, p := range n.Peers() {
		if (p.State == PeerLive || p.State == PeerPulling) && p.Version > version {
			version, node = p.Version, p.Name
		}
	}
	return version, node
}

// Trouble returns why this node is not wholly in the cluster, for readiness; nil when it is.
func (n *Node) Trouble() error {
	n.mu.Lock()
	rival := n.rival
	n.mu.Unlock()
	if rival != 0 {
		return errors.New("another process has taken this node's name")
	}
	return n.cfg.Bus.Status()
}

// heard takes a broadcast. It reads no more than the header, so that the bus never waits.
func (n *Node) heard(msg []byte) {
	r := newReader(msg[:min(len(msg), maxHeader)])
	h := r.header()
	if r.failed {
		n.metrics.malformed.Inc()
		return
	}
	now := time.Now()
	if h.node == n.cfg.Node {
		n.heardOwn(h, now)
		return
	}
	if p := n.peer(h); p != nil {
		p.push(h, msg, now)
	}
}

func (n *Node) heardOwn(h header, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case h.incarnation == n.at.incarnation:
		n.echo = now
	case h.incarnation > n.at.incarnation && h.kind != kindGoodbye && h.incarnation != n.rival:
		n.rival = h.incarnation
		n.log.Warn("another process has taken this node's name", "incarnation", h.incarnation)
	}
}

// maxHeader is more than the bytes of a header; a node's name has at most 64.
const maxHeader = 160

// maxPeers bounds what a broken or hostile member of the bus can make this node keep.
const maxPeers = 1000

// peer returns the peer of a message, as a new one when it is not known; nil when the message is of no use.
func (n *Node) peer(h header) *peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[h.node]
	if p != nil || n.ctx == nil || h.kind == kindGoodbye || len(n.peers) >= maxPeers {
		return p
	}
	p = newPeer(n, h.node)
	n.peers[h.node] = p
	ctx := n.ctx
	n.work.Go(func() { p.run(ctx) })
	return p
}

// forget takes a peer out that nobody has heard of for long; false when it was heard of at this moment.
func (n *Node) forget(p *peer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.waiting() {
		return false
	}
	delete(n.peers, p.name)
	return true
}

// behind tells whether this node does not keep up with its own bus: it is connected, and yet has not heard its own heartbeat. A
// silence of others means nothing then.
func (n *Node) behind(now time.Time) bool {
	n.mu.Lock()
	late := now.Sub(n.echo) > n.timing.Dead/2
	n.mu.Unlock()
	return late && n.cfg.Bus.Status() == nil
}

func (n *Node) position() position {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at
}

// Owner does at its node what other nodes ask for.
type Owner interface {
	// Disconnect ends a session of this node; false when it has none of that id in the application.
	Disconnect(ctx context.Context, app api.ApplicationID, id api.ServerID, by, reason string) bool
	// Applied brings the application to the epoch, at once if need be, and returns how many sessions that has ended here: asked again,
	// the same number. What note says is between the callers of Node.Applied and this.
	Applied(ctx context.Context, app api.ApplicationID, epoch uint64, note []byte) (int, error)
	// Ask answers anything else.
	Ask(ctx context.Context, topic string, payload []byte) ([]byte, error)
}
