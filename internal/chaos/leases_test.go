//go:build unix

package chaos_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// leaseSeconds is longer than anything that goes wrong, so that no lease runs out whose client lives.
const leaseSeconds = 90

// holder holds leases, and asks any node about them.
type holder interface {
	step(t *testing.T)
	// settle asks about all that the holder believes to hold, and what it has begun, until it knows; it returns what it does not.
	// Nothing else happens meanwhile.
	settle() (unknown string)
}

// lessee is a client with a lease of its own.
type lessee struct {
	w      *world
	app    api.ApplicationID
	random *rand.Rand

	token  string
	minted time.Time
	life   *life
}

// ask makes a request of a lease's client; status 0 is no answer.
func (w *world) ask(n *node, method, path, credential string, body any) (status int, answer []byte) {
	addr, ok := n.at()
	if !ok {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), operators)
	defer cancel()
	b, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

func (m *lessee) step(t *testing.T) {
	n := m.w.anyNode(m.random)
	switch {
	case m.life == nil || !m.w.connected(m.life):
		m.open(t, n)
	case m.random.IntN(25) == 0:
		m.bye(n)
	default:
		m.beat(n)
	}
}

func (m *lessee) open(t *testing.T, n *node) {
	m.life = nil
	if m.token == "" || m.random.IntN(2) == 0 {
		m.minted = time.Now()
		m.token = testkit.Token(t, map[string]any{"aud": m.app.String(), "license": fmt.Sprint("LIC-", m.random.IntN(7)), "jti": fmt.Sprint(m.random.Uint64())})
	}
	// Whether what was not answered was done nobody knows; a session that was opened so goes by its host name.
	host := strconv.FormatUint(m.random.Uint64(), 36)
	m.w.orphan(host, true)
	status, body := m.w.ask(n, http.MethodPost, api.SessionsPath, m.token, map[string]any{"hostname": host, "leaseSeconds": leaseSeconds})
	var reply api.LeaseReply
	switch {
	case status == http.StatusCreated && json.Unmarshal(body, &reply) == nil:
		m.w.orphan(host, false)
		m.life = &life{lease: true, app: m.app, node: n, id: reply.Session.ID.String(), serverID: n.Node + ":" + reply.Session.ID.String(),
			minted: m.minted, opened: time.Now()}
		m.w.born(m.life)
	case status/100 == 4:
		m.w.orphan(host, false)
		m.token = ""
	}
}

func (m *lessee) path(rest string) string { return api.SessionsPath + "/" + m.life.id + rest }

// beat returns whether the client knows now.
func (m *lessee) beat(n *node) bool {
	asked := time.Now()
	status, body := m.w.ask(n, http.MethodPost, m.path("/heartbeat"), m.token, struct{}{})
	if status == http.StatusOK {
		m.w.beaten(m.life, n, asked)
		return true
	}
	return m.over(n, status, body)
}

func (m *lessee) bye(n *node) bool {
	m.w.tries(m.life)
	status, body := m.w.ask(n, http.MethodDelete, m.path(""), m.token, nil)
	if status == http.StatusNoContent {
		m.w.mu.Lock()
		m.life.left, m.life.how = time.Now(), "delete"
		m.w.mu.Unlock()
		m.w.say("%s deleted at %s", m.life.id, n.Node)
		return true
	}
	return m.over(n, status, body)
}

// over takes what is neither yes nor no answer.
func (m *lessee) over(n *node, status int, body []byte) bool {
	var gone api.EndedError
	_ = json.Unmarshal(body, &gone) // what is no JSON says nothing
	switch {
	case status == http.StatusGone:
		m.w.overLease(m.life, n, gone.Reason)
		return true
	case status == http.StatusUnauthorized && m.w.clockIsOff(): // a node that is behind takes the token for one from the future
	case status == http.StatusNotFound && m.life.forgotten():
	case status != 0 && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
		m.w.violated("lease-is-served", "%s at %s: %d %s", m.life.id, n.Node, status, body)
	}
	return false
}

func (m *lessee) settle() (unknown string) {
	if m.life == nil || !m.w.connected(m.life) {
		return ""
	}
	for range 2 {
		if m.beat(m.w.anyNode(m.random)) {
			return ""
		}
	}
	return m.life.id
}

// reporter is a server that reports sessions of its own clients.
type reporter struct {
	w      *world
	app    api.ApplicationID
	name   string
	random *rand.Rand
	lives  []*life // of which one that has not opened may have been
}

func (r *reporter) step(*testing.T) {
	for i, l := range r.lives {
		if l == nil || !r.w.connected(l) {
			r.lives[i] = &life{lease: true, reported: true, app: r.app, id: api.NewSessionID().String()}
		}
	}
	r.report(r.w.anyNode(r.random), func(l *life) string {
		switch {
		case l.opened.IsZero():
			return "open"
		case r.random.IntN(25) == 0:
			r.w.tries(l)
			return "end"
		}
		return "heartbeat"
	})
}

// report makes one batch and returns of whom nothing is known.
func (r *reporter) report(n *node, op func(*life) string) (unknown string) {
	var items []map[string]any
	var lives []*life
	asked := time.Now()
	for i, l := range r.lives {
		if l == nil || !r.w.connected(l) {
			continue
		}
		item := map[string]any{"op": op(l), "id": l.id}
		if l.opened.IsZero() {
			maps.Copy(item, map[string]any{"ipAddress": "203.0.113.9", "authorized": true, "leaseSeconds": leaseSeconds, "license": fmt.Sprint("LIC-", i)})
			l.minted = asked
			l.node = n
		}
		items, lives = append(items, item), append(lives, l)
	}
	status, body := r.w.ask(n, http.MethodPost, api.RoutePrefix+"/applications/"+r.app.String()+"/leases:batch", testkit.Key,
		map[string]any{"reporter": r.name, "items": append([]map[string]any{}, items...)})
	var reply api.LeaseBatchReply
	if status != http.StatusOK || json.Unmarshal(body, &reply) != nil {
		if status != 0 && status != http.StatusServiceUnavailable {
			r.w.violated("lease-is-served", "a batch at %s: %d %s", n.Node, status, body)
		}
		return fmt.Sprint(n.Node, " does not answer")
	}
	for i, l := range lives {
		if why := r.learn(l, n, items[i]["op"].(string), reply.Results[i].Error, asked); why != "" {
			unknown = cmp.Or(unknown, why)
		}
	}
	for _, e := range reply.Ended {
		for _, l := range r.lives {
			if l != nil && l.id == e.ID.String() && r.w.connected(l) {
				r.w.overLease(l, n, e.Reason)
			}
		}
	}
	return unknown
}

// learn takes the result of an item.
func (r *reporter) learn(l *life, n *node, op string, err *api.LeaseError, asked time.Time) (unknown string) {
	switch {
	case err == nil && op == "end":
		r.w.mu.Lock()
		l.left, l.how = time.Now(), "delete"
		r.w.mu.Unlock()
		r.w.say("%s ended at %s", l.id, n.Node)
	case err == nil && l.opened.IsZero():
		l.opened, l.serverID = time.Now(), l.node.Node+":"+l.id
		r.w.born(l)
	case err == nil:
		r.w.beaten(l, n, asked)
	case err.Code == api.CodeSessionEnded && l.opened.IsZero(): // an open that was not answered
		l.ended = time.Now()
	case err.Code == api.CodeSessionEnded:
		r.w.overLease(l, n, err.Reason)
	case err.Code == api.CodeUnavailable, err.Code == api.CodeTokenRevoked, err.Code == api.CodeSessionNotFound && l.forgotten():
		return l.id + " is not known"
	default:
		r.w.violated("lease-is-served", "%s %s at %s: %+v", op, l.id, n.Node, err)
	}
	return ""
}

func (r *reporter) settle() (unknown string) {
	for range 2 {
		unknown = r.report(r.w.anyNode(r.random), func(l *life) string {
			if l.opened.IsZero() {
				return "open"
			}
			return "heartbeat"
		})
		if unknown == "" {
			break
		}
	}
	return unknown
}

// The history of leases.

func (w *world) orphan(host string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if is {
		w.orphans[host] = true
	} else {
		delete(w.orphans, host)
	}
}

func (w *world) isOrphan(host string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.orphans[host]
}

func (w *world) born(l *life) {
	w.mu.Lock()
	w.lives = append(w.lives, l)
	w.mu.Unlock()
	w.say("%s lease at %s, reported: %v", l.id, l.node.Node, l.reported)
}

// beaten says that a heartbeat was taken.
func (w *world) beaten(l *life, n *node, asked time.Time) {
	w.mu.Lock()
	l.beaten = asked
	w.mu.Unlock()
	w.say("%s beats at %s", l.id, n.Node)
}

// tries says that the client wants to end the lease.
func (w *world) tries(l *life) {
	w.mu.Lock()
	l.how = "tries to"
	w.mu.Unlock()
}

// overLease says that the client was told of the end.
func (w *world) overLease(l *life, n *node, reason api.EndReason) {
	w.mu.Lock()
	l.ended, l.reason = time.Now(), reason
	w.mu.Unlock()
	w.say("%s is over, says %s: %s", l.id, n.Node, reason)
}

// forgotten tells whether the node that opened the session could reach nobody for so long that it counts as dead, and what only it
// knows as lost (docs/architecture.md).
func (l *life) forgotten() bool {
	const missing = 15 * time.Second // cluster.Timing
	for _, t := range l.node.during(l.opened, time.Now()) {
		if t.deaf && time.Since(t.from) > missing-time.Second {
			return true
		}
	}
	return false
}

func (w *world) clockIsOff() bool {
	for _, n := range w.nodes {
		for _, t := range n.during(time.Now().Add(-time.Minute), time.Now()) {
			if t.clock {
				return true
			}
		}
	}
	return false
}

// settleLeases has every holder of a lease learn what it holds, and returns what one does not.
func (w *world) settleLeases() string {
	var mu sync.Mutex
	var work sync.WaitGroup
	first := ""
	for _, h := range w.holders {
		work.Go(func() {
			if unknown := h.settle(); unknown != "" {
				mu.Lock()
				first = unknown
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if first != "" {
		return "lease-is-served: " + first
	}
	return ""
}

// newHolders returns those who hold leases.
func (w *world) newHolders(seed uint64) (holders []holder) {
	for i := range uint64(16) {
		holders = append(holders, &lessee{w: w, app: apps[i%2], random: rand.New(rand.NewPCG(seed, 2_000_000+i))})
	}
	for i, app := range apps {
		holders = append(holders, &reporter{w: w, app: app, name: "gateway", random: rand.New(rand.NewPCG(seed, 3_000_000+uint64(i))), lives: make([]*life, 6)})
	}
	return holders
}
