package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// call is a request as the server saw it.
type call struct{ Method, URL, Authorization, Body string }

func TestCalls(t *testing.T) {
	const appID = "550e8400-e29b-41d4-a716-446655440000"
	app := api.MustID[api.Application](appID)
	org := api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
	session := api.MustID[api.Session](sessionID)
	paused, name, at := api.ApplicationPaused, "n", api.Timestamp(1767225600000)
	for _, tc := range []struct {
		name string
		do   func(context.Context, *client.Manage, *client.Admin) error
		want call
	}{
		{"live", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Live(ctx, client.Query{Application: "123456789", Search: "50%", Totals: true})
			return err
		}, call{"GET", "/p/api/v1/wss/get-application-sessions?applicationId=123456789&searchString=50%25", "Bearer k", ""}},
		{"sessions", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.SessionPage(ctx, app, client.SessionQuery{Status: "all", Limit: 5, Cursor: "c/+", Details: true})
			return err
		}, call{"GET", "/p/api/v1/applications/" + appID + "/sessions?cursor=c%2F%2B&details=true&limit=5&status=all", "Bearer k", ""}},
		{"session", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Session(ctx, app, session, true)
			return err
		}, call{"GET", "/p/api/v1/applications/" + appID + "/sessions/" + sessionID + "?details=true", "Bearer k", ""}},
		{"revoke all", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			n, err := m.RevokeAll(ctx, app, "")
			if n != 7 {
				return errors.New("the count was not read")
			}
			return err
		}, call{"DELETE", "/p/api/v1/applications/" + appID + "/sessions", "Bearer k", ""}},
		{"disconnect", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Disconnect(ctx, app, session, "abuse & co")
			return err
		}, call{"DELETE", "/p/api/v1/applications/" + appID + "/sessions/" + sessionID + "?reason=abuse+%26+co", "Bearer k", ""}},
		{"ended sessions", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.SessionPage(ctx, app, client.SessionQuery{Status: "inactive", EndedAfter: api.Millis(at).Time(),
				EndedBefore: api.Millis(at).Time(), EndReasons: []api.EndReason{api.EndRevoked, api.EndNodeLost}})
			return err
		}, call{"GET", "/p/api/v1/applications/" + appID + "/sessions?endReason=revoked&endReason=node_lost&endedAfter=2026-01-01T00%3A00%3A00.000Z" +
			"&endedBefore=2026-01-01T00%3A00%3A00.000Z&status=inactive", "Bearer k", ""}},
		{"preview", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.PreviewMatching(ctx, app, api.DisconnectInput{SearchString: "x"})
			return err
		}, call{"POST", "/p/api/v1/applications/" + appID + "/sessions:disconnect?dryRun=true", "Bearer k", `{"searchString":"x"}`}},
		{"disconnect by search", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			n, err := m.DisconnectMatching(ctx, app, api.DisconnectInput{CreatedBefore: &at})
			if n != 7 {
				return errors.New("the count was not read")
			}
			return err
		}, call{"POST", "/p/api/v1/applications/" + appID + "/sessions:disconnect", "Bearer k",
			`{"searchString":"","createdBefore":"2026-01-01T00:00:00.000Z"}`}},
		{"series", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Series(ctx, app)
			return err
		}, call{"GET", "/p/api/v1/applications/" + appID + "/series", "Bearer k", ""}},
		{"audit", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Audit(ctx, client.AuditQuery{Actions: []api.AuditAction{api.ActionKeyRevoked}, Application: app, To: api.Millis(at).Time(),
				Limit: 5, Cursor: "c"})
			return err
		}, call{"GET", "/p/api/v1/audit?action=api_key.revoked&applicationId=" + appID + "&cursor=c&limit=5&to=2026-01-01T00%3A00%3A00.000Z",
			"Bearer k", ""}},
		{"audit of an organization", func(ctx context.Context, _ *client.Manage, a *client.Admin) error {
			_, err := a.Audit(ctx, org, client.AuditQuery{})
			return err
		}, call{"GET", "/p/api/v1/admin/organizations/" + org.String() + "/audit", "Bearer a", ""}},
		{"token", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.IssueToken(ctx, app, api.TokenInput{Login: "l", ExpiresIn: 60})
			return err
		}, call{"POST", "/p/api/v1/applications/" + appID + "/session-tokens", "Bearer k", `{"login":"l","expiresIn":60}`}},
		{"limits", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Limits(ctx)
			return err
		}, call{"GET", "/p/api/v1/account/limits", "Bearer k", ""}},
		{"applications", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.Applications(ctx)
			return err
		}, call{"GET", "/p/api/v1/applications", "Bearer k", ""}},
		{"pause", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			_, err := m.PatchApplication(ctx, app, client.ApplicationInput{State: &paused})
			return err
		}, call{"PATCH", "/p/api/v1/applications/" + appID, "Bearer k", `{"state":"paused"}`}},
		{"archive", func(ctx context.Context, m *client.Manage, _ *client.Admin) error {
			return m.ArchiveApplication(ctx, app)
		}, call{"DELETE", "/p/api/v1/applications/" + appID, "Bearer k", ""}},
		{"create organization", func(ctx context.Context, _ *client.Manage, a *client.Admin) error {
			_, err := a.CreateOrganization(ctx, client.OrganizationInput{Name: &name, Plan: &client.PlanInput{Name: "Pro"}})
			return err
		}, call{"POST", "/p/api/v1/admin/organizations", "Bearer a", `{"name":"n","plan":{"name":"Pro"}}`}},
		{"create key", func(ctx context.Context, _ *client.Manage, a *client.Admin) error {
			_, err := a.CreateKey(ctx, org, client.KeyInput{Name: &name, Scopes: []api.Scope{api.ScopeSessionsRead}, ExpiresAt: &at})
			return err
		}, call{"POST", "/p/api/v1/admin/organizations/" + org.String() + "/api-keys", "Bearer a",
			`{"expiresAt":"2026-01-01T00:00:00.000Z","name":"n","scopes":["sessions:read"]}`}},
		{"widen key", func(ctx context.Context, _ *client.Manage, a *client.Admin) error {
			_, err := a.PatchKey(ctx, "abc/def", client.KeyInput{AllApplications: true, NeverExpires: true})
			return err
		}, call{"PATCH", "/p/api/v1/admin/api-keys/abc%2Fdef", "Bearer a", `{"applications":null,"expiresAt":null}`}},
		{"revoke key", func(ctx context.Context, _ *client.Manage, a *client.Admin) error {
			return a.RevokeKey(ctx, "abc")
		}, call{"DELETE", "/p/api/v1/admin/api-keys/abc", "Bearer a", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got call
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = call{r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), string(body)}
				_, _ = io.WriteString(w, `{"disconnectedCount":7}`)
			}))
			defer srv.Close()
			m, err := client.NewManage(client.ManageConfig{URL: srv.URL + "/p/", Key: "k"})
			if err != nil {
				t.Fatal(err)
			}
			a, err := client.NewAdmin(client.ManageConfig{URL: srv.URL + "/p", Key: "a"})
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.do(t.Context(), m, a); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		code       api.Code
		retry      time.Duration
	}{
		{"Live Sessions dialect", `{"success":false,"code":"plan_restricted","message":"no"}`, 403, api.CodePlanRestricted, 0},
		{"Sessions dialect", `{"message":"slow down","statusCode":429,"code":"rate_limited"}`, 429, api.CodeRateLimited, 3 * time.Second},
		{"a proxy's page", `<h1>Bad Gateway</h1>`, 502, api.CodeUnavailable, 0},
		{"nothing", ``, 404, api.CodeNotFound, 0},
		{"JSON of something else", `{"error":"x"}`, 500, api.CodeUnavailable, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Request-Id", "r-1")
				if tc.retry > 0 {
					w.Header().Set("Retry-After", "3")
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer srv.Close()
			m, err := client.NewManage(client.ManageConfig{URL: srv.URL, Key: "k"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.Limits(t.Context())
			var refused *client.StatusError
			var inner *api.Error
			if !errors.As(err, &refused) || !errors.As(err, &inner) {
				t.Fatalf("%v", err)
			}
			if refused.Status != tc.status || refused.RequestID != "r-1" || inner.Code != tc.code || inner.RetryAfter != tc.retry {
				t.Errorf("%+v %+v", refused, inner)
			}
		})
	}
}

func TestAnswersThatAreNotJSON(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer srv.Close()
	m, err := client.NewManage(client.ManageConfig{URL: srv.URL, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Limits(t.Context()); err == nil {
		t.Error("an answer that is not JSON was accepted")
	}
	for _, cfg := range []client.ManageConfig{{URL: srv.URL}, {Key: "k"}, {URL: "x", Key: "k"}} {
		if _, err := client.NewManage(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestSessionsFollowsTheCursor(t *testing.T) {
	answers := map[string]string{
		"":  `{"items":[{"id":"00000000-0000-0000-0000-000000000003"},{"id":"00000000-0000-0000-0000-000000000002"}],"nextCursor":"x"}`,
		"x": `{"items":[{"id":"00000000-0000-0000-0000-000000000001"}]}`,
	}
	partial := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Rollcall-Partial", "store")
		_, _ = io.WriteString(w, answers[r.URL.Query().Get("cursor")])
	}))
	defer srv.Close()
	m, err := client.NewManage(client.ManageConfig{URL: srv.URL, Key: "k", OnPartial: func(s string) { partial += s + " " }})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for s, err := range m.Sessions(t.Context(), api.ApplicationID{}, client.SessionQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s.ID[15])
	}
	if string(got) != "\x03\x02\x01" || partial != "store store " {
		t.Errorf("sessions %v, partial %q", got, partial)
	}
	answers["x"] = `{`
	n := 0
	for _, err := range m.Sessions(t.Context(), api.ApplicationID{}, client.SessionQuery{}) {
		if n++; n == 3 && err == nil {
			t.Error("the error of the second answer was not yielded")
		}
	}
	if n != 3 {
		t.Errorf("%d yields", n)
	}
}
