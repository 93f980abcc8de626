package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// lease opens a lease with a token and returns its id.
func lease(t testing.TB, s *testkit.Server, token string, fields map[string]any) string {
	t.Helper()
	if fields == nil {
		fields = map[string]any{}
	}
	status, body := s.Do(t, token, http.MethodPost, api.SessionsPath, fields)
	var reply api.LeaseReply
	decode(t, status, http.StatusCreated, body, &reply)
	return reply.Session.ID.String()
}

func beat(t testing.TB, s *testkit.Server, token, id string) (int, string) {
	t.Helper()
	status, body := s.Do(t, token, http.MethodPost, api.SessionsPath+"/"+id+"/heartbeat", nil)
	return status, string(body)
}

// events opens a lease's event stream and returns what it says, up to its end.
func events(t testing.TB, s *testkit.Server, token, id string) (next func() string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+api.SessionsPath+"/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("no stream: %d %s", resp.StatusCode, b)
	}
	br := bufio.NewReader(resp.Body)
	return func() string {
		event := ""
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return "EOF"
			}
			if line == "\n" {
				if strings.HasPrefix(event, "event:") {
					return event
				}
				event = ""
				continue
			}
			event += line
		}
	}
}

// TestLeaseJob walks the main job for leases: a script and a reporting backend hold sessions, an operator sees them in both APIs and
// on a stream, and cuts them off; they hear of it at once (G1, G3, G4).
func TestLeaseJob(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	w := watch(t, s, testkit.Key, url.Values{"totals": {"true"}}, 0)
	token := testkit.Token(t, map[string]any{"license": "ABCDEF-123456"})
	id := lease(t, s, token, map[string]any{"clientId": "script-01", "hostname": "ci-7"})
	reported := api.NewSessionID().String()
	batch := func(wait int, items ...map[string]any) (out api.LeaseBatchReply) {
		status, body := s.Do(t, testkit.Key, http.MethodPost, api.RoutePrefix+"/applications/"+testkit.App.String()+"/leases:batch",
			map[string]any{"items": append([]map[string]any{}, items...), "waitSeconds": wait})
		decode(t, status, http.StatusOK, body, &out)
		return out
	}
	if r := batch(0, map[string]any{"op": "open", "id": reported, "ipAddress": "203.0.113.9", "authorized": true, "login": "agent"}); !r.Results[0].OK {
		t.Fatalf("%+v", r.Results[0].Error)
	}
	testkit.Eventually(t, "the watcher sees both", func() bool {
		return w.page(t) == viewJSON(t, list(t, s, w.query).View, w.query) && list(t, s, w.query).Total == 2
	})
	if row := list(t, s, w.query).Items[0]; string(row.ServerID) != "srv-01:"+reported || row.IPAddress != "203.0.113.9" {
		t.Errorf("%+v", row)
	}
	next := events(t, s, token, id)
	command, _ := json.Marshal(map[string]string{"type": api.TypeDisconnectSession, "serverId": "srv-01:" + id})
	if err := w.conn.Write(t.Context(), websocket.MessageText, command); err != nil {
		t.Fatal(err)
	}
	want := "event: disconnect\ndata: " + `{"type":"disconnect","code":4100,"reason":"disconnected by an operator","reauthenticate":true,"reconnect":true}` + "\n"
	if got := next(); got != want || next() != "EOF" {
		t.Errorf("event %q", got)
	}
	if status, body := beat(t, s, token, id); status != http.StatusGone || !strings.Contains(body, `"reason":"disconnected","reauthenticate":true`) {
		t.Errorf("%d %s", status, body)
	}
	var waiting sync.WaitGroup
	var told api.LeaseBatchReply
	waiting.Go(func() { told = batch(20) })
	status, body := s.Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, ""), nil)
	var result api.DisconnectResult
	decode(t, status, http.StatusOK, body, &result)
	waiting.Wait()
	if result.DisconnectedCount != 1 || len(told.Ended) != 1 || told.Ended[0].ID.String() != reported || told.Ended[0].Reason != api.EndRevoked {
		t.Errorf("%+v, told %+v", result, told.Ended)
	}
	testkit.Eventually(t, "both left list and stream", func() bool {
		return w.page(t) == viewJSON(t, list(t, s, w.query).View, w.query) && list(t, s, w.query).Total == 0
	})
	var got api.SessionReply
	s.Get(t, testkit.Key, sessionsPath(testkit.App, "/"+reported+"?details=true"), &got)
	if d := got.Session.Details; d.EndReason != api.EndRevoked || d.EndedBy != "0123456789abcdef" {
		t.Errorf("%+v", d)
	}
}

// TestLeasesSurviveKill: a server killed with -9 has ended no lease: each is unlisted until its client, or its reporter, is heard of
// again; what had ended stays so (G6). One that nobody takes up is closed when it has run out.
func TestLeasesSurviveKill(t *testing.T) {
	data := t.TempDir()
	child, process := startChild(t, data)
	var ids, tokens []string
	for i := range 20 {
		tokens = append(tokens, testkit.Token(t, map[string]any{"sub": fmt.Sprint("user", i)}))
		ids = append(ids, lease(t, child, tokens[i], map[string]any{"leaseSeconds": 15 + i, "name": fmt.Sprint("name", i)}))
	}
	renewed := testkit.Token(t, map[string]any{"sub": "user0", "exp": time.Now().Add(2 * time.Hour).Unix()})
	if status, body := beat(t, child, renewed, ids[0]); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if status, _ := child.Do(t, tokens[1], http.MethodDelete, api.SessionsPath+"/"+ids[1], nil); status != http.StatusNoContent {
		t.Fatal(status)
	}
	var items, beats []map[string]any
	for range 50 {
		id := api.NewSessionID()
		items = append(items, map[string]any{"op": "open", "id": id, "ipAddress": "203.0.113.9", "authorized": true, "leaseSeconds": 3600})
		beats = append(beats, map[string]any{"op": "heartbeat", "id": id})
	}
	report := func(s *testkit.Server, items []map[string]any) {
		t.Helper()
		var out api.LeaseBatchReply
		status, body := s.Do(t, testkit.Key, http.MethodPost, api.RoutePrefix+"/applications/"+testkit.App.String()+"/leases:batch", map[string]any{"items": items})
		decode(t, status, http.StatusOK, body, &out)
		for _, r := range out.Results {
			if !r.OK {
				t.Fatalf("%+v", r.Error)
			}
		}
	}
	report(child, items)
	c := mustOpen(t, child, hello(testkit.Token(t, nil), nil))
	testkit.Eventually(t, "the end of a lease is written", func() bool { return strings.Contains(recordOf(t, child, ids[1]), "client_closed") })
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	process.Wait()

	s := testkit.Start(t, testkit.Config{Data: data, Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}})
	if n := list(t, s, url.Values{}).Total; n != 0 {
		t.Errorf("%d sessions are listed", n)
	}
	var all api.SessionList
	s.Get(t, testkit.Key, sessionsPath(testkit.App, "?includeInactive=true"), &all)
	if len(all.Items) != 2 { // the socket's session, and the lease that had ended
		t.Errorf("%d ended sessions are listed", len(all.Items))
	}
	if got := recordOf(t, s, c.ID); !strings.Contains(got, "server_stopped") {
		t.Error(got)
	}
	if got := recordOf(t, s, ids[2]); !strings.Contains(got, `"status":"disconnected"`) || strings.Contains(got, "disconnectedAt") {
		t.Errorf("a lease that nobody holds reads as %s", got)
	}
	report(s, beats)
	for i, id := range ids {
		status, body := beat(t, s, tokens[i], id)
		switch {
		case i == 1 && status == http.StatusGone && strings.Contains(body, "client_closed"):
		case i != 1 && status == http.StatusOK && strings.Contains(body, fmt.Sprintf(`"name":"name%d"`, i)):
		default:
			t.Errorf("lease %d: %d %s", i, status, body)
		}
	}
	if got := recordOf(t, s, ids[0]); !strings.Contains(got, time.Now().Add(2*time.Hour).UTC().Format("2006-01-02T15")) {
		t.Errorf("the renewed token was lost: %s", got)
	}
	if n := list(t, s, url.Values{}).Total; n != 69 {
		t.Errorf("%d sessions are listed", n)
	}
	s.Stop(t)

	// The node was last seen a while ago: the shorter leases have run out since, the longer ones have not.
	db, unlock := lockDatabase(t, data)
	unlock()
	seen := time.Now().Add(-(25 + 60) * time.Second).UnixMilli()
	for _, query := range []string{"UPDATE nodes SET beat_at = ?", "UPDATE sessions SET created_at = ? WHERE ended_at = 0"} {
		if _, err := db.Exec(query, seen); err != nil {
			t.Fatal(err)
		}
	}
	s = testkit.Start(t, testkit.Config{Data: data})
	for i, id := range ids {
		if i == 1 {
			continue
		}
		expired := 15+i < 24 // a second either way is not looked at
		got := recordOf(t, s, id)
		if strings.Contains(got, "lease_expired") != expired && 15+i != 24 && 15+i != 25 {
			t.Errorf("a lease of %d s: %s", 15+i, got)
		}
		if expired {
			at := api.Millis(seen).Add(time.Duration(15+i) * time.Second).Timestamp().String()
			if !strings.Contains(got, `"disconnectedAt":"`+at) {
				t.Errorf("a lease of %d s did not end at %s: %s", 15+i, at, got)
			}
			if status, body := beat(t, s, tokens[i], id); status != http.StatusGone || !strings.Contains(body, "lease_expired") {
				t.Errorf("%d %s", status, body)
			}
		}
	}
	report(s, beats)
}

// recordOf returns a session with its details.
func recordOf(t testing.TB, s *testkit.Server, id string) string {
	t.Helper()
	status, body := s.Do(t, testkit.Key, http.MethodGet, sessionsPath(testkit.App, "/"+id+"?details=true"), nil)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return string(body)
}
