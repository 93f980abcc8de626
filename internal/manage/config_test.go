package manage_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

const (
	applicationsPath  = api.RoutePrefix + "/applications"
	organizationsPath = api.RoutePrefix + "/admin/organizations"
	keysPath          = api.RoutePrefix + "/admin/api-keys"
	limitsPath        = api.RoutePrefix + "/account/limits"
)

func appPath(id api.ApplicationID) string { return applicationsPath + "/" + id.String() }

// unlimited is for tests that make more requests than a second allows.
var unlimited = manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}

// TestBodies sends every bad body to every route that takes one, and nothing changes.
func TestBodies(t *testing.T) {
	k := newKit(t, unlimited)
	tokens := map[string]string{ // body → field that the message names
		`{}`: "expiresIn", `{"expiresIn":null}`: "expiresIn", `{"expiresIn":"60"}`: "expiresIn", `{"expiresIn":0}`: "expiresIn",
		`{"expiresIn":-1}`: "expiresIn", `{"expiresIn":1.5}`: "expiresIn", `{"expiresIn":2592001}`: "expiresIn",
		`{"expiresIn":1e400}`: "expiresIn", `{"expiresIn":true}`: "expiresIn",
		`{"expiresIn":60,"login":7}`: "login", `{"expiresIn":60,"login":null}`: "login",
		`{"expiresIn":60,"login":"` + strings.Repeat("é", 129) + `"}`:   "login",
		`{"expiresIn":60,"license":[]}`:                                 "license",
		`{"expiresIn":60,"license":"` + strings.Repeat("x", 257) + `"}`: "license",
		`{"expiresIn":60,"clientId":"abc"}`:                             "clientId",
		`{"expiresIn":60,"clientId":"` + strings.Repeat("x", 65) + `"}`: "clientId",
		`{"expiresIn":60,"clientId":"a\u0000bc"}`:                       "clientId",
		`{"expiresIn":60,"clientId":1234}`:                              "clientId",
		`{"expiresIn":60,"name":{}}`:                                    "name",
		`{"expiresIn":60,"name":"` + strings.Repeat("x", 257) + `"}`:    "name",
		`{"expiresIn":60,"ExpiresIn":60}`:                               "ExpiresIn",
	}
	apps := map[string]string{
		`{"name":""}`: "name", `{"name":null}`: "name", `{"name":7}`: "name", `{"name":"` + strings.Repeat("x", 257) + `"}`: "name",
		`{"name":"a\nb"}`:                 "name",
		`{"name":"x","state":"archived"}`: "state", `{"name":"x","state":"gone"}`: "state", `{"name":"x","state":1}`: "state",
		`{"name":"x","idleAfter":"999ms"}`: "idleAfter", `{"name":"x","idleAfter":300}`: "idleAfter", `{"name":"x","idleAfter":"5"}`: "idleAfter",
		`{"name":"x","idleAfter":"-5m"}`: "idleAfter", `{"name":"x","idleAfter":""}`: "idleAfter", `{"name":"x","idleAfter":null}`: "idleAfter",
		`{"name":"x","allowedOrigins":"https://a.example"}`: "allowedOrigins", `{"name":"x","allowedOrigins":[1]}`: "allowedOrigins",
		`{"name":"x","allowedOrigins":[null]}`: "allowedOrigins", `{"name":"x","allowedOrigins":["a.example"]}`: "allowedOrigins",
		`{"name":"x","allowedOrigins":["https://a.example/path"]}`: "allowedOrigins",
		`{"name":"x","strictRevocation":"true"}`:                   "strictRevocation",
		`{"name":"x","tokens":null}`:                               "tokens", `{"name":"x","tokens":[]}`: "tokens",
		`{"name":"x","tokens":{"hs256Secret":"short"}}`:            "tokens.hs256Secret",
		`{"name":"x","tokens":{"hs256Secret":7}}`:                  "tokens.hs256Secret",
		`{"name":"x","tokens":{"jwksUrl":"ftp://a.example/k"}}`:    "tokens.jwksUrl",
		`{"name":"x","tokens":{"secret":"x"}}`:                     "tokens.secret",
		`{"name":"x","tokens":{"issuer":"x","issuer":"x"}}`:        "issuer",
		`{"name":"x","id":"550e8400-e29b-41d4-a716-446655440000"}`: "id", `{"name":"x","number":"1"}`: "number",
		`{"name":"x","publishableKey":"rca_0123456789abcdef"}`: "publishableKey", `{"name":"x","organizationId":"x"}`: "organizationId",
	}
	orgs := map[string]string{
		`{"name":""}`: "name", `{"name":7}`: "name", `{"name":"x","plan":null}`: "plan", `{"name":"x","plan":"Pro"}`: "plan",
		`{"name":"x","plan":{"name":7}}`: "plan.name", `{"name":"x","plan":{"maxAuthorizedSessions":-1}}`: "plan.maxAuthorizedSessions",
		`{"name":"x","plan":{"maxAuthorizedSessions":"1"}}`: "plan.maxAuthorizedSessions",
		`{"name":"x","plan":{"maxAuthorizedSessions":1.5}}`: "plan.maxAuthorizedSessions",
		`{"name":"x","plan":{"maxAuthorizedSessions":3e9}}`: "plan.maxAuthorizedSessions",
		`{"name":"x","plan":{"liveSessionsOverview":1}}`:    "plan.liveSessionsOverview",
		`{"name":"x","plan":{"historyRetention":720}}`:      "plan.historyRetention",
		`{"name":"x","plan":{"historyRetention":"0s"}}`:     "plan.historyRetention",
		`{"name":"x","plan":{"price":1}}`:                   "plan.price",
		`{"name":"x","owner":1}`:                            "owner",
	}
	keys := map[string]string{
		`{"name":"","scopes":[]}`: "name", `{"name":7,"scopes":[]}`: "name", `{"name":"x","scopes":null}`: "scopes",
		`{"name":"x","scopes":"sessions:read"}`: "scopes", `{"name":"x","scopes":["sessions:all"]}`: "scopes",
		`{"name":"x","scopes":[7]}`: "scopes", `{"name":"x","scopes":[],"applications":"ALL"}`: "applications",
		`{"name":"x","scopes":[],"applications":["x"]}`: "applications", `{"name":"x","scopes":[],"applications":[null]}`: "applications",
		`{"name":"x","scopes":[],"applications":["` + others.String() + `"]}`: "applications",
		`{"name":"x","scopes":[],"expiresAt":"tomorrow"}`:                     "expiresAt",
		`{"name":"x","scopes":[],"expiresAt":1769871845}`:                     "expiresAt",
		`{"name":"x","scopes":[],"key":"x"}`:                                  "key",
	}
	for _, route := range []struct {
		method, path, key string
		creates           string // what a body without it lacks
		bodies            map[string]string
	}{
		{"POST", appPath(desktop) + "/session-tokens", fullKey, "expiresIn", tokens},
		{"POST", applicationsPath, fullKey, "name", apps},
		{"PATCH", appPath(desktop), fullKey, "", apps},
		{"POST", organizationsPath, adminWord, "name", orgs},
		{"PATCH", organizationsPath + "/" + acme.String(), adminWord, "", orgs},
		{"POST", organizationsPath + "/" + acme.String() + "/api-keys", adminWord, "name", keys},
		{"PATCH", keysPath + "/readreadreadread", adminWord, "", keys},
		{"PATCH", api.RoutePrefix + "/admin/applications/" + desktop.String(), adminWord, "", apps},
	} {
		bad := map[string]string{ // to every route
			"{": "JSON", `null`: "object", `[]`: "object", `"x"`: "object", `7`: "object", `{}{}`: "after", `{"name":"x"}]`: "after",
			`{"name":"x","name":"x"}`: "name", "{\"name\":\"\xff\"}": "UTF-8", `{"name":"\udc00"}`: "surrogate", `{"nosuch":1}`: "nosuch",
			`{"name":"x",}`: "JSON", `{'name':'x'}`: "JSON", strings.Repeat(`{"a":`, 9000): "JSON",
		}
		maps.Copy(bad, route.bodies)
		if route.creates != "" {
			bad[`{"nosuch":1}`] = ""
			bad[`{}`] = route.creates
		}
		for body, names := range bad {
			msg := k.refusal(request{method: route.method, path: route.path, key: route.key, body: body}, api.CodeValidation)
			if !strings.Contains(msg, names) {
				t.Errorf("%s %s %.80q: %q does not name %s", route.method, route.path, body, msg, names)
			}
		}
		k.refusal(request{method: route.method, path: route.path, key: route.key, body: "", header: http.Header{
			"Content-Type": {"application/json"}}}, api.CodeValidation)
		for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "json",
			"application/json, text/plain"} {
			k.refusal(request{method: route.method, path: route.path, key: route.key, body: `{}`, header: http.Header{
				"Content-Type": {kind}}}, api.CodeUnsupportedMediaType)
		}
		k.refusal(request{method: route.method, path: route.path, key: route.key, body: `{}`, header: http.Header{
			"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}}, api.CodeUnsupportedMediaType)
		k.refusal(request{method: route.method, path: route.path, key: route.key,
			body: `{"name":"` + strings.Repeat("x", api.MaxBody) + `"}`}, api.CodeBodyTooLarge)
	}
	if n := len(k.tenants.Organizations()) + len(k.tenants.ApplicationsOf(acme)) + len(k.tenants.Keys(acme)); n != 3+2+6 {
		t.Errorf("something was created: %d", n)
	}
	if app, _ := k.tenants.Application(desktop); app.Name != "Desktop" || app.State != api.ApplicationActive {
		t.Errorf("changed: %+v", app)
	}
}

func TestApplications(t *testing.T) {
	k := newKit(t, unlimited)
	secret := strings.Repeat("s", 32)
	app := ask[api.Application](k, request{method: "POST", path: applicationsPath, body: `{"name":"New <&> 名","idleAfter":"90s",` +
		`"allowedOrigins":["https://a.example"],"strictRevocation":true,"tokens":{"hs256Secret":"` + secret + `"}}`,
		header: http.Header{"Content-Type": {"application/json; charset=UTF-8"}}}, http.StatusCreated)
	if app.Name != "New <&> 名" || app.OrganizationID != acme || app.State != api.ApplicationActive || !app.Tokens.HS256 ||
		!app.StrictRevocation || len(app.AllowedOrigins) != 1 || app.Sessions != nil {
		t.Errorf("%+v", app)
	}
	got := get[api.Application](k, appPath(app.ID))
	if got.Sessions == nil || *got.Sessions != (api.SessionCounts{}) || got.Number != app.Number {
		t.Errorf("%+v", got)
	}
	k.open(app.ID, ms(), nil)
	// PATCH keeps what it leaves out, and pausing ends the sessions.
	got = ask[api.Application](k, request{method: "PATCH", path: appPath(app.ID), body: `{"state":"paused"}`}, http.StatusOK)
	if got.State != api.ApplicationPaused || got.Name != app.Name || got.IdleAfter != app.IdleAfter || !got.Tokens.HS256 {
		t.Errorf("%+v", got)
	}
	if live, _, _ := k.registry.Counts(app.ID, ms(), 0); live != 0 {
		t.Error("paused, with a session")
	}
	k.refusal(request{method: "POST", path: appPath(app.ID) + "/session-tokens", body: `{"expiresIn":60}`}, api.CodeConflict)
	ask[api.Application](k, request{method: "PATCH", path: appPath(app.ID), body: `{"state":"active","tokens":{}}`}, http.StatusOK)
	if same := ask[api.Application](k, request{method: "PATCH", path: appPath(app.ID), body: `{}`}, http.StatusOK); same.Tokens.HS256 ||
		same.State != api.ApplicationActive {
		t.Errorf("%+v", same)
	}
	for range 2 { // archiving is idempotent, and final
		got = ask[api.Application](k, request{method: "DELETE", path: appPath(app.ID)}, http.StatusOK)
		if got.State != api.ApplicationArchived {
			t.Errorf("%+v", got)
		}
	}
	k.refusal(request{method: "PATCH", path: appPath(app.ID), body: `{"state":"active"}`}, api.CodeConflict)
	if list := get[api.ApplicationList](k, applicationsPath); len(list.Items) != 3 || slices.ContainsFunc(list.Items, func(a api.Application) bool {
		return a.Sessions == nil || a.ID != app.ID && *a.Sessions != (api.SessionCounts{})
	}) {
		t.Errorf("%+v", list)
	}
	if list := get[api.SessionList](k, sessionsPath(app.ID)+"?status=all"); len(list.Items) != 1 {
		t.Errorf("the history of an archived application: %+v", list)
	}
	if list := ask[api.ApplicationList](k, request{path: applicationsPath, key: restrictedKey}, http.StatusOK); len(list.Items) != 1 ||
		list.Items[0].ID != desktop {
		t.Errorf("a restricted key sees %+v", list)
	}
	k.refusal(request{method: "POST", path: applicationsPath, key: restrictedKey, body: `{"name":"x"}`}, api.CodeApplicationForbidden)
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		body := map[string]string{"PATCH": `{}`}[method]
		k.refusal(request{method: method, path: appPath(nowhere), body: body}, api.CodeApplicationNotFound)
		k.refusal(request{method: method, path: appPath(web), key: restrictedKey, body: body}, api.CodeApplicationForbidden)
		k.refusal(request{method: method, path: appPath(web), key: readKey, body: body}, api.CodeInsufficientScope)
		k.refusal(request{method: method, path: applicationsPath + "/123456789", body: body}, api.CodeValidation)
	}
	if strings.Contains(k.log.String(), secret) {
		t.Error("the log has a secret")
	}
}

func TestSessionTokens(t *testing.T) {
	k := newKit(t, unlimited)
	path := appPath(desktop) + "/session-tokens"
	reply := ask[api.TokenReply](k, request{method: "POST", path: path,
		body: `{"login":"john@example.com","license":"L","clientId":"client-001","name":"Laptop","expiresIn":60}`}, http.StatusCreated)
	grant, err := k.tenants.Verify(t.Context(), tenant.Credential{Token: reply.Token})
	if err != nil || grant.Login != "john@example.com" || grant.License != "L" || grant.ClientID != "client-001" || grant.Name != "Laptop" ||
		grant.Application.ID != desktop || api.Timestamp(grant.TokenExpiresAt) != reply.ExpiresAt {
		t.Errorf("%+v %v", grant, err)
	}
	ask[api.TokenReply](k, request{method: "POST", path: path, body: `{"login":"","expiresIn":2592000}`}, http.StatusCreated)
	k.refusal(request{method: "POST", path: path, key: readKey, body: `{"expiresIn":60}`}, api.CodeInsufficientScope)
	k.refusal(request{method: "POST", path: appPath(nowhere) + "/session-tokens", body: `{"expiresIn":60}`}, api.CodeApplicationNotFound)
	if strings.Contains(k.log.String(), reply.Token) {
		t.Error("the log has a token")
	}
}

func TestAccountLimits(t *testing.T) {
	k := newKit(t, unlimited)
	k.open(desktop, ms(), nil)
	if a := k.do(request{path: limitsPath}); string(a.body) != `{"planName":"Pro","authorizedSessions":{"currentValue":1,"maxValue":1000},`+
		`"applications":{"currentValue":2,"maxValue":null},"apiKeys":{"currentValue":4,"maxValue":null}}`+"\n" {
		t.Errorf("%s", a.body)
	}
	k.refusal(request{path: limitsPath, key: readKey}, api.CodeInsufficientScope)
}

func TestAdmin(t *testing.T) {
	k := newKit(t, unlimited)
	admin := func(method, path, body string) request {
		return request{method: method, path: path, key: adminWord, body: body}
	}
	for _, key := range []string{"-", fullKey, adminWord + "x", adminWord[1:], "x"} {
		for _, r := range []request{
			{path: organizationsPath}, {method: "POST", path: organizationsPath, body: `{"name":"x"}`},
			{path: organizationsPath + "/x"}, {path: keysPath + "/fullfullfullfull"}, {method: "DELETE", path: keysPath + "/fullfullfullfull"},
		} {
			r.key = key
			k.refusal(r, api.CodeKeyInvalid)
		}
	}
	org := ask[api.Organization](k, admin("POST", organizationsPath, `{"name":"New","plan":{"maxAuthorizedSessions":0}}`), http.StatusCreated)
	if org.Plan.MaxAuthorizedSessions == nil || *org.Plan.MaxAuthorizedSessions != 0 || !org.Plan.LiveSessionsOverview {
		t.Errorf("%+v", org)
	}
	path := organizationsPath + "/" + org.ID.String()
	org = ask[api.Organization](k, admin("PATCH", path, `{"plan":{"name":"Big","maxAuthorizedSessions":null,"historyRetention":"24h"}}`), http.StatusOK)
	if org.Name != "New" || org.Plan.Name != "Big" || org.Plan.MaxAuthorizedSessions != nil {
		t.Errorf("%+v", org)
	}
	if got := ask[api.Organization](k, admin("GET", path, ""), http.StatusOK); got.Plan.Name != "Big" {
		t.Errorf("%+v", got)
	}
	if list := ask[api.OrganizationList](k, admin("GET", organizationsPath, ""), http.StatusOK); len(list.Items) != 4 {
		t.Errorf("%+v", list)
	}
	k.refusal(admin("POST", organizationsPath, `{"name":"x","id":"`+org.ID.String()+`"}`), api.CodeConflict)

	app := ask[api.Application](k, admin("POST", path+"/applications",
		`{"name":"Chosen","id":"aa0e8400-e29b-41d4-a716-446655440000","number":"42","publishableKey":"rca_zzzzzzzzzzzzzzzz"}`), http.StatusCreated)
	if app.Number != "42" || app.OrganizationID != org.ID || app.ID.String() != "aa0e8400-e29b-41d4-a716-446655440000" {
		t.Errorf("%+v", app)
	}
	k.refusal(admin("POST", path+"/applications", `{"name":"x","number":"42"}`), api.CodeConflict)
	for body, names := range map[string]string{`{"name":"x","number":42}`: "number", `{"name":"x","number":"042"}`: "number",
		`{"name":"x","id":"x"}`: "id", `{"name":"x","publishableKey":"rca_x"}`: "publishableKey"} {
		if msg := k.refusal(admin("POST", path+"/applications", body), api.CodeValidation); !strings.Contains(msg, names) {
			t.Errorf("%s: %q", body, msg)
		}
	}
	if list := ask[api.ApplicationList](k, admin("GET", path+"/applications", ""), http.StatusOK); len(list.Items) != 1 {
		t.Errorf("%+v", list)
	}
	adminApp := api.RoutePrefix + "/admin/applications/" + app.ID.String()
	if got := ask[api.Application](k, admin("PATCH", adminApp, `{"name":"Renamed"}`), http.StatusOK); got.Name != "Renamed" || got.Number != "42" {
		t.Errorf("%+v", got)
	}

	key := ask[api.NewAPIKey](k, admin("POST", path+"/api-keys", `{"name":"k","scopes":["sessions:read","sessions:read"],`+
		`"applications":["`+app.ID.String()+`"],"expiresAt":"2999-01-01T00:00:00+01:00"}`), http.StatusCreated)
	live := request{path: api.LivePath + "?applicationId=42", key: key.Key}
	if a := k.do(live); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	keyPath := keysPath + "/" + key.PublicID
	got := ask[api.APIKey](k, admin("GET", keyPath, ""), http.StatusOK)
	if len(got.Scopes) != 1 || len(got.Applications) != 1 || got.LastUsedAt == nil || got.LastUsedIP != "127.0.0.1" {
		t.Errorf("%+v", got)
	}
	got = ask[api.APIKey](k, admin("PATCH", keyPath, `{"applications":null,"expiresAt":null,"scopes":[]}`), http.StatusOK)
	if len(got.Scopes) != 0 || got.Applications != nil || got.ExpiresAt != nil || got.Name != "k" {
		t.Errorf("%+v", got)
	}
	k.refusal(live, api.CodeInsufficientScope)
	for range 2 {
		if got = ask[api.APIKey](k, admin("DELETE", keyPath, ""), http.StatusOK); got.State != api.KeyRevoked || got.RevokedAt == nil {
			t.Errorf("%+v", got)
		}
	}
	k.refusal(live, api.CodeKeyRevoked)
	k.refusal(admin("PATCH", keyPath, `{"name":"x"}`), api.CodeConflict)
	if list := ask[api.APIKeyList](k, admin("GET", path+"/api-keys", ""), http.StatusOK); len(list.Items) != 1 {
		t.Errorf("%+v", list)
	}
	if got := ask[api.Application](k, admin("DELETE", adminApp, ""), http.StatusOK); got.State != api.ApplicationArchived {
		t.Errorf("%+v", got)
	}
	for _, leaked := range []string{key.Key, adminWord} {
		if strings.Contains(k.log.String(), leaked) {
			t.Error("the log has a secret")
		}
	}
	unknown := organizationsPath + "/" + api.NewID[api.Organization]().String()
	for _, r := range []request{
		admin("GET", unknown, ""), admin("PATCH", unknown, `{}`), admin("GET", unknown+"/api-keys", ""),
		admin("POST", unknown+"/api-keys", `{"name":"x","scopes":[]}`), admin("GET", unknown+"/applications", ""),
		admin("POST", unknown+"/applications", `{"name":"x"}`),
		admin("GET", keysPath+"/0000000000000000", ""), admin("PATCH", keysPath+"/0000000000000000", `{}`),
		admin("DELETE", keysPath+"/0000000000000000", ""),
	} {
		k.refusal(r, api.CodeNotFound)
	}
	for _, r := range []request{
		admin("GET", organizationsPath+"/x", ""), admin("PATCH", organizationsPath+"/x", `{}`), admin("GET", organizationsPath+"/x/api-keys", ""),
		admin("GET", keysPath+"/X", ""), admin("PATCH", keysPath+"/short", `{}`), admin("DELETE", keysPath+"/"+strings.Repeat("a", 17), ""),
		admin("PATCH", unknown, `{"nosuch":1}`), admin("PATCH", keysPath+"/0000000000000000", `{"nosuch":1}`),
		admin("GET", api.RoutePrefix+"/admin/applications/42", ""),
	} {
		k.refusal(r, api.CodeValidation)
	}
	k.refusal(admin("GET", api.RoutePrefix+"/admin/applications/"+nowhere.String(), ""), api.CodeApplicationNotFound)
}

// TestNobodyIsAdmin: an empty admin token matches nothing, not even an empty one.
func TestNobodyIsAdmin(t *testing.T) {
	k := newKit(t, unlimited)
	nobody := manage.New(manage.Config{Registry: k.registry, Tenants: k.tenants, Records: k.recorder, Owner: k.owner})
	for _, value := range []string{"Bearer ", "Bearer", ""} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, organizationsPath, nil)
		r.Header.Set("Authorization", value)
		w := &recorder{header: http.Header{}}
		nobody.ServeHTTP(w, r)
		if w.status != http.StatusUnauthorized {
			t.Errorf("%q: %d", value, w.status)
		}
	}
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }

// TestCheckOrder gives one request every fault, and takes one away at a time: the answer is always the first that is left.
func TestCheckOrder(t *testing.T) {
	k := newKit(t, unlimited)
	for _, route := range []struct {
		name        string
		method      string
		path        func(app string) string
		query, body string // bad ones
		good        string // body
		plan        bool
	}{
		{"live", "GET", func(app string) string { return api.LivePath + "?applicationId=" + app }, "&page=0", "", "", true},
		{"list", "GET", func(app string) string { return applicationsPath + "/" + app + "/sessions?" }, "limit=0", "", "", false},
		{"get", "GET", func(app string) string { return applicationsPath + "/" + app + "/sessions/" + unopened.String() + "?" }, "details=0", "", "", false},
		{"revoke", "DELETE", func(app string) string { return applicationsPath + "/" + app + "/sessions?" }, "reason=%ff", "", "", false},
		{"disconnect", "DELETE", func(app string) string { return applicationsPath + "/" + app + "/sessions/" + unopened.String() + "?" }, "reason=%ff", "", "", false},
		{"token", "POST", func(app string) string { return applicationsPath + "/" + app + "/session-tokens?" }, "", `{"expiresIn":0}`, `{"expiresIn":60}`, false},
		{"patch", "PATCH", func(app string) string { return applicationsPath + "/" + app + "?" }, "", `{"name":""}`, `{}`, false},
		{"read", "GET", func(app string) string { return applicationsPath + "/" + app + "?" }, "x=%zz", "", "", false},
	} {
		t.Run(route.name, func(t *testing.T) {
			send := func(key, app, query, body string) request {
				return request{method: route.method, path: route.path(app) + query, key: key, body: body}
			}
			bad, free := nowhere.String(), freeApp.String()
			k.refusal(send("-", bad, route.query, route.body), api.CodeKeyInvalid)
			k.refusal(send(revokedKey, bad, route.query, route.body), api.CodeKeyRevoked)
			k.refusal(send(noneKey, bad, route.query, route.body), api.CodeValidation)
			k.refusal(send(noneKey, "x", "", route.good), api.CodeValidation)
			k.refusal(send(noneKey, bad, "", route.good), api.CodeInsufficientScope)
			k.refusal(send(fullKey, bad, "", route.good), api.CodeApplicationNotFound)
			k.refusal(send(restrictedKey, bad, "", route.good), api.CodeApplicationForbidden)
			if route.plan {
				k.refusal(send(freeNoneKey, free, "", ""), api.CodeInsufficientScope)
				k.refusal(send(freeKey, bad, "", ""), api.CodeApplicationNotFound)
				k.refusal(send(freeKey, free, "", ""), api.CodePlanRestricted)
			}
		})
	}
}

// TestG8TenantsNeverMeet calls every route of an organization with another's ids, and with ids that nobody has: the answers are the
// same to the byte.
func TestG8TenantsNeverMeet(t *testing.T) {
	k := newKit(t, unlimited)
	theirs := k.open(others, ms(), nil)
	ended := k.open(others, ms(), nil)
	k.end(ended)
	k.open(desktop, ms(), nil)
	app := func(id string) []request {
		var all []request
		for _, session := range []string{"%s", unopened.String()} {
			all = append(all,
				request{path: applicationsPath + "/" + id + "/sessions/" + session},
				request{path: applicationsPath + "/" + id + "/sessions/" + session + "?details=true"},
				request{method: "DELETE", path: applicationsPath + "/" + id + "/sessions/" + session})
		}
		return append(all,
			request{path: applicationsPath + "/" + id}, request{method: "PATCH", path: applicationsPath + "/" + id, body: `{"name":"taken over"}`},
			request{method: "DELETE", path: applicationsPath + "/" + id},
			request{path: applicationsPath + "/" + id + "/sessions"}, request{path: applicationsPath + "/" + id + "/sessions?status=all"},
			request{method: "DELETE", path: applicationsPath + "/" + id + "/sessions"},
			request{method: "POST", path: applicationsPath + "/" + id + "/session-tokens", body: `{"expiresIn":60}`},
			request{path: api.LivePath + "?applicationId=" + id})
	}
	for _, key := range []string{fullKey, restrictedKey, readKey, noneKey} {
		taken, made := app(others.String()), app(nowhere.String())
		taken, made = append(taken, request{path: api.LivePath + "?applicationId=987654321"}), append(made, request{path: api.LivePath + "?applicationId=987654322"})
		// Within an application of one's own, another's session is as unknown as none.
		own := applicationsPath + "/" + desktop.String() + "/sessions/"
		for _, id := range []string{theirs.Session.String(), ended.Session.String()} {
			for _, method := range []string{"GET", "DELETE"} {
				taken, made = append(taken, request{method: method, path: own + id}), append(made, request{method: method, path: own + unopened.String()})
			}
		}
		for i := range taken {
			taken[i].key, made[i].key = key, key
			if strings.Contains(taken[i].path, "%s") {
				taken[i].path, made[i].path = fmt.Sprintf(taken[i].path, theirs.Session), fmt.Sprintf(made[i].path, unopened)
			}
			a, b := k.do(taken[i]), k.do(made[i])
			if a.status != b.status || string(a.body) != string(b.body) || a.status < 400 {
				t.Errorf("%s %s: %d %s\nbut unknown: %d %s", taken[i].method, taken[i].path, a.status, a.body, b.status, b.body)
			}
		}
	}
	if _, live := k.registry.Get(others, theirs.Session); !live {
		t.Error("a session was ended across organizations")
	}
	// Counts are of one's own.
	if list := get[api.LiveList](k, livePath); list.AuthorizedSessionCount != 1 || list.Total != 1 {
		t.Errorf("%+v", list)
	}
	limits := get[api.AccountLimits](k, limitsPath)
	if limits.AuthorizedSessions.CurrentValue != 1 || limits.Applications.CurrentValue != 2 {
		t.Errorf("%+v", limits)
	}
	for _, app := range get[api.ApplicationList](k, applicationsPath).Items {
		if app.OrganizationID != acme {
			t.Errorf("sees %+v", app)
		}
	}
}

// TestKeysOfAllApplications: null and "all" are the same, at creation and afterwards.
func TestKeysOfAllApplications(t *testing.T) {
	k := newKit(t, unlimited)
	for _, all := range []string{`null`, `"all"`, `"\u0061ll"`} {
		key := ask[api.NewAPIKey](k, request{method: "POST", path: organizationsPath + "/" + acme.String() + "/api-keys", key: adminWord,
			body: `{"name":"x","scopes":["applications:read"],"applications":["` + desktop.String() + `"]}`}, http.StatusCreated)
		changed := ask[api.APIKey](k, request{method: "PATCH", path: keysPath + "/" + key.PublicID, key: adminWord,
			body: `{"applications":` + all + `}`}, http.StatusOK)
		created := ask[api.NewAPIKey](k, request{method: "POST", path: organizationsPath + "/" + acme.String() + "/api-keys", key: adminWord,
			body: `{"name":"x","scopes":[],"applications":` + all + `}`}, http.StatusCreated)
		if len(key.Applications) != 1 || changed.Applications != nil || created.Applications != nil {
			t.Errorf("%s: %v, %v, %v", all, key.Applications, changed.Applications, created.Applications)
		}
		if list := ask[api.ApplicationList](k, request{path: applicationsPath, key: key.Key}, http.StatusOK); len(list.Items) != 2 {
			t.Errorf("%s: sees %d applications", all, len(list.Items))
		}
	}
}

// TestMaxBody: the limit is configurable, exact, and named.
func TestMaxBody(t *testing.T) {
	limits := unlimited
	limits.MaxBody = 100
	k := newKit(t, limits)
	body := `{"expiresIn":60,"name":"` + strings.Repeat("x", 100-26) + `"}`
	path := appPath(desktop) + "/session-tokens"
	ask[api.TokenReply](k, request{method: "POST", path: path, body: body}, http.StatusCreated)
	if msg := k.refusal(request{method: "POST", path: path, body: body + " "}, api.CodeBodyTooLarge); !strings.Contains(msg, "100 bytes") {
		t.Error(msg)
	}
	if n := k.counter("max-body"); n != 1 {
		t.Errorf("%v were counted, want 1", n)
	}
}
