package manage_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// signedIn signs a key in and returns the cookie's value.
func (k *kit) signedIn(key string) string {
	k.t.Helper()
	a := k.do(request{method: "POST", path: api.SignInPath, key: "-", body: `{"key":"` + key + `"}`})
	cookies := (&http.Response{Header: a.header}).Cookies()
	if a.status != http.StatusOK || len(cookies) != 1 {
		k.t.Fatalf("sign-in: %d %s %v", a.status, a.body, cookies)
	}
	return cookies[0].Value
}

// with returns the headers of a page of this server.
func (k *kit) with(cookie string) http.Header {
	return http.Header{"Cookie": {api.SignInCookie + "=" + cookie}, "Origin": {k.server.URL}}
}

// watchWith opens a stream by cookie and reads its init.
func (k *kit) watchWith(header http.Header, query string) *peer {
	k.t.Helper()
	conn, _, err := websocket.Dial(k.t.Context(), k.server.URL+api.LivePath+"?"+query,
		&websocket.DialOptions{HTTPHeader: header, HTTPClient: k.server.Client()})
	if err != nil {
		k.t.Fatal(err)
	}
	p := &peer{k: k, conn: conn}
	k.t.Cleanup(p.close)
	if kind := p.read(); kind != api.TypeInit {
		k.t.Fatalf("first message is %s", kind)
	}
	return p
}

// endsWith reads the error that ends the stream, and its close frame.
func (p *peer) endsWith(code api.Code) {
	p.k.t.Helper()
	if got := p.error(); got != code {
		p.k.t.Errorf("%s, want %s", got, code)
	}
	if _, err := p.next(5 * time.Second); websocket.CloseStatus(err) != websocket.StatusCode(api.ClosePolicy) {
		p.k.t.Errorf("the stream goes on: %v", err)
	}
}

func TestSignIn(t *testing.T) {
	k := newKit(t, unlimited)
	a := k.do(request{method: "POST", path: api.SignInPath, key: "-", body: `{"key":"` + restrictedKey + `"}`})
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Secure ||
		cookie.Name != api.SignInCookie || cookie.MaxAge < 43100 || cookie.MaxAge > 43200 {
		t.Errorf("cookie %v", cookie)
	}
	for part := range strings.SplitSeq(restrictedKey, "_") {
		if strings.Contains(cookie.Value, part) && part != "rck" {
			t.Errorf("the cookie has a part of the key: %s", cookie.Value)
		}
	}
	var in api.SignIn
	if err := json.Unmarshal(a.body, &in); err != nil {
		t.Fatal(err)
	}
	if in.Organization.ID != acme || in.Organization.Name != "Acme" || in.Key.Name != "restricted" || len(in.Key.Applications.IDs) != 1 ||
		in.Key.ExpiresAt != nil || in.ExpiresAt == nil || len(in.Key.Scopes) != 7 || in.Key.LastFour != "IJKL" {
		t.Errorf("%s", a.body)
	}
	header := k.with(cookie.Value)
	same := ask[api.SignIn](k, request{path: api.SignInPath, key: "-", header: header}, http.StatusOK)
	if *same.ExpiresAt != *in.ExpiresAt {
		t.Errorf("signed in until %v, then %v", in.ExpiresAt, same.ExpiresAt)
	}
	if all := ask[api.SignIn](k, request{path: api.SignInPath}, http.StatusOK); all.Key.Applications.IDs != nil || all.ExpiresAt != nil {
		t.Errorf("a key itself: %+v", all)
	}
	// The key's own rights, and no others.
	ask[api.SessionList](k, request{path: sessionsPath(desktop), key: "-", header: header}, http.StatusOK)
	k.refusal(request{path: sessionsPath(web), key: "-", header: header}, api.CodeApplicationForbidden)
	// Authorization wins.
	k.refusal(request{path: sessionsPath(desktop), key: noneKey, header: header}, api.CodeInsufficientScope)
	k.refusal(request{path: sessionsPath(desktop), key: "rubbish", header: header}, api.CodeKeyInvalid)
	k.refusal(request{path: api.RoutePrefix + "/admin/organizations", key: "-", header: header}, api.CodeKeyInvalid)
	if log := k.log.String(); strings.Contains(log, cookie.Value) || strings.Contains(log, "rck_") {
		t.Error("the log has a credential")
	}
}

func TestSignInRefuses(t *testing.T) {
	k := newKit(t, unlimited)
	for body, code := range map[string]api.Code{
		`{"key":"` + expiredKey + `"}`:         api.CodeKeyExpired,
		`{"key":"` + revokedKey + `"}`:         api.CodeKeyRevoked,
		`{"key":"rck_fullfullfullfull_wrong"}`: api.CodeKeyInvalid,
		`{"key":""}`:                           api.CodeKeyInvalid,
		`{"key":"Bearer ` + fullKey + `"}`:     api.CodeKeyInvalid,
		`{"key":7}`:                            api.CodeValidation,
		`{"key":null}`:                         api.CodeValidation,
		`{}`:                                   api.CodeValidation,
		`[]`:                                   api.CodeValidation,
		`{"key":"` + fullKey + `","x":1}`:      api.CodeValidation,
		`{"key":"` + fullKey + `","key":"` + fullKey + `"}`: api.CodeValidation,
		`{"key":"` + strings.Repeat("x", 1<<17) + `"}`:      api.CodeBodyTooLarge,
	} {
		k.refusal(request{method: "POST", path: api.SignInPath, key: "-", body: body}, code)
	}
	in := `{"key":"` + fullKey + `"}`
	for origin, ok := range map[string]bool{k.server.URL: true, "https://evil.example": false, "null": false,
		strings.Replace(k.server.URL, "http:", "https:", 1): false} {
		a := k.do(request{method: "POST", path: api.SignInPath, key: "-", body: in, header: http.Header{"Origin": {origin}}})
		if (a.status == http.StatusOK) != ok || ok != (a.header.Get("Set-Cookie") != "") {
			t.Errorf("from %s: %d", origin, a.status)
		}
	}
	if a := k.do(request{method: "POST", path: api.SignInPath, key: "-", body: in, header: http.Header{"Content-Type": {"text/plain"}}}); a.status != http.StatusUnsupportedMediaType {
		t.Errorf("as a form would: %d", a.status)
	}
	k.refusal(request{path: api.SignInPath, key: "-"}, api.CodeKeyInvalid)
}

func TestSignInCookieRefuses(t *testing.T) {
	k := newKit(t, unlimited)
	good := k.signedIn(fullKey)
	flipped := []byte(good)
	flipped[30] ^= 1
	for name, cookie := range map[string]string{"empty": "", "a key": fullKey, "short": good[:90], "long": good + "AAAA", "padded": good + "=",
		"changed": string(flipped), "rubbish": strings.Repeat("A", len(good)), "huge": strings.Repeat("A", 20000)} {
		if msg := k.refusal(request{path: api.SignInPath, key: "-", header: k.with(cookie)}, api.CodeKeyInvalid); strings.Contains(msg, good) {
			t.Errorf("%s: %s", name, msg)
		}
	}
	for i := range good { // every bit of it is signed
		changed := []byte(good)
		if changed[i] = 'A'; good[i] == 'A' {
			changed[i] = 'B'
		}
		k.refusal(request{path: api.SignInPath, key: "-", header: k.with(string(changed))}, api.CodeKeyInvalid)
	}
}

func TestSignInOrigins(t *testing.T) {
	k := newKit(t, unlimited)
	cookie := k.signedIn(fullKey)
	row := k.open(desktop, ms(), nil)
	host := strings.TrimPrefix(k.server.URL, "http://")
	for _, origins := range [][]string{nil, {"https://evil.example"}, {"null"}, {""}, {"https://" + host}, {k.server.URL + "/"},
		{k.server.URL + ".evil.example"}, {"http://evil.example@" + host}, {k.server.URL, k.server.URL}} {
		header := http.Header{"Cookie": {api.SignInCookie + "=" + cookie}, "Origin": origins}
		for _, r := range []request{
			{method: "DELETE", path: sessionPath(desktop, row.Session)}, {method: "DELETE", path: sessionsPath(desktop)},
			{method: "POST", path: appPath(desktop) + "/session-tokens", body: `{"expiresIn":60}`}, {method: "DELETE", path: api.SignInPath},
			{method: "PATCH", path: appPath(desktop), body: `{"name":"x"}`},
		} {
			r.key, r.header = "-", header
			k.refusal(r, api.CodeOriginForbidden)
		}
		upgrade := header.Clone()
		upgrade.Set("Connection", "Upgrade")
		upgrade.Set("Upgrade", "websocket")
		upgrade.Set("Sec-WebSocket-Version", "13")
		upgrade.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		k.refusal(request{path: livePath, key: "-", header: upgrade}, api.CodeOriginForbidden)
		ask[api.SessionList](k, request{path: sessionsPath(desktop), key: "-", header: header}, http.StatusOK) // reading is a page's own affair
	}
	if _, live := k.registry.Get(desktop, row.Session); !live {
		t.Fatal("a foreign page ended a session")
	}
	ask[api.DisconnectResult](k, request{method: "DELETE", path: sessionPath(desktop, row.Session), key: "-", header: k.with(cookie)}, http.StatusOK)
	// The key itself needs no Origin, and is not asked for one.
	ask[api.DisconnectResult](k, request{method: "DELETE", path: sessionsPath(desktop), header: http.Header{"Origin": {"https://x.example"}}}, http.StatusOK)
}

// TestSignInOverTLS: the scheme that package server resolved decides.
func TestSignInOverTLS(t *testing.T) {
	k := newKit(t, unlimited)
	body := `{"key":"` + fullKey + `"}`
	k.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Scheme, r.RemoteAddr, r.Host = "https", "127.0.0.1", "rollcall.example:443"
		k.api.ServeHTTP(w, r)
	})
	a := k.do(request{method: "POST", path: api.SignInPath, key: "-", body: body, header: http.Header{"Origin": {"https://rollcall.example"}}})
	if cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie")); err != nil || !cookie.Secure {
		t.Errorf("%d %s: %v %v", a.status, a.body, cookie, err)
	}
	k.refusal(request{method: "POST", path: api.SignInPath, key: "-", body: body, header: http.Header{"Origin": {"http://rollcall.example"}}},
		api.CodeOriginForbidden)
}

func TestSignOut(t *testing.T) {
	k := newKit(t, unlimited)
	cookie, other := k.signedIn(fullKey), k.signedIn(fullKey)
	p := k.watchWith(k.with(cookie), query)
	kept := k.watchWith(k.with(other), query)
	out := k.do(request{method: "DELETE", path: api.SignInPath, key: "-", header: k.with(cookie)})
	if set := out.header.Get("Set-Cookie"); out.status != http.StatusNoContent || !strings.Contains(set, "Max-Age=0") || len(out.body) > 0 {
		t.Errorf("%d %s %q", out.status, out.body, set)
	}
	k.refusal(request{path: api.SignInPath, key: "-", header: k.with(cookie)}, api.CodeKeyInvalid)
	p.endsWith(api.CodeKeyInvalid)
	kept.quiet(t) // another sign-in with the key is none of this one's business
	ask[api.SignIn](k, request{path: api.SignInPath, key: "-", header: k.with(other)}, http.StatusOK)
	for _, again := range []http.Header{k.with(cookie), k.with("rubbish"), nil} {
		if a := k.do(request{method: "DELETE", path: api.SignInPath, key: "-", header: again}); a.status != http.StatusNoContent {
			t.Errorf("again: %d %s", a.status, a.body)
		}
	}
	// Each sign-in is in the audit, and the one sign-out; not the cookies.
	audit := get[api.AuditList](k, api.RoutePrefix+"/audit?action=sign_in&action=sign_out")
	var actions []api.AuditAction
	for _, record := range audit.Items {
		actions = append(actions, record.Action)
		if record.Actor.PublicID != "fullfullfullfull" || record.IPAddress == nil || record.ApplicationID != nil || record.Target != nil {
			t.Errorf("%+v", record)
		}
	}
	if !slices.Equal(actions, []api.AuditAction{api.ActionSignOut, api.ActionSignIn, api.ActionSignIn}) {
		t.Errorf("audit: %v", actions)
	}
	// Another node on the same database knows, and one that starts later.
	later, err := tenant.New(t.Context(), tenant.Config{Store: k.db.Config()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := later.SignedIn(cookie, netip.Addr{}); api.CodeOf(err) != api.CodeKeyInvalid {
		t.Errorf("a node that started later: %v", err)
	}
	if _, err := later.SignedIn(other, netip.Addr{}); err != nil {
		t.Errorf("a node that started later does not know who is signed in: %v", err)
	}
}

// TestSignInFollowsTheKey is G7 for browsers.
func TestSignInFollowsTheKey(t *testing.T) {
	k := newKit(t, unlimited)
	cookie := k.signedIn(fullKey)
	p := k.watchWith(k.with(cookie), query)
	if _, err := k.tenants.RevokeKey(t.Context(), "fullfullfullfull"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	p.endsWith(api.CodeKeyRevoked)
	if took := time.Since(start); took > time.Second {
		t.Errorf("the stream ended after %s", took)
	}
	k.refusal(request{path: api.SignInPath, key: "-", header: k.with(cookie)}, api.CodeKeyRevoked)
	k.refusal(request{path: sessionsPath(desktop), key: "-", header: k.with(cookie)}, api.CodeKeyRevoked)
	if a := k.do(request{method: "DELETE", path: api.SignInPath, key: "-", header: k.with(cookie)}); a.status != http.StatusNoContent {
		t.Errorf("signing out of a revoked key: %d", a.status)
	}
}
