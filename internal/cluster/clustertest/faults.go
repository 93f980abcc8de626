package clustertest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/cluster"
)

// Faults loses, repeats, delays and reorders what its buses carry, and keeps nodes apart. The zero value does nothing of the kind.
type Faults struct {
	mu     sync.Mutex
	random *rand.Rand
	rates  Rates
	cut    map[[2]string]bool  // from, to
	held   map[string][]func() // by node that is held: what it would have heard or said, in order
	nodes  map[string]bool
}

// Rates say how often something happens to a message; 1 is always.
type Rates struct {
	Loss, Repeat, Delay float64
	MaxDelay            time.Duration // of those that are delayed: others overtake them
}

// NewFaults returns faults that depend on the seed alone, as far as the order of messages does.
func NewFaults(seed uint64) *Faults {
	return &Faults{random: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]string]bool{}, held: map[string][]func(){}, nodes: map[string]bool{}}
}

// Set changes how the buses err.
func (f *Faults) Set(rates Rates) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rates = rates
}

// Cut keeps messages from one node from reaching another, or no more so.
func (f *Faults) Cut(from, to string, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[[2]string{from, to}] = cut
}

// join ends what Cut said of a node of that name.
func (f *Faults) join(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.cut, func(pair [2]string, _ bool) bool { return slices.Contains(pair[:], node) })
}

// Hold lets a node hear and say nothing, as if its process stood still; what it would have heard and said waits for Release.
func (f *Faults) Hold(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[node] = true
}

// Release ends Hold. What was held comes at once, and perhaps after what is newer.
func (f *Faults) Release(node string) {
	f.mu.Lock()
	held := f.held[node]
	f.held[node], f.nodes[node] = nil, false
	f.mu.Unlock()
	for _, do := range held {
		do()
	}
}

// Heal ends all that is wrong.
func (f *Faults) Heal() {
	f.mu.Lock()
	f.rates = Rates{}
	clear(f.cut)
	nodes := make([]string, 0, len(f.nodes))
	for node := range f.nodes {
		nodes = append(nodes, node)
	}
	f.mu.Unlock()
	for _, node := range nodes {
		f.Release(node)
	}
}

// hold keeps what a node would do, when it is held.
func (f *Faults) hold(node string, do func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nodes[node] {
		f.held[node] = append(f.held[node], do)
	}
	return f.nodes[node]
}

// fate returns after which delays a message from one node to another arrives: once for each.
func (f *Faults) fate(from, to string) (delays []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut[[2]string{from, to}] {
		return nil
	}
	copies := 1
	if from != to { // what a node tells itself only tells that it hears
		if f.chance(f.rates.Loss) {
			copies--
		}
		if f.chance(f.rates.Repeat) {
			copies++
		}
	}
	for range copies {
		var delay time.Duration
		if f.chance(f.rates.Delay) {
			delay = time.Duration(f.random.Int64N(int64(f.rates.MaxDelay) + 1))
		}
		delays = append(delays, delay)
	}
	return delays
}

func (f *Faults) chance(rate float64) bool { return rate > 0 && f.random.Float64() < rate }

// Bus returns a node's bus that errs.
func (f *Faults) Bus(node string, bus cluster.Bus) cluster.Bus {
	return &faultyBus{Bus: bus, faults: f, node: node}
}

type faultyBus struct {
	cluster.Bus
	faults *Faults
	node   string
	heard  func(msg []byte)

	late    sync.WaitGroup // messages that are delayed; grows only while stopped is false
	mu      sync.Mutex     // serializes heard
	stopped bool
}

// Start is Bus.Start.
func (b *faultyBus) Start(node string, heard func([]byte), asked func(context.Context, []byte) []byte) error {
	b.heard = heard
	return b.Bus.Start(node, b.receive, func(ctx context.Context, msg []byte) []byte {
		from, msg := open(msg)
		if len(b.faults.fate(from, node)) == 0 {
			return nil
		}
		var answer []byte
		for _, delay := range b.faults.fate(node, from) { // of the answer; one that is repeated is asked for twice
			time.Sleep(delay)
			answer = asked(ctx, msg)
		}
		if b.faults.hold(node, func() {}) {
			return nil
		}
		return answer
	})
}

// seal puts the sender before a message, which the inner bus need not know.
func (b *faultyBus) seal(msg []byte) []byte {
	return append(append([]byte{byte(len(b.node))}, b.node...), msg...)
}

func open(msg []byte) (from string, inner []byte) {
	return string(msg[1 : 1+msg[0]]), msg[1+msg[0]:]
}

func (b *faultyBus) receive(msg []byte) {
	from, msg := open(msg)
	for _, delay := range b.faults.fate(from, b.node) {
		if delay == 0 {
			b.deliver(msg)
			continue
		}
		b.mu.Lock()
		if !b.stopped {
			b.late.Go(func() {
				time.Sleep(delay)
				b.deliver(msg)
			})
		}
		b.mu.Unlock()
	}
}

func (b *faultyBus) deliver(msg []byte) {
	if b.faults.hold(b.node, func() { b.deliver(msg) }) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped {
		b.heard(msg)
	}
}

// Broadcast is Bus.Broadcast.
func (b *faultyBus) Broadcast(msg []byte) error {
	if b.faults.hold(b.node, func() { _ = b.Bus.Broadcast(b.seal(msg)) }) {
		return nil
	}
	return b.Bus.Broadcast(b.seal(msg))
}

// Request is Bus.Request.
func (b *faultyBus) Request(ctx context.Context, node string, msg []byte) ([]byte, error) {
	if b.faults.hold(b.node, func() {}) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b.Bus.Request(ctx, node, b.seal(msg))
}

// Stop is Bus.Stop.
func (b *faultyBus) Stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.Bus.Stop()
	b.late.Wait()
}
