package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// The topics of the commands of this package; others are those of Ask, after askTopic.
const (
	disconnectTopic = "disconnect"
	appliedTopic    = "applied"
	askTopic        = "ask:"
)

type disconnectCommand struct {
	Application api.ApplicationID `json:"application"`
	ServerID    api.ServerID      `json:"serverId"`
	By          string            `json:"by"`
	Reason      string            `json:"reason"`
}

type appliedCommand struct {
	Application api.ApplicationID `json:"application"`
	Epoch       uint64            `json:"epoch"`
	Note        []byte            `json:"note"`
}

// outcome is the answer to a command.
type outcome struct {
	Sequence    uint64   `json:"sequence"` // what the command changed is in the batches up to this one
	Incarnation int64    `json:"incarnation"`
	Found       bool     `json:"found,omitempty"`
	Count       int      `json:"count,omitempty"`
	Payload     []byte   `json:"payload,omitempty"`
	Code        api.Code `json:"code,omitempty"` // of an error
	Message     string   `json:"message,omitempty"`
}

// unreachable is what commands return when the node does not answer.
func unreachable(node string) error {
	return api.Errorf(api.CodeUnavailable, "the session's node %s does not answer; try again", node)
}

// Disconnect ends a session at its owner, this node or another; false when it is not a live session of the application. It is
// unavailable when the owner does not answer, or when the session may be one of a node that is missing.
func (n *Node) Disconnect(ctx context.Context, app api.ApplicationID, id api.ServerID, by, reason string) (bool, error) {
	owner, own, there := n.cfg.Registry.Owner(app, id)
	if own {
		return n.cfg.Owner.Disconnect(ctx, app, id, by, reason), nil
	}
	if !there {
		if minted, _, ok := id.Split(); ok && slices.Contains(n.Missing(), minted) {
			return false, unreachable(minted)
		}
		return false, nil
	}
	out, err := n.command(ctx, owner, disconnectTopic, disconnectCommand{app, id, by, reason})
	return out.Found, err
}

// Applied returns when every other node has applied the application's epoch or has died: how many sessions that ended there, and
// which nodes that live, or hold a lease, had not said so when ctx ended. What note says is between the callers and Owner.Applied.
func (n *Node) Applied(ctx context.Context, app api.ApplicationID, epoch uint64, note []byte) (count int, missing []string) {
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, name := range n.others() {
		work.Go(func() {
			c, ok := n.applied(ctx, name, appliedCommand{app, epoch, note})
			mu.Lock()
			defer mu.Unlock()
			if count += c; !ok {
				missing = append(missing, name)
			}
		})
	}
	work.Wait()
	slices.Sort(missing)
	return count, missing
}

// applied asks one node until it answers or is gone.
func (n *Node) applied(ctx context.Context, name string, cmd appliedCommand) (count int, ok bool) {
	const pause = 100 * time.Millisecond
	for {
		out, err := n.command(ctx, name, appliedTopic, cmd)
		if err == nil {
			return out.Count, true
		}
		if !slices.Contains(n.others(), name) {
			return 0, true
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-time.After(pause):
		}
	}
}

// others returns the nodes that live, or hold a lease in SQL, but for this one.
func (n *Node) others() []string {
	var names []string
	left := map[string]int64{}
	for _, p := range n.Peers() {
		switch p.State {
		case PeerLive, PeerPulling:
			names = append(names, p.Name)
		case PeerLeft:
			left[p.Name] = p.Incarnation
		case PeerDead:
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, lease := range n.leases {
		if over, has := left[name]; name != n.cfg.Node && (!has || lease > over) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Ask asks a node anything that its Owner.Ask answers. Errors of package api come back as they were; a node that does not answer is
// unavailable.
func (n *Node) Ask(ctx context.Context, node, topic string, payload []byte) ([]byte, error) {
	if node == n.cfg.Node {
		return n.cfg.Owner.Ask(ctx, topic, payload)
	}
	out, err := n.command(ctx, node, askTopic+topic, payload)
	return out.Payload, err
}

// AskAll asks every other node that lives, or holds a lease, once, and returns the answers by node, and which have not given one.
func (n *Node) AskAll(ctx context.Context, topic string, payload []byte) (answers map[string][]byte, missing []string) {
	var mu sync.Mutex
	var work sync.WaitGroup
	answers = map[string][]byte{}
	for _, name := range n.others() {
		work.Go(func() {
			answer, err := n.Ask(ctx, name, topic, payload)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, name)
			} else {
				answers[name] = answer
			}
		})
	}
	work.Wait()
	slices.Sort(missing)
	return answers, missing
}

// command sends a command, and waits until what it changed is in this node's registry.
func (n *Node) command(ctx context.Context, node, topic string, body any) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Command)
	defer cancel()
	n.mu.Lock()
	p := n.peers[node]
	n.mu.Unlock()
	var incarnation int64
	if p != nil {
		incarnation = p.describe(time.Now()).Incarnation
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return outcome{}, fmt.Errorf("command %s: %w", topic, err)
	}
	msg := append(appendText(appendRequest(nil, kindCommand, incarnation), topic), payload...)
	var out outcome
	answer, err := n.cfg.Bus.Request(ctx, node, msg)
	if err == nil {
		err = json.Unmarshal(answer, &out)
	}
	if err != nil {
		n.log.Warn("a node does not answer", "node", node, "command", topic, "err", err)
		return outcome{}, unreachable(node)
	}
	if out.Code != "" {
		return outcome{}, api.Errorf(out.Code, "%s", out.Message)
	}
	if p != nil {
		p.await(ctx, position{out.Incarnation, out.Sequence}) // not in time: it was done all the same
	}
	return out, nil
}

// appendRequest begins a request to one node: to the incarnation or a later one, so that a process whose name was taken is silent.
func appendRequest(b []byte, kind byte, incarnation int64) []byte {
	return binary.AppendUvarint(append(b, wireVersion, kind), uint64(incarnation))
}

// asked answers a request of another node.
func (n *Node) asked(ctx context.Context, msg []byte) []byte {
	r := newReader(msg)
	version, kind, incarnation := r.byte(), r.byte(), int64(r.uvarint())
	if r.failed || version != wireVersion || incarnation > n.position().incarnation {
		return nil
	}
	switch kind {
	case kindSnapshot:
		if after := r.position(); !r.failed {
			return n.snapshot(ctx, after)
		}
	case kindCommand:
		if topic := r.text(); !r.failed {
			return n.obey(ctx, topic, r.b)
		}
	}
	n.metrics.malformed.Inc()
	return nil
}

// obey carries out a command. The answer tells up to where this node's log has what that changed.
func (n *Node) obey(ctx context.Context, topic string, payload []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, n.timing.Command)
	defer cancel()
	out, err := n.carryOut(ctx, topic, payload)
	if err != nil {
		out = outcome{Code: api.CodeOf(err), Message: "the node could not do it; try again"}
		if e, ok := errors.AsType[*api.Error](err); ok {
			out.Message = e.Message
		} else {
			n.log.Error("a command failed", "command", topic, "err", err)
		}
	}
	at, ok := n.flush(ctx)
	if !ok {
		return nil
	}
	out.Incarnation, out.Sequence = at.incarnation, at.sequence
	answer, err := json.Marshal(out)
	if err != nil {
		n.log.Error("an answer could not be written", "command", topic, "err", err)
		return nil
	}
	return answer
}

func (n *Node) carryOut(ctx context.Context, topic string, payload []byte) (out outcome, err error) {
	switch {
	case topic == disconnectTopic:
		var c disconnectCommand
		if err = json.Unmarshal(payload, &c); err == nil {
			out.Found = n.cfg.Owner.Disconnect(ctx, c.Application, c.ServerID, c.By, c.Reason)
		}
	case topic == appliedTopic:
		var c appliedCommand
		if err = json.Unmarshal(payload, &c); err == nil {
			out.Count, err = n.cfg.Owner.Applied(ctx, c.Application, c.Epoch, c.Note)
		}
	case len(topic) > len(askTopic) && topic[:len(askTopic)] == askTopic:
		var body []byte
		if err = json.Unmarshal(payload, &body); err == nil {
			out.Payload, err = n.cfg.Owner.Ask(ctx, topic[len(askTopic):], body)
		}
	default:
		err = api.Errorf(api.CodeUnavailable, "the node does not know the command %q", topic)
	}
	return out, err
}
