package manage_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
)

func sessionsPath(app api.ApplicationID) string {
	return api.RoutePrefix + "/applications/" + app.String() + "/sessions"
}

func sessionPath(app api.ApplicationID, id api.SessionID) string {
	return sessionsPath(app) + "/" + id.String()
}

// TestSessionObject is the document's object: its very bytes, live and ended.
func TestSessionObject(t *testing.T) {
	k := newKit(t, manage.Limits{})
	created := ms() - 1000
	row := k.open(desktop, created, func(r *registry.Row, _ *store.Record) { r.TokenExpiresAt = created + 3_600_000 })
	at := func(m api.Millis) string { return m.Timestamp().String() }
	want := fmt.Sprintf(`{"session":{"id":"%s","name":"john@example.com on mbp-14","status":"active","derivedStatus":"active",`+
		`"tokenExpiresAt":"%s","lastActiveAt":"%s","connectedAt":"%s","createdAt":"%s","agentId":"%s","organizationId":"%s",`+
		`"hostname":"mbp-14","userAgent":"agent/1","clientInfo":{"name":"<x>","version":"1"}}}`+"\n",
		row.Session, at(created+3_600_000), at(created), at(created), at(created), desktop, acme)
	if a := k.do(request{path: sessionPath(desktop, row.Session)}); string(a.body) != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, string(a.body)))
	}
	bare := k.open(desktop, created, func(r *registry.Row, rec *store.Record) {
		r.Login, r.License, r.ClientID, r.Authorized = "", "", r.Session.String(), false
		rec.Hostname, rec.UserAgent, rec.ClientInfo = "", "", nil
	})
	ended := api.MillisOf(time.Now())
	k.owner.end(bare, api.EndDisconnected, "fullfullfullfull", "stolen")
	s := get[api.SessionReply](k, sessionPath(desktop, bare.Session)+"?details=true").Session
	gone := api.Millis(*s.DisconnectedAt)
	if gone < ended || gone > ms() {
		t.Errorf("disconnectedAt %s", s.DisconnectedAt)
	}
	want = fmt.Sprintf(`{"session":{"id":"%s","name":"%s","status":"disconnected","derivedStatus":"disconnected",`+
		`"connectedAt":"%s","disconnectedAt":"%s","createdAt":"%s","agentId":"%s","organizationId":"%s","hostname":null,"userAgent":null,`+
		`"clientInfo":null,"details":{"serverId":"%s","ipAddress":"203.0.113.10","login":null,"license":null,"clientId":"%s",`+
		`"authorized":false,"endReason":"disconnected","endedBy":"fullfullfullfull","reason":"stolen"}}}`+"\n",
		bare.Session, bare.Session, at(created), at(gone), at(created), desktop, acme, bare.ServerID, bare.Session)
	if a := k.do(request{path: sessionPath(desktop, bare.Session) + "?details=true"}); string(a.body) != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, string(a.body)))
	}
}

func TestSessionName(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for _, tt := range []struct {
		want                                    string
		name, login, license, client, onMachine string
	}{
		{"Mine", "Mine", "l", "k", "cccc", "h"},
		{"l on h", "", "l", "k", "cccc", "h"},
		{"k on h", "", "", "k", "cccc", "h"},
		{"cccc on h", "", "", "", "cccc", "h"},
		{"cccc", "", "", "", "cccc", ""},
	} {
		row := k.open(desktop, ms(), func(r *registry.Row, rec *store.Record) {
			r.Login, r.License, r.ClientID = tt.login, tt.license, tt.client
			rec.Name, rec.Hostname = tt.name, tt.onMachine
		})
		for range 2 { // live, then ended
			if s := get[api.SessionReply](k, sessionPath(desktop, row.Session)).Session; s.Name != tt.want {
				t.Errorf("%q, want %q", s.Name, tt.want)
			}
			k.end(row)
		}
	}
}

// TestDerivedStatus lists one session of every derived status under every filter.
func TestDerivedStatus(t *testing.T) {
	k := newKit(t, manage.Limits{})
	now := ms()
	idleAfter := api.Millis(api.DefaultIdleAfter.Milliseconds())
	open := func(name string, created, lastActive, expires api.Millis) registry.Row {
		return k.open(desktop, created, func(r *registry.Row, rec *store.Record) {
			r.LastActiveAt, r.TokenExpiresAt, rec.Name = lastActive, expires, name
		})
	}
	open("active", now-5, now-5, 0)
	open("renewable", now-6, now-6, now+60_000)
	open("idle", now-idleAfter-7, now-idleAfter, now+60_000)
	open("expired", now-idleAfter-8, now-8, now-1)
	open("expired and idle", now-idleAfter-9, now-idleAfter-9, now-1)
	k.end(open("gone", now-idleAfter-10, now-10, 0))
	k.end(open("gone and expired", now-3, now-3, now-1))
	for query, want := range map[string]string{
		"":                                    "active=active renewable=active idle=idle",
		"?includeInactive=false":              "active=active renewable=active idle=idle",
		"?status=active":                      "active=active renewable=active idle=idle",
		"?status=active&includeInactive=true": "active=active renewable=active idle=idle",
		"?status=inactive":                    "gone and expired=disconnected expired=expired expired and idle=expired gone=disconnected",
		"?status=all": "gone and expired=disconnected active=active renewable=active idle=idle expired=expired expired and idle=expired " +
			"gone=disconnected",
		"?includeInactive=true": "gone and expired=disconnected active=active renewable=active idle=idle expired=expired " +
			"expired and idle=expired gone=disconnected",
		"?limit=1": "active=active",
	} {
		var got []string
		for _, s := range get[api.SessionList](k, sessionsPath(desktop)+query).Items {
			got = append(got, s.Name+"="+string(s.DerivedStatus))
			if (s.Status == api.StatusDisconnected) != (s.DerivedStatus == api.DerivedDisconnected) {
				t.Errorf("%s is %s", s.Name, s.Status)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q:\n got %s\nwant %s", query, strings.Join(got, " "), want)
		}
	}
	counts := get[api.Application](k, api.RoutePrefix+"/applications/"+desktop.String()).Sessions
	if *counts != (api.SessionCounts{Active: 2, Idle: 1, Live: 5, Total: 7}) {
		t.Errorf("%+v", counts)
	}
}

func TestSessionParameters(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.open(desktop, 1000, nil)
	long := strings.Repeat("x", 257)
	for _, tt := range []struct{ method, path, names string }{
		{"GET", sessionsPath(desktop) + "?limit=", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=0", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=1001", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=-1", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=1.5", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=ten", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=99999999999999999999", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=1&limit=1", "limit"},
		{"GET", sessionsPath(desktop) + "?limit=%31%", "limit"},
		{"GET", sessionsPath(desktop) + "?status=", "status"},
		{"GET", sessionsPath(desktop) + "?status=idle", "status"},
		{"GET", sessionsPath(desktop) + "?status=Active", "status"},
		{"GET", sessionsPath(desktop) + "?status=all&status=all", "status"},
		{"GET", sessionsPath(desktop) + "?status=%ff", "status"},
		{"GET", sessionsPath(desktop) + "?includeInactive=", "includeInactive"},
		{"GET", sessionsPath(desktop) + "?includeInactive=1", "includeInactive"},
		{"GET", sessionsPath(desktop) + "?includeInactive=True", "includeInactive"},
		{"GET", sessionsPath(desktop) + "?includeInactive=true&includeInactive=false", "includeInactive"},
		{"GET", sessionsPath(desktop) + "?details=yes", "details"},
		{"GET", sessionsPath(desktop) + "?details=true&details=true", "details"},
		{"GET", sessionsPath(desktop) + "?cursor=", "cursor"},
		{"GET", sessionsPath(desktop) + "?cursor=AAAA", "cursor"},
		{"GET", sessionsPath(desktop) + "?cursor=%21%21", "cursor"},
		{"GET", sessionsPath(desktop) + "?cursor=" + strings.Repeat("A", 5000), "cursor"},
		{"GET", sessionsPath(desktop) + "?cursor=a&cursor=a", "cursor"},
		{"DELETE", sessionsPath(desktop) + "?reason=" + long, "reason"},
		{"DELETE", sessionsPath(desktop) + "?reason=%ff", "reason"},
		{"DELETE", sessionsPath(desktop) + "?reason=a&reason=b", "reason"},
		{"DELETE", sessionPath(desktop, row.Session) + "?reason=" + long, "reason"},
		{"DELETE", sessionPath(desktop, row.Session) + "?reason=%C3%28", "reason"},
		{"DELETE", sessionPath(desktop, row.Session) + "?reason=a&reason=a", "reason"},
		{"GET", sessionPath(desktop, row.Session) + "?details=", "details"},
		{"GET", api.RoutePrefix + "/applications/123456789/sessions", "applicationId"},
		{"GET", api.RoutePrefix + "/applications/x/sessions", "applicationId"},
		{"GET", api.RoutePrefix + "/applications/%20/sessions", "applicationId"},
		{"GET", api.RoutePrefix + "/applications/" + desktop.String() + "%2F/sessions", "applicationId"},
		{"DELETE", api.RoutePrefix + "/applications/123456789/sessions", "applicationId"},
		{"GET", sessionsPath(desktop) + "/x", "sessionId"},
		{"GET", sessionsPath(desktop) + "/" + string(row.ServerID), "sessionId"},
		{"DELETE", sessionsPath(desktop) + "/x", "sessionId"},
		{"DELETE", sessionsPath(desktop) + "/%00", "sessionId"},
	} {
		if msg := k.refusal(request{method: tt.method, path: tt.path}, api.CodeValidation); !strings.Contains(msg, tt.names) {
			t.Errorf("%s %s: %q does not name %s", tt.method, tt.path, msg, tt.names)
		}
	}
	for query, accepted := range map[string]string{"limit=0": "1 to 1000", "status=x": "active, inactive or all", "details=x": "true or false"} {
		if msg := k.refusal(request{path: sessionsPath(desktop) + "?" + query}, api.CodeValidation); !strings.Contains(msg, accepted) {
			t.Errorf("%s: %q", query, msg)
		}
	}
	if _, live := k.registry.Get(desktop, row.Session); !live {
		t.Error("a refused call ended the session")
	}
	for _, query := range []string{"?limit=1000", "?limit=001", "?page=x&pageSize=0", "?x=1&x=2"} {
		if a := k.do(request{path: sessionsPath(desktop) + query}); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

func TestSessionNotFound(t *testing.T) {
	k := newKit(t, manage.Limits{})
	elsewhere := k.open(web, 1000, nil)
	for _, id := range []api.SessionID{unopened, elsewhere.Session} {
		for _, method := range []string{"GET", "DELETE"} {
			k.refusal(request{method: method, path: sessionPath(desktop, id)}, api.CodeSessionNotFound)
			k.refusal(request{method: method, path: sessionPath(nowhere, id)}, api.CodeApplicationNotFound)
		}
	}
	// A record without a row is a session that is still opening: not one yet.
	rec := store.Record{ID: api.NewSessionID(), Organization: acme, Application: desktop, CreatedAt: 1000}
	rec.ServerID = api.NewServerID("srv-01", rec.ID)
	if _, err := k.recorder.Stage(rec); err != nil {
		t.Fatal(err)
	}
	k.refusal(request{path: sessionPath(desktop, rec.ID)}, api.CodeSessionNotFound)
	if list := get[api.SessionList](k, sessionsPath(desktop)+"?status=all"); len(list.Items) > 0 {
		t.Errorf("%+v", list)
	}
}

func TestDisconnectOne(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.open(desktop, ms(), nil)
	k.refusal(request{method: "DELETE", path: sessionPath(desktop, row.Session), key: readKey}, api.CodeInsufficientScope)
	path := sessionPath(desktop, row.Session) + "?reason=" + strings.Repeat("%C3%A9", 256)
	for _, want := range []int{1, 0} { // and again
		got := ask[api.DisconnectResult](k, request{method: "DELETE", path: path, body: "ignored"}, http.StatusOK)
		if !got.Success || got.DisconnectedCount != want {
			t.Errorf("%+v, want %d", got, want)
		}
	}
	d := get[api.SessionReply](k, sessionPath(desktop, row.Session)+"?details=true").Session.Details
	if d.EndedBy != "fullfullfullfull" || d.Reason != strings.Repeat("é", 256) || d.EndReason != api.EndDisconnected {
		t.Errorf("%+v", d)
	}
	again := k.open(desktop, ms(), nil)
	k.owner.mu.Lock()
	k.owner.err = api.Errorf(api.CodeUnavailable, "srv-02 does not answer")
	k.owner.mu.Unlock()
	k.refusal(request{method: "DELETE", path: sessionPath(desktop, again.Session)}, api.CodeUnavailable)
	k.owner.mu.Lock()
	k.owner.err = errAway
	k.owner.mu.Unlock()
	if msg := k.refusal(request{method: "DELETE", path: sessionPath(desktop, again.Session)}, api.CodeInternal); strings.Contains(msg, "secret") {
		t.Errorf("tells %q", msg)
	}
	if !strings.Contains(k.log.String(), errAway.Error()) {
		t.Error("the log does not have the detail")
	}
}

func TestRevokeAll(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for i := range 5 {
		k.open(desktop, ms()+api.Millis(i), func(r *registry.Row, _ *store.Record) { r.Authorized = i%2 == 0 })
	}
	other := k.open(web, ms(), nil)
	k.refusal(request{method: "DELETE", path: sessionsPath(desktop), key: readKey}, api.CodeInsufficientScope)
	for _, want := range []int{5, 0} {
		a := k.do(request{method: "DELETE", path: sessionsPath(desktop) + "?reason=breach"})
		if string(a.body) != fmt.Sprintf(`{"success":true,"disconnectedCount":%d}`+"\n", want) {
			t.Errorf("%d %s, want %d", a.status, a.body, want)
		}
	}
	if n := len(get[api.SessionList](k, sessionsPath(desktop)).Items); n != 0 {
		t.Errorf("%d are live", n)
	}
	for _, s := range get[api.SessionList](k, sessionsPath(desktop)+"?status=inactive&details=true").Items {
		if s.Details.EndedBy != "fullfullfullfull" || s.Details.Reason != "breach" {
			t.Errorf("%+v", s.Details)
		}
	}
	if _, live := k.registry.Get(web, other.Session); !live {
		t.Error("another application's session is gone")
	}
}

// TestWithoutStore is G9 for readers: what is live is listed, and the answer says that it is not everything.
func TestWithoutStore(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row, gone := k.open(desktop, ms()-2, nil), k.open(desktop, ms()-1, nil)
	k.end(gone)
	k.recorder.Flush(t.Context())
	k.records.fail(errAway)
	for query, want := range map[string]int{"": 1, "?status=all": 1, "?status=inactive": 0, "?status=active&details=true": 1} {
		a := k.do(request{path: sessionsPath(desktop) + query})
		if a.status != http.StatusOK || a.header.Get("Rollcall-Partial") != "store" || strings.Count(string(a.body), `"agentId"`) != want {
			t.Errorf("%q: %d %v %s", query, a.status, a.header, a.body)
		}
		if want > 0 && !strings.Contains(string(a.body), `"name":"john@example.com"`) {
			t.Errorf("%q: %s", query, a.body)
		}
	}
	a := k.do(request{path: sessionPath(desktop, row.Session)})
	if a.status != http.StatusOK || a.header.Get("Rollcall-Partial") != "store" || !strings.Contains(string(a.body), `"hostname":null`) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	for _, id := range []api.SessionID{gone.Session, unopened} {
		for _, method := range []string{"GET", "DELETE"} {
			if msg := k.refusal(request{method: method, path: sessionPath(desktop, id)}, api.CodeUnavailable); strings.Contains(msg, "secret") {
				t.Errorf("tells %q", msg)
			}
		}
	}
	for _, path := range []string{appPath(desktop), applicationsPath} {
		a = k.do(request{path: path})
		if a.status != http.StatusOK || a.header.Get("Rollcall-Partial") != "store" ||
			!strings.Contains(string(a.body), `"sessions":{"active":1,"idle":0,"live":1,"total":1}`) {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
	}
	// What ends meanwhile is in the queue, and shown from there.
	got := ask[api.DisconnectResult](k, request{method: "DELETE", path: sessionPath(desktop, row.Session)}, http.StatusOK)
	if got.DisconnectedCount != 1 {
		t.Errorf("%+v", got)
	}
	if s := get[api.SessionReply](k, sessionPath(desktop, row.Session)).Session; s.DerivedStatus != api.DerivedDisconnected {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(k.log.String(), errAway.Error()) {
		t.Error("the log does not say why")
	}
	k.records.fail(nil)
	k.eventually("everything is there again", func() bool {
		a := k.do(request{path: sessionsPath(desktop) + "?status=all"})
		return a.header.Get("Rollcall-Partial") == "" && strings.Count(string(a.body), `"agentId"`) == 2
	})
}

// TestRetention: what ended longer ago than the plan keeps is gone for readers at once, wherever it still is.
func TestRetention(t *testing.T) {
	k := newKit(t, unlimited)
	end := func(row registry.Row, at api.Millis) {
		kept, _ := k.owner.records.Load(row.Session)
		rec := kept.(store.Record)
		rec.EndedAt, rec.EndReason = at, api.EndClientClosed
		k.recorder.End(rec)
		k.vanish(row)
	}
	base := ms()
	open := func(i int) registry.Row { return k.open(desktop, base.Add(-2*time.Hour)+api.Millis(i), nil) }
	live, lasting := open(4), open(3) // live is older than what is kept, and does not end
	written, queued := open(2), open(1)
	end(written, base.Add(-time.Minute))
	end(lasting, base.Add(time.Hour)) // by the clock of the node that had it
	k.recorder.Flush(t.Context())
	retention := func(keep string) {
		t.Helper()
		ask[api.Organization](k, request{method: "PATCH", path: organizationsPath + "/" + acme.String(), key: adminWord,
			body: `{"plan":{"historyRetention":"` + keep + `"}}`}, http.StatusOK)
	}
	check := func(when string, ended ...registry.Row) {
		t.Helper()
		for status, want := range map[string][]registry.Row{"all": append([]registry.Row{live}, ended...), "inactive": ended} {
			var got, ids []api.SessionID
			for _, row := range want {
				ids = append(ids, row.Session)
			}
			for _, s := range get[api.SessionList](k, sessionsPath(desktop)+"?status="+status).Items {
				got = append(got, s.ID)
			}
			if !slices.Equal(got, ids) {
				t.Errorf("%s, %s: %v, want %v", when, status, got, ids)
			}
		}
		total := 1 + len(ended)
		if app := get[api.Application](k, appPath(desktop)); app.Sessions.Total != total || app.Sessions.Live != 1 {
			t.Errorf("%s: %+v, want %d", when, app.Sessions, total)
		}
		if app := get[api.ApplicationList](k, applicationsPath).Items[0]; app.ID != desktop || app.Sessions.Total != total {
			t.Errorf("%s: in the list %+v, want %d", when, app.Sessions, total)
		}
		for _, row := range []registry.Row{written, queued, lasting} {
			for _, method := range []string{"GET", "DELETE"} {
				r := request{method: method, path: sessionPath(desktop, row.Session)}
				if slices.Contains(ended, row) {
					if a := k.do(r); a.status != http.StatusOK {
						t.Errorf("%s: %s %d %s", when, method, a.status, a.body)
					}
				} else {
					k.refusal(r, api.CodeSessionNotFound)
				}
			}
		}
	}
	k.records.failWrites(errAway) // this end stays in the queue
	end(queued, base.Add(-time.Minute))
	check("kept for long", lasting, written, queued)
	retention("2s")
	check("kept for 2 s", lasting)
	retention("1h") // nothing was deleted
	check("kept for 1 h", lasting, written, queued)
}

// TestPagingUnderChurn walks through all sessions with cursors while others come and go: whoever stayed comes exactly once, in
// order.
func TestPagingUnderChurn(t *testing.T) {
	k := newKit(t, manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6})
	base := ms()
	rapid.Check(t, func(t *rapid.T) {
		if _, _, err := k.owner.Revoke(context.Background(), desktop, "test", ""); err != nil { // a fresh start: everything has ended
			t.Fatal(err)
		}
		base += 1000 // newer than what earlier rounds left
		var live, stayed, all []registry.Row
		open := func() {
			row := k.open(desktop, base+api.Millis(rapid.IntRange(0, 9).Draw(t, "at")), nil)
			live, all = append(live, row), append(all, row)
		}
		for range rapid.IntRange(1, 12).Draw(t, "opened") {
			open()
		}
		for range rapid.IntRange(0, len(live)).Draw(t, "ended") {
			k.end(live[0])
			live = live[1:]
		}
		stayed = slices.Clone(all) // under status=all, one that ends meanwhile stays listed
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		var got []api.Session
		for cursor := ""; ; {
			path := fmt.Sprintf("%s?status=all&limit=%d", sessionsPath(desktop), limit)
			if cursor != "" {
				path += "&cursor=" + cursor
			}
			list := get[api.SessionList](k, path)
			if len(list.Items) > limit {
				t.Fatalf("%d sessions for limit %d", len(list.Items), limit)
			}
			got = append(got, list.Items...)
			if cursor = list.NextCursor; cursor == "" || got[len(got)-1].CreatedAt < api.Timestamp(base) {
				break
			}
			if rapid.Bool().Draw(t, "churn") && len(live) > 0 {
				k.end(live[0])
				live = live[1:]
			}
			if rapid.Bool().Draw(t, "more") {
				open()
			}
		}
		seen := map[api.SessionID]int{}
		for i, s := range got {
			seen[s.ID]++
			if i > 0 && s.CreatedAt > got[i-1].CreatedAt {
				t.Fatalf("out of order at %d", i)
			}
		}
		for id, n := range seen {
			if n != 1 {
				t.Fatalf("%s comes %d times", id, n)
			}
		}
		for _, row := range stayed {
			if seen[row.Session] != 1 {
				t.Fatalf("%s comes %d times", row.Session, seen[row.Session])
			}
		}
	})
}

// TestLiveAndEndedAtOnce: between the end of its record and the removal of its row a session is in both; it is shown once, live.
func TestLiveAndEndedAtOnce(t *testing.T) {
	k := newKit(t, unlimited)
	row := k.open(desktop, ms(), nil)
	kept, _ := k.owner.records.Load(row.Session)
	rec := kept.(store.Record)
	rec.EndedAt, rec.EndReason = ms(), api.EndClientClosed
	k.recorder.End(rec)
	newer, older := k.open(desktop, row.CreatedAt+1, nil), k.open(desktop, row.CreatedAt-1, nil)
	k.end(older)
	list := get[api.SessionList](k, sessionsPath(desktop)+"?status=all")
	var ids []api.SessionID
	for _, s := range list.Items {
		ids = append(ids, s.ID)
	}
	if !slices.Equal(ids, []api.SessionID{newer.Session, row.Session, older.Session}) || list.Items[1].Status != api.StatusActive {
		t.Errorf("%+v", list.Items)
	}
}

// TestCursorIsChecked alters a cursor in every place, and takes it to another application.
func TestCursorIsChecked(t *testing.T) {
	k := newKit(t, manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6})
	k.open(desktop, 1000, nil)
	k.open(desktop, 1001, nil)
	cursor := get[api.SessionList](k, sessionsPath(desktop)+"?limit=1").NextCursor
	for i := range cursor {
		for _, c := range []byte("A_") {
			bad := []byte(cursor)
			if bad[i] == c {
				continue
			}
			bad[i] = c
			k.refusal(request{path: sessionsPath(desktop) + "?limit=1&cursor=" + string(bad)}, api.CodeValidation)
		}
	}
	for _, bad := range []string{cursor + "A", cursor[1:], cursor[:len(cursor)-1], cursor + "=", cursor + "%0A", strings.ToUpper(cursor)} {
		k.refusal(request{path: sessionsPath(desktop) + "?cursor=" + bad}, api.CodeValidation)
	}
	k.refusal(request{path: sessionsPath(web) + "?cursor=" + cursor}, api.CodeValidation)
	if list := get[api.SessionList](k, sessionsPath(desktop)+"?limit=1&cursor="+cursor); len(list.Items) != 1 || list.NextCursor != "" {
		t.Errorf("%+v", list)
	}
}
