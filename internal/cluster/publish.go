package cluster

import (
	"context"
	"time"

	"github.com/rollcallhq/rollcall/internal/registry"
)

// Sizes of what is sent: a batch, and a page of a snapshot, are closed past these. One row more is 64 KiB at most, so a message
// stays under MaxMessage.
const (
	batchChanges = 2000
	batchBytes   = 128 << 10
	pageRows     = 2000
	pageBytes    = 512 << 10
	// batchesAtOnce is how many batches are published before heartbeats and requests have their turn.
	batchesAtOnce = 32
)

// publish is the one that writes this node's log: batches at once when it is quiet, every Timing.Batch under load, and heartbeats,
// all in the order in which others may read them. It ends with a goodbye when ctx does.
func (n *Node) publish(ctx context.Context, ready <-chan struct{}) {
	beat := time.NewTicker(n.timing.Beat)
	defer beat.Stop()
	n.beat(true)
	var next time.Time
	var due <-chan time.Time
	for {
		changes := ready
		if due != nil {
			changes = nil
		}
		select {
		case <-ctx.Done():
			n.publishChanges()
			n.broadcast(appendHeader(nil, n.header(kindGoodbye, n.position())))
			return
		case <-changes:
			if wait := time.Until(next); wait > 0 {
				due = time.After(wait)
				continue
			}
			n.publishChanges()
			next = time.Now().Add(n.timing.Batch)
		case <-due:
			due = nil
			n.publishChanges()
			next = time.Now().Add(n.timing.Batch)
		case answer := <-n.flushes:
			answer <- n.publishChanges()
		case hello := <-n.hello:
			n.beat(hello)
		case <-beat.C:
			n.beat(false)
		}
	}
}

// publishChanges publishes the changes that wait and returns the position after them.
func (n *Node) publishChanges() position {
	at := n.position()
	for range batchesAtOnce {
		changes, lost := n.cfg.Registry.TakeChanges(batchChanges)
		if lost {
			at = n.advance() // a number that no batch has makes the others pull
		}
		if len(changes) == 0 {
			break
		}
		for len(changes) > 0 {
			at = n.advance()
			msg, taken := appendChanges(appendHeader(nil, n.header(kindBatch, at)), n.cfg.Node, changes, batchBytes)
			n.broadcast(msg)
			n.metrics.sent.Add(float64(taken))
			changes = changes[taken:]
		}
	}
	return at
}

func (n *Node) advance() position {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at.sequence++
	return n.at
}

func (n *Node) header(kind byte, at position) header {
	return header{kind: kind, node: n.cfg.Node, incarnation: at.incarnation, sequence: at.sequence}
}

func (n *Node) beat(hello bool) {
	n.broadcast(appendHeartbeat(nil, n.header(kindHeartbeat, n.position()), n.cfg.Version(), hello))
}

// broadcast gives a message to the bus. What the bus does not take is lost like what it loses: others notice by the sequence.
func (n *Node) broadcast(msg []byte) {
	if err := n.cfg.Bus.Broadcast(msg); err != nil {
		n.metrics.unsent.Inc()
		return
	}
	n.metrics.messages.Inc()
	n.metrics.logBytes.Add(float64(len(msg)))
}

// sayHello has a heartbeat sent before the next one is due.
func (n *Node) sayHello(ask bool) {
	select {
	case n.hello <- ask:
	default:
	}
}

// flush publishes what has changed up to now and returns the position after it; false once the node has stopped.
func (n *Node) flush(ctx context.Context) (position, bool) {
	answer := make(chan position, 1)
	select {
	case n.flushes <- answer:
		return <-answer, true
	case <-n.stopped:
	case <-ctx.Done():
	}
	return position{}, false
}

// snapshot answers with a page of this node's rows. The version is read before the rows, so that what it ended is not among them,
// and the last page tells up to where the pages are complete.
func (n *Node) snapshot(ctx context.Context, after registry.RosterPosition) []byte {
	at, version := n.position(), n.cfg.Version()
	rows, next, more := n.cfg.Registry.OwnRows(after, pageRows)
	p := &page{header: n.header(kindSnapshot, at), to: at.sequence, version: version, more: more, next: next}
	if !more {
		end, ok := n.flush(ctx)
		if !ok || end.incarnation != at.incarnation {
			return nil
		}
		p.to = end.sequence
	}
	answer := encodePage(p, rows)
	n.metrics.snapshotBytes.Add(float64(len(answer)))
	return answer
}
