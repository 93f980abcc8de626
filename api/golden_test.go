package api_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
)

// The files of testdata are the contract: those of the two documents are their examples, verbatim, the others are what the documents'
// tables and page 3 say. Every Go value below must encode to its file, byte for byte once both are compact, and the file must decode
// to the value.

func at(s string) *api.Timestamp {
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return api.MillisOf(v).Timestamp()
}

var (
	sessionID = api.MustID[api.Session]("44444444-4444-4444-8444-444444444444")
	appID     = api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
	orgID     = api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
	created   = *at("2026-05-12T11:35:00.000Z")
)

func row(id, ip string, created api.Millis, client, login, license string) api.Row {
	return api.Row{ServerID: api.ServerID(id), IPAddress: ip, CreatedAt: created, ClientID: client, Login: &login, License: &license}
}

func goldens() map[string]any {
	first := row("srv-01:session-abc", "203.0.113.10", 1778585700000, "client-001", "john@example.com", "ABCDEF-123456")
	second := row("srv-01:session-def", "203.0.113.11", 1778586100000, "client-002", "alice@example.com", "ZYXWVU-654321")
	view := api.View{Counts: api.Counts{Total: 3, FilteredTotal: 1, AuthorizedSessionCount: 12}, LastConnectionTime: 1778586000000,
		Items: []api.Row{first}, Page: 1, PageSize: 10}
	nobody := "0198c5d2-7c1f-7d2e-9a55-2f4a3f0e8b11"
	serverID := api.NewServerID("srv-01", sessionID)
	return map[string]any{
		"live-list": api.LiveList{Success: true, Message: "OK", View: view},
		"live-list-empty": api.LiveList{Success: true, Message: "OK", View: api.View{
			Counts: api.Counts{Total: 3, AuthorizedSessionCount: 12}, Items: []api.Row{}, Page: 9, PageSize: 50}},
		"init":    api.Init{Type: api.TypeInit, Success: true, View: view},
		"added":   api.RowMessage{Type: api.TypeAdded, Row: second},
		"updated": api.RowMessage{Type: api.TypeUpdated, Row: second},
		"removed": api.RemovedMessage{Type: api.TypeRemoved, ServerID: second.ServerID},
		"added-unauthorized": api.RowMessage{Type: api.TypeAdded, Row: api.Row{ServerID: api.ServerID("srv-01:" + nobody),
			IPAddress: "2001:db8::1", CreatedAt: 1778586100000, ClientID: nobody}},
		"last_connection_time": api.LastConnectionTimeMessage{Type: api.TypeLastConnectionTime, Value: 1778586200000},
		"totals":               api.TotalsMessage{Type: api.TypeTotals, Counts: view.Counts},
		"totals-partial":       api.TotalsMessage{Type: api.TypeTotals, Counts: view.Counts, Partial: "nodes"},
		"stream-error": api.StreamError{Type: api.TypeError, Code: api.CodeInsufficientScope,
			Message: "the API key lacks the scope sessions:disconnect"},
		"live-error":     api.LiveError{Code: api.CodeApplicationNotFound, Message: "there is no such application"},
		"sessions-error": api.SessionsError{Message: "the application has no such session", StatusCode: 404, Code: api.CodeSessionNotFound},
		"session-reply": api.SessionReply{Session: api.Session{ID: sessionID, Name: "john@example.com on mbp-14", Status: api.StatusActive,
			DerivedStatus: api.DerivedActive, TokenExpiresAt: at("2026-05-12T12:35:00.000Z"), LastActiveAt: at("2026-05-12T11:38:20.500Z"),
			ConnectedAt: &created, CreatedAt: created, AgentID: appID, OrganizationID: orgID, Hostname: new("mbp-14"),
			UserAgent: new("claude-code/2.1"), ClientInfo: json.RawMessage(`{"name":"claude-code","version":"2.1.0"}`)}},
		"session-list": api.SessionList{NextCursor: "AAECAwQFBgcICQ", Items: []api.Session{{ID: sessionID, Name: nobody,
			Status: api.StatusDisconnected, DerivedStatus: api.DerivedDisconnected, DisconnectedAt: at("2026-05-12T11:40:00.000Z"),
			CreatedAt: created, AgentID: appID, OrganizationID: orgID, Details: &api.Details{ServerID: serverID,
				IPAddress: "203.0.113.10", ClientID: "client-001", EndReason: api.EndDisconnected, EndedBy: "0123456789abcdef",
				Reason: "stolen laptop"}}}},
		"session-list-empty": api.SessionList{Items: []api.Session{}},
		"disconnect-result":  api.DisconnectResult{Success: true, DisconnectedCount: 3},
		"disconnect-preview": api.DisconnectPreview{DryRun: true, Count: 3, CreatedBefore: created},
		"disconnect-input": api.DisconnectInput{SearchString: "ABCDEF", Reason: "stolen", CreatedBefore: &created,
			Categories: []api.Category{api.CategoryLicense, api.CategoryIP}},
		"audit-list": api.AuditList{NextCursor: "AAECAwQFBgcICQ", Items: []api.AuditRecord{{
			ID: api.MustID[api.AuditRecord]("01a2007b-0785-7ddf-80f4-930d9b2c4527"), Time: created, Action: api.ActionSessionsDisconnected,
			Actor:     api.AuditActor{Type: api.ActorKey, PublicID: "0123456789abcdef", Name: "Support"},
			IPAddress: new("203.0.113.10"), ApplicationID: &appID, Count: new(3), Reason: new("stolen"),
			Details: json.RawMessage(`{"searchString":"ABCDEF","categories":["license"],"createdBefore":"2026-05-12T11:35:00.000Z"}`)},
			{ID: api.MustID[api.AuditRecord]("01a2007b-0785-7ddf-80f4-930d9b2c4526"), Time: created, Action: api.ActionKeyRevoked,
				Actor: api.AuditActor{Type: api.ActorAdmin}, Target: new("0123456789abcdef")}}},
		"series": api.Series{StepSeconds: 60, Items: []api.SeriesItem{{Time: created, Live: 3, Connects: 2, Ends: 1}}},
		"hello": api.Hello{Type: api.TypeHello, Token: "<JWT>", Application: "123456789", ClientID: "client-001", Name: "…",
			Hostname: "mbp-14", UserAgent: "…", ClientInfo: json.RawMessage(`{"name":"…","version":"…"}`)},
		"hello-publishable": api.Hello{Type: api.TypeHello, PublishableKey: "rca_0123456789abcdef"},
		"welcome": api.Welcome{Type: api.TypeWelcome, SessionID: sessionID, ServerID: serverID, Authorized: true,
			TokenExpiresAt: at("2026-05-12T12:35:00.000Z"), PingIntervalMs: 25000},
		"welcome-unauthorized": api.Welcome{Type: api.TypeWelcome, SessionID: sessionID, ServerID: serverID, PingIntervalMs: 25000},
		"authorize":            api.Authorize{Type: api.TypeAuthorize, Token: "<JWT>"},
		"authorized":           api.TokenNotice{Type: api.TypeAuthorized, TokenExpiresAt: *at("2026-05-12T12:35:00.000Z")},
		"token_expiring":       api.TokenNotice{Type: api.TypeTokenExpiring, TokenExpiresAt: *at("2026-05-12T12:35:00.000Z")},
		"update": api.Update{Type: api.TypeUpdate, Name: new("…"), Hostname: new("mbp-14"),
			ClientInfo: json.RawMessage(`{"name":"…"}`)},
		"update-name":         api.Update{Type: api.TypeUpdate, Name: new("")},
		"disconnect":          api.NewDisconnect(api.CloseDisconnected, "", 0),
		"disconnect-draining": api.NewDisconnect(api.CloseGoingAway, "", 1500),
		"frame-error":         api.FrameError{Type: api.TypeError, Code: api.CodeTokenExpired, Message: "the token has expired"},
		"application": api.Application{ID: appID, Number: "123456789", Name: "Desktop Client", State: api.ApplicationActive,
			OrganizationID: orgID, PublishableKey: "rca_0123456789abcdef", IdleAfter: api.Duration(5 * time.Minute),
			AllowedOrigins: []string{}, Tokens: api.TokenSettings{HS256: true}, CreatedAt: created,
			Sessions: &api.SessionCounts{Active: 2, Idle: 1, Live: 4, Total: 9}},
		"token-reply": api.TokenReply{Token: "<JWT>", ExpiresAt: *at("2026-05-12T12:35:00.000Z")},
		"lease-reply": api.LeaseReply{HeartbeatSeconds: 30, Session: api.Session{ID: sessionID, Name: "john@example.com", Status: api.StatusActive,
			DerivedStatus: api.DerivedActive, ConnectedAt: &created, CreatedAt: created, AgentID: appID, OrganizationID: orgID}},
		"ended-error": api.EndedError{Message: "the session has ended: stolen laptop", StatusCode: 410, Code: api.CodeSessionEnded,
			Reason: api.EndDisconnected, Reauthenticate: true},
		"lease-batch": api.LeaseBatch{Reporter: "mcp-7f3a", WaitSeconds: 20, Items: []api.LeaseItem{
			{Op: api.LeaseOpen, ID: sessionID, IPAddress: "203.0.113.10", Login: "john@example.com", License: "ABCDEF-123456",
				ClientID: "client-001", Authorized: true, CredentialID: "sha256:9f86d0", Hostname: "mbp-14", UserAgent: "claude-code/2.1",
				ClientInfo: json.RawMessage(`{"name":"claude-code"}`), LastActiveAt: at("2026-05-12T11:38:20.500Z"), LeaseSeconds: 120},
			{Op: api.LeaseHeartbeat, ID: sessionID}}},
		"lease-batch-reply": api.LeaseBatchReply{Results: []api.LeaseResult{{ID: &sessionID, OK: true},
			{ID: &sessionID, Error: &api.LeaseError{Code: api.CodeSessionEnded, Message: "the session has ended: revoked", Reason: api.EndRevoked,
				Reauthenticate: true}},
			{Error: &api.LeaseError{Code: api.CodeValidation, Message: "items[2].id must be a UUID"}}},
			Ended: []api.LeaseEnded{{ID: sessionID, Reason: api.EndRevoked, Reauthenticate: true}}},
		"account-limits": api.AccountLimits{PlanName: "Pro", AuthorizedSessions: api.Limit{CurrentValue: 12, MaxValue: new(1000)},
			Applications: api.Limit{CurrentValue: 2}, APIKeys: api.Limit{CurrentValue: 3}},
		"organization": api.Organization{ID: orgID, Name: "Acme", CreatedAt: created,
			Plan: api.Plan{Name: "Pro", LiveSessionsOverview: true, HistoryRetention: api.Duration(720 * time.Hour)}},
		"new-api-key": api.NewAPIKey{Key: "rck_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL", APIKey: api.APIKey{
			PublicID: "0123456789abcdef", LastFour: "IJKL", Name: "Backend sync", OrganizationID: orgID, State: api.KeyActive,
			Scopes:    []api.Scope{api.ScopeSessionsRead, api.ScopeSessionsDisconnect},
			ExpiresAt: at("2027-01-01T00:00:00.000Z"), CreatedAt: created}},
	}
}

// messagesOnly are examples that no Go type stands for: a type and nothing more, and what clients send on a live stream.
var messagesOnly = []string{"activity", "bye", "disconnect_session", "query"}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func compact(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, value := range goldens() {
		t.Run(name, func(t *testing.T) {
			file := golden(t, name)
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(value); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(compact(t, file), compact(t, b.Bytes())); diff != "" {
				t.Errorf("encodes otherwise (-file +value):\n%s", diff)
			}
			back := reflect.New(reflect.TypeOf(value))
			dec := json.NewDecoder(bytes.NewReader(file))
			dec.DisallowUnknownFields()
			if err := dec.Decode(back.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(back.Elem().Interface())
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(compact(t, want), compact(t, again)); diff != "" {
				t.Errorf("decodes otherwise (-value +file):\n%s", diff)
			}
		})
	}
}

func TestEveryGoldenIsUsed(t *testing.T) {
	known := goldens()
	for _, name := range messagesOnly {
		known[name] = nil
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if _, ok := known[name]; !ok {
			t.Errorf("%s is compared with nothing", file)
		}
	}
}
