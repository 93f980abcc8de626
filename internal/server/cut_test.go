package server_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// link is a way to a server that can be cut.
type link struct {
	net.Listener
	network, to string

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

// newLink returns a way to the host of an address, and the address by that way.
func newLink(t *testing.T, address string) (*link, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{network: "tcp", to: u.Host}
	if q := u.Query(); q.Has("host") { // PostgreSQL's, on a Unix socket
		l.network, l.to = "unix", q.Get("host")+"/.s.PGSQL.5432"
		u.RawQuery = "sslmode=disable"
	}
	if l.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { l.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		l.cut()
		work.Wait()
	})
	u.Host = l.Addr().String()
	return l, u.String()
}

func (l *link) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial(l.network, l.to)
	if err != nil {
		return
	}
	defer far.Close()
	l.mu.Lock()
	down := l.down
	l.conns = append(l.conns, near, far)
	l.mu.Unlock()
	if down {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}

// cut ends what goes this way, and refuses more until heal.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// cuttable is a node whose ways to the database and to the bus can be cut.
type cuttable struct {
	*testkit.Server
	database, bus *link
}

func startCuttable(t *testing.T, n int) []cuttable {
	t.Helper()
	postgres := storetest.Postgres(t)
	database := storetest.Database(t, postgres)
	ns, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, Authorization: "word",
		NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the bus does not listen")
	}
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	nodes := make([]cuttable, n)
	for i := range nodes {
		var databaseURL, busURL string
		c := &nodes[i]
		c.database, databaseURL = newLink(t, database)
		c.bus, busURL = newLink(t, "nats://"+ns.Addr().String())
		c.Server = testkit.Start(t, testkit.Config{Database: databaseURL, Node: nodeName(i), Cluster: server.ClusterConfig{NATS: busURL, Token: "word"}})
	}
	for i := range nodes {
		whole(t, nodes[i].Server)
		t.Cleanup(nodes[i].database.heal) // for the drain
		t.Cleanup(nodes[i].bus.heal)
	}
	return nodes
}

// unavailable returns how often the stream was told so.
func (w *watcher) unavailable() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, code := range w.refused {
		if code == api.CodeUnavailable {
			n++
		}
	}
	return n
}

// TestDisconnectUnreachable: a stream is told when the session's node cannot be reached, and stays open (page 2).
func TestDisconnectUnreachable(t *testing.T) {
	t.Parallel() // it waits most of the time
	nodes := startCuttable(t, 2)
	c := mustOpen(t, nodes[0].Server, hello(testkit.Token(t, nil), nil))
	w := watch(t, nodes[1].Server, testkit.Key, url.Values{"totals": {"true"}}, 0)
	testkit.Eventually(t, "the other node lists it", func() bool { return list(t, nodes[1].Server, url.Values{}).Total == 1 })
	command, _ := json.Marshal(map[string]string{"type": api.TypeDisconnectSession, "serverId": c.ServerID})
	send := func() {
		t.Helper()
		if err := w.conn.Write(t.Context(), websocket.MessageText, command); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].bus.cut()
	send() // it is believed to live
	testkit.Eventually(t, "the stream is told", func() bool { return w.unavailable() == 1 })
	testkit.Eventually(t, "its rows are gone", func() bool { return list(t, nodes[1].Server, url.Values{}).Total == 0 })
	status, body := nodes[1].Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, "/"+c.ID), nil)
	if status < 400 {
		t.Errorf("DELETE of a session that may be there: %d %s", status, body)
	}
	send() // it is dead, or cut off
	testkit.Eventually(t, "the stream is told again", func() bool { return w.unavailable() == 2 })
	nodes[0].bus.heal()
	testkit.Eventually(t, "its rows are back", func() bool { return list(t, nodes[1].Server, url.Values{}).Total == 1 })
	want := viewJSON(t, list(t, nodes[1].Server, url.Values{}).View, w.query)
	testkit.Eventually(t, "the stream goes on", func() bool { return w.page(t) == want })
	send()
	c.end(t, int(api.CloseDisconnected))
}

// TestRevokeWithoutDatabase: a revocation reaches a node that has the bus and not the database (G4).
func TestRevokeWithoutDatabase(t *testing.T) {
	t.Parallel() // it waits most of the time
	nodes := startCuttable(t, 2)
	token := testkit.Token(t, nil)
	c := mustOpen(t, nodes[1].Server, hello(token, nil))
	testkit.Eventually(t, "the other node lists it", func() bool { return list(t, nodes[0].Server, url.Values{}).Total == 1 })
	nodes[1].database.cut()
	testkit.Eventually(t, "it has no database", func() bool {
		_, body := ready(t, nodes[1].Server)
		return strings.Contains(body, "the configuration cannot be read")
	})
	status, body := nodes[0].Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, "?reason=why"), nil)
	var result api.DisconnectResult
	decode(t, status, http.StatusOK, body, &result)
	if result.DisconnectedCount != 1 {
		t.Errorf("disconnectedCount %d", result.DisconnectedCount)
	}
	if f := c.end(t, int(api.CloseRevoked)); f.Reason != "why" {
		t.Errorf("reason %q", f.Reason)
	}
	if _, err := open(t.Context(), nodes[1].Server, hello(token, nil)); err == nil {
		t.Error("a token from before opened a session")
	}
	nodes[1].database.heal()
	testkit.Eventually(t, "its end is recorded", func() bool {
		var got api.SessionReply
		nodes[0].Get(t, testkit.Key, sessionsPath(testkit.App, "/"+c.ID+"?details=true"), &got)
		d := got.Session.Details
		return d != nil && d.EndReason == api.EndRevoked && d.Reason == "why"
	})
}
