package server_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

func sessionsPath(app api.ApplicationID, rest string) string {
	return api.RoutePrefix + "/applications/" + app.String() + "/sessions" + rest
}

// TestMainJob walks the product's one job on real sockets: a client says hello, an operator sees it in both APIs and on a stream,
// cuts it off, the client hears of it, and the record says who did it (G1, G3).
func TestMainJob(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	w := watch(t, s, testkit.Key, url.Values{"totals": {"true"}}, 0)
	c := mustOpen(t, s, hello(testkit.Token(t, map[string]any{"license": "ABCDEF-123456", "cid": "client-001"}),
		map[string]any{"hostname": "mbp-14", "clientInfo": map[string]any{"name": "demo", "version": "1"}}))

	testkit.Eventually(t, "the watcher sees the session", func() bool {
		return w.page(t) == viewJSON(t, list(t, s, w.query).View, w.query) && list(t, s, w.query).Total == 1
	})
	row := list(t, s, w.query).Items[0]
	if string(row.ServerID) != c.ServerID || row.ClientID != "client-001" || *row.Login != "john@example.com" ||
		*row.License != "ABCDEF-123456" || row.IPAddress != "127.0.0.1" {
		t.Errorf("row is %+v", row)
	}
	var got api.SessionReply
	s.Get(t, testkit.Key, sessionsPath(testkit.App, "/"+c.ID+"?details=true"), &got)
	if got.Session.Status != api.StatusActive || got.Session.DerivedStatus != api.DerivedActive || *got.Session.Hostname != "mbp-14" ||
		string(got.Session.ClientInfo) != `{"name":"demo","version":"1"}` || got.Session.Details.EndReason != "" {
		t.Errorf("session is %+v", got.Session)
	}

	command, _ := json.Marshal(map[string]string{"type": api.TypeDisconnectSession, "serverId": c.ServerID})
	if err := w.conn.Write(t.Context(), websocket.MessageText, command); err != nil {
		t.Fatal(err)
	}
	event := c.end(t, 4100)
	if !event.Reauthenticate {
		t.Errorf("the disconnect event does not ask to re-authenticate: %+v", event)
	}
	testkit.Eventually(t, "the row leaves list and stream", func() bool {
		return w.page(t) == viewJSON(t, list(t, s, w.query).View, w.query) && list(t, s, w.query).Total == 0
	})
	s.Get(t, testkit.Key, sessionsPath(testkit.App, "/"+c.ID+"?details=true"), &got)
	d := got.Session.Details
	if got.Session.DerivedStatus != api.DerivedDisconnected || d.EndReason != api.EndDisconnected || d.EndedBy != "0123456789abcdef" {
		t.Errorf("record is %+v, details %+v", got.Session, d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.problem != nil {
		t.Error(w.problem)
	}
}

// TestTenantsNeverMeet: a key of another organization sees, counts and ends nothing (G8).
func TestTenantsNeverMeet(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	c := mustOpen(t, s, hello(testkit.Token(t, nil), nil))
	unknown := api.MustID[api.Application]("99999999-9999-4999-8999-999999999999")
	for _, rest := range []string{"", "/" + c.ID, "?includeInactive=true"} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			status, body := s.Do(t, testkit.OtherKey, method, sessionsPath(testkit.App, rest), nil)
			wantStatus, want := s.Do(t, testkit.OtherKey, method, sessionsPath(unknown, rest), nil)
			if status != http.StatusNotFound || status != wantStatus || string(body) != string(want) {
				t.Errorf("%s %s of another organization: %d %s; of an unknown one: %d %s", method, rest, status, body, wantStatus, want)
			}
		}
	}
	if status, body := s.Do(t, testkit.OtherKey, http.MethodGet, livePath(url.Values{}), nil); status != http.StatusNotFound {
		t.Errorf("live list of another organization: %d %s", status, body)
	}
	// A stream on one's own application cannot reach a session of another's.
	w := watch(t, s, testkit.OtherKey, url.Values{"applicationId": {testkit.OtherNumber}}, 0)
	command, _ := json.Marshal(map[string]string{"type": api.TypeDisconnectSession, "serverId": c.ServerID})
	if err := w.conn.Write(t.Context(), websocket.MessageText, command); err != nil {
		t.Fatal(err)
	}
	var other api.LiveList
	s.Get(t, testkit.OtherKey, livePath(url.Values{"applicationId": {testkit.OtherNumber}}), &other)
	if other.Total != 0 || other.AuthorizedSessionCount != 0 {
		t.Errorf("another organization's sessions are counted: %+v", other)
	}
	if n := list(t, s, url.Values{}).Total; n != 1 {
		t.Errorf("total is %d after a stranger's command, want 1", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.problem != nil {
		t.Errorf("a serverId of another organization must be silently nothing: %v", w.problem)
	}
}
