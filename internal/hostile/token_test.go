package hostile

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
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// numeric writes a time as a claim.
func numeric(t time.Time) json.Number {
	return json.Number(fmt.Sprintf("%d.%03d", t.Unix(), t.UnixMilli()%1000))
}

// until makes a token with an expiry, and with a whole second as its iat, for which revocation and half-life take it.
func until(t testing.TB, expires time.Time, more map[string]any) string {
	t.Helper()
	all := map[string]any{"exp": numeric(expires)}
	maps.Copy(all, more)
	return testkit.Token(t, all)
}

// notice is a token_expiring or authorized frame as it is written.
func notice(kind string, expires time.Time) string {
	return fmt.Sprintf(`{"type":%q,"tokenExpiresAt":%q}`, kind, expires.UTC().Format(api.TimestampLayout))
}

// within holds the time of something that has just happened to when it was due: never before, and not long after.
func within(t testing.TB, what string, due time.Time) {
	t.Helper()
	if late := time.Since(due); late < 0 || late > 5*time.Second {
		t.Errorf("%s came %s after it was due", what, late)
	}
}

// TestTokenLife: the notice ahead of the expiry or at half-life, nothing at the expiry, the end at grace.
func TestTokenLife(t *testing.T) {
	t.Parallel()
	const grace = 800 * time.Millisecond
	for name, ahead := range map[string]time.Duration{"ahead": 500 * time.Millisecond, "half-life": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, gateway.Limits{ExpiryNotice: ahead, ExpiryGrace: grace}, func(t *testing.T, n node) {
				issued := time.Now().Truncate(time.Second)
				expires := issued.Add(2400 * time.Millisecond)
				p := n.openToken(t, until(t, expires, map[string]any{"iat": issued.Unix()}))
				if got, want := p.next(), notice("token_expiring", expires); got != want {
					t.Fatalf("got %s, want %s", got, want)
				}
				within(t, "the notice", expires.Add(-min(ahead, 1200*time.Millisecond)))
				p.ends(4105)
				within(t, "the end", expires.Add(grace))
				n.wantEnd(t, p.id, api.EndTokenExpired)
			})
		})
	}
}

// listed tells in which of the Sessions dialect's lists a session is, and as what.
func (n node) listed(t testing.TB, id string) (in []string, derived api.DerivedStatus) {
	t.Helper()
	for _, query := range []string{"", "status=active", "status=inactive", "status=all", "includeInactive=true"} {
		var list api.SessionList
		n.Get(t, testkit.Key, "/api/v1/applications/"+testkit.App.String()+"/sessions?limit=1000&"+query, &list)
		if i := slices.IndexFunc(list.Items, func(s api.Session) bool { return s.ID.String() == id }); i >= 0 {
			in, derived = append(in, query), list.Items[i].DerivedStatus
		}
	}
	return in, derived
}

// TestExpiredAndRevived: a session whose token has expired is listed as expired, still connected, until authorize revives it; the
// deadline of the old token then means nothing.
func TestExpiredAndRevived(t *testing.T) {
	t.Parallel()
	const grace = 8 * time.Second
	attack(t, gateway.Limits{ExpiryNotice: 300 * time.Millisecond, ExpiryGrace: grace}, func(t *testing.T, n node) {
		expires := time.Now().Add(8 * time.Second)
		p := n.openToken(t, until(t, expires, map[string]any{"cid": "client-001"}))
		want := func(when string, derived api.DerivedStatus, lists ...string) {
			t.Helper()
			in, got := n.listed(t, p.id)
			if got != derived || !slices.Equal(in, lists) {
				t.Errorf("%s: listed as %s in %q, want %s in %q", when, got, in, derived, lists)
			}
		}
		want("before its expiry", api.DerivedActive, "", "status=active", "status=all", "includeInactive=true")
		if got := p.next(); got != notice("token_expiring", expires) {
			t.Fatal(got)
		}
		time.Sleep(time.Until(expires))
		want("after its expiry", api.DerivedExpired, "status=inactive", "status=all", "includeInactive=true")
		if s := n.session(t, p.id); s.Status != api.StatusActive || s.DisconnectedAt != nil || s.TokenExpiresAt == nil ||
			*s.TokenExpiresAt != *api.MillisOf(expires).Timestamp() {
			t.Errorf("expired: %+v", s)
		}
		if n.live(t, testkit.Key, testkit.Number) != 1 {
			t.Error("an expired session is connected, and lives")
		}
		p.alive()

		renewed := time.Now().Add(time.Hour)
		p.text(`{"type":"authorize","token":"` + until(t, renewed, map[string]any{"cid": "client-001"}) + `"}`)
		if got := p.next(); got != notice("authorized", renewed) {
			t.Fatal(got)
		}
		want("renewed", api.DerivedActive, "", "status=active", "status=all", "includeInactive=true")
		time.Sleep(time.Until(expires.Add(grace + 300*time.Millisecond)))
		p.alive()
	})
}

// TestRefusedRenewals: a token that is not for this session is refused by its code, and changes nothing.
func TestRefusedRenewals(t *testing.T) {
	t.Parallel()
	attack(t, plenty(gateway.Limits{}), func(t *testing.T, n node) {
		hour := time.Now().Add(time.Hour)
		mine := map[string]any{"cid": "client-001", "license": "L-1"}
		p := n.openToken(t, until(t, hour, mine))
		before := n.session(t, p.id)
		with := func(claims map[string]any) string {
			all := map[string]any{"cid": "client-001"}
			maps.Copy(all, claims)
			return `"` + until(t, hour, all) + `"`
		}
		for name, tc := range map[string]struct{ token, code string }{
			"another sub":              {with(map[string]any{"sub": "eve@example.com"}), "token_mismatch"},
			"sub in capitals":          {with(map[string]any{"sub": "John@example.com"}), "token_mismatch"},
			"no sub":                   {with(map[string]any{"sub": nil}), "token_mismatch"},
			"another cid":              {with(map[string]any{"cid": "client-002"}), "token_mismatch"},
			"no cid":                   {with(map[string]any{"cid": nil}), "token_mismatch"},
			"another application":      {`"` + testkit.Token(t, map[string]any{"aud": testkit.Second.String(), "cid": "client-001"}) + `"`, "token_mismatch"},
			"another organization":     {`"` + forge(testkit.OtherSecret, hs256, strings.Replace(claims(""), testkit.App.String(), testkit.OtherApp.String(), 1)) + `"`, "token_mismatch"},
			"another one's secret":     {`"` + forge(testkit.OtherSecret, hs256, claims("")) + `"`, "token_invalid"},
			"none":                     {`"` + forge("", `{"alg":"none"}`, claims("")) + `"`, "token_invalid"},
			"expired":                  {`"` + until(t, time.Now().Add(-time.Millisecond), mine) + `"`, "token_expired"},
			"from the future":          {with(map[string]any{"iat": time.Now().Unix() + 1000}), "token_invalid"},
			"empty":                    {`""`, "token_invalid"},
			"missing":                  {`null`, "validation_error"},
			"number":                   {`5`, "validation_error"},
			"the publishable key":      {`"` + testkit.PublishableKey + `"`, "token_invalid"},
			"given twice":              {`"x","token":"y"`, "validation_error"},
			"long":                     {`"` + strings.Repeat("x", 15000) + `"`, "token_invalid"},
			"kid of Rollcall, foreign": {`"` + forge(testkit.Secret, `{"alg":"HS256","kid":"rollcall"}`, claims(`"epoch":0,`)) + `"`, "token_invalid"},
		} {
			t.Run(name, func(t *testing.T) {
				p.text(`{"type":"authorize","token":` + tc.token + `}`)
				if got := p.next(); !strings.HasPrefix(got, fmt.Sprintf(`{"type":"error","code":%q,`, tc.code)) {
					t.Errorf("got %.300s, want %s", got, tc.code)
				}
			})
		}
		p.alive()
		after := n.session(t, p.id)
		if *after.TokenExpiresAt != *before.TokenExpiresAt || *after.Details.Login != *before.Details.Login || *after.Details.License != "L-1" ||
			after.Details.ClientID != "client-001" {
			t.Errorf("before %+v, after %+v", before.Details, after.Details)
		}
	})
}

// TestSecretRotates: a session outlives the secret that its token was signed with. Nothing opens or renews with the old one.
func TestSecretRotates(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		const fresh = "the-secret-after-the-rotation-----"
		old := testkit.Token(t, nil)
		p := n.openToken(t, old)
		status, body := n.Do(t, testkit.Key, http.MethodPatch, "/api/v1/applications/"+testkit.App.String(),
			map[string]any{"tokens": map[string]any{"hs256Secret": fresh}})
		if status != http.StatusOK || strings.Contains(string(body), fresh) {
			t.Fatalf("%d %s", status, body)
		}
		p.alive()
		p.text(`{"type":"authorize","token":"` + testkit.Token(t, map[string]any{"jti": "again"}) + `"}`)
		if got := p.next(); !strings.Contains(got, `"code":"token_invalid"`) {
			t.Errorf("the old secret renews: %s", got)
		}
		p.text(`{"type":"authorize","token":"` + forge(fresh, hs256, claims("")) + `"}`)
		if got := p.next(); !strings.HasPrefix(got, `{"type":"authorized"`) {
			t.Errorf("the new secret does not renew: %s", got)
		}
		late := n.connect(t)
		late.text(hello(`"token":"` + old + `"`))
		if got := late.next(); !strings.Contains(got, `"code":"token_invalid"`) {
			t.Errorf("the old secret opens: %s", got)
		}
		late.ends(4203)
		n.openToken(t, forge(fresh, hs256, claims(`"jti":"fresh",`))).alive()
		p.alive()
	})
}
