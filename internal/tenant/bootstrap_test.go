package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestBootstrapExample(t *testing.T) {
	w := newWorld(t)
	org, _ := w.Organization(orgID)
	if diff := cmp.Diff(api.Plan{Name: "Pro", MaxAuthorizedSessions: new(1000), LiveSessionsOverview: true,
		HistoryRetention: api.Duration(720 * time.Hour)}, org.Plan); diff != "" || org.Name != "Acme" {
		t.Error(org.Name, diff)
	}
	app := w.app(appID)
	wire := api.Application{
		ID: appID, Number: appNumber, Name: "Desktop Client", State: api.ApplicationActive, OrganizationID: orgID,
		PublishableKey: pubKey, IdleAfter: api.Duration(5 * time.Minute), AllowedOrigins: []string{},
		Tokens: api.TokenSettings{HS256: true}, CreatedAt: api.Timestamp(app.CreatedAt),
	}
	if diff := cmp.Diff(wire, app.API()); diff != "" {
		t.Error(diff)
	}
	var key store.Key
	for _, k := range w.Keys(orgID) {
		if k.PublicID == keyPublic {
			key = k
		}
	}
	if key.Name != "Backend sync" || key.LastFour != "IJKL" || !key.AllApplications || len(key.Scopes) != 2 ||
		key.ExpiresAt != api.MillisOf(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("key is %+v", key)
	}
}

func TestBootstrapIsIdempotent(t *testing.T) {
	w := newWorld(t)
	before, err := w.db.Config.Since(t.Context(), 0)
	want(t, err, "", "")
	w.bootstrap(exampleFile)
	w.bootstrap(moreFile)
	after, err := w.db.Config.Since(t.Context(), 0)
	want(t, err, "", "")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error("the same file changed something:", diff)
	}
	w.bootstrap(strings.Replace(exampleFile, "Desktop Client", "Renamed", 1))
	if w.app(appID).Name != "Renamed" || w.mem.version != before.Version+1 {
		t.Errorf("version %d after %d for one change", w.mem.version, before.Version)
	}
}

// What the file leaves out stays as it is.
func TestBootstrapKeepsWhatItDoesNotGive(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	second := w.app(otherID)
	w.patch(otherID, ApplicationInput{IdleAfter: new(api.Duration(time.Hour)), Number: new("78")})
	if _, err := w.PatchOrganization(ctx, orgID, OrganizationInput{Plan: &PlanInput{Name: "Changed"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PatchKey(ctx, "restricted000001", KeyInput{Name: new("Mine"), ExpiresAt: new(api.MillisOf(noon.Add(time.Hour)))}); err != nil {
		t.Fatal(err)
	}
	w.bootstrap(moreFile)
	app, org := w.app(otherID), w.app(otherID).Plan
	if app.IdleAfter != time.Hour || app.Number != "77" || app.PublishableKey != second.PublishableKey || org.Name != "Changed" {
		t.Errorf("idleAfter %s, number %s, plan %s", app.IdleAfter, app.Number, org.Name)
	}
	key := w.key("rck_restricted000001_" + keySecret).row
	if key.Name != "Restricted" || key.ExpiresAt == 0 {
		t.Errorf("key %s expires at %d", key.Name, key.ExpiresAt)
	}
	w.bootstrap(strings.Replace(moreFile, "applications: [550e8400-e29b-41d4-a716-446655440001]", "expiresAt: never", 1))
	key = w.key("rck_restricted000001_" + keySecret).row
	if key.ExpiresAt != 0 || key.AllApplications || len(key.Applications) != 1 {
		t.Errorf("key expires at %d, all %v", key.ExpiresAt, key.AllApplications)
	}
}

func TestBootstrapNeverClears(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.RevokeKey(ctx, keyPublic); err != nil {
		t.Fatal(err)
	}
	paused := api.ApplicationPaused
	w.patch(appID, ApplicationInput{State: &paused})
	if _, _, err := w.Revoke(ctx, appID, "somekey", "why"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ArchiveApplication(ctx, otherID, Admin); err != nil {
		t.Fatal(err)
	}
	before, err := w.db.Config.Since(ctx, 0)
	want(t, err, "", "")
	w.bootstrap(exampleFile)
	w.bootstrap(moreFile)
	w.bootstrap(strings.Replace(moreFile, "name: Second", "name: Renamed", 1))
	w.bootstrap(strings.NewReplacer("Backend sync", "Renamed", "2027-01-01T00:00:00Z", "never").Replace(exampleFile))
	after, err := w.db.Config.Since(ctx, 0)
	want(t, err, "", "")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	w.bootstrap(strings.Replace(exampleFile, "Desktop Client", "Renamed", 1))
	if app := w.app(appID); app.Name != "Renamed" || app.State != api.ApplicationPaused || app.Epoch != 1 || app.RevokedBy != "somekey" {
		t.Errorf("got %+v", app)
	}
}

func TestBootstrapKeyByHash(t *testing.T) {
	w := newWorld(t)
	sum := sha256.Sum256([]byte(keySecret))
	file := `organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme
    apiKeys:
      - {name: Hashed, publicId: 1111111111111111, keySha256: ` + strings.ToUpper(hex.EncodeToString(sum[:])) + `, lastFour: 1234, expiresAt: 2020-01-01T00:00:00+02:00}
`
	w.bootstrap(file)
	_, err := w.Authenticate("Bearer rck_1111111111111111_"+keySecret, somewhere)
	want(t, err, api.CodeKeyExpired, "")
	w.bootstrap(strings.NewReplacer("2020-01-01T00:00:00+02:00", "never", ", lastFour: 1234", "").Replace(file))
	if k := w.key("rck_1111111111111111_" + keySecret); k.row.LastFour != "1234" || !k.row.AllApplications || len(k.row.Scopes) != 0 {
		t.Errorf("got %+v", k.row)
	}
}

func TestConcurrentStarts(t *testing.T) {
	db := newDB(t)
	var group sync.WaitGroup
	nodes := make([]*Directory, 4)
	for i := range nodes {
		group.Go(func() {
			var err error
			if nodes[i], err = New(t.Context(), Config{Store: db}); err != nil {
				t.Error(err)
				return
			}
			if err := nodes[i].Bootstrap(t.Context(), strings.NewReader(moreFile)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	first, _ := nodes[0].Application(otherID)
	for _, d := range nodes {
		if app, _ := d.Application(otherID); app.PublishableKey == "" || app.PublishableKey != first.PublishableKey || app.Version != 1 {
			t.Errorf("publishable key %s at version %d, want %s at 1", app.PublishableKey, app.Version, first.PublishableKey)
		}
	}
}

func TestBootstrapRefuses(t *testing.T) {
	w := newWorld(t)
	before, err := w.db.Config.Since(t.Context(), 0)
	want(t, err, "", "")
	at := func(old, replacement string) string {
		if !strings.Contains(exampleFile, old) {
			t.Fatalf("the example has no %q", old)
		}
		return strings.Replace(exampleFile, old, replacement, 1)
	}
	bomb := &strings.Builder{}
	fmt.Fprintf(bomb, "organizations:\n- id: %s\n  name: A\n  apiKeys:\n", orgID)
	for i := range 100 {
		scopes := "*s"
		if i == 0 {
			scopes = "&s [" + strings.Repeat("account:read, ", 10_000) + "]"
		}
		fmt.Fprintf(bomb, "  - {name: K, key: rck_%016d_%s, scopes: %s}\n", i, keySecret, scopes)
	}
	const org, app, key = "organizations[0]", "organizations[0].applications[0]", "organizations[0].apiKeys[0]"
	for _, tc := range []struct{ name, file, want string }{
		{"empty", "", "must be one YAML document with `organizations`"},
		{"only a comment", "# nothing\n", "must be one YAML document"},
		{"two documents", exampleFile + "---\n" + exampleFile, "must be one YAML document"},
		{"a list", "- a\n", "must be a mapping with fields organizations (line 1)"},
		{"a word", "hello", "must be a mapping with fields organizations"},
		{"null", "null", "must be a mapping"},
		{"no YAML", "organizations: [", "must be YAML"},
		{"a tab", "organizations:\n\t- a\n", "must be YAML"},
		{"unknown alias", "organizations: *nowhere\n", "must be YAML: has an alias of nothing (line 1)"},
		{"secret as an alias", at(`"`+hsSecret+`"`, "*"+hsSecret), "must be YAML: has an alias of nothing (line 12)"},
		{"secret as a tag", at(`"`+hsSecret+`"`, "!"+hsSecret), app + ".tokens.hs256Secret: must be a string; quote it (line 12)"},
		{"aliases of much", bomb.String(), "is beyond the 524288 values that a file may have, aliases followed (line 5)"},
		{"a list in itself", "organizations: &a [*a]", org + ": must be a mapping with fields id, name"},
		{"deep lists", strings.Repeat("[", 100_000), "must be YAML: exceeded max depth of 10000 (line 1)"},
		{"deep mappings", "organizations:\n" + strings.Repeat("- ", 100_000), "must be YAML: exceeded max depth of 10000 (line 2)"},
		{"tag", "organizations: !!binary aGVsbG8=\n", "organizations: must be a list"},
		{"no organizations", "{}", "organizations: is required"},
		{"organizations null", "organizations:\n", "organizations: is required"},
		{"organizations a word", "organizations: many\n", "organizations: must be a list (line 1)"},
		{"organization a word", "organizations: [many]\n", org + ": must be a mapping with fields id, name"},
		{"unknown field", "organization: []\n", "organization: is not a known field; known are organizations (line 1)"},
		{"unknown field of an organization", at("    name: Acme", "    title: Acme"), org + ".title: is not a known field; known are id, name, plan, applications, apiKeys (line 3)"},
		{"unknown field of a plan", at("{name: Pro,", "{name: Pro, price: 5,"), org + ".plan.price: is not a known field"},
		{"unknown field of an application", at("        idleAfter", "        state: paused\n        idleAfter"), app + ".state: is not a known field"},
		{"unknown field of tokens", at("{hs256Secret:", "{secret:"), app + ".tokens.secret: is not a known field"},
		{"unknown field of a key", at("        expiresAt", "        revoked: false\n        expiresAt"), key + ".revoked: is not a known field"},
		{"field twice", at("        name: Desktop Client", "        name: A\n        name: B"), "(line 9)"},
		{"secret twice as a field", "organizations:\n  - " + hsSecret + ": 1\n    " + hsSecret + ": 2\n", org + ": has a field that is not known; known are id, name, plan, applications, apiKeys (line 2)"},
		{"null twice", at("    name: Acme", "    name: null\n    name: Acme"), org + ".name: is given twice (line 4)"},
		{"two names in one", at("    name: Acme", "    ? [name]\n    : Acme"), org + ": has a field that is not known"},
		{"name as an alias", at("    name: Acme", "    &n name: Acme\n    *n : Acme"), org + ": has a field that is not known"},
		{"not UTF-8", "organizations: \xff\n", "must be YAML: "},
		{"merge", at("    name: Acme", "    <<: {name: Acme}"), org + ".<<: is not a known field"},
		{"id missing", at("  - id: 11111111-1111-4111-8111-111111111111\n    name", "  - name"), org + ".id: is required (line 2)"},
		{"id no UUID", at("11111111-1111-4111-8111-111111111111", "acme"), org + ".id: must be a UUID (line 2)"},
		{"id number", at("11111111-1111-4111-8111-111111111111", "5"), org + ".id: must be a string"},
		{"id nil", at("11111111-1111-4111-8111-111111111111", "00000000-0000-0000-0000-000000000000"), org + ".id: must be a UUID other than the nil UUID"},
		{"name missing", at("    name: Acme\n", ""), org + ".name: is required"},
		{"name null", at("name: Acme", "name: null"), org + ".name: is required (line 3)"},
		{"name number", at("name: Acme", "name: 5"), org + ".name: must be a string; quote it (line 3)"},
		{"name list", at("name: Acme", "name: [a]"), org + ".name: must be a string; quote it"},
		{"name too long", at("name: Acme", "name: "+strings.Repeat("x", 257)), org + ".name: must be 1 to 256 bytes"},
		{"plan a word", at("{name: Pro, maxAuthorizedSessions: 1000, liveSessionsOverview: true, historyRetention: 720h}", "Pro"), org + ".plan: must be a mapping"},
		{"plan limit negative", at("1000", "-1"), org + ".plan.maxAuthorizedSessions: must be a number of at least 0"},
		{"plan limit string", at("1000", `"1000"`), org + ".plan.maxAuthorizedSessions: must be a whole number"},
		{"plan limit float", at("1000", "1.5"), org + ".plan.maxAuthorizedSessions: must be a whole number"},
		{"plan limit huge", at("1000", "99999999999999999999"), org + ".plan.maxAuthorizedSessions: must be a whole number"},
		{"plan overview", at("true", "maybe"), org + ".plan.liveSessionsOverview: must be true or false"},
		{"plan retention", at("720h", "30 days"), org + ".plan.historyRetention: must be a duration such as"},
		{"plan retention zero", at("720h", "0s"), org + ".plan.historyRetention: must be a duration of at least 1s"},
		{"applications a mapping", at("    applications:\n      - id: 550e8400-e29b-41d4-a716-446655440000", "    applications:\n        id: 550e8400-e29b-41d4-a716-446655440000"), org + ".applications: must be a list"},
		{"application id missing", at("      - id: 550e8400-e29b-41d4-a716-446655440000\n        number", "      - number"), app + ".id: is required (line 6)"},
		{"application id no UUID", at("550e8400-e29b-41d4-a716-446655440000", "550e8400"), app + ".id: must be a UUID (line 6)"},
		{"application name missing", at("        name: Desktop Client\n", ""), app + ".name: is required"},
		{"number", at(`"123456789"`, `"0123"`), app + ".number: must be a string of 1 to 20 decimal digits"},
		{"number in hexadecimal", at(`"123456789"`, "0x12"), app + ".number: must be a string of 1 to 20 decimal digits"},
		{"number with a point", at(`"123456789"`, "1.5"), app + ".number: must be"},
		{"number list", at(`"123456789"`, "[1]"), app + ".number: must be a string"},
		{"publishable key", at("rca_0123456789abcdef", "rca_short"), app + ".publishableKey: must be rca_ and 16 characters of a-z and 0-9 (line 9)"},
		{"idleAfter", at("5m", "5"), app + ".idleAfter: must be a string"},
		{"idleAfter no duration", at("5m", "soon"), app + ".idleAfter: must be a duration such as 90s"},
		{"idleAfter short", at("5m", "10ms"), app + ".idleAfter: must be a duration of at least 1s, such as 5m (line 10)"},
		{"origins a word", at("allowedOrigins: []", "allowedOrigins: https://a"), app + ".allowedOrigins: must be a list (line 11)"},
		{"origin", at("allowedOrigins: []", "allowedOrigins: [https://a, b]"), app + ".allowedOrigins[1]: must be an origin"},
		{"origin number", at("allowedOrigins: []", "allowedOrigins: [5]"), app + ".allowedOrigins[0]: must be a string"},
		{"strict", at("        idleAfter", "        strictRevocation: 1\n        idleAfter"), app + ".strictRevocation: must be true or false"},
		{"secret short", at(hsSecret, "short"), app + ".tokens.hs256Secret: must be 32 to 1024 bytes (line 12)"},
		{"secret and jwks", at("{hs256Secret:", "{jwksUrl: https://a, hs256Secret:"), app + ".tokens: must have hs256Secret or jwksUrl, not both (line 12)"},
		{"jwks", at("{hs256Secret:", "{jwksUrl: nowhere, issuer:"), app + ".tokens.jwksUrl: must be an http or https URL"},
		{"tokens a word", at(`{hs256Secret: "at-least-32-bytes-of-secret-------"}`, "none"), app + ".tokens: must be a mapping"},
		{"key name missing", at("      - name: Backend sync\n        key", "      - key"), key + ".name: is required"},
		{"key missing", at("        key: "+plainKey+"\n", ""), key + ": must have key or keySha256, not both (line 14)"},
		{"key short", at(plainKey, plainKey[:60]), key + ".key: must be rck_, 16 characters of a-z and 0-9, _, and 48"},
		{"key list", at(plainKey, "[a]"), key + ".key: must be a string"},
		{"key and hash", at("        scopes", "        keySha256: "+strings.Repeat("a", 64)+"\n        scopes"), key + ": must have key or keySha256, not both"},
		{"key and public id", at("        scopes", "        publicId: 0123456789abcdef\n        scopes"), key + ".publicId: must not be given with key"},
		{"hash without public id", at("key: "+plainKey, "keySha256: "+strings.Repeat("a", 64)), key + ".publicId: is required"},
		{"hash short", at("key: "+plainKey, "keySha256: abcd"), key + ".keySha256: must be the SHA-256 of the key's secret part"},
		{"hash no hexadecimal", at("key: "+plainKey, "keySha256: "+strings.Repeat("x", 64)), key + ".keySha256: must be the SHA-256"},
		{"public id", at("key: "+plainKey, "publicId: SHORT\n        keySha256: "+strings.Repeat("a", 64)), key + ".publicId: must be 16 characters"},
		{"last four", at("key: "+plainKey, "publicId: 0123456789abcdef\n        lastFour: abc\n        keySha256: "+strings.Repeat("a", 64)), key + ".lastFour: must be the last four"},
		{"scope", at("[sessions:read,", "[sessions:write,"), key + ".scopes[0]: must be one of sessions:read, sessions:disconnect"},
		{"scopes a word", at("[sessions:read, sessions:disconnect]", "sessions:read"), key + ".scopes: must be a list"},
		{"applications a word", at("applications: all ", "applications: some "), key + ".applications: must be all or a list of application ids"},
		{"applications true", at("applications: all ", "applications: true "), key + ".applications: must be a string"},
		{"application of a key no UUID", at("applications: all ", "applications: [x] "), key + ".applications[0]: must be a UUID"},
		{"application of a key unknown", at("applications: all ", "applications: [550e8400-e29b-41d4-a716-4466554400ff] "), key + ".applications[0]: must be the id of an application of the organization"},
		{"application of a key of another organization", at("applications: all ", "applications: ["+appText+", "+strangeApp+"] "), key + ".applications[1]: must be the id of an application of the organization"},
		{"scope a mapping", at("[sessions:read,", "[sessions: read,"), key + ".scopes[0]: must be a string"},
		{"scope a flow mapping", at("[sessions:read,", "[{sessions: read},"), key + ".scopes[0]: must be a string"},
		{"expiry", at("2027-01-01T00:00:00Z", "tomorrow"), key + ".expiresAt: must be a time such as 2027-01-01T00:00:00Z (line 18)"},
		{"expiry a day", at("2027-01-01T00:00:00Z", "2027-01-01"), key + ".expiresAt: must be a time"},
		{"organization twice", exampleFile + strings.SplitN(exampleFile, "\n", 2)[1], "organizations[1].id: is the same as organizations[0].id (line 19)"},
		{"application twice", at("    apiKeys:", "      - {id: "+appText+", name: Twin}\n    apiKeys:"), "organizations[0].applications[1].id: is the same as " + app + ".id (line 13)"},
		{"number twice", at("    apiKeys:", "      - {id: "+otherApp+", name: Twin, number: 123456789}\n    apiKeys:"), "organizations[0].applications[1].number: is the same as " + app + ".number"},
		{"publishable key twice", at("    apiKeys:", "      - {id: "+otherApp+", name: Twin, publishableKey: "+pubKey+"}\n    apiKeys:"), "organizations[0].applications[1].publishableKey: is the same as " + app + ".publishableKey"},
		{"key twice", exampleFile + "      - {name: Twin, key: " + plainKey + "}\n", "organizations[0].apiKeys[1].key: is the same as " + key + ".key"},
		{"number taken", at(`"123456789"`, `"88"`), app + ": the number or the publishableKey is taken by another application (line 6)"},
		{"application of another organization", at(appText, strangeApp), app + ".id: is of an application of another organization (line 6)"},
		{"key of another organization", "organizations:\n  - id: 33333333-3333-4333-8333-333333333333\n    name: C\n    apiKeys:\n      - {name: K, key: " + plainKey + "}\n", key + ": the public id is of a key of another organization (line 5)"},
		{"too large", exampleFile + strings.Repeat("#", maxBootstrap), "must be at most 4 MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := w.Bootstrap(t.Context(), strings.NewReader(tc.file))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			if hasSecret(err.Error()) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
	after, err := w.db.Config.Since(t.Context(), 0)
	want(t, err, "", "")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error("a refused file changed something:", diff)
	}
}

func TestBootstrapAcceptsTheUsualYAML(t *testing.T) {
	w := newWorld(t)
	w.bootstrap(`%YAML 1.2
---
organizations: # a comment
- id: &acme 11111111-1111-4111-8111-111111111111
  name: "Acme"
  plan:
    maxAuthorizedSessions: null
  applications:
  - id: &app "550e8400-e29b-41d4-a716-446655440000"
    number: 123456789
    name: >-
      Desktop
      Client
    strictRevocation: true
    allowedOrigins: ["https://a", http://localhost:3000]
    tokens: {jwksUrl: https://id.example.com/jwks, issuer: i, audience: a}
  apiKeys:
  - {name: A, key: rck_a000000000000001_` + keySecret + `, scopes: &scopes [account:read], applications: [*app]}
  - {name: B, key: rck_b000000000000001_` + keySecret + `, scopes: *scopes}
  - {name: C, key: rck_c000000000000001_` + keySecret + `, scopes: [sessions:read, "account:read"], expiresAt: 2030-01-01T00:00:00Z}
- {id: 33333333-3333-4333-8333-333333333333, name: Flow, applications: [{id: 550e8400-e29b-41d4-a716-4466554400aa, name: F, allowedOrigins: [http://localhost:3000, https://b:8443]}]}
...
`)
	app := w.app(appID)
	if app.Name != "Desktop Client" || app.Number != appNumber || !app.StrictRevocation || app.JWKSURL == "" || app.HS256Secret != "" ||
		app.MaxAuthorized() != -1 || app.Plan.Name != "Default" || app.PublishableKey != pubKey || app.AllowedOrigins[1] != "http://localhost:3000" {
		t.Errorf("got %+v", app)
	}
	if k := w.key("rck_b000000000000001_" + keySecret); k.Require(api.ScopeAccountRead) != nil || k.restricted() {
		t.Errorf("got %+v", k.row)
	}
	if k := w.key("rck_c000000000000001_" + keySecret); k.Require(api.ScopeAccountRead) != nil || k.Require(api.ScopeSessionsRead) != nil {
		t.Errorf("got %+v", k.row)
	}
	if app := w.app(api.MustID[api.Application]("550e8400-e29b-41d4-a716-4466554400aa")); len(app.AllowedOrigins) != 2 || app.AllowedOrigins[1] != "https://b:8443" {
		t.Errorf("got %+v", app)
	}
	if k := w.key("rck_a000000000000001_" + keySecret); !k.restricted() || !k.sees(appID) {
		t.Errorf("got %+v", k.row)
	}
}
