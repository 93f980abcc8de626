package tenant

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
)

func TestCreateApplicationDefaults(t *testing.T) {
	w := newWorld(t)
	app, err := w.CreateApplication(t.Context(), orgID, ApplicationInput{Name: new("New")})
	want(t, err, "", "")
	if !numberForm.MatchString(app.Number) || len(app.Number) != 9 || !publishableForm.MatchString(app.PublishableKey) || app.ID.IsZero() {
		t.Errorf("generated %s, %s, %s", app.ID, app.Number, app.PublishableKey)
	}
	got := app.API()
	wire := api.Application{
		ID: app.ID, Number: app.Number, Name: "New", State: api.ApplicationActive, OrganizationID: orgID,
		PublishableKey: app.PublishableKey, IdleAfter: api.Duration(5 * time.Minute), AllowedOrigins: []string{},
		CreatedAt: api.Timestamp(app.CreatedAt),
	}
	if diff := cmp.Diff(wire, got); diff != "" {
		t.Error(diff)
	}
	if app.MaxAuthorized() != 1000 || app.Plan.Name != "Pro" || time.Since(app.CreatedAt.Time()).Abs() > time.Minute {
		t.Errorf("plan %+v, created at %d", app.Plan, app.CreatedAt)
	}
	if strange := w.app(strangeID); strange.MaxAuthorized() != -1 {
		t.Errorf("without a limit it is %d", strange.MaxAuthorized())
	}
}

func TestCreateApplicationGiven(t *testing.T) {
	w := newWorld(t)
	id := api.NewID[api.Application]()
	app, err := w.CreateApplication(t.Context(), orgID, ApplicationInput{
		ID: &id, Number: new("18446744073709551616"), Name: new("日本 \u202e app"), State: new(api.ApplicationPaused),
		PublishableKey: new("rca_given00000000000"), IdleAfter: new(api.Duration(time.Second)),
		AllowedOrigins:   &[]string{"HTTPS://App.Example.com:443", "http://localhost:3000", "https://app.example.com", "app://-", "http://[::1]:80"},
		StrictRevocation: new(true), Tokens: &TokensInput{JWKSURL: "http://id/jwks", Issuer: "i", Audience: "a"},
	})
	want(t, err, "", "")
	wire := api.Application{
		ID: id, Number: "18446744073709551616", Name: "日本 \u202e app", State: api.ApplicationPaused, OrganizationID: orgID,
		PublishableKey: "rca_given00000000000", IdleAfter: api.Duration(time.Second),
		AllowedOrigins:   []string{"https://app.example.com", "http://localhost:3000", "app://-", "http://[::1]"},
		StrictRevocation: true, Tokens: api.TokenSettings{JWKSURL: "http://id/jwks", Issuer: "i", Audience: "a"},
		CreatedAt: api.Timestamp(app.CreatedAt),
	}
	if diff := cmp.Diff(wire, app.API()); diff != "" {
		t.Error(diff)
	}
	again, err := New(t.Context(), Config{Store: w.db})
	want(t, err, "", "")
	stored, _ := again.Application(id)
	if diff := cmp.Diff(app, stored); diff != "" {
		t.Error("a restart changes it:", diff)
	}
}

// refusedApplications are inputs that creation and patch refuse alike, by what the message says.
var refusedApplications = []struct {
	in   ApplicationInput
	text string
}{
	{ApplicationInput{ID: new(api.ApplicationID{})}, "id "},
	{ApplicationInput{Number: new("")}, "number must be a string of 1 to 20 decimal digits"},
	{ApplicationInput{Number: new("0")}, "number must be"},
	{ApplicationInput{Number: new("0123")}, "number must be"},
	{ApplicationInput{Number: new("12a")}, "number must be"},
	{ApplicationInput{Number: new("-1")}, "number must be"},
	{ApplicationInput{Number: new("1\n")}, "number must be"},
	{ApplicationInput{Number: new("١٢٣")}, "number must be"},
	{ApplicationInput{Number: new(strings.Repeat("1", 21))}, "number must be"},
	{ApplicationInput{Name: new("")}, "name must be 1 to 256 bytes"},
	{ApplicationInput{Name: new(strings.Repeat("x", 257))}, "name must be"},
	{ApplicationInput{Name: new("\xc3")}, "name must be"},
	{ApplicationInput{Name: new("a\nb")}, "name must be"},
	{ApplicationInput{State: new(api.ApplicationArchived)}, "state must be active or paused"},
	{ApplicationInput{State: new(api.ApplicationState(""))}, "state must be active or paused"},
	{ApplicationInput{PublishableKey: new("")}, "publishableKey must be rca_"},
	{ApplicationInput{PublishableKey: new("rca_ABCDEF0123456789")}, "publishableKey must be"},
	{ApplicationInput{PublishableKey: new(pubKey + "0")}, "publishableKey must be"},
	{ApplicationInput{IdleAfter: new(api.Duration(0))}, "idleAfter must be a duration of at least 1s, such as 5m"},
	{ApplicationInput{IdleAfter: new(api.Duration(time.Second - 1))}, "idleAfter must be"},
	{ApplicationInput{IdleAfter: new(api.Duration(-time.Hour))}, "idleAfter must be"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://a", "https://b/"}}, "allowedOrigins[1] must be an origin"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://b/path"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"example.com"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://*.example.com"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://user@example.com"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://example.com:port"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"https://exämple.com"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"*"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{"null"}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: &[]string{""}}, "allowedOrigins[0]"},
	{ApplicationInput{AllowedOrigins: new(make([]string, 101))}, "allowedOrigins must be at most 100"},
	{ApplicationInput{Tokens: &TokensInput{HS256Secret: strings.Repeat("s", 31)}}, "tokens.hs256Secret must be 32 to 1024 bytes"},
	{ApplicationInput{Tokens: &TokensInput{HS256Secret: strings.Repeat("s", 1025)}}, "tokens.hs256Secret must be"},
	{ApplicationInput{Tokens: &TokensInput{HS256Secret: hsSecret, JWKSURL: "https://a"}}, "tokens must have hs256Secret or jwksUrl, not both"},
	{ApplicationInput{Tokens: &TokensInput{JWKSURL: "ftp://a"}}, "tokens.jwksUrl must be an http or https URL"},
	{ApplicationInput{Tokens: &TokensInput{JWKSURL: "https://"}}, "tokens.jwksUrl must be"},
	{ApplicationInput{Tokens: &TokensInput{JWKSURL: "/jwks"}}, "tokens.jwksUrl must be"},
	{ApplicationInput{Tokens: &TokensInput{JWKSURL: "https://u:p@a/"}}, "tokens.jwksUrl must be"},
	{ApplicationInput{Tokens: &TokensInput{JWKSURL: "https://a/" + strings.Repeat("x", 2048)}}, "tokens.jwksUrl must be"},
	{ApplicationInput{Tokens: &TokensInput{JWKSURL: "https://a/%zz"}}, "tokens.jwksUrl must be"},
	{ApplicationInput{Tokens: &TokensInput{Issuer: "i"}}, "tokens.issuer must come with hs256Secret or jwksUrl"},
	{ApplicationInput{Tokens: &TokensInput{Audience: "a"}}, "tokens.audience must come with"},
	{ApplicationInput{Tokens: &TokensInput{HS256Secret: hsSecret, Issuer: strings.Repeat("x", 257)}}, "tokens.issuer must be at most"},
	{ApplicationInput{Tokens: &TokensInput{HS256Secret: hsSecret, Audience: "\xff"}}, "tokens.audience must be at most"},
}

func TestRefusedApplications(t *testing.T) {
	w := newWorld(t)
	before := w.app(appID)
	version := w.mem.version
	for _, tc := range refusedApplications {
		t.Run(tc.text, func(t *testing.T) {
			_, err := w.PatchApplication(t.Context(), appID, tc.in, Admin)
			want(t, err, api.CodeValidation, tc.text)
			if tc.in.Name == nil {
				tc.in.Name = new("New")
			}
			_, err = w.CreateApplication(t.Context(), orgID, tc.in)
			want(t, err, api.CodeValidation, tc.text)
		})
	}
	_, err := w.CreateApplication(t.Context(), orgID, ApplicationInput{})
	want(t, err, api.CodeValidation, "name must be 1 to 256 bytes")
	_, err = w.CreateApplication(t.Context(), api.NewID[api.Organization](), ApplicationInput{Name: new("New")})
	want(t, err, api.CodeNotFound, "organization")
	_, err = w.PatchApplication(t.Context(), api.NewID[api.Application](), ApplicationInput{}, Admin)
	want(t, err, api.CodeApplicationNotFound, "")
	_, err = w.ArchiveApplication(t.Context(), api.NewID[api.Application](), Admin)
	want(t, err, api.CodeApplicationNotFound, "")
	_, err = w.PatchApplication(t.Context(), appID, ApplicationInput{ID: &otherID}, Admin)
	want(t, err, api.CodeValidation, "id cannot be changed")
	if diff := cmp.Diff(before, w.app(appID)); diff != "" || w.mem.version != version {
		t.Error("a refused write changed something:", diff)
	}
}

func TestApplicationConflicts(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		in   ApplicationInput
		text string
	}{
		"id":             {ApplicationInput{ID: &appID}, "id is taken"},
		"id of another":  {ApplicationInput{ID: &strangeID}, "id is taken"},
		"number":         {ApplicationInput{Number: new(appNumber)}, "number is taken"},
		"number another": {ApplicationInput{Number: new("88")}, "number is taken"},
		"key":            {ApplicationInput{PublishableKey: new(pubKey)}, "publishableKey is taken"},
	} {
		tc.in.Name = new("New")
		_, err := w.CreateApplication(t.Context(), orgID, tc.in)
		want(t, err, api.CodeConflict, tc.text)
		if tc.in.ID == nil {
			_, err = w.PatchApplication(t.Context(), otherID, tc.in, Admin)
			want(t, err, api.CodeConflict, tc.text)
		}
		_ = name
	}
	w.patch(appID, ApplicationInput{Number: new(appNumber), PublishableKey: new(pubKey)}) // its own
}

func TestPatchApplication(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.patch(appID, ApplicationInput{Number: new("555"), PublishableKey: new("rca_rotated000000000")})
	if _, ok := w.find(appNumber); ok {
		t.Error("the old number still finds it")
	}
	_, err := w.Verify(ctx, Credential{PublishableKey: pubKey})
	want(t, err, api.CodePublishableKeyInvalid, "")
	_, err = w.Verify(ctx, Credential{PublishableKey: "rca_rotated000000000", Application: "555"})
	want(t, err, "", "")
	app := w.app(appID)
	if app.HS256Secret != hsSecret || app.Name != "Desktop Client" || app.StateBy != "" {
		t.Error("a patch changed what it did not give")
	}
	paused := api.ApplicationPaused
	_, err = w.PatchApplication(ctx, appID, ApplicationInput{State: &paused}, "key1")
	want(t, err, "", "")
	_, err = w.PatchApplication(ctx, appID, ApplicationInput{State: &paused}, "key2")
	want(t, err, "", "")
	if app := w.app(appID); app.StateBy != "key1" || app.Epoch != 0 {
		t.Errorf("paused by %s, epoch %d", app.StateBy, app.Epoch)
	}
	w.patch(appID, ApplicationInput{Tokens: &TokensInput{}})
	if app := w.app(appID); app.API().Tokens != (api.TokenSettings{}) {
		t.Error("empty token settings keep something")
	}
	archived, err := w.ArchiveApplication(ctx, appID, "key3")
	want(t, err, "", "")
	again, err := w.ArchiveApplication(ctx, appID, "key4")
	want(t, err, "", "")
	if diff := cmp.Diff(archived, again); diff != "" || archived.StateBy != "key3" || archived.Epoch != 1 {
		t.Error("archiving twice differs from archiving once", diff)
	}
	active := api.ApplicationActive
	for _, in := range []ApplicationInput{{}, {State: &active}, {Name: new("New")}} {
		_, err = w.PatchApplication(ctx, appID, in, Admin)
		want(t, err, api.CodeConflict, "archived")
	}
}

func TestOrganizations(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, err := w.CreateOrganization(ctx, OrganizationInput{Name: new("Third")})
	want(t, err, "", "")
	wire := api.Organization{
		ID: org.ID, Name: "Third", CreatedAt: api.Timestamp(org.CreatedAt),
		Plan: api.Plan{Name: "Default", LiveSessionsOverview: true, HistoryRetention: api.Duration(720 * time.Hour)},
	}
	if diff := cmp.Diff(wire, OrganizationAPI(org)); diff != "" {
		t.Error(diff)
	}
	org, err = w.PatchOrganization(ctx, org.ID, OrganizationInput{Plan: &PlanInput{
		Name: "Small", MaxAuthorizedSessions: new(0), LiveSessionsOverview: new(false), HistoryRetention: new(api.Duration(time.Hour)),
	}})
	want(t, err, "", "")
	if p := org.Plan; org.Name != "Third" || p.Name != "Small" || *p.MaxAuthorizedSessions != 0 || p.LiveSessionsOverview || p.HistoryRetention != api.Duration(time.Hour) {
		t.Errorf("patched to %+v", org)
	}
	org, err = w.PatchOrganization(ctx, org.ID, OrganizationInput{Name: new("Fourth"), Plan: &PlanInput{}})
	want(t, err, "", "")
	wire.Name = "Fourth"
	if diff := cmp.Diff(wire, OrganizationAPI(org)); diff != "" {
		t.Error("a plan is not replaced whole:", diff)
	}
	for text, in := range map[string]OrganizationInput{
		"id must be a UUID":                         {ID: &api.OrganizationID{}, Name: new("x")},
		"name must be 1 to 256":                     {Name: new("")},
		"plan.maxAuthorizedSessions must be":        {Name: new("x"), Plan: &PlanInput{MaxAuthorizedSessions: new(-1)}},
		"plan.historyRetention must be a duration":  {Name: new("x"), Plan: &PlanInput{HistoryRetention: new(api.Duration(0))}},
		"plan.historyRetention must be a duration ": {Name: new("x"), Plan: &PlanInput{HistoryRetention: new(api.Duration(-1))}},
		"plan.name must be":                         {Name: new("x"), Plan: &PlanInput{Name: strings.Repeat("x", 257)}},
	} {
		_, err := w.CreateOrganization(ctx, in)
		want(t, err, api.CodeValidation, strings.TrimSpace(text))
		in.ID = nil
		if _, err = w.PatchOrganization(ctx, org.ID, in); in.Name == nil || *in.Name == "" || in.Plan != nil {
			want(t, err, api.CodeValidation, strings.TrimSpace(text))
		}
	}
	_, err = w.CreateOrganization(ctx, OrganizationInput{})
	want(t, err, api.CodeValidation, "name must be")
	_, err = w.CreateOrganization(ctx, OrganizationInput{ID: &orgID, Name: new("Twin")})
	want(t, err, api.CodeConflict, "id is taken")
	_, err = w.PatchOrganization(ctx, api.NewID[api.Organization](), OrganizationInput{})
	want(t, err, api.CodeNotFound, "")
	_, err = w.PatchOrganization(ctx, org.ID, OrganizationInput{ID: &orgID})
	want(t, err, api.CodeValidation, "id cannot be changed")
	if _, ok := w.Organization(api.NewID[api.Organization]()); ok {
		t.Error("an unknown organization is there")
	}
	all := w.Organizations()
	if len(all) != 3 {
		t.Fatalf("%d organizations, want 3", len(all))
	}
	for i := 1; i < len(all); i++ {
		if all[i].CreatedAt < all[i-1].CreatedAt {
			t.Error("not oldest first")
		}
	}
}

// Whoever holds a snapshot cannot change what the directory holds.
func TestSnapshotsAreCopies(t *testing.T) {
	w := newWorld(t)
	w.patch(appID, ApplicationInput{AllowedOrigins: &[]string{"https://a"}})
	app := w.app(appID)
	app.AllowedOrigins[0] = "changed"
	*app.Plan.MaxAuthorizedSessions = 1
	org, _ := w.Organization(orgID)
	*org.Plan.MaxAuthorizedSessions = 2
	w.Keys(orgID)[0].Scopes[0] = "changed"
	if app := w.app(appID); app.AllowedOrigins[0] != "https://a" || app.MaxAuthorized() != 1000 {
		t.Error("a snapshot shares memory with the directory")
	}
	want(t, w.key(plainKey).Require(api.ScopeSessionsRead), "", "")
}
