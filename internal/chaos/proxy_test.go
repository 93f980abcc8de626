//go:build unix

package chaos_test

import (
	"net"
	"sync"
	"testing"
)

// Directions in which a proxy forwards.
const (
	there = 0 // what the node says
	back  = 1 // what the node hears
)

// proxy stands between a node and what it connects to. What it does not forward it keeps, as a network does that will come back.
type proxy struct {
	net.Listener
	dial func() (net.Conn, error)
	work sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // of what follows
	blocked [2]bool
	conns   map[net.Conn]bool
	closed  bool
}

func newProxy(t *testing.T, dial func() (net.Conn, error)) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, dial: dial, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	p.work.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.changed.Broadcast()
		_ = l.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		near, err := p.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() {
			if !p.pass(there) {
				_ = near.Close()
				return
			}
			far, err := p.dial()
			if err != nil {
				_ = near.Close()
				return
			}
			p.mu.Lock()
			p.conns[near], p.conns[far] = true, true
			closed := p.closed
			p.mu.Unlock()
			if closed {
				p.cut()
			}
			p.work.Go(func() { p.forward(far, near, there) })
			p.forward(near, far, back)
		})
	}
}

func (p *proxy) forward(to, from net.Conn, direction int) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		// The end of a connection is news like any other.
		if pass := p.pass(direction); pass && n > 0 {
			_, werr := to.Write(buf[:n])
			pass = werr == nil
			if err == nil && pass {
				continue
			}
		}
		_, _ = to.Close(), from.Close()
		p.mu.Lock()
		delete(p.conns, to)
		delete(p.conns, from)
		p.mu.Unlock()
		return
	}
}

// pass waits until the direction is open; false when the proxy was closed.
func (p *proxy) pass(direction int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.blocked[direction] && !p.closed {
		p.changed.Wait()
	}
	return !p.closed
}

// link is what connects a node, as that sees it.
type link struct {
	*proxy
	to       *node // nil = NATS or PostgreSQL
	incoming bool  // the other end connects: what is there for that is back for the node
}

// block blocks directions of the node.
func (l link) block(ways [2]bool) {
	if l.incoming {
		ways[there], ways[back] = ways[back], ways[there]
	}
	l.proxy.block(ways)
}

func (p *proxy) block(directions [2]bool) {
	p.mu.Lock()
	p.blocked = directions
	p.mu.Unlock()
	p.changed.Broadcast()
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
