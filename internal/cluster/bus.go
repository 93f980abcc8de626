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
	nodes map[string]*memoryBus
}

// Bus returns the bus for one node.
func (m *Memory) Bus() Bus { return &memoryBus{hub: m} }

type memoryBus struct {
	hub   *Memory
	node  string
	asked func(ctx context.Context, msg []byte) []byte
	ctx   context.Context // of requests under way, ended by Stop
	end   context.CancelFunc
	work  sync.WaitGroup // calls of asked; grows only while the bus is in the hub

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
		b.hub.nodes = map[string]*memoryBus{}
	}
	b.hub.nodes[node] = b
	return nil
}

// Broadcast is Bus.Broadcast.
func (b *memoryBus) Broadcast(msg []byte) error {
	b.hub.mu.RLock()
	if b.hub.nodes[b.node] != b {
		b.hub.mu.RUnlock()
		return ErrStopped
	}
	nodes := make([]*memoryBus, 0, len(b.hub.nodes))
	for _, to := range b.hub.nodes {
		nodes = append(nodes, to)
	}
	b.hub.mu.RUnlock()
	for _, to := range nodes {
		to.hear(msg)
	}
	return nil
}

func (b *memoryBus) hear(msg []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard != nil {
		b.heard(msg)
	}
}

// Request is Bus.Request.
func (b *memoryBus) Request(ctx context.Context, node string, msg []byte) ([]byte, error) {
	b.hub.mu.RLock()
	to := b.hub.nodes[node]
	stopped := b.hub.nodes[b.node] != b
	if stopped || to == nil {
		b.hub.mu.RUnlock()
		if stopped {
			return nil, ErrStopped
		}
		return nil, ErrNoNode
	}
	answers := make(chan []byte, 1)
	to.work.Go(func() {
		if answer := to.asked(to.ctx, msg); answer != nil {
			answers <- answer
		}
	})
	b.hub.mu.RUnlock()
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
	if b.hub.nodes[b.node] == b {
		delete(b.hub.nodes, b.node)
	}
	b.hub.mu.Unlock()
	if b.end != nil {
		b.end()
	}
	b.mu.Lock()
	b.heard = nil
	b.mu.Unlock()
	b.work.Wait()
}
