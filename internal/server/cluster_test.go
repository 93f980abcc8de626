package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// startNodes starts nodes that connect to each other, on one PostgreSQL database.
func startNodes(t *testing.T, n int) []*testkit.Server {
	t.Helper()
	return startLimited(t, n, 0)
}

// startLimited is startNodes with a plan that limits authorized sessions.
func startLimited(t *testing.T, n, maxAuthorized int) []*testkit.Server {
	t.Helper()
	database := storetest.Database(t, storetest.Postgres(t))
	var addresses []string
	for range n {
		addresses = append(addresses, testkit.FreeAddress(t))
	}
	nodes := make([]*testkit.Server, n)
	for i := range nodes {
		nodes[i] = testkit.Start(t, testkit.Config{Database: database, Node: nodeName(i), MaxAuthorized: maxAuthorized, Cluster: server.ClusterConfig{
			Listen: addresses[i], Peers: strings.Join(addresses, ","), Secret: "sixteen-bytes-at-least"}})
	}
	for _, s := range nodes {
		whole(t, s)
	}
	return nodes
}

func nodeName(i int) string { return fmt.Sprintf("srv-%02d", i+1) }

// whole waits until a node sees all others.
func whole(t *testing.T, s *testkit.Server) {
	t.Helper()
	testkit.Eventually(t, "every node is seen", func() bool {
		status, body := ready(t, s)
		return status == http.StatusOK && strings.Contains(body, `"ready"`)
	})
}

func ready(t *testing.T, s *testkit.Server) (int, string) {
	t.Helper()
	resp, err := http.Get(s.Ops + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// sameEverywhere waits until every node lists exactly these sessions.
func sameEverywhere(t *testing.T, nodes []*testkit.Server, held []*session) {
	t.Helper()
	want := []string{}
	for _, c := range held {
		want = append(want, c.ServerID)
	}
	slices.Sort(want)
	for i, s := range nodes {
		var got []string
		testkit.Eventually(t, nodeName(i)+" lists what is connected", func() bool {
			got = []string{}
			for _, row := range list(t, s, url.Values{"pageSize": {"50"}}).Items {
				got = append(got, string(row.ServerID))
			}
			slices.Sort(got)
			return slices.Equal(got, want)
		})
	}
}

// TestCluster: every node shows and commands every session (page 4).
func TestCluster(t *testing.T) {
	t.Parallel() // it waits most of the time
	nodes := startNodes(t, 3)
	streams := make([]*watcher, 3)
	for i, s := range nodes {
		streams[i] = watch(t, s, testkit.Key, url.Values{"totals": {"true"}}, 0)
	}
	var held []*session
	for i := range 9 {
		held = append(held, mustOpen(t, nodes[i%3], hello(testkit.Token(t, nil), nil)))
	}
	sameEverywhere(t, nodes, held)

	t.Run("disconnect from another node", func(t *testing.T) {
		c := held[0] // at srv-01
		status, body := nodes[1].Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, "/"+c.ID+"?reason=why"), nil)
		var result api.DisconnectResult
		decode(t, status, http.StatusOK, body, &result)
		if result.DisconnectedCount != 1 {
			t.Errorf("disconnectedCount %d", result.DisconnectedCount)
		}
		if f := c.end(t, int(api.CloseDisconnected)); f.Reason != "why" {
			t.Errorf("reason %q", f.Reason)
		}
		held = held[1:]
		if n := list(t, nodes[1], url.Values{}).Total; n != len(held) {
			t.Errorf("%d sessions after the answer, want %d", n, len(held))
		}
		record := func(s *testkit.Server) *api.Details {
			var got api.SessionReply
			s.Get(t, testkit.Key, sessionsPath(testkit.App, "/"+c.ID+"?details=true"), &got)
			return got.Session.Details
		}
		// The node that answered knows; the log of the owner may be on its way to the third.
		d := record(nodes[1])
		testkit.Eventually(t, "srv-03 knows of the end", func() bool { return record(nodes[2]).EndReason != "" })
		for _, d := range []*api.Details{d, record(nodes[2])} {
			if d.EndReason != api.EndDisconnected || d.EndedBy != "0123456789abcdef" || d.Reason != "why" {
				t.Errorf("record: %+v", d)
			}
		}
		sameEverywhere(t, nodes, held)
	})
	t.Run("streams", func(t *testing.T) {
		for i, w := range streams {
			want := viewJSON(t, list(t, nodes[i], url.Values{"totals": {"true"}}).View, w.query)
			testkit.Eventually(t, "the page of "+nodeName(i), func() bool { return w.page(t) == want })
		}
	})
	t.Run("a change of a tenant reaches every node within a second", func(t *testing.T) {
		if status, body := nodes[0].Do(t, nodes[0].AdminToken, http.MethodDelete, "/api/v1/admin/api-keys/readreadreadread", nil); status >= 300 {
			t.Fatalf("the admin route answered %d %s", status, body)
		}
		for _, s := range nodes {
			testkit.Eventually(t, "the key is refused", func() bool {
				status, _ := s.Do(t, testkit.ReadKey, http.MethodGet, livePath(url.Values{}), nil)
				return status == http.StatusUnauthorized
			})
		}
	})
	t.Run("disconnect by search", func(t *testing.T) {
		var stolen []*session
		for i := range 6 {
			stolen = append(stolen, mustOpen(t, nodes[i%3], hello(testkit.Token(t, map[string]any{"license": fmt.Sprintf("STOLEN-%d", i)}), nil)))
		}
		sameEverywhere(t, nodes, slices.Concat(held, stolen))
		path, in := sessionsPath(testkit.App, ":disconnect"), map[string]any{"searchString": "stolen", "reason": "why"}
		var preview api.DisconnectPreview
		status, body := nodes[0].Do(t, testkit.Key, http.MethodPost, path+"?dryRun=true", in)
		decode(t, status, http.StatusOK, body, &preview)
		later := mustOpen(t, nodes[2], hello(testkit.Token(t, map[string]any{"license": "STOLEN-6"}), nil))
		in["createdBefore"] = preview.CreatedBefore
		var result api.DisconnectResult
		status, body = nodes[1].Do(t, testkit.Key, http.MethodPost, path, in)
		decode(t, status, http.StatusOK, body, &result)
		if preview.Count != len(stolen) || result.DisconnectedCount != len(stolen) {
			t.Errorf("%d were to end, %d ended, of %d", preview.Count, result.DisconnectedCount, len(stolen))
		}
		if n := list(t, nodes[1], url.Values{}).Total; n != len(held)+1 {
			t.Errorf("%d sessions after the answer", n)
		}
		for _, c := range stolen {
			if f := c.end(t, int(api.CloseDisconnected)); f.Reason != "why" {
				t.Errorf("reason %q", f.Reason)
			}
		}
		sameEverywhere(t, nodes, append(slices.Clone(held), later))
		if err := later.send(t.Context(), map[string]any{"type": api.TypeBye}); err != nil {
			t.Fatal(err)
		}
		<-later.ended
		sameEverywhere(t, nodes, held)
		for i, s := range nodes {
			var audit api.AuditList
			s.Get(t, testkit.Key, "/api/v1/audit?action=sessions.disconnected", &audit)
			if len(audit.Items) != 1 || *audit.Items[0].Count != len(stolen) {
				t.Errorf("%s shows %+v", nodeName(i), audit.Items)
			}
		}
	})
	t.Run("revoke all", func(t *testing.T) {
		start := time.Now()
		status, body := nodes[2].Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, ""), nil)
		var result api.DisconnectResult
		decode(t, status, http.StatusOK, body, &result)
		if result.DisconnectedCount != len(held) {
			t.Errorf("disconnectedCount %d, want %d", result.DisconnectedCount, len(held))
		}
		for i, s := range nodes {
			if n := list(t, s, url.Values{}).Total; i == 2 && n != 0 {
				t.Errorf("%s has %d sessions after the answer", nodeName(i), n)
			}
		}
		for _, c := range held {
			c.end(t, int(api.CloseRevoked))
		}
		t.Logf("revoked in %s", time.Since(start))
		sameEverywhere(t, nodes, nil)
	})
	t.Run("a node says goodbye", func(t *testing.T) {
		anybody := hello("", map[string]any{"token": nil, "publishableKey": testkit.PublishableKey})
		goes, stays := mustOpen(t, nodes[0], anybody), mustOpen(t, nodes[1], anybody)
		sameEverywhere(t, nodes, []*session{goes, stays})
		nodes[0].Stop(t)
		goes.end(t, int(api.CloseGoingAway))
		sameEverywhere(t, nodes[1:], []*session{stays})
		whole(t, nodes[1])
	})
}

// TestClusterLeases: a lease is served at any node, moves with its event stream, and outlives its node (page 3).
func TestClusterLeases(t *testing.T) {
	t.Parallel() // it waits most of the time
	nodes := startNodes(t, 2)
	token := testkit.Token(t, nil)
	id := lease(t, nodes[0], token, map[string]any{"hostname": "ci-7"})
	row := func(s *testkit.Server) (hostname string) {
		var got api.SessionReply
		s.Get(t, testkit.Key, sessionsPath(testkit.App, "/"+id), &got)
		return string(got.Session.DerivedStatus) + " " + *got.Session.Hostname
	}
	if status, body := nodes[1].Do(t, token, http.MethodPost, api.SessionsPath+"/"+id+"/heartbeat", map[string]any{"hostname": "ci-8"}); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	testkit.Eventually(t, "both nodes have it", func() bool { return row(nodes[0]) == "active ci-8" && row(nodes[1]) == "active ci-8" })
	here := events(t, nodes[0], token, id)
	there := events(t, nodes[1], token, id)
	if got := here(); got != "EOF" {
		t.Errorf("the first stream said %q", got)
	}
	for i, s := range nodes {
		testkit.Eventually(t, nodeName(i)+" lists it once", func() bool { return list(t, s, url.Values{}).Total == 1 })
		if status, body := beat(t, s, token, id); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
	}
	nodes[1].Stop(t)
	if got := there(); got != "EOF" {
		t.Errorf("the second stream said %q", got)
	}
	if status, body := beat(t, nodes[0], token, id); status != http.StatusOK {
		t.Fatalf("not adopted: %d %s", status, body)
	}
	if n := list(t, nodes[0], url.Values{}).Total; n != 1 || row(nodes[0]) != "active ci-8" {
		t.Errorf("%d sessions, %s", n, row(nodes[0]))
	}
}

// TestClusterQuota: nodes count each other's sessions against the plan. Only what two admit at the same moment, before they have heard
// of each other, is too much: with one place left, at most one a node.
func TestClusterQuota(t *testing.T) {
	t.Parallel() // it waits most of the time
	const limit, rounds, tries = 5, 5, 4
	nodes := startLimited(t, 2, limit)
	token := testkit.Token(t, nil)
	var held []*session
	for i := range limit - 1 {
		held = append(held, mustOpen(t, nodes[i%2], hello(token, nil)))
	}
	worst := 0
	for range rounds {
		sameEverywhere(t, nodes, held)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var more []*session
		byNode := [2]int{}
		for i := range 2 * tries {
			wg.Go(func() {
				if c, err := open(t.Context(), nodes[i%2], hello(token, nil)); err == nil {
					mu.Lock()
					defer mu.Unlock()
					more = append(more, c)
					byNode[i%2]++
				}
			})
		}
		wg.Wait()
		if len(more) == 0 || byNode[0] > 1 || byNode[1] > 1 {
			t.Errorf("%v were admitted to one place", byNode)
		}
		worst = max(worst, len(more)-1)
		sameEverywhere(t, nodes, append(slices.Clone(held), more...))
		for i, s := range nodes { // nobody is evicted, and nobody comes in
			if _, err := open(t.Context(), s, hello(token, nil)); err == nil {
				t.Errorf("%s admits more", nodeName(i))
			}
		}
		for _, c := range more {
			if err := c.send(t.Context(), map[string]any{"type": api.TypeBye}); err != nil {
				t.Fatal(err)
			}
			<-c.ended
		}
	}
	t.Logf("at worst %d too many", worst)
}

// TestLastConnection: lastConnectionTime is the maximum ever seen, on every node and in the database, whoever has lost it (page 2).
func TestLastConnection(t *testing.T) {
	t.Parallel() // it waits most of the time
	database := storetest.Database(t, storetest.Postgres(t))
	var nodes []*testkit.Server
	hub := testkit.FreeAddress(t)
	for i, listen := range []string{hub, "127.0.0.1:0"} {
		nodes = append(nodes, testkit.Start(t, testkit.Config{Database: database, Node: nodeName(i), Cluster: server.ClusterConfig{
			Listen: listen, Peers: hub, Secret: "sixteen-bytes-at-least"}}))
	}
	mustOpen(t, nodes[0], hello(testkit.Token(t, nil), nil))
	seen := list(t, nodes[0], url.Values{}).LastConnectionTime
	db := openStore(t, database)
	stored := func(at api.Millis) bool {
		all, err := db.Config().Connections(t.Context(), nil)
		return err == nil && all[testkit.App] == at
	}
	shown := func(at api.Millis) bool {
		return list(t, nodes[0], url.Values{}).LastConnectionTime == at && list(t, nodes[1], url.Values{}).LastConnectionTime == at
	}
	testkit.Eventually(t, "all know of the session", func() bool { return seen != 0 && stored(seen) && shown(seen) })

	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "UPDATE applications SET last_connection = 1"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "what the database had lost is there", func() bool { return stored(seen) && shown(seen) })

	later := seen.Add(time.Minute) // a session that came and went while these two could not hear of it
	if _, err := db.Config().Connections(t.Context(), map[api.ApplicationID]api.Millis{testkit.App: later}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "what only the database had is shown", func() bool { return shown(later) })
}

// TestClockOff: a node says so whose clock is not the database's, and serves.
func TestClockOff(t *testing.T) {
	t.Parallel() // it waits most of the time
	database := storetest.Database(t, storetest.Postgres(t))
	for off, want := range map[time.Duration]string{0: `"ready"`, time.Second: `"ready"`,
		time.Minute: "clock: this node's clock is 1m0s ahead of", -time.Minute: "clock: this node's clock is 1m0s behind"} {
		s := testkit.Start(t, testkit.Config{Database: database, Now: func() time.Time { return time.Now().Add(off) }})
		testkit.Eventually(t, "the node tells "+want, func() bool {
			status, body := ready(t, s)
			return status == http.StatusOK && strings.Contains(body, want)
		})
		mustOpen(t, s, hello("", map[string]any{"token": nil, "publishableKey": testkit.PublishableKey}))
		s.Stop(t)
	}
}
