package tenant

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestAuthenticateRefuses(t *testing.T) {
	w := newWorld(t)
	w.bootstrap(`organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    apiKeys:
      - {name: Expired, key: rck_expired000000001_` + keySecret + `, expiresAt: 2020-01-01T00:00:00Z}
      - {name: Revoked, key: rck_revoked000000001_` + keySecret + `}
      - {name: Both, key: rck_both000000000001_` + keySecret + `, expiresAt: 2020-01-01T00:00:00Z}
`)
	for _, id := range []string{"revoked000000001", "both000000000001"} {
		if _, err := w.RevokeKey(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	wrong := strings.Repeat("x", 48)
	for name, tc := range map[string]struct {
		header string
		code   api.Code
	}{
		"good":                      {"Bearer " + plainKey, ""},
		"scheme in lower case":      {"bearer " + plainKey, ""},
		"scheme in upper case":      {"BEARER " + plainKey, ""},
		"more spaces":               {"Bearer   " + plainKey + " ", ""},
		"missing":                   {"", api.CodeKeyInvalid},
		"scheme alone":              {"Bearer", api.CodeKeyInvalid},
		"empty":                     {"Bearer ", api.CodeKeyInvalid},
		"no scheme":                 {plainKey, api.CodeKeyInvalid},
		"another scheme":            {"Basic " + plainKey, api.CodeKeyInvalid},
		"two keys":                  {"Bearer " + plainKey + " " + plainKey, api.CodeKeyInvalid},
		"two keys with a comma":     {"Bearer " + plainKey + ", Bearer " + plainKey, api.CodeKeyInvalid},
		"another prefix":            {"Bearer rca_" + keyPublic + "_" + keySecret, api.CodeKeyInvalid},
		"prefix in upper case":      {"Bearer RCK_" + keyPublic + "_" + keySecret, api.CodeKeyInvalid},
		"public id in upper case":   {"Bearer rck_0123456789ABCDEF_" + keySecret, api.CodeKeyInvalid},
		"secret too short":          {"Bearer " + plainKey[:len(plainKey)-1], api.CodeKeyInvalid},
		"secret too long":           {"Bearer " + plainKey + "0", api.CodeKeyInvalid},
		"secret with a line break":  {"Bearer " + plainKey + "\n", api.CodeKeyInvalid},
		"secret with a sign":        {"Bearer " + plainKey[:len(plainKey)-1] + "-", api.CodeKeyInvalid},
		"very long":                 {"Bearer " + strings.Repeat("rck_", 1<<16), api.CodeKeyInvalid},
		"not UTF-8":                 {"Bearer rck_\xff\xfe", api.CodeKeyInvalid},
		"unknown public id":         {"Bearer rck_unknown000000001_" + keySecret, api.CodeKeyInvalid},
		"wrong secret":              {"Bearer rck_" + keyPublic + "_" + wrong, api.CodeKeyInvalid},
		"expired":                   {"Bearer rck_expired000000001_" + keySecret, api.CodeKeyExpired},
		"expired, wrong secret":     {"Bearer rck_expired000000001_" + wrong, api.CodeKeyInvalid},
		"revoked":                   {"Bearer rck_revoked000000001_" + keySecret, api.CodeKeyRevoked},
		"revoked, wrong secret":     {"Bearer rck_revoked000000001_" + wrong, api.CodeKeyInvalid},
		"revoked wins over expired": {"Bearer rck_both000000000001_" + keySecret, api.CodeKeyRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := w.Authenticate(tc.header, somewhere)
			want(t, err, tc.code, "")
			if err == nil && (k.PublicID != keyPublic || k.Organization != orgID) {
				t.Errorf("got %+v", k)
			}
		})
	}
	_, unknown := w.Authenticate("Bearer rck_unknown000000001_"+keySecret, somewhere)
	_, mismatch := w.Authenticate("Bearer rck_"+keyPublic+"_"+wrong, somewhere)
	if unknown.Error() != mismatch.Error() {
		t.Errorf("an unknown key is told from a wrong secret: %v, %v", unknown, mismatch)
	}
}

func TestRequire(t *testing.T) {
	w := newWorld(t)
	k := w.key(plainKey)
	for _, scope := range api.Scopes {
		code := api.CodeInsufficientScope
		if scope == api.ScopeSessionsRead || scope == api.ScopeSessionsDisconnect {
			code = ""
		}
		want(t, k.Require(scope), code, string(scope))
		want(t, Key{}.Require(scope), api.CodeInsufficientScope, string(scope))
	}
}

func TestVisible(t *testing.T) {
	w := newWorld(t)
	all := w.key(plainKey)
	restricted := w.key("rck_restricted000001_" + keySecret)
	none := w.key("rck_nothing000000001_" + keySecret)
	if _, err := w.ArchiveApplication(t.Context(), otherID, Admin); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		key  Key
		ref  string
		code api.Code
	}{
		{all, appText, ""},
		{all, strings.ToUpper(appText), ""},
		{all, appNumber, ""},
		{all, otherApp, ""}, // archived
		{all, "77", ""},
		{all, strangeApp, api.CodeApplicationNotFound},
		{all, "88", api.CodeApplicationNotFound},
		{all, "999", api.CodeApplicationNotFound},
		{all, "", api.CodeApplicationNotFound},
		{all, "0" + appNumber, api.CodeApplicationNotFound},
		{all, "00000000-0000-0000-0000-000000000000", api.CodeApplicationNotFound},
		{all, "{" + appText + "}", api.CodeApplicationNotFound},
		{restricted, otherApp, ""},
		{restricted, "77", ""},
		{restricted, appText, api.CodeApplicationForbidden},
		{restricted, appNumber, api.CodeApplicationForbidden},
		{restricted, strangeApp, api.CodeApplicationForbidden},
		{restricted, "88", api.CodeApplicationForbidden},
		{restricted, "999", api.CodeApplicationForbidden},
		{restricted, "not an id", api.CodeApplicationForbidden},
		{none, otherApp, api.CodeApplicationForbidden},
		{Key{}, appText, api.CodeApplicationForbidden},
	} {
		t.Run(fmt.Sprintf("%s %s", tc.key.PublicID, tc.ref), func(t *testing.T) {
			_, err := w.Visible(tc.key, tc.ref)
			want(t, err, tc.code, "")
		})
	}
	for _, tc := range []struct {
		key  Key
		want string
	}{{all, "77 123456789"}, {restricted, "77"}, {none, ""}, {Key{}, ""}} {
		var numbers []string
		for _, app := range w.Applications(tc.key) {
			numbers = append(numbers, app.Number)
		}
		if got := strings.Join(numbers, " "); got != tc.want {
			t.Errorf("key %s sees %q, want %q", tc.key.PublicID, got, tc.want)
		}
	}
}

func TestKeyLosesWhatItHad(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	k := w.key(plainKey)
	if _, err := w.PatchKey(ctx, keyPublic, KeyInput{Scopes: &[]api.Scope{api.ScopeAccountRead}, Applications: &[]api.ApplicationID{otherID}}); err != nil {
		t.Fatal(err)
	}
	want(t, k.Require(api.ScopeSessionsRead), "", "") // a snapshot
	now, err := w.Recheck(k)
	want(t, err, "", "")
	want(t, now.Require(api.ScopeSessionsRead), api.CodeInsufficientScope, "")
	_, err = w.Visible(now, appText)
	want(t, err, api.CodeApplicationForbidden, "")

	w.bootstrap(strings.Replace(exampleFile, keySecret, strings.Repeat("n", 48), 1))
	_, err = w.Recheck(k)
	want(t, err, api.CodeKeyInvalid, "") // another secret
	k = w.key("rck_" + keyPublic + "_" + strings.Repeat("n", 48))
	if _, err := w.RevokeKey(ctx, keyPublic); err != nil {
		t.Fatal(err)
	}
	_, err = w.Recheck(k)
	want(t, err, api.CodeKeyRevoked, "")
	_, err = w.Recheck(Key{})
	want(t, err, api.CodeKeyInvalid, "")
}

func TestKeyExpiresAtItsInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), "sqlite::memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		d, err := New(t.Context(), Config{Store: db.Config()})
		if err != nil {
			t.Fatal(err)
		}
		org, err := d.CreateOrganization(t.Context(), OrganizationInput{Name: new("Acme")})
		want(t, err, "", "")
		at := api.MillisOf(time.Now().Add(time.Minute))
		_, plaintext, err := d.CreateKey(t.Context(), org.ID, KeyInput{Name: new("Brief"), ExpiresAt: &at})
		want(t, err, "", "")
		k, err := d.Authenticate("Bearer "+plaintext, somewhere)
		want(t, err, "", "")
		time.Sleep(time.Minute - time.Millisecond)
		_, err = d.Recheck(k)
		want(t, err, "", "")
		time.Sleep(time.Millisecond)
		_, err = d.Recheck(k)
		want(t, err, api.CodeKeyExpired, "")
		_, err = d.Authenticate("Bearer "+plaintext, somewhere)
		want(t, err, api.CodeKeyExpired, "")
	})
}

func TestLastUseIsWrittenLazily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), "sqlite::memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		d, stop := running(t, &flaky{Config: db.Config()})
		org, err := d.CreateOrganization(t.Context(), OrganizationInput{Name: new("Acme")})
		want(t, err, "", "")
		row, plaintext, err := d.CreateKey(t.Context(), org.ID, KeyInput{Name: new("Used")})
		want(t, err, "", "")
		stored := func() store.Key {
			changes, err := db.Config().Since(t.Context(), 0)
			want(t, err, "", "")
			return changes.Keys[0]
		}
		use := func(ip string) api.Millis {
			if _, err := d.Authenticate("Bearer "+plaintext, netip.MustParseAddr(ip)); err != nil {
				t.Fatal(err)
			}
			return api.MillisOf(time.Now())
		}
		first := use("::ffff:203.0.113.10")
		if got := d.Keys(org.ID)[0]; got.LastUsedAt != first || got.LastUsedIP != "203.0.113.10" {
			t.Errorf("shown as last used at %d from %s", got.LastUsedAt, got.LastUsedIP)
		}
		if got := stored(); got.LastUsedAt != 0 {
			t.Error("the use was written at once")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := stored(); got.LastUsedAt != first || got.LastUsedIP != "203.0.113.10" {
			t.Errorf("stored as last used at %d from %s, want %d", got.LastUsedAt, got.LastUsedIP, first)
		}
		// While the database is away the use waits.
		d.db.set(func(f *flaky) { f.down = errDown })
		second := use("2001:db8::1")
		time.Sleep(10 * time.Second)
		d.db.set(func(f *flaky) { f.down = nil })
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := stored(); got.LastUsedAt != second || got.LastUsedIP != "2001:db8::1" {
			t.Errorf("after an outage stored as last used at %d from %s, want %d", got.LastUsedAt, got.LastUsedIP, second)
		}
		time.Sleep(time.Second)
		third := use("203.0.113.12")
		stop()
		if got := stored(); got.LastUsedAt != third {
			t.Errorf("at the end stored as last used at %d, want %d", got.LastUsedAt, third)
		}
		if got := stored(); got.Version != row.Version {
			t.Error("a use raised the version")
		}
	})
}

func TestKeyWrites(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	name := new("Key")
	unknown := api.NewID[api.Application]()
	for field, in := range map[string]KeyInput{
		"name must be 1 to 256 bytes":       {},
		"name must be 1 to 256 bytes ":      {Name: new("")},
		"name must be 1 to 256 bytes  ":     {Name: new(strings.Repeat("é", 129))},
		"name must be 1 to 256 bytes   ":    {Name: new("\xff")},
		"scopes[1] must be one of sessions": {Name: name, Scopes: &[]api.Scope{api.ScopeAccountRead, "everything"}},
		"scopes[0] must be one of sessions": {Name: name, Scopes: &[]api.Scope{""}},
		"applications must not be a list":   {Name: name, AllApplications: new(true), Applications: &[]api.ApplicationID{appID}},
		"applications must be a list":       {Name: name, AllApplications: new(false)},
		"applications[0] must be the id":    {Name: name, Applications: &[]api.ApplicationID{unknown}},
		"applications[1] must be the id":    {Name: name, Applications: &[]api.ApplicationID{appID, strangeID}},
		"expiresAt must be a time":          {Name: name, ExpiresAt: new(api.Millis(-1))},
	} {
		_, _, err := w.CreateKey(ctx, orgID, in)
		want(t, err, api.CodeValidation, strings.TrimSpace(field))
	}
	_, _, err := w.CreateKey(ctx, api.NewID[api.Organization](), KeyInput{Name: name})
	want(t, err, api.CodeNotFound, "")

	at := api.MillisOf(noon.Add(time.Hour))
	row, plaintext, err := w.CreateKey(ctx, orgID, KeyInput{
		Name: name, Scopes: &[]api.Scope{api.ScopeAuditRead, api.ScopeSessionsRead, api.ScopeAuditRead},
		Applications: &[]api.ApplicationID{appID, appID}, ExpiresAt: &at,
	})
	want(t, err, "", "")
	if !keyForm.MatchString(plaintext) || !strings.HasPrefix(plaintext, "rck_"+row.PublicID+"_") || !strings.HasSuffix(plaintext, row.LastFour) {
		t.Errorf("plaintext does not fit %s …%s", row.PublicID, row.LastFour)
	}
	w.key(plaintext)
	stamp := api.Timestamp(at)
	wire := api.APIKey{
		PublicID: row.PublicID, LastFour: row.LastFour, Name: "Key", OrganizationID: orgID,
		Scopes: []api.Scope{api.ScopeSessionsRead, api.ScopeAuditRead}, Applications: []api.ApplicationID{appID},
		State: api.KeyActive, ExpiresAt: &stamp, CreatedAt: api.Timestamp(row.CreatedAt),
	}
	if diff := cmp.Diff(wire, KeyAPI(row, w.Now())); diff != "" {
		t.Error(diff)
	}
	if got := KeyAPI(row, at); got.State != api.KeyExpired {
		t.Errorf("at its expiry it is %s", got.State)
	}
	row, err = w.PatchKey(ctx, row.PublicID, KeyInput{AllApplications: new(true), ExpiresAt: new(api.Millis(0))})
	want(t, err, "", "")
	if got := KeyAPI(row, w.Now()); got.Applications != nil || got.ExpiresAt != nil || len(got.Scopes) != 2 || got.LastUsedIP != somewhere.String() {
		t.Errorf("patched to %+v", got)
	}
	_, err = w.PatchKey(ctx, row.PublicID, KeyInput{AllApplications: new(false)})
	want(t, err, api.CodeValidation, "applications must be a list")
	_, err = w.PatchKey(ctx, row.PublicID, KeyInput{Applications: &[]api.ApplicationID{strangeID}})
	want(t, err, api.CodeValidation, "applications[0]")
	_, err = w.PatchKey(ctx, "unknown", KeyInput{})
	want(t, err, api.CodeNotFound, "")
	_, err = w.RevokeKey(ctx, "unknown")
	want(t, err, api.CodeNotFound, "")

	revoked, err := w.RevokeKey(ctx, row.PublicID)
	want(t, err, "", "")
	again, err := w.RevokeKey(ctx, row.PublicID)
	want(t, err, "", "")
	if diff := cmp.Diff(revoked, again); diff != "" || revoked.RevokedAt == 0 {
		t.Error("revoking twice differs from revoking once", diff)
	}
	if got := KeyAPI(revoked, w.Now()); got.State != api.KeyRevoked || got.RevokedAt == nil {
		t.Errorf("revoked shows as %+v", got)
	}
	_, err = w.PatchKey(ctx, row.PublicID, KeyInput{Name: name})
	want(t, err, api.CodeConflict, "revoked")
	if keys := w.Keys(orgID); len(keys) != 4 || keys[3].PublicID != row.PublicID {
		t.Errorf("%d keys, want 4, oldest first", len(keys))
	}
}
