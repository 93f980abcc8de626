package cluster

import (
	"context"
	"errors"
	"sync"
)

// Bus carries messages between the nodes of one cluster. It may lose, repeat, delay and reorder them; it does not change them. A
// message is at most MaxMessage bytes long and must not be written to once it was handed over. All methods are safe for concurrent
// use, after Start.
type Bus interface {
	// Start makes the node take part until Stop, once. heard gets the broadcasts of all nodes, this one included, one at a time; it
	// must not block, and keeps the message. asked answers a request to this node, on a goroutine of its own; nil is no answer.
	Start(node string, heard func(msg []byte), asked func(ctx context.Context, msg []byte) []byte) error
	// Broadcast hands a message over for all nodes; an error says that it will not arrive.
	Broadcast(msg []byte) error
	// Request asks a node, and waits for its answer until ctx ends; ErrNoNode when the bus knows at once that none listens.
	Request(ctx context.Context, node string, msg []byte) ([]byte, error)
	// Status returns nil while the bus is connected, as far as that is known, else why it is not.
	Status() error
	// Stop delivers what was handed over, as far as that takes no long time, and returns when heard and asked have returned for the
	// last time. Idempotent.
	Stop()
}

// MaxMessage is the largest message in bytes.
const MaxMessage = 1 << 20

// Errors of a Bus.
var (
	ErrNoNode  = errors.New("no such node is connected")
	ErrStopped = errors.New("the bus has stopped")
)

// Memory is a bus within the process: for tests, and for a node that is alone. The zero value has no nodes. It loses nothing and
// keeps the order.
type Memory struct {
	mu    sync.RWMutex
	nodes map[*memoryBus]struct{}
}

// Bus returns the bus for one node.
func (m *Memory) Bus() Bus { return &memoryBus{hub: m} }

// list returns the buses of a node, or of all when node is "", with work begun at each; nil when from has stopped.
func (m *Memory) list(from *memoryBus, node string) []*memoryBus {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, there := m.nodes[from]; !there {
		return nil
	}
	nodes := make([]*memoryBus, 0, len(m.nodes))
	for b := range m.nodes {
		if node == "" || b.node == node {
			b.work.Add(1)
			nodes = append(nodes, b)
		}
	}
	return nodes
}

type memoryBus struct {
	hub   *Memory
	node  string
	asked func(ctx context.Context, msg []byte) []byte
	ctx   context.Context // of requests under way, ended by Stop
	end   context.CancelFunc
	work  sync.WaitGroup // calls of heard and asked; grows only while the bus is in the hub

	mu    sync.Mutex // serializes heard
	heard func(msg []byte)
}

// Start is Bus.Start.
func (b *memoryBus) Start(node string, heard func([]byte), asked func(context.Context, []byte) []byte) error {
	b.node, b.heard, b.asked = node, heard, asked
	b.ctx, b.end = context.WithCancel(context.Background())
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if b.hub.nodes == nil {
		b.hub.nodes = map[*memoryBus]struct{}{}
	}
	b.hub.nodes[b] = struct{}{}
	return nil
}

// Broadcast is Bus.Broadcast.
func (b *memoryBus) Broadcast(msg []byte) error {
	nodes := b.hub.list(b, "")
	for _, to := range nodes {
		to.hear(msg)
	}
	if nodes == nil {
		return ErrStopped
	}
	return nil
}

func (b *memoryBus) hear(msg []byte) {
	defer b.work.Done()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard(msg)
}

// Request is Bus.Request.
func (b *memoryBus) Request(ctx context.Context, node string, msg []byte) ([]byte, error) {
	nodes := b.hub.list(b, node)
	switch {
	case nodes == nil:
		return nil, ErrStopped
	case len(nodes) == 0:
		return nil, ErrNoNode
	}
	answers := make(chan []byte, len(nodes))
	for _, to := range nodes {
		to.work.Go(func() {
			defer to.work.Done()
			if answer := to.asked(to.ctx, msg); answer != nil {
				answers <- answer
			}
		})
	}
	select {
	case answer := <-answers:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.ctx.Done():
		return nil, ErrStopped
	}
}

// Status is Bus.Status.
func (b *memoryBus) Status() error { return nil }

// Stop is Bus.Stop.
func (b *memoryBus) Stop() {
	b.hub.mu.Lock()
	delete(b.hub.nodes, b)
	b.hub.mu.Unlock()
	if b.end != nil {
		b.end()
	}
	b.work.Wait()
}
