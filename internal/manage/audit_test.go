package manage_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/store"
)

const auditPath = api.RoutePrefix + "/audit"

// records returns the audit records that a key sees, the newest first.
func (k *kit) audits(key, query string) []api.AuditRecord {
	k.t.Helper()
	return ask[api.AuditList](k, request{path: auditPath + "?" + query, key: key}, http.StatusOK).Items
}

// TestEveryChangeIsAudited makes each change, and looks at the one record that it leaves.
func TestEveryChangeIsAudited(t *testing.T) {
	k := newKit(t, manage.Limits{})
	org := api.RoutePrefix + "/admin/organizations/" + acme.String()
	adminAudits := func() []api.AuditRecord {
		return ask[api.AuditList](k, request{path: org + "/audit?limit=1000", key: adminWord}, http.StatusOK).Items
	}
	full := api.AuditActor{Type: api.ActorKey, PublicID: "fullfullfullfull", Name: "full"}
	admin := api.AuditActor{Type: api.ActorAdmin}
	var target string // of what a change has made
	type change struct {
		what   request
		want   string // action, target or "-", count or "-", reason or "-", details or "null"
		before func() string
	}
	desktopPath := appPath(desktop)
	for _, c := range []change{
		{what: request{method: "PATCH", path: desktopPath, body: `{"name":"D","tokens":{"hs256Secret":"another-secret-of-32-bytes------"}}`},
			want: "application.updated " + desktop.String() + ` - - {"changed":["name","tokens"]}`},
		{what: request{method: "PATCH", path: desktopPath, body: `{"name":"D"}`}, want: ""},
		{what: request{method: "PATCH", path: desktopPath, body: `{"state":"paused"}`},
			want: "application.paused " + desktop.String() + ` - - {"changed":["state"]}`},
		{what: request{method: "PATCH", path: desktopPath, body: `{"state":"active","name":"E"}`},
			want: "application.resumed " + desktop.String() + ` - - {"changed":["name","state"]}`},
		{what: request{method: "POST", path: applicationsPath, body: `{"name":"New"}`}, want: "application.created NEW - - null"},
		{what: request{method: "DELETE", path: desktopPath + "/sessions?reason=why"}, want: "sessions.revoked - 2 why null",
			before: func() string { k.licensed(desktop, "A"); k.licensed(desktop, "B"); return "" }},
		{what: request{method: "DELETE", path: desktopPath + "/sessions/SESSION?reason=why"}, want: "session.disconnected SESSION 1 why null",
			before: func() string { return k.licensed(desktop, "A").Session.String() }},
		{what: request{method: "DELETE", path: desktopPath + "/sessions/SESSION"}, want: "", // it has ended already
			before: func() string { r := k.licensed(desktop, "A"); k.end(r); return r.Session.String() }},
		{what: request{method: "POST", path: disconnectPath(desktop) + "?dryRun=true", body: `{"searchString":"Aa"}`}, want: "",
			before: func() string { k.licensed(desktop, "AAA"); return "" }},
		{what: request{method: "POST", path: disconnectPath(desktop),
			body: `{"searchString":"Aa","reason":"why","categories":["license","ip"],"createdBefore":"2026-01-31T15:04:05Z"}`},
			want: `sessions.disconnected - 0 why {"searchString":"Aa","categories":["license","ip"],"createdBefore":"2026-01-31T15:04:05.000Z"}`},
		{what: request{method: "POST", path: desktopPath + "/session-tokens", body: `{"login":"john","license":"L","expiresIn":60}`},
			want: "session_token.issued john - - "},
		{what: request{method: "DELETE", path: appPath(web)}, want: "application.archived " + web.String() + ` - - {"changed":["state"]}`},
		{what: request{method: "DELETE", path: appPath(web)}, want: ""},
		{what: request{method: "PATCH", path: org, body: `{"name":"Acme 2"}`, key: adminWord},
			want: "organization.updated " + acme.String() + ` - - {"changed":["name"]}`},
		{what: request{method: "POST", path: org + "/api-keys", body: `{"name":"K","scopes":["audit:read"]}`, key: adminWord},
			want: "api_key.created NEW - - null"},
		{what: request{method: "PATCH", path: api.RoutePrefix + "/admin/api-keys/readreadreadread", body: `{"scopes":["audit:read"]}`, key: adminWord},
			want: `api_key.updated readreadreadread - - {"changed":["scopes"]}`},
		{what: request{method: "DELETE", path: api.RoutePrefix + "/admin/api-keys/readreadreadread", key: adminWord},
			want: "api_key.revoked readreadreadread - - null"},
		{what: request{method: "DELETE", path: api.RoutePrefix + "/admin/api-keys/readreadreadread", key: adminWord}, want: ""},
		{what: request{method: "DELETE", path: desktopPath, key: freeNoneKey}, want: ""}, // refused
	} {
		if c.before != nil {
			target = c.before()
		}
		c.what.path, c.want = strings.Replace(c.what.path, "SESSION", target, 1), strings.Replace(c.want, "SESSION", target, 1)
		before := adminAudits()
		a := k.do(c.what)
		got := adminAudits()
		got = got[:len(got)-len(before)]
		where := c.what.method + " " + c.what.path + " " + c.what.body
		if c.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: left %+v", where, got)
			}
			continue
		}
		if len(got) != 1 || a.status >= 300 {
			t.Fatalf("%s: %d, %d records", where, a.status, len(got))
		}
		r := got[0]
		if strings.Contains(c.want, "NEW") {
			c.want = strings.Replace(c.want, "NEW", *r.Target, 1)
			if !strings.Contains(string(a.body), *r.Target) {
				t.Errorf("%s: target %s, answered %s", where, *r.Target, a.body)
			}
		}
		if line := auditLine(&r); line != c.want && (!strings.HasSuffix(c.want, " ") || !strings.HasPrefix(line, c.want)) {
			t.Errorf("%s:\n%s, want\n%s", where, line, c.want)
		}
		actor := full
		if c.what.key == adminWord {
			actor = admin
		}
		if r.Actor != actor || r.IPAddress == nil || *r.IPAddress != "127.0.0.1" || time.Since(api.Millis(r.Time).Time()).Abs() > time.Minute {
			t.Errorf("%s: by %+v", where, r)
		}
		if concerns := r.ApplicationID != nil; concerns == (strings.HasPrefix(string(r.Action), "api_key.") || strings.HasPrefix(string(r.Action), "org")) {
			t.Errorf("%s: application %v", where, r.ApplicationID)
		}
	}
}

// auditLine is what of a record changes from one kind of change to another.
func auditLine(r *api.AuditRecord) string {
	show := func(s *string) string {
		if s == nil {
			return "-"
		}
		return *s
	}
	count := "-"
	if r.Count != nil {
		count = fmt.Sprint(*r.Count)
	}
	details := "null"
	if r.Details != nil {
		details = string(r.Details)
	}
	return strings.Join([]string{string(r.Action), show(r.Target), count, show(r.Reason), details}, " ")
}

// TestStreamDisconnectIsAudited: a command on a stream has no answer, and a record nevertheless.
func TestStreamDisconnectIsAudited(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.licensed(desktop, "A")
	p := k.watch(fullKey, "applicationId=123456789")
	p.send(`{"type":"disconnect_session","serverId":"` + string(row.ServerID) + `"}`)
	p.send(`{"type":"disconnect_session","serverId":"` + string(row.ServerID) + `"}`)
	var got []api.AuditRecord
	k.eventually("the record", func() bool {
		got = k.audits(fullKey, "action=session.disconnected")
		return len(got) > 0
	})
	if r := got[0]; len(got) != 1 || *r.Target != row.Session.String() || r.Actor.Name != "full" || *r.IPAddress != "127.0.0.1" || *r.Count != 1 {
		t.Errorf("%+v", got)
	}
}

// TestAuditAccess: who sees which records (G8).
func TestAuditAccess(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for _, app := range []api.ApplicationID{desktop, web} {
		k.do(request{method: "PATCH", path: appPath(app), body: `{"name":"Changed"}`})
	}
	k.do(request{method: "PATCH", path: appPath(others), body: `{"name":"Changed"}`, key: otherKey})
	count := func(key, query string) map[string]int {
		n := map[string]int{}
		for _, r := range k.audits(key, query) {
			app := "-"
			if r.ApplicationID != nil {
				app = r.ApplicationID.String()
			}
			n[string(r.Action)+" "+app]++
		}
		return n
	}
	updated := func(app api.ApplicationID) string { return "application.updated " + app.String() }
	created := func(app api.ApplicationID) string { return "application.created " + app.String() }
	for _, c := range []struct {
		key, query string
		want       map[string]int
	}{
		{fullKey, "", map[string]int{created(desktop): 1, created(web): 1, updated(desktop): 1, updated(web): 1, "api_key.created -": 6,
			"api_key.revoked -": 1, "organization.created -": 1}},
		{fullKey, "applicationId=" + web.String(), map[string]int{created(web): 1, updated(web): 1}},
		{restrictedKey, "", map[string]int{created(desktop): 1, updated(desktop): 1}},
		{restrictedKey, "applicationId=" + desktop.String() + "&action=application.updated", map[string]int{updated(desktop): 1}},
		{restrictedKey, "action=api_key.created", map[string]int{}},
		{otherKey, "action=application.updated", map[string]int{updated(others): 1}},
		{fullKey, "action=application.updated&action=api_key.revoked", map[string]int{updated(desktop): 1, updated(web): 1, "api_key.revoked -": 1}},
		{fullKey, "from=2999-01-01T00:00:00Z", map[string]int{}},
		{fullKey, "to=2020-01-01T00:00:00Z", map[string]int{}},
	} {
		if got := count(c.key, c.query); !maps.Equal(got, c.want) {
			t.Errorf("%.20s %s: %v, want %v", c.key, c.query, got, c.want)
		}
	}
	admin := api.RoutePrefix + "/admin/organizations/" + acme.String() + "/audit"
	if n := len(ask[api.AuditList](k, request{path: admin + "?applicationId=" + others.String(), key: adminWord}, http.StatusOK).Items); n != 0 {
		t.Errorf("%d records of another organization's application", n)
	}
	for _, c := range []struct {
		key, path string
		code      api.Code
	}{
		{noneKey, auditPath, api.CodeInsufficientScope}, {readKey, auditPath, api.CodeInsufficientScope}, {"-", auditPath, api.CodeKeyInvalid},
		{fullKey, auditPath + "?applicationId=" + others.String(), api.CodeApplicationNotFound},
		{restrictedKey, auditPath + "?applicationId=" + web.String(), api.CodeApplicationForbidden},
		{fullKey, auditPath + "?applicationId=123456789", api.CodeValidation}, {fullKey, auditPath + "?limit=0", api.CodeValidation},
		{fullKey, auditPath + "?limit=1001", api.CodeValidation}, {fullKey, auditPath + "?action=dance", api.CodeValidation},
		{fullKey, auditPath + "?from=now", api.CodeValidation}, {fullKey, auditPath + "?to=", api.CodeValidation},
		{fullKey, auditPath + "?cursor=x", api.CodeValidation}, {fullKey, auditPath + "?from=2026-01-31T15:04:05Z&from=2026-01-31T15:04:05Z", api.CodeValidation},
		{fullKey, admin, api.CodeKeyInvalid}, {adminWord, strings.Replace(admin, "1111", "1112", 1), api.CodeNotFound},
		{adminWord, strings.Replace(admin, acme.String(), "acme", 1), api.CodeValidation}, {adminWord, admin + "?limit=x", api.CodeValidation},
	} {
		k.refusal(request{key: c.key, path: c.path}, c.code)
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		k.refusal(request{method: method, path: auditPath}, api.CodeMethodNotAllowed)
		k.refusal(request{method: method, path: admin, key: adminWord}, api.CodeMethodNotAllowed)
	}
}

func TestAuditPages(t *testing.T) {
	k := newKit(t, manage.Limits{})
	for i := range 7 {
		k.do(request{method: "PATCH", path: appPath(desktop), body: fmt.Sprintf(`{"name":"N%d"}`, i)})
	}
	want := k.audits(fullKey, "")
	var got []api.AuditRecord
	for cursor := ""; ; {
		page := get[api.AuditList](k, auditPath+"?limit=3"+cursor)
		got = append(got, page.Items...)
		if page.NextCursor == "" {
			break
		}
		if other := k.do(request{path: auditPath + "?cursor=" + page.NextCursor, key: otherKey}); other.status != http.StatusBadRequest {
			t.Errorf("a cursor serves another organization: %d", other.status)
		}
		k.refusal(request{path: sessionsPath(desktop) + "?cursor=" + page.NextCursor}, api.CodeValidation)
		cursor = "&cursor=" + page.NextCursor
	}
	same := func(a, b api.AuditRecord) bool { return a.ID == b.ID }
	if len(want) < 7 || !slices.EqualFunc(got, want, same) {
		t.Errorf("pages have %d records, not %d", len(got), len(want))
	}
	if !slices.IsSortedFunc(want, func(a, b api.AuditRecord) int { return int(b.Time - a.Time) }) {
		t.Error("not the newest first")
	}
	if diff := get[api.AuditList](k, auditPath+"?limit="+fmt.Sprint(len(want))); diff.NextCursor != "" || len(diff.Items) != len(want) {
		t.Errorf("a full page goes on at %q", diff.NextCursor)
	}
}

// TestAuditWithoutStore: with the database away a disconnect works, and its record waits as records do (G9).
func TestAuditWithoutStore(t *testing.T) {
	k := newKit(t, manage.Limits{})
	row := k.licensed(desktop, "A")
	k.records.fail(errAway)
	a := k.do(request{method: "DELETE", path: sessionPath(desktop, row.Session)})
	if a.status != http.StatusOK || a.header.Get("Rollcall-Partial") != "store" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := k.do(request{method: "POST", path: appPath(desktop) + "/session-tokens", body: `{"expiresIn":60}`}); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, r := range []request{{path: auditPath}, {path: api.RoutePrefix + "/admin/organizations/" + acme.String() + "/audit", key: adminWord}} {
		if a := k.do(r); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "disk") {
			t.Errorf("%s: %d %s %v", r.path, a.status, a.body, a.header)
		}
	}
	k.records.fail(nil)
	k.eventually("both records", func() bool {
		return len(k.audits(fullKey, "action=session.disconnected&action=session_token.issued")) == 2
	})
}

// TestAuditKeepsSecrets: no record has a word of what is secret.
func TestAuditKeepsSecrets(t *testing.T) {
	k := newKit(t, manage.Limits{})
	const words = "a-word-that-nobody-may-read-here"
	k.do(request{method: "PATCH", path: appPath(desktop), body: `{"tokens":{"hs256Secret":"` + words + `"}}`})
	token := ask[api.TokenReply](k, request{method: "POST", path: appPath(desktop) + "/session-tokens", body: `{"login":"j","expiresIn":60}`}, http.StatusCreated)
	made := ask[api.NewAPIKey](k, request{method: "POST", path: api.RoutePrefix + "/admin/organizations/" + acme.String() + "/api-keys",
		body: `{"name":"K","scopes":[]}`, key: adminWord}, http.StatusCreated)
	all, err := json.Marshal(k.audits(fullKey, "limit=1000"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{words, token.Token, made.Key, made.Key[21:], secret[1:]} {
		if strings.Contains(string(all), word) {
			t.Errorf("a record has %q", word)
		}
	}
}

// TestAuditRetention: what is older than the plan keeps is not shown, whether it was deleted or not.
func TestAuditRetention(t *testing.T) {
	k := newKit(t, manage.Limits{})
	org := api.RoutePrefix + "/admin/organizations/" + acme.String()
	k.do(request{method: "PATCH", path: org, key: adminWord, body: `{"plan":{"name":"Pro","liveSessionsOverview":true,"historyRetention":"1h"}}`})
	for _, ago := range []time.Duration{59 * time.Minute, 61 * time.Minute} {
		a := store.Audit{Organization: acme, AuditRecord: api.AuditRecord{ID: store.NewAuditID(), Time: api.Timestamp(ms().Add(-ago)),
			Action: api.ActionSessionsDisconnected, Actor: api.AuditActor{Type: api.ActorAdmin}, ApplicationID: new(desktop)}}
		if err := k.recorder.Audit(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	long := "&from=" + api.Timestamp(ms().Add(-3*time.Hour)).String()
	for _, query := range []string{"action=sessions.disconnected", "action=sessions.disconnected" + long, "applicationId=" + desktop.String() +
		"&action=sessions.disconnected" + long} {
		for key, path := range map[string]string{fullKey: auditPath, adminWord: org + "/audit"} {
			if got := ask[api.AuditList](k, request{path: path + "?" + query, key: key}, http.StatusOK).Items; len(got) != 1 {
				t.Errorf("%s?%s: %d records", path, query, len(got))
			}
		}
	}
}
