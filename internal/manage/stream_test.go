package manage_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	dto "github.com/prometheus/client_model/go"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

const query = "applicationId=123456789"

func TestStreamDeltas(t *testing.T) {
	k := newKit(t, manage.Limits{})
	oldest := k.open(desktop, 1000, nil)
	k.open(desktop, 1001, nil)
	p := k.watch(fullKey, query+"&pageSize=2&totals=true")
	if p.view.Total != 2 || len(p.view.Items) != 2 || p.view.LastConnectionTime != 1001 {
		t.Fatalf("init %+v", p.view)
	}
	// One more pushes the oldest out: removed comes before added, then the time, then the totals.
	k.open(desktop, 1002, nil)
	for range 4 {
		p.read()
	}
	want := []string{"init", "removed", "added", "last_connection_time", "totals"}
	if !slices.Equal(p.seen, want) {
		t.Errorf("got %v, want %v", p.seen, want)
	}
	p.settle(query + "&pageSize=2&totals=true")
	// A change that this page does not show is nothing but another total.
	k.end(oldest)
	p.settle(query + "&pageSize=2&totals=true")
	if p.seen[len(p.seen)-1] != api.TypeTotals || len(p.seen) != 6 {
		t.Errorf("got %v", p.seen)
	}
	row, _ := k.registry.Get(desktop, func() api.SessionID { _, id, _ := p.view.Items[0].ServerID.Split(); return id }())
	row.License = "changed"
	if err := k.registry.Update(row, registry.Unlimited); err != nil {
		t.Fatal(err)
	}
	if kind := p.read(); kind != api.TypeUpdated || *p.view.Items[0].License != "changed" {
		t.Errorf("%s %+v", kind, p.view.Items[0])
	}
	silent := k.watch(fullKey, query)
	k.end(row)
	silent.settle(query)
	if slices.Contains(silent.seen, api.TypeTotals) {
		t.Error("totals came unasked")
	}
}

// TestStreamsEqualLists is G1 on the wire: streams of assorted queries under churn end up as the list that HTTP gives.
func TestStreamsEqualLists(t *testing.T) {
	k := newKit(t, manage.Limits{})
	queries := []string{query, query + "&pageSize=50&totals=true", query + "&page=2&pageSize=3", query + "&searchString=a&pageSize=5&totals=true",
		query + "&searchString=1&categories=ip&categories=clientId&page=2", query + "&page=40"}
	peers := make([]*peer, len(queries))
	for i, q := range queries {
		peers[i] = k.watch(fullKey, q)
	}
	var readers sync.WaitGroup
	done := make(chan struct{})
	for _, p := range peers { // keeps reading during the churn, so that steps are many
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					p.send(`{"type":"nothing"}`) // so that there is something to read
					p.read()
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var live []registry.Row
	for i := range 3000 {
		switch n := rng.IntN(10); {
		case n < 5 || len(live) == 0:
			row := k.row(desktop, api.Millis(1000+rng.IntN(50)))
			row.License, row.IP = string(rune('a'+i%3)), fmt.Sprintf("10.0.0.%d", i%256)
			live = append(live, k.appear(row))
		case n < 8:
			j := rng.IntN(len(live))
			k.vanish(live[j])
			live = slices.Delete(live, j, j+1)
		default:
			j := rng.IntN(len(live))
			live[j].License = string(rune('a' + rng.IntN(3)))
			if err := k.registry.Update(live[j], registry.Unlimited); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	readers.Wait()
	for i, p := range peers {
		p.settle(queries[i])
	}
}

func TestStreamQuery(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for i := range 30 {
		k.open(desktop, api.Millis(1000+i), func(r *registry.Row, _ *store.Record) { r.License = fmt.Sprintf("L-%02d", i) })
	}
	p := k.watch(fullKey, query+"&pageSize=5&page=2&searchString=L-1&totals=true")
	for _, tt := range []struct{ message, same string }{
		{`{"type":"query"}`, "&pageSize=5&page=2&searchString=L-1"},
		{`{"type":"query","page":1}`, "&pageSize=5&page=1&searchString=L-1"},
		{`{"type":"query","pageSize":50}`, "&pageSize=50&page=1&searchString=L-1"},
		{`{"type":"query","searchString":""}`, "&pageSize=50&page=1"},
		{`{"type":"query","searchString":"203.0","categories":["ip","clientId"],"unknown":1}`,
			"&pageSize=50&searchString=203.0&categories=ip&categories=clientId"},
		{`{"type":"query","categories":"license"}`, "&pageSize=50&searchString=203.0"},
		{`{"type":"query","page":9,"pageSize":10,"searchString":"l-2","categories":["license"]}`, "&pageSize=10&page=9&searchString=l-2"},
		{`{"type":"query","page":9007199254740993,"searchString":""}`, "&page=9007199254740993"},
		{`{"type":"query","page":1}`, ""},
	} {
		p.send(tt.message)
		if kind := p.read(); kind != api.TypeInit {
			t.Fatalf("%s is answered by %s", tt.message, kind)
		}
		want := get[api.LiveList](k, api.LivePath+"?"+query+tt.same)
		if want.FilteredTotal != p.view.FilteredTotal || want.Page != p.view.Page ||
			want.PageSize != p.view.PageSize || len(want.Items) != len(p.view.Items) {
			t.Errorf("%s: %+v, want %+v", tt.message, p.view, want)
		}
	}
	k.open(desktop, 5000, nil)
	p.settle(query + "&totals=true") // it still streams, totals too
	// Twenty moves, each answered, and the last one holds.
	for i := range 20 {
		p.send(fmt.Sprintf(`{"type":"query","page":%d}`, i+1))
	}
	for i := range 20 {
		if kind := p.read(); kind != api.TypeInit || p.view.Page != i+1 {
			t.Fatalf("move %d is answered by %s, page %d", i+1, kind, p.view.Page)
		}
	}
	if stats := k.registry.Stats(); stats.Watchers != 1 {
		t.Errorf("%+v after moves", stats)
	}
}

func TestStreamRefusesCommands(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.open(desktop, 1000, nil)
	p := k.watch(fullKey, query)
	for _, message := range []string{
		``, `{`, `nonsense`, `[]`,
		`null`, `"query"`, `7`, `{}`,
		`{"type":null}`, `{"type":7}`, `{"type":["query"]}`,
		`{"TYPE":"query"}`, `{"type":"query"}{}`, `{"type":"query","type":"query"}`,
		`{"type":"query","searchString":"\ud800"}`, strings.Repeat("[", 10_000),
		`{"type":""}`, `{"type":"Query"}`, `{"type":"init"}`,
		`{"type":"disconnect_session"}`, `{"type":"disconnect_session","serverId":null}`,
		`{"type":"disconnect_session","serverId":7}`,
		`{"type":"disconnect_session","serverId":["` + string(row.ServerID) + `"]}`,
		`{"type":"query","page":0}`, `{"type":"query","page":-1}`,
		`{"type":"query","page":1.5}`, `{"type":"query","page":"1"}`,
		`{"type":"query","page":null}`, `{"type":"query","page":1e400}`,
		`{"type":"query","page":9223372036854775808}`,
		`{"type":"query","pageSize":0}`, `{"type":"query","pageSize":51}`,
		`{"type":"query","pageSize":true}`,
		`{"type":"query","searchString":7}`, `{"type":"query","searchString":null}`,
		`{"type":"query","searchString":"` + strings.Repeat("é", 129) + `"}`,
		`{"type":"query","categories":"login"}`, `{"type":"query","categories":[]}`,
		`{"type":"query","categories":[null]}`, `{"type":"query","categories":null}`,
		`{"type":"query","categories":["ip","login"]}`, `{"type":"query","categories":{"ip":true}}`,
	} {
		p.send(message)
		if code := p.error(); code != api.CodeValidation {
			t.Errorf("%.80s: %s, want %s", message, code, api.CodeValidation)
		}
	}
	if err := p.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"query"}`)); err != nil {
		t.Fatal(err)
	}
	if code := p.error(); code != api.CodeValidation {
		t.Errorf("binary: %s", code)
	}
	if calls := k.owner.called(); len(calls) > 0 {
		t.Errorf("ended %v", calls)
	}
	p.send(`{"type":"query","pageSize":3}`)
	if p.read(); p.view.PageSize != 3 {
		t.Errorf("the stream does not go on: %+v", p.view)
	}
	if err := p.conn.Write(t.Context(), websocket.MessageText, make([]byte, api.MaxFrame+1)); err != nil {
		t.Fatal(err)
	}
	if _, code := p.ended(); code != websocket.StatusMessageTooBig {
		t.Errorf("too big: %d", code)
	}
	bad := k.watch(fullKey, query)
	if err := bad.conn.Write(t.Context(), websocket.MessageText, []byte("\xff")); err != nil {
		t.Fatal(err)
	}
	if _, code := bad.ended(); code != websocket.StatusInvalidFramePayloadData {
		t.Errorf("not UTF-8: %d", code)
	}
	polite := k.watch(fullKey, query)
	if err := polite.conn.Close(4000, "bye"); err != nil { // the same code must come back
		t.Errorf("close handshake: %v", err)
	}
}

func TestStreamDisconnect(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row, other, foreign := k.open(desktop, 1000, nil), k.open(web, 1000, nil), k.open(others, 1000, nil)
	reader := k.watch(readKey, query)
	reader.send(`{"type":"disconnect_session","serverId":"` + string(row.ServerID) + `"}`)
	if code := reader.error(); code != api.CodeInsufficientScope {
		t.Errorf("%s", code)
	}
	p := k.watch(fullKey, query)
	for _, id := range []api.ServerID{"", "srv-01", "nowhere:x", api.NewServerID("srv-01", unopened), other.ServerID, foreign.ServerID} {
		p.send(`{"type":"disconnect_session","serverId":"` + string(id) + `"}`)
		p.quiet(t)
	}
	if _, live := k.registry.Get(others, foreign.Session); !live {
		t.Fatal("ended another organization's session")
	}
	if _, live := k.registry.Get(web, other.Session); !live {
		t.Fatal("ended another application's session")
	}
	p.send(`{"type":"disconnect_session","serverId":"` + string(row.ServerID) + `","reason":"x"}`)
	if kind := p.read(); kind != api.TypeRemoved {
		t.Errorf("%s", kind)
	}
	reader.settle(query)
	if calls := k.owner.called(); calls[len(calls)-1] != string(row.ServerID)+" by fullfullfullfull for " {
		t.Errorf("%v", calls)
	}
	again := k.open(desktop, 2000, nil)
	p.settle(query)
	k.owner.mu.Lock()
	k.owner.err = api.Errorf(api.CodeUnavailable, "srv-02 does not answer")
	k.owner.mu.Unlock()
	p.send(`{"type":"disconnect_session","serverId":"` + string(again.ServerID) + `"}`)
	if code := p.error(); code != api.CodeUnavailable {
		t.Errorf("%s", code)
	}
	// A command that takes its time holds up the commands after it, and no delta.
	gate := make(chan struct{})
	k.owner.mu.Lock()
	k.owner.err, k.owner.gate = nil, gate
	k.owner.mu.Unlock()
	p.send(`{"type":"disconnect_session","serverId":"` + string(again.ServerID) + `"}`)
	p.send(`{"type":"nothing"}`)
	k.open(desktop, 3000, nil)
	p.settle(query)
	close(gate)
	p.settle(query)
}

// TestG7AccessIsContinuous takes access away from streams in every way: each ends within a second, with the code that a new call
// gets.
func TestG7AccessIsContinuous(t *testing.T) {
	soon := func(d time.Duration) *api.Millis { return new(api.MillisOf(time.Now().Add(d))) }
	for _, tt := range []struct {
		name  string
		code  api.Code
		still bool // a new call gets the same code
		take  func(*testing.T, *kit) error
	}{
		{"revoked", api.CodeKeyRevoked, true, func(t *testing.T, k *kit) error {
			_, err := k.tenants.RevokeKey(t.Context(), "fullfullfullfull")
			return err
		}},
		{"expired", api.CodeKeyExpired, true, func(t *testing.T, k *kit) error {
			_, err := k.tenants.PatchKey(t.Context(), "fullfullfullfull", tenant.KeyInput{ExpiresAt: soon(100 * time.Millisecond)})
			return err
		}},
		{"scope", api.CodeInsufficientScope, true, func(t *testing.T, k *kit) error {
			_, err := k.tenants.PatchKey(t.Context(), "fullfullfullfull", tenant.KeyInput{Scopes: &[]api.Scope{api.ScopeSessionsDisconnect}})
			return err
		}},
		{"application", api.CodeApplicationForbidden, true, func(t *testing.T, k *kit) error {
			_, err := k.tenants.PatchKey(t.Context(), "fullfullfullfull", tenant.KeyInput{Applications: &[]api.ApplicationID{web}})
			return err
		}},
		{"archived", api.CodeApplicationNotFound, true, func(t *testing.T, k *kit) error {
			_, err := k.tenants.ArchiveApplication(t.Context(), desktop, "test")
			return err
		}},
		{"plan", api.CodePlanRestricted, true, func(t *testing.T, k *kit) error {
			_, err := k.tenants.PatchOrganization(t.Context(), acme, tenant.OrganizationInput{
				Plan: &tenant.PlanInput{Name: "Free", LiveSessionsOverview: new(false)}})
			return err
		}},
		{"drain", api.CodeUnavailable, false, func(_ *testing.T, k *kit) error { k.stop(); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKit(t, manage.Limits{})
			k.open(desktop, 1000, nil)
			p, bystander := k.watch(fullKey, query), k.watch(otherKey, "applicationId=987654321")
			raw, _ := k.rawPeer(query) // one that reads nothing goes too
			_ = raw
			start := time.Now()
			drained := make(chan error, 1)
			go func() { drained <- tt.take(t, k) }()
			code, status := p.ended()
			want := websocket.StatusPolicyViolation
			if !tt.still {
				want = websocket.StatusGoingAway
			}
			if code != tt.code || status != want {
				t.Errorf("ended with %s, %d", code, status)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			if err := <-drained; err != nil {
				t.Fatal(err)
			}
			if tt.still {
				k.refusal(request{path: livePath}, tt.code)
				bystander.quiet(t)
				k.eventually("the other streams of the key end", func() bool { return k.registry.Stats().Watchers == 1 })
			} else if code := k.dialRefused(fullKey, query); code != tt.code {
				t.Errorf("a new stream: %q", code)
			}
		})
	}
}

// TestNoRoom: a node that can keep no more connections refuses streams before the upgrade, and answers lists.
func TestNoRoom(t *testing.T) {
	k := newKit(t, unlimited)
	k.full.Store(true)
	if code := k.dialRefused(fullKey, query); code != api.CodeUnavailable {
		t.Errorf("a stream: %q", code)
	}
	if a := k.do(request{path: livePath}); a.status != http.StatusOK {
		t.Errorf("a list: %d", a.status)
	}
	k.full.Store(false)
	k.watch(fullKey, query)
	if n := k.api.Streams(); n != 1 {
		t.Errorf("%d streams", n)
	}
}

func (k *kit) eventually(what string, ok func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func TestStreamsPerKey(t *testing.T) {
	k := newKit(t, manage.Limits{StreamsPerKey: 3, RequestsPerSecond: 1e6})
	var peers []*peer
	for range 3 {
		peers = append(peers, k.watch(fullKey, query))
	}
	const full = "this API key has 3 streams open, as many as it may on a node; close one, or try again in 1 s"
	if e := k.dialRefusal(fullKey, query); e.Code != api.CodeRateLimited || e.Message != full {
		t.Errorf("one too many: %+v", e)
	}
	if n := k.counter("streams-per-key"); n != 1 {
		t.Errorf("%v were counted, want 1", n)
	}
	k.watch(readKey, query)
	peers[0].close()
	k.eventually("a place is free again", func() bool { return k.gauge("rollcall_manage_streams") == 3 })
	k.watch(fullKey, query)
}

// counter returns how often a limit refused something.
func (k *kit) counter(limit string) float64 {
	k.t.Helper()
	families, err := k.metrics.Gather()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "rollcall_limit_refusals_total" && m.GetLabel()[0].GetValue() == limit {
				return m.GetCounter().GetValue()
			}
		}
	}
	k.t.Fatalf("no limit %s", limit)
	return 0
}

func (k *kit) gauge(name string) float64 {
	k.t.Helper()
	families, err := k.metrics.Gather()
	if err != nil {
		k.t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		return 0
	}
	return families[i].GetMetric()[0].GetGauge().GetValue()
}

// smallBuffers makes sockets that hold little, so that a reader that stops is felt soon.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(4096)
	}
	return conn, err
}

// TestSlowReader is G2: while one watcher reads nothing, the others and the server go on, nothing queues for it, and when it reads
// again it is in one step where the others are.
func TestSlowReader(t *testing.T) {
	k := newKit(t, manage.Limits{})
	k.server.Close()
	k.restart(func(l net.Listener) net.Listener { return smallBuffers{l} })
	conn, r := k.rawPeer(query + "&pageSize=50")
	fast := k.watch(fullKey, query+"&pageSize=50")
	k.watch(fullKey, query+"&page=2")

	before := heap()
	var live []registry.Row
	const rounds = 10
	for i := range rounds {
		for j := range 60 { // the whole page, each time
			row := k.row(desktop, api.Millis(1000+100*i+j))
			row.License = strings.Repeat("L", 4096) // longer than any, so that sockets are full after a few steps
			live = append(live, k.appear(row))
		}
		fast.settle(query + "&pageSize=50")
		for len(live) > 60 {
			k.vanish(live[0])
			live = live[1:]
		}
	}
	fast.settle(query + "&pageSize=50")
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	slow := &peer{k: k}
	want := len(fast.view.Items)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for len(slow.seen) == 0 || !equalItems(slow.view.Items, fast.view.Items) {
		op, payload, err := frame(r)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(slow.seen), err)
		}
		if op == 1 {
			slow.apply(payload)
		}
	}
	// What its socket took before it was full, and one step from there.
	if len(slow.view.Items) != want || len(slow.seen) > len(fast.seen)-300 {
		t.Errorf("the slow one got %d messages, the fast one %d", len(slow.seen), len(fast.seen))
	}
}

// metered counts what one end of a connection was given to write and the peer has not taken yet.
type metered struct {
	net.Conn
	mu                    sync.Mutex
	writes, pending, most int
}

func (c *metered) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.pending += len(b)
	c.most = max(c.most, c.pending)
	c.mu.Unlock()
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	c.pending -= len(b)
	c.mu.Unlock()
	return n, err
}

func (c *metered) state() (writes, pending, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes, c.pending, c.most
}

// oneConn is a listener of a connection that is there already.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (l oneConn) Close() error   { return nil }
func (l oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestG2StalledWatcher stops reading for 20 seconds in which every row of the page changes hundreds of times. The connection has no
// buffers: what the server keeps for the watcher is what it was given to write, which stays one flush; and one flush after the
// watcher has taken that it holds the page.
func TestG2StalledWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, manage.Limits{StreamPing: time.Hour})
		k.server.Close() // time stands still while a real socket is waited for
		ours, theirs := net.Pipe()
		conn := &metered{Conn: theirs}
		listener := make(oneConn, 1)
		listener <- conn
		server := &http.Server{Handler: k.api, ReadHeaderTimeout: time.Minute}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(listener) })
		defer serving.Wait()
		defer server.Close()
		defer close(listener)
		defer ours.Close()

		q := registry.Query{Organization: acme, Application: desktop, PageSize: 50, Totals: true}
		slow := &peer{k: k}
		r := upgrade(t, ours, query+"&pageSize=50&totals=true")
		take := func() {
			op, payload, err := frame(r)
			if err != nil || op != 1 {
				t.Fatalf("%d %v", op, err)
			}
			slow.apply(payload)
		}
		take()

		var live []registry.Row
		longest := 0 // bytes of a row's message
		for i := range 2000 {
			row := k.row(desktop, api.Millis(1000+i))
			row.License = strings.Repeat("L", 200+i%50)
			if live = append(live, k.appear(row)); len(live) > 60 {
				k.vanish(live[0])
				live = live[1:]
			}
			longest = max(longest, len(row.License)+500)
			time.Sleep(10 * time.Millisecond)
			if writes, pending, _ := conn.state(); i > 100 && (writes != 3 || pending == 0) {
				t.Fatalf("after %d changes: %d writes, %d bytes pending", i, writes, pending) // the upgrade, init, and one flush
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, _, most := conn.state(); most > 2*50*longest {
			t.Errorf("%d bytes were pending", most)
		}
		for want := k.registry.List(q); !reflect.DeepEqual(slow.view, want); {
			if writes, _, _ := conn.state(); writes > 4 {
				t.Fatalf("%d writes, and the page is not there", writes)
			}
			take()
		}
		synctest.Wait()
		if writes, pending, _ := conn.state(); writes != 4 || pending != 0 {
			t.Errorf("%d writes in all, %d bytes are pending", writes, pending)
		}
	})
}

func equalItems(a, b []api.Row) bool {
	return slices.EqualFunc(a, b, func(x, y api.Row) bool { return x.ServerID == y.ServerID })
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) // far below
}

// TestSilentPeers: who neither answers pings nor takes what is written is dropped; who answers stays.
func TestSilentPeers(t *testing.T) {
	const idle = 700 * time.Millisecond // above the pause between two steps
	k := newKit(t, manage.Limits{StreamPing: 50 * time.Millisecond, StreamIdle: idle})
	good, goodReader := k.rawPeer(query)
	var reader sync.WaitGroup
	t.Cleanup(reader.Wait)
	t.Cleanup(func() { _ = good.Close() })
	reader.Go(func() {
		for {
			op, _, err := frame(goodReader)
			if err != nil {
				return
			}
			if op == 9 {
				_, _ = good.Write([]byte{0x8a, 0x80, 0, 0, 0, 0}) // a masked pong
			}
		}
	})
	start := time.Now()
	_, quiet := k.rawPeer(query)
	pings := 0
	for {
		op, _, err := frame(quiet)
		if err != nil {
			break
		}
		if op == 9 {
			pings++
		}
	}
	if took := time.Since(start); took < idle || took > 3*idle || pings < 3 {
		t.Errorf("dropped after %v and %d pings", took, pings)
	}
	k.eventually("one stream is left", func() bool { return k.gauge("rollcall_manage_streams") == 1 })
	if n := k.counter("stream-idle"); n != 1 {
		t.Errorf("%v were counted, want 1", n)
	}

	k.server.Close()
	k.restart(func(l net.Listener) net.Listener { return smallBuffers{l} })
	k.rawPeer(query + "&pageSize=50")
	k.eventually("it is open", func() bool { return k.gauge("rollcall_manage_streams") == 2 })
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() { // never quiet, so that a write is always under way
		for i := api.Millis(1); ; i++ {
			select {
			case <-stop:
				return
			default:
				row := k.row(desktop, 1000+i)
				row.License, row.Login = strings.Repeat("L", 256), strings.Repeat("J", 256)
				k.appear(row)
				time.Sleep(time.Millisecond)
			}
		}
	})
	k.eventually("the one that reads nothing is dropped", func() bool { return k.gauge("rollcall_manage_streams") == 1 })
	close(stop)
	churn.Wait()
	time.Sleep(idle)
	if n := k.gauge("rollcall_manage_streams"); n != 1 {
		t.Errorf("the one that answers is gone: %v", n)
	}
}
