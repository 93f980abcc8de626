//go:build unix

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

const (
	patience  = 3 * time.Second  // of a client with a node
	operators = 12 * time.Second // of an operator: a revocation waits for nodes
)

// apps are the applications that have clients: the sessions of the second are revoked now and then.
var apps = []api.ApplicationID{testkit.App, testkit.Second}

// member is a client: it holds a session most of the time.
type member struct {
	w      *world
	app    api.ApplicationID
	random *rand.Rand
	quiet  bool            // so that its session is there, and as it was, when a long failure is over
	run    *sync.WaitGroup // of readers

	token  string
	minted time.Time
	conn   *websocket.Conn
	life   *life
}

// step does one thing that a client does.
func (m *member) step(t *testing.T) {
	if m.life == nil || !m.w.connected(m.life) {
		m.open(t, m.w.anyNode(m.random))
		return
	}
	of := 20
	if m.quiet {
		of = 200
	}
	switch k := m.random.IntN(of); {
	case k == 0:
		m.leave("bye")
		m.write(struct {
			Type string `json:"type"`
		}{api.TypeBye})
	case k == 1:
		m.leave("drop")
		_ = m.conn.CloseNow()
	case k < 5:
		m.write(map[string]any{"type": api.TypeUpdate, "name": fmt.Sprint("name ", m.random.IntN(1000))})
	}
}

func (m *member) leave(how string) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.life.left, m.life.how = time.Now(), how
}

func (m *member) write(v any) {
	b, _ := json.Marshal(v)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = m.conn.Write(ctx, websocket.MessageText, b) // what fails ends the connection, which the reader sees
}

// open tries once to open a session.
func (m *member) open(t *testing.T, n *node) {
	addr, ok := n.at()
	if !ok && m.random.IntN(10) > 0 {
		return
	}
	hello := map[string]any{"type": api.TypeHello, "publishableKey": testkit.PublishableKey}
	minted := time.Now()
	if m.app == testkit.Second || m.random.IntN(3) > 0 {
		if m.token == "" || m.random.IntN(2) == 0 { // half of them try again with what may have been revoked
			m.minted = time.Now()
			m.token = testkit.Token(t, map[string]any{"aud": m.app.String(), "license": fmt.Sprint("LIC-", m.random.IntN(7)),
				"jti": fmt.Sprint(m.random.Uint64())})
		}
		minted = m.minted
		hello = map[string]any{"type": api.TypeHello, "token": m.token, "application": m.app.String()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+addr+api.ConnectPath, nil)
	if err != nil {
		return
	}
	b, _ := json.Marshal(hello)
	if err := conn.Write(ctx, websocket.MessageText, b); err != nil {
		_ = conn.CloseNow()
		return
	}
	var welcome api.Welcome
	_, b, err = conn.Read(ctx)
	now := time.Now()
	if err != nil || json.Unmarshal(b, &welcome) != nil || welcome.Type != api.TypeWelcome {
		_ = conn.CloseNow()
		m.token = ""
		return
	}
	l := &life{app: m.app, node: n, id: welcome.SessionID.String(), serverID: string(welcome.ServerID), minted: minted, opened: now}
	m.w.mu.Lock()
	m.w.lives = append(m.w.lives, l)
	m.w.mu.Unlock()
	m.w.say("%s welcome at %s", l.id, n.Node)
	m.conn, m.life = conn, l
	m.run.Go(func() { m.w.read(conn, l) })
}

// read reads a session to its end.
func (w *world) read(conn *websocket.Conn, l *life) {
	defer conn.CloseNow()
	var last api.Disconnect
	for {
		_, b, err := conn.Read(context.Background())
		if err == nil {
			var d api.Disconnect
			if json.Unmarshal(b, &d) == nil && d.Type == api.TypeDisconnect {
				last = d
			}
			continue
		}
		w.mu.Lock()
		l.ended, l.code, l.last = time.Now(), int(websocket.CloseStatus(err)), last
		w.mu.Unlock()
		w.say("%s ended at %s: %d %d (left %q)", l.id, l.node.Node, l.code, last.Code, l.how)
		return
	}
}

func (w *world) connected(l *life) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.connected()
}

// anyNode returns one of the nodes, the others' turn included while one does not run.
func (w *world) anyNode(random *rand.Rand) *node { return w.nodes[random.IntN(len(w.nodes))] }

// load keeps clients and operators busy until stop. While the gate is held nobody begins anything.
func (w *world) load(t *testing.T, seed uint64, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var run, readers sync.WaitGroup
	var members []*member
	for i := range clients {
		m := &member{w: w, app: apps[i%3/2], random: rand.New(rand.NewPCG(seed, uint64(i))), quiet: i%2 == 0, run: &readers}
		members = append(members, m)
		run.Go(func() {
			w.repeat(ctx, m.random, 400*time.Millisecond, func() { m.step(t) })
		})
	}
	w.holders = w.newHolders(seed)
	for i, h := range w.holders {
		random := rand.New(rand.NewPCG(seed, uint64(4_000_000+i)))
		run.Go(func() { w.repeat(ctx, random, 1200*time.Millisecond, func() { h.step(t) }) })
	}
	for i, op := range []struct {
		every time.Duration
		do    func(*rand.Rand)
	}{{250 * time.Millisecond, w.disconnectOne}, {time.Second, w.revokeAll}} {
		random := rand.New(rand.NewPCG(seed, uint64(1_000_000+i)))
		run.Go(func() { w.repeat(ctx, random, op.every, func() { op.do(random) }) })
	}
	return func() {
		cancel()
		run.Wait()
		for _, m := range members {
			if m.conn != nil {
				_ = m.conn.CloseNow()
			}
		}
		readers.Wait()
	}
}

func (w *world) repeat(ctx context.Context, random *rand.Rand, every time.Duration, do func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every/2 + time.Duration(random.Int64N(int64(every)))):
		}
		w.gate.RLock()
		if ctx.Err() == nil {
			do()
		}
		w.gate.RUnlock()
	}
}

// call makes a request of an operator to a node.
func (w *world) call(n *node, method, path string, within time.Duration) (a answer, body []byte) {
	addr, ok := n.at()
	a = answer{asked: time.Now(), node: n}
	defer func() { a.answered = time.Now() }()
	if !ok {
		return a, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, nil)
	if err != nil {
		return a, nil
	}
	req.Header.Set("Authorization", "Bearer "+testkit.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, nil
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return a, nil
	}
	a.status, a.partial = resp.StatusCode, resp.Header.Get("Rollcall-Partial")
	var result api.DisconnectResult
	if method == http.MethodDelete && json.Unmarshal(body, &result) == nil {
		a.count = result.DisconnectedCount
	}
	return a, body
}

func sessions(app api.ApplicationID, rest string) string {
	return "/api/v1/applications/" + app.String() + "/sessions" + rest
}

// disconnectOne ends one of the sessions of the first application, from any node.
func (w *world) disconnectOne(random *rand.Rand) {
	for _, l := range w.believed(testkit.App) { // any of them: a map has no order
		d := &disconnect{life: l}
		w.mu.Lock()
		w.disconnects = append(w.disconnects, d)
		w.mu.Unlock()
		n := w.anyNode(random)
		w.say("%s disconnect is asked at %s", l.id, n.Node)
		a, body := w.call(n, http.MethodDelete, sessions(l.app, "/"+l.id), operators)
		w.mu.Lock()
		d.answer = a
		w.mu.Unlock()
		w.say("%s disconnect at %s: %d %s %q", l.id, n.Node, a.status, bytes.TrimSpace(body), a.partial)
		return
	}
}

// revokeAll ends the sessions of the second.
func (w *world) revokeAll(random *rand.Rand) {
	n := w.anyNode(random)
	r := &revocation{app: testkit.Second}
	r.asked = time.Now()
	w.mu.Lock()
	w.revocations = append(w.revocations, r)
	w.mu.Unlock()
	w.say("revoke all is asked at %s", n.Node)
	a, body := w.call(n, http.MethodDelete, sessions(r.app, ""), operators)
	w.mu.Lock()
	r.answer = a
	w.mu.Unlock()
	w.say("revoke all at %s: %d %s %q", n.Node, a.status, bytes.TrimSpace(body), a.partial)
}

// stream is an operator's, at one node, opened again whenever it ends.
type stream struct {
	w     *world
	node  *node
	query url.Values

	mu   sync.Mutex
	page client.Page
	open bool // the page is one
}

func (w *world) watch(n *node, query url.Values) (*stream, func()) {
	s := &stream{w: w, node: n, query: query}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		for ctx.Err() == nil {
			s.follow(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return s, func() { cancel(); run.Wait() }
}

func (s *stream) path() string { return api.LivePath + "?" + s.query.Encode() }

func (s *stream) follow(ctx context.Context) {
	addr, ok := s.node.at()
	if !ok {
		return
	}
	dctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, _, err := websocket.Dial(dctx, "ws://"+addr+s.path(), &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + testkit.Key}}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	page := client.Page{}
	for {
		_, b, err := conn.Read(ctx)
		if err == nil {
			err = page.Apply(b)
		}
		if errors.Is(err, client.ErrOutOfStep) {
			s.w.violated("page-exact", "%s at %s: %v", s.path(), s.node.Node, err)
		}
		s.mu.Lock()
		s.open = err == nil
		s.page = page.Clone()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// shows returns the page, false while the stream is not open.
func (s *stream) shows() (api.View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.page.View, s.open
}
